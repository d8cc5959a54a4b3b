//! Stage 2, entities: a body together with what its headers say of it, so that both can be wrapped, and read again.
//!
//! Takes:   a message; octets that an entity was written down in.
//! Gives:   [`entity`] and [`Entity`]; [`put_body`], a message with another body.
//! Keeps:   nothing. Bound: [`HEAD_MAX`] octets of headers.
//! Refuses: headers without an end, too long, or without one type.
//! Sources: RFC 2045 section 2.4 (entity); RFC 3261 sections 7.4 and 20.11 to 20.15.

use bytes::Bytes;

use super::edit::Unprintable;
use super::{Edits, MediaType, Message, Name};

/// Most octets of an entity's headers.
pub const HEAD_MAX: usize = 4096;

/// What headers say of a body.
const OF_BODIES: [Name; 3] = [Name::ContentType, Name::ContentDisposition, Name::ContentEncoding];

/// An entity that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entity<'e> {
    /// Its type, parameters included.
    pub kind: &'e [u8],
    /// Its octets.
    pub content: &'e [u8],
}

/// The body of a message, behind what its headers say of it.
pub fn entity(message: &Message) -> Vec<u8> {
    let mut octets = Vec::new();
    for name in OF_BODIES {
        for value in message.fields_named(name) {
            octets.extend_from_slice(name.as_str().as_bytes());
            octets.extend_from_slice(b": ");
            // A fold is a space to whoever reads it.
            octets.extend(
                value.iter().map(|octet| if octet.is_ascii_control() { b' ' } else { *octet }),
            );
            octets.extend_from_slice(b"\r\n");
        }
    }
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(message.body());
    octets
}

impl<'e> Entity<'e> {
    /// Reads what [`entity`] wrote; `None` if it is not such octets.
    pub fn read(octets: &'e [u8]) -> Option<Self> {
        let end = memchr::memmem::find(octets, b"\r\n\r\n").filter(|end| *end <= HEAD_MAX)?;
        let (head, rest) = octets.split_at_checked(end)?;
        let content = rest.get(4..)?;
        let mut kinds = head.split(|octet| *octet == b'\n').filter_map(|line| {
            let (name, value) = line.split_at_checked(line.iter().position(|o| *o == b':')?)?;
            let is_type = Name::of(name.trim_ascii()) == Name::ContentType;
            is_type.then(|| value.get(1..).unwrap_or_default().trim_ascii())
        });
        let kind = kinds.next().filter(|kind| MediaType::parse(kind).is_some())?;
        kinds.next().is_none().then_some(Self { kind, content })
    }

    /// Whether its type is `wanted`, given as `type/subtype`.
    pub fn is(&self, wanted: &str) -> bool {
        let media = MediaType::parse(self.kind);
        media.zip(wanted.split_once('/')).is_some_and(|(media, (kind, sub))| media.is(kind, sub))
    }
}

/// The message with that body, of that type, in the place of its own; the head is otherwise as it was.
///
/// # Errors
///
/// [`Unprintable`] never: nothing but numbers and `kind` is put in.
pub fn put_body(message: &Message, kind: &str, body: &[u8]) -> Result<Bytes, Unprintable> {
    let mut edits = Edits::new();
    for name in OF_BODIES.into_iter().chain([Name::ContentLength]) {
        edits.remove_all(message, name);
    }
    edits.insert(message.head_end(), |text| {
        text.field(Name::ContentType.as_str(), |value| {
            value.put(kind);
        });
        text.field(Name::ContentLength.as_str(), |value| {
            value.put_number(body.len() as u64);
        });
    });
    let old = message.body();
    if old.is_empty() {
        edits.insert(message.octets().len(), |text| {
            text.put_body(body);
        });
    } else {
        edits.replace(message.span_of(old), |text| {
            text.put_body(body);
        });
    }
    edits.apply(message).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &'static str) -> Message {
        Message::from_datagram(Bytes::from_static(text.as_bytes())).expect("well formed")
    }

    #[test]
    fn there_and_back() {
        let push = message(
            "MESSAGE sip:a SIP/2.0\r\nc: application/vnd.oma.push;\r\n x=y\r\nTo: <sip:a>\r\nContent-Disposition: render\r\nl: 3\r\n\r\na\r\n",
        );
        let octets = entity(&push);
        let text = "Content-Type: application/vnd.oma.push;   x=y\r\nContent-Disposition: render\r\n\r\na\r\n";
        assert_eq!(String::from_utf8_lossy(&octets), text);
        let read = Entity::read(&octets).expect("an entity");
        assert_eq!(read.content, b"a\r\n");
        assert!(read.is("application/vnd.oma.push") && !read.is("text/plain"));
        let wrapped = put_body(&push, "application/vnd.sipward.gpl", b"\0\r\n\x01").expect("clean");
        let expected = "MESSAGE sip:a SIP/2.0\r\nTo: <sip:a>\r\nContent-Type: application/vnd.sipward.gpl\r\nContent-Length: 4\r\n\r\n\0\r\n\x01";
        assert_eq!(String::from_utf8_lossy(&wrapped), expected);
        let bare = put_body(&message("OPTIONS sip:a SIP/2.0\r\nX: 1\r\n\r\n"), "a/b", b"xy");
        assert_eq!(
            &bare.expect("clean")[..],
            b"OPTIONS sip:a SIP/2.0\r\nX: 1\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nxy"
        );
    }

    #[test]
    fn what_is_no_entity() {
        for bad in [
            &b""[..],
            b"Content-Type: a/b\r\n",
            b"\r\n\r\nx",
            b"Content-Type: a/b\r\nc: a/c\r\n\r\nx",
            b"Content-Type: a\r\n\r\nx",
            b"Content-Length: 1\r\n\r\nx",
        ] {
            assert_eq!(Entity::read(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}

//! Stage 6, CPIM: who a wrapped message says it is from.
//!
//! Takes:   a body of `message/cpim`.
//! Gives:   [`Cpim`]: the URI of From, how many it is for, and what it wraps.
//! Keeps:   nothing. Bounds: 64 headers and 4 KiB of them, both blocks together.
//! Refuses: what two readers might take for two senders: From twice, in other case, by a namespace of its own or
//!          with parameters; escapes that would move its brackets; bare line ends. A header of an unknown name passes.
//! Sources: RFC 3862 sections 2.1 to 2.4, 3.3 and 4.1; V-120.

use std::borrow::Cow;

use super::multipart;
use crate::refusal::Refusal;
use crate::wire::MediaType;
use crate::wire::octets::{lines, position, trim};

/// Most headers, of both blocks.
pub const HEADERS_MAX: usize = 64;
/// Longest headers, of both blocks, in octets.
pub const HEADERS_OCTETS_MAX: usize = 4 * 1024;

/// The namespace of CPIM's own headers.
const SPACE: &[u8] = b"urn:ietf:params:cpim-headers:";

/// A message as its wrapping describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpim<'c> {
    /// The URI of From, escapes opened.
    pub from: Cow<'c, str>,
    /// How many To and cc there are.
    pub recipients: usize,
    /// Content-Type of what is wrapped, as written; empty if it says nothing.
    pub inner: &'c [u8],
}

impl Cpim<'_> {
    /// The type of what is wrapped.
    pub fn media(&self) -> Option<MediaType<'_>> {
        MediaType::parse(self.inner)
    }
}

/// Reads one.
///
/// # Errors
///
/// [`Refusal::CpimMalformed`].
pub fn read(octets: &[u8]) -> Result<Cpim<'_>, Refusal> {
    parse(octets).ok_or(Refusal::CpimMalformed)
}

fn parse(octets: &[u8]) -> Option<Cpim<'_>> {
    let (head, rest) = multipart::split_head(octets)?;
    let (inner, _) = multipart::split_head(rest)?;
    if head.len().checked_add(inner.len())? > HEADERS_OCTETS_MAX {
        return None;
    }
    let (mut count, mut from, mut recipients) = (0_usize, None, 0_usize);
    // Prefixes that stand for CPIM's own namespace.
    let mut own: Vec<&[u8]> = Vec::new();
    for line in lines(head).filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r")?;
        if position(b'\r', line).is_some() {
            return None;
        }
        count = count.saturating_add(1);
        let (name, value) = line.split_at_checked(line.iter().position(|octet| *octet == b':')?)?;
        let value = value.get(1..)?;
        match name {
            b"" => return None,
            b"From" => {
                let uri = uri_of(value)?;
                if from.replace(uri).is_some() {
                    return None;
                }
            }
            b"To" | b"cc" => recipients = recipients.saturating_add(1),
            b"NS" => own.extend(namespace(value)?),
            name => {
                let local = name.rsplit(|octet| *octet == b'.').next().unwrap_or(name);
                let prefix = name.get(..name.len().checked_sub(local.len())?)?;
                let prefix = prefix.strip_suffix(b".").unwrap_or(prefix);
                let ours = prefix.is_empty() || own.contains(&prefix);
                // `from`, and `x.From` where x is CPIM's own: somebody might believe them. White space and escapes
                // in a name are nobody's.
                let clean = name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b'\\');
                if !clean || ours && local.eq_ignore_ascii_case(b"From") {
                    return None;
                }
            }
        }
    }
    let fields = multipart::fields(inner)?;
    count = count.saturating_add(fields.len());
    let mut types = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"Content-Type"));
    let kind = types.next().map(|(_, value)| *value).unwrap_or_default();
    if types.next().is_some() || count > HEADERS_MAX {
        return None;
    }
    Some(Cpim { from: from?, recipients, inner: kind })
}

/// The prefix of `NS: prefix <uri>`, if it stands for CPIM's own namespace. Without a prefix the namespace of bare
/// names is changed, and that may be no other than CPIM's own.
fn namespace(value: &[u8]) -> Option<Option<&[u8]>> {
    let (before, uri) = value.split_at_checked(memchr::memchr(b'<', value)?)?;
    let uri = uri.strip_prefix(b"<")?;
    let uri = uri.get(..memchr::memchr(b'>', uri)?)?;
    let (prefix, ours) = (trim(before), unescaped(uri)?.as_bytes().eq_ignore_ascii_case(SPACE));
    match (prefix, ours) {
        (b"", true) => Some(None),
        (b"", false) => None,
        (prefix, true) => Some(Some(prefix)),
        (_, false) => Some(None),
    }
}

/// The URI of ` [Formal-name] "<" URI ">"`.
fn uri_of(value: &[u8]) -> Option<Cow<'_, str>> {
    let rest = trim(value.strip_prefix(b" ")?);
    let rest = match rest.strip_prefix(b"\"") {
        Some(quoted) => {
            let end = end_of_quoted(quoted)?;
            let (name, rest) = quoted.split_at_checked(end)?;
            // An escape that stands for a quote or a bracket would move the end of the name for some.
            let opened = unescaped(name)?;
            let plain = opened.bytes().filter(|octet| b"\"<>".contains(octet)).count();
            let written = name.iter().filter(|octet| b"\"<>".contains(octet)).count();
            (plain == written).then_some(())?;
            trim(rest.get(1..)?)
        }
        None => {
            let open = memchr::memchr(b'<', rest)?;
            let (name, rest) = rest.split_at_checked(open)?;
            let plain = |octet: &u8| {
                *octet >= 0x80
                    || *octet == b' '
                    || octet.is_ascii_graphic() && !b"()<>@,;:\\\"".contains(octet)
            };
            name.iter().all(plain).then_some(())?;
            rest
        }
    };
    let uri = unescaped(rest.strip_prefix(b"<")?.strip_suffix(b">")?)?;
    let plain = |octet: u8| octet.is_ascii_graphic() && !b"<>\"\\".contains(&octet);
    uri.bytes().all(plain).then_some(uri)
}

/// Where a quoted string ends, its opening quote left off.
fn end_of_quoted(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|octet| {
        let ends = *octet == b'"' && !escaped;
        escaped = *octet == b'\\' && !escaped;
        ends
    })
}

/// A value with its escapes opened.
fn unescaped(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value).ok()?;
    if !text.contains('\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match rest.next() {
            Some('u') => {
                let digits = rest.as_str().get(..4)?;
                let clean = digits.bytes().all(|octet| octet.is_ascii_hexdigit());
                let number = u32::from_str_radix(digits, 16).ok().filter(|_| clean)?;
                rest = rest.as_str().get(4..)?.chars();
                char::from_u32(number).filter(|c| !c.is_control())?
            }
            Some('b' | 't' | 'n' | 'r') => return None,
            Some(c) => c,
            // The last one of a value is ignored.
            None => break,
        });
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(head: &str) -> String {
        format!("{head}\r\nTo: <sip:bob@example.net>\r\n\r\nContent-type: text/plain\r\n\r\nHello")
    }

    #[test]
    fn v_120_the_sender_is_the_uri_in_brackets() {
        for (head, from) in [
            ("From: <sip:alice@example.net>", "sip:alice@example.net"),
            ("From: Alice <sip:alice@example.net>", "sip:alice@example.net"),
            ("From: \"x <sip:alice@example.net>\" <sip:bob@example.net>", "sip:bob@example.net"),
            ("From: J\u{f6}rg <im:jorg@example.net>", "im:jorg@example.net"),
            ("From: <sip:\\u0061lice@example.net>", "sip:alice@example.net"),
            (
                "NS: x <urn:example:y>\r\nx.From: <sip:eve@x>\r\nFrom: <tel:+12015550101>",
                "tel:+12015550101",
            ),
            ("NS: <urn:ietf:params:cpim-headers:>\r\nFrom: <sip:a@x>", "sip:a@x"),
            ("Subject:;lang=fr Bonjour\r\nFrom: <sip:a@x>\r\ncc: <sip:c@x>", "sip:a@x"),
        ] {
            let text = with(head);
            let found = read(text.as_bytes()).unwrap_or_else(|why| panic!("{head}: {why:?}"));
            assert_eq!(found.from, from, "{head}");
            assert_eq!(found.recipients, 1 + head.matches("cc:").count(), "{head}");
            assert!(found.media().is_some_and(|media| media.is("text", "plain")), "{head}");
        }
    }

    #[test]
    fn v_120_two_senders_are_none() {
        for head in [
            "Subject: no sender",
            "From: <sip:a@x>\r\nFrom: <sip:a@x>",
            "From: <sip:a@x>\r\nfrom: <sip:b@x>",
            "FROM: <sip:b@x>",
            "NS: p <urn:ietf:params:cpim-headers:>\r\np.From: <sip:b@x>\r\nFrom: <sip:a@x>",
            "NS: p <urn:ietf:params:cpim-headers:>\r\np.from: <sip:b@x>\r\nFrom: <sip:a@x>",
            "NS: p <urn:ietf:params:cpim\\u002dheaders:>\r\np.From: <sip:b@x>\r\nFrom: <sip:a@x>",
            "NS: <urn:example:other>\r\nFrom: <sip:a@x>",
            "From:;lang=en <sip:a@x>",
            "From: ;lang=en <sip:a@x>",
            "From:<sip:a@x>",
            "From : <sip:b@x>\r\nFrom: <sip:a@x>",
            "\\u0046rom: <sip:b@x>\r\nFrom: <sip:a@x>",
            "From: sip:a@x",
            "From: <sip:a@x",
            "From: <sip:a@x> <sip:b@x>",
            "From: <sip:a@x> x",
            "From: \"a\" b <sip:a@x>",
            "From: \"a\\u0022 <sip:b@x>\" <sip:a@x>",
            "From: \\u003csip:b@x> <sip:a@x>",
            "From: <sip:a\\u003e@x>",
            "From: <sip:a\\r@x>",
            "From: <sip:a@x>\nfoo: x",
            "From: <sip:a@x>\rfoo: x",
            " folded\r\nFrom: <sip:a@x>",
        ] {
            assert_eq!(read(with(head).as_bytes()), Err(Refusal::CpimMalformed), "{head}");
        }
        for text in [
            "From: <sip:a@x>\r\n",
            "From: <sip:a@x>\r\n\r\nContent-Type: text/plain",
            "From: <sip:a@x>\r\n\r\nContent-Type: a/b\r\ncontent-type: c/d\r\n\r\n",
            "From: <sip:a@x>\n\nContent-Type: text/plain\n\nHello",
        ] {
            assert_eq!(read(text.as_bytes()), Err(Refusal::CpimMalformed), "{text:?}");
        }
    }

    #[test]
    fn bounds_hold() {
        let many = |count| with(&format!("{}From: <sip:a@x>", "X: y\r\n".repeat(count)));
        assert!(read(many(HEADERS_MAX - 3).as_bytes()).is_ok());
        assert!(read(many(HEADERS_MAX - 2).as_bytes()).is_err());
        let long = with(&format!("X: {}\r\nFrom: <sip:a@x>", "y".repeat(HEADERS_OCTETS_MAX)));
        assert!(read(long.as_bytes()).is_err());
    }
}

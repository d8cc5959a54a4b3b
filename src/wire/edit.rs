//! Stage 2, edits: a message that leaves is the one that came, with splices.
//!
//! Takes:   spans of a message, and new text for them.
//! Gives:   the octets to send: what no edit touches is the same, octet for octet.
//! Keeps:   the list of splices and their text, until they are applied.
//! Refuses: CR, LF and NUL in new text ([`Unprintable`]): whatever was put in, no line can be added.
//! Sources: RFC 3261 section 16.6 item 1; `PX-11`.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::octets::is_space;
use super::{Message, Name, Span, split};

/// New text held a line end: the message must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprintable;

impl std::fmt::Display for Unprintable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value to be printed holds CR, LF or NUL")
    }
}

impl std::error::Error for Unprintable {}

/// Text being printed. It remembers whether anything put in could have ended a line.
#[derive(Debug, Default)]
pub struct Text {
    octets: Vec<u8>,
    unprintable: bool,
}

impl Text {
    /// Empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty text with room for so many octets.
    pub fn with_room(octets: usize) -> Self {
        Self { octets: Vec::with_capacity(octets), unprintable: false }
    }

    /// Adds octets as they are.
    pub fn put(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        let octets = octets.as_ref();
        // All of them, whatever comes first: so the compiler looks at many at once.
        self.unprintable |= octets.iter().fold(false, |ends, octet| ends | ends_line(*octet));
        self.octets.extend_from_slice(octets);
        self
    }

    /// Adds a value as it stood in a message: each fold becomes one space. Such a value may hold NUL, escaped
    /// in a quoted string; a CR or LF that is no fold is refused.
    pub fn put_unfolded(&mut self, value: &[u8]) -> &mut Self {
        let mut rest = value;
        while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
            let (before, fold) = rest.split_at_checked(end).unwrap_or((rest, b""));
            self.octets.extend_from_slice(before);
            self.octets.push(b' ');
            self.unprintable |= !matches!(fold, [b'\r', b'\n', b' ' | b'\t', ..]);
            let skip = fold.iter().take_while(|octet| is_space(**octet)).count();
            rest = fold.get(skip..).unwrap_or_default();
        }
        self.octets.extend_from_slice(rest);
        self
    }

    /// Adds an address, without brackets.
    pub fn put_address(&mut self, address: IpAddr) -> &mut Self {
        let [a, b, c, d] = match address {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => return self.put(address.to_string()),
        };
        self.put_number(a.into()).put(b".").put_number(b.into()).put(b".");
        self.put_number(c.into()).put(b".").put_number(d.into())
    }

    /// Adds a decimal number.
    pub fn put_number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut rest = number;
        let mut length: usize = 0;
        for slot in digits.iter_mut().rev() {
            *slot = b'0'.wrapping_add(u8::try_from(rest % 10).unwrap_or(0));
            rest /= 10;
            length = length.saturating_add(1);
            if rest == 0 {
                break;
            }
        }
        let from = digits.len().saturating_sub(length);
        self.octets.extend_from_slice(digits.get(from..).unwrap_or_default());
        self
    }

    /// Ends a line. The only way to put CRLF.
    pub fn end_line(&mut self) -> &mut Self {
        self.octets.extend_from_slice(b"\r\n");
        self
    }

    /// Adds one field: `name: `, what `value` puts, CRLF.
    pub fn field(&mut self, name: &str, value: impl FnOnce(&mut Self)) -> &mut Self {
        self.put(name).put(b": ");
        value(self);
        self.end_line()
    }

    /// Adds octets that are not part of the head, a body above all: line ends are theirs.
    pub fn put_body(&mut self, octets: &[u8]) -> &mut Self {
        self.octets.extend_from_slice(octets);
        self
    }

    /// How many octets are in it.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether nothing was put yet.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// [`Unprintable`] if anything put in held CR, LF or NUL.
    pub fn finish(self) -> Result<Vec<u8>, Unprintable> {
        if self.unprintable { Err(Unprintable) } else { Ok(self.octets) }
    }
}

/// Whether an octet could end a line, or a string in somebody's C. Most octets are above them all.
fn ends_line(octet: u8) -> bool {
    octet <= b'\r' && matches!(octet, b'\r' | b'\n' | 0)
}

#[derive(Clone, Copy, Debug)]
struct Splice {
    /// What goes away; empty for an insertion.
    old: Span,
    /// What comes, as a span of `Edits::text`.
    new: Span,
}

/// Octets that the changes of most messages fit into.
const TEXT_USUAL: usize = 512;

/// The changes one message gets on its way out.
#[derive(Debug, Default)]
pub struct Edits {
    splices: SmallVec<[Splice; 16]>,
    text: Text,
}

impl Edits {
    /// No change.
    pub fn new() -> Self {
        Self { splices: SmallVec::new(), text: Text::with_room(TEXT_USUAL) }
    }

    /// Takes `span` out.
    pub fn remove(&mut self, span: Span) {
        self.replace(span, |_| {});
    }

    /// Puts what `print` prints in the place of `span`.
    pub fn replace(&mut self, span: Span, print: impl FnOnce(&mut Text)) {
        let from = self.text.len();
        print(&mut self.text);
        self.splices.push(Splice { old: span, new: Span::new(from, self.text.len()) });
    }

    /// Puts what `print` prints before offset `at`; several at one place keep their order.
    pub fn insert(&mut self, at: usize, print: impl FnOnce(&mut Text)) {
        self.replace(Span::new(at, at), print);
    }

    /// Takes the values of `name` that `keep` refuses out of their rows; a row left empty goes as a whole, a row
    /// in which all are kept stays as it is. `name` is one whose values are parted by commas.
    pub fn retain(&mut self, message: &Message, name: Name, keep: impl Fn(&[u8]) -> bool) {
        for row in message.rows(name) {
            let values = split::commas(row.value().of(message.octets()));
            let kept = values.clone().filter(|value| keep(value)).count();
            if kept == values.clone().count() && kept > 0 {
                continue;
            }
            if kept == 0 {
                self.remove(row.line());
                continue;
            }
            self.replace(row.value(), |text| {
                for (at, value) in values.filter(|value| keep(value)).enumerate() {
                    text.put(if at == 0 { "" } else { ", " }).put_unfolded(value);
                }
            });
        }
    }

    /// Whether `span` lies in what goes away already: what is put there would stand alone.
    pub fn covers(&self, span: Span) -> bool {
        self.splices.iter().any(|splice| {
            let (from, to) = (splice.old.start(), splice.old.end());
            from < to && from <= span.start() && span.end() <= to
        })
    }

    /// Takes all rows of `name` out.
    pub fn remove_all(&mut self, message: &Message, name: Name) {
        for row in message.rows(name) {
            self.remove(row.line());
        }
    }

    /// The message with all changes made.
    ///
    /// # Errors
    ///
    /// [`Unprintable`] if any new text held CR, LF or NUL.
    pub fn apply(mut self, message: &Message) -> Result<Vec<u8>, Unprintable> {
        // Stable, and without a heap: there are few, and most are in order.
        self.splices.sort_by_key(|splice| splice.old.start());
        let octets = message.octets();
        let new = self.text.finish()?;
        // Exactly what is needed, as long as no two splices overlap: shared octets need no room to grow.
        let gone = self.splices.iter().fold(0_usize, |sum, splice| {
            sum.saturating_add(splice.old.end().saturating_sub(splice.old.start()))
        });
        let length = octets.len().saturating_add(new.len()).saturating_sub(gone);
        let mut text = Vec::with_capacity(length);
        let mut at = 0;
        for Splice { old, new: span } in &self.splices {
            text.extend_from_slice(octets.get(at..old.start()).unwrap_or_default());
            text.extend_from_slice(span.of(&new));
            at = at.max(old.end());
        }
        text.extend_from_slice(octets.get(at..).unwrap_or_default());
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn splices_leave_the_rest_alone() {
        let octets = Bytes::from_static(b"OPTIONS sip:a SIP/2.0\r\nA: 1\r\nB: 2\r\n\r\nx\r\ny");
        let message = Message::from_datagram(octets).expect("well formed");
        let mut edits = Edits::new();
        edits.remove(message.fields()[0].line());
        edits.insert(message.head_end(), |text| {
            text.field("C", |value| {
                value.put_number(30);
            });
        });
        edits.insert(message.head_start(), |text| {
            text.field("V", |value| {
                value.put_unfolded(b"a,\r\n\t b");
            });
        });
        let out = edits.apply(&message).expect("printable");
        assert_eq!(out, b"OPTIONS sip:a SIP/2.0\r\nV: a, b\r\nB: 2\r\nC: 30\r\n\r\nx\r\ny");
    }

    #[test]
    fn values_go_one_by_one() {
        let octets = Bytes::from_static(
            b"OPTIONS sip:a SIP/2.0\r\nRoute: <sip:a,1>,\r\n <sip:b>, <sip:c>\r\nX: <sip:a,1>\r\nroute : <sip:a,1>\r\nRoute:<sip:d>\r\n\r\n",
        );
        let message = Message::from_datagram(octets).expect("well formed");
        let without = |gone: &'static [u8]| {
            let mut edits = Edits::new();
            edits.retain(&message, Name::Route, |value| value != gone);
            let text = edits.apply(&message).expect("printable");
            String::from_utf8(text).expect("ASCII").split_off(23)
        };
        assert_eq!(
            without(b"<sip:a,1>"),
            "Route: <sip:b>, <sip:c>\r\nX: <sip:a,1>\r\nRoute:<sip:d>\r\n\r\n"
        );
        assert_eq!(without(b"<sip:x>"), String::from_utf8_lossy(&message.octets()[23..]));
        let mut edits = Edits::new();
        edits.remove_all(&message, Name::Route);
        let text = edits.apply(&message).expect("printable");
        assert_eq!(text, b"OPTIONS sip:a SIP/2.0\r\nX: <sip:a,1>\r\n\r\n");
    }

    #[test]
    fn a_value_of_a_message_may_be_folded_and_hold_an_escaped_nul() {
        let mut text = Text::new();
        text.put_unfolded(b"\"\\\0\"\r\n\t <sip:a>");
        assert_eq!(text.finish().expect("printable"), b"\"\\\0\" <sip:a>");
        for bad in [&b"a\rb"[..], b"a\nb", b"a\r\nb", b"a\r\n", b"a\n b"] {
            let mut text = Text::new();
            text.put_unfolded(bad);
            assert_eq!(text.finish(), Err(Unprintable));
        }
    }

    #[test]
    fn a_line_end_in_new_text_stops_the_message() {
        for bad in ["a\rb", "a\nb", "a\0b"] {
            let mut text = Text::new();
            text.field("X", |value| {
                value.put(bad);
            });
            assert_eq!(text.finish(), Err(Unprintable));
        }
    }
}

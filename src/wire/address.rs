//! Stage 2, addresses: From, To, Contact, Route, Record-Route, Path, P-Asserted-Identity and their kin.
//!
//! Takes:   one value of such a header (rows are split at commas before).
//! Gives:   [`Address`]: display name, URI and header parameters, borrowed.
//! Keeps:   nothing.
//! Refuses: quotes or brackets that do not close, text after them that is no parameter, a broken URI.
//! Sources: RFC 3261 sections 20.10, 20.20, 20.30, 20.34, 20.39 and 25.1.

use super::octets::{is_space, is_token_octet, position, quoted, trim};
use super::params::Params;
use super::{Uri, split, steps};

/// One name-addr or addr-spec with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    pub(super) display: &'a [u8],
    pub(super) uri: Uri<'a>,
    pub(super) in_brackets: bool,
    pub(super) params: Params<'a>,
    pub(super) tag: Option<&'a [u8]>,
}

impl<'a> Address<'a> {
    /// Parses one value; `None` if it is not an address.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        steps::count(value.len());
        let (display, uri, params) = match split::find(value, b'<') {
            Some(open) => {
                let (display, rest) = value.split_at_checked(open)?;
                let rest = rest.get(1..)?;
                let (uri, tail) = rest.split_at_checked(position(b'>', rest)?)?;
                (Some(trim(display)), uri, tail.get(1..)?)
            }
            None => {
                let end = position(b';', value).unwrap_or(value.len());
                let (uri, tail) = value.split_at_checked(end)?;
                if memchr::memchr2(b'?', b',', uri).is_some() {
                    return None; // RFC 3261 section 20: such a URI stands in angle brackets
                }
                (None, trim(uri), tail)
            }
        };
        let (params, [tag]) = Params::parse_with(params, ["tag"])?;
        if !display.is_none_or(is_display_name) {
            return None;
        }
        let in_brackets = display.is_some();
        Some(Self {
            display: display.unwrap_or_default(),
            uri: Uri::parse(uri)?,
            in_brackets,
            params,
            tag,
        })
    }

    /// The display name as written, quotes included; empty if there is none.
    pub fn display(&self) -> &'a [u8] {
        self.display
    }

    /// The URI.
    pub fn uri(&self) -> Uri<'a> {
        self.uri
    }

    /// Whether the URI stands in angle brackets, as in Route it must.
    pub fn in_brackets(&self) -> bool {
        self.in_brackets
    }

    /// The header parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// The value of a header parameter: `Some(b"")` if it stands without value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// The tag of a From or To; `None` if there is none. An empty tag is no tag, nor is a quoted one.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag.filter(|tag| !tag.is_empty() && !tag.starts_with(b"\""))
    }
}

/// A quoted string, tokens, or nothing.
fn is_display_name(display: &[u8]) -> bool {
    if display.starts_with(b"\"") {
        return quoted(display).is_ok_and(|(rest, _)| rest.is_empty());
    }
    display.iter().all(|octet| is_token_octet(*octet) || is_space(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_where_they_are_tags_alone() {
        for (value, tag) in [
            ("<sip:a@b>;tag=x", Some("x")),
            ("sip:a@b;tag=x", Some("x")),
            ("\"tag=y\" <sip:a@b;tag=z>;TAG = x", Some("x")),
            ("<sip:a@b;tag=z>", None),
            ("\";tag=y\" <sip:a@b>", None),
            ("<sip:a@b>;tag", None),
            ("<sip:a@b>;tag=", None),
            ("<sip:a@b>;tag=\"x\"", None),
            ("<sip:a@b>;x=\";tag=y\"", None),
            ("tel:+1201;tag=x", Some("x")),
            ("caller<sip:a@b>;tag=x", Some("x")),
        ] {
            let address = Address::parse(value.as_bytes()).expect(value);
            assert_eq!(address.tag(), tag.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn refuses_what_does_not_close() {
        for bad in [
            "\"a <sip:a@b>",
            "<sip:a@b",
            "<sip:a@b> x",
            "sip:a@b?X=y",
            "a\"b\" <sip:a@b>",
            "Bob, X <sip:a@b>",
            "\"a\" b <sip:a@b>",
            "< sip:a@b>",
            "<sip:a@b >",
            "<sip:a@b>;",
            "<sip:a@b>;;;;",
            "<sip:a@b>;tag=x;Tag=y",
            "<sip:a@b>;\u{1}tag=x",
            "<sip:a@b> (;tag=x)",
            "<sip:a@b>, <sip:c@d>",
            "sip:a@b;x=\"",
        ] {
            assert!(Address::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

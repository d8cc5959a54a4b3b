//! Stage 2, addresses: From, To, Contact, Route, Record-Route, Path, P-Asserted-Identity and their kin.
//!
//! Takes:   one value of such a header (rows are split at commas before).
//! Gives:   [`Address`]: display name, URI and header parameters, borrowed.
//! Keeps:   nothing.
//! Refuses: quotes or brackets that do not close, text after them that is no parameter, a broken URI.
//! Sources: RFC 3261 sections 20.10, 20.20, 20.30, 20.34, 20.39 and 25.1.

use super::scan::{is_space, is_token_octet, trim};
use super::{Uri, split};

/// One name-addr or addr-spec with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    display: &'a [u8],
    uri: Uri<'a>,
    params: &'a [u8],
}

impl<'a> Address<'a> {
    /// Parses one value; `None` if it is not an address.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (display, uri, params) = match split::find(value, b'<') {
            Some(open) => {
                let (display, rest) = value.split_at_checked(open)?;
                let rest = rest.get(1..)?;
                let (uri, tail) = rest.split_at_checked(memchr::memchr(b'>', rest)?)?;
                (trim(display), uri, trim(tail.get(1..)?))
            }
            None => {
                let end = memchr::memchr(b';', value).unwrap_or(value.len());
                let (uri, tail) = value.split_at_checked(end)?;
                if uri.iter().any(|octet| matches!(octet, b'?' | b',')) {
                    return None; // RFC 3261 section 20: such a URI stands in angle brackets
                }
                (&b""[..], trim(uri), tail)
            }
        };
        let params = match params.split_first() {
            None => params,
            Some((b';', params)) => params,
            Some(_) => return None,
        };
        let clean = is_display_name(display)
            && split::semicolons(params).map(split::name_value).all(|(name, _)| {
                params.is_empty()
                    || !name.is_empty() && name.iter().all(|octet| is_token_octet(*octet))
            });
        clean.then_some(())?;
        Some(Self { display, uri: Uri::parse(uri)?, params })
    }

    /// The display name as written, quotes included; empty if there is none.
    pub fn display(&self) -> &'a [u8] {
        self.display
    }

    /// The URI.
    pub fn uri(&self) -> Uri<'a> {
        self.uri
    }

    /// The value of a header parameter: `Some(b"")` if it stands without value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        split::semicolons(self.params)
            .map(split::name_value)
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The tag of a From or To; `None` if there is none. An empty tag is no tag.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag").filter(|tag| !tag.is_empty())
    }
}

/// A quoted string, tokens, or nothing.
fn is_display_name(display: &[u8]) -> bool {
    match display.split_first() {
        None => true,
        Some((b'"', rest)) => closes_at_end(rest),
        Some(_) => display.iter().all(|octet| is_token_octet(*octet) || is_space(*octet)),
    }
}

/// Whether the quoted string whose first quote was just read ends with the last octet.
fn closes_at_end(rest: &[u8]) -> bool {
    let mut escaped = false;
    for (at, octet) in rest.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at.saturating_add(1) == rest.len(),
            _ => {}
        }
    }
    false
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
        ] {
            assert!(Address::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

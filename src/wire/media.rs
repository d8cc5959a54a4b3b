//! Stage 2, media types: what a body is said to be.
//!
//! Takes:   one Content-Type or Accept value.
//! Gives:   [`MediaType`]: type, subtype and parameters, borrowed.
//! Keeps:   nothing.
//! Refuses: a value that is not `type/subtype` and parameters; `boundary` or `charset` there twice.
//! Sources: RFC 3261 sections 7.4.1, 20.15 and 25.1; RFC 2046 section 5.1.1.

use std::borrow::Cow;

use super::auth::unquote;
use super::octets::{is_token, position, trim};
use super::params::Params;
use super::{Message, Name};

/// A media type with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct MediaType<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    params: Params<'a>,
}

impl<'a> MediaType<'a> {
    /// Parses the value; `None` if it is no media type.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let end = position(b';', value).unwrap_or(value.len());
        let (head, params) = value.split_at_checked(end)?;
        let (kind, subtype) = head.split_at_checked(position(b'/', head)?)?;
        let (kind, subtype) = (trim(kind), trim(subtype.get(1..)?));
        let (params, _) = Params::parse_with(params, ["boundary", "charset"])?;
        let clean = is_token(kind) && is_token(subtype);
        clean.then_some(Self { kind, subtype, params })
    }

    /// Whether it is this type and subtype, compared without case.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// The type, as written.
    pub fn kind(&self) -> &'a [u8] {
        self.kind
    }

    /// The subtype, as written.
    pub fn subtype(&self) -> &'a [u8] {
        self.subtype
    }

    /// The value of a parameter, quotes opened.
    pub fn param(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.params.get(name).and_then(unquote)
    }
}

impl Message {
    /// Content-Type; `None` if it is not there or does not parse.
    pub fn content_type(&self) -> Option<MediaType<'_>> {
        self.first(Name::ContentType).and_then(MediaType::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_parameters_are_found() {
        let media =
            MediaType::parse(b"Multipart / MIXED ; boundary=\"a;\\\"b\";x=1").expect("a type");
        assert!(media.is("multipart", "mixed") && !media.is("multipart", "related"));
        assert_eq!((media.kind(), media.subtype()), (&b"Multipart"[..], &b"MIXED"[..]));
        assert_eq!(media.param("Boundary").as_deref(), Some(&b"a;\"b"[..]));
        assert_eq!(media.param("charset"), None);
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "text/plain;",
            "text/plain, text/html",
            "a/b/c",
            "multipart/mixed;boundary=a;boundary=b",
            "text/plain;charset=\"x",
        ] {
            assert!(MediaType::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

//! Stage 2, headers: the small ones, and what a message says of itself.
//!
//! Takes:   a message.
//! Gives:   CSeq, Max-Forwards, tags, Call-ID, Expires, Event and option tags, each parsed when asked for.
//! Keeps:   nothing.
//! Refuses: nothing; a header that does not parse reads as `None`, and `check` has refused it before.
//! Sources: RFC 3261 section 20; RFC 6665 section 8.2.1.

use super::scan::{is_space, is_token, trim};
use super::{Address, Message, Method, Name, Uri, Via, split};

/// CSeq: number and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The number.
    pub number: u32,
    /// The octets of the method.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Parses the value; `None` if it is not a number below 2^32, white space and a token.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let gap = value.iter().position(|octet| is_space(*octet))?;
        let (number, method) = value.split_at_checked(gap)?;
        let (number, method) = (u32::try_from(split::number(number)?).ok()?, trim(method));
        is_token(method).then_some(Self { number, method })
    }
}

impl Message {
    /// The topmost Via.
    pub fn top_via(&self) -> Option<Via<'_>> {
        self.values(Name::Via).next().and_then(Via::parse)
    }

    /// From.
    pub fn from(&self) -> Option<Address<'_>> {
        self.first(Name::From).and_then(Address::parse)
    }

    /// To.
    pub fn to(&self) -> Option<Address<'_>> {
        self.first(Name::To).and_then(Address::parse)
    }

    /// The tag of From; empty if there is none (RFC 3261 section 12.1.1 allows that).
    pub fn from_tag(&self) -> &[u8] {
        self.from().and_then(|from| from.tag()).unwrap_or_default()
    }

    /// The tag of To; empty if there is none.
    pub fn to_tag(&self) -> &[u8] {
        self.to().and_then(|to| to.tag()).unwrap_or_default()
    }

    /// Call-ID; empty if there is none.
    pub fn call_id(&self) -> &[u8] {
        self.first(Name::CallId).unwrap_or_default()
    }

    /// CSeq.
    pub fn cseq(&self) -> Option<CSeq<'_>> {
        self.first(Name::CSeq).and_then(CSeq::parse)
    }

    /// The method that CSeq names: for a response, the method of its request.
    pub fn cseq_method(&self) -> Method {
        self.cseq().map_or(Method::Other, |cseq| Method::of(cseq.method))
    }

    /// The Request-URI.
    pub fn uri(&self) -> Option<Uri<'_>> {
        Uri::parse(self.request_uri())
    }

    /// Max-Forwards: `None` if it is not there; over 255 was refused by `check`.
    pub fn max_forwards(&self) -> Option<u8> {
        self.first(Name::MaxForwards).and_then(split::number).and_then(|n| u8::try_from(n).ok())
    }

    /// Expires in seconds; a number over 2^32-1 reads as 2^32-1 (RFC 3261 section 20.19).
    pub fn expires(&self) -> Option<u32> {
        self.first(Name::Expires).and_then(seconds)
    }

    /// The event package, template included, as written.
    pub fn event(&self) -> &[u8] {
        let value = self.first(Name::Event).unwrap_or_default();
        split::semicolons(value).next().unwrap_or_default()
    }

    /// Whether a header of option tags lists `tag`.
    pub fn has_option(&self, name: Name, tag: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(tag.as_bytes()))
    }
}

/// Delta-seconds, clamped to 32 bits.
pub fn seconds(value: &[u8]) -> Option<u32> {
    let digits = split::semicolons(value).next()?;
    match split::number(digits) {
        Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        None => (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(u32::MAX),
    }
}

//! Stage 2, features: what a Contact offers, and what Accept-Contact and Reject-Contact ask for.
//!
//! Takes:   one value of Contact, Accept-Contact, Reject-Contact or Feature-Caps.
//! Gives:   [`Features`]: each feature parameter with its items, one at a time.
//! Keeps:   nothing. Bounds: 16 values of a header, 64 parameters of a value.
//! Refuses: more than the bounds; a value that is neither `*` nor an address, with parameters.
//! Sources: RFC 3840 section 9; RFC 3841 sections 7.2 and 9.2; RFC 6809 section 4; TS 24.229 section 7.2A.8.

use std::borrow::Cow;

use super::octets::trim;
use super::params::{Param, Params};
use super::{Address, Message, Name, uri};

/// Most values of Accept-Contact, Reject-Contact or Feature-Caps that are read.
pub const VALUES_MAX: usize = 16;
/// Most parameters of one value.
pub const PARAMS_MAX: usize = 64;

/// Feature tags that are written without a plus sign (RFC 3840 section 9).
const BASE_TAGS: [&str; 20] = [
    "audio",
    "automata",
    "class",
    "duplex",
    "data",
    "control",
    "mobility",
    "description",
    "events",
    "priority",
    "methods",
    "schemes",
    "application",
    "video",
    "language",
    "type",
    "isfocus",
    "actor",
    "text",
    "extensions",
];
/// A tag that deployed peers write without its plus sign.
const PLUSLESS: &str = "g.oma.locsip";
/// Tags whose items are percent-encoded URNs.
const ENCODED: [&str; 2] = ["+g.3gpp.icsi-ref", "+g.3gpp.iari-ref"];

/// The parameters of one value.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    params: Params<'a>,
}

/// One thing that a feature parameter claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// The tag stands without value: TRUE.
    True,
    /// The string of `"<...>"`, compared with case.
    Text(&'a [u8]),
    /// One item of a list, trimmed; of an ICSI or IARI reference it is percent-decoded once.
    Item(Cow<'a, [u8]>),
}

impl<'a> Features<'a> {
    /// Parses one value: `*` or an address, with parameters.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let params = match value.strip_prefix(b"*") {
            Some(params) => Params::parse(params)?,
            None => Address::parse(value)?.params(),
        };
        // Each begins with a semicolon; some of those may stand in quotes.
        let few = memchr::memchr_iter(b';', params.octets()).count() <= PARAMS_MAX
            || params.iter().take(PARAMS_MAX.saturating_add(1)).count() <= PARAMS_MAX;
        few.then_some(Self { params })
    }

    /// The feature parameters, as written: those with a base tag, with a plus sign, or of `g.oma.locsip`.
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> + Clone {
        self.params.iter().filter(|(name, _)| is_feature(name))
    }

    /// What is claimed for `tag`, which is written with its plus sign if it has one. A tag there twice claims
    /// all that both claim; a negated item claims nothing.
    pub fn claims(self, tag: &'a str) -> impl Iterator<Item = Claim<'a>> {
        self.iter()
            .filter(move |(name, _)| is_tag(name, tag))
            .flat_map(move |(_, value)| claims_of(tag, value))
    }

    /// Whether anything is claimed for `tag`.
    pub fn has(self, tag: &'a str) -> bool {
        self.claims(tag).next().is_some()
    }
}

impl Message {
    /// The feature sets of Contact, Accept-Contact, Reject-Contact or Feature-Caps, one for each value; `None` for one
    /// that does not parse, and in the place of the seventeenth.
    pub fn features(&self, name: Name) -> impl Iterator<Item = Option<Features<'_>>> {
        let values = self.values(name).take(VALUES_MAX.saturating_add(1)).enumerate();
        values.map(|(at, value)| if at < VALUES_MAX { Features::parse(value) } else { None })
    }
}

fn is_feature(name: &[u8]) -> bool {
    name.starts_with(b"+")
        || BASE_TAGS.iter().any(|tag| name.eq_ignore_ascii_case(tag.as_bytes()))
        || name.eq_ignore_ascii_case(PLUSLESS.as_bytes())
}

fn is_tag(name: &[u8], tag: &str) -> bool {
    let plusless = tag.strip_prefix('+').filter(|tag| tag.eq_ignore_ascii_case(PLUSLESS));
    name.eq_ignore_ascii_case(tag.as_bytes())
        || plusless.is_some_and(|tag| name.eq_ignore_ascii_case(tag.as_bytes()))
}

/// What one feature parameter claims: `tag` with `value`, as [`Features::iter`] gives it.
pub fn claims_of<'a>(tag: &str, value: Option<&'a [u8]>) -> impl Iterator<Item = Claim<'a>> {
    let encoded = ENCODED.iter().any(|known| known.eq_ignore_ascii_case(tag));
    let value = value.unwrap_or_default();
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let text = inner.and_then(|inner| trim(inner).strip_prefix(b"<")?.strip_suffix(b">"));
    let whole = match (value.is_empty(), text) {
        (true, _) => Some(Claim::True),
        (_, Some(text)) => Some(Claim::Text(text)),
        _ => None,
    };
    let list = if whole.is_some() { b"" } else { inner.unwrap_or(value) };
    let items = list.split(|octet| matches!(octet, b',' | b';')).map(trim);
    let items = items.filter(|item| !item.is_empty() && !item.starts_with(b"!"));
    whole.into_iter().chain(items.map(move |item| match memchr::memchr(b'%', item) {
        Some(_) if encoded => Claim::Item(Cow::Owned(uri::decode(item))),
        _ => Claim::Item(Cow::Borrowed(item)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Claim<'_> {
        Claim::Item(Cow::Borrowed(text.as_bytes()))
    }

    #[test]
    fn claims_are_read_as_they_are_meant() {
        let icsi = "+g.3gpp.icsi-ref";
        for (value, tag, expected) in [
            ("*;+g.oma.sip-im", "+g.oma.sip-im", vec![Claim::True]),
            ("*;+G.OMA.SIP-IM;require", "+g.oma.sip-im", vec![Claim::True]),
            ("*;g.oma.locsip", "+g.oma.locsip", vec![Claim::True]),
            ("*;+g.oma.locsip", "+g.oma.locsip", vec![Claim::True]),
            ("*;+x=\"<A, b>\"", "+x", vec![Claim::Text(b"A, b")]),
            ("*;+x=\" a , b;c,!d, \"", "+x", vec![item("a"), item("b"), item("c")]),
            ("*;+x=\"!a\"", "+x", vec![]),
            ("*;+x=\"a\";+x=\"b\"", "+x", vec![item("a"), item("b")]),
            ("*;methods=\"INVITE,BYE\"", "methods", vec![item("INVITE"), item("BYE")]),
            ("*;expires=5", "expires", vec![]),
            ("*;+x=\"urn%3Aa\"", "+x", vec![item("urn%3Aa")]),
            (
                "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3a3gpp-service.ims.icsi.oma.cpm.msg,urn:urn-7:x\"",
                icsi,
                vec![item("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"), item("urn:urn-7:x")],
            ),
            ("*;+g.3gpp.icsi-ref=\"urn%253Ax\"", icsi, vec![item("urn%3Ax")]),
            ("<sip:a@b;+x=1>;+x;q=0.5", "+x", vec![Claim::True]),
        ] {
            let features = Features::parse(value.as_bytes()).expect(value);
            assert_eq!(features.claims(tag).collect::<Vec<_>>(), expected, "{value}");
            assert_eq!(features.has(tag), !expected.is_empty(), "{value}");
        }
    }

    #[test]
    fn more_than_the_bounds_is_not_read() {
        let params = |count| format!("*{}", ";+x".repeat(count));
        assert!(Features::parse(params(PARAMS_MAX).as_bytes()).is_some());
        assert!(Features::parse(params(PARAMS_MAX + 1).as_bytes()).is_none());
        for bad in ["", "**", "*;", "x", "*;+x=\"a"] {
            assert!(Features::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\na: *{}\r\n\r\n", ",*;+x".repeat(20));
        let message = Message::from_datagram(bytes::Bytes::from(text)).expect("well formed");
        let found: Vec<_> =
            message.features(Name::AcceptContact).map(|one| one.is_some()).collect();
        assert_eq!(found, [[true; VALUES_MAX].as_slice(), &[false]].concat());
    }
}

//! Stage 2, headers: the small ones, and what a message says of itself.
//!
//! Takes:   a message.
//! Gives:   CSeq, Max-Forwards, tags, Call-ID, Expires, option tags and lists of addresses, each parsed when
//!          asked for. What names another dialog or a subscription stands in `dialogs`.
//! Keeps:   nothing.
//! Refuses: nothing; a header that does not parse reads as `None`, and `check` has refused it before.
//! Sources: RFC 3261 section 20; RFC 3323 section 4.2; RFC 3325 section 9; RFC 3262 section 7.

use super::auth::{AuthenticationInfo, Challenge, Credentials};
use super::octets::{is_space, is_token, trim};
use super::{Address, Fault, Message, Method, Name, Uri, Via, split};

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
        Some(self.marks().via?.read(self.octets()))
    }

    /// The branch of the topmost Via; empty if there is none.
    pub fn branch(&self) -> &[u8] {
        let via = self.marks().via.as_ref();
        via.map(|via| via.branch(self.octets())).unwrap_or_default()
    }

    /// From.
    pub fn from(&self) -> Option<Address<'_>> {
        Some(self.marks().from?.read(self.octets()))
    }

    /// To.
    pub fn to(&self) -> Option<Address<'_>> {
        Some(self.marks().to?.read(self.octets()))
    }

    /// The tag of From; empty if there is none (RFC 3261 section 12.1.1 allows that).
    pub fn from_tag(&self) -> &[u8] {
        self.marks().from.as_ref().map(|from| from.tag(self.octets())).unwrap_or_default()
    }

    /// The tag of To; empty if there is none.
    pub fn to_tag(&self) -> &[u8] {
        self.marks().to.as_ref().map(|to| to.tag(self.octets())).unwrap_or_default()
    }

    /// Call-ID; empty if there is none.
    pub fn call_id(&self) -> &[u8] {
        self.first(Name::CallId).unwrap_or_default()
    }

    /// CSeq.
    pub fn cseq(&self) -> Option<CSeq<'_>> {
        let marks = self.marks().cseq.as_ref()?;
        Some(CSeq { number: marks.number, method: marks.method.of(self.octets()) })
    }

    /// The method that CSeq names: for a response, the method of its request.
    pub fn cseq_method(&self) -> Method {
        self.marks().cseq.as_ref().map_or(Method::Other, |cseq| cseq.known)
    }

    /// The Request-URI.
    pub fn uri(&self) -> Option<Uri<'_>> {
        Some(self.marks().uri?.read(self.octets()))
    }

    /// Max-Forwards: `None` if it is not there; over 255 was refused by `check`.
    pub fn max_forwards(&self) -> Option<u8> {
        self.first(Name::MaxForwards).and_then(split::number).and_then(|n| u8::try_from(n).ok())
    }

    /// Expires in seconds; a number over 2^32-1 reads as 2^32-1 (RFC 3261 section 20.19).
    pub fn expires(&self) -> Option<u32> {
        self.first(Name::Expires).and_then(seconds)
    }

    /// Retry-After in seconds, without its comment and parameters (RFC 3261 section 20.33).
    pub fn retry_after(&self) -> Option<u32> {
        let value = self.first(Name::RetryAfter)?;
        let end = value.iter().position(|octet| is_space(*octet) || b"(;".contains(octet));
        seconds(value.get(..end.unwrap_or(value.len()))?)
    }

    /// RSeq: `None` if it is not there or no number from 1 to 2^32-1 (RFC 3262 section 7.1).
    pub fn rseq(&self) -> Option<u32> {
        let number = self.first(Name::RSeq).and_then(split::number)?;
        u32::try_from(number).ok().filter(|number| *number > 0)
    }

    /// The values of a header that lists addresses (P-Asserted-Identity, Contact, Route, Record-Route, Path,
    /// Service-Route, P-Associated-URI and kin), in order; `None` for one that does not parse.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = Option<Address<'_>>> + Clone {
        let mut known = self.marks().first_of(name);
        self.values(name).map(move |value| match known.take() {
            Some(first) => Some(first.read(self.octets())),
            None => Address::parse(value),
        })
    }

    /// The Digest credentials in the rows of Authorization or Proxy-Authorization; other schemes are passed over.
    pub fn credentials(
        &self,
        name: Name,
    ) -> impl Iterator<Item = Result<Credentials<'_>, Fault>> + Clone {
        self.fields_named(name).filter_map(|row| Credentials::parse(row).transpose())
    }

    /// The Digest challenges in the rows of WWW-Authenticate or Proxy-Authenticate; other schemes are passed over.
    pub fn challenges(
        &self,
        name: Name,
    ) -> impl Iterator<Item = Result<Challenge<'_>, Fault>> + Clone {
        self.fields_named(name).filter_map(|row| Challenge::parse(row).transpose())
    }

    /// Authentication-Info; `None` if it is not there or does not parse.
    pub fn authentication_info(&self) -> Option<AuthenticationInfo<'_>> {
        self.first(Name::AuthenticationInfo).and_then(|row| AuthenticationInfo::parse(row).ok())
    }

    /// Whether Privacy asks for `kind` (`id`, `none`); the values are parted by semicolons (RFC 3323 section 4.2).
    pub fn wants_privacy(&self, kind: &str) -> bool {
        let mut kinds = self.fields_named(Name::Privacy).flat_map(split::semicolons);
        kinds.any(|found| found.eq_ignore_ascii_case(kind.as_bytes()))
    }

    /// Whether a header of option tags lists `tag`.
    pub fn has_option(&self, name: Name, tag: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(tag.as_bytes()))
    }
}

/// Delta-seconds in front of a value's parameters, clamped to 32 bits.
pub fn seconds(value: &[u8]) -> Option<u32> {
    let digits = split::semicolons(value).next()?;
    match split::number(digits) {
        Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        None => (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(fields: &str) -> Message {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{fields}\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    }

    #[test]
    fn cseq_is_a_number_of_32_bits_and_a_method() {
        for (value, expected) in [
            ("1 INVITE", Some((1, "INVITE"))),
            ("0009\r\n  INVITE", Some((9, "INVITE"))),
            ("2147483648 ACK", Some((2_147_483_648, "ACK"))),
            ("4294967295 ACK", Some((u32::MAX, "ACK"))),
            ("4294967296 ACK", None),
            ("18446744073709551616 ACK", None),
            ("-1 ACK", None),
            ("+1 ACK", None),
            ("1", None),
            ("1INVITE", None),
            ("1 INVITE x", None),
            ("ACK 1", None),
        ] {
            let found = CSeq::parse(value.as_bytes());
            let expected =
                expected.map(|(number, method)| CSeq { number, method: str::as_bytes(method) });
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn numbers_of_seconds_are_clamped() {
        for (fields, expires, retry_after) in [
            ("Expires: 0\r\nRetry-After: 5\r\n", Some(0), Some(5)),
            (
                "Expires: 4294967296\r\nRetry-After: 18000;duration=3600\r\n",
                Some(u32::MAX),
                Some(18000),
            ),
            (
                "Expires: 99999999999999999999999\r\nRetry-After: 120 (I'm in a meeting)\r\n",
                Some(u32::MAX),
                Some(120),
            ),
            ("Expires: -1\r\nRetry-After: soon\r\n", None, None),
            ("Expires: Thu, 01 Dec 1994 16:00:00 GMT\r\nRetry-After:\r\n", None, None),
            ("", None, None),
        ] {
            let message = message(fields);
            assert_eq!(
                (message.expires(), message.retry_after()),
                (expires, retry_after),
                "{fields}"
            );
        }
    }

    #[test]
    fn lists_run_over_rows_and_commas() {
        let message = message(
            "P-Asserted-Identity: \"A, B\" <sip:a@b>,\r\n <tel:+1>\r\np-asserted-identity : sip:c@d\r\nP-Asserted-Identity: <x\r\nPrivacy: header; id\r\nk: a\r\nSupported: B,c\r\n",
        );
        let uris: Vec<_> = message
            .addresses(Name::PAssertedIdentity)
            .map(|address| address.map(|address| address.uri().octets()))
            .collect();
        assert_eq!(uris, [Some(&b"sip:a@b"[..]), Some(b"tel:+1"), Some(b"sip:c@d"), None]);
        assert!(message.wants_privacy("ID") && !message.wants_privacy("none"));
        assert!(["a", "b", "c"].iter().all(|tag| message.has_option(Name::Supported, tag)));
        assert!(!message.has_option(Name::Require, "a"));
    }

    #[test]
    fn other_schemes_are_no_credentials() {
        let message = message(
            "Authorization: Basic YTpi\r\nAuthorization: Digest realm=\"r\"\r\nAuthorization: NTLM\r\nauthorization: Digest realm\r\nAuthentication-Info: nextnonce=\"n\"\r\n",
        );
        let found: Vec<_> = message
            .credentials(Name::Authorization)
            .map(|found| found.map(|found| found.realm().to_vec()))
            .collect();
        assert_eq!(found, [Ok(b"r".to_vec()), Err(Fault::CredentialsMalformed)]);
        let info = message.authentication_info().expect("well formed");
        assert_eq!(info.param("nextnonce"), Some(&b"n"[..]));
    }
}

//! Stage 2, the security agreement: mechanisms as Security-Client, Security-Server and Security-Verify list them.
//!
//! Takes:   one value of those headers.
//! Gives:   [`Mechanism`]: its name and parameters, borrowed; whether two of them are the same.
//! Keeps:   nothing. Bounds: 16 mechanisms of a message, 16 parameters of a mechanism.
//! Refuses: a name that is no token, a parameter twice, a `q` that is no qvalue, a `d-alg` or `d-qop` that is no token, a
//!          `d-ver` that is not 32 lower-case hex digits in quotes.
//! Sources: RFC 3329 section 2.2; RFC 3261 section 25.1 (qvalue, generic-param, LHEX).

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::combinator::{all_consuming, opt, recognize};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser as _};

use super::octets::{is_token, is_token_octet};
use super::params::Params;
use super::{Message, Name};

/// Most mechanisms of one message.
pub const MECHANISMS_MAX: usize = 16;
/// Most parameters of one mechanism.
pub const PARAMS_MAX: usize = 16;

/// One mechanism of a list.
#[derive(Clone, Copy, Debug)]
pub struct Mechanism<'a> {
    name: &'a [u8],
    params: Params<'a>,
}

impl<'a> Mechanism<'a> {
    /// Parses one value; `None` if it is no mechanism.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (params, name) = name(value).ok()?;
        let params = Params::parse(params)?;
        let few = params.iter().take(PARAMS_MAX.saturating_add(1)).count() <= PARAMS_MAX;
        let known = Self { name, params };
        (few && params.iter().all(|param| known.takes(param))).then_some(known)
    }

    /// Whether a parameter is there once, and is what its grammar says.
    fn takes(self, (name, value): (&[u8], Option<&[u8]>)) -> bool {
        let same = |other: &[u8]| other.eq_ignore_ascii_case(name);
        let once = self.params.iter().filter(|(other, _)| same(other)).count() == 1;
        let value = value.unwrap_or_default();
        let fits = match () {
            () if same(b"q") => all_consuming(qvalue).parse(value).is_ok(),
            () if same(b"d-alg") || same(b"d-qop") => is_token(value),
            () if same(b"d-ver") => all_consuming(digits).parse(value).is_ok(),
            () => true,
        };
        once && fits
    }

    /// Its name, as written.
    pub fn name(self) -> &'a [u8] {
        self.name
    }

    /// Whether it has that name.
    pub fn is(self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value of a parameter: `Some(b"")` if it stands without one.
    pub fn param(self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// Its preference in thousandths; `None` if none is written.
    pub fn preference(self) -> Option<u16> {
        let value = self.param("q")?;
        let (whole, fraction) = value.split_first()?;
        let mut sum = if *whole == b'1' { 1000 } else { 0_u16 };
        let places = fraction.iter().skip(1).zip([100_u16, 10, 1]);
        for (digit, place) in places {
            sum = sum.saturating_add(u16::from(digit.wrapping_sub(b'0')).saturating_mul(place));
        }
        Some(sum)
    }

    /// The 32 digits by which a client protects the list it was given.
    pub fn verifier(self) -> Option<&'a [u8]> {
        self.param("d-ver").and_then(|value| value.get(1..33))
    }

    /// Whether `other` is the same, its `d-ver` apart: the name without case, and the same parameters with the same
    /// values, in any order.
    ///
    /// Source: RFC 3329 section 2.3.1; RFC 3261 section 7.3.1.
    pub fn same(self, other: Mechanism<'_>) -> bool {
        let counted = |mechanism: Mechanism<'_>| {
            let others = mechanism.params.iter().filter(|(name, _)| !is_verifier(name));
            others.count()
        };
        let has = |(name, value): (&[u8], Option<&[u8]>)| {
            let found = other.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.is_some_and(|(_, known)| same_value(value, known))
        };
        self.name.eq_ignore_ascii_case(other.name)
            && counted(self) == counted(other)
            && self.params.iter().filter(|(name, _)| !is_verifier(name)).all(has)
    }
}

impl Message {
    /// The mechanisms of a security header, in order; `None` for one that does not parse, and in the place of the
    /// seventeenth.
    pub fn mechanisms(&self, name: Name) -> impl Iterator<Item = Option<Mechanism<'_>>> + Clone {
        let values = self.values(name).take(MECHANISMS_MAX.saturating_add(1)).enumerate();
        values.map(|(at, value)| if at < MECHANISMS_MAX { Mechanism::parse(value) } else { None })
    }
}

fn is_verifier(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"d-ver")
}

/// Tokens are compared without case, quoted strings with it.
fn same_value(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) if one.starts_with(b"\"") => one == other,
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

/// `mechanism-name`, and what is left.
fn name(octets: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(is_token_octet).parse(octets)
}

/// `( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`.
fn qvalue(octets: &[u8]) -> IResult<&[u8], &[u8]> {
    let digits = take_while_m_n(0, 3, |octet: u8| octet.is_ascii_digit());
    let zeros = take_while_m_n(0, 3, |octet| octet == b'0');
    let less = (tag(&b"0"[..]), opt(preceded(tag(&b"."[..]), digits)));
    let one = (tag(&b"1"[..]), opt(preceded(tag(&b"."[..]), zeros)));
    alt((recognize(less), recognize(one))).parse(octets)
}

/// `LDQUOT 32LHEX RDQUOT`.
fn digits(octets: &[u8]) -> IResult<&[u8], &[u8]> {
    let digit = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
    let quote = || tag(&b"\""[..]);
    delimited(quote(), take_while_m_n(32, 32, digit), quote()).parse(octets)
}

/// A list with each run of white space made one space, as it goes into `d-ver`.
///
/// Source: RFC 3329 section 2.2 (Digest-verify).
pub fn collapsed(list: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(list.len());
    let mut rest = list;
    while !rest.is_empty() {
        let Ok((tail, (dark, space))) = run(rest) else { break };
        text.extend_from_slice(dark);
        if !space.is_empty() && !tail.is_empty() {
            text.push(b' ');
        }
        rest = tail;
    }
    text
}

/// Octets up to a run of white space, and that run.
fn run(octets: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    let light = |octet: u8| super::octets::is_space(octet);
    (take_while(move |octet| !light(octet)), take_while(light)).parse(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Mechanism<'_>> {
        Mechanism::parse(text.as_bytes())
    }

    #[test]
    fn a_mechanism_is_read_or_refused_by_its_grammar() {
        for (text, preference) in [
            ("tls", None),
            ("TLS;q=1", Some(1000)),
            ("tls ; q = 0.5", Some(500)),
            ("digest;d-alg=MD5;d-qop=auth-int;q=0.1", Some(100)),
            ("digest;q=0.125;d-ver=\"0123456789abcdef0123456789abcdef\"", Some(125)),
            ("ipsec-3gpp;alg=hmac-sha-1-96;spi-c=1;port-c=5062;q=0", Some(0)),
            ("x;q=1.000", Some(1000)),
            ("x;q=0.", Some(0)),
        ] {
            let found = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.preference(), preference, "{text}");
        }
        let many = format!("x{}", ";a".repeat(PARAMS_MAX + 1));
        for bad in [
            "",
            ";q=1",
            "t ls",
            "tls;",
            "tls;q",
            "tls;q=1.001",
            "tls;q=0.1234",
            "tls;q=2",
            "tls;q=.5",
            "tls;q=0.1;Q=0.2",
            "digest;d-alg=",
            "digest;d-qop=\"auth\"",
            "digest;d-ver=0123456789abcdef0123456789abcdef",
            "digest;d-ver=\"0123456789ABCDEF0123456789abcdef\"",
            "digest;d-ver=\"0123456789abcdef0123456789abcde\"",
            &many,
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn mechanisms_are_the_same_by_name_and_parameters_in_any_order() {
        let ours = "digest;d-alg=MD5;d-qop=auth-int;q=0.1";
        for (other, same) in [
            ("Digest;q=0.1;d-qop=AUTH-INT;d-alg=md5", true),
            (
                "digest;d-alg=MD5;d-qop=auth-int;q=0.1;d-ver=\"0123456789abcdef0123456789abcdef\"",
                true,
            ),
            ("digest;d-alg=MD5;d-qop=auth-int;q=0.2", false),
            ("digest;d-alg=MD5;d-qop=auth-int", false),
            ("digest;d-alg=MD5;d-qop=auth;q=0.1", false),
            ("digest;d-alg=MD5;d-qop=auth-int;q=0.1;x", false),
            ("tls;d-alg=MD5;d-qop=auth-int;q=0.1", false),
        ] {
            let (one, two) = (parse(ours).unwrap(), parse(other).unwrap());
            assert_eq!((one.same(two), two.same(one)), (same, same), "{other}");
        }
        let quoted = |text| parse(text).unwrap();
        assert!(!quoted("x;a=\"B\"").same(quoted("x;a=\"b\"")), "quoted strings have case");
    }

    #[test]
    fn white_space_is_collapsed() {
        assert_eq!(collapsed(b"tls;q=0.5,\r\n  digest ;\t q=0.1 "), b"tls;q=0.5, digest ; q=0.1");
    }
}

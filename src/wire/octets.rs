//! Stage 2, octets: which octet may stand where, and the few words that all grammars share.
//!
//! Takes:   single octets, or a value.
//! Gives:   class tests by one table look-up; trimmed values; quoted strings as a `nom` parser.
//! Keeps:   nothing.
//! Refuses: nothing by itself.
//! Sources: RFC 3261 section 25.1.

use nom::error::{Error, ErrorKind};
use nom::{Err, IResult};

use super::steps;

const TOKEN: u8 = 1;
const USER: u8 = 2;
const PASSWORD: u8 = 4;
const URI_PARAM: u8 = 8;
const URI_HEADER: u8 = 16;
const URI_ANY: u8 = 32;
const GENERIC: u8 = 64;
const HOST: u8 = 128;

/// The classes of each octet, made when this is compiled.
const CLASSES: [u8; 256] = classes();

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "runs in the compiler, which checks"
)]
const fn classes() -> [u8; 256] {
    const SETS: [(&[u8], u8); 9] = [
        (b"-_.!~*'%", TOKEN | USER | PASSWORD | URI_PARAM | URI_HEADER | URI_ANY | GENERIC),
        (b"()", USER | PASSWORD | URI_PARAM | URI_HEADER | URI_ANY),
        (b"+", TOKEN | USER | PASSWORD | URI_PARAM | URI_HEADER | URI_ANY | GENERIC),
        (b"`", TOKEN | GENERIC),
        (b"&=$,", USER | PASSWORD | URI_ANY),
        // A number sign must be escaped in a user part (RFC 3261 section 25.1), but phones dial it bare.
        (b";?/#", USER | URI_ANY),
        (b"[]/:&$", URI_PARAM | URI_HEADER | URI_ANY | GENERIC),
        (b"?@", URI_ANY | GENERIC),
        (b"-._", HOST),
    ];
    let mut table = [0_u8; 256];
    let mut octet = 0;
    while octet < 128 {
        if (octet as u8).is_ascii_alphanumeric() {
            table[octet] = 255;
        }
        octet += 1;
    }
    let mut set = 0;
    while set < SETS.len() {
        let mut at = 0;
        while at < SETS[set].0.len() {
            table[SETS[set].0[at] as usize] |= SETS[set].1;
            at += 1;
        }
        set += 1;
    }
    table[b'?' as usize] |= URI_HEADER;
    table[b'=' as usize] |= GENERIC;
    table
}

fn is(octet: u8, class: u8) -> bool {
    CLASSES.get(usize::from(octet)).is_some_and(|classes| classes & class != 0)
}

/// Whether `octet` may stand in a token.
pub fn is_token_octet(octet: u8) -> bool {
    is(octet, TOKEN)
}

/// Whether `octet` may stand in the user part of a SIP URI, before the colon of a password.
pub(super) fn is_user_octet(octet: u8) -> bool {
    is(octet, USER)
}

/// Whether `octet` may stand in the password of a SIP URI.
pub(super) fn is_password_octet(octet: u8) -> bool {
    is(octet, PASSWORD)
}

/// Whether `octet` may stand in name or value of a URI parameter.
pub(super) fn is_uri_param_octet(octet: u8) -> bool {
    is(octet, URI_PARAM)
}

/// Whether `octet` may stand in name or value of a URI header.
pub(super) fn is_uri_header_octet(octet: u8) -> bool {
    is(octet, URI_HEADER)
}

/// Whether `octet` may stand in a URI of any scheme.
pub(super) fn is_uri_octet(octet: u8) -> bool {
    is(octet, URI_ANY)
}

/// Whether `octet` may stand in a host name or an IPv4 address; the underscore is no RFC's but everybody's.
pub(super) fn is_host_octet(octet: u8) -> bool {
    is(octet, HOST)
}

/// Whether `octet` may stand in the bare value of a header parameter: token, host, and what peers send bare
/// without being misread, such as base64 tags.
pub(super) fn is_generic_octet(octet: u8) -> bool {
    is(octet, GENERIC)
}

/// Whether `octets` are a token: at least one octet, all of them of the token set.
pub fn is_token(octets: &[u8]) -> bool {
    steps::count(octets.len());
    !octets.is_empty() && octets.iter().all(|octet| is_token_octet(*octet))
}

/// White space as it may stand in a value: folds included, since the scanner has checked them.
pub fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// `octets` without white space at either end.
pub fn trim(octets: &[u8]) -> &[u8] {
    let from = octets.iter().position(|octet| !is_space(*octet)).unwrap_or(octets.len());
    let rest = octets.get(from..).unwrap_or_default();
    let end = rest.iter().rposition(|octet| !is_space(*octet));
    let end = end.map_or(0, |at| at.saturating_add(1));
    steps::count(octets.len().saturating_sub(end));
    rest.get(..end).unwrap_or_default()
}

/// `octets` without white space in front.
pub(super) fn trim_start(octets: &[u8]) -> &[u8] {
    let from = octets.iter().position(|octet| !is_space(*octet)).unwrap_or(octets.len());
    steps::count(from);
    octets.get(from..).unwrap_or_default()
}

/// Where in `text` the first `octet` stands. In a short text, as most are here, a look at each is the shortest way.
#[inline]
pub(crate) fn position(octet: u8, text: &[u8]) -> Option<usize> {
    if text.len() < 16 {
        text.iter().position(|one| *one == octet)
    } else {
        memchr::memchr(octet, text)
    }
}

/// The parts of `text` between line feeds.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let octets = rest?;
        let end = memchr::memchr(b'\n', octets);
        rest = end.and_then(|end| octets.get(end.checked_add(1)?..));
        octets.get(..end.unwrap_or(octets.len()))
    })
}

/// Whether `text` holds `part`, compared without case.
///
/// First a look without branches, at many octets at once, for the first four of `part`: hardly any text has them that
/// does not hold all of it.
pub(crate) fn contains(text: &[u8], part: &str) -> bool {
    let part = part.as_bytes();
    let Some(head @ [first, ..]) = part.first_chunk::<4>() else {
        return part.is_empty() || text.windows(part.len()).any(|at| at.eq_ignore_ascii_case(part));
    };
    let begins = |at: &[u8]| at.first().is_some_and(|octet| octet | 0x20 == first | 0x20);
    let is_here = |at: &[u8]| begins(at) && at.eq_ignore_ascii_case(part);
    may_hold(text, head) && text.windows(part.len()).any(is_here)
}

/// Whether the four octets stand in `text` in a row, but for bit 5 of each, in which letters of either case differ.
fn may_hold(text: &[u8], four: &[u8; 4]) -> bool {
    let [one, two, three, four] = four.map(|octet| octet | 0x20);
    let from = |at: usize| text.get(at..).unwrap_or_default();
    let rows = from(0).iter().zip(from(1)).zip(from(2)).zip(from(3));
    rows.fold(0_u8, |found, (((a, b), c), d)| {
        let differs = (a | 0x20) ^ one | (b | 0x20) ^ two | (c | 0x20) ^ three | (d | 0x20) ^ four;
        found | u8::from(differs == 0)
    }) != 0
}

/// A quoted string, both quotes included and nothing opened.
pub(super) fn quoted(octets: &[u8]) -> IResult<&[u8], &[u8]> {
    let wrong = || Err::Error(Error::new(octets, ErrorKind::Char));
    let end = octets.strip_prefix(b"\"").and_then(quote_end).ok_or_else(wrong)?;
    let (string, rest) = octets.split_at_checked(end.saturating_add(2)).ok_or_else(wrong)?;
    Ok((rest, string))
}

/// Where in `rest`, which follows an opening quote, the closing one stands.
fn quote_end(rest: &[u8]) -> Option<usize> {
    let mut from = 0_usize;
    loop {
        let tail = rest.get(from..)?;
        let at = memchr::memchr2(b'"', b'\\', tail)?;
        steps::count(at.saturating_add(1));
        let found = from.checked_add(at)?;
        if tail.get(at) == Some(&b'"') {
            return Some(found);
        }
        from = found.checked_add(2)?;
    }
}

/// An octet as two hexadecimal digits, in lower case.
pub(crate) fn hex_digits(octet: u8) -> [u8; 2] {
    #[allow(clippy::indexing_slicing, reason = "worked out by the compiler, which would refuse it")]
    const PAIRS: [[u8; 2]; 256] = {
        let (mut pairs, mut octet) = ([[0; 2]; 256], 0);
        while octet < 256 {
            let digits = b"0123456789abcdef";
            pairs[octet] = [digits[octet >> 4], digits[octet & 15]];
            octet += 1;
        }
        pairs
    };
    PAIRS.get(usize::from(octet)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_wherever_they_stand() {
        for (text, part, expected) in [
            ("application/VND.oma.Push", "vnd.oma.push", true),
            ("vnd.oma.push", "vnd.oma.push", true),
            ("x.vnd.oma.pushvnd.x", "vnd.oma.push", true),
            (".oma.push", "vnd.oma.push", false),
            ("vnd.oma.pus", "vnd.oma.push", false),
            ("xxLocSIP", "locsip", true),
            ("xxlocsi", "locsip", false),
            ("imdn.Message-ID: iMdN imdn+XML", "imdn+xml", true),
            ("imdn.Message-ID: iMdN imdn-XML imdn+xm", "imdn+xml", false),
            ("@+\n", "@+\n", true),
            ("", "a", false),
            ("anything", "", true),
        ] {
            assert_eq!(contains(text.as_bytes(), part), expected, "{part} in {text}");
        }
    }

    /// Each class, spelt out as the octets that are in it beside letters and digits.
    #[test]
    fn classes_are_those_of_the_grammar() {
        type Class = fn(u8) -> bool;
        for (name, class, members) in [
            ("token", is_token_octet as Class, &b"-.!%*_+`'~"[..]),
            ("user", is_user_octet, b"-_.!~*'()%&=+$,;?/#"),
            ("password", is_password_octet, b"-_.!~*'()%&=+$,"),
            ("uri-parameter", is_uri_param_octet, b"-_.!~*'()%[]/:&+$"),
            ("uri-header", is_uri_header_octet, b"-_.!~*'()%[]/?:+$&"),
            ("uri", is_uri_octet, b"-_.!~*'()%;/?:@&=+$,[]#"),
            ("host", is_host_octet, b"-._"),
            ("gen-value", is_generic_octet, b"-.!%*_+`'~[]:/&$?@="),
        ] {
            for octet in 0..=255_u8 {
                let expected = octet.is_ascii_alphanumeric() || members.contains(&octet);
                assert_eq!(class(octet), expected, "{name}, octet {octet:#04x}");
            }
        }
    }

    #[test]
    fn a_quoted_string_ends_at_its_own_quote() {
        for (octets, string) in [
            (&br#""a" b"#[..], Some(&br#""a""#[..])),
            (br#""a\"b" "c""#, Some(br#""a\"b""#)),
            (br#""a\\" b"#, Some(br#""a\\""#)),
            (br#""""#, Some(br#""""#)),
            (br#""a\""#, None),
            (br#""a\"#, None),
            (br#"""#, None),
            (b"a", None),
        ] {
            assert_eq!(quoted(octets).ok().map(|(_, string)| string), string);
        }
    }
}

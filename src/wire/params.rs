//! Stage 2, parameters: what follows an address, a Via, a media type or an event behind semicolons.
//!
//! Takes:   the octets from the first semicolon to the end of the value.
//! Gives:   [`Params`]: names and values, borrowed, read one at a time.
//! Keeps:   nothing.
//! Refuses: a name that is no token, a semicolon with nothing behind it, quotes that do not close, text after a value.
//! Sources: RFC 3261 section 25.1 (generic-param, gen-value).

use nom::IResult;
use nom::Parser as _;
use nom::branch::alt;
use nom::bytes::complete::take_while;
use nom::character::complete::char as octet;
use nom::combinator::opt;
use nom::sequence::{delimited, preceded};

use super::octets::{is_generic_octet, lws, quoted, token};
use super::steps;

/// A name and its value, if it has one; quotes are part of the value.
pub type Param<'a> = (&'a [u8], Option<&'a [u8]>);

/// A list of parameters that is known to be well formed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    octets: &'a [u8],
}

impl<'a> Params<'a> {
    /// Parses `octets`, which are empty or begin with a semicolon; `None` if they are no parameters.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let mut rest = lws(octets).ok()?.0;
        while !rest.is_empty() {
            rest = param(rest).ok()?.0;
        }
        Some(Self { octets })
    }

    /// Name and value of each, in order.
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> + Clone {
        let mut rest = self.octets;
        std::iter::from_fn(move || {
            let (tail, found) = param(rest).ok()?;
            rest = tail;
            Some(found)
        })
    }

    /// The value of the first parameter `name`, compared without case: `Some(b"")` if it stands without value.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// Whether one of `names` is there more than once: two readers might take different ones.
    pub fn has_twice(self, names: &[&str]) -> bool {
        let named = |name: &&str, found: &[u8]| found.eq_ignore_ascii_case(name.as_bytes());
        let mut seen = 0_u32;
        for (found, _) in self.iter() {
            let Some(at) = names.iter().position(|name| named(name, found)) else { continue };
            let bit = u32::try_from(at).ok().and_then(|at| 1_u32.checked_shl(at)).unwrap_or(0);
            if seen & bit != 0 {
                return true;
            }
            seen |= bit;
        }
        false
    }

    /// The octets as they stand, first semicolon included.
    pub fn octets(self) -> &'a [u8] {
        self.octets
    }
}

/// `SEMI token [ EQUAL gen-value ]`. An empty value is let through: it reads as no value.
fn param(octets: &[u8]) -> IResult<&[u8], Param<'_>> {
    let value = alt((quoted, take_while(is_generic_octet)));
    let equal = delimited(lws, octet('='), lws);
    let (rest, found) =
        (preceded(delimited(lws, octet(';'), lws), token), opt(preceded(equal, value)))
            .parse(octets)?;
    let (rest, _) = lws(rest)?;
    steps::count(octets.len().saturating_sub(rest.len()));
    Ok((rest, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_found() {
        let params =
            Params::parse(b" ; a = 1;B;c=\"x;d=\\\"y\" ;e=[::1] ; f=").expect("parameters");
        let found: Vec<_> = params.iter().collect();
        let expected: [Param<'_>; 5] = [
            (b"a", Some(b"1")),
            (b"B", None),
            (b"c", Some(b"\"x;d=\\\"y\"")),
            (b"e", Some(b"[::1]")),
            (b"f", Some(b"")),
        ];
        assert_eq!(found, expected);
        assert_eq!(params.get("b"), Some(&b""[..]));
        assert_eq!(params.get("d"), None);
        assert!(!params.has_twice(&["a", "b"]));
        assert!(Params::parse(b";tag=1;x;TAG=2").expect("parameters").has_twice(&["tag"]));
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for bad in [
            ";",
            ";;a",
            ";a;",
            ";=1",
            ";a=\"x",
            ";a=\"x\"y",
            ";a b",
            ";a=1 2",
            "a",
            ";a=(x)",
            ";\u{1}a",
        ] {
            assert!(Params::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

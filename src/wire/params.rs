//! Stage 2, parameters: what follows an address, a Via, a media type or an event behind semicolons.
//!
//! Takes:   the octets from the first semicolon to the end of the value.
//! Gives:   [`Params`]: names and values, borrowed, read one at a time.
//! Keeps:   nothing.
//! Refuses: a name that is no token, a semicolon with nothing behind it, quotes that do not close, text after a value.
//! Sources: RFC 3261 section 25.1 (generic-param, gen-value).

use super::octets::{is_generic_octet, is_token_octet, quoted, trim_start};
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
        Self::parse_with(octets, []).map(|(params, _)| params)
    }

    /// The same, and the values of the parameters in `names`, of which each may be there once: two readers might
    /// take different ones.
    pub(super) fn parse_with<const N: usize>(
        octets: &'a [u8],
        names: [&str; N],
    ) -> Option<(Self, [Option<&'a [u8]>; N])> {
        let mut found = [None; N];
        let mut rest = trim_start(octets);
        while !rest.is_empty() {
            let (tail, (name, value)) = param(rest)?;
            rest = tail;
            for (slot, wanted) in found.iter_mut().zip(names) {
                if name.eq_ignore_ascii_case(wanted.as_bytes())
                    && slot.replace(value.unwrap_or_default()).is_some()
                {
                    return None;
                }
            }
        }
        Some((Self { octets }, found))
    }

    /// Octets that were parsed before.
    pub(super) fn known(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// Name and value of each, in order.
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> + Clone {
        let mut rest = self.octets;
        std::iter::from_fn(move || {
            let (tail, found) = param(rest)?;
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

    /// Whether one of `names` is there more than once.
    pub fn has_twice<const N: usize>(self, names: [&str; N]) -> bool {
        Self::parse_with(self.octets, names).is_none()
    }

    /// The octets as they stand, first semicolon included.
    pub fn octets(self) -> &'a [u8] {
        self.octets
    }
}

/// `SEMI token [ EQUAL gen-value ]`, and what is left. An empty value is let through: it reads as no value.
fn param(octets: &[u8]) -> Option<(&[u8], Param<'_>)> {
    let rest = trim_start(trim_start(octets).strip_prefix(b";")?);
    let (name, rest) = split_while(rest, is_token_octet);
    if name.is_empty() {
        return None;
    }
    let rest = trim_start(rest);
    let (value, rest) = match rest.strip_prefix(b"=").map(trim_start) {
        None => (None, rest),
        Some(rest) if rest.starts_with(b"\"") => {
            let (rest, value) = quoted(rest).ok()?;
            (Some(value), rest)
        }
        Some(rest) => {
            let (value, rest) = split_while(rest, is_generic_octet);
            (Some(value), rest)
        }
    };
    let rest = trim_start(rest);
    steps::count(octets.len().saturating_sub(rest.len()));
    Some((rest, (name, value)))
}

/// The octets of a class in front, and the others.
fn split_while(octets: &[u8], class: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = octets.iter().position(|octet| !class(*octet)).unwrap_or(octets.len());
    octets.split_at_checked(end).unwrap_or((octets, b""))
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
        let (_, found) = Params::parse_with(b";b;a=1", ["a", "b", "c"]).expect("parameters");
        assert_eq!(found, [Some(&b"1"[..]), Some(b""), None]);
        assert!(Params::parse_with(b";tag=1;x;TAG=2", ["tag"]).is_none());
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

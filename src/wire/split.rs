//! Stage 2, splitting: values, parameters and numbers, with quotes and angle brackets respected.
//!
//! Takes:   one header value.
//! Gives:   its parts, borrowed and trimmed.
//! Keeps:   nothing.
//! Refuses: nothing; what does not close runs to the end, and the parser that asked refuses it.
//! Sources: RFC 3261 sections 7.3.1 and 25.1.

use super::octets::{position, trim};
use super::steps;

/// The parts of `value` between top-level commas; empty parts are left out.
pub fn commas(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    parts(value, b',').filter(|part| !part.is_empty())
}

/// The parts of `value` between top-level semicolons; empty parts are kept.
pub fn semicolons(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    parts(value, b';')
}

/// The parts of `value` between occurrences of `mark` outside quoted strings and angle brackets.
pub fn parts(value: &[u8], mark: u8) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let octets = rest?;
        match find(octets, mark).and_then(|at| octets.split_at_checked(at)) {
            Some((part, tail)) => {
                rest = tail.get(1..);
                Some(trim(part))
            }
            None => {
                rest = None;
                Some(trim(octets))
            }
        }
    })
}

/// The first `mark` outside quoted strings and angle brackets.
pub fn find(value: &[u8], mark: u8) -> Option<usize> {
    // Most values have none, or nothing in front of it that could hide it.
    let at = position(mark, value).inspect(|at| steps::count(*at))?;
    match memchr::memchr2(b'"', b'<', value.get(..at)?) {
        Some(_) => find_outside(value, mark),
        None => Some(at),
    }
}

fn find_outside(value: &[u8], mark: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut angled) = (false, false, false);
    for (at, octet) in value.iter().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match octet {
            b'\\' if quoted => escaped = true,
            b'"' if !angled => quoted = !quoted,
            _ if quoted => {}
            octet if *octet == mark && !angled => {
                steps::count(at);
                return Some(at);
            }
            b'<' => angled = true,
            b'>' => angled = false,
            _ => {}
        }
    }
    steps::count(value.len());
    None
}

/// A decimal number without sign; `None` if it is anything else or 2^64 and more.
pub fn number(octets: &[u8]) -> Option<u64> {
    steps::count(octets.len());
    if octets.is_empty() {
        return None;
    }
    octets.iter().try_fold(0_u64, |sum, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet.wrapping_sub(b'0')))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The two sides of the first top-level `=`, trimmed; no `=` gives no value.
pub fn name_value(part: &[u8]) -> (&[u8], Option<&[u8]>) {
    match find(part, b'=').and_then(|at| part.split_at_checked(at)) {
        Some((name, value)) => (trim(name), Some(trim(value.get(1..).unwrap_or_default()))),
        None => (trim(part), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_brackets_hide_marks() {
        let value = br#""a,\",b" <sip:x@y;p=1,2> ;q=1, <sip:z>"#;
        let found: Vec<_> = commas(value).collect();
        assert_eq!(found, [&br#""a,\",b" <sip:x@y;p=1,2> ;q=1"#[..], b"<sip:z>"]);
    }

    #[test]
    fn numbers_have_digits_alone() {
        for (octets, expected) in
            [(&b"0"[..], Some(0)), (b"70", Some(70)), (b"+4", None), (b"-1", None), (b"", None)]
        {
            assert_eq!(number(octets), expected);
        }
        assert_eq!(number(b"0000000000000000000000070"), Some(70));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
    }
}

//! Stage 6, wishes of a watcher: how often he wants to hear, and in which form.
//!
//! Takes:   a SUBSCRIBE for a location.
//! Gives:   nothing.
//! Keeps:   nothing. Bound: once a second.
//! Refuses: more often than that, and forms that the location service does not have.
//! Sources: RFC 6446 sections 4.1, 5.1 and 6.1; RFC 3856 section 6.5; V-125.

use crate::refusal::Refusal;
use crate::wire::params::Params;
use crate::wire::{MediaType, Message, Name};

/// Checks them.
///
/// # Errors
///
/// [`Refusal::FilterRefused`].
pub fn check(message: &Message) -> Result<(), Refusal> {
    let wishes = message.first(Name::Event).and_then(|value| {
        let params = value.get(memchr::memchr(b';', value)?..)?;
        Params::parse(params)
    });
    let often = wishes.is_some_and(|wishes| {
        ["max-rate", "min-rate", "adaptive-min-rate"]
            .iter()
            .filter_map(|name| wishes.get(name))
            .any(|rate| !is_at_most_one(rate))
    });
    let mut forms = message.values(Name::Accept).peekable();
    let takes = forms.peek().is_none()
        || forms.filter_map(MediaType::parse).any(|form| {
            form.is("application", "pidf+xml") || form.is("application", "*") || form.is("*", "*")
        });
    if often || !takes { Err(Refusal::FilterRefused) } else { Ok(()) }
}

/// A decimal number of at most one.
fn is_at_most_one(rate: &[u8]) -> bool {
    let point = memchr::memchr(b'.', rate).unwrap_or(rate.len());
    let (whole, fraction) = rate.split_at_checked(point).unwrap_or((rate, b""));
    let fraction = fraction.strip_prefix(b".").unwrap_or_default();
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let zero = |text: &[u8]| text.iter().all(|octet| *octet == b'0');
    if whole.is_empty() || rate.len() > 16 || !digits(whole) || !digits(fraction) {
        return false;
    }
    match whole.split_last() {
        Some((b'0', rest)) => zero(rest),
        Some((b'1', rest)) => zero(rest) && zero(fraction),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_up_to_one() {
        for (rate, expected) in [
            ("1", true),
            ("1.0", true),
            ("0.5", true),
            ("00.25", true),
            ("0", true),
            ("1.1", false),
            ("2", false),
            ("10", false),
            ("1000", false),
            ("-1", false),
            (".5", false),
            ("", false),
            ("1e3", false),
        ] {
            assert_eq!(is_at_most_one(rate.as_bytes()), expected, "{rate}");
        }
    }
}

//! Telemetry, redaction: identities in traces, told apart but not told.
//!
//! Takes:   an identity.
//! Gives:   [`Redacted`], which prints as ten hex digits: the same for the same identity in one process.
//! Keeps:   one random key, made at start; so the digits can neither be searched for nor joined across restarts.
//! Refuses: nothing.
//! Sources: SEC_CF 1.1 SEC-001; V-49.

use std::fmt;
use std::hash::Hasher as _;
use std::sync::LazyLock;

use siphasher::sip::SipHasher24;

use crate::clock;

/// An identity on its way into a trace.
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static KEY: LazyLock<[u8; 16]> = LazyLock::new(clock::random);
        let mut hasher = SipHasher24::new_with_key(&KEY);
        hasher.write(self.0.as_bytes());
        write!(f, "~{:010x}", hasher.finish() >> 24)
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_told_apart_but_not_told() {
        let [alice, again, bob] =
            ["sip:alice@example.net", "sip:alice@example.net", "sip:bob@example.net"]
                .map(|identity| Redacted(identity).to_string());
        assert_eq!(alice, again);
        assert_ne!(alice, bob);
        assert_eq!(alice.len(), 11);
        assert!(!alice.contains("alice"));
        assert_eq!(format!("{:?}", Redacted("sip:bob@example.net")), bob);
    }
}

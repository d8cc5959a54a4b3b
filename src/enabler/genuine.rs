//! Stage 6, genuine pushes: what was let through to whom, so that a device can ask before it acts on it.
//!
//! Takes:   pushes as they are delivered, by recipient and body; later a recipient's question.
//! Gives:   whether it was so, once.
//! Keeps:   the hash of each body, [`LIFE`] long, at most as many as callers are remembered.
//! Refuses: what nobody let through, what was asked for before, and pushes of others: all alike.
//! Sources: SEC_CF 1.1 B.7, AUTH-007.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::admission::recent::Recent;
use crate::identity::Principal;
use crate::instant::Instant;

/// How long a push can be asked for.
pub const LIFE: Duration = Duration::from_secs(600);

/// Pushes that were let through.
#[derive(Debug)]
pub struct Genuine(Recent<(Principal, [u8; 32]), Option<Instant>>);

impl Genuine {
    /// At most `max`.
    pub fn new(max: usize) -> Self {
        Self(Recent::new(max, LIFE))
    }

    /// A push with that body goes to `recipient`.
    pub(super) fn note(&self, recipient: &Principal, body: &[u8], now: Instant) {
        let key = (recipient.clone(), Sha256::digest(body).into());
        self.0.with(key, now, |at, _| *at = Some(now));
    }

    /// Whether a push whose body has that SHA-256 went to `recipient`; once for each.
    pub fn spend(&self, recipient: &Principal, body: [u8; 32], now: Instant) -> bool {
        let at = self.0.remove(&(recipient.clone(), body), now).flatten();
        at.is_some_and(|at| now.since(at) < LIFE)
    }

    /// How many can be asked for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Proof;

    /// B.7: one use, for the recipient, for ten minutes.
    #[test]
    fn a_push_is_genuine_once_and_for_its_recipient() {
        let (genuine, start) = (Genuine::new(1024), Instant::START + LIFE);
        let [alice, bob] = ["alice", "bob"].map(|name| Principal::new(Proof::Gba, name));
        let body: [u8; 32] = Sha256::digest(b"connect").into();
        assert!(!genuine.spend(&alice, body, start), "nobody pushed it");
        genuine.note(&alice, b"connect", start);
        assert!(!genuine.spend(&bob, body, start), "another's");
        assert!(!genuine.spend(&alice, Sha256::digest(b"other").into(), start));
        assert!(genuine.spend(&alice, body, start));
        assert!(!genuine.spend(&alice, body, start), "asked for before");
        genuine.note(&alice, b"connect", start);
        assert!(!genuine.spend(&alice, body, start + LIFE), "too late");
    }
}

//! Stage 4, unproved: credentials that were shown while nobody could say whether they were right.
//!
//! Their count is not spent, for it is spent by a right response alone. Whoever saw them could bring them from an address of
//! his own once the bootstrapping server or the store is there again. So what was refused for want of it is not taken
//! later: its user is challenged once more.
//!
//! Takes:   nonces and user names of refused requests; those of right responses.
//! Gives:   whether a right response is taken.
//! Keeps:   hashes of 8 octets of at most [`MAX`] pairs, for the lifetime of a nonce. Beyond that the elder nonces are as good as shown.
//! Refuses: nothing itself. Another node that takes the same nonces knows nothing of these.
//! Sources: RFC 7616 section 3.4 (nc), 5.4 (replay); rules 20 and 21.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::nonce::Seal;
use super::{Authentication, own_rows};
use crate::admission::Recent;
use crate::gate::Gate;
use crate::instant::Now;
use crate::wire::{Credentials, Message};

/// Most pairs that are held.
pub(super) const MAX: usize = 65_536;

/// Pairs of nonce and user name that were shown and not judged.
#[derive(Debug)]
pub(super) struct Unproved {
    shown: Recent<u64, ()>,
}

impl Unproved {
    /// None; each is held for `lifetime` at least, that of a nonce.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { shown: Recent::new(MAX, lifetime) }
    }

    /// Those of `of`, to which none is added.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let beneath = Arc::clone(of);
        let shown = &of.authentication.unproved.shown;
        Self {
            shown: Recent::over(shown, move |key, now| {
                beneath.authentication.unproved.shown.peek(key, now)
            }),
        }
    }

    /// Nonces live for `lifetime` from now on.
    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        self.shown.set_period(lifetime);
    }

    /// Notes a pair, by its hash.
    pub(super) fn note(&self, pair: u64, now: Now) {
        self.shown.with(pair, now.mono, |(), _| ());
    }

    /// Whether that pair was shown, or may have been: its nonce is `age` old, and what was known then was dropped.
    pub(super) fn knows(&self, pair: impl FnOnce() -> u64, age: Duration, now: Now) -> bool {
        if self.shown.is_unused() {
            return false;
        }
        let (found, floor) = self.shown.peek(&pair(), now.mono);
        let floor = Duration::from_micros(floor.as_micros());
        let issued = Duration::from_micros(now.mono.as_micros()).saturating_sub(age);
        found.is_some() || !floor.is_zero() && issued <= floor.saturating_add(SECOND)
    }

    /// Pairs held.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }
}

impl Authentication {
    /// Notes that a request was refused for want of the key or the store that would have shown whether its credentials are
    /// right: they are not taken later, from whomever they come.
    pub fn set_aside(&self, message: &Message, now: Now) {
        let Ok((rows, _)) = own_rows(message, |realm| self.is_own_realm(realm)) else { return };
        for row in &rows {
            if let Some(seal) = self.nonces.open(row.nonce(), now) {
                self.unproved.note(self.pair(&seal, row), now);
            }
        }
    }

    /// Of a nonce and the user who shows it.
    pub(super) fn pair(&self, seal: &Seal, row: &Credentials<'_>) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key());
        hasher.write_u64(seal.number());
        hasher.write(row.username());
        hasher.finish()
    }
}

/// A nonce's age is counted in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

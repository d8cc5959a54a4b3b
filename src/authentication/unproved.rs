//! Stage 4, unproved: credentials that were shown while nobody could say whether they were right.
//!
//! Their count is not spent, for it is spent by a right response alone. Whoever saw them could bring them from an address of
//! his own once the bootstrapping server or the store is there again. So what was refused for want of it is not taken
//! later: its user is challenged once more.
//!
//! Only what can be kept waiting is concerned: responses under bootstrapped keys, and those whose count is spent in a store.
//! Who has an account of ours and a nonce of this node's is never asked again for what others showed.
//!
//! Takes:   nonces of refused requests; those of right responses.
//! Gives:   whether a right response is taken.
//! Keeps:   numbers of at most [`MAX`] nonces, for the lifetime of one, however often each is shown. Beyond that the elder nonces
//!          are as good as shown, which whoever brings so many of ours can bring about: users of such keys are challenged anew.
//! Refuses: nothing itself. Another node that takes the same nonces knows nothing of these.
//! Sources: RFC 7616 section 3.4 (nc), 5.4 (replay); rules 20 and 21.

use std::sync::Arc;
use std::time::Duration;

use super::nonce::Seal;
use super::{Authentication, own_rows};
use crate::admission::Recent;
use crate::gate::Gate;
use crate::instant::Now;
use crate::wire::{Credentials, Message};

/// Most nonces that are held.
pub(super) const MAX: usize = 262_144;

/// Nonces that were shown and not judged.
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

    /// Notes a nonce.
    pub(super) fn note(&self, seal: &Seal, now: Now) {
        self.shown.with(seal.number(), now.mono, |(), _| ());
    }

    /// Whether that nonce was shown, or may have been: what was known when it was issued was dropped.
    pub(super) fn knows(&self, seal: &Seal, now: Now) -> bool {
        if self.shown.is_unused() {
            return false;
        }
        let (found, floor) = self.shown.peek(&seal.number(), now.mono);
        let floor = Duration::from_micros(floor.as_micros());
        let issued = Duration::from_micros(now.mono.as_micros()).saturating_sub(seal.age(now));
        found.is_some() || !floor.is_zero() && issued <= floor.saturating_add(SECOND)
    }

    /// Nonces held.
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
            let Some(seal) = self.nonces.open(row.nonce(), now) else { continue };
            if self.may_wait(&seal, row) {
                self.unproved.note(&seal, now);
            }
        }
    }

    /// Whether somebody else has to be asked before these credentials are known to be right or wrong.
    pub(super) fn may_wait(&self, seal: &Seal, row: &Credentials<'_>) -> bool {
        let settings = self.settings.load();
        seal.is_shared() || settings.naf.as_ref().is_some_and(|naf| naf.is_realm(row.realm()))
    }
}

/// A nonce's age is counted in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

//! Stage 4, ready: what a user's credentials are checked with, made when he first comes and kept.
//!
//! Takes:   how to make it: the caller he is, HA1 of a hash.
//! Gives:   both, the same each time, without an allocation.
//! Keeps:   one caller, and HA1 for each hash that was asked for; zeroed with the key or account it belongs to.
//! Refuses: nothing.
//! Sources: RFC 7616 section 3.4.2.

use std::sync::{Arc, OnceLock};

use super::caller::Caller;
use super::digest::{Ha1, Hash};

/// What was made for one user in one realm.
#[derive(Default)]
pub struct Ready {
    caller: OnceLock<Arc<Caller>>,
    ha1: [OnceLock<Box<Ha1>>; 3],
}

impl Ready {
    /// The caller.
    pub fn caller(&self, make: impl FnOnce() -> Caller) -> Arc<Caller> {
        Arc::clone(self.caller.get_or_init(|| Arc::new(make())))
    }

    /// The caller, if he was made.
    pub(super) fn known_caller(&self) -> Option<&Arc<Caller>> {
        self.caller.get()
    }

    /// Its twin, which makes HA1 for itself.
    pub(super) fn twin(&self) -> Self {
        let twin = Self::default();
        if let Some(caller) = self.known_caller() {
            // It is empty.
            let _ = twin.caller.set(caller.twin());
        }
        twin
    }

    /// HA1 of `hash`.
    pub fn ha1(&self, hash: Hash, make: impl FnOnce() -> Ha1) -> Ha1 {
        match self.ha1.get(hash as usize) {
            Some(known) => Ha1::clone(known.get_or_init(|| Box::new(make()))),
            None => make(),
        }
    }
}

/// A copy belongs to another key or account, and makes its own.
impl Clone for Ready {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready(..)")
    }
}

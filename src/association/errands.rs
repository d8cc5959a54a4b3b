//! Stage 5, errands: what stage 7 is to do for bridged calls of which neither end speaks.
//!
//! Takes:   calls that ended here, calls that are due to be refreshed by us, word of what was taken back.
//! Gives:   [`Errand`]s, once each; a number that tells each worker whether requests under way may be of no use now.
//! Keeps:   an errand for each such call, so that `association.max` bounds them; a bell.
//! Refuses: nothing.
//! Sources: RFC 3261 section 15; RFC 4028 sections 7.2 and 10; `dialog-association` sections 11 and 13.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::bridge::Bridge;

/// Why a call ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nobody spoke of it for too long.
    Silent,
    /// No flow led to its UE any more, and none came.
    Away,
    /// The key that it stood on ended, and no other came.
    KeyOver,
    /// What it stood on was taken back.
    Revoked,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errand {
    /// Both ends are to be told that the call is over.
    End(Why),
    /// Both ends are to be asked whether it is not.
    Refresh,
}

/// What wakes who runs errands.
type Bell = Box<dyn Fn() + Send + Sync>;

/// Errands that wait.
#[derive(Default)]
pub(super) struct Errands {
    waiting: Mutex<Vec<(Arc<Bridge>, Errand)>>,
    /// How many wait: asked for at each turn of a worker.
    count: AtomicUsize,
    /// How often requests were taken back that might have formed dialogs.
    taken_back: AtomicU64,
    bell: OnceLock<Bell>,
}

impl std::fmt::Debug for Errands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errands").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Errands {
    /// Adds one, where there is a bridge.
    pub(super) fn add(&self, bridge: Option<Arc<Bridge>>, errand: Errand) {
        if let Some(bridge) = bridge {
            self.count.fetch_add(1, Ordering::AcqRel);
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((bridge, errand));
        }
    }

    /// All that wait.
    pub(super) fn take(&self) -> Vec<(Arc<Bridge>, Errand)> {
        if !self.are_due() {
            return Vec::new();
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.fetch_sub(waiting.len(), Ordering::AcqRel);
        std::mem::take(&mut waiting)
    }

    /// Whether any wait.
    pub(super) fn are_due(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Notes that requests were taken back which might have formed dialogs.
    pub(super) fn take_back(&self) {
        self.taken_back.fetch_add(1, Ordering::AcqRel);
    }

    /// How often that happened.
    pub(super) fn taken_back(&self) -> u64 {
        self.taken_back.load(Ordering::Acquire)
    }

    /// Says who is to be woken when there is something to do that no turn of a worker brought.
    pub(super) fn hang(&self, bell: Bell) {
        // There is one edge to a table.
        let _ = self.bell.set(bell);
    }

    /// Wakes them.
    pub(super) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }
}

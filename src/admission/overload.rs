//! Stage 3, overload: what is let go first when there is more work than time.
//!
//! Takes:   the shell's word on how far behind it is.
//! Gives:   [`Load`], read once for each message.
//! Keeps:   one octet.
//! Refuses: first what proves nothing, then new dialogs; never requests inside dialogs.
//! Sources: RFC 3261 section 21.5.4; V-92 of the conformance tests.

use std::sync::atomic::{AtomicU8, Ordering};

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// All of it can be done.
    Normal,
    /// Requests without credentials are dropped.
    High,
    /// New dialogs and registrations are answered 503 too.
    Severe,
}

/// The load as the workers see it.
#[derive(Debug, Default)]
pub struct Overload(AtomicU8);

impl Overload {
    /// Sets the load.
    pub fn set(&self, load: Load) {
        let level = match load {
            Load::Normal => 0,
            Load::High => 1,
            Load::Severe => 2,
        };
        self.0.store(level, Ordering::Relaxed);
    }

    /// The load now.
    pub fn load(&self) -> Load {
        match self.0.load(Ordering::Relaxed) {
            0 => Load::Normal,
            1 => Load::High,
            _ => Load::Severe,
        }
    }
}

//! Stage 5, settings: what an operator may change, also while calls are up.
//!
//! Takes:   nothing.
//! Gives:   [`Settings`], each with its default.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: rules 25 to 28.

use std::time::Duration;

/// What stage 5 is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most dialogs, ended ones included.
    pub max: usize,
    /// Most dialogs of one caller.
    pub max_per_caller: u32,
    /// Most early dialogs of one INVITE.
    pub early_max: usize,
    /// A dialog without a verified request for so long is over.
    pub max_idle: Duration,
    /// The longest subscription to a location: longer ones end by then.
    pub location_max: Duration,
    /// Whether rules are only counted (`observe`) but for those without which there is no dialog.
    pub observe: bool,
    /// Rules that are enforced although others are observed.
    pub enforce: Vec<u8>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max: 250_000,
            max_per_caller: 64,
            early_max: 16,
            max_idle: Duration::from_secs(12 * 3600),
            location_max: Duration::from_secs(24 * 3600),
            observe: false,
            enforce: Vec::new(),
        }
    }
}

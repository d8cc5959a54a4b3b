//! Stage 5, settings: what an operator may change, also while calls are up.
//!
//! Takes:   nothing.
//! Gives:   [`Settings`], each with its default.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: rules 17, 23, 25 to 28 and 30; `dialog-association` sections 8.5, 10 and 11.

use std::sync::Arc;
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
    /// Whether no location is told of while its watcher's key has to be made anew.
    pub location_strict: bool,
    /// How long an owner to whom no flow leads may be away.
    pub grace: Duration,
    /// How long before its end a key is asked to be made anew, at least.
    pub rekey_window: Duration,
    /// How long a dialog waits for a new key of its owner, at most.
    pub rekey_deadline: Duration,
    /// Event packages that the core may notify of without a subscription, in small letters.
    pub unsolicited: Vec<String>,
    /// Accounts, and beginnings of User-Agent, whose BYE needs no more than the flow that they registered from.
    pub bye_at_level_1: Vec<String>,
    /// Whether the owner of a UE's leg is his principal and his instance, and not the principal alone.
    pub same_instance: bool,
    /// Whether rules are only counted (`observe`) but for those without which there is no dialog.
    pub observe: bool,
    /// Rules that are enforced although others are observed.
    pub enforce: Vec<u8>,
    /// Names of peer groups, by place: what tokens know them by. One without a name is known by its place.
    pub groups: Vec<Arc<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max: 250_000,
            max_per_caller: 64,
            early_max: 16,
            max_idle: Duration::from_secs(12 * 3600),
            location_max: Duration::from_secs(24 * 3600),
            location_strict: true,
            grace: Duration::from_secs(32),
            rekey_window: Duration::from_secs(60),
            rekey_deadline: Duration::from_secs(1800),
            unsolicited: vec!["message-summary".into()],
            bye_at_level_1: Vec::new(),
            same_instance: false,
            observe: false,
            enforce: Vec::new(),
            groups: Vec::new(),
        }
    }
}

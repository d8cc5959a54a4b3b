//! Configuration, association: `[association]`.
//!
//! Takes:   the table as written.
//! Gives:   bounds, times and modes, each with the default that stands here.
//! Keeps:   nothing.
//! Refuses: bounds that would not work, rules that cannot be enforced alone.
//! Sources: rules 1 to 32.

use std::time::Duration;

use super::raw::{Section, Spot};

/// How dialogs are held to their owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Whether rules are only counted, but for those without which there is no dialog.
    pub observe: bool,
    /// Rules that are enforced although others are observed.
    pub enforce: Vec<u8>,
    /// Most dialogs.
    pub max: usize,
    /// Most dialogs of one caller.
    pub max_per_caller: u32,
    /// Most early dialogs of one INVITE.
    pub early_max: usize,
    /// A dialog without a verified request for so long is over.
    pub max_idle: Duration,
    /// How long an owner without a flow may be away.
    pub grace: Duration,
    /// How long before its end a key is asked to be renewed, at least.
    pub rekey_window: Duration,
    /// How long a dialog waits for a new key, at most.
    pub rekey_deadline: Duration,
    /// Whether a dialog is held to the instance that it was made with, beside its owner.
    pub same_instance: bool,
    /// Whether evidence on a secure flow counts for later requests inside dialogs.
    pub secure_flow_anchor: bool,
    /// Most principals of one secure flow.
    pub secure_flow_max_principals: usize,
}

/// Rules that `association.enforce` may name: those that observing would leave out.
const OBSERVED: [u8; 10] = [3, 4, 5, 7, 9, 14, 26, 29, 30, 32];

/// Reads `[association]`.
pub(super) fn read(root: &mut Section<'_>) -> Association {
    let mut section = root.table("association");
    let notes = section.notes();
    let place = section.place_of("mode");
    let observe = section.word("mode", &[("enforce", false), ("observe", true)]);
    if observe {
        let why = "requests inside dialogs that break a rule are counted and let pass";
        notes.warn(&place, "only observes", why, "mode = \"enforce\"");
    }
    let enforce = section.maybe::<Vec<u8>>("enforce").map(|Spot { value, place }| {
        if let Some(rule) = value.iter().find(|rule| !OBSERVED.contains(rule)) {
            let what = format!("holds {rule}, which is not observed");
            let why = "rules 3, 4, 5, 7, 9, 14, 26, 29, 30 and 32 are; all others are enforced in both modes";
            notes.problem(&place, &what, why, "[4, 5, 26]");
        }
        value
    });
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let association = Association {
        observe,
        enforce: enforce.unwrap_or_default(),
        max: section.within("max", 250_000, 16..=10_000_000),
        max_per_caller: section.within("max_per_caller", 64, 1..=100_000),
        early_max: section.within("early_max", 16, 1..=1000),
        max_idle: section.within("max_idle", hour * 12, hour / 60..=hour * 24 * 30),
        grace: section.within("grace", second * 32, second..=hour),
        rekey_window: section.within("rekey_window", second * 60, second..=hour),
        rekey_deadline: section.within("rekey_deadline", hour / 2, second..=hour * 24),
        same_instance: section.or("same_instance", false),
        secure_flow_anchor: section
            .word("digest_anchor", &[("secure-flow", true), ("request", false)]),
        secure_flow_max_principals: section.within("secure_flow_max_principals", 4, 1..=64),
    };
    section.finish();
    association
}

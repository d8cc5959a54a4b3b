//! `sipward serve`: when our own certificates end.
//!
//! Takes:   the configuration in force, and the time.
//! Gives:   each certificate with its end; once a day, which of them end within 14 days.
//! Keeps:   when it was told last.
//! Refuses: nothing.
//! Sources: none.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::instant::{Instant, WallTime};

/// Within so many seconds of its end, a certificate is told of: 14 days.
const SOON: u64 = 14 * 86_400;
/// How often.
const EVERY: Duration = Duration::from_secs(86_400);

/// A certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The listener that shows it; `peers` if we show it to those we dial, `bsf` on Ub.
    pub(super) shown_by: Arc<str>,
    /// Its place among those of the listener, the first at 0.
    pub(super) at: usize,
    /// The last second of its validity.
    pub(super) not_after: WallTime,
}

impl Ending {
    /// How many seconds are left at `now`.
    pub(super) fn left(&self, now: WallTime) -> u64 {
        self.not_after.as_unix().saturating_sub(now.as_unix())
    }
}

/// All certificates of ours.
pub(super) fn of(config: &Config) -> Vec<Ending> {
    let of_listeners = config.listeners.iter().flat_map(|listener| {
        let shown = listener.tls.iter().flat_map(|tls| tls.spec.certificates.iter().enumerate());
        shown.map(|(at, certificate)| (Arc::clone(&listener.name), at, certificate))
    });
    let dialling = config.dialling.iter().filter_map(|dialling| dialling.shows.as_deref());
    let of_peers = dialling.map(|certificate| (Arc::from("peers"), 0, certificate));
    let ub = config.bsf.iter().filter_map(|bsf| bsf.tls.as_ref());
    let of_ub = ub.flat_map(|tls| tls.spec.certificates.iter().enumerate());
    let of_ub = of_ub.map(|(at, certificate)| (Arc::from("bsf"), at, certificate));
    of_listeners
        .chain(of_peers)
        .chain(of_ub)
        .filter_map(|(shown_by, at, certificate)| {
            let not_after = certificate.names().ok()?.not_after;
            Some(Ending { shown_by, at, not_after })
        })
        .collect()
}

/// Tells of certificates that end soon, once a day.
#[derive(Debug, Default)]
pub(super) struct Reminder(Option<Instant>);

impl Reminder {
    /// What is to be told at `now`.
    pub(super) fn due(&mut self, config: &Config, now: (Instant, WallTime)) -> Vec<Ending> {
        let (mono, wall) = now;
        if self.0.is_some_and(|last| mono.since(last) < EVERY) {
            return Vec::new();
        }
        self.0 = Some(mono);
        of(config).into_iter().filter(|ending| ending.left(wall) < SOON).collect()
    }
}

//! `sipward serve`, pushes: what the page of metrics says of associations that are pushed to UEs.
//!
//! Takes:   what the workers share.
//! Gives:   how many associations stand where, and what happened so far.
//! Keeps:   nothing.
//! Refuses: nothing; an edge that has none says nothing of them.
//! Sources: SEC_CF 1.1 SEC-004.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;
use crate::forward::Shared;
use crate::instant::Now;
use crate::keys::push::naf::{Noted, State};
use crate::telemetry::Metrics;

/// Has the page tell of them.
pub(super) fn show(metrics: &Metrics, shared: &Shared) {
    let Some(pushes) = &shared.pushes else { return };
    let (about, name) = ("Associations pushed to UEs", "sipward_push_associations");
    let states =
        [("pending", State::Pending), ("confirmed", State::Confirmed), ("expired", State::Expired)];
    for (label, state) in states {
        let keys = Arc::clone(&pushes.keys);
        metrics.gauge(name, about, &[("state", label)], move || {
            keys.count(state, clock::now()) as u64
        });
    }
    type Count = fn(&Noted) -> &AtomicU64;
    let counts: [(_, Count); 5] = [
        ("made", |noted| &noted.made),
        ("confirmed", |noted| &noted.confirmed),
        ("failed", |noted| &noted.failed),
        ("wrapped", |noted| &noted.wrapped),
        ("refused", |noted| &noted.refused),
    ];
    let (about, name) = ("What became of pushes without a secure flow", "sipward_push_total");
    for (event, count) in counts {
        let keys = Arc::clone(&pushes.keys);
        metrics.count(name, about, &[("event", event)], move || {
            count(keys.noted()).load(Ordering::Relaxed)
        });
    }
}

/// Forgets those that have expired a while ago.
pub(super) fn sweep(shared: &Shared, now: Now) {
    if let Some(pushes) = &shared.pushes {
        pushes.keys.sweep(now);
    }
}

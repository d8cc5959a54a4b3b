//! Stage 6, rates: how much of a class one caller may send, and one dialog or one UE be sent.
//!
//! Takes:   a payer, what is counted, its rate, the time.
//! Gives:   whether it fits; whether a thing was here before.
//! Keeps:   a bucket for each payer and thing counted, and a note of what may be there once, each bounded.
//! Refuses: what does not fit.
//! Sources: V-123, V-128 of the conformance tests.

use std::time::Duration;

use smallvec::SmallVec;

use super::{Class, Family};
use crate::admission::{Bucket, Rate, Recent};
use crate::identity::Principal;
use crate::instant::Now;

/// How long a thing that may be there once is remembered, at least.
pub const ONCE: Duration = Duration::from_secs(600);

/// Who pays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A caller, or the UE that something is for.
    Caller(Principal),
    /// A dialog, by its number.
    Dialog(u64),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meter {
    /// Requests of a class, or of several that share one count.
    Requests(Class),
    /// Requests of a family that may form dialogs.
    Dialogs(Family),
    /// Disposition notifications.
    Dispositions,
    /// Questions for a location.
    Fetches,
    /// What is sent to a UE, of a class.
    Deliveries(Class),
}

/// What one request pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toll {
    /// Of what.
    pub meter: Meter,
    /// How many there may be.
    pub rate: Rate,
}

/// The tolls of one request.
pub type Tolls = SmallVec<[Toll; 2]>;

/// All counts.
#[derive(Debug)]
pub(super) struct Counts {
    buckets: Recent<(Payer, Meter), Bucket>,
    once: Recent<Box<[u8]>, bool>,
}

impl Counts {
    /// At most `max` payers and things are remembered, each.
    pub(super) fn new(max: usize) -> Self {
        let buckets = Recent::new(max, Duration::from_secs(120));
        Self { buckets, once: Recent::new(max, ONCE) }
    }

    /// Takes one, if it fits.
    pub(super) fn pay(&self, payer: &Payer, toll: Toll, now: Now) -> bool {
        let key = (payer.clone(), toll.meter);
        self.buckets.with(key, now.mono, |bucket, _| bucket.take(toll.rate, now.mono))
    }

    /// Whether `thing` was not here before; it was from now on.
    pub(super) fn first(&self, thing: Box<[u8]>, now: Now) -> bool {
        self.once.with(thing, now.mono, |seen, _| !std::mem::replace(seen, true))
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.buckets.len().saturating_add(self.once.len())
    }
}

//! Stage 6, rates: how much of a class one caller may send, and one dialog or one UE be sent.
//!
//! Takes:   a payer, what is counted, its rate, the time.
//! Gives:   whether it fits; whether a thing was here before; how often a caller tried what he may not dial, or not often.
//! Keeps:   a bucket for each payer and thing counted, such attempts of each caller, and a note of what may be there once, each
//!          bounded.
//! Refuses: what does not fit.
//! Sources: V-123, V-128, V-134.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::numbers::{Attempts, Pace};
use super::{Class, Family};
use crate::admission::{Bucket, Rate, Recent};
use crate::gate::Gate;
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
    /// Of rates by the hour: forgotten sooner, they would begin anew.
    slow: Recent<(Payer, Meter), Bucket>,
    once: Recent<Box<[u8]>, bool>,
    attempts: Recent<Principal, Attempts>,
}

impl Counts {
    /// At most `max` payers and things are remembered, each.
    pub(super) fn new(max: usize) -> Self {
        let buckets = |period| Recent::new(max, period);
        let (once, attempts) = (Recent::new(max, ONCE), Recent::new(max, SLOW));
        Self { buckets: buckets(QUICK), slow: buckets(SLOW), once, attempts }
    }

    /// Counts over those of `of`, which stay as they are.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let Self { buckets, slow, once, attempts } = &of.enablers.counts;
        let [one, two, three, four] = [(); 4].map(|()| Arc::clone(of));
        Self {
            buckets: Recent::over(buckets, move |key, now| {
                one.enablers.counts.buckets.peek(key, now)
            }),
            slow: Recent::over(slow, move |key, now| two.enablers.counts.slow.peek(key, now)),
            once: Recent::over(once, move |key, now| three.enablers.counts.once.peek(key, now)),
            attempts: Recent::over(attempts, move |key, now| {
                four.enablers.counts.attempts.peek(key, now)
            }),
        }
    }

    /// Takes one, if it fits.
    pub(super) fn pay(&self, payer: &Payer, toll: Toll, now: Now) -> bool {
        let key = (payer.clone(), toll.meter);
        let buckets = if toll.rate.period > QUICK { &self.slow } else { &self.buckets };
        buckets.with(key, now.mono, |bucket, _| bucket.take(toll.rate, now.mono))
    }

    /// Whether `thing` was not here before; it was from now on.
    pub(super) fn first(&self, thing: Box<[u8]>, now: Now) -> bool {
        self.once.with(thing, now.mono, |seen, _| !std::mem::replace(seen, true))
    }

    /// Counts an attempt of a caller at a number that is refused or costly.
    pub(super) fn attempt(&self, caller: &Principal, bound: Rate, now: Now) -> Pace {
        let another = |attempts: &mut Attempts, _| attempts.another(bound, now.mono);
        self.attempts.with(caller.clone(), now.mono, another)
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        let counted = [self.buckets.len(), self.slow.len(), self.attempts.len()];
        self.once.len().saturating_add(counted.iter().sum())
    }
}

/// How long buckets of most rates are remembered, at least.
const QUICK: Duration = Duration::from_secs(120);
/// And those of rates by the hour.
const SLOW: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Proof;
    use crate::instant::{Instant, WallTime};

    fn start() -> Now {
        Now { mono: Instant::START, wall: WallTime::from_unix(1_790_000_000) }
    }

    fn toll(rate: Rate) -> Toll {
        Toll { meter: Meter::Requests(Class::CpmPager), rate }
    }

    #[test]
    fn each_payer_has_a_count_of_his_own_and_the_table_its_bound() {
        let (counts, now) = (Counts::new(640), start());
        let rate = Rate { burst: 2, ..Rate::per_minute(2) };
        let payer = |number: u32| Payer::Caller(Principal::new(Proof::Account, number.to_string()));
        for fits in [true, true, false] {
            assert_eq!(counts.pay(&payer(0), toll(rate), now), fits);
        }
        assert!(counts.pay(&payer(1), toll(rate), now), "another caller");
        let fetch = Toll { meter: Meter::Fetches, rate };
        assert!(counts.pay(&payer(0), fetch, now), "something else");
        for number in 0..10_000 {
            counts.pay(&payer(number), toll(rate), now);
            counts.first(number.to_be_bytes().into(), now);
        }
        assert!(counts.len() <= 3 * 640, "{} are remembered", counts.len());
    }

    #[test]
    fn a_rate_by_the_hour_is_remembered_for_one() {
        let (counts, start) = (Counts::new(640), start());
        let hourly = Rate { count: 1, period: Duration::from_secs(3600), burst: 1 };
        for (minutes, fits) in [(0, true), (10, false), (59, false), (61, true)] {
            let now = start + Duration::from_secs(minutes * 60);
            assert_eq!(counts.pay(&Payer::Dialog(1), toll(hourly), now), fits, "{minutes} min");
        }
    }

    #[test]
    fn a_thing_is_there_once_in_ten_minutes() {
        let (counts, start) = (Counts::new(640), start());
        assert!(counts.first(b"a".as_slice().into(), start));
        assert!(!counts.first(b"a".as_slice().into(), start + ONCE));
        assert!(counts.first(b"b".as_slice().into(), start));
    }
}

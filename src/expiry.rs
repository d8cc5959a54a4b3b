//! Expiry: when entries of tables that all workers share end, each with one timer.
//!
//! 1. An entry that is made gets a timer. Where its end moves away, the timer stays; it looks too early once, and is
//!    set anew. Where its end draws nearer, the timer is moved; where the entry goes, the timer goes with it.
//! 2. What fires names its entry. Its table asks [`Timer::fired`], since another may have been set meanwhile.
//! 3. A table's lock may be held while a timer is set, never the other way round: nothing is locked under a wheel.
//!
//! Takes:   ends, as entries get them.
//! Gives:   the names of those whose end may have come; the earliest end, for one atomic read.
//! Keeps:   one place on a wheel for each timer that is set, in parts with a lock of their own; a timer that was
//!          cancelled leaves nothing. Bound: that of the tables it serves.
//! Refuses: nothing. What is due comes with the first [`Expiry::expire`] that is made 250 ms or more after its time.
//! Sources: none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::instant::Instant;
use crate::wheel::{TimerKey, Wheel};

/// Ends of entries, each named by a `T`.
#[derive(Debug)]
pub struct Expiry<T> {
    parts: Vec<Mutex<Wheel<T, TICK>>>,
    /// In microseconds; nothing is due before.
    earliest: AtomicU64,
}

/// The one timer of an entry, which the entry keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    at: Instant,
    key: Option<TimerKey>,
}

impl Timer {
    /// Whether a timer of this entry that fired by `now` is the one that is set; none is, from then on.
    pub fn fired(&mut self, now: Instant) -> bool {
        let fired = self.at <= now;
        if fired {
            self.key = None;
        }
        fired
    }
}

impl<T> Default for Expiry<T> {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|number| Mutex::new(Wheel::numbered(number))).collect(),
            earliest: AtomicU64::new(u64::MAX),
        }
    }
}

impl<T> Expiry<T> {
    /// Sees to it that `item` comes back when `at` has come, or before.
    pub fn set(&self, timer: &mut Timer, at: Instant, item: T) {
        if timer.key.is_some() && timer.at <= at {
            return;
        }
        self.cancel(timer);
        timer.at = at;
        timer.key = self.part(part_of(at)).map(|mut wheel| wheel.insert(at, item));
        // After the wheel has it: see `expire`.
        let tick = at.as_micros().div_ceil(TICK).saturating_mul(TICK);
        self.earliest.fetch_min(tick, Ordering::AcqRel);
    }

    /// Takes a timer off, if it is set.
    pub fn cancel(&self, timer: &mut Timer) {
        let Some(key) = timer.key.take() else { return };
        if let Some(mut wheel) = self.part(key.wheel()) {
            wheel.cancel(key);
        }
    }

    /// What is due, `most` at most; the next call goes on. Costs one atomic read while nothing is.
    pub fn expire(&self, now: Instant, most: usize) -> SmallVec<[T; 16]> {
        let mut due = SmallVec::new();
        if self.earliest.load(Ordering::Acquire) > now.as_micros() {
            return due;
        }
        // Whoever sets a timer from here on either comes before us at its wheel, and we see it there; or comes after
        // us, and so lowers what we raise here.
        self.earliest.store(u64::MAX, Ordering::Release);
        let mut earliest = u64::MAX;
        for part in &self.parts {
            let mut wheel = lock(part);
            wheel.expire_some(now, most.saturating_sub(due.len()), |item| due.push(item));
            earliest = earliest.min(wheel.next().map_or(u64::MAX, Instant::as_micros));
        }
        self.earliest.fetch_min(earliest, Ordering::AcqRel);
        due
    }

    /// When [`Expiry::expire`] is to be called next; one atomic read.
    pub fn next(&self) -> Option<Instant> {
        let earliest = self.earliest.load(Ordering::Acquire);
        (earliest != u64::MAX).then(|| Instant::from_micros(earliest))
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&self, number: u16) -> Option<MutexGuard<'_, Wheel<T, TICK>>> {
        self.parts.get(usize::from(number)).map(lock)
    }
}

fn lock<T>(part: &Mutex<Wheel<T, TICK>>) -> MutexGuard<'_, Wheel<T, TICK>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Entries made at different times fall on different parts.
fn part_of(at: Instant) -> u16 {
    let spread = at.as_micros().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
    u16::try_from(spread).unwrap_or(0)
}

/// One for each value of the four bits that [`part_of`] gives.
const PARTS: u16 = 16;
/// Ends are minutes to hours away: a wheel turns in 17 minutes, and wakes a worker four times a second at most.
const TICK: u64 = 250_000;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_later_end_leaves_the_timer_and_an_earlier_one_moves_it() {
        let (expiry, mut timer, start) = (Expiry::default(), Timer::default(), Instant::START);
        expiry.set(&mut timer, start + SECOND * 10, 'a');
        expiry.set(&mut timer, start + SECOND * 3600, 'a');
        assert_eq!((expiry.len(), expiry.next()), (1, Some(start + SECOND * 10)));
        expiry.set(&mut timer, start + SECOND * 5, 'a');
        assert_eq!(expiry.len(), 1);
        assert!(expiry.expire(start + SECOND * 4, 10).is_empty());
        assert_eq!(expiry.expire(start + SECOND * 5, 10).as_slice(), ['a']);
        assert!(timer.fired(start + SECOND * 5));
        assert_eq!((expiry.len(), expiry.next()), (0, None));
        expiry.set(&mut timer, start + SECOND * 9, 'a');
        assert!(!timer.fired(start + SECOND * 5), "that was the one before");
        expiry.cancel(&mut timer);
        assert!(expiry.is_empty());
    }

    #[test]
    fn a_turn_hands_out_so_much_and_no_more() {
        let (expiry, at) = (Expiry::default(), Instant::START + SECOND);
        let mut timers = [Timer::default(); 1000];
        for (number, timer) in timers.iter_mut().enumerate() {
            expiry.set(timer, at + Duration::from_micros(number as u64), number);
        }
        let now = at + SECOND;
        let mut seen = Vec::new();
        for turn in 0..10 {
            assert!(expiry.next().is_some_and(|next| next <= now), "turn {turn}");
            let due = expiry.expire(now, 100);
            assert_eq!(due.len(), 100);
            seen.extend(due);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        assert!(expiry.expire(now, 100).is_empty() && expiry.next().is_none());
    }

    #[test]
    fn threads_lose_nothing_to_each_other() {
        const EACH: usize = 20_000;
        let expiry = Expiry::default();
        let fired = Mutex::new(vec![0_u8; 4 * EACH]);
        let drain = |now: Instant| {
            let due = expiry.expire(now, 64);
            let mut fired = fired.lock().expect("nobody panics");
            due.iter().for_each(|item: &usize| fired[*item] += 1);
            due.len()
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (expiry, drain) = (&expiry, &drain);
                scope.spawn(move || {
                    for (number, after) in (0..EACH).zip((0..7).cycle()) {
                        let now = Instant::from_micros(number as u64 * 5_000);
                        let mut timer = Timer::default();
                        let at = now + SECOND * after;
                        expiry.set(&mut timer, at, thread * EACH + number);
                        if number % 3 == 0 {
                            drain(now);
                        }
                    }
                });
            }
        });
        let end = Instant::from_micros(EACH as u64 * 5_000) + SECOND * 10;
        while expiry.next().is_some() {
            drain(end);
        }
        assert!(expiry.is_empty());
        assert!(fired.into_inner().expect("nobody panics").iter().all(|times| *times == 1));
    }

    proptest! {
        /// Whatever ends move where, each entry is looked at when its end has come, and the wheels hold one timer each.
        #[test]
        fn each_entry_ends_in_time(steps in prop::collection::vec((0..20_usize, 0..5_000_u64, 0..2_000_u64), 1..200)) {
            let expiry = Expiry::default();
            let mut entries: HashMap<usize, (Instant, Timer)> = HashMap::new();
            let mut now = Instant::START;
            for (name, ahead, wait) in steps {
                let (end, timer) = entries.entry(name).or_default();
                *end = now + SECOND * u32::try_from(ahead).unwrap_or(0);
                expiry.set(timer, *end, name);
                now = now + SECOND * u32::try_from(wait).unwrap_or(0);
                loop {
                    let due = expiry.expire(now, 3);
                    if due.is_empty() {
                        break;
                    }
                    for name in due {
                        let Some((end, timer)) = entries.get_mut(&name) else { continue };
                        if !timer.fired(now) {
                            continue;
                        }
                        if *end > now {
                            let end = *end;
                            expiry.set(timer, end, name);
                        } else {
                            entries.remove(&name);
                        }
                    }
                }
                prop_assert!(entries.values().all(|(end, _)| *end > now));
                prop_assert_eq!(expiry.len(), entries.len());
            }
        }
    }
}

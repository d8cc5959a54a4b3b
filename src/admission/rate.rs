//! Stage 3, rates: a token bucket, the only kind of rate limit there is here.
//!
//! Takes:   a [`Rate`] and the time.
//! Gives:   whether one more fits.
//! Keeps:   sixteen octets a bucket.
//! Refuses: what does not fit, by returning false.
//! Sources: none.

use std::time::Duration;

use crate::instant::Instant;

/// So many in a period, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many fit into `period` in the long run.
    pub count: u32,
    /// The period.
    pub period: Duration,
    /// How many may come at once.
    pub burst: u32,
}

impl Rate {
    /// `count` a second, as many at once.
    pub const fn per_second(count: u32) -> Self {
        Self { count, period: Duration::from_secs(1), burst: count }
    }

    /// `count` a minute, as many at once.
    pub const fn per_minute(count: u32) -> Self {
        Self { count, period: Duration::from_secs(60), burst: count }
    }

    /// The time that one takes.
    fn each(self) -> u64 {
        let micros = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX);
        micros.checked_div(u64::from(self.count)).unwrap_or(u64::MAX)
    }
}

/// One bucket. It holds the time up to which it is spoken for (GCRA), and the latest time that it was told: workers share
/// it, and one that the system did not run for a while still has the time at which its turn began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    until: Instant,
    seen: Instant,
}

impl Bucket {
    /// Takes one if it fits.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let each = Duration::from_micros(rate.each());
        let now = self.seen.max(now);
        self.seen = now;
        let until = self.until.max(now) + each;
        let allowed = each.saturating_mul(rate.burst.max(1));
        if until.since(now) > allowed {
            return false;
        }
        self.until = until;
        true
    }

    /// Puts one back.
    pub fn give_back(&mut self, rate: Rate) {
        let micros = self.until.as_micros().saturating_sub(rate.each());
        self.until = Instant::from_micros(micros);
    }

    /// Whether nothing is left, without taking one.
    pub fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let mut copy = *self;
        !copy.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { count: 10, period: Duration::from_secs(1), burst: 3 };
        let mut bucket = Bucket::default();
        let mut taken_at = |millis: u64| bucket.take(rate, Instant::from_micros(millis * 1000));
        let took: Vec<bool> = [0, 0, 0, 0, 99, 100, 150, 200].map(&mut taken_at).to_vec();
        assert_eq!(took, [true, true, true, false, false, true, false, true]);
    }

    /// What another worker took two seconds later is not held against one whose turn began before.
    #[test]
    fn whose_time_is_old_finds_what_the_latest_left() {
        let rate = Rate { burst: 3, ..Rate::per_second(10) };
        let mut bucket = Bucket::default();
        let mut taken_at = |millis: u64| bucket.take(rate, Instant::from_micros(millis * 1000));
        let took: Vec<bool> = [2000, 0, 0, 0, 2000, 2100].map(&mut taken_at).to_vec();
        assert_eq!(took, [true, true, true, false, false, true]);
    }
}

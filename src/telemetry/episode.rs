//! Telemetry, episodes: a log says that trouble began and that it ended, whatever happened between.
//!
//! Takes:   the word that something happened, from any thread, and the time.
//! Gives:   whether that is news; and, once it has been quiet for long enough, how much it was.
//! Keeps:   three numbers.
//! Refuses: nothing; a flood costs one addition each.
//! Sources: V-11, V-72.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::instant::Instant;

/// Silence after which an episode is over.
pub const QUIET: Duration = Duration::from_secs(30);

/// One kind of trouble.
#[derive(Debug, Default)]
pub struct Episode {
    /// When it began, in microseconds and one; 0 while there is none.
    began: AtomicU64,
    last: AtomicU64,
    count: AtomicU64,
}

/// An episode that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// From the first to the last.
    pub lasted: Duration,
    /// How often it happened.
    pub count: u64,
}

impl Episode {
    /// Notes that it happened; whether an episode begins with that.
    pub fn happened(&self, now: Instant) -> bool {
        self.last.fetch_max(now.as_micros(), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let mark = now.as_micros().saturating_add(1);
        self.began.load(Ordering::Relaxed) == 0
            && self.began.compare_exchange(0, mark, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The episode, if it is over: called every few seconds by one thread.
    pub fn ended(&self, now: Instant) -> Option<Ended> {
        let began = self.began.load(Ordering::Relaxed);
        let last = Instant::from_micros(self.last.load(Ordering::Relaxed));
        if began == 0 || now.since(last) < QUIET {
            return None;
        }
        let count = self.count.swap(0, Ordering::Relaxed);
        self.began.store(0, Ordering::Relaxed);
        let lasted = last.since(Instant::from_micros(began.saturating_sub(1)));
        Some(Ended { lasted, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_two_lines() {
        let episode = Episode::default();
        let at = |millis: u64| Instant::from_micros(millis * 1000);
        let news = (0..10_000).filter(|millis| episode.happened(at(*millis))).count();
        assert_eq!(news, 1, "it begins once");
        assert_eq!(episode.ended(at(39_998)), None, "29.999 s of silence");
        let whole = Ended { lasted: Duration::from_millis(9_999), count: 10_000 };
        assert_eq!(episode.ended(at(39_999)), Some(whole));
        assert_eq!(episode.ended(at(80_000)), None, "told once");
        assert!(episode.happened(at(90_000)), "the next one begins anew");
    }
}

//! Stage 5, the owner's key: which of his keys a dialog stands on, and until when.
//!
//! Takes:   keys as the owner of a leg shows them.
//! Gives:   whether a key is evidence in the dialog; when the dialog has to have another.
//! Keeps:   two names of keys, by keyed hash, and two times.
//! Refuses: the key before the present one, once requests that were under way with it have come: rule 17.
//! Sources: rules 17 and 18; TS 33.220 clause 4.3.2 (a key is used until it ends, and no longer).

use std::time::Duration;

use super::dialog::NEVER;
use crate::instant::Instant;

/// A key as a request showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name, by keyed hash.
    pub mark: u64,
    /// When it ends; [`NEVER`] for what has no end.
    pub ends: Instant,
}

/// The keys of the owner of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerKey {
    now: Shown,
    /// The one before it, and until when that still counts.
    before: Shown,
    /// How many there were before this one.
    pub generation: u16,
}

impl OwnerKey {
    /// A dialog that was formed with this key.
    pub fn of(now: Shown) -> Self {
        Self { now, before: Shown { mark: 0, ends: Instant::START }, generation: 0 }
    }

    /// Its name, by keyed hash.
    pub fn mark(&self) -> u64 {
        self.now.mark
    }

    /// When it ends.
    pub fn ends(&self) -> Instant {
        self.now.ends
    }

    /// Whether a key of that name is evidence at `now`: all but the one before, when its time is over.
    pub fn counts(&self, mark: u64, now: Instant) -> bool {
        mark == self.now.mark || mark != self.before.mark || self.before.ends > now
    }

    /// Whether a key of that name would be another generation.
    pub fn is_new(&self, mark: u64) -> bool {
        mark != self.now.mark && mark != self.before.mark
    }

    /// Notes a key that the owner gave evidence with; whether it is another generation.
    pub fn note(&mut self, shown: Shown, now: Instant) -> bool {
        if shown.mark == self.now.mark {
            self.now.ends = shown.ends;
            return false;
        }
        let new = self.is_new(shown.mark);
        if new {
            let ends = self.now.ends.min(now + OVERLAP);
            self.before = Shown { ends, ..self.now };
            self.now = shown;
            self.generation = self.generation.saturating_add(1);
        }
        new
    }
}

impl Default for OwnerKey {
    /// A key that nothing is known of.
    fn default() -> Self {
        Self::of(Shown { mark: 0, ends: NEVER })
    }
}

/// How long requests that were under way with the key before may still come.
pub const OVERLAP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_until_its_successor_has_been_there_for_30_seconds() {
        let at = |seconds| Instant::START + Duration::from_secs(seconds);
        let shown = |mark, ends| Shown { mark, ends: at(ends) };
        let mut key = OwnerKey::of(shown(1, 1000));
        assert!(!key.note(shown(1, 1200), at(10)) && key.ends() == at(1200), "renewed in place");
        assert!(key.note(shown(2, 5000), at(100)));
        assert_eq!((key.mark(), key.generation, key.ends()), (2, 1, at(5000)));
        for (mark, seconds, expected) in
            [(1, 129, true), (1, 130, false), (2, 130, true), (3, 130, true)]
        {
            assert_eq!(key.counts(mark, at(seconds)), expected, "{mark} at {seconds}");
        }
        assert!(!key.note(shown(1, 1200), at(120)), "the one before is no new one");
        assert_eq!(key.mark(), 2);
        assert!(key.note(shown(3, 9000), at(200)) && key.generation == 2);
        let mut ending = OwnerKey::of(shown(1, 1000));
        ending.note(shown(2, 5000), at(990));
        assert!(ending.counts(1, at(999)) && !ending.counts(1, at(1000)), "never past its end");
    }
}

//! Stage 3, recent things: a bounded table that forgets by age, without a timer.
//!
//! Takes:   keys and the time.
//! Gives:   [`Recent`], a map whose entries live for at least one period and at most two.
//! Keeps:   two generations in 64 shards, at most `max` entries in all.
//!          A table may lie over another one: then it keeps copies of what was asked for, and changes nothing there.
//! Refuses: nothing; when a shard is full its older generation goes, and the instant that [`Recent::with`] hands over says up to
//!          when entries may be missing.
//! Sources: none.

use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::hashing::{Seeded, seeded};
use crate::instant::Instant;

const SHARDS: usize = 64;

/// A bounded map that forgets what is older than two periods.
#[derive(Debug)]
pub struct Recent<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: Seeded,
    /// Whether anything was ever put in: most tables of trouble never see any.
    used: AtomicBool,
    beneath: Option<Layer<K, V>>,
    /// In microseconds.
    period: AtomicU64,
    max_each: usize,
}

/// What lies beneath a table: the entry of a key there, and up to when some may be missing.
struct Layer<K, V>(Box<Beneath<K, V>>);

type Beneath<K, V> = dyn Fn(&K, Instant) -> (Option<V>, Instant) + Send + Sync;

impl<K, V> std::fmt::Debug for Layer<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layer(..)")
    }
}

#[derive(Debug)]
struct Shard<K, V> {
    young: HashTable<Slot<K, V>>,
    old: HashTable<Slot<K, V>>,
    /// When `young` was begun.
    since: Instant,
    /// Entries made before this may have been dropped early.
    floor: Instant,
}

/// An entry with the hash of its key, so that a table grows without hashing anew.
#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K: Eq + Hash + Clone, V: Default> Recent<K, V> {
    /// A table whose entries live at least `period`, `max` of them at most (at least 128).
    pub fn new(max: usize, period: Duration) -> Self {
        let shard = || {
            Mutex::new(Shard {
                young: HashTable::new(),
                old: HashTable::new(),
                since: Instant::START,
                floor: Instant::START,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: seeded(),
            used: AtomicBool::new(false),
            beneath: None,
            period: AtomicU64::new(micros(period)),
            max_each: (max / SHARDS / 2).max(1),
        }
    }

    /// A table over `beneath`, which finds the entry of a key in the table there by [`Recent::peek`]. It has the same
    /// period and the same bound as `like`.
    pub fn over(
        like: &Self,
        beneath: impl Fn(&K, Instant) -> (Option<V>, Instant) + Send + Sync + 'static,
    ) -> Self {
        let max = like.max_each.saturating_mul(SHARDS).saturating_mul(2);
        let table = Self::new(max, Duration::from_micros(like.period.load(Ordering::Relaxed)));
        Self { beneath: Some(Layer(Box::new(beneath))), used: AtomicBool::new(true), ..table }
    }

    /// The entry of `key` as [`Recent::with`] would find it, and the floor; nothing changes by it.
    pub fn peek(&self, key: &K, now: Instant) -> (Option<V>, Instant)
    where
        V: Clone,
    {
        let hash = self.hasher.hash_one(key);
        let shard = self.locked(hash);
        let (age, period) = (now.since(shard.since), self.period());
        let (young, full) = (age < period, shard.young.len() >= self.max_each);
        let floor = if young && full { shard.since } else { shard.floor };
        let recent = age < period.saturating_mul(2);
        let found = shard.young.find(hash, |slot| slot.key == *key).filter(|_| recent);
        let old = || shard.old.find(hash, |slot| slot.key == *key).filter(|_| young && !full);
        (found.or_else(old).map(|slot| slot.value.clone()), floor)
    }

    /// Lets entries live at least `period` from now on. What was forgotten already does not come back.
    pub fn set_period(&self, period: Duration) {
        self.period.store(micros(period), Ordering::Relaxed);
    }

    /// Runs `act` on the entry of `key`, made by default if it is not there. The second argument is the
    /// floor: an entry that was made before it may have been forgotten.
    pub fn with<R>(&self, key: K, now: Instant, act: impl FnOnce(&mut V, Instant) -> R) -> R {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.shard(hash, now);
        self.fetch(&mut shard, hash, &key, now);
        let Shard { young, old, floor, .. } = &mut *shard;
        let mut entry = match young.entry(hash, |slot| slot.key == key, |slot| slot.hash) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(place) => {
                let kept = old.find_entry(hash, |slot| slot.key == key).ok();
                let value = kept.map(|entry| entry.remove().0.value).unwrap_or_default();
                place.insert(Slot { hash, key, value })
            }
        };
        act(&mut entry.get_mut().value, *floor)
    }

    /// Runs `look` on the entry of `key`, if there is one.
    pub fn get<R>(&self, key: &K, now: Instant, look: impl FnOnce(&mut V) -> R) -> Option<R> {
        if !self.used.load(Ordering::Relaxed) {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash, now);
        self.fetch(&mut shard, hash, key, now);
        let Shard { young, old, .. } = &mut *shard;
        let slot = young.find_mut(hash, |slot| slot.key == *key);
        let slot = slot.or_else(|| old.find_mut(hash, |slot| slot.key == *key));
        slot.map(|slot| look(&mut slot.value))
    }

    /// Takes the entry of `key` out.
    pub fn remove(&self, key: &K, now: Instant) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash, now);
        self.fetch(&mut shard, hash, key, now);
        let Shard { young, old, .. } = &mut *shard;
        if self.beneath.is_some() {
            // What lies beneath is not asked a second time.
            let slot = young.find_mut(hash, |slot| slot.key == *key);
            return slot.map(|slot| std::mem::take(&mut slot.value));
        }
        [young, old].into_iter().find_map(|table| {
            let entry = table.find_entry(hash, |slot| slot.key == *key).ok()?;
            Some(entry.remove().0.value)
        })
    }

    /// Whether nothing was ever put in.
    pub fn is_unused(&self) -> bool {
        !self.used.load(Ordering::Relaxed)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard<K, V>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len().saturating_add(shard.old.len())
        };
        self.shards.iter().map(count).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies what lies beneath, unless there is an entry here.
    fn fetch(&self, shard: &mut Shard<K, V>, hash: u64, key: &K, now: Instant)
    where
        K: Clone,
    {
        let Some(Layer(beneath)) = &self.beneath else { return };
        let (found, floor) = beneath(key, now);
        shard.floor = shard.floor.max(floor);
        if let Some(value) = found
            && let Entry::Vacant(place) =
                shard.young.entry(hash, |slot| slot.key == *key, |slot| slot.hash)
        {
            place.insert(Slot { hash, key: key.clone(), value });
        }
    }

    fn period(&self) -> Duration {
        Duration::from_micros(self.period.load(Ordering::Relaxed))
    }

    fn locked(&self, hash: u64) -> MutexGuard<'_, Shard<K, V>> {
        // Neither the lowest bits nor the highest: by those a table finds its way inside.
        let place = usize::try_from(hash >> 40).unwrap_or(0) % SHARDS;
        #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, hash: u64, now: Instant) -> MutexGuard<'_, Shard<K, V>> {
        let mut shard = self.locked(hash);
        let age = now.since(shard.since);
        let period = self.period();
        if age >= period {
            shard.old = std::mem::take(&mut shard.young);
            if age >= period.saturating_mul(2) {
                shard.old.clear();
            }
            shard.since = now;
        } else if shard.young.len() >= self.max_each {
            shard.old = std::mem::take(&mut shard.young);
            shard.floor = shard.since;
            shard.since = now;
        }
        shard
    }
}

fn micros(period: Duration) -> u64 {
    u64::try_from(period.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lives_one_period_at_least_and_two_at_most() {
        let table: Recent<u32, u32> = Recent::new(1_000_000, 10 * SECOND);
        table.with(7, Instant::START, |value, _| *value = 1);
        let look = |at: u32| table.get(&7, Instant::START + SECOND * at, |value| *value);
        assert_eq!(look(9), Some(1));
        assert_eq!(look(10), Some(1));
        assert_eq!(look(20), None);
    }

    #[test]
    fn a_longer_period_keeps_what_is_there() {
        let table: Recent<u32, u32> = Recent::new(1_000_000, 10 * SECOND);
        table.with(7, Instant::START, |value, _| *value = 1);
        table.set_period(100 * SECOND);
        assert_eq!(table.get(&7, Instant::START + 99 * SECOND, |value| *value), Some(1));
        table.set_period(SECOND);
        assert_eq!(table.get(&7, Instant::START + 102 * SECOND, |value| *value), None);
    }

    #[test]
    fn a_table_over_another_one_changes_nothing_there() {
        let below: std::sync::Arc<Recent<u32, u32>> =
            std::sync::Arc::new(Recent::new(1280, 10 * SECOND));
        for key in 0..100 {
            below.with(key, Instant::START, |value, _| *value = key);
        }
        for (seconds, found) in [(1, Some(7)), (15, Some(7)), (20, None)] {
            let (now, before) = (Instant::START + SECOND * seconds, format!("{below:?}"));
            let under = std::sync::Arc::clone(&below);
            let layer = Recent::over(&below, move |key, now| under.peek(key, now));
            assert_eq!(layer.get(&7, now, |value| *value), found, "{seconds} s");
            layer.with(7, now, |value, _| *value += 1);
            let expected = Some(found.map_or(1, |value| value + 1));
            assert_eq!(layer.remove(&7, now), expected);
            assert_eq!(layer.get(&7, now, |value| *value), Some(0), "it does not come back");
            assert_eq!(format!("{below:?}"), before, "{seconds} s");
            assert_eq!(below.peek(&7, now).0, found, "as the table itself would find it");
        }
    }

    #[test]
    fn never_holds_more_than_its_bound_and_says_what_it_forgot() {
        let table: Recent<u32, ()> = Recent::new(1280, 1000 * SECOND);
        for key in 0..100_000 {
            table.with(key, Instant::from_micros(u64::from(key)), |(), _| ());
        }
        assert!(table.len() <= 1280, "{}", table.len());
        let floor = table.with(5, Instant::from_micros(100_001), |(), floor| floor);
        assert!(floor > Instant::START);
    }
}

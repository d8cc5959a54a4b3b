//! State, memory: a store that ends with its process: for tests, and for nodes that are to forget.
//!
//! Takes:   see [`Store`].
//! Gives:   see [`Store`].
//! Keeps:   the bounds of [`Table::most`], and windows of at most [`WINDOWS_MAX`] nonces; one lock, held for one call.
//! Refuses: to forget a window that is still needed: past its bound, counts of other nonces are not new.
//! Sources: see [`Store`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{CHANGES_MAX, COUNT_MAX, Change, Count, Fault, Record, Store, Table, Value};
use crate::instant::WallTime;

/// Most nonces whose counts are known at once.
pub const WINDOWS_MAX: usize = 1_000_000;

/// Records in memory.
#[derive(Default)]
pub struct Memory {
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    tables: HashMap<Table, BTreeMap<Box<[u8]>, Value>>,
    spent: Spent,
}

/// The counts that were spent, by nonce.
#[derive(Default)]
pub(super) struct Spent {
    windows: HashMap<u64, (WallTime, Box<[u64; WORDS]>)>,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory(..)")
    }
}

impl Store for Memory {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Value>, Fault> {
        Ok(self.all().tables.get(&table).and_then(|records| records.get(key)).cloned())
    }

    fn walk(&self, table: Table, after: &[u8], most: usize) -> Result<Vec<Record>, Fault> {
        let all = self.all();
        let Some(records) = all.tables.get(&table) else { return Ok(Vec::new()) };
        let range = records.range::<[u8], _>((Bound::Excluded(after), Bound::Unbounded));
        Ok(range.take(most).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn count(&self, table: Table) -> Result<u64, Fault> {
        Ok(self.all().tables.get(&table).map_or(0, |records| records.len() as u64))
    }

    fn write(&self, changes: &[Change<'_>]) -> Result<(), Fault> {
        let mut all = self.all();
        let fits = changes.len() <= CHANGES_MAX;
        changes.iter().try_for_each(Change::check)?;
        if let (false, Some(first)) = (fits, changes.first()) {
            return Err(Fault::Unfit(first.place().0));
        }
        // Judged before anything is changed: all or none.
        let mut more: HashMap<Table, u64> = HashMap::new();
        for change in changes {
            let (table, key) = change.place();
            let is_new = !matches!(change, Change::Remove(..))
                && all.tables.get(&table).is_none_or(|records| !records.contains_key(key));
            if is_new {
                let more = more.entry(table).or_default();
                *more = more.saturating_add(1);
                let held = all.tables.get(&table).map_or(0, |records| records.len() as u64);
                if held.saturating_add(*more) > table.most() {
                    return Err(Fault::Full(table));
                }
            }
        }
        for change in changes {
            let (table, key) = change.place();
            let records = all.tables.entry(table).or_default();
            match change {
                Change::Put(_, _, value) => {
                    records.insert(key.into(), Zeroizing::new(value.to_vec()));
                }
                Change::Raise(_, _, value) => {
                    if records.get(key).is_none_or(|known| known.as_slice() < *value) {
                        records.insert(key.into(), Zeroizing::new(value.to_vec()));
                    }
                }
                Change::Remove(..) => {
                    records.remove(key);
                }
            }
        }
        Ok(())
    }

    fn spend(&self, count: Count, life: Duration, now: WallTime) -> Result<bool, Fault> {
        Ok(self.all().spent.spend(count, life, now))
    }
}

impl Spent {
    /// See [`Store::spend`].
    pub(super) fn spend(&mut self, count: Count, life: Duration, now: WallTime) -> bool {
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.retain(|_, (until, _)| *until > now);
        }
        let full = self.windows.len() >= WINDOWS_MAX;
        if count.count > COUNT_MAX || (full && !self.windows.contains_key(&count.nonce)) {
            return false;
        }
        let fresh = || (now, Box::new([0; WORDS]));
        let (until, words) = self.windows.entry(count.nonce).or_insert_with(fresh);
        *until = (*until).max(now + life);
        let (word, bit) = (count.count / u64::BITS, count.count % u64::BITS);
        let word = usize::try_from(word).ok().and_then(|word| words.get_mut(word));
        let (Some(word), Some(bit)) = (word, 1_u64.checked_shl(bit)) else { return false };
        let unseen = *word & bit == 0;
        *word |= bit;
        unseen
    }
}

/// Words of a window: a bit for each count from 0 to [`COUNT_MAX`].
const WORDS: usize = 65;

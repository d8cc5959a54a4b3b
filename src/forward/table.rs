//! Stage 7, the table of transactions: where each is found by its key.
//!
//! Takes:   keys that are keyed hashes already.
//! Gives:   [`Table`].
//! Keeps:   an entry for each transaction, in parts: only a part grows at once, so that no request waits while a
//!          million entries move.
//! Refuses: nothing; the proxy bounds the number of transactions.
//! Sources: none.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash};

use crate::hashing::Hashed;

/// What is found by the key of a transaction.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    parts: Box<[HashMap<K, V, Hashed>]>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| HashMap::default()).collect() }
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// What stands under `key`.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.parts.get(part(key))?.get(key)
    }

    /// Whether something stands under `key`.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Puts `value` under `key`, in place of what stood there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some(part) = self.parts.get_mut(part(&key)) {
            part.insert(key, value);
        }
    }

    /// Takes away what stands under `key`.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.parts.get_mut(part(key))?.remove(key)
    }
}

/// Bits of the hash that a part's own table hardly looks at.
fn part<K: Hash>(key: &K) -> usize {
    let bits = Hashed::default().hash_one(key) >> 48;
    usize::try_from(bits).unwrap_or(0) % PARTS
}

/// A million entries are some sixteen thousand in each.
const PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_until_they_are_taken_away_and_lie_in_all_parts() {
        let mut table = Table::default();
        for number in 0..10_000_u64 {
            table.insert(number, number + 1);
        }
        assert_eq!((table.get(&77), table.contains(&10_000)), (Some(&78), false));
        let fullest = table.parts.iter().map(HashMap::len).max();
        assert!(fullest < Some(2 * 10_000 / PARTS), "evenly: {fullest:?}");
        for number in 0..10_000_u64 {
            assert_eq!(table.remove(&number), Some(number + 1));
        }
        assert!(table.parts.iter().all(HashMap::is_empty));
    }
}

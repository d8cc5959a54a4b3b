//! Layered tables: a map that may lie over another one, which it reads and never changes.
//!
//! Takes:   keys, and for a layer what lies beneath: how a copy of an entry is made.
//! Gives:   [`Layered`], which is a `DashMap` to whoever uses it.
//! Keeps:   entries of its own; a layer also a copy of each entry that was asked for, made when it is first asked for.
//! Refuses: nothing. What is taken out of a layer does not come back from beneath.
//! Sources: none.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;

use dashmap::mapref::one::{Ref, RefMut};
use dashmap::{DashMap, Entry};

/// Makes a copy of the entry of a key beneath, if there is one.
type Beneath<K, V> = Box<dyn Fn(&K) -> Option<V> + Send + Sync>;

/// A map, and what it lies over.
pub struct Layered<K, V, S> {
    own: DashMap<K, V, S>,
    beneath: Option<Layer<K, V, S>>,
}

struct Layer<K, V, S> {
    copy: Beneath<K, V>,
    /// Keys that were asked for.
    asked: DashMap<K, (), S>,
}

impl<K: Eq + Hash + Clone, V, S: BuildHasher + Clone> Layered<K, V, S> {
    /// A map that lies over none.
    pub fn with_hasher(hasher: S) -> Self {
        Self { own: DashMap::with_hasher(hasher), beneath: None }
    }

    /// A map over another one, of whose entries `copy` makes copies.
    pub fn over(hasher: S, copy: impl Fn(&K) -> Option<V> + Send + Sync + 'static) -> Self {
        let asked = DashMap::with_hasher(hasher.clone());
        let beneath = Some(Layer { copy: Box::new(copy), asked });
        Self { own: DashMap::with_hasher(hasher), beneath }
    }

    fn fetch(&self, key: &K) {
        let Some(layer) = &self.beneath else { return };
        if layer.asked.insert(key.clone(), ()).is_some() || self.own.contains_key(key) {
            return;
        }
        // No lock is held meanwhile: what is copied may have to ask other layers.
        if let Some(value) = (layer.copy)(key) {
            self.own.insert(key.clone(), value);
        }
    }

    /// As `DashMap`'s.
    pub fn get(&self, key: &K) -> Option<Ref<'_, K, V>> {
        self.fetch(key);
        self.own.get(key)
    }

    /// As `DashMap`'s.
    pub fn get_mut(&self, key: &K) -> Option<RefMut<'_, K, V>> {
        self.fetch(key);
        self.own.get_mut(key)
    }

    /// As `DashMap`'s.
    pub fn entry(&self, key: K) -> Entry<'_, K, V> {
        self.fetch(&key);
        self.own.entry(key)
    }

    /// As `DashMap`'s.
    pub fn remove(&self, key: &K) -> Option<(K, V)> {
        self.fetch(key);
        self.own.remove(key)
    }

    /// As `DashMap`'s.
    pub fn remove_if(&self, key: &K, is: impl FnOnce(&K, &V) -> bool) -> Option<(K, V)> {
        self.fetch(key);
        self.own.remove_if(key, is)
    }

    /// As `DashMap`'s.
    pub fn remove_if_mut(&self, key: &K, is: impl FnOnce(&K, &mut V) -> bool) -> Option<(K, V)> {
        self.fetch(key);
        self.own.remove_if_mut(key, is)
    }
}

/// What needs no key: its own entries.
impl<K, V, S> Deref for Layered<K, V, S> {
    type Target = DashMap<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.own
    }
}

impl<K: Eq + Hash + Clone, V, S: BuildHasher + Clone + Default> Default for Layered<K, V, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K: Eq + Hash + fmt::Debug, V: fmt::Debug, S: BuildHasher + Clone> fmt::Debug
    for Layered<K, V, S>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.own.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hashing::Hashed;

    #[test]
    fn a_layer_reads_what_is_beneath_and_changes_nothing_there() {
        let below: Arc<Layered<u64, u64, Hashed>> = Arc::default();
        for number in 0..5 {
            below.insert(number, number * 10);
        }
        let under = Arc::clone(&below);
        let layer = Layered::over(Hashed::default(), move |key| under.get(key).map(|value| *value));
        assert_eq!(layer.get(&1).map(|value| *value), Some(10));
        *layer.get_mut(&2).expect("a copy") += 1;
        *layer.entry(3).or_default() += 2;
        assert_eq!(layer.remove(&4), Some((4, 40)));
        assert!(layer.get(&4).is_none(), "it does not come back");
        assert!(layer.remove_if(&1, |_, value| *value == 11).is_none());
        assert_eq!(layer.remove_if_mut(&1, |_, value| *value == 10), Some((1, 10)));
        layer.insert(7, 70);
        *layer.entry(8).or_default() = 80;
        let own = |key| layer.get(&key).map(|value| *value);
        assert_eq!([2, 3, 7, 8].map(own), [Some(21), Some(32), Some(70), Some(80)]);
        let mut all: Vec<_> = below.iter().map(|entry| (*entry.key(), *entry.value())).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
    }
}

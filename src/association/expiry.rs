//! Stage 5, expiry: which dialog ends next.
//!
//! Takes:   deadlines, as dialogs get them.
//! Gives:   keys whose deadline may have passed; the table looks and, if it moved, hands them back.
//! Keeps:   a heap with a few entries for each dialog: a dialog counts its own.
//! Refuses: nothing.
//! Sources: RFC 3261 section 13.2.2.4; RFC 6665 section 4.1.2.4.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::dialog::DialogKey;
use crate::instant::Instant;

/// Deadlines, earliest first.
#[derive(Debug, Default)]
pub struct Expiry {
    heap: Mutex<BinaryHeap<Reverse<Entry>>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Instant,
    key: DialogKey,
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Expiry {
    /// Looks at `key` again at `at`.
    pub fn push(&self, key: DialogKey, at: Instant) {
        self.lock().push(Reverse(Entry { at, key }));
    }

    /// The next key whose time has come.
    pub fn pop(&self, now: Instant) -> Option<DialogKey> {
        let mut heap = self.lock();
        if heap.peek().is_none_or(|Reverse(entry)| entry.at > now) {
            return None;
        }
        heap.pop().map(|Reverse(entry)| entry.key)
    }

    /// When the next key's time comes.
    pub fn next(&self) -> Option<Instant> {
        self.lock().peek().map(|Reverse(entry)| entry.at)
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Entry>>> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

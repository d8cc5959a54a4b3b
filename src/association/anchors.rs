//! Stage 5, anchors: flows on which the owner of a leg gave evidence, and which dialogs a flow leads to.
//!
//! Takes:   flows of verified requests; flows that are lost.
//! Gives:   the anchors of a dialog, the newest last; the dialogs of a flow.
//! Keeps:   four anchors of a dialog at most; for each anchor of a dialog that is not over 24 octets in a tree.
//! Refuses: nothing; the oldest anchor goes.
//! Sources: RFC 5626 sections 5.3 and 7; `dialog-association` sections 2.4 and 10.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::dialog::DialogKey;
use crate::hashing::{Seeded, seeded};
use crate::transport::Flow;

/// Flows on which the owner of a leg may be reached, at most.
pub const ANCHORS_MAX: usize = 4;

/// Flows on which the owner gave evidence, kept only once there is another than the first, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Option<Arc<[Flow]>>);

impl Moved {
    /// All of them. `first` is where the dialog began.
    pub(super) fn anchors<'a>(&'a self, first: &'a Flow) -> &'a [Flow] {
        self.0.as_deref().unwrap_or(std::slice::from_ref(first))
    }

    /// None but `flow`.
    pub(super) fn only(flow: Flow) -> Self {
        Self(Some(Arc::from([flow])))
    }

    /// Makes `flow` the newest. What that changed: the flow if it is new, and the one that had to go.
    pub(super) fn add(&mut self, first: &Flow, flow: Flow) -> (Option<Flow>, Option<Flow>) {
        let known = self.anchors(first);
        if known.last() == Some(&flow) {
            return (None, None);
        }
        let new = Some(flow).filter(|flow| !known.contains(flow));
        let others = known.iter().filter(|known| **known != flow);
        let over = others.clone().count().saturating_sub(ANCHORS_MAX.saturating_sub(1));
        let gone = others.clone().next().copied().filter(|_| over > 0);
        let flows: SmallVec<[Flow; ANCHORS_MAX]> =
            others.skip(over).copied().chain([flow]).collect();
        self.0 = Some(flows.as_slice().into());
        (new, gone)
    }

    /// Takes `flow` away, unless it is the last one: that is kept, since it says where he was. `false` if it is.
    pub(super) fn lose(&mut self, first: &Flow, flow: &Flow) -> bool {
        let others: SmallVec<[Flow; ANCHORS_MAX]> =
            self.anchors(first).iter().filter(|known| *known != flow).copied().collect();
        let some_left = !others.is_empty();
        if some_left {
            self.0 = Some(others.as_slice().into());
        }
        some_left
    }
}

/// Which dialogs a flow leads to.
#[derive(Debug)]
pub(super) struct Anchored {
    parts: Vec<Mutex<BTreeSet<(u64, DialogKey)>>>,
    hasher: Seeded,
}

impl Default for Anchored {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, hasher: seeded() }
    }
}

impl Anchored {
    /// Notes that `flow` leads to a dialog.
    pub(super) fn add(&self, flow: &Flow, key: DialogKey) {
        let mark = self.hasher.hash_one(flow);
        if let Some(mut part) = self.part(mark) {
            part.insert((mark, key));
        }
    }

    /// It does not any more.
    pub(super) fn remove(&self, flow: &Flow, key: DialogKey) {
        let mark = self.hasher.hash_one(flow);
        if let Some(mut part) = self.part(mark) {
            part.remove(&(mark, key));
        }
    }

    /// The dialogs that `flow` leads to; another flow of the same hash may be among them.
    pub(super) fn of(&self, flow: &Flow) -> Vec<DialogKey> {
        let mark = self.hasher.hash_one(flow);
        let Some(part) = self.part(mark) else { return Vec::new() };
        part.range((mark, DialogKey::FIRST)..)
            .take_while(|(of, _)| *of == mark)
            .map(|(_, key)| *key)
            .collect()
    }

    /// How many anchors there are.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    fn part(&self, mark: u64) -> Option<MutexGuard<'_, BTreeSet<(u64, DialogKey)>>> {
        let place = usize::try_from(mark % PARTS).ok()?;
        self.parts.get(place).map(lock)
    }
}

fn lock(part: &Mutex<BTreeSet<(u64, DialogKey)>>) -> MutexGuard<'_, BTreeSet<(u64, DialogKey)>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts, each with a lock of its own.
const PARTS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow {
            transport: crate::transport::Transport::Udp,
            listener: crate::transport::ListenerId(0),
            remote: ([192, 0, 2, 1], port).into(),
            connection: None,
        }
    }

    fn ports(moved: &Moved, first: &Flow) -> Vec<u16> {
        moved.anchors(first).iter().map(|flow| flow.remote.port()).collect()
    }

    #[test]
    fn anchors_are_four_the_newest_last_and_none_of_them_twice() {
        let (first, mut moved) = (flow(1), Moved::default());
        for (port, expected, new, gone) in [
            (1, &[1][..], false, None),
            (2, &[1, 2], true, None),
            (1, &[2, 1], false, None),
            (3, &[2, 1, 3], true, None),
            (3, &[2, 1, 3], false, None),
            (4, &[2, 1, 3, 4], true, None),
            (5, &[1, 3, 4, 5], true, Some(2)),
            (3, &[1, 4, 5, 3], false, None),
            (6, &[4, 5, 3, 6], true, Some(1)),
        ] {
            let changed = moved.add(&first, flow(port));
            assert_eq!(ports(&moved, &first), expected, "after {port}");
            assert_eq!(changed, (new.then(|| flow(port)), gone.map(flow)), "after {port}");
        }
    }

    #[test]
    fn the_last_anchor_stays_when_it_is_lost() {
        let (first, mut moved) = (flow(1), Moved::default());
        assert!(!moved.lose(&first, &flow(1)));
        assert_eq!(ports(&moved, &first), [1]);
        moved.add(&first, flow(2));
        assert!(moved.lose(&first, &flow(1)));
        assert_eq!(ports(&moved, &first), [2]);
        assert!(!moved.lose(&first, &flow(2)));
        assert!(moved.lose(&first, &flow(7)), "it was none");
        assert_eq!(ports(&moved, &first), [2]);
    }
}

//! Stage 7, bridges: each found by either of its legs.
//!
//! Takes:   bridges; the side, Call-ID and tags of a leg.
//! Gives:   the bridge that it is part of.
//! Keeps:   `max` bridges at most, in sharded tables that all workers share.
//! Refuses: a bridge more, and one of which a leg is taken already.
//! Sources: RFC 3261 sections 7.3.1, 12.2.2 and 20.8 (what of a dialog's id has case); `B2-01`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};

use super::bridge::{Bridge, Leg};
use crate::association::dialog::{DialogKey, Keyer};
use crate::hashing::Hashed;
use crate::transport::Side;

/// All bridges.
#[derive(Debug)]
pub struct Bridges {
    keyer: Keyer,
    max: usize,
    held: AtomicUsize,
    ue: DashMap<DialogKey, Arc<Bridge>, Hashed>,
    core: DashMap<DialogKey, Arc<Bridge>, Hashed>,
}

impl Bridges {
    /// No bridges, and room for `max`; `key` is any secret octets.
    pub fn new(max: usize, key: [u8; 16]) -> Self {
        let (ue, core) =
            (DashMap::with_hasher(Hashed::default()), DashMap::with_hasher(Hashed::default()));
        Self { keyer: Keyer::new(key), max, held: AtomicUsize::new(0), ue, core }
    }

    /// Enters a bridge; `false` if there is no room, or a leg of it is part of another.
    pub fn insert(&self, bridge: Arc<Bridge>) -> bool {
        if self.held.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.held.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        let entered = self.enter(Side::Ue, &bridge) && {
            let both = self.enter(Side::Core, &bridge);
            if !both {
                self.ue.remove(&self.key(bridge.leg(Side::Ue)));
            }
            both
        };
        if !entered {
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
        entered
    }

    fn enter(&self, side: Side, bridge: &Arc<Bridge>) -> bool {
        match self.on(side).entry(self.key(bridge.leg(side))) {
            Entry::Vacant(place) => {
                place.insert(Arc::clone(bridge));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// The bridge of the leg on `side` with that Call-ID, our tag and the peer's.
    pub fn find(
        &self,
        side: Side,
        call_id: &[u8],
        own_tag: &[u8],
        far_tag: &[u8],
    ) -> Option<Arc<Bridge>> {
        let key = self.keyer.dialog(call_id, own_tag, far_tag);
        self.on(side).get(&key).map(|bridge| Arc::clone(&bridge))
    }

    /// Takes a bridge out; `false` if it was not in.
    pub fn remove(&self, bridge: &Arc<Bridge>) -> bool {
        let out = |side| {
            let key = self.key(bridge.leg(side));
            self.on(side).remove_if(&key, |_, known| Arc::ptr_eq(known, bridge)).is_some()
        };
        // The UE's leg decides, so that two who remove it count it once.
        let removed = out(Side::Ue);
        if removed {
            out(Side::Core);
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
        removed
    }

    /// Bridges held.
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn key(&self, leg: &Leg) -> DialogKey {
        self.keyer.dialog(&leg.call_id, &leg.own_tag, &leg.far_tag)
    }

    fn on(&self, side: Side) -> &DashMap<DialogKey, Arc<Bridge>, Hashed> {
        match side {
            Side::Ue => &self.ue,
            Side::Core => &self.core,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bridge::tests::leg;
    use super::*;

    fn bridge(number: u32) -> Arc<Bridge> {
        let near = leg(&format!("near-{number}"), "we-1", "alice");
        Arc::new(Bridge::new(near, leg(&format!("far-{number}"), "we-2", "bob")))
    }

    #[test]
    fn a_bridge_is_found_by_either_leg_on_its_own_side_alone() {
        let bridges = Bridges::new(10, [1; 16]);
        let one = bridge(1);
        assert!(bridges.insert(Arc::clone(&one)));
        for (side, call_id, own, far, found) in [
            (Side::Ue, "near-1", "we-1", "alice", true),
            (Side::Ue, "near-1", "WE-1", "Alice", true),
            (Side::Core, "far-1", "we-2", "bob", true),
            (Side::Core, "near-1", "we-1", "alice", false),
            (Side::Ue, "far-1", "we-2", "bob", false),
            (Side::Ue, "NEAR-1", "we-1", "alice", false),
            (Side::Ue, "near-1", "alice", "we-1", false),
        ] {
            let bridge = bridges.find(side, call_id.as_bytes(), own.as_bytes(), far.as_bytes());
            let same = bridge.is_some_and(|bridge| Arc::ptr_eq(&bridge, &one));
            assert_eq!(same, found, "{side:?} {call_id} {own} {far}");
        }
        assert!(bridges.remove(&one) && !bridges.remove(&one));
        assert!(bridges.is_empty());
        assert!(bridges.find(Side::Core, b"far-1", b"we-2", b"bob").is_none());
    }

    #[test]
    fn one_too_many_and_one_that_is_taken_are_refused_and_leave_nothing() {
        let bridges = Bridges::new(2, [1; 16]);
        let first = bridge(1);
        assert!(bridges.insert(Arc::clone(&first)));
        let near_taken = Bridge::new(leg("near-1", "we-1", "alice"), leg("other", "x", "y"));
        assert!(!bridges.insert(Arc::new(near_taken)));
        let far_taken = Bridge::new(leg("other", "x", "y"), leg("far-1", "we-2", "bob"));
        assert!(!bridges.insert(Arc::new(far_taken)));
        assert_eq!(bridges.len(), 1);
        assert!(bridges.find(Side::Ue, b"other", b"x", b"y").is_none());
        assert!(bridges.find(Side::Core, b"other", b"x", b"y").is_none());
        assert!(bridges.insert(bridge(2)) && !bridges.insert(bridge(3)));
        assert!(bridges.remove(&first) && bridges.insert(bridge(3)));
        assert_eq!(bridges.len(), 2);
    }

    /// With `keep_call_id` both legs have the same ids; the side tells them apart.
    #[test]
    fn legs_with_the_same_ids_are_two() {
        let bridges = Bridges::new(2, [1; 16]);
        let same = Bridge::new(leg("call", "bob", "alice"), leg("call", "alice", "bob"));
        assert!(bridges.insert(Arc::new(same)));
        assert!(bridges.find(Side::Ue, b"call", b"bob", b"alice").is_some());
        assert!(bridges.find(Side::Core, b"call", b"alice", b"bob").is_some());
        assert!(bridges.find(Side::Core, b"call", b"bob", b"alice").is_none());
    }
}

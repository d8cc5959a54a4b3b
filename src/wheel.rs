//! The wheel: what falls due, whoever waits for it.
//!
//! Takes:   instants and items from whoever waits.
//! Gives:   [`Wheel`], which hands back what is due.
//! Keeps:   one entry for each item inserted and neither cancelled nor expired, and 17 KiB of slots; the
//!          entries' store is given back when the wheel runs empty. Bound: 2^32-1 items.
//! Refuses: nothing. An item never comes early, and comes with the first [`Wheel::expire`] that is made a tick or more
//!          after its time.
//! Sources: none.

use std::num::NonZeroU64;

use crate::instant::Instant;

/// The name of one item on a [`Wheel`]. It names nothing once the item was cancelled or has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    serial: NonZeroU64,
    place: u32,
    wheel: u16,
}

impl TimerKey {
    /// The number of the wheel that the item is on.
    pub fn wheel(self) -> u16 {
        self.wheel
    }
}

/// A hashed timer wheel: 4096 slots of one tick, each a list of what falls due when the hand points at it. A tick is
/// `TICK` microseconds, 10 ms unless something else is said.
///
/// Insert, cancel and the search for the next occupied slot cost the same however much is on the wheel. An item
/// that lies more rounds ahead is looked at once a round (4096 ticks) until it is due.
#[derive(Debug)]
pub struct Wheel<T, const TICK: u64 = 10_000> {
    /// First entry of each slot's list.
    heads: Box<[u32]>,
    /// A bit for each slot that is not empty, and a bit for each word of bits that is not zero.
    occupied: [u64; 64],
    words: u64,
    entries: Vec<Entry<T>>,
    /// First of the unused entries.
    free: u32,
    len: usize,
    /// The tick the hand points at, the first one that was not handed out.
    hand: u64,
    serial: NonZeroU64,
    number: u16,
}

#[derive(Debug)]
struct Entry<T> {
    item: Option<T>,
    serial: NonZeroU64,
    tick: u64,
    before: u32,
    after: u32,
}

impl<T, const TICK: u64> Default for Wheel<T, TICK> {
    fn default() -> Self {
        Self::numbered(0)
    }
}

impl<T> Wheel<T> {
    /// An empty wheel of 10 ms ticks.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<T, const TICK: u64> Wheel<T, TICK> {
    /// An empty wheel, one of several: its keys bear its number.
    pub fn numbered(number: u16) -> Self {
        Self {
            heads: vec![NONE; SLOTS].into_boxed_slice(),
            occupied: [0; 64],
            words: 0,
            entries: Vec::new(),
            free: NONE,
            len: 0,
            hand: 0,
            serial: NonZeroU64::MIN,
            number,
        }
    }

    /// How many items are on it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `item` on the wheel, to come back at `at`; if that is past, within the next tick.
    pub fn insert(&mut self, at: Instant, item: T) -> TimerKey {
        // At a thousand million a second, the numbers last for five hundred years.
        self.serial = self.serial.saturating_add(1);
        let tick = at.as_micros().div_ceil(TICK).max(self.hand);
        let entry =
            Entry { item: Some(item), serial: self.serial, tick, before: NONE, after: NONE };
        let place = self.store(entry);
        self.link(place, tick);
        self.len = self.len.saturating_add(1);
        TimerKey { serial: self.serial, place, wheel: self.number }
    }

    /// Takes the item off the wheel; `None` if it has come back before, or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let number = self.number;
        let entry = self.entry(key.place)?;
        if entry.serial != key.serial || number != key.wheel {
            return None;
        }
        let item = self.take(key.place);
        self.give_back();
        item
    }

    /// A time before which nothing falls due; `None` if the wheel is empty, so that an idle worker sleeps.
    pub fn next(&self) -> Option<Instant> {
        let tick = self.occupied_from(self.hand)?;
        Some(Instant::from_micros(tick.saturating_mul(TICK)))
    }

    /// Hands all that is due at `now` to `fire`, slot by slot.
    ///
    /// Items due in different slots come in the order of their times unless `expire` was not called for a whole
    /// round; the order within a slot is not promised.
    pub fn expire(&mut self, now: Instant, fire: impl FnMut(T)) {
        self.expire_some(now, usize::MAX, fire);
    }

    /// As [`Wheel::expire`], but at most `most` items; the next call goes on with those that are left.
    pub fn expire_some(&mut self, now: Instant, most: usize, mut fire: impl FnMut(T)) {
        let now_tick = now.as_micros().checked_div(TICK).unwrap_or(0);
        if now_tick < self.hand {
            return;
        }
        let mut left = most;
        let round_end = self.hand.saturating_add(SLOT_MASK).min(now_tick);
        let mut from = self.hand;
        while let Some(tick) = self.occupied_from(from).filter(|tick| *tick <= round_end) {
            if !self.empty_slot(tick, now_tick, &mut left, &mut fire) {
                self.hand = tick;
                return;
            }
            from = tick.saturating_add(1);
            if from > round_end {
                break;
            }
        }
        self.hand = now_tick.saturating_add(1);
        self.give_back();
    }

    /// Hands out what is due of a slot; `false` if there is more of it than is `left` to hand out.
    fn empty_slot(
        &mut self,
        slot_tick: u64,
        now_tick: u64,
        left: &mut usize,
        fire: &mut impl FnMut(T),
    ) -> bool {
        let mut place = self.heads.get(slot(slot_tick)).copied().unwrap_or(NONE);
        while let Some(entry) = self.entry(place) {
            let (due, after) = (entry.tick <= now_tick, entry.after);
            if due {
                if *left == 0 {
                    return false;
                }
                *left = left.saturating_sub(1);
                if let Some(item) = self.take(place) {
                    fire(item);
                }
            }
            place = after;
        }
        true
    }

    /// The first tick from `from` on, within one round, whose slot is not empty.
    fn occupied_from(&self, from: u64) -> Option<u64> {
        let (word, bit) = (slot(from) >> 6, slot(from) & 63);
        let ahead = self.word(word) & (u64::MAX << bit);
        let found = if ahead != 0 {
            (word << 6) | ahead.trailing_zeros() as usize
        } else {
            // The words that follow, then from the start of the ring, this one included.
            let following = self.words & (u64::MAX << word << 1);
            let words = if following != 0 { following } else { self.words };
            let word = words.trailing_zeros() as usize;
            (words != 0).then(|| (word << 6) | self.word(word).trailing_zeros() as usize)?
        };
        let distance = (found as u64).wrapping_sub(from) & SLOT_MASK;
        Some(from.saturating_add(distance))
    }

    fn word(&self, word: usize) -> u64 {
        self.occupied.get(word).copied().unwrap_or(0)
    }

    fn mark(&mut self, slot: usize, occupied: bool) {
        let (index, bit) = (slot >> 6, 1_u64 << (slot & 63));
        let Some(word) = self.occupied.get_mut(index) else { return };
        *word = if occupied { *word | bit } else { *word & !bit };
        let summary = 1_u64 << index;
        self.words = if *word != 0 { self.words | summary } else { self.words & !summary };
    }

    fn entry(&mut self, place: u32) -> Option<&mut Entry<T>> {
        self.entries.get_mut(place as usize)
    }

    fn store(&mut self, entry: Entry<T>) -> u32 {
        let place = self.free;
        if let Some(unused) = self.entry(place) {
            let after = unused.after;
            *unused = entry;
            self.free = after;
            return place;
        }
        let place = u32::try_from(self.entries.len()).unwrap_or(NONE);
        self.entries.push(entry);
        place
    }

    fn link(&mut self, place: u32, tick: u64) {
        let slot = slot(tick);
        let Some(head) = self.heads.get_mut(slot) else { return };
        let first = std::mem::replace(head, place);
        if let Some(entry) = self.entry(first) {
            entry.before = place;
        }
        if let Some(entry) = self.entry(place) {
            entry.after = first;
        }
        self.mark(slot, true);
    }

    /// Unlinks the entry, frees it and gives its item.
    fn take(&mut self, place: u32) -> Option<T> {
        let free = self.free;
        let entry = self.entry(place)?;
        let item = entry.item.take()?;
        let (slot, before, after) = (slot(entry.tick), entry.before, entry.after);
        // The least number is given to no item.
        (entry.after, entry.before, entry.serial) = (free, NONE, NonZeroU64::MIN);
        self.free = place;
        self.len = self.len.saturating_sub(1);
        if let Some(entry) = self.entry(after) {
            entry.before = before;
        }
        match self.entry(before) {
            Some(entry) => entry.after = after,
            None => {
                if let Some(head) = self.heads.get_mut(slot) {
                    *head = after;
                }
                if after == NONE {
                    self.mark(slot, false);
                }
            }
        }
        Some(item)
    }

    /// An empty wheel forgets its entries, and gives back their store if it grew large.
    fn give_back(&mut self) {
        if self.len == 0 {
            self.entries.clear();
            self.entries.shrink_to(SLOTS);
            self.free = NONE;
        }
    }
}

fn slot(tick: u64) -> usize {
    usize::try_from(tick & SLOT_MASK).unwrap_or(0)
}

const NONE: u32 = u32::MAX;
const SLOTS: usize = 4096;
const SLOT_MASK: u64 = 4095;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const TICK_MICROS: u64 = 10_000;

    fn drain<T>(wheel: &mut Wheel<T>, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        wheel.expire(now, |item| due.push(item));
        due
    }

    #[test]
    fn an_empty_wheel_lets_its_worker_sleep() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.next(), None);
        let key = wheel.insert(Instant::from_micros(5_000_000), 'a');
        assert_eq!(wheel.next(), Some(Instant::from_micros(5_000_000)));
        assert_eq!(wheel.cancel(key), Some('a'));
        assert_eq!(wheel.cancel(key), None);
        assert_eq!(wheel.next(), None);
        wheel.insert(Instant::from_micros(5_000_000), 'b');
        assert_eq!(wheel.cancel(key), None, "a key of before names nothing that came after");
        assert_eq!(drain(&mut wheel, Instant::from_micros(5_000_000)), ['b']);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn an_item_of_a_later_round_waits_for_it() {
        let mut wheel = Wheel::new();
        let hour = Duration::from_secs(3600);
        wheel.insert(Instant::START + hour, ());
        let (mut now, mut wakes) = (Instant::START, 0);
        while let Some(next) = wheel.next() {
            assert!(next > now || wakes == 0, "a worker would spin at {now:?}");
            now = next;
            wakes += 1;
            drain(&mut wheel, now);
        }
        assert_eq!(now, Instant::START + hour);
        assert!(wakes <= 3600 / 40 + 1, "{wakes} wakes in an hour");
    }

    #[test]
    fn what_has_gone_takes_no_room() {
        let mut wheel = Wheel::new();
        for round in 0..200_000_u64 {
            let at = Instant::from_micros(round * 100) + Duration::from_secs(32);
            let key = wheel.insert(at, [round; 4]);
            assert!(wheel.cancel(key).is_some());
        }
        assert_eq!(wheel.entries.len(), 0);
        let keys: Vec<_> =
            (0..100_000).map(|n| wheel.insert(Instant::from_micros(n), [n; 4])).collect();
        drop(keys.into_iter().map(|key| wheel.cancel(key)).collect::<Vec<_>>());
        assert!(wheel.is_empty() && wheel.entries.capacity() <= SLOTS);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(prop::sample::Index),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let length = || prop_oneof![0..100_000_u64, 0..90_000_000_u64, 0..400_000_000_u64];
        prop_oneof![
            4 => length().prop_map(Step::Insert),
            2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            2 => length().prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// The wheel hands out what an ordered map of 10 ms ticks would, and never sleeps past it.
        #[test]
        fn agrees_with_an_ordered_map(steps in prop::collection::vec(step(), 1..200)) {
            let (mut wheel, mut model) = (Wheel::new(), BTreeMap::new());
            let (mut keys, mut now) = (Vec::new(), Instant::START);
            let mut hand = 0;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(ahead) => {
                        let at = now + Duration::from_micros(ahead);
                        let tick = at.as_micros().div_ceil(TICK_MICROS).max(hand);
                        keys.push((wheel.insert(at, number), tick, number));
                        model.insert((tick, number), ());
                    }
                    Step::Cancel(index) if !keys.is_empty() => {
                        let (key, tick, number) = keys[index.index(keys.len())];
                        let known = model.remove(&(tick, number)).map(|()| number);
                        prop_assert_eq!(wheel.cancel(key), known);
                    }
                    Step::Cancel(_) => {}
                    Step::Wait(length) => {
                        now = now + Duration::from_micros(length);
                        hand = now.as_micros() / TICK_MICROS + 1;
                        let later = model.split_off(&(hand, 0));
                        let mut expected: Vec<_> = model.keys().map(|key| key.1).collect();
                        model = later;
                        let mut found = drain(&mut wheel, now);
                        expected.sort_unstable();
                        found.sort_unstable();
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next(), model.keys().next()) {
                    (None, None) => {}
                    (Some(next), Some((tick, _))) => {
                        prop_assert!(next.as_micros() <= tick * TICK_MICROS);
                        prop_assert!(next.as_micros() >= hand * TICK_MICROS);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}

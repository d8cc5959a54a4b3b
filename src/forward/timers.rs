//! Stage 7, timers: the lettered timers of the documents, and the wheel on which a worker keeps them.
//!
//! Takes:   T1, T2 and T4 from configuration; instants and items from whoever waits.
//! Gives:   [`Timings`], how long each [`Timer`] runs; [`Wheel`], which hands back what is due.
//! Keeps:   one entry for each item inserted and neither cancelled nor expired, and 17 KiB of slots; the
//!          entries' store is given back when the wheel runs empty. Bound: 2^32-1 items.
//! Refuses: a T1 of zero, a T2 below T1, values over an hour. An item never comes early, and comes with the
//!          first [`Wheel::expire`] that is made 10 ms or more after its time.
//! Sources: RFC 3261 section 17 and table 4; RFC 6026 section 7 (L, M); RFC 4320 section 4.1; `TX-01`, `PX-14`.

use std::time::Duration;

use crate::instant::Instant;

/// The timers of a transaction, by the letter that RFC 3261 and RFC 6026 give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Retransmit INVITE.
    A,
    /// Give up an INVITE that nobody answers.
    B,
    /// Cancel an INVITE that rings too long.
    C,
    /// Absorb retransmitted final responses to INVITE.
    D,
    /// Retransmit a request that is not INVITE.
    E,
    /// Give up a request that is not INVITE.
    F,
    /// Retransmit final response to INVITE.
    G,
    /// Give up waiting for ACK.
    H,
    /// Absorb retransmitted ACKs.
    I,
    /// Absorb retransmissions of a request that is not INVITE.
    J,
    /// Absorb retransmitted responses to a request that is not INVITE.
    K,
    /// Absorb retransmissions of an accepted INVITE.
    L,
    /// Take further 2xx to an INVITE.
    M,
}

/// How long the timers run. Sixteen octets, so that each machine has its own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    t1_millis: u32,
    t2_millis: u32,
    t4_millis: u32,
    c_millis: u32,
}

impl Default for Timings {
    /// T1 500 ms, T2 4 s, T4 5 s, C 185 s.
    fn default() -> Self {
        Self { t1_millis: 500, t2_millis: 4_000, t4_millis: 5_000, c_millis: 185_000 }
    }
}

impl Timings {
    /// Timer C is over this, as RFC 3261 section 16.6 item 11 asks.
    pub const C_OVER: Duration = Duration::from_secs(180);
    /// Timer D at least, on unreliable transports: the other side's T1 is not known.
    pub const D: Duration = Duration::from_secs(32);
    /// An INVITE is answered 100 after this, if nothing else was said.
    pub const TRYING: Duration = Duration::from_millis(200);

    /// Timings from the round-trip estimate, the longest retransmission interval, and the time that the
    /// network may hold a message. `None` if T1 is under 1 ms, T2 under T1, or one of them over an hour.
    pub fn new(t1: Duration, t2: Duration, t4: Duration) -> Option<Self> {
        let millis = |length: Duration| {
            u32::try_from(length.as_millis()).ok().filter(|millis| *millis <= HOUR_MILLIS)
        };
        let (t1_millis, t2_millis, t4_millis) = (millis(t1)?, millis(t2)?, millis(t4)?);
        let sound = t1_millis > 0 && t2_millis >= t1_millis;
        sound.then_some(Self { t1_millis, t2_millis, t4_millis, ..Self::default() })
    }

    /// The same with another timer C. `None` unless it is over [`Timings::C_OVER`] and at most an hour.
    pub fn with_c(self, c: Duration) -> Option<Self> {
        let millis = u32::try_from(c.as_millis()).ok().filter(|millis| *millis <= HOUR_MILLIS)?;
        (c > Self::C_OVER).then_some(Self { c_millis: millis, ..self })
    }

    /// Timer C, how long a proxied INVITE may ring.
    pub fn c(self) -> Duration {
        Duration::from_millis(self.c_millis.into())
    }

    /// T1, the estimate of a round trip.
    pub fn t1(self) -> Duration {
        Duration::from_millis(self.t1_millis.into())
    }

    /// T2, the longest interval between retransmissions of what is not INVITE.
    pub fn t2(self) -> Duration {
        Duration::from_millis(self.t2_millis.into())
    }

    /// T4, how long the network may hold a message.
    pub fn t4(self) -> Duration {
        Duration::from_millis(self.t4_millis.into())
    }

    /// 64*T1, the life of a transaction that goes wrong.
    pub fn life(self) -> Duration {
        self.t1().saturating_mul(64)
    }

    /// How long `timer` runs when it is first set; `None` if it is not set at all on such a transport.
    ///
    /// Source: RFC 3261 table 4; RFC 6026 section 8.11.
    pub fn first(self, timer: Timer, reliable: bool) -> Option<Duration> {
        match timer {
            Timer::A | Timer::E | Timer::G => (!reliable).then_some(self.t1()),
            Timer::B | Timer::F | Timer::H | Timer::L | Timer::M => Some(self.life()),
            Timer::C => Some(self.c()),
            Timer::D if !reliable => Some(self.life().max(Self::D)),
            Timer::I | Timer::K if !reliable => Some(self.t4()),
            Timer::J if !reliable => Some(self.life()),
            Timer::D | Timer::I | Timer::J | Timer::K => Some(Duration::ZERO),
        }
    }

    /// How long `timer` runs after it ran for `last`: A doubles, E and G double up to T2.
    pub fn again(self, timer: Timer, last: Duration) -> Duration {
        let doubled = last.saturating_mul(2);
        if timer == Timer::A { doubled } else { doubled.min(self.t2()) }
    }

    /// When a request that is not INVITE is answered 100, if nothing else was said: as long as the other
    /// side's Timer E takes to be set to T2. 3.5 s with the default values.
    ///
    /// Source: RFC 4320 section 4.1.
    pub fn trying_not_invite(self) -> Duration {
        let (mut total, mut last) = (self.t1(), self.t1());
        loop {
            last = self.again(Timer::E, last);
            if last >= self.t2() {
                return total;
            }
            total = total.saturating_add(last);
        }
    }
}

/// The name of one item on a [`Wheel`]. It names nothing once the item was cancelled or has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    place: u32,
    serial: u64,
}

/// A hashed timer wheel: 4096 slots of 10 ms, each a list of what falls due when the hand points at it.
///
/// Insert, cancel and the search for the next occupied slot cost the same however much is on the wheel. An item
/// that lies more rounds ahead is looked at once a round (41 s) until it is due.
#[derive(Debug)]
pub struct Wheel<T> {
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
    serial: u64,
}

#[derive(Debug)]
struct Entry<T> {
    item: Option<T>,
    serial: u64,
    tick: u64,
    before: u32,
    after: u32,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Wheel<T> {
    /// An empty wheel.
    pub fn new() -> Self {
        Self {
            heads: vec![NONE; SLOTS].into_boxed_slice(),
            occupied: [0; 64],
            words: 0,
            entries: Vec::new(),
            free: NONE,
            len: 0,
            hand: 0,
            serial: 0,
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

    /// Puts `item` on the wheel, to come back at `at`; if that is past, within the next 10 ms.
    pub fn insert(&mut self, at: Instant, item: T) -> TimerKey {
        self.serial = self.serial.wrapping_add(1);
        let tick = at.as_micros().div_ceil(TICK_MICROS).max(self.hand);
        let entry =
            Entry { item: Some(item), serial: self.serial, tick, before: NONE, after: NONE };
        let place = self.store(entry);
        self.link(place, tick);
        self.len = self.len.saturating_add(1);
        TimerKey { place, serial: self.serial }
    }

    /// Takes the item off the wheel; `None` if it has come back before, or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entry(key.place)?;
        if entry.serial != key.serial {
            return None;
        }
        let item = self.take(key.place);
        self.give_back();
        item
    }

    /// A time before which nothing falls due; `None` if the wheel is empty, so that an idle worker sleeps.
    pub fn next(&self) -> Option<Instant> {
        let tick = self.occupied_from(self.hand)?;
        Some(Instant::from_micros(tick.saturating_mul(TICK_MICROS)))
    }

    /// Hands all that is due at `now` to `fire`, slot by slot.
    ///
    /// Items due in different slots come in the order of their times unless `expire` was not called for a whole
    /// round; the order within a slot is not promised.
    pub fn expire(&mut self, now: Instant, mut fire: impl FnMut(T)) {
        let now_tick = now.as_micros() / TICK_MICROS;
        if now_tick < self.hand {
            return;
        }
        let round_end = self.hand.saturating_add(SLOT_MASK).min(now_tick);
        let mut from = self.hand;
        while let Some(tick) = self.occupied_from(from).filter(|tick| *tick <= round_end) {
            self.empty_slot(tick, now_tick, &mut fire);
            from = tick.saturating_add(1);
            if from > round_end {
                break;
            }
        }
        self.hand = now_tick.saturating_add(1);
        self.give_back();
    }

    fn empty_slot(&mut self, slot_tick: u64, now_tick: u64, fire: &mut impl FnMut(T)) {
        let mut place = self.heads.get(slot(slot_tick)).copied().unwrap_or(NONE);
        while let Some(entry) = self.entry(place) {
            let (due, after) = (entry.tick <= now_tick, entry.after);
            if due && let Some(item) = self.take(place) {
                fire(item);
            }
            place = after;
        }
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
        (entry.after, entry.before, entry.serial) = (free, NONE, 0);
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
const TICK_MICROS: u64 = 10_000;
const HOUR_MILLIS: u32 = 3_600_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn drain<T>(wheel: &mut Wheel<T>, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        wheel.expire(now, |item| due.push(item));
        due
    }

    #[test]
    fn timers_run_as_table_4_says() {
        let timings = Timings::default();
        for (timer, unreliable, reliable) in [
            (Timer::A, Some(500), None),
            (Timer::B, Some(32_000), Some(32_000)),
            (Timer::C, Some(185_000), Some(185_000)),
            (Timer::D, Some(32_000), Some(0)),
            (Timer::E, Some(500), None),
            (Timer::F, Some(32_000), Some(32_000)),
            (Timer::G, Some(500), None),
            (Timer::H, Some(32_000), Some(32_000)),
            (Timer::I, Some(5_000), Some(0)),
            (Timer::J, Some(32_000), Some(0)),
            (Timer::K, Some(5_000), Some(0)),
            (Timer::L, Some(32_000), Some(32_000)),
            (Timer::M, Some(32_000), Some(32_000)),
        ] {
            let millis = |reliable| timings.first(timer, reliable).map(|length| length.as_millis());
            assert_eq!(millis(false), unreliable, "{timer:?}, unreliable");
            assert_eq!(millis(true), reliable, "{timer:?}, reliable");
        }
    }

    #[test]
    fn timer_d_is_never_under_32_s() {
        let short = Timings::new(10 * MILLI, 100 * MILLI, 100 * MILLI).expect("sound");
        assert_eq!(short.first(Timer::D, false), Some(Timings::D));
        let long = Timings::new(1000 * MILLI, 4000 * MILLI, 5000 * MILLI).expect("sound");
        assert_eq!(long.first(Timer::D, false), Some(64_000 * MILLI));
    }

    #[test]
    fn a_100_is_due_when_timer_e_reaches_t2() {
        for (t1, t2, due) in [(500, 4000, 3500), (500, 500, 500), (500, 600, 500), (1, 4000, 4095)]
        {
            let timings = Timings::new(t1 * MILLI, t2 * MILLI, MILLI).expect("sound");
            assert_eq!(timings.trying_not_invite(), due * MILLI, "T1 {t1}, T2 {t2}");
        }
    }

    #[test]
    fn timings_that_cannot_be_are_refused() {
        let hour = Duration::from_secs(3600);
        for (t1, t2, t4) in [
            (Duration::ZERO, hour, hour),
            (Duration::from_micros(999), hour, hour),
            (2 * MILLI, MILLI, hour),
            (MILLI, hour + MILLI, hour),
            (MILLI, hour, Duration::MAX),
        ] {
            assert_eq!(Timings::new(t1, t2, t4), None, "{t1:?} {t2:?} {t4:?}");
        }
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

//! Keys, bootstrap, pace: how often one name and one source may ask.
//!
//! Takes:   the time.
//! Gives:   whether one more is allowed.
//! Keeps:   for each subscriber the last [`MOVES_PER_MINUTE`] moments; for strangers and sources tables of at most
//!          [`TABLE_MAX`] entries, of which the oldest goes first.
//! Refuses: the eleventh challenge of a name within one minute, and what passes a source's rate.
//! Sources: TS 33.102 annex C (each vector moves the sequence number); threat V-139.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::instant::Instant;

/// Most challenges for one name in any minute.
pub(super) const MOVES_PER_MINUTE: usize = 10;
/// Most strangers, and most sources, that are remembered.
pub(super) const TABLE_MAX: usize = 65_536;

const MINUTE: Duration = Duration::from_secs(60);

/// The challenges of one name in the last minute.
#[derive(Debug, Default)]
pub(super) struct Moves(VecDeque<Instant>);

impl Moves {
    /// Takes one if it fits; else says after how long one will.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.take_of(MOVES_PER_MINUTE, now)
    }

    /// The same, of `most` in any minute.
    pub(super) fn take_of(&mut self, most: usize, now: Instant) -> Result<(), Duration> {
        while self.0.front().is_some_and(|first| now.since(*first) >= MINUTE) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some(first) if self.0.len() >= most => Err(MINUTE.saturating_sub(now.since(*first))),
            _ => {
                self.0.push_back(now);
                Ok(())
            }
        }
    }
}

/// A table that forgets what entered first.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V: Default> Bounded<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }

    /// The entry of `key`, made if it is not there.
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.order.len() >= TABLE_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_default()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The source as it is counted: an IPv6 address by its first 64 bits, since one host owns them all.
pub(super) fn counted(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_any_minute() {
        let mut moves = Moves::default();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        for second in 0..10 {
            assert_eq!(moves.take(at(second * 5)), Ok(()));
        }
        assert_eq!(moves.take(at(46)), Err(Duration::from_secs(14)));
        assert_eq!(moves.take(at(59)), Err(Duration::from_secs(1)));
        assert_eq!(moves.take(at(60)), Ok(()));
        assert_eq!(moves.take(at(60)), Err(Duration::from_secs(5)));
    }

    #[test]
    fn tables_stay_small() {
        let mut table: Bounded<usize, u8> = Bounded::new();
        for key in 0..TABLE_MAX + 10 {
            *table.entry(key) = 1;
        }
        assert_eq!(table.len(), TABLE_MAX);
        assert_eq!(*table.entry(0), 0, "the first is forgotten");
        assert_eq!(*table.entry(TABLE_MAX), 1);
    }

    #[test]
    fn one_host_is_one_source() {
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| counted(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_eq!(
            counted("::ffff:192.0.2.1".parse().unwrap()),
            "192.0.2.1".parse::<IpAddr>().unwrap()
        );
    }
}

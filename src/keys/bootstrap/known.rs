//! Keys, bootstrap, known: the subscribers, all of them from a list, or one by one from a [`Roll`].
//!
//! Takes:   names.
//! Gives:   the [`Record`] of a name: the subscriber as it stands now, with the sequence number and pace that it had
//!          here before.
//! Keeps:   from a list, every subscriber; from a roll, numbers and pace of at most [`KNOWN_MAX`] names, of which the
//!          one that came first goes, once its number is written.
//! Refuses: to give a number that is not vouched for on the disk.
//! Sources: TS 33.102 annex C.1.1.1; rule 21.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::pace::Moves;
use super::{Record, SQN_STRIDE};
use crate::identity::Impi;
use crate::keys::sqn::Sqn;
use crate::keys::subscribers::{Enrolled, Roll, Subscriber};
use crate::state::Fault;

/// Most names of a roll whose numbers are held.
pub(super) const KNOWN_MAX: usize = 200_000;

pub(super) struct Known {
    pub(super) records: HashMap<Impi, Record>,
    /// Names of the roll, the one that came first in front.
    order: VecDeque<Impi>,
    roll: Option<Arc<dyn Roll>>,
    most: usize,
}

impl Known {
    pub(super) fn new(roll: Option<Arc<dyn Roll>>) -> Self {
        Self { records: HashMap::new(), order: VecDeque::new(), roll, most: KNOWN_MAX }
    }

    /// The same with room for fewer.
    #[cfg(test)]
    pub(super) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    pub(super) fn roll(&self) -> Option<&Arc<dyn Roll>> {
        self.roll.as_ref()
    }

    /// The subscriber of that name, as it stands now.
    pub(super) fn get(&mut self, impi: &Impi) -> Result<Option<&mut Record>, Fault> {
        let Some(roll) = &self.roll else { return Ok(self.records.get_mut(impi)) };
        let Some(Enrolled { mut subscriber, vouched }) = roll.find(impi)? else { return Ok(None) };
        if !self.records.contains_key(impi) {
            self.make_room()?;
            self.order.push_back(impi.clone());
            let record = Record { vouched, ..Record::new(subscriber) };
            return Ok(Some(self.records.entry(impi.clone()).or_insert(record)));
        }
        let Some(record) = self.records.get_mut(impi) else { return Ok(None) };
        // All but the number is as it stands in the roll now; the number has gone on here.
        std::mem::swap(&mut subscriber.sqn, &mut record.subscriber.sqn);
        record.subscriber = subscriber;
        Ok(Some(record))
    }

    /// The next number of a subscriber; `None` when 43 bits are used up.
    pub(super) fn advance(&mut self, impi: &Impi) -> Result<Option<Sqn>, Fault> {
        let Some(record) = self.records.get_mut(impi) else { return Ok(None) };
        let seq = record.subscriber.sqn.last().seq();
        if let Some(roll) = &self.roll
            && seq >= record.vouched
        {
            // The card was ahead of us.
            let vouched = seq.saturating_add(SQN_STRIDE);
            roll.reserve(&[(impi.clone(), vouched)])?;
            record.vouched = vouched;
        }
        Ok(record.subscriber.sqn.advance())
    }

    fn make_room(&mut self) -> Result<(), Fault> {
        if self.records.len() < self.most {
            return Ok(());
        }
        let Some(roll) = &self.roll else { return Ok(()) };
        let part = (self.most / 8).max(1);
        let gone: Vec<_> = self.order.iter().take(part).cloned().collect();
        let ends = |impi: &Impi| {
            let seq = self.records.get(impi)?.subscriber.sqn.last().seq();
            // So that its next stretch begins where this one ended.
            Some((impi.clone(), seq.saturating_add(SQN_STRIDE)))
        };
        roll.reserve(&gone.iter().filter_map(ends).collect::<Vec<_>>())?;
        for impi in gone {
            self.records.remove(&impi);
            self.order.pop_front();
        }
        Ok(())
    }
}

impl Record {
    /// From a list: nothing is vouched for yet.
    pub(super) fn new(subscriber: Subscriber) -> Self {
        let [moves, pushes, digests] = [(); 3].map(|()| Moves::default());
        Self { subscriber, moves, vouched: 0, pushes, pushed: None, digests }
    }

    pub(super) fn is_due(&self) -> bool {
        let seq = self.subscriber.sqn.last().seq();
        seq.saturating_add(SQN_STRIDE / 2) > self.vouched
    }
}

#[cfg(all(test, feature = "edge"))]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::keys::subscribers::stored::{Row, Stored, last_start, number_of};
    use crate::state::{Change, Memory, Store, Table};

    fn impi(number: usize) -> Impi {
        Impi::new(&format!("ue{number}@example.net")).expect("a name")
    }

    fn enrol(store: &dyn Store, number: usize, seq: u64) {
        let text = format!(
            "[[subscriber]]\nimpi = \"{}\"\nk = \"{k}\"\nopc = \"{k}\"\n",
            impi(number),
            k = "465b5ce8b199b49faa5f0a2ee238a6bc"
        );
        let mut row = Row::new("row", Zeroizing::new(text)).expect("good");
        row.seq = seq;
        let number = number_of(row.seq, last_start(store).expect("there"));
        store.write(&row.changes(&number).collect::<Vec<_>>()).expect("room");
    }

    fn next(known: &mut Known, number: usize) -> u64 {
        known.get(&impi(number)).expect("answers").expect("there");
        known.advance(&impi(number)).expect("answers").expect("numbers left").seq()
    }

    /// Whatever happens to a name, no number of it comes twice: other names push it out, the server starts again, the
    /// subscriber is removed and added anew.
    #[test]
    fn numbers_only_rise() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        (0..20).for_each(|number| enrol(&*store, number, 7));
        let mut last = [0_u64; 20];
        for start in 0..4 {
            let roll = Stored::start(Arc::clone(&store)).expect("writes");
            let mut known = Known::new(Some(Arc::new(roll))).at_most(8);
            for round in 0..30 {
                for (number, last) in last.iter_mut().enumerate().skip(round % 5) {
                    let seq = next(&mut known, number);
                    assert!(seq > *last, "start {start}, round {round}: {seq} after {last}");
                    *last = seq;
                }
                assert!(known.records.len() <= 8, "the bound");
            }
            let key = impi(3);
            store
                .write(&[Change::Remove(Table::Subscribers, key.as_str().as_bytes())])
                .expect("writes");
            assert!(known.get(&key).expect("answers").is_none(), "at once");
            enrol(&*store, 3, 0);
        }
        assert!(last.iter().all(|last| *last < 6 * SQN_STRIDE), "a start costs a stretch at most");
    }

    /// A card that is ahead of what is vouched for: its next number is reserved before it is given.
    #[test]
    fn no_number_is_given_that_is_not_written() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        enrol(&*store, 0, 0);
        let roll: Arc<dyn Roll> = Arc::new(Stored::start(Arc::clone(&store)).expect("writes"));
        let mut known = Known::new(Some(Arc::clone(&roll)));
        next(&mut known, 0);
        let ahead = 5_000_000;
        known.records.get_mut(&impi(0)).expect("known").subscriber.sqn.resync(Sqn::new(ahead, 0));
        assert_eq!(next(&mut known, 0), ahead + 1);
        let again = Stored::start(store).expect("writes");
        let found = again.find(&impi(0)).expect("answers").expect("there");
        assert!(found.subscriber.sqn.last().seq() > ahead);
    }
}

//! Keys, subscribers, stored: those that stand in a store, each read when it is asked for.
//!
//! Takes:   a [`Store`]; rows of a list, as `file` reads them.
//! Gives:   [`Stored`], a [`Roll`].
//! Keeps:   nothing in memory but the number of this start. A subscriber is its row of the list, as text; its sequence
//!          number stands apart, in eight octets, and outlives the row: the SEQ up to which it may have been used,
//!          less a stretch for each start. It is written down once it is higher than that of a new one at the first
//!          start, so that a million new ones are a look-up in one large tree, not in two.
//! Refuses: a row that a list would refuse; a number that is lower than the one that stands there.
//! Sources: TS 33.102 annexes C.1.1.1 and C.2.1.
//!
//! Each start has a number of its own, and a stretch of [`SQN_STRIDE`] numbers for each subscriber: what stands there,
//! and a stretch more for each start since. So a start costs one write, a challenge none, and a crash at most a
//! stretch, of which a card takes over two hundred thousand at once.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::file::{Problem, parse};
use super::{Enrolled, Roll, Subscriber};
use crate::identity::{Btid, Impi};
use crate::keys::bootstrap::SQN_STRIDE;
use crate::keys::sqn::{SEQ_MAX, Sqn, SqnGenerator};
use crate::state::{CHANGES_MAX, Change, Fault, Record, Store, Table, Value};

/// Subscribers in a store.
#[derive(Clone, Debug)]
pub struct Stored {
    store: Arc<dyn Store>,
    start: u64,
}

/// The number of the last start.
const START: &[u8] = b"start";

/// A subscriber as it is written: IMPI, its row, and its first sequence number where the row names one.
pub struct Row {
    /// The private identity.
    pub impi: Impi,
    /// The row of the list.
    pub text: Zeroizing<String>,
    /// SEQ of the row.
    pub seq: u64,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({}, ..)", self.impi)
    }
}

impl Row {
    /// A row from the text of one `[[subscriber]]`; `name` stands in problems.
    ///
    /// # Errors
    ///
    /// Every [`Problem`], with lines counted from the row's first.
    pub fn new(name: &str, text: Zeroizing<String>) -> Result<Self, Vec<Problem>> {
        let one = one_of(name, &text)?;
        Ok(Self { impi: one.impi, seq: one.sqn.last().seq(), text })
    }

    /// What writes it; `number` is [`number_of`] this row. A number only rises, so that adding a card again turns
    /// nothing back. One that is no higher than that of a new subscriber at the first start is not written: where none
    /// stands, that one counts.
    pub fn changes<'a>(&'a self, number: &'a [u8; 8]) -> impl Iterator<Item = Change<'a>> {
        let key = self.impi.as_str().as_bytes();
        let row = Change::Put(Table::Subscribers, key, self.text.as_bytes());
        let says_more = *number > number_of(0, 0);
        let number = says_more.then_some(Change::Raise(Table::Sequences, key, number));
        [Some(row), number].into_iter().flatten()
    }
}

/// The number of the last start of a server from `store`.
///
/// # Errors
///
/// A [`Fault`].
pub fn last_start(store: &dyn Store) -> Result<u64, Fault> {
    let Some(octets) = store.read(Table::Node, START)? else { return Ok(0) };
    let octets: Option<[u8; 8]> = octets.as_slice().try_into().ok();
    octets.map(u64::from_be_bytes).ok_or_else(|| Fault::spoilt(Table::Node, START))
}

/// What stands for "at that start, challenges may go on from `seq`": greater is later, octet by octet.
pub fn number_of(seq: u64, start: u64) -> [u8; 8] {
    ZERO.saturating_add(seq).saturating_sub(start.saturating_mul(SQN_STRIDE)).to_be_bytes()
}

/// From where challenges may go on at that start, as the record says; without one, as for a new subscriber.
pub fn seq_in(record: Option<&[u8]>, start: u64) -> u64 {
    let number = record.and_then(|octets| octets.try_into().ok());
    seq_of(number.unwrap_or_else(|| number_of(0, 0)), start)
}

/// From where challenges may go on at that start.
fn seq_of(number: [u8; 8], start: u64) -> u64 {
    let number = u64::from_be_bytes(number).saturating_add(start.saturating_mul(SQN_STRIDE));
    number.saturating_sub(ZERO).min(SEQ_MAX)
}

/// What zero is written as: numbers may be below it.
const ZERO: u64 = 1 << 62;

fn one_of(name: &str, text: &str) -> Result<Subscriber, Vec<Problem>> {
    let mut list = parse(name, text)?;
    let one = list.pop().filter(|_| list.is_empty());
    one.ok_or_else(|| {
        vec![Problem {
            file: name.to_owned(),
            line: 0,
            what: "is not one subscriber".to_owned(),
            why: "each is a record of its own".to_owned(),
            fix: "[[subscriber]]".to_owned(),
        }]
    })
}

impl Stored {
    /// For a server that starts now, and that serves from this store alone.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the start cannot be written down.
    pub fn start(store: Arc<dyn Store>) -> Result<Self, Fault> {
        let before = last_start(&*store)?;
        let start = before.saturating_add(1);
        store.write(&[Change::Raise(Table::Node, START, &start.to_be_bytes())])?;
        Ok(Self { store, start })
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

impl Roll for Stored {
    fn find(&self, impi: &Impi) -> Result<Option<Enrolled>, Fault> {
        let key = impi.as_str().as_bytes();
        let [row, number] = self.store.read_both([Table::Subscribers, Table::Sequences], key)?;
        let Some(row) = row else { return Ok(None) };
        let text = std::str::from_utf8(&row).ok();
        let one = text.and_then(|text| one_of("store", text).ok()).filter(|one| one.impi == *impi);
        let mut subscriber = one.ok_or_else(|| Fault::spoilt(Table::Subscribers, key))?;
        let number = number.map(|octets| octets.as_slice().try_into());
        let number = number.transpose().map_err(|_| Fault::spoilt(Table::Sequences, key))?;
        let seq = seq_of(number.unwrap_or_else(|| number_of(0, 0)), self.start);
        subscriber.sqn = SqnGenerator::new(Sqn::new(seq, 0));
        Ok(Some(Enrolled { subscriber, vouched: seq.saturating_add(SQN_STRIDE) }))
    }

    fn reserve(&self, reserved: &[(Impi, u64)]) -> Result<(), Fault> {
        let begins = |seq: u64| number_of(seq.saturating_sub(SQN_STRIDE), self.start);
        for part in reserved.chunks(CHANGES_MAX) {
            let numbers: Vec<_> = part.iter().map(|(_, seq)| begins(*seq)).collect();
            let mut changes = Vec::with_capacity(part.len());
            for ((impi, _), number) in part.iter().zip(&numbers) {
                changes.push(Change::Raise(Table::Sequences, impi.as_str().as_bytes(), number));
            }
            self.store.write(&changes)?;
        }
        Ok(())
    }

    fn keep_sessions(&self, sessions: &[(Btid, Option<Value>)]) -> Result<(), Fault> {
        for part in sessions.chunks(CHANGES_MAX) {
            let changes: Vec<_> =
                part.iter().map(|(btid, octets)| change_of(btid, octets.as_ref())).collect();
            self.store.write(&changes)?;
        }
        Ok(())
    }

    fn sessions(&self, after: &[u8], most: usize) -> Result<Vec<Record>, Fault> {
        self.store.walk(Table::Sessions, after, most)
    }
}

fn change_of<'a>(btid: &'a Btid, octets: Option<&'a Value>) -> Change<'a> {
    let key = btid.as_str().as_bytes();
    match octets {
        Some(octets) => Change::Put(Table::Sessions, key, octets),
        None => Change::Remove(Table::Sessions, key),
    }
}

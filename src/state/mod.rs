//! State: what a restart, a crash or another node must not forget, and the seam behind which it is kept.
//!
//! Takes:   records of a [`Table`], by their key, and counts of nonces.
//! Gives:   [`Store`]: what was written, whole and unaltered, or a [`Fault`].
//! Keeps:   see `memory` and `embedded`; for any store, as many records as [`Table::most`] says, keys of at most
//!          [`KEY_MAX`] octets, values of at most [`VALUE_MAX`].
//! Refuses: what passes those bounds; to guess: an answer that is not known is a [`Fault`], never a default.
//! Sources: SEC_CF 1.1 SEC-001; rule 21; TS 33.102 annex C.1 (sequence numbers); RFC 7616 section 3.4 (nc); V-148.

#[cfg(feature = "edge")]
pub mod embedded;
pub mod memory;
#[cfg(feature = "edge")]
pub mod seal;

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::instant::WallTime;

pub use memory::Memory;

/// Longest key, in octets.
pub const KEY_MAX: usize = 512;
/// Longest value, in octets.
pub const VALUE_MAX: usize = 64 * 1024;
/// Most changes in one [`Store::write`].
pub const CHANGES_MAX: usize = 16_384;
/// The highest count of a nonce that a store keeps: 512 octets for each nonce.
pub const COUNT_MAX: u32 = 4096;

/// What a record is about. Its number is part of what seals it, so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Subscribers, by IMPI: who may bootstrap, and with what.
    Subscribers = 1,
    /// Sequence numbers, by IMPI: kept when the subscriber is removed, so that adding it again turns nothing back.
    Sequences = 2,
    /// Sessions of the bootstrapping server, by B-TID.
    Sessions = 3,
    /// Keys that were carried to both ends by hand, by identity.
    Keys = 4,
    /// What was taken back before its time, by what it was.
    Revocations = 5,
    /// What one process tells the next.
    Node = 6,
    /// Accounts: users who prove themselves with a password, by realm and username.
    Accounts = 7,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 7] = [
        Self::Subscribers,
        Self::Sequences,
        Self::Sessions,
        Self::Keys,
        Self::Revocations,
        Self::Node,
        Self::Accounts,
    ];

    /// As it is named in faults and on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribers => "subscribers",
            Self::Sequences => "sequences",
            Self::Sessions => "sessions",
            Self::Keys => "keys",
            Self::Revocations => "revocations",
            Self::Node => "node",
            Self::Accounts => "accounts",
        }
    }

    /// Most records.
    pub fn most(self) -> u64 {
        match self {
            Self::Subscribers => 1_000_000,
            // Those of removed subscribers stay.
            Self::Sequences => 4_000_000,
            Self::Sessions => 1_000_000,
            Self::Keys => 100_000,
            Self::Revocations => 250_000,
            Self::Node => 16,
            Self::Accounts => 1_000_000,
        }
    }

    /// Whether its values are secrets: those go into no store that does not seal them itself.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Subscribers | Self::Sessions | Self::Keys | Self::Accounts)
    }
}

/// A value, zeroed on drop.
pub type Value = Zeroizing<Vec<u8>>;

/// One record of a walk: its key, and its value.
pub type Record = (Box<[u8]>, Value);

/// One change of a [`Store::write`].
#[derive(Clone)]
pub enum Change<'a> {
    /// The record is this from now on.
    Put(Table, &'a [u8], &'a [u8]),
    /// The record is this, unless it is greater already, octet by octet. Sequence numbers never go back.
    Raise(Table, &'a [u8], &'a [u8]),
    /// There is no such record any more.
    Remove(Table, &'a [u8]),
}

impl<'a> Change<'a> {
    /// What it is about.
    pub fn place(&self) -> (Table, &'a [u8]) {
        match self {
            Self::Put(table, key, _) | Self::Raise(table, key, _) | Self::Remove(table, key) => {
                (*table, key)
            }
        }
    }

    /// Whether it fits the bounds of every store.
    ///
    /// # Errors
    ///
    /// [`Fault::Unfit`].
    pub fn check(&self) -> Result<(), Fault> {
        let value = match self {
            Self::Put(_, _, value) | Self::Raise(_, _, value) => value.len(),
            Self::Remove(..) => 0,
        };
        let (table, key) = self.place();
        let fits = !key.is_empty() && key.len() <= KEY_MAX && value <= VALUE_MAX;
        if fits { Ok(()) } else { Err(Fault::Unfit(table)) }
    }
}

impl fmt::Debug for Change<'_> {
    /// Without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Put(..) => "Put",
            Self::Raise(..) => "Raise",
            Self::Remove(..) => "Remove",
        };
        let (table, key) = self.place();
        write!(f, "{word}({}, {} octets)", table.name(), key.len())
    }
}

/// One count of one nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    /// Which nonce: no two have the same number while both live.
    pub nonce: u64,
    /// Which use of it.
    pub count: u32,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers, or not in time; what was asked may have been done or not.
    Away(Box<str>),
    /// The record is not what was written: altered, moved, or sealed under another key.
    Spoilt {
        /// Where.
        table: Table,
        /// The key, as text, what cannot be shown left out.
        record: Box<str>,
    },
    /// The file as a whole cannot be read as it was written.
    Broken(Box<str>),
    /// The key does not open this store.
    KeyWrong {
        /// The mark of the key that was given.
        given: Box<str>,
        /// The marks of those that would open it.
        wanted: Box<str>,
    },
    /// Another process has it open.
    Busy,
    /// A key or value that passes its bound.
    Unfit(Table),
    /// As many records as there may be.
    Full(Table),
}

impl Fault {
    /// Names the record that is not what was written.
    pub fn spoilt(table: Table, key: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(key);
        let record = shown.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect::<String>();
        Self::Spoilt { table, record: record.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => write!(f, "the store does not answer: {why}"),
            Self::Spoilt { table, record } => {
                write!(f, "{} \"{record}\" is not what was written there", table.name())
            }
            Self::Broken(why) => write!(f, "the file is damaged: {why}"),
            Self::KeyWrong { given, wanted } => {
                write!(f, "key {given} does not open it; it was sealed under {wanted}")
            }
            Self::Busy => f.write_str("another process has it open"),
            Self::Unfit(table) => write!(f, "a record of {} is too long", table.name()),
            Self::Full(table) => {
                write!(f, "{} holds {} records, the most", table.name(), table.most())
            }
        }
    }
}

impl std::error::Error for Fault {}

/// Where state is kept. Calls may wait for a disk or for another machine: workers never make them, they pause a
/// request with a [`Lookup`](crate::gate::Lookup) and are told.
///
/// What an implementation promises, and what an attacker gains if it errs:
///
/// 1. [`Self::read`] gives what was written last under that table and key, octet for octet, or a fault. One that gives
///    another's record lets him in as that other; one that gives an older one brings back a key that was taken back.
/// 2. [`Self::write`] does all changes or none, and a reader sees all or none. They outlive a crash from the moment it
///    returns. One that forgets them repeats sequence numbers: a challenge recorded long ago is good again.
/// 3. [`Change::Raise`] compares and writes in one step: of two at the same time the greater stays. One that does not
///    turns sequence numbers back, with the same gain.
/// 4. [`Self::spend`] says `true` at most once for a count of a nonce, whoever asks and from wherever, until the time
///    it was given. One that says it twice lets a recorded request in a second time.
/// 5. No answer is a fault. One that says "no such record" when it cannot know opens what was revoked, and turns away
///    who is known.
/// 6. Values of secret tables ([`Table::is_secret`]) are not on any disk or wire in the clear. One that leaves them
///    there gives every subscriber to whoever reads a backup.
pub trait Store: Send + Sync + fmt::Debug {
    /// The record, if there is one.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if that cannot be said for sure.
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Value>, Fault>;

    /// As [`Self::read`], from two tables; where one transaction can be read by itself, as one left them.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    fn read_both(&self, tables: [Table; 2], key: &[u8]) -> Result<[Option<Value>; 2], Fault> {
        let [one, other] = tables;
        Ok([self.read(one, key)?, self.read(other, key)?])
    }

    /// Up to `most` records in the order of their keys, those after `after`; fewer than `most` if there are no more.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    fn walk(&self, table: Table, after: &[u8], most: usize) -> Result<Vec<Record>, Fault>;

    /// How many records a table has.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    fn count(&self, table: Table) -> Result<u64, Fault>;

    /// Makes all changes, in order, or none; at most [`CHANGES_MAX`].
    ///
    /// # Errors
    ///
    /// A [`Fault`]; nothing was changed then, except after [`Fault::Away`], when it is not known.
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Fault>;

    /// Whether this is the first time that this count of this nonce is spent; it is from now on, and remembered for
    /// `life` at least. Counts over [`COUNT_MAX`] are never new.
    ///
    /// # Errors
    ///
    /// A [`Fault`]: then the count may be spent or not, and its nonce must not be trusted again.
    fn spend(&self, count: Count, life: Duration, now: WallTime) -> Result<bool, Fault>;
}

/// Most characters of a key in a fault.
const SHOWN_MAX: usize = 128;

//! Subscribers in a sealed store: what one look-up costs among few, and among as many as there may be.
//!
//! Each look-up is of another subscriber, far from the one before, so that with many of them no look-up finds what the last
//! ones left in the processor's caches. The store is opened as a server opens it. A million are made in some twenty seconds.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use sipward::identity::Impi;
use sipward::keys::subscribers::Roll as _;
use sipward::keys::subscribers::stored::{Row, Stored, number_of};
use sipward::state::embedded::{CACHE, Embedded};
use sipward::state::seal::KeyKey;
use sipward::state::{Store as _, Table};

use crate::heap::Heap;
use crate::held::Held;
use crate::{Bench, Run};

/// The most.
pub(crate) const MANY: usize = 1_000_000;
/// Rows written at a time.
const PART: usize = 4096;
/// Look-ups in one count.
const LOOK_UPS: usize = 1000;

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "store/among-10",
        about: "what a look-up of a subscriber costs, ten being in the store",
        before: 4,
        runs: 4,
        start: || look_up(10),
    },
    Bench {
        name: "store/among-1000",
        about: "the same among a thousand",
        before: 4,
        runs: 4,
        start: || look_up(1000),
    },
    Bench {
        name: "store/among-1000000",
        about: "the same among a million, which is the most",
        before: 4,
        runs: 4,
        start: || look_up(MANY),
    },
];

pub(crate) const HELD: &[Held] = &[Held {
    name: "held/store-1000000",
    about: "octets that an open store holds for each of a million subscribers, after as many look-ups",
    octets: || {
        let folder = Folder::new(MANY);
        let before = Heap::now().live();
        let roll = folder.open();
        for turn in 0..MANY {
            black_box(roll.find(&impi(turn * STEP % MANY)).expect("an answer"));
        }
        (Heap::now().live() - before) as f64 / MANY as f64
    },
}];

/// Odd and no multiple of five, so that it meets every one of a power of ten.
pub(crate) const STEP: usize = 7_368_787;

fn look_up(many: usize) -> Run {
    let folder = Folder::new(many);
    let (roll, mut turn) = (folder.open(), 0);
    Box::new(move |meter| {
        let _ = &folder;
        let asked: Vec<Impi> =
            (0..LOOK_UPS).map(|more| impi((turn + more) * STEP % many)).collect();
        turn += LOOK_UPS;
        meter.count(|| {
            for impi in &asked {
                let found = roll.find(black_box(impi)).expect("an answer").expect("there");
                assert!(found.vouched > 0);
            }
        });
        LOOK_UPS as u64
    })
}

pub(crate) fn impi(number: usize) -> Impi {
    Impi::new(&format!("ue{number:07}@example.net")).expect("a name")
}

/// A folder with a store of so many; it goes with the bench.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(many: usize) -> Self {
        let name = format!("store-{many}-{}", std::process::id());
        let folder = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::create_dir_all(&folder.0).expect("a folder");
        let store = folder.store();
        for part in (0..many).step_by(PART) {
            let rows: Vec<Row> = (part..many.min(part + PART)).map(row).collect();
            let number = number_of(0, 0);
            let changes: Vec<_> = rows.iter().flat_map(|row| row.changes(&number)).collect();
            store.write(&changes).expect("room");
        }
        assert_eq!(store.count(Table::Subscribers), Ok(many as u64));
        folder
    }

    fn store(&self) -> Embedded {
        let key = KeyKey::new(&[b'k'; 64]).expect("long enough");
        Embedded::open_whole(&self.0.join("state.redb"), &key, true, CACHE).expect("a store")
    }

    /// As a server has it once it started.
    pub(crate) fn open(&self) -> Stored {
        Stored::start(Arc::new(self.store())).expect("a start")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everybody's.
pub(crate) const K: [u8; 16] = *b"a key of a bench";

/// Each one's own.
pub(crate) fn opc(number: usize) -> [u8; 16] {
    (number as u128).to_be_bytes()
}

fn row(number: usize) -> Row {
    let impi = impi(number);
    let k = u128::from_be_bytes(K);
    let text = format!(
        "[[subscriber]]\nimpi = \"{impi}\"\nk = \"{k:032x}\"\n\
         opc = \"{number:032x}\"\nimpus = [\"sip:{impi}\", \"tel:+1{number}\"]\n"
    );
    Row::new("row", text.into()).expect("a row")
}

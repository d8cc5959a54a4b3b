//! What every store promises: see the numbered list at `Store`.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use sipward::instant::WallTime;
use sipward::state::{CHANGES_MAX, COUNT_MAX, Change, Count, Fault, KEY_MAX, Table, VALUE_MAX};

use crate::{Folder, stores};

const NOON: WallTime = WallTime::from_unix(1_790_000_000);
const MINUTES: Duration = Duration::from_secs(300);

/// Promise 1: what was written last, under its own table and key.
#[test]
fn a_record_is_what_was_written_last() {
    let folder = Folder::new("last");
    for (name, store) in stores(&folder) {
        assert_eq!(store.read(Table::Keys, b"a").unwrap(), None, "{name}");
        store.write(&[Change::Put(Table::Keys, b"a", b"one")]).unwrap();
        store
            .write(&[
                Change::Put(Table::Keys, b"a", b"two"),
                Change::Put(Table::Sessions, b"a", b"other"),
            ])
            .unwrap();
        assert_eq!(**store.read(Table::Keys, b"a").unwrap().unwrap(), *b"two", "{name}");
        assert_eq!(**store.read(Table::Sessions, b"a").unwrap().unwrap(), *b"other", "{name}");
        assert_eq!(
            (store.count(Table::Keys).unwrap(), store.count(Table::Node).unwrap()),
            (1, 0),
            "{name}"
        );
        let change = [Change::Remove(Table::Keys, b"a"), Change::Remove(Table::Keys, b"never")];
        store.write(&change).unwrap();
        assert_eq!(store.read(Table::Keys, b"a").unwrap(), None, "{name}");
        store.write(&[]).unwrap();
    }
}

/// Walks give each record once, in order, page by page.
#[test]
fn a_walk_meets_each_record_once() {
    let folder = Folder::new("walk");
    for (name, store) in stores(&folder) {
        let keys: Vec<String> = (0..257).map(|number| format!("ue{number:04}")).collect();
        let changes: Vec<_> = keys
            .iter()
            .rev()
            .map(|key| Change::Put(Table::Subscribers, key.as_bytes(), key.as_bytes()))
            .collect();
        store.write(&changes).unwrap();
        let (mut after, mut met) = (Box::default(), Vec::new());
        loop {
            let page = store.walk(Table::Subscribers, &after, 50).unwrap();
            met.extend(page.iter().map(|(key, value)| {
                assert_eq!(&**key, value.as_slice(), "{name}");
                String::from_utf8(key.to_vec()).unwrap()
            }));
            let Some((last, _)) = page.last().filter(|_| page.len() == 50) else { break };
            after = last.clone();
        }
        assert_eq!(met, keys, "{name}");
    }
}

/// Promise 2: all changes or none, and the bounds are those of every store.
#[test]
fn changes_are_made_together_or_not_at_all() {
    let folder = Folder::new("whole");
    for (name, store) in stores(&folder) {
        let long = vec![0; KEY_MAX + 1];
        for bad in [
            Change::Put(Table::Keys, &long, b""),
            Change::Put(Table::Keys, b"", b""),
            Change::Put(Table::Keys, b"b", &vec![0; VALUE_MAX + 1]),
        ] {
            let changes = [Change::Put(Table::Keys, b"a", b"1"), bad];
            assert_eq!(store.write(&changes), Err(Fault::Unfit(Table::Keys)), "{name}");
        }
        let many: Vec<_> =
            (0..=CHANGES_MAX).map(|_| Change::Put(Table::Keys, b"a", b"1")).collect();
        assert_eq!(store.write(&many), Err(Fault::Unfit(Table::Keys)), "{name}");
        let keys: Vec<[u8; 1]> =
            (0..=Table::Node.most()).map(|n| [u8::try_from(n).unwrap()]).collect();
        let full: Vec<_> = keys.iter().map(|key| Change::Put(Table::Node, key, b"")).collect();
        let changes = [&[Change::Put(Table::Keys, b"a", b"1")], full.as_slice()].concat();
        assert_eq!(store.write(&changes), Err(Fault::Full(Table::Node)), "{name}");
        let held = Table::ALL.map(|table| store.count(table).unwrap());
        assert_eq!(held, [0; Table::ALL.len()], "{name}: nothing of it");
        store.write(&full[1..]).unwrap();
        assert_eq!(store.count(Table::Node).unwrap(), Table::Node.most(), "{name}");
    }
}

/// Promise 3: of many that raise one record at the same time, the greatest stays.
#[test]
fn a_raised_record_never_falls() {
    let folder = Folder::new("raise");
    for (name, store) in stores(&folder) {
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (store, start) = (&store, &start);
                scope.spawn(move || {
                    start.wait();
                    for number in 0..25_u64 {
                        let value = ((number * 7 + thread * 13) % 100).to_be_bytes();
                        store.write(&[Change::Raise(Table::Sequences, b"ue1", &value)]).unwrap();
                        let now = store.read(Table::Sequences, b"ue1").unwrap().unwrap();
                        assert!(now.as_slice() >= value.as_slice(), "{name}");
                    }
                });
            }
        });
        let greatest = (0..4)
            .flat_map(|thread| (0..25).map(move |number| (number * 7 + thread * 13) % 100))
            .max();
        let value = store.read(Table::Sequences, b"ue1").unwrap().unwrap();
        assert_eq!(
            Some(u64::from_be_bytes(value.as_slice().try_into().unwrap())),
            greatest,
            "{name}"
        );
    }
}

/// Promise 4: a count passes once, whoever asks; others do not spend it; too high ones are never new.
#[test]
fn a_count_is_spent_once() {
    let folder = Folder::new("count");
    for (name, store) in stores(&folder) {
        let spend = |nonce, count| store.spend(Count { nonce, count }, MINUTES, NOON).unwrap();
        for (nonce, count, first) in [
            (1, 1, true),
            (1, 1, false),
            (1, 3, true),
            (1, 2, true),
            (2, 1, true),
            (1, COUNT_MAX, true),
            (1, COUNT_MAX, false),
            (1, COUNT_MAX + 1, false),
            (1, u32::MAX, false),
        ] {
            assert_eq!(spend(nonce, count), first, "{name}: {nonce}, {count}");
        }
        let passed = thread::scope(|scope| {
            let all: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..20).filter(|count| spend(9, *count)).count()))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).sum::<usize>()
        });
        assert_eq!(passed, 20, "{name}: each once in all");
    }
}

//! The store on disk: what its file shows, to whom it opens, and what becomes of octets that were changed in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use sipward::state::embedded::{CACHE, Embedded};
use sipward::state::seal::{KeyPlace, KeyUnread};
use sipward::state::{Change, Fault, Store, Table};

use crate::{Folder, key, open};

const SECRET: &[u8] = b"465b5ce8b199b49faa5f0a2ee238a6bc";

fn fill(store: &Embedded) {
    let names: Vec<String> = (0..40).map(|number| format!("ue{number}@example.net")).collect();
    let secrets: Vec<Vec<u8>> =
        names.iter().map(|name| [SECRET, name.as_bytes()].concat()).collect();
    for table in [Table::Subscribers, Table::Sessions] {
        let rows = names.iter().zip(&secrets);
        let changes: Vec<_> =
            rows.map(|(name, secret)| Change::Put(table, name.as_bytes(), secret)).collect();
        store.write(&changes).unwrap();
    }
}

/// SEC-001: values are not in the file, and the file is its owner's.
#[test]
fn no_value_is_in_the_file() {
    let folder = Folder::new("sealed");
    fill(&open(&folder.file()));
    let octets = fs::read(folder.file()).unwrap();
    assert!(octets.windows(12).all(|part| part != &SECRET[..12]));
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let fault = Embedded::open(&folder.file(), &key("k"), false).unwrap_err().to_string();
    assert!(fault.contains("chmod 600"), "{fault}");
}

/// A wrong key is told from a damaged file, and names both keys by marks that say nothing of them.
#[test]
fn a_wrong_key_is_told() {
    let folder = Folder::new("key");
    fill(&open(&folder.file()));
    let Err(Fault::KeyWrong { given, wanted }) = Embedded::open(&folder.file(), &key("x"), false)
    else {
        panic!("another key");
    };
    assert_eq!((&*given, &*wanted), (key("x").shown().as_str(), key("k").shown().as_str()));
    assert!(
        Embedded::open(&folder.file().with_extension("gone"), &key("k"), false).is_err(),
        "none is made"
    );
    fs::write(
        folder.file().with_extension("else"),
        b"not a store, but some other file of this machine",
    )
    .unwrap();
    fs::set_permissions(folder.file().with_extension("else"), fs::Permissions::from_mode(0o600))
        .unwrap();
    let fault = Embedded::open(&folder.file().with_extension("else"), &key("k"), true).unwrap_err();
    assert!(matches!(fault, Fault::Broken(_)), "{fault}");
}

/// Another key-encryption key: both open the store until the new one did, and the values were not touched.
#[test]
fn the_key_changes_without_a_moment_in_between() {
    let folder = Folder::new("rotate");
    fill(&open(&folder.file()));
    open(&folder.file()).rotate(&key("n")).unwrap();
    drop(open(&folder.file()));
    open(&folder.file()).rotate(&key("n")).unwrap();
    let new = Embedded::open(&folder.file(), &key("n"), false).unwrap();
    assert_eq!(new.examine().unwrap(), (80, vec![]), "every record opens");
    assert!(
        matches!(Embedded::open(&folder.file(), &key("k"), false), Err(Fault::KeyWrong { .. })),
        "no more"
    );
}

/// One process serves; another may change what it reads meanwhile.
#[test]
fn one_serves_and_others_write() {
    let folder = Folder::new("serve");
    let (server, command) = (open(&folder.file()), open(&folder.file()));
    let serving = server.serve().unwrap();
    assert_eq!(command.serve().unwrap_err(), Fault::Busy);
    command.write(&[Change::Put(Table::Keys, b"a", b"new")]).unwrap();
    assert_eq!(**server.read(Table::Keys, b"a").unwrap().unwrap(), *b"new");
    drop(serving);
    assert!(command.serve().is_ok());
}

/// V-148: an octet changed anywhere in the file is found. A server does not open it; a command names the record, or says
/// that the tree is damaged; and no read gives anything but what was written. Where no octet counts, all is as it was.
#[test]
fn an_octet_changed_anywhere_is_found_and_named() {
    let folder = Folder::new("flip");
    fill(&open(&folder.file()));
    let whole = fs::read(folder.file()).unwrap();
    let altered = folder.file().with_extension("altered");
    // Those of one sealed value, and a sweep over all the rest.
    let at = whole.windows(8).position(|part| part == b"ue7@exam").expect("keys are in the clear");
    let places = (at..at + 400).step_by(7).chain((0..whole.len()).step_by(whole.len() / 251));
    let (mut named, mut refused, mut idle) = (0, 0, 0);
    for place in places {
        let mut octets = whole.clone();
        octets[place] ^= 0x10;
        let put = |octets: &[u8]| {
            fs::write(&altered, octets).unwrap();
            fs::set_permissions(&altered, fs::Permissions::from_mode(0o600)).unwrap();
        };
        put(&octets);
        // As a command does it: names that are not found are no fault by themselves.
        let all = |store: &Embedded| -> Result<usize, Fault> {
            let mut there = 0;
            for number in 0..40 {
                let name = format!("ue{number}@example.net");
                if let Some(value) = store.read(Table::Subscribers, name.as_bytes())? {
                    assert_eq!(**value, *[SECRET, name.as_bytes()].concat(), "octet {place}");
                    there += 1;
                }
            }
            Ok(there)
        };
        let opened = Embedded::open(&altered, &key("k"), false);
        let examined = opened.and_then(|store| Ok((all(&store), store.examine()?)));
        // As a server does it.
        put(&octets);
        let served = Embedded::open_whole(&altered, &key("k"), false, CACHE);
        let served = served.and_then(|store| Ok((all(&store)?, store.examine()?)));
        match (examined, served) {
            (Ok((_, (_, faults))), Err(_)) if !faults.is_empty() => {
                for fault in &faults {
                    assert!(matches!(fault, Fault::Spoilt { .. }), "{fault:?}");
                    assert!(!fault.to_string().contains("465b"), "{fault}");
                }
                named += 1;
            }
            (_, Err(Fault::Broken(_) | Fault::Away(_))) => refused += 1,
            (_, Ok((40, (80, faults)))) if faults.is_empty() => idle += 1,
            (examined, served) => panic!("octet {place}: {examined:?}, {served:?}"),
        }
    }
    assert!(named > 10 && refused > 10, "{named} named, {refused} refused, {idle} idle");
}

/// SEC-001: where a key may come from.
#[test]
fn a_key_file_is_its_owners_alone() {
    let folder = Folder::new("place");
    let path = folder.file().with_extension("key");
    fs::write(&path, "00112233445566778899aabbccddeeff\n").unwrap();
    for (mode, good) in [(0o600, true), (0o400, true), (0o644, false), (0o660, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let read = KeyPlace::File(path.clone()).read();
        assert_eq!(read.is_ok(), good, "{mode:o}");
        if let Err(why) = read {
            assert!(
                matches!(why, KeyUnread::Exposed(_)) && why.to_string().contains("chmod 600"),
                "{why}"
            );
        }
    }
    let unset = KeyPlace::Environment("SIPWARD_NO_SUCH_VARIABLE".into()).read().unwrap_err();
    assert!(unset.to_string().contains("SIPWARD_NO_SUCH_VARIABLE"), "{unset}");
    assert!(matches!(KeyPlace::File(folder.file()).read(), Err(KeyUnread::Io(..))));
}

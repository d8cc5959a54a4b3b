use std::path::{Path, PathBuf};

use super::*;

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("sipward-store-{:016x}", u64::from_be_bytes(clock::random()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new name");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(impi: &str, octet: u8) -> Entry {
    let mut seen = [0; PLACES];
    seen[3] = 77;
    let keys = Bootstrapped {
        impi: Impi::new(impi).expect("a name"),
        btid: Btid::new("I1U8vpY3/J0hiuZNrke/NQ==@bsf.home1.net").expect("a name"),
        ks: Ks::new([octet; 32]),
        origin: match octet {
            1 => Origin::Card(Rand([octet; 16])),
            _ => Origin::Password("a nonce".into()),
        },
        created: WallTime::from_unix(1_800_000_000),
        expires: WallTime::from_unix(1_800_003_600),
        tmpi: Impi::new("x@tmpi.bsf.3gppnetwork.org"),
    };
    Entry { keys, window: SqnWindow::default().with_seen(seen) }
}

fn stored(path: &Path, lock: &Lock) {
    let mut store = Store::open(path, lock).expect("not there yet");
    store.put([entry("a@home1.net", 1), entry("b@home1.net", 2)]).expect("a folder of ours");
}

fn passphrase(text: &str) -> Lock {
    Lock::Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let folder = Folder::new();
    let path = folder.file("ue.keys");
    for lock in [Lock::beside(&path), passphrase("correct horse")] {
        stored(&path, &lock);
        let mut store = Store::open(&path, &lock).expect("the same lock");
        assert!(store.only().is_none(), "two entries");
        let impi = Impi::new("b@home1.net").expect("a name");
        let found = store.get(&impi).expect("it was put");
        let expected = entry("b@home1.net", 2);
        assert_eq!(found.keys.ks.expose(), expected.keys.ks.expose());
        assert_eq!(found.keys.origin, expected.keys.origin);
        let card = store.get(&Impi::new("a@home1.net").expect("a name")).expect("it was put");
        assert_eq!(card.keys.origin, Origin::Card(Rand([1; 16])));
        assert_eq!(
            (&found.keys.btid, &found.keys.tmpi),
            (&expected.keys.btid, &expected.keys.tmpi)
        );
        assert_eq!(
            (found.keys.created, found.keys.expires),
            (expected.keys.created, expected.keys.expires)
        );
        assert_eq!(found.window, expected.window);
        assert!(store.forget(&impi).expect("a folder of ours"));
        let store = Store::open(&path, &lock).expect("the same lock");
        assert_eq!(store.only().map(|entry| entry.keys.impi.as_str()), Some("a@home1.net"));
        std::fs::remove_file(&path).expect("it is there");
    }
}

#[test]
fn no_octet_can_be_changed_and_none_left_out() {
    let folder = Folder::new();
    let path = folder.file("ue.keys");
    let lock = Lock::beside(&path);
    stored(&path, &lock);
    let whole = std::fs::read(&path).expect("it is there");
    let tag = whole.len() - 1;
    for at in [0, MAGIC.len(), MAGIC.len() + 1, MAGIC.len() + 17, MAGIC.len() + 41, tag] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        std::fs::write(&path, &altered).expect("a folder of ours");
        let refused = Store::open(&path, &lock).expect_err("altered");
        let fits = match at {
            0 => matches!(refused, StoreError::NotAStore(_)),
            at if at == MAGIC.len() => matches!(refused, StoreError::OtherLock(_)),
            _ => matches!(refused, StoreError::Sealed(_)),
        };
        assert!(fits, "octet {at}: {refused}");
    }
    for length in [0, MAGIC.len(), MAGIC.len() + 40, MAGIC.len() + 41, tag] {
        std::fs::write(&path, &whole[..length]).expect("a folder of ours");
        assert!(Store::open(&path, &lock).is_err(), "{length} octets of {}", whole.len());
    }
}

#[test]
fn another_key_or_passphrase_does_not_open_it() {
    let folder = Folder::new();
    let (one, other) = (folder.file("one"), folder.file("other"));
    stored(&one, &Lock::beside(&one));
    stored(&other, &Lock::beside(&other));
    let refused = Store::open(&one, &Lock::beside(&other)).expect_err("another key");
    assert!(matches!(refused, StoreError::Sealed(_)), "{refused}");
    let refused = Store::open(&one, &passphrase("x")).expect_err("another lock");
    assert!(matches!(refused, StoreError::OtherLock(_)), "{refused}");
    let third = folder.file("third");
    stored(&third, &passphrase("right"));
    let refused = Store::open(&third, &passphrase("wrong")).expect_err("another passphrase");
    assert!(matches!(refused, StoreError::Sealed(_)), "{refused}");
    std::fs::remove_file(folder.file("one.key")).expect("it is there");
    let refused = Store::open(&one, &Lock::beside(&one)).expect_err("the key is lost");
    assert!(matches!(refused, StoreError::Io(..)), "no new key for an old file: {refused}");
}

#[cfg(unix)]
#[test]
fn both_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let path = folder.file("ue.keys");
    let lock = Lock::beside(&path);
    stored(&path, &lock);
    let key = folder.file("ue.keys.key");
    for file in [&path, &key] {
        let mode = std::fs::metadata(file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("ours");
    let refused = Store::open(&path, &lock).expect_err("others may read the key");
    assert!(matches!(refused, StoreError::Exposed(_)), "SEC-001: {refused}");
}

#[test]
fn nothing_secret_and_no_identity_stands_in_the_file() {
    let folder = Folder::new();
    let path = folder.file("ue.keys");
    stored(&path, &Lock::beside(&path));
    let file = std::fs::read(&path).expect("it is there");
    let ks = [1_u8; 32];
    for needle in [ks.to_vec(), BASE64.encode(ks).into_bytes(), b"home1.net".to_vec()] {
        assert!(memchr::memmem::find(&file, &needle).is_none(), "{needle:?}");
    }
    let names: Vec<_> = std::fs::read_dir(&folder.0).expect("it is there").flatten().collect();
    assert_eq!(names.len(), 2, "the store and its key: {names:?}");
}

//! The store by the program's own commands: keys that are issued, taken over, taken back and sealed anew; many subscribers
//! at once; a file in which an octet was changed.
//!
//! `IMPORT_SUBSCRIBERS` sets how many there are; a million is the most that a store takes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use sipward::identity::Impi;
use sipward::keys::subscribers::Roll as _;
use sipward::keys::subscribers::stored::Stored;
use sipward::state::embedded::Embedded;
use sipward::state::seal::KeyKey;
use sipward::state::{Store, Table};

use crate::Folder;

const CONFIG: &str =
    "[bsf]\nname = \"bsf.example.net\"\n\n[state]\nfile = \"state.redb\"\nkey_file = \"a.key\"\n";
const SECRET: &str = "465b5ce8b199b49faa5f0a2ee238a6bc";
const ALICE: &str = "psk;alice@bsf.example.net";

/// A folder with a configuration and the key to its store.
struct Desk(Folder);

impl Desk {
    fn new(name: &str) -> Self {
        let desk = Self(Folder::new(name));
        desk.write("sipward.toml", CONFIG);
        desk.write("a.key", "00112233445566778899aabbccddeeff\n");
        desk
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path(name), text).unwrap();
        fs::set_permissions(self.0.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Exit code, and what was said.
    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let (area, words) = words.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sipward"));
        command.current_dir(self.0.path("")).arg(area).args(["--config", "sipward.toml"]);
        let done = command.args(words).output().unwrap();
        (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
    }

    fn good(&self, words: &[&str]) -> String {
        let (code, said) = self.run(words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        said
    }

    fn store(&self) -> Embedded {
        let key = KeyKey::of_file(&self.0.path("a.key")).unwrap();
        Embedded::open(&self.0.file(), &key, false).unwrap()
    }
}

/// A key is in two places, the store and the file for the other end, and no output shows it; a file of the other end's is
/// taken over as a whole or not at all; what was taken back is gone.
#[test]
fn keys_are_issued_taken_over_and_taken_back() {
    let desk = Desk::new("commands-key");
    let issue = ["key", "issue", "alice", "--impu", "sip:alice@example.net", "--out", "alice.key"];
    let said = desk.good(&issue);
    assert!(said.starts_with(&format!("{ALICE} proves sip:alice@example.net\n")), "{said}");
    let digits = fs::read_to_string(desk.0.path("alice.key")).unwrap();
    assert_eq!(digits.trim().len(), 64, "256 bits");
    let mode = fs::metadata(desk.0.path("alice.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, again) = desk.run(&issue);
    assert_eq!((code, again.contains("is there already")), (Some(1), true), "{again}");
    let (code, over) = desk.run(&["key", "issue", "bob", "--impu", "tel:+1", "--out", "alice.key"]);
    assert_eq!((code, over.contains("fix: another --out")), (Some(2), true), "{over}");
    assert_eq!(fs::read_to_string(desk.0.path("alice.key")).unwrap(), digits);

    let row = |name: &str, digits: &str| {
        format!(
            "[[key]]\nidentity = \"psk;{name}@x\"\nkey = \"{digits}\"\nidentities = [\"tel:+1\"]\n"
        )
    };
    desk.write("short.toml", &[row("bob", SECRET), row("carol", &SECRET[2..])].concat());
    let (code, short) = desk.run(&["key", "import", "short.toml"]);
    assert_eq!((code, short.contains("short.toml:5: key.key is none")), (Some(2), true), "{short}");
    desk.write("known.toml", &[row("bob", SECRET), row("bob", SECRET)].concat());
    assert_eq!(desk.run(&["key", "import", "known.toml"]).0, Some(2), "one identity is one key");
    let list = desk.good(&["key", "list"]);
    assert_eq!(list.lines().count(), 2, "nothing of those files: {list}");
    desk.write("good.toml", &[row("bob", SECRET), row("carol", SECRET)].concat());
    let good = desk.good(&["key", "import", "good.toml"]);
    let (code, twice) = desk.run(&["key", "import", "good.toml"]);
    assert_eq!((code, twice.contains("fix: sipward key revoke 'psk;")), (Some(1), true), "{twice}");
    let json = desk.good(&["key", "list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["identity"]).collect();
    assert_eq!(names, [ALICE, "psk;bob@x", "psk;carol@x"]);

    desk.good(&["key", "revoke", "psk;bob@x"]);
    assert_eq!(desk.run(&["key", "revoke", "psk;bob@x"]).0, Some(1));
    let list = desk.good(&["key", "list"]);
    assert!(list.contains("psk;carol@x") && !list.contains("psk;bob@x"), "{list}");
    for said in [said, again, over, short, good, twice, json, list] {
        assert!(!said.contains(digits.trim()) && !said.contains(SECRET), "{said}");
    }
}

/// The key that the store is sealed under is replaced: the old one opens it until the new one did, and then no more.
#[test]
fn the_store_is_sealed_under_another_key() {
    let desk = Desk::new("commands-rotate");
    desk.good(&["key", "issue", "alice", "--impu", "tel:+1", "--out", "alice.key"]);
    let said = desk.good(&["key", "rotate", "--to", "b.key"]);
    // From wherever the configuration is read.
    let path = std::path::absolute(desk.0.path("b.key")).unwrap();
    assert!(said.contains(&format!("state.key_file = {:?}", path.to_str().unwrap())), "{said}");
    let new = fs::read_to_string(desk.0.path("b.key")).unwrap();
    assert!(new.trim().len() == 64 && !said.contains(new.trim()), "{said}");
    assert!(desk.good(&["key", "list"]).contains(ALICE), "the old one, still");
    desk.write("sipward.toml", &CONFIG.replace("a.key", "b.key"));
    assert!(desk.good(&["key", "list"]).contains(ALICE), "the new one");
    desk.write("sipward.toml", CONFIG);
    let (code, said) = desk.run(&["key", "list"]);
    assert!(code != Some(0) && said.contains("does not open it"), "{code:?}: {said}");
}

/// V-148: an octet of a record's value, of its key, or of a record in the midst of the tree is changed on the disk; the
/// command says which record is not what was written, and a server that is asked for it says no.
#[test]
fn an_octet_changed_on_the_disk_is_named() {
    let desk = Desk::new("commands-flip");
    desk.write("many.csv", &lines(40));
    desk.good(&["subscriber", "import", "many.csv"]);
    assert!(desk.good(&["key", "examine"]).contains(", 0 of them spoilt"));
    let name = impi(7);
    let whole = fs::read(desk.0.file()).unwrap();
    // The key stands in the clear before its value, which is sealed; the copy that is in force is one of those found.
    let found = whole.windows(name.len()).enumerate().filter(|(_, part)| *part == name.as_bytes());
    let places: Vec<usize> = found.map(|(at, _)| at).collect();
    let mut named = 0;
    for at in places.iter().map(|at| at + name.len() + 40) {
        let mut octets = whole.clone();
        octets[at] ^= 1;
        fs::write(desk.0.file(), &octets).unwrap();
        let (code, said) = desk.run(&["key", "examine"]);
        if code == Some(0) {
            continue;
        }
        assert_eq!(code, Some(1), "{said}");
        let told = said.lines().next().unwrap();
        assert!(told.ends_with("\" is not what was written there"), "{said}");
        assert!(said.contains(", 1 of them spoilt") && !said.contains(SECRET), "{said}");
        // Whoever asks for that one is not answered from it.
        let of = told.split('"').nth(1).unwrap().to_owned();
        if told.starts_with("subscribers ") {
            let store = desk.store();
            assert!(store.read(Table::Subscribers, of.as_bytes()).is_err());
            assert!(store.read(Table::Subscribers, impi(8).as_bytes()).is_ok() || of == impi(8));
        }
        named += 1;
    }
    assert!(named > 0, "{} places", places.len());
}

fn impi(number: usize) -> String {
    format!("ue{number:07}@example.net")
}

/// So many subscribers, as a file of lines.
fn lines(count: usize) -> String {
    let mut text = String::from("impi,k,opc,impus\n");
    for number in 0..count {
        let impi = impi(number);
        writeln!(text, "{impi},{SECRET},{number:032x},sip:{impi} tel:+1{number}").unwrap();
    }
    text
}

/// Many subscribers are taken over at once, each can be asked for, and what was broken off is run again. How long a look-up
/// takes among them, and among none, is said and not judged.
#[test]
fn many_subscribers_are_taken_over_at_once() {
    let count = std::env::var("IMPORT_SUBSCRIBERS").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(3000);
    let desk = Desk::new("commands-import");
    desk.write("few.csv", &lines(10));
    desk.good(&["subscriber", "import", "few.csv"]);
    let (_, among_few) = look_up(&desk, 10);
    desk.write("many.csv", &lines(count));
    let began = Instant::now();
    let said = desk.good(&["subscriber", "import", "many.csv"]);
    let took = began.elapsed();
    let (added, there) = (count - 10, "10 were there already\n");
    assert!(said.starts_with(&format!("{added} subscribers added to ")), "{said}");
    assert!(said.ends_with(there), "{said}");
    let (stored, among_many) = look_up(&desk, count);
    assert_eq!(stored, count as u64);
    let octets = fs::metadata(desk.0.file()).unwrap().len();
    println!(
        "{count} subscribers: taken over in {took:?}; {octets} octets; a look-up among 10 {among_few:?}, \
         among them {among_many:?}"
    );
    let again = desk.good(&["subscriber", "import", "many.csv"]);
    assert!(again.ends_with(&format!("{count} were there already\n")), "{again}");
    let page = desk.good(&["subscriber", "list", "--most", "2", "--after", &impi(count - 3)]);
    assert!(page.contains(&impi(count - 1)) && !page.contains(&impi(count - 3)), "{page}");
}

/// How many there are, and how long one look-up takes.
fn look_up(desk: &Desk, count: usize) -> (u64, std::time::Duration) {
    let store: Arc<dyn Store> = Arc::new(desk.store());
    let roll = Stored::start(Arc::clone(&store)).unwrap();
    let asked = 2000_u32;
    let began = Instant::now();
    for turn in 0..asked as usize {
        // Far apart, so that each is on a page of its own.
        let number = turn * 7_368_787 % count;
        let found = roll.find(&Impi::new(&impi(number)).unwrap()).unwrap().unwrap();
        assert_eq!(found.subscriber.impus[1].as_str(), format!("tel:+1{number}"));
    }
    (store.count(Table::Subscribers).unwrap(), began.elapsed() / asked)
}

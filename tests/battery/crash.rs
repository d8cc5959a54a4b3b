//! A process that writes is killed again and again: what it acknowledged is there, and no sequence number falls.
//!
//! The writer is this program, run once more with a variable that names the store. It writes, and says each number once
//! the write returned; the test reads what it said until it has seen enough, and kills it in the midst of the next.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use sipward::config::accounts::stored;
use sipward::identity::Impi;
use sipward::keys::subscribers::Roll as _;
use sipward::keys::subscribers::stored::{Row, Stored, number_of};
use sipward::state::{Change, Store, Table};
use zeroize::Zeroizing;

use crate::{Folder, open};

/// Where `CRASH_ROUNDS` says nothing.
const ROUNDS: u64 = 40;
const WRITER: &str = "SIPWARD_KILLED_WRITER";
const NAME: &str = "crash::nothing_acknowledged_is_lost_however_often_the_writer_is_killed";
const IMPI: &str = "ue1@example.net";

/// SIGKILL in the midst of writes, `CRASH_ROUNDS` times.
#[test]
fn nothing_acknowledged_is_lost_however_often_the_writer_is_killed() {
    if let Some(path) = std::env::var_os(WRITER) {
        return write_until_killed(Path::new(&path));
    }
    let folder = Folder::new("crash");
    let store = open(&folder.file());
    let row = format!(
        "[[subscriber]]\nimpi = \"{IMPI}\"\nk = \"{k}\"\nopc = \"{k}\"\n",
        k = "00".repeat(16)
    );
    let row = Row::new("row", Zeroizing::new(row)).unwrap();
    let number = number_of(row.seq, 0);
    store.write(&row.changes(&number).collect::<Vec<_>>()).unwrap();
    drop(store);
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let (mut last, mut seq) = (0_u64, 0_u64);
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env(WRITER, folder.file())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).filter_map(|line| {
            let (number, seq) = line.strip_prefix("wrote ")?.split_once(' ')?;
            Some((number.parse::<u64>().unwrap(), seq.parse::<u64>().unwrap()))
        });
        // Some rounds end after the first write, some after a dozen.
        let wanted = usize::try_from(round % 12 + 1).unwrap();
        let mut count = 0;
        for (number, given) in said.take(wanted) {
            assert!(
                number > last && given > seq,
                "round {round}: {number} after {last}, {given} after {seq}"
            );
            (last, seq) = (number, given);
            count += 1;
        }
        assert_eq!(count, wanted, "round {round}: the writer ended by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store = open(&folder.file());
        let kept = store.read(Table::Node, b"last").unwrap().expect("acknowledged");
        let kept = u64::from_be_bytes(kept.as_slice().try_into().unwrap());
        assert!(kept >= last, "round {round}: {kept} is there, {last} was acknowledged");
        for number in last.saturating_sub(30).max(1)..=last {
            let key = format!("session {number}");
            let value = store.read(Table::Sessions, key.as_bytes()).unwrap().expect("acknowledged");
            assert_eq!(**value, number.to_be_bytes(), "round {round}");
            // Every third account is removed again by the next write.
            let account = store.read(Table::Accounts, &account(number)).unwrap();
            let is_removed = number.is_multiple_of(3) && number < kept;
            assert_eq!(account.is_none(), is_removed, "round {round}: account {number} of {kept}");
        }
        last = kept;
    }
    let (count, faults) = open(&folder.file()).examine().unwrap();
    assert!(faults.is_empty() && count > last, "{count} records, {faults:?}");
}

/// The key of an account.
fn account(number: u64) -> Vec<u8> {
    stored::key("example.net", &format!("user{number}")).unwrap()
}

/// The writer: numbers rise from what is there; each has a record of its own and one that all of them raise, written
/// together. With them go sequence numbers, reserved before they are used.
fn write_until_killed(path: &Path) {
    let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(open(path));
    let last = store.read(Table::Node, b"last").unwrap();
    let last = last.map_or(0, |octets| u64::from_be_bytes(octets.as_slice().try_into().unwrap()));
    let roll = Stored::start(store.clone()).unwrap();
    let impi = Impi::new(IMPI).unwrap();
    let found = roll.find(&impi).unwrap().unwrap();
    let mut sqn = found.subscriber.sqn;
    let (mut vouched, mut out) = (found.vouched, std::io::stdout());
    for number in last + 1.. {
        let (key, value) = (format!("session {number}"), number.to_be_bytes());
        let (own, before) = (account(number), account(number - 1));
        let mut changes = vec![
            Change::Put(Table::Sessions, key.as_bytes(), &value),
            Change::Put(Table::Accounts, &own, b"identity tel:+1\n"),
            Change::Raise(Table::Node, b"last", &value),
        ];
        if (number - 1).is_multiple_of(3) {
            changes.push(Change::Remove(Table::Accounts, &before));
        }
        store.write(&changes).unwrap();
        // As if a stretch had been used up by each write.
        let used = sqn.advance().unwrap().seq();
        if used + 1 > vouched || number % 3 == 0 {
            vouched = used + sipward::keys::bootstrap::SQN_STRIDE;
            roll.reserve(&[(impi.clone(), vouched)]).unwrap();
        }
        let said = writeln!(out, "wrote {number} {used}").and_then(|()| out.flush());
        if said.is_err() {
            return;
        }
    }
}

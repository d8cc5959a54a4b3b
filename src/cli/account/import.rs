//! `sipward account import`: many accounts at once.
//!
//! 1. Every account of the file is judged first; with a problem in any, nothing is written, unless `--good-lines` asks for
//!    the rest.
//! 2. Then they are written in parts. An import that was broken off is run again: accounts that are there already, letter
//!    for letter, are counted and left alone. A running edge is told at the end.
//!
//! Takes:   a file of accounts, its owner's alone.
//! Gives:   the accounts in the store, HA1 in the place of passwords. Who is barred there stays so, whatever the file says:
//!          `account unlock` lifts a bar, for one name at a time.
//! Keeps:   the file, 16 octets for each account and one part of [`PART`] records.
//! Refuses: what a file of accounts would not have; one name twice with different records, unless `--replace` says which;
//!          a name that the file of accounts has.
//! Sources: SEC_CF 1.1 SEC-001, SEC-003.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write;

use zeroize::Zeroizing;

use super::{Desk, Import, Stop, table};
use crate::cli::progress::progress;
use crate::cli::vault::Part;
use crate::cli::{GOOD, NO, USAGE};
use crate::config::accounts::{Named, each, stored};
use crate::config::problem::Notes;
use crate::state::{Change, Store as _, Table as Records};

/// Records written at a time.
const PART: usize = 4096;
/// Most problems that are told of one by one.
const TOLD_MAX: usize = 10_000;
/// Accounts between two steps of the bar.
const STEP: u64 = 4096;

/// A record as it is written.
type Record = (Vec<u8>, Zeroizing<String>);

/// Takes the accounts of a file over.
pub(super) fn import(
    desk: &Desk<'_>,
    wish: &Import,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<u8, Stop> {
    let octets = table(&wish.from)?;
    let Judged { notes, left, there, good } = judge(desk, wish, &octets)?;
    let bad = notes.count();
    for problem in notes.into_parts().0 {
        writeln!(errors, "{problem}")?;
    }
    if bad > 0 && !wish.good_lines {
        let what = format!(
            "nothing was written: {bad} problems, {good} accounts without\n    fix: the lines above, or --good-lines"
        );
        return Err(Stop::Said(what, USAGE));
    }
    let written = write(desk, wish, &octets, &left)?;
    let store = desk.vault.embedded().path().display();
    writeln!(out, "{written} accounts added to {store}")?;
    if there > 0 {
        writeln!(out, "{there} were there already")?;
    }
    Ok(if bad > 0 { NO } else { GOOD })
}

/// What the accounts of a file are worth.
struct Judged {
    notes: Notes,
    /// Places among the accounts that could be read of those that are not written.
    left: HashSet<u64>,
    there: u64,
    good: u64,
}

/// Step 1.
fn judge(desk: &Desk<'_>, wish: &Import, octets: &[u8]) -> Result<Judged, Stop> {
    let name = wish.from.display().to_string();
    let notes = Notes::with_room(&name, TOLD_MAX);
    let marks = [RandomState::new(), RandomState::new()];
    let mut seen: HashSet<[u64; 2]> = HashSet::new();
    let (mut left, mut there, mut good, mut place) = (HashSet::new(), 0, 0, 0_u64);
    let mut failed = None;
    let steps = progress("judging", lines(octets));
    let mut take = |mut named: Named| {
        let own = place;
        place += 1;
        if own.is_multiple_of(STEP) {
            steps.set_position(named.line as u64);
        }
        let (line, username) = (named.line, named.username.clone());
        let mut bad = |what: &str, fix: &str| {
            left.insert(own);
            let what = format!("account {username:?} {what}");
            notes.say(line, what, "which of the two counts could not be told", fix);
        };
        let Some(key) = stored::key(&named.realm, &named.username) else {
            return bad("has names that are too long for a store", "");
        };
        if !seen.insert([marks[0].hash_one(&key), marks[1].hash_one(&key)]) {
            return bad("is there twice", "remove one of the two");
        }
        if desk.stands_in_file(&named.realm, &named.username) {
            return bad(&format!("stands in {}", desk.file()), "without it there");
        }
        let known = desk.value(&key);
        if let Ok(Some(known)) = &known {
            desk.keep_bar(&mut named, &key, known);
        }
        match known {
            Err(error) => failed = failed.take().or(Some(error)),
            Ok(Some(known)) if known.as_slice() == stored::value(&named).as_bytes() => {
                left.insert(own);
                there += 1;
            }
            Ok(Some(_)) if !wish.replace => {
                bad("is in the store with another record", "--replace, for all of them");
            }
            Ok(_) => good += 1,
        }
    };
    each(&wish.from, octets, desk.home, &notes, &mut take);
    steps.finish_and_clear();
    failed.map_or(Ok(Judged { notes, left, there, good }), |error| Err(error.into()))
}

/// Step 2; how many were written.
fn write(
    desk: &Desk<'_>,
    wish: &Import,
    octets: &[u8],
    left: &HashSet<u64>,
) -> Result<usize, Stop> {
    let (mut part, mut place, mut written): (Vec<Record>, _, _) = (Vec::new(), 0_u64, 0);
    let mut done = Ok(());
    let steps = progress("writing", lines(octets));
    each(&wish.from, octets, desk.home, &Notes::with_room("", 0), &mut |mut named| {
        let own = place;
        place += 1;
        if left.contains(&own) || done.is_err() {
            return;
        }
        let Some(key) = stored::key(&named.realm, &named.username) else { return };
        if wish.replace {
            match desk.value(&key) {
                Ok(Some(known)) => desk.keep_bar(&mut named, &key, &known),
                Ok(None) => {}
                Err(error) => {
                    done = Err(error);
                    return;
                }
            }
        }
        part.push((key, stored::value(&named)));
        if part.len() == PART {
            let stored = desk.vault.embedded().write(&changes(&part));
            done = stored.map_err(|fault| desk.fails(&fault));
            written += part.len();
            part.clear();
            steps.set_position(named.line as u64);
        }
    });
    done?;
    desk.vault.change(Part::Accounts, &changes(&part))?;
    steps.finish_and_clear();
    Ok(written + part.len())
}

fn changes<'a>(part: &'a [Record]) -> Vec<Change<'a>> {
    let put = |(key, value): &'a Record| Change::Put(Records::Accounts, key, value.as_bytes());
    part.iter().map(put).collect()
}

fn lines(octets: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', octets).count() as u64
}

//! `sipward subscriber --config FILE`: the subscribers in the store of that configuration.
//!
//! 1. An import judges every line first; with a problem in any, nothing is written, unless `--good-lines` asks for the rest.
//! 2. Then the lines are read once more, and written in parts. One that was broken off is run again: rows that are there
//!    already, letter for letter, are counted and left alone.
//!
//! Takes:   a command, and the configuration that names store and key; secrets from files, never as an argument.
//! Gives:   the store changed; a table, or JSON. A running server sees it at the next request.
//! Keeps:   for an import, 16 octets for each line and one part of [`PART`] rows; for a list, [`PAGE`] rows.
//! Refuses: a row that a server would not take; one IMPI twice with different rows, unless `--replace` says which.
//! Sources: SEC_CF 1.1 SEC-001, SEC-003.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::Path;

use toml_edit::DocumentMut;
use zeroize::Zeroizing;

use super::{Add, Command, GOOD, Import, NO, Secrets, Shown, Stop, bar, new_row, rows};
use crate::cli::progress::progress;
use crate::cli::vault::{Part, Vault, in_words};
use crate::config::Config;
use crate::identity::Impi;
use crate::keys::subscribers::file::{Problem, parse};
use crate::keys::subscribers::state::SqnState;
use crate::keys::subscribers::stored::{Row, last_start, number_of, seq_in};
use crate::state::{Change, Fault, Store, Table};

/// Rows written at a time: each is two changes.
const PART: usize = 4096;
/// Rows listed at a time.
const PAGE: usize = 1024;
/// Most problems that are told of one by one.
const TOLD_MAX: usize = 10_000;

/// The store of a configuration.
struct Desk {
    vault: Vault,
}

/// Runs a command on the store of the configuration at `config`.
pub(super) fn run(
    config: &Path,
    command: &Command,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<u8, Stop> {
    let (config, _) = Config::load(config).map_err(|problems| {
        Stop::Said(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let Some(state) = &config.state else {
        let file = config.file.display();
        return Err(Stop::Said(format!(
            "{file} has no [state]\n    its subscribers stand in a list\n    fix: --file subscribers.toml, or [state] in {file}"
        )));
    };
    let desk = Desk { vault: Vault::to_change(state, true)? };
    match command {
        Command::Add(add) => desk.add(add, out),
        Command::List { json, after, most } => {
            desk.list(*json, after.as_deref().unwrap_or_default(), *most, out)
        }
        Command::Remove { impi } => desk.remove(impi, out),
        Command::Lock { impi } => desk.bar(impi, true, out),
        Command::Unlock { impi } => desk.bar(impi, false, out),
        Command::Import(import) => desk.import(import, out, errors),
    }
}

impl Desk {
    fn store(&self) -> &dyn Store {
        self.vault.embedded()
    }

    fn fails(&self, fault: Fault) -> Stop {
        Stop::Io(in_words(self.vault.embedded().path(), &fault))
    }

    fn row_of(&self, impi: &str) -> Result<Option<Zeroizing<String>>, Stop> {
        let found = self.store().read(Table::Subscribers, impi.as_bytes());
        let found = found.map_err(|fault| self.fails(fault))?;
        Ok(found.map(|octets| Zeroizing::new(String::from_utf8_lossy(&octets).into_owned())))
    }

    fn write(&self, rows: &[Row]) -> Result<(), Stop> {
        let fails = |fault| self.fails(fault);
        let start = last_start(self.store()).map_err(fails)?;
        let numbers: Vec<_> = rows.iter().map(|row| number_of(row.seq, start)).collect();
        let changes: Vec<Change<'_>> =
            rows.iter().zip(&numbers).flat_map(|(row, number)| row.changes(number)).collect();
        Ok(self.vault.change(Part::Subscribers, &changes)?)
    }

    fn add(&self, add: &Add, out: &mut dyn Write) -> Result<u8, Stop> {
        // Before the look: who comes in while somebody types is not to be written over.
        let (row, secrets, drawn) = new_row(add)?;
        if self.row_of(&add.impi)?.is_some() {
            writeln!(out, "{} is in the store already", add.impi)?;
            return Ok(NO);
        }
        let mut alone = DocumentMut::new();
        rows(&mut alone).push(row);
        let text = Zeroizing::new(alone.to_string());
        let row = Row::new("subscriber", text).map_err(Stop::Problems)?;
        self.write(&[row])?;
        writeln!(out, "{} added to {}", add.impi, self.vault.embedded().path().display())?;
        tell_secrets(add, drawn, &secrets, out)?;
        Ok(GOOD)
    }

    fn remove(&self, impi: &str, out: &mut dyn Write) -> Result<u8, Stop> {
        if self.row_of(impi)?.is_none() {
            writeln!(out, "{impi} is not in the store")?;
            return Ok(NO);
        }
        let change = Change::Remove(Table::Subscribers, impi.as_bytes());
        self.vault.change(Part::Subscribers, &[change])?;
        writeln!(out, "{impi} removed; its sequence number is kept, in case it comes back")?;
        Ok(GOOD)
    }

    fn bar(&self, impi: &str, barred: bool, out: &mut dyn Write) -> Result<u8, Stop> {
        let Some(text) = self.row_of(impi)? else {
            writeln!(out, "{impi} is not in the store")?;
            return Ok(NO);
        };
        let unfit = |_| Stop::Io(io::Error::other(format!("the row of {impi} is no TOML")));
        let mut alone: DocumentMut = text.parse().map_err(unfit)?;
        bar(rows(&mut alone), 0, barred);
        let row = Row::new("store", Zeroizing::new(alone.to_string())).map_err(Stop::Problems)?;
        let change = Change::Put(Table::Subscribers, impi.as_bytes(), row.text.as_bytes());
        self.vault.change(Part::Subscribers, &[change])?;
        writeln!(out, "{impi} {}", if barred { "locked" } else { "unlocked" })?;
        Ok(GOOD)
    }

    fn list(&self, json: bool, after: &str, most: usize, out: &mut dyn Write) -> Result<u8, Stop> {
        let fails = |fault| self.fails(fault);
        let start = last_start(self.store()).map_err(fails)?;
        let (mut after, mut left) = (Box::from(after.as_bytes()), most);
        let mut shown = super::Lines::new(json);
        while left > 0 {
            let page = self.store().walk(Table::Subscribers, &after, PAGE.min(left));
            let page = page.map_err(fails)?;
            for (key, text) in &page {
                let text = String::from_utf8_lossy(text);
                let found = parse("store", &text).map_err(Stop::Problems)?;
                for subscriber in &found {
                    let number = self.store().read(Table::Sequences, key).map_err(fails)?;
                    let seq = seq_in(number.as_ref().map(|octets| octets.as_slice()), start);
                    shown.row(&Shown { seq, ..Shown::of(subscriber) }, out)?;
                }
            }
            left -= page.len();
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => break,
            }
        }
        shown.end(out)?;
        Ok(GOOD)
    }

    fn import(
        &self,
        import: &Import,
        out: &mut dyn Write,
        errors: &mut dyn Write,
    ) -> Result<u8, Stop> {
        let path = &import.from;
        let octets = std::fs::metadata(path)?.len();
        let lifted = lifted(path)?;
        let judged = self.judge(import, octets)?;
        for problem in &judged.problems {
            writeln!(errors, "{problem}")?;
        }
        if judged.untold > 0 {
            writeln!(errors, "and {} more", judged.untold)?;
        }
        let bad = judged.bad_lines.len();
        if bad > 0 && !import.good_lines {
            let good = judged.good;
            let rest = format!("nothing was written: {bad} lines cannot be, {good} can");
            return Err(Stop::Said(format!("{rest}\n    fix: the lines above, or --good-lines")));
        }
        let steps = progress("writing", octets);
        let (mut part, mut written) = (Vec::with_capacity(PART), 0_usize);
        rows::each(path, &mut |row, at| {
            let Ok(text) = row.text else { return Ok(()) };
            if judged.bad_lines.contains(&row.line) || judged.there.contains(&row.line) {
                return Ok(());
            }
            let mut row = Row::new("row", text).map_err(Stop::Problems)?;
            row.seq = row.seq.max(lifted.get(&row.impi).copied().unwrap_or(0));
            part.push(row);
            if part.len() == PART {
                self.write(&part)?;
                written += part.len();
                part.clear();
                steps.set_position(at);
            }
            Ok(())
        })?;
        self.write(&part)?;
        written += part.len();
        steps.finish_and_clear();
        let store = self.vault.embedded().path().display();
        writeln!(out, "{written} subscribers added to {store}")?;
        if !judged.there.is_empty() {
            writeln!(out, "{} were there already", judged.there.len())?;
        }
        Ok(if bad > 0 { NO } else { GOOD })
    }

    /// Step 1.
    fn judge(&self, import: &Import, octets: u64) -> Result<Judged, Stop> {
        let steps = progress("judging", octets);
        let (path, mut judged) = (&import.from, Judged::default());
        let name = path.display().to_string();
        let marks = [RandomState::new(), RandomState::new()];
        let mut seen: HashSet<[u64; 2]> = HashSet::new();
        let mut count = 0_u64;
        rows::each(path, &mut |row, at| {
            count += 1;
            if count.is_multiple_of(4096) {
                steps.set_position(at);
            }
            let line = row.line;
            let found = match row.text {
                Ok(text) => Row::new(&name, text),
                Err(problem) => Err(vec![problem]),
            };
            let row = match found {
                Ok(row) => row,
                Err(problems) => {
                    let problems = problems.into_iter();
                    judged.bad(line, problems.map(|problem| Problem { line, ..problem }));
                    return Ok(());
                }
            };
            let problem = |what: String, fix: String| Problem {
                file: name.clone(),
                line,
                what,
                why: "which key counts could not be told".to_owned(),
                fix,
            };
            let impi = row.impi.as_str();
            if !seen.insert([marks[0].hash_one(impi), marks[1].hash_one(impi)]) {
                let what = format!("{impi} stands in this file twice");
                judged.bad(line, [problem(what, "remove one of the two".to_owned())]);
                return Ok(());
            }
            match self.row_of(impi)? {
                Some(known) if *known == *row.text => _ = judged.there.insert(line),
                Some(_) if !import.replace => {
                    let what = format!("{impi} is in the store with another row");
                    judged.bad(line, [problem(what, "--replace, for all of them".to_owned())]);
                }
                _ => judged.good += 1,
            }
            Ok(())
        })?;
        steps.finish_and_clear();
        Ok(judged)
    }
}

/// What the lines of a file are worth.
#[derive(Default)]
struct Judged {
    /// At most [`TOLD_MAX`].
    problems: Vec<Problem>,
    untold: usize,
    bad_lines: HashSet<usize>,
    there: HashSet<usize>,
    good: usize,
}

impl Judged {
    fn bad(&mut self, line: usize, problems: impl IntoIterator<Item = Problem>) {
        self.bad_lines.insert(line);
        for problem in problems {
            match self.problems.len() < TOLD_MAX {
                true => self.problems.push(problem),
                false => self.untold += 1,
            }
        }
    }
}

/// Numbers that a server wrote beside a list that is taken over.
fn lifted(path: &Path) -> Result<std::collections::HashMap<Impi, u64>, Stop> {
    let state = SqnState::beside(path);
    Ok(state.numbers()?)
}

fn tell_secrets(add: &Add, drawn: bool, secrets: &Secrets, out: &mut dyn Write) -> io::Result<()> {
    if drawn && add.show_secrets {
        for (name, digits) in secrets {
            writeln!(out, "{name} = \"{}\"", digits.as_str())?;
        }
    } else if drawn {
        writeln!(out, "its key was drawn and stands in the store alone")?;
    }
    Ok(())
}

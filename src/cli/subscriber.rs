//! `sipward subscriber`: the list of those who may bootstrap.
//!
//! Takes:   a command, and the list's path or the configuration whose store they are in (`stored`); secrets from a file
//!          or the standard input, never as an argument.
//! Gives:   the list changed, whole or not at all, with its comments and order kept; a table, or JSON.
//! Keeps:   nothing.
//! Refuses: to write a list that could not be read back; to print a secret that was not asked for by name.
//! Sources: none.

mod rows;
mod stored;

use std::collections::HashSet;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};
use zeroize::Zeroizing;

use crate::clock;
use crate::keys::subscribers::disk::replace;
use crate::keys::subscribers::file::{Problem, others_may_read, parse, parse_hex, read};
use crate::keys::subscribers::state::SqnState;
use crate::keys::subscribers::{Card, Subscriber};
use crate::keys::vector::Algorithms;

/// Exit code: done.
const GOOD: u8 = 0;
/// Exit code: the answer was no.
const NO: u8 = 1;
/// Exit code: usage or configuration.
const USAGE: u8 = 2;

/// The key of a password.
const PASSWORD: &str = "digest_password";

const HEADING: &str =
    "# Subscribers of the bootstrapping server. Whoever reads this file can be any of them.\n\n";

/// The arguments of `sipward subscriber`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The list of subscribers.
    #[arg(long, short, default_value = "subscribers.toml", global = true)]
    pub file: PathBuf,
    /// The configuration whose store they are in, in the place of a list.
    #[arg(long, short, value_name = "FILE", conflicts_with = "file", global = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a subscriber; without --secrets, with a key drawn here.
    Add(Add),
    /// Show the subscribers, without their secrets.
    List {
        /// JSON, one array.
        #[arg(long)]
        json: bool,
        /// Only those whose name comes after this one.
        #[arg(long, value_name = "IMPI")]
        after: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 1000)]
        most: usize,
    },
    /// Remove a subscriber.
    Remove {
        /// The private identity.
        impi: String,
    },
    /// Bar a subscriber: nothing is forgotten, and nothing is let in.
    Lock {
        /// The private identity.
        impi: String,
    },
    /// Lift the bar from a subscriber.
    Unlock {
        /// The private identity.
        impi: String,
    },
    /// Add the subscribers of a file, whole or not at all, with a report of every bad line.
    Import(Import),
}

/// What is to be taken over.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// The file. CSV: a heading with the names of the list's keys, then a line for each; several impus stand in one field,
    /// with spaces between them. `.json`: objects with those keys, in one list or one after the other. `.toml`: a list.
    pub from: PathBuf,
    /// Take the lines that can be taken, and leave out the rest.
    #[arg(long)]
    pub good_lines: bool,
    /// Rows take the place of those that are there under the same name.
    #[arg(long)]
    pub replace: bool,
}

/// A new subscriber.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The private identity: what the UE gives as username on Ub.
    pub impi: String,
    /// A public identity, the default one first.
    #[arg(long = "impu")]
    pub impus: Vec<String>,
    /// A file with the lines `k = "..."` and `opc = "..."` (or op, top, topc), all hex, with `digest_password = "..."` for
    /// who bootstraps by password, or both; `-` is the standard input.
    #[arg(long)]
    pub secrets: Option<PathBuf>,
    /// The functions on the card.
    #[arg(long, default_value = "milenage")]
    pub algorithm: Algorithm,
    /// How long this subscriber's keys live: 30m, 1h, 7d.
    #[arg(long)]
    pub key_lifetime: Option<String>,
    /// Print the key that was drawn, to put it into the UE.
    #[arg(long)]
    pub show_secrets: bool,
}

/// The functions on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// TS 35.206.
    Milenage,
    /// TS 35.231.
    Tuak,
}

/// Why a command ended early.
enum Stop {
    Problems(Vec<Problem>),
    Said(String),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

/// Runs the command; the exit code: 0 done, 1 no such subscriber or already there, 2 a file that cannot be used.
///
/// # Errors
///
/// Those of writing to `out`, and of writing the list.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    if let Some(config) = &args.config {
        return ended(stored::run(config, &args.command, out, errors), errors);
    }
    let result = match &args.command {
        Command::Add(add) => self::add(&args.file, add, out),
        Command::List { json, after, most } => {
            list(&args.file, *json, after.as_deref().unwrap_or_default(), *most, out)
        }
        Command::Remove { impi } => change(&args.file, impi, out, |list, at| {
            remove(list, at);
            "removed"
        }),
        Command::Lock { impi } => change(&args.file, impi, out, |list, at| {
            bar(list, at, true);
            "locked"
        }),
        Command::Unlock { impi } => change(&args.file, impi, out, |list, at| {
            bar(list, at, false);
            "unlocked"
        }),
        Command::Import(import) => self::import(&args.file, import, out),
    };
    ended(result, errors)
}

fn ended(result: Result<u8, Stop>, errors: &mut dyn Write) -> io::Result<u8> {
    match result {
        Ok(code) => Ok(code),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Said(what)) => {
            writeln!(errors, "{what}")?;
            Ok(USAGE)
        }
        Err(Stop::Problems(problems)) => {
            for problem in problems {
                writeln!(errors, "{problem}")?;
            }
            Ok(USAGE)
        }
    }
}

fn add(path: &Path, add: &Add, out: &mut dyn Write) -> Result<u8, Stop> {
    // Before the list: what changes in it while somebody types is not to be undone.
    let (row, secrets, drawn) = new_row(add)?;
    let mut document = open(path)?;
    if position(&mut document, &add.impi).is_some() {
        writeln!(out, "{} is in the list already", add.impi)?;
        return Ok(NO);
    }
    rows(&mut document).push(row);
    save(path, &document)?;
    writeln!(out, "{} added to {}", add.impi, path.display())?;
    if drawn && add.show_secrets {
        for (name, digits) in &secrets {
            writeln!(out, "{name} = \"{}\"", digits.as_str())?;
        }
    } else if drawn {
        writeln!(out, "its key was drawn and stands in that file alone")?;
    }
    Ok(GOOD)
}

/// The row of a new subscriber, its secrets, and whether they were drawn here.
fn new_row(add: &Add) -> Result<(Table, Secrets, bool), Stop> {
    let (secrets, drawn) = match &add.secrets {
        Some(source) => (secrets(source)?, false),
        None => (draw(add.algorithm), true),
    };
    let mut row = Table::new();
    row.insert("impi", value(&add.impi));
    if add.algorithm == Algorithm::Tuak {
        row.insert("algorithm", value("tuak"));
    }
    for (name, digits) in &secrets {
        row.insert(name, value(digits.as_str()));
    }
    if !add.impus.is_empty() {
        row.insert("impus", value(add.impus.iter().collect::<Array>()));
    }
    if let Some(lifetime) = &add.key_lifetime {
        row.insert("key_lifetime", value(lifetime));
    }
    Ok((row, secrets, drawn))
}

/// One subscriber as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    impi: &'a str,
    algorithm: &'static str,
    impus: Vec<&'a str>,
    key_lifetime_seconds: Option<u64>,
    card: &'static str,
    /// Whether it may bootstrap by password.
    password: bool,
    barred: bool,
    seq: u64,
}

impl<'a> Shown<'a> {
    fn of(subscriber: &'a Subscriber) -> Self {
        Self {
            impi: subscriber.impi.as_str(),
            algorithm: match subscriber.algorithms {
                Some(Algorithms::Milenage(_)) => "milenage",
                Some(Algorithms::Tuak(_)) => "tuak",
                None => "none",
            },
            password: subscriber.digest.is_some(),
            impus: subscriber.impus.iter().map(crate::identity::Impu::as_str).collect(),
            key_lifetime_seconds: subscriber.key_lifetime.map(|length| length.as_secs()),
            card: match (&subscriber.algorithms, subscriber.card) {
                (None, _) => "none",
                (Some(_), Card::Gba) => "gba",
                (Some(_), Card::GbaU) => "gba-u",
            },
            barred: subscriber.barred,
            seq: subscriber.sqn.last().seq(),
        }
    }
}

fn list(
    path: &Path,
    json: bool,
    after: &str,
    most: usize,
    out: &mut dyn Write,
) -> Result<u8, Stop> {
    let text = read(path)?;
    let mut subscribers = parse(&path.display().to_string(), &text).map_err(Stop::Problems)?;
    SqnState::beside(path).lift(&mut subscribers)?;
    let mut lines = Lines::new(json);
    let wanted = subscribers.iter().filter(|subscriber| subscriber.impi.as_str() > after);
    for subscriber in wanted.take(most) {
        lines.row(&Shown::of(subscriber), out)?;
    }
    lines.end(out)?;
    Ok(GOOD)
}

/// Subscribers, a line for each.
enum Lines {
    Table(super::Table),
    /// Whether one was printed.
    Json(bool),
}

impl Lines {
    fn new(json: bool) -> Self {
        let headings = &["IMPI", "FUNCTIONS", "CARD", "STATE", "IMPUS"];
        if json { Self::Json(false) } else { Self::Table(super::Table::new(headings)) }
    }

    fn row(&mut self, row: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Table(table) => {
                let state = if row.barred { "locked" } else { "open" };
                let cells = [row.impi, row.algorithm, row.card, state, &row.impus.join(" ")];
                table.row(cells.map(str::to_owned));
                Ok(())
            }
            Self::Json(begun) => {
                let before = if std::mem::replace(begun, true) { "," } else { "[" };
                write!(out, "{before}\n{}", serde_json::to_string_pretty(row)?)
            }
        }
    }

    fn end(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Table(table) => table.print(out),
            Self::Json(begun) => writeln!(out, "{}", if begun { "\n]" } else { "[]" }),
        }
    }
}

/// Changes the row of one subscriber.
fn change(
    path: &Path,
    impi: &str,
    out: &mut dyn Write,
    how: impl FnOnce(&mut ArrayOfTables, usize) -> &'static str,
) -> Result<u8, Stop> {
    let mut document = open(path)?;
    let Some(at) = position(&mut document, impi) else {
        writeln!(out, "{impi} is not in {}", path.display())?;
        return Ok(NO);
    };
    let done = how(rows(&mut document), at);
    save(path, &document)?;
    writeln!(out, "{impi} {done}; a running server takes it over with SIGHUP")?;
    Ok(GOOD)
}

/// Removes a row and the comment right above it; what stands further up, over a blank line, is the file's.
fn remove(list: &mut ArrayOfTables, at: usize) {
    let above =
        |row: &Table| row.decor().prefix().and_then(|text| text.as_str()).unwrap_or("").to_owned();
    let kept = list.get(at).map(above).unwrap_or_default();
    let kept = kept.rsplit_once("\n\n").map_or("", |(kept, _)| kept);
    list.remove(at);
    if let Some(next) = list.get_mut(at).filter(|_| !kept.trim().is_empty()) {
        let own = above(next);
        next.decor_mut().set_prefix(format!("{kept}\n{own}"));
    }
}

fn bar(list: &mut ArrayOfTables, at: usize, barred: bool) {
    if let Some(row) = list.get_mut(at) {
        row.insert("barred", value(barred));
    }
}

fn import(path: &Path, import: &Import, out: &mut dyn Write) -> Result<u8, Stop> {
    let mut document = open(path)?;
    let mut known: HashSet<String> =
        rows(&mut document).iter().filter_map(impi_of).map(str::to_owned).collect();
    let name = import.from.display().to_string();
    let (mut problems, mut added) = (Vec::new(), 0);
    rows::each(&import.from, &mut |row, _| {
        let line = row.line;
        let told = |problem| Problem { line, ..problem };
        let text = match row.text {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                return Ok(());
            }
        };
        // The same reader that a server uses judges each line, so its problems are the same.
        let impi = match parse(&name, &text) {
            Ok(found) => found.first().map(|one| one.impi.to_string()).unwrap_or_default(),
            Err(found) => {
                problems.extend(found.into_iter().map(told));
                return Ok(());
            }
        };
        let there = (!known.insert(impi.clone()))
            .then(|| rows(&mut document).iter().position(|row| impi_of(row) == Some(&impi)))
            .flatten();
        match there {
            Some(at) if import.replace => drop(rows(&mut document).remove(at)),
            Some(_) => {
                problems.push(Problem {
                    file: name.clone(),
                    line,
                    what: format!("{impi} is there already"),
                    why: "which key counts could not be told".to_owned(),
                    fix: format!("sipward subscriber remove {impi}"),
                });
                return Ok(());
            }
            None => {}
        }
        let unfit = |error: toml_edit::TomlError| io::Error::other(error.message().to_owned());
        let mut alone: DocumentMut = text.parse().map_err(unfit)?;
        rows(&mut document).extend(std::mem::take(rows(&mut alone)));
        added += 1;
        Ok(())
    })?;
    if !problems.is_empty() && !import.good_lines {
        return Err(Stop::Problems(problems));
    }
    save(path, &document)?;
    writeln!(out, "{added} subscribers added to {}", path.display())?;
    Ok(if problems.is_empty() { GOOD } else { NO })
}

/// Refuses a file with secrets that others may read.
fn only_ours(path: &Path) -> Result<(), Stop> {
    let facts = std::fs::metadata(path)?;
    let problem = |what: &str, why: &str, fix: String| Problem {
        file: path.display().to_string(),
        line: 0,
        what: what.to_owned(),
        why: why.to_owned(),
        fix,
    };
    if others_may_read(&facts) {
        let fix = format!("chmod 600 {}", path.display());
        let (what, why) = (
            "others than its owner may read it",
            "whoever reads K and OPc can be any of these subscribers",
        );
        return Err(problem(what, why, fix).into());
    }
    Ok(())
}

/// The list, to be changed: a new one if there is no file, else only one that a server would take.
fn open(path: &Path) -> Result<DocumentMut, Stop> {
    let text = if path.exists() { read(path)? } else { Zeroizing::default() };
    parse(&path.display().to_string(), &text).map_err(Stop::Problems)?;
    text.parse::<DocumentMut>().map_err(|error| io::Error::other(error.message().to_owned()).into())
}

/// Writes the list if a server would take it.
fn save(path: &Path, document: &DocumentMut) -> Result<(), Stop> {
    let heading = if path.exists() { "" } else { HEADING };
    let text = Zeroizing::new(format!("{heading}{document}"));
    parse(&path.display().to_string(), &text).map_err(Stop::Problems)?;
    replace(path, text.as_bytes())?;
    Ok(())
}

fn rows(document: &mut DocumentMut) -> &mut ArrayOfTables {
    let item = document.entry("subscriber").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    if !item.is_array_of_tables() {
        // `subscriber = [{...}, ...]` is the same list in another spelling.
        if let Ok(list) = std::mem::take(item).into_array_of_tables() {
            *item = Item::ArrayOfTables(list);
        }
    }
    item.or_insert(Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .expect("the reader took it as a list, and an empty one was put where there was none")
}

fn impi_of(row: &Table) -> Option<&str> {
    row.get("impi").and_then(Item::as_str)
}

fn position(document: &mut DocumentMut, impi: &str) -> Option<usize> {
    rows(document).iter().position(|row| impi_of(row) == Some(impi))
}

type Secrets = Vec<(&'static str, Zeroizing<String>)>;

/// A key and the operator's code bound to it, drawn here.
fn draw(algorithm: Algorithm) -> Secrets {
    let hex = |octets: &[u8]| {
        let digits = octets.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
        Zeroizing::new(digits)
    };
    match algorithm {
        Algorithm::Milenage => {
            let (k, opc) = (clock::random::<16>(), clock::random::<16>());
            vec![("k", hex(&k)), ("opc", hex(&opc))]
        }
        Algorithm::Tuak => {
            let (k, topc) = (clock::random::<32>(), clock::random::<32>());
            vec![("k", hex(&k)), ("topc", hex(&topc))]
        }
    }
}

/// The secrets of a file, or of the standard input.
fn secrets(source: &Path) -> Result<Secrets, Stop> {
    let name = source.display().to_string();
    let text = if source == Path::new("-") {
        let mut text = Zeroizing::new(String::new());
        io::stdin().take(65_536).read_to_string(&mut text)?;
        text
    } else {
        read(source)?
    };
    let (mut found, mut problems): (Secrets, Vec<Problem>) = (Vec::new(), Vec::new());
    for (line, number) in text.lines().zip(1_usize..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, digits) = line.split_once('=').unwrap_or((line, ""));
        let digits = digits.trim();
        if key.trim() == PASSWORD && !digits.is_empty() {
            let text = digits.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            found.push((PASSWORD, Zeroizing::new(text.unwrap_or(digits).to_owned())));
            continue;
        }
        let digits = digits.trim_matches('"');
        let known =
            ["k", "op", "opc", "top", "topc"].into_iter().find(|known| *known == key.trim());
        match known.filter(|_| parse_hex(digits).is_some_and(|octets| !octets.is_empty())) {
            Some(known) => found.push((known, Zeroizing::new(digits.to_owned()))),
            None => problems.push(Problem {
                file: name.clone(),
                line: number,
                what: "is not a secret in hex".to_owned(),
                why: "a line is k, op, opc, top or topc, an equals sign and hex digits; or digest_password \
                      and the password".to_owned(),
                fix: "k = \"0123456789abcdef0123456789abcdef\"".to_owned(),
            }),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(Stop::Problems(problems)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    struct Desk {
        folder: PathBuf,
    }

    impl Desk {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("sipward-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self { folder }
        }

        fn list(&self) -> PathBuf {
            self.folder.join("list.toml")
        }

        fn file(&self, name: &str, text: &str) -> String {
            let path = self.folder.join(name);
            replace(&path, text.as_bytes()).unwrap();
            path.display().to_string()
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.list()).unwrap()
        }

        /// Exit code, output, errors.
        fn run(&self, args: &[&str]) -> (u8, String, String) {
            let list = self.list().display().to_string();
            let words = ["subscriber", "--file", &list].into_iter().chain(args.iter().copied());
            let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let code = run(&cli.args, &mut out, &mut errors).unwrap();
            (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    const SECRETS: &str = "# test set 1\nk = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\nopc=cd63cb71954a9f4e48a5994e37a02baf\n";

    #[test]
    fn add_list_lock_remove() {
        let desk = Desk::new("cli-add");
        let secrets = desk.file("secrets", SECRETS);
        let add =
            ["add", "ue1@example.net", "--impu", "sip:ue1@example.net", "--secrets", &secrets];
        let (code, out, _) = desk.run(&add);
        assert_eq!((code, out.contains("465b")), (GOOD, false), "{out}");
        assert_eq!(desk.run(&add).0, NO, "twice");
        let (code, out, _) = desk.run(&["add", "ue2@example.net", "--algorithm", "tuak"]);
        assert_eq!((code, out.lines().count()), (GOOD, 2));
        let (_, out, _) = desk.run(&["add", "ue3@example.net", "--show-secrets"]);
        let shown = out.lines().find(|line| line.starts_with("k = ")).expect("asked for");
        assert!(desk.text().contains(shown) && shown.len() == 38, "{shown}");

        // A comment by hand outlives every change.
        desk.file("list.toml", &desk.text().replace("impi = \"ue2", "# by hand\nimpi = \"ue2"));
        assert_eq!(desk.run(&["lock", "ue2@example.net"]).0, GOOD);
        let (_, out, _) = desk.run(&["list"]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "IMPI             FUNCTIONS  CARD  STATE   IMPUS");
        assert_eq!(lines[1], "ue1@example.net  milenage   gba   open    sip:ue1@example.net");
        assert_eq!(lines[2], "ue2@example.net  tuak       gba   locked");
        let (_, json, _) = desk.run(&["list", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json[1]["barred"], true);
        assert_eq!(json[0]["impus"][0], "sip:ue1@example.net");
        assert!(!json.to_string().contains("465b"));
        assert_eq!(desk.run(&["unlock", "ue2@example.net"]).0, GOOD);
        assert_eq!(desk.run(&["remove", "ue1@example.net"]).0, GOOD);
        assert_eq!(desk.run(&["remove", "ue1@example.net"]).0, NO);
        let text = desk.text();
        assert!(text.starts_with(HEADING) && text.contains("# by hand"), "{text}");
        assert!(text.contains("barred = false") && !text.contains("ue1@"), "{text}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(desk.list()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    /// A password beside a card or without one: shown as being there, never what it is.
    #[test]
    fn who_has_a_password_needs_no_card() {
        let desk = Desk::new("cli-password");
        let one = desk.file("one", "digest_password = \"of \\one\"\n");
        let both = desk.file("both", &format!("{SECRETS}digest_password=of both\n"));
        assert_eq!(desk.run(&["add", "ue1@example.net", "--secrets", &one]).0, GOOD);
        assert_eq!(desk.run(&["add", "ue2@example.net", "--secrets", &both]).0, GOOD);
        let list = desk.text();
        assert!(list.contains("of both") && !list.contains("\"of \\one\""), "{list}");
        let (_, json, _) = desk.run(&["list", "--json"]);
        assert!(!json.contains("of one") && !json.contains("of both"), "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (at, algorithm, card) in [(0, "none", "none"), (1, "milenage", "gba")] {
            assert_eq!(json[at]["algorithm"], algorithm);
            assert_eq!(json[at]["card"], card);
            assert_eq!(json[at]["password"], true);
        }
        let (_, table, _) = desk.run(&["list"]);
        let line = table.lines().nth(1).unwrap();
        assert_eq!(line.trim_end(), "ue1@example.net  none       none  open");
    }

    #[test]
    fn what_cannot_be_is_not_written() {
        let desk = Desk::new("cli-bad");
        let short = desk.file("short", "k = 465b\n");
        let odd = desk.file("odd", "k = xyz\nkee = 00\n");
        for (args, problems) in [
            (vec!["add", "ue1@example.net", "--secrets", &short], 2),
            (vec!["add", "ue1@example.net", "--secrets", &odd], 2),
            (vec!["add", "a b"], 1),
            (vec!["add", "ue1@example.net", "--impu", "mailto:x"], 1),
            (vec!["add", "ue1@example.net", "--key-lifetime", "5"], 1),
            (vec!["list"], 1),
        ] {
            let (code, out, errors) = desk.run(&args);
            assert_eq!((code, out.as_str()), (USAGE, ""), "{args:?}");
            assert_eq!(errors.matches("fix: ").count(), problems, "{args:?}: {errors}");
            assert!(!desk.list().exists());
        }
        desk.file("list.toml", "[[subscriber]]\nimpi = \"x\"\n");
        let (code, _, errors) = desk.run(&["add", "ue1@example.net"]);
        assert_eq!((code, errors.contains("list.toml:1: ")), (USAGE, true), "{errors}");
        assert_eq!(desk.text(), "[[subscriber]]\nimpi = \"x\"\n", "as it was");
    }

    #[test]
    fn import_is_whole_or_not_at_all() {
        let desk = Desk::new("cli-csv");
        let key = "465b5ce8b199b49faa5f0a2ee238a6bc";
        let good = desk.file(
            "good.csv",
            &format!(
                "impi, k, opc, impus, barred\n# two\nue1@x,{key},{key},sip:ue1@x tel:+1,\n\nue2@x,{key},{key},,true\n"
            ),
        );
        let (code, out, errors) = desk.run(&["import", &good]);
        assert_eq!((code, out.starts_with("2 subscribers added")), (GOOD, true), "{errors}");
        let before = desk.text();
        let bad = desk.file(
            "bad.csv",
            &format!(
                "impi,k,opc\nue1@x,{key},{key}\nue3@x,00,{key}\nue4@x,{key}\nue5@x,{key},{key}\n"
            ),
        );
        let (code, _, errors) = desk.run(&["import", &bad]);
        assert_eq!(code, USAGE);
        for line in [2, 3, 4] {
            assert!(errors.contains(&format!("bad.csv:{line}: ")), "{errors}");
        }
        assert_eq!(errors.matches("fix: ").count(), 3, "{errors}");
        assert_eq!(desk.text(), before);
        let (_, json, _) = desk.run(&["list", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(2));
        assert_eq!(json[0]["impus"][1], "tel:+1");
    }

    #[test]
    fn the_other_spelling_is_the_same_list() {
        let desk = Desk::new("cli-inline");
        let key = "465b5ce8b199b49faa5f0a2ee238a6bc";
        desk.file(
            "list.toml",
            &format!("subscriber = [{{ impi = \"ue1@x\", k = \"{key}\", opc = \"{key}\" }}]\n"),
        );
        assert_eq!(desk.run(&["lock", "ue1@x"]).0, GOOD);
        let (_, json, _) = desk.run(&["list", "--json"]);
        assert!(json.contains("\"barred\": true"), "{json}");
    }
}

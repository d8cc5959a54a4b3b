//! Configuration, accounts, forms: the ways in which a file writes accounts down.
//!
//! Takes:   the text of a file, and its ending: `.csv`, `.json`, `.htdigest`, any other is TOML.
//! Gives:   each [`Row`], and what is wrong with which line.
//! Keeps:   one row.
//! Refuses: columns and keys it does not know; lines over [`LINE_MAX`]; more of them than there may be accounts.
//! Sources: RFC 4180; RFC 8259.
//!
//! A CSV file begins with a line that names its columns, among `username`, `realm`, `password`, `md5`, `sha-256`,
//! `sha-512-256`, `identities` and `classes` (several with a space between) and `disabled`. JSON has objects with those
//! keys, in one list or one after the other, where several stand in a list. A line of `.htdigest` is
//! `username:realm:MD5`, the last being HA1 in hex.

use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use super::{LINE_MAX, Row};
use crate::authentication::accounts::ACCOUNTS_MAX;
use crate::authentication::digest::Hash;
use crate::config::field;
use crate::config::problem::Notes;
use crate::config::raw::{self, Document, Lines, Section};

/// The algorithms, and what they are called.
pub(super) const HASHES: [(&str, Hash); 3] =
    [("MD5", Hash::Md5), ("SHA-256", Hash::Sha256), ("SHA-512-256", Hash::Sha512_256)];

/// Gives every row of a file with that ending to `take`.
pub(super) fn each(ending: &str, text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    match ending {
        "csv" => csv(text, notes, take),
        "json" | "jsonl" | "ndjson" => json(text, notes, take),
        "htdigest" => htdigest(text, notes, take),
        _ => toml(text, notes, take),
    }
}

fn toml(text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    let Some(table) = raw::parse(text, notes) else { return };
    let document = Document { text, lines: Lines::new(text), notes, secret: true };
    let mut root = Section::root(&document, table.get_ref());
    for mut section in root.tables("account") {
        let line = section.place().line;
        let username =
            section.need::<String>("username", "the name that the caller gives", "\"alice\"");
        let realm = section.maybe::<String>("realm").map(|spot| spot.value);
        let password = section.maybe::<Secretive>("password").map(|spot| spot.value.0);
        let unread = section.has("password") && password.is_none();
        let mut table = section.table("ha1");
        let stored = HASHES.into_iter().filter_map(|(name, hash)| {
            table.maybe::<Secretive>(name).map(|spot| (hash, spot.value.0))
        });
        let ha1 = stored.collect();
        table.finish();
        let identities = section.maybe::<Vec<String>>("identities").map(|spot| spot.value);
        let identities = identities.unwrap_or_default();
        let disabled = section.or("disabled", false);
        let classes = section.maybe::<Vec<String>>("classes").map(|spot| spot.value);
        section.finish();
        let Some(username) = username.filter(|_| !unread) else { continue };
        let (username, realm) = (username.value.as_str(), realm.as_deref());
        take(Row { line, username, realm, password, ha1, identities, disabled, classes });
    }
    root.finish();
}

/// Text that is zeroed on drop and stands in no problem.
pub(in crate::config) struct Secretive(Zeroizing<String>);

impl Secretive {
    /// The text.
    pub(in crate::config) fn text(&self) -> &str {
        &self.0
    }
}

impl field::Field for Secretive {
    const WHY: &'static str = "a text stands in quotes";
    const EXAMPLE: &'static str = "\"..\"";

    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, field::Wrong> {
        match value.as_str() {
            Some(text) => Ok(Self(Zeroizing::new(text.to_owned()))),
            None => Err(field::Wrong {
                what: "is not a text in quotes".into(),
                why: Self::WHY,
                value: Self::EXAMPLE.into(),
            }),
        }
    }
}

fn csv(text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let Some((_, head)) = lines.next() else { return };
    let Some(columns) = columns(head, notes) else { return };
    for (number, line) in lines.take(ACCOUNTS_MAX + 1) {
        let line_number = number + 1;
        if line.len() > LINE_MAX {
            notes.say(line_number, "the line is too long".into(), "16 KiB is the most", "");
            continue;
        }
        let Some(cells) = cells(line) else {
            let why = "a quote that begins a field ends it too; inside, it stands twice (RFC 4180)";
            notes.say(line_number, "the line has a quote that does not fit".into(), why, "");
            continue;
        };
        if cells.len() != columns.len() {
            let what = format!("the line has {} fields, not {}", cells.len(), columns.len());
            notes.say(line_number, what, "as many as the first line names", "");
            continue;
        }
        let mut row = Row { line: line_number, ..Row::default() };
        let mut fits = true;
        for (column, cell) in columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()) {
            match column {
                Column::Username => row.username = cell,
                Column::Realm => row.realm = Some(cell),
                Column::Password => row.password = Some(cell.clone()),
                Column::Ha1(hash) => row.ha1.push((*hash, cell.clone())),
                Column::Identities => {
                    row.identities = cell.split_ascii_whitespace().map(str::to_owned).collect();
                }
                Column::Classes => {
                    row.classes = Some(cell.split_ascii_whitespace().map(str::to_owned).collect());
                }
                Column::Disabled => match cell.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "1" => row.disabled = true,
                    "false" | "no" | "0" => {}
                    _ => {
                        fits = false;
                        undecided(line_number, notes);
                    }
                },
            }
        }
        if fits {
            take(row);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Username,
    Realm,
    Password,
    Ha1(Hash),
    Identities,
    Disabled,
    Classes,
}

const COLUMNS: &str = "columns are: username, realm, password, md5, sha-256, sha-512-256, identities, disabled, classes";

impl Column {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "username" => Self::Username,
            "realm" => Self::Realm,
            "password" => Self::Password,
            "md5" => Self::Ha1(Hash::Md5),
            "sha-256" => Self::Ha1(Hash::Sha256),
            "sha-512-256" => Self::Ha1(Hash::Sha512_256),
            "identities" => Self::Identities,
            "disabled" => Self::Disabled,
            "classes" => Self::Classes,
            _ => return None,
        })
    }
}

fn undecided(line: usize, notes: &Notes) {
    notes.say(line, "disabled is neither true nor false".into(), "a user is or is not", "");
}

fn columns(head: &str, notes: &Notes) -> Option<Vec<Column>> {
    let mut columns = Vec::new();
    for name in head.split(',').map(|name| name.trim().trim_matches('"').to_ascii_lowercase()) {
        let Some(column) = Column::named(&name) else {
            let shown: String = name.chars().take(64).collect();
            let what = format!("{shown:?} is not a column");
            notes.say(1, what, COLUMNS, "username,password,identities");
            return None;
        };
        if columns.contains(&column) {
            notes.say(1, format!("column {name:?} is there twice"), "", "");
            return None;
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Username) {
        let what = "the column username is missing".to_owned();
        notes.say(1, what, "the first line names the columns", "username,password,identities");
        return None;
    }
    Some(columns)
}

/// The fields of a line; `None` if quotes do not fit.
pub(crate) fn cells(line: &str) -> Option<Vec<Zeroizing<String>>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (cell, more) =
                rest.split_once(',').map_or((rest, None), |(cell, more)| (cell, Some(more)));
            cells.push(Zeroizing::new(cell.trim().to_owned()));
            match more {
                Some(more) => rest = more,
                None => return Some(cells),
            }
            continue;
        };
        let mut cell = Zeroizing::new(String::with_capacity(quoted.len()));
        let mut tail = quoted;
        loop {
            let (text, more) = tail.split_once('"')?;
            cell.push_str(text);
            match more.strip_prefix('"') {
                Some(more) => {
                    cell.push('"');
                    tail = more;
                }
                None => {
                    tail = more;
                    break;
                }
            }
        }
        cells.push(cell);
        match tail.strip_prefix(',') {
            Some(more) => rest = more,
            None => return tail.is_empty().then_some(cells),
        }
    }
}

fn json(text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    let octets = text.as_bytes();
    let (mut at, mut line, mut counted) = (0_usize, 1_usize, 0_usize);
    for _ in 0..=ACCOUNTS_MAX {
        let between = |octet: &u8| octet.is_ascii_whitespace() || b",[]".contains(octet);
        let rest = octets.get(at..).unwrap_or_default();
        let Some(ahead) = rest.iter().position(|octet| !between(octet)) else { return };
        at = at.saturating_add(ahead);
        let passed = octets.get(counted..at).unwrap_or_default();
        line = line.saturating_add(memchr::memchr_iter(b'\n', passed).count());
        counted = at;
        let rest = octets.get(at..).unwrap_or_default();
        let mut values =
            serde_json::Deserializer::from_slice(rest).into_iter::<Map<String, Value>>();
        let Some(Ok(mut object)) = values.next() else {
            // Where it ends is not known: the next line is looked at.
            let line_end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            at = at.saturating_add(line_end);
            let what = "what stands here is no object in JSON".to_owned();
            notes.say(
                line,
                what,
                "each account is one",
                "{\"username\": \"alice\", \"md5\": \"..\"}",
            );
            continue;
        };
        at = at.saturating_add(values.byte_offset());
        of_object(&object, line, notes, take);
        object.iter_mut().for_each(|(_, value)| wipe(value));
    }
}

fn wipe(value: &mut Value) {
    if let Value::String(text) = value {
        text.zeroize();
    }
}

fn of_object(
    object: &Map<String, Value>,
    line: usize,
    notes: &Notes,
    take: &mut dyn FnMut(Row<'_>),
) {
    let mut row = Row { line, ..Row::default() };
    for (name, value) in object {
        let shown: String = name.chars().take(64).collect();
        let Some(column) = Column::named(&name.to_ascii_lowercase()) else {
            return notes.say(line, format!("{shown:?} is not a column"), COLUMNS, "");
        };
        let secret = |text: &String| Zeroizing::new(text.clone());
        let words = |list: &[Value]| {
            list.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        match (column, value) {
            (_, Value::Null) => {}
            (Column::Username, Value::String(text)) => row.username = text,
            (Column::Realm, Value::String(text)) => row.realm = Some(text),
            (Column::Password, Value::String(text)) => row.password = Some(secret(text)),
            (Column::Ha1(hash), Value::String(text)) => row.ha1.push((hash, secret(text))),
            (Column::Disabled, Value::Bool(disabled)) => row.disabled = *disabled,
            (Column::Disabled, _) => return undecided(line, notes),
            (Column::Identities | Column::Classes, Value::Array(list)) if words(list).is_some() => {
                let list = words(list).unwrap_or_default();
                match column {
                    Column::Classes => row.classes = Some(list),
                    _ => row.identities = list,
                }
            }
            (Column::Identities | Column::Classes, _) => {
                let what = format!("{shown} is no list of texts");
                return notes.say(line, what, "several may stand in it", "[\"..\"]");
            }
            _ => return notes.say(line, format!("{shown} is no text"), "it stands in quotes", ""),
        }
    }
    take(row);
}

fn htdigest(text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (number, line) in lines.take(ACCOUNTS_MAX + 1) {
        let line_number = number + 1;
        let mut parts = line.trim_end().splitn(3, ':');
        let fields = (parts.next(), parts.next(), parts.next());
        let (Some(username), Some(realm), Some(digits)) = fields else {
            let why = "a line is a username, a realm and HA1 by MD5, with colons between";
            notes.say(line_number, "the line has no three fields".into(), why, "");
            continue;
        };
        let ha1 = vec![(Hash::Md5, Zeroizing::new(digits.to_owned()))];
        take(Row { line: line_number, username, realm: Some(realm), ha1, ..Row::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "0123456789abcdef0123456789abcdef";

    /// Username, realm, HA1 by MD5, classes of each row; and the lines of what is wrong.
    fn read(ending: &str, text: &str) -> (Vec<String>, Vec<usize>) {
        let (notes, mut rows) = (Notes::new("accounts"), Vec::new());
        each(ending, text, &notes, &mut |row| {
            let ha1 = row.ha1.iter().map(|(_, digits)| digits.as_str()).collect::<String>();
            let classes = row.classes.unwrap_or_default().join(" ");
            let realm = row.realm.unwrap_or_default();
            rows.push(format!("{}: {} {realm} {ha1} {classes}", row.line, row.username));
        });
        (rows, notes.into_parts().0.iter().map(|problem| problem.line).collect())
    }

    #[test]
    fn one_account_is_the_same_in_every_form() {
        for (ending, text) in [
            ("csv", format!("username,realm,md5\nalice,x,{MD5}\n")),
            (
                "json",
                format!("[\n{{\"username\": \"alice\", \"realm\": \"x\", \"MD5\": \"{MD5}\"}}]"),
            ),
            ("htdigest", format!("\nalice:x:{MD5}\n")),
            (
                "toml",
                format!(
                    "\n[[account]]\nusername = \"alice\"\nrealm = \"x\"\nha1 = {{ MD5 = \"{MD5}\" }}"
                ),
            ),
        ] {
            let (rows, wrong) = read(ending, &text);
            assert_eq!((rows, wrong), (vec![format!("2: alice x {MD5} ")], vec![]), "{ending}");
        }
    }

    #[test]
    fn every_bad_line_is_told_and_the_next_one_read() {
        let json = "{\"username\": 1}\n{\"usernome\": \"a\"}\n{\"classes\": \"cpm\"}\n{\"disabled\": \"yes\"}\n\
            {\"username\": \"x\n}\n{\"username\": \"b\", \"classes\": [\"cpm\", \"locsip\"], \"realm\": null}\n";
        let (rows, wrong) = read("json", json);
        assert_eq!(rows, ["7: b   cpm locsip"]);
        assert_eq!(wrong, [1, 2, 3, 4, 5, 6]);
        let (rows, wrong) = read("htdigest", "alice\nbob:x\ncarol:x:00:11\n");
        assert_eq!((rows, wrong), (vec!["3: carol x 00:11 ".to_owned()], vec![1, 2]));
    }
}

//! `sipward subscriber import`, rows: subscribers as other systems write them, each as a row of the list.
//!
//! Takes:   a file of lines (`.csv`), of objects (`.json`: one list, or one object after the other) or a list (`.toml`).
//! Gives:   the text of one `[[subscriber]]` after the other, with the line where it stands.
//! Keeps:   one row of a CSV file; of the others the whole file, at most [`FILE_MAX`] octets. Both are zeroed.
//! Refuses: lines over [`LINE_MAX`] octets, fields that the heading does not name, objects that are none; each is told
//!          of with its line, and the next one is read.
//! Sources: RFC 4180; RFC 8259.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde_json::{Map, Value};
use toml_edit::{Document, DocumentMut, Item, Table};
use zeroize::{Zeroize as _, Zeroizing};

use super::Stop;
use crate::config::accounts::cells;
#[cfg(doc)]
use crate::keys::subscribers::file::FILE_MAX;
use crate::keys::subscribers::file::{Problem, read};

/// Longest line of a CSV file, in octets.
pub(super) const LINE_MAX: usize = 16 * 1024;

/// A row as it stands in a file: its line, and its text or what is wrong with it.
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) text: Result<Zeroizing<String>, Problem>,
}

/// Gives every row of the file at `path` to `take`, and how many octets were read so far.
pub(super) fn each(
    path: &Path,
    take: &mut dyn FnMut(Row, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    match ending.as_ref().and_then(|ending| ending.to_str()) {
        Some("json" | "jsonl" | "ndjson") => json(path, take),
        Some("toml") => list(path, take),
        _ => csv(path, take),
    }
}

fn csv(path: &Path, take: &mut dyn FnMut(Row, u64) -> Result<(), Stop>) -> Result<(), Stop> {
    let name = path.display().to_string();
    let problem = |line, what: &str, why: &str, fix: &str| Problem {
        file: name.clone(),
        line,
        what: what.to_owned(),
        why: why.to_owned(),
        fix: fix.to_owned(),
    };
    // Only to judge who may read it: the lines are read one by one.
    super::only_ours(path)?;
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut columns: Option<Vec<String>> = None;
    let (mut line, mut octets) = (0_usize, 0_u64);
    let mut text = Zeroizing::new(Vec::with_capacity(LINE_MAX + 2));
    loop {
        text.zeroize();
        let most = LINE_MAX as u64 + 1;
        let length = (&mut reader).take(most).read_until(b'\n', &mut text)?;
        if length == 0 {
            return Ok(());
        }
        line += 1;
        octets += length as u64;
        if length > LINE_MAX && text.last() != Some(&b'\n') {
            octets += skip_line(&mut reader)?;
            let (what, why) = ("is too long a line", "16 KiB is the most");
            take(Row { line, text: Err(problem(line, what, why, "")) }, octets)?;
            continue;
        }
        let Ok(written) = std::str::from_utf8(&text) else {
            let (what, why) = ("is not UTF-8 text", "an identity is the same everywhere or none");
            take(Row { line, text: Err(problem(line, what, why, "iconv -t utf-8")) }, octets)?;
            continue;
        };
        let written = written.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        if written.trim().is_empty() || written.starts_with('#') {
            continue;
        }
        let Some(fields) = cells(written) else {
            let (what, why) = (
                "has a quote that does not fit",
                "inside a quoted field it stands twice (RFC 4180)",
            );
            take(
                Row { line, text: Err(problem(line, what, why, "\"a \"\"quoted\"\" field\"")) },
                octets,
            )?;
            continue;
        };
        let Some(columns) = &columns else {
            columns = Some(fields.iter().map(|field| field.trim().to_owned()).collect());
            continue;
        };
        let text = if fields.len() == columns.len() {
            let mut row = Zeroizing::new(String::with_capacity(512 + written.len() * 2));
            row.push_str(HEAD);
            for (column, field) in columns.iter().zip(&fields) {
                if !field.trim().is_empty() {
                    put(&mut row, column, &field_value(column, field.trim()));
                }
            }
            Ok(row)
        } else {
            let what = format!("has {} fields, the heading {}", fields.len(), columns.len());
            Err(problem(line, &what, "which field is which could not be told", &columns.join(",")))
        };
        take(Row { line, text }, octets)?;
    }
}

/// Reads on to the end of the line; how many octets that were.
fn skip_line(reader: &mut impl io::BufRead) -> io::Result<u64> {
    let mut skipped = 0_u64;
    loop {
        let buffer = reader.fill_buf()?;
        let end = memchr::memchr(b'\n', buffer);
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        skipped += length as u64;
        if end.is_some() || length == 0 {
            return Ok(skipped);
        }
    }
}

fn put(row: &mut String, key: &str, value: &toml::Value) {
    // A key that is none is told of by the reader of rows, like any other that it does not know.
    let plain = key.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    match plain && !key.is_empty() {
        true => row.push_str(key),
        false => row.push_str(&toml::Value::String(key.to_owned()).to_string()),
    }
    row.push_str(" = ");
    let text = Zeroizing::new(value.to_string());
    row.push_str(&text);
    row.push('\n');
    wipe(value.clone());
}

fn wipe(value: toml::Value) {
    if let toml::Value::String(mut text) = value {
        text.zeroize();
    }
}

/// A CSV field as the list has it.
fn field_value(column: &str, field: &str) -> toml::Value {
    let text = || toml::Value::String(field.to_owned());
    match (column, field) {
        ("impus", _) => {
            let each = field.split_whitespace().map(|impu| toml::Value::String(impu.to_owned()));
            toml::Value::Array(each.collect())
        }
        ("barred", "true") => toml::Value::Boolean(true),
        ("barred", "false") => toml::Value::Boolean(false),
        ("iterations" | "res_octets", _) => {
            field.parse::<i64>().map_or_else(|_| text(), toml::Value::Integer)
        }
        _ => text(),
    }
}

fn json(path: &Path, take: &mut dyn FnMut(Row, u64) -> Result<(), Stop>) -> Result<(), Stop> {
    let name = path.display().to_string();
    let text = read(path)?;
    let octets = text.as_bytes();
    let (mut at, mut line, mut counted) = (0_usize, 1_usize, 0_usize);
    loop {
        let between = |octet: &u8| octet.is_ascii_whitespace() || b",[]".contains(octet);
        let rest = octets.get(at..).unwrap_or_default();
        let Some(ahead) = rest.iter().position(|octet| !between(octet)) else { return Ok(()) };
        at += ahead;
        line += memchr::memchr_iter(b'\n', octets.get(counted..at).unwrap_or_default()).count();
        counted = at;
        let rest = octets.get(at..).unwrap_or_default();
        let mut values =
            serde_json::Deserializer::from_slice(rest).into_iter::<Map<String, Value>>();
        let text = match values.next() {
            Some(Ok(object)) => {
                at += values.byte_offset();
                object_row(&object).ok_or("null and numbers with a point have no place in a list")
            }
            _ => {
                // Where it ends is not known: the next line is looked at.
                at += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                Err("what stands here is no object in JSON")
            }
        };
        let text = text.map_err(|why| Problem {
            file: name.clone(),
            line,
            what: "is no subscriber".to_owned(),
            why: why.to_owned(),
            fix: "{\"impi\": \"ue1@example.net\", \"k\": \"..\", \"opc\": \"..\"}".to_owned(),
        });
        take(Row { line, text }, at as u64)?;
    }
}

fn object_row(object: &Map<String, Value>) -> Option<Zeroizing<String>> {
    let mut row = Zeroizing::new(String::with_capacity(1024));
    row.push_str(HEAD);
    for (key, value) in object {
        let value = toml::Value::try_from(value).ok()?;
        put(&mut row, key, &value);
    }
    Some(row)
}

fn list(path: &Path, take: &mut dyn FnMut(Row, u64) -> Result<(), Stop>) -> Result<(), Stop> {
    let text = read(path)?;
    let line_at = |at: usize| {
        let before = text.as_bytes().get(..at).unwrap_or_default();
        1 + memchr::memchr_iter(b'\n', before).count()
    };
    let unread = |error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        Stop::Problems(vec![Problem {
            file: path.display().to_string(),
            line: line_at(at),
            what: format!("is not TOML: {}", error.message()),
            why: "the list is read as a whole or not at all".to_owned(),
            fix: String::new(),
        }])
    };
    // One of the two knows where rows are, the other what they are.
    let places = Document::parse(text.as_str()).map_err(unread)?;
    let places = places.get("subscriber").and_then(Item::as_array_of_tables);
    let places: Vec<usize> = places.into_iter().flatten().map(place_of).collect();
    let mut document: DocumentMut = text.parse().map_err(unread)?;
    for (number, table) in super::rows(&mut document).iter().enumerate() {
        let at = places.get(number).copied().unwrap_or(0);
        let mut row = Zeroizing::new(String::from(HEAD));
        for (key, item) in table.iter() {
            row.push_str(key);
            row.push_str(" =");
            row.push_str(&item.to_string());
            row.push('\n');
        }
        take(Row { line: line_at(at), text: Ok(row) }, at as u64)?;
    }
    Ok(())
}

fn place_of(table: &Table) -> usize {
    table.span().map_or(0, |span| span.start)
}

const HEAD: &str = "[[subscriber]]\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::subscribers::disk::replace;
    use crate::keys::subscribers::file::parse;

    const K: &str = "465b5ce8b199b49faa5f0a2ee238a6bc";

    fn rows(name: &str, text: &str) -> Vec<(usize, Result<String, String>)> {
        let path = std::env::temp_dir().join(format!("sipward-rows-{}-{name}", std::process::id()));
        replace(&path, text.as_bytes()).unwrap();
        let mut found = Vec::new();
        let read = each(&path, &mut |row, _| {
            let text = row.text.map(|text| text.to_string()).map_err(|problem| problem.what);
            found.push((row.line, text));
            Ok(())
        });
        std::fs::remove_file(&path).unwrap();
        assert!(read.is_ok());
        found
    }

    /// The same subscriber in three spellings is one row for the reader of lists.
    #[test]
    fn three_spellings_are_one_subscriber() {
        let csv = format!("impi,k,opc,impus,barred\nue1@x,{K},\"{K}\",sip:ue1@x tel:+1,true\n");
        let json = format!(
            "[\n{{\"impi\": \"ue1@x\", \"k\": \"{K}\", \"opc\": \"{K}\",\n \"impus\": [\"sip:ue1@x\", \"tel:+1\"], \"barred\": true}}]"
        );
        let toml = format!(
            "# mine\n[[subscriber]] # one\nimpi = \"ue1@x\"\nk = \"{K}\"\nopc = '{K}' # same\nimpus = [\"sip:ue1@x\", \"tel:+1\"]\nbarred = true\n"
        );
        for (name, text, line) in [("a.csv", &csv, 2), ("a.json", &json, 2), ("a.toml", &toml, 2)] {
            let found = rows(name, text);
            let [(at, Ok(row))] = found.as_slice() else { panic!("{name}: {found:?}") };
            assert_eq!(*at, line, "{name}");
            let one =
                parse(name, row).unwrap_or_else(|problems| panic!("{name}: {problems:?}\n{row}"));
            assert_eq!(one[0].impi.as_str(), "ue1@x");
            assert!(one[0].barred && one[0].impus.len() == 2, "{name}");
        }
    }

    #[test]
    fn each_bad_line_is_told_of_and_the_next_is_read() {
        let long = "x".repeat(LINE_MAX + 10);
        let text =
            format!("impi,k,opc\n\n# no\nue1@x,{K}\n\"ue2@x,{K},{K}\n{long}\nue3@x,{K},{K}\n");
        let found = rows("b.csv", &text);
        let told: Vec<_> = found
            .iter()
            .map(|(line, row)| (*line, row.as_ref().err().map(String::as_str)))
            .collect();
        assert_eq!(
            told,
            [
                (4, Some("has 2 fields, the heading 3")),
                (5, Some("has a quote that does not fit")),
                (6, Some("is too long a line")),
                (7, None),
            ]
        );
        let text = format!(
            "{{\"impi\": \"ue1@x\", \"k\": null}}\nnonsense\n{{\"impi\": \"ue3@x\", \"k\": \"{K}\"}}\n"
        );
        let found = rows("b.jsonl", &text);
        let told: Vec<_> = found.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(told, [(1, false), (2, false), (3, true)]);
    }
}

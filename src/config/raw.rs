//! Configuration as written: values with their places, read by key.
//!
//! Takes:   TOML text of at most [`TEXT_MAX`] octets.
//! Gives:   [`Section`]s, whose readers give a value or note what is wrong and give the default, so that one bad
//!          value hides no other.
//! Keeps:   which keys each section was asked for: what else stands in it is unknown, and refused.
//! Refuses: syntax errors, all of them; wrong types; unknown keys.
//! Sources: TOML 1.1.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::field::{Field, Shown, Words};
use super::problem::{Notes, Place};

/// Longest configuration, in octets. Files of accounts have a bound of their own.
pub const TEXT_MAX: usize = 1024 * 1024;
/// Longest value that is quoted in a problem.
const QUOTED_MAX: usize = 60;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Spot<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

/// Parses `text`; `None` after noting every syntax error.
pub fn parse<'t>(text: &'t str, notes: &Notes) -> Option<Spanned<DeTable<'t>>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::new(text);
    let mut last = None;
    for error in &errors {
        let line = error.span().map_or(0, |span| lines.at(span.start));
        // What follows on a line is mostly the parser finding its way back.
        if last.replace(line) == Some(line) {
            continue;
        }
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        notes.say(line, format!("this is not TOML: {what}"), "", "");
    }
    errors.is_empty().then_some(table)
}

/// Where each line of a text begins.
#[derive(Debug)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Of `text`.
    pub fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    /// The line, from 1, that holds the octet at `offset`.
    pub fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

/// The text that a document was parsed from, and where findings go.
#[derive(Debug)]
pub struct Document<'d> {
    /// The text.
    pub text: &'d str,
    /// Its lines.
    pub lines: Lines,
    /// Findings.
    pub notes: &'d Notes,
    /// Whether its values are secrets, which no problem may quote.
    pub secret: bool,
}

/// One table: what is in it is asked for by key.
#[derive(Debug)]
pub struct Section<'d> {
    document: &'d Document<'d>,
    table: Option<&'d DeTable<'d>>,
    path: String,
    line: usize,
    asked: Vec<&'static str>,
}

impl<'d> Section<'d> {
    /// The whole of a document.
    pub fn root(document: &'d Document<'d>, table: &'d DeTable<'d>) -> Self {
        Self { document, table: Some(table), path: String::new(), line: 0, asked: Vec::new() }
    }

    /// Where findings go.
    pub fn notes(&self) -> &'d Notes {
        self.document.notes
    }

    /// Whether it was written at all.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The place of the section itself.
    pub fn place(&self) -> Place {
        Place { line: self.line, path: self.path.clone(), written: String::new() }
    }

    /// The place where `key` is, or would be.
    pub fn place_of(&self, key: &str) -> Place {
        let value = self.table.and_then(|table| table.get(key));
        let line = value.map_or(self.line, |value| self.line_of(value));
        let written = value.map(|value| self.written(value)).unwrap_or_default();
        Place { line, path: self.path_of(key), written }
    }

    /// The value of `key`, if it is there and right.
    pub fn maybe<T: Field>(&mut self, key: &'static str) -> Option<Spot<T>> {
        self.like(key, T::EXAMPLE)
    }

    /// The same; where something else stands, `example` is the value that would do.
    fn like<T: Field>(&mut self, key: &'static str, example: &str) -> Option<Spot<T>> {
        self.asked.push(key);
        let value = self.table?.get(key)?;
        let place = self.place_of(key);
        match T::read(value.get_ref()) {
            Ok(value) => Some(Spot { value, place }),
            Err(wrong) => {
                let fix = if wrong.value == T::EXAMPLE { example } else { &wrong.value };
                self.notes().problem(&place, &wrong.what, wrong.why, fix);
                None
            }
        }
    }

    /// The value of `key`, which must be there; `None` after saying so.
    pub fn need<T: Field>(
        &mut self,
        key: &'static str,
        why: &'static str,
        example: &str,
    ) -> Option<Spot<T>> {
        if !self.has(key) {
            self.asked.push(key);
            let what = format!("{} is missing", self.path_of(key));
            self.notes().say(self.line, what, why, format!("{key} = {example}"));
            return None;
        }
        self.like(key, example)
    }

    /// The value of `key`, or `default`.
    pub fn or<T: Field + Shown>(&mut self, key: &'static str, default: T) -> T {
        let example = default.shown();
        self.like(key, &example).map_or(default, |spot| spot.value)
    }

    /// The value of `key` between `range`, or `default`.
    pub fn within<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Field + Shown + PartialOrd + Copy,
    {
        let example = default.shown();
        let Some(Spot { value, place }) = self.like::<T>(key, &example) else { return default };
        if range.contains(&value) {
            return value;
        }
        let (low, high) = (range.start().shown(), range.end().shown());
        let what = format!("is not between {low} and {high}");
        self.notes().problem(&place, &what, "outside of that it would not work", &default.shown());
        default
    }

    /// The value of `key` among `words`, or the first of them.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> T {
        let Some(&(first, default)) = words.first() else { unreachable!("no word is offered") };
        self.choice(key, words, first).unwrap_or(default)
    }

    /// The value of `key` among `words`, if it is there and one of them.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        example: &str,
    ) -> Option<T> {
        let example = format!("{example:?}");
        let Spot { value, place } = self.like::<String>(key, &example)?;
        let found = among(words, &value);
        if found.is_none() {
            let meant = nearest(words, &value).map(|word| format!("{word:?}"));
            self.not_offered(&place, words, &meant.unwrap_or(example));
        }
        found
    }

    /// The values of `key` among `words`, one or a list of them, if all that is there is one of them.
    pub fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        example: &str,
    ) -> Option<Vec<T>> {
        let example = format!("{example:?}");
        let Spot { value: Words(written), place } = self.like(key, &example)?;
        let found: Option<Vec<T>> = written.iter().map(|word| among(words, word)).collect();
        let found = found.filter(|found| !found.is_empty());
        if found.is_none() {
            self.not_offered(&place, words, &example);
        }
        found
    }

    fn not_offered<T>(&self, place: &Place, words: &[(&'static str, T)], example: &str) {
        let known = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>();
        let what = format!("is not offered; what is: {}", known.join(", "));
        self.notes().problem(place, &what, "", example);
    }

    /// The table `key`; an empty one if it is not there.
    pub fn table(&mut self, key: &'static str) -> Section<'d> {
        self.asked.push(key);
        let path = self.path_of(key);
        let absent = |line| Section {
            document: self.document,
            table: None,
            path: path.clone(),
            line,
            asked: Vec::new(),
        };
        let Some(value) = self.table.and_then(|table| table.get(key)) else {
            return absent(self.line);
        };
        let line = self.line_of(value);
        match value.get_ref() {
            DeValue::Table(table) => Section { table: Some(table), ..absent(line) },
            _ => {
                let fix = if self.path.is_empty() {
                    format!("[{path}]")
                } else {
                    format!("{key} = {{ .. }}")
                };
                let what = format!("{} is not a table", self.path_of(key));
                self.notes().say(line, what, "", fix);
                absent(line)
            }
        }
    }

    /// The tables `[[key]]`.
    pub fn tables(&mut self, key: &'static str) -> Vec<Section<'d>> {
        self.asked.push(key);
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return Vec::new() };
        let path = self.path_of(key);
        let misfit = |line| {
            let fix = format!("[[{path}]]");
            self.notes().say(line, format!("{path} is not a list of tables"), "", fix);
        };
        let DeValue::Array(rows) = value.get_ref() else {
            misfit(self.line_of(value));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for row in rows.iter() {
            let line = self.line_of(row);
            let DeValue::Table(table) = row.get_ref() else {
                misfit(line);
                continue;
            };
            let (document, path) = (self.document, path.clone());
            sections.push(Section { document, table: Some(table), path, line, asked: Vec::new() });
        }
        sections
    }

    /// Whether `key` is written, whatever it holds.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.get(key).is_some())
    }

    /// Counts keys as asked for that were not needed this time.
    pub fn know(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// Every key of a table whose keys are free, with its value; those that are wrong are told of and left out.
    pub fn entries<T: Field>(&self) -> Vec<(String, Spot<T>)> {
        let mut found = Vec::new();
        for (key, value) in self.table.into_iter().flat_map(|table| table.iter()) {
            let name: &str = key.get_ref();
            let place = self.place_of(name);
            match T::read(value.get_ref()) {
                Ok(value) => found.push((name.to_owned(), Spot { value, place })),
                Err(wrong) => self.notes().problem(&place, &wrong.what, wrong.why, &wrong.value),
            }
        }
        found
    }

    /// Ends the reading: what was not asked for is unknown.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let line = self.document.lines.at(key.span().start);
            let near = self.asked.iter().map(|known| (distance(name, known), known)).min();
            let fix = match near {
                Some((far, known)) if far <= 2 || known.contains(name) => {
                    let written = self.written(value);
                    if written.is_empty() {
                        (*known).to_owned()
                    } else {
                        format!("{known} = {written}")
                    }
                }
                _ => String::new(),
            };
            let mut known = self.asked.clone();
            known.sort_unstable();
            known.dedup();
            let why = format!("known here: {}", known.join(", "));
            self.notes().say(line, format!("{} is not a key", self.path_of(name)), why, fix);
        }
    }

    fn path_of(&self, key: &str) -> String {
        let quoted = if key.contains('.') { format!("{key:?}") } else { key.to_owned() };
        let key = quoted.as_str();
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn line_of(&self, value: &Spanned<DeValue<'_>>) -> usize {
        self.document.lines.at(value.span().start)
    }

    fn written(&self, value: &Spanned<DeValue<'_>>) -> String {
        let text = self.document.text.get(value.span()).unwrap_or_default();
        let quotable = text.len() <= QUOTED_MAX && !text.contains('\n');
        let is_table = matches!(value.get_ref(), DeValue::Table(_));
        if quotable && !is_table && !self.document.secret { text.to_owned() } else { String::new() }
    }
}

fn among<T: Copy>(words: &[(&'static str, T)], written: &str) -> Option<T> {
    words.iter().find(|(word, _)| *word == written).map(|(_, value)| *value)
}

/// The word that was meant, if one is near.
fn nearest<T>(words: &[(&'static str, T)], written: &str) -> Option<&'static str> {
    let written = written.to_ascii_lowercase();
    let near = words.iter().map(|(word, _)| (distance(&written, word), *word)).min();
    near.filter(|(far, word)| far * 2 < word.len()).map(|(_, word)| word)
}

/// How many single changes lie between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let cost = if a == *b { diagonal } else { 1 + diagonal.min(row[j]).min(row[j + 1]) };
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row.last().copied().unwrap_or_default()
}

//! Configuration as written: values with their places, read by key.
//!
//! Takes:   TOML text of at most [`TEXT_MAX`] octets.
//! Gives:   [`Section`]s, whose readers give a value or note what is wrong and give the default, so that one bad
//!          value hides no other.
//! Keeps:   which keys each section was asked for: what else stands in it is unknown, and refused.
//! Refuses: syntax errors, all of them; wrong types; sizes and times without a unit; unknown keys.
//! Sources: TOML 1.1.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Notes, Place};
use crate::admission::Rate;
use crate::authentication::digest::Hash;
use crate::keys::UaId;

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

/// Why a value cannot be what its key asks for.
#[derive(Debug)]
pub struct Wrong {
    /// Follows the value: "has no unit".
    pub what: String,
    /// The reason.
    pub why: &'static str,
    /// A value that would do.
    pub value: String,
}

impl Wrong {
    fn new<T: Field>(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: T::WHY, value: T::EXAMPLE.into() }
    }
}

/// A type that a value can have.
pub trait Field: Sized {
    /// What such a value is for, or looks like.
    const WHY: &'static str;
    /// A value that would do, as TOML.
    const EXAMPLE: &'static str;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;
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
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, value)| *value);
        if found.is_none() {
            let known = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>();
            let what = format!("is not offered; what is: {}", known.join(", "));
            self.notes().problem(&place, &what, "", &example);
        }
        found
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

/// How many single changes lie between two keys.
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

/// A number of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Octets(pub usize);

/// Values that can be written the way they are read.
pub trait Shown {
    /// As TOML.
    fn shown(&self) -> String;
}

impl Shown for Duration {
    fn shown(&self) -> String {
        let (seconds, millis) = (self.as_secs(), self.subsec_millis());
        match seconds {
            _ if millis > 0 => format!("\"{}ms\"", self.as_millis()),
            0 => "\"0s\"".into(),
            _ if seconds.is_multiple_of(3600) => format!("\"{}h\"", seconds / 3600),
            _ => format!("\"{seconds}s\""),
        }
    }
}

impl Shown for Octets {
    fn shown(&self) -> String {
        match self.0 {
            0 => "\"0 octets\"".into(),
            n if n.is_multiple_of(1 << 20) => format!("\"{} MiB\"", n >> 20),
            n if n.is_multiple_of(1 << 10) => format!("\"{} KiB\"", n >> 10),
            n => format!("\"{n} octets\""),
        }
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for SocketAddr {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }

        impl Field for $type {
            const WHY: &'static str = "it counts something: a whole number without quotes";
            const EXAMPLE: &'static str = "64";

            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let DeValue::Integer(number) = value else {
                    return Err(Wrong::new::<Self>("is not a number"));
                };
                Self::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| Wrong::new::<Self>("is negative or too large"))
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, usize);

impl Field for bool {
    const WHY: &'static str = "it is switched on or off, without quotes";
    const EXAMPLE: &'static str = "true";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value.as_bool().ok_or_else(|| Wrong::new::<Self>("is neither true nor false"))
    }
}

fn text<'v, T: Field>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::new::<T>("is not a text in quotes"))
}

impl Field for String {
    const WHY: &'static str = "a text stands in quotes, and is not empty";
    const EXAMPLE: &'static str = "\"..\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text::<Self>(value)? {
            "" => Err(Wrong::new::<Self>("is empty")),
            text => Ok(text.to_owned()),
        }
    }
}

impl Field for PathBuf {
    const WHY: &'static str = "a file; relative names start from where this file is";
    const EXAMPLE: &'static str = "\"file.pem\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text::<Self>(value)? {
            "" => Err(Wrong::new::<Self>("is empty")),
            text => Ok(text.into()),
        }
    }
}

impl Field for Duration {
    const WHY: &'static str = "times are written with ms, s, min, h or d";
    const EXAMPLE: &'static str = "\"90s\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (number, unit) = measured::<Self>(value, "s")?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(Wrong::new::<Self>("has an unknown unit")),
        };
        let millis = number.checked_mul(millis).filter(|millis| *millis <= LONGEST_MILLIS);
        millis.map(Self::from_millis).ok_or_else(|| Wrong::new::<Self>("is longer than ten years"))
    }
}

/// Ten years: no time that is configured is longer, and none of them overflows a clock.
const LONGEST_MILLIS: u64 = 10 * 366 * 86_400_000;

impl Field for Octets {
    const WHY: &'static str = "sizes are written with octets, KiB or MiB";
    const EXAMPLE: &'static str = "\"64 KiB\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (number, unit) = measured::<Self>(value, " octets")?;
        let octets: u64 = match unit {
            "octets" | "octet" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err(Wrong::new::<Self>("has an unknown unit")),
        };
        let octets = number.checked_mul(octets).filter(|octets| *octets <= 1 << 32);
        let octets = octets.and_then(|octets| usize::try_from(octets).ok());
        octets.map(Self).ok_or_else(|| Wrong::new::<Self>("is more than 4096 MiB"))
    }
}

/// Number and unit of `"90s"` or `"64 KiB"`; `unit` is what a number without one probably meant.
fn measured<'v, T: Field>(value: &'v DeValue<'_>, unit: &str) -> Result<(u64, &'v str), Wrong> {
    let bare = |number: &str| Wrong {
        what: "has no unit".into(),
        why: T::WHY,
        value: format!("\"{number}{unit}\""),
    };
    let text = match value {
        DeValue::Integer(number) if number.radix() == 10 => return Err(bare(number.as_str())),
        value => text::<T>(value)?,
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let parsed = number.parse().map_err(|_| Wrong::new::<T>("does not begin with a number"))?;
    match rest.trim_start_matches(' ') {
        "" => Err(bare(number)),
        rest => Ok((parsed, rest)),
    }
}

impl Field for Rate {
    const WHY: &'static str = "so many in a second, minute or hour, and perhaps how many at once";
    const EXAMPLE: &'static str = "\"30/min burst 10\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = || Wrong::new::<Self>("is not a rate");
        if let DeValue::Integer(number) = value {
            let value = format!("\"{number}/min\"");
            return Err(Wrong { what: "has no unit".into(), why: Self::WHY, value });
        }
        let text = text::<Self>(value)?;
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(burst.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let is_number = !rate.is_empty() && rate.bytes().all(|octet| octet.is_ascii_digit());
        let (count, unit) = rate.split_once('/').ok_or_else(|| match is_number {
            true => Wrong {
                what: "has no unit".into(),
                why: Self::WHY,
                value: format!("\"{rate}/min\""),
            },
            false => wrong(),
        })?;
        let count: u32 = count.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let burst = burst.unwrap_or(count);
        if count == 0 || burst == 0 {
            return Err(Wrong::new::<Self>("lets nothing pass"));
        }
        Ok(Self { count, period: Duration::from_secs(seconds), burst })
    }
}

impl Shown for Rate {
    fn shown(&self) -> String {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            _ => "h",
        };
        let mut text = format!("\"{}/{unit}", self.count);
        if self.burst != self.count {
            let _ = write!(text, " burst {}", self.burst);
        }
        text + "\""
    }
}

impl Field for SocketAddr {
    const WHY: &'static str = "an address and a port, never a name; IPv6 in brackets";
    const EXAMPLE: &'static str = "\"0.0.0.0:5060\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text::<Self>(value)?;
        text.parse().map_err(|_| match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => Wrong { value: format!("\"[{ip}]:5060\""), ..no_port() },
            Ok(ip) => Wrong { value: format!("\"{ip}:5060\""), ..no_port() },
            Err(_) => Wrong::new::<Self>("is not an address with a port"),
        })
    }
}

fn no_port() -> Wrong {
    Wrong::new::<SocketAddr>("has no port")
}

impl Field for IpAddr {
    const WHY: &'static str = "an address without a port";
    const EXAMPLE: &'static str = "\"203.0.113.10\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text::<Self>(value)?.parse().map_err(|_| Wrong::new::<Self>("is not an address"))
    }
}

impl Field for Hash {
    const WHY: &'static str = "algorithms are called MD5, SHA-256 and SHA-512-256";
    const EXAMPLE: &'static str = "\"SHA-256\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match Self::of(text::<Self>(value)?.as_bytes()) {
            Some((hash, false)) => Ok(hash),
            Some((_, true)) => Err(Wrong {
                why: "the -sess forms are verified wherever their hash is, but not offered",
                ..Wrong::new::<Self>("is not offered")
            }),
            None => Err(Wrong::new::<Self>("is not a digest algorithm")),
        }
    }
}

impl Field for UaId {
    const WHY: &'static str =
        "five octets in hex (TS 33.220 annex B.3): the key is derived from them";
    const EXAMPLE: &'static str = "\"0300000003\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = || Wrong::new::<Self>("is not a Ua security protocol identifier");
        let digits = text::<Self>(value)?;
        if digits.len() != 10 || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u64::from_str_radix(digits, 16).map_err(|_| wrong())?;
        let [_, _, _, id @ ..] = number.to_be_bytes();
        Ok(Self(id))
    }
}

impl<T: Field> Field for Vec<T> {
    const WHY: &'static str = "a list stands in brackets";
    const EXAMPLE: &'static str = "[..]";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let listed = |mut wrong: Wrong| {
            wrong.value = format!("[{}]", wrong.value);
            wrong
        };
        let DeValue::Array(values) = value else {
            return Err(listed(Wrong { why: Self::WHY, ..Wrong::new::<T>("is not a list") }));
        };
        let read = |value: &Spanned<DeValue<'_>>| {
            T::read(value.get_ref()).map_err(|mut wrong| {
                let shown = value.get_ref().as_str().map(|text| format!("{text:?}"));
                let shown = shown.unwrap_or_else(|| "an entry".into());
                wrong.what = format!("holds {shown}, which {}", wrong.what);
                listed(wrong)
            })
        };
        values.iter().map(read).collect()
    }
}

//! Keys, subscribers, file: the operator's list, in TOML.
//!
//! Takes:   a file of `[[subscriber]]` tables, readable by its owner alone.
//! Gives:   [`Subscriber`]s, or every [`Problem`] in the file at once, with line, reason and a line that would do.
//! Keeps:   nothing; the text is zeroed. Bounds: [`FILE_MAX`] octets, [`SUBSCRIBERS_MAX`] subscribers.
//! Refuses: a key it does not know, a secret of the wrong length, an IMPI twice, OP and OPc both or neither, a file
//!          that others may read. No secret is repeated in a problem.
//! Sources: TS 35.206 clause 3 and TS 35.231 clause 5 (lengths); TS 33.102 clause 6.3 and annex C; TS 23.003 clause 13.

mod password;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::{Card, Subscriber};
use crate::authentication::Uss;
use crate::identity::{Impi, Impu};
use crate::keys::milenage::Milenage;
use crate::keys::sqn::{Sqn, SqnGenerator};
use crate::keys::tuak::{ITERATIONS_MAX, Lengths, Tuak};
use crate::keys::vector::Algorithms;
use crate::wire::Uri;
use crate::wire::uri::Scheme;

/// Longest file, in octets.
pub const FILE_MAX: u64 = 512 * 1024 * 1024;
/// Most subscribers.
pub const SUBSCRIBERS_MAX: usize = 1_000_000;

const KNOWN: [&str; 19] = [
    "impi",
    "algorithm",
    "k",
    "op",
    "opc",
    "top",
    "topc",
    "iterations",
    "res_octets",
    "amf",
    "sqn",
    "impus",
    "key_lifetime",
    "barred",
    "card",
    "uss",
    "digest_password",
    "digest_ha1",
    "note",
];

/// Something that keeps a list from being used: what stands where, why that cannot be, and what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// The line; zero for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// A line or a command that would do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what, why, fix } = self;
        match line {
            0 => writeln!(f, "{file}: {what}")?,
            line => writeln!(f, "{file}:{line}: {what}")?,
        }
        writeln!(f, "    {why}")?;
        write!(f, "    fix: {fix}")
    }
}

/// Reads a list from disk.
///
/// # Errors
///
/// Every [`Problem`] found; one alone if the file cannot be read or others may read it.
pub fn load(path: &Path) -> Result<Vec<Subscriber>, Vec<Problem>> {
    let text = read(path).map_err(|problem| vec![problem])?;
    parse(&path.display().to_string(), &text)
}

/// The text of a file with secrets in it.
///
/// # Errors
///
/// A [`Problem`] if it cannot be read, is too long or no text, or if others than its owner may read it.
pub fn read(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let name = path.display().to_string();
    let problem = |what: String, why: &str, fix: String| Problem {
        file: name.clone(),
        line: 0,
        what,
        why: why.to_owned(),
        fix,
    };
    let unreadable = |error: io::Error| {
        let fix = format!("sipward subscriber --file {name} add IMPI, or chmod 600 {name}");
        problem(format!("cannot be read: {error}"), "without subscribers nobody can bootstrap", fix)
    };
    let file = File::open(path).map_err(unreadable)?;
    let data = file.metadata().map_err(unreadable)?;
    if others_may_read(&data) {
        return Err(problem(
            "others than its owner may read it".to_owned(),
            "whoever reads K and OPc can be any of these subscribers",
            format!("chmod 600 {name}"),
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 >= FILE_MAX {
        return Err(problem(
            format!("is longer than {FILE_MAX} octets"),
            "it could not be held in memory twice",
            "split it over several servers".to_owned(),
        ));
    }
    Ok(text)
}

/// Whether others than its owner may read a file.
#[cfg(unix)]
pub fn others_may_read(data: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    data.permissions().mode() & 0o077 != 0
}

/// Whether others than its owner may read a file: this system does not say.
#[cfg(not(unix))]
pub fn others_may_read(_: &std::fs::Metadata) -> bool {
    false
}

/// Reads a list from text; `name` stands in the problems.
///
/// # Errors
///
/// Every [`Problem`] found.
pub fn parse(name: &str, text: &str) -> Result<Vec<Subscriber>, Vec<Problem>> {
    let lines = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
    let mut reader = Reader { name, lines, problems: Vec::new() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.problem(
            at,
            format!("is not TOML: {}", error.message()),
            "the list is read as a whole or not at all",
            "k = \"465b5ce8b199b49faa5f0a2ee238a6bc\"".to_owned(),
        );
    }
    let mut list = Vec::new();
    let mut places: HashMap<Impi, usize> = HashMap::new();
    for (key, value) in root.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("subscriber", DeValue::Array(rows)) => {
                for row in rows.iter() {
                    let Some(subscriber) = reader.subscriber(row) else { continue };
                    let at = row.span().start;
                    if let Some(first) = places.insert(subscriber.impi.clone(), at) {
                        let first = reader.line(first);
                        reader.problem(
                            at,
                            format!("impi = \"{}\" is there twice", subscriber.impi),
                            &format!(
                                "the other is in line {first}; which key counts could not be told"
                            ),
                            "remove one of the two".to_owned(),
                        );
                    }
                    list.push(subscriber);
                }
            }
            (other, _) => reader.problem(
                key.span().start,
                format!("\"{other}\" is not known here"),
                "a name misspelt would be a setting left out",
                "[[subscriber]]".to_owned(),
            ),
        }
    }
    if list.len() > SUBSCRIBERS_MAX {
        reader.problem(
            0,
            format!("has over {SUBSCRIBERS_MAX} subscribers"),
            "each takes memory for as long as the server runs",
            "split it over several servers".to_owned(),
        );
    }
    if reader.problems.is_empty() {
        Ok(list)
    } else {
        reader.problems.sort_by_key(|problem| problem.line);
        Err(reader.problems)
    }
}

struct Reader<'t> {
    name: &'t str,
    /// Where the lines end.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

/// One `[[subscriber]]` and where it begins.
struct Row<'a, 'i> {
    table: &'a DeTable<'i>,
    at: usize,
}

impl<'a, 'i> Row<'a, 'i> {
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.table.get(key)
    }
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|end| *end < at).saturating_add(1)
    }

    fn problem(&mut self, at: usize, what: String, why: &str, fix: String) {
        let (file, line) = (self.name.to_owned(), self.line(at));
        self.problems.push(Problem { file, line, what, why: why.to_owned(), fix });
    }

    /// One subscriber; `None` if something was wrong, and then there are problems.
    fn subscriber(&mut self, row: &Spanned<DeValue<'_>>) -> Option<Subscriber> {
        let at = row.span().start;
        let DeValue::Table(table) = row.get_ref() else {
            self.problem(
                at,
                "a subscriber is a table".to_owned(),
                "its values need names",
                "[[subscriber]]".to_owned(),
            );
            return None;
        };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !KNOWN.contains(&name) {
                self.problem(
                    key.span().start,
                    format!("subscriber.{name} is not known"),
                    "a name misspelt would be a setting left out",
                    format!("one of: {}", KNOWN.join(", ")),
                );
            }
        }
        let before = self.problems.len();
        let row = Row { table, at };
        let impi = self.impi(&row);
        let digest = self.digest(&row);
        let without_card = digest.is_some() && !row.names_a_card();
        let algorithms = (!without_card).then(|| self.algorithms(&row));
        let amf = self.hex_or(&row, "amf", [0x80, 0]);
        let sqn = self.hex_or(&row, "sqn", [0; 6]);
        let impus = self.impus(&row);
        let key_lifetime = self.lifetime(&row);
        let barred = self.flag(&row, "barred");
        let card = match self.choice(&row, "card", &["gba", "gba-u"]) {
            "gba-u" => Card::GbaU,
            _ => Card::Gba,
        };
        let uss = self.uss(&row);
        (self.problems.len() == before).then_some(())?;
        Some(Subscriber {
            impi: impi?,
            algorithms: match algorithms {
                Some(read) => Some(read?),
                None => None,
            },
            digest,
            amf,
            sqn: SqnGenerator::new(Sqn::from_octets(&sqn)),
            impus,
            key_lifetime,
            barred,
            card,
            uss,
        })
    }

    fn impi(&mut self, row: &Row<'_, '_>) -> Option<Impi> {
        let fix = "impi = \"001010000000001@ims.mnc001.mcc001.3gppnetwork.org\"".to_owned();
        let text = self.text_of(row, "impi", &fix);
        let (at, text) = match text {
            Some(found) => found,
            None => {
                if row.get("impi").is_none() {
                    let what = "subscriber without impi".to_owned();
                    self.problem(row.at, what, "it is the name that the UE gives on Ub", fix);
                }
                return None;
            }
        };
        let impi = Impi::new(text).filter(|impi| {
            let text = impi.as_str();
            !text.contains([':', ' ']) && !crate::keys::derivation::is_tmpi(text)
        });
        if impi.is_none() {
            let what = "subscriber.impi is no private identity".to_owned();
            let why = "colon, space, quote and control characters would make A1 ambiguous, and TMPIs are not kept";
            self.problem(at, what, why, fix);
        }
        impi
    }

    fn algorithms(&mut self, row: &Row<'_, '_>) -> Option<Algorithms> {
        let algorithm = self.choice(row, "algorithm", &["milenage", "tuak"]);
        let (plain, bound, length, strangers) = match algorithm {
            "tuak" => ("top", "topc", 32, ["op", "opc"].as_slice()),
            _ => ("op", "opc", 16, ["top", "topc", "iterations", "res_octets"].as_slice()),
        };
        for stranger in strangers {
            if let Some(value) = row.get(stranger) {
                self.problem(
                    value.span().start,
                    format!("subscriber.{stranger} does not belong to {algorithm}"),
                    "it would be left out silently",
                    format!(
                        "algorithm = \"{}\"",
                        if algorithm == "tuak" { "milenage" } else { "tuak" }
                    ),
                );
            }
        }
        let lengths: &[usize] = if algorithm == "tuak" { &[16, 32] } else { &[16] };
        let k = self.secret(row, "k", lengths);
        if k.is_none() && row.get("k").is_none() {
            self.problem(
                row.at,
                "subscriber without k".to_owned(),
                "nobody can prove himself without a key",
                format!("k = \"{}\"", "0123456789abcdef".repeat(2)),
            );
        }
        let operator = match (row.get(plain), row.get(bound)) {
            (Some(_), None) => self.secret(row, plain, &[length]),
            (None, Some(_)) => self.secret(row, bound, &[length]),
            (first, _) => {
                let (what, at) = match first {
                    Some(value) => {
                        (format!("subscriber with {plain} and {bound}"), value.span().start)
                    }
                    None => (format!("subscriber without {bound}"), row.at),
                };
                let why = format!("the operator's code is {plain} or, bound to K, {bound}");
                let example = "0123456789abcdef".repeat(length / 8);
                self.problem(at, what, &why, format!("{bound} = \"{example}\""));
                None
            }
        };
        let is_plain = row.get(plain).is_some();
        if algorithm == "tuak" {
            let (iterations, lengths) = self.tuak_numbers(row)?;
            let (k, operator) = (k?, operator?.first_chunk::<32>().copied()?);
            let operator = Zeroizing::new(operator);
            let make = if is_plain { Tuak::with_top } else { Tuak::with_topc };
            let tuak = make(&k, &operator, iterations, lengths).ok()?;
            Algorithms::tuak(tuak).ok()
        } else {
            let (k, operator) = (k?.first_chunk().copied()?, operator?.first_chunk().copied()?);
            let (k, operator) = (Zeroizing::new(k), Zeroizing::new(operator));
            let make = if is_plain { Milenage::with_op } else { Milenage::with_opc };
            Some(Algorithms::Milenage(make(&k, &operator)))
        }
    }

    fn tuak_numbers(&mut self, row: &Row<'_, '_>) -> Option<(u8, Lengths)> {
        let most = u64::from(ITERATIONS_MAX);
        let iterations = self.number(row, "iterations", 1, &|count| (1..=most).contains(&count));
        let res = self.number(row, "res_octets", 8, &|octets| matches!(octets, 4 | 8 | 16));
        let lengths = Lengths { res: usize::try_from(res?).ok()?, ..Lengths::default() };
        Some((u8::try_from(iterations?).ok()?, lengths))
    }

    fn impus(&mut self, row: &Row<'_, '_>) -> Arc<[Impu]> {
        let fix = "impus = [\"sip:alice@example.net\"]".to_owned();
        let Some(value) = row.get("impus") else { return Arc::from([]) };
        let DeValue::Array(items) = value.get_ref() else {
            let what = "subscriber.impus is not a list".to_owned();
            self.problem(value.span().start, what, "a subscriber may have several", fix);
            return Arc::from([]);
        };
        let mut impus = Vec::new();
        for item in items.iter() {
            let uri = item.get_ref().as_str().filter(|text| {
                Uri::parse(text.as_bytes()).is_some_and(|uri| uri.scheme() != Scheme::Other)
            });
            match uri.and_then(Impu::new) {
                Some(impu) => impus.push(impu),
                None => self.problem(
                    item.span().start,
                    "subscriber.impus holds what is no SIP or tel URI".to_owned(),
                    "it is asserted to the core as the caller's identity",
                    fix.clone(),
                ),
            }
        }
        impus.into()
    }

    /// Services that ask for a right, each with its flags.
    fn uss(&mut self, row: &Row<'_, '_>) -> Arc<[Uss]> {
        let Some(value) = row.get("uss") else { return Arc::from([]) };
        let number = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let one = |item: &Spanned<DeValue<'_>>| {
            let table = item.get_ref().as_table()?;
            let gsid = number(table.get("gsid")?.get_ref())?;
            let flags = match table.get("flags") {
                Some(flags) => {
                    let flags = flags.get_ref().as_array()?.iter();
                    flags.map(|flag| number(flag.get_ref())).collect::<Option<Vec<u32>>>()?
                }
                None => Vec::new(),
            };
            let known = table.keys().all(|key| matches!(key.get_ref().as_ref(), "gsid" | "flags"));
            known.then_some(Uss { gsid, flags })
        };
        let read = value.get_ref().as_array();
        let read = read.and_then(|items| items.iter().map(one).collect::<Option<Vec<Uss>>>());
        if read.is_none() {
            self.problem(
                value.span().start,
                "subscriber.uss is no list of services".to_owned(),
                "each has a number, and perhaps flags (TS 29.109 annex A)",
                "uss = [{ gsid = 5, flags = [1] }]".to_owned(),
            );
        }
        read.unwrap_or_default().into()
    }

    fn lifetime(&mut self, row: &Row<'_, '_>) -> Option<Duration> {
        let fix = "key_lifetime = \"1h\"".to_owned();
        let (at, text) = self.text_of(row, "key_lifetime", &fix)?;
        let lifetime = parse_duration(text).filter(|length| *length >= Duration::from_secs(60));
        if lifetime.is_none() {
            let what =
                format!("subscriber.key_lifetime = {text:?} is no length of a minute or more");
            self.problem(at, what, "a number needs its unit: s, m, h or d", fix);
        }
        lifetime
    }

    fn flag(&mut self, row: &Row<'_, '_>, name: &str) -> bool {
        let Some(value) = row.get(name) else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            let what = format!("subscriber.{name} is neither true nor false");
            self.problem(value.span().start, what, "it is yes or no", format!("{name} = false"));
            false
        })
    }

    fn number(
        &mut self,
        row: &Row<'_, '_>,
        name: &str,
        preset: u64,
        fits: &dyn Fn(u64) -> bool,
    ) -> Option<u64> {
        let Some(value) = row.get(name) else { return Some(preset) };
        let number = value.get_ref().as_integer().filter(|digits| digits.radix() == 10);
        let number = number.and_then(|digits| digits.as_str().parse().ok()).filter(|n| fits(*n));
        if number.is_none() {
            let what = format!("subscriber.{name} is not a number that TUAK has");
            let why = "TS 35.231 lists what it may be, and AKA carries RES of 4 to 16 octets";
            self.problem(value.span().start, what, why, format!("{name} = {preset}"));
        }
        number
    }

    fn choice<'c>(&mut self, row: &Row<'_, '_>, name: &str, choices: &[&'c str]) -> &'c str {
        let preset = choices.first().copied().unwrap_or_default();
        let fix = format!("{name} = \"{preset}\"");
        let Some((at, text)) = self.text_of(row, name, &fix) else { return preset };
        if let Some(choice) = choices.iter().find(|choice| **choice == text) {
            return choice;
        }
        let why = format!("it is one of: {}", choices.join(", "));
        self.problem(at, format!("subscriber.{name} = {text:?} is not known"), &why, fix);
        preset
    }

    /// A text and where it stands; `None` if it is not there, or is no text and a problem.
    fn text_of<'a>(
        &mut self,
        row: &Row<'a, '_>,
        name: &str,
        fix: &str,
    ) -> Option<(usize, &'a str)> {
        let value = row.get(name)?;
        let at = value.span().start;
        let Some(text) = value.get_ref().as_str() else {
            let what = format!("subscriber.{name} is not a text");
            self.problem(at, what, "its value belongs in quotes", fix.to_owned());
            return None;
        };
        Some((at, text))
    }

    /// A secret in hex, of one of `lengths` octets. It is not repeated in the problem.
    fn secret(
        &mut self,
        row: &Row<'_, '_>,
        name: &str,
        lengths: &[usize],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let length = lengths.first().copied().unwrap_or_default();
        let fix = format!("{name} = \"{}\"", "0123456789abcdef".repeat(length / 8));
        let (at, text) = self.text_of(row, name, &fix)?;
        let octets = parse_hex(text).filter(|octets| lengths.contains(&octets.len()));
        if octets.is_none() {
            let digits: Vec<String> =
                lengths.iter().map(|length| length.saturating_mul(2).to_string()).collect();
            let digits = digits.join(" or ");
            let what = format!("subscriber.{name} is not {digits} hex digits");
            let why = format!("there are {} characters", text.chars().count());
            self.problem(at, what, &why, fix);
        }
        octets
    }

    fn hex_or<const N: usize>(
        &mut self,
        row: &Row<'_, '_>,
        name: &str,
        preset: [u8; N],
    ) -> [u8; N] {
        if row.get(name).is_none() {
            return preset;
        }
        let octets = self.secret_of_any_length(row, name, N);
        octets.and_then(|octets| octets.first_chunk::<N>().copied()).unwrap_or(preset)
    }

    /// As [`Self::secret`] for the short ones, whose length is no multiple of eight.
    fn secret_of_any_length(
        &mut self,
        row: &Row<'_, '_>,
        name: &str,
        length: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let fix = format!("{name} = \"{}\"", if length == 2 { "8000" } else { "000000000000" });
        let (at, text) = self.text_of(row, name, &fix)?;
        let octets = parse_hex(text).filter(|octets| octets.len() == length);
        if octets.is_none() {
            let what = format!("subscriber.{name} is not {} hex digits", length.saturating_mul(2));
            self.problem(at, what, "its octets go into every challenge", fix);
        }
        octets
    }
}

/// Octets from hex digits, in either case.
pub fn parse_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| Some((digit(high)? << 4) | digit(low)?));
    let octets = Zeroizing::new(octets.collect::<Option<Vec<u8>>>()?);
    rest.is_empty().then_some(octets)
}

/// A length with its unit: `90s`, `5m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let plain = number.bytes().all(|octet| octet.is_ascii_digit());
    let number: u64 = plain.then(|| number.parse().ok()).flatten()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
# Two subscribers.
[[subscriber]]
impi = "ue1@example.net"
k = "465B5CE8b199b49faa5f0a2ee238a6bc"
opc = "cd63cb71954a9f4e48a5994e37a02baf"
impus = ["sip:ue1@example.net", "tel:+15550100"]
sqn = "000000000021"
key_lifetime = "90m"
uss = [{ gsid = 5, flags = [1, 2] }, { gsid = 3 }]

[[subscriber]]
impi = "ue2@example.net"
algorithm = "tuak"
k = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0"
top = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
iterations = 2
res_octets = 16
amf = "8001"
barred = true
card = "gba-u"
"#;

    #[test]
    fn reads_a_list() {
        let list = parse("s.toml", GOOD).expect("no problem");
        let [one, two] = &list[..] else { panic!("two") };
        assert_eq!((one.impi.as_str(), one.amf, one.barred), ("ue1@example.net", [0x80, 0], false));
        assert_eq!((one.sqn.last(), one.card), (Sqn::new(1, 1), Card::Gba));
        assert_eq!(one.key_lifetime, Some(Duration::from_secs(5400)));
        assert_eq!(one.impus.iter().map(Impu::as_str).collect::<Vec<_>>()[1], "tel:+15550100");
        let uss = |gsid, flags: &[u32]| Uss { gsid, flags: flags.to_vec() };
        assert_eq!(*one.uss, [uss(5, &[1, 2]), uss(3, &[])]);
        assert_eq!((two.amf, two.barred, two.card), ([0x80, 1], true, Card::GbaU));
        let rand = crate::keys::Rand([1; 16]);
        let card = two.algorithms.as_ref().expect("a card");
        assert_eq!(card.answers(&rand).res.expose().len(), 16);
        let debug = format!("{list:?}");
        assert!(!debug.contains("465b") && debug.contains("Milenage(..)"), "{debug}");
    }

    #[test]
    fn tells_every_problem_with_its_line() {
        let text = r#"
[[subscriber]]
impi = "ue1@example.net"
k = "465b"
opc = "zz63cb71954a9f4e48a5994e37a02baf"
kee = 1

[[subscriber]]
algorithm = "des"
k = 5
op = "cd63cb71954a9f4e48a5994e37a02baf"
opc = "cd63cb71954a9f4e48a5994e37a02baf"
amf = "80"
impus = ["mailto:x@y", "sip:a@b"]
key_lifetime = "90"
barred = "no"

[[subscriber]]
impi = "a b"
algorithm = "tuak"
k = "465b5ce8b199b49faa5f0a2ee238a6bc"
opc = "cd63cb71954a9f4e48a5994e37a02baf"
iterations = 0
res_octets = 32

[other]
"#;
        let problems = parse("s.toml", text).expect_err("many");
        let told: Vec<(usize, &str)> =
            problems.iter().map(|problem| (problem.line, problem.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (4, "subscriber.k is not 32 hex digits"),
                (5, "subscriber.opc is not 32 hex digits"),
                (6, "subscriber.kee is not known"),
                (8, "subscriber without impi"),
                (9, "subscriber.algorithm = \"des\" is not known"),
                (10, "subscriber.k is not a text"),
                (11, "subscriber with op and opc"),
                (13, "subscriber.amf is not 4 hex digits"),
                (14, "subscriber.impus holds what is no SIP or tel URI"),
                (15, "subscriber.key_lifetime = \"90\" is no length of a minute or more"),
                (16, "subscriber.barred is neither true nor false"),
                (18, "subscriber without topc"),
                (19, "subscriber.impi is no private identity"),
                (22, "subscriber.opc does not belong to tuak"),
                (23, "subscriber.iterations is not a number that TUAK has"),
                (24, "subscriber.res_octets is not a number that TUAK has"),
                (26, "\"other\" is not known here"),
            ]
        );
        let shown = problems[0].to_string();
        assert_eq!(
            shown,
            "s.toml:4: subscriber.k is not 32 hex digits\n    there are 4 characters\n    \
             fix: k = \"0123456789abcdef0123456789abcdef\""
        );
        let all: String = problems.iter().map(Problem::to_string).collect();
        assert!(!all.contains("465b") && !all.contains("cd63"), "no secret is repeated: {all}");
    }

    #[test]
    fn tells_broken_toml_and_doubles() {
        let twice = format!("{GOOD}{GOOD}");
        let problems = parse("s.toml", &twice).expect_err("doubles");
        assert_eq!(problems.len(), 2);
        assert!(problems[0].what.contains("is there twice"), "{}", problems[0]);
        let broken = GOOD.replace("barred = true", "barred = ");
        let problems = parse("s.toml", &broken).expect_err("broken");
        assert!(problems.iter().any(|p| p.what.starts_with("is not TOML") && p.line == 20));
    }

    #[test]
    fn lengths_of_time() {
        for (text, expected) in
            [("90s", Some(90)), ("5m", Some(300)), ("1h", Some(3600)), ("7d", Some(604_800))]
        {
            assert_eq!(parse_duration(text), expected.map(Duration::from_secs), "{text}");
        }
        for bad in ["", "s", "90", "+5m", "1.5h", "1w", "99999999999999999999d", "\u{e9}"] {
            assert!(parse_duration(bad).is_none_or(|length| length.is_zero()), "{bad}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn others_may_not_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("sipward-s-{}.toml", std::process::id()));
        std::fs::write(&path, GOOD).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let result = load(&path);
            assert_eq!(result.is_ok(), good, "{mode:o}");
            if let Err(problems) = result {
                assert_eq!(problems[0].fix, format!("chmod 600 {}", path.display()));
            }
        }
        std::fs::remove_file(&path).unwrap();
        assert!(load(&path).unwrap_err()[0].what.starts_with("cannot be read"));
    }
}

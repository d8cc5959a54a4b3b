//! Configuration, what callers may dial: `[limits.caller]`.
//!
//! Takes:   the table as written, and the names of the operator's own classes.
//! Gives:   [`Numbers`].
//! Keeps:   nothing.
//! Refuses: beginnings of numbers that no number has, more of them than are looked through, lists without any; a bound for
//!          attempts where nothing is refused or costs much.
//! Sources: RFC 3966 section 3; V-134.

use super::b2bua::class_set;
use super::problem::Notes;
use super::raw::{Section, Spot};
use crate::enabler::ClassSet;
use crate::enabler::numbers::{Numbers, Prefixes, Special};

/// Most prefixes of one list: each number is compared with all of them.
const PREFIXES_MAX: usize = 1000;
/// Most lists for some callers or classes.
const LISTS_MAX: usize = 100;

/// Reads `[limits.caller]`.
pub(super) fn numbers(root: &mut Section<'_>, own: &[Box<str>]) -> Numbers {
    let mut limits = root.table("limits");
    let mut section = limits.table("caller");
    let notes = section.notes();
    let default = Numbers::default();
    let usual = prefixes(&mut section);
    let place = section.place_of("tolls");
    let tolls = section.maybe("tolls");
    let tables = section.tables("list");
    if tables.len() > LISTS_MAX {
        let what = format!("limits.caller.list is there {} times", tables.len());
        notes.say(section.place().line, what, "100 are the most", "");
    }
    let special: Vec<Special> =
        tables.into_iter().take(LISTS_MAX).map(|table| special(table, own)).collect();
    if tolls.is_some() && usual == Prefixes::default() && special.is_empty() {
        let why = "attempts at numbers that are refused or costly are counted, and none is";
        let what = "limits.caller.tolls bounds nothing".into();
        notes.say(place.line, what, why, "deny = [\"+882\", \"+883\"]");
    }
    section.finish();
    limits.finish();
    Numbers { usual, special, tolls: tolls.map_or(default.tolls, |spot| spot.value) }
}

fn special(mut section: Section<'_>, own: &[Box<str>]) -> Special {
    let notes = section.notes();
    let callers = section.maybe::<Vec<String>>("callers");
    let classes = section.maybe::<Vec<String>>("classes");
    if callers.is_none() && classes.is_none() {
        let what = "limits.caller.list is nobody's".into();
        let why = "it stands in the place of everybody's list for some callers or classes";
        notes.say(section.place().line, what, why, "callers = [\"alice\"]");
    }
    for spot in [&callers, &classes].into_iter().flatten() {
        if spot.value.iter().any(|name| name.trim().is_empty()) || spot.value.is_empty() {
            notes.problem(&spot.place, "names nobody", "a list without names is everybody's", "");
        }
    }
    let classes = classes.map(|spot| classes_of(&spot, own, notes));
    let callers = callers.map(|spot| spot.value).unwrap_or_default();
    let callers = callers.into_iter().map(String::into_boxed_str).collect();
    let prefixes = prefixes(&mut section);
    section.finish();
    Special { callers, classes, prefixes }
}

fn classes_of(spot: &Spot<Vec<String>>, own: &[Box<str>], notes: &Notes) -> ClassSet {
    let mut set = ClassSet::default();
    for name in &spot.value {
        match class_set(name, own) {
            Some(more) => set = set.and(more),
            None => {
                let what = format!("holds {name:?}, which is no class that is dialled");
                let why = "sip, cpm, cpm.pager and so on, locsip, push, and those of [[enabler.class]] are";
                notes.problem(&spot.place, &what, why, "[\"sip\", \"cpm\"]");
            }
        }
    }
    set
}

fn prefixes(section: &mut Section<'_>) -> Prefixes {
    let mut list = |key: &'static str, example: &str| {
        let Some(Spot { value, place }) = section.maybe::<Vec<String>>(key) else {
            return Vec::new();
        };
        let notes = section.notes();
        if let Some(bad) = value.iter().find(|prefix| !is_prefix(prefix)) {
            let what = format!("holds {bad:?}, with which no number begins");
            let why =
                "digits, * and #, with a plus sign in front or without; separators are left out";
            notes.problem(&place, &what, why, example);
        }
        if value.len() > PREFIXES_MAX {
            notes.problem(
                &place,
                "is too long",
                "each number is compared with all of it: 1000 are the most",
                example,
            );
        }
        value.into_iter().map(String::into_boxed_str).collect()
    };
    Prefixes {
        allow: list("allow", "[\"+49\", \"110\", \"112\"]"),
        deny: list("deny", "[\"+882\", \"+883\"]"),
        costly: list("costly", "[\"+881\"]"),
    }
}

fn is_prefix(text: &str) -> bool {
    let number = text.strip_prefix('+').unwrap_or(text);
    let dialled = |octet: u8| octet.is_ascii_digit() || b"*#".contains(&octet);
    !text.is_empty() && number.len() <= 32 && number.bytes().all(dialled)
}

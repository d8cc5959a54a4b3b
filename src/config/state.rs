//! Configuration, state: `[state]`, the file that outlives the process, and where the key to it is.
//!
//! Takes:   the table as written.
//! Gives:   [`State`]: the file, and the place of its key.
//! Keeps:   nothing; neither file nor key is held.
//! Refuses: no key or two; a key file that is too short, or that others can read. A variable and a credential are the
//!          service's own, so that they are warned of where they are not set.
//! Sources: SEC_CF 1.1 SEC-001.

use std::path::PathBuf;

use super::field::Octets;
use super::files::Folder;
use super::raw::{Section, Spot};
use crate::state::embedded::CACHE;
use crate::state::seal::{KeyPlace, KeyUnread};

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The file.
    pub file: PathBuf,
    /// The key to it.
    pub key: KeyPlace,
    /// Octets of the file that a server holds in memory at most.
    pub cache: usize,
}

/// Bounds of that.
const CACHE_MIN: usize = 1024 * 1024;
const CACHE_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Reads `[state]`.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder) -> Option<State> {
    let mut section = root.table("state");
    let notes = section.notes();
    if !section.is_present() {
        return None;
    }
    let file = section.need::<PathBuf>("file", "records stand in it", "\"state.redb\"");
    let file = file.map(|spot| folder.resolve(&spot.value));
    let of_file = section
        .maybe::<PathBuf>("key_file")
        .map(|Spot { value, place }| (KeyPlace::File(folder.resolve(&value)), place));
    let of_environment = section
        .maybe::<String>("key_env")
        .map(|Spot { value, place }| (KeyPlace::Environment(value), place));
    let of_credential = section
        .maybe::<String>("key_credential")
        .map(|Spot { value, place }| (KeyPlace::Credential(value), place));
    let Octets(cache) =
        section.within("cache", Octets(CACHE), Octets(CACHE_MIN)..=Octets(CACHE_MAX));
    section.finish();
    let mut keys = [of_file, of_environment, of_credential].into_iter().flatten();
    let (Some((key, place)), None) = (keys.next(), keys.next()) else {
        let place = section_place(root);
        let why = "values are sealed under one key: of a file, of a variable, or of a credential of the service";
        let what = "state has no key, or more than one".to_owned();
        notes.say(place, what, why, "key_file = \"state.key\"");
        return None;
    };
    if let Err(unread) = key.read() {
        let why = unread.to_string();
        match &key {
            KeyPlace::File(path) => {
                let (what, path) = (format!("{} cannot be used", place.subject()), path.display());
                let fix = match unread {
                    KeyUnread::Exposed(_) => format!("chmod 600 {path}"),
                    _ => format!("(umask 077; openssl rand -hex 32 > {path})"),
                };
                notes.say(place.line, what, why, fix);
            }
            _ => notes.warn(&place, "is not there now", why, ""),
        }
    }
    Some(State { file: file?, key, cache })
}

fn section_place(root: &mut Section<'_>) -> usize {
    root.table("state").place().line
}

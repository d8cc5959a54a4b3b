//! Configuration, renewal: whether certificates, keys, revocation lists, tokens or the secret of route tokens changed in
//! their places.
//!
//! A certificate and its key are two files, replaced one after the other: they are read once they stand still
//! between two looks.
//!
//! Takes:   the files in force, as they were when they were read; a look now and then.
//! Gives:   the word that they are to be read again.
//! Keeps:   what the last look saw, and what was tried last: files that could not be used are tried, and
//!          told of, once a minute: what was in the way may be gone.
//! Refuses: nothing; a file that is gone differs from one that is there.
//! Sources: V-147.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::instant::Instant;

/// What was tried in vain is tried again after so long.
pub const AGAIN: Duration = Duration::from_secs(60);

/// A file as it was at some time, by what the file system says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    octets: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let facts = std::fs::metadata(path).ok()?;
        let (octets, modified) = (facts.len(), facts.modified().ok());
        Some(Self { octets, modified, inode: inode(&facts) })
    }
}

#[cfg(unix)]
fn inode(facts: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(facts)
}

#[cfg(not(unix))]
fn inode(_facts: &Metadata) -> u64 {
    0
}

/// A file, and what it was when it was read.
#[derive(Clone, Debug)]
pub struct Stamped {
    path: PathBuf,
    stamp: Option<Stamp>,
}

impl Stamped {
    /// The file at `path` as it is now.
    pub(super) fn new(path: PathBuf) -> Self {
        let stamp = Stamp::of(&path);
        Self { path, stamp }
    }
}

/// Looks at files now and then.
#[derive(Debug, Default)]
pub struct Renewal {
    last: Vec<Option<Stamp>>,
    tried: Vec<Option<Stamp>>,
    tried_at: Option<Instant>,
}

impl Renewal {
    /// Whether at `now` `files` are no longer what was read and stand still since the last look, and were not tried as they
    /// are within [`AGAIN`].
    pub fn is_due(&mut self, files: &[Stamped], now: Instant) -> bool {
        let seen: Vec<_> = files.iter().map(|file| Stamp::of(&file.path)).collect();
        let still = self.last == seen;
        self.last.clone_from(&seen);
        let in_force = files.iter().map(|file| &file.stamp).eq(&seen);
        let early = self.tried_at.is_some_and(|tried| now.since(tried) < AGAIN);
        if !still || in_force || (self.tried == seen && early) {
            return false;
        }
        (self.tried, self.tried_at) = (seen, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_in_vain_is_tried_again_a_minute_later() {
        let path = std::env::temp_dir().join(format!("sipward-renewal-{}", std::process::id()));
        std::fs::write(&path, "old").expect("written");
        let files = [Stamped::new(path.clone())];
        let mut renewal = Renewal::default();
        let mut due =
            |seconds: u64| renewal.is_due(&files, Instant::from_micros(seconds * 1_000_000));
        assert!(![0, 2, 100].map(&mut due).contains(&true), "it is in force");
        std::fs::write(&path, "another").expect("written");
        let tried = [102, 104, 106, 162, 164, 166, 222, 224].map(due);
        std::fs::remove_file(&path).expect("ours");
        assert_eq!(tried, [false, true, false, false, true, false, false, true]);
    }
}

//! Configuration, renewal: whether certificates, keys, revocation lists, tokens or the secret of route tokens changed in
//! their places.
//!
//! A certificate and its key are two files, replaced one after the other: they are read once they stand still
//! between two looks.
//!
//! Takes:   the files in force, as they were when they were read; a look now and then.
//! Gives:   the word that they are to be read again.
//! Keeps:   what the last look saw, and what was tried last: files that cannot be used are told of once.
//! Refuses: nothing; a file that is gone differs from one that is there.
//! Sources: V-147.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
}

impl Renewal {
    /// Whether `files` are no longer what was read, have not been tried as they are, and stand still since the last
    /// look.
    pub fn is_due(&mut self, files: &[Stamped]) -> bool {
        let seen: Vec<_> = files.iter().map(|file| Stamp::of(&file.path)).collect();
        let still = self.last == seen;
        self.last.clone_from(&seen);
        let in_force = files.iter().map(|file| &file.stamp).eq(&seen);
        if !still || in_force || self.tried == seen {
            return false;
        }
        self.tried = seen;
        true
    }
}

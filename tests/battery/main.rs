//! One set of tests over every `Store`, and what the one on disk owes beside: that it is sealed, that nothing which was
//! acknowledged is lost, and that what was altered is named.
//!
//! `CRASH_ROUNDS` sets how often `crash` kills a process that writes: 200 at night, 40 where it is not set.

#![allow(clippy::print_stdout, reason = "measures are told")]

mod commands;
mod crash;
mod disk;
mod promises;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sipward::state::embedded::Embedded;
use sipward::state::seal::KeyKey;
use sipward::state::{Memory, Store};

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("sipward-battery-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path("state.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn key(text: &str) -> KeyKey {
    KeyKey::new(text.repeat(40).as_bytes()).expect("long enough")
}

pub(crate) fn open(path: &Path) -> Embedded {
    Embedded::open(path, &key("k"), true).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Every store there is, by name.
pub(crate) fn stores(folder: &Folder) -> Vec<(&'static str, Arc<dyn Store>)> {
    vec![("memory", Arc::new(Memory::new())), ("embedded", Arc::new(open(&folder.file())))]
}

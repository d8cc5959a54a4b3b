//! The store of `[state]`, opened: for a server, and for the commands that change what it reads.
//!
//! Takes:   where the store and its key are.
//! Gives:   [`Vault`], open; in words, why it is not.
//! Keeps:   for a server, the right to serve from it.
//! Refuses: a second server; to begin a store where a server or a command expected one.
//! Sources: SEC_CF 1.1 SEC-001.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::state::State;
use crate::state::embedded::{Embedded, Serving};
use crate::state::{Fault, Store};

/// An open store.
#[derive(Debug)]
pub(super) struct Vault {
    store: Arc<Embedded>,
    _serving: Option<Serving>,
}

impl Vault {
    /// Opens it for a server.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened, or that another server serves from it.
    pub(super) fn to_serve(state: &State) -> io::Result<Self> {
        let store = Self::open(state, true)?;
        let serving = store.serve().map_err(|fault| in_words(&state.file, &fault))?;
        Ok(Self { store: Arc::new(store), _serving: Some(serving) })
    }

    /// Opens it for a command; with `make`, begins one if there is none.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    pub(super) fn to_change(state: &State, make: bool) -> io::Result<Self> {
        Ok(Self { store: Arc::new(Self::open(state, make)?), _serving: None })
    }

    fn open(state: &State, make: bool) -> io::Result<Embedded> {
        let key =
            state.key.read().map_err(|unread| io::Error::other(format!("[state]: {unread}")))?;
        Embedded::open(&state.file, &key, make).map_err(|fault| in_words(&state.file, &fault))
    }

    /// The store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::<Embedded>::clone(&self.store)
    }

    /// The same, as the file that it is.
    pub(super) fn embedded(&self) -> &Embedded {
        &self.store
    }
}

/// What a fault of the store at `path` means to who runs it.
pub(super) fn in_words(path: &Path, fault: &Fault) -> io::Error {
    let path = path.display();
    let fix = match fault {
        Fault::Busy => {
            "\n    one server at a time serves from a store: its sequence numbers are in one hand"
        }
        Fault::KeyWrong { .. } => {
            "\n    give it the key it was sealed under; `sipward key rotate` lets another one open it"
        }
        Fault::Spoilt { .. } | Fault::Broken(_) => {
            "\n    nothing of it is used; put a copy back that `sipward key examine` finds whole"
        }
        Fault::Away(_) | Fault::Unfit(_) | Fault::Full(_) => "",
    };
    io::Error::other(format!("{path}: {fault}{fix}"))
}

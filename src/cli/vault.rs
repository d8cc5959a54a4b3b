//! The store of `[state]`, opened: for a server, and for the commands that change what it reads.
//!
//! Takes:   where the store and its key are.
//! Gives:   [`Vault`], open; in words, why it is not.
//! Keeps:   for a server, the right to serve from it.
//! Refuses: a second server; to serve from a file in which an octet changed.
//! Sources: SEC_CF 1.1 SEC-001.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::authentication::Accounts;
use crate::clock;
use crate::config::Config;
use crate::config::accounts::{Home, stored};
use crate::config::problem::Notes;
use crate::config::psk::provisioned;
use crate::config::state::State;
use crate::keys::psk::ProvisionedKeys;
use crate::state::embedded::{Embedded, Serving};
use crate::state::seal::KeyKey;
use crate::state::{Change, Fault, Store, Table};

/// Records that are read at a time.
const PAGE: usize = 1024;

/// What a server holds in memory and reads again once a command changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Keys that were carried to both ends by hand.
    Keys,
    /// Accounts.
    Accounts,
    /// Subscribers.
    Subscribers,
}

impl Part {
    /// What says that it changed.
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Keys => b"keys",
            Self::Accounts => b"accounts",
            Self::Subscribers => b"subscribers",
        }
    }
}

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
        let store =
            Self::open(state, |path, key| Embedded::open_whole(path, key, true, state.cache))?;
        let serving = store.serve().map_err(|fault| in_words(&state.file, &fault))?;
        Ok(Self { store: Arc::new(store), _serving: Some(serving) })
    }

    /// Opens it for a command; with `make`, begins one if there is none.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    pub(super) fn to_change(state: &State, make: bool) -> io::Result<Self> {
        let store = Self::open(state, |path, key| Embedded::open(path, key, make))?;
        Ok(Self { store: Arc::new(store), _serving: None })
    }

    /// Opens it, and finds every page of it whole.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened, or that it is not what was written.
    pub(super) fn check(state: &State) -> io::Result<()> {
        Self::open(state, |path, key| Embedded::open_whole(path, key, false, state.cache)).map(drop)
    }

    fn open(
        state: &State,
        how: impl FnOnce(&Path, &KeyKey) -> Result<Embedded, Fault>,
    ) -> io::Result<Embedded> {
        let key =
            state.key.read().map_err(|unread| io::Error::other(format!("[state]: {unread}")))?;
        how(&state.file, &key).map_err(|fault| in_words(&state.file, &fault))
    }

    /// The keys that were carried to both ends by hand.
    ///
    /// # Errors
    ///
    /// A store that does not answer, a key in it that is none.
    pub(super) fn keys(&self) -> io::Result<ProvisionedKeys> {
        let fault = |fault| in_words(self.store.path(), &fault);
        let (mut keys, mut after) = (ProvisionedKeys::new(), Box::default());
        loop {
            let page = self.store.walk(Table::Keys, &after, PAGE).map_err(fault)?;
            for (name, row) in &page {
                let (found, notes) = provisioned(Path::new("store"), row);
                let whole = notes.into_parts().0.is_empty();
                let own = found.into_iter().find(|(identity, _)| identity.as_bytes() == &**name);
                let own = own.filter(|_| whole).ok_or_else(|| Fault::spoilt(Table::Keys, name));
                let (identity, key) = own.map_err(fault)?;
                keys.insert(identity, key);
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok(keys),
            }
        }
    }

    /// The accounts, those left out that cannot be; for each of those, why.
    ///
    /// # Errors
    ///
    /// A store that does not answer, a record that is not what was written.
    pub(super) fn accounts(&self, config: &Config) -> io::Result<(Accounts, Vec<String>)> {
        let fault = |fault| in_words(self.store.path(), &fault);
        let own = config.enablers.own_names();
        let home = Home::of(config, &own);
        let (mut accounts, mut wrong) = (Accounts::default(), Vec::new());
        let mut after = Box::default();
        loop {
            let page = self.store.walk(Table::Accounts, &after, PAGE).map_err(fault)?;
            for (key, value) in &page {
                let notes = Notes::new("the store");
                match stored::read(key, value, home, &notes) {
                    Some(named) => {
                        let added = accounts.add(&named.realm, &named.username, named.account);
                        added.map_err(|_| fault(Fault::spoilt(Table::Accounts, key)))?;
                    }
                    None if notes.has_problems() => {
                        wrong.extend(notes.into_parts().0.iter().map(ToString::to_string));
                    }
                    None => return Err(fault(Fault::spoilt(Table::Accounts, key))),
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok((accounts, wrong)),
            }
        }
    }

    /// The last change of that part.
    ///
    /// # Errors
    ///
    /// A store that does not answer.
    pub(super) fn last_change(&self, of: Part) -> io::Result<Option<Changed>> {
        let mark = self
            .store
            .read(Table::Node, of.mark())
            .map_err(|fault| in_words(self.store.path(), &fault))?;
        Ok(mark.and_then(|octets| octets.as_slice().try_into().ok()).map(Changed))
    }

    /// Changes that part, and says so to whoever serves from the store.
    ///
    /// # Errors
    ///
    /// A store that does not answer.
    pub(super) fn change(&self, of: Part, changes: &[Change<'_>]) -> io::Result<()> {
        let Changed(mark) = Changed::now();
        let all = [changes, &[Change::Put(Table::Node, of.mark(), &mark)]].concat();
        self.store.write(&all).map_err(|fault| in_words(self.store.path(), &fault))
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

/// A change of what a server holds, told from any other, and who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed([u8; 16]);

impl Changed {
    fn now() -> Self {
        let uid = nix::unistd::geteuid().as_raw().to_be_bytes();
        let pid = std::process::id().to_be_bytes();
        let mut octets = [0; 16];
        let fields = clock::random::<8>().into_iter().chain(uid).chain(pid);
        octets.iter_mut().zip(fields).for_each(|(octet, field)| *octet = field);
        Self(octets)
    }

    /// The user and the process that made it.
    pub(super) fn asker(self) -> (u32, u32) {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
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

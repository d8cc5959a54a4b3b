//! Configuration, files: what stands in other files than the one that names them.
//!
//! Takes:   a name as written, and whether what it names is secret.
//! Gives:   the octets, zeroed on drop.
//! Keeps:   nothing.
//! Refuses: what is missing, unreadable, no file, longer than its bound; secrets that others can read.
//! Sources: SEC_CF 1.1 SEC-001.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::problem::Notes;
use super::raw::Spot;
use super::renewal::Stamped;
use crate::clock;

/// Longest certificate, key or list file, in octets.
pub const PEM_MAX: u64 = 4 * 1024 * 1024;
/// Longest file of accounts or subscribers, in octets.
pub const TABLE_MAX: u64 = 512 * 1024 * 1024;

/// Whether others may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// They may.
    Open,
    /// They may not: it holds keys or passwords.
    Secret,
}

/// Where relative names start.
#[derive(Clone, Debug)]
pub struct Folder {
    home: PathBuf,
    /// Files that are read again once they change in their places.
    watched: RefCell<Vec<Stamped>>,
}

impl Folder {
    /// The folder of the file `config`.
    pub fn of(config: &Path) -> Self {
        let home = config.parent().map(Path::to_owned).unwrap_or_default();
        Self { home, watched: RefCell::default() }
    }

    /// The whole name of `path`.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.home.join(path)
    }

    /// As [`Folder::read`], of a certificate, its key, a revocation list or a token.
    pub fn read_pem(
        &self,
        spot: &Spot<PathBuf>,
        secrecy: Secrecy,
        notes: &Notes,
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.read_watched(spot, secrecy, PEM_MAX, notes)
    }

    /// As [`Folder::read`], of a file that is read again once it changes in its place.
    pub fn read_watched(
        &self,
        spot: &Spot<PathBuf>,
        secrecy: Secrecy,
        max: u64,
        notes: &Notes,
    ) -> Option<Zeroizing<Vec<u8>>> {
        // Stamped before it is read: what changes meanwhile is seen to differ.
        self.watched.borrow_mut().push(Stamped::new(self.resolve(&spot.value)));
        self.read(spot, secrecy, max, notes)
    }

    /// As [`Folder::read_pem`], of a file that may not be there yet: `None` after a warning.
    pub fn read_renewed(&self, spot: &Spot<PathBuf>, notes: &Notes) -> Option<Zeroizing<Vec<u8>>> {
        let path = self.resolve(&spot.value);
        self.watched.borrow_mut().push(Stamped::new(path.clone()));
        let why = match read(&path, Secrecy::Open, PEM_MAX) {
            Ok(octets) => return Some(octets),
            Err(Unread::System(why)) => why.to_string(),
            Err(Unread::Unfit(what)) => format!("it {what}"),
            Err(Unread::Exposed(_)) => String::new(),
        };
        notes.warn(
            &spot.place,
            "cannot be read, and is not shown",
            format!("{}: {why}", path.display()),
            "",
        );
        None
    }

    /// Certificates, keys, revocation lists, tokens and the secret of route tokens that were read.
    pub fn into_watched(self) -> Vec<Stamped> {
        self.watched.into_inner()
    }

    /// The octets of the file that `spot` names; `None` after saying what is wrong.
    pub fn read(
        &self,
        spot: &Spot<PathBuf>,
        secrecy: Secrecy,
        max: u64,
        notes: &Notes,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let path = self.resolve(&spot.value);
        let shown = path.display();
        match read(&path, secrecy, max) {
            Ok(octets) => Some(octets),
            Err(Unread::System(error)) => {
                let why = format!("{shown}: {error}");
                notes.problem(&spot.place, "cannot be read", why, "");
                None
            }
            Err(Unread::Unfit(what)) => {
                notes.problem(&spot.place, what, shown.to_string(), "");
                None
            }
            Err(Unread::Exposed(mode)) => {
                let what = format!("can be read by others (mode {mode:04o})");
                let why = "it holds secrets, which are for the owner alone (SEC-001)";
                let line = spot.place.line;
                let subject = format!("{} = {:?} {what}", spot.place.path, spot.value);
                notes.say(line, subject, why, format!("chmod 600 {shown}"));
                None
            }
        }
    }
}

enum Unread {
    System(io::Error),
    Unfit(&'static str),
    Exposed(u32),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

fn read(path: &Path, secrecy: Secrecy, max: u64) -> Result<Zeroizing<Vec<u8>>, Unread> {
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unread::Unfit("is not a file"));
    }
    let file = File::open(path)?;
    // Asked of what was opened, so that nothing is put in its place between the question and the reading.
    let facts = file.metadata()?;
    let exposed = mode(&facts) & 0o077;
    if secrecy == Secrecy::Secret && exposed != 0 {
        return Err(Unread::Exposed(mode(&facts)));
    }
    if facts.len() > max {
        return Err(Unread::Unfit("is too long a file"));
    }
    let length = usize::try_from(facts.len()).unwrap_or_default();
    // Room for all of it at once: a buffer that grew would leave copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    file.take(max).read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(unix)]
fn mode(facts: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(facts) & 0o7777
}

#[cfg(not(unix))]
fn mode(_facts: &std::fs::Metadata) -> u32 {
    0
}

/// Tells whether files changed between two loads of one process; it says nothing of what is in them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of both.
    pub fn with(self, other: Self) -> Self {
        let mut sum = Sum::new();
        sum.add(&self.0);
        sum.add(&other.0);
        sum.fingerprint()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// A fingerprint in the making.
pub struct Sum(Hmac<Sha256>);

impl Sum {
    /// Of nothing yet.
    pub fn new() -> Self {
        // Keyed, so that nobody can search for a password by the fingerprint of its file.
        static KEY: LazyLock<[u8; 64]> = LazyLock::new(clock::random);
        Self(Hmac::new((&*KEY).into()))
    }

    /// Adds a file.
    pub fn add(&mut self, octets: &[u8]) {
        self.0.update(&octets.len().to_be_bytes());
        self.0.update(octets);
    }

    /// The fingerprint of all that was added.
    pub fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into_bytes().into())
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sum(..)")
    }
}

//! The UE, store: bootstrapped keys on disk, sealed, and the sequence numbers that the cards have seen.
//!
//! Takes:   what a run on Ub gave, and how the file is locked: a key in a file beside it, or a passphrase.
//! Gives:   [`Store`], one [`Entry`] for each IMPI, after a restart as before it.
//! Keeps:   the entries in memory while it is open. Bounds: [`FILE_MAX`] octets on disk, [`ENTRIES_MAX`] entries.
//! Refuses: a file that was altered, that another key sealed, or whose key others may read; to write half a file.
//! Sources: TS 33.220 clause 4.5.2 (B-TID, lifetime) and annex B.4 (TMPI); TS 33.102 annex C.2 (SQN on the card);
//!          RFC 9106 section 4 (Argon2id); `SEC-001`.
//!
//! The file, in octets: `sipward ue keys 1\n`, one octet for the lock (0 key file, 1 passphrase), 16 of salt, 24 of
//! nonce, then XChaCha20-Poly1305 over a line for each entry, with all that stands before as associated data.
//! Names of files are the user's choice: an identity or a B-TID, with `/` in it, never becomes one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::bootstrap::{Bootstrapped, Origin};
use super::bootstrap_digest::NONCE_MAX;
use crate::clock;
use crate::identity::{Btid, Impi};
use crate::instant::WallTime;
use crate::keys::sqn::{PLACES, SqnWindow};
use crate::keys::subscribers::disk;
use crate::keys::{Ks, Rand};

/// Longest file, in octets.
pub const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Most entries.
pub const ENTRIES_MAX: usize = 10_000;

const MAGIC: &[u8] = b"sipward ue keys 1\n";
const SALT: usize = 16;
const NONCE: usize = 24;
const KEY_FILE: u8 = 0;
const PASSPHRASE: u8 = 1;

/// How the file is locked.
#[derive(Clone)]
pub enum Lock {
    /// With a key of 32 octets in a file of its own, made when it is not there yet. It keeps the keys out of backups
    /// and logs that take the sealed file alone; whoever reads both files has the keys.
    KeyFile(PathBuf),
    /// With a passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
}

impl Lock {
    /// The key file that belongs to the store at `path`: the same name with `.key` behind it.
    pub fn beside(path: &Path) -> Self {
        Self::KeyFile(disk::beside(path, "key"))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile(path) => write!(f, "KeyFile({})", path.display()),
            Self::Passphrase(_) => f.write_str("Passphrase(..)"),
        }
    }
}

/// Why there is no store. Each is one line for the user.
#[derive(Debug)]
pub enum StoreError {
    /// The file system would not.
    Io(PathBuf, io::Error),
    /// Others than its owner may read the file that the key is in.
    Exposed(PathBuf),
    /// The file is no store, or one of another version.
    NotAStore(PathBuf),
    /// It was sealed with the other kind of lock.
    OtherLock(PathBuf),
    /// It was altered, or the key or passphrase is another one; which of them cannot be told.
    Sealed(PathBuf),
    /// More than [`ENTRIES_MAX`] entries, or more than [`FILE_MAX`] octets.
    Full,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Exposed(path) => {
                let path = path.display();
                write!(f, "{path} holds a key and can be read by others: chmod 600 {path}")
            }
            Self::NotAStore(path) => {
                write!(f, "{} is no key store of this version", path.display())
            }
            Self::OtherLock(path) => {
                let path = path.display();
                write!(f, "{path} is locked the other way: with --unlock FILE, or without it")
            }
            Self::Sealed(path) => write!(
                f,
                "{} does not open: another key or passphrase sealed it, or it was altered",
                path.display()
            ),
            Self::Full => write!(f, "a key store holds {ENTRIES_MAX} entries at most"),
        }
    }
}

impl std::error::Error for StoreError {}

/// What is kept for one IMPI.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The last run.
    pub keys: Bootstrapped,
    /// What the card has seen, lest an old challenge be taken again.
    pub window: SqnWindow,
}

/// An open store.
pub struct Store {
    path: PathBuf,
    lock: u8,
    salt: [u8; SALT],
    key: Zeroizing<[u8; 32]>,
    entries: BTreeMap<Impi, Entry>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({}, {} entries)", self.path.display(), self.entries.len())
    }
}

impl Store {
    /// Opens the store at `path`; one that is not there is empty, and comes to be with the first [`Store::put`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing on the disk was changed then.
    pub fn open(path: &Path, lock: &Lock) -> Result<Self, StoreError> {
        let sealed = match read(path) {
            Ok(octets) => Some(octets),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::Io(path.to_owned(), error)),
        };
        let kind = match lock {
            Lock::KeyFile(_) => KEY_FILE,
            Lock::Passphrase(_) => PASSPHRASE,
        };
        let Some(sealed) = sealed else {
            let salt = clock::random();
            let key = key(lock, &salt, true)?;
            let entries = BTreeMap::new();
            return Ok(Self { path: path.to_owned(), lock: kind, salt, key, entries });
        };
        let parts = Sealed::split(&sealed).ok_or_else(|| StoreError::NotAStore(path.to_owned()))?;
        if parts.lock != kind {
            return Err(StoreError::OtherLock(path.to_owned()));
        }
        let key = key(lock, &parts.salt, false)?;
        let payload = Payload { msg: parts.ciphertext, aad: parts.head };
        let opened = cipher(&key).decrypt(&XNonce::from(parts.nonce), payload);
        let text = opened.map(Zeroizing::new).map_err(|_| StoreError::Sealed(path.to_owned()))?;
        let entries = parse(&text).ok_or_else(|| StoreError::NotAStore(path.to_owned()))?;
        Ok(Self { path: path.to_owned(), lock: kind, salt: parts.salt, key, entries })
    }

    /// What is kept for `impi`.
    pub fn get(&self, impi: &Impi) -> Option<&Entry> {
        self.entries.get(impi)
    }

    /// The only entry, if there is exactly one.
    pub fn only(&self) -> Option<&Entry> {
        let mut entries = self.entries.values();
        entries.next().filter(|_| entries.next().is_none())
    }

    /// All entries, in the order of their IMPIs.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Keeps `entries` in the place of what was there for their IMPIs, and writes the file, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Io`]; the file is as it was then.
    pub fn put(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), StoreError> {
        let mut all = self.entries.clone();
        all.extend(entries.into_iter().map(|entry| (entry.keys.impi.clone(), entry)));
        self.write(&all)?;
        self.entries = all;
        Ok(())
    }

    /// Forgets `impi`; whether it was there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; the file is as it was then.
    pub fn forget(&mut self, impi: &Impi) -> Result<bool, StoreError> {
        let mut all = self.entries.clone();
        let known = all.remove(impi).is_some();
        if known {
            self.write(&all)?;
            self.entries = all;
        }
        Ok(known)
    }

    fn write(&self, entries: &BTreeMap<Impi, Entry>) -> Result<(), StoreError> {
        if entries.len() > ENTRIES_MAX {
            return Err(StoreError::Full);
        }
        let text = print(entries);
        let nonce: [u8; NONCE] = clock::random();
        let mut file = [MAGIC, &[self.lock], &self.salt, &nonce].concat();
        let payload = Payload { msg: &text, aad: &file };
        let sealed = cipher(&self.key).encrypt(&XNonce::from(nonce), payload);
        file.extend(sealed.map_err(|_| StoreError::Full)?);
        if file.len() as u64 > FILE_MAX {
            return Err(StoreError::Full);
        }
        disk::replace(&self.path, &file).map_err(|error| StoreError::Io(self.path.clone(), error))
    }
}

/// The parts of a file.
struct Sealed<'f> {
    head: &'f [u8],
    lock: u8,
    salt: [u8; SALT],
    nonce: [u8; NONCE],
    ciphertext: &'f [u8],
}

impl<'f> Sealed<'f> {
    fn split(file: &'f [u8]) -> Option<Self> {
        let rest = file.strip_prefix(MAGIC)?;
        let (lock, rest) = rest.split_first()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        let head = file.get(..file.len().checked_sub(ciphertext.len())?)?;
        Some(Self { head, lock: *lock, salt: *salt, nonce: *nonce, ciphertext })
    }
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let length = File::open(path)?.take(FILE_MAX.saturating_add(1)).read_to_end(&mut octets)?;
    if length as u64 > FILE_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(octets) }
}

/// The key of a lock; a key file is made if `make` says so and it is not there.
fn key(lock: &Lock, salt: &[u8; SALT], make: bool) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    match lock {
        Lock::KeyFile(path) => {
            let fails = |error| StoreError::Io(path.clone(), error);
            match key_in(path) {
                Err(StoreError::Io(_, error))
                    if make && error.kind() == io::ErrorKind::NotFound =>
                {
                    let key = Zeroizing::new(clock::random());
                    disk::replace(path, key.as_slice()).map_err(fails)?;
                    Ok(key)
                }
                found => found,
            }
        }
        Lock::Passphrase(phrase) => {
            let mut key = Zeroizing::new([0; 32]);
            let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, costs());
            let hashed = hasher.hash_password_into(phrase, salt, key.as_mut_slice());
            hashed.map_err(|_| StoreError::Full)?; // only for lengths that neither can have
            Ok(key)
        }
    }
}

/// Three passes over 64 MiB: the second choice of RFC 9106 section 4, on one lane.
fn costs() -> Params {
    Params::new(64 * 1024, 3, 1, Some(32)).unwrap_or_default()
}

fn key_in(path: &Path) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let fails = |error| StoreError::Io(path.to_owned(), error);
    let mut file = File::open(path).map_err(fails)?;
    if others_may_read(&file.metadata().map_err(fails)?) {
        return Err(StoreError::Exposed(path.to_owned()));
    }
    let mut key = Zeroizing::new([0; 32]);
    file.read_exact(key.as_mut_slice()).map_err(fails)?;
    Ok(key)
}

#[cfg(unix)]
fn others_may_read(data: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    data.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn others_may_read(_: &std::fs::Metadata) -> bool {
    false
}

/// A line for each entry, fields with tabs between them: no name can hold a tab (see `identity`).
fn print(entries: &BTreeMap<Impi, Entry>) -> Zeroizing<Vec<u8>> {
    // Room for all of it at once: a buffer that grew would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(entries.len().saturating_mul(LINE_MAX)));
    for Entry { keys, window } in entries.values() {
        let ks = Zeroizing::new(BASE64.encode(keys.ks.expose()));
        let seen: Vec<String> = window.seen().iter().map(u64::to_string).collect();
        let (created, expires) = (keys.created.as_unix(), keys.expires.as_unix());
        let tmpi = keys.tmpi.as_ref().map(Impi::as_str).unwrap_or_default();
        for part in [keys.impi.as_str(), "\t", keys.btid.as_str(), "\t", &ks, "\t"] {
            text.extend_from_slice(part.as_bytes());
        }
        let rest = format!(
            "{}\t{created}\t{expires}\t{tmpi}\t{}\n",
            match &keys.origin {
                Origin::Card(rand) => BASE64.encode(rand.0),
                Origin::Password(nonce) => format!("{PASSWORD}{}", BASE64.encode(nonce.as_bytes())),
            },
            seen.join(",")
        );
        text.extend_from_slice(rest.as_bytes());
    }
    text
}

/// Three names of 1024 octets, keys, the longest nonce, and the sequence numbers.
const LINE_MAX: usize = 3 * crate::identity::NAME_MAX + 256 + 2 * NONCE_MAX + 21 * PLACES;

fn parse(text: &[u8]) -> Option<BTreeMap<Impi, Entry>> {
    let text = std::str::from_utf8(text).ok()?;
    let entries = text.lines().map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let (impi, btid, ks, rand) = (next()?, next()?, next()?, next()?);
        let (created, expires, tmpi, seen) = (next()?, next()?, next()?, next()?);
        let numbers: Option<Vec<u64>> = seen.split(',').map(|seen| seen.parse().ok()).collect();
        let keys = Bootstrapped {
            impi: Impi::new(impi)?,
            btid: Btid::new(btid)?,
            ks: Ks::new(octets(ks)?),
            origin: origin(rand)?,
            created: WallTime::from_unix(created.parse().ok()?),
            expires: WallTime::from_unix(expires.parse().ok()?),
            tmpi: Impi::new(tmpi),
        };
        let seen: [u64; PLACES] = numbers?.try_into().ok()?;
        let window = SqnWindow::default().with_seen(seen);
        Some((keys.impi.clone(), Entry { keys, window }))
    });
    entries.collect()
}

/// What precedes the nonce of a run with a password; base64 has no blank.
const PASSWORD: &str = "password ";

fn origin(text: &str) -> Option<Origin> {
    let Some(nonce) = text.strip_prefix(PASSWORD) else {
        return octets(text).map(|octets| Origin::Card(Rand(octets)));
    };
    let nonce = String::from_utf8(BASE64.decode(nonce).ok()?).ok()?;
    Some(Origin::Password(nonce.into()))
}

fn octets<const N: usize>(text: &str) -> Option<[u8; N]> {
    Zeroizing::new(BASE64.decode(text).ok()?).as_slice().try_into().ok()
}

#[cfg(test)]
mod tests;

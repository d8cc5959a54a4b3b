//! State, seal: what keeps a store's file from being read, and its records from being moved.
//!
//! Takes:   the key-encryption key, from where the operator put it; tables, keys and values.
//! Gives:   sealed values: a random nonce of 24 octets, then XChaCha20-Poly1305 with table and key as associated data.
//! Keeps:   the data key and the key-encryption key in memory, zeroed on drop.
//! Refuses: a key that is too short to be one, or that others may read; a value that was altered, or that stood under
//!          another key or in another table.
//! Sources: SEC_CF 1.1 SEC-001; V-148; systemd.exec, section Credentials.
//!
//! Values are sealed under the data key, which is random and never changes; the data key is sealed under the
//! key-encryption key. So another key-encryption key is one small record, whatever the store holds.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Fault, Table, Value};
use crate::clock;
use crate::keys::subscribers::file::others_may_read;

/// Fewest octets of a key-encryption key as it is written: 32 hexadecimal digits are 128 bits.
pub const LENGTH_MIN: usize = 32;
/// Most octets.
pub const LENGTH_MAX: u64 = 4096;

/// Where a key-encryption key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file that its owner alone may read.
    File(PathBuf),
    /// In a variable of the environment.
    Environment(String),
    /// In the folder of credentials that systemd gives a service.
    Credential(String),
}

/// Why there is no key-encryption key.
#[derive(Debug)]
pub enum KeyUnread {
    /// The file cannot be read.
    Io(PathBuf, io::Error),
    /// Others than its owner may read it.
    Exposed(PathBuf),
    /// The variable is not set, or no text.
    Unset(String),
    /// There is no folder of credentials.
    NoFolder,
    /// Too short.
    Short,
}

impl fmt::Display for KeyUnread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, why) => write!(f, "{} cannot be read: {why}", path.display()),
            Self::Exposed(path) => {
                let path = path.display();
                write!(f, "{path} can be read by others than its owner: chmod 600 {path}")
            }
            Self::Unset(name) => write!(f, "the variable {name} is not set"),
            Self::NoFolder => f.write_str(
                "CREDENTIALS_DIRECTORY is not set: the service needs LoadCredential= or LoadCredentialEncrypted=",
            ),
            Self::Short => write!(f, "the key has under {LENGTH_MIN} octets: openssl rand -hex 32"),
        }
    }
}

impl std::error::Error for KeyUnread {}

impl KeyPlace {
    /// Reads the key.
    ///
    /// # Errors
    ///
    /// [`KeyUnread`], by the reason.
    pub fn read(&self) -> Result<KeyKey, KeyUnread> {
        match self {
            Self::File(path) => KeyKey::of_file(path),
            Self::Environment(name) => {
                let text = std::env::var(name).map_err(|_| KeyUnread::Unset(name.clone()))?;
                KeyKey::new(Zeroizing::new(text).as_bytes())
            }
            Self::Credential(name) => {
                let folder =
                    std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(KeyUnread::NoFolder)?;
                // The system made it for this service alone, whatever its mode says.
                KeyKey::new(&octets_of(&Path::new(&folder).join(name), false)?)
            }
        }
    }
}

/// A key-encryption key.
#[derive(Clone)]
pub struct KeyKey {
    key: Zeroizing<[u8; 32]>,
    mark: [u8; MARK],
}

/// Octets of the mark by which a key is told from others; it says nothing of the key.
pub const MARK: usize = 8;
/// Octets of a nonce.
const NONCE: usize = 24;

impl KeyKey {
    /// Of its octets as written, white space at either end left out.
    ///
    /// # Errors
    ///
    /// [`KeyUnread::Short`].
    pub fn new(octets: &[u8]) -> Result<Self, KeyUnread> {
        let octets = octets.trim_ascii();
        if octets.len() < LENGTH_MIN {
            return Err(KeyUnread::Short);
        }
        let hash = |label: &[u8]| Sha256::new().chain_update(label).chain_update(octets).finalize();
        let key = Zeroizing::new(hash(b"sipward state key 1").into());
        let mark = hash(b"sipward state mark 1").first_chunk().copied().unwrap_or_default();
        Ok(Self { key, mark })
    }

    /// Of a file.
    ///
    /// # Errors
    ///
    /// As [`KeyPlace::read`].
    pub fn of_file(path: &Path) -> Result<Self, KeyUnread> {
        Self::new(&octets_of(path, true)?)
    }

    /// Its mark.
    pub fn mark(&self) -> &[u8; MARK] {
        &self.mark
    }

    /// Its mark as it is shown.
    pub fn shown(&self) -> String {
        shown(&self.mark)
    }

    /// Seals the data key; `about` is what stands beside it in the clear.
    pub(super) fn wrap(&self, data: &[u8; 32], about: &[u8]) -> Vec<u8> {
        seal(&XChaCha20Poly1305::new((&*self.key).into()), data, about)
    }

    /// Opens the data key.
    pub(super) fn unwrap(&self, sealed: &[u8], about: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let data = open(&XChaCha20Poly1305::new((&*self.key).into()), sealed, about)?;
        data.first_chunk().copied().filter(|_| data.len() == 32).map(Zeroizing::new)
    }
}

impl fmt::Debug for KeyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyKey({})", self.shown())
    }
}

/// The mark of a key as it is shown.
pub(super) fn shown(mark: &[u8]) -> String {
    mark.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
}

/// Seals and opens values.
pub(super) struct Seal {
    data: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
}

impl Seal {
    pub(super) fn new(data: Zeroizing<[u8; 32]>) -> Self {
        Self { cipher: XChaCha20Poly1305::new((&*data).into()), data }
    }

    /// The data key, to be sealed anew.
    pub(super) fn data(&self) -> &[u8; 32] {
        &self.data
    }

    pub(super) fn seal(&self, place: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
        seal(&self.cipher, value, &about(place, key))
    }

    pub(super) fn open(&self, table: Table, key: &[u8], sealed: &[u8]) -> Result<Value, Fault> {
        let found = self.open_at(table as u8, key, sealed);
        found.ok_or_else(|| Fault::spoilt(table, key))
    }

    pub(super) fn open_at(&self, place: u8, key: &[u8], sealed: &[u8]) -> Option<Value> {
        open(&self.cipher, sealed, &about(place, key))
    }
}

fn about(place: u8, key: &[u8]) -> Vec<u8> {
    [b"sipward state 1".as_slice(), &[place], key].concat()
}

fn seal(cipher: &XChaCha20Poly1305, value: &[u8], about: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = clock::random();
    let payload = Payload { msg: value, aad: about };
    #[allow(
        clippy::expect_used,
        reason = "the cipher takes values of this length, which is bounded"
    )]
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).expect("values are short");
    [&nonce, sealed.as_slice()].concat()
}

fn open(cipher: &XChaCha20Poly1305, sealed: &[u8], about: &[u8]) -> Option<Value> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: sealed, aad: about };
    cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}

fn octets_of(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, KeyUnread> {
    let fails = |error| KeyUnread::Io(path.to_owned(), error);
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(fails)?.is_file() {
        return Err(fails(io::Error::other("it is not a file")));
    }
    let file = File::open(path).map_err(fails)?;
    if secret && others_may_read(&file.metadata().map_err(fails)?) {
        return Err(KeyUnread::Exposed(path.to_owned()));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(256));
    file.take(LENGTH_MAX).read_to_end(&mut octets).map_err(fails)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_in_its_own_place_alone() {
        let seal = Seal::new(Zeroizing::new([7; 32]));
        let sealed = seal.seal(Table::Keys as u8, b"psk;a@b", b"secret");
        assert_eq!(*seal.open(Table::Keys, b"psk;a@b", &sealed).expect("ours"), b"secret");
        for (table, key) in [(Table::Keys, &b"psk;c@b"[..]), (Table::Subscribers, b"psk;a@b")] {
            let found = seal.open(table, key, &sealed).expect_err("moved");
            assert_eq!(found, Fault::spoilt(table, key));
        }
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert!(seal.open(Table::Keys, b"psk;a@b", &altered).is_err(), "octet {place}");
        }
        let other = Seal::new(Zeroizing::new([8; 32]));
        assert!(other.open(Table::Keys, b"psk;a@b", &sealed).is_err(), "another key");
        assert_ne!(sealed, seal.seal(Table::Keys as u8, b"psk;a@b", b"secret"), "a new nonce");
    }

    #[test]
    fn a_key_is_long_enough_and_says_nothing_of_itself() {
        assert!(matches!(KeyKey::new(b"short"), Err(KeyUnread::Short)));
        let text = b" 0123456789abcdef0123456789abcdef\n";
        let [one, same] =
            [&text[..], text.trim_ascii()].map(|text| KeyKey::new(text).expect("long"));
        assert_eq!(one.mark(), same.mark(), "white space at the ends is not the key");
        let other = KeyKey::new(&[b'x'; 32]).expect("long");
        assert_ne!(one.mark(), other.mark());
        assert_eq!(format!("{one:?}"), format!("KeyKey({})", one.shown()));
        let wrapped = one.wrap(&[3; 32], b"slot");
        assert_eq!(same.unwrap(&wrapped, b"slot").map(|data| *data), Some([3; 32]));
        assert!(
            same.unwrap(&wrapped, b"other").is_none() && other.unwrap(&wrapped, b"slot").is_none()
        );
    }
}

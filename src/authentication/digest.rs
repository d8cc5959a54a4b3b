//! Stage 4, Digest: the arithmetic of a response, for every party that makes or checks one.
//!
//! Takes:   algorithm, secrets and the parts of the message that the response covers.
//! Gives:   [`Response`], lower-case hex, compared in constant time; [`Ha1`], zeroed on drop.
//! Keeps:   nothing.
//! Refuses: nothing; the parts were checked before.
//! Sources: RFC 7616 sections 3.4.1 to 3.4.3 and 3.5; RFC 8760 section 2; RFC 3310 section 3.3 (AKA passwords
//!          are octets); FIPS 180-4 for SHA-512/256.

use std::fmt;

use md5::Md5;
use sha2::{Sha256, Sha512_256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

use crate::wire::octets::hex_digits;

/// A hash that RFC 8760 lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256 of FIPS 180-4.
    Sha512_256,
}

impl Hash {
    /// The hash that an `algorithm` parameter names, and whether it is the `-sess` form.
    ///
    /// `None` for a name that is not in the table; compared without case. AKA names are read by `aka`.
    pub fn of(algorithm: &[u8]) -> Option<(Self, bool)> {
        [
            ("MD5", Self::Md5, false),
            ("SHA-256", Self::Sha256, false),
            ("SHA-512-256", Self::Sha512_256, false),
            ("MD5-sess", Self::Md5, true),
            ("SHA-256-sess", Self::Sha256, true),
            ("SHA-512-256-sess", Self::Sha512_256, true),
        ]
        .into_iter()
        .find(|(name, ..)| algorithm.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, hash, sess)| (hash, sess))
    }

    /// The name as it stands in a challenge.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// Lower-case hex of the hash of `parts`, one after the other.
    pub fn hex(self, parts: &[&[u8]]) -> Hex {
        match self {
            Self::Md5 => hex(&hash_of::<Md5>(parts)),
            Self::Sha256 => hex(&hash_of::<Sha256>(parts)),
            Self::Sha512_256 => hex(&hash_of::<Sha512_256>(parts)),
        }
    }
}

fn hash_of<H: sha2::Digest>(parts: &[&[u8]]) -> sha2::digest::Output<H> {
    parts.iter().fold(H::new(), |sum, part| sum.chain_update(part)).finalize()
}

/// Lower-case hex digits of one hash: 32 or 64 octets.
#[derive(Clone, PartialEq, Eq)]
pub struct Hex {
    digits: [u8; 64],
    length: u8,
}

impl std::ops::Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.digits.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Hex {
    /// The octets of the hash.
    fn octets(&self) -> Zeroizing<Vec<u8>> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => digit.wrapping_sub(b'0'),
            _ => digit.wrapping_sub(b'a').wrapping_add(10),
        };
        let pairs = self.as_chunks::<2>().0.iter();
        Zeroizing::new(pairs.map(|[high, low]| value(*high) << 4 | value(*low)).collect())
    }
}

fn hex(octets: &[u8]) -> Hex {
    let mut hex = Hex { digits: [0; 64], length: 0 };
    for (pair, octet) in hex.digits.as_chunks_mut::<2>().0.iter_mut().zip(octets) {
        *pair = hex_digits(*octet);
    }
    hex.length = u8::try_from(octets.len().saturating_mul(2)).unwrap_or(0).min(64);
    hex
}

/// H(username ":" realm ":" password), hex: as good as the password in its realm.
#[derive(Clone)]
pub struct Ha1(Hex);

impl Ha1 {
    /// From the password; for AKA it is RES, as octets.
    pub fn new(hash: Hash, username: &[u8], realm: &[u8], password: &[u8]) -> Self {
        Self(hash.hex(&[username, b":", realm, b":", password]))
    }

    /// From its stored form, hex digits in lower case; `None` if the length does not fit `hash`.
    pub fn from_hex(hash: Hash, digits: &[u8]) -> Option<Self> {
        let length = if hash == Hash::Md5 { 32 } else { 64 };
        let clean = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let mut hex = Hex { digits: [0; 64], length: u8::try_from(digits.len()).ok()? };
        hex.digits.get_mut(..digits.len())?.copy_from_slice(digits);
        (digits.len() == length && clean).then_some(Self(hex))
    }

    /// Its stored form. Whoever has it can be the user.
    pub fn expose(&self) -> &str {
        let digits = self.0.digits.get(..usize::from(self.0.length)).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }

    /// The octets of the hash: 16 of MD5, 32 of the others.
    pub fn octets(&self) -> Zeroizing<Vec<u8>> {
        self.0.octets()
    }
}

impl Drop for Ha1 {
    fn drop(&mut self) {
        self.0.digits.zeroize();
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(..)")
    }
}

/// Quality of protection: what the response covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop<'a> {
    /// No `qop` parameter: the form of RFC 2069.
    None,
    /// Method and digest-uri.
    Auth,
    /// Those and the body, here.
    AuthInt(&'a [u8]),
}

/// Everything that a response is computed from, but for HA1. All values as they stand in the credentials.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is the digest parameter of that name")]
pub struct Inputs<'a> {
    pub hash: Hash,
    /// Whether the algorithm is the `-sess` form.
    pub session: bool,
    /// The method; empty for `rspauth` (RFC 7616 section 3.5).
    pub method: &'a [u8],
    pub uri: &'a [u8],
    pub nonce: &'a [u8],
    pub cnonce: &'a [u8],
    /// Eight hex digits as written.
    pub nc: &'a [u8],
    pub qop: Qop<'a>,
}

/// A response, lower-case hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Response(Hex);

impl Response {
    /// Computes the response.
    ///
    /// Source: RFC 7616 sections 3.4.1 to 3.4.3.
    pub fn compute(ha1: &Ha1, inputs: &Inputs<'_>) -> Self {
        Self::over(ha1, inputs, [b"", b""])
    }

    /// Computes the digits by which a response covers a list of mechanisms, too: its white space is collapsed.
    ///
    /// Source: RFC 3329 section 2.2 (Digest-verify).
    pub fn vouching(ha1: &Ha1, inputs: &Inputs<'_>, list: &[u8]) -> Self {
        Self::over(ha1, inputs, [b":", list])
    }

    fn over(ha1: &Ha1, inputs: &Inputs<'_>, [colon, list]: [&[u8]; 2]) -> Self {
        let Inputs { hash, session, method, uri, nonce, cnonce, nc, qop } = *inputs;
        let session_ha1;
        let ha1: &[u8] = if session {
            session_ha1 = Ha1(hash.hex(&[&ha1.0, b":", nonce, b":", cnonce]));
            &session_ha1.0
        } else {
            &ha1.0
        };
        let ha2 = match qop {
            Qop::AuthInt(body) => {
                hash.hex(&[method, b":", uri, b":", &hash.hex(&[body]), colon, list])
            }
            Qop::None | Qop::Auth => hash.hex(&[method, b":", uri, colon, list]),
        };
        let qop_name: &[u8] = match qop {
            Qop::None => return Self(hash.hex(&[ha1, b":", nonce, b":", &ha2])),
            Qop::Auth => b"auth",
            Qop::AuthInt(_) => b"auth-int",
        };
        Self(hash.hex(&[ha1, b":", nonce, b":", nc, b":", cnonce, b":", qop_name, b":", &ha2]))
    }

    /// The hex digits.
    pub fn as_hex(&self) -> &[u8] {
        &self.0
    }

    /// The octets of the hash: 16 of MD5, 32 of the others.
    pub fn octets(&self) -> Zeroizing<Vec<u8>> {
        self.0.octets()
    }

    /// Whether `claimed` is this response, in constant time; upper-case digits are not.
    pub fn verify(&self, claimed: &[u8]) -> bool {
        (*self.0).ct_eq(claimed).into()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response(..)")
    }
}

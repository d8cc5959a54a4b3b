//! Stage 4, Digest-AKA: how a challenge of the card becomes nonce and password.
//!
//! Takes:   algorithm names, nonces, and RES, CK, IK of a vector.
//! Gives:   [`AkaAlgorithm`], [`AkaNonce`], and the password that stands in HA1, zeroed on drop.
//! Keeps:   nothing.
//! Refuses: a nonce that is not base64 of RAND and AUTN, with or without data of the server behind them.
//! Sources: RFC 3310 sections 3.1 to 3.4; RFC 4169 sections 2.1 and 2.2; RFC 8760 section 2 for the hashes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha2::{Sha256, Sha512_256};
use zeroize::Zeroizing;

use super::digest::Hash;
use crate::keys::Rand;
use crate::keys::vector::{Autn, Auts, SessionKey};

/// Longest nonce that is looked at, in octets.
pub const NONCE_MAX: usize = 512;

/// How RES becomes the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AkaVersion {
    /// RES itself, as octets.
    V1,
    /// A keyed hash of RES, IK and CK.
    V2,
}

/// An AKA algorithm as an `algorithm` parameter names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AkaAlgorithm {
    /// The password's making.
    pub version: AkaVersion,
    /// The digest's hash.
    pub hash: Hash,
    /// Whether it is the `-sess` form.
    pub session: bool,
}

/// What an AKA nonce carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AkaNonce {
    /// The challenge.
    pub rand: Rand,
    /// The network's proof.
    pub autn: Autn,
    /// What the server put behind them.
    pub data: Vec<u8>,
}

const TABLE: [(&str, AkaAlgorithm); 12] = {
    use AkaVersion::{V1, V2};
    use Hash::{Md5, Sha256, Sha512_256};
    const fn of(version: AkaVersion, hash: Hash, session: bool) -> AkaAlgorithm {
        AkaAlgorithm { version, hash, session }
    }
    [
        ("AKAv1-MD5", of(V1, Md5, false)),
        ("AKAv1-SHA-256", of(V1, Sha256, false)),
        ("AKAv1-SHA-512-256", of(V1, Sha512_256, false)),
        ("AKAv1-MD5-sess", of(V1, Md5, true)),
        ("AKAv1-SHA-256-sess", of(V1, Sha256, true)),
        ("AKAv1-SHA-512-256-sess", of(V1, Sha512_256, true)),
        ("AKAv2-MD5", of(V2, Md5, false)),
        ("AKAv2-SHA-256", of(V2, Sha256, false)),
        ("AKAv2-SHA-512-256", of(V2, Sha512_256, false)),
        ("AKAv2-MD5-sess", of(V2, Md5, true)),
        ("AKAv2-SHA-256-sess", of(V2, Sha256, true)),
        ("AKAv2-SHA-512-256-sess", of(V2, Sha512_256, true)),
    ]
};

impl AkaAlgorithm {
    /// The one that every BSF and every UE knows.
    pub const V1_MD5: Self = Self { version: AkaVersion::V1, hash: Hash::Md5, session: false };

    /// The algorithm of that name, compared without case; `None` for one that is not AKA or not known.
    pub fn of(name: &[u8]) -> Option<Self> {
        TABLE
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            .map(|(_, algorithm)| *algorithm)
    }

    /// The name as it stands in a challenge.
    pub fn as_str(self) -> &'static str {
        TABLE.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// The password behind the second colon of A1.
    ///
    /// AKAv1: RES, raw. AKAv2: base64 of HMAC with RES || IK || CK as the key. `None` only if HMAC does not take
    /// a key of that length, which no RES has.
    ///
    /// Source: RFC 3310 section 3.3; RFC 4169 section 2.1.
    pub fn password(
        self,
        res: &[u8],
        ck: &SessionKey,
        ik: &SessionKey,
    ) -> Option<Zeroizing<Vec<u8>>> {
        match self.version {
            AkaVersion::V1 => Some(Zeroizing::new(res.to_vec())),
            AkaVersion::V2 => {
                let key = Zeroizing::new([res, ik.expose(), ck.expose()].concat());
                let sum = prf(self.hash, &key, b"http-digest-akav2-password")?;
                Some(Zeroizing::new(BASE64.encode(&*sum).into_bytes()))
            }
        }
    }

    /// CK', which AKAv2 leaves to other uses in place of CK. `None` as for [`Self::password`].
    ///
    /// Source: RFC 4169 section 2.2.
    pub fn masked_ck(self, ck: &SessionKey) -> Option<Zeroizing<Vec<u8>>> {
        prf(self.hash, ck.expose(), b"http-digest-akav2-cipherkey")
    }

    /// IK', likewise.
    ///
    /// Source: RFC 4169 section 2.2.
    pub fn masked_ik(self, ik: &SessionKey) -> Option<Zeroizing<Vec<u8>>> {
        prf(self.hash, ik.expose(), b"http-digest-akav2-integritykey")
    }
}

impl fmt::Display for AkaAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AkaNonce {
    /// A nonce without data of the server.
    pub fn new(rand: Rand, autn: Autn) -> Self {
        Self { rand, autn, data: Vec::new() }
    }

    /// Opens a nonce; `None` if it is not one.
    ///
    /// Source: RFC 3310 section 3.2.
    pub fn parse(nonce: &[u8]) -> Option<Self> {
        if nonce.len() > NONCE_MAX {
            return None;
        }
        let octets = BASE64.decode(nonce).ok()?;
        let (rand, rest) = octets.split_first_chunk::<16>()?;
        let (autn, data) = rest.split_first_chunk::<16>()?;
        Some(Self { rand: Rand(*rand), autn: Autn(*autn), data: data.to_vec() })
    }

    /// The nonce as it stands in a challenge.
    pub fn print(&self) -> String {
        BASE64.encode([&self.rand.0[..], &self.autn.0, &self.data].concat())
    }
}

/// The `auts` parameter as octets; `None` if it is not base64 of 14 of them.
///
/// Source: RFC 3310 section 3.4.
pub fn parse_auts(auts: &[u8]) -> Option<Auts> {
    BASE64.decode(auts).ok()?.try_into().ok().map(Auts)
}

/// The `auts` parameter.
pub fn print_auts(auts: &Auts) -> String {
    BASE64.encode(auts.0)
}

fn prf(hash: Hash, key: &[u8], label: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    macro_rules! hmac {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key).ok()?;
            mac.update(label);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    Some(Zeroizing::new(match hash {
        Hash::Md5 => hmac!(Md5),
        Hash::Sha256 => hmac!(Sha256),
        Hash::Sha512_256 => hmac!(Sha512_256),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_bijection() {
        for (name, algorithm) in TABLE {
            assert_eq!(AkaAlgorithm::of(name.to_ascii_lowercase().as_bytes()), Some(algorithm));
            assert_eq!(algorithm.as_str(), name);
        }
        for other in ["MD5", "AKAv3-MD5", "AKAv1", "AKAv1-SHA-512", ""] {
            assert_eq!(AkaAlgorithm::of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn nonces() {
        let mut nonce = AkaNonce::new(Rand([1; 16]), Autn([2; 16]));
        assert_eq!(AkaNonce::parse(nonce.print().as_bytes()), Some(nonce.clone()));
        nonce.data = b"more".to_vec();
        assert_eq!(AkaNonce::parse(nonce.print().as_bytes()), Some(nonce));
        let short = BASE64.encode([0; 31]);
        let long = BASE64.encode([0; NONCE_MAX]);
        for bad in ["", "not base64!", &short, &long] {
            assert_eq!(AkaNonce::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_auts(b"uoU/PBI8z0TpNZbjVcY=").map(|auts| auts.0[0]), Some(0xba));
        for bad in ["", "uoU/PBI8z0TpNZbjVcYA", "uoU/PBI8z0TpNZbjVcY"] {
            assert_eq!(parse_auts(bad.as_bytes()), None, "{bad}");
        }
    }
}

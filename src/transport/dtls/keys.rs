//! Stage 1, DTLS keys: what a handshake made, as a key for each direction that opens and seals records.
//!
//! Takes:   the master secret and both randoms of a handshake, and its suite; then records.
//! Gives:   a [`Half`] for each end: what that end wrote is opened with it, and what it writes is sealed.
//! Keeps:   the key, which the library overwrites when it lets it go, and the constant part of its nonces.
//! Refuses: suites other than those of [`Aead::of`]; records that another key wrote, or that were altered.
//! Sources: RFC 5246 sections 5, 6.2.3.3 and 6.3; RFC 5288 section 3; RFC 5289 section 3.2; RFC 5487 section 2;
//!          RFC 7905 section 2; RFC 6347 section 4.1.2.1.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use super::record::{RECORD_HEAD, Record};

/// Octets of a tag.
const TAG: usize = 16;

/// How records are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aead {
    /// AES-128-GCM: a nonce of 4 octets from the keys and 8 from the record.
    Gcm,
    /// AES-256-GCM, the same with a longer key, derived with SHA-384.
    Gcm256,
    /// ChaCha20-Poly1305: a nonce of 12 octets from the keys, with the record's number.
    ChaCha,
}

impl Aead {
    /// That of a suite.
    pub(super) fn of(suite: u16) -> Option<Self> {
        match suite {
            0x00A8 | 0x00AA | 0xC02B | 0xC02F => Some(Self::Gcm),
            0xC02C | 0xC030 => Some(Self::Gcm256),
            0xCCA8 | 0xCCA9 | 0xCCAC => Some(Self::ChaCha),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Gcm => &AES_128_GCM,
            Self::Gcm256 => &AES_256_GCM,
            Self::ChaCha => &CHACHA20_POLY1305,
        }
    }

    /// Octets of the nonce that come from the keys.
    fn fixed(self) -> usize {
        match self {
            Self::Gcm | Self::Gcm256 => 4,
            Self::ChaCha => NONCE_LEN,
        }
    }

    /// Octets of the nonce that stand in the record.
    fn explicit(self) -> usize {
        NONCE_LEN.saturating_sub(self.fixed())
    }

    /// Octets that it adds to what a record holds.
    pub(super) fn adds(self) -> usize {
        self.explicit().saturating_add(TAG)
    }

    /// Octets in the body of a record with a Finished: its head and 12 octets.
    pub(super) fn finished(self) -> usize {
        self.adds().saturating_add(12 + 12)
    }
}

/// What a handshake made.
pub(super) struct Secrets<'a> {
    pub(super) master: &'a [u8],
    pub(super) client_random: &'a [u8],
    pub(super) server_random: &'a [u8],
}

/// One direction of a session.
pub(super) struct Half {
    aead: Aead,
    key: LessSafeKey,
    /// As many octets as [`Aead::fixed`] says, then zeros.
    fixed: Zeroizing<[u8; NONCE_LEN]>,
}

impl Half {
    /// What the client writes with, and what the server writes with.
    ///
    /// Source: RFC 5246 section 6.3, with no MAC keys.
    pub(super) fn both(aead: Aead, secrets: &Secrets<'_>) -> Option<(Self, Self)> {
        let (key, fixed) = (aead.algorithm().key_len(), aead.fixed());
        let length = key.checked_add(fixed)?.checked_mul(2)?;
        let seed = [b"key expansion", secrets.server_random, secrets.client_random].concat();
        let block = match aead {
            Aead::Gcm | Aead::ChaCha => {
                expand(&keyed::<Hmac<Sha256>>(secrets.master), &seed, length)
            }
            Aead::Gcm256 => expand(&keyed::<Hmac<Sha384>>(secrets.master), &seed, length),
        };
        let (keys, nonces) = block.split_at_checked(key.checked_mul(2)?)?;
        let ((client, server), (client_fixed, server_fixed)) =
            (keys.split_at_checked(key)?, nonces.split_at_checked(fixed)?);
        Some((Self::new(aead, client, client_fixed)?, Self::new(aead, server, server_fixed)?))
    }

    fn new(aead: Aead, key: &[u8], fixed: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(aead.algorithm(), key).ok()?);
        let mut whole = Zeroizing::new([0; NONCE_LEN]);
        whole.iter_mut().zip(fixed).for_each(|(to, from)| *to = *from);
        Some(Self { aead, key, fixed: whole })
    }

    /// Whether this end wrote `record`.
    pub(super) fn opens(&self, record: &Record<'_>) -> bool {
        self.open(record).is_some()
    }

    /// What this end wrote into `record`.
    pub(super) fn open(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        let [kind, major, minor, number @ .., _, _] =
            *record.octets.first_chunk::<RECORD_HEAD>()?;
        let (explicit, sealed) = record.body.split_at_checked(self.aead.explicit())?;
        let about = about([kind, major, minor], number, sealed.len().checked_sub(TAG)?);
        let nonce = self.nonce(number, explicit);
        let mut room = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(about), &mut room).ok()?.len();
        room.truncate(length);
        Some(room)
    }

    /// A record of epoch 1 with that number. What stands in it of the nonce is `explicit`, where anything does; neither
    /// may be used twice.
    pub(super) fn seal(
        &self,
        kind: u8,
        sequence: u64,
        explicit: u64,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let [_, _, number @ ..] = sequence.to_be_bytes();
        let [n5, n4, n3, n2, n1, n0] = number;
        let number = [0, 1, n5, n4, n3, n2, n1, n0];
        let explicit = explicit.to_be_bytes();
        let explicit = explicit.get(..self.aead.explicit())?;
        let length = message.len().checked_add(self.aead.adds())?;
        let [l1, l0] = u16::try_from(length).ok()?.to_be_bytes();
        let mut octets = Vec::with_capacity(RECORD_HEAD.checked_add(length)?);
        octets.extend_from_slice(&[kind, 254, 253]);
        octets.extend_from_slice(&number);
        octets.extend_from_slice(&[l1, l0]);
        octets.extend_from_slice(explicit);
        octets.extend_from_slice(message);
        let about = about([kind, 254, 253], number, message.len());
        let nonce = self.nonce(number, explicit);
        let begin = octets.len().checked_sub(message.len())?;
        let sealed = octets.get_mut(begin..)?;
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(about), sealed).ok()?;
        octets.extend_from_slice(tag.as_ref());
        Some(octets)
    }

    /// What stands in `record` of its nonce.
    pub(super) fn explicit(&self, record: &Record<'_>) -> u64 {
        let explicit = record.body.first_chunk::<8>().filter(|_| self.aead.explicit() == 8);
        explicit.map_or(0, |octets| u64::from_be_bytes(*octets))
    }

    /// Source: RFC 5288 section 3; RFC 7905 section 2.
    fn nonce(&self, number: [u8; 8], explicit: &[u8]) -> Nonce {
        let mut nonce = *self.fixed;
        let [_, _, _, _, rest @ ..] = &mut nonce;
        match self.aead {
            Aead::Gcm | Aead::Gcm256 => {
                rest.iter_mut().zip(explicit).for_each(|(to, from)| *to = *from);
            }
            Aead::ChaCha => rest.iter_mut().zip(number).for_each(|(to, from)| *to ^= from),
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Half(..)")
    }
}

/// What a tag vouches for beside what is encrypted.
///
/// Source: RFC 5246 section 6.2.3.3; RFC 6347 section 4.1.2.1: epoch and number are its sequence number.
fn about(kind: [u8; 3], number: [u8; 8], length: usize) -> [u8; RECORD_HEAD] {
    let [kind, major, minor] = kind;
    let [e1, e0, n5, n4, n3, n2, n1, n0] = number;
    let [.., l1, l0] = length.to_be_bytes();
    [e1, e0, n5, n4, n3, n2, n1, n0, kind, major, minor, l1, l0]
}

/// `P_hash` of RFC 5246 section 5, `length` octets of it: `mac` has the secret.
fn expand<M: Mac + Clone>(mac: &M, seed: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let of = |parts: &[&[u8]]| {
        let mut mac = mac.clone();
        parts.iter().for_each(|part| mac.update(part));
        Zeroizing::new(mac.finalize().into_bytes().to_vec())
    };
    let mut made = Zeroizing::new(Vec::with_capacity(length.saturating_add(64)));
    let mut a = of(&[seed]);
    loop {
        made.extend_from_slice(&of(&[&a, seed]));
        if made.len() >= length {
            made.truncate(length);
            return made;
        }
        a = of(&[&a]);
    }
}

fn keyed<M: KeyInit>(secret: &[u8]) -> M {
    let Ok(mac) = M::new_from_slice(secret) else { unreachable!("HMAC takes keys of any length") };
    mac
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::transport::dtls::record::records;

    pub(in crate::transport::dtls) const SECRETS: Secrets<'_> =
        Secrets { master: &[1; 48], client_random: &[2; 32], server_random: &[3; 32] };
    const ALL: [Aead; 3] = [Aead::Gcm, Aead::Gcm256, Aead::ChaCha];

    fn hex(text: &str) -> Vec<u8> {
        let octets = text.as_bytes().chunks(2);
        octets
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The vectors of P_SHA256 and P_SHA384 that were posted to the TLS working group, label included in the seed.
    #[test]
    fn the_prf_makes_what_others_make() {
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = [&b"test label"[..], &hex("a0ba9f936cda311827a6f796ffd5198c")].concat();
        let expected = hex("e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a");
        let mac = keyed::<Hmac<Sha256>>(&secret);
        assert_eq!(expand(&mac, &seed, 32).as_slice(), expected);
        assert_eq!(expand(&mac, &seed, 100)[..32], expected);
        let secret = hex("b80b733d6ceefcdc71566ea48e5567df");
        let seed = [&b"test label"[..], &hex("cd665cf6a8447dd6ff8b27555edb7465")].concat();
        let expected = hex("7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cd");
        assert_eq!(expand(&keyed::<Hmac<Sha384>>(&secret), &seed, 148)[..32], expected);
    }

    #[test]
    fn a_record_opens_for_the_end_that_wrote_it_and_unaltered() {
        for aead in ALL {
            let (client, server) = Half::both(aead, &SECRETS).unwrap();
            let sealed = client.seal(23, 9, 7, b"a message").unwrap();
            let first = |octets: &[u8]| {
                let record = records(octets).next().unwrap();
                (client.open(&record), server.open(&record), client.explicit(&record))
            };
            let explicit = if aead == Aead::ChaCha { 0 } else { 7 };
            assert_eq!(first(&sealed), (Some(b"a message".to_vec()), None, explicit), "{aead:?}");
            assert_eq!(sealed.len(), RECORD_HEAD + aead.adds() + 9, "{aead:?}");
            for at in [0, 4, 10, RECORD_HEAD, sealed.len() - 1] {
                let mut altered = sealed.clone();
                altered[at] ^= 1;
                assert_eq!(first(&altered).0, None, "{aead:?}: octet {at}");
            }
            let short = crate::transport::dtls::record::head(23, [254, 253], 1, 3);
            assert_eq!(first(&[&short[..], b"abc"].concat()).0, None, "{aead:?}: too short");
            assert_eq!(format!("{client:?}"), "Half(..)");
        }
    }

    /// No two records have a nonce in common: the number tells them apart, or what stands in them.
    #[test]
    fn nonces_differ_with_the_number() {
        for aead in ALL {
            let (client, _) = Half::both(aead, &SECRETS).unwrap();
            let [one, two] = [1, 2].map(|number| {
                let nonce = client.nonce([0, 1, 0, 0, 0, 0, 0, number], &[number; 8]);
                *nonce.as_ref()
            });
            assert_ne!(one, two, "{aead:?}");
        }
    }
}

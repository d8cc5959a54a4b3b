//! Stage 1, DTLS guard: which records the peer itself has written, found out beside an engine that does not care.
//!
//! Takes:   the master secret and both randoms of a handshake, and its suite.
//! Gives:   [`Guard::opens`]: whether a record was written with the peer's key.
//! Keeps:   the peer's key of that session.
//! Refuses: suites other than its two.
//! Sources: RFC 5246 sections 5 and 6.3; RFC 5288 section 3; RFC 7905 section 2; RFC 6347 section 4.1.2.1.

use aws_lc_rs::aead::{
    AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::record::{RECORD_HEAD, Record};

/// How records are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aead {
    /// AES-128-GCM: a nonce of 4 octets from the keys and 8 from the record.
    Gcm,
    /// ChaCha20-Poly1305: a nonce of 12 octets from the keys, with the record's number.
    ChaCha,
}

impl Aead {
    /// That of a suite.
    pub(super) fn of(suite: u16) -> Option<Self> {
        match suite {
            0x00A8 | 0xC02B | 0xC02F => Some(Self::Gcm),
            0xCCA8 | 0xCCA9 => Some(Self::ChaCha),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Gcm => &AES_128_GCM,
            Self::ChaCha => &CHACHA20_POLY1305,
        }
    }

    fn fixed(self) -> usize {
        match self {
            Self::Gcm => 4,
            Self::ChaCha => NONCE_LEN,
        }
    }

    /// Octets of the nonce that stand in the record.
    fn explicit(self) -> usize {
        NONCE_LEN.saturating_sub(self.fixed())
    }

    /// Octets in the body of a record with a Finished: its head, 12 octets, nonce and tag.
    pub(super) fn finished(self) -> usize {
        self.explicit().saturating_add(12 + 12 + 16)
    }
}

/// What a handshake made.
pub(super) struct Secrets<'a> {
    pub(super) master: &'a [u8],
    pub(super) client_random: &'a [u8],
    pub(super) server_random: &'a [u8],
}

/// The peer's key.
pub(super) struct Guard {
    aead: Aead,
    key: LessSafeKey,
    fixed: Zeroizing<Vec<u8>>,
}

impl Guard {
    /// The key that the client writes with, or the server.
    pub(super) fn new(aead: Aead, secrets: &Secrets<'_>, peer_is_client: bool) -> Option<Self> {
        let (key, fixed) = (aead.algorithm().key_len(), aead.fixed());
        let length = key.checked_add(fixed)?.checked_mul(2)?;
        let seed = [b"key expansion", secrets.server_random, secrets.client_random].concat();
        let block = p_sha256(secrets.master, &seed, length);
        let (keys, nonces) = block.split_at_checked(key.checked_mul(2)?)?;
        let ((client, server), (client_fixed, server_fixed)) =
            (keys.split_at_checked(key)?, nonces.split_at_checked(fixed)?);
        let (key, fixed) =
            if peer_is_client { (client, client_fixed) } else { (server, server_fixed) };
        let key = LessSafeKey::new(UnboundKey::new(aead.algorithm(), key).ok()?);
        Some(Self { aead, key, fixed: Zeroizing::new(fixed.to_vec()) })
    }

    /// Whether the peer wrote `record`.
    pub(super) fn opens(&self, record: &Record<'_>) -> bool {
        self.open(record).is_some()
    }

    fn open(&self, record: &Record<'_>) -> Option<()> {
        let [kind, major, minor, number @ .., _, _] = record.octets.first_chunk::<RECORD_HEAD>()?;
        let (explicit, sealed) = record.body.split_at_checked(self.aead.explicit())?;
        let length = sealed.len().checked_sub(self.aead.algorithm().tag_len())?;
        let [.., l1, l0] = length.to_be_bytes();
        let mut about = [0; RECORD_HEAD];
        let parts = number.iter().chain([kind, major, minor, &l1, &l0]);
        about.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        let mut nonce = [0; NONCE_LEN];
        match self.aead {
            Aead::Gcm => {
                let parts = self.fixed.iter().chain(explicit);
                nonce.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
            }
            Aead::ChaCha => {
                let padded = [0; 4].iter().chain(number);
                let parts = self.fixed.iter().zip(padded);
                nonce.iter_mut().zip(parts).for_each(|(to, (a, b))| *to = a ^ b);
            }
        }
        let mut room = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.open_in_place(nonce, Aad::from(about), room.as_mut_slice()).ok().map(|_| ())
    }
}

/// `P_SHA256` of RFC 5246 section 5, `length` octets of it.
fn p_sha256(secret: &[u8], seed: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mac = |parts: &[&[u8]]| -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
            unreachable!("HMAC takes keys of any length")
        };
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut made = Zeroizing::new(Vec::with_capacity(length.saturating_add(32)));
    let mut a = mac(&[seed]);
    while made.len() < length {
        made.extend_from_slice(&mac(&[&a, seed]));
        a = mac(&[&a]);
    }
    made.truncate(length);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::dtls::record::records;

    fn hex(text: &str) -> Vec<u8> {
        let octets = text.as_bytes().chunks(2);
        octets
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The P_SHA256 test vector that was posted to the TLS working group, label included in the seed.
    #[test]
    fn the_prf_makes_what_others_make() {
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = [&b"test label"[..], &hex("a0ba9f936cda311827a6f796ffd5198c")].concat();
        let expected = hex("e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a");
        assert_eq!(p_sha256(&secret, &seed, 32).as_slice(), expected);
        assert_eq!(p_sha256(&secret, &seed, 100)[..32], expected);
    }

    #[test]
    fn a_record_opens_for_the_end_that_wrote_it_and_unaltered() {
        let secrets =
            Secrets { master: &[1; 48], client_random: &[2; 32], server_random: &[3; 32] };
        for aead in [Aead::Gcm, Aead::ChaCha] {
            let guard = |peer_is_client| Guard::new(aead, &secrets, peer_is_client).unwrap();
            let (of_client, of_server) = (guard(true), guard(false));
            let sealed = seal(&of_client, aead, b"a message");
            let good = |guard: &Guard, octets: &[u8]| guard.opens(&records(octets).next().unwrap());
            assert!(good(&of_client, &sealed), "{aead:?}");
            assert!(!good(&of_server, &sealed), "{aead:?}: the other end");
            for at in [0, 4, 10, RECORD_HEAD, sealed.len() - 1] {
                let mut altered = sealed.clone();
                altered[at] ^= 1;
                assert!(!good(&of_client, &altered), "{aead:?}: octet {at}");
            }
            let short = crate::transport::dtls::record::head(23, [254, 253], 1, 3);
            assert!(!good(&of_client, &[&short[..], b"abc"].concat()), "{aead:?}: too short");
        }
    }

    /// A record as that end would write it: the first of epoch 1.
    fn seal(guard: &Guard, aead: Aead, message: &[u8]) -> Vec<u8> {
        let number = [0, 1, 0, 0, 0, 0, 0, 9];
        let mut nonce = [0; NONCE_LEN];
        match aead {
            Aead::Gcm => {
                nonce[..4].copy_from_slice(&guard.fixed);
                nonce[4..].copy_from_slice(&[7; 8]);
            }
            Aead::ChaCha => {
                nonce.copy_from_slice(&guard.fixed);
                nonce[4..].iter_mut().zip(number).for_each(|(to, from)| *to ^= from);
            }
        }
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        let about = [&number[..], &[23, 254, 253], &length].concat();
        let mut sealed = message.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        guard.key.seal_in_place_append_tag(nonce, Aad::from(about), &mut sealed).unwrap();
        let explicit = [7; 8];
        let body = [&explicit[..aead.explicit()], &sealed].concat();
        let body_length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[23, 254, 253][..], &number, &body_length, &body].concat()
    }
}

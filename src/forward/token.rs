//! Stage 7, tokens: what a UE's Path carries so that requests find their way back to its flow.
//!
//! Takes:   the number of a binding, and random octets to seal it with.
//! Gives:   a token for the user part of a URI, and the number back.
//! Keeps:   one secret; each UTC day has a key of its own, derived from it.
//! Refuses: a token that was altered, that another deployment made, or that is older than yesterday's key.
//! Sources: RFC 5626 section 5.2 (found from it, and cannot be altered); RFC 3261 section 16.6 item 4; RFC 8452.
//!
//! Octets: day 2, nonce 12, sealed (version 1, number 8, caller 8), tag 16; base64url without padding.

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::instant::WallTime;
use crate::refusal::Refusal;

const VERSION: u8 = 1;
const DAY: u64 = 86_400;
const LABEL: &[u8] = b"sipward flow token";

/// Octets of randomness that one seal needs.
pub const NONCE_OCTETS: usize = 12;

/// Seals and opens flow tokens.
pub struct Tokens {
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The number of the binding; numbers are never used twice.
    pub binding: u64,
    /// A keyed hash of the caller's name, to be compared with the binding's.
    pub caller: u64,
}

impl Tokens {
    /// Tokens under `secret`, which all nodes of a deployment share.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(secret) }
    }

    /// The same tokens.
    pub(super) fn twin(&self) -> Self {
        Self::new(*self.secret)
    }

    /// Another secret, of use as long as this one.
    pub(super) fn other_secret(&self) -> [u8; 32] {
        Sha256::new().chain_update(b"sipward topology").chain_update(*self.secret).finalize().into()
    }

    /// Seals `plain`; `nonce` must be random.
    pub fn seal(&self, plain: Plain, nonce: [u8; NONCE_OCTETS], wall: WallTime) -> Option<String> {
        let day = day_of(wall);
        let mut text = [0_u8; 17];
        let parts = [&[VERSION][..], &plain.binding.to_be_bytes(), &plain.caller.to_be_bytes()];
        for (slot, octet) in text.iter_mut().zip(parts.into_iter().flatten()) {
            *slot = *octet;
        }
        let payload = Payload { msg: &text, aad: LABEL };
        let sealed = self.cipher(day).encrypt(&Nonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&day.to_be_bytes()[..], &nonce, &sealed].concat()))
    }

    /// Opens a token; `Ok(None)` if its key is too old to be known.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenForged`] if a known key does not open it.
    pub fn open(&self, token: &[u8], wall: WallTime) -> Result<Option<Plain>, Refusal> {
        let octets = URL_SAFE_NO_PAD.decode(token).map_err(|_| Refusal::TokenForged)?;
        let forged = || Refusal::TokenForged;
        let (day, rest) = octets.split_first_chunk::<2>().ok_or_else(forged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_OCTETS>().ok_or_else(forged)?;
        let (day, today) = (u16::from_be_bytes(*day), day_of(wall));
        if day != today && day != today.wrapping_sub(1) {
            return Ok(None);
        }
        let payload = Payload { msg: sealed, aad: LABEL };
        let text = self.cipher(day).decrypt(&Nonce::from(*nonce), payload).map_err(|_| forged())?;
        let (version, rest) = text.split_first().ok_or_else(forged)?;
        let (binding, caller) = rest.split_first_chunk::<8>().ok_or_else(forged)?;
        let caller: [u8; 8] = caller.try_into().map_err(|_| forged())?;
        if *version != VERSION {
            return Ok(None);
        }
        let (binding, caller) = (u64::from_be_bytes(*binding), u64::from_be_bytes(caller));
        Ok(Some(Plain { binding, caller }))
    }

    fn cipher(&self, day: u16) -> Aes256GcmSiv {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&*self.secret).expect("HMAC takes keys of any length");
        mac.update(LABEL);
        mac.update(&day.to_be_bytes());
        Aes256GcmSiv::new(&mac.finalize().into_bytes())
    }
}

fn day_of(wall: WallTime) -> u16 {
    u16::try_from(wall.as_unix() / DAY % (1 << 16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: WallTime = WallTime::from_unix(1_790_000_000);

    #[test]
    fn opens_today_and_tomorrow_and_not_after() {
        let tokens = Tokens::new([3; 32]);
        let plain = Plain { binding: 77, caller: 5 };
        let token = tokens.seal(plain, [9; NONCE_OCTETS], NOON).expect("sealed");
        let later = |days: u64| WallTime::from_unix(NOON.as_unix() + days * DAY);
        assert_eq!(tokens.open(token.as_bytes(), NOON), Ok(Some(plain)));
        assert_eq!(tokens.open(token.as_bytes(), later(1)), Ok(Some(plain)));
        assert_eq!(tokens.open(token.as_bytes(), later(2)), Ok(None));
    }

    #[test]
    fn whatever_is_altered_does_not_open() {
        let tokens = Tokens::new([3; 32]);
        let plain = Plain { binding: 77, caller: 5 };
        let token = tokens.seal(plain, [9; NONCE_OCTETS], NOON).expect("sealed");
        for place in 3..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            assert_ne!(tokens.open(&altered, NOON), Ok(Some(plain)), "altered at {place}");
        }
        for cut in 0..token.len() {
            assert_ne!(tokens.open(&token.as_bytes()[..cut], NOON), Ok(Some(plain)));
        }
        assert_eq!(Tokens::new([4; 32]).open(token.as_bytes(), NOON), Err(Refusal::TokenForged));
    }
}

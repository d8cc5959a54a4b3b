//! Keys, push, profile P1: the octets of GPI-P1 and GPL-P1, spoken between components of this crate alone.
//!
//! GPI-P1, in octets:
//!
//! ```text
//! 0          high nibble 1 (version); bit 0 the card is of GBA_U; bits 1 to 3 zero
//! 1          application of the card: 0 USIM, 1 ISIM
//! 2 to 17    RAND
//! 18 to 33   AUTN, or AUTN*
//! 34 and 35  N, the length of what follows
//! N octets   AES-128-CTR, counter block from zero, of: length 1, P-TID, length 1, NAF_Id, 8 octets of Unix seconds
//! 16 octets  the first half of HMAC-SHA-256 over all before
//! ```
//!
//! GPL-P1: version 1, direction (0 down, 1 up), length of the name, name, number in 4 octets; then AES-128-GCM, with its
//! tag of 16 octets. The nonce is the number behind 8 zero octets, the head is associated data.
//!
//! Takes:   keys of TS 33.220 annex B.3; octets.
//! Gives:   [`P1`].
//! Keeps:   nothing. Bounds: a GPI has at most [`GPI_MAX`] octets, names at most 255.
//! Refuses: bits and octets that have no meaning, lengths that do not add up, a MAC or tag that is not right.
//! Sources: none but this file. NIST SP 800-38A section 6.5 (CTR), SP 800-38D (GCM), RFC 5869 (HKDF). The counter may begin at
//!          zero since each RAND has keys of its own; the nonce of GCM is never the same twice since numbers are not.

use aes::Aes128;
use aes::cipher::{Array, KeyIvInit as _, StreamCipher as _};
use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes128Gcm, KeyInit as _};
use ctr::Ctr128BE;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{CardApplication, Direction, Frame, Gpi, GpiBody, GpiHead, LayerKey, Profile, Unfit};
use crate::identity::Ptid;
use crate::instant::WallTime;
use crate::keys::derivation::{DeriveError, hkdf};
use crate::keys::vector::Autn;
use crate::keys::{KsNaf, NafId, Rand, UaId};

/// The profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct P1;

/// Longest GPI, in octets.
pub const GPI_MAX: usize = HEAD + PLAIN_MAX + MAC;

const VERSION: u8 = 1;
/// Octets of a GPI before what is encrypted.
const HEAD: usize = 36;
const MAC: usize = 16;
const TAG: usize = 16;
/// Two names of 255 octets with their lengths, and the time.
const PLAIN_MAX: usize = 2 * 256 + 8;

impl Profile for P1 {
    fn name(&self) -> &'static str {
        "p1"
    }

    fn protection(&self, bsf: &str) -> NafId {
        NafId::new(bsf, UaId::PUSH_INFO_P1)
    }

    fn seal_gpi(&self, gpi: &Gpi, key: &KsNaf) -> Result<Vec<u8>, Unfit> {
        let Gpi { head, body } = gpi;
        let mut plain = print_body(body)?;
        let length = u16::try_from(plain.len()).map_err(|_| Unfit::TooLong)?;
        let application = match head.application {
            CardApplication::Usim => 0,
            CardApplication::Isim => 1,
        };
        let mut octets = vec![(VERSION << 4) | u8::from(head.on_card), application];
        octets.extend_from_slice(&head.rand.0);
        octets.extend_from_slice(&head.autn.0);
        octets.extend_from_slice(&length.to_be_bytes());
        let keys = GpiKeys::derive(key, &head.rand).map_err(|_| Unfit::TooLong)?;
        keys.encrypt(&mut plain);
        octets.extend_from_slice(&plain);
        let mac = keys.mac(&octets).map_err(|_| Unfit::TooLong)?;
        octets.extend_from_slice(&mac);
        Ok(octets)
    }

    fn gpi_head(&self, octets: &[u8]) -> Result<GpiHead, Unfit> {
        Parts::split(octets).map(|parts| parts.head)
    }

    fn open_gpi(&self, octets: &[u8], key: &KsNaf) -> Result<GpiBody, Unfit> {
        let parts = Parts::split(octets)?;
        let keys = GpiKeys::derive(key, &parts.head.rand).map_err(|_| Unfit::MacWrong)?;
        let mac = keys.mac(parts.covered).map_err(|_| Unfit::MacWrong)?;
        if !bool::from(mac.ct_eq(parts.mac)) {
            return Err(Unfit::MacWrong);
        }
        let mut plain = Zeroizing::new(parts.sealed.to_vec());
        keys.encrypt(&mut plain);
        read_body(&plain).ok_or(Unfit::Malformed)
    }

    fn layer_key(&self, key: &KsNaf, direction: Direction) -> Result<LayerKey, DeriveError> {
        let info: &[u8] = match direction {
            Direction::Down => b"gpl-p1 down",
            Direction::Up => b"gpl-p1 up",
        };
        Ok(LayerKey::new(*hkdf(b"", key.expose(), info)?))
    }

    fn wrap(&self, key: &LayerKey, frame: &Frame<'_>, plain: &[u8]) -> Result<Vec<u8>, Unfit> {
        let direction = match frame.direction {
            Direction::Down => 0,
            Direction::Up => 1,
        };
        let length = u8::try_from(frame.id.len()).map_err(|_| Unfit::TooLong)?;
        let mut octets = vec![VERSION, direction, length];
        octets.extend_from_slice(frame.id);
        octets.extend_from_slice(&frame.number.to_be_bytes());
        let payload = Payload { msg: plain, aad: &octets };
        let sealed = gcm(key).encrypt(&nonce(frame.number).into(), payload);
        octets.extend(sealed.map_err(|_| Unfit::TooLong)?);
        Ok(octets)
    }

    fn frame<'o>(&self, octets: &'o [u8]) -> Result<Frame<'o>, Unfit> {
        split_frame(octets).map(|(frame, ..)| frame)
    }

    fn unwrap(&self, key: &LayerKey, octets: &[u8]) -> Result<Vec<u8>, Unfit> {
        let (frame, head, sealed) = split_frame(octets)?;
        let payload = Payload { msg: sealed, aad: head };
        gcm(key).decrypt(&nonce(frame.number).into(), payload).map_err(|_| Unfit::MacWrong)
    }
}

/// The parts of a GPI.
struct Parts<'o> {
    head: GpiHead,
    covered: &'o [u8],
    sealed: &'o [u8],
    mac: &'o [u8],
}

impl<'o> Parts<'o> {
    fn split(octets: &'o [u8]) -> Result<Self, Unfit> {
        if octets.len() > GPI_MAX {
            return Err(Unfit::TooLong);
        }
        let (covered, mac) = octets.split_last_chunk::<MAC>().ok_or(Unfit::Malformed)?;
        let (head, sealed) = covered.split_first_chunk::<HEAD>().ok_or(Unfit::Malformed)?;
        let ([first, application], rest) = head.split_first_chunk().ok_or(Unfit::Malformed)?;
        let (rand, rest) = rest.split_first_chunk().ok_or(Unfit::Malformed)?;
        let (autn, length) = rest.split_first_chunk().ok_or(Unfit::Malformed)?;
        let length = length.first_chunk().map(|length| u16::from_be_bytes(*length));
        if first >> 4 != VERSION || first & 0b1110 != 0 {
            return Err(Unfit::Malformed);
        }
        if length.map(usize::from) != Some(sealed.len()) {
            return Err(Unfit::Malformed);
        }
        let application = match application {
            0 => CardApplication::Usim,
            1 => CardApplication::Isim,
            _ => return Err(Unfit::ApplicationUnknown),
        };
        let on_card = first & 1 == 1;
        let head = GpiHead { on_card, application, rand: Rand(*rand), autn: Autn(*autn) };
        Ok(Self { head, covered, sealed, mac })
    }
}

/// What is encrypted in a GPI, written down.
///
/// # Errors
///
/// [`Unfit::TooLong`]: a name over 255 octets.
pub fn print_body(body: &GpiBody) -> Result<Zeroizing<Vec<u8>>, Unfit> {
    let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_MAX));
    for name in [body.ptid.as_str().as_bytes(), &body.naf.octets()] {
        plain.push(u8::try_from(name.len()).map_err(|_| Unfit::TooLong)?);
        plain.extend_from_slice(name);
    }
    plain.extend_from_slice(&body.expires.as_unix().to_be_bytes());
    Ok(plain)
}

/// The same, read: what a MAC vouched for.
pub fn read_body(plain: &[u8]) -> Option<GpiBody> {
    let (ptid, rest) = named(plain)?;
    let (naf, rest) = named(rest)?;
    let expires: [u8; 8] = rest.try_into().ok()?;
    Some(GpiBody {
        ptid: Ptid::new(std::str::from_utf8(ptid).ok()?)?,
        naf: NafId::from_octets(naf)?,
        expires: WallTime::from_unix(u64::from_be_bytes(expires)),
    })
}

fn named(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// The keys of one GPI.
struct GpiKeys {
    enc: Zeroizing<[u8; 16]>,
    mac: Zeroizing<[u8; 32]>,
}

impl GpiKeys {
    fn derive(key: &KsNaf, rand: &Rand) -> Result<Self, DeriveError> {
        Ok(Self {
            enc: hkdf(&rand.0, key.expose(), b"gpi-p1 enc")?,
            mac: hkdf(&rand.0, key.expose(), b"gpi-p1 mac")?,
        })
    }

    /// Encrypts; the same again decrypts.
    fn encrypt(&self, octets: &mut [u8]) {
        let mut stream = Ctr128BE::<Aes128>::new(&Array::from(*self.enc), &Array::from([0; 16]));
        stream.apply_keystream(octets);
    }

    fn mac(&self, octets: &[u8]) -> Result<[u8; MAC], DeriveError> {
        let hmac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*self.mac);
        let mut hmac = hmac.map_err(|_| DeriveError::KeyUnfit)?;
        hmac.update(octets);
        let whole = hmac.finalize().into_bytes();
        whole.first_chunk().copied().ok_or(DeriveError::KeyUnfit)
    }
}

fn gcm(key: &LayerKey) -> Aes128Gcm {
    Aes128Gcm::new(&Array::from(*key.expose()))
}

fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(end) = nonce.last_chunk_mut() {
        *end = number.to_be_bytes();
    }
    nonce
}

/// The frame, its octets, and what is sealed.
fn split_frame(octets: &[u8]) -> Result<(Frame<'_>, &[u8], &[u8]), Unfit> {
    let ([version, direction, length], rest) =
        octets.split_first_chunk().ok_or(Unfit::Malformed)?;
    let direction = match (version, direction) {
        (&VERSION, 0) => Direction::Down,
        (&VERSION, 1) => Direction::Up,
        _ => return Err(Unfit::Malformed),
    };
    let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Unfit::Malformed)?;
    let (number, sealed) = rest.split_first_chunk().ok_or(Unfit::Malformed)?;
    if sealed.len() < TAG {
        return Err(Unfit::Malformed);
    }
    let head = octets.len().checked_sub(sealed.len()).and_then(|end| octets.get(..end));
    let number = u32::from_be_bytes(*number);
    Ok((Frame { direction, id, number }, head.ok_or(Unfit::Malformed)?, sealed))
}

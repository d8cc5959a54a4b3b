//! Keys, derivation: the one KDF of 3GPP, and the names and keys that GBA makes with it.
//!
//! Takes:   Ks, the challenge of its run, the private identity, and for whom the key is.
//! Gives:   [`KsNaf`], a TMPI, a B-TID and the way back from a B-TID to its challenge.
//! Keeps:   nothing.
//! Refuses: a parameter over 65 535 octets, the most that its length field can state.
//! Sources: TS 33.220 annex B.2 (KDF), B.3 (NAF keys), B.4 (TMPI), B.5 (GBA_Digest), clause 4.5.2 (B-TID); RFC 4648
//!          section 4; RFC 5869.
//!
//! Of GBA_Digest annex B.5 alone was read. Annex B.6, the NAF key, and clause M.6 were not: that its label is
//! "gba-digest", that the nonce stands where RAND does, and in which form, is taken from what others tell.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use super::{GbaType, Ks, KsNaf, NafId, Rand, TlsExport, UaId};
use crate::identity::{Btid, Impi};

/// What follows the `@` of every TMPI.
pub const TMPI_DOMAIN: &str = "tmpi.bsf.3gppnetwork.org";

/// The function code that belongs to TS 33.220.
pub const FC_GBA: u8 = 0x01;

/// Why a key could not be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeriveError {
    /// A parameter is longer than its two-octet length field can state.
    ParamTooLong,
    /// The key has a length that HMAC cannot take; no length is such.
    KeyUnfit,
    /// The key was made with a password: there is no card that would have its other half.
    NoCard,
    /// The octets made no name: a server name with a quote or a control character in it.
    NameUnfit,
}

impl fmt::Display for DeriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ParamTooLong => "a parameter of the key derivation is over 65535 octets",
            Self::KeyUnfit => "the key cannot be used with HMAC",
            Self::NoCard => "the key was made with a password, not with a card",
            Self::NameUnfit => "the server name cannot stand in a B-TID",
        })
    }
}

impl std::error::Error for DeriveError {}

/// The octets that the KDF hashes: FC, then each parameter followed by its length.
///
/// # Errors
///
/// [`DeriveError::ParamTooLong`] if a parameter passes 65 535 octets.
///
/// Source: TS 33.220 annex B.2.1.
pub fn kdf_input(fc: u8, params: &[&[u8]]) -> Result<Vec<u8>, DeriveError> {
    let mut input = vec![fc];
    for param in params {
        let length = u16::try_from(param.len()).map_err(|_| DeriveError::ParamTooLong)?;
        input.extend_from_slice(param);
        input.extend_from_slice(&length.to_be_bytes());
    }
    Ok(input)
}

/// The generic key derivation function: HMAC-SHA-256 of [`kdf_input`] under `key`.
///
/// # Errors
///
/// [`DeriveError::ParamTooLong`] if a parameter passes 65 535 octets.
///
/// Source: TS 33.220 annex B.2.
pub fn kdf(key: &[u8], fc: u8, params: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, DeriveError> {
    let input = Zeroizing::new(kdf_input(fc, params)?);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| DeriveError::KeyUnfit)?;
    mac.update(&input);
    let mut output = mac.finalize().into_bytes();
    let mut derived = Zeroizing::new([0; 32]);
    derived.copy_from_slice(&output);
    output.as_mut_slice().zeroize();
    Ok(derived)
}

/// Derives `Ks_NAF` (GBA_ME), which is also `Ks_ext_NAF` (GBA_U): the 32-octet key of one UE and one NAF.
///
/// `ks` is CK || IK of the bootstrapping run whose challenge was `rand`; `impi` is the private identity, never
/// the TMPI; `naf` is the FQDN the UE dialled and the Ua security protocol. Same inputs, same key.
///
/// # Errors
///
/// [`DeriveError::ParamTooLong`] if `naf` passes 65 535 octets.
///
/// Source: TS 33.220 annex B.3 (FC = 0x01, P0 = "gba-me").
pub fn derive_ks_naf(ks: &Ks, rand: &Rand, impi: &Impi, naf: &NafId) -> Result<KsNaf, DeriveError> {
    naf_key(b"gba-me", ks, &rand.0, impi, &naf.octets())
}

/// Derives `Ks_int_NAF` (GBA_U), the key that stays in the UICC.
///
/// # Errors
///
/// As [`derive_ks_naf`].
///
/// Source: TS 33.220 annex B.3 (FC = 0x01, P0 = "gba-u").
pub fn derive_ks_int_naf(
    ks: &Ks,
    rand: &Rand,
    impi: &Impi,
    naf: &NafId,
) -> Result<KsNaf, DeriveError> {
    naf_key(b"gba-u", ks, &rand.0, impi, &naf.octets())
}

/// Derives `Ks_NAF` of a run by password (GBA_Digest).
///
/// `nonce` is the nonce of the run as it stood between its quotes, and stands where the challenge of a card does.
///
/// # Errors
///
/// [`DeriveError::ParamTooLong`] if `nonce` or `naf` passes 65 535 octets.
///
/// Source: TS 33.220 annex B.6, unread (P0 = "gba-digest", P1 = nonce); see the head of this file.
pub fn derive_ks_digest_naf(
    ks: &Ks,
    nonce: &[u8],
    impi: &Impi,
    naf: &NafId,
) -> Result<KsNaf, DeriveError> {
    naf_key(b"gba-digest", ks, nonce, impi, &naf.octets())
}

/// The key of one NAF, of a run of either kind at our own server: the nonce of a run by password is [`digest_nonce`].
///
/// # Errors
///
/// As [`derive_ks_naf`].
pub fn derive_naf_key(
    kind: GbaType,
    ks: &Ks,
    rand: &Rand,
    impi: &Impi,
    naf: &NafId,
) -> Result<KsNaf, DeriveError> {
    match kind {
        GbaType::Aka => derive_ks_naf(ks, rand, impi, naf),
        GbaType::Digest => derive_ks_digest_naf(ks, digest_nonce(rand).as_bytes(), impi, naf),
    }
}

/// The nonce that our own server gives for a run by password: base64 of 16 octets, so that B-TIDs of both kinds of
/// run have one form.
pub fn digest_nonce(rand: &Rand) -> String {
    BASE64.encode(rand.0)
}

/// The octets of such a nonce; `None` if it is written in any other way than [`digest_nonce`] does.
pub fn digest_nonce_rand(nonce: &[u8]) -> Option<Rand> {
    let rand = Rand(BASE64.decode(nonce).ok()?.try_into().ok()?);
    (digest_nonce(&rand).as_bytes() == nonce).then_some(rand)
}

/// `passwd`, which takes the place of the password in the response of a run by password: 32 octets, bound to one TLS
/// connection.
///
/// `ha1` is H(A1) of the subscriber, in octets: 16 of MD5, 32 of SHA-256. How `passwd` enters A1 of the response is in
/// none of the clauses that were read; here it does as octets, as RES of a card does (RFC 3310 section 3.3).
///
/// # Errors
///
/// [`DeriveError::KeyUnfit`] never: HMAC takes every length.
///
/// Source: TS 33.220 annex B.5 (FC = 0x01, P0 = "GBA_Digest_RESP", P1 = TLS_MK_Extr).
pub fn derive_digest_password(
    ha1: &[u8],
    exported: &TlsExport,
) -> Result<Zeroizing<[u8; 32]>, DeriveError> {
    kdf(ha1, FC_GBA, &[b"GBA_Digest_RESP", exported.expose()])
}

/// `Ks` of a run by password. `response` is the digest response of that run, in octets.
///
/// # Errors
///
/// [`DeriveError::KeyUnfit`] never: HMAC takes every length.
///
/// Source: TS 33.220 annex B.5 (FC = 0x01, P0 = "GBA_Digest_Ks", P1 = TLS_MK_Extr, P2 = RESP).
pub fn derive_digest_ks(
    ha1: &[u8],
    exported: &TlsExport,
    response: &[u8],
) -> Result<Ks, DeriveError> {
    kdf(ha1, FC_GBA, &[b"GBA_Digest_Ks", exported.expose(), response]).map(|ks| Ks::new(*ks))
}

/// Derives the temporary private identity that a UE may use in its next run.
///
/// `bsf` is the server's name as it stands in the B-TID.
///
/// # Errors
///
/// As [`derive_ks_naf`].
///
/// Source: TS 33.220 annex B.4.
pub fn derive_tmpi(ks: &Ks, rand: &Rand, impi: &Impi, bsf: &str) -> Result<Impi, DeriveError> {
    let bsf_id = [bsf.as_bytes(), &UaId::TMPI.0].concat();
    let key = naf_key(b"gba-me", ks, &rand.0, impi, &bsf_id)?;
    let head = key.expose().first_chunk::<24>().ok_or(DeriveError::KeyUnfit)?;
    let name = format!("{}@{TMPI_DOMAIN}", BASE64.encode(head));
    Impi::new(&name).ok_or(DeriveError::NameUnfit)
}

/// HKDF with SHA-256, for a key of at most 32 octets: extract with `salt`, one block of expand with `info`. For derivations
/// of our own, since function codes belong to others.
///
/// # Errors
///
/// [`DeriveError::KeyUnfit`] never: HMAC takes every length.
///
/// Source: RFC 5869 sections 2.2 and 2.3.
pub fn hkdf<const N: usize>(
    salt: &[u8],
    key: &[u8],
    info: &[u8],
) -> Result<Zeroizing<[u8; N]>, DeriveError> {
    const { assert!(N <= 32, "one block") };
    let hmac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).map_err(|_| DeriveError::KeyUnfit);
    let mut extract = hmac(salt)?;
    extract.update(key);
    let mut secret = extract.finalize().into_bytes();
    let mut expand = hmac(&secret)?;
    secret.as_mut_slice().zeroize();
    expand.update(info);
    expand.update(&[1]);
    let mut block = expand.finalize().into_bytes();
    let mut derived = Zeroizing::new([0; N]);
    derived.iter_mut().zip(&block).for_each(|(place, octet)| *place = *octet);
    block.as_mut_slice().zeroize();
    Ok(derived)
}

/// Whether a username has the form of a TMPI.
pub fn is_tmpi(username: &str) -> bool {
    username.rsplit_once('@').is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(TMPI_DOMAIN))
}

/// The B-TID of the run whose challenge was `rand` at the server `bsf`.
///
/// # Errors
///
/// [`DeriveError::NameUnfit`] if `bsf` cannot stand in a name.
///
/// Source: TS 33.220 clause 4.5.2.
pub fn btid(rand: &Rand, bsf: &str) -> Result<Btid, DeriveError> {
    Btid::new(&format!("{}@{bsf}", BASE64.encode(rand.0))).ok_or(DeriveError::NameUnfit)
}

/// The challenge in a B-TID; `None` if what precedes the last `@` is not the base64 of 16 octets.
pub fn btid_rand(btid: &Btid) -> Option<Rand> {
    let (encoded, _) = btid.as_str().rsplit_once('@')?;
    BASE64.decode(encoded).ok()?.try_into().ok().map(Rand)
}

fn naf_key(
    label: &[u8],
    ks: &Ks,
    challenge: &[u8],
    impi: &Impi,
    naf_id: &[u8],
) -> Result<KsNaf, DeriveError> {
    let params = [label, challenge, impi.as_str().as_bytes(), naf_id];
    kdf(ks.expose(), FC_GBA, &params).map(|key| KsNaf::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_their_parameters() {
        assert_eq!(kdf_input(1, &[b"ab", b""]), Ok(b"\x01ab\x00\x02\x00\x00".to_vec()));
        let long = vec![0; 65_536];
        assert_eq!(kdf_input(1, &[&long]), Err(DeriveError::ParamTooLong));
        assert!(kdf_input(1, &[&long[1..]]).is_ok());
    }

    /// RFC 5869 appendices A.1 and A.3, the first block.
    #[test]
    fn hkdf_as_published() {
        let salt = [0_u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let info = [0xF0_u8, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9];
        for (salt, info, first) in [
            (
                &salt[..],
                &info[..],
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
            ),
            (b"", b"", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"),
        ] {
            let key: [u8; 32] = *hkdf(salt, &[0x0B; 22], info).expect("any length");
            let hex = key.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
            assert_eq!(hex, first);
            let short: [u8; 16] = *hkdf(salt, &[0x0B; 22], info).expect("any length");
            assert_eq!(short, key[..16]);
        }
    }

    #[test]
    fn btid_there_and_back() {
        let rand = Rand([0xff; 16]);
        let name = btid(&rand, "bsf.example.net").expect("a plain name");
        assert_eq!(name.as_str(), "/////////////////////w==@bsf.example.net");
        assert_eq!(name.bsf(), "bsf.example.net");
        assert_eq!(btid_rand(&name), Some(rand));
        for wrong in ["AAAA@bsf.example.net", "no-at-sign", "!!!!@b"] {
            assert_eq!(btid_rand(&Btid::new(wrong).expect("a name")), None, "{wrong}");
        }
        assert_eq!(btid(&rand, "bad\"name"), Err(DeriveError::NameUnfit));
    }
}

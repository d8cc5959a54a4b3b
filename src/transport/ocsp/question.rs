//! Stage 1, OCSP, questions: what a responder is asked.
//!
//! Takes:   a certificate, and a nonce if one is wanted.
//! Gives:   the octets of an `OCSPRequest`, unsigned.
//! Keeps:   nothing.
//! Refuses: an issuer whose key cannot be read.
//! Sources: RFC 6960 sections 4.1 and 4.4.1; RFC 5019 section 2.1.1.

use super::der::{INTEGER, OCTETS, OID, SEQUENCE, around, element};
use super::{CertId, StatusFault, sha1};

/// `id-sha1`, with NULL as parameters: the form that all responders know.
pub(super) const SHA1: &[u8] = &[0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 0x05, 0x00];
/// `id-pkix-ocsp-nonce`.
pub(super) const NONCE: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];

/// Octets of a nonce.
pub const NONCE_OCTETS: usize = 16;

/// The request about `of`.
///
/// # Errors
///
/// [`StatusFault::NoIssuer`] if the issuer's key cannot be read.
pub fn request(of: &CertId, nonce: Option<&[u8; NONCE_OCTETS]>) -> Result<Vec<u8>, StatusFault> {
    let (_, key) = of.issuer.key_parts().ok_or(StatusFault::NoIssuer)?;
    let name_hash = element(OCTETS, &[&sha1(&of.issuer.name)]);
    let key_hash = element(OCTETS, &[&sha1(key)]);
    let serial = element(INTEGER, &[&of.serial]);
    let id = element(SEQUENCE, &[SHA1, &name_hash, &key_hash, &serial]);
    let list = element(SEQUENCE, &[&element(SEQUENCE, &[&id])]);
    let extensions = nonce.map(|nonce| {
        // The value of the extension is itself an OCTET STRING in DER.
        let value = element(OCTETS, &[&element(OCTETS, &[nonce])]);
        let one = element(SEQUENCE, &[&element(OID, &[NONCE]), &value]);
        element(around(2), &[&element(SEQUENCE, &[&one])])
    });
    let to_be_signed = element(SEQUENCE, &[&list, extensions.as_deref().unwrap_or_default()]);
    Ok(element(SEQUENCE, &[&to_be_signed]))
}

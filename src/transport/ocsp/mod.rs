//! Stage 1, OCSP: what the authority says today of one certificate.
//!
//! 1. A [`CertId`] names the certificate and who issued it, found by a chain that was verified before.
//! 2. `question` puts it into a request; `answer` reads what comes back and believes it only if the issuer, or one whom
//!    the issuer delegated, signed it, for this certificate and for now.
//! 3. `desk` asks the configured responder, once for all who want to know, and remembers.
//! 4. `staple` is an answer that is shown with the certificate: ours with ours, a server's with its own.
//!
//! Takes:   certificates of verified chains; answers.
//! Gives:   [`Status`], or the [`StatusFault`] that leaves it unknown.
//! Keeps:   see `desk`.
//! Refuses: see `answer`. No address is ever read out of a certificate.
//! Sources: RFC 6960; RFC 6066 section 8; `CR-03`, `V-78`; SEC_CF 1.1 use case B.5.

pub mod answer;
mod der;
pub mod desk;
pub mod question;
pub mod staple;

use std::fmt;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use crate::instant::WallTime;
use der::{BITS, Reader, SEQUENCE};

/// What an answer says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is good. The answer may be relied on until then; `None` if it states no end.
    Good(Option<WallTime>),
    /// It was taken back.
    Revoked,
    /// The responder knows nothing of it.
    Unknown,
}

/// Why the status of a certificate could not be learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusFault {
    /// The responder could not be reached.
    Unreachable,
    /// It took too long.
    Slow,
    /// What it sent is over the bound.
    TooLong,
    /// It spoke no HTTP, or its answer was this status.
    Http(u16),
    /// It would not answer: its reason, 3 for `tryLater`.
    Declined(u8),
    /// Its answer is none.
    Malformed,
    /// It is signed by nobody who may: neither the issuer nor one whom the issuer delegated.
    Unauthorised,
    /// The signature is wrong.
    Signature,
    /// It is about other certificates.
    OtherCertificate,
    /// It has run out.
    Expired,
    /// It is not valid yet.
    Future,
    /// It does not repeat our nonce.
    Nonce,
    /// It has a critical extension that we do not know.
    Extension,
    /// The chain does not show who issued the certificate.
    NoIssuer,
}

impl fmt::Display for StatusFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the responder cannot be reached",
            Self::Slow => "the responder did not answer in time",
            Self::TooLong => "the answer is too long",
            Self::Http(status) => return write!(f, "the responder's HTTP status is {status}"),
            Self::Declined(1) => "the responder calls the question malformed",
            Self::Declined(2) => "the responder has an internal error",
            Self::Declined(3) => "the responder says: try later",
            Self::Declined(5) => "the responder wants the question signed",
            Self::Declined(6) => "the responder does not answer us",
            Self::Declined(other) => return write!(f, "the responder declines with {other}"),
            Self::Malformed => "the answer is malformed",
            Self::Unauthorised => "the answer is signed by nobody who may",
            Self::Signature => "the answer's signature is wrong",
            Self::OtherCertificate => "the answer is about other certificates",
            Self::Expired => "the answer has expired",
            Self::Future => "the answer is not valid yet",
            Self::Nonce => "the answer does not repeat our nonce",
            Self::Extension => "the answer has a critical extension that is not known here",
            Self::NoIssuer => "the chain does not show who issued the certificate",
        })
    }
}

impl std::error::Error for StatusFault {}

/// Who issued a certificate: both parts as DER has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issuer {
    /// Its `Name`.
    pub name: Box<[u8]>,
    /// Its `SubjectPublicKeyInfo`.
    pub key: Box<[u8]>,
}

impl Issuer {
    /// `SubjectPublicKeyInfo` in its parts: what is in `AlgorithmIdentifier`, and the octets of the key.
    fn key_parts(&self) -> Option<(&[u8], &[u8])> {
        key_parts(&self.key)
    }
}

/// The parts of a `SubjectPublicKeyInfo`.
pub(crate) fn key_parts(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = Reader::inside(info, SEQUENCE)?;
    let algorithm = info.take(SEQUENCE)?.content;
    // A key is whole octets: none of its last bits are unused.
    let (unused, key) = info.take(BITS)?.content.split_first()?;
    (*unused == 0).then_some((algorithm, key))
}

/// One certificate, as its issuer's responder knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertId {
    /// Who issued it.
    pub issuer: Arc<Issuer>,
    /// Its serial number, as the content of the `INTEGER`.
    pub serial: Box<[u8]>,
}

/// The hash that names are known by.
///
/// Source: RFC 5019 section 2.1.1: SHA-1, since it protects nothing here.
fn sha1(octets: &[u8]) -> [u8; 20] {
    Sha1::digest(octets).into()
}

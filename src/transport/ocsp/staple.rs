//! Stage 1, OCSP, staples: an answer about a certificate, shown with it in handshakes.
//!
//! Takes:   the octets of an `OCSPResponse` as somebody fetched them, and the chain that is shown.
//! Gives:   [`Staple`], which knows when it ends; of what a server showed, whether its certificate is good.
//! Keeps:   the octets.
//! Refuses: whatever a careful client would: an answer about another certificate, of a stranger, out of its time, not
//!          good, or without an end. Of a server, also that none came though its certificate promises one.
//! Sources: RFC 6066 section 8; RFC 7633 section 4; RFC 8446 section 4.4.2.1; RFC 6960 section 4.2.2.1.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::answer::{Asked, judge};
use super::der::{INTEGER, Reader, SEQUENCE};
use super::{CertId, Issuer, Status, StatusFault};
use crate::instant::WallTime;
use crate::transport::peer::Trust;

/// An answer about our own certificate, which says that it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    octets: Arc<[u8]>,
    until: WallTime,
}

/// Why an answer is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unshown {
    /// It cannot be believed.
    Fault(StatusFault),
    /// It says that the certificate was taken back.
    Revoked,
    /// It says that nothing is known of the certificate.
    Unknown,
    /// It states no end.
    Endless,
}

impl fmt::Display for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(StatusFault::NoIssuer) => f.write_str(
                "the file of the certificate does not hold its issuer, who signs answers",
            ),
            Self::Fault(fault) => fault.fmt(f),
            Self::Revoked => f.write_str("it says that the certificate was taken back"),
            Self::Unknown => f.write_str("it says that nothing is known of the certificate"),
            Self::Endless => f.write_str("it does not say until when it holds"),
        }
    }
}

impl std::error::Error for Unshown {}

impl Staple {
    /// Takes `octets` as the answer about the first certificate of `chain`, whose issuer is in the chain.
    ///
    /// # Errors
    ///
    /// [`Unshown`].
    pub fn read(
        octets: &[u8],
        chain: &[CertificateDer<'_>],
        now: WallTime,
    ) -> Result<Self, Unshown> {
        let about = own_id(chain, now).ok_or(Unshown::Fault(StatusFault::NoIssuer))?;
        let asked = Asked { about: &about, nonce: None, age_max: Duration::MAX, now };
        match judge(octets, &asked).map_err(Unshown::Fault)? {
            Status::Good(Some(until)) => Ok(Self { octets: octets.into(), until }),
            Status::Good(None) => Err(Unshown::Endless),
            Status::Revoked => Err(Unshown::Revoked),
            Status::Unknown => Err(Unshown::Unknown),
        }
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The last second of it.
    pub fn until(&self) -> WallTime {
        self.until
    }
}

/// Our own certificate, by the issuer that stands behind it in the chain.
fn own_id(chain: &[CertificateDer<'_>], now: WallTime) -> Option<CertId> {
    let (own, issuers) = chain.split_first()?;
    issuers.iter().find_map(|issuer| {
        let mut roots = RootCertStore::empty();
        roots.add(issuer.clone().into_owned()).ok()?;
        let judged =
            Trust::new(roots).judge(std::slice::from_ref(own), now, KeyUsage::server_auth());
        judged.ok().map(|judged| judged.id)
    })
}

/// `id-pe-tlsfeature`.
const TLS_FEATURE: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];
/// The number of `status_request` among the extensions of TLS.
const STATUS_REQUEST: &[u8] = &[5];
/// How old an answer may be that states no end.
const AGE_MAX: Duration = Duration::from_secs(86_400);

/// Judges what a server showed with `own`, which the holder of `key` issued: an answer that calls it good, or nothing
/// if nothing is promised.
///
/// # Errors
///
/// [`Status::Revoked`]; else [`Status::Unknown`].
///
/// Source: RFC 6066 section 8 (an answer that does not satisfy ends the handshake); RFC 7633 section 4.
pub(in crate::transport) fn judge_shown(
    own: &CertificateDer<'_>,
    key: Box<[u8]>,
    octets: &[u8],
    now: WallTime,
) -> Result<(), Status> {
    let (_, parsed) = X509Certificate::from_der(own).map_err(|_| Status::Unknown)?;
    if octets.is_empty() {
        return if promises(&parsed) { Err(Status::Unknown) } else { Ok(()) };
    }
    let issuer = Arc::new(Issuer { name: parsed.issuer().as_raw().into(), key });
    let about = CertId { issuer, serial: parsed.raw_serial().into() };
    match judge(octets, &Asked { about: &about, nonce: None, age_max: AGE_MAX, now }) {
        Ok(Status::Good(_)) => Ok(()),
        Ok(Status::Revoked) => Err(Status::Revoked),
        Ok(Status::Unknown) | Err(_) => Err(Status::Unknown),
    }
}

/// Whether a certificate promises an answer with it; one that cannot be read does.
fn promises(certificate: &X509Certificate<'_>) -> bool {
    let mut extensions = certificate.extensions().iter();
    let Some(feature) = extensions.find(|it| it.oid.as_bytes() == TLS_FEATURE) else {
        return false;
    };
    let Some(mut features) = Reader::inside(feature.value, SEQUENCE) else { return true };
    while !features.is_empty() {
        match features.take(INTEGER) {
            Some(number) if number.content != STATUS_REQUEST => {}
            _ => return true,
        }
    }
    false
}

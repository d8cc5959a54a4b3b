//! Stage 1, OCSP, staples: an answer about our own certificate, shown with it in handshakes.
//!
//! Takes:   the octets of an `OCSPResponse` as somebody fetched them, and the chain that is shown.
//! Gives:   [`Staple`], which knows when it ends.
//! Keeps:   the octets.
//! Refuses: whatever a careful client would: an answer about another certificate, of a stranger, out of its time, not
//!          good, or without an end.
//! Sources: RFC 6066 section 8; RFC 8446 section 4.4.2.1; RFC 6960 section 4.2.2.1.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use webpki::KeyUsage;

use super::answer::{Asked, judge};
use super::{CertId, Status, StatusFault};
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

//! Keys, bootstrap, grants: which NAF may have which key, and what it learns with it.
//!
//! Takes:   the NAF's authenticated host name and the [`NafId`] it asks for.
//! Gives:   the [`NafGrant`] that covers both.
//! Keeps:   nothing.
//! Refuses: a FQDN or protocol that no grant of that host lists, and always the identifiers of TMPIs and of
//!          what protects push info.
//! Sources: TS 33.220 clauses 4.4.6, 4.5.3 and annex H; TS 29.109 clause 5.2 (5402, 5403).

use std::sync::Arc;

use super::Bsf;
use crate::identity::Btid;
use crate::instant::Now;
use crate::keys::{KeyAnswer, KeySource, NafId, UaId};

/// Protocols that a NAF may have keys for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UaGrant {
    /// One identifier.
    Exact(UaId),
    /// 01 00 01 yy zz: TLS, whichever cipher suite.
    TlsSuites,
    /// 03 00 01 yy zz: OMA's TLS schemes, whichever cipher suite.
    OmaTlsSuites,
}

/// What one NAF may have.
#[derive(Clone, Debug)]
pub struct NafGrant {
    /// The NAF's own name, as its connection proved it.
    pub host: Arc<str>,
    /// The names that UEs dial, in lower case.
    pub fqdns: Vec<Arc<str>>,
    /// The protocols.
    pub protocols: Vec<UaGrant>,
    /// Whether it is told the private identity.
    pub sees_impi: bool,
    /// Whether it is told the public identities.
    pub sees_identities: bool,
}

/// Why a NAF gets no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NafRefusal {
    /// This NAF may not have it.
    NotAuthorised,
    /// No such B-TID, or its time is over.
    UnknownBtid,
    /// It cannot be said now.
    Unavailable,
}

impl NafRefusal {
    /// The Experimental-Result-Code of TS 29.109.
    pub fn diameter_code(self) -> u32 {
        match self {
            Self::NotAuthorised => 5402,
            Self::UnknownBtid => 5403,
            // DIAMETER_UNABLE_TO_COMPLY (RFC 6733 section 7.1.5).
            Self::Unavailable => 5012,
        }
    }
}

impl UaGrant {
    fn covers(self, ua: UaId) -> bool {
        match self {
            Self::Exact(own) => own == ua,
            Self::TlsSuites => ua.0.starts_with(&[1, 0, 1]),
            Self::OmaTlsSuites => ua.0.starts_with(&[3, 0, 1]),
        }
    }
}

impl NafGrant {
    /// Whether this grant lets `host` have the key of `naf`.
    pub fn covers(&self, host: &str, naf: &NafId) -> bool {
        self.host.eq_ignore_ascii_case(host)
            && !matches!(naf.ua(), UaId::TMPI | UaId::PUSH_INFO_P1)
            && self.fqdns.iter().any(|fqdn| fqdn.eq_ignore_ascii_case(naf.fqdn()))
            && self.protocols.iter().any(|protocol| protocol.covers(naf.ua()))
    }
}

/// The server as the key source of a NAF in the same process.
#[derive(Debug, Clone)]
pub struct LocalNaf {
    pub(super) bsf: Arc<Bsf>,
    pub(super) host: Arc<str>,
}

impl LocalNaf {
    /// `host` is the name under which the grants know this NAF.
    pub fn new(bsf: Arc<Bsf>, host: &str) -> Self {
        Self { bsf, host: host.into() }
    }
}

impl KeySource for LocalNaf {
    fn naf_key(&self, btid: &Btid, naf: &NafId, now: Now) -> KeyAnswer {
        match self.bsf.naf_key(&self.host, btid, naf, now) {
            Ok(key) => KeyAnswer::Known(Arc::new(key)),
            Err(NafRefusal::UnknownBtid) => KeyAnswer::Unknown,
            Err(NafRefusal::NotAuthorised) => KeyAnswer::Forbidden,
            Err(NafRefusal::Unavailable) => KeyAnswer::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_what_is_listed() {
        let grant = NafGrant {
            host: "edge.example.net".into(),
            fqdns: vec!["naf.example.net".into()],
            protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST), UaGrant::TlsSuites],
            sees_impi: true,
            sees_identities: true,
        };
        for (host, fqdn, ua, expected) in [
            ("Edge.example.net", "NAF.example.net.", UaId::SIP_DIGEST, true),
            ("edge.example.net", "naf.example.net", UaId([1, 0, 1, 0x13, 1]), true),
            ("edge.example.net", "naf.example.net", UaId([3, 0, 1, 0x13, 1]), false),
            ("edge.example.net", "naf.example.net", UaId::LOCSIP, false),
            ("edge.example.net", "other.example.net", UaId::SIP_DIGEST, false),
            ("other.example.net", "naf.example.net", UaId::SIP_DIGEST, false),
        ] {
            let naf = NafId::new(fqdn, ua);
            assert_eq!(grant.covers(host, &naf), expected, "{host} {fqdn} {ua:?}");
        }
        for never in [UaId::TMPI, UaId::PUSH_INFO_P1] {
            let careless = NafGrant { protocols: vec![UaGrant::Exact(never)], ..grant.clone() };
            assert!(!careless.covers("edge.example.net", &NafId::new("naf.example.net", never)));
        }
    }
}

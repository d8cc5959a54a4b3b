//! Configuration, grants: which keys a NAF of another process may have of our bootstrapping server.
//!
//! Takes:   the entry of a NAF, in `[[diameter.peer]]` or `[[nbsp.naf]]`.
//! Gives:   [`Granted`].
//! Keeps:   nothing.
//! Refuses: names that no UE could dial; the identifier that temporary identities are derived with. A NAF that is told no
//!          identity at all is warned of.
//! Sources: TS 33.220 clauses 4.4.6 and 4.5.3 and annexes B.4 and H.

use std::sync::Arc;

use super::listen::{is_address, is_host};
use super::raw::{Section, Spot};
use crate::keys::UaId;
use crate::keys::bootstrap::{NafGrant, UaGrant};

/// What one NAF may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Names that it may have keys for, lower case.
    pub fqdns: Vec<Arc<str>>,
    /// Protocols that it may have keys for.
    pub ua_ids: Vec<UaId>,
    /// Whether it is told private identities.
    pub sees_impi: bool,
    /// Whether it is told public identities.
    pub sees_identities: bool,
}

/// The keys of such an entry, which [`granted`] reads.
pub(super) const KEYS: [&str; 4] = ["fqdns", "ua_ids", "sees_impi", "sees_identities"];

/// Reads them.
pub(super) fn granted(section: &mut Section<'_>) -> Option<Granted> {
    granted_or(section, &[UaId::SIP_DIGEST, UaId::LOCSIP])
}

/// Reads them; where no protocols are named, they are `protocols`.
pub(super) fn granted_or(section: &mut Section<'_>, protocols: &[UaId]) -> Option<Granted> {
    let notes = section.notes();
    let why =
        "it may have keys for the names that are listed, and no other (TS 33.220 clause 4.5.3)";
    let fqdns = section.need::<Vec<String>>("fqdns", why, "[\"naf.example.net\"]");
    let ua_ids = section.maybe::<Vec<UaId>>("ua_ids");
    if let Some(Spot { place, .. }) = ua_ids.as_ref().filter(|it| it.value.contains(&UaId::TMPI)) {
        let why = "temporary identities are derived with it (TS 33.220 annex B.4)";
        notes.problem(place, "holds the identifier of TMPIs", why, "[\"0300000003\"]");
    }
    let ua_ids = ua_ids.map_or_else(|| protocols.to_vec(), |spot| spot.value);
    let sees_impi = section.or("sees_impi", false);
    let place = section.place_of("sees_identities");
    let sees_identities = section.or("sees_identities", true);
    if !sees_impi && !sees_identities {
        let why = "a key names nobody then, and whoever makes another inside a dialog is a stranger there (rule 4)";
        notes.warn(&place, "hides whose keys they are", why, "sees_identities = true");
    }
    let fqdns = fqdns?;
    if let Some(bad) = fqdns.value.iter().find(|name| !is_host(name) || is_address(name)) {
        let what = format!("holds {bad:?}, which is no domain name");
        notes.problem(&fqdns.place, &what, "UEs dial it", "[\"naf.example.net\"]");
    }
    let fqdns = fqdns.value.iter().map(|name| name.to_ascii_lowercase().into()).collect();
    Some(Granted { fqdns, ua_ids, sees_impi, sees_identities })
}

impl Granted {
    /// For the bootstrapping server: what the NAF named `host` may have.
    pub fn to(&self, host: &Arc<str>) -> NafGrant {
        NafGrant {
            host: Arc::clone(host),
            fqdns: self.fqdns.clone(),
            protocols: self.ua_ids.iter().copied().map(UaGrant::Exact).collect(),
            sees_impi: self.sees_impi,
            sees_identities: self.sees_identities,
        }
    }
}

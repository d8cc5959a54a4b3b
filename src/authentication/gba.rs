//! Stage 4, GBA: realms and usernames of the bootstrapping scheme.
//!
//! Takes:   the realm and username of credentials.
//! Gives:   the realm to offer; whether an echoed realm is ours; the B-TID.
//! Keeps:   nothing.
//! Refuses: a realm that is not a member of what was offered; a B-TID whose server is not configured.
//! Sources: TS 24.109 clause 5.2 and annex B.3; TS 33.220 clause 4.5.2.

use std::sync::Arc;

use crate::enabler::Family;
use crate::identity::Btid;
use crate::keys::{NafId, UaId};

/// Realm prefix of GBA_ME and of the external key of GBA_U.
pub const PREFIX: &str = "3GPP-bootstrapping@";

/// What this NAF is called, and whose keys it takes.
#[derive(Clone, Debug)]
pub struct Naf {
    fqdn: Arc<str>,
    realm: Arc<str>,
    /// Whose keys prove a caller, for each family of classes.
    ids: [Arc<[NafId]>; Family::COUNT],
    bsfs: Arc<[Arc<str>]>,
}

impl Naf {
    /// A NAF of that FQDN that takes keys of these servers: those of `ua`, and for location those of LOCSIP alone.
    pub fn new(fqdn: &str, ua: UaId, bsfs: impl IntoIterator<Item = Arc<str>>) -> Self {
        let fqdn = fqdn.to_ascii_lowercase();
        let usual: Arc<[NafId]> = Arc::from([NafId::new(&fqdn, ua)]);
        let naf = Self {
            ids: std::array::from_fn(|_| Arc::clone(&usual)),
            realm: format!("{PREFIX}{fqdn}").into(),
            fqdn: fqdn.into(),
            bsfs: bsfs.into_iter().collect(),
        };
        naf.with_ids(Family::Locsip, &[UaId::LOCSIP])
    }

    /// The same, with these protocol identifiers for the classes of one family; they are tried in order.
    pub fn with_ids(mut self, family: Family, uas: &[UaId]) -> Self {
        if let Some(ids) = self.ids.get_mut(family as usize) {
            *ids = uas.iter().map(|ua| NafId::new(&self.fqdn, *ua)).collect();
        }
        self
    }

    /// The realm that is offered.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether `realm`, as echoed in credentials, is a member of what was offered.
    pub fn is_realm(&self, realm: &[u8]) -> bool {
        let Some((prefix, host)) = realm.split_at_checked(PREFIX.len()) else { return false };
        prefix == PREFIX.as_bytes() && host.eq_ignore_ascii_case(self.fqdn.as_bytes())
    }

    /// The keys that credentials of a family of classes are judged by: our FQDN, never one from the message. A key
    /// of another family's protocol opens none of its doors.
    pub fn naf_ids(&self, family: Family) -> &[NafId] {
        self.ids.get(family as usize).map(|ids| &**ids).unwrap_or_default()
    }

    /// The B-TID in `username`, if its server is one of ours: no other is ever asked.
    pub fn btid(&self, username: &[u8]) -> Option<Btid> {
        let btid = Btid::new(std::str::from_utf8(username).ok()?)?;
        self.bsfs.iter().any(|bsf| bsf.eq_ignore_ascii_case(btid.bsf())).then_some(btid)
    }
}

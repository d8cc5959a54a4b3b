//! Stage 4, GBA: realms and usernames of the bootstrapping scheme.
//!
//! Takes:   the realm and username of credentials.
//! Gives:   the realm to offer; whether an echoed realm is ours; the B-TID.
//! Keeps:   nothing.
//! Refuses: a realm that is not a member of what was offered, that of passwords where their keys are not taken; a B-TID
//!          whose server is not configured.
//! Sources: TS 24.109 clause 5.2 and annexes B.3 and I; TS 33.220 clause 4.5.2.

use std::sync::Arc;

use crate::enabler::Family;
use crate::identity::Btid;
use crate::keys::{GbaType, NafId, UaId};

/// Realm prefix of GBA_ME and of the external key of GBA_U.
pub const PREFIX: &str = "3GPP-bootstrapping@";
/// Realm prefix of keys that were made with a password (GBA_Digest).
pub const DIGEST_PREFIX: &str = "3GPP-bootstrapping-digest@";

/// The realm prefix of keys of a kind.
pub fn prefix_of(kind: GbaType) -> &'static str {
    match kind {
        GbaType::Aka => PREFIX,
        GbaType::Digest => DIGEST_PREFIX,
    }
}

/// What this NAF is called, and whose keys it takes.
#[derive(Clone, Debug)]
pub struct Naf {
    fqdn: Arc<str>,
    realm: Arc<str>,
    /// The realm of keys of passwords, if those are taken.
    digest_realm: Option<Arc<str>>,
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
            digest_realm: None,
            fqdn: fqdn.into(),
            bsfs: bsfs.into_iter().collect(),
        };
        naf.with_ids(Family::Locsip, &[UaId::LOCSIP])
    }

    /// The same, which takes keys of passwords as well, in a realm of their own.
    pub fn with_passwords(mut self) -> Self {
        self.digest_realm = Some(format!("{DIGEST_PREFIX}{}", self.fqdn).into());
        self
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

    /// The realm that is offered to who says that he bootstraps by password.
    pub fn digest_realm(&self) -> Option<&str> {
        self.digest_realm.as_deref()
    }

    /// Whether `realm`, as echoed in credentials, is a member of what was offered.
    pub fn is_realm(&self, realm: &[u8]) -> bool {
        self.realm_of(realm).is_some()
    }

    /// Of which kind of keys `realm` is, as echoed in credentials, and how we spell it; `None` if it is none of ours.
    pub fn realm_of(&self, realm: &[u8]) -> Option<(GbaType, &str)> {
        let own = [
            (GbaType::Aka, PREFIX, Some(&self.realm)),
            (GbaType::Digest, DIGEST_PREFIX, self.digest_realm.as_ref()),
        ];
        own.into_iter().find_map(|(kind, prefix, own)| {
            let host = realm.strip_prefix(prefix.as_bytes())?;
            let own = own.filter(|_| host.eq_ignore_ascii_case(self.fqdn.as_bytes()))?;
            Some((kind, &**own))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_says_of_which_kind_its_keys_are() {
        let naf = Naf::new("Edge.example.net", UaId::SIP_DIGEST, ["bsf.example.net".into()]);
        let both = naf.clone().with_passwords();
        let (card, password) =
            ("3GPP-bootstrapping@edge.example.net", "3GPP-bootstrapping-digest@edge.example.net");
        for (of, realm, expected) in [
            (&naf, card, Some((GbaType::Aka, card))),
            (&naf, "3GPP-bootstrapping@EDGE.example.net", Some((GbaType::Aka, card))),
            (&naf, password, None),
            (&both, card, Some((GbaType::Aka, card))),
            (&both, password, Some((GbaType::Digest, password))),
            (&both, "3GPP-bootstrapping-digest@other.example.net", None),
            (&both, "3GPP-bootstrapping-uicc@edge.example.net", None),
        ] {
            assert_eq!(of.realm_of(realm.as_bytes()), expected, "{realm}");
        }
        assert_eq!((naf.digest_realm(), both.digest_realm()), (None, Some(password)));
    }
}

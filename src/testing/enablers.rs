//! Tests, enablers: the servers of the classes, and what stage 6 is told.
//!
//! Takes:   [`LabSettings`].
//! Gives:   a location service and a push server; the key for locations; the policies of the laboratory.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

use std::sync::Arc;
use std::time::Duration;

use super::Peer;
use super::lab::{EDGE, LabKeys, LabSettings, UE1_BTID, lab_key};
use crate::enabler::{Policies, Recognisers};
use crate::identity::Btid;
use crate::instant::Now;
use crate::keys::{KeyAnswer, NafId, UaId};
use crate::transport::{Group, GroupId, Side, Transport};

/// The peer group of the location service, at 203.0.113.30:5061, known by its certificate.
pub const LOCATION: GroupId = GroupId(1);
/// The peer group that pushes for `ulp.ua`, at 203.0.113.40:5061, known by its certificate.
pub const SLP: GroupId = GroupId(2);

/// The digest password of `ue1` for location: base64 of its Ks_NAF for LOCSIP.
pub const UE1_LOCSIP_PASSWORD: &str = "mGvVRti/TrzchgK9KB/e0dNucPe4qN4aP+7WgMOwnqU=";

impl LabKeys {
    /// The key of `ue1` for location.
    pub(super) fn put_location(&self, now: Now) {
        let identities = ["sip:alice@example.net", "tel:+12015550101"];
        let ends = now + Duration::from_secs(3600);
        let key = lab_key(UE1_LOCSIP_PASSWORD, "ue1@ims.example.net", &identities, ends);
        let (btid, naf) = (Btid::new(UE1_BTID), NafId::new(EDGE, UaId::LOCSIP));
        self.put(btid.expect("a B-TID"), naf, KeyAnswer::Known(Arc::new(key)));
    }
}

impl Peer {
    /// The location service.
    pub fn location() -> Self {
        Self::certified("203.0.113.30:5061", LOCATION)
    }

    /// The server that pushes for `ulp.ua`.
    pub fn slp() -> Self {
        Self::certified("203.0.113.40:5061", SLP)
    }

    /// Somebody on the core side whose certificate is of that group.
    pub fn certified(from: &str, group: GroupId) -> Self {
        let mut peer = Self::new(Transport::Tls, from, Side::Core, 2, Some(u32::from(group.0)));
        peer.arrival.group = Some(Group { id: group, by_certificate: true });
        peer
    }
}

impl LabSettings {
    /// What stage 6 is told.
    pub fn policies(&self) -> Policies {
        let mut policies = Policies {
            observe: self.observe,
            numbers: self.numbers.clone(),
            recognisers: Recognisers {
                locsip_groups: vec![LOCATION],
                routes: self.forward.routes.clone(),
                default_route: self.forward.default_route,
                ..Recognisers::default()
            },
            reg: Arc::new(self.reg),
            sip: Arc::new(self.sip.clone()),
            cpm: Arc::new(self.cpm.clone()),
            locsip: Arc::new(self.locsip.clone()),
            push: Arc::new(self.push.clone()),
            own: Vec::new(),
        };
        for (lines, own) in &self.own {
            policies.add(lines.clone(), Arc::new(own.clone()));
        }
        policies
    }
}

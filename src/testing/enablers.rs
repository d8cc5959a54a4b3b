//! Tests, enablers: the servers of the classes, and what stage 6 is told.
//!
//! Takes:   [`LabSettings`].
//! Gives:   a location service and a push server; the policies of the laboratory.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

use std::sync::Arc;

use super::lab::{LabSettings, Peer};
use crate::enabler::{Policies, Recognisers};
use crate::transport::{Group, GroupId, Side, Transport};

/// The peer group of the location service, at 203.0.113.30:5061, known by its certificate.
pub const LOCATION: GroupId = GroupId(1);
/// The peer group that pushes for `ulp.ua`, at 203.0.113.40:5061, known by its certificate.
pub const SLP: GroupId = GroupId(2);

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

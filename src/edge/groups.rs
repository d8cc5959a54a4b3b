//! The edge, groups: which group of peers a sender on the core side belongs to.
//!
//! Takes:   how the members of each group are known; a flow, and the verified names of its certificate.
//! Gives:   the group, and what proved the membership.
//! Keeps:   nothing.
//! Refuses: nothing; a stranger is in no group.
//! Sources: RFC 5922 section 7.4; `CR-04`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::transport::{Flow, Group, GroupId};

/// How members of a peer group are known.
#[derive(Clone, Debug, Default)]
pub struct GroupSpec {
    /// Addresses that are trusted by themselves (level 1).
    pub addresses: Vec<IpAddr>,
    /// SIP domain identities of their certificates (level 3).
    pub identities: Vec<String>,
}

impl GroupSpec {
    fn has_one_of(&self, names: &[Arc<str>]) -> bool {
        names.iter().any(|name| self.identities.iter().any(|id| id.eq_ignore_ascii_case(name)))
    }
}

/// The peer group of a sender on the core side: by its certificate, else by its address.
pub(super) fn of(groups: &[GroupSpec], flow: &Flow, names: Option<&[Arc<str>]>) -> Option<Group> {
    let by = |by_certificate, is_member: &dyn Fn(&GroupSpec) -> bool| {
        let id = (0_u16..).zip(groups).find(|(_, spec)| is_member(spec))?.0;
        Some(Group { id: GroupId(id), by_certificate })
    };
    let address = flow.remote.ip().to_canonical();
    by(true, &|spec| names.is_some_and(|names| spec.has_one_of(names)))
        .or_else(|| by(false, &|spec| spec.addresses.contains(&address)))
}

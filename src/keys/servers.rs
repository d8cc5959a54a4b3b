//! Keys, servers: who has the key of a B-TID, by the domain in it.
//!
//! Takes:   key servers, each with the domains that it makes B-TIDs for.
//! Gives:   [`Servers`], which asks the right one.
//! Keeps:   nothing.
//! Refuses: a B-TID of a domain that nobody serves, as one unknown: nobody is asked whom a peer names.
//! Sources: TS 33.220 clause 4.5.2 (B-TID); threat V-93.

use std::fmt;
use std::sync::Arc;

use super::{Asking, KeyAnswer, KeyServer, NafId};
use crate::identity::Btid;
use crate::instant::Now;

/// Key servers by the domain of their B-TIDs.
#[derive(Clone)]
pub struct Servers(Vec<(Arc<str>, Arc<dyn KeyServer>)>);

impl Servers {
    /// These; `None` if there is none.
    pub fn new(domains: Vec<(Arc<str>, Arc<dyn KeyServer>)>) -> Option<Self> {
        (!domains.is_empty()).then_some(Self(domains))
    }
}

impl KeyServer for Servers {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a> {
        let serves = |(domain, _): &&(Arc<str>, _)| domain.eq_ignore_ascii_case(btid.bsf());
        match self.0.iter().find(serves) {
            Some((_, server)) => server.ask(btid, naf, now),
            None => Box::pin(std::future::ready(KeyAnswer::Unknown)),
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(domain, _)| domain)).finish()
    }
}

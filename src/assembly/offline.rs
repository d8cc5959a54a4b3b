//! A plan that is not started: what an edge would do with a message, by its configuration alone.
//!
//! Takes:   a [`Plan`], octets, and how they would have come.
//! Gives:   the [`Account`] of an edge that has just begun: it knows no dialog, no registration and no key yet.
//! Keeps:   nothing; no socket is bound, and nobody is asked.
//! Refuses: a listener that is not there, or does not speak that transport.
//! Sources: `dialog-association` section 17 (`explain`).

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::Plan;
use crate::clock;
use crate::edge::Told;
use crate::forward::Proxy;
use crate::instant::Now;
use crate::journey::{Account, Journey};
use crate::keys::naf::{CacheBounds, NafCache};
use crate::transport::{BoundListener, Flows, ListenSpec};

impl Plan {
    /// What would become of a message that is the first to come, at `now`.
    ///
    /// # Errors
    ///
    /// Why it cannot come like that.
    pub fn explain(
        mut self,
        octets: Bytes,
        told: &Told,
        now: Now,
    ) -> Result<Account, &'static str> {
        let unbound = |spec: ListenSpec| Arc::new(BoundListener { local: spec.address, spec });
        let bound: Vec<_> = mem::take(&mut self.listeners).into_iter().map(unbound).collect();
        let listener = Arc::clone(told.listener(&bound)?);
        let names = self.bsf_names.iter().map(String::as_str);
        let keys = Arc::new(NafCache::new(CacheBounds::default(), names));
        let flows = Flows::new(self.limits, 0);
        let (shared, groups) = self.shared(&bound, &keys, &flows);
        let proxy = Proxy::new(Arc::clone(&shared), 0, clock::random(), clock::random());
        let arrival = told.arrival(&listener, &groups);
        Ok(Journey::new(shared, proxy).explain(octets, &arrival, now + told.ahead))
    }
}

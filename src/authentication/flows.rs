//! Stage 4, flows: what was proved on a flow, for as long as it holds.
//!
//! Takes:   verified requests on secure flows, registrations on any.
//! Gives:   the callers of a flow: evidence for requests inside dialogs, and the way back to a UE.
//! Keeps:   one entry for each such flow, `max` at most; gone when the flow closes or all its callers lapse.
//! Refuses: nothing; a flow that finds no room is remembered for nothing, so its requests give credentials.
//! Sources: RFC 5626 section 7 (flows that end); RFC 5922 section 8.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use smallvec::SmallVec;

use super::caller::Caller;
use crate::hashing::{Seeded, seeded};
use crate::instant::{Instant, Now};
use crate::transport::Flow;

/// A secure flow with more principals than this is a multiplexer and speaks for none of them.
pub const PRINCIPALS_MAX: usize = 4;

#[derive(Clone, Debug)]
struct Entry {
    caller: Arc<Caller>,
    until: Instant,
    registered: bool,
}

/// Flows on which something was proved.
#[derive(Debug)]
pub struct ProvedFlows {
    flows: DashMap<Flow, SmallVec<[Entry; 1]>, Seeded>,
    max: usize,
    principals_max: AtomicUsize,
}

impl ProvedFlows {
    /// No flows yet; `max` at most.
    pub fn new(max: usize, principals_max: usize) -> Self {
        let principals_max = AtomicUsize::new(principals_max);
        Self { flows: DashMap::with_hasher(seeded()), max, principals_max }
    }

    /// Lets a flow speak for so many principals from now on.
    pub fn set_principals_max(&self, most: usize) {
        self.principals_max.store(most, Ordering::Relaxed);
    }

    /// Notes that `caller` gave evidence on a secure flow.
    pub fn note_verified(&self, flow: &Flow, caller: &Arc<Caller>, now: Now) {
        if flow.transport.is_secure() {
            let until = caller.expires.map(|expires| now.mono + expires.since(now.wall));
            let until = until.unwrap_or(now.mono + Duration::from_secs(24 * 3600));
            self.note(flow, caller, until, false, now);
        }
    }

    /// Notes that `caller` registered from `flow` for `granted`.
    pub fn note_registered(&self, flow: &Flow, caller: &Arc<Caller>, granted: Duration, now: Now) {
        self.note(flow, caller, now.mono + granted + REGISTRATION_SLACK, true, now);
    }

    /// Notes that `caller` has no registration from `flow` any more.
    pub fn note_deregistered(&self, flow: &Flow, caller: &Arc<Caller>) {
        let Some(mut entries) = self.flows.get_mut(flow) else { return };
        for entry in entries.iter_mut().filter(|e| e.caller.principal == caller.principal) {
            entry.registered = false;
        }
        entries.retain(|entry| flow.transport.is_secure() || entry.registered);
        let empty = entries.is_empty();
        drop(entries);
        if empty {
            self.flows.remove_if(flow, |_, entries| entries.is_empty());
        }
    }

    fn note(&self, flow: &Flow, caller: &Arc<Caller>, until: Instant, registered: bool, now: Now) {
        if let Some(mut entries) = self.flows.get_mut(flow) {
            if let Some(entry) =
                entries.iter_mut().find(|entry| entry.caller.principal == caller.principal)
            {
                entry.until = entry.until.max(until);
                entry.registered |= registered;
                if entry.caller.key_name != caller.key_name {
                    entry.caller = Arc::clone(caller);
                    entry.until = until;
                }
                return;
            }
            entries.retain(|entry| entry.until > now.mono);
            if entries.len() <= self.principals_max.load(Ordering::Relaxed) {
                entries.push(Entry { caller: Arc::clone(caller), until, registered });
            }
            return;
        }
        if self.flows.len() < self.max {
            let entry = Entry { caller: Arc::clone(caller), until, registered };
            self.flows.entry(*flow).or_default().push(entry);
        }
    }

    /// Callers verified on a secure flow; none if it speaks for too many.
    pub fn verified(&self, flow: &Flow, now: Now) -> SmallVec<[Arc<Caller>; 1]> {
        if !flow.transport.is_secure() {
            return SmallVec::new();
        }
        let found = self.live(flow, now, |_| true);
        let most = self.principals_max.load(Ordering::Relaxed);
        if found.len() > most { SmallVec::new() } else { found }
    }

    /// Callers registered from a flow.
    pub fn registered(&self, flow: &Flow, now: Now) -> SmallVec<[Arc<Caller>; 1]> {
        self.live(flow, now, |entry| entry.registered)
    }

    fn live(
        &self,
        flow: &Flow,
        now: Now,
        wanted: impl Fn(&Entry) -> bool,
    ) -> SmallVec<[Arc<Caller>; 1]> {
        let Some(entries) = self.flows.get(flow) else { return SmallVec::new() };
        let holds = |entry: &&Entry| {
            entry.until > now.mono && !entry.caller.has_expired(now.wall) && wanted(entry)
        };
        entries.iter().filter(holds).map(|entry| Arc::clone(&entry.caller)).collect()
    }

    /// Forgets a flow: it was closed, or its address is gone.
    pub fn forget(&self, flow: &Flow) {
        self.flows.remove(flow);
    }

    /// Forgets what has lapsed; called now and then by the shell.
    pub fn sweep(&self, now: Now) {
        self.flows.retain(|_, entries| {
            entries.retain(|entry| entry.until > now.mono);
            !entries.is_empty()
        });
    }

    /// How many flows are remembered.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

/// A registration holds a little longer than was granted, since refreshes take time.
const REGISTRATION_SLACK: Duration = Duration::from_secs(30);

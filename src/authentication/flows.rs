//! Stage 4, flows: what was proved on a flow, for as long as it holds.
//!
//! Takes:   verified requests on secure flows, registrations on any.
//! Gives:   the callers of a flow: evidence for requests inside dialogs, and the way back to a UE.
//! Keeps:   one entry and one timer for each such flow, `max` at most; gone when the flow closes or all its callers
//!          lapse: with each turn of a worker, some.
//! Refuses: nothing; a flow that finds no room is remembered for nothing, so its requests give credentials.
//! Sources: RFC 5626 section 7 (flows that end); RFC 5922 section 8.1.
//!
//! Locks are taken in the order `flows`, `expiry`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::Entry;
use smallvec::SmallVec;

use super::caller::Caller;
use crate::expiry::{Expiry, Timer};
use crate::gate::Gate;
use crate::hashing::{Seeded, seeded};
use crate::instant::{Instant, Now};
use crate::layered::Layered;
use crate::transport::Flow;

/// A secure flow with more principals than this is a multiplexer and speaks for none of them.
pub const PRINCIPALS_MAX: usize = 4;

/// What one caller proved.
#[derive(Debug)]
struct Proved {
    caller: Arc<Caller>,
    until: Instant,
    registered: bool,
}

/// One flow.
#[derive(Debug, Default)]
struct Known {
    proved: SmallVec<[Proved; 1]>,
    timer: Timer,
}

/// Flows on which something was proved.
#[derive(Debug)]
pub struct ProvedFlows {
    flows: Layered<Flow, Known, Seeded>,
    expiry: Expiry<Flow>,
    held: AtomicUsize,
    max: usize,
    principals_max: AtomicUsize,
}

impl ProvedFlows {
    /// No flows yet; `max` at most.
    pub fn new(max: usize, principals_max: usize) -> Self {
        Self {
            flows: Layered::with_hasher(seeded()),
            expiry: Expiry::default(),
            held: AtomicUsize::new(0),
            max,
            principals_max: AtomicUsize::new(principals_max),
        }
    }

    /// Flows over those of `of`, which stay as they are.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let flows = of.authentication.flows();
        let (beneath, most) = (Arc::clone(of), flows.principals_max.load(Ordering::Relaxed));
        let twin = |proved: &Proved| Proved {
            caller: proved.caller.twin(),
            until: proved.until,
            registered: proved.registered,
        };
        let copy = move |flow: &Flow| {
            let known = beneath.authentication.flows().flows.get(flow)?;
            let proved = known.proved.iter().map(twin).collect();
            Some(Known { proved, timer: Timer::default() })
        };
        Self {
            flows: Layered::over(seeded(), copy),
            held: AtomicUsize::new(flows.len()),
            ..Self::new(flows.max, most)
        }
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
        self.remove_if(flow, |known| {
            for proved in known.proved.iter_mut().filter(|e| e.caller.principal == caller.principal)
            {
                proved.registered = false;
            }
            known.proved.retain(|proved| flow.transport.is_secure() || proved.registered);
            known.proved.is_empty()
        });
    }

    fn note(&self, flow: &Flow, caller: &Arc<Caller>, until: Instant, registered: bool, now: Now) {
        self.expire(now);
        let proved = Proved { caller: Arc::clone(caller), until, registered };
        if let Some(mut known) = self.flows.get_mut(flow) {
            self.add(&mut known, flow, proved, now);
            return;
        }
        if self.held.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.held.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        match self.flows.entry(*flow) {
            Entry::Occupied(mut known) => {
                self.held.fetch_sub(1, Ordering::AcqRel);
                self.add(known.get_mut(), flow, proved, now);
            }
            Entry::Vacant(place) => {
                self.add(&mut place.insert(Known::default()), flow, proved, now);
            }
        }
    }

    fn add(&self, known: &mut Known, flow: &Flow, new: Proved, now: Now) {
        let mut same = known.proved.iter_mut();
        if let Some(old) = same.find(|old| old.caller.principal == new.caller.principal) {
            old.until = old.until.max(new.until);
            old.registered |= new.registered;
            if old.caller.key_name != new.caller.key_name {
                old.until = new.until;
            }
            // His identities may be others since.
            old.caller = new.caller;
        } else {
            known.proved.retain(|old| old.until > now.mono);
            if known.proved.len() <= self.principals_max.load(Ordering::Relaxed) {
                known.proved.push(new);
            }
        }
        self.look(known, flow);
    }

    /// Sees to it that a flow is looked at when something on it lapses.
    fn look(&self, known: &mut Known, flow: &Flow) {
        let ends = known.proved.iter().map(|proved| proved.until);
        if let Some(end) = ends.min() {
            self.expiry.set(&mut known.timer, end, *flow);
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
        wanted: impl Fn(&Proved) -> bool,
    ) -> SmallVec<[Arc<Caller>; 1]> {
        let Some(known) = self.flows.get(flow) else { return SmallVec::new() };
        let holds = |entry: &&Proved| {
            entry.until > now.mono && !entry.caller.has_expired(now.wall) && wanted(entry)
        };
        known.proved.iter().filter(holds).map(|entry| Arc::clone(&entry.caller)).collect()
    }

    /// Forgets a flow: it was closed, or its address is gone.
    pub fn forget(&self, flow: &Flow) {
        self.remove_if(flow, |_| true);
    }

    /// Forgets what callers proved of whom `gone` holds: their account or key was taken back.
    pub fn take_back(&self, gone: impl Fn(&Caller) -> bool) {
        let has = |known: &Known| known.proved.iter().any(|proved| gone(&proved.caller));
        let flows: Vec<Flow> =
            self.flows.iter().filter(|known| has(known)).map(|known| *known.key()).collect();
        for flow in flows {
            self.remove_if(&flow, |known| {
                known.proved.retain(|proved| !gone(&proved.caller));
                known.proved.is_empty()
            });
        }
    }

    /// Forgets what has lapsed, so many flows at a time.
    pub fn expire(&self, now: Now) {
        for flow in self.expiry.expire(now.mono, AT_ONCE) {
            self.remove_if(&flow, |known| {
                if !known.timer.fired(now.mono) {
                    return false;
                }
                known.proved.retain(|proved| proved.until > now.mono);
                self.look(known, &flow);
                known.proved.is_empty()
            });
        }
    }

    /// Forgets all that has lapsed.
    pub fn sweep(&self, now: Now) {
        while self.expiry.next().is_some_and(|next| next <= now.mono) {
            self.expire(now);
        }
    }

    fn remove_if(&self, flow: &Flow, if_so: impl FnOnce(&mut Known) -> bool) {
        let gone = self.flows.remove_if_mut(flow, |_, known| if_so(known));
        if let Some((_, mut known)) = gone {
            self.expiry.cancel(&mut known.timer);
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// How many flows are remembered.
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Timers set: one for each flow that is remembered.
    pub fn timers(&self) -> usize {
        self.expiry.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How many flows are forgotten in one turn of a worker, at most.
const AT_ONCE: usize = 256;
/// A registration holds a little longer than was granted, since refreshes take time.
const REGISTRATION_SLACK: Duration = Duration::from_secs(30);

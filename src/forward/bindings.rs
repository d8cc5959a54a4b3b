//! Stage 7, bindings: which caller registered from which flow, and so how to reach him.
//!
//! Takes:   REGISTER requests as they are forwarded, the 2xx to them, flows that close.
//! Gives:   a number for the flow token; the flow, caller and Service-Route behind a number.
//! Keeps:   one entry for each (flow, caller, address of record), `max` at most; an entry whose REGISTER was
//!          not answered is dropped with the rest that has lapsed, when room is needed or a flow closes.
//! Refuses: nothing; a caller who finds no room is told so by stage 7 (503).
//! Sources: RFC 3327 section 5.2; RFC 3608 section 6.1; RFC 5626 sections 5.1 and 7; `RG-03`, `RG-06`, `OB-04`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use smallvec::SmallVec;

use crate::authentication::Caller;
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::instant::{Instant, Now};
use crate::transport::Flow;

/// One registration through us.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its number.
    pub number: u64,
    /// The flow it was made from.
    pub flow: Flow,
    /// Who made it.
    pub caller: Arc<Caller>,
    /// The address of record, in the form identities are compared in.
    pub aor: Arc<[u8]>,
    /// What the registrar said its requests must visit.
    pub service_route: Arc<[Box<[u8]>]>,
    /// Whether the registrar has answered 2xx.
    pub confirmed: bool,
    /// When it lapses.
    pub until: Instant,
}

type Owned = (Flow, Principal, Arc<[u8]>);

/// All registrations of this node.
#[derive(Debug)]
pub struct Bindings {
    by_number: DashMap<u64, Binding, Hashed>,
    by_owner: DashMap<Owned, u64, Seeded>,
    by_flow: DashMap<Flow, SmallVec<[u64; 1]>, Seeded>,
    next: AtomicU64,
    max: usize,
}

impl Bindings {
    /// None yet; `max` at most. `first` is where numbering begins, different in each process.
    pub fn new(max: usize, first: u64) -> Self {
        Self {
            by_number: DashMap::with_hasher(Hashed::default()),
            by_owner: DashMap::with_hasher(seeded()),
            by_flow: DashMap::with_hasher(seeded()),
            next: AtomicU64::new(first),
            max,
        }
    }

    /// The binding for a REGISTER about to be forwarded: the one there is, or a new one; `None` if there is no
    /// room.
    pub fn prepare(
        &self,
        flow: Flow,
        caller: &Arc<Caller>,
        aor: &[u8],
        now: Now,
    ) -> Option<Binding> {
        let owner: Owned = (flow, caller.principal.clone(), aor.into());
        let known = self.by_owner.get(&owner).map(|number| *number);
        if let Some(mut binding) = known.and_then(|number| self.by_number.get_mut(&number)) {
            binding.until = binding.until.max(now.mono + UNANSWERED);
            return Some(binding.clone());
        }
        if self.by_number.len() >= self.max {
            self.sweep(now);
        }
        if self.by_number.len() >= self.max {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let binding = Binding {
            number,
            flow,
            caller: Arc::clone(caller),
            aor: Arc::clone(&owner.2),
            service_route: Arc::new([]),
            confirmed: false,
            until: now.mono + UNANSWERED,
        };
        self.by_number.insert(number, binding.clone());
        self.by_owner.insert(owner, number);
        self.by_flow.entry(flow).or_default().push(number);
        Some(binding)
    }

    /// Notes a 2xx to the REGISTER of a binding: granted for so long, with that Service-Route; zero ends it.
    pub fn confirm(
        &self,
        number: u64,
        caller: &Arc<Caller>,
        granted: Duration,
        service_route: Arc<[Box<[u8]>]>,
        now: Now,
    ) {
        if granted.is_zero() {
            self.remove(number);
        } else if let Some(mut binding) = self.by_number.get_mut(&number) {
            binding.caller = Arc::clone(caller);
            binding.service_route = service_route;
            binding.confirmed = true;
            binding.until = now.mono + granted + SLACK;
        }
    }

    /// The binding of a number, while it holds.
    pub fn get(&self, number: u64, now: Now) -> Option<Binding> {
        let binding = self.by_number.get(&number)?;
        (binding.until > now.mono).then(|| binding.clone())
    }

    /// Another flow of the same caller and address of record on this node.
    pub fn another(&self, of: &Binding, now: Now) -> Option<Binding> {
        let same = |other: &Binding| {
            other.number != of.number
                && other.confirmed
                && other.until > now.mono
                && other.caller.principal == of.caller.principal
                && other.aor == of.aor
        };
        self.by_number.iter().find(|entry| same(entry.value())).map(|entry| entry.value().clone())
    }

    /// The bindings made from a flow.
    pub fn of_flow(&self, flow: &Flow, now: Now) -> SmallVec<[Binding; 1]> {
        let numbers = self.by_flow.get(flow).map(|numbers| numbers.clone()).unwrap_or_default();
        numbers.into_iter().filter_map(|number| self.get(number, now)).collect()
    }

    /// A flow was closed: its tokens lead nowhere from now on.
    pub fn close(&self, flow: &Flow) {
        let Some((_, numbers)) = self.by_flow.remove(flow) else { return };
        for number in numbers {
            self.remove(number);
        }
    }

    /// Drops what has lapsed.
    pub fn sweep(&self, now: Now) {
        let lapsed = |entry: &Binding| entry.until <= now.mono;
        let numbers: Vec<u64> = self
            .by_number
            .iter()
            .filter(|entry| lapsed(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        for number in numbers {
            self.remove(number);
        }
    }

    fn remove(&self, number: u64) {
        let Some((_, binding)) = self.by_number.remove(&number) else { return };
        self.by_owner.remove(&(binding.flow, binding.caller.principal.clone(), binding.aor));
        if let Some(mut numbers) = self.by_flow.get_mut(&binding.flow) {
            numbers.retain(|known| *known != number);
        }
        self.by_flow.remove_if(&binding.flow, |_, numbers| numbers.is_empty());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }
}

/// How long a REGISTER may stay unanswered: 64*T1.
const UNANSWERED: Duration = Duration::from_secs(32);
/// A binding holds a little longer than was granted, since refreshes take time.
const SLACK: Duration = Duration::from_secs(30);

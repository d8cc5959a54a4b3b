//! Stage 7, bindings: which caller registered from which flow, and so how to reach him.
//!
//! 1. A REGISTER that is forwarded makes a binding, and its 2xx confirms it. The same device, an instance and a reg-id,
//!    confirmed over a new flow, takes the place of its old flow; other instances are not touched.
//! 2. A flow that closes, or was replaced, is over. Its token leads to the other flows of the same address of record and
//!    instance as long as the registration would have held, and nowhere if there are none.
//! 3. A datagram flow that was to ping and is silent, or that nothing could be sent on, is in doubt: others come first.
//!    One that is silent is tried once, and then not until something comes from it.
//!
//! Takes:   REGISTER requests as they are forwarded, the 2xx to them, flows that close, pings, the time.
//! Gives:   a number for the flow token; the flows, caller and Service-Route behind a number.
//! Keeps:   one entry for each (flow, caller, address of record, device), `max` at most, until it lapses; an entry whose
//!          REGISTER was not answered for 32 s. Of one caller and address of record at most [`OF_OWNER_MAX`], of one
//!          instance in it at most [`OF_INSTANCE_MAX`]: those that are over go first, then the oldest. Beside each a
//!          timer, and its number under keyed hashes: of its flow, its owner, its instance, of all of it.
//! Refuses: nothing; a caller who finds no room is told so by stage 7 (503).
//! Sources: RFC 3327 section 5.2; RFC 3608 section 6.1; RFC 5626 sections 4.4, 5.1, 5.3.1 and 7; `RG-03`, `RG-06`,
//!          `OB-04`, `KA-03`, section 10.5 of the rules on associations.
//!
//! Locks are taken in the order `by_number`, `index`, `expiry`, and no two of one table.

mod leads;

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

pub use leads::Lead;

use super::Shared;
use super::token::Plain;
use crate::authentication::Caller;
use crate::expiry::{Expiry, Timer};
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::instant::{Instant, Now};
use crate::layered::Layered;
use crate::transport::{Flow, Transport};
use crate::wire::device::{Device, Instance};

/// One registration through us.
#[derive(Debug)]
pub struct Binding {
    /// The flow it was made from.
    pub flow: Flow,
    /// Who made it.
    pub caller: Arc<Caller>,
    /// What its token says of the caller: eight octets of the hash of his name.
    pub mark: u64,
    /// The address of record, in the form identities are compared in.
    pub aor: Arc<[u8]>,
    /// Which of his devices it is, if it says so.
    pub device: Option<Device>,
    /// What the registrar said its requests must visit.
    pub service_route: Option<Arc<[Box<[u8]>]>>,
    /// How it stands.
    pub standing: Standing,
    /// When it lapses.
    pub until: Instant,
    /// How often it was told to ping.
    pub pings: Option<Duration>,
    /// When it last did, or registered.
    heard: Instant,
    /// Whether something was sent there since it fell silent.
    tried: bool,
    /// Whether the last datagram could not be sent.
    lost: bool,
    timer: Timer,
}

/// How a binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The registrar has not answered yet.
    Asked,
    /// The registrar has answered 2xx.
    Confirmed,
    /// Its flow is closed, or was replaced.
    Over,
}

/// What the registrar, and we, said in the 2xx to a REGISTER.
#[derive(Debug)]
pub struct Told<'t> {
    /// Who asked.
    pub caller: &'t Arc<Caller>,
    /// For how long; zero ends it.
    pub granted: Duration,
    /// What his requests must visit.
    pub service_route: Option<Arc<[Box<[u8]>]>>,
    /// How often the flow is to ping (Flow-Timer).
    pub pings: Option<Duration>,
    /// Whether the flow is open.
    pub open: bool,
}

/// Flows, the first choice first.
pub type Flows = SmallVec<[Flow; 2]>;

/// Whose a binding is.
#[derive(Clone, Copy, Hash, PartialEq, Eq)]
struct Owner<'o> {
    principal: &'o Principal,
    aor: &'o [u8],
}

/// What numbers are looked for with.
#[derive(Hash)]
enum Key<'k> {
    Exact(&'k Flow, Owner<'k>, Option<Device>),
    Flow(&'k Flow),
    Owner(Owner<'k>),
    Instance(Owner<'k>, Instance),
}

impl Binding {
    /// The same, without its timer.
    fn twin(&self) -> Self {
        let (caller, aor) = (Arc::clone(&self.caller), Arc::clone(&self.aor));
        let (service_route, timer) = (self.service_route.clone(), Timer::default());
        Self { caller, aor, service_route, timer, ..*self }
    }

    fn owner(&self) -> Owner<'_> {
        Owner { principal: &self.caller.principal, aor: &self.aor }
    }

    fn is_silent(&self, now: Now) -> bool {
        let late = |pings: Duration| now.mono.since(self.heard) >= grace(pings);
        self.flow.transport == Transport::Udp && self.pings.is_some_and(late)
    }
}

/// How long a flow may be silent that was told to ping so often: half as long again, for what is under way.
pub fn grace(pings: Duration) -> Duration {
    pings.saturating_add(pings.checked_div(2).unwrap_or_default())
}

type Numbers = SmallVec<[u64; 1]>;

/// All registrations of this node.
#[derive(Debug)]
pub struct Bindings {
    by_number: Layered<u64, Binding, Hashed>,
    /// Numbers by what they are looked for with, as a keyed hash: whoever looks compares.
    index: Layered<u64, Numbers, Hashed>,
    expiry: Expiry<u64>,
    hasher: Seeded,
    held: AtomicUsize,
    next: AtomicU64,
    max: usize,
}

impl Bindings {
    /// None yet; `max` at most. `first` is where numbering begins, different in each process.
    pub fn new(max: usize, first: u64) -> Self {
        Self {
            by_number: Layered::with_hasher(Hashed::default()),
            index: Layered::with_hasher(Hashed::default()),
            expiry: Expiry::default(),
            hasher: seeded(),
            held: AtomicUsize::new(0),
            next: AtomicU64::new(first),
            max,
        }
    }

    /// Bindings over those of `of`, which stay as they are.
    pub(super) fn trial(of: &Arc<Shared>) -> Self {
        let bindings = &of.bindings;
        let [one, two] = [(); 2].map(|()| Arc::clone(of));
        let copy = move |number: &u64| one.bindings.by_number.get(number).map(|of| of.twin());
        Self {
            by_number: Layered::over(Hashed::default(), copy),
            index: Layered::over(Hashed::default(), move |mark| {
                two.bindings.index.get(mark).map(|numbers| numbers.clone())
            }),
            expiry: Expiry::default(),
            hasher: bindings.hasher.clone(),
            held: AtomicUsize::new(bindings.len()),
            next: AtomicU64::new(bindings.next.load(Ordering::Relaxed)),
            max: bindings.max,
        }
    }

    /// The binding for a REGISTER about to be forwarded: the one there is, or a new one; `None` if there is no
    /// room.
    pub fn prepare(
        &self,
        flow: Flow,
        caller: &Arc<Caller>,
        aor: &[u8],
        device: Option<Device>,
        now: Now,
    ) -> Option<Plain> {
        self.expire(now);
        let owner = Owner { principal: &caller.principal, aor };
        for number in self.numbers(&Key::Exact(&flow, owner, device)) {
            if let Some(mut known) = self.by_number.get_mut(&number)
                && (known.flow, known.device) == (flow, device)
                && known.owner() == owner
            {
                known.until = known.until.max(now.mono + UNANSWERED);
                return Some(Plain { binding: number, caller: known.mark });
            }
        }
        if self.held.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.held.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut binding = Binding {
            flow,
            caller: Arc::clone(caller),
            mark: mark_of(&caller.principal),
            aor: aor.into(),
            device,
            service_route: None,
            standing: Standing::Asked,
            until: now.mono + UNANSWERED,
            pings: None,
            heard: now.mono,
            tried: false,
            lost: false,
            timer: Timer::default(),
        };
        let plain = Plain { binding: number, caller: binding.mark };
        self.expiry.set(&mut binding.timer, binding.until, number);
        self.by_number.insert(number, binding);
        for key in keys(&flow, owner, device) {
            if let Some(oldest) = self.enter(&key, number) {
                self.remove(oldest, |_| true);
            }
        }
        Some(plain)
    }

    /// Notes a 2xx to the REGISTER of a binding. Gives the other flows that serve no longer for it.
    pub fn confirm(&self, number: u64, told: Told<'_>, now: Now) -> Flows {
        if told.granted.is_zero() {
            let ended = self.get(number, now, |of| (of.caller.clone(), of.aor.clone(), of.device));
            self.remove(number, |_| true);
            let Some((caller, aor, device)) = ended else { return Flows::new() };
            let device = device.filter(|device| device.reg_id.is_some());
            let end = |device| self.end(&caller.principal, &aor, device, now);
            return device.map(end).unwrap_or_default();
        }
        let Some(mut binding) = self.by_number.get_mut(&number) else { return Flows::new() };
        let of = &mut *binding;
        of.caller = Arc::clone(told.caller);
        of.service_route = told.service_route;
        let was_over = of.standing == Standing::Over;
        of.standing = if told.open { Standing::Confirmed } else { Standing::Over };
        of.until = now.mono + told.granted + SLACK;
        (of.pings, of.heard, of.tried, of.lost) = (told.pings, now.mono, false, false);
        self.expiry.set(&mut of.timer, of.until, number);
        let (caller, aor, device, open) = (of.caller.clone(), of.aor.clone(), of.device, told.open);
        drop(binding);
        let owner = Owner { principal: &caller.principal, aor: &aor };
        if was_over && open {
            self.move_among(number, owner, device, |numbers| numbers.len());
        }
        match device.filter(|device| device.reg_id.is_some() && open) {
            Some(device) => self.supersede(number, owner, device, now),
            None => Flows::new(),
        }
    }

    /// A device is confirmed: its other flows are over.
    fn supersede(&self, number: u64, owner: Owner<'_>, device: Device, now: Now) -> Flows {
        let mut replaced = Flows::new();
        for other in self.numbers(&Key::Instance(owner, device.instance)) {
            let is_old = |of: &Binding| {
                of.standing == Standing::Confirmed
                    && of.device == Some(device)
                    && of.owner() == owner
            };
            let flow = self.get(other, now, |of| is_old(of).then_some(of.flow)).flatten();
            if let Some(flow) = flow.filter(|_| other != number) {
                self.retire(other);
                replaced.push(flow);
            }
        }
        replaced
    }

    /// A device was taken away, over whichever flow. Gives the flows it had.
    pub fn end(&self, principal: &Principal, aor: &[u8], device: Device, now: Now) -> Flows {
        let owner = Owner { principal, aor };
        let numbers = self.numbers(&Key::Instance(owner, device.instance));
        self.end_those(numbers, owner, |of| of.device == Some(device), now)
    }

    /// All that is registered for an address of record was taken away. Gives the flows it had.
    pub fn end_all(&self, principal: &Principal, aor: &[u8], now: Now) -> Flows {
        let owner = Owner { principal, aor };
        self.end_those(self.numbers(&Key::Owner(owner)), owner, |_| true, now)
    }

    fn end_those(
        &self,
        numbers: Numbers,
        owner: Owner<'_>,
        those: impl Fn(&Binding) -> bool,
        now: Now,
    ) -> Flows {
        let mut ended = Flows::new();
        for number in numbers {
            let is = |of: &Binding| of.owner() == owner && those(of);
            let flow = self.get(number, now, |of| is(of).then_some(of.flow)).flatten();
            if let Some(flow) = flow {
                self.remove(number, |_| true);
                ended.push(flow);
            }
        }
        ended
    }

    /// What `look` finds at the binding of a number, while it holds. Nothing else may be asked of the table meanwhile.
    pub fn get<R>(&self, number: u64, now: Now, look: impl FnOnce(&Binding) -> R) -> Option<R> {
        #[cfg(test)]
        tests::LOOKED.set(tests::LOOKED.get() + 1);
        let binding = self.by_number.get(&number)?;
        (binding.until > now.mono).then(|| look(&binding))
    }

    /// The flow that a token was made for, and whether it is still that of its binding.
    pub fn flow_of(&self, plain: Plain, now: Now) -> Option<Flow> {
        let is = |of: &Binding| of.standing != Standing::Over && of.mark == plain.caller;
        self.get(plain.binding, now, |of| is(of).then_some(of.flow)).flatten()
    }

    /// Something came on a flow: it is in doubt no longer.
    pub fn heard(&self, flow: &Flow, now: Now) {
        self.each_of(flow, |of| (of.heard, of.tried, of.lost) = (now.mono, false, false));
    }

    /// A datagram could not be sent on a flow: it is in doubt.
    pub fn lost(&self, flow: &Flow) {
        self.each_of(flow, |of| of.lost = true);
    }

    fn each_of(&self, flow: &Flow, change: impl Fn(&mut Binding)) {
        for number in self.numbers(&Key::Flow(flow)) {
            let binding = self.by_number.get_mut(&number);
            if let Some(mut binding) = binding.filter(|binding| binding.flow == *flow) {
                change(&mut binding);
            }
        }
    }

    /// How often a flow is to ping by what is registered from it, and until when.
    pub fn pings(&self, flow: &Flow, now: Now) -> Option<(Duration, Instant)> {
        let numbers = self.numbers(&Key::Flow(flow)).into_iter();
        let found = numbers.filter_map(|number| {
            let is = |of: &Binding| of.standing == Standing::Confirmed && of.flow == *flow;
            let look = |of: &Binding| Some((of.pings.filter(|_| is(of))?, of.until));
            self.get(number, now, look).flatten()
        });
        found.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// Whether `principal` is registered from a flow.
    pub fn is_registered(&self, flow: &Flow, principal: &Principal, now: Now) -> bool {
        self.numbers(&Key::Flow(flow)).into_iter().any(|number| {
            let is = |of: &Binding| {
                of.standing == Standing::Confirmed
                    && of.flow == *flow
                    && of.caller.principal == *principal
            };
            self.get(number, now, is) == Some(true)
        })
    }

    /// The Service-Route of the first binding that `principal` has on a flow.
    pub fn service_route(
        &self,
        flow: &Flow,
        principal: &Principal,
        now: Now,
    ) -> Option<Arc<[Box<[u8]>]>> {
        let found = self.numbers(&Key::Flow(flow)).into_iter().find_map(|number| {
            let is =
                |binding: &Binding| binding.flow == *flow && binding.caller.principal == *principal;
            self.get(number, now, |of| is(of).then(|| of.service_route.clone())).flatten()
        });
        found.flatten()
    }

    /// A flow was closed: nothing is sent there from now on, whatever token names it. Says whether any did.
    pub fn close(&self, flow: &Flow) -> bool {
        let mut named = false;
        for number in self.numbers(&Key::Flow(flow)) {
            let found = self.by_number.get(&number);
            let found = found.filter(|binding| binding.flow == *flow);
            match found
                .map(|binding| binding.standing != Standing::Asked && binding.device.is_some())
            {
                Some(true) => self.retire(number),
                Some(false) => self.remove(number, |_| true),
                None => continue,
            }
            named = true;
        }
        named
    }

    /// A binding is over: it stays for what its number says, and makes room before all others.
    fn retire(&self, number: u64) {
        let Some(mut binding) = self.by_number.get_mut(&number) else { return };
        binding.standing = Standing::Over;
        let (caller, aor, device) = (binding.caller.clone(), binding.aor.clone(), binding.device);
        drop(binding);
        let owner = Owner { principal: &caller.principal, aor: &aor };
        self.move_among(number, owner, device, |_| 0);
    }

    /// Gives a number another place among those of its owner and its instance.
    fn move_among(
        &self,
        number: u64,
        owner: Owner<'_>,
        device: Option<Device>,
        place: impl Fn(&Numbers) -> usize,
    ) {
        let of_instance = device.map(|device| Key::Instance(owner, device.instance));
        for key in of_instance.into_iter().chain([Key::Owner(owner)]) {
            if let Some(mut numbers) = self.index.get_mut(&self.mark(&key))
                && let Some(at) = numbers.iter().position(|known| *known == number)
            {
                numbers.remove(at);
                let place = place(&numbers);
                numbers.insert(place, number);
            }
        }
    }

    /// Drops what has lapsed, so many at a time.
    pub fn expire(&self, now: Now) {
        for number in self.expiry.expire(now.mono, AT_ONCE) {
            self.remove(number, |binding| {
                if !binding.timer.fired(now.mono) {
                    return false;
                }
                let lapsed = binding.until <= now.mono;
                if !lapsed {
                    self.expiry.set(&mut binding.timer, binding.until, number);
                }
                lapsed
            });
        }
    }

    /// Drops all that has lapsed.
    pub fn sweep(&self, now: Now) {
        while self.expiry.next().is_some_and(|next| next <= now.mono) {
            self.expire(now);
        }
    }

    fn remove(&self, number: u64, if_so: impl FnOnce(&mut Binding) -> bool) {
        let gone = self.by_number.remove_if_mut(&number, |_, binding| if_so(binding));
        let Some((_, mut binding)) = gone else { return };
        self.expiry.cancel(&mut binding.timer);
        self.held.fetch_sub(1, Ordering::AcqRel);
        for key in keys(&binding.flow, binding.owner(), binding.device) {
            self.index.remove_if_mut(&self.mark(&key), |_, numbers| {
                numbers.retain(|known| *known != number);
                numbers.is_empty()
            });
        }
    }

    /// Enters a number under a key; gives the one that has to go for it.
    fn enter(&self, key: &Key<'_>, number: u64) -> Option<u64> {
        let most = match key {
            Key::Exact(..) | Key::Flow(_) => usize::MAX,
            Key::Owner(_) => OF_OWNER_MAX,
            Key::Instance(..) => OF_INSTANCE_MAX,
        };
        let mut numbers = self.index.entry(self.mark(key)).or_default();
        let oldest = (numbers.len() >= most).then(|| numbers.remove(0));
        numbers.push(number);
        oldest
    }

    fn numbers(&self, key: &Key<'_>) -> Numbers {
        self.index.get(&self.mark(key)).map(|numbers| numbers.clone()).unwrap_or_default()
    }

    fn mark(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in the index and timers set, which both go with their bindings.
    pub fn kept(&self) -> (usize, usize) {
        (self.index.iter().map(|numbers| numbers.len()).sum(), self.expiry.len())
    }
}

/// What a binding is found by.
fn keys<'k>(
    flow: &'k Flow,
    owner: Owner<'k>,
    device: Option<Device>,
) -> impl Iterator<Item = Key<'k>> {
    let instance = device.map(|device| Key::Instance(owner, device.instance));
    [Key::Exact(flow, owner, device), Key::Flow(flow), Key::Owner(owner)]
        .into_iter()
        .chain(instance)
}

fn mark_of(principal: &Principal) -> u64 {
    let name = Sha256::digest(principal.name.as_bytes());
    u64::from_be_bytes(name.first_chunk::<8>().copied().unwrap_or_default())
}

/// Most bindings of one caller and address of record.
pub const OF_OWNER_MAX: usize = 64;
/// Most of one instance in them: four flows (RFC 5626 section 4.2.1), and an old one of each.
pub const OF_INSTANCE_MAX: usize = 8;
/// How many lapse in one turn of a worker, at most.
const AT_ONCE: usize = 256;
/// How long a REGISTER may stay unanswered: 64*T1.
const UNANSWERED: Duration = Duration::from_secs(32);
/// A binding holds a little longer than was granted, since refreshes take time.
const SLACK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;

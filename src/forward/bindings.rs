//! Stage 7, bindings: which caller registered from which flow, and so how to reach him.
//!
//! Takes:   REGISTER requests as they are forwarded, the 2xx to them, flows that close, the time.
//! Gives:   a number for the flow token; the flow, caller and Service-Route behind a number.
//! Keeps:   one entry for each (flow, caller, address of record), `max` at most, until it lapses; an entry whose
//!          REGISTER was not answered for 32 s. Beside it a timer, and its number under three keyed hashes: of its
//!          flow, of its owner, of both. Under an owner only the newest [`OF_OWNER_MAX`] are found.
//! Refuses: nothing; a caller who finds no room is told so by stage 7 (503).
//! Sources: RFC 3327 section 5.2; RFC 3608 section 6.1; RFC 5626 sections 5.1 and 7; `RG-03`, `RG-06`, `OB-04`.
//!
//! Locks are taken in the order `by_number`, `index`, `expiry`, and no two of one table.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::token::Plain;
use crate::authentication::Caller;
use crate::expiry::{Expiry, Timer};
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::instant::{Instant, Now};
use crate::transport::Flow;

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
    /// What the registrar said its requests must visit.
    pub service_route: Option<Arc<[Box<[u8]>]>>,
    /// Whether the registrar has answered 2xx.
    pub confirmed: bool,
    /// When it lapses.
    pub until: Instant,
    timer: Timer,
}

impl Binding {
    fn is_of(&self, principal: &Principal, aor: &[u8]) -> bool {
        *self.aor == *aor && self.caller.principal == *principal
    }
}

type Numbers = SmallVec<[u64; 1]>;

/// All registrations of this node.
#[derive(Debug)]
pub struct Bindings {
    by_number: DashMap<u64, Binding, Hashed>,
    /// Numbers by what they are looked for with, as a keyed hash: whoever looks compares.
    index: DashMap<u64, Numbers, Hashed>,
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
            by_number: DashMap::with_hasher(Hashed::default()),
            index: DashMap::with_hasher(Hashed::default()),
            expiry: Expiry::default(),
            hasher: seeded(),
            held: AtomicUsize::new(0),
            next: AtomicU64::new(first),
            max,
        }
    }

    /// The binding for a REGISTER about to be forwarded: the one there is, or a new one; `None` if there is no
    /// room.
    pub fn prepare(&self, flow: Flow, caller: &Arc<Caller>, aor: &[u8], now: Now) -> Option<Plain> {
        self.expire(now);
        let exact = self.mark(Some(&flow), Some((&caller.principal, aor)));
        for number in self.numbers(exact) {
            if let Some(mut known) = self.by_number.get_mut(&number)
                && known.flow == flow
                && known.is_of(&caller.principal, aor)
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
            service_route: None,
            confirmed: false,
            until: now.mono + UNANSWERED,
            timer: Timer::default(),
        };
        let plain = Plain { binding: number, caller: binding.mark };
        self.expiry.set(&mut binding.timer, binding.until, number);
        self.by_number.insert(number, binding);
        let owner = self.mark(None, Some((&caller.principal, aor)));
        for mark in [exact, self.mark(Some(&flow), None), owner] {
            let mut numbers = self.index.entry(mark).or_default();
            if mark == owner && numbers.len() >= OF_OWNER_MAX {
                numbers.remove(0);
            }
            numbers.push(number);
        }
        Some(plain)
    }

    /// Notes a 2xx to the REGISTER of a binding: granted for so long, with that Service-Route; zero ends it.
    pub fn confirm(
        &self,
        number: u64,
        caller: &Arc<Caller>,
        granted: Duration,
        service_route: Option<Arc<[Box<[u8]>]>>,
        now: Now,
    ) {
        if granted.is_zero() {
            self.remove(number, |_| true);
        } else if let Some(mut binding) = self.by_number.get_mut(&number) {
            let binding = &mut *binding;
            binding.caller = Arc::clone(caller);
            binding.service_route = service_route;
            binding.confirmed = true;
            binding.until = now.mono + granted + SLACK;
            self.expiry.set(&mut binding.timer, binding.until, number);
        }
    }

    /// What `look` finds at the binding of a number, while it holds. Nothing else may be asked of the table meanwhile.
    pub fn get<R>(&self, number: u64, now: Now, look: impl FnOnce(&Binding) -> R) -> Option<R> {
        #[cfg(test)]
        tests::LOOKED.set(tests::LOOKED.get() + 1);
        let binding = self.by_number.get(&number)?;
        (binding.until > now.mono).then(|| look(&binding))
    }

    /// The newest other flow of an owner on this node: of those that are found by owner.
    pub fn another(
        &self,
        number: u64,
        principal: &Principal,
        aor: &[u8],
        now: Now,
    ) -> Option<Flow> {
        let numbers = self.numbers(self.mark(None, Some((principal, aor))));
        numbers.into_iter().rev().filter(|other| *other != number).find_map(|other| {
            let serves = |other: &Binding| other.confirmed && other.is_of(principal, aor);
            self.get(other, now, |other| serves(other).then_some(other.flow)).flatten()
        })
    }

    /// The Service-Route of the first binding that `principal` has on a flow.
    pub fn service_route(
        &self,
        flow: &Flow,
        principal: &Principal,
        now: Now,
    ) -> Option<Arc<[Box<[u8]>]>> {
        let numbers = self.numbers(self.mark(Some(flow), None));
        let found = numbers.into_iter().find_map(|number| {
            let is =
                |binding: &Binding| binding.flow == *flow && binding.caller.principal == *principal;
            self.get(number, now, |of| is(of).then(|| of.service_route.clone())).flatten()
        });
        found.flatten()
    }

    /// A flow was closed: its tokens lead nowhere from now on.
    pub fn close(&self, flow: &Flow) {
        let Some((_, numbers)) = self.index.remove(&self.mark(Some(flow), None)) else { return };
        for number in numbers {
            self.remove(number, |binding| binding.flow == *flow);
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
        let (flow, owner) = (&binding.flow, (&binding.caller.principal, &*binding.aor));
        for (flow, owner) in [(Some(flow), Some(owner)), (Some(flow), None), (None, Some(owner))] {
            let mark = self.mark(flow, owner);
            self.index.remove_if_mut(&mark, |_, numbers| {
                numbers.retain(|known| *known != number);
                numbers.is_empty()
            });
        }
    }

    fn numbers(&self, mark: u64) -> Numbers {
        self.index.get(&mark).map(|numbers| numbers.clone()).unwrap_or_default()
    }

    fn mark(&self, flow: Option<&Flow>, owner: Option<(&Principal, &[u8])>) -> u64 {
        self.hasher.hash_one((flow, owner))
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

fn mark_of(principal: &Principal) -> u64 {
    let name = Sha256::digest(principal.name.as_bytes());
    u64::from_be_bytes(name.first_chunk::<8>().copied().unwrap_or_default())
}

/// Most bindings of one owner that are found by it: more flows than these no device has.
pub const OF_OWNER_MAX: usize = 16;
/// How many lapse in one turn of a worker, at most.
const AT_ONCE: usize = 256;
/// How long a REGISTER may stay unanswered: 64*T1.
const UNANSWERED: Duration = Duration::from_secs(32);
/// A binding holds a little longer than was granted, since refreshes take time.
const SLACK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::identity::Proof;
    use crate::instant::WallTime;
    use crate::transport::{ListenerId, Transport};

    std::thread_local! {
        /// Bindings that were looked at.
        pub(super) static LOOKED: Cell<usize> = const { Cell::new(0) };
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Instant::from_micros(seconds * 1_000_000), wall: WallTime::from_unix(seconds) }
    }

    fn flow(number: u32) -> Flow {
        let [a, b, c, d] = number.to_be_bytes();
        let remote = ([10, a, b, c], 1024 + u16::from(d)).into();
        Flow { transport: Transport::Udp, listener: ListenerId(0), remote, connection: None }
    }

    fn caller(name: &str) -> Arc<Caller> {
        Arc::new(Caller {
            principal: Principal::new(Proof::Account, name),
            identities: Arc::from([]),
            key_name: name.into(),
            expires: None,
            strongest: 0.into(),
            rights: Default::default(),
        })
    }

    fn register(bindings: &Bindings, from: u32, name: &str, now: Now) -> u64 {
        let (caller, hour) = (caller(name), Duration::from_secs(3600));
        let plain = bindings.prepare(flow(from), &caller, name.as_bytes(), now).expect("room");
        bindings.confirm(plain.binding, &caller, hour, None, now);
        plain.binding
    }

    fn another(bindings: &Bindings, number: u64, name: &str, now: Now) -> Option<Flow> {
        bindings.another(number, &Principal::new(Proof::Account, name), name.as_bytes(), now)
    }

    #[test]
    fn another_flow_is_found_as_soon_among_many_registrations_as_among_few() {
        for many in [1_000, 10_000, 100_000] {
            let bindings = Bindings::new(many as usize + 2, 1);
            for number in 0..many {
                register(&bindings, number, &format!("ue{number}"), at(0));
            }
            let numbers = [many, many + 1].map(|from| register(&bindings, from, "two", at(0)));
            LOOKED.set(0);
            assert_eq!(another(&bindings, numbers[0], "two", at(1)), Some(flow(many + 1)));
            assert_eq!(another(&bindings, numbers[1], "two", at(1)), Some(flow(many)));
            assert_eq!(another(&bindings, 1, "ue0", at(1)), None);
            assert_eq!(LOOKED.get(), 2, "among {many}");
        }
    }

    #[test]
    fn nobody_makes_us_look_at_more_than_sixteen() {
        let bindings = Bindings::new(10_000, 1);
        let first = register(&bindings, 0, "one", at(0));
        for from in 1..5_000 {
            register(&bindings, from, "one", at(0));
        }
        let principal = Principal::new(Proof::Account, "one");
        let mark = bindings.mark(None, Some((&principal, b"one")));
        assert_eq!(bindings.numbers(mark).len(), OF_OWNER_MAX);
        assert_eq!(another(&bindings, first, "one", at(1)), Some(flow(4_999)), "the newest");
        LOOKED.set(0);
        assert_eq!(another(&bindings, first, "one", at(3630)), None, "all have lapsed");
        assert_eq!(LOOKED.get(), OF_OWNER_MAX);
    }

    #[test]
    fn a_binding_leaves_nothing_behind_however_it_ends() {
        type End = fn(&Bindings, u64);
        let ends: [(&str, End); 3] = [
            ("lapsed", |bindings, _| bindings.sweep(at(3631))),
            ("closed", |bindings, _| (0..100).for_each(|from| bindings.close(&flow(from)))),
            ("one ended, the others lapsed", |bindings, number| {
                bindings.confirm(number, &caller("x"), Duration::ZERO, None, at(1));
                assert_eq!(bindings.len(), 299);
                bindings.sweep(at(3631));
            }),
        ];
        for (what, end) in ends {
            let bindings = Bindings::new(10_000, 1);
            let mut last = 0;
            for number in 0..300_u32 {
                last = register(&bindings, number % 100, &format!("ue{}", number % 7), at(0));
            }
            assert_eq!((bindings.len(), bindings.kept().1), (300, 300), "{what}: a timer each");
            end(&bindings, last);
            assert_eq!((bindings.len(), bindings.kept()), (0, (0, 0)), "{what}");
        }
    }

    #[test]
    fn a_refresh_holds_longer_and_is_no_other_binding() {
        let bindings = Bindings::new(1, 1);
        let number = register(&bindings, 1, "one", at(0));
        assert_eq!(register(&bindings, 1, "one", at(3000)), number);
        assert_eq!(bindings.prepare(flow(2), &caller("one"), b"one", at(3000)), None, "no room");
        bindings.sweep(at(3700));
        assert!(bindings.get(number, at(6629), |_| ()).is_some());
        assert!(bindings.get(number, at(6630), |_| ()).is_none());
        let next = bindings.prepare(flow(2), &caller("one"), b"one", at(6631)).expect("room again");
        bindings.sweep(at(6631 + 33));
        assert_eq!((bindings.len(), next.binding > number), (0, true), "nobody answered");
    }
}

//! Stage 6, enabler: what the class of a request demands of its caller.
//!
//! 1. Direction: who may send the class at all.
//! 2. Level and secure flow, and the number that is dialled, in both modes.
//! 3. Integrity, entitlement, length; then what the class itself looks at.
//! 4. How many dialogs are open, how much was sent, whether it was here before.
//!
//! Takes:   [`Bound`], and the class that stage 3 read from the headers.
//! Gives:   [`Permitted`], the only thing that stage 7 forwards.
//! Keeps:   one bucket for each caller and class, and what may be there once, bounded.
//! Refuses: by the demands of the class, and by its own checks. Where it only observes, all but direction of push, level
//!          and secure flow pass and are told of; registration is never only observed.
//! Sources: SEC_CF 1.1 (OMA-RD-SEC_CF) section 5; RFC 3261 section 16.3 item 6.

pub mod body;
pub mod check;
pub mod class;
pub mod cpm;
pub mod demands;
pub mod genuine;
pub mod hint;
pub mod locsip;
pub mod numbers;
pub mod own;
pub mod push;
pub mod rates;
pub mod reg;
pub mod service;
pub mod sip;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use smallvec::SmallVec;

pub use class::{Class, ClassSet, Family};
pub use demands::{Demands, Entitlement, Integrity};
pub use hint::{Recognisers, Unfit};
pub use rates::{Meter, Payer, Toll, Tolls};

use self::genuine::Genuine;
use self::numbers::{Numbers, Pace, Reach};
use crate::admission::Rate;
use crate::association::{Associations, Bound, Ruling};
use crate::authentication::Caller;
use crate::gate::{Gate, Halt};
use crate::identity::Principal;
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow, Side};
use crate::wire::{Message, Method, Uri};
use rates::Counts;

/// The policy of a family of classes.
///
/// What an attacker gains if an implementation errs: a request of a class that its caller may not use, or
/// without the protection that its content needs; never an identity, since stages 4 and 5 stand before it.
pub trait EnablerPolicy: Send + Sync {
    /// What it demands of every request of `class`.
    fn demands(&self, class: Class) -> &Demands;

    /// Whether requests of the class may come from `side`, inside a dialog of the class or not.
    fn allows_direction(&self, side: Side, in_dialog: bool) -> bool;

    /// Where responses must cover the body, of that method.
    fn integrity(&self, class: Class, _method: Method) -> Integrity {
        self.demands(class).integrity
    }

    /// Looks at one request beyond the demands, from whichever side it comes.
    ///
    /// # Errors
    ///
    /// The refusal that the request earns.
    fn check(&self, _bound: &Bound<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// What one request pays. On the core side a dialog pays, and nobody outside of one.
    fn tolls(&self, bound: &Bound<'_>) -> Tolls {
        usual_tolls(self.demands(bound.class()), bound)
    }

    /// What may be there once within ten minutes, if the request is such a thing.
    fn once(&self, _bound: &Bound<'_>) -> Option<Box<[u8]>> {
        None
    }

    /// Whether a request from the core may go to its UE on `flow`: where the class asks for a secure flow, on one.
    ///
    /// # Errors
    ///
    /// The refusal that the request earns if no other flow will do.
    fn deliver(&self, bound: &Bound<'_>, flow: &Flow) -> Result<(), Refusal> {
        let secure = self.demands(bound.class()).secure;
        if secure && !flow.transport.is_secure() { Err(Refusal::Unreachable) } else { Ok(()) }
    }

    /// Whether a request that no flow is safe enough for may go wrapped, under an association with its UE.
    fn wraps(&self, _bound: &Bound<'_>) -> bool {
        false
    }

    /// How much one UE may be sent of the class.
    fn delivery_rate(&self) -> Option<Rate> {
        None
    }
}

/// How a request from the core goes to its UE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it is.
    Open,
    /// Wrapped, under an association with the UE: no flow to it is safe enough.
    Wrapped,
}

/// Requests, and new dialogs, by the demands of their class.
pub fn usual_tolls(demands: &Demands, bound: &Bound<'_>) -> Tolls {
    let class = bound.class();
    let mut tolls = Tolls::new();
    if bound.arrival().side == Side::Core {
        return tolls;
    }
    tolls.push(Toll { meter: Meter::Requests(class), rate: demands.rate });
    if let (Ruling::Forms(_), Some(rate)) = (bound.ruling(), demands.dialogs) {
        tolls.push(Toll { meter: Meter::Dialogs(class.family()), rate });
    }
    tolls
}

/// The policy of each family, and how classes are recognised.
#[derive(Clone)]
pub struct Policies {
    /// Whether what is refused is only told of.
    pub observe: bool,
    /// How classes are recognised.
    pub recognisers: Recognisers,
    /// What callers may dial.
    pub numbers: Numbers,
    /// Of registration.
    pub reg: Arc<dyn EnablerPolicy>,
    /// Of any other SIP.
    pub sip: Arc<dyn EnablerPolicy>,
    /// Of messaging.
    pub cpm: Arc<dyn EnablerPolicy>,
    /// Of location.
    pub locsip: Arc<dyn EnablerPolicy>,
    /// Of push.
    pub push: Arc<dyn EnablerPolicy>,
    /// Of the operator's own classes, in the order of [`Recognisers::own`].
    pub own: Vec<Arc<dyn EnablerPolicy>>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            observe: false,
            recognisers: Recognisers::default(),
            numbers: Numbers::default(),
            reg: Arc::new(reg::Reg::default()),
            sip: Arc::new(sip::Sip::default()),
            cpm: Arc::new(cpm::Cpm::default()),
            locsip: Arc::new(locsip::Locsip::default()),
            push: Arc::new(push::Push::default()),
            own: Vec::new(),
        }
    }
}

impl Policies {
    /// The policy of a class.
    pub fn of(&self, class: Class) -> &dyn EnablerPolicy {
        match class {
            Class::Reg => &*self.reg,
            // One that is no longer configured is judged as any other SIP.
            Class::Own(place) => self.own.get(usize::from(place)).map_or(&*self.sip, |own| &**own),
            class => match class.family() {
                Family::Sip | Family::Own => &*self.sip,
                Family::Cpm => &*self.cpm,
                Family::Locsip => &*self.locsip,
                Family::Push => &*self.push,
            },
        }
    }

    /// Adds a class of the operator's own: its signs and its policy. `false` if there is no room for another one.
    pub fn add(&mut self, lines: Vec<own::Line>, policy: Arc<dyn EnablerPolicy>) -> bool {
        if self.own.len() >= class::OWN_MAX {
            return false;
        }
        self.recognisers.own.push(lines);
        self.own.push(policy);
        true
    }

    /// Whether a request that is challenged has to be answered with `auth-int`.
    pub fn wants_integrity(&self, message: &Message, arrival: &Arrival) -> bool {
        let class = self.recognisers.hint(message, arrival).unwrap_or_else(|unfit| unfit.class);
        let method = message.method().unwrap_or(Method::Other);
        self.of(class).integrity(class, method).is_due(arrival.flow.transport)
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("observe", &self.observe).finish_non_exhaustive()
    }
}

/// Stage 6.
pub struct Enablers {
    policies: ArcSwap<Policies>,
    counts: Counts,
    genuine: Genuine,
}

impl std::fmt::Debug for Enablers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enablers").field("counts", &self.counts.len()).finish()
    }
}

/// A request that may be forwarded: evidence of stages 3 to 6.
#[derive(Debug)]
pub struct Permitted<'m> {
    bound: Bound<'m>,
    would: Option<Refusal>,
}

impl<'m> Permitted<'m> {
    /// What stage 5 found.
    pub fn bound(&self) -> &Bound<'m> {
        &self.bound
    }

    /// The service to be asserted to the core; none where the request only passes because that is observed.
    pub fn service(&self) -> Option<&'static str> {
        if self.would.is_some() { None } else { service::service_of(&self.bound) }
    }

    /// Gives up the evidence for what stage 5 found.
    pub fn into_bound(self) -> Bound<'m> {
        self.bound
    }

    /// The refusal that enforcing the class would have given.
    pub fn would(&self) -> Option<Refusal> {
        self.would
    }
}

impl Enablers {
    /// Stage 6 with these policies; at most `max` callers are remembered for their rates.
    pub fn new(policies: Policies, max: usize) -> Self {
        let genuine = Genuine::new(max);
        Self { policies: ArcSwap::from_pointee(policies), counts: Counts::new(max), genuine }
    }

    /// Pushes that were let through.
    pub fn genuine(&self) -> &Genuine {
        &self.genuine
    }

    /// Stage 6 over that of `of`: nothing is paid there.
    pub fn trial(of: &Arc<Gate>) -> Self {
        let policies = ArcSwap::new(of.enablers.policies.load_full());
        // What would be let through was not.
        Self { policies, counts: Counts::trial(of), genuine: Genuine::new(1) }
    }

    /// Puts other policies in the place of the present ones; how much each caller has sent stays counted.
    pub fn replace_policies(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    /// The present policies: one request is judged by one set of them.
    pub fn policies(&self) -> Guard<Arc<Policies>> {
        self.policies.load()
    }

    /// Permits one request by `policies`, which are those of this stage.
    ///
    /// # Errors
    ///
    /// The refusal of the first demand or check that it does not meet.
    pub fn permit<'m>(
        &self,
        bound: Bound<'m>,
        policies: &Policies,
        associations: &Associations,
        now: Now,
    ) -> Result<Permitted<'m>, Halt> {
        let class = judged_class(&bound);
        let policy = policies.of(class);
        let observe = policies.observe && class != Class::Reg;
        let mut would = bound.authenticated().admitted().unfit();
        if !policy.allows_direction(bound.arrival().side, bound.in_dialog()) {
            let refusal = Refusal::DirectionForbidden;
            if class == Class::Push || !observe {
                return Err(refusal.into());
            }
            would = would.or(Some(refusal));
        }
        if matches!(bound.method(), Method::Ack | Method::Cancel) {
            return Ok(Permitted { bound, would });
        }
        judge_level(policy.demands(class), &bound)?;
        self.judge_number(&policies.numbers, &bound, associations, now)?;
        if let Err(refusal) = self.judge(policy, &bound, associations, now) {
            if !observe {
                return Err(refusal.into());
            }
            would = would.or(Some(refusal));
        }
        Ok(Permitted { bound, would })
    }

    /// What is dialled. Attempts at what is refused or costly are counted; once they are too many, those at costly numbers
    /// are refused too, and one of them raises the alarm.
    fn judge_number(
        &self,
        numbers: &Numbers,
        bound: &Bound<'_>,
        associations: &Associations,
        now: Now,
    ) -> Result<(), Refusal> {
        if bound.arrival().side == Side::Core {
            return Ok(());
        }
        let caller = speaker(bound).or(bound.caller());
        let name = caller.map_or("", |caller| caller.known_as());
        // What only ends something reaches nobody anew, and has to end it.
        let ends = bound.method() == Method::Bye && bound.in_dialog();
        let leads_back = |uri: &Uri<'_>| ends || associations.leads_back(bound, uri);
        let reach = numbers.reach(bound.message(), bound.class(), name, leads_back);
        if reach == Reach::Free {
            return Ok(());
        }
        let pace = caller.map_or(Pace::Past, |caller| {
            self.counts.attempt(&caller.principal, numbers.tolls, now)
        });
        match (reach, pace) {
            (Reach::Free, _) | (Reach::Costly, Pace::Within) => Ok(()),
            (_, Pace::Passes) => Err(Refusal::TollPattern),
            (Reach::Costly, Pace::Past) | (Reach::Denied, _) => Err(Refusal::NumberForbidden),
        }
    }

    /// Lines 3 and 4.
    fn judge(
        &self,
        policy: &dyn EnablerPolicy,
        bound: &Bound<'_>,
        associations: &Associations,
        now: Now,
    ) -> Result<(), Refusal> {
        let class = judged_class(bound);
        let demands = policy.demands(class);
        let from_ue = bound.arrival().side == Side::Ue;
        if from_ue {
            let due =
                policy.integrity(class, bound.method()).is_due(bound.arrival().flow.transport);
            let evidence = bound.evidence();
            if due && evidence.digest.is_some() && !evidence.integral {
                return Err(Refusal::IntegrityRequired);
            }
            let speaks = speaker(bound);
            if !speaks.is_none_or(|caller| caller.rights.allow(class, demands.entitlement)) {
                return Err(Refusal::ClassNotAllowed);
            }
        }
        let longest = if from_ue { demands.body_max } else { demands.body_max_to_ue };
        if bound.message().body().len() > longest {
            return Err(Refusal::BodyTooLarge);
        }
        policy.check(bound)?;
        let opens =
            matches!(bound.ruling(), Ruling::Forms(_)) && bound.message().expires() != Some(0);
        if let (true, Some(max), Some(caller)) = (opens, demands.open_max, bound.caller())
            && associations.open_of(&caller.principal, class.family()) >= max
        {
            return Err(Refusal::RateExceeded);
        }
        // What ends a call has to end it: its sender takes it for ended, whatever he hears (RFC 3261 section 15.1.1).
        let ends = bound.method() == Method::Bye && matches!(bound.ruling(), Ruling::Inside(_));
        if !ends {
            self.pay(policy, bound, now)?;
        }
        let first = policy.once(bound).is_none_or(|thing| self.counts.first(thing, now));
        if first { Ok(()) } else { Err(Refusal::PushReplayed) }
    }

    fn pay(&self, policy: &dyn EnablerPolicy, bound: &Bound<'_>, now: Now) -> Result<(), Refusal> {
        let payer = match (bound.arrival().side, bound.caller(), bound.ruling()) {
            (Side::Ue, Some(caller), _) => Payer::Caller(caller.principal.clone()),
            (Side::Core, _, Ruling::Inside(inside)) => Payer::Dialog(inside.origin.id),
            _ => return Ok(()),
        };
        let mut tolls = policy.tolls(bound).into_iter();
        let fits = tolls.all(|toll| self.counts.pay(&payer, toll, now));
        if fits { Ok(()) } else { Err(Refusal::RateExceeded) }
    }

    /// Which of `flows` a request from the core may go to its UE on, and how; `to` is whose they are.
    ///
    /// # Errors
    ///
    /// That of the first flow, if none will do and it may not go wrapped; [`Refusal::RateExceeded`].
    pub fn deliver(
        &self,
        bound: &Bound<'_>,
        flows: &mut SmallVec<[Flow; 2]>,
        to: Option<&Principal>,
        now: Now,
    ) -> Result<Delivery, Refusal> {
        let delivery = self.judge_delivery(bound, flows, to, now)?;
        if let (Class::Push, Some(to)) = (bound.class(), to) {
            self.genuine.note(to, bound.message().body(), now.mono);
        }
        Ok(delivery)
    }

    fn judge_delivery(
        &self,
        bound: &Bound<'_>,
        flows: &mut SmallVec<[Flow; 2]>,
        to: Option<&Principal>,
        now: Now,
    ) -> Result<Delivery, Refusal> {
        let (class, policies) = (bound.class(), self.policies.load());
        let policy = policies.of(class);
        let (mut refusal, mut delivery) = (None, Delivery::Open);
        let all = flows.clone();
        flows.retain(|flow| match policy.deliver(bound, flow) {
            Ok(()) => true,
            Err(why) => {
                refusal = refusal.or(Some(why));
                false
            }
        });
        if let (true, Some(refusal)) = (flows.is_empty(), refusal) {
            if refusal != Refusal::Unreachable || !policy.wraps(bound) {
                return Err(refusal);
            }
            (*flows, delivery) = (all, Delivery::Wrapped);
        }
        let Some(rate) = policy.delivery_rate() else { return Ok(delivery) };
        let payer = match (bound.ruling(), to) {
            (Ruling::Inside(inside), _) => Payer::Dialog(inside.origin.id),
            (_, Some(to)) => Payer::Caller(to.clone()),
            (_, None) => return Ok(delivery),
        };
        let toll = Toll { meter: Meter::Deliveries(class), rate };
        let fits = policies.observe || self.counts.pay(&payer, toll, now);
        if fits { Ok(delivery) } else { Err(Refusal::RateExceeded) }
    }

    /// Callers remembered.
    pub fn footprint(&self) -> usize {
        self.counts.len().saturating_add(self.genuine.len())
    }
}

/// The class that a request is judged by. Where a server began a session with a push, its UE has to be able to answer
/// and to end it: what brings no push of its own there is any other SIP.
fn judged_class(bound: &Bound<'_>) -> Class {
    let claimed = bound.authenticated().admitted().claimed();
    let answers = bound.class() == Class::Push
        && claimed != Class::Push
        && bound.in_dialog()
        && bound.arrival().side == Side::Ue;
    if answers { claimed } else { bound.class() }
}

/// Line 2. Inside a dialog, rule 14 has asked already for what the dialog began with; a class of a family of its own
/// may ask for more.
fn judge_level(demands: &Demands, bound: &Bound<'_>) -> Result<(), Refusal> {
    let (evidence, flow) = (bound.evidence(), &bound.arrival().flow);
    if bound.arrival().side == Side::Core {
        let short = evidence.level() < demands.core_level;
        return if short { Err(Refusal::LevelTooLow) } else { Ok(()) };
    }
    let level = match bound.ruling() {
        Ruling::Inside(_) if judged_class(bound).family() == Family::Sip => return Ok(()),
        Ruling::Inside(_) if bound.would().is_some() => demands.level,
        Ruling::Inside(inside) => evidence.of(&inside.origin.owner).1,
        Ruling::Alone | Ruling::Forms(_) => evidence.level(),
    };
    if level < demands.level {
        // A response would lift a handshake's 3 to 4, and nothing at all to 2.
        let by_digest = evidence.digest.is_none() && (demands.level <= 2 || level == 3);
        return Err(if by_digest { Refusal::CredentialsMissing } else { Refusal::LevelTooLow });
    }
    if demands.secure && !flow.transport.is_secure() {
        return Err(Refusal::SecureRequired);
    }
    Ok(())
}

/// Whose request from the UE side it is: proved by itself, or inside a dialog by its owner's secure flow.
pub fn speaker<'b>(bound: &'b Bound<'_>) -> Option<&'b Arc<Caller>> {
    let evidence = bound.evidence();
    evidence.caller().or_else(|| match bound.ruling() {
        Ruling::Inside(inside) => {
            let owner = &inside.origin.owner;
            evidence.secure_flow.iter().find(|caller| caller.principal == *owner)
        }
        Ruling::Alone | Ruling::Forms(_) => None,
    })
}

//! Stage 3, admission: may this source send another message now?
//!
//! Takes:   a checked message and its arrival.
//! Gives:   [`Admitted`], with the class that its headers claim.
//! Keeps:   rates, failures and verified sources, each bounded.
//! Refuses: flows that failed too often, sources over their rate, work that does not fit any more.
//! Sources: rule 22; RFC 3261 section 26.3.2.4; V-66, V-68, V-88 to V-92.

pub mod limits;
pub mod overload;
pub mod rate;
pub mod recent;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

pub use limits::{FailureLimits, Failures, Standing};
pub use overload::{Load, Overload, Strain};
pub use rate::{Bucket, Rate};
pub use recent::Recent;

use crate::enabler::{Class, Policies};
use crate::gate::{Gate, Halt};
use crate::instant::{Instant, Now};
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow, Pending, Side, Transport};
use crate::wire::{Message, Method, Name};

/// What stage 3 is told to allow.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests of one flow on the UE side.
    pub flow_rate: Rate,
    /// Answers to unverified UDP sources of one /24 or /48.
    pub answer_rate: Rate,
    /// Failures.
    pub failures: FailureLimits,
    /// Keys that one address may have us ask a server for without one being found.
    pub lookup_rate: Rate,
    /// Most flows, networks and sources remembered, each.
    pub max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flow_rate: Rate::per_second(1000),
            answer_rate: Rate::per_second(20),
            failures: FailureLimits::default(),
            lookup_rate: LOOKUP_RATE,
            max: 200_000,
        }
    }
}

/// Stage 3.
#[derive(Debug)]
pub struct Admission {
    settings: ArcSwap<Settings>,
    failures: Failures,
    flows: Recent<Flow, Source>,
    answers: Recent<IpAddr, Bucket>,
    lookups: Recent<IpAddr, Bucket>,
    verified: Recent<IpAddr, ()>,
    overload: Overload,
}

/// What is remembered of one flow.
#[derive(Clone, Debug, Default)]
struct Source {
    bucket: Bucket,
    /// When it was last noted that valid evidence came from its address.
    noted: Option<Instant>,
    /// Right responses to stale nonces since the last one that was not stale.
    stale: u8,
    /// Until when another one of those is not asked to try again.
    tired_until: Instant,
}

/// A message that may be looked at: evidence of stage 3.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'m> {
    message: &'m Message,
    arrival: &'m Arrival,
    class: Class,
    claimed: Class,
    unfit: Option<Refusal>,
    standing: Standing,
    noted: bool,
    stale: bool,
}

impl<'m> Admitted<'m> {
    /// The message.
    pub fn message(&self) -> &'m Message {
        self.message
    }

    /// How it came.
    pub fn arrival(&self) -> &'m Arrival {
        self.arrival
    }

    /// The class that it is judged by: what its headers claim, or its dialog's where that is stricter.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What its own headers claim, whatever dialog it is inside of.
    pub fn claimed(&self) -> Class {
        self.claimed
    }

    /// Why it cannot be of that class, where that is only observed.
    pub fn unfit(&self) -> Option<Refusal> {
        self.unfit
    }

    /// The same, of a dialog of that class: what it is judged by from here on is the stricter one.
    pub fn inside(mut self, class: Class) -> Self {
        self.class = self.class.stricter(class);
        self
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.message.method().unwrap_or(Method::Other)
    }

    /// Whether it claims to be inside a dialog: To has a tag.
    pub fn in_dialog(&self) -> bool {
        !self.message.to_tag().is_empty()
    }

    /// Whether its address is over the failure limit, so that a request without evidence gets no answer.
    pub fn is_doubtful(&self) -> bool {
        self.standing != Standing::Good
    }

    /// Whether its flow is over the limit, and anybody may have sent from there in another's name: only who registered
    /// on it is still listened to.
    pub fn is_banned(&self) -> bool {
        self.standing == Standing::Banned
    }
}

impl Admitted<'_> {
    /// Reads the class that the headers claim.
    fn classify(&mut self, policies: &Policies) -> Result<(), Refusal> {
        match policies.recognisers.hint(self.message, self.arrival) {
            Ok(class) => (self.class, self.claimed) = (class, class),
            Err(unfit) => {
                let known =
                    matches!(unfit.refusal, Refusal::ClassConflict | Refusal::ClassMethodUnfit);
                if !policies.observe || !known {
                    return Err(unfit.refusal);
                }
                (self.class, self.claimed) = (unfit.class, unfit.class);
                self.unfit = Some(unfit.refusal);
            }
        }
        Ok(())
    }
}

impl Admission {
    /// Stage 3 with these limits.
    pub fn new(settings: Settings) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            settings: ArcSwap::from_pointee(settings),
            failures: Failures::new(settings.failures),
            flows: Recent::new(settings.max, minute),
            answers: Recent::new(settings.max, minute),
            lookups: Recent::new(settings.max, minute),
            verified: Recent::new(settings.max, minute.saturating_mul(10)),
            overload: Overload::default(),
        }
    }

    /// Stage 3 over that of `of`: it knows what that knows, and changes nothing of it.
    pub fn trial(of: &Arc<Gate>) -> Self {
        let Self { settings, flows, answers, lookups, verified, overload, .. } = &of.admission;
        let load = Overload::default();
        load.change(Load::Normal, overload.load());
        if overload.is_draining() {
            load.drain();
        }
        let [one, two, three, four] = [(); 4].map(|()| Arc::clone(of));
        Self {
            settings: ArcSwap::new(settings.load_full()),
            failures: Failures::trial(of),
            flows: Recent::over(flows, move |key, now| one.admission.flows.peek(key, now)),
            answers: Recent::over(answers, move |key, now| two.admission.answers.peek(key, now)),
            lookups: Recent::over(lookups, move |key, now| four.admission.lookups.peek(key, now)),
            verified: Recent::over(verified, move |key, now| {
                three.admission.verified.peek(key, now)
            }),
            overload: load,
        }
    }

    /// Puts other limits in the place of the present ones; what is remembered of sources stays, and so do the
    /// sizes of tables.
    pub fn replace_settings(&self, settings: Settings) {
        self.failures.set_ban(settings.failures.ban);
        self.settings.store(Arc::new(settings));
    }

    /// Admits one request.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooManyFailures`], [`Refusal::SourceLimited`], [`Refusal::Overloaded`], [`Refusal::NoTime`]; what
    /// the hint says of a request that can be of no class.
    pub fn admit<'m>(
        &self,
        message: &'m Message,
        arrival: &'m Arrival,
        policies: &Policies,
        now: Now,
    ) -> Result<Admitted<'m>, Halt> {
        let mut admitted = Admitted {
            message,
            arrival,
            class: Class::Sip,
            claimed: Class::Sip,
            unfit: None,
            standing: Standing::Good,
            noted: false,
            stale: false,
        };
        if arrival.side == Side::Core {
            self.end(&admitted)?;
            admitted.classify(policies)?;
            return Ok(admitted);
        }
        admitted.standing = self.failures.standing(&arrival.flow, now.mono);
        // Who speaks on a connection is one and the same; what comes by datagram may be in another's name.
        if admitted.is_banned() && arrival.flow.transport != Transport::Udp {
            return Err(Refusal::TooManyFailures.into());
        }
        let rate = self.settings.load().flow_rate;
        let (fits, noted, stale) = self.flows.with(arrival.flow, now.mono, |source, _| {
            (source.bucket.take(rate, now.mono), source.noted, source.stale)
        });
        if !fits {
            return Err(Refusal::SourceLimited.into());
        }
        admitted.stale = stale > 0;
        admitted.noted = noted.is_some_and(|noted| now.mono.since(noted) < NOTED_FOR);
        self.end(&admitted)?;
        self.shed(&admitted)?;
        admitted.classify(policies)?;
        Ok(admitted)
    }

    /// Sends elsewhere what would begin here while the node is about to end; what is under way goes on.
    fn end(&self, admitted: &Admitted<'_>) -> Result<(), Halt> {
        let new = !admitted.in_dialog() && admitted.arrival.pending == Pending::None;
        if new && self.overload.is_draining() { Err(Refusal::NoTime.into()) } else { Ok(()) }
    }

    /// Lets go what there is no time for; a CANCEL of what is under way makes less work, not more.
    fn shed(&self, admitted: &Admitted<'_>) -> Result<(), Halt> {
        let Admitted { message, arrival, .. } = *admitted;
        let load = self.overload.load();
        if load == Load::Normal || admitted.in_dialog() || arrival.pending != Pending::None {
            return Ok(());
        }
        let names = [Name::Authorization, Name::ProxyAuthorization];
        let proves_nothing = arrival.channel.is_none()
            && names.into_iter().all(|name| message.first(name).is_none());
        match load {
            _ if proves_nothing && !arrival.flow.transport.is_reliable() => {
                Err(Refusal::Overloaded.into())
            }
            // On a stream nobody sends it again: after silence he would wait for half a minute.
            _ if proves_nothing => Err(Refusal::NoTime.into()),
            Load::Severe => Err(Refusal::NoTime.into()),
            Load::Normal | Load::High => Ok(()),
        }
    }

    /// Whether an answer may go to a source that has proved nothing; it is counted.
    ///
    /// Streams have shown that their address is theirs, and so have addresses from which evidence came.
    pub fn may_answer(&self, flow: &Flow, now: Now) -> bool {
        let address = limits::network(flow.remote.ip());
        if flow.transport != Transport::Udp
            || self.verified.get(&address, now.mono, |()| ()).is_some()
        {
            return true;
        }
        let rate = self.settings.load().answer_rate;
        let place = limits::wide_network(flow.remote.ip());
        self.answers.with(place, now.mono, |bucket, _| bucket.take(rate, now.mono))
    }

    /// Notes that a request brought valid evidence, unless that was just noted.
    pub fn note_verified(&self, admitted: &Admitted<'_>, now: Now) {
        let flow = &admitted.arrival.flow;
        if flow.transport == Transport::Udp && !admitted.noted {
            self.verified.with(limits::network(flow.remote.ip()), now.mono, |(), _| ());
            self.flows.with(*flow, now.mono, |source, _| source.noted = Some(now.mono));
        }
        if admitted.stale {
            self.flows.with(*flow, now.mono, |source, _| source.stale = 0);
        }
    }

    /// Notes a right response to a stale nonce; whether another try is worth asking for. A client that loops is not.
    pub fn note_stale(&self, flow: &Flow, now: Now) -> bool {
        self.flows.with(*flow, now.mono, |source, _| {
            if source.tired_until > now.mono {
                return false;
            }
            source.stale = source.stale.saturating_add(1);
            let loops = source.stale > STALE_MAX;
            if loops {
                (source.stale, source.tired_until) = (0, now.mono + STALE_PAUSE);
            }
            !loops
        })
    }

    /// Whether a key server may be asked on the word of that source; it is counted until a key is found.
    pub fn may_look_up(&self, flow: &Flow, now: Now) -> bool {
        let rate = self.settings.load().lookup_rate;
        let address = limits::network(flow.remote.ip());
        self.lookups.with(address, now.mono, |bucket, _| bucket.take(rate, now.mono))
    }

    /// A key was found that `flow` had us ask for: that one does not count.
    pub fn note_found(&self, flow: &Flow, now: Now) {
        let rate = self.settings.load().lookup_rate;
        let address = limits::network(flow.remote.ip());
        self.lookups.get(&address, now.mono, |bucket| bucket.give_back(rate));
    }

    /// Notes a refusal; those that count as failures count against flow and address.
    pub fn note_refusal(&self, flow: &Flow, refusal: Refusal, now: Now) {
        if refusal.counts_as_failure() {
            self.failures.note(&self.settings.load().failures, flow, now.mono);
        }
    }

    /// What the shell says of the load.
    pub fn overload(&self) -> &Overload {
        &self.overload
    }

    /// Entries held: flows, networks, sources and failures.
    pub fn footprint(&self) -> usize {
        let of_addresses = [self.answers.len(), self.lookups.len(), self.verified.len()];
        let tables = [self.flows.len(), self.failures.len(), of_addresses.iter().sum()];
        tables.iter().sum()
    }
}

/// How long it need not be noted again that evidence came from an address; that is remembered for 10 minutes.
const NOTED_FOR: Duration = Duration::from_secs(60);
/// Ten a second in the long run; a hundred subscribers of one address may ask at once, and each key that is found makes
/// room for another.
const LOOKUP_RATE: Rate = Rate { count: 10, period: Duration::from_secs(1), burst: 100 };
/// Most right responses to stale nonces in a row that are asked to try again.
const STALE_MAX: u8 = 20;
/// How long none is after that.
const STALE_PAUSE: Duration = Duration::from_secs(60);

//! Stage 3, admission: may this source send another message now?
//!
//! Takes:   a checked message and its arrival.
//! Gives:   [`Admitted`], with the class that its headers claim.
//! Keeps:   rates, failures and verified sources, each bounded.
//! Refuses: flows that failed too often, sources over their rate, work that does not fit any more.
//! Sources: rule 22; RFC 3261 section 26.3.2.4; V-66, V-68, V-88 to V-92 of the conformance tests.

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
    /// Most flows, networks and sources remembered, each.
    pub max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flow_rate: Rate::per_second(1000),
            answer_rate: Rate::per_second(20),
            failures: FailureLimits::default(),
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
    verified: Recent<IpAddr, ()>,
    overload: Overload,
}

/// What is remembered of one flow.
#[derive(Clone, Debug, Default)]
struct Source {
    bucket: Bucket,
    /// When it was last noted that valid evidence came from its address.
    noted: Option<Instant>,
}

/// A message that may be looked at: evidence of stage 3.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'m> {
    message: &'m Message,
    arrival: &'m Arrival,
    class: Class,
    claimed: Class,
    unfit: Option<Refusal>,
    doubtful: bool,
    noted: bool,
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

    /// The class that its headers claim.
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
        self.doubtful
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
            verified: Recent::new(settings.max, minute.saturating_mul(10)),
            overload: Overload::default(),
        }
    }

    /// Stage 3 over that of `of`: it knows what that knows, and changes nothing of it.
    pub fn trial(of: &Arc<Gate>) -> Self {
        let Self { settings, flows, answers, verified, overload, .. } = &of.admission;
        let load = Overload::default();
        load.change(Load::Normal, overload.load());
        let [one, two, three] = [(); 3].map(|()| Arc::clone(of));
        Self {
            settings: ArcSwap::new(settings.load_full()),
            failures: Failures::trial(of),
            flows: Recent::over(flows, move |key, now| one.admission.flows.peek(key, now)),
            answers: Recent::over(answers, move |key, now| two.admission.answers.peek(key, now)),
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
            doubtful: false,
            noted: false,
        };
        if arrival.side == Side::Core {
            admitted.classify(policies)?;
            return Ok(admitted);
        }
        match self.failures.standing(&arrival.flow, now.mono) {
            Standing::Banned => return Err(Refusal::TooManyFailures.into()),
            Standing::Doubtful => admitted.doubtful = true,
            Standing::Good => {}
        }
        let rate = self.settings.load().flow_rate;
        let (fits, noted) = self.flows.with(arrival.flow, now.mono, |source, _| {
            (source.bucket.take(rate, now.mono), source.noted)
        });
        if !fits {
            return Err(Refusal::SourceLimited.into());
        }
        admitted.noted = noted.is_some_and(|noted| now.mono.since(noted) < NOTED_FOR);
        self.shed(&admitted)?;
        admitted.classify(policies)?;
        Ok(admitted)
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

    /// Whether evidence came from that address before.
    pub fn is_verified(&self, flow: &Flow, now: Now) -> bool {
        let address = limits::network(flow.remote.ip());
        flow.transport != Transport::Udp || self.verified.get(&address, now.mono, |()| ()).is_some()
    }

    /// Notes that a request brought valid evidence, unless that was just noted.
    pub fn note_verified(&self, admitted: &Admitted<'_>, now: Now) {
        let flow = &admitted.arrival.flow;
        if flow.transport == Transport::Udp && !admitted.noted {
            self.verified.with(limits::network(flow.remote.ip()), now.mono, |(), _| ());
            self.flows.with(*flow, now.mono, |source, _| source.noted = Some(now.mono));
        }
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
        let tables =
            [self.flows.len(), self.answers.len(), self.verified.len(), self.failures.len()];
        tables.iter().sum()
    }
}

/// How long it need not be noted again that evidence came from an address; that is remembered for 10 minutes.
const NOTED_FOR: Duration = Duration::from_secs(60);

//! The whole journey of a message, stages 2 to 7, without a socket at either end.
//!
//! 1. Octets become a message that can be answered, or are dropped or refused.
//! 2. A response goes to its transaction. A retransmission, too.
//! 3. A request is looked at as proxies must, judged by the gate, and forwarded; or it is answered; or it waits.
//! 4. What was waited for resumes the request; what does not come in time refuses it.
//!
//! Takes:   messages with their arrivals, answers to lookups, failed transports, the time.
//! Gives:   [`Action`]s; drain [`Journey::poll_action`] after each call, then arm one timer.
//! Keeps:   what its [`Proxy`] keeps, and at most `WAITING_MAX` requests that wait for a lookup, for 2 s each.
//! Refuses: through its stages; what is said of each message is a [`Decision`].
//! Sources: RFC 3261 section 16; rules 8, 20.

mod account;
mod clue;
mod waiting;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub use account::{Account, Step};
pub use clue::{Clue, RULES};
use waiting::{Asked, Waiting};
pub use waiting::{LOOKUP_LIMIT, WAITING_MAX};

use crate::association::{Bound, Inside, Responder, Ruling, State};
use crate::authentication::Kind;
use crate::enabler::Class;
use crate::enabler::Permitted;
use crate::forward::context::reply_flow;
use crate::forward::proxy::Hold;
use crate::forward::responses::Passed;
use crate::forward::transaction::ServerKey;
use crate::forward::{Check, Destination, Output, Proxy, Shared, Ticket};
use crate::gate::{Lookup, Stop};
use crate::instant::{Instant, Now};
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow, Side};
use crate::wire::{self, Fault, Malformed, Message, Method};

/// What the shell is to do.
#[derive(Debug)]
pub enum Action {
    /// Send octets.
    Send(Output),
    /// Find this out, then call [`Journey::answered`].
    Ask(Lookup),
    /// Close the flow once what is queued for it has gone: framing is lost, or it failed too often.
    Close(Flow),
    /// Hold a connection to its pings, or no longer.
    Hold(Hold),
    /// Note what was decided.
    Decided(Decision),
}

/// What was decided about one message, for counters, traces and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The method, `Other` where it is not known.
    pub method: Method,
    /// The status code of a response, 0 for a request.
    pub status: u16,
    /// The side it came from.
    pub side: Side,
    /// The flow it came on.
    pub flow: Flow,
    /// What was done.
    pub outcome: Outcome,
    /// The strongest evidence it showed.
    pub evidence: Kind,
    /// The rule of stage 5 that decided, 0 if none did.
    pub rule: u8,
    /// What enforcing a rule that is only observed would have refused.
    pub would: Option<Refusal>,
    /// What enforcing its class would have refused.
    pub class_would: Option<Refusal>,
    /// Its dialog, where it went on inside one.
    pub dialog: Option<Within>,
    /// Its class, where it went on.
    pub class: Option<Class>,
}

/// The dialog that a request went on inside of, as it stood before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// Its number in traces.
    pub id: u64,
    /// Where it stood.
    pub state: State,
    /// The level of what the sender showed of the owner of his leg.
    pub level: u8,
    /// How many keys its owner had shown before.
    pub generation: u16,
}

impl Within {
    fn of(inside: &Inside, bound: &Bound<'_>) -> Self {
        let (evidence, owner) = (bound.evidence(), &inside.origin.owner);
        let level = match bound.arrival().side {
            Side::Ue => evidence.of(owner).1,
            Side::Core => evidence.level(),
        };
        Self { id: inside.origin.id, state: inside.state, level, generation: inside.generation }
    }
}

/// What was done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on.
    Forwarded,
    /// It was a copy of one already dealt with.
    Absorbed,
    /// It was answered here.
    Answered,
    /// It was refused, with an answer.
    Refused(Refusal),
    /// It was dropped.
    Dropped(Refusal),
    /// It waits for a lookup.
    Waits,
}

impl Outcome {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Absorbed => "absorbed",
            Self::Answered => "answered",
            Self::Refused(_) => "refused",
            Self::Dropped(_) => "dropped",
            Self::Waits => "waits",
        }
    }
}

/// One worker's stages 2 to 7.
#[derive(Debug)]
pub struct Journey {
    shared: Arc<Shared>,
    proxy: Proxy,
    waiting: HashMap<Lookup, Asked>,
    waiting_keys: HashSet<ServerKey>,
    deadlines: VecDeque<(Instant, Lookup)>,
    actions: VecDeque<Action>,
    /// What was found of the message, where that is to be told.
    account: Option<Box<Account>>,
}

impl Journey {
    /// A worker's journey.
    pub fn new(shared: Arc<Shared>, proxy: Proxy) -> Self {
        Self {
            shared,
            proxy,
            waiting: HashMap::new(),
            waiting_keys: HashSet::new(),
            deadlines: VecDeque::new(),
            actions: VecDeque::new(),
            account: None,
        }
    }

    /// One datagram.
    pub fn datagram(&mut self, octets: Bytes, arrival: Arrival, now: Now) {
        match Message::from_datagram(octets) {
            Ok(message) => self.message(message, arrival, now),
            Err(malformed) => self.malformed(&malformed, &arrival, now),
        }
    }

    /// One message.
    pub fn message(&mut self, message: Message, arrival: Arrival, now: Now) {
        self.proxy.refresh();
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("wire", &message);
        if let Err(fault) = wire::check::check(&message) {
            return self.refuse(&message, &arrival, Refusal::Malformed(fault), now);
        }
        self.note("wire", "well-formed");
        let message = match self.restored(message, &arrival, now) {
            Some(message) => message,
            None => return self.drain(),
        };
        if message.is_request() {
            self.request(&message, arrival, now);
        } else {
            self.response(&message, &arrival, now);
        }
        self.drain();
    }

    /// A message of a UE with what was kept from it; `None` after saying so if that cannot be said.
    fn restored(&mut self, message: Message, arrival: &Arrival, now: Now) -> Option<Message> {
        let hides = self.proxy.hides() && arrival.side == Side::Ue;
        if !hides {
            return Some(message);
        }
        match self.shared.topology.restore(&message, &self.proxy.settings(), now.wall) {
            Ok(restored) => Some(restored.unwrap_or(message)),
            Err(refusal) => {
                self.refuse(&message, arrival, refusal, now);
                None
            }
        }
    }

    /// Octets that are no message. On a stream, framing is lost with them.
    pub fn malformed(&mut self, malformed: &Malformed, arrival: &Arrival, now: Now) {
        let refusal = Refusal::Malformed(malformed.fault);
        match &malformed.rest {
            Some(rest) if rest.is_request() => self.refuse(rest, arrival, refusal, now),
            _ => self.decide(None, arrival, Outcome::Dropped(refusal), 0),
        }
        if arrival.flow.transport.is_reliable() {
            self.actions.push_back(Action::Close(arrival.flow));
        }
    }

    fn request(&mut self, message: &Message, mut arrival: Arrival, now: Now) {
        let Some(key) = self.proxy.key_of(message, &arrival) else {
            let refusal = Refusal::Malformed(Fault::BranchOld);
            return self.refuse(message, &arrival, refusal, now);
        };
        let waits = !self.waiting_keys.is_empty() && self.waiting_keys.contains(&key);
        if waits || self.proxy.absorb(message, &key, now) {
            return self.decide(Some(message), &arrival, Outcome::Absorbed, 8);
        }
        self.note("transaction", "no copy of one that is known");
        let ticket = match self.proxy.precheck(message, &arrival) {
            Ok(Check::GoOn(loop_part)) => Ticket { key, loop_part },
            Ok(Check::AnswerHere) => return self.answer_options(message, &arrival, now),
            Err(refusal) => return self.refuse(message, &arrival, refusal, now),
        };
        self.note("precheck", "hops, loop and extensions allow it");
        arrival.pending = self.proxy.pending(message, &arrival.flow);
        if let Some(invite) = self.withdraw(message, &arrival) {
            return self.cancelled(message, &arrival, &ticket, &invite, now);
        }
        let shared = Arc::clone(&self.shared);
        match shared.gate.inspect_before(&mut self.account, message, &arrival, now) {
            Ok(permitted) => self.forward(permitted, &ticket, now),
            Err(Stop::Wait(paused, lookup)) => self.wait(Waiting { paused, ticket }, lookup, now),
            Err(stop) => self.stop_for_now(stop, message, &arrival, &ticket, now),
        }
    }

    fn forward(&mut self, permitted: Permitted<'_>, ticket: &Ticket, now: Now) {
        self.note("enabler", "its class permits it");
        let bound = permitted.bound();
        let (message, arrival) = (bound.message(), bound.arrival());
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("forward", message);
        let (rule, dialog) = match bound.ruling() {
            Ruling::Inside(inside) => (inside.rule, Some(Within::of(inside, bound))),
            Ruling::Alone | Ruling::Forms(_) => (0, None),
        };
        let decision = Decision {
            evidence: bound.evidence().kind(),
            would: bound.would(),
            class_would: permitted.would(),
            dialog,
            class: Some(bound.class()),
            ..decision(Some(message), arrival, Outcome::Forwarded, rule)
        };
        match self.proxy.forward(permitted, ticket, now) {
            Ok(would) => {
                let would = decision.would.or(would);
                self.actions.push_back(Action::Decided(Decision { would, ..decision }));
            }
            Err(refusal) => {
                let stop = self.shared.gate.refuse(message, arrival, refusal, now);
                if let Stop::Answer(_, octets) = &stop {
                    self.proxy.refused(message, arrival, ticket, octets, now);
                }
                self.stop(stop, message, arrival);
            }
        }
    }

    /// What stops a request for want of a key may have passed when a copy of it comes.
    fn stop_for_now(
        &mut self,
        stop: Stop,
        message: &Message,
        arrival: &Arrival,
        ticket: &Ticket,
        now: Now,
    ) {
        if let Stop::Answer(Refusal::KeySourceUnavailable, octets) = &stop {
            self.proxy.refused(message, arrival, ticket, octets, now);
        }
        self.stop(stop, message, arrival);
    }

    fn stop(&mut self, stop: Stop, message: &Message, arrival: &Arrival) {
        match stop {
            Stop::Answer(refusal, octets) => {
                let rule = refusal.rule().unwrap_or(0);
                self.decide(Some(message), arrival, Outcome::Refused(refusal), rule);
                let to = self.back(message, arrival);
                self.actions.push_back(Action::Send(Output { to, octets }));
                if refusal == Refusal::TooManyFailures && arrival.flow.connection.is_some() {
                    self.actions.push_back(Action::Close(arrival.flow));
                }
            }
            Stop::Drop(refusal) => {
                let rule = refusal.rule().unwrap_or(0);
                self.decide(Some(message), arrival, Outcome::Dropped(refusal), rule);
            }
            // Who was waited for once is not waited for again: see `Gate::resume`.
            Stop::Wait(..) => {}
        }
    }

    fn response(&mut self, message: &Message, arrival: &Arrival, now: Now) {
        let from = Responder { flow: arrival.flow, group: arrival.group };
        match self.proxy.respond(message, from, now) {
            Ok(Passed::Whole) => self.decide(Some(message), arrival, Outcome::Forwarded, 0),
            Ok(Passed::Observed) => {
                let would = Some(Refusal::ChallengeReflected);
                let forwarded = decision(Some(message), arrival, Outcome::Forwarded, 0);
                self.actions.push_back(Action::Decided(Decision { would, ..forwarded }));
            }
            Ok(Passed::Cut | Passed::Replaced) => {
                let outcome = Outcome::Refused(Refusal::ChallengeReflected);
                self.decide(Some(message), arrival, outcome, 32);
            }
            Err(refusal) => {
                let rule = refusal.rule().unwrap_or(0);
                self.decide(Some(message), arrival, Outcome::Dropped(refusal), rule);
            }
        }
    }

    /// OPTIONS for the edge itself: what a keep-alive wants to hear, and no more.
    fn answer_options(&mut self, message: &Message, arrival: &Arrival, now: Now) {
        let gate = &self.shared.gate;
        let from_ue = arrival.side == Side::Ue;
        let octets = gate
            .reply(message, arrival, 200, |reply| reply)
            .filter(|_| !from_ue || gate.admission.may_answer(&arrival.flow, now));
        let Some(octets) = octets else {
            return self.decide(
                Some(message),
                arrival,
                Outcome::Dropped(Refusal::SourceLimited),
                0,
            );
        };
        self.decide(Some(message), arrival, Outcome::Answered, 0);
        let to = self.back(message, arrival);
        self.actions.push_back(Action::Send(Output { to, octets }));
    }

    /// Where an answer without a transaction goes: the same way as one with.
    fn back(&self, message: &Message, arrival: &Arrival) -> Destination {
        Destination::Flow(reply_flow(message, arrival, &self.proxy.settings()))
    }

    fn refuse(&mut self, message: &Message, arrival: &Arrival, refusal: Refusal, now: Now) {
        let stop = self.shared.gate.refuse(message, arrival, refusal, now);
        self.stop(stop, message, arrival);
    }

    fn note(&mut self, stage: &'static str, found: &str) {
        if let Some(account) = &mut self.account {
            account.step(stage, found.to_owned());
        }
    }

    fn decide(&mut self, message: Option<&Message>, arrival: &Arrival, outcome: Outcome, rule: u8) {
        self.actions.push_back(Action::Decided(decision(message, arrival, outcome, rule)));
    }

    /// A flow was closed: what was proved on it is gone. Says whether anything was registered from it.
    pub fn closed(&mut self, flow: &Flow, now: Now) -> bool {
        self.shared.gate.authentication.flows().forget(flow);
        let registered = self.shared.bindings.close(flow);
        self.shared.gate.associations.lose(flow, now);
        self.unreachable(&Destination::Flow(*flow), now);
        registered
    }

    /// A destination cannot be reached.
    pub fn unreachable(&mut self, destination: &Destination, now: Now) {
        self.proxy.transport_failed(destination, now);
        self.drain();
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Now) {
        self.proxy.expire(now);
        while self.deadlines.front().is_some_and(|(at, _)| *at <= now.mono) {
            let Some((_, lookup)) = self.deadlines.pop_front() else { break };
            // The deadline may be that of an elder wait for the same key, which was answered.
            if self.waiting.get(&lookup).is_some_and(|asked| asked.until <= now.mono) {
                self.answered(&lookup, now);
            }
        }
        self.shared.gate.associations.expire(now);
        self.proxy.run_errands(now);
        // What lapses here is asked no more; that it goes is not worth waking for.
        self.shared.gate.authentication.flows().expire(now);
        self.shared.bindings.expire(now);
        self.drain();
    }

    /// When [`Journey::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lookup = self.deadlines.front().map(|(at, _)| *at);
        let dialog = self.shared.gate.associations.next_expiry();
        [self.proxy.poll_timeout(), lookup, dialog].into_iter().flatten().min()
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Stage 7 of this worker.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    fn drain(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            self.actions.extend(self.hidden(output).map(Action::Send));
        }
        while let Some(hold) = self.proxy.poll_hold() {
            self.actions.push_back(Action::Hold(hold));
        }
        while let Some(lookup) = self.proxy.poll_lookup() {
            self.actions.push_back(Action::Ask(lookup));
        }
    }

    /// What goes to a UE, without what is kept from it; nothing if that cannot be.
    fn hidden(&self, mut output: Output) -> Option<Output> {
        if self.proxy.hides()
            && let Destination::Flow(flow) = &output.to
        {
            let settings = self.proxy.settings();
            let listener = settings.listener(flow.listener);
            if listener.is_some_and(|listener| listener.side == Side::Ue) {
                output.octets =
                    self.shared.topology.hide(&output.octets, flow.listener, &settings)?;
            }
        }
        Some(output)
    }

    /// A ping came on a flow of datagrams.
    pub fn pinged(&mut self, flow: &Flow, now: Now) {
        self.shared.bindings.heard(flow, now);
    }
}

fn decision(message: Option<&Message>, arrival: &Arrival, outcome: Outcome, rule: u8) -> Decision {
    Decision {
        method: message.map_or(Method::Other, |m| m.method().unwrap_or_else(|| m.cseq_method())),
        status: message.and_then(Message::status).unwrap_or(0),
        side: arrival.side,
        flow: arrival.flow,
        outcome,
        evidence: Kind::None,
        rule,
        would: None,
        class_would: None,
        dialog: None,
        class: None,
    }
}

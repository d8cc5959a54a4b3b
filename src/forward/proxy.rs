//! Stage 7, the proxy: one worker's transactions, tied together in pairs.
//!
//! 1. A permitted request gets a route, is printed, committed to its dialog, and becomes a *context*: one server
//!    transaction, and one client transaction at a time.
//! 2. Provisional and final responses go back; a destination that fails gives way to the next one.
//! 3. CANCEL is answered and cancels the client transaction; ACK to a 2xx passes without a transaction.
//! 4. A context is gone when all its transactions have ended.
//!
//! Takes:   [`Permitted`], retransmissions, responses, failed transports, the time.
//! Gives:   [`Output`]s; drain [`Proxy::poll_output`] after each call, then arm one timer.
//! Keeps:   contexts and one timer each, `transactions_max`; the request only until it is answered.
//! Refuses: responses without transaction, or from elsewhere than the request went (rule 16); more transactions
//!          than fit.
//! Sources: RFC 3261 sections 9, 16.6 to 16.10 and 17; RFC 6026; RFC 3263 section 4.3; `PX`, `TX`, `DNS-03`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use smallvec::SmallVec;

use super::outgoing::{self, Plan, Printed};
use super::precheck::{self, Check};
use super::route::{self, Route};
use super::timers::{TimerKey, Wheel};
use super::transaction::{
    Client, ClientInput, ClientInvite, ClientKey, ClientOutput, Keys, Server, ServerInput,
    ServerInvite, ServerKey, ServerOutput,
};
use super::{Destination, Output, Settings, Shared, asserted, returning};
use crate::association::{Bound, Responder, Ruling, Track};
use crate::authentication::{Caller, ServerProof};
use crate::enabler::Permitted;
use crate::instant::{Instant, Now};
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow, GroupId, Pending, Side, Transport};
use crate::wire::{Message, Method, Name};

/// One worker's stage 7.
pub struct Proxy {
    shared: Arc<Shared>,
    worker: u8,
    keys: Keys,
    loop_key: [u8; 16],
    rng: ChaCha12Rng,
    wheel: Wheel<u64>,
    contexts: HashMap<u64, Box<Context>>,
    servers: HashMap<(ServerKey, Flow), u64>,
    clients: HashMap<ClientKey, u64>,
    unanswered: HashMap<Flow, usize>,
    next: u64,
    outputs: VecDeque<Output>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("worker", &self.worker)
            .field("contexts", &self.contexts.len())
            .finish_non_exhaustive()
    }
}

/// A request on its way: its server transaction and what became of it downstream.
#[derive(Debug)]
struct Context {
    server_key: Option<(ServerKey, Flow)>,
    server: Option<AnyServer>,
    clients: SmallVec<[Branch; 1]>,
    /// The request as it came, until a final response has gone back.
    request: Option<Box<(Message, Arrival)>>,
    /// The request as it left, for the next destination.
    printed: Option<Printed>,
    remaining: SmallVec<[Destination; 1]>,
    side: Side,
    method: Method,
    reply_to: Flow,
    track: Option<Track>,
    register: Option<Register>,
    cancelled: bool,
    /// Whether some destination answered 503, and no other final answer came.
    unavailable: bool,
    timer: Option<(TimerKey, Instant)>,
}

/// What a 2xx to a REGISTER is noted for.
#[derive(Clone, Debug)]
struct Register {
    binding: u64,
    caller: Arc<Caller>,
    ends: bool,
    /// What the edge proves itself with in the 2xx.
    proof: Option<ServerProof>,
}

#[derive(Debug)]
struct Branch {
    key: ClientKey,
    machine: AnyClient,
    to: Destination,
    /// Whether it carries a CANCEL, whose responses are nobody's business.
    cancel: bool,
}

#[derive(Debug)]
enum AnyServer {
    Invite(ServerInvite),
    Other(Server),
}

#[derive(Debug)]
enum AnyClient {
    Invite(ClientInvite),
    Other(Client),
}

impl AnyServer {
    fn handle(&mut self, input: ServerInput, now: Instant) {
        match self {
            Self::Invite(machine) => machine.handle(input, now),
            Self::Other(machine) => machine.handle(input, now),
        }
    }

    fn poll_output(&mut self) -> Option<ServerOutput> {
        match self {
            Self::Invite(machine) => machine.poll_output(),
            Self::Other(machine) => machine.poll_output(),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }
}

impl AnyClient {
    fn handle(&mut self, input: ClientInput<'_>, now: Instant) {
        match self {
            Self::Invite(machine) => machine.handle(input, now),
            Self::Other(machine) => machine.handle(input, now),
        }
    }

    fn poll_output(&mut self) -> Option<ClientOutput> {
        match self {
            Self::Invite(machine) => machine.poll_output(),
            Self::Other(machine) => machine.poll_output(),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }
}

/// What a client transaction told its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Answer(u16),
    Gone { unavailable: bool },
}

impl Proxy {
    /// Worker `worker`'s stage 7; `seed` is any secret octets, different for each worker.
    pub fn new(shared: Arc<Shared>, worker: u8, seed: [u8; 32], loop_key: [u8; 16]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut secret = [0; 16];
        rng.fill_bytes(&mut secret);
        Self {
            shared,
            worker,
            keys: Keys::new(&secret),
            loop_key,
            rng,
            wheel: Wheel::new(),
            contexts: HashMap::new(),
            servers: HashMap::new(),
            clients: HashMap::new(),
            unanswered: HashMap::new(),
            next: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The worker that a branch of ours belongs to; `None` if it is not ours.
    pub fn worker_of(branch: &[u8]) -> Option<u8> {
        let digits = branch.strip_prefix(b"z9hG4bK")?.get(..2)?;
        u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// What a proxy looks at before the gate; see [`precheck`].
    ///
    /// # Errors
    ///
    /// As [`precheck::precheck`].
    pub fn precheck(&self, message: &Message, arrival: &Arrival) -> Result<Check, Refusal> {
        precheck::precheck(message, arrival, &self.shared.settings(), &self.loop_key)
    }

    /// Hands a retransmission, or an ACK to a final response other than 2xx, to its transaction; `false` if
    /// the request is none.
    pub fn absorb(&mut self, message: &Message, flow: &Flow, now: Now) -> bool {
        let Some(key) = self.keys.server(message, flow) else { return false };
        let Some(id) = self.servers.get(&(key, *flow)).copied() else { return false };
        let Some(mut context) = self.contexts.remove(&id) else { return false };
        let ack = message.method() == Some(Method::Ack);
        let accepted = matches!(&context.server, Some(AnyServer::Invite(server))
            if server.state() == super::transaction::server_invite::State::Accepted);
        let absorbed = !(ack && accepted);
        if absorbed {
            let input = if ack { ServerInput::Ack } else { ServerInput::Retransmission };
            self.tell_server(&mut context, input, now);
        }
        self.put_back(id, context);
        absorbed
    }

    /// How a CANCEL stands to the transactions here.
    pub fn pending(&self, message: &Message, flow: &Flow) -> Pending {
        if message.method() != Some(Method::Cancel) {
            return Pending::None;
        }
        if let Some(context) = self.cancelled_by(message, flow) {
            let fits = context.request.as_ref().is_some_and(|request| {
                let (invite, _) = &**request;
                invite.call_id() == message.call_id()
                    && invite.from_tag().eq_ignore_ascii_case(message.from_tag())
                    && invite.cseq().map(|c| c.number) == message.cseq().map(|c| c.number)
            });
            return if fits { Pending::Invite } else { Pending::None };
        }
        let other = OTHERS.iter().any(|method| {
            self.keys
                .target(message, method.as_bytes(), Some(flow))
                .is_some_and(|key| self.servers.contains_key(&(key, *flow)))
        });
        if other { Pending::Other } else { Pending::None }
    }

    fn cancelled_by(&self, message: &Message, flow: &Flow) -> Option<&Context> {
        let key = self.keys.target(message, b"INVITE", Some(flow))?;
        let id = self.servers.get(&(key, *flow))?;
        self.contexts.get(id).map(|context| &**context)
    }

    /// Sends a permitted request on its way.
    ///
    /// # Errors
    ///
    /// The refusal that it earns; nothing was kept then.
    pub fn forward(&mut self, permitted: Permitted<'_>, now: Now) -> Result<(), Refusal> {
        let bound = permitted.into_bound();
        match bound.method() {
            Method::Cancel => self.cancel(&bound, now),
            Method::Ack => self.forward_ack(&bound, now),
            _ => self.forward_request(&bound, now),
        }
    }

    fn forward_request(&mut self, bound: &Bound<'_>, now: Now) -> Result<(), Refusal> {
        let settings = self.shared.settings();
        let (message, arrival) = (bound.message(), bound.arrival());
        let flow = arrival.flow;
        let held = self.unanswered.get(&flow).copied().unwrap_or(0);
        let flow_full = arrival.side == Side::Ue && held >= settings.transactions_of_flow_max;
        if self.contexts.len() >= settings.transactions_max || flow_full {
            return Err(Refusal::TransactionsFull);
        }
        let mut route = route::route(bound, &self.shared, &settings, now)?;
        let edits = asserted::edit_request(bound, &self.shared.gate, &settings.headers)?;
        let (register, token) = self.prepare_register(bound, &settings, now)?;
        let branch = self.branch(message, arrival.side);
        let plan = Plan {
            settings: &settings,
            route: &route,
            path_token: token.as_deref(),
            branch: &branch,
        };
        let printed = outgoing::print(bound, edits, &plan)
            .map_err(|_| Refusal::Malformed(crate::wire::Fault::HeaderMalformed))?;
        let server_key = self.keys.server(message, &flow).map(|key| (key, flow));
        let track = self.shared.gate.associations.commit(bound, &route.sent, now);
        if let Some(track) = &track {
            self.shared.gate.associations.end_subscription(track, message, now);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let first = route.destinations.remove(0);
        let method = bound.method();
        let mut context = Box::new(Context {
            server_key,
            server: Some(new_server(method, flow.transport, settings.timings, now.mono)),
            clients: SmallVec::new(),
            request: Some(Box::new((message.clone(), arrival.clone()))),
            printed: None,
            remaining: route.destinations.into_iter().collect(),
            side: arrival.side,
            method,
            reply_to: reply_flow(message, arrival, &settings),
            track,
            register,
            cancelled: false,
            unavailable: false,
            timer: None,
        });
        if let Some(key) = server_key {
            self.servers.insert(key, id);
        }
        *self.unanswered.entry(flow).or_default() = held.saturating_add(1);
        if method == Method::Invite {
            self.answer(&mut context, 100, now);
        }
        self.start_client(id, &mut context, printed, first, &branch, now);
        self.put_back(id, context);
        Ok(())
    }

    /// A binding and its token for a REGISTER from a UE.
    fn prepare_register(
        &mut self,
        bound: &Bound<'_>,
        settings: &Settings,
        now: Now,
    ) -> Result<(Option<Register>, Option<String>), Refusal> {
        let message = bound.message();
        if bound.method() != Method::Register || bound.arrival().side != Side::Ue {
            return Ok((None, None));
        }
        if settings.path_strict && !message.has_option(Name::Supported, "path") {
            return Err(Refusal::PathUnsupported);
        }
        let Some(caller) = bound.caller() else { return Ok((None, None)) };
        let aor = message.to().map(|to| to.uri().identity()).unwrap_or_default();
        let flow = bound.arrival().flow;
        let binding = self.shared.bindings.prepare(flow, caller, &aor, now);
        let binding = binding.ok_or(Refusal::TableFull)?;
        let mut nonce = [0; super::token::NONCE_OCTETS];
        self.rng.fill_bytes(&mut nonce);
        let plain =
            super::token::Plain { binding: binding.number, caller: route::caller_mark(&binding) };
        let token = self.shared.tokens.seal(plain, nonce, now.wall);
        let register = Register {
            binding: binding.number,
            caller: Arc::clone(caller),
            ends: ends_all(message),
            proof: bound.authenticated().proof().cloned(),
        };
        Ok((Some(register), token))
    }

    /// An ACK to a 2xx goes the way of its dialog, without a transaction.
    fn forward_ack(&mut self, bound: &Bound<'_>, now: Now) -> Result<(), Refusal> {
        if !matches!(bound.ruling(), Ruling::Inside(_)) {
            return Err(Refusal::AckUnmatched);
        }
        let settings = self.shared.settings();
        let route: Route = route::route(bound, &self.shared, &settings, now)?;
        let edits = asserted::edit_request(bound, &self.shared.gate, &settings.headers)?;
        let branch = self.branch(bound.message(), bound.arrival().side);
        let plan = Plan { settings: &settings, route: &route, path_token: None, branch: &branch };
        let printed = outgoing::print(bound, edits, &plan).map_err(|_| Refusal::AckUnmatched)?;
        let to = route.destinations.first().cloned().ok_or(Refusal::AckUnmatched)?;
        self.outputs.push_back(Output { to, octets: printed.octets });
        Ok(())
    }

    /// Answers a CANCEL, and cancels the INVITE it fits.
    fn cancel(&mut self, bound: &Bound<'_>, now: Now) -> Result<(), Refusal> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let flow = arrival.flow;
        let settings = self.shared.settings();
        let own = self.keys.server(message, &flow).map(|key| (key, flow));
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let mut context = Box::new(Context {
            server_key: own,
            server: Some(new_server(Method::Cancel, flow.transport, settings.timings, now.mono)),
            clients: SmallVec::new(),
            request: Some(Box::new((message.clone(), arrival.clone()))),
            printed: None,
            remaining: SmallVec::new(),
            side: arrival.side,
            method: Method::Cancel,
            reply_to: reply_flow(message, arrival, &settings),
            track: None,
            register: None,
            cancelled: false,
            unavailable: false,
            timer: None,
        });
        if let Some(key) = own {
            self.servers.insert(key, id);
        }
        let held = self.unanswered.entry(flow).or_default();
        *held = held.saturating_add(1);
        self.answer(&mut context, 200, now);
        self.put_back(id, context);
        if arrival.pending != Pending::Invite {
            return Ok(());
        }
        let key = self.keys.target(message, b"INVITE", Some(&flow));
        let invite = key.and_then(|key| self.servers.get(&(key, flow)).copied());
        let Some((id, mut context)) = invite.and_then(|id| Some((id, self.contexts.remove(&id)?)))
        else {
            return Ok(());
        };
        context.cancelled = true;
        context.remaining.clear();
        for place in 0..context.clients.len() {
            self.tell_client(id, &mut context, place, ClientInput::Cancel, now);
        }
        self.put_back(id, context);
        Ok(())
    }

    /// Takes a response.
    ///
    /// # Errors
    ///
    /// [`Refusal::ResponseAstray`] and [`Refusal::TooManyEarlyDialogs`]: it was dropped.
    pub fn respond(
        &mut self,
        response: &Message,
        from: Responder,
        now: Now,
    ) -> Result<(), Refusal> {
        let key = self.keys.client_of(response).ok_or(Refusal::ResponseAstray)?;
        let id = self.clients.get(&key).copied().ok_or(Refusal::ResponseAstray)?;
        let mut context = self.contexts.remove(&id).ok_or(Refusal::ResponseAstray)?;
        let taken = self.take_response(id, &mut context, key, response, from, now);
        self.put_back(id, context);
        taken
    }

    fn take_response(
        &mut self,
        id: u64,
        context: &mut Context,
        key: ClientKey,
        response: &Message,
        from: Responder,
        now: Now,
    ) -> Result<(), Refusal> {
        let place = context.clients.iter().position(|branch| branch.key == key);
        let place = place.ok_or(Refusal::ResponseAstray)?;
        let branch = context.clients.get(place).ok_or(Refusal::ResponseAstray)?;
        if !fits(&branch.to, &from) {
            return Err(Refusal::ResponseAstray);
        }
        let cancel = branch.cancel;
        let events = self.tell_client(id, context, place, ClientInput::Response(response), now);
        if cancel {
            return Ok(());
        }
        for event in events {
            match event {
                Event::Answer(status) => self.answered(id, context, response, status, now)?,
                Event::Gone { .. } => {}
            }
        }
        Ok(())
    }

    /// A response that the context has to act on.
    fn answered(
        &mut self,
        id: u64,
        context: &mut Context,
        response: &Message,
        status: u16,
        now: Now,
    ) -> Result<(), Refusal> {
        if status == 100 {
            return Ok(());
        }
        if status == 503 {
            context.unavailable = true;
            if self.next_destination(id, context, now) {
                return Ok(());
            }
            self.give_up(context, now);
            return Ok(());
        }
        if let Some(track) = &context.track {
            self.shared.gate.associations.respond(track, response, now)?;
        }
        if matches!(status, 200..=299) {
            self.note_registration(context, response, now);
        }
        let settings = self.shared.settings();
        let edits =
            asserted::edit_response(response, context.side, &self.shared.gate, &settings.headers);
        let proof = context.register.as_ref().and_then(|register| register.proof.as_ref());
        if let Some(octets) = returning::print(response, edits, proof, context.reply_to.transport) {
            self.send_back(context, status, octets, now);
        }
        Ok(())
    }

    fn note_registration(&self, context: &Context, response: &Message, now: Now) {
        let Some(Register { binding, caller, ends, .. }) = &context.register else { return };
        let granted = if *ends { std::time::Duration::ZERO } else { returning::granted(response) };
        let routes = response.values(Name::ServiceRoute).map(Box::from).collect();
        let flows = self.shared.gate.authentication.flows();
        if granted.is_zero() {
            flows.note_deregistered(&context.reply_to, caller);
        } else {
            flows.note_registered(&context.reply_to, caller, granted, now);
        }
        self.shared.bindings.confirm(*binding, caller, granted, routes, now);
    }

    /// Tries the next destination; `false` if there is none.
    fn next_destination(&mut self, id: u64, context: &mut Context, now: Now) -> bool {
        if context.remaining.is_empty() || context.cancelled {
            return false;
        }
        let to = context.remaining.remove(0);
        let (Some(printed), Some(request)) = (&context.printed, &context.request) else {
            return false;
        };
        let branch = self.branch(&request.0, context.side);
        let settings = self.shared.settings();
        let side = outgoing::other(context.side);
        let Ok(printed) = outgoing::reprint(printed, &settings, side, &to, &branch) else {
            return false;
        };
        self.start_client(id, context, printed, to, &branch, now);
        true
    }

    /// No destination is left: 500 if one was there but not ready, else as 408.
    fn give_up(&mut self, context: &mut Context, now: Now) {
        if let Some(track) = &context.track {
            self.shared.gate.associations.fail(track, now);
        }
        let status = if context.cancelled {
            487
        } else if context.unavailable {
            500
        } else {
            408
        };
        self.answer(context, status, now);
    }

    /// Answers with a response of our own.
    fn answer(&mut self, context: &mut Context, status: u16, now: Now) {
        let Some(request) = &context.request else { return };
        let (message, arrival) = &**request;
        let octets = if status == 100 {
            crate::wire::Reply::to(message, 100)
                .source(arrival.flow.remote)
                .octets()
                .map(Bytes::from)
        } else {
            self.shared.gate.reply(message, arrival, status, |reply| reply)
        };
        if let Some(octets) = octets {
            self.send_back(context, status, octets, now);
        }
    }

    fn send_back(&mut self, context: &mut Context, status: u16, octets: Bytes, now: Now) {
        self.tell_server(context, ServerInput::Respond { status, octets }, now);
        if status >= 200 && context.request.take().is_some() {
            context.printed = None;
            self.count_down(&context.server_key, &context.reply_to);
        }
    }

    fn count_down(&mut self, key: &Option<(ServerKey, Flow)>, reply_to: &Flow) {
        let flow = key.as_ref().map_or(*reply_to, |(_, flow)| *flow);
        if let Some(held) = self.unanswered.get_mut(&flow) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.unanswered.remove(&flow);
            }
        }
    }

    fn start_client(
        &mut self,
        id: u64,
        context: &mut Context,
        printed: Printed,
        to: Destination,
        branch: &str,
        now: Now,
    ) {
        let timings = self.shared.settings().timings;
        let octets = printed.octets.clone();
        let machine = if context.method == Method::Invite {
            AnyClient::Invite(ClientInvite::new(octets, to.transport(), timings, now.mono))
        } else {
            AnyClient::Other(Client::new(octets, to.transport(), timings, now.mono))
        };
        let method = match &context.request {
            Some(request) => request.0.method_octets(),
            None => b"",
        };
        let key = self.keys.client(branch.as_bytes(), method);
        context.printed = (!context.remaining.is_empty()).then_some(printed);
        self.clients.insert(key, id);
        context.clients.push(Branch { key, machine, to, cancel: false });
        let place = context.clients.len().saturating_sub(1);
        self.drain_client(id, context, place, now);
    }

    fn tell_client(
        &mut self,
        id: u64,
        context: &mut Context,
        place: usize,
        input: ClientInput<'_>,
        now: Now,
    ) -> SmallVec<[Event; 2]> {
        let Some(branch) = context.clients.get_mut(place) else { return SmallVec::new() };
        branch.machine.handle(input, now.mono);
        self.drain_client(id, context, place, now)
    }

    fn drain_client(
        &mut self,
        id: u64,
        context: &mut Context,
        place: usize,
        now: Now,
    ) -> SmallVec<[Event; 2]> {
        let mut events = SmallVec::new();
        let mut cancels: SmallVec<[Bytes; 1]> = SmallVec::new();
        let Some(branch) = context.clients.get_mut(place) else { return events };
        let to = branch.to.clone();
        let mut over = false;
        while let Some(output) = branch.machine.poll_output() {
            match output {
                ClientOutput::Send(octets) => {
                    self.outputs.push_back(Output { to: to.clone(), octets });
                }
                ClientOutput::Provisional(status) | ClientOutput::Final(status) => {
                    events.push(Event::Answer(status));
                }
                ClientOutput::Cancel(octets) => cancels.push(octets),
                ClientOutput::Timeout => events.push(Event::Gone { unavailable: false }),
                ClientOutput::TransportFailed => events.push(Event::Gone { unavailable: true }),
                ClientOutput::Terminated => over = true,
            }
        }
        if over {
            let branch = context.clients.remove(place);
            self.clients.remove(&branch.key);
        }
        for octets in cancels {
            self.start_cancel(id, context, octets, to.clone(), now);
        }
        events
    }

    fn start_cancel(
        &mut self,
        id: u64,
        context: &mut Context,
        octets: Bytes,
        to: Destination,
        now: Now,
    ) {
        let Ok(message) = Message::from_datagram(octets.clone()) else { return };
        let Some(via) = message.top_via() else { return };
        let key = self.keys.client(via.branch(), b"CANCEL");
        let timings = self.shared.settings().timings;
        let machine = AnyClient::Other(Client::new(octets, to.transport(), timings, now.mono));
        self.clients.insert(key, id);
        context.clients.push(Branch { key, machine, to, cancel: true });
        let place = context.clients.len().saturating_sub(1);
        self.drain_client(id, context, place, now);
    }

    fn tell_server(&mut self, context: &mut Context, input: ServerInput, now: Now) {
        let Some(server) = &mut context.server else { return };
        server.handle(input, now.mono);
        let (mut over, mut trying) = (false, false);
        while let Some(output) = server.poll_output() {
            match output {
                ServerOutput::Send(octets) => {
                    let to = Destination::Flow(context.reply_to);
                    self.outputs.push_back(Output { to, octets });
                }
                ServerOutput::TryingDue => trying = true,
                ServerOutput::Terminated => over = true,
                ServerOutput::Ack | ServerOutput::Timeout | ServerOutput::TransportFailed => {}
            }
        }
        if over {
            context.server = None;
            if let Some(key) = context.server_key.take() {
                self.servers.remove(&key);
                if context.request.take().is_some() {
                    self.count_down(&Some(key), &context.reply_to);
                }
            }
        }
        if trying {
            self.answer(context, 100, now);
        }
    }

    /// The destination cannot be reached: whatever waits for it goes elsewhere, or is given up.
    pub fn transport_failed(&mut self, failed: &Destination, now: Now) {
        let waits = |context: &Context| {
            context.clients.iter().any(|branch| branch.to == *failed) && context.request.is_some()
        };
        let ids: Vec<u64> =
            self.contexts.iter().filter(|(_, context)| waits(context)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(mut context) = self.contexts.remove(&id) else { continue };
            let place = context.clients.iter().position(|branch| branch.to == *failed);
            if let Some(place) = place {
                let cancel = context.clients.get(place).is_some_and(|branch| branch.cancel);
                let events =
                    self.tell_client(id, &mut context, place, ClientInput::TransportFailed, now);
                if !cancel {
                    self.lost(id, &mut context, &events, now);
                }
            }
            self.put_back(id, context);
        }
    }

    /// A client transaction ended without an answer.
    fn lost(&mut self, id: u64, context: &mut Context, events: &[Event], now: Now) {
        for event in events {
            let Event::Gone { unavailable } = event else { continue };
            context.unavailable |= *unavailable;
            if !self.next_destination(id, context, now) {
                self.give_up(context, now);
            }
        }
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Now) {
        let mut due: SmallVec<[u64; 16]> = SmallVec::new();
        self.wheel.expire(now.mono, |id| due.push(id));
        for id in due {
            let Some(mut context) = self.contexts.remove(&id) else { continue };
            context.timer = None;
            if context
                .server
                .as_ref()
                .and_then(AnyServer::poll_timeout)
                .is_some_and(|at| at <= now.mono)
            {
                self.tell_server(&mut context, ServerInput::Timeout, now);
            }
            let mut place = 0;
            while let Some(branch) = context.clients.get(place) {
                let (key, cancel) = (branch.key, branch.cancel);
                if branch.machine.poll_timeout().is_some_and(|at| at <= now.mono) {
                    let events =
                        self.tell_client(id, &mut context, place, ClientInput::Timeout, now);
                    if !cancel {
                        self.lost(id, &mut context, &events, now);
                    }
                }
                let still_there =
                    context.clients.get(place).is_some_and(|branch| branch.key == key);
                place = place.saturating_add(usize::from(still_there));
            }
            self.put_back(id, context);
        }
    }

    /// Keeps a context that has live transactions, with one timer for the earliest of them.
    fn put_back(&mut self, id: u64, mut context: Box<Context>) {
        let server = context.server.as_ref().and_then(AnyServer::poll_timeout);
        let clients = context.clients.iter().filter_map(|branch| branch.machine.poll_timeout());
        let earliest = clients.chain(server).min();
        if earliest != context.timer.map(|(_, at)| at) {
            if let Some((key, _)) = context.timer.take() {
                self.wheel.cancel(key);
            }
            context.timer = earliest.map(|at| (self.wheel.insert(at, id), at));
        }
        if context.server.is_some() || !context.clients.is_empty() {
            self.contexts.insert(id, context);
            return;
        }
        if let Some((key, _)) = context.timer {
            self.wheel.cancel(key);
        }
        if context.request.is_some() {
            self.count_down(&context.server_key, &context.reply_to);
        }
    }

    /// The next octets to send.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Proxy::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// The key by which a request is known to be the same one again; `None` if its branch has no cookie.
    pub fn key_of(&self, message: &Message, flow: &Flow) -> Option<(ServerKey, Flow)> {
        self.keys.server(message, flow).map(|key| (key, *flow))
    }

    /// Contexts held.
    pub fn footprint(&self) -> usize {
        self.contexts.len()
    }

    /// Requests that no final response has gone back to.
    pub fn unanswered(&self) -> usize {
        self.unanswered.values().sum()
    }

    /// A new branch: cookie, worker, 128 random bits, loop part.
    fn branch(&mut self, message: &Message, side: Side) -> String {
        let loop_part = precheck::loop_part(message, side, &self.loop_key);
        let (high, low) = (self.rng.next_u64(), self.rng.next_u64());
        let loop_part = String::from_utf8_lossy(&loop_part);
        format!("z9hG4bK{:02x}{high:016x}{low:016x}{loop_part}", self.worker)
    }
}

fn new_server(
    method: Method,
    transport: Transport,
    timings: super::timers::Timings,
    now: Instant,
) -> AnyServer {
    if method == Method::Invite {
        AnyServer::Invite(ServerInvite::new(transport, timings, now))
    } else {
        AnyServer::Other(Server::new(transport, timings, now))
    }
}

/// Whether a response came from where its request went: the flow itself, or a server of the same group.
fn fits(to: &Destination, from: &Responder) -> bool {
    match to {
        Destination::Flow(flow) => *flow == from.flow,
        Destination::Target(target) => {
            let group: Option<GroupId> = from.group.map(|group| group.id);
            group == Some(target.group)
        }
    }
}

/// The flow that responses take: the one the request came on; on UDP from a server that did not ask for
/// `rport`, the port of its Via (`VIA-03`, `VIA-04`).
fn reply_flow(message: &Message, arrival: &Arrival, settings: &Settings) -> Flow {
    let mut flow = arrival.flow;
    let force = settings.listener(flow.listener).is_none_or(|listener| listener.force_rport);
    let asks_rport = message.top_via().is_some_and(|via| via.param("rport").is_some());
    if flow.transport == Transport::Udp && !asks_rport && !(force && arrival.side == Side::Ue) {
        let port = message.top_via().and_then(|via| via.port()).unwrap_or(5060);
        flow.remote.set_port(port);
    }
    flow
}

/// Whether a REGISTER takes all its Contacts away.
fn ends_all(message: &Message) -> bool {
    let mut contacts = message.values(Name::Contact).peekable();
    let ends = |value: &[u8]| {
        let of_contact = crate::wire::Address::parse(value)
            .and_then(|contact| contact.param("expires").and_then(crate::wire::headers::seconds));
        of_contact.or_else(|| message.expires()) == Some(0)
    };
    contacts.peek().is_some() && contacts.all(ends)
}

/// Methods whose transactions a CANCEL may meet without effect.
const OTHERS: [&str; 11] = [
    "BYE",
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
];

//! Stage 7, the proxy: one worker's transactions, tied together in pairs.
//!
//! 1. A permitted request gets a route, is printed, committed to its dialog, and becomes a *context*: one server
//!    transaction, and one client transaction at a time.
//! 2. Provisional and final responses go back; a destination that fails gives way to the next one.
//! 3. CANCEL is answered and cancels the client transaction; ACK to a 2xx passes without a transaction.
//! 4. A context is gone when all its transactions have ended.
//!
//! Takes:   [`Permitted`](crate::enabler::Permitted), retransmissions, responses, failed transports, the time.
//! Gives:   [`Output`]s; drain [`Proxy::poll_output`] after each call, then arm one timer.
//! Keeps:   contexts and one timer each, `transactions_max`; the request only until it is answered.
//! Refuses: responses without transaction, or from elsewhere than the request went (rule 16); more transactions
//!          than fit.
//! Sources: RFC 3261 sections 9, 16.6 to 16.10 and 17; RFC 6026; RFC 3263 section 4.3; `PX`, `TX`, `DNS-03`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use smallvec::SmallVec;

use super::context::{AnyClient, AnyServer, Branch, Context};
use super::lingering::{Accepted, Copy, Lingering};
use super::outgoing::Printed;
use super::precheck::{self, Check, LoopPart};
use super::table::Table;
use super::transaction::{
    self, Client, ClientInput, ClientInvite, ClientKey, ClientOutput, Keys, ServerInput, ServerKey,
    ServerOutput,
};
use super::wrapping::Keyings;
use super::{Destination, Output, Settings, Shared};
use crate::hashing::{Hashed, Seeded, seeded};
use crate::instant::{Instant, Now};
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow, Pending};
use crate::wheel::Wheel;
use crate::wire::octets::hex_digits;
use crate::wire::{Message, Method};

/// One worker's stage 7.
pub struct Proxy {
    pub(super) shared: Arc<Shared>,
    /// This worker's copy, so that none is counted by all of them; and which version it is of.
    pub(super) settings: (Arc<Settings>, u64),
    pub(super) worker: u8,
    pub(super) keys: Keys,
    pub(super) loop_key: [u8; 16],
    pub(super) rng: ChaCha12Rng,
    pub(super) wheel: Wheel<u64>,
    pub(super) contexts: HashMap<u64, Box<Context>, Hashed>,
    /// Those that wait for an answer, under a hash of where their requests went.
    pub(super) on_the_way: BTreeSet<(u64, u64)>,
    /// Those that are answered, until their copies cannot come any more.
    pub(super) lingering: Lingering,
    /// Transactions that count as ours, though they are held elsewhere.
    pub(super) beside: usize,
    pub(super) servers: Table<ServerKey, Place>,
    pub(super) clients: Table<ClientKey, Place>,
    /// Hashes flows into keys.
    pub(super) flow_hash: Seeded,
    pub(super) unanswered: HashMap<Flow, usize, Seeded>,
    pub(super) next: u64,
    pub(super) outputs: VecDeque<Output>,
    pub(super) holds: VecDeque<Hold>,
    pub(super) keyings: Keyings,
    /// How often requests were taken back, when this worker looked last.
    pub(super) taken_back: u64,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("worker", &self.worker)
            .field("contexts", &self.contexts.len())
            .finish_non_exhaustive()
    }
}

/// Where a transaction is found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A context.
    Live(u64),
    /// Among those that linger.
    Lingering(u64),
}

/// A connection, and how long it may be silent (`KA-03`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The connection.
    pub flow: Flow,
    /// For how long, and until when that holds; `None` if it may be silent again.
    pub silence: Option<(Duration, Instant)>,
}

/// A branch of ours.
pub(super) type OwnBranch = SmallVec<[u8; 64]>;

/// What a client transaction told its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Answer(u16),
    Gone { unavailable: bool },
}

impl Proxy {
    /// Worker `worker`'s stage 7; `seed` is any secret octets, different for each worker.
    pub fn new(shared: Arc<Shared>, worker: u8, seed: [u8; 32], loop_key: [u8; 16]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut secret = [0; 16];
        rng.fill_bytes(&mut secret);
        let version = shared.version();
        Self {
            settings: (Arc::new(Settings::clone(&shared.settings())), version),
            shared,
            worker,
            keys: Keys::new(&secret),
            loop_key,
            rng,
            wheel: Wheel::new(),
            contexts: HashMap::default(),
            on_the_way: BTreeSet::new(),
            lingering: Lingering::default(),
            beside: 0,
            servers: Table::default(),
            clients: Table::default(),
            flow_hash: seeded(),
            unanswered: HashMap::with_hasher(seeded()),
            next: 0,
            outputs: VecDeque::new(),
            holds: VecDeque::new(),
            keyings: Keyings::default(),
            taken_back: 0,
        }
    }

    /// Takes over settings that were replaced. A request keeps those it began with.
    pub fn refresh(&mut self) {
        let version = self.shared.version();
        if version != self.settings.1 {
            self.settings = (Arc::new(Settings::clone(&self.shared.settings())), version);
        }
    }

    /// Whether what stands behind the edge is kept from UEs.
    pub fn hides(&self) -> bool {
        self.settings.0.hides
    }

    /// The settings now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.0)
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
        precheck::precheck(message, arrival, &self.settings(), &self.loop_key)
    }

    /// Hands a retransmission, or an ACK to a final response other than 2xx, to its transaction; `false` if
    /// the request is none.
    pub fn absorb(&mut self, message: &Message, key: &ServerKey, now: Now) -> bool {
        let ack = message.method() == Some(Method::Ack);
        let id = match self.servers.get(key) {
            None => return false,
            Some(Place::Live(id)) => *id,
            Some(Place::Lingering(number)) => {
                return match self.lingering.copy(*number) {
                    Some(Copy::Answer(flow, octets)) if !ack => {
                        self.outputs.push_back(Output { to: Destination::Flow(flow), octets });
                        true
                    }
                    Some(Copy::Answer(..)) => true,
                    Some(Copy::Accepted) => !ack,
                    None => false,
                };
            }
        };
        let Some(mut context) = self.contexts.remove(&id) else { return false };
        let accepted = matches!(&context.server, Some(AnyServer::Invite(server))
            if server.state() == transaction::server_invite::State::Accepted);
        let absorbed = !(ack && (accepted || !context.acknowledged_by(message)));
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
        let invite = self.keys.target_any(message, b"INVITE", flow);
        let invite = invite.map(|key| key.on(self.flow_hash.hash_one(flow)));
        match invite.and_then(|key| self.servers.get(&key)) {
            Some(Place::Live(id)) => return self.cancels(*id, message),
            // It crosses the final answer, and has no effect (RFC 3261 section 9.2).
            Some(Place::Lingering(_)) => return Pending::Other,
            None => {}
        }
        let other = OTHERS.iter().any(|method| {
            let key = self.keys.target_any(message, method.as_bytes(), flow);
            key.is_some_and(|key| self.servers.contains(&key.on(self.flow_hash.hash_one(flow))))
        });
        if other { Pending::Other } else { Pending::None }
    }

    /// The key of a request with that method which a message is about.
    pub fn key_to(&self, message: &Message, method: &[u8], flow: &Flow) -> Option<ServerKey> {
        let key = self.keys.target_any(message, method, flow)?;
        Some(key.on(self.flow_hash.hash_one(flow)))
    }

    /// How a CANCEL stands to an INVITE of the same branch, sent-by and flow.
    fn cancels(&self, id: u64, cancel: &Message) -> Pending {
        let Some(context) = self.contexts.get(&id) else { return Pending::None };
        let Some((invite, _)) = &context.request else { return Pending::Other };
        if is_about(cancel, invite) { Pending::Invite } else { Pending::None }
    }

    /// The context of the request with that method which a message is about.
    pub(super) fn server_of(&self, message: &Message, method: &[u8], flow: &Flow) -> Option<u64> {
        let key = self.keys.target_any(message, method, flow)?;
        match self.servers.get(&key.on(self.flow_hash.hash_one(flow)))? {
            Place::Live(id) => Some(*id),
            Place::Lingering(_) => None,
        }
    }

    pub(super) fn start_client(
        &mut self,
        id: u64,
        context: &mut Context,
        printed: Printed,
        to: Destination,
        branch: &[u8],
        now: Now,
    ) {
        let timings = self.settings().timings;
        let octets = printed.octets.clone();
        let machine = if context.method == Method::Invite {
            AnyClient::Invite(ClientInvite::new(octets, to.transport(), timings, now.mono))
        } else {
            AnyClient::Other(Client::new(octets, to.transport(), timings, now.mono))
        };
        let method = match &context.request {
            Some(request) => request.0.method_octets(),
            None => context.method.as_str().as_bytes(),
        };
        let key = self.keys.client(branch, method);
        context.printed = (!context.remaining.is_empty()).then_some(printed);
        self.clients.insert(key, Place::Live(id));
        context.clients.push(Branch { key, machine, to, cancel: false });
        let place = context.clients.len().saturating_sub(1);
        self.drain_client(id, context, place, now);
    }

    pub(super) fn tell_client(
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

    pub(super) fn drain_client(
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

    pub(super) fn start_cancel(
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
        let timings = self.settings().timings;
        let machine = AnyClient::Other(Client::new(octets, to.transport(), timings, now.mono));
        self.clients.insert(key, Place::Live(id));
        context.clients.push(Branch { key, machine, to, cancel: true });
        let place = context.clients.len().saturating_sub(1);
        self.drain_client(id, context, place, now);
    }

    pub(super) fn tell_server(&mut self, context: &mut Context, input: ServerInput, now: Now) {
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
            self.servers.remove(&context.server_key);
            if context.request.take().is_some() {
                self.count_down(&context.flow);
            }
        }
        if trying {
            self.answer(context, 100, now);
        }
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Now) {
        let Self { lingering, servers, clients, .. } = self;
        lingering.expire(now.mono, |server, client| {
            servers.remove(&server);
            client.map(|client| clients.remove(&client));
        });
        let mut due: SmallVec<[u64; 16]> = SmallVec::new();
        self.wheel.expire(now.mono, |id| due.push(id));
        for id in due {
            let Some(mut context) = self.contexts.remove(&id) else {
                self.keying_over(id, now);
                continue;
            };
            context.timer = None;
            if context
                .server
                .as_ref()
                .and_then(AnyServer::poll_timeout)
                .is_some_and(|at| at <= now.mono)
            {
                self.tell_server(&mut context, ServerInput::Timeout, now);
                if context.server.is_none() {
                    self.end_unacknowledged(&mut context, now);
                }
            }
            self.repeat_accepted(&mut context, now);
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
    pub(super) fn put_back(&mut self, id: u64, mut context: Box<Context>) {
        self.fold_up(&mut context);
        self.note_ways(id, &mut context);
        if context.server.is_none() && context.clients.is_empty() {
            if let Some((key, _)) = context.timer {
                self.wheel.cancel(key);
            }
            if context.request.is_some() {
                self.count_down(&context.flow);
            }
            return;
        }
        let server = context.server.as_ref().and_then(AnyServer::poll_timeout);
        let clients = context.clients.iter().filter_map(|branch| branch.machine.poll_timeout());
        let repeated = context.crossing.as_ref().and_then(|crossing| crossing.poll_timeout());
        let earliest = clients.chain(server).chain(repeated).min();
        // A timer that goes off early finds nothing due, so it is set anew only when it would be late.
        let late = match (earliest, context.timer) {
            (Some(earliest), Some((_, armed))) => earliest < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if late {
            if let Some((key, _)) = context.timer.take() {
                self.wheel.cancel(key);
            }
            context.timer = earliest.map(|at| (self.wheel.insert(at, id), at));
        }
        self.contexts.insert(id, context);
    }

    /// Keeps the index of those that wait by where their requests went.
    fn note_ways(&mut self, id: u64, context: &mut Context) {
        let mut ways: SmallVec<[u64; 1]> = SmallVec::new();
        if context.request.is_some() {
            ways.extend(context.clients.iter().map(|branch| self.way(&branch.to)));
            ways.sort_unstable();
            ways.dedup();
        }
        if ways == context.ways {
            return;
        }
        for way in context.ways.iter().filter(|way| !ways.contains(way)) {
            self.on_the_way.remove(&(*way, id));
        }
        for way in ways.iter().filter(|way| !context.ways.contains(way)) {
            self.on_the_way.insert((*way, id));
        }
        context.ways = ways;
    }

    /// A hash of a destination: the same for a server on UDP and for a flow to its address.
    pub(super) fn way(&self, to: &Destination) -> u64 {
        let (remote, connection) = match to {
            Destination::Flow(flow) => (flow.remote, flow.connection),
            Destination::Target(target) => (target.address, None),
        };
        self.flow_hash.hash_one((to.transport(), remote, connection))
    }

    /// Lets what is answered linger: of a context nothing is kept then but what a copy of the request needs. A
    /// client transaction that would only absorb copies of a final response ends at once, since a response
    /// without a transaction is dropped just so.
    fn fold_up(&mut self, context: &mut Context) {
        let lasts = context.crossing.as_ref().is_some_and(|crossing| crossing.lasts());
        if context.request.is_some() || lasts {
            return;
        }
        let (key, reply_to) = (context.server_key, context.reply_to);
        let clients = &mut self.clients;
        context.clients.retain(|branch| {
            let keep = !branch.machine.only_absorbs();
            if !keep {
                clients.remove(&branch.key);
            }
            keep
        });
        let place = match (&context.server, context.clients.as_slice()) {
            (Some(AnyServer::Other(server)), []) => {
                let Some((answer, until)) = server.completed() else { return };
                let ours = context.crossing.take().and_then(|crossing| crossing.into_place());
                self.lingering.answered(key, reply_to, answer, until, ours)
            }
            (Some(AnyServer::Invite(server)), [branch]) if branch.machine.is_accepted() => {
                let Some(until) = server.accepted_until() else { return };
                let (client, to) = (branch.key, branch.to.clone());
                let (side, track, keeps) = (context.side, context.track, context.keeps);
                let accepted = Accepted { client, to, side, track, keeps };
                let place = self.lingering.accepted(key, reply_to, accepted, until);
                clients.insert(client, Place::Lingering(place));
                place
            }
            _ => return,
        };
        self.servers.insert(key, Place::Lingering(place));
        context.server = None;
        context.clients.clear();
    }

    /// The next octets to send.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next connection whose peer was told how often to ping, or is no longer held to it.
    pub fn poll_hold(&mut self) -> Option<Hold> {
        self.holds.pop_front()
    }

    /// When [`Proxy::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let behind = self.is_behind().then_some(Instant::START);
        [self.wheel.next(), self.lingering.poll_timeout(), behind].into_iter().flatten().min()
    }

    /// The key by which a request is known to be the same one again; `None` if its branch has no cookie, and its
    /// sender is in no group that may do without (`TX-08`).
    pub fn key_of(&self, message: &Message, arrival: &Arrival) -> Option<ServerKey> {
        let flow = &arrival.flow;
        let key = self.keys.server(message, flow).or_else(|| {
            let group = arrival.group?.id;
            let allowed = self.settings().rfc2543.contains(&group);
            allowed.then(|| self.keys.server_old(message, flow))?
        });
        key.map(|key| key.on(self.flow_hash.hash_one(flow)))
    }

    /// Transactions held, those included that are answered and linger.
    pub fn footprint(&self) -> usize {
        self.contexts.len().saturating_add(self.lingering.len()).saturating_add(self.beside)
    }

    /// Requests that no final response has gone back to.
    pub fn unanswered(&self) -> usize {
        self.unanswered.values().sum()
    }

    /// A new branch: cookie, worker, 128 random bits, loop part.
    pub(super) fn branch(&mut self, loop_part: &LoopPart) -> OwnBranch {
        let (high, low) = (self.rng.next_u64().to_be_bytes(), self.rng.next_u64().to_be_bytes());
        let mut digits = [0; 34];
        let octets = std::iter::once(self.worker).chain(high).chain(low);
        for (pair, octet) in digits.chunks_exact_mut(2).zip(octets) {
            pair.copy_from_slice(&hex_digits(octet));
        }
        let mut branch = OwnBranch::new();
        branch.extend_from_slice(transaction::key::COOKIE);
        branch.extend_from_slice(&digits);
        branch.extend_from_slice(loop_part);
        branch
    }
}

/// Methods whose transactions a CANCEL may meet without effect.
pub(super) const OTHERS: [&str; 11] = [
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

/// Whether a CANCEL is about that INVITE, on whose branch and flow it came.
///
/// Source: RFC 3261 section 9.1.
pub fn is_about(cancel: &Message, invite: &Message) -> bool {
    invite.call_id() == cancel.call_id()
        && invite.from_tag().eq_ignore_ascii_case(cancel.from_tag())
        && invite.cseq().map(|c| c.number) == cancel.cseq().map(|c| c.number)
}

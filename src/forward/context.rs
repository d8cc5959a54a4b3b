//! Stage 7, a context: one request on its way, and the transactions at either side of it.
//!
//! Takes:   nothing by itself; the proxy moves it.
//! Gives:   the state of one request: its server transaction, its client transactions, where else it may go.
//! Keeps:   the request until it is answered, then only what may have to be repeated.
//! Refuses: a response from elsewhere than its request went (rule 16).
//! Sources: RFC 3261 sections 16.6, 16.7, 17.1.3 and 18.2.2; `VIA-03`, `VIA-04`, `PX-18`.

use std::sync::Arc;

use smallvec::SmallVec;

use super::b2bua::Ongoing;
use super::bridging::Crossing;
use super::ending::Purpose;
use super::outgoing::Printed;
use super::timers::Timings;
use super::transaction::key::has_cookie;
use super::transaction::{
    self, Client, ClientInput, ClientInvite, ClientKey, ClientOutput, Server, ServerInput,
    ServerInvite, ServerKey, ServerOutput,
};
use super::wrapping::Pushing;
use super::{Destination, Settings};
use crate::association::trial::Twins;
use crate::association::{Responder, Track};
use crate::authentication::{Caller, ServerProof};
use crate::instant::Instant;
use crate::transport::{Arrival, Flow, GroupId, Side, Transport};
use crate::wheel::TimerKey;
use crate::wire::device::Asked;
use crate::wire::{Message, Method};

/// A request on its way: its server transaction and what became of it downstream.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) server_key: ServerKey,
    /// The flow the request came on.
    pub(super) flow: Flow,
    pub(super) server: Option<AnyServer>,
    pub(super) clients: SmallVec<[Branch; 1]>,
    /// The request as it came, until a final response has gone back.
    pub(super) request: Option<(Message, Arrival)>,
    /// The request as it left, for the next destination.
    pub(super) printed: Option<Printed>,
    pub(super) remaining: SmallVec<[Destination; 1]>,
    pub(super) side: Side,
    pub(super) method: Method,
    pub(super) reply_to: Flow,
    pub(super) track: Option<Track>,
    /// The token that a provisional answer to it told a UE.
    pub(super) told: Option<String>,
    pub(super) register: Option<Box<Register>>,
    /// What is remembered of it if it is bridged.
    pub(super) crossing: Option<Box<Crossing>>,
    /// What it has to do with an association that is pushed.
    pub(super) push: Option<Box<Pushing>>,
    /// What it is for if it is a request of our own: nobody waits for its answer.
    pub(super) own: Option<Purpose>,
    pub(super) cancelled: bool,
    /// Whether some destination answered 503, and no other final answer came.
    pub(super) unavailable: bool,
    /// Whether the last flow that was tried is gone.
    pub(super) unreachable: bool,
    /// Whether it went to a flow in doubt, so that no answer means that the flow is gone.
    pub(super) doubtful: bool,
    /// Whether its sender may be told how often to send keep-alives (`KA-04`).
    pub(super) keeps: bool,
    pub(super) timer: Option<(TimerKey, Instant)>,
    /// Under what it is found by where its requests went.
    pub(super) ways: SmallVec<[u64; 1]>,
}

impl Context {
    /// That of a request of our own, which goes to `flow`, away from `side`.
    pub(super) fn own(method: Method, flow: Flow, side: Side, purpose: Purpose) -> Self {
        Self {
            server_key: ServerKey::of_number(0),
            flow,
            server: None,
            clients: SmallVec::new(),
            request: None,
            printed: None,
            remaining: SmallVec::new(),
            side,
            method,
            reply_to: flow,
            track: None,
            told: None,
            register: None,
            crossing: None,
            push: None,
            own: Some(purpose),
            cancelled: false,
            unavailable: false,
            unreachable: false,
            doubtful: false,
            keeps: false,
            timer: None,
            ways: SmallVec::new(),
        }
    }

    /// The same as it stands, to go its own way; without a timer.
    pub(super) fn twin(&self, twins: &Twins, ongoing: &Ongoing) -> Self {
        let crossing = self.crossing.as_ref();
        Self {
            server_key: self.server_key,
            flow: self.flow,
            server: self.server.clone(),
            clients: self.clients.clone(),
            request: self.request.clone(),
            printed: self.printed.clone(),
            remaining: self.remaining.clone(),
            side: self.side,
            method: self.method,
            reply_to: self.reply_to,
            track: self.track,
            told: self.told.clone(),
            register: self.register.clone(),
            crossing: crossing.map(|crossing| Box::new(crossing.twin(twins, ongoing))),
            // Associations are left alone: a trial wraps nothing, and reads no receipt.
            push: None,
            own: self.own.as_ref().map(|own| own.twin(twins)),
            cancelled: self.cancelled,
            unavailable: self.unavailable,
            unreachable: self.unreachable,
            doubtful: self.doubtful,
            keeps: self.keeps,
            timer: None,
            ways: SmallVec::new(),
        }
    }

    /// Whether an ACK that matched by its key acknowledges what was answered: by the second procedure of RFC 3261
    /// section 17.2.3 its To tag must be the response's.
    pub(super) fn acknowledged_by(&self, ack: &Message) -> bool {
        if ack.top_via().is_some_and(|via| has_cookie(via.branch())) {
            return true;
        }
        let Some(AnyServer::Invite(server)) = &self.server else { return false };
        Message::from_datagram(server.response().clone())
            .is_ok_and(|response| response.to_tag().eq_ignore_ascii_case(ack.to_tag()))
    }
}

/// What a 2xx to a REGISTER is noted for.
#[derive(Clone, Debug)]
pub(super) struct Register {
    pub(super) binding: u64,
    pub(super) caller: Arc<Caller>,
    /// The flow it came on.
    pub(super) flow: Flow,
    /// What it is about.
    pub(super) asked: Asked,
    /// The address of record.
    pub(super) aor: Box<[u8]>,
    /// What the edge proves itself with in the 2xx.
    pub(super) proof: Option<Arc<ServerProof>>,
}

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) key: ClientKey,
    pub(super) machine: AnyClient,
    pub(super) to: Destination,
    /// Whether it carries a CANCEL, whose responses are nobody's business.
    pub(super) cancel: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum AnyServer {
    Invite(ServerInvite),
    Other(Server),
}

#[derive(Clone, Debug)]
pub(crate) enum AnyClient {
    Invite(ClientInvite),
    Other(Client),
}

impl AnyServer {
    pub(crate) fn handle(&mut self, input: ServerInput, now: Instant) {
        match self {
            Self::Invite(machine) => machine.handle(input, now),
            Self::Other(machine) => machine.handle(input, now),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<ServerOutput> {
        match self {
            Self::Invite(machine) => machine.poll_output(),
            Self::Other(machine) => machine.poll_output(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }
}

impl AnyClient {
    /// Whether all it still does is not to answer: nothing goes back, and no ACK is repeated.
    pub(crate) fn only_absorbs(&self) -> bool {
        matches!(self, Self::Other(machine) if machine.state() == transaction::client::State::Completed)
    }

    /// Whether it waits for further 2xx.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Invite(machine)
            if machine.state() == transaction::client_invite::State::Accepted)
    }

    pub(crate) fn handle(&mut self, input: ClientInput<'_>, now: Instant) {
        match self {
            Self::Invite(machine) => machine.handle(input, now),
            Self::Other(machine) => machine.handle(input, now),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<ClientOutput> {
        match self {
            Self::Invite(machine) => machine.poll_output(),
            Self::Other(machine) => machine.poll_output(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }
}

pub(crate) fn new_server(
    method: Method,
    transport: Transport,
    timings: Timings,
    now: Instant,
) -> AnyServer {
    if method == Method::Invite {
        AnyServer::Invite(ServerInvite::new(transport, timings, now))
    } else {
        AnyServer::Other(Server::new(transport, timings, now))
    }
}

/// Whether a response came from where its request went: the flow itself, or a server of the same group.
pub(super) fn fits(to: &Destination, from: &Responder) -> bool {
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
pub(crate) fn reply_flow(message: &Message, arrival: &Arrival, settings: &Settings) -> Flow {
    let mut flow = arrival.flow;
    let force = settings.listener(flow.listener).is_none_or(|listener| listener.force_rport);
    let asks_rport = message.top_via().is_some_and(|via| via.asks_rport());
    if flow.transport == Transport::Udp && !asks_rport && !(force && arrival.side == Side::Ue) {
        let port = message.top_via().and_then(|via| via.port()).filter(|port| *port != 0);
        let port = port.unwrap_or(5060);
        flow.remote.set_port(port);
    }
    flow
}

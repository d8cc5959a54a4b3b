//! Stage 7, requests: a permitted request becomes a context; CANCEL and ACK do not.
//!
//! Takes:   [`Permitted`].
//! Gives:   the first destination's client transaction, and 100 for an INVITE.
//! Keeps:   a context for each request; a binding for each REGISTER.
//! Refuses: what has no route, whose identity is not the caller's, or finds no room: nothing is kept then.
//! Sources: RFC 3261 sections 9.2, 16.6 and 16.10; RFC 3327 section 5.2; `PX-15`, `RG-03` to `RG-06`, `TX-06`,
//!          `TX-11`.

use std::sync::Arc;

use rand_core::Rng as _;
use smallvec::SmallVec;

use super::context::{Context, Register, new_server, reply_flow};
use super::outgoing::{self, Plan};
use super::precheck::Ticket;
use super::route::{self, Route};
use super::wrapping::Whole;
use super::{Destination, Output, Settings, asserted, returning, session};
use crate::association::{Bound, Ruling, Sent, Track};
use crate::enabler::{Class, Delivery, Permitted};
use crate::identity::Impi;
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow, ListenerId, Pending, Side};
use crate::wire::device::{Asked, asks_outbound};
use crate::wire::{Message, Method, Name};

use super::proxy::{Place, Proxy};

impl Proxy {
    /// Sends a permitted request on its way. Gives what a rule that is only observed would have refused.
    ///
    /// # Errors
    ///
    /// The refusal that it earns; nothing was kept then.
    pub fn forward(
        &mut self,
        permitted: Permitted<'_>,
        ticket: &Ticket,
        now: Now,
    ) -> Result<Option<Refusal>, Refusal> {
        let service = permitted.service();
        let bound = permitted.into_bound();
        match bound.method() {
            Method::Cancel => self.cancel(&bound, ticket, now).map(|()| None),
            Method::Ack => self.forward_ack(&bound, ticket, now),
            _ => self.forward_request(&bound, service, ticket, now),
        }
    }

    pub(super) fn forward_request(
        &mut self,
        bound: &Bound<'_>,
        service: Option<&str>,
        ticket: &Ticket,
        now: Now,
    ) -> Result<Option<Refusal>, Refusal> {
        let settings = self.settings();
        let (message, arrival) = (bound.message(), bound.arrival());
        let flow = arrival.flow;
        let held = self.unanswered.get(&flow).copied().unwrap_or(0);
        let flow_full = arrival.side == Side::Ue && held >= settings.transactions_of_flow_max;
        if self.footprint() >= settings.transactions_max || flow_full {
            return Err(Refusal::TransactionsFull);
        }
        let found = route::route(bound, &self.shared, &settings, now);
        let mut route = found.map_err(|refusal| awaited(bound, refusal))?;
        let wrapped_for = self.keep_to_class(bound, &mut route, now)?;
        let ue = listener_for_ues(bound, &route);
        let headers = &settings.headers;
        let mut edits = asserted::edit_request(bound, &self.shared.gate, headers, service, ue)?;
        let session = session::ask(message, &mut edits)?;
        let (register, token) = self.prepare_register(bound, &settings, now)?;
        let associations = Arc::clone(&self.shared.gate.associations);
        // A NOTIFY that makes a dialog makes it first: only then it has legs to cross.
        let makes = matches!(bound.ruling(), Ruling::Inside(inside) if inside.seed.is_some());
        let mut track = makes.then(|| associations.commit(bound, &route.sent, now)).flatten();
        let crossed = self.cross(bound, &route, &settings, now)?;
        let recorded = match &crossed {
            Some(_) => None,
            None => self.route_tokens(bound, &route, now),
        };
        let mut plan = Plan {
            settings: &settings,
            route: &route,
            path_token: token.as_deref(),
            recorded: recorded.as_ref(),
            branch: b"",
        };
        let part = crossed.as_ref().map(|crossed| crossed.loop_part(bound, &plan, &self.loop_key));
        let branch = self.branch(&part.unwrap_or(ticket.loop_part));
        plan.branch = &branch;
        let printed = match &crossed {
            Some(crossed) => crossed.print(bound, edits, &plan).inspect_err(|_| crossed.refused()),
            None => outgoing::print(bound, edits, &plan)
                .map_err(|_| Refusal::Malformed(crate::wire::Fault::HeaderMalformed)),
        }?;
        track = track.or_else(|| associations.commit(bound, &route.sent, now));
        if let Some(track) = &mut track {
            track.session = session;
            self.note_server(bound, track);
            associations.note_subscription(track, message, now);
            if let Some(seed) = crossed.as_ref().and_then(|crossed| crossed.seed()) {
                associations.sow(track, seed);
            }
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let first = route.destinations.remove(0);
        let method = bound.method();
        let mut context = Box::new(Context {
            server_key: ticket.key,
            flow,
            server: Some(new_server(method, flow.transport, settings.timings, now.mono)),
            clients: SmallVec::new(),
            request: Some((message.clone(), arrival.clone())),
            printed: None,
            remaining: route.destinations.into_iter().collect(),
            side: arrival.side,
            method,
            reply_to: reply_flow(message, arrival, &settings),
            track,
            told: None,
            register: register.map(Box::new),
            crossing: crossed.map(|crossed| crossed.into_crossing()),
            push: None,
            own: None,
            cancelled: false,
            unavailable: false,
            unreachable: false,
            doubtful: route.doubtful,
            keeps: returning::keeps(message),
            timer: None,
            ways: SmallVec::new(),
        });
        self.servers.insert(ticket.key, Place::Live(id));
        *self.unanswered.entry(flow).or_default() = held.saturating_add(1);
        if method == Method::Invite {
            self.answer(&mut context, 100, now);
        }
        match wrapped_for {
            None => self.start_client(id, &mut context, printed, first, &branch, now),
            Some(impi) => {
                let whole = Whole { printed, to: first, branch };
                self.start_wrapped(id, &mut context, impi, whole, now);
            }
        }
        self.put_back(id, context);
        Ok(route.would)
    }

    /// Keeps what a request was refused with by what may have passed when a copy comes, which is to hear the same, and not
    /// to be forwarded: its sender took the answer, and would take no other (RFC 3261 section 17.2). Such answers have
    /// half of the places at most.
    pub fn refused(
        &mut self,
        message: &Message,
        arrival: &Arrival,
        ticket: &Ticket,
        answer: &[u8],
        now: Now,
    ) {
        let settings = self.settings();
        let copied = !arrival.flow.transport.is_reliable();
        if !copied || self.footprint() >= settings.transactions_max / 2 {
            return;
        }
        let reply_to = reply_flow(message, arrival, &settings);
        let until = now.mono + settings.timings.life();
        let place = self.lingering.answered(ticket.key, reply_to, answer, until, None);
        self.servers.insert(ticket.key, Place::Lingering(place));
    }

    /// Dialogs that a request of the core forms are with the server which it came from, until a Route says otherwise.
    fn note_server(&self, bound: &Bound<'_>, track: &Track) {
        let (forms, arrival) = (matches!(bound.ruling(), Ruling::Forms(_)), bound.arrival());
        let group = bound.evidence().peer.filter(|_| forms && arrival.side == Side::Core);
        let server =
            group.and_then(|group| route::server_at(&self.shared, group.id, arrival.flow.remote));
        if let Some(server) = server {
            self.shared.gate.associations.note_server(track, &server);
        }
    }

    /// The tokens of both Record-Route values: for the next hop, and for the previous one.
    fn route_tokens(&mut self, bound: &Bound<'_>, route: &Route, now: Now) -> Option<[String; 2]> {
        if !outgoing::is_recorded(bound.method()) {
            return None;
        }
        let mut nonces = [[0; crate::association::token::NONCE_OCTETS]; 2];
        for nonce in &mut nonces {
            self.rng.fill_bytes(nonce);
        }
        self.shared.gate.associations.route_tokens(bound, &route.sent, &nonces, now)
    }

    /// Leaves out the flows to a UE that the class of a request may not go over. If none is left, and it may go wrapped: for
    /// whom; it has one flow then.
    fn keep_to_class(
        &self,
        bound: &Bound<'_>,
        route: &mut Route,
        now: Now,
    ) -> Result<Option<Impi>, Refusal> {
        let owner = match &route.sent {
            Sent::Core(_) => return Ok(None),
            Sent::Ue(_, caller) => Some(&caller.principal),
            Sent::Inside if bound.arrival().side == Side::Ue => return Ok(None),
            Sent::Inside => None,
        };
        let mut flows: SmallVec<[Flow; 2]> =
            route.destinations.iter().filter_map(route::flow_of).collect();
        let delivery = self.shared.gate.enablers.deliver(bound, &mut flows, owner, now)?;
        let impi = match delivery {
            Delivery::Open => None,
            Delivery::Wrapped => {
                flows.truncate(1);
                Some(self.card_of(owner).ok_or(Refusal::Unreachable)?)
            }
        };
        let way = flows.first().copied().ok_or(Refusal::NoRoute)?;
        if let Sent::Ue(first, _) = &mut route.sent {
            *first = way;
        }
        route.destinations.retain(|to| match to {
            Destination::Flow(flow) => flows.contains(flow),
            Destination::Target(_) => false,
        });
        Ok(impi)
    }

    /// A binding and its token for a REGISTER from a UE.
    pub(super) fn prepare_register(
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
        let hops = message.values(Name::Via).count();
        let required = settings.listener(bound.arrival().flow.listener);
        let required = required.is_some_and(|listener| listener.outbound_required);
        if required && hops > 1 && asks_outbound(message) {
            return Err(Refusal::OutboundLacking);
        }
        let Some(caller) = bound.caller() else { return Ok((None, None)) };
        let aor = message.to().map(|to| to.uri().identity()).unwrap_or_default();
        let (flow, asked) = (bound.arrival().flow, Asked::of(message));
        let device = asked.device;
        let plain = self.shared.bindings.prepare(flow, caller, &aor, device, now);
        let plain = plain.ok_or(Refusal::TableFull)?;
        let mut nonce = [0; super::token::NONCE_OCTETS];
        self.rng.fill_bytes(&mut nonce);
        let token = self.shared.tokens.seal(plain, nonce, now.wall);
        let register = Register {
            binding: plain.binding,
            caller: Arc::clone(caller),
            flow,
            asked,
            aor: aor.into(),
            proof: bound.authenticated().proof().cloned(),
        };
        Ok((Some(register), token))
    }

    /// An ACK to a 2xx goes the way of its dialog, without a transaction.
    pub(super) fn forward_ack(
        &mut self,
        bound: &Bound<'_>,
        ticket: &Ticket,
        now: Now,
    ) -> Result<Option<Refusal>, Refusal> {
        let Ruling::Inside(inside) = bound.ruling() else { return Err(Refusal::AckUnmatched) };
        let settings = self.settings();
        let route: Route = route::route(bound, &self.shared, &settings, now)?;
        let ue = listener_for_ues(bound, &route);
        let headers = &settings.headers;
        let edits = asserted::edit_request(bound, &self.shared.gate, headers, None, ue)?;
        if let Some(bridge) = &inside.bridge {
            return self
                .ack_across(bound, bridge, edits, &route, &ticket.loop_part)
                .map(|()| route.would);
        }
        let branch = self.branch(&ticket.loop_part);
        let plan = Plan {
            settings: &settings,
            route: &route,
            path_token: None,
            recorded: None,
            branch: &branch,
        };
        let printed = outgoing::print(bound, edits, &plan).map_err(|_| Refusal::AckUnmatched)?;
        let to = route.destinations.first().cloned().ok_or(Refusal::AckUnmatched)?;
        self.outputs.push_back(Output { to, octets: printed.octets });
        Ok(route.would)
    }

    /// Answers a CANCEL, and cancels the INVITE it fits.
    pub(super) fn cancel(
        &mut self,
        bound: &Bound<'_>,
        ticket: &Ticket,
        now: Now,
    ) -> Result<(), Refusal> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let flow = arrival.flow;
        let settings = self.settings();
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let mut context = Box::new(Context {
            server_key: ticket.key,
            flow,
            server: Some(new_server(Method::Cancel, flow.transport, settings.timings, now.mono)),
            clients: SmallVec::new(),
            request: Some((message.clone(), arrival.clone())),
            printed: None,
            remaining: SmallVec::new(),
            side: arrival.side,
            method: Method::Cancel,
            reply_to: reply_flow(message, arrival, &settings),
            track: None,
            told: None,
            register: None,
            crossing: None,
            push: None,
            own: None,
            cancelled: false,
            unavailable: false,
            unreachable: false,
            doubtful: false,
            keeps: false,
            timer: None,
            ways: SmallVec::new(),
        });
        self.servers.insert(ticket.key, Place::Live(id));
        let held = self.unanswered.entry(flow).or_default();
        *held = held.saturating_add(1);
        self.answer(&mut context, 200, now);
        self.put_back(id, context);
        if arrival.pending != Pending::Invite {
            return Ok(());
        }
        let invite = self.server_of(message, b"INVITE", &flow);
        let Some((id, mut context)) = invite.and_then(|id| Some((id, self.contexts.remove(&id)?)))
        else {
            return Ok(());
        };
        self.cancel_context(id, &mut context, now);
        self.put_back(id, context);
        Ok(())
    }
}

/// Of a location the watcher's next flow is waited for: his server is asked to come again.
fn awaited(bound: &Bound<'_>, refusal: Refusal) -> Refusal {
    let waits = bound.in_dialog() && bound.class() == Class::Locsip;
    if waits && refusal == Refusal::FlowGone { Refusal::AnchorMissing } else { refusal }
}

/// The listener for UEs on the way of a request.
fn listener_for_ues(bound: &Bound<'_>, route: &Route) -> Option<ListenerId> {
    match bound.arrival().side {
        Side::Ue => Some(bound.arrival().flow.listener),
        Side::Core => route.destinations.first().and_then(route::flow_of).map(|flow| flow.listener),
    }
}

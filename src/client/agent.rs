//! The UE, agent: everything a phone does, without a socket.
//!
//! 1. A draft is signed, printed and sent in a client transaction; a challenge is answered once, twice if stale, a card's as it goes.
//! 2. A 2xx to an INVITE is acknowledged, each copy by the same ACK, and makes a dialog; so does the 2xx to a SUBSCRIBE. A
//!    BYE of ours ends it with 2xx, 408, 481, or without an answer; what else is said to a BYE leaves it for another.
//! 3. What comes in is answered: 200 to MESSAGE, NOTIFY, OPTIONS, INFO and BYE, 180 and 200 to INVITE, 202 to a REFER
//!    inside a call, which its user may follow. An INVITE with Replaces takes the place of the call that it names.
//! 4. All of it is told as [`Event`]s.
//!
//! Takes:   drafts, messages from the edge, the time.
//! Gives:   octets to send, events; drain both after each call, then arm one timer.
//! Keeps:   at most 256 exchanges, 256 incoming transactions and 256 dialogs. Of exchanges, those that are answered and wait
//!          for copies go first, the oldest before others.
//! Refuses: methods it does not know (405); what it was not asked for is never answered with credentials.
//! Sources: RFC 3261 sections 8, 12, 13, 15 and 17; RFC 3428; RFC 3515 section 2.4.2; RFC 3891 section 3; RFC 6665;
//!          RFC 7616.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answer::{Answerer, Unanswerable};
use super::draft::{Dialog, Draft, Voice};
use super::exchange::{self, Asked, Exchange};
use super::pushed::{Pushed, Taken};
use super::services::Referred;
use crate::forward::context::{AnyClient, AnyServer, new_server};
use crate::forward::timers::Timings;
use crate::forward::transaction::{
    Client, ClientInput, ClientInvite, ClientKey, ClientOutput, Keys, ServerInput, ServerKey,
    ServerOutput,
};
use crate::instant::{Instant, Now};
use crate::keys::push::ANSWER_FIELD;
use crate::transport::{Flow, Transport};
use crate::wire::{Message, Method, Name, Reply};

/// Most exchanges, incoming transactions and dialogs, each.
pub const HELD_MAX: usize = 256;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A provisional response.
    Provisional {
        /// The exchange.
        id: u64,
        /// 101 to 199.
        status: u16,
    },
    /// A final response; challenges that were answered are not told.
    Final {
        /// The exchange.
        id: u64,
        /// The response.
        response: Box<Message>,
    },
    /// No final response: why.
    Failed {
        /// The exchange.
        id: u64,
        /// Why.
        why: Failure,
    },
    /// A request came, and was answered.
    Incoming(Box<Message>),
}

/// Why an exchange ended without a response that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered.
    Timeout,
    /// The flow is gone.
    Transport,
    /// The challenge was not answered.
    Challenge(Unanswerable),
    /// Too many exchanges, or a value that cannot be printed.
    Unsendable,
}

/// A phone.
#[derive(Debug)]
pub struct Agent {
    voice: Voice,
    answerer: Answerer,
    keys: Keys,
    transport: Transport,
    timings: Timings,
    clients: HashMap<ClientKey, Exchange>,
    servers: HashMap<ServerKey, AnyServer>,
    dialogs: HashMap<String, Dialog>,
    /// 2xx to INVITEs, repeated on any transport until the ACK comes (RFC 3261 section 13.3.1.4).
    accepted: HashMap<String, (Bytes, Instant, Duration, Instant)>,
    outputs: VecDeque<Bytes>,
    events: VecDeque<Event>,
    seed: String,
    next: u64,
    /// Whether an INVITE is answered with 200.
    pub answers_calls: bool,
    /// What pushes are taken with; without it a MESSAGE is a MESSAGE.
    pub pushed: Option<Arc<Pushed>>,
}

impl Agent {
    /// A phone that speaks as `voice`. `seed` is random text for tags, branches and Call-IDs.
    pub fn new(
        voice: Voice,
        answerer: Answerer,
        transport: Transport,
        seed: String,
        key: [u8; 16],
    ) -> Self {
        Self {
            voice,
            answerer,
            keys: Keys::new(&key),
            transport,
            timings: Timings::default(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            dialogs: HashMap::new(),
            accepted: HashMap::new(),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            seed,
            next: 1,
            answers_calls: true,
            pushed: None,
        }
    }

    /// Whom it speaks as.
    pub fn voice(&self) -> &Voice {
        &self.voice
    }

    fn fresh(&mut self, what: &str) -> String {
        self.next = self.next.saturating_add(1);
        format!("{what}{}{}", self.seed, self.next)
    }

    /// A request outside dialogs, with a Call-ID and tag of its own.
    pub fn draft(&mut self, method: &'static str, uri: &str) -> Draft {
        let (call_id, tag) = (self.fresh("call-"), self.fresh("t"));
        Draft::new(method, uri, call_id, tag)
    }

    /// A request inside the dialog of that Call-ID.
    pub fn draft_in(&mut self, call_id: &str, method: &'static str) -> Option<Draft> {
        self.dialogs.get_mut(call_id).map(|dialog| dialog.draft(method))
    }

    /// A REFER in the dialog of that Call-ID, whose receiver is to take our place in `other`.
    pub fn draft_transfer(&mut self, call_id: &str, other: &str) -> Option<Draft> {
        let other = self.dialogs.get(other)?.clone();
        self.draft_in(call_id, "REFER").map(|draft| draft.transfer(&other))
    }

    /// The dialog of that Call-ID.
    pub fn dialog(&self, call_id: &str) -> Option<&Dialog> {
        self.dialogs.get(call_id)
    }

    /// Sends a request; its events carry the number that is given back.
    pub fn send(&mut self, draft: Draft, now: Now) -> u64 {
        self.next = self.next.saturating_add(1);
        let id = self.next;
        self.try_send(Asked { id, draft, tries: 0 }, now);
        id
    }

    fn try_send(&mut self, asked: Asked, now: Now) {
        let branch = self.fresh("z9hG4bK");
        let (id, draft) = (asked.id, &asked.draft);
        let printed = draft.print(&self.voice, &branch, Some(&mut self.answerer));
        let (Some(octets), true) = (printed, exchange::has_room(&mut self.clients)) else {
            self.events.push_back(Event::Failed { id, why: Failure::Unsendable });
            return;
        };
        let machine = if draft.method == "INVITE" {
            AnyClient::Invite(ClientInvite::new(octets, self.transport, self.timings, now.mono))
        } else {
            AnyClient::Other(Client::new(octets, self.transport, self.timings, now.mono))
        };
        let key = self.keys.client(branch.as_bytes(), draft.method.as_bytes());
        self.drain_client(key, Exchange::new(asked, machine), None, now);
    }

    /// Cancels an INVITE that has no final response.
    pub fn cancel(&mut self, id: u64, now: Now) {
        let key =
            self.clients.iter().find(|(_, exchange)| exchange.asked.id == id).map(|(key, _)| *key);
        let Some((key, mut exchange)) = key.and_then(|key| self.clients.remove_entry(&key)) else {
            return;
        };
        exchange.machine.handle(ClientInput::Cancel, now.mono);
        self.drain_client(key, exchange, None, now);
    }

    /// A message came from the edge.
    pub fn receive(&mut self, message: Message, flow: &Flow, now: Now) {
        if message.is_request() {
            self.request(message, flow, now);
        } else if let Some(key) = self.keys.client_of(&message)
            && let Some(mut exchange) = self.clients.remove(&key)
        {
            exchange.machine.handle(ClientInput::Response(&message), now.mono);
            self.drain_client(key, exchange, Some(&message), now);
        }
    }

    fn drain_client(
        &mut self,
        key: ClientKey,
        mut exchange: Exchange,
        response: Option<&Message>,
        now: Now,
    ) {
        let (mut over, mut told) = (false, Vec::new());
        while let Some(output) = exchange.machine.poll_output() {
            match output {
                ClientOutput::Send(octets) => self.outputs.push_back(octets),
                ClientOutput::Cancel(octets) => self.start_cancel(octets, now),
                ClientOutput::Terminated => over = true,
                other => {
                    exchange.answered |= matches!(other, ClientOutput::Final(_));
                    told.push(other);
                }
            }
        }
        let asked = exchange.asked.clone();
        let id = asked.id;
        if !over {
            self.clients.insert(key, exchange);
        }
        for output in told {
            match (output, response) {
                (ClientOutput::Provisional(status), _) if status > 100 => {
                    self.events.push_back(Event::Provisional { id, status });
                }
                (ClientOutput::Final(status), Some(response)) => {
                    self.final_response(key, asked.clone(), status, response, now);
                }
                (ClientOutput::Timeout, _) => {
                    self.hung_up(&asked.draft);
                    self.events.push_back(Event::Failed { id, why: Failure::Timeout });
                }
                (ClientOutput::TransportFailed, _) => {
                    self.hung_up(&asked.draft);
                    self.events.push_back(Event::Failed { id, why: Failure::Transport });
                }
                _ => {}
            }
        }
    }

    fn start_cancel(&mut self, octets: Bytes, now: Now) {
        let Ok(message) = Message::from_datagram(octets.clone()) else { return };
        let Some(via) = message.top_via() else { return };
        let key = self.keys.client(via.branch(), b"CANCEL");
        let machine = AnyClient::Other(Client::new(octets, self.transport, self.timings, now.mono));
        let draft = Draft::new("CANCEL", "", String::new(), String::new());
        let asked = Asked { id: 0, draft, tries: 9 };
        self.drain_client(key, Exchange::new(asked, machine), None, now);
    }

    fn final_response(
        &mut self,
        key: ClientKey,
        asked: Asked,
        status: u16,
        response: &Message,
        now: Now,
    ) {
        let Asked { id, mut draft, tries } = asked;
        let lists = matches!(status, 421 | 494)
            && self.answerer.agrees()
            && response.has(Name::SecurityServer);
        if (lists || matches!(status, 401 | 407))
            && tries < self.answerer.challenges_max()
            && draft.method != "CANCEL"
        {
            let taken = match lists {
                true => self.answerer.agreed(response),
                false => self.answerer.challenged(response),
            };
            match taken {
                Ok(()) => {
                    draft.cseq = draft.cseq.saturating_add(1);
                    if let Some(dialog) = self.dialogs.get_mut(&draft.call_id) {
                        dialog.cseq = dialog.cseq.max(draft.cseq);
                    }
                    return self.try_send(Asked { id, draft, tries: tries.saturating_add(1) }, now);
                }
                Err(why) => {
                    self.events.push_back(Event::Failed { id, why: Failure::Challenge(why) });
                    return;
                }
            }
        }
        let again = self.ack_of(&key, response).filter(|_| matches!(status, 200..=299));
        if let Some(ack) = again {
            self.outputs.push_back(ack);
        } else if matches!(status, 200..=299) {
            self.answerer.accepted();
            if let Err(why) = self.answerer.informed(response, &draft.uri) {
                self.events.push_back(Event::Failed { id, why: Failure::Challenge(why) });
                return;
            }
            self.dialog_made(key, &draft, response);
        }
        if matches!(status, 200..=299 | 408 | 481) {
            self.hung_up(&draft);
        }
        self.events.push_back(Event::Final { id, response: Box::new(response.clone()) });
    }

    /// Forgets the dialog of that draft if it is the BYE to it: nothing more comes of that.
    ///
    /// Source: RFC 3261 section 15.1.1.
    fn hung_up(&mut self, draft: &Draft) {
        let of = self.dialogs.get(&draft.call_id).map(|dialog| &dialog.local_tag);
        if draft.method == "BYE" && of == Some(&draft.from_tag) {
            self.dialogs.remove(&draft.call_id);
        }
    }

    fn dialog_made(&mut self, key: ClientKey, draft: &Draft, response: &Message) {
        if !matches!(draft.method, "INVITE" | "SUBSCRIBE") {
            return;
        }
        let known = self.dialogs.get(&draft.call_id).is_some_and(|d| !d.remote_tag.is_empty());
        if !known && self.dialogs.len() < HELD_MAX {
            self.dialogs.insert(draft.call_id.clone(), Dialog::called(draft, response));
        }
        if draft.method == "INVITE" {
            self.acknowledge(key, draft);
        }
    }

    /// The ACK to that 2xx, if it comes again: what it says of the keys was checked the first time, and a later request may
    /// have moved on from them, or ended the dialog (RFC 3261 section 13.2.2.4).
    fn ack_of(&self, key: &ClientKey, response: &Message) -> Option<Bytes> {
        let (tag, ack) = self.clients.get(key)?.acknowledged.as_ref()?;
        response.to_tag().eq_ignore_ascii_case(tag.as_bytes()).then(|| ack.clone())
    }

    fn acknowledge(&mut self, key: ClientKey, draft: &Draft) {
        let branch = self.fresh("z9hG4bK");
        let Some(dialog) = self.dialogs.get_mut(&draft.call_id) else { return };
        let mut ack = dialog.draft("ACK");
        ack.cseq = draft.cseq;
        let Some(octets) = ack.print(&self.voice, &branch, None) else { return };
        if let Some(exchange) = self.clients.get_mut(&key) {
            exchange.acknowledged = Some((dialog.remote_tag.clone(), octets.clone()));
        }
        self.outputs.push_back(octets);
    }

    fn request(&mut self, message: Message, flow: &Flow, now: Now) {
        let Some(key) = self.keys.server(&message, flow) else { return };
        let method = message.method().unwrap_or(Method::Other);
        let call_id = String::from_utf8_lossy(message.call_id()).into_owned();
        if method == Method::Ack {
            self.accepted.remove(&call_id);
        }
        if let Some(mut server) = self.servers.remove(&key) {
            let input =
                if method == Method::Ack { ServerInput::Ack } else { ServerInput::Retransmission };
            server.handle(input, now.mono);
            self.drain_server(key, server);
            return;
        }
        if method == Method::Ack {
            self.events.push_back(Event::Incoming(Box::new(message)));
            return;
        }
        if self.servers.len() >= HELD_MAX {
            return;
        }
        self.servers.insert(key, new_server(method, self.transport, self.timings, now.mono));
        match method {
            Method::Invite if self.answers_calls => self.called(&key, &message, call_id, now),
            Method::Invite => {
                let tag = self.fresh("u");
                self.answer(&key, &message, 486, &tag, now);
            }
            Method::Message if self.take_push(&key, &message, now) => return,
            Method::Message | Method::Notify | Method::Options | Method::Info | Method::Cancel => {
                self.answer(&key, &message, 200, "", now);
            }
            Method::Bye => {
                let known = self.dialogs.remove(&call_id).is_some();
                self.answer(&key, &message, if known { 200 } else { 481 }, "", now);
            }
            Method::Refer if self.dialogs.contains_key(&call_id) => {
                let status = if Referred::of(&message).is_some() { 202 } else { 400 };
                self.answer(&key, &message, status, "", now);
            }
            _ => self.answer(&key, &message, 405, "", now),
        }
        self.events.push_back(Event::Incoming(Box::new(message)));
    }

    /// Answers a MESSAGE that is a push; `false` if it is none.
    fn take_push(&mut self, key: &ServerKey, message: &Message, now: Now) -> bool {
        let secure = self.transport.is_secure();
        let taken = self.pushed.as_ref();
        let taken = taken.and_then(|pushed| pushed.receive(message, secure, now.wall));
        let Some(Taken { status, says }) = taken else { return false };
        let tag = self.fresh("u");
        let mut reply = Reply::to(message, status).to_tag(tag.as_bytes());
        if let Some(says) = says {
            reply = reply.field(ANSWER_FIELD, |value| {
                value.put(&says);
            });
        }
        let octets = reply.octets().map(Bytes::from);
        if let (Some(octets), Some(mut server)) = (octets, self.servers.remove(key)) {
            server.handle(ServerInput::Respond { status, octets }, now.mono);
            self.drain_server(*key, server);
        }
        true
    }

    /// An INVITE: it is answered, in the place of the call that it names, if it names one.
    fn called(&mut self, key: &ServerKey, message: &Message, call_id: String, now: Now) {
        let tag = self.fresh("u");
        let replaced = message.has(Name::Replaces).then(|| self.replaced(message));
        if let Some(None) = replaced {
            return self.answer(key, message, 481, &tag, now);
        }
        self.answer(key, message, 180, &tag, now);
        self.answer(key, message, 200, &tag, now);
        if self.dialogs.len() < HELD_MAX {
            self.dialogs.entry(call_id).or_insert_with(|| Dialog::answered(message, &tag));
        }
        if let Some(mut dialog) = replaced.flatten().and_then(|call| self.dialogs.remove(&call)) {
            self.send(dialog.draft("BYE"), now);
        }
    }

    /// The call of ours that is named in Replaces.
    fn replaced(&self, message: &Message) -> Option<String> {
        let named = message.dialog_ref(Name::Replaces)?;
        let call_id = String::from_utf8_lossy(named.call_id).into_owned();
        let dialog = self.dialogs.get(&call_id)?;
        let is = |own: &str, tag: &[u8]| own.as_bytes().eq_ignore_ascii_case(tag);
        let fits =
            is(&dialog.local_tag, named.local_tag) && is(&dialog.remote_tag, named.remote_tag);
        fits.then_some(call_id)
    }

    fn answer(&mut self, key: &ServerKey, request: &Message, status: u16, tag: &str, now: Now) {
        let fresh = self.fresh("u");
        let tag = if tag.is_empty() { &fresh } else { tag };
        let invite = request.method() == Some(Method::Invite);
        let makes_dialog = invite || status == 202;
        let contact = format!("<{}>", self.voice.contact);
        let mut reply = Reply::to(request, status).to_tag(tag.as_bytes());
        if makes_dialog {
            for route in request.values(Name::RecordRoute) {
                reply = reply.field("Record-Route", |value| {
                    value.put_unfolded(route);
                });
            }
            reply = reply.field("Contact", |value| {
                value.put(&contact);
            });
        }
        let Some(octets) = reply.octets().map(Bytes::from) else { return };
        if invite && status == 200 {
            let call_id = String::from_utf8_lossy(request.call_id()).into_owned();
            let (first, end) = (self.timings.t1(), now.mono + self.timings.life());
            self.accepted.insert(call_id, (octets.clone(), now.mono + first, first, end));
        }
        let Some(mut server) = self.servers.remove(key) else { return };
        server.handle(ServerInput::Respond { status, octets }, now.mono);
        self.drain_server(*key, server);
    }

    fn drain_server(&mut self, key: ServerKey, mut server: AnyServer) {
        let mut over = false;
        while let Some(output) = server.poll_output() {
            match output {
                ServerOutput::Send(octets) => self.outputs.push_back(octets),
                ServerOutput::Terminated => over = true,
                _ => {}
            }
        }
        if !over {
            self.servers.insert(key, server);
        }
    }

    /// Sends octets as they are: what a rogue would send, or a captured request again.
    pub fn send_raw(&mut self, octets: impl Into<Bytes>) {
        self.outputs.push_back(octets.into());
    }

    /// The credentials that would go into the next request.
    pub fn answerer(&mut self) -> &mut Answerer {
        &mut self.answerer
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Now) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.mono);
        let clients: Vec<ClientKey> = self
            .clients
            .iter()
            .filter(|(_, exchange)| due(exchange.machine.poll_timeout()))
            .map(|(key, _)| *key)
            .collect();
        for key in clients {
            let Some(mut exchange) = self.clients.remove(&key) else { continue };
            exchange.machine.handle(ClientInput::Timeout, now.mono);
            self.drain_client(key, exchange, None, now);
        }
        let servers: Vec<ServerKey> = self
            .servers
            .iter()
            .filter(|(_, server)| due(server.poll_timeout()))
            .map(|(key, _)| *key)
            .collect();
        for key in servers {
            let Some(mut server) = self.servers.remove(&key) else { continue };
            server.handle(ServerInput::Timeout, now.mono);
            self.drain_server(key, server);
        }
        let t2 = self.timings.t2();
        for (octets, at, interval, _) in
            self.accepted.values_mut().filter(|held| held.1 <= now.mono)
        {
            self.outputs.push_back(octets.clone());
            *interval = interval.saturating_mul(2).min(t2);
            *at = now.mono + *interval;
        }
        self.accepted.retain(|_, (.., end)| *end > now.mono);
    }

    /// When [`Agent::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let clients = self.clients.values().filter_map(|exchange| exchange.machine.poll_timeout());
        let servers = self.servers.values().filter_map(AnyServer::poll_timeout);
        let accepted = self.accepted.values().map(|held| held.1);
        clients.chain(servers).chain(accepted).min()
    }

    /// The next octets to send.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.outputs.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The flow is gone: what waits for it fails.
    pub fn lost(&mut self, now: Now) {
        for (key, mut exchange) in std::mem::take(&mut self.clients) {
            exchange.machine.handle(ClientInput::TransportFailed, now.mono);
            self.drain_client(key, exchange, None, now);
        }
    }
}

//! Stage 1, DTLS port: one socket of one worker, and one task for all its sessions.
//!
//! Takes:   datagrams as they come; messages that any worker sends on one of its flows.
//! Gives:   each session as a flow among the others, and what comes on it, to the [`Receiver`].
//! Keeps:   for each session its entry among the flows; look-ups of keys, as many as handshakes.
//! Refuses: handshakes with a key that nobody has; sessions over the bounds of connections; idle ones: after a minute
//!          while nobody has authenticated, after [`IDLE_KNOWN`] else; what is no SIP, without an answer.
//! Sources: RFC 3261 section 18; RFC 5626 section 8; `DT-05`, `DT-06`, `TR-08`, `TR-09`, `TR-17`, `V-77`.
//!
//! [`Receiver`]: crate::transport::stream::Receiver

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::engine::Proof;
use super::server::DtlsServer;
use super::sessions::{HANDSHAKE, Output, SessionId, Sessions, Tally, Why};
use crate::authentication::Caller;
use crate::authentication::tls_identity::CertificateNames;
use crate::clock;
use crate::identity::{self, Principal};
use crate::instant::Instant;
use crate::keys::psk::{Psk, PskProof, PskUse};
use crate::transport::batch::{BATCH, Inbox, Outbox};
use crate::transport::demux::{self, Kind};
use crate::transport::flows::Lease;
use crate::transport::listen::Bound;
use crate::transport::stream::{Closed, StreamFacts};
use crate::transport::transports::Shop;
use crate::transport::{Transport, stun};
use crate::wire::Message;

/// How long a session may be idle on which somebody authenticated: a registration of an hour and its slack.
const IDLE_KNOWN: Duration = Duration::from_secs(3700);
/// A pause when the socket itself fails, so that a broken one does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Proofs of handshakes under way at which those of the dead are dropped.
const PROOFS_ENOUGH: usize = 64;

/// One socket.
pub(in crate::transport) struct DtlsPort {
    socket: UdpSocket,
    bound: Arc<Bound>,
    server: Arc<DtlsServer>,
    bells: Arc<Bells>,
    outbox: RefCell<Outbox>,
    /// As in `udp`: since when the socket was not found empty.
    pub(in crate::transport) behind_since: Cell<Option<Instant>>,
}

/// What the task of a port has for itself.
struct Desk {
    sessions: Sessions,
    lines: HashMap<SessionId, Line>,
    proofs: HashMap<SessionId, PskProof>,
    lookups: Vec<Lookup>,
    inbox: Inbox,
    /// What of the sessions' own numbers stands in the tally of all.
    noted: Tally,
}

/// A session that stands.
struct Line {
    lease: Lease,
    facts: Arc<StreamFacts>,
    bell: Waker,
    proof: Option<PskProof>,
}

type Lookup = Pin<Box<dyn Future<Output = (SessionId, Option<Psk>)>>>;

impl DtlsPort {
    pub(in crate::transport) fn new(
        socket: UdpSocket,
        bound: Arc<Bound>,
        server: Arc<DtlsServer>,
    ) -> Self {
        Self {
            socket,
            bound,
            server,
            bells: Arc::default(),
            outbox: RefCell::new(Outbox::new()),
            behind_since: Cell::new(None),
        }
    }

    /// Serves the socket until its worker ends.
    pub(in crate::transport) async fn serve(self: Rc<Self>, shop: Rc<Shop>) {
        let bells = Arc::clone(&self.bells);
        let (engines, cookies) = (self.server.engines(), self.server.cookies());
        let doors = Arc::clone(shop.flows.doors());
        let waker = move |id| Waker::from(bells.bell(id));
        let mut desk = Desk {
            sessions: Sessions::new(engines, cookies, doors, waker),
            lines: HashMap::new(),
            proofs: HashMap::new(),
            lookups: Vec::new(),
            inbox: Inbox::new(),
            noted: Tally::default(),
        };
        let mut taken_back = shop.desk.as_ref().map(|desk| desk.taken_back());
        loop {
            let timeout = desk.sessions.poll_timeout();
            let waits = self.outbox.borrow().len() > 0;
            tokio::select! {
                ready = self.socket.readable() => {
                    let read = ready.and_then(|()| self.receive(&shop, &mut desk));
                    if read.is_err_and(|why| why.kind() != io::ErrorKind::WouldBlock) {
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                }
                _ = self.socket.writable(), if waits => {}
                () = self.bells.rung.notified() => self.answer_bells(&shop, &mut desk),
                (id, psk) = found(&mut desk.lookups) => self.key(&mut desk, id, psk),
                () = until(timeout) => desk.sessions.expire(clock::mono()),
                () = changed(&mut taken_back) => Self::look_at_keys(&shop, &mut desk),
            }
            self.drain(&shop, &mut desk);
            shop.receiver.turn();
            self.flush(&shop);
            tokio::task::yield_now().await;
        }
    }

    /// Reads one batch.
    fn receive(&self, shop: &Shop, desk: &mut Desk) -> io::Result<()> {
        let Desk { inbox, sessions, .. } = desk;
        sessions.replace_engines(self.server.engines());
        let now = clock::mono();
        let read = inbox.read(&self.socket, |octets, from| {
            let handled = catch_unwind(AssertUnwindSafe(|| {
                self.handle(shop, sessions, octets, from, now);
            }));
            if handled.is_err() {
                shop.flows.tally().panicked.add(1);
            }
        });
        let full = matches!(read, Ok(BATCH));
        self.behind_since.set(full.then(|| self.behind_since.get().unwrap_or_else(clock::mono)));
        shop.flows.tally().datagrams.add(read? as u64);
        Ok(())
    }

    fn handle(
        &self,
        shop: &Shop,
        sessions: &mut Sessions,
        octets: &[u8],
        from: SocketAddr,
        now: Instant,
    ) {
        let tally = shop.flows.tally();
        match demux::datagram(octets) {
            Kind::Dtls => sessions.datagram(from, octets, now),
            Kind::Stun => match stun::answer(octets, from) {
                Some(answer) if shop.may_answer(from) => {
                    tally.stun_answered.add(1);
                    sessions.heard(from, now);
                    self.put(shop, from, answer);
                }
                _ => tally.stun_dropped.add(1),
            },
            Kind::Sip | Kind::Drop(_) => tally.noise.add(1),
        }
    }

    /// What engines have to say, and what others have to send.
    fn answer_bells(&self, shop: &Shop, desk: &mut Desk) {
        let now = clock::mono();
        for id in self.bells.take() {
            desk.sessions.woken([id], now);
            self.empty_queue(shop, desk, id, now);
        }
    }

    /// Sends what is queued for a session, one record for each message.
    fn empty_queue(&self, shop: &Shop, desk: &mut Desk, id: SessionId, now: Instant) {
        loop {
            let Some(line) = desk.lines.get(&id) else { return };
            match line.lease.pipe().pop() {
                Ok(message) => {
                    if desk.sessions.send(id, &message, now).is_err() {
                        shop.flows.tally().unsent.add(1);
                    }
                }
                Err(Some(why)) => return self.close(shop, desk, id, why, now),
                Err(None) if line.lease.pipe().rest(&line.bell, false) => return,
                Err(None) => {}
            }
        }
    }

    fn key(&self, desk: &mut Desk, id: SessionId, psk: Option<Psk>) {
        let Some(Psk { key, proof }) = psk else { return };
        if desk.proofs.len() >= PROOFS_ENOUGH {
            desk.proofs.retain(|id, _| desk.sessions.has(*id));
        }
        if let Some(proof) = proof {
            desk.proofs.insert(id, proof);
        }
        desk.sessions.key(id, key.expose(), clock::mono());
    }

    /// Sessions whose key was taken back are over.
    fn look_at_keys(shop: &Shop, desk: &mut Desk) {
        let Some(keys) = shop.desk.as_ref().map(|desk| desk.keys()) else { return };
        let now = clock::now();
        let over = desk
            .lines
            .iter()
            .filter(|(_, line)| line.proof.as_ref().is_some_and(|proof| !keys.holds(proof, now)));
        let over: Vec<SessionId> = over.map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| desk.sessions.set_end(id, now.mono));
        desk.sessions.expire(now.mono);
    }

    /// Does what the sessions want done.
    fn drain(&self, shop: &Shop, desk: &mut Desk) {
        while let Some(output) = desk.sessions.poll_output() {
            match output {
                Output::Send { to, octets } => self.put(shop, to, octets),
                Output::Ask { id, identity, suite, asked_for } => {
                    desk.lookups.extend(ask(shop, id, identity, suite, asked_for));
                }
                Output::Opened { id, from, proof, asked_for } => {
                    self.opened(shop, desk, id, from, proof, asked_for);
                }
                Output::Data { id, octets } => Self::message(shop, desk, id, octets),
                Output::Idle { id, since } => {
                    let known = desk.lines.get(&id).is_some_and(|line| {
                        line.lease.pipe().is_authenticated() && since < IDLE_KNOWN
                    });
                    if !known {
                        self.close(shop, desk, id, Closed::Idle, clock::mono());
                    }
                }
                Output::Over(id) => self.close(shop, desk, id, Closed::KeyOver, clock::mono()),
                Output::Closed(id, why) => {
                    let why = match why {
                        Why::Replaced => Closed::Replaced,
                        Why::Ended(_) => Closed::Peer,
                    };
                    Self::gone(shop, desk, id, why);
                }
            }
        }
        let (tally, before) = (shop.flows.tally(), desk.noted);
        desk.noted = desk.sessions.tally();
        for (count, now, before) in [
            (&tally.hellos_answered, desk.noted.answered, before.answered),
            (&tally.handshakes_crowded, desk.noted.crowded, before.crowded),
            (&tally.handshakes_failed, desk.noted.failed, before.failed),
            (&tally.handshakes_slow, desk.noted.slow, before.slow),
            (&tally.noise, desk.noted.dropped, before.dropped),
        ] {
            count.add(now.wrapping_sub(before));
        }
    }

    fn opened(
        &self,
        shop: &Shop,
        desk: &mut Desk,
        id: SessionId,
        from: SocketAddr,
        proof: Proof,
        asked_for: Option<Arc<str>>,
    ) {
        let now = clock::now();
        let shared = desk.proofs.remove(&id);
        let (channel, names) = match &proof {
            Proof::Psk(_) => (shared.as_ref().map(|shared| Arc::clone(&shared.caller)), None),
            Proof::Certificate(names) => (user_of(names), Some((**names).clone())),
            Proof::Nothing => (None, None),
        };
        // A key that nobody has proves nobody, whoever found it out.
        let entered = if matches!(proof, Proof::Psk(_)) && channel.is_none() {
            None
        } else {
            let seat = shop.flows.seat(from.ip());
            let listener = self.bound.spec.id;
            seat.and_then(|seat| shop.flows.open(Transport::Dtls, listener, from, Some(seat)).ok())
        };
        let Some(lease) = entered else {
            return desk.sessions.close(id, now.mono);
        };
        shop.flows.tally().accepted.add(1);
        if let Some(expires) = channel.as_ref().and_then(|caller| caller.expires) {
            desk.sessions.set_end(id, now.mono + expires.since(now.wall));
        }
        let facts = Arc::new(StreamFacts {
            flow: lease.flow(),
            side: self.bound.spec.side,
            local: self.bound.local,
            names,
            asked_for,
            channel,
            target: None,
        });
        // Set once: a lease has one session.
        let _ = lease.pipe().facts.set(Arc::clone(&facts));
        let bell = Waker::from(self.bells.bell(id));
        // If something is queued already, the bell is rung.
        if !lease.pipe().rest(&bell, false) {
            bell.wake_by_ref();
        }
        let line = Line { lease, facts: Arc::clone(&facts), bell, proof: shared };
        desk.lines.insert(id, line);
        shop.receiver.opened(&facts);
    }

    /// One message, one record. CRLF and the like are signs of life (`DT-05`).
    fn message(shop: &Shop, desk: &Desk, id: SessionId, octets: Bytes) {
        let Some(line) = desk.lines.get(&id) else { return };
        if demux::datagram(&octets) != Kind::Sip {
            return;
        }
        let handled = catch_unwind(AssertUnwindSafe(|| match Message::from_datagram(octets) {
            Ok(message) => {
                shop.flows.tally().messages.add(1);
                shop.receiver.message(&line.facts, message);
            }
            Err(malformed) => {
                shop.flows.tally().broken.add(1);
                shop.receiver.broken(&line.facts, malformed);
            }
        }));
        if handled.is_err() {
            shop.flows.tally().panicked.add(1);
        }
    }

    fn close(&self, shop: &Shop, desk: &mut Desk, id: SessionId, why: Closed, now: Instant) {
        desk.sessions.close(id, now);
        Self::gone(shop, desk, id, why);
    }

    fn gone(shop: &Shop, desk: &mut Desk, id: SessionId, why: Closed) {
        let Some(line) = desk.lines.remove(&id) else { return };
        if why == Closed::Idle {
            shop.flows.tally().slow.add(1);
        }
        drop(line.lease);
        shop.receiver.closed(&line.facts, why);
    }

    fn put(&self, shop: &Shop, to: SocketAddr, octets: Bytes) {
        let fits = crate::transport::udp::is_host(to) && self.outbox.borrow_mut().push(to, octets);
        if !fits {
            shop.flows.tally().unsent.add(1);
        }
        if self.outbox.borrow().len() >= BATCH {
            self.flush(shop);
        }
    }

    fn flush(&self, shop: &Shop) {
        self.outbox.borrow_mut().flush(&self.socket, |_| shop.flows.tally().unsent.add(1));
    }
}

fn ask(
    shop: &Shop,
    id: SessionId,
    identity: Bytes,
    suite: u16,
    asked_for: Option<Arc<str>>,
) -> Option<Lookup> {
    let desk = shop.desk.clone()?;
    Some(Box::pin(async move {
        let of = PskUse::Suite(suite);
        let asking = desk.psk(&identity, asked_for.as_deref(), of);
        // The handshake is over by then, whatever comes.
        (id, tokio::time::timeout(HANDSHAKE, asking).await.ok())
    }))
}

/// The user that a certificate names: evidence of the channel until the certificate ends.
///
/// Source: RFC 5922 section 7.1 (a URI with a user part is no domain identity).
fn user_of(names: &CertificateNames) -> Option<Arc<Caller>> {
    let user = names.users.first()?;
    Some(Arc::new(Caller {
        principal: Principal::new(identity::Proof::UserCertificate, user.as_str()),
        identities: names.users.clone().into(),
        key_name: user.as_str().into(),
        expires: Some(names.not_after),
        strongest: AtomicU8::new(0),
        rights: Default::default(),
    }))
}

/// The next look-up that ends.
async fn found(lookups: &mut Vec<Lookup>) -> (SessionId, Option<Psk>) {
    poll_fn(|context| {
        let ready = lookups.iter_mut().enumerate().find_map(|(at, lookup)| {
            match lookup.as_mut().poll(context) {
                Poll::Ready(found) => Some((at, found)),
                Poll::Pending => None,
            }
        });
        match ready {
            Some((at, found)) => {
                drop(lookups.swap_remove(at));
                Poll::Ready(found)
            }
            None => Poll::Pending,
        }
    })
    .await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock::deadline(at)).await,
        None => std::future::pending().await,
    }
}

async fn changed(word: &mut Option<tokio::sync::watch::Receiver<()>>) {
    if let Some(receiver) = word {
        if receiver.changed().await.is_ok() {
            return;
        }
        *word = None;
    }
    std::future::pending().await
}

/// How any thread tells the task which of its sessions wants something.
#[derive(Debug, Default)]
struct Bells {
    waiting: Mutex<Vec<Arc<Bell>>>,
    rung: Notify,
}

/// One session's: in the list once, however often it is rung.
#[derive(Debug)]
struct Bell {
    id: SessionId,
    waits: AtomicBool,
    bells: Arc<Bells>,
}

impl Bells {
    fn bell(self: &Arc<Self>, id: SessionId) -> Arc<Bell> {
        Arc::new(Bell { id, waits: AtomicBool::new(false), bells: Arc::clone(self) })
    }

    fn take(&self) -> Vec<SessionId> {
        let waiting =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let id = |bell: Arc<Bell>| {
            bell.waits.store(false, Ordering::Release);
            bell.id
        };
        waiting.into_iter().map(id).collect()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.waits.swap(true, Ordering::AcqRel) {
            let waiting = &self.bells.waiting;
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(self));
        }
        self.bells.rung.notify_one();
    }
}

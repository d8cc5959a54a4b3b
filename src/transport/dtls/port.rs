//! Stage 1, DTLS port: one socket of one worker, and one task for all its sessions.
//!
//! Takes:   datagrams as they come; messages that any worker sends on one of its flows.
//! Gives:   each session as a flow among the others, and what comes on it, to the [`Receiver`].
//! Keeps:   for each session its entry among the flows; look-ups of keys, as many as handshakes; what `vouched` keeps.
//! Refuses: handshakes with a key that nobody has; certificates that `vouched` refuses; sessions over the bounds of connections; idle ones: after a minute
//!          while nobody has authenticated, after [`IDLE_KNOWN`] else; what is no SIP, without an answer.
//! Sources: RFC 3261 section 18; RFC 5626 section 8; `DT-05`, `DT-06`, `TR-08`, `TR-09`, `TR-17`, `V-74`, `V-77`.
//!
//! A round that panics ends alone, as those of the worker do: it is counted, the session in hand is closed, and timers rest
//! for [`AFTER_FAILURE`].
//!
//! [`Receiver`]: crate::transport::stream::Receiver

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::engine::Proof;
use super::server::DtlsServer;
use super::sessions::{HANDSHAKE, Output, SessionId, Sessions, Tally, Why};
use super::vouched::{Anteroom, Guest, Watch};
use crate::clock;
use crate::instant::{Instant, Now};
use crate::keys::psk::{Psk, PskProof, PskUse};
use crate::transport::batch::{BATCH, Inbox, Outbox};
use crate::transport::demux::{self, Kind};
use crate::transport::flows::{Lease, Seat};
use crate::transport::listen::BoundListener;
use crate::transport::socket::has_room;
use crate::transport::stream::{AFTER_KEY, Closed, StreamFacts};
use crate::transport::tls::TlsRefusal;
use crate::transport::transports::Shop;
use crate::transport::{Side, Transport, guarded, stun};
use crate::wire::Message;

/// How long a session may be idle on which somebody authenticated: a registration of an hour and its slack.
const IDLE_KNOWN: Duration = Duration::from_secs(3700);
/// A pause when the socket itself fails, so that a broken one does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Proofs and look-ups of handshakes under way at which those of the dead are dropped.
const PROOFS_ENOUGH: usize = 64;

/// One socket.
pub(in crate::transport) struct DtlsPort {
    socket: AsyncFd<UdpSocket>,
    bound: Arc<BoundListener>,
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
    anteroom: Anteroom,
    inbox: Inbox,
    /// What of the sessions' own numbers stands in the tally of all.
    noted: Tally,
    /// Whose turn it is.
    in_hand: Option<SessionId>,
    /// Until when no timer goes off.
    rest: Option<Instant>,
}

/// A session that stands.
struct Line {
    lease: Lease,
    facts: Arc<StreamFacts>,
    bell: Waker,
    proof: Option<PskProof>,
    /// Who looks whether its certificate is still good.
    _watch: Option<Watch>,
}

type Lookup = (SessionId, Pin<Box<dyn Future<Output = Option<Psk>>>>);

impl DtlsPort {
    pub(in crate::transport) fn new(
        socket: AsyncFd<UdpSocket>,
        bound: Arc<BoundListener>,
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
        let doors = Arc::clone(shop.flows.dtls_doors());
        let waker = move |id| Waker::from(bells.bell(id));
        let mut desk = Desk {
            sessions: Sessions::new(engines, cookies, doors, waker),
            lines: HashMap::new(),
            proofs: HashMap::new(),
            lookups: Vec::new(),
            anteroom: Anteroom::default(),
            inbox: Inbox::new(),
            noted: Tally::default(),
            in_hand: None,
            rest: None,
        };
        let mut taken_back = shop.desk.as_ref().map(|desk| desk.taken_back());
        while guarded(pin!(self.rounds(&shop, &mut desk, &mut taken_back))).await.is_none() {
            self.recover(&shop, &mut desk);
        }
    }

    async fn rounds(&self, shop: &Shop, desk: &mut Desk, taken_back: &mut TakenBack) {
        // What a round that panicked had not come to; each thing is taken once, so this ends.
        self.drain(shop, desk);
        // A timer that goes off early finds nothing due, so it is set anew only when it would be late: most handshakes
        // are over long before theirs.
        let (mut timer, mut armed) = (pin!(sleep_until(clock::deadline(clock::mono()))), None);
        loop {
            if let Some(at) = desk.sessions.poll_timeout()
                && let at = desk.rest.map_or(at, |rest| at.max(rest))
                && armed.is_none_or(|armed| at < armed)
            {
                timer.as_mut().reset(clock::deadline(at));
                armed = Some(at);
            }
            let waits = self.outbox.borrow().len() > 0;
            tokio::select! {
                told = self.socket.readable() => {
                    let read = told.and_then(|told| self.receive(shop, desk, told));
                    if read.is_err_and(|why| why.kind() != io::ErrorKind::WouldBlock) {
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                }
                () = has_room(&self.socket), if waits => {}
                () = self.bells.rung.notified() => self.answer_bells(shop, desk),
                (id, psk) = found(&mut desk.lookups) => self.key(desk, id, psk),
                (guest, held) = desk.anteroom.next() => self.admit(shop, desk, guest, held),
                () = &mut timer, if armed.is_some() => {
                    armed = None;
                    desk.sessions.expire(clock::mono());
                }
                () = changed(taken_back) => Self::look_at_keys(shop, desk),
            }
            self.drain(shop, desk);
            shop.receiver.turn();
            self.flush(shop);
            if self.behind_since.get().is_some() {
                // There is more: others first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// What a round that panicked leaves.
    fn recover(&self, shop: &Shop, desk: &mut Desk) {
        shop.flows.tally().panicked.add(1);
        desk.rest = Some(clock::mono() + AFTER_FAILURE);
        if let Some(id) = desk.in_hand.take() {
            let closing =
                AssertUnwindSafe(|| self.close(shop, desk, id, Closed::Panicked, clock::mono()));
            // Whoever is told of it may be what panicked; its entry is gone by then.
            let _ = catch_unwind(closing);
        }
    }

    /// Reads one batch.
    fn receive(
        &self,
        shop: &Shop,
        desk: &mut Desk,
        mut told: AsyncFdReadyGuard<'_, UdpSocket>,
    ) -> io::Result<()> {
        let Desk { inbox, sessions, .. } = desk;
        sessions.replace_engines(self.server.engines());
        let now = clock::mono();
        let read = inbox.read(&mut told, |octets, from| {
            let handled = catch_unwind(AssertUnwindSafe(|| {
                self.handle(shop, sessions, octets, from, now);
            }));
            if handled.is_err() {
                shop.flows.tally().panicked.add(1);
                sessions.abandon(from);
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
            desk.in_hand = Some(id);
            desk.sessions.woken([id], now);
            self.empty_queue(shop, desk, id, now);
        }
        desk.in_hand = None;
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
        let told = proof.is_none() && self.server.tells();
        if desk.proofs.len() >= PROOFS_ENOUGH {
            desk.proofs.retain(|id, _| desk.sessions.has(*id));
        }
        if let Some(proof) = proof {
            desk.proofs.insert(id, proof);
        }
        // Without a key, the library says that it knows of none.
        let key = if told { &[][..] } else { key.expose() };
        desk.sessions.key(id, key, clock::mono());
    }

    /// Sessions whose key was taken back are over.
    fn look_at_keys(shop: &Shop, desk: &mut Desk) {
        let now = clock::now();
        let over = desk
            .lines
            .iter()
            .filter(|(_, line)| line.proof.as_ref().is_some_and(|proof| !holds(shop, proof, now)));
        let over: Vec<SessionId> = over.map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| desk.sessions.set_end(id, now.mono));
        desk.sessions.expire(now.mono);
    }

    /// Does what the sessions want done.
    fn drain(&self, shop: &Shop, desk: &mut Desk) {
        while let Some(output) = desk.sessions.poll_output() {
            desk.in_hand = output.session();
            match output {
                Output::Send { to, octets } => self.put(shop, to, octets),
                Output::Ask { id, identity, suite, asked_for } => {
                    if desk.lookups.len() >= PROOFS_ENOUGH {
                        desk.lookups.retain(|(id, _)| desk.sessions.has(*id));
                    }
                    desk.lookups.extend(ask(shop, id, identity, suite, asked_for));
                }
                Output::Opened { id, from, proof, asked_for } => {
                    self.opened(shop, desk, id, from, proof, asked_for);
                }
                Output::Data { id, octets } => {
                    if let Some(octets) = desk.anteroom.hold(id, octets) {
                        self.message(shop, desk, id, octets);
                    }
                }
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
                        Why::Panicked => Closed::Panicked,
                        Why::Ended(_) => Closed::Peer,
                    };
                    Self::gone(shop, desk, id, why);
                }
            }
        }
        desk.in_hand = None;
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

    /// A handshake is over: its session is entered, or asked about before.
    fn opened(
        &self,
        shop: &Shop,
        desk: &mut Desk,
        id: SessionId,
        from: SocketAddr,
        proof: Proof,
        asked_for: Option<Arc<str>>,
    ) {
        let shared = desk.proofs.remove(&id).filter(|proof| holds(shop, proof, clock::now()));
        // A key that nobody has proves nobody, whoever found it out; nor does one that was taken back since it was asked for.
        let seat = match &proof {
            Proof::Psk(_) if shared.is_none() => None,
            _ => shop.flows.seat(from.ip()),
        };
        let Some(seat) = seat else {
            return desk.sessions.close(id, clock::mono());
        };
        let shown = match proof {
            Proof::Certificate(shown) => Some(*shown),
            Proof::Psk(_) | Proof::Nothing => None,
        };
        let guest = Guest { id, from, asked_for, shown, seat };
        if guest.shown.is_some() && self.server.standing().asks() {
            return desk.anteroom.ask(guest, &self.server);
        }
        self.enter(shop, desk, guest, shared);
    }

    /// What a responder said of a certificate: the session is entered with what came meanwhile, or over.
    fn admit(
        &self,
        shop: &Shop,
        desk: &mut Desk,
        guest: Result<Guest, (SessionId, TlsRefusal)>,
        held: Vec<Bytes>,
    ) {
        let guest = match guest {
            Ok(guest) => guest,
            Err((id, why)) => {
                shop.flows.tally().handshakes_failed.add(1);
                shop.flows.tally().refused(&why);
                tracing::debug!(%why, "handshake refused");
                return desk.sessions.close(id, clock::mono());
            }
        };
        let id = guest.id;
        self.enter(shop, desk, guest, None);
        held.into_iter().for_each(|octets| self.message(shop, desk, id, octets));
    }

    /// Enters a session among the flows.
    fn enter(&self, shop: &Shop, desk: &mut Desk, guest: Guest, shared: Option<PskProof>) {
        let Guest { id, from, asked_for, shown, seat } = guest;
        desk.in_hand = Some(id);
        let (now, side) = (clock::now(), self.bound.spec.side);
        let Some(lease) = self.open(shop, from, seat) else {
            return desk.sessions.close(id, now.mono);
        };
        shop.flows.tally().accepted.add(1);
        let own = shown.as_ref().and_then(|shown| shown.chain.first());
        let user = own.and_then(|own| self.server.standing().trust().user_of(own));
        let watch = shown.as_ref().map(|shown| {
            let (server, pipe) = (Arc::clone(&self.server), Arc::clone(lease.pipe()));
            Watch::new(server, Arc::clone(&shown.chain), user.clone(), pipe, from, &shop.flows)
        });
        let key = shared.as_ref().map(|shared| Arc::clone(&shared.caller));
        if let Some(expires) = key.as_ref().and_then(|caller| caller.expires) {
            // What was under way ends first, as in `tcp`.
            desk.sessions.set_end(id, now.mono + expires.since(now.wall) + AFTER_KEY);
        }
        let facts = Arc::new(StreamFacts {
            flow: lease.flow(),
            side,
            local: self.bound.local,
            names: shown.map(|shown| shown.names),
            asked_for,
            // Users are at the other face, as in `tcp`.
            channel: key.or(user).filter(|_| side == Side::Ue),
            target: None,
        });
        // Set once: a lease has one session.
        let _ = lease.pipe().facts.set(Arc::clone(&facts));
        let bell = Waker::from(self.bells.bell(id));
        // If something is queued already, the bell is rung.
        if !lease.pipe().rest(&bell, false) {
            bell.wake_by_ref();
        }
        let line = Line { lease, facts: Arc::clone(&facts), bell, proof: shared, _watch: watch };
        desk.lines.insert(id, line);
        shop.receiver.opened(&facts);
    }

    fn open(&self, shop: &Shop, from: SocketAddr, seat: Seat) -> Option<Lease> {
        shop.flows.open(Transport::Dtls, self.bound.spec.id, from, Some(seat)).ok()
    }

    /// One message, one record. CRLF and the like are signs of life (`DT-05`). A panic ends the session alone.
    fn message(&self, shop: &Shop, desk: &mut Desk, id: SessionId, octets: Bytes) {
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
            self.close(shop, desk, id, Closed::Panicked, clock::mono());
        }
    }

    fn close(&self, shop: &Shop, desk: &mut Desk, id: SessionId, why: Closed, now: Instant) {
        desk.sessions.close(id, now);
        Self::gone(shop, desk, id, why);
    }

    fn gone(shop: &Shop, desk: &mut Desk, id: SessionId, why: Closed) {
        desk.anteroom.leave(id);
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
        self.outbox.borrow_mut().flush(self.socket.get_ref(), |_| shop.flows.tally().unsent.add(1));
    }
}

/// Whether a key is still its owner's.
fn holds(shop: &Shop, proof: &PskProof, now: Now) -> bool {
    shop.desk.as_ref().is_some_and(|desk| desk.keys().holds(proof, now))
}

fn ask(
    shop: &Shop,
    id: SessionId,
    identity: Bytes,
    suite: u16,
    asked_for: Option<Arc<str>>,
) -> Option<Lookup> {
    let desk = shop.desk.clone()?;
    let asking = async move {
        let of = PskUse::Suite(suite);
        let asking = desk.psk(&identity, asked_for.as_deref(), of);
        // The handshake is over by then, whatever comes.
        tokio::time::timeout(HANDSHAKE, asking).await.ok()
    };
    Some((id, Box::pin(asking)))
}

/// The next look-up that ends; one that panics found nothing.
async fn found(lookups: &mut Vec<Lookup>) -> (SessionId, Option<Psk>) {
    poll_fn(|context| {
        let ready =
            lookups.iter_mut().enumerate().find_map(|(at, (id, lookup))| {
                match catch_unwind(AssertUnwindSafe(|| lookup.as_mut().poll(context))) {
                    Ok(Poll::Ready(found)) => Some((at, (*id, found))),
                    Ok(Poll::Pending) => None,
                    Err(_) => Some((at, (*id, None))),
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

/// The word that keys may have been taken back, where there are any.
type TakenBack = Option<tokio::sync::watch::Receiver<()>>;

async fn changed(word: &mut TakenBack) {
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

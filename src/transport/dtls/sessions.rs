//! Stage 1, DTLS sessions: every handshake and session of one socket, told apart by the peer's address.
//!
//! 1. A hello without a good cookie is answered with one, and forgotten.
//! 2. A hello with a good cookie begins a handshake, beside the session that its address may have.
//! 3. When the handshake ends well, its session takes the place of the other.
//! 4. Other records go through the filter to the session of their address, and to the handshake beside it.
//!
//! Takes:   datagrams with their senders, keys, messages to send, the time.
//! Gives:   [`Output`]s, to be polled after each call; then one timer is to be set.
//! Keeps:   a handshake for each address, [`HANDSHAKE`] long, within the bounds of [`Doors`] and, where engines make
//!          cookies, of [`knocks`]; of one that ended before its address was proven, its doors until [`UNPROVEN`] is over,
//!          since its engine cost what others cost; a session for each address, as long as the shell keeps it.
//! Refuses: versions before 1.2 and offers that nothing fits, by an alert; all else without a word.
//! Sources: RFC 6347 sections 4.2.1 and 4.2.8; `DT-07`, `DT-09`, `DT-11`, `V-42` to `V-44`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::cookie::{self, Cookies};
use super::engine::{DtlsEngine, Ended, Engines, Event, Unsent};
use super::filter::{self, Filter};
use super::hello::{self, Hello, NoHello};
use super::knocks::{self, Knocks};
use super::record;
use crate::instant::Instant;
use crate::transport::doors::{Door, Doors};

pub use super::told::{Output, SessionId, Tally, Why};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long one may take whose client has not shown that it receives at its address.
pub const UNPROVEN: Duration = Duration::from_secs(2);
/// How long a good-bye may take.
pub const FAREWELL: Duration = Duration::from_secs(1);
/// After how long without a message the shell is asked whether a session is to go on.
pub const IDLE: Duration = Duration::from_secs(60);

const PROTOCOL_VERSION: u8 = 70;
const HANDSHAKE_FAILURE: u8 = 40;

/// All sessions of one socket.
pub struct Sessions {
    engines: Arc<dyn Engines>,
    cookies: Arc<Cookies>,
    doors: Arc<Doors>,
    /// Those for handshakes without a cookie yet whose hello came once.
    freely: Arc<Doors>,
    knocks: Knocks,
    waker: Box<dyn Fn(SessionId) -> Waker>,
    by_address: HashMap<SocketAddr, Pair>,
    all: HashMap<SessionId, Session>,
    due: BTreeSet<(Instant, SessionId)>,
    /// What handshakes leave that ended early, and until when.
    left: BTreeMap<(Instant, SessionId), Left>,
    outputs: VecDeque<Output>,
    next: u64,
    tally: Tally,
}

/// What an address has.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    standing: Option<SessionId>,
    rising: Option<SessionId>,
}

struct Session {
    engine: Box<dyn DtlsEngine>,
    from: SocketAddr,
    random: [u8; 32],
    asked_for: Option<Arc<str>>,
    stage: Stage,
    due: Option<Instant>,
}

enum Stage {
    Rising { until: Instant, address: Address, filter: Box<Filter>, door: Door },
    Standing { heard: Instant, look: Instant, ends: Option<Instant> },
    Leaving { until: Instant },
}

/// What is known of the address that a handshake came from.
enum Address {
    /// Its client receives there: the cookie came back that was sent there.
    Proven,
    /// Anybody may have written it. It has a door, if it was let in at its first hello.
    Claimed { free: Option<Door> },
}

/// The doors of a handshake that ended before its address was proven: whoever forges hellos would make as many engines as
/// he can write hellos, if those that end at once made room at once.
struct Left {
    _door: Door,
    _free: Option<Door>,
}

impl Session {
    /// When it is to be looked at next.
    fn next(&self) -> Option<Instant> {
        let own = match &self.stage {
            Stage::Rising { until, .. } | Stage::Leaving { until } => Some(*until),
            Stage::Standing { look, ends, .. } => Some(ends.map_or(*look, |ends| ends.min(*look))),
        };
        [self.engine.poll_timeout(), own].into_iter().flatten().min()
    }

    /// Notes a datagram of the engine's: it says hello only to a client whose cookie was its own.
    fn sends(&mut self, octets: &[u8], now: Instant) {
        if let Stage::Rising { until, address, .. } = &mut self.stage
            && matches!(address, Address::Claimed { .. })
            && hello::is_answered(octets)
        {
            (*address, *until) = (Address::Proven, now + HANDSHAKE);
        }
    }
}

impl Sessions {
    /// An empty table. `waker` makes what an engine calls to have [`Sessions::woken`] called.
    pub fn new(
        engines: Arc<dyn Engines>,
        cookies: Arc<Cookies>,
        doors: Arc<Doors>,
        waker: impl Fn(SessionId) -> Waker + 'static,
    ) -> Self {
        Self {
            engines,
            cookies,
            doors,
            freely: Doors::new(knocks::FREELY, knocks::FREELY),
            knocks: Knocks::default(),
            waker: Box::new(waker),
            by_address: HashMap::new(),
            all: HashMap::new(),
            due: BTreeSet::new(),
            left: BTreeMap::new(),
            outputs: VecDeque::new(),
            next: 0,
            tally: Tally::default(),
        }
    }

    /// Puts other engines in the place of the present ones: handshakes that begin from now on are theirs.
    pub fn replace_engines(&mut self, engines: Arc<dyn Engines>) {
        self.engines = engines;
    }

    /// A datagram.
    pub fn datagram(&mut self, from: SocketAddr, octets: &[u8], now: Instant) {
        match Hello::read(octets) {
            Ok(hello) => self.hello(from, &hello, now),
            Err(NoHello::Other) => self.known(from, octets, now),
            Err(NoHello::Fragment | NoHello::Malformed) => self.drop_one(),
        }
    }

    fn hello(&mut self, from: SocketAddr, hello: &Hello<'_>, now: Instant) {
        let makes_cookies = self.engines.make_cookies();
        // Engines that make cookies refuse whoever could speak a newer version too, once they are made.
        if !hello.speaks_dtls12() || makes_cookies && !hello.names_dtls12() {
            return self.refuse(from, PROTOCOL_VERSION, hello);
        }
        let pair = self.by_address.get(&from).copied().unwrap_or_default();
        let same = |id: &SessionId| self.all.get(id).is_some_and(|it| it.random == *hello.random);
        let (rising, standing) = (pair.rising.filter(same), pair.standing.filter(same));
        if makes_cookies {
            match rising {
                Some(id) => self.hello_again(id, hello, now),
                None if hello.cookie.is_empty() && pair.rising.is_none() => {
                    self.begin(from, hello, now);
                }
                None => self.drop_one(),
            }
        } else if !self.cookies.verify(from, hello, now) {
            let cookie = self.cookies.make(from, hello, now);
            self.answer(from, cookie::hello_verify_request(hello, &cookie));
        } else if rising.is_some() || standing.is_some() || hello.record == 0 {
            // It came before: the engine repeats its answer by itself.
            self.drop_one();
        } else {
            if let Some(other) = pair.rising {
                self.remove(other);
            }
            self.begin(from, hello, now);
        }
    }

    /// A hello of a handshake whose engine makes its own cookies.
    fn hello_again(&mut self, id: SessionId, hello: &Hello<'_>, now: Instant) {
        let Some(session) = self.all.get_mut(&id) else { return };
        let Stage::Rising { filter, .. } = &mut session.stage else { return };
        if !filter.has_room(hello.octets) {
            return self.drop_one();
        }
        session.engine.input(hello.octets, now);
        self.settle(id, now);
    }

    fn begin(&mut self, from: SocketAddr, hello: &Hello<'_>, now: Instant) {
        let address = self.let_in(from, hello);
        let Some((address, door)) = address.zip(self.doors.enter(from.ip())) else {
            self.tally.crowded = self.tally.crowded.wrapping_add(1);
            return;
        };
        let id = SessionId(self.next);
        self.next = self.next.wrapping_add(1);
        let Some(engine) = self.engines.begin(hello, (self.waker)(id)) else {
            return self.refuse(from, HANDSHAKE_FAILURE, hello);
        };
        self.tally.begun = self.tally.begun.wrapping_add(1);
        let mut filter = Box::<Filter>::default();
        filter.has_room(hello.octets);
        let lasts = if matches!(address, Address::Proven) { HANDSHAKE } else { UNPROVEN };
        let mut session = Session {
            engine,
            from,
            random: *hello.random,
            asked_for: hello.server_name().map(Arc::from),
            stage: Stage::Rising { until: now + lasts, address, filter, door },
            due: None,
        };
        session.engine.input(hello.octets, now);
        self.all.insert(id, session);
        self.by_address.entry(from).or_default().rising = Some(id);
        self.settle(id, now);
    }

    /// What is known of the address, if a handshake may begin: in a crowd, whoever shows nothing else comes twice.
    fn let_in(&mut self, from: SocketAddr, hello: &Hello<'_>) -> Option<Address> {
        if !self.engines.make_cookies() {
            return Some(Address::Proven);
        }
        let free = self.freely.enter(from.ip());
        let enters = free.is_some() || self.knocks.again(from, hello.random);
        enters.then_some(Address::Claimed { free })
    }

    /// Records of a handshake or a session that is known, or of nobody.
    fn known(&mut self, from: SocketAddr, octets: &[u8], now: Instant) {
        let Some(Pair { standing, rising }) = self.by_address.get(&from).copied() else {
            return self.drop_one();
        };
        let mut taken = false;
        if let Some(session) = standing.and_then(|id| self.all.get_mut(&id)) {
            // What a client repeats of its handshake, it repeats to the engine that it does not know is done.
            let repeats = rising.is_none() && filter::repeats(octets);
            if let Some(kept) = filter::established(octets) {
                session.engine.input(&kept, now);
                taken = true;
            }
            if repeats {
                session.engine.repeat(now);
                taken = true;
            }
        }
        if let Some(session) = rising.and_then(|id| self.all.get_mut(&id))
            && let Stage::Rising { filter, .. } = &mut session.stage
            && let Some(kept) = filter.shaking_hands(octets)
        {
            session.engine.input(&kept, now);
            taken = true;
        }
        if !taken {
            return self.drop_one();
        }
        standing.into_iter().chain(rising).for_each(|id| self.settle(id, now));
    }

    /// The key that [`Output::Ask`] asked for.
    pub fn key(&mut self, id: SessionId, key: &[u8], now: Instant) {
        if let Some(session) = self.all.get_mut(&id) {
            session.engine.key(key, now);
            self.settle(id, now);
        }
    }

    /// Sends a message on a session.
    ///
    /// # Errors
    ///
    /// [`Unsent`].
    pub fn send(&mut self, id: SessionId, message: &[u8], now: Instant) -> Result<(), Unsent> {
        let session = self.all.get_mut(&id).ok_or(Unsent::Gone)?;
        let sent = session.engine.send(message, now);
        self.settle(id, now);
        sent
    }

    /// Sets when a session is over: [`Output::Over`] will say so.
    pub fn set_end(&mut self, id: SessionId, at: Instant) {
        let Some(session) = self.all.get_mut(&id) else { return };
        if let Stage::Standing { ends, .. } = &mut session.stage {
            *ends = Some(at);
        }
        self.schedule(id);
    }

    /// Notes a sign of life that came beside the sessions, from the address of one.
    pub fn heard(&mut self, from: SocketAddr, now: Instant) {
        let standing = self.by_address.get(&from).and_then(|pair| pair.standing);
        if let Some(session) = standing.and_then(|id| self.all.get_mut(&id))
            && let Stage::Standing { heard, .. } = &mut session.stage
        {
            *heard = now;
        }
    }

    /// Ends a session; the peer is told, the shell is not.
    pub fn close(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.all.get_mut(&id) else { return };
        let said = session.engine.close(now);
        let to = session.from;
        while let Some(octets) = session.engine.poll_transmit() {
            self.outputs.push_back(Output::Send { to, octets });
        }
        if said {
            return self.remove(id);
        }
        // Nothing more is heard on it, and its address is free.
        session.stage = Stage::Leaving { until: now + FAREWELL };
        self.free_address(to, id);
        self.schedule(id);
    }

    /// Forgets what an address has, after a panic while a datagram from there was dealt with: no engine of it is called
    /// any more, and the peer is not told.
    pub fn abandon(&mut self, from: SocketAddr) {
        let Some(Pair { standing, rising }) = self.by_address.remove(&from) else { return };
        for id in standing.into_iter().chain(rising) {
            self.due.retain(|(_, due)| *due != id);
            if let Some(session) = self.all.remove(&id) {
                self.leave(id, session.stage);
            }
        }
        let closed = standing.map(|id| Output::Closed(id, Why::Panicked));
        self.outputs.extend(closed);
    }

    /// Engines called their wakers.
    pub fn woken(&mut self, ids: impl IntoIterator<Item = SessionId>, now: Instant) {
        for id in ids {
            if let Some(session) = self.all.get_mut(&id) {
                session.engine.turn(now);
                self.settle(id, now);
            }
        }
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            if let Some(session) = self.all.get_mut(&id) {
                session.due = None;
                self.look(id, now);
            }
        }
        while let Some(left) = self.left.first_entry().filter(|left| left.key().0 <= now) {
            left.remove();
        }
    }

    fn look(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.all.get_mut(&id) else { return };
        match &mut session.stage {
            Stage::Leaving { until } if *until <= now => return self.remove(id),
            Stage::Rising { until, .. } if *until <= now => {
                self.tally.slow = self.tally.slow.wrapping_add(1);
                return self.remove(id);
            }
            Stage::Standing { ends: Some(ends), look, .. } if *ends <= now => {
                // The shell closes it; if it does not, it is asked again.
                (*ends, *look) = (now + IDLE, now + IDLE);
                self.outputs.push_back(Output::Over(id));
            }
            Stage::Standing { heard, look, .. } if *look <= now => {
                let since = now.since(*heard);
                *look = if since >= IDLE { now + IDLE } else { *heard + IDLE };
                if since >= IDLE {
                    self.outputs.push_back(Output::Idle { id, since });
                }
            }
            Stage::Rising { .. } | Stage::Standing { .. } | Stage::Leaving { .. } => {}
        }
        session.engine.turn(now);
        self.settle(id, now);
    }

    /// When [`Sessions::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let left = self.left.first_key_value().map(|((at, _), _)| *at);
        self.due.first().map(|(at, _)| *at).into_iter().chain(left).min()
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether there is such a handshake or session.
    pub fn has(&self, id: SessionId) -> bool {
        self.all.contains_key(&id)
    }

    /// Handshakes under way, and sessions.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes what an engine has for us, after each call.
    fn settle(&mut self, id: SessionId, now: Instant) {
        // Taken out, since what happens to it may end another.
        let Some(mut session) = self.all.remove(&id) else { return };
        let to = session.from;
        loop {
            while let Some(octets) = session.engine.poll_transmit() {
                session.sends(&octets, now);
                self.outputs.push_back(Output::Send { to, octets });
            }
            let Some(event) = session.engine.poll_event() else { break };
            if let Event::Closed(why) = event {
                self.ended(id, &session, why);
                self.all.insert(id, session);
                return self.remove(id);
            }
            self.happened(id, &mut session, event, now);
        }
        self.all.insert(id, session);
        self.schedule(id);
    }

    fn happened(&mut self, id: SessionId, session: &mut Session, event: Event, now: Instant) {
        match event {
            Event::WantsKey { identity, suite } => {
                let asked_for = session.asked_for.clone();
                self.outputs.push_back(Output::Ask { id, identity, suite, asked_for });
            }
            Event::Established(proof) => {
                session.stage = Stage::Standing { heard: now, look: now + IDLE, ends: None };
                self.tally.established = self.tally.established.wrapping_add(1);
                let (from, asked_for) = (session.from, session.asked_for.clone());
                let pair = self.by_address.entry(from).or_default();
                pair.rising = None;
                if let Some(other) = pair.standing.replace(id) {
                    // Its keys are gone at the other end: there is nobody to say good-bye to.
                    self.outputs.push_back(Output::Closed(other, Why::Replaced));
                    self.remove(other);
                }
                self.outputs.push_back(Output::Opened { id, from, proof, asked_for });
            }
            Event::Data(octets) => {
                let Stage::Standing { heard, .. } = &mut session.stage else { return };
                *heard = now;
                self.outputs.push_back(Output::Data { id, octets });
            }
            Event::Closed(_) => {}
        }
    }

    fn ended(&mut self, id: SessionId, session: &Session, why: Ended) {
        match session.stage {
            Stage::Standing { .. } => {
                self.outputs.push_back(Output::Closed(id, Why::Ended(why)));
            }
            Stage::Rising { .. } => self.tally.failed = self.tally.failed.wrapping_add(1),
            Stage::Leaving { .. } => {}
        }
    }

    fn schedule(&mut self, id: SessionId) {
        let Some(session) = self.all.get_mut(&id) else { return };
        let next = session.next();
        if next != session.due {
            if let Some(old) = session.due.take() {
                self.due.remove(&(old, id));
            }
            session.due = next;
            self.due.extend(next.map(|at| (at, id)));
        }
    }

    fn remove(&mut self, id: SessionId) {
        let Some(session) = self.all.remove(&id) else { return };
        if let Some(at) = session.due {
            self.due.remove(&(at, id));
        }
        self.free_address(session.from, id);
        self.leave(id, session.stage);
    }

    /// What a session leaves that is no more: all of it is dropped, or its doors are later.
    fn leave(&mut self, id: SessionId, stage: Stage) {
        if let Stage::Rising { until, address: Address::Claimed { free }, door, .. } = stage {
            self.left.insert((until, id), Left { _door: door, _free: free });
        }
    }

    fn free_address(&mut self, from: SocketAddr, id: SessionId) {
        if let Some(pair) = self.by_address.get_mut(&from) {
            pair.standing = pair.standing.filter(|it| *it != id);
            pair.rising = pair.rising.filter(|it| *it != id);
            if pair.standing.is_none() && pair.rising.is_none() {
                self.by_address.remove(&from);
            }
        }
    }

    fn refuse(&mut self, to: SocketAddr, alert: u8, hello: &Hello<'_>) {
        self.answer(to, record::fatal_alert(alert, hello.record));
    }

    fn answer(&mut self, to: SocketAddr, octets: Vec<u8>) {
        self.tally.answered = self.tally.answered.wrapping_add(1);
        self.outputs.push_back(Output::Send { to, octets: octets.into() });
    }

    fn drop_one(&mut self) {
        self.tally.dropped = self.tally.dropped.wrapping_add(1);
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.all.len())
    }
}

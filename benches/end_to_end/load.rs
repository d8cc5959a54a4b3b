//! The load: a population of UEs that makes transactions, as many at once or as many a second as it is told.
//!
//! One thread serves UEs and backend, so nothing is handed over. A transaction begins when it is due and ends with
//! its last answer; what was due while the generator was busy counts as waiting.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;
use rustls::ClientConfig;

use super::backend::{Backend, NOTIFIES, Seen};
use super::flood::Flood;
use super::keyed::{self, Keyed};
use super::lab::{Plan, Transport};
use super::measure::{Latencies, Meter, Reading};
use super::net::{BATCH, Epoll, Inbox, Port, READABLE};
use super::stream::{self, Conn, Line, Stage};
use super::ue::{Busy, Method, Ue};
use super::wire;

/// What one transaction of a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// OPTIONS for the anchor itself, answered by it.
    Options,
    /// REGISTER without credentials, challenged, and again with them.
    Register,
    /// MESSAGE with credentials.
    Message,
    /// INVITE with credentials, 200, ACK, BYE with credentials.
    Call,
    /// SUBSCRIBE with credentials, and three NOTIFYs.
    Subscribe,
}

impl Errand {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Register => "register",
            Self::Message => "message",
            Self::Call => "call",
            Self::Subscribe => "subscribe",
        }
    }
}

/// How transactions follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many at once: each that ends makes room for the next.
    Window(usize),
    /// So many a second, whatever becomes of them.
    Rate(f64),
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) pace: Pace,
    /// Time before anything counts.
    pub(crate) warm: Duration,
    /// Time that counts.
    pub(crate) time: Duration,
}

/// What became of the transactions.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Due at a fixed rate.
    pub(crate) due: u64,
    /// Ended well within the time that counts.
    pub(crate) good: u64,
    /// Of these, without sending anything again.
    pub(crate) at_once: u64,
    pub(crate) failed: u64,
    pub(crate) sent_again: u64,
    /// Messages that nobody was waiting for.
    pub(crate) stray: u64,
    pub(crate) challenged: u64,
    /// Due, but every UE was busy.
    pub(crate) crowded: u64,
    pub(crate) flows_lost: u64,
    /// The last status that was no success.
    pub(crate) refusal: Option<u16>,
    pub(crate) latencies: Latencies,
}

/// A run and its instruments.
pub(crate) struct Outcome {
    pub(crate) before: Reading,
    pub(crate) after: Reading,
    pub(crate) tally: Tally,
    /// What reached the backend meanwhile.
    pub(crate) seen: Seen,
    /// Junk that was sent meanwhile.
    pub(crate) junk: u64,
}

/// A population before one anchor.
pub(crate) struct Load {
    errand: Errand,
    transport: Transport,
    anchor: SocketAddrV4,
    ues: Vec<Ue>,
    idle: VecDeque<usize>,
    under_way: usize,
    timers: [VecDeque<Timer>; RETRANSMIT.len()],
    port: Port,
    conns: Vec<Option<Box<dyn Line>>>,
    tls: Option<Arc<ClientConfig>>,
    keyed: Option<SslContext>,
    opening: usize,
    closed: VecDeque<usize>,
    epoll: Epoll,
    inbox: Inbox,
    message: Vec<u8>,
    backend: Backend,
    branches: u64,
    counting: bool,
    tally: Tally,
}

#[derive(Clone, Copy)]
struct Timer {
    at: Instant,
    ue: usize,
    branch: u64,
}

/// A request over UDP is sent again after half a second and once more a second later; two seconds later it failed.
const RETRANSMIT: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2000)];
/// Connections that are opened at once.
const OPENING_MAX: usize = 32;
/// How long preparations may take.
const PATIENCE: Duration = Duration::from_secs(120);

const PORT: u64 = 0;
const BACKEND: u64 = 1;
const FIRST_CONN: u64 = 16;

impl Load {
    /// The UEs of `plan` before the anchor, and its backend.
    pub(crate) fn new(errand: Errand, plan: &Plan, ues: Vec<Ue>) -> io::Result<Self> {
        let transport = plan.transport;
        let port = Port::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        let backend = Backend::bind(plan.backend, ues.len())?;
        let epoll = Epoll::new()?;
        epoll.add(&port, READABLE, PORT);
        epoll.add(&backend.port, READABLE, BACKEND);
        let mut load = Self {
            errand,
            transport,
            anchor: plan.door(),
            idle: (0..ues.len()).collect(),
            under_way: 0,
            timers: Default::default(),
            port,
            conns: Vec::new(),
            tls: (transport == Transport::Tls).then(stream::client),
            keyed: transport.has_keys().then(|| keyed::client(transport)).transpose()?,
            opening: 0,
            closed: VecDeque::new(),
            epoll,
            inbox: Inbox::new(),
            message: Vec::new(),
            backend,
            branches: 0,
            counting: false,
            tally: Tally::default(),
            ues,
        };
        match transport {
            Transport::Udp => {
                let port = load.port.local().port();
                for ue in &mut load.ues {
                    ue.is_at(SocketAddrV4::new(ue.address, port), transport.via());
                }
            }
            Transport::Tcp | Transport::Tls | Transport::PskTls | Transport::Dtls => {
                load.conns = load.ues.iter().map(|_| None).collect();
                load.closed = (0..load.ues.len()).collect();
            }
        }
        Ok(load)
    }

    /// Opens all connections, and lets every UE be challenged once.
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while !self.closed.is_empty() || self.opening > 0 {
            self.step(Duration::from_millis(2));
            if began.elapsed() > PATIENCE {
                return Err(format!("{} flows did not open", self.closed.len() + self.opening));
            }
        }
        if matches!(self.errand, Errand::Options | Errand::Register) {
            return Ok(());
        }
        let (mut begun, all) = (0, self.ues.len());
        while begun < all || self.under_way > 0 {
            while begun < all && self.under_way < BATCH {
                let now = Instant::now();
                self.begin_next(now, now);
                begun += 1;
            }
            self.step(Duration::from_millis(2));
            if began.elapsed() > PATIENCE {
                return Err("the UEs were not served".into());
            }
        }
        let lost = self.ues.iter().filter(|ue| !ue.login.is_challenged()).count();
        if lost > 0 && self.tally.failed > 0 {
            return Err(format!("{lost} UEs failed, the last with {:?}", self.tally.refusal));
        }
        Ok(())
    }

    /// One run, with `flood` beside it if there is one.
    pub(crate) fn run(
        &mut self,
        course: Course,
        meter: &Meter,
        mut flood: Option<&mut Flood>,
    ) -> Outcome {
        let began = Instant::now();
        let mut due = began;
        if let Some(flood) = flood.as_deref_mut() {
            flood.begin();
        }
        let mut started: Option<(Reading, Seen, u64)> = None;
        let junk = |flood: &Option<&mut Flood>| flood.as_ref().map_or(0, |flood| flood.sent);
        loop {
            let now = Instant::now();
            if started.is_none() && now - began >= course.warm {
                self.tally = Tally::default();
                self.counting = true;
                started = Some((meter.read(), self.backend.seen, junk(&flood)));
            }
            if now - began >= course.warm + course.time {
                break;
            }
            self.begin_due(course.pace, &mut due, now);
            let mut wait = Duration::from_millis(2);
            if matches!(course.pace, Pace::Rate(_)) {
                wait = wait.min(due.saturating_duration_since(Instant::now()));
            }
            if let Some(flood) = flood.as_deref_mut() {
                flood.send(now);
                wait = wait.min(Duration::from_micros(100));
            }
            self.step(wait);
        }
        let after = meter.read();
        let (before, seen, junk_before) =
            started.unwrap_or_else(|| (meter.read(), self.backend.seen, 0));
        let junk = junk(&flood) - junk_before;
        self.counting = false;
        let drain = RETRANSMIT.iter().sum::<Duration>() + Duration::from_millis(200);
        let ended = Instant::now();
        while self.under_way > 0 && ended.elapsed() < drain {
            self.step(Duration::from_millis(2));
        }
        let seen = self.backend.seen.since(&seen);
        Outcome { before, after, tally: std::mem::take(&mut self.tally), seen, junk }
    }

    fn begin_due(&mut self, pace: Pace, due: &mut Instant, now: Instant) {
        match pace {
            Pace::Window(size) => while self.under_way < size && self.begin_next(now, now) {},
            Pace::Rate(rate) => {
                while *due <= now {
                    self.tally.due += 1;
                    if !self.begin_next(*due, now) {
                        self.tally.crowded += 1;
                    }
                    *due += Duration::from_secs_f64(1.0 / rate);
                }
            }
        }
    }

    /// Lets the UE that was idle longest begin; `false` if none is idle.
    fn begin_next(&mut self, due: Instant, now: Instant) -> bool {
        let Some(number) = self.idle.pop_front() else { return false };
        let method = match self.errand {
            Errand::Options => Method::Options,
            Errand::Register => Method::Register,
            Errand::Message => Method::Message,
            Errand::Call => Method::Invite,
            Errand::Subscribe => Method::Subscribe,
        };
        let ue = &mut self.ues[number];
        if method == Method::Register {
            ue.login.forget_challenge();
        }
        ue.new_call();
        ue.busy = Some(Busy {
            method,
            branch: 0,
            due,
            counts: self.counting,
            sent_again: false,
            provisional: false,
            challenges: 0,
            subscribed: false,
            notified: 0,
        });
        self.under_way += 1;
        self.request(number, method, now);
        true
    }

    fn request(&mut self, number: usize, method: Method, now: Instant) {
        self.branches += 1;
        let ue = &mut self.ues[number];
        let Some(busy) = &mut ue.busy else { return };
        (busy.method, busy.branch, busy.provisional) = (method, self.branches, false);
        ue.write(method, self.branches);
        self.timers[0].push_back(Timer {
            at: now + RETRANSMIT[0],
            ue: number,
            branch: self.branches,
        });
        self.send_request(number);
    }

    fn send_request(&mut self, number: usize) {
        let request = std::mem::take(&mut self.ues[number].request);
        self.send(number, &request);
        self.ues[number].request = request;
    }

    fn send(&mut self, number: usize, octets: &[u8]) {
        if self.transport == Transport::Udp {
            let from = self.ues[number].address;
            self.port.next(self.anchor, Some(from)).extend_from_slice(octets);
            return;
        }
        let Some(conn) = &mut self.conns[number] else { return };
        if !conn.send(octets, &self.epoll) {
            self.lose(number);
        }
    }

    fn end(&mut self, number: usize, good: bool, now: Instant) {
        let Some(busy) = self.ues[number].busy.take() else { return };
        self.under_way -= 1;
        self.idle.push_back(number);
        if good && self.counting {
            self.tally.good += 1;
            self.tally.at_once += u64::from(!busy.sent_again);
        }
        if good && busy.counts {
            self.tally.latencies.add(now.saturating_duration_since(busy.due));
        }
        self.tally.failed += u64::from(!good);
    }

    /// Sends what is queued, waits for something to happen, and does what it calls for.
    fn step(&mut self, wait: Duration) {
        self.open_flows();
        self.port.flush();
        self.backend.port.flush();
        let events = self.epoll.wait(wait);
        for index in 0..events {
            match self.epoll.event(index) {
                (PORT, _) => self.read_port(),
                (BACKEND, _) => self.backend.serve(&mut self.inbox),
                (tag, event) => self.read_conn((tag - FIRST_CONN) as usize, event),
            }
        }
        self.fire_timers(Instant::now());
    }

    fn read_port(&mut self) {
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::empty());
        loop {
            let received = inbox.fill(&self.port);
            let now = Instant::now();
            for index in 0..received {
                let (message, from, at) = inbox.get(index);
                match wire::status(message) {
                    Some(status) => self.response(message, status, now),
                    None => {
                        let answer = self.answer(message, now);
                        self.port.next(from, Some(at)).extend_from_slice(&answer);
                    }
                }
            }
            self.port.flush();
            if received < BATCH {
                break;
            }
        }
        self.inbox = inbox;
    }

    fn response(&mut self, message: &[u8], status: u16, now: Instant) {
        let found = wire::marked(message, b"z9hG4bK-u").filter(|(number, branch)| {
            let busy = self.ues.get(*number).and_then(|ue| ue.busy);
            busy.is_some_and(|busy| busy.branch == *branch)
        });
        let Some((number, branch)) = found else {
            self.tally.stray += 1;
            return;
        };
        let ue = &mut self.ues[number];
        let Some(busy) = &mut ue.busy else { return };
        let method = busy.method;
        if status < 200 {
            busy.provisional = true;
            return;
        }
        if status < 300 {
            ue.login.take_next_nonce(message);
            self.success(number, method, message, now);
            return;
        }
        if method == Method::Invite {
            let ack = ue.ack_refusal(branch, message);
            self.send(number, &ack);
        }
        let ue = &mut self.ues[number];
        let Some(busy) = &mut ue.busy else { return };
        if matches!(status, 401 | 407) && busy.challenges < 3 {
            busy.challenges += 1;
            self.tally.challenged += 1;
            if ue.login.take_challenge(message) {
                self.request(number, method, now);
                return;
            }
        }
        self.tally.refusal = Some(status);
        self.end(number, false, now);
    }

    fn success(&mut self, number: usize, method: Method, message: &[u8], now: Instant) {
        let ue = &mut self.ues[number];
        match (method, &mut ue.busy) {
            (Method::Invite, _) => {
                ue.open_dialog(message);
                self.branches += 1;
                let ack = ue.ack(self.branches);
                self.send(number, &ack);
                self.request(number, Method::Bye, now);
            }
            (Method::Subscribe, Some(busy)) => {
                if !std::mem::replace(&mut busy.subscribed, true) {
                    // It answers no more, and nothing is sent again while NOTIFYs arrive.
                    busy.provisional = true;
                    self.backend.notify(number);
                }
            }
            _ => self.end(number, true, now),
        }
    }

    /// The answer to a request that came to a UE.
    fn answer(&mut self, message: &[u8], now: Instant) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        let mut call = None;
        for (name, value) in wire::rows(message) {
            let is = |long, short: Option<u8>| wire::is(name, long, short);
            let names_call = is("Call-ID", Some(b'i'));
            if names_call {
                call = wire::marked(value, b"u");
            }
            let kept = is("Via", Some(b'v')) || is("From", Some(b'f')) || is("To", Some(b't'));
            if names_call || kept || is("CSeq", None) {
                wire::join(&mut out, &[name, b": ", value, b"\r\n"]);
            }
        }
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        let known = call.filter(|(number, call)| {
            let is_call = |ue: &Ue| ue.is_call(*call);
            message.starts_with(b"NOTIFY ") && self.ues.get(*number).is_some_and(is_call)
        });
        let Some((number, _)) = known else {
            self.tally.stray += 1;
            return out;
        };
        if let Some(busy) = &mut self.ues[number].busy {
            busy.notified += 1;
            if busy.notified == NOTIFIES && busy.subscribed {
                self.end(number, true, now);
            }
        }
        out
    }

    fn fire_timers(&mut self, now: Instant) {
        for level in 0..RETRANSMIT.len() {
            while let Some(timer) = self.timers[level].pop_front_if(|timer| timer.at <= now) {
                let Some(busy) = &mut self.ues[timer.ue].busy else { continue };
                if busy.branch != timer.branch {
                    continue;
                }
                let Some(next) = RETRANSMIT.get(level + 1) else {
                    self.end(timer.ue, false, now);
                    continue;
                };
                self.timers[level + 1].push_back(Timer { at: now + *next, ..timer });
                if self.transport.loses() && !busy.provisional {
                    busy.sent_again = true;
                    self.tally.sent_again += 1;
                    self.send_request(timer.ue);
                }
            }
        }
    }

    fn open_flows(&mut self) {
        while self.opening < OPENING_MAX {
            let Some(number) = self.closed.pop_front() else { return };
            let from = self.ues[number].address;
            let tag = FIRST_CONN + number as u64;
            match self.connect(from, number, tag) {
                Ok(conn) => {
                    self.conns[number] = Some(conn);
                    self.opening += 1;
                }
                Err(_) => {
                    self.closed.push_back(number);
                    return;
                }
            }
        }
    }

    fn connect(&self, from: Ipv4Addr, number: usize, tag: u64) -> io::Result<Box<dyn Line>> {
        let (to, epoll) = (self.anchor, &self.epoll);
        match &self.keyed {
            Some(context) => {
                let ends = (from, to);
                let conn = Keyed::connect(ends, self.transport, context, number, epoll, tag)?;
                Ok(Box::new(conn))
            }
            None => Ok(Box::new(Conn::connect(from, to, self.tls.as_ref(), epoll, tag)?)),
        }
    }

    fn read_conn(&mut self, number: usize, event: u32) {
        let Some(conn) = &mut self.conns[number] else { return };
        let before = conn.stage();
        let alive = conn.handle(event, &self.epoll);
        if before != Stage::Open && conn.stage() == Stage::Open {
            self.opening -= 1;
            if let Some(local) = conn.local() {
                self.ues[number].is_at(local, self.transport.via());
            }
        }
        let mut message = std::mem::take(&mut self.message);
        while self.conns[number].as_mut().is_some_and(|conn| conn.take_message(&mut message)) {
            let now = Instant::now();
            match wire::status(&message) {
                Some(status) => self.response(&message, status, now),
                None => {
                    let answer = self.answer(&message, now);
                    self.send(number, &answer);
                }
            }
        }
        self.message = message;
        if !alive {
            self.lose(number);
        }
    }

    fn lose(&mut self, number: usize) {
        let Some(conn) = self.conns[number].take() else { return };
        if conn.stage() != Stage::Open {
            self.opening -= 1;
        }
        self.tally.flows_lost += 1;
        self.closed.push_back(number);
    }
}

impl Seen {
    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            with_credentials: self.with_credentials - before.with_credentials,
            without_identity: self.without_identity - before.without_identity,
            malformed: self.malformed - before.malformed,
            notify_refused: self.notify_refused - before.notify_refused,
        }
    }
}

//! Sessions and clients with a link between them that loses, doubles and reorders; time is virtual, chance is seeded.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use sipward::instant::Instant;
use sipward::transport::doors::Doors;
use sipward::transport::dtls::cookie::Cookies;
use sipward::transport::dtls::engine::{DtlsEngine, Event, Proof};
use sipward::transport::dtls::server::{DtlsServer, DtlsSpec};
use sipward::transport::dtls::sessions::{Output, SessionId, Sessions, Why};
use sipward::transport::dtls::webrtc::{self, ClientProof};

/// The key that everybody here has who is called `alice`.
pub(crate) const KEY: [u8; 32] = [0x5a; 32];
/// What a client of ours does in one tick.
const TICK: Duration = Duration::from_millis(10);

/// What a client has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Established,
    Data(Vec<u8>),
    Closed,
}

/// One end of a session, whichever library it is.
pub(crate) trait Client {
    fn input(&mut self, datagram: &[u8]);
    fn turn(&mut self);
    fn output(&mut self) -> Option<Vec<u8>>;
    fn told(&mut self) -> Option<Told>;
    /// Sends a message; `false` once it is over.
    fn send(&mut self, message: &[u8]) -> bool;
}

/// The UE's own.
pub(crate) struct WebrtcClient(Box<dyn DtlsEngine>);

impl WebrtcClient {
    pub(crate) fn new(proof: ClientProof) -> Self {
        Self(webrtc::client(proof, Waker::noop().clone()).unwrap())
    }

    pub(crate) fn psk(identity: &str, key: [u8; 32]) -> Self {
        Self::new(ClientProof::Psk {
            identity: identity.into(),
            key: key.to_vec().into(),
            name: "edge.example.net".into(),
        })
    }
}

impl Client for WebrtcClient {
    fn input(&mut self, datagram: &[u8]) {
        self.0.input(datagram, Instant::START);
    }

    fn turn(&mut self) {
        self.0.turn(Instant::START);
    }

    fn output(&mut self) -> Option<Vec<u8>> {
        self.0.poll_transmit().map(Into::into)
    }

    fn told(&mut self) -> Option<Told> {
        Some(match self.0.poll_event()? {
            Event::Established(_) => Told::Established,
            Event::Data(octets) => Told::Data(octets.to_vec()),
            Event::Closed(_) => Told::Closed,
            Event::WantsKey { .. } => unreachable!("a client is not asked"),
        })
    }

    fn send(&mut self, message: &[u8]) -> bool {
        self.0.send(message, Instant::START).is_ok()
    }
}

/// What the link does to a datagram, in per cent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Takes up to 300 ms longer than others.
    pub(crate) late: u64,
}

/// What the server saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Opened(SessionId, SocketAddr, Proof),
    Data(SessionId, Vec<u8>),
    Closed(SessionId, Why),
    Idle(SessionId, Duration),
    Over(SessionId),
}

/// Everything.
pub(crate) struct World {
    pub(crate) sessions: Sessions,
    pub(crate) doors: Arc<Doors>,
    pub(crate) clients: HashMap<SocketAddr, Box<dyn Client>>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) told: Vec<(SocketAddr, Told)>,
    /// What the server sent, in octets and datagrams, whoever it was for.
    pub(crate) sent: Vec<(SocketAddr, Vec<u8>)>,
    /// What clients sent.
    pub(crate) heard: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) weather: Weather,
    /// Whether keys are given at once.
    pub(crate) gives_keys: bool,
    pub(crate) asked: Vec<(SessionId, Vec<u8>, u16)>,
    flying: BTreeMap<(Instant, u64), Flying>,
    chance: u64,
    number: u64,
    rung: Arc<Rung>,
    started: tokio::time::Instant,
}

enum Flying {
    ToServer(SocketAddr, Vec<u8>),
    ToClient(SocketAddr, Vec<u8>),
}

#[derive(Default)]
struct Rung(Mutex<Vec<SessionId>>);

struct Bell(SessionId, Arc<Rung>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.0.lock().unwrap().push(self.0);
    }
}

impl World {
    pub(crate) fn new(spec: &DtlsSpec, seed: u64) -> Self {
        let server = DtlsServer::new(spec).unwrap();
        let doors = Doors::new(8, 1000);
        let rung = Arc::new(Rung::default());
        let ringing = Arc::clone(&rung);
        let waker = move |id| Waker::from(Arc::new(Bell(id, Arc::clone(&ringing))));
        let cookies = Arc::new(Cookies::new([9; 32]));
        Self {
            sessions: Sessions::new(server.engines(), cookies, Arc::clone(&doors), waker),
            doors,
            clients: HashMap::new(),
            seen: Vec::new(),
            told: Vec::new(),
            sent: Vec::new(),
            heard: Vec::new(),
            weather: Weather::default(),
            gives_keys: true,
            asked: Vec::new(),
            flying: BTreeMap::new(),
            chance: seed.wrapping_mul(2).wrapping_add(1),
            number: 0,
            rung,
            started: tokio::time::Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::START + self.started.elapsed()
    }

    /// Adds a client at an address; it begins at once.
    pub(crate) fn add(&mut self, from: &str, client: impl Client + 'static) -> SocketAddr {
        let from = from.parse().unwrap();
        self.clients.insert(from, Box::new(client));
        from
    }

    /// Puts a datagram of anybody's before the server, now.
    pub(crate) fn inject(&mut self, from: SocketAddr, datagram: &[u8]) {
        let now = self.now();
        self.sessions.datagram(from, datagram, now);
        self.take_outputs();
    }

    /// Has the server forget what an address has.
    pub(crate) fn abandon(&mut self, from: SocketAddr) {
        self.sessions.abandon(from);
        self.take_outputs();
    }

    /// Runs until `done`, or for so long; whether it was done.
    pub(crate) async fn run(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> bool {
        let end = self.started.elapsed() + limit;
        loop {
            self.move_all().await;
            if done(self) {
                return true;
            }
            if self.started.elapsed() >= end {
                return false;
            }
            tokio::time::advance(TICK).await;
        }
    }

    /// Lets everything happen that can happen without time.
    async fn move_all(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = (self.number, self.told.len(), self.seen.len(), self.flying.len());
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let now = self.now();
            self.sessions.expire(now);
            let rung = std::mem::take(&mut *self.rung.0.lock().unwrap());
            self.sessions.woken(rung, now);
            self.take_outputs();
            let addresses: Vec<SocketAddr> = self.clients.keys().copied().collect();
            for from in addresses {
                self.take_client(from);
            }
            let later = self.flying.split_off(&(now, u64::MAX));
            for (_, flying) in std::mem::replace(&mut self.flying, later) {
                match flying {
                    Flying::ToServer(from, datagram) => {
                        self.sessions.datagram(from, &datagram, now);
                        self.take_outputs();
                    }
                    Flying::ToClient(to, datagram) => {
                        if let Some(client) = self.clients.get_mut(&to) {
                            client.input(&datagram);
                            self.take_client(to);
                        }
                    }
                }
            }
            let after = (self.number, self.told.len(), self.seen.len(), self.flying.len());
            quiet = if before == after { quiet + 1 } else { 0 };
        }
    }

    fn take_client(&mut self, from: SocketAddr) {
        let Some(client) = self.clients.get_mut(&from) else { return };
        client.turn();
        let (mut sent, mut told) = (Vec::new(), Vec::new());
        sent.extend(std::iter::from_fn(|| client.output()));
        told.extend(std::iter::from_fn(|| client.told()).map(|told| (from, told)));
        self.told.extend(told);
        for datagram in sent {
            self.heard.push((from, datagram.clone()));
            self.fly(|datagram| Flying::ToServer(from, datagram), datagram);
        }
    }

    fn take_outputs(&mut self) {
        let now = self.now();
        while let Some(output) = self.sessions.poll_output() {
            match output {
                Output::Send { to, octets } => {
                    self.sent.push((to, octets.to_vec()));
                    self.fly(|datagram| Flying::ToClient(to, datagram), octets.to_vec());
                }
                Output::Ask { id, identity, suite, .. } => {
                    self.asked.push((id, identity.to_vec(), suite));
                    // Who is not alice gets a key that nobody has.
                    let key = if identity == "alice" { KEY } else { [0xee; 32] };
                    if self.gives_keys {
                        self.sessions.key(id, &key, now);
                    }
                }
                Output::Opened { id, from, proof, .. } => {
                    self.seen.push(Seen::Opened(id, from, proof));
                }
                Output::Data { id, octets } => self.seen.push(Seen::Data(id, octets.to_vec())),
                Output::Closed(id, why) => self.seen.push(Seen::Closed(id, why)),
                Output::Idle { id, since } => self.seen.push(Seen::Idle(id, since)),
                Output::Over(id) => self.seen.push(Seen::Over(id)),
            }
        }
    }

    fn fly(&mut self, flying: impl Fn(Vec<u8>) -> Flying, datagram: Vec<u8>) {
        let Weather { lost, doubled, late } = self.weather;
        if self.draw(100) < lost {
            return;
        }
        let copies = if self.draw(100) < doubled { 2 } else { 1 };
        for _ in 0..copies {
            let more = if self.draw(100) < late { self.draw(300) } else { 0 };
            let at = self.now() + Duration::from_millis(10 + more);
            self.number += 1;
            self.flying.insert((at, self.number), flying(datagram.clone()));
        }
    }

    /// A number below `end` (xorshift).
    fn draw(&mut self, end: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) % end
    }

    pub(crate) fn opened(&self) -> usize {
        self.seen.iter().filter(|seen| matches!(seen, Seen::Opened(..))).count()
    }

    /// The session of an address that stands.
    pub(crate) fn session_of(&self, address: SocketAddr) -> Option<SessionId> {
        self.seen.iter().rev().find_map(|seen| match seen {
            Seen::Opened(id, from, _) if *from == address => Some(*id),
            _ => None,
        })
    }

    /// A message each way arrives.
    pub(crate) async fn is_alive(&mut self, address: SocketAddr, word: &str) -> bool {
        let established = (address, Told::Established);
        self.run(Duration::from_secs(5), |world| world.told.contains(&established)).await;
        let Some(id) = self.session_of(address) else { return false };
        let (to, back) = (format!("to {word}").into_bytes(), format!("back {word}").into_bytes());
        let Some(client) = self.clients.get_mut(&address) else { return false };
        if !client.send(&to) {
            return false;
        }
        let now = self.now();
        if self.sessions.send(id, &back, now).is_err() {
            return false;
        }
        self.take_outputs();
        self.run(Duration::from_secs(2), |world| {
            world.seen.contains(&Seen::Data(id, to.clone()))
                && world.told.contains(&(address, Told::Data(back.clone())))
        })
        .await
    }
}

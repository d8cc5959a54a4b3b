//! What the transaction tests stand on: one machine on a bench, or two at the ends of a bad link, in virtual time.

#![allow(unreachable_pub, reason = "read by the other files of this crate")]

use std::collections::BTreeMap;

use bytes::Bytes;
use sipward::forward::timers::Timings;
use sipward::forward::transaction::{
    Client, ClientInput, ClientInvite, ClientOutput, Server, ServerInput, ServerInvite,
    ServerOutput,
};
use sipward::instant::Instant;
use sipward::transport::Transport;
use sipward::wire::Message;

/// The request that is sent in these tests.
pub fn request(method: &str) -> Bytes {
    Bytes::from(format!(
        "{method} sip:bob@biloxi.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP edge.example:5060;branch=z9hG4bK1\r\n\
         Max-Forwards: 69\r\n\
         From: <sip:alice@atlanta.example>;tag=a\r\n\
         To: <sip:bob@biloxi.example>\r\n\
         Call-ID: c@atlanta.example\r\n\
         CSeq: 7 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

/// A response to it.
pub fn response(status: u16, method: &str) -> Message {
    let octets = format!(
        "SIP/2.0 {status} Whatever\r\n\
         Via: SIP/2.0/UDP edge.example:5060;branch=z9hG4bK1\r\n\
         From: <sip:alice@atlanta.example>;tag=a\r\n\
         To: <sip:bob@biloxi.example>;tag=b\r\n\
         Call-ID: c@atlanta.example\r\n\
         CSeq: 7 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Message::from_datagram(octets.into()).expect("well formed")
}

/// The first word of a request, the status of a response.
pub fn title(octets: &[u8]) -> String {
    let words = String::from_utf8_lossy(octets);
    let mut words = words.split(' ');
    let first = words.next().unwrap_or_default();
    if first == "SIP/2.0" { words.next().unwrap_or_default().into() } else { first.into() }
}

pub fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn millis(time: Instant) -> u64 {
    time.as_micros() / 1000
}

/// Either client machine.
pub trait ClientMachine {
    fn start(request: Bytes, transport: Transport, timings: Timings, now: Instant) -> Self;
    fn take(&mut self, input: ClientInput<'_>, now: Instant);
    fn output(&mut self) -> Option<ClientOutput>;
    fn timeout(&self) -> Option<Instant>;
}

/// Either server machine.
pub trait ServerMachine {
    fn start(transport: Transport, timings: Timings, now: Instant) -> Self;
    fn take(&mut self, input: ServerInput, now: Instant);
    fn output(&mut self) -> Option<ServerOutput>;
    fn timeout(&self) -> Option<Instant>;
}

macro_rules! machines {
    ($($client:ident)* ; $($server:ident)*) => {
        $(impl ClientMachine for $client {
            fn start(octets: Bytes, transport: Transport, timings: Timings, now: Instant) -> Self {
                Self::new(octets, transport, timings, now)
            }
            fn take(&mut self, input: ClientInput<'_>, now: Instant) {
                self.handle(input, now);
            }
            fn output(&mut self) -> Option<ClientOutput> {
                self.poll_output()
            }
            fn timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
        })*
        $(impl ServerMachine for $server {
            fn start(transport: Transport, timings: Timings, now: Instant) -> Self {
                Self::new(transport, timings, now)
            }
            fn take(&mut self, input: ServerInput, now: Instant) {
                self.handle(input, now);
            }
            fn output(&mut self) -> Option<ServerOutput> {
                self.poll_output()
            }
            fn timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
        })*
    };
}

machines!(Client ClientInvite; Server ServerInvite);

/// What a machine did, and when (milliseconds).
pub type Log = Vec<(u64, String)>;

/// A log as a test writes it down.
pub fn log(entries: &[(u64, &str)]) -> Log {
    entries.iter().map(|(when, what)| (*when, (*what).to_owned())).collect()
}

/// One client machine, whose timer is served.
pub struct ClientBench<M> {
    pub machine: M,
    pub now: u64,
    pub log: Log,
    method: &'static str,
}

impl<M: ClientMachine> ClientBench<M> {
    pub fn new(method: &'static str, transport: Transport) -> Self {
        Self::with(method, transport, Timings::default())
    }

    pub fn with(method: &'static str, transport: Transport, timings: Timings) -> Self {
        let machine = M::start(request(method), transport, timings, at(0));
        let mut bench = Self { machine, now: 0, log: Log::new(), method };
        bench.drain();
        bench
    }

    /// Lets time pass up to `millis`, that instant included.
    pub fn until(&mut self, millis_then: u64) -> &mut Self {
        while let Some(due) = self.machine.timeout().filter(|due| *due <= at(millis_then)) {
            self.now = millis(due).max(self.now);
            self.take(ClientInput::Timeout);
        }
        self.now = millis_then;
        self
    }

    pub fn respond(&mut self, status: u16) -> &mut Self {
        let response = response(status, self.method);
        self.take(ClientInput::Response(&response));
        self
    }

    pub fn fail(&mut self) -> &mut Self {
        self.take(ClientInput::TransportFailed);
        self
    }

    pub fn cancel(&mut self) -> &mut Self {
        self.take(ClientInput::Cancel);
        self
    }

    fn take(&mut self, input: ClientInput<'_>) {
        self.machine.take(input, at(self.now));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.output() {
            let what = match output {
                ClientOutput::Send(octets) => format!("send {}", title(&octets)),
                ClientOutput::Cancel(octets) => format!("cancel with {}", title(&octets)),
                ClientOutput::Provisional(status) => format!("provisional {status}"),
                ClientOutput::Final(status) => format!("final {status}"),
                ClientOutput::Timeout => "timeout".into(),
                ClientOutput::TransportFailed => "failed".into(),
                ClientOutput::Terminated => "terminated".into(),
            };
            self.log.push((self.now, what));
        }
    }
}

/// One server machine, whose timer is served.
pub struct ServerBench<M> {
    pub machine: M,
    pub now: u64,
    pub log: Log,
}

impl<M: ServerMachine> ServerBench<M> {
    pub fn new(transport: Transport) -> Self {
        let machine = M::start(transport, Timings::default(), at(0));
        let mut bench = Self { machine, now: 0, log: Log::new() };
        bench.drain();
        bench
    }

    /// Lets time pass up to `millis`, that instant included.
    pub fn until(&mut self, millis_then: u64) -> &mut Self {
        while let Some(due) = self.machine.timeout().filter(|due| *due <= at(millis_then)) {
            self.now = millis(due).max(self.now);
            self.take(ServerInput::Timeout);
        }
        self.now = millis_then;
        self
    }

    pub fn respond(&mut self, status: u16) -> &mut Self {
        let octets = response(status, "ANY").octets().clone();
        self.take(ServerInput::Respond { status, octets });
        self
    }

    pub fn again(&mut self) -> &mut Self {
        self.take(ServerInput::Retransmission);
        self
    }

    pub fn ack(&mut self) -> &mut Self {
        self.take(ServerInput::Ack);
        self
    }

    pub fn fail(&mut self) -> &mut Self {
        self.take(ServerInput::TransportFailed);
        self
    }

    fn take(&mut self, input: ServerInput) {
        self.machine.take(input, at(self.now));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.output() {
            let what = match output {
                ServerOutput::Send(octets) => format!("send {}", title(&octets)),
                ServerOutput::TryingDue => "100 due".into(),
                ServerOutput::Ack => "ack".into(),
                ServerOutput::Timeout => "timeout".into(),
                ServerOutput::TransportFailed => "failed".into(),
                ServerOutput::Terminated => "terminated".into(),
            };
            self.log.push((self.now, what));
        }
    }
}

/// A network that loses, delays, reorders and doubles, the same way for the same seed.
pub struct Link {
    seed: u64,
    /// Of a hundred messages, how many are lost.
    loss: u64,
    /// Of a hundred messages, how many come twice.
    doubled: u64,
    /// Longest delay, milliseconds.
    delay: u64,
}

impl Link {
    pub fn new(seed: u64, loss: u64) -> Self {
        Self { seed, loss, doubled: 20, delay: 400 }
    }

    /// A link that passes everything on after a millisecond.
    pub fn good() -> Self {
        Self { seed: 0, loss: 0, doubled: 0, delay: 1 }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    /// The delays after which a message sent now arrives; none if it is lost.
    fn arrivals(&mut self) -> Vec<u64> {
        let copies = if self.draw(100) < self.doubled { 2 } else { 1 };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if self.draw(100) >= self.loss {
                arrivals.push(self.draw(self.delay) + 1);
            }
        }
        arrivals
    }
}

/// How a whole transaction over a [`Link`] went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Responses the client's user got.
    pub client_heard: Vec<u16>,
    /// How often the server's user got the request.
    pub requests_heard: u32,
    /// How often the server's user got an ACK.
    pub acks_heard: u32,
    pub client_timeouts: u32,
    pub server_timeouts: u32,
    /// Messages put on the link by either end.
    pub sent: u32,
    /// When both machines were over, milliseconds.
    pub over_at: u64,
}

enum Event {
    AtClient(Bytes),
    AtServer(Bytes),
    /// The server's user answers.
    Answer(u16),
}

/// Runs one transaction from its first octet until both machines are over. The server's user answers as `answers`
/// says, milliseconds after the request reached him; a client's user acknowledges each 2xx.
pub fn over_the_link<C: ClientMachine, S: ServerMachine>(
    method: &'static str,
    transport: Transport,
    link: &mut Link,
    answers: &[(u64, u16)],
) -> Outcome {
    let timings = Timings::default();
    let mut outcome = Outcome::default();
    let mut events: BTreeMap<(u64, u64), Event> = BTreeMap::new();
    let mut serial = 0;
    let mut post = |events: &mut BTreeMap<_, _>, when: u64, event: Event| {
        serial += 1;
        events.insert((when, serial), event);
    };
    let mut client = Some(C::start(request(method), transport, timings, at(0)));
    let mut server: Option<S> = None;
    let mut server_gone = false;
    let mut now = 0;
    for _ in 0..100_000 {
        // Drain both ends.
        while let Some(output) = client.as_mut().and_then(C::output) {
            match output {
                ClientOutput::Send(octets) => {
                    outcome.sent += 1;
                    for delay in link.arrivals() {
                        post(&mut events, now + delay, Event::AtServer(octets.clone()));
                    }
                }
                ClientOutput::Provisional(status) => outcome.client_heard.push(status),
                ClientOutput::Final(status) => {
                    outcome.client_heard.push(status);
                    if method == "INVITE" && status < 300 {
                        for delay in link.arrivals() {
                            post(&mut events, now + delay, Event::AtServer(request("ACK")));
                        }
                    }
                }
                ClientOutput::Timeout => outcome.client_timeouts += 1,
                ClientOutput::Cancel(_) | ClientOutput::TransportFailed => {
                    panic!("nothing fails or is cancelled here")
                }
                ClientOutput::Terminated => client = None,
            }
        }
        while let Some(output) = server.as_mut().and_then(S::output) {
            match output {
                ServerOutput::Send(octets) => {
                    outcome.sent += 1;
                    for delay in link.arrivals() {
                        post(&mut events, now + delay, Event::AtClient(octets.clone()));
                    }
                }
                ServerOutput::TryingDue => post(&mut events, now, Event::Answer(100)),
                ServerOutput::Ack => outcome.acks_heard += 1,
                ServerOutput::Timeout => outcome.server_timeouts += 1,
                ServerOutput::TransportFailed => panic!("nothing fails here"),
                ServerOutput::Terminated => (server, server_gone) = (None, true),
            }
        }
        // The next thing that happens.
        let event = events.keys().next().map(|key| key.0);
        let timer = [client.as_ref().and_then(C::timeout), server.as_ref().and_then(S::timeout)]
            .into_iter()
            .flatten()
            .min()
            .map(millis);
        let Some(next) = event.into_iter().chain(timer).min() else {
            assert!(client.is_none() && server.is_none(), "a machine waits for nothing");
            outcome.over_at = now;
            return outcome;
        };
        now = next.max(now);
        let arrived = if event == Some(next) { events.pop_first() } else { None };
        match arrived.map(|(_, event)| event) {
            None => {
                if let Some(client) = client.as_mut().filter(|it| it.timeout() <= Some(at(now))) {
                    client.take(ClientInput::Timeout, at(now));
                } else if let Some(server) = server.as_mut() {
                    server.take(ServerInput::Timeout, at(now));
                }
            }
            Some(Event::AtClient(octets)) => {
                let message = Message::from_datagram(octets).expect("well formed");
                if let Some(client) = client.as_mut() {
                    client.take(ClientInput::Response(&message), at(now));
                }
            }
            Some(Event::AtServer(octets)) => match (title(&octets).as_str(), server.as_mut()) {
                ("ACK", Some(server)) => server.take(ServerInput::Ack, at(now)),
                ("ACK", None) => {}
                (_, Some(server)) => server.take(ServerInput::Retransmission, at(now)),
                (_, None) if server_gone => {} // a straggler behind the whole transaction
                (_, None) => {
                    outcome.requests_heard += 1;
                    server = Some(S::start(transport, timings, at(now)));
                    for (after, status) in answers {
                        post(&mut events, now + after, Event::Answer(*status));
                    }
                }
            },
            Some(Event::Answer(status)) => {
                if let Some(server) = server.as_mut() {
                    let octets = response(status, method).octets().clone();
                    server.take(ServerInput::Respond { status, octets }, at(now));
                }
            }
        }
    }
    panic!("the transaction does not end");
}

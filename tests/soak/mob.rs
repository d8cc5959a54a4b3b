//! Whoever proves nothing: thousands of addresses of loopback, and what they send.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use sipward::transport::tls;
use sipward::wire::{Address, Message, Name};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::world::{EDGE, World};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Junk {
    /// A registration of somebody, without credentials.
    Register,
    Garbage,
    /// An INVITE of good form, without credentials.
    Invite,
    /// A BYE in a call that stands, with all its names right, from elsewhere.
    Bye,
    /// A connection and half a message.
    HalfTcp,
    /// A connection and half a hello.
    HalfTls,
    /// A hello, the same with the cookie that came for it, and then nothing.
    HalfDtls,
}

impl Junk {
    pub(crate) const ALL: &[Self] = &[
        Self::Register,
        Self::Garbage,
        Self::Invite,
        Self::Bye,
        Self::HalfTcp,
        Self::HalfTls,
        Self::HalfDtls,
    ];
}

/// Addresses, each in a network of its own.
const ADDRESSES: u32 = 4000;
/// What is left open at a time; then the oldest goes.
const HELD: usize = 800;
/// How long a cookie is waited for.
const COOKIE: Duration = Duration::from_secs(5);

/// A call that others know of.
#[derive(Clone, Debug)]
pub(crate) struct Overheard {
    target: String,
    call_id: String,
    from: String,
    to: String,
}

impl Overheard {
    /// Of the answer to an INVITE.
    pub(crate) fn of(answer: &Message) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let contact = answer.values(Name::Contact).next().and_then(Address::parse);
        Self {
            target: text(contact.expect("a 200 to INVITE has one").uri().octets()),
            call_id: text(answer.call_id()),
            from: text(answer.first(Name::From).unwrap_or_default()),
            to: text(answer.first(Name::To).unwrap_or_default()),
        }
    }
}

/// How much of each arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shots(BTreeMap<Junk, usize>);

impl Shots {
    pub(crate) fn sum(&self) -> usize {
        self.0.values().sum()
    }

    pub(crate) fn table(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(junk, count)| format!("{:<12}{count:>12}", format!("{junk:?}")))
            .collect()
    }
}

/// It sends until it is dispersed.
pub(crate) struct Mob {
    task: JoinHandle<()>,
    over: Arc<AtomicBool>,
    gun: Arc<Gun>,
}

/// What all of them share.
pub(crate) struct Gun {
    world: [SocketAddr; 2],
    hello: Vec<u8>,
    held: Mutex<VecDeque<Held>>,
    shots: Mutex<Shots>,
}

/// It is closed when it is dropped.
#[allow(dead_code, reason = "open is all that it is")]
enum Held {
    Stream(TcpStream),
    Socket(UdpSocket),
}

impl Mob {
    /// One of `kinds` after the other, one every `each`.
    pub(crate) fn gather(
        runtime: &Runtime,
        world: &Arc<World>,
        kinds: &'static [Junk],
        each: Duration,
    ) -> Self {
        let (over, gun) = (Arc::new(AtomicBool::new(false)), Arc::new(Gun::new(world)));
        let (end, own, world) = (Arc::clone(&over), Arc::clone(&gun), Arc::clone(world));
        let task = runtime.spawn(async move {
            let (mut pace, mut under_way) = (interval(each), Vec::new());
            // A mob that was late does not come all at once.
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !end.load(Ordering::Relaxed) {
                pace.tick().await;
                let number = world.numbers.fetch_add(1, Ordering::Relaxed);
                let overheard = world.overheard.lock().unwrap().clone();
                let kind = kinds[number as usize % kinds.len()];
                let gun = Arc::clone(&own);
                under_way.push(tokio::spawn(async move {
                    // Who is turned away below the messages has still come.
                    let _ = gun.shoot(kind, number, overheard).await;
                }));
                under_way.retain(|shot: &JoinHandle<()>| !shot.is_finished());
            }
            for shot in under_way {
                shot.await.expect("a shot ended well");
            }
        });
        Self { task, over, gun }
    }

    /// How much has arrived until now.
    pub(crate) fn count(&self) -> usize {
        self.gun.shots.lock().unwrap().sum()
    }

    /// Ends it, and lets go of what it held.
    pub(crate) fn disperse(self, runtime: &Runtime) -> Shots {
        self.over.store(true, Ordering::Relaxed);
        runtime.block_on(self.task).expect("the mob ended well");
        self.gun.held.lock().unwrap().clear();
        self.gun.shots.lock().unwrap().clone()
    }
}

fn source(number: u32) -> Ipv4Addr {
    let [.., high, low] = (number % ADDRESSES).to_be_bytes();
    Ipv4Addr::new(127, 16 + high, low, 7)
}

impl Gun {
    fn new(world: &World) -> Self {
        let trust = tls::client_config(world.authority.trust(), None).unwrap();
        let name = ServerName::try_from(EDGE).unwrap();
        let mut hello = Vec::new();
        ClientConnection::new(trust, name).unwrap().write_tls(&mut hello).unwrap();
        Self {
            world: [world.clear, world.secure],
            hello,
            held: Mutex::default(),
            shots: Mutex::default(),
        }
    }

    async fn shoot(&self, junk: Junk, number: u32, overheard: Option<Overheard>) -> io::Result<()> {
        let (from, [clear, secure]) = (source(number), self.world);
        match junk {
            Junk::Register => {
                let text = request("REGISTER", "sip:example.net", from, number);
                self.datagram(from, clear, text.as_bytes()).await?;
            }
            Junk::Garbage => {
                let octets: Vec<u8> = (0..200 + number % 300)
                    .map(|at| u8::try_from((at * 197 + number * 31) % 256).unwrap())
                    .collect();
                let to = if number.is_multiple_of(2) { clear } else { secure };
                self.datagram(from, to, &octets).await?;
            }
            Junk::Invite => {
                let text = request("INVITE", "sip:user00@example.net", from, number);
                self.datagram(from, clear, text.as_bytes()).await?;
            }
            Junk::Bye => {
                let Some(call) = overheard else { return Ok(()) };
                self.datagram(from, clear, call.bye(from, number).as_bytes()).await?;
            }
            Junk::HalfTcp => {
                let text = request("REGISTER", "sip:example.net", from, number);
                self.stream(from, clear, &text.as_bytes()[..text.len() / 2]).await?;
            }
            Junk::HalfTls => self.stream(from, secure, &self.hello[..self.hello.len() / 2]).await?,
            Junk::HalfDtls => self.half_open(from, secure, number).await?,
        }
        *self.shots.lock().unwrap().0.entry(junk).or_default() += 1;
        Ok(())
    }

    async fn datagram(&self, from: Ipv4Addr, to: SocketAddr, octets: &[u8]) -> io::Result<()> {
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.send_to(octets, to).await.map(|_| ())
    }

    async fn stream(&self, from: Ipv4Addr, to: SocketAddr, octets: &[u8]) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(octets).await?;
        self.hold(Held::Stream(stream));
        Ok(())
    }

    async fn half_open(&self, from: Ipv4Addr, to: SocketAddr, number: u32) -> io::Result<()> {
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.connect(to).await?;
        socket.send(&dtls_hello(number, &[], 0)).await?;
        let mut answer = [0; 512];
        let length = timeout(COOKIE, socket.recv(&mut answer)).await??;
        let cookie = cookie(&answer[..length]).ok_or(io::ErrorKind::InvalidData)?;
        socket.send(&dtls_hello(number, cookie, 1)).await?;
        self.hold(Held::Socket(socket));
        Ok(())
    }

    fn hold(&self, one: Held) {
        let mut held = self.held.lock().unwrap();
        held.push_back(one);
        if held.len() > HELD {
            held.pop_front();
        }
    }
}

/// A request of good form that proves nothing.
fn request(method: &str, uri: &str, from: Ipv4Addr, number: u32) -> String {
    let body =
        if method == "INVITE" { "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" } else { "" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from}:5060;branch=z9hG4bKm{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:user00@example.net>;tag=m{number}\r\nTo: <sip:user00@example.net>\r\n\
         Call-ID: m{number}@{from}\r\nCSeq: 1 {method}\r\nContact: <sip:user00@{from}:5060>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Overheard {
    fn bye(&self, from: Ipv4Addr, number: u32) -> String {
        let Self { target, call_id, from: caller, to } = self;
        format!(
            "BYE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {from}:5060;branch=z9hG4bKb{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: {caller}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {} BYE\r\n\
             Content-Length: 0\r\n\r\n",
            number + 10
        )
    }
}

/// A hello of DTLS 1.2 that offers shared keys.
fn dtls_hello(number: u32, cookie: &[u8], sequence: u8) -> Vec<u8> {
    let random: Vec<u8> = number.to_be_bytes().repeat(8);
    let cookie_length = u8::try_from(cookie.len()).unwrap();
    let suites = [0, 2, 0, 0xa8, 1, 0];
    let body = [&[254, 253][..], &random, &[0, cookie_length], cookie, &suites].concat();
    let [_, high, mid, low] = u32::try_from(body.len()).unwrap().to_be_bytes();
    let fragment = [&[1, high, mid, low, 0, sequence, 0, 0, 0, high, mid, low][..], &body].concat();
    let length = u16::try_from(fragment.len()).unwrap().to_be_bytes();
    [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, sequence][..], &length, &fragment].concat()
}

/// The cookie in a HelloVerifyRequest.
fn cookie(answer: &[u8]) -> Option<&[u8]> {
    const AT: usize = 13 + 12 + 2;
    let length = usize::from(*answer.get(AT)?);
    (answer[13] == 3).then(|| answer.get(AT + 1..AT + 1 + length)).flatten()
}

//! The floor: a relay that moves octets and nothing else, so that what remains is what the kernel asks for.
//!
//! Over UDP two sockets and recvmmsg/sendmmsg; over TCP and TLS an epoll loop with rustls on the UEs' side; with shared
//! keys OpenSSL in the place of rustls, over DTLS behind one socket as over UDP. OPTIONS and, but for shared keys, a REGISTER without credentials come back with another first line, so as many datagrams travel as with a real
//! proxy. It reads nothing else, keeps nothing, and cannot tell good from bad.
//!
//! The bench starts itself once more to be the floor, as a process of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use memchr::{memchr, memmem};
use openssl::ssl::SslContext;
use rustls::ServerConfig;

use super::keyed::{self, Keyed};
use super::lab::{Anchor, Certificate, Folder, ONE, Plan, Transport};
use super::net::{BATCH, Epoll, Inbox, Port, READABLE};
use super::stream::{self, Conn, Line};
use super::wire;

/// The first argument of a process that is to be the floor.
pub(crate) const ROLE: &str = "be-the-floor";

const CHALLENGE: &[u8] =
    b"SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"ims.example\", \
nonce=\"abcdefghijklmnopqrstuvwxyz0123456789\", qop=\"auth\", algorithm=MD5\r\n";

/// Starts the floor of `plan`.
pub(crate) fn start(
    plan: &Plan,
    certificate: &Certificate,
    folder: &Folder,
) -> Result<Anchor, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = folder.inner("floor").map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(ROLE).arg(plan.transport.as_str());
    command.arg(plan.door().to_string()).arg(plan.backend.to_string());
    command.arg(&certificate.chain).arg(&certificate.key);
    Anchor::start("floor", command, plan, &folder, ONE, Duration::from_secs(10))
}

/// Is the floor, until it is ended.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [transport, door, backend, chain, key] = arguments else {
        return Err("transport, door, backend, certificate and key are what it takes".into());
    };
    let address =
        |text: &str| text.parse::<SocketAddrV4>().map_err(|error| format!("{text}: {error}"));
    let (door, backend) = (address(door)?, address(backend)?);
    let certificate = Certificate { chain: PathBuf::from(chain), key: PathBuf::from(key) };
    match transport.as_str() {
        "UDP" => datagrams(door, backend).map_err(|error| error.to_string()),
        "TCP" => streams(door, backend, &Cover::None).map_err(|error| error.to_string()),
        "PSK-TLS" => {
            let context = keyed::server(Transport::PskTls).map_err(|error| error.to_string())?;
            streams(door, backend, &Cover::Key(context)).map_err(|error| error.to_string())
        }
        "DTLS" => {
            let context = keyed::server(Transport::Dtls).map_err(|error| error.to_string())?;
            secure_datagrams(door, backend, &context).map_err(|error| error.to_string())
        }
        _ => {
            let tls = stream::server(&certificate)?;
            streams(door, backend, &Cover::Certificate(tls)).map_err(|error| error.to_string())
        }
    }
}

/// What lies over a connection.
enum Cover {
    None,
    Certificate(Arc<ServerConfig>),
    Key(SslContext),
}

/// The first line that a request comes back with; `None` for one that travels on.
///
/// Who has shown a key is not challenged.
fn reflects(message: &[u8], shared: bool) -> Option<&'static [u8]> {
    if message.starts_with(b"OPTIONS ") {
        return Some(b"SIP/2.0 200 OK\r\n");
    }
    let asks = !shared
        && message.starts_with(b"REGISTER ")
        && memmem::find(message, b"\nAuthorization:").is_none();
    asks.then_some(CHALLENGE)
}

fn without_line(message: &[u8]) -> &[u8] {
    memchr(b'\n', message).map_or(message, |end| &message[end + 1..])
}

fn datagrams(door: SocketAddrV4, backend: SocketAddrV4) -> io::Result<()> {
    let mut front = Port::bind(door)?;
    let mut back = Port::bind(SocketAddrV4::new(*door.ip(), 0))?;
    let (mut epoll, mut inbox) = (Epoll::new()?, Inbox::new());
    epoll.add(&front, READABLE, 0);
    epoll.add(&back, READABLE, 1);
    // All UEs share a socket, so any of them is the right one.
    let mut ue = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
    loop {
        let events = epoll.wait(Duration::from_secs(1));
        for index in 0..events {
            let from_ue = epoll.event(index).0 == 0;
            let received = inbox.fill(if from_ue { &front } else { &back });
            for index in 0..received {
                let (message, from, _) = inbox.get(index);
                match (from_ue, reflects(message, false)) {
                    (true, Some(line)) => {
                        let out = front.next(from, None);
                        wire::join(out, &[line, without_line(message)]);
                    }
                    (true, None) => {
                        ue = from;
                        back.next(backend, None).extend_from_slice(message);
                    }
                    (false, _) => front.next(ue, None).extend_from_slice(message),
                }
            }
            front.flush();
            back.flush();
        }
    }
}

fn secure_datagrams(
    door: SocketAddrV4,
    backend: SocketAddrV4,
    context: &SslContext,
) -> io::Result<()> {
    // It shows that it is up, whatever it speaks.
    let _listener = TcpListener::bind(SocketAddr::V4(door))?;
    let mut front = Port::bind(door)?;
    let mut back = Port::bind(SocketAddrV4::new(*door.ip(), 0))?;
    let (mut epoll, mut inbox, mut message) = (Epoll::new()?, Inbox::new(), Vec::new());
    epoll.add(&front, READABLE, 0);
    epoll.add(&back, READABLE, 1);
    let mut peers: HashMap<SocketAddrV4, Keyed> = HashMap::new();
    // The address of each UE, by the number in its Call-ID.
    let mut flows: Vec<SocketAddrV4> = Vec::new();
    loop {
        let events = epoll.wait(Duration::from_secs(1));
        for index in 0..events {
            let from_ue = epoll.event(index).0 == 0;
            let received = inbox.fill(if from_ue { &front } else { &back });
            for index in 0..received {
                let (datagram, from, _) = inbox.get(index);
                let to = if from_ue {
                    from
                } else {
                    let Some(to) = ue(datagram).and_then(|ue| flows.get(ue)) else { continue };
                    *to
                };
                let peer = match peers.entry(to) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) if from_ue => new.insert(Keyed::share(context)?),
                    Entry::Vacant(_) => continue,
                };
                let alive = if from_ue {
                    peer.came(datagram)
                } else {
                    peer.put(datagram);
                    true
                };
                while from_ue && peer.take_message(&mut message) {
                    if let Some(line) = reflects(&message, true) {
                        peer.put(&[line, without_line(&message)].concat());
                        continue;
                    }
                    if let Some(ue) = ue(&message) {
                        if flows.len() <= ue {
                            flows.resize(ue + 1, door);
                        }
                        flows[ue] = from;
                    }
                    back.next(backend, None).extend_from_slice(&message);
                }
                for datagram in peer.goes() {
                    front.next(to, None).extend_from_slice(&datagram);
                }
                if !alive {
                    peers.remove(&to);
                }
            }
            front.flush();
            back.flush();
        }
    }
}

const LISTENER: u64 = 0;
const BACK: u64 = 1;
const FIRST_CONN: u64 = 16;

fn streams(door: SocketAddrV4, backend: SocketAddrV4, cover: &Cover) -> io::Result<()> {
    let shared = matches!(cover, Cover::Key(_));
    let listener = TcpListener::bind(SocketAddr::V4(door))?;
    listener.set_nonblocking(true)?;
    let mut back = Port::bind(SocketAddrV4::new(*door.ip(), 0))?;
    let (mut epoll, mut inbox, mut message) = (Epoll::new()?, Inbox::new(), Vec::new());
    epoll.add(&listener, READABLE, LISTENER);
    epoll.add(&back, READABLE, BACK);
    let mut conns: Vec<Option<Box<dyn Line>>> = Vec::new();
    let mut vacant: Vec<usize> = Vec::new();
    // The flow of each UE, by the number in its Call-ID.
    let mut flows: Vec<usize> = Vec::new();
    loop {
        let events = epoll.wait(Duration::from_secs(1));
        for index in 0..events {
            match epoll.event(index) {
                (LISTENER, _) => {
                    while let Ok((socket, _)) = listener.accept() {
                        let at = vacant.pop().unwrap_or_else(|| {
                            conns.push(None);
                            conns.len() - 1
                        });
                        let tag = FIRST_CONN + at as u64;
                        conns[at] = Some(match cover {
                            Cover::None => Box::new(Conn::accept(socket, None, &epoll, tag)?),
                            Cover::Certificate(tls) => {
                                Box::new(Conn::accept(socket, Some(tls), &epoll, tag)?)
                            }
                            Cover::Key(key) => Box::new(Keyed::accept(socket, key, &epoll, tag)?),
                        });
                    }
                }
                (BACK, _) => loop {
                    let received = inbox.fill(&back);
                    for index in 0..received {
                        let (message, ..) = inbox.get(index);
                        let flow = ue(message).and_then(|ue| flows.get(ue));
                        if let Some(Some(conn)) = flow.and_then(|flow| conns.get_mut(*flow)) {
                            conn.send(message, &epoll);
                        }
                    }
                    if received < BATCH {
                        break;
                    }
                },
                (tag, event) => {
                    let at = (tag - FIRST_CONN) as usize;
                    let Some(Some(conn)) = conns.get_mut(at) else { continue };
                    let alive = conn.handle(event, &epoll);
                    while conn.take_message(&mut message) {
                        if let Some(line) = reflects(&message, shared) {
                            let answer = [line, without_line(&message)].concat();
                            conn.send(&answer, &epoll);
                            continue;
                        }
                        if let Some(ue) = ue(&message) {
                            if flows.len() <= ue {
                                flows.resize(ue + 1, usize::MAX);
                            }
                            flows[ue] = at;
                        }
                        back.next(backend, None).extend_from_slice(&message);
                    }
                    if !alive {
                        conn.close();
                        conns[at] = None;
                        vacant.push(at);
                    }
                }
            }
        }
        back.flush();
    }
}

/// The number of the UE in a Call-ID.
fn ue(message: &[u8]) -> Option<usize> {
    let call = wire::row(message, "Call-ID", Some(b'i'))?;
    wire::marked(call, b"u").map(|(ue, _)| ue)
}

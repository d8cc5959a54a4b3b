//! Stage 1, listeners: addresses become sockets, one set for each worker, all on the same ports.
//!
//! Takes:   [`ListenSpec`]s as the configuration states them; port 0 asks for any.
//! Gives:   [`BoundListener`], what a listener turned out to be; [`Sockets`], one set to carry to each worker's thread.
//! Keeps:   nothing; the sockets are open until they are dropped.
//! Refuses: an address that another process holds, TLS without certificates, TLS and cleartext on one port, WebSocket beside
//!          anything else, or without rules.
//! Sources: RFC 3261 section 18.2.1 (UDP and TCP on one port); `TR-01`, `TR-14`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::dtls::server::DtlsServer;
use super::psk_tls::PskServer;
use super::tls::ServerTls;
use super::ws::WsServer;
use super::{ListenerId, Side, Transport};

/// A listener as it is asked for.
#[derive(Clone, Debug)]
pub struct ListenSpec {
    /// Its place in the configuration.
    pub id: ListenerId,
    /// The face it belongs to.
    pub side: Side,
    /// Where.
    pub address: SocketAddr,
    /// `[Udp]`, `[Tcp]` or both; or `[Tls]`, `[Dtls]` or both; or `[Ws]` or `[Wss]`.
    pub transports: Vec<Transport>,
    /// The host by which others reach it, as it stands in Via and Record-Route.
    pub name: Arc<str>,
    /// Its certificates, where it speaks TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// Its handshakes with shared keys, beside certificates on the same port, if it has any.
    pub psk: Option<Arc<PskServer>>,
    /// Its end of DTLS, where it speaks that.
    pub dtls: Option<Arc<DtlsServer>>,
    /// Whom it lets in, where it speaks WebSocket.
    pub ws: Option<Arc<WsServer>>,
}

impl ListenSpec {
    /// One without certificates, keys, DTLS and WebSocket.
    pub fn plain(
        id: ListenerId,
        side: Side,
        address: SocketAddr,
        transports: &[Transport],
        name: &str,
    ) -> Self {
        let (transports, name) = (transports.to_vec(), name.into());
        Self { id, side, address, transports, name, tls: None, psk: None, dtls: None, ws: None }
    }
}

/// A listener as it is.
#[derive(Clone, Debug)]
pub struct BoundListener {
    /// As it was asked for.
    pub spec: ListenSpec,
    /// Its address, with the port that it has.
    pub local: SocketAddr,
}

impl BoundListener {
    /// Whether it speaks `transport`.
    pub fn speaks(&self, transport: Transport) -> bool {
        self.spec.transports.contains(&transport)
    }

    /// What its connections are; `None` if it has none.
    pub(super) fn stream_transport(&self) -> Option<Transport> {
        self.spec.transports.iter().copied().find(|transport| transport.is_reliable())
    }
}

/// The sockets of one worker, not yet in its runtime.
#[derive(Debug)]
pub struct Sockets {
    pub(super) listeners: Vec<WorkerSockets>,
}

impl Sockets {
    /// What they are bound to, in order.
    pub fn bound(&self) -> Vec<Arc<BoundListener>> {
        self.listeners.iter().map(|sockets| sockets.bound.clone()).collect()
    }
}

#[derive(Debug)]
pub(super) struct WorkerSockets {
    pub(super) bound: Arc<BoundListener>,
    pub(super) udp: Option<UdpSocket>,
    pub(super) tcp: Option<TcpListener>,
}

/// Why there is no listener.
#[derive(Debug)]
pub struct BindError {
    /// Where it was to be.
    pub address: SocketAddr,
    /// What was wrong.
    pub why: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.why)
    }
}

impl std::error::Error for BindError {}

/// Connections that may wait for an accept.
const BACKLOG: i32 = 1024;
/// Octets of datagrams that the system may hold for one socket, if it grants so many.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// Ports tried where any will do, but UDP and TCP must both have it.
const ATTEMPTS: usize = 16;

/// Opens all sockets: a set for each of `workers`.
///
/// # Errors
///
/// The first address that cannot be had; nothing stays open then.
pub fn bind(specs: Vec<ListenSpec>, workers: NonZeroUsize) -> Result<Vec<Sockets>, BindError> {
    let mut sets: Vec<Sockets> =
        (0..workers.get()).map(|_| Sockets { listeners: Vec::new() }).collect();
    for spec in specs {
        let address = spec.address;
        let bound = bind_one(spec, &mut sets);
        bound.map_err(|why| BindError { address, why })?;
    }
    Ok(sets)
}

fn bind_one(spec: ListenSpec, sets: &mut [Sockets]) -> io::Result<()> {
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let websocket = spec.transports.iter().any(|transport| transport.is_websocket());
    let tls = spec.transports.iter().any(|it| matches!(it, Transport::Tls | Transport::Wss));
    let dtls = spec.transports.contains(&Transport::Dtls);
    let clear = spec.transports.iter().any(|transport| !transport.is_secure());
    if spec.transports.is_empty() {
        return wrong("no transport is named");
    }
    if websocket && spec.transports.len() > 1 {
        return wrong("WebSocket needs a port of its own");
    }
    if websocket && spec.ws.is_none() {
        return wrong("WebSocket needs rules whom to let in");
    }
    if (tls || dtls) && clear {
        return wrong("TLS needs a port of its own");
    }
    if dtls && spec.dtls.is_none() {
        return wrong("DTLS needs a certificate or shared keys");
    }
    if tls && spec.tls.is_none() {
        return wrong("TLS needs a certificate");
    }
    let udp = dtls || spec.transports.contains(&Transport::Udp);
    let tcp = tls || websocket || spec.transports.contains(&Transport::Tcp);
    let local = vacant(spec.address, udp, tcp)?;
    let bound = Arc::new(BoundListener { spec, local });
    for set in sets {
        let udp = udp.then(|| datagrams(local, true)).transpose()?;
        let tcp = tcp.then(|| connections(local, true)).transpose()?;
        set.listeners.push(WorkerSockets {
            bound: bound.clone(),
            udp: udp.map(Into::into),
            tcp: tcp.map(Into::into),
        });
    }
    Ok(())
}

/// The address with a port that nobody has. Sockets that share a port would also share it with another process of
/// the same user, unnoticed; so it is first taken alone.
fn vacant(address: SocketAddr, udp: bool, tcp: bool) -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let held = udp.then(|| datagrams(address, false)).transpose()?;
        let mut local = match &held {
            Some(socket) => local_of(socket)?,
            None => address,
        };
        match tcp.then(|| connections(local, false)).transpose() {
            Ok(None) => return Ok(local),
            Ok(Some(socket)) => {
                local = local_of(&socket)?;
                return Ok(local);
            }
            Err(why) if address.port() != 0 => return Err(why),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn datagrams(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket, address, shared)?;
    // As much as the system grants is enough.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}

fn connections(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&socket, address, shared)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn prepare(socket: &Socket, address: SocketAddr, shared: bool) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)
}

fn local_of(socket: &Socket) -> io::Result<SocketAddr> {
    let local = socket.local_addr()?.as_socket();
    local.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str, transports: &[Transport]) -> ListenSpec {
        let address = address.parse().unwrap();
        ListenSpec::plain(ListenerId(0), Side::Ue, address, transports, "edge.example.net")
    }

    fn workers(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[test]
    fn all_workers_have_udp_and_tcp_on_one_port() {
        let both = [Transport::Udp, Transport::Tcp];
        let sets = bind(vec![spec("127.0.0.1:0", &both)], workers(3)).unwrap();
        let port = sets[0].listeners[0].bound.local.port();
        assert_ne!(port, 0);
        for set in &sets {
            let it = &set.listeners[0];
            assert_eq!(it.udp.as_ref().unwrap().local_addr().unwrap().port(), port);
            assert_eq!(it.tcp.as_ref().unwrap().local_addr().unwrap().port(), port);
        }
    }

    #[test]
    fn a_port_that_somebody_has_is_refused() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let first = bind(vec![spec("127.0.0.1:0", &[transport])], workers(1)).unwrap();
            let taken = first[0].listeners[0].bound.local.to_string();
            let again = bind(vec![spec(&taken, &[transport])], workers(1));
            let why = again.map(|_| ()).unwrap_err();
            assert_eq!(why.why.kind(), io::ErrorKind::AddrInUse, "{transport:?}: {why}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (transports, expected) in [
            (&[][..], "no transport is named"),
            (&[Transport::Tls], "TLS needs a certificate"),
            (&[Transport::Tls, Transport::Tcp], "TLS needs a port of its own"),
            (&[Transport::Dtls, Transport::Udp], "TLS needs a port of its own"),
            (&[Transport::Dtls], "DTLS needs a certificate or shared keys"),
            (&[Transport::Ws, Transport::Udp], "WebSocket needs a port of its own"),
            (&[Transport::Wss, Transport::Tls], "WebSocket needs a port of its own"),
            (&[Transport::Ws], "WebSocket needs rules whom to let in"),
        ] {
            let why =
                bind(vec![spec("127.0.0.1:0", transports)], workers(1)).map(|_| ()).unwrap_err();
            assert_eq!(why.why.to_string(), expected, "{transports:?}");
        }
    }
}

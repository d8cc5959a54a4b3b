//! Connections under a shared key, over TCP and over datagrams, either end of them, by OpenSSL and without waiting.
//!
//! Each UE has a key of its own. The handshake is over before anything counts, and there is one suite for all.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslStream, SslVersion,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::lab::Transport;
use super::net::{DATAGRAM_MAX, Epoll, OVER, READABLE, WRITABLE};
use super::population;
use super::stream::{Line, Stage};
use super::wire;

const SUITE: &str = "PSK-AES128-GCM-SHA256";

/// One connection.
pub(crate) struct Keyed {
    ssl: SslStream<Wire>,
    stage: Stage,
    waits_to_write: bool,
    tag: u64,
    incoming: Vec<u8>,
    outgoing: VecDeque<Vec<u8>>,
}

enum Wire {
    Stream(TcpStream),
    Datagrams(UdpSocket),
    /// One of many peers of one socket.
    Shared {
        came: VecDeque<Vec<u8>>,
        goes: Vec<Vec<u8>>,
    },
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(socket) => socket.read(room),
            Self::Datagrams(socket) => socket.recv(room),
            Self::Shared { came, .. } => {
                let datagram = came.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
                let length = datagram.len().min(room.len());
                room[..length].copy_from_slice(&datagram[..length]);
                Ok(length)
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(socket) => socket.write(octets),
            Self::Datagrams(socket) => socket.send(octets),
            Self::Shared { goes, .. } => {
                goes.push(octets.to_vec());
                Ok(octets.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Keyed {
    fn as_raw_fd(&self) -> RawFd {
        match self.ssl.get_ref() {
            Wire::Stream(socket) => socket.as_raw_fd(),
            Wire::Datagrams(socket) => socket.as_raw_fd(),
            Wire::Shared { .. } => -1,
        }
    }
}

impl Keyed {
    /// Begins the connection of a UE.
    pub(crate) fn connect(
        (from, to): (Ipv4Addr, SocketAddrV4),
        transport: Transport,
        context: &SslContext,
        ue: usize,
        epoll: &Epoll,
        tag: u64,
    ) -> io::Result<Self> {
        let datagrams = transport == Transport::Dtls;
        let kind = if datagrams { Type::DGRAM } else { Type::STREAM };
        let protocol = if datagrams { Protocol::UDP } else { Protocol::TCP };
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        match socket.connect(&SocketAddr::V4(to).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut ssl = Ssl::new(context)?;
        ssl.set_connect_state();
        ssl.set_ex_data(number()?, ue);
        epoll.add(&socket, READABLE | WRITABLE, tag);
        let wire = if datagrams {
            Wire::Datagrams(socket.into())
        } else {
            socket.set_tcp_nodelay(true)?;
            Wire::Stream(socket.into())
        };
        Self::over(ssl, wire, Stage::Connecting, true, tag)
    }

    /// Takes one that was accepted.
    pub(crate) fn accept(
        socket: TcpStream,
        context: &SslContext,
        epoll: &Epoll,
        tag: u64,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        epoll.add(&socket, READABLE, tag);
        Self::server(context, Wire::Stream(socket), tag)
    }

    /// Takes one of many peers of one socket.
    pub(crate) fn share(context: &SslContext) -> io::Result<Self> {
        Self::server(context, Wire::Shared { came: VecDeque::new(), goes: Vec::new() }, 0)
    }

    fn server(context: &SslContext, wire: Wire, tag: u64) -> io::Result<Self> {
        let mut ssl = Ssl::new(context)?;
        ssl.set_accept_state();
        Self::over(ssl, wire, Stage::Handshake, false, tag)
    }

    fn over(
        mut ssl: Ssl,
        wire: Wire,
        stage: Stage,
        waits_to_write: bool,
        tag: u64,
    ) -> io::Result<Self> {
        if !matches!(wire, Wire::Stream(_)) {
            ssl.set_mtu(DATAGRAM_MAX as u32)?;
        }
        let (incoming, outgoing) = (Vec::new(), VecDeque::new());
        let ssl = SslStream::new(ssl, wire)?;
        Ok(Self { ssl, stage, waits_to_write, tag, incoming, outgoing })
    }

    /// A datagram came from the peer that shares a socket; `false` if it is over.
    pub(crate) fn came(&mut self, datagram: &[u8]) -> bool {
        if let Wire::Shared { came, .. } = self.ssl.get_mut() {
            came.push_back(datagram.to_vec());
        }
        self.go_on()
    }

    /// Queues a message for the peer that shares a socket.
    pub(crate) fn put(&mut self, octets: &[u8]) {
        self.outgoing.push_back(octets.to_vec());
        self.flush();
    }

    /// What is to be sent to it.
    pub(crate) fn goes(&mut self) -> Vec<Vec<u8>> {
        match self.ssl.get_mut() {
            Wire::Shared { goes, .. } => std::mem::take(goes),
            Wire::Stream(_) | Wire::Datagrams(_) => Vec::new(),
        }
    }

    fn go_on(&mut self) -> bool {
        if self.stage == Stage::Handshake {
            match self.ssl.do_handshake() {
                Ok(()) => self.stage = Stage::Open,
                Err(why) => return waits(why.code()),
            }
        }
        let alive = self.stage != Stage::Open || self.read();
        alive && self.flush()
    }

    fn read(&mut self) -> bool {
        const ROOM: usize = 16_384;
        loop {
            let start = self.incoming.len();
            self.incoming.resize(start + ROOM, 0);
            let read = self.ssl.ssl_read(&mut self.incoming[start..]);
            self.incoming.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return false,
                Ok(_) => {}
                Err(why) => return waits(why.code()),
            }
        }
    }

    fn flush(&mut self) -> bool {
        while self.stage == Stage::Open {
            let Some(message) = self.outgoing.front() else { return true };
            match self.ssl.ssl_write(message) {
                Ok(written) if written == message.len() => drop(self.outgoing.pop_front()),
                Ok(written) => drop(self.outgoing[0].drain(..written)),
                Err(why) => return waits(why.code()),
            }
        }
        true
    }

    fn arm(&mut self, epoll: &Epoll) {
        let wants = self.stage == Stage::Connecting
            || (self.stage == Stage::Open && !self.outgoing.is_empty());
        if wants != self.waits_to_write {
            self.waits_to_write = wants;
            epoll.change(self, if wants { READABLE | WRITABLE } else { READABLE }, self.tag);
        }
    }
}

impl Line for Keyed {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn local(&self) -> Option<SocketAddrV4> {
        let local = match self.ssl.get_ref() {
            Wire::Stream(socket) => socket.local_addr(),
            Wire::Datagrams(socket) => socket.local_addr(),
            Wire::Shared { .. } => return None,
        };
        match local {
            Ok(SocketAddr::V4(local)) => Some(local),
            _ => None,
        }
    }

    fn send(&mut self, octets: &[u8], epoll: &Epoll) -> bool {
        self.outgoing.push_back(octets.to_vec());
        let alive = self.flush();
        self.arm(epoll);
        alive
    }

    fn handle(&mut self, event: u32, epoll: &Epoll) -> bool {
        if self.stage == Stage::Connecting && event & (WRITABLE | OVER) != 0 {
            self.stage = Stage::Handshake;
        }
        let alive = self.go_on();
        self.arm(epoll);
        alive
    }

    fn take_message(&mut self, into: &mut Vec<u8>) -> bool {
        wire::take_message(&mut self.incoming, into)
    }

    fn close(&mut self) {
        let _peer_is_gone = self.ssl.shutdown();
    }
}

fn waits(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}

/// The UEs' side.
pub(crate) fn client(transport: Transport) -> Result<SslContext, ErrorStack> {
    let method = match transport {
        Transport::Dtls => SslMethod::dtls_client(),
        _ => SslMethod::tls_client(),
    };
    let mut context = usual(method, transport)?;
    let number = number()?;
    context.set_psk_client_callback(move |ssl, _, name, key| {
        let Some(ue) = ssl.ex_data(number) else { return Ok(0) };
        let (own, octets) = (population::key_name(*ue), population::key(*ue));
        name[..own.len()].copy_from_slice(own.as_bytes());
        name[own.len()] = 0;
        key[..octets.len()].copy_from_slice(&octets);
        Ok(octets.len())
    });
    Ok(context.build())
}

/// The floor's side: it believes whoever has the key of a number.
pub(crate) fn server(transport: Transport) -> Result<SslContext, ErrorStack> {
    let method = match transport {
        Transport::Dtls => SslMethod::dtls_server(),
        _ => SslMethod::tls_server(),
    };
    let mut context = usual(method, transport)?;
    context.set_psk_server_callback(|_, name, key| {
        let number = name.and_then(|name| std::str::from_utf8(name).ok());
        let Some(number) = number.and_then(population::number_in) else { return Ok(0) };
        let octets = population::key(number);
        key[..octets.len()].copy_from_slice(&octets);
        Ok(octets.len())
    });
    Ok(context.build())
}

fn usual(method: SslMethod, transport: Transport) -> Result<SslContextBuilder, ErrorStack> {
    let version = match transport {
        Transport::Dtls => SslVersion::DTLS1_2,
        _ => SslVersion::TLS1_2,
    };
    let mut context = SslContext::builder(method)?;
    context.set_min_proto_version(Some(version))?;
    context.set_max_proto_version(Some(version))?;
    context.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET);
    context.set_mode(SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_cipher_list(SUITE)?;
    Ok(context)
}

/// Where a client's session keeps the number of its UE.
fn number() -> Result<Index<Ssl, usize>, ErrorStack> {
    static NUMBER: OnceLock<Index<Ssl, usize>> = OnceLock::new();
    match NUMBER.get() {
        Some(number) => Ok(*number),
        None => {
            let number = Ssl::new_ex_index()?;
            Ok(*NUMBER.get_or_init(|| number))
        }
    }
}

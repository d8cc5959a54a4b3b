//! One client after the other in each lane, each from an address of its own: a handshake, perhaps an OPTIONS, a good-bye.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{DOMAIN, EDGE_NAME, IDENTITY, KEY};

/// A kind of handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tls13,
    PskTls12,
    PskTls12Dhe,
    PskTls13,
    DtlsPsk,
    DtlsPskDhe,
    DtlsCertificate,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Tls13,
        Self::PskTls12,
        Self::PskTls12Dhe,
        Self::PskTls13,
        Self::DtlsPsk,
        Self::DtlsPskDhe,
        Self::DtlsCertificate,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tls13 => "TLS 1.3, ECDSA P-256",
            Self::PskTls12 => "PSK-TLS 1.2, PSK-GCM",
            Self::PskTls12Dhe => "PSK-TLS 1.2, ECDHE-PSK-CHACHA20",
            Self::PskTls13 => "PSK-TLS 1.3",
            Self::DtlsPsk => "DTLS 1.2, PSK-GCM",
            Self::DtlsPskDhe => "DTLS 1.2, ECDHE-PSK-CHACHA20",
            Self::DtlsCertificate => "DTLS 1.2, ECDSA P-256",
        }
    }

    pub(crate) fn is_dtls(self) -> bool {
        matches!(self, Self::DtlsPsk | Self::DtlsPskDhe | Self::DtlsCertificate)
    }

    /// The one suite of a handshake below TLS 1.3.
    pub(crate) fn suite(self) -> Option<&'static str> {
        match self {
            Self::Tls13 | Self::PskTls13 => None,
            Self::PskTls12 | Self::DtlsPsk => Some("PSK-AES128-GCM-SHA256"),
            Self::PskTls12Dhe | Self::DtlsPskDhe => Some("ECDHE-PSK-CHACHA20-POLY1305"),
            Self::DtlsCertificate => Some("ECDHE-ECDSA-AES128-GCM-SHA256"),
        }
    }

    pub(crate) fn has_key(self) -> bool {
        !matches!(self, Self::Tls13 | Self::DtlsCertificate)
    }

    /// What both ends set in the same way: version and suite.
    pub(crate) fn settle(self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let version = match self {
            Self::Tls13 | Self::PskTls13 => SslVersion::TLS1_3,
            _ if self.is_dtls() => SslVersion::DTLS1_2,
            _ => SslVersion::TLS1_2,
        };
        context.set_min_proto_version(Some(version))?;
        context.set_max_proto_version(Some(version))?;
        context.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET);
        context.set_groups_list("X25519:P-256")?;
        match self.suite() {
            Some(suite) => context.set_cipher_list(suite),
            None => context.set_ciphersuites("TLS_AES_128_GCM_SHA256"),
        }
    }
}

/// Clients of one server.
pub(crate) struct Clients {
    kind: Kind,
    /// Those of each have addresses of their own.
    lane: u8,
    door: SocketAddrV4,
    context: SslContext,
    count: u32,
}

/// One that has shaken hands.
pub(crate) struct Session {
    stream: SslStream<Wire>,
    via: &'static str,
    local: SocketAddr,
}

/// A connection, or a socket that knows one peer.
pub(crate) enum Wire {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(room),
            Self::Datagrams(socket) => socket.recv(room),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(octets),
            Self::Datagrams(socket) => socket.send(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Clients {
    pub(crate) fn new(kind: Kind, door: SocketAddrV4, lane: u8) -> Result<Self, String> {
        let context = context(kind).map_err(|error| error.to_string())?;
        Ok(Self { kind, lane, door, context, count: 0 })
    }

    /// One more, from another address than the last.
    pub(crate) fn connect(&mut self) -> Result<Session, String> {
        let [_, _, a, b] = (self.count % 0xFFFF).to_be_bytes();
        self.count += 1;
        let from = Ipv4Addr::new(127, 110 + self.lane, a, b.max(1));
        let wire = self.wire(from).map_err(|error| format!("from {from}: {error}"))?;
        let local = match &wire {
            Wire::Stream(stream) => stream.local_addr(),
            Wire::Datagrams(socket) => socket.local_addr(),
        };
        let local = local.map_err(|error| error.to_string())?;
        let mut ssl = Ssl::new(&self.context).map_err(|error| error.to_string())?;
        ssl.set_hostname(EDGE_NAME).map_err(|error| error.to_string())?;
        if self.kind.is_dtls() {
            ssl.set_mtu(1200).map_err(|error| error.to_string())?;
        }
        let mut stream = SslStream::new(ssl, wire).map_err(|error| error.to_string())?;
        stream.connect().map_err(|error| format!("{}: {error}", self.kind.as_str()))?;
        let via = if self.kind.is_dtls() { "DTLS-UDP" } else { "TLS" };
        Ok(Session { stream, via, local })
    }

    fn wire(&self, from: Ipv4Addr) -> io::Result<Wire> {
        let patience = Some(Duration::from_secs(10));
        if self.kind.is_dtls() {
            let socket = UdpSocket::bind((from, 0))?;
            socket.set_read_timeout(patience)?;
            socket.connect(self.door)?;
            return Ok(Wire::Datagrams(socket));
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&SocketAddr::V4(self.door).into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(patience)?;
        Ok(Wire::Stream(socket.into()))
    }
}

impl Session {
    /// Asks, and has to be answered.
    pub(crate) fn options(&mut self) -> Result<(), String> {
        let (via, local) = (self.via, self.local);
        let request = format!(
            "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{via} {local};rport;branch=z9hG4bK{}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:carol@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\n\
             Call-ID: {local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            local.port()
        );
        self.stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = [0; 4096];
        let length = self.stream.read(&mut answer).map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&answer[..length]);
        answer.starts_with("SIP/2.0 200 ").then_some(()).ok_or(answer.into_owned())
    }

    /// Says good-bye.
    pub(crate) fn leave(mut self) {
        let _peer_is_gone = self.stream.shutdown();
    }
}

fn context(kind: Kind) -> Result<SslContext, ErrorStack> {
    let method = if kind.is_dtls() { SslMethod::dtls_client() } else { SslMethod::tls_client() };
    let mut context = SslContext::builder(method)?;
    kind.settle(&mut context)?;
    // Its own certificate, and not what is measured.
    context.set_verify(SslVerifyMode::NONE);
    if kind.has_key() {
        context.set_psk_client_callback(|_, _, name, key| {
            name[..IDENTITY.len()].copy_from_slice(IDENTITY.as_bytes());
            name[IDENTITY.len()] = 0;
            key[..KEY.len()].copy_from_slice(&KEY);
            Ok(KEY.len())
        });
    }
    Ok(context.build())
}

//! Connections over TCP and TLS, either end of them, without waiting.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ServerConfig,
    ServerConnection, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use socket2::{Domain, Protocol, Socket, Type};

use super::EDGE_NAME;
use super::lab::Certificate;
use super::net::{Epoll, OVER, READABLE, WRITABLE};
use super::wire;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Handshake,
    Open,
}

/// What is done with a connection, whatever it is under.
pub(crate) trait Line {
    fn stage(&self) -> Stage;

    /// Our end of it.
    fn local(&self) -> Option<SocketAddrV4>;

    /// Sends octets; `false` if it is over.
    fn send(&mut self, octets: &[u8], epoll: &Epoll) -> bool;

    /// Does what an event calls for; `false` if it is over. [`Line::take_message`] has what arrived.
    fn handle(&mut self, event: u32, epoll: &Epoll) -> bool;

    /// The next whole message, copied into `into`.
    fn take_message(&mut self, into: &mut Vec<u8>) -> bool;

    /// Says goodbye; the socket closes when this is dropped.
    fn close(&mut self);
}

/// One connection.
pub(crate) struct Conn {
    socket: TcpStream,
    tls: Option<Box<Connection>>,
    stage: Stage,
    waits_to_write: bool,
    tag: u64,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Conn {
    /// Begins one from `from` to `to`.
    pub(crate) fn connect(
        from: Ipv4Addr,
        to: SocketAddrV4,
        tls: Option<&Arc<ClientConfig>>,
        epoll: &Epoll,
        tag: u64,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        match socket.connect(&SocketAddr::V4(to).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let tls = match tls {
            Some(config) => {
                let name = ServerName::try_from(EDGE_NAME).map_err(io::Error::other)?;
                let client = ClientConnection::new(Arc::clone(config), name);
                Some(Box::new(client.map_err(io::Error::other)?.into()))
            }
            None => None,
        };
        epoll.add(&socket, READABLE | WRITABLE, tag);
        Ok(Self::over(socket.into(), tls, Stage::Connecting, true, tag))
    }

    /// Takes one that was accepted.
    pub(crate) fn accept(
        socket: TcpStream,
        tls: Option<&Arc<ServerConfig>>,
        epoll: &Epoll,
        tag: u64,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let server = tls.map(|config| ServerConnection::new(Arc::clone(config)));
        let server = server.transpose().map_err(io::Error::other)?;
        let stage = if server.is_some() { Stage::Handshake } else { Stage::Open };
        epoll.add(&socket, READABLE, tag);
        Ok(Self::over(socket, server.map(|tls| Box::new(tls.into())), stage, false, tag))
    }

    fn over(
        socket: TcpStream,
        tls: Option<Box<Connection>>,
        stage: Stage,
        waits_to_write: bool,
        tag: u64,
    ) -> Self {
        let (incoming, outgoing) = (Vec::new(), Vec::new());
        Self { socket, tls, stage, waits_to_write, tag, incoming, outgoing }
    }
}

impl Line for Conn {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn local(&self) -> Option<SocketAddrV4> {
        match self.socket.local_addr() {
            Ok(SocketAddr::V4(local)) => Some(local),
            _ => None,
        }
    }

    fn send(&mut self, octets: &[u8], epoll: &Epoll) -> bool {
        match &mut self.tls {
            Some(tls) => {
                if tls.writer().write_all(octets).is_err() {
                    return false;
                }
            }
            None => self.outgoing.extend_from_slice(octets),
        }
        let alive = self.flush();
        self.arm(epoll);
        alive
    }

    fn handle(&mut self, event: u32, epoll: &Epoll) -> bool {
        if self.stage == Stage::Connecting && event & (WRITABLE | OVER) != 0 {
            if !matches!(self.socket.take_error(), Ok(None)) {
                return false;
            }
            self.stage = if self.tls.is_some() { Stage::Handshake } else { Stage::Open };
        }
        let read = event & (READABLE | OVER) == 0 || self.read();
        let alive = read && self.flush();
        self.arm(epoll);
        alive
    }

    fn take_message(&mut self, into: &mut Vec<u8>) -> bool {
        wire::take_message(&mut self.incoming, into)
    }

    fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _peer_is_gone = tls.write_tls(&mut self.socket);
        }
    }
}

impl Conn {
    fn read(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return read_plain(&self.socket, &mut self.incoming) };
        loop {
            match tls.read_tls(&mut self.socket) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            let Ok(state) = tls.process_new_packets() else { return false };
            let (start, more) = (self.incoming.len(), state.plaintext_bytes_to_read());
            self.incoming.resize(start + more, 0);
            if more > 0 && tls.reader().read_exact(&mut self.incoming[start..]).is_err() {
                return false;
            }
            if self.stage == Stage::Handshake && !tls.is_handshaking() {
                self.stage = Stage::Open;
            }
            if state.peer_has_closed() {
                return false;
            }
        }
    }

    fn flush(&mut self) -> bool {
        if self.stage == Stage::Connecting {
            return true;
        }
        let result = match &mut self.tls {
            Some(tls) => loop {
                match tls.wants_write() {
                    true => match tls.write_tls(&mut self.socket) {
                        Ok(_) => {}
                        Err(error) => break Err(error),
                    },
                    false => break Ok(()),
                }
            },
            None => loop {
                if self.outgoing.is_empty() {
                    break Ok(());
                }
                match self.socket.write(&self.outgoing) {
                    Ok(written) => drop(self.outgoing.drain(..written)),
                    Err(error) => break Err(error),
                }
            },
        };
        result.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
    }

    fn arm(&mut self, epoll: &Epoll) {
        let wants = match &self.tls {
            _ if self.stage == Stage::Connecting => true,
            Some(tls) => tls.wants_write(),
            None => !self.outgoing.is_empty(),
        };
        if wants != self.waits_to_write {
            self.waits_to_write = wants;
            epoll.change(self, if wants { READABLE | WRITABLE } else { READABLE }, self.tag);
        }
    }
}

impl AsRawFd for Conn {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn read_plain(mut socket: &TcpStream, into: &mut Vec<u8>) -> bool {
    const ROOM: usize = 8192;
    loop {
        let start = into.len();
        into.resize(start + ROOM, 0);
        let read = socket.read(&mut into[start..]);
        into.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return false,
            Ok(ROOM) => {}
            Ok(_) => return true,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// The UEs' side of TLS 1.3. Nothing is resumed, so each connection is a full handshake; keys are exchanged by X25519,
/// which every anchor knows.
pub(crate) fn client() -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The floor's side of TLS.
pub(crate) fn server(certificate: &Certificate) -> Result<Arc<ServerConfig>, String> {
    let chain = CertificateDer::pem_file_iter(&certificate.chain)
        .and_then(Iterator::collect)
        .map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    config.map(Arc::new).map_err(|error| error.to_string())
}

/// The generator spends no time on certificates: they are its own, and it is not what is measured.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

//! The floor: a loop that accepts, shakes hands, and keeps what came of it, on one thread of tokio as a worker of the edge
//! is. The bench starts itself to be it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslFiletype, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::client::Kind;
use super::lab::{Anchor, Certificate, Folder, ONE, Plan, pause};
use super::{IDENTITY, KEY, instructions};

/// The first argument of a process that is to be the floor.
pub(crate) const ROLE: &str = "be-the-floor";

/// After how long without a handshake the floor lets go of its streams: between slices, that is.
pub(crate) const FORGETS: Duration = Duration::from_millis(150);

/// Streams that stand, and when the last one came.
type Standing<T> = Arc<Mutex<(Vec<T>, Instant)>>;

/// Starts the floor of `plan`; its instructions are counted to a file, if one is given.
pub(crate) fn start(
    kind: Kind,
    plan: &Plan,
    certificate: &Certificate,
    folder: &Folder,
    count: Option<&Path>,
) -> Result<Anchor, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = folder.inner("floor").map_err(|error| error.to_string())?;
    let mut command = instructions::counted(&program, count);
    command.arg(ROLE).arg(kind.as_str()).arg(plan.door().to_string());
    command.arg(&certificate.chain).arg(&certificate.key);
    Anchor::start("floor", command, plan, &folder, ONE, Duration::from_secs(10))
}

/// Is the floor, until it is ended.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [kind, door, chain, key] = arguments else {
        return Err("kind, door, certificate and key are what it takes".into());
    };
    let kind = Kind::ALL.into_iter().find(|it| it.as_str() == kind).ok_or("no such handshake")?;
    let door: SocketAddrV4 = door.parse().map_err(|error| format!("{door}: {error}"))?;
    let certificate = Certificate { chain: PathBuf::from(chain), key: PathBuf::from(key) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(accept(kind, door, &certificate))
}

async fn accept(kind: Kind, door: SocketAddrV4, certificate: &Certificate) -> Result<(), String> {
    let socket = if kind.is_dtls() { Some(UdpSocket::bind(door).await) } else { None };
    // Over TCP it shows that it is up, whatever it speaks.
    let listener = TcpListener::bind(door).await.map_err(|error| error.to_string())?;
    if kind == Kind::Tls13 {
        return rustls(&listener, certificate).await;
    }
    let context = context(kind, certificate).map_err(|error| error.to_string())?;
    if let Some(socket) = socket {
        let socket = socket.map_err(|error| error.to_string())?;
        return datagrams(&context, socket).await.map_err(|error| error.to_string());
    }
    let standing = standing();
    loop {
        let Some(socket) = next(&listener).await else { continue };
        let stream = Ssl::new(&context).and_then(|ssl| tokio_openssl::SslStream::new(ssl, socket));
        let Ok(mut stream) = stream else { continue };
        let standing = Arc::clone(&standing);
        tokio::spawn(async move {
            if Pin::new(&mut stream).accept().await.is_ok() {
                keep(&standing, stream);
            }
        });
    }
}

async fn next(listener: &TcpListener) -> Option<TcpStream> {
    let (socket, _) = listener.accept().await.ok()?;
    socket.set_nodelay(true).ok()?;
    Some(socket)
}

/// Nothing yet; a thread lets go of what will be there.
fn standing<T: Send + 'static>() -> Standing<T> {
    let standing: Standing<T> = Arc::new(Mutex::new((Vec::new(), Instant::now())));
    let forgetting = Arc::clone(&standing);
    thread::spawn(move || {
        loop {
            pause(FORGETS / 2);
            let mut standing = forgetting.lock().unwrap_or_else(PoisonError::into_inner);
            if standing.1.elapsed() >= FORGETS {
                standing.0.clear();
            }
        }
    });
    standing
}

fn keep<T>(standing: &Standing<T>, stream: T) {
    let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
    standing.0.push(stream);
    standing.1 = Instant::now();
}

async fn rustls(listener: &TcpListener, certificate: &Certificate) -> Result<(), String> {
    let chain = CertificateDer::pem_file_iter(&certificate.chain)
        .and_then(Iterator::collect)
        .map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| error.to_string())?;
    let (acceptor, standing) = (TlsAcceptor::from(Arc::new(config)), standing());
    loop {
        let Some(socket) = next(listener).await else { continue };
        let (accepting, standing) = (acceptor.accept(socket), Arc::clone(&standing));
        tokio::spawn(async move {
            if let Ok(stream) = accepting.await {
                keep(&standing, stream);
            }
        });
    }
}

fn context(kind: Kind, certificate: &Certificate) -> Result<SslContext, ErrorStack> {
    let method = if kind.is_dtls() { SslMethod::dtls_server() } else { SslMethod::tls_server() };
    let mut context = SslContext::builder(method)?;
    kind.settle(&mut context)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_mode(SslMode::RELEASE_BUFFERS);
    if kind.has_key() {
        context.set_num_tickets(0)?;
        context.set_psk_server_callback(|_, identity, room| {
            let known = identity == Some(IDENTITY.as_bytes());
            room[..KEY.len()].copy_from_slice(&KEY);
            Ok(if known { KEY.len() } else { 0 })
        });
    } else {
        context.set_certificate_chain_file(&certificate.chain)?;
        context.set_private_key_file(&certificate.key, SslFiletype::PEM)?;
    }
    if kind.is_dtls() {
        context.set_options(SslOptions::COOKIE_EXCHANGE);
        // Bare as the floor is, a cookie is a MAC here too.
        let key = PKey::hmac(&KEY)?;
        let made = move || -> Result<Vec<u8>, ErrorStack> {
            openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &key)?
                .sign_oneshot_to_vec(b"here")
        };
        let verifying = made.clone();
        context.set_cookie_generate_cb(move |_, room| {
            let cookie = made()?;
            room[..cookie.len()].copy_from_slice(&cookie);
            Ok(cookie.len())
        });
        context.set_cookie_verify_cb(move |_, cookie| verifying().is_ok_and(|own| own == cookie));
    }
    Ok(context.build())
}

/// What came from one peer, and where to send.
struct Wire {
    came: Option<Vec<u8>>,
    peer: SocketAddr,
    socket: Arc<UdpSocket>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let datagram = self.came.take().ok_or(io::ErrorKind::WouldBlock)?;
        let length = datagram.len().min(room.len());
        room[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.socket.try_send_to(octets, self.peer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn datagrams(
    context: &SslContext,
    socket: UdpSocket,
) -> Result<(), Box<dyn std::error::Error>> {
    let socket = Arc::new(socket);
    let mut peers: HashMap<SocketAddr, (SslStream<Wire>, bool)> = HashMap::new();
    let mut room = [0; 8192];
    loop {
        let (length, from) = socket.recv_from(&mut room).await?;
        let (stream, stands) = match peers.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut ssl = Ssl::new(context)?;
                ssl.set_mtu(1200)?;
                let wire = Wire { came: None, peer: from, socket: Arc::clone(&socket) };
                new.insert((SslStream::new(ssl, wire)?, false))
            }
        };
        stream.get_mut().came = Some(room[..length].to_vec());
        if !*stands {
            *stands = stream.accept().is_ok();
        } else if !matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
            peers.remove(&from);
        }
    }
}

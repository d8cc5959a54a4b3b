//! The UE, with a socket: one task that moves an [`Agent`], and a handle to it.
//!
//! Takes:   the edge's address, a transport, an identity and credentials.
//! Gives:   [`Ue`]: register, options, message, subscribe, call; what came in, as events.
//! Keeps:   one flow; at most `QUEUE` commands and `QUEUE` events.
//! Refuses: a TLS server whose certificate is not for the name that was dialled (RFC 5922 section 7.3).
//! Sources: RFC 3261 section 18; RFC 5626 section 4.4.1; RFC 5922.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::agent::{Agent, Event, Failure};
use super::agreement::Protection;
use super::answer::{Answerer, Credential};
use super::draft::{Draft, Voice};
#[cfg(feature = "webrtc-dtls")]
use super::dtls::Line;
use super::ws::{self, Line as WsLine};
use crate::authentication::digest::Hash;
use crate::clock;
use crate::keys::psk::PskClient;
use crate::transport::peer::Trust;
use crate::transport::ws::Offer;
use crate::transport::{Flow, ListenerId, Transport, tls};
use crate::wire::message::MESSAGE_MAX_KNOWN;
use crate::wire::{Framed, Framer, Message, Name};

/// Most commands and most events that wait.
const QUEUE: usize = 256;

/// Who looks on: every message in either direction.
pub type Trace = Arc<dyn Fn(bool, &Bytes) + Send + Sync>;

/// What a UE is made of.
#[derive(Clone)]
pub struct UeSettings {
    /// Where the edge is.
    pub edge: SocketAddr,
    /// The name that is dialled: the edge's certificate and bootstrapping realm must be for it.
    pub edge_name: String,
    /// How to speak to it.
    pub transport: Transport,
    /// Public identity, `sip:alice@example.net`.
    pub identity: String,
    /// What it proves itself with.
    pub credentials: Vec<Credential>,
    /// The weakest algorithm it answers.
    pub floor: Hash,
    /// TLS, for a transport that needs it.
    pub tls: Option<Arc<ClientConfig>>,
    /// A shared key for TLS and DTLS, instead of certificates.
    pub psk: Option<PskClient>,
    /// Who may vouch for the edge, over DTLS with certificates.
    pub trust: Option<Trust>,
    /// What it asks a WebSocket server for.
    pub ws: Offer,
    /// Whether it wants an agreement with the edge on what protects its requests (RFC 3329).
    pub sec_agree: bool,
    /// Our own address; any if `None`.
    pub local: Option<SocketAddr>,
    /// Who looks on; the flag says whether it was sent.
    pub trace: Option<Trace>,
}

/// Why a UE could not do what it was asked.
#[derive(Debug)]
pub enum UeError {
    /// No connection.
    Connect(io::Error),
    /// The TLS handshake failed, or the name is wrong.
    Tls(String),
    /// No SIP over WebSocket was agreed.
    WebSocket(String),
    /// The handshake with a shared key failed: the edge may not know it any more, so another one has to be made.
    SharedKey(String),
    /// No usable answer.
    Failed(Failure),
    /// The task has ended.
    Gone,
}

impl std::fmt::Display for UeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::WebSocket(why) => write!(f, "WebSocket: {why}"),
            Self::SharedKey(why) => {
                write!(f, "the edge does not take this key, so make another: {why}")
            }
            Self::Failed(Failure::Timeout) => f.write_str("no answer"),
            Self::Failed(Failure::Transport) => f.write_str("the connection was lost"),
            Self::Failed(Failure::Challenge(why)) => write!(f, "challenge: {why}"),
            Self::Failed(Failure::Unsendable) => f.write_str("the request cannot be sent"),
            Self::Gone => f.write_str("the UE has ended"),
        }
    }
}

impl std::error::Error for UeError {}

enum Command {
    Send(Draft, oneshot::Sender<Result<Message, Failure>>),
    Draft(&'static str, String, oneshot::Sender<Draft>),
    Inside(String, &'static str, oneshot::Sender<Option<Draft>>),
    Agreed(oneshot::Sender<Option<Protection>>),
    Raw(Bytes),
}

/// A handle to a running UE; it ends when the handle is dropped.
#[derive(Debug)]
pub struct Ue {
    commands: mpsc::Sender<Command>,
    events: Mutex<mpsc::Receiver<Message>>,
    local: SocketAddr,
    identity: String,
}

/// A call that was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its Call-ID.
    pub call_id: String,
    /// The 200.
    pub answer: Message,
}

impl Ue {
    /// Connects, and runs the UE in a task of its own.
    ///
    /// # Errors
    ///
    /// [`UeError::Connect`], [`UeError::Tls`].
    pub async fn connect(settings: UeSettings) -> Result<Self, UeError> {
        let any: SocketAddr =
            if settings.edge.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
        let bind = settings.local.unwrap_or(any);
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (tell, events) = mpsc::channel(QUEUE);
        let local = match settings.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(bind).await.map_err(UeError::Connect)?;
                socket.connect(settings.edge).await.map_err(UeError::Connect)?;
                let local = socket.local_addr().map_err(UeError::Connect)?;
                let phone = Phone::new(&settings, local, tell);
                tokio::spawn(phone.run_datagrams(socket, inbox));
                local
            }
            Transport::Dtls => {
                let socket = UdpSocket::bind(bind).await.map_err(UeError::Connect)?;
                socket.connect(settings.edge).await.map_err(UeError::Connect)?;
                let local = socket.local_addr().map_err(UeError::Connect)?;
                let phone = Phone::new(&settings, local, tell);
                phone.start_dtls(socket, inbox, &settings).await?;
                local
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                let stream = TcpStream::connect(settings.edge).await.map_err(UeError::Connect)?;
                stream.set_nodelay(true).map_err(UeError::Connect)?;
                let local = stream.local_addr().map_err(UeError::Connect)?;
                let phone = Phone::new(&settings, local, tell);
                if settings.transport == Transport::Tcp {
                    tokio::spawn(phone.run_stream(stream, inbox));
                } else if settings.transport == Transport::Ws {
                    let host = settings.edge.to_string();
                    let line = WsLine::connect(stream, &host, &settings.ws).await?;
                    tokio::spawn(phone.run_ws(line, inbox));
                } else if let Some(psk) = &settings.psk {
                    let stream = shared(psk, &settings.edge_name, stream).await?;
                    tokio::spawn(phone.run_stream(stream, inbox));
                } else {
                    let none = || UeError::Tls("no trust anchors are given".into());
                    let config = settings.tls.clone().ok_or_else(none)?;
                    let (stream, _) = tls::connect(config, &settings.edge_name, stream)
                        .await
                        .map_err(|why| UeError::Tls(why.to_string()))?;
                    if settings.transport == Transport::Wss {
                        let (host, ws) = (ws::host_of(&settings), &settings.ws);
                        let line = WsLine::connect(stream, &host, ws).await?;
                        tokio::spawn(phone.run_ws(line, inbox));
                    } else {
                        tokio::spawn(phone.run_stream(stream, inbox));
                    }
                }
                local
            }
        };
        Ok(Self { commands, events: Mutex::new(events), local, identity: settings.identity })
    }

    /// Our end of the flow.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Registers for so many seconds; zero ends it.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn register(&self, expires: u32) -> Result<Message, UeError> {
        let domain = self.identity.split_once('@').map_or("", |(_, domain)| domain);
        let mut draft = self.draft("REGISTER", &format!("sip:{domain}")).await?;
        draft.to.clone_from(&self.identity);
        self.send(draft.with("Supported", "path").with("Expires", expires.to_string())).await
    }

    /// Asks what `uri` can do.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn options(&self, uri: &str) -> Result<Message, UeError> {
        let draft = self.draft("OPTIONS", uri).await?;
        self.send(draft).await
    }

    /// Sends a text.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn message(&self, uri: &str, text: &str) -> Result<Message, UeError> {
        let draft = self.draft("MESSAGE", uri).await?;
        self.send(draft.body("text/plain;charset=utf-8", text)).await
    }

    /// Subscribes to an event package.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn subscribe(
        &self,
        uri: &str,
        event: &str,
        expires: u32,
    ) -> Result<Message, UeError> {
        let draft = self.draft("SUBSCRIBE", uri).await?;
        self.send(draft.with("Event", event).with("Expires", expires.to_string())).await
    }

    /// Calls `uri`; the ACK has been sent when this returns with a 2xx.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn call(&self, uri: &str) -> Result<Call, UeError> {
        let draft = self.draft("INVITE", uri).await?;
        let call_id = draft.call_id.clone();
        let host = self.local.ip();
        let family = if host.is_ipv4() { "IP4" } else { "IP6" };
        let offer = format!(
            "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n\
             m=audio 9 RTP/AVP 0\r\na=sendrecv\r\n"
        );
        let answer = self.send(draft.body("application/sdp", offer)).await?;
        Ok(Call { call_id, answer })
    }

    /// Hangs up.
    ///
    /// # Errors
    ///
    /// [`UeError`]; [`UeError::Gone`] if there is no such call.
    pub async fn hang_up(&self, call_id: &str) -> Result<Message, UeError> {
        let draft = self.inside(call_id, "BYE").await?;
        self.send(draft).await
    }

    /// A request outside dialogs, to be changed and sent.
    ///
    /// # Errors
    ///
    /// [`UeError::Gone`].
    pub async fn draft(&self, method: &'static str, uri: &str) -> Result<Draft, UeError> {
        let (reply, draft) = oneshot::channel();
        self.command(Command::Draft(method, uri.to_owned(), reply)).await?;
        draft.await.map_err(|_| UeError::Gone)
    }

    /// A request inside a dialog, to be changed and sent.
    ///
    /// # Errors
    ///
    /// [`UeError::Gone`], also if there is no such dialog.
    pub async fn inside(&self, call_id: &str, method: &'static str) -> Result<Draft, UeError> {
        let (reply, draft) = oneshot::channel();
        self.command(Command::Inside(call_id.to_owned(), method, reply)).await?;
        draft.await.ok().flatten().ok_or(UeError::Gone)
    }

    /// Sends a request and waits for its final response; a challenge is answered meanwhile.
    ///
    /// # Errors
    ///
    /// [`UeError::Failed`], [`UeError::Gone`].
    pub async fn send(&self, draft: Draft) -> Result<Message, UeError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Send(draft, reply)).await?;
        answer.await.map_err(|_| UeError::Gone)?.map_err(UeError::Failed)
    }

    /// What was agreed on with the edge; `None` if nothing was.
    ///
    /// # Errors
    ///
    /// [`UeError::Gone`].
    pub async fn agreed_on(&self) -> Result<Option<Protection>, UeError> {
        let (reply, agreed) = oneshot::channel();
        self.command(Command::Agreed(reply)).await?;
        agreed.await.map_err(|_| UeError::Gone)
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    ///
    /// [`UeError::Gone`].
    pub async fn send_raw(&self, octets: impl Into<Bytes>) -> Result<(), UeError> {
        self.command(Command::Raw(octets.into())).await
    }

    async fn command(&self, command: Command) -> Result<(), UeError> {
        self.commands.send(command).await.map_err(|_| UeError::Gone)
    }

    /// The next message that came and was not the answer to anything asked here: requests, and stray
    /// responses. `None` if nothing comes within that time.
    pub async fn incoming(&self, within: Duration) -> Option<Message> {
        let mut events = self.events.lock().await;
        tokio::time::timeout(within, events.recv()).await.ok().flatten()
    }
}

/// The task's side.
struct Phone {
    agent: Agent,
    flow: Flow,
    waiting: HashMap<u64, oneshot::Sender<Result<Message, Failure>>>,
    tell: mpsc::Sender<Message>,
    trace: Option<Trace>,
}

impl Phone {
    fn new(settings: &UeSettings, local: SocketAddr, tell: mpsc::Sender<Message>) -> Self {
        let transport = settings.transport;
        let user = settings.identity.split_once(':').map_or("", |(_, rest)| rest);
        let user = user.split('@').next().unwrap_or_default();
        let parameter = if transport == Transport::Udp {
            String::new()
        } else {
            format!(";transport={}", transport.uri_token())
        };
        let bootstrapped = settings.credentials.iter().any(|c| matches!(c, Credential::Gba { .. }));
        let token = if bootstrapped { " 3gpp-gba" } else { "" };
        let host = if transport.is_websocket() { ws::nowhere() } else { local.to_string() };
        let voice = Voice {
            identity: settings.identity.clone(),
            via: format!("SIP/2.0/{} {host}", transport.via_token()),
            contact: format!("sip:{user}@{host}{parameter}"),
            agent: format!("sipward-ue/{}{token}", env!("CARGO_PKG_VERSION")),
        };
        let seed = u64::from_be_bytes(clock::random());
        let cnonce = format!("{:016x}", u64::from_be_bytes(clock::random()));
        let mut answerer = Answerer::new(
            settings.credentials.clone(),
            &settings.edge_name,
            settings.floor,
            cnonce,
        );
        if settings.sec_agree {
            answerer = answerer.agreeing(transport == Transport::Tls);
        }
        let flow =
            Flow { transport, listener: ListenerId(0), remote: settings.edge, connection: None };
        Self {
            agent: Agent::new(voice, answerer, transport, format!("{seed:016x}"), clock::random()),
            flow,
            waiting: HashMap::new(),
            tell,
            trace: settings.trace.clone(),
        }
    }

    async fn run_datagrams(mut self, socket: UdpSocket, mut inbox: mpsc::Receiver<Command>) {
        let mut buffer = vec![0; 65_536];
        loop {
            for octets in self.drain() {
                if socket.send(&octets).await.is_err() {
                    continue; // a refused port: the transaction's timer tells
                }
            }
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                read = socket.recv(&mut buffer) => if let Ok(length) = read {
                    let octets = Bytes::copy_from_slice(&buffer[..length]);
                    if let Ok(message) = Message::from_datagram(octets) {
                        self.take(message);
                    }
                },
                () = until(self.agent.poll_timeout()) => self.agent.expire(clock::now()),
            }
        }
    }

    #[cfg(feature = "webrtc-dtls")]
    async fn start_dtls(
        self,
        socket: UdpSocket,
        inbox: mpsc::Receiver<Command>,
        settings: &UeSettings,
    ) -> Result<(), UeError> {
        let line = Line::connect(socket, settings).await?;
        tokio::spawn(self.run_dtls(line, inbox));
        Ok(())
    }

    #[cfg(not(feature = "webrtc-dtls"))]
    async fn start_dtls(
        self,
        _: UdpSocket,
        _: mpsc::Receiver<Command>,
        _: &UeSettings,
    ) -> Result<(), UeError> {
        Err(UeError::Tls("this program was built without the feature webrtc-dtls".into()))
    }

    #[cfg(feature = "webrtc-dtls")]
    async fn run_dtls(mut self, mut line: Line, mut inbox: mpsc::Receiver<Command>) {
        loop {
            for octets in self.drain() {
                line.send(&octets);
            }
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return line.close().await,
                },
                read = line.recv() => match read {
                    Some(octets) => if let Ok(message) = Message::from_datagram(octets) {
                        self.take(message);
                    },
                    None => return self.end(),
                },
                () = until(self.agent.poll_timeout()) => self.agent.expire(clock::now()),
            }
        }
    }

    async fn run_ws<S>(mut self, mut line: WsLine<S>, mut inbox: mpsc::Receiver<Command>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            for octets in self.drain() {
                if !line.send(&octets).await {
                    return self.end();
                }
            }
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return line.close().await,
                },
                read = line.recv() => match read {
                    Some(message) => self.take(message),
                    None => return self.end(),
                },
                () = until(self.agent.poll_timeout()) => self.agent.expire(clock::now()),
            }
        }
    }

    async fn run_stream<S>(mut self, stream: S, mut inbox: mpsc::Receiver<Command>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut held, mut framer) = (BytesMut::with_capacity(16 * 1024), Framer::new());
        loop {
            for octets in self.drain() {
                if writer.write_all(&octets).await.is_err() {
                    return self.end();
                }
            }
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                read = reader.read_buf(&mut held) => match read {
                    Ok(0) | Err(_) => return self.end(),
                    Ok(_) => loop {
                        match framer.next(&mut held, MESSAGE_MAX_KNOWN) {
                            Framed::Message(message) => self.take(message),
                            Framed::Ping => self.agent.send_raw(&b"\r\n"[..]),
                            Framed::More => break,
                            Framed::Broken(_) => return self.end(),
                        }
                    },
                },
                () = until(self.agent.poll_timeout()) => self.agent.expire(clock::now()),
            }
        }
    }

    fn take(&mut self, message: Message) {
        if let Some(trace) = &self.trace {
            trace(false, message.octets());
        }
        let flow = self.flow;
        if message.status().is_some() && message.first(Name::Via).is_none() {
            return;
        }
        self.agent.receive(message, &flow, clock::now());
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Send(draft, reply) => {
                let id = self.agent.send(draft, clock::now());
                self.waiting.insert(id, reply);
            }
            Command::Draft(method, uri, reply) => drop(reply.send(self.agent.draft(method, &uri))),
            Command::Inside(call, method, reply) => {
                drop(reply.send(self.agent.draft_in(&call, method)));
            }
            Command::Agreed(reply) => drop(reply.send(self.agent.answerer().agreed_on())),
            Command::Raw(octets) => self.agent.send_raw(octets),
        }
    }

    /// What is to be sent, after everything that happened was told.
    fn drain(&mut self) -> Vec<Bytes> {
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Final { id, response } => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        drop(reply.send(Ok(*response)));
                    }
                }
                Event::Failed { id, why } => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        drop(reply.send(Err(why)));
                    }
                }
                // Who does not look at what comes in loses it when the queue is full.
                Event::Incoming(message) => drop(self.tell.try_send(*message)),
                Event::Provisional { .. } => {}
            }
        }
        let sent: Vec<Bytes> = std::iter::from_fn(|| self.agent.poll_output()).collect();
        if let Some(trace) = &self.trace {
            sent.iter().for_each(|octets| trace(true, octets));
        }
        sent
    }

    fn end(mut self) {
        self.agent.lost(clock::now());
        self.drain();
    }
}

/// Shakes hands with a shared key.
#[cfg(feature = "openssl")]
async fn shared(
    psk: &PskClient,
    edge_name: &str,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, UeError> {
    let shaken = crate::transport::psk_tls::connect(psk, edge_name, stream).await;
    shaken.map_err(|why| UeError::SharedKey(why.to_string()))
}

#[cfg(not(feature = "openssl"))]
async fn shared(_: &PskClient, _: &str, stream: TcpStream) -> Result<TcpStream, UeError> {
    drop(stream);
    Err(UeError::SharedKey("this program was built without the feature openssl".into()))
}

async fn until(deadline: Option<crate::instant::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep(at.since(clock::mono())).await,
        None => std::future::pending().await,
    }
}

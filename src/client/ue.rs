//! The UE, with a socket: a handle to the task that has it.
//!
//! Takes:   the edge's address, a transport, an identity and credentials.
//! Gives:   [`Ue`]: register, options, message, subscribe, call, transfer; what came in, as events.
//! Keeps:   one flow; at most `QUEUE` commands and `QUEUE` events.
//! Refuses: a TLS server whose certificate is not for the name that was dialled (RFC 5922 section 7.3).
//! Sources: RFC 3261 section 18; RFC 5626 section 4.2; RFC 5922.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::agent::Failure;
use super::agreement::Protection;
use super::answer::Credential;
use super::draft::Draft;
use super::keeping::Kept;
use super::phone::{Phone, shared};
use super::pushed::Pushed;
use super::services::{self, Referred};
use super::ws::{self, Line as WsLine};
use crate::authentication::digest::Hash;
use crate::keys::psk::PskClient;
use crate::provision::Lists;
use crate::transport::peer::Trust;
use crate::transport::tls::Certificate;
use crate::transport::ws::Offer;
use crate::transport::{Transport, tls};
use crate::wire::Message;
use crate::wire::respond::reason;

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
    /// The certificate that it shows over DTLS, where it is asked for one. Over TLS it is in `tls`.
    pub shows: Option<Arc<Certificate>>,
    /// What it asks a WebSocket server for.
    pub ws: Offer,
    /// Whether it wants an agreement with the edge on what protects its requests (RFC 3329).
    pub sec_agree: bool,
    /// What it was told to trust, asked at each challenge; whatever its user says if `None`.
    pub lists: Option<Lists>,
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

pub(super) enum Command {
    Send(Box<Draft>, oneshot::Sender<Result<Message, Failure>>),
    Draft(&'static str, String, oneshot::Sender<Draft>),
    Inside(String, &'static str, oneshot::Sender<Option<Draft>>),
    Transfer(String, String, oneshot::Sender<Option<Draft>>),
    Renew(Vec<Credential>),
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
    kept: Arc<Kept>,
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
        Self::connect_with(settings, None).await
    }

    /// The same; what is pushed is taken with `pushed`.
    ///
    /// # Errors
    ///
    /// As [`Ue::connect`].
    pub async fn connect_with(
        settings: UeSettings,
        pushed: Option<Arc<Pushed>>,
    ) -> Result<Self, UeError> {
        let any: SocketAddr =
            if settings.edge.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
        let bind = settings.local.unwrap_or(any);
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (tell, events) = mpsc::channel(QUEUE);
        let kept = Arc::<Kept>::default();
        let local = match settings.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(bind).await.map_err(UeError::Connect)?;
                socket.connect(settings.edge).await.map_err(UeError::Connect)?;
                let local = socket.local_addr().map_err(UeError::Connect)?;
                let phone = Phone::new(&settings, local, tell, Arc::clone(&kept), pushed);
                tokio::spawn(phone.run_datagrams(socket, inbox));
                local
            }
            Transport::Dtls => {
                let socket = UdpSocket::bind(bind).await.map_err(UeError::Connect)?;
                socket.connect(settings.edge).await.map_err(UeError::Connect)?;
                let local = socket.local_addr().map_err(UeError::Connect)?;
                let phone = Phone::new(&settings, local, tell, Arc::clone(&kept), pushed);
                phone.start_dtls(socket, inbox, &settings).await?;
                local
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                let stream = TcpStream::connect(settings.edge).await.map_err(UeError::Connect)?;
                stream.set_nodelay(true).map_err(UeError::Connect)?;
                let local = stream.local_addr().map_err(UeError::Connect)?;
                let phone = Phone::new(&settings, local, tell, Arc::clone(&kept), pushed);
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
        let (events, identity) = (Mutex::new(events), settings.identity);
        Ok(Self { commands, events, local, identity, kept })
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
        let draft = self.registration(expires).await?;
        self.send(draft.with("Supported", "path")).await
    }

    /// Registers this flow as one of several of an instance, `urn:uuid:...`; zero seconds end it.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn register_flow(
        &self,
        instance: &str,
        reg_id: u32,
        expires: u32,
    ) -> Result<Message, UeError> {
        let mut draft = self.registration(expires).await?;
        draft.contact_params = format!(";reg-id={reg_id};+sip.instance=\"<{instance}>\"");
        self.send(draft.with("Supported", "path, outbound")).await
    }

    async fn registration(&self, expires: u32) -> Result<Draft, UeError> {
        let domain = self.identity.split_once('@').map_or("", |(_, domain)| domain);
        let mut draft = self.draft("REGISTER", &format!("sip:{domain}")).await?;
        draft.to.clone_from(&self.identity);
        draft.keep = true;
        Ok(draft.with("Expires", expires.to_string()))
    }

    /// Waits until the flow is over: it was closed, or its pings were not answered.
    pub async fn over(&self) {
        self.commands.closed().await;
    }

    /// Whether the flow has served: nothing was asked of it, or a ping was answered.
    pub fn has_served(&self) -> bool {
        self.kept.has_served()
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
        self.invite(draft).await
    }

    /// Calls by an INVITE that was drafted before; without a body it offers audio.
    ///
    /// # Errors
    ///
    /// [`UeError`].
    pub async fn invite(&self, draft: Draft) -> Result<Call, UeError> {
        let call_id = draft.call_id.clone();
        if !draft.body.is_empty() {
            return Ok(Call { call_id, answer: self.send(draft).await? });
        }
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

    /// Asks the other end of one call to take our place in another.
    ///
    /// # Errors
    ///
    /// [`UeError`]; [`UeError::Gone`] if there is no such call.
    pub async fn transfer(&self, call_id: &str, other: &str) -> Result<Message, UeError> {
        let (reply, draft) = oneshot::channel();
        self.command(Command::Transfer(call_id.to_owned(), other.to_owned(), reply)).await?;
        self.send(draft.await.ok().flatten().ok_or(UeError::Gone)?).await
    }

    /// Does what a REFER that came asks for, and tells its sender how it went.
    ///
    /// # Errors
    ///
    /// [`UeError`]; [`UeError::Gone`] if it cannot be followed.
    pub async fn follow(&self, refer: &Message) -> Result<Call, UeError> {
        let referred = Referred::of(refer).ok_or(UeError::Gone)?;
        let mut draft = self.draft("INVITE", &referred.uri).await?;
        if let Some(replaces) = referred.replaces {
            draft = draft.with("Replaces", replaces);
        }
        let call = self.invite(draft).await?;
        let status = call.answer.status().unwrap_or(500);
        let asked_in = String::from_utf8_lossy(refer.call_id()).into_owned();
        let word = self.inside(&asked_in, "NOTIFY").await?;
        let line = format!("SIP/2.0 {status} {}", reason(status));
        self.send(services::told(word, &line)).await?;
        Ok(call)
    }

    /// Proves itself with other credentials from now on: those of a new bootstrapping run, say. Calls stay up.
    ///
    /// # Errors
    ///
    /// [`UeError::Gone`].
    pub async fn renew(&self, credentials: Vec<Credential>) -> Result<(), UeError> {
        self.command(Command::Renew(credentials)).await
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
        self.command(Command::Send(Box::new(draft), reply)).await?;
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

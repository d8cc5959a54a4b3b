//! The UE, the task behind it: one flow, an [`Agent`] that is moved by what comes on it, and the pings that keep it.
//!
//! Takes:   commands of a [`Ue`](super::ue::Ue), octets, the time.
//! Gives:   octets, answers to commands, what came in.
//! Keeps:   one flow, and who waits for which answer.
//! Refuses: nothing by itself. A flow whose pings are not answered is over.
//! Sources: RFC 3261 section 18; RFC 5626 sections 4.4 and 4.5.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use super::agent::{Agent, Event, Failure};
use super::answer::{Answerer, Credential};
use super::draft::Voice;
#[cfg(feature = "webrtc-dtls")]
use super::dtls::Line;
use super::keeping::{KeepAlive, Kept};
use super::pushed::Pushed;
use super::ue::{Command, Trace, UeError, UeSettings};
use super::ws::{self, Heard, Line as WsLine};
use crate::clock;
use crate::instant::Instant;
use crate::keys::GbaType;
use crate::keys::psk::PskClient;
use crate::transport::demux::{self, Kind};
use crate::transport::{Flow, ListenerId, Transport};
use crate::wire::message::MESSAGE_MAX_KNOWN;
use crate::wire::{Framed, Framer, Message, Name};

/// The task's side.
pub(super) struct Phone {
    agent: Agent,
    flow: Flow,
    waiting: HashMap<u64, oneshot::Sender<Result<Message, Failure>>>,
    tell: mpsc::Sender<Message>,
    trace: Option<Trace>,
    pings: KeepAlive,
    kept: Arc<Kept>,
}

impl Phone {
    pub(super) fn new(
        settings: &UeSettings,
        local: SocketAddr,
        tell: mpsc::Sender<Message>,
        kept: Arc<Kept>,
        pushed: Option<Arc<Pushed>>,
    ) -> Self {
        let transport = settings.transport;
        let user = settings.identity.split_once(':').map_or("", |(_, rest)| rest);
        let user = user.split('@').next().unwrap_or_default();
        let parameter = if transport == Transport::Udp {
            String::new()
        } else {
            format!(";transport={}", transport.uri_token())
        };
        let of = |kind| {
            let has =
                |c: &Credential| matches!(c, Credential::Gba { keys, .. } if keys.kind() == kind);
            settings.credentials.iter().any(has)
        };
        let token = match (of(GbaType::Aka), of(GbaType::Digest)) {
            (false, false) => "",
            (true, false) => " 3gpp-gba",
            (false, true) => " 3gpp-gba-digest",
            (true, true) => " 3gpp-gba 3gpp-gba-digest",
        };
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
        if let Some(lists) = &settings.lists {
            answerer = answerer.trusting(lists.clone());
        }
        if settings.sec_agree {
            answerer = answerer.agreeing(transport == Transport::Tls);
        }
        let flow =
            Flow { transport, listener: ListenerId(0), remote: settings.edge, connection: None };
        let seed = format!("{seed:016x}");
        let mut agent = Agent::new(voice, answerer, transport, seed, clock::random());
        agent.pushed = pushed;
        Self {
            agent,
            flow,
            waiting: HashMap::new(),
            tell,
            trace: settings.trace.clone(),
            pings: KeepAlive::new(transport, clock::random()),
            kept,
        }
    }

    pub(super) async fn run_datagrams(
        mut self,
        socket: UdpSocket,
        mut inbox: mpsc::Receiver<Command>,
    ) {
        let mut buffer = vec![0; 65_536];
        loop {
            if self.pings.has_failed() {
                return self.end();
            }
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
                    let octets = buffer.get(..length).unwrap_or_default();
                    if demux::datagram(octets) == Kind::Stun {
                        self.pings.stun(octets, clock::mono());
                    } else if let Ok(message) = Message::from_datagram(Bytes::copy_from_slice(octets)) {
                        self.take(message);
                    }
                },
                () = until(self.poll_timeout()) => self.expire(),
            }
        }
    }

    #[cfg(feature = "webrtc-dtls")]
    pub(super) async fn start_dtls(
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
    pub(super) async fn start_dtls(
        self,
        _: UdpSocket,
        _: mpsc::Receiver<Command>,
        _: &UeSettings,
    ) -> Result<(), UeError> {
        Err(UeError::Tls("this program was built without the feature webrtc-dtls".into()))
    }

    #[cfg(feature = "webrtc-dtls")]
    pub(super) async fn run_dtls(mut self, mut line: Line, mut inbox: mpsc::Receiver<Command>) {
        loop {
            if self.pings.has_failed() {
                return self.end();
            }
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
                () = until(self.poll_timeout()) => self.expire(),
            }
        }
    }

    pub(super) async fn run_ws<S>(mut self, mut line: WsLine<S>, mut inbox: mpsc::Receiver<Command>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if self.pings.has_failed() {
                return self.end();
            }
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
                    Some(Heard::Message(message)) => self.take(message),
                    Some(Heard::Pong) => self.pings.pong(clock::mono()),
                    None => return self.end(),
                },
                () = until(self.poll_timeout()) => self.expire(),
            }
        }
    }

    pub(super) async fn run_stream<S>(mut self, stream: S, mut inbox: mpsc::Receiver<Command>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut held, mut framer) = (BytesMut::with_capacity(16 * 1024), Framer::new());
        loop {
            if self.pings.has_failed() {
                return self.end();
            }
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
                        if self.pings.waits_for_pong()
                            && !framer.is_under_way()
                            && held.starts_with(b"\r\n")
                        {
                            held.advance(2);
                            self.pings.pong(clock::mono());
                        }
                        match framer.next(&mut held, MESSAGE_MAX_KNOWN) {
                            Framed::Message(message) => self.take(message),
                            Framed::Ping => self.agent.send_raw(&b"\r\n"[..]),
                            Framed::More => break,
                            Framed::Broken(_) => return self.end(),
                        }
                    },
                },
                () = until(self.poll_timeout()) => self.expire(),
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
                let id = self.agent.send(*draft, clock::now());
                self.waiting.insert(id, reply);
            }
            Command::Draft(method, uri, reply) => drop(reply.send(self.agent.draft(method, &uri))),
            Command::Inside(call, method, reply) => {
                drop(reply.send(self.agent.draft_in(&call, method)));
            }
            Command::Transfer(call, other, reply) => {
                drop(reply.send(self.agent.draft_transfer(&call, &other)));
            }
            Command::Renew(credentials) => self.agent.answerer().renew(credentials),
            Command::Agreed(reply) => drop(reply.send(self.agent.answerer().agreed_on())),
            Command::Raw(octets) => self.agent.send_raw(octets),
        }
    }

    /// What is to be sent, after everything that happened was told.
    fn drain(&mut self) -> Vec<Bytes> {
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Final { id, response } => {
                    self.pings.told(&response, clock::mono());
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
        let mut sent: Vec<Bytes> = std::iter::from_fn(|| self.agent.poll_output()).collect();
        if let Some(trace) = &self.trace {
            sent.iter().for_each(|octets| trace(true, octets));
        }
        sent.extend(std::iter::from_fn(|| self.pings.poll_output()));
        self.kept.note(&self.pings);
        sent
    }

    /// When something is due.
    fn poll_timeout(&self) -> Option<Instant> {
        [self.agent.poll_timeout(), self.pings.poll_timeout()].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        let now = clock::now();
        self.agent.expire(now);
        self.pings.expire(now.mono);
    }

    fn end(mut self) {
        self.agent.lost(clock::now());
        self.drain();
    }
}

/// Shakes hands with a shared key.
#[cfg(feature = "openssl")]
pub(crate) async fn shared(
    psk: &PskClient,
    edge_name: &str,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, UeError> {
    let shaken = crate::transport::psk_tls::connect(psk, edge_name, stream).await;
    shaken.map_err(|why| UeError::SharedKey(why.to_string()))
}

#[cfg(not(feature = "openssl"))]
pub(crate) async fn shared(
    _: &PskClient,
    _: &str,
    stream: TcpStream,
) -> Result<TcpStream, UeError> {
    drop(stream);
    Err(UeError::SharedKey("this program was built without the feature openssl".into()))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep(at.since(clock::mono())).await,
        None => std::future::pending().await,
    }
}

//! The audit, lines: one end of ours, over any transport, that sends whatever octets it is given.
//!
//! Takes:   where the target is, who is to be played, octets.
//! Gives:   what came: a message, octets that are none, the end of the connection, or nothing in time; the octets as they came,
//!          where no message is looked for.
//! Keeps:   one socket; what came of a message under way, up to [`HELD_MAX`] octets.
//! Refuses: to send faster than the pace that was set; a TLS or DTLS server that does not prove its name.
//! Sources: RFC 3261 section 18; RFC 5922; RFC 7118.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::exchange::{Log, OCTETS_MAX, Way};
use super::plan::{Door, Plan};
#[cfg(feature = "webrtc-dtls")]
use crate::client::dtls;
use crate::client::ws;
use crate::transport::{Transport, tls};
use crate::wire::message::MESSAGE_MAX_KNOWN;
use crate::wire::{Framed, Framer, Message};

/// Most octets of one message under way.
const HELD_MAX: usize = 1 << 20;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How far the octets of a dribbled message are apart.
const DRIBBLE: Duration = Duration::from_millis(1);

/// One after the other, and so far apart: all ends of an audit together.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// So many a second.
    pub fn new(rate: u32) -> Self {
        let every = Duration::from_secs(1).checked_div(rate).unwrap_or(Duration::from_secs(1));
        Self { every, next: Mutex::new(Instant::now()) }
    }

    /// Waits for one's turn.
    pub async fn turn(&self) {
        let mut next = self.next.lock().await;
        tokio::time::sleep_until(*next).await;
        *next = Instant::now() + self.every;
    }
}

/// What came.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Message(Message),
    /// Octets that are none.
    Octets(Bytes),
    /// The connection is over.
    Closed,
    /// Nothing, in that time.
    Nothing,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

enum Wire {
    Datagrams(UdpSocket),
    Stream {
        io: Box<dyn Stream>,
        framer: Framer,
        held: BytesMut,
    },
    #[cfg(feature = "webrtc-dtls")]
    Dtls(Box<dtls::Line>),
    WebSocket(Box<ws::Line<Box<dyn Stream>>>),
    Over,
}

/// One end of ours.
pub struct Line {
    wire: Wire,
    door: Door,
    local: SocketAddr,
    who: String,
    log: Log,
    pace: Arc<Pace>,
}

impl Line {
    /// Opens one to `door`, from `from` if that can be chosen.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn open(
        plan: &Plan,
        door: Door,
        from: Option<SocketAddr>,
        who: &str,
        log: &Log,
        pace: &Arc<Pace>,
    ) -> io::Result<Self> {
        let bind = from.unwrap_or(SocketAddr::new(own_address(door.address)?, 0));
        let opened = timeout(CONNECT, Wire::open(plan, door, bind)).await;
        let (wire, local) = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (who, log, pace) = (who.to_owned(), log.clone(), Arc::clone(pace));
        Ok(Self { wire, door, local, who, log, pace })
    }

    /// Our address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Where it leads.
    pub fn transport(&self) -> Transport {
        self.door.transport
    }

    /// Who is played.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// The log that it writes in.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sends octets as they are, at the pace that was set.
    pub async fn send(&mut self, octets: &[u8]) {
        self.pace.turn().await;
        self.log.octets(&self.who, Way::Sent, octets);
        self.put(octets).await;
    }

    /// Sends octets as they are, at once and unwritten: one of very many.
    pub async fn put(&mut self, octets: &[u8]) {
        let sent = match &mut self.wire {
            Wire::Datagrams(socket) => socket.send_to(octets, self.door.address).await.map(drop),
            Wire::Stream { io, .. } => match io.write_all(octets).await {
                Ok(()) => io.flush().await,
                failed => failed,
            },
            #[cfg(feature = "webrtc-dtls")]
            Wire::Dtls(line) => {
                line.send(octets);
                Ok(())
            }
            // Closed or not: `hear` says so.
            Wire::WebSocket(line) => {
                line.send(octets).await;
                Ok(())
            }
            Wire::Over => Ok(()),
        };
        // A connection that was closed in between: `hear` says so.
        if let Err(why) = sent {
            self.log.remark(&self.who, &format!("could not be sent: {why}"));
        }
    }

    /// Sends one message octet by octet, each in a segment of its own.
    pub async fn dribble(&mut self, octets: &[u8]) {
        self.pace.turn().await;
        self.log.octets(&self.who, Way::Sent, octets);
        self.log.remark(&self.who, &format!("in {} segments of one octet", octets.len()));
        for octet in octets {
            self.put(&[*octet]).await;
            tokio::time::sleep(DRIBBLE).await;
        }
    }

    /// Sends a datagram beside the DTLS session, as whoever forges our address would.
    pub async fn inject(&mut self, datagram: &[u8]) {
        self.pace.turn().await;
        self.log.octets("forger", Way::Sent, datagram);
        #[cfg(feature = "webrtc-dtls")]
        if let Wire::Dtls(line) = &self.wire {
            line.inject(datagram);
        }
    }

    /// What comes next, if anything does in that time.
    pub async fn hear(&mut self, within: Duration) -> Heard {
        let heard = timeout(within, self.wire.hear()).await;
        self.noted(heard.unwrap_or(Heard::Nothing))
    }

    /// The octets that come next, as they come: no message is looked for.
    pub async fn raw(&mut self, within: Duration) -> Heard {
        let heard = timeout(within, self.wire.raw()).await;
        self.noted(heard.unwrap_or(Heard::Nothing))
    }

    fn noted(&mut self, heard: Heard) -> Heard {
        match &heard {
            Heard::Message(message) => {
                self.log.octets(&self.who, Way::Received, message.octets());
            }
            Heard::Octets(octets) => self.log.octets(&self.who, Way::Received, octets),
            Heard::Closed => {
                if !matches!(self.wire, Wire::Over) {
                    self.log.remark(&self.who, "the target closed the connection");
                }
                self.wire = Wire::Over;
            }
            Heard::Nothing => {}
        }
        heard
    }
}

impl Wire {
    async fn open(plan: &Plan, door: Door, bind: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        match door.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(bind).await?;
                let local = socket.local_addr()?;
                Ok((Self::Datagrams(socket), local))
            }
            Transport::Dtls => Self::open_dtls(plan, door, bind).await,
            Transport::Tcp => {
                let socket = match bind {
                    SocketAddr::V4(_) => TcpSocket::new_v4(),
                    SocketAddr::V6(_) => TcpSocket::new_v6(),
                }?;
                socket.bind(bind)?;
                let stream = socket.connect(door.address).await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Self::stream(Box::new(stream)), local))
            }
            Transport::Tls => {
                let (io, local) = Self::open_tls(plan, door).await?;
                Ok((Self::stream(io), local))
            }
            Transport::Ws | Transport::Wss => {
                let (io, local): (Box<dyn Stream>, _) = match door.transport {
                    Transport::Wss => Self::open_tls(plan, door).await?,
                    _ => {
                        let stream = TcpStream::connect(door.address).await?;
                        let local = stream.local_addr()?;
                        (Box::new(stream), local)
                    }
                };
                let line = ws::Line::connect(io, &plan.authority(door), &plan.ws).await;
                let line = line.map_err(|why| io::Error::other(why.to_string()))?;
                Ok((Self::WebSocket(Box::new(line)), local))
            }
        }
    }

    fn stream(io: Box<dyn Stream>) -> Self {
        Self::Stream { io, framer: Framer::new(), held: BytesMut::new() }
    }

    async fn open_tls(plan: &Plan, door: Door) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let trust = plan.trust.clone().ok_or_else(|| io::Error::other(NO_TRUST))?;
        let config = tls::client_config(trust, None).map_err(io::Error::other)?;
        let stream = TcpStream::connect(door.address).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let shaken = tls::connect(config, &plan.name, stream).await;
        let (stream, _) = shaken.map_err(|why| io::Error::other(why.to_string()))?;
        Ok((Box::new(stream), local))
    }

    #[cfg(feature = "webrtc-dtls")]
    async fn open_dtls(
        plan: &Plan,
        door: Door,
        bind: SocketAddr,
    ) -> io::Result<(Self, SocketAddr)> {
        let trust = plan.trust.clone().ok_or_else(|| io::Error::other(NO_TRUST))?;
        let socket = UdpSocket::bind(bind).await?;
        socket.connect(door.address).await?;
        let local = socket.local_addr()?;
        let line = dtls::Line::with_certificate(socket, trust, &plan.name).await;
        let line = line.map_err(|why| io::Error::other(why.to_string()))?;
        Ok((Self::Dtls(Box::new(line)), local))
    }

    #[cfg(not(feature = "webrtc-dtls"))]
    async fn open_dtls(_: &Plan, _: Door, _: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        Err(io::Error::other("this program was built without the feature webrtc-dtls"))
    }

    async fn hear(&mut self) -> Heard {
        match self {
            Self::Datagrams(socket) => {
                let mut room = vec![0; 65_536];
                let Ok((length, _)) = socket.recv_from(&mut room).await else {
                    // A port that refuses tells so once for each datagram: the silence is waited for.
                    return std::future::pending().await;
                };
                room.truncate(length);
                judged(room.into())
            }
            Self::Stream { io, framer, held } => loop {
                let head = Bytes::copy_from_slice(held.get(..OCTETS_MAX).unwrap_or(held));
                match framer.next(held, MESSAGE_MAX_KNOWN) {
                    Framed::Message(message) => return Heard::Message(message),
                    Framed::Broken(_) | Framed::Ping => return Heard::Octets(head),
                    Framed::More => {}
                }
                let begins = held.first().copied();
                if begins.is_some_and(|octet| !octet.is_ascii()) || held.len() > HELD_MAX {
                    return Heard::Octets(held.split().freeze());
                }
                match io.read_buf(held).await {
                    Ok(0) | Err(_) => return Heard::Closed,
                    Ok(_) => {}
                }
            },
            #[cfg(feature = "webrtc-dtls")]
            Self::Dtls(line) => match line.recv().await {
                Some(octets) => judged(octets),
                None => Heard::Closed,
            },
            Self::WebSocket(line) => match line.recv().await {
                Some(ws::Heard::Message(message)) => Heard::Message(message),
                Some(ws::Heard::Pong) => Heard::Octets(Bytes::from_static(b"\r\n")),
                None => Heard::Closed,
            },
            Self::Over => Heard::Closed,
        }
    }

    async fn raw(&mut self) -> Heard {
        let Self::Stream { io, held, .. } = self else { return self.hear().await };
        if held.is_empty() && !matches!(io.read_buf(held).await, Ok(1..)) {
            return Heard::Closed;
        }
        Heard::Octets(held.split().freeze())
    }
}

fn judged(octets: Bytes) -> Heard {
    match Message::from_datagram(octets.clone()) {
        Ok(message) => Heard::Message(message),
        Err(_) => Heard::Octets(octets),
    }
}

/// The address that the target sees us under.
///
/// # Errors
///
/// There is no way there.
pub(super) fn own_address(target: SocketAddr) -> io::Result<IpAddr> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

const NO_TRUST: &str = "whose certificates are good was not said (--ca)";

//! The UE, WebSocket: the same phone, in messages such as a browser sends.
//!
//! Takes:   a connection, TLS or not, and what to ask for.
//! Gives:   [`Line`]: messages out, messages in; pings are answered.
//! Keeps:   the message under way, at most the bound of a known peer.
//! Refuses: a server that does not agree to SIP over WebSocket, or answers not within 10 s; frames that a server may not send.
//! Sources: RFC 6455 sections 4.1, 5.3 and 7.1; RFC 7118 sections 4 and 5.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::ue::{UeError, UeSettings};
use crate::clock;
use crate::transport::ws::{CloseCode, Item, Offer, Opcode, Reader, Role, frame, opening};
use crate::wire::Message;
use crate::wire::message::MESSAGE_MAX_KNOWN;

/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What came.
pub(crate) enum Heard {
    /// A message.
    Message(Message),
    /// The answer to a ping.
    Pong,
}

/// A connection on which the handshake was made.
pub(crate) struct Line<S> {
    io: S,
    held: BytesMut,
    /// What is still to be written.
    out: BytesMut,
    reader: Reader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Asks the server at `host` for SIP over WebSocket.
    pub(crate) async fn connect(io: S, host: &str, offer: &Offer) -> Result<Self, UeError> {
        let opened = timeout(HANDSHAKE, Self::open(io, host, offer)).await;
        opened.map_err(|_| UeError::WebSocket("no answer in 10 s".into()))?
    }

    async fn open(mut io: S, host: &str, offer: &Offer) -> Result<Self, UeError> {
        let (request, key) = offer
            .request(host, clock::random())
            .ok_or_else(|| UeError::WebSocket("origin or path cannot be sent".into()))?;
        io.write_all(request.as_bytes()).await.map_err(UeError::Connect)?;
        io.flush().await.map_err(UeError::Connect)?;
        let mut held = BytesMut::with_capacity(1024);
        loop {
            if io.read_buf(&mut held).await.map_err(UeError::Connect)? == 0 {
                return Err(UeError::WebSocket("closed without an answer".into()));
            }
            if let Some(head) = opening::accepted(&held, &key).map_err(UeError::WebSocket)? {
                drop(held.split_to(head));
                return Ok(Self {
                    io,
                    held,
                    out: BytesMut::new(),
                    reader: Reader::new(Role::Client),
                });
            }
        }
    }

    /// Sends a message; `false` once the connection is over.
    pub(crate) async fn send(&mut self, message: &[u8]) -> bool {
        frame::put_message(&mut self.out, message, Some(clock::random()));
        self.write().await
    }

    /// Writes what is to be written. If it is not waited for, what is left is written the next time.
    async fn write(&mut self) -> bool {
        while !self.out.is_empty() {
            if self.io.write_buf(&mut self.out).await.is_err() {
                return false;
            }
        }
        self.io.flush().await.is_ok()
    }

    /// What comes next; `None` once the connection is over. It may be asked again after it was not waited for.
    pub(crate) async fn recv(&mut self) -> Option<Heard> {
        loop {
            match self.reader.next(&mut self.held, MESSAGE_MAX_KNOWN) {
                Item::More => {
                    if !self.write().await {
                        return None;
                    }
                    if self.io.read_buf(&mut self.held).await.ok()? == 0 {
                        return None;
                    }
                }
                Item::Message(octets) => match Message::from_websocket(octets.clone()) {
                    Ok(message) => return Some(Heard::Message(message)),
                    Err(_) if &octets[..] == b"\r\n" => return Some(Heard::Pong),
                    Err(_) => return self.end(CloseCode::PAYLOAD).await,
                },
                Item::Ping(payload) => {
                    frame::put(&mut self.out, Opcode::Pong, &payload, Some(clock::random()));
                }
                Item::Pong => {}
                Item::Close(code) => return self.end(code.unwrap_or(CloseCode::NORMAL)).await,
                Item::Fail(code) => return self.end(code).await,
            }
        }
    }

    async fn end(&mut self, code: CloseCode) -> Option<Heard> {
        frame::put_close(&mut self.out, code, Some(clock::random()));
        // Heard or not, it is over.
        let _ = self.write().await;
        None
    }

    /// Says good-bye.
    pub(super) async fn close(mut self) {
        let _ = self.end(CloseCode::NORMAL).await;
        let _ = self.io.shutdown().await;
    }
}

/// A host that nobody can look up: what stands in Via and Contact where no address is of use.
///
/// Source: RFC 7118 appendix B.1.
pub(super) fn nowhere() -> String {
    let number = u64::from_be_bytes(clock::random());
    format!("{number:016x}.invalid")
}

/// The authority that is dialled: its port where that is not the usual one.
pub(super) fn host_of(settings: &UeSettings) -> String {
    match settings.edge.port() {
        443 => settings.edge_name.clone(),
        port => format!("{}:{port}", settings.edge_name),
    }
}

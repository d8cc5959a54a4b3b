//! Stage 1, framing of a connection: how its messages lie among its octets.
//!
//! Takes:   what was read and not yet taken; messages to send.
//! Gives:   messages and what stands between them; messages as the transport has them.
//! Keeps:   the state of a [`Framer`], or of a WebSocket [`Reader`] with the message under way.
//! Refuses: what either refuses; what is no SIP, without an answer.
//! Sources: RFC 3261 section 18.3; RFC 5626 section 4.4.1; RFC 7118 sections 4.2, 5 and 6; `TR-10`, `KA-01`, `KA-05`, `V-13`.

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Instant;

use super::Closed;
use crate::transport::Transport;
use crate::transport::demux::{self, Opening};
use crate::transport::ws::{CloseCode, Item, Opcode, Reader, Role, frame};
use crate::wire::{Framed, Framer, Malformed, Message};

/// How messages lie among the octets of a connection.
pub(super) enum Framing {
    /// One behind the other.
    Bare(Framer),
    /// Each in a WebSocket message: on the heap, so that no other connection has room for it.
    Ws(Box<Ws>),
}

/// The state of a WebSocket connection.
pub(super) struct Ws {
    reader: Reader,
    /// When we asked last whether the peer is there.
    pub(super) pinged: Option<Instant>,
    /// The number to end it with, if that is not said by the reason.
    code: Option<CloseCode>,
}

/// What was at the front.
#[allow(clippy::large_enum_variant, reason = "it is matched at once, never stored")]
pub(super) enum Taken {
    /// Not enough octets yet.
    More,
    /// A ping; it is answered.
    Ping,
    /// What needs no answer.
    Pong,
    /// A message, whole.
    Message(Message),
    /// No message: answer if it can be answered, then close.
    Broken(Malformed),
    /// No SIP: close without an answer.
    Stranger,
    /// It ends.
    Over(Closed),
}

impl Framing {
    /// That of a connection nothing was read from.
    pub(super) fn new(transport: Transport) -> Self {
        if transport.is_websocket() {
            let reader = Reader::new(Role::Server);
            Self::Ws(Box::new(Ws { reader, pinged: None, code: None }))
        } else {
            Self::Bare(Framer::new())
        }
    }

    /// Takes the next item off the front of `octets`, whose first chunk must be all of them, and puts the answer to a ping
    /// into `out`.
    pub(super) fn next(
        &mut self,
        octets: &mut impl Buf,
        bound: usize,
        out: &mut BytesMut,
    ) -> Taken {
        match self {
            Self::Bare(framer) => {
                let between = !framer.awaits_body();
                if between && is_strange(octets.chunk()) {
                    return Taken::Stranger;
                }
                match framer.next(octets, bound) {
                    Framed::More => Taken::More,
                    Framed::Ping => {
                        out.extend_from_slice(b"\r\n");
                        Taken::Ping
                    }
                    Framed::Message(message) => Taken::Message(message),
                    Framed::Broken(malformed) => Taken::Broken(malformed),
                }
            }
            Self::Ws(ws) => ws.next(octets, bound, out),
        }
    }

    /// Whether part of a message lies in it, beside `held`, which is left of what was read. Half of a ping is no message.
    pub(super) fn is_under_way(&self, held: &[u8]) -> bool {
        match self {
            Self::Bare(_) => !b"\r\n\r\n".starts_with(held),
            Self::Ws(ws) => ws.reader.is_under_way() || !held.is_empty(),
        }
    }

    /// Whether the head of the message under way was seen whole.
    pub(super) fn has_head(&self) -> bool {
        match self {
            Self::Bare(framer) => framer.awaits_body(),
            Self::Ws(ws) => ws.reader.has_head(),
        }
    }

    /// The last octets of a connection that ends for that reason.
    pub(super) fn put_farewell(&self, why: Closed, out: &mut BytesMut) {
        let Self::Ws(ws) = self else { return };
        let usual = match why {
            Closed::Peer => CloseCode::NORMAL,
            Closed::Asked | Closed::Panicked | Closed::Replaced => CloseCode::GOING_AWAY,
            _ => CloseCode::POLICY,
        };
        frame::put_close(out, ws.code.unwrap_or(usual), None);
    }
}

impl Ws {
    fn next(&mut self, octets: &mut impl Buf, bound: usize, out: &mut BytesMut) -> Taken {
        match self.reader.next(octets, bound) {
            Item::More => Taken::More,
            Item::Message(message) => self.message(message, out),
            Item::Ping(payload) => {
                frame::put(out, Opcode::Pong, &payload, None);
                Taken::Ping
            }
            Item::Pong => Taken::Pong,
            Item::Close(code) => {
                self.code = code;
                Taken::Over(Closed::Peer)
            }
            Item::Fail(code) => {
                self.code = Some(code);
                Taken::Over(Closed::Broken)
            }
        }
    }

    fn message(&mut self, octets: Bytes, out: &mut BytesMut) -> Taken {
        match &octets[..] {
            b"\r\n\r\n" => {
                frame::put_message(out, b"\r\n", None);
                Taken::Ping
            }
            b"\r\n" => Taken::Pong,
            other if is_strange(other) => Taken::Stranger,
            _ => match Message::from_websocket(octets) {
                Ok(message) => Taken::Message(message),
                Err(malformed) => {
                    self.code = Some(CloseCode::PAYLOAD);
                    Taken::Broken(malformed)
                }
            },
        }
    }
}

fn is_strange(octets: &[u8]) -> bool {
    matches!(demux::opening(octets), Opening::Close(_))
}

/// Appends a message as `transport` has it.
pub(super) fn put(transport: Transport, message: &[u8], out: &mut BytesMut) {
    if transport.is_websocket() {
        frame::put_message(out, message, None);
    } else {
        out.extend_from_slice(message);
    }
}

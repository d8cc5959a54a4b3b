//! Stage 1, held octets: a connection of which something was read before it was handed on.
//!
//! Takes:   a connection, and what was read of it too early.
//! Gives:   the same connection, that first: to the TLS that answers the hello, or to the frames of a WebSocket.
//! Keeps:   what was read too early, until it is read again; of a handshake with a shared key, at most [`HELD_MAX`] octets.
//! Refuses: a client of TLS 1.2 with a shared key that sends on before it is answered.
//! Sources: RFC 5246 section 7.4.7; RFC 4279 section 2.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client_hello::{Assembler, MESSAGE_MAX, psk_identity};

/// Most octets of one handshake that are held back while its key is fetched.
pub const HELD_MAX: usize = MESSAGE_MAX + 4096;

/// A connection: what was read ahead comes first; under OpenSSL, a ClientKeyExchange waits for its key.
#[derive(Debug)]
pub struct Held<S> {
    io: S,
    /// What comes before anything else.
    ahead: Bytes,
    /// What waits; `None` once the gate is open.
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    assembler: Assembler,
    octets: BytesMut,
    identity: Option<Vec<u8>>,
}

impl<S> Held<S> {
    /// Without holding anything back.
    pub(super) fn open(ahead: Bytes, io: S) -> Self {
        Self { io, ahead, waiting: None }
    }

    /// Holds back what follows the hello, which `ahead` must be and nothing else: `None` if it is not.
    pub(super) fn shut(ahead: Bytes, io: S) -> Option<Self> {
        let mut hello = Assembler::hello();
        let (last, before) = ahead.split_last()?;
        let is_early = hello.push(before).is_ok_and(|found| found.is_some());
        let is_whole = hello.push(std::slice::from_ref(last)).is_ok_and(|found| found.is_some());
        if is_early || !is_whole || hello.has_more() {
            return None;
        }
        let assembler = Assembler::key_exchange();
        let waiting = Waiting { assembler, octets: BytesMut::new(), identity: None };
        Some(Self { io, ahead, waiting: Some(Box::new(waiting)) })
    }

    /// The identity whose key is wanted, once: then [`Held::release`].
    pub(super) fn asks(self: Pin<&mut Self>) -> Option<Vec<u8>>
    where
        S: Unpin,
    {
        self.get_mut().waiting.as_mut()?.identity.take()
    }

    /// Lets through what waits, and everything after it.
    pub(super) fn release(self: Pin<&mut Self>)
    where
        S: Unpin,
    {
        let held = self.get_mut();
        if let Some(waiting) = held.waiting.take() {
            held.ahead = waiting.octets.freeze();
        }
    }
}

impl Waiting {
    /// Takes in what came: whether there is nothing more to wait for here.
    fn take(&mut self, octets: &[u8]) -> bool {
        self.octets.extend_from_slice(octets);
        match self.assembler.push(octets) {
            Ok(None) => self.octets.len() > HELD_MAX,
            Ok(Some(body)) => {
                self.identity = psk_identity(body).ok().map(<[u8]>::to_vec);
                self.identity.is_none()
            }
            // OpenSSL knows what to say to it.
            Err(_) => true,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let this = &mut *self;
            if !this.ahead.is_empty() {
                let now = this.ahead.len().min(buffer.remaining());
                buffer.put_slice(&this.ahead.copy_to_bytes(now));
                if this.ahead.is_empty() {
                    // What it was cut from is long.
                    this.ahead = Bytes::new();
                }
                return Poll::Ready(Ok(()));
            }
            let Some(waiting) = &mut this.waiting else {
                return Pin::new(&mut this.io).poll_read(context, buffer);
            };
            if waiting.identity.is_some() {
                // Whoever polls asks for it now.
                return Poll::Pending;
            }
            let mut room = [0; 2048];
            let mut room = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.io).poll_read(context, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if waiting.take(room.filled()) {
                self.as_mut().release();
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    /// As what it is over: TLS hands over a flight at once, and one call of the system sends it.
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

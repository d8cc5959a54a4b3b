//! Stage 1, the door of WebSocket: the opening handshake on a connection, before anything of it is served.
//!
//! Takes:   a connection, TLS or not, and the listener's rules.
//! Gives:   the same connection, on which frames are read from now on.
//! Keeps:   the head of one request, at most its bound and one read more; what came behind it, until it is read.
//! Refuses: what `opening` refuses: with its answer, and by closing.
//! Sources: RFC 6455 section 4.2; `V-75`, `V-79`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::opening::{Rules, Verdict, judge, refusal};

/// Why a connection was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It ended.
    Lost(io::ErrorKind),
    /// It spoke something else.
    Stranger,
    /// It was answered with this status.
    Refused(u16),
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(kind) => write!(f, "the connection ended in the handshake: {kind}"),
            Self::Stranger => f.write_str("this is no WebSocket"),
            Self::Refused(status) => write!(f, "the WebSocket handshake was answered {status}"),
        }
    }
}

/// A connection, and what was read of it too early.
#[derive(Debug)]
pub struct Opened<S> {
    io: S,
    ahead: BytesMut,
}

/// Reads the request on `io` and answers it.
///
/// # Errors
///
/// [`Unopened`]; the answer was sent where one is due.
pub async fn open<S>(rules: &Rules, mut io: S) -> Result<Opened<S>, Unopened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |why: io::Error| Unopened::Lost(why.kind());
    let mut ahead = BytesMut::with_capacity(FIRST_READ);
    loop {
        if io.read_buf(&mut ahead).await.map_err(lost)? == 0 {
            return Err(Unopened::Lost(io::ErrorKind::UnexpectedEof));
        }
        match judge(&ahead, rules) {
            Verdict::More => {}
            Verdict::Stranger => return Err(Unopened::Stranger),
            Verdict::Refuse(status) => {
                io.write_all(refusal(status).as_bytes()).await.map_err(lost)?;
                io.shutdown().await.map_err(lost)?;
                return Err(Unopened::Refused(status));
            }
            Verdict::Accept { head, answer } => {
                io.write_all(answer.as_bytes()).await.map_err(lost)?;
                io.flush().await.map_err(lost)?;
                ahead.advance(head);
                return Ok(Opened::new(io, ahead));
            }
        }
    }
}

/// Room for a usual request.
const FIRST_READ: usize = 1024;

impl<S> Opened<S> {
    /// `io`, of which `ahead` was read already.
    pub(crate) fn new(io: S, ahead: BytesMut) -> Self {
        // One that is empty holds no buffer.
        let ahead = if ahead.is_empty() { BytesMut::new() } else { ahead };
        Self { io, ahead }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, room);
        }
        let count = self.ahead.len().min(room.remaining());
        room.put_slice(&self.ahead.split_to(count));
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

//! Stage 1, the door of WebSocket: the opening handshake on a connection, before anything of it is served.
//!
//! Takes:   a connection, TLS or not, and the listener's rules.
//! Gives:   the same connection, on which frames are read from now on.
//! Keeps:   the rules in force; the head of one request, at most its bound and one read more; what came behind it, until it
//!          is read.
//! Refuses: what `opening` refuses: with its answer, and by closing.
//! Sources: RFC 6455 section 4.2; `V-75`, `V-79`.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::opening::{Rules, Verdict, judge, refusal};
use crate::transport::held::Held;

/// A listener's end of WebSocket: whom it lets in, replaceable while it serves.
#[derive(Debug)]
pub struct WsServer(ArcSwap<Rules>);

impl WsServer {
    /// Sets it up.
    pub fn new(rules: Rules) -> Self {
        Self(ArcSwap::from_pointee(rules))
    }

    /// Replaces the rules for connections that ask from now on; those that were let in stay.
    pub fn replace(&self, rules: Rules) {
        self.0.store(Arc::new(rules));
    }

    /// Reads the request on `io` and answers it.
    ///
    /// # Errors
    ///
    /// [`Unopened`]; the answer was sent where one is due.
    pub async fn open<S>(&self, mut io: S) -> Result<Held<S>, Unopened>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let lost = |why: io::Error| Unopened::Lost(why.kind());
        let mut ahead = BytesMut::with_capacity(FIRST_READ);
        loop {
            if io.read_buf(&mut ahead).await.map_err(lost)? == 0 {
                return Err(Unopened::Lost(io::ErrorKind::UnexpectedEof));
            }
            match judge(&ahead, &self.0.load()) {
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
                    return Ok(Held::open(ahead.freeze(), io));
                }
            }
        }
    }
}

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

/// Room for a usual request.
const FIRST_READ: usize = 1024;

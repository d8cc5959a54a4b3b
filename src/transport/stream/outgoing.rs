//! Stage 1, the way out of one connection.
//!
//! Takes:   octets to write.
//! Gives:   them to the peer, as far as it takes them.
//! Keeps:   16 KiB under way, or one message if that is longer; an idle connection holds no buffer.
//! Refuses: nothing; it notes since when the peer takes nothing.
//! Sources: `TR-17`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::OUTGOING_ENOUGH;

/// What is under way out, and since when it is stuck.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) octets: BytesMut,
    /// Whether octets were written that may still lie in a buffer below.
    unflushed: bool,
    /// Since when the peer takes nothing.
    pub(super) blocked: Option<Instant>,
}

impl Outgoing {
    pub(super) fn is_full(&self) -> bool {
        self.octets.len() >= OUTGOING_ENOUGH
    }

    pub(super) fn waits(&self) -> bool {
        self.unflushed || !self.octets.is_empty()
    }

    /// Writes, then flushes.
    pub(super) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.octets.is_empty() {
            self.unflushed = true;
            match Pin::new(&mut *io).poll_write(context, &self.octets) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.octets.advance(written);
                    self.blocked = None;
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => return self.stuck(),
            }
        }
        // An idle connection holds no buffer.
        self.octets = BytesMut::new();
        let Poll::Ready(flushed) = Pin::new(io).poll_flush(context) else { return self.stuck() };
        (self.unflushed, self.blocked) = (false, None);
        Poll::Ready(flushed)
    }

    fn stuck<T>(&mut self) -> Poll<T> {
        self.blocked.get_or_insert_with(Instant::now);
        Poll::Pending
    }
}

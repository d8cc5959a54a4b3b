//! Stage 1, sockets: what the runtime is woken for.
//!
//! Nearly always a socket can be written to, and to be told so costs a turn of the worker each time. So it is watched
//! for octets that came; for room only once the system has refused to take some.
//!
//! Takes:   connections that were accepted; sockets of datagrams.
//! Gives:   [`Connection`], read and written as any; [`has_room`] for datagrams.
//! Keeps:   nothing of what goes through; a second descriptor of the same socket, from when the system refuses octets
//!          until it takes some.
//! Refuses: to go on with a connection that blocks when no descriptor is left.
//! Sources: `TR-08`, `TR-17`.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::time::sleep;

/// A pause when a socket cannot be watched for room, so that it does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Connection {
    io: AsyncFd<TcpStream>,
    /// Nothing was asked for yet: who speaks first has mostly done so before it is watched.
    fresh: bool,
    /// The same socket, watched for room.
    room: Option<AsyncFd<TcpStream>>,
}

impl Connection {
    /// Watches one.
    ///
    /// # Errors
    ///
    /// If the runtime cannot.
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        Ok(Self { io: watch(tcp)?, fresh: true, room: None })
    }

    /// Our end.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn poll_put(
        &mut self,
        context: &mut Context<'_>,
        put: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(room) = &self.room {
                // If there is none after all, it is told anew.
                ready!(room.poll_write_ready(context))?.clear_ready();
            }
            match put(self.io.get_ref()) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    if self.room.is_none() {
                        let same = self.io.get_ref().try_clone()?;
                        self.room = Some(watch_for(Interest::WRITABLE, same)?);
                    }
                }
                done => {
                    self.room = None;
                    return Poll::Ready(done);
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wanted = buffer.remaining();
        loop {
            let fresh = std::mem::take(&mut this.fresh);
            let mut told = match fresh {
                true => None,
                false => Some(ready!(this.io.poll_read_ready(context))?),
            };
            match this.io.get_ref().read(buffer.initialize_unfilled()) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    told.iter_mut().for_each(|told| told.clear_ready());
                }
                Ok(count) => {
                    // There was no more; what comes next, an end too, is told anew.
                    if count > 0 && count < wanted {
                        told.iter_mut().for_each(|told| told.clear_ready());
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(context, |mut tcp| tcp.write(octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(context, |mut tcp| tcp.write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.get_ref().shutdown(Shutdown::Write))
    }
}

/// The next connection.
///
/// # Errors
///
/// What the system says.
pub(super) async fn accept(listener: &AsyncFd<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        let mut told = listener.readable().await?;
        if let Ok(accepted) = told.try_io(|listener| listener.get_ref().accept()) {
            return accepted;
        }
    }
}

/// Watches a socket that does not block for what comes.
///
/// # Errors
///
/// If the runtime cannot.
pub(super) fn watch<S: AsFd + AsRawFd>(socket: S) -> io::Result<AsyncFd<S>> {
    watch_for(Interest::READABLE, socket)
}

#[expect(
    deprecated,
    reason = "in favour of an unsafe call, for descriptors that may close while they are watched: a socket of the \
              standard library keeps its own open"
)]
fn watch_for<S: AsFd + AsRawFd>(what: Interest, socket: S) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, what)
}

/// Waits until the system may take datagrams again that it refused.
pub(super) async fn has_room(socket: &AsyncFd<UdpSocket>) {
    let room = async {
        let same = socket.get_ref().try_clone()?;
        watch_for(Interest::WRITABLE, same)?.writable().await.map(|_| ())
    };
    if room.await.is_err() {
        sleep(AFTER_FAILURE).await;
    }
}

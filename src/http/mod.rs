//! HTTP: the loop that every HTTP listener of ours runs, with its bounds in one place.
//!
//! Takes:   a listener, a handler and a future that ends when the listener should.
//! Gives:   [`serve`]: connections accepted, answered and, at the end, drained.
//! Keeps:   a task for each connection; at most [`Bounds::connections`], [`Bounds::per_source`] from one address
//!          (an IPv6 /64), [`Bounds::life`] each. Nagle's algorithm is off.
//! Refuses: a head that takes longer than [`Bounds::head_time`], is over [`Bounds::head_octets`] or has over
//!          [`Bounds::fields`] fields; the connections past the bounds, by closing them or leaving them unaccepted.
//! Sources: RFC 9112.

pub mod admin;
pub mod ask;
#[cfg(feature = "openssl")]
pub mod documents;
#[cfg(feature = "openssl")]
pub mod door;
pub mod nbsp;
pub mod ub;
#[cfg(feature = "openssl")]
pub mod verify;
#[cfg(feature = "openssl")]
pub mod visited;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::transport::doors::Doors;

/// Bounds of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections.
    pub connections: u32,
    /// Most connections from one address; an IPv6 /64 counts as one.
    pub per_source: u32,
    /// Longest head, in octets; 8192 or more.
    pub head_octets: usize,
    /// Most header fields.
    pub fields: usize,
    /// How long a head may take.
    pub head_time: Duration,
    /// How long a connection may last.
    pub life: Duration,
    /// How long connections may go on once the listener ends.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_source: 256,
            head_octets: 16_384,
            fields: 64,
            head_time: Duration::from_secs(5),
            life: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// What a handler gives back.
pub type Answer = Response<Full<Bytes>>;

/// Serves `listener` until `shutdown` ends, then lets connections finish what they began.
///
/// # Errors
///
/// None today: a listener that fails to accept is tried again after a tenth of a second.
pub async fn serve<H, A>(
    listener: TcpListener,
    bounds: Bounds,
    handler: H,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    H: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let talk =
        move |stream, source, stopped| converse(stream, source, bounds, handler.clone(), stopped);
    accept(listener, bounds, talk, shutdown).await
}

/// Accepts connections within `bounds` until `shutdown` ends, and gives each to `talk`, which ends soon after the
/// channel that it is given closes.
async fn accept<T, C>(
    listener: TcpListener,
    bounds: Bounds,
    talk: T,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    T: Fn(TcpStream, SocketAddr, watch::Receiver<()>) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.connections as usize));
    // How many there are in all, the places bound.
    let sources = Doors::new(bounds.per_source as usize, usize::MAX);
    let (stop, stopped) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // A place before a connection: past the bound, the kernel's queue holds them.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, connection) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let Ok(place) = place else { break };
        let Ok((stream, source)) = connection else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(entry) = sources.enter(source.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let conversation = talk(stream, source, stopped.clone());
        tokio::spawn(async move {
            conversation.await;
            drop((place, entry));
        });
    }
    drop((listener, stop));
    let all = places.acquire_many(bounds.connections);
    let _ = tokio::time::timeout(bounds.drain, all).await;
    Ok(())
}

/// One connection, until it ends, its time is over, or the listener ends.
async fn converse<S, F, H, A>(
    stream: S,
    source: F,
    bounds: Bounds,
    handler: H,
    mut stopped: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Copy,
    H: Fn(Request<Incoming>, F) -> A,
    A: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = handler(request, source);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
        .max_headers(bounds.fields)
        .max_buf_size(bounds.head_octets.max(8192))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let over = async {
        tokio::select! {
            _ = stopped.changed() => {}
            () = tokio::time::sleep(bounds.life) => {}
        }
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = over => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(bounds.drain, connection).await;
}

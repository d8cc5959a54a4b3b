//! Keys, Diameter, way: the octets between two neighbours, over TCP or TLS.
//!
//! Takes:   an address to dial, or a connection that was accepted; octets to send.
//! Gives:   octets as they arrive; the end of the connection.
//! Keeps:   what waits to be sent, at most [`QUEUE_MAX`] messages.
//! Refuses: a server whose certificate is not of the name that is dialled; a neighbour that takes nothing for
//!          [`STALL_MAX`]; one whose certificate is no longer believed.
//! Sources: RFC 6733 sections 2.1, 2.2 and 13.1; RFC 8446; SEC_CF 1.1 SEC-002.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::codec::Printed;
use crate::transport::tls::ClientTls;
use crate::transport::vouched::Vouched;

/// Most messages that wait to be sent on one connection.
pub const QUEUE_MAX: usize = 256;
/// How long a neighbour may take nothing of what it is sent.
pub const STALL_MAX: Duration = Duration::from_secs(10);
/// Octets read at once.
const READ: usize = 8 * 1024;

/// Both directions of a connection.
pub trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Octets for S {}

/// A connection that stands.
pub struct Connection {
    /// Its octets.
    pub stream: Box<dyn Octets>,
    /// Ours on it.
    pub local: SocketAddr,
    /// What its certificate has to stay, if it has one.
    pub(crate) vouched: Option<Vouched>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("local", &self.local).finish_non_exhaustive()
    }
}

/// Dials `address`; with `tls`, whoever answers must prove to be `host`.
///
/// # Errors
///
/// What the network or the handshake gave.
pub async fn dial(
    address: SocketAddr,
    host: &str,
    tls: Option<&Arc<ClientTls>>,
    patience: Duration,
) -> io::Result<Connection> {
    let dialled = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let Some(tls) = tls else {
            return Ok(Connection { stream: Box::new(stream), local, vouched: None });
        };
        let (stream, _) = tls.connect(host, stream).await.map_err(io::Error::other)?;
        let vouched = Vouched::server(tls, &stream);
        Ok(Connection { stream: Box::new(stream), local, vouched })
    };
    timeout(patience, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Carries octets until either end stops: what arrives goes to `heard`, as `wrap` makes it; what comes by `waiting` is
/// sent, and its end is the end of the connection.
pub async fn carry<T>(
    connection: Connection,
    mut waiting: mpsc::Receiver<Printed>,
    heard: mpsc::Sender<T>,
    wrap: impl Fn(Printed) -> T,
) {
    let Connection { stream, vouched, .. } = connection;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let over = async {
        match &vouched {
            Some(vouched) => drop(vouched.until_refused().await),
            None => std::future::pending().await,
        }
    };
    let read = async {
        let mut octets = Zeroizing::new(vec![0; READ]);
        while let Ok(length @ 1..) = reader.read(&mut octets).await {
            let octets = octets.get(..length).unwrap_or_default().to_vec();
            if heard.send(wrap(octets.into())).await.is_err() {
                // The other direction ends the connection, once all is sent.
                std::future::pending::<()>().await;
            }
        }
    };
    let write = async {
        while let Some(octets) = waiting.recv().await {
            match timeout(STALL_MAX, writer.write_all(&octets)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
        let _closed = timeout(STALL_MAX, writer.shutdown()).await;
    };
    tokio::select! {
        () = over => {}
        () = read => {}
        () = write => {}
    }
}

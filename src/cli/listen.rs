//! The program, listening: a port of TCP beside those of the edge, or why there is none.
//!
//! Takes:   a key of the configuration, and the address that it names.
//! Gives:   the listener.
//! Keeps:   nothing.
//! Refuses: what the system refuses, with key and address.
//! Sources: none.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Listens at `address`, as the key `key` of the configuration asks.
///
/// # Errors
///
/// Why not, with address and key.
pub(super) async fn listen(key: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|why| {
        io::Error::new(why.kind(), format!("cannot listen on {address} ({key}): {why}"))
    })
}

//! HTTP, asking: one request and its answer, on an encrypted connection of its own.
//!
//! Takes:   a connection that proved both ends, and a request.
//! Gives:   status and body.
//! Keeps:   nothing.
//! Refuses: an answer that takes longer than [`PATIENCE`] or whose body is over [`BODY_MAX`] octets.
//! Sources: RFC 9112.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// Longest body, in octets.
pub const BODY_MAX: usize = 16 * 1024;
/// How long one question may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The type of bodies.
pub const JSON: &str = "application/json";

/// Asks, with a body of JSON if it is not empty.
///
/// # Errors
///
/// What became of the connection; an answer that is late, too long, or none.
pub async fn ask<S>(
    stream: S,
    method: Method,
    (host, path): (&str, &str),
    body: Vec<u8>,
) -> io::Result<(u16, Zeroizing<Vec<u8>>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder().method(method).uri(path).header(HOST, host);
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, JSON);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
    let exchange = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok((status, Zeroizing::new(body.to_vec())))
        };
        // The connection moves the answer along, and ends with it.
        let moved = async {
            let ended = connection.await;
            let why = ended.err().map_or_else(|| "it was closed".into(), |why| why.to_string());
            // What came before the end is still read.
            tokio::task::yield_now().await;
            why
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            why = moved => Err(io::Error::other(why)),
        }
    };
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
    tokio::time::timeout(PATIENCE, exchange).await.map_err(silent)?
}

//! Admin, caller: a question to a running edge.
//!
//! Takes:   the socket's path, a method and a path with its query.
//! Gives:   the answer's status and octets.
//! Keeps:   one connection, as long as the question.
//! Refuses: an answer beyond [`ANSWER_MAX`], and one that takes longer than [`PATIENCE`].
//! Sources: none.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Longest answer.
pub const ANSWER_MAX: usize = 64 << 20;
/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the edge that listens at `socket`.
///
/// # Errors
///
/// Nobody listens there, or what answered is no edge.
pub async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> io::Result<(StatusCode, Bytes)> {
    let asked = async {
        let stream = UnixStream::connect(socket).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = Request::builder().method(method).uri(path).header(HOST, "sipward");
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = answer.status();
            let octets = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok((status, octets.map_err(io::Error::other)?.to_bytes()))
        };
        let mut answered = pin!(answered);
        tokio::select! {
            answer = answered.as_mut() => answer,
            // It may end with the answer's last octet.
            _ = connection => answered.await,
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| io::ErrorKind::TimedOut)?
}

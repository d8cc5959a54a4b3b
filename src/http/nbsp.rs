//! HTTP, Nbsp_GBA: the bootstrapping server's door for NAFs elsewhere.
//!
//! Takes:   HTTP/2 over TLS, with a certificate of the NAF, and its token where that is demanded.
//! Gives:   what [`answer::answer`] says.
//! Keeps:   connections, within the bounds of [`super::Bounds`]; [`STREAMS`] requests at once on each.
//! Refuses: whoever shows no certificate, or one that nobody trusted vouches for; whoever has no good token; who does not speak HTTP/2; a body over
//!          [`BODY_MAX`], and past twice that without reading on. A connection ends when its certificate is no longer good.
//! Sources: TS 29.309 clause 6.1; TS 29.500 clause 5.2.1; RFC 9113 sections 3.2 and 9.2; SEC_CF 1.1 SEC-002.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Answer, Bounds};
use crate::clock;
use crate::keys::Rand;
use crate::keys::bootstrap::Bsf;
use crate::keys::nbsp::answer::{self, Asked, Told};
use crate::keys::nbsp::bearer::Tokens;
use crate::keys::nbsp::{ALPN, BODY_MAX};
use crate::transport::tls::{self, ServerTls};
use crate::transport::vouched::Vouched;

/// Most requests at once on one connection.
pub const STREAMS: u32 = 128;

/// How much of a body is read, whatever is answered: a request that is refused before all of it came is reset after its
/// answer (RFC 9113 section 8.1), and curl, among others, takes that for an error and loses the answer.
const READ_MAX: usize = 2 * BODY_MAX;

/// Who answers, and what it demands.
#[derive(Clone, Debug)]
pub struct Door {
    /// It asks for certificates, and was made by [`ServerTls::of_http2`].
    pub tls: Arc<ServerTls>,
    /// The tokens that are good; none is demanded if there are none.
    pub tokens: Arc<ArcSwapOption<Tokens>>,
    /// The bootstrapping server.
    pub bsf: Arc<Bsf>,
}

/// Serves NAFs on `listener` until `shutdown` ends.
///
/// # Errors
///
/// As [`super::serve`].
pub async fn serve(
    listener: TcpListener,
    door: Door,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let talk =
        move |stream, _: SocketAddr, stopped| converse(stream, door.clone(), bounds, stopped);
    super::accept(listener, bounds, talk, shutdown).await
}

/// One connection, until it ends, its time is over, its certificate is no longer good, or the listener ends.
async fn converse(stream: TcpStream, door: Door, bounds: Bounds, mut stopped: watch::Receiver<()>) {
    let handshake = tokio::time::timeout(bounds.head_time, tls::accept(&door.tls, stream));
    let Ok(Ok((stream, greeted))) = handshake.await else { return };
    let Some(vouched) = Vouched::client(&door.tls, &stream, &greeted) else { return };
    let hosts = greeted.names.map(|names| names.domains).unwrap_or_default();
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return;
    }
    let service = service_fn(|request| {
        let (door, hosts) = (door.clone(), hosts.clone());
        async move { Ok::<_, Infallible>(respond(request, &door, &hosts).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(bounds.head_octets).unwrap_or(u32::MAX))
        .keep_alive_interval(bounds.life)
        .keep_alive_timeout(bounds.head_time)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = vouched.until_refused() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(bounds.drain, connection).await;
}

async fn respond(request: Request<Incoming>, door: &Door, hosts: &[Arc<str>]) -> Answer {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, READ_MAX).collect().await.ok();
    if let Some(tokens) = &*door.tokens.load() {
        let shown = head.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        // Before the body is looked at.
        if let Err(lack) = tokens.admit(shown, hosts, head.uri.path(), clock::now().wall) {
            return response(answer::unproved(lack));
        }
    }
    let body = body.map(|body| body.to_bytes());
    let asked = Asked {
        method: head.method.as_str(),
        path: head.uri.path(),
        content_type: head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes),
        body: body.as_deref(),
    };
    response(answer::answer(&door.bsf, hosts, &asked, Rand(clock::random()), clock::now()))
}

fn response(told: Told) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from_owner(Whole(told.body))));
    *response.status_mut() =
        StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(told.content_type));
    if told.status == 405 {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if let Some(challenge) = told.challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// A body that is overwritten once it was sent.
struct Whole(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

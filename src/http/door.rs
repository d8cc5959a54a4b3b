//! HTTP, the door for devices and for other networks: HTTPS where a device proves itself with its shared key, and another
//! network's part, or a device-management server, with a certificate.
//!
//! Takes:   HTTP/1.1 over TLS, with a shared key or a certificate.
//! Gives:   what [`Rooms`] answer to [`Who`] asks.
//! Keeps:   connections, within the bounds of [`super::Bounds`].
//! Refuses: whoever shows neither; a connection ends when its key or certificate is no longer good.
//! Sources: SEC_CF 1.1 B.6, B.7, B.8; TS 33.222 clauses 5.3 and 5.4.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::ask::{BODY_MAX, JSON};
use super::documents::Documents;
use super::verify::Verify;
use super::visited::Visits;
use super::{Answer, Bounds};
use crate::keys::psk::PskProof;
use crate::transport::greet::{Greeting, greet};
use crate::transport::key_desk::KeyDesk;
use crate::transport::psk_tls::PskServer;
use crate::transport::tls::ServerTls;
use crate::transport::vouched::Vouched;

/// What both kinds of handshakes are made with.
#[derive(Clone)]
pub struct Door {
    /// With certificates: it asks for theirs, and was made by [`ServerTls::of_websocket`], whose protocol is this one.
    pub tls: Arc<ServerTls>,
    /// With shared keys.
    pub shared: Arc<PskServer>,
    /// Where those keys are.
    pub desk: KeyDesk,
    /// What is behind it.
    pub rooms: Arc<Rooms>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Who {
    /// A device, by its shared key.
    Device(PskProof),
    /// A part of another network or a device-management server, by the names in its certificate.
    Peer(Vec<Arc<str>>),
}

/// The resources behind the door.
#[derive(Debug)]
pub struct Rooms {
    /// Keys for visited networks.
    pub visits: Visits,
    /// What was pushed.
    pub verify: Verify,
    /// What clients are told to trust.
    pub documents: Documents,
}

/// Serves on `listener` until `shutdown` ends.
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
        move |stream, source, stopped| converse(stream, source, door.clone(), bounds, stopped);
    super::accept(listener, bounds, talk, shutdown).await
}

/// One connection, until it ends, its time is over, what it was proved with is no longer good, or the listener ends.
async fn converse(
    stream: TcpStream,
    source: SocketAddr,
    door: Door,
    bounds: Bounds,
    stopped: watch::Receiver<()>,
) {
    let greeting = greet(&door.tls, &door.shared, &door.desk, BytesMut::new(), stream);
    let Ok(Ok(greeting)) = tokio::time::timeout(bounds.head_time, greeting).await else { return };
    let rooms = Arc::clone(&door.rooms);
    let handler = |who: Who| {
        let who = Arc::new(who);
        move |request, _| respond(request, Arc::clone(&who), Arc::clone(&rooms))
    };
    match greeting {
        Greeting::Shared(stream, proof, _) => {
            let handler = handler(Who::Device(proof.clone()));
            tokio::select! {
                () = super::converse(stream, source, bounds, handler, stopped) => {}
                () = door.desk.until_over(&proof) => {}
            }
        }
        Greeting::Certificate(stream, greeted) => {
            let Some(vouched) = Vouched::client(&door.tls, &stream, &greeted) else { return };
            let names = greeted.names.map(|names| names.domains).unwrap_or_default();
            let handler = handler(Who::Peer(names));
            tokio::select! {
                () = super::converse(stream, source, bounds, handler, stopped) => {}
                _ = vouched.until_refused() => {}
            }
        }
    }
}

/// What is told: a status, and perhaps JSON.
pub(super) type Told = (u16, Option<Value>);

async fn respond(request: Request<Incoming>, who: Arc<Who>, rooms: Arc<Rooms>) -> Answer {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.as_str(), head.uri.path());
    if let Some((status, kind, text)) = rooms.documents.answer(method, path, &who) {
        return response(status, kind, text);
    }
    let body = Limited::new(body, BODY_MAX).collect().await.ok();
    let told = match body.map(|body| body.to_bytes()) {
        None => (413, None),
        Some(body) => {
            let asked = serde_json::from_slice(&body).unwrap_or(Value::Null);
            rooms.answer(method, path, &asked, &who).await
        }
    };
    let (status, told) = told;
    response(status, JSON, told.map(|told| told.to_string()).unwrap_or_default())
}

impl Rooms {
    async fn answer(&self, method: &str, path: &str, asked: &Value, who: &Who) -> Told {
        if let Some(told) = self.verify.answer(method, path, asked, who) {
            return told;
        }
        self.visits.answer(method, path, asked, who).await.unwrap_or((404, None))
    }
}

fn response(status: u16, kind: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

//! Keys, Nbsp_GBA, client: a NAF that asks bootstrapping servers elsewhere.
//!
//! Takes:   a B-TID and a [`NafId`].
//! Gives:   [`KeyServer`]: the key, a no, or that nobody could say; the way of asking, which [`super::push_client`] shares.
//! Keeps:   one HTTP/2 connection to each server, made when it is needed; when each was last out of reach; the token.
//! Refuses: a server that is not the one its certificate should name, or does not speak HTTP/2; an answer that is none by
//!          [`super::message`], or longer than [`BODY_MAX`]; one that takes longer than [`Settings::timeout`] with connecting
//!          and all. In each case the next server is asked; if there is none, the key is [`KeyAnswer::Unavailable`]. A key
//!          whose time is over is as good as none.
//! Sources: TS 29.309 clause 5.2.2.2; TS 33.220 clause 4.5.3; RFC 9113 section 3.2; SEC_CF 1.1 SEC-002.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::bearer::Bearer;
use super::message::{Question, parse_key};
use super::{BODY_MAX, INFO_PATH, JSON, PROBLEM_JSON};
use crate::identity::Btid;
use crate::instant::Now;
use crate::keys::{Asking, KeyAnswer, KeyServer, NafId};
use crate::transport::tls::ClientTls;

/// How long a server that could not be reached is asked last.
const SHUNNED: Duration = Duration::from_secs(5);
/// How often a connection that is idle is tried.
const PING: Duration = Duration::from_secs(20);

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, which its certificate must have.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who is asked, in this order.
    pub servers: Vec<Server>,
    /// How long one of them may take.
    pub timeout: Duration,
    /// The services whose settings are asked for. With the service 0, which is no service, identities come.
    pub gsids: Vec<u32>,
}

/// The client.
pub struct NbspClient {
    settings: Settings,
    tls: Arc<ClientTls>,
    /// What is shown beside the certificate, if anything is.
    token: ArcSwapOption<Bearer>,
    lines: Vec<Line>,
}

/// What is known of one server.
#[derive(Default)]
struct Line {
    connection: Mutex<Option<Connection>>,
    /// Until when it is asked last, in microseconds of the monotonic clock.
    shunned: AtomicU64,
}

type Connection = SendRequest<Full<Bytes>>;

/// Why one server gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It could not be reached, or not in time.
    Unreachable,
    /// It does not speak as it should, or too long.
    Unfit,
}

impl NbspClient {
    /// `tls` shows our certificate, and was made by [`ClientTls::of_http2`].
    pub fn new(settings: Settings, tls: Arc<ClientTls>) -> Self {
        let lines = settings.servers.iter().map(|_| Line::default()).collect();
        Self { settings, tls, token: ArcSwapOption::empty(), lines }
    }

    /// Shows that token from now on, or none.
    pub fn show(&self, token: Option<Bearer>) {
        self.token.store(token.map(Arc::new));
    }

    /// Asks one server after the other until one gives an answer that `read` takes, from its status and body.
    pub(super) async fn ask_in_turn<T>(
        &self,
        path: &str,
        question: Vec<u8>,
        now: Now,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Option<T> {
        let question = Bytes::from(question);
        let mut order: Vec<(&Server, &Line)> =
            self.settings.servers.iter().zip(&self.lines).collect();
        order.sort_by_key(|(_, line)| line.is_shunned(now));
        for (server, line) in order {
            let asked = self.ask_one(server, line, path, &question);
            match tokio::time::timeout(self.settings.timeout, asked).await {
                Ok(Ok((status, body))) => match read(status, &body) {
                    Some(answer) => return Some(answer),
                    None => continue,
                },
                Ok(Err(Silence::Unfit)) => {}
                Ok(Err(Silence::Unreachable)) | Err(_) => line.shun(now),
            }
        }
        None
    }

    async fn ask_one(
        &self,
        server: &Server,
        line: &Line,
        path: &str,
        question: &Bytes,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), Silence> {
        let mut sender = self.connection(server, line).await?;
        let uri = format!("https://{}:{}{path}", server.host, server.port);
        let mut request = Request::post(uri)
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT, format!("{JSON}, {PROBLEM_JSON}"));
        if let Some(token) = &*self.token.load() {
            let shown = HeaderValue::from_str(&token.credentials());
            let mut shown = shown.map_err(|_| Silence::Unfit)?;
            // It goes into no table of the connection's (RFC 7541 section 7.1.3), and is not printed.
            shown.set_sensitive(true);
            request = request.header(AUTHORIZATION, shown);
        }
        let request = request.body(Full::new(question.clone())).map_err(|_| Silence::Unfit)?;
        let response = sender.send_request(request).await.map_err(|_| Silence::Unreachable)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| Silence::Unfit)?;
        Ok((head.status.as_u16(), Zeroizing::new(Vec::from(body.to_bytes()))))
    }

    /// The connection that is there, or a new one.
    async fn connection(&self, server: &Server, line: &Line) -> Result<Connection, Silence> {
        let mut held = line.connection.lock().await;
        if let Some(connection) = held.as_mut()
            && connection.ready().await.is_ok()
        {
            return Ok(connection.clone());
        }
        *held = None;
        let lost = |_| Silence::Unreachable;
        let tcp = TcpStream::connect((&*server.host, server.port)).await.map_err(lost)?;
        let _ = tcp.set_nodelay(true);
        let (stream, _) =
            self.tls.connect(&server.host, tcp).await.map_err(|_| Silence::Unreachable)?;
        if stream.get_ref().1.alpn_protocol() != Some(super::ALPN) {
            return Err(Silence::Unfit);
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .max_header_list_size(16_384)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Silence::Unreachable)?;
        tokio::spawn(connection);
        *held = Some(sender.clone());
        Ok(sender)
    }
}

impl KeyServer for NbspClient {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a> {
        let gsids = self.settings.gsids.clone();
        let question = Question { btid: btid.clone(), naf: naf.clone(), gba_u_aware: false, gsids };
        let read = move |status, body: &[u8]| match status {
            200 => match parse_key(body).ok()? {
                key if key.expires <= now.wall => Some(KeyAnswer::Unknown),
                key => Some(KeyAnswer::Known(Arc::new(key))),
            },
            404 => Some(KeyAnswer::Unknown),
            403 => Some(KeyAnswer::Forbidden),
            _ => None,
        };
        Box::pin(async move {
            let answer = self.ask_in_turn(INFO_PATH, question.print(), now, read).await;
            answer.unwrap_or(KeyAnswer::Unavailable)
        })
    }
}

impl Line {
    fn shun(&self, now: Now) {
        let until = now.mono + SHUNNED;
        self.shunned.store(until.as_micros(), Ordering::Relaxed);
    }

    fn is_shunned(&self, now: Now) -> bool {
        self.shunned.load(Ordering::Relaxed) > now.mono.as_micros()
    }
}

impl fmt::Debug for NbspClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NbspClient({:?})", self.settings.servers)
    }
}

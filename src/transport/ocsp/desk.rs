//! Stage 1, OCSP desk: asks the configured responder, and remembers what it said.
//!
//! 1. A certificate whose answer still holds is not asked about.
//! 2. Of those who want to know the same at the same time, one asks and the others wait for it; if he goes away, the
//!    next one asks.
//! 3. An answer holds as long as it says, but after `interval` the responder is asked again. If that fails, the answer
//!    goes on holding as long as it said.
//!
//! Takes:   certificates of chains that were verified before.
//! Gives:   [`Status`]; with `soft`, good where nothing could be learnt.
//! Keeps:   [`KNOWN_MAX`] answers; a failure for [`AFTER_FAILURE`]. At most [`QUESTIONS_MAX`] questions are on their
//!          way, the others wait in line, each no longer than `timeout`.
//! Refuses: answers over the bounds of `answer`; redirects. Only the configured responder is ever asked: its address
//!          is in no certificate.
//! Sources: RFC 6960 appendix A.1; RFC 5019 sections 5 and 6.1; `V-78`; SEC_CF 1.1 use case B.5.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::answer::{self, Asked};
use super::question::{self, NONCE_OCTETS};
use super::{CertId, Status, StatusFault};
use crate::clock;
use crate::instant::{Now, WallTime};

/// Most answers that are remembered.
pub const KNOWN_MAX: usize = 100_000;
/// Most questions on their way.
pub const QUESTIONS_MAX: usize = 64;
/// For how long a failure is not asked about again.
pub const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Where a responder listens: `http://host:port/path`. Its answers are signed, so the way to it is in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Responder {
    host: Box<str>,
    port: u16,
    path: Box<str>,
}

impl Responder {
    /// Reads a URL; `None` if it is none of that form.
    pub fn new(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_host = |octet: u8| octet.is_ascii_alphanumeric() || b"-._[]:".contains(&octet);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let fits = !host.is_empty()
            && host.bytes().all(is_host)
            && path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#');
        let path = if path.is_empty() { "/" } else { path };
        fits.then(|| Self { host: host.into(), port, path: path.into() })
    }
}

impl fmt::Display for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSettings {
    /// The responder.
    pub responder: Responder,
    /// How long one question may take, waiting in line included.
    pub timeout: Duration,
    /// After how long it is asked again about a certificate that is in use.
    pub interval: Duration,
    /// Whether answers must repeat a nonce: made anew for us, and none of an earlier day.
    pub nonce: bool,
    /// Whether a certificate counts as good if nothing can be learnt of it. Whoever can keep answers from us then
    /// keeps certificates in use that were taken back.
    pub soft: bool,
}

/// The desk.
pub struct StatusDesk {
    settings: StatusSettings,
    line: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<CertId, Known>,
    /// Questions on their way: dropped when they are over.
    asking: HashMap<CertId, watch::Receiver<()>>,
}

/// What was learnt of a certificate last.
#[derive(Clone, Copy, Debug)]
struct Known {
    learnt: Result<Status, StatusFault>,
    /// Until when nobody asks.
    quiet_until: crate::instant::Instant,
    /// Until when it holds.
    holds_until: Option<WallTime>,
}

/// A question on its way; dropping it lets the next one ask.
struct Turn<'d> {
    desk: &'d StatusDesk,
    about: CertId,
    _over: watch::Sender<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.desk.lock().asking.remove(&self.about);
    }
}

/// What to do to learn something.
enum Next<'d> {
    Known(Result<Status, StatusFault>),
    Ask(Turn<'d>),
    Wait(watch::Receiver<()>),
}

impl StatusDesk {
    /// A desk that knows nothing yet.
    pub fn new(settings: StatusSettings) -> Self {
        Self { settings, line: Semaphore::new(QUESTIONS_MAX), state: Mutex::default() }
    }

    /// Whom it asks, and how.
    pub fn settings(&self) -> &StatusSettings {
        &self.settings
    }

    /// What the responder says of a certificate.
    ///
    /// # Errors
    ///
    /// [`StatusFault`] if nothing could be learnt; never if that is to count as good.
    pub async fn status(&self, about: &CertId) -> Result<Status, StatusFault> {
        loop {
            let turn = match self.next(about, clock::now()) {
                Next::Known(known) => return self.softened(known),
                Next::Wait(mut over) => {
                    // Dropped, as it never changes: the question is over, one way or the other.
                    let _ = over.changed().await;
                    continue;
                }
                Next::Ask(turn) => turn,
            };
            let asked = timeout(self.settings.timeout, self.ask(about)).await;
            let learnt = asked.unwrap_or(Err(StatusFault::Slow));
            let learnt = self.learn(about, learnt, clock::now());
            drop(turn);
            return self.softened(learnt);
        }
    }

    fn softened(&self, learnt: Result<Status, StatusFault>) -> Result<Status, StatusFault> {
        match learnt {
            Err(_) if self.settings.soft => Ok(Status::Good(None)),
            learnt => learnt,
        }
    }

    fn next(&self, about: &CertId, now: Now) -> Next<'_> {
        let mut state = self.lock();
        if let Some(known) = state.known.get(about)
            && now.mono < known.quiet_until
            && known.holds_until.is_none_or(|until| now.wall <= until)
        {
            return Next::Known(known.learnt);
        }
        match state.asking.entry(about.clone()) {
            Entry::Occupied(asking) => Next::Wait(asking.get().clone()),
            Entry::Vacant(place) => {
                let (over, wait) = watch::channel(());
                place.insert(wait);
                Next::Ask(Turn { desk: self, about: about.clone(), _over: over })
            }
        }
    }

    /// Remembers what was learnt; gives what counts.
    fn learn(
        &self,
        about: &CertId,
        learnt: Result<Status, StatusFault>,
        now: Now,
    ) -> Result<Status, StatusFault> {
        let mut state = self.lock();
        let before = state.known.get(about).copied();
        let mut known = match learnt {
            Ok(Status::Good(until)) => {
                Known { learnt, quiet_until: now.mono + self.settings.interval, holds_until: until }
            }
            Ok(Status::Revoked | Status::Unknown) => {
                Known { learnt, quiet_until: now.mono + self.settings.interval, holds_until: None }
            }
            Err(_) => Known { learnt, quiet_until: now.mono + AFTER_FAILURE, holds_until: None },
        };
        // What was taken back stays so while this desk lasts, whether anybody can be asked again or not.
        let holds = |before: &Known| match before.learnt {
            Ok(Status::Revoked | Status::Unknown) => true,
            _ => before.holds_until.is_some_and(|until| now.wall <= until),
        };
        if let (Err(fault), Some(before)) = (learnt, before.filter(holds)) {
            tracing::warn!(%fault, responder = %self.settings.responder, "no news; the last answer still holds");
            known = Known { quiet_until: known.quiet_until, ..before };
        }
        if state.known.len() >= KNOWN_MAX {
            state.known.retain(|_, known| now.mono < known.quiet_until);
        }
        if state.known.len() < KNOWN_MAX || before.is_some() {
            state.known.insert(about.clone(), known);
        }
        known.learnt
    }

    async fn ask(&self, about: &CertId) -> Result<Status, StatusFault> {
        let _place = self.line.acquire().await.map_err(|_| StatusFault::Unreachable)?;
        let nonce: Option<[u8; NONCE_OCTETS]> = self.settings.nonce.then(clock::random);
        let request = question::request(about, nonce.as_ref())?;
        let octets = exchange(&self.settings.responder, request).await?;
        let asked = Asked {
            about,
            nonce: nonce.as_ref().map(|nonce| &nonce[..]),
            age_max: self.settings.interval,
            now: clock::now().wall,
        };
        answer::judge(&octets, &asked)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StatusDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusDesk({})", self.settings.responder)
    }
}

/// One question over HTTP, on a connection of its own.
#[cfg(feature = "http")]
async fn exchange(to: &Responder, request: Vec<u8>) -> Result<bytes::Bytes, StatusFault> {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
    use hyper::header::{CONTENT_TYPE, HOST};
    use hyper::{Request, StatusCode};

    let host = to.host.trim_start_matches('[').trim_end_matches(']');
    let stream = tokio::net::TcpStream::connect((host, to.port));
    let stream = stream.await.map_err(|_| StatusFault::Unreachable)?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        builder.max_buf_size(16_384).handshake(io).await.map_err(|_| StatusFault::Http(0))?;
    let request = Request::post(&*to.path)
        .header(HOST, format!("{}:{}", to.host, to.port))
        .header(CONTENT_TYPE, "application/ocsp-request")
        .body(Full::new(Bytes::from(request)))
        .map_err(|_| StatusFault::Unreachable)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|_| StatusFault::Http(0))?;
        if response.status() != StatusCode::OK {
            return Err(StatusFault::Http(response.status().as_u16()));
        }
        let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        if kind != Some(b"application/ocsp-response") {
            return Err(StatusFault::Http(StatusCode::OK.as_u16()));
        }
        let body = Limited::new(response.into_body(), answer::ANSWER_MAX).collect().await;
        let body = body.map_err(|why| match why.is::<LengthLimitError>() {
            true => StatusFault::TooLong,
            false => StatusFault::Http(0),
        })?;
        Ok(body.to_bytes())
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // Nothing more will come; the end of the answer may be here already.
        _ = connection => answer.await,
    }
}

/// Nothing is asked: a configuration that wants it was refused.
#[cfg(not(feature = "http"))]
async fn exchange(_: &Responder, _: Vec<u8>) -> Result<bytes::Bytes, StatusFault> {
    Err(StatusFault::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responders_are_http_urls() {
        for (url, shown) in [
            ("http://status.example.net", Some("http://status.example.net:80/")),
            ("http://192.0.2.7:8888/ocsp?a", Some("http://192.0.2.7:8888/ocsp?a")),
            ("http://[2001:db8::1]:8888", Some("http://[2001:db8::1]:8888/")),
            ("http://[2001:db8::1]/x", Some("http://[2001:db8::1]:80/x")),
            ("https://status.example.net", None),
            ("http://user@status.example.net", None),
            ("http://status.example.net:none", None),
            ("http://status.example.net/a b", None),
            ("http:///x", None),
            ("status.example.net", None),
        ] {
            let read = Responder::new(url).map(|responder| responder.to_string());
            assert_eq!(read.as_deref(), shown, "{url}");
        }
    }
}

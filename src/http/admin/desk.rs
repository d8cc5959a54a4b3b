//! Admin, desk: which question gets which answer.
//!
//! Takes:   a request, and who asks.
//! Gives:   its answer, as JSON.
//! Keeps:   nothing; it looks at what the edge holds.
//! Refuses: what stands in no row of the table: 404, 405, 400.
//! Sources: RFC 9110 sections 9.3.1 and 15.5.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::Asker;
use super::views::{self, Certificate, Dialog, Dialogs, Listening, Status};
use crate::association::Association;
use crate::clock;
use crate::config::{Config, Listener};
use crate::forward::Shared;
use crate::http::Answer;
use crate::instant::Now;
use crate::transport::Flows;
use crate::wire;

/// Dialogs in one answer, if nobody says how many.
const LIMIT: usize = 100;
/// And at most.
const LIMIT_MAX: usize = 10_000;

/// What the answers are made of.
pub struct Desk {
    /// What workers share; `None` where there is no edge.
    pub shared: Option<Arc<Shared>>,
    /// Its connections.
    pub flows: Option<Arc<Flows>>,
    /// What its listeners are bound to, in order.
    pub addresses: Vec<SocketAddr>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// The certificates of ours.
    pub certificates: Box<dyn Fn(Now) -> Vec<Certificate> + Send + Sync>,
    /// When it began.
    pub began: Now,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("began", &self.began).finish_non_exhaustive()
    }
}

/// What is asked of dialogs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    owner: Option<String>,
    limit: Option<usize>,
}

impl Desk {
    /// The answer to one request.
    pub(super) async fn answer(&self, request: Request<Incoming>, _asker: Asker) -> Answer {
        let now = clock::now();
        let path = request.uri().path().trim_end_matches('/');
        let known = matches!(path, "/status" | "/associations") || id_in(path).is_some();
        if !known {
            return plain(StatusCode::NOT_FOUND, "no such page");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match (path, id_in(path)) {
            ("/status", _) => json(&self.status(now)),
            (_, Some(id)) => {
                let found = self.dialogs(|one| one.origin.id == id, now);
                if found.is_empty() {
                    return plain(StatusCode::NOT_FOUND, "no dialog has that number");
                }
                json(&Dialogs { found: found.len(), dialogs: found })
            }
            _ => match Question::parse(request.uri().query().unwrap_or_default()) {
                Ok(question) => json(&self.list(&question, now)),
                Err(why) => plain(StatusCode::BAD_REQUEST, why),
            },
        }
    }

    fn status(&self, now: Now) -> Status {
        let config = self.config.load();
        let listening = |(listener, address): (&Listener, &SocketAddr)| Listening {
            name: listener.name.to_string(),
            side: views::side(listener.side).to_owned(),
            address: address.to_string(),
            transports: listener.transports.iter().map(|it| it.via_token().to_owned()).collect(),
        };
        let gate = self.shared.as_ref().map(|shared| &shared.gate);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: now.mono.since(self.began.mono).as_secs(),
            configuration: config.file.display().to_string(),
            load: gate.map_or(0, |gate| gate.admission.overload().load() as u64),
            connections: self.flows.as_ref().map_or(0, |flows| flows.open_count()),
            registrations: self.shared.as_ref().map_or(0, |shared| shared.bindings.len()),
            associations: gate.map_or(0, |gate| gate.associations.footprint()),
            listeners: config.listeners.iter().zip(&self.addresses).map(listening).collect(),
            certificates: (self.certificates)(now),
        }
    }

    fn list(&self, question: &Question, now: Now) -> Dialogs {
        let mut dialogs = self.dialogs(
            |one| question.owner.as_ref().is_none_or(|owner| *one.origin.owner.name == **owner),
            now,
        );
        let found = dialogs.len();
        dialogs.truncate(question.limit.unwrap_or(LIMIT));
        Dialogs { found, dialogs }
    }

    fn dialogs(&self, fits: impl Fn(&Association) -> bool, now: Now) -> Vec<Dialog> {
        let all = self.shared.iter().flat_map(|shared| shared.gate.associations.snapshot());
        let mut found: Vec<Dialog> =
            all.filter(|one| fits(one)).map(|one| Dialog::of(&one, now)).collect();
        found.sort_by_key(|dialog| dialog.id);
        found
    }
}

impl Question {
    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut question = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("a name without a value")?;
            match name {
                "owner" => question.owner = Some(decoded(value).ok_or("owner is no UTF-8")?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    question.limit = Some(limit.ok_or("limit is not from 1 to 10000")?);
                }
                _ => return Err("there are owner and limit"),
            }
        }
        Ok(question)
    }
}

/// The number in `/associations/<number>`.
fn id_in(path: &str) -> Option<u64> {
    path.strip_prefix("/associations/")?.parse().ok()
}

fn decoded(value: &str) -> Option<String> {
    String::from_utf8(wire::uri::decode(value.as_bytes())).ok()
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(octets) => {
            let mut answer = Response::new(Full::new(Bytes::from(octets)));
            let kind = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Err(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn plain(status: StatusCode, why: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{why}\n"))));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let asked =
            |owner: Option<&str>, limit| Ok(Question { owner: owner.map(str::to_owned), limit });
        for (query, expected) in [
            ("", asked(None, None)),
            ("limit=5", asked(None, Some(5))),
            ("owner=ue1%40ims.example.net&limit=1", asked(Some("ue1@ims.example.net"), Some(1))),
            ("limit=0", Err("limit is not from 1 to 10000")),
            ("limit=10001", Err("limit is not from 1 to 10000")),
            ("owner", Err("a name without a value")),
            ("owner=%FF", Err("owner is no UTF-8")),
            ("x=1", Err("there are owner and limit")),
        ] {
            assert_eq!(Question::parse(query), expected, "{query}");
        }
    }
}

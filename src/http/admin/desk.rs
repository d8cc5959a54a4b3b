//! Admin, desk: which question gets which answer.
//!
//! Takes:   a request, and who asks.
//! Gives:   its answer, as JSON; what it changed is in the audit.
//! Keeps:   nothing; it looks at what the edge holds.
//! Refuses: what [`Asked`] refuses; what is not there (404).
//! Sources: RFC 9110 sections 9.3 and 15.5; V-73.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::Asker;
use super::audit::Audit;
use super::question::{Asked, Facts, LIMIT, Wanted, Whom};
use super::views::{
    self, Certificate, Dialog, Dialogs, Explanation, Listening, Revocation, Status,
};
use crate::assembly::Running;
use crate::assembly::revocation::{Revoked, is_called};
use crate::association::Association;
use crate::clock;
use crate::config::{Config, Listener};
use crate::http::Answer;
use crate::instant::Now;

/// Longest message that is explained, in octets.
const MESSAGE_MAX: usize = 256 * 1024;

/// What the answers are made of.
pub struct Desk {
    /// The edge; `None` where there is none.
    pub running: Option<Arc<Running>>,
    /// What its listeners are bound to, in order.
    pub addresses: Vec<SocketAddr>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// The certificates of ours.
    pub certificates: Box<dyn Fn(Now) -> Vec<Certificate> + Send + Sync>,
    /// When it began.
    pub began: Now,
    /// Who changed what.
    pub audit: Audit,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("began", &self.began).finish_non_exhaustive()
    }
}

impl Desk {
    /// The answer to one request.
    pub(super) async fn answer(&self, request: Request<Incoming>, asker: Asker) -> Answer {
        let (method, uri) = (request.method(), request.uri());
        let asked = Asked::parse(method, uri.path(), uri.query().unwrap_or_default());
        let now = clock::now();
        match asked {
            Ok(Asked::Status) => json(&self.status(now)),
            Ok(Asked::List(wanted)) => json(&self.list(&wanted, now)),
            Ok(Asked::Show(id)) => match self.dialogs(|one| one.origin.id == id, now) {
                found if found.is_empty() => nobody("no dialog has that number"),
                found => json(&Dialogs { found: found.len(), dialogs: found }),
            },
            Ok(Asked::Revoke(whom)) => self.revoke(&whom, asker),
            Ok(Asked::Explain(facts)) => self.explain(request, &facts, now).await,
            Err((status, why)) => {
                if !matches!(*method, Method::GET | Method::HEAD) {
                    self.audit.refused(asker, status.as_u16());
                }
                let mut answer = plain(status, why);
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(why));
                }
                answer
            }
        }
    }

    fn revoke(&self, whom: &Whom, asker: Asker) -> Answer {
        let of = |running: &Arc<Running>| match whom {
            Whom::Dialog(id) => running.revoke_dialog(*id),
            Whom::Caller(name) => running.revoke_caller(name),
            Whom::Key(btid) => running.revoke(btid),
        };
        let revoked = self.running.as_ref().map(of).unwrap_or_default();
        self.audit.revoked(asker, whom, &revoked);
        if revoked.is_nothing() {
            return nobody("there is nothing of that to take back");
        }
        let Revoked { keys, sessions, dialogs } = revoked;
        json(&Revocation { keys, sessions, dialogs })
    }

    async fn explain(&self, request: Request<Incoming>, facts: &Facts, now: Now) -> Answer {
        let Some(running) = &self.running else { return nobody("there is no edge") };
        let told = match facts.told(&self.config.load()) {
            Ok(told) => told,
            Err(why) => return plain(StatusCode::BAD_REQUEST, why),
        };
        let Ok(body) = Limited::new(request.into_body(), MESSAGE_MAX).collect().await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "no message is that long");
        };
        match running.edge.explain(body.to_bytes(), &told).await {
            Ok(account) => json(&Explanation::of(account, now)),
            Err(why) => plain(StatusCode::BAD_REQUEST, why),
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
        let running = self.running.as_ref();
        let gate = running.map(|running| &running.shared.gate);
        let mode = |observe| if observe { "observe" } else { "enforce" }.to_owned();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: now.mono.since(self.began.mono).as_secs(),
            configuration: config.file.display().to_string(),
            mode: mode(config.association.observe),
            load: gate.map_or(0, |gate| gate.admission.overload().load() as u64),
            connections: running.map_or(0, |running| running.flows.open_count()),
            registrations: running.map_or(0, |running| running.shared.bindings.len()),
            keys: running.map_or(0, |running| running.keys.len()),
            associations: gate.map_or(0, |gate| gate.associations.footprint()),
            associations_max: gate.map_or(0, |gate| gate.associations.room()),
            states: gate.map(|gate| views::states(&gate.associations)).unwrap_or_default(),
            listeners: config.listeners.iter().zip(&self.addresses).map(listening).collect(),
            certificates: (self.certificates)(now),
        }
    }

    fn list(&self, wanted: &Wanted, now: Now) -> Dialogs {
        let owned = |one: &Association| {
            wanted.owner.as_ref().is_none_or(|owner| is_called(&one.origin.owner, owner))
        };
        let mut dialogs = match &wanted.call {
            None => self.dialogs(owned, now),
            Some(call) => {
                let tags = wanted.tags.as_ref();
                let tags = tags.map(|tags| tags.each_ref().map(|tag| tag.as_bytes()));
                let called = self.running.iter().flat_map(|running| {
                    running.shared.gate.associations.called(call.as_bytes(), tags)
                });
                called.filter(owned).map(|one| Dialog::of(&one, now)).collect()
            }
        };
        let found = dialogs.len();
        dialogs.truncate(wanted.limit.unwrap_or(LIMIT));
        Dialogs { found, dialogs }
    }

    fn dialogs(&self, fits: impl Fn(&Association) -> bool, now: Now) -> Vec<Dialog> {
        let running = self.running.iter();
        let all = running.flat_map(|running| running.shared.gate.associations.snapshot());
        let mut found: Vec<Dialog> =
            all.filter(|one| fits(one)).map(|one| Dialog::of(&one, now)).collect();
        found.sort_by_key(|dialog| dialog.id);
        found
    }
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

fn nobody(why: &str) -> Answer {
    plain(StatusCode::NOT_FOUND, why)
}

fn plain(status: StatusCode, why: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{why}\n"))));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

//! HTTP, visited keys: a device asks home for a key with which it and a part in another network prove themselves to each
//! other; home makes it, and hands it over.
//!
//! 1. `POST /.well-known/sipward/visited-key` of a device, `{"server": NAME}`: the part is looked up, a key made.
//! 2. `PUT` of the same with the key, its name, its end and whose it is, to that part, certificates at both ends.
//! 3. The part took it: the device is told name, key and end. It did not: 502, and the key is forgotten.
//! 4. `GET` of the same with `/NAME`, of the device that the key was made for: the same again.
//!
//! Takes:   requests of devices and of homes.
//! Gives:   keys, to whom they belong.
//! Keeps:   the [`Book`] of keys that were made; what homes hand over goes to the [`Guests`](crate::keys::visited::Guests).
//! Refuses: parts that are not listed (403, no key is made); keys of others (404); homes that are not listed, that speak for
//!          users of other domains, in another home's name, or for another server (403).
//! Sources: SEC_CF 1.1 B.6, AUTH-002 c; V-144.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::ask::{PATIENCE, ask};
use super::door::{Told, Who};
use crate::clock;
use crate::config::psk::hex;
use crate::identity::Impu;
use crate::keys::calendar;
use crate::keys::nbsp::client::Server;
use crate::keys::psk::{Provisioned, PskKey, PskProof, VISITED};
use crate::keys::visited::{Book, Made, Order};
use crate::provision;
use crate::transport::key_desk::KeyDesk;
use crate::transport::tls::ClientTls;
use crate::wire::Uri;

/// Where it is.
pub const PATH: &str = "/.well-known/sipward/visited-key";
/// Most identities that are told of one device.
const IDENTITIES_MAX: usize = 10;

/// A part in another network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, which devices dial.
    pub server: Arc<str>,
    /// Where it takes keys.
    pub at: Server,
    /// How long a key lives.
    pub lifetime: Duration,
}

/// A home that hands keys over to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its name, in its certificate and in the names of its keys.
    pub host: Arc<str>,
    /// Domains whose users it may speak for.
    pub domains: Vec<Arc<str>>,
}

/// Keys for visited networks, and of visitors.
#[derive(Debug)]
pub struct Visits {
    /// Our own name, in the names of keys that we make.
    pub home: Arc<str>,
    /// Parts that keys are made for.
    pub parts: Vec<Part>,
    /// Homes that may hand keys over.
    pub homes: Vec<Home>,
    /// What is shown to those parts.
    pub tls: Arc<ClientTls>,
    /// All keys of handshakes.
    pub desk: KeyDesk,
    /// Those that were made.
    pub book: Book,
}

impl Visits {
    /// Answers, if the path is its.
    pub(super) async fn answer(
        &self,
        method: &str,
        path: &str,
        asked: &Value,
        who: &Who,
    ) -> Option<Told> {
        let name = path.strip_prefix(PATH)?;
        Some(match (method, name, who) {
            ("POST", "", Who::Device(proof)) => self.make(asked, proof).await,
            ("GET", name, Who::Device(proof)) => match name.strip_prefix('/') {
                Some(id) => self.again(id, proof),
                None => (405, None),
            },
            ("PUT", "", Who::Peer(names)) => (self.take(asked, names), None),
            ("POST" | "GET" | "PUT", ..) => (403, None),
            _ => (405, None),
        })
    }

    /// Steps 1 to 3.
    async fn make(&self, asked: &Value, proof: &PskProof) -> Told {
        let server = asked.get("server").and_then(Value::as_str).unwrap_or_default();
        let part = self.parts.iter().find(|part| part.server.eq_ignore_ascii_case(server));
        let (Some(part), now) = (part, clock::now()) else { return (403, None) };
        let caller = &proof.caller;
        let from = self.desk.keys().key_of(proof, now);
        let Some(from) = from.filter(|_| !caller.identities.is_empty()) else {
            return (403, None);
        };
        let longest = now.wall + part.lifetime;
        let order = Order {
            from: &from,
            owner: &caller.principal,
            server: &part.server,
            home: &self.home,
            expires: caller.expires.map_or(longest, |expires| expires.min(longest)),
        };
        let Some(made) = self.book.make(&order, clock::random(), now.wall) else {
            return (503, None);
        };
        let over = tokio::time::timeout(PATIENCE, self.hand_over(part, &made, &caller.identities));
        if over.await.ok().flatten() == Some(204) {
            return (200, Some(told(&made)));
        }
        self.book.forget(&made.identity);
        tracing::warn!(server = &*part.server, "a visited network did not take a key");
        (502, None)
    }

    async fn hand_over(&self, part: &Part, made: &Made, identities: &[Impu]) -> Option<u16> {
        let stream = TcpStream::connect((&*part.at.host, part.at.port)).await.ok()?;
        let (stream, _) = self.tls.connect(&part.at.host, stream).await.ok()?;
        let mut body = told(made);
        let names = identities.iter().take(IDENTITIES_MAX).map(Impu::as_str);
        body["identities"] = names.collect();
        let body = body.to_string().into_bytes();
        let asked = ask(stream, Method::PUT, (&part.at.host, PATH), body).await;
        asked.ok().map(|(status, _)| status)
    }

    /// Step 4.
    fn again(&self, id: &str, proof: &PskProof) -> Told {
        let identity = format!("{VISITED}{id}@{}", self.home);
        let now = clock::now();
        if !self.desk.keys().holds(proof, now) {
            return (403, None);
        }
        match self.book.of(&proof.caller.principal, &identity, now.wall) {
            Some(made) => (200, Some(told(&made))),
            None => (404, None),
        }
    }

    /// Step 2, at the visited part.
    fn take(&self, asked: &Value, names: &[Arc<str>]) -> u16 {
        let text = |key: &str| asked.get(key).and_then(Value::as_str).unwrap_or_default();
        let identity = text("identity");
        let Some((_, of)) = identity.strip_prefix(VISITED).and_then(|rest| rest.split_once('@'))
        else {
            return 400;
        };
        let speaks = |home: &&Home| {
            let shows = names.iter().any(|name| name.eq_ignore_ascii_case(&home.host));
            shows && of.eq_ignore_ascii_case(&home.host)
        };
        let Some(home) = self.homes.iter().find(speaks) else { return 403 };
        if !text("server").eq_ignore_ascii_case(self.desk.keys().server_name()) {
            return 403;
        }
        let users = asked.get("identities").and_then(Value::as_array).map(Vec::as_slice);
        let users = users.unwrap_or_default();
        if users.is_empty() || users.len() > IDENTITIES_MAX {
            return 400;
        }
        let users = users.iter().map(|user| Impu::new(user.as_str()?)).collect::<Option<Vec<_>>>();
        let Some(users) = users else { return 400 };
        if !users.iter().all(|user| home.speaks_for(user)) {
            return 403;
        }
        let key = hex(text("key")).filter(|key| key.len() == 32);
        let key = key.and_then(|key| PskKey::new(&key));
        let (Some(key), Some(expires)) = (key, calendar::parse_xml(text("expires"))) else {
            return 400;
        };
        let key = Provisioned { key, identities: users.into(), expires: Some(expires) };
        match self.desk.keys().guests().put(identity, key, clock::now().wall) {
            true => 204,
            false => 409,
        }
    }
}

impl Home {
    /// Whether a user is of a domain of it.
    fn speaks_for(&self, user: &Impu) -> bool {
        let uri = Uri::parse(user.as_str().as_bytes()).filter(|uri| uri.user().is_some());
        uri.is_some_and(|uri| {
            self.domains.iter().any(|domain| uri.host().eq_ignore_ascii_case(domain.as_bytes()))
        })
    }
}

/// A key, as both ends are told it.
fn told(made: &Made) -> Value {
    json!({
        "identity": &*made.identity,
        "server": &*made.server,
        "key": provision::hex(made.key.expose()),
        "expires": calendar::print_xml(made.expires),
    })
}

//! Stage 4, challenges: what an unauthenticated request is asked for.
//!
//! Takes:   the request, the listener it came to, and whether its nonce alone was wrong; how much the answer may weigh.
//! Gives:   the rows of WWW-Authenticate or Proxy-Authenticate, each realm and algorithm a row; those of them that fit.
//! Keeps:   nothing; the nonce carries its own MAC.
//! Refuses: nothing.
//! Sources: RFC 7616 section 3.3; RFC 8760 sections 2.3 to 2.6; RFC 3261 sections 22 and 26.3.2.4; TS 24.109 clause 5.2
//!          (a UE that bootstraps says so in User-Agent).

use std::collections::{HashMap, HashSet};

use super::digest::Hash;
use super::gba;
use super::nonce::Nonces;
use crate::enabler::{Class, ClassSet};
use crate::instant::Now;
use crate::keys::bootstrap::has_digest_token;
use crate::transport::{Arrival, ListenerId};
use crate::wire::{Credentials, Message, Method, Name, Text};

/// What is offered, in the order in which it goes out.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Realms, the preferred one first.
    pub realms: Vec<String>,
    /// The realm of keys of passwords: offered before the others to who says that he has such keys, to nobody else.
    pub of_passwords: Option<String>,
    /// Algorithms, the preferred one first.
    pub algorithms: Vec<Hash>,
    /// Listeners with algorithms of their own.
    pub of_listener: HashMap<ListenerId, Vec<Hash>>,
    /// Whether REGISTER is challenged with 401, in the registrar's place (`RG-01`).
    pub register_with_401: bool,
    /// Listeners where the edge is a user agent (B2BUA), so that all other requests are challenged with 401.
    pub user_agents: HashSet<ListenerId>,
    /// Classes for which it is one, whatever the listener.
    pub bridged: ClassSet,
}

/// One row: the value of a challenge header.
#[derive(Clone, Debug)]
pub struct Row {
    /// The value.
    pub value: String,
    /// Its algorithm's place in the order: 0 is the preferred one.
    pub rank: usize,
}

/// Rows and the code they go out with.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// 401 or 407.
    pub status: u16,
    /// The rows, in order.
    pub rows: Vec<Row>,
}

impl Challenge {
    /// The header that carries the rows.
    pub fn header(&self) -> &'static str {
        if self.status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" }
    }

    /// The same challenge, to be answered by a response that covers the body.
    #[must_use]
    pub fn integral(mut self) -> Self {
        for row in &mut self.rows {
            row.value = row.value.replace(EITHER, "qop=\"auth-int\"");
        }
        self
    }

    /// The same for a peer who is to make another key first: of the realm of bootstrapping alone, where there is one.
    #[must_use]
    pub fn for_another_key(mut self) -> Self {
        if self.rows.iter().any(Row::bootstraps) {
            self.rows.retain(Row::bootstraps);
        }
        self
    }

    /// The same with so many rows less that its answer to `message` is `over` octets shorter; `None` if no row is left.
    ///
    /// What serves its sender goes last: rows of a realm that its credentials name, or else those of bootstrapping where
    /// User-Agent says `3gpp-gba`. Otherwise the algorithm that ranks lowest goes first, then the last row. What is left
    /// keeps its order.
    #[must_use]
    pub fn shorter(mut self, message: &Message, mut over: usize) -> Option<Self> {
        let named = |row: &Row| credentials(message).any(|one| row.is_of(one.realm()));
        let names_any = self.rows.iter().any(named);
        let bootstraps = message.fields_named(Name::UserAgent).any(says_bootstrapping);
        let serves =
            |row: &Row| if names_any { named(row) } else { bootstraps && row.bootstraps() };
        let place = |(at, row): (usize, &Row)| (!serves(row), row.rank, at);
        let mut order: Vec<_> = self.rows.iter().enumerate().map(place).collect();
        order.sort_unstable();
        let around = self.header().len().saturating_add(": \r\n".len());
        let mut gone = HashSet::new();
        while let Some((.., at)) = order.pop().filter(|_| over > 0) {
            let row = self.rows.get(at).map_or(0, |row| row.value.len());
            over = over.saturating_sub(row.saturating_add(around));
            gone.insert(at);
        }
        let mut at = 0_usize..;
        self.rows.retain(|_| at.next().is_some_and(|at| !gone.contains(&at)));
        (over == 0 && !self.rows.is_empty()).then_some(self)
    }

    /// Puts the rows.
    pub fn put(&self, text: &mut Text) {
        for row in &self.rows {
            text.field(self.header(), |value| {
                value.put(&row.value);
            });
        }
    }
}

impl Row {
    fn is_of(&self, realm: &[u8]) -> bool {
        let rest = self.value.as_bytes().strip_prefix(b"Digest realm=\"");
        let rest = rest.and_then(|rest| rest.strip_prefix(realm));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    }

    fn bootstraps(&self) -> bool {
        [gba::PREFIX, gba::DIGEST_PREFIX].iter().any(|prefix| self.value.contains(prefix))
    }
}

/// The Digest credentials of a request that can be read.
fn credentials(message: &Message) -> impl Iterator<Item = Credentials<'_>> {
    let values = [Name::ProxyAuthorization, Name::Authorization];
    let values = values.into_iter().flat_map(|name| message.fields_named(name));
    values.filter_map(|value| Credentials::parse(value).ok().flatten())
}

/// Whether a User-Agent has a product token of bootstrapping: `3gpp-gba`, `3gpp-gba-uicc` and others of that name, or
/// that of passwords.
fn says_bootstrapping(agent: &[u8]) -> bool {
    agent.split(u8::is_ascii_whitespace).any(|token| token.starts_with(b"3gpp-gba"))
        || has_digest_token(agent)
}

/// What most challenges leave to the UE.
pub(super) const EITHER: &str = "qop=\"auth,auth-int\"";

impl Offer {
    /// The algorithms of a listener.
    pub fn algorithms(&self, listener: ListenerId) -> &[Hash] {
        self.of_listener.get(&listener).unwrap_or(&self.algorithms)
    }

    /// The realms for who sent `message`.
    fn realms_for(&self, message: &Message) -> impl Iterator<Item = &String> {
        let says = || message.fields_named(Name::UserAgent).any(has_digest_token);
        self.of_passwords.iter().filter(move |_| says()).chain(&self.realms)
    }

    /// The code a request is challenged with.
    pub fn status(&self, message: &Message, listener: ListenerId, class: Class) -> u16 {
        let stands_in = match message.method() {
            Some(Method::Register) => self.register_with_401,
            _ => self.user_agents.contains(&listener) || self.bridged.has(class),
        };
        if stands_in { 401 } else { 407 }
    }

    /// The challenge of a listener where Digest is agreed on: by MD5 and over the body, as its list says.
    pub fn challenge_agreed(
        &self,
        message: &Message,
        (listener, class): (ListenerId, Class),
        nonces: &Nonces,
        now: Now,
    ) -> Challenge {
        let row = |realm: &String| {
            let nonce = nonces.issue(message.call_id(), now);
            let parts = ["Digest realm=\"", realm, "\", nonce=\"", &nonce];
            let value = [&parts.concat(), "\", algorithm=MD5, qop=\"auth-int\""].concat();
            Row { value, rank: 0 }
        };
        let rows = self.realms_for(message).map(row).collect();
        Challenge { status: self.status(message, listener, class), rows }
    }

    /// The challenge to one request.
    pub fn challenge(
        &self,
        message: &Message,
        (arrival, class): (&Arrival, Class),
        nonces: &Nonces,
        stale: bool,
        now: Now,
    ) -> Challenge {
        let algorithms = self.algorithms(arrival.flow.listener);
        let mut rows = Vec::with_capacity(self.realms.len().saturating_mul(algorithms.len()));
        for realm in self.realms_for(message) {
            let nonce = nonces.issue(message.call_id(), now);
            for (rank, hash) in algorithms.iter().enumerate() {
                let parts = [
                    "Digest realm=\"",
                    realm,
                    "\", nonce=\"",
                    &nonce,
                    "\", algorithm=",
                    hash.as_str(),
                    ", ",
                    EITHER,
                    if stale { ", stale=true" } else { "" },
                ];
                rows.push(Row { value: parts.concat(), rank });
            }
        }
        Challenge { status: self.status(message, arrival.flow.listener, class), rows }
    }
}

//! Stage 4, challenges: what an unauthenticated request is asked for.
//!
//! Takes:   the request, the listener it came to, and whether its nonce alone was wrong.
//! Gives:   the rows of WWW-Authenticate or Proxy-Authenticate, each realm and algorithm a row.
//! Keeps:   nothing; the nonce carries its own MAC.
//! Refuses: nothing.
//! Sources: RFC 7616 section 3.3; RFC 8760 sections 2.3 to 2.6; RFC 3261 section 22.

use std::collections::{HashMap, HashSet};

use super::digest::Hash;
use super::nonce::Nonces;
use crate::enabler::{Class, ClassSet};
use crate::instant::Now;
use crate::transport::{Arrival, ListenerId};
use crate::wire::{Message, Method, Text};

/// What is offered, in the order in which it goes out.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Realms, the preferred one first.
    pub realms: Vec<String>,
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
        let bootstraps = |row: &Row| row.value.contains(super::gba::PREFIX);
        if self.rows.iter().any(bootstraps) {
            self.rows.retain(bootstraps);
        }
        self
    }

    /// Puts the rows whose algorithm ranks below `ranks`, `most` at most.
    pub fn put(&self, text: &mut Text, ranks: usize, most: usize) {
        for row in self.rows.iter().filter(|row| row.rank < ranks).take(most) {
            text.field(self.header(), |value| {
                value.put(&row.value);
            });
        }
    }
}

/// What most challenges leave to the UE.
pub(super) const EITHER: &str = "qop=\"auth,auth-int\"";

impl Offer {
    /// The algorithms of a listener.
    pub fn algorithms(&self, listener: ListenerId) -> &[Hash] {
        self.of_listener.get(&listener).unwrap_or(&self.algorithms)
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
        let rows = self.realms.iter().map(row).collect();
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
        for realm in &self.realms {
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

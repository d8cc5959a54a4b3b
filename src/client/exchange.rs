//! The UE, exchanges: a request of its own on its way, and what is kept of it until no copy of its answer can come any more.
//!
//! Takes:   a draft, and the machine of its transaction.
//! Gives:   an [`Exchange`]; room for another.
//! Keeps:   nothing itself; its table has at most [`HELD_MAX`].
//! Refuses: another one while each of so many still waits for its answer.
//! Sources: RFC 3261 sections 13.2.2.4 and 17.1; RFC 6026 section 7.2 (Accepted, for 64*T1).

use std::collections::HashMap;

use bytes::Bytes;

use super::agent::HELD_MAX;
use super::draft::Draft;
use crate::forward::context::AnyClient;
use crate::forward::transaction::ClientKey;

/// A request and its transaction.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) asked: Asked,
    pub(super) machine: AnyClient,
    /// Whether its final response was told.
    pub(super) answered: bool,
    /// The tag of who sent a 2xx to our INVITE, and the ACK to it.
    pub(super) acknowledged: Option<(String, Bytes)>,
}

/// What is asked: for whom, by which request, and the how manieth that is.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) draft: Draft,
    pub(super) tries: u8,
}

impl Exchange {
    pub(super) fn new(asked: Asked, machine: AnyClient) -> Self {
        Self { asked, machine, answered: false, acknowledged: None }
    }
}

/// Whether there is room for another exchange, once the oldest that only waits for copies of its answer has gone.
pub(super) fn has_room(clients: &mut HashMap<ClientKey, Exchange>) -> bool {
    if clients.len() < HELD_MAX {
        return true;
    }
    let answered = clients.iter().filter(|(_, exchange)| exchange.answered);
    let oldest = answered.min_by_key(|(_, exchange)| exchange.asked.id).map(|(key, _)| *key);
    oldest.is_some_and(|key| clients.remove(&key).is_some())
}

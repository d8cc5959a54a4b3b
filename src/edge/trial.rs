//! The edge, trials: a message that did not arrive, put before every worker.
//!
//! Takes:   its octets, and how it would have come.
//! Gives:   the [`Account`] of the worker that holds its transaction, else of the first.
//! Keeps:   nothing.
//! Refuses: a listener that is not there, or does not speak that transport.
//! Sources: `dialog-association` section 17 (`explain`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::groups::{self, GroupSpec};
use super::{Edge, Mail, Worker};
use crate::clock;
use crate::journey::Account;
use crate::transport::{
    Arrival, BoundListener, ConnectionId, Flow, Group, GroupId, ListenerId, Pending, Side,
    Transport,
};

/// How a message would have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Over what.
    pub transport: Transport,
    /// From where. An open connection from there is the one it would have come on.
    pub from: SocketAddr,
    /// The face it would have come to.
    pub side: Side,
    /// The listener, by its place; the first that fits, if none is named.
    pub listener: Option<ListenerId>,
    /// The peer group whose certificate was shown, on the core side.
    pub group: Option<GroupId>,
    /// How long from now.
    pub ahead: Duration,
}

impl Told {
    /// The listener it would have come to.
    ///
    /// # Errors
    ///
    /// That there is none.
    pub fn listener<'b>(
        &self,
        bound: &'b [Arc<BoundListener>],
    ) -> Result<&'b Arc<BoundListener>, &'static str> {
        let fits = |bound: &&Arc<BoundListener>| {
            bound.spec.side == self.side
                && bound.speaks(self.transport)
                && self.listener.is_none_or(|id| bound.spec.id == id)
        };
        bound.iter().find(fits).ok_or("no listener speaks that there")
    }

    /// The arrival there, on a connection that was never open.
    pub fn arrival(&self, listener: &BoundListener, groups: &[GroupSpec]) -> Arrival {
        let nowhere = ConnectionId { slot: u32::MAX, generation: 0 };
        let flow = Flow {
            transport: self.transport,
            listener: listener.spec.id,
            remote: self.from,
            connection: (self.transport != Transport::Udp).then_some(nowhere),
        };
        let shown = self.group.filter(|_| self.side == Side::Core);
        let shown = shown.map(|id| Group { id, by_certificate: true });
        let known = || (self.side == Side::Core).then(|| groups::of(groups, &flow, None)).flatten();
        let group = shown.or_else(known);
        let (side, local) = (self.side, listener.local);
        Arrival { flow, side, local, channel: None, group, pending: Pending::None }
    }
}

/// A message put before a worker.
pub(super) struct Trial {
    octets: Bytes,
    told: Told,
    listener: Arc<BoundListener>,
    reply: mpsc::Sender<Account>,
}

impl Edge {
    /// What would become of a message.
    ///
    /// # Errors
    ///
    /// Why it cannot come like that.
    pub async fn explain(&self, octets: Bytes, told: &Told) -> Result<Account, &'static str> {
        let listener = told.listener(&self.listeners)?;
        let (reply, mut replies) = mpsc::channel(self.wake.len().max(1));
        for worker in &self.wake {
            let (octets, told) = (octets.clone(), told.clone());
            let (listener, reply) = (Arc::clone(listener), reply.clone());
            let trial = Box::new(Trial { octets, told, listener, reply });
            worker.try_send(Mail::Try(trial)).map_err(|_| "a worker takes no more letters")?;
        }
        drop(reply);
        let mut first = None;
        while let Some(account) = replies.recv().await {
            if account.held {
                return Ok(account);
            }
            first = first.or(Some(account));
        }
        first.ok_or("no worker answers")
    }
}

impl Worker {
    /// Gives the account of a message.
    pub(super) fn try_out(&self, trial: Trial) {
        let Trial { octets, told, listener, reply } = trial;
        let now = clock::now() + told.ahead;
        let account = self.journey.borrow().explain(octets, &self.fancied(&told, &listener), now);
        // Who asked may be gone.
        drop(reply.try_send(account));
    }

    /// The arrival that is meant.
    fn fancied(&self, told: &Told, listener: &BoundListener) -> Arrival {
        let flows = self.transports.flows();
        let open = flows.find_from(told.transport, told.from);
        if let Some(facts) = open.and_then(|flow| flows.facts(&flow)) {
            return self.arrival_of(&facts);
        }
        told.arrival(listener, &self.seat.spec.groups)
    }
}

//! The edge, arrivals: how a message came, and word of datagrams that nobody took.
//!
//! Takes:   flows, and what is known of their connections; what came back of datagrams.
//! Gives:   [`Arrival`]; the word, to the worker that sent the datagram.
//! Keeps:   nothing.
//! Refuses: nothing; word that names no worker is nobody's.
//! Sources: RFC 5922 section 7.4; `CR-04`; RFC 3261 section 18.4.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{Fault, Mail, Worker, groups};
use crate::forward::Proxy;
use crate::forward::refused::Quoted;
use crate::transport::{Arrival, Flow, ListenerId, Pending, Side, StreamFacts};

impl Worker {
    pub(super) fn arrival(
        &self,
        flow: Flow,
        side: Side,
        local: SocketAddr,
        names: Option<&[Arc<str>]>,
    ) -> Arrival {
        let group = (side == Side::Core)
            .then(|| groups::of(&self.seat.spec.groups, &flow, names))
            .flatten();
        Arrival { flow, side, local, channel: None, group, pending: Pending::None }
    }

    pub(super) fn arrival_of(&self, stream: &StreamFacts) -> Arrival {
        let names = stream.names.as_ref().map(|names| names.domains.as_slice());
        let arrival = self.arrival(stream.flow, stream.side, stream.local, names);
        Arrival { channel: stream.channel.clone(), ..arrival }
    }

    pub(super) fn side_of(&self, listener: ListenerId) -> Side {
        let bound = self.seat.spec.listeners.get(usize::from(listener.0));
        bound.map_or(Side::Ue, |bound| bound.spec.side)
    }

    /// Nobody takes datagrams there. Each worker has a socket of its own on the port, and any of them may be told.
    pub(super) fn hear_refusal(&self, flow: &Flow, octets: &[u8]) {
        let Some(quoted) = Quoted::of(octets) else { return };
        let owner = Proxy::worker_of(quoted.branch);
        let other = owner.filter(|owner| *owner != self.seat.number);
        match other.and_then(|owner| self.seat.others.get(usize::from(owner))) {
            Some(other) => {
                let letter = Mail::Refused(Box::new((*flow, Bytes::copy_from_slice(octets))));
                if other.try_send(letter).is_err() {
                    self.seat.spec.watch.fault(Fault::MailFull);
                }
            }
            None => self.with(|journey, now| {
                if journey.refused(flow, &quoted, now) {
                    self.seat.spec.watch.fault(Fault::Unreachable);
                }
            }),
        }
    }
}

//! For tests: somebody who sends and receives, on a flow of his own.
//!
//! Takes:   an address, a transport, the number of a connection, what a handshake proved.
//! Gives:   [`Peer`]: the facts about what it sends.
//! Keeps:   those facts.
//! Refuses: nothing.
//! Sources: none.

use std::sync::Arc;

use crate::authentication::Caller;
use crate::transport::{
    Arrival, ConnectionId, Flow, Group, GroupId, ListenerId, Pending, Side, Transport,
};

/// Somebody who sends and receives.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(super) arrival: Arrival,
}

impl Peer {
    /// A UE on UDP.
    pub fn udp(from: &str) -> Self {
        Self::new(Transport::Udp, from, Side::Ue, 0, None)
    }

    /// A UE on a TCP connection of that number.
    pub fn tcp(from: &str, connection: u32) -> Self {
        Self::new(Transport::Tcp, from, Side::Ue, 0, Some(connection))
    }

    /// The same peer on another connection in the same place: the next generation of its slot.
    pub fn again(mut self) -> Self {
        if let Some(connection) = &mut self.arrival.flow.connection {
            connection.generation = connection.generation.wrapping_add(1);
        }
        self
    }

    /// A UE on a TLS connection of that number, without a certificate of its own.
    pub fn tls(from: &str, connection: u32) -> Self {
        Self::new(Transport::Tls, from, Side::Ue, 1, Some(connection))
    }

    /// A UE on a DTLS session of that number.
    pub fn dtls(from: &str, session: u32) -> Self {
        Self::new(Transport::Dtls, from, Side::Ue, 1, Some(session))
    }

    /// A UE on a WebSocket connection of that number, under TLS.
    pub fn wss(from: &str, connection: u32) -> Self {
        Self::new(Transport::Wss, from, Side::Ue, 3, Some(connection))
    }

    /// The same, if its handshake proved who it is.
    pub fn proved(mut self, caller: Arc<Caller>) -> Self {
        self.arrival.channel = Some(caller);
        self
    }

    /// The server of the core.
    pub fn core() -> Self {
        Self::core_at("203.0.113.10:5060")
    }

    /// Another server of the core.
    pub fn core_at(address: &str) -> Self {
        let mut core = Self::new(Transport::Udp, address, Side::Core, 2, None);
        core.arrival.group = Some(Group { id: GroupId(0), by_certificate: false });
        core
    }

    /// Somebody on the core side who is in no group.
    pub fn stray(from: &str) -> Self {
        Self::new(Transport::Udp, from, Side::Core, 2, None)
    }

    pub(super) fn new(
        transport: Transport,
        from: &str,
        side: Side,
        listener: u16,
        slot: Option<u32>,
    ) -> Self {
        let local = if side == Side::Ue { "198.51.100.1:5060" } else { "198.51.100.2:5060" };
        let flow = Flow {
            transport,
            listener: ListenerId(listener),
            remote: from.parse().expect("an address"),
            connection: slot.map(|slot| ConnectionId { slot, generation: 0 }),
        };
        let arrival = Arrival {
            flow,
            side,
            local: local.parse().expect("an address"),
            channel: None,
            group: None,
            pending: Pending::None,
        };
        Self { arrival }
    }

    /// Its flow.
    pub fn flow(&self) -> Flow {
        self.arrival.flow
    }

    /// The facts about what it sends.
    pub fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }
}

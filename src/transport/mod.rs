//! Stage 1, transport: octets and where they came from.
//!
//! Takes:   sockets, in the shell files; nothing here reads one.
//! Gives:   [`Arrival`], the facts about one message that no header can claim.
//! Keeps:   nothing here; flows keep what was proved on them.
//! Refuses: see `demux` (first octet) and `limits` of each transport.
//! Sources: RFC 3261 section 18; RFC 5626 section 3 (flow); RFC 7118 section 5; `TR-01` to `TR-17`.

#[cfg(feature = "edge")]
pub mod aliases;
#[cfg(feature = "edge")]
mod batch;
pub mod client_hello;
pub mod demux;
#[cfg(feature = "edge")]
pub mod doors;
pub mod dtls;
#[cfg(feature = "edge")]
pub mod export;
#[cfg(feature = "edge")]
pub mod flows;
#[cfg(feature = "openssl")]
pub(crate) mod greet;
#[cfg(feature = "edge")]
#[cfg_attr(not(feature = "openssl"), allow(dead_code, reason = "shared keys alone hold back"))]
pub mod held;
#[cfg(feature = "edge")]
pub mod key_desk;
#[cfg(feature = "edge")]
pub mod listen;
#[cfg(feature = "edge")]
pub mod ocsp;
#[cfg(feature = "edge")]
pub mod peer;
#[cfg(feature = "edge")]
pub mod peers;
#[cfg(feature = "openssl")]
pub mod psk_stream;
#[cfg(feature = "openssl")]
pub mod psk_tls;
#[cfg(feature = "openssl")]
mod psk_tls13;
/// PSK-TLS, which this build does not have.
#[cfg(all(feature = "edge", not(feature = "openssl")))]
pub mod psk_tls {
    /// What no build without OpenSSL can make.
    #[derive(Clone, Copy, Debug)]
    pub enum PskServer {}
}
pub mod resolve;
#[cfg(feature = "edge")]
mod socket;
#[cfg(feature = "edge")]
mod standing;
#[cfg(feature = "edge")]
pub mod stream;
pub mod stun;
#[cfg(feature = "edge")]
pub mod tally;
#[cfg(feature = "edge")]
mod tcp;
#[cfg(feature = "edge")]
pub mod tls;
#[cfg(feature = "edge")]
mod transports;
#[cfg(feature = "edge")]
pub mod udp;
#[cfg(feature = "edge")]
mod users;
#[cfg(feature = "edge")]
pub(crate) mod vouched;
pub mod ws;

#[cfg(feature = "edge")]
pub use flows::{Flows, Limits, SendError};
#[cfg(feature = "edge")]
pub use key_desk::KeyDesk;
#[cfg(feature = "edge")]
pub use listen::{BindError, BoundListener, ListenSpec, Sockets, bind};
#[cfg(feature = "edge")]
pub use stream::{Closed, DialError, Patience, Receiver, StreamFacts};
#[cfg(feature = "edge")]
pub(crate) use tcp::guarded;
#[cfg(feature = "edge")]
pub use transports::{Parts, Transports};

use std::net::SocketAddr;
use std::sync::Arc;

use crate::authentication::Caller;

/// How octets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams, in the clear.
    Udp,
    /// A stream, in the clear.
    Tcp,
    /// A stream under TLS.
    Tls,
    /// Datagrams under DTLS.
    Dtls,
    /// WebSocket messages, in the clear.
    Ws,
    /// WebSocket messages under TLS.
    Wss,
}

impl Transport {
    /// Whether the transport itself repeats what is lost.
    pub fn is_reliable(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls | Self::Ws | Self::Wss)
    }

    /// Whether it gives confidentiality and integrity.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Dtls | Self::Wss)
    }

    /// Whether each message lies in a WebSocket message of its own.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The token in a Via.
    pub fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Dtls => "DTLS-UDP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The value of a URI's transport parameter; one for both kinds of WebSocket (RFC 7118 section 5.2).
    pub fn uri_token(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls-udp",
            Self::Ws | Self::Wss => "ws",
        }
    }

    /// The port where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls | Self::Dtls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// The two faces of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where devices are.
    Ue,
    /// Where the servers are.
    Core,
}

/// A configured listener, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// A configured peer group, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// One connection: a slot of the table, and how often the slot was given out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The slot.
    pub slot: u32,
    /// Its generation: a reused slot has another one.
    pub generation: u32,
}

/// A transport path to one peer: a connection, or for UDP the pair of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// How octets travel on it.
    pub transport: Transport,
    /// Our end.
    pub listener: ListenerId,
    /// Their end.
    pub remote: SocketAddr,
    /// The connection; `None` for UDP.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// The address that its own messages may be told they came from: on WebSocket it may be that of something in between,
    /// and is not told.
    ///
    /// Source: RFC 7118 section 5.3; `VIA-10`.
    pub fn source_to_tell(&self) -> Option<SocketAddr> {
        (!self.transport.is_websocket()).then_some(self.remote)
    }
}

/// What transport knows about one message, whatever its headers say.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The flow it came on.
    pub flow: Flow,
    /// The face it came to.
    pub side: Side,
    /// Our address it was sent to.
    pub local: SocketAddr,
    /// Whom the flow's own handshake proved, by a shared key or by a user's certificate.
    pub channel: Option<Arc<Caller>>,
    /// The peer group on the core side, by certificate or by address; `None` if it is in none.
    pub group: Option<Group>,
    /// What the transaction layer knows about an ACK or a CANCEL.
    pub pending: Pending,
}

/// A peer group, and what proved the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Which.
    pub id: GroupId,
    /// By certificate (level 3), or by address alone (level 1).
    pub by_certificate: bool,
}

/// How an ACK or CANCEL stands to the INVITE transactions; `None` for every other method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    /// No transaction of that branch, sent-by and (for CANCEL) Call-ID, From tag and CSeq number.
    #[default]
    None,
    /// An INVITE that has no final answer yet, received on the same flow.
    Invite,
    /// A transaction of another method on the same flow: CANCEL of it has no effect.
    Other,
}

/// Where a request to the core is to go: one address of one peer, found by resolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// How to reach it.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
    /// The SIP domain that its certificate must carry: that of the URI, never the SRV target (`DNS-05`).
    pub domain: Arc<str>,
    /// The group it belongs to.
    pub group: GroupId,
}

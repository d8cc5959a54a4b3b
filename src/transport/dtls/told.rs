//! Stage 1, DTLS told: what the sessions of a socket have for the shell.
//!
//! Takes:   what happened to a handshake or a session.
//! Gives:   [`Output`], for the shell to do; [`Tally`], for it to count.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: style of machines as everywhere in this crate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::engine::{Ended, Proof};

/// One handshake, and the session that comes of it. Never given twice by one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

/// What the shell is to do.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// To whom.
        to: SocketAddr,
        /// What.
        octets: Bytes,
    },
    /// Find the key, then call [`Sessions::key`](super::sessions::Sessions::key).
    Ask {
        /// For whom.
        id: SessionId,
        /// The identity that the client named.
        identity: Bytes,
        /// The suite that the key is for.
        suite: u16,
        /// The server that the client asked for.
        asked_for: Option<Arc<str>>,
    },
    /// A session stands.
    Opened {
        /// Which.
        id: SessionId,
        /// With whom.
        from: SocketAddr,
        /// Who that proved to be.
        proof: Proof,
        /// The server that the client asked for.
        asked_for: Option<Arc<str>>,
    },
    /// A message came.
    Data {
        /// On which session.
        id: SessionId,
        /// The message.
        octets: Bytes,
    },
    /// Nothing came for so long: [`Sessions::close`](super::sessions::Sessions::close), or it goes on.
    Idle {
        /// On which session.
        id: SessionId,
        /// For how long.
        since: Duration,
    },
    /// A session is over whose end was set.
    Over(SessionId),
    /// A session that stood is no more.
    Closed(SessionId, Why),
}

impl Output {
    /// Which session it is about; none for a datagram.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Send { .. } => None,
            Self::Ask { id, .. }
            | Self::Opened { id, .. }
            | Self::Data { id, .. }
            | Self::Idle { id, .. }
            | Self::Over(id)
            | Self::Closed(id, _) => Some(*id),
        }
    }
}

/// Why a session is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The engine said so.
    Ended(Ended),
    /// Its peer began anew from the same address.
    Replaced,
    /// A fault of ours: see [`Sessions::abandon`](super::sessions::Sessions::abandon).
    Panicked,
}

/// What happened, as numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Hellos answered with a cookie, or with an alert.
    pub answered: u64,
    /// Handshakes begun.
    pub begun: u64,
    /// Hellos that began no handshake because too many were under way.
    pub crowded: u64,
    /// Handshakes that ended well.
    pub established: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Handshakes that took too long.
    pub slow: u64,
    /// Datagrams that nothing was done with.
    pub dropped: u64,
}

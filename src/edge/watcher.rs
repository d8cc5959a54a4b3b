//! The edge, watched: what happens in it, told to whoever counts, traces or draws it.
//!
//! Takes:   decisions, arrivals, what was sent, faults.
//! Gives:   [`Watch`], the seam; [`Fault`].
//! Keeps:   nothing.
//! Refuses: nothing; a watcher is called on a worker's thread and must not block.
//! Sources: none.

use bytes::Bytes;

use crate::forward::Destination;
use crate::journey::Decision;
use crate::transport::{Arrival, DialError, Target};
use crate::wire::Message;

/// Who watches an edge: counters, traces, the ladder of a demonstration.
pub trait Watch: Send + Sync {
    /// Something was decided about a message.
    fn decided(&self, decision: &Decision);

    /// A message arrived.
    fn arrived(&self, _arrival: &Arrival, _message: &Message) {}

    /// Octets were sent.
    fn sent(&self, _to: &Destination, _octets: &Bytes) {}

    /// Something was dropped that no peer is to blame for.
    fn fault(&self, _what: Fault) {}

    /// A server could not be reached.
    fn unreachable(&self, _server: &Target, _why: &DialError) {
        self.fault(Fault::Unreachable);
    }
}

/// What is ours to regret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A worker's queue was full.
    MailFull,
    /// The queue of lookups was full.
    LookupsFull,
    /// Octets could not be sent.
    SendFailed,
    /// A server could not be reached.
    Unreachable,
    /// A key server, or a source of vectors, panicked: who waits for its answer is told that there is none. Or a letter
    /// or a timer of a worker's did, which is given up.
    Panicked,
}

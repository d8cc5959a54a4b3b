//! Stage 7, transactions: four machines that repeat, absorb and give up, so that nobody above has to.
//!
//! Takes:   octets already printed, responses and requests that matched by [`key`], and the time.
//! Gives:   what to send, and what the user of the transaction has to know. All four have one shape: after
//!          `new` and after each `handle`, drain `poll_output`, then arm one timer for `poll_timeout`;
//!          when it fires, `handle` the input `Timeout`. What was not drained before the next `handle` is lost.
//! Keeps:   the last octets that may have to be repeated, and no others; a machine is under 256 octets
//!          beside them.
//! Refuses: see each machine. None of them can fail, and each one ends by itself in finite time.
//! Sources: RFC 3261 section 17; RFC 6026; RFC 4320; `TX-01` to `TX-08`.

pub mod client;
pub mod client_invite;
pub mod key;
pub mod server;
pub mod server_invite;

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

pub use client::Client;
pub use client_invite::ClientInvite;
pub use key::{ClientKey, Keys, ServerKey};
pub use server::Server;
pub use server_invite::ServerInvite;

use super::timers::{Timer, Timings};
use crate::instant::Instant;
use crate::wire::Message;

/// What a client machine is told.
#[derive(Clone, Copy, Debug)]
pub enum ClientInput<'m> {
    /// A response that matched (RFC 3261 section 17.1.3).
    Response(&'m Message),
    /// The user wants the INVITE cancelled; other requests are not cancelled (RFC 3261 section 9.1).
    Cancel,
    /// What was to be sent could not be sent.
    TransportFailed,
    /// The time that `poll_timeout` named has come.
    Timeout,
}

/// What a client machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send these octets where the request went.
    Send(Bytes),
    /// The response just handled is a provisional one (its status) for the user.
    Provisional(u16),
    /// The response just handled is a final one (its status) for the user. An INVITE can have many 2xx.
    Final(u16),
    /// These octets are the CANCEL: start a client transaction with them, to where the request went.
    Cancel(Bytes),
    /// No final response will come: as 408. [`ClientOutput::Terminated`] follows.
    Timeout,
    /// The transport failed: as 503. [`ClientOutput::Terminated`] follows.
    TransportFailed,
    /// The transaction is over: forget it. Always the last output.
    Terminated,
}

/// What a server machine is told.
#[derive(Clone, Debug)]
pub enum ServerInput {
    /// The request came again.
    Retransmission,
    /// An ACK matched the INVITE and was found to be its sender's.
    Ack,
    /// The user answers.
    Respond {
        /// The status code of the response.
        status: u16,
        /// The whole response.
        octets: Bytes,
    },
    /// What was to be sent could not be sent.
    TransportFailed,
    /// The time that `poll_timeout` named has come.
    Timeout,
}

/// What a server machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// Send these octets where the request came from.
    Send(Bytes),
    /// Nothing was answered for so long that a 100 is due: make one and `handle` it as a `Respond`.
    TryingDue,
    /// The ACK just handled belongs to a 2xx: it is for the user.
    Ack,
    /// Nobody acknowledged the final response, or the user gave none. [`ServerOutput::Terminated`] follows.
    Timeout,
    /// The transport failed. The transaction goes on, to absorb retransmissions.
    TransportFailed,
    /// The transaction is over: forget it. Always the last output.
    Terminated,
}

/// A retransmission timer: when it fires, and how long it ran.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    timer: Timer,
    at: Instant,
    interval: Duration,
}

impl Repeat {
    /// Sets the timer for the first time; `None` on a transport that repeats by itself.
    fn start(timer: Timer, timings: Timings, reliable: bool, now: Instant) -> Option<Self> {
        let interval = timings.first(timer, reliable)?;
        Some(Self { timer, at: now + interval, interval })
    }

    /// Sets the timer again after it fired.
    fn restart(self, timings: Timings, now: Instant) -> Self {
        self.restart_after(timings.again(self.timer, self.interval), now)
    }

    /// Sets the timer to run for `interval`.
    fn restart_after(self, interval: Duration, now: Instant) -> Self {
        Self { timer: self.timer, at: now + interval, interval }
    }
}

/// Outputs not drained yet; a machine puts four at most for one input.
#[derive(Clone, Debug)]
struct Queue<A>(SmallVec<[A; 4]>);

impl<A> Queue<A> {
    fn new(first: Option<A>) -> Self {
        Self(first.into_iter().collect())
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn put(&mut self, act: A) {
        self.0.push(act);
    }

    fn take(&mut self) -> Option<A> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}

/// Whether a deadline has come.
fn is_due(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|at| at <= now)
}

/// The earlier of two deadlines, where there are any.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

//! Stage 7, server transaction of a request that is neither INVITE nor ACK.
//!
//! 1. Trying: the request went to the user; repetitions are absorbed. When the sender's Timer E has reached T2
//!    a 100 is due, over any transport.
//! 2. Proceeding, on 100 from the user: it is sent, and again for each repetition. Over unreliable transports a
//!    100 before it was due is withheld.
//! 3. Completed, on 200 to 699 from the user: it is sent, and again for each repetition until Timer J.
//! 4. Terminated: by Timer J; or when 64*T1 have passed without a final response, since the sender's Timer F
//!    has then fired: nothing is sent, least of all 408.
//! 5. A failed transport is told, and changes nothing.
//!
//! Takes:   [`ServerInput`].
//! Gives:   [`ServerOutput`].
//! Keeps:   the last response while it may be repeated.
//! Refuses: from the user: 101 to 199, 408, whatever follows a final response. ACK.
//! Sources: RFC 3261 sections 17.2.2 and 17.2.4, figure 8; RFC 4320 sections 4.1 and 4.2; RFC 6026 section 8.8;
//!          `TX-01`, `TX-05`.

use bytes::Bytes;

use super::{Queue, ServerInput, ServerOutput, earlier, is_due};
use crate::forward::timers::{Timer, Timings};
use crate::instant::Instant;
use crate::transport::Transport;

/// The states of RFC 3261 figure 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the state of that name in the figure")]
pub enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Server {
    state: State,
    reliable: bool,
    timings: Timings,
    response: Bytes,
    /// When a 100 is due.
    trying: Option<Instant>,
    /// 64*T1 without a final response, then Timer J.
    end: Option<Instant>,
    outputs: Queue<Act>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    TryingDue,
    Timeout,
    TransportFailed,
    Terminated,
}

impl Server {
    /// Starts the transaction of a request that has just come.
    pub fn new(transport: Transport, timings: Timings, now: Instant) -> Self {
        Self {
            state: State::Trying,
            reliable: transport.is_reliable(),
            timings,
            response: Bytes::new(),
            trying: Some(now + timings.trying_not_invite()),
            end: Some(now + timings.life()),
            outputs: Queue::new(None),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The final response, and when the last copy of the request is waited for; `None` before there is one.
    pub fn completed(&self) -> Option<(&Bytes, Instant)> {
        let end = self.end.filter(|_| self.state == State::Completed)?;
        Some((&self.response, end))
    }

    /// One input; drain [`Server::poll_output`] afterwards.
    pub fn handle(&mut self, input: ServerInput, now: Instant) {
        self.outputs.clear();
        match (self.state, input) {
            (State::Terminated, _) | (_, ServerInput::Ack) => {}
            (_, ServerInput::Timeout) => self.time(now),
            (_, ServerInput::TransportFailed) => self.outputs.put(Act::TransportFailed),
            (State::Trying, ServerInput::Retransmission) => {}
            (_, ServerInput::Retransmission) => self.outputs.put(Act::Send),
            (State::Completed, ServerInput::Respond { .. }) => {}
            (_, ServerInput::Respond { status, octets }) => match status {
                100 if self.reliable || self.trying.is_none_or(|due| due <= now) => {
                    self.proceed(octets);
                }
                408 => {}
                200..700 => self.complete(octets, now),
                _ => {}
            },
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        Some(match self.outputs.take()? {
            Act::Send => ServerOutput::Send(self.response.clone()),
            Act::TryingDue => ServerOutput::TryingDue,
            Act::Timeout => ServerOutput::Timeout,
            Act::TransportFailed => ServerOutput::TransportFailed,
            Act::Terminated => ServerOutput::Terminated,
        })
    }

    /// When [`ServerInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.trying, self.end)
    }

    fn time(&mut self, now: Instant) {
        if is_due(self.end, now) {
            if self.state != State::Completed {
                self.outputs.put(Act::Timeout);
            }
            self.terminate();
        } else if is_due(self.trying, now) {
            self.trying = None;
            self.outputs.put(Act::TryingDue);
        }
    }

    fn proceed(&mut self, octets: Bytes) {
        self.state = State::Proceeding;
        self.response = octets;
        self.trying = None;
        self.outputs.put(Act::Send);
    }

    fn complete(&mut self, octets: Bytes, now: Instant) {
        self.state = State::Completed;
        self.response = octets;
        self.trying = None;
        self.end = self.timings.first(Timer::J, self.reliable).map(|length| now + length);
        self.outputs.put(Act::Send);
        if is_due(self.end, now) {
            self.terminate(); // a reliable transport repeats nothing
        }
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        (self.trying, self.end) = (None, None);
        self.outputs.put(Act::Terminated);
    }
}

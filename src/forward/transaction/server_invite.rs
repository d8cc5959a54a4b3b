//! Stage 7, server transaction of an INVITE.
//!
//! 1. Proceeding: the INVITE went to the user. A 100 is due after 200 ms of silence, or when the INVITE comes
//!    again before. What the user says provisionally is sent, and again for each repetition.
//! 2. Accepted, on 2xx from the user: each 2xx of the user is sent, none is repeated; repetitions of the INVITE
//!    are absorbed, ACKs go to the user, until Timer L.
//! 3. Completed, on 300 to 699 from the user: it is sent; Timer G repeats it, doubling up to T2 (unreliable
//!    transports), and so does each repetition of the INVITE; Timer H waits for ACK.
//! 4. Confirmed, on ACK: everything is absorbed until Timer I.
//! 5. Terminated: by Timer I or L; or by Timer H, of which the user is told.
//! 6. A failed transport is told, and changes nothing.
//!
//! Takes:   [`ServerInput`].
//! Gives:   [`ServerOutput`].
//! Keeps:   the last response while it may be repeated. A user that has said nothing for 64 transaction lives
//!          (34 minutes at T1 500 ms) is given up, so that no error above can fill the table.
//! Refuses: from the user: 1xx after a final response, another final response, 2xx after it. ACK before a final
//!          response.
//! Sources: RFC 3261 sections 17.2.1 and 17.2.4; RFC 6026 sections 6, 7.1, 8.5 to 8.8 and figure 7;
//!          `TX-01`, `TX-02`, `TX-03`, `TX-06`.

use bytes::Bytes;

use super::{Queue, Repeat, ServerInput, ServerOutput, earlier, is_due};
use crate::forward::timers::{Timer, Timings};
use crate::instant::Instant;
use crate::transport::Transport;

/// The states of RFC 6026 section 8.6, figure 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the state of that name in the figure")]
pub enum State {
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
    Terminated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct ServerInvite {
    state: State,
    reliable: bool,
    timings: Timings,
    response: Bytes,
    /// When a 100 is due.
    trying: Option<Instant>,
    /// Timer G.
    repeat: Option<Repeat>,
    /// The user's patience, then Timer L, or H and then I.
    end: Option<Instant>,
    outputs: Queue<Act>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    TryingDue,
    Ack,
    Timeout,
    TransportFailed,
    Terminated,
}

impl ServerInvite {
    /// Starts the transaction of an INVITE that has just come.
    pub fn new(transport: Transport, timings: Timings, now: Instant) -> Self {
        Self {
            state: State::Proceeding,
            reliable: transport.is_reliable(),
            timings,
            response: Bytes::new(),
            trying: Some(now + Timings::TRYING),
            repeat: None,
            end: Some(now + timings.life().saturating_mul(LIVES)),
            outputs: Queue::new(None),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The last response, while it may be repeated.
    pub fn response(&self) -> &Bytes {
        &self.response
    }

    /// When the last copy of an INVITE that was accepted is waited for; `None` in other states.
    pub fn accepted_until(&self) -> Option<Instant> {
        self.end.filter(|_| self.state == State::Accepted)
    }

    /// One input; drain [`ServerInvite::poll_output`] afterwards.
    pub fn handle(&mut self, input: ServerInput, now: Instant) {
        self.outputs.clear();
        match (self.state, input) {
            (State::Terminated, _) => {}
            (_, ServerInput::Timeout) => self.time(now),
            (State::Confirmed, _) => {}
            (_, ServerInput::TransportFailed) => self.outputs.put(Act::TransportFailed),
            (State::Proceeding | State::Completed, ServerInput::Retransmission) => self.repeat(),
            (State::Accepted, ServerInput::Retransmission) => {}
            (State::Accepted, ServerInput::Ack) => self.outputs.put(Act::Ack),
            (State::Completed, ServerInput::Ack) => self.confirm(now),
            (State::Proceeding, ServerInput::Ack) => {}
            (state, ServerInput::Respond { status, octets }) => match (state, status) {
                (State::Proceeding, 100..200) => self.proceed(octets, now),
                (State::Proceeding, 200..300) => self.accept(octets, now),
                (State::Proceeding, 300..700) => self.complete(octets, now),
                (State::Accepted, 200..300) => self.send(octets),
                _ => {}
            },
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        Some(match self.outputs.take()? {
            Act::Send if self.state == State::Accepted => {
                ServerOutput::Send(std::mem::take(&mut self.response))
            }
            Act::Send => ServerOutput::Send(self.response.clone()),
            Act::TryingDue => ServerOutput::TryingDue,
            Act::Ack => ServerOutput::Ack,
            Act::Timeout => ServerOutput::Timeout,
            Act::TransportFailed => ServerOutput::TransportFailed,
            Act::Terminated => ServerOutput::Terminated,
        })
    }

    /// When [`ServerInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.trying, earlier(self.repeat.map(|repeat| repeat.at), self.end))
    }

    fn time(&mut self, now: Instant) {
        if is_due(self.end, now) {
            if matches!(self.state, State::Proceeding | State::Completed) {
                self.outputs.put(Act::Timeout);
            }
            self.terminate();
        } else if is_due(self.trying, now) {
            self.trying = None;
            self.outputs.put(Act::TryingDue);
        } else if let Some(repeat) = self.repeat.filter(|repeat| repeat.at <= now) {
            self.outputs.put(Act::Send);
            self.repeat = Some(repeat.restart(self.timings, now));
        }
    }

    /// The INVITE came again: the last response, or the first one at last.
    fn repeat(&mut self) {
        if self.response.is_empty() {
            self.trying = None;
            self.outputs.put(Act::TryingDue);
        } else {
            self.outputs.put(Act::Send);
        }
    }

    fn send(&mut self, octets: Bytes) {
        self.response = octets;
        self.trying = None;
        self.outputs.put(Act::Send);
    }

    fn proceed(&mut self, octets: Bytes, now: Instant) {
        self.end = Some(now + self.timings.life().saturating_mul(LIVES));
        self.send(octets);
    }

    fn accept(&mut self, octets: Bytes, now: Instant) {
        self.state = State::Accepted;
        self.set_end(Timer::L, now);
        self.send(octets);
    }

    fn complete(&mut self, octets: Bytes, now: Instant) {
        self.state = State::Completed;
        self.repeat = Repeat::start(Timer::G, self.timings, self.reliable, now);
        self.set_end(Timer::H, now);
        self.send(octets);
    }

    fn confirm(&mut self, now: Instant) {
        self.state = State::Confirmed;
        self.response = Bytes::new();
        self.repeat = None;
        self.set_end(Timer::I, now);
        if is_due(self.end, now) {
            self.terminate(); // a reliable transport repeats nothing
        }
    }

    fn set_end(&mut self, timer: Timer, now: Instant) {
        self.end = self.timings.first(timer, self.reliable).map(|length| now + length);
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        (self.trying, self.repeat, self.end) = (None, None, None);
        self.outputs.put(Act::Terminated);
    }
}

/// Transaction lives for which a user may say nothing: more than serial forking over 16 targets takes.
const LIVES: u32 = 64;

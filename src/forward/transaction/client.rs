//! Stage 7, client transaction of a request that is neither INVITE nor ACK.
//!
//! 1. Trying: the request is sent; Timer E repeats it, doubling up to T2 (unreliable transports); Timer F waits.
//! 2. Proceeding, on 1xx: the user gets each; Timer E goes on at T2.
//! 3. Completed, on a final response: the user gets it; Timer K absorbs its repetitions.
//! 4. Terminated: by Timer K; or by Timer F or a failed transport, of which the user is told.
//!
//! Takes:   the printed request, then [`ClientInput`].
//! Gives:   [`ClientOutput`].
//! Keeps:   the request while it may be repeated: on unreliable transports, until the final response.
//! Refuses: responses after the final one, `Cancel`.
//! Sources: RFC 3261 sections 17.1.2 and 17.1.4, figure 6; `TX-01`.

use bytes::Bytes;

use super::{ClientInput, ClientOutput, Queue, Repeat, earlier, is_due};
use crate::forward::timers::{Timer, Timings};
use crate::instant::Instant;
use crate::transport::Transport;

/// The states of RFC 3261 figure 6.
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
pub struct Client {
    state: State,
    reliable: bool,
    timings: Timings,
    request: Bytes,
    /// Timer E.
    repeat: Option<Repeat>,
    /// Timer F, then K.
    end: Option<Instant>,
    outputs: Queue<Act>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    SendRequest,
    Provisional(u16),
    Final(u16),
    Timeout,
    TransportFailed,
    Terminated,
}

impl Client {
    /// Starts the transaction; the first output sends `request`.
    pub fn new(request: Bytes, transport: Transport, timings: Timings, now: Instant) -> Self {
        let reliable = transport.is_reliable();
        Self {
            state: State::Trying,
            reliable,
            timings,
            request,
            repeat: Repeat::start(Timer::E, timings, reliable, now),
            end: timings.first(Timer::F, reliable).map(|length| now + length),
            outputs: Queue::new(Some(Act::SendRequest)),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// One input; drain [`Client::poll_output`] afterwards.
    pub fn handle(&mut self, input: ClientInput<'_>, now: Instant) {
        self.outputs.clear();
        match (self.state, input) {
            (State::Terminated, _) | (_, ClientInput::Cancel) => {}
            (_, ClientInput::Timeout) => self.time(now),
            (State::Completed, _) => {}
            (_, ClientInput::Response(response)) => match response.status() {
                Some(status @ 100..200) => self.proceed(status),
                Some(status) => self.complete(status, now),
                None => {}
            },
            (_, ClientInput::TransportFailed) => {
                self.outputs.put(Act::TransportFailed);
                self.terminate();
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        Some(match self.outputs.take()? {
            Act::SendRequest => {
                let request = self.request.clone();
                if self.reliable {
                    self.request = Bytes::new();
                }
                ClientOutput::Send(request)
            }
            Act::Provisional(status) => ClientOutput::Provisional(status),
            Act::Final(status) => ClientOutput::Final(status),
            Act::Timeout => ClientOutput::Timeout,
            Act::TransportFailed => ClientOutput::TransportFailed,
            Act::Terminated => ClientOutput::Terminated,
        })
    }

    /// When [`ClientInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.repeat.map(|repeat| repeat.at), self.end)
    }

    fn time(&mut self, now: Instant) {
        if is_due(self.end, now) {
            if self.state != State::Completed {
                self.outputs.put(Act::Timeout);
            }
            self.terminate();
        } else if let Some(repeat) = self.repeat.filter(|repeat| repeat.at <= now) {
            self.outputs.put(Act::SendRequest);
            self.repeat = Some(match self.state {
                State::Proceeding => repeat.restart_after(self.timings.t2(), now),
                _ => repeat.restart(self.timings, now),
            });
        }
    }

    fn proceed(&mut self, status: u16) {
        self.state = State::Proceeding;
        self.outputs.put(Act::Provisional(status));
    }

    fn complete(&mut self, status: u16, now: Instant) {
        self.state = State::Completed;
        self.request = Bytes::new();
        self.repeat = None;
        self.outputs.put(Act::Final(status));
        match self.timings.first(Timer::K, self.reliable).filter(|length| !length.is_zero()) {
            Some(length) => self.end = Some(now + length),
            None => self.terminate(),
        }
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        (self.repeat, self.end) = (None, None);
        self.outputs.put(Act::Terminated);
    }
}

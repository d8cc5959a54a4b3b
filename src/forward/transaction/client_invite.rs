//! Stage 7, client transaction of an INVITE.
//!
//! 1. Calling: the INVITE is sent; Timer A repeats it, doubling (unreliable transports); Timer B waits.
//! 2. Proceeding, on 1xx: the user gets each, repetition ends. Timer C waits, set again by 101 to 199.
//! 3. Cancelling, within Proceeding: when the user or Timer C asks, and not before a 1xx has come, the CANCEL is
//!    handed out once; a final response then has 64*T1 to come.
//! 4. Accepted, on 2xx: the user gets each 2xx until Timer M.
//! 5. Completed, on 300 to 699: the user gets it, the machine sends ACK, and again for each repetition until
//!    Timer D.
//! 6. Terminated: by Timer D or M; or by Timer B, by the end of 3, or by a failed transport, of which the user
//!    is told.
//!
//! Takes:   the printed INVITE, then [`ClientInput`].
//! Gives:   [`ClientOutput`].
//! Keeps:   the INVITE until the final response, since ACK and CANCEL are made of it; then the ACK alone, while
//!          it may be repeated.
//! Refuses: responses that the state has no use for: 1xx after a final response, a 2xx after another final
//!          response, another final response after a 2xx.
//! Sources: RFC 3261 sections 17.1.1, 17.1.4, 9.1, 16.6 item 11 and 16.8; RFC 6026 sections 7.2 and 8.4;
//!          `TX-01`, `TX-02`, `PX-14`, `PX-15`.

use bytes::Bytes;

use super::{ClientInput, ClientOutput, Queue, Repeat, earlier, is_due};
use crate::forward::timers::{Timer, Timings};
use crate::instant::Instant;
use crate::transport::Transport;
use crate::wire::{Message, Name, Text};

/// The states of RFC 6026 section 8.4, figure 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the state of that name in the figure")]
pub enum State {
    Calling,
    Proceeding,
    Accepted,
    Completed,
    Terminated,
}

/// Whether the INVITE is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    /// As soon as a provisional response has come.
    Wanted,
    Sent,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct ClientInvite {
    state: State,
    reliable: bool,
    cancel: Cancel,
    timings: Timings,
    /// The INVITE; in Completed the ACK.
    octets: Bytes,
    /// Timer A.
    repeat: Option<Repeat>,
    /// Timer B, then C or 64*T1 after CANCEL, then D or M.
    end: Option<Instant>,
    outputs: Queue<Act>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    Cancel,
    Provisional(u16),
    Final(u16),
    Timeout,
    TransportFailed,
    Terminated,
}

impl ClientInvite {
    /// Starts the transaction; the first output sends `invite`.
    pub fn new(invite: Bytes, transport: Transport, timings: Timings, now: Instant) -> Self {
        let reliable = transport.is_reliable();
        Self {
            state: State::Calling,
            reliable,
            cancel: Cancel::No,
            timings,
            octets: invite,
            repeat: Repeat::start(Timer::A, timings, reliable, now),
            end: timings.first(Timer::B, reliable).map(|length| now + length),
            outputs: Queue::new(Some(Act::Send)),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// One input; drain [`ClientInvite::poll_output`] afterwards.
    pub fn handle(&mut self, input: ClientInput<'_>, now: Instant) {
        self.outputs.clear();
        match (self.state, input) {
            (State::Terminated, _) => {}
            (_, ClientInput::Timeout) => self.time(now),
            (_, ClientInput::Response(response)) => self.respond(response, now),
            (State::Calling, ClientInput::Cancel) => self.cancel = Cancel::Wanted,
            (State::Proceeding, ClientInput::Cancel) => self.send_cancel(now),
            (_, ClientInput::Cancel) | (State::Accepted, ClientInput::TransportFailed) => {}
            (_, ClientInput::TransportFailed) => {
                self.outputs.put(Act::TransportFailed);
                self.terminate();
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        Some(match self.outputs.take()? {
            Act::Send => ClientOutput::Send(self.octets.clone()),
            Act::Cancel => match cancel_of(&self.octets) {
                Some(cancel) => ClientOutput::Cancel(cancel),
                None => return self.poll_output(),
            },
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
            match (self.state, self.cancel) {
                (State::Proceeding, Cancel::No | Cancel::Wanted) => self.send_cancel(now),
                (State::Calling | State::Proceeding, _) => {
                    self.outputs.put(Act::Timeout);
                    self.terminate();
                }
                _ => self.terminate(),
            }
        } else if let Some(repeat) = self.repeat.filter(|repeat| repeat.at <= now) {
            self.outputs.put(Act::Send);
            self.repeat = Some(repeat.restart(self.timings, now));
        }
    }

    fn respond(&mut self, response: &Message, now: Instant) {
        let Some(status) = response.status() else { return };
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..200) => self.proceed(status, now),
            (State::Calling | State::Proceeding, 200..300) => self.accept(status, now),
            (State::Accepted, 200..300) => self.outputs.put(Act::Final(status)),
            (State::Calling | State::Proceeding, 300..) => self.complete(response, status, now),
            (State::Completed, 300..) if !self.octets.is_empty() => self.outputs.put(Act::Send),
            _ => {}
        }
    }

    fn proceed(&mut self, status: u16, now: Instant) {
        let first = self.state == State::Calling;
        self.state = State::Proceeding;
        self.repeat = None;
        if self.cancel != Cancel::Sent && (first || status > 100) {
            self.set_end(Timer::C, now);
        }
        self.outputs.put(Act::Provisional(status));
        if self.cancel == Cancel::Wanted {
            self.send_cancel(now);
        }
    }

    fn send_cancel(&mut self, now: Instant) {
        if self.cancel == Cancel::Sent {
            return;
        }
        self.cancel = Cancel::Sent;
        self.end = Some(now + self.timings.life()); // RFC 3261 section 9.1, last paragraph
        self.outputs.put(Act::Cancel);
    }

    fn accept(&mut self, status: u16, now: Instant) {
        self.state = State::Accepted;
        self.octets = Bytes::new();
        self.repeat = None;
        self.set_end(Timer::M, now);
        self.outputs.put(Act::Final(status));
    }

    fn complete(&mut self, response: &Message, status: u16, now: Instant) {
        self.state = State::Completed;
        self.octets = ack_of(&self.octets, response).unwrap_or_default();
        self.repeat = None;
        if !self.octets.is_empty() {
            self.outputs.put(Act::Send);
        }
        self.outputs.put(Act::Final(status));
        self.set_end(Timer::D, now);
        if is_due(self.end, now) {
            self.terminate(); // a reliable transport repeats nothing
        }
    }

    fn set_end(&mut self, timer: Timer, now: Instant) {
        self.end = self.timings.first(timer, self.reliable).map(|length| now + length);
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        (self.repeat, self.end) = (None, None);
        self.outputs.put(Act::Terminated);
    }
}

/// The ACK to a final response that is no 2xx, made of the INVITE as it was sent.
///
/// Request-URI, top Via, Route, From, Call-ID, Max-Forwards and the number of CSeq are those of the INVITE; To is
/// that of `response`. `None` if `invite` is no request that could have been sent.
///
/// Source: RFC 3261 section 17.1.1.3.
pub fn ack_of(invite: &Bytes, response: &Message) -> Option<Bytes> {
    made_of(invite, "ACK", response.first(Name::To))
}

/// The CANCEL of an INVITE as it was sent; all of it is the INVITE's but the method.
///
/// `None` if `invite` is no request that could have been sent.
///
/// Source: RFC 3261 section 9.1.
pub fn cancel_of(invite: &Bytes) -> Option<Bytes> {
    made_of(invite, "CANCEL", None)
}

fn made_of(invite: &Bytes, method: &str, to: Option<&[u8]>) -> Option<Bytes> {
    let invite = Message::from_datagram(invite.clone()).ok().filter(Message::is_request)?;
    let top_via = invite.values(Name::Via).next()?;
    let mut text = Text::new();
    text.put(method).put(" ").put(invite.request_uri()).put(" SIP/2.0").end_line();
    let mut field = |name: Name, value: &[u8]| {
        text.field(name.as_str(), |text| {
            text.put_unfolded(value);
        });
    };
    field(Name::Via, top_via);
    invite.fields_named(Name::Route).for_each(|route| field(Name::Route, route));
    field(Name::MaxForwards, invite.first(Name::MaxForwards).unwrap_or(b"70"));
    field(Name::From, invite.first(Name::From)?);
    field(Name::To, to.or_else(|| invite.first(Name::To))?);
    field(Name::CallId, invite.first(Name::CallId)?);
    text.field(Name::CSeq.as_str(), |text| {
        let number = invite.cseq().map_or(0, |cseq| cseq.number);
        text.put_number(number.into()).put(" ").put(method);
    });
    text.field(Name::ContentLength.as_str(), |text| {
        text.put_number(0);
    });
    text.end_line();
    text.finish().ok().map(Bytes::from)
}

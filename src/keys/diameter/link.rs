//! Keys, Diameter, link: one connection to a neighbour, from the first octet to the last.
//!
//! Takes:   octets as they arrive, requests and answers to send, the word to stop.
//! Gives:   octets to send; requests of the neighbour; answers, each with the ticket of its request; word when the
//!          link opens, falls silent, speaks again and ends.
//! Keeps:   the octets of a message that is not whole, at most [`MESSAGE_MAX`]; requests under way, at most
//!          [`Pace::outstanding`], each until its answer or for [`Pace::answer`].
//! Refuses: a neighbour of another name than expected, or with no application in common; anything before the
//!          capabilities were exchanged; a request past the bound; an answer to no request of ours, by forgetting it.
//! Sources: RFC 6733 sections 5.3 to 5.6 and 6.1 to 6.2; RFC 3539 section 3.4 (watchdog).
//!
//! The life of a link:
//!
//! 1. Whoever dialled sends CER; the other end sends CEA. Nothing else is said before, and not for long.
//! 2. Open. After [`Pace::watchdog`] of silence DWR goes out.
//! 3. No answer for as long again: the link is silent. Requests go elsewhere; for as long again it may still speak.
//! 4. Then it ends. It also ends by DPR, of either side, and by octets that are no Diameter.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::base::{Capabilities, Local, capabilities};
#[cfg(doc)]
use super::codec::MESSAGE_MAX;
use super::codec::{self, Fault, Frame, Header, Message, Printed};
use super::dictionary as known;
use crate::instant::Instant;

/// How long things may take, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tw of RFC 3539: silence after which a watchdog goes out.
    pub watchdog: Duration,
    /// How long the answer to a request is waited for.
    pub answer: Duration,
    /// How long the exchange of capabilities may take, and the parting.
    pub greeting: Duration,
    /// Most requests under way.
    pub outstanding: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            watchdog: Duration::from_secs(30),
            answer: Duration::from_millis(900),
            greeting: Duration::from_secs(5),
            outstanding: 1024,
        }
    }
}

/// A request of ours, until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happens to a link.
#[derive(Debug)]
pub enum Input<'a> {
    /// Octets arrived.
    Octets(&'a [u8]),
    /// A request is to go out; `again` if it may have been sent before.
    Request {
        /// Whose it is.
        ticket: Ticket,
        /// The request, printed.
        octets: Printed,
        /// Whether the T bit is set.
        again: bool,
    },
    /// An answer to a request of the neighbour is to go out.
    Answer(Printed),
    /// It is to end.
    Stop,
    /// The deadline of [`Link::poll_timeout`] has come.
    Tick,
}

/// What a link wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Octets go out.
    Send(Printed),
    /// It is open, and who is at the other end.
    Open(Capabilities),
    /// It has fallen silent: nothing new goes this way.
    Silent,
    /// It speaks again.
    Speaks,
    /// A request of the neighbour, whole.
    Request(Printed),
    /// An answer.
    Answered(Ticket, Printed),
    /// No answer came in time.
    Unanswered(Ticket),
    /// The connection is to be closed; nothing follows.
    Close(End),
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The neighbour said so.
    ByPeer,
    /// We said so.
    Stopped,
    /// It fell silent.
    Silent,
    /// The exchange of capabilities failed, with this Result-Code.
    NotGreeted(u32),
    /// What came is no Diameter.
    Malformed(u32),
}

/// The connection is over: [`Output::Close`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// One connection.
pub struct Link {
    local: Arc<Local>,
    /// Ours, on this connection.
    address: IpAddr,
    /// The names that may be at the other end, lower case.
    expected: Vec<Arc<str>>,
    pace: Pace,
    state: State,
    /// When the state's patience ends.
    deadline: Instant,
    /// The octets of a message that is not whole.
    held: Zeroizing<Vec<u8>>,
    /// Requests under way, by Hop-by-Hop Identifier.
    pending: HashMap<u32, Pending>,
    /// The same, by when they are given up.
    order: BTreeSet<(Instant, u32)>,
    hop: u32,
    end: u32,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    ticket: Ticket,
    command: u32,
    end: u32,
    ends: Instant,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is held may be a key.
        write!(f, "Link({:?}, {} under way)", self.state, self.pending.len())
    }
}

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// We dialled, and sent CER.
    AwaitsCea,
    /// We were dialled.
    AwaitsCer,
    /// Open; a watchdog is under way or not.
    Open { asked: bool },
    /// No answer to the watchdog.
    Silent,
    /// We sent DPR.
    Parting,
    /// Over.
    Closed,
}

impl Link {
    /// A connection that we opened, to whom `expected` names. `seed` is where identifiers begin.
    pub fn dialled(
        local: Arc<Local>,
        address: IpAddr,
        expected: Arc<str>,
        pace: Pace,
        seed: (u32, u32),
        now: Instant,
    ) -> Self {
        let mut link = Self::new(local, address, vec![expected], pace, seed, now);
        link.state = State::AwaitsCea;
        let (hop, end) = link.next();
        let cer = link.local.cer(address, hop, end);
        link.say(cer);
        link
    }

    /// A connection that somebody opened to us, who must be one of `expected`.
    pub fn accepted(
        local: Arc<Local>,
        address: IpAddr,
        expected: Vec<Arc<str>>,
        pace: Pace,
        seed: (u32, u32),
        now: Instant,
    ) -> Self {
        Self::new(local, address, expected, pace, seed, now)
    }

    fn new(
        local: Arc<Local>,
        address: IpAddr,
        expected: Vec<Arc<str>>,
        pace: Pace,
        seed: (u32, u32),
        now: Instant,
    ) -> Self {
        Self {
            local,
            address,
            expected,
            pace,
            state: State::AwaitsCer,
            deadline: now + pace.greeting,
            held: Zeroizing::default(),
            pending: HashMap::new(),
            order: BTreeSet::new(),
            hop: seed.0,
            end: seed.1,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// [`Ended`] if nothing more can be done with it; what is under way is given up.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Result<(), Ended> {
        if self.state == State::Closed {
            return Err(Ended);
        }
        match input {
            Input::Octets(octets) => self.octets(octets, now),
            Input::Request { ticket, octets, again } => self.request(ticket, octets, again, now),
            Input::Answer(octets) => self.say(octets),
            Input::Stop => self.part(now),
            Input::Tick => self.tick(now),
        }
        if self.state == State::Closed { Err(Ended) } else { Ok(()) }
    }

    /// What is to be done, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Tick`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let first = self.order.first().map(|(ends, _)| *ends);
        Some(first.map_or(self.deadline, |first| first.min(self.deadline)))
    }

    /// Whether requests may go this way.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Requests under way.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    fn next(&mut self) -> (u32, u32) {
        self.hop = self.hop.wrapping_add(1);
        self.end = self.end.wrapping_add(1);
        (self.hop, self.end)
    }

    fn say(&mut self, octets: Printed) {
        self.outputs.push_back(Output::Send(octets));
    }

    fn octets(&mut self, octets: &[u8], now: Instant) {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(octets);
        let mut rest: &[u8] = &held;
        while self.state != State::Closed {
            match codec::frame(rest) {
                Ok(Frame::Whole(length)) => {
                    let (message, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    rest = behind;
                    self.message(message, now);
                }
                Ok(Frame::More) => break,
                Err(fault) => {
                    let gone = match self.state {
                        State::AwaitsCea | State::AwaitsCer => End::NotGreeted(fault.code),
                        _ => End::Malformed(fault.code),
                    };
                    return self.close(gone);
                }
            }
        }
        // No more than one message is not whole, since the frame of each was found within its bound.
        self.held = rest.to_vec().into();
    }

    fn message(&mut self, octets: &[u8], now: Instant) {
        let Some(header) = codec::header(octets) else { return };
        let parsed = Message::parse(octets);
        match self.state {
            State::AwaitsCea => return self.greeted(&header, parsed, now),
            State::AwaitsCer => return self.greet(&header, parsed, now),
            State::Closed => return,
            State::Open { .. } | State::Silent | State::Parting => {}
        }
        self.heard(now);
        match (parsed, header.is_request()) {
            (Err(fault), true) => {
                let refusal = self.local.refuse(&header, None, fault);
                self.say(refusal);
            }
            // Whoever waits for it waits in vain: what cannot be read proves nothing.
            (Err(_), false) => {}
            (Ok(message), true) => self.asked(octets, &message),
            (Ok(message), false) => self.answered(octets, &message),
        }
    }

    /// Any message shows that the other end lives.
    fn heard(&mut self, now: Instant) {
        match self.state {
            State::Open { .. } => self.deadline = now + self.pace.watchdog,
            State::Silent => {
                self.state = State::Open { asked: false };
                self.deadline = now + self.pace.watchdog;
                self.outputs.push_back(Output::Speaks);
            }
            _ => {}
        }
    }

    /// A request of the other end, once the link is open.
    fn asked(&mut self, octets: &[u8], message: &Message<'_>) {
        let header = &message.header;
        match (header.application, header.command) {
            (0, known::WATCHDOG) => {
                let answer = self.local.dwa(header);
                self.say(answer);
            }
            (0, known::DISCONNECT) => {
                let answer = self.local.dpa(header);
                self.say(answer);
                self.close(End::ByPeer);
            }
            (0, known::CAPABILITIES) => {
                // Nothing of ours changes while a link stands.
                let answer = self.local.cea(header, self.address, known::SUCCESS);
                self.say(answer);
            }
            (0, _) => {
                let fault = Fault::plain(known::COMMAND_UNSUPPORTED);
                let refusal = self.local.refuse(header, Some(message), fault);
                self.say(refusal);
            }
            (application, _) if !self.local.applications.contains(&application) => {
                let fault = Fault::plain(known::APPLICATION_UNSUPPORTED);
                let refusal = self.local.refuse(header, Some(message), fault);
                self.say(refusal);
            }
            _ => match message.all_known() {
                Ok(()) => self.outputs.push_back(Output::Request(octets.to_vec().into())),
                Err(fault) => {
                    let refusal = self.local.refuse(header, Some(message), fault);
                    self.say(refusal);
                }
            },
        }
    }

    /// An answer, once the link is open.
    fn answered(&mut self, octets: &[u8], message: &Message<'_>) {
        let header = &message.header;
        match (header.application, header.command) {
            (0, known::WATCHDOG) => {
                if let State::Open { asked } = &mut self.state {
                    *asked = false;
                }
            }
            (0, known::DISCONNECT) if self.state == State::Parting => self.close(End::Stopped),
            _ => {
                let of = |pending: &Pending| {
                    pending.command == header.command && pending.end == header.end
                };
                let Some(pending) = self.pending.get(&header.hop).copied().filter(of) else {
                    return;
                };
                self.pending.remove(&header.hop);
                self.order.remove(&(pending.ends, header.hop));
                self.outputs.push_back(Output::Answered(pending.ticket, octets.to_vec().into()));
            }
        }
    }

    /// CEA, or what is not.
    fn greeted(&mut self, header: &Header, parsed: Result<Message<'_>, Fault>, now: Instant) {
        let own = header.command == known::CAPABILITIES && !header.is_request();
        let judged = parsed.and_then(|message| {
            let code = message.avps().need(&known::RESULT_CODE)?.number()?;
            if code != known::SUCCESS {
                return Err(Fault::plain(code));
            }
            self.judge(&message)
        });
        match judged {
            Ok(of) if own => self.open(of, now),
            Ok(_) => self.close(End::NotGreeted(known::COMMAND_UNSUPPORTED)),
            Err(fault) => self.close(End::NotGreeted(fault.code)),
        }
    }

    /// CER, or what is not.
    fn greet(&mut self, header: &Header, parsed: Result<Message<'_>, Fault>, now: Instant) {
        if header.command != known::CAPABILITIES || !header.is_request() {
            return self.close(End::NotGreeted(known::COMMAND_UNSUPPORTED));
        }
        match parsed.and_then(|message| self.judge(&message)) {
            Ok(of) => {
                let answer = self.local.cea(header, self.address, known::SUCCESS);
                self.say(answer);
                self.open(of, now);
            }
            Err(fault) => {
                let answer = self.local.cea(header, self.address, fault.code);
                self.say(answer);
                self.close(End::NotGreeted(fault.code));
            }
        }
    }

    /// Whether this is a neighbour, and one to talk to.
    fn judge(&self, message: &Message<'_>) -> Result<Capabilities, Fault> {
        let of = capabilities(message)?;
        if !self.expected.contains(&of.host) {
            return Err(Fault::plain(known::UNKNOWN_PEER));
        }
        if !of.speaks(&self.local.applications) {
            return Err(Fault::plain(known::NO_COMMON_APPLICATION));
        }
        Ok(of)
    }

    fn open(&mut self, of: Capabilities, now: Instant) {
        self.state = State::Open { asked: false };
        self.deadline = now + self.pace.watchdog;
        self.outputs.push_back(Output::Open(of));
    }

    fn request(&mut self, ticket: Ticket, mut octets: Printed, again: bool, now: Instant) {
        let header = codec::header(&octets).filter(|header| header.is_request());
        let room = self.pending.len() < self.pace.outstanding;
        let Some(header) = header.filter(|_| self.is_open() && room) else {
            return self.outputs.push_back(Output::Unanswered(ticket));
        };
        let (mut hop, _) = self.next();
        while self.pending.contains_key(&hop) {
            (hop, _) = self.next();
        }
        codec::address(&mut octets, hop, again);
        let ends = now + self.pace.answer;
        let pending = Pending { ticket, command: header.command, end: header.end, ends };
        self.pending.insert(hop, pending);
        self.order.insert((ends, hop));
        self.say(octets);
    }

    fn tick(&mut self, now: Instant) {
        while let Some(&(ends, hop)) = self.order.first()
            && ends <= now
        {
            self.order.remove(&(ends, hop));
            if let Some(pending) = self.pending.remove(&hop) {
                self.outputs.push_back(Output::Unanswered(pending.ticket));
            }
        }
        if now < self.deadline {
            return;
        }
        self.deadline = now + self.pace.watchdog;
        match self.state {
            State::AwaitsCea | State::AwaitsCer => {
                self.close(End::NotGreeted(known::UNABLE_TO_DELIVER));
            }
            State::Open { asked: false } => {
                self.state = State::Open { asked: true };
                let (hop, end) = self.next();
                let watchdog = self.local.dwr(hop, end);
                self.say(watchdog);
            }
            State::Open { asked: true } => {
                self.state = State::Silent;
                self.outputs.push_back(Output::Silent);
                self.give_up();
            }
            State::Silent => self.close(End::Silent),
            State::Parting => self.close(End::Stopped),
            State::Closed => {}
        }
    }

    fn part(&mut self, now: Instant) {
        match self.state {
            State::Open { .. } | State::Silent => {
                self.give_up();
                self.state = State::Parting;
                self.deadline = now + self.pace.greeting;
                let (hop, end) = self.next();
                let parting = self.local.dpr(hop, end);
                self.say(parting);
            }
            State::Parting => {}
            _ => self.close(End::Stopped),
        }
    }

    fn give_up(&mut self) {
        self.order.clear();
        let mut given: Vec<Ticket> = self.pending.drain().map(|(_, one)| one.ticket).collect();
        given.sort_unstable();
        self.outputs.extend(given.into_iter().map(Output::Unanswered));
    }

    fn close(&mut self, end: End) {
        self.give_up();
        self.state = State::Closed;
        self.outputs.push_back(Output::Close(end));
    }

    /// The connection is gone: everything under way is given up.
    pub fn lost(&mut self) {
        if self.state != State::Closed {
            self.close(End::ByPeer);
        }
    }
}

//! Keys, Diameter, client: questions to one realm, over a first neighbour and a second.
//!
//! Takes:   questions, printed; what happens to the connections of each neighbour.
//! Gives:   whom to dial and what to send; each answer, or that there is none, once for each question.
//! Keeps:   a link for each of at most [`PEERS_MAX`] neighbours; at most [`Pace::outstanding`] questions, each until
//!          its answer, two tries, or the end of its time.
//! Refuses: a question past the bound, or while no neighbour is there: at once, so that who asked may fail closed.
//! Sources: RFC 6733 sections 2.8, 5.1, 5.5.4 (failover) and 2.1 (Tc); RFC 3539 section 3.4.1; threat V-31 (two tries).
//!
//! A question goes to the first neighbour that is open. It goes to the other one, once, with the T bit, if no answer
//! comes in time, if the link falls silent or ends, or if the first says that it cannot deliver or is too busy.
//! Dialling again waits a second, then twice as long each time, up to [`REDIAL_MAX`]; a link that stood for a watchdog's
//! time begins anew.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::base::Local;
use super::codec::{self, ERROR, Message, Printed};
use super::dictionary as known;
use super::link::{End, Input as LinkInput, Link, Output as LinkOutput, Pace, Ticket};
use crate::instant::Instant;

/// Most neighbours of one realm.
pub const PEERS_MAX: usize = 2;
/// The longest pause before a neighbour is dialled again.
pub const REDIAL_MAX: Duration = Duration::from_secs(30);

/// A neighbour, by its place.
pub type Place = usize;

/// What happens.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection to the neighbour stands; `address` is ours on it.
    Dialled(Place, IpAddr),
    /// It could not be had.
    NotDialled(Place),
    /// Octets arrived from it.
    Octets(Place, &'a [u8]),
    /// Its connection is gone.
    Closed(Place),
    /// A question.
    Ask(Ticket, Printed),
    /// Everything is to end.
    Stop,
    /// The deadline of [`Client::poll_timeout`] has come.
    Tick,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// Dial this neighbour.
    Dial(Place),
    /// Send octets to it.
    Send(Place, Printed),
    /// Close its connection, once everything is sent.
    Close(Place),
    /// It may be asked now.
    Up(Place),
    /// It may not.
    Down(Place, End),
    /// The answer to a question, or that there is none.
    Answer(Ticket, Option<Printed>),
}

/// The questions to one realm.
#[derive(Debug)]
pub struct Client {
    local: Arc<Local>,
    pace: Pace,
    peers: Vec<Neighbour>,
    asked: HashMap<Ticket, Asked>,
    /// When questions end that wait for a neighbour.
    waiting: BTreeSet<(Instant, Ticket)>,
    seed: u32,
    stopping: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Neighbour {
    host: Arc<str>,
    state: State,
    /// How often in a row it could not be had, or not for long.
    failures: u32,
    /// Since when it is open.
    opened: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Dialled again then.
    Rests(Instant),
    /// Being dialled.
    Dialling,
    /// There is a connection.
    Linked(Box<Link>),
}

/// A question under way.
#[derive(Debug)]
struct Asked {
    octets: Printed,
    /// Where it was sent, in order.
    tried: Vec<Place>,
}

impl Client {
    /// A client of these neighbours, the preferred one first; the first two count. `seed` is random.
    pub fn new(local: Arc<Local>, hosts: &[Arc<str>], pace: Pace, seed: u32, now: Instant) -> Self {
        let peers = hosts.iter().take(PEERS_MAX).map(|host| Neighbour {
            host: Arc::clone(host),
            state: State::Rests(now),
            failures: 0,
            opened: None,
        });
        Self {
            local,
            pace,
            peers: peers.collect(),
            asked: HashMap::new(),
            waiting: BTreeSet::new(),
            seed,
            stopping: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. It never ends by itself.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Dialled(place, address) => self.dialled(place, address, now),
            Input::NotDialled(place) => {
                if let Some(peer) = self.peers.get_mut(place)
                    && matches!(peer.state, State::Dialling)
                {
                    peer.rest(now);
                    self.despair();
                }
            }
            Input::Octets(place, octets) => self.link(place, LinkInput::Octets(octets), now),
            Input::Closed(place) => {
                if let Some(State::Linked(link)) = self.state(place) {
                    link.lost();
                    self.drain(place, now);
                }
            }
            Input::Ask(ticket, octets) => self.ask(ticket, octets, now),
            Input::Stop => {
                self.stopping = true;
                (0..self.peers.len()).for_each(|place| self.link(place, LinkInput::Stop, now));
                self.despair();
            }
            Input::Tick => self.tick(now),
        }
    }

    /// What is to be done, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Tick`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_peers = self.peers.iter().filter_map(|peer| match &peer.state {
            State::Rests(until) => (!self.stopping).then_some(*until),
            State::Dialling => None,
            State::Linked(link) => link.poll_timeout(),
        });
        of_peers.chain(self.waiting.first().map(|(ends, _)| *ends)).min()
    }

    /// Questions under way.
    pub fn outstanding(&self) -> usize {
        self.asked.len()
    }

    /// Neighbours that may be asked now.
    pub fn open(&self) -> usize {
        self.peers.iter().filter(|peer| peer.is_open()).count()
    }

    /// Whether a stop has done all it can.
    pub fn is_over(&self) -> bool {
        self.stopping && self.peers.iter().all(|peer| !matches!(peer.state, State::Linked(_)))
    }

    fn state(&mut self, place: Place) -> Option<&mut State> {
        self.peers.get_mut(place).map(|peer| &mut peer.state)
    }

    fn dialled(&mut self, place: Place, address: IpAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(place) else { return };
        if !matches!(peer.state, State::Dialling) {
            return self.outputs.push_back(Output::Close(place));
        }
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (local, host) = (Arc::clone(&self.local), Arc::clone(&peer.host));
        let seed = (self.seed, !self.seed);
        let link = Link::dialled(local, address, host, self.pace, seed, now);
        peer.state = State::Linked(Box::new(link));
        self.drain(place, now);
    }

    fn link(&mut self, place: Place, input: LinkInput<'_>, now: Instant) {
        if let Some(State::Linked(link)) = self.state(place) {
            // Whether it ended, its outputs say.
            let _ended = link.handle(input, now);
            self.drain(place, now);
        }
    }

    /// Does what a link wants done.
    fn drain(&mut self, place: Place, now: Instant) {
        while let Some(State::Linked(link)) = self.state(place)
            && let Some(output) = link.poll_output()
        {
            match output {
                LinkOutput::Send(octets) => self.outputs.push_back(Output::Send(place, octets)),
                LinkOutput::Open(_) => {
                    if let Some(peer) = self.peers.get_mut(place) {
                        peer.opened = Some(now);
                    }
                    self.up(place, now);
                }
                LinkOutput::Speaks => self.up(place, now),
                LinkOutput::Silent => self.outputs.push_back(Output::Down(place, End::Silent)),
                // We offer nothing that a server would ask for.
                LinkOutput::Request(octets) => {
                    if let Ok(message) = Message::parse(&octets) {
                        let fault = codec::Fault::plain(known::COMMAND_UNSUPPORTED);
                        let refusal = self.local.refuse(&message.header, Some(&message), fault);
                        self.outputs.push_back(Output::Send(place, refusal));
                    }
                }
                LinkOutput::Answered(ticket, octets) => self.answered(ticket, octets, now),
                LinkOutput::Unanswered(ticket) => self.elsewhere(ticket, None, now),
                LinkOutput::Close(end) => {
                    self.outputs.push_back(Output::Close(place));
                    self.outputs.push_back(Output::Down(place, end));
                    let long = self.pace.watchdog;
                    if let Some(peer) = self.peers.get_mut(place) {
                        let stood = peer.opened.take().map(|opened| now.since(opened));
                        if stood.is_some_and(|stood| stood >= long) {
                            peer.failures = 0;
                        }
                        peer.rest(now);
                    }
                    self.despair();
                    return;
                }
            }
        }
    }

    fn up(&mut self, place: Place, now: Instant) {
        self.outputs.push_back(Output::Up(place));
        let waiting = std::mem::take(&mut self.waiting);
        for (_, ticket) in waiting {
            self.send(ticket, now);
        }
    }

    fn ask(&mut self, ticket: Ticket, octets: Printed, now: Instant) {
        if self.asked.len() >= self.pace.outstanding || self.stopping {
            return self.outputs.push_back(Output::Answer(ticket, None));
        }
        self.asked.insert(ticket, Asked { octets, tried: Vec::new() });
        self.send(ticket, now);
    }

    /// Sends a question where it was not sent yet; lets it wait if somebody may be there soon; else gives it up.
    fn send(&mut self, ticket: Ticket, now: Instant) {
        let Some(asked) = self.asked.get_mut(&ticket) else { return };
        let untried =
            |(place, peer): &(Place, &Neighbour)| peer.is_open() && !asked.tried.contains(place);
        let next = self.peers.iter().enumerate().find(untried).map(|(place, _)| place);
        let Some(place) = next.filter(|_| asked.tried.len() < PEERS_MAX) else {
            let soon = asked.tried.is_empty() && self.peers.iter().any(Neighbour::comes);
            if soon {
                self.waiting.insert((now + self.pace.answer, ticket));
            } else {
                self.finish(ticket, None);
            }
            return;
        };
        let again = !asked.tried.is_empty();
        asked.tried.push(place);
        let octets = asked.octets.clone();
        self.link(place, LinkInput::Request { ticket, octets, again }, now);
    }

    fn answered(&mut self, ticket: Ticket, octets: Printed, now: Instant) {
        let busy = codec::header(&octets).is_some_and(|header| header.flags & ERROR != 0)
            && Message::parse(&octets).is_ok_and(|message| {
                let code = message.avps().all(&known::RESULT_CODE).next();
                let code = code.and_then(|code| code.number().ok());
                matches!(code, Some(known::TOO_BUSY | known::UNABLE_TO_DELIVER))
            });
        if busy {
            self.elsewhere(ticket, Some(octets), now)
        } else {
            self.finish(ticket, Some(octets))
        }
    }

    /// Asks the other neighbour, if there is one; else this is how it ends.
    fn elsewhere(&mut self, ticket: Ticket, answer: Option<Printed>, now: Instant) {
        let Some(asked) = self.asked.get(&ticket) else { return };
        let other =
            |(place, peer): (Place, &Neighbour)| peer.is_open() && !asked.tried.contains(&place);
        if !self.stopping && self.peers.iter().enumerate().any(other) {
            self.send(ticket, now);
        } else {
            self.finish(ticket, answer);
        }
    }

    fn finish(&mut self, ticket: Ticket, answer: Option<Printed>) {
        if self.asked.remove(&ticket).is_some() {
            self.outputs.push_back(Output::Answer(ticket, answer));
        }
    }

    /// Gives up what waits, if nobody comes.
    fn despair(&mut self) {
        let coming = self.peers.iter().any(|peer| peer.comes() || peer.is_open());
        if !coming || self.stopping {
            for (_, ticket) in std::mem::take(&mut self.waiting) {
                self.finish(ticket, None);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        while let Some(&(ends, ticket)) = self.waiting.first()
            && ends <= now
        {
            self.waiting.remove(&(ends, ticket));
            self.finish(ticket, None);
        }
        for place in 0..self.peers.len() {
            match self.state(place) {
                Some(state @ State::Rests(_)) => {
                    let due = matches!(state, State::Rests(until) if *until <= now);
                    if due && !self.stopping {
                        if let Some(state) = self.state(place) {
                            *state = State::Dialling;
                        }
                        self.outputs.push_back(Output::Dial(place));
                    }
                }
                Some(State::Linked(link)) => {
                    if link.poll_timeout().is_some_and(|due| due <= now) {
                        self.link(place, LinkInput::Tick, now);
                    }
                }
                Some(State::Dialling) | None => {}
            }
        }
    }
}

impl Neighbour {
    fn is_open(&self) -> bool {
        matches!(&self.state, State::Linked(link) if link.is_open())
    }

    /// Whether it may be open soon.
    fn comes(&self) -> bool {
        match &self.state {
            State::Rests(_) => self.failures == 0,
            State::Dialling => self.failures == 0,
            State::Linked(link) => !link.is_open() && link.poll_timeout().is_some(),
        }
    }

    fn rest(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let doubled = self.failures.saturating_sub(1).min(5);
        let pause = Duration::from_secs(1).saturating_mul(1_u32 << doubled).min(REDIAL_MAX);
        self.state = State::Rests(now + pause);
    }
}

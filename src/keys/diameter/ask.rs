//! Keys, Diameter, ask: the task that asks the neighbours of one realm.
//!
//! Takes:   questions, printed, from any thread.
//! Gives:   each answer to whoever asked, once, or that there is none; [`Tally`] to whoever counts.
//! Keeps:   a task, and one for each connection; at most [`QUESTIONS_MAX`] questions that it has not taken yet.
//! Refuses: questions past that, at once.
//! Sources: RFC 6733 section 5; see `client`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::base::Local;
use super::client::{Client, Input, Output, Place};
use super::codec::Printed;
use super::link::{Pace, Ticket};
use super::way::{QUEUE_MAX, carry, dial};
use crate::clock;
use crate::transport::tls::ClientTls;

/// Most questions that wait to be taken.
pub const QUESTIONS_MAX: usize = 1024;

/// A neighbour that is dialled.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its name.
    pub host: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// How it proves to be that, unless it need not.
    pub tls: Option<Arc<ClientTls>>,
}

/// What was asked, and who may be asked.
#[derive(Debug, Default)]
pub struct Tally {
    /// Neighbours that may be asked now.
    pub open: AtomicU64,
    /// Questions with an answer.
    pub answered: AtomicU64,
    /// Questions without.
    pub unanswered: AtomicU64,
}

/// Who is told the answer. Dropped, it tells that there is none.
pub struct Reply(Option<Box<dyn FnOnce(Option<Printed>) + Send>>);

impl Reply {
    /// Tells `whom`.
    pub fn to(whom: impl FnOnce(Option<Printed>) + Send + 'static) -> Self {
        Self(Some(Box::new(whom)))
    }

    fn tell(mut self, answer: Option<Printed>) {
        if let Some(whom) = self.0.take() {
            whom(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(whom) = self.0.take() {
            whom(None);
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply(..)")
    }
}

/// Where to put questions to one realm. A clone asks the same neighbours.
#[derive(Clone, Debug)]
pub struct Asker {
    questions: mpsc::Sender<(Printed, Reply)>,
    local: Arc<Local>,
    ids: Arc<Ids>,
    tally: Arc<Tally>,
}

/// Identifiers that no other question has.
#[derive(Debug)]
struct Ids {
    end: AtomicU32,
    session: AtomicU64,
}

impl Asker {
    /// Starts the task. It ends when `stop` changes, after parting from its neighbours, or when nobody can ask.
    pub fn start(
        local: Arc<Local>,
        neighbours: Vec<Neighbour>,
        pace: Pace,
        stop: watch::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let (questions, taken) = mpsc::channel(QUESTIONS_MAX);
        let tally = Arc::new(Tally::default());
        let ids = Ids {
            end: AtomicU32::new(u32::from_be_bytes(clock::random())),
            session: AtomicU64::new(u64::from_be_bytes(clock::random())),
        };
        let own = Self {
            questions,
            local: Arc::clone(&local),
            ids: Arc::new(ids),
            tally: Arc::clone(&tally),
        };
        let hosts: Vec<Arc<str>> =
            neighbours.iter().map(|neighbour| Arc::clone(&neighbour.host)).collect();
        let seed = u32::from_be_bytes(clock::random());
        let client = Client::new(local, &hosts, pace, seed, clock::mono());
        let (events, heard) = mpsc::channel(QUEUE_MAX);
        let desk = Desk {
            client,
            connections: neighbours.iter().map(|_| None).collect(),
            neighbours,
            pace,
            replies: HashMap::new(),
            next: 0,
            events,
            tally,
        };
        (own, tokio::spawn(desk.run(taken, heard, stop)))
    }

    /// Who we are.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// What was asked.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// A new End-to-End Identifier.
    pub fn end(&self) -> u32 {
        self.ids.end.fetch_add(1, Ordering::Relaxed)
    }

    /// A new Session-Id.
    ///
    /// Source: RFC 6733 section 8.8.
    pub fn session(&self) -> String {
        let number = self.ids.session.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (number >> 32, number & u64::from(u32::MAX));
        format!("{};{high};{low}", self.local.host)
    }

    /// Asks; `reply` is told once.
    pub fn ask(&self, question: Printed, reply: Reply) {
        // A queue that is full drops it, which tells that there is no answer.
        drop(self.questions.try_send((question, reply)));
    }
}

/// What connections say.
enum Event {
    Dialled(IpAddr, mpsc::Sender<Printed>),
    Octets(Printed),
    Gone,
}

struct Desk {
    client: Client,
    neighbours: Vec<Neighbour>,
    pace: Pace,
    /// Of each neighbour: the number of its connection, and where to put what is to be sent.
    connections: Vec<Option<(u64, Option<mpsc::Sender<Printed>>)>>,
    replies: HashMap<Ticket, Reply>,
    next: u64,
    events: mpsc::Sender<(Place, u64, Event)>,
    tally: Arc<Tally>,
}

impl Desk {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<(Printed, Reply)>,
        mut heard: mpsc::Receiver<(Place, u64, Event)>,
        mut stop: watch::Receiver<bool>,
    ) {
        self.handle(Input::Tick);
        let mut stopping = false;
        while !(stopping && self.client.is_over()) {
            let deadline = self.client.poll_timeout();
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(clock::deadline(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                question = questions.recv(), if !stopping => match question {
                    Some((octets, reply)) => {
                        let ticket = Ticket(self.number());
                        self.replies.insert(ticket, reply);
                        self.handle(Input::Ask(ticket, octets));
                    }
                    None => stopping = true,
                },
                Some((place, number, event)) = heard.recv() => self.event(place, number, event),
                () = due => self.handle(Input::Tick),
                _ = stop.changed(), if !stopping => stopping = true,
            }
            if stopping {
                self.handle(Input::Stop);
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn event(&mut self, place: Place, number: u64, event: Event) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        // Of a connection before this one.
        if connection.0 != number {
            return;
        }
        match event {
            Event::Dialled(address, send) => {
                connection.1 = Some(send);
                self.handle(Input::Dialled(place, address));
            }
            Event::Octets(octets) => self.handle(Input::Octets(place, &octets)),
            Event::Gone => {
                let stood = connection.1.is_some();
                self.close(place);
                let gone = if stood { Input::Closed(place) } else { Input::NotDialled(place) };
                self.handle(gone);
            }
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.client.handle(input, clock::mono());
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Dial(place) => self.dial(place),
                Output::Send(place, octets) => {
                    let connection = self.connections.get(place).and_then(Option::as_ref);
                    let send = connection.and_then(|(_, send)| send.as_ref());
                    if send.is_none_or(|send| send.try_send(octets).is_err()) {
                        self.close(place);
                        self.client.handle(Input::Closed(place), clock::mono());
                    }
                }
                Output::Close(place) => self.close(place),
                Output::Up(place) => {
                    if let Some(neighbour) = self.neighbours.get(place) {
                        tracing::info!(peer = &*neighbour.host, "a Diameter peer is there");
                    }
                }
                Output::Down(place, why) => {
                    if let Some(neighbour) = self.neighbours.get(place) {
                        tracing::warn!(peer = &*neighbour.host, ?why, "a Diameter peer is gone");
                    }
                }
                Output::Answer(ticket, answer) => {
                    let count = if answer.is_some() {
                        &self.tally.answered
                    } else {
                        &self.tally.unanswered
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    if let Some(reply) = self.replies.remove(&ticket) {
                        reply.tell(answer);
                    }
                }
            }
        }
        self.tally.open.store(self.client.open() as u64, Ordering::Relaxed);
    }

    fn close(&mut self, place: Place) {
        if let Some(connection) = self.connections.get_mut(place) {
            *connection = None;
        }
    }

    fn dial(&mut self, place: Place) {
        let number = self.number();
        let Some(neighbour) = self.neighbours.get(place).cloned() else { return };
        if let Some(connection) = self.connections.get_mut(place) {
            *connection = Some((number, None));
        }
        let (events, patience) = (self.events.clone(), self.pace.greeting);
        tokio::spawn(async move {
            let Neighbour { host, address, tls } = neighbour;
            match dial(address, &host, tls.as_ref(), patience).await {
                Ok(connection) => {
                    let (send, waiting) = mpsc::channel(QUEUE_MAX);
                    let local = connection.local.ip();
                    if events.send((place, number, Event::Dialled(local, send))).await.is_err() {
                        return;
                    }
                    let wrap = move |octets| (place, number, Event::Octets(octets));
                    carry(connection, waiting, events.clone(), wrap).await;
                }
                Err(why) => tracing::debug!(peer = &*host, %why, "a Diameter peer is not there"),
            }
            // Nobody listens any more if the task has ended.
            drop(events.send((place, number, Event::Gone)).await);
        });
    }
}

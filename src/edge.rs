//! The journey with a socket at either end: one thread a core, each with its own sockets, timers and transactions.
//!
//! 1. Each worker runs a current-thread runtime; its sockets share their ports with those of the others.
//! 2. What arrives goes through the worker's [`Journey`]; what that wants done is done at once.
//! 3. A response belongs to the worker that its branch names; it is handed over by a bounded queue. All workers are told
//!    there, too, when a connection closes from which somebody had registered: each may wait for answers from it.
//! 4. Lookups go to one task, by a bounded queue; its answers resume what waits.
//! 5. One timer a worker, armed for the earliest deadline; an idle edge sleeps.
//! 6. A step that panics loses the message or the timer that it was at, and closes that message's flow; the worker goes
//!    on (`rounds`).
//! 7. While there is work, each worker looks every [`PULSE`] how far behind it is: by how much it woke too late, or
//!    since when a UDP socket was not found empty. Stage 3 makes a load of it.
//!
//! Takes:   listeners, what all workers share, and the sources of keys, vectors and counts.
//! Gives:   a running edge; [`Edge::stop`] drains it.
//! Keeps:   at most [`MAIL_MAX`] letters for each worker, from all others together; `LOOKUPS_MAX` lookups in the queue.
//! Refuses: nothing; a queue that is full drops what it cannot take, and counts it.
//! Sources: RFC 3261 section 18; `TR-01`, `DNS-03`.

mod groups;
mod guests;
mod lookups;
mod rounds;
mod trial;
mod watcher;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::LocalSet;

use crate::admission::{Load, Strain};
use crate::clock;
use crate::forward::{Destination, Proxy, Shared, proxy::Hold};
use crate::gate::Lookup;
use crate::instant::{Instant, Now};
use crate::journey::{Action, Journey, Outcome};
use crate::keys::psk::PskKeys;
use crate::keys::push::PushServer;
use crate::keys::{KeyServer, VectorSource, naf::NafCache};
use crate::state::Store;
use crate::telemetry::trace;
use crate::transport::key_desk::{Asker, KeyDesk, Question};
use crate::transport::tls::ClientTls;
use crate::transport::{
    Arrival, BindError, BoundListener, Closed, DialError, Flow, Flows, ListenSpec, ListenerId,
    Parts, Patience, Pending, Receiver, SendError, Side, Sockets, StreamFacts, Target, Transport,
    Transports,
};
use crate::wire::{Malformed, Message};

pub use groups::GroupSpec;
use guests::{FAREWELL, Guests, Parting};
use rounds::Mishaps;
use trial::Trial;

pub use trial::Told;
pub use watcher::{Fault, Watch};

/// Most letters of a worker that it has not taken yet, from all others together.
pub const MAIL_MAX: usize = 4096;
/// Most lookups in the queue.
pub const LOOKUPS_MAX: usize = 1024;

/// How often whoever stops the edge looks whether it may end.
const LOOK: Duration = Duration::from_millis(20);
/// How often a worker that has work looks how far behind it is.
pub const PULSE: Duration = Duration::from_millis(100);

/// Everything an edge is made of.
pub struct EdgeSpec {
    /// Sockets of each worker, bound; the ids of listeners are their places.
    pub sockets: Vec<Sockets>,
    /// What those sockets are bound to, in order.
    pub listeners: Vec<Arc<BoundListener>>,
    /// Peer groups; their ids are their places.
    pub groups: Vec<GroupSpec>,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Connections of all workers.
    pub flows: Arc<Flows>,
    /// How long connections may take for what.
    pub patience: Patience,
    /// TLS towards peers.
    pub client_tls: Option<Arc<ClientTls>>,
    /// The cache that stage 4 asks.
    pub keys: Arc<NafCache>,
    /// Whom to ask for what the cache does not have.
    pub key_source: Arc<dyn KeyServer>,
    /// Whom to ask for vectors, if cards prove themselves here.
    pub vectors: Option<Arc<dyn VectorSource>>,
    /// Whom to ask for counts, if nodes share their nonces.
    pub counts: Option<Arc<dyn Store>>,
    /// Whom to ask for push info, if what is pushed may be wrapped.
    pub push_infos: Option<Arc<dyn PushServer>>,
    /// Keys that handshakes are made with, if any are.
    pub psk: Option<Arc<PskKeys>>,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
}

/// A running edge.
pub struct Edge {
    listeners: Vec<Arc<BoundListener>>,
    parting: Arc<Parting>,
    shared: Arc<Shared>,
    wake: Vec<mpsc::Sender<Mail>>,
    /// `None` ends the thread that asks for keys.
    ask: mpsc::Sender<Option<Question>>,
    taken_back: watch::Sender<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

enum Mail {
    Message(Box<(Message, Arrival)>),
    Answered(Lookup),
    /// A connection to it is gone.
    Gone(Box<Destination>),
    /// What would become of a message.
    Try(Box<Trial>),
    /// There is something to look at.
    Wake,
}

impl Edge {
    /// Starts an edge on sockets that are bound already.
    ///
    /// # Errors
    ///
    /// What starting a thread or a runtime gave.
    pub fn start(mut spec: EdgeSpec) -> io::Result<Self> {
        let sockets = std::mem::take(&mut spec.sockets);
        let spec = Arc::new(spec);
        let parting = Arc::new(Parting::new(sockets.len()));
        let (wake, boxes): (Vec<_>, Vec<_>) =
            sockets.iter().map(|_| mpsc::channel(MAIL_MAX)).unzip();
        let (ask, questions) = mpsc::channel(LOOKUPS_MAX);
        let (taken_back, word) = watch::channel(());
        let mut threads = vec![lookups::start(&spec, questions, wake.clone())?];
        let loop_key = clock::random();
        let bells = wake.clone();
        // A full queue means a busy worker: it sees what is to be seen at its next turn.
        let ring = move || bells.iter().for_each(|wake| drop(wake.try_send(Mail::Wake)));
        spec.shared.gate.associations.wake_by(ring);
        for ((number, mail), sockets) in (0_u8..).zip(boxes).zip(sockets) {
            let (started, start) = std::sync::mpsc::sync_channel(1);
            let seat = Seat {
                spec: Arc::clone(&spec),
                number,
                loop_key,
                others: wake.clone(),
                ask: ask.clone(),
                desk: spec.psk.clone().map(|keys| KeyDesk::new(keys, ask.clone(), word.clone())),
                parting: Arc::clone(&parting),
            };
            let run = move || run_worker(seat, sockets, mail, started);
            threads.push(std::thread::Builder::new().name(format!("edge-{number}")).spawn(run)?);
            start.recv().map_err(|_| io::Error::other("a worker ended at once"))??;
        }
        let (listeners, shared) = (spec.listeners.clone(), Arc::clone(&spec.shared));
        let threads = Mutex::new(threads);
        Ok(Self { listeners, parting, shared, wake, ask, taken_back, threads })
    }

    /// What it listens on, in order.
    pub fn listeners(&self) -> &[Arc<BoundListener>] {
        &self.listeners
    }

    /// The bound addresses, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|bound| bound.local).collect()
    }

    /// Where handshakes elsewhere get the same keys.
    pub fn desk(&self, keys: Arc<PskKeys>) -> KeyDesk {
        KeyDesk::new(keys, self.ask.clone(), self.taken_back.subscribe())
    }

    /// Says that keys may have been taken back: connections that stand on one are closed.
    pub fn keys_taken_back(&self) {
        self.taken_back.send_replace(());
    }

    /// What cuts a stop short: nothing is waited for from then on.
    pub fn hurry(&self) -> impl Fn() + Send + Sync + 'static {
        let parting = Arc::clone(&self.parting);
        move || parting.hurry()
    }

    /// Takes nothing new (503 outside dialogs), keeps every flow while calls are up, and waits for transactions to end, for
    /// `patience` in all; then closes every connection and stops.
    ///
    /// Source: RFC 5923 section 8.3; `V-150`.
    pub fn stop(&self, patience: Duration) {
        self.shared.gate.admission.overload().drain();
        let end = clock::now().mono + patience;
        self.wait(end, || self.shared.gate.associations.calls() == 0);
        self.parting.begin();
        self.wake_all();
        // Full: the thread asks for keys until the patience ends.
        drop(self.ask.try_send(None));
        self.wait(end, || self.have_gone());
        // What is not answered by now is given up.
        self.parting.abandon();
        self.wake_all();
        self.await_farewell();
        let threads = std::mem::take(&mut *self.threads());
        threads.into_iter().filter(JoinHandle::is_finished).for_each(|it| drop(it.join()));
    }

    fn wake_all(&self) {
        // A full queue means a busy worker: it sees what is to be seen at its next turn.
        self.wake.iter().for_each(|wake| drop(wake.try_send(Mail::Wake)));
    }

    fn have_gone(&self) -> bool {
        self.threads().iter().all(JoinHandle::is_finished)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until `done`, or the end, or somebody hurries it.
    fn wait(&self, end: Instant, done: impl Fn() -> bool) {
        while clock::now().mono < end && !self.parting.is_hurried() && !done() {
            std::thread::sleep(LOOK);
        }
    }

    /// Good-byes are said in any case.
    fn await_farewell(&self) {
        let end = clock::now().mono + FAREWELL * 2;
        while !self.have_gone() && clock::now().mono < end {
            std::thread::sleep(LOOK);
        }
    }
}

/// What one worker is given.
struct Seat {
    spec: Arc<EdgeSpec>,
    number: u8,
    loop_key: [u8; 16],
    others: Vec<mpsc::Sender<Mail>>,
    ask: mpsc::Sender<Option<Question>>,
    desk: Option<KeyDesk>,
    parting: Arc<Parting>,
}

fn run_worker(
    seat: Seat,
    sockets: Sockets,
    mail: mpsc::Receiver<Mail>,
    started: SyncSender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return drop(started.send(Err(why))),
    };
    LocalSet::new().block_on(&runtime, async move {
        let parts = Parts {
            sockets,
            flows: Arc::clone(&seat.spec.flows),
            patience: seat.spec.patience,
            client_tls: seat.spec.client_tls.clone(),
            desk: seat.desk.clone(),
            seed: clock::random(),
        };
        match Transports::new(parts) {
            Ok(transports) => {
                let worker = Rc::new(Worker::new(seat, Rc::clone(&transports)));
                transports.start(Rc::<Worker>::clone(&worker));
                drop(started.send(Ok(())));
                // A task among the others: what it is woken for by those that are ready comes after them.
                let running = tokio::task::spawn_local(async move { worker.run(mail).await });
                if let Err(why) = running.await {
                    std::panic::resume_unwind(why.into_panic());
                }
            }
            Err(why) => drop(started.send(Err(why))),
        }
    });
}

/// One worker: its journey, and the sockets at either end.
struct Worker {
    seat: Seat,
    journey: RefCell<Journey>,
    transports: Rc<Transports>,
    /// The time of this turn: read once for all that came at once.
    now: Cell<Option<Now>>,
    /// The earliest deadline changed, or a turn is to end.
    rearm: Notify,
    armed: Cell<Option<Instant>>,
    /// When it looks next how far behind it is; `None` while there is nothing to do.
    pulse: Cell<Option<Instant>>,
    /// Whether it did anything since it looked last.
    busy: Cell<bool>,
    strain: Cell<Strain>,
    guests: Guests,
    mishaps: Mishaps,
}

impl Worker {
    fn new(seat: Seat, transports: Rc<Transports>) -> Self {
        let shared = Arc::clone(&seat.spec.shared);
        let proxy = Proxy::new(Arc::clone(&shared), seat.number, clock::random(), seat.loop_key);
        Self {
            journey: RefCell::new(Journey::new(shared, proxy)),
            seat,
            transports,
            now: Cell::new(None),
            rearm: Notify::new(),
            armed: Cell::new(None),
            pulse: Cell::new(None),
            busy: Cell::new(false),
            strain: Cell::default(),
            guests: Guests::default(),
            mishaps: Mishaps::default(),
        }
    }

    /// Looks how far behind this worker is; again after a while, if there is work.
    fn feel(&self) {
        let now = clock::mono();
        let late = now.since(self.pulse.get().unwrap_or(now));
        let mut strain = self.strain.get();
        let node = self.seat.spec.shared.gate.admission.overload();
        let load = strain.sample(late.max(self.transports.behind(now)), now, node);
        self.strain.set(strain);
        let again = self.busy.replace(false) || load != Load::Normal;
        self.pulse.set(again.then(|| now + PULSE));
    }

    /// Runs one step of the journey and does what it wants done. Datagrams go out when the turn ends.
    fn with(&self, step: impl FnOnce(&mut Journey, Now)) {
        let now = self.now.get().unwrap_or_else(clock::now);
        self.now.set(Some(now));
        self.busy.set(true);
        let mut journey = self.journey.borrow_mut();
        step(&mut journey, now);
        while let Some(action) = journey.poll_action() {
            if let Some(destination) = self.act(action) {
                journey.unreachable(&destination, now);
            }
            // One step may have more to send than the queue takes.
            if self.transports.is_full() {
                self.transports.flush(|flow| {
                    self.seat.spec.watch.fault(Fault::SendFailed);
                    journey.unreachable(&Destination::Flow(flow), now);
                });
            }
        }
    }

    /// Sends what waits; what cannot be sent goes another way, if there is one.
    fn flush(&self) {
        loop {
            let mut failed: Vec<Flow> = Vec::new();
            self.transports.flush(|flow| failed.push(flow));
            if failed.is_empty() {
                return;
            }
            // Each failure uses up a destination, so this ends.
            for flow in failed {
                self.seat.spec.watch.fault(Fault::SendFailed);
                self.with(|journey, now| journey.unreachable(&Destination::Flow(flow), now));
            }
        }
    }

    /// Does one thing; gives back a destination that could not be reached.
    fn act(&self, action: Action) -> Option<Destination> {
        let watch = &self.seat.spec.watch;
        match action {
            Action::Send(output) => {
                watch.sent(&output.to, &output.octets);
                let flow = match &output.to {
                    Destination::Flow(flow) => Ok(*flow),
                    Destination::Target(target) => self.transports.connect(target),
                };
                let sent = flow.and_then(|flow| self.transports.send(&flow, output.octets));
                if let Err(why) = sent {
                    watch.fault(Fault::SendFailed);
                    // A full queue of datagrams is loss, as on the way; a connection ends by it.
                    let lost =
                        why == SendError::Overflow && output.to.transport() == Transport::Udp;
                    return (!lost).then_some(output.to);
                }
            }
            Action::Ask(lookup) => {
                let question = Question { lookup, asker: Asker::Worker(self.seat.number) };
                if self.seat.ask.try_send(Some(question)).is_err() {
                    watch.fault(Fault::LookupsFull);
                }
            }
            Action::Close(flow) => {
                self.transports.flows().close(&flow);
            }
            Action::Hold(Hold { flow, silence }) => {
                self.transports.flows().hold(&flow, silence, clock::mono());
            }
            Action::Decided(decision) => {
                if decision.side == Side::Ue && decision.outcome == Outcome::Forwarded {
                    self.transports.flows().mark_authenticated(&decision.flow);
                }
                watch.decided(&decision);
            }
        }
        None
    }

    /// A message goes to the worker it belongs to.
    fn take(&self, message: Message, arrival: Arrival) {
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("transport", &message);
        self.seat.spec.watch.arrived(&arrival, &message);
        let owner = (!message.is_request())
            .then(|| message.top_via().and_then(|via| Proxy::worker_of(via.branch())))
            .flatten()
            .filter(|owner| *owner != self.seat.number);
        match owner.and_then(|owner| self.seat.others.get(usize::from(owner))) {
            Some(other) => {
                if other.try_send(Mail::Message(Box::new((message, arrival)))).is_err() {
                    self.seat.spec.watch.fault(Fault::MailFull);
                }
            }
            None => trace::request(&arrival, &message).in_scope(|| {
                self.with(|journey, now| journey.message(message, arrival, now));
            }),
        }
    }

    /// Any worker may have sent something there: it goes another way, if there is one.
    fn tell_others(&self, gone: &Destination) {
        for (number, other) in (0_u8..).zip(&self.seat.others) {
            let tells = number != self.seat.number;
            if tells && other.try_send(Mail::Gone(Box::new(gone.clone()))).is_err() {
                self.seat.spec.watch.fault(Fault::MailFull);
            }
        }
    }

    fn arrival(
        &self,
        flow: Flow,
        side: Side,
        local: SocketAddr,
        names: Option<&[Arc<str>]>,
    ) -> Arrival {
        let group = (side == Side::Core)
            .then(|| groups::of(&self.seat.spec.groups, &flow, names))
            .flatten();
        Arrival { flow, side, local, channel: None, group, pending: Pending::None }
    }

    fn arrival_of(&self, stream: &StreamFacts) -> Arrival {
        let names = stream.names.as_ref().map(|names| names.domains.as_slice());
        let arrival = self.arrival(stream.flow, stream.side, stream.local, names);
        Arrival { channel: stream.channel.clone(), ..arrival }
    }

    fn side_of(&self, listener: ListenerId) -> Side {
        let bound = self.seat.spec.listeners.get(usize::from(listener.0));
        bound.map_or(Side::Ue, |bound| bound.spec.side)
    }
}

impl Receiver for Worker {
    /// What was read at once has been dealt with: datagrams go out, and the timer is set.
    fn turn(&self) {
        self.flush();
        self.now.set(None);
        let deadline = self.journey.borrow().poll_timeout();
        let armed = self.armed.get();
        let idle = self.pulse.get().is_none() && self.busy.get();
        if idle {
            self.pulse.set(Some(clock::mono() + PULSE));
        }
        if idle || deadline.is_some() && armed.is_none_or(|armed| deadline < Some(armed)) {
            self.rearm.notify_one();
        }
    }

    /// Once all connections had their turn that had something to read: what they send goes out together.
    fn turn_ends(&self) {
        self.rearm.notify_one();
    }

    fn datagram(&self, flow: Flow, local: SocketAddr, octets: Bytes) {
        let arrival = self.arrival(flow, self.side_of(flow.listener), local, None);
        match Message::from_datagram(octets) {
            Ok(message) => self.take(message, arrival),
            Err(malformed) => {
                self.with(|journey, now| journey.malformed(&malformed, &arrival, now))
            }
        }
    }

    fn pinged(&self, flow: &Flow) {
        if self.side_of(flow.listener) == Side::Ue {
            self.with(|journey, now| journey.pinged(flow, now));
        }
    }

    fn opened(&self, stream: &Arc<StreamFacts>) {
        self.guests.enter(stream.flow);
        if stream.channel.is_some() || self.arrival_of(stream).group.is_some() {
            self.transports.flows().mark_authenticated(&stream.flow);
        }
    }

    fn message(&self, stream: &Arc<StreamFacts>, message: Message) {
        let arrival = self.arrival_of(stream);
        self.transports.flows().aliases().form(stream, arrival.group, &message);
        self.take(message, arrival);
    }

    fn broken(&self, stream: &Arc<StreamFacts>, malformed: Malformed) {
        let arrival = self.arrival_of(stream);
        self.with(|journey, now| journey.malformed(&malformed, &arrival, now));
        self.turn();
    }

    fn closed(&self, stream: &Arc<StreamFacts>, why: Closed) {
        self.guests.leave(&stream.flow);
        if let (Closed::CertificateRevoked, Some(caller)) = (why, &stream.channel) {
            let (associations, proof) =
                (&self.seat.spec.shared.gate.associations, caller.principal.proof);
            associations.revoke_on(&stream.flow, proof, &caller.key_name, clock::now());
        }
        let used_for = self.transports.flows().aliases().end(&stream.flow);
        used_for.iter().for_each(|target| self.tell_others(&Destination::Target(target.clone())));
        self.with(|journey, now| {
            if journey.closed(&stream.flow, now) {
                self.tell_others(&Destination::Flow(stream.flow));
            }
            for target in stream.target.iter().cloned().chain(used_for) {
                journey.unreachable(&Destination::Target(target), now);
            }
        });
        self.turn();
    }

    fn dial_failed(&self, _flow: &Flow, target: &Target, why: DialError) {
        self.seat.spec.watch.unreachable(target, &why);
        self.with(|journey, now| {
            journey.unreachable(&Destination::Target(target.clone()), now);
        });
        self.turn();
    }
}

/// Binds listeners for so many workers; gives each worker's sockets, and what they are bound to.
///
/// # Errors
///
/// The address that could not be bound, and why.
pub fn bind(
    specs: Vec<ListenSpec>,
    workers: NonZeroUsize,
) -> Result<(Vec<Sockets>, Vec<Arc<BoundListener>>), BindError> {
    let sockets = crate::transport::bind(specs, workers)?;
    let bound = sockets.first().map(Sockets::bound).unwrap_or_default();
    Ok((sockets, bound))
}

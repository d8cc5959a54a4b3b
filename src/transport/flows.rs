//! Stage 1, flows: the table of open connections, which every worker may send on.
//!
//! Takes:   connections as the listeners accept and the dialler opens them; messages to send, from any thread.
//! Gives:   [`ConnectionId`]s that never name two connections; a bounded queue for each, which its task empties.
//! Keeps:   a slot for each open connection, reused with another generation; a count for each address that has
//!          connections nobody authenticated. Bounds: [`Limits`]; 64 messages or 256 KiB in the queue of a peer that
//!          takes no octets, though a single message may be longer; 1024 messages or 4 MiB while it does take them
//!          and only its task has not had its turn.
//! Refuses: connections over a limit; a message over the queue's bound, which also ends that connection; a
//!          generation that is gone.
//! Sources: RFC 5626 sections 5.2, 5.4 and 7 (a flow and its end); `KA-03`, `TR-08`, `TR-17`, `OB-04`, `V-45`, `V-77`, `V-82`.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::aliases::Aliases;
use super::doors::{Door, Doors};
use super::stream::{Closed, StreamFacts};
use super::tally::Tally;
use super::users::{Place, Users};
use super::{ConnectionId, Flow, ListenerId, Transport};
use crate::instant::Instant as Until;

/// Most messages that wait for a peer that takes no octets.
pub const QUEUE_MESSAGES: usize = 64;
/// Most octets that wait for such a peer, where more than one message does.
pub const QUEUE_OCTETS: usize = 256 * 1024;
/// Most messages that wait for a connection's own task: what a worker may forward before that has its turn.
pub const BURST_MESSAGES: usize = 1024;
/// Most octets that wait for it, where more than one message does.
pub const BURST_OCTETS: usize = 4 * 1024 * 1024;

/// Of so many connections that there may be, one is not for who comes.
pub const DIALLED: usize = 32;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From one address (an IPv6 /64), while nobody authenticated on them.
    pub unauthenticated_per_address: usize,
    /// In all, while nobody authenticated on them.
    pub unauthenticated: usize,
    /// Of one user whom a key or a certificate proved in the handshake: more of them count as if nobody had.
    pub of_user: usize,
    /// In all, either direction. One in [`DIALLED`] of them is kept for those that the edge dials.
    pub connections: usize,
    /// Handshakes of TLS and WebSocket under way at once from one address (an IPv6 /64).
    pub handshakes_per_address: usize,
    /// Handshakes of TLS and WebSocket under way at once in all.
    pub handshakes: usize,
    /// Handshakes of DTLS under way at once from one address (an IPv6 /64).
    pub dtls_handshakes_per_address: usize,
    /// Handshakes of DTLS under way at once in all.
    pub dtls_handshakes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unauthenticated_per_address: 100,
            unauthenticated: 20_000,
            of_user: 100,
            connections: 200_000,
            handshakes_per_address: 32,
            handshakes: 4000,
            dtls_handshakes_per_address: 8,
            dtls_handshakes: 1000,
        }
    }
}

/// Why octets did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendError {
    /// The connection is closed, or closing.
    Gone,
    /// Its queue was full; the connection is closed for it, or for UDP the datagram is dropped.
    Overflow,
    /// Longer than a datagram can be.
    TooLong,
    /// No host can be reached by that address: multicast, unspecified, port 0.
    Unreachable,
    /// No listener that could send it.
    NoListener,
    /// As many connections as there may be.
    Crowded,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the connection is closed",
            Self::Overflow => "the peer takes no more octets",
            Self::TooLong => "longer than a datagram can be",
            Self::Unreachable => "no address of a host",
            Self::NoListener => "no listener to send it from",
            Self::Crowded => "as many connections as there may be",
        })
    }
}

impl std::error::Error for SendError {}

/// Parts of the table, each with a lock of its own: a power of two.
const SHARDS: u32 = 16;

/// All open connections of this process.
#[derive(Debug)]
pub struct Flows {
    limits: Limits,
    first_generation: u32,
    shards: Vec<RwLock<Shard>>,
    turn: AtomicUsize,
    open: AtomicUsize,
    crowd: Mutex<Crowd>,
    users: Arc<Users>,
    doors: Arc<Doors>,
    dtls_doors: Arc<Doors>,
    aliases: Aliases,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    pipe: Option<Arc<Pipe>>,
}

impl Flows {
    /// An empty table. `first_generation` is random, so that a flow token of an earlier run names nobody.
    pub fn new(limits: Limits, first_generation: u32) -> Arc<Self> {
        Arc::new(Self {
            limits,
            first_generation,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            turn: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            crowd: Mutex::default(),
            users: Users::new(limits.of_user),
            doors: Doors::new(limits.handshakes_per_address, limits.handshakes),
            dtls_doors: Doors::new(limits.dtls_handshakes_per_address, limits.dtls_handshakes),
            aliases: Aliases::default(),
            tally: Tally::default(),
        })
    }

    /// Queues `octets` on a connection; its own task writes them.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`], or [`SendError::Overflow`], which closes the connection.
    pub fn send(&self, flow: &Flow, octets: Bytes) -> Result<(), SendError> {
        let pipe = self.pipe(flow).ok_or(SendError::Gone)?;
        let sent = pipe.push(octets);
        if sent == Err(SendError::Overflow) {
            self.tally.overflowed.add(1);
        }
        sent
    }

    /// Closes a connection once what is queued was written; nothing is queued any more.
    pub fn close(&self, flow: &Flow) {
        self.close_for(flow, Closed::Asked);
    }

    /// The same, for a reason of its own.
    pub(crate) fn close_for(&self, flow: &Flow, why: Closed) {
        if let Some(pipe) = self.pipe(flow) {
            pipe.end(why);
        }
    }

    /// Notes that somebody proved on this connection who they are: it may stay idle, and carry longer messages; unless it
    /// is one too many of the user whom its handshake proved.
    pub fn mark_authenticated(&self, flow: &Flow) {
        let Some(pipe) = self.pipe(flow).filter(|pipe| !pipe.is_authenticated()) else { return };
        if let Some(user) = pipe.facts.get().and_then(|facts| facts.channel.as_ref()) {
            let Some(place) = self.users.enter(&user.principal) else {
                return self.tally.crowded_by_user.add(1);
            };
            *lock(&pipe.place) = Some(place);
        }
        pipe.authenticated.store(true, Ordering::Relaxed);
        drop(lock(&pipe.seat).take());
    }

    /// Holds the peer of a connection to its pings: silent for that long, it is closed. `None` sets it free.
    ///
    /// The second time is until when this holds.
    pub fn hold(&self, flow: &Flow, silence: Option<(Duration, Until)>, now: Until) {
        let Some(pipe) = self.pipe(flow) else { return };
        let since = Instant::now();
        let watch = silence.and_then(|(silence, until)| {
            Some(Watch { since, silence, until: since.checked_add(until.since(now))? })
        });
        *lock(&pipe.watch) = watch;
        wake(lock(&pipe.queue));
    }

    /// Whether somebody did.
    pub fn is_authenticated(&self, flow: &Flow) -> bool {
        self.pipe(flow).is_some_and(|pipe| pipe.is_authenticated())
    }

    /// The connection of that slot and generation, if it is still open.
    pub fn find(&self, id: ConnectionId) -> Option<Flow> {
        self.at(id).map(|pipe| pipe.flow)
    }

    /// An open connection from `remote`, if there is one. Looks at every connection.
    pub fn find_from(&self, transport: Transport, remote: SocketAddr) -> Option<Flow> {
        let is = |flow: &Flow| flow.transport == transport && flow.remote == remote;
        self.shards.iter().find_map(|shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let flows = shard.slots.iter().filter_map(|slot| slot.pipe.as_ref());
            flows.map(|pipe| pipe.flow).find(is)
        })
    }

    /// Whether `flow` is a connection that is still open.
    pub fn is_open(&self, flow: &Flow) -> bool {
        self.pipe(flow).is_some()
    }

    /// What is known about a connection; `None` if it is gone, or not yet established.
    pub fn facts(&self, flow: &Flow) -> Option<Arc<StreamFacts>> {
        self.pipe(flow)?.facts.get().cloned()
    }

    /// Connections that are open.
    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Accepted connections on which nobody authenticated.
    pub fn unauthenticated_count(&self) -> usize {
        lock(&self.crowd).all
    }

    /// What happened so far, by name.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Connections that are used backwards.
    pub fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// A place for a connection just accepted from `remote`; `None` if its address or the edge has too many.
    pub(super) fn seat(self: &Arc<Self>, remote: IpAddr) -> Option<Seat> {
        let origin = Origin::of(remote);
        let mut crowd = lock(&self.crowd);
        if crowd.all >= self.limits.unauthenticated {
            self.tally.refused_in_all.add(1);
            return None;
        }
        let here = crowd.by_origin.entry(origin).or_default();
        if *here >= self.limits.unauthenticated_per_address {
            self.tally.refused_by_address.add(1);
            return None;
        }
        *here = here.saturating_add(1);
        crowd.all = crowd.all.saturating_add(1);
        drop(crowd);
        Some(Seat { flows: self.clone(), origin })
    }

    /// Leave to shake hands on a connection from `remote`; `None` if too many do.
    pub(super) fn door(&self, remote: IpAddr) -> Option<Door> {
        let door = self.doors.enter(remote);
        self.tally.handshakes_crowded.add(u64::from(door.is_none()));
        door
    }

    /// Leave to begin DTLS handshakes.
    pub(super) fn dtls_doors(&self) -> &Arc<Doors> {
        &self.dtls_doors
    }

    /// Enters a connection; it is in the table until the lease is dropped.
    pub(super) fn open(
        self: &Arc<Self>,
        transport: Transport,
        listener: ListenerId,
        remote: SocketAddr,
        seat: Option<Seat>,
    ) -> Result<Lease, SendError> {
        let all = self.limits.connections;
        let kept = if seat.is_some() { all.checked_div(DIALLED).unwrap_or_default() } else { 0 };
        if self.open.fetch_add(1, Ordering::Relaxed) >= all.saturating_sub(kept) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.tally.refused_in_all.add(1);
            return Err(SendError::Crowded);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let number = u32::try_from(turn & (SHARDS as usize).wrapping_sub(1)).unwrap_or_default();
        let enter = |id| {
            let flow = Flow { transport, listener, remote, connection: Some(id) };
            Arc::new(Pipe::new(flow, seat))
        };
        let entered = self.shards.get(number as usize).and_then(|shard| {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.enter(number, self.first_generation, enter)
        });
        let Some(pipe) = entered else {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(SendError::Crowded);
        };
        Ok(Lease { flows: self.clone(), pipe })
    }

    fn pipe(&self, flow: &Flow) -> Option<Arc<Pipe>> {
        self.at(flow.connection?).filter(|pipe| pipe.flow == *flow)
    }

    fn at(&self, id: ConnectionId) -> Option<Arc<Pipe>> {
        let shard = self.shards.get((id.slot % SHARDS) as usize)?;
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.slots.get((id.slot / SHARDS) as usize)?;
        slot.pipe.clone().filter(|_| slot.generation == id.generation)
    }

    fn leave(&self, flow: &Flow) {
        let Some(id) = flow.connection else { return };
        if let Some(shard) = self.shards.get((id.slot % SHARDS) as usize) {
            shard.write().unwrap_or_else(PoisonError::into_inner).leave(id.slot / SHARDS);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Shard {
    fn enter(
        &mut self,
        shard: u32,
        first_generation: u32,
        pipe: impl FnOnce(ConnectionId) -> Arc<Pipe>,
    ) -> Option<Arc<Pipe>> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.slots.push(Slot { generation: first_generation, pipe: None });
                u32::try_from(self.slots.len().checked_sub(1)?).ok()?
            }
        };
        let slot = self.slots.get_mut(place as usize)?;
        let number = place.checked_mul(SHARDS)?.checked_add(shard)?;
        let pipe = pipe(ConnectionId { slot: number, generation: slot.generation });
        slot.pipe = Some(pipe.clone());
        Some(pipe)
    }

    /// Frees a place. Its next tenant has another generation; the same one returns after 2^32 tenants.
    fn leave(&mut self, place: u32) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        if slot.pipe.take().is_some() {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(place);
        }
    }
}

/// Unauthenticated connections, by where they come from.
#[derive(Debug, Default)]
struct Crowd {
    by_origin: HashMap<Origin, usize>,
    all: usize,
}

/// What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// The place of an unauthenticated connection; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Seat {
    flows: Arc<Flows>,
    origin: Origin,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut crowd = lock(&self.flows.crowd);
        crowd.all = crowd.all.saturating_sub(1);
        if let Some(here) = crowd.by_origin.get_mut(&self.origin) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                crowd.by_origin.remove(&self.origin);
            }
        }
    }
}

/// A connection's entry in the table; dropping it takes the entry out, whatever ended the connection.
#[derive(Debug)]
pub(super) struct Lease {
    flows: Arc<Flows>,
    pipe: Arc<Pipe>,
}

impl Lease {
    pub(super) fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    pub(super) fn flow(&self) -> Flow {
        self.pipe.flow
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pipe.end(Closed::Asked);
        self.flows.leave(&self.pipe.flow);
        drop(lock(&self.pipe.seat).take());
        drop(lock(&self.pipe.place).take());
    }
}

/// What the table and a connection's task share.
#[derive(Debug)]
pub(super) struct Pipe {
    flow: Flow,
    authenticated: AtomicBool,
    blocked: AtomicBool,
    seat: Mutex<Option<Seat>>,
    place: Mutex<Option<Place>>,
    queue: Mutex<Queue>,
    watch: Mutex<Option<Watch>>,
    /// Set once the connection stands.
    pub(super) facts: OnceLock<Arc<StreamFacts>>,
}

/// How long the peer of a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// From when.
    pub(super) since: Instant,
    /// How long.
    pub(super) silence: Duration,
    /// Until when that holds.
    pub(super) until: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    octets: usize,
    end: Option<Closed>,
    /// The task, while it sleeps and is to be woken: something is in the queue, or it ends.
    sleeper: Option<Waker>,
}

impl Pipe {
    fn new(flow: Flow, seat: Option<Seat>) -> Self {
        Self {
            flow,
            authenticated: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            seat: Mutex::new(seat),
            place: Mutex::default(),
            queue: Mutex::default(),
            watch: Mutex::default(),
            facts: OnceLock::new(),
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Marks a connection to a peer that the configuration names.
    pub(super) fn authenticate(&self) {
        self.authenticated.store(true, Ordering::Relaxed);
    }

    /// How long the peer may be silent.
    pub(super) fn watch(&self) -> Option<Watch> {
        *lock(&self.watch)
    }

    /// Notes whether the peer takes octets.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    fn push(&self, octets: Bytes) -> Result<(), SendError> {
        let mut queue = lock(&self.queue);
        if queue.end.is_some() {
            return Err(SendError::Gone);
        }
        let sum = queue.octets.saturating_add(octets.len());
        let waiting = queue.messages.len();
        let (messages, octets_max) = if self.blocked.load(Ordering::Relaxed) {
            (QUEUE_MESSAGES, QUEUE_OCTETS)
        } else {
            (BURST_MESSAGES, BURST_OCTETS)
        };
        let sent = if waiting >= messages || (sum > octets_max && waiting > 0) {
            (queue.messages, queue.octets) = (VecDeque::new(), 0);
            queue.end = Some(Closed::Overflow);
            Err(SendError::Overflow)
        } else {
            queue.octets = sum;
            queue.messages.push_back(octets);
            Ok(())
        };
        wake(queue);
        sent
    }

    /// Ends it: the first reason stands.
    pub(super) fn end(&self, why: Closed) {
        let mut queue = lock(&self.queue);
        queue.end.get_or_insert(why);
        wake(queue);
    }

    /// Moves what is queued into `outgoing` while that has fewer than `enough` octets; says whether, and why, it ends.
    /// Each message is put there by `put`.
    pub(super) fn pull_as(
        &self,
        outgoing: &mut BytesMut,
        enough: usize,
        put: impl Fn(&Bytes, &mut BytesMut),
    ) -> Option<Closed> {
        let mut queue = lock(&self.queue);
        while outgoing.len() < enough {
            let Some(octets) = queue.messages.pop_front() else { break };
            queue.octets = queue.octets.saturating_sub(octets.len());
            put(&octets, outgoing);
        }
        queue.end.filter(|_| queue.messages.is_empty())
    }

    /// The next message that is queued; says whether, and why, it ends once there is none.
    pub(super) fn pop(&self) -> Result<Bytes, Option<Closed>> {
        let mut queue = lock(&self.queue);
        let octets = queue.messages.pop_front().ok_or(queue.end)?;
        queue.octets = queue.octets.saturating_sub(octets.len());
        Ok(octets)
    }

    /// Notes that the task sleeps from now on, to be woken by `waker`; not if [`Pipe::pull_as`] would give it something,
    /// which it does not for a task that is `full`.
    pub(super) fn rest(&self, waker: &Waker, full: bool) -> bool {
        let mut queue = lock(&self.queue);
        let empty = queue.messages.is_empty();
        let rests = if empty { queue.end.is_none() } else { full };
        if rests && !queue.sleeper.as_ref().is_some_and(|sleeper| sleeper.will_wake(waker)) {
            queue.sleeper = Some(waker.clone());
        }
        rests
    }
}

/// Wakes the task, if it sleeps.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let sleeper = queue.sleeper.take();
    drop(queue);
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Caller;
    use crate::identity::{Principal, Proof};
    use crate::transport::Side;

    fn table(limits: Limits) -> Arc<Flows> {
        Flows::new(limits, 7)
    }

    fn open(flows: &Arc<Flows>, remote: &str) -> Option<Lease> {
        let remote: SocketAddr = remote.parse().unwrap();
        let seat = flows.seat(remote.ip())?;
        flows.open(Transport::Tcp, ListenerId(0), remote, Some(seat)).ok()
    }

    #[test]
    fn a_reused_slot_has_another_generation() {
        let flows = table(Limits::default());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let lease = open(&flows, "192.0.2.1:4000").unwrap();
            let flow = lease.flow();
            assert!(seen.insert(flow.connection.unwrap()), "a name given twice");
            assert_eq!(flows.find(flow.connection.unwrap()), Some(flow));
            drop(lease);
            assert_eq!(flows.find(flow.connection.unwrap()), None);
            assert_eq!(flows.send(&flow, Bytes::from_static(b"x")), Err(SendError::Gone));
        }
        let slots: std::collections::HashSet<u32> = seen.iter().map(|id| id.slot).collect();
        assert_eq!(slots.len(), SHARDS as usize, "slots are reused, not added");
        assert_eq!((flows.open_count(), flows.unauthenticated_count()), (0, 0));
    }

    fn pull(pipe: &Pipe, outgoing: &mut BytesMut, enough: usize) -> Option<Closed> {
        pipe.pull_as(outgoing, enough, |octets, out| out.extend_from_slice(octets))
    }

    #[test]
    fn an_address_has_so_many_unauthenticated_connections_and_no_more() {
        let flows = table(Limits::default());
        for (one, same, other) in [
            ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"),
            ("[2001:db8::1]:1", "[2001:db8::ffff]:1", "[2001:db8:0:1::1]:1"),
            ("198.51.100.1:1", "[::ffff:198.51.100.1]:2", "198.51.100.2:1"),
        ] {
            let leases: Vec<Lease> = (0..100).map(|_| open(&flows, one).unwrap()).collect();
            assert!(open(&flows, same).is_none(), "{same}: the 101st");
            assert!(open(&flows, other).is_some(), "{other}: another address");
            flows.mark_authenticated(&leases[0].flow());
            let again = open(&flows, same);
            assert!(again.is_some(), "{same}: one of the hundred has authenticated");
            assert!(open(&flows, same).is_none(), "{same}: and it frees one place only");
        }
        assert_eq!((flows.open_count(), flows.unauthenticated_count()), (0, 0));
    }

    #[test]
    fn the_edge_has_so_many_in_all() {
        let limits = Limits { unauthenticated: 5, connections: 6, ..Limits::default() };
        let flows = table(limits);
        let mut leases: Vec<Lease> =
            (1..6).map(|n| open(&flows, &format!("192.0.2.{n}:1")).unwrap()).collect();
        assert!(open(&flows, "192.0.2.9:1").is_none(), "the sixth without authentication");
        leases.iter().for_each(|lease| flows.mark_authenticated(&lease.flow()));
        leases.push(open(&flows, "192.0.2.9:1").unwrap());
        assert!(open(&flows, "192.0.2.9:1").is_none(), "the seventh of all");
        assert_eq!(flows.open_count(), 6);
    }

    /// V-45: so many come, and the edge still reaches its own servers.
    #[test]
    fn some_connections_are_kept_for_those_that_the_edge_dials() {
        let limits = Limits { unauthenticated: 100, connections: 64, ..Limits::default() };
        let flows = table(limits);
        let came: Vec<Lease> = std::iter::from_fn(|| open(&flows, "192.0.2.1:1")).collect();
        assert_eq!(came.len(), 62);
        let remote = "203.0.113.10:5060".parse().unwrap();
        let dial = || flows.open(Transport::Tcp, ListenerId(0), remote, None).ok();
        let dialled: Vec<Lease> = std::iter::from_fn(dial).collect();
        assert_eq!(dialled.len(), 2);
    }

    /// One key, and as many connections as one likes: they count as those of strangers.
    #[test]
    fn a_user_has_so_many_connections_that_stay() {
        let flows = table(Limits { of_user: 2, ..Limits::default() });
        let caller = Arc::new(Caller {
            principal: Principal::new(Proof::ProvisionedKey, "psk;alice@bsf.example.net"),
            renewal: Default::default(),
            identities: Arc::from([]),
            key_name: "psk;alice@bsf.example.net".into(),
            expires: None,
            strongest: 0.into(),
            rights: Default::default(),
        });
        let enter = || {
            let lease = open(&flows, "192.0.2.1:1").unwrap();
            let facts = StreamFacts {
                flow: lease.flow(),
                side: Side::Ue,
                local: "192.0.2.9:5061".parse().unwrap(),
                names: None,
                asked_for: None,
                channel: Some(Arc::clone(&caller)),
                target: None,
            };
            lease.pipe().facts.set(Arc::new(facts)).unwrap();
            flows.mark_authenticated(&lease.flow());
            lease
        };
        let leases = [(); 3].map(|()| enter());
        let stay = |leases: &[Lease]| {
            leases.iter().filter(|lease| flows.is_authenticated(&lease.flow())).count()
        };
        assert_eq!((stay(&leases), flows.unauthenticated_count()), (2, 1));
        flows.mark_authenticated(&leases[2].flow());
        assert_eq!(stay(&leases), 2, "nor by a request on it");
        drop(leases);
        let again = [(); 2].map(|()| enter());
        assert_eq!(stay(&again), 2, "whoever leaves makes room");
    }

    #[test]
    fn a_queue_that_overflows_ends_its_connection_and_no_other() {
        for (name, blocked, size, fit) in [
            ("64 messages", true, 10, 64),
            ("256 KiB", true, 64 * 1024, 4),
            ("1024 messages", false, 10, 1024),
            ("4 MiB", false, 64 * 1024, 64),
        ] {
            let flows = table(Limits::default());
            let (slow, other) =
                (open(&flows, "192.0.2.1:1").unwrap(), open(&flows, "192.0.2.1:2").unwrap());
            slow.pipe().set_blocked(blocked);
            let octets = Bytes::from(vec![b'x'; size]);
            for _ in 0..fit {
                assert_eq!(flows.send(&slow.flow(), octets.clone()), Ok(()), "{name}");
            }
            assert_eq!(
                flows.send(&slow.flow(), octets.clone()),
                Err(SendError::Overflow),
                "{name}"
            );
            assert_eq!(flows.send(&slow.flow(), octets.clone()), Err(SendError::Gone), "{name}");
            let mut outgoing = BytesMut::new();
            assert_eq!(pull(slow.pipe(), &mut outgoing, 1), Some(Closed::Overflow), "{name}");
            assert!(outgoing.is_empty(), "{name}: what was queued is gone");
            assert_eq!(flows.send(&other.flow(), octets), Ok(()), "{name}");
        }
    }

    #[test]
    fn one_message_may_be_longer_than_the_queue() {
        let flows = table(Limits::default());
        let lease = open(&flows, "192.0.2.1:1").unwrap();
        lease.pipe().set_blocked(true);
        let long = Bytes::from(vec![b'x'; QUEUE_OCTETS + 4096]);
        assert_eq!(flows.send(&lease.flow(), long.clone()), Ok(()));
        assert_eq!(flows.send(&lease.flow(), long), Err(SendError::Overflow));
    }

    #[test]
    fn a_close_lets_the_queue_run_dry_first() {
        let flows = table(Limits::default());
        let lease = open(&flows, "192.0.2.1:1").unwrap();
        flows.send(&lease.flow(), Bytes::from_static(b"one")).unwrap();
        flows.send(&lease.flow(), Bytes::from_static(b"two")).unwrap();
        flows.close(&lease.flow());
        assert_eq!(flows.send(&lease.flow(), Bytes::new()), Err(SendError::Gone));
        let mut outgoing = BytesMut::new();
        assert_eq!(pull(lease.pipe(), &mut outgoing, 1), None, "the second still waits");
        assert_eq!(pull(lease.pipe(), &mut outgoing, 9), Some(Closed::Asked));
        assert_eq!(&outgoing[..], b"onetwo");
    }
}

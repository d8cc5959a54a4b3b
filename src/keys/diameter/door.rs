//! Keys, Diameter, door: where neighbours come to ask us.
//!
//! Takes:   connections, over TLS with certificates on both ends; in the clear from addresses that are written down.
//! Gives:   each request to [`Serve`], and its answer back.
//! Keeps:   a task for each connection; at most [`CONNECTIONS_MAX`], and [`CONNECTIONS_OF_PEER`] of one peer;
//!          [`UNKNOWN_OF_ADDRESS`] of one address (an IPv6 /64) whose peer is not known yet.
//! Refuses: whoever is not written down, or whose certificate does not carry his name; a connection past the bounds.
//! Sources: RFC 6733 sections 2.1, 5.2, 5.6 and 13.1; SEC_CF 1.1 SEC-002.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::base::Local;
use super::codec::{Message, Printed};
use super::link::{Input, Link, Output, Pace};
use super::way::{Connection, QUEUE_MAX, carry};
use crate::clock;
use crate::instant::Now;
use crate::transport::doors::{Door as Entry, Doors};
use crate::transport::tls::{ServerTls, accept};
use crate::transport::vouched::Vouched;

/// Most connections.
pub const CONNECTIONS_MAX: usize = 256;
/// Most connections of one peer: one for each of its processes.
pub const CONNECTIONS_OF_PEER: u32 = 4;

/// Most connections of one address, before it is known which peer each of them is.
pub const UNKNOWN_OF_ADDRESS: usize = 16;

/// Somebody who may come.
#[derive(Clone, Debug)]
pub struct Guest {
    /// His name.
    pub host: Arc<str>,
    /// The address that proves him, where he comes in the clear; else his certificate does.
    pub clear: Option<IpAddr>,
}

/// Who answers requests.
///
/// An implementation that errs gives keys of subscribers to whoever may connect.
pub trait Serve: Send + Sync {
    /// The answer to a request of `peer`, whose name was proved. All AVPs of it are known.
    fn answer(&self, peer: &str, request: &Message<'_>, now: Now) -> Printed;
}

/// What was asked of us.
#[derive(Debug, Default)]
pub struct Asked {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Requests that were answered.
    pub answered: AtomicU64,
    /// Connections that were turned away.
    pub turned_away: AtomicU64,
}

/// Where they come.
pub struct Door {
    /// Who we are.
    pub local: Arc<Local>,
    /// Our end of TLS, unless everybody comes in the clear.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may come.
    pub guests: Vec<Guest>,
    /// How long things may take.
    pub pace: Pace,
    /// Who answers.
    pub serve: Arc<dyn Serve>,
    /// What was asked.
    pub asked: Arc<Asked>,
    open: Mutex<HashMap<Arc<str>, u32>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("guests", &self.guests).finish_non_exhaustive()
    }
}

impl Door {
    /// A door.
    pub fn new(
        local: Arc<Local>,
        tls: Option<Arc<ServerTls>>,
        guests: Vec<Guest>,
        pace: Pace,
        serve: Arc<dyn Serve>,
    ) -> Self {
        let (asked, open) = (Arc::default(), Mutex::default());
        Self { local, tls, guests, pace, serve, asked, open }
    }

    /// Serves `listener` until `stop` changes, and then until all have parted.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // How many there are in all, the places bound.
        let unknown = Doors::new(UNKNOWN_OF_ADDRESS, usize::MAX);
        loop {
            // A place before a connection: past the bound, the kernel's queue holds them.
            let accepted =
                async { (places.clone().acquire_owned().await, listener.accept().await) };
            let (place, accepted) = tokio::select! {
                _ = stop.changed() => break,
                accepted = accepted => accepted,
            };
            let Ok((stream, from)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(entry) = unknown.enter(from.ip()) else {
                self.turn_away(from, &io::Error::other("too many of its address are unknown"));
                continue;
            };
            let (own, stop) = (Arc::clone(&self), stop.clone());
            tokio::spawn(async move {
                match timeout(own.pace.greeting, own.greet(stream, from)).await {
                    Ok(Ok((connection, expected))) => {
                        own.converse(connection, expected, entry, stop).await
                    }
                    Ok(Err(why)) => own.turn_away(from, &why),
                    Err(_) => own.turn_away(from, &io::ErrorKind::TimedOut.into()),
                }
                drop(place);
            });
        }
        drop(listener);
        // Until all have parted; whoever asked for the stop has no more patience than he has.
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        drop(places.acquire_many(all).await);
    }

    fn turn_away(&self, from: SocketAddr, why: &io::Error) {
        self.asked.turned_away.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%from, %why, "a Diameter connection is turned away");
    }

    /// Shakes hands; who may be at the other end.
    async fn greet(
        &self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> io::Result<(Connection, Vec<Arc<str>>)> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let named = |guests: Vec<&Guest>| -> Vec<Arc<str>> {
            guests.into_iter().map(|guest| Arc::clone(&guest.host)).collect()
        };
        let mut first = [0];
        stream.peek(&mut first).await?;
        // A record of TLS begins with 22, a message in the clear with the version.
        let (connection, expected) = match (&self.tls, first) {
            (Some(tls), [22]) => {
                let (stream, greeted) = accept(tls, stream).await.map_err(io::Error::other)?;
                let vouched = Vouched::client(tls, &stream, &greeted);
                let names = greeted.names.ok_or(io::ErrorKind::PermissionDenied)?;
                let proved = |guest: &&Guest| guest.clear.is_none() && names.covers(&guest.host);
                let expected = named(self.guests.iter().filter(proved).collect());
                (Connection { stream: Box::new(stream), local, vouched }, expected)
            }
            _ => {
                let from = from.ip().to_canonical();
                let proved = |guest: &&Guest| guest.clear == Some(from);
                let expected = named(self.guests.iter().filter(proved).collect());
                (Connection { stream: Box::new(stream), local, vouched: None }, expected)
            }
        };
        if expected.is_empty() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok((connection, expected))
    }

    async fn converse(
        self: &Arc<Self>,
        connection: Connection,
        expected: Vec<Arc<str>>,
        entry: Entry,
        mut stop: watch::Receiver<bool>,
    ) {
        let (send, waiting) = mpsc::channel(QUEUE_MAX);
        let (tell, mut told) = mpsc::channel::<Printed>(QUEUE_MAX);
        let seed = (u32::from_be_bytes(clock::random()), u32::from_be_bytes(clock::random()));
        let (local, address) = (Arc::clone(&self.local), connection.local.ip());
        let link = Link::accepted(local, address, expected, self.pace, seed, clock::mono());
        let (door, unknown) = (Arc::clone(self), Some(entry));
        let mut talk = Talk { door, link, send: Some(send), unknown, peer: None };
        let carried = carry(connection, waiting, tell, |octets| octets);
        let spoken = async {
            // What is to be sent goes through the queue, whose end is the end of the connection.
            while talk.send.is_some() {
                let due = talk.link.poll_timeout();
                let due = async {
                    match due {
                        Some(at) => tokio::time::sleep_until(clock::deadline(at)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    Some(octets) = told.recv() => talk.handle(Input::Octets(&octets)),
                    () = due => talk.handle(Input::Tick),
                    _ = stop.changed() => talk.handle(Input::Stop),
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = carried => {}
            () = spoken => {}
        }
    }

    /// Whether one more connection of `host` may be.
    fn enter(&self, host: &Arc<str>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(Arc::clone(host)).or_default();
        let room = *count < CONNECTIONS_OF_PEER;
        if room {
            *count = count.saturating_add(1);
            self.asked.open.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    fn leave(&self, host: &Arc<str>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(host) {
            *count = count.saturating_sub(1);
            self.asked.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One connection's machine, and who is at the other end.
struct Talk {
    door: Arc<Door>,
    link: Link,
    send: Option<mpsc::Sender<Printed>>,
    /// Its place among the unknown, until it is known who it is.
    unknown: Option<Entry>,
    peer: Option<Arc<str>>,
}

impl Talk {
    fn handle(&mut self, input: Input<'_>) {
        let now = clock::now();
        // Whether it ended, its outputs say.
        let _ended = self.link.handle(input, now.mono);
        while let Some(output) = self.link.poll_output() {
            match output {
                Output::Send(octets) => self.say(octets),
                Output::Open(of) => {
                    if self.door.enter(&of.host) {
                        tracing::info!(peer = &*of.host, "a Diameter peer has come");
                        self.peer = Some(of.host);
                        self.unknown = None;
                    } else {
                        self.send = None;
                    }
                }
                Output::Request(octets) => {
                    let (Some(peer), Ok(message)) = (&self.peer, Message::parse(&octets)) else {
                        continue;
                    };
                    let answer = self.door.serve.answer(peer, &message, now);
                    self.door.asked.answered.fetch_add(1, Ordering::Relaxed);
                    self.say(answer);
                }
                Output::Close(_) => self.send = None,
                // We ask nothing this way.
                Output::Silent | Output::Speaks | Output::Answered(..) | Output::Unanswered(_) => {}
            }
        }
    }

    /// A neighbour that takes nothing while it asks is left.
    fn say(&mut self, octets: Printed) {
        if self.send.as_ref().is_some_and(|send| send.try_send(octets).is_err()) {
            self.send = None;
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            self.door.leave(peer);
            tracing::info!(peer = &**peer, "a Diameter peer has gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    struct Mute;

    impl Serve for Mute {
        fn answer(&self, _: &str, _: &Message<'_>, _: Now) -> Printed {
            unreachable!("nobody is known here")
        }
    }

    /// The silent hold so many places of one address, and no more.
    #[tokio::test]
    async fn one_address_cannot_hold_every_place_by_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let local = Arc::new(Local {
            host: "bsf.example.net".into(),
            realm: "example.net".into(),
            product: "test".into(),
            applications: vec![],
            state_id: 1,
        });
        // Nobody's patience ends while the test runs.
        let pace = Pace { greeting: Duration::from_secs(600), ..Pace::default() };
        let door = Arc::new(Door::new(local, None, vec![], pace, Arc::new(Mute)));
        let (_stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(Arc::clone(&door).serve(listener, stopped));
        let mut silent = Vec::new();
        for _ in 0..UNKNOWN_OF_ADDRESS {
            silent.push(TcpStream::connect(address).await.expect("connected"));
        }
        let mut one_more = TcpStream::connect(address).await.expect("connected");
        let mut octet = [0];
        let patience = Duration::from_secs(20);
        let closed = timeout(patience, one_more.read(&mut octet)).await.expect("closed at once");
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        assert_eq!(door.asked.turned_away.load(Ordering::Relaxed), 1, "the others are still there");
        drop(silent);
        serving.abort();
    }
}

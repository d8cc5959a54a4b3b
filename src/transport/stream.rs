//! Stage 1, streams: the life of one connection, from its first octet to its end.
//!
//! Takes:   anything that reads and writes octets, TCP or TLS, WebSocket frames in them or not, and the queue that others fill.
//! Gives:   each message, whole, to the [`Receiver`]; one CRLF for each ping; in the end, a reason.
//! Keeps:   what was read of the message under way, at most its bound and one read more; 16 KiB under way
//!          out, or one message if that is longer.
//! Refuses: by closing: what is no SIP (no answer), what breaks the framing (the receiver answers first), who shows
//!          no first octet in 30 s, no whole head within 10 s of its first octet, no whole message within 60 s,
//!          who is idle for 60 s without having authenticated, who takes no octet for 30 s, who was told how often to
//!          ping and is silent for half as long again.
//! Sources: RFC 3261 sections 7.5 and 18.3; RFC 5626 sections 4.4.1 and 5.4; `TR-04` to `TR-08`, `TR-10`, `TR-17`,
//!          `KA-01`, `KA-03`, `KA-05`, `V-09`, `V-10`, `V-75`, `V-77`.

mod framing;
mod incoming;
mod outgoing;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::flows::Pipe;
use super::tally::Tally;
use super::{Flow, Side, Target};
use crate::authentication::Caller;
use crate::authentication::tls_identity::CertificateNames;
use crate::wire::message::{MESSAGE_MAX, MESSAGE_MAX_KNOWN};
use crate::wire::{Malformed, Message};
use framing::{Framing, Taken};
use incoming::{Alarm, Incoming};
use outgoing::Outgoing;

/// What is known about a connection, whatever its messages say.
#[derive(Clone, Debug)]
pub struct StreamFacts {
    /// The flow.
    pub flow: Flow,
    /// The face it belongs to.
    pub side: Side,
    /// Our end.
    pub local: SocketAddr,
    /// The verified names of the peer's certificate; `None` without one.
    pub names: Option<CertificateNames>,
    /// Whom its handshake proved, by a shared key or by a user's certificate.
    pub channel: Option<Arc<Caller>>,
    /// The server name that a client asked for.
    pub asked_for: Option<Arc<str>>,
    /// Whom we dialled, if we did. Under TLS, its domain is among `names`.
    pub target: Option<Target>,
}

/// How long a connection outlives a key that has ended: 64 * T1, for what is under way.
pub const AFTER_KEY: Duration = Duration::from_secs(32);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// The peer closed it, or it was lost.
    Peer,
    /// [`super::flows::Flows::close`] was called.
    Asked,
    /// Its queue overflowed.
    Overflow,
    /// The peer took no octets.
    Stalled,
    /// The peer showed too little in time.
    Slow,
    /// Nothing came, and nobody had authenticated.
    Idle,
    /// It was told how often to ping, and was silent for longer.
    Silent,
    /// The framing was lost.
    Broken,
    /// It was not SIP.
    Stranger,
    /// The key that it stood on has ended, or was taken back.
    KeyOver,
    /// Its certificate is not good any more: it has ended, or nobody can say that it was not taken back.
    CertificateOver,
    /// Its certificate was taken back, or is another user's now, or its issuer is no longer trusted.
    CertificateRevoked,
    /// Its peer began anew from the same address.
    Replaced,
    /// A fault of ours.
    Panicked,
}

/// Why a peer could not be reached.
#[derive(Clone, Debug, PartialEq)]
pub enum DialError {
    /// No connection: refused, unreachable, reset.
    Lost(io::ErrorKind),
    /// Not within the time.
    Slow,
    /// The TLS handshake failed. There is no second attempt in the clear.
    Tls(super::tls::TlsRefusal),
    /// No TLS is set up for what we dial.
    NoTls,
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(kind) => write!(f, "no connection: {kind}"),
            Self::Slow => f.write_str("no connection in time"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::NoTls => f.write_str("TLS is not set up"),
        }
    }
}

impl std::error::Error for DialError {}

/// Who is called with what arrives. Each call is made on the worker's own thread, and must not block.
pub trait Receiver {
    /// What was read at once has been handed over: what is to go out for it should go out now.
    fn turn(&self);

    /// The same has been done for one connection of perhaps many that have something to read: what is to go out may
    /// wait for those.
    fn turn_ends(&self) {
        self.turn();
    }

    /// A datagram that may be SIP.
    fn datagram(&self, flow: Flow, local: SocketAddr, octets: Bytes);

    /// A ping came from where datagrams come from, and was answered.
    fn pinged(&self, _flow: &Flow) {}

    /// A connection stands: accepted, or dialled.
    fn opened(&self, _stream: &Arc<StreamFacts>) {}

    /// A message, whole.
    fn message(&self, stream: &Arc<StreamFacts>, message: Message);

    /// What should have been a message. What is sent on the flow during this call is its last; then it is closed.
    fn broken(&self, stream: &Arc<StreamFacts>, malformed: Malformed);

    /// A connection that stood is closed: nothing can be sent on it any more.
    fn closed(&self, stream: &Arc<StreamFacts>, why: Closed);

    /// A connection that was dialled does not stand: what was sent on `flow` is lost.
    fn dial_failed(&self, flow: &Flow, target: &Target, why: DialError);
}

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the accept to the first octet.
    pub first_octet: Duration,
    /// From a message's first octet to the end of its head.
    pub head: Duration,
    /// From a message's first octet to its last.
    pub message: Duration,
    /// Between messages, while nobody authenticated.
    pub idle: Duration,
    /// For the peer to take an octet of what we send.
    pub stalled: Duration,
    /// For the last octets before a close.
    pub farewell: Duration,
    /// For the handshakes of TLS and WebSocket as a server.
    pub handshake: Duration,
    /// For dialling, its TLS handshake included.
    pub dial: Duration,
    /// Silence after which a WebSocket is pinged, each time.
    pub ping: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            first_octet: seconds(30),
            head: seconds(10),
            message: seconds(60),
            idle: seconds(60),
            stalled: seconds(30),
            farewell: seconds(5),
            handshake: seconds(10),
            dial: seconds(5),
            ping: seconds(30),
        }
    }
}

/// Octets under way out at which no more are taken from the queue, and nothing more is read.
const OUTGOING_ENOUGH: usize = 16 * 1024;
/// Most octets of one read.
const READ_ROOM: usize = 16 * 1024;
/// Messages handled before other tasks of the worker get their turn.
const BATCH: usize = 32;

thread_local! {
    /// What the connections of a worker read into, one after the other: one that is idle holds no buffer.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_ROOM]);
}

/// One connection's own state.
pub(super) struct Stream<'a> {
    pub(super) pipe: &'a Pipe,
    pub(super) facts: &'a Arc<StreamFacts>,
    pub(super) receiver: &'a dyn Receiver,
    pub(super) patience: &'a Patience,
    pub(super) tally: &'a Tally,
}

impl Stream<'_> {
    /// Serves `io` until it ends; nothing of it is left then but the reason.
    pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut io: S) -> Closed {
        let mut outgoing = Outgoing::default();
        let mut incoming = Incoming::new(self.facts.flow.transport, Instant::now());
        let why = {
            let mut alarm = Alarm { sleep: pin!(sleep_until(Instant::now())), armed: None };
            poll_fn(|context| self.poll(&mut incoming, &mut outgoing, &mut io, &mut alarm, context))
                .await
        };
        // On the heap, so that no connection has room for it while it lives.
        Box::pin(self.part(why, &mut io, &incoming.framing, outgoing)).await;
        why
    }

    /// One turn of the connection: all that can be done now, as far as one turn goes.
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        io: &mut S,
        alarm: &mut Alarm<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Closed> {
        let mut left = BATCH;
        loop {
            if let Some(why) = self.pull(outgoing) {
                return self.leave(left, Poll::Ready(why));
            }
            if incoming.ready && !outgoing.is_full() {
                if left == 0 {
                    if let Some(why) = self.overdue(incoming, outgoing, alarm, context) {
                        return self.leave(left, Poll::Ready(why));
                    }
                    context.waker().wake_by_ref();
                    return self.leave(left, Poll::Pending);
                }
                let mut held = mem::take(&mut incoming.held);
                self.take(incoming, outgoing, &mut held, &mut left);
                incoming.hold(held);
                continue;
            }
            if outgoing.waits() {
                let wrote = outgoing.poll_write(io, context);
                self.pipe.set_blocked(wrote.is_pending());
                if let Poll::Ready(Err(_)) = wrote {
                    return self.leave(left, Poll::Ready(Closed::Peer));
                }
                if incoming.ready && !outgoing.is_full() {
                    continue;
                }
            }
            if incoming.open
                && !outgoing.is_full()
                && self.poll_read(incoming, outgoing, io, &mut left, context).is_ready()
            {
                continue;
            }
            if self.must_ping(incoming, alarm, context) {
                incoming.ping(Instant::now(), &mut outgoing.octets);
                continue;
            }
            if let Some(why) = self.overdue(incoming, outgoing, alarm, context) {
                return self.leave(left, Poll::Ready(why));
            }
            if self.pipe.rest(context.waker(), outgoing.is_full()) {
                return self.leave(left, Poll::Pending);
            }
        }
    }

    /// Takes what others queued; says whether, and why, it ends.
    fn pull(&self, outgoing: &mut Outgoing) -> Option<Closed> {
        let transport = self.facts.flow.transport;
        let put = |message: &Bytes, out: &mut _| framing::put(transport, message, out);
        self.pipe.pull_as(&mut outgoing.octets, OUTGOING_ENOUGH, put)
    }

    /// Ends a turn: what came of the messages handled in it is to go out.
    fn leave(&self, left: usize, with: Poll<Closed>) -> Poll<Closed> {
        if left < BATCH {
            self.receiver.turn_ends();
        }
        with
    }

    /// Reads once. Whole messages are taken straight from what was read; what is left over is held.
    fn poll_read(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        io: &mut (impl AsyncRead + Unpin),
        left: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        ROOM.with_borrow_mut(|room| {
            let mut room = ReadBuf::new(room);
            let read = ready!(Pin::new(io).poll_read(context, &mut room));
            let mut fresh = room.filled();
            if read.is_err() || fresh.is_empty() {
                incoming.stop();
                self.pipe.end(Closed::Peer);
                return Poll::Ready(());
            }
            (incoming.ready, incoming.now) = (true, Instant::now());
            if incoming.held.is_empty() {
                self.take(incoming, outgoing, &mut fresh, left);
            }
            incoming.held.extend_from_slice(fresh);
            Poll::Ready(())
        })
    }

    /// Whether the peer is to be asked if it is there; if not, it is woken when it is.
    fn must_ping(
        &self,
        incoming: &Incoming,
        alarm: &mut Alarm<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        loop {
            let at = incoming.ping_at(self.patience).filter(|_| incoming.open);
            let Some(at) = at.filter(|at| alarm.rings(*at, context)) else { return false };
            // If it goes off early, nothing is due.
            if at <= Instant::now() {
                return true;
            }
        }
    }

    /// Whether its patience with the peer has ended; if not, it is woken when it may.
    fn overdue(
        &self,
        incoming: &Incoming,
        outgoing: &Outgoing,
        alarm: &mut Alarm<'_>,
        context: &mut Context<'_>,
    ) -> Option<Closed> {
        loop {
            let stalled =
                outgoing.blocked.and_then(|since| since.checked_add(self.patience.stalled));
            let stalled = stalled.map(|at| (at, Closed::Stalled));
            let due = incoming.due(self.patience, self.pipe.is_authenticated());
            let silent = self.pipe.watch().and_then(|watch| incoming.silent_at(watch));
            let silent = silent.map(|at| (at, Closed::Silent));
            let (at, why) =
                [stalled, due, silent].into_iter().flatten().min_by_key(|(at, _)| *at)?;
            // If it goes off early, nothing is due.
            if !alarm.rings(at, context) {
                return None;
            }
            if at <= Instant::now() {
                return Some(why);
            }
        }
    }

    /// Handles what is whole in `octets`, which are all that was read and not yet handled, as far as the turn goes.
    fn take(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        octets: &mut impl Buf,
        left: &mut usize,
    ) {
        while incoming.ready && *left > 0 && !outgoing.is_full() {
            *left = left.saturating_sub(1);
            self.take_one(incoming, outgoing, octets);
            // The answers to what is handled here bound how much of it there is.
            if self.pull(outgoing).is_some() {
                return;
            }
        }
    }

    fn take_one(&self, incoming: &mut Incoming, outgoing: &mut Outgoing, octets: &mut impl Buf) {
        let bound = if self.pipe.is_authenticated() { MESSAGE_MAX_KNOWN } else { MESSAGE_MAX };
        match incoming.framing.next(octets, bound, &mut outgoing.octets) {
            Taken::More => incoming.settle(octets.chunk()),
            Taken::Ping => self.tally.pings.add(1),
            Taken::Pong => {}
            Taken::Message(message) => {
                self.tally.messages.add(1);
                incoming.begin_anew();
                self.receiver.message(self.facts, message);
            }
            Taken::Broken(malformed) => {
                incoming.stop();
                self.tally.broken.add(1);
                self.receiver.broken(self.facts, malformed);
                self.pipe.end(Closed::Broken);
            }
            Taken::Stranger => {
                self.tally.strangers.add(1);
                incoming.stop();
                self.pipe.end(Closed::Stranger);
            }
            Taken::Over(why) => {
                let broken = u64::from(why == Closed::Broken);
                self.tally.broken.add(broken);
                incoming.stop();
                self.pipe.end(why);
            }
        }
    }

    /// The last octets, then the close: with what is queued where the end is a peaceful one.
    async fn part(
        &self,
        why: Closed,
        writer: &mut (impl AsyncWrite + Unpin),
        framing: &Framing,
        mut outgoing: Outgoing,
    ) {
        match why {
            Closed::Slow | Closed::Idle | Closed::Silent => self.tally.slow.add(1),
            Closed::Stalled => self.tally.stalled.add(1),
            _ => {}
        }
        self.pipe.end(why);
        if matches!(why, Closed::Overflow | Closed::Stalled | Closed::Stranger) {
            return;
        }
        let farewell = async {
            loop {
                let done = self.pull(&mut outgoing).is_some();
                if done {
                    framing.put_farewell(why, &mut outgoing.octets);
                }
                writer.write_all_buf(&mut outgoing.octets).await?;
                if done {
                    return writer.shutdown().await;
                }
            }
        };
        // Whether the peer took them or not, it is over.
        let _ = timeout(self.patience.farewell, farewell).await;
    }
}

#[cfg(test)]
mod tests;

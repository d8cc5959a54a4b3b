//! Stage 1, streams: the life of one connection, from its first octet to its end.
//!
//! Takes:   anything that reads and writes octets, TCP or TLS, and the queue that others fill.
//! Gives:   each message, whole, to the [`Receiver`]; one CRLF for each ping; in the end, a reason.
//! Keeps:   what was read of the message under way, at most its bound and one read more; 16 KiB under way
//!          out, or one message if that is longer.
//! Refuses: by closing: what is no SIP (no answer), what breaks the framing (the receiver answers first), who shows
//!          no first octet in 30 s, no whole head within 10 s of its first octet, no whole message within 60 s,
//!          who is idle for 60 s without having authenticated, who takes no octet for 30 s.
//! Sources: RFC 3261 sections 7.5 and 18.3; RFC 5626 sections 4.4.1 and 5.4; `TR-04` to `TR-08`, `TR-10`, `TR-17`,
//!          `KA-01`, `V-09`, `V-10`, `V-75`, `V-77`.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::demux::{self, Opening};
use super::flows::Pipe;
use super::tally::Tally;
use super::{Flow, Side, Target};
use crate::authentication::Caller;
use crate::authentication::tls_identity::CertificateNames;
use crate::wire::message::{MESSAGE_MAX, MESSAGE_MAX_KNOWN};
use crate::wire::{Framed, Framer, Malformed, Message};

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
    /// The framing was lost.
    Broken,
    /// It was not SIP.
    Stranger,
    /// The key that it stood on has ended, or was taken back.
    KeyOver,
    /// Its certificate is not good any more: it was taken back, or its issuer is no longer trusted.
    CertificateOver,
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
    /// For a TLS handshake as a server.
    pub handshake: Duration,
    /// For dialling, its TLS handshake included.
    pub dial: Duration,
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
        let why = {
            let mut incoming = Incoming::new(Instant::now());
            let mut alarm = Alarm { sleep: pin!(sleep_until(Instant::now())), armed: None };
            poll_fn(|context| self.poll(&mut incoming, &mut outgoing, &mut io, &mut alarm, context))
                .await
        };
        // On the heap, so that no connection has room for it while it lives.
        Box::pin(self.part(why, &mut io, outgoing.octets)).await;
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
            if let Some(why) = self.pipe.pull(&mut outgoing.octets, OUTGOING_ENOUGH) {
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
            if let Some(why) = self.overdue(incoming, outgoing, alarm, context) {
                return self.leave(left, Poll::Ready(why));
            }
            if self.pipe.rest(context.waker(), outgoing.is_full()) {
                return self.leave(left, Poll::Pending);
            }
        }
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
            let (at, why) = [stalled, due].into_iter().flatten().min_by_key(|(at, _)| *at)?;
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
            if self.pipe.pull(&mut outgoing.octets, OUTGOING_ENOUGH).is_some() {
                return;
            }
        }
    }

    fn take_one(&self, incoming: &mut Incoming, outgoing: &mut Outgoing, octets: &mut impl Buf) {
        let between = !incoming.framer.awaits_body();
        if between && matches!(demux::opening(octets.chunk()), Opening::Close(_)) {
            self.tally.strangers.add(1);
            incoming.stop();
            return self.pipe.end(Closed::Stranger);
        }
        let bound = if self.pipe.is_authenticated() { MESSAGE_MAX_KNOWN } else { MESSAGE_MAX };
        match incoming.framer.next(octets, bound) {
            Framed::More => incoming.settle(octets.chunk()),
            Framed::Ping => {
                self.tally.pings.add(1);
                outgoing.octets.extend_from_slice(b"\r\n");
            }
            Framed::Message(message) => {
                self.tally.messages.add(1);
                incoming.begin_anew();
                self.receiver.message(self.facts, message);
            }
            Framed::Broken(malformed) => {
                self.tally.broken.add(1);
                incoming.stop();
                self.receiver.broken(self.facts, malformed);
                self.pipe.end(Closed::Broken);
            }
        }
    }

    /// The last octets, then the close: with what is queued where the end is a peaceful one.
    async fn part(
        &self,
        why: Closed,
        writer: &mut (impl AsyncWrite + Unpin),
        mut outgoing: BytesMut,
    ) {
        match why {
            Closed::Slow | Closed::Idle => self.tally.slow.add(1),
            Closed::Stalled => self.tally.stalled.add(1),
            _ => {}
        }
        self.pipe.end(why);
        if matches!(why, Closed::Overflow | Closed::Stalled | Closed::Stranger) {
            return;
        }
        let farewell = async {
            loop {
                let done = self.pipe.pull(&mut outgoing, OUTGOING_ENOUGH).is_some();
                writer.write_all_buf(&mut outgoing).await?;
                if done {
                    return writer.shutdown().await;
                }
            }
        };
        // Whether the peer took them or not, it is over.
        let _ = timeout(self.patience.farewell, farewell).await;
    }
}

/// What is under way out, and since when it is stuck.
#[derive(Default)]
struct Outgoing {
    octets: BytesMut,
    /// Whether octets were written that may still lie in a buffer below.
    unflushed: bool,
    /// Since when the peer takes nothing.
    blocked: Option<Instant>,
}

impl Outgoing {
    fn is_full(&self) -> bool {
        self.octets.len() >= OUTGOING_ENOUGH
    }

    fn waits(&self) -> bool {
        self.unflushed || !self.octets.is_empty()
    }

    /// Writes, then flushes.
    fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.octets.is_empty() {
            self.unflushed = true;
            match Pin::new(&mut *io).poll_write(context, &self.octets) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.octets.advance(written);
                    self.blocked = None;
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => return self.stuck(),
            }
        }
        // An idle connection holds no buffer.
        self.octets = BytesMut::new();
        let Poll::Ready(flushed) = Pin::new(io).poll_flush(context) else { return self.stuck() };
        (self.unflushed, self.blocked) = (false, None);
        Poll::Ready(flushed)
    }

    fn stuck<T>(&mut self) -> Poll<T> {
        self.blocked.get_or_insert_with(Instant::now);
        Poll::Pending
    }
}

/// A timer that may go off early, but never late: it is set anew only when it would be late.
struct Alarm<'a> {
    sleep: Pin<&'a mut Sleep>,
    armed: Option<Instant>,
}

impl Alarm<'_> {
    /// Whether it goes off now. It will at `at`, or before.
    fn rings(&mut self, at: Instant, context: &mut Context<'_>) -> bool {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.sleep.as_mut().reset(at);
        }
        let rings = self.sleep.as_mut().poll(context).is_ready();
        if rings {
            self.armed = None;
        }
        rings
    }
}

/// What was read, and since when.
struct Incoming {
    framer: Framer,
    /// What is not whole yet.
    held: BytesMut,
    /// Whether more is to be read.
    open: bool,
    /// Whether there may be something whole in what was read.
    ready: bool,
    /// Whether any octet came.
    touched: bool,
    accepted: Instant,
    /// When something was read last.
    now: Instant,
    /// When the message under way showed its first octet.
    begun: Option<Instant>,
    /// When the last message was whole.
    last: Instant,
}

impl Incoming {
    fn new(now: Instant) -> Self {
        Self {
            framer: Framer::new(),
            held: BytesMut::new(),
            open: true,
            ready: false,
            touched: false,
            accepted: now,
            now,
            begun: None,
            last: now,
        }
    }

    /// Puts back what was held and is not handled; nothing, if that is nothing.
    fn hold(&mut self, held: BytesMut) {
        if !held.is_empty() {
            self.held = held;
        }
    }

    /// Nothing more is read, nor looked at.
    fn stop(&mut self) {
        (self.open, self.ready) = (false, false);
    }

    /// Notes where the message under way stands, after all whole ones were taken.
    fn settle(&mut self, held: &[u8]) {
        (self.ready, self.touched) = (false, true);
        // Half of a ping is no message: it may stay.
        if b"\r\n\r\n".starts_with(held) {
            self.begun = None;
        } else {
            self.begun.get_or_insert(self.now);
        }
    }

    /// Notes that a message was whole.
    fn begin_anew(&mut self) {
        (self.touched, self.begun, self.last) = (true, None, self.now);
    }

    /// When its patience ends, and what for.
    fn due(&self, patience: &Patience, authenticated: bool) -> Option<(Instant, Closed)> {
        let after = |since: Instant, length| since.checked_add(length);
        let idle = after(self.last, patience.idle).filter(|_| !authenticated);
        let first = after(self.accepted, patience.first_octet);
        let first = first.filter(|_| !self.touched && !authenticated);
        let message = self.begun.and_then(|begun| {
            let headed = self.framer.awaits_body();
            after(begun, if headed { patience.message } else { patience.head })
        });
        let idle = idle.filter(|_| self.begun.is_none());
        [(idle, Closed::Idle), (first, Closed::Slow), (message, Closed::Slow)]
            .into_iter()
            .filter_map(|(at, why)| Some((at?, why)))
            .min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;

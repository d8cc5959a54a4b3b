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

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use super::demux::{self, Opening};
use super::flows::Pipe;
use super::tally::Tally;
use super::{Flow, Side, Target};
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
/// Least room for one read.
const READ_ROOM: usize = 2048;
/// Messages handled before other tasks of the worker get their turn.
const BATCH: usize = 32;

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
    pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, io: S) -> Closed {
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut incoming = Incoming::new(self.patience, Instant::now());
        let (mut outgoing, mut unflushed) = (BytesMut::new(), false);
        let mut blocked: Option<Instant> = None;
        let mut turn = 0_usize;
        // A timer that goes off early finds nothing due, so it is set anew only when it would be late.
        let mut armed: Option<Instant> = None;
        let timer = sleep_until(Instant::now());
        tokio::pin!(timer);
        let why = loop {
            if let Some(why) = self.pipe.pull(&mut outgoing, OUTGOING_ENOUGH) {
                break why;
            }
            if incoming.ready && outgoing.len() < OUTGOING_ENOUGH {
                self.take(&mut incoming, &mut outgoing);
                turn = turn.wrapping_add(1);
                let yields = turn.is_multiple_of(BATCH);
                if yields || !incoming.ready {
                    self.receiver.turn();
                }
                if yields {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let stalled = blocked.and_then(|since| since.checked_add(self.patience.stalled));
            let due = incoming.due(self.pipe.is_authenticated()).map(|(at, _)| at);
            if let Some(due) = [stalled, due].into_iter().flatten().min()
                && armed.is_none_or(|at| due < at)
            {
                armed = Some(due);
                timer.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                () = &mut timer, if armed.is_some() => {
                    let now = Instant::now();
                    armed = None;
                    if stalled.is_some_and(|at| at <= now) {
                        break Closed::Stalled;
                    }
                    let due = incoming.due(self.pipe.is_authenticated());
                    if let Some((_, why)) = due.filter(|(at, _)| *at <= now) {
                        break why;
                    }
                }
                wrote = self.write(&mut writer, &mut outgoing, &mut unflushed, &mut blocked),
                    if unflushed || !outgoing.is_empty() =>
                {
                    if wrote.is_err() {
                        break Closed::Peer;
                    }
                }
                () = self.pipe.woken.notified() => {}
                read = incoming.read(&mut reader), if incoming.open && outgoing.len() < OUTGOING_ENOUGH => {
                    incoming.ready = true;
                    if !matches!(read, Ok(1..)) {
                        incoming.stop();
                        self.pipe.end(Closed::Peer);
                    }
                }
            }
        };
        self.part(why, &mut writer, outgoing).await;
        why
    }

    /// Writes, then flushes; notes since when the peer takes nothing.
    async fn write(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        outgoing: &mut BytesMut,
        unflushed: &mut bool,
        blocked: &mut Option<Instant>,
    ) -> io::Result<()> {
        let moved = Cell::new(false);
        let mut writing = pin!(async {
            while !outgoing.is_empty() {
                *unflushed = true;
                if writer.write_buf(outgoing).await? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                moved.set(true);
            }
            writer.flush().await
        });
        let written = poll_fn(|context| {
            let polled = writing.as_mut().poll(context);
            if moved.take() || polled.is_ready() {
                *blocked = None;
            }
            if polled.is_pending() {
                blocked.get_or_insert_with(Instant::now);
            }
            self.pipe.set_blocked(polled.is_pending());
            polled
        })
        .await;
        *unflushed = false;
        written
    }

    /// Handles the next item of what has arrived.
    fn take(&self, incoming: &mut Incoming, outgoing: &mut BytesMut) {
        let between = !incoming.framer.awaits_body();
        if between && matches!(demux::opening(&incoming.held), Opening::Close(_)) {
            self.tally.strangers.add(1);
            incoming.stop();
            return self.pipe.end(Closed::Stranger);
        }
        let bound = if self.pipe.is_authenticated() { MESSAGE_MAX_KNOWN } else { MESSAGE_MAX };
        match incoming.framer.next(&mut incoming.held, bound) {
            Framed::More => incoming.settle(Instant::now()),
            Framed::Ping => {
                self.tally.pings.add(1);
                outgoing.extend_from_slice(b"\r\n");
            }
            Framed::Message(message) => {
                self.tally.messages.add(1);
                incoming.begin_anew(Instant::now());
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

/// What was read, and since when.
struct Incoming {
    framer: Framer,
    held: BytesMut,
    patience: Patience,
    /// Whether more is to be read.
    open: bool,
    /// Whether there may be something whole in what is held.
    ready: bool,
    accepted: Instant,
    /// Whether any octet came.
    touched: bool,
    /// When the message under way showed its first octet.
    begun: Option<Instant>,
    /// When the last message was whole.
    last: Instant,
}

impl Incoming {
    fn new(patience: &Patience, now: Instant) -> Self {
        Self {
            framer: Framer::new(),
            held: BytesMut::new(),
            patience: *patience,
            open: true,
            ready: false,
            accepted: now,
            touched: false,
            begun: None,
            last: now,
        }
    }

    async fn read(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.held.reserve(READ_ROOM);
        reader.read_buf(&mut self.held).await
    }

    /// Nothing more is read, nor looked at.
    fn stop(&mut self) {
        (self.open, self.ready) = (false, false);
    }

    /// Notes where the message under way stands, after all whole ones were taken.
    fn settle(&mut self, now: Instant) {
        (self.ready, self.touched) = (false, true);
        // Half of a ping is no message: it may stay.
        if b"\r\n\r\n".starts_with(&self.held) {
            self.begun = None;
        } else {
            self.begun.get_or_insert(now);
        }
    }

    /// Notes that a message was whole.
    fn begin_anew(&mut self, now: Instant) {
        (self.touched, self.begun, self.last) = (true, None, now);
    }

    /// When its patience ends, and what for.
    fn due(&self, authenticated: bool) -> Option<(Instant, Closed)> {
        let after = |since: Instant, length| since.checked_add(length);
        let idle = after(self.last, self.patience.idle).filter(|_| !authenticated);
        let first = after(self.accepted, self.patience.first_octet);
        let first = first.filter(|_| !self.touched && !authenticated);
        let message = self.begun.and_then(|begun| {
            let headed = self.framer.awaits_body();
            after(begun, if headed { self.patience.message } else { self.patience.head })
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

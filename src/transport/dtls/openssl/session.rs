//! Stage 1, DTLS by OpenSSL, one session: the library while it shakes hands, a [`Channel`] from then on.
//!
//! 1. The cookie was checked by us, so the library is shown the hello twice: without the cookie, then as it came. What
//!    it answers to the first is dropped.
//! 2. A key exchange with a shared key waits outside until the key is there: the library asks for it in a call.
//! 3. Flights are repeated by our clock, each record with a number of its own, until the client goes on.
//! 4. What comes encrypted and is no part of the handshake waits for its end.
//! 5. Then the library has done its work: its secrets make a [`Channel`], and it is let go, with the 22 KiB of its
//!    handshake and the 17 KiB each way of its records, which over datagrams it would hold as long as it lived.
//!
//! Takes:   a context with one suite or more, a hello, datagrams.
//! Gives:   what [`DtlsEngine`] gives.
//! Keeps:   while it shakes hands, the library's object, the last flight, [`HELD_MAX`] datagrams and as many records.
//! Refuses: records too short for their cipher, since the library ends a handshake for one; suites that a [`Channel`]
//!          does not have.
//! Sources: RFC 6347 sections 4.2.1 and 4.2.4; RFC 6066 section 4; `DT-06` to `DT-09`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslRef, SslStream};
use zeroize::Zeroizing;

use super::Slot;
use crate::instant::Instant;
use crate::transport::dtls::channel::Channel;
use crate::transport::dtls::engine::{DtlsEngine, Ended, Event, MESSAGE_MAX, MTU, Proof, Unsent};
use crate::transport::dtls::exchange::Exchange;
use crate::transport::dtls::filter;
use crate::transport::dtls::hello::Hello;
use crate::transport::dtls::keys::{Aead, Secrets};
use crate::transport::dtls::record::{Content, RECORD_HEAD, records};

/// Most datagrams that wait for a key, and most records that wait for the end of the handshake.
pub const HELD_MAX: usize = 16;
/// When a flight is first repeated; after that, each time after twice as long.
pub const REPEAT: Duration = Duration::from_millis(500);

/// Octets of the shortest record: GCM adds half a nonce and a tag, and a Finished is long enough for any.
const SHORTEST: usize = 8 + 16;
/// Octets of a master secret.
///
/// Source: RFC 5246 section 8.1.
const MASTER: usize = 48;

/// One session.
pub(super) struct Engine {
    state: State,
    out: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

enum State {
    ShakesHands(Box<Handshake>),
    Stands(Box<Channel>),
    Over,
}

/// A session before it stands.
struct Handshake {
    stream: SslStream<Wire>,
    slot: Arc<Slot>,
    suite: Option<u16>,
    exchange: Exchange,
    /// Whether the key is being looked up; `held` are the datagrams that wait for it.
    waits: bool,
    held: Vec<Vec<u8>>,
    /// Encrypted records that came.
    early: Vec<Vec<u8>>,
    /// The last flight, as it was sent.
    flight: Vec<Vec<u8>>,
    repeat: Option<(Instant, Duration)>,
    /// The number of the next record in the clear.
    number: u64,
    /// Longest message that the client takes.
    longest: usize,
}

/// Where a handshake is after a step.
enum Step {
    GoesOn,
    Stands(Proof, Box<Channel>),
    Failed,
}

/// Datagrams on their way in and out.
#[derive(Default)]
struct Wire {
    inbox: VecDeque<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let datagram = self.inbox.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let length = datagram.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..length), datagram.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.outbox.push(octets.to_vec());
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Engine {
    pub(super) fn new(
        context: &SslContext,
        index: Index<Ssl, Arc<Slot>>,
        suite: Option<u16>,
        hello: &Hello<'_>,
    ) -> Result<Self, ErrorStack> {
        let slot = Arc::new(Slot { cookie: hello.cookie.to_vec(), ..Slot::default() });
        let mut ssl = Ssl::new(context)?;
        ssl.set_ex_data(index, Arc::clone(&slot));
        ssl.set_accept_state();
        ssl.set_mtu(u32::try_from(MTU).unwrap_or(1200))?;
        let mut handshake = Handshake {
            stream: SslStream::new(ssl, Wire::default())?,
            slot,
            suite,
            exchange: Exchange::default(),
            waits: false,
            held: Vec::new(),
            early: Vec::new(),
            flight: Vec::new(),
            repeat: None,
            number: hello.record,
            longest: hello.fragment_max().unwrap_or(MESSAGE_MAX),
        };
        let wire = handshake.stream.get_mut();
        wire.inbox.push_back(hello.without_cookie(hello.record.saturating_sub(1)));
        // It wants to see the cookie, which comes next; its request for it was sent by us.
        let _ = handshake.stream.accept();
        handshake.stream.get_mut().outbox.clear();
        let state = State::ShakesHands(Box::new(handshake));
        Ok(Self { state, out: VecDeque::new(), events: VecDeque::new() })
    }

    fn end(&mut self, why: Ended) {
        if !matches!(self.state, State::Over) {
            self.state = State::Over;
            self.events.push_back(Event::Closed(why));
        }
    }

    /// Goes on after a step of the handshake. What came early is heard now.
    fn after(&mut self, step: Step) {
        match step {
            Step::GoesOn => {}
            Step::Failed => self.end(Ended::Failed),
            Step::Stands(proof, channel) => {
                self.events.push_back(Event::Established(proof));
                let before = std::mem::replace(&mut self.state, State::Stands(channel));
                if let State::ShakesHands(handshake) = before {
                    handshake.early.iter().for_each(|record| self.hear(record));
                }
            }
        }
    }

    /// Takes the records of a datagram.
    fn hear(&mut self, datagram: &[u8]) {
        for record in records(datagram) {
            let State::Stands(channel) = &mut self.state else { return };
            match channel.take(&record, &mut self.out) {
                Some(Event::Closed(why)) => self.end(why),
                event => self.events.extend(event),
            }
        }
    }
}

impl DtlsEngine for Engine {
    fn input(&mut self, datagram: &[u8], now: Instant) {
        match &mut self.state {
            State::ShakesHands(handshake) => {
                let step = handshake.input(datagram, now, &mut self.out, &mut self.events);
                self.after(step);
            }
            State::Stands(_) => self.hear(datagram),
            State::Over => {}
        }
    }

    fn turn(&mut self, now: Instant) {
        if let State::ShakesHands(handshake) = &mut self.state {
            handshake.turn(now, &mut self.out);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::ShakesHands(handshake) => handshake.repeat.map(|(at, _)| at),
            State::Stands(_) | State::Over => None,
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn repeat(&mut self, _now: Instant) {
        // What is repeated in the clear has a Finished behind it, which is known for the peer's own.
    }

    fn key(&mut self, key: &[u8], now: Instant) {
        let State::ShakesHands(handshake) = &mut self.state else { return };
        let step = handshake.key(key, now, &mut self.out);
        self.after(step);
    }

    fn send(&mut self, message: &[u8], _now: Instant) -> Result<(), Unsent> {
        let State::Stands(channel) = &mut self.state else { return Err(Unsent::Gone) };
        let sent = channel.send(message, &mut self.out);
        if sent == Err(Unsent::Gone) {
            channel.close(&mut self.out);
            self.end(Ended::Worn);
        }
        sent
    }

    fn close(&mut self, _now: Instant) -> bool {
        if let State::Stands(channel) = &mut self.state {
            channel.close(&mut self.out);
        }
        self.state = State::Over;
        true
    }
}

impl Handshake {
    fn input(
        &mut self,
        datagram: &[u8],
        now: Instant,
        out: &mut VecDeque<Bytes>,
        events: &mut VecDeque<Event>,
    ) -> Step {
        let Some(datagram) = filter::at_least(datagram, SHORTEST) else { return Step::GoesOn };
        if !self.waits {
            events.extend(self.look_for_identity(&datagram));
        }
        if !self.waits {
            return self.feed(&datagram, now, out);
        }
        if self.held.len() < HELD_MAX {
            self.held.push(datagram.into_owned());
        }
        Step::GoesOn
    }

    /// Asks for the key, if a datagram completes the key exchange that names it.
    fn look_for_identity(&mut self, datagram: &[u8]) -> Option<Event> {
        let suite = self.suite.filter(|_| self.slot.lock().key.is_none())?;
        let identity = self.exchange.take(datagram)?;
        self.slot.lock().key = Some((identity.clone(), Zeroizing::new(Vec::new())));
        self.waits = true;
        Some(Event::WantsKey { identity: identity.into(), suite })
    }

    fn key(&mut self, key: &[u8], now: Instant, out: &mut VecDeque<Bytes>) -> Step {
        if !std::mem::take(&mut self.waits) {
            return Step::GoesOn;
        }
        if let Some((_, place)) = &mut self.slot.lock().key {
            *place = Zeroizing::new(key.to_vec());
        }
        let mut held = std::mem::take(&mut self.held).into_iter();
        while let Some(datagram) = held.next() {
            let step = self.feed(&datagram, now, out);
            if !matches!(step, Step::GoesOn) {
                // A client that repeats its flight waits for ours: what is left of it is encrypted, or was heard.
                let left = held.flat_map(|datagram| encrypted(&datagram));
                let room = HELD_MAX.saturating_sub(self.early.len());
                self.early.extend(left.take(room));
                return step;
            }
        }
        Step::GoesOn
    }

    /// Hands a datagram to the library, and sees what comes of it.
    fn feed(&mut self, datagram: &[u8], now: Instant, out: &mut VecDeque<Bytes>) -> Step {
        let room = HELD_MAX.saturating_sub(self.early.len());
        self.early.extend(encrypted(datagram).into_iter().take(room));
        let Some(datagram) = filter::of_handshake(datagram) else { return Step::GoesOn };
        self.stream.get_mut().inbox.push_back(datagram.into_owned());
        let accepted = self.stream.accept();
        let sent = std::mem::take(&mut self.stream.get_mut().outbox);
        sent.iter().for_each(|datagram| self.put(datagram.clone(), out));
        match accepted {
            Ok(()) => self.stand(&sent).unwrap_or(Step::Failed),
            Err(why) if why.code() == ErrorCode::WANT_READ => {
                if !sent.is_empty() {
                    (self.flight, self.repeat) = (sent, Some((now + REPEAT, REPEAT)));
                }
                Step::GoesOn
            }
            Err(_) => Step::Failed,
        }
    }

    /// What the handshake proved, and the session that came of it; `sent` is our last flight.
    fn stand(&mut self, sent: &[Vec<u8>]) -> Option<Step> {
        let proof = self.proof()?;
        let mut channel = channel(self.stream.ssl(), sent, self.number, self.longest)?;
        // The library has heard the Finished: it does not ask for ours again.
        let early = std::mem::take(&mut self.early);
        for record in early.iter().flat_map(|octets| records(octets)) {
            if record.content == Some(Content::Handshake) {
                channel.note(&record);
            }
        }
        self.early = early;
        Some(Step::Stands(proof, Box::new(channel)))
    }

    fn proof(&self) -> Option<Proof> {
        let mut found = self.slot.lock();
        let identity = found.key.take().map(|(identity, _)| identity);
        match (self.suite, identity, found.shown.take()) {
            (Some(_), Some(identity), _) if found.key_used => Some(Proof::Psk(identity.into())),
            (None, _, Some(shown)) => Some(Proof::Certificate(Box::new(shown))),
            (None, _, None) if self.stream.ssl().peer_certificate().is_none() => {
                Some(Proof::Nothing)
            }
            _ => None,
        }
    }

    /// Repeats the flight when it is due.
    fn turn(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        let Some((_, after)) = self.repeat.filter(|(at, _)| *at <= now) else { return };
        let after = after.saturating_mul(2);
        self.repeat = Some((now + after, after));
        // While a key is looked up, the client waits for us.
        if !self.waits {
            let flight = std::mem::take(&mut self.flight);
            flight.iter().for_each(|datagram| self.put(datagram.clone(), out));
            self.flight = flight;
        }
    }

    /// Sends a datagram. Records in the clear get numbers that go on from the hello's, so that no two are the same.
    fn put(&mut self, mut datagram: Vec<u8>, out: &mut VecDeque<Bytes>) {
        let mut at = 0;
        while let Some(head) =
            datagram.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<RECORD_HEAD>)
        {
            let [_, _, _, e1, e0, number @ .., l1, l0] = head;
            if (*e1, *e0) == (0, 0) {
                let [_, _, fresh @ ..] = self.number.to_be_bytes();
                *number = fresh;
                self.number = self.number.wrapping_add(1);
            }
            let length = usize::from(u16::from_be_bytes([*l1, *l0]));
            at = at.saturating_add(RECORD_HEAD).saturating_add(length);
        }
        out.push_back(datagram.into());
    }
}

/// The encrypted records of a datagram.
fn encrypted(datagram: &[u8]) -> Vec<Vec<u8>> {
    let all = records(datagram).filter(|record| record.epoch == 1);
    all.map(|record| record.octets.to_vec()).collect()
}

/// The channel of a session whose handshake is over.
fn channel(ssl: &SslRef, sent: &[Vec<u8>], clear: u64, longest: usize) -> Option<Channel> {
    let aead = Aead::of(u16::from_be_bytes(ssl.current_cipher()?.protocol_id()))?;
    let mut master = Zeroizing::new([0; MASTER]);
    let (mut client_random, mut server_random) = ([0; 32], [0; 32]);
    let whole = ssl.session()?.master_key(&mut *master) == MASTER
        && ssl.client_random(&mut client_random) == 32
        && ssl.server_random(&mut server_random) == 32;
    let secrets =
        Secrets { master: &*master, client_random: &client_random, server_random: &server_random };
    whole.then(|| Channel::new(aead, &secrets, sent, clear, longest)).flatten()
}

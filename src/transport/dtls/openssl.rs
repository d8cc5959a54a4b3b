//! Stage 1, DTLS by OpenSSL: the default engine.
//!
//! 1. The cookie was checked by us, so the library is shown the hello twice: without the cookie, then as it came. What
//!    it answers to the first is dropped.
//! 2. A key exchange with a shared key waits outside until the key is there: the library asks for it in a call.
//! 3. Flights are repeated by our clock, each record with a number of its own, until the client goes on.
//!
//! Takes:   certificates and suites, chosen by the hello; datagrams.
//! Gives:   what [`DtlsEngine`] gives. A certificate is judged by the verifier that TLS has.
//! Keeps:   one library object a session; while it shakes hands, its last flight, and [`HELD_MAX`] datagrams.
//! Refuses: records too short for their cipher, since the library ends a session for one; versions below 1.2, suites without AEAD or forward secrecy where there are certificates, renegotiation,
//!          compression, tickets; the filter bounds what a client may send in a handshake.
//! Sources: RFC 6347 sections 4.2.1, 4.2.4; RFC 4279; RFC 5489; TS 33.222 clause 5.4; `DT-06` to `DT-09`, `TR-02`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use ::openssl::bn::BigNum;
use ::openssl::dh::Dh;
use ::openssl::error::ErrorStack;
use ::openssl::ex_data::Index;
use ::openssl::pkey::PKey;
use ::openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use ::openssl::x509::{X509, X509StoreContext, X509StoreContextRef};
use bytes::Bytes;
use rustls::server::danger::ClientCertVerifier as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

use super::buffers;
use super::engine::{DtlsEngine, Ended, Engines, Event, MESSAGE_MAX, MTU, Proof, Unsent};
use super::exchange::Exchange;
use super::filter;
use super::hello::Hello;
use super::record::RECORD_HEAD;
use crate::authentication::tls_identity::CertificateNames;
use crate::instant::Instant;
use crate::transport::peer::{ClientCertificate, PeerVerifier};
use crate::transport::psk_tls;
use crate::transport::tls::{Certificate, ServerSpec, TlsProblem};

/// Most datagrams that wait for a key.
pub const HELD_MAX: usize = 16;
/// When a flight is first repeated; after that, each time after twice as long.
pub const REPEAT: Duration = Duration::from_millis(500);

/// Octets that GCM adds to a message: half a nonce, and a tag. ChaCha20-Poly1305 adds a tag.
const GCM_ADDS: usize = 8 + 16;
const CHACHA_ADDS: usize = 16;

/// Suites with a shared key, the preferred one first, and what the library calls them.
///
/// Source: TS 33.222 clause 5.4; RFC 7905, RFC 5487.
const PSK_SUITES: [(u16, &str); 3] = [
    (0xCCAC, "ECDHE-PSK-CHACHA20-POLY1305"),
    (0x00AA, "DHE-PSK-AES128-GCM-SHA256"),
    (0x00A8, "PSK-AES128-GCM-SHA256"),
];
const SUITES: &str = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
                      ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
                      ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
const SIGNATURES: &str = "ECDSA+SHA256:ed25519:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:\
                          RSA-PSS+SHA384:RSA+SHA384:ECDSA+SHA512:RSA-PSS+SHA512:RSA+SHA512";

/// A context, and the names of its certificate.
type Named = (Vec<Arc<str>>, SslContext);

/// Makes engines.
pub struct Openssl {
    certificates: Vec<Named>,
    shared_keys: Vec<(u16, SslContext)>,
    slot: Index<Ssl, Arc<Slot>>,
}

impl Openssl {
    /// Sets it up: with certificates, with shared keys, or with both.
    ///
    /// # Errors
    ///
    /// A key of another certificate; what the library lacks.
    pub fn new(certificates: Option<&ServerSpec>, shared_keys: bool) -> Result<Self, TlsProblem> {
        let slot = Ssl::new_ex_index().map_err(TlsProblem::new)?;
        let made = certificates.map(|spec| of_certificates(spec, slot)).transpose()?;
        let suites = PSK_SUITES.iter().filter(|_| shared_keys);
        let suites = suites.map(|(suite, name)| Ok((*suite, of_suite(name, slot)?)));
        Ok(Self {
            certificates: made.unwrap_or_default(),
            shared_keys: suites.collect::<Result<_, ErrorStack>>().map_err(TlsProblem::new)?,
            slot,
        })
    }

    /// Who answers: a shared key where one is offered, else the certificate of the name that is asked for.
    fn choose(&self, hello: &Hello<'_>) -> Option<(Option<u16>, &SslContext)> {
        let offered = |suite: u16| hello.suites().any(|it| it == suite);
        if let Some((suite, context)) = self.shared_keys.iter().find(|(suite, _)| offered(*suite)) {
            return Some((Some(*suite), context));
        }
        let asked = hello.server_name().unwrap_or_default();
        let fits = |(names, _): &&Named| names.iter().any(|name| name.eq_ignore_ascii_case(asked));
        let found = self.certificates.iter().find(fits).or(self.certificates.first());
        found.map(|(_, context)| (None, context))
    }
}

impl Engines for Openssl {
    fn begin(&self, hello: &Hello<'_>, _waker: Waker) -> Option<Box<dyn DtlsEngine>> {
        let (suite, context) = self.choose(hello)?;
        Engine::new(context, self.slot, suite, hello).ok().map(|engine| Box::new(engine) as _)
    }

    fn make_cookies(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for Openssl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Openssl(..)")
    }
}

/// What the library's calls into ours find.
#[derive(Default)]
struct Slot {
    cookie: Vec<u8>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// The identity that a key was looked up for, and the key.
    key: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// Whether the library was given that key.
    key_used: bool,
    /// The names in the client's certificate, once it was found good.
    names: Option<CertificateNames>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A context with what every session has.
fn context(slot: Index<Ssl, Arc<Slot>>) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::dtls_server())?;
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_security_level(2);
    context.set_options(
        SslOptions::COOKIE_EXCHANGE
            | SslOptions::NO_QUERY_MTU
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_TICKET
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    context.set_mode(SslMode::RELEASE_BUFFERS);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_groups_list("X25519:P-256:P-384")?;
    context.set_cookie_generate_cb(move |ssl, room| {
        let Some(slot) = ssl.ex_data(slot) else { return Err(ErrorStack::get()) };
        let room = room.get_mut(..slot.cookie.len()).ok_or_else(ErrorStack::get)?;
        room.copy_from_slice(&slot.cookie);
        Ok(slot.cookie.len())
    });
    context.set_cookie_verify_cb(move |ssl, cookie| {
        ssl.ex_data(slot).is_some_and(|slot| slot.cookie == cookie)
    });
    Ok(context)
}

fn of_certificates(
    spec: &ServerSpec,
    slot: Index<Ssl, Arc<Slot>>,
) -> Result<Vec<Named>, TlsProblem> {
    if spec.asks != ClientCertificate::None && spec.trust.is_empty() {
        return Err(TlsProblem::new("client certificates are asked for, but nobody is trusted"));
    }
    let made = spec.certificates.iter().map(|certificate| {
        let names = certificate.names()?.domains;
        let context = of_certificate(certificate, spec, slot);
        let context = context.map_err(|why| TlsProblem::new(format!("certificate and key: {why}")));
        Ok((names, context?))
    });
    made.collect()
}

fn of_certificate(
    certificate: &Certificate,
    spec: &ServerSpec,
    slot: Index<Ssl, Arc<Slot>>,
) -> Result<SslContext, ErrorStack> {
    let mut context = context(slot)?;
    context.set_cipher_list(SUITES)?;
    context.set_sigalgs_list(SIGNATURES)?;
    let mut chain = certificate.chain().iter();
    if let Some(own) = chain.next() {
        context.set_certificate(X509::from_der(own)?.as_ref())?;
    }
    for issuer in chain {
        context.add_extra_chain_cert(X509::from_der(issuer)?)?;
    }
    context
        .set_private_key(PKey::private_key_from_der(certificate.key().secret_der())?.as_ref())?;
    context.check_private_key()?;
    let mode = match spec.asks {
        ClientCertificate::None => SslVerifyMode::NONE,
        ClientCertificate::Optional => SslVerifyMode::PEER,
        ClientCertificate::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    };
    let verifier = PeerVerifier::new(spec.trust.clone(), spec.asks);
    context.set_verify_callback(mode, move |_, store| judge(store, &verifier, slot));
    Ok(context.build())
}

/// Judges a client's chain by our own verifier; what the library thinks of it does not count.
fn judge(
    store: &mut X509StoreContextRef,
    verifier: &PeerVerifier,
    slot: Index<Ssl, Arc<Slot>>,
) -> bool {
    // The client's own certificate is judged with all that it sent above it.
    if store.error_depth() != 0 {
        return true;
    }
    let chain: Vec<CertificateDer<'static>> = store
        .chain()
        .into_iter()
        .flatten()
        .filter_map(|certificate| certificate.to_der().ok().map(CertificateDer::from))
        .collect();
    let names = chain.split_first().and_then(|(own, issuers)| {
        verifier.verify_client_cert(own, issuers, UnixTime::now()).ok()?;
        CertificateNames::of(own).ok()
    });
    let ssl = X509StoreContext::ssl_idx().ok().and_then(|index| store.ex_data(index));
    match (names, ssl.and_then(|ssl| ssl.ex_data(slot))) {
        (Some(names), Some(slot)) => {
            slot.lock().names = Some(names);
            true
        }
        _ => false,
    }
}

fn of_suite(name: &str, slot: Index<Ssl, Arc<Slot>>) -> Result<SslContext, ErrorStack> {
    let mut context = context(slot)?;
    context.set_cipher_list(name)?;
    context.set_psk_server_callback(move |ssl, identity, room| {
        let slot = ssl.ex_data(slot).map(Arc::clone);
        // No key: the library refuses. It is only asked when there is one.
        Ok(slot.and_then(|slot| slot.give(identity?, room)).unwrap_or(0))
    });
    // The group that the library would choose by itself may be a small one.
    let group = Dh::from_pqg(BigNum::get_rfc3526_prime_2048()?, None, BigNum::from_u32(2)?)?;
    context.set_tmp_dh(&group)?;
    psk_tls::hint(&mut context)?;
    Ok(context.build())
}

impl Slot {
    fn give(&self, identity: &[u8], room: &mut [u8]) -> Option<usize> {
        let mut found = self.lock();
        let (_, key) = found.key.as_ref().filter(|(of, _)| of == identity)?;
        room.get_mut(..key.len())?.copy_from_slice(key);
        let length = key.len();
        found.key_used = true;
        Some(length)
    }
}

thread_local! {
    /// What the sessions of a worker read into, one after the other.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGE_MAX]);
}

/// One session.
struct Engine {
    stream: SslStream<Wire>,
    slot: Arc<Slot>,
    suite: Option<u16>,
    state: State,
    exchange: Exchange,
    /// Datagrams that wait for the key.
    held: VecDeque<Vec<u8>>,
    /// The last flight, as it was sent.
    flight: Vec<Vec<u8>>,
    repeat: Option<(Instant, Duration)>,
    /// The number of the next record in the clear.
    number: u64,
    /// Octets of the shortest record: for a shorter one, the library would end the session.
    shortest: usize,
    out: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    ShakesHands,
    WaitsForKey,
    Stands,
    Over,
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
    fn new(
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
        let mut engine = Self {
            stream: SslStream::new(ssl, Wire::default())?,
            slot,
            suite,
            state: State::ShakesHands,
            exchange: Exchange::default(),
            held: VecDeque::new(),
            flight: Vec::new(),
            repeat: None,
            number: hello.record,
            shortest: GCM_ADDS,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        engine
            .stream
            .get_mut()
            .inbox
            .push_back(hello.without_cookie(hello.record.saturating_sub(1)));
        // It wants to see the cookie, which comes next; its request for it was sent by us.
        let _ = engine.stream.accept();
        engine.stream.get_mut().outbox.clear();
        Ok(engine)
    }

    /// Hands a datagram to the library, and sees what comes of it.
    fn feed(&mut self, datagram: Vec<u8>, now: Instant) {
        self.stream.get_mut().inbox.push_back(datagram);
        if !buffers::lend(&mut self.stream) {
            return self.end(Ended::Failed);
        }
        if self.state == State::ShakesHands {
            match self.stream.accept() {
                Ok(()) => self.established(),
                Err(why) if why.code() == ErrorCode::WANT_READ => {}
                Err(_) => self.end(Ended::Failed),
            }
            self.collect_flight(now);
        }
        if self.state == State::Stands {
            self.read();
            self.collect();
            buffers::take_back(&mut self.stream);
        }
    }

    fn established(&mut self) {
        (self.state, self.repeat, self.held) = (State::Stands, None, VecDeque::new());
        self.exchange = Exchange::default();
        let cipher = self.stream.ssl().current_cipher().map(|cipher| cipher.name());
        if cipher.is_some_and(|name| name.contains("CHACHA20")) {
            self.shortest = CHACHA_ADDS;
        }
        let mut found = self.slot.lock();
        let identity = found.key.take().map(|(identity, _)| identity);
        let proof = match (self.suite, identity, found.names.take()) {
            (Some(_), Some(identity), _) if found.key_used => Some(Proof::Psk(identity.into())),
            (None, _, Some(names)) => Some(Proof::Certificate(Box::new(names))),
            (None, _, None) if self.stream.ssl().peer_certificate().is_none() => {
                Some(Proof::Nothing)
            }
            _ => None,
        };
        drop(found);
        match proof {
            Some(proof) => self.events.push_back(Event::Established(proof)),
            None => self.end(Ended::Failed),
        }
    }

    fn read(&mut self) {
        ROOM.with_borrow_mut(|room| {
            loop {
                match self.stream.ssl_read(room) {
                    Ok(length) => {
                        let octets = room.get(..length).unwrap_or_default();
                        self.events.push_back(Event::Data(Bytes::copy_from_slice(octets)));
                    }
                    Err(why) => {
                        return match why.code() {
                            ErrorCode::WANT_READ => {}
                            ErrorCode::ZERO_RETURN => self.end(Ended::Peer),
                            _ => self.end(Ended::Failed),
                        };
                    }
                }
            }
        });
    }

    fn end(&mut self, why: Ended) {
        if self.state != State::Over {
            (self.state, self.repeat) = (State::Over, None);
            self.events.push_back(Event::Closed(why));
        }
    }

    /// Takes what the library sends as a flight of the handshake: to be repeated, if nothing comes.
    fn collect_flight(&mut self, now: Instant) {
        let sent = std::mem::take(&mut self.stream.get_mut().outbox);
        if sent.is_empty() {
            return;
        }
        sent.iter().for_each(|datagram| self.put(datagram.clone()));
        if self.state == State::ShakesHands {
            (self.flight, self.repeat) = (sent, Some((now + REPEAT, REPEAT)));
        } else {
            self.flight = Vec::new();
        }
    }

    fn collect(&mut self) {
        let sent = std::mem::take(&mut self.stream.get_mut().outbox);
        sent.into_iter().for_each(|datagram| self.put(datagram));
    }

    /// Sends a datagram. Records in the clear get numbers that go on from the hello's, so that no two are the same.
    fn put(&mut self, mut datagram: Vec<u8>) {
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
        self.out.push_back(datagram.into());
    }

    /// Asks for the key, if a datagram completes the key exchange that names it.
    fn look_for_identity(&mut self, datagram: &[u8]) {
        let Some(suite) = self.suite.filter(|_| self.slot.lock().key.is_none()) else { return };
        let Some(identity) = self.exchange.take(datagram) else { return };
        self.slot.lock().key = Some((identity.clone(), Zeroizing::new(Vec::new())));
        self.events.push_back(Event::WantsKey { identity: identity.into(), suite });
        self.state = State::WaitsForKey;
    }
}

impl DtlsEngine for Engine {
    fn input(&mut self, datagram: &[u8], now: Instant) {
        let Some(datagram) = filter::at_least(datagram, self.shortest) else { return };
        let datagram = &*datagram;
        if self.state == State::ShakesHands {
            self.look_for_identity(datagram);
        }
        match self.state {
            State::Over => {}
            State::ShakesHands | State::Stands => self.feed(datagram.to_vec(), now),
            State::WaitsForKey => {
                if self.held.len() < HELD_MAX {
                    self.held.push_back(datagram.to_vec());
                }
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        let Some((_, after)) = self.repeat.filter(|(at, _)| *at <= now) else { return };
        let after = after.saturating_mul(2);
        self.repeat = Some((now + after, after));
        // While a key is looked up, the client waits for us.
        if self.state == State::ShakesHands {
            let flight = std::mem::take(&mut self.flight);
            flight.iter().for_each(|datagram| self.put(datagram.clone()));
            self.flight = flight;
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.repeat.map(|(at, _)| at)
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn repeat(&mut self, _now: Instant) {
        // The library knows a repeated Finished for what it is.
    }

    fn key(&mut self, key: &[u8], now: Instant) {
        if self.state != State::WaitsForKey {
            return;
        }
        self.state = State::ShakesHands;
        if let Some((_, place)) = &mut self.slot.lock().key {
            *place = Zeroizing::new(key.to_vec());
        }
        for datagram in std::mem::take(&mut self.held) {
            if self.state != State::Over {
                self.feed(datagram, now);
            }
        }
    }

    fn send(&mut self, message: &[u8], _now: Instant) -> Result<(), Unsent> {
        if self.state != State::Stands {
            return Err(Unsent::Gone);
        }
        if message.len() > MESSAGE_MAX {
            return Err(Unsent::TooLong);
        }
        if !buffers::lend(&mut self.stream) {
            return Err(Unsent::Full);
        }
        let sent = self.stream.ssl_write(message);
        self.collect();
        buffers::take_back(&mut self.stream);
        sent.map(|_| ()).map_err(|_| Unsent::Gone)
    }

    fn close(&mut self, _now: Instant) -> bool {
        if self.state == State::Stands && buffers::lend(&mut self.stream) {
            // The alert is in the outbox, or the peer will find out by itself.
            let _ = self.stream.shutdown();
            self.collect();
        }
        (self.state, self.repeat) = (State::Over, None);
        true
    }
}

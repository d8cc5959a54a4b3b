//! Stage 1, DTLS by `webrtc-dtls`: the UE's engine, and a listener's second one, behind a guard.
//!
//! 1. The library runs on a connection of ours that has no socket: datagrams are put in and taken out.
//! 2. It sends cookies itself, so a handshake costs memory from its first hello on: few at a time, and briefly.
//! 3. It keeps what it is shown, so while it shakes hands it is shown only what `intake` takes.
//! 4. Once established it sees only records that the peer's own key opens: anything else would end it.
//! 5. It forgets its last flight, which is repeated by us if the client did not get it.
//!
//! Takes:   certificates or a key, chosen by the hello; datagrams. It runs inside a runtime of tokio.
//! Gives:   what [`DtlsEngine`] gives.
//! Keeps:   one library object a session, with two tasks of its own; a bounded queue each way.
//! Refuses: keys that are not ECDSA on P-256 in PKCS #8; hellos that name a session; to go on after [`RECORDS_MAX`]
//!          records, since the library draws the nonces of GCM at random.
//! Sources: RFC 6347; RFC 4279; RFC 5288 section 3; CVE-2026-26014; `DT-06` to `DT-09`, `V-42`, `V-44`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier as _;
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};
use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::{self, CryptoPrivateKey, CryptoPrivateKeyKind};
use webrtc_util::Conn;
use zeroize::Zeroizing;

use super::engine::{DtlsEngine, Ended, Engines, Event, MESSAGE_MAX, MTU, Proof, Shown, Unsent};
use super::hello::{Hello, SERVER_HELLO};
use super::intake::{Intake, Peer};
use super::keys::{Aead, Half, Secrets};
use super::link::{Link, QUEUE};
use super::record::{Content, FRAGMENT_HEAD, Fragment, RECORD_HEAD, Record, records};
use crate::authentication::tls_identity::CertificateNames;
use crate::instant::Instant;
use crate::keys::psk;
use crate::transport::peer::{ClientCertificate, PeerVerifier, Trust};
use crate::transport::tls::{Certificate, ServerSpec, TlsProblem};

/// Longest message that the library takes in: the room it reads into is fixed.
pub const INPUT_MAX: usize = 8192;
/// Most records of one session: those sent, and those whose message was delivered.
pub const RECORDS_MAX: u64 = 1 << 20;
/// How often a last flight is repeated.
const REPEATS_MAX: u8 = 8;
/// Records that wait for the end of the handshake.
const EARLY_MAX: usize = 8;
/// When a flight is repeated.
const REPEAT: Duration = Duration::from_millis(500);

const PSK_SUITE: (u16, CipherSuiteId) = (0x00A8, CipherSuiteId::Tls_Psk_With_Aes_128_Gcm_Sha256);
/// The first has nonces that count.
const SUITES: [(u16, CipherSuiteId); 2] = [
    (0xCCA9, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256),
    (0xC02B, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256),
];
const RSA_SUITES: [(u16, CipherSuiteId); 2] = [
    (0xCCA8, CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256),
    (0xC02F, CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256),
];

/// Makes a listener's engines.
pub struct Webrtc {
    certificates: Vec<(Vec<Arc<str>>, crypto::Certificate)>,
    verifier: Option<(Arc<PeerVerifier>, ClientAuthType)>,
    shared_keys: bool,
}

impl Webrtc {
    /// Sets it up: with certificates, with shared keys, or with both.
    ///
    /// # Errors
    ///
    /// A key that the library does not take.
    pub fn new(spec: Option<&ServerSpec>, shared_keys: bool) -> Result<Self, TlsProblem> {
        let made = spec
            .into_iter()
            .flat_map(|spec| &spec.certificates)
            .map(|certificate| Ok((certificate.names()?.domains, usable(certificate)?)));
        let certificates = made.collect::<Result<_, TlsProblem>>()?;
        let verifier = spec.and_then(|spec| {
            let asks = match spec.asks {
                ClientCertificate::None => return None,
                ClientCertificate::Optional => ClientAuthType::RequestClientCert,
                ClientCertificate::Required => ClientAuthType::RequireAnyClientCert,
            };
            Some((Arc::new(PeerVerifier::new(spec.trust.clone(), spec.asks)), asks))
        });
        if verifier.is_some() && spec.is_some_and(|spec| spec.trust.is_empty()) {
            return Err(TlsProblem::new(
                "client certificates are asked for, but nobody is trusted",
            ));
        }
        Ok(Self { certificates, verifier, shared_keys })
    }

    fn with_certificate(&self, hello: &Hello<'_>, link: &Arc<Link>) -> Option<(Aead, Config)> {
        let offered = |(suite, _): &&(u16, CipherSuiteId)| hello.suites().any(|it| it == *suite);
        let (number, suite) = SUITES.iter().find(offered)?;
        let asked = hello.server_name().unwrap_or_default();
        let fits = |(names, _): &&(Vec<Arc<str>>, crypto::Certificate)| {
            names.iter().any(|name| name.eq_ignore_ascii_case(asked))
        };
        let found = self.certificates.iter().find(fits).or(self.certificates.first());
        let mut config =
            Config { certificates: vec![found?.1.clone()], cipher_suites: vec![*suite], ..usual() };
        if let Some((verifier, asks)) = &self.verifier {
            let (verifier, link) = (Arc::clone(verifier), Arc::clone(link));
            config.client_auth = *asks;
            config.verify_peer_certificate = Some(Arc::new(move |chain, _| {
                link.judge(chain, |own, issuers| {
                    let judged = verifier.verify_client_cert(own, issuers, UnixTime::now());
                    judged.inspect_err(|why| tracing::debug!(%why, "handshake refused")).is_ok()
                })
            }));
        }
        Some((Aead::of(*number)?, config))
    }

    /// `None` too for a hello that names a session: the library cannot read it.
    fn engine(&self, hello: &Hello<'_>, waker: Waker) -> Option<Engine> {
        if hello.resumes() {
            return None;
        }
        let (number, suite) = PSK_SUITE;
        let link = Arc::new(Link::new(waker));
        let shared = self.shared_keys && hello.suites().any(|it| it == number);
        let (aead, config) = if shared {
            let asking = Arc::clone(&link);
            let config = Config {
                psk: Some(Arc::new(move |identity| {
                    let (asking, identity) =
                        (Arc::clone(&asking), Bytes::copy_from_slice(identity));
                    Box::pin(async move { Ok(asking.key_for(identity, number).await) })
                })),
                psk_identity_hint: Some(psk::HINT.into()),
                cipher_suites: vec![suite],
                ..usual()
            };
            (Aead::of(number)?, config)
        } else {
            self.with_certificate(hello, &link)?
        };
        Some(Engine::new(link, config, Role::Server(aead)))
    }
}

impl Engines for Webrtc {
    fn begin(&self, hello: &Hello<'_>, waker: Waker) -> Option<Box<dyn DtlsEngine>> {
        Some(Box::new(self.engine(hello, waker)?))
    }

    fn make_cookies(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for Webrtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webrtc(..)")
    }
}

/// What a client proves itself with, and what it asks of the server.
pub enum ClientProof {
    /// The server proves its name with a certificate, and we show one of ours if we have one.
    Certificate {
        /// Who may vouch for the server.
        trust: Trust,
        /// The name it must prove.
        name: String,
        /// What we show.
        shows: Option<Arc<Certificate>>,
    },
    /// Both have a key.
    Psk {
        /// The identity that the server knows it by.
        identity: String,
        /// The key.
        key: Zeroizing<Vec<u8>>,
        /// The name of the server that we ask for.
        name: String,
    },
}

/// A client's engine. It begins by itself; [`DtlsEngine::turn`] once, and poll.
///
/// # Errors
///
/// A key that the library does not take; a name that is none.
pub fn client(proof: ClientProof, waker: Waker) -> Result<Box<dyn DtlsEngine>, TlsProblem> {
    let link = Arc::new(Link::new(waker));
    let judging = Arc::clone(&link);
    let config = match proof {
        ClientProof::Psk { identity, key, name } => Config {
            psk: Some(Arc::new(move |_| {
                let key = key.to_vec();
                Box::pin(async move { Ok(key) })
            })),
            psk_identity_hint: Some(identity.into_bytes()),
            cipher_suites: vec![PSK_SUITE.1],
            server_name: name,
            ..usual()
        },
        ClientProof::Certificate { trust, name, shows } => {
            let wanted = ServerName::try_from(name.clone()).map_err(TlsProblem::new)?.to_owned();
            let verifier = PeerVerifier::new(trust, ClientCertificate::None);
            Config {
                certificates: shows.iter().map(|shown| usable(shown)).collect::<Result<_, _>>()?,
                cipher_suites: SUITES.iter().chain(&RSA_SUITES).map(|(_, suite)| *suite).collect(),
                server_name: name,
                // Its own check knows no SIP names; ours is the one below.
                insecure_skip_verify: true,
                verify_peer_certificate: Some(Arc::new(move |chain, _| {
                    judging.judge(chain, |own, issuers| {
                        let now = UnixTime::now();
                        verifier.verify_server(own, issuers, &wanted, now).is_ok()
                    })
                })),
                ..usual()
            }
        }
    };
    Ok(Box::new(Engine::new(link, config, Role::Client)))
}

fn usual() -> Config {
    // The library asks for the process's own provider, though it uses another.
    let _ = aws_lc_rs::default_provider().install_default();
    Config {
        extended_master_secret: ExtendedMasterSecretType::Request,
        flight_interval: REPEAT,
        // The library counts no heads.
        mtu: MTU - RECORD_HEAD - FRAGMENT_HEAD,
        ..Config::default()
    }
}

fn usable(certificate: &Certificate) -> Result<crypto::Certificate, TlsProblem> {
    let what = "the webrtc engine takes ECDSA keys on P-256 in PKCS #8 alone";
    let PrivateKeyDer::Pkcs8(key) = certificate.key() else { return Err(TlsProblem::new(what)) };
    let der = key.secret_pkcs8_der();
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random)
        .map_err(|_| TlsProblem::new(what))?;
    Ok(crypto::Certificate {
        certificate: certificate.chain().to_vec(),
        private_key: CryptoPrivateKey {
            kind: CryptoPrivateKeyKind::Ecdsa256(pair),
            serialized_der: der.to_vec(),
        },
    })
}

/// Which end we are; a server knows the suite, since it offers one.
#[derive(Clone, Copy)]
enum Role {
    Server(Aead),
    Client,
}

/// One session.
struct Engine {
    link: Arc<Link>,
    role: Role,
    intake: Intake,
    running: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    stands: bool,
    over: bool,
    /// Records that the library could not tell from forgeries yet.
    early: Vec<Vec<u8>>,
    /// What was sent last, while the handshake lasts: its last flight, in the end.
    flight: Vec<Bytes>,
    repeats: u8,
    records: u64,
    out: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

impl Engine {
    fn new(link: Arc<Link>, config: Config, role: Role) -> Self {
        let running = Box::pin(run(Arc::clone(&link), config, role));
        let peer = if matches!(role, Role::Client) { Peer::Server } else { Peer::Client };
        Self {
            link,
            role,
            intake: Intake::new(peer),
            running: Some(running),
            stands: false,
            over: false,
            early: Vec::new(),
            flight: Vec::new(),
            repeats: 0,
            records: 0,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Lets the library go on as far as it can now, and takes what came of it.
    fn drive(&mut self) {
        if let Some(running) = &mut self.running {
            let mut context = Context::from_waker(&self.link.waker);
            if let Poll::Ready(why) = running.as_mut().poll(&mut context) {
                self.running = None;
                self.link.tell(Event::Closed(why));
            }
        }
        let mut state = self.link.lock();
        let sent = std::mem::take(&mut state.outbound);
        let events = std::mem::take(&mut state.events);
        drop(state);
        if !self.stands {
            self.flight.extend(sent.iter().cloned());
        }
        // What comes again is dropped by the library's replay window: it wears nothing.
        let delivered = events.iter().filter(|event| matches!(event, Event::Data(_))).count();
        let more = sent.len().saturating_add(delivered);
        self.out.extend(sent);
        for event in events {
            self.stands |= matches!(event, Event::Established(_));
            self.over |= matches!(event, Event::Closed(_));
            self.events.push_back(event);
        }
        self.count(more);
        if self.stands && !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            self.let_through(early.concat().as_slice());
        }
    }

    fn count(&mut self, more: usize) {
        self.records = self.records.saturating_add(more as u64);
        if self.records > RECORDS_MAX && !self.over {
            (self.over, self.running) = (true, None);
            self.events.push_back(Event::Closed(Ended::Worn));
        }
    }

    /// Hands the library what of a datagram it may see.
    fn let_through(&mut self, datagram: &[u8]) {
        let kept =
            if self.stands { self.of_session(datagram) } else { self.of_handshake(datagram) };
        if kept.is_empty() {
            return;
        }
        let mut state = self.link.lock();
        if state.inbound.len() < QUEUE {
            state.inbound.push_back(kept);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// What it may see while it shakes hands.
    fn of_handshake(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        if !self.intake.has_room(datagram) {
            return kept;
        }
        for record in records(datagram) {
            if !self.intake.takes(&record) {
                continue;
            }
            if self.is_early(&record) {
                if self.early.len() < EARLY_MAX {
                    self.early.push(record.octets.to_vec());
                }
                continue;
            }
            if matches!(self.role, Role::Client) {
                let mut state = self.link.lock();
                state.suite = state.suite.or_else(|| chosen_suite(&record));
            }
            kept.extend_from_slice(record.octets);
        }
        kept
    }

    /// What it may see of a session: what the peer's own key opens. A part of the handshake asks for our last flight.
    fn of_session(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        let mut repeats = false;
        let state = self.link.lock();
        for record in records(datagram) {
            let ours = state.guard.as_ref().is_some_and(|guard| guard.opens(&record));
            if !ours || record.epoch != 1 || record.octets.len() > INPUT_MAX {
                continue;
            }
            match record.content {
                Some(Content::Application | Content::Alert) => {
                    kept.extend_from_slice(record.octets)
                }
                Some(Content::Handshake) => repeats = true,
                _ => {}
            }
        }
        drop(state);
        if repeats {
            self.send_again();
        }
        kept
    }

    /// Whether a record is encrypted, and no Finished by its length: the library would end the handshake for it if it
    /// is a forgery.
    fn is_early(&self, record: &Record<'_>) -> bool {
        let finished = |aead: Aead| record.body.len() == aead.finished();
        let is_finished = record.content == Some(Content::Handshake)
            && match self.role {
                Role::Server(aead) => finished(aead),
                Role::Client => finished(Aead::Gcm) || finished(Aead::ChaCha),
            };
        record.epoch > 0 && !is_finished
    }

    fn send_again(&mut self) {
        if self.repeats < REPEATS_MAX {
            self.repeats = self.repeats.saturating_add(1);
            self.out.extend(self.flight.iter().cloned());
        }
    }
}

impl DtlsEngine for Engine {
    fn input(&mut self, datagram: &[u8], _now: Instant) {
        if self.over {
            return;
        }
        if !self.stands {
            self.flight.clear();
        }
        self.let_through(datagram);
        self.drive();
    }

    fn turn(&mut self, _now: Instant) {
        if !self.over {
            self.drive();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // The library has timers of the runtime, which call the waker.
        None
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn repeat(&mut self, _now: Instant) {
        if self.stands && !self.over {
            self.send_again();
        }
    }

    fn key(&mut self, key: &[u8], _now: Instant) {
        let mut state = self.link.lock();
        state.key = Some(Zeroizing::new(key.to_vec()));
        self.link.wake_worker(state);
        self.drive();
    }

    fn send(&mut self, message: &[u8], _now: Instant) -> Result<(), Unsent> {
        if !self.stands || self.over {
            return Err(Unsent::Gone);
        }
        if message.len() > MESSAGE_MAX {
            return Err(Unsent::TooLong);
        }
        let mut state = self.link.lock();
        if state.to_send.len() >= QUEUE {
            return Err(Unsent::Full);
        }
        state.to_send.push_back(Bytes::copy_from_slice(message));
        self.link.wake_worker(state);
        self.drive();
        Ok(())
    }

    fn close(&mut self, _now: Instant) -> bool {
        if self.over || !self.stands {
            return true;
        }
        let mut state = self.link.lock();
        state.closing = true;
        self.link.wake_worker(state);
        self.drive();
        self.over
    }
}

/// What is to be done with a session that stands.
enum Job {
    Send(Bytes),
    Close,
}

/// The library's whole life with one peer.
async fn run(link: Arc<Link>, config: Config, role: Role) -> Ended {
    let conn: Arc<dyn Conn + Send + Sync> = Arc::clone(&link) as _;
    let is_client = matches!(role, Role::Client);
    let shared = config.psk.is_some();
    let Ok(dtls) = Box::pin(DTLSConn::new(conn, config, is_client, None)).await else {
        return Ended::Failed;
    };
    let Some(proof) = stand(&link, &dtls, role, shared).await else { return Ended::Failed };
    link.tell(Event::Established(proof));
    let mut room = vec![0; INPUT_MAX];
    loop {
        let job = link.until(|state| match state.to_send.pop_front() {
            Some(message) => Some(Job::Send(message)),
            None => state.closing.then_some(Job::Close),
        });
        tokio::select! {
            read = dtls.read(&mut room, None) => match read {
                Ok(length) => {
                    let octets = room.get(..length).unwrap_or_default();
                    link.tell(Event::Data(Bytes::copy_from_slice(octets)));
                }
                Err(_) => return Ended::Peer,
            },
            job = job => match job {
                Job::Send(message) => if dtls.write(&message, None).await.is_err() {
                    return Ended::Failed;
                },
                Job::Close => {
                    let _ = dtls.close().await;
                    return Ended::Peer;
                }
            },
        }
    }
}

/// Makes the guard of a session whose handshake is over, and says what that proved.
async fn stand(link: &Link, dtls: &DTLSConn, role: Role, shared: bool) -> Option<Proof> {
    let state = dtls.connection_state().await;
    let keys = state.key_log_data().ok()?;
    let master = Zeroizing::new(keys.master_secret);
    let (aead, client, server) = match role {
        Role::Server(aead) => (Some(aead), &keys.remote_random, &keys.local_random),
        Role::Client => (None, &keys.local_random, &keys.remote_random),
    };
    let secrets = Secrets { master: &master, client_random: client, server_random: server };
    let mut queues = link.lock();
    let aead = aead.or_else(|| Aead::of(queues.suite?))?;
    let (of_client, of_server) = Half::both(aead, &secrets)?;
    queues.guard = Some(if matches!(role, Role::Server(_)) { of_client } else { of_server });
    if shared {
        return Some(Proof::Psk(state.identity_hint.clone().into()));
    }
    match (state.peer_certificates.first(), queues.judged.take()) {
        (Some(own), Some(judged)) => {
            let judged_own = judged.first().filter(|judged| ***judged == **own)?;
            let names = CertificateNames::of(judged_own).ok()?;
            Some(Proof::Certificate(Box::new(Shown { names, chain: judged.into() })))
        }
        (None, None) => Some(Proof::Nothing),
        _ => None,
    }
}

/// The suite in a ServerHello.
///
/// Source: RFC 5246 section 7.4.1.3.
fn chosen_suite(record: &Record<'_>) -> Option<u16> {
    if record.epoch != 0 || record.content != Some(Content::Handshake) {
        return None;
    }
    let (fragment, _) = Fragment::split(record.body).filter(|(it, _)| it.kind == SERVER_HELLO)?;
    let session = usize::from(*fragment.body.get(34)?);
    let suite = fragment.body.get(35_usize.checked_add(session)?..)?;
    suite.first_chunk().map(|suite| u16::from_be_bytes(*suite))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [0x5a; 32];

    /// Both ends of a session. What the server heard is kept.
    struct Ends {
        client: Box<dyn DtlsEngine>,
        server: Engine,
        heard: Vec<Event>,
    }

    impl Ends {
        /// They shake hands with a shared key.
        async fn new() -> Self {
            let name = "edge.example.net".to_owned();
            let (identity, key) = ("alice".to_owned(), KEY.to_vec().into());
            let proof = ClientProof::Psk { identity, key, name };
            let mut client = client(proof, Waker::noop().clone()).unwrap();
            let first = first_of(&mut client).await;
            let engines = Webrtc::new(None, true).unwrap();
            let hello = Hello::read(&first).unwrap();
            let server = engines.engine(&hello, Waker::noop().clone()).unwrap();
            let mut ends = Self { client, server, heard: Vec::new() };
            ends.hears(&first).await;
            while !(ends.server.stands && ends.client.poll_event().is_some()) {
                ends.client.turn(Instant::START);
                while let Some(datagram) = ends.client.poll_transmit() {
                    ends.hears(&datagram).await;
                }
                while let Some(datagram) = ends.server.poll_transmit() {
                    ends.client.input(&datagram, Instant::START);
                }
                tokio::task::yield_now().await;
            }
            ends.heard.clear();
            ends
        }

        /// The server is given a datagram, and time.
        async fn hears(&mut self, datagram: &[u8]) {
            self.server.input(datagram, Instant::START);
            for _ in 0..8 {
                tokio::task::yield_now().await;
                self.server.turn(Instant::START);
                while let Some(event) = self.server.poll_event() {
                    if matches!(event, Event::WantsKey { .. }) {
                        self.server.key(&KEY, Instant::START);
                    }
                    self.heard.push(event);
                }
            }
        }

        /// A datagram with a message of the client's.
        async fn says(&mut self, message: &[u8]) -> Bytes {
            self.client.send(message, Instant::START).unwrap();
            first_of(&mut self.client).await
        }
    }

    async fn first_of(client: &mut Box<dyn DtlsEngine>) -> Bytes {
        loop {
            client.turn(Instant::START);
            if let Some(datagram) = client.poll_transmit() {
                return datagram;
            }
            tokio::task::yield_now().await;
        }
    }

    fn data(message: &'static [u8]) -> Event {
        Event::Data(Bytes::from_static(message))
    }

    /// V-42: who repeats what a client once wrote wears nothing out; what the client writes and hears does.
    #[test]
    fn a_session_is_worn_by_what_is_delivered() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let mut ends = Ends::new().await;
            ends.server.records = RECORDS_MAX - 3;
            let one = ends.says(b"one").await;
            for _ in 0..20 {
                ends.hears(&one).await;
            }
            assert_eq!(ends.heard, [data(b"one")], "it is heard once, and counted once");
            ends.server.send(b"two", Instant::START).unwrap();
            let three = ends.says(b"three").await;
            ends.hears(&three).await;
            assert_eq!(ends.heard[1..], [data(b"three")], "the last one that is safe");
            let four = ends.says(b"four").await;
            ends.hears(&four).await;
            assert_eq!(ends.heard[2..], [data(b"four"), Event::Closed(Ended::Worn)]);
        });
    }
}

//! Keys, bootstrap: the bootstrapping server on Ub, and what NAFs ask it for.
//!
//! Takes:   [`UbRequest`], fresh randomness and the time; from NAFs a B-TID and a [`NafId`].
//! Gives:   [`UbAnswer`]; [`NafKey`] or [`NafRefusal`].
//! Keeps:   subscribers with their sequence numbers; at most `max_challenges` unanswered challenges, one minute
//!          each; at most `max_sessions` sessions, four for each private identity; the tables of `pace`.
//! Refuses: a challenge answered twice or late, a response with another `qop`, `nc`, realm or name than offered, an
//!          AUTS that is not the card's. Nobody learns which names are subscribers: strangers are challenged too,
//!          with a key that nobody has, at the same pace. A barred subscriber is told so once it has proved itself.
//! Sources: TS 33.220 clauses 4.4 and 4.5; TS 24.109 clause 4 and annexes A and C; RFC 3310; threats V-139, V-140.
//!
//! The run, in the order of [`Bsf::answer`]:
//!
//! 1. The source's rate, then the form of the request: cheap before dear.
//! 2. No nonce: a challenge. The sequence number moves, at most ten times a minute for one name.
//! 3. A nonce and `auts`: the response with an empty password, then MAC-S; the number follows the card; step 2.
//! 4. A nonce: the challenge is taken out, whatever comes of it; the response is compared in constant time.
//! 5. Right: a session begins, and `Authentication-Info` proves us to the UE. Wrong: step 2.

mod grant;
mod message;
mod pace;
mod sessions;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

pub use grant::{NafGrant, NafRefusal, UaGrant};
pub use message::{BODY_TYPE, TMPI_TOKEN, UbAnswer, UbOutcome, UbRequest, has_tmpi_token};
pub use sessions::PER_IMPI;

use self::pace::{Bounded, Moves, counted};
use self::sessions::{Session, Sessions};
use super::derivation::{btid, derive_ks_naf, derive_tmpi, is_tmpi};
use super::milenage::Milenage;
use super::sqn::Sqn;
use super::subscribers::{Card, Subscriber};
use super::vector::{Algorithms, Auts, Vector};
use super::{KeyAnswer, KeySource, NafId, NafKey, Rand};
use crate::admission::rate::{Bucket, Rate};
use crate::authentication::aka::{AkaAlgorithm, AkaNonce, AkaVersion, parse_auts};
use crate::authentication::digest::{Ha1, Inputs, Qop, Response};
use crate::identity::{Btid, Impi, Realm};
use crate::instant::{Instant, Now};
use crate::wire::Credentials;

/// How far the written sequence number runs ahead of the used one, so that a crash repeats none.
pub const SQN_STRIDE: u64 = 1024;

/// How long a challenge may be answered.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(60);

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct BsfConfig {
    /// The server's name: in B-TIDs, and the `realm` unless another is given.
    pub name: Arc<str>,
    /// The realm of the challenges, where it is not the name.
    pub realm: Option<Realm>,
    /// The path that UEs ask for.
    pub path: Arc<str>,
    /// The product in `Server`.
    pub product: Arc<str>,
    /// What is offered, strongest first. AKAv1 and AKAv2 may not stand together (RFC 4169 section 4.1).
    pub algorithms: Vec<AkaAlgorithm>,
    /// How long keys live, for subscribers without a time of their own.
    pub key_lifetime: Duration,
    /// Whether temporary identities are offered.
    pub tmpi: bool,
    /// Whether the body tells our time, for UEs whose clock is wrong.
    pub tell_time: bool,
    /// `danger`: whether a response that covers no body (`qop=auth`) is taken. Some UEs can do no better.
    pub accept_auth: bool,
    /// `danger`: whether a name that is no subscriber is answered 403 at once, which tells names apart.
    pub reveal_unknown: bool,
    /// How often one source may ask.
    pub source_rate: Rate,
    /// Most unanswered challenges.
    pub max_challenges: usize,
    /// Most sessions.
    pub max_sessions: usize,
}

impl BsfConfig {
    /// A server of that name: AKAv1-MD5, keys of one hour, temporary identities.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            realm: None,
            path: "/".into(),
            product: concat!("sipward/", env!("CARGO_PKG_VERSION")).into(),
            algorithms: vec![AkaAlgorithm::V1_MD5],
            key_lifetime: Duration::from_secs(3600),
            tmpi: true,
            tell_time: false,
            accept_auth: false,
            reveal_unknown: false,
            // Many UEs share one address behind an operator's NAT; the pace of each name is what protects cards.
            source_rate: Rate { count: 3000, period: Duration::from_secs(60), burst: 4000 },
            max_challenges: 16_384,
            max_sessions: 400_000,
        }
    }
}

/// Why a server cannot be made as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BsfUnfit {
    /// The name cannot be a realm or stand in a B-TID.
    Name,
    /// The path does not begin with `/`, or has a space, a quote or a control character in it.
    Path,
    /// The product holds a control character.
    Product,
    /// No algorithm, one twice, or AKAv1 beside AKAv2.
    Algorithms,
    /// A key would live less than a minute.
    KeyLifetime,
}

/// Randomness for one request.
#[derive(Clone)]
pub struct Fresh {
    /// RAND, if there is a challenge.
    pub rand: [u8; 16],
    /// `opaque`, if there is a challenge.
    pub opaque: [u8; 16],
}

/// The server. Several threads may use it; it is never held across a wait.
pub struct Bsf {
    config: BsfConfig,
    realm: Arc<str>,
    grants: Vec<NafGrant>,
    /// Makes the challenges of names that are nobody's.
    decoy: Algorithms,
    state: Mutex<State>,
}

struct State {
    subscribers: HashMap<Impi, Record>,
    challenges: Challenges,
    sessions: Sessions,
    strangers: Bounded<Arc<str>, Moves>,
    sources: Bounded<IpAddr, Bucket>,
}

/// A subscriber, its pace, and the SEQ up to which the written state vouches.
struct Record {
    subscriber: Subscriber,
    moves: Moves,
    vouched: u64,
}

/// A challenge that was not answered yet.
struct Pending {
    impi: Impi,
    nonce: AkaNonce,
    opaque: String,
    vector: Vector,
    born: Instant,
}

struct Challenges {
    max: usize,
    open: HashMap<Rand, Pending>,
    order: VecDeque<(Instant, Rand)>,
}

/// Who asks: the name as sent, and whom it stands for.
struct Asker {
    username: Arc<str>,
    impi: Impi,
}

impl Bsf {
    /// A server for `subscribers` and `grants`. `decoy_seed` is random and secret, for this server alone.
    ///
    /// # Errors
    ///
    /// [`BsfUnfit`], by what is wrong with `config`.
    pub fn new(
        config: BsfConfig,
        subscribers: Vec<Subscriber>,
        grants: Vec<NafGrant>,
        decoy_seed: [u8; 32],
    ) -> Result<Self, BsfUnfit> {
        let realm = check(&config)?;
        let seed = Zeroizing::new(decoy_seed);
        let (k, opc) = seed.split_first_chunk::<16>().ok_or(BsfUnfit::Name)?;
        let opc = opc.first_chunk::<16>().ok_or(BsfUnfit::Name)?;
        let state = State {
            subscribers: HashMap::new(),
            challenges: Challenges::new(config.max_challenges),
            sessions: Sessions::new(config.max_sessions),
            strangers: Bounded::new(),
            sources: Bounded::new(),
        };
        let own = Self {
            decoy: Algorithms::Milenage(Milenage::with_opc(k, opc)),
            state: Mutex::new(state),
            config,
            realm,
            grants,
        };
        own.replace_subscribers(subscribers);
        Ok(own)
    }

    /// The configuration.
    pub fn config(&self) -> &BsfConfig {
        &self.config
    }

    /// Sessions whose keys can be asked for, counting those that ended and were not swept yet.
    pub fn sessions(&self) -> usize {
        self.state().sessions.len()
    }

    /// Takes a new list of subscribers: those still there keep sequence number, pace and sessions; the others,
    /// and the barred ones, lose their sessions.
    pub fn replace_subscribers(&self, subscribers: Vec<Subscriber>) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.subscribers);
        for subscriber in subscribers {
            let impi = subscriber.impi.clone();
            let mut record = Record { vouched: 0, moves: Moves::default(), subscriber };
            if let Some(known) = before.remove(&impi) {
                if known.subscriber.sqn.last() > record.subscriber.sqn.last() {
                    record.subscriber.sqn = known.subscriber.sqn;
                }
                record.moves = known.moves;
                record.vouched = known.vouched;
            }
            state.subscribers.insert(impi, record);
        }
        let State { subscribers, sessions, challenges, .. } = &mut *state;
        let stays =
            |impi: &Impi| subscribers.get(impi).is_some_and(|record| !record.subscriber.barred);
        sessions.retain(stays);
        challenges.open.retain(|_, pending| subscribers.contains_key(&pending.impi));
    }

    /// Whether sequence numbers should be written down soon: some are near the end of what was vouched for.
    pub fn sqn_due(&self) -> bool {
        self.state().subscribers.values().any(Record::is_due)
    }

    /// What to write down: for each subscriber a SEQ that will not be passed before the next writing.
    pub fn sqn_reserve(&self) -> Vec<(Impi, u64)> {
        let state = self.state();
        let ahead = |record: &Record| {
            let seq = record.subscriber.sqn.last().seq().saturating_add(SQN_STRIDE);
            (record.subscriber.impi.clone(), seq.max(record.vouched))
        };
        state.subscribers.values().map(ahead).collect()
    }

    /// Says that what [`Self::sqn_reserve`] gave is safely written.
    pub fn sqn_reserved(&self, written: &[(Impi, u64)]) {
        let mut state = self.state();
        for (impi, seq) in written {
            if let Some(record) = state.subscribers.get_mut(impi) {
                record.vouched = *seq;
            }
        }
    }

    /// Answers one request.
    pub fn answer(&self, request: &UbRequest<'_>, fresh: &Fresh, now: Now) -> UbAnswer {
        let mut answer = self.judge(request, fresh, now);
        let product = &self.config.product;
        let server =
            if self.config.tmpi { format!("{product} {TMPI_TOKEN}") } else { product.to_string() };
        answer.headers.insert(0, ("Server", server));
        answer.headers.push(("Cache-Control", "no-store".to_owned()));
        answer
    }

    /// The key of one NAF for one B-TID. `host` is the name that the NAF's connection proved.
    ///
    /// # Errors
    ///
    /// [`NafRefusal::NotAuthorised`] before the B-TID is looked at, [`NafRefusal::UnknownBtid`] after.
    ///
    /// Source: TS 33.220 clause 4.5.3.
    pub fn naf_key(
        &self,
        host: &str,
        btid: &Btid,
        naf: &NafId,
        now: Now,
    ) -> Result<NafKey, NafRefusal> {
        let grant = self
            .grants
            .iter()
            .find(|grant| grant.covers(host, naf))
            .ok_or(NafRefusal::NotAuthorised)?;
        let state = self.state();
        let session = state.sessions.get(btid, now).ok_or(NafRefusal::UnknownBtid)?;
        let record = state.subscribers.get(&session.impi).ok_or(NafRefusal::UnknownBtid)?;
        let key = derive_ks_naf(&session.ks, &session.rand, &session.impi, naf)
            .map_err(|_| NafRefusal::UnknownBtid)?;
        let none = || Arc::from(Vec::new());
        Ok(NafKey {
            key,
            impi: grant.sees_impi.then(|| session.impi.clone()),
            identities: if grant.sees_identities {
                record.subscriber.impus.clone()
            } else {
                none()
            },
            expires: session.expires,
            created: session.created,
        })
    }

    /// Ends the session of a B-TID; whether there was one.
    pub fn end_session(&self, btid: &Btid) -> bool {
        self.state().sessions.remove(btid)
    }

    /// Drops what is over. [`Self::answer`] does so as well; this is for a server that nobody asks.
    pub fn sweep(&self, now: Now) {
        let mut state = self.state();
        state.sessions.purge(now);
        state.challenges.purge(now.mono);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, request: &UbRequest<'_>, fresh: &Fresh, now: Now) -> UbAnswer {
        let malformed = |status, why| UbAnswer::plain(status, UbOutcome::Malformed, why);
        let mut state = self.state();
        let rate = self.config.source_rate;
        if !state.sources.entry(counted(request.source)).take(rate, now.mono) {
            return UbAnswer::later(UbOutcome::Paced, Duration::from_secs(10));
        }
        if request.method != "GET" {
            let mut answer = malformed(405, "bootstrapping is a GET (TS 24.109 clause 4)");
            answer.headers.push(("Allow", "GET".to_owned()));
            return answer;
        }
        if path(request.target) != &*self.config.path {
            return malformed(404, "nothing here");
        }
        if request.has_body {
            return malformed(400, "a bootstrapping GET has no body");
        }
        let credentials = match request.authorization {
            [value] => Credentials::parse(value).ok().flatten(),
            _ => None,
        };
        let Some(credentials) = credentials else {
            return malformed(
                400,
                "one Authorization: Digest, with the IMPI as username, is needed",
            );
        };
        let username = std::str::from_utf8(credentials.or_empty("username")).ok();
        let Some(username) = username.and_then(Impi::new) else {
            return malformed(400, "the username is not a private identity");
        };
        let asker = match state.asker(&username, now) {
            Some(asker) => asker,
            None => return self.unknown_tmpi(fresh),
        };
        if credentials.or_empty("nonce").is_empty() {
            return self.challenge(&mut state, &asker, fresh, now);
        }
        let algorithm = match credentials.param("algorithm") {
            Some(name) => AkaAlgorithm::of(name),
            None => self.config.algorithms.first().copied(),
        };
        let offered = |algorithm: &AkaAlgorithm| self.config.algorithms.contains(algorithm);
        let Some(algorithm) = algorithm.filter(offered) else {
            return malformed(400, "the algorithm was not offered");
        };
        let Some(answer) = Claim::read(&credentials, request.target, algorithm) else {
            return malformed(400, "the Authorization is not an answer to our challenge");
        };
        let supports_tmpi = request.user_agent.is_some_and(has_tmpi_token);
        self.respond(&mut state, &asker, &answer, supports_tmpi, fresh, now)
    }

    /// Steps 3 to 5: something answers a challenge.
    fn respond(
        &self,
        state: &mut State,
        asker: &Asker,
        claim: &Claim<'_>,
        supports_tmpi: bool,
        fresh: &Fresh,
        now: Now,
    ) -> UbAnswer {
        let pending = claim.nonce.as_ref().and_then(|nonce| state.challenges.take(nonce, now.mono));
        let right = pending.filter(|pending| {
            pending.impi == asker.impi
                && claim.realm == self.realm.as_bytes()
                && claim.opaque.is_none_or(|opaque| opaque == pending.opaque.as_bytes())
                && claim.nc == b"00000001"
                && (claim.qop == b"auth-int" || (claim.qop == b"auth" && self.config.accept_auth))
        });
        let outcome = match (right, &claim.auts) {
            (None, _) => None,
            (Some(pending), Some(auts)) => {
                self.resynchronise(state, asker, claim, &pending, auts.as_ref())
            }
            (Some(pending), None) => {
                match self.conclude(state, asker, claim, pending, supports_tmpi, now) {
                    Some(answer) => return answer,
                    None => None,
                }
            }
        };
        let mut answer = self.challenge(state, asker, fresh, now);
        if answer.status == 401 {
            answer.outcome = outcome.unwrap_or(UbOutcome::Refused);
        }
        answer
    }

    /// Step 3. `None` if the response or the AUTS is wrong.
    fn resynchronise(
        &self,
        state: &mut State,
        asker: &Asker,
        claim: &Claim<'_>,
        pending: &Pending,
        auts: Option<&Auts>,
    ) -> Option<UbOutcome> {
        let (response, _) = self.responses(asker, claim, b"", None);
        let record = state.subscribers.get_mut(&asker.impi)?;
        let algorithms = &record.subscriber.algorithms;
        if !response.verify(claim.response) {
            return None;
        }
        let card = algorithms.open_auts(&pending.nonce.rand, auts?).ok()?;
        record.subscriber.sqn.resync(card);
        Some(UbOutcome::Resynchronised)
    }

    /// Steps 4 and 5. `None` if the response is wrong.
    fn conclude(
        &self,
        state: &mut State,
        asker: &Asker,
        claim: &Claim<'_>,
        pending: Pending,
        supports_tmpi: bool,
        now: Now,
    ) -> Option<UbAnswer> {
        let Vector { rand, xres, ck, ik, .. } = &pending.vector;
        let password = claim.algorithm.password(xres.expose(), ck, ik)?;
        let (response, _) = self.responses(asker, claim, &password, None);
        if !response.verify(claim.response) {
            return None;
        }
        let subscriber = &state.subscribers.get(&asker.impi)?.subscriber;
        if subscriber.barred {
            return Some(UbAnswer::plain(403, UbOutcome::Barred, "this subscription is barred"));
        }
        let lifetime = subscriber.key_lifetime.unwrap_or(self.config.key_lifetime);
        let (ks, name) = (pending.vector.ks(), &self.config.name);
        let id = btid(rand, name).ok()?;
        let tmpi = (supports_tmpi && self.config.tmpi)
            .then(|| derive_tmpi(&ks, rand, &asker.impi, name).ok())
            .flatten();
        let end = now + lifetime;
        let body = message::body(&id, end.wall, self.config.tell_time.then_some(now.wall));
        let (_, rspauth) = self.responses(asker, claim, &password, Some(&body));
        let text = |octets| String::from_utf8_lossy(octets).into_owned();
        let headers = vec![
            ("Content-Type", BODY_TYPE.to_owned()),
            (
                "Authentication-Info",
                message::authentication_info(
                    &text(claim.qop),
                    &text(rspauth?.as_hex()),
                    &text(claim.cnonce),
                    &text(claim.nc),
                ),
            ),
            ("Expires", message::expires(end.wall)),
        ];
        let session = Session {
            impi: asker.impi.clone(),
            rand: *rand,
            ks,
            created: now.wall,
            expires: end.wall,
            ends: end.mono,
            tmpi,
        };
        state.sessions.add(id, session, now);
        Some(UbAnswer { status: 200, headers, body, outcome: UbOutcome::Bootstrapped })
    }

    /// The response that `claim` has to carry, and the `rspauth` over `body`.
    fn responses(
        &self,
        asker: &Asker,
        claim: &Claim<'_>,
        password: &[u8],
        body: Option<&[u8]>,
    ) -> (Response, Option<Response>) {
        let AkaAlgorithm { hash, session, .. } = claim.algorithm;
        let (username, realm) = (asker.username.as_bytes(), self.realm.as_bytes());
        let ha1 = Ha1::new(hash, username, realm, password);
        let inputs = |method, body| Inputs {
            hash,
            session,
            method,
            uri: claim.uri,
            nonce: claim.nonce_text,
            cnonce: claim.cnonce,
            nc: claim.nc,
            qop: if claim.qop == b"auth" { Qop::Auth } else { Qop::AuthInt(body) },
        };
        let response = Response::compute(&ha1, &inputs(b"GET", b""));
        (response, body.map(|body| Response::compute(&ha1, &inputs(b"", body))))
    }

    /// Step 2: a challenge, for a subscriber or for a name that is nobody's.
    fn challenge(&self, state: &mut State, asker: &Asker, fresh: &Fresh, now: Now) -> UbAnswer {
        let rand = Rand(fresh.rand);
        let unable = || UbAnswer::later(UbOutcome::Unable, Duration::from_secs(60));
        let Some(record) = state.subscribers.get_mut(&asker.impi) else {
            return self.decoy(state, asker, fresh, now);
        };
        if let Err(wait) = record.moves.take(now.mono) {
            return UbAnswer::later(UbOutcome::Paced, wait);
        }
        state.challenges.purge(now.mono);
        if state.challenges.open.contains_key(&rand) {
            return unable();
        }
        let subscriber = &mut record.subscriber;
        let Some(sqn) = subscriber.sqn.advance() else { return unable() };
        let vector = subscriber.algorithms.vector(rand, sqn, subscriber.amf);
        let autn = match subscriber.card {
            Card::Gba => vector.autn,
            Card::GbaU => vector.autn.masked(&vector.ik),
        };
        let (nonce, opaque) = (AkaNonce::new(rand, autn), hex(&fresh.opaque));
        let answer = self.print_challenge(&nonce.print(), &opaque, UbOutcome::Challenged);
        let impi = asker.impi.clone();
        state.challenges.add(Pending { impi, nonce, opaque, vector, born: now.mono });
        answer
    }

    /// A challenge that looks like any other and that nobody can answer.
    fn decoy(&self, state: &mut State, asker: &Asker, fresh: &Fresh, now: Now) -> UbAnswer {
        if self.config.reveal_unknown {
            return UbAnswer::plain(403, UbOutcome::Refused, "not a subscriber");
        }
        if let Err(wait) = state.strangers.entry(asker.username.clone()).take(now.mono) {
            return UbAnswer::later(UbOutcome::Paced, wait);
        }
        let rand = Rand(fresh.rand);
        let vector = self.decoy.vector(rand, Sqn::default(), [0x80, 0]);
        let nonce = AkaNonce::new(rand, vector.autn).print();
        self.print_challenge(&nonce, &hex(&fresh.opaque), UbOutcome::StrangerChallenged)
    }

    /// The answer to a TMPI that has ended: a challenge without a vector, on which the UE takes its IMPI.
    fn unknown_tmpi(&self, fresh: &Fresh) -> UbAnswer {
        self.print_challenge("", &hex(&fresh.opaque), UbOutcome::TmpiUnknown)
    }

    fn print_challenge(&self, nonce: &str, opaque: &str, outcome: UbOutcome) -> UbAnswer {
        let offer = |algorithm: &AkaAlgorithm| {
            let value = message::challenge(&self.realm, nonce, *algorithm, opaque);
            ("WWW-Authenticate", value)
        };
        let headers = self.config.algorithms.iter().map(offer).collect();
        UbAnswer { status: 401, headers, body: Vec::new(), outcome }
    }
}

impl fmt::Debug for Bsf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bsf({}, ..)", self.config.name)
    }
}

impl State {
    /// Whom a username stands for; `None` for a TMPI that nobody has.
    fn asker(&self, username: &Impi, now: Now) -> Option<Asker> {
        let impi = if is_tmpi(username.as_str()) {
            self.sessions.impi_of(username, now)?.clone()
        } else {
            username.clone()
        };
        Some(Asker { username: username.as_str().into(), impi })
    }
}

impl Record {
    fn is_due(&self) -> bool {
        let seq = self.subscriber.sqn.last().seq();
        seq.saturating_add(SQN_STRIDE / 2) > self.vouched
    }
}

impl Challenges {
    fn new(max: usize) -> Self {
        Self { max: max.max(1), open: HashMap::new(), order: VecDeque::new() }
    }

    fn add(&mut self, pending: Pending) {
        while self.order.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        self.order.push_back((pending.born, pending.nonce.rand));
        self.open.insert(pending.nonce.rand, pending);
    }

    /// Takes a challenge out: it is answered once.
    fn take(&mut self, nonce: &AkaNonce, now: Instant) -> Option<Pending> {
        let pending = self.open.remove(&nonce.rand)?;
        let whole = pending.nonce == *nonce && now.since(pending.born) < CHALLENGE_LIFETIME;
        whole.then_some(pending)
    }

    fn purge(&mut self, now: Instant) {
        while let Some((born, rand)) = self.order.front().copied()
            && (now.since(born) >= CHALLENGE_LIFETIME || !self.open.contains_key(&rand))
        {
            self.order.pop_front();
            self.open.remove(&rand);
        }
    }
}

/// What an answer to a challenge says.
struct Claim<'a> {
    algorithm: AkaAlgorithm,
    realm: &'a [u8],
    nonce_text: &'a [u8],
    nonce: Option<AkaNonce>,
    uri: &'a [u8],
    qop: &'a [u8],
    nc: &'a [u8],
    cnonce: &'a [u8],
    response: &'a [u8],
    opaque: Option<&'a [u8]>,
    /// There, and perhaps not even base64.
    auts: Option<Option<Auts>>,
}

impl<'a> Claim<'a> {
    /// Reads it; `None` if something that every answer has is missing, or `uri` is another than was asked for.
    fn read(
        credentials: &'a Credentials<'_>,
        target: &str,
        algorithm: AkaAlgorithm,
    ) -> Option<Self> {
        let nonce_text = credentials.or_empty("nonce");
        let uri = credentials.param("uri")?;
        let cnonce = credentials.param("cnonce")?;
        let printable = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
        if cnonce.is_empty() || !cnonce.iter().all(printable) {
            return None;
        }
        if std::str::from_utf8(uri).ok().map(path) != Some(path(target)) {
            return None;
        }
        Some(Self {
            algorithm,
            realm: credentials.or_empty("realm"),
            nonce: AkaNonce::parse(nonce_text),
            nonce_text,
            uri,
            qop: credentials.or_empty("qop"),
            nc: credentials.or_empty("nc"),
            cnonce,
            response: credentials.param("response")?,
            opaque: credentials.param("opaque"),
            auts: credentials.param("auts").map(parse_auts),
        })
    }
}

/// The path of a request-target or of a `uri`, in origin or in absolute form.
fn path(target: &str) -> &str {
    let origin = target
        .split_once("://")
        .map_or(target, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"));
    if origin.is_empty() { "/" } else { origin }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
}

fn check(config: &BsfConfig) -> Result<Arc<str>, BsfUnfit> {
    let own = Realm::new(&config.name).ok_or(BsfUnfit::Name)?;
    let name_right = config.name.bytes().all(|octet| {
        octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    });
    if !name_right {
        return Err(BsfUnfit::Name);
    }
    let graphic = |octet: u8| octet.is_ascii_graphic() && octet != b'"';
    if !config.path.starts_with('/') || !config.path.bytes().all(graphic) {
        return Err(BsfUnfit::Path);
    }
    if config.product.bytes().any(|octet| !(graphic(octet) || octet == b' ')) {
        return Err(BsfUnfit::Product);
    }
    let algorithms = &config.algorithms;
    let twice = algorithms
        .iter()
        .enumerate()
        .any(|(at, algorithm)| algorithms.iter().take(at).any(|before| before == algorithm));
    let of = |version| algorithms.iter().any(|algorithm| algorithm.version == version);
    if algorithms.is_empty() || twice || (of(AkaVersion::V1) && of(AkaVersion::V2)) {
        return Err(BsfUnfit::Algorithms);
    }
    if config.key_lifetime < Duration::from_secs(60) {
        return Err(BsfUnfit::KeyLifetime);
    }
    Ok(config.realm.as_ref().unwrap_or(&own).as_str().into())
}

/// The server as the key source of a NAF in the same process.
#[derive(Debug, Clone)]
pub struct LocalNaf {
    bsf: Arc<Bsf>,
    host: Arc<str>,
}

impl LocalNaf {
    /// `host` is the name under which the grants know this NAF.
    pub fn new(bsf: Arc<Bsf>, host: &str) -> Self {
        Self { bsf, host: host.into() }
    }
}

impl KeySource for LocalNaf {
    fn naf_key(&self, btid: &Btid, naf: &NafId, now: Now) -> KeyAnswer {
        match self.bsf.naf_key(&self.host, btid, naf, now) {
            Ok(key) => KeyAnswer::Known(Arc::new(key)),
            Err(NafRefusal::UnknownBtid) => KeyAnswer::Unknown,
            Err(NafRefusal::NotAuthorised) => KeyAnswer::Forbidden,
        }
    }
}

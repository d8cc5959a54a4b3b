//! Keys, bootstrap, run: one request on Ub, judged.
//!
//! Takes:   [`UbRequest`], randomness and the time.
//! Gives:   [`UbAnswer`].
//! Keeps:   see `mod`, whose state it works on.
//! Refuses: see `mod`.
//! Sources: TS 24.109 clause 4 and annexes A and C; RFC 3310 section 3; threats V-139, V-140.
//!
//! The run, in the order of [`Bsf::answer`]:
//!
//! 1. The source's rate, then the form of the request: cheap before dear.
//! 2. No nonce: a challenge. The sequence number moves, at most ten times a minute for one name.
//! 3. A nonce and `auts`: the response with an empty password, then MAC-S; the number follows the card; step 2.
//! 4. A nonce: the challenge is taken out, whatever comes of it; the response is compared in constant time.
//! 5. Right: a session begins, and `Authentication-Info` proves us to the UE. Wrong: step 2.
//!
//! Who asks for a run by password goes the way of `digest` after step 1, where that is to be had.

use std::sync::Arc;
use std::time::Duration;

use super::challenges::Pending;
use super::claim::{Claim, Named, path};
use super::home::{HomeAnswer, HomeQuestion, UbStep};
use super::message::{BODY_TYPE, TMPI_TOKEN, UbAnswer, UbOutcome, UbRequest, has_tmpi_token};
use super::pace::counted;
use super::sessions::Session;
use super::{Bsf, Fresh, Record, State, message};
use crate::authentication::aka::{AkaAlgorithm, AkaNonce};
use crate::authentication::digest::{Ha1, Inputs, Qop, Response};
use crate::identity::Impi;
use crate::instant::Now;
use crate::keys::derivation::{btid, derive_tmpi, is_tmpi};
use crate::keys::subscribers::{Card, Guss};
use crate::keys::vector::{Auts, Vector};
use crate::keys::{GbaType, Ks, Rand};
use crate::wire::Credentials;

/// Who asks: the name as sent, and whom it stands for.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) username: Arc<str>,
    pub(super) impi: Impi,
}

/// What a run made, until its session begins.
pub(super) struct Made {
    pub(super) kind: GbaType,
    pub(super) rand: Rand,
    pub(super) ks: Ks,
    pub(super) tmpi: Option<Impi>,
    pub(super) guss: Option<Arc<Guss>>,
    /// How long the key lives, if not as long as the server says for all.
    pub(super) key_lifetime: Option<Duration>,
}

/// The answer, or what the home is to be asked first.
type Judged = Result<UbAnswer, Box<HomeQuestion>>;

impl Bsf {
    /// Answers one request; without a home to ask, who is nobody's here is a stranger.
    pub fn answer(&self, request: &UbRequest<'_>, fresh: &Fresh, now: Now) -> UbAnswer {
        match self.step(request, fresh, now) {
            UbStep::Answer(answer) => answer,
            UbStep::Ask(question) => self.homed(question, HomeAnswer::Unavailable, fresh, now),
        }
    }

    /// Answers one request, or says what the home is to be asked first.
    pub fn step(&self, request: &UbRequest<'_>, fresh: &Fresh, now: Now) -> UbStep {
        match self.judge(request, fresh, now) {
            Ok(answer) => {
                // No temporary name comes of a password.
                let tmpi = self.config.tmpi && self.by_password(request).is_none();
                UbStep::Answer(self.signed(answer, tmpi))
            }
            Err(question) => UbStep::Ask(*question),
        }
    }

    /// Adds what every answer has.
    pub(super) fn signed(&self, mut answer: UbAnswer, tmpi: bool) -> UbAnswer {
        let product = &self.config.product;
        let server = if tmpi { format!("{product} {TMPI_TOKEN}") } else { product.to_string() };
        answer.headers.insert(0, ("Server", server));
        answer.headers.push(("Cache-Control", "no-store".to_owned()));
        answer
    }

    fn judge(&self, request: &UbRequest<'_>, fresh: &Fresh, now: Now) -> Judged {
        let malformed = |status, why| Ok(UbAnswer::plain(status, UbOutcome::Malformed, why));
        let mut state = self.state();
        let rate = self.config.source_rate;
        if !state.sources.entry(counted(request.source)).take(rate, now.mono) {
            return Ok(UbAnswer::later(UbOutcome::Paced, Duration::from_secs(10)));
        }
        if request.method != "GET" {
            let why = "bootstrapping is a GET (TS 24.109 clause 4)";
            let mut answer = UbAnswer::plain(405, UbOutcome::Malformed, why);
            answer.headers.push(("Allow", "GET".to_owned()));
            return Ok(answer);
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
        let username = std::str::from_utf8(credentials.username()).ok();
        let Some(username) = username.and_then(Impi::new) else {
            return malformed(400, "the username is not a private identity");
        };
        if let Some(of) = self.by_password(request) {
            let asked = (&username, &credentials, request.target);
            return Ok(self.answer_digest(&mut state, of, asked, fresh, now));
        }
        let asker = match state.asker(&username, now) {
            Some(asker) => asker,
            None => return Ok(self.unknown_tmpi(fresh)),
        };
        if credentials.nonce().is_empty() {
            return self.challenge(&mut state, &asker, fresh, now);
        }
        let algorithm = match credentials.algorithm() {
            Some(name) => AkaAlgorithm::of(name),
            None => self.config.algorithms.first().copied(),
        };
        let offered = |algorithm: &AkaAlgorithm| self.config.algorithms.contains(algorithm);
        let Some(algorithm) = algorithm.filter(offered) else {
            return malformed(400, "the algorithm was not offered");
        };
        let Some(answer) = Claim::read(&credentials, request.target, Named::Aka(algorithm)) else {
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
    ) -> Judged {
        let nonce = claim.aka_nonce();
        let open = nonce.as_ref().and_then(|it| state.challenges.take(&it.rand, now.mono));
        let pending = open.filter(|open| nonce.as_ref() == Some(&open.nonce));
        let right = pending.filter(|pending| {
            pending.impi == asker.impi
                && claim.realm == self.realm.as_bytes()
                && claim.opaque.is_none_or(|opaque| opaque == pending.opaque.as_bytes())
                && claim.nc == b"00000001"
                && (claim.qop == b"auth-int" || (claim.qop == b"auth" && self.config.accept_auth))
        });
        let outcome = match (right, &claim.auts) {
            (None, _) => None,
            (Some(pending), Some(auts)) if pending.guss.is_some() => {
                let (response, _) = self.responses(asker, claim, b"", None);
                match auts.filter(|_| response.verify(claim.response)) {
                    // Only the home can tell whether the number is the card's.
                    Some(auts) => {
                        let resync = Some((pending.nonce.rand, auts));
                        return self.ask(state, asker, resync, UbOutcome::Resynchronised, now);
                    }
                    None => None,
                }
            }
            (Some(pending), Some(auts)) => {
                self.resynchronise(state, asker, claim, &pending, auts.as_ref())
            }
            (Some(pending), None) => {
                match self.conclude(state, asker, claim, pending, supports_tmpi, now) {
                    Some(answer) => return Ok(answer),
                    None => None,
                }
            }
        };
        let outcome = outcome.unwrap_or(UbOutcome::Refused);
        let mut judged = self.challenge(state, asker, fresh, now);
        match &mut judged {
            Ok(answer) if answer.status == 401 => answer.outcome = outcome,
            Ok(_) => {}
            Err(question) => question.outcome = outcome,
        }
        judged
    }

    /// Another's subscriber: his home makes the challenge, at the pace of our own.
    fn ask(
        &self,
        state: &mut State,
        asker: &Asker,
        resync: Option<(Rand, Auts)>,
        outcome: UbOutcome,
        now: Now,
    ) -> Judged {
        let name = Arc::from(asker.impi.as_str());
        if let Err(wait) = state.strangers.entry(name).take(now.mono) {
            return Ok(UbAnswer::later(UbOutcome::Paced, wait));
        }
        Err(Box::new(HomeQuestion { asker: asker.clone(), resync, outcome }))
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
        let record = state.subscribers.get(&asker.impi).ok().flatten()?;
        let algorithms = record.subscriber.algorithms.as_ref()?;
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
        let Named::Aka(algorithm) = claim.algorithm else { return None };
        let Vector { rand, xres, ck, ik, .. } = &pending.vector;
        let password = algorithm.password(xres.expose(), ck, ik)?;
        let (response, _) = self.responses(asker, claim, &password, None);
        if !response.verify(claim.response) {
            return None;
        }
        let (barred, key_lifetime) = match &pending.guss {
            Some(guss) => (false, guss.key_lifetime),
            None => match state.subscribers.get(&asker.impi) {
                Ok(record) => {
                    let subscriber = &record?.subscriber;
                    (subscriber.barred, subscriber.key_lifetime)
                }
                Err(_) => return Some(UbAnswer::store_unavailable()),
            },
        };
        if barred {
            return Some(UbAnswer::barred());
        }
        let (ks, name) = (pending.vector.ks(), &self.config.name);
        let tmpi = (supports_tmpi && self.config.tmpi)
            .then(|| derive_tmpi(&ks, rand, &asker.impi, name).ok())
            .flatten();
        let (kind, rand, guss) = (GbaType::Aka, *rand, pending.guss);
        let made = Made { kind, rand, ks, tmpi, guss, key_lifetime };
        self.begin(state, asker, claim, &password, made, now)
    }

    /// Step 5, for whom the response was right by `password`.
    pub(super) fn begin(
        &self,
        state: &mut State,
        asker: &Asker,
        claim: &Claim<'_>,
        password: &[u8],
        made: Made,
        now: Now,
    ) -> Option<UbAnswer> {
        let id = btid(&made.rand, &self.config.name).ok()?;
        let end = now + made.key_lifetime.unwrap_or(self.config.key_lifetime);
        let body = message::body(&id, end.wall, self.config.tell_time.then_some(now.wall));
        let (_, rspauth) = self.responses(asker, claim, password, Some(&body));
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
            kind: made.kind,
            rand: made.rand,
            ks: made.ks,
            created: now.wall,
            expires: end.wall,
            ends: end.mono,
            tmpi: made.tmpi,
            guss: made.guss,
        };
        state.sessions.add(id, session, now);
        Some(UbAnswer { status: 200, headers, body, outcome: UbOutcome::Bootstrapped })
    }

    /// The response that `claim` has to carry, and the `rspauth` over `body`. Its realm has been held to ours.
    pub(super) fn responses(
        &self,
        asker: &Asker,
        claim: &Claim<'_>,
        password: &[u8],
        body: Option<&[u8]>,
    ) -> (Response, Option<Response>) {
        let (hash, session) = claim.algorithm.hash();
        let ha1 = Ha1::new(hash, asker.username.as_bytes(), claim.realm, password);
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
    fn challenge(&self, state: &mut State, asker: &Asker, fresh: &Fresh, now: Now) -> Judged {
        let rand = Rand(fresh.rand);
        let unable = || UbAnswer::later(UbOutcome::Unable, Duration::from_secs(60));
        let record = match state.subscribers.get(&asker.impi) {
            Ok(Some(record)) if record.subscriber.algorithms.is_none() => {
                return Ok(self.decoy(state, asker, fresh, now));
            }
            Ok(Some(record)) => record,
            Ok(None) if self.config.home => {
                return self.ask(state, asker, None, UbOutcome::Challenged, now);
            }
            Ok(None) => return Ok(self.decoy(state, asker, fresh, now)),
            Err(_) => return Ok(UbAnswer::store_unavailable()),
        };
        if let Err(wait) = record.moves.take(now.mono) {
            return Ok(UbAnswer::later(UbOutcome::Paced, wait));
        }
        state.challenges.purge(now.mono);
        if state.challenges.has(&rand) {
            return Ok(unable());
        }
        let sqn = match state.subscribers.advance(&asker.impi) {
            Ok(Some(sqn)) => sqn,
            Ok(None) => return Ok(unable()),
            Err(_) => return Ok(UbAnswer::store_unavailable()),
        };
        let Some(Record { subscriber, .. }) = state.subscribers.records.get(&asker.impi) else {
            return Ok(unable());
        };
        let Some(algorithms) = &subscriber.algorithms else { return Ok(unable()) };
        let vector = algorithms.vector(rand, sqn, subscriber.amf);
        let autn = match subscriber.card {
            Card::Gba => vector.autn,
            Card::GbaU => vector.autn.masked(&vector.ik),
        };
        let (nonce, opaque) = (AkaNonce::new(rand, autn), hex(&fresh.opaque));
        let answer = self.print_challenge(&nonce.print(), &opaque, UbOutcome::Challenged);
        let impi = asker.impi.clone();
        let pending = Pending { impi, nonce, opaque, vector, guss: None };
        state.challenges.add(rand, pending, now.mono);
        Ok(answer)
    }

    /// A challenge that looks like any other and that nobody can answer.
    fn decoy(&self, state: &mut State, asker: &Asker, fresh: &Fresh, now: Now) -> UbAnswer {
        let reveals = self.config.reveal_unknown;
        if !reveals && let Err(wait) = state.strangers.entry(asker.username.clone()).take(now.mono)
        {
            return UbAnswer::later(UbOutcome::Paced, wait);
        }
        self.decoy_challenge(fresh)
    }

    /// The answer to a TMPI that has ended: a challenge without a vector, on which the UE takes its IMPI.
    fn unknown_tmpi(&self, fresh: &Fresh) -> UbAnswer {
        self.print_challenge("", &hex(&fresh.opaque), UbOutcome::TmpiUnknown)
    }

    pub(super) fn print_challenge(
        &self,
        nonce: &str,
        opaque: &str,
        outcome: UbOutcome,
    ) -> UbAnswer {
        let offer = |algorithm: &AkaAlgorithm| {
            let value = message::challenge(&self.realm, nonce, *algorithm, opaque);
            ("WWW-Authenticate", value)
        };
        let headers = self.config.algorithms.iter().map(offer).collect();
        UbAnswer { status: 401, headers, body: Vec::new(), outcome }
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

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
}

//! The UE, bootstrap: the run on Ub with a card, whichever HTTP client carries it; `bootstrap_digest` has that with a
//! password.
//!
//! Takes:   a [`Usim`], whom to ask, and each answer of the server with fresh randomness and the time.
//! Gives:   [`UbGet`], the next request; at the end [`Bootstrapped`], from which NAF keys are derived.
//! Keeps:   what it needs between two answers: for one run a handful of octets and RES.
//! Refuses: a network that is not ours, a challenge without `auth-int`, a 200 whose `rspauth` does not cover the
//!          body octet for octet, a key that is over. After two refused responses it gives up.
//! Sources: TS 24.109 clause 4 and annexes A and C; TS 33.220 clause 4.5.2 and annex B.4; RFC 3310 section 3;
//!          RFC 4169 section 4.1 (AKAv2 before AKAv1).
//!
//! The run:
//!
//! 1. A GET with the IMPI, or with the TMPI of the last run.
//! 2. 401: the card answers. RES: a GET with the response. Out of step: a GET with AUTS and an empty password, and
//!    step 2 again, once. A challenge that no card of ours can check, on a TMPI: step 1 with the IMPI.
//! 3. 200: `rspauth`, then the body. 401: step 2, at most twice.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::info::Info;
use crate::authentication::aka::{AkaAlgorithm, AkaNonce, AkaVersion, print_auts};
use crate::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::identity::{Btid, Impi};
use crate::instant::{Now, WallTime};
use crate::keys::bootstrap::{TMPI_TOKEN, has_tmpi_token};
use crate::keys::derivation::{
    DeriveError, derive_ks_digest_naf, derive_ks_int_naf, derive_ks_naf, derive_tmpi,
};
use crate::keys::usim::{CardAnswer, Usim};
use crate::keys::vector::{SessionKey, ks};
use crate::keys::{GbaType, Ks, KsNaf, NafId, Rand};
use crate::wire::Challenge;
use crate::wire::auth::pairs;

/// Most responses that are sent in one run.
pub const RESPONSES_MAX: u8 = 2;

/// Whom to ask and as whom.
#[derive(Clone, Debug)]
pub struct UbPlan {
    /// The private identity.
    pub impi: Impi,
    /// The server's FQDN: `Host`, and `realm` of the first request unless another is given.
    pub server: Arc<str>,
    /// The realm that the server has to name; any, if there is none.
    pub realm: Option<Arc<str>>,
    /// The request-target.
    pub path: Arc<str>,
    /// The product in `User-Agent`.
    pub product: Arc<str>,
    /// What may be answered.
    pub algorithms: Vec<AkaAlgorithm>,
}

impl UbPlan {
    /// `impi` at `server`: the path `/`, AKAv1-MD5.
    pub fn new(impi: Impi, server: &str) -> Self {
        Self {
            impi,
            server: server.into(),
            realm: None,
            path: "/".into(),
            product: concat!("sipward/", env!("CARGO_PKG_VERSION")).into(),
            algorithms: vec![AkaAlgorithm::V1_MD5],
        }
    }
}

/// A request to send: a GET without body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UbGet {
    /// The request-target.
    pub target: Arc<str>,
    /// `Host`.
    pub host: Arc<str>,
    /// `User-Agent`.
    pub user_agent: String,
    /// `Authorization`.
    pub authorization: String,
}

/// An answer as it came. The body is what is left after the transfer coding is undone, and nothing else is.
#[derive(Clone, Copy, Debug, Default)]
pub struct UbReply<'a> {
    /// The status code.
    pub status: u16,
    /// Every `WWW-Authenticate` value.
    pub challenges: &'a [&'a [u8]],
    /// The `Authentication-Info` value.
    pub authentication_info: Option<&'a [u8]>,
    /// The `Server` value.
    pub server: Option<&'a [u8]>,
    /// The body.
    pub body: &'a [u8],
}

/// What comes next.
#[derive(Debug)]
pub enum UbNext {
    /// Send this.
    Get(UbGet),
    /// The run is over.
    Done(Box<Bootstrapped>),
}

/// Why a run ended without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UbFailure {
    /// The challenge was not made with this card's key: another network, or another subscriber.
    NetworkNotOurs,
    /// No challenge that this UE can and may answer: algorithm, realm, qop or nonce.
    NoUsableChallenge,
    /// Out of step with the network even after it was told.
    OutOfStep,
    /// The server took no response, or refused for good, with this status.
    Refused(u16),
    /// The server did not prove that it knows the key, or the body was altered on the way.
    ServerUnproved,
    /// The body is not what a BSF sends.
    BodyMalformed,
    /// The key was over when it came; the clocks differ.
    KeyOver,
}

impl fmt::Display for UbFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkNotOurs => f.write_str(
                "the challenge was not made with this subscriber's key (wrong K or OPc, an IMPI that the \
                 server does not know, or another network)",
            ),
            Self::NoUsableChallenge => {
                f.write_str("the server's challenge offers nothing that can be answered")
            }
            Self::OutOfStep => {
                f.write_str("the sequence numbers of card and network are out of step, and stay so")
            }
            Self::Refused(status) => write!(f, "the server refused with {status}"),
            Self::ServerUnproved => {
                f.write_str("the server's answer is not proved by rspauth, or was altered")
            }
            Self::BodyMalformed => f.write_str("the server's answer is no BootstrappingInfo"),
            Self::KeyOver => f.write_str("the key was over when it came: compare the clocks"),
        }
    }
}

impl std::error::Error for UbFailure {}

/// What a run was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A card, on this challenge.
    Card(Rand),
    /// A password, on this nonce.
    Password(Arc<str>),
}

/// A run that ended well.
#[derive(Clone)]
pub struct Bootstrapped {
    /// The private identity; never the TMPI.
    pub impi: Impi,
    /// The name of the key.
    pub btid: Btid,
    /// The key.
    pub ks: Ks,
    /// What it was made with.
    pub origin: Origin,
    /// When the run was.
    pub created: WallTime,
    /// When the key ends, by this UE's clock.
    pub expires: WallTime,
    /// The name for the next run, if the server knows such names.
    pub tmpi: Option<Impi>,
}

impl Bootstrapped {
    /// The kind of its key.
    pub fn kind(&self) -> GbaType {
        match self.origin {
            Origin::Card(_) => GbaType::Aka,
            Origin::Password(_) => GbaType::Digest,
        }
    }

    /// Ks_NAF.
    ///
    /// # Errors
    ///
    /// As [`derive_ks_naf`].
    pub fn naf_key(&self, naf: &NafId) -> Result<KsNaf, DeriveError> {
        match &self.origin {
            Origin::Card(rand) => derive_ks_naf(&self.ks, rand, &self.impi, naf),
            Origin::Password(nonce) => {
                derive_ks_digest_naf(&self.ks, nonce.as_bytes(), &self.impi, naf)
            }
        }
    }

    /// Ks_int_NAF, for a card that does GBA_U.
    ///
    /// # Errors
    ///
    /// As [`derive_ks_int_naf`]; [`DeriveError::NoCard`] of a run with a password.
    pub fn naf_key_internal(&self, naf: &NafId) -> Result<KsNaf, DeriveError> {
        let Origin::Card(rand) = &self.origin else { return Err(DeriveError::NoCard) };
        derive_ks_int_naf(&self.ks, rand, &self.impi, naf)
    }

    /// The digest password at a NAF: base64 of Ks_NAF.
    ///
    /// # Errors
    ///
    /// As [`derive_ks_naf`].
    pub fn naf_password(&self, naf: &NafId) -> Result<Zeroizing<String>, DeriveError> {
        self.naf_key(naf).map(|key| Zeroizing::new(BASE64.encode(key.expose())))
    }
}

impl fmt::Debug for Bootstrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bootstrapped({}, until {})", self.btid, self.expires.as_unix())
    }
}

/// One run.
#[derive(Debug)]
pub struct Bootstrap<'a> {
    plan: &'a UbPlan,
    card: &'a mut Usim,
    tmpi: Option<Impi>,
    phase: Phase,
    responses: u8,
    resynchronised: bool,
}

#[derive(Debug)]
enum Phase {
    /// The first GET is out, or one with AUTS: a challenge is due.
    Asked,
    /// A response is out.
    Answered(Box<Answered>),
    /// Done, or given up.
    Over,
}

/// What the response was made of.
#[derive(Debug)]
struct Answered {
    rand: Rand,
    ck: SessionKey,
    ik: SessionKey,
    proof: Proof,
}

/// A challenge that can be answered.
struct Offer {
    algorithm: AkaAlgorithm,
    nonce: AkaNonce,
    asked: Asked,
}

impl<'a> Bootstrap<'a> {
    /// A run with `card`; `tmpi` is the name that the last run left, if its key still lives.
    ///
    /// Whatever comes of the run, write [`Usim::window`] down after it.
    pub fn new(plan: &'a UbPlan, card: &'a mut Usim, tmpi: Option<Impi>) -> Self {
        let phase = Phase::Asked;
        Self { plan, card, tmpi, phase, responses: 0, resynchronised: false }
    }

    /// The first request.
    pub fn start(&mut self) -> UbGet {
        self.phase = Phase::Asked;
        let realm = self.plan.realm.as_deref().unwrap_or(&self.plan.server);
        self.get(format!(
            "Digest username=\"{}\",realm=\"{realm}\",nonce=\"\",uri=\"{}\",response=\"\"",
            self.username(),
            self.plan.path
        ))
    }

    /// Takes an answer. `cnonce` is random.
    ///
    /// # Errors
    ///
    /// [`UbFailure`]; the run is over then.
    pub fn handle(
        &mut self,
        reply: &UbReply<'_>,
        cnonce: [u8; 16],
        now: Now,
    ) -> Result<UbNext, UbFailure> {
        match (reply.status, std::mem::replace(&mut self.phase, Phase::Over)) {
            (401, Phase::Asked | Phase::Answered(_)) => self.challenged(reply, cnonce),
            (200, Phase::Answered(answered)) => self.conclude(*answered, reply, now),
            (400..=499, _) if self.tmpi.take().is_some() => Ok(UbNext::Get(self.start())),
            (status, _) => Err(UbFailure::Refused(status)),
        }
    }

    /// Step 2.
    fn challenged(&mut self, reply: &UbReply<'_>, cnonce: [u8; 16]) -> Result<UbNext, UbFailure> {
        let offer = match self.offer(reply.challenges) {
            Some(offer) => offer,
            None => return self.without_tmpi(UbFailure::NoUsableChallenge),
        };
        let answer = match self.card.authenticate(&offer.nonce.rand, &offer.nonce.autn) {
            Ok(answer) => answer,
            Err(_) => return self.without_tmpi(UbFailure::NetworkNotOurs),
        };
        match answer {
            CardAnswer::OutOfStep(auts) if !self.resynchronised => {
                self.resynchronised = true;
                self.phase = Phase::Asked;
                let (_, credentials) = self.credentials(offer, cnonce, b"");
                let auts = print_auts(&auts);
                Ok(UbNext::Get(self.get(format!("{credentials},auts=\"{auts}\""))))
            }
            CardAnswer::OutOfStep(_) => Err(UbFailure::OutOfStep),
            CardAnswer::Good(_) if self.responses >= RESPONSES_MAX => Err(UbFailure::Refused(401)),
            CardAnswer::Good(answers) => {
                self.responses = self.responses.saturating_add(1);
                let password = offer
                    .algorithm
                    .password(answers.res.expose(), &answers.ck, &answers.ik)
                    .ok_or(UbFailure::NoUsableChallenge)?;
                let (rand, ck, ik) = (offer.nonce.rand, answers.ck, answers.ik);
                let (proof, credentials) = self.credentials(offer, cnonce, &password);
                self.phase = Phase::Answered(Box::new(Answered { rand, ck, ik, proof }));
                Ok(UbNext::Get(self.get(credentials)))
            }
        }
    }

    /// Begins again with the IMPI if the TMPI may be to blame.
    fn without_tmpi(&mut self, failure: UbFailure) -> Result<UbNext, UbFailure> {
        match self.tmpi.take() {
            Some(_) => Ok(UbNext::Get(self.start())),
            None => Err(failure),
        }
    }

    /// The challenge to answer: the topmost that is known, AKAv2 before AKAv1.
    fn offer(&self, rows: &[&[u8]]) -> Option<Offer> {
        let offers: Vec<Offer> = rows.iter().filter_map(|row| self.read(row)).collect();
        let best = offers.iter().position(|offer| offer.algorithm.version == AkaVersion::V2);
        offers.into_iter().nth(best.unwrap_or(0))
    }

    fn read(&self, row: &[u8]) -> Option<Offer> {
        let challenge = Challenge::parse(row).ok().flatten()?;
        let algorithm = AkaAlgorithm::of(challenge.param("algorithm")?)?;
        let asked = Asked::read(&challenge, self.plan.realm.as_deref())?;
        let nonce = AkaNonce::parse(asked.nonce.as_bytes())?;
        let taken = self.plan.algorithms.contains(&algorithm);
        taken.then_some(Offer { algorithm, nonce, asked })
    }

    /// What the server is to prove, and the value of `Authorization`.
    fn credentials(&self, offer: Offer, cnonce: [u8; 16], password: &[u8]) -> (Proof, String) {
        let Offer { algorithm, asked, .. } = offer;
        let hash = (algorithm.hash, algorithm.session);
        let proof = asked.prove(self.username(), hash, cnonce, password);
        let credentials = proof.credentials(&self.plan.path, algorithm.as_str());
        (proof, credentials)
    }

    /// Step 3.
    fn conclude(
        &self,
        answered: Answered,
        reply: &UbReply<'_>,
        now: Now,
    ) -> Result<UbNext, UbFailure> {
        let (info, expires) = answered.proof.conclude(&self.plan.path, reply, now)?;
        let ks = ks(&answered.ck, &answered.ik);
        let (impi, rand) = (self.plan.impi.clone(), answered.rand);
        let tmpi = reply
            .server
            .is_some_and(has_tmpi_token)
            .then(|| derive_tmpi(&ks, &rand, &impi, info.btid.bsf()).ok())
            .flatten();
        let created = now.wall;
        let origin = Origin::Card(rand);
        let done = Bootstrapped { impi, btid: info.btid, ks, origin, created, expires, tmpi };
        Ok(UbNext::Done(Box::new(done)))
    }

    fn username(&self) -> &Impi {
        self.tmpi.as_ref().unwrap_or(&self.plan.impi)
    }

    fn get(&self, authorization: String) -> UbGet {
        UbGet {
            target: self.plan.path.clone(),
            host: self.plan.server.clone(),
            user_agent: format!("{} {TMPI_TOKEN}", self.plan.product),
            authorization,
        }
    }
}

/// What a challenge asks for, whether of a card or of a password.
pub(super) struct Asked {
    pub(super) realm: String,
    /// The nonce as it stands between its quotes.
    pub(super) nonce: String,
    opaque: Option<String>,
}

impl Asked {
    /// Reads it; `None` if the response is not to cover the body, or the realm is another than `own`.
    pub(super) fn read(challenge: &Challenge<'_>, own: Option<&str>) -> Option<Self> {
        let text = |name| {
            let value = std::str::from_utf8(challenge.param(name)?).ok()?;
            let printable = |c: char| !c.is_control() && c != '"' && c != '\\';
            value.chars().all(printable).then(|| value.to_owned())
        };
        let covers_body = challenge
            .param("qop")?
            .split(|octet| *octet == b',')
            .any(|qop| qop.trim_ascii().eq_ignore_ascii_case(b"auth-int"));
        let (realm, nonce) = (text("realm")?, text("nonce")?);
        let right = own.is_none_or(|own| own == realm) && covers_body;
        right.then(|| Self { realm, nonce, opaque: text("opaque") })
    }

    /// Answers it.
    pub(super) fn prove(
        self,
        username: &Impi,
        (hash, session): (Hash, bool),
        cnonce: [u8; 16],
        password: &[u8],
    ) -> Proof {
        let ha1 = Ha1::new(hash, username.as_str().as_bytes(), self.realm.as_bytes(), password);
        let cnonce = cnonce.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
        Proof { username: username.clone(), ha1, hash, session, cnonce, asked: self }
    }
}

/// What a response is made of: the 200 is proved with the same.
pub(super) struct Proof {
    username: Impi,
    ha1: Ha1,
    hash: Hash,
    session: bool,
    cnonce: String,
    pub(super) asked: Asked,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl Proof {
    /// The response to a request, or with an empty method the one that the server owes.
    pub(super) fn response(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let inputs = Inputs {
            hash: self.hash,
            session: self.session,
            method: method.as_bytes(),
            uri: path.as_bytes(),
            nonce: self.asked.nonce.as_bytes(),
            cnonce: self.cnonce.as_bytes(),
            nc: NC,
            qop: Qop::AuthInt(body),
        };
        Response::compute(&self.ha1, &inputs)
    }

    /// The value of `Authorization`.
    pub(super) fn credentials(&self, path: &str, algorithm: &str) -> String {
        let response = self.response("GET", path, b"");
        let response = String::from_utf8_lossy(response.as_hex());
        let (Asked { realm, nonce, opaque }, cnonce) = (&self.asked, &self.cnonce);
        let mut text = format!(
            "Digest username=\"{}\",realm=\"{realm}\",nonce=\"{nonce}\",uri=\"{path}\",\
             qop=auth-int,nc=00000001,cnonce=\"{cnonce}\",response=\"{response}\"",
            self.username
        );
        if let Some(opaque) = opaque {
            text.push_str(&format!(",opaque=\"{opaque}\""));
        }
        text.push_str(&format!(",algorithm={algorithm}"));
        text
    }

    /// What a 200 says, and when its key ends by our clock.
    ///
    /// # Errors
    ///
    /// [`UbFailure`], if it is not proved, says nothing, or is over.
    pub(super) fn conclude(
        &self,
        path: &str,
        reply: &UbReply<'_>,
        now: Now,
    ) -> Result<(Info, WallTime), UbFailure> {
        self.holds(path, reply).ok_or(UbFailure::ServerUnproved)?;
        let info = Info::parse(reply.body).ok_or(UbFailure::BodyMalformed)?;
        let expires = match info.current {
            Some(current) => now.wall + info.lifetime.since(current),
            None => info.lifetime,
        };
        if expires <= now.wall { Err(UbFailure::KeyOver) } else { Ok((info, expires)) }
    }

    /// Whether `rspauth` covers the body with the key that both have.
    fn holds(&self, path: &str, reply: &UbReply<'_>) -> Option<()> {
        let params = pairs(reply.authentication_info?).ok()?;
        let param = |name: &str| {
            let mut params = params.iter();
            let found = params.find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
            found.map(|(_, value)| value.as_ref())
        };
        let same = |name, own: &[u8]| param(name).is_none_or(|value| value == own);
        if !same("cnonce", self.cnonce.as_bytes()) || !same("nc", NC) {
            return None;
        }
        if !param("qop").is_none_or(|qop| qop.eq_ignore_ascii_case(b"auth-int")) {
            return None;
        }
        self.response("", path, reply.body).verify(param("rspauth")?).then_some(())
    }
}

/// A challenge is answered once, so the count is always the first.
const NC: &[u8] = b"00000001";

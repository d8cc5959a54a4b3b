//! Stage 4, the AKA realm: subscribers that prove themselves with their card, challenge by challenge.
//!
//! 1. Credentials that name the realm and no open challenge wait for a vector.
//! 2. The vector is there: the request is challenged with it. It waits for one answer, for one minute.
//! 3. An answer is read whole, then its challenge is taken out, whatever comes of it.
//! 4. An `auts`: its response has an empty password; the number goes to the subscriber's server; step 2.
//! 5. The right response: the caller is the subscriber.
//!
//! Takes:   credentials of the realm; from the shell, what [`crate::keys::VectorSource`] said.
//! Gives:   a caller; the rows of a challenge; or the vector that has to be fetched.
//! Keeps:   at most `max_challenges` challenges; at most 16 384 vectors that came for a request and were not used.
//! Refuses: an algorithm that is not offered, a count other than one, a challenge of another name, a wrong response.
//!          Who sends one spends the challenge it answers, and has to know its nonce, 32 octets that went to the UE
//!          alone: a stranger can spend nobody's. A name that is nobody's is challenged and refused like any other.
//! Sources: RFC 3310 sections 3.1 to 3.5; RFC 4169 sections 2 and 4; RFC 8760 section 2; V-100.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::aka::{AkaAlgorithm, AkaNonce, parse_auts};
use super::caller::{Caller, Renewal};
use super::challenge::{EITHER, Row};
use super::digest::{Ha1, Inputs, Qop, Response};
use crate::admission::Recent;
use crate::gate::{Gate, Halt, Lookup};
use crate::identity::{Impi, Principal, Proof, Realm};
use crate::instant::{Instant, Now};
use crate::keys::vector::Auts;
use crate::keys::{AkaVector, Rand, VectorAnswer};
use crate::refusal::Refusal;
use crate::wire::{Credentials, Message};

/// How long a challenge may be answered.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(60);
/// Most vectors that came and were not used yet.
const READY_MAX: usize = 16_384;
/// How long one is kept: longer than a request waits.
const READY_LIFETIME: Duration = Duration::from_secs(5);

/// What a card's sequence number is taken over from: its challenge and its AUTS.
pub type Resync = (Rand, Auts);

/// What the realm is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, as UEs send it: the domain of the IMPI.
    pub realm: Realm,
    /// What is offered, the preferred one first. Offer AKAv1 and AKAv2 together to no one (RFC 4169 section 4.1).
    pub algorithms: Vec<AkaAlgorithm>,
    /// Most challenges that wait for their answer.
    pub max_challenges: usize,
}

impl Settings {
    /// A realm that offers AKAv1-MD5, as all cards' phones know it.
    pub fn new(realm: Realm) -> Self {
        Self { realm, algorithms: vec![AkaAlgorithm::V1_MD5], max_challenges: 100_000 }
    }
}

/// The realm, and the challenges of it that are open.
pub struct AkaRealm {
    settings: Settings,
    /// Numbers the requests that wait, so that each gets a vector of its own.
    key: [u8; 16],
    ready: Recent<Lookup, Option<VectorAnswer>>,
    open: Recent<Rand, Option<Open>>,
}

/// A challenge that was not answered yet.
#[derive(Clone)]
struct Open {
    impi: Impi,
    nonce: AkaNonce,
    born: Instant,
    vector: Arc<AkaVector>,
}

/// A caller whose response was right, with what the answer's proof is computed from.
pub(super) struct Verified {
    pub(super) caller: Arc<Caller>,
    pub(super) ha1: Ha1,
    pub(super) algorithm: AkaAlgorithm,
}

impl std::fmt::Debug for AkaRealm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AkaRealm").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AkaRealm {
    /// The realm. `key` is any secret octets.
    pub fn new(settings: Settings, key: [u8; 16]) -> Self {
        let open = Recent::new(settings.max_challenges, CHALLENGE_LIFETIME);
        Self { settings, key, ready: Recent::new(READY_MAX, READY_LIFETIME), open }
    }

    /// The realm of `of`, whose challenges stay open. A vector that waits for its request is not among them.
    pub(super) fn trial(of: &Arc<Gate>) -> Option<Self> {
        let Self { settings, key, open, .. } = of.authentication.aka()?;
        let beneath = Arc::clone(of);
        let open = Recent::over(open, move |key, now| match beneath.authentication.aka() {
            Some(aka) => aka.open.peek(key, now),
            None => (None, Instant::START),
        });
        let ready = Recent::new(READY_MAX, READY_LIFETIME);
        Some(Self { settings: settings.clone(), key: *key, ready, open })
    }

    /// Whether `realm` is this one.
    pub fn is_realm(&self, realm: &[u8]) -> bool {
        self.settings.realm.as_str().as_bytes() == realm
    }

    /// Whether credentials are for this realm's cards: accounts may have a realm of the same name.
    pub fn takes(&self, row: &Credentials<'_>) -> bool {
        self.is_realm(row.realm())
            && match row.algorithm() {
                Some(name) => AkaAlgorithm::of(name).is_some(),
                None => row.nonce().is_empty(),
            }
    }

    /// What the source said to a lookup: the request that waits takes it when it is resumed.
    pub fn put(&self, lookup: Lookup, answer: VectorAnswer, now: Now) {
        self.ready.with(lookup, now.mono, |place, _| *place = Some(answer));
    }

    /// Challenges and vectors held.
    pub fn footprint(&self) -> usize {
        self.ready.len().saturating_add(self.open.len())
    }

    /// The rows of a challenge; with an empty nonce they name the realm, and the UE then names itself.
    pub(super) fn rows(&self, nonce: Option<&AkaNonce>) -> impl Iterator<Item = Row> {
        let nonce = nonce.map(AkaNonce::print).unwrap_or_default();
        self.settings.algorithms.iter().enumerate().map(move |(rank, algorithm)| {
            let realm = &self.settings.realm;
            let value = format!(
                "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, {EITHER}"
            );
            Row { value, rank }
        })
    }

    /// Judges credentials that this realm takes. Inside dialogs a nonce that is not open is reported, not replaced.
    pub(super) fn verify(
        &self,
        row: &Credentials<'_>,
        message: &Message,
        in_dialog: bool,
        now: Now,
    ) -> Result<Verified, Halt> {
        let bad = || Halt::from(Refusal::BadCredentials);
        let username = std::str::from_utf8(row.username()).ok();
        let impi = username.and_then(Impi::new).ok_or_else(bad)?;
        let request = self.number(message);
        let wanted = |resync| Lookup::AkaVector { impi: impi.clone(), resync, request };
        let nonce = AkaNonce::parse(row.nonce());
        let auts = row.param("auts").map(|auts| parse_auts(auts).ok_or_else(bad)).transpose()?;
        let resync = auts.and_then(|auts| nonce.as_ref().map(|nonce| (nonce.rand, auts)));
        for lookup in [wanted(resync), wanted(None)] {
            if let Some(answer) = self.ready.remove(&lookup, now.mono).flatten() {
                return Err(self.challenge(impi, answer, now));
            }
        }
        let Some(nonce) = nonce.filter(|nonce| self.is_open(nonce, now)) else {
            let silent = in_dialog && !row.nonce().is_empty();
            let wait = || Halt::Wait(wanted(None));
            return Err(if silent { Refusal::NonceUnknown.into() } else { wait() });
        };
        let (algorithm, inputs) = self.read(row, message).ok_or_else(bad)?;
        let open = self.open.remove(&nonce.rand, now.mono).flatten();
        let open = open.filter(|open| open.impi == impi).ok_or_else(bad)?;
        let ha1 = |password: &[u8]| {
            let (username, realm) = (row.username(), row.realm());
            Ha1::new(algorithm.hash, username, realm, password)
        };
        let right = |ha1: &Ha1| Response::compute(ha1, &inputs).verify(row.response());
        if let Some(resync) = resync {
            let fits = right(&ha1(b""));
            return Err(if fits { Halt::Wait(wanted(Some(resync))) } else { bad() });
        }
        let AkaVector { vector, identities } = &*open.vector;
        let password = algorithm.password(vector.xres.expose(), &vector.ck, &vector.ik);
        let ha1 = ha1(&password.ok_or_else(bad)?);
        let identities = identities.clone().filter(|_| right(&ha1)).ok_or_else(bad)?;
        let caller = Caller {
            principal: Principal::new(Proof::Aka, impi.as_str()),
            renewal: Renewal::default(),
            identities,
            key_name: impi.as_str().into(),
            expires: None,
            strongest: AtomicU8::new(0),
            rights: Default::default(),
        };
        Ok(Verified { caller: Arc::new(caller), ha1, algorithm })
    }

    /// Step 2.
    fn challenge(&self, impi: Impi, answer: VectorAnswer, now: Now) -> Halt {
        let vector = match answer {
            VectorAnswer::Known(vector) => vector,
            VectorAnswer::AutsWrong => return Refusal::BadCredentials.into(),
            VectorAnswer::Unavailable => return Refusal::KeySourceUnavailable.into(),
        };
        let nonce = AkaNonce::new(vector.vector.rand, vector.vector.autn);
        let open = Open { impi, nonce: nonce.clone(), born: now.mono, vector: Arc::from(vector) };
        self.open.with(nonce.rand, now.mono, |place, _| *place = Some(open));
        Halt::Challenge(nonce)
    }

    fn is_open(&self, nonce: &AkaNonce, now: Now) -> bool {
        let found = self.open.get(&nonce.rand, now.mono, |place| {
            place.as_ref().is_some_and(|open| {
                open.nonce == *nonce && now.mono.since(open.born) < CHALLENGE_LIFETIME
            })
        });
        found.unwrap_or(false)
    }

    /// Step 3: the parts of an answer; `None` if it is not one to what was offered.
    fn read<'a>(
        &self,
        row: &'a Credentials<'_>,
        message: &'a Message,
    ) -> Option<(AkaAlgorithm, Inputs<'a>)> {
        let algorithm = AkaAlgorithm::of(row.algorithm()?)?;
        let offered =
            |own: &AkaAlgorithm| (own.version, own.hash) == (algorithm.version, algorithm.hash);
        let qop = match row.qop() {
            b"auth" => Qop::Auth,
            b"auth-int" => Qop::AuthInt(message.body()),
            _ => return None,
        };
        let whole = self.settings.algorithms.iter().any(offered)
            && row.nonce_count() == Some(1)
            && !row.cnonce().is_empty();
        whole.then(|| {
            let inputs = Inputs {
                hash: algorithm.hash,
                session: algorithm.session,
                method: message.method_octets(),
                uri: row.uri(),
                nonce: row.nonce(),
                cnonce: row.cnonce(),
                nc: row.nc(),
                qop,
            };
            (algorithm, inputs)
        })
    }

    /// The same for each copy of a request, another for each request: one vector for one challenge.
    fn number(&self, message: &Message) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for part in [message.call_id(), message.from_tag(), message.branch()] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }
}

//! Stage 4, authentication: who is asking?
//!
//! Takes:   [`Admitted`]: a message, and where it came from.
//! Gives:   [`Authenticated`]: with the evidence that the request, its channel and its flow show.
//! Keeps:   nonce windows, flows on which something was proved, the best algorithm of each account, open challenges
//!          of cards; bounded.
//! Refuses: requests outside dialogs without evidence (challenge), credentials that contradict themselves
//!          (400), subscribers whom the key server keeps from us (403). Inside dialogs it reports what it found,
//!          and stage 5 judges. Unknown names, wrong responses and unknown keys look alike.
//! Sources: RFC 3261 section 22; RFC 7616; RFC 8760; TS 24.109 clause 5.2; SEC_CF 1.1 AUTH-001.

pub mod accounts;
pub mod aka;
pub mod aka_realm;
pub mod caller;
#[cfg(feature = "edge")]
pub mod certificate_users;
pub mod challenge;
pub mod digest;
pub mod flows;
pub mod gba;
pub mod info;
mod keyed;
pub mod nonce;
mod ready;
pub mod sec_agree;
#[cfg(feature = "edge")]
pub mod tls_identity;
mod trial;
mod unproved;

use std::collections::{HashMap, HashSet};
use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

pub use accounts::Accounts;
pub use aka_realm::AkaRealm;
pub use caller::{Caller, Evidence, Kind, Renewal, Rights, Uss};
pub use challenge::{Challenge, Offer};
pub use flows::ProvedFlows;
pub use gba::Naf;
pub use info::ServerProof;
pub(crate) use keyed::{bootstrapped, principal_of};
pub use nonce::Nonces;
pub use ready::Ready;
pub use sec_agree::{Agreed, Agreement};

use crate::admission::{Admitted, Recent};
use crate::enabler::{Class, ClassSet};
use crate::gate::{Halt, Lookup};
use crate::identity::{Proof, Realm};
use crate::instant::Now;
use crate::keys::KeySource;
use crate::refusal::Refusal;
use crate::transport::{Arrival, ListenerId, Side};
use crate::wire::uri::host_address;
use crate::wire::{Credentials, Fault, Message, Method, Name, Span, Uri};
use aka::AkaNonce;
use digest::{Hash, Inputs, Qop};
use nonce::Spent;
use unproved::Unproved;

/// What stage 4 is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is offered.
    pub offer: Offer,
    /// The realm of plain accounts, if there are any.
    pub account_realm: Option<Realm>,
    /// The NAF, if keys of a bootstrapping server are taken.
    pub naf: Option<Naf>,
    /// The realm of cards, if they prove themselves here.
    pub aka: Option<aka_realm::Settings>,
    /// Domains and addresses that digest-uris may name (`AU`, `digest.uri_check`).
    pub served: HashSet<String>,
    /// Whether the digest-uri must equal the Request-URI.
    pub uri_strict: bool,
    /// Whether an account that has used a better algorithm is held to it.
    pub algorithm_lock: bool,
    /// Listeners with security agreements (`SA`).
    pub agreements: HashMap<ListenerId, Agreement>,
    /// Whether evidence on a secure flow counts for later requests inside dialogs.
    pub secure_flow_anchor: bool,
    /// Most flows remembered.
    pub max_flows: usize,
    /// Most principals of one secure flow.
    pub principals_max: usize,
}

/// Stage 4.
pub struct Authentication {
    settings: ArcSwap<Settings>,
    accounts: ArcSwap<Accounts>,
    keys: Arc<dyn KeySource>,
    nonces: Nonces,
    aka: Option<AkaRealm>,
    flows: ProvedFlows,
    /// The best algorithm of each bootstrapped key, by B-TID: the key itself may be dropped and asked for again.
    best: Recent<Arc<str>, u8>,
    unproved: Unproved,
    /// Whether nothing that is noted of callers may be kept.
    aside: bool,
    /// Takes the place of a key that is not known, so that the arithmetic is the same.
    decoy: [u8; 32],
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Settings {
    /// Whether a digest-uri is the Request-URI, or names a domain or address served here.
    fn serves(&self, digest_uri: &[u8], message: &Message) -> bool {
        if digest_uri == message.request_uri() {
            return true;
        }
        if self.uri_strict {
            return false;
        }
        let Some(uri) = Uri::parse(digest_uri) else { return false };
        let host = uri.host().strip_suffix(b".").unwrap_or(uri.host()).to_ascii_lowercase();
        let host = match host_address(&host) {
            Some(address) => address.to_string(),
            None => String::from_utf8(host).unwrap_or_default(),
        };
        self.served.contains(&host)
    }
}

/// A message whose sender is known as far as it can be: evidence of stages 3 and 4.
#[derive(Debug)]
pub struct Authenticated<'m> {
    admitted: Admitted<'m>,
    evidence: Evidence,
    failure: Option<Refusal>,
    disagreement: Option<Refusal>,
    proof: Option<Arc<ServerProof>>,
    own_rows: Option<SmallVec<[Span; 2]>>,
}

impl<'m> Authenticated<'m> {
    fn new(admitted: Admitted<'m>, evidence: Evidence) -> Self {
        Self { admitted, evidence, failure: None, disagreement: None, proof: None, own_rows: None }
    }

    /// What stage 3 admitted.
    pub fn admitted(&self) -> &Admitted<'m> {
        &self.admitted
    }

    /// What was shown.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The values of credentials for our realms, if the message was searched for them.
    pub fn own_rows(&self) -> Option<&[Span]> {
        self.own_rows.as_deref()
    }

    /// What was wrong with the credentials of a request inside a dialog.
    pub fn failure(&self) -> Option<Refusal> {
        self.failure
    }

    /// What is wrong with the security agreement of a request inside a dialog.
    pub fn disagreement(&self) -> Option<Refusal> {
        self.disagreement
    }

    /// What the edge proves itself with in the answer, where it stands in for the registrar.
    pub fn proof(&self) -> Option<&Arc<ServerProof>> {
        self.proof.as_ref()
    }
}

impl Authentication {
    /// Stage 4. `decoy` is any secret octets.
    pub fn new(
        settings: Settings,
        accounts: Arc<Accounts>,
        keys: Arc<dyn KeySource>,
        nonces: Nonces,
        decoy: [u8; 32],
    ) -> Self {
        let max_flows = settings.max_flows;
        let flows = ProvedFlows::new(max_flows, settings.principals_max);
        let key = decoy.first_chunk::<16>().copied().unwrap_or_default();
        let aka = settings.aka.clone().map(|settings| AkaRealm::new(settings, key));
        let (settings, accounts) = (ArcSwap::from_pointee(settings), ArcSwap::new(accounts));
        let best = Recent::new(max_flows, Duration::from_secs(24 * 3600));
        let unproved = Unproved::new(nonces.lifetime());
        Self { settings, accounts, keys, nonces, aka, flows, best, unproved, aside: false, decoy }
    }

    /// Puts other accounts in the place of the present ones, and gives those back. Who has used a better algorithm stays
    /// held to it.
    pub fn replace_accounts(&self, accounts: Arc<Accounts>) -> Arc<Accounts> {
        accounts.hold_as(&self.accounts.load());
        self.accounts.swap(accounts)
    }

    /// Puts other settings in the place of the present ones; flows, nonces and challenges stay. How many flows are
    /// remembered and the realm of cards are not changed by it.
    pub fn replace_settings(&self, settings: Settings) {
        self.flows.set_principals_max(settings.principals_max);
        self.unproved.set_lifetime(self.nonces.lifetime());
        self.settings.store(Arc::new(settings));
    }

    /// The nonces handed out.
    pub fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// What was proved on flows.
    pub fn flows(&self) -> &ProvedFlows {
        &self.flows
    }

    /// Whether it depends on the class of a request how it is challenged.
    pub fn asks_by_class(&self) -> bool {
        self.settings.load().offer.bridged != ClassSet::default()
    }

    /// The challenge to one request, which is of `class`.
    pub fn challenge(
        &self,
        message: &Message,
        arrival: &Arrival,
        class: Class,
        stale: bool,
        now: Now,
    ) -> Challenge {
        let (settings, to) = (self.settings.load(), (arrival, class));
        let mut challenge = settings.offer.challenge(message, to, &self.nonces, stale, now);
        challenge.rows.extend(self.aka.iter().flat_map(|aka| aka.rows(None)));
        challenge
    }

    /// The challenge to a request that asked for the realm of cards, with the vector that came for it.
    pub fn challenge_aka(
        &self,
        message: &Message,
        arrival: &Arrival,
        class: Class,
        nonce: &AkaNonce,
    ) -> Challenge {
        let rows = self.aka.iter().flat_map(|aka| aka.rows(Some(nonce))).collect();
        let status = self.settings.load().offer.status(message, arrival.flow.listener, class);
        Challenge { status, rows }
    }

    /// The challenge with which Digest begins where it is agreed on; none where it cannot be.
    ///
    /// Source: RFC 3329 section 2.4.
    pub fn challenge_agreed(
        &self,
        message: &Message,
        arrival: &Arrival,
        class: Class,
        now: Now,
    ) -> Option<Challenge> {
        let settings = self.settings.load();
        let agreement = settings.agreements.get(&arrival.flow.listener)?;
        let to = (arrival.flow.listener, class);
        let rows = |()| settings.offer.challenge_agreed(message, to, &self.nonces, now);
        agreement.has_digest().then_some(()).map(rows)
    }

    /// The value of Security-Server on a listener; `None` where agreements are off.
    pub fn security_server(&self, listener: ListenerId) -> Option<String> {
        self.settings.load().agreements.get(&listener).map(|one| one.list().to_owned())
    }

    /// Whether a listener agrees, so that the headers of agreements go no further.
    pub fn agrees(&self, listener: ListenerId) -> bool {
        self.settings.load().agreements.contains_key(&listener)
    }

    /// The realm of cards.
    pub fn aka(&self) -> Option<&AkaRealm> {
        self.aka.as_ref()
    }

    /// Whether `realm` is one whose credentials are consumed here.
    pub fn is_own_realm(&self, realm: &[u8]) -> bool {
        let settings = self.settings.load();
        let account = settings.account_realm.as_ref();
        account.is_some_and(|own| own.as_str().as_bytes() == realm)
            || settings.naf.as_ref().is_some_and(|naf| naf.is_realm(realm))
            || self.aka.as_ref().is_some_and(|aka| aka.is_realm(realm))
    }

    /// Finds out who sent one request.
    ///
    /// # Errors
    ///
    /// A [`Halt`]: a refusal, or the key that has to be asked for first.
    pub fn identify<'m>(
        &self,
        admitted: Admitted<'m>,
        now: Now,
    ) -> Result<Authenticated<'m>, Halt> {
        let arrival = admitted.arrival();
        let mut evidence = Evidence { peer: arrival.group, ..Evidence::default() };
        if arrival.side == Side::Core {
            if arrival.group.is_none() {
                return Err(Refusal::PeerUnknown.into());
            }
            return Ok(Authenticated::new(admitted, evidence));
        }
        evidence.peer = None;
        evidence.channel = arrival.channel.clone().filter(|caller| !caller.has_expired(now.wall));
        evidence.registered = self.flows.registered(&arrival.flow, now);
        if self.settings.load().secure_flow_anchor {
            evidence.secure_flow = self.flows.verified(&arrival.flow, now);
        }
        let mut found = Authenticated::new(admitted, evidence);
        let settings = self.settings.load();
        let agreement = settings.agreements.get(&arrival.flow.listener);
        let agreed = agreement.map_or(Ok(Agreed::None), |agreement| {
            agreement.judge(admitted.message(), &arrival.flow)
        });
        let agreed = match agreed {
            Ok(agreed) => agreed,
            Err(refusal) if admitted.in_dialog() => {
                // Whether there is such a dialog is asked first.
                found.disagreement = Some(refusal);
                return Ok(found);
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let list = match agreed {
            Agreed::Digest(digits) => agreement.map(|agreement| (agreement, digits)),
            Agreed::None | Agreed::Tls => None,
        };
        if matches!(admitted.method(), Method::Ack | Method::Cancel) {
            return Ok(found);
        }
        let (rows, spans) = own_rows(admitted.message(), |realm| self.is_own_realm(realm))?;
        found.own_rows = Some(spans);
        found.failure = match self.any_right(&rows, &admitted, list, now) {
            Ok(Some(Right { caller, proof, integral })) => {
                self.flows.note_verified(&arrival.flow, &caller, now);
                found.evidence.digest = Some(caller);
                found.evidence.integral = integral;
                found.proof = proof;
                None
            }
            Ok(None) => None,
            Err(Halt::Refuse(refusal)) => Some(refusal),
            Err(halt) => return Err(halt),
        };
        let disagrees = found.failure == Some(Refusal::AgreementMismatch);
        let unproved = list.is_some() && found.evidence.digest.is_none() && found.failure.is_none();
        if disagrees || unproved {
            found.disagreement = Some(Refusal::AgreementMismatch);
            found.failure = None;
        }
        if admitted.in_dialog() {
            return Ok(found);
        }
        if let Some(refusal) = found.disagreement {
            return Err(refusal.into());
        }
        if found.evidence.caller().is_some() {
            return Ok(found);
        }
        Err(found.failure.unwrap_or(Refusal::CredentialsMissing).into())
    }

    /// Whether a request may be somebody's who registered on its flow: it brings credentials in his name, or it is of a
    /// kind that is judged by its dialog.
    pub fn was_here(&self, admitted: &Admitted<'_>, now: Now) -> bool {
        let (message, arrival) = (admitted.message(), admitted.arrival());
        let callers = self.flows.registered(&arrival.flow, now);
        let Ok((rows, _)) = own_rows(message, |realm| self.is_own_realm(realm)) else {
            return false;
        };
        let is_his = |row: &Credentials<'_>| {
            let name = row.username();
            callers.iter().any(|caller| caller.key_name.as_bytes() == name)
        };
        let inside = admitted.in_dialog() || admitted.method() == Method::Cancel;
        !callers.is_empty() && (inside || !rows.is_empty()) && rows.iter().all(is_his)
    }

    /// Tries each row of our realms; the first that is right counts, else the last trouble.
    fn any_right(
        &self,
        rows: &[Credentials<'_>],
        admitted: &Admitted<'_>,
        list: Option<(&Agreement, &[u8])>,
        now: Now,
    ) -> Result<Option<Right>, Halt> {
        let mut trouble = None;
        for row in rows {
            match self.verify(row, admitted, list, now) {
                Ok(found) => return Ok(Some(found)),
                Err(Halt::Refuse(refusal)) => trouble = Some(refusal),
                Err(halt) => return Err(halt),
            }
        }
        trouble.map_or(Ok(None), |refusal| Err(refusal.into()))
    }

    /// Checks one response, the cheap parts first.
    fn verify(
        &self,
        row: &Credentials<'_>,
        admitted: &Admitted<'_>,
        list: Option<(&Agreement, &[u8])>,
        now: Now,
    ) -> Result<Right, Halt> {
        let (message, arrival) = (admitted.message(), admitted.arrival());
        let settings = &**self.settings.load();
        let bad = || Halt::from(Refusal::BadCredentials);
        if let Some(aka) = self.aka.as_ref().filter(|aka| aka.takes(row)) {
            // A card's response covers no list that was agreed on.
            return match list {
                Some(_) => Err(Refusal::AgreementMismatch.into()),
                None => self.verify_aka(aka, row, admitted, now),
            };
        }
        let algorithm = row.algorithm().unwrap_or(b"MD5");
        let (hash, session) = Hash::of(algorithm).ok_or_else(bad)?;
        if !settings.offer.algorithms(arrival.flow.listener).contains(&hash) {
            return Err(bad());
        }
        let qop = match row.qop() {
            b"auth" => Qop::Auth,
            b"auth-int" => Qop::AuthInt(message.body()),
            _ => return Err(bad()),
        };
        let count = row.nonce_count().ok_or_else(bad)?;
        if row.cnonce().is_empty() || !settings.serves(row.uri(), message) {
            return Err(bad());
        }
        let seal = self.nonces.open(row.nonce(), now).ok_or(Refusal::NonceUnknown)?;
        let inputs = Inputs {
            hash,
            session,
            method: message.method_octets(),
            uri: row.uri(),
            nonce: row.nonce(),
            cnonce: row.cnonce(),
            nc: row.nc(),
            qop,
        };
        let naf = settings.naf.as_ref().filter(|naf| naf.is_realm(row.realm()));
        let right = match naf {
            None => self.right_one(self.of_account(settings, row, hash), row, &inputs),
            Some(naf) => self.right_key(naf, admitted.class().family(), row, &inputs, now)?,
        };
        let (caller, ha1) = right.ok_or_else(bad)?;
        if list.is_some_and(|(agreement, digits)| !agreement.covers(digits, &ha1, &inputs)) {
            return Err(Refusal::AgreementMismatch.into());
        }
        self.hold_to_best(&caller, hash, settings.algorithm_lock, now)?;
        if self.unproved.knows(&seal, now) && self.may_wait(&seal, row) {
            return Err(Refusal::NonceStale.into());
        }
        let request = self.number(message);
        match self.nonces.spend(&seal, count, message.call_id(), request, now) {
            Spent::Fresh => {}
            Spent::Stale => return Err(Refusal::NonceStale.into()),
            Spent::Ask(asked) => return Err(Halt::Wait(Lookup::NonceCount(asked))),
            Spent::Away => return Err(Refusal::StoreUnavailable.into()),
        }
        let listener = admitted.arrival().flow.listener;
        let stands_in = settings.offer.status(message, listener, admitted.class()) == 401;
        let proof = stands_in.then(|| {
            let ageing = self.nonces.is_ageing(&seal, now);
            let next = ageing.then(|| self.nonces.issue(message.call_id(), now));
            Arc::new(ServerProof::new(row, ha1, hash, session, next))
        });
        Ok(Right { caller, proof, integral: matches!(qop, Qop::AuthInt(_)) })
    }

    fn hash_key(&self) -> [u8; 16] {
        self.decoy.first_chunk::<16>().copied().unwrap_or_default()
    }

    /// The same for each copy of a request, another for each request.
    fn number(&self, message: &Message) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key());
        for part in [message.call_id(), message.from_tag(), message.branch()] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }

    /// The same for the realm of cards.
    fn verify_aka(
        &self,
        aka: &AkaRealm,
        row: &Credentials<'_>,
        admitted: &Admitted<'_>,
        now: Now,
    ) -> Result<Right, Halt> {
        let message = admitted.message();
        let settings = self.settings.load();
        if !settings.serves(row.uri(), message) {
            return Err(Refusal::BadCredentials.into());
        }
        let found = aka.verify(row, message, admitted.in_dialog(), now)?;
        let listener = admitted.arrival().flow.listener;
        let stands_in = settings.offer.status(message, listener, admitted.class()) == 401;
        let aka_realm::Verified { caller, ha1, algorithm } = found;
        let proof = stands_in.then(|| {
            let (hash, session) = (algorithm.hash, algorithm.session);
            Arc::new(ServerProof::new(row, ha1, hash, session, None))
        });
        Ok(Right { caller, proof, integral: row.qop() == b"auth-int" })
    }

    /// Refuses a weaker algorithm than the same key has used before, like a wrong response.
    fn hold_to_best(&self, caller: &Caller, hash: Hash, lock: bool, now: Now) -> Result<(), Halt> {
        let rank: u8 = if hash == Hash::Md5 { 1 } else { 2 };
        let mut best = caller.strongest.load(Ordering::Relaxed);
        if best == 0 {
            best = self.best.get(&caller.key_name, now.mono, |best| *best).unwrap_or(0);
            caller.strongest.fetch_max(best, Ordering::Relaxed);
        }
        if lock && rank < best {
            return Err(Refusal::AlgorithmDowngrade.into());
        }
        if rank > best {
            caller.strongest.fetch_max(rank, Ordering::Relaxed);
            // Accounts keep it themselves.
            if caller.principal.proof == Proof::Gba {
                let key_name = Arc::clone(&caller.key_name);
                self.best.with(key_name, now.mono, |best, _| *best = rank.max(*best));
            }
        }
        Ok(())
    }

    /// Windows, flows and challenges of cards held.
    pub fn footprint(&self) -> usize {
        let aka = self.aka.as_ref().map_or(0, AkaRealm::footprint);
        [self.nonces.footprint(), self.flows.len(), self.best.len(), self.unproved.len(), aka]
            .iter()
            .sum()
    }
}

/// A caller whose response was right.
struct Right {
    caller: Arc<Caller>,
    /// The edge's own proof, where one is due.
    proof: Option<Arc<ServerProof>>,
    /// Whether the response covers the body.
    integral: bool,
}

/// Most rows of our realms in one request: a row for each algorithm of each realm, and room.
const OWN_ROWS: usize = 16;

/// Credentials, and where they stand.
type OwnRows<'m> = (SmallVec<[Credentials<'m>; 1]>, SmallVec<[Span; 2]>);

/// The Digest rows of our realms, from whichever header the peer filled.
///
/// Rows of other realms and other schemes are left alone. More than [`OWN_ROWS`] are nobody's credentials.
fn own_rows<'m>(message: &'m Message, is_own: impl Fn(&[u8]) -> bool) -> Result<OwnRows<'m>, Halt> {
    let (mut rows, mut spans) = OwnRows::default();
    for name in [Name::ProxyAuthorization, Name::Authorization] {
        for value in message.fields_named(name) {
            let parsed = Credentials::parse(value).map_err(Refusal::Malformed)?;
            let Some(row) = parsed.filter(|row| is_own(row.realm())) else { continue };
            let same = |other: &Credentials<'_>| {
                other.realm() == row.realm() && other.algorithm() == row.algorithm()
            };
            if rows.len() >= OWN_ROWS || rows.iter().any(same) {
                return Err(Refusal::Malformed(Fault::CredentialsMalformed).into());
            }
            rows.push(row);
            spans.push(message.span_of(value));
        }
    }
    Ok((rows, spans))
}

//! Keys, bootstrap: the bootstrapping server on Ub, and what NAFs ask it for.
//!
//! Takes:   [`UbRequest`], fresh randomness and the time; from NAFs a B-TID and a [`NafId`].
//! Gives:   [`UbAnswer`]; [`NafKey`] or [`NafRefusal`].
//! Keeps:   subscribers with their sequence numbers; at most `max_challenges` unanswered challenges, one minute
//!          each; at most `max_sessions` sessions, four for each private identity; the tables of `pace`.
//!          Passwords have challenges of their own, as many and as long.
//! Refuses: a challenge answered twice or late, a response with another `qop`, `nc`, realm or name than offered, an
//!          AUTS that is not the card's. Nobody learns which names are subscribers: strangers are challenged too,
//!          with a key that nobody has, at the same pace. A password is asked for over TLS alone, where it is switched on. A barred subscriber is told so once it has proved itself.
//! Sources: TS 33.220 clauses 4.4 and 4.5; TS 24.109 clause 4 and annexes A and C; RFC 3310; threats V-139, V-140.
//!
//! `run` tells a request's way in numbered steps; `digest` that of one that asks for its password.

mod auc;
mod challenges;
mod claim;
mod config;
mod digest;
mod grant;
mod home;
mod known;
mod message;
mod pace;
mod push;
mod run;
mod sessions;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

pub use auc::NoVector;
pub use challenges::CHALLENGE_LIFETIME;
pub use config::{BsfConfig, BsfUnfit, DigestConfig, EXPORTER_LABEL};
pub use grant::{LocalNaf, NafGrant, NafRefusal, UaGrant};
pub use home::{Home, HomeAnswer, HomeQuestion, UbStep};
pub use message::{
    BODY_TYPE, DIGEST_TOKENS, TMPI_TOKEN, UbAnswer, UbOutcome, UbRequest, has_digest_token,
    has_tmpi_token,
};
pub use push::{NoPush, PUSHES_PER_MINUTE};
pub use sessions::PER_IMPI;

use self::challenges::{Challenges, Pending, PendingDigest};
use self::known::Known;
use self::pace::{Bounded, Moves};
use self::sessions::Sessions;
use super::derivation::derive_naf_key;
use super::milenage::Milenage;
use super::subscribers::{Roll, Subscriber};
use super::vector::Algorithms;
use super::{GbaType, NafId, NafKey, Rand};
use crate::admission::rate::Bucket;
use crate::identity::{Btid, Impi};
use crate::instant::Now;
use crate::state::{Fault, Table};

/// How far the written sequence number runs ahead of the used one, so that a crash repeats none.
pub const SQN_STRIDE: u64 = 1024;

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
    subscribers: Known,
    challenges: Challenges<Pending>,
    /// Those of passwords.
    digests: Challenges<PendingDigest>,
    sessions: Sessions,
    strangers: Bounded<Arc<str>, Moves>,
    /// Who was asked for a password and has none.
    digest_strangers: Bounded<Arc<str>, Moves>,
    sources: Bounded<IpAddr, Bucket>,
}

/// A subscriber, its pace, and the SEQ up to which the written state vouches.
struct Record {
    subscriber: Subscriber,
    moves: Moves,
    vouched: u64,
    /// Those of the moves that were pushed, and the challenge pushed last.
    pushes: Moves,
    pushed: Option<Rand>,
    /// Challenges of its password: they move no number.
    digests: Moves,
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
        let own = Self::of(config, Known::new(None), grants, decoy_seed)?;
        own.replace_subscribers(subscribers);
        Ok(own)
    }

    /// A server that asks `roll` for each subscriber, and writes sessions and numbers there.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn with_roll(
        config: BsfConfig,
        roll: Arc<dyn Roll>,
        grants: Vec<NafGrant>,
        decoy_seed: [u8; 32],
    ) -> Result<Self, BsfUnfit> {
        let own = Self::of(config, Known::new(Some(roll)), grants, decoy_seed)?;
        own.state().sessions.note_changes();
        Ok(own)
    }

    fn of(
        config: BsfConfig,
        subscribers: Known,
        grants: Vec<NafGrant>,
        decoy_seed: [u8; 32],
    ) -> Result<Self, BsfUnfit> {
        let realm = config::check(&config)?;
        let seed = Zeroizing::new(decoy_seed);
        let (k, opc) = seed.split_first_chunk::<16>().ok_or(BsfUnfit::Name)?;
        let opc = opc.first_chunk::<16>().ok_or(BsfUnfit::Name)?;
        let state = State {
            subscribers,
            challenges: Challenges::new(config.max_challenges),
            digests: Challenges::new(config.max_challenges),
            sessions: Sessions::new(config.max_sessions),
            strangers: Bounded::new(),
            digest_strangers: Bounded::new(),
            sources: Bounded::new(),
        };
        Ok(Self {
            decoy: Algorithms::Milenage(Milenage::with_opc(k, opc)),
            state: Mutex::new(state),
            config,
            realm,
            grants,
        })
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
    /// and the barred ones, lose their sessions. Not for a server that asks a roll.
    pub fn replace_subscribers(&self, subscribers: Vec<Subscriber>) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.subscribers.records);
        for subscriber in subscribers {
            let impi = subscriber.impi.clone();
            let mut record = Record::new(subscriber);
            if let Some(known) = before.remove(&impi) {
                if known.subscriber.sqn.last() > record.subscriber.sqn.last() {
                    record.subscriber.sqn = known.subscriber.sqn;
                }
                record.moves = known.moves;
                record.vouched = known.vouched;
                record.pushes = known.pushes;
                record.digests = known.digests;
            }
            state.subscribers.records.insert(impi, record);
        }
        let State { subscribers, sessions, challenges, digests, .. } = &mut *state;
        let subscribers = &subscribers.records;
        // Of another's subscribers, the home knows who they are.
        let others = self.config.home;
        let stays =
            |impi: &Impi| subscribers.get(impi).map_or(others, |record| !record.subscriber.barred);
        sessions.retain(stays);
        challenges.retain(|impi| others || subscribers.contains_key(impi));
        digests.retain(|impi| subscribers.contains_key(impi));
    }

    /// Whether sequence numbers should be written down soon: some are near the end of what was vouched for.
    pub fn sqn_due(&self) -> bool {
        self.state().subscribers.records.values().any(Record::is_due)
    }

    /// What to write down: for each subscriber a SEQ that will not be passed before the next writing.
    pub fn sqn_reserve(&self) -> Vec<(Impi, u64)> {
        let state = self.state();
        let ahead = |record: &Record| {
            let seq = record.subscriber.sqn.last().seq().saturating_add(SQN_STRIDE);
            (record.subscriber.impi.clone(), seq.max(record.vouched))
        };
        state.subscribers.records.values().map(ahead).collect()
    }

    /// Says that what [`Self::sqn_reserve`] gave is safely written.
    pub fn sqn_reserved(&self, written: &[(Impi, u64)]) {
        let mut state = self.state();
        for (impi, seq) in written {
            if let Some(record) = state.subscribers.records.get_mut(impi) {
                record.vouched = *seq;
            }
        }
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
        let mut state = self.state();
        let State { subscribers, sessions, .. } = &mut *state;
        let session = sessions.get(btid, now).ok_or(NafRefusal::UnknownBtid)?;
        let record = subscribers.get(&session.impi).map_err(|_| NafRefusal::Unavailable)?;
        let (impus, uss) = match (record, &session.guss) {
            (Some(own), _) if own.subscriber.barred => return Err(NafRefusal::UnknownBtid),
            // Whose password was taken away has no key of it.
            (Some(Record { subscriber, .. }), _)
                if session.kind == GbaType::Digest && subscriber.digest.is_none() =>
            {
                return Err(NafRefusal::UnknownBtid);
            }
            (Some(own), _) => (&own.subscriber.impus, &own.subscriber.uss),
            (None, Some(guss)) => (&guss.impus, &guss.uss),
            (None, None) => return Err(NafRefusal::UnknownBtid),
        };
        let kind = session.kind;
        let key = derive_naf_key(kind, &session.ks, &session.rand, &session.impi, naf)
            .map_err(|_| NafRefusal::UnknownBtid)?;
        let none = || Arc::from(Vec::new());
        Ok(NafKey {
            key,
            impi: grant.sees_impi.then(|| session.impi.clone()),
            identities: if grant.sees_identities { Arc::clone(impus) } else { none() },
            expires: session.expires,
            uss: Arc::clone(uss),
            created: session.created,
            kind,
            ready: Default::default(),
        })
    }

    /// Ends the session of a B-TID; whether there was one. Where sessions are written down, that it ended is written by
    /// the next [`Self::keep`].
    pub fn end_session(&self, btid: &Btid) -> bool {
        self.state().sessions.remove(btid)
    }

    /// Whether a subscriber is barred, or gone, so that no key of his is to count any more. With a home elsewhere, whoever is
    /// not ours may be its own; a store that does not answer says nothing against anybody.
    pub fn bars(&self, impi: &Impi) -> bool {
        match self.state().subscribers.get(impi) {
            Ok(Some(record)) => record.subscriber.barred,
            Ok(None) => !self.config.home,
            Err(_) => false,
        }
    }

    /// The server's name, which stands in its B-TIDs.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Takes over the sessions that were written down and still live; how many. For a server with a roll, at its start.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn restore_sessions(&self, now: Now) -> Result<usize, Fault> {
        let mut state = self.state();
        let Some(roll) = state.subscribers.roll().cloned() else { return Ok(0) };
        let mut after: Box<[u8]> = Box::default();
        loop {
            let page = roll.sessions(&after, PAGE)?;
            for (key, octets) in &page {
                let spoilt = || Fault::spoilt(Table::Sessions, key);
                let btid = std::str::from_utf8(key).ok().and_then(Btid::new).ok_or_else(spoilt)?;
                state.sessions.restore(btid, octets, now).ok_or_else(spoilt)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok(state.sessions.len()),
            }
        }
    }

    /// Writes down what is to outlive the process and was not written yet: sessions that began or ended, and numbers
    /// before they are used up. For a server with a roll, every second while it serves.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; the next call tries again.
    pub fn keep(&self) -> Result<(), Fault> {
        let (roll, sessions, due) = {
            let mut state = self.state();
            let Some(roll) = state.subscribers.roll().cloned() else { return Ok(()) };
            let State { subscribers, sessions, .. } = &mut *state;
            let due = subscribers.records.iter().filter(|(_, record)| record.is_due());
            let ahead = |record: &Record| {
                record.subscriber.sqn.last().seq().saturating_add(SQN_STRIDE).max(record.vouched)
            };
            let due: Vec<_> = due.map(|(impi, record)| (impi.clone(), ahead(record))).collect();
            (roll, sessions.take_changes(), due)
        };
        let written = roll.reserve(&due).map(|()| self.sqn_reserved(&due));
        let kept = roll.keep_sessions(&sessions);
        if kept.is_err() {
            let mut state = self.state();
            sessions.into_iter().for_each(|(btid, _)| state.sessions.note(&btid));
        }
        written.and(kept)
    }

    /// Drops what is over. [`Self::answer`] does so as well; this is for a server that nobody asks.
    pub fn sweep(&self, now: Now) {
        let mut state = self.state();
        state.sessions.purge(now);
        state.challenges.purge(now.mono);
        state.digests.purge(now.mono);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Bsf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bsf({}, ..)", self.config.name)
    }
}

/// Sessions that are read at a time.
const PAGE: usize = 1024;

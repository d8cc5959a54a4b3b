//! Keys, push, the NAF's side: the associations that were pushed to UEs, and what becomes of them.
//!
//! ```text
//! pending     its GPI goes to the UE; taken, once the UE says so. What is wrapped may follow, since it protects itself.
//! confirmed   the first wrapping of the UE opened: it holds the key. The elder one of this UE ends.
//! expired     its time is over; it is forgotten a little later.
//! ```
//!
//! Takes:   what the server of push info gave, word of the UE, the time.
//! Gives:   wrapped messages; [`State`]; counts.
//! Keeps:   at most two associations of a UE, for at most [`PushBounds::ues`] UEs; answers of the server, as many at most, until
//!          they are fetched or ten seconds old.
//! Refuses: more UEs than that, once nothing of those held has expired; a receipt of another message.
//! Sources: TS 33.223 clause 5 as far as its definitions say; TS 24.109 clause 4A; SEC_CF 1.1 SEC-004; V-145.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::gpl::{Receiver, Sender};
use super::{Direction, Profile, PushAnswer, PushInfo, downlink_id};
use crate::admission::Recent;
use crate::identity::{Impi, Ptid};
use crate::instant::{Instant, Now, WallTime};
use crate::keys::Rand;
use crate::keys::derivation::DeriveError;

/// How long an answer waits to be fetched.
const ANSWER_LIFETIME: Duration = Duration::from_secs(5);
/// How long one that has expired is still told of.
const EXPIRED_KEPT: Duration = Duration::from_secs(60);
/// Elder ones that are still good, beside the one that is made.
const PER_UE: usize = 2;

/// Bounds of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushBounds {
    /// Most UEs.
    pub ues: usize,
}

impl Default for PushBounds {
    fn default() -> Self {
        Self { ues: 100_000 }
    }
}

/// Where an association stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its GPI goes to the UE, or has gone.
    Pending,
    /// The UE has shown that it holds the key.
    Confirmed,
    /// Its time is over.
    Expired,
}

/// One association.
#[derive(Debug)]
struct Held {
    rand: Rand,
    down: Sender,
    up: Receiver,
    /// Whether the UE said that it took the GPI: a word of anybody's, on a flow that is not secure.
    taken: bool,
    confirmed: bool,
    ends: Instant,
    expires: WallTime,
}

impl Held {
    fn state(&self, now: Now) -> State {
        if self.ends <= now.mono || self.expires <= now.wall {
            State::Expired
        } else if self.confirmed {
            State::Confirmed
        } else {
            State::Pending
        }
    }

    fn is_forgotten(&self, now: Now) -> bool {
        self.ends + EXPIRED_KEPT <= now.mono
    }
}

/// A message that was wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The association, by its challenge.
    pub rand: Rand,
    /// The message's number: what its receipt must say.
    pub number: u32,
    /// The octets.
    pub octets: Vec<u8>,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Noted {
    /// Associations made.
    pub made: AtomicU64,
    /// Of those, confirmed.
    pub confirmed: AtomicU64,
    /// Of those, taken back: the UE could not open the GPI, or what was wrapped.
    pub failed: AtomicU64,
    /// Messages wrapped.
    pub wrapped: AtomicU64,
    /// Pushes that no association could be had for.
    pub refused: AtomicU64,
}

/// The associations. All workers share them; each call holds one lock for one look-up and one wrapping.
pub struct PushedKeys {
    profile: Arc<dyn Profile>,
    bounds: PushBounds,
    held: Mutex<HashMap<Impi, SmallVec<[Held; PER_UE]>>>,
    answers: Recent<u64, Option<PushAnswer>>,
    noted: Noted,
}

impl fmt::Debug for PushedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushedKeys").field("ues", &self.held().len()).finish_non_exhaustive()
    }
}

impl PushedKeys {
    /// None yet.
    pub fn new(profile: Arc<dyn Profile>, bounds: PushBounds) -> Self {
        let answers = Recent::new(bounds.ues, ANSWER_LIFETIME);
        Self { profile, bounds, held: Mutex::default(), answers, noted: Noted::default() }
    }

    /// How its messages are written down.
    pub fn profile(&self) -> Arc<dyn Profile> {
        Arc::clone(&self.profile)
    }

    /// What happened so far.
    pub fn noted(&self) -> &Noted {
        &self.noted
    }

    /// Puts an answer where the one who asked finds it.
    pub fn put(&self, asker: u64, answer: PushAnswer, now: Now) {
        self.answers.with(asker, now.mono, |place, _| *place = Some(answer));
    }

    /// The answer to that question; the server cannot be reached if there is none.
    pub fn fetch(&self, asker: u64, now: Now) -> PushAnswer {
        let answer = self.answers.with(asker, now.mono, |place, _| place.take());
        answer.unwrap_or(PushAnswer::Unavailable)
    }

    /// Begins an association: pending. `false` if there is no room, or if it is over already.
    pub fn begin(&self, impi: &Impi, info: &PushInfo, ptid: &Ptid, now: Now) -> bool {
        let life = info.expires.since(now.wall);
        let Ok(held) = self.make(info, ptid, now.mono + life) else { return false };
        let mut table = self.held();
        if life.is_zero() {
            return false;
        }
        if !table.contains_key(impi) && table.len() >= self.bounds.ues {
            sweep(&mut table, now);
            if table.len() >= self.bounds.ues {
                return false;
            }
        }
        let own = table.entry(impi.clone()).or_default();
        own.retain(|held| held.state(now) != State::Expired);
        if own.len() >= PER_UE {
            // The eldest that nobody confirmed, else the eldest.
            let place = own.iter().position(|held| !held.confirmed).unwrap_or(0);
            own.remove(place);
        }
        own.push(held);
        self.noted.made.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn make(&self, info: &PushInfo, ptid: &Ptid, ends: Instant) -> Result<Held, DeriveError> {
        let (profile, key, id) = (&self.profile, &info.key, downlink_id(&info.rand));
        Ok(Held {
            rand: info.rand,
            down: Sender::new(profile, key, Direction::Down, &id)?,
            up: Receiver::new(profile, key, Direction::Up, ptid.as_str().as_bytes())?,
            taken: false,
            confirmed: false,
            ends,
            expires: info.expires,
        })
    }

    /// The UE says that it took the GPI.
    pub fn taken(&self, impi: &Impi, rand: &Rand) {
        if let Some(held) = self.held().get_mut(impi).and_then(|own| of(own, rand)) {
            held.taken = true;
        }
    }

    /// The UE cannot open the GPI, or what was wrapped: the association ends.
    pub fn failed(&self, impi: &Impi, rand: &Rand) {
        let mut table = self.held();
        let Some(own) = table.get_mut(impi) else { return };
        let before = own.len();
        own.retain(|held| held.rand != *rand);
        if own.len() < before {
            self.noted.failed.fetch_add(1, Ordering::Relaxed);
        }
        if own.is_empty() {
            table.remove(impi);
        }
    }

    /// Wraps a message under the newest association of a UE that was taken; `None` if there is none.
    pub fn wrap(&self, impi: &Impi, plain: &[u8], now: Now) -> Option<Wrapped> {
        let mut table = self.held();
        let mut own = table.get_mut(impi)?.iter_mut().rev();
        let held = own.find(|held| held.taken && held.state(now) != State::Expired)?;
        let (number, octets) = held.down.wrap(plain).ok()?;
        self.noted.wrapped.fetch_add(1, Ordering::Relaxed);
        Some(Wrapped { rand: held.rand, number, octets })
    }

    /// What the UE wrapped to show that it opened a message. `true` if it shows that: the association is confirmed, and the
    /// elder one ends.
    pub fn confirm(&self, impi: &Impi, rand: &Rand, number: u32, receipt: &[u8], now: Now) -> bool {
        let mut table = self.held();
        let Some(own) = table.get_mut(impi) else { return false };
        let Some(held) = of(own, rand).filter(|held| held.state(now) != State::Expired) else {
            return false;
        };
        let opened = held.up.unwrap(receipt);
        if !opened.is_ok_and(|(_, plain)| plain == number.to_be_bytes()) {
            return false;
        }
        if !std::mem::replace(&mut held.confirmed, true) {
            self.noted.confirmed.fetch_add(1, Ordering::Relaxed);
            let place = own.iter().position(|held| held.rand == *rand).unwrap_or(0);
            own.drain(..place);
        }
        true
    }

    /// Where the newest association of a UE stands.
    pub fn state(&self, impi: &Impi, now: Now) -> Option<State> {
        self.held().get(impi)?.last().map(|held| held.state(now))
    }

    /// How many stand there.
    pub fn count(&self, state: State, now: Now) -> usize {
        self.held().values().flatten().filter(|held| held.state(now) == state).count()
    }

    /// Forgets what has expired a while ago.
    pub fn sweep(&self, now: Now) {
        sweep(&mut self.held(), now);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Impi, SmallVec<[Held; PER_UE]>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of<'h>(own: &'h mut SmallVec<[Held; PER_UE]>, rand: &Rand) -> Option<&'h mut Held> {
    own.iter_mut().find(|held| held.rand == *rand)
}

fn sweep(table: &mut HashMap<Impi, SmallVec<[Held; PER_UE]>>, now: Now) {
    table.retain(|_, own| {
        own.retain(|held| !held.is_forgotten(now));
        !own.is_empty()
    });
}

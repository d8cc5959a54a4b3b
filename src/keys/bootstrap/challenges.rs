//! Keys, bootstrap, challenges: those that were not answered yet, of cards and of passwords.
//!
//! Takes:   a challenge when it is given, what is random in its nonce when that comes back.
//! Gives:   the challenge, once.
//! Keeps:   at most the bound it was made with, [`CHALLENGE_LIFETIME`] each; past it the oldest goes.
//! Refuses: a nonce never given, answered before, or late.
//! Sources: RFC 3310 sections 3.2 and 5.2; RFC 7616 section 3.3.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::authentication::aka::AkaNonce;
use crate::identity::Impi;
use crate::instant::Instant;
use crate::keys::Rand;
use crate::keys::subscribers::Guss;
use crate::keys::vector::Vector;

/// How long a challenge may be answered.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(60);

/// A challenge of a card.
pub(super) struct Pending {
    pub(super) impi: Impi,
    pub(super) nonce: AkaNonce,
    pub(super) opaque: String,
    pub(super) vector: Vector,
    /// What the home told of the subscriber, if he is another's.
    pub(super) guss: Option<Arc<Guss>>,
}

/// A challenge of a password; its nonce is what it is kept under.
pub(super) struct PendingDigest {
    pub(super) impi: Impi,
    pub(super) opaque: String,
}

/// Whose challenge it is.
pub(super) trait Whose {
    /// His name.
    fn impi(&self) -> &Impi;
}

impl Whose for Pending {
    fn impi(&self) -> &Impi {
        &self.impi
    }
}

impl Whose for PendingDigest {
    fn impi(&self) -> &Impi {
        &self.impi
    }
}

pub(super) struct Challenges<P> {
    max: usize,
    open: HashMap<Rand, (Instant, P)>,
    order: VecDeque<(Instant, Rand)>,
}

impl<P: Whose> Challenges<P> {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), open: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether that one is open.
    pub(super) fn has(&self, rand: &Rand) -> bool {
        self.open.contains_key(rand)
    }

    pub(super) fn add(&mut self, rand: Rand, pending: P, born: Instant) {
        while self.order.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        self.order.push_back((born, rand));
        self.open.insert(rand, (born, pending));
    }

    /// Takes a challenge out: it is answered once.
    pub(super) fn take(&mut self, rand: &Rand, now: Instant) -> Option<P> {
        let (born, pending) = self.open.remove(rand)?;
        (now.since(born) < CHALLENGE_LIFETIME).then_some(pending)
    }

    /// Drops those of whom `keep` says no.
    pub(super) fn retain(&mut self, keep: impl Fn(&Impi) -> bool) {
        self.open.retain(|_, (_, pending)| keep(pending.impi()));
    }

    pub(super) fn purge(&mut self, now: Instant) {
        while let Some((born, rand)) = self.order.front().copied()
            && (now.since(born) >= CHALLENGE_LIFETIME || !self.open.contains_key(&rand))
        {
            self.order.pop_front();
            self.open.remove(&rand);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn one(name: &str) -> PendingDigest {
        PendingDigest { impi: Impi::new(name).expect("a name"), opaque: String::new() }
    }

    #[test]
    fn each_is_taken_once_in_time_and_within_the_bound() {
        let mut challenges = Challenges::new(2);
        let rands: Vec<Rand> = (0..4).map(|n| Rand([n; 16])).collect();
        challenges.add(rands[0], one("a"), at(0));
        challenges.add(rands[1], one("b"), at(1));
        assert!(challenges.take(&rands[1], at(60)).is_some(), "within a minute");
        assert!(challenges.take(&rands[1], at(60)).is_none(), "once");
        assert!(challenges.take(&rands[0], at(60)).is_none(), "a minute is over");
        assert!(challenges.take(&rands[0], at(5)).is_none(), "and it is gone");
        for (second, rand) in (61..).zip(&rands[1..]) {
            challenges.add(*rand, one("c"), at(second));
        }
        assert!(!challenges.has(&rands[1]), "the oldest gave way");
        assert!(challenges.has(&rands[2]) && challenges.has(&rands[3]));
        challenges.retain(|impi| impi.as_str() != "c");
        assert!(!challenges.has(&rands[2]) && !challenges.has(&rands[3]));
        challenges.purge(at(200));
        assert!(challenges.order.is_empty());
    }
}

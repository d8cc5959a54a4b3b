//! Keys, bootstrap, challenges: those that were not answered yet.
//!
//! Takes:   a challenge when it is given, its nonce when it comes back.
//! Gives:   the challenge, once.
//! Keeps:   at most the bound it was made with, [`CHALLENGE_LIFETIME`] each; past it the oldest goes.
//! Refuses: a nonce never given, given back altered, answered before, or late.
//! Sources: RFC 3310 sections 3.2 and 5.2.

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

/// A challenge that was not answered yet.
pub(super) struct Pending {
    pub(super) impi: Impi,
    pub(super) nonce: AkaNonce,
    pub(super) opaque: String,
    pub(super) vector: Vector,
    /// What the home told of the subscriber, if he is another's.
    pub(super) guss: Option<Arc<Guss>>,
    pub(super) born: Instant,
}

pub(super) struct Challenges {
    pub(super) max: usize,
    pub(super) open: HashMap<Rand, Pending>,
    pub(super) order: VecDeque<(Instant, Rand)>,
}

impl Challenges {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), open: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn add(&mut self, pending: Pending) {
        while self.order.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        self.order.push_back((pending.born, pending.nonce.rand));
        self.open.insert(pending.nonce.rand, pending);
    }

    /// Takes a challenge out: it is answered once.
    pub(super) fn take(&mut self, nonce: &AkaNonce, now: Instant) -> Option<Pending> {
        let pending = self.open.remove(&nonce.rand)?;
        let whole = pending.nonce == *nonce && now.since(pending.born) < CHALLENGE_LIFETIME;
        whole.then_some(pending)
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

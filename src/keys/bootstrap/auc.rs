//! Keys, bootstrap, vectors for SIP: the same subscribers and sequence numbers, for who challenges with AKA itself.
//!
//! Takes:   a private identity and a random challenge; later, the AUTS for it.
//! Gives:   a [`Vector`], at the pace of Ub, since both move one sequence number.
//! Keeps:   nothing; the asker holds each vector until it is answered, once.
//! Refuses: a name that is nobody's or barred, the eleventh vector within a minute, an AUTS that is not the card's.
//! Sources: TS 33.102 clauses 6.3.2 and 6.3.5; RFC 3310; threat V-100.

use std::sync::Arc;
use std::time::Duration;

use super::{Bsf, Home, HomeAnswer, Record};
use crate::identity::{Impi, Impu};
use crate::instant::Now;
use crate::keys::sqn::Sqn;
use crate::keys::subscribers::{Guss, Subscriber};
use crate::keys::vector::{Auts, Vector};
use crate::keys::{AkaVector, Rand, VectorAnswer, VectorSource};

/// Why there is no vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVector {
    /// Nobody's name, a barred one, or one without a card: the peer is not to learn which.
    Unknown,
    /// Too often; after this time again.
    Paced(Duration),
    /// The sequence numbers of 43 bits are used up.
    Spent,
    /// The store of subscribers does not answer.
    Unavailable,
}

impl Bsf {
    /// The next vector of a subscriber, and the public identities that it may use. `rand` is random, and not used
    /// before.
    ///
    /// # Errors
    ///
    /// [`NoVector`], by the reason; the sequence number has not moved then.
    pub fn vector(
        &self,
        impi: &Impi,
        rand: [u8; 16],
        now: Now,
    ) -> Result<(Vector, Arc<[Impu]>), NoVector> {
        let mut state = self.state();
        let record = state.subscribers.get(impi).map_err(|_| NoVector::Unavailable)?;
        let record = record.ok_or(NoVector::Unknown)?;
        if record.subscriber.barred || record.subscriber.algorithms.is_none() {
            return Err(NoVector::Unknown);
        }
        record.moves.take(now.mono).map_err(NoVector::Paced)?;
        let sqn = state.subscribers.advance(impi).map_err(|_| NoVector::Unavailable)?;
        let sqn = sqn.ok_or(NoVector::Spent)?;
        let Some(Record { subscriber, .. }) = state.subscribers.records.get(impi) else {
            return Err(NoVector::Unknown);
        };
        let algorithms = subscriber.algorithms.as_ref().ok_or(NoVector::Unknown)?;
        let vector = algorithms.vector(Rand(rand), sqn, subscriber.amf);
        Ok((vector, subscriber.impus.clone()))
    }

    /// The same, with what is told of the subscriber, for a bootstrapping server of another's (Zh).
    pub fn home(
        &self,
        impi: &Impi,
        resync: Option<&(Rand, Auts)>,
        rand: [u8; 16],
        now: Now,
    ) -> HomeAnswer {
        if let Some((challenge, auts)) = resync
            && !self.resynchronise_card(impi, challenge, auts)
        {
            return HomeAnswer::AutsWrong;
        }
        let vector = match self.vector(impi, rand, now) {
            Ok((vector, _)) => vector,
            Err(NoVector::Unknown) => return HomeAnswer::Unknown,
            Err(NoVector::Paced(_) | NoVector::Spent | NoVector::Unavailable) => {
                return HomeAnswer::Unavailable;
            }
        };
        let state = self.state();
        let Some(Subscriber { card, key_lifetime, impus, uss, .. }) =
            state.subscribers.records.get(impi).map(|record| &record.subscriber)
        else {
            return HomeAnswer::Unknown;
        };
        let (card, key_lifetime) = (*card, *key_lifetime);
        let guss = Guss { card, key_lifetime, impus: Arc::clone(impus), uss: Arc::clone(uss) };
        HomeAnswer::Known(Box::new(Home { vector, guss: Arc::new(guss) }))
    }

    /// Takes over the card's sequence number from an AUTS for `rand`; whether it was the card's.
    ///
    /// The asker has to see to it that `rand` was its own challenge, still unanswered: an AUTS proves a number only
    /// together with the challenge it was made for.
    pub fn resynchronise_card(&self, impi: &Impi, rand: &Rand, auts: &Auts) -> bool {
        let mut state = self.state();
        let Ok(Some(record)) = state.subscribers.get(impi) else { return false };
        let subscriber = &mut record.subscriber;
        let algorithms = subscriber.algorithms.as_ref();
        match algorithms.map(|algorithms| algorithms.open_auts(rand, auts)) {
            Some(Ok(card)) => {
                subscriber.sqn.resync(card);
                true
            }
            Some(Err(_)) | None => false,
        }
    }
}

impl VectorSource for Bsf {
    fn vector(
        &self,
        impi: &Impi,
        resync: Option<&(Rand, Auts)>,
        rand: Rand,
        now: Now,
    ) -> VectorAnswer {
        if let Some((challenge, auts)) = resync
            && !self.resynchronise_card(impi, challenge, auts)
        {
            return VectorAnswer::AutsWrong;
        }
        let known =
            |vector, identities| VectorAnswer::Known(Box::new(AkaVector { vector, identities }));
        match Self::vector(self, impi, rand.0, now) {
            Ok((vector, identities)) => known(vector, Some(identities)),
            Err(NoVector::Paced(_) | NoVector::Spent | NoVector::Unavailable) => {
                VectorAnswer::Unavailable
            }
            Err(NoVector::Unknown) => {
                let name = Arc::from(impi.as_str());
                if self.state().strangers.entry(name).take(now.mono).is_err() {
                    return VectorAnswer::Unavailable;
                }
                known(self.decoy.vector(rand, Sqn::default(), [0x80, 0]), None)
            }
        }
    }
}

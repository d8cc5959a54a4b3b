//! Keys, bootstrap, push: what a NAF gets that wants to speak to a subscriber first.
//!
//! 1. The NAF may have that key; the subscriber is known, and not barred.
//! 2. An AUTS is taken over first, if there is one: for the challenge that was pushed last, once.
//! 3. One vector, at the pace of Ub and at a slower one of its own: each moves the card's sequence number.
//! 4. One key comes of it, and the GPI; Ks is thrown away.
//!
//! Takes:   [`PushRequest`], a random challenge, the time.
//! Gives:   [`PushInfo`].
//! Keeps:   of each subscriber the challenge pushed last, until its AUTS comes.
//! Refuses: [`NoPush`]; the fourth GPI of a subscriber within a minute, its AUTS in a row not counted.
//! Sources: TS 33.223 clause 5 as far as its definitions say; TS 29.109 clause 5.4 (5402); TS 33.102 clause 6.3.5; V-139.

use std::time::Duration;

use super::grant::LocalNaf;
use super::{Bsf, Record};
use crate::instant::Now;
use crate::keys::Rand;
use crate::keys::push::{
    CardApplication, DisposableKs, Gpi, GpiBody, GpiHead, PushAnswer, PushInfo, PushRequest,
    PushSource,
};
use crate::keys::subscribers::Card;
use crate::keys::vector::Auts;

/// Most GPIs for one subscriber in any minute.
pub const PUSHES_PER_MINUTE: usize = 3;

/// Why there is no push info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPush {
    /// This NAF may not have it.
    NotAuthorised,
    /// Nobody's name, a barred one, or one without a card.
    Unknown,
    /// Not the card's, or not for the challenge that was pushed last.
    AutsWrong,
    /// Too often; after this time again.
    Paced(Duration),
    /// The sequence numbers of 43 bits are used up, or a name is too long.
    Spent,
    /// The store of subscribers does not answer.
    Unavailable,
}

impl Bsf {
    /// A key of one association, and what goes to the UE. `host` is the name that the NAF's connection proved.
    ///
    /// # Errors
    ///
    /// [`NoPush`]: whether the NAF may have it is looked at before whose it is.
    pub fn push_info(
        &self,
        host: &str,
        asked: &PushRequest,
        rand: Rand,
        now: Now,
    ) -> Result<PushInfo, NoPush> {
        let covers = self.grants.iter().any(|grant| grant.covers(host, &asked.naf));
        if !covers {
            return Err(NoPush::NotAuthorised);
        }
        let mut state = self.state();
        let record = state.subscribers.get(&asked.impi).map_err(|_| NoPush::Unavailable)?;
        let record = record.ok_or(NoPush::Unknown)?;
        if record.subscriber.barred || record.subscriber.algorithms.is_none() {
            return Err(NoPush::Unknown);
        }
        match &asked.resync {
            Some((challenge, auts)) => record.resynchronise(challenge, auts)?,
            None => record.pushes.take_of(PUSHES_PER_MINUTE, now.mono).map_err(NoPush::Paced)?,
        }
        record.moves.take(now.mono).map_err(NoPush::Paced)?;
        let sqn = state.subscribers.advance(&asked.impi).map_err(|_| NoPush::Unavailable)?;
        let sqn = sqn.ok_or(NoPush::Spent)?;
        let record = state.subscribers.records.get_mut(&asked.impi).ok_or(NoPush::Unknown)?;
        let subscriber = &record.subscriber;
        let algorithms = subscriber.algorithms.as_ref().ok_or(NoPush::Unknown)?;
        let vector = algorithms.vector(rand, sqn, subscriber.amf);
        let (on_card, autn) = match subscriber.card {
            Card::Gba => (false, vector.autn),
            Card::GbaU => (true, vector.autn.masked(&vector.ik)),
        };
        let lifetime = subscriber.key_lifetime.unwrap_or(self.config.key_lifetime);
        let expires = asked.expires.min(now.wall + lifetime);
        let gpi = Gpi {
            head: GpiHead { on_card, application: CardApplication::Usim, rand, autn },
            body: GpiBody { ptid: asked.ptid.clone(), naf: asked.naf.clone(), expires },
        };
        let profile = &self.config.push;
        let ks = DisposableKs::new(vector.ks(), rand, asked.impi.clone());
        let protection = ks.protection(&profile.protection(&self.config.name));
        let protection = protection.map_err(|_| NoPush::Spent)?;
        let gpi = profile.seal_gpi(&gpi, &protection).map_err(|_| NoPush::Spent)?.into();
        let key = ks.into_key(&asked.naf).map_err(|_| NoPush::Spent)?;
        // The first of a row alone: an AUTS proves a number only together with the challenge it was made for.
        record.pushed = asked.resync.is_none().then_some(rand);
        Ok(PushInfo { rand, key, expires, gpi })
    }
}

impl Record {
    /// Takes over the card's number, for the challenge that was pushed last.
    fn resynchronise(&mut self, challenge: &Rand, auts: &Auts) -> Result<(), NoPush> {
        if self.pushed.take().as_ref() != Some(challenge) {
            return Err(NoPush::AutsWrong);
        }
        let algorithms = self.subscriber.algorithms.as_ref().ok_or(NoPush::AutsWrong)?;
        let card = algorithms.open_auts(challenge, auts);
        self.subscriber.sqn.resync(card.map_err(|_| NoPush::AutsWrong)?);
        Ok(())
    }
}

impl PushSource for LocalNaf {
    fn push_info(&self, asked: &PushRequest, rand: Rand, now: Now) -> PushAnswer {
        match self.bsf.push_info(&self.host, asked, rand, now) {
            Ok(info) => PushAnswer::Known(Box::new(info)),
            Err(NoPush::NotAuthorised) => PushAnswer::Forbidden,
            Err(NoPush::Unknown) => PushAnswer::Unknown,
            Err(NoPush::AutsWrong) => PushAnswer::AutsWrong,
            Err(NoPush::Paced(_) | NoPush::Spent | NoPush::Unavailable) => PushAnswer::Unavailable,
        }
    }
}

//! Keys, bootstrap, home: subscribers of another's, who keeps their keys and sequence numbers.
//!
//! Takes:   what the home answered to [`HomeQuestion`].
//! Gives:   the challenge made of it, as if the subscriber were ours.
//! Keeps:   nothing beside the challenge, and what the home told of the subscriber, until its session ends.
//! Refuses: a challenge drawn twice. A home that does not answer is told to the UE as a pause, never as a no.
//! Sources: TS 33.220 clauses 4.4.5 and 4.5.2; TS 29.109 clause 4; threat V-139.

use std::sync::Arc;
use std::time::Duration;

use super::challenges::Pending;
use super::message::{UbAnswer, UbOutcome};
use super::run::{Asker, hex};
use super::{Bsf, Fresh};
use crate::authentication::aka::AkaNonce;
use crate::identity::Impi;
use crate::instant::Now;
use crate::keys::Rand;
use crate::keys::sqn::Sqn;
use crate::keys::subscribers::{Card, Guss};
use crate::keys::vector::{Auts, Vector};

/// A request on Ub, answered at once or once the home was asked.
#[derive(Debug)]
pub enum UbStep {
    /// The answer.
    Answer(UbAnswer),
    /// The home is to be asked; its answer goes to [`Bsf::homed`].
    Ask(HomeQuestion),
}

/// What the home is asked, and what for.
#[derive(Clone, Debug)]
pub struct HomeQuestion {
    pub(super) asker: Asker,
    /// The card's sequence number, and the challenge that it came for.
    pub resync: Option<(Rand, Auts)>,
    pub(super) outcome: UbOutcome,
}

impl HomeQuestion {
    /// Whose vector.
    pub fn impi(&self) -> &Impi {
        &self.asker.impi
    }
}

/// A vector, and what the home tells of the subscriber.
#[derive(Debug)]
pub struct Home {
    /// The vector.
    pub vector: Vector,
    /// The settings.
    pub guss: Arc<Guss>,
}

/// What the home answered.
#[derive(Debug)]
pub enum HomeAnswer {
    /// A vector.
    Known(Box<Home>),
    /// Nobody's name.
    Unknown,
    /// The AUTS is not the card's.
    AutsWrong,
    /// It cannot be reached, or what it said was nothing.
    Unavailable,
}

impl Bsf {
    /// Goes on with a request on Ub once the home was asked.
    pub fn homed(
        &self,
        question: HomeQuestion,
        answer: HomeAnswer,
        fresh: &Fresh,
        now: Now,
    ) -> UbAnswer {
        let HomeQuestion { asker, outcome, .. } = question;
        let unable = || UbAnswer::later(UbOutcome::Unable, Duration::from_secs(60));
        let answer = match answer {
            HomeAnswer::Known(home) => self.challenge_of(asker, *home, outcome, fresh, now),
            HomeAnswer::Unknown => Some(self.decoy_challenge(fresh)),
            // As a stranger's AUTS is answered, so that nobody learns by one who is a subscriber.
            HomeAnswer::AutsWrong => Some(self.unanswerable(fresh, UbOutcome::Refused)),
            HomeAnswer::Unavailable => None,
        };
        self.signed(answer.unwrap_or_else(unable), self.config.tmpi)
    }

    fn challenge_of(
        &self,
        asker: Asker,
        home: Home,
        outcome: UbOutcome,
        fresh: &Fresh,
        now: Now,
    ) -> Option<UbAnswer> {
        let Home { vector, guss } = home;
        let mut state = self.state();
        state.challenges.purge(now.mono);
        if state.challenges.has(&vector.rand) {
            return None;
        }
        let autn = match guss.card {
            Card::Gba => vector.autn,
            Card::GbaU => vector.autn.masked(&vector.ik),
        };
        let (nonce, opaque) = (AkaNonce::new(vector.rand, autn), hex(&fresh.opaque));
        let answer = self.print_challenge(&nonce.print(), &opaque, outcome);
        let (impi, guss, rand) = (asker.impi, Some(guss), vector.rand);
        state.challenges.add(rand, Pending { impi, nonce, opaque, vector, guss }, now.mono);
        Some(answer)
    }

    /// A challenge that looks like any other and that nobody can answer.
    pub(super) fn decoy_challenge(&self, fresh: &Fresh) -> UbAnswer {
        if self.config.reveal_unknown {
            return UbAnswer::plain(403, UbOutcome::Refused, "not a subscriber");
        }
        self.unanswerable(fresh, UbOutcome::StrangerChallenged)
    }

    /// The same where the name may be a subscriber's, who is never told that he is none.
    fn unanswerable(&self, fresh: &Fresh, outcome: UbOutcome) -> UbAnswer {
        let rand = Rand(fresh.rand);
        let vector = self.decoy.vector(rand, Sqn::default(), [0x80, 0]);
        let nonce = AkaNonce::new(rand, vector.autn).print();
        self.print_challenge(&nonce, &hex(&fresh.opaque), outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant::{Instant, WallTime};
    use crate::keys::bootstrap::BsfConfig;

    /// What a wrong AUTS earns at a server whose home said `answer`.
    fn answered(reveal_unknown: bool, answer: HomeAnswer) -> UbAnswer {
        let config = BsfConfig { home: true, reveal_unknown, ..BsfConfig::new("bsf.example.net") };
        let bsf = Bsf::new(config, vec![], vec![], [1; 32]).expect("fit");
        let impi = Impi::new("ue1@example.net").expect("a name");
        let asker = Asker { username: impi.as_str().into(), impi };
        let resync = Some((Rand([2; 16]), Auts([3; 14])));
        let question = HomeQuestion { asker, resync, outcome: UbOutcome::Resynchronised };
        let now = Now { mono: Instant::from_micros(0), wall: WallTime::from_unix(0) };
        bsf.homed(question, answer, &Fresh { rand: [4; 16], opaque: [5; 16] }, now)
    }

    #[test]
    fn a_wrong_auts_tells_nobody_who_is_a_subscriber() {
        let known = answered(false, HomeAnswer::AutsWrong);
        let stranger = answered(false, HomeAnswer::Unknown);
        assert_eq!(known.outcome, UbOutcome::Refused, "what is counted is what happened");
        assert_eq!((known.status, &known.headers), (401, &stranger.headers));
        assert_eq!((known.status, &known.body), (stranger.status, &stranger.body));
        let known = answered(true, HomeAnswer::AutsWrong);
        assert_eq!(known.status, 401, "a subscriber is never told that he is none");
        assert_eq!(answered(true, HomeAnswer::Unknown).status, 403);
    }
}

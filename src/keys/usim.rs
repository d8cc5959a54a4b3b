//! Keys, the card: what a USIM or ISIM does with a challenge, in software.
//!
//! Takes:   RAND and AUTN.
//! Gives:   [`CardAnswer`]: RES, CK and IK; or AUTS; or that the network is not ours.
//! Keeps:   the algorithms and the [`SqnWindow`], which its owner has to write down.
//! Refuses: an AUTN with a wrong MAC, before its sequence number is looked at.
//! Sources: TS 33.102 clause 6.3.3; TS 31.102 clause 7.1.1 (AUTHENTICATE); TS 33.220 clause 5.3.2 (AUTN*).

use super::Rand;
use super::sqn::SqnWindow;
use super::subscribers::Card;
use super::vector::{Algorithms, Answers, Autn, Auts, MacWrong};

/// A software card.
#[derive(Debug)]
pub struct Usim {
    algorithms: Algorithms,
    window: SqnWindow,
    card: Card,
}

/// What the card says to a challenge.
#[derive(Debug)]
pub enum CardAnswer {
    /// The network is ours and the challenge is fresh.
    Good(Answers),
    /// The network is ours, the challenge is not fresh.
    OutOfStep(Auts),
}

impl Usim {
    /// A card.
    pub fn new(algorithms: Algorithms, window: SqnWindow) -> Self {
        Self { algorithms, window, card: Card::Gba }
    }

    /// The same as a card of GBA_U or GBA_ME: with GBA_U, challenges carry AUTN*.
    #[must_use]
    pub fn with_card(self, card: Card) -> Self {
        Self { card, ..self }
    }

    /// Of which kind it is.
    pub fn card(&self) -> Card {
        self.card
    }

    /// What has to be written down after each challenge, lest an old one be taken again.
    pub fn window(&self) -> &SqnWindow {
        &self.window
    }

    /// Answers a challenge.
    ///
    /// # Errors
    ///
    /// [`MacWrong`]: this is not our network, and nothing is answered.
    pub fn authenticate(&mut self, rand: &Rand, autn: &Autn) -> Result<CardAnswer, MacWrong> {
        let autn = match self.card {
            Card::Gba => *autn,
            Card::GbaU => autn.masked(&self.algorithms.answers(rand).ik),
        };
        let (sqn, _, answers) = self.algorithms.open_autn(rand, &autn)?;
        Ok(match self.window.accept(sqn) {
            Ok(()) => CardAnswer::Good(answers),
            Err(_) => CardAnswer::OutOfStep(self.algorithms.make_auts(rand, self.window.highest())),
        })
    }
}

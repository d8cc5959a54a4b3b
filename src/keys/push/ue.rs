//! Keys, push, the UE's side: what a phone does with push info, and with what is wrapped after it.
//!
//! 1. What stands in the clear is read; a challenge of an association that lives is none.
//! 2. The card checks AUTN: the network is ours, and the challenge is new.
//! 3. The MAC is checked with the key that this gave; then the rest is decrypted, and must name a server that is ours.
//! 4. The association is held; the first message that opens under it ends its elder ones of the same server.
//!
//! Takes:   octets that came, the card, the time.
//! Gives:   associations; what was wrapped; what is to be answered.
//! Keeps:   at most [`HELD_MAX`] associations, of which the eldest goes first.
//! Refuses: [`Discard`], by the reason.
//! Sources: TS 33.223 clause 5 as far as its definitions say; TS 33.102 clause 6.3.3; V-145.

use std::collections::VecDeque;
use std::sync::Arc;

use super::gpl::{LayerFault, Receiver, Sender};
use super::{CardApplication, Direction, DisposableKs, Profile, Unfit, downlink_id};
use crate::identity::{Impi, Ptid};
use crate::instant::WallTime;
use crate::keys::subscribers::Card;
use crate::keys::usim::{CardAnswer, Usim};
use crate::keys::vector::{Auts, ks};
use crate::keys::{NafId, Rand};

/// Most associations that are held.
pub const HELD_MAX: usize = 4;

/// Why something that was pushed is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Not the octets of the profile, or for no application of this card.
    Unfit,
    /// The challenge made an association that still lives.
    ChallengeLives,
    /// It was not made with this card's key.
    NetworkNotOurs,
    /// The card's sequence number is elsewhere: an old challenge, or the network has to be told.
    OutOfStep(Auts),
    /// It was altered on the way, or made for somebody else.
    MacWrong,
    /// A server that this phone was not told of.
    ServerUnknown,
    /// Its time is over.
    Over,
    /// Wrapped under an association that is not held.
    AssociationUnknown,
    /// It was here before.
    Replayed,
    /// Neither wrapped nor on a secure flow.
    Unprotected,
    /// The window of the card could not be written down.
    NotWritten,
}

impl Discard {
    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unfit => "Unfit",
            Self::ChallengeLives => "ChallengeLives",
            Self::NetworkNotOurs => "NetworkNotOurs",
            Self::OutOfStep(_) => "OutOfStep",
            Self::MacWrong => "MacWrong",
            Self::ServerUnknown => "ServerUnknown",
            Self::Over => "Over",
            Self::AssociationUnknown => "AssociationUnknown",
            Self::Replayed => "Replayed",
            Self::Unprotected => "Unprotected",
            Self::NotWritten => "NotWritten",
        }
    }
}

/// What a phone knows before anything is pushed to it.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its private identity.
    pub impi: Impi,
    /// The name of its bootstrapping server.
    pub bsf: Arc<str>,
    /// Which application of its card is asked.
    pub application: CardApplication,
    /// The servers that it takes keys for.
    pub nafs: Vec<NafId>,
}

/// One association.
#[derive(Debug)]
struct Held {
    rand: Rand,
    naf: NafId,
    expires: WallTime,
    down: Receiver,
    up: Sender,
}

/// The associations of one phone.
#[derive(Debug)]
pub struct Associations {
    subscription: Subscription,
    profile: Arc<dyn Profile>,
    held: VecDeque<Held>,
}

/// An association that push info made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Whose.
    pub naf: NafId,
    /// Its name on the way up.
    pub ptid: Ptid,
    /// When it ends.
    pub expires: WallTime,
}

/// A message that was unwrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrapped {
    /// Whose association it came under.
    pub naf: NafId,
    /// What was wrapped.
    pub plain: Vec<u8>,
    /// What proves to the server that it was opened here: its number, wrapped on the way up. `None` if that way is used up.
    pub receipt: Option<Vec<u8>>,
}

impl Associations {
    /// A phone that holds none.
    pub fn new(subscription: Subscription, profile: Arc<dyn Profile>) -> Self {
        Self { subscription, profile, held: VecDeque::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes push info.
    ///
    /// # Errors
    ///
    /// [`Discard`]; the card's window may have moved all the same, so whoever owns the card has to write it down.
    pub fn take(&mut self, octets: &[u8], card: &mut Usim, now: WallTime) -> Result<Made, Discard> {
        self.held.retain(|held| held.expires > now);
        let head = self.profile.gpi_head(octets).map_err(|_| Discard::Unfit)?;
        let kind = if head.on_card { Card::GbaU } else { Card::Gba };
        if head.application != self.subscription.application || kind != card.card() {
            return Err(Discard::Unfit);
        }
        if self.held.iter().any(|held| held.rand == head.rand) {
            return Err(Discard::ChallengeLives);
        }
        let answers = match card.authenticate(&head.rand, &head.autn) {
            Ok(CardAnswer::Good(answers)) => answers,
            Ok(CardAnswer::OutOfStep(auts)) => return Err(Discard::OutOfStep(auts)),
            Err(_) => return Err(Discard::NetworkNotOurs),
        };
        let Subscription { impi, bsf, nafs, .. } = &self.subscription;
        let ks = DisposableKs::new(ks(&answers.ck, &answers.ik), head.rand, impi.clone());
        let protection = ks.protection(&self.profile.protection(bsf));
        let protection = protection.map_err(|_| Discard::Unfit)?;
        let opened = self.profile.open_gpi(octets, &protection);
        let body = opened.map_err(|unfit| match unfit {
            Unfit::MacWrong => Discard::MacWrong,
            _ => Discard::Unfit,
        })?;
        if !nafs.contains(&body.naf) {
            return Err(Discard::ServerUnknown);
        }
        if body.expires <= now {
            return Err(Discard::Over);
        }
        let key = ks.into_key(&body.naf).map_err(|_| Discard::Unfit)?;
        let (id, up) = (downlink_id(&head.rand), body.ptid.as_str().as_bytes());
        let held = Held {
            rand: head.rand,
            naf: body.naf.clone(),
            expires: body.expires,
            down: Receiver::new(&self.profile, &key, Direction::Down, &id)
                .map_err(|_| Discard::Unfit)?,
            up: Sender::new(&self.profile, &key, Direction::Up, up).map_err(|_| Discard::Unfit)?,
        };
        if self.held.len() >= HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(held);
        Ok(Made { naf: body.naf, ptid: body.ptid, expires: body.expires })
    }

    /// Gives up the association that was made last.
    pub fn forget_newest(&mut self) {
        self.held.pop_back();
    }

    /// Unwraps a message.
    ///
    /// # Errors
    ///
    /// [`Discard`].
    pub fn unwrap(&mut self, octets: &[u8], now: WallTime) -> Result<Unwrapped, Discard> {
        let frame = self.profile.frame(octets).map_err(|_| Discard::Unfit)?;
        let place = self.held.iter().position(|held| held.down.id() == frame.id);
        let place = place.ok_or(Discard::AssociationUnknown)?;
        let held = self.held.get_mut(place).ok_or(Discard::AssociationUnknown)?;
        if held.expires <= now {
            return Err(Discard::Over);
        }
        let (number, plain) = held.down.unwrap(octets).map_err(|fault| match fault {
            LayerFault::Replayed => Discard::Replayed,
            LayerFault::Unfit(Unfit::MacWrong) => Discard::MacWrong,
            LayerFault::Unfit(_) | LayerFault::Spent => Discard::Unfit,
        })?;
        let receipt = held.up.wrap(&number.to_be_bytes()).ok().map(|(_, octets)| octets);
        let (naf, rand) = (held.naf.clone(), held.rand);
        let mut elder = true;
        self.held.retain(|held| {
            elder &= held.rand != rand;
            !elder || held.naf != naf
        });
        Ok(Unwrapped { naf, plain, receipt })
    }
}

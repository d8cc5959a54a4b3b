//! The UE, pushed to: what a phone does with a MESSAGE that is a push, a key for one, or one that is wrapped.
//!
//! 1. A key (GPI): the card is asked, its window is written down, an association is held.
//! 2. A wrapped push (GPL): it is opened, once; the answer carries a receipt.
//! 3. A push as it is: shown if the flow is secure, else discarded: nobody can say who sent it.
//!
//! Takes:   MESSAGEs of the edge, whether the flow is secure, the time.
//! Gives:   [`Taken`]: the answer, and a [`Notice`] for who uses the phone.
//! Keeps:   the associations of [`ue`](crate::keys::push::ue), which all flows of a phone share.
//! Refuses: servers and initiators that are not listed, where lists are given; 493 for what cannot be opened, with AUTS if the card is out of step; 403 for what is not protected; 500 if
//!          the card's window cannot be written down.
//! Sources: SEC_CF 1.1 SEC-004, AUTH-004, AUTH-007, INTE-002, INTE-003; TS 24.109 clause 4A; RFC 3261 section 21.4.27.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::enabler::body;
use crate::enabler::hint::{PUSH_TAG, PUSH_TYPES};
use crate::instant::WallTime;
use crate::keys::NafId;
use crate::keys::push::ue::{Associations, Discard, Made, Unwrapped};
use crate::keys::push::{GPI_TYPE, GPL_TYPE, UNDECIPHERABLE, print_answer};
use crate::keys::sqn::SqnWindow;
use crate::keys::usim::Usim;
use crate::provision::Lists;
use crate::wire::entity::Entity;
use crate::wire::{Message, Name};

/// Writes a card's window down; whether it is safely there.
pub type Keep = Arc<dyn Fn(&SqnWindow) -> bool + Send + Sync>;
/// Whom to tell what was pushed.
pub type Tell = Arc<dyn Fn(Notice) + Send + Sync>;

/// Something was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A key: an association is held.
    Made(Made),
    /// A push, to be shown.
    Shown {
        /// The server whose association it came under; `None` if the flow itself is secure.
        naf: Option<NafId>,
        /// Its type.
        kind: String,
        /// Its octets.
        content: Vec<u8>,
    },
    /// Something that is not taken, and why.
    Discarded(Discard),
}

/// What becomes of a MESSAGE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The status of the answer.
    pub status: u16,
    /// What it says of the push.
    pub says: Option<String>,
}

/// What a phone takes pushes with.
pub struct Pushed {
    card: Arc<Mutex<Usim>>,
    associations: Mutex<Associations>,
    keep: Keep,
    tell: Tell,
    /// Whom it was told to trust, and the edge whose flows it has.
    lists: Option<(Lists, String)>,
}

impl fmt::Debug for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushed").finish_non_exhaustive()
    }
}

impl Pushed {
    /// With that card, and the associations that it has.
    pub fn new(card: Arc<Mutex<Usim>>, associations: Associations, keep: Keep, tell: Tell) -> Self {
        Self { card, associations: Mutex::new(associations), keep, tell, lists: None }
    }

    /// The same, for a phone that was told whom to trust; its flows are to `edge`.
    pub fn trusting(mut self, lists: Lists, edge: &str) -> Self {
        self.lists = Some((lists, edge.to_owned()));
        self
    }

    /// Whether a push may be shown: what it was wrapped under is of a listed server, or else the edge and the initiator that
    /// it names are listed.
    ///
    /// Source: SEC_CF 1.1 B.8.
    fn is_listed(&self, naf: Option<&NafId>, message: &Message) -> bool {
        let Some((lists, edge)) = &self.lists else { return true };
        let Some(document) = lists.current() else { return false };
        match naf {
            Some(naf) => document.trusts_server(naf.fqdn()),
            None => {
                let host = initiator(message);
                document.trusts_server(edge)
                    && host.is_some_and(|host| document.trusts_initiator(&host))
            }
        }
    }

    /// What becomes of a MESSAGE that came on a flow; `None` if it is no push.
    pub fn receive(&self, message: &Message, secure: bool, now: WallTime) -> Option<Taken> {
        let media = message.content_type();
        let is = |kind: &str| media.as_ref().is_some_and(|media| body::is(media, kind));
        let tagged =
            message.features(Name::AcceptContact).flatten().any(|features| features.has(PUSH_TAG));
        let notice = if is(GPI_TYPE) {
            self.take_key(message.body(), now).map(|made| (Notice::Made(made), None))
        } else if is(GPL_TYPE) {
            self.open(message, now)
        } else if tagged || PUSH_TYPES.iter().any(|kind| is(kind)) {
            let kind = message.first(Name::ContentType).unwrap_or_default();
            match secure {
                true if !self.is_listed(None, message) => Err(Discard::ServerUnknown),
                true => Ok((shown(None, kind, message.body()), None)),
                false => Err(Discard::Unprotected),
            }
        } else {
            return None;
        };
        let (notice, taken) = match notice {
            Ok((notice, receipt)) => {
                let says = receipt.map(|receipt| print_answer("gpl", &receipt));
                (notice, Taken { status: 200, says })
            }
            Err(why) => (Notice::Discarded(why), refused(why)),
        };
        (self.tell)(notice);
        Some(taken)
    }

    fn take_key(&self, octets: &[u8], now: WallTime) -> Result<Made, Discard> {
        let mut card = self.card.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own = self.associations.lock().unwrap_or_else(PoisonError::into_inner);
        let before = card.window().clone();
        let made = own.take(octets, &mut card, now);
        if *card.window() != before && !(self.keep)(card.window()) {
            if made.is_ok() {
                own.forget_newest();
            }
            return Err(Discard::NotWritten);
        }
        made
    }

    fn open(&self, message: &Message, now: WallTime) -> Result<(Notice, Option<Vec<u8>>), Discard> {
        let mut own = self.associations.lock().unwrap_or_else(PoisonError::into_inner);
        let Unwrapped { naf, plain, receipt } = own.unwrap(message.body(), now)?;
        if !self.is_listed(Some(&naf), message) {
            return Err(Discard::ServerUnknown);
        }
        let entity = Entity::read(&plain).ok_or(Discard::Unfit)?;
        Ok((shown(Some(naf), entity.kind, entity.content), receipt))
    }
}

/// The host that a push says it is from: the one identity that the edge asserts, else From.
fn initiator(message: &Message) -> Option<String> {
    let mut asserted = message.addresses(Name::PAssertedIdentity);
    let found = match asserted.next() {
        Some(one) => asserted.next().is_none().then_some(one)??,
        None => message.addresses(Name::From).next()??,
    };
    Some(String::from_utf8_lossy(found.uri().host()).into_owned())
}

fn shown(naf: Option<NafId>, kind: &[u8], content: &[u8]) -> Notice {
    let kind = String::from_utf8_lossy(kind).into_owned();
    Notice::Shown { naf, kind, content: content.to_vec() }
}

fn refused(why: Discard) -> Taken {
    let (status, says) = match why {
        Discard::OutOfStep(auts) => (UNDECIPHERABLE, Some(print_answer("auts", &auts.0))),
        Discard::Unprotected | Discard::ServerUnknown => (403, None),
        Discard::NotWritten => (500, None),
        _ => (UNDECIPHERABLE, None),
    };
    Taken { status, says }
}

//! Keys, subscribers: who may bootstrap, and with what.
//!
//! Takes:   what the operator knows of a subscriber.
//! Gives:   [`Subscriber`]; from a file, by `file`; with sequence numbers that outlive a restart, by `state`.
//! Keeps:   nothing itself.
//! Refuses: see `file`.
//! Sources: TS 29.109 annex A (`uiccType`, `lifeTime`); TS 33.102 clause 6.3.

#[cfg(feature = "edge")]
pub mod disk;
#[cfg(feature = "edge")]
pub mod file;
#[cfg(feature = "edge")]
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use super::sqn::SqnGenerator;
use super::vector::{Algorithms, Amf};
use crate::authentication::Uss;
use crate::identity::{Impi, Impu};

/// Where the card keeps Ks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Card {
    /// The phone has it (GBA_ME).
    #[default]
    Gba,
    /// It never leaves the card (GBA_U): challenges carry AUTN*.
    GbaU,
}

/// One subscriber.
#[derive(Debug)]
pub struct Subscriber {
    /// The private identity.
    pub impi: Impi,
    /// The functions, with the key in them.
    pub algorithms: Algorithms,
    /// The AMF of the challenges.
    pub amf: Amf,
    /// The sequence numbers.
    pub sqn: SqnGenerator,
    /// Public identities, the default one first.
    pub impus: Arc<[Impu]>,
    /// How long a key lives, if not as long as the server says for all.
    pub key_lifetime: Option<Duration>,
    /// Whether bootstrapping is refused.
    pub barred: bool,
    /// The kind of card.
    pub card: Card,
    /// What the subscriber may use of the services that ask for a right.
    pub uss: Arc<[Uss]>,
}

/// What a home tells of a subscriber: his user security settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guss {
    /// The kind of card.
    pub card: Card,
    /// How long a key lives, if not as long as the server says for all.
    pub key_lifetime: Option<Duration>,
    /// Public identities, the default one first.
    pub impus: Arc<[Impu]>,
    /// What the subscriber may use of the services that ask for a right.
    pub uss: Arc<[Uss]>,
}

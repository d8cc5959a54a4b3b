//! Keys, subscribers: who may bootstrap, and with what.
//!
//! Takes:   what the operator knows of a subscriber.
//! Gives:   [`Subscriber`]; from a list, by `file`, whose sequence numbers outlive a restart by `state`; or one by one
//!          from a store ([`Roll`]), by `stored`.
//! Keeps:   nothing itself.
//! Refuses: see `file`.
//! Sources: TS 29.109 annex A (`uiccType`, `lifeTime`); TS 33.102 clause 6.3.

#[cfg(feature = "edge")]
pub mod disk;
#[cfg(feature = "edge")]
pub mod file;
#[cfg(feature = "edge")]
pub mod state;
#[cfg(feature = "edge")]
pub mod stored;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::sqn::SqnGenerator;
use super::vector::{Algorithms, Amf};
use crate::authentication::Uss;
use crate::authentication::digest::{Ha1, Hash};
use crate::identity::{Btid, Impi, Impu, Realm};
use crate::state::{Fault, Record, Value};

/// Where the card keeps Ks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Card {
    /// The phone has it (GBA_ME).
    #[default]
    Gba,
    /// It never leaves the card (GBA_U): challenges carry AUTN*.
    GbaU,
}

/// With what a subscriber bootstraps who has a password of SIP Digest (GBA_Digest).
pub enum DigestSecret {
    /// The password.
    Password(Zeroizing<String>),
    /// H(A1) for the realm that the server names, of each hash of which it is known.
    Ha1(Vec<(Hash, Ha1)>),
}

impl DigestSecret {
    /// H(A1) of `hash`; `None` if it is not known.
    ///
    /// Source: RFC 7616 section 3.4.2; TS 33.220 clause M.6.3, unread.
    pub fn ha1(&self, hash: Hash, impi: &Impi, realm: &Realm) -> Option<Ha1> {
        match self {
            Self::Password(password) => {
                let (impi, realm) = (impi.as_str().as_bytes(), realm.as_str().as_bytes());
                Some(Ha1::new(hash, impi, realm, password.as_bytes()))
            }
            Self::Ha1(known) => {
                known.iter().find(|(of, _)| *of == hash).map(|(_, ha1)| ha1.clone())
            }
        }
    }
}

impl fmt::Debug for DigestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestSecret(..)")
    }
}

/// One subscriber.
#[derive(Debug)]
pub struct Subscriber {
    /// The private identity.
    pub impi: Impi,
    /// The functions, with the key in them; none for who has no card.
    pub algorithms: Option<Algorithms>,
    /// The password; none for most.
    pub digest: Option<DigestSecret>,
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

/// A subscriber as a [`Roll`] has it.
#[derive(Debug)]
pub struct Enrolled {
    /// The subscriber; its sequence number is one that no challenge has passed.
    pub subscriber: Subscriber,
    /// The SEQ up to which challenges may go before more are reserved.
    pub vouched: u64,
}

/// Subscribers that are asked for one by one, and what the bootstrapping server may not forget.
///
/// An implementation that errs does to its subscribers what a [`Store`](crate::state::Store) that errs does: one that
/// gives another's key lets in whoever has that key, and one that vouches for a number twice makes an old challenge
/// good again.
pub trait Roll: Send + Sync + fmt::Debug {
    /// The subscriber of that name.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if that cannot be said.
    fn find(&self, impi: &Impi) -> Result<Option<Enrolled>, Fault>;

    /// Reserves sequence numbers: for each subscriber, up to this SEQ. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; none of them may be used then.
    fn reserve(&self, reserved: &[(Impi, u64)]) -> Result<(), Fault>;

    /// Writes sessions down, and takes out those without octets.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; a session that is not written ends with the process.
    fn keep_sessions(&self, sessions: &[(Btid, Option<Value>)]) -> Result<(), Fault>;

    /// Up to `most` sessions that were written down, those after `after`.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    fn sessions(&self, after: &[u8], most: usize) -> Result<Vec<Record>, Fault>;
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

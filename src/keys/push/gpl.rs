//! Keys, push, the layer: who wraps counts, who unwraps remembers how far.
//!
//! Takes:   the key of an association, messages, octets that came.
//! Gives:   [`Sender`] and [`Receiver`], one of each at either end.
//! Keeps:   the number used last; the highest number of which the tag was right (SN_h).
//! Refuses: to use a number twice, and so a message after 2^32 - 1; a number that is not above SN_h, before its tag is
//!          looked at; another direction, another association.
//! Sources: TS 33.224 clause 3.1 (SN_h moves with a validated MAC alone); V-145.

use std::sync::Arc;

use super::{Direction, Frame, LayerKey, Profile, Unfit};
use crate::keys::KsNaf;
use crate::keys::derivation::DeriveError;

/// Why a message was not wrapped or unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFault {
    /// Not a message of this association and this direction.
    Unfit(Unfit),
    /// Its number was here already, or a higher one was.
    Replayed,
    /// All numbers are used up.
    Spent,
}

impl From<Unfit> for LayerFault {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// What one end does with an association in one direction.
#[derive(Debug)]
struct End {
    profile: Arc<dyn Profile>,
    key: LayerKey,
    direction: Direction,
    id: Box<[u8]>,
    /// The number used last, or SN_h.
    number: u32,
}

impl End {
    fn new(
        profile: &Arc<dyn Profile>,
        key: &KsNaf,
        direction: Direction,
        id: &[u8],
    ) -> Result<Self, DeriveError> {
        let (profile, key) = (Arc::clone(profile), profile.layer_key(key, direction)?);
        Ok(Self { profile, key, direction, id: id.into(), number: 0 })
    }
}

/// The end that wraps.
#[derive(Debug)]
pub struct Sender(End);

/// The end that unwraps.
#[derive(Debug)]
pub struct Receiver(End);

impl Sender {
    /// For the association of that key, called `id` in that direction.
    ///
    /// # Errors
    ///
    /// [`DeriveError`] never, in practice.
    pub fn new(
        profile: &Arc<dyn Profile>,
        key: &KsNaf,
        direction: Direction,
        id: &[u8],
    ) -> Result<Self, DeriveError> {
        End::new(profile, key, direction, id).map(Self)
    }

    /// Wraps a message under the next number, which is given too.
    ///
    /// # Errors
    ///
    /// [`LayerFault::Spent`]; [`LayerFault::Unfit`] for a message that is too long, whose number is used up all the same.
    pub fn wrap(&mut self, plain: &[u8]) -> Result<(u32, Vec<u8>), LayerFault> {
        let End { profile, key, direction, id, number } = &mut self.0;
        let next = number.checked_add(1).ok_or(LayerFault::Spent)?;
        *number = next;
        let frame = Frame { direction: *direction, id, number: next };
        Ok((next, profile.wrap(key, &frame, plain)?))
    }

    /// The number used last.
    pub fn last(&self) -> u32 {
        self.0.number
    }

    /// As if all numbers up to this one had been used, for a test of the end.
    #[must_use]
    pub fn after(self, number: u32) -> Self {
        Self(End { number: self.0.number.max(number), ..self.0 })
    }
}

impl Receiver {
    /// For the association of that key, called `id` in that direction.
    ///
    /// # Errors
    ///
    /// [`DeriveError`] never, in practice.
    pub fn new(
        profile: &Arc<dyn Profile>,
        key: &KsNaf,
        direction: Direction,
        id: &[u8],
    ) -> Result<Self, DeriveError> {
        End::new(profile, key, direction, id).map(Self)
    }

    /// The name of the association in this direction.
    pub fn id(&self) -> &[u8] {
        &self.0.id
    }

    /// Unwraps a message, whose number is given too.
    ///
    /// # Errors
    ///
    /// [`LayerFault`]; SN_h is what it was then.
    pub fn unwrap(&mut self, octets: &[u8]) -> Result<(u32, Vec<u8>), LayerFault> {
        let End { profile, key, direction, id, number: highest } = &mut self.0;
        let Frame { direction: way, id: of, number } = profile.frame(octets)?;
        if way != *direction || of != &**id {
            return Err(Unfit::Malformed.into());
        }
        if number <= *highest {
            return Err(LayerFault::Replayed);
        }
        let plain = profile.unwrap(key, octets)?;
        *highest = number;
        Ok((number, plain))
    }
}

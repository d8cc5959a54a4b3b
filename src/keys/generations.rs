//! Keys, generations: a secret that is replaced while it is in use, and those before it until their overlap ends.
//!
//! Takes:   secrets, and until when the one before each is taken.
//! Gives:   the one in force, and those that are still taken.
//! Keeps:   [`BEFORE_MAX`] of those before; the oldest goes first.
//! Refuses: nothing; one that is in force already takes nobody's place.
//! Sources: SEC_CF 1.1 SEC-003.

use smallvec::SmallVec;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::instant::WallTime;

/// How many replaced secrets are taken beside the one in force, at most.
pub const BEFORE_MAX: usize = 2;

/// A secret of 32 octets.
type Secret = Zeroizing<[u8; 32]>;

/// The secret in force, and those before it.
#[derive(Clone)]
pub struct Generations {
    current: Secret,
    /// The latest first, each with the time from which on it is not taken.
    before: SmallVec<[(Secret, WallTime); BEFORE_MAX]>,
}

impl std::fmt::Debug for Generations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generations").field("before", &self.before.len()).finish_non_exhaustive()
    }
}

impl Generations {
    /// One secret, and none before it.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { current: Zeroizing::new(secret), before: SmallVec::new() }
    }

    /// With `secret` in force; the one before is taken until `until`. `None` if it is in force already.
    pub fn replaced(&self, secret: &[u8; 32], until: WallTime) -> Option<Self> {
        let is = |other: &Secret| bool::from(secret.ct_eq(&**other));
        if is(&self.current) {
            return None;
        }
        let mut before = SmallVec::new();
        before.push((self.current.clone(), until));
        before.extend(self.before.iter().filter(|(other, _)| !is(other)).cloned());
        before.truncate(BEFORE_MAX);
        Some(Self { current: Zeroizing::new(*secret), before })
    }

    /// Those that are left at `wall`; `None` if all are.
    pub fn swept(&self, wall: WallTime) -> Option<Self> {
        let mut left = self.clone();
        left.before.retain(|(_, until)| wall < *until);
        (left.before.len() < self.before.len()).then_some(left)
    }

    /// Each, that in force first, with the time from which on it is not taken.
    pub fn all(&self) -> impl Iterator<Item = (&[u8; 32], Option<WallTime>)> {
        let before = self.before.iter().map(|(secret, until)| (&**secret, Some(*until)));
        std::iter::once((&*self.current, None)).chain(before)
    }

    /// The one in force.
    pub fn current(&self) -> &[u8; 32] {
        &self.current
    }

    /// The same, made of each.
    #[must_use]
    pub fn map(&self, of: impl Fn(&[u8; 32]) -> [u8; 32]) -> Self {
        let derived = |secret: &Secret| Zeroizing::new(of(secret));
        let before = self.before.iter().map(|(secret, until)| (derived(secret), *until));
        Self { current: derived(&self.current), before: before.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(of: &Generations) -> Vec<(u8, Option<u64>)> {
        of.all().map(|(secret, until)| (secret[0], until.map(WallTime::as_unix))).collect()
    }

    /// SEC-003.
    #[test]
    fn those_before_are_taken_until_their_overlap_ends_and_are_bounded() {
        let at = WallTime::from_unix;
        let one = Generations::new([1; 32]);
        assert!(one.replaced(&[1; 32], at(5)).is_none(), "it is in force");
        let two = one.replaced(&[2; 32], at(10)).expect("another");
        assert_eq!(shown(&two), [(2, None), (1, Some(10))]);
        let three = two.replaced(&[3; 32], at(20)).expect("another");
        assert_eq!(shown(&three), [(3, None), (2, Some(20)), (1, Some(10))]);
        let four = three.replaced(&[4; 32], at(30)).expect("another");
        assert_eq!(shown(&four), [(4, None), (3, Some(30)), (2, Some(20))], "the oldest went");
        let back = three.replaced(&[2; 32], at(30)).expect("another");
        assert_eq!(shown(&back), [(2, None), (3, Some(30)), (1, Some(10))], "put back");
        assert!(three.swept(at(9)).is_none());
        assert_eq!(shown(&three.swept(at(10)).expect("one went")), [(3, None), (2, Some(20))]);
        assert_eq!(shown(&three.swept(at(20)).expect("both went")), [(3, None)]);
        assert!(!format!("{three:?}").contains("3, 3"));
    }
}

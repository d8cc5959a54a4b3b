//! Stage 5, ends: whose dialogs bear a Call-ID and a tag.
//!
//! Whoever sees a call may form one of his own under the same Call-ID and tag. We would give him a token for it, and after
//! a restart, when nothing but tokens is left, that token would be as good for the call he saw. So nobody forms a dialog
//! under what is an end of another's, as long as that is held.
//!
//! Takes:   the ends of dialogs, and of requests that may form some, as they come and go.
//! Gives:   whether an end is another's.
//! Keeps:   an entry of 24 octets for each end of a dialog that is held, two at most.
//! Refuses: nothing; `table` does.
//! Sources: RFC 3261 sections 8.1.1.4 and 19.3 (Call-IDs and tags are unique); rules 10 and 23.

use std::hash::BuildHasher as _;
use std::num::NonZeroU64;
use std::sync::Arc;

use dashmap::Entry;

use crate::gate::Gate;
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::layered::Layered;

/// Call-ID and one tag, as a keyed hash: no peer can choose where it falls. Two of one hash among so many as we hold are
/// less likely than a guessed tag, and all that could come of it is that somebody's call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End(NonZeroU64);

impl End {
    /// Of a request that is not kept.
    pub(super) const NONE: Self = Self(NonZeroU64::MAX);

    pub(super) fn of(hash: u64) -> Self {
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }
}

/// How many dialogs and requests of one owner have an end; he by keyed hash.
type Held = (NonZeroU64, u32);

/// Whose an end is: nearly always one's.
#[derive(Clone, Debug)]
pub(super) enum Owners {
    One(Held),
    /// None of them has none.
    #[expect(
        clippy::box_collection,
        reason = "one pointer: nearly no entry has it, and all have room for it"
    )]
    More(Box<Vec<Held>>),
}

impl Owners {
    fn held(&self) -> &[Held] {
        match self {
            Self::One(held) => std::slice::from_ref(held),
            Self::More(all) => all,
        }
    }

    fn held_mut(&mut self) -> &mut [Held] {
        match self {
            Self::One(held) => std::slice::from_mut(held),
            Self::More(all) => all,
        }
    }

    fn add(&mut self, owner: NonZeroU64) {
        if let Some((_, count)) = self.held_mut().iter_mut().find(|(known, _)| *known == owner) {
            *count = count.saturating_add(1);
        } else {
            let mut all = self.held().to_vec();
            all.push((owner, 1));
            *self = Self::More(Box::new(all));
        }
    }

    /// Whether it is nobody's then.
    fn remove(&mut self, owner: NonZeroU64) -> bool {
        if let Some((_, count)) = self.held_mut().iter_mut().find(|(known, _)| *known == owner) {
            *count = count.saturating_sub(1);
        }
        if let Self::More(all) = self {
            all.retain(|(_, count)| *count > 0);
            if let [one] = all.as_slice() {
                *self = Self::One(*one);
            }
        }
        self.held().iter().all(|(_, count)| *count == 0)
    }
}

#[derive(Debug)]
pub(super) struct Ends {
    owners: Layered<End, Owners, Hashed>,
    hasher: Seeded,
}

impl Default for Ends {
    fn default() -> Self {
        Self { owners: Layered::default(), hasher: seeded() }
    }
}

impl Ends {
    /// Ends over those of `of`.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let beneath = Arc::clone(of);
        let copy = move |end: &End| beneath.associations.ends.owners.get(end).map(|it| it.clone());
        let hasher = of.associations.ends.hasher.clone();
        Self { owners: Layered::over(Hashed::default(), copy), hasher }
    }

    /// One dialog more of `owner` has it.
    pub(super) fn add(&self, end: End, owner: &Principal) {
        let owner = self.mark(owner);
        match self.owners.entry(end) {
            Entry::Occupied(mut place) => place.get_mut().add(owner),
            Entry::Vacant(place) => drop(place.insert(Owners::One((owner, 1)))),
        }
    }

    /// One dialog less.
    pub(super) fn remove(&self, end: End, owner: &Principal) {
        let owner = self.mark(owner);
        self.owners.remove_if_mut(&end, |_, owners| owners.remove(owner));
    }

    /// Whether it is of dialogs of others, and of none of `owner`.
    pub(super) fn is_anothers(&self, end: End, owner: &Principal) -> bool {
        let owner = self.mark(owner);
        let known = self.owners.get(&end);
        known.is_some_and(|owners| owners.held().iter().all(|(known, _)| *known != owner))
    }

    fn mark(&self, owner: &Principal) -> NonZeroU64 {
        NonZeroU64::new(self.hasher.hash_one(owner)).unwrap_or(NonZeroU64::MIN)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialog::Keyer;
    use super::*;
    use crate::identity::Proof;

    #[test]
    fn an_end_is_whose_dialogs_have_it_until_the_last_of_them_is_gone() {
        let ends = Ends::default();
        let [alice, bob, mallory] =
            ["alice", "bob", "mallory"].map(|name| Principal::new(Proof::Gba, name));
        let keyer = Keyer::new([1; 16]);
        let end = keyer.end(b"call", b"Tag");
        assert_eq!(end, keyer.end(b"call", b"tAG"), "tags fold");
        assert_ne!(end, keyer.end(b"Call", b"tag"), "Call-IDs do not");
        assert_ne!(keyer.end(b"ab", b"c"), keyer.end(b"a", b"bc"));
        assert!(!ends.is_anothers(end, &mallory), "nobody's");
        ends.add(end, &alice);
        ends.add(end, &alice);
        ends.add(end, &bob);
        assert!(ends.is_anothers(end, &mallory));
        assert!(!ends.is_anothers(end, &alice) && !ends.is_anothers(end, &bob));
        ends.remove(end, &alice);
        assert!(!ends.is_anothers(end, &alice), "one is left");
        ends.remove(end, &alice);
        assert!(ends.is_anothers(end, &alice), "now it is bob's alone");
        ends.remove(end, &bob);
        ends.remove(end, &bob);
        assert_eq!(ends.len(), 0);
    }
}

//! Stage 5, ends: whose dialogs bear a Call-ID and a tag.
//!
//! Whoever sees a call may form one of his own under the same Call-ID and tag. We would give him a token for it, and after
//! a restart, when nothing but tokens is left, that token would be as good for the call he saw. So nobody forms a dialog
//! under what is an end of another's, as long as that is held.
//!
//! Takes:   the ends of dialogs, and of requests that may form some, as they come and go.
//! Gives:   whether an end is another's.
//! Keeps:   an entry of 48 octets for each end of a dialog that is held, two at most.
//! Refuses: nothing; `table` does.
//! Sources: RFC 3261 sections 8.1.1.4 and 19.3 (Call-IDs and tags are unique); rules 10 and 23.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use dashmap::Entry;
use smallvec::SmallVec;

use super::dialog::DialogKey;
use crate::gate::Gate;
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::layered::Layered;

#[derive(Debug)]
pub(super) struct Ends {
    /// By end: owners, each by keyed hash, and how many dialogs and requests of his have it.
    owners: Layered<DialogKey, SmallVec<[(u64, u32); 1]>, Hashed>,
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
        let copy = move |end: &DialogKey| {
            beneath.associations.ends.owners.get(end).map(|owners| owners.clone())
        };
        let hasher = of.associations.ends.hasher.clone();
        Self { owners: Layered::over(Hashed::default(), copy), hasher }
    }

    /// One dialog more of `owner` has it.
    pub(super) fn add(&self, end: DialogKey, owner: &Principal) {
        let owner = self.hasher.hash_one(owner);
        let mut owners = self.owners.entry(end).or_default();
        match owners.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => owners.push((owner, 1)),
        }
    }

    /// One dialog less.
    pub(super) fn remove(&self, end: DialogKey, owner: &Principal) {
        let owner = self.hasher.hash_one(owner);
        let Entry::Occupied(mut place) = self.owners.entry(end) else { return };
        let owners = place.get_mut();
        if let Some((_, count)) = owners.iter_mut().find(|(known, _)| *known == owner) {
            *count = count.saturating_sub(1);
        }
        owners.retain(|(_, count)| *count > 0);
        if owners.is_empty() {
            place.remove();
        }
    }

    /// Whether it is of dialogs of others, and of none of `owner`.
    pub(super) fn is_anothers(&self, end: DialogKey, owner: &Principal) -> bool {
        let owner = self.hasher.hash_one(owner);
        let known = self.owners.get(&end);
        known.is_some_and(|owners| owners.iter().all(|(known, _)| *known != owner))
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

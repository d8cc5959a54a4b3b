//! Stage 1, users: how many connections one user may have on the strength of a key or a certificate.
//!
//! Takes:   who a handshake proved.
//! Gives:   a place, taken until it is dropped.
//! Keeps:   a count for each user with a connection.
//! Refuses: more of one user than the bound it was made with.
//! Sources: `TR-08`, `V-45`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::Principal;

/// How many connections each user has.
#[derive(Debug)]
pub(super) struct Users {
    of_user: usize,
    counts: Mutex<HashMap<Principal, usize>>,
}

impl Users {
    /// Nobody has any.
    pub(super) fn new(of_user: usize) -> Arc<Self> {
        Arc::new(Self { of_user, counts: Mutex::default() })
    }

    /// One more of `user`; `None` if there are as many as there may be.
    pub(super) fn enter(self: &Arc<Self>, user: &Principal) -> Option<Place> {
        let mut counts = self.lock();
        let count = counts.get(user).copied().unwrap_or(0);
        if count >= self.of_user {
            return None;
        }
        counts.insert(user.clone(), count.saturating_add(1));
        drop(counts);
        Some(Place { users: Arc::clone(self), user: user.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place {
    users: Arc<Users>,
    user: Principal,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.users.lock();
        if let Some(count) = counts.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Proof;

    #[test]
    fn a_user_has_so_many_and_others_have_theirs() {
        let users = Users::new(2);
        let name = |name: &str| Principal::new(Proof::ProvisionedKey, name);
        let (alice, bob) = (name("alice"), name("bob"));
        let [first, second] = [(); 2].map(|()| users.enter(&alice).expect("a place"));
        assert!(users.enter(&alice).is_none(), "one too many");
        let other = users.enter(&bob).expect("his own");
        drop(first);
        let third = users.enter(&alice).expect("the place of the first");
        drop((second, third, other));
        assert!(users.lock().is_empty(), "nothing is kept of who left");
    }
}

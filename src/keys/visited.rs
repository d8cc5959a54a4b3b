//! Keys, visited: a key for the part of a service that is in another network, made at home, given to both ends.
//!
//! Takes:   the key that a device proved at home, the name of the visited part, random octets, the time.
//! Gives:   [`Book`], the home's: keys that were made, each for its owner alone; [`Guests`], the visited part's.
//! Keeps:   at most [`MADE_MAX`] keys at home and [`GUESTS_MAX`] from elsewhere, until they end.
//! Refuses: more keys; a name that is there already; a key whose time is over.
//! Sources: SEC_CF 1.1 B.6, AUTH-002 c; RFC 5869. How the key is made is this program's own: the source leaves it open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::UaId;
use super::derivation::hkdf;
use super::psk::{Provisioned, PskKey, VISITED};
use crate::identity::Principal;
use crate::instant::WallTime;

/// Most keys that were made and have not ended.
pub const MADE_MAX: usize = 100_000;
/// Most keys of one device that have not ended.
pub const MADE_OF_ONE: usize = 16;
/// Most keys that were handed over to us and have not ended.
pub const GUESTS_MAX: usize = 100_000;

/// A key that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What the device sends in its handshakes.
    pub identity: Box<str>,
    /// The key.
    pub key: PskKey,
    /// When it ends.
    pub expires: WallTime,
    /// The visited part.
    pub server: Arc<str>,
    owner: Principal,
}

/// Keys that were made here.
#[derive(Debug, Default)]
pub struct Book(Mutex<HashMap<Box<str>, Made>>);

/// What a key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The key that its owner proved here.
    pub from: &'a PskKey,
    /// Who that is.
    pub owner: &'a Principal,
    /// The name of the visited part.
    pub server: &'a Arc<str>,
    /// Our own name.
    pub home: &'a str,
    /// When it ends.
    pub expires: WallTime,
}

impl Book {
    /// Makes a key with a random number; `None` if there is no room.
    ///
    /// Whoever has it cannot compute that of another part, nor that which it was made of.
    pub fn make(&self, order: &Order<'_>, number: [u8; 16], now: WallTime) -> Option<Made> {
        let Order { from, owner, server, home, expires } = *order;
        let mut info = b"sipward visited key 1\0".to_vec();
        info.extend_from_slice(server.to_ascii_lowercase().as_bytes());
        info.push(0);
        info.extend_from_slice(&UaId::SHARED_KEY_TLS13.0);
        let key = hkdf::<32>(&number, from.expose(), &info).ok()?;
        let id: String = number.iter().map(|octet| format!("{octet:02x}")).collect();
        let made = Made {
            identity: format!("{VISITED}{id}@{home}").into(),
            key: PskKey::new(&*key)?,
            expires,
            server: Arc::clone(server),
            owner: owner.clone(),
        };
        let mut all = self.all();
        all.retain(|_, made| made.expires > now);
        let of_one = all.values().filter(|made| made.owner == *owner).count();
        if all.len() >= MADE_MAX || of_one >= MADE_OF_ONE {
            return None;
        }
        all.insert(made.identity.clone(), made.clone());
        Some(made)
    }

    /// The key of that name, for its owner alone.
    pub fn of(&self, owner: &Principal, identity: &str, now: WallTime) -> Option<Made> {
        let found = self.all().get(identity).cloned();
        found.filter(|made| made.owner == *owner && made.expires > now)
    }

    /// Forgets one: the visited part did not take it.
    pub fn forget(&self, identity: &str) {
        self.all().remove(identity);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Box<str>, Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that others handed over.
#[derive(Debug, Default)]
pub struct Guests(Mutex<HashMap<Box<str>, Arc<Provisioned>>>);

impl Guests {
    /// Takes one in; whether it is there now. The same one again is; another of that name is not.
    pub fn put(&self, identity: &str, key: Provisioned, now: WallTime) -> bool {
        let mut all = self.all();
        all.retain(|_, key| key.expires.is_some_and(|expires| expires > now));
        if let Some(known) = all.get(identity) {
            return known.is_same(&key);
        }
        let lives = key.expires.is_some_and(|expires| expires > now);
        if all.len() >= GUESTS_MAX || !lives {
            return false;
        }
        all.insert(identity.into(), Arc::new(key));
        true
    }

    /// The key of that name.
    pub fn get(&self, identity: &str) -> Option<Arc<Provisioned>> {
        self.all().get(identity).map(Arc::clone)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Provisioned>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Proof;

    const NOW: WallTime = WallTime::from_unix(1_800_000_000);
    const LATER: WallTime = WallTime::from_unix(1_800_000_600);

    fn alice() -> Principal {
        Principal::new(Proof::Gba, "alice@ims.example.net")
    }

    fn make(book: &Book, owner: &Principal, server: &str, number: u8) -> Option<Made> {
        let from = PskKey::new(&[7; 32]).unwrap();
        let server = Arc::from(server);
        let home = "edge.example.net";
        let order = Order { from: &from, owner, server: &server, home, expires: LATER };
        book.make(&order, [number; 16], NOW)
    }

    /// B.6, V-144: a key is for one part and one owner.
    #[test]
    fn each_part_has_its_own_key_and_each_key_its_owner() {
        let book = Book::default();
        let here = make(&book, &alice(), "visited.example.org", 1).unwrap();
        assert_eq!(&*here.identity, &*format!("visited;{}@edge.example.net", "01".repeat(16)));
        let there = make(&book, &alice(), "elsewhere.example.org", 2).unwrap();
        let other = Book::default();
        let same_number = make(&other, &alice(), "elsewhere.example.org", 1).unwrap();
        for key in [&there.key, &same_number.key] {
            assert_ne!(key.expose(), here.key.expose());
        }
        let again = make(&other, &alice(), "VISITED.example.org", 1);
        assert_eq!(again.unwrap().key.expose(), here.key.expose(), "names have no case");
        assert!(book.of(&alice(), &here.identity, NOW).is_some());
        assert!(book.of(&alice(), &here.identity, LATER).is_none(), "it has ended");
        let rogue = Principal::new(Proof::Gba, "rogue@ims.example.net");
        assert!(book.of(&rogue, &here.identity, NOW).is_none());
        book.forget(&here.identity);
        assert!(book.of(&alice(), &here.identity, NOW).is_none());
    }

    #[test]
    fn tables_are_bounded() {
        let book = Book::default();
        let most = u8::try_from(MADE_OF_ONE).unwrap();
        for number in 0..most {
            assert!(make(&book, &alice(), "visited.example.org", number).is_some(), "{number}");
        }
        assert!(make(&book, &alice(), "visited.example.org", most).is_none());
        let other = Principal::new(Proof::Gba, "bob@ims.example.net");
        assert!(make(&book, &other, "visited.example.org", most).is_some());
    }

    #[test]
    fn a_guest_key_is_taken_once_and_ends() {
        let guests = Guests::default();
        let key = |octet: u8, expires| Provisioned {
            key: PskKey::new(&[octet; 32]).unwrap(),
            identities: Arc::from([]),
            expires,
        };
        assert!(guests.put("visited;1@edge", key(1, Some(LATER)), NOW));
        assert!(guests.put("visited;1@edge", key(1, Some(LATER)), NOW), "the same again");
        assert!(!guests.put("visited;1@edge", key(2, Some(LATER)), NOW), "another");
        assert!(!guests.put("visited;2@edge", key(2, Some(NOW)), NOW), "its time is over");
        assert!(!guests.put("visited;3@edge", key(2, None), NOW), "it would never end");
        assert!(guests.get("visited;1@edge").is_some() && guests.get("visited;2@edge").is_none());
        assert!(!guests.put("visited;4@edge", key(4, Some(NOW)), LATER));
        assert!(guests.is_empty(), "what has ended goes");
    }
}

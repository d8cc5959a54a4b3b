//! Stage 4, accounts: users with a password, for whom no bootstrapping server is needed.
//!
//! Takes:   accounts, as the configuration read them.
//! Gives:   HA1 of a user for a hash, and the caller he is.
//! Keeps:   one entry for each user, `ACCOUNTS_MAX` at most; passwords and HA1 are zeroed on drop.
//! Refuses: a username with a colon, since A1 would be ambiguous; an account twice; an HA1 of the wrong length.
//! Sources: RFC 7616 section 3.4.2; RFC 8760 section 2; V-96.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::caller::{Caller, Renewal, Rights};
use super::digest::{Ha1, Hash};
use super::ready::Ready;
use crate::enabler::ClassSet;
use crate::hashing::{Seeded, seeded};
use crate::identity::{Impu, NAME_MAX, Principal, Proof};

/// Most accounts.
pub const ACCOUNTS_MAX: usize = 1_000_000;

/// What proves a user.
#[derive(Clone)]
pub enum Secret {
    /// The password: good for every hash.
    Password(Zeroizing<String>),
    /// HA1 for the hashes it was computed with.
    Ha1(Vec<(Hash, Ha1)>),
}

impl Secret {
    /// HA1 of a user for `hash`; `None` if it is not to be had.
    pub fn ha1(&self, hash: Hash, realm: &str, username: &str) -> Option<Ha1> {
        match self {
            Self::Password(password) => {
                let [username, realm] = [username, realm].map(str::as_bytes);
                Some(Ha1::new(hash, username, realm, password.as_bytes()))
            }
            Self::Ha1(stored) => {
                stored.iter().find(|(of, _)| *of == hash).map(|(_, ha1)| ha1.clone())
            }
        }
    }

    /// Whether both are the same of that user: for a hash at least, and for every one that both have.
    fn is_same(&self, other: &Self, realm: &str, username: &str) -> bool {
        let is = |one: &str, other: &str| bool::from(one.as_bytes().ct_eq(other.as_bytes()));
        if let (Self::Password(one), Self::Password(other)) = (self, other) {
            return is(one, other);
        }
        let same = HASHES.into_iter().filter_map(|hash| {
            let one = self.ha1(hash, realm, username)?;
            Some(is(one.expose(), other.ha1(hash, realm, username)?.expose()))
        });
        same.reduce(|all, one| all && one).unwrap_or(false)
    }
}

const HASHES: [Hash; 3] = [Hash::Md5, Hash::Sha256, Hash::Sha512_256];

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One user.
#[derive(Clone, Debug)]
pub struct Account {
    /// What proves him.
    pub secret: Secret,
    /// Public identities, the default one first.
    pub identities: Arc<[Impu]>,
    /// Whether he may not use the service now: as if he did not exist.
    pub disabled: bool,
    /// Classes that he may use, if he is held to a list of them.
    pub classes: Option<ClassSet>,
}

/// Why an account cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountUnfit {
    /// The username is empty, too long, or has a colon, a quote or a control character in it.
    Username,
    /// There is an account of that name in that realm.
    Twice,
    /// More than [`ACCOUNTS_MAX`].
    Full,
}

/// Whether A1 with this username can mean one thing alone, and a header can carry it.
pub fn is_username(text: &str) -> bool {
    let clean = |c: char| !c.is_control() && !matches!(c, ':' | '"' | '\\');
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(clean)
}

impl Account {
    /// The caller that this user is.
    fn caller(&self, ready: &Ready, realm: &str, username: &str) -> Arc<Caller> {
        ready.caller(|| Caller {
            principal: Principal::new(Proof::Account, format!("{realm}\t{username}")),
            renewal: Renewal::default(),
            identities: Arc::clone(&self.identities),
            key_name: username.into(),
            expires: None,
            strongest: AtomicU8::new(0),
            rights: Rights { classes: self.classes, ..Rights::default() },
        })
    }
}

/// Users by realm and name.
#[derive(Debug, Default)]
pub struct Accounts {
    realms: HashMap<Box<str>, HashMap<Box<str>, Entry, Seeded>>,
    count: usize,
}

#[derive(Debug)]
struct Entry {
    account: Account,
    ready: Ready,
}

impl Accounts {
    /// Adds an account.
    ///
    /// # Errors
    ///
    /// [`AccountUnfit`] with the reason; nothing was added then.
    pub fn add(
        &mut self,
        realm: &str,
        username: &str,
        account: Account,
    ) -> Result<(), AccountUnfit> {
        if !is_username(username) {
            return Err(AccountUnfit::Username);
        }
        if self.count >= ACCOUNTS_MAX {
            return Err(AccountUnfit::Full);
        }
        let users = self.realms.entry(realm.into());
        let users = users.or_insert_with(|| HashMap::with_hasher(seeded()));
        if users.contains_key(username) {
            return Err(AccountUnfit::Twice);
        }
        users.insert(username.into(), Entry { account, ready: Ready::default() });
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Puts those of `others` beside these. Who stands in both is let in by neither, so that whoever may write to one of
    /// two places takes nobody's name in the other. Realm and username of each that was left out, and why.
    pub fn join(&mut self, others: &Self) -> Vec<(Box<str>, Box<str>, AccountUnfit)> {
        let mut left_out = Vec::new();
        for (realm, users) in &others.realms {
            for (username, entry) in users {
                if let Err(why) = self.add(realm, username, entry.account.clone()) {
                    left_out.push((realm.clone(), username.clone(), why));
                }
            }
        }
        let twice = left_out.iter().filter(|(.., why)| *why == AccountUnfit::Twice);
        for (realm, username, _) in twice {
            self.remove(realm, username);
        }
        left_out
    }

    fn remove(&mut self, realm: &str, username: &str) {
        let removed = self.realms.get_mut(realm).and_then(|users| users.remove(username));
        self.count = self.count.saturating_sub(usize::from(removed.is_some()));
    }

    /// How many of these there are not among `others`.
    pub fn beyond(&self, others: &Self) -> usize {
        let mut beyond = 0_usize;
        for (realm, users) in &self.realms {
            let known = others.realms.get(realm);
            let new = users.keys().filter(|name| known.is_none_or(|it| !it.contains_key(*name)));
            beyond = beyond.saturating_add(new.count());
        }
        beyond
    }

    /// The caller a user is, and his HA1 for `hash`; `None` if there is no such user, he is disabled, or no HA1 of
    /// that hash is stored.
    pub fn user(&self, realm: &str, username: &str, hash: Hash) -> Option<(Arc<Caller>, Ha1)> {
        let found = self.realms.get(realm)?.get(username)?;
        Self::of_entry(found, &found.ready, realm, username, hash)
    }

    /// The same, and nothing of it is kept: the caller is a twin.
    pub(super) fn aside(
        &self,
        realm: &str,
        username: &str,
        hash: Hash,
    ) -> Option<(Arc<Caller>, Ha1)> {
        let found = self.realms.get(realm)?.get(username)?;
        Self::of_entry(found, &found.ready.twin(), realm, username, hash)
    }

    fn of_entry(
        entry: &Entry,
        ready: &Ready,
        realm: &str,
        username: &str,
        hash: Hash,
    ) -> Option<(Arc<Caller>, Ha1)> {
        let account = Some(&entry.account).filter(|account| !account.disabled)?;
        let ha1 = match &account.secret {
            Secret::Password(password) => ready.ha1(hash, || {
                Ha1::new(hash, username.as_bytes(), realm.as_bytes(), password.as_bytes())
            }),
            Secret::Ha1(stored) => {
                stored.iter().find(|(of, _)| *of == hash).map(|(_, ha1)| ha1.clone())?
            }
        };
        Some((account.caller(ready, realm, username), ha1))
    }

    /// Holds each user to the best algorithm that he has used among `before`.
    pub fn hold_as(&self, before: &Self) {
        for (realm, users) in &self.realms {
            let Some(known) = before.realms.get(realm) else { continue };
            for (username, entry) in users {
                let used = known.get(username).and_then(|before| before.ready.known_caller());
                let best = used.map_or(0, |caller| caller.strongest.load(Ordering::Relaxed));
                if best > 0 {
                    let caller = entry.account.caller(&entry.ready, realm, username);
                    caller.strongest.fetch_max(best, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether what that caller proved among `before` proves him here too: he is here, not disabled, with the same secret.
    pub fn still_has(&self, caller: &Caller, before: &Self) -> bool {
        let Some((realm, username)) = caller.principal.name.split_once('\t') else { return false };
        let here = self.account(realm, username).filter(|account| !account.disabled);
        here.zip(before.account(realm, username))
            .is_some_and(|(here, there)| here.secret.is_same(&there.secret, realm, username))
    }

    /// Whether the account of that name is still here, and not disabled.
    pub fn has_principal(&self, principal: &Principal) -> bool {
        let named = principal.name.split_once('\t');
        let account = named.and_then(|(realm, username)| self.account(realm, username));
        account.is_some_and(|account| !account.disabled)
    }

    fn account(&self, realm: &str, username: &str) -> Option<&Account> {
        Some(&self.realms.get(realm)?.get(username)?.account)
    }

    /// Public identities of a user; `None` as in [`Accounts::user`].
    pub fn identities(&self, realm: &str, username: &str) -> Option<Arc<[Impu]>> {
        let found = self.account(realm, username).filter(|account| !account.disabled)?;
        Some(found.identities.clone())
    }

    /// Whether there is such an account, disabled or not.
    pub fn knows(&self, realm: &str, username: &str) -> bool {
        self.account(realm, username).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether any account is kept as a password rather than as HA1.
    pub fn has_passwords(&self) -> bool {
        let mut users = self.realms.values().flat_map(HashMap::values);
        users.any(|entry| matches!(entry.account.secret, Secret::Password(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(secret: Secret) -> Account {
        Account { secret, identities: Arc::new([]), disabled: false, classes: None }
    }

    #[test]
    fn a_password_serves_every_hash_and_an_ha1_its_own() {
        let mut accounts = Accounts::default();
        let password = Secret::Password(Zeroizing::new("wonderland".into()));
        accounts.add("sip.example.com", "alice", account(password)).expect("fits");
        let md5 = b"95e30ebe7feb9e2208689e36feb581b5";
        let stored =
            Secret::Ha1(vec![(Hash::Md5, Ha1::from_hex(Hash::Md5, md5).expect("32 digits"))]);
        accounts.add("sip.example.com", "bob", account(stored)).expect("fits");
        for hash in [Hash::Md5, Hash::Sha256, Hash::Sha512_256] {
            assert!(accounts.user("sip.example.com", "alice", hash).is_some(), "{hash:?}");
        }
        assert!(accounts.user("sip.example.com", "bob", Hash::Md5).is_some());
        assert!(accounts.user("sip.example.com", "bob", Hash::Sha256).is_none());
        assert!(accounts.user("other.example.com", "alice", Hash::Md5).is_none());
    }

    #[test]
    fn what_cannot_be_an_account_is_refused() {
        let mut accounts = Accounts::default();
        let secret = || account(Secret::Password(Zeroizing::new("x".into())));
        for bad in ["", "a:b", "a\"b", "a\nb"] {
            assert_eq!(accounts.add("r", bad, secret()), Err(AccountUnfit::Username), "{bad:?}");
        }
        assert_eq!(accounts.add("r", "a", secret()), Ok(()));
        assert_eq!(accounts.add("r", "a", secret()), Err(AccountUnfit::Twice));
        let mut disabled = secret();
        disabled.disabled = true;
        assert_eq!(accounts.add("r", "d", disabled), Ok(()));
        assert!(accounts.user("r", "d", Hash::Md5).is_none(), "disabled");
    }

    /// Two places of which one may be written to by another: neither of them takes a name of the other's.
    #[test]
    fn who_stands_in_two_places_is_let_in_by_neither() {
        let with = |names: &[&str]| {
            let mut accounts = Accounts::default();
            for name in names {
                let secret = Secret::Password(Zeroizing::new("x".into()));
                accounts.add("r", name, account(secret)).expect("fits");
            }
            accounts
        };
        let (mut one, other) = (with(&["alice", "bob"]), with(&["bob", "carol"]));
        assert_eq!(one.join(&other), [("r".into(), "bob".into(), AccountUnfit::Twice)]);
        let there = |name: &str| one.identities("r", name).is_some();
        assert!(there("alice") && there("carol") && !there("bob"));
        assert_eq!((one.len(), one.beyond(&other), other.beyond(&one)), (2, 1, 1));
    }

    #[test]
    fn a_caller_whose_account_was_removed_or_disabled_has_none() {
        let with = |disabled| {
            let mut accounts = Accounts::default();
            let secret = Secret::Password(Zeroizing::new("x".into()));
            accounts.add("r", "a", Account { disabled, ..account(secret) }).expect("fits");
            accounts
        };
        let (before, disabled) = (with(false), with(true));
        let (caller, _) = before.user("r", "a", Hash::Sha256).expect("an account");
        assert!(before.still_has(&caller, &before));
        assert!(!disabled.still_has(&caller, &before));
        assert!(!Accounts::default().still_has(&caller, &before));
    }

    #[test]
    fn another_secret_is_not_what_a_caller_proved() {
        let with = |secret| {
            let mut accounts = Accounts::default();
            accounts.add("r", "a", account(secret)).expect("fits");
            accounts
        };
        let password = |text: &str| Secret::Password(Zeroizing::new(text.into()));
        let stored =
            |hash, text: &[u8]| Secret::Ha1(vec![(hash, Ha1::new(hash, b"a", b"r", text))]);
        let before = with(password("x"));
        let (caller, _) = before.user("r", "a", Hash::Sha256).expect("an account");
        assert!(with(password("x")).still_has(&caller, &before));
        assert!(with(stored(Hash::Md5, b"x")).still_has(&caller, &before), "the same, stored");
        assert!(!with(password("y")).still_has(&caller, &before));
        assert!(!with(stored(Hash::Sha256, b"y")).still_has(&caller, &before));
        let (one, other) = (with(stored(Hash::Md5, b"x")), with(stored(Hash::Sha256, b"x")));
        assert!(!one.still_has(&caller, &other), "nothing to compare");
    }
}

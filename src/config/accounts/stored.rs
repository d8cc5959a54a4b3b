//! Configuration, accounts, stored: how an account stands in a store.
//!
//! Takes:   an account as it was judged; a record of the store.
//! Gives:   the record; the account again, judged as one of a file is.
//! Keeps:   nothing. No password stands in a store: HA1 does, one for each algorithm, with realm and identities as they
//!          were when the account was taken over.
//! Refuses: names that make a key longer than a store takes; a record with a line that it does not know.
//! Sources: RFC 7616 section 3.4.2; SEC_CF 1.1 SEC-001.
//!
//! The key is realm and username, with a tab between; neither can have one. The value has a line for each thing: an
//! algorithm with its HA1, `identity` with one, `classes` with their names if it is held to some, `disabled` if it is.

use zeroize::Zeroizing;

use super::forms::HASHES;
use super::{Home, Named, Row};
use crate::config::problem::Notes;
use crate::state::KEY_MAX;

/// The key under which a user stands; `None` if it is too long for a store.
pub fn key(realm: &str, username: &str) -> Option<Vec<u8>> {
    let key = [realm.as_bytes(), b"\t", username.as_bytes()].concat();
    (key.len() <= KEY_MAX).then_some(key)
}

/// Realm and username of a key.
pub fn names(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.split_once('\t')
}

/// What stands under it.
pub fn value(named: &Named) -> Zeroizing<String> {
    let Named { realm, username, account, classes, .. } = named;
    // One allocation, so that no part of a secret stays behind.
    let identities = account.identities.iter().map(|identity| identity.as_str().len());
    let classes_there = classes.iter().flatten().map(|class| class.len());
    let names = identities.chain(classes_there).map(|name| name.saturating_add(LINE));
    let room = names.fold(SECRETS, usize::saturating_add);
    let mut text = Zeroizing::new(String::with_capacity(room));
    let mut line = |word: &str, about: &str| {
        for part in [word, " ", about, "\n"] {
            text.push_str(part);
        }
    };
    for (word, hash) in HASHES {
        if let Some(ha1) = account.secret.ha1(hash, realm, username) {
            line(word, ha1.expose());
        }
    }
    for identity in account.identities.iter() {
        line("identity", identity.as_str());
    }
    if let Some(classes) = classes {
        line("classes", &classes.join(" "));
    }
    if account.disabled {
        line("disabled", "");
    }
    text
}

/// The account in a record; `None` after saying in `notes` what is wrong with it, if it is not the record itself.
pub fn read(key: &[u8], value: &[u8], home: Home<'_>, notes: &Notes) -> Option<Named> {
    let (realm, username) = names(key)?;
    let mut row = Row { username, realm: Some(realm), ..Row::default() };
    for line in std::str::from_utf8(value).ok()?.lines() {
        let (word, about) = line.split_once(' ')?;
        match word {
            "identity" => row.identities.push(about.to_owned()),
            "classes" => {
                row.classes = Some(about.split_ascii_whitespace().map(str::to_owned).collect());
            }
            "disabled" => row.disabled = true,
            _ => {
                let (_, hash) = HASHES.into_iter().find(|(known, _)| *known == word)?;
                row.ha1.push((hash, Zeroizing::new(about.to_owned())));
            }
        }
    }
    if row.identities.is_empty() {
        return None;
    }
    row.judge(home, notes)
}

/// A user who is given a password.
#[derive(Debug)]
pub struct User<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The username.
    pub username: &'a str,
    /// Public identities, the default one first; one is made of the username if there are none.
    pub identities: Vec<String>,
    /// Whether he may not use the service now.
    pub disabled: bool,
    /// The names of the classes that he is held to, if he is.
    pub classes: Option<Vec<String>>,
}

impl User<'_> {
    /// The account, judged as one of a file is; `None` after saying in `notes` what cannot be.
    pub fn with_password(
        self,
        password: Zeroizing<String>,
        home: Home<'_>,
        notes: &Notes,
    ) -> Option<Named> {
        let Self { realm, username, identities, disabled, classes } = self;
        let (realm, password, ha1) = (Some(realm), Some(password), Vec::new());
        Row { line: 0, username, realm, password, ha1, identities, disabled, classes }
            .judge(home, notes)
    }
}

/// Room for HA1 of each hash and the rest of a value but its names.
const SECRETS: usize = 512;
/// And for what stands in a line beside a name.
const LINE: usize = 16;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::authentication::accounts::Secret;
    use crate::authentication::digest::{Ha1, Hash};
    use crate::config::accounts::each;
    use crate::identity::Realm;

    /// Whatever can be said of an account in a file is there again, but for the password.
    #[test]
    fn an_account_is_read_as_it_was_taken_over() {
        let (realm, own) = (Realm::new("example.net").unwrap(), ["fax".into()]);
        let home = Home { realm: &realm, domain: "example.net", own: &own };
        let text = "username,password,md5,realm,identities,classes,disabled\n\
            alice,wonderland,,,,,\n\
            bob,,0123456789abcdef0123456789ABCDEF,b.example,sip:bob@b.example tel:+1,cpm fax,true\n";
        let notes = Notes::new("a.csv");
        let mut found = Vec::new();
        each(Path::new("a.csv"), text.as_bytes(), home, &notes, &mut |named| found.push(named));
        assert!(!notes.has_problems() && found.len() == 2);
        let (key, text) = (key("example.net", "alice").unwrap(), value(&found[0]));
        assert!(!text.contains("wonderland") && text.lines().count() == 4, "{}", *text);
        let alice = read(&key, text.as_bytes(), home, &notes).unwrap();
        let Secret::Ha1(stored) = &alice.account.secret else { panic!("a password") };
        let ours = Ha1::new(Hash::Sha256, b"alice", b"example.net", b"wonderland");
        assert!(stored.len() == 3 && stored.iter().any(|(_, ha1)| ha1.expose() == ours.expose()));
        assert_eq!(alice.account.identities[0].as_str(), "sip:alice@example.net");
        assert!(alice.account.classes.is_none() && !alice.account.disabled);

        let key = super::key("b.example", "bob").unwrap();
        let bob = read(&key, value(&found[1]).as_bytes(), home, &notes).unwrap();
        assert_eq!(value(&bob), value(&found[1]), "letter for letter");
        assert_eq!(bob.account.classes, found[1].account.classes);
        assert!(bob.account.disabled && bob.account.identities.len() == 2);

        // A class that the configuration has no more: held to what nobody knows, nobody is let in.
        let home = Home { own: &[], ..home };
        assert!(read(&key, value(&found[1]).as_bytes(), home, &notes).is_none());
        assert!(notes.into_parts().0[0].what.contains("\"fax\", which is no class"));
        for broken in ["", "MD5 00\nidentity tel:+1\n", "identity tel:+1\n", "more of it\n", "x"] {
            let notes = Notes::new("store");
            assert!(read(&key, broken.as_bytes(), home, &notes).is_none(), "{broken:?}");
        }
        assert!(super::key("r", &"a".repeat(KEY_MAX)).is_none());
    }
}

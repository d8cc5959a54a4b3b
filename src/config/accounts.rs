//! Configuration, accounts: the file of users with a password or with HA1, and those in the store.
//!
//! Takes:   the octets of the file, whose ending says how it is written (`forms`); what stands in the store (`stored`).
//! Gives:   [`Accounts`], and what is wrong with which line.
//! Keeps:   nothing.
//! Refuses: usernames with a colon, accounts twice, HA1 of the wrong length, users with both or neither, classes that are none;
//!          identities that are no SIP or tel URI; more than 10 of those; lines over [`LINE_MAX`].
//! Sources: RFC 7616 section 3.4.2; RFC 4180; V-96.
//!
//! ```toml
//! [[account]]
//! username = "alice"
//! password = "..."                      # or: ha1 = { SHA-256 = "...", MD5 = "..." }
//! realm = "example.net"                 # the edge's realm, if left out; its first domain then names the user
//! identities = ["sip:alice@example.net"] # that one, if left out
//! disabled = false
//! classes = ["cpm", "locsip"]         # what it may use beyond plain SIP; all that ask for no right, if left out
//! ```

mod forms;
pub mod stored;

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

pub(super) use forms::Secretive;
pub(crate) use forms::cells;

use super::Config;
use super::problem::Notes;
use crate::authentication::Accounts;
use crate::authentication::accounts::{Account, AccountUnfit, Secret, is_username};
use crate::authentication::digest::{Ha1, Hash};
use crate::enabler::{Class, ClassSet};
use crate::identity::{Impu, Realm};
use crate::wire::Uri;
use crate::wire::uri::Scheme;

/// Most identities of one account.
pub const IDENTITIES_MAX: usize = 10;
/// Longest line of a CSV file, in octets.
pub const LINE_MAX: usize = 16 * 1024;

/// For accounts that leave it out.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    /// The realm.
    pub realm: &'a Realm,
    /// The domain of their identities.
    pub domain: &'a str,
    /// The names of the operator's own classes.
    pub own: &'a [Box<str>],
}

impl<'a> Home<'a> {
    /// As the configuration has it; `own` are the names of its classes.
    pub fn of(config: &'a Config, own: &'a [Box<str>]) -> Self {
        let domain = config.edge.domains.first().map_or("invalid", |domain| &**domain);
        Self { realm: &config.edge.realm, domain, own }
    }
}

/// One account as it was read: whole, and the user who has it.
#[derive(Debug)]
pub struct Named {
    /// The line where it stands, from 1; 0 in a store.
    pub line: usize,
    /// The realm.
    pub realm: String,
    /// The username.
    pub username: String,
    /// The account.
    pub account: Account,
    /// The names of the classes that it is held to, if it is.
    pub classes: Option<Vec<String>>,
}

/// Reads the accounts in `octets`, which stood in the file `name`.
pub fn read(name: &Path, octets: &[u8], home: Home<'_>) -> (Accounts, Notes) {
    let notes = Notes::new(&name.display().to_string());
    let mut accounts = Accounts::default();
    each(name, octets, home, &notes, &mut |named| add(&mut accounts, named, &notes));
    (accounts, notes)
}

/// Gives each account in `octets` to `take`, those left out that cannot be: `notes` says why.
pub fn each(
    name: &Path,
    octets: &[u8],
    home: Home<'_>,
    notes: &Notes,
    take: &mut dyn FnMut(Named),
) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return notes.say(0, "is not UTF-8 text".into(), "", "");
    };
    let ending = name.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    forms::each(ending.as_deref().unwrap_or_default(), text, notes, &mut |row| {
        row.judge(home, notes).into_iter().for_each(&mut *take);
    });
}

/// Adds an account, or says why not.
fn add(accounts: &mut Accounts, named: Named, notes: &Notes) {
    let Named { line, realm, username, account, .. } = named;
    let (what, why) = match accounts.add(&realm, &username, account) {
        Ok(()) => return,
        Err(AccountUnfit::Username) => NO_USERNAME,
        Err(AccountUnfit::Twice) => ("is there twice", "one name in one realm is one user"),
        Err(AccountUnfit::Full) => ("is one too many", "a million is the most"),
    };
    notes.say(line, format!("{} {what}", who(&username)), why, "");
}

fn who(username: &str) -> String {
    format!("account {:?}", username.chars().take(64).collect::<String>())
}

const NO_USERNAME: (&str, &str) = (
    "has a username that is none",
    "one colon, quote or control character in it would make A1 mean two things (RFC 7616 section 3.4.2)",
);

/// One account as written.
#[derive(Default)]
struct Row<'a> {
    line: usize,
    username: &'a str,
    realm: Option<&'a str>,
    password: Option<Zeroizing<String>>,
    ha1: Vec<(Hash, Zeroizing<String>)>,
    identities: Vec<String>,
    disabled: bool,
    classes: Option<Vec<String>>,
}

impl Row<'_> {
    /// The account, or nothing after saying why not.
    fn judge(self, home: Home<'_>, notes: &Notes) -> Option<Named> {
        let Row { line, username, realm, .. } = self;
        let who = who(username);
        let realm = match realm {
            Some(text) => Realm::new(text).map(|realm| realm.as_str().to_owned()),
            None => Some(home.realm.as_str().to_owned()),
        };
        let secret = self.secret(&who, notes);
        let identities = realm.as_deref().map(|realm| {
            let domain = if realm == home.realm.as_str() { home.domain } else { realm };
            self.identities(&who, domain, notes)
        });
        let Some(realm) = realm else {
            let why = "it goes out in quotes, so it has no quote, backslash or control character";
            let (what, fix) =
                (format!("{who} has a realm that is none"), "realm = \"example.net\"");
            notes.say(line, what, why, fix);
            return None;
        };
        let (secret, identities) = (secret?, identities.flatten()?);
        let set = self.classes(&who, home, notes).ok()?;
        if !is_username(username) {
            let (what, why) = NO_USERNAME;
            notes.say(line, format!("{who} {what}"), why, "");
            return None;
        }
        let account = Account { secret, identities, disabled: self.disabled, classes: set };
        let (username, classes) = (username.to_owned(), self.classes);
        Some(Named { line, realm, username, account, classes })
    }

    fn secret(&self, who: &str, notes: &Notes) -> Option<Secret> {
        let (what, why) = match (&self.password, self.ha1.as_slice()) {
            (Some(_), [_, ..]) => ("has a password and HA1", "one of them would be wrong one day"),
            (None, []) => ("has neither password nor HA1", "nothing would prove who it is"),
            (Some(password), []) if password.is_empty() => {
                ("has an empty password", "anybody could be this user")
            }
            (Some(password), []) => return Some(Secret::Password(password.clone())),
            (None, stored) => {
                let stored = stored.iter().map(|(hash, digits)| {
                    let digits = Zeroizing::new(digits.to_ascii_lowercase());
                    Ha1::from_hex(*hash, digits.as_bytes()).map(|ha1| (*hash, ha1)).ok_or(*hash)
                });
                match stored.collect::<Result<Vec<_>, Hash>>() {
                    Ok(stored) => return Some(Secret::Ha1(stored)),
                    Err(hash) => {
                        let digits = if hash == Hash::Md5 { 32 } else { 64 };
                        let what =
                            format!("{who} has an HA1 that is not {} of anything", hash.as_str());
                        notes.say(
                            self.line,
                            what,
                            format!("such a one has {digits} hex digits"),
                            "",
                        );
                        return None;
                    }
                }
            }
        };
        notes.say(self.line, format!("{who} {what}"), why, "password = \"..\"");
        None
    }

    /// The classes that the account is held to; an error after saying what is wrong.
    fn classes(&self, who: &str, home: Home<'_>, notes: &Notes) -> Result<Option<ClassSet>, ()> {
        let Some(names) = &self.classes else { return Ok(None) };
        let own = |name: &str| {
            let place = home.own.iter().position(|own| **own == *name)?;
            Some(ClassSet::default().with(Class::Own(u8::try_from(place).ok()?)))
        };
        let mut set = ClassSet::default();
        for name in names {
            let Some(more) = ClassSet::named(name).or_else(|| own(name)) else {
                let what = format!("{who} is held to {name:?}, which is no class");
                let why = "cpm, cpm.pager and so on, locsip, and classes of [[enabler.class]] are; any other SIP asks for no right";
                notes.say(self.line, what, why, "classes = [\"cpm\", \"locsip\"]");
                return Err(());
            };
            set = set.and(more);
        }
        Ok(Some(set))
    }

    fn identities(&self, who: &str, domain: &str, notes: &Notes) -> Option<Arc<[Impu]>> {
        if self.identities.len() > IDENTITIES_MAX {
            notes.say(
                self.line,
                format!("{who} has more than {IDENTITIES_MAX} identities"),
                "",
                "",
            );
            return None;
        }
        let own = match self.username.contains('@') {
            true => format!("sip:{}", self.username),
            false => format!("sip:{}@{domain}", self.username),
        };
        let guessed = [own];
        let texts = if self.identities.is_empty() { &guessed[..] } else { &self.identities };
        let read = |text: &String| {
            let fits = Uri::parse(text.as_bytes()).is_some_and(|uri| match uri.scheme() {
                Scheme::Sip | Scheme::Sips => uri.user().is_some(),
                Scheme::Tel => true,
                _ => false,
            });
            Impu::new(text).filter(|_| fits).ok_or_else(|| text.clone())
        };
        match texts.iter().map(read).collect::<Result<Arc<[Impu]>, _>>() {
            Ok(identities) => Some(identities),
            Err(text) => {
                let what =
                    format!("{who} has the identity {text:?}, which nobody can be called by");
                let fix = "identities = [\"sip:alice@example.net\"]";
                notes.say(self.line, what, "identities are SIP URIs with a user, or tel URIs", fix);
                None
            }
        }
    }
}

//! Configuration, accounts: the file of users with a password or with HA1, as TOML or as CSV.
//!
//! Takes:   the octets of the file; a name that ends in `.csv` is read as CSV, any other as TOML.
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
//!
//! A CSV file begins with a line that names its columns, among `username`, `realm`, `password`, `md5`, `sha-256`,
//! `sha-512-256`, `identities` and `classes` (several with a space between) and `disabled`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::field;
use super::problem::Notes;
use super::raw::{self, Document, Lines, Section};
use crate::authentication::Accounts;
use crate::authentication::accounts::{ACCOUNTS_MAX, Account, AccountUnfit, Secret};
use crate::authentication::digest::{Ha1, Hash};
use crate::enabler::{Class, ClassSet};
use crate::identity::{Impu, Realm};
use crate::wire::Uri;
use crate::wire::uri::Scheme;

/// Most identities of one account.
pub const IDENTITIES_MAX: usize = 10;
/// Longest line of a CSV file, in octets.
pub const LINE_MAX: usize = 16 * 1024;

const HASHES: [(&str, Hash); 3] =
    [("MD5", Hash::Md5), ("SHA-256", Hash::Sha256), ("SHA-512-256", Hash::Sha512_256)];

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

/// Reads the accounts in `octets`, which stood in the file `name`.
pub fn read(name: &Path, octets: &[u8], home: Home<'_>) -> (Accounts, Notes) {
    let notes = Notes::new(&name.display().to_string());
    let mut accounts = Accounts::default();
    let Ok(text) = std::str::from_utf8(octets) else {
        notes.say(0, "is not UTF-8 text".into(), "", "");
        return (accounts, notes);
    };
    let is_csv = name.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let mut take = |row: Row<'_>| row.add(&mut accounts, home, &notes);
    if is_csv {
        csv(text, &notes, &mut take)
    } else {
        toml(text, &notes, &mut take)
    };
    (accounts, notes)
}

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
    /// Adds the account, or says why not.
    fn add(self, accounts: &mut Accounts, home: Home<'_>, notes: &Notes) {
        let Row { line, username, realm, .. } = self;
        let shown: String = username.chars().take(64).collect();
        let who = format!("account {shown:?}");
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
            notes.say(
                line,
                format!("{who} has a realm that is none"),
                why,
                "realm = \"example.net\"",
            );
            return;
        };
        let (Some(secret), Some(identities)) = (secret, identities.flatten()) else { return };
        let Ok(classes) = self.classes(&who, home, notes) else { return };
        let account = Account { secret, identities, disabled: self.disabled, classes };
        let (what, why) = match accounts.add(&realm, username, account) {
            Ok(()) => return,
            Err(AccountUnfit::Username) => (
                "has a username that is none",
                "one colon, quote or control character in it would make A1 mean two things (RFC 7616 section 3.4.2)",
            ),
            Err(AccountUnfit::Twice) => ("is there twice", "one name in one realm is one user"),
            Err(AccountUnfit::Full) => ("is one too many", "a million is the most"),
        };
        notes.say(line, format!("{who} {what}"), why, "");
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

fn toml(text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    let Some(table) = raw::parse(text, notes) else { return };
    let document = Document { text, lines: Lines::new(text), notes, secret: true };
    let mut root = Section::root(&document, table.get_ref());
    for mut section in root.tables("account") {
        let line = section.place().line;
        let username =
            section.need::<String>("username", "the name that the caller gives", "\"alice\"");
        let realm = section.maybe::<String>("realm").map(|spot| spot.value);
        let password = section.maybe::<Secretive>("password").map(|spot| spot.value.0);
        let unread = section.has("password") && password.is_none();
        let mut table = section.table("ha1");
        let stored = HASHES.into_iter().filter_map(|(name, hash)| {
            table.maybe::<Secretive>(name).map(|spot| (hash, spot.value.0))
        });
        let ha1 = stored.collect();
        table.finish();
        let identities = section.maybe::<Vec<String>>("identities").map(|spot| spot.value);
        let identities = identities.unwrap_or_default();
        let disabled = section.or("disabled", false);
        let classes = section.maybe::<Vec<String>>("classes").map(|spot| spot.value);
        section.finish();
        let Some(username) = username.filter(|_| !unread) else { continue };
        let (username, realm) = (username.value.as_str(), realm.as_deref());
        take(Row { line, username, realm, password, ha1, identities, disabled, classes });
    }
    root.finish();
}

/// Text that is zeroed on drop and stands in no problem.
pub(super) struct Secretive(Zeroizing<String>);

impl Secretive {
    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl field::Field for Secretive {
    const WHY: &'static str = "a text stands in quotes";
    const EXAMPLE: &'static str = "\"..\"";

    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, field::Wrong> {
        match value.as_str() {
            Some(text) => Ok(Self(Zeroizing::new(text.to_owned()))),
            None => Err(field::Wrong {
                what: "is not a text in quotes".into(),
                why: Self::WHY,
                value: Self::EXAMPLE.into(),
            }),
        }
    }
}

fn csv(text: &str, notes: &Notes, take: &mut dyn FnMut(Row<'_>)) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let Some((_, head)) = lines.next() else { return };
    let Some(columns) = columns(head, notes) else { return };
    for (number, line) in lines.take(ACCOUNTS_MAX + 1) {
        let line_number = number + 1;
        if line.len() > LINE_MAX {
            notes.say(line_number, "the line is too long".into(), "16 KiB is the most", "");
            continue;
        }
        let Some(cells) = cells(line) else {
            let why = "a quote that begins a field ends it too; inside, it stands twice (RFC 4180)";
            notes.say(line_number, "the line has a quote that does not fit".into(), why, "");
            continue;
        };
        if cells.len() != columns.len() {
            let what = format!("the line has {} fields, not {}", cells.len(), columns.len());
            notes.say(line_number, what, "as many as the first line names", "");
            continue;
        }
        let mut row = Row { line: line_number, ..Row::default() };
        let mut fits = true;
        for (column, cell) in columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()) {
            match column {
                Column::Username => row.username = cell,
                Column::Realm => row.realm = Some(cell),
                Column::Password => row.password = Some(cell.clone()),
                Column::Ha1(hash) => row.ha1.push((*hash, cell.clone())),
                Column::Identities => {
                    row.identities = cell.split_ascii_whitespace().map(str::to_owned).collect();
                }
                Column::Classes => {
                    row.classes = Some(cell.split_ascii_whitespace().map(str::to_owned).collect());
                }
                Column::Disabled => match cell.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "1" => row.disabled = true,
                    "false" | "no" | "0" => {}
                    _ => {
                        fits = false;
                        let what = "disabled is neither true nor false".to_owned();
                        notes.say(line_number, what, "a user is or is not", "");
                    }
                },
            }
        }
        if fits {
            take(row);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Username,
    Realm,
    Password,
    Ha1(Hash),
    Identities,
    Disabled,
    Classes,
}

fn columns(head: &str, notes: &Notes) -> Option<Vec<Column>> {
    let mut columns = Vec::new();
    for name in head.split(',').map(|name| name.trim().trim_matches('"').to_ascii_lowercase()) {
        let column = match name.as_str() {
            "username" => Column::Username,
            "realm" => Column::Realm,
            "password" => Column::Password,
            "md5" => Column::Ha1(Hash::Md5),
            "sha-256" => Column::Ha1(Hash::Sha256),
            "sha-512-256" => Column::Ha1(Hash::Sha512_256),
            "identities" => Column::Identities,
            "disabled" => Column::Disabled,
            "classes" => Column::Classes,
            _ => {
                let shown: String = name.chars().take(64).collect();
                let why = "columns are: username, realm, password, md5, sha-256, sha-512-256, identities, disabled, classes";
                notes.say(
                    1,
                    format!("{shown:?} is not a column"),
                    why,
                    "username,password,identities",
                );
                return None;
            }
        };
        if columns.contains(&column) {
            notes.say(1, format!("column {name:?} is there twice"), "", "");
            return None;
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Username) {
        let what = "the column username is missing".to_owned();
        notes.say(1, what, "the first line names the columns", "username,password,identities");
        return None;
    }
    Some(columns)
}

/// The fields of a line; `None` if quotes do not fit.
pub(crate) fn cells(line: &str) -> Option<Vec<Zeroizing<String>>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (cell, more) =
                rest.split_once(',').map_or((rest, None), |(cell, more)| (cell, Some(more)));
            cells.push(Zeroizing::new(cell.trim().to_owned()));
            match more {
                Some(more) => rest = more,
                None => return Some(cells),
            }
            continue;
        };
        let mut cell = Zeroizing::new(String::with_capacity(quoted.len()));
        let mut tail = quoted;
        loop {
            let (text, more) = tail.split_once('"')?;
            cell.push_str(text);
            match more.strip_prefix('"') {
                Some(more) => {
                    cell.push('"');
                    tail = more;
                }
                None => {
                    tail = more;
                    break;
                }
            }
        }
        cells.push(cell);
        match tail.strip_prefix(',') {
            Some(more) => rest = more,
            None => return tail.is_empty().then_some(cells),
        }
    }
}

//! `sipward account`: users who prove themselves with a password, in the store.
//!
//! Takes:   a command, and the configuration that names store, realm and classes; passwords and HA1 from files or from the
//!          standard input, never as an argument.
//! Gives:   the store changed; a table, or JSON. A running edge takes it over within a second or two, and of a million
//!          accounts some seconds more.
//! Keeps:   no password: what stands in the store is HA1, one for each algorithm, and no command prints it.
//! Refuses: accounts that a file of accounts would not have; one that stands in that file, since which of the two counts
//!          could not be told.
//! Sources: RFC 7616 section 3.4.2; SEC_CF 1.1 SEC-001, SEC-003.

mod import;

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;
use zeroize::Zeroizing;

use super::stop::{Stop, ended};
use super::vault::{Part, Vault, in_words};
use super::{GOOD, NO, Table, USAGE};
use crate::authentication::accounts::{Account, Secret, is_username};
use crate::config::Config;
use crate::config::accounts::{Home, Named, stored};
use crate::config::files::TABLE_MAX;
use crate::config::problem::Notes;
use crate::identity::Impu;
use crate::keys::subscribers::file::others_may_read;
use crate::state::{Change, Fault, Store as _, Table as Records};

/// Records that are listed at a time.
const PAGE: usize = 1024;
/// Longest password, in octets.
const PASSWORD_MAX: u64 = 1024;

/// The arguments of `sipward account`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose store they are in.
    #[arg(long, short, value_name = "FILE", default_value = "sipward.toml", global = true)]
    pub config: PathBuf,
    /// The realm; that of the configuration, if left out.
    #[arg(long, global = true)]
    pub realm: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give a user a password; whoever is new is added.
    Set(Set),
    /// Show the accounts of the realm, without HA1.
    List {
        /// JSON, one array.
        #[arg(long)]
        json: bool,
        /// Only those whose name comes after this one.
        #[arg(long, value_name = "USERNAME")]
        after: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 1000)]
        most: usize,
    },
    /// Remove an account: its calls end, and nobody registers with it any more.
    Remove {
        /// The user.
        username: String,
    },
    /// Bar an account: nothing is forgotten, and nobody is let in.
    Lock {
        /// The user.
        username: String,
    },
    /// Lift the bar from an account.
    Unlock {
        /// The user.
        username: String,
    },
    /// Add the accounts of a file, whole or not at all, with a report of every bad line.
    Import(Import),
}

/// A password to be given.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The user.
    pub username: String,
    /// A file whose first line is the password; `-` is the standard input.
    #[arg(long, value_name = "FILE")]
    pub password_file: PathBuf,
    /// A public identity, the default one first; those there are, if left out, or sip:USERNAME@DOMAIN.
    #[arg(long = "impu")]
    pub impus: Vec<String>,
}

/// What is to be taken over.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// The file. `.csv`: a heading with username, password or md5, sha-256, sha-512-256, realm, identities, classes,
    /// disabled, then a line for each. `.json`: objects with those keys. `.htdigest`: USERNAME:REALM:MD5. `.toml`: as
    /// authentication.accounts has them.
    pub from: PathBuf,
    /// Take the accounts that can be taken, and leave out the rest.
    #[arg(long)]
    pub good_lines: bool,
    /// Accounts take the place of those that are there under the same name.
    #[arg(long)]
    pub replace: bool,
}

/// Runs the command; the exit code: 0 done, 1 no such account or lines left out, 2 something that cannot be used.
///
/// # Errors
///
/// Those of writing to `out`, and those of the store.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    let result = run_on(args, out, errors);
    ended(result, errors)
}

fn run_on(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> Result<u8, Stop> {
    let (config, _) = Config::load(&args.config).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Stop::Said(problems.join("\n"), USAGE)
    })?;
    let state = config.state.as_ref().filter(|_| config.authentication.accounts_in_state);
    let Some(state) = state else {
        let file = config.file.display();
        let what = format!(
            "{file}: no account is read from a store\n    accounts stand in the file that authentication.accounts names\n    fix: [state], and accounts_in_state = true in [authentication]"
        );
        return Err(Stop::Said(what, USAGE));
    };
    let own = config.enablers.own_names();
    let realm = args.realm.clone().unwrap_or_else(|| config.edge.realm.as_str().to_owned());
    let home = Home::of(&config, &own);
    let desk = Desk { vault: Vault::to_change(state, true)?, config: &config, home, realm };
    match &args.command {
        Command::Set(set) => desk.set(set, out),
        Command::List { json, after, most } => {
            desk.list(*json, after.as_deref().unwrap_or_default(), *most, out)
        }
        Command::Remove { username } => desk.remove(username, out),
        Command::Lock { username } => desk.bar(username, true, out),
        Command::Unlock { username } => desk.bar(username, false, out),
        Command::Import(wish) => import::import(&desk, wish, out, errors),
    }
}

/// The accounts of a configuration.
struct Desk<'c> {
    vault: Vault,
    config: &'c Config,
    home: Home<'c>,
    realm: String,
}

impl Desk<'_> {
    fn fails(&self, fault: &Fault) -> io::Error {
        in_words(self.vault.embedded().path(), fault)
    }

    fn key(&self, username: &str) -> Result<Vec<u8>, Stop> {
        let key = stored::key(&self.realm, username).filter(|_| is_username(username));
        key.ok_or_else(|| Stop::Said(format!("{username:?} is no name of an account"), USAGE))
    }

    fn value(&self, key: &[u8]) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let found = self.vault.embedded().read(Records::Accounts, key);
        found.map_err(|fault| self.fails(&fault))
    }

    /// The account under that key.
    fn named(&self, key: &[u8]) -> Result<Option<Named>, Stop> {
        let Some(value) = self.value(key)? else { return Ok(None) };
        Ok(Some(self.judged(key, &value)?))
    }

    fn judged(&self, key: &[u8], value: &[u8]) -> Result<Named, Stop> {
        let notes = Notes::new("the store");
        if let Some(named) = stored::read(key, value, self.home, &notes) {
            return Ok(named);
        }
        let problems: Vec<_> = notes.into_parts().0.iter().map(ToString::to_string).collect();
        if problems.is_empty() {
            return Err(self.fails(&Fault::spoilt(Records::Accounts, key)).into());
        }
        Err(Stop::Said(problems.join("\n"), USAGE))
    }

    /// Who is barred under that key stays so.
    fn keep_bar(&self, named: &mut Named, key: &[u8], known: &[u8]) {
        let known = stored::read(key, known, self.home, &Notes::with_room("", 0));
        named.account.disabled |= known.is_some_and(|known| known.account.disabled);
    }

    /// Whether the file of accounts has it, which no account of the store may be named like.
    fn stands_in_file(&self, realm: &str, username: &str) -> bool {
        self.config.authentication.accounts.knows(realm, username)
    }

    fn file(&self) -> String {
        let file = self.config.authentication.accounts_file.as_ref();
        file.map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn put(&self, key: &[u8], named: &Named) -> io::Result<()> {
        let value = stored::value(named);
        self.vault.change(Part::Accounts, &[Change::Put(Records::Accounts, key, value.as_bytes())])
    }

    fn set(&self, set: &Set, out: &mut dyn Write) -> Result<u8, Stop> {
        let username = &set.username;
        let key = self.key(username)?;
        if self.stands_in_file(&self.realm, username) {
            let what = format!(
                "{username} stands in {}\n    which of the two counts could not be told\n    fix: without it there",
                self.file()
            );
            return Err(Stop::Said(what, NO));
        }
        // Before the record: what changes in it while somebody types is not to be undone.
        let password = password(&set.password_file)?;
        let known = self.named(&key)?;
        let is_new = known.is_none();
        let mut identities = set.impus.clone();
        if identities.is_empty() {
            let kept = known.iter().flat_map(|known| known.account.identities.iter());
            identities = kept.map(|impu| impu.as_str().to_owned()).collect();
        }
        let disabled = known.as_ref().is_some_and(|known| known.account.disabled);
        let classes = known.and_then(|known| known.classes);
        let notes = Notes::new("account set");
        let user = stored::User { realm: &self.realm, username, identities, disabled, classes };
        let Some(named) = user.with_password(password, self.home, &notes) else {
            let problems: Vec<_> = notes.into_parts().0.iter().map(ToString::to_string).collect();
            return Err(Stop::Said(problems.join("\n"), USAGE));
        };
        self.put(&key, &named)?;
        let identities: Vec<_> = named.account.identities.iter().map(Impu::as_str).collect();
        let done = if is_new { "added" } else { "has another password" };
        writeln!(out, "{username} {done}; proves {}", identities.join(" "))?;
        Ok(GOOD)
    }

    fn remove(&self, username: &str, out: &mut dyn Write) -> Result<u8, Stop> {
        let key = self.key(username)?;
        if self.value(&key)?.is_none() {
            writeln!(out, "{username} is not in the store")?;
            return Ok(NO);
        }
        self.vault.change(Part::Accounts, &[Change::Remove(Records::Accounts, &key)])?;
        writeln!(out, "{username} removed")?;
        Ok(GOOD)
    }

    fn bar(&self, username: &str, disabled: bool, out: &mut dyn Write) -> Result<u8, Stop> {
        let key = self.key(username)?;
        let Some(mut named) = self.named(&key)? else {
            writeln!(out, "{username} is not in the store")?;
            return Ok(NO);
        };
        named.account.disabled = disabled;
        self.put(&key, &named)?;
        writeln!(out, "{username} {}", if disabled { "locked" } else { "unlocked" })?;
        Ok(GOOD)
    }

    fn list(&self, json: bool, after: &str, most: usize, out: &mut dyn Write) -> Result<u8, Stop> {
        let mut after: Box<[u8]> = [self.realm.as_bytes(), b"\t", after.as_bytes()].concat().into();
        let (mut shown, mut left) = (Vec::new(), most);
        while left > 0 {
            let page = self.vault.embedded().walk(Records::Accounts, &after, PAGE.min(left));
            let page = page.map_err(|fault| self.fails(&fault))?;
            let full = page.len() == PAGE.min(left);
            for (key, value) in &page {
                let named = self.judged(key, value)?;
                if named.realm != self.realm {
                    left = 0;
                    break;
                }
                left -= 1;
                shown.push(Shown::of(named));
            }
            match page.last() {
                Some((last, _)) if full => after.clone_from(last),
                _ => break,
            }
        }
        print(&shown, json, out)?;
        Ok(GOOD)
    }
}

/// One account as it is shown.
#[derive(Serialize)]
struct Shown {
    username: String,
    realm: String,
    identities: Vec<String>,
    algorithms: Vec<&'static str>,
    classes: Option<Vec<String>>,
    disabled: bool,
}

impl Shown {
    fn of(named: Named) -> Self {
        let Named { realm, username, account, classes, .. } = named;
        let Account { secret, identities, disabled, .. } = account;
        let algorithms = match &secret {
            Secret::Password(_) => Vec::new(),
            Secret::Ha1(stored) => stored.iter().map(|(hash, _)| hash.as_str()).collect(),
        };
        let texts = |list: Arc<[Impu]>| list.iter().map(|impu| impu.as_str().to_owned()).collect();
        Self { username, realm, identities: texts(identities), algorithms, classes, disabled }
    }
}

fn print(shown: &[Shown], json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string_pretty(shown)?);
    }
    let mut table = Table::new(&["USERNAME", "REALM", "STATE", "ALGORITHMS", "PROVES"]);
    for row in shown {
        let state = if row.disabled { "locked" } else { "open" };
        let (algorithms, identities) = (row.algorithms.join(" "), row.identities.join(" "));
        table.row([row.username.clone(), row.realm.clone(), state.into(), algorithms, identities]);
    }
    table.print(out)
}

/// The password in the first line of a file that its owner alone may read, or of the standard input.
fn password(source: &Path) -> Result<Zeroizing<String>, Stop> {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    if source == Path::new("-") {
        io::stdin().lock().take(PASSWORD_MAX).read_to_string(&mut text)?;
    } else {
        secret_file(source)?.take(PASSWORD_MAX).read_to_string(&mut text)?;
    }
    let line = text.lines().next().unwrap_or_default();
    if text.len() as u64 == PASSWORD_MAX {
        return Err(Stop::Said("the password is longer than 1 KiB".to_owned(), USAGE));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Opens a file with secrets.
fn secret_file(path: &Path) -> Result<File, Stop> {
    let shown = path.display();
    let unread = |why| Stop::Said(format!("{shown} cannot be read: {why}"), USAGE);
    let file = File::open(path).map_err(unread)?;
    if others_may_read(&file.metadata().map_err(unread)?) {
        let what =
            format!("{shown} can be read by others than its owner\n    fix: chmod 600 {shown}");
        return Err(Stop::Said(what, USAGE));
    }
    Ok(file)
}

/// Reads a file of accounts.
fn table(path: &Path) -> Result<Zeroizing<Vec<u8>>, Stop> {
    let file = secret_file(path)?;
    let length = file.metadata()?.len();
    if length > TABLE_MAX {
        let what =
            format!("{} is longer than {TABLE_MAX} octets\n    fix: two files", path.display());
        return Err(Stop::Said(what, USAGE));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(TABLE_MAX).read_to_end(&mut octets)?;
    Ok(octets)
}

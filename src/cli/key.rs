//! `sipward key`: keys that are carried to both ends by hand, and the key that the store is sealed under.
//!
//! Takes:   a command, and the configuration that names store and key.
//! Gives:   a new key for one user, in the store and in a file for the other end; keys of a file, taken over; their names;
//!          another key-encryption key. A running edge takes it over within a second or two.
//! Keeps:   nothing.
//! Refuses: keys under 128 bits, identities that are none or there already; to print a key that was not asked for by
//!          name; to write over a file.
//! Sources: SEC_CF 1.1 B.9, ADM-001, SEC-003; RFC 4279 section 5.3.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use zeroize::Zeroizing;

use super::stop::{Stop, ended};
use super::ue::carried::{self, device};
use super::vault::{Part, Vault, in_words};
use super::{GOOD, NO, Table, USAGE};
use crate::clock;
use crate::config::Config;
use crate::config::psk::provisioned;
use crate::config::state::State;
use crate::keys::calendar;
use crate::keys::psk::{PROVISIONED, Provisioned, ProvisionedKeys};
use crate::keys::subscribers::disk::replace;
use crate::state::seal::{KeyKey, KeyUnread};
use crate::state::{CHANGES_MAX, Change, Table as Records};

/// The arguments of `sipward key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose store they are in.
    #[arg(long, short, value_name = "FILE", default_value = "sipward.toml", global = true)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw a key of 256 bits for a user: one copy in the store, one in a file for the other end.
    Issue(Issue),
    /// Take over the keys of a file: `[[key]]` with identity, key in hex, identities, and expires where it ends.
    Import {
        /// The file.
        from: PathBuf,
    },
    /// Show the keys by name, without the keys.
    List {
        /// JSON, one array.
        #[arg(long)]
        json: bool,
    },
    /// Take a key back: no handshake is made with it any more, and connections that stand on it are closed.
    Revoke {
        /// What the other end sends: psk;ID@SERVER.
        identity: String,
    },
    /// Let another key open the store; the present one does so until the store was opened with the new one.
    Rotate {
        /// The file of the new key; it is made if it is not there.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Read the whole store, and name the records that are not what was written.
    Examine,
}

/// A key to be made.
#[derive(Debug, clap::Args)]
pub struct Issue {
    /// Whose it is: becomes psk;ID@SERVER, the server being the name of the bootstrapping server or of the NAF.
    pub id: String,
    /// A public identity that the key proves, the default one first.
    #[arg(long = "impu", required = true)]
    pub impus: Vec<String>,
    /// When it ends: 2027-01-01T00:00:00Z; never, if left out.
    #[arg(long)]
    pub expires: Option<String>,
    /// A new file for the other end: the key, in hex, for its owner alone.
    #[arg(long, value_name = "FILE", required_unless_present = "show_secrets")]
    pub out: Option<PathBuf>,
    /// The one device that may take that file in; the first that does so, if left out.
    #[arg(long, value_name = "NAME", value_parser = device, requires = "out")]
    pub device: Option<String>,
    /// Print the key.
    #[arg(long)]
    pub show_secrets: bool,
}

/// Runs the command; the exit code: 0 done, 1 no such key or already there, 2 something that cannot be used.
///
/// # Errors
///
/// Those of writing to `out`, and those of the store.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    ended(run_on(args, out), errors)
}

fn run_on(args: &Args, out: &mut dyn Write) -> Result<u8, Stop> {
    let (config, _) = Config::load(&args.config).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Stop::Said(problems.join("\n"), USAGE)
    })?;
    let Some(state) = &config.state else {
        let file = config.file.display();
        let what = format!(
            "{file} has no [state]\n    keys stand in the file that psk.keys names\n    fix: [state] in {file}"
        );
        return Err(Stop::Said(what, USAGE));
    };
    let vault = Vault::to_change(state, true)?;
    match &args.command {
        Command::Issue(issue) => self::issue(&vault, &config, issue, out),
        Command::Import { from } => import(&vault, from, out),
        Command::List { json } => list(&vault, *json, out),
        Command::Revoke { identity } => revoke(&vault, identity, out),
        Command::Rotate { to } => rotate(&vault, to, out),
        Command::Examine => examine(vault, state, out),
    }
}

fn issue(vault: &Vault, config: &Config, issue: &Issue, out: &mut dyn Write) -> Result<u8, Stop> {
    let identity = identity(config, &issue.id)?;
    if vault.keys()?.contains_key(identity.as_str()) {
        writeln!(out, "{identity} is there already")?;
        return Ok(NO);
    }
    if let Some(path) = issue.out.as_ref().filter(|path| path.exists()) {
        let what = format!("{} is there already\n    fix: another --out", path.display());
        return Err(Stop::Said(what, USAGE));
    }
    let octets = Zeroizing::new(clock::random::<32>());
    let digits = hex(&*octets);
    let row = row(&identity, &digits, &issue.impus, issue.expires.as_deref());
    let found = judge(Path::new("key issue"), &row)?;
    // The other end first: a key that nobody was given is no use, one that stands in no store no danger.
    if let Some(path) = &issue.out {
        let file = carried::print(&digits, issue.device.as_deref());
        replace(path, file.as_bytes())?;
    }
    write(vault, &found, &row)?;
    writeln!(out, "{identity} proves {}", issue.impus.join(" "))?;
    if let Some(path) = &issue.out {
        writeln!(out, "its key is in {}, for the other end", path.display())?;
    }
    if issue.show_secrets {
        writeln!(out, "key = \"{}\"", digits.as_str())?;
    }
    Ok(GOOD)
}

fn identity(config: &Config, id: &str) -> Result<String, Stop> {
    if id.starts_with(PROVISIONED) {
        return Ok(id.to_owned());
    }
    let server = config.bsf.as_ref().map(|bsf| &*bsf.name);
    let server = server.or(config.naf.as_ref().map(|naf| &*naf.fqdn));
    let server = server.or(config.edge.domains.first().map(|domain| &**domain));
    let nowhere = || Stop::Said(format!("{id} needs a server\n    fix: psk;{id}@SERVER"), USAGE);
    server.map(|server| format!("{PROVISIONED}{id}@{server}")).ok_or_else(nowhere)
}

/// A key as a file has it.
fn row(identity: &str, digits: &str, impus: &[String], expires: Option<&str>) -> Zeroizing<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let impus = impus.iter().map(|impu| quoted(impu)).collect::<Vec<_>>().join(", ");
    let expires = expires.map(|at| format!("expires = {}\n", quoted(at))).unwrap_or_default();
    Zeroizing::new(format!(
        "[[key]]\nidentity = {}\nkey = \"{digits}\"\nidentities = [{impus}]\n{expires}",
        quoted(identity)
    ))
}

/// The keys in `text`, as a server would take them.
fn judge(name: &Path, text: &str) -> Result<ProvisionedKeys, Stop> {
    let (keys, notes) = provisioned(name, text.as_bytes());
    let (problems, _) = notes.into_parts();
    if problems.is_empty() {
        return Ok(keys);
    }
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err(Stop::Said(problems.join("\n"), USAGE))
}

/// Writes the one key in `row`.
fn write(vault: &Vault, keys: &ProvisionedKeys, row: &str) -> Result<(), Stop> {
    let changes: Vec<_> = keys
        .keys()
        .map(|identity| Change::Put(Records::Keys, identity.as_bytes(), row.as_bytes()))
        .collect();
    Ok(vault.change(Part::Keys, &changes)?)
}

fn import(vault: &Vault, from: &Path, out: &mut dyn Write) -> Result<u8, Stop> {
    let text = crate::keys::subscribers::file::read(from)
        .map_err(|problem| Stop::Said(problem.to_string(), USAGE))?;
    let keys = judge(from, &text)?;
    let known = vault.keys()?;
    let mut rows: Vec<(&str, Zeroizing<String>)> = Vec::with_capacity(keys.len());
    for (identity, key) in &keys {
        if known.contains_key(identity) {
            let what = format!(
                "{}: {identity} is there already\n    fix: sipward key revoke '{identity}'",
                from.display()
            );
            return Err(Stop::Said(what, NO));
        }
        rows.push((identity, row_of(identity, key)));
    }
    for part in rows.chunks(CHANGES_MAX / 2) {
        let changes: Vec<_> = part
            .iter()
            .map(|(identity, row)| Change::Put(Records::Keys, identity.as_bytes(), row.as_bytes()))
            .collect();
        vault.change(Part::Keys, &changes)?;
    }
    writeln!(out, "{} keys taken over from {}", keys.len(), from.display())?;
    Ok(GOOD)
}

/// A key that was read, as it is written.
fn row_of(identity: &str, key: &Provisioned) -> Zeroizing<String> {
    let digits = hex(key.key.expose());
    let impus: Vec<String> = key.identities.iter().map(|impu| impu.as_str().to_owned()).collect();
    let expires = key.expires.map(calendar::print_xml);
    row(identity, &digits, &impus, expires.as_deref())
}

fn hex(octets: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(octets.len() * 2));
    for octet in octets {
        for nibble in [octet >> 4, octet & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// One key as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    identity: &'a str,
    identities: Vec<&'a str>,
    expires: Option<String>,
}

fn list(vault: &Vault, json: bool, out: &mut dyn Write) -> Result<u8, Stop> {
    let keys = vault.keys()?;
    let mut shown: Vec<Shown<'_>> = keys
        .iter()
        .map(|(identity, key)| Shown {
            identity,
            identities: key.identities.iter().map(|impu| impu.as_str()).collect(),
            expires: key.expires.map(calendar::print_xml),
        })
        .collect();
    shown.sort_by_key(|row| row.identity);
    if json {
        let text = serde_json::to_string_pretty(&shown).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
        return Ok(GOOD);
    }
    let mut table = Table::new(&["IDENTITY", "PROVES", "ENDS"]);
    for row in shown {
        let ends = row.expires.unwrap_or_else(|| "never".to_owned());
        table.row([row.identity.to_owned(), row.identities.join(" "), ends]);
    }
    table.print(out)?;
    Ok(GOOD)
}

fn revoke(vault: &Vault, identity: &str, out: &mut dyn Write) -> Result<u8, Stop> {
    if !vault.keys()?.contains_key(identity) {
        writeln!(out, "{identity} is not in the store")?;
        return Ok(NO);
    }
    vault.change(Part::Keys, &[Change::Remove(Records::Keys, identity.as_bytes())])?;
    writeln!(out, "{identity} is taken back")?;
    Ok(GOOD)
}

fn rotate(vault: &Vault, to: &Path, out: &mut dyn Write) -> Result<u8, Stop> {
    let unread = |why: KeyUnread| Stop::Said(why.to_string(), USAGE);
    if !to.exists() {
        let octets = Zeroizing::new(clock::random::<32>());
        replace(to, format!("{}\n", hex(&*octets).as_str()).as_bytes())?;
    }
    let key = KeyKey::of_file(to).map_err(unread)?;
    let store = vault.embedded();
    store.rotate(&key).map_err(|fault| in_words(store.path(), &fault))?;
    // Names in the configuration start from its folder, ours from where we are.
    let (path, shown) = (std::path::absolute(to)?, key.shown());
    writeln!(
        out,
        "key {shown} opens the store from now on; the one before does so until this one did"
    )?;
    let path = path.display().to_string();
    writeln!(out, "now write state.key_file = {path:?}, and start the server anew")?;
    Ok(GOOD)
}

/// Names records first: pages tell only that something is wrong.
fn examine(vault: Vault, state: &State, out: &mut dyn Write) -> Result<u8, Stop> {
    let store = vault.embedded();
    let (count, faults) = store.examine().map_err(|fault| in_words(store.path(), &fault))?;
    for fault in &faults {
        writeln!(out, "{fault}")?;
    }
    writeln!(out, "{count} records, {} of them spoilt", faults.len())?;
    if !faults.is_empty() {
        return Ok(NO);
    }
    drop(vault);
    Vault::check(state)?;
    Ok(GOOD)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    struct Desk(PathBuf);

    impl Desk {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("sipward-key-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let desk = Self(folder);
            let config = "[bsf]\nname = \"bsf.example.net\"\n\n[state]\nfile = \"state.redb\"\nkey_file = \"a.key\"\n";
            desk.file("sipward.toml", config);
            desk.file("a.key", "00112233445566778899aabbccddeeff\n");
            desk
        }

        fn file(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            replace(&path, text.as_bytes()).unwrap();
            path.display().to_string()
        }

        fn run(&self, args: &[&str]) -> (u8, String) {
            let config = self.0.join("sipward.toml").display().to_string();
            let words = ["key", "--config", &config].into_iter().chain(args.iter().copied());
            let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let code = match run(&cli.args, &mut out, &mut errors) {
                Ok(code) => code,
                Err(error) => return (USAGE, error.to_string()),
            };
            (code, String::from_utf8([out, errors].concat()).unwrap())
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// B.9: 256 random bits under a name that is no B-TID's; a key below 128 bits is refused; what is taken back is gone.
    #[test]
    fn keys_are_issued_imported_and_taken_back() {
        let desk = Desk::new("issue");
        let file = desk.0.join("alice.key").display().to_string();
        let issue = ["issue", "alice", "--impu", "sip:alice@example.net", "--out", &file];
        let (code, out) = desk.run(&issue);
        assert_eq!(code, GOOD, "{out}");
        assert!(out.starts_with("psk;alice@bsf.example.net proves sip:alice@example.net"), "{out}");
        let digits = std::fs::read_to_string(&file).unwrap();
        assert!(digits.trim().len() == 64 && !out.contains(digits.trim()), "not asked for: {out}");
        assert_eq!(desk.run(&issue).0, NO, "twice");
        let (code, out) =
            desk.run(&["issue", "bob", "--impu", "sip:bob@example.net", "--show-secrets"]);
        assert!(code == GOOD && out.contains("\nkey = \""), "{out}");
        let (code, out) = desk.run(&["issue", "eve", "--impu", "mailto:x", "--show-secrets"]);
        assert_eq!((code, out.contains("key.identities names nobody")), (USAGE, true), "{out}");

        let row = |digits: &str| {
            format!(
                "[[key]]\nidentity = \"psk;carol@x\"\nkey = \"{digits}\"\nidentities = [\"tel:+1\"]\nexpires = \"2027-01-01T00:00:00Z\"\n"
            )
        };
        let short = desk.file("short.toml", &row("00112233445566778899aabbccddee"));
        let (code, out) = desk.run(&["import", &short]);
        assert_eq!((code, out.contains("short.toml:1: key.key is none")), (USAGE, true), "{out}");
        let good = desk.file("good.toml", &row("00112233445566778899aabbccddeeff"));
        assert_eq!(
            desk.run(&["import", &good]),
            (GOOD, format!("1 keys taken over from {good}\n"))
        );
        assert_eq!(desk.run(&["import", &good]).0, NO, "twice");
        let (_, out) = desk.run(&["list"]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[3],
            "psk;carol@x                tel:+1                 2027-01-01T00:00:00Z"
        );
        assert!(!out.contains(digits.trim()) && !desk.run(&["list", "--json"]).1.contains("0011"));
        assert_eq!(desk.run(&["revoke", "psk;carol@x"]).0, GOOD);
        assert_eq!(desk.run(&["revoke", "psk;carol@x"]).0, NO);
        assert_eq!(desk.run(&["list"]).1.lines().count(), 3);
    }

    #[test]
    fn the_store_is_sealed_anew_and_examined() {
        let desk = Desk::new("rotate");
        assert_eq!(desk.run(&["issue", "alice", "--impu", "tel:+1", "--show-secrets"]).0, GOOD);
        let to = desk.0.join("b.key").display().to_string();
        let (code, out) = desk.run(&["rotate", "--to", &to]);
        assert_eq!((code, out.contains("state.key_file")), (GOOD, true), "{out}");
        assert_eq!(
            desk.run(&["examine"]),
            (GOOD, "2 records, 0 of them spoilt\n".to_owned()),
            "both open it"
        );
        let config = std::fs::read_to_string(desk.0.join("sipward.toml")).unwrap();
        desk.file("sipward.toml", &config.replace("a.key", "b.key"));
        assert_eq!(desk.run(&["list"]).0, GOOD);
        desk.file("sipward.toml", &config);
        let (code, out) = desk.run(&["list"]);
        assert_eq!((code, out.contains("does not open it")), (USAGE, true), "{out}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            desk.file("sipward.toml", &config.replace("a.key", "b.key"));
            let open = desk.file("c.key", "ffeeddccbbaa99887766554433221100\n");
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
            let (code, out) = desk.run(&["rotate", "--to", &open]);
            assert_eq!((code, out.contains("chmod 600")), (USAGE, true), "{out}");
        }
    }
}

//! The audit, its plan: whom it is pointed at, as whom, how fast.
//!
//! Takes:   addresses, accounts, bounds.
//! Gives:   [`Plan`].
//! Keeps:   passwords, zeroed on drop.
//! Refuses: targets that anybody's neighbours share: what is neither loopback nor private needs the word that it is one's own.
//! Sources: RFC 1918; RFC 4193; RFC 3927; RFC 6598.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::case::Group;
use crate::client::answer::Credential;
use crate::transport::Transport;
use crate::transport::peer::Trust;
use crate::transport::ws::Offer;

/// Most accounts that are used.
pub const ACCOUNTS_MAX: usize = 2;

/// One port of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// What is spoken there.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// A user that the target knows.
#[derive(Clone)]
pub struct Account {
    /// `sip:alice@example.net`.
    pub identity: String,
    /// Digest username.
    pub username: String,
    /// Digest password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Account {
    /// What it proves itself with.
    pub fn credential(&self) -> Credential {
        let (username, password) = (self.username.clone(), self.password.clone());
        Credential::Account { username, password, realm: None }
    }

    /// Its name: the user part of its identity.
    pub fn user(&self) -> &str {
        let bare = self.identity.split_once(':').map_or("", |(_, rest)| rest);
        bare.split('@').next().unwrap_or_default()
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The target as it was named.
    pub target: String,
    /// Its ports.
    pub doors: Vec<Door>,
    /// The name that its certificate must be for.
    pub name: String,
    /// The domain of its users.
    pub domain: String,
    /// What WebSocket is asked for with.
    pub ws: Offer,
    /// Who may vouch for it.
    pub trust: Option<Trust>,
    /// Its users that we may be.
    pub accounts: Vec<Account>,
    /// Messages a second.
    pub rate: u32,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// Which groups are run.
    pub groups: Vec<Group>,
    /// Which cases are run; all of the groups if empty.
    pub only: Vec<String>,
    /// Whether those are run, too, that load the target.
    pub disruptive: bool,
}

impl Plan {
    /// What HTTP calls a door: host and port.
    pub fn authority(&self, door: Door) -> String {
        let port = door.address.port();
        match self.name.contains(':') {
            true => format!("[{}]:{port}", self.name),
            false => format!("{}:{port}", self.name),
        }
    }
}

/// Whether whoever owns this machine may be thought to own that address: loopback, link-local, private.
pub fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    account: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    username: String,
    password: Option<String>,
    #[serde(default)]
    identities: Vec<String>,
}

/// The first accounts with a password in a file as `sipward serve` reads it; who has no identity there is one of `domain`.
///
/// # Errors
///
/// What is wrong with it, without a line of it: there are passwords in it.
pub fn accounts(text: &str, domain: Option<&str>) -> Result<Vec<Account>, String> {
    let file: File =
        toml::from_str(text).map_err(|why| format!("no accounts: {}", why.message()))?;
    let mut found = Vec::new();
    for Row { username, password, identities } in file.account {
        let Some(password) = password else { continue };
        let identity = match (identities.into_iter().next(), domain) {
            (Some(identity), _) => identity,
            (None, Some(domain)) => format!("sip:{username}@{domain}"),
            (None, None) => {
                return Err(format!("{username} has no identity: say identities = [..]"));
            }
        };
        let password = Zeroizing::new(password);
        found.push(Account { identity, username, password });
    }
    found.truncate(ACCOUNTS_MAX);
    match found.is_empty() {
        true => Err("no account with a password is in it".into()),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_this_machine_or_its_house_has() {
        for (address, near) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.9.9", true),
            ("169.254.1.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("192.0.2.1", false),
            ("172.32.0.1", false),
            ("100.64.0.1", false),
            ("8.8.8.8", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("2001:db8::1", false),
            ("::ffff:8.8.8.8", false),
        ] {
            assert_eq!(is_near(address.parse().unwrap()), near, "{address}");
        }
    }

    #[test]
    fn accounts_are_read_as_the_edge_reads_them_and_their_secrets_are_not_told() {
        let text = "[[account]]\nusername = \"alice\"\npassword = \"secret-1\"\nidentities = [\"sip:alice@a.example\"]\n\
                    [[account]]\nusername = \"hashed\"\nha1 = { MD5 = \"00\" }\n\
                    [[account]]\nusername = \"bob\"\npassword = \"secret-2\"\nclasses = [\"cpm\"]\n\
                    [[account]]\nusername = \"carol\"\npassword = \"secret-3\"\n";
        let found = accounts(text, Some("b.example")).unwrap();
        let identities: Vec<&str> = found.iter().map(|a| a.identity.as_str()).collect();
        assert_eq!(identities, ["sip:alice@a.example", "sip:bob@b.example"]);
        assert_eq!(found[1].user(), "bob");
        assert!(!format!("{found:?}").contains("secret"), "V-49");
        assert!(accounts(text, None).unwrap_err().contains("bob has no identity"));
        for bad in [
            "[[account]]\nusername = \"a\"\npassword = secret-9",
            "",
            "[[account]]\nusername = \"a\"\n",
        ] {
            let why = accounts(bad, None).unwrap_err();
            assert!(!why.contains("secret-9"), "{why}");
        }
    }
}

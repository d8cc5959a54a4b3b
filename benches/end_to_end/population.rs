//! Who the UEs are: names, passwords and identities, all of the same length for all anchors.

use std::io::Write as _;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::digest::Login;
use super::lab::ue_address;
use super::ue::Ue;
use super::{BSF_NAME, DOMAIN};

/// One UE's name and password.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// Credentials that look like those of a bootstrapping run: a B-TID, and 32 octets of a key.
pub(crate) fn drawn(number: usize) -> Credentials {
    let rand = Md5::digest(format!("rand {number}"));
    let key = Sha256::digest(format!("key {number}"));
    Credentials { username: format!("{}@{BSF_NAME}", base64(&rand)), password: base64(&key) }
}

/// The identity of a UE.
pub(crate) fn identity(number: usize) -> String {
    format!("sip:ue{number:07}@{DOMAIN}")
}

/// The name of a UE's shared key.
pub(crate) fn key_name(number: usize) -> String {
    format!("psk;ue{number:07}@{BSF_NAME}")
}

/// The number in it.
pub(crate) fn number_in(key_name: &str) -> Option<usize> {
    key_name.strip_prefix("psk;ue")?.split('@').next()?.parse().ok()
}

/// That key.
pub(crate) fn key(number: usize) -> [u8; 32] {
    Sha256::digest(format!("shared key {number}")).into()
}

/// A file of so many shared keys.
pub(crate) fn keys(count: usize) -> String {
    let one = |number: usize| {
        let hex: String = key(number).iter().map(|octet| format!("{octet:02x}")).collect();
        format!(
            "[[key]]\nidentity = \"{}\"\nkey = \"{hex}\"\nidentities = [\"{}\"]\n",
            key_name(number),
            identity(number)
        )
    };
    (0..count).map(one).collect()
}

/// UEs with these credentials; each is number and credentials of its account.
pub(crate) fn ues(credentials: &[(usize, Credentials)]) -> Vec<Ue> {
    let ue = |(place, (account, one)): (usize, &(usize, Credentials))| {
        let login = Login::new(&one.username, &one.password);
        Ue::new(place, ue_address(place), &identity(*account), login)
    };
    credentials.iter().enumerate().map(ue).collect()
}

/// An accounts file of so many drawn accounts, `username,password,identities`.
pub(crate) fn accounts(count: usize) -> String {
    let mut text = Vec::with_capacity(count * 128);
    text.extend_from_slice(b"username,password,identities\n");
    for number in 0..count {
        let Credentials { username, password } = drawn(number);
        let _never_fails = writeln!(text, "{username},{password},{}", identity(number));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A list of subscribers for the bootstrapping server, each with a card of its own.
pub(crate) fn subscribers(count: usize) -> String {
    let one = |number: usize| {
        format!(
            "[[subscriber]]\nimpi = \"ue{number:07}@{DOMAIN}\"\nk = \"465b5ce8b199b49faa5f0a2e{number:08x}\"\n\
            opc = \"cd63cb71954a9f4e48a5994e37a02baf\"\nimpus = [\"{}\"]\n",
            identity(number)
        )
    };
    (0..count).map(one).collect()
}

fn base64(octets: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(octets)
}

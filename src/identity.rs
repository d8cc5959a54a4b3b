//! Who somebody is: the names that keys, accounts and certificates prove.
//!
//! Takes:   text from configuration, subscriber files, key servers and verified credentials.
//! Gives:   [`Impi`], [`Impu`], [`Btid`], [`Ptid`], [`Realm`] and [`Principal`], cheap to clone.
//! Keeps:   nothing.
//! Refuses: text that could not be such a name: empty, over 1024 octets, with control characters, quotes.
//! Sources: TS 23.003 clause 13; TS 33.220 clause 4.5.2 (B-TID); RFC 7616 section 3.3 (realm).

use std::fmt;
use std::sync::Arc;

use crate::wire::Uri;
use crate::wire::uri::Scheme;

/// Longest name, in octets.
pub const NAME_MAX: usize = 1024;

macro_rules! name {
    ($(#[$about:meta])* $type:ident) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes `text` as such a name; `None` if it cannot be one.
            pub fn new(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.0)
            }
        }
    };
}

/// Whether text may be a name.
fn is_name(text: &str) -> bool {
    // Nearly all are plain ASCII: without branches, many octets are looked at at once.
    let plain = |octet: u8| matches!(octet, b' '..=b'~') & (octet != b'"') & (octet != b'\\');
    let clean = |letter: char| !letter.is_control() && !matches!(letter, '"' | '\\');
    (1..=NAME_MAX).contains(&text.len())
        && (text.bytes().fold(true, |all, octet| all & plain(octet)) || text.chars().all(clean))
}

name! {
    /// A private identity: the subscriber as the operator knows it, `user@domain`. Never shown to other users.
    Impi
}
name! {
    /// Text that may be any of these names.
    Name
}
name! {
    /// A digest realm.
    Realm
}
name! {
    /// A bootstrapping transaction identifier, `base64(RAND)@bsf-name`: it names one Ks. Compared with case.
    Btid
}

name! {
    /// A P-TID: the uplink name of an association that was pushed, chosen by the NAF. Compared with case.
    Ptid
}

impl Btid {
    /// The server that made it: what follows the last `@`.
    pub fn bsf(&self) -> &str {
        let at = memchr::memrchr(b'@', self.0.as_bytes());
        at.and_then(|at| self.0.get(at.checked_add(1)?..)).unwrap_or_default()
    }
}

/// A public identity: the URI by which others reach the user, `sip:alice@example.net` or `tel:+1...`. The form in
/// which it is compared is made with it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Impu {
    text: Arc<str>,
    key: Arc<[u8]>,
    scheme: Option<Scheme>,
}

impl Impu {
    /// Takes `text` as such an identity; `None` if it cannot be one.
    pub fn new(text: &str) -> Option<Self> {
        let Name(text) = Name::new(text)?;
        let uri = Uri::parse(text.as_bytes());
        let key = uri.map_or_else(|| text.as_bytes().into(), |uri| uri.identity().into());
        let scheme = uri.map(|uri| uri.scheme());
        Some(Self { text, key, scheme })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its scheme; `None` if it is no URI that can be read.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The form in which identities are compared; see [`crate::wire::Uri::identity`].
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Display for Impu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Impu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Impu({})", self.text)
    }
}

/// How a name was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// A key made by bootstrapping: the name is the IMPI, or the B-TID where the IMPI is withheld.
    Gba,
    /// A key carried to both ends by hand: the name is its PSK identity.
    ProvisionedKey,
    /// A digest account: the name is `realm` TAB `username`.
    Account,
    /// Digest-AKA against a local subscriber: the name is the IMPI.
    Aka,
    /// A certificate of a user: the name is its SIP URI.
    UserCertificate,
    /// A certificate of a server: the name is its peer group.
    PeerCertificate,
    /// A configured address: the name is its peer group.
    Address,
}

/// The name that authentication proved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// How.
    pub proof: Proof,
    /// The name, in the form that `proof` says.
    pub name: Arc<str>,
}

impl Principal {
    /// A principal.
    pub fn new(proof: Proof, name: impl Into<Arc<str>>) -> Self {
        Self { proof, name: name.into() }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.proof, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_neither_controls_nor_quotes() {
        let longest = "a".repeat(NAME_MAX);
        for text in ["a", " ", "~", "alice@ex\u{e4}mple", "\u{a0}", &longest] {
            assert!(Name::new(text).is_some(), "{text:?}");
        }
        let longer = format!("{longest}a");
        for text in ["", "a\"", "a\\b", "a\0", "\u{1f}", "\u{7f}", "\u{85}", "\u{e4}\n", &longer] {
            assert!(Name::new(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn an_identity_has_the_scheme_of_its_uri() {
        for (text, scheme) in [
            ("sip:alice@example.net", Some(Scheme::Sip)),
            ("SIPS:alice@example.net", Some(Scheme::Sips)),
            ("tel:+12015550101", Some(Scheme::Tel)),
            ("im:alice@example.net", Some(Scheme::Other)),
            ("sip:", None),
            ("alice", None),
        ] {
            assert_eq!(Impu::new(text).expect("a name").scheme(), scheme, "{text}");
        }
    }

    #[test]
    fn a_btid_names_its_server_behind_the_last_sign() {
        for (text, bsf) in [("r@bsf", "bsf"), ("a@b@c", "c"), ("none", ""), ("r@", "")] {
            assert_eq!(Btid::new(text).expect("a name").bsf(), bsf, "{text}");
        }
    }
}

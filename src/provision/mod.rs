//! Provisioning: what a client is told to trust, one document for each enabler, made by the operator and signed.
//!
//! Takes:   what the operator lists; documents as they were carried to the client.
//! Gives:   [`Document`], asked each time the enabler is used; its text, which is what is signed; [`succeed`], whether one may
//!          take the place of another.
//! Keeps:   nothing. Bounds: [`LIST_MAX`] entries of each list, [`TEXT_MAX`] octets of each.
//! Refuses: what is not listed; a document older than the one before it, another of the same version, and weaker algorithms
//!          without a higher version of that choice.
//! Sources: SEC_CF 1.1 B.8, ADM-002; OMA DM tree and description serialization (`tree`).

#[cfg(feature = "http")]
pub mod file;
pub mod tree;

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::authentication::digest::Hash;
use crate::authentication::gba::{DIGEST_PREFIX, PREFIX};

/// Most entries of one list.
pub const LIST_MAX: usize = 256;
/// Longest entry, in octets.
pub const TEXT_MAX: usize = 255;
/// The enablers that a client knows.
pub const ENABLERS: [&str; 4] = ["sip", "cpm", "locsip", "push"];
/// What the signed octets begin with, so that no other signature of that key fits.
const CONTEXT: &[u8] = b"sipward provisioning 1\n";

/// What a client trusts when it uses one enabler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The enabler, one of [`ENABLERS`].
    pub enabler: &'static str,
    /// Of this document: it never goes back.
    pub version: u64,
    /// Names of servers that may be dialled, which those of NAFs are among, lower case.
    pub servers: Vec<String>,
    /// Realms of passwords and cards that are answered.
    pub realms: Vec<String>,
    /// Hosts that may push, lower case.
    pub initiators: Vec<String>,
    /// SHA-256 of the certificates of authorities.
    pub anchors: Vec<[u8; 32]>,
    /// What is strong enough.
    pub algorithms: Algorithms,
}

/// A choice of algorithms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Algorithms {
    /// Of this choice: what is weaker has a higher one.
    pub version: u32,
    /// Of Digest, the preferred one first.
    pub digests: Vec<Hash>,
    /// The lowest version of TLS.
    pub tls: TlsFloor,
}

/// A lowest version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsFloor {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

impl TlsFloor {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    /// Reads it.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Tls12, Self::Tls13].into_iter().find(|own| own.as_str() == text)
    }
}

impl Algorithms {
    /// Whether this allows something weaker than everything that `other` allows.
    pub fn is_weaker_than(&self, other: &Self) -> bool {
        let weakest = |of: &Self| of.digests.iter().min().copied();
        weakest(self) < weakest(other) || self.tls < other.tls
    }
}

/// A document and what its signer put under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What is said.
    pub document: Document,
    /// The signature.
    pub signature: Vec<u8>,
}

/// The document in force, read anew at each use; `None` if there is none, and then nothing is trusted.
#[derive(Clone)]
pub struct Lists(Arc<dyn Fn() -> Option<Arc<Document>> + Send + Sync>);

impl Lists {
    /// What `read` gives.
    pub fn new(read: impl Fn() -> Option<Arc<Document>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The document in force.
    pub fn current(&self) -> Option<Arc<Document>> {
        (self.0)()
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lists(..)")
    }
}

/// Why a document is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfollowed {
    /// For another enabler.
    OtherEnabler,
    /// An older version than the one in force.
    Older,
    /// The version in force, and yet another document.
    Twofold,
    /// An older choice of algorithms than the one in force.
    AlgorithmsOlder,
    /// Weaker algorithms, and no higher version of that choice.
    Weaker,
}

impl fmt::Display for Unfollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherEnabler => "it is for another enabler",
            Self::Older => "it is older than the one in force",
            Self::Twofold => "it has the version of the one in force, and says something else",
            Self::AlgorithmsOlder => "its choice of algorithms is older than the one in force",
            Self::Weaker => {
                "it allows weaker algorithms, and the version of that choice is no higher"
            }
        })
    }
}

/// What a document does that takes the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the same one.
    Same,
    /// It is later.
    Later,
    /// It is later, and allows weaker algorithms than the one before: the user is told.
    Weaker,
}

/// Whether `new` may take the place of `old`.
///
/// # Errors
///
/// [`Unfollowed`]: the old one stays in force.
///
/// Source: SEC_CF 1.1 B.8, ADM-002.
pub fn succeed(old: &Document, new: &Document) -> Result<Step, Unfollowed> {
    if old.enabler != new.enabler {
        return Err(Unfollowed::OtherEnabler);
    }
    if new.version < old.version {
        return Err(Unfollowed::Older);
    }
    if new.version == old.version {
        return if new == old { Ok(Step::Same) } else { Err(Unfollowed::Twofold) };
    }
    if new.algorithms.version < old.algorithms.version {
        return Err(Unfollowed::AlgorithmsOlder);
    }
    if !new.algorithms.is_weaker_than(&old.algorithms) {
        return Ok(Step::Later);
    }
    if new.algorithms.version == old.algorithms.version {
        return Err(Unfollowed::Weaker);
    }
    Ok(Step::Weaker)
}

impl Document {
    /// Whether a server of that name may be dialled.
    pub fn trusts_server(&self, name: &str) -> bool {
        self.servers.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether a challenge of that realm is answered: a bootstrapping one is that of its server.
    pub fn trusts_realm(&self, realm: &str) -> bool {
        match realm.strip_prefix(PREFIX).or(realm.strip_prefix(DIGEST_PREFIX)) {
            Some(server) => self.trusts_server(server),
            None => self.realms.iter().any(|own| own == realm),
        }
    }

    /// Whether that host may push.
    pub fn trusts_initiator(&self, host: &str) -> bool {
        self.initiators.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    /// Whether an authority is trusted, by the SHA-256 of its certificate.
    pub fn trusts_anchor(&self, of: &[u8; 32]) -> bool {
        self.anchors.contains(of)
    }

    /// What is wrong with it: every list within its bounds, every entry such that each form of the document says the same.
    pub fn fault(&self) -> Option<String> {
        let lists = [
            ("servers", &self.servers),
            ("realms", &self.realms),
            ("initiators", &self.initiators),
        ];
        for (name, list) in lists {
            if list.len() > LIST_MAX {
                return Some(format!("{name} has over {LIST_MAX} entries"));
            }
            if let Some(bad) = list.iter().find(|entry| !is_plain(entry)) {
                return Some(format!("{name} holds {bad:?}, which is no name or realm"));
            }
        }
        let digests = &self.algorithms.digests;
        let twice = digests.iter().enumerate().any(|(at, one)| {
            digests.iter().position(|other| other == one).is_some_and(|first| first != at)
        });
        if digests.is_empty() || twice {
            return Some("algorithms.digests is empty, or names one twice".into());
        }
        (self.anchors.len() > LIST_MAX).then(|| format!("anchors has over {LIST_MAX} entries"))
    }

    /// The octets that are signed.
    pub fn signed_octets(&self) -> Vec<u8> {
        let mut octets = CONTEXT.to_vec();
        octets.extend_from_slice(self.to_string().as_bytes());
        octets
    }
}

/// Whether an entry is the same text wherever it is written: printable, without quotes or backslash, with no blank at its ends.
fn is_plain(entry: &str) -> bool {
    let fits = |octet: u8| (b' '..=b'~').contains(&octet) && !b"\"\\".contains(&octet);
    (1..=TEXT_MAX).contains(&entry.len()) && entry.bytes().all(fits) && entry.trim() == entry
}

/// As TOML, each key in its place: the one form that is signed.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digests: Vec<&str> = self.algorithms.digests.iter().map(|hash| hash.as_str()).collect();
        let anchors: Vec<String> = self.anchors.iter().map(|anchor| hex(anchor)).collect();
        writeln!(f, "[document]\nenabler = \"{}\"\nversion = {}", self.enabler, self.version)?;
        list(f, "servers", &self.servers)?;
        list(f, "realms", &self.realms)?;
        list(f, "initiators", &self.initiators)?;
        list(f, "anchors", &anchors)?;
        writeln!(f, "[document.algorithms]\nversion = {}", self.algorithms.version)?;
        list(f, "digests", &digests)?;
        writeln!(f, "tls = \"{}\"", self.algorithms.tls.as_str())
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, key: &str, entries: &[T]) -> fmt::Result {
    let quoted: Vec<String> = entries.iter().map(|entry| format!("\"{entry}\"")).collect();
    writeln!(f, "{key} = [{}]", quoted.join(", "))
}

/// Lower-case digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// The enabler of that name.
pub fn enabler(name: &str) -> Option<&'static str> {
    ENABLERS.into_iter().find(|own| *own == name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn document() -> Document {
        Document {
            enabler: "push",
            version: 7,
            servers: vec!["edge.example.net".into()],
            realms: vec!["example.net".into()],
            initiators: vec!["mail.example.net".into(), "203.0.113.30".into()],
            anchors: vec![[0x5A; 32]],
            algorithms: Algorithms {
                version: 3,
                digests: vec![Hash::Sha256],
                tls: TlsFloor::Tls12,
            },
        }
    }

    /// B.8: what is not listed is not trusted.
    #[test]
    fn what_is_listed_is_trusted_and_nothing_else() {
        let document = document();
        for (realm, trusted) in [
            ("3GPP-bootstrapping@edge.example.net", true),
            ("3GPP-bootstrapping@EDGE.example.net", true),
            ("3GPP-bootstrapping@edge.example.org", false),
            ("3GPP-bootstrapping-digest@edge.example.net", true),
            ("3GPP-bootstrapping-digest@edge.example.org", false),
            ("example.net", true),
            ("Example.net", false),
            ("edge.example.net", false),
            ("", false),
        ] {
            assert_eq!(document.trusts_realm(realm), trusted, "{realm}");
        }
        assert!(document.trusts_initiator("MAIL.example.net"));
        assert!(!document.trusts_initiator("example.net"));
        assert!(document.trusts_anchor(&[0x5A; 32]) && !document.trusts_anchor(&[0; 32]));
    }

    /// ADM-002, B.8: versions never go back; weaker algorithms say so by theirs.
    #[test]
    fn one_takes_the_place_of_another() {
        let old = document();
        let with = |change: &dyn Fn(&mut Document)| {
            let mut new = document();
            change(&mut new);
            succeed(&old, &new)
        };
        let weak = vec![Hash::Sha256, Hash::Md5];
        assert_eq!(with(&|_| {}), Ok(Step::Same));
        assert_eq!(with(&|new| new.version = 6), Err(Unfollowed::Older));
        assert_eq!(with(&|new| new.realms.clear()), Err(Unfollowed::Twofold));
        assert_eq!(with(&|new| new.enabler = "sip"), Err(Unfollowed::OtherEnabler));
        assert_eq!(with(&|new| new.version = 8), Ok(Step::Later));
        let both = |version, digests: &[Hash], tls| {
            with(&|new| {
                new.version = 8;
                new.algorithms = Algorithms { version, digests: digests.to_vec(), tls };
            })
        };
        let strong = [Hash::Sha256];
        assert_eq!(both(2, &strong, TlsFloor::Tls13), Err(Unfollowed::AlgorithmsOlder));
        assert_eq!(both(3, &weak, TlsFloor::Tls13), Err(Unfollowed::Weaker));
        assert_eq!(both(4, &weak, TlsFloor::Tls12), Ok(Step::Weaker));
        assert_eq!(both(3, &[Hash::Sha512_256], TlsFloor::Tls13), Ok(Step::Later));
    }

    /// Nothing in an entry can be read as something else in any form.
    #[test]
    fn what_cannot_be_written_down_safely_is_a_fault() {
        assert_eq!(document().fault(), None);
        let bad = ["", " a", "a\"", "a\\", "a\nversion = 9", "\u{e4}", &"a".repeat(256)];
        for entry in bad {
            let mut document = document();
            document.realms.push(entry.into());
            assert!(document.fault().is_some_and(|what| what.starts_with("realms")), "{entry:?}");
        }
        let mut long = document();
        long.servers = vec!["a".into(); LIST_MAX + 1];
        assert!(long.fault().is_some());
        let mut none = document();
        none.algorithms.digests.clear();
        assert!(none.fault().is_some());
        none.algorithms.digests = vec![Hash::Md5, Hash::Md5];
        assert!(none.fault().is_some());
    }
}

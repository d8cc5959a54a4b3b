//! Configuration, proof: `[authentication]`, `[digest]`, `[naf]`, `[bsf]` and `[register]`.
//!
//! Takes:   the tables as written, and the file of accounts.
//! Gives:   which schemes are offered and what each needs.
//! Keeps:   nothing.
//! Refuses: a scheme without its means; a NAF that is an address, or that nobody gives keys to; key servers
//!          in the clear.
//! Sources: RFC 7616; RFC 8760; TS 33.220 clause 4.5 and annex B.3; `RG-01`, `RG-02`, `AU`; SEC_CF 1.1 SEC-002.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::accounts::{self, Home};
use super::field::Octets;
use super::files::{Fingerprint, Folder, Secrecy, Sum, TABLE_MAX};
use super::listen::{algorithms, is_address, is_host};
use super::problem::Notes;
use super::raw::{Section, Spot};
use super::ub::{self, UbTls};
use crate::admission::Rate;
use crate::authentication::Accounts;
use crate::authentication::digest::Hash;
use crate::identity::Realm;
use crate::keys::UaId;
use crate::keys::bootstrap::DigestConfig;
use crate::keys::subscribers::file;

/// Which proofs are taken, and how.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Keys of a bootstrapping server.
    pub gba: bool,
    /// Accounts.
    pub digest: bool,
    /// Cards.
    pub aka: bool,
    /// The accounts, empty without a file.
    pub accounts: Arc<Accounts>,
    /// Where they were read from.
    pub accounts_file: Option<PathBuf>,
    /// Of that file.
    pub fingerprint: Fingerprint,
    /// Whether there are accounts in the store too.
    pub accounts_in_state: bool,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
    /// Whether a nonce is good for one Call-ID alone.
    pub nonce_per_dialog: bool,
    /// Most nonces whose counts are remembered.
    pub max_windows: usize,
}

/// The arithmetic of Digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// What is offered, the preferred one first.
    pub algorithms: Vec<Hash>,
    /// Of that choice, and of those of listeners: it never goes back, and what is weaker has a higher one.
    pub version: u32,
    /// Whether an account that has used a better algorithm is held to it.
    pub lock: bool,
    /// Whether digest-uri must equal the Request-URI.
    pub uri_strict: bool,
}

/// The edge as the NAF whose keys callers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naf {
    /// The name that UEs dial, lower case.
    pub fqdn: Arc<str>,
    /// Protocols whose keys are taken, the one that is derived for first.
    pub ua_ids: Vec<UaId>,
    /// An end for keys that live longer.
    pub association_lifetime: Option<Duration>,
    /// Whether everybody is offered this realm alone.
    pub required: bool,
    /// Whether keys that were made with a password are taken (GBA_Digest), not those of cards alone.
    pub gba_digest: bool,
}

/// The bootstrapping server of this process.
#[derive(Clone, Debug)]
pub struct Bsf {
    /// Its name: in B-TIDs, and the realm of its challenges unless another is given.
    pub name: Arc<str>,
    /// The realm, where it is not the name.
    pub realm: Option<Realm>,
    /// Where Ub is served in the clear.
    pub listen: SocketAddr,
    /// Where it is served under TLS, if it is.
    pub listen_tls: Option<SocketAddr>,
    /// What is shown there.
    pub tls: Option<UbTls>,
    /// How subscribers with passwords bootstrap, if they may.
    pub digest: Option<DigestConfig>,
    /// The path that UEs ask for.
    pub path: Arc<str>,
    /// The list of subscribers; none if they stand in the store, or are a home's, who is asked over Zh.
    pub subscribers: Option<PathBuf>,
    /// Of that list.
    pub fingerprint: Fingerprint,
    /// How long keys live.
    pub key_lifetime: Duration,
    /// Whether temporary identities are offered.
    pub tmpi: bool,
    /// How often one source may ask.
    pub source_rate: Rate,
    /// Most sessions.
    pub max_sessions: usize,
}

/// How REGISTER is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Whether it is challenged with 401, in the registrar's place.
    pub with_401: bool,
    /// Whether From may name somebody else than To.
    pub third_party: bool,
    /// Whether a UE that does not list `path` is refused.
    pub path_strict: bool,
}

/// Reads `[naf]`.
pub(super) fn naf(root: &mut Section<'_>) -> Option<Naf> {
    let mut section = root.table("naf");
    let notes = section.notes();
    if !section.is_present() {
        section.finish();
        return None;
    }
    let derived = "the key is derived from the name that the UE dialled (TS 33.220 annex B.3)";
    let fqdn = section.need::<String>("fqdn", derived, "\"naf.example.com\"").and_then(|Spot { value, place }| {
        let what = if is_address(&value) {
            "is an address"
        } else if !is_host(&value) || !value.contains('.') {
            "is no full domain name"
        } else {
            return Some(value.to_ascii_lowercase());
        };
        let why = "the key is derived from the name that the UE dialled (TS 33.220 annex B.3), so no UE would match";
        notes.problem(&place, what, why, "\"naf.example.com\"");
        None
    });
    let ua_ids = match section.maybe::<Vec<UaId>>("ua_ids") {
        Some(Spot { value, place }) if value.is_empty() => {
            let why = "keys of no protocol are no keys";
            notes.problem(&place, "is empty", why, "[\"0300000003\"]");
            value
        }
        Some(Spot { value, place }) => {
            if value.contains(&UaId::TMPI) {
                let why = "temporary identities are derived with it (TS 33.220 annex B.4)";
                notes.problem(&place, "holds the identifier of TMPIs", why, "[\"0300000003\"]");
            }
            if value.len() > 1 {
                let why = "one key for all of SIP is what this version derives";
                notes.problem(&place, "holds more than one", why, "[\"0300000003\"]");
            }
            value
        }
        None => vec![UaId::SIP_DIGEST],
    };
    let shortest = Duration::from_secs(60);
    let association_lifetime = section.maybe::<Duration>("association_lifetime").map(|spot| {
        if spot.value < shortest {
            let why = "every UE would bootstrap without end";
            notes.problem(&spot.place, "is under a minute", why, "\"1h\"");
        }
        spot.value
    });
    let required = section.or("required", false);
    let gba_digest = section.or("gba_digest", false);
    section.finish();
    Some(Naf { fqdn: fqdn?.into(), ua_ids, association_lifetime, required, gba_digest })
}

/// Reads `[bsf]`; with a `home`, subscribers are its own.
pub(super) fn bsf(root: &mut Section<'_>, folder: &Folder, home: bool) -> Option<Bsf> {
    let stored = root.has("state");
    let mut section = root.table("bsf");
    let notes = section.notes();
    if !section.is_present() {
        return None;
    }
    if let Some(Spot { value, place }) = section.maybe::<String>("url") {
        if value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) {
            let why = "keys would cross the network in the clear (SEC-002)";
            notes.problem(&place, "is not protected", why, "");
        } else {
            let why = "key servers of others are asked over Zn: [diameter] with a peer that serves = \"zn\"";
            notes.problem(&place, "is not offered", why, "");
        }
    }
    let name = section
        .need::<String>("name", "it stands in every B-TID", "\"bsf.example.net\"")
        .and_then(|spot| {
            let fits = is_host(&spot.value) && !is_address(&spot.value);
            if !fits {
                let why = "NAFs find the server by it (TS 33.220 clause 4.5.2)";
                notes.problem(&spot.place, "is no domain name", why, "\"bsf.example.net\"");
            }
            let Spot { value, place } = spot;
            fits.then(|| Spot { value: value.to_ascii_lowercase(), place })
        });
    let realm = section.maybe::<String>("realm").and_then(|spot| {
        let realm = Realm::new(&spot.value);
        if realm.is_none() {
            notes.problem(&spot.place, "is no realm", "it stands in quotes", "\"example.net\"");
        }
        realm
    });
    let listen = section.or("listen", SocketAddr::from(([127, 0, 0, 1], 8080)));
    let (listen_tls, tls) = ub::tls(&mut section, name.as_ref(), folder).unzip();
    let digest = ub::digest(&mut section, home);
    let path = section.maybe::<String>("path").map_or("/".to_owned(), |spot| {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"/-._~".contains(&octet);
        if !spot.value.starts_with('/') || !spot.value.bytes().all(fits) {
            notes.problem(&spot.place, "is no path", "UEs ask for it", "\"/\"");
        }
        spot.value
    });
    let subscribers = if home {
        if let Some(Spot { place, .. }) = section.maybe::<PathBuf>("subscribers") {
            let why = "a peer serves zh: the home has them, and each card has one sequence number";
            notes.problem(&place, "is a second list", why, "");
        }
        Some(None)
    } else {
        subscribers(&mut section, folder, stored, "who may bootstrap, and with what")
    };
    let hour = Duration::from_secs(3600);
    let key_lifetime = section.within("key_lifetime", hour * 12, hour / 60..=hour * 24 * 7);
    let tmpi = section.or("tmpi", true);
    let per_minute = Rate { burst: 4000, ..Rate::per_minute(3000) };
    let source_rate = section.or("source_rate", per_minute);
    let max_sessions = section.within("max_sessions", 400_000, 16..=10_000_000);
    section.finish();
    let (subscribers, fingerprint) = match subscribers? {
        Some((path, fingerprint)) => (Some(path), fingerprint),
        None => (None, Sum::new().fingerprint()),
    };
    Some(Bsf {
        name: name?.value.into(),
        realm,
        listen,
        listen_tls,
        tls,
        digest,
        path: path.into(),
        subscribers,
        fingerprint,
        key_lifetime,
        tmpi,
        source_rate,
        max_sessions,
    })
}

/// Reads the key `subscribers`, and judges the file that it names; `Some(None)` if they stand in the store.
pub(super) fn subscribers(
    section: &mut Section<'_>,
    folder: &Folder,
    stored: bool,
    why: &'static str,
) -> Option<Option<(PathBuf, Fingerprint)>> {
    let notes = section.notes();
    if stored {
        let Some(Spot { value, place }) = section.maybe::<PathBuf>("subscribers") else {
            return Some(None);
        };
        let why = "[state] has them: each card has one sequence number, and one of the two would turn it back";
        let what = format!("{} = {value:?} is a second list", place.path);
        let fix = format!(
            "take this line out, then: sipward subscriber --config FILE import {}",
            value.display()
        );
        notes.say(place.line, what, why, fix);
        return None;
    }
    let spot = section.need::<PathBuf>("subscribers", why, "\"subscribers.toml\"")?;
    let path = folder.resolve(&spot.value);
    let mut sum = Sum::new();
    if let Some(octets) = folder.read(&spot, Secrecy::Secret, TABLE_MAX, notes) {
        sum.add(&octets);
        notes.adopt(judge_subscribers(&path, &octets));
    }
    Some(Some((path, sum.fingerprint())))
}

/// What is wrong with a list of subscribers.
fn judge_subscribers(path: &Path, octets: &[u8]) -> Notes {
    let name = path.display().to_string();
    let notes = Notes::new(&name);
    match std::str::from_utf8(octets) {
        Err(_) => notes.say(0, "is not UTF-8 text".into(), "", ""),
        Ok(text) => {
            for problem in file::parse(&name, text).err().unwrap_or_default() {
                notes.say(problem.line, problem.what, problem.why, problem.fix);
            }
        }
    }
    notes
}

/// Reads `[digest]`.
pub(super) fn digest(root: &mut Section<'_>, wanted: bool, passwords: bool) -> Digest {
    let mut section = root.table("digest");
    let notes = section.notes();
    let built_in = || vec![Hash::Sha256, Hash::Md5];
    let place = section.place_of("algorithms");
    let algorithms = match section.maybe::<Vec<Hash>>("algorithms") {
        Some(spot) => algorithms(spot, notes),
        None if !wanted => built_in(),
        None => {
            let why = "it is deprecated (RFC 8760 section 3); many clients know nothing else, and GBA keys do not depend on it";
            notes.warn(&place, "offers MD5 by default", why, "algorithms = [\"SHA-256\"]");
            built_in()
        }
    };
    if wanted && passwords && algorithms.contains(&Hash::Md5) {
        let why = "an MD5 response over a password can be searched offline by whoever saw it";
        notes.warn(
            &place,
            "offers MD5 to accounts with passwords",
            why,
            "algorithms = [\"SHA-256\"]",
        );
    }
    let version = section.within("version", 1, 1..=u32::MAX);
    let lock = section.or("lock", true);
    let uri_strict = section.word("uri_check", &[("served", false), ("strict", true)]);
    section.finish();
    Digest { algorithms, version, lock, uri_strict }
}

/// What `[naf]` and `[aka]` say of schemes.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    /// Whether it was written.
    pub(super) naf: bool,
    /// Whether nothing else is offered.
    pub(super) required: bool,
    /// Whether `[aka]` was written.
    pub(super) aka: bool,
    /// Whether `[state]` was written.
    pub(super) state: bool,
}

/// Reads `[authentication]`; the schemes are checked against what there is for them.
pub(super) fn authentication(
    root: &mut Section<'_>,
    folder: &Folder,
    home: Home<'_>,
    needs: Needs,
) -> Authentication {
    let mut section = root.table("authentication");
    let notes = section.notes();
    let Needs { naf, required, aka: cards, state } = needs;
    let mut sum = Sum::new();
    let accounts_spot = section.maybe::<PathBuf>("accounts");
    let accounts = accounts_spot.as_ref().and_then(|spot| {
        let octets = folder.read(spot, Secrecy::Secret, TABLE_MAX, notes)?;
        sum.add(&octets);
        let name = folder.resolve(&spot.value);
        let (accounts, found) = accounts::read(&name, &octets, home);
        notes.adopt(found);
        Some(accounts)
    });
    let place = section.place_of("accounts_in_state");
    let accounts_in_state = section.or("accounts_in_state", false);
    if accounts_in_state && !state {
        let why = "accounts would stand in the sealed file that [state] names";
        notes.problem(&place, "stands without [state]", why, "false");
    }
    let has_accounts = accounts_spot.is_some() || accounts_in_state;
    let written = section.maybe::<Vec<String>>("schemes");
    let given = [("gba", naf), ("digest", has_accounts), ("aka", cards)];
    let chosen = |scheme: &str| match &written {
        // Who is required to bootstrap is offered nothing else (V-101).
        None if required && scheme != "gba" => false,
        Some(spot) => spot.value.iter().any(|word| word == scheme),
        None => given.iter().any(|(word, given)| *word == scheme && *given),
    };
    let (gba, digest, aka) = (chosen("gba"), chosen("digest"), chosen("aka"));
    if let Some(Spot { value, place }) = &written {
        for word in value.iter().filter(|word| !given.iter().any(|(known, _)| known == word)) {
            let what = format!("holds {word:?}, which is not offered");
            let why = "what is: \"gba\", \"digest\", \"aka\"";
            notes.problem(place, &what, why, "[\"gba\", \"digest\"]");
        }
        let needs = [
            (gba && !naf, "gba", "[naf]", "keys are derived for a NAF"),
            (aka && !cards, "aka", "[aka]", "cards are asked in a realm"),
            (
                digest && required,
                "digest",
                "naf.required = false",
                "everybody is required to bootstrap",
            ),
            (aka && required, "aka", "naf.required = false", "everybody is required to bootstrap"),
            (
                digest && !has_accounts,
                "digest",
                "authentication.accounts",
                "accounts are what is asked for",
            ),
        ];
        for (_, scheme, key, why) in needs.into_iter().filter(|(missing, ..)| *missing) {
            notes.problem(place, &format!("holds {scheme:?}, but {key} is not there"), why, "");
        }
    }
    let second = Duration::from_secs(1);
    let nonce_lifetime =
        section.within("nonce_lifetime", second * 300, second * 10..=second * 86_400);
    let nonce_per_dialog = section.word("nonce_scope", &[("realm", false), ("dialog", true)]);
    let max_windows = section.within("max_windows", 1_000_000, 1000..=100_000_000);
    section.finish();
    Authentication {
        gba,
        digest,
        aka,
        accounts: Arc::new(accounts.unwrap_or_default()),
        fingerprint: sum.fingerprint(),
        accounts_file: accounts_spot.map(|spot| folder.resolve(&spot.value)),
        accounts_in_state,
        nonce_lifetime,
        nonce_per_dialog,
        max_windows,
    }
}

/// Reads `[register]` and `[path]`.
pub(super) fn register(root: &mut Section<'_>) -> Register {
    let mut section = root.table("register");
    if let Some(Spot { value, place }) = section.maybe::<String>("authenticate")
        && value != "edge"
    {
        let why = "this version authenticates REGISTER itself";
        section.notes().problem(&place, "is not offered", why, "\"edge\"");
    }
    let with_401 = section.word("challenge", &[("407", false), ("401", true)]);
    let third_party = section.or("third_party", false);
    section.finish();
    let mut path = root.table("path");
    let path_strict = path.or("strict", false);
    path.finish();
    Register { with_401, third_party, path_strict }
}

/// Octets of a size that must not be nothing.
pub(super) fn size(
    section: &mut Section<'_>,
    key: &'static str,
    default: usize,
    max: usize,
) -> usize {
    section.within(key, Octets(default), Octets(1)..=Octets(max)).0
}

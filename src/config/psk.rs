//! Configuration, shared keys: `[psk]`, which keys handshakes are made with, and what listeners say of them.
//!
//! Takes:   the table as written, and the file of provisioned keys.
//! Gives:   [`Psk`], and for a listener [`Offer`].
//! Keeps:   nothing.
//! Refuses: identities that are none or there twice, keys that are no hex, under 16 or over 64 octets; users that nobody
//!          can call; keys that no listener takes, and listeners for which there are no keys.
//! Sources: TS 33.222 clause 5.4; RFC 4279 section 5.3; SEC_CF 1.1 SEC-001; V-47.
//!
//! ```toml
//! [[key]]
//! identity = "psk;alice@bsf.example.net"    # what the UE sends; never mistaken for a B-TID
//! key = "00112233.."                        # hex, 16 to 64 octets
//! identities = ["sip:alice@example.net"]    # whom it proves, the default one first
//! expires = "2027-01-01T00:00:00Z"          # never, if left out
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::accounts::{IDENTITIES_MAX, Secretive};
use super::files::{Fingerprint, Folder, Secrecy, Sum, TABLE_MAX};
use super::listen::Listener;
use super::problem::Notes;
use super::raw::{self, Document, Lines, Section, Spot};
use crate::identity::Impu;
use crate::keys::calendar;
use crate::keys::psk::{
    KEY_MIN, PROVISIONED_MAX, Provisioned, ProvisionedKeys, PskKey, PskName, Scheme,
};
use crate::wire::Uri;
use crate::wire::uri::Scheme as UriScheme;

/// Which keys handshakes are made with.
#[derive(Clone, Debug)]
pub struct Psk {
    /// How bootstrapped keys for TLS up to 1.2 are made.
    pub scheme: Scheme,
    /// Keys that were carried to both ends by hand.
    pub keys: Arc<ProvisionedKeys>,
    /// Over their file.
    pub fingerprint: Fingerprint,
}

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whether suites of CBC are taken too.
    pub cbc: bool,
    /// Whether clients of TLS 1.2 are told that their identity is unknown.
    pub tells_unknown: bool,
}

/// Reads `psk`, `psk_cbc` and `psk_unknown` of a listener's TLS.
pub(super) fn offer(table: &mut Section<'_>) -> Option<Spot<Offer>> {
    let (place, cbc_place) = (table.place_of("psk"), table.place_of("psk_cbc"));
    let taken = table.or("psk", false);
    let cbc = table.or("psk_cbc", false);
    if cbc && !taken {
        let why = "no suite with a shared key is taken at all";
        table.notes().problem(&cbc_place, "stands without psk", why, "false");
    } else if cbc {
        let why = "padding tells of what they encrypt (CVE-2013-0169); they are for UEs that know no other";
        table.notes().warn(&cbc_place, "takes suites of CBC", why, "psk_cbc = false");
    }
    let unknown_place = table.place_of("psk_unknown");
    let tells_unknown = table.word("psk_unknown", &[("hide", false), ("alert", true)]);
    if tells_unknown {
        let why = "whoever knocks learns which identities there are (RFC 4279 section 2)";
        table.notes().warn(&unknown_place, "tells strangers", why, "psk_unknown = \"hide\"");
    }
    if taken && cfg!(not(feature = "openssl")) {
        let why = "it was built without the feature openssl";
        table.notes().problem(&place, "is not in this program", why, "false");
    }
    taken.then_some(Spot { value: Offer { cbc, tells_unknown }, place })
}

/// Reads `[psk]`; `others` says whether there may be keys that stand elsewhere: bootstrapped ones, or in the store.
pub(super) fn read(
    root: &mut Section<'_>,
    folder: &Folder,
    listeners: &[Listener],
    others: bool,
) -> Psk {
    let mut section = root.table("psk");
    let notes = section.notes();
    let is_taken = listeners.iter().any(|listener| listener.psk.is_some());
    if section.is_present() && !is_taken && !notes.has_problems() {
        let why = "it would not be used, and somebody may believe that it is";
        let fix = "tls = { .., psk = true }";
        notes.say(section.place().line, "[psk] stands without a listener".into(), why, fix);
    }
    let scheme = section.word("ua", &[("3gpp", Scheme::ThreeGpp), ("oma", Scheme::Oma)]);
    let (mut keys, mut sum) = (ProvisionedKeys::new(), Sum::new());
    let file = section.maybe::<PathBuf>("keys");
    if let Some(spot) = &file
        && let Some(octets) = folder.read(spot, Secrecy::Secret, TABLE_MAX, notes)
    {
        sum.add(&octets);
        let (read, found) = provisioned(&folder.resolve(&spot.value), &octets);
        notes.adopt(found);
        keys = read;
    }
    if is_taken && !others && file.is_none() && !section.has("keys") {
        let why = "no handshake could ever end well";
        let what = "a listener takes shared keys, and there are none".to_owned();
        notes.say(section.place().line, what, why, "[naf], [state], or psk.keys = \"psk.toml\"");
    }
    section.finish();
    Psk { scheme, keys: Arc::new(keys), fingerprint: sum.fingerprint() }
}

/// Reads the keys in `octets`, which stood in the file `name`.
pub(crate) fn provisioned(name: &std::path::Path, octets: &[u8]) -> (ProvisionedKeys, Notes) {
    let notes = Notes::new(&name.display().to_string());
    let mut keys = ProvisionedKeys::new();
    let Ok(text) = std::str::from_utf8(octets) else {
        notes.say(0, "is not UTF-8 text".into(), "", "");
        return (keys, notes);
    };
    if let Some(table) = raw::parse(text, &notes) {
        let document = Document { text, lines: Lines::new(text), notes: &notes, secret: true };
        let mut root = Section::root(&document, table.get_ref());
        for section in root.tables("key") {
            let line = section.place().line;
            let Some((identity, key)) = one(section) else { continue };
            if keys.len() == PROVISIONED_MAX {
                notes.say(line, format!("more than {PROVISIONED_MAX} keys"), "", "");
                break;
            }
            if keys.insert(identity, Arc::new(key)).is_some() {
                let why = "one identity is one key";
                notes.say(line, "key.identity is there twice".into(), why, "");
            }
        }
        root.finish();
    }
    (keys, notes)
}

fn one(mut section: Section<'_>) -> Option<(Box<str>, Provisioned)> {
    let (notes, line) = (section.notes(), section.place().line);
    let say = |what: &str, why: &'static str, fix: &'static str| {
        notes.say(line, what.to_owned(), why, fix)
    };
    let identity =
        section.need::<String>("identity", "what the UE sends", "\"psk;alice@bsf.example.net\"");
    let digits = section.need::<Secretive>("key", "both ends have it", "\"..\"");
    let users = section.need::<Vec<String>>(
        "identities",
        "whom the key proves",
        "[\"sip:alice@example.net\"]",
    );
    let expires = section.maybe::<String>("expires");
    section.finish();
    let identity = identity.and_then(|Spot { value, .. }| match PskName::read(value.as_bytes()) {
        Some(PskName::Provisioned(name)) => Some(name),
        _ => {
            let why = "it begins with psk; and has an @, in 128 octets at most";
            say("key.identity is none", why, "identity = \"psk;alice@bsf.example.net\"");
            None
        }
    });
    let key = digits.and_then(|Spot { value, .. }| {
        let octets = hex(value.text()).filter(|octets| octets.len() >= KEY_MIN);
        let key = octets.and_then(|octets| PskKey::new(&octets));
        if key.is_none() {
            say("key.key is none", "it is hex, 16 to 64 octets", "openssl rand -hex 32");
        }
        key
    });
    let identities = users.and_then(|Spot { value, .. }| {
        let users = value.iter().map(|text| Impu::new(text).filter(|_| is_user(text)));
        let users = users.collect::<Option<Arc<[Impu]>>>();
        let users = users.filter(|users| !users.is_empty() && users.len() <= IDENTITIES_MAX);
        if users.is_none() {
            let why = "identities are SIP URIs with a user, or tel URIs; 1 to 10";
            say("key.identities names nobody", why, "identities = [\"sip:alice@example.net\"]");
        }
        users
    });
    let expires = match expires {
        None => Some(None),
        Some(Spot { value, .. }) => {
            let moment = calendar::parse_xml(&value);
            if moment.is_none() {
                let fix = "expires = \"2027-01-01T00:00:00Z\"";
                say("key.expires is no moment", "date, time and zone", fix);
            }
            moment.map(Some)
        }
    };
    Some((identity?, Provisioned { key: key?, identities: identities?, expires: expires? }))
}

/// Whether `text` is the identity of a user.
pub(super) fn is_user(text: &str) -> bool {
    Uri::parse(text.as_bytes()).is_some_and(|uri| match uri.scheme() {
        UriScheme::Sip | UriScheme::Sips => uri.user().is_some(),
        UriScheme::Tel => true,
        _ => false,
    })
}

/// The octets of hex digits, at most those that fit a key.
pub(crate) fn hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.as_bytes();
    let mut octets = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    for pair in digits.chunks_exact(2) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        octets.push(u8::from_str_radix(pair, 16).ok()?);
    }
    Some(octets)
}

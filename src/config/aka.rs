//! Configuration, cards: `[aka]`, the realm whose subscribers prove themselves over SIP with their card.
//!
//! Takes:   the table as written, and the file of subscribers where there is no `[bsf]` that has one.
//! Gives:   [`Aka`]: the realm, what it offers, its bound.
//! Keeps:   nothing.
//! Refuses: a bootstrapping realm; AKAv1 beside AKAv2; a second list of subscribers, since each card has one
//!          sequence number; cards without an edge to prove themselves to.
//! Sources: RFC 3310; RFC 4169 section 4.1; TS 24.109 clause 5.2; TS 33.102 clause 6.3.

use std::path::PathBuf;

use super::files::{Fingerprint, Folder};
use super::problem::Notes;
use super::proof::subscribers;
use super::raw::{Section, Spot};
use crate::authentication::aka::{AkaAlgorithm, AkaVersion};
use crate::identity::Realm;

/// The realm of cards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aka {
    /// Its name, as phones send it: the domain of the private identities.
    pub realm: Realm,
    /// What is offered, the preferred one first.
    pub algorithms: Vec<AkaAlgorithm>,
    /// Most challenges that wait for their answer.
    pub max_challenges: usize,
    /// The file of subscribers, where it is not the bootstrapping server's.
    pub subscribers: Option<(PathBuf, Fingerprint)>,
}

/// Reads `[aka]`; `home` is the realm of accounts.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder, home: &Realm) -> Option<Aka> {
    let (edge, bsf, stored) = (root.has("listen"), root.has("bsf"), root.has("state"));
    let mut section = root.table("aka");
    let notes = section.notes();
    if !section.is_present() {
        return None;
    }
    if !edge {
        let place = section.place();
        let why = "there is no edge that cards could prove themselves to";
        notes.say(place.line, "[aka] stands without [[listen]]".into(), why, "[[listen]]");
    }
    let realm = match section.maybe::<String>("realm") {
        Some(spot) => realm(&spot, notes),
        None => Some(home.clone()),
    };
    let algorithms = match section.maybe::<Vec<AkaAlgorithm>>("algorithms") {
        Some(spot) => algorithms(spot, notes),
        None => vec![AkaAlgorithm::V1_MD5],
    };
    let max_challenges = section.within("max_challenges", 100_000, 16..=10_000_000);
    let own = if bsf {
        if let Some(Spot { place, .. }) = section.maybe::<PathBuf>("subscribers") {
            let why = "[bsf] has them: each card has one sequence number, and one list moves it";
            notes.problem(&place, "is a second list", why, "");
        }
        None
    } else {
        Some(subscribers(&mut section, folder, stored, "who may prove himself, and with what"))
    };
    section.finish();
    let subscribers = match own {
        Some(read) => read?,
        None => None,
    };
    Some(Aka { realm: realm?, algorithms, max_challenges, subscribers })
}

fn realm(spot: &Spot<String>, notes: &Notes) -> Option<Realm> {
    let Spot { value, place } = spot;
    let realm = Realm::new(value);
    if realm.is_none() {
        notes.problem(place, "is no realm", "it stands in quotes", "\"ims.example.net\"");
    } else if value.to_ascii_lowercase().starts_with("3gpp-bootstrapping") {
        let why = "realms of that form ask UEs for bootstrapped keys (TS 24.109 clause 5.2)";
        notes.problem(place, "is a bootstrapping realm", why, "\"ims.example.net\"");
    }
    realm
}

fn algorithms(spot: Spot<Vec<AkaAlgorithm>>, notes: &Notes) -> Vec<AkaAlgorithm> {
    let Spot { value, place } = spot;
    let twice = value.iter().enumerate().any(|(at, one)| value.iter().take(at).any(|o| o == one));
    let of = |version| value.iter().any(|algorithm| algorithm.version == version);
    let (what, why) = if value.is_empty() {
        ("is empty", "nothing could be answered")
    } else if twice {
        ("names one twice", "each algorithm is one row of a challenge (RFC 8760 section 2.3)")
    } else if of(AkaVersion::V1) && of(AkaVersion::V2) {
        let why = "whoever is in the middle would choose the weaker one (RFC 4169 section 4.1)";
        ("holds AKAv1 beside AKAv2", why)
    } else {
        return value;
    };
    notes.problem(&place, what, why, "[\"AKAv1-MD5\"]");
    vec![AkaAlgorithm::V1_MD5]
}

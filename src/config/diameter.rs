//! Configuration, Diameter: `[diameter]` and `[hss]`, key servers and homes of others, and who may ask ours.
//!
//! Takes:   the tables as written, and the certificates they name.
//! Gives:   [`Diameter`]: who we are, whom we ask on Zn and Zh, who asks us there and on Zpn; [`Hss`], the list for Zh.
//! Keeps:   nothing.
//! Refuses: a link in the clear, unless `danger` says so; a peer that both asks and serves, or neither; more than two
//!          peers of a realm for one thing; a domain of B-TIDs in two realms, or our own; push info of subscribers that a
//!          home has; peers without use. A table without peers is warned of.
//! Sources: RFC 6733 sections 2.1, 2.8 and 13; TS 29.109 clauses 4 and 5; TS 33.220 clauses 4.4.6 and 4.5.2; SEC_CF 1.1
//!          SEC-002, CONF-002.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::files::{Fingerprint, Folder, Sum};
use super::grants::{self, Granted, granted_or};
use super::listen::{is_address, is_host, pair, trust};
use super::policy::Danger;
use super::problem::{Notes, Place};
use super::proof::subscribers;
use super::raw::{Section, Spot};
use crate::keys::UaId;
use crate::transport::peer::ClientCertificate;
use crate::transport::tls::{ClientTls, ServerSpec, ServerTls};

/// Most peers.
pub const PEERS_MAX: usize = 64;
/// Most peers of one realm that are asked for one thing: the second stands in for the first.
pub const PEERS_OF_REALM: usize = 2;

/// Key servers and homes of others, and those that ask us.
#[derive(Clone, Debug)]
pub struct Diameter {
    /// Our name: Origin-Host.
    pub identity: Arc<str>,
    /// Our realm.
    pub realm: Arc<str>,
    /// Where those come that ask us.
    pub listen: Option<SocketAddr>,
    /// What we show, and whom we believe.
    pub tls: Option<DiameterTls>,
    /// Silence after which a link is tried.
    pub watchdog: Duration,
    /// How long an answer is waited for.
    pub answer: Duration,
    /// The others.
    pub peers: Vec<DiameterPeer>,
}

/// What is shown at both ends of a link, and who may vouch for the other one.
#[derive(Clone, Debug)]
pub struct DiameterTls {
    /// For [`ServerTls::of_diameter`], which it has passed, and for [`ClientTls::new`].
    pub spec: Arc<ServerSpec>,
    /// Over all files it was read from.
    pub fingerprint: Fingerprint,
}

/// Another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiameterPeer {
    /// Its name, lower case.
    pub host: Arc<str>,
    /// Its realm, lower case.
    pub realm: Arc<str>,
    /// Whether the link is in the clear.
    pub clear: bool,
    /// What it is to us.
    pub role: Role,
}

/// What a peer is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A bootstrapping server whose keys our NAF takes.
    Keys {
        /// Where it is.
        address: SocketAddr,
        /// Domains of its B-TIDs, lower case.
        domains: Vec<Arc<str>>,
    },
    /// The home that our bootstrapping server asks for vectors.
    Home {
        /// Where it is.
        address: SocketAddr,
    },
    /// A NAF that asks our bootstrapping server.
    Naf {
        /// Where it comes from, if that proves it.
        from: Option<IpAddr>,
        /// Whether it asks for keys.
        keys: bool,
        /// Whether it asks for push info.
        push: bool,
        /// What it may have.
        granted: Granted,
    },
    /// A bootstrapping server that asks for vectors of our subscribers.
    Bsf {
        /// Where it comes from, if that proves it.
        from: Option<IpAddr>,
    },
}

/// Subscribers whose vectors are given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hss {
    /// The list.
    pub subscribers: PathBuf,
    /// Of that file.
    pub fingerprint: Fingerprint,
}

impl Diameter {
    /// Whether our bootstrapping server asks a home.
    pub fn has_home(&self) -> bool {
        self.peers.iter().any(|peer| matches!(peer.role, Role::Home { .. }))
    }

    /// Whether our NAF takes keys of others.
    pub fn has_keys(&self) -> bool {
        self.domains().next().is_some()
    }

    /// Domains of B-TIDs whose keys are asked for, each with its realm.
    pub fn domains(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.peers.iter().flat_map(|peer| match &peer.role {
            Role::Keys { domains, .. } => {
                domains.iter().map(|domain| (domain, &peer.realm)).collect()
            }
            _ => Vec::new(),
        })
    }
}

/// Reads `[diameter]`.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder, danger: &Danger) -> Option<Diameter> {
    let mut section = root.table("diameter");
    let notes = section.notes();
    if !section.is_present() {
        return None;
    }
    if cfg!(not(feature = "diameter")) {
        let why = "it was built without the feature diameter";
        notes.problem(&section.place(), "is not in this program", why, "");
    }
    let example = "\"edge.example.net\"";
    let identity = section.need::<String>("identity", "peers know us by it", example);
    let identity = identity.and_then(|spot| name(spot, "certificates carry it", notes));
    let why = "requests are routed by it (RFC 6733 section 6.1)";
    let realm = section.need::<String>("realm", why, "\"example.net\"");
    let realm = realm.and_then(|spot| name(spot, why, notes));
    let listen = section.maybe::<SocketAddr>("listen").map(|spot| spot.value);
    let mut table = section.table("tls");
    let tls = tls(&mut table, identity.as_ref(), folder);
    let has_tls = table.is_present();
    table.finish();
    let second = Duration::from_secs(1);
    let watchdog = section.within("watchdog", second * 30, second * 6..=second * 3600);
    let millis = Duration::from_millis;
    // Two tries end before a request is refused that waits for them.
    let answer = section.within("answer", millis(900), millis(100)..=millis(10_000));
    let (place, mut peers) = (section.place(), Vec::new());
    let rows = section.tables("peer");
    if rows.is_empty() {
        let why = "nobody is asked, and nobody may ask";
        notes.warn(&place, "has no [[diameter.peer]]", why, "[[diameter.peer]]");
    }
    for row in rows {
        let row_place = row.place();
        if peers.len() == PEERS_MAX {
            let what = format!("more than {PEERS_MAX} peers");
            notes.say(row_place.line, what, "each costs a connection", "");
            break;
        }
        let home = realm.as_ref().map(|realm| realm.value.as_str());
        let Some(peer) = peer(row, home, danger) else { continue };
        beside(&peers, &peer, &row_place, notes);
        let comes = matches!(peer.role, Role::Naf { .. } | Role::Bsf { .. });
        if comes && listen.is_none() {
            let what = "diameter.listen is missing".to_owned();
            let why = format!("{} has nowhere to come to", peer.host);
            notes.say(place.line, what, why, "listen = \"0.0.0.0:5868\"");
        }
        if !peer.clear && !has_tls && peers.iter().all(|before: &DiameterPeer| before.clear) {
            let what = "diameter.tls is missing".to_owned();
            let why = format!("{} and we have to prove who we are (SEC-002)", peer.host);
            let fix =
                "tls = { certificate = \"edge.pem\", key = \"edge.key\", ca = \"peers.pem\" }";
            notes.say(place.line, what, why, fix);
        }
        peers.push(peer);
    }
    section.finish();
    let (identity, realm) = (identity?.value.into(), realm?.value.into());
    Some(Diameter { identity, realm, listen, tls, watchdog, answer, peers })
}

/// A name, in lower case.
fn name(spot: Spot<String>, why: &'static str, notes: &Notes) -> Option<Spot<String>> {
    let Spot { value, place } = spot;
    if !is_host(&value) || is_address(&value) {
        notes.problem(&place, "is no domain name", why, "\"edge.example.net\"");
        return None;
    }
    Some(Spot { value: value.to_ascii_lowercase(), place })
}

fn tls(
    table: &mut Section<'_>,
    identity: Option<&Spot<String>>,
    folder: &Folder,
) -> Option<DiameterTls> {
    if !table.is_present() {
        return None;
    }
    let (notes, place) = (table.notes(), table.place());
    let mut sum = Sum::new();
    let certificate = pair(table, identity, folder, &mut sum);
    let trust = trust(table, "ca", folder, &mut sum);
    table.know(&["ocsp_file"]);
    if !table.has("ca") {
        let what = format!("{}.ca is missing", place.path);
        let why = "both ends show a certificate, and nobody may vouch for theirs";
        notes.say(place.line, what, why, "ca = \"peers.pem\"");
    }
    let (certificate, trust) = (certificate?, trust?);
    let asks = ClientCertificate::Required;
    let spec = ServerSpec { certificates: vec![certificate], asks, trust };
    let client = ClientTls::new(spec.trust.clone(), spec.certificates.first()).map(|_| ());
    if let Err(why) = ServerTls::of_diameter(&spec).map(|_| ()).and(client) {
        if table.has("ca") {
            notes.problem(&place, "cannot be used", why.to_string(), "");
        }
        return None;
    }
    Some(DiameterTls { spec: Arc::new(spec), fingerprint: sum.fingerprint() })
}

fn peer(mut section: Section<'_>, home: Option<&str>, danger: &Danger) -> Option<DiameterPeer> {
    let (notes, place) = (section.notes(), section.place());
    let why = "its certificate carries it, and so does every message";
    let host = section.need::<String>("host", why, "\"bsf.example.net\"");
    let host = host.and_then(|spot| name(spot, why, notes));
    let realm = section.maybe::<String>("realm");
    let realm = match realm {
        Some(spot) => name(spot, "requests are routed by it", notes).map(|spot| spot.value),
        None => home.map(str::to_owned),
    };
    let tls_place = section.place_of("tls");
    let clear = !section.or("tls", true);
    if clear && !danger.diameter_in_clear {
        let why = "keys would cross the network in the clear (SEC-002); danger.diameter_in_clear = true lets them";
        notes.problem(&tls_place, "is not protected", why, "true");
    }
    let things = [("zn", true), ("zh", false)];
    let serves = section.choice("serves", &things, "zn");
    let askable = [("zn", Asked::Keys), ("zh", Asked::Vectors), ("zpn", Asked::Push)];
    let asks = section.choices("asks", &askable, "zn");
    let written = (section.has("serves"), section.has("asks"));
    let role = match (serves, asks) {
        _ if written.0 == written.1 => {
            let what =
                if written.0 { "serves and asks at once" } else { "neither serves nor asks" };
            let what = format!("diameter.peer {what}");
            let why = "serves: we ask it, a BSF (zn) or an HSS (zh); asks: it asks us, a NAF (zn, zpn) or a BSF (zh)";
            notes.say(place.line, what, why, "serves = \"zn\"");
            unread(&mut section)
        }
        (Some(keys), _) => serving(&mut section, keys, host.as_ref()),
        (None, Some(things)) => asking(&mut section, &things, clear),
        (None, None) => unread(&mut section),
    };
    section.finish();
    Some(DiameterPeer { host: host?.value.into(), realm: realm?.into(), clear, role: role? })
}

/// Somebody who is nothing to us: what else is said of him is not judged.
fn unread(section: &mut Section<'_>) -> Option<Role> {
    section.know(&["address", "bsf", "from"]);
    section.know(&grants::KEYS);
    None
}

/// Somebody whom we ask.
fn serving(section: &mut Section<'_>, keys: bool, host: Option<&Spot<String>>) -> Option<Role> {
    let notes = section.notes();
    let address =
        section.need::<SocketAddr>("address", "it is dialled there", "\"203.0.113.7:5868\"");
    if !keys {
        return Some(Role::Home { address: address?.value });
    }
    let domains = match section.maybe::<Vec<String>>("bsf") {
        Some(Spot { value, place }) => {
            if let Some(bad) = value.iter().find(|name| !is_host(name)) {
                let what = format!("holds {bad:?}, which is no domain");
                notes.problem(&place, &what, "it stands in B-TIDs", "[\"bsf.example.net\"]");
            }
            value.iter().map(|name| name.to_ascii_lowercase().into()).collect()
        }
        None => host.iter().map(|host| host.value.as_str().into()).collect(),
    };
    Some(Role::Keys { address: address?.value, domains })
}

/// What a peer asks us for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Keys,
    Push,
    Vectors,
}

/// Somebody who asks us.
fn asking(section: &mut Section<'_>, things: &[Asked], clear: bool) -> Option<Role> {
    let notes = section.notes();
    let asks = |thing| things.contains(&thing);
    let (keys, push, vectors) = (asks(Asked::Keys), asks(Asked::Push), asks(Asked::Vectors));
    let from_place = section.place_of("from");
    let from = section.maybe::<IpAddr>("from").map(|spot| spot.value);
    if clear != from.is_some() {
        let (what, why, fix) = if clear {
            (
                "is missing",
                "in the clear, the address is all that tells it apart",
                "\"203.0.113.7\"",
            )
        } else {
            ("stands beside TLS", "its certificate says who it is, wherever it comes from", "")
        };
        notes.problem(&from_place, what, why, fix);
    }
    if vectors {
        if keys || push {
            let why = "zn and zpn are asked by a NAF, zh by a BSF; each is a peer of its own";
            let what = "asks as a NAF and as a BSF";
            notes.problem(&section.place_of("asks"), what, why, "\"zh\"");
            section.know(&grants::KEYS);
        }
        return Some(Role::Bsf { from });
    }
    let protocols: &[UaId] = match (keys, push) {
        (true, true) => &[UaId::SIP_DIGEST, UaId::LOCSIP, UaId::PUSH_LAYER],
        (false, true) => &[UaId::PUSH_LAYER],
        _ => &[UaId::SIP_DIGEST, UaId::LOCSIP],
    };
    Some(Role::Naf { from, keys, push, granted: granted_or(section, protocols)? })
}

/// Holds one peer against those before it.
fn beside(others: &[DiameterPeer], peer: &DiameterPeer, place: &Place, notes: &Notes) {
    if others.iter().any(|other| other.host == peer.host) {
        let what = format!("diameter.peer.host = {:?} is there twice", peer.host);
        notes.say(place.line, what, "one name, one peer", "");
    }
    let same_thing = |other: &&DiameterPeer| {
        let of = (&other.role, &peer.role);
        let same = matches!(of, (Role::Keys { .. }, Role::Keys { .. }))
            || matches!(of, (Role::Home { .. }, Role::Home { .. }));
        same && other.realm == peer.realm
    };
    if others.iter().filter(same_thing).count() == PEERS_OF_REALM {
        let what = format!("a third peer serves realm {:?}", peer.realm);
        notes.say(place.line, what, "the second stands in for the first; there is no more", "");
    }
    let homes = |other: &DiameterPeer| matches!(other.role, Role::Home { .. });
    if homes(peer) && others.iter().any(|other| homes(other) && other.realm != peer.realm) {
        let why = "subscribers are asked for in one realm";
        notes.say(place.line, "a second realm serves zh".into(), why, "");
    }
    let Role::Keys { domains, .. } = &peer.role else { return };
    for other in others.iter().filter(|other| other.realm != peer.realm) {
        let Role::Keys { domains: theirs, .. } = &other.role else { continue };
        if let Some(both) = domains.iter().find(|domain| theirs.contains(domain)) {
            let what = format!("keys of {both:?} are served by two realms");
            notes.say(place.line, what, "B-TIDs are routed by it", "");
        }
    }
}

/// What stands beside `[diameter]`.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    /// The name of the bootstrapping server here, if there is one.
    pub(super) bsf: Option<&'a str>,
    /// Whether it, or anybody here, has a list of subscribers.
    pub(super) list: bool,
}

/// Holds the peers to what there is for them here.
pub(super) fn fit(root: &mut Section<'_>, diameter: &Diameter, beside: Beside<'_>) {
    let (notes, place) = (root.notes(), root.place_of("diameter"));
    let (has_bsf, has_naf, has_aka) = (root.has("bsf"), root.has("naf"), root.has("aka"));
    let has_hss = root.has("hss");
    let rows = root.table("diameter").tables("peer");
    let lines: Vec<usize> = rows.iter().map(|row| row.place().line).collect();
    let is_whole = lines.len() == diameter.peers.len();
    for (at, peer) in diameter.peers.iter().enumerate() {
        // Where one could not be read, the places of the others are not known.
        let line = lines.get(at).filter(|_| is_whole).copied().unwrap_or(place.line);
        let say = |what: String, why: &'static str, fix: &str| notes.say(line, what, why, fix);
        let host = &peer.host;
        match &peer.role {
            Role::Keys { domains, .. } => {
                if !has_naf {
                    say(format!("{host} serves keys to nobody"), "keys are for a NAF", "[naf]");
                }
                if let Some(own) = domains.iter().find(|domain| beside.bsf == Some(&***domain)) {
                    let what = format!("{host} serves keys of {own:?}, which is ours");
                    say(what, "no key could be told whose it is", "");
                }
            }
            Role::Home { .. } if !has_bsf => {
                say(format!("{host} serves vectors to nobody"), "a BSF asks for them", "[bsf]");
            }
            Role::Home { .. } if has_aka => {
                let why = "its vectors are for Ub: [aka] has a list of its own in another process";
                say(format!("[aka] stands beside {host}"), why, "");
            }
            Role::Home { .. } if has_hss => {
                let why = "a home that is asked has the subscribers, and no list here has any";
                say(format!("[hss] stands beside {host}"), why, "");
            }
            Role::Naf { keys, .. } if !has_bsf => {
                let thing = if *keys { "keys" } else { "push info" };
                let what = format!("{host} asks for {thing}, and nobody has any");
                say(what, "a BSF has them", "[bsf]");
            }
            Role::Naf { push: true, .. } if diameter.has_home() => {
                let what = format!("{host} asks for push info, and a home has the subscribers");
                let why = "it is made with vectors of our own list: those of a home are for Ub";
                say(what, why, "");
            }
            Role::Bsf { .. } if !beside.list => {
                let what = format!("{host} asks for vectors, and there are no subscribers");
                say(what, "a list of them has the keys", "[hss]");
            }
            Role::Home { .. } | Role::Naf { .. } | Role::Bsf { .. } => {}
        }
    }
}

/// Reads `[hss]`; `list` says whether somebody else has a list.
pub(super) fn hss(root: &mut Section<'_>, folder: &Folder, list: bool) -> Option<Hss> {
    let has_diameter = root.has("diameter");
    let mut section = root.table("hss");
    let notes = section.notes();
    if !section.is_present() {
        return None;
    }
    let place = section.place();
    if list {
        let why =
            "[bsf] or [aka] has one: each card has one sequence number, and one list moves it";
        notes.say(place.line, "[hss] is a second list of subscribers".into(), why, "");
    }
    if !has_diameter {
        let why = "nobody could ask for a vector";
        notes.say(place.line, "[hss] stands without [diameter]".into(), why, "[diameter]");
    }
    let why = "whose vectors are given out, and made with what";
    let read = subscribers(&mut section, folder, false, why);
    section.finish();
    let (subscribers, fingerprint) = read??;
    Some(Hss { subscribers, fingerprint })
}

//! Configuration: one file, read whole, checked whole, then never wrong.
//!
//! Takes:   `sipward.toml` and the files it names.
//! Gives:   [`Config`], whose values cannot be wrong, with [`Warning`]s; or every [`Problem`] at once.
//! Keeps:   certificates, trust and accounts as they were read, so that what was checked is what is served.
//! Refuses: unknown keys, values without units, names that do not fit each other, secrets others can read.
//! Sources: each part its own; V-147, V-151.

pub mod accounts;
mod admin;
pub mod aka;
pub mod association;
pub mod b2bua;
pub mod cluster;
pub mod diameter;
pub mod dtls;
pub mod enabler;
pub mod field;
pub mod files;
pub mod grants;
#[cfg(all(feature = "http", feature = "openssl"))]
pub mod https;
mod limits;
pub mod listen;
pub mod nbsp;
pub mod ocsp;
pub mod peer;
pub mod policy;
pub mod problem;
pub mod proof;
pub mod provision;
pub mod psk;
pub mod raw;
pub mod reload;
pub mod renewal;
pub mod state;
mod tokens;
pub mod ub;
pub mod users;
pub mod ws;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use aka::Aka;
pub use association::Association;
pub use b2bua::Bridging;
pub use cluster::Cluster;
pub use diameter::Diameter;
pub use dtls::Dtls;
pub use enabler::Enablers;
pub use listen::{Listener, ListenerTls};
pub use nbsp::Nbsp;
pub use peer::{Dialling, Member, Peer, Routes};
pub use policy::{Admission, Danger, Forward, Telemetry};
pub use problem::{Problem, Warning};
pub use proof::{Authentication, Bsf, Digest, Naf, Register};
pub use provision::Provision;
pub use psk::Psk;
pub use state::State;

use crate::authentication::digest::Hash;
use crate::authentication::sec_agree::Mode;
use crate::enabler::numbers::Numbers;
use crate::identity::Realm;
use crate::transport::{Side, Transport};
use files::Folder;
use problem::{Notes, Place};
use raw::{Document, Lines, Section, Spot};
use renewal::Stamped;

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The edge as a whole.
    pub edge: Edge,
    /// Its addresses; empty if this process is a bootstrapping server alone. A listener's id is its place.
    pub listeners: Vec<Listener>,
    /// Servers behind it. A group's id is its place.
    pub peers: Vec<Peer>,
    /// How peers are dialled over TLS.
    pub dialling: Option<Dialling>,
    /// Which domain is whose.
    pub routes: Routes,
    /// Which proofs are taken.
    pub authentication: Authentication,
    /// The arithmetic of Digest.
    pub digest: Digest,
    /// The edge as a NAF.
    pub naf: Option<Naf>,
    /// The bootstrapping server.
    pub bsf: Option<Bsf>,
    /// Key servers and homes of others, and who may ask ours.
    pub diameter: Option<Diameter>,
    /// Key servers that are asked over HTTP/2, and NAFs that ask ours so.
    pub nbsp: Option<Nbsp>,
    /// The door for devices and for other networks.
    #[cfg(all(feature = "http", feature = "openssl"))]
    pub https: Option<https::Https>,
    /// What clients are told to trust.
    pub provision: Option<Provision>,
    /// Subscribers whose vectors others may ask for, where nobody else here has a list.
    pub hss: Option<diameter::Hss>,
    /// The edge as the server of a realm of cards.
    pub aka: Option<Aka>,
    /// Keys that handshakes are made with, where listeners take any.
    pub psk: Psk,
    /// How many certificates of devices are known beforehand; listeners know whose they are.
    pub ue_certificates: usize,
    /// Registration.
    pub register: Register,
    /// What nodes share.
    pub cluster: Cluster,
    /// What outlives the process, and where; nothing if `None`.
    pub state: Option<State>,
    /// Dialogs.
    pub association: Association,
    /// Classes.
    pub enablers: Enablers,
    /// What callers may dial.
    pub numbers: Numbers,
    /// Sources.
    pub admission: Admission,
    /// The way onwards.
    pub forward: Forward,
    /// What goes onwards back to back.
    pub bridging: Bridging,
    /// The socket at which it is asked; nowhere if `None`.
    pub admin: Option<PathBuf>,
    /// What is told.
    pub telemetry: Telemetry,
    /// What weakens all that.
    pub danger: Danger,
    /// Certificates, their keys, revocation lists and the secret of tokens, as they were when they were read.
    pub watched_files: Vec<Stamped>,
}

/// The edge as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// SIP domains served here, lower case.
    pub domains: Vec<Arc<str>>,
    /// The realm of plain accounts.
    pub realm: Realm,
    /// How long transactions under way are waited for when we stop.
    pub drain: Duration,
}

/// Most workers.
const WORKERS_MAX: usize = 128;

impl Config {
    /// Reads and checks the file at `path` and all that it names.
    ///
    /// # Errors
    ///
    /// Every problem, in the order of the file.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), Vec<Problem>> {
        let notes = Notes::new(&path.display().to_string());
        match std::fs::metadata(path) {
            Err(error) => {
                let fix = "-c FILE names another; sipward init writes one";
                notes.say(0, format!("cannot be read: {error}"), "", fix);
            }
            Ok(facts) if !facts.is_file() => notes.say(0, "is not a file".into(), "", ""),
            Ok(facts) if facts.len() > raw::TEXT_MAX as u64 => {
                notes.say(0, "is too long".into(), "1 MiB is the most", "");
            }
            Ok(_) => match std::fs::read_to_string(path) {
                Ok(text) => return Self::parse(path, &text),
                Err(error) => notes.say(0, format!("cannot be read: {error}"), "", ""),
            },
        }
        Err(notes.into_parts().0)
    }

    /// Reads and checks `text` as if it stood in the file at `path`.
    ///
    /// # Errors
    ///
    /// Every problem, in the order of the text.
    pub fn parse(path: &Path, text: &str) -> Result<(Self, Vec<Warning>), Vec<Problem>> {
        let notes = Notes::new(&path.display().to_string());
        let config = raw::parse(text, &notes).and_then(|table| {
            let document = Document { text, lines: Lines::new(text), notes: &notes, secret: false };
            let root = Section::root(&document, table.get_ref());
            read(root, path)
        });
        let (problems, warnings) = notes.into_parts();
        match config {
            Some(config) if problems.is_empty() => Ok((config, warnings)),
            _ => Err(problems),
        }
    }

    /// The list of subscribers: the bootstrapping server's, else that of the realm of cards, else that of the HSS. None if
    /// they stand in the store or are a home's, or if there are none.
    pub fn subscribers(&self) -> Option<&Path> {
        let own = self.aka.as_ref().and_then(|aka| aka.subscribers.as_ref());
        let of_bsf = self.bsf.as_ref().and_then(|bsf| bsf.subscribers.as_ref());
        let given_out = self.hss.as_ref().map(|hss| &hss.subscribers);
        of_bsf.or(own.map(|(path, _)| path)).or(given_out).map(PathBuf::as_path)
    }

    /// Whether the subscribers stand in the store.
    pub fn subscribers_are_stored(&self) -> bool {
        let wanted = self.bsf.is_some() || self.aka.is_some();
        let home = self.diameter.as_ref().is_some_and(Diameter::has_home);
        wanted && !home && self.state.is_some() && self.subscribers().is_none()
    }

    /// Listeners that take shared keys.
    pub fn listeners_with_psk(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| listener.psk.is_some())
    }

    /// Listeners of `side`.
    pub fn listeners_of(&self, side: Side) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(move |listener| listener.side == side)
    }
}

fn read(mut root: Section<'_>, path: &Path) -> Option<Config> {
    let notes = root.notes();
    let folder = Folder::of(path);
    let danger = policy::danger(&mut root);
    let naf = proof::naf(&mut root);
    let diameter = diameter::read(&mut root, &folder, &danger);
    let home = diameter.as_ref().is_some_and(Diameter::has_home);
    let bsf = proof::bsf(&mut root, &folder, home);
    let mut listeners = listen::read(&mut root, &folder);
    let ue_certificates = users::read(&mut root, &mut listeners, &folder);
    let wants_edge = root.has("listen");
    if !wants_edge && !root.has("bsf") && !root.has("hss") {
        let why = "there is neither an edge nor a bootstrapping server to run";
        notes.say(0, "holds no [[listen]] and no [bsf]".into(), why, "sipward init");
    }
    let (edge, foreign) = edge(&mut root, wants_edge);
    let (peers, dialling) = peer::read(&mut root, &listeners, &folder);
    let domains = edge.as_ref().map(|edge| edge.domains.as_slice()).unwrap_or_default();
    let routes = peer::routes(&mut root, &peers, domains, foreign);
    let placeless = Place {
        line: first_line(&mut root, "listen"),
        path: "listen".into(),
        written: String::new(),
    };
    if wants_edge {
        sides(&listeners, &root, notes, &placeless);
        peer::outlets(&peers, &listeners, notes, &placeless);
    }
    let realm =
        edge.as_ref().map_or_else(|| Realm::new("invalid"), |edge| Some(edge.realm.clone()))?;
    let domain = domains.first().map_or("invalid", |domain| &**domain);
    let enablers = enabler::enablers(&mut root, &peers, &danger);
    let own = enablers.own_names();
    let home = accounts::Home { realm: &realm, domain, own: &own };
    let required = naf.as_ref().is_some_and(|naf| naf.required);
    let needs = proof::Needs {
        naf: root.has("naf"),
        required,
        aka: root.has("aka"),
        state: root.has("state"),
    };
    let aka = aka::read(&mut root, &folder, &realm);
    let has_naf = root.has("naf");
    let stored = root.has("state") && !diameter.as_ref().is_some_and(Diameter::has_home);
    let list = |bsf: &Bsf| stored || bsf.subscribers.is_some();
    let list = aka.is_some() || bsf.as_ref().is_some_and(list);
    let hss = diameter::hss(&mut root, &folder, list);
    if let Some(diameter) = &diameter {
        let list = list || root.has("hss");
        let beside = diameter::Beside { bsf: bsf.as_ref().map(|bsf| &*bsf.name), list };
        diameter::fit(&mut root, diameter, beside);
    }
    let others = diameter.iter().flat_map(Diameter::domains).map(|(domain, _)| &**domain);
    let pushed = diameter.iter().flat_map(Diameter::push_realms).map(|(realm, _)| &**realm);
    let (others, pushed) = (others.collect(), pushed.collect());
    let beside = nbsp::Beside { bsf: bsf.as_ref().map(|bsf| &*bsf.name), others, pushed };
    let nbsp = nbsp::read(&mut root, &folder, &beside);
    let provision = provision::read(&mut root, &folder);
    #[cfg(all(feature = "http", feature = "openssl"))]
    let https = https::read(&mut root, &folder, &listeners);
    let others = has_naf || root.has("state") || root.has("https");
    let psk = psk::read(&mut root, &folder, &listeners, others);
    let shared = listeners.iter().any(|listener| listener.psk.is_some());
    let authentication = proof::authentication(&mut root, &folder, home, needs);
    let digest = proof::digest(&mut root, wants_edge, authentication.accounts.has_passwords());
    // Of a table that could not be read, nobody knows what it would have been.
    let asks = diameter.as_ref().map_or(root.has("diameter"), Diameter::has_keys)
        || nbsp.as_ref().map_or(root.has("nbsp"), |nbsp| !nbsp.servers.is_empty());
    keyless(&root, asks, notes);
    let otherwise = shared || ue_certificates > 0;
    fit_proofs(&root, &authentication, wants_edge && !otherwise, notes);
    agreements(&mut root, &listeners, authentication.gba || authentication.digest, &digest);
    let telemetry = policy::telemetry(&mut root, &danger);
    let admin = admin::read(&mut root, &folder);
    let register = proof::register(&mut root);
    let cluster = cluster::read(&mut root, &folder);
    let state = state::read(&mut root, &folder);
    let association = association::read(&mut root);
    let numbers = limits::numbers(&mut root, &own);
    let admission = policy::admission(&mut root);
    let forward = policy::forward(&mut root, digest.uri_strict, &listeners);
    let bridging = b2bua::read(&mut root, &listeners, &own);
    pages(&mut root, &telemetry, bsf.as_ref(), &listeners);
    unused_passwords(&mut root, naf.as_ref(), bsf.as_ref());
    root.finish();
    Some(Config {
        file: path.to_owned(),
        edge: edge?,
        listeners,
        peers,
        dialling,
        routes,
        authentication,
        digest,
        naf,
        bsf,
        diameter,
        nbsp,
        #[cfg(all(feature = "http", feature = "openssl"))]
        https,
        provision,
        hss,
        aka,
        psk,
        ue_certificates,
        register,
        cluster,
        state,
        association,
        enablers,
        numbers,
        admission,
        forward,
        bridging,
        admin,
        telemetry,
        danger,
        watched_files: folder.into_watched(),
    })
}

/// Reads `[edge]`: itself, and whether domains of others go to the core.
fn edge(root: &mut Section<'_>, wanted: bool) -> (Option<Edge>, bool) {
    let mut section = root.table("edge");
    let notes = section.notes();
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX);
    let workers = section.within("workers", cores, 1..=WORKERS_MAX);
    let why = "whose callers are these? requests for other domains are foreign";
    let domains = if wanted || section.has("domains") {
        section.need::<Vec<String>>("domains", why, "[\"example.net\"]")
    } else {
        Some(Spot { value: vec!["invalid".into()], place: section.place() })
    };
    let domains = domains.and_then(|Spot { value, place }| {
        let bad = value.iter().find(|domain| !listen::is_host(domain));
        if let Some(bad) = bad {
            notes.problem(
                &place,
                &format!("holds {bad:?}, which is no domain"),
                "",
                "[\"example.net\"]",
            );
        }
        if value.is_empty() {
            notes.problem(&place, "is empty", why, "[\"example.net\"]");
        }
        let fits = bad.is_none() && !value.is_empty();
        fits.then(|| {
            value.iter().map(|domain| domain.to_ascii_lowercase().into()).collect::<Vec<Arc<str>>>()
        })
    });
    let realm_spot = section.maybe::<String>("realm");
    let realm = match &realm_spot {
        Some(spot) => {
            let realm = Realm::new(&spot.value);
            if realm.is_none() {
                let why =
                    "it goes out in quotes, so it has no quote, backslash or control character";
                notes.problem(&spot.place, "is no realm", why, "\"example.net\"");
            }
            realm
        }
        None => {
            domains.as_ref().and_then(|domains| domains.first()).and_then(|name| Realm::new(name))
        }
    };
    if let Some(spot) = realm_spot
        && spot.value.to_ascii_lowercase().starts_with("3gpp-bootstrapping")
    {
        let why = "realms of that form ask UEs for bootstrapped keys (TS 24.109 clause 5.2)";
        notes.problem(&spot.place, "is a bootstrapping realm", why, "\"example.net\"");
    }
    let foreign = section.word("foreign", &[("core", true), ("refuse", false)]);
    let second = Duration::from_secs(1);
    let drain = section.within("drain", second * 32, Duration::ZERO..=second * 3600);
    section.finish();
    let edge = domains.zip(realm).zip(NonZeroUsize::new(workers));
    let edge = edge.map(|((domains, realm), workers)| Edge { workers, domains, realm, drain });
    (edge, foreign)
}

/// An edge has two faces and somebody behind it.
fn sides(listeners: &[Listener], root: &Section<'_>, notes: &Notes, place: &Place) {
    // A table that could not be read was told of already; its side may be the one that seems to be missing.
    if notes.has_problems() {
        return;
    }
    for (side, name, why) in [
        (Side::Ue, "ue", "no device could reach the edge"),
        (Side::Core, "core", "no server could be reached from the edge"),
    ] {
        if !listeners.iter().any(|listener| listener.side == side) {
            let what = format!("no listener has side = {name:?}");
            notes.say(place.line, what, why, format!("[[listen]] with side = {name:?}"));
        }
    }
    if !root.has("peer") {
        let why = "requests that are permitted have nowhere to go";
        notes.say(place.line, "there is no [[peer]]".into(), why, "[[peer]]");
    }
}

/// Somebody must be able to prove who he is.
fn fit_proofs(root: &Section<'_>, proofs: &Authentication, wanted: bool, notes: &Notes) {
    let place = root.place_of("authentication");
    let certificates = notes.has_problems();
    if wanted && !certificates && !(proofs.gba || proofs.digest || proofs.aka) {
        let why = "no caller could ever prove who he is";
        let fix = "[naf] with fqdn, [aka], authentication.accounts = \"accounts.toml\", or [[ue_certificate]]";
        notes.say(place.line, "no scheme of authentication has its means".into(), why, fix);
    }
}

/// Somebody must have the keys of the NAF; `asks` says whether servers of others are asked.
fn keyless(root: &Section<'_>, asks: bool, notes: &Notes) {
    if root.has("naf") && !root.has("bsf") && !asks {
        let place = root.place_of("naf");
        let why = "nobody would give it keys: its own bootstrapping server, or one that is asked over Zn or Nbsp_GBA";
        let fix = "[bsf], [diameter] with a peer that serves = \"zn\", or [[nbsp.server]]";
        notes.say(place.line, "[naf] stands without [bsf]".into(), why, fix);
    }
}

/// What is agreed on must be there: TLS under the listener's name, or Digest with MD5 (`SA-05`).
fn agreements(root: &mut Section<'_>, listeners: &[Listener], realms: bool, digest: &Digest) {
    let notes = root.notes();
    let places: Vec<Place> =
        root.tables("listen").iter().map(|section| section.place_of("sec_agree")).collect();
    if listeners.len() != places.len() {
        return;
    }
    for (listener, place) in listeners.iter().zip(places) {
        let tls = listeners.iter().any(|other| {
            other.side == Side::Ue
                && other.identity == listener.identity
                && other.transports.contains(&Transport::Tls)
        });
        let algorithms = listener.algorithms.as_ref().unwrap_or(&digest.algorithms);
        let md5 = realms && algorithms.contains(&Hash::Md5);
        if listener.sec_agree != Mode::Off && listener.side == Side::Ue && !tls && !md5 {
            let why = "no listener of its name speaks TLS, and MD5, which alone fits RFC 3329, is not taken";
            notes.problem(&place, "has nothing to agree on", why, "\"off\"");
        }
    }
}

/// Says so if keys of passwords are made here and not taken here.
fn unused_passwords(root: &mut Section<'_>, naf: Option<&Naf>, bsf: Option<&Bsf>) {
    let made = bsf.is_some_and(|bsf| bsf.digest.is_some());
    if made && naf.is_some_and(|naf| !naf.gba_digest) {
        let (notes, place) = (root.notes(), root.table("naf").place());
        let why = "[bsf] makes them, and this edge refuses whoever shows one";
        notes.warn(&place, "takes no keys of passwords", why, "gba_digest = true");
    }
}

/// Ports of pages are nobody else's.
fn pages(root: &mut Section<'_>, telemetry: &Telemetry, bsf: Option<&Bsf>, listeners: &[Listener]) {
    let notes = root.notes();
    let streams = listeners
        .iter()
        .filter(|listener| listener.transports.iter().any(|t| t.is_reliable()))
        .map(|listener| (listener.address, format!("listener {:?}", listener.name)));
    let mut taken: Vec<(SocketAddr, String)> = streams.collect();
    let pages = [
        ("bsf", "listen", bsf.map(|bsf| bsf.listen)),
        ("bsf.tls", "listen", bsf.and_then(|bsf| bsf.listen_tls)),
        ("telemetry", "metrics", telemetry.metrics),
    ];
    for (table, key, address) in pages {
        let Some(address) = address else { continue };
        if let Some((_, owner)) = taken.iter().find(|(other, _)| listen::overlap(address, *other)) {
            let place = match table {
                "bsf.tls" => root.table("bsf").table("tls").place_of(key),
                plain => root.table(plain).place_of(key),
            };
            let what = format!("{table}.{key} = \"{address}\" is taken by {owner}");
            notes.say(place.line, what, "one port cannot have two owners", "");
        }
        taken.push((address, format!("{table}.{key}")));
    }
}

fn first_line(root: &mut Section<'_>, key: &'static str) -> usize {
    root.tables(key)
        .iter()
        .map(|section| section.place().line)
        .collect::<BTreeSet<_>>()
        .first()
        .copied()
        .unwrap_or(0)
}

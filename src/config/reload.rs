//! Configuration, reload: another file in the place of the present one, while the edge serves.
//!
//! `KEYS` says of each key whether it waits for a restart: sockets, threads, sources of keys and the sizes of
//! tables do. Whatever may change is taken over where it is told of, so that no report can differ from the deed.
//!
//! Takes:   the word that the file may have changed.
//! Gives:   [`Report`]: what is now in force, and what waits for a restart.
//! Keeps:   the configuration in force, one snapshot that readers take whole; never a mixture (V-147).
//! Refuses: a file with any problem: the old one stays, and all problems are told; a choice of algorithms older than the one
//!          in force, or weaker without a version of its own: a file that somebody put back would open what was closed.
//! Sources: V-147; SEC_CF 1.1 SEC-003, ADM-002.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::{Config, Enablers, Listener, Peer, Problem, Warning};
use crate::authentication::digest::Hash;

/// The configuration in force, and where it came from.
pub struct Reloader {
    current: Arc<ArcSwap<Config>>,
    /// One reload at a time: two at once could end in the older one.
    turn: Mutex<()>,
    apply: Box<Apply>,
}

/// Puts a checked configuration in the place of the present one, in every key that [`diff`] calls live.
///
/// # Errors
///
/// What could not be put in force; nothing was changed then.
pub type Apply = dyn Fn(&Config) -> Result<(), String> + Send + Sync;

/// What a reload did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Keys that changed and are in force; files that are named in the configuration, by what they hold.
    pub changed: Vec<String>,
    /// Keys that changed in the file but stay as they were until a restart.
    pub restart: Vec<String>,
    /// What should be known of the new configuration.
    pub warnings: Vec<Warning>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("file", &self.current().file).finish_non_exhaustive()
    }
}

impl Reloader {
    /// With `config` in force; `apply` carries later ones to whoever serves.
    pub fn new(
        config: Config,
        apply: impl Fn(&Config) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let current = Arc::new(ArcSwap::from_pointee(config));
        Self { current, turn: Mutex::default(), apply: Box::new(apply) }
    }

    /// The configuration in force; whoever holds it sees no later one.
    pub fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// For whoever reads the configuration in force again and again.
    pub fn shared(&self) -> Arc<ArcSwap<Config>> {
        Arc::clone(&self.current)
    }

    /// Reads the file again, and puts in force what may change while the edge serves.
    ///
    /// # Errors
    ///
    /// Every problem; the old configuration stays in force.
    pub fn reload(&self) -> Result<Report, Vec<Problem>> {
        self.put(take)
    }

    /// As [`Reloader::reload`], but certificates, keys, revocation lists, tokens and the secret of route tokens alone: whoever
    /// renews them did not ask for anything else in the file.
    ///
    /// # Errors
    ///
    /// As [`Reloader::reload`].
    pub fn renew(&self) -> Result<Report, Vec<Problem>> {
        self.put(|old, new| {
            let (mut found, mut merged) = (Difference::default(), old.clone());
            found.certificates(&mut merged, new);
            found.secret(&mut merged, new);
            (found, merged)
        })
    }

    fn put(
        &self,
        take: impl FnOnce(&Config, &Config) -> (Difference, Config),
    ) -> Result<Report, Vec<Problem>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let (new, mut warnings) = Config::load(&old.file)?;
        let (Difference { live, restart }, merged) = take(&old, &new);
        warnings.extend(algorithms(&old, &merged).map_err(|problem| vec![problem])?);
        (self.apply)(&merged).map_err(|what| {
            let file = old.file.display().to_string().into();
            let why = "the old configuration stays in force".into();
            vec![Problem { file, line: 0, what, why, fix: String::new() }]
        })?;
        self.current.store(Arc::new(merged));
        Ok(Report { changed: live, restart, warnings })
    }
}

/// Whether the algorithms of `new` may take the place of those of `old`; a warning if they are weaker.
///
/// Source: SEC_CF 1.1 ADM-002; RFC 8760 section 3.
fn algorithms(old: &Config, new: &Config) -> Result<Option<Warning>, Problem> {
    let (before, after) = (old.digest.version, new.digest.version);
    let say = |what: String, why: &'static str, fix: String| Problem {
        file: old.file.display().to_string().into(),
        line: 0,
        what,
        why: why.into(),
        fix,
    };
    if after < before {
        let what = format!("digest.version = {after} is lower than {before}, which is in force");
        let why = "an older choice of algorithms may allow what was given up";
        let fix = format!("version = {}", before.saturating_add(1));
        return Err(say(what, why, fix));
    }
    if floor(new) >= floor(old) {
        return Ok(None);
    }
    let (weaker, stronger) = (floor(new).as_str(), floor(old).as_str());
    let what = format!("{weaker} is allowed, where {stronger} was the weakest");
    if after == before {
        let why = "whoever wants that says so by a higher version";
        let fix = format!("version = {} in [digest]", before.saturating_add(1));
        return Err(say(what, why, fix));
    }
    tracing::warn!(alarm = "algorithm_downgrade", version = after, weakest = weaker, "reloaded");
    let why = "what one client cannot do, somebody on the way can make of another";
    Ok(Some(Warning(say(what, why, String::new()))))
}

/// The weakest algorithm that is taken anywhere.
fn floor(of: &Config) -> Hash {
    let own = of.listeners.iter().filter_map(|listener| listener.algorithms.as_ref());
    let all = own.chain([&of.digest.algorithms]).flatten();
    all.min().copied().unwrap_or(Hash::Sha256)
}

/// In what two configurations differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Keys that may change while the edge serves.
    pub live: Vec<String>,
    /// Keys that need a restart.
    pub restart: Vec<String>,
}

/// Compares two configurations, key by key.
pub fn diff(old: &Config, new: &Config) -> Difference {
    take(old, new).0
}

/// One key.
struct Key {
    name: &'static str,
    /// The value as it is printed: printed forms hold everything but secrets, whose files are compared.
    shown: fn(&Config) -> String,
    /// Whether the part it belongs to is there, if that need not be.
    part: Option<fn(&Config) -> bool>,
    /// Takes the value over; `None` if it waits for a restart.
    take: Option<fn(&mut Config, &Config)>,
}

macro_rules! keys {
    ($($when:ident $name:literal $($part:ident).+ $(=> $field:ident)?;)*) => {
        &[$(Key {
            name: $name,
            shown: |config| keys!(@shown config $($part).+ $(=> $field)?),
            part: keys!(@part $($part).+ $(=> $field)?),
            take: keys!(@$when $($part).+),
        }),*]
    };
    (@shown $config:ident $($part:ident).+) => { format!("{:?}", $config.$($part).+) };
    (@shown $config:ident $($part:ident).+ => $field:ident) => {
        format!("{:?}", $config.$($part).+.as_ref().map(|part| &part.$field))
    };
    (@part $($part:ident).+) => { None };
    (@part $($part:ident).+ => $field:ident) => { Some(|config| config.$($part).+.is_some()) };
    (@live $($part:ident).+) => { Some(|to, from| to.$($part).+.clone_from(&from.$($part).+)) };
    (@waits $($part:ident).+) => { None };
}

/// Every key outside of lists. A part that need not be there is compared by its fields.
const KEYS: &[Key] = keys! {
    waits "edge.workers" edge.workers;
    live "edge.domains" edge.domains;
    live "edge.realm" edge.realm;
    live "edge.drain" edge.drain;
    waits "authentication.schemes" authentication.gba;
    waits "authentication.schemes" authentication.digest;
    waits "authentication.schemes" authentication.aka;
    waits "authentication.accounts_in_state" authentication.accounts_in_state;
    live "authentication.nonce_lifetime" authentication.nonce_lifetime;
    live "authentication.nonce_scope" authentication.nonce_per_dialog;
    waits "authentication.max_windows" authentication.max_windows;
    live "digest.algorithms" digest.algorithms;
    live "digest.version" digest.version;
    live "digest.lock" digest.lock;
    live "digest.uri_check" digest.uri_strict;
    waits "naf.fqdn" naf => fqdn;
    waits "naf.ua_ids" naf => ua_ids;
    waits "enabler.cpm.ua_ids" enablers.cpm_ids;
    waits "enabler.locsip.ua_ids" enablers.locsip_ids;
    waits "enabler.push.lifetime" enablers.push_lifetime;
    waits "enabler.push.profile" enablers.push_profile;
    waits "naf.association_lifetime" naf => association_lifetime;
    waits "naf.required" naf => required;
    waits "naf.gba_digest" naf => gba_digest;
    waits "bsf.name" bsf => name;
    waits "bsf.realm" bsf => realm;
    waits "bsf.listen" bsf => listen;
    waits "bsf.tls.listen" bsf => listen_tls;
    waits "bsf.gba_digest" bsf => digest;
    waits "bsf.path" bsf => path;
    waits "bsf.subscribers" bsf => subscribers;
    waits "bsf.key_lifetime" bsf => key_lifetime;
    waits "bsf.tmpi" bsf => tmpi;
    waits "bsf.source_rate" bsf => source_rate;
    waits "bsf.max_sessions" bsf => max_sessions;
    waits "diameter.identity" diameter => identity;
    waits "diameter.realm" diameter => realm;
    waits "diameter.listen" diameter => listen;
    waits "diameter.watchdog" diameter => watchdog;
    waits "diameter.answer" diameter => answer;
    waits "diameter.peer" diameter => peers;
    waits "nbsp.listen" nbsp => listen;
    waits "nbsp.tokens" nbsp => tokens;
    waits "nbsp.answer" nbsp => answer;
    waits "nbsp.naf" nbsp => nafs;
    waits "nbsp.server" nbsp => servers;
    live "provision" provision;
    waits "hss.subscribers" hss => subscribers;
    waits "aka.realm" aka => realm;
    waits "aka.algorithms" aka => algorithms;
    waits "aka.max_challenges" aka => max_challenges;
    waits "psk.ua" psk.scheme;
    live "register.challenge" register.with_401;
    live "register.third_party" register.third_party;
    live "path.strict" register.path_strict;
    live "cluster.overlap" cluster.overlap;
    waits "state.file" state => file;
    waits "state.key" state => key;
    waits "state.cache" state => cache;
    live "association.mode" association.observe;
    live "association.enforce" association.enforce;
    live "association.max" association.max;
    live "association.max_per_caller" association.max_per_caller;
    live "association.early_max" association.early_max;
    live "association.max_idle" association.max_idle;
    live "association.grace" association.grace;
    live "association.rekey_window" association.rekey_window;
    live "association.rekey_deadline" association.rekey_deadline;
    live "association.same_instance" association.same_instance;
    live "association.digest_anchor" association.secure_flow_anchor;
    live "association.secure_flow_max_principals" association.secure_flow_max_principals;
    live "enabler.mode" enablers.observe;
    live "enabler.reg" enablers.reg;
    live "enabler.sip" enablers.sip;
    live "enabler.sip.unsolicited_events" enablers.sip_unsolicited;
    live "enabler.cpm" enablers.cpm;
    live "limits.caller" numbers;
    live "admission.flow_rate" admission.flow_rate;
    live "admission.answer_rate" admission.answer_rate;
    live "admission.failures.flow" admission.flow_failures;
    live "admission.failures.address" admission.address_failures;
    live "admission.failures.ban" admission.ban;
    waits "admission.max" admission.max;
    waits "admission.connections_of_address" admission.connections_of_address;
    waits "admission.connections" admission.connections;
    waits "admission.handshakes_of_address" admission.handshakes_of_address;
    waits "admission.handshakes" admission.handshakes;
    waits "admission.flows" admission.flows;
    waits "admission.flows_of_user" admission.flows_of_user;
    live "forward" forward;
    live "b2bua" bridging;
    waits "telemetry.metrics" telemetry.metrics;
    waits "admin.socket" admin;
    live "telemetry.log" telemetry.log;
    waits "telemetry.json" telemetry.json;
    waits "danger.metrics_beyond_loopback" danger.metrics_beyond_loopback;
    waits "danger.bsf_accepts_auth" danger.bsf_accepts_auth;
    waits "danger.bsf_reveals_unknown" danger.bsf_reveals_unknown;
    waits "danger.diameter_in_clear" danger.diameter_in_clear;
    live "danger.bye_at_level_1" danger.bye_at_level_1;
    live "danger.cpim_from_anyone" danger.cpim_from_anyone;
};

/// In what they differ, and the old configuration with everything of the new one that may change while it serves.
fn take(old: &Config, new: &Config) -> (Difference, Config) {
    let mut found = Difference::default();
    let mut merged = old.clone();
    found.files(&mut merged, new);
    found.routes(&mut merged, new);
    found.enablers(&mut merged, old, new);
    for key in KEYS.iter().filter(|key| (key.shown)(old) != (key.shown)(new)) {
        if let Some(take) = key.take {
            take(&mut merged, new);
            found.live.push(key.name.to_owned());
            continue;
        }
        // A part that comes or goes is told of as a whole, and once.
        let whole = key.part.is_some_and(|is_there| is_there(old) != is_there(new));
        let part = key.name.split('.').next().unwrap_or(key.name);
        let told = if whole { part } else { key.name };
        if !found.restart.iter().any(|name| name == told) {
            found.restart.push(told.to_owned());
        }
    }
    #[cfg(all(feature = "http", feature = "openssl"))]
    found.https(old, new);
    found.listeners(&mut merged, new);
    found.peers(&mut merged, new);
    (found, merged)
}

impl Difference {
    fn live(&mut self, differs: bool, name: impl Into<String>) -> bool {
        if differs {
            self.live.push(name.into());
        }
        differs
    }

    fn restart(&mut self, differs: bool, name: impl Into<String>) {
        if differs {
            self.restart.push(name.into());
        }
    }

    /// Certificates, their keys, whom to trust and what is taken back; tokens.
    fn certificates(&mut self, merged: &mut Config, new: &Config) {
        merged.watched_files.clone_from(&new.watched_files);
        merged.ue_certificates = new.ue_certificates;
        let mut renewed = false;
        for (listener, newer) in merged.listeners.iter_mut().zip(&new.listeners) {
            let (Some(tls), Some(other)) = (&listener.tls, &newer.tls) else { continue };
            let differs = tls.fingerprint != other.fingerprint || tls.spec.asks != other.spec.asks;
            if is_same(listener, newer) && differs {
                listener.tls.clone_from(&newer.tls);
                renewed = true;
            }
        }
        if let (Some(dialling), Some(newer)) = (&merged.dialling, &new.dialling)
            && dialling.fingerprint != newer.fingerprint
        {
            merged.dialling.clone_from(&new.dialling);
            renewed = true;
        }
        if let (Some(diameter), Some(newer)) = (&mut merged.diameter, &new.diameter)
            && let (Some(tls), Some(other)) = (&diameter.tls, &newer.tls)
            && diameter.identity == newer.identity
            && tls.fingerprint != other.fingerprint
        {
            diameter.tls.clone_from(&newer.tls);
            renewed = true;
        }
        if let (Some(bsf), Some(newer)) = (&mut merged.bsf, &new.bsf)
            && let (Some(tls), Some(other)) = (&bsf.tls, &newer.tls)
            && bsf.name == newer.name
            && tls.fingerprint != other.fingerprint
        {
            bsf.tls.clone_from(&newer.tls);
            renewed = true;
        }
        if let (Some(nbsp), Some(newer)) = (&mut merged.nbsp, &new.nbsp)
            && nbsp.fingerprint != newer.fingerprint
        {
            nbsp.tls = Arc::clone(&newer.tls);
            nbsp.fingerprint = newer.fingerprint;
            renewed = true;
        }
        #[cfg(all(feature = "http", feature = "openssl"))]
        if let (Some(https), Some(newer)) = (&mut merged.https, &new.https)
            && https.fingerprint != newer.fingerprint
        {
            https.tls = Arc::clone(&newer.tls);
            https.fingerprint = newer.fingerprint;
            renewed = true;
        }
        self.live(renewed, "certificates");
        let tokens = match (&mut merged.nbsp, &new.nbsp) {
            (Some(nbsp), Some(newer)) => nbsp.take_tokens(newer),
            _ => false,
        };
        self.live(tokens, "tokens");
    }

    /// What tokens are sealed under. Without one they are sealed under what was drawn at the start: that waits.
    fn secret(&mut self, merged: &mut Config, new: &Config) {
        let shown = |config: &Config| format!("{:?}", config.cluster);
        let differs = shown(merged) != shown(new);
        let goes = new.cluster.secret.is_none();
        self.restart(differs && goes, "cluster.secret");
        if self.live(differs && !goes, "cluster.secret") {
            merged.cluster.secret.clone_from(&new.cluster.secret);
        }
    }

    /// What stands in other files.
    fn files(&mut self, merged: &mut Config, new: &Config) {
        self.certificates(merged, new);
        self.secret(merged, new);
        let (proofs, newer) = (&mut merged.authentication, &new.authentication);
        if self.live(proofs.fingerprint != newer.fingerprint, "accounts") {
            proofs.fingerprint = newer.fingerprint;
            proofs.accounts_file.clone_from(&newer.accounts_file);
        }
        // Who is who in them may have changed with the realm.
        proofs.accounts = Arc::clone(&newer.accounts);
        if self.live(merged.psk.fingerprint != new.psk.fingerprint, "psk.keys") {
            merged.psk.fingerprint = new.psk.fingerprint;
            merged.psk.keys = Arc::clone(&new.psk.keys);
        }
        if let (Some(bsf), Some(newer)) = (&mut merged.bsf, &new.bsf)
            && bsf.subscribers == newer.subscribers
            && self.live(bsf.fingerprint != newer.fingerprint, "subscribers")
        {
            bsf.fingerprint = newer.fingerprint;
        }
        if let (Some(hss), Some(newer)) = (&mut merged.hss, &new.hss)
            && hss.subscribers == newer.subscribers
            && self.live(hss.fingerprint != newer.fingerprint, "subscribers")
        {
            hss.fingerprint = newer.fingerprint;
        }
        if let (Some(aka), Some(newer)) = (&mut merged.aka, &new.aka) {
            let path = |list: &Option<(PathBuf, _)>| list.as_ref().map(|(path, _)| path.clone());
            let differs = aka.subscribers != newer.subscribers;
            if path(&aka.subscribers) != path(&newer.subscribers) {
                self.restart(differs, "aka.subscribers");
            } else if self.live(differs, "subscribers") {
                aka.subscribers.clone_from(&newer.subscribers);
            }
        }
    }

    /// Groups are known by their places: routes of another list of peers would lead elsewhere.
    fn routes(&mut self, merged: &mut Config, new: &Config) {
        if merged.routes == new.routes {
            return;
        }
        if self.live(are_same(&merged.peers, &new.peers), "routes") {
            merged.routes = new.routes.clone();
        } else {
            self.restart(true, "route");
        }
    }

    /// Classes that name peers: as routes. Accounts are held to classes by their places, so that accounts wait
    /// with them.
    fn enablers(&mut self, merged: &mut Config, old: &Config, new: &Config) {
        let (to, from) = (&mut merged.enablers, &new.enablers);
        let live = are_same(&merged.peers, &new.peers);
        let location = |of: &Enablers| {
            let ends = (of.locsip_longest, of.locsip_strict);
            format!("{:?}", (&of.locsip, &of.locsip_groups, &of.locsip_domains, ends))
        };
        let (push, own) =
            (|of: &Enablers| format!("{:?}", of.push), |of: &Enablers| format!("{:?}", of.own));
        for (name, differs) in [
            ("enabler.locsip", location(to) != location(from)),
            ("enabler.push", push(to) != push(from)),
            ("enabler.class", own(to) != own(from)),
        ] {
            self.live(live && differs, name);
            self.restart(!live && differs, name);
        }
        if live {
            to.locsip.clone_from(&from.locsip);
            to.locsip_groups.clone_from(&from.locsip_groups);
            to.locsip_domains.clone_from(&from.locsip_domains);
            (to.locsip_longest, to.locsip_strict) = (from.locsip_longest, from.locsip_strict);
            to.push.clone_from(&from.push);
            to.own.clone_from(&from.own);
        } else if to.own_names() != from.own_names() {
            merged.authentication.clone_from(&old.authentication);
            let before = self.live.len();
            self.live.retain(|name| name != "accounts");
            self.restart(self.live.len() < before, "accounts");
        }
    }

    /// Where the door is and whom it knows; what it shows and believes is taken over with the certificates.
    #[cfg(all(feature = "http", feature = "openssl"))]
    fn https(&mut self, old: &Config, new: &Config) {
        let shown = |of: &Config| {
            let kept = |of: &super::https::Https| {
                format!("{:?}", (of.listen, &of.visited, &of.homes, &of.managers))
            };
            of.https.as_ref().map(kept)
        };
        self.restart(shown(old) != shown(new), "https");
    }

    fn listeners(&mut self, merged: &mut Config, new: &Config) {
        let shorter = merged.listeners.len().min(new.listeners.len());
        for at in shorter..merged.listeners.len().max(new.listeners.len()) {
            self.restart(true, format!("listen[{at}]"));
        }
        for (at, (old, new)) in merged.listeners.iter_mut().zip(&new.listeners).enumerate() {
            for (key, differs) in [
                ("name", old.name != new.name),
                ("side", old.side != new.side),
                ("address", old.address != new.address),
                ("transports", old.transports != new.transports),
                ("identity", old.identity != new.identity),
                ("tls", old.tls.is_some() != new.tls.is_some()),
                ("tls.psk", old.psk != new.psk),
                ("dtls.engine", old.dtls.zip(new.dtls).is_some_and(|(old, new)| old != new)),
                ("ws", old.ws.is_some() != new.ws.is_some()),
            ] {
                self.restart(differs, format!("listen[{at}].{key}"));
            }
            if !is_same(old, new) {
                continue;
            }
            let differs = old.algorithms != new.algorithms;
            if self.live(differs, format!("listen[{at}].digest.algorithms")) {
                old.algorithms.clone_from(&new.algorithms);
            }
            let differs = old.force_rport != new.force_rport;
            if self.live(differs, format!("listen[{at}].force_rport")) {
                old.force_rport = new.force_rport;
            }
            let both = old.ws.is_some() && new.ws.is_some();
            if self.live(both && old.ws != new.ws, format!("listen[{at}].ws")) {
                old.ws.clone_from(&new.ws);
            }
            let differs = old.b2bua != new.b2bua;
            if self.live(differs, format!("listen[{at}].mode")) {
                old.b2bua = new.b2bua;
            }
            let differs = old.sec_agree != new.sec_agree;
            if self.live(differs, format!("listen[{at}].sec_agree")) {
                old.sec_agree = new.sec_agree;
            }
            let differs = old.outbound_required != new.outbound_required;
            if self.live(differs, format!("listen[{at}].outbound")) {
                old.outbound_required = new.outbound_required;
            }
        }
    }

    fn peers(&mut self, merged: &mut Config, new: &Config) {
        let shorter = merged.peers.len().min(new.peers.len());
        for at in shorter..merged.peers.len().max(new.peers.len()) {
            self.restart(true, format!("peer[{at}]"));
        }
        for (at, (old, new)) in merged.peers.iter_mut().zip(&new.peers).enumerate() {
            let members = |peer: &Peer| format!("{:?} {:?}", peer.members, peer.addresses);
            for (key, differs) in [
                ("name", old.name != new.name),
                ("members", members(old) != members(new)),
                ("trust", old.by_certificate != new.by_certificate),
                ("identity", old.identities != new.identities),
                ("enabler", old.location != new.location),
            ] {
                self.restart(differs, format!("peer[{at}].{key}"));
            }
            let differs = old.name == new.name && old.rfc2543 != new.rfc2543;
            if self.live(differs, format!("peer[{at}].rfc2543")) {
                old.rfc2543 = new.rfc2543;
            }
        }
        self.restart(merged.dialling.is_some() != new.dialling.is_some(), "peer.tls");
    }
}

/// Whether the same peers are in the same places.
fn are_same(before: &[Peer], after: &[Peer]) -> bool {
    before.iter().map(|peer| &peer.name).eq(after.iter().map(|peer| &peer.name))
}

/// Whether two listeners in one place are the same one, whatever else it is told.
fn is_same(old: &Listener, new: &Listener) -> bool {
    old.name == new.name && old.identity == new.identity
}

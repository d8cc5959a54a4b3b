//! Configuration, reload: another file in the place of the present one, while the edge serves.
//!
//! Takes:   the word that the file may have changed.
//! Gives:   [`Report`]: what is now in force, and what waits for a restart.
//! Keeps:   the configuration in force, one snapshot that readers take whole; never a mixture (V-147).
//! Refuses: a file with any problem: the old one stays, and all problems are told.
//! Sources: V-147; SEC_CF 1.1 SEC-003.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::{Config, Problem, Warning};

/// The configuration in force, and where it came from.
pub struct Reloader {
    current: ArcSwap<Config>,
    /// One reload at a time: two at once could end in the older one.
    turn: Mutex<()>,
    apply: Box<Apply>,
}

/// Puts a checked configuration in the place of the present one, in every part that [`diff`] calls live.
///
/// # Errors
///
/// What could not be put in force; nothing was changed then.
pub type Apply = dyn Fn(&Config) -> Result<(), String> + Send + Sync;

/// What a reload did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Parts that changed and are in force.
    pub changed: Vec<&'static str>,
    /// Parts that changed in the file but stay as they were until a restart.
    pub restart: Vec<&'static str>,
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
        let current = ArcSwap::from_pointee(config);
        Self { current, turn: Mutex::default(), apply: Box::new(apply) }
    }

    /// The configuration in force; whoever holds it sees no later one.
    pub fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// Reads the file again, and puts in force what may change while the edge serves.
    ///
    /// # Errors
    ///
    /// Every problem; the old configuration stays in force.
    pub fn reload(&self) -> Result<Report, Vec<Problem>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let (new, warnings) = Config::load(&old.file)?;
        let Difference { live, restart } = diff(&old, &new);
        let merged = merge(&old, new);
        (self.apply)(&merged).map_err(|what| {
            let file = old.file.display().to_string().into();
            let why = "the old configuration stays in force".into();
            vec![Problem { file, line: 0, what, why, fix: String::new() }]
        })?;
        self.current.store(Arc::new(merged));
        Ok(Report { changed: live, restart, warnings })
    }
}

/// In what two configurations differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Parts that may change while the edge serves.
    pub live: Vec<&'static str>,
    /// Parts that need a restart: sockets, threads and the sizes of tables.
    pub restart: Vec<&'static str>,
}

/// Compares two configurations, part by part.
pub fn diff(old: &Config, new: &Config) -> Difference {
    // Printed forms stand for the values: they hold everything but secrets, whose files are compared.
    let print = |part: &dyn fmt::Debug| format!("{part:?}");
    let same = |one: &dyn fmt::Debug, other: &dyn fmt::Debug| print(one) == print(other);
    let certificates = |config: &Config| {
        let of_listeners = config
            .listeners
            .iter()
            .map(|listener| listener.tls.as_ref().map(|tls| tls.fingerprint));
        let dialling = config.dialling.as_ref().map(|dialling| dialling.fingerprint);
        of_listeners.chain([dialling]).collect::<Vec<_>>()
    };
    let sockets = |config: &Config| {
        let of = |listener: &super::Listener| {
            let super::Listener { name, side, address, transports, identity, .. } = listener;
            format!(
                "{name} {side:?} {address} {transports:?} {identity} {}",
                listener.tls.is_some()
            )
        };
        config.listeners.iter().map(of).collect::<Vec<_>>()
    };
    let listener_policy = |config: &Config| {
        let of = |listener: &super::Listener| (listener.force_rport, listener.algorithms.clone());
        config.listeners.iter().map(of).collect::<Vec<_>>()
    };
    let subscribers = |config: &Config| config.bsf.as_ref().map(|bsf| bsf.fingerprint);
    let bsf = |config: &Config| {
        config.bsf.clone().map(|mut bsf| {
            // The file is compared by itself.
            bsf.fingerprint = old.authentication.fingerprint;
            bsf
        })
    };
    let mut found = Difference::default();
    for (name, equal) in [
        ("certificates", certificates(old) == certificates(new)),
        ("accounts", old.authentication.fingerprint == new.authentication.fingerprint),
        ("subscribers", subscribers(old) == subscribers(new)),
        ("routes", old.routes == new.routes),
        ("register.path_strict", old.register.path_strict == new.register.path_strict),
        ("forward", same(&old.forward, &new.forward)),
        ("telemetry.log", old.telemetry.log == new.telemetry.log),
    ] {
        if !equal {
            found.live.push(name);
        }
    }
    let proofs = |config: &Config| {
        let p = &config.authentication;
        (p.gba, p.digest, p.nonce_lifetime, p.nonce_per_dialog, p.max_windows)
    };
    let register = |config: &Config| (config.register.with_401, config.register.third_party);
    let page = |config: &Config| (config.telemetry.metrics, config.telemetry.json);
    for (name, equal) in [
        ("edge", old.edge == new.edge),
        ("listen", sockets(old) == sockets(new) && listener_policy(old) == listener_policy(new)),
        ("peer", same(&old.peers, &new.peers)),
        ("authentication", proofs(old) == proofs(new)),
        ("digest", old.digest == new.digest),
        ("naf", old.naf == new.naf),
        ("bsf", bsf(old) == bsf(new)),
        ("register", register(old) == register(new)),
        ("association", old.association == new.association),
        ("enabler", same(&old.enablers, &new.enablers)),
        ("admission", old.admission == new.admission),
        ("telemetry", page(old) == page(new)),
        ("danger", old.danger == new.danger),
    ] {
        if !equal {
            found.restart.push(name);
        }
    }
    found
}

/// The old configuration with those parts of the new one that may change while the edge serves.
fn merge(old: &Config, new: Config) -> Config {
    let mut merged = old.clone();
    let same_listeners = old.listeners.len() == new.listeners.len();
    for (listener, newer) in merged.listeners.iter_mut().zip(new.listeners) {
        let same = listener.name == newer.name && listener.identity == newer.identity;
        if same_listeners && same && listener.tls.is_some() && newer.tls.is_some() {
            listener.tls = newer.tls;
        }
    }
    if old.dialling.is_some() && new.dialling.is_some() {
        merged.dialling = new.dialling;
    }
    merged.authentication.accounts = new.authentication.accounts;
    merged.authentication.fingerprint = new.authentication.fingerprint;
    if let (Some(bsf), Some(newer)) = (&mut merged.bsf, &new.bsf) {
        bsf.fingerprint = newer.fingerprint;
    }
    // Groups are known by their places: routes of another list of peers would lead elsewhere.
    let names =
        |peers: &[super::Peer]| peers.iter().map(|peer| Arc::clone(&peer.name)).collect::<Vec<_>>();
    if names(&old.peers) == names(&new.peers) {
        merged.routes = new.routes;
    }
    merged.register.path_strict = new.register.path_strict;
    merged.forward = new.forward;
    merged.telemetry.log = new.telemetry.log;
    merged
}

//! `sipward serve`, subscribers: who keeps their keys and sequence numbers, for Ub and for the realm of cards.
//!
//! Takes:   the configuration, and the list of subscribers that it names, or the store that it opened.
//! Gives:   one server for both: each card has one sequence number.
//! Keeps:   sequence numbers, beside the list or in the store; in the store, sessions too.
//! Refuses: a list with problems, a store that does not answer.
//! Sources: TS 33.220 clause 4.4; TS 33.102 annex C.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::vault::{self, Vault};
use crate::clock;
use crate::config::diameter::{Diameter, DiameterPeer, Role};
use crate::config::{Config, Naf};
use crate::keys::bootstrap::{Bsf, BsfConfig, LocalNaf, NafGrant, UaGrant};
use crate::keys::psk::Scheme;
use crate::keys::subscribers::{file, state::SqnState, stored::Stored};
use crate::keys::{KeyServer, UaId};

/// Where sequence numbers are written down.
#[derive(Clone, Debug)]
pub(super) enum Books {
    /// Beside the list.
    Beside(SqnState),
    /// Where the subscribers are.
    Stored,
    /// By their home.
    Elsewhere,
}

impl Books {
    /// Writes down what is due: again and again while the server serves, and when it ends.
    ///
    /// # Errors
    ///
    /// What could not be written; the next call tries again.
    pub(super) fn keep(&self, bsf: &Bsf) -> io::Result<()> {
        match self {
            Self::Beside(state) => state.keep(bsf).map(|_| ()),
            Self::Stored => bsf.keep().map_err(io::Error::other),
            Self::Elsewhere => Ok(()),
        }
    }
}

impl Books {
    /// Reads the list again, if there is one, and puts it in force once its numbers are written down.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or why nothing could be written; the old one stays in force then.
    pub(super) fn replace(&self, bsf: &Bsf, path: &Path) -> Result<(), String> {
        let Self::Beside(state) = self else { return Ok(()) };
        let mut list = file::load(path)
            .map_err(|problems| problems.first().map_or_else(String::new, ToString::to_string))?;
        state.lift(&mut list).map_err(|why| why.to_string())?;
        state.put(bsf, list).map_err(|why| why.to_string())
    }

    /// Whether what is written is written every second, not every ten.
    pub(super) fn is_hasty(&self) -> bool {
        matches!(self, Self::Stored)
    }
}

/// Starts the server of the subscribers that are listed or stored, or of those that a home has, where nothing is written
/// down. `None` if nobody has any.
///
/// # Errors
///
/// A list with problems; numbers that cannot be read or written; a store that does not answer.
pub(super) fn start(
    config: &Config,
    vault: Option<&Vault>,
) -> io::Result<Option<(Arc<Bsf>, Books)>> {
    let (settings, grants) = (settings(config), grants(config));
    match (config.subscribers(), vault) {
        (Some(list), _) => {
            let mut subscribers = file::load(list).map_err(|problems| {
                let problems = problems.iter().map(ToString::to_string);
                io::Error::other(problems.collect::<Vec<_>>().join("\n"))
            })?;
            let state = SqnState::beside(list);
            state.lift(&mut subscribers)?;
            let bsf = Bsf::new(settings, subscribers, grants, clock::random()).map_err(unfit)?;
            state.keep(&bsf)?;
            Ok(Some((Arc::new(bsf), Books::Beside(state))))
        }
        (None, Some(vault)) if config.subscribers_are_stored() => {
            let roll = Stored::start(vault.store()).map_err(io::Error::other)?;
            let bsf = Bsf::with_roll(settings, Arc::new(roll), grants, clock::random());
            let bsf = bsf.map_err(unfit)?;
            let fault = |fault| vault::in_words(vault.embedded().path(), &fault);
            bsf.restore_sessions(clock::now()).map_err(fault)?;
            Ok(Some((Arc::new(bsf), Books::Stored)))
        }
        (None, _) if config.bsf.is_some() => {
            let bsf = Bsf::new(settings, Vec::new(), grants, clock::random()).map_err(unfit)?;
            Ok(Some((Arc::new(bsf), Books::Elsewhere)))
        }
        _ => Ok(None),
    }
}

/// The same server without subscribers: nobody is served by it, and nothing is written down.
///
/// # Errors
///
/// Settings that it does not take.
pub(super) fn unserved(config: &Config) -> io::Result<Option<Arc<Bsf>>> {
    let there = config.bsf.is_some() || config.subscribers().is_some();
    if !there && !config.subscribers_are_stored() {
        return Ok(None);
    }
    let bsf = Bsf::new(settings(config), Vec::new(), grants(config), clock::random());
    bsf.map(|bsf| Some(Arc::new(bsf))).map_err(unfit)
}

fn unfit(why: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("[bsf]: {why:?}"))
}

fn settings(config: &Config) -> BsfConfig {
    match &config.bsf {
        Some(of) => BsfConfig {
            realm: of.realm.clone(),
            path: Arc::clone(&of.path),
            key_lifetime: of.key_lifetime,
            tmpi: of.tmpi,
            source_rate: of.source_rate,
            digest: of.digest.clone(),
            max_sessions: of.max_sessions,
            home: config.diameter.as_ref().is_some_and(Diameter::has_home),
            accept_auth: config.danger.bsf_accepts_auth,
            reveal_unknown: config.danger.bsf_reveals_unknown,
            push: Arc::clone(&config.enablers.push_profile),
            ..BsfConfig::new(&of.name)
        },
        // Nobody bootstraps here, so the name is told to nobody.
        None => BsfConfig::new("localhost"),
    }
}

fn grants(config: &Config) -> Vec<NafGrant> {
    let grants = config.naf.iter().map(|naf| NafGrant {
        host: Arc::clone(&naf.fqdn),
        fqdns: vec![Arc::clone(&naf.fqdn)],
        protocols: protocols(config, naf),
        sees_impi: true,
        sees_identities: true,
    });
    let others = config.diameter.iter().flat_map(|diameter| &diameter.peers).filter_map(grant);
    let nafs = config.nbsp.iter().flat_map(|nbsp| &nbsp.nafs);
    let others = others.chain(nafs.map(|naf| naf.granted.to(&naf.host)));
    grants.chain(others).collect()
}

/// Our own server, for the NAF here, by the domain of its B-TIDs.
pub(super) fn keys(
    config: &Config,
    bsf: Option<&Arc<Bsf>>,
) -> Option<(Arc<str>, Arc<dyn KeyServer>)> {
    let (naf, bsf, own) = (config.naf.as_ref()?, bsf?, config.bsf.as_ref()?);
    Some((Arc::clone(&own.name), Arc::new(LocalNaf::new(Arc::clone(bsf), &naf.fqdn))))
}

/// What a NAF of another process may have.
fn grant(peer: &DiameterPeer) -> Option<NafGrant> {
    let Role::Naf { granted, .. } = &peer.role else { return None };
    Some(granted.to(&peer.host))
}

/// What the edge may have keys for: SIP Digest, the classes with keys of their own, the handshakes that its
/// listeners take, and what it pushes.
fn protocols(config: &Config, naf: &Naf) -> Vec<UaGrant> {
    let taken = config.listeners_with_psk().next();
    let handshakes = taken.into_iter().flat_map(|_| {
        let suites = match config.psk.scheme {
            Scheme::ThreeGpp => UaGrant::TlsSuites,
            Scheme::Oma => UaGrant::OmaTlsSuites,
        };
        [suites, UaGrant::Exact(UaId::SHARED_KEY_TLS13)]
    });
    let digest = naf.ua_ids.iter().copied().chain(config.enablers.ids()).map(UaGrant::Exact);
    let pushed = [UaGrant::Exact(UaId::PUSH_LAYER)];
    digest.chain(handshakes).chain(pushed).collect()
}

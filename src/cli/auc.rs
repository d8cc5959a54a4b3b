//! `sipward serve`, subscribers: who keeps their keys and sequence numbers, for Ub and for the realm of cards.
//!
//! Takes:   the configuration, and the list of subscribers that it names.
//! Gives:   one server for both: each card has one sequence number.
//! Keeps:   sequence numbers, beside the list.
//! Refuses: a list with problems.
//! Sources: TS 33.220 clause 4.4; TS 33.102 annex C.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::clock;
use crate::config::diameter::{DiameterPeer, Role};
use crate::config::{Config, Naf};
use crate::keys::bootstrap::{Bsf, BsfConfig, LocalNaf, NafGrant, UaGrant};
use crate::keys::psk::Scheme;
use crate::keys::subscribers::{Subscriber, file, state::SqnState};
use crate::keys::{KeyServer, UaId};

/// Starts the server of the subscribers that are listed, or of those that a home has; with it, the file of sequence
/// numbers, which stays unwritten where the home has them. `None` if nobody has any.
///
/// # Errors
///
/// A list with problems; numbers that cannot be read or written.
pub(super) fn start(config: &Config) -> io::Result<Option<(Arc<Bsf>, SqnState)>> {
    let (subscribers, state) = match (config.subscribers(), &config.bsf) {
        (Some(list), _) => listed(list)?,
        (None, Some(_)) => (Vec::new(), SqnState::beside(&config.file)),
        (None, None) => return Ok(None),
    };
    let settings = match &config.bsf {
        Some(of) => BsfConfig {
            realm: of.realm.clone(),
            path: Arc::clone(&of.path),
            key_lifetime: of.key_lifetime,
            tmpi: of.tmpi,
            source_rate: of.source_rate,
            max_sessions: of.max_sessions,
            home: of.subscribers.is_none(),
            accept_auth: config.danger.bsf_accepts_auth,
            reveal_unknown: config.danger.bsf_reveals_unknown,
            push: Arc::clone(&config.enablers.push_profile),
            ..BsfConfig::new(&of.name)
        },
        // Nobody bootstraps here, so the name is told to nobody.
        None => BsfConfig::new("localhost"),
    };
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
    let bsf = Bsf::new(settings, subscribers, grants.chain(others).collect(), clock::random())
        .map_err(|why| io::Error::other(format!("[bsf]: {why:?}")))?;
    state.keep(&bsf)?;
    Ok(Some((Arc::new(bsf), state)))
}

fn listed(list: &Path) -> io::Result<(Vec<Subscriber>, SqnState)> {
    let mut subscribers = file::load(list).map_err(|problems| {
        io::Error::other(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let state = SqnState::beside(list);
    state.lift(&mut subscribers)?;
    Ok((subscribers, state))
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

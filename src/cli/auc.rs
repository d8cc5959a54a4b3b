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
use crate::config::{Config, Naf};
use crate::keys::UaId;
use crate::keys::bootstrap::{Bsf, BsfConfig, NafGrant, UaGrant};
use crate::keys::psk::Scheme;
use crate::keys::subscribers::{file, state::SqnState};

/// Starts the server of the subscribers in `list`; with it, the file of their sequence numbers.
///
/// # Errors
///
/// A list with problems; numbers that cannot be read or written.
pub(super) fn start(config: &Config, list: &Path) -> io::Result<(Arc<Bsf>, SqnState)> {
    let mut subscribers = file::load(list).map_err(|problems| {
        io::Error::other(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let state = SqnState::beside(list);
    state.lift(&mut subscribers)?;
    let settings = match &config.bsf {
        Some(of) => BsfConfig {
            realm: of.realm.clone(),
            path: Arc::clone(&of.path),
            key_lifetime: of.key_lifetime,
            tmpi: of.tmpi,
            source_rate: of.source_rate,
            max_sessions: of.max_sessions,
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
    let bsf = Bsf::new(settings, subscribers, grants.collect(), clock::random())
        .map_err(|why| io::Error::other(format!("[bsf]: {why:?}")))?;
    state.keep(&bsf)?;
    Ok((Arc::new(bsf), state))
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

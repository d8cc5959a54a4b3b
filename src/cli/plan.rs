//! `sipward serve`: what the configuration says, as a plan of what is to run.
//!
//! Takes:   a configuration that was read and checked, and the bootstrapping server of the same process.
//! Gives:   [`Plan`].
//! Keeps:   nothing.
//! Refuses: certificates and keys that cannot be used.
//! Sources: none.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::assembly::{Group, Plan, SharedKeys};
use crate::authentication::{Naf, Uss, aka_realm};
use crate::config::{self, Config, Diameter, Nbsp};
use crate::edge::GroupSpec;
use crate::enabler::own::{Line, Own};
use crate::enabler::reg::Reg;
use crate::enabler::{Entitlement, Family};
use crate::forward::asserted;
use crate::keys::bootstrap::{Bsf, LocalNaf};
use crate::keys::naf::{OfCards, Shortened};
use crate::keys::push::PushServer;
use crate::keys::servers::PushServers;
use crate::keys::{KeyServer, NafId, UaId, VectorSource};
use crate::transport::psk_tls::PskServer;
use crate::transport::tls::ClientTls;
use crate::transport::ws::WsServer;
use crate::transport::{GroupId, Limits, ListenSpec, ListenerId};
use crate::{admission, association};

fn routes(config: &Config) -> Vec<(String, GroupId)> {
    config.routes.domains.iter().map(|(domain, group)| (domain.to_string(), *group)).collect()
}

fn rfc2543(config: &Config) -> HashSet<GroupId> {
    let groups = (0..).map(GroupId).zip(&config.peers);
    groups.filter(|(_, peer)| peer.rfc2543).map(|(group, _)| group).collect()
}

/// Groups whose servers are known by certificate and see one of ours: on a connection to them, requests from them are
/// theirs, and they may know that it is ours.
fn aliased(config: &Config) -> HashSet<GroupId> {
    let shows = config.dialling.as_ref().is_some_and(|dialling| dialling.shows.is_some());
    let groups = (0..).map(GroupId).zip(&config.peers);
    groups.filter(|(_, peer)| shows && peer.by_certificate).map(|(group, _)| group).collect()
}

fn headers(forward: &config::Forward) -> asserted::Settings {
    let mut settings = asserted::Settings {
        pai_to_ue: forward.pai_to_ue,
        keep_history: forward.keep_history,
        ..asserted::Settings::default()
    };
    if forward.from_check_all {
        settings.from_check = asserted::FromCheck::Every;
    }
    settings.strip_from_ue.extend(forward.strip_from_ue.iter().cloned());
    settings
}

/// The service that names identities, and those whose rights are asked for.
pub(super) fn services(config: &Config) -> Vec<u32> {
    let mut services = vec![Uss::UNSPECIFIC];
    for (_, demands) in config.enablers.demands() {
        if let Entitlement::Uss { gsid, .. } = demands.entitlement
            && !services.contains(&gsid)
        {
            services.push(gsid);
        }
    }
    services
}

/// Where the keys of the NAF come from.
#[derive(Clone, Default)]
pub(super) struct Sources {
    /// Those that UEs bootstrapped.
    pub(super) keys: Option<Arc<dyn KeyServer>>,
    /// Those that are pushed to UEs, of servers far away: by the realm of the subscriber.
    pub(super) pushes: Vec<(Arc<str>, Arc<dyn PushServer>)>,
}

/// What the configuration says, as a plan; `bsf` is the server of the same process.
///
/// # Errors
///
/// A certificate that cannot be used.
pub(super) fn plan(
    config: &Config,
    bsf: Option<Arc<Bsf>>,
    Sources { keys, pushes }: Sources,
) -> io::Result<Plan> {
    let ids = || (0_u16..).map(ListenerId);
    let mut listeners = Vec::new();
    for (id, listener) in ids().zip(&config.listeners) {
        let tls = listener.server_tls().map_err(io::Error::other)?;
        listeners.push(ListenSpec {
            id,
            side: listener.side,
            address: listener.address,
            transports: listener.transports.clone(),
            name: Arc::clone(&listener.identity),
            tls,
            psk: handshakes(listener)?,
            dtls: config::dtls::server(listener)?,
            ws: listener.ws.as_deref().cloned().map(|rules| Arc::new(WsServer::new(rules))),
        });
    }
    let client_tls = match &config.dialling {
        Some(dialling) => {
            let tls = ClientTls::new(dialling.trust.clone(), dialling.shows.as_deref());
            Some(Arc::new(tls.map_err(io::Error::other)?))
        }
        None => None,
    };
    let groups = config.peers.iter().map(|peer| Group {
        known: GroupSpec {
            addresses: if peer.by_certificate { Vec::new() } else { peer.addresses.clone() },
            identities: peer.identities.iter().map(ToString::to_string).collect(),
        },
        targets: Vec::new(),
    });
    let others = config.diameter.iter().flat_map(Diameter::domains).map(|(domain, _)| domain);
    let others = others.chain(config.nbsp.iter().flat_map(Nbsp::domains));
    let bsf_names = config.bsf.iter().map(|bsf| &bsf.name).chain(others);
    let bsf_names: Vec<String> = bsf_names.map(ToString::to_string).collect();
    let aka = match (&config.aka, &bsf) {
        (Some(aka), Some(bsf)) if config.authentication.aka => {
            let mut settings = aka_realm::Settings::new(aka.realm.clone());
            settings.algorithms.clone_from(&aka.algorithms);
            settings.max_challenges = aka.max_challenges;
            let source: Arc<dyn VectorSource> = Arc::<Bsf>::clone(bsf);
            Some((settings, source))
        }
        _ => None,
    };
    let push_infos = config.naf.as_ref().filter(|_| config.authentication.gba).and_then(|naf| {
        let local = bsf.clone().filter(|_| config.bsf.is_some());
        let own = local.map(|bsf| Arc::new(LocalNaf::new(bsf, &naf.fqdn)) as Arc<dyn PushServer>);
        let servers: Arc<dyn PushServer> = Arc::new(PushServers::new(pushes, own)?);
        Some((NafId::new(&naf.fqdn, UaId::PUSH_LAYER), servers))
    });
    let naf = match (&config.naf, keys) {
        (Some(naf), Some(source)) if config.authentication.gba => {
            let ua = naf.ua_ids.first().copied().unwrap_or(UaId::SIP_DIGEST);
            let names = bsf_names.iter().map(|name| Arc::from(name.as_str()));
            let takes_passwords = naf.gba_digest;
            let source: Arc<dyn KeyServer> =
                if takes_passwords { source } else { Arc::new(OfCards(source)) };
            let source = match naf.association_lifetime {
                Some(lifetime) => Arc::new(Shortened { source, lifetime }),
                None => source,
            };
            let mut naf = Naf::new(&naf.fqdn, ua, names)
                .with_ids(Family::Locsip, &config.enablers.locsip_ids);
            if let Some(ids) = &config.enablers.cpm_ids {
                naf = naf.with_ids(Family::Cpm, ids);
            }
            if takes_passwords {
                naf = naf.with_passwords();
            }
            Some((naf, source))
        }
        _ => None,
    };
    let psk = config.listeners_with_psk().next().map(|listener| SharedKeys {
        server_name: config.naf.as_ref().map_or(&listener.identity, |naf| &naf.fqdn).clone(),
        scheme: config.psk.scheme,
        provisioned: (*config.psk.keys).clone(),
    });
    let of_listener = ids().zip(&config.listeners);
    Ok(Plan {
        listeners,
        groups: groups.collect(),
        workers: config.edge.workers,
        domains: config.edge.domains.iter().map(ToString::to_string).collect(),
        routes: routes(config),
        default_route: config.routes.default,
        rfc2543: rfc2543(config),
        aliased: aliased(config),
        accounts: config
            .authentication
            .digest
            .then(|| (config.edge.realm.clone(), Arc::clone(&config.authentication.accounts))),
        naf,
        aka,
        psk,
        bsf_names,
        bsf,
        algorithms: config.digest.algorithms.clone(),
        algorithms_of: of_listener
            .clone()
            .filter_map(|(id, listener)| Some((id, listener.algorithms.clone()?)))
            .collect(),
        sec_agree: of_listener.clone().map(|(id, listener)| (id, listener.sec_agree)).collect(),
        b2bua: of_listener
            .clone()
            .filter(|(_, listener)| listener.b2bua)
            .map(|(id, _)| id)
            .collect(),
        bridged: config.bridging.classes,
        hides: config.forward.hides,
        keep_call_id: config.bridging.keep_call_id,
        outbound_required: of_listener
            .clone()
            .filter_map(|(id, listener)| listener.outbound_required.then_some(id))
            .collect(),
        register_with_401: config.register.with_401,
        uri_strict: config.digest.uri_strict,
        algorithm_lock: config.digest.lock,
        secure_flow_anchor: config.association.secure_flow_anchor,
        principals_max: config.association.secure_flow_max_principals,
        admission: admission_of(&config.admission),
        nonces: crate::authentication::nonce::Settings {
            lifetime: config.authentication.nonce_lifetime,
            max_windows: config.authentication.max_windows,
            per_dialog: config.authentication.nonce_per_dialog,
        },
        association: association::Settings {
            max: config.association.max,
            max_per_caller: config.association.max_per_caller,
            early_max: config.association.early_max,
            max_idle: config.association.max_idle,
            location_max: config.enablers.locsip_longest,
            location_strict: config.enablers.locsip_strict,
            grace: config.association.grace,
            rekey_window: config.association.rekey_window,
            rekey_deadline: config.association.rekey_deadline,
            unsolicited: unsolicited(&config.enablers),
            same_instance: config.association.same_instance,
            bye_at_level_1: config.danger.bye_at_level_1.clone(),
            observe: config.association.observe,
            enforce: config.association.enforce.clone(),
            groups: config.peers.iter().map(|peer| Arc::clone(&peer.name)).collect(),
        },
        secret: config.cluster.secret.clone(),
        secret_overlap: config.cluster.overlap,
        reg: Reg { demands: config.enablers.reg, third_party: config.register.third_party },
        sip: config.enablers.sip.clone(),
        cpm: config.enablers.cpm.clone(),
        locsip: config.enablers.locsip.clone(),
        locsip_groups: config.enablers.locsip_groups.clone(),
        locsip_domains: config.enablers.locsip_domains.clone(),
        push: config.enablers.push.clone(),
        push_infos,
        push_profile: Arc::clone(&config.enablers.push_profile),
        push_lifetime: config.enablers.push_lifetime,
        own: own(&config.enablers),
        enablers_observe: config.enablers.observe,
        numbers: config.numbers.clone(),
        timings: config.forward.timings,
        headers: headers(&config.forward),
        path_strict: config.register.path_strict,
        route_check: config.forward.route_check,
        challenge_filter: config.forward.challenge_filter,
        mirror_tls_param: config.forward.mirror_tls_param,
        force_rport: of_listener
            .map(|(id, listener)| (id, listener.force_rport))
            .collect::<HashMap<_, _>>(),
        transactions_max: config.forward.transactions_max,
        transactions_of_flow_max: config.forward.transactions_of_flow_max,
        limits: Limits {
            unauthenticated_per_address: config.admission.connections_of_address,
            unauthenticated: config.admission.connections,
            handshakes_per_address: config.admission.handshakes_of_address,
            handshakes: config.admission.handshakes,
            of_user: config.admission.flows_of_user,
            connections: config.admission.flows,
            ..Limits::default()
        },
        client_tls,
        ..Plan::new()
    })
}

/// What the core may notify of unasked: rule 30 knows these names in small letters.
fn unsolicited(enablers: &config::Enablers) -> Vec<String> {
    enablers.sip_unsolicited.iter().map(|event| event.to_ascii_lowercase()).collect()
}

/// Classes of the operator's own, each with its one line.
fn own(enablers: &config::Enablers) -> Vec<(Vec<Line>, Own)> {
    enablers.own.iter().map(|own| (vec![own.line.clone()], own.policy.clone())).collect()
}

/// The handshakes with shared keys of a listener.
#[cfg(feature = "openssl")]
fn handshakes(listener: &config::Listener) -> io::Result<Option<Arc<PskServer>>> {
    let Some(offer) = listener.psk else { return Ok(None) };
    let server = PskServer::new(offer.cbc).map_err(io::Error::other)?;
    Ok(Some(Arc::new(if offer.tells_unknown { server.telling_unknown() } else { server })))
}

/// None: the configuration was refused if it asked for any.
#[cfg(not(feature = "openssl"))]
fn handshakes(_: &config::Listener) -> io::Result<Option<Arc<PskServer>>> {
    Ok(None)
}

fn admission_of(of: &config::Admission) -> admission::Settings {
    admission::Settings {
        flow_rate: of.flow_rate,
        answer_rate: of.answer_rate,
        failures: admission::FailureLimits {
            flow: of.flow_failures,
            address: of.address_failures,
            ban: of.ban,
            max: of.max,
        },
        max: of.max,
        ..admission::Settings::default()
    }
}

//! From a plan to a running edge: the one place where stages, sockets and keys are put together.
//!
//! Takes:   a [`Plan`]: what the configuration, or the demonstration, wants.
//! Gives:   an [`Edge`] that runs, and what may be changed while it does ([`Running`]).
//! Keeps:   nothing.
//! Refuses: addresses that cannot be bound.
//! Sources: none.

mod offline;
pub mod revocation;

use std::collections::{HashMap, HashSet};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::admission::{self, Admission};
use crate::association::{self, Associations, Origin};
use crate::authentication::digest::Hash;
use crate::authentication::sec_agree::{Agreement, Mode};
use crate::authentication::{self, Accounts, Authentication, Naf, Nonces, Offer, aka_realm, nonce};
use crate::clock;
use crate::edge::{self, Edge, EdgeSpec, GroupSpec, Watch};
use crate::enabler::numbers::Numbers;
use crate::enabler::own::{Line, Own};
use crate::enabler::{ClassSet, Enablers, Policies, Recognisers};
use crate::enabler::{cpm::Cpm, locsip::Locsip, push::Push, reg::Reg, sip::Sip};
use crate::forward::timers::Timings;
use crate::forward::{
    self, Bindings, Connections, Listener, Pushes, Resolved, Shared, Tokens, asserted,
};
use crate::gate::Gate;
use crate::identity::{Proof, Realm};
use crate::instant::WallTime;
use crate::keys::bootstrap::Bsf;
use crate::keys::naf::{CacheBounds, NafCache};
use crate::keys::psk::{ProvisionedKeys, PskKeys, PskSettings, Scheme};
use crate::keys::push::naf::{PushBounds, PushedKeys};
use crate::keys::push::{Profile, PushServer, p1::P1};
use crate::keys::{KeyServer, KeySource, NafId, VectorSource};
use crate::state::Store;
use crate::transport::key_desk::KeyDesk;
use crate::transport::tls::ClientTls;
use crate::transport::{
    BoundListener, Flow, Flows, GroupId, Limits, ListenSpec, ListenerId, Patience, Target,
    Transport,
};

/// A peer group.
#[derive(Clone, Debug)]
pub struct Group {
    /// How its members are known when they send.
    pub known: GroupSpec,
    /// Its members' addresses, if they need no resolution.
    pub targets: Vec<Target>,
}

/// Keys that handshakes are made with.
#[derive(Clone, Debug)]
pub struct SharedKeys {
    /// The name that UEs dial.
    pub server_name: Arc<str>,
    /// How bootstrapped keys for TLS up to 1.2 are made; they are taken where there is a NAF.
    pub scheme: Scheme,
    /// Keys that were carried to both ends by hand.
    pub provisioned: ProvisionedKeys,
}

/// Everything that can be said about an edge before it runs.
pub struct Plan {
    /// Listeners, in order.
    pub listeners: Vec<ListenSpec>,
    /// Peer groups, in order; their ids are their places.
    pub groups: Vec<Group>,
    /// Addresses of peers; those of `groups` if `None`.
    pub resolved: Option<Arc<dyn Resolved>>,
    /// Workers.
    pub workers: NonZeroUsize,
    /// Domains served.
    pub domains: Vec<String>,
    /// Domain to group.
    pub routes: Vec<(String, GroupId)>,
    /// The group of other domains.
    pub default_route: Option<GroupId>,
    /// Groups that may speak as RFC 2543 did.
    pub rfc2543: HashSet<GroupId>,
    /// Groups that may use the connections that we open to them.
    pub aliased: HashSet<GroupId>,
    /// Realm of plain accounts, and the accounts.
    pub accounts: Option<(Realm, Arc<Accounts>)>,
    /// The NAF, and whom it asks.
    pub naf: Option<(Naf, Arc<dyn KeyServer>)>,
    /// Names of the bootstrapping servers whose B-TIDs are taken.
    pub bsf_names: Vec<String>,
    /// The one of them in this process: who is barred there is taken back here.
    pub bsf: Option<Arc<Bsf>>,
    /// The realm of cards, and whom it asks for vectors.
    pub aka: Option<(aka_realm::Settings, Arc<dyn VectorSource>)>,
    /// Where every count of a nonce is spent, if nodes with the same `secret` take each other's nonces: rule 21 where it
    /// does not answer.
    pub counts: Option<Arc<dyn Store>>,
    /// Keys that handshakes are made with, where listeners take any.
    pub psk: Option<SharedKeys>,
    /// Whether bootstrapping is offered before accounts.
    pub naf_first: bool,
    /// Algorithms, in order.
    pub algorithms: Vec<Hash>,
    /// Algorithms of single listeners.
    pub algorithms_of: HashMap<ListenerId, Vec<Hash>>,
    /// What single listeners do about security agreements; nothing where nothing is said.
    pub sec_agree: HashMap<ListenerId, Mode>,
    /// Listeners that bridge, and do not proxy.
    pub b2bua: HashSet<ListenerId>,
    /// Classes that are bridged, whatever the listener.
    pub bridged: ClassSet,
    /// Whether Via, Record-Route and Contact of the core are kept from UEs.
    pub hides: bool,
    /// Whether a bridged dialog keeps its Call-ID and tags.
    pub keep_call_id: bool,
    /// Listeners that refuse who asks for outbound through another hop.
    pub outbound_required: HashSet<ListenerId>,
    /// Whether REGISTER is challenged with 401.
    pub register_with_401: bool,
    /// Whether digest-uris must equal the Request-URI.
    pub uri_strict: bool,
    /// Whether an account is held to the best algorithm it has used.
    pub algorithm_lock: bool,
    /// Whether evidence on a secure flow counts inside dialogs.
    pub secure_flow_anchor: bool,
    /// Most principals of one secure flow.
    pub principals_max: usize,
    /// Stage 3.
    pub admission: admission::Settings,
    /// Nonces.
    pub nonces: nonce::Settings,
    /// Stage 5.
    pub association: association::Settings,
    /// What route tokens are sealed under, if they are to outlive the process.
    pub secret: Option<Zeroizing<[u8; 32]>>,
    /// How long what a replaced secret sealed is taken.
    pub secret_overlap: Duration,
    /// Stage 6, registration.
    pub reg: Reg,
    /// Stage 6, plain SIP.
    pub sip: Sip,
    /// Stage 6, messaging.
    pub cpm: Cpm,
    /// Stage 6, location.
    pub locsip: Locsip,
    /// Peer groups of the location service.
    pub locsip_groups: Vec<GroupId>,
    /// Its domains.
    pub locsip_domains: Vec<String>,
    /// Stage 6, push.
    pub push: Push,
    /// For whom keys of associations that are pushed are, and whom to ask for them.
    pub push_infos: Option<(NafId, Arc<dyn PushServer>)>,
    /// How push info is written down, and what is wrapped.
    pub push_profile: Arc<dyn Profile>,
    /// How long an association is asked for.
    pub push_lifetime: Duration,
    /// Stage 6, classes of the operator's own: their signs and their policies.
    pub own: Vec<(Vec<Line>, Own)>,
    /// Whether stage 6 only tells of what it would refuse.
    pub enablers_observe: bool,
    /// What callers may dial.
    pub numbers: Numbers,
    /// Timers.
    pub timings: Timings,
    /// Identity and privilege headers.
    pub headers: asserted::Settings,
    /// Whether a UE must list `path`.
    pub path_strict: bool,
    /// Whether preloaded routes are judged.
    pub route_check: bool,
    /// Which challenges of UEs go no further.
    pub challenge_filter: forward::reflected::Filter,
    /// Whether `transport=tls` is mirrored.
    pub mirror_tls_param: bool,
    /// Whether UDP is answered to the source port, by listener; true where nothing is said.
    pub force_rport: HashMap<ListenerId, bool>,
    /// Most transactions of all workers.
    pub transactions_max: usize,
    /// Most unanswered transactions of one flow.
    pub transactions_of_flow_max: usize,
    /// Bounds of connections.
    pub limits: Limits,
    /// How long connections may take for what.
    pub patience: Patience,
    /// TLS towards peers.
    pub client_tls: Option<Arc<ClientTls>>,
}

impl Plan {
    /// An edge with no listeners, no peers and no keys yet; every setting at its default.
    pub fn new() -> Self {
        Self {
            listeners: Vec::new(),
            groups: Vec::new(),
            resolved: None,
            workers: NonZeroUsize::MIN,
            domains: Vec::new(),
            routes: Vec::new(),
            default_route: None,
            rfc2543: HashSet::new(),
            aliased: HashSet::new(),
            accounts: None,
            naf: None,
            bsf_names: Vec::new(),
            bsf: None,
            aka: None,
            counts: None,
            psk: None,
            naf_first: true,
            algorithms: vec![Hash::Sha256, Hash::Md5],
            algorithms_of: HashMap::new(),
            sec_agree: HashMap::new(),
            b2bua: HashSet::new(),
            bridged: ClassSet::default(),
            hides: false,
            keep_call_id: false,
            outbound_required: HashSet::new(),
            register_with_401: false,
            uri_strict: false,
            algorithm_lock: true,
            secure_flow_anchor: true,
            principals_max: 4,
            admission: admission::Settings::default(),
            nonces: nonce::Settings::default(),
            association: association::Settings::default(),
            secret: None,
            secret_overlap: Duration::from_secs(86_400),
            reg: Reg::default(),
            sip: Sip::default(),
            cpm: Cpm::default(),
            locsip: Locsip::default(),
            locsip_groups: Vec::new(),
            locsip_domains: Vec::new(),
            push: Push::default(),
            push_infos: None,
            push_profile: Arc::new(P1),
            push_lifetime: Duration::from_secs(3600),
            own: Vec::new(),
            enablers_observe: false,
            numbers: Numbers::default(),
            timings: Timings::default(),
            headers: asserted::Settings::default(),
            path_strict: false,
            route_check: true,
            challenge_filter: forward::reflected::Filter::default(),
            mirror_tls_param: true,
            force_rport: HashMap::new(),
            transactions_max: 200_000,
            transactions_of_flow_max: 500,
            limits: Limits::default(),
            patience: Patience::default(),
            client_tls: None,
        }
    }

    /// What stage 4 is told, for listeners that are bound.
    fn authentication(&self, bound: &[Arc<BoundListener>]) -> authentication::Settings {
        let mut realms = Vec::new();
        let naf = self.naf.as_ref().map(|(naf, _)| naf.clone());
        let naf_realm = naf.as_ref().map(|naf| naf.realm().to_owned());
        let account_realm = self.accounts.as_ref().map(|(realm, _)| realm.as_str().to_owned());
        let ordered =
            if self.naf_first { [naf_realm, account_realm] } else { [account_realm, naf_realm] };
        realms.extend(ordered.into_iter().flatten());
        let mut served: HashSet<String> =
            self.domains.iter().map(|d| d.to_ascii_lowercase()).collect();
        for listener in bound {
            served.insert(listener.spec.name.to_ascii_lowercase());
            served.insert(listener.local.ip().to_string());
        }
        authentication::Settings {
            offer: Offer {
                realms,
                of_passwords: naf.as_ref().and_then(|naf| naf.digest_realm().map(str::to_owned)),
                algorithms: self.algorithms.clone(),
                of_listener: self.algorithms_of.clone(),
                register_with_401: self.register_with_401,
                user_agents: self.b2bua.clone(),
                bridged: self.bridged,
            },
            account_realm: self.accounts.as_ref().map(|(realm, _)| realm.clone()),
            naf,
            aka: self.aka.as_ref().map(|(settings, _)| settings.clone()),
            agreements: self.agreements(bound),
            served,
            uri_strict: self.uri_strict,
            algorithm_lock: self.algorithm_lock,
            secure_flow_anchor: self.secure_flow_anchor,
            max_flows: 200_000,
            principals_max: self.principals_max,
        }
    }

    /// The agreements of listeners. TLS is among what a listener can do if its name can be reached by TLS.
    fn agreements(&self, bound: &[Arc<BoundListener>]) -> HashMap<ListenerId, Agreement> {
        let same_name = |one: &BoundListener, other: &BoundListener| {
            one.spec.side == other.spec.side && one.spec.name == other.spec.name
        };
        let of = |one: &Arc<BoundListener>| {
            let mode = self.sec_agree.get(&one.spec.id).copied().unwrap_or_default();
            let algorithms = self.algorithms_of.get(&one.spec.id).unwrap_or(&self.algorithms);
            let realms = self.naf.is_some() || self.accounts.is_some();
            let tls =
                bound.iter().any(|other| same_name(one, other) && other.speaks(Transport::Tls));
            Agreement::new(mode, tls, realms && algorithms.contains(&Hash::Md5))
        };
        let own: Vec<_> = bound.iter().map(of).collect();
        let beside = |(one, agreement): (&Arc<BoundListener>, &Option<Agreement>)| {
            let others = bound.iter().zip(&own).filter(|(other, _)| same_name(one, other));
            let agreement = others
                .filter_map(|(_, other)| other.as_ref())
                .fold(agreement.clone()?, Agreement::beside);
            Some((one.spec.id, agreement))
        };
        bound.iter().zip(&own).filter_map(beside).collect()
    }

    /// What stage 7 is told.
    fn forward(&self, bound: &[Arc<BoundListener>]) -> forward::Settings {
        let agreements = self.agreements(bound);
        let listener = |bound: &Arc<BoundListener>| Listener {
            id: bound.spec.id,
            side: bound.spec.side,
            name: bound.spec.name.to_string(),
            address: bound.local,
            transports: bound.spec.transports.clone(),
            force_rport: self.force_rport.get(&bound.spec.id).copied().unwrap_or(true),
            sec_agree: agreements.contains_key(&bound.spec.id),
            b2bua: self.b2bua.contains(&bound.spec.id),
            outbound_required: self.outbound_required.contains(&bound.spec.id),
        };
        forward::Settings {
            listeners: bound.iter().map(listener).collect(),
            routes: self.routes.clone(),
            default_route: self.default_route,
            domains: self.domains.iter().cloned().collect(),
            rfc2543: self.rfc2543.clone(),
            aliased: self.aliased.clone(),
            timings: self.timings,
            path_strict: self.path_strict,
            headers: self.headers.clone(),
            route_check: self.route_check,
            challenge_filter: self.challenge_filter,
            transactions_max: self.transactions_max / self.workers,
            transactions_of_flow_max: self.transactions_of_flow_max,
            mirror_tls_param: self.mirror_tls_param,
            keep_call_id: self.keep_call_id,
            bridged: self.bridged,
            hides: self.hides,
        }
    }

    /// What stage 6 is told.
    fn policies(&self) -> Policies {
        let mut policies = Policies {
            observe: self.enablers_observe,
            numbers: self.numbers.clone(),
            recognisers: Recognisers {
                locsip_groups: self.locsip_groups.clone(),
                locsip_domains: self.locsip_domains.clone(),
                routes: self.routes.clone(),
                default_route: self.default_route,
                own: Vec::new(),
            },
            reg: Arc::new(self.reg),
            sip: Arc::new(self.sip.clone()),
            cpm: Arc::new(self.cpm.clone()),
            locsip: Arc::new(self.locsip.clone()),
            push: Arc::new(self.push.clone()),
            own: Vec::new(),
        };
        for (lines, own) in &self.own {
            policies.add(lines.clone(), Arc::new(own.clone()));
        }
        policies
    }

    /// Puts the stages together for listeners that are bound.
    fn shared(
        self,
        bound: &[Arc<BoundListener>],
        keys: &Arc<NafCache>,
        flows: &Arc<Flows>,
    ) -> (Arc<Shared>, Vec<GroupSpec>) {
        let (settings, forward) = (self.authentication(bound), self.forward(bound));
        let policies = self.policies();
        let accounts = self.accounts.map(|(_, accounts)| accounts);
        let number = || u64::from_be_bytes(clock::random());
        let nonces = Nonces::new(self.nonces, &clock::random(), number(), clock::now());
        let source: Arc<dyn KeySource> = Arc::<NafCache>::clone(keys);
        let secret = self.secret.map_or_else(clock::random, |secret| *secret);
        let nonces = match &self.counts {
            Some(_) => {
                let key = Sha256::new().chain_update(b"sipward nonces 1").chain_update(secret);
                nonces.shared_under(&key.finalize().into())
            }
            None => nonces,
        };
        let associations = Associations::new(self.association, clock::random(), number());
        let gate = Gate {
            admission: Admission::new(self.admission),
            authentication: Authentication::new(
                settings,
                accounts.unwrap_or_default(),
                source,
                nonces,
                clock::random(),
            ),
            associations: Arc::new(associations.sealed_with(secret)),
            enablers: Enablers::new(policies, 1_000_000),
            tag_key: clock::random(),
        };
        let (known, targets): (Vec<_>, Vec<_>) =
            self.groups.into_iter().map(|group| (group.known, Arc::new(group.targets))).unzip();
        let resolved = self.resolved.unwrap_or_else(|| Arc::new(Fixed(targets)));
        let bindings = Bindings::new(200_000, number());
        let tokens = Tokens::new(clock::random());
        let connections: Arc<dyn Connections> = Arc::<Flows>::clone(flows);
        let gate = Arc::new(gate);
        let pushes = self.push_infos.map(|(naf, _)| {
            let keys = PushedKeys::new(self.push_profile, PushBounds::default());
            Pushes { keys: Arc::new(keys), naf, lifetime: self.push_lifetime }
        });
        let shared = Shared::new(gate, bindings, tokens, resolved, connections, forward);
        let shared = shared.hiding_with(hidden(&secret)).with_pushes(pushes);
        (Arc::new(shared), known)
    }

    /// Binds the listeners and starts the edge.
    ///
    /// # Errors
    ///
    /// The address that cannot be bound; or what starting a thread gave.
    pub fn start(mut self, watch: Arc<dyn Watch>) -> io::Result<Running> {
        let (sockets, bound) = edge::bind(std::mem::take(&mut self.listeners), self.workers)
            .map_err(|why| io::Error::new(why.why.kind(), why.to_string()))?;
        let names = self.bsf_names.iter().map(String::as_str);
        let keys = Arc::new(NafCache::new(CacheBounds::default(), names));
        let source = self.naf.as_ref().map(|(_, source)| Arc::clone(source));
        let push_infos = self.push_infos.as_ref().map(|(_, source)| Arc::clone(source));
        let vectors = self.aka.as_ref().map(|(_, source)| Arc::clone(source));
        let counts = self.counts.clone();
        let generation = u32::from_be_bytes(clock::random());
        let flows = Flows::new(self.limits, generation);
        let (patience, client_tls) = (self.patience, self.client_tls.clone());
        let psk = self.psk.take().map(|shared| {
            let settings = PskSettings {
                server_name: shared.server_name,
                scheme: shared.scheme,
                keys: source.as_ref().map(|_| Arc::<NafCache>::clone(&keys) as Arc<dyn KeySource>),
                decoy: clock::random(),
            };
            Arc::new(PskKeys::new(settings, shared.provisioned))
        });
        let bsf = self.bsf.take();
        let (shared, groups) = self.shared(&bound, &keys, &flows);
        let edge = Edge::start(EdgeSpec {
            sockets,
            listeners: bound,
            groups,
            shared: Arc::clone(&shared),
            flows: Arc::clone(&flows),
            patience,
            client_tls,
            keys: Arc::clone(&keys),
            key_source: source.unwrap_or_else(|| Arc::<NafCache>::clone(&keys)),
            vectors,
            counts,
            push_infos,
            psk: psk.clone(),
            watch,
        })?;
        Ok(Running { edge, shared, keys, psk, flows, bsf })
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

/// An edge that runs.
#[derive(Debug)]
pub struct Running {
    /// Its threads.
    pub edge: Edge,
    /// What its workers share.
    pub shared: Arc<Shared>,
    /// NAF keys that are known.
    pub keys: Arc<NafCache>,
    /// Keys that handshakes are made with.
    pub psk: Option<Arc<PskKeys>>,
    /// Its connections.
    pub flows: Arc<Flows>,
    /// The bootstrapping server of the same process.
    pub bsf: Option<Arc<Bsf>>,
}

impl Connections for Flows {
    fn is_open(&self, flow: &Flow) -> bool {
        self.is_open(flow)
    }
}

impl Running {
    /// Where handshakes elsewhere get the keys of ours.
    pub fn desk(&self) -> Option<KeyDesk> {
        self.psk.as_ref().map(|keys| self.edge.desk(Arc::clone(keys)))
    }

    /// Forgets secrets whose overlap is over.
    pub fn sweep_secrets(&self, wall: WallTime) {
        self.shared.gate.associations.sweep_secrets(wall);
        self.shared.topology.sweep(wall);
    }

    /// Puts other accounts in the place of the present ones, and gives those back. Who has none any more is known on no
    /// flow, and his dialogs end. Who has another secret is known on no flow either, until he proves that one.
    pub fn replace_accounts(&self, accounts: &Arc<Accounts>) -> Arc<Accounts> {
        let gate = &self.shared.gate;
        let before = gate.authentication.replace_accounts(Arc::clone(accounts));
        gate.authentication.flows().take_back(|caller| {
            caller.principal.proof == Proof::Account && !accounts.still_has(caller, &before)
        });
        let gone = |origin: &Origin, _| {
            let owner = &origin.owner;
            owner.proof == Proof::Account && !accounts.has_principal(owner)
        };
        gate.associations.revoke(gone, clock::now());
        before
    }

    /// Puts the policy of another plan in the place of the present one. Listeners, peers, workers, sources of keys
    /// and the sizes of tables stay as they were planned first, and everything that the stages hold stays too; so do the
    /// nonces that nodes share, until a restart.
    pub fn replace_policy(&self, plan: &Plan) {
        let (gate, bound) = (&self.shared.gate, self.edge.listeners());
        gate.admission.replace_settings(plan.admission);
        gate.authentication.nonces().replace_settings(plan.nonces, clock::now());
        gate.authentication.replace_settings(plan.authentication(bound));
        if let Some((_, accounts)) = &plan.accounts {
            self.replace_accounts(accounts);
        }
        if let (Some(psk), Some(shared)) = (&self.psk, &plan.psk) {
            psk.replace(shared.provisioned.clone());
            self.edge.keys_taken_back();
        }
        if let Some(secret) = &plan.secret {
            let until = clock::now().wall + plan.secret_overlap;
            gate.associations.replace_secret(secret, until);
            self.shared.topology.replace(&hidden(secret), until);
        }
        gate.associations.replace_settings(plan.association.clone());
        gate.enablers.replace_policies(plan.policies());
        self.shared.replace_settings(plan.forward(bound));
    }
}

/// What stands behind the edge is sealed under this.
fn hidden(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"sipward topology").chain_update(secret).finalize().into()
}

/// Peers whose addresses are written down.
struct Fixed(Vec<Arc<Vec<Target>>>);

impl Resolved for Fixed {
    fn targets(&self, group: GroupId) -> Arc<Vec<Target>> {
        self.0.get(usize::from(group.0)).cloned().unwrap_or_default()
    }
}

//! Stage 7, forward: the request goes on, and its responses come back.
//!
//! Takes:   [`Permitted`](crate::enabler::Permitted), responses, the passing of time, failures of transport.
//! Gives:   octets to send, each with its [`Destination`].
//! Keeps:   transactions and their timers, by worker; registrations, by node; each bounded.
//! Refuses: what cannot be routed; a URI that a UE wrote is never resolved, it only picks a route.
//! Sources: RFC 3261 sections 16 and 17; RFC 3327; RFC 5626 section 5; RFC 5658; `PX`, `RR`, `RG`, `TX`, `VIA`.

pub mod asserted;
pub mod b2bua;
pub mod bindings;
mod bridging;
pub(crate) mod context;
mod ending;
mod line;
mod lingering;
pub mod outgoing;
pub mod precheck;
pub mod proxy;
mod recorded;
pub mod reflected;
mod requests;
pub mod responses;
pub mod resting;
pub mod returning;
pub mod route;
pub mod session;
mod table;
pub mod timers;
pub mod token;
pub mod topology;
pub mod transaction;
mod trial;
mod wrapping;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

pub use bindings::{Binding, Bindings};
pub use precheck::{Check, Ticket};
pub use proxy::Proxy;
pub use resting::Resting;
pub use token::Tokens;
pub use topology::Topology;
pub use wrapping::Pushes;

use crate::association::trial::Twins;
use crate::enabler::ClassSet;
use crate::gate::Gate;
use crate::transport::{Flow, GroupId, ListenerId, Side, Target, Transport};
use crate::wire::Uri;
use crate::wire::uri::{Scheme, host_address};
use timers::Timings;

/// Where octets are to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Back on a flow.
    Flow(Flow),
    /// To a server, on a connection of ours where the transport has connections.
    Target(Target),
}

impl Destination {
    /// How octets travel to it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Flow(flow) => flow.transport,
            Self::Target(target) => target.transport,
        }
    }
}

/// Octets to send.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where.
    pub to: Destination,
    /// What.
    pub octets: Bytes,
}

/// One listener, as Via and Record-Route name it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its place.
    pub id: ListenerId,
    /// Its face.
    pub side: Side,
    /// The name in its certificate; in Via and Record-Route.
    pub name: String,
    /// Its bound address.
    pub address: SocketAddr,
    /// What it speaks.
    pub transports: Vec<Transport>,
    /// Whether UDP is answered to the source port even without `rport` (`VIA-04`).
    pub force_rport: bool,
    /// Whether security agreements are made here, so that `sec-agree` is an extension we have.
    pub sec_agree: bool,
    /// Whether what comes or goes here is bridged, not proxied.
    pub b2bua: bool,
    /// Whether a flow that came through another hop is refused to who asks for outbound (rule 13).
    pub outbound_required: bool,
}

/// What stage 7 is told. A reload puts another one in its place.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Listeners, by [`ListenerId`].
    pub listeners: Vec<Listener>,
    /// Request-URI domain to peer group; compared without case.
    pub routes: Vec<(String, GroupId)>,
    /// The group of other domains; `None` refuses them.
    pub default_route: Option<GroupId>,
    /// Domains served here.
    pub domains: HashSet<String>,
    /// Peer groups that may send branches without cookie (`TX-08`).
    pub rfc2543: HashSet<GroupId>,
    /// Peer groups that may use the connections that we open to them, as our Via tells them (`CR-07`).
    pub aliased: HashSet<GroupId>,
    /// Timers.
    pub timings: Timings,
    /// Whether a UE that does not list `path` is refused (`RG-04`).
    pub path_strict: bool,
    /// Identity and privilege headers.
    pub headers: asserted::Settings,
    /// Whether a preloaded Route from a UE is judged (`PX-09`).
    pub route_check: bool,
    /// Which challenges of UEs go no further (rule 32).
    pub challenge_filter: reflected::Filter,
    /// Most transactions of one worker.
    pub transactions_max: usize,
    /// Most unanswered transactions of one flow.
    pub transactions_of_flow_max: usize,
    /// Whether a UE's own `transport=tls` is mirrored in Record-Route (`RR-04`).
    pub mirror_tls_param: bool,
    /// Whether a bridged dialog has the same Call-ID and tags on both legs.
    pub keep_call_id: bool,
    /// Classes that are bridged, whatever the listener.
    pub bridged: ClassSet,
    /// Whether Via, Record-Route and Contact of the core are kept from UEs.
    pub hides: bool,
}

/// Addresses of peer groups, found by resolution.
///
/// What an attacker gains if an implementation errs: signalling of all callers, on UDP and TCP; on TLS nothing,
/// since the name is checked against the group's.
pub trait Resolved: Send + Sync {
    /// The addresses of a group's members, in the order in which they are to be tried.
    fn targets(&self, group: GroupId) -> Arc<Vec<Target>>;
}

/// Which connections are open.
///
/// What an attacker gains if an implementation errs: nothing; a request is tried on a closed connection first.
pub trait Connections: Send + Sync {
    /// Whether the connection of a flow is open.
    fn is_open(&self, flow: &Flow) -> bool;
}

/// What all workers share.
pub struct Shared {
    /// Stages 3 to 6.
    pub gate: Arc<Gate>,
    /// Registrations.
    pub bindings: Bindings,
    /// Flow tokens.
    pub tokens: Tokens,
    /// What is kept from UEs, where that is asked for.
    pub topology: Topology,
    /// Addresses of peers.
    pub resolved: Arc<dyn Resolved>,
    /// Connections.
    pub connections: Arc<dyn Connections>,
    /// Servers that asked for a pause.
    pub resting: Resting,
    /// Bridged requests outside dialogs that are under way.
    pub ongoing: b2bua::Ongoing,
    /// What is pushed to UEs without a secure flow is wrapped with; `None`: it does not go.
    pub pushes: Option<Pushes>,
    settings: RwLock<Arc<Settings>>,
    /// How often they were replaced.
    version: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("bindings", &self.bindings.len()).finish_non_exhaustive()
    }
}

impl Shared {
    /// What all workers share.
    pub fn new(
        gate: Arc<Gate>,
        bindings: Bindings,
        tokens: Tokens,
        resolved: Arc<dyn Resolved>,
        connections: Arc<dyn Connections>,
        settings: Settings,
    ) -> Self {
        let settings = RwLock::new(Arc::new(settings));
        let resting = Resting::default();
        let (version, ongoing) = (AtomicU64::new(0), b2bua::Ongoing::default());
        let pushes = None;
        let topology = Topology::new(tokens.other_secret());
        Self {
            gate,
            bindings,
            tokens,
            topology,
            resolved,
            connections,
            resting,
            ongoing,
            pushes,
            settings,
            version,
        }
    }

    /// The same, which wraps what it may not send in the clear.
    #[must_use]
    pub fn with_pushes(self, pushes: Option<Pushes>) -> Self {
        Self { pushes, ..self }
    }

    /// The same, with what is kept from UEs sealed under `secret`, which outlives this process.
    #[must_use]
    pub fn hiding_with(mut self, secret: [u8; 32]) -> Self {
        self.topology = Topology::new(secret);
        self
    }

    /// The same over that of `of`: it knows what that knows, and changes nothing of it.
    pub(crate) fn trial(of: &Arc<Self>, twins: &Arc<Twins>) -> Self {
        Self {
            gate: Arc::new(Gate::trial(&of.gate, twins)),
            bindings: Bindings::trial(of),
            tokens: of.tokens.twin(),
            topology: of.topology.twin(),
            resolved: Arc::clone(&of.resolved),
            connections: Arc::clone(&of.connections),
            resting: of.resting.twin(),
            ongoing: of.ongoing.trial(),
            pushes: of.pushes.as_ref().map(Pushes::twin),
            settings: RwLock::new(of.settings()),
            version: AtomicU64::new(of.version()),
        }
    }

    /// Whether a flow may still lead somewhere: datagrams always may.
    pub fn is_open(&self, flow: &Flow) -> bool {
        flow.connection.is_none() || self.connections.is_open(flow)
    }

    /// The settings now; a request keeps those it began with.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the settings were replaced: who keeps a copy of them looks here.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Puts other settings in the place of the present ones.
    pub fn replace_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl Settings {
    /// A listener.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(id.0))
    }

    /// The listener that speaks `transport` on `side`.
    pub fn facing(&self, side: Side, transport: Transport) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|listener| listener.side == side && listener.transports.contains(&transport))
    }

    /// Whether a listener makes security agreements.
    pub fn agrees(&self, id: ListenerId) -> bool {
        self.listener(id).is_some_and(|listener| listener.sec_agree)
    }

    /// Whether a URI names this edge: a listener's name or address, and its port.
    pub fn is_own(&self, uri: &Uri<'_>) -> bool {
        if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
            return false;
        }
        let address = OnceCell::new();
        self.listeners.iter().any(|listener| {
            let named = uri.host().eq_ignore_ascii_case(listener.name.as_bytes());
            let addressed = !named
                && *address.get_or_init(|| host_address(uri.host())) == Some(listener.address.ip());
            match uri.port() {
                Some(port) => (named || addressed) && port == listener.address.port(),
                None => named || addressed && is_default_port(listener),
            }
        })
    }

    /// Whether a host is a domain served here, or this edge itself.
    pub fn serves(&self, host: &[u8]) -> bool {
        let host = host.strip_suffix(b".").unwrap_or(host);
        let is = |name: &str| host.eq_ignore_ascii_case(name.as_bytes());
        self.domains.iter().any(|domain| is(domain))
            || self.listeners.iter().any(|listener| is(&listener.name))
    }

    /// The peer group of a domain.
    pub fn route(&self, host: &[u8]) -> Option<GroupId> {
        let host = host.strip_suffix(b".").unwrap_or(host);
        self.routes
            .iter()
            .find(|(domain, _)| host.eq_ignore_ascii_case(domain.as_bytes()))
            .map(|(_, group)| *group)
            .or(self.default_route)
    }
}

fn is_default_port(listener: &Listener) -> bool {
    listener.transports.iter().any(|speaks| speaks.default_port() == listener.address.port())
}

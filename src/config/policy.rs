//! Configuration, policy: `[admission]`, `[forward]`, `[telemetry]` and `[danger]`.
//!
//! Takes:   the tables as written.
//! Gives:   bounds, rates and modes, each with the default that stands here.
//! Keeps:   nothing.
//! Refuses: bounds that would not work, pages for everybody to read, a hidden core where signed URIs may not differ.
//! Sources: RFC 3261 sections 16 and 17; `TX-01`, `PX-09`, `PX-14`, `RR-04`, `ID`; V-73, V-92, V-151.

use std::net::SocketAddr;
use std::time::Duration;

use super::listen::Listener;
use super::raw::{Section, Spot};
use crate::admission::Rate;
use crate::forward::reflected::Filter;
use crate::forward::timers::Timings;
use crate::telemetry;
use crate::transport::Side;

/// What one source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Requests of one flow on the UE side.
    pub flow_rate: Rate,
    /// Answers to unverified UDP sources of one /24 or /48.
    pub answer_rate: Rate,
    /// Failures of one flow.
    pub flow_failures: Rate,
    /// Failures of one address.
    pub address_failures: Rate,
    /// How long a flow over its limit is not listened to.
    pub ban: Duration,
    /// Most flows, networks and sources remembered, each.
    pub max: usize,
    /// Most connections that nobody authenticated on, of one address or /64.
    pub connections_of_address: usize,
    /// Most of them in all.
    pub connections: usize,
    /// Most handshakes of TLS and WebSocket under way at once, of one address or /64.
    pub handshakes_of_address: usize,
    /// Most of them in all.
    pub handshakes: usize,
    /// Most connections of one user whom a key or a certificate proves.
    pub flows_of_user: usize,
    /// Most connections in all, either direction.
    pub flows: usize,
}

/// How requests travel on.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Timers T1, T2, T4 and C.
    pub timings: Timings,
    /// Most transactions of this node.
    pub transactions_max: usize,
    /// Most unanswered transactions of one flow.
    pub transactions_of_flow_max: usize,
    /// Whether a preloaded Route from a UE is judged.
    pub route_check: bool,
    /// Which challenges of UEs go no further.
    pub challenge_filter: Filter,
    /// Whether a UE's own `transport=tls` is mirrored in Record-Route.
    pub mirror_tls_param: bool,
    /// Whether Via, Record-Route and Contact of the core are kept from UEs.
    pub hides: bool,
    /// Whether a From that is not the caller's is refused in every request, not in MESSAGE and REGISTER alone.
    pub from_check_all: bool,
    /// Whether P-Asserted-Identity goes out to UEs where Privacy does not forbid it.
    pub pai_to_ue: bool,
    /// Whether History-Info and Diversion of a UE are kept.
    pub keep_history: bool,
    /// Further header names not taken from a UE; a `*` at the end stands for anything.
    pub strip_from_ue: Vec<String>,
}

/// What is told of a running edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Where `/metrics` and `/healthz` are served.
    pub metrics: Option<SocketAddr>,
    /// What is logged, as `tracing` filters say it.
    pub log: String,
    /// Whether logs are JSON.
    pub json: bool,
}

/// What weakens security, and is written down for that reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Danger {
    /// The page of counters may be served beyond loopback.
    pub metrics_beyond_loopback: bool,
    /// The BSF takes responses that cover no body.
    pub bsf_accepts_auth: bool,
    /// The BSF tells which names are its subscribers.
    pub bsf_reveals_unknown: bool,
    /// What CPIM wraps may be in anybody's name.
    pub cpim_from_anyone: bool,
    /// Diameter peers may be linked in the clear.
    pub diameter_in_clear: bool,
    /// Accounts, and beginnings of User-Agent, whose BYE needs no more than the address that they registered from.
    pub bye_at_level_1: Vec<String>,
}

/// Reads `[admission]`.
pub(super) fn admission(root: &mut Section<'_>) -> Admission {
    let mut section = root.table("admission");
    let mut failures = section.table("failures");
    let second = Duration::from_secs(1);
    let flow_failures = failures.or("flow", Rate::per_minute(10));
    let address_failures = failures.or("address", Rate::per_minute(100));
    let ban = failures.within("ban", second * 600, second..=second * 86_400);
    failures.finish();
    let admission = Admission {
        flow_rate: section.or("flow_rate", Rate::per_second(1000)),
        answer_rate: section.or("answer_rate", Rate::per_second(20)),
        flow_failures,
        address_failures,
        ban,
        max: section.within("max", 200_000, 1000..=10_000_000),
        connections_of_address: section.within("connections_of_address", 100, 1..=100_000),
        connections: section.within("connections", 20_000, 1..=1_000_000),
        handshakes_of_address: section.within("handshakes_of_address", 32, 1..=100_000),
        handshakes: section.within("handshakes", 4000, 1..=1_000_000),
        flows_of_user: section.within("flows_of_user", 100, 1..=100_000),
        flows: section.within("flows", 200_000, 1..=10_000_000),
    };
    section.finish();
    admission
}

/// Reads `[forward]` and `[record_route]`; `uri_strict` is what Digest asks of its URIs.
pub(super) fn forward(root: &mut Section<'_>, uri_strict: bool, listeners: &[Listener]) -> Forward {
    let mut section = root.table("forward");
    let notes = section.notes();
    let millis = Duration::from_millis;
    let place = section.place_of("t1");
    let (t1, t2, t4) = (
        section.within("t1", millis(500), millis(10)..=millis(10_000)),
        section.within("t2", millis(4000), millis(10)..=millis(60_000)),
        section.within("t4", millis(5000), millis(10)..=millis(60_000)),
    );
    let timings = Timings::new(t1, t2, t4).unwrap_or_else(|| {
        let why = "retransmissions begin at T1 and slow down to T2 (RFC 3261 section 17.1.2.2)";
        notes.problem(&place, "does not fit t2 and t4", why, "\"500ms\"");
        Timings::default()
    });
    let least = Timings::C_OVER + Duration::from_secs(1);
    let timer_c = section.within("timer_c", timings.c(), least..=Duration::from_secs(3600));
    let timings = timings.with_c(timer_c).unwrap_or(timings);
    let transactions_max = section.within("transactions_max", 200_000, 16..=10_000_000);
    let transactions_of_flow_max = section.within("transactions_of_flow_max", 500, 1..=1_000_000);
    let route_place = section.place_of("route_check");
    let route_check = section.word("route_check", &[("on", true), ("off", false)]);
    if !route_check {
        let why = "callers choose by which servers their requests travel (PX-09)";
        notes.warn(&route_place, "takes any Route from UEs", why, "route_check = \"on\"");
    }
    let filter_place = section.place_of("challenge_filter");
    let filters = [("own-realms", Filter::OwnRealms), ("all", Filter::All), ("off", Filter::Off)];
    let challenge_filter = section.word("challenge_filter", &filters);
    if challenge_filter == Filter::Off {
        let why = "who is called may ask the caller for his credentials in our name (rule 32)";
        let fix = "challenge_filter = \"own-realms\"";
        notes.warn(&filter_place, "takes any challenge from UEs", why, fix);
    }
    let topology_place = section.place_of("topology");
    let hides = section.word("topology", &[("shown", false), ("tokens", true)]);
    if hides && uri_strict {
        let why = "inside a dialog UEs sign the URI that they were shown, and it is another than what it stands for";
        let what = "does not fit digest.uri_check = \"strict\"";
        notes.problem(&topology_place, what, why, "\"shown\"");
    }
    let mut facing = listeners.iter().filter(|listener| listener.side == Side::Ue).peekable();
    if hides && facing.peek().is_some() && facing.all(|listener| listener.b2bua) {
        let why =
            "every listener for devices has mode = \"b2bua\", which shows nothing of the core";
        notes.warn(&topology_place, "changes nothing", why, "topology = \"shown\"");
    }
    let from_check_all = section.word("from_check", &[("message", false), ("refuse", true)]);
    let pai_to_ue = section.or("pai_to_ue", true);
    let keep_history = section.word("history", &[("remove", false), ("keep", true)]);
    let strip_from_ue = section.maybe::<Vec<String>>("strip_from_ue").map(|spot| {
        let token = |name: &String| {
            let name = name.strip_suffix('*').unwrap_or(name);
            !name.is_empty()
                && name.bytes().all(|o| o.is_ascii_alphanumeric() || b"-.!%_+~".contains(&o))
        };
        if let Some(bad) = spot.value.iter().find(|name| !token(name)) {
            let what = format!("holds {bad:?}, which is no header name");
            notes.problem(
                &spot.place,
                &what,
                "a * at the end stands for anything",
                "[\"X-Inside-*\"]",
            );
        }
        spot.value
    });
    section.finish();
    let mut record_route = root.table("record_route");
    let mirror_tls_param = record_route.word("tls_param", &[("mirror", true), ("never", false)]);
    record_route.finish();
    Forward {
        timings,
        transactions_max,
        transactions_of_flow_max,
        route_check,
        challenge_filter,
        mirror_tls_param,
        hides,
        from_check_all,
        pai_to_ue,
        keep_history,
        strip_from_ue: strip_from_ue.unwrap_or_default(),
    }
}

/// Reads `[danger]`: every switch that is on is warned of.
pub(super) fn danger(root: &mut Section<'_>) -> Danger {
    let mut section = root.table("danger");
    let bare = section.maybe::<Vec<String>>("bye_at_level_1").map(|Spot { value, place }| {
        if value.iter().any(|name| name.trim().is_empty()) {
            let why = "it would be the beginning of every name";
            section.notes().problem(&place, "holds an empty name", why, "[\"OldPhone/1\"]");
        } else if !value.is_empty() {
            let why = "whoever sends from the address of such a phone ends its calls";
            section.notes().warn(&place, "weakens security", why, "bye_at_level_1 = []");
        }
        value
    });
    let mut switch = |key: &'static str, why: &'static str| {
        let Some(Spot { value, place }) = section.maybe::<bool>(key) else { return false };
        if value {
            section.notes().warn(&place, "weakens security", why, &format!("{key} = false"));
        }
        value
    };
    let danger = Danger {
        metrics_beyond_loopback: switch(
            "metrics_beyond_loopback",
            "whoever reaches the page learns how much goes on and what is refused",
        ),
        bsf_accepts_auth: switch(
            "bsf_accepts_auth",
            "responses on Ub cover no body (TS 24.109 clause 4.3 asks for auth-int)",
        ),
        bsf_reveals_unknown: switch(
            "bsf_reveals_unknown",
            "anybody can ask which names are subscribers",
        ),
        bye_at_level_1: bare.unwrap_or_default(),
        cpim_from_anyone: switch(
            "cpim_from_anyone",
            "with enabler.cpm.cpim_from = \"off\", messages show whatever sender their sender likes",
        ),
        diameter_in_clear: switch(
            "diameter_in_clear",
            "keys and vectors cross the network in the clear where diameter.peer.tls = false (SEC-002)",
        ),
    };
    section.finish();
    danger
}

/// Reads `[telemetry]`.
pub(super) fn telemetry(root: &mut Section<'_>, danger: &Danger) -> Telemetry {
    let mut section = root.table("telemetry");
    let notes = section.notes();
    let metrics = section.maybe::<SocketAddr>("metrics").map(|Spot { value, place }| {
        if !value.ip().is_loopback() && !danger.metrics_beyond_loopback {
            let why =
                "the page is for this machine; danger.metrics_beyond_loopback = true opens it";
            let fix = format!("\"127.0.0.1:{}\"", value.port());
            notes.problem(&place, "is not on loopback", why, &fix);
        }
        value
    });
    let log = section.maybe::<String>("log").map(|spot| {
        if let Err(error) = telemetry::log::check(&spot.value) {
            notes.problem(&spot.place, "is no filter", error, "\"info\"");
        }
        spot.value
    });
    let json = section.or("json", false);
    section.finish();
    Telemetry { metrics, log: log.unwrap_or_else(|| "info".into()), json }
}

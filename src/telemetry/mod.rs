//! Telemetry: what is told of a running edge, and nothing that names or proves anybody.
//!
//! Takes:   decisions and faults, as [`Watch`] brings them; gauges, as closures to ask when a page is asked for.
//! Gives:   counters with closed label sets, printed for Prometheus; debug events for decisions; warnings when
//!          trouble begins and when it ends.
//! Keeps:   one number for each label that exists: methods that are not in the table share one (V-149).
//! Refuses: nothing. Keys, responses and bodies are never handed to it.
//! Sources: V-11, V-49, V-149.

pub mod episode;
pub mod log;
#[cfg(feature = "http")]
pub mod page;
pub mod redact;
pub mod trace;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use metrics::{Counter, Gauge, Label};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use episode::Episode;
pub use redact::Redacted;

use crate::authentication::Kind;
use crate::clock;
use crate::edge::{Fault, Watch};
use crate::instant::Instant;
use crate::journey::{Decision, Outcome};
use crate::refusal::Refusal;
use crate::transport::{DialError, Side, Target};
use crate::wire::Method;

/// Methods that have a label of their own, and the one for all others, in the order of [`Method`].
const METHODS: [Method; 15] = [
    Method::Ack,
    Method::Bye,
    Method::Cancel,
    Method::Info,
    Method::Invite,
    Method::Message,
    Method::Notify,
    Method::Options,
    Method::Prack,
    Method::Publish,
    Method::Refer,
    Method::Register,
    Method::Subscribe,
    Method::Update,
    Method::Other,
];
const KINDS: [Kind; 6] =
    [Kind::Channel, Kind::Digest, Kind::SecureFlow, Kind::Registered, Kind::Peer, Kind::None];
const SIDES: [&str; 2] = ["ue", "core"];
const MODES: [&str; 2] = ["enforced", "would"];
const OUTCOMES: [&str; 6] = ["forwarded", "absorbed", "answered", "refused", "dropped", "waits"];
const FAULTS: [(Fault, &str); 5] = [
    (Fault::MailFull, "mail_full"),
    (Fault::LookupsFull, "lookups_full"),
    (Fault::SendFailed, "send_failed"),
    (Fault::Unreachable, "unreachable"),
    (Fault::Panicked, "panicked"),
];
/// The highest rule of stage 5.
const RULES: usize = 32;

/// Refusals that are our trouble or an attack, and what a log calls it: a warning when it begins and ends.
const TROUBLE: [(Refusal, &str); 7] = [
    (Refusal::Overloaded, "overload: what proves nothing is dropped"),
    (Refusal::NoTime, "overload: new dialogs are refused"),
    (Refusal::KeySourceUnavailable, "the key source does not answer"),
    (Refusal::StoreUnavailable, "the store does not answer"),
    (Refusal::TableFull, "the table of dialogs is full"),
    (Refusal::TransactionsFull, "the table of transactions is full"),
    (Refusal::TooManyFailures, "a flow fails again and again"),
];

/// The counters of one process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    requests: Vec<Counter>,
    responses: Vec<Counter>,
    outcomes: Vec<Counter>,
    evidence: Vec<Counter>,
    refusals: HashMap<&'static str, Counter>,
    alarms: Vec<Counter>,
    /// Of classes that are only observed; each made when first counted.
    would: HashMap<&'static str, OnceLock<Counter>>,
    /// Made when first counted: most of them never are.
    rules: Vec<OnceLock<Counter>>,
    faults: Vec<(Counter, Episode)>,
    trouble: Vec<Episode>,
    gauges: Mutex<Vec<(Reading, Box<Ask>)>>,
    families: Mutex<Vec<Family>>,
}

/// Numbers of one name whose labels come and go.
struct Family {
    name: &'static str,
    about: &'static str,
    ask: Box<AskAll>,
}

/// Labels, and the number that they have.
pub type Row = (Vec<(&'static str, String)>, u64);

/// Asked for all rows when a page is printed.
type AskAll = dyn Fn() -> Vec<Row> + Send + Sync;

/// Asked for a number when a page is printed.
type Ask = dyn Fn() -> u64 + Send + Sync;

enum Reading {
    Gauge(Gauge),
    /// Asked for in parts per thousand.
    Ratio(Gauge),
    Counter(Counter),
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let of =
            |name: &'static str, about: &'static str, labels: &[(&'static str, &'static str)]| {
                counter(&recorder, name, about, labels)
            };
        let by_method = |method: &Method| {
            SIDES.map(|side| {
                let labels = [("method", method.as_str()), ("side", side)];
                of("sipward_requests_total", "Requests that arrived.", &labels)
            })
        };
        let by_class = |class| {
            SIDES.map(|side| {
                let labels = [("class", class), ("side", side)];
                of("sipward_responses_total", "Responses that arrived.", &labels)
            })
        };
        let by_outcome = |outcome| {
            of("sipward_outcomes_total", "What was done with messages.", &[("outcome", outcome)])
        };
        let by_kind = |kind: Kind| {
            let about = "The strongest evidence that each request showed.";
            let labels = [("evidence", kind.as_str())];
            of("sipward_association_evidence_total", about, &labels)
        };
        let by_refusal = |name: &'static str| {
            let counter = of("sipward_refusals_total", "Messages refused.", &[("refusal", name)]);
            (name, counter)
        };
        let by_alarm = |alarm: &&'static str| {
            let about = "Times that somebody reached for what is another's.";
            of("sipward_alarms_total", about, &[("alarm", *alarm)])
        };
        let by_fault = |(_, name)| {
            let counter = of("sipward_faults_total", "What is ours to regret.", &[("fault", name)]);
            (counter, Episode::default())
        };
        Self {
            requests: METHODS.iter().flat_map(by_method).collect(),
            responses: ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"]
                .into_iter()
                .flat_map(by_class)
                .collect(),
            outcomes: OUTCOMES.into_iter().map(by_outcome).collect(),
            evidence: KINDS.into_iter().map(by_kind).collect(),
            refusals: Refusal::NAMES.iter().map(|name| by_refusal(name)).collect(),
            alarms: Refusal::ALARMS.iter().map(by_alarm).collect(),
            would: Refusal::NAMES.iter().map(|name| (*name, OnceLock::new())).collect(),
            rules: (0..(RULES + 1) * MODES.len() * METHODS.len() * SIDES.len())
                .map(|_| OnceLock::new())
                .collect(),
            faults: FAULTS.into_iter().map(by_fault).collect(),
            trouble: TROUBLE.iter().map(|_| Episode::default()).collect(),
            gauges: Mutex::default(),
            families: Mutex::default(),
            recorder,
            handle,
        }
    }

    /// A number that goes up and down, asked for when the page is printed.
    pub fn gauge(
        &self,
        name: &'static str,
        about: &'static str,
        labels: &[(&'static str, &str)],
        ask: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        use metrics::Recorder as _;
        self.recorder.describe_gauge(name.into(), None, about.into());
        let gauge = self.recorder.register_gauge(&key(name, labels), &METADATA);
        self.ask(Reading::Gauge(gauge), Box::new(ask));
    }

    /// A part of a whole, from 0 to 1, asked for in thousandths when the page is printed.
    pub fn ratio(
        &self,
        name: &'static str,
        about: &'static str,
        ask: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        use metrics::Recorder as _;
        self.recorder.describe_gauge(name.into(), None, about.into());
        let gauge = self.recorder.register_gauge(&key(name, &[]), &METADATA);
        self.ask(Reading::Ratio(gauge), Box::new(ask));
    }

    /// Numbers that go up and down, whose labels come and go: all are asked for when the page is printed. A label that
    /// is gone then is not on it.
    pub fn gauges(
        &self,
        name: &'static str,
        about: &'static str,
        ask: impl Fn() -> Vec<Row> + Send + Sync + 'static,
    ) {
        let family = Family { name, about, ask: Box::new(ask) };
        self.families.lock().unwrap_or_else(PoisonError::into_inner).push(family);
    }

    /// A number that somebody else counts, asked for when the page is printed.
    pub fn count(
        &self,
        name: &'static str,
        about: &'static str,
        labels: &[(&'static str, &'static str)],
        ask: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let counter = counter(&self.recorder, name, about, labels);
        self.ask(Reading::Counter(counter), Box::new(ask));
    }

    fn ask(&self, reading: Reading, ask: Box<Ask>) {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).push((reading, ask));
    }

    /// All numbers, as Prometheus reads them.
    pub fn render(&self) -> String {
        for (reading, ask) in &*self.gauges.lock().unwrap_or_else(PoisonError::into_inner) {
            match reading {
                #[allow(clippy::cast_precision_loss, reason = "counts of things in memory")]
                Reading::Gauge(gauge) => gauge.set(ask() as f64),
                #[allow(clippy::cast_precision_loss, reason = "thousandths")]
                Reading::Ratio(gauge) => gauge.set(ask() as f64 / 1000.0),
                Reading::Counter(counter) => counter.absolute(ask()),
            }
        }
        let mut page = self.handle.render();
        for family in &*self.families.lock().unwrap_or_else(PoisonError::into_inner) {
            family.print(&mut page);
        }
        page
    }

    /// Ends the episodes that are over, with a line each in the log. To be called every few seconds.
    pub fn tick(&self, now: Instant) {
        let faults = FAULTS.iter().map(|(_, name)| *name).zip(self.faults.iter().map(|(_, e)| e));
        let trouble = TROUBLE.iter().map(|(_, name)| *name).zip(&self.trouble);
        for (what, episode) in faults.chain(trouble) {
            if let Some(ended) = episode.ended(now) {
                let seconds = ended.lasted.as_secs();
                tracing::warn!(episode = what, times = ended.count, seconds, "ended");
            }
        }
    }

    fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refusals.get(refusal.name()) {
            counter.increment(1);
        }
        let kind = |(known, _): &(Refusal, &str)| *known == refusal;
        if let Some(at) = TROUBLE.iter().position(kind)
            && let (Some(episode), Some((_, what))) = (self.trouble.get(at), TROUBLE.get(at))
            && episode.happened(clock::mono())
        {
            tracing::warn!(episode = what, "begins");
        }
    }

    /// Counts what the class of a request would have been refused for.
    fn observed(&self, refusal: Refusal) {
        let name = refusal.name();
        let Some(cell) = self.would.get(name) else { return };
        let about = "Requests that passed because their class is only observed.";
        let make = || counter(&self.recorder, "sipward_would_total", about, &[("refusal", name)]);
        cell.get_or_init(make).increment(1);
    }

    /// Counts rule `rule`, as enforced or as one that would have been.
    fn ruled(&self, rule: u8, mode: usize, decision: &Decision) {
        let (method, side) = (method_index(decision.method), side_index(decision.side));
        let at = ((usize::from(rule) * MODES.len() + mode) * METHODS.len() + method) * SIDES.len()
            + side;
        let Some(cell) = self.rules.get(at) else { return };
        let make = || {
            let labels = [
                ("rule", RULE_NAMES.get(usize::from(rule)).copied().unwrap_or("other")),
                ("mode", MODES.get(mode).copied().unwrap_or_default()),
                ("method", decision.method.as_str()),
                ("side", SIDES.get(side).copied().unwrap_or_default()),
            ];
            let about = "Requests judged by each rule of stage 5.";
            counter(&self.recorder, "sipward_association_rules_total", about, &labels)
        };
        cell.get_or_init(make).increment(1);
    }
}

impl Family {
    /// Prints its rows in the form of the rest of the page.
    fn print(&self, page: &mut String) {
        let Self { name, about, ask } = self;
        let rows = ask();
        if rows.is_empty() {
            return;
        }
        page.push_str(&format!("# HELP {name} {about}\n# TYPE {name} gauge\n"));
        for (labels, value) in rows {
            let labels = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", quoted(text)));
            let labels = labels.collect::<Vec<_>>().join(",");
            page.push_str(&format!("{name}{{{labels}}} {value}\n"));
        }
        page.push('\n');
    }
}

/// The value of a label as it stands between quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metrics {
    /// Counts a fault; its name, if an episode begins with it.
    fn begins(&self, what: Fault) -> Option<&'static str> {
        let at = FAULTS.iter().position(|(fault, _)| *fault == what)?;
        let ((counter, episode), (_, name)) = (self.faults.get(at)?, FAULTS.get(at)?);
        counter.increment(1);
        episode.happened(clock::mono()).then_some(*name)
    }
}

impl Watch for Metrics {
    fn decided(&self, decision: &Decision) {
        let Decision { method, status, side, outcome, evidence, rule, would, .. } = *decision;
        let add = |counters: &[Counter], at: usize| {
            if let Some(counter) = counters.get(at) {
                counter.increment(1);
            }
        };
        let pair = |row: usize| row * SIDES.len() + side_index(side);
        match usize::from(status / 100) {
            0 => {
                add(&self.requests, pair(method_index(method)));
                add(&self.evidence, KINDS.iter().position(|kind| *kind == evidence).unwrap_or(0));
            }
            class => add(&self.responses, pair(class - 1)),
        }
        add(&self.outcomes, outcome_index(outcome));
        trace::decided(decision);
        if rule != 0 && status == 0 {
            self.ruled(rule, 0, decision);
        }
        if let Some(rule) = would.and_then(Refusal::rule) {
            self.ruled(rule, 1, decision);
        }
        // Whether it is refused or only observed: somebody tries.
        let refused = match outcome {
            Outcome::Refused(refusal) | Outcome::Dropped(refusal) => Some(refusal),
            _ => would,
        };
        if let Some(alarm) = refused.and_then(Refusal::alarm)
            && let Some(place) = Refusal::ALARMS.iter().position(|known| *known == alarm)
        {
            add(&self.alarms, place);
            if refused == Some(Refusal::TollPattern) {
                // Once in a period of each caller, so that no flood of it fills the log.
                let (source, method) = (decision.flow.remote.ip(), method.as_str());
                tracing::warn!(target: "audit", alarm, %source, sip.method = method, "too many costly calls");
            }
        }
        if let Some(refusal) = decision.class_would {
            self.observed(refusal);
        }
        if let Outcome::Refused(refusal) | Outcome::Dropped(refusal) = outcome {
            self.refused(refusal);
            tracing::debug!(
                sip.method = method.as_str(),
                sip.status = status,
                flow.transport = decision.flow.transport.uri_token(),
                flow.side = SIDES.get(side_index(side)).copied().unwrap_or_default(),
                auth.evidence = evidence.as_str(),
                assoc.rule = rule,
                refusal = refusal.name(),
                "{}",
                if matches!(outcome, Outcome::Dropped(_)) { "dropped" } else { "refused" },
            );
        }
    }

    fn fault(&self, what: Fault) {
        if let Some(episode) = self.begins(what) {
            tracing::warn!(episode, "begins");
        }
    }

    fn unreachable(&self, server: &Target, why: &DialError) {
        if let Some(episode) = self.begins(Fault::Unreachable) {
            let (address, transport) = (server.address, server.transport.uri_token());
            tracing::warn!(episode, server = %address, transport, %why, "begins");
        }
    }
}

const METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new("sipward", metrics::Level::INFO, None);

/// Labels need text that lives as long as the program.
const RULE_NAMES: [&str; RULES + 1] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32",
];

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> metrics::Key {
    let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
    metrics::Key::from_parts(name, labels.collect::<Vec<_>>())
}

fn counter(
    recorder: &PrometheusRecorder,
    name: &'static str,
    about: &'static str,
    labels: &[(&'static str, &'static str)],
) -> Counter {
    use metrics::Recorder as _;
    recorder.describe_counter(name.into(), None, about.into());
    let counter = recorder.register_counter(&key(name, labels), &METADATA);
    counter.increment(0);
    counter
}

fn method_index(method: Method) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1)
}

fn side_index(side: Side) -> usize {
    usize::from(side == Side::Core)
}

fn outcome_index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Forwarded => 0,
        Outcome::Absorbed => 1,
        Outcome::Answered => 2,
        Outcome::Refused(_) => 3,
        Outcome::Dropped(_) => 4,
        Outcome::Waits => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::transport::{Flow, ListenerId, Transport};

    fn decision(method: Method, status: u16, outcome: Outcome) -> Decision {
        let remote = "192.0.2.10:5060".parse().unwrap();
        let flow =
            Flow { transport: Transport::Udp, listener: ListenerId(0), remote, connection: None };
        let (side, evidence) = (Side::Ue, Kind::None);
        let (rule, would, dialog, class) = (0, None, None, None);
        let class_would = None;
        Decision {
            method,
            status,
            side,
            flow,
            outcome,
            evidence,
            rule,
            would,
            class_would,
            dialog,
            class,
        }
    }

    #[test]
    fn each_decision_moves_its_counters() {
        let metrics = Metrics::new();
        let refused = Outcome::Refused(Refusal::AssociationMismatch);
        metrics.decided(&Decision { rule: 4, ..decision(Method::Bye, 0, refused) });
        metrics.decided(&Decision {
            rule: 1,
            would: Some(Refusal::WrongSide),
            class_would: Some(Refusal::ListTooLong),
            side: Side::Core,
            ..decision(Method::Other, 0, Outcome::Forwarded)
        });
        metrics.decided(&decision(Method::Invite, 183, Outcome::Forwarded));
        metrics.fault(Fault::MailFull);
        let page = metrics.render();
        for line in [
            r#"sipward_requests_total{method="BYE",side="ue"} 1"#,
            r#"sipward_requests_total{method="OTHER",side="core"} 1"#,
            r#"sipward_responses_total{class="1xx",side="ue"} 1"#,
            r#"sipward_outcomes_total{outcome="forwarded"} 2"#,
            r#"sipward_refusals_total{refusal="AssociationMismatch"} 1"#,
            r#"sipward_refusals_total{refusal="NonceStale"} 0"#,
            r#"sipward_association_evidence_total{evidence="none"} 2"#,
            r#"sipward_alarms_total{alarm="foreign_identity"} 1"#,
            r#"sipward_alarms_total{alarm="wrong_side"} 1"#,
            r#"sipward_alarms_total{alarm="foreign_flow"} 0"#,
            r#"sipward_association_rules_total{rule="4",mode="enforced",method="BYE",side="ue"} 1"#,
            r#"sipward_association_rules_total{rule="26",mode="would",method="OTHER",side="core"} 1"#,
            r#"sipward_would_total{refusal="ListTooLong"} 1"#,
            r#"sipward_faults_total{fault="mail_full"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    /// V-149.
    #[test]
    fn the_page_does_not_grow_with_what_peers_send() {
        let metrics = Metrics::new();
        for method in METHODS {
            for rule in 0..=u8::MAX {
                for would in [None, Some(Refusal::WrongSide)] {
                    let mut one = decision(method, 0, Outcome::Forwarded);
                    (one.rule, one.would) = (rule, would);
                    metrics.decided(&one);
                }
            }
        }
        let lines = metrics.render().lines().filter(|line| line.contains("_rules_total{")).count();
        assert_eq!(lines, METHODS.len() * (RULES + 1), "V-149: 32 enforced and rule 26 observed");
        let strange = decision(Method::Other, 999, Outcome::Forwarded);
        metrics.decided(&strange);
    }

    #[test]
    fn a_rule_has_one_cell_of_its_own() {
        let metrics = Metrics::new();
        let core = Decision {
            rule: 32,
            side: Side::Core,
            ..decision(Method::Other, 0, Outcome::Forwarded)
        };
        metrics.ruled(32, 1, &core);
        let page = metrics.render();
        let line = r#"sipward_association_rules_total{rule="32",mode="would",method="OTHER",side="core"} 1"#;
        assert!(page.lines().any(|found| found == line), "{page}");
    }

    #[test]
    fn gauges_are_asked_when_the_page_is_printed() {
        let metrics = Metrics::new();
        let flows = Arc::new(AtomicU64::new(3));
        let asked = Arc::clone(&flows);
        metrics.gauge("sipward_flows", "Open flows.", &[("transport", "tls")], move || {
            asked.load(Ordering::Relaxed)
        });
        metrics.count("sipward_accepted_total", "Accepted.", &[], || 7);
        metrics.ratio("sipward_full_ratio", "Full.", || 125);
        assert!(metrics.render().contains("sipward_full_ratio 0.125\n"), "{}", metrics.render());
        assert!(metrics.render().contains("sipward_flows{transport=\"tls\"} 3\n"));
        flows.store(1, Ordering::Relaxed);
        let page = metrics.render();
        assert!(page.contains("sipward_flows{transport=\"tls\"} 1\n"), "{page}");
        assert!(page.contains("sipward_accepted_total 7\n"), "{page}");
    }

    #[test]
    fn labels_that_come_and_go_are_asked_for_too() {
        let metrics = Metrics::new();
        let rows = Arc::new(Mutex::new(vec![(vec![("of", "a \"b\" \\c".to_owned())], 7)]));
        let asked = Arc::clone(&rows);
        metrics.gauges("sipward_left", "Left.", move || asked.lock().unwrap().clone());
        let family = "# HELP sipward_left Left.\n# TYPE sipward_left gauge\n";
        let first = format!("{family}sipward_left{{of=\"a \\\"b\\\" \\\\c\"}} 7\n");
        assert!(metrics.render().contains(&first), "{}", metrics.render());
        *rows.lock().unwrap() = vec![(vec![("of", "d".to_owned()), ("at", "1".to_owned())], 8)];
        let next = format!("{family}sipward_left{{of=\"d\",at=\"1\"}} 8\n\n");
        assert!(metrics.render().ends_with(&next), "{}", metrics.render());
        rows.lock().unwrap().clear();
        assert!(!metrics.render().contains("sipward_left"));
    }
}

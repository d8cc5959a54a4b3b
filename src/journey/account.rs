//! The journey, an account: what would become of a message, stage by stage, without effect.
//!
//! 1. A journey like the worker's is made over what the edge knows: it reads that, and changes copies alone.
//! 2. The message goes through it, by the code that judges all others; what each stage lets pass is noted.
//! 3. The journey is dropped, and with it everything it changed.
//!
//! Takes:   octets, with the facts of an arrival that did not happen, the time.
//! Gives:   [`Account`].
//! Keeps:   nothing.
//! Refuses: nothing by itself.
//! Sources: `dialog-association` section 17 (`explain`).

use std::sync::Arc;

use bytes::Bytes;

use super::clue::Clue;
use super::{Action, Decision, Journey, Outcome};
use crate::admission::Admitted;
use crate::association::trial::Twins;
use crate::association::{Association, Bound, Ruling};
use crate::authentication::{Authenticated, Evidence, Kind};
use crate::forward::{Destination, Shared};
use crate::gate::{Lookup, Witness};
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow};
use crate::wire::Message;

/// What would become of a message.
#[derive(Debug, Default)]
pub struct Account {
    /// Stages that let it pass, in order, and what each found.
    pub steps: Vec<Step>,
    /// The strongest evidence of its sender, if it came so far.
    pub evidence: Option<Kind>,
    /// The dialog it is inside of, as it stood before.
    pub dialog: Option<Association>,
    /// What was decided.
    pub decision: Option<Decision>,
    /// The octets that decided.
    pub clue: Option<Clue>,
    /// The status code that goes back to its sender.
    pub answer: Option<u16>,
    /// Where it, or what it causes, goes, with the first line.
    pub onward: Vec<(Destination, String)>,
    /// What has to be looked up first.
    pub lookup: Option<Lookup>,
    /// Whether this worker holds a transaction that it is about.
    pub held: bool,
}

/// A stage that let a message pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub stage: &'static str,
    /// What it found.
    pub found: String,
}

impl Journey {
    /// What would become of a message if it came now. Nothing is kept of it, and nothing is sent.
    pub fn explain(&self, octets: Bytes, arrival: &Arrival, now: Now) -> Account {
        let parsed = Message::from_datagram(octets);
        let whole = match &parsed {
            Ok(message) => Some(message),
            Err(malformed) => malformed.rest.as_deref(),
        };
        let twins = Twins::new(&self.shared.gate);
        let shared = Arc::new(Shared::trial(&self.shared, &twins));
        let mut arrival = arrival.clone();
        arrival.channel = arrival.channel.map(|caller| caller.twin());
        let proxy = self.proxy.trial(Arc::clone(&shared), &twins, whole, &arrival);
        let key = whole.and_then(|message| proxy.key_of(message, &arrival));
        let mut trial = Self::new(shared, proxy);
        trial.waiting_keys.extend(key.filter(|key| self.waiting_keys.contains(key)));
        let associations = &self.shared.gate.associations;
        let dialog = whole.and_then(|message| associations.held(message, arrival.side));
        let held = trial.proxy.holds();
        trial.account = Some(Box::new(Account { dialog, held, ..Account::default() }));
        let (message, back) = (whole.cloned(), arrival.flow);
        match parsed {
            Ok(message) => trial.message(message, arrival, now),
            Err(malformed) => trial.malformed(&malformed, &arrival, now),
        }
        let mut account = trial.account.take().map(|account| *account).unwrap_or_default();
        while let Some(action) = trial.poll_action() {
            match action {
                Action::Decided(decision) => account.decision = Some(decision),
                Action::Ask(lookup) => account.lookup = Some(lookup),
                Action::Send(output) => account.note_sent(output.to, output.octets, &back),
                Action::Close(_) | Action::Hold(_) => {}
            }
        }
        account.clue = message.map(|message| match account.refusal() {
            Some(refusal) => Clue::of_refusal(refusal, &message),
            None => Clue::of_evidence(account.evidence, &message),
        });
        account
    }
}

impl Account {
    /// Why it goes no further, or would not if every rule were enforced.
    pub fn refusal(&self) -> Option<Refusal> {
        let decision = self.decision?;
        match decision.outcome {
            Outcome::Refused(refusal) | Outcome::Dropped(refusal) => Some(refusal),
            _ => decision.would.or(decision.class_would),
        }
    }

    /// A stage let it pass.
    pub(super) fn step(&mut self, stage: &'static str, found: String) {
        self.steps.push(Step { stage, found });
    }

    fn note_sent(&mut self, to: Destination, octets: Bytes, back: &Flow) {
        let first = octets.split(|octet| *octet == b'\r').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first).into_owned();
        let Ok(message) = Message::from_datagram(octets) else { return };
        // A response of our own goes to where its request came from, on UDP perhaps to another port.
        let returns = match &to {
            Destination::Flow(flow) => flow.remote.ip() == back.remote.ip(),
            Destination::Target(_) => false,
        };
        match message.status() {
            Some(100) => {}
            Some(status) if returns => self.answer = Some(status),
            _ => self.onward.push((to, first)),
        }
    }
}

impl Witness for Option<Box<Account>> {
    fn admitted(&mut self, admitted: &Admitted<'_>) {
        let Some(account) = self else { return };
        let class = admitted.class().as_str();
        let doubt =
            if admitted.is_doubtful() { "; its address is over the failure limit" } else { "" };
        account.step("admission", format!("class {class}{doubt}"));
    }

    fn identified(&mut self, found: &Authenticated<'_>) {
        let Some(account) = self else { return };
        account.evidence = Some(found.evidence().kind());
        let failure = match found.failure().or(found.disagreement()) {
            Some(failure) => format!("; its credentials: {}", failure.name()),
            None => String::new(),
        };
        account.step("authentication", format!("{}{failure}", told(found.evidence())));
    }

    fn bound(&mut self, bound: &Bound<'_>) {
        let Some(account) = self else { return };
        let found = match bound.ruling() {
            Ruling::Alone => "outside dialogs, and makes none".to_owned(),
            Ruling::Forms(_) => "may make a dialog".to_owned(),
            Ruling::Inside(inside) if inside.rule == 0 => {
                format!("inside dialog {}, where a rule is only observed", inside.origin.id)
            }
            Ruling::Inside(inside) => {
                format!("inside dialog {}, by rule {}", inside.origin.id, inside.rule)
            }
        };
        account.step("association", found);
    }
}

/// All evidence that a request shows.
fn told(evidence: &Evidence) -> String {
    let callers = [
        (Kind::Digest, evidence.digest.as_slice()),
        (Kind::Channel, evidence.channel.as_slice()),
        (Kind::SecureFlow, evidence.secure_flow.as_slice()),
        (Kind::Registered, evidence.registered.as_slice()),
    ];
    let each = callers.iter().flat_map(|(kind, callers)| {
        callers.iter().map(|caller| format!("{} of {:?}", kind.as_str(), caller.principal))
    });
    let peer = evidence.peer.map(|peer| {
        let by = if peer.by_certificate { "certificate" } else { "address" };
        format!("{} of group {}, by {by}", Kind::Peer.as_str(), peer.id.0)
    });
    let all: Vec<String> = each.chain(peer).collect();
    if all.is_empty() { "no evidence".into() } else { all.join(", ") }
}

//! Admin, views: what is told, in the form that programs read.
//!
//! Takes:   the edge's own records.
//! Gives:   values that print as JSON; names in them are the configuration's and the specification's own.
//! Keeps:   nothing.
//! Refuses: keys and passwords, which no view has a place for.
//! Sources: SEC_CF 1.1 SEC-001, ADM-001.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assembly::revocation::name_of;
use crate::association::dialog::{NEVER, Subscription};
use crate::association::{Association, Associations, State};
use crate::enabler::Class;
use crate::forward::Destination;
use crate::gate::Lookup;
use crate::instant::{Instant, Now};
use crate::journey::{Account, RULES, Step};
use crate::refusal::Refusal;
use crate::telemetry::{Redacted, Row};
use crate::transport::{Flow, Side};

/// How the edge stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of this program.
    pub version: String,
    /// For how many seconds it has run.
    pub seconds: u64,
    /// The file it runs by.
    pub configuration: String,
    /// `enforce`, or `observe`: whether requests inside dialogs that break a rule are refused, or counted.
    pub mode: String,
    /// 0 normal, 1 what proves nothing is dropped, 2 new dialogs are refused.
    pub load: u64,
    /// Connections open.
    pub connections: usize,
    /// Registrations through us.
    pub registrations: usize,
    /// Keys of bootstrapping servers that are known, and noes.
    pub keys: usize,
    /// Dialogs held, ended ones included.
    pub associations: usize,
    /// How many there may be.
    pub associations_max: usize,
    /// How many there are of each state.
    pub states: BTreeMap<String, u64>,
    /// What it listens on.
    pub listeners: Vec<Listening>,
    /// Its own certificates.
    pub certificates: Vec<Certificate>,
}

/// One listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listening {
    /// The name in its certificate.
    pub name: String,
    /// `ue` or `core`.
    pub side: String,
    /// Its address.
    pub address: String,
    /// What it speaks.
    pub transports: Vec<String>,
}

/// One certificate of ours.
#[derive(Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The listener that shows it; `peers` if we show it to those we dial.
    pub shown_by: String,
    /// Its place there.
    pub at: usize,
    /// Seconds until it ends.
    pub seconds_left: u64,
}

/// Some dialogs, by number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dialogs {
    /// How many fit the question.
    pub found: usize,
    /// The first of them.
    pub dialogs: Vec<Dialog>,
}

/// What was taken back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Keys that are not taken any more.
    pub keys: usize,
    /// Sessions of the edge's own bootstrapping server that are over.
    pub sessions: usize,
    /// Dialogs that can only be torn down.
    pub dialogs: usize,
}

/// One dialog.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dialog {
    /// The number of what it came of, in traces: dialogs that forked have the same.
    pub id: u64,
    /// Its Call-ID, as a keyed hash.
    pub call: String,
    /// Where it stands.
    pub state: String,
    /// Its class.
    pub class: String,
    /// The side that began it.
    pub begun_by: String,
    /// The least level of evidence.
    pub level: u8,
    /// Whether requests of the UE must come on secure flows.
    pub secure: bool,
    /// The rule that let its latest request pass, 0 before there was one.
    pub last_rule: u8,
    /// How many keys its owner has shown before this one.
    pub generation: u16,
    /// Whether there is an INVITE usage.
    pub invite: bool,
    /// The leg towards the UE.
    pub ue: Leg,
    /// The leg towards the core.
    pub core: Leg,
    /// Seconds until each subscription ends; nothing where nobody has said.
    pub subscriptions: Vec<Option<u64>>,
    /// Seconds until something of it ends by itself.
    pub seconds_left: Option<u64>,
    /// Seconds until it is over, if nothing prolongs it.
    pub session_left: Option<u64>,
    /// Seconds until its owner's key ends.
    pub key_left: Option<u64>,
}

/// One leg of a dialog. What came of peers is a keyed hash: the same for the same, of no use to guess it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leg {
    /// Who may speak on it: a principal, or a peer group by its place in the configuration.
    pub owner: String,
    /// `caller` or `callee`.
    pub role: String,
    /// Flows that lead there, the newest last; of the core's those of its group, which stand nowhere here.
    pub anchors: Vec<String>,
    /// The highest CSeq accepted from there.
    pub cseq: Option<u32>,
    /// That of the latest INVITE.
    pub invite_cseq: Option<u32>,
    /// Its Call-ID, our tag and the peer's, where the legs have ids of their own.
    pub ids: Option<[String; 3]>,
    /// Its remote target, if requests are held to one.
    pub target: Option<String>,
    /// Its route set beyond us, likewise.
    pub routes: Option<String>,
}

impl Dialog {
    pub(super) fn of(association: &Association, now: Now) -> Self {
        let origin = &association.origin;
        let left = |at: Instant| (at != NEVER).then(|| at.since(now.mono).as_secs());
        let until = |subscription: &Subscription| left(subscription.until);
        Self {
            id: origin.id,
            call: digits(origin.call),
            state: association.state.as_str().to_owned(),
            class: association.class.as_str().to_owned(),
            begun_by: side(origin.caller_side).to_owned(),
            level: origin.level,
            secure: origin.secure,
            last_rule: association.rule,
            generation: association.key.generation,
            invite: association.invite,
            ue: Leg::of(association, Side::Ue),
            core: Leg::of(association, Side::Core),
            subscriptions: association.subscriptions.iter().map(until).collect(),
            seconds_left: left(association.next_end()),
            session_left: left(association.ends),
            key_left: left(association.key.ends()),
        }
    }
}

impl Leg {
    fn of(association: &Association, at: Side) -> Self {
        let (origin, counts) = (&association.origin, association.counts(at));
        let ids = association.bridge().map(|bridge| {
            let leg = bridge.leg(at);
            let ids = [&leg.call_id, &leg.own_tag, &leg.far_tag];
            ids.map(|id| Redacted(&String::from_utf8_lossy(id)).to_string())
        });
        // Requests from the UE are held to where the core's leg leads; those from the core go to its anchors.
        let way = (at == Side::Core).then_some(association.way);
        let known = |mark: u64| Some(mark).filter(|mark| *mark != 0).map(digits);
        let (owner, anchors) = match at {
            Side::Ue => (name_of(&origin.owner), association.anchors().iter().map(flow).collect()),
            Side::Core => (format!("group {}", origin.group.0), Vec::new()),
        };
        Self {
            owner,
            role: if origin.caller_side == at { "caller" } else { "callee" }.to_owned(),
            anchors,
            cseq: counts.cseq,
            invite_cseq: counts.accepted.into_iter().flatten().next_back(),
            ids,
            target: way.and_then(|way| known(way.target)),
            routes: way.and_then(|way| known(way.routes)),
        }
    }
}

/// How many dialogs there are of each state.
pub(super) fn states(associations: &Associations) -> BTreeMap<String, u64> {
    let mut states = BTreeMap::new();
    for ((state, _), count) in associations.counts() {
        let all: &mut u64 = states.entry(state.as_str().to_owned()).or_default();
        *all = all.saturating_add(count);
    }
    states
}

/// The same for gauges, of each state and class.
pub fn rows(associations: &Associations) -> Vec<Row> {
    let row = |((state, class), count): ((State, Class), u64)| {
        let (state, class) = (state.as_str().to_owned(), class.as_str().to_owned());
        (vec![("state", state), ("class", class)], count)
    };
    let mut rows: Vec<Row> = associations.counts().into_iter().map(row).collect();
    rows.sort();
    rows
}

/// A keyed hash as it is shown.
fn digits(mark: u64) -> String {
    format!("~{mark:016x}")
}

/// What would become of a message.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// `forwarded`, `absorbed`, `answered`, `refused`, `dropped` or `waits`.
    pub outcome: String,
    /// Stages that let it pass.
    pub stages: Vec<Stage>,
    /// The strongest evidence of its sender, if it came so far.
    pub evidence: Option<String>,
    /// The dialog it is inside of.
    pub dialog: Option<Dialog>,
    /// The number of the line that decided; nothing if it is none.
    pub line: Option<usize>,
    /// That line, or what was looked for.
    pub text: String,
    /// The rule of stage 5 that decided, 0 if none did.
    pub rule: u8,
    /// What it is called.
    pub rule_name: String,
    /// Why it is refused, or would be if every rule were enforced.
    pub refusal: Option<String>,
    /// The same in a sentence.
    pub why: Option<String>,
    /// The status code that its sender gets.
    pub answer: Option<u16>,
    /// What goes on, and where.
    pub onward: Vec<String>,
    /// What has to be looked up before it can be judged.
    pub lookup: Option<String>,
}

/// A stage that let a message pass.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What it found.
    pub found: String,
}

impl Explanation {
    /// Of an account, as it stands `now`.
    pub fn of(account: Account, now: Now) -> Self {
        let refusal = account.refusal();
        let decision = account.decision;
        let rule = match decision.map_or(0, |decision| decision.rule) {
            0 => refusal.and_then(Refusal::rule).unwrap_or(0),
            rule => rule,
        };
        let stage = |Step { stage, found }: Step| Stage { name: stage.to_owned(), found };
        let onward = |(to, line): (Destination, String)| match to {
            Destination::Flow(to) => format!("{line} -> {}", flow(&to)),
            Destination::Target(to) => {
                format!("{line} -> {} {}", to.transport.uri_token(), to.address)
            }
        };
        let lookup = |lookup: Lookup| match lookup {
            Lookup::NafKey { .. } => "the key of a B-TID".to_owned(),
            Lookup::AkaVector { .. } => "a vector for a card".to_owned(),
            Lookup::NonceCount(_) => "the count of a nonce that nodes share".to_owned(),
            Lookup::PushKey { .. } => "the key of an association that is pushed".to_owned(),
        };
        let (line, text) = account.clue.map(|clue| (clue.line, clue.text)).unwrap_or_default();
        Self {
            outcome: decision.map_or("unknown", |decision| decision.outcome.as_str()).to_owned(),
            stages: account.steps.into_iter().map(stage).collect(),
            evidence: account.evidence.map(|kind| kind.as_str().to_owned()),
            dialog: account.dialog.map(|dialog| Dialog::of(&dialog, now)),
            line,
            text,
            rule,
            rule_name: RULES.get(usize::from(rule)).copied().unwrap_or_default().to_owned(),
            refusal: refusal.map(|refusal| refusal.name().to_owned()),
            why: refusal.map(why),
            answer: account.answer,
            onward: account.onward.into_iter().map(onward).collect(),
            lookup: account.lookup.map(lookup),
        }
    }
}

/// A refusal in a sentence; of octets that are no message, what is wrong with them.
fn why(refusal: Refusal) -> String {
    match refusal {
        Refusal::Malformed(fault) => format!("{} {fault:?}", refusal.about()),
        _ => refusal.about().to_owned(),
    }
}

/// A side, as the configuration writes it.
pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Ue => "ue",
        Side::Core => "core",
    }
}

fn flow(flow: &Flow) -> String {
    format!("{} {}", flow.transport.uri_token(), flow.remote)
}

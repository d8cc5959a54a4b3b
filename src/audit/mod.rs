//! The audit: attacks on a SIP server of one's own, and a report on what came of them.
//!
//! 1. A good OPTIONS at each door shows where the target speaks at all: what is tried elsewhere is not applicable.
//! 2. The cases run one after the other, each on lines of its own, at a pace that was set.
//! 3. A verdict says what was seen. Silence is a refusal, as long as the target answers a good request afterwards; if it does
//!    not, the case failed: either the target fell, or it answers us no more, and somebody has to look.
//! 4. The report has every verdict with the exchange behind it: `report`.
//!
//! Takes:   a [`Plan`].
//! Gives:   a [`Report`].
//! Keeps:   the exchange of each case, bounded.
//! Refuses: nothing; whether a target may be attacked is asked before.
//! Sources: V-01 to V-151, as the cases say.

mod call;
pub mod case;
pub mod cases;
pub mod exchange;
mod hello;
mod line;
pub mod plan;
mod probe;
#[cfg(feature = "openssl")]
mod renegotiation;
pub mod report;
mod user;

use std::rc::Rc;
use std::time::Duration;

use self::case::{Case, Finding, Judged, Over, Run, Verdict, failed, not_applicable};
use self::plan::{Door, Plan};
use self::probe::{Probe, Stage};
use self::report::{Report, Row, Spoken};
use crate::clock;

/// The longest that one case may take.
const CASE_MAX: Duration = Duration::from_secs(180);

/// A case, and where it is to be tried; nowhere if the target does not speak there.
type Try = (&'static Case, Option<Door>);

/// Which cases a plan asks for.
pub fn wanted(plan: &Plan) -> Vec<&'static Case> {
    let asked = |case: &&Case| {
        let named = plan.only.is_empty() || plan.only.iter().any(|name| name == case.name);
        let bearable = plan.disruptive || !case.disruptive;
        named && bearable && plan.groups.contains(&case.group)
    };
    cases::all().filter(asked).collect()
}

/// Runs the cases; `told` hears how many there are, and of each when it is done.
pub async fn run(plan: Plan, mut told: impl FnMut(usize, Option<&Row>)) -> Report {
    let began = clock::now().wall;
    let stage = Rc::new(Stage::new(plan));
    let mut spoken = Vec::new();
    for door in &stage.plan.doors {
        let probe = Probe { stage: Rc::clone(&stage), door: *door, usual: None };
        stage.log.take();
        let answer = probe.answers().await;
        spoken.push(Spoken { door: *door, answer, steps: stage.log.take() });
    }
    let tries = tries(&stage.plan, &spoken);
    told(tries.len(), None);
    let mut rows = Vec::with_capacity(tries.len());
    let mut lost = false;
    for (case, door) in tries {
        stage.log.take();
        let finding = match door {
            None => not_applicable(case.over.absence()),
            Some(_) if lost => not_applicable("the target answered no more when its turn came"),
            Some(door) => {
                let usual = spoken.iter().find(|spoken| spoken.door == door);
                let usual = usual.and_then(|spoken| spoken.answer);
                let probe = Probe { stage: Rc::clone(&stage), door, usual };
                let finding = judge(case, &probe).await;
                let (finding, gone) = afterwards(&probe, finding).await;
                lost = gone;
                finding
            }
        };
        let row = Row { case, door, finding, steps: stage.log.take() };
        told(rows.len(), Some(&row));
        rows.push(row);
    }
    Report { target: stage.plan.target.clone(), began, spoken, rows }
}

/// Runs a case.
async fn judge(case: &Case, probe: &Probe) -> Finding {
    if case.accounts > probe.plan().accounts.len() {
        let needed = if case.accounts == 1 { "an account" } else { "two accounts" };
        return not_applicable(format!("needs {needed} (--accounts)"));
    }
    let judged: Judged = {
        let story = async {
            match case.run {
                Run::Malformed(flaw) => cases::malformed::run(probe, flaw).await,
                Run::Credentials(forgery) => cases::digest::run(probe, *forgery).await,
                Run::Inside(intrusion) => cases::dialog::run(probe, intrusion).await,
                Run::Claim(claim) => cases::identity::run(probe, claim).await,
                Run::Relay(relay) => cases::routing::run(probe, *relay).await,
                Run::Script(script) => script(probe).await,
            }
        };
        match tokio::time::timeout(CASE_MAX, story).await {
            Ok(judged) => judged,
            Err(_) => Err(not_applicable(format!("no end after {} s", CASE_MAX.as_secs()))),
        }
    };
    judged.unwrap_or_else(|early| early)
}

/// Looks after the target where a case was met with silence, or could not be tried.
async fn afterwards(probe: &Probe, finding: Finding) -> (Finding, bool) {
    let silent = finding.seen.contains("not answered") || finding.seen.contains("closed");
    let needed = silent || finding.verdict == Verdict::NotApplicable;
    if !needed || probe.usual.is_none() {
        return (finding, false);
    }
    let log = &probe.stage.log;
    log.remark("", "does the target answer a good request now?");
    if probe.answers().await.is_some() {
        return (finding, false);
    }
    let seen = format!("{}; afterwards the target answered no good request", finding.seen);
    (failed(seen), true)
}

/// Every case at every door where it is to be tried.
fn tries(plan: &Plan, spoken: &[Spoken]) -> Vec<Try> {
    let speaks: Vec<Door> =
        spoken.iter().filter(|spoken| spoken.answer.is_some()).map(|spoken| spoken.door).collect();
    let mut tries = Vec::new();
    for case in wanted(plan) {
        let most = if case.over == Over::First { 1 } else { speaks.len() };
        let doors = speaks.iter().filter(|door| case.over.includes(door.transport)).take(most);
        let before = tries.len();
        tries.extend(doors.map(|door| (case, Some(*door))));
        if tries.len() == before {
            tries.push((case, None));
        }
    }
    tries
}

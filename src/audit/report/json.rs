//! The audit, its report for programs.
//!
//! Takes:   a [`Report`].
//! Gives:   JSON whose shape stays; what is added later is added beside.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

use serde_json::{Value, json};

use super::{Report, spoken};
use crate::audit::case::{Case, Verdict};
use crate::audit::exchange::Step;
use crate::keys::calendar::print_xml;

/// The shape that this is.
const SHAPE: u32 = 1;

/// The report.
pub fn value(report: &Report) -> Value {
    let count = |verdict| report.count(verdict);
    json!({
        "shape": SHAPE,
        "program": concat!("sipward ", env!("CARGO_PKG_VERSION")),
        "target": report.target,
        "began": print_xml(report.began),
        "summary": {
            "failed": count(Verdict::Failed),
            "passed": count(Verdict::Passed),
            "not_applicable": count(Verdict::NotApplicable),
        },
        "doors": report.spoken.iter().map(|door| json!({
            "transport": spoken(door.door.transport),
            "address": door.door.address.to_string(),
            "answer": door.answer,
            "exchange": steps(&door.steps),
        })).collect::<Vec<_>>(),
        "results": report.rows.iter().map(|row| {
            let mut result = case(row.case);
            result["over"] = json!(row.door.map(|door| spoken(door.transport)));
            result["verdict"] = json!(row.finding.verdict.as_str());
            result["seen"] = json!(row.finding.seen);
            result["exchange"] = steps(&row.steps);
            result
        }).collect::<Vec<_>>(),
    })
}

/// What a case is, without what came of it.
pub fn case(case: &Case) -> Value {
    json!({
        "case": case.name,
        "group": case.group.as_str(),
        "title": case.title,
        "threats": case.threats,
        "clause": case.clause,
        "why": case.why,
        "remedy": case.remedy,
        "accounts": case.accounts,
        "disruptive": case.disruptive,
    })
}

fn steps(steps: &[Step]) -> Value {
    let step = |step: &Step| {
        json!({
            "after_ms": u64::try_from(step.after.as_millis()).unwrap_or(u64::MAX),
            "who": step.who,
            "way": step.way.as_str(),
            "octets": step.length,
            "text": step.text,
        })
    };
    steps.iter().map(step).collect()
}

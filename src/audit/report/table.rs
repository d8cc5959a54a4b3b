//! The audit, its report for a terminal.
//!
//! Takes:   a [`Report`].
//! Gives:   a table of the rows, then what to do about those that failed.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

use std::collections::HashSet;
use std::io::{self, Write};

use super::{Report, spoken};
use crate::audit::case::Verdict;
use crate::cli::Table;

/// Prints it.
///
/// # Errors
///
/// Those of writing.
pub fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for door in &report.spoken {
        let (transport, address) = (spoken(door.door.transport), door.door.address);
        match door.answer {
            Some(status) => {
                writeln!(out, "{transport:5} {address}  answers OPTIONS with {status}")?
            }
            None => writeln!(out, "{transport:5} {address}  does not answer OPTIONS")?,
        }
    }
    writeln!(out)?;
    let mut table = Table::new(&["VERDICT", "GROUP", "CASE", "OVER", "SEEN"]);
    for row in &report.rows {
        let verdict = match row.finding.verdict {
            Verdict::Failed => "FAILED",
            verdict => verdict.as_str(),
        };
        let (group, name) = (row.case.group.as_str(), row.case.name);
        let cells = [verdict, group, name, row.over(), &row.finding.seen];
        table.row(cells.map(str::to_owned));
    }
    table.print(out)?;
    let mut told = HashSet::new();
    for row in report.rows.iter().filter(|row| row.finding.verdict == Verdict::Failed) {
        if told.insert(row.case.name) {
            let case = row.case;
            writeln!(out, "\n{}: not so: {}", case.name, case.title)?;
            writeln!(out, "    {} ({}; {})", case.why, case.clause, case.threats.join(", "))?;
            writeln!(out, "    {}", case.remedy)?;
        }
    }
    let [failed, passed, skipped] =
        [Verdict::Failed, Verdict::Passed, Verdict::NotApplicable].map(|v| report.count(v));
    writeln!(out, "\n{failed} failed, {passed} passed, {skipped} not applicable")
}

//! Instructions of one handshake, as callgrind counts them: what a busy machine does not change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::{Clients, Kind, Session};
use super::lab::{Anchor, Certificate, Folder, Plan, Transport};
use super::{edge, floor};

/// A process that runs `program`; under callgrind, which writes to `count`, if that is given.
pub(crate) fn counted(program: &Path, count: Option<&Path>) -> Command {
    let Some(count) = count else { return Command::new(program) };
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", count.display())).arg(program);
    command
}

/// Prints what one handshake of each kind takes: of the floor, and of each program.
pub(crate) fn bench(
    kinds: &[Kind],
    handshakes: usize,
    programs: &[(&'static str, PathBuf)],
    certificate: &Certificate,
    folder: &Folder,
) -> Result<(), String> {
    println!("{:34}{:10}{:>14}{:>8}", "handshake", "who", "instructions", "ratio");
    for kind in kinds.iter().copied() {
        let line = |who: &str, found: f64, ratio: f64| {
            println!("{:34}{who:10}{found:14.0}{ratio:8.2}", kind.as_str());
        };
        let start =
            |plan: &Plan, out: &Path| floor::start(kind, plan, certificate, folder, Some(out));
        let least = each(kind, handshakes, folder, start)?;
        line("floor", least, 1.0);
        for (who, program) in programs {
            let start =
                |plan: &Plan, out: &Path| edge(program, plan, certificate, folder, Some(out));
            let found = each(kind, handshakes, folder, start)?;
            line(who, found, found / least);
        }
    }
    Ok(())
}

/// Instructions of one handshake with what `start` starts: those of so many and a few, less those of the few.
fn each(
    kind: Kind,
    handshakes: usize,
    folder: &Folder,
    start: impl Fn(&Plan, &Path) -> Result<Anchor, String>,
) -> Result<f64, String> {
    const FEW: usize = 20;
    let out = folder.inner("callgrind").map_err(|error| error.to_string())?.join("out");
    let mut totals = Vec::new();
    for count in [FEW, FEW + handshakes] {
        let plan = Plan::new(Transport::Tls);
        let anchor = start(&plan, &out)?;
        let mut clients = Clients::new(kind, plan.door(), 0)?;
        for _ in 0..count {
            let session = clients.connect().map_err(|why| format!("{why}\n{}", anchor.said()))?;
            Session::leave(session);
        }
        // It is written when the process ends.
        drop(anchor);
        let text = fs::read_to_string(&out).map_err(|error| format!("no count: {error}"))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        totals.push(total.and_then(|total| total.trim().parse::<f64>().ok()).ok_or("no totals")?);
        fs::remove_file(&out).map_err(|error| error.to_string())?;
    }
    Ok((totals[1] - totals[0]) / handshakes as f64)
}

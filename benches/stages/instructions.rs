//! Instructions: the same binary again, under callgrind, which collects inside the counted calls and nowhere else.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Bench;
use crate::meter::COUNTED;

/// Fails where valgrind is not to be had, which nothing but the instructions needs.
pub(crate) fn available() -> Result<(), String> {
    let answer = Command::new("valgrind").arg("--version").output();
    match answer {
        Ok(answer) if answer.status.success() => Ok(()),
        _ => Err("--instructions wants valgrind (on Debian: apt-get install valgrind)".into()),
    }
}

/// Instructions of one operation.
pub(crate) fn count(bench: &Bench) -> Result<f64, String> {
    let file = file(bench.name)?;
    let this = std::env::current_exe().map_err(|why| format!("where this binary is: {why}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--dump-instr=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(this)
        .args(["--watched", bench.name])
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("valgrind: {why}"))?;
    if !output.status.success() {
        return Err(format!("{}: {}", bench.name, String::from_utf8_lossy(&output.stderr)));
    }
    let operations: f64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|why| format!("{}: its count of operations: {why}", bench.name))?;
    let profile = fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")))
        .and_then(|total| total.trim().parse::<f64>().ok())
        .filter(|total| *total > 0.0)
        .ok_or(format!("{}: callgrind collected nothing", bench.name))?;
    Ok(total / operations)
}

/// Where the profile goes: beside what cargo builds.
fn file(name: &str) -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("stages");
    fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    Ok(folder.join(format!("{}.callgrind", name.replace('/', "-"))))
}

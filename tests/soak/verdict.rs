//! What is judged at the end: sizes, what is left, who said how much, and whether a secret stands in any of it.

use std::fs;
use std::sync::atomic::Ordering;

use memchr::memmem;

use crate::programs::{PATIENCE, ask, metrics, sipward, written};
use crate::world::World;

/// Octets that a process may grow by, between the first fifth and the end, beside a quarter of what it had.
const ROOM: usize = 8 << 20;
/// Lines that all processes may say, beside those of each event.
const LINES: usize = 120;
const LINES_OF_EVENT: usize = 30;

/// The size of one process, from the first fifth of the run to its end.
#[derive(Debug)]
pub(crate) struct Growth {
    who: &'static str,
    sizes: Vec<usize>,
}

/// Octets of a process that are in memory.
pub(crate) fn resident(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let row = status.lines().find_map(|row| row.strip_prefix("VmRSS:")).expect("a size");
    row.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

impl Growth {
    /// Of both, where they are there.
    pub(crate) fn measure(world: &World, all: &mut Vec<Self>) {
        let edge = Some(world.edge.lock().unwrap().id());
        let bsf = world.bsf.lock().unwrap().as_ref().map(|program| program.id());
        for (who, process) in [("edge", edge), ("bsf", bsf)] {
            let Some(size) = process.map(resident) else { continue };
            match all.iter_mut().find(|one| one.who == who) {
                Some(one) => one.sizes.push(size),
                None => all.push(Self { who, sizes: vec![size] }),
            }
        }
    }

    pub(crate) fn line(&self) -> String {
        let sizes = self.sizes.iter().map(|size| (size >> 10).to_string()).collect::<Vec<_>>();
        format!("{:<12}{} kB", self.who, sizes.join(" "))
    }

    pub(crate) fn fault(&self) -> Option<String> {
        let (first, last) = (*self.sizes.first()?, *self.sizes.last()?);
        (last > first + first / 4 + ROOM).then(|| format!("memory grows: {}", self.line()))
    }
}

/// What anybody may ask the edge, and what it answers.
pub(crate) fn look(world: &World) -> (String, String) {
    let mut text = metrics(world.page);
    if world.bsf.lock().unwrap().is_some() {
        text.push_str(&metrics(world.bsf_page));
    }
    for words in
        [&["status"][..], &["status", "--json"], &["sa", "--json", "list"], &["sa", "list"]]
    {
        let mut command = sipward();
        command.current_dir(world.folder.path("")).args(words).args(["--config", "edge.toml"]);
        let (good, said) = ask(&mut command);
        assert!(good, "{words:?}: {said}");
        text.push_str(&said);
    }
    ("what the edge shows".into(), text)
}

/// Waits until nothing is left: neither connections nor registrations nor dialogs, which linger after their end.
pub(crate) fn wait_for_nobody(world: &World) {
    let deadline = world.ledger.now() + PATIENCE * 2;
    let rows = ["\"connections\":0", "\"registrations\":0", "\"associations\":0"];
    loop {
        let mut command = sipward();
        command.current_dir(world.folder.path("")).args([
            "status",
            "--json",
            "--config",
            "edge.toml",
        ]);
        let (_, said) = ask(&mut command);
        let said: String = said.chars().filter(|c| !c.is_whitespace()).collect();
        if rows.iter().all(|row| said.contains(row)) {
            return;
        }
        assert!(world.ledger.now() < deadline, "something is left: {said}");
    }
}

/// What cores have seen, that none may see.
pub(crate) fn of_core(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    for seen in world.seen() {
        for (what, count) in [
            ("credentials", &seen.with_credentials),
            ("not one asserted identity", &seen.not_one_identity),
            ("something from a stranger", &seen.strangers),
        ] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                faults.push(format!("a core saw {what} {count} times"));
            }
        }
    }
    faults
}

/// More lines than events give reason for.
pub(crate) fn talkative(said: &[(String, Vec<String>)], events: usize) -> Vec<String> {
    let count: usize = said.iter().map(|(_, lines)| lines.len()).sum();
    if count <= LINES + LINES_OF_EVENT * events {
        return Vec::new();
    }
    let last = said.iter().flat_map(|(who, lines)| {
        lines.iter().rev().take(20).map(move |line| format!("    {who}: {line}"))
    });
    std::iter::once(format!("{count} lines, after {events} events")).chain(last).collect()
}

/// Secrets that stand somewhere.
pub(crate) fn leaks(
    secrets: &[(String, Vec<u8>)],
    said: Vec<(String, Vec<String>)>,
    looks: Vec<(String, String)>,
) -> Vec<String> {
    let said = said.into_iter().map(|(who, lines)| (who, lines.join("\n")));
    let places: Vec<(String, String)> = said.chain(looks).collect();
    let mut faults = Vec::new();
    for (secret, octets) in secrets {
        for (form, octets) in written(secret, octets) {
            let found =
                places.iter().find(|(_, text)| memmem::find(text.as_bytes(), &octets).is_some());
            faults.extend(found.map(|(place, _)| format!("{form} stands in {place}")));
        }
    }
    faults
}

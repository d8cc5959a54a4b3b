//! What each stage costs: time, instructions, allocations and octets of one operation, to be compared from commit
//! to commit.
//!
//!     cargo bench --bench stages                                  time and heap of each bench
//!     cargo bench --bench stages -- journey                       of those whose names have `journey` in them
//!     cargo bench --bench stages -- --instructions                and the instructions, counted by valgrind
//!     cargo bench --bench stages -- --instructions --save FILE    the figures as JSON
//!     cargo bench --bench stages -- --instructions --against FILE the change since then, in per cent
//!     cargo bench --bench stages -- --list                        names and questions
//!
//! Messages, credentials and answers of the other side are made outside the count, which takes in nothing but the
//! calls of the crate. Time is the median of rounds, `least` the quickest round; each datagram of a journey adds
//! some 25 ns of clock to both. On a machine with other work believe `least`, and the instructions before it.
//! They are those of user mode. Two runs of one binary differ by less than half a per cent, most by some parts in
//! ten thousand, since the maps of the standard library draw their hash keys from the system.
//! `target/stages/NAME.callgrind` has them by function, for `callgrind_annotate`; nothing else needs valgrind.
//!
//! Valgrind 3.19 shows programs a processor with AES, AVX and AVX2, and without SHA and VAES. So SHA-256 is counted
//! as software, some 3300 instructions a block, where a processor that has the instructions takes a small part of
//! that: what is left of a count without `sha2::sha256::soft` is nearer to what such a processor executes.

mod authentication;
#[cfg(feature = "edge")]
mod bootstrapping;
mod floods;
mod forward;
mod gate;
mod heap;
mod held;
mod instructions;
mod journeys;
mod meter;
mod report;
mod scene;
#[cfg(feature = "edge")]
mod store;
mod text;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use meter::Meter;
use report::{Figures, Report};

/// One question.
pub(crate) struct Bench {
    /// Its name.
    pub(crate) name: &'static str,
    /// The question.
    pub(crate) about: &'static str,
    /// Runs before anything is counted: until what comes and what goes are even.
    pub(crate) before: u32,
    /// Runs of a round.
    pub(crate) runs: u32,
    /// Makes what it needs.
    pub(crate) start: fn() -> Run,
}

/// Does it, and says how often it did.
pub(crate) type Run = Box<dyn FnMut(&mut Meter) -> u64>;

/// Operations in one count, where one is too short for the clock.
pub(crate) const BATCH: u64 = 64;
/// Rounds, if there is time.
const ROUNDS: usize = 25;
/// Rounds at least.
const ROUNDS_LEAST: usize = 5;
/// Time for the rounds of one bench, setup included.
const PATIENCE: Duration = Duration::from_secs(3);

fn benches() -> Vec<&'static Bench> {
    [
        journeys::BENCHES,
        gate::BENCHES,
        floods::BENCHES,
        wire::BENCHES,
        authentication::BENCHES,
        forward::BENCHES,
        #[cfg(feature = "edge")]
        store::BENCHES,
        #[cfg(feature = "edge")]
        bootstrapping::BENCHES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Default)]
struct Wishes {
    filter: Option<String>,
    list: bool,
    instructions: bool,
    /// Only run the counted calls of this one: valgrind looks on.
    watched: Option<String>,
    save: Option<String>,
    against: Option<String>,
}

fn wishes() -> Result<Wishes, String> {
    let mut wishes = Wishes::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--bench" => {} // cargo says so
            "--list" => wishes.list = true,
            "--instructions" => wishes.instructions = true,
            "--watched" => wishes.watched = Some(value()?),
            "--save" => wishes.save = Some(value()?),
            "--against" => wishes.against = Some(value()?),
            word if word.starts_with('-') => return Err(format!("{word} is no option")),
            word => wishes.filter = Some(word.into()),
        }
    }
    Ok(wishes)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            report::complain(&why);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let wishes = wishes()?;
    if let Some(name) = &wishes.watched {
        let bench = benches().into_iter().find(|bench| bench.name == name);
        report::operations(count_once(bench.ok_or(format!("no bench is called {name}"))?));
        return Ok(());
    }
    let chosen =
        |name: &str| wishes.filter.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let benches = benches().into_iter().filter(|bench| chosen(bench.name));
    let held = [
        held::HELD,
        #[cfg(feature = "edge")]
        store::HELD,
    ];
    let held = held.into_iter().flatten().filter(|held| chosen(held.name));
    if wishes.list {
        benches.for_each(|bench| report::question(bench.name, bench.about));
        held.for_each(|held| report::question(held.name, held.about));
        return Ok(());
    }
    if wishes.instructions {
        instructions::available()?;
    }
    let before = wishes.against.as_deref().map(Report::load).transpose()?;
    let mut report = Report::default();
    report.head(before.as_ref());
    for bench in benches {
        let mut figures = time(bench);
        if wishes.instructions {
            figures.instructions = Some(instructions::count(bench)?);
        }
        report.add(bench.name, figures, before.as_ref());
    }
    for held in held {
        let figures = Figures { held: Some((held.octets)()), ..Figures::default() };
        report.add(held.name, figures, before.as_ref());
    }
    report.flat()?;
    wishes.save.map_or(Ok(()), |file| report.save(&file))
}

/// Time and heap of one operation.
fn time(bench: &Bench) -> Figures {
    let mut run = begun(bench);
    let (mut rounds, mut whole, mut operations) = (Vec::new(), Meter::new(), 0);
    let start = Instant::now();
    while rounds.len() < ROUNDS && (rounds.len() < ROUNDS_LEAST || start.elapsed() < PATIENCE) {
        let mut meter = Meter::new();
        let done: u64 = (0..bench.runs).map(|_| run(&mut meter)).sum();
        rounds.push(meter.time.as_secs_f64() * 1e9 / done as f64);
        whole.allocations += meter.allocations;
        whole.octets += meter.octets;
        operations += done;
    }
    rounds.sort_by(f64::total_cmp);
    Figures {
        time: Some(rounds[rounds.len() / 2]),
        least: Some(rounds[0]),
        instructions: None,
        allocations: Some(whole.allocations as f64 / operations as f64),
        octets: Some(whole.octets as f64 / operations as f64),
        held: None,
    }
}

/// One round, and how many operations it was.
fn count_once(bench: &Bench) -> u64 {
    let (mut run, mut meter) = (begun(bench), Meter::new());
    (0..bench.runs).map(|_| run(&mut meter)).sum()
}

fn begun(bench: &Bench) -> Run {
    let (mut run, mut idle) = ((bench.start)(), Meter::idle());
    for _ in 0..bench.before {
        run(&mut idle);
    }
    run
}

//! Instruments: latency, processor time of a process and all that it started, memory, and the rest of the machine.

use std::fs;
use std::time::{Duration, Instant};

use super::lab::pause;
use super::net;

/// Latencies, each remembered to 3 %.
#[derive(Clone)]
pub(crate) struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; 32 * 60], total: 0 }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        let place = Self::place(latency.as_nanos() as u64 / 100);
        self.counts[place.min(32 * 60 - 1)] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.total += other.total;
    }

    /// In microseconds: the latency that this part of all did not pass. `None` if there were none.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = (part * self.total as f64).ceil().max(1.0) as u64;
        let mut sum = 0;
        let place = self.counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        })?;
        Some(Self::least(place) as f64 / 10.0)
    }

    /// 32 steps for each power of two.
    fn place(value: u64) -> usize {
        let power = (value | 31).ilog2() - 4;
        match value {
            0..64 => value as usize,
            _ => power as usize * 32 + ((value >> (power - 1)) & 31) as usize,
        }
    }

    fn least(place: usize) -> u64 {
        match place {
            0..64 => place as u64,
            _ => (32 + (place as u64 & 31)) << (place as u64 / 32 - 1),
        }
    }
}

/// The processes of one anchor.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pids: Vec<u32>,
}

/// All clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// Processor time of the anchor, user and system, all threads.
    pub(crate) anchor: Duration,
    /// Of this process: generator and backend.
    own: Duration,
    /// Of the whole machine.
    machine: Duration,
}

/// What lies between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) time: Duration,
    pub(crate) anchor: Duration,
    /// Cores that the anchor, the generator, and anything else on the machine used.
    pub(crate) anchor_cores: f64,
    pub(crate) generator_cores: f64,
    pub(crate) other_cores: f64,
}

impl Meter {
    /// Of a process and its descendants, as they are now.
    pub(crate) fn of(root: u32) -> Self {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let parents: Vec<(u32, u32)> = all
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                Some((pid, stat(&format!("/proc/{pid}/stat"), 1)? as u32))
            })
            .collect();
        let mut pids = vec![root];
        let mut at = 0;
        while let Some(&parent) = pids.get(at) {
            pids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        Self { pids }
    }

    /// All of them.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.pids.iter().copied()
    }

    pub(crate) fn read(&self) -> Reading {
        let anchor = self.pids.iter().map(|pid| spent(*pid)).sum();
        Reading { at: Instant::now(), anchor, own: net::own_time(), machine: machine() }
    }

    /// Resident memory in octets, pages that are shared counted in part.
    pub(crate) fn memory(&self) -> u64 {
        let one = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let row = text.lines().find(|line| line.starts_with("Pss:"));
            let kib = row.and_then(|row| row.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        self.pids.iter().map(one).sum()
    }
}

impl Span {
    pub(crate) fn between(before: &Reading, after: &Reading) -> Self {
        let time = after.at - before.at;
        let anchor = after.anchor.saturating_sub(before.anchor);
        let own = after.own.saturating_sub(before.own);
        let machine = after.machine.saturating_sub(before.machine);
        let other = machine.saturating_sub(anchor + own);
        let cores = |spent: Duration| spent.as_secs_f64() / time.as_secs_f64().max(1e-9);
        let (anchor_cores, generator_cores) = (cores(anchor), cores(own));
        Self { time, anchor, anchor_cores, generator_cores, other_cores: cores(other) }
    }
}

/// Waits until other work takes less than a quarter of a core, at most so long. Nothing is measured meanwhile, so
/// all that happens is others' doing.
pub(crate) fn await_quiet(patience: Duration) {
    const LOOK: Duration = Duration::from_millis(150);
    let began = Instant::now();
    while began.elapsed() < patience {
        let before = machine();
        pause(LOOK);
        if machine().saturating_sub(before) * 4 <= LOOK {
            return;
        }
    }
}

/// Processor time of a process: from the scheduler's own books, in nanoseconds, thread by thread; where a kernel
/// keeps none, from `stat`, in hundredths of a second.
fn spent(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    match nanos.sum() {
        0 => {
            let part = |field| stat(&format!("/proc/{pid}/stat"), field).unwrap_or(0);
            Duration::from_millis((part(11) + part(12)) * 10)
        }
        nanos => Duration::from_nanos(nanos),
    }
}

/// One of the numbers that follow the name in a `stat` file, from 0 for the state.
fn stat(path: &str, field: usize) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(field)?.parse().ok()
}

/// Time that the cores of this machine were not idle.
fn machine() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let row = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        row.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|field| ticks.get(*field)).sum::<u64>();
    Duration::from_millis(busy * 10)
}

/// The lower quartile: other work on a machine only ever adds.
pub(crate) fn lower_quartile(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 4).copied()
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

//! Alternating slices: all anchors are up at once and take turns, A B C C B A, so that what else the machine does
//! falls on all alike; and what comes of the slices, as rows.

use super::lab::Anchor;
use super::load::Outcome;
use super::measure::{Latencies, Span, lower_quartile, median};
use super::options::Who;
use super::report::{Ratio, Row};

/// What one anchor showed.
pub(crate) struct Found {
    pub(crate) who: Who,
    /// Processor time for one transaction in microseconds, slice by slice.
    cpu: Vec<f64>,
    per_second: Vec<f64>,
    anchor_cores: Vec<f64>,
    generator_cores: Vec<f64>,
    other_cores: Vec<f64>,
    latencies: Latencies,
    faults: Vec<(&'static str, u64)>,
    refusal: Option<u16>,
    memory: u64,
    good: u64,
    at_once: u64,
    due: u64,
    junk: Vec<f64>,
}

/// What makes a row invalid: that the anchor did not do its job.
const FATAL: [&str; 5] =
    ["with credentials", "without identity", "malformed", "NOTIFY refused", "flows lost"];

impl Found {
    pub(crate) fn new(who: Who) -> Self {
        Self {
            who,
            cpu: Vec::new(),
            per_second: Vec::new(),
            anchor_cores: Vec::new(),
            generator_cores: Vec::new(),
            other_cores: Vec::new(),
            latencies: Latencies::default(),
            faults: Vec::new(),
            refusal: None,
            memory: 0,
            good: 0,
            at_once: 0,
            due: 0,
            junk: Vec::new(),
        }
    }

    /// Adds a slice in which the anchor's core was full.
    pub(crate) fn add_saturated(&mut self, outcome: &Outcome, anchor: &Anchor) {
        let span = Span::between(&outcome.before, &outcome.after);
        // A slice without any is no number, and keeps its place beside those of the others.
        let good = Some(outcome.tally.good as f64).filter(|good| *good > 0.0);
        self.cpu.push(span.anchor.as_secs_f64() * 1e6 / good.unwrap_or(f64::NAN));
        self.add_use(outcome, &span);
        self.memory = anchor.meter.memory();
    }

    /// Adds a slice at a fixed rate.
    pub(crate) fn add_paced(&mut self, outcome: &Outcome) {
        self.latencies.merge(&outcome.tally.latencies);
        self.add_faults(outcome);
    }

    /// Adds a slice at a fixed rate beside junk.
    pub(crate) fn add_flooded(&mut self, outcome: &Outcome, anchor: &Anchor) {
        let span = Span::between(&outcome.before, &outcome.after);
        self.latencies.merge(&outcome.tally.latencies);
        self.add_use(outcome, &span);
        self.junk.push(outcome.junk as f64 / span.time.as_secs_f64());
        self.memory = anchor.meter.memory();
    }

    fn add_use(&mut self, outcome: &Outcome, span: &Span) {
        self.per_second.push(outcome.tally.good as f64 / span.time.as_secs_f64());
        self.anchor_cores.push(span.anchor_cores);
        self.generator_cores.push(span.generator_cores);
        self.other_cores.push(span.other_cores);
        self.add_faults(outcome);
    }

    fn add_faults(&mut self, outcome: &Outcome) {
        let (tally, seen) = (&outcome.tally, &outcome.seen);
        self.good += tally.good;
        self.at_once += tally.at_once;
        self.due += tally.due;
        self.refusal = tally.refusal.or(self.refusal);
        // The floor hands everything on as it is.
        let judged = u64::from(self.who != Who::Floor);
        for (name, count) in [
            ("failed", tally.failed),
            ("sent again", tally.sent_again),
            ("stray", tally.stray),
            ("crowded out", tally.crowded),
            ("flows lost", tally.flows_lost),
            ("with credentials", seen.with_credentials * judged),
            ("without identity", seen.without_identity * judged),
            ("malformed", seen.malformed),
            ("NOTIFY refused", seen.notify_refused),
        ] {
            match self.faults.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => self.faults.push((name, count)),
            }
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.faults.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count)
    }

    /// The figure over that of `other`, and the same slice by slice.
    pub(crate) fn over(&self, other: &Self) -> Option<Ratio> {
        let value = lower_quartile(&self.cpu)? / lower_quartile(&other.cpu)?;
        let pairs = || self.cpu.iter().zip(&other.cpu).map(|(own, other)| own / other);
        let (least, greatest) = (pairs().fold(value, f64::min), pairs().fold(value, f64::max));
        Some(Ratio { value, least, greatest })
    }

    /// The row of one anchor of many, the first of which is the measure of the others.
    pub(crate) fn row(&self, workload: &str, transport: &'static str, all: &[&Self]) -> Row {
        let kamailio = all.iter().find(|found| found.who == Who::Kamailio);
        let kamailio = kamailio.filter(|_| self.who == Who::Sipward);
        let mut row = self.bare_row(workload, transport);
        row.valid &= self.count("failed") == 0;
        (row.figure, row.unit) = (lower_quartile(&self.cpu), "us/txn");
        row.ratio = all.first().and_then(|first| self.over(first));
        row.to_kamailio = kamailio.and_then(|kamailio| self.over(kamailio));
        row
    }

    /// The row of an anchor beside junk. What is lost there is the finding, not a fault.
    pub(crate) fn flood_row(&self, workload: &str, transport: &'static str) -> Row {
        let mut row = self.bare_row(workload, transport);
        (row.figure, row.unit) =
            (Some((self.at_once as f64 * 100.0 / self.due.max(1) as f64).min(100.0)), "% at once");
        let junk = median(&self.junk).unwrap_or_default();
        row.notes.insert(0, format!("{:.0}k/s junk", junk / 1000.0));
        row
    }

    fn bare_row(&self, workload: &str, transport: &'static str) -> Row {
        let faults = self.faults.iter().filter(|(_, count)| *count > 0);
        let mut notes: Vec<String> =
            faults.map(|(name, count)| format!("{count} {name}")).collect();
        if let Some(status) = self.refusal {
            notes.push(format!("last refusal {status}"));
        }
        if self.good == 0 {
            notes.push("nothing was served".into());
        }
        Row {
            workload: workload.into(),
            transport,
            anchor: self.who.as_str(),
            per_second: median(&self.per_second),
            p50_us: self.latencies.quantile(0.5),
            p99_us: self.latencies.quantile(0.99),
            p999_us: self.latencies.quantile(0.999),
            memory_mib: Some(mib(self.memory)),
            anchor_cores: median(&self.anchor_cores),
            generator_cores: median(&self.generator_cores),
            other_cores: self.other_cores.iter().copied().max_by(f64::total_cmp),
            valid: self.good > 0 && FATAL.iter().all(|name| self.count(name) == 0),
            notes,
            ..Row::default()
        }
    }
}

/// Octets as MiB.
pub(crate) fn mib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

/// The order of turns in a round: there, and back in the next.
pub(crate) fn turns(anchors: usize, round: usize) -> Vec<usize> {
    match round % 2 {
        0 => (0..anchors).collect(),
        _ => (0..anchors).rev().collect(),
    }
}

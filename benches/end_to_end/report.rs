//! What was found: rows of figures, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// One anchor under one workload.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) transport: &'static str,
    pub(crate) anchor: &'static str,
    /// What is compared, in `unit`: for transactions the lower quartile of the slices.
    pub(crate) figure: Option<f64>,
    pub(crate) unit: &'static str,
    /// The figure over that of the first anchor.
    pub(crate) ratio: Option<Ratio>,
    /// And over Kamailio's.
    pub(crate) to_kamailio: Option<Ratio>,
    /// Transactions a second with the anchor's core full, median of the slices.
    pub(crate) per_second: Option<f64>,
    /// Latency at the fixed rate, in microseconds.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    /// Resident memory at the end, in MiB.
    pub(crate) memory_mib: Option<f64>,
    /// Cores used by the anchor and by the generator, medians; by anything else, the worst slice.
    pub(crate) anchor_cores: Option<f64>,
    pub(crate) generator_cores: Option<f64>,
    pub(crate) other_cores: Option<f64>,
    /// Whether the anchor did all that it was asked to.
    pub(crate) valid: bool,
    pub(crate) notes: Vec<String>,
}

/// A ratio of two figures, and what it was from slice to slice.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    pub(crate) rows: &'a [Row],
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) sipward: &'static str,
    pub(crate) kamailio: Option<String>,
}

/// How it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) slices: usize,
    pub(crate) seconds: f64,
    pub(crate) condition: f64,
    pub(crate) ues: usize,
    pub(crate) window: usize,
    pub(crate) rate: f64,
    pub(crate) digest: &'static str,
    pub(crate) bootstrapped: bool,
}

impl Machine {
    /// This one.
    pub(crate) fn here(kamailio: Option<String>) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find(|line| line.starts_with("model name"));
        let processor = model.and_then(|line| line.split_once(": ")).map(|(_, name)| name);
        Self {
            processor: processor.unwrap_or("unknown").to_owned(),
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            sipward: env!("CARGO_PKG_VERSION"),
            kamailio,
        }
    }
}

impl Ratio {
    /// One without slices.
    pub(crate) fn exact(value: f64) -> Self {
        Self { value, least: value, greatest: value }
    }
}

impl Row {
    /// One that could not be measured.
    pub(crate) fn failed(
        workload: &str,
        transport: &'static str,
        anchor: &'static str,
        why: &str,
    ) -> Self {
        let notes = vec![why.replace('\n', " | ")];
        Self { workload: workload.into(), transport, anchor, notes, ..Self::default() }
    }
}

const HEAD: [&str; 16] = [
    "workload",
    "over",
    "anchor",
    "figure",
    "",
    "ratio",
    "to kamailio",
    "txn/s",
    "p50 us",
    "p99 us",
    "p999 us",
    "MiB",
    "core",
    "gen",
    "other",
    "notes",
];

/// The table. Columns are as wide as what stands in them; the last one is free.
pub(crate) fn table(rows: &[Row]) -> String {
    let cells: Vec<[String; HEAD.len()]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| {
        cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _never_fails = match column {
                0 | 1 | 2 | 4 | 15 => write!(line, "{cell:width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let number = |value: Option<f64>, places: usize| match value {
        Some(value) => format!("{value:.places$}"),
        None => "-".to_owned(),
    };
    let ratio = |ratio: Option<Ratio>| match ratio {
        Some(Ratio { value, least, greatest }) => {
            format!("{value:.2} [{least:.2}..{greatest:.2}]")
        }
        None => "-".to_owned(),
    };
    let mut notes = row.notes.join(", ");
    if !row.valid {
        notes = format!("INVALID: {notes}");
    }
    [
        row.workload.clone(),
        row.transport.to_owned(),
        row.anchor.to_owned(),
        number(row.figure, 2),
        row.unit.to_owned(),
        ratio(row.ratio),
        ratio(row.to_kamailio),
        number(row.per_second, 0),
        number(row.p50_us, 0),
        number(row.p99_us, 0),
        number(row.p999_us, 0),
        number(row.memory_mib, 1),
        number(row.anchor_cores, 2),
        number(row.generator_cores, 2),
        number(row.other_cores, 2),
        notes,
    ]
}

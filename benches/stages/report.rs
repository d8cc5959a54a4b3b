//! The table, and its figures as JSON.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a bench is for")]

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// What one operation costs.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Figures {
    /// Nanoseconds, the median of the rounds.
    pub(crate) time: Option<f64>,
    /// Nanoseconds of the quickest round.
    pub(crate) least: Option<f64>,
    /// Instructions.
    pub(crate) instructions: Option<f64>,
    /// Allocations.
    pub(crate) allocations: Option<f64>,
    /// Octets allocated.
    pub(crate) octets: Option<f64>,
    /// Octets held afterwards.
    pub(crate) held: Option<f64>,
}

impl Figures {
    fn columns(&self) -> [(&'static str, Option<f64>); 6] {
        [
            ("ns", self.time),
            ("least", self.least),
            ("instructions", self.instructions),
            ("allocations", self.allocations),
            ("octets", self.octets),
            ("held", self.held),
        ]
    }
}

/// Of the same with few and with many held: at most twice the instructions.
const FLAT: [(&str, &str); 1] = [("association/bind", "association/bind-100000")];

/// All of them, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Report(BTreeMap<String, Figures>);

impl Report {
    /// One that was saved.
    pub(crate) fn load(file: &str) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?;
        serde_json::from_str(&text).map_err(|why| format!("{file}: {why}"))
    }

    /// Saves it.
    pub(crate) fn save(&self, file: &str) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|why| why.to_string())?;
        fs::write(file, text + "\n").map_err(|why| format!("{file}: {why}"))
    }

    /// Prints the names of the columns.
    pub(crate) fn head(&self, before: Option<&Self>) {
        let change = if before.is_some() { "      %" } else { "" };
        let columns = Figures::default().columns();
        let columns: String =
            columns.map(|(name, _)| format!(" {name:>12}{change}")).into_iter().collect();
        println!("{:<28}{columns}", "");
    }

    /// Takes a row in and prints it.
    pub(crate) fn add(&mut self, name: &str, figures: Figures, before: Option<&Self>) {
        let old = before.map(|report| report.0.get(name).copied().unwrap_or_default());
        let old = old.map(|figures| figures.columns().map(|(_, figure)| figure));
        let mut row = format!("{name:<28}");
        for (place, (_, figure)) in figures.columns().into_iter().enumerate() {
            row += &match figure {
                Some(figure) => format!(" {:>12}", written(figure)),
                None => format!(" {:>12}", "-"),
            };
            if let Some(old) = &old {
                row += &match (figure, old[place]) {
                    (Some(figure), Some(old)) if old > 0.0 => {
                        format!(" {:>+6.1}", (figure / old - 1.0) * 100.0)
                    }
                    _ => format!(" {:>6}", ""),
                };
            }
        }
        println!("{row}");
        self.0.insert(name.into(), figures);
    }

    /// Whether what may not grow with what is held did not, as far as instructions were counted.
    pub(crate) fn flat(&self) -> Result<(), String> {
        let of = |name: &str| self.0.get(name)?.instructions;
        FLAT.into_iter().try_for_each(|(few, many)| match of(few).zip(of(many)) {
            Some((least, most)) if most > 2.0 * least => {
                Err(format!("{many}: {} times {few}", written(most / least)))
            }
            _ => Ok(()),
        })
    }
}

/// Three digits at least, and never more than one behind the point.
fn written(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

/// Prints a name and its question.
pub(crate) fn question(name: &str, about: &str) {
    println!("{name:<28} {about}");
}

/// Prints how many operations were counted, for who started this run.
pub(crate) fn operations(count: u64) {
    println!("{count}");
}

/// Says why nothing came of it.
pub(crate) fn complain(why: &str) {
    eprintln!("stages: {why}");
}

//! The audit, its report: what was found, for a terminal (`table`), a program (`json`) and whoever has to decide (`html`).
//!
//! Takes:   the rows of a run.
//! Gives:   [`Report`].
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

pub mod html;
pub mod json;
pub mod table;

use super::case::{Case, Finding, Verdict};
use super::exchange::Step;
use super::plan::Door;
use crate::instant::WallTime;
use crate::transport::Transport;

/// A door, and what a good OPTIONS is answered there.
#[derive(Debug)]
pub struct Spoken {
    /// The door.
    pub door: Door,
    /// The status, if anything came.
    pub answer: Option<u16>,
    /// The exchange.
    pub steps: Vec<Step>,
}

/// One case at one door.
#[derive(Debug)]
pub struct Row {
    /// The case.
    pub case: &'static Case,
    /// Where it was tried.
    pub door: Option<Door>,
    /// What came of it.
    pub finding: Finding,
    /// The exchange behind it.
    pub steps: Vec<Step>,
}

impl Row {
    /// The transport it was tried over, in words.
    pub fn over(&self) -> &'static str {
        self.door.map_or("", |door| spoken(door.transport))
    }
}

/// A transport, in words.
pub fn spoken(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
        Transport::Dtls => "DTLS",
        Transport::Ws => "WS",
        Transport::Wss => "WSS",
    }
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The target as it was named.
    pub target: String,
    /// When it began.
    pub began: WallTime,
    /// Where the target speaks.
    pub spoken: Vec<Spoken>,
    /// The cases.
    pub rows: Vec<Row>,
}

impl Report {
    /// How many rows ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.finding.verdict == verdict).count()
    }
}

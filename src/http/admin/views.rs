//! Admin, views: what is told, in the form that programs read.
//!
//! Takes:   the edge's own records.
//! Gives:   values that print as JSON; names in them are the configuration's and the specification's own.
//! Keeps:   nothing.
//! Refuses: keys and passwords, which no view has a place for.
//! Sources: SEC_CF 1.1 SEC-001, ADM-001.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::association::Association;
use crate::instant::Now;
use crate::transport::{Flow, Side};

/// How the edge stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of this program.
    pub version: String,
    /// For how many seconds it has run.
    pub seconds: u64,
    /// The file it runs by.
    pub configuration: String,
    /// 0 normal, 1 what proves nothing is dropped, 2 new dialogs are refused.
    pub load: u64,
    /// Connections open.
    pub connections: usize,
    /// Registrations through us.
    pub registrations: usize,
    /// Dialogs held, ended ones included.
    pub associations: usize,
    /// What it listens on.
    pub listeners: Vec<Listening>,
    /// Its own certificates.
    pub certificates: Vec<Certificate>,
}

/// One listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listening {
    /// The name in its certificate.
    pub name: String,
    /// `ue` or `core`.
    pub side: String,
    /// Its address.
    pub address: String,
    /// What it speaks.
    pub transports: Vec<String>,
}

/// One certificate of ours.
#[derive(Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The listener that shows it; `peers` if we show it to those we dial.
    pub shown_by: String,
    /// Its place there.
    pub at: usize,
    /// Seconds until it ends.
    pub seconds_left: u64,
}

/// Some dialogs, by number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dialogs {
    /// How many fit the question.
    pub found: usize,
    /// The first of them.
    pub dialogs: Vec<Dialog>,
}

/// One dialog.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dialog {
    /// The number of what it came of, in traces: dialogs that forked have the same.
    pub id: u64,
    /// Where it stands.
    pub state: String,
    /// Its class.
    pub class: String,
    /// Who may speak from the UE side.
    pub owner: String,
    /// The peer group that may speak from the core side: its place in the configuration.
    pub group: u16,
    /// The side that began it.
    pub begun_by: String,
    /// The least level of evidence.
    pub level: u8,
    /// Whether requests of the UE must come on secure flows.
    pub secure: bool,
    /// Whether there is an INVITE usage.
    pub invite: bool,
    /// How many subscriptions there are.
    pub subscriptions: usize,
    /// Flows that lead to the UE, the newest last.
    pub anchors: Vec<String>,
    /// The highest CSeq accepted from the UE.
    pub ue_cseq: Option<u32>,
    /// The highest CSeq accepted from the core.
    pub core_cseq: Option<u32>,
    /// Seconds until the state ends by itself.
    pub seconds_left: u64,
}

impl Dialog {
    pub(super) fn of(association: &Association, now: Now) -> Self {
        let origin = &association.origin;
        let left: Duration = association.deadline.since(now.mono);
        Self {
            id: origin.id,
            state: association.state.as_str().to_owned(),
            class: origin.class.as_str().to_owned(),
            owner: format!("{:?}", origin.owner),
            group: origin.group.0,
            begun_by: side(origin.caller_side).to_owned(),
            level: origin.level,
            secure: origin.secure,
            invite: association.invite,
            subscriptions: association.subscriptions.len(),
            anchors: association.anchors().iter().map(flow).collect(),
            ue_cseq: association.ue.cseq,
            core_cseq: association.core.cseq,
            seconds_left: left.as_secs(),
        }
    }
}

/// A side, as the configuration writes it.
pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Ue => "ue",
        Side::Core => "core",
    }
}

fn flow(flow: &Flow) -> String {
    format!("{} {}", flow.transport.uri_token(), flow.remote)
}

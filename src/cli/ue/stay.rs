//! `sipward ue register --reg-id`: one device, its flows, and how long they stay.
//!
//! Takes:   settings for the first flow, further edges, the file with the name of the device.
//! Gives:   a line for whatever happens to a flow, and for whatever is pushed; 0 if all of them are registered in the end, else 1.
//! Keeps:   the file with the name.
//! Refuses: a device without a name.
//! Sources: RFC 5626 sections 4.1, 4.2 and 4.5.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as Clap;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::pushes::{self, CardArgs, Pushes};
use super::{Fault, GOOD, NO, Who};
use crate::client::flows::{FLOWS_MAX, Flows, News, Plan};
use crate::client::instance;
use crate::client::ue::{Ue, UeSettings};
use crate::wire::Name;
use crate::wire::respond::reason;

/// Which flows of a device, and for how long.
#[derive(Clone, Debug, Clap)]
pub(super) struct FlowArgs {
    /// Register as one flow of this device (RFC 5626); the first, number 1, with what follows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=0x7FFF_FF00))]
    reg_id: Option<u32>,
    /// A further edge, or the same one again: one more flow, with the next number
    #[arg(long, value_name = "ADDRESS:PORT")]
    also: Vec<SocketAddr>,
    /// Seconds to stay and answer calls and texts: flows are pinged, registered anew and formed again when they fail
    #[arg(long, value_name = "SECONDS")]
    stay: Option<u64>,
    /// File with the name of this device, made if it is not there; beside --keys if left out
    #[arg(long, value_name = "FILE")]
    instance: Option<PathBuf>,
    #[command(flatten)]
    card: CardArgs,
}

impl FlowArgs {
    /// Whether it registers by flows, and not by its contact alone.
    pub(super) fn are_asked(&self) -> bool {
        let named = self.reg_id.is_some() || self.instance.is_some();
        named || self.stay.is_some() || !self.also.is_empty()
    }
}

/// Registers the flows.
pub(super) async fn run(
    first: UeSettings,
    args: &FlowArgs,
    (expires, keys, json): (u32, Option<&Path>, bool),
    who: &Who,
    out: &mut (dyn Write + Send),
) -> Result<u8, Fault> {
    let file = args.instance.clone().or_else(|| keys.map(instance::beside));
    let file = file.ok_or("a device has a name: --instance FILE, or --keys")?;
    let named = instance::at(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    let also = args.also.iter().map(|edge| UeSettings { edge: *edge, ..first.clone() });
    let ways: Vec<UeSettings> = std::iter::once(first.clone()).chain(also).collect();
    if ways.len() > FLOWS_MAX {
        return Err(format!("a device has at most {FLOWS_MAX} flows").into());
    }
    let pushes = args.card.pushes(&first.edge_name, keys, who.impi.as_deref(), &who.told)?;
    let plan = Plan { ways, first_id: args.reg_id.unwrap_or(1), instance: named, expires };
    match args.stay {
        Some(seconds) => stay(plan, Duration::from_secs(seconds), pushes, json, out).await,
        None => once(plan, json, out).await,
    }
}

/// Each flow once.
async fn once(plan: Plan, json: bool, out: &mut (dyn Write + Send)) -> Result<u8, Fault> {
    let (mut standing, mut code) = (Vec::new(), GOOD);
    for (reg_id, settings) in (plan.first_id..).zip(plan.ways) {
        let ue = Ue::connect(settings).await?;
        let answer = ue.register_flow(&plan.instance, reg_id, plan.expires).await?;
        let status = answer.status().unwrap_or(0);
        let outbound = answer.has_option(Name::Require, "outbound");
        say(&News::Registered { reg_id, status, outbound }, json, out)?;
        if !(200..300).contains(&status) {
            code = NO;
        }
        standing.push(ue);
    }
    Ok(code)
}

/// All flows, for so long.
async fn stay(
    plan: Plan,
    length: Duration,
    pushes: Pushes,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<u8, Fault> {
    let end = Instant::now().checked_add(length).ok_or("that is too long")?;
    let mut registered: BTreeMap<u32, bool> =
        (plan.first_id..).take(plan.ways.len()).map(|reg_id| (reg_id, false)).collect();
    let Pushes { pushed, mut notices } = pushes;
    let mut flows = Flows::start_with(plan, pushed)?;
    loop {
        let news = tokio::select! {
            news = timeout_at(end, flows.news()) => news,
            Some(notice) = notices.recv() => {
                pushes::say(&notice, json, out)?;
                continue;
            }
        };
        let Ok(Some(news)) = news else { break };
        match &news {
            News::Registered { reg_id, .. } => drop(registered.insert(*reg_id, true)),
            News::Waits { reg_id, .. } | News::Lost { reg_id } => {
                registered.insert(*reg_id, false);
            }
            News::Incoming { .. } => {}
        }
        say(&news, json, out)?;
    }
    flows.stop().await;
    Ok(if registered.values().all(|stands| *stands) { GOOD } else { NO })
}

fn say(news: &News, json: bool, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let (text, value) = told(news);
    if json { writeln!(out, "{value}") } else { writeln!(out, "{text}") }
}

fn told(news: &News) -> (String, Value) {
    match news {
        News::Registered { reg_id, status, outbound } => {
            let kind = if *outbound { "" } else { ", without outbound" };
            (
                format!("flow {reg_id}: {status} {}{kind}", reason(*status)),
                json!({ "flow": reg_id, "status": status, "reason": reason(*status), "outbound": outbound }),
            )
        }
        News::Waits { reg_id, status, why, wait } => (
            format!("flow {reg_id}: {why}; again in {} s", wait.as_secs()),
            json!({ "flow": reg_id, "status": status, "why": why, "again_seconds": wait.as_secs() }),
        ),
        News::Lost { reg_id } => {
            (format!("flow {reg_id}: lost, formed again"), json!({ "flow": reg_id, "lost": true }))
        }
        News::Incoming { reg_id, message } => {
            let method = String::from_utf8_lossy(message.method_octets()).into_owned();
            (format!("flow {reg_id}: {method}"), json!({ "flow": reg_id, "method": method }))
        }
    }
}

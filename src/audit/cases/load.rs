//! The audit, load: much at once, bounded in count, and whether somebody else is still served. Tried only if it was asked for.
//!
//! Takes:   a door.
//! Gives:   whether the target answers another's good request meanwhile and afterwards.
//! Keeps:   [`CONNECTIONS`] connections while a case runs.
//! Refuses: nothing.
//! Sources: RFC 3261 section 26.1.5; V-10, V-45, V-68.

use std::net::SocketAddr;

use super::super::case::{Case, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::plan::Door;
use super::super::probe::Probe;
use crate::transport::Transport;

/// How many requests a flood is made of.
const FLOOD: usize = 2000;
/// How many of them go out at one beat of the pace.
const BEAT: usize = 20;
/// How many connections are held.
const CONNECTIONS: usize = 100;

const fn row(
    name: &'static str,
    title: &'static str,
    threats: &'static [&'static str],
    why: &'static str,
    run: Run,
) -> Case {
    Case {
        name,
        group: Group::Load,
        title,
        threats,
        clause: "RFC 3261 26.1.5",
        why,
        remedy: "Bound what one address may send, open and leave unfinished, and drop strangers first.",
        over: Over::First,
        accounts: 0,
        disruptive: true,
        run,
    }
}

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("flood-invite", "Two thousand INVITEs of strangers leave others served", &["V-68"],
        "A server that keeps state for strangers is full before it knows who they are.",
        Run::Script(|probe| Box::pin(flood(probe)))),
    row("connections-idle", "A hundred idle connections leave others served", &["V-45"],
        "Connections cost the one who opens them little, and the server memory and descriptors.",
        Run::Script(|probe| Box::pin(connections(probe, b"")))),
    row("connections-slow", "A hundred unfinished requests leave others served", &["V-10"],
        "Half a request binds a buffer, and often a whole process, for as long as it is waited for.",
        Run::Script(|probe| Box::pin(connections(probe, b"INVITE sip:nobody@invalid SIP/2.0\r\nVia: ")))),
];

async fn flood(probe: &Probe) -> Judged {
    let mut stranger = probe.stranger().await?;
    let uri = format!("sip:nobody@{}", probe.plan().domain);
    for sent in 0..FLOOD {
        let draft = stranger.draft("INVITE", &uri);
        let (octets, _) = stranger.print(&draft);
        match sent.checked_rem(BEAT) {
            Some(0) => stranger.line.send(&octets).await,
            _ => stranger.line.put(&octets).await,
        }
    }
    Ok(match probe.answers().await {
        Some(status) if put_off(probe, status) => not_applicable(format!(
            "another's OPTIONS is answered {status}: others are put off, or would be at such a load"
        )),
        Some(status) => passed(format!("another's OPTIONS is answered {status}")),
        None => failed("another's OPTIONS finds no answer"),
    })
}

/// Whether a target that served before says now that it does not.
fn put_off(probe: &Probe, status: u16) -> bool {
    probe.usual != Some(status) && matches!(status, 429 | 500..=599)
}

async fn connections(probe: &Probe, begun: &[u8]) -> Judged {
    let streams = |door: &&Door| door.transport == Transport::Tcp;
    let door = probe.plan().doors.iter().find(streams).copied();
    let Some(door) = door else { return Ok(not_applicable("TCP is not tried")) };
    // From elsewhere, if it can be: a target that bounds what one address holds open does well.
    let from = probe.elsewhere().map(|ip| SocketAddr::new(ip, 0));
    let mut held = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let Ok(mut line) = probe.line_from(door, from, "crowd").await else { break };
        if !begun.is_empty() {
            line.put(begun).await;
        }
        held.push(line);
    }
    if held.is_empty() {
        return Ok(not_applicable("the target takes no connection over TCP"));
    }
    let other = Probe { stage: std::rc::Rc::clone(&probe.stage), door, usual: probe.usual };
    let count = held.len();
    Ok(match (other.answers().await, from) {
        (Some(status), _) if put_off(probe, status) => not_applicable(format!(
            "beside {count} of them, another's OPTIONS is answered {status}: others may be put off"
        )),
        (Some(status), _) => {
            passed(format!("beside {count} of them, another's OPTIONS is answered {status}"))
        }
        (None, Some(_)) => {
            failed(format!("beside {count} of them, another's OPTIONS over TCP finds no answer"))
        }
        (None, None) => not_applicable(
            "OPTIONS over TCP finds no answer: whether for others, too, cannot be told from one address",
        ),
    })
}

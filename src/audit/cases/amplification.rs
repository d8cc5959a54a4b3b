//! The audit, amplification: a small request, whose sender might be forged, and all that comes of it.
//!
//! Takes:   a door of UDP, a method.
//! Gives:   octets received over octets sent.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 17.2.1, 26.3.2.4; V-66.

use std::time::Duration;

use tokio::time::Instant;

use super::super::case::{Case, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::line::Heard;
use super::super::probe::Probe;

/// How many times the octets that came may be sent back.
const RATIO_MAX: usize = 2;
/// How long answers are counted: by then, a server that repeats a final answer to INVITE has done so three times.
const COUNTED: Duration = Duration::from_secs(4);

const fn row(name: &'static str, title: &'static str, run: Run) -> Case {
    Case {
        name,
        group: Group::Amplification,
        title,
        threats: &["V-66"],
        clause: "RFC 3261 26.3.2.4",
        why: "Over UDP the sender can be forged: what the target answers hits whom the attacker names, multiplied.",
        remedy: "Challenge without state, and never repeat a challenge; keep answers to strangers short.",
        over: Over::Udp,
        accounts: 0,
        disruptive: false,
        run,
    }
}

/// The table.
pub(super) const CASES: &[Case] = &[
    row(
        "amplify-options",
        "An OPTIONS of a stranger is answered once, and shortly",
        Run::Script(|probe| Box::pin(counted(probe, "OPTIONS"))),
    ),
    row(
        "amplify-register",
        "A REGISTER of a stranger is answered once, and shortly",
        Run::Script(|probe| Box::pin(counted(probe, "REGISTER"))),
    ),
    row(
        "amplify-invite",
        "An INVITE of a stranger that is never acknowledged is answered once, and shortly",
        Run::Script(|probe| Box::pin(counted(probe, "INVITE"))),
    ),
];

async fn counted(probe: &Probe, method: &'static str) -> Judged {
    let mut stranger = probe.stranger().await?;
    let domain = &probe.plan().domain;
    let uri = match method {
        "INVITE" => format!("sip:nobody@{domain}"),
        _ => format!("sip:{domain}"),
    };
    let draft = stranger.draft(method, &uri);
    let (octets, _) = stranger.print(&draft);
    stranger.line.send(&octets).await;
    let (mut answers, mut received) = (0_usize, 0_usize);
    let end = Instant::now() + COUNTED;
    loop {
        match stranger.line.hear(end.saturating_duration_since(Instant::now())).await {
            Heard::Message(message) => received = received.saturating_add(message.octets().len()),
            Heard::Octets(octets) => received = received.saturating_add(octets.len()),
            Heard::Closed | Heard::Nothing => break,
        }
        answers = answers.saturating_add(1);
    }
    let sent = octets.len();
    let seen = format!("{sent} octets sent, {received} came back in {answers} datagrams");
    Ok(match answers {
        0 => not_applicable("no answer came whose octets could be counted"),
        _ if received > sent.saturating_mul(RATIO_MAX) => failed(seen),
        _ => passed(seen),
    })
}

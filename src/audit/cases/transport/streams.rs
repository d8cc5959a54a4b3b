//! The audit, streams: one message in many segments, many in one, and an opening that never ends.
//!
//! Takes:   a door of TCP or TLS; for openings, of WebSocket, too.
//! Gives:   how often good requests are answered; when a trickle is cut off.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 7.5, 18.3 and 26.3.2.4; RFC 5626 section 4.4.1; V-09, V-10, V-42.

use std::time::Duration;

use tokio::time::Instant;

use super::super::super::case::{Case, Judged, Over, Run, failed, not_applicable, passed};
use super::super::super::hello::{self, Version};
use super::super::super::line::Heard;
use super::super::super::plan::Door;
use super::super::super::probe::Probe;
use super::super::super::user::branch_of;
use super::row;
use crate::clock;
use crate::transport::Transport;

/// How messages are laid into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// One message, an octet in each.
    Octets,
    /// Two messages in one.
    Two,
    /// The same, with a ping in between.
    Ping,
}

/// How long an opening may last that gets on by an octet a second.
const OPENING_MAX: Duration = Duration::from_secs(60);
/// How far its octets are apart.
const TRICKLE: Duration = Duration::from_secs(1);

const PIECES: &str = "Segments are the network's doing: a server that minds them loses good messages, and one that loses count reads a message \
    where another's body stands.";

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("segment-octets", "A request in segments of one octet is answered, once", &["V-09"], "RFC 3261 7.5, 18.3", PIECES,
        Over::Streams, Run::Script(|probe| Box::pin(cut(probe, Cut::Octets)))),
    row("segment-two", "Two requests in one segment are both answered, once each", &["V-09"], "RFC 3261 7.5, 18.3", PIECES,
        Over::Streams, Run::Script(|probe| Box::pin(cut(probe, Cut::Two)))),
    row("segment-ping", "A ping between two requests changes nothing", &["V-09"], "RFC 3261 7.5; RFC 5626 4.4.1", PIECES,
        Over::Streams, Run::Script(|probe| Box::pin(cut(probe, Cut::Ping)))),
    Case { disruptive: true, ..row("opening-slow", "An opening by an octet a second is cut off within a minute",
        &["V-10", "V-42"], "RFC 3261 26.3.2.4",
        "What never ends costs its sender nothing, and the server a descriptor and a buffer each: timers that every octet winds up again never ring.",
        Over::Connections, Run::Script(|probe| Box::pin(trickled(probe)))) },
];

async fn cut(probe: &Probe, cut: Cut) -> Judged {
    let mut stranger = probe.stranger().await?;
    let uri = format!("sip:{}", probe.plan().domain);
    let mut octets = Vec::new();
    let mut open = Vec::new();
    for _ in 0..if cut == Cut::Octets { 1 } else { 2 } {
        if cut == Cut::Ping && !octets.is_empty() {
            octets.extend(b"\r\n\r\n");
        }
        let draft = stranger.draft("OPTIONS", &uri);
        let (request, branch) = stranger.print(&draft);
        octets.extend(request);
        open.push((branch, 0_usize));
    }
    match cut {
        Cut::Octets => stranger.line.dribble(&octets).await,
        Cut::Two | Cut::Ping => stranger.line.send(&octets).await,
    }
    let end = Instant::now() + probe.patience().saturating_mul(2);
    let mut other = None;
    loop {
        match stranger.line.hear(end.saturating_duration_since(Instant::now())).await {
            Heard::Message(answer) if answer.status() >= Some(200) => {
                let branch = branch_of(&answer);
                let asked = open.iter_mut().find(|(asked, _)| asked.as_bytes() == branch);
                let Some((_, count)) = asked else { continue };
                *count = count.saturating_add(1);
                other = other.or(answer.status().filter(|status| Some(*status) != probe.usual));
            }
            Heard::Message(_) | Heard::Octets(_) => {}
            Heard::Closed | Heard::Nothing => break,
        }
    }
    let asked = open.len();
    let answered = open.iter().filter(|(_, count)| *count > 0).count();
    let most = open.iter().map(|(_, count)| *count).max().unwrap_or(0);
    Ok(match other {
        Some(status @ (429 | 500 | 503)) => {
            not_applicable(format!("answered {status}: that says nothing of the segments"))
        }
        Some(status) => failed(format!("answered {status}, unlike the same request whole")),
        None if answered < asked => failed(format!("{answered} of {asked} got an answer")),
        None if most > 1 => failed(format!("answered {most} times")),
        None => passed(format!("{answered} of {asked} got an answer, and one each")),
    })
}

/// Sends what opens a connection, an octet at a time.
async fn trickled(probe: &Probe) -> Judged {
    let plan = probe.plan();
    let address = probe.door.address;
    let opening = match probe.door.transport {
        Transport::Tls | Transport::Wss => hello::record(Version::Tls12, &plan.name),
        Transport::Ws => {
            let request = plan.ws.request(&plan.authority(probe.door), clock::random());
            let (text, _) = request.ok_or_else(|| not_applicable("no HTTP can be made of it"))?;
            text.into_bytes()
        }
        _ => {
            let mut stranger = probe.stranger().await?;
            let draft = stranger.draft("OPTIONS", &format!("sip:{}", plan.domain));
            stranger.print(&draft).0
        }
    };
    let mut line = probe.line_to(Door { transport: Transport::Tcp, address }, "stranger").await?;
    probe.stage.log.remark("stranger", "sends what opens the connection, an octet a second");
    let began = Instant::now();
    for octet in opening {
        line.put(&[octet]).await;
        if let Heard::Closed = line.raw(TRICKLE).await {
            let after = began.elapsed().as_secs();
            return Ok(passed(format!("the connection was closed after {after} s")));
        }
        if began.elapsed() > OPENING_MAX {
            break;
        }
    }
    let after = began.elapsed().as_secs();
    Ok(failed(format!("the connection is still open after {after} s")))
}

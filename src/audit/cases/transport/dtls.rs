//! The audit, DTLS: what a server sends to an address that proved nothing, and what strangers' datagrams do to a session that stands.
//!
//! A request over the session is the control, before the datagrams and after them.
//!
//! Takes:   a door of DTLS.
//! Gives:   octets received over octets sent; whether the session still carries requests.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 6347 sections 4.1.2.7, 4.2.1 and 4.2.8; RFC 9147 section 5.1; V-42, V-43, V-44.

use tokio::time::Instant;

use super::super::super::case::{Case, Judged, Over, Run, failed, not_applicable, passed};
use super::super::super::hello::{Said, Version, record};
use super::super::super::line::Heard;
use super::super::super::plan::Door;
use super::super::super::probe::Probe;
use super::super::super::user::User;
use super::row;
use crate::clock;
use crate::transport::Transport;

/// What is sent beside a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// A fatal alert and a `close_notify`, in the clear.
    Alerts,
    /// Records of the session's epoch that do not open, and octets that are no record.
    Garbage,
    /// A ClientHello.
    Hello,
}

/// How many requests may be lost before a session counts as over.
const TRIES: u32 = 3;

const FORGED: &str = "Anybody can forge a datagram: one would be enough to end a user's calls and to take away where he is reached.";

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("dtls-cookie", "A ClientHello is answered by a cookie, and by fewer octets than it has", &["V-43"], "RFC 6347 4.2.1; RFC 9147 5.1",
        "Certificates are many times as long as a ClientHello, whose sender can be forged: they hit whom the attacker names.",
        Over::Dtls, Run::Script(|probe| Box::pin(cookie(probe)))),
    row("dtls-alert", "An alert in the clear does not end a session", &["V-42", "V-44"], "RFC 6347 4.1.2.7", FORGED,
        Over::Dtls, Run::Script(|probe| Box::pin(beside(probe, Beside::Alerts)))),
    row("dtls-garbage", "Records that do not open do not end a session", &["V-44"], "RFC 6347 4.1.2.7", FORGED,
        Over::Dtls, Run::Script(|probe| Box::pin(beside(probe, Beside::Garbage)))),
    row("dtls-hello", "A ClientHello from its address does not end a session", &["V-42"], "RFC 6347 4.2.8", FORGED,
        Over::Dtls, Run::Script(|probe| Box::pin(beside(probe, Beside::Hello)))),
];

async fn cookie(probe: &Probe) -> Judged {
    let door = Door { transport: Transport::Udp, address: probe.door.address };
    let mut line = probe.line_to(door, "stranger").await?;
    let hello = record(Version::Dtls12, &probe.plan().name);
    line.send(&hello).await;
    let end = Instant::now() + probe.patience().saturating_mul(2);
    let (mut first, mut received) = (None, 0_usize);
    while let Heard::Octets(octets) = line.raw(end.saturating_duration_since(Instant::now())).await
    {
        received = received.saturating_add(octets.len());
        first = first.or_else(|| Some(Said::over_dtls(&octets)));
    }
    let seen = format!("{} octets sent, {received} came back", hello.len());
    Ok(match first {
        None => not_applicable("a ClientHello of DTLS 1.2 gets no answer"),
        Some(Said::Verify) if received <= hello.len() => passed(format!("a cookie: {seen}")),
        Some(Said::Verify) => failed(format!("a cookie, but {seen}")),
        Some(Said::Hello(_)) => failed(format!("ServerHello without a cookie: {seen}")),
        Some(Said::Alert(alert)) => not_applicable(format!("refused: {alert}")),
        Some(Said::Other) => not_applicable("something came that is no DTLS"),
    })
}

async fn beside(probe: &Probe, what: Beside) -> Judged {
    let mut stranger = probe.stranger().await?;
    if !is_carried(probe, &mut stranger).await {
        return Ok(not_applicable("a session that stands does not carry an OPTIONS"));
    }
    for datagram in datagrams(what, &probe.plan().name) {
        stranger.line.inject(&datagram).await;
    }
    Ok(match is_carried(probe, &mut stranger).await {
        true => passed("the session carries requests as before"),
        false => failed("afterwards the session carries no request any more"),
    })
}

/// Whether a request is answered over that session; one may be lost.
async fn is_carried(probe: &Probe, stranger: &mut User) -> bool {
    for _ in 0..TRIES {
        let draft = stranger.draft("OPTIONS", &format!("sip:{}", probe.plan().domain));
        let (octets, branch) = stranger.print(&draft);
        if stranger.exchange(&octets, &branch).await.is_some() {
            return true;
        }
    }
    false
}

fn datagrams(what: Beside, name: &str) -> Vec<Vec<u8>> {
    let record = |kind: u8, epoch: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
        // The number is ahead of the session's own, and behind none that it will use soon.
        let head = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1, 0, 0, length];
        [&head[..], content].concat()
    };
    match what {
        Beside::Alerts => vec![record(21, 0, &[2, 40]), record(21, 0, &[1, 0])],
        Beside::Garbage => vec![
            record(23, 1, &clock::random::<64>()),
            record(21, 1, &clock::random::<26>()),
            record(23, 0, b"OPTIONS sip:in-the-clear SIP/2.0\r\n\r\n"),
            clock::random::<48>().to_vec(),
        ],
        Beside::Hello => vec![self::record(Version::Dtls12, name)],
    }
}

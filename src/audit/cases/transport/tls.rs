//! The audit, TLS: versions that are over, and a second handshake on one connection.
//!
//! Takes:   a door of TLS.
//! Gives:   whether the target shakes hands.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 8996; RFC 7568; RFC 5746; RFC 9325 section 3.5; V-42, V-48.

use super::super::super::case::{Case, Finding, Judged, Over, Run, failed, not_applicable, passed};
use super::super::super::hello::{Alert, Said, Version, record};
use super::super::super::line::Heard;
use super::super::super::plan::Door;
use super::super::super::probe::Probe;
use super::row;
use crate::transport::Transport;

const OVER: &str = "What old versions protect is read and changed by attacks that have names; a client can be talked into them.";

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("tls-ssl3", "SSL 3.0 is refused", &["V-48"], "RFC 7568 3", OVER,
        Over::Tls, Run::Script(|probe| Box::pin(old(probe, Version::Ssl3)))),
    row("tls-1-0", "TLS 1.0 is refused", &["V-48"], "RFC 8996 4", OVER,
        Over::Tls, Run::Script(|probe| Box::pin(old(probe, Version::Tls10)))),
    row("tls-1-1", "TLS 1.1 is refused", &["V-48"], "RFC 8996 5", OVER,
        Over::Tls, Run::Script(|probe| Box::pin(old(probe, Version::Tls11)))),
    row("tls-renegotiation", "A second handshake on one connection is refused", &["V-42"], "RFC 5746 4.5; RFC 9325 3.5",
        "A handshake costs the server many times what it costs the client; and who a client is must not change while it speaks.",
        Over::Tls, Run::Script(|probe| Box::pin(renegotiation(probe)))),
];

/// Whether that version is answered, and what was seen.
async fn said(probe: &Probe, version: Version) -> Result<(Option<Said>, String), Finding> {
    let door = Door { transport: Transport::Tcp, address: probe.door.address };
    let mut line = probe.line_to(door, "stranger").await?;
    line.send(&record(version, &probe.plan().name)).await;
    Ok(match line.raw(probe.patience()).await {
        Heard::Octets(octets) => {
            let said = Said::over_tls(&octets);
            let seen = match said {
                Said::Alert(alert) => format!("refused: {alert}"),
                Said::Hello(_) => format!("a ClientHello of {version} is answered by ServerHello"),
                Said::Verify | Said::Other => "something came that is no TLS".into(),
            };
            (Some(said), seen)
        }
        Heard::Closed => (None, "the connection was closed".into()),
        Heard::Message(_) | Heard::Nothing => (None, "not answered".into()),
    })
}

async fn old(probe: &Probe, version: Version) -> Judged {
    let (answer, seen) = said(probe, version).await?;
    match answer {
        Some(hello) if hello.is_hello(version) => return Ok(failed(seen)),
        Some(Said::Alert(Alert::PROTOCOL_VERSION)) => return Ok(passed(seen)),
        Some(Said::Alert(_)) | None => {}
        Some(Said::Hello(_) | Said::Verify | Said::Other) => return Ok(not_applicable(seen)),
    }
    // Whether it was for the version, the same with one that is good shows.
    probe.stage.log.remark("stranger", "the same with TLS 1.2");
    Ok(match said(probe, Version::Tls12).await? {
        (Some(hello), _) if hello.is_hello(Version::Tls12) => {
            passed(format!("{seen}; the same with TLS 1.2 is answered"))
        }
        (_, other) => not_applicable(format!("{seen}; with TLS 1.2 {other}: nothing follows")),
    })
}

#[cfg(feature = "openssl")]
async fn renegotiation(probe: &Probe) -> Judged {
    use super::super::super::renegotiation::{Told, ask};

    let (log, name) = (&probe.stage.log, &probe.plan().name);
    let stream = tokio::net::TcpStream::connect(probe.door.address).await;
    let stream = stream.map_err(|why| not_applicable(format!("no connection: {why}")))?;
    log.remark("stranger", "shakes hands by TLS 1.2, then sends ClientHello under its keys; and if nothing comes, a ping");
    let told = ask(stream, name, probe.patience()).await.map_err(not_applicable)?;
    let finding = match told {
        Told::Refused(alert) => passed(format!("refused: {alert}")),
        Told::Closed => passed("the connection was closed"),
        Told::Nothing => passed("not answered"),
        Told::Ignored => passed("ignored: the connection carries on as it was"),
        Told::Shakes => failed("the target began a second handshake"),
    };
    log.remark("target", &finding.seen);
    Ok(finding)
}

#[cfg(not(feature = "openssl"))]
async fn renegotiation(_: &Probe) -> Judged {
    Ok(not_applicable("this program was built without the feature openssl"))
}

//! The audit, WebSocket: openings that must not be agreed to, and frames that a client may not send.
//!
//! Takes:   a door of WebSocket.
//! Gives:   whether the target agrees, answers or closes.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 6455 sections 4.2, 5.1, 7.4.1 and 10.2; RFC 7118 sections 4 and 5; V-13, V-79.

use bytes::BytesMut;

use super::super::super::case::{Case, Finding, Judged, Over, Run, failed, not_applicable, passed};
use super::super::super::line::{Heard, Line};
use super::super::super::plan::Door;
use super::super::super::probe::Probe;
use super::row;
use crate::clock;
use crate::transport::Transport;
use crate::transport::ws::{Offer, Opcode, frame, opening};

/// What is wrong with an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// It asks for another protocol.
    Protocol,
    /// It is of a page that has no business here.
    Origin,
}

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("ws-protocol", "An opening for another protocol is refused", &["V-79"], "RFC 7118 4; RFC 6455 4.2.2",
        "Two ends that do not mean the same protocol read each other's octets as something else.",
        Over::WebSocket, Run::Script(|probe| Box::pin(opened(probe, Opening::Protocol)))),
    row("ws-origin", "An opening from a foreign page is refused", &["V-79"], "RFC 6455 4.2.2, 10.2",
        "Any page that a user looks at can open connections here from his browser, behind his firewall and with his address.",
        Over::WebSocket, Run::Script(|probe| Box::pin(opened(probe, Opening::Origin)))),
    row("ws-unmasked", "A frame without mask is refused", &["V-13"], "RFC 6455 5.1",
        "Masks keep pages from writing what proxies on the way read as HTTP of their own.",
        Over::WebSocket, Run::Script(|probe| Box::pin(unmasked(probe)))),
    row("ws-oversized", "A frame that announces a tebibyte is refused at its head", &["V-13"], "RFC 6455 7.4.1, 10.4",
        "Who waits for what cannot be kept holds a connection, and perhaps the memory, for somebody who sends nothing.",
        Over::WebSocket, Run::Script(|probe| Box::pin(oversized(probe)))),
];

/// What WebSocket is spoken on, before it is.
async fn bare(probe: &Probe) -> Result<Line, Finding> {
    let transport = match probe.door.transport {
        Transport::Wss => Transport::Tls,
        _ => Transport::Tcp,
    };
    probe.line_to(Door { transport, address: probe.door.address }, "stranger").await
}

/// The opening that the target agrees to, and its key.
fn request(probe: &Probe, offer: &Offer) -> Result<(String, String), Finding> {
    let request = offer.request(&probe.plan().authority(probe.door), clock::random());
    request.ok_or_else(|| not_applicable("name, path or origin cannot stand in HTTP"))
}

/// The status of an answer of HTTP.
fn status(octets: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(octets.get(9..12)?).ok()?;
    octets.starts_with(b"HTTP/1.").then(|| text.parse().ok())?
}

async fn opened(probe: &Probe, opening: Opening) -> Judged {
    let mut line = bare(probe).await?;
    let mut offer = probe.plan().ws.clone();
    if opening == Opening::Origin {
        offer.origin = Some("https://elsewhere.invalid".into());
    }
    let (mut text, _) = request(probe, &offer)?;
    if opening == Opening::Protocol {
        text = text.replace("Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Protocol: chat");
    }
    line.send(text.as_bytes()).await;
    Ok(match line.raw(probe.patience()).await {
        Heard::Octets(octets) => match status(&octets) {
            Some(101) => failed("agreed to: 101"),
            Some(status) => passed(format!("refused: {status}")),
            None => not_applicable("something came that is no HTTP"),
        },
        Heard::Closed => passed("the connection was closed"),
        Heard::Message(_) | Heard::Nothing => passed("not answered"),
    })
}

/// A connection on which the handshake was made.
async fn agreed(probe: &Probe) -> Result<Line, Finding> {
    let mut line = bare(probe).await?;
    let (text, key) = request(probe, &probe.plan().ws)?;
    line.send(text.as_bytes()).await;
    let mut held = Vec::new();
    while let Heard::Octets(octets) = line.raw(probe.patience()).await {
        held.extend(octets);
        if opening::accepted(&held, &key).map_err(not_applicable)?.is_some() {
            return Ok(line);
        }
    }
    Err(not_applicable("a good opening is not agreed to"))
}

/// What came of a frame: the first octets behind the handshake.
async fn judged(probe: &Probe, line: &mut Line) -> Judged {
    const CLOSE: u8 = 0x88;
    let heard = line.raw(probe.patience().saturating_mul(2)).await;
    Ok(match &heard {
        Heard::Octets(octets) => match octets.as_ref() {
            [CLOSE, _, high, low, ..] => {
                passed(format!("refused with {}", u16::from_be_bytes([*high, *low])))
            }
            [CLOSE, ..] => passed("refused without a reason"),
            _ => failed("the target answers, as if the frame were good"),
        },
        Heard::Closed => passed("the connection was closed"),
        Heard::Message(_) | Heard::Nothing => failed("the connection stays open"),
    })
}

async fn unmasked(probe: &Probe) -> Judged {
    // A message such as strangers send over WebSocket.
    let mut stranger = probe.stranger().await?;
    let draft = stranger.draft("OPTIONS", &format!("sip:{}", probe.plan().domain));
    let (message, _) = stranger.print(&draft);
    let mut line = agreed(probe).await?;
    let mut out = BytesMut::new();
    frame::put(&mut out, Opcode::Text, &message, None);
    line.send(&out).await;
    judged(probe, &mut line).await
}

async fn oversized(probe: &Probe) -> Judged {
    let mut line = agreed(probe).await?;
    // Final, text, masked, a length in eight octets: 2 to the power of 40; then the mask, and what a message begins with.
    let mut octets = vec![0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    octets.extend(b"OPTIONS sip:");
    line.send(&octets).await;
    judged(probe, &mut line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_of_http_alone() {
        for (octets, expected) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], Some(403)),
            (b"HTTP/1.0 101", Some(101)),
            (b"HTTP/1.1 x", None),
            (b"SIP/2.0 4 400", None),
            (b"", None),
        ] {
            assert_eq!(status(octets), expected);
        }
    }
}

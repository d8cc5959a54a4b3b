//! The audit, routing: a request names where it, or its answer, is to be sent, and an ear of ours listens there. What is named for
//! later ones: `forwarded`.
//!
//! Takes:   a door, and a [`Relay`].
//! Gives:   whether the target sent anything to the ear.
//! Keeps:   nothing.
//! Refuses: an ear on the address that we send from, where an answer may well go: its case is not applicable.
//! Sources: RFC 3261 sections 16.4 to 16.6, 18.2.1, 18.2.2, 26.3.2.4; RFC 3581; V-64, V-65, V-130.

use std::net::SocketAddr;

use super::super::case::{Case, Finding, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::line::{Heard, Line};
use super::super::plan::Door;
use super::super::probe::Probe;
use crate::transport::Transport;

/// Where the ear is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// In the Request-URI.
    Uri,
    /// In `maddr` of the Request-URI.
    Maddr,
    /// In Route.
    Route,
    /// In Route, behind the target itself.
    Preloaded,
    /// In Route, behind the target itself, with a tag in To as if a dialog stood.
    InDialog,
    /// In Route, of a user with credentials.
    OfUser,
    /// In Via, as who sent it.
    SentBy,
    /// In `received` of Via.
    Received,
    /// In `maddr` of Via.
    ViaMaddr,
}

const fn row(
    name: &'static str,
    title: &'static str,
    clause: &'static str,
    why: &'static str,
    relay: &'static Relay,
) -> Case {
    let reflected = matches!(relay, Relay::SentBy | Relay::Received | Relay::ViaMaddr);
    Case {
        name,
        group: Group::Routing,
        title,
        threats: if reflected { &["V-65"] } else { &["V-64", "V-130"] },
        clause,
        why,
        remedy: if reflected { ANSWER } else { ROUTE },
        over: if reflected { Over::Udp } else { Over::First },
        accounts: if matches!(relay, Relay::OfUser) { 1 } else { 0 },
        disruptive: false,
        run: Run::Relay(relay),
    }
}

const ROUTE: &str = "Send requests of users only where the location service or a list of peers says; take no Route that this \
    server did not write itself, and sign.";
const ANSWER: &str =
    "Send answers over UDP to the address that the request came from, whatever Via says.";
const OPEN: &str = "An open relay makes its calls, its attacks and its scans in the name of whoever runs it, also behind his firewall.";
const MIRROR: &str = "One forged datagram, and the target's answers hit somebody else.";

/// The table.
pub(super) const CASES: &[Case] = &[
    row(
        "relay-uri",
        "A stranger's request is not sent to the host in its URI",
        "RFC 3261 16.5, 26.3.2.4",
        OPEN,
        &Relay::Uri,
    ),
    row(
        "relay-maddr",
        "A stranger's request is not sent to maddr of its URI",
        "RFC 3261 16.4, 19.1.1",
        OPEN,
        &Relay::Maddr,
    ),
    row(
        "relay-route",
        "A stranger's request is not sent to the host in its Route",
        "RFC 3261 16.4, 16.6",
        OPEN,
        &Relay::Route,
    ),
    row(
        "relay-preloaded",
        "A stranger's request is not sent to the second host in its Route",
        "RFC 3261 16.4, 16.6, 16.12",
        OPEN,
        &Relay::Preloaded,
    ),
    row(
        "relay-dialog",
        "A tag in To does not open the way to any host",
        "RFC 3261 12.2, 16.4, 16.12",
        "Who makes up a dialog that never was passes where new requests are stopped.",
        &Relay::InDialog,
    ),
    row(
        "relay-user",
        "A user's request is not sent to the host in its Route",
        "RFC 3261 16.4, 16.6",
        "A customer reaches hosts that only the server should, and passes what is to be counted and billed.",
        &Relay::OfUser,
    ),
    row(
        "reflect-sent-by",
        "An answer is not sent to the address in Via",
        "RFC 3261 18.2.1, 18.2.2; RFC 3581 4",
        MIRROR,
        &Relay::SentBy,
    ),
    row(
        "reflect-received",
        "An answer is not sent to received of Via",
        "RFC 3261 18.2.1; RFC 3581 4",
        MIRROR,
        &Relay::Received,
    ),
    row(
        "reflect-maddr",
        "An answer is not sent to maddr of Via",
        "RFC 3261 18.2.2",
        MIRROR,
        &Relay::ViaMaddr,
    ),
];

/// Sends it, and listens.
pub(in super::super) async fn run(probe: &Probe, relay: Relay) -> Judged {
    let reflected = matches!(relay, Relay::SentBy | Relay::Received | Relay::ViaMaddr);
    let domain = &probe.plan().domain;
    let mut sender = match relay {
        Relay::OfUser => probe.user(0).await?,
        _ => probe.stranger().await?,
    };
    // Answers that are reflected may go to the port that was sent from, at another address.
    let mut ear = probe.ear(reflected.then(|| sender.line.local().port())).await?;
    let heard_at = ear.local();
    let uri = match relay {
        Relay::Uri | Relay::InDialog => format!("sip:somebody@{heard_at}"),
        Relay::Maddr => {
            format!("sip:somebody@{domain}:{};maddr={}", heard_at.port(), heard_at.ip())
        }
        Relay::Route | Relay::Preloaded | Relay::OfUser => format!("sip:somebody@{domain}"),
        Relay::SentBy | Relay::Received | Relay::ViaMaddr => format!("sip:{domain}"),
    };
    let mut draft = sender.draft("OPTIONS", &uri);
    match relay {
        Relay::Route | Relay::OfUser => draft.routes.push(format!("<sip:{heard_at};lr>")),
        Relay::Preloaded | Relay::InDialog => {
            if relay == Relay::InDialog {
                draft.to_tag = sender.fresh();
            }
            draft.routes.push(format!("<sip:{};lr>", probe.door.address));
            draft.routes.push(format!("<sip:{heard_at};lr>"));
        }
        Relay::SentBy => sender.voice.via = format!("SIP/2.0/UDP {heard_at}"),
        Relay::Received => {
            sender.voice.via = format!("SIP/2.0/UDP {heard_at};received={}", heard_at.ip());
        }
        Relay::ViaMaddr => {
            let (ip, port) = (heard_at.ip(), heard_at.port());
            sender.voice.via =
                format!("SIP/2.0/UDP {}:{port};maddr={ip}", sender.line.local().ip());
        }
        Relay::Uri | Relay::Maddr => {}
    }
    let within = probe.patience().saturating_mul(2);
    let (answer, heard) = tokio::join!(sender.ask(draft), ear.hear(within));
    let status = answer.and_then(|answer| answer.status());
    if let Relay::OfUser = relay {
        probe.keep(0, sender).await;
    }
    Ok(match (heard, status) {
        (Heard::Message(_) | Heard::Octets(_), _) => {
            failed(format!("the target sent it to {heard_at}, which nothing but the request named"))
        }
        (_, Some(status @ (429 | 500 | 503))) => {
            not_applicable(format!("answered {status}: that says nothing of the request"))
        }
        (_, Some(status)) => passed(format!("nothing was sent there; answered {status}")),
        (_, None) => passed("nothing was sent there; not answered"),
    })
}

impl Probe {
    /// An ear, which the target has no reason to talk to; at another address and that port, if it has to be.
    pub(super) async fn ear(&self, elsewhere: Option<u16>) -> Result<Line, Finding> {
        let door = Door { transport: Transport::Udp, address: self.door.address };
        let none = || not_applicable("there is no second address of ours to listen at");
        let from = match elsewhere {
            Some(port) => Some(SocketAddr::new(self.elsewhere().ok_or_else(none)?, port)),
            None => None,
        };
        self.line_from(door, from, "ear").await
    }
}

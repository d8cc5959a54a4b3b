//! The audit, routing, second part: what a request that is forwarded has with it, how far it may still go, and whom later ones pass.
//!
//! Takes:   two accounts, and an ear of ours.
//! Gives:   whether a call with the flaw reaches the callee; whether the target sends anything to the ear.
//! Keeps:   nothing; what was registered with a detour is registered anew without.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 12.1.1, 16.3, 16.6 and 20.22; RFC 3327 sections 5.1 and 5.3; V-64, V-65, V-131.

use super::super::case::{Case, Group, Judged, Run, failed, not_applicable, passed};
use super::super::line::Heard;
use super::super::probe::Probe;
use super::dialog::refused;
use super::identity::{may_call, rings, row};
use crate::client::draft::Dialog;
use crate::wire::{Message, Method, Name};

/// A row of this group.
const fn routed(case: Case) -> Case {
    Case { group: Group::Routing, ..case }
}

const COUNT: &str = "Judge Max-Forwards before anything is forwarded, count it down, and write 70 where there is none: mf_process_maxfwd_header() \
    of Kamailio and OpenSIPS.";

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    routed(row("hops-spent", "A call whose Max-Forwards is 0 goes no further", &["V-65"], "RFC 3261 16.3 item 3, 21.4.21",
        "Two servers that send a request to each other go on until one of them falls.", COUNT,
        Run::Script(|probe| Box::pin(hops(probe, Some(0)))))),
    routed(row("hops-absent", "A call without Max-Forwards is refused, or given one", &["V-65"], "RFC 3261 8.1.1, 16.6 item 3",
        "A request that nobody counts is never stopped.", COUNT,
        Run::Script(|probe| Box::pin(hops(probe, None))))),
    routed(row("path-forged", "A user's Path does not lead his calls past a host of his choice", &["V-131"], "RFC 3327 5.1, 5.3",
        "Path is what edges write: with one of his own, a user makes the registrar send requests to whatever host and port he names.",
        "Remove Path from what comes from users, or keep it only from edges that prove to be yours.",
        Run::Script(|probe| Box::pin(path(probe))))),
    routed(row("record-route-forged", "A caller's Record-Route does not lead the callee's requests past a host of his choice", &["V-64"],
        "RFC 3261 12.1.1, 16.6 item 4",
        "Record-Route is what proxies write: with one of his own, a caller makes the server send requests to whatever host and port he names.",
        "Remove Record-Route from what comes from users, or sign your own and follow no other.",
        Run::Script(|probe| Box::pin(record_route(probe))))),
];

async fn hops(probe: &Probe, hops: Option<u8>) -> Judged {
    let (mut alice, mut bob) = (probe.user(0).await?, probe.user(1).await?);
    may_call(probe, &mut alice, &mut bob).await?;
    let mut draft = alice.draft("INVITE", &probe.account(1)?.identity);
    draft.hops = hops;
    let (answer, heard) = rings(probe, &mut alice, &mut bob, draft).await;
    probe.keep(0, alice).await;
    probe.keep(1, bob).await;
    let Some(heard) = heard else { return Ok(refused(answer.as_ref())) };
    let left = heard.first(Name::MaxForwards).map(String::from_utf8_lossy);
    Ok(match (hops, left) {
        (None, Some(left)) => passed(format!("the call rang, with Max-Forwards: {left}")),
        (None, None) => failed("the call rang, still without Max-Forwards"),
        (Some(_), _) => failed("the call rang"),
    })
}

/// The first account registers with a detour; then the second calls it.
async fn path(probe: &Probe) -> Judged {
    let (mut alice, mut bob) = (probe.user(0).await?, probe.user(1).await?);
    let identity = &probe.account(0)?.identity;
    let mut ear = probe.ear(None).await?;
    let detour = format!("<sip:{};lr>", ear.local());
    let draft = alice.registration(identity, 600).with("Path", detour.clone());
    let answer = alice.ask_patiently(draft).await;
    let taken = answer.as_ref().and_then(Message::status).is_some_and(|status| status < 300);
    if !taken {
        probe.keep(0, alice).await;
        probe.keep(1, bob).await;
        return Ok(match refused(answer.as_ref()) {
            finding if answer.is_some() => finding,
            _ => passed("not answered"),
        });
    }
    let told = answer
        .is_some_and(|answer| answer.values(Name::Path).any(|value| value == detour.as_bytes()));
    let draft = bob.draft("INVITE", identity);
    let within = probe.patience().saturating_mul(3);
    let ((_, rang), heard) =
        tokio::join!(rings(probe, &mut bob, &mut alice, draft), ear.hear(within));
    // The binding without the detour replaces the one with it.
    let draft = alice.registration(identity, 600);
    let again = alice.ask_patiently(draft).await.and_then(|answer| answer.status());
    if again.is_some_and(|status| status < 300) {
        probe.keep(0, alice).await;
    } else {
        probe.unsettle().await;
    }
    probe.keep(1, bob).await;
    Ok(match (heard, rang) {
        (Heard::Message(_) | Heard::Octets(_), _) => failed(format!(
            "a call to the user was sent to {}, which only his Path named",
            ear.local()
        )),
        _ if told => failed("the registration is answered with the user's own Path"),
        (_, Some(_)) => passed("registered, and the call came without the detour"),
        (_, None) => not_applicable("registered, but a call to the user came nowhere"),
    })
}

/// A call whose caller is, as he says, behind a proxy; then the callee hangs up.
async fn record_route(probe: &Probe) -> Judged {
    let (mut alice, mut bob, draft) = probe.pair().await?;
    let mut ear = probe.ear(None).await?;
    let detour = format!("<sip:{};lr>", ear.local());
    let draft = draft.with("Record-Route", detour.clone());
    let within = probe.patience().saturating_mul(3);
    let picks_up = async {
        let invite = bob.hears(Method::Invite, within).await?;
        let tag = bob.fresh();
        bob.answer(&invite, 200, &tag).await;
        // It is as good as hung up only once the caller has heard of it.
        bob.hears(Method::Ack, within).await;
        Some((invite, tag))
    };
    let (answer, taken) = tokio::join!(alice.ask(draft.clone()), picks_up);
    let Some((invite, tag)) = taken else {
        probe.keep(0, alice).await;
        probe.keep(1, bob).await;
        return Ok(refused(answer.as_ref()));
    };
    let mut of_bob = Dialog::answered(&invite, &tag);
    let named = of_bob.routes.contains(&detour);
    let bye = of_bob.draft("BYE");
    let hears = async {
        let request = alice.hears(Method::Bye, within).await?;
        alice.answer(&request, 200, "").await;
        Some(())
    };
    let (ended, came, heard) = tokio::join!(bob.ask(bye), hears, ear.hear(within));
    if let (None, Some(answer)) = (came, &answer) {
        let mut of_alice = Dialog::called(&draft, answer);
        of_alice.routes.retain(|route| *route != detour);
        of_alice.cseq = answer.cseq().map_or(draft.cseq, |cseq| cseq.number);
        let bye = of_alice.draft("BYE");
        alice.ask(bye).await;
    }
    probe.keep(0, alice).await;
    probe.keep(1, bob).await;
    let ended = ended.and_then(|answer| answer.status());
    Ok(match (heard, came, ended) {
        (Heard::Message(_) | Heard::Octets(_), ..) => failed(format!(
            "the callee's BYE was sent to {}, which only the caller named",
            ear.local()
        )),
        (_, Some(()), _) if named => passed(
            "the callee's phone was told of it, but its BYE came to the caller without the detour",
        ),
        (_, Some(()), _) => passed("the callee's phone was not told of it"),
        (_, None, Some(status)) => passed(format!("the callee's BYE is refused: {status}")),
        (_, None, None) => passed("the callee's BYE is sent nowhere, and not answered"),
    })
}

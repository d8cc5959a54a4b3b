//! The audit, calls: two users talk, and somebody who knows all of their dialog's names, but has no password, meddles.
//!
//! The caller's own requests are the control: one arrives before the stranger's, and the BYE afterwards.
//!
//! Takes:   two accounts, and an [`Intrusion`].
//! Gives:   whether a phone heard the stranger.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 9, 12.2, 15, 16.10 and 26.1; RFC 3262; RFC 3311; RFC 3515; RFC 3891; RFC 4538; V-60, V-61, V-63, V-70.

use std::rc::Rc;

use super::super::call::{Call, sdp};
use super::super::case::{Case, Finding, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::probe::Probe;
use super::super::user::{User, branch_of};
use crate::client::draft::Draft;
use crate::wire::{Message, Method};

/// What the stranger sends into the call.
#[derive(Debug)]
pub struct Intrusion {
    method: &'static str,
    /// Whether in the caller's name, to the callee; else the other way round.
    as_caller: bool,
    fields: &'static [(&'static str, &'static str)],
    /// Whether he asks for the sound.
    offers: bool,
}

const fn intrusion(method: &'static str) -> Intrusion {
    Intrusion { method, as_caller: true, fields: &[], offers: false }
}

const fn row(
    name: &'static str,
    title: &'static str,
    threats: &'static [&'static str],
    clause: &'static str,
    why: &'static str,
    run: Run,
) -> Case {
    Case {
        name,
        group: Group::Dialog,
        title,
        threats,
        clause,
        why,
        remedy: REMEDY,
        over: Over::First,
        accounts: 2,
        disruptive: false,
        run,
    }
}

const REMEDY: &str = "Challenge requests inside dialogs, too, or hold each dialog to the connection and the user that opened it; \
    Call-ID and tags are no secrets.";

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("bye-caller", "A stranger cannot hang up in the caller's name", &["V-60"], "RFC 3261 15, 26.1.4",
        "Whoever sees one message of a call can end it, and any other as well.",
        Run::Inside(&intrusion("BYE"))),
    row("bye-callee", "A stranger cannot hang up in the callee's name", &["V-60"], "RFC 3261 15, 26.1.4",
        "Whoever sees one message of a call can end it, and any other as well.",
        Run::Inside(&Intrusion { as_caller: false, ..intrusion("BYE") })),
    row("reinvite", "A stranger cannot take over the sound by INVITE", &["V-60"], "RFC 3261 14, 26.1.4",
        "A new offer sends the callee's voice to whom the stranger names.",
        Run::Inside(&Intrusion { offers: true, ..intrusion("INVITE") })),
    row("update", "A stranger cannot take over the sound by UPDATE", &["V-60", "V-71"], "RFC 3311 5; RFC 3261 26.1.4",
        "A new offer sends the callee's voice to whom the stranger names.",
        Run::Inside(&Intrusion { offers: true, ..intrusion("UPDATE") })),
    row("info", "A stranger cannot send INFO into a call", &["V-60"], "RFC 6086 10",
        "INFO carries the digits that people press: PINs, and what menus do with them.",
        Run::Inside(&Intrusion {
            fields: &[("Info-Package", "dtmf"), ("Event", "telephone-event")], ..intrusion("INFO") })),
    row("refer", "A stranger cannot send REFER into a call", &["V-60", "V-133"], "RFC 3515 5",
        "REFER makes a phone call whom the stranger names, at its owner's cost.",
        Run::Inside(&Intrusion {
            fields: &[("Refer-To", "<sip:premium@elsewhere.invalid>")], ..intrusion("REFER") })),
    row("prack", "A stranger cannot send PRACK into a call", &["V-71"], "RFC 3262 3, 9",
        "What is acknowledged for somebody is not repeated for him.",
        Run::Inside(&Intrusion { fields: &[("RAck", "1 1 INVITE")], ..intrusion("PRACK") })),
    row("cancel", "A stranger cannot cancel a call, even if he knows its branch", &["V-61"], "RFC 3261 9.2, 16.10",
        "A call that never rings: CANCEL cannot be challenged, so where it comes from is all there is to judge.",
        Run::Script(|probe| Box::pin(cancels(probe, true)))),
    row("cancel-guessed", "A stranger cannot cancel a call whose branch he does not know", &["V-61"], "RFC 3261 9.2, 17.2.3",
        "Call-ID and tags travel far; whoever has them would make calls never ring.",
        Run::Script(|probe| Box::pin(cancels(probe, false)))),
    row("answer-forged", "A stranger cannot answer in the callee's place", &["V-63"], "RFC 3261 18.1.2, 26.1.2",
        "Whoever answers first is talked to: the caller believes to have reached his bank.",
        Run::Script(|probe| Box::pin(answers(probe)))),
    row("replaces", "A stranger cannot take a call over by Replaces", &["V-70"], "RFC 3891 3, 7",
        "The callee's phone drops the caller, and talks to the stranger.",
        Run::Script(|probe| Box::pin(outside(probe, "INVITE", "Replaces")))),
    row("target-dialog", "A stranger cannot have a call transferred by Target-Dialog", &["V-70"], "RFC 4538 4, 9",
        "The names of a dialog are taken for leave: the phone calls whom the stranger names.",
        Run::Script(|probe| Box::pin(outside(probe, "REFER", "Target-Dialog")))),
];

/// What is said where a stranger's request came to nothing.
pub(super) fn refused(answer: Option<&Message>) -> Finding {
    match answer.and_then(Message::status) {
        Some(status @ (401 | 407)) => passed(format!("asked for credentials: {status}")),
        Some(status @ (429 | 500 | 503)) => {
            not_applicable(format!("answered {status}: that says nothing of the request"))
        }
        Some(status @ 200..=299) => failed(format!("granted: {status}")),
        Some(status) => passed(format!("refused: {status}")),
        None => passed("not answered, and nobody was told"),
    }
}

/// A stranger's request, inside the call.
pub(in super::super) async fn run(probe: &Probe, intrusion: &Intrusion) -> Judged {
    let mut call = probe.call().await?;
    let mut stranger = probe.stranger().await?;
    let draft = forged(probe, &call, &stranger, intrusion)?;
    let (octets, branch) = stranger.print(&draft);
    let victim = if intrusion.as_caller { &mut call.bob } else { &mut call.alice };
    let told = told(&mut stranger, &octets, &branch, victim, probe).await;
    let ended = call.end(probe).await;
    let (answer, heard) = told;
    let finding = match heard {
        true => failed(format!("the stranger's {} reached the phone", intrusion.method)),
        false => refused(answer.as_ref()),
    };
    Ok(match ended {
        false if !heard => failed(format!(
            "{}; afterwards the caller's own BYE did not arrive any more",
            finding.seen
        )),
        _ => finding,
    })
}

/// Sends it; the answer, and whether the victim heard it.
async fn told(
    stranger: &mut User,
    octets: &[u8],
    branch: &str,
    victim: &mut User,
    probe: &Probe,
) -> (Option<Message>, bool) {
    let method = octets.split(|octet| *octet == b' ').next().map_or(Method::Other, Method::of);
    let within = probe.patience().saturating_mul(2);
    let hears = async {
        let Some(request) = victim.hears(method, within).await else { return false };
        let status = if method == Method::Invite { 488 } else { 200 };
        let tag = if request.to_tag().is_empty() { victim.fresh() } else { String::new() };
        victim.answer(&request, status, &tag).await;
        true
    };
    tokio::join!(stranger.exchange(octets, branch), hears)
}

fn forged(
    probe: &Probe,
    call: &Call,
    stranger: &User,
    intrusion: &Intrusion,
) -> Result<Draft, Finding> {
    let (dialog, own) = match intrusion.as_caller {
        true => (&call.of_alice, 0),
        false => (&call.of_bob, 1),
    };
    let mut dialog = dialog.clone();
    dialog.cseq = dialog.cseq.saturating_add(10);
    let mut draft = dialog.draft(intrusion.method);
    draft.from.clone_from(&probe.account(own)?.identity);
    for (name, value) in intrusion.fields {
        draft = draft.with(name, *value);
    }
    Ok(match intrusion.offers {
        true => draft.body("application/sdp", sdp(stranger.line.local())),
        false => draft,
    })
}

/// A stranger's request outside the call that names it.
async fn outside(probe: &Probe, method: &'static str, field: &'static str) -> Judged {
    let mut call = probe.call().await?;
    let mut stranger = probe.stranger().await?;
    let mut draft = stranger.draft(method, &probe.account(1)?.identity);
    draft.from.clone_from(&probe.account(0)?.identity);
    let of = &call.of_bob;
    let (to, from) = match field {
        "Replaces" => ("to-tag", "from-tag"),
        _ => ("local-tag", "remote-tag"),
    };
    let named = format!("{};{to}={};{from}={}", of.call_id, of.local_tag, of.remote_tag);
    draft = draft.with(field, named);
    draft = match method {
        "REFER" => draft.with("Refer-To", "<sip:premium@elsewhere.invalid>"),
        _ => draft.body("application/sdp", sdp(stranger.line.local())),
    };
    let (octets, branch) = stranger.print(&draft);
    let (answer, heard) = told(&mut stranger, &octets, &branch, &mut call.bob, probe).await;
    call.end(probe).await;
    Ok(match heard {
        true => failed(format!("the stranger's {method} with {field} reached the phone")),
        false => refused(answer.as_ref()),
    })
}

/// A stranger's CANCEL for a call that rings.
async fn cancels(probe: &Probe, knows_branch: bool) -> Judged {
    let (mut alice, mut bob, draft) = probe.pair().await?;
    let mut stranger = probe.stranger().await?;
    let sent = Rc::clone(&alice.sent);
    let within = probe.patience().saturating_mul(2);
    let story = async {
        let invite = bob.hears(Method::Invite, within.saturating_mul(2)).await?;
        let tag = bob.fresh();
        bob.answer(&invite, 180, &tag).await;
        let branch = match knows_branch {
            true => None,
            false => Some(format!("z9hG4bK{}", stranger.fresh())),
        };
        let (cancel, branch) = cancel_of(&sent.borrow(), branch)?;
        let (answer, heard) =
            tokio::join!(stranger.exchange(&cancel, &branch), bob.hears(Method::Cancel, within));
        match &heard {
            None => bob.answer(&invite, 200, &tag).await,
            Some(cancel) => {
                bob.answer(cancel, 200, &tag).await;
                bob.answer(&invite, 487, &tag).await;
            }
        }
        Some((invite, tag, answer, heard.is_some()))
    };
    let (answered, story) = tokio::join!(alice.ask(draft.clone()), story);
    let Some((invite, tag, answer, heard)) = story else {
        return Err(not_applicable("no call between the accounts comes about"));
    };
    let finding = match (heard, answered.as_ref().and_then(Message::status)) {
        (true, _) => failed("the callee's phone was told to stop ringing"),
        (false, Some(487)) => failed("the caller was told that his call was cancelled"),
        (false, Some(200..=299)) => match answer.as_ref().and_then(Message::status) {
            Some(status @ 200..=299) => passed(format!("answered {status}, and the call went on")),
            _ => refused(answer.as_ref()),
        },
        (false, _) => not_applicable("the call did not come about afterwards"),
    };
    if let (Some(answered), false) = (answered, heard) {
        Call::made(alice, bob, &draft, &answered, &invite, &tag).end(probe).await;
    }
    Ok(finding)
}

/// The CANCEL of an INVITE, with that branch in place of its own, and the branch that it has.
fn cancel_of(invite: &[u8], other: Option<String>) -> Option<(Vec<u8>, String)> {
    let message = Message::from_datagram(invite.to_vec().into()).ok()?;
    let own = String::from_utf8_lossy(branch_of(&message)).into_owned();
    let text = String::from_utf8_lossy(invite);
    let kept = ["Via:", "Route:", "Max-Forwards:", "From:", "To:", "Call-ID:"];
    let mut cancel = text.split("\r\n").next()?.replacen("INVITE", "CANCEL", 1) + "\r\n";
    for line in text.split("\r\n").filter(|line| kept.iter().any(|name| line.starts_with(name))) {
        cancel.push_str(line);
        cancel.push_str("\r\n");
    }
    let number = message.cseq()?.number;
    cancel.push_str(&format!("CSeq: {number} CANCEL\r\nContent-Length: 0\r\n\r\n"));
    Some(match other {
        Some(other) => (cancel.replacen(&own, &other, 1).into_bytes(), other),
        None => (cancel.into_bytes(), own),
    })
}

/// A stranger's 200 while the callee's phone rings.
async fn answers(probe: &Probe) -> Judged {
    let (mut alice, mut bob, draft) = probe.pair().await?;
    let mut stranger = probe.stranger().await?;
    let forged = stranger.fresh();
    let story = async {
        let invite = bob.hears(Method::Invite, probe.patience().saturating_mul(4)).await?;
        let tag = bob.fresh();
        bob.answer(&invite, 180, &tag).await;
        stranger.answer(&invite, 200, &forged).await;
        // What the target makes of it comes before the callee picks up.
        let within = probe.patience();
        stranger.hear_until(within, |_| false).await;
        bob.answer(&invite, 200, &tag).await;
        Some((invite, tag))
    };
    let (answer, story) = tokio::join!(alice.ask(draft.clone()), story);
    let (Some(answer), Some((invite, tag))) = (answer, story) else {
        return Err(not_applicable("no call between the accounts comes about"));
    };
    let status = answer.status().unwrap_or_default();
    let finding = if answer.to_tag() == forged.as_bytes() {
        failed("the caller was given the stranger's answer")
    } else if status < 300 && answer.to_tag() == tag.as_bytes() {
        passed("the caller was given the callee's answer alone")
    } else {
        not_applicable(format!("answered {status}: whose answer it was cannot be told"))
    };
    Call::made(alice, bob, &draft, &answer, &invite, &tag).end(probe).await;
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V-61: it is the CANCEL of that INVITE, but for the branch if that is not known.
    #[test]
    fn a_cancel_has_what_its_invite_had() {
        let invite = b"INVITE sip:b@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1;rport\r\n\
            Max-Forwards: 70\r\nFrom: <sip:a@example.net>;tag=1\r\nTo: <sip:b@example.net>\r\nCall-ID: 1\r\n\
            CSeq: 7 INVITE\r\nUser-Agent: a\r\nContent-Length: 0\r\n\r\n";
        for (other, expected) in [(None, "z9hG4bK1"), (Some("z9hG4bKx".to_owned()), "z9hG4bKx")] {
            let (cancel, branch) = cancel_of(invite, other).unwrap();
            let cancel = Message::from_datagram(cancel.into()).unwrap();
            assert!(crate::wire::check::check(&cancel).is_ok());
            assert_eq!((branch.as_str(), branch_of(&cancel)), (expected, expected.as_bytes()));
            assert_eq!(cancel.method(), Some(Method::Cancel));
            assert_eq!(cancel.cseq().map(|cseq| cseq.number), Some(7));
            assert_eq!((cancel.call_id(), cancel.to_tag()), (&b"1"[..], &b""[..]));
        }
    }
}

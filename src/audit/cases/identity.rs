//! The audit, identities: a caller claims to be somebody, or to be trusted, and the callee's phone tells what came of it.
//!
//! A call without the claim is the control: where it does not ring, nothing follows. A caller may ask not to be named, too.
//!
//! Takes:   two accounts, and a [`Claim`].
//! Gives:   whether the callee was told what the caller claimed.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 20.4, 20.9, 22 and 26.1.2; RFC 3323 sections 4.1 and 5; RFC 3325 sections 5 to 7, 9.2 and 9.3; RFC 5658; RFC 7315; V-20, V-29, V-126.

use super::super::case::{Case, Finding, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::probe::Probe;
use super::super::user::User;
use super::dialog::refused;
use crate::client::draft::Draft;
use crate::wire::{Message, Method, Name};

/// What the caller claims.
#[derive(Debug)]
pub struct Claim {
    /// The header fields it is made in; `{domain}` is the target's.
    fields: &'static [(&'static str, &'static str)],
    /// Whether it is made in From.
    in_from: bool,
}

/// What every claim has in it, and nothing else of the call.
const MARK: &str = "somebody-important";

pub(super) const fn row(
    name: &'static str,
    title: &'static str,
    threats: &'static [&'static str],
    clause: &'static str,
    why: &'static str,
    remedy: &'static str,
    run: Run,
) -> Case {
    Case {
        name,
        group: Group::Identity,
        title,
        threats,
        clause,
        why,
        remedy,
        over: Over::First,
        accounts: 2,
        disruptive: false,
        run,
    }
}

pub(super) const fn claim(fields: &'static [(&'static str, &'static str)]) -> Claim {
    Claim { fields, in_from: false }
}

const STRIP: &str = "Remove the header from whatever comes from users, and write it anew from what their credentials prove.";
const CHALLENGE: &str =
    "Challenge every request that leads anywhere, not REGISTER alone, whatever From says.";
const BELIEVED: &str =
    "The callee's phone, and every server on the way, takes it for what the network vouches for.";

const NAMED: &str = "Whoever hides has a reason: a refuge, a doctor, an informant is found by what the callee's phone is told.";
const HIDE: &str = "Remove P-Asserted-Identity, P-Preferred-Identity and Remote-Party-ID where a request with Privacy: id goes to a phone.";

/// The table.
#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    row("call-without-credentials", "A stranger cannot call in a user's name", &["V-20"], "RFC 3261 22, 26.1.2",
        "Anybody calls anybody as anybody, and the user pays.", CHALLENGE,
        Run::Script(|probe| Box::pin(unsigned(probe, "INVITE")))),
    row("message-without-credentials", "A stranger cannot write in a user's name", &["V-20"], "RFC 3261 22; RFC 3428 11",
        "A message from the boss, or from the bank, is what fraud begins with.", CHALLENGE,
        Run::Script(|probe| Box::pin(unsigned(probe, "MESSAGE")))),
    row("asserted-forged", "P-Asserted-Identity of a user is not passed on", &["V-29", "V-03"], "RFC 3325 5, 8", BELIEVED, STRIP,
        Run::Claim(&claim(&[("P-Asserted-Identity", "<sip:somebody-important@{domain}>")]))),
    row("asserted-spelt", "P-Asserted-Identity in another spelling is not passed on", &["V-03"], "RFC 3261 7.3.1; RFC 3325 5", BELIEVED, STRIP,
        Run::Claim(&claim(&[("p-asserted-IDENTITY ", "<sip:somebody-important@{domain}>")]))),
    row("preferred-foreign", "P-Preferred-Identity of another user is not asserted", &["V-29"], "RFC 3325 5, 9.2", BELIEVED,
        "Take P-Preferred-Identity only if it is one of the user's own, and never pass it on.",
        Run::Claim(&claim(&[("P-Preferred-Identity", "<sip:somebody-important@{domain}>")]))),
    row("remote-party-forged", "Remote-Party-ID of a user is not passed on", &["V-29"], "RFC 3325 5; RFC 3261 26.1.2", BELIEVED, STRIP,
        Run::Claim(&claim(&[("Remote-Party-ID", "<sip:somebody-important@{domain}>;party=calling;screen=yes")]))),
    row("network-headers", "What networks tell each other is not taken from users", &["V-29"], "RFC 7315 6",
        "Whom a call is billed to, and where it is said to come from, is believed of these.", STRIP,
        Run::Claim(&claim(&[
            ("P-Charging-Vector", "icid-value=somebody-important;orig-ioi=elsewhere.invalid"),
            ("P-Served-User", "<sip:somebody-important@{domain}>;sescase=orig"),
            ("P-Access-Network-Info", "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=somebody-important;network-provided"),
        ]))),
    row("from-foreign", "From of another user is refused, or the true caller is named", &["V-29"], "RFC 3261 22.1, 26.1.2; RFC 3325 5",
        "Phones show From: whoever may write there what he likes is whom he likes.",
        "Compare From with the user of the credentials, or assert the true one in P-Asserted-Identity.",
        Run::Claim(&Claim { fields: &[], in_from: true })),
    row("privacy-forged", "Privacy: id does not carry P-Asserted-Identity of a user past", &["V-29"], "RFC 3325 5, 7", BELIEVED, STRIP,
        Run::Claim(&claim(&[("Privacy", "id"), ("P-Asserted-Identity", "<sip:somebody-important@{domain}>")]))),
    row("privacy-id", "Whom the network asserts is not told to the callee if the caller asks for Privacy: id", &["V-29"], "RFC 3325 7, 9.3", NAMED, HIDE,
        Run::Script(|probe| Box::pin(private(probe, false)))),
    row("privacy-anonymous", "An anonymous caller is not named by what the network asserts", &["V-29"], "RFC 3323 4.1.1.3; RFC 3325 7, 9.3", NAMED, HIDE,
        Run::Script(|probe| Box::pin(private(probe, true)))),
    row("auto-answer", "A caller cannot make a phone answer by itself", &["V-126"], "RFC 3261 20.4, 20.9; RFC 5373 8",
        "A phone that answers without ringing is a bug in the room.",
        "Remove Answer-Mode, and answer-after of Call-Info and Alert-Info, from whatever comes from users.",
        Run::Claim(&claim(&[
            ("Call-Info", "<sip:somebody-important@{domain}>;answer-after=0"),
            ("Alert-Info", "<sip:somebody-important@{domain}>;info=alert-autoanswer"),
            ("Priv-Answer-Mode", "Auto;somebody-important"),
        ]))),
];

/// A call by the first account that is not taken; its answer, and what the callee's phone heard. A target that asks for some
/// seconds of patience is asked once more after them.
pub(super) async fn rings(
    probe: &Probe,
    caller: &mut User,
    callee: &mut User,
    draft: Draft,
) -> (Option<Message>, Option<Message>) {
    let (answer, heard) = rings_once(probe, caller, callee, draft.clone()).await;
    match &answer {
        Some(busy) if heard.is_none() && caller.was_asked_to_wait(busy).await => {
            let (call_id, from_tag) = (caller.fresh(), caller.fresh());
            rings_once(probe, caller, callee, Draft { call_id, from_tag, ..draft }).await
        }
        _ => (answer, heard),
    }
}

async fn rings_once(
    probe: &Probe,
    caller: &mut User,
    callee: &mut User,
    draft: Draft,
) -> (Option<Message>, Option<Message>) {
    let within = probe.patience().saturating_mul(3);
    let method = Method::of(draft.method.as_bytes());
    let hears = async {
        let request = callee.hears(method, within).await?;
        let tag = callee.fresh();
        callee.answer(&request, 486, &tag).await;
        Some(request)
    };
    tokio::join!(caller.ask(draft), hears)
}

/// The control: what the callee's phone hears of a good call.
pub(super) async fn may_call(
    probe: &Probe,
    alice: &mut User,
    bob: &mut User,
) -> Result<Message, Finding> {
    let draft = alice.draft("INVITE", &probe.account(1)?.identity);
    let (answer, heard) = rings(probe, alice, bob, draft).await;
    let status = answer.and_then(|answer| answer.status());
    match heard {
        Some(heard) => Ok(heard),
        None => Err(not_applicable(match status {
            Some(status) => format!("a good call does not ring: {status}"),
            None => "a good call does not ring, and is not answered".into(),
        })),
    }
}

/// A call with the claim.
pub(in super::super) async fn run(probe: &Probe, claim: &Claim) -> Judged {
    let (mut alice, mut bob) = (probe.user(0).await?, probe.user(1).await?);
    may_call(probe, &mut alice, &mut bob).await?;
    let domain = &probe.plan().domain;
    let mut draft = alice.draft("INVITE", &probe.account(1)?.identity);
    if claim.in_from {
        draft.from = format!("sip:{MARK}@{domain}");
    }
    for (name, value) in claim.fields {
        draft = draft.with(name, value.replace("{domain}", domain));
    }
    let (answer, heard) = rings(probe, &mut alice, &mut bob, draft).await;
    probe.keep(0, alice).await;
    probe.keep(1, bob).await;
    let Some(heard) = heard else { return Ok(refused(answer.as_ref())) };
    let user = probe.account(0)?.user().as_bytes();
    let named = heard.first(Name::PAssertedIdentity);
    let named = named.is_some_and(|value| memchr::memmem::find(value, user).is_some());
    let told = memchr::memmem::find(heard.octets(), MARK.as_bytes()).is_some();
    Ok(match (told, claim.in_from && named) {
        (false, _) => passed("the call rang, without what the caller claimed"),
        (true, true) => passed("the call rang, and the true caller was named beside"),
        (true, false) => failed("the callee's phone was told what the caller claimed"),
    })
}

/// A call of somebody who asks that he is not named.
async fn private(probe: &Probe, anonymous: bool) -> Judged {
    let (mut alice, mut bob) = (probe.user(0).await?, probe.user(1).await?);
    let usual = may_call(probe, &mut alice, &mut bob).await?;
    let draft = alice.draft("INVITE", &probe.account(1)?.identity);
    let mut draft = draft.with("Privacy", "id");
    if anonymous {
        "sip:anonymous@anonymous.invalid".clone_into(&mut draft.from);
    }
    let (answer, heard) = rings(probe, &mut alice, &mut bob, draft).await;
    probe.keep(0, alice).await;
    probe.keep(1, bob).await;
    let Some(heard) = heard else { return Ok(refused(answer.as_ref())) };
    let user = probe.account(0)?.user().as_bytes();
    Ok(match asserting(&heard, user) {
        Some(name) => failed(format!("the call rang, and {name} names the caller")),
        None if asserting(&usual, user).is_some() => {
            passed("the call rang, without the name that another call is given")
        }
        None => passed("the call rang; callees are told no asserted name, with Privacy or without"),
    })
}

/// The header that tells a callee that user's name, beside From and Contact.
fn asserting(heard: &Message, user: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 3] = ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID"];
    let text = String::from_utf8_lossy(heard.octets());
    let user = String::from_utf8_lossy(user);
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    NAMES.into_iter().find(|name| {
        head.lines().filter_map(|line| line.split_once(':')).any(|(field, value)| {
            field.trim().eq_ignore_ascii_case(name) && value.contains(user.as_ref())
        })
    })
}

/// A request of a stranger in the first account's name.
async fn unsigned(probe: &Probe, method: &'static str) -> Judged {
    let (mut alice, mut bob) = (probe.user(0).await?, probe.user(1).await?);
    may_call(probe, &mut alice, &mut bob).await?;
    let mut stranger = probe.stranger().await?;
    let mut draft = stranger.draft(method, &probe.account(1)?.identity);
    draft.from.clone_from(&probe.account(0)?.identity);
    if method == "MESSAGE" {
        draft = draft.body("text/plain", "hello");
    }
    let (answer, heard) = rings(probe, &mut stranger, &mut bob, draft).await;
    probe.keep(0, alice).await;
    probe.keep(1, bob).await;
    Ok(match heard {
        Some(_) => failed(format!("the stranger's {method} reached the callee")),
        None => refused(answer.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V-29: every claim can be told from the rest of the call.
    #[test]
    fn every_field_of_a_claim_carries_the_mark() {
        for case in CASES {
            let Run::Claim(claim) = &case.run else { continue };
            assert_ne!(claim.fields.is_empty(), !claim.in_from, "{}", case.name);
            for (name, value) in claim.fields {
                assert!(*name == "Privacy" || value.contains(MARK), "{}: {name}", case.name);
            }
        }
    }
}

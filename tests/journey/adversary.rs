//! What an adversary, or an unlucky network, tries on dialogs: nothing is taken over, nothing leaks.

use std::time::Duration;

use sipward::association::State;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent};

use crate::scene::{call, in_dialog, register, request, respond, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";
const BOB_CONTACT: &str = "Contact: <sip:bob@203.0.113.20:5060>\n";

/// Dialogs that count: neither ended nor waiting to be one.
fn bound(lab: &Lab) -> usize {
    lab.shared.gate.associations.snapshot().iter().filter(|a| a.state == State::Bound).count()
}

fn path(seen: &Sent) -> String {
    let text = seen.text();
    text.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").into()
}

fn from_core(method: &str, branch: &str, to_tag: &str, call: &str, route: &str) -> String {
    format!(
        "{method} sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: <sip:carol@example.net>;tag=c
To: <sip:alice@example.net>{to_tag}
Call-ID: {call}
CSeq: 1 {method}
Contact: <sip:carol@203.0.113.30>
{route}Content-Length: 0
"
    )
}

#[test]
fn an_invite_with_anothers_ids_does_not_take_over_the_call_being_made() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let (rogue, mut own) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    let copied = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut own));
    lab.receive(&rogue, &copied);
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", BOB_CONTACT));
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 9, Some(&mut own), "");
    assert_eq!(status_to(&lab.receive(&rogue, &bye), &rogue), Some(403), "V-60");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    to_core(&lab.receive(&alice, &bye));
}

#[test]
fn a_subscribe_with_anothers_ids_is_refused_by_rule_4() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let (rogue, mut own) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let event = "Event: presence\n";
    let uri = "sip:bob@example.net";
    let text = in_dialog("SUBSCRIBE", uri, "alice", "", "s", 1, Some(&mut key), event);
    to_core(&lab.receive(&alice, &text));
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());
    let text = in_dialog("SUBSCRIBE", uri, "alice", "", "s", 1, Some(&mut own), event);
    assert_eq!(status_to(&lab.receive(&rogue, &text), &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");
    assert_eq!(before, format!("{:?}", lab.shared.gate.associations.snapshot()));
}

#[test]
fn each_fork_of_the_core_leads_to_the_flow_that_answered() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let (bob, mut own) = (Peer::udp("192.0.2.20:5060"), lab.ue2());
    let routes = [
        path(&register(&mut lab, &alice, "alice", &mut key)),
        path(&register(&mut lab, &bob, "bob", &mut own)),
    ];
    let mut forks = Vec::new();
    for (branch, route) in ["f1", "f2"].into_iter().zip(&routes) {
        let text = from_core("INVITE", branch, "", "fork", &format!("Route: {route}\n"));
        let sent = lab.receive(&Peer::core(), &text);
        forks.push(sent.into_iter().find(|sent| sent.text().starts_with("INVITE")).expect("on"));
    }
    assert_eq!([forks[0].to, forks[1].to], [alice.flow().remote, bob.flow().remote]);
    lab.receive(&alice, &respond(&forks[0], 200, "a", ""));
    let made = lab.shared.gate.associations.snapshot();
    let made = made.iter().find(|dialog| dialog.state == State::Bound).expect("a dialog");
    assert_eq!(made.anchors(), [alice.flow()], "the first fork, not the latest");
    assert!(made.origin.owner.name.contains("ue1"));
}

#[test]
fn a_2xx_that_comes_again_does_not_wake_a_call_that_ended() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = call(&mut lab, &alice, &mut key);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    let bye = to_core(&lab.receive(&alice, &bye)).clone();
    lab.receive(&Peer::core(), &respond(&bye, 200, "b", ""));
    assert_eq!(bound(&lab), 0);
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", BOB_CONTACT));
    assert_eq!(bound(&lab), 0, "rule 31");
    lab.advance(Duration::from_secs(700));
    assert_eq!(lab.shared.gate.associations.footprint(), 0);
}

#[test]
fn a_bye_that_nobody_answers_ends_the_call_and_no_caller_runs_out_of_calls() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    for round in 0..70 {
        let (id, mut key) = (format!("c{round}"), lab.ue1());
        let text = request("INVITE", "sip:bob@example.net", "alice", &id, 1, Some(&mut key));
        let invite = to_core(&lab.receive(&alice, &text)).clone();
        lab.receive(&Peer::core(), &respond(&invite, 200, "b", BOB_CONTACT));
        let bye = in_dialog("BYE", BOB, "alice", "b", &id, 2, Some(&mut key), "");
        to_core(&lab.receive(&alice, &bye));
        lab.advance(Duration::from_secs(40));
        assert_eq!(bound(&lab), 0, "RFC 3261 section 15.1.1, call {round}");
    }
    lab.advance(Duration::from_secs(700));
    assert_eq!(lab.shared.gate.associations.footprint(), 0);
    assert_eq!(lab.transactions(), 0);
}

#[test]
fn a_subscription_that_was_refused_does_not_outlive_its_call() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let refer = "Refer-To: <sip:carol@example.net>\n";
    let text = in_dialog("REFER", BOB, "alice", "b", "call", 2, Some(&mut key), refer);
    let seen = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&seen, 603, "b", ""));
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 3, Some(&mut key), "");
    let bye = to_core(&lab.receive(&alice, &bye)).clone();
    lab.receive(&Peer::core(), &respond(&bye, 200, "b", ""));
    assert_eq!(bound(&lab), 0, "RFC 5057 section 5");
}

#[test]
fn a_call_may_ring_for_longer_than_an_entry_waits() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    for _ in 0..8 {
        lab.receive(&Peer::core(), &respond(&invite, 180, "b", ""));
        lab.advance(Duration::from_secs(150));
    }
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", BOB_CONTACT));
    let ack = in_dialog("ACK", BOB, "alice", "b", "call", 1, None, "");
    to_core(&lab.receive(&alice, &ack));
}

#[test]
fn notifies_with_ever_new_tags_are_bounded() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let uri = "sip:bob@example.net";
    let event = "Event: presence\n";
    let text = in_dialog("SUBSCRIBE", uri, "alice", "", "s", 1, Some(&mut key), event);
    to_core(&lab.receive(&alice, &text));
    let more = "Event: presence\nSubscription-State: active\n";
    for tag in 0..100 {
        let text = from_core("NOTIFY", &format!("n{tag}"), ";tag=alice", "s", more)
            .replace(";tag=c\n", &format!(";tag=c{tag}\n"));
        lab.receive(&Peer::core(), &text);
    }
    assert_eq!(bound(&lab), 16, "V-107");
}

#[test]
fn a_response_with_our_via_alone_leaves_the_transaction_alone() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, Some(&mut key));
    let seen = to_core(&lab.receive(&alice, &text)).clone();
    let good = respond(&seen, 200, "b", "");
    let last = good.lines().filter(|line| line.starts_with("Via:")).nth(1).expect("two");
    assert!(lab.receive(&Peer::core(), &good.replace(&format!("{last}\n"), "")).is_empty());
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::ResponseAstray), "VIA-08");
    assert_eq!(status_to(&lab.receive(&Peer::core(), &good), &alice), Some(200));
}

#[test]
fn a_core_that_asks_for_no_rport_is_answered_at_the_port_of_its_via() {
    let mut lab = Lab::default();
    let text = from_core("BYE", "x", ";tag=none", "none", "")
        .replace("203.0.113.10:5060;branch", "203.0.113.10:5070;branch")
        .replace(";rport", "");
    let sent = lab.receive(&Peer::core(), &text);
    assert_eq!(sent[0].message.status(), Some(481));
    assert_eq!(sent[0].to.to_string(), "203.0.113.10:5070", "VIA-03, without a transaction too");
}

#[test]
fn a_cancel_is_not_asked_about_extensions() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &text));
    let cancel = request("CANCEL", "sip:bob@example.net", "alice", "call", 1, None)
        .replace("z9hG4bKcallCANCEL1", "z9hG4bKcallINVITE1")
        .replace("Max-Forwards", "Proxy-Require: foo\nMax-Forwards");
    assert_eq!(status_to(&lab.receive(&alice, &cancel), &alice), Some(200), "RFC 3261 8.2.2.3");
}

#[test]
fn a_request_whose_flow_goes_is_430_not_500() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tcp("192.0.2.10:40000", 4), lab.ue1());
    let route = path(&register(&mut lab, &alice, "alice", &mut key));
    let text = from_core("MESSAGE", "m", "", "m", &format!("Route: {route}\n"));
    assert_eq!(lab.receive(&Peer::core(), &text)[0].to, alice.flow().remote);
    lab.close(&alice);
    let again = lab.receive(&Peer::core(), &text);
    assert_eq!(again[0].message.status(), Some(430), "rule 11, from its transaction");
}

#[test]
fn a_registration_is_noted_on_the_flow_it_came_on() {
    let mut settings = LabSettings::default();
    for listener in &mut settings.forward.listeners {
        listener.force_rport = false;
    }
    let mut lab = Lab::new(settings);
    let (alice, mut key) = (Peer::udp("192.0.2.10:61234"), lab.ue1());
    let text = request("REGISTER", "sip:example.net", "alice", "reg", 1, Some(&mut key))
        .replace(";rport", "");
    let seen = to_core(&lab.receive(&alice, &text)).clone();
    let granted = "Contact: <sip:alice@192.0.2.10:5060>;expires=600\n";
    let back = lab.receive(&Peer::core(), &respond(&seen, 200, "r", granted));
    assert_eq!(back[0].to.to_string(), ALICE, "VIA-04 is off");
    let flows = lab.shared.gate.authentication.flows();
    assert_eq!(flows.registered(&alice.flow(), lab.now).len(), 1, "RG-06");
    assert!(flows.registered(&Peer::udp(ALICE).flow(), lab.now).is_empty());
}

//! Stage 5: who may speak inside a dialog.

use std::time::Duration;

use sipward::association;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::lab::{UE1_BTID, UE2_BTID};
use sipward::testing::{Lab, LabSettings, Peer, Signer};

use crate::scene::{call, from_bob, in_dialog, register, request, respond, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";

/// Rule 28: a call is one, whether it rings or stands, and neither its INVITE nor what is left of it counts beside it.
#[test]
fn calls_of_one_caller_count_as_long_as_they_are_up() {
    let mut lab = Lab::default();
    let two = association::Settings { max_per_caller: 2, ..association::Settings::default() };
    lab.shared.gate.associations.replace_settings(two);
    let (alice, mut key, contact) =
        (Peer::udp(ALICE), lab.ue1(), "Contact: <sip:bob@203.0.113.20:5060>\n");
    let invite = |lab: &mut Lab, key: &mut Signer, id: &str| {
        let text = request("INVITE", "sip:bob@example.net", "alice", id, 1, Some(key));
        let sent = lab.receive(&alice, &text);
        (lab.last() == Outcome::Forwarded).then(|| to_core(&sent).clone())
    };
    let core = Peer::core();
    for round in 0..10 {
        // enabler.sip.rate
        lab.advance(Duration::from_secs(5));
        let [stands, rings, third] = ["stands", "rings", "third"].map(|id| format!("{id}{round}"));
        let call = invite(&mut lab, &mut key, &stands).expect("the first");
        lab.receive(&core, &respond(&call, 180, "b", contact));
        lab.receive(&core, &respond(&call, 200, "b", contact));
        let ringing = invite(&mut lab, &mut key, &rings).expect("the second");
        lab.receive(&core, &respond(&ringing, 180, "b", contact));
        assert!(invite(&mut lab, &mut key, &third).is_none());
        assert_eq!(lab.last(), Outcome::Refused(Refusal::TableFull), "rule 28");
        let bye = in_dialog("BYE", BOB, "alice", "b", &stands, 2, Some(&mut key), "");
        let bye = to_core(&lab.receive(&alice, &bye)).clone();
        lab.receive(&core, &respond(&bye, 200, "b", ""));
        let busy = invite(&mut lab, &mut key, &third).expect("in the place of the first");
        lab.receive(&core, &respond(&ringing, 480, "b", ""));
        lab.receive(&core, &respond(&busy, 486, "c", ""));
    }
    lab.advance(Duration::from_secs(33));
    assert_eq!(lab.shared.gate.associations.callers(), 0);
}

#[test]
fn on_tls_what_a_key_proved_goes_when_the_key_is_taken_back() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let flows = lab.shared.gate.authentication.flows();
    flows.take_back(|caller| *caller.key_name == *UE2_BTID);
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 2, None, "");
    to_core(&lab.receive(&alice, &info));
    lab.shared.gate.authentication.flows().take_back(|caller| *caller.key_name == *UE1_BTID);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 3, None, "");
    assert_eq!(status_to(&lab.receive(&alice, &bye), &alice), Some(407));
    assert!(lab.shared.gate.authentication.flows().is_empty());
}

#[test]
fn the_owner_moves_to_a_new_flow_with_credentials() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let moved = Peer::udp("192.0.2.10:61000");
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    to_core(&lab.receive(&moved, &info));
    assert_eq!(lab.decisions.last().map(|d| d.rule), Some(2));

    let sent = lab.receive(&Peer::core(), &from_bob("BYE", 1));
    assert_eq!(sent[0].to, moved.flow().remote, "the newest anchor");
}

#[test]
fn a_closed_connection_is_no_way_to_the_owner_and_without_another_it_is_430() {
    let mut lab = Lab::default();
    let (first, second) = (Peer::tcp("192.0.2.10:41000", 1), Peer::tcp("192.0.2.10:42000", 2));
    let (moved, mut key) = (Peer::udp("192.0.2.10:61000"), lab.ue1());
    call(&mut lab, &first, &mut key);
    let core = Peer::core();
    for (number, flow) in [(2, &second), (3, &moved)] {
        let info = in_dialog("INFO", BOB, "alice", "b", "call", number, Some(&mut key), "");
        to_core(&lab.receive(flow, &info));
    }
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 4, Some(&mut key), "");
    to_core(&lab.receive(&second, &info));
    lab.close(&second);
    let sent = lab.receive(&core, &from_bob("INFO", 1));
    assert_eq!(sent[0].to, moved.flow().remote, "OB-04: the newest that is open");

    let mut lab = Lab::default();
    let mut key = lab.ue1();
    call(&mut lab, &first, &mut key);
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    to_core(&lab.receive(&second, &info));
    lab.close(&second);
    let sent = lab.receive(&core, &from_bob("INFO", 1));
    assert_eq!(sent[0].to, first.flow().remote);
    lab.close(&first);
    let sent = lab.receive(&core, &from_bob("BYE", 2));
    assert_eq!(status_to(&sent, &core), Some(430));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::FlowGone), "rule 11");
    let third = Peer::tcp("192.0.2.10:43000", 3);
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 3, Some(&mut key), "");
    to_core(&lab.receive(&third, &info));
    let sent = lab.receive(&core, &from_bob("BYE", 3));
    assert_eq!(sent[0].to, third.flow().remote, "the owner is back");
}

#[test]
fn a_cancel_that_crosses_the_final_answer_is_answered_and_has_no_effect() {
    for (status, acknowledged) in [(200, false), (486, false), (486, true)] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
        let invite = to_core(&lab.receive(&alice, &text)).clone();
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        lab.receive(&Peer::core(), &respond(&invite, status, "b", contact));
        if acknowledged {
            let ack = request("ACK", "sip:bob@example.net", "alice", "call", 1, None)
                .replace("z9hG4bKcallACK1", "z9hG4bKcallINVITE1");
            lab.receive(&alice, &ack);
        }
        let cancel = request("CANCEL", "sip:bob@example.net", "alice", "call", 1, None)
            .replace("z9hG4bKcallCANCEL1", "z9hG4bKcallINVITE1");
        let sent = lab.receive(&alice, &cancel);
        assert_eq!(status_to(&sent, &alice), Some(200), "RFC 3261 section 9.2, after {status}");
        assert_eq!(sent.len(), 1, "nothing goes on to the core after {status}");
        let elsewhere = Peer::udp("192.0.2.66:5060");
        let sent = lab.receive(&elsewhere, &cancel);
        assert_eq!(status_to(&sent, &elsewhere), Some(481), "on another flow: rule 15");
    }
}

#[test]
fn an_unknown_dialog_is_481_and_its_ack_is_dropped() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let bye = in_dialog("BYE", BOB, "alice", "b", "none", 2, Some(&mut key), "");
    assert_eq!(status_to(&lab.receive(&alice, &bye), &alice), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown), "rule 6");
    let ack = in_dialog("ACK", BOB, "alice", "b", "none", 2, None, "");
    assert!(lab.receive(&alice, &ack).is_empty());
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::AckUnmatched), "rule 15");
}

#[test]
fn a_lower_cseq_is_refused_by_rule_7_and_a_repetition_absorbed_by_rule_8() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 20, Some(&mut key), "");
    to_core(&lab.receive(&alice, &info));
    assert!(lab.receive(&alice, &info).is_empty());
    assert_eq!(lab.last(), Outcome::Absorbed);
    assert_eq!(lab.decisions.last().map(|d| d.rule), Some(8));
    let low = in_dialog("INFO", BOB, "alice", "b", "call", 19, Some(&mut key), "");
    assert_eq!(status_to(&lab.receive(&alice, &low), &alice), Some(500));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::SequenceLow));
}

#[test]
fn requests_from_the_wrong_side_are_refused_by_rule_26() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let as_bob = in_dialog("BYE", BOB, "alice", "alice", "call", 7, Some(&mut key), "")
        .replace("<sip:alice@example.net>;tag=alice", "<sip:bob@example.net>;tag=b");
    assert_eq!(status_to(&lab.receive(&alice, &as_bob), &alice), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::WrongSide));
    let stray = Peer::stray("203.0.113.66:5060");
    assert_eq!(status_to(&lab.receive(&stray, &as_bob), &stray), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::PeerUnknown));
}

#[test]
fn forks_are_dialogs_of_their_own_and_the_losers_end() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let invite = to_core(&sent).clone();
    for tag in ["b1", "b2", "b3"] {
        let back = lab.receive(&Peer::core(), &respond(&invite, 183, tag, "RSeq: 1\n"));
        assert_eq!(status_to(&back, &alice), Some(183));
    }
    let prack =
        in_dialog("PRACK", BOB, "alice", "b9", "call", 2, Some(&mut key), "RAck: 1 1 INVITE\n");
    assert_eq!(status_to(&lab.receive(&alice, &prack), &alice), Some(481), "no such fork");
    lab.receive(&Peer::core(), &respond(&invite, 200, "b2", ""));
    lab.advance(Duration::from_secs(33));
    let update = in_dialog("UPDATE", BOB, "alice", "b1", "call", 3, Some(&mut key), "");
    assert_eq!(status_to(&lab.receive(&alice, &update), &alice), Some(481), "a lost fork");
    let update = in_dialog("UPDATE", BOB, "alice", "b2", "call", 4, Some(&mut key), "");
    to_core(&lab.receive(&alice, &update));
}

/// V-107.
#[test]
fn early_dialogs_have_a_bound_and_the_call_goes_on() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let invite = to_core(&sent).clone();
    let mut passed = 0;
    for tag in 0..40 {
        passed += lab.receive(&Peer::core(), &respond(&invite, 180, &format!("t{tag}"), "")).len();
    }
    assert_eq!(passed, 16);
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::TooManyEarlyDialogs), "rule 27");
    let back = lab.receive(&Peer::core(), &respond(&invite, 200, "t3", ""));
    assert_eq!(status_to(&back, &alice), Some(200));
}

/// Alice subscribes to bob's presence, is granted ten minutes, and notified.
fn subscribed(lab: &mut Lab, alice: &Peer, key: &mut Signer) {
    let event = "Event: presence\nExpires: 3600\n";
    let uri = "sip:bob@example.net";
    let text = in_dialog("SUBSCRIBE", uri, "alice", "", "call", 1, Some(key), event);
    let subscribe = to_core(&lab.receive(alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&subscribe, 200, "b", "Expires: 600\n"));
    assert_eq!(notified(lab, 1, "active"), Outcome::Forwarded);
}

/// Timer N.
#[test]
fn a_subscription_that_nobody_is_notified_of_is_none_after_64_t1() {
    for (what, answered) in [("not even answered", false), ("granted", true)] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let event = "Event: presence\nExpires: 3600\n";
        let uri = "sip:bob@example.net";
        let text = in_dialog("SUBSCRIBE", uri, "alice", "", "call", 1, Some(&mut key), event);
        let subscribe = to_core(&lab.receive(&alice, &text)).clone();
        if answered {
            lab.receive(&Peer::core(), &respond(&subscribe, 200, "b", "Expires: 600\n"));
        }
        lab.advance(Duration::from_secs(33));
        let late = notified(&mut lab, 1, "active");
        let expected = if answered { Refusal::DialogEnded } else { Refusal::DialogUnknown };
        assert_eq!(late, Outcome::Refused(expected), "{what}");
    }
}

/// Bob's server notifies.
fn notified(lab: &mut Lab, number: u32, state: &str) -> Outcome {
    let rows = format!("Event: presence\nSubscription-State: {state}\nContent-Length");
    let notify = from_bob("NOTIFY", number).replace("Content-Length", &rows);
    lab.receive(&Peer::core(), &notify);
    lab.last()
}

fn states(lab: &Lab) -> Vec<&'static str> {
    let mut states: Vec<_> =
        lab.shared.gate.associations.snapshot().iter().map(|a| a.state.as_str()).collect();
    states.sort_unstable();
    states
}

#[test]
fn a_subscription_that_nobody_refreshes_ends_when_its_time_and_64_t1_are_over() {
    let second = Duration::from_secs;
    for (what, states_told, length) in [
        ("the 2xx", &[][..], 632),
        ("a NOTIFY says less", &["active;expires=60"][..], 92),
        ("a NOTIFY says more", &["pending;expires=1200"][..], 1232),
        ("a NOTIFY says nothing of it", &["active"][..], 632),
        ("the last one counts", &["active;expires=60", "active;expires=900"][..], 932),
    ] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        subscribed(&mut lab, &alice, &mut key);
        for (number, state) in (2..).zip(states_told) {
            assert_eq!(notified(&mut lab, number, state), Outcome::Forwarded, "{what}");
        }
        lab.advance(second(length - 1));
        assert_eq!(states(&lab), ["bound"], "{what}");
        lab.advance(second(1));
        assert_eq!(states(&lab), ["released"], "{what}");
        let late = notified(&mut lab, 9, "active;expires=60");
        assert_eq!(late, Outcome::Refused(Refusal::DialogEnded), "{what}: rule 31");
        lab.advance(second(32));
        assert_eq!(states(&lab), [""; 0], "{what}");
    }
}

#[test]
fn a_refresh_prolongs_a_subscription_and_expires_zero_ends_it() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    subscribed(&mut lab, &alice, &mut key);
    for (number, granted, length) in [(2, 600, 300), (3, 600, 500), (4, 0, 31)] {
        let event = format!("Event: presence\nExpires: {granted}\n");
        key = lab.ue1();
        let text =
            in_dialog("SUBSCRIBE", BOB, "alice", "b", "call", number, Some(&mut key), &event);
        let sent = lab.receive(&alice, &text);
        let refresh = to_core(&sent).clone();
        let granted = format!("Expires: {granted}\n");
        lab.receive(&Peer::core(), &respond(&refresh, 200, "b", &granted));
        lab.advance(Duration::from_secs(length));
        assert_eq!(states(&lab), ["bound"], "after {number}");
    }
    lab.advance(Duration::from_secs(1));
    assert_eq!(states(&lab), ["released"]);
}

#[test]
fn a_subscription_inside_a_call_ends_and_the_call_goes_on() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let event = "Event: presence\nExpires: 60\n";
    let text = in_dialog("SUBSCRIBE", BOB, "alice", "b", "call", 2, Some(&mut key), event);
    let subscribe = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&subscribe, 200, "b", "Expires: 60\n"));
    // However often its end moves, the table of expiry does not grow with it.
    for number in 1..100 {
        let state = format!("active;expires={}", 3600 - 36 * number);
        assert_eq!(notified(&mut lab, number, &state), Outcome::Forwarded);
    }
    let associations = &lab.shared.gate.associations;
    assert!(associations.timers() <= associations.footprint(), "{associations:?}");
    assert_eq!(notified(&mut lab, 100, "active;expires=60"), Outcome::Forwarded);
    lab.advance(Duration::from_secs(3000));
    assert_eq!(states(&lab), ["bound"]);
    let late = notified(&mut lab, 101, "active;expires=60");
    assert_eq!(late, Outcome::Refused(Refusal::MethodUnfit), "rule 30");
    let sent = lab.receive(&Peer::core(), &from_bob("BYE", 102));
    assert_eq!(sent[0].to, alice.flow().remote);
}

/// A dialog that ended with a timer still set for what came before is forgotten all the same.
#[test]
fn a_dialog_that_ends_while_it_was_suspect_is_forgotten_like_others() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    call(&mut lab, &alice, &mut key);
    lab.close(&alice);
    lab.advance(Duration::from_secs(10));
    let again = Peer::tls("192.0.2.10:41000", 2);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    let bye = to_core(&lab.receive(&again, &bye)).clone();
    lab.receive(&Peer::core(), &respond(&bye, 200, "b", ""));
    lab.advance(Duration::from_secs(100));
    let associations = &lab.shared.gate.associations;
    assert_eq!((associations.footprint(), associations.ends(), associations.timers()), (0, 0, 0));
}

const PHONE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\"";
const TABLET: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e129>\"";

/// Bob calls alice, who answers on a device.
fn called_by_bob(lab: &mut Lab, alice: &Peer, key: &mut Signer, instance: &str) {
    let seen = register(lab, alice, "alice", key).text();
    let path = seen.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path");
    let invite = from_bob("INVITE", 1)
        .replace(";tag=alice", "")
        .replace("<sip:edge.example.net:5060;lr>", path)
        .replace("Content-Length", "Contact: <sip:bob@203.0.113.20:5060>\nContent-Length");
    let sent = lab.receive(&Peer::core(), &invite);
    let rings = sent.iter().find(|sent| sent.to == alice.flow().remote).expect("it goes to alice");
    let contact = format!("Contact: <sip:alice@192.0.2.10:5060>;{instance}\n");
    lab.receive(alice, &respond(rings, 200, "alice", &contact));
}

/// `dialog-association` section 1, owner test: with `association.same_instance` another device of the owner is not the
/// owner, whichever leg the dialog was formed on; without it, he is.
#[test]
fn a_dialog_may_be_held_to_the_instance_it_was_made_with() {
    let on = |instance: &str, text: String| {
        let contact = "Contact: <sip:alice@192.0.2.10:5060>";
        let told =
            if instance.is_empty() { contact.into() } else { format!("{contact};{instance}") };
        text.replace(contact, &told)
    };
    let bare = |text: String| text.replace("Contact: <sip:alice@192.0.2.10:5060>\n", "");
    for (held, called) in [(true, false), (true, true), (false, false)] {
        let mut settings = LabSettings::default();
        settings.association.same_instance = held;
        let mut lab = Lab::new(settings);
        let (phone, tablet) = (Peer::udp("192.0.2.10:5060"), Peer::udp("198.51.100.9:5060"));
        let mut key = lab.ue1();
        if called {
            called_by_bob(&mut lab, &phone, &mut key, PHONE);
        } else {
            let invite =
                request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
            let invite = to_core(&lab.receive(&phone, &on(PHONE, invite))).clone();
            lab.receive(
                &Peer::core(),
                &respond(&invite, 200, "b", "Contact: <sip:bob@203.0.113.20:5060>\n"),
            );
        }
        let mut number = 10;
        let mut inside = |lab: &mut Lab, from: &Peer, dress: &dyn Fn(String) -> String| {
            number += 1;
            let uri = "sip:bob@203.0.113.20:5060";
            let text = in_dialog("INFO", uri, "alice", "b", "call", number, Some(&mut key), "");
            lab.receive(from, &dress(text));
            lab.last()
        };
        let mismatch = Outcome::Refused(Refusal::AssociationMismatch);
        let elsewhere = if held { mismatch } else { Outcome::Forwarded };
        let about = format!("held {held}, called {called}");
        assert_eq!(inside(&mut lab, &tablet, &|text| on(TABLET, text)), elsewhere, "{about}");
        assert_eq!(
            inside(&mut lab, &phone, &|text| on(PHONE, text)),
            Outcome::Forwarded,
            "{about}"
        );
        if held {
            assert_eq!(inside(&mut lab, &tablet, &bare), mismatch, "names none: {about}");
            assert_eq!(
                inside(&mut lab, &phone, &bare),
                Outcome::Forwarded,
                "on an anchor: {about}"
            );
        }
        let moved = Peer::udp("192.0.2.10:5999");
        assert_eq!(
            inside(&mut lab, &moved, &|text| on(PHONE, text)),
            Outcome::Forwarded,
            "{about}"
        );
        assert_eq!(inside(&mut lab, &moved, &bare), Outcome::Forwarded, "an anchor since: {about}");
    }
}

//! Bridged calls that end here: both ends are told, and nothing is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sipward::association::State;
use sipward::authentication::Caller;
use sipward::testing::lab::UE1_BTID;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::Method;

use crate::apart::{Apart, End, at_core};
use crate::b2bua::{
    ALICE, ALICE_VIA, BOB, CORE_VIA, OFFER, SDP, alice, established, from_alice, line,
    status_at_core, world,
};
use crate::scene::register;

/// Where BYEs went, and the reasons that they bear.
fn byes(sent: &[Sent]) -> HashMap<String, String> {
    let byes = sent.iter().filter(|one| one.message.method() == Some(Method::Bye));
    byes.map(|bye| (bye.to.to_string(), line(&bye.text(), "Reason: ").to_owned())).collect()
}

/// To both ends, for that reason.
fn both(reason: &str) -> HashMap<String, String> {
    let ends = ["192.0.2.10:40000", "203.0.113.10:5060"];
    ends.map(|end| (end.to_owned(), reason.to_owned())).into()
}

/// Alice, with a key that ends after so many seconds.
fn world_with_key(seconds: u64) -> Apart {
    let lab = Lab::new(LabSettings::default().bridging());
    let expires = Some((lab.now + Duration::from_secs(seconds)).wall);
    let caller = Caller { expires, ..Arc::try_unwrap(alice()).expect("the only one") };
    Apart::new(lab, Peer::tls("192.0.2.10:40000", 1).proved(Arc::new(caller)))
}

fn states(world: &Apart) -> Vec<State> {
    let snapshot = world.lab.shared.gate.associations.snapshot();
    snapshot.iter().map(|entry| entry.state).filter(|state| *state != State::Forming).collect()
}

/// Rules 19 and 31 afterwards: the dialog is over for both.
#[test]
fn a_call_whose_owner_is_revoked_is_ended_on_both_legs() {
    for way in 0..3 {
        let mut world = world();
        let (mut alice, mut bob) = established(&mut world, 1, "bob-tag");
        let (associations, now) = (Arc::clone(&world.lab.shared.gate.associations), world.lab.now);
        let origin = Arc::clone(&associations.snapshot()[0].origin);
        let gone = match way {
            0 => associations.revoke_dialog(origin.id, now),
            1 => associations.revoke_owner(&origin.owner, now),
            _ => associations.revoke_key(origin.owner.proof, UE1_BTID, now),
        };
        assert!(gone > 0, "way {way}");
        let sent = world.advance(0);
        assert_eq!(byes(&sent), both("SIP;cause=403;text=\"Forbidden\""), "way {way}");
        let (near, far) = (world.at_ue(&sent).clone(), at_core(&sent).clone());
        world.by_ue(&alice.answer(&near, 200, "", ""));
        world.by_core(&bob.answer(&far, 200, "", ""));
        assert!(world.advance(31).is_empty(), "told once");
        let late = world.by_ue(&alice.request("INFO", "", ""));
        assert_eq!(world.at_ue(&late).message.status(), Some(481));
        let late = world.by_core(&bob.request("INFO", "", ""));
        assert_eq!(status_at_core(&late), Some(481));
    }
}

#[test]
fn a_bell_rings_when_something_is_taken_back_between_two_turns() {
    let mut world = world();
    established(&mut world, 1, "bob-tag");
    let associations = Arc::clone(&world.lab.shared.gate.associations);
    let (rung, word) = std::sync::mpsc::sync_channel(8);
    associations.wake_by(move || rung.send(()).expect("somebody listens"));
    assert!(word.try_recv().is_err(), "nothing happened yet");
    associations.revoke(|_, _| true, world.lab.now);
    assert_eq!(word.try_iter().count(), 1);
    let due = world.lab.journey().poll_timeout();
    assert!(due.is_some_and(|due| due <= world.lab.now.mono), "it is due at once");
}

/// 13: CANCEL on one leg, a final answer on the other.
#[test]
fn what_rings_when_its_owner_is_revoked_is_cancelled_and_refused() {
    let mut world = world();
    let invite = at_core(&world.by_ue(&from_alice("INVITE", 1, SDP, OFFER))).clone();
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    world.by_core(&bob.answer(&invite, 180, "", ""));
    let now = world.lab.now;
    assert!(world.lab.shared.gate.associations.revoke(|_, _| true, now) > 0);
    let sent = world.advance(0);
    assert_eq!(world.at_ue(&sent).message.status(), Some(403));
    let cancel = at_core(&sent).clone();
    assert_eq!(cancel.message.method(), Some(Method::Cancel));
    world.by_core(&bob.answer(&cancel, 200, "", ""));
    let sent = world.by_core(&bob.answer(&invite, 200, "", OFFER));
    let own: Vec<_> = sent.iter().map(|one| one.message.method()).collect();
    assert_eq!(own, [Some(Method::Ack), Some(Method::Bye)], "it crossed the CANCEL");
    world.by_core(&bob.answer(sent.last().expect("a BYE"), 200, "", ""));
    world.advance(300);
    assert_eq!((world.lab.transactions(), states(&world)), (0, Vec::new()));
}

#[test]
fn a_call_whose_phone_stays_away_is_ended_on_the_other_leg_after_the_grace() {
    let mut world = world();
    established(&mut world, 1, "bob-tag");
    let peer = world.ue.clone();
    world.lab.close(&peer);
    assert_eq!(states(&world), [State::Suspect]);
    assert!(byes(&world.advance(31)).is_empty());
    let sent = world.advance(2);
    let to_core = HashMap::from([(
        "203.0.113.10:5060".to_owned(),
        "SIP;cause=480;text=\"Temporarily Unavailable\"".to_owned(),
    )]);
    assert_eq!(byes(&sent), to_core, "nothing leads to her");
    assert_eq!(states(&world), [State::Released]);
}

/// RFC 5626: her phone registered from two flows, of which one is left.
#[test]
fn who_is_reached_another_way_is_told_there() {
    let mut world = world();
    established(&mut world, 1, "bob-tag");
    let flows = [Peer::tls("192.0.2.10:40000", 1), Peer::tls("192.0.2.10:40001", 2)];
    for (number, flow) in flows.iter().enumerate() {
        let mut key = world.lab.ue1();
        let flow = flow.clone().proved(alice());
        let instance = format!(";reg-id={};+sip.instance=\"<urn:uuid:0a>\"", number + 1);
        let text =
            crate::scene::request("REGISTER", "sip:example.net", "alice", "reg", 1, Some(&mut key));
        let text =
            text.replace("alice@192.0.2.10:5060>", &format!("alice@192.0.2.10:5060>{instance}"));
        let text = text.replace("z9hG4bK", &format!("z9hG4bKflow{number}"));
        let sent = world.lab.receive(&flow, &text);
        let register = at_core(&sent).clone();
        let contact = line(&register.text(), "Contact: ").to_owned();
        let ok = crate::apart::answer(&register, 200, "r", BOB, "Expires: 3600\n", "");
        let ok =
            ok.replace(&format!("Contact: <{BOB}>"), &format!("Contact: {contact};expires=3600"));
        world.lab.receive(&Peer::core(), &ok);
    }
    let peer = world.ue.clone();
    world.lab.close(&peer);
    let sent = world.lab.advance(Duration::from_secs(33));
    let told: Vec<String> = byes(&sent).into_keys().collect();
    assert!(told.contains(&"192.0.2.10:40001".to_owned()), "{told:?}");
}

/// 11.6: nothing arrives.
#[test]
fn a_call_whose_key_ends_without_another_is_ended_on_both_legs() {
    let mut world = world_with_key(600);
    let timer = "Supported: timer\nSession-Expires: 7200;refresher=uac\n";
    let sent = world.by_ue(&from_alice("INVITE", 1, timer, OFFER));
    let invite = at_core(&sent).clone();
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let timer = "Require: timer\nSession-Expires: 7200;refresher=uac\n";
    let sent = world.by_core(&bob.answer(&invite, 200, timer, ""));
    let alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
    world.by_ue(&alice.numbered("ACK", 1, "", ""));
    assert!(byes(&world.advance(601)).is_empty());
    assert_eq!(states(&world), [State::Rekeying]);
    assert!(byes(&world.advance(1790)).is_empty(), "half an hour is waited for another");
    let sent = world.advance(15);
    assert_eq!(byes(&sent), both("SIP;cause=401;text=\"Unauthorized\""));
}

/// RFC 4028 section 10: an end of the session ends it a third of the interval before, or 32 seconds.
#[test]
fn a_session_that_nobody_refreshes_is_ended_before_its_interval_is_over() {
    for (interval, alive, dead) in [(90, 59, 2), (1800, 1767, 2)] {
        let mut world = world();
        let timer = format!("Supported: timer\nSession-Expires: {interval};refresher=uac\n");
        let invite = at_core(&world.by_ue(&from_alice("INVITE", 1, &timer, OFFER))).clone();
        let mut bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
        let timer = format!("Require: timer\nSession-Expires: {interval};refresher=uac\n");
        let sent = world.by_core(&bob.answer(&invite, 200, &timer, ""));
        let mut alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
        world.by_ue(&alice.numbered("ACK", 1, "", ""));
        assert!(byes(&world.advance(alive)).is_empty(), "{interval}");
        let refresh = format!("Supported: timer\nSession-Expires: {interval};refresher=uac\n");
        let update = at_core(&world.by_ue(&alice.request("UPDATE", &refresh, ""))).clone();
        world.by_core(&bob.answer(&update, 200, &timer, ""));
        let talk = world.by_core(&bob.request("INFO", "", ""));
        let talk = world.at_ue(&talk).clone();
        world.by_ue(&alice.answer(&talk, 200, "", ""));
        assert!(byes(&world.advance(alive)).is_empty(), "it was refreshed: {interval}");
        let sent = world.advance(dead);
        assert_eq!(byes(&sent), both("SIP;cause=408;text=\"Request Timeout\""), "{interval}");
    }
}

/// A call in which neither end knows session timers, and those of `updates` take UPDATE: alice, bob.
fn without_timer(updates: [bool; 2]) -> (Apart, End, End) {
    let mut world = world();
    let allow = |takes: bool| if takes { "Allow: INVITE, ACK, BYE\nAllow: UPDATE\n" } else { "" };
    let invite = at_core(&world.by_ue(&from_alice("INVITE", 1, allow(updates[0]), OFFER))).clone();
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let sent = world.by_core(&bob.answer(&invite, 200, allow(updates[1]), ""));
    let alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
    world.by_ue(&alice.numbered("ACK", 1, "", ""));
    (world, alice, bob)
}

/// `B2-07`; RFC 4028 sections 7.4 and 10.
#[test]
fn a_call_without_timers_is_refreshed_by_us_and_ended_when_an_end_is_gone() {
    for refusal in [481, 408, 0] {
        let (mut world, alice, bob) = without_timer([true, true]);
        assert!(world.advance(890).is_empty());
        for round in 0..3 {
            let sent = world.advance(if round == 0 { 10 } else { 900 });
            let near = world.at_ue(&sent).clone();
            let far = at_core(&sent).clone();
            for (update, contact, start) in [(&near, ALICE, "UPDATE "), (&far, BOB, "UPDATE ")] {
                let text = update.text();
                assert!(text.starts_with(&format!("{start}{contact} SIP/2.0\r\n")), "{text}");
                assert_eq!(line(&text, "Session-Expires: "), "1800;refresher=uac");
                assert_eq!(line(&text, "Supported: "), "timer");
                assert!(line(&text, "Contact: ").contains("edge.example.net"), "{text}");
                assert_eq!(line(&text, "Content-Length: "), "0", "no offer");
            }
            assert_eq!(line(&far.text(), "CSeq: "), format!("{} UPDATE", round + 2));
            world.by_ue(&alice.answer(&near, 200, "", ""));
            // It is there, if it does not like the question.
            let status = if round == 1 { 500 } else { 200 };
            world.by_core(&bob.answer(&far, status, "", ""));
        }
        let sent = world.advance(900);
        let near = world.at_ue(&sent).clone();
        let far = at_core(&sent).clone();
        world.by_ue(&alice.answer(&near, 200, "", ""));
        let sent = match refusal {
            0 => world.advance(33),
            status => world.by_core(&bob.answer(&far, status, "", "")),
        };
        assert_eq!(byes(&sent), both("SIP;cause=408;text=\"Request Timeout\""), "{refusal}");
    }
}

#[test]
fn only_who_takes_update_is_asked_and_a_word_of_an_end_is_answer_enough() {
    let (mut world, mut alice, mut bob) = without_timer([false, true]);
    world.advance(600);
    let info = at_core(&world.by_ue(&alice.request("INFO", "", ""))).clone();
    world.by_core(&bob.answer(&info, 200, "", ""));
    assert!(world.advance(890).is_empty(), "she has spoken");
    let sent = world.advance(10);
    assert_eq!(sent.len(), 1, "{sent:?}");
    let update = at_core(&sent).clone();
    world.by_core(&bob.answer(&update, 200, "", ""));
    let sent = world.by_core(&bob.request("BYE", "", ""));
    assert_eq!(line(&world.at_ue(&sent).text(), "CSeq: "), "1 BYE");
    let (mut silent, ..) = without_timer([false, false]);
    assert!(silent.advance(6 * 3600).is_empty(), "nobody can be asked");
}

/// 8.5: the granted Expires is cut to the key's life, on either side of the notifier.
#[test]
fn no_subscription_is_granted_for_longer_than_the_key_of_its_ue_holds() {
    let mut world = world_with_key(600);
    let peer = world.ue.clone();
    world.advance(100);
    let sent = world.by_ue(&from_alice("SUBSCRIBE", 1, "Event: presence\nExpires: 3600\n", ""));
    let subscribe = at_core(&sent).clone();
    let mut bob = End::called(&subscribe, "bob-tag", BOB, CORE_VIA);
    let sent = world.by_core(&bob.answer(&subscribe, 200, "Expires: 3600\n", ""));
    let accepted = world.at_ue(&sent).clone();
    assert_eq!(line(&accepted.text(), "Expires: "), "500");
    for (state, expected) in [
        ("active;expires=3600", "active;expires=500"),
        ("active ; x=y ; Expires=3600;reason=\"a;b\"", "active ; x=y ; Expires=500;reason=\"a;b\""),
        ("active;expires=499", "active;expires=499"),
        ("pending", "pending"),
        ("terminated;reason=timeout", "terminated;reason=timeout"),
    ] {
        let state = format!("Event: presence\nSubscription-State: {state}\n");
        let sent = world.by_core(&bob.request("NOTIFY", &state, ""));
        let notify = world.at_ue(&sent).clone();
        assert_eq!(line(&notify.text(), "Subscription-State: "), expected);
        let alice = End::called(&notify, "alice-tag", ALICE, ALICE_VIA);
        world.by_ue(&alice.answer(&notify, 200, "", ""));
    }

    let mut world = world_with_key(600);
    let mut key = world.lab.ue1();
    let path = register(&mut world.lab, &peer.clone(), "alice", &mut key).text();
    let watch = format!(
        "SUBSCRIBE sip:alice@192.0.2.10:5060 SIP/2.0
Via: {CORE_VIA};branch=z9hG4bKwatch
Max-Forwards: 70
From: <sip:bob@example.net>;tag=bob-tag
To: <sip:alice@example.net>
Call-ID: watch
CSeq: 1 SUBSCRIBE
Contact: <{BOB}>
Event: dialog
Expires: 7200
Route: {}
Content-Length: 0
",
        line(&path, "Path: ")
    );
    let sent = world.by_core(&watch);
    let subscribe = world.at_ue(&sent).clone();
    let alice = End::called(&subscribe, "alice-tag", ALICE, ALICE_VIA);
    let sent = world.by_ue(&alice.answer(&subscribe, 200, "Expires: 7200\n", ""));
    let granted: u64 = line(&at_core(&sent).text(), "Expires: ").parse().expect("seconds");
    assert!(granted <= 3600, "her key has an hour: {granted}");
}

/// 15: the ids of the other leg are lost with the process, and the ends clean up.
#[test]
fn after_a_restart_each_end_of_a_bridged_call_is_told_that_it_is_over() {
    let mut world = world();
    let (mut alice, mut bob) = established(&mut world, 1, "bob-tag");
    world.lab.restart(LabSettings::default().bridging());
    for method in ["INFO", "INVITE", "BYE"] {
        let sent = world.by_ue(&alice.request(method, "", ""));
        assert_eq!(world.at_ue(&sent).message.status(), Some(481), "{method}");
        let sent = world.by_core(&bob.request(method, "", ""));
        assert_eq!(status_at_core(&sent), Some(481), "{method}");
    }
    assert_eq!(world.lab.shared.gate.associations.footprint(), 0);
    established(&mut world, 2, "bob-again");
}

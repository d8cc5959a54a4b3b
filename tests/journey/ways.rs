//! Stage 5: where requests inside a dialog have to lead, how long a session is, and what is only observed.

use std::time::Duration;

use sipward::association::State;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::keys::{bye, rule, state};
use crate::scene::{
    call, from_bob, in_dialog, lines, register, request, respond, route_of, status_to, to_core,
};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";
const MOVED: &str = "sip:bob@203.0.113.99:5080";

fn inside(method: &str, uri: &str, number: u32, key: &mut Signer, more: &str) -> String {
    in_dialog(method, uri, "alice", "b", "call", number, Some(key), more)
}

/// Whether a request of alice's to `uri` passes rule 9.
fn passes(lab: &mut Lab, uri: &str, number: u32, key: &mut Signer) -> bool {
    let alice = Peer::udp(ALICE);
    // So that no rate is passed.
    lab.advance(Duration::from_secs(5));
    let sent = lab.receive(&alice, &inside("INFO", uri, number, key, ""));
    let passed = lab.last() == Outcome::Forwarded;
    assert!(passed || lab.last() == Outcome::Refused(Refusal::TargetMismatch), "{:?}", lab.last());
    assert_eq!(status_to(&sent, &alice), (!passed).then_some(403));
    passed
}

/// RFC 6141 section 4.
#[test]
fn a_target_moves_with_its_2xx_and_messages_may_cross() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    assert!(passes(&mut lab, BOB, 2, &mut key));
    assert!(!passes(&mut lab, MOVED, 3, &mut key));
    // Bob asks to be called elsewhere, and does not get it.
    let contact = format!("Contact: <{MOVED}>\nContent-Length");
    let update = |number| from_bob("UPDATE", number).replace("Content-Length", &contact);
    let sent = lab.receive(&Peer::core(), &update(1))[0].clone();
    assert!(passes(&mut lab, MOVED, 4, &mut key), "whoever uses it has seen it");
    lab.receive(&alice, &respond(&sent, 488, "", ""));
    assert!(passes(&mut lab, BOB, 5, &mut key));
    let sent = lab.receive(&Peer::core(), &update(2))[0].clone();
    lab.receive(&alice, &respond(&sent, 200, "", ""));
    assert!(passes(&mut lab, MOVED, 6, &mut key) && passes(&mut lab, BOB, 7, &mut key));
    // Alice's own re-INVITE is answered from a third place.
    let third = "sip:bob@203.0.113.77";
    let text = inside("INVITE", MOVED, 8, &mut key, "");
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", &format!("Contact: <{third}>\n")));
    assert!(passes(&mut lab, third, 9, &mut key) && passes(&mut lab, MOVED, 10, &mut key));
    assert!(!passes(&mut lab, BOB, 11, &mut key), "that one is two moves ago");
}

#[test]
fn what_an_info_says_moves_no_target() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let contact = format!("Contact: <{MOVED}>\n");
    let info = from_bob("INFO", 1).replace("Content-Length", &format!("{contact}Content-Length"));
    let sent = lab.receive(&Peer::core(), &info)[0].clone();
    lab.receive(&alice, &respond(&sent, 200, "", ""));
    assert!(!passes(&mut lab, MOVED, 2, &mut key));
    let info = to_core(&lab.receive(&alice, &inside("INFO", BOB, 3, &mut key, ""))).clone();
    lab.receive(&Peer::core(), &respond(&info, 200, "b", &contact));
    assert!(!passes(&mut lab, MOVED, 4, &mut key));
}

/// The core's own proxies stand in the route set, and nothing else may.
#[test]
fn the_route_set_beyond_us_is_the_one_that_was_given() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
    let beyond = "Record-Route: <sip:p2.example.net;lr>, <sip:p1.example.net;lr>\n";
    let answer = respond(&invite, 200, "b", contact);
    let answer = answer.replacen("Record-Route:", &format!("{beyond}Record-Route:"), 1);
    lab.receive(&Peer::core(), &answer);
    let own = route_of(&invite);
    let p = "Route: <sip:p1.example.net;lr>, <sip:p2.example.net:5060;lr>\n";
    let swapped = "Route: <sip:p2.example.net;lr>, <sip:p1.example.net;lr>\n";
    let past = "Route: <sip:p1.example.net;lr>, <sip:192.0.2.66;lr>\n";
    for (number, (what, routes, passes)) in (2..).zip([
        ("all of it", format!("{own}{p}"), true),
        ("ours alone", own.clone(), false),
        ("in another order", format!("{own}{swapped}"), false),
        ("another one", format!("{own}{past}"), false),
        ("one more", format!("{own}{p}Route: <sip:192.0.2.66;lr>\n"), false),
    ]) {
        lab.receive(&alice, &inside("INFO", BOB, number, &mut key, &routes));
        let expected =
            if passes { Outcome::Forwarded } else { Outcome::Refused(Refusal::RouteMismatch) };
        assert_eq!(lab.last(), expected, "{what}");
    }
}

/// Bob's UE is called: what it was sent is what it has to name.
#[test]
fn a_ue_that_was_called_names_what_it_was_sent() {
    let mut lab = Lab::default();
    let (bob, mut key) = (Peer::udp("192.0.2.20:5060"), lab.ue2());
    let register = register(&mut lab, &bob, "bob", &mut key).text();
    let path = lines(&register, "Path: ")[0].to_owned();
    let invite = format!(
        "INVITE sip:bob@192.0.2.20:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKout
Max-Forwards: 70
Route: {path}
Record-Route: <sip:p1.example.net;lr>
Record-Route: <sip:p2.example.net;lr>
From: <sip:carol@example.net>;tag=c
To: <sip:bob@example.net>
Call-ID: call
CSeq: 1 INVITE
Contact: <sip:carol@203.0.113.30>
Content-Length: 0
"
    );
    let sent = lab.receive(&Peer::core(), &invite);
    let invite = sent.iter().find(|sent| sent.to == bob.flow().remote).expect("to bob").clone();
    lab.receive(&bob, &respond(&invite, 200, "bob", "Contact: <sip:bob@192.0.2.20>\n"));
    let text = invite.text();
    let route = lines(&text, "Record-Route: ").join(", ");
    let ours = route.split(", <sip:p1").next().expect("ours first").to_owned();
    let mut ask = |number: u32, uri: &str, routes: &str| {
        let routes = format!("Route: {routes}\n");
        let text = in_dialog("INFO", uri, "bob", "c", "call", number, Some(&mut key), &routes);
        lab.receive(&bob, &text);
        lab.last()
    };
    let carol = "sip:carol@203.0.113.30";
    assert_eq!(ask(2, carol, &route), Outcome::Forwarded);
    assert_eq!(ask(3, carol, &ours), Outcome::Refused(Refusal::RouteMismatch));
    assert_eq!(ask(4, BOB, &route), Outcome::Refused(Refusal::TargetMismatch));
}

/// Rule 14, observed and enforced: what began on TLS goes on over UDP.
#[test]
fn less_than_a_call_began_with_is_counted_or_refused() {
    for (enforce, outcome, would) in [
        (vec![], Outcome::Forwarded, Some(Refusal::LevelTooLow)),
        (vec![14], Outcome::Refused(Refusal::LevelTooLow), None),
    ] {
        let mut settings = LabSettings::default();
        settings.association.observe = true;
        settings.association.enforce = enforce;
        let mut lab = Lab::new(settings);
        let mut key = lab.ue1();
        call(&mut lab, &Peer::tls("192.0.2.10:40000", 1), &mut key);
        let mut key = lab.ue1();
        lab.receive(&Peer::udp(ALICE), &inside("INFO", BOB, 2, &mut key, ""));
        let decision = *lab.decisions.last().expect("decided");
        assert_eq!((decision.outcome, decision.would), (outcome, would));
    }
}

/// `Session-Expires` of what went to the core, or came back.
fn interval(sent: &Sent) -> Option<String> {
    let text = sent.text();
    lines(&text, "Session-Expires: ").first().map(|value| (*value).to_owned())
}

/// RFC 4028 sections 8.2 and 8.3.
#[test]
fn a_session_that_nobody_refreshes_leaves_the_table_and_no_bye_is_sent() {
    for (what, knows, said, length) in [
        ("the callee refreshes", false, Some("600;refresher=uas"), Some(632)),
        ("the caller is told to", true, None, Some(1832)),
        ("nobody knows timers", false, None, None),
    ] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let more = if knows { "Supported: timer\n" } else { "" };
        let uri = "sip:bob@example.net";
        let text = in_dialog("INVITE", uri, "alice", "", "call", 1, Some(&mut key), more);
        let invite = to_core(&lab.receive(&alice, &text)).clone();
        assert_eq!(interval(&invite).as_deref(), Some("1800"), "{what}");
        let said = said.map(|said| format!("Session-Expires: {said}\n")).unwrap_or_default();
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        let answer = respond(&invite, 200, "b", &format!("{contact}{said}"));
        let back = lab.receive(&Peer::core(), &answer);
        let told = interval(&back[0]);
        assert_eq!(told.as_deref() == Some("1800;refresher=uac"), knows, "{what}");
        let Some(length) = length else {
            lab.advance(Duration::from_secs(2000));
            assert_eq!(state(&lab), State::Bound, "{what}");
            continue;
        };
        // What refreshes nothing prolongs nothing; a refresh begins it anew.
        lab.advance(Duration::from_secs(length - 2));
        let mut key = lab.ue1();
        to_core(&lab.receive(&alice, &inside("INFO", BOB, 2, &mut key, more)));
        let update = inside("UPDATE", BOB, 3, &mut key, more);
        let update = to_core(&lab.receive(&alice, &update)).clone();
        lab.receive(&Peer::core(), &respond(&update, 200, "b", &said));
        lab.advance(Duration::from_secs(length - 1));
        assert_ne!(state(&lab), State::Released, "{what}");
        let sent = lab.advance(Duration::from_secs(2));
        assert_eq!(state(&lab), State::Released, "{what}");
        assert!(sent.is_empty(), "a proxy never sends BYE");
    }
}

/// V-116.
#[test]
fn observed_rules_are_counted_and_let_pass_and_move_nothing() {
    let observed = |enforce: &[u8]| {
        let mut settings = LabSettings::default();
        settings.association.observe = true;
        settings.association.enforce = enforce.to_vec();
        let mut lab = Lab::new(settings);
        let mut key = lab.ue1();
        call(&mut lab, &Peer::udp(ALICE), &mut key);
        (lab, key)
    };
    let as_bob = |text: String| {
        text.replace("<sip:alice@example.net>;tag=alice", "<sip:bob@example.net>;tag=b")
    };
    type Ask = fn(&mut Lab, &mut Signer) -> (Peer, String);
    let asks: [(Refusal, Ask); 8] = [
        (Refusal::CredentialsMissing, |_, _| (Peer::udp(ALICE), bye(2, None))),
        (Refusal::AssociationMismatch, |lab, _| {
            (Peer::udp("192.0.2.66:5060"), bye(3, Some(&mut lab.ue2())))
        }),
        (Refusal::FlowMismatch, |lab, _| {
            let flow = Peer::tls("192.0.2.66:40000", 6);
            let mut own = lab.ue2();
            let text = request("MESSAGE", "sip:x@example.net", "bob", "own", 1, Some(&mut own));
            lab.receive(&flow, &text);
            (flow, bye(4, None))
        }),
        (Refusal::SequenceLow, |_, key| (Peer::udp(ALICE), inside("INFO", BOB, 0, key, ""))),
        (Refusal::TargetMismatch, |_, key| (Peer::udp(ALICE), inside("INFO", MOVED, 5, key, ""))),
        (Refusal::WrongSide, |_, key| {
            let text = in_dialog("INFO", BOB, "alice", "alice", "call", 6, Some(key), "");
            (Peer::udp(ALICE), text)
        }),
        (Refusal::ForeignDialogNamed, |lab, _| {
            let named = "Replaces: call;to-tag=b;from-tag=alice\n";
            let mut own = lab.ue2();
            let uri = "sip:bob@example.net";
            let text = in_dialog("INVITE", uri, "bob", "", "own2", 1, Some(&mut own), named);
            (Peer::udp("192.0.2.66:5060"), text)
        }),
        (Refusal::MethodUnfit, |_, key| {
            let event = "Event: presence\nSubscription-State: active\n";
            (Peer::udp(ALICE), inside("NOTIFY", BOB, 7, key, event))
        }),
    ];
    for (refusal, ask) in asks {
        let (mut lab, mut key) = observed(&[]);
        let (peer, text) = ask(&mut lab, &mut key);
        let text = if refusal == Refusal::WrongSide { as_bob(text) } else { text };
        let call_of = |lab: &Lab| {
            let all = lab.shared.gate.associations.snapshot();
            format!("{:?}", all.iter().find(|one| one.state == State::Bound))
        };
        let before = call_of(&lab);
        lab.receive(&peer, &text);
        let decision = *lab.decisions.last().expect("decided");
        assert_eq!((decision.outcome, decision.would), (Outcome::Forwarded, Some(refusal)));
        let moves = matches!(refusal, Refusal::TargetMismatch);
        assert!(moves || before == call_of(&lab), "{refusal:?}: {}", call_of(&lab));

        let number = refusal.rule().expect("a rule");
        let (mut lab, mut key) = observed(&[number]);
        let (peer, text) = ask(&mut lab, &mut key);
        let text = if refusal == Refusal::WrongSide { as_bob(text) } else { text };
        lab.receive(&peer, &text);
        assert_eq!(lab.last(), Outcome::Refused(refusal), "rule {number} alone");
    }
}

#[test]
fn observing_lets_a_challenge_pass_whole_and_opens_no_other_rule() {
    let mut settings = LabSettings::default();
    settings.association.observe = true;
    let mut lab = Lab::new(settings);
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let sent = lab.receive(&Peer::core(), &from_bob("BYE", 1))[0].clone();
    let lure = "Proxy-Authenticate: Digest realm=\"example.net\", nonce=\"lure\"\n";
    let back = lab.receive(&alice, &respond(&sent, 407, "", lure));
    assert!(back[0].text().contains("lure"));
    let decision = lab.decisions.last().expect("decided");
    assert_eq!(decision.would, Some(Refusal::ChallengeReflected), "rule 32");

    lab.shared.gate.associations.revoke(|_, _| true, lab.now);
    lab.receive(&alice, &inside("INFO", BOB, 2, &mut key, ""));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::Revoked), "rule 19 is enforced");
    let none = in_dialog("INFO", BOB, "alice", "b", "none", 3, Some(&mut key), "");
    lab.receive(&alice, &none);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown), "rule 6 is enforced");
    assert_eq!(rule(&lab), 6);
}

/// 8.1: on a new connection after the old one went, the credentials of the INVITE show whose ACK it is.
/// V-62.
#[test]
fn an_ack_on_another_secure_flow_repeats_the_credentials_of_its_invite() {
    for (what, secure, repeats, passes) in [
        ("as it should", true, true, true),
        ("other credentials", true, false, false),
        ("in the clear, where anybody could have read them", false, true, false),
    ] {
        let mut lab = Lab::default();
        let mut key = lab.ue1();
        let peer = |slot: u32| match secure {
            true => Peer::tls(&format!("192.0.2.10:4000{slot}"), slot),
            false => Peer::tcp(&format!("192.0.2.10:4000{slot}"), slot),
        };
        let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
        let credentials = lines(&text, "Proxy-Authorization: ")[0].to_owned();
        let invite = to_core(&lab.receive(&peer(1), &text)).clone();
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        lab.receive(&Peer::core(), &respond(&invite, 200, "b", contact));
        lab.close(&peer(1));
        let credentials = match repeats {
            true => format!("Proxy-Authorization: {credentials}\n"),
            false => format!("Proxy-Authorization: {credentials}, opaque=\"x\"\n"),
        };
        let ack = in_dialog("ACK", BOB, "alice", "b", "call", 1, None, &credentials);
        let sent = lab.receive(&peer(2), &ack);
        assert_eq!(sent.len(), usize::from(passes), "{what}: {:?}", lab.last());
        assert_eq!(rule(&lab), 15, "{what}");
    }
}

/// RFC 4488, and RFC 6665 section 4.1.3.
#[test]
fn a_refer_that_nobody_is_notified_of_brings_no_subscription() {
    for (answer, notified) in [("", true), ("Refer-Sub: false\n", false)] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        call(&mut lab, &alice, &mut key);
        let to = "Refer-To: <sip:carol@example.net>\n";
        let refer = inside("REFER", BOB, 2, &mut key, to);
        let refer = to_core(&lab.receive(&alice, &refer)).clone();
        lab.receive(&Peer::core(), &respond(&refer, 202, "b", answer));
        let rows = "Event: refer\nSubscription-State: active\nContent-Length";
        lab.receive(&Peer::core(), &from_bob("NOTIFY", 1).replace("Content-Length", rows));
        let expected =
            if notified { Outcome::Forwarded } else { Outcome::Refused(Refusal::MethodUnfit) };
        assert_eq!(lab.last(), expected, "{answer:?}");
    }
}

#[test]
fn the_core_notifies_unasked_of_waiting_messages_alone() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let path = register(&mut lab, &alice, "alice", &mut key).text();
    let path = lines(&path, "Path: ")[0].to_owned();
    for (number, (event, expected)) in (1..).zip([
        ("message-summary", Outcome::Forwarded),
        ("Message-Summary", Outcome::Forwarded),
        ("presence", Outcome::Refused(Refusal::MethodUnfit)),
    ]) {
        let rows = format!("Route: {path}\nEvent: {event}\nContent-Length");
        let notify = from_bob("NOTIFY", number).replace("tag=alice", "none").replace(";none", "");
        let notify = notify.replace("Route: <sip:edge.example.net:5060;lr>\n", "");
        let notify = notify.replace("Content-Length", &rows);
        lab.receive(&Peer::core(), &notify);
        assert_eq!(lab.last(), expected, "{event}");
    }
}

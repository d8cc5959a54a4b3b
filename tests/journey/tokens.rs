//! Stage 5: what our own Record-Route values say when they come back.

use std::time::Duration;

use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::scene::{
    call, called, in_dialog, register, request, respond, route_of, status_to, to_core,
};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";

fn rule(lab: &Lab) -> Option<u8> {
    lab.decisions.last().map(|decision| decision.rule)
}

#[test]
fn both_values_carry_tokens_and_the_route_set_leads_back() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = call(&mut lab, &alice, &mut key);
    let route = route_of(&invite);
    assert_eq!(route.matches('@').count(), 2, "{route}");
    assert!(!route.contains("alice") && !route.contains("ue1"), "nothing can be read in it");
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 2, Some(&mut key), &route);
    let sent = lab.receive(&alice, &info);
    assert!(!to_core(&sent).text().contains("\nRoute:"), "both are ours, and gone");
    assert_eq!(rule(&lab), Some(1));
}

/// Alice calls bob, a UE of this edge too, who answers: the answer as she sees it, and the INVITE as it left for him.
fn through_itself(
    lab: &mut Lab,
    (alice, key): (&Peer, &mut Signer),
    (bob, bobs): (&Peer, &mut Signer),
) -> [Sent; 2] {
    let path = register(lab, bob, "bob", bobs).text();
    let path =
        path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned();
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(key));
    let first = to_core(&lab.receive(alice, &text)).clone();
    let on = first.text().replace(
        "\r\nVia:",
        &format!("\r\nRoute: {path}\r\nVia: SIP/2.0/UDP 203.0.113.10;branch=z9hG4bKspiral\r\nVia:"),
    );
    let on = on.replacen(
        "\r\nVia: SIP/2.0/UDP 203.0.113.10;branch=z9hG4bKspiral\r\nRoute",
        "\r\nRoute",
        1,
    );
    let sent = lab.receive_octets(&Peer::core(), on);
    let second = sent.iter().find(|sent| sent.to == bob.flow().remote).expect("to bob").clone();
    let back = lab.receive(bob, &respond(&second, 200, "b", "Contact: <sip:bob@192.0.2.20>\n"));
    let back = to_core(&back).text();
    let (start, rest) = back.split_once("\r\nVia: ").expect("what the core put on top");
    let (_, rest) = rest.split_once("\r\n").expect("a line");
    let sent = lab.receive_octets(&Peer::core(), format!("{start}\r\n{rest}"));
    let answer = sent.into_iter().find(|sent| sent.to == alice.flow().remote).expect("to alice");
    assert_eq!(answer.message.status(), Some(200));
    [answer, second]
}

fn recorded(invite: &Sent) -> Vec<String> {
    let text = invite.text();
    let values = text.lines().filter_map(|line| line.strip_prefix("Record-Route: "));
    values.map(str::to_owned).collect()
}

/// V-106: one call between two UEs of this edge is two dialogs here, and each has tokens of its own.
#[test]
fn a_token_of_one_pass_does_not_open_the_other() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let (bob, mut bobs) = (Peer::udp("192.0.2.20:5060"), lab.ue2());
    let [_, second] = through_itself(&mut lab, (&alice, &mut key), (&bob, &mut bobs));
    let values = recorded(&second);
    assert_eq!(values.len(), 4, "two of each pass");
    let of_second = format!("Route: {}\n", values.join(", "));
    let of_first = format!("Route: {}, {}\n", values[3], values[2]);
    let bye = |number, route: &str, key: &mut _| {
        in_dialog(
            "BYE",
            "sip:alice@192.0.2.10:5060",
            "bob",
            "alice",
            "call",
            number,
            Some(key),
            route,
        )
        .replace("<sip:bob@example.net>;tag=bob", "<sip:bob@example.net>;tag=b")
    };
    let swapped = bye(1, &of_first, &mut bobs);
    assert_eq!(status_to(&lab.receive(&bob, &swapped), &bob), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TokenForged), "rule 10");
    let right = bye(2, &of_second, &mut bobs);
    let sent = lab.receive(&bob, &right);
    let text = to_core(&sent).text();
    assert_eq!(text.matches("\nRoute:").count(), 1, "the first pass is still on the way: {text}");
}

#[test]
fn after_a_restart_the_token_holds_the_owner_to_what_his_call_asked() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    lab.restart(LabSettings::default());
    let mut key = lab.ue1();
    let on_udp = Peer::udp(ALICE);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), &route);
    assert_eq!(status_to(&lab.receive(&on_udp, &bye), &on_udp), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::LevelTooLow), "rule 14");
    let on_tls = Peer::tls("192.0.2.10:41000", 2);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 3, Some(&mut key), &route);
    to_core(&lab.receive(&on_tls, &bye));
    assert_eq!(rule(&lab), Some(23));
}

#[test]
fn after_a_restart_a_full_table_passes_the_bye_and_keeps_nothing_of_it() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    let mut settings = LabSettings::default();
    settings.association.max = 0;
    lab.restart(settings);
    let mut key = lab.ue1();
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 2, Some(&mut key), &route);
    assert_eq!(status_to(&lab.receive(&alice, &info), &alice), Some(503));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TableFull), "rule 28");
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 3, Some(&mut key), &route);
    to_core(&lab.receive(&alice, &bye));
    assert_eq!(lab.shared.gate.associations.footprint(), 0);
}

#[test]
fn after_a_restart_the_far_end_is_told_that_the_way_is_gone() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = call(&mut lab, &alice, &mut key);
    lab.restart(LabSettings::default());
    let text = invite.text();
    let recorded: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).collect();
    let bye = format!(
        "BYE sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKcore9
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>;tag=alice
Call-ID: call
CSeq: 9 BYE
Route: {}
Content-Length: 0
",
        recorded.join(", ")
    );
    let core = Peer::core();
    assert_eq!(status_to(&lab.receive(&core, &bye), &core), Some(430), "rule 11");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::FlowGone));
}

/// A secret that was lost makes tokens of strangers: whoever comes with one is told that there is no such dialog.
#[test]
fn two_days_later_a_token_is_as_good_as_none() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    lab.restart(LabSettings::default());
    lab.now = lab.now + Duration::from_secs(2 * 86_400);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, None, &route);
    assert_eq!(status_to(&lab.receive(&alice, &bye), &alice), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown), "rule 6");
}

/// V-69: a call between two UEs of one edge is two dialogs there, each the other turned round. After a restart both are
/// found again, each by its own token, and then there is a way between them.
#[test]
fn after_a_restart_both_ends_of_a_call_inside_one_edge_find_it_again() {
    let mut lab = Lab::default();
    let (alice, bob) = (Peer::udp(ALICE), Peer::udp("192.0.2.20:5060"));
    let (mut key, mut bobs) = (lab.ue1(), lab.ue2());
    let [first, second] = through_itself(&mut lab, (&alice, &mut key), (&bob, &mut bobs));
    lab.restart(LabSettings::default());
    let (mut key, mut bobs) = (lab.ue1(), lab.ue2());
    let info = in_dialog("INFO", BOB, "alice", "b", "call", 2, Some(&mut key), &route_of(&first));
    let on = to_core(&lab.receive(&alice, &info)).text();
    assert_eq!(rule(&lab), Some(23));
    lab.receive_octets(&Peer::core(), on);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::FlowGone), "bob has not spoken yet");
    let route = format!("Route: {}\n", recorded(&second).join(", "));
    let target = "sip:alice@192.0.2.10:5060";
    let info = in_dialog("INFO", target, "bob", "alice", "call", 1, Some(&mut bobs), &route);
    let info = info.replace("<sip:bob@example.net>;tag=bob", "<sip:bob@example.net>;tag=b");
    to_core(&lab.receive(&bob, &info));
    assert_eq!(rule(&lab), Some(23), "what alice's was made again of does not stand in the way");
    assert_eq!(lab.shared.gate.associations.footprint(), 2);
}

/// V-69, V-104: mallory forms a dialog of her own under the Call-ID of a call that she sees, and after a restart, when
/// nothing but tokens is left, brings the token of hers into that call.
#[test]
fn nobody_gets_a_token_for_the_call_of_another() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    let (mallory, mut hers) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    for tag in ["alice", "ALICE", "b"] {
        let invite = request("INVITE", "sip:m@example.net", "bob", "call", 1, Some(&mut hers));
        let invite = invite.replace(";tag=bob", &format!(";tag={tag}"));
        assert_eq!(status_to(&lab.receive(&mallory, &invite), &mallory), Some(403), "{tag}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4: {tag}");
    }
    // Under a tag of her own she may: that token is for no other tag.
    let invite = request("INVITE", "sip:m@example.net", "bob", "call", 1, Some(&mut hers));
    let own = route_of(to_core(&lab.receive(&mallory, &invite)));
    lab.advance(Duration::from_secs(1));
    lab.restart(LabSettings::default());
    let mut hers = lab.ue2();
    let bye = |number, route: &str, key: &mut _| {
        in_dialog("BYE", BOB, "alice", "b", "call", number, Some(key), route)
    };
    assert_eq!(status_to(&lab.receive(&mallory, &bye(2, &own, &mut hers)), &mallory), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TokenForged), "rule 10");
    // Nobody's end is known any more, so she gets a token now; but what it is of was not lost by this process.
    let invite = request("INVITE", "sip:m@example.net", "bob", "call", 9, Some(&mut hers));
    let invite = invite.replace(";tag=bob", ";tag=alice");
    let own = route_of(to_core(&lab.receive(&mallory, &invite)));
    assert_eq!(status_to(&lab.receive(&mallory, &bye(3, &own, &mut hers)), &mallory), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown), "rule 6");
    // Nor does the next process, which lost both: her request had one end when it left. That it was answered with a tag of
    // its own makes it hers by that tag.
    lab.restart(LabSettings::default());
    let mut hers = lab.ue2();
    assert_eq!(status_to(&lab.receive(&mallory, &bye(4, &own, &mut hers)), &mallory), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown), "rule 6");
    let mut key = lab.ue1();
    to_core(&lab.receive(&alice, &bye(5, &route, &mut key)));
    assert_eq!(rule(&lab), Some(23), "hers is hers, and alice's is alice's");
}

/// The answer's token is bound to the end that answered: of two calls under one Call-ID and From tag, which a restart lies
/// between, each is its own caller's.
#[test]
fn of_two_calls_that_one_end_tells_apart_each_is_its_callers() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    lab.restart(LabSettings::default());
    let (mallory, mut hers) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let invite = request("INVITE", "sip:m@example.net", "bob", "call", 9, Some(&mut hers));
    let invite = invite.replace(";tag=bob", ";tag=alice");
    let invite = to_core(&lab.receive(&mallory, &invite)).clone();
    let ok = respond(&invite, 200, "m", "Contact: <sip:bob@203.0.113.20:5060>\n");
    let own = lab.receive(&Peer::core(), &ok);
    let own = own.iter().find(|sent| sent.to == mallory.flow().remote).expect("to mallory");
    lab.restart(LabSettings::default());
    let mut hers = lab.ue2();
    let bye = |tag, number, route: &str, key: &mut _| {
        in_dialog("BYE", BOB, "alice", tag, "call", number, Some(key), route)
    };
    let theirs = bye("b", 10, &route_of(own), &mut hers);
    assert_eq!(status_to(&lab.receive(&mallory, &theirs), &mallory), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TokenForged), "rule 10");
    to_core(&lab.receive(&mallory, &bye("m", 11, &route_of(own), &mut hers)));
    assert_eq!(rule(&lab), Some(23));
    let mut key = lab.ue1();
    to_core(&lab.receive(&alice, &bye("b", 2, &route_of(&answer), &mut key)));
    assert_eq!(rule(&lab), Some(23));
}

/// The user part of a Record-Route value of ours.
fn token(value: &str) -> &str {
    let (_, rest) = value.split_once(':').expect("a URI");
    rest.split_once('@').expect("a user part").0
}

/// RFC 3261 section 16.7 item 8.
#[test]
fn what_rings_and_then_answers_tells_one_token_twice_and_another_end_tells_its_own() {
    for (what, rings, answers, replaced, expected) in [
        ("the same end", "b", "b", false, true),
        ("another fork", "c", "b", false, false),
        ("another secret seals meanwhile", "b", "b", true, false),
    ] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
        let invite = to_core(&lab.receive(&alice, &text)).clone();
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        let told = |lab: &mut Lab, status, tag| {
            let back = lab.receive(&Peer::core(), &respond(&invite, status, tag, contact));
            let back = back.into_iter().find(|sent| sent.message.status() == Some(status));
            back.expect("it went back")
        };
        let rung = told(&mut lab, 180, rings);
        if replaced {
            let until = (lab.now + Duration::from_secs(60)).wall;
            assert!(lab.shared.gate.associations.replace_secret(&[9; 32], until));
        }
        let answer = told(&mut lab, 200, answers);
        let [first, last] = [&rung, &answer].map(|sent| recorded(sent).pop().expect("ours"));
        assert_eq!(token(&first) == token(&last), expected, "{what}");
        // Told again once it is accepted, it is the dialog's as well.
        let again = told(&mut lab, 200, answers);
        for (number, answer) in (2..).zip([&answer, &again]) {
            let route = route_of(answer);
            let info =
                in_dialog("INFO", BOB, "alice", answers, "call", number, Some(&mut key), &route);
            to_core(&lab.receive(&alice, &info));
            assert_eq!(rule(&lab), Some(1), "{what}");
        }
    }
}

/// What a server brings goes on in its NOTIFY as it is, and what the subscriber is told is bound to both ends all the same.
#[test]
fn a_notify_tells_the_servers_token_again_and_the_subscribers_outlives_a_restart() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let event = "Event: presence\nExpires: 600\n";
    let uri = "sip:bob@example.net";
    let text = in_dialog("SUBSCRIBE", uri, "alice", "", "call", 1, Some(&mut key), event);
    let subscribe = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&subscribe, 200, "b", "Expires: 600\n"));
    let brought = recorded(&subscribe);
    let notify = |lab: &mut Lab, number: u32| {
        let text = format!(
            "NOTIFY sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKn{number}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>;tag=alice
Call-ID: call
CSeq: {number} NOTIFY
Contact: <sip:bob@203.0.113.20:5060>
Route: {}
Event: presence
Subscription-State: active;expires=600
Content-Length: 0
",
            brought.join(", ")
        );
        let sent = lab.receive(&Peer::core(), &text);
        sent.into_iter().find(|sent| sent.to == alice.flow().remote).expect("to alice")
    };
    let told = [1, 2].map(|number| notify(&mut lab, number));
    for sent in &told {
        let values = recorded(sent);
        assert_eq!(token(&values[1]), token(&brought[0]), "it faces the core");
        assert_ne!(token(&values[0]), token(&brought[1]), "bound to both ends, not to one");
    }
    let until = (lab.now + Duration::from_secs(60)).wall;
    assert!(lab.shared.gate.associations.replace_secret(&[9; 32], until));
    let values = recorded(&notify(&mut lab, 3));
    assert_ne!(token(&values[1]), token(&brought[0]), "under the new secret");
    lab.restart(LabSettings::default());
    let mut key = lab.ue1();
    let more = format!("Route: {}\n{event}", recorded(&told[1]).join(", "));
    let refresh = in_dialog("SUBSCRIBE", BOB, "alice", "b", "call", 2, Some(&mut key), &more);
    to_core(&lab.receive(&alice, &refresh));
    assert_eq!(rule(&lab), Some(23));
}

/// Who called was told a token that is bound to both ends, and brings it; who was called one of the caller's end alone, which is
/// not written a second time.
#[test]
fn a_re_invite_tells_again_what_is_bound_to_both_ends() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let (bob, mut bobs) = (Peer::udp("192.0.2.20:5060"), lab.ue2());
    let [first, second] = through_itself(&mut lab, (&alice, &mut key), (&bob, &mut bobs));
    let route = route_of(&first);
    let brought = recorded(&first).pop().expect("ours");
    let target = "sip:bob@192.0.2.20";
    let again = in_dialog("INVITE", target, "alice", "b", "call", 2, Some(&mut key), &route);
    let values = recorded(to_core(&lab.receive(&alice, &again)));
    assert_eq!(token(&values[1]), token(&brought));
    let brought = recorded(&second);
    let route = format!("Route: {}\n", brought.join(", "));
    let target = "sip:alice@192.0.2.10:5060";
    let again = in_dialog("INVITE", target, "bob", "alice", "call", 1, Some(&mut bobs), &route);
    let again = again.replace("<sip:bob@example.net>;tag=bob", "<sip:bob@example.net>;tag=b");
    let values = recorded(to_core(&lab.receive(&bob, &again)));
    assert_ne!(token(&values[1]), token(&brought[0]));
}

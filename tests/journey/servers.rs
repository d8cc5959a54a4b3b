//! A group of two servers: which of them has a dialog, and so gets what its UE sends in it.

use std::time::Duration;

use sipward::testing::{Lab, LabSettings, Peer, Sent};

use crate::apart::{End, answer};
use crate::b2bua::alice;
use crate::scene::register;

const ONE: &str = "203.0.113.10:5060";
const TWO: &str = "203.0.113.11:5060";
const ALICE: &str = "sip:alice@192.0.2.10:40000";
const ALICE_VIA: &str = "SIP/2.0/TLS 192.0.2.10:40000";
const BOB: &str = "sip:bob@203.0.113.20:5066";

/// Both roles: what is to be true of servers is true whether a call is one dialog or two.
const ROLES: [&str; 2] = ["proxy", "b2bua"];

fn settings(role: &str) -> LabSettings {
    let settings = LabSettings { core: vec![ONE, TWO], ..LabSettings::default() };
    if role == "b2bua" { settings.bridging() } else { settings }
}

/// Alice on TLS, with a key that her handshake proved.
fn ue() -> Peer {
    Peer::tls("192.0.2.10:40000", 1).proved(alice())
}

/// The first message among `sent` that went there, but for 100.
fn at<'s>(sent: &'s [Sent], place: &str) -> &'s Sent {
    let there = |one: &&Sent| one.to.to_string() == place && one.message.status() != Some(100);
    sent.iter().find(there).unwrap_or_else(|| panic!("nothing for {place}: {sent:?}"))
}

fn at_ue(sent: &[Sent]) -> &Sent {
    at(sent, "192.0.2.10:40000")
}

fn via(server: &str) -> String {
    format!("SIP/2.0/UDP {server}")
}

/// Alice calls bob. The first server has no answer but `refusal`, or none at all; the second one is asked then. Gives the
/// INVITE as that one got it.
fn passed_on(lab: &mut Lab, refusal: Option<&str>) -> Sent {
    let invite = format!(
        "INVITE sip:bob@example.net SIP/2.0
Via: {ALICE_VIA};branch=z9hG4bKinvite
Max-Forwards: 70
From: <sip:alice@example.net>;tag=alice-tag
To: <sip:bob@example.net>
Call-ID: call
CSeq: 1 INVITE
Contact: <{ALICE}>
Content-Length: 0
"
    );
    let sent = lab.receive(&ue(), &invite);
    let first = at(&sent, ONE).clone();
    let sent = match refusal {
        Some(more) => lab.receive(&Peer::core(), &answer(&first, 503, "away", BOB, more, "")),
        None => lab.advance(Duration::from_secs(33)),
    };
    at(&sent, TWO).clone()
}

/// RFC 3261 section 13.2.2.4, RFC 3263 section 4.3.
#[test]
fn the_server_that_took_the_place_of_one_that_failed_has_the_call() {
    for role in ROLES {
        for refusal in [Some(""), Some("Retry-After: 5\n"), None] {
            let mut lab = Lab::new(settings(role));
            let invite = passed_on(&mut lab, refusal);
            let mut bob = End::called(&invite, "bob-tag", BOB, &via(TWO));
            let two = Peer::core_at(TWO);
            lab.receive(&two, &bob.answer(&invite, 180, "", ""));
            let accepted = bob.answer(&invite, 200, "", "");
            let sent = lab.receive(&two, &accepted);
            let mut alice = End::caller(at_ue(&sent), ALICE, ALICE_VIA);
            // A pause that the first one asked for is over.
            lab.advance(Duration::from_secs(6));
            let what = format!("{role}, {refusal:?}");
            let sent = lab.receive(&ue(), &alice.numbered("ACK", 1, "", ""));
            assert_eq!(at(&sent, TWO).message.method_octets(), b"ACK", "{what}");
            if role == "b2bua" {
                let again = lab.receive(&two, &accepted);
                assert_eq!(at(&again, TWO).message.method_octets(), b"ACK", "{what}: kept");
            }
            let sent = lab.receive(&ue(), &alice.request("BYE", "", ""));
            let bye = at(&sent, TWO).clone();
            assert_eq!(bye.message.method_octets(), b"BYE", "{what}");
            let sent = lab.receive(&two, &bob.answer(&bye, 200, "", ""));
            assert_eq!(at_ue(&sent).message.status(), Some(200), "{what}");
            let late = lab.receive(&two, &bob.request("INFO", "", ""));
            assert_eq!(at(&late, TWO).message.status(), Some(481), "{what}");
        }
    }
}

/// Where we end a call ourselves, the same server is told.
#[test]
fn the_server_that_took_the_place_hears_that_a_call_ended_here() {
    let mut lab = Lab::new(settings("b2bua"));
    let invite = passed_on(&mut lab, Some(""));
    let bob = End::called(&invite, "bob-tag", BOB, &via(TWO));
    lab.receive(&Peer::core_at(TWO), &bob.answer(&invite, 200, "", ""));
    // Nobody acknowledges it.
    let sent = lab.advance(Duration::from_secs(33));
    let there = sent.iter().filter(|one| one.to.to_string() == TWO && one.message.is_request());
    let methods: Vec<&[u8]> = there.map(|one| one.message.method_octets()).collect();
    assert_eq!(methods.first().copied(), Some(&b"ACK"[..]));
    assert!(methods.contains(&&b"BYE"[..]), "{methods:?}");
    assert!(sent.iter().all(|one| one.to.to_string() != ONE), "{sent:?}");
}

/// The second server calls alice, with these hops of its side and this Contact; she answers. Gives her end, and the
/// caller's.
fn called(lab: &mut Lab, hops: &str, contact: &str) -> (End, End) {
    let mut key = lab.ue1();
    let path = register(lab, &ue(), "alice", &mut key).text();
    let path = path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path");
    let invite = format!(
        "INVITE {ALICE} SIP/2.0
Via: {};branch=z9hG4bKinvite
Max-Forwards: 70
From: <sip:bob@example.net>;tag=bob-tag
To: <sip:alice@example.net>
Call-ID: bob-call
CSeq: 1 INVITE
Contact: <{contact}>
Route: {path}
{hops}Content-Length: 0
",
        via(TWO)
    );
    let two = Peer::core_at(TWO);
    let sent = lab.receive(&two, &invite);
    let invite = at_ue(&sent).clone();
    let alice = End::called(&invite, "alice-tag", ALICE, ALICE_VIA);
    let sent = lab.receive(&ue(), &alice.answer(&invite, 200, "", ""));
    let bob = End::caller(at(&sent, TWO), contact, &via(TWO));
    let sent = lab.receive(&two, &bob.numbered("ACK", 1, "", ""));
    assert_eq!(at_ue(&sent).message.method_octets(), b"ACK");
    (alice, bob)
}

/// What a UE sends goes to that server first, and to the other one when it is not ready.
fn goes_first_to(lab: &mut Lab, alice: &mut End, servers: [&str; 2], what: &str) {
    let sent = lab.receive(&ue(), &alice.request("BYE", "", ""));
    let bye = at(&sent, servers[0]).clone();
    assert_eq!(bye.message.method_octets(), b"BYE", "{what}");
    let busy = answer(&bye, 503, "away", BOB, "", "");
    let sent = lab.receive(&Peer::core_at(servers[0]), &busy);
    let bye = at(&sent, servers[1]).clone();
    let sent = lab.receive(&Peer::core_at(servers[1]), &answer(&bye, 200, "b", BOB, "", ""));
    assert_eq!(at_ue(&sent).message.status(), Some(200), "{what}");
}

/// RFC 3261 sections 16.6 items 6 and 7, and 16.12.
#[test]
fn in_a_call_that_came_from_the_second_server_a_ue_reaches_it_first() {
    for (hops, contact, after_a_restart) in [
        ("Record-Route: <sip:203.0.113.11:5060;lr>\n", BOB, TWO),
        ("Record-Route: <sip:203.0.113.11;lr>, <sip:203.0.113.99;lr>\n", BOB, TWO),
        // Nothing names it but where it called from; after a restart nothing does.
        ("", BOB, ONE),
        ("", "sip:bob@203.0.113.11", TWO),
        // A host that is no member of the group, and another port of one that is.
        ("Record-Route: <sip:203.0.113.99;lr>\n", BOB, ONE),
        ("Record-Route: <sip:203.0.113.11:5070;lr>\n", BOB, ONE),
        // A name of all members, and one that is not resolved.
        ("Record-Route: <sip:core.example.net;lr>\n", BOB, ONE),
        ("Record-Route: <sip:two.example.net;lr>\n", BOB, ONE),
    ] {
        for role in ROLES {
            let mut lab = Lab::new(settings(role));
            let (mut alice, _) = called(&mut lab, hops, contact);
            goes_first_to(&mut lab, &mut alice, [TWO, ONE], &format!("{role}: {hops}"));
        }
        let mut lab = Lab::new(settings("proxy"));
        let (mut alice, _) = called(&mut lab, hops, contact);
        lab.restart(settings("proxy"));
        let other = if after_a_restart == TWO { ONE } else { TWO };
        goes_first_to(&mut lab, &mut alice, [after_a_restart, other], &format!("again: {hops}"));
    }
}

/// The route set is the word of whoever made it, the server that was asked first or not.
#[test]
fn a_route_that_names_the_other_server_leads_there_and_one_that_names_both_changes_nothing() {
    for (hop, servers) in [
        ("<sip:203.0.113.10;lr>", [ONE, TWO]),
        ("<sip:203.0.113.11:5060;lr>", [TWO, ONE]),
        ("<sip:core.example.net;lr>", [TWO, ONE]),
        ("<sip:203.0.113.99;lr>", [TWO, ONE]),
        ("<sips:203.0.113.10:5060;lr>", [TWO, ONE]),
    ] {
        for role in ROLES {
            let mut lab = Lab::new(settings(role));
            let invite = passed_on(&mut lab, Some(""));
            let bob = End::called(&invite, "bob-tag", BOB, &via(TWO));
            let accepted = bob.answer(&invite, 200, "", "");
            // The hops of the core stand on top of ours.
            let accepted = accepted.replacen("To:", &format!("Record-Route: {hop}\nTo:"), 1);
            let sent = lab.receive(&Peer::core_at(TWO), &accepted);
            let mut alice = End::caller(at_ue(&sent), ALICE, ALICE_VIA);
            let what = format!("{role}: {hop}");
            let sent = lab.receive(&ue(), &alice.numbered("ACK", 1, "", ""));
            assert_eq!(at(&sent, servers[0]).message.method_octets(), b"ACK", "{what}");
            goes_first_to(&mut lab, &mut alice, servers, &what);
        }
    }
}

/// Where we end a call ourselves, the server that its route set names is told.
#[test]
fn the_server_that_called_hears_that_a_call_ended_here() {
    for hops in ["Record-Route: <sip:203.0.113.11;lr>\n", ""] {
        let mut lab = Lab::new(settings("b2bua"));
        called(&mut lab, hops, BOB);
        let sent = lab.advance(Duration::from_secs(12 * 3600 + 1));
        let bye = |one: &&Sent| one.message.method_octets() == b"BYE";
        let first = sent.iter().filter(bye).find(|one| one.to != ue().flow().remote);
        assert_eq!(first.map(|one| one.to.to_string()).as_deref(), Some(TWO), "{hops}");
    }
}

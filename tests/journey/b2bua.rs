//! Calls through an edge that stands back to back: two dialogs, one call.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::Caller;
use sipward::identity::{Impu, Principal, Proof};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::lab::UE1_BTID;
use sipward::testing::{Lab, LabSettings, Peer, Sent};

use crate::apart::{Apart, End, answer, at_core};
use crate::scene::{register, request};

pub(crate) const ALICE: &str = "sip:alice-phone@192.0.2.10:40000";
pub(crate) const ALICE_VIA: &str = "SIP/2.0/TLS alice-host.invalid";
pub(crate) const BOB: &str = "sip:bob-phone@203.0.113.20:5066";
pub(crate) const CORE_VIA: &str = "SIP/2.0/UDP 203.0.113.10:5060";
pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\n";
pub(crate) const SDP: &str = "Content-Type: application/sdp\n";

/// Alice on TLS, with a key that her handshake proved.
pub(crate) fn world() -> Apart {
    world_of(LabSettings::default())
}

pub(crate) fn world_of(settings: LabSettings) -> Apart {
    let lab = Lab::new(settings.bridging());
    Apart::new(lab, Peer::tls("192.0.2.10:40000", 1).proved(alice()))
}

/// What the handshake of alice's phone proves.
pub(crate) fn alice() -> Arc<Caller> {
    Arc::new(Caller {
        rights: Default::default(),
        principal: Principal::new(Proof::Gba, "ue1@ims.example.net"),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        key_name: UE1_BTID.into(),
        expires: None,
        strongest: Default::default(),
        renewal: Default::default(),
    })
}

/// A request of alice's outside dialogs.
pub(crate) fn from_alice(method: &str, number: u32, more: &str, body: &str) -> String {
    format!(
        "{method} sip:bob@example.net SIP/2.0
Via: {ALICE_VIA};branch=z9hG4bKalice{method}{number}
Max-Forwards: 20
From: \"Alice\" <sip:alice@example.net>;tag=alice-tag
To: <sip:bob@example.net>
Call-ID: alice-call-{number}
CSeq: {number} {method}
Contact: <{ALICE}>;+g.feature=\"x\";+sip.instance=\"<urn:uuid:0a>\"
Record-Route: <sip:alice-hop.invalid;lr>
{more}Content-Length: @

{body}"
    )
}

/// Alice calls bob, who answers under `tag`: both ends, before any ACK.
pub(crate) fn call(world: &mut Apart, number: u32, tag: &str) -> (End, End) {
    let sent = world.by_ue(&from_alice("INVITE", number, SDP, OFFER));
    let invite = at_core(&sent).clone();
    assert!(invite.text().ends_with(OFFER), "octet for octet");
    let bob = End::called(&invite, tag, BOB, CORE_VIA);
    let recorded = "Record-Route: <sip:core-hop.invalid;lr>\n";
    let sent = world.by_core(&bob.answer(&invite, 180, recorded, ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(180));
    let sent = world.by_core(&bob.answer(&invite, 200, &format!("{recorded}{SDP}"), OFFER));
    let accepted = world.at_ue(&sent);
    assert_eq!(accepted.message.status(), Some(200));
    assert!(accepted.text().ends_with(OFFER), "octet for octet");
    (End::caller(accepted, ALICE, ALICE_VIA), bob)
}

/// The same, acknowledged.
pub(crate) fn established(world: &mut Apart, number: u32, tag: &str) -> (End, End) {
    let (alice, bob) = call(world, number, tag);
    let sent = world.by_ue(&alice.numbered("ACK", alice.cseq, "", ""));
    assert_eq!(at_core(&sent).message.method_octets(), b"ACK");
    (alice, bob)
}

pub(crate) fn line<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
}

#[test]
fn a_call_has_two_dialogs_and_everything_else_of_it_crosses() {
    let mut world = world();
    let text = from_alice("INVITE", 1, &format!("Max-Breadth: 30\nX-Kept: a , b\n{SDP}"), OFFER);
    let sent = world.by_ue(&text);
    let invite = at_core(&sent).text();
    for kept in [
        "INVITE sip:bob@example.net SIP/2.0\r\n",
        "\r\nMax-Forwards: 19\r\n",
        "\r\nMax-Breadth: 30\r\n",
        "\r\nX-Kept: a , b\r\n",
        "\r\nFrom: \"Alice\" <sip:alice@example.net>;tag=",
        "\r\nTo: <sip:bob@example.net>\r\n",
        "\r\nContact: <sip:edge.example.net:5060>;+g.feature=\"x\"\r\n",
        "\r\nP-Asserted-Identity: <sip:alice@example.net>\r\n",
    ] {
        assert!(invite.contains(kept), "{kept} in {invite}");
    }
    for gone in ["Record-Route", "Route:", "sip.instance"] {
        assert!(!invite.contains(gone), "{gone} in {invite}");
    }
    assert_eq!(invite.matches("Via:").count(), 1);

    let mut world = self::world();
    let (mut alice, mut bob) = call(&mut world, 1, "bob-tag");
    assert_eq!(alice.target, "sip:edge.example.net", "by name, on TLS");
    assert_eq!(alice.routes, ["<sip:alice-hop.invalid;lr>"], "of her own leg");
    let sent = world.by_ue(&alice.numbered("ACK", 1, SDP, OFFER));
    let ack = at_core(&sent).text();
    assert!(ack.starts_with(&format!("ACK {BOB} SIP/2.0\r\n")), "{ack}");
    assert_eq!(line(&ack, "Route: "), "<sip:core-hop.invalid;lr>");
    assert_eq!(line(&ack, "CSeq: "), "1 ACK");
    assert!(ack.ends_with(OFFER));
    let sent = world.by_core(&bob.request("INFO", "Info-Package: x\n", "octets \u{1}"));
    let info = world.at_ue(&sent).clone();
    assert!(info.text().starts_with(&format!("INFO {ALICE} SIP/2.0\r\n")), "{}", info.text());
    assert_eq!(line(&info.text(), "CSeq: "), "1 INFO", "her leg counts for itself");
    assert_eq!(line(&info.text(), "Route: "), "<sip:alice-hop.invalid;lr>");
    let sent = world.by_ue(&alice.answer(&info, 200, "", ""));
    assert_eq!(line(&at_core(&sent).text(), "CSeq: "), "101 INFO");
    let sent = world.by_ue(&alice.request("BYE", "", ""));
    let bye = at_core(&sent).clone();
    assert_eq!(line(&bye.text(), "CSeq: "), "2 BYE");
    let sent = world.by_core(&bob.answer(&bye, 200, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    let late = world.by_core(&bob.request("INFO", "", ""));
    assert_eq!(at_core(&late).message.status(), Some(481));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::DialogEnded));
}

#[test]
fn nothing_is_left_of_a_call_after_a_day() {
    let mut world = world();
    let (mut alice, bob) = established(&mut world, 1, "bob-tag");
    let sent = world.by_ue(&alice.request("BYE", "", ""));
    world.by_core(&bob.answer(at_core(&sent), 200, "", ""));
    let sent = world.by_ue(&from_alice("SUBSCRIBE", 2, "Event: presence\n", ""));
    world.by_core(&answer(at_core(&sent), 489, "notifier-tag", BOB, "", ""));
    established(&mut world, 3, "carol-tag");
    let associations = Arc::clone(&world.lab.shared.gate.associations);
    assert!(associations.aliases() > 0);
    world.lab.advance(Duration::from_secs(24 * 3600));
    assert_eq!((associations.footprint(), associations.aliases()), (0, 0));
    assert_eq!((world.lab.transactions(), world.lab.shared.ongoing.len()), (0, 0));
}

#[test]
fn messages_outside_dialogs_cross_and_leave_nothing() {
    let mut world = world();
    let sent = world.by_ue(&from_alice("MESSAGE", 1, "Content-Type: text/plain\n", "hello\r\n"));
    let message = at_core(&sent).clone();
    assert!(message.text().ends_with("\r\n\r\nhello\r\n"));
    let sent = world.by_core(&answer(&message, 200, "bob-tag", BOB, "X-Kept: y\n", "z"));
    let back = world.at_ue(&sent).text();
    assert!(back.contains("\r\nX-Kept: y\r\n") && back.ends_with("\r\n\r\nz"), "{back}");
    assert_eq!(world.lab.shared.gate.associations.footprint(), 0);
}

#[test]
fn whoever_asks_without_credentials_is_challenged_as_by_a_user_agent() {
    let mut lab = Lab::new(LabSettings::default().bridging());
    let bare = Peer::udp("192.0.2.10:5060");
    for (method, status) in [("MESSAGE", 401), ("REGISTER", 407)] {
        let uri = if method == "REGISTER" { "sip:example.net" } else { "sip:bob@example.net" };
        let sent = lab.receive(&bare, &request(method, uri, "alice", "c", 1, None));
        assert_eq!(sent.last().and_then(|sent| sent.message.status()), Some(status), "{method}");
    }
    let mut key = lab.ue1();
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "c", 2, Some(&mut key));
    let other = "Authorization: Digest username=\"a\", realm=\"elsewhere\", nonce=\"n\", uri=\"sip:b\", response=\"r\"\n";
    let text = text.replace("Content-Length", &format!("{other}Content-Length"));
    let sent = lab.receive(&bare, &text.replace("Proxy-Authorization", "Authorization"));
    let message = at_core(&sent).clone();
    assert!(!message.text().contains("uthorization"), "no credentials cross: {}", message.text());
    let challenge = "WWW-Authenticate: Digest realm=\"elsewhere\", nonce=\"n\"\n";
    let sent = lab.receive(&Peer::core(), &answer(&message, 401, "b", BOB, challenge, ""));
    let back = sent.last().expect("an answer").text();
    assert!(back.starts_with("SIP/2.0 403 ") && !back.contains("uthenticate"), "{back}");
    let mut key = lab.ue1();
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "c", 3, Some(&mut key));
    let sent = lab.receive(&bare, &text);
    let sent = lab.receive(&Peer::core(), &answer(at_core(&sent), 200, "b", BOB, "", ""));
    let back = sent.last().expect("an answer").text();
    assert!(back.contains("\r\nAuthentication-Info: qop=auth, rspauth=\""), "{back}");
}

/// The status that went to the core.
pub(crate) fn status_at_core(sent: &[Sent]) -> Option<u16> {
    at_core(sent).message.status()
}

#[test]
fn a_call_from_the_core_crosses_as_well() {
    let mut world = world();
    let mut key = world.lab.ue1();
    let peer = world.ue.clone();
    let path = register(&mut world.lab, &peer, "alice", &mut key).text();
    let invite = format!(
        "INVITE sip:alice@192.0.2.10:5060 SIP/2.0
Via: {CORE_VIA};branch=z9hG4bKcore-invite
Max-Forwards: 70
From: <sip:bob@example.net>;tag=bob-tag
To: <sip:alice@example.net>
Call-ID: bob-call
CSeq: 41 INVITE
Contact: <{BOB}>
Route: {}
Record-Route: <sip:core-hop.invalid;lr>
Content-Length: 0
",
        line(&path, "Path: ")
    );
    let sent = world.by_core(&invite);
    let invite = world.at_ue(&sent).clone();
    assert!(invite.text().starts_with("INVITE sip:alice@192.0.2.10:5060 SIP/2.0\r\n"));
    assert!(!invite.text().contains("oute:"), "{}", invite.text());
    let mut alice = End::called(&invite, "alice-tag", ALICE, ALICE_VIA);
    let sent = world.by_ue(&alice.answer(&invite, 200, "", ""));
    let bob = End::caller(at_core(&sent), BOB, CORE_VIA);
    assert_eq!((bob.cseq, bob.routes.len()), (41, 1));
    let sent = world.by_core(&bob.numbered("ACK", 41, "", ""));
    assert_eq!(line(&world.at_ue(&sent).text(), "CSeq: "), "1 ACK");
    let sent = world.by_ue(&alice.request("BYE", "", ""));
    let bye = at_core(&sent).clone();
    assert!(bye.text().starts_with(&format!("BYE {BOB} SIP/2.0\r\n")));
    let sent = world.by_core(&bob.answer(&bye, 200, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
}

#[test]
fn each_fork_is_a_dialog_of_its_own_on_the_near_side() {
    let mut world = world();
    let invite = at_core(&world.by_ue(&from_alice("INVITE", 1, "", ""))).clone();
    let ends: Vec<End> = ["bob-desk", "bob-mobile"]
        .map(|tag| End::called(&invite, tag, &format!("sip:{tag}@203.0.113.20"), CORE_VIA))
        .into();
    let mut tags = Vec::new();
    for end in &ends {
        let sent = world.by_core(&end.answer(&invite, 180, "", ""));
        tags.push(End::caller(world.at_ue(&sent), ALICE, ALICE_VIA).tags[1].clone());
    }
    assert_ne!(tags[0], tags[1]);
    for (place, end) in ends.iter().enumerate().rev() {
        let sent = world.by_core(&end.answer(&invite, 200, "", ""));
        let mut alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
        assert_eq!(alice.tags[1], tags[place], "the same as when it rang");
        let ack = at_core(&world.by_ue(&alice.numbered("ACK", 1, "", ""))).text();
        assert!(ack.starts_with(&format!("ACK {} SIP/2.0", end.contact)), "{ack}");
        let again = world.by_core(&end.answer(&invite, 200, "", ""));
        assert_eq!(at_core(&again).text(), ack, "a copy is acknowledged here");
        let again = at_core(&world.by_ue(&alice.numbered("ACK", 1, "X: y\n", ""))).text();
        assert_eq!(line(&again, "CSeq: "), "1 ACK", "it crosses again");
        let bye = at_core(&world.by_ue(&alice.request("BYE", "", ""))).clone();
        let sent = world.by_core(&end.answer(&bye, 200, "", ""));
        assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    }
}

#[test]
fn early_media_is_acknowledged_by_the_number_of_the_other_leg() {
    let mut world = world();
    let sent = world.by_ue(&from_alice("INVITE", 7, "Supported: 100rel\n", OFFER));
    let invite = at_core(&sent).clone();
    assert_eq!(line(&invite.text(), "Supported: "), "100rel");
    let mut bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let reliable = "Require: 100rel\nRSeq: 33\n";
    let sent = world.by_core(&bob.answer(&invite, 183, reliable, OFFER));
    let early = world.at_ue(&sent).clone();
    assert!(early.text().contains("\r\nRSeq: 33\r\n"));
    let mut alice = End::caller(&early, ALICE, ALICE_VIA);
    let stray = world.by_ue(&alice.request("PRACK", "RAck: 33 6 INVITE\n", ""));
    assert_eq!(world.at_ue(&stray).message.status(), Some(481), "no such INVITE");
    let sent = world.by_ue(&alice.request("PRACK", "RAck: 33 7 INVITE\n", ""));
    let prack = at_core(&sent).clone();
    assert_eq!(line(&prack.text(), "RAck: "), "33 1 INVITE");
    assert_eq!(line(&prack.text(), "CSeq: "), "2 PRACK");
    let sent = world.by_core(&bob.answer(&prack, 200, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    let sent = world.by_core(&bob.request("UPDATE", SDP, OFFER));
    let update = world.at_ue(&sent).clone();
    let sent = world.by_ue(&alice.answer(&update, 200, "", OFFER));
    assert_eq!(status_at_core(&sent), Some(200));
    let sent = world.by_core(&bob.answer(&invite, 200, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    let sent = world.by_ue(&alice.numbered("ACK", 7, "", ""));
    assert_eq!(line(&at_core(&sent).text(), "CSeq: "), "1 ACK");
}

#[test]
fn either_side_calls_again_and_moves_its_target() {
    let mut world = world();
    let (mut alice, mut bob) = established(&mut world, 1, "bob-tag");
    bob.contact = "sip:bob-moved@203.0.113.21".into();
    let sent = world.by_core(&bob.request("INVITE", SDP, OFFER));
    let again = world.at_ue(&sent).clone();
    assert_eq!(line(&again.text(), "CSeq: "), "1 INVITE");
    let early = world.by_ue(&alice.request("INFO", "", ""));
    assert!(at_core(&early).text().starts_with(&format!("INFO {BOB} ")), "it may be refused yet");
    let sent = world.by_ue(&alice.answer(&again, 200, "", OFFER));
    assert_eq!(status_at_core(&sent), Some(200));
    let sent = world.by_core(&bob.numbered("ACK", bob.cseq, "", ""));
    assert_eq!(line(&world.at_ue(&sent).text(), "CSeq: "), "1 ACK");
    let sent = world.by_ue(&alice.request("INVITE", SDP, OFFER));
    let again = at_core(&sent).clone();
    assert!(again.text().starts_with("INVITE sip:bob-moved@203.0.113.21 "), "{}", again.text());
    let sent = world.by_core(&bob.answer(&again, 488, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(488));
    let sent = world.by_ue(&alice.request("INVITE", SDP, OFFER));
    let again = at_core(&sent).clone();
    world.by_core(&bob.answer(&again, 200, "", ""));
    let sent = world.by_ue(&alice.numbered("ACK", alice.cseq, "", ""));
    assert_eq!(line(&at_core(&sent).text(), "CSeq: "), "4 ACK");
}

#[test]
fn two_who_call_again_at_once_are_both_refused_and_may_try_later() {
    let mut world = world();
    let (mut alice, mut bob) = established(&mut world, 1, "bob-tag");
    let again = at_core(&world.by_ue(&alice.request("INVITE", SDP, OFFER))).clone();
    let sent = world.by_core(&bob.request("INVITE", SDP, OFFER));
    assert_eq!(status_at_core(&sent), Some(491));
    let second = world.by_ue(&alice.request("INVITE", SDP, OFFER));
    let second = world.at_ue(&second).clone();
    assert_eq!(second.message.status(), Some(500));
    let wait: u32 = line(&second.text(), "Retry-After: ").parse().expect("seconds");
    assert!(wait <= 10, "RFC 3261 section 14.2");
    let sent = world.by_core(&bob.answer(&again, 491, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(491), "the far end says so, too");
    let sent = world.by_core(&bob.request("INVITE", SDP, OFFER));
    assert_eq!(world.at_ue(&sent).message.method_octets(), b"INVITE");
}

#[test]
fn a_call_is_cancelled_on_the_other_leg_under_its_ids() {
    let mut world = world();
    let text = from_alice("INVITE", 1, "", "");
    let invite = at_core(&world.by_ue(&text)).clone();
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    world.by_core(&bob.answer(&invite, 180, "", ""));
    let cancel = text.replace("1 INVITE", "1 CANCEL").replace("INVITE sip:", "CANCEL sip:");
    let sent = world.by_ue(&cancel);
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    let cancel = at_core(&sent).clone();
    assert_eq!(cancel.message.call_id(), invite.message.call_id());
    assert_eq!(line(&cancel.text(), "CSeq: "), "1 CANCEL");
    world.by_core(&bob.answer(&cancel, 200, "", ""));
    let sent = world.by_core(&bob.answer(&invite, 487, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(487));
    assert_eq!(at_core(&sent).message.method_octets(), b"ACK");
}

#[test]
fn an_answer_that_crosses_a_cancel_is_acknowledged_and_ended_here() {
    let mut world = world();
    let text = from_alice("INVITE", 1, "", "");
    let invite = at_core(&world.by_ue(&text)).clone();
    let mut bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    world.by_core(&bob.answer(&invite, 180, "", ""));
    world.by_ue(&text.replace("1 INVITE", "1 CANCEL").replace("INVITE sip:", "CANCEL sip:"));
    let recorded = "Record-Route: <sip:core-hop.invalid;lr>\n";
    let sent = world.by_core(&bob.answer(&invite, 200, recorded, OFFER));
    assert_eq!(world.at_ue(&sent).message.status(), Some(487));
    let core = Peer::core().flow().remote;
    let own: Vec<&Sent> = sent.iter().filter(|sent| sent.to == core).collect();
    let [ack, bye] = own.as_slice() else { panic!("{own:?}") };
    assert!(ack.text().starts_with(&format!("ACK {BOB} SIP/2.0\r\n")), "{}", ack.text());
    assert_eq!(line(&ack.text(), "CSeq: "), "1 ACK");
    assert_eq!(line(&bye.text(), "CSeq: "), "2 BYE");
    assert_eq!(line(&bye.text(), "Reason: "), "SIP;cause=487;text=\"Request Terminated\"");
    assert_eq!(bye.message.to_tag(), b"bob-tag");
    assert_eq!(bye.message.from_tag(), invite.message.from_tag());
    let copy = world.by_core(&bob.answer(&invite, 200, recorded, OFFER));
    assert_eq!(at_core(&copy).message.method_octets(), b"ACK", "and no second BYE");
    assert!(world.by_core(&bob.answer(bye, 200, "", "")).is_empty());
    let late = world.by_core(&bob.request("INFO", "", ""));
    assert_eq!(status_at_core(&late), Some(481));
}

#[test]
fn what_nobody_acknowledges_is_ended_on_both_legs() {
    let mut world = world();
    let sent = world.by_ue(&from_alice("INVITE", 1, "", ""));
    let invite = at_core(&sent).clone();
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let sent = world.by_core(&bob.answer(&invite, 200, "", OFFER));
    let accepted = world.at_ue(&sent).clone();
    let alice = End::caller(&accepted, ALICE, ALICE_VIA);
    let copy = world.by_core(&bob.answer(&invite, 200, "", OFFER));
    assert!(copy.is_empty(), "it is repeated here: {copy:?}");
    let sent = world.advance(33);
    let again = sent.iter().filter(|sent| sent.text() == accepted.text()).count();
    assert_eq!(again, 10, "after 0.5, 1.5, 3.5 seconds, then every 4");
    let requests = |to_ue: bool| -> Vec<&Sent> {
        let there = sent.iter().filter(|one| (one.to == world.ue.flow().remote) == to_ue);
        there.filter(|one| one.message.is_request()).collect()
    };
    let (near, far) = (requests(true), requests(false));
    let bye = near.first().expect("a BYE");
    assert!(bye.text().starts_with(&format!("BYE {ALICE} SIP/2.0\r\n")), "{}", bye.text());
    assert_eq!(line(&bye.text(), "From: "), format!("<sip:bob@example.net>;tag={}", alice.tags[1]));
    assert_eq!(line(&bye.text(), "To: "), "<sip:alice@example.net>;tag=alice-tag");
    assert_eq!(line(&bye.text(), "Reason: "), "SIP;cause=408;text=\"Request Timeout\"");
    assert_eq!(far[0].message.method_octets(), b"ACK");
    assert_eq!(line(&far[1].text(), "CSeq: "), "2 BYE");
    let (near, far) = (near[0].clone(), far[1].clone());
    world.by_ue(&alice.answer(&near, 200, "", ""));
    world.by_core(&bob.answer(&far, 200, "", ""));
    let after = world.advance(60);
    assert!(after.is_empty(), "{after:?}");
    assert_eq!(world.lab.transactions(), 0);
}

#[test]
fn a_call_that_is_silent_for_too_long_is_ended_on_both_legs() {
    let mut world = world();
    established(&mut world, 1, "bob-tag");
    let sent = world.advance(12 * 3600 + 1);
    let byes = sent.iter().filter(|sent| sent.message.method_octets() == b"BYE");
    let to: HashSet<_> = byes.map(|bye| bye.to).collect();
    assert_eq!(to, HashSet::from([world.ue.flow().remote, Peer::core().flow().remote]));
}

#[test]
fn the_first_notify_makes_the_dialog_before_any_answer() {
    let mut world = world();
    let sent = world.by_ue(&from_alice("SUBSCRIBE", 3, "Event: presence\nExpires: 600\n", ""));
    let subscribe = at_core(&sent).clone();
    let mut bob = End::called(&subscribe, "notifier-tag", BOB, CORE_VIA);
    let active = "Event: presence\nSubscription-State: active;expires=600\n";
    let sent = world.by_core(&bob.request("NOTIFY", active, "<presence/>"));
    let notify = world.at_ue(&sent).clone();
    assert!(notify.text().starts_with(&format!("NOTIFY {ALICE} SIP/2.0\r\n")));
    assert_eq!(world.lab.decisions.last().map(|decision| decision.rule), Some(25));
    let mut alice = End::called(&notify, "alice-tag", ALICE, ALICE_VIA);
    let sent = world.by_ue(&alice.answer(&notify, 200, "", ""));
    assert_eq!(status_at_core(&sent), Some(200));
    let sent = world.by_core(&bob.answer(&subscribe, 200, "Expires: 600\n", ""));
    let accepted = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
    assert_eq!(accepted.tags, alice.tags, "one dialog");
    alice.cseq = 3;
    let refresh = world.by_ue(&alice.request("SUBSCRIBE", "Event: presence\nExpires: 0\n", ""));
    let refresh = at_core(&refresh).clone();
    assert_eq!(line(&refresh.text(), "CSeq: "), "2 SUBSCRIBE");
    world.by_core(&bob.answer(&refresh, 200, "Expires: 0\n", ""));
    let over = "Event: presence\nSubscription-State: terminated;reason=timeout\n";
    let sent = world.by_core(&bob.request("NOTIFY", over, ""));
    let notify = world.at_ue(&sent).clone();
    let sent = world.by_ue(&alice.answer(&notify, 200, "", ""));
    assert_eq!(status_at_core(&sent), Some(200));
    let late = world.by_core(&bob.request("NOTIFY", active, ""));
    assert_eq!(status_at_core(&late), Some(481));
}

/// V-136.
#[test]
fn the_ids_of_one_leg_lead_nowhere_on_the_other() {
    let mut world = world();
    let (alice, bob) = established(&mut world, 1, "bob-tag");
    let mut of_alice = End { via: CORE_VIA.into(), contact: BOB.into(), ..alice.clone() };
    of_alice.tags.reverse();
    let sent = world.lab.receive(&Peer::core(), &of_alice.request("BYE", "", ""));
    assert_eq!(status_at_core(&sent), Some(403));
    let mut of_bob = End { via: ALICE_VIA.into(), contact: ALICE.into(), ..bob };
    let peer = world.ue.clone();
    for _ in 0..2 {
        let sent = world.lab.receive(&peer, &of_bob.request("BYE", "", ""));
        let status = sent[0].message.status();
        assert!(matches!(status, Some(403 | 481)), "{status:?}");
        of_bob.tags.reverse();
    }
    let mut alice = alice;
    let sent = world.by_ue(&alice.request("INFO", "", ""));
    assert_eq!(at_core(&sent).message.method_octets(), b"INFO", "the call is unharmed");
}

/// RFC 3891, V-136: alice, who talks to bob and to carol, lets bob take her place.
#[test]
fn a_transfer_names_the_dialog_as_the_other_side_knows_it() {
    let mut world = world();
    let (mut alice, mut bob) = established(&mut world, 1, "bob-tag");
    let (with_carol, carol) = established(&mut world, 2, "carol-tag");
    let named = format!(
        "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
        with_carol.call_id, with_carol.tags[1], with_carol.tags[0]
    );
    let refer = format!("Refer-To: \"Carol\" <{}?Replaces={named}&X=y>\n", with_carol.target);
    let sent = world.by_ue(&alice.request("REFER", &refer, ""));
    let refer = at_core(&sent).clone();
    let there =
        format!("{}%3bto-tag%3d{}%3bfrom-tag%3d{}", carol.call_id, carol.tags[0], carol.tags[1]);
    let expected = format!("\"Carol\" <{}?Replaces={there}&X=y>", carol.contact);
    assert_eq!(line(&refer.text(), "Refer-To: "), expected);
    let sent = world.by_core(&bob.answer(&refer, 202, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(202));
    let trying =
        "Event: refer\nSubscription-State: active;expires=60\nContent-Type: message/sipfrag\n";
    let sent = world.by_core(&bob.request("NOTIFY", trying, "SIP/2.0 100 Trying\r\n"));
    assert!(world.at_ue(&sent).text().ends_with("SIP/2.0 100 Trying\r\n"));

    for name in ["Replaces", "Join"] {
        let value = format!(
            "{};from-tag={};early-only;to-tag={}",
            with_carol.call_id, with_carol.tags[0], with_carol.tags[1]
        );
        let number = if name == "Join" { 11 } else { 10 };
        let invite = from_alice("INVITE", number, &format!("{name}: {value}\n"), "");
        let text = at_core(&world.by_ue(&invite)).text();
        let there = format!(
            "{};to-tag={};from-tag={};early-only",
            carol.call_id, carol.tags[0], carol.tags[1]
        );
        assert_eq!(line(&text, &format!("{name}: ")), there);
    }
    let value = format!(
        "{};local-tag={};remote-tag={}",
        with_carol.call_id, with_carol.tags[1], with_carol.tags[0]
    );
    let options = from_alice(
        "OPTIONS",
        12,
        &format!(
            "Target-Dialog: {value}\nIn-Reply-To: nobody, {}\nIn-Reply-To: {}\n",
            with_carol.call_id, carol.call_id
        ),
        "",
    );
    let text = at_core(&world.by_ue(&options)).text();
    let there =
        format!("{};local-tag={};remote-tag={}", carol.call_id, carol.tags[0], carol.tags[1]);
    assert_eq!(line(&text, "Target-Dialog: "), there);
    // What is not known from here is left out, the Call-ID of the other leg above all.
    assert_eq!(line(&text, "In-Reply-To: "), carol.call_id);
    assert_eq!(text.matches("In-Reply-To").count(), 1, "{text}");
    let back = bob.request("MESSAGE", &format!("In-Reply-To: {}\n", carol.call_id), "");
    let sent = world.by_core(&back);
    let text = world.at_ue(&sent).text();
    assert_eq!(line(&text, "In-Reply-To: "), with_carol.call_id);
    let unknown = from_alice("INVITE", 13, "Replaces: nobody;to-tag=a;from-tag=b\n", "");
    let sent = world.by_ue(&unknown);
    assert_eq!(world.at_ue(&sent).message.status(), Some(481));
}

#[test]
fn a_request_that_comes_back_as_it_left_is_a_loop() {
    let mut world = world();
    let message = at_core(&world.by_ue(&from_alice("MESSAGE", 1, "", ""))).clone();
    let looped = message
        .text()
        .replace("Via:", "Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKloop\r\nVia:");
    let sent = world.lab.receive_octets(&Peer::core(), looped.into_bytes());
    assert_eq!(status_at_core(&sent), Some(482));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::LoopDetected));
}

#[test]
fn the_next_server_gets_the_same_request_when_one_is_away() {
    let core = vec!["203.0.113.10:5060", "203.0.113.11:5060"];
    let mut world = world_of(LabSettings { core, ..LabSettings::default() });
    let first = world.by_ue(&from_alice("INVITE", 1, "", ""));
    let first = at_core(&first).clone();
    let sent = world.by_core(&answer(&first, 503, "away-tag", BOB, "", ""));
    let second = sent.iter().find(|sent| sent.to.to_string() == "203.0.113.11:5060");
    let second = second.expect("the other server").clone();
    let past_via =
        |sent: &Sent| sent.text().split_once("Max-Forwards").map(|parts| parts.1.to_owned());
    assert_eq!(past_via(&first), past_via(&second));
    let bob = End::called(&second, "bob-tag", BOB, CORE_VIA);
    let text = bob.answer(&second, 200, "", "");
    let sent = world.lab.receive(&Peer::core_at("203.0.113.11:5060"), &text);
    let alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
    let sent = world.by_ue(&alice.numbered("ACK", 1, "", ""));
    assert!(sent[0].text().starts_with(&format!("ACK {BOB} SIP/2.0\r\n")));
    assert_eq!(sent[0].to, second.to, "where the call is");
}

#[test]
fn ids_are_kept_where_that_is_asked_for() {
    let mut settings = LabSettings::default();
    settings.forward.keep_call_id = true;
    let mut world = world_of(settings);
    let peer = world.ue.clone();
    let sent = world.lab.receive(&peer, &from_alice("INVITE", 7, "", ""));
    let invite = at_core(&sent).clone();
    assert_eq!(invite.message.call_id(), b"alice-call-7");
    assert_eq!(invite.message.from_tag(), b"alice-tag");
    assert_eq!(line(&invite.text(), "CSeq: "), "7 INVITE");
    let mut bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let sent = world.lab.receive(&Peer::core(), &bob.answer(&invite, 200, "", ""));
    let mut alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
    assert_eq!(alice.tags, ["alice-tag", "bob-tag"]);
    assert_eq!(alice.target, "sip:edge.example.net");
    let sent = world.lab.receive(&peer, &alice.numbered("ACK", 7, "", ""));
    assert_eq!(line(&at_core(&sent).text(), "CSeq: "), "7 ACK");
    let sent = world.lab.receive(&Peer::core(), &bob.request("INFO", "", ""));
    let info = world.at_ue(&sent).clone();
    let sent = world.lab.receive(&peer, &alice.answer(&info, 200, "", ""));
    assert_eq!(status_at_core(&sent), Some(200));
    let sent = world.lab.receive(&peer, &alice.request("BYE", "", ""));
    let bye = at_core(&sent).clone();
    assert_eq!(line(&bye.text(), "CSeq: "), "8 BYE");
}

/// `TX-10`: what a core forks to two UEs does not merge here, what comes by two ways for one UE does.
#[test]
fn forks_for_two_ues_pass_and_one_that_comes_twice_is_merged() {
    let mut world = world();
    let mut key = world.lab.ue1();
    let peer = world.ue.clone();
    let path = register(&mut world.lab, &peer, "alice", &mut key).text();
    let fork = |branch: &str, target: &str| {
        format!(
            "INVITE sip:alice@{target} SIP/2.0
Via: {CORE_VIA};branch=z9hG4bK{branch}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=bob-tag
To: <sip:alice@example.net>
Call-ID: bob-call
CSeq: 1 INVITE
Contact: <{BOB}>
Route: {}
Content-Length: 0
",
            line(&path, "Path: ")
        )
    };
    for (branch, target) in [("one", "192.0.2.10:5060"), ("two", "192.0.2.11:5060")] {
        let sent = world.by_core(&fork(branch, target));
        assert_eq!(world.at_ue(&sent).message.method_octets(), b"INVITE", "{branch}");
    }
    let sent = world.by_core(&fork("three", "192.0.2.10:5060"));
    assert_eq!(status_at_core(&sent), Some(482));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::RequestMerged));
}

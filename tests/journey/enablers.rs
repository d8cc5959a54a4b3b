//! Stage 6: what the classes make of several requests.

use std::fmt::Write as _;
use std::time::Duration;

use sipward::admission::Rate;
use sipward::enabler::Class;
use sipward::gate::Lookup;
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::UE1_BTID;
use sipward::testing::{LOCATION, Lab, LabSettings, Peer, Sent, Signer, UE1_LOCSIP_PASSWORD};

use crate::scene::{call, in_dialog, register, request, respond, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";
const VAN: &str = "sip:van7@example.net";
const CHAT: &str = "Accept-Contact: *;+g.oma.sip-im\n";

/// A request of alice's with a body, signed over it.
fn with_body(head: &str, signer: &mut Signer, kind: &str, body: &str) -> Vec<u8> {
    let mut words = head.split(' ');
    let (method, uri) = (words.next().expect("a method"), words.next().expect("a URI"));
    signer.auth_int = true;
    let credentials = signer.credentials(method, uri, body.as_bytes());
    signer.auth_int = false;
    let head = head.trim_end().replace('\n', "\r\n");
    let length = body.len();
    format!("{head}\r\nProxy-Authorization: {credentials}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A message by itself with `wrapped` in it, as alice sends it.
fn message(signer: &mut Signer, number: u32, wrapped: &str) -> Vec<u8> {
    let head = format!(
        "MESSAGE sip:bob@example.net SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKm{number};rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <sip:bob@example.net>
Call-ID: m{number}
CSeq: 1 MESSAGE
"
    );
    let body = format!(
        "From: <sip:alice@example.net>\r\nTo: <sip:bob@example.net>\r\n\r\nContent-Type: {wrapped}\r\n\r\nx"
    );
    with_body(&head, signer, "message/cpim", &body)
}

/// Settings in which the location service has example.net.
fn located() -> LabSettings {
    let mut settings = LabSettings::default();
    settings.forward.routes = vec![("example.net".into(), LOCATION)];
    settings
}

fn locator(lab: &Lab) -> Signer {
    lab.signer(UE1_BTID, UE1_LOCSIP_PASSWORD)
}

fn to_location(sent: &[Sent]) -> Sent {
    let found = sent.iter().find(|sent| sent.to == Peer::location().flow().remote);
    found.unwrap_or_else(|| panic!("nothing went to the location service: {sent:?}")).clone()
}

/// Alice asks where the van is; what the location service got.
fn watch(lab: &mut Lab, alice: &Peer, key: &mut Signer, call: &str, expires: u32) -> Sent {
    let more = format!("Event: presence\nExpires: {expires}\n");
    let text = in_dialog("SUBSCRIBE", VAN, "alice", "", call, 1, Some(key), &more);
    to_location(&lab.receive(alice, &text))
}

fn news(call: &str, number: u32, state: &str) -> String {
    format!(
        "NOTIFY sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/TLS lrf.example.net;branch=z9hG4bK{call}n{number}
Max-Forwards: 70
From: <{VAN}>;tag=v
To: <sip:alice@example.net>;tag=alice
Call-ID: {call}
CSeq: {number} NOTIFY
Event: presence
Subscription-State: {state}
Content-Length: 0
"
    )
}

/// The same, granted for so long and told of once, which makes it a dialog.
fn watched(lab: &mut Lab, alice: &Peer, key: &mut Signer, call: &str, expires: u32) {
    let asked = watch(lab, alice, key, call, expires);
    let granted = format!("Expires: {expires}\n");
    lab.receive(&Peer::location(), &respond(&asked, 200, "v", &granted));
    lab.receive(&Peer::location(), &news(call, 1, &format!("active;expires={expires}")));
    assert_eq!(lab.last(), Outcome::Forwarded);
}

fn class_of(lab: &Lab, call_class: impl Fn(Class) -> bool) -> usize {
    let snapshot = lab.shared.gate.associations.snapshot();
    snapshot.iter().filter(|association| call_class(association.class)).count()
}

#[test]
fn b7_a_message_that_was_taken_off_the_wire_is_worth_nothing() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let octets = message(&mut key, 1, "text/plain");
    to_core(&lab.receive_octets(&alice, octets.clone()));
    let rogue = Peer::udp("198.51.100.9:5060");
    for _ in ["at once", "after Timer J"] {
        let sent = lab.receive_octets(&rogue, octets.clone());
        assert_eq!(status_to(&sent, &rogue), Some(407));
        let text = sent.iter().map(Sent::text).collect::<String>();
        assert!(text.contains("stale=true") && text.contains("qop=\"auth-int\""), "{text}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceStale));
        lab.advance(Duration::from_secs(40));
    }
    to_core(&lab.receive_octets(&alice, message(&mut key, 2, "text/plain")));
}

#[test]
fn messages_have_a_rate_and_v_123_reports_one_of_their_own() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    for number in 0..10 {
        to_core(&lab.receive_octets(&alice, message(&mut key, number, "text/plain")));
    }
    let sent = lab.receive_octets(&alice, message(&mut key, 10, "text/plain"));
    assert_eq!(status_to(&sent, &alice), Some(500));
    assert!(sent[0].text().contains("Retry-After: "), "no 503: the edge is not down");
    for number in 100..160 {
        to_core(&lab.receive_octets(&alice, message(&mut key, number, "message/imdn+xml")));
    }
    lab.receive_octets(&alice, message(&mut key, 160, "message/imdn+xml"));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::RateExceeded));
    lab.advance(Duration::from_secs(4));
    to_core(&lab.receive_octets(&alice, message(&mut key, 11, "text/plain")));
    let (bob, mut other) = (Peer::udp("192.0.2.20:5060"), lab.ue2());
    let text = request("MESSAGE", "sip:alice@example.net", "bob", "b", 1, Some(&mut other));
    to_core(&lab.receive(&bob, &text));
}

#[test]
fn b13_the_eleventh_question_of_a_minute_waits() {
    let mut lab = Lab::new(located());
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), locator(&lab));
    for number in 0..10 {
        let call = format!("f{number}");
        let asked = watch(&mut lab, &alice, &mut key, &call, 0);
        lab.receive(&Peer::location(), &respond(&asked, 200, "v", "Expires: 0\n"));
        lab.receive(&Peer::location(), &news(&call, 1, "terminated;reason=timeout"));
        assert_eq!(lab.last(), Outcome::Forwarded);
    }
    let more = "Event: presence\nExpires: 0\n";
    let text = in_dialog("SUBSCRIBE", VAN, "alice", "", "f10", 1, Some(&mut key), more);
    let sent = lab.receive(&alice, &text);
    assert_eq!(status_to(&sent, &alice), Some(500));
    assert!(sent[0].text().contains("Retry-After: "));
    lab.advance(Duration::from_secs(60));
    watch(&mut lab, &alice, &mut key, "f11", 0);
}

#[test]
fn v_128_five_locations_are_watched_at_once_and_another_when_one_ends() {
    let mut lab = Lab::new(located());
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), locator(&lab));
    for number in 0..5 {
        watched(&mut lab, &alice, &mut key, &format!("w{number}"), 600);
    }
    let sixth = |key: &mut Signer, call| {
        let more = "Event: presence\nExpires: 600\n";
        in_dialog("SUBSCRIBE", VAN, "alice", "", call, 1, Some(key), more)
    };
    let text = sixth(&mut key, "w5");
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(500));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::RateExceeded));
    lab.receive(&Peer::location(), &news("w0", 2, "terminated;reason=noresource"));
    let text = sixth(&mut key, "w6");
    let asked = to_location(&lab.receive(&alice, &text));
    lab.receive(&Peer::location(), &respond(&asked, 403, "v", ""));
    watched(&mut lab, &alice, &mut key, "w7", 600);
    // What came of the requests is over, and nothing of it is counted twice or for ever.
    lab.advance(Duration::from_secs(60));
    let text = sixth(&mut key, "w8");
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(500));
    lab.advance(Duration::from_secs(700));
    assert_eq!(lab.shared.gate.associations.callers(), 0);
    let mut key = locator(&lab);
    for number in 0..5 {
        watch(&mut lab, &alice, &mut key, &format!("x{number}"), 600);
    }
}

#[test]
fn a_location_is_told_once_a_second_and_on_the_flow_of_its_watcher_alone() {
    let mut lab = Lab::new(located());
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), locator(&lab));
    watched(&mut lab, &alice, &mut key, "w", 600);
    lab.advance(Duration::from_secs(1));
    for number in 2..=6 {
        let sent = lab.receive(&Peer::location(), &news("w", number, "active"));
        assert_eq!(sent.len(), 1, "the burst");
        assert_eq!(sent[0].to, alice.flow().remote);
    }
    let sent = lab.receive(&Peer::location(), &news("w", 7, "active"));
    assert_eq!(status_to(&sent, &Peer::location()), Some(500));
    lab.advance(Duration::from_secs(1));
    lab.receive(&Peer::location(), &news("w", 8, "active"));
    assert_eq!(lab.last(), Outcome::Forwarded);
    // B11: another server of the core, and one known by its address alone.
    for stranger in [Peer::slp(), Peer::core()] {
        lab.receive(&stranger, &news("w", 9, "active"));
        assert_eq!(lab.last(), Outcome::Refused(Refusal::WrongSide), "rule 26");
    }
    lab.advance(Duration::from_secs(1));
    lab.close(&alice);
    let sent = lab.receive(&Peer::location(), &news("w", 10, "active"));
    assert_eq!(status_to(&sent, &Peer::location()), Some(500), "and comes again");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AnchorMissing));
    let again = Peer::tls("192.0.2.10:40001", 2);
    let more = "Event: presence\nExpires: 600\n";
    let refresh = |key: &mut Signer, cseq| {
        in_dialog("SUBSCRIBE", "sip:v@lrf.example.net", "alice", "v", "w", cseq, Some(key), more)
    };
    let mut sip = lab.ue1();
    lab.receive(&again, &refresh(&mut sip, 2));
    let why = "inside the dialog the key is still that of its class";
    assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials), "{why}");
    to_location(&lab.receive(&again, &refresh(&mut key, 3)));
    lab.advance(Duration::from_secs(1));
    let sent = lab.receive(&Peer::location(), &news("w", 11, "active"));
    assert_eq!(sent[0].to, again.flow().remote);
}

#[test]
fn a_location_is_watched_for_a_day_at_most() {
    let mut settings = located();
    settings.association.max_idle = Duration::from_secs(7 * 86_400);
    settings.association.location_strict = false;
    settings.association.rekey_deadline = Duration::from_secs(7 * 86_400);
    let mut lab = Lab::new(settings);
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), locator(&lab));
    watched(&mut lab, &alice, &mut key, "w", 604_800);
    lab.advance(Duration::from_secs(86_400 - 1));
    lab.receive(&Peer::location(), &news("w", 2, "pending"));
    assert_eq!(lab.last(), Outcome::Forwarded);
    lab.advance(Duration::from_secs(40));
    lab.receive(&Peer::location(), &news("w", 3, "pending"));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded));
}

#[test]
fn v_119_a_stricter_sign_raises_the_class_for_good() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let chat = in_dialog("INVITE", BOB, "alice", "b", "call", 2, Some(&mut key), CHAT);
    assert_eq!(status_to(&lab.receive(&alice, &chat), &alice), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::SecureRequired), "at once");
    assert_eq!(class_of(&lab, |class| class != Class::Sip), 0, "what was refused raises nothing");

    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let chat = in_dialog("INVITE", BOB, "alice", "b", "call", 2, Some(&mut key), CHAT);
    to_core(&lab.receive(&alice, &chat));
    assert_eq!(class_of(&lab, |class| class == Class::CpmSession), 1);
    let plain = in_dialog("INFO", BOB, "alice", "b", "call", 3, Some(&mut key), "");
    to_core(&lab.receive(&alice, &plain));
    assert_eq!(class_of(&lab, |class| class == Class::CpmSession), 1, "it never falls");
    let html = "Content-Type: text/html\n";
    let text = in_dialog("UPDATE", BOB, "alice", "b", "call", 4, Some(&mut key), html);
    let text = text.replace("Content-Length: 0\n", "Content-Length: 1\n\nx");
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(415), "its checks hold");
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 5, None, "");
    to_core(&lab.receive(&alice, &bye));
}

#[test]
fn each_class_asks_for_its_own_key() {
    let mut lab = Lab::new(located());
    lab.keys.otherwise(KeyAnswer::Ask);
    let alice = Peer::tls("192.0.2.10:40000", 1);
    for (letter, method, more, ua) in [
        ("A", "MESSAGE", "", UaId::SIP_DIGEST),
        ("B", "SUBSCRIBE", "Event: presence\n", UaId::LOCSIP),
        ("C", "SUBSCRIBE", "Event: dialog\n", UaId::SIP_DIGEST),
        ("D", "INVITE", CHAT, UaId::SIP_DIGEST),
    ] {
        let unknown = format!("{}==@bsf.example.net", letter.repeat(22));
        let mut key = lab.signer(&unknown, "x");
        let text = in_dialog(method, VAN, "alice", "", letter, 1, Some(&mut key), more);
        lab.receive(&alice, &text);
        assert_eq!(lab.last(), Outcome::Waits, "{method} {more}");
        let Some(Lookup::NafKey { btid, naf }) = lab.asked.last() else { panic!("a key") };
        assert_eq!((btid.as_str(), naf.ua()), (unknown.as_str(), ua), "{method} {more}");
    }
}

/// A push of the location server to alice, by the way that `path` names.
fn push(path: &str, number: u32, method: &str) -> String {
    format!(
        "{method} sip:alice@example.net SIP/2.0
Via: SIP/2.0/TLS slp.example.net;branch=z9hG4bKp{number}
Max-Forwards: 70
Route: {path}
From: <sip:slp.example.net>;tag=p
To: <sip:alice@example.net>
Call-ID: push{number}
CSeq: 1 {method}
Contact: <sip:slp.example.net>
Accept-Contact: *;+g.oma.pusheventapp=\"ulp.ua\"
Content-Type: application/vnd.omaloc-supl-init
Content-Length: 7

0123456"
    )
}

fn path_of(register: &Sent) -> String {
    let text = register.text();
    text.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned()
}

#[test]
fn a_push_takes_the_secure_one_of_two_ways_and_is_480_without_any() {
    let mut lab = Lab::default();
    let (udp, tls) = (Peer::udp(ALICE), Peer::tls("192.0.2.10:40000", 1));
    let mut key = lab.ue1();
    // Two flows of one device.
    let mut registers = |lab: &mut Lab, peer: &Peer, number: u32| {
        let contact = format!(
            "<sip:alice@192.0.2.10:5060>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";reg-id={number}"
        );
        let call = format!("reg-{number}");
        let supported = "Supported: outbound, path\n";
        let uri = "sip:example.net";
        let text = in_dialog("REGISTER", uri, "alice", "", &call, 1, Some(&mut key), supported);
        let text = text.replace("<sip:alice@192.0.2.10:5060>", &contact);
        let there = to_core(&lab.receive(peer, &text)).clone();
        let granted = format!("Require: outbound\nContact: {contact};expires=600\n");
        let back = lab.receive(&Peer::core(), &respond(&there, 200, "reg", &granted));
        assert_eq!(status_to(&back, peer), Some(200));
        path_of(&there)
    };
    let path = registers(&mut lab, &udp, 1);
    let sent = lab.receive(&Peer::slp(), &push(&path, 1, "MESSAGE"));
    assert_eq!(status_to(&sent, &Peer::slp()), Some(480));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::Unreachable));

    registers(&mut lab, &tls, 2);
    let sent = lab.receive(&Peer::slp(), &push(&path, 2, "MESSAGE"));
    assert_eq!(sent.iter().map(|sent| sent.to).collect::<Vec<_>>(), [tls.flow().remote]);

    lab.close(&tls);
    let sent = lab.receive(&Peer::slp(), &push(&path, 3, "MESSAGE"));
    assert_eq!(status_to(&sent, &Peer::slp()), Some(480));
}

#[test]
fn one_ue_is_sent_so_many_pushes_in_a_minute() {
    let mut settings = LabSettings::default();
    settings.push.rate = Rate::per_minute(3);
    let mut lab = Lab::new(settings);
    let (tls, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    let path = path_of(&register(&mut lab, &tls, "alice", &mut key));
    for number in 1..=3 {
        lab.receive(&Peer::slp(), &push(&path, number, "MESSAGE"));
        assert_eq!(lab.last(), Outcome::Forwarded);
    }
    let sent = lab.receive(&Peer::slp(), &push(&path, 4, "MESSAGE"));
    assert_eq!(status_to(&sent, &Peer::slp()), Some(500));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::RateExceeded));
}

#[test]
fn v_122_nobody_pushes_from_inside_a_dialog_and_responses_pass_unread() {
    let mut lab = Lab::default();
    let (tls, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    let path = path_of(&register(&mut lab, &tls, "alice", &mut key));
    call(&mut lab, &tls, &mut key);
    let supl = "Content-Type: application/vnd.omaloc-supl-init\n";
    for (number, method) in [(2, "INFO"), (3, "MESSAGE"), (4, "INVITE")] {
        let text = in_dialog(method, BOB, "alice", "b", "call", number, Some(&mut key), supl);
        let text = text.replace("Content-Length: 0\n", "Content-Length: 1\n\nx");
        assert_eq!(status_to(&lab.receive(&tls, &text), &tls), Some(403), "{method}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::DirectionForbidden), "{method}");
    }
    let sent = lab.receive(&Peer::slp(), &push(&path, 1, "MESSAGE"));
    let answer = respond(&sent[0], 200, "a", supl);
    let answer = answer.replace("Content-Length: 0\n", "Content-Length: 1\n\nx");
    let back = lab.receive(&tls, &answer);
    assert_eq!(status_to(&back, &Peer::slp()), Some(200));
}

#[test]
fn a_session_that_began_with_a_push_is_answered_and_ended_by_its_ue() {
    let mut lab = Lab::default();
    let (tls, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    let path = path_of(&register(&mut lab, &tls, "alice", &mut key));
    let sent = lab.receive(&Peer::slp(), &push(&path, 1, "INVITE"));
    let invite = sent.iter().find(|sent| sent.to == tls.flow().remote).expect("the push");
    lab.receive(&tls, &respond(invite, 200, "alice", "Contact: <sip:alice@192.0.2.10:5060>\n"));
    assert_eq!(class_of(&lab, |class| class == Class::Push), 2, "the dialog, and its request");
    let inside = |method, cseq, more| {
        in_dialog(method, "sip:slp.example.net", "alice", "p", "push1", cseq, None, more)
    };
    let supl = "Accept-Contact: *;+g.oma.pusheventapp=\"ulp.ua\"\n";
    lab.receive(&tls, &inside("INFO", 1, supl));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DirectionForbidden));
    let of_server = "BYE sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/TLS slp.example.net;branch=z9hG4bKbye
Max-Forwards: 70
From: <sip:slp.example.net>;tag=p
To: <sip:alice@example.net>;tag=alice
Call-ID: push1
CSeq: 2 BYE
Content-Length: 0
";
    let sent = lab.receive(&Peer::slp(), of_server);
    assert_eq!(sent.first().map(|sent| sent.to), Some(tls.flow().remote));
    lab.receive(&tls, &inside("BYE", 2, ""));
    assert_eq!(lab.last(), Outcome::Forwarded);
}

#[test]
fn where_classes_are_observed_it_is_told_what_they_would_refuse() {
    let settings = LabSettings { observe: true, ..LabSettings::default() };
    let mut lab = Lab::new(settings);
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    let mut list = String::new();
    for number in 0..21 {
        let _ = write!(list, "<entry uri=\"sip:u{number}@example.net\"/>");
    }
    let list = format!(
        "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list>{list}</list></resource-lists>"
    );
    let head = "MESSAGE sip:list@example.net SIP/2.0
Via: SIP/2.0/TLS 192.0.2.10:40000;branch=z9hG4bKlist;rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <sip:list@example.net>
Call-ID: list
CSeq: 1 MESSAGE
Require: recipient-list-message
";
    let octets = with_body(head, &mut key, "application/resource-lists+xml", &list);
    to_core(&lab.receive_octets(&alice, octets));
    let told = |lab: &Lab| lab.decisions.last().and_then(|decision| decision.class_would);
    assert_eq!(told(&lab), Some(Refusal::ListTooLong));
    let conflict =
        format!("{CHAT}P-Preferred-Service: urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg\n");
    let text = in_dialog("INVITE", BOB, "alice", "", "unfit", 1, Some(&mut key), &conflict);
    lab.receive(&alice, &text);
    assert_eq!(told(&lab), Some(Refusal::ClassMethodUnfit));
    let plain = request("MESSAGE", "sip:bob@example.net", "alice", "plain", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &plain));
    assert_eq!(told(&lab), None, "what is right is not told of");
}

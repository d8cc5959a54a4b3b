//! Threats row by row: bodies that readers cut differently, callers over their means, and a core that went bad.

use std::time::Duration;

use bytes::BytesMut;
use sipward::enabler::Class;
use sipward::enabler::numbers::{Prefixes, Special};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Signer};
use sipward::wire::{Framed, Framer};

use crate::keys::bye;
use crate::scene::{
    call, from_bob, in_dialog, lines, register, request, respond, status_to, to_core,
};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=message 2855 TCP/TLS/MSRP *\r\na=path:msrps://192.0.2.10:2855/s1;tcp\r\n";
const CHAT: &str = "Accept-Contact: *;+g.3gpp.icsi-ref=\
    \"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session\"\n";

/// What becomes of an INVITE of alice's on TLS with that body: of the class of chats, or of none.
fn offered(chat: bool, kind: &str, more: &str, body: &str) -> (Outcome, bool) {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:49200", 1), lab.ue1());
    let class = if chat { CHAT } else { "" };
    let more = format!("{class}{more}Content-Type: {kind}\n");
    let uri = "sip:bob@example.net";
    let head = in_dialog("INVITE", uri, "alice", "", "c", 1, Some(&mut key), &more)
        .replace("SIP/2.0/UDP 192.0.2.10:5060", "SIP/2.0/TLS 192.0.2.10:49200")
        .replace("Content-Length: 0", &format!("Content-Length: {}", body.len()))
        .replace('\n', "\r\n");
    let sent = lab.receive_octets(&alice, format!("{head}\r\n{body}").into_bytes());
    let whole = sent.iter().any(|sent| sent.message.is_request() && sent.text().ends_with(body));
    let class = lab.decisions.last().and_then(|decision| decision.class);
    assert!(class.is_none_or(|class| (class == Class::CpmSession) == chat), "{class:?}");
    (lab.last(), whole)
}

/// A body of parts, each with its headers.
fn parts(boundary: &str, parts: &[String]) -> String {
    let each: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
    format!("{each}--{boundary}--\r\n")
}

fn part(kind: &str, body: &str) -> String {
    format!("Content-Type: {kind}\r\n\r\n{body}")
}

/// V-07: what a class reads of a body is bounded; a class that reads nothing passes the same octets on.
#[test]
fn v_07_bodies_in_parts_are_bounded_where_they_are_read_and_untouched_elsewhere() {
    let sdp = || part("application/sdp", SDP);
    let whole = parts("b1", &[sdp()]);
    assert_eq!(
        offered(true, "multipart/mixed;boundary=b1", "", &whole),
        (Outcome::Forwarded, true)
    );
    let mut deep = sdp();
    for level in (2..=5).rev() {
        deep = part(
            &format!("multipart/mixed;boundary=l{level}"),
            &parts(&format!("l{level}"), &[deep]),
        );
    }
    let long = "x".repeat(71);
    let many: Vec<String> = vec![sdp(); 17];
    let malformed = Refusal::BodyMalformed;
    for (what, kind, body, refusal) in [
        ("five deep", "multipart/mixed;boundary=b1", parts("b1", &[deep]), malformed),
        ("17 parts", "multipart/mixed;boundary=b1", parts("b1", &many), malformed),
        ("without end", "multipart/mixed;boundary=b1", whole.replace("--b1--", ""), malformed),
        ("no boundary", "multipart/mixed", whole.clone(), malformed),
        ("an empty one", "multipart/mixed;boundary=\"\"", whole.clone(), malformed),
        (
            "71 octets",
            &format!("multipart/mixed;boundary={long}"),
            parts(&long, &[sdp()]),
            malformed,
        ),
        ("in a part", "multipart/mixed;boundary=b1", whole.replace("s=-", "--b12"), malformed),
        (
            "in a header",
            "multipart/mixed;boundary=b1",
            whole.replace("Content-Type: application/sdp", "Content-Type: application/sdp\r\n--b1"),
            malformed,
        ),
        ("no version", "application/sdp", SDP.replace("v=0\r\n", ""), malformed),
        (
            "10 000 attributes",
            "application/sdp",
            format!("{SDP}{}", "a=x\r\n".repeat(10_000)),
            Refusal::BodyTooLarge,
        ),
        (
            "no empty line in CPIM",
            "multipart/mixed;boundary=b1",
            parts("b1", &[sdp(), part("message/cpim", "From: <sip:alice@example.net>\r\nx")]),
            Refusal::CpimMalformed,
        ),
    ] {
        assert_eq!(offered(true, kind, "", &body), (Outcome::Refused(refusal), false), "{what}");
        // What claims MSRP or wraps a message is of the class of chats, whatever it says of itself.
        let claims = kind == "application/sdp" || body.contains("message/cpim");
        if !claims {
            let plain = offered(false, kind, "", &body);
            assert_eq!(plain, (Outcome::Forwarded, true), "{what}: a class that reads no body");
        }
    }
}

/// V-85: nothing is decided on a part that another reader would see elsewhere.
#[test]
fn v_85_what_two_readers_would_cut_or_spell_otherwise_is_refused() {
    let kind = "multipart/mixed;boundary=b1";
    let sdp = || part("application/sdp", SDP);
    let list = "<?xml version=\"1.0\"?><resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\">\
        <list><entry uri=\"sip:bob@example.net\"/></list></resource-lists>";
    let require = "Require: recipient-list-invite\n";
    let of_list = |kind: &str, list: &str| parts("b1", &[sdp(), part(kind, list)]);
    let lists = "application/resource-lists+xml";
    assert_eq!(offered(true, kind, require, &of_list(lists, list)), (Outcome::Forwarded, true));
    let (malformed, encoded) = (Refusal::BodyMalformed, Refusal::EncodingForbidden);
    let utf16 =
        list.replace("<?xml version=\"1.0\"?>", "<?xml version=\"1.0\" encoding=\"UTF-16\"?>");
    for (what, more, body, refusal) in [
        (
            "a prefix of another boundary",
            "",
            parts("b1", &[sdp()]).replacen("--b1\r\n", "--b1x\r\n", 1),
            malformed,
        ),
        (
            "no line between head and body",
            "",
            parts("b1", &["Content-Type: application/sdp".into()]),
            malformed,
        ),
        (
            "two types of a part",
            "",
            parts("b1", &[format!("Content-Type: text/plain\r\n{}", sdp())]),
            malformed,
        ),
        ("another charset", require, of_list(&format!("{lists};charset=utf-16"), list), encoded),
        ("another charset of its own", require, of_list(lists, &utf16), Refusal::XmlRefused),
        ("utf-7", "", parts("b1", &[part("application/sdp;charset=\"utf-7\"", SDP)]), encoded),
        ("compressed", "Content-Encoding: gzip\n", parts("b1", &[sdp()]), encoded),
        (
            "base64",
            "",
            parts("b1", &[format!("Content-Transfer-Encoding: base64\r\n{}", sdp())]),
            encoded,
        ),
    ] {
        assert_eq!(offered(true, kind, more, &body), (Outcome::Refused(refusal), false), "{what}");
    }
    let whole = offered(true, "application/sdp", "Content-Transfer-Encoding: base64\n", SDP);
    assert_eq!(
        whole,
        (Outcome::Refused(encoded), false),
        "SIP has no such header, readers of MIME do"
    );
    let twice = offered(true, "application/sdp", "Content-Type: text/plain\n", SDP);
    assert!(matches!(twice.0, Outcome::Refused(Refusal::Malformed(_))), "{twice:?}");
}

/// V-114: a target of a third party is data: requests go to the anchor. Refreshes are counted like all that a caller
/// sends, and the length of a session is kept within bounds.
#[test]
fn v_114_the_owner_moves_his_target_and_not_his_flow() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let third = "Contact: <sip:victim@198.51.100.66:5060>";
    let inside = |method: &str, number: u32, key: &mut Signer, more: &str| {
        in_dialog(method, BOB, "alice", "b", "call", number, Some(key), more)
            .replace("Contact: <sip:alice@192.0.2.10:5060>", third)
    };
    let invite = to_core(&lab.receive(&alice, &inside("INVITE", 2, &mut key, ""))).clone();
    assert!(invite.text().contains(third), "as it was written");
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", &format!("Contact: <{BOB}>\n")));
    let text =
        from_bob("INFO", 1).replace("sip:alice@192.0.2.10:5060", "sip:victim@198.51.100.66:5060");
    let sent = lab.receive(&Peer::core(), &text);
    assert_eq!(sent[0].to, alice.flow().remote, "to the anchor");
    assert!(sent.iter().all(|sent| !sent.to.to_string().starts_with("198.51.100.")), "{sent:?}");

    for (asked, expected) in [
        ("Session-Expires: 1\nSupported: timer\n", Err("Min-SE: 90")),
        ("Session-Expires: 89\nSupported: timer\n", Err("Min-SE: 90")),
        ("Session-Expires: 90\nSupported: timer\n", Ok("90")),
        ("Session-Expires: 4294967295\nSupported: timer\n", Ok("7200")),
    ] {
        let mut lab = Lab::default();
        let mut key = lab.ue1();
        call(&mut lab, &alice, &mut key);
        let sent = lab.receive(&alice, &inside("INVITE", 2, &mut key, asked));
        match expected {
            Ok(told) => {
                let text = to_core(&sent).text();
                assert_eq!(lines(&text, "Session-Expires: "), [told], "{asked}");
            }
            Err(least) => {
                assert_eq!(status_to(&sent, &alice), Some(422), "{asked}");
                assert!(sent[0].text().contains(least), "{}", sent[0].text());
            }
        }
    }

    let mut refused = 0;
    for number in 3..203 {
        lab.advance(Duration::from_millis(100));
        lab.receive(&alice, &inside("UPDATE", number, &mut key, ""));
        refused += usize::from(lab.last() == Outcome::Refused(Refusal::RateExceeded));
    }
    assert!((100..200).contains(&refused), "ten a second are more than one a second: {refused}");
    // What ends the call is let pass all the same: nobody would end it later.
    let text = inside("UPDATE", 203, &mut key, "");
    lab.receive(&alice, &text);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::RateExceeded));
    to_core(&lab.receive(&alice, &bye(300, Some(&mut key))));
}

/// V-134: calls of one account are bounded in number and in pace.
#[test]
fn v_134_one_account_makes_so_many_calls_and_no_more() {
    let tried = |settings: LabSettings, calls: u32, pause: Duration| {
        let mut lab = Lab::new(settings);
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let mut outcomes = Vec::new();
        for number in 0..calls {
            let id = format!("c{number}");
            let text = request("INVITE", "sip:bob@example.net", "alice", &id, 1, Some(&mut key));
            let sent = lab.receive(&alice, &text);
            outcomes.push(lab.last());
            if lab.last() == Outcome::Forwarded {
                let ringing = to_core(&sent).clone();
                lab.receive(&Peer::core(), &respond(&ringing, 180, "b", ""));
            }
            lab.advance(pause);
        }
        outcomes
    };
    let count = |outcomes: &[Outcome], of: Outcome| outcomes.iter().filter(|it| **it == of).count();
    // One a second: at no time are more than 64 up.
    let slow = tried(LabSettings::default(), 100, Duration::from_secs(1));
    assert_eq!(count(&slow, Outcome::Forwarded), 64, "100 parallel calls");
    assert_eq!(count(&slow, Outcome::Refused(Refusal::TableFull)), 36, "rule 28, for him alone");
    // A thousand a minute.
    let mut settings = LabSettings::default();
    settings.association.max_per_caller = 2000;
    let quick = tried(settings, 1000, Duration::from_millis(60));
    let refused = count(&quick, Outcome::Refused(Refusal::RateExceeded));
    assert_eq!(count(&quick, Outcome::Forwarded) + refused, 1000);
    assert!(refused > 850, "sixty a minute and one burst: {refused}");
}

/// V-134: numbers that are refused stay so, those that are costly go through so many times; beyond that there is one alarm
/// in an hour for each caller, and others are not held to it.
#[test]
fn v_134_costly_numbers_are_reached_so_often_and_no_more() {
    let mut settings = LabSettings::default();
    let list = |prefixes: &[&str]| prefixes.iter().map(|prefix| (*prefix).into()).collect();
    settings.numbers.usual.deny = list(&["+882"]);
    settings.numbers.usual.costly = list(&["+881"]);
    settings.numbers.tolls.count = 3;
    settings.observe = true;
    let bob = Prefixes { deny: list(&["+49"]), ..Prefixes::default() };
    let callers = list(&["ue2@ims.example.net"]);
    settings.numbers.special = vec![Special { callers, classes: None, prefixes: bob }];
    let mut lab = Lab::new(settings);
    let (alice, bob) = (Peer::udp(ALICE), Peer::udp("192.0.2.20:5060"));
    let (mut key, mut his, mut of_bob) = (lab.ue1(), lab.ue2(), lab.ue2());
    let mut number = 0;
    let mut dial = |lab: &mut Lab, from: &Peer, to: &str| {
        number += 1;
        let uri = format!("sip:{to}@example.net;user=phone");
        let (name, key) =
            if from.flow() == alice.flow() { ("alice", &mut key) } else { ("bob", &mut his) };
        lab.receive(from, &request("INVITE", &uri, name, &format!("n{number}"), 1, Some(key)));
        lab.last()
    };
    let (forbidden, alarm) =
        (Outcome::Refused(Refusal::NumberForbidden), Outcome::Refused(Refusal::TollPattern));
    for (to, outcome) in [
        ("+4930123", Outcome::Forwarded),
        ("%2B882-1", forbidden),
        ("+8811", Outcome::Forwarded),
        ("+8811", Outcome::Forwarded),
        ("+8811", alarm),
        ("+8811", forbidden),
        ("+8821", forbidden),
        ("+4930123", Outcome::Forwarded),
    ] {
        assert_eq!(dial(&mut lab, &alice, to), outcome, "{to}");
    }
    assert_eq!(dial(&mut lab, &bob, "+8821"), Outcome::Forwarded, "he has a list of his own");
    assert_eq!(dial(&mut lab, &bob, "+4930123"), forbidden);
    for (call, to, outcome) in
        [("r1", "sip:+8811@example.net", Outcome::Forwarded), ("r2", "tel:+49-30", forbidden)]
    {
        let refers = format!("Refer-To: <{to}>\n");
        let carol = "sip:carol@example.net";
        let refer = in_dialog("REFER", carol, "bob", "", call, 1, Some(&mut of_bob), &refers);
        lab.receive(&bob, &refer);
        assert_eq!(lab.last(), outcome, "who is sent there instead: {to}");
    }
}

/// V-135: bounds hold on the core side too, and what one member does wrong is his alone.
#[test]
fn v_135_a_core_that_went_bad() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    // A body over all bounds is no message to a stream, and to datagrams one that is cut short.
    let answer = respond(&invite, 200, "b", &format!("Contact: <{BOB}>\n"));
    let huge = answer.replace("Content-Length: 0", "Content-Length: 70000").replace('\n', "\r\n");
    let huge = format!("{huge}\r\n{}", "x".repeat(60_000)).into_bytes();
    let framed = Framer::new().next(&mut BytesMut::from(&huge[..]), 64 * 1024);
    assert!(matches!(framed, Framed::Broken(_)), "a stream waits for none of it");
    assert!(lab.receive_octets(&Peer::core(), huge).is_empty(), "it goes no further");
    assert!(matches!(lab.last(), Outcome::Dropped(Refusal::Malformed(_))), "{:?}", lab.last());
    assert_eq!(status_to(&lab.receive(&Peer::core(), &answer), &alice), Some(200), "it may still");

    // Tags that nobody knows are for the UE to judge; ours are what Proxy-Require names.
    let unknown = |name: &str, number| {
        from_bob("INFO", number)
            .replace("Content-Length", &format!("{name}: nobody-knows\nContent-Length"))
    };
    let sent = lab.receive(&Peer::core(), &unknown("Require", 1));
    assert_eq!(sent[0].to, alice.flow().remote);
    let core = Peer::core();
    assert_eq!(status_to(&lab.receive(&core, &unknown("Proxy-Require", 2)), &core), Some(420));

    // Another group, of the same standing, serves other callers.
    let other = Peer::location();
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());
    let sent = lab.receive(&other, &from_bob("BYE", 7));
    assert_eq!(status_to(&sent, &other), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::WrongSide), "rule 26");
    assert_eq!(before, format!("{:?}", lab.shared.gate.associations.snapshot()));
    let stranger = Peer::stray("203.0.113.250:5060");
    assert_eq!(status_to(&lab.receive(&stranger, &from_bob("BYE", 8)), &stranger), Some(403));
    let sent = lab.receive(&core, &from_bob("INFO", 9));
    assert_eq!(sent[0].to, alice.flow().remote, "its own group is served on");

    let seen = register(&mut lab, &alice, "alice", &mut key).text();
    assert!(!lines(&seen, "Path: ").is_empty(), "and so is the UE");
}

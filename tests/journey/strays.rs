//! Stage 7: what a message names is not where it goes; sipward follows, calls and forks nothing of its own accord.

use std::fmt::Write as _;
use std::time::Duration;

use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::scene::{
    call, from_bob, in_dialog, lines, register, request, respond, route_of, status_to, to_core,
};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@example.net";
/// His phone, as a call has it.
const PHONE: &str = "sip:bob@203.0.113.20:5060";
/// Hosts that no UE may have us speak to.
const INSIDE: [&str; 8] = [
    "127.0.0.1",
    "[::1]",
    "169.254.169.254",
    "0.0.0.0",
    "198.51.100.2:5060",
    "198.51.100.1:5060",
    "10.0.0.1:8080",
    "localhost",
];

/// Where it all went: to the core's server, to one of the two, or nowhere.
fn only_to(sent: &[Sent], allowed: &[&Peer], what: &str) {
    let known = |to: &Sent| allowed.iter().any(|peer| peer.flow().remote == to.to);
    assert!(sent.iter().all(known), "{what}: {sent:?}");
}

/// V-67: one branch at a time, so that no breadth is multiplied here; what is said of it is bounded and carried on.
#[test]
fn v_67_breadth_is_bounded_and_nothing_forks_here() {
    const SERVERS: [&str; 3] = ["203.0.113.10:5060", "203.0.113.11:5060", "203.0.113.12:5060"];
    for (breadth, expected) in [
        ("Max-Breadth: 1\n", Ok("1")),
        ("Max-Breadth: 60\n", Ok("60")),
        ("Max-Breadth: 61\n", Ok("60")),
        ("Max-Breadth: 4294967296\n", Ok("60")),
        ("", Ok("60")),
        ("Max-Breadth: 0\n", Err(400)),
        ("Max-Breadth: -1\n", Err(400)),
        ("Max-Breadth: many\n", Err(400)),
        ("Max-Breadth: 5\nMax-Breadth: 6\n", Err(400)),
        ("Max-Breadth: 5, 6\n", Err(400)),
    ] {
        let mut lab = Lab::new(LabSettings { core: SERVERS.into(), ..LabSettings::default() });
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let text = in_dialog("INVITE", BOB, "alice", "", "c", 1, Some(&mut key), breadth);
        let sent = lab.receive(&alice, &text);
        let onward: Vec<&Sent> = sent.iter().filter(|one| one.message.is_request()).collect();
        match expected {
            Ok(carried) => {
                assert_eq!(onward.len(), 1, "{breadth:?}: one server at a time");
                assert_eq!(lines(&onward[0].text(), "Max-Breadth: "), [carried], "{breadth:?}");
            }
            Err(status) => {
                assert!(onward.is_empty(), "{breadth:?}");
                assert_eq!(status_to(&sent, &alice), Some(status), "{breadth:?}");
            }
        }
    }
}

/// V-109: tags have no case, a Call-ID does.
#[test]
fn v_109_tags_fold_and_a_call_id_does_not() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let mut inside = |lab: &mut Lab, call: &str, cseq: u32, alter: &dyn Fn(String) -> String| {
        let text = in_dialog("INFO", PHONE, "alice", "b", call, cseq, Some(&mut key), "");
        let sent = lab.receive(&alice, &alter(text));
        status_to(&sent, &alice)
    };
    let shouts =
        |text: String| text.replace(";tag=alice", ";tag=ALICE").replace(";tag=b", ";tag=B");
    assert_eq!(inside(&mut lab, "call", 2, &shouts), None, "RFC 3261 section 19.3");
    assert_eq!(lab.last(), Outcome::Forwarded);
    assert_eq!(inside(&mut lab, "Call", 3, &|text| text), Some(481), "section 8.1.1.4");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown));
    let of_bob = from_bob("INFO", 4).replace(";tag=alice", ";TAG=Alice");
    let sent = lab.receive(&Peer::core(), &of_bob);
    assert!(sent.iter().any(|one| one.to == alice.flow().remote), "{sent:?}");
    let of_bob = from_bob("INFO", 5).replace("Call-ID: call", "Call-ID: CALL");
    assert_eq!(status_to(&lab.receive(&Peer::core(), &of_bob), &Peer::core()), Some(481));
}

/// V-130: names in messages that lead inside are passed on as what they are, or refused: never spoken to.
#[test]
fn v_130_no_name_in_a_message_leads_inside() {
    let mut lab = Lab::default();
    let (alice, core) = (Peer::udp(ALICE), Peer::core());
    for (number, host) in INSIDE.iter().enumerate() {
        lab.advance(Duration::from_secs(60));
        let mut key = lab.ue1();
        let uri = format!("sip:x@{host}");
        for (place, more, method) in [
            ("Contact", String::new(), "INVITE"),
            ("Route", format!("Route: <sip:{host};lr>\n"), "MESSAGE"),
            ("Record-Route", format!("Record-Route: <sip:{host};lr>\n"), "INVITE"),
            ("Refer-To", format!("Refer-To: <{uri}>\n"), "REFER"),
            ("Alert-Info", format!("Alert-Info: <http://{host}/x>\n"), "INVITE"),
            ("Content-Indirection", format!("Call-Info: <http://{host}/x>\n"), "MESSAGE"),
            ("Request-URI", String::new(), "MESSAGE"),
        ] {
            let what = format!("{place} {host}");
            let target = if place == "Request-URI" { uri.as_str() } else { BOB };
            let id = format!("{}{number}", place.to_lowercase());
            let text = in_dialog(method, target, "alice", "", &id, 1, Some(&mut key), &more);
            let text = match place {
                "Contact" => text.replace("<sip:alice@192.0.2.10:5060>", &format!("<{uri}>")),
                _ => text,
            };
            let sent = lab.receive(&alice, &text);
            only_to(&sent, &[&alice, &core], &what);
            if let Some(onward) = sent.iter().find(|one| one.message.is_request()).cloned() {
                // What the far end sends back leads by our own tokens and flows, not by what was named.
                let contact = format!("Contact: <{uri}>\nRecord-Route: <sip:{host};lr>\n");
                let back = lab.receive(&core, &respond(&onward, 200, "b", &contact));
                only_to(&back, &[&alice, &core], &what);
            }
        }
        let mut refused = lab.ue1();
        let text = in_dialog(
            "MESSAGE",
            BOB,
            "alice",
            "",
            &format!("past{number}"),
            1,
            Some(&mut refused),
            &format!("Route: <sip:{host};lr>\n"),
        );
        // Those are the edge itself.
        if !host.starts_with("198.51.100.") {
            assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(403), "{host}");
        }
    }
    // The same from a UE whose registration the core resolves: its Contact is data.
    let mut key = lab.ue2();
    let (bob, text) = (Peer::udp("192.0.2.20:5060"), "sip:bob@127.0.0.1:5060");
    let register = request("REGISTER", "sip:example.net", "bob", "reg", 1, Some(&mut key))
        .replace("sip:bob@192.0.2.10:5060", text);
    let seen = to_core(&lab.receive(&bob, &register)).clone();
    let path = lines(&seen.text(), "Path: ")[0].to_owned();
    lab.receive(&core, &respond(&seen, 200, "r", &format!("Contact: <{text}>;expires=600\n")));
    let down = from_bob("MESSAGE", 9)
        .replace("sip:alice@192.0.2.10:5060 SIP", &format!("{text} SIP"))
        .replace("<sip:alice@example.net>;tag=alice", "<sip:bob@example.net>")
        .replace("Call-ID: call", "Call-ID: down")
        .replace("<sip:edge.example.net:5060;lr>", &path);
    let sent = lab.receive(&core, &down);
    assert_eq!(sent[0].to, bob.flow().remote, "to the flow it registered from");
}

/// V-132: a redirection is told to whoever asked, and followed by nobody here.
#[test]
fn v_132_redirections_are_passed_on_and_not_followed() {
    let many: String =
        (0..1000).fold(String::from("Contact: <sip:c@evil.example>"), |mut text, n| {
            let row = if n % 200 == 0 { "\nContact: " } else { ", " };
            let _ = write!(text, "{row}<sip:c{n}@127.0.0.1>");
            text
        });
    for (what, uri, contacts) in [
        ("many", BOB, many.as_str()),
        ("headers in it", BOB, "Contact: <sip:x@127.0.0.1?Route=%3Csip:evil.example%3E&Body=x>"),
        ("another method", BOB, "Contact: <sip:x@evil.example;method=REGISTER>"),
        ("less than SIPS", "sips:bob@example.net", "Contact: <sip:bob@evil.example>"),
        ("another scheme", BOB, "Contact: <http://127.0.0.1/>"),
    ] {
        for status in [300, 301, 302, 305, 380] {
            let mut lab = Lab::default();
            let secure = uri.starts_with("sips");
            let alice = if secure { Peer::tls(ALICE, 1) } else { Peer::udp(ALICE) };
            let mut key = lab.ue1();
            let text = request("INVITE", uri, "alice", "c", 1, Some(&mut key));
            let sent = lab.receive(&alice, &text);
            let Some(onward) = sent.iter().find(|one| one.message.is_request()).cloned() else {
                assert!(secure && status_to(&sent, &alice) == Some(480), "{what}: V-138");
                continue;
            };
            let back = lab
                .receive(&Peer::core(), &respond(&onward, status, "b", &format!("{contacts}\n")));
            assert_eq!(status_to(&back, &alice), Some(status), "{what}: {:?}", lab.last());
            let told = back.iter().find(|one| one.message.status() == Some(status)).expect("told");
            assert!(told.text().replace('\r', "").contains(contacts), "{what}: {}", told.text());
            let requests: Vec<String> =
                back.iter().filter(|one| one.message.is_request()).map(Sent::text).collect();
            assert!(requests.iter().all(|text| text.starts_with("ACK ")), "{what}: {requests:?}");
            only_to(&back, &[&alice, &Peer::core()], what);
        }
    }
}

/// A REFER inside the call, to that target.
fn refer(cseq: u32, to: &str, key: &mut Signer) -> String {
    in_dialog("REFER", PHONE, "alice", "b", "call", cseq, Some(key), &format!("Refer-To: {to}\n"))
}

/// V-133: a REFER is data. Whoever it is for may act on it; the edge does not, whatever stands in it.
#[test]
fn v_133_a_refer_is_passed_on_and_acted_on_by_nobody_here() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = call(&mut lab, &alice, &mut key);
    assert!(!route_of(&invite).is_empty());
    let mut cseq = 1;
    for to in [
        "<sip:x@127.0.0.1;method=BYE>",
        "<sip:call@example.net;method=REGISTER?Contact=*&Expires=0>",
        "<tel:+19005550100>",
        "<http://169.254.169.254/latest>",
        "<sip:x@example.net?Route=%3Csip%3A127.0.0.1%3Blr%3E>",
        "<sip:x@example.net?Authorization=Digest%20username%3D%22bob%22>",
        "<cid:list@example.net>",
    ] {
        cseq += 1;
        let sent = lab.receive(&alice, &refer(cseq, to, &mut key));
        let seen = to_core(&sent).clone();
        assert!(seen.text().contains(&format!("\r\nRefer-To: {to}\r\n")), "{to}: {}", seen.text());
        assert_eq!(sent.len(), 1, "{to}: nothing else is sent");
        let back = lab.receive(&Peer::core(), &respond(&seen, 202, "b", ""));
        assert_eq!((back.len(), status_to(&back, &alice)), (1, Some(202)), "{to}");
    }
    let mut forwarded = 0;
    for _ in 0..100 {
        cseq += 1;
        let sent = lab.receive(&alice, &refer(cseq, "<sip:carol@example.net>", &mut key));
        forwarded += usize::from(lab.last() == Outcome::Forwarded);
        only_to(&sent, &[&alice, &Peer::core()], "a hundred");
    }
    assert!(forwarded < 100, "they have a rate, too");
    let mut key = lab.ue1();
    let outside = request("REFER", BOB, "alice", "alone", 1, Some(&mut key))
        .replace("Contact:", "Refer-To: <sip:x@127.0.0.1;method=INVITE>\nContact:");
    only_to(&lab.receive(&alice, &outside), &[&alice, &Peer::core()], "outside of any dialog");
}

/// V-131: where somebody says that he can be reached decides nothing about where he is.
#[test]
fn v_131_a_contact_is_never_a_way() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let seen = register(&mut lab, &alice, "alice", &mut key);
    let path = lines(&seen.text(), "Path: ")[0].to_owned();
    for (number, victim) in
        [(1, "203.0.113.99:5060"), (2, "198.51.100.1:5060"), (3, "127.0.0.1:25")]
    {
        let down = from_bob("MESSAGE", number)
            .replace("sip:alice@192.0.2.10:5060 SIP", &format!("sip:alice@{victim} SIP"))
            .replace(";tag=alice", "")
            .replace("Call-ID: call", &format!("Call-ID: {victim}"))
            .replace("<sip:edge.example.net:5060;lr>", &path);
        let sent = lab.receive(&Peer::core(), &down);
        assert_eq!(sent[0].to, alice.flow().remote, "{victim}");
    }
}

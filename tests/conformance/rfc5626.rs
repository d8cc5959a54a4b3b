//! RFC 5626, SIP outbound: what the edge and the UE owe, clause by clause. STUN itself (section 8) is in `rfc5389`; what
//! takes sockets is in `tests/serve`; each refusal has its fixture, `outbound-*`, `ue-token-*` and `flow-gone-*`.

use std::time::Duration;

use bytes::Bytes;
use sipward::admission::Rate;
use sipward::client::keeping::{KeepAlive, Recovery};
use sipward::instant::Instant;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};
use sipward::transport::{Transport, stun};
use sipward::wire::{Message, Name};

const INSTANCE: &str = "<urn:uuid:00000000-0000-1000-8000-aabbccddeeff>";

fn lab() -> Lab {
    let mut settings = LabSettings::default();
    settings.reg.demands.rate = Rate::per_second(1000);
    Lab::new(settings)
}

fn device(reg_id: u32) -> String {
    format!("<sip:alice@192.0.2.10>;reg-id={reg_id};+sip.instance=\"{INSTANCE}\"")
}

fn request(
    method: &str,
    uri: &str,
    call: &str,
    key: Option<&mut Signer>,
    contact: &str,
    more: &str,
) -> String {
    let credentials = key.map_or(String::new(), |key| {
        format!("Proxy-Authorization: {}\n", key.credentials(method, uri, b""))
    });
    let to = if method == "REGISTER" { "sip:alice@example.net" } else { uri };
    format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{call};rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <{to}>
Call-ID: {call}
CSeq: 1 {method}
Contact: {contact}
{credentials}{more}Content-Length: 0
"
    )
}

fn of(text: &str, name: &str) -> String {
    text.lines().filter(|line| line.starts_with(name)).map(|line| format!("{line}\n")).collect()
}

fn response(to: &Sent, status: u16, more: &str) -> String {
    let text = to.text();
    let copied: String = ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"]
        .map(|name| of(&text, name))
        .concat();
    let to_line = of(&text, "To:");
    let tag = if to_line.contains(";tag=") { "" } else { ";tag=r" };
    format!("SIP/2.0 {status} X\n{copied}{}{tag}\n{more}Content-Length: 0\n", to_line.trim_end())
}

/// Registers a flow; gives its Path and the 200 that the UE sees.
fn register(
    lab: &mut Lab,
    peer: &Peer,
    key: &mut Signer,
    id: u32,
    more: &str,
) -> (String, Message) {
    let call = format!("r{id}{}", lab.decisions.len());
    let text = request(
        "REGISTER",
        "sip:example.net",
        &call,
        Some(key),
        &device(id),
        "Supported: outbound, path\n",
    );
    let sent = lab.receive(peer, &text);
    let path = of(&sent[0].text(), "Path: ").trim_end().trim_start_matches("Path: ").to_owned();
    let contact = format!("Contact: {};expires=600\n{more}", device(id));
    let back = lab.receive(&Peer::core(), &response(&sent[0], 200, &contact));
    (path, back[0].message.clone())
}

/// What the core sends by a Path.
fn by(path: &str, method: &str, call: &str) -> String {
    request(
        method,
        "sip:alice@192.0.2.10",
        call,
        None,
        "<sip:bob@203.0.113.20>",
        &format!("Route: {path}\n"),
    )
    .replace("192.0.2.10:5060;branch", "203.0.113.10:5060;branch")
    .replace("<sip:alice@example.net>;tag=a", "<sip:bob@example.net>;tag=b")
}

fn status(sent: &[Sent]) -> Option<u16> {
    sent.last().and_then(|sent| sent.message.status())
}

/// Section 4.4: 80 to 100 % of Flow-Timer, by other dice each time; nothing before a 2xx with outbound in Require.
#[test]
fn section_4_4_pings_follow_flow_timer() {
    let registered = |more: &str| {
        let text = format!("SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\n{more}\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    };
    let mut keep = KeepAlive::new(Transport::Tcp, [1; 32]);
    keep.told(&registered("Flow-Timer: 120\r\n"), Instant::START);
    assert_eq!(keep.poll_timeout(), None, "no outbound, no ping");
    let mut waits = Vec::new();
    for seed in 0..50 {
        let mut keep = KeepAlive::new(Transport::Tcp, [seed; 32]);
        keep.told(&registered("Require: outbound\r\nFlow-Timer: 120\r\n"), Instant::START);
        waits.push(keep.poll_timeout().expect("a ping").since(Instant::START));
    }
    let bounds = Duration::from_secs(96)..=Duration::from_secs(120);
    assert!(waits.iter().all(|wait| bounds.contains(wait)), "{waits:?}");
    waits.dedup();
    assert_eq!(waits.len(), 50);
}

/// Sections 4.4.1 and 4.4.2: CRLFCRLF on streams, STUN on UDP; 120 and 29 s where no Flow-Timer says otherwise.
#[test]
fn section_4_4_1_and_4_4_2_each_transport_has_its_ping() {
    let text = "SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\nRequire: outbound\r\n\r\n";
    let registered = Message::from_datagram(Bytes::from(text)).expect("well formed");
    for (transport, longest) in
        [(Transport::Tcp, 120), (Transport::Tls, 120), (Transport::Wss, 120), (Transport::Udp, 29)]
    {
        let mut keep = KeepAlive::new(transport, [2; 32]);
        keep.told(&registered, Instant::START);
        let due = keep.poll_timeout().expect("a ping");
        assert!(due.since(Instant::START) <= Duration::from_secs(longest), "{transport:?}");
        keep.expire(due);
        let ping = keep.poll_output().expect("a ping");
        if transport == Transport::Udp {
            let here = "192.0.2.1:5060".parse().expect("an address");
            let answer = stun::answer(&ping, here).expect("a Binding request");
            keep.stun(&answer, due);
        } else {
            assert_eq!(&ping[..], b"\r\n\r\n", "{transport:?}");
            keep.pong(due);
        }
        assert!(keep.has_served() && !keep.has_failed(), "{transport:?}");
        keep.expire(keep.poll_timeout().expect("the next"));
        let silent = keep.poll_timeout().expect("an end");
        assert!(!keep.has_failed());
        let mut end = silent;
        while !keep.has_failed() {
            end = keep.poll_timeout().expect("an end");
            keep.expire(end);
        }
        if transport != Transport::Udp {
            assert_eq!(end, silent, "{transport:?}: one pong is waited for, 10 s");
        }
    }
}

/// Section 4.5: "the first retry happens somewhere between 30 and 60 seconds"; three failures later at most 240 s
/// would do, and half an hour is the most.
#[test]
fn section_4_5_the_retry_delay() {
    let wait = |failures: u32, others: bool| {
        let mut recovery = Recovery::new([3; 32]);
        for _ in 1..failures {
            recovery.failed(others);
        }
        recovery.failed(others).as_secs()
    };
    for (failures, others, least, most) in [
        (1, false, 30, 60),
        (3, false, 120, 240),
        (1, true, 90, 180),
        (9, false, 900, 1800),
        (40, true, 900, 1800),
    ] {
        let wait = wait(failures, others);
        assert!((least..=most).contains(&wait), "{wait} after {failures}");
    }
}

/// Section 5.1: Path with a flow token; `ob` exactly where the edge is the first hop.
#[test]
fn section_5_1_path_and_ob() {
    let mut lab = lab();
    let (peer, mut key) = (Peer::tcp("192.0.2.10:41001", 1), lab.ue1());
    let text = request("REGISTER", "sip:example.net", "x", Some(&mut key), &device(1), "");
    let direct = lab.receive(&peer, &text)[0].text();
    assert!(of(&direct, "Path:").ends_with(";ob>\n"), "{direct}");
    let text = request("REGISTER", "sip:example.net", "y", Some(&mut key), &device(1), "")
        .replace("Max-Forwards", "Via: SIP/2.0/UDP 192.168.0.7;branch=z9hG4bKi\nMax-Forwards");
    let relayed = lab.receive(&peer, &text)[0].text();
    assert!(of(&relayed, "Path:").contains('@') && !relayed.contains(";ob>"), "{relayed}");
}

/// Section 5.2: a token is unique to its flow, leads back to it, and cannot be altered.
#[test]
fn section_5_2_flow_tokens() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let peers = [1, 2, 3].map(|slot| Peer::tcp(&format!("192.0.2.10:4100{slot}"), slot));
    let mut paths = Vec::new();
    for (peer, id) in peers.iter().zip(1..) {
        paths.push(register(&mut lab, peer, &mut key, id, "").0);
    }
    for (at, (path, peer)) in paths.iter().zip(&peers).enumerate() {
        let sent = lab.receive(&Peer::core(), &by(path, "MESSAGE", &format!("m{at}")));
        assert_eq!(sent[0].to, peer.flow().remote);
        let (before, after) = path.split_at(path.find('@').expect("a token") - 5);
        let flipped = if after.starts_with('A') { "B" } else { "A" };
        let forged = format!("{before}{flipped}{}", &after[1..]);
        let sent = lab.receive(&Peer::core(), &by(&forged, "MESSAGE", &format!("f{at}")));
        assert_eq!(status(&sent), Some(403), "5.3.1: tampered with");
    }
}

/// Section 5.3: the token's flow against the source of the request tells incoming from outgoing. From a UE, another
/// UE's token is refused: there is no way but through the core.
#[test]
fn section_5_3_incoming_and_outgoing() {
    let mut lab = lab();
    let (peer, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    let (path, _) = register(&mut lab, &peer, &mut key, 1, "");
    let route = format!("Route: {path}\n");
    let text = request("MESSAGE", "sip:bob@example.net", "o", Some(&mut key), "<sip:a@h>", &route);
    let sent = lab.receive(&peer, &text);
    assert_eq!(sent[0].to.to_string(), "203.0.113.10:5060", "outgoing");
    assert!(!sent[0].text().contains("Route:"));
    let text = request("MESSAGE", "sip:bob@example.net", "p", Some(&mut key), "<sip:a@h>", &route);
    let sent = lab.receive(&Peer::udp("192.0.2.10:5061"), &text);
    assert_eq!((status(&sent), lab.last()), (Some(403), Outcome::Refused(Refusal::TokenForged)));
    let sent = lab.receive(&Peer::core(), &by(&path, "MESSAGE", "i"));
    assert_eq!(sent[0].to, peer.flow().remote, "incoming");
}

/// Section 5.3.1: a dialog that the core begins by a token with `ob` stays on its flow; Route goes; 430 when it is gone.
#[test]
fn section_5_3_1_incoming_requests() {
    let mut lab = lab();
    let (peer, mut key) = (Peer::tcp("192.0.2.10:41001", 1), lab.ue1());
    let (path, _) = register(&mut lab, &peer, &mut key, 1, "");
    let sent = lab.receive(&Peer::core(), &by(&path, "INVITE", "call"));
    let invite = sent.iter().find(|sent| sent.to == peer.flow().remote).expect("to the UE");
    assert!(!invite.text().contains("\r\nRoute:"), "{}", invite.text());
    assert_eq!(invite.text().matches("\r\nRecord-Route:").count(), 2, "OB-03");
    lab.receive(&peer, &response(invite, 200, "Contact: <sip:alice@nowhere.invalid;ob>\n"));
    let bye = by("<sip:edge.example.net:5060;lr>", "BYE", "call")
        .replace("To: <sip:alice@192.0.2.10>", "To: <sip:alice@192.0.2.10>;tag=r")
        .replace("bKcall", "bKbye")
        .replace("CSeq: 1 ", "CSeq: 2 ");
    let sent = lab.receive(&Peer::core(), &bye);
    assert_eq!(sent[0].to, peer.flow().remote, "whatever the Contact says");
    lab.close(&peer);
    let sent = lab.receive(&Peer::core(), &by(&path, "MESSAGE", "late"));
    assert_eq!(status(&sent), Some(430));
}

/// Section 5.3.2: requests inside a dialog that the UE began come back over the flow it began on.
#[test]
fn section_5_3_2_outgoing_dialogs() {
    let mut lab = lab();
    let (peer, mut key) = (Peer::tcp("192.0.2.10:41001", 1), lab.ue1());
    let contact = "<sip:alice@nowhere.invalid;ob>";
    let text = request("INVITE", "sip:bob@example.net", "call", Some(&mut key), contact, "");
    let sent = lab.receive(&peer, &text);
    let invite = sent.last().expect("to the core");
    lab.receive(&Peer::core(), &response(invite, 200, "Contact: <sip:bob@203.0.113.20>\n"));
    let bye = by("<sip:edge.example.net:5060;lr>", "BYE", "call")
        .replace("<sip:bob@example.net>;tag=b", "<sip:bob@example.net>;tag=r")
        .replace("To: <sip:alice@192.0.2.10>", "To: <sip:alice@example.net>;tag=a");
    assert_eq!(lab.receive(&Peer::core(), &bye)[0].to, peer.flow().remote);
}

/// Section 5.4: Flow-Timer goes only beside outbound in Require, and the registrar's own stays.
#[test]
fn section_5_4_flow_timer() {
    for (peer, more, expected) in [
        (Peer::udp("192.0.2.10:5060"), "Require: outbound\n", Some("29")),
        (Peer::tcp("192.0.2.10:5060", 1), "Require: outbound\n", Some("120")),
        (Peer::wss("192.0.2.10:5060", 1), "Require: outbound\n", Some("120")),
        (Peer::udp("192.0.2.10:5060"), "Require: outbound\nFlow-Timer: 50\n", Some("50")),
        (Peer::udp("192.0.2.10:5060"), "Supported: outbound\n", None),
    ] {
        let mut lab = lab();
        let mut key = lab.ue1();
        let (_, answer) = register(&mut lab, &peer, &mut key, 1, more);
        let timer = answer.first(Name::FlowTimer).map(String::from_utf8_lossy);
        assert_eq!(timer.as_deref(), expected, "{more}");
        let held = lab.holds.iter().filter_map(|hold| hold.silence).next();
        let held = held.map(|(silence, _)| silence.as_secs());
        let reliable = peer.flow().transport.is_reliable();
        assert_eq!(held, (expected.is_some() && reliable).then_some(180), "KA-03: {more}");
    }
}

/// Section 6: an instance and a reg-id are one binding; a reg-id without instance is ignored; a reg-id stands alone.
#[test]
fn section_6_bindings() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (old, new) = (Peer::udp("192.0.2.10:5060"), Peer::udp("192.0.2.10:6060"));
    let (by_old, _) = register(&mut lab, &old, &mut key, 1, "Require: outbound\n");
    let (by_new, _) = register(&mut lab, &new, &mut key, 1, "Require: outbound\n");
    for (path, call) in [(&by_old, "a"), (&by_new, "b")] {
        let sent = lab.receive(&Peer::core(), &by(path, "MESSAGE", call));
        assert_eq!(sent[0].to, new.flow().remote, "the flow of the binding is updated");
    }
    for (contact, expected) in [
        ("<sip:alice@192.0.2.10>;reg-id=1".to_owned(), None),
        (format!("{}, <sip:alice@192.0.2.11>", device(1)), Some(400)),
        (format!("{}, <sip:alice@192.0.2.11>;expires=0", device(1)), None),
    ] {
        let text = request(
            "REGISTER",
            "sip:example.net",
            &contact.replace([' ', '<', '>', '"', ',', ';'], ""),
            Some(&mut key),
            &contact,
            "",
        );
        let sent = lab.receive(&Peer::udp("192.0.2.10:7070"), &text);
        assert_eq!(status(&sent), expected, "{contact}");
    }
}

/// Section 7: 430 moves a request to another flow of the instance, any other answer does not; a flow that closes takes
/// all bindings with it, whatever their address of record.
#[test]
fn section_7_forwarding_and_invalidation() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (one, two) = (Peer::udp("192.0.2.10:5060"), Peer::udp("192.0.2.10:6060"));
    let (path, _) = register(&mut lab, &one, &mut key, 1, "");
    register(&mut lab, &two, &mut key, 2, "");
    for (answer, moves) in [(430, true), (486, false), (480, false), (404, false), (500, false)] {
        let call = format!("m{answer}");
        let sent = lab.receive(&Peer::core(), &by(&path, "MESSAGE", &call));
        assert_eq!((sent.len(), sent[0].to), (1, one.flow().remote), "one flow at a time");
        let back = lab.receive(&one, &response(&sent[0], answer, ""));
        if moves {
            assert_eq!(back[0].to, two.flow().remote, "{answer}");
            let last = lab.receive(&two, &response(&back[0], 430, ""));
            assert_eq!(status(&last), Some(430), "no flow is left");
        } else {
            assert_eq!(status(&back), Some(answer), "the instance has answered");
        }
    }
    lab.close(&one);
    lab.close(&two);
    let sent = lab.receive(&Peer::core(), &by(&path, "MESSAGE", "end"));
    assert_eq!(status(&sent), Some(430));
}

/// Section 11.6: 439 only where the listener requires outbound of the first hop; else it is the registrar's to say.
#[test]
fn section_11_6_first_hop_lacks_outbound() {
    for (required, supported, relayed, expected) in [
        (true, true, true, Some(439)),
        (true, true, false, None),
        (true, false, true, None),
        (false, true, true, None),
    ] {
        let mut settings = LabSettings::default();
        for listener in &mut settings.forward.listeners {
            listener.outbound_required = required;
        }
        let mut lab = Lab::new(settings);
        let mut key = lab.ue1();
        let more = if supported { "Supported: outbound, path\n" } else { "" };
        let mut text =
            request("REGISTER", "sip:example.net", "x", Some(&mut key), &device(1), more);
        if relayed {
            let inner = "Via: SIP/2.0/UDP 192.168.0.7;branch=z9hG4bKi\nMax-Forwards";
            text = text.replace("Max-Forwards", inner);
        }
        let sent = lab.receive(&Peer::udp("192.0.2.10:5060"), &text);
        assert_eq!(status(&sent), expected, "{required} {supported} {relayed}");
    }
}

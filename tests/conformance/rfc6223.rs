//! RFC 6223, indication of support for keep-alive: `keep` in Via, clause by clause. What the UE does with the value is
//! also in `rfc5626`, since section 5 says that it is the same.

use std::time::Duration;

use bytes::Bytes;
use sipward::client::keeping::KeepAlive;
use sipward::instant::Instant;
use sipward::testing::{Lab, Peer, Sent, Signer};
use sipward::transport::Transport;
use sipward::wire::Message;

const URI: &str = "sip:bob@example.net";

fn request(method: &str, call: &str, key: Option<&mut Signer>, keep: &str) -> String {
    let (uri, to) = match method {
        "REGISTER" => ("sip:example.net", "sip:alice@example.net"),
        _ => (URI, URI),
    };
    let credentials = key.map_or(String::new(), |key| {
        format!("Proxy-Authorization: {}\n", key.credentials(method, uri, b""))
    });
    format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{call};rport{keep}
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <{to}>
Call-ID: {call}
CSeq: 1 {method}
Contact: <sip:alice@192.0.2.10:5060>
{credentials}Content-Length: 0
"
    )
}

fn response(to: &Sent, status: u16, more: &str) -> String {
    let text = to.text();
    let copied: String = text
        .lines()
        .filter(|line| {
            let names = ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"];
            names.iter().any(|name| line.starts_with(name))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let to = text.lines().find(|line| line.starts_with("To:")).expect("a To");
    let tag = if to.contains(";tag=") { "" } else { ";tag=r" };
    let contact = "Contact: <sip:alice@192.0.2.10:5060>;expires=600\n";
    format!("SIP/2.0 {status} X\n{copied}{to}{tag}\n{contact}{more}Content-Length: 0\n")
}

/// The value of `keep` that a peer sees in its Via; `None` if it has none.
fn told(sent: &[Sent], peer: &Peer) -> Option<String> {
    let back = sent.iter().rev().find(|sent| sent.to == peer.flow().remote).expect("an answer");
    let via = back.message.top_via().expect("a Via");
    via.param("keep").filter(|value| !value.is_empty()).map(|it| String::from_utf8_lossy(it).into())
}

/// Sections 4.2.2 and 4.4: a registration, and each refresh that asks again; nothing for one that does not, or fails.
#[test]
fn section_4_2_2_registrations() {
    let mut lab = Lab::default();
    let (peer, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    for (call, keep, status, expected) in [
        ("a", ";keep", 200, Some("30")),
        ("b", ";keep=5", 200, Some("30")),
        ("c", "", 200, None),
        ("d", ";keep", 403, None),
    ] {
        let sent = lab.receive(&peer, &request("REGISTER", call, Some(&mut key), keep));
        let back = lab.receive(&Peer::core(), &response(&sent[0], status, ""));
        assert_eq!(told(&back, &peer).as_deref(), expected, "{call}");
    }
}

/// Sections 4.2.3 and 4.4: a request that begins a dialog, in each response the same; never again inside it.
#[test]
fn section_4_2_3_dialogs() {
    let mut lab = Lab::default();
    let (peer, mut key) = (Peer::tcp("192.0.2.10:41001", 1), lab.ue1());
    let sent = lab.receive(&peer, &request("INVITE", "call", Some(&mut key), ";keep"));
    assert_eq!(told(&sent, &peer), None, "100 goes no further, and promises nothing");
    let invite = sent.last().expect("to the core");
    for status in [180, 183, 200, 200] {
        let back = lab.receive(&Peer::core(), &response(invite, status, ""));
        assert_eq!(told(&back, &peer).as_deref(), Some("120"), "{status}");
    }
    let again = request("INVITE", "call", Some(&mut key), ";keep")
        .replace("bKcall", "bKagain")
        .replace("sip:bob@example.net SIP/2.0", "sip:alice@192.0.2.10:5060 SIP/2.0")
        .replace("<sip:bob@example.net>\nCall", "<sip:bob@example.net>;tag=r\nCall")
        .replace("CSeq: 1", "CSeq: 2");
    let sent = lab.receive(&peer, &again);
    let back = lab.receive(&Peer::core(), &response(sent.last().expect("on"), 200, ""));
    assert_eq!(told(&back, &peer), None, "it cannot be negotiated anew");
    for (method, expected) in [("SUBSCRIBE", Some("120")), ("MESSAGE", None), ("OPTIONS", None)] {
        let sent = lab.receive(&peer, &request(method, method, Some(&mut key), ";keep"));
        let back = lab.receive(&Peer::core(), &response(&sent[0], 200, ""));
        assert_eq!(told(&back, &peer).as_deref(), expected, "{method}");
    }
}

/// Section 4.3: only a value in a response starts pings, and only the next registration that has one lets them go on.
#[test]
fn section_4_3_the_sender() {
    let registered = |via: &str| {
        let text = format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h{via}\r\nCSeq: 1 REGISTER\r\n\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    };
    let mut keep = KeepAlive::new(Transport::Udp, [1; 32]);
    for (via, pinged) in
        [(";keep", false), (";keep=30", true), (";keep=30", true), (";keep", false), ("", false)]
    {
        keep.told(&registered(via), Instant::START);
        assert_eq!(keep.poll_timeout().is_some(), pinged, "{via}");
    }
    let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;keep=30\r\nCSeq: 1 MESSAGE\r\n\r\n";
    keep.told(&Message::from_datagram(Bytes::from(text)).expect("well formed"), Instant::START);
    assert_eq!(keep.poll_timeout(), None, "another request");
}

/// Section 5: with Flow-Timer in the same message, both say the same; zero leaves it to the sender.
#[test]
fn section_5_frequency() {
    for (peer, more, expected) in [
        (Peer::udp("192.0.2.10:5060"), "", "30"),
        (Peer::tcp("192.0.2.10:5060", 1), "", "120"),
        (Peer::udp("192.0.2.10:5060"), "Require: outbound\n", "29"),
        (Peer::udp("192.0.2.10:5060"), "Require: outbound\nFlow-Timer: 55\n", "55"),
    ] {
        let mut lab = Lab::default();
        let mut key = lab.ue1();
        let sent = lab.receive(&peer, &request("REGISTER", "r", Some(&mut key), ";keep"));
        let back = lab.receive(&Peer::core(), &response(&sent[0], 200, more));
        assert_eq!(told(&back, &peer).as_deref(), Some(expected), "{more}");
        if !more.is_empty() {
            assert!(back[0].text().contains(&format!("\r\nFlow-Timer: {expected}\r\n")));
        }
    }
    let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP h;keep=0\r\nCSeq: 1 REGISTER\r\n\r\n";
    let mut keep = KeepAlive::new(Transport::Tcp, [2; 32]);
    keep.told(&Message::from_datagram(Bytes::from(text)).expect("well formed"), Instant::START);
    assert_eq!(keep.every(), Some(Duration::from_secs(120)));
}

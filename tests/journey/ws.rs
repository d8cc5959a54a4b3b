//! SIP over WebSocket, as the stages see it (`sip-edge` section 8).

use sipward::testing::{Lab, Peer};
use sipward::transport::Transport;

use crate::scene::{lines, register, request, respond, status_to, to_core, without_token};

/// RFC 7118 sections 5.1, 5.2 and 5.5.
#[test]
fn tokens_and_ports_are_those_of_the_document() {
    for (transport, token, port, secure) in
        [(Transport::Ws, "WS", 80, false), (Transport::Wss, "WSS", 443, true)]
    {
        let found = (transport.via_token(), transport.uri_token(), transport.default_port());
        assert_eq!(found, (token, "ws", port));
        assert!(transport.is_reliable() && transport.is_secure() == secure);
    }
}

/// `.invalid` in Via and Contact: the answer goes back on the connection, and the way to the UE leads there by the token.
#[test]
fn a_host_that_nobody_can_look_up_is_answered_and_reached() {
    let mut lab = Lab::default();
    let peer = Peer::wss("192.0.2.10:40000", 1);
    let mut alice = lab.ue1();
    let seen = register(&mut lab, &peer, "alice", &mut alice).text();
    let path =
        seen.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned();
    let text = format!(
        "MESSAGE sip:alice@x.invalid;transport=ws SIP/2.0\nVia: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKm\n\
         Max-Forwards: 70\nRoute: {path}\nFrom: <sip:bob@example.net>;tag=b\nTo: <sip:alice@example.net>\n\
         Call-ID: m\nCSeq: 1 MESSAGE\n"
    );
    let sent = lab.receive(&Peer::core(), &text);
    let message = sent.iter().find(|sent| sent.to == peer.flow().remote).expect("it goes to alice");
    let told = message.text();
    assert!(told.contains("Via: SIP/2.0/WSS edge.example.net:443;branch=z9hG4bK"), "{told}");
    assert!(!told.contains(";rport"), "{told}");
}

/// VIA-10, and what a sender wrote there itself is gone; Content-Length may be absent, and a stream gets one.
#[test]
fn a_request_shows_no_address_and_needs_no_length() {
    let mut lab = Lab::default();
    let peer = Peer::wss("192.0.2.10:40000", 1);
    for (call, written, kept) in [
        ("none", "", ""),
        ("asked", ";rport", ";rport"),
        ("forged", ";received=203.0.113.1;rport=1", ""),
    ] {
        let mut alice = lab.ue1();
        let text = request("INVITE", "sip:bob@example.net", "alice", call, 1, Some(&mut alice));
        let branch = format!(";branch=z9hG4bK{call}INVITE1");
        let text = text
            .replace("SIP/2.0/UDP 192.0.2.10:5060", "SIP/2.0/WSS x.invalid")
            .replace(&format!("{branch};rport"), &format!("{branch}{written}"))
            .replace("<sip:alice@192.0.2.10:5060>", "<sip:alice@x.invalid;transport=ws>")
            .replace("Content-Length: 0\n", "");
        let invite = to_core(&lab.receive(&peer, &text)).clone();
        let seen = invite.text();
        let via = format!("Via: SIP/2.0/WSS x.invalid{branch}{kept}\r\n");
        assert!(seen.contains(&via), "{call}: {seen}");
        let recorded = lines(&seen, "Record-Route: ");
        let faces_ue = recorded.last().map(|value| without_token(value));
        assert_eq!(
            faces_ue.as_deref(),
            Some("<sip:edge.example.net:443;transport=ws;lr>"),
            "RR-03"
        );
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        let back = respond(&invite, 200, "b", contact).replace("Content-Length: 0\n", "");
        let sent = lab.receive(&Peer::core(), &back);
        assert_eq!(status_to(&sent, &peer), Some(200));
        assert!(sent[0].text().contains("\r\nContent-Length: 0\r\n"), "{}", sent[0].text());
    }
}

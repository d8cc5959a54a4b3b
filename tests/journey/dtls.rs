//! SIP over DTLS, as the stages see it (`DT-01` to `DT-05`).

use std::time::Duration;

use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, Peer};
use sipward::transport::Transport;
use sipward::wire::Via;

use crate::scene::{lines, register, request, respond, status_to, to_core, without_token};

/// DT-01 to DT-03: tokens of whoever speaks it are read in any case, and one is written.
#[test]
fn tokens_are_read_as_others_write_them_and_one_is_written() {
    for token in ["DTLS-UDP", "DTLS", "TLS-UDP", "dtls-udp", "Dtls"] {
        let via = format!("SIP/2.0/{token} 192.0.2.10:5061;branch=z9hG4bKa");
        assert_eq!(Via::parse(via.as_bytes()).expect("a Via").transport(), token.as_bytes());
    }
    let dtls = Transport::Dtls;
    assert_eq!(
        (dtls.via_token(), dtls.uri_token(), dtls.default_port()),
        ("DTLS-UDP", "dtls-udp", 5061)
    );
    assert!(dtls.is_secure() && !dtls.is_reliable());
}

/// DT-01, DT-02: the way back to a UE on DTLS leads over its flow, and says so.
#[test]
fn a_call_over_dtls_is_recorded_and_comes_back() {
    let mut lab = Lab::default();
    let peer = Peer::dtls("192.0.2.10:40000", 1);
    let mut alice = lab.ue1();
    for (call, token) in [("one", "DTLS-UDP"), ("two", "DTLS"), ("three", "tls-udp")] {
        let text = request("INVITE", "sip:bob@example.net", "alice", call, 1, Some(&mut alice));
        let text = text.replace("SIP/2.0/UDP", &format!("SIP/2.0/{token}"));
        let invite = to_core(&lab.receive(&peer, &text)).clone();
        let seen = invite.text();
        let routes = lines(&seen, "Record-Route: ");
        let expected = "<sip:edge.example.net:5061;transport=dtls-udp;lr>";
        assert_eq!(without_token(routes[1]), expected, "{token}");
        let own = format!("SIP/2.0/{token} 192.0.2.10:5060;");
        assert!(lines(&seen, "Via: ")[1].starts_with(&own), "{token}: as it was written: {seen}");
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        let back = lab.receive(&Peer::core(), &respond(&invite, 200, "b", contact));
        assert_eq!(status_to(&back, &peer), Some(200));
        assert!(lines(&back[0].text(), "Via: ")[0].starts_with(&own), "{token}");
    }
}

/// DT-05: datagrams are lost, so what goes out on a DTLS flow is repeated as on UDP.
#[test]
fn what_goes_to_a_ue_over_dtls_is_repeated() {
    let mut lab = Lab::default();
    let peer = Peer::dtls("192.0.2.10:40000", 1);
    let mut alice = lab.ue1();
    let seen = register(&mut lab, &peer, "alice", &mut alice).text();
    let path = lines(&seen, "Path: ")[0].to_owned();
    let text = format!(
        "MESSAGE sip:alice@192.0.2.10:5060 SIP/2.0\nVia: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKm\n\
         Max-Forwards: 70\nRoute: {path}\nFrom: <sip:bob@example.net>;tag=b\nTo: <sip:alice@example.net>\n\
         Call-ID: m\nCSeq: 1 MESSAGE\nContent-Length: 0\n"
    );
    let sent = lab.receive(&Peer::core(), &text);
    let message = sent.iter().find(|sent| sent.to == peer.flow().remote).expect("it goes to alice");
    let via = "SIP/2.0/DTLS-UDP edge.example.net:5061;branch=z9hG4bK";
    assert!(lines(&message.text(), "Via: ")[0].starts_with(via), "{}", message.text());
    let again = lab.advance(Duration::from_millis(600));
    assert!(again.iter().any(|sent| sent.to == peer.flow().remote), "Timer E");
}

/// What is no SIP is answered, and the session goes on: a record is a message, so no framing is lost.
#[test]
fn a_broken_message_does_not_end_a_session() {
    let mut lab = Lab::default();
    let peer = Peer::dtls("192.0.2.10:40000", 1);
    let broken = request("OPTIONS", "sip:bob@example.net", "alice", "broken", 1, None);
    let sent = lab.receive(&peer, &broken.replace("Content-Length: 0", "Content-Length: 9"));
    assert_eq!(status_to(&sent, &peer), Some(400));
    assert!(matches!(lab.last(), Outcome::Refused(Refusal::Malformed(_))));
    let mut alice = lab.ue1();
    register(&mut lab, &peer, "alice", &mut alice);
}

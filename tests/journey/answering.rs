//! A phone that is called: what it owes to the caller, in virtual time.

use std::time::Duration;

use sipward::testing::{Lab, Peer};
use sipward::wire::Message;

use crate::phone::Phone;

/// RFC 3261 section 13.3.1.4: the 2xx goes again until the ACK comes, whatever the transport, since a proxy behind a
/// reliable hop may lose it on an unreliable one.
#[test]
fn a_phone_repeats_its_2xx_until_the_ack_comes_on_every_transport() {
    for peer in [
        Peer::udp("192.0.2.10:5060"),
        Peer::tcp("192.0.2.10:40000", 1),
        Peer::tls("192.0.2.10:40000", 1),
    ] {
        let (via, flow) = (peer.flow().transport.via_token(), peer.flow());
        let (mut phone, mut now) = (Phone::new(peer, false, "a"), Lab::default().now);
        let request = |method: &str| {
            let text = format!(
                "{method} sip:alice@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/{via} 192.0.2.1;branch=z9hG4bK{method}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:bob@example.net>;tag=b\r\nTo: <sip:alice@example.net>\r\nCall-ID: up\r\n\
                 CSeq: 1 {method}\r\nContact: <sip:bob@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
            );
            Message::from_datagram(text.into_bytes().into()).expect("well formed")
        };
        phone.agent.receive(request("INVITE"), &flow, now);
        let sent = std::iter::from_fn(|| phone.agent.poll_output());
        let answer = sent.last().expect("it answers");
        assert!(answer.starts_with(b"SIP/2.0 200 "), "{via}");
        for wait in [500, 1000, 2000, 4000, 4000] {
            now.mono = now.mono + Duration::from_millis(wait - 1);
            phone.agent.expire(now);
            assert_eq!(phone.agent.poll_output(), None, "{via}: not before {wait} ms");
            now.mono = now.mono + Duration::from_millis(1);
            phone.agent.expire(now);
            assert_eq!(phone.agent.poll_output().as_ref(), Some(&answer), "{via}: after {wait} ms");
        }
        phone.agent.receive(request("ACK"), &flow, now);
        now.mono = now.mono + Duration::from_secs(60);
        phone.agent.expire(now);
        assert_eq!(phone.agent.poll_output(), None, "{via}: the caller has it");
    }
}

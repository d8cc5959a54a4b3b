//! Whatever strangers send, in whatever order, between what a caller and the core send: nothing of theirs goes on to the
//! core, the caller's association stays as it was, and in the end nothing is held for anybody (V-74, V-117).
//!
//! An input is a row of messages, each behind three octets: who sends it, and its length.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sipward::journey::Outcome;
use sipward::testing::{Lab, Peer, Sent};
use sipward::transport::Side;

/// Most messages of one input.
const MESSAGES_MAX: usize = 24;

fuzz_target!(|octets: &[u8]| {
    let mut lab = Lab::default();
    let (alice, core) = (Peer::udp("192.0.2.10:5060"), Peer::core());
    let mut key = lab.ue1();
    let credentials = key.credentials("INVITE", "sip:bob@example.net", b"");
    let invite = format!(
        "INVITE sip:bob@example.net SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKcall;rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=alice
To: <sip:bob@example.net>
Call-ID: call
CSeq: 1 INVITE
Contact: <sip:alice@192.0.2.10:5060>
Proxy-Authorization: {credentials}
Content-Length: 0
"
    );
    let sent = lab.receive(&alice, &invite);
    let onward = sent.iter().find(|sent| sent.message.is_request()).expect("it is forwarded");
    lab.receive(&core, &answer(onward));
    let strangers = [
        Peer::udp("192.0.2.66:5060"),
        Peer::udp("192.0.2.10:5061"),
        Peer::tcp("192.0.2.66:40000", 1),
        Peer::tls("192.0.2.66:40001", 2),
        Peer::wss("192.0.2.66:40002", 3),
        Peer::stray("192.0.2.66:5062"),
    ];
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());
    lab.decisions.clear();
    let mut rest = octets;
    for _ in 0..MESSAGES_MAX {
        let Some(([who, high, low], more)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (message, more) = more.split_at(length);
        rest = more;
        let stranger = &strangers[usize::from(*who) % strangers.len()];
        let sent = lab.receive_octets(stranger, message.to_vec());
        let passed = |sent: &Sent| sent.message.is_request() && sent.to == core.flow().remote;
        assert!(!sent.iter().any(passed), "{stranger:?}");
    }
    let forwarded = |made: &sipward::journey::Decision| {
        made.side == Side::Ue && made.outcome == Outcome::Forwarded
    };
    assert!(!lab.decisions.iter().any(forwarded), "{:?}", lab.decisions);
    assert_eq!(before, format!("{:?}", lab.shared.gate.associations.snapshot()));
    lab.advance(Duration::from_secs(100));
    assert_eq!(lab.transactions(), 0);
});

/// What the core says to the INVITE that it saw.
fn answer(invite: &Sent) -> String {
    let text = invite.text();
    let kept = |line: &&str| {
        ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let copied: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    format!(
        "SIP/2.0 200 OK\n{copied}To: <sip:bob@example.net>;tag=b\nContact: <sip:bob@203.0.113.20>\n\
         Content-Length: 0\n"
    )
}

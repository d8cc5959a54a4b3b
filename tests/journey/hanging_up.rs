//! A phone that calls and hangs up, as often as it likes: what it keeps of calls that are over.

use std::time::Duration;

use bytes::Bytes;
use sipward::authentication::digest::Hash;
use sipward::client::agent::{Agent, Event, Failure, HELD_MAX};
use sipward::client::answer::Answerer;
use sipward::client::draft::Voice;
use sipward::instant::{Instant, Now, WallTime};
use sipward::testing::Peer;
use sipward::wire::Message;

struct Phone {
    agent: Agent,
    peer: Peer,
    now: Now,
}

impl Phone {
    fn new(peer: Peer) -> Self {
        let flow = peer.flow();
        let answerer = Answerer::new(Vec::new(), "edge.example.net", Hash::Sha256, "c".into());
        let voice = Voice {
            identity: "sip:alice@example.net".into(),
            via: format!("SIP/2.0/{} {}", flow.transport.via_token(), flow.remote),
            contact: format!("sip:alice@{}", flow.remote),
            agent: "phone".into(),
        };
        let agent = Agent::new(voice, answerer, flow.transport, "seed".into(), [9; 16]);
        let now = Now { mono: Instant::START, wall: WallTime::from_unix(1_790_000_000) };
        Self { agent, peer, now }
    }

    /// The one request that it sends now.
    fn sends(&mut self, method: &str) -> Bytes {
        let octets = self.agent.poll_output().expect("a request");
        assert!(octets.starts_with(method.as_bytes()), "{octets:?}");
        assert_eq!(self.agent.poll_output(), None);
        octets
    }

    /// That answer comes to `request`; what is told of it.
    fn hears(&mut self, request: &Bytes, status: u16) -> u16 {
        self.agent.receive(answer(request, status), &self.peer.flow(), self.now);
        match self.agent.poll_event() {
            Some(Event::Final { response, .. }) => response.status().expect("a response"),
            other => panic!("{other:?}"),
        }
    }

    /// Calls, and the call is answered: its Call-ID, the INVITE, and the ACK.
    fn calls(&mut self) -> (String, Bytes, Bytes) {
        let draft = self.agent.draft("INVITE", "sip:bob@example.net");
        let call_id = draft.call_id.clone();
        self.agent.send(draft, self.now);
        let invite = self.sends("INVITE ");
        assert_eq!(self.hears(&invite, 200), 200);
        let ack = self.sends("ACK ");
        (call_id, invite, ack)
    }

    /// Sends the BYE to that call.
    fn hangs_up(&mut self, call_id: &str) -> Bytes {
        let draft = self.agent.draft_in(call_id, "BYE").expect("a dialog");
        self.agent.send(draft, self.now);
        self.sends("BYE ")
    }
}

/// What the other end says to a request.
fn answer(request: &Bytes, status: u16) -> Message {
    let text = str::from_utf8(request).expect("text");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("a line");
    let to = line("To:");
    let tag = if to.contains(";tag=") { "" } else { ";tag=bob" };
    let [via, from, call_id, cseq] = ["Via:", "From:", "Call-ID:", "CSeq:"].map(line);
    let text = format!(
        "SIP/2.0 {status} X\r\n{via}\r\n{from}\r\n{to}{tag}\r\n{call_id}\r\n{cseq}\r\n\
         Contact: <sip:bob@192.0.2.20>\r\nContent-Length: 0\r\n\r\n"
    );
    Message::from_datagram(Bytes::from(text)).expect("well formed")
}

/// RFC 6026 section 7.2: the transaction of an INVITE that was accepted stays for half a minute; calls do not wait for that.
#[test]
fn calls_follow_each_other_faster_than_transactions_end() {
    for peer in [Peer::tls("192.0.2.10:5061", 1), Peer::udp("192.0.2.10:5060")] {
        let mut phone = Phone::new(peer);
        for number in 0..3 * HELD_MAX {
            let (call_id, ..) = phone.calls();
            let bye = phone.hangs_up(&call_id);
            assert_eq!(phone.hears(&bye, 200), 200, "call {number}");
            assert!(phone.agent.dialog(&call_id).is_none(), "call {number} is over");
        }
    }
}

/// What waits for its answer goes for nobody.
#[test]
fn as_many_as_are_kept_may_wait_and_no_more() {
    let mut phone = Phone::new(Peer::tls("192.0.2.10:5061", 1));
    for _ in 0..HELD_MAX {
        let draft = phone.agent.draft("OPTIONS", "sip:bob@example.net");
        phone.agent.send(draft, phone.now);
        phone.sends("OPTIONS ");
    }
    let draft = phone.agent.draft("OPTIONS", "sip:bob@example.net");
    phone.agent.send(draft, phone.now);
    let told = phone.agent.poll_event();
    assert!(matches!(told, Some(Event::Failed { why: Failure::Unsendable, .. })), "{told:?}");
}

/// RFC 3261 section 15.1.1: 481, 408 and silence end a dialog as 2xx does; what may be put right does not.
#[test]
fn what_is_said_to_a_bye_ends_the_call_or_leaves_it() {
    for (said, over) in [
        (Some(200), true),
        (Some(408), true),
        (Some(481), true),
        (None, true),
        (Some(403), false),
        (Some(500), false),
        (Some(503), false),
    ] {
        let mut phone = Phone::new(Peer::tls("192.0.2.10:5061", 1));
        let (call_id, ..) = phone.calls();
        let bye = phone.hangs_up(&call_id);
        match said {
            Some(status) => assert_eq!(phone.hears(&bye, status), status),
            None => {
                phone.agent.expire(phone.now + Duration::from_secs(33));
                let told = phone.agent.poll_event();
                let silent = matches!(told, Some(Event::Failed { why: Failure::Timeout, .. }));
                assert!(silent, "{told:?}");
            }
        }
        assert_eq!(phone.agent.dialog(&call_id).is_none(), over, "{said:?}");
    }
}

/// RFC 3261 section 13.2.2.4: the ACK may have been lost while the BYE was not.
#[test]
fn a_2xx_that_comes_again_is_acknowledged_by_the_same_ack_even_after_the_end() {
    let mut phone = Phone::new(Peer::udp("192.0.2.10:5060"));
    let (call_id, invite, ack) = phone.calls();
    assert_eq!(phone.hears(&invite, 200), 200);
    assert_eq!(phone.sends("ACK "), ack);
    let bye = phone.hangs_up(&call_id);
    assert_eq!(phone.hears(&bye, 200), 200);
    assert_eq!(phone.hears(&invite, 200), 200);
    assert_eq!(phone.sends("ACK "), ack);
    assert!(phone.agent.dialog(&call_id).is_none(), "it makes no call of what is over");
}

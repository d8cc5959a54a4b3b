//! Messages that come late, too early, or under ids that are somebody else's.

use std::time::Duration;

use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, Peer, Sent, Signer};

use crate::scene::{call, in_dialog, request, respond, status_to, to_core};

const BOB: &str = "sip:bob@203.0.113.20:5060";
const BOB_CONTACT: &str = "Contact: <sip:bob@203.0.113.20:5060>\n";

fn ack(lab: &mut Lab, alice: &Peer, number: u32) -> Vec<Sent> {
    lab.receive(alice, &in_dialog("ACK", BOB, "alice", "b", "call", number, None, ""))
}

/// A re-INVITE of alice's with that number, answered so by bob.
fn again(lab: &mut Lab, alice: &Peer, number: u32, key: &mut Signer, status: u16) {
    let text = in_dialog("INVITE", BOB, "alice", "b", "call", number, Some(key), "");
    let invite = to_core(&lab.receive(alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&invite, status, "b", BOB_CONTACT));
}

/// 8.1, rule 15: the CSeq of an INVITE that got a 2xx, of which the one before the newest may be late.
#[test]
fn an_ack_passes_for_each_invite_that_was_accepted_and_for_no_other() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    call(&mut lab, &alice, &mut key);
    to_core(&ack(&mut lab, &alice, 1));
    again(&mut lab, &alice, 3, &mut key, 200);
    for (number, why) in [(3, "its own"), (1, "a copy of the first one"), (3, "another copy")] {
        assert_eq!(
            to_core(&ack(&mut lab, &alice, number)).message.method_octets(),
            b"ACK",
            "{why}"
        );
    }
    again(&mut lab, &alice, 5, &mut key, 488);
    let text = in_dialog("INVITE", BOB, "alice", "b", "call", 7, Some(&mut key), "");
    to_core(&lab.receive(&alice, &text));
    for number in [2, 4, 5, 7, 9] {
        assert!(ack(&mut lab, &alice, number).is_empty(), "{number}");
        assert_eq!(lab.last(), Outcome::Dropped(Refusal::AckUnmatched), "{number}");
    }
    to_core(&ack(&mut lab, &alice, 3));
    lab.advance(Duration::from_secs(40));
    for number in [9, 11, 13] {
        again(&mut lab, &alice, number, &mut key, 200);
    }
    assert!(ack(&mut lab, &alice, 9).is_empty(), "two are remembered");
    for number in [11, 13] {
        to_core(&ack(&mut lab, &alice, number));
    }
}

/// V-62: nobody has accepted anything yet.
#[test]
fn an_ack_before_any_answer_is_dropped() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&invite, 183, "b", BOB_CONTACT));
    assert!(ack(&mut lab, &alice, 1).is_empty());
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", BOB_CONTACT));
    to_core(&ack(&mut lab, &alice, 1));
}

/// Somebody who has seen alice's ids calls under them: he would have a token for what is hers.
#[test]
fn an_invite_under_ids_of_another_is_refused_and_moves_nothing_of_his() {
    for stage in [183, 200] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
        let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
        let invite = to_core(&lab.receive(&alice, &text)).clone();
        lab.receive(&Peer::core(), &respond(&invite, stage, "b", BOB_CONTACT));
        let of_alice = |lab: &Lab| {
            let snapshot = lab.shared.gate.associations.snapshot();
            let hers = snapshot.into_iter().filter(|it| it.origin.owner.name.contains("ue1@"));
            format!(
                "{:?}",
                hers.map(|it| (it.state, it.way, it.ends, it.deadline, it.ue, it.core, it.session))
                    .collect::<Vec<_>>()
            )
        };
        let (rogue, mut other) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
        let text = request("INVITE", "sip:carol@example.net", "alice", "call", 1, Some(&mut other))
            .replace("<sip:alice@example.net>", "<sip:bob@example.net>")
            .replace("z9hG4bK", "z9hG4bKrogue");
        lab.advance(Duration::from_secs(1));
        let before = of_alice(&lab);
        let sent = lab.receive(&rogue, &text);
        assert_eq!((sent.len(), status_to(&sent, &rogue)), (1, Some(403)), "rule 4");
        assert_eq!(of_alice(&lab), before, "{stage}");
        let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut other), "");
        assert_eq!(status_to(&lab.receive(&rogue, &bye), &rogue), Some(403));
        lab.receive(&Peer::core(), &respond(&invite, 200, "b", BOB_CONTACT));
        to_core(&ack(&mut lab, &alice, 1));
        let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), "");
        to_core(&lab.receive(&alice, &bye));
    }
}

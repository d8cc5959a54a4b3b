//! Stage 3: what one of many does behind an address is not laid to the others, and no forged source locks anybody out.

use std::time::Duration;

use sipward::instant::WallTime;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, Peer, Signer};

use crate::scene::{call, in_dialog, register, request, respond, status_to, to_core};

const BOB: &str = "sip:bob@example.net";
/// His phone, as the call has it.
const PHONE: &str = "sip:bob@203.0.113.20:5060";

fn message(call: &str, signer: Option<&mut Signer>) -> String {
    request("MESSAGE", BOB, "alice", call, 1, signer)
}

/// Fails `count` times from there, with credentials that name `name`.
fn fail(lab: &mut Lab, from: &Peer, name: &str, count: u32) {
    let mut wrong = lab.signer(name, "wrong");
    for number in 0..count {
        let call = format!("f{number}{}", from.flow().remote.port());
        lab.receive(from, &message(&call, Some(&mut wrong)));
    }
}

/// V-88: one floods and one guesses; the others of their address are served.
#[test]
fn v_88_of_five_thousand_behind_one_address_the_one_who_fails_is_banned() {
    let mut lab = Lab::default();
    let at = |port: u16| Peer::udp(&format!("198.51.100.7:{port}"));
    let flooder = Peer::tcp("198.51.100.7:40000", 7);
    let mut let_in = 0;
    for number in 0..5000 {
        lab.receive(&flooder, &message(&format!("f{number}"), None));
        let_in += usize::from(lab.last() != Outcome::Dropped(Refusal::SourceLimited));
    }
    assert_eq!(let_in, 1000, "admission.flow_rate");
    fail(&mut lab, &at(5001), "nobody@bsf.example.net", 100);
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::TooManyFailures), "rule 22");
    let mut key = lab.ue1();
    for number in 0..5000_u16 {
        let peer = at(10_000 + number);
        if number % 50 == 0 {
            lab.advance(Duration::from_secs(3));
            key = lab.ue1();
        }
        if number % 100 == 0 {
            let (call, sent) = (format!("c{number}"), lab.receive(&peer, &message("bare", None)));
            assert_eq!(status_to(&sent, &peer), Some(407), "{number}");
            lab.receive(&peer, &message(&call, Some(&mut key)));
            assert_eq!(lab.last(), Outcome::Forwarded, "{number}");
        }
    }
}

/// V-88, rule 22: an address from which a hundred failures came in a minute gets no answer to what proves nothing.
#[test]
fn v_88_an_address_over_its_limit_is_served_what_has_evidence_and_nothing_else() {
    let mut lab = Lab::default();
    let at = |port: u16| Peer::udp(&format!("198.51.100.7:{port}"));
    let mut key = lab.ue1();
    for port in 0..11 {
        fail(&mut lab, &at(5001 + port), "nobody@bsf.example.net", 10);
    }
    for peer in [at(6000), Peer::tls("198.51.100.7:40000", 3)] {
        let call = format!("a{}", peer.flow().remote.port());
        assert!(lab.receive(&peer, &message(&call, None)).is_empty(), "{call}");
        assert_eq!(lab.last(), Outcome::Dropped(Refusal::TooManyFailures), "rule 22");
        let mut wrong = lab.signer("nobody@bsf.example.net", "wrong");
        assert!(lab.receive(&peer, &message(&format!("{call}w"), Some(&mut wrong))).is_empty());
        to_core(&lab.receive(&peer, &message(&format!("{call}g"), Some(&mut key))));
    }
    assert!(lab.closed.is_empty(), "whoever shares the address keeps his connection");
    lab.advance(Duration::from_secs(601));
    let peer = at(6001);
    assert_eq!(status_to(&lab.receive(&peer, &message("late", None)), &peer), Some(407));
}

/// V-89: whoever forges the very address and port of a subscriber has nobody shut out but himself.
#[test]
fn v_89_a_forged_source_does_not_ban_the_subscriber_whose_it_is() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    register(&mut lab, &alice, "alice", &mut key);
    let invite = call(&mut lab, &alice, &mut key);
    assert!(invite.text().starts_with("INVITE "));
    for round in 0..3 {
        fail(&mut lab, &alice, "nobody@bsf.example.net", 200);
        assert_eq!(lab.last(), Outcome::Dropped(Refusal::TooManyFailures), "{round}");
        let name = key.username.clone();
        fail(&mut lab, &alice, &name, 50);
        assert_eq!(lab.last(), Outcome::Dropped(Refusal::TooManyFailures), "in her name, {round}");
        assert!(lab.receive(&alice, &message(&format!("bare{round}"), None)).is_empty());
        to_core(&lab.receive(&alice, &message(&format!("hers{round}"), Some(&mut key))));
        let info = in_dialog("INFO", PHONE, "alice", "b", "call", 2 + round, Some(&mut key), "");
        let seen = to_core(&lab.receive(&alice, &info)).clone();
        lab.receive(&Peer::core(), &respond(&seen, 200, "b", ""));
    }
    let ack = in_dialog("ACK", PHONE, "alice", "b", "call", 1, None, "");
    to_core(&lab.receive(&alice, &ack));

    // Somebody else's good key is not looked at there: whose flow it is, is known.
    let mut other = lab.ue2();
    let text = request("MESSAGE", BOB, "bob", "other", 1, Some(&mut other));
    assert!(lab.receive(&alice, &text).is_empty());
    // On a connection there is nobody whose address it could be.
    let (stream, mut own) = (Peer::tcp("192.0.2.20:40000", 4), lab.ue2());
    register(&mut lab, &stream, "bob", &mut own);
    fail(&mut lab, &stream, "nobody@bsf.example.net", 12);
    let text = request("MESSAGE", BOB, "bob", "own", 1, Some(&mut own));
    assert_eq!(status_to(&lab.receive(&stream, &text), &stream), Some(403), "rule 22");
    assert_eq!(lab.closed.last(), Some(&stream.flow()));
}

/// V-91: what was over stays over, even if an embedder's wall clock jumps; sipward's own does not, see `clock`.
#[test]
fn v_91_a_clock_that_jumps_revives_nothing() {
    let hour = 3600_i64;
    for jump in [hour, -hour, -1_790_000_000] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
        to_core(&lab.receive(&alice, &message("before", Some(&mut key))));
        let (mut old, spent) = (lab.ue1(), message("spent", Some(&mut key)));
        to_core(&lab.receive(&alice, &spent));
        lab.advance(Duration::from_secs(301));
        let wall = lab.now.wall.as_unix().saturating_add_signed(jump);
        lab.now.wall = WallTime::from_unix(wall);
        let sent = lab.receive(&alice, &message("old", Some(&mut old)));
        // An hour on, the key that had less than one is over; before its time, a nonce is none of ours.
        let over = if jump == hour { Refusal::BadCredentials } else { Refusal::NonceUnknown };
        assert_eq!(lab.last(), Outcome::Refused(over), "{jump}: 300 s are over");
        assert_eq!(status_to(&sent, &alice), Some(407), "{jump}");
        let rogue = Peer::udp("192.0.2.66:5060");
        lab.receive(&rogue, &spent);
        assert_eq!(lab.last(), Outcome::Refused(over), "{jump}: a replay");
    }
}

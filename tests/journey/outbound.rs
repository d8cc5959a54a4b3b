//! Devices with several flows: which of them a request of the core takes, and what is left when they close.

use std::time::Duration;

use sipward::admission::Rate;
use sipward::forward::Destination;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::scene::{in_dialog, lines, request, respond, status_to, to_core};

/// The phone on the desk, and the one in the pocket.
const DESK: &str = "urn:uuid:00000000-0000-4000-8000-000000000001";
const POCKET: &str = "urn:uuid:00000000-0000-4000-8000-000000000002";

fn lab() -> Lab {
    let mut settings = LabSettings::default();
    settings.reg.demands.rate = Rate::per_second(1000);
    Lab::new(settings)
}

/// Registers a flow of alice's device; gives its Path. The registrar lists `others`, too.
fn register(
    lab: &mut Lab,
    peer: &Peer,
    key: &mut Signer,
    (device, reg_id): (&str, u32),
    others: &str,
) -> String {
    let call = format!("{}{reg_id}{}", &device[44..], lab.decisions.len());
    let from = peer.flow().remote;
    let contact = format!("<sip:alice@{from}>;reg-id={reg_id};+sip.instance=\"<{device}>\"");
    let text = request("REGISTER", "sip:example.net", "alice", &call, 1, Some(key))
        .replace("Contact: <sip:alice@192.0.2.10:5060>", &format!("Contact: {contact}"))
        .replace("Content-Length", "Supported: path, outbound\nContent-Length");
    let seen = to_core(&lab.receive(peer, &text)).clone();
    let granted = format!("Require: outbound\nContact: {contact};expires=600\n{others}");
    let back = lab.receive(&Peer::core(), &respond(&seen, 200, "reg", &granted));
    assert_eq!(status_to(&back, peer), Some(200));
    lines(&seen.text(), "Path: ")[0].to_owned()
}

/// A request of the core by a Path.
fn by(path: &str, method: &str, call: &str) -> String {
    format!(
        "{method} sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bK{call}{method}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>
Call-ID: {call}
CSeq: 1 {method}
Contact: <sip:bob@203.0.113.20:5060>
Route: {path}
Content-Length: 0
"
    )
}

/// Where it goes.
fn reaches(lab: &mut Lab, path: &str, call: &str) -> Result<Peer, u16> {
    let sent = lab.receive(&Peer::core(), &by(path, "MESSAGE", call));
    let sent = sent.last().expect("it is forwarded, or answered");
    match sent.message.status() {
        Some(status) => Err(status),
        None => Ok(Peer::udp(&sent.to.to_string())),
    }
}

fn remote(found: Result<Peer, u16>) -> Result<String, u16> {
    found.map(|peer| peer.flow().remote.to_string())
}

#[test]
fn when_one_flow_of_a_device_closes_the_other_one_takes_its_requests_and_430_comes_after_the_last()
{
    let (mut lab, core) = (lab(), Peer::core());
    let mut key = lab.ue1();
    let (one, two) = (Peer::tcp("192.0.2.10:41001", 1), Peer::tcp("192.0.2.10:41002", 2));
    let pocket = Peer::tcp("192.0.2.11:41003", 3);
    let by_one = register(&mut lab, &one, &mut key, (DESK, 1), "");
    let by_two = register(&mut lab, &two, &mut key, (DESK, 2), "");
    let by_pocket = register(&mut lab, &pocket, &mut key, (POCKET, 1), "");
    for (path, peer) in [(&by_one, &one), (&by_two, &two), (&by_pocket, &pocket)] {
        let found = remote(reaches(&mut lab, path, &format!("a{}", peer.flow().remote.port())));
        assert_eq!(found, Ok(peer.flow().remote.to_string()), "each token has its flow");
    }
    lab.close(&one);
    assert_eq!(remote(reaches(&mut lab, &by_one, "b1")), Ok("192.0.2.10:41002".into()), "10.5");
    assert_eq!(remote(reaches(&mut lab, &by_two, "b2")), Ok("192.0.2.10:41002".into()));
    lab.close(&two);
    for (path, call) in [(&by_one, "c1"), (&by_two, "c2")] {
        let sent = lab.receive(&core, &by(path, "MESSAGE", call));
        assert_eq!(status_to(&sent, &core), Some(430), "rule 11: not to the phone in the pocket");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::FlowGone));
    }
    assert_eq!(remote(reaches(&mut lab, &by_pocket, "d")), Ok("192.0.2.11:41003".into()));
    let three = Peer::tcp("192.0.2.10:41004", 4);
    register(&mut lab, &three, &mut key, (DESK, 1), "");
    for (path, call) in [(&by_one, "e1"), (&by_two, "e2")] {
        let found = remote(reaches(&mut lab, path, call));
        assert_eq!(found, Ok("192.0.2.10:41004".into()), "the device is back");
    }
}

/// A connection's end is told to one worker, and by that to all others.
#[test]
fn what_another_worker_sent_on_a_flow_that_closes_goes_over_the_other_flow() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (one, two) = (Peer::tcp("192.0.2.10:41001", 1), Peer::tcp("192.0.2.10:41002", 2));
    let by_one = register(&mut lab, &one, &mut key, (DESK, 1), "");
    register(&mut lab, &two, &mut key, (DESK, 2), "");
    let mut other = lab.beside(1);
    let sent = other.receive(&Peer::core(), &by(&by_one, "MESSAGE", "a"));
    assert_eq!(sent[0].to, one.flow().remote);
    let now = lab.now;
    assert!(lab.journey().closed(&one.flow(), now), "somebody had registered from it");
    assert!(!lab.journey().closed(&Peer::tcp("192.0.2.10:41009", 9).flow(), now));
    other.journey().unreachable(&Destination::Flow(one.flow()), now);
    let sent = other.advance(Duration::ZERO);
    assert_eq!(sent[0].to, two.flow().remote, "no timer has to run out");
}

#[test]
fn v_105_the_next_peer_of_a_slot_never_gets_what_was_meant_for_the_one_before() {
    let mut lab = lab();
    let (mut alice, mut bob) = (lab.ue1(), lab.ue2());
    let before = Peer::tcp("192.0.2.10:41001", 1);
    let path = register(&mut lab, &before, &mut alice, (DESK, 1), "");
    lab.close(&before);
    let after = before.clone().again();
    assert_eq!(after.flow().remote, before.flow().remote, "V-82: even from the same port");
    let text = request("REGISTER", "sip:example.net", "bob", "bob", 1, Some(&mut bob));
    let seen = to_core(&lab.receive(&after, &text)).clone();
    lab.receive(&Peer::core(), &respond(&seen, 200, "r", "Contact: <sip:bob@h>;expires=600\n"));
    assert_eq!(remote(reaches(&mut lab, &path, "a")), Err(430));
    let message = request("MESSAGE", "sip:carol@example.net", "alice", "m", 1, None);
    let sent = lab.receive(&after, &message);
    assert_eq!(status_to(&sent, &after), Some(407), "V-82: and no evidence either");
}

#[test]
fn a_device_that_comes_back_over_a_new_flow_leaves_the_old_one_and_its_other_flow_stays() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (old, new) = (Peer::udp("192.0.2.10:50001"), Peer::udp("192.0.2.10:60001"));
    let other = Peer::udp("192.0.2.10:50002");
    let by_old = register(&mut lab, &old, &mut key, (DESK, 1), "");
    let by_other = register(&mut lab, &other, &mut key, (DESK, 2), "");
    let same = register(&mut lab, &old, &mut key, (DESK, 1), "");
    assert_ne!(same, by_old, "each token is sealed anew");
    assert_eq!(remote(reaches(&mut lab, &same, "a")), Ok("192.0.2.10:50001".into()));
    let flows = lab.shared.gate.authentication.flows();
    assert_eq!(flows.registered(&old.flow(), lab.now).len(), 1);
    let by_new = register(&mut lab, &new, &mut key, (DESK, 1), "");
    for (path, call) in [(&by_old, "b1"), (&by_new, "b2")] {
        assert_eq!(remote(reaches(&mut lab, path, call)), Ok("192.0.2.10:60001".into()), "{call}");
    }
    assert_eq!(remote(reaches(&mut lab, &by_other, "b3")), Ok("192.0.2.10:50002".into()));
    let flows = lab.shared.gate.authentication.flows();
    assert!(flows.registered(&old.flow(), lab.now).is_empty(), "nobody is behind the old address");
    assert_eq!(lab.shared.bindings.len(), 3, "the old one is kept for its token alone");
}

/// RFC 5626 section 9.2: the 200 to one flow's REGISTER lists the other one with what is left of it.
#[test]
fn what_is_left_of_one_flow_does_not_end_another() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (one, two) = (Peer::tcp("192.0.2.10:41001", 1), Peer::tcp("192.0.2.10:41002", 2));
    register(&mut lab, &one, &mut key, (DESK, 1), "");
    let left = format!("Contact: <sip:alice@h>;reg-id=1;+sip.instance=\"<{DESK}>\";expires=1\n");
    let by_two = register(&mut lab, &two, &mut key, (DESK, 2), &left);
    lab.advance(Duration::from_secs(590));
    assert_eq!(remote(reaches(&mut lab, &by_two, "a")), Ok("192.0.2.10:41002".into()));
}

#[test]
fn what_is_taken_away_on_one_flow_is_gone_on_the_other() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (one, two) = (Peer::tcp("192.0.2.10:41001", 1), Peer::tcp("192.0.2.10:41002", 2));
    let by_one = register(&mut lab, &one, &mut key, (DESK, 1), "");
    let by_two = register(&mut lab, &two, &mut key, (DESK, 2), "");
    let gone = format!("<sip:alice@h>;reg-id=1;+sip.instance=\"<{DESK}>\";expires=0");
    let end = |lab: &mut Lab, key: &mut Signer, call: &str, contact: &str, more: &str| {
        let text = request("REGISTER", "sip:example.net", "alice", call, 1, Some(key))
            .replace("<sip:alice@192.0.2.10:5060>", contact)
            .replace("Content-Length", &format!("{more}Content-Length"));
        let seen = to_core(&lab.receive(&two, &text)).clone();
        lab.receive(&Peer::core(), &respond(&seen, 200, "r", ""));
    };
    end(&mut lab, &mut key, "x", &gone, "");
    assert_eq!(remote(reaches(&mut lab, &by_one, "a")), Err(430), "taken away, not closed");
    assert_eq!(remote(reaches(&mut lab, &by_two, "b")), Ok("192.0.2.10:41002".into()));
    end(&mut lab, &mut key, "y", "*", "Expires: 0\n");
    assert_eq!(remote(reaches(&mut lab, &by_two, "c")), Err(430));
    assert!(lab.shared.bindings.is_empty());
}

/// RFC 5626 section 6: without reg-id the Contact counts, and so one flow's says nothing of another's.
#[test]
fn without_a_number_a_device_takes_away_the_one_flow_it_speaks_on() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let (one, two) = (Peer::tcp("192.0.2.10:41001", 1), Peer::tcp("192.0.2.10:41002", 2));
    let say = |lab: &mut Lab, key: &mut Signer, peer: &Peer, call: &str, seconds: u32| {
        let contact = format!("<sip:alice@{}>;+sip.instance=\"<{DESK}>\"", peer.flow().remote);
        let text = request("REGISTER", "sip:example.net", "alice", call, 1, Some(key))
            .replace("<sip:alice@192.0.2.10:5060>", &format!("{contact};expires={seconds}"));
        let seen = to_core(&lab.receive(peer, &text)).clone();
        let listed = match seconds {
            0 => String::new(),
            _ => format!("Contact: {contact};expires={seconds}\n"),
        };
        lab.receive(&Peer::core(), &respond(&seen, 200, "r", &listed));
        lines(&seen.text(), "Path: ")[0].to_owned()
    };
    let by_one = say(&mut lab, &mut key, &one, "a", 600);
    let by_two = say(&mut lab, &mut key, &two, "b", 600);
    assert_eq!(remote(reaches(&mut lab, &by_one, "c")), Ok("192.0.2.10:41001".into()));
    say(&mut lab, &mut key, &one, "d", 0);
    assert_eq!(remote(reaches(&mut lab, &by_one, "e")), Err(430));
    assert_eq!(remote(reaches(&mut lab, &by_two, "f")), Ok("192.0.2.10:41002".into()));
    assert_eq!(lab.shared.bindings.len(), 1);
}

/// 10.5: each flow of a device is an anchor of its dialogs.
#[test]
fn a_call_goes_on_over_the_other_flow_of_its_device() {
    let (mut lab, core) = (lab(), Peer::core());
    let mut key = lab.ue1();
    let (one, two) = (Peer::tcp("192.0.2.10:41001", 1), Peer::tcp("192.0.2.10:41002", 2));
    let pocket = Peer::tcp("192.0.2.11:41003", 3);
    let by_one = register(&mut lab, &one, &mut key, (DESK, 1), "");
    register(&mut lab, &two, &mut key, (DESK, 2), "");
    register(&mut lab, &pocket, &mut key, (POCKET, 1), "");
    let sent = lab.receive(&core, &by(&by_one, "INVITE", "call"));
    let invite = sent.iter().find(|sent| sent.to == one.flow().remote).expect("to the phone");
    let answer = respond(invite, 200, "a", "Contact: <sip:alice@192.0.2.10:41001>\n");
    assert_eq!(status_to(&lab.receive(&one, &answer), &core), Some(200));
    let inside = |method: &str, number: u32| {
        by("<sip:edge.example.net:5060;lr>", method, "call")
            .replace("To: <sip:alice@example.net>", "To: <sip:alice@example.net>;tag=a")
            .replace("CSeq: 1 ", &format!("CSeq: {number} "))
            .replace("bKcall", &format!("bKcall{number}"))
    };
    let to = |sent: &[Sent]| sent.last().map(|sent| sent.to);
    assert_eq!(to(&lab.receive(&core, &inside("ACK", 1))), Some(one.flow().remote));
    assert_eq!(to(&lab.receive(&core, &inside("INFO", 2))), Some(one.flow().remote));
    lab.close(&one);
    assert_eq!(to(&lab.receive(&core, &inside("INFO", 3))), Some(two.flow().remote));
    let bye = in_dialog("BYE", "sip:bob@203.0.113.20:5060", "alice", "b", "call", 1, None, "")
        .replace("From: <sip:alice@example.net>;tag=alice", "From: <sip:alice@example.net>;tag=a");
    let sent = lab.receive(&two, &bye);
    assert_eq!(status_to(&sent, &two), Some(407), "rule 3: the flow alone proves nothing");
    lab.close(&two);
    let sent = lab.receive(&core, &inside("BYE", 4));
    assert_eq!(status_to(&sent, &core), Some(430), "and never to another device");
}

/// KA-03 on UDP, and PX-06: the dialog belongs to the flow that took the request in the end.
#[test]
fn a_flow_that_does_not_ping_gets_one_try_and_a_flow_that_answers_430_gives_way() {
    let (mut lab, core) = (lab(), Peer::core());
    let mut key = lab.ue1();
    let (one, two) = (Peer::udp("192.0.2.10:50001"), Peer::tcp("192.0.2.10:41002", 2));
    let by_one = register(&mut lab, &one, &mut key, (DESK, 1), "");
    let ping = |lab: &mut Lab| {
        let now = lab.now;
        lab.journey().pinged(&one.flow(), now);
    };
    lab.advance(Duration::from_secs(40));
    ping(&mut lab);
    lab.advance(Duration::from_secs(43));
    assert_eq!(remote(reaches(&mut lab, &by_one, "a")), Ok("192.0.2.10:50001".into()));
    lab.advance(Duration::from_secs(1));
    let sent = lab.receive(&core, &by(&by_one, "MESSAGE", "try"));
    assert_eq!(sent[0].to, one.flow().remote, "in doubt: tried once");
    assert_eq!(remote(reaches(&mut lab, &by_one, "b")), Err(430), "and not a second time");
    let answer = respond(&sent[0], 200, "a", "");
    assert_eq!(status_to(&lab.receive(&one, &answer), &core), Some(200));
    assert_eq!(remote(reaches(&mut lab, &by_one, "c")), Ok("192.0.2.10:50001".into()), "it lives");
    lab.advance(Duration::from_secs(60));
    assert!(reaches(&mut lab, &by_one, "d").is_ok(), "in doubt again");
    assert_eq!(remote(reaches(&mut lab, &by_one, "e")), Err(430));
    ping(&mut lab);
    assert_eq!(remote(reaches(&mut lab, &by_one, "f")), Ok("192.0.2.10:50001".into()));

    register(&mut lab, &two, &mut key, (DESK, 2), "");
    let sent = lab.receive(&core, &by(&by_one, "INVITE", "call"));
    let first = sent.iter().find(|sent| sent.to == one.flow().remote).expect("the first flow");
    let sent = lab.receive(&one, &respond(first, 430, "", ""));
    let second = sent.iter().find(|sent| sent.to == two.flow().remote).expect("the second flow");
    let answer = respond(second, 200, "a", "Contact: <sip:alice@192.0.2.10:41002>\n");
    assert_eq!(status_to(&lab.receive(&two, &answer), &core), Some(200));
    let info = by("<sip:edge.example.net:5060;lr>", "INFO", "call")
        .replace("To: <sip:alice@example.net>", "To: <sip:alice@example.net>;tag=a")
        .replace("CSeq: 1 ", "CSeq: 2 ");
    let sent = lab.receive(&core, &info);
    assert_eq!(sent[0].to, two.flow().remote, "the dialog is where it was answered");
}

#[test]
fn a_stream_is_held_to_its_pings_while_something_is_registered_on_it() {
    let mut lab = lab();
    let mut key = lab.ue1();
    let peer = Peer::tls("192.0.2.10:41001", 1);
    register(&mut lab, &peer, &mut key, (DESK, 1), "");
    let hold = lab.holds.pop().expect("the connection is held");
    let (silence, until) = hold.silence.expect("to its pings");
    assert_eq!((hold.flow, silence), (peer.flow(), Duration::from_secs(180)), "1.5 * 120 s");
    assert_eq!(until.since(lab.now.mono), Duration::from_secs(630));
    let text = request("REGISTER", "sip:example.net", "alice", "end", 1, Some(&mut key)).replace(
        "<sip:alice@192.0.2.10:5060>",
        &format!("<sip:alice@h>;reg-id=1;+sip.instance=\"<{DESK}>\";expires=0"),
    );
    let seen = to_core(&lab.receive(&peer, &text)).clone();
    lab.receive(&Peer::core(), &respond(&seen, 200, "r", ""));
    assert_eq!(lab.holds.pop().map(|hold| hold.silence), Some(None), "and no longer");
}

/// OB-02, from the side of who would like to reach another UE without the core.
#[test]
fn the_token_of_another_flow_opens_no_way_from_ue_to_ue() {
    let mut lab = lab();
    let (mut alice, mut bob) = (lab.ue1(), lab.ue2());
    let (desk, rogue) = (Peer::udp("192.0.2.10:50001"), Peer::udp("192.0.2.66:50002"));
    let path = register(&mut lab, &desk, &mut alice, (DESK, 1), "");
    let text = |key: &mut Signer, from: &str, call: &str| {
        request("MESSAGE", "sip:alice@example.net", from, call, 1, Some(key))
            .replace("Contact:", &format!("Route: {path}\nContact:"))
    };
    let sent = lab.receive(&rogue, &text(&mut bob, "bob", "a"));
    assert_eq!(status_to(&sent, &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TokenForged), "rule 10");
    let sent = lab.receive(&desk, &text(&mut alice, "alice", "b"));
    assert_eq!(to_core(&sent).text().matches("Route:").count(), 0, "its own: outgoing");
    lab.close(&desk);
    let moved = Peer::udp("192.0.2.10:50003");
    let sent = lab.receive(&moved, &text(&mut alice, "alice", "c"));
    assert_eq!(
        to_core(&sent).text().matches("Route:").count(),
        0,
        "whose flow is gone: as if absent"
    );
}

/// RFC 5626 section 11.5: a 430 is for the registrar's proxy. From a core that passes it on it goes no further.
#[test]
fn no_phone_is_told_430() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    let invite = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &invite)).clone();
    let sent = lab.receive(&Peer::core(), &respond(&invite, 430, "b", ""));
    assert_eq!(status_to(&sent, &alice), Some(480), "rule 11: never towards a UE");
    lab.advance(Duration::from_secs(40));
    assert_eq!(lab.shared.gate.associations.footprint(), 0);
}

//! Sections 4 and 5 of the edge's checklist, as far as the transaction machines carry them: TX-01 to TX-08, PX-14, PX-15.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use sipward::forward::timers::Timings;
use sipward::forward::transaction::{
    Client, ClientInput, ClientInvite, ClientOutput, Keys, Server, ServerInput, ServerInvite,
    client_invite,
};
use sipward::transport::Transport::{self, Tcp, Tls, Udp};
use sipward::transport::{ConnectionId, Flow, ListenerId};
use sipward::wire::Message;

use crate::sip_edge_tx_link::{
    ClientBench, ClientMachine, ServerBench, ServerMachine, at, log, request, response,
};

/// TX-01: everything but D's floor scales with T1.
#[test]
fn tx_01_timers_scale_with_t1() {
    let milli = Duration::from_millis;
    let quick = Timings::new(milli(50), milli(400), milli(500)).expect("sound");
    let mut bench = ClientBench::<ClientInvite>::with("INVITE", Udp, quick);
    bench.until(90_000);
    let times: Vec<_> = bench.log.iter().map(|(when, _)| *when).collect();
    assert_eq!(times, [0, 50, 150, 350, 750, 1550, 3150, 3200, 3200]);
    let mut bench = ClientBench::<ClientInvite>::with("INVITE", Udp, quick);
    bench.respond(404).until(90_000);
    assert_eq!(bench.log.last(), log(&[(32_000, "terminated")]).last());
}

/// PX-14: Timer C, set by the first 1xx and again by 101 to 199 but not by 100; then CANCEL and 64*T1 for the answer.
#[test]
fn px_14_timer_c_cancels() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.respond(100).until(100_000).respond(100).until(184_999);
    bench.log.clear();
    bench.until(185_000);
    assert_eq!(bench.log, log(&[(185_000, "cancel with CANCEL")]));
    bench.until(300_000);
    let end = [(217_000, "timeout"), (217_000, "terminated")];
    assert_eq!(bench.log[1..], log(&end));

    let mut ringing = ClientBench::<ClientInvite>::new("INVITE", Tcp);
    for minute in 0..60 {
        ringing.until(minute * 60_000).respond(180);
    }
    ringing.log.clear();
    ringing.until(59 * 60_000 + 185_000);
    assert_eq!(ringing.log, log(&[(59 * 60_000 + 185_000, "cancel with CANCEL")]));
}

/// PX-14: without any provisional response Timer B comes first, and there is no CANCEL.
#[test]
fn px_14_no_cancel_without_provisional() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Tcp);
    bench.cancel().until(500_000);
    let expected = [(0, "send INVITE"), (32_000, "timeout"), (32_000, "terminated")];
    assert_eq!(bench.log, log(&expected));
}

/// PX-15: CANCEL goes downstream once, and not before a provisional response came; the 487 is acknowledged.
#[test]
fn px_15_cancel_waits_for_a_provisional_response() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.until(100).cancel().until(700).respond(100).cancel();
    bench.until(800).respond(180).cancel().until(900).respond(487);
    let expected = [
        (0, "send INVITE"),
        (500, "send INVITE"),
        (700, "provisional 100"),
        (700, "cancel with CANCEL"),
        (800, "provisional 180"),
        (900, "send ACK"),
        (900, "final 487"),
    ];
    assert_eq!(bench.log, log(&expected));
}

/// PX-15: CANCEL and 2xx cross: the call stands, the 2xx goes to the user.
#[test]
fn px_15_cancel_crosses_2xx() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.respond(180).cancel().respond(200);
    assert_eq!(bench.machine.state(), client_invite::State::Accepted);
    let mut late = ClientBench::<ClientInvite>::new("INVITE", Udp);
    late.respond(200);
    late.log.clear();
    late.cancel();
    assert_eq!(late.log, log(&[]), "after a final response there is nothing to cancel");
}

/// PX-15: a peer that rings on after CANCEL does not win more than 64*T1.
#[test]
fn px_15_ringing_after_cancel_ends() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.respond(180).cancel();
    for second in 1..32 {
        bench.until(second * 1000).respond(180);
    }
    bench.until(90_000);
    let end = bench.log.split_off(bench.log.len() - 2);
    assert_eq!(end, log(&[(32_000, "timeout"), (32_000, "terminated")]));
}

/// TX-06: a retransmitted INVITE before the 200 ms are over makes the 100 due at once.
#[test]
fn tx_06_retransmission_hastens_100() {
    let mut bench = ServerBench::<ServerInvite>::new(Udp);
    bench.until(20).again().respond(100).until(1000);
    assert_eq!(bench.log, log(&[(20, "100 due"), (20, "send 100")]));
}

fn flow(transport: Transport, slot: u32) -> Flow {
    let connection = transport.is_reliable().then_some(ConnectionId { slot, generation: 0 });
    let remote = "192.0.2.1:5060".parse().expect("an address");
    Flow { transport, listener: ListenerId(0), remote, connection }
}

fn message(start: &str, via: &str, cseq: &str) -> Message {
    let octets = format!(
        "{start}\r\nVia: SIP/2.0/{via}\r\nFrom: <sip:a@b>;tag=F\r\nTo: <sip:c@d>\r\n\
         Call-ID: i\r\nCSeq: {cseq}\r\n\r\n"
    );
    Message::from_datagram(octets.into()).expect("well formed")
}

/// TX-07: what matches an INVITE transaction and what does not (RFC 3261 section 17.2.3).
#[test]
fn tx_07_matching_of_requests() {
    let keys = Keys::new(&[7; 16]);
    let via = "UDP ua.example:5070;branch=z9hG4bKaB";
    let invite = message("INVITE sip:c@d SIP/2.0", via, "1 INVITE");
    let key = keys.server(&invite, &flow(Udp, 0)).expect("a key");
    for (what, start, via, cseq, same) in [
        ("again", "INVITE sip:c@d SIP/2.0", via, "1 INVITE", true),
        ("ACK", "ACK sip:c@d SIP/2.0", via, "1 ACK", true),
        ("other URI", "INVITE sip:x@y SIP/2.0", via, "1 INVITE", true),
        (
            "case of names",
            "INVITE sip:c@d SIP/2.0",
            "UDP UA.EXAMPLE:5070;rport;BRANCH=z9HG4BKab",
            "1 INVITE",
            true,
        ),
        ("CANCEL", "CANCEL sip:c@d SIP/2.0", via, "1 CANCEL", false),
        ("BYE", "BYE sip:c@d SIP/2.0", via, "1 BYE", false),
        (
            "other branch",
            "INVITE sip:c@d SIP/2.0",
            "UDP ua.example:5070;branch=z9hG4bKaBc",
            "1 INVITE",
            false,
        ),
        (
            "other port",
            "INVITE sip:c@d SIP/2.0",
            "UDP ua.example:5071;branch=z9hG4bKaB",
            "1 INVITE",
            false,
        ),
        ("no port", "INVITE sip:c@d SIP/2.0", "UDP ua.example;branch=z9hG4bKaB", "1 INVITE", false),
        (
            "other host",
            "INVITE sip:c@d SIP/2.0",
            "UDP ub.example:5070;branch=z9hG4bKaB",
            "1 INVITE",
            false,
        ),
    ] {
        let other = keys.server(&message(start, via, cseq), &flow(Udp, 0));
        assert_eq!(other == Some(key), same, "{what}");
        assert!(other.is_some(), "{what}");
    }
    assert_ne!(Keys::new(&[8; 16]).server(&invite, &flow(Udp, 0)), Some(key), "keyed");
}

/// TX-07: parts do not run into each other.
#[test]
fn tx_07_parts_are_apart() {
    let keys = Keys::new(&[7; 16]);
    let one = message("X sip:c@d SIP/2.0", "UDP a;branch=z9hG4bKbc", "1 X");
    let two = message("X sip:c@d SIP/2.0", "UDP ca;branch=z9hG4bKb", "1 X");
    assert_ne!(keys.server(&one, &flow(Udp, 0)), keys.server(&two, &flow(Udp, 0)));
    assert_ne!(keys.client(b"ab", b"c"), keys.client(b"a", b"bc"));
}

/// TX-07: on reliable transports a branch on another connection is another transaction; ACK and CANCEL find their
/// INVITE from there all the same, to be judged.
#[test]
fn tx_07_flow_belongs_to_reliable_transactions() {
    let keys = Keys::new(&[7; 16]);
    let via = "TLS ua.example;branch=z9hG4bKx";
    let invite = message("INVITE sip:c@d SIP/2.0", via, "1 INVITE");
    let ack = message("ACK sip:c@d SIP/2.0", via, "1 ACK");
    let cancel = message("CANCEL sip:c@d SIP/2.0", via, "1 CANCEL");
    for (transport, apart) in [(Tcp, true), (Tls, true), (Udp, false)] {
        let (here, there) = (flow(transport, 1), flow(transport, 2));
        let key = |flow| keys.server(&invite, flow);
        assert_eq!(key(&here) != key(&there), apart, "{transport:?}");
        assert_eq!(keys.server(&ack, &here), key(&here));
        assert_eq!(keys.target(&cancel, b"INVITE", Some(&here)), key(&here));
        let anywhere = keys.target(&invite, b"INVITE", None);
        for request in [&ack, &cancel] {
            assert_eq!(keys.target(request, b"INVITE", None), anywhere, "{transport:?}");
        }
        assert_eq!(anywhere == key(&here), !apart, "{transport:?}");
    }
    assert_ne!(keys.target(&cancel, b"SUBSCRIBE", None), keys.target(&cancel, b"INVITE", None));
}

/// TX-08: a branch without cookie has no key, but by the second procedure of section 17.2.3.
#[test]
fn tx_08_branch_without_cookie() {
    let keys = Keys::new(&[7; 16]);
    for branch in ["", ";branch=1", ";branch=z9hG4bK", ";branch=z9hG4b1"] {
        let via = format!("UDP ua.example{branch}");
        let invite = message("INVITE sip:c@d SIP/2.0", &via, "1 INVITE");
        assert_eq!(keys.server(&invite, &flow(Udp, 0)), None, "{branch}");
        let old = |start: &str, via: &str, cseq: &str| {
            keys.server_old(&message(start, via, cseq), &flow(Udp, 0)).expect("a key")
        };
        let key = old("INVITE sip:c@d SIP/2.0", &via, "1 INVITE");
        for (what, start, via, cseq, same) in [
            ("again", "INVITE sip:c@d SIP/2.0", via.as_str(), "1 INVITE", true),
            ("ACK", "ACK sip:c@d SIP/2.0", &via, "1 ACK", true),
            ("other URI", "INVITE sip:c@e SIP/2.0", &via, "1 INVITE", false),
            ("other number", "INVITE sip:c@d SIP/2.0", &via, "2 INVITE", false),
            ("other Via", "INVITE sip:c@d SIP/2.0", "UDP ub.example", "1 INVITE", false),
            ("other method", "BYE sip:c@d SIP/2.0", &via, "1 BYE", false),
        ] {
            assert_eq!(old(start, via, cseq) == key, same, "{what}");
        }
        let cancel = message("CANCEL sip:c@d SIP/2.0", &via, "1 CANCEL");
        assert_eq!(keys.target_old(&cancel, b"INVITE", Some(&flow(Udp, 0))), Some(key));
    }
}

/// RFC 3261 section 17.1.3: branch and method of CSeq name the client transaction.
#[test]
fn responses_match_by_branch_and_method() {
    let keys = Keys::new(&[7; 16]);
    let key = keys.client(b"z9hG4bK1", b"INVITE");
    let find = |via: &str, cseq: &str| keys.client_of(&message("SIP/2.0 200 OK", via, cseq));
    assert_eq!(find("UDP edge;branch=z9hG4bK1", "7 INVITE"), Some(key));
    assert_eq!(find("TCP other;branch=z9hG4bK1", "8 INVITE"), Some(key));
    assert_ne!(find("UDP edge;branch=z9hG4bK1", "7 CANCEL"), Some(key));
    assert_ne!(find("UDP edge;branch=z9hG4bK2", "7 INVITE"), Some(key));
}

/// What a machine keeps while it lingers: itself, and the one message it may have to repeat.
#[test]
fn lingering_transactions_are_small() {
    assert!(size_of::<Client>() <= 256 && size_of::<ClientInvite>() <= 256);
    assert!(size_of::<Server>() <= 256 && size_of::<ServerInvite>() <= 256);
    for (status, transport) in [(200, Udp), (486, Udp), (200, Tcp), (486, Tcp)] {
        let octets = request("INVITE");
        let mut invite = ClientInvite::new(octets.clone(), transport, Timings::default(), at(0));
        drop(invite.poll_output());
        assert!(!octets.is_unique(), "kept while ACK and CANCEL may be made of it");
        invite.handle(ClientInput::Response(&response(status, "INVITE")), at(1));
        assert!(octets.is_unique(), "{status} over {transport:?}: the INVITE is still kept");
    }
    for (transport, kept) in [(Udp, true), (Tcp, false)] {
        let octets = request("MESSAGE");
        let mut client = Client::new(octets.clone(), transport, Timings::default(), at(0));
        drop(client.poll_output());
        assert_eq!(!octets.is_unique(), kept, "{transport:?}");
        client.handle(ClientInput::Response(&response(200, "MESSAGE")), at(1));
        assert!(octets.is_unique(), "{transport:?}: the request is still kept");
    }
    for (status, then_ack) in [(200, false), (486, true)] {
        let octets = response(status, "INVITE").octets().clone();
        let mut server = ServerInvite::new(Udp, Timings::default(), at(0));
        server.handle(ServerInput::Respond { status, octets: octets.clone() }, at(1));
        while server.poll_output().is_some() {}
        if then_ack {
            server.handle(ServerInput::Ack, at(2));
        }
        assert!(octets.is_unique(), "{status}: the response is still kept");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Respond(u16),
    Again,
    Ack,
    Cancel,
    Fail,
    Timeout,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop_oneof![Just(100), 101..200_u16, 200..300_u16, 300..700_u16, any::<u16>()];
    let step = prop_oneof![
        4 => status.prop_map(Step::Respond),
        2 => Just(Step::Again),
        2 => Just(Step::Ack),
        2 => Just(Step::Cancel),
        1 => Just(Step::Fail),
        1 => Just(Step::Timeout),
        4 => prop_oneof![0..600_u64, 0..40_000_u64, 0..400_000_u64].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..40)
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Udp), Just(Tcp), Just(Tls)]
}

/// Drains a machine; says whether it terminated, and that this was its last word.
fn drained<O: PartialEq + std::fmt::Debug>(mut next: impl FnMut() -> Option<O>, over: &O) -> bool {
    let outputs: Vec<O> = std::iter::from_fn(&mut next).take(10).collect();
    assert!(outputs.len() <= 4, "{outputs:?}");
    let at = outputs.iter().position(|output| output == over);
    assert!(at.is_none_or(|at| at + 1 == outputs.len()), "{outputs:?}");
    at.is_some()
}

fn client_ends<M: ClientMachine>(method: &str, transport: Transport, steps: &[Step]) {
    let mut machine = M::start(request(method), transport, Timings::default(), at(0));
    let (mut now, mut over) = (0, false);
    let mut take = |machine: &mut M, input: ClientInput<'_>, now| {
        machine.take(input, at(now));
        let ended = drained(|| machine.output(), &ClientOutput::Terminated);
        assert!(!(over && ended), "terminated twice");
        over |= ended;
        assert_eq!(machine.timeout().is_none(), over, "a timer runs exactly while it lives");
    };
    drained(|| machine.output(), &ClientOutput::Terminated);
    for step in steps {
        match step {
            Step::Respond(status) if (100..700).contains(status) => {
                take(&mut machine, ClientInput::Response(&response(*status, method)), now);
            }
            Step::Cancel => take(&mut machine, ClientInput::Cancel, now),
            Step::Fail => take(&mut machine, ClientInput::TransportFailed, now),
            Step::Timeout => take(&mut machine, ClientInput::Timeout, now),
            Step::Wait(length) => now += length,
            Step::Respond(_) | Step::Again | Step::Ack => {}
        }
    }
    for _ in 0..100 {
        let Some(due) = machine.timeout() else { return };
        now = now.max(due.as_micros() / 1000);
        take(&mut machine, ClientInput::Timeout, now);
    }
    panic!("it does not end");
}

fn server_ends<M: ServerMachine>(transport: Transport, steps: &[Step]) {
    use sipward::forward::transaction::ServerOutput::Terminated;
    let mut machine = M::start(transport, Timings::default(), at(0));
    let (mut now, mut over) = (0, false);
    let mut take = |machine: &mut M, input: ServerInput, now| {
        machine.take(input, at(now));
        let ended = drained(|| machine.output(), &Terminated);
        assert!(!(over && ended), "terminated twice");
        over |= ended;
        assert_eq!(machine.timeout().is_none(), over, "a timer runs exactly while it lives");
    };
    for step in steps {
        match step {
            Step::Respond(status) => {
                let octets = Bytes::from_static(b"SIP/2.0 response");
                take(&mut machine, ServerInput::Respond { status: *status, octets }, now);
            }
            Step::Again => take(&mut machine, ServerInput::Retransmission, now),
            Step::Ack => take(&mut machine, ServerInput::Ack, now),
            Step::Fail => take(&mut machine, ServerInput::TransportFailed, now),
            Step::Timeout => take(&mut machine, ServerInput::Timeout, now),
            Step::Wait(length) => now += length,
            Step::Cancel => {}
        }
    }
    for _ in 0..100 {
        let Some(due) = machine.timeout() else { return };
        now = now.max(due.as_micros() / 1000);
        take(&mut machine, ServerInput::Timeout, now);
    }
    panic!("it does not end");
}

proptest! {
    /// Whatever a machine is told, it does not panic, says at most four things at once, and ends once.
    #[test]
    fn machines_end_whatever_they_are_told(transport in transport(), steps in steps()) {
        client_ends::<Client>("MESSAGE", transport, &steps);
        client_ends::<ClientInvite>("INVITE", transport, &steps);
        server_ends::<Server>(transport, &steps);
        server_ends::<ServerInvite>(transport, &steps);
    }
}

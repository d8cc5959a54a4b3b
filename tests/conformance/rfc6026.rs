//! RFC 6026: 2xx to INVITE, the Accepted states, timers L and M, transport errors at the server.

use sipward::forward::transaction::{ClientInvite, Server, ServerInvite};
use sipward::forward::transaction::{client_invite, server_invite};
use sipward::transport::Transport::{Tcp, Udp};

use crate::sip_edge_tx_link::{ClientBench, Link, ServerBench, log, over_the_link};

/// 7.1: a 2xx leads to Accepted; INVITEs are absorbed there, ACKs go to the user; Timer L ends it, on any transport.
#[test]
fn server_accepted_until_timer_l() {
    for transport in [Udp, Tcp] {
        for status in [200, 202, 299] {
            let mut bench = ServerBench::<ServerInvite>::new(transport);
            bench.until(100).respond(180).respond(status);
            assert_eq!(bench.machine.state(), server_invite::State::Accepted);
            bench.log.clear();
            bench.until(600).again().until(700).ack().ack().again().until(90_000);
            let expected = [(700, "ack"), (700, "ack"), (32_100, "terminated")];
            assert_eq!(bench.log, log(&expected), "{transport:?} {status}");
        }
    }
}

/// 7.1: the machine repeats no 2xx; each one of the user's is sent, and nothing else of his.
#[test]
fn server_accepted_sends_the_users_2xx() {
    let mut bench = ServerBench::<ServerInvite>::new(Udp);
    bench.respond(200).until(500).respond(200).respond(180).respond(486).until(1500);
    bench.respond(200).until(31_999);
    assert_eq!(bench.log, log(&[(0, "send 200"), (500, "send 200"), (1500, "send 200")]));
}

/// 7.1, 8.8: a transport error leaves a server transaction in its state; repetitions are absorbed as before.
#[test]
fn server_survives_a_transport_error() {
    for (answer, then) in [
        (None, None),
        (Some(180), Some("send 180")),
        (Some(200), None),
        (Some(486), Some("send 486")),
    ] {
        let mut bench = ServerBench::<ServerInvite>::new(Tcp);
        bench.respond(100);
        if let Some(answer) = answer {
            bench.respond(answer);
        }
        let before = bench.machine.state();
        bench.log.clear();
        bench.fail().again();
        let then = if answer.is_none() { Some("send 100") } else { then };
        let expected: Vec<_> =
            [Some((0, "failed")), then.map(|then| (0, then))].into_iter().flatten().collect();
        assert_eq!(bench.log, log(&expected), "{answer:?}");
        assert_eq!(bench.machine.state(), before, "{answer:?}");
    }
    let mut other = ServerBench::<Server>::new(Udp);
    other.respond(200).fail().again();
    assert_eq!(other.log, log(&[(0, "send 200"), (0, "failed"), (0, "send 200")]));
}

/// 7.2: every 2xx goes to the user until Timer M; the machine sends no ACK to any.
#[test]
fn client_accepted_until_timer_m() {
    for transport in [Udp, Tcp] {
        for before in [None, Some(180)] {
            let mut bench = ClientBench::<ClientInvite>::new("INVITE", transport);
            bench.until(100);
            if let Some(before) = before {
                bench.respond(before);
            }
            bench.log.clear();
            bench.respond(200);
            assert_eq!(bench.machine.state(), client_invite::State::Accepted);
            bench.until(600).respond(200).until(20_000).respond(202).until(90_000);
            let expected = [
                (100, "final 200"),
                (600, "final 200"),
                (20_000, "final 202"),
                (32_100, "terminated"),
            ];
            assert_eq!(bench.log, log(&expected), "{transport:?} {before:?}");
        }
    }
}

/// Figure 5 of section 8.4: nothing but 2xx means anything in Accepted.
#[test]
fn client_accepted_drops_the_rest() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.respond(200);
    bench.log.clear();
    bench.respond(180).respond(486).respond(603).cancel().fail();
    assert_eq!(bench.log, log(&[]));
    assert_eq!(bench.machine.state(), client_invite::State::Accepted);
}

/// 7.2 and 7.3: once Timer M has fired a 2xx finds no machine: it is not forwarded.
#[test]
fn a_late_2xx_is_nobodys() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.respond(200).until(32_000);
    assert_eq!(bench.machine.state(), client_invite::State::Terminated);
    bench.log.clear();
    bench.respond(200).until(200_000);
    assert_eq!(bench.log, log(&[]));
}

/// A call that is answered, over links that lose up to three in ten messages: the INVITE reaches the user once, however often it is
/// repeated after the answer; all that was heard is 2xx in the end; each ACK that arrives in time is the user's.
#[test]
fn calls_are_answered_over_a_bad_link() {
    // As a UAS repeats its 2xx: at T1, doubling up to T2, for 64*T1 (RFC 3261 section 13.3.1.4).
    let answers = [5000, 5500, 6500, 8500, 12_500, 16_500, 20_500, 24_500, 28_500, 32_500];
    let answers: Vec<_> = answers.map(|when| (when, 200)).into_iter().collect();
    for seed in 0..150 {
        for loss in [0, 10, 20, 30] {
            let mut link = Link::new(seed, loss);
            let call =
                over_the_link::<ClientInvite, ServerInvite>("INVITE", Udp, &mut link, &answers);
            assert_eq!(call.requests_heard, 1, "seed {seed}, loss {loss}");
            assert_eq!(call.client_heard.last(), Some(&200), "seed {seed}, loss {loss}");
            assert!(call.acks_heard > 0, "seed {seed}, loss {loss}");
            assert_eq!((call.client_timeouts, call.server_timeouts), (0, 0), "seed {seed}");
        }
    }
}

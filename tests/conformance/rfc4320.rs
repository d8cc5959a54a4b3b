//! RFC 4320: 100, and no 408, to requests that are not INVITE.

use sipward::forward::transaction::{Client, Server, server};
use sipward::transport::Transport::{Tcp, Tls, Udp};

use crate::sip_edge_tx_link::{Link, ServerBench, log, over_the_link};

/// 4.1: no provisional response but 100, over any transport.
#[test]
fn no_provisional_response_but_100() {
    for transport in [Udp, Tcp, Tls] {
        for status in [101, 180, 183, 199] {
            let mut bench = ServerBench::<Server>::new(transport);
            bench.until(3600);
            bench.log.clear();
            bench.respond(status).again();
            assert_eq!(bench.log, log(&[]), "{transport:?} {status}");
            assert_eq!(bench.machine.state(), server::State::Trying);
        }
    }
}

/// 4.1: over unreliable transports no 100 before Timer E would be set to T2, 3.5 s.
#[test]
fn no_early_100_over_udp() {
    let mut bench = ServerBench::<Server>::new(Udp);
    bench.respond(100).until(3499).respond(100).again();
    assert_eq!(bench.log, log(&[]));
    bench.until(3500).respond(100).until(3600).again();
    assert_eq!(bench.log, log(&[(3500, "100 due"), (3500, "send 100"), (3600, "send 100")]));
}

/// 4.1: over reliable transports a 100 may be sent at any time.
#[test]
fn a_100_over_tcp_may_be_early() {
    let mut bench = ServerBench::<Server>::new(Tcp);
    bench.until(1).respond(100).until(20_000);
    assert_eq!(bench.log, log(&[(1, "send 100")]));
}

/// 4.1: a 100 is due after 3.5 s over every transport, unless something was answered.
#[test]
fn a_100_is_due_over_every_transport() {
    for transport in [Udp, Tcp, Tls] {
        let mut bench = ServerBench::<Server>::new(transport);
        bench.until(20_000);
        assert_eq!(bench.log, log(&[(3500, "100 due")]), "{transport:?}");
    }
    let mut answered = ServerBench::<Server>::new(Udp);
    answered.until(3499).respond(200).until(20_000);
    assert_eq!(answered.log, log(&[(3499, "send 200")]));
}

/// 4.2: no 408, whenever the user gives one.
#[test]
fn never_408() {
    for transport in [Udp, Tcp] {
        for when in [0, 3500, 31_999] {
            let mut bench = ServerBench::<Server>::new(transport);
            bench.until(when);
            bench.log.clear();
            bench.respond(408).again();
            assert_eq!(bench.log, log(&[]), "{transport:?} at {when}");
        }
    }
}

/// 4.2: who cannot answer before the transaction expires does not answer at all.
#[test]
fn no_late_final_response() {
    let mut bench = ServerBench::<Server>::new(Udp);
    bench.until(31_999);
    bench.log.clear();
    bench.until(32_000).respond(200).again().until(90_000);
    assert_eq!(bench.log, log(&[(32_000, "timeout"), (32_000, "terminated")]));
}

/// Section 3's trouble, cured: a slow answer over a good link ends in that answer, a slower one in silence; requests
/// thin out to one in T2.
#[test]
fn slow_answers() {
    for (after, heard) in [(3400, &[200][..]), (20_000, &[100, 200]), (33_000, &[100])] {
        let mut link = Link::good();
        let slow = over_the_link::<Client, Server>("OPTIONS", Udp, &mut link, &[(after, 200)]);
        let mut distinct = slow.client_heard.clone();
        distinct.dedup();
        assert_eq!(distinct, heard, "answer after {after} ms");
        assert_eq!(slow.client_timeouts, u32::from(after > 32_000), "answer after {after} ms");
    }
}

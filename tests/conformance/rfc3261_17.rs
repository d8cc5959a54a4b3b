//! RFC 3261 section 17, transactions: figures 5 to 8, timers A to K, matching.

use bytes::Bytes;
use sipward::forward::transaction::client_invite::{ack_of, cancel_of};
use sipward::forward::transaction::{Client, ClientInvite, Server, ServerInvite, client};
use sipward::forward::transaction::{client_invite, server, server_invite};
use sipward::transport::Transport::{Tcp, Tls, Udp};
use sipward::wire::Message;

use crate::sip_edge_tx_link::{ClientBench, Link, ServerBench, log, over_the_link};

/// 17.1.1.2: A doubles from T1; B ends it after 64*T1 with seven INVITEs sent.
#[test]
fn timer_a_doubles_until_timer_b() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.until(100_000);
    let sent = [0, 500, 1500, 3500, 7500, 15_500, 31_500].map(|when| (when, "send INVITE"));
    let end = [(32_000, "timeout"), (32_000, "terminated")];
    assert_eq!(bench.log, log(&[&sent[..], &end].concat()));
}

/// 17.1.1.2: no Timer A on a reliable transport, Timer B on any.
#[test]
fn timer_a_is_not_set_on_reliable_transports() {
    for transport in [Tcp, Tls] {
        let mut bench = ClientBench::<ClientInvite>::new("INVITE", transport);
        bench.until(100_000);
        let expected = [(0, "send INVITE"), (32_000, "timeout"), (32_000, "terminated")];
        assert_eq!(bench.log, log(&expected), "{transport:?}");
    }
}

/// Figure 5, Calling and Proceeding on 1xx: to the user, no more INVITEs, no Timer B.
#[test]
fn figure_5_1xx() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.until(600).respond(100);
    assert_eq!(bench.machine.state(), client_invite::State::Proceeding);
    bench.until(40_000).respond(180).until(41_000).respond(183);
    let expected = [
        (0, "send INVITE"),
        (500, "send INVITE"),
        (600, "provisional 100"),
        (40_000, "provisional 180"),
        (41_000, "provisional 183"),
    ];
    assert_eq!(bench.log, log(&expected));
}

/// Figure 5, 300 to 699 in Calling and in Proceeding: ACK, to the user, Completed.
#[test]
fn figure_5_300_699() {
    for before in [None, Some(100), Some(180)] {
        for status in [300, 302, 401, 486, 503, 600, 699] {
            let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
            bench.until(100);
            if let Some(before) = before {
                bench.respond(before);
            }
            bench.log.clear();
            bench.respond(status);
            assert_eq!(bench.machine.state(), client_invite::State::Completed);
            let to_user = format!("final {status}");
            assert_eq!(bench.log, log(&[(100, "send ACK"), (100, &to_user)]), "{before:?}");
        }
    }
}

/// Figure 5, Completed: repetitions of the response are acknowledged and go no further, until Timer D.
#[test]
fn figure_5_completed_until_timer_d() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
    bench.respond(486);
    bench.log.clear();
    bench.until(500).respond(486).until(1500).respond(486);
    bench.respond(180).respond(200).until(31_999);
    assert_eq!(bench.log, log(&[(500, "send ACK"), (1500, "send ACK")]));
    bench.until(32_000);
    assert_eq!(bench.log.last(), log(&[(32_000, "terminated")]).last());
}

/// 17.1.1.2: Timer D is zero on reliable transports; the ACK is sent all the same.
#[test]
fn timer_d_is_zero_on_reliable_transports() {
    let mut bench = ClientBench::<ClientInvite>::new("INVITE", Tls);
    bench.until(10).respond(486).respond(486).until(90_000);
    let expected = [(0, "send INVITE"), (10, "send ACK"), (10, "final 486"), (10, "terminated")];
    assert_eq!(bench.log, log(&expected));
}

/// Figure 5 and 17.1.4: a transport error in Calling, Proceeding and Completed is told, and ends it.
#[test]
fn figure_5_transport_error() {
    for before in [None, Some(180), Some(404)] {
        let mut bench = ClientBench::<ClientInvite>::new("INVITE", Udp);
        if let Some(before) = before {
            bench.respond(before);
        }
        bench.log.clear();
        bench.fail().respond(200).until(90_000);
        assert_eq!(bench.log, log(&[(0, "failed"), (0, "terminated")]), "after {before:?}");
    }
}

/// 17.1.1.3: the ACK of the example, with Route and a folded value; nothing else of the INVITE is in it.
#[test]
fn ack_is_made_of_the_invite() {
    let invite = Bytes::from_static(
        b"INVITE sip:bob@biloxi.example SIP/2.0\r\n\
          v: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bKkjshdyff, SIP/2.0/TCP first.example\r\n\
          Via: SIP/2.0/TCP zeroth.example\r\n\
          Route: <sip:p1.example;lr>,\r\n <sip:p2.example;lr>\r\n\
          ROUTE : <sip:p3.example;lr>\r\n\
          t: Bob <sip:bob@biloxi.example>\r\n\
          f: Alice <sip:alice@atlanta.example>;tag=88sja8x\r\n\
          Max-Forwards: 70\r\n\
          i: 987asjd97y7atg\r\n\
          CSeq: 986759 INVITE\r\n\
          Proxy-Require: x\r\n\
          Require: y\r\n\
          Authorization: Digest realm=\"z\"\r\n\
          Content-Length: 4\r\n\r\nbody",
    );
    let response = Message::from_datagram(Bytes::from_static(
        b"SIP/2.0 486 Busy Here\r\n\
          Via: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bKkjshdyff\r\n\
          To: Bob <sip:bob@biloxi.example>;tag=99sa0xk\r\n\
          From: Alice <sip:alice@atlanta.example>;tag=88sja8x\r\n\
          Call-ID: 987asjd97y7atg\r\n\
          CSeq: 986759 INVITE\r\n\r\n",
    ))
    .expect("well formed");
    let made = |method: &str, to_tag: &str| {
        format!(
            "{method} sip:bob@biloxi.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bKkjshdyff\r\n\
             Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n\
             Route: <sip:p3.example;lr>\r\n\
             Max-Forwards: 70\r\n\
             From: Alice <sip:alice@atlanta.example>;tag=88sja8x\r\n\
             To: Bob <sip:bob@biloxi.example>{to_tag}\r\n\
             Call-ID: 987asjd97y7atg\r\n\
             CSeq: 986759 {method}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    assert_eq!(ack_of(&invite, &response).expect("an ACK"), made("ACK", ";tag=99sa0xk"));
    assert_eq!(cancel_of(&invite).expect("a CANCEL"), made("CANCEL", ""), "section 9.1");
    for broken in ["", "INVITE sip:a SIP/2.0\r\n\r\n", "SIP/2.0 200 OK\r\nVia: x\r\n\r\n"] {
        assert_eq!(cancel_of(&Bytes::from(broken)), None, "{broken:?}");
    }
}

/// 17.1.2.2: E doubles from T1 to T2; F ends it after 64*T1, eleven requests sent.
#[test]
fn timer_e_doubles_to_t2_until_timer_f() {
    let mut bench = ClientBench::<Client>::new("OPTIONS", Udp);
    bench.until(100_000);
    let sent = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
        .map(|when| (when, "send OPTIONS"));
    let end = [(32_000, "timeout"), (32_000, "terminated")];
    assert_eq!(bench.log, log(&[&sent[..], &end].concat()));
}

/// 17.1.2.2: no Timer E on a reliable transport.
#[test]
fn timer_e_is_not_set_on_reliable_transports() {
    let mut bench = ClientBench::<Client>::new("OPTIONS", Tcp);
    bench.until(100_000);
    let expected = [(0, "send OPTIONS"), (32_000, "timeout"), (32_000, "terminated")];
    assert_eq!(bench.log, log(&expected));
}

/// Figure 6, Proceeding: 1xx to the user, Timer E goes on at T2, Timer F is not set again.
#[test]
fn figure_6_proceeding() {
    let mut bench = ClientBench::<Client>::new("OPTIONS", Udp);
    bench.until(600).respond(100);
    assert_eq!(bench.machine.state(), client::State::Proceeding);
    bench.until(2000).respond(100).until(90_000);
    let expected = [
        (0, "send OPTIONS"),
        (500, "send OPTIONS"),
        (600, "provisional 100"),
        (1500, "send OPTIONS"),
        (2000, "provisional 100"),
        (5500, "send OPTIONS"),
        (9500, "send OPTIONS"),
        (13_500, "send OPTIONS"),
        (17_500, "send OPTIONS"),
        (21_500, "send OPTIONS"),
        (25_500, "send OPTIONS"),
        (29_500, "send OPTIONS"),
        (32_000, "timeout"),
        (32_000, "terminated"),
    ];
    assert_eq!(bench.log, log(&expected));
}

/// Figure 6, final responses in Trying and Proceeding: to the user once, Timer K absorbs the rest.
#[test]
fn figure_6_completed_until_timer_k() {
    for before in [None, Some(100)] {
        for status in [200, 202, 302, 404, 503, 699] {
            let mut bench = ClientBench::<Client>::new("MESSAGE", Udp);
            bench.until(300);
            if let Some(before) = before {
                bench.respond(before);
            }
            bench.log.clear();
            bench.respond(status);
            assert_eq!(bench.machine.state(), client::State::Completed);
            bench.until(1000).respond(status).respond(100).respond(500).fail().until(90_000);
            let to_user = format!("final {status}");
            assert_eq!(bench.log, log(&[(300, &to_user), (5300, "terminated")]), "{before:?}");
        }
    }
}

/// 17.1.2.2: Timer K is zero on reliable transports.
#[test]
fn timer_k_is_zero_on_reliable_transports() {
    let mut bench = ClientBench::<Client>::new("MESSAGE", Tls);
    bench.until(300).respond(200).respond(200);
    let expected = [(0, "send MESSAGE"), (300, "final 200"), (300, "terminated")];
    assert_eq!(bench.log, log(&expected));
}

/// Figure 6 and 17.1.4: a transport error in Trying and Proceeding is told, and ends it.
#[test]
fn figure_6_transport_error() {
    for before in [None, Some(100)] {
        let mut bench = ClientBench::<Client>::new("MESSAGE", Udp);
        if let Some(before) = before {
            bench.respond(before);
        }
        bench.log.clear();
        bench.fail().respond(200).until(90_000);
        assert_eq!(bench.log, log(&[(0, "failed"), (0, "terminated")]), "after {before:?}");
    }
}

/// 9.1: requests other than INVITE are not cancelled.
#[test]
fn only_invite_is_cancelled() {
    let mut bench = ClientBench::<Client>::new("MESSAGE", Udp);
    bench.respond(100).cancel();
    assert_eq!(bench.log, log(&[(0, "send MESSAGE"), (0, "provisional 100")]));
}

/// 17.2.1: a 100 is due after 200 ms, if the user has not spoken before.
#[test]
fn invite_is_answered_100_after_200_ms() {
    let mut bench = ServerBench::<ServerInvite>::new(Udp);
    bench.until(199);
    assert_eq!(bench.log, log(&[]));
    bench.until(200).respond(100).until(60_000);
    assert_eq!(bench.log, log(&[(200, "100 due"), (200, "send 100")]));
    for quick in [100, 183, 200, 486] {
        let mut bench = ServerBench::<ServerInvite>::new(Udp);
        bench.until(199).respond(quick).until(450);
        assert_eq!(bench.log, log(&[(199, &format!("send {quick}"))]));
    }
}

/// Figure 7, Proceeding: 101 to 199 are sent; the INVITE again gives the last of them again.
#[test]
fn figure_7_proceeding() {
    let mut bench = ServerBench::<ServerInvite>::new(Udp);
    bench.until(50).again(); // before anything was said: the 100 is due now
    bench.respond(100).until(60).again().until(1000).respond(180).again();
    bench.respond(183).again().ack();
    let expected = [
        (50, "100 due"),
        (50, "send 100"),
        (60, "send 100"),
        (1000, "send 180"),
        (1000, "send 180"),
        (1000, "send 183"),
        (1000, "send 183"),
    ];
    assert_eq!(bench.log, log(&expected));
    assert_eq!(bench.machine.state(), server_invite::State::Proceeding);
}

/// Figure 7, Completed: G repeats the response from T1 up to T2, H gives up after 64*T1 and tells the user.
#[test]
fn timer_g_doubles_to_t2_until_timer_h() {
    let mut bench = ServerBench::<ServerInvite>::new(Udp);
    bench.respond(486).until(90_000);
    let sent = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
        .map(|when| (when, "send 486"));
    let end = [(32_000, "timeout"), (32_000, "terminated")];
    assert_eq!(bench.log, log(&[&sent[..], &end].concat()));
}

/// 17.2.1: no Timer G on reliable transports, Timer H on all.
#[test]
fn timer_g_is_not_set_on_reliable_transports() {
    let mut bench = ServerBench::<ServerInvite>::new(Tcp);
    bench.respond(603).until(90_000);
    let expected = [(0, "send 603"), (32_000, "timeout"), (32_000, "terminated")];
    assert_eq!(bench.log, log(&expected));
}

/// Figure 7, Completed: the INVITE again gives the response again; the user has no more to say.
#[test]
fn figure_7_completed() {
    let mut bench = ServerBench::<ServerInvite>::new(Udp);
    bench.respond(404).until(100).again();
    bench.respond(180).respond(200).respond(500);
    assert_eq!(bench.log, log(&[(0, "send 404"), (100, "send 404")]));
}

/// Figure 7, Confirmed: on ACK all is quiet until Timer I, T4 on unreliable transports, zero on others.
#[test]
fn figure_7_confirmed_until_timer_i() {
    for (transport, end) in [(Udp, 5100), (Tcp, 100)] {
        let mut bench = ServerBench::<ServerInvite>::new(transport);
        bench.respond(404).until(100).ack();
        bench.again().ack().respond(200).fail().until(90_000);
        assert_eq!(bench.log, log(&[(0, "send 404"), (end, "terminated")]), "{transport:?}");
    }
}

/// Figure 8, Trying: repetitions are discarded.
#[test]
fn figure_8_trying() {
    let mut bench = ServerBench::<Server>::new(Udp);
    bench.again().until(3000).again();
    assert_eq!(bench.log, log(&[]));
    assert_eq!(bench.machine.state(), server::State::Trying);
}

/// Figure 8, Proceeding: repetitions get the last provisional response.
#[test]
fn figure_8_proceeding() {
    let mut bench = ServerBench::<Server>::new(Tcp);
    bench.respond(100).until(10).again().respond(100);
    assert_eq!(bench.log, log(&[(0, "send 100"), (10, "send 100"), (10, "send 100")]));
    assert_eq!(bench.machine.state(), server::State::Proceeding);
}

/// Figure 8, Completed: repetitions get the final response until Timer J; another final response is discarded.
#[test]
fn figure_8_completed_until_timer_j() {
    for status in [200, 302, 404, 500, 603] {
        let mut bench = ServerBench::<Server>::new(Udp);
        bench.until(100).respond(status).until(600).again().respond(501).respond(100).ack();
        bench.until(90_000);
        let sent = format!("send {status}");
        assert_eq!(bench.log, log(&[(100, &sent), (600, &sent), (32_100, "terminated")]));
    }
}

/// 17.2.2: Timer J is zero on reliable transports.
#[test]
fn timer_j_is_zero_on_reliable_transports() {
    let mut bench = ServerBench::<Server>::new(Tls);
    bench.until(100).respond(200).again();
    assert_eq!(bench.log, log(&[(100, "send 200"), (100, "terminated")]));
}

/// Whole transactions over links that lose up to three in ten messages, double and reorder it.
#[test]
fn transactions_survive_a_bad_link() {
    for seed in 0..150 {
        let link = |loss| Link::new(seed, loss);
        for loss in [0, 10, 20, 30] {
            let message =
                over_the_link::<Client, Server>("MESSAGE", Udp, &mut link(loss), &[(300, 202)]);
            assert_eq!(message.client_heard, [202], "MESSAGE, seed {seed}, loss {loss}");
            assert_eq!(message.requests_heard, 1, "MESSAGE, seed {seed}, loss {loss}");
            let busy = over_the_link::<ClientInvite, ServerInvite>(
                "INVITE",
                Udp,
                &mut link(loss),
                &[(10, 100), (9000, 486)],
            );
            assert_eq!(busy.client_heard.last(), Some(&486), "INVITE, seed {seed}, loss {loss}");
            let finals = busy.client_heard.iter().filter(|status| **status >= 200).count();
            assert_eq!((finals, busy.requests_heard), (1, 1), "INVITE, seed {seed}, loss {loss}");
            assert_eq!(busy.acks_heard, 0, "the machine keeps that ACK, seed {seed}");
            assert_eq!(busy.server_timeouts, 0, "no ACK came, seed {seed}, loss {loss}");
        }
    }
}

/// On a link that loses everything both ends still end, and have sent what the timers allow.
#[test]
fn transactions_end_on_a_dead_link() {
    let mut dead = Link::new(1, 100);
    let message = over_the_link::<Client, Server>("MESSAGE", Udp, &mut dead, &[]);
    assert_eq!((message.client_timeouts, message.sent, message.over_at), (1, 11, 32_000));
    let call = over_the_link::<ClientInvite, ServerInvite>("INVITE", Udp, &mut dead, &[]);
    assert_eq!((call.client_timeouts, call.sent, call.over_at), (1, 7, 32_000));
}

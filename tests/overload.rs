//! V-92 over real sockets: an edge whose work takes too long notices by itself, and recovers by itself.

#![cfg(feature = "edge")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sipward::admission::Load;
use sipward::assembly::Plan;
use sipward::authentication::Accounts;
use sipward::edge::Watch;
use sipward::identity::Realm;
use sipward::journey::Decision;
use sipward::transport::{Arrival, ListenSpec, ListenerId, Side, Transport};
use sipward::wire::Message;

/// Makes each message take 10 ms of its worker, for as long as it is told to.
struct Slow(AtomicBool);

impl Watch for Slow {
    fn decided(&self, _decision: &Decision) {}

    fn arrived(&self, _arrival: &Arrival, _message: &Message) {
        if self.0.load(Ordering::Relaxed) {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
        }
    }
}

const MESSAGE: &str = "MESSAGE sip:bob@example.net SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1;rport\r\n\
    Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=1\r\nTo: <sip:bob@example.net>\r\n\
    Call-ID: 1@127.0.0.1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";

#[test]
fn v_92_a_worker_that_falls_behind_sheds_and_one_that_caught_up_does_not() {
    let (id, address) = (ListenerId(0), "127.0.0.1:0".parse().unwrap());
    let listener = ListenSpec::plain(id, Side::Ue, address, &[Transport::Udp], "edge.example.net");
    let realm = Realm::new("example.net").unwrap();
    let plan = Plan {
        listeners: vec![listener],
        domains: vec!["example.net".into()],
        accounts: Some((realm, Arc::new(Accounts::default()))),
        ..Plan::new()
    };
    let slow = Arc::new(Slow(AtomicBool::new(true)));
    let running = plan.start(Arc::<Slow>::clone(&slow)).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(running.edge.addresses()[0]).unwrap();
    let load = || running.shared.gate.admission.overload().load();
    assert_eq!(load(), Load::Normal);

    // More than three times what it can do: after eight requests it is listened to for some 5 ms.
    let mut answer = [0; 2048];
    let pause = |millis| socket.set_read_timeout(Some(Duration::from_millis(millis))).unwrap();
    pause(5);
    let mut flood = |until: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !until() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the load stays {:?}", load());
            for _ in 0..8 {
                socket.send(MESSAGE.as_bytes()).unwrap();
            }
            while socket.recv(&mut answer).is_ok() {}
        }
    };
    flood(&|| load() >= Load::High);
    slow.0.store(false, Ordering::Relaxed);
    flood(&|| load() == Load::Normal);

    pause(200);
    let challenged = |answer: &[u8]| answer.starts_with(b"SIP/2.0 407 ");
    while socket.recv(&mut answer).is_ok() {}
    pause(20_000);
    socket.send(MESSAGE.as_bytes()).unwrap();
    socket.recv(&mut answer).expect("an answer");
    assert!(challenged(&answer), "{}", String::from_utf8_lossy(&answer));
    running.edge.stop(Duration::from_secs(5));
}

//! V-74, panics: in each stage for one message, under a worker's timer, and in the sources that the edge asks for keys.

#![cfg(feature = "edge")]

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sipward::assembly::{Group, Plan, Running};
use sipward::authentication::Naf;
use sipward::edge::{Fault, GroupSpec, Watch};
use sipward::identity::Btid;
use sipward::instant::Now;
use sipward::journey::{Decision, Outcome};
use sipward::keys::{Asking, KeyAnswer, KeyServer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::trap;
use sipward::transport::{ListenSpec, ListenerId, Side, Transport};

const BTID: &str = "AAAAAAAAAAAAAAAAAAAAAA==@bsf.example.net";

/// Panics at the first question, and knows no key at those that follow.
#[derive(Debug, Default)]
struct Faulty(AtomicUsize);

impl KeyServer for Faulty {
    fn ask<'a>(&'a self, _: &'a Btid, _: &'a NafId, _: Now) -> Asking<'a> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            assert!(before > 0, "a fault of the source's");
            KeyAnswer::Unknown
        })
    }
}

/// Counts what panicked.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Watch for Counting {
    fn decided(&self, _decision: &Decision) {}

    fn fault(&self, fault: Fault) {
        self.0.fetch_add(usize::from(fault == Fault::Panicked), Ordering::Relaxed);
    }
}

/// A MESSAGE of that number, with credentials under the nonce if there is one.
fn message(number: u32, nonce: Option<&str>) -> String {
    let credentials = nonce.map_or_else(String::new, |nonce| {
        format!(
            "Proxy-Authorization: Digest username=\"{BTID}\", realm=\"3GPP-bootstrapping@edge.example.net\", \
             nonce=\"{nonce}\", uri=\"sip:bob@example.net\", response=\"{:064}\", algorithm=SHA-256, \
             qop=auth, nc=00000001, cnonce=\"c\"\r\n",
            0
        )
    });
    format!(
        "MESSAGE sip:bob@example.net SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=1\r\nTo: <sip:bob@example.net>\r\n\
         Call-ID: {number}@127.0.0.1\r\nCSeq: {number} MESSAGE\r\n{credentials}Content-Length: 0\r\n\r\n"
    )
}

/// An edge for devices that asks `source` for keys.
fn keyed(source: Arc<dyn KeyServer>) -> Plan {
    let (id, address) = (ListenerId(0), "127.0.0.1:0".parse().unwrap());
    let listener = ListenSpec::plain(id, Side::Ue, address, &[Transport::Udp], "edge.example.net");
    let naf = Naf::new("edge.example.net", UaId::SIP_DIGEST, ["bsf.example.net".into()]);
    Plan {
        listeners: vec![listener],
        domains: vec!["example.net".into()],
        naf: Some((naf, source)),
        bsf_names: vec!["bsf.example.net".into()],
        ..Plan::new()
    }
}

/// A socket of a device's.
fn device(running: &Running) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(running.edge.addresses()[0]).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// The first final answer.
fn ask(socket: &UdpSocket, text: &str) -> String {
    socket.send(text.as_bytes()).unwrap();
    answer(socket)
}

fn answer(socket: &UdpSocket) -> String {
    let mut octets = [0; 4096];
    loop {
        let length = socket.recv(&mut octets).expect("an answer");
        let answer = String::from_utf8_lossy(&octets[..length]).into_owned();
        if !answer.starts_with("SIP/2.0 1") {
            return answer;
        }
    }
}

/// The nonce of a challenge.
fn nonce(answer: &str) -> String {
    let (_, rest) = answer.split_once("nonce=\"").expect("a challenge");
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn a_key_server_that_panics_is_one_that_does_not_answer_and_is_asked_again() {
    let (source, watch) = (Arc::new(Faulty::default()), Arc::new(Counting::default()));
    let plan = keyed(Arc::<Faulty>::clone(&source));
    let running = plan.start(Arc::<Counting>::clone(&watch)).unwrap();
    let socket = device(&running);
    let ask = |text: String| ask(&socket, &text);
    let challenge = ask(message(1, None));
    let first = ask(message(2, Some(&nonce(&challenge))));
    assert!(first.starts_with("SIP/2.0 503 "), "{first}");
    assert_eq!(watch.0.load(Ordering::Relaxed), 1);
    let challenge = ask(message(3, None));
    let second = ask(message(4, Some(&nonce(&challenge))));
    assert!(second.starts_with("SIP/2.0 407 "), "its key is unknown: {second}");
    assert_eq!(source.0.load(Ordering::Relaxed), 2, "asked again");
    assert_eq!(watch.0.load(Ordering::Relaxed), 1);
    running.edge.stop(Duration::from_secs(5));
}

/// The stages of the journey, in order.
const STAGES: [&str; 7] =
    ["transport", "wire", "admission", "authentication", "association", "enabler", "forward"];

/// An edge with a listener for a core on this host, and one worker.
fn core_edge() -> Running {
    let (id, address) = (ListenerId(0), "127.0.0.1:0".parse().unwrap());
    let transports = [Transport::Udp, Transport::Tcp];
    let plan = Plan {
        listeners: vec![ListenSpec::plain(id, Side::Core, address, &transports, "127.0.0.1")],
        groups: vec![Group {
            known: GroupSpec {
                addresses: vec!["127.0.0.1".parse().unwrap()],
                identities: Vec::new(),
            },
            targets: Vec::new(),
        }],
        workers: NonZeroUsize::MIN,
        domains: vec!["example.net".into()],
        ..Plan::new()
    };
    plan.start(Arc::new(Counting::default())).unwrap()
}

/// OPTIONS for a user, from a peer of the core.
fn options(transport: &str, call_id: &str) -> String {
    format!(
        "OPTIONS sip:bob@example.net SIP/2.0\r\n\
         Via: SIP/2.0/{transport} 127.0.0.1:9;branch=z9hG4bK{call_id};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=1\r\nTo: <sip:bob@example.net>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// V-74: a fault of any stage ends the connection that its message came on, is counted once, and leaves nothing behind;
/// others, and what comes as datagrams from the same address, go on.
#[test]
fn v_74_a_panic_in_any_stage_ends_its_flow_alone() {
    let running = core_edge();
    let at = running.edge.addresses()[0];
    let datagrams = device(&running);
    let mut bystander = TcpStream::connect(at).unwrap();
    bystander.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let panicked = || running.flows.tally().each().find(|(name, _)| *name == "panicked").unwrap().1;
    for (number, stage) in (0..).zip(STAGES) {
        trap::set(stage, &format!("{stage}-tcp"));
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(options("TCP", &format!("{stage}-tcp")).as_bytes()).unwrap();
        assert_eq!(
            stream.read(&mut [0; 64]).expect("it is closed"),
            0,
            "{stage}: closed unanswered"
        );
        assert!(!trap::is_set(), "{stage}: nobody went into the trap");
        // Another connection goes on, on the same worker.
        bystander.write_all(options("TCP", &format!("{stage}-bystander")).as_bytes()).unwrap();
        let mut octets = [0; 4096];
        let length = bystander.read(&mut octets).unwrap();
        let answer = String::from_utf8_lossy(&octets[..length]);
        assert!(answer.contains(&format!("{stage}-bystander")), "{stage}: {answer}");
        assert_eq!((panicked(), running.flows.open_count()), (2 * number + 1, 1), "{stage}");
        // A datagram costs itself.
        trap::set(stage, &format!("{stage}-udp"));
        datagrams.send(options("UDP", &format!("{stage}-udp")).as_bytes()).unwrap();
        let answer = ask(&datagrams, &options("UDP", &format!("{stage}-next")));
        assert!(answer.contains(&format!("{stage}-next")), "{stage}: {answer}");
        assert!(!trap::is_set(), "{stage}: nobody went into the trap");
        assert_eq!((panicked(), running.flows.open_count()), (2 * number + 2, 1), "{stage}");
    }
    running.edge.stop(Duration::from_secs(5));
}

/// Never answers.
#[derive(Debug)]
struct Silent;

impl KeyServer for Silent {
    fn ask<'a>(&'a self, _: &'a Btid, _: &'a NafId, _: Now) -> Asking<'a> {
        Box::pin(std::future::pending())
    }
}

/// Panics when it is told, the first time, that a key server did not answer; and counts panics.
#[derive(Debug, Default)]
struct Startled {
    told: AtomicUsize,
    panicked: AtomicUsize,
}

impl Watch for Startled {
    fn decided(&self, decision: &Decision) {
        if decision.outcome == Outcome::Refused(Refusal::KeySourceUnavailable) {
            let before = self.told.fetch_add(1, Ordering::Relaxed);
            assert!(before > 0, "a fault of the watcher's");
        }
    }

    fn fault(&self, fault: Fault) {
        self.panicked.fetch_add(usize::from(fault == Fault::Panicked), Ordering::Relaxed);
    }
}

/// V-74: a fault under a timer of the worker's, here that of a lookup, costs that timer's turn alone: the worker goes
/// on, what was ready to be sent is sent, and later timers go off.
#[test]
fn v_74_a_panic_under_a_timer_ends_no_worker() {
    let watch = Arc::new(Startled::default());
    let plan = Plan { workers: NonZeroUsize::MIN, ..keyed(Arc::new(Silent)) };
    let running = plan.start(Arc::<Startled>::clone(&watch)).unwrap();
    let socket = device(&running);
    let challenge = ask(&socket, &message(1, None));
    let first = ask(&socket, &message(2, Some(&nonce(&challenge))));
    assert!(first.starts_with("SIP/2.0 503 "), "{first}");
    let challenge = ask(&socket, &message(3, None));
    let second = ask(&socket, &message(4, Some(&nonce(&challenge))));
    assert!(second.starts_with("SIP/2.0 503 "), "{second}");
    assert_eq!(watch.told.load(Ordering::Relaxed), 2);
    assert_eq!(watch.panicked.load(Ordering::Relaxed), 1);
    running.edge.stop(Duration::from_secs(5));
}

//! Panics where no worker can catch them: in the sources that the edge asks for keys.

#![cfg(feature = "edge")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sipward::assembly::Plan;
use sipward::authentication::Naf;
use sipward::edge::{Fault, Watch};
use sipward::identity::Btid;
use sipward::instant::Now;
use sipward::journey::Decision;
use sipward::keys::{Asking, KeyAnswer, KeyServer, NafId, UaId};
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

#[test]
fn a_key_server_that_panics_is_one_that_does_not_answer_and_is_asked_again() {
    let listener = ListenSpec {
        id: ListenerId(0),
        side: Side::Ue,
        address: "127.0.0.1:0".parse().unwrap(),
        transports: vec![Transport::Udp],
        name: "edge.example.net".into(),
        tls: None,
        psk: None,
        dtls: None,
        ws: None,
    };
    let (source, watch) = (Arc::new(Faulty::default()), Arc::new(Counting::default()));
    let naf = Naf::new("edge.example.net", UaId::SIP_DIGEST, ["bsf.example.net".into()]);
    let plan = Plan {
        listeners: vec![listener],
        domains: vec!["example.net".into()],
        naf: Some((naf, Arc::<Faulty>::clone(&source))),
        bsf_names: vec!["bsf.example.net".into()],
        ..Plan::new()
    };
    let running = plan.start(Arc::<Counting>::clone(&watch)).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(running.edge.addresses()[0]).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The first final answer.
    let ask = |text: String| {
        socket.send(text.as_bytes()).unwrap();
        let mut octets = [0; 4096];
        loop {
            let length = socket.recv(&mut octets).expect("an answer");
            let answer = String::from_utf8_lossy(&octets[..length]).into_owned();
            if !answer.starts_with("SIP/2.0 1") {
                return answer;
            }
        }
    };
    let nonce = |answer: &str| {
        let (_, rest) = answer.split_once("nonce=\"").expect("a challenge");
        rest.split('"').next().unwrap().to_owned()
    };
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

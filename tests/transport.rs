//! Stage 1 on loopback: real sockets, real handshakes. Nothing sleeps; what never comes ends the test by a bound.
#![cfg(feature = "edge")]

#[path = "conformance/authority.rs"]
#[allow(dead_code, reason = "it serves the conformance tests too")]
mod authority;

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{self, Certificate, ClientTls, ServerSpec, ServerTls, TlsRefusal};
use sipward::transport::{
    Closed, DialError, Flow, Flows, GroupId, Limits, ListenSpec, ListenerId, Parts, Patience,
    Receiver, SendError, Side, StreamFacts, Target, Transport, Transports, bind,
};
use sipward::wire::{Malformed, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use authority::{Authority, SERIAL, domains, shows};

const REQUEST: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";
const ANSWER: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";
const POISON: &[u8] = b"PANIC sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";

/// What a worker was told.
#[derive(Debug)]
enum Event {
    Datagram(Flow, SocketAddr, Bytes),
    Opened(Arc<StreamFacts>),
    Message(Arc<StreamFacts>, Bytes),
    Broken(u16),
    Closed(Flow, Closed),
    DialFailed(Flow, DialError),
}

/// Notes what it is told.
#[derive(Default)]
struct Desk {
    events: RefCell<VecDeque<Event>>,
    told: Notify,
    /// Flows of datagrams that pinged.
    pinged: RefCell<Vec<Flow>>,
    /// What is flushed at the end of a turn.
    transports: OnceCell<Weak<Transports>>,
}

impl Desk {
    fn note(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.told.notify_one();
    }

    async fn next(&self) -> Event {
        loop {
            let event = self.events.borrow_mut().pop_front();
            match event {
                Some(event) => return event,
                None => self.told.notified().await,
            }
        }
    }

    async fn opened(&self) -> Arc<StreamFacts> {
        match self.next().await {
            Event::Opened(facts) => facts,
            other => panic!("not opened, but {other:?}"),
        }
    }

    async fn message(&self) -> (Flow, Bytes) {
        match self.next().await {
            Event::Message(facts, octets) => (facts.flow, octets),
            other => panic!("no message, but {other:?}"),
        }
    }

    async fn dial_failed(&self) -> (Flow, DialError) {
        match self.next().await {
            Event::DialFailed(flow, why) => (flow, why),
            other => panic!("no failure, but {other:?}"),
        }
    }

    async fn closed(&self) -> (Flow, Closed) {
        match self.next().await {
            Event::Closed(flow, why) => (flow, why),
            other => panic!("not closed, but {other:?}"),
        }
    }
}

impl Receiver for Desk {
    fn turn(&self) {
        if let Some(transports) = self.transports.get().and_then(Weak::upgrade) {
            transports.flush(|_| {});
        }
    }

    fn datagram(&self, flow: Flow, local: SocketAddr, octets: Bytes) {
        assert!(octets != POISON, "a fault of ours, on purpose");
        self.note(Event::Datagram(flow, local, octets));
    }

    fn pinged(&self, flow: &Flow) {
        self.pinged.borrow_mut().push(*flow);
    }

    fn opened(&self, stream: &Arc<StreamFacts>) {
        self.note(Event::Opened(stream.clone()));
    }

    fn message(&self, stream: &Arc<StreamFacts>, message: Message) {
        assert!(message.octets() != POISON, "a fault of ours, on purpose");
        self.note(Event::Message(stream.clone(), message.octets().clone()));
    }

    fn broken(&self, _: &Arc<StreamFacts>, malformed: Malformed) {
        self.note(Event::Broken(malformed.fault.status()));
    }

    fn closed(&self, stream: &Arc<StreamFacts>, why: Closed) {
        self.note(Event::Closed(stream.flow, why));
    }

    fn dial_failed(&self, flow: &Flow, _: &Target, why: DialError) {
        self.note(Event::DialFailed(*flow, why));
    }
}

/// One worker on loopback.
struct Lab {
    transports: Rc<Transports>,
    desk: Rc<Desk>,
}

/// How a [`Lab`] is set up.
#[derive(Default)]
struct Setup {
    /// An address of its own, so that no other test takes a port that it gives up.
    host: Option<&'static str>,
    limits: Limits,
    patience: Patience,
    tls: Option<Arc<ServerTls>>,
    client_tls: Option<Arc<ClientTls>>,
}

impl Lab {
    /// Listener 0: the UE side, UDP and TCP, or TLS if that is set up. Listener 1: the core side, UDP and TCP.
    fn new(setup: Setup) -> Self {
        let host = setup.host.unwrap_or("127.0.0.1");
        let address = SocketAddr::new(host.parse().unwrap(), 0);
        let spec = |id, side, transports: &[Transport], tls| {
            let id = ListenerId(id);
            let spec = ListenSpec::plain(id, side, address, transports, "edge.example.net");
            ListenSpec { tls, ..spec }
        };
        let clear = [Transport::Udp, Transport::Tcp];
        let ue: &[Transport] = if setup.tls.is_some() { &[Transport::Tls] } else { &clear };
        let specs = vec![spec(0, Side::Ue, ue, setup.tls), spec(1, Side::Core, &clear, None)];
        let sockets = bind(specs, NonZeroUsize::MIN).unwrap().remove(0);
        let transports = Transports::new(Parts {
            sockets,
            flows: Flows::new(setup.limits, 0xFFFF_FFFF),
            patience: setup.patience,
            client_tls: setup.client_tls,
            desk: None,
            seed: [3; 16],
        });
        let (transports, desk) = (transports.unwrap(), Rc::new(Desk::default()));
        desk.transports.set(Rc::downgrade(&transports)).unwrap();
        transports.start(desk.clone());
        Self { transports, desk }
    }

    fn address(&self, listener: u16) -> SocketAddr {
        self.transports.listener(ListenerId(listener)).unwrap().local
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address(0)).await.unwrap()
    }
}

/// Runs `test` as a worker would run, and ends it if it hangs.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the test hangs");
}

fn target(address: SocketAddr, transport: Transport, domain: &str) -> Target {
    Target { transport, address, domain: domain.into(), group: GroupId(0) }
}

async fn read_exactly(io: &mut (impl tokio::io::AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut octets = vec![0; length];
    io.read_exact(&mut octets).await.unwrap();
    octets
}

#[test]
fn a_datagram_is_answered_from_the_port_it_came_to() {
    run(async {
        let lab = Lab::new(Setup::default());
        let ue = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for noise in [&b""[..], b"\r\n\r\n", b"\xF8abc", b"\x16\xFE\xFD", b"GET / HTTP/1.1\r\n\r\n"]
        {
            ue.send_to(noise, lab.address(0)).await.unwrap();
        }
        ue.send_to(POISON, lab.address(0)).await.unwrap();
        ue.send_to(REQUEST, lab.address(0)).await.unwrap();
        let Event::Datagram(flow, local, octets) = lab.desk.next().await else { panic!() };
        assert_eq!((local, &octets[..]), (lab.address(0), REQUEST));
        assert_eq!(flow.remote, ue.local_addr().unwrap());
        lab.transports.send(&flow, Bytes::from_static(ANSWER)).unwrap();
        lab.transports.flush(|_| {});
        let mut room = [0; 2000];
        let (length, from) = ue.recv_from(&mut room).await.unwrap();
        assert_eq!((&room[..length], from), (ANSWER, lab.address(0)));
        let tally = lab.transports.flows().tally();
        assert_eq!((tally.noise.get(), tally.panicked.get()), (5, 1));
    });
}

#[test]
fn whole_datagrams_pass_and_none_goes_to_nobody() {
    run(async {
        let lab = Lab::new(Setup::default());
        let ue = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let largest = vec![b'A'; 65_507];
        ue.send_to(&largest, lab.address(0)).await.unwrap();
        let Event::Datagram(flow, _, octets) = lab.desk.next().await else { panic!() };
        assert_eq!(octets.len(), 65_507);
        lab.transports.send(&flow, octets).unwrap();
        lab.transports.flush(|_| {});
        let mut room = vec![0; 70_000];
        assert_eq!(ue.recv_from(&mut room).await.unwrap().0, 65_507);
        let too_long = Bytes::from(vec![b'A'; 65_508]);
        assert_eq!(lab.transports.send(&flow, too_long), Err(SendError::TooLong));
        for nobody in ["224.0.1.75:5060", "0.0.0.0:5060", "127.0.0.1:0"] {
            let flow = Flow { remote: nobody.parse().unwrap(), ..flow };
            let sent = lab.transports.send(&flow, Bytes::from_static(ANSWER));
            assert_eq!(sent, Err(SendError::Unreachable), "{nobody}");
        }
    });
}

#[test]
fn a_binding_request_is_answered_twice_and_then_no_more() {
    run(async {
        let lab = Lab::new(Setup::default());
        let ue = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], b"transaction1"].concat();
        for _ in 0..50 {
            ue.send_to(&request, lab.address(0)).await.unwrap();
        }
        // What comes after them shows that all were looked at.
        ue.send_to(REQUEST, lab.address(0)).await.unwrap();
        lab.desk.next().await;
        let tally = lab.transports.flows().tally();
        let (answered, dropped) = (tally.stun_answered.get(), tally.stun_dropped.get());
        assert_eq!(answered + dropped, 50);
        assert!(
            (2..=4).contains(&answered),
            "{answered} answers in one second, or on both sides of its end"
        );
        let pinged = lab.desk.pinged.take();
        assert_eq!(pinged.len() as u64, answered, "KA-03: each that is answered is told");
        assert!(pinged.iter().all(|flow| flow.remote == ue.local_addr().unwrap()));
        let mut room = [0; 100];
        let (length, _) = ue.recv_from(&mut room).await.unwrap();
        assert_eq!((length, &room[..2]), (32, &[1, 1][..]));
    });
}

#[test]
fn messages_go_both_ways_on_a_stream_until_either_end_closes_it() {
    run(async {
        let lab = Lab::new(Setup::default());
        let mut ue = lab.dial().await;
        let facts = lab.desk.opened().await;
        assert_eq!((facts.side, facts.local), (Side::Ue, lab.address(0)));
        assert_eq!(facts.flow.remote, ue.local_addr().unwrap());
        ue.write_all(&REQUEST.repeat(3)).await.unwrap();
        for _ in 0..3 {
            let (flow, octets) = lab.desk.message().await;
            assert_eq!((flow, &octets[..]), (facts.flow, REQUEST));
            lab.transports.send(&flow, Bytes::from_static(ANSWER)).unwrap();
        }
        assert_eq!(read_exactly(&mut ue, ANSWER.len() * 3).await, ANSWER.repeat(3));
        drop(ue);
        assert_eq!(lab.desk.closed().await, (facts.flow, Closed::Peer));
        let sent = lab.transports.send(&facts.flow, Bytes::from_static(ANSWER));
        assert_eq!(sent, Err(SendError::Gone));
    });
}

#[test]
fn v_82_a_new_connection_is_a_new_flow_whatever_its_port() {
    run(async {
        let lab = Lab::new(Setup::default());
        // An address of its own, so that no other test takes the port in between.
        let dial = |from: SocketAddr| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(from).unwrap();
            socket.connect(lab.address(0))
        };
        let first = dial("127.0.0.82:0".parse().unwrap()).await.unwrap();
        let from = first.local_addr().unwrap();
        let old = lab.desk.opened().await.flow;
        lab.transports.flows().mark_authenticated(&old);
        // A reset leaves nothing behind that would keep the port.
        first.set_zero_linger().unwrap();
        drop(first);
        lab.desk.closed().await;
        let _second = dial(from).await.unwrap();
        let new = lab.desk.opened().await.flow;
        assert_eq!(new.remote, old.remote);
        assert_ne!(new.connection, old.connection);
        let flows = lab.transports.flows();
        assert!(!flows.is_authenticated(&new), "evidence was inherited");
        assert_eq!(flows.find(old.connection.unwrap()), None, "an old token names it");
    });
}

#[test]
fn a_panic_ends_its_own_connection_and_no_other() {
    run(async {
        let lab = Lab::new(Setup::default());
        let (mut one, mut other) = (lab.dial().await, lab.dial().await);
        let flows = [lab.desk.opened().await.flow, lab.desk.opened().await.flow];
        one.write_all(POISON).await.unwrap();
        let (closed, why) = lab.desk.closed().await;
        assert_eq!(why, Closed::Panicked);
        assert_eq!(one.read(&mut [0; 10]).await.unwrap_or(0), 0, "it is closed");
        other.write_all(REQUEST).await.unwrap();
        let (flow, _) = lab.desk.message().await;
        assert!(flows.contains(&flow) && flow != closed);
        assert_eq!(lab.transports.flows().open_count(), 1);
    });
}

#[test]
fn broken_framing_is_told_once_and_closed() {
    run(async {
        let lab = Lab::new(Setup::default());
        let mut ue = lab.dial().await;
        lab.desk.opened().await;
        ue.write_all(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n").await.unwrap();
        ue.write_all(REQUEST).await.unwrap();
        assert!(matches!(lab.desk.next().await, Event::Broken(400)));
        assert_eq!(lab.desk.closed().await.1, Closed::Broken);
    });
}

#[test]
fn tr_08_one_address_has_so_many_connections_and_no_more() {
    run(async {
        let lab = Lab::new(Setup::default());
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(lab.dial().await);
            lab.desk.opened().await;
        }
        let mut refused = lab.dial().await;
        assert_eq!(refused.read(&mut [0; 10]).await.unwrap_or(0), 0, "closed without an octet");
        assert_eq!(lab.transports.flows().tally().refused_by_address.get(), 1);
        drop(held.pop());
        lab.desk.closed().await;
        let _welcome = lab.dial().await;
        lab.desk.opened().await;
    });
}

/// A listener that shakes hands.
fn shaking() -> Option<Arc<ServerTls>> {
    let certificate = Authority::new().issue(&["sip:example.net"]);
    Some(Arc::new(ServerTls::new(&shows(certificate)).unwrap()))
}

/// V-42, V-45: of one address and in all; whoever says nothing shakes no hands and takes nobody's place.
#[test]
fn handshakes_under_way_are_bounded() {
    run(async {
        let limits = Limits { handshakes_per_address: 3, handshakes: 5, ..Limits::default() };
        let lab = Lab::new(Setup { limits, tls: shaking(), ..Setup::default() });
        let dial = |from: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
            socket.connect(lab.address(0))
        };
        let tally = lab.transports.flows().tally();
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(dial("127.0.0.84").await.unwrap());
        }
        let mut refused = 0;
        for (from, begun, more) in
            [("127.0.0.84", 10, 7), ("127.0.0.85", 3, 1), ("127.0.0.86", 1, 1)]
        {
            for _ in 0..begun {
                let mut ue = dial(from).await.unwrap();
                ue.write_all(b"\x16").await.unwrap();
                held.push(ue);
            }
            refused += more;
            while tally.handshakes_crowded.get() < refused {
                tokio::task::yield_now().await;
            }
        }
        let last = held.last_mut().unwrap();
        assert_eq!(last.read(&mut [0; 10]).await.unwrap_or(0), 0, "closed without an octet");
        assert_eq!((tally.handshakes_crowded.get(), tally.handshakes_failed.get()), (refused, 0));
        drop(held);
        while lab.transports.flows().unauthenticated_count() > 0 {
            tokio::task::yield_now().await;
        }
        let mut ue = dial("127.0.0.84").await.unwrap();
        ue.write_all(b"no TLS").await.unwrap();
        assert_ne!(ue.read(&mut [0; 10]).await.unwrap(), 0, "an alert: there is room again");
        assert_eq!(tally.handshakes_crowded.get(), refused);
    });
}

/// TR-08: before the first octet one patience, behind it another.
#[test]
fn who_says_nothing_and_who_says_too_little_are_told_apart() {
    run(async {
        let (soon, never) = (Duration::from_millis(50), Duration::from_secs(3600));
        for (said, first_octet, handshake, slow) in
            [(&b""[..], soon, never, [1, 0]), (b"\x16\x03", never, soon, [0, 1])]
        {
            let patience = Patience { first_octet, handshake, ..Patience::default() };
            let lab = Lab::new(Setup { patience, tls: shaking(), ..Setup::default() });
            let mut ue = lab.dial().await;
            ue.write_all(said).await.unwrap();
            assert_eq!(ue.read(&mut [0; 10]).await.unwrap_or(0), 0, "closed without an octet");
            let tally = lab.transports.flows().tally();
            assert_eq!([tally.slow.get(), tally.handshakes_slow.get()], slow, "{said:?}");
        }
    });
}

#[test]
fn another_thread_sends_on_the_same_flows() {
    run(async {
        let lab = Lab::new(Setup::default());
        let mut ue = lab.dial().await;
        let flow = lab.desk.opened().await.flow;
        let flows = lab.transports.flows().clone();
        let sender = std::thread::spawn(move || {
            for _ in 0..50 {
                flows.send(&flow, Bytes::from_static(ANSWER)).unwrap();
            }
            flows.close(&flow);
        });
        let mut octets = Vec::new();
        ue.read_to_end(&mut octets).await.unwrap();
        assert_eq!(octets, ANSWER.repeat(50));
        sender.join().unwrap();
        assert_eq!(lab.desk.closed().await, (flow, Closed::Asked));
    });
}

#[test]
fn a_drain_accepts_nobody_and_ends_nobody() {
    run(async {
        let lab = Lab::new(Setup { host: Some("127.0.0.83"), ..Setup::default() });
        let mut ue = lab.dial().await;
        lab.desk.opened().await;
        lab.transports.stop_accepting();
        tokio::task::yield_now().await;
        let refused = TcpStream::connect(lab.address(0)).await;
        assert_eq!(refused.map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        ue.write_all(REQUEST).await.unwrap();
        lab.desk.message().await;
    });
}

#[test]
fn two_workers_share_a_port() {
    run(async {
        let (id, address) = (ListenerId(0), "127.0.0.1:0".parse().unwrap());
        let transports = [Transport::Udp, Transport::Tcp];
        let spec = ListenSpec::plain(id, Side::Ue, address, &transports, "edge.example.net");
        let flows = Flows::new(Limits::default(), 0);
        let desk = Rc::new(Desk::default());
        let mut address = None;
        for sockets in bind(vec![spec], NonZeroUsize::new(2).unwrap()).unwrap() {
            let (flows, seed) = (flows.clone(), [0; 16]);
            let patience = Patience::default();
            let parts = Parts { sockets, flows, patience, client_tls: None, desk: None, seed };
            let transports = Transports::new(parts).unwrap();
            transports.start(desk.clone());
            let local = transports.listeners()[0].local;
            assert!(address.is_none_or(|address| address == local));
            address = Some(local);
        }
        for _ in 0..20 {
            let ue = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            ue.send_to(REQUEST, address.unwrap()).await.unwrap();
            assert!(matches!(desk.next().await, Event::Datagram(..)));
            let _stream = TcpStream::connect(address.unwrap()).await.unwrap();
            desk.opened().await;
            drop(_stream);
            desk.closed().await;
        }
    });
}

/// A TLS listener whose clients may show certificates of `authority`.
fn tls_lab(authority: &Authority, name: &str) -> (Lab, Arc<ServerTls>) {
    let spec = ServerSpec {
        asks: ClientCertificate::Optional,
        trust: authority.trust(),
        ..shows(authority.issue(&[name]))
    };
    let tls = Arc::new(ServerTls::new(&spec).unwrap());
    (Lab::new(Setup { tls: Some(tls.clone()), ..Setup::default() }), tls)
}

#[test]
fn tr_01_tls_one_way_and_mutual() {
    run(async {
        let authority = Authority::new();
        let (lab, _) = tls_lab(&authority, "sip:example.net");
        let shown = authority.issue(&["sip:peer.example"]);
        for (shown, expected) in [(None, None), (Some(&shown), Some("peer.example"))] {
            let client = tls::client_config(authority.trust(), shown).unwrap();
            let tcp = lab.dial().await;
            let (mut stream, _) = tls::connect(client, "example.net", tcp).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            let facts = lab.desk.opened().await;
            assert_eq!(facts.flow.transport, Transport::Tls);
            assert_eq!(facts.asked_for.as_deref(), Some("example.net"));
            let names = facts.names.as_ref().map(|names| domains(names).join(" "));
            assert_eq!(names.as_deref(), expected);
            let (flow, _) = lab.desk.message().await;
            lab.transports.send(&flow, Bytes::from_static(ANSWER)).unwrap();
            assert_eq!(read_exactly(&mut stream, ANSWER.len()).await, ANSWER);
            drop(stream);
            lab.desk.closed().await;
        }
    });
}

#[test]
fn a_reload_changes_the_next_handshake_and_no_connection() {
    run(async {
        let authority = Authority::new();
        let (lab, tls) = tls_lab(&authority, "sip:example.net");
        let client = tls::client_config(authority.trust(), None).unwrap();
        let dial = |domain| {
            let client = client.clone();
            let tcp = lab.dial();
            async move { tls::connect(client, domain, tcp.await).await }
        };
        let (mut old, _) = dial("example.net").await.unwrap();
        lab.desk.opened().await;
        let nothing = ServerSpec { certificates: Vec::new(), ..shows(authority.issue(&["a.b"])) };
        assert!(tls.replace(&nothing).is_err(), "a bad one is refused, and the old one stays");
        assert!(dial("example.net").await.is_ok());
        lab.desk.opened().await;
        lab.desk.closed().await;
        tls.replace(&shows(authority.issue(&["sip:example.org"]))).unwrap();
        let seen = vec!["example.org".to_string()];
        assert_eq!(dial("example.net").await.map(|_| ()).unwrap_err(), TlsRefusal::WrongName(seen));
        assert!(dial("example.org").await.is_ok());
        old.write_all(REQUEST).await.unwrap();
        while !matches!(lab.desk.next().await, Event::Message(..)) {}
    });
}

#[test]
fn v_47_a_connection_ends_when_its_client_certificate_is_taken_back() {
    run(async {
        let authority = Authority::new();
        let asking = |trust| ServerSpec {
            asks: ClientCertificate::Optional,
            trust,
            ..shows(authority.issue(&["sip:example.net"]))
        };
        let tls = Arc::new(ServerTls::new(&asking(authority.trust_less(&[], 2999))).unwrap());
        let lab = Lab::new(Setup { tls: Some(tls.clone()), ..Setup::default() });
        let good = authority.issue_with(&["sip:good.example"], |params| {
            params.serial_number = Some(vec![7].into());
        });
        let taken_back = authority.issue(&["sip:peer.example"]);
        let dial = |shown: Option<&Certificate>| {
            let config = tls::client_config(authority.trust(), shown).unwrap();
            let tcp = lab.dial();
            async move { tls::connect(config, "example.net", tcp.await).await }
        };
        let (mut without, _) = dial(None).await.unwrap();
        lab.desk.opened().await;
        let (mut kept, _) = dial(Some(&good)).await.unwrap();
        lab.desk.opened().await;
        let (mut lost, _) = dial(Some(&taken_back)).await.unwrap();
        let flow = lab.desk.opened().await.flow;
        tls.replace(&asking(authority.trust_less(&[SERIAL], 2999))).unwrap();
        assert_eq!(lab.desk.closed().await, (flow, Closed::CertificateRevoked));
        assert_eq!(lost.read(&mut [0; 1]).await.unwrap(), 0, "told by a close");
        let over = || lab.transports.flows().tally().certificates_over.get();
        assert_eq!(over(), 1);
        for stream in [&mut without, &mut kept] {
            stream.write_all(REQUEST).await.unwrap();
            let (flow, _) = lab.desk.message().await;
            lab.transports.send(&flow, Bytes::from_static(ANSWER)).unwrap();
            assert_eq!(read_exactly(stream, ANSWER.len()).await, ANSWER);
        }
        // Nor is it let in again.
        let refused = match dial(Some(&taken_back)).await {
            Ok((mut again, _)) => again.read(&mut [0; 1]).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
        let handshakes = lab.transports.flows().tally().handshakes_failed.get();
        assert_eq!((handshakes, over()), (1, 1));
        tls.replace(&asking(Authority::new().trust())).unwrap();
        assert_eq!(
            lab.desk.closed().await.1,
            Closed::CertificateRevoked,
            "its issuer is a stranger"
        );
    });
}

#[test]
fn v_47_a_dialled_connection_ends_when_the_server_certificate_is_taken_back() {
    run(async {
        let authority = Authority::new();
        let trust = authority.trust_less(&[], 2999);
        let client_tls = Arc::new(ClientTls::new(trust, None).unwrap());
        let lab = Lab::new(Setup { client_tls: Some(client_tls.clone()), ..Setup::default() });
        let (listener, server) = tls_peer(&authority, &["sip:core.example"]).await;
        let target = target(listener.local_addr().unwrap(), Transport::Tls, "core.example");
        let flow = lab.transports.connect(&target).unwrap();
        let (mut stream, _) =
            tls::accept(&server, listener.accept().await.unwrap().0).await.unwrap();
        lab.desk.opened().await;
        client_tls.replace(authority.trust_less(&[SERIAL], 2999), None).unwrap();
        assert_eq!(lab.desk.closed().await, (flow, Closed::CertificateRevoked));
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        let again = lab.transports.connect(&target).unwrap();
        assert_ne!(again.connection, flow.connection);
        let (tcp, _) = listener.accept().await.unwrap();
        let (refused, (_, why)) = tokio::join!(tls::accept(&server, tcp), lab.desk.dial_failed());
        assert!(refused.is_err());
        let revoked = TlsRefusal::Certificate(rustls::CertificateError::Revoked);
        assert_eq!(why, DialError::Tls(revoked));
    });
}

/// A client of another make: it resumes if it can, and offers what it is told.
fn other_client(trust: Trust, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = sipward::transport::peer::PeerVerifier::new(trust, ClientCertificate::None);
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.enable_early_data = true;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

#[test]
fn v_46_a_session_is_resumed_and_no_early_data_taken() {
    run(async {
        let authority = Authority::new();
        let (lab, _) = tls_lab(&authority, "sip:example.net");
        let connector = tokio_rustls::TlsConnector::from(other_client(authority.trust(), &[]));
        for turn in 0..3 {
            let name = ServerName::try_from("example.net").unwrap();
            let mut stream = connector.connect(name, lab.dial().await).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            lab.desk.opened().await;
            let (flow, _) = lab.desk.message().await;
            lab.transports.send(&flow, Bytes::from_static(ANSWER)).unwrap();
            read_exactly(&mut stream, ANSWER.len()).await;
            let client = stream.get_ref().1;
            let kind = match turn {
                0 => rustls::HandshakeKind::Full,
                _ => rustls::HandshakeKind::Resumed,
            };
            assert_eq!(client.handshake_kind(), Some(kind), "turn {turn}");
            assert!(!client.is_early_data_accepted(), "turn {turn}");
            drop(stream);
            lab.desk.closed().await;
        }
    });
}

#[test]
fn v_75_alpn_of_another_protocol_is_refused() {
    run(async {
        let authority = Authority::new();
        let (lab, _) = tls_lab(&authority, "sip:example.net");
        for (offered, good) in [
            (&[][..], true),
            (&[&b"sip/2"[..]], true),
            (&[b"h2", b"sip/2"], true),
            (&[b"http/1.1"], false),
            (&[b"h2", b"http/1.1"], false),
        ] {
            let connector =
                tokio_rustls::TlsConnector::from(other_client(authority.trust(), offered));
            let name = ServerName::try_from("example.net").unwrap();
            let connected = connector.connect(name, lab.dial().await).await;
            assert_eq!(connected.is_ok(), good, "{offered:?}");
        }
    });
}

#[test]
fn v_48_tls_1_1_is_refused_with_an_alert() {
    run(async {
        let authority = Authority::new();
        let (lab, _) = tls_lab(&authority, "sip:example.net");
        // A ClientHello of TLS 1.1: one suite, no extensions.
        let hello = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0xC0, 0x14], &[1, 0]].concat();
        let length = u8::try_from(hello.len()).unwrap();
        let octets = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
        let mut tcp = lab.dial().await;
        tcp.write_all(&octets).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        assert_eq!((answer[0], answer[5]), (21, 2), "a fatal alert: {answer:?}");
        let why = answer[6];
        assert!(matches!(why, 40 | 47 | 70 | 109), "alert {why}");
        assert_eq!(lab.transports.flows().open_count(), 0);
    });
}

/// A core peer: it shows `names`, and tells what it reads.
async fn tls_peer(authority: &Authority, names: &[&str]) -> (TcpListener, ServerTls) {
    let tls = ServerTls::new(&shows(authority.issue(names))).unwrap();
    (TcpListener::bind("127.0.0.1:0").await.unwrap(), tls)
}

/// A lab that dials with trust in `authority`.
fn dialling(authority: &Authority) -> Lab {
    let client_tls = Some(Arc::new(ClientTls::new(authority.trust(), None).unwrap()));
    Lab::new(Setup { client_tls, ..Setup::default() })
}

#[test]
fn what_is_sent_before_a_dialled_connection_stands_arrives_on_it() {
    run(async {
        let lab = Lab::new(Setup::default());
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(peer.local_addr().unwrap(), Transport::Tcp, "core.example");
        let flow = lab.transports.connect(&target).unwrap();
        for _ in 0..3 {
            lab.transports.send(&flow, Bytes::from_static(REQUEST)).unwrap();
        }
        assert_eq!(lab.transports.connect(&target), Ok(flow), "the same connection");
        let (mut core, _) = peer.accept().await.unwrap();
        assert_eq!(read_exactly(&mut core, REQUEST.len() * 3).await, REQUEST.repeat(3));
        let facts = lab.desk.opened().await;
        assert_eq!(
            (facts.flow, facts.side, facts.target.as_ref()),
            (flow, Side::Core, Some(&target))
        );
        core.write_all(ANSWER).await.unwrap();
        assert_eq!(lab.desk.message().await, (flow, Bytes::from_static(ANSWER)));
        drop(core);
        lab.desk.closed().await;
        let again = lab.transports.connect(&target).unwrap();
        assert_ne!(
            again.connection, flow.connection,
            "another connection, since that one is closed"
        );
        peer.accept().await.unwrap();
    });
}

#[test]
fn v_40_a_peer_of_another_domain_is_refused_and_told_nothing() {
    run(async {
        let authority = Authority::new();
        let lab = dialling(&authority);
        for names in [&["sip:example.org"][..], &["*.example.net"], &["sips:example.net"], &[]] {
            let (peer, tls) = tls_peer(&authority, names).await;
            let target = target(peer.local_addr().unwrap(), Transport::Tls, "example.net");
            let flow = lab.transports.connect(&target).unwrap();
            lab.transports.send(&flow, Bytes::from_static(REQUEST)).unwrap();
            let (tcp, _) = peer.accept().await.unwrap();
            assert!(tls::accept(&tls, tcp).await.is_err(), "{names:?}: no handshake");
            let (failed, why) = lab.desk.dial_failed().await;
            assert_eq!(failed, flow, "{names:?}");
            assert!(matches!(why, DialError::Tls(TlsRefusal::WrongName(_))), "{names:?}: {why}");
            assert!(!lab.transports.flows().is_open(&flow), "{names:?}");
        }
        assert_eq!(lab.transports.flows().tally().wrong_names.get(), 4);
    });
}

#[test]
fn v_41_a_connection_serves_the_domain_it_was_dialled_for_and_no_other() {
    run(async {
        let authority = Authority::new();
        let lab = dialling(&authority);
        let (peer, tls) = tls_peer(&authority, &["sip:example.net", "sip:example.org"]).await;
        let address = peer.local_addr().unwrap();
        let mut held = Vec::new();
        let mut flows = Vec::new();
        for (name, transport, domain, group) in [
            ("the first", Transport::Tls, "example.net", 0),
            ("another domain, also in the certificate", Transport::Tls, "example.org", 0),
            ("another group", Transport::Tls, "example.net", 1),
        ] {
            let target = Target { group: GroupId(group), ..target(address, transport, domain) };
            let flow = lab.transports.connect(&target).unwrap();
            let (tcp, _) = peer.accept().await.unwrap();
            held.push(tls::accept(&tls, tcp).await.unwrap());
            assert_eq!(lab.desk.opened().await.flow, flow, "{name}");
            assert_eq!(lab.transports.connect(&target), Ok(flow), "{name}: reused for itself");
            assert!(!flows.contains(&flow), "{name}: its own connection");
            flows.push(flow);
        }
        // A domain that the certificate does not carry is refused, though a good connection is open.
        let foreign = target(address, Transport::Tls, "example.com");
        let flow = lab.transports.connect(&foreign).unwrap();
        let (tcp, _) = peer.accept().await.unwrap();
        assert!(tls::accept(&tls, tcp).await.is_err());
        assert_eq!(lab.desk.dial_failed().await.0, flow);
        assert_eq!(lab.transports.flows().open_count(), 3);
    });
}

#[test]
fn v_80_tls_that_fails_is_never_followed_by_cleartext() {
    run(async {
        let authority = Authority::new();
        let lab = dialling(&authority);
        let request = Bytes::from_static(REQUEST);
        // Nobody listens.
        let vacant = tokio::net::TcpSocket::new_v4().unwrap();
        vacant.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nobody = target(vacant.local_addr().unwrap(), Transport::Tls, "example.net");
        let flow = lab.transports.connect(&nobody).unwrap();
        lab.transports.send(&flow, request.clone()).unwrap();
        let (_, why) = lab.desk.dial_failed().await;
        assert_eq!(why, DialError::Lost(std::io::ErrorKind::ConnectionRefused));
        // It speaks SIP in the clear; it resets.
        for (name, answer) in [("clear", ANSWER), ("resets", b"")] {
            let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let clear = target(peer.local_addr().unwrap(), Transport::Tls, "example.net");
            let flow = lab.transports.connect(&clear).unwrap();
            lab.transports.send(&flow, request.clone()).unwrap();
            let (mut tcp, _) = peer.accept().await.unwrap();
            let mut seen = vec![0; 3];
            tcp.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen[0], 22, "{name}: a TLS record");
            tcp.write_all(answer).await.unwrap();
            if answer.is_empty() {
                tcp.set_zero_linger().unwrap();
                drop(tcp);
            } else {
                tcp.shutdown().await.unwrap();
                // A reset may cut this short: what came before it is what counts.
                let _ = tcp.read_to_end(&mut seen).await;
                let leaked = seen.windows(7).any(|window| window == b"OPTIONS");
                assert!(!leaked, "{name}: the request went out in the clear");
            }
            let (_, why) = lab.desk.dial_failed().await;
            let refused =
                matches!(why, DialError::Tls(TlsRefusal::Protocol(_) | TlsRefusal::Lost(_)));
            assert!(refused, "{name}: {why:?}");
        }
        // No TLS was set up.
        let lab = Lab::new(Setup::default());
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(peer.local_addr().unwrap(), Transport::Tls, "example.net");
        lab.transports.connect(&target).unwrap();
        assert_eq!(lab.desk.dial_failed().await.1, DialError::NoTls);
    });
}

#[test]
fn a_core_peer_by_udp_is_reached_from_the_core_listener() {
    run(async {
        let lab = Lab::new(Setup::default());
        let core = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = target(core.local_addr().unwrap(), Transport::Udp, "core.example");
        let flow = lab.transports.connect(&target).unwrap();
        assert_eq!((flow.listener, flow.connection), (ListenerId(1), None));
        lab.transports.send(&flow, Bytes::from_static(REQUEST)).unwrap();
        lab.transports.flush(|_| {});
        let mut room = [0; 200];
        let (length, from) = core.recv_from(&mut room).await.unwrap();
        assert_eq!((&room[..length], from), (REQUEST, lab.address(1)));
        let six = Target { address: "[::1]:5060".parse().unwrap(), ..target };
        assert_eq!(lab.transports.connect(&six), Err(SendError::NoListener), "no IPv6 listener");
    });
}

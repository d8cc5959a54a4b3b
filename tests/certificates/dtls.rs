//! DTLS is TLS: whom a client's certificate proves, what a responder says of it, and sessions that end with theirs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sipward::authentication::certificate_users::{CertificateUser, CertificateUsers, Mark};
use sipward::clock;
use sipward::identity::Impu;
use sipward::transport::dtls::engine::{DtlsEngine, Event};
use sipward::transport::dtls::server::{DtlsServer, DtlsSpec, Library};
use sipward::transport::dtls::webrtc::{self, ClientProof};
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{Certificate, ServerSpec};
use sipward::transport::{Closed, ListenerId, StreamFacts};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::authority::{Authority, SERIAL, shows};
use crate::edge::{ANSWER, Edge, REQUEST, run};
use crate::responder::{Answer, Reply, Says, Server};

const BOTH: [Library; 2] = [Library::Openssl, Library::Webrtc];

/// A device with a socket of its own.
struct Phone {
    socket: UdpSocket,
    engine: Box<dyn DtlsEngine>,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Phone {
    /// One that begins to shake hands with the edge, and shows `shows`.
    async fn new(edge: SocketAddr, trust: Trust, shows: Option<Certificate>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(edge).await.unwrap();
        let bell = Arc::new(Bell::default());
        let (name, shows) = ("edge.example.net".into(), shows.map(Arc::new));
        let proof = ClientProof::Certificate { trust, name, shows };
        let mut engine = webrtc::client(proof, Waker::from(Arc::clone(&bell))).unwrap();
        engine.turn(clock::mono());
        Self { socket, engine, bell }
    }

    /// The next thing that happens to it.
    async fn event(&mut self) -> Event {
        let mut room = vec![0; 65_536];
        loop {
            while let Some(datagram) = self.engine.poll_transmit() {
                self.socket.send(&datagram).await.unwrap();
            }
            if let Some(event) = self.engine.poll_event() {
                return event;
            }
            tokio::select! {
                read = self.socket.recv(&mut room) => {
                    self.engine.input(&room[..read.unwrap()], clock::mono());
                }
                () = self.bell.0.notified() => self.engine.turn(clock::mono()),
            }
        }
    }

    async fn established(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Event::Established(_)), "{event:?}");
    }

    /// Sends a message, once the library has made a record of it.
    async fn send(&mut self, message: &[u8]) {
        self.engine.send(message, clock::mono()).unwrap();
        loop {
            let datagrams: Vec<_> = std::iter::from_fn(|| self.engine.poll_transmit()).collect();
            for datagram in &datagrams {
                self.socket.send(datagram).await.unwrap();
            }
            if !datagrams.is_empty() {
                return;
            }
            self.bell.0.notified().await;
            self.engine.turn(clock::mono());
        }
    }
}

/// A message goes each way.
async fn exchange(edge: &Edge, phone: &mut Phone, facts: &StreamFacts) {
    phone.send(REQUEST).await;
    assert_eq!(edge.message().await, (facts.flow, Bytes::from_static(REQUEST)));
    edge.transports.send(&facts.flow, Bytes::from_static(ANSWER)).unwrap();
    assert_eq!(phone.event().await, Event::Data(Bytes::from_static(ANSWER)));
}

/// What a listener is given that asks clients for certificates.
fn spec(engine: Library, authority: &Authority, trust: Trust) -> DtlsSpec {
    let asks = ClientCertificate::Required;
    let certificates = ServerSpec { asks, trust, ..shows(authority.issue(&["edge.example.net"])) };
    DtlsSpec { engine, certificates: Some(Arc::new(certificates)), shared_keys: None }
}

fn edge(spec: &DtlsSpec) -> (Edge, Arc<DtlsServer>) {
    let dtls = Arc::new(DtlsServer::new(spec).unwrap());
    (Edge::new(&dtls), dtls)
}

/// That the certificate with the name `device.example.net` is of `user`.
fn mapped(user: &str) -> Arc<CertificateUsers> {
    let identities = [Impu::new(&format!("sip:{user}@example.net")).unwrap()].into();
    let mut users = CertificateUsers::new();
    users.insert(
        Mark::name("device.example.net"),
        CertificateUser { name: user.into(), identities },
    );
    Arc::new(users)
}

/// Both know each other, and a message goes each way.
async fn talk(edge: &Edge, phone: &mut Phone) -> Option<String> {
    phone.established().await;
    let facts = edge.opened().await;
    exchange(edge, phone, &facts).await;
    facts.channel.as_ref().map(|caller| caller.principal.name.to_string())
}

/// Who is configured for a certificate is whom it proves; the configuration may change its mind, and then the session
/// of the one who is somebody else now is over.
#[test]
fn a_certificate_proves_whom_the_configuration_says() {
    run(async {
        let authority = Authority::new();
        for library in BOTH {
            let knowing = |user| authority.trust().knowing(mapped(user));
            let (edge, dtls) = edge(&spec(library, &authority, knowing("alice")));
            let address = edge.address(0);
            let phone = async |names: &[&str]| {
                Phone::new(address, authority.trust(), Some(authority.issue(names))).await
            };
            let mut device = phone(&["device.example.net"]).await;
            assert_eq!(talk(&edge, &mut device).await.as_deref(), Some("alice"), "{library:?}");
            let mut own = phone(&["sip:carol@example.net"]).await;
            let name = talk(&edge, &mut own).await;
            assert_eq!(name.as_deref(), Some("sip:carol@example.net"), "{library:?}");
            let mut nobody = phone(&["other.example.net"]).await;
            assert_eq!(talk(&edge, &mut nobody).await, None, "{library:?}");

            // The same words again change nothing; another user ends one session of three.
            dtls.replace(&spec(library, &authority, knowing("alice"))).unwrap();
            dtls.replace(&spec(library, &authority, knowing("bob"))).unwrap();
            assert_eq!(edge.closed().await.1, Closed::CertificateRevoked, "{library:?}");
            assert_eq!(device.event().await, Event::Closed(ended()), "told by a good-bye");
            assert_eq!(edge.count("certificates_over"), 1);
            let mut device = phone(&["device.example.net"]).await;
            assert_eq!(talk(&edge, &mut device).await.as_deref(), Some("bob"), "{library:?}");
        }
    });
}

fn ended() -> sipward::transport::dtls::engine::Ended {
    sipward::transport::dtls::engine::Ended::Peer
}

/// At the face of the servers a certificate is a server's: no user is taken from it.
#[test]
fn a_certificate_proves_no_user_to_the_core_side() {
    run(async {
        let authority = Authority::new();
        let (edge, _dtls) = edge(&spec(Library::Openssl, &authority, authority.trust()));
        let shown = authority.issue(&["sip:alice@example.net"]);
        let mut phone = Phone::new(edge.address(1), authority.trust(), Some(shown)).await;
        phone.established().await;
        let facts = edge.opened().await;
        assert_eq!(facts.flow.listener, ListenerId(1));
        assert!(facts.channel.is_none());
        assert_eq!(facts.names.as_ref().unwrap().users.len(), 1);
    });
}

/// CR-03: a responder's word comes before anything that is read; without it nobody is let in.
#[test]
fn a_session_is_entered_only_if_the_responder_calls_its_certificate_good() {
    run(async {
        let authority = Authority::new();
        let body = |says| Reply::Body(Answer { says, ..Answer::good(&authority) }.der());
        for library in BOTH {
            for (name, reply, good) in [
                ("good", body(Says::Good), true),
                ("revoked", body(Says::Revoked), false),
                ("unknown", body(Says::Unknown), false),
                ("declined", Reply::Body(crate::responder::declined(3)), false),
            ] {
                let server = Server::start([reply]).await;
                let trust = authority.trust().asking(server.desk());
                let (edge, _dtls) = edge(&spec(library, &authority, trust));
                let shown = authority.issue(&["sip:alice@example.net"]);
                let mut phone = Phone::new(edge.address(0), authority.trust(), Some(shown)).await;
                phone.established().await;
                // Sent before the answer is there, and read after it.
                phone.send(REQUEST).await;
                if good {
                    let facts = edge.opened().await;
                    let (flow, _) = edge.message().await;
                    assert_eq!(flow, facts.flow, "{library:?}, {name}");
                } else {
                    assert_eq!(phone.event().await, Event::Closed(ended()), "{library:?}, {name}");
                    edge.until("handshakes_failed", 1).await;
                    assert_eq!(edge.transports.flows().open_count(), 0, "{library:?}, {name}");
                    assert_eq!(edge.transports.flows().unauthenticated_count(), 0);
                }
                assert_eq!(server.questions().len(), 1, "{library:?}, {name}");
            }
        }
    });
}

/// What stands is judged again: when lists are loaded anew, and each time that the responder is to be asked.
#[test]
fn a_session_ends_once_its_certificate_is_taken_back() {
    run(async {
        let authority = Authority::new();
        for library in BOTH {
            let less = |serials: &[&[u8]]| authority.trust_less(serials, 2999);
            let (edge, dtls) = edge(&spec(library, &authority, less(&[])));
            let shown = || Some(authority.issue(&["sip:alice@example.net"]));
            let mut phone = Phone::new(edge.address(0), authority.trust(), shown()).await;
            talk(&edge, &mut phone).await;
            dtls.replace(&spec(library, &authority, less(&[SERIAL]))).unwrap();
            assert_eq!(edge.closed().await.1, Closed::CertificateRevoked, "{library:?}: a list");
            assert_eq!(phone.event().await, Event::Closed(ended()), "{library:?}: a list");
            let mut again = Phone::new(edge.address(0), authority.trust(), shown()).await;
            let refused = again.event().await;
            assert!(matches!(refused, Event::Closed(_)), "{library:?}: {refused:?}");

            let good = Reply::Body(Answer::good(&authority).der());
            let server = Server::start([good]).await;
            // No sooner than a second: that is the least pause between two looks.
            let desk = server.desk_with(|settings| settings.interval = Duration::from_secs(1));
            let asking = spec(library, &authority, authority.trust().asking(desk));
            dtls.replace(&asking).unwrap();
            let mut phone = Phone::new(edge.address(0), authority.trust(), shown()).await;
            talk(&edge, &mut phone).await;
            let revoked = Answer { says: Says::Revoked, ..Answer::good(&authority) }.der();
            server.says(Reply::Body(revoked));
            assert_eq!(
                edge.closed().await.1,
                Closed::CertificateRevoked,
                "{library:?}: asked again"
            );
            assert_eq!(phone.event().await, Event::Closed(ended()), "{library:?}: asked again");
            assert_eq!(edge.count("certificates_over"), 2, "{library:?}");
        }
    });
}

/// What stands on a certificate ends with it, and was not taken back.
#[test]
fn a_session_ends_with_its_certificate() {
    run(async {
        let authority = Authority::new();
        let (edge, _dtls) = edge(&spec(Library::Openssl, &authority, authority.trust()));
        let shown = authority.issue_with(&["sip:alice@example.net"], |params| {
            params.not_after = (SystemTime::now() + Duration::from_secs(5)).into();
        });
        let mut phone = Phone::new(edge.address(0), authority.trust(), Some(shown)).await;
        assert_eq!(talk(&edge, &mut phone).await.as_deref(), Some("sip:alice@example.net"));
        assert_eq!(edge.closed().await.1, Closed::CertificateOver);
        assert_eq!(phone.event().await, Event::Closed(ended()));
    });
}

/// V-74: what panics outside of a message, while a session is entered, while it is seen off, and at the end of a turn, is
/// counted and costs that session at most; the port and its other sessions go on.
#[test]
fn v_74_a_panic_outside_of_messages_ends_one_session_and_no_port() {
    run(async {
        let authority = Authority::new();
        for library in BOTH {
            let (edge, _dtls) = edge(&spec(library, &authority, authority.trust()));
            let phone = async || {
                let shows = Some(authority.issue(&["sip:alice@example.net"]));
                Phone::new(edge.address(0), authority.trust(), shows).await
            };
            let mut bystander = phone().await;
            bystander.established().await;
            let facts = edge.opened().await;
            exchange(&edge, &mut bystander, &facts).await;

            edge.startle("opened");
            let mut victim = phone().await;
            victim.established().await;
            assert_eq!(
                victim.event().await,
                Event::Closed(ended()),
                "{library:?}: told by a good-bye"
            );
            edge.until("panicked", 1).await;
            assert_ne!(edge.closed().await.0, facts.flow, "{library:?}");
            exchange(&edge, &mut bystander, &facts).await;

            let mut leaver = phone().await;
            leaver.established().await;
            edge.opened().await;
            edge.startle("closed");
            leaver.engine.close(clock::mono());
            tokio::select! {
                () = edge.until("panicked", 2) => {}
                _ = async { loop { leaver.event().await; } } => {}
            }
            exchange(&edge, &mut bystander, &facts).await;

            edge.startle("turn");
            bystander.send(REQUEST).await;
            edge.message().await;
            edge.until("panicked", 3).await;
            exchange(&edge, &mut bystander, &facts).await;
            assert_eq!(edge.count("panicked"), 3, "{library:?}");
        }
    });
}

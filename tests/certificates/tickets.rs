//! V-46, tickets: whoever resumes a session is who he was, and is judged as if he came for the first time.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{KeyPair, SanType, SerialNumber};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, HandshakeKind, NamedGroup, SupportedProtocolVersion, version};
use sipward::authentication::certificate_users::{CertificateUser, CertificateUsers, Mark};
use sipward::identity::Impu;
use sipward::transport::peer::{ClientCertificate, PeerVerifier, Trust};
use sipward::transport::tls::{self, Greeted, ServerSpec, ServerTls, TlsRefusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, SERIAL, shows};
use crate::programs::pem;
use crate::responder::{Answer, Reply, Says, Server};

const EDGE: &str = "edge.example.net";
const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// A listener that says one octet to whomever it lets in.
struct Listener {
    tls: ServerTls,
    tcp: TcpListener,
}

impl Listener {
    async fn new(authority: &Authority, trust: Trust) -> Self {
        let tls = ServerTls::new(&spec(authority, trust)).unwrap();
        Self { tls, tcp: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    async fn accept(&self) -> Result<Greeted, TlsRefusal> {
        let (tcp, _) = self.tcp.accept().await.unwrap();
        let (mut stream, greeted) = tls::accept(&self.tls, tcp).await?;
        stream.write_all(b"x").await.unwrap();
        stream.shutdown().await.unwrap();
        Ok(greeted)
    }

    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }
}

/// One that asks for certificates, and has one for each of two names.
fn spec(authority: &Authority, trust: Trust) -> ServerSpec {
    let asks = ClientCertificate::Required;
    let other = authority.issue(&["sip:other.example.net"]);
    let mut spec = ServerSpec { asks, trust, ..shows(authority.issue(&["sip:edge.example.net"])) };
    spec.certificates.push(other);
    spec
}

/// A device's certificate and key.
fn paper(authority: &Authority, until: Option<SystemTime>) -> (CertificateDer<'static>, KeyPair) {
    authority.issue_alone(|params| {
        let name = |text: &str| Ia5String::try_from(text).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(SERIAL));
        params.subject_alt_names = vec![
            SanType::URI(name("sip:alice@example.net")),
            SanType::DnsName(name("device.example.net")),
        ];
        if let Some(until) = until {
            params.not_after = until.into();
        }
    })
}

/// Sessions of a device that offers each of them everywhere, whatever server it is of.
#[derive(Debug)]
struct OneDrawer(ClientSessionMemoryCache);

fn anywhere() -> ServerName<'static> {
    ServerName::try_from("anywhere.example").unwrap()
}

impl ClientSessionStore for OneDrawer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(anywhere(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&anywhere())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anywhere(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anywhere())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anywhere());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anywhere(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anywhere())
    }
}

/// A device with a drawer full of sessions.
struct Device(Arc<rustls::ClientConfig>);

impl Device {
    fn new(
        authority: &Authority,
        version: &'static SupportedProtocolVersion,
        (own, key): (CertificateDer<'static>, KeyPair),
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = PeerVerifier::new(authority.trust(), ClientCertificate::None);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(vec![own], key)
            .unwrap();
        let drawer = OneDrawer(ClientSessionMemoryCache::new(8));
        config.resumption = Resumption::store(Arc::new(drawer));
        config.enable_early_data = true;
        Self(Arc::new(config))
    }

    /// Shakes hands; how, and whether it was let in.
    async fn connect(&self, address: SocketAddr, name: &str) -> (Option<HandshakeKind>, bool) {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.0));
        let Ok(mut stream) = connector.connect(name, tcp).await else { return (None, false) };
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        let client = stream.get_ref().1;
        assert!(!client.is_early_data_accepted());
        (client.handshake_kind(), read == b"x")
    }

    /// The same as both ends see it.
    async fn meets(
        &self,
        listener: &Listener,
        name: &str,
    ) -> (Option<HandshakeKind>, Result<String, TlsRefusal>) {
        let (accepted, (kind, let_in)) =
            tokio::join!(listener.accept(), self.connect(listener.address(), name));
        assert_eq!(accepted.is_ok(), let_in, "{kind:?}, {accepted:?}");
        let who = accepted.map(|greeted| {
            assert_eq!(greeted.asked_for.as_deref(), Some(name));
            assert_eq!(greeted.names.unwrap().users[0].as_str(), "sip:alice@example.net");
            greeted.user.unwrap().principal.name.to_string()
        });
        (kind, who)
    }
}

fn mapped(user: &str) -> Arc<CertificateUsers> {
    let identities = [Impu::new(&format!("sip:{user}@example.net")).unwrap()].into();
    let mut users = CertificateUsers::new();
    let user = CertificateUser { name: user.into(), identities };
    users.insert(Mark::name("device.example.net"), user);
    Arc::new(users)
}

const FULL: Option<HandshakeKind> = Some(HandshakeKind::Full);
const RESUMED: Option<HandshakeKind> = Some(HandshakeKind::Resumed);

#[tokio::test]
async fn whoever_resumes_is_who_was_verified_first() {
    let authority = Authority::new();
    for version in BOTH {
        let trust = authority.trust().knowing(mapped("device"));
        let listener = Listener::new(&authority, trust).await;
        let device = Device::new(&authority, version, paper(&authority, None));
        for kind in [FULL, RESUMED, RESUMED] {
            let met = device.meets(&listener, EDGE).await;
            assert_eq!(met, (kind, Ok("device".into())), "{version:?}");
        }
        // A ticket of one server name is none of another.
        let met = device.meets(&listener, "other.example.net").await;
        assert_eq!(met, (FULL, Ok("device".into())), "{version:?}");
    }
}

#[tokio::test]
async fn after_a_reload_everybody_shakes_hands_in_full() {
    let authority = Authority::new();
    let revoked = TlsRefusal::Certificate(CertificateError::Revoked);
    let stranger = TlsRefusal::Certificate(CertificateError::UnknownIssuer);
    for version in BOTH {
        for (name, trust, expected) in [
            ("nothing changed", authority.trust(), Ok("sip:alice@example.net".to_owned())),
            ("another user", authority.trust().knowing(mapped("bob")), Ok("bob".to_owned())),
            ("taken back", authority.trust_less(&[SERIAL], 2999), Err(revoked.clone())),
            ("of a stranger", Authority::new().trust(), Err(stranger.clone())),
        ] {
            let listener = Listener::new(&authority, authority.trust()).await;
            let device = Device::new(&authority, version, paper(&authority, None));
            let alice = || Ok("sip:alice@example.net".to_owned());
            for kind in [FULL, RESUMED] {
                let met = device.meets(&listener, EDGE).await;
                assert_eq!(met, (kind, alice()), "{name}, {version:?}");
            }
            listener.tls.replace(&spec(&authority, trust)).unwrap();
            let (kind, who) = device.meets(&listener, EDGE).await;
            assert_ne!(kind, RESUMED, "{name}, {version:?}");
            assert_eq!(who, expected, "{name}, {version:?}");
        }
    }
}

/// The ticket is good; what it stands for is not.
#[tokio::test]
async fn a_resumed_session_ends_if_its_certificate_is_taken_back_or_over() {
    let authority = Authority::new();
    let alice = || Ok("sip:alice@example.net".to_owned());
    for version in BOTH {
        let server = Server::start([Reply::Body(Answer::good(&authority).der())]).await;
        let desk = server.desk_with(|settings| settings.interval = Duration::ZERO);
        let listener = Listener::new(&authority, authority.trust().asking(desk)).await;
        let device = Device::new(&authority, version, paper(&authority, None));
        for kind in [FULL, RESUMED] {
            assert_eq!(device.meets(&listener, EDGE).await, (kind, alice()), "{version:?}");
        }
        assert_eq!(server.questions().len(), 2, "asked about once more: {version:?}");
        let revoked = Answer { says: Says::Revoked, ..Answer::good(&authority) }.der();
        server.says(Reply::Body(revoked));
        for kind in [RESUMED, RESUMED] {
            let (found, who) = device.meets(&listener, EDGE).await;
            let why = TlsRefusal::Certificate(CertificateError::Revoked);
            assert_eq!((found, who), (kind, Err(why)), "{version:?}");
        }

        let soon = SystemTime::now() + Duration::from_secs(5);
        let listener = Listener::new(&authority, authority.trust()).await;
        let device = Device::new(&authority, version, paper(&authority, Some(soon)));
        let mut kinds = Vec::new();
        let why = loop {
            let (kind, who) = device.meets(&listener, EDGE).await;
            kinds.push(kind);
            if let Err(why) = who {
                break why;
            }
        };
        assert_eq!(why, TlsRefusal::Certificate(CertificateError::Expired), "{version:?}");
        assert!(kinds.len() > 1 && kinds[1..].iter().all(|kind| *kind == RESUMED), "{kinds:?}");
    }
}

/// OpenSSL's client, as a process: whether it resumed.
async fn s_client(listener: &Listener, folder: &std::path::Path, arguments: &[&str]) -> bool {
    let mut child = Command::new("openssl");
    child.current_dir(folder).arg("s_client").args(["-connect", &listener.address().to_string()]);
    child.args(["-cert", "own.pem", "-key", "own.key", "-ign_eof"]).args(arguments);
    let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = child.spawn().expect("openssl is there: tests/run installs it");
    listener.accept().await.unwrap();
    let said = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let (new, reused) = (said.contains("\nNew, TLSv1"), said.contains("\nReused, TLSv1"));
    assert_ne!(new, reused, "{said}");
    reused
}

#[tokio::test]
async fn tickets_of_openssl_are_good_once_where_they_were_given_and_unaltered() {
    use base64::Engine as _;
    let authority = Authority::new();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tickets");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let (own, key) = paper(&authority, None);
    write("own.pem", &pem(&own));
    write("own.key", &key.serialize_pem());
    for version in ["-tls1_3", "-tls1_2"] {
        let listener = Listener::new(&authority, authority.trust()).await;
        let first = ["-servername", EDGE, version, "-sess_out", "session.pem"];
        assert!(!s_client(&listener, &folder, &first).await, "{version}");
        let again = ["-servername", EDGE, version, "-sess_in", "session.pem"];
        assert!(s_client(&listener, &folder, &again).await, "{version}");
        let elsewhere = ["-servername", "other.example.net", version, "-sess_in", "session.pem"];
        assert!(!s_client(&listener, &folder, &elsewhere).await, "{version}");

        // The ticket stands in the session as [10], around an OCTET STRING.
        let text = std::fs::read_to_string(folder.join("session.pem")).unwrap();
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let engine = base64::engine::general_purpose::STANDARD;
        let mut octets = engine.decode(base64).unwrap();
        let is_ticket = |at: &[u8]| matches!(at, [0xAA, 0x82, _, _, 0x04, 0x82, ..]);
        let at = octets.windows(6).rposition(is_ticket).expect("a ticket");
        octets[at + 100] ^= 1;
        let body = engine.encode(&octets);
        let body = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap());
        let body = body.collect::<Vec<_>>().join("\n");
        let head = "SSL SESSION PARAMETERS-----\n";
        write("altered.pem", &format!("-----BEGIN {head}{body}\n-----END {head}"));
        let altered = ["-servername", EDGE, version, "-sess_in", "altered.pem"];
        assert!(!s_client(&listener, &folder, &altered).await, "{version}");
    }
    let _ = std::fs::remove_dir_all(&folder);
}

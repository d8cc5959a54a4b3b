//! TS 24.109 annex I.2 over real TLS: bootstrapping by password, with a man in the middle, and without one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use sipward::authentication::digest::Hash;
use sipward::client::bootstrap::{Bootstrapped, UbFailure, UbGet, UbNext, UbPlan, UbReply};
use sipward::client::bootstrap_digest::{DigestBootstrap, UbPassword};
use sipward::client::bootstrap_http::{
    UbFault, bootstrap, bootstrap_by_password, bootstrap_over_tls,
};
use sipward::clock;
use sipward::http::Bounds;
use sipward::http::ub::{self, Desk};
use sipward::identity::{Impi, Realm};
use sipward::keys::bootstrap::{
    Bsf, BsfConfig, DigestConfig, NafGrant, NafRefusal, UaGrant, UbOutcome,
};
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::{Sqn, SqnGenerator, SqnWindow};
use sipward::keys::subscribers::{Card, DigestSecret, Subscriber};
use sipward::keys::usim::Usim;
use sipward::keys::vector::Algorithms;
use sipward::keys::{GbaType, NafId, TlsExport, UaId};
use sipward::transport::export;
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{self, ServerSpec, ServerTls, TlsRefusal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::authority::Authority;

const BSF: &str = "bsf.home1.net";
const IMPI: &str = "user1_private@home1.net";
const PASSWORD: &str = "sip-digest-secret";

/// A server with a door in the clear and one under TLS.
struct Doors {
    authority: Authority,
    bsf: Arc<Bsf>,
    plain: SocketAddr,
    tls: SocketAddr,
    /// How requests ended, at either door.
    seen: Arc<Mutex<Vec<UbOutcome>>>,
}

fn card() -> Algorithms {
    Algorithms::Milenage(Milenage::with_opc(&[5; 16], &[6; 16]))
}

fn spec(authority: &Authority, name: &str) -> ServerSpec {
    let certificates = vec![authority.issue(&[name])];
    ServerSpec { certificates, asks: ClientCertificate::None, trust: Trust::nobody() }
}

impl Doors {
    async fn open(digest: Option<DigestConfig>) -> Self {
        let password = DigestSecret::Password(Zeroizing::new(PASSWORD.to_owned()));
        let subscriber = Subscriber {
            impi: Impi::new(IMPI).unwrap(),
            algorithms: Some(card()),
            digest: Some(password),
            amf: [0x80, 0],
            sqn: SqnGenerator::new(Sqn::default()),
            impus: Arc::from([]),
            key_lifetime: None,
            barred: false,
            card: Card::Gba,
            uss: Arc::from([]),
        };
        let grant = NafGrant {
            host: "edge".into(),
            fqdns: vec!["naf.home1.net".into()],
            protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
            sees_impi: true,
            sees_identities: true,
        };
        let config = BsfConfig { digest, ..BsfConfig::new(BSF) };
        let bsf = Arc::new(Bsf::new(config, vec![subscriber], vec![grant], [1; 32]).unwrap());
        let authority = Authority::new();
        let server = Arc::new(ServerTls::of_bootstrapping(&spec(&authority, BSF)).unwrap());
        let [plain, under] = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let (at, tls) = (plain.local_addr().unwrap(), under.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let desk = || Desk { bsf: Arc::clone(&bsf), home: None };
        let count = || {
            let seen = Arc::clone(&seen);
            move |outcome| seen.lock().unwrap().push(outcome)
        };
        let (bounds, never) = (Bounds::default(), std::future::pending);
        tokio::spawn(ub::serve(plain, desk(), bounds, count(), never()));
        tokio::spawn(ub::serve_tls(under, server, desk(), bounds, count(), never()));
        Self { authority, bsf, plain: at, tls, seen }
    }

    async fn new() -> Self {
        Self::open(Some(DigestConfig::new(Realm::new("home1.net").unwrap()))).await
    }

    fn client(&self) -> Arc<ClientConfig> {
        export::client(self.authority.trust()).unwrap()
    }

    /// A run by password at `address`.
    async fn run(&self, address: SocketAddr, user: &UbPassword) -> Result<Bootstrapped, UbFault> {
        bootstrap_by_password(&plan(), address, &self.client(), user).await
    }

    fn naf_key(&self, of: &Bootstrapped) -> Result<[u8; 32], NafRefusal> {
        let key = self.bsf.naf_key("edge", &of.btid, &naf(), clock::now())?;
        assert_eq!(key.kind, of.kind());
        Ok(*key.key.expose())
    }
}

fn plan() -> UbPlan {
    UbPlan::new(Impi::new(IMPI).unwrap(), BSF)
}

fn user(password: &str) -> UbPassword {
    UbPassword::new(Zeroizing::new(password.to_owned()))
}

fn naf() -> NafId {
    NafId::new("naf.home1.net", UaId::SIP_DIGEST)
}

/// A UE that sends what it is told to, over a connection of its own.
struct Raw {
    stream: TlsStream<TcpStream>,
    exported: TlsExport,
}

/// What came back.
struct Said {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Raw {
    async fn connect(doors: &Doors) -> Self {
        let stream = TcpStream::connect(doors.tls).await.unwrap();
        let (stream, _) = tls::connect(doors.client(), BSF, stream).await.unwrap();
        let exported = export::of(stream.get_ref().1, "EXPORTER_GBA_Digest").unwrap();
        Self { stream, exported }
    }

    async fn ask(&mut self, get: &UbGet, more: &str) -> Said {
        say(&mut self.stream, get, more).await
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, get: &UbGet, more: &str) -> Said {
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nAuthorization: {}\r\n{more}",
        get.target, get.host, get.user_agent, get.authorization
    );
    let text = if more.is_empty() { text + "\r\n" } else { text };
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut octets = Vec::new();
    loop {
        let whole = String::from_utf8_lossy(&octets).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.expect("a length") {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Said { status, head: head.to_owned(), body: body.into() };
            }
        }
        let read = stream.read_buf(&mut octets).await.unwrap();
        assert_ne!(read, 0, "it ended: {whole}");
    }
}

impl Said {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Hands it to the UE's machine.
    fn to(&self, run: &mut DigestBootstrap<'_>, on: &TlsExport) -> Result<UbNext, UbFailure> {
        let challenge: Vec<&[u8]> =
            self.header("WWW-Authenticate").map(str::as_bytes).into_iter().collect();
        let reply = UbReply {
            status: self.status,
            challenges: &challenge,
            authentication_info: self.header("Authentication-Info").map(str::as_bytes),
            server: self.header("Server").map(str::as_bytes),
            body: &self.body,
        };
        run.handle(&reply, clock::random(), on, clock::now())
    }
}

/// The answer to a challenge, as it would go out.
fn next(said: &Said, run: &mut DigestBootstrap<'_>, on: &TlsExport) -> UbGet {
    match said.to(run, on) {
        Ok(UbNext::Get(get)) => get,
        other => panic!("{other:?}"),
    }
}

/// Both ways of proving oneself at the door under TLS, and the card's at the one in the clear as ever.
#[tokio::test]
async fn a_password_and_a_card_bootstrap_under_tls() {
    let doors = Doors::new().await;
    let keys = doors.run(doors.tls, &user(PASSWORD)).await.unwrap();
    assert_eq!(keys.kind(), GbaType::Digest);
    assert_eq!(doors.naf_key(&keys).unwrap(), *keys.naf_key(&naf()).unwrap().expose());

    let (plan, client) = (plan(), doors.client());
    let mut usim = Usim::new(card(), SqnWindow::default());
    let of_card = bootstrap_over_tls(&plan, doors.tls, &client, &mut usim, None).await.unwrap();
    assert_eq!(of_card.kind(), GbaType::Aka);
    assert_eq!(doors.naf_key(&of_card).unwrap(), *of_card.naf_key(&naf()).unwrap().expose());
    let in_clear = bootstrap(&plan, doors.plain, &mut usim, of_card.tmpi).await.unwrap();
    assert!(doors.naf_key(&in_clear).is_ok());
}

/// In the clear, and where it is switched off, whoever asks for a run by password is asked for a card, on any door.
#[tokio::test]
async fn no_password_is_asked_for_in_the_clear_or_when_switched_off() {
    let (plan, user) = (plan(), user(PASSWORD));
    let get = DigestBootstrap::new(&plan, &user).start();
    let (on, off) = (Doors::new().await, Doors::open(None).await);
    for (what, doors, address) in
        [("in the clear", &on, on.plain), ("off, in the clear", &off, off.plain)]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let said = say(&mut stream, &get, "").await;
        let row = said.header("WWW-Authenticate").unwrap();
        assert_eq!((said.status, row.contains("AKAv1-MD5")), (401, true), "{what}: {row}");
        assert!(!said.head.contains("SHA-256"), "{what}: {}", said.head);
        assert_eq!(doors.bsf.sessions(), 0);
    }
    let failure = off.run(off.tls, &user).await.unwrap_err();
    assert!(matches!(failure, UbFault::Run(UbFailure::NoUsableChallenge)), "{failure}");

    // A response of a good connection, taken to the door in the clear.
    let mut raw = Raw::connect(&on).await;
    let mut run = DigestBootstrap::new(&plan, &user);
    let first = raw.ask(&run.start(), "").await;
    let get = next(&first, &mut run, &raw.exported);
    let mut stream = TcpStream::connect(on.plain).await.unwrap();
    assert_eq!(say(&mut stream, &get, "").await.status, 400, "no such algorithm there");
    assert_eq!(on.bsf.sessions(), 0);
}

/// Whoever sits in between, with a certificate that the UE believes, and passes all of it on: each end exports something
/// else, and no session comes of it.
#[tokio::test]
async fn a_man_in_the_middle_has_no_use_of_a_response() {
    let doors = Doors::new().await;
    let forged = ServerTls::of_bootstrapping(&spec(&doors.authority, BSF)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (between, (client, behind)) = (listener.local_addr().unwrap(), (doors.client(), doors.tls));
    let relay = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut ue, _) = tls::accept(&forged, stream).await.unwrap();
        let stream = TcpStream::connect(behind).await.unwrap();
        let (mut server, _) = tls::connect(client, BSF, stream).await.unwrap();
        tokio::io::copy_bidirectional(&mut ue, &mut server).await.map(|(up, down)| up + down)
    });
    let failure = doors.run(between, &user(PASSWORD)).await.unwrap_err();
    assert!(matches!(failure, UbFault::Run(UbFailure::Refused(401))), "{failure}");
    let passed = relay.await.unwrap();
    assert!(passed.is_err() || passed.is_ok_and(|octets| octets > 1000), "he passed it all on");
    assert_eq!(doors.bsf.sessions(), 0);
    let seen = doors.seen.lock().unwrap().clone();
    use UbOutcome::{Challenged, Refused};
    assert_eq!(seen, [Challenged, Refused, Refused]);

    // The name is looked at, too.
    let mut elsewhere = plan();
    elsewhere.server = "bsf.elsewhere.example".into();
    let user = user(PASSWORD);
    let run = bootstrap_by_password(&elsewhere, doors.tls, &doors.client(), &user).await;
    let failure = run.unwrap_err();
    assert!(matches!(failure, UbFault::Tls(TlsRefusal::WrongName(_))), "{failure}");
    let stranger = export::client(Authority::new().trust()).unwrap();
    let run = bootstrap_by_password(&plan(), doors.tls, &stranger, &user).await;
    assert!(matches!(run.unwrap_err(), UbFault::Tls(TlsRefusal::Certificate(_))));
}

/// Each of these is refused, and makes no session.
#[tokio::test]
async fn what_is_wrong_is_refused() {
    let doors = Doors::new().await;
    let failure = doors.run(doors.tls, &user("guessed")).await.unwrap_err();
    assert!(matches!(failure, UbFault::Run(UbFailure::Refused(401))), "{failure}");
    let other_label = UbPassword { exporter: "TLS_MK_Extr".into(), ..user(PASSWORD) };
    let failure = doors.run(doors.tls, &other_label).await.unwrap_err();
    assert!(matches!(failure, UbFault::Run(UbFailure::Refused(401))), "{failure}");
    let no_such = UbPassword { algorithms: vec![Hash::Md5], ..user(PASSWORD) };
    let failure = doors.run(doors.tls, &no_such).await.unwrap_err();
    assert!(matches!(failure, UbFault::Run(UbFailure::NoUsableChallenge)), "{failure}");

    assert_eq!(doors.bsf.sessions(), 0);
}

/// Of a user who has the password.
#[tokio::test]
async fn what_is_altered_or_said_twice_is_refused() {
    let doors = Doors::new().await;
    let (plan, user) = (plan(), user(PASSWORD));
    let mut raw = Raw::connect(&doors).await;
    let mut run = DigestBootstrap::new(&plan, &user);
    let first = raw.ask(&run.start(), "").await;
    let mut get = next(&first, &mut run, &raw.exported);
    get.authorization = get.authorization.replace("qop=auth-int", "qop=auth");
    assert_eq!(raw.ask(&get, "").await.status, 401, "another qop");

    let mut run = DigestBootstrap::new(&plan, &user);
    let first = raw.ask(&run.start(), "").await;
    let get = next(&first, &mut run, &raw.exported);
    let said = raw.ask(&get, "Content-Length: 1\r\n\r\nx").await;
    assert_eq!(said.status, 400, "a body that the response does not cover");
    assert_eq!(doors.bsf.sessions(), 0);

    // Right, and then the same again: on its own connection, and on another.
    let mut raw = Raw::connect(&doors).await;
    let mut run = DigestBootstrap::new(&plan, &user);
    let first = raw.ask(&run.start(), "").await;
    let get = next(&first, &mut run, &raw.exported);
    let good = raw.ask(&get, "").await;
    assert_eq!(good.status, 200);
    assert_eq!(raw.ask(&get, "").await.status, 401, "a nonce is good once");
    assert_eq!(Raw::connect(&doors).await.ask(&get, "").await.status, 401, "nor elsewhere");
    assert_eq!(doors.bsf.sessions(), 1);

    // The 200, altered on the way.
    let altered = Said {
        body: String::from_utf8_lossy(&good.body).replace("home1", "home2").into(),
        head: good.head.clone(),
        status: 200,
    };
    let failure = altered.to(&mut run, &raw.exported).unwrap_err();
    assert_eq!(failure, UbFailure::ServerUnproved);
}

/// A response made for one connection, sent on another of the same UE.
#[tokio::test]
async fn a_response_is_good_on_its_own_connection_alone() {
    let doors = Doors::new().await;
    let (plan, user) = (plan(), user(PASSWORD));
    let (mut one, mut other) = (Raw::connect(&doors).await, Raw::connect(&doors).await);
    assert_ne!(one.exported.expose(), other.exported.expose());
    let mut run = DigestBootstrap::new(&plan, &user);
    let first = one.ask(&run.start(), "").await;
    let get = next(&first, &mut run, &one.exported);
    assert_eq!(other.ask(&get, "").await.status, 401);
    assert_eq!(doors.bsf.sessions(), 0);
}

/// V-139: the eleventh challenge within a minute is none, on however many connections; whoever goes on guessing gets nothing.
#[tokio::test]
async fn v_139_guesses_are_paced() {
    let doors = Doors::new().await;
    let (plan, user) = (plan(), user("guessed"));
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let mut raw = Raw::connect(&doors).await;
        let mut run = DigestBootstrap::new(&plan, &user);
        let first = raw.ask(&run.start(), "").await;
        statuses.push(first.status);
        if first.status == 401 {
            statuses.push(raw.ask(&next(&first, &mut run, &raw.exported), "").await.status);
        }
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 503]);
    let failure = doors.run(doors.tls, &self::user(PASSWORD)).await.unwrap_err();
    assert!(matches!(failure, UbFault::Run(UbFailure::Refused(503))), "{failure}");
    assert_eq!(doors.bsf.sessions(), 0);
}

/// A stream of another library, which exports what ours does. TLS 1.2 does with an extended master secret; without one, the
/// handshake fails, whatever it was for.
#[cfg(feature = "openssl")]
#[tokio::test]
async fn another_library_exports_the_same_and_an_extended_master_secret_is_a_must() {
    use openssl::ssl::{SslConnector, SslMethod, SslOptions, SslVerifyMode, SslVersion};
    /// SSL_OP_NO_EXTENDED_MASTER_SECRET.
    const NO_EXTENDED_MASTER_SECRET: u64 = 1;

    let doors = Doors::new().await;
    for (version, options, good) in [
        (SslVersion::TLS1_3, 0, true),
        (SslVersion::TLS1_2, 0, true),
        (SslVersion::TLS1_2, NO_EXTENDED_MASTER_SECRET, false),
    ] {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        connector.set_min_proto_version(Some(version)).unwrap();
        connector.set_max_proto_version(Some(version)).unwrap();
        connector.set_options(SslOptions::from_bits_retain(options));
        let ssl = connector.build().configure().unwrap().into_ssl(BSF).unwrap();
        let stream = TcpStream::connect(doors.tls).await.unwrap();
        let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
        let shaken = std::pin::Pin::new(&mut stream).connect().await;
        assert_eq!(shaken.is_ok(), good, "{version:?} {options}: {shaken:?}");
        if !good {
            continue;
        }
        let mut octets = [0; 48];
        stream.ssl().export_keying_material(&mut octets, "EXPORTER_GBA_Digest", None).unwrap();
        let exported = TlsExport::new(octets);
        let (plan, user) = (plan(), user(PASSWORD));
        let mut run = DigestBootstrap::new(&plan, &user);
        let first = say(&mut stream, &run.start(), "").await;
        let get = next(&first, &mut run, &exported);
        let last = say(&mut stream, &get, "").await;
        assert_eq!(last.status, 200, "{version:?}");
        let Ok(UbNext::Done(keys)) = last.to(&mut run, &exported) else { panic!("{version:?}") };
        assert_eq!(doors.naf_key(&keys).unwrap(), *keys.naf_key(&naf()).unwrap().expose());
    }
    assert_eq!(doors.bsf.sessions(), 2);
}

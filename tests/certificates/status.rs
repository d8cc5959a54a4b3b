//! OCSP (RFC 6960): answers that lie, responders that do not answer, and who is asked how often.

use std::sync::Arc;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use sipward::transport::ocsp::answer::ANSWER_MAX;
use sipward::transport::ocsp::desk::StatusDesk;
use sipward::transport::ocsp::{CertId, Issuer, Status, StatusFault};
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{Certificate, ClientTls, ServerSpec, ServerTls, TlsRefusal, accept};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::{Authority, SERIAL, shake_hands, shows};
use crate::responder::{Answer, Reply, Says, Server, declined, delegate, settings};

/// What is asked about: the certificate that `authority` issued.
pub(crate) fn about(authority: &Authority) -> CertId {
    let (_, issuer) = X509Certificate::from_der(authority.der()).unwrap();
    let (name, key) = (issuer.subject().as_raw().into(), issuer.public_key().raw.into());
    CertId { issuer: Arc::new(Issuer { name, key }), serial: SERIAL.into() }
}

#[tokio::test]
async fn an_answer_is_believed_only_if_all_of_it_is_right() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let below = authority.intermediate();
    let good = || Answer::good(&authority);
    let (named, key) = delegate(&authority);
    let (plain, plain_key) = authority.issue_alone(|_| {});
    let (client, client_key) = authority.issue_alone(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (foreign, foreign_key) = delegate(&stranger);
    let (deep, deep_key) = delegate(&below);
    let (old, old_key) = authority.issue_alone(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = good().der();
        change(&mut octets);
        octets
    };
    let until = |status| matches!(status, Ok(Status::Good(Some(_))));
    let is = |expected: Result<Status, StatusFault>| move |status| status == expected;
    let fault = |fault| is(Err(fault));
    type Expect<'a> = Box<dyn Fn(Result<Status, StatusFault>) -> bool + 'a>;
    let rows: Vec<(&str, Vec<u8>, Expect<'_>)> = vec![
        ("good, by the issuer", good().der(), Box::new(until)),
        ("good, by its delegate", good().signed_by(&named, &key).der(), Box::new(until)),
        (
            "good, without an end, of today",
            Answer { until: None, ..good() }.der(),
            Box::new(is(Ok(Status::Good(None)))),
        ),
        (
            "revoked",
            Answer { says: Says::Revoked, ..good() }.der(),
            Box::new(is(Ok(Status::Revoked))),
        ),
        (
            "unknown",
            Answer { says: Says::Unknown, ..good() }.der(),
            Box::new(is(Ok(Status::Unknown))),
        ),
        (
            "another serial number",
            Answer { serial: vec![0x51, 0x51], ..good() }.der(),
            Box::new(fault(StatusFault::OtherCertificate)),
        ),
        (
            "the same number of another issuer",
            Answer { issuer: &stranger, ..good() }.der(),
            Box::new(fault(StatusFault::OtherCertificate)),
        ),
        (
            "signed by a stranger in the issuer's name",
            Answer { key: stranger.key(), ..good() }.der(),
            Box::new(fault(StatusFault::Signature)),
        ),
        (
            "signed by a stranger in his own name",
            good().signed_by(stranger.der(), stranger.key()).der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed by a user of the authority",
            good().signed_by(&plain, &plain_key).der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed by a client of the authority",
            good().signed_by(&client, &client_key).der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed by a delegate of another authority",
            good().signed_by(&foreign, &foreign_key).der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed by a delegate of one below",
            good().signed_by(&deep, &deep_key).der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed by a delegate whose time is over",
            good().signed_by(&old, &old_key).der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed by a delegate who does not show himself",
            Answer { with: Vec::new(), ..good().signed_by(&named, &key) }.der(),
            Box::new(fault(StatusFault::Unauthorised)),
        ),
        (
            "signed in a delegate's name with another key",
            good().signed_by(&named, stranger.key()).der(),
            Box::new(fault(StatusFault::Signature)),
        ),
        (
            "too many signers",
            Answer { with: vec![named.clone(); 5], ..good().signed_by(&named, &key) }.der(),
            Box::new(fault(StatusFault::Malformed)),
        ),
        (
            "expired",
            Answer { since: -7200, until: Some(-3600), ..good() }.der(),
            Box::new(fault(StatusFault::Expired)),
        ),
        (
            "old, and without an end",
            Answer { since: -7200, until: None, ..good() }.der(),
            Box::new(fault(StatusFault::Expired)),
        ),
        (
            "an end before its beginning",
            Answer { since: 200, until: Some(100), ..good() }.der(),
            Box::new(fault(StatusFault::Expired)),
        ),
        (
            "of tomorrow",
            Answer { since: 86_400, until: Some(90_000), ..good() }.der(),
            Box::new(fault(StatusFault::Future)),
        ),
        (
            "a critical extension",
            Answer { critical: Some(&[0x2A, 3, 4]), ..good() }.der(),
            Box::new(fault(StatusFault::Extension)),
        ),
        ("try later", declined(3), Box::new(fault(StatusFault::Declined(3)))),
        ("unauthorized", declined(6), Box::new(fault(StatusFault::Declined(6)))),
        ("nothing", Vec::new(), Box::new(fault(StatusFault::Malformed))),
        ("success, and no more", declined(0), Box::new(fault(StatusFault::Malformed))),
        ("noise", vec![0x30, 0x82, 0xFF], Box::new(fault(StatusFault::Malformed))),
        (
            "cut short",
            broken(&|octets| octets.truncate(octets.len() - 1)),
            Box::new(fault(StatusFault::Malformed)),
        ),
        (
            "something behind it",
            broken(&|octets| octets.push(0)),
            Box::new(fault(StatusFault::Malformed)),
        ),
        (
            "a bit of the signature",
            broken(&|octets| *octets.last_mut().unwrap() ^= 1),
            Box::new(fault(StatusFault::Signature)),
        ),
        ("huge", vec![0x30; ANSWER_MAX + 1], Box::new(fault(StatusFault::TooLong))),
    ];
    for (name, octets, expected) in rows {
        let server = Server::start([Reply::Body(octets)]).await;
        let found = server.desk().status(&about(&authority)).await;
        assert!(expected(found), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn an_answer_with_a_nonce_was_made_for_us() {
    let authority = Authority::new();
    for (name, nonce, expected) in [
        ("none", None, Err(StatusFault::Nonce)),
        ("another", Some(vec![7; 16]), Err(StatusFault::Nonce)),
    ] {
        let server =
            Server::start([Reply::Body(Answer { nonce, ..Answer::good(&authority) }.der())]).await;
        let desk = server.desk_with(|settings| settings.nonce = true);
        assert_eq!(desk.status(&about(&authority)).await, expected, "{name}");
        let [question] = &server.questions()[..] else { panic!("{name}: one question") };
        let sent = question.windows(9).any(|it| it == [0x2B, 6, 1, 5, 5, 7, 0x30, 1, 2]);
        assert!(sent, "{name}: a nonce went out");
    }
    // Who does not ask for one takes what there is.
    let answer = Answer { nonce: Some(vec![7; 16]), ..Answer::good(&authority) }.der();
    let server = Server::start([Reply::Body(answer)]).await;
    assert!(matches!(server.desk().status(&about(&authority)).await, Ok(Status::Good(_))));
}

#[tokio::test]
async fn a_responder_that_cannot_be_understood_leaves_it_open() {
    let authority = Authority::new();
    let closed = {
        let claim = std::net::TcpListener::bind("127.0.0.46:0").unwrap();
        format!("http://{}/status", claim.local_addr().unwrap())
    };
    let desk = StatusDesk::new(settings(&closed));
    assert_eq!(desk.status(&about(&authority)).await, Err(StatusFault::Unreachable));
    let text = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n\
                   Content-Length: 99999999\r\n\r\n";
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n";
    let endless = [endless.as_bytes(), &vec![0x30; ANSWER_MAX * 2]].concat();
    for (name, reply, expected) in [
        ("redirected", text(moved), StatusFault::Http(302)),
        ("a page", text(page), StatusFault::Http(200)),
        ("no HTTP", text("SIP/2.0 200 OK\r\n\r\n"), StatusFault::Http(0)),
        ("hung up", text(""), StatusFault::Http(0)),
        ("huge, as it says itself", Reply::Raw(endless), StatusFault::TooLong),
        ("silent", Reply::Silence, StatusFault::Slow),
    ] {
        let server = Server::start([reply]).await;
        let slow = name == "silent";
        let desk = server.desk_with(|settings| {
            if slow {
                settings.timeout = Duration::from_millis(100);
            }
        });
        assert_eq!(desk.status(&about(&authority)).await, Err(expected), "{name}");
        // The failure is remembered for a while: the same one is not asked again at once.
        assert_eq!(desk.status(&about(&authority)).await, Err(expected), "{name}");
        assert_eq!(server.questions().len(), 1, "{name}");
        // By a switch with a dangerous name, all that counts as good.
        let soft = server.desk_with(|settings| {
            settings.soft = true;
            settings.timeout = desk.settings().timeout;
        });
        assert_eq!(soft.status(&about(&authority)).await, Ok(Status::Good(None)), "{name}");
    }
    // Taken back is taken back, and unknown is unknown, softly too.
    for (says, expected) in [(Says::Revoked, Status::Revoked), (Says::Unknown, Status::Unknown)] {
        let answer = Answer { says, ..Answer::good(&authority) }.der();
        let server = Server::start([Reply::Body(answer)]).await;
        let desk = server.desk_with(|settings| {
            (settings.soft, settings.interval) = (true, Duration::ZERO);
        });
        assert_eq!(desk.status(&about(&authority)).await, Ok(expected));
        // It stays so when nobody answers any more: no failure makes it good again.
        server.says(text(""));
        for _ in 0..2 {
            assert_eq!(desk.status(&about(&authority)).await, Ok(expected), "{says:?}");
        }
        assert_eq!(server.questions().len(), 2, "{says:?}: and it was asked");
    }
}

#[tokio::test]
async fn one_question_is_on_its_way_for_one_certificate_and_its_answer_is_kept() {
    let authority = Authority::new();
    let server = Server::start([Reply::Body(Answer::good(&authority).der())]).await;
    let desk = server.desk();
    let asking = (0..50).map(|_| {
        let (desk, about) = (Arc::clone(&desk), about(&authority));
        tokio::spawn(async move { desk.status(&about).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert!(matches!(asked.await.unwrap(), Ok(Status::Good(Some(_)))));
    }
    assert!(matches!(desk.status(&about(&authority)).await, Ok(Status::Good(Some(_)))));
    assert_eq!(server.questions().len(), 1);
    // Another certificate is another question.
    let other = CertId { serial: [1].into(), ..about(&authority) };
    assert_eq!(desk.status(&other).await, Err(StatusFault::OtherCertificate));
    assert_eq!(server.questions().len(), 2);
}

#[tokio::test]
async fn whoever_waits_asks_himself_if_the_one_who_asked_went_away() {
    let authority = Authority::new();
    let server = Server::start([Reply::Silence, Reply::Body(Answer::good(&authority).der())]).await;
    let desk = server.desk();
    let ask = || {
        let (desk, about) = (Arc::clone(&desk), about(&authority));
        tokio::spawn(async move { desk.status(&about).await })
    };
    let first = ask();
    while server.questions().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = ask();
    tokio::task::yield_now().await;
    first.abort();
    assert!(matches!(second.await.unwrap(), Ok(Status::Good(Some(_)))));
}

#[tokio::test]
async fn an_answer_holds_as_long_as_it_says_though_news_fail() {
    let authority = Authority::new();
    let good = Reply::Body(Answer::good(&authority).der());
    let server = Server::start([good, Reply::Body(declined(3))]).await;
    // News are wanted at once.
    let desk = server.desk_with(|settings| settings.interval = Duration::ZERO);
    for questions in 1..=2 {
        let status = desk.status(&about(&authority)).await;
        assert!(matches!(status, Ok(Status::Good(Some(_)))), "{questions}: {status:?}");
        assert_eq!(server.questions().len(), questions);
    }
    // News that are bad count at once.
    let good = Reply::Body(Answer::good(&authority).der());
    let revoked = Answer { says: Says::Revoked, ..Answer::good(&authority) }.der();
    let server = Server::start([good, Reply::Body(revoked)]).await;
    let desk = server.desk_with(|settings| settings.interval = Duration::ZERO);
    assert!(matches!(desk.status(&about(&authority)).await, Ok(Status::Good(Some(_)))));
    assert_eq!(desk.status(&about(&authority)).await, Ok(Status::Revoked));
}

/// A listener that asks `desk` about clients, who show `shown`; and a peer that dials it with such a certificate.
async fn both_ways(
    authority: &Authority,
    shown: impl Fn() -> Certificate,
    desk: &Arc<StatusDesk>,
) -> [Option<TlsRefusal>; 2] {
    let trust = || authority.trust().asking(Arc::clone(desk));
    let asks = ClientCertificate::Required;
    let listener =
        ServerSpec { asks, trust: trust(), ..shows(authority.issue(&["sip:edge.example.net"])) };
    let (_, accepted) =
        shake_hands(&listener, authority.trust(), Some(&shown()), "edge.example.net").await;

    let dialled = ServerTls::new(&shows(shown())).unwrap();
    let client = ClientTls::new(trust(), None).unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (dials, _served) = tokio::join!(
        async { client.connect("example.net", ours).await.map(|_| ()) },
        accept(&dialled, theirs)
    );
    [accepted.err(), dials.err()]
}

/// Both a client that comes and a server that is dialled are asked about; what is not good does not pass.
#[tokio::test]
async fn a_handshake_passes_only_if_the_responder_calls_the_certificate_good() {
    let authority = Authority::new();
    let below = authority.intermediate();
    let revoked = TlsRefusal::Certificate(CertificateError::Revoked);
    let unknown = TlsRefusal::Certificate(CertificateError::UnknownRevocationStatus);
    let body = |says| Reply::Body(Answer { says, ..Answer::good(&authority) }.der());
    for (name, reply, expected) in [
        ("good", body(Says::Good), None),
        ("revoked", body(Says::Revoked), Some(revoked)),
        ("unknown", body(Says::Unknown), Some(unknown)),
        ("no answer", Reply::Body(declined(3)), Some(TlsRefusal::Status(StatusFault::Declined(3)))),
    ] {
        let server = Server::start([reply]).await;
        let shown = || authority.issue(&["sip:example.net"]);
        let found = both_ways(&authority, shown, &server.desk()).await;
        assert_eq!(found, [expected.clone(), expected], "{name}");
    }
    // The issuer in the middle of a chain speaks for what it issued.
    let server = Server::start([Reply::Body(Answer::good(&below).der())]).await;
    let shown = || below.issue(&["sip:example.net"]);
    assert_eq!(both_ways(&authority, shown, &server.desk()).await, [None, None]);
    // V-78: about a chain that is not good, nobody is asked; nor is any address in a certificate.
    let server = Server::start([body(Says::Good)]).await;
    let elsewhere = Server::start([body(Says::Good)]).await;
    let stranger = Authority::new();
    let with_address = |authority: &Authority| {
        authority.issue_with(&["sip:example.net"], |params| {
            params.custom_extensions.push(access_information(&elsewhere.url));
            let uris = vec![elsewhere.url.clone()];
            params.crl_distribution_points.push(rcgen::CrlDistributionPoint { uris });
        })
    };
    let found = both_ways(&authority, || with_address(&stranger), &server.desk()).await;
    let unknown = Some(TlsRefusal::Certificate(CertificateError::UnknownIssuer));
    assert_eq!((found, server.questions().len()), ([unknown.clone(), unknown], 0));
    let found = both_ways(&authority, || with_address(&authority), &server.desk()).await;
    assert_eq!((found, server.questions().len()), ([None, None], 1));
    assert_eq!(elsewhere.questions().len(), 0, "nobody goes where a certificate points");
}

/// Where a certificate says that its status can be asked (RFC 5280 section 4.2.2.1).
fn access_information(url: &str) -> rcgen::CustomExtension {
    const OCSP: &[u8] = &[0x06, 8, 0x2B, 6, 1, 5, 5, 7, 0x30, 1];
    let length = |octets: &[u8]| u8::try_from(octets.len()).unwrap();
    let location = [&[0x86, length(url.as_bytes())][..], url.as_bytes()].concat();
    let one = [OCSP, &location].concat();
    let one = [&[0x30, length(&one)][..], &one].concat();
    let all = [&[0x30, length(&one)][..], &one].concat();
    rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], all)
}

#[tokio::test]
async fn an_answer_about_our_own_certificate_is_shown_as_long_as_it_holds() {
    let authority = Authority::new();
    let below = authority.intermediate();
    let now = sipward::clock::now().wall;
    let own = || below.issue(&["sip:example.net"]);
    let good = Answer::good(&below).der();
    let stapled = own().stapled(&good, now).unwrap();
    assert_eq!(stapled.staple().unwrap().octets(), good);
    let shown = |certificate: Certificate| shown(certificate, authority.trust());
    assert_eq!(shown(stapled).await, good);
    assert_eq!(shown(own()).await, b"");
    // It was good when it was read; it has ended by the time of the handshake.
    let (before, short) = (
        sipward::instant::WallTime::from_unix(now.as_unix() - 60),
        Answer { since: -90, until: Some(-30), ..Answer::good(&below) }.der(),
    );
    assert_eq!(shown(own().stapled(&short, before).unwrap()).await, b"");
    let alone = || authority.issue(&["sip:example.net"]);
    for (name, certificate, answer, why) in [
        ("of the root", own(), Answer::good(&authority).der(), "signed by nobody who may"),
        (
            "of another certificate",
            own(),
            Answer { serial: vec![9], ..Answer::good(&below) }.der(),
            "about other certificates",
        ),
        ("expired", own(), short, "has expired"),
        (
            "revoked",
            own(),
            Answer { says: Says::Revoked, ..Answer::good(&below) }.der(),
            "taken back",
        ),
        (
            "unknown",
            own(),
            Answer { says: Says::Unknown, ..Answer::good(&below) }.der(),
            "nothing is known",
        ),
        ("endless", own(), Answer { until: None, ..Answer::good(&below) }.der(), "until when"),
        ("no answer", own(), b"none".to_vec(), "malformed"),
        (
            "an issuer who is not there",
            alone(),
            Answer::good(&authority).der(),
            "does not hold its issuer",
        ),
    ] {
        let (certificate, found) = certificate.stapled(&answer, now).unwrap_err();
        assert!(found.to_string().contains(why), "{name}: {found}");
        assert!(certificate.staple().is_none(), "{name}");
    }
}

/// What a client that asks for it is shown beside a certificate.
async fn shown(certificate: Certificate, trust: Trust) -> Vec<u8> {
    #[derive(Debug)]
    struct Notes(std::sync::Mutex<Vec<u8>>, sipward::transport::peer::PeerVerifier);
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    impl ServerCertVerifier for Notes {
        fn verify_server_cert(
            &self,
            own: &CertificateDer<'_>,
            issuers: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            *self.0.lock().unwrap() = ocsp.to_vec();
            self.1.verify_server_cert(own, issuers, name, ocsp, now)
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            ServerCertVerifier::verify_tls12_signature(&self.1, message, certificate, signature)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            ServerCertVerifier::verify_tls13_signature(&self.1, message, certificate, signature)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            ServerCertVerifier::supported_verify_schemes(&self.1)
        }
    }
    let verifier = sipward::transport::peer::PeerVerifier::new(trust, ClientCertificate::None);
    let notes = Arc::new(Notes(std::sync::Mutex::default(), verifier));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Notes>::clone(&notes))
        .with_no_client_auth();
    let server = ServerTls::new(&shows(certificate)).unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connecting = sipward::transport::tls::connect(Arc::new(config), "example.net", ours);
    let (client, server) = tokio::join!(connecting, accept(&server, theirs));
    client.unwrap();
    server.unwrap();
    std::mem::take(&mut *notes.0.lock().unwrap())
}

/// A server that shows `answer` with a certificate; how our handshake with it ends.
async fn meets_staple(
    authority: &Authority,
    promises: bool,
    answer: Option<Vec<u8>>,
) -> Option<TlsRefusal> {
    let (own, key) = authority.issue_alone(|params| {
        let name = rcgen::string::Ia5String::try_from("sip:example.net").unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(name)];
        params.serial_number = Some(rcgen::SerialNumber::from_slice(SERIAL));
        if promises {
            let feature = rcgen::CustomExtension::from_oid_content(
                &[1, 3, 6, 1, 5, 5, 7, 1, 24],
                vec![0x30, 3, 2, 1, 5],
            );
            params.custom_extensions.push(feature);
        }
    });
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert_with_ocsp(vec![own], key, answer.unwrap_or_default())
        .unwrap();
    let client = ClientTls::new(authority.trust(), None).unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (met, served) = tokio::join!(client.connect("example.net", ours), acceptor.accept(theirs));
    assert_eq!(met.is_ok(), served.is_ok(), "{:?}", served.err());
    met.err()
}

/// B.5: what a server shows about its certificate must call it good; what it promises must be there.
#[tokio::test]
async fn an_answer_that_a_server_shows_is_judged_and_one_that_is_promised_is_missed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = || Answer::good(&authority);
    let none = || Some(TlsRefusal::Certificate(CertificateError::InvalidOcspResponse));
    let revoked = || Some(TlsRefusal::Certificate(CertificateError::Revoked));
    for promises in [true, false] {
        for (name, answer, expected) in [
            ("nothing", None, if promises { none() } else { None }),
            ("good", Some(good().der()), None),
            ("good, of today", Some(Answer { until: None, ..good() }.der()), None),
            ("revoked", Some(Answer { says: Says::Revoked, ..good() }.der()), revoked()),
            ("unknown", Some(Answer { says: Says::Unknown, ..good() }.der()), none()),
            ("expired", Some(Answer { since: -90, until: Some(-30), ..good() }.der()), none()),
            ("of another", Some(Answer { serial: vec![9], ..good() }.der()), none()),
            ("by a stranger", Some(Answer::good(&stranger).der()), none()),
            ("noise", Some(b"good".to_vec()), none()),
        ] {
            let found = meets_staple(&authority, promises, answer).await;
            assert_eq!(found, expected, "{name}, promised: {promises}");
        }
    }
}

//! RFC 5922, domain certificates: which certificate proves which SIP domain.

use rcgen::{ExtendedKeyUsagePurpose, PublicKeyData, date_time_ymd};
use rustls::CertificateError;
use sipward::transport::peer::ClientCertificate;
use sipward::transport::tls::{ServerSpec, TlsRefusal};

use crate::authority::{Authority, SERIAL, domains, shake_hands, shows};

/// Section 7.3 after 7.1 and 7.2: what a client that dialled `example.net` accepts (V-40, CR-01, CR-02).
#[tokio::test]
async fn section_7_3_a_server_must_be_of_the_domain_dialled() {
    let authority = Authority::new();
    for (names, seen) in [
        (&["sip:example.net"][..], None),
        (&["SIP:EXAMPLE.NET"], None),
        (&["sip:example.net;transport=tls"], None),
        (&["example.net"], None),
        (&["sip:example.org", "sip:example.net"], None),
        (&["sips:other.example", "example.net"], None),
        (&["sip:example.org"], Some(&["example.org"][..])),
        (&["sip:example.org", "example.net"], Some(&["example.org"])),
        (&["example.org"], Some(&["example.org"])),
        (&["sip1.example.net"], Some(&["sip1.example.net"])),
        (&["net"], Some(&["net"])),
        (&["*.example.net"], Some(&[])),
        (&["sip:*.example.net"], Some(&[])),
        (&[".example.net"], Some(&[".example.net"])),
        (&["sip:user@example.net"], Some(&[])),
        (&["sips:example.net"], Some(&[])),
        (&["https://example.net"], Some(&[])),
        (&[], Some(&[])),
    ] {
        let server = shows(authority.issue(names));
        let (client, server) = shake_hands(&server, authority.trust(), None, "example.net").await;
        match seen {
            None => {
                let names = client.unwrap_or_else(|why| panic!("{names:?}: {why}"));
                assert!(domains(&names).contains(&"example.net"), "{names:?}");
            }
            Some(seen) => {
                let seen = seen.iter().map(|name| name.to_string()).collect();
                assert_eq!(client, Err(TlsRefusal::WrongName(seen)), "{names:?}");
                assert!(server.is_err(), "{names:?}: the server learns of it");
            }
        }
    }
}

/// Section 7.1, first paragraphs: validity, chain and extendedKeyUsage come before any name (CR-03, RFC 5924).
#[tokio::test]
async fn section_7_1_a_certificate_must_be_good_before_its_names_are_read() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, Other, ServerAuth};
    let (authority, stranger) = (Authority::new(), Authority::new());
    let names = &["sip:example.net"];
    let sip_domain = || Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
        authority.issue_with(names, |params| params.extended_key_usages = usages)
    };
    let expired =
        authority.issue_with(names, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = authority.issue_with(names, |params| params.not_before = date_time_ymd(2999, 1, 1));
    for (name, shown, expected) in [
        ("no usage stated", authority.issue(names), None),
        ("server", with(vec![ServerAuth]), None),
        ("client and server", with(vec![ClientAuth, ServerAuth]), None),
        ("SIP domain", with(vec![sip_domain()]), None),
        ("client alone", with(vec![ClientAuth]), Some(CertificateError::InvalidPurpose)),
        ("code", with(vec![CodeSigning]), Some(CertificateError::InvalidPurpose)),
        ("expired", expired, Some(CertificateError::Expired)),
        ("not yet", early, Some(CertificateError::NotValidYet)),
        ("another root", stranger.issue(names), Some(CertificateError::UnknownIssuer)),
        ("below an intermediate", authority.intermediate().issue(names), None),
    ] {
        let (client, _) = shake_hands(&shows(shown), authority.trust(), None, "example.net").await;
        match expected {
            None => assert!(client.is_ok(), "{name}: {client:?}"),
            Some(why) => assert_eq!(client, Err(TlsRefusal::Certificate(why)), "{name}"),
        }
    }
}

/// The same of a client's certificate, by name of what is wrong with it (CR-03, CR-04).
#[tokio::test]
async fn section_7_1_holds_for_clients_too() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, Other, ServerAuth};
    let (authority, stranger) = (Authority::new(), Authority::new());
    let names = &["sip:peer.example"];
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
        authority.issue_with(names, |params| params.extended_key_usages = usages)
    };
    let expired =
        authority.issue_with(names, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = authority.issue_with(names, |params| params.not_before = date_time_ymd(2999, 1, 1));
    for (name, shown, expected) in [
        ("client", with(vec![ClientAuth]), None),
        ("SIP domain", with(vec![Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20])]), None),
        ("server alone", with(vec![ServerAuth]), Some(CertificateError::InvalidPurpose)),
        ("code", with(vec![CodeSigning]), Some(CertificateError::InvalidPurpose)),
        ("expired", expired, Some(CertificateError::Expired)),
        ("not yet", early, Some(CertificateError::NotValidYet)),
        ("another root", stranger.issue(names), Some(CertificateError::UnknownIssuer)),
    ] {
        for asks in [ClientCertificate::Optional, ClientCertificate::Required] {
            let trust = authority.trust();
            let server = ServerSpec { asks, trust, ..shows(authority.issue(&["sip:example.net"])) };
            let (_, server) =
                shake_hands(&server, authority.trust(), Some(&shown), "example.net").await;
            let refused = expected.clone().map(TlsRefusal::Certificate);
            assert_eq!(server.err(), refused, "{name}, {asks:?}");
        }
    }
}

/// Section 7.1 by way of RFC 5280: a certificate that was taken back is none, and a list that ran out proves nothing.
#[tokio::test]
async fn section_7_1_revocation_is_checked_where_there_are_lists() {
    let authority = Authority::new();
    let other = Authority::new();
    for (name, trust, expected) in [
        ("not on the list", authority.trust_less(&[&[1]], 2999), None),
        ("on the list", authority.trust_less(&[SERIAL], 2999), Some(CertificateError::Revoked)),
        (
            "a list that ran out",
            authority.trust_less(&[&[1]], 2021),
            Some(CertificateError::ExpiredRevocationList),
        ),
    ] {
        let asking = ServerSpec {
            asks: ClientCertificate::Required,
            trust: trust.clone(),
            ..shows(authority.issue(&["sip:example.net"]))
        };
        let shown = authority.issue(&["sip:peer.example"]);
        let (client, _) =
            shake_hands(&shows(authority.issue(&["sip:example.net"])), trust, None, "example.net")
                .await;
        let (_, server) =
            shake_hands(&asking, authority.trust(), Some(&shown), "example.net").await;
        match expected {
            None => assert!(client.is_ok() && server.is_ok(), "{name}: {client:?}, {server:?}"),
            Some(why) => {
                let refused = TlsRefusal::Certificate(why);
                assert_eq!(client.err().as_ref(), Some(&refused), "{name}, by the client");
                assert_eq!(server.err(), Some(refused), "{name}, by the server");
            }
        }
    }
    let shown = shows(other.issue(&["sip:example.net"]));
    let (client, _) =
        shake_hands(&shown, authority.trust_less(&[], 2999), None, "example.net").await;
    assert_eq!(client, Err(TlsRefusal::Certificate(CertificateError::UnknownIssuer)));
}

/// Section 7.4: a client is who its certificate says, and nobody without one (CR-04, CR-02).
#[tokio::test]
async fn section_7_4_a_server_learns_its_clients_domains() {
    use ClientCertificate::{None as No, Optional, Required};
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (name, asks, shown, expected) in [
        ("not asked", No, Some(authority.issue(&["sip:peer.example"])), Ok(None)),
        ("none shown", Optional, None, Ok(None)),
        (
            "a domain",
            Optional,
            Some(authority.issue(&["sip:Peer.example"])),
            Ok(Some("peer.example")),
        ),
        (
            "a DNS name",
            Required,
            Some(authority.issue(&["peer.example"])),
            Ok(Some("peer.example")),
        ),
        ("sips is none", Required, Some(authority.issue(&["sips:peer.example"])), Ok(Some(""))),
        (
            "a user is none",
            Required,
            Some(authority.issue(&["sip:alice@peer.example"])),
            Ok(Some("")),
        ),
        ("a wildcard is none", Required, Some(authority.issue(&["*.peer.example"])), Ok(Some(""))),
        ("a common name is none", Required, Some(authority.issue(&[])), Ok(Some(""))),
        ("a stranger's", Optional, Some(stranger.issue(&["sip:peer.example"])), Err(())),
        ("none, but required", Required, None, Err(())),
    ] {
        let trust = authority.trust();
        let server = ServerSpec { asks, trust, ..shows(authority.issue(&["sip:example.net"])) };
        let (_, server) =
            shake_hands(&server, authority.trust(), shown.as_ref(), "example.net").await;
        let learnt = server.map(|greeted| greeted.names.map(|names| domains(&names).join(" ")));
        assert_eq!(learnt.as_ref().map(Option::as_deref).map_err(|_| ()), expected, "{name}");
    }
}

/// Section 7.4 and RFC 3261 section 26.3.1: a certificate with a user part proves that user.
#[tokio::test]
async fn section_7_4_a_user_is_no_domain_but_a_user() {
    let authority = Authority::new();
    let (asks, trust) = (ClientCertificate::Required, authority.trust());
    let server = ServerSpec { asks, trust, ..shows(authority.issue(&["sip:example.net"])) };
    let shown = authority.issue(&["sip:alice@example.net"]);
    let (_, server) = shake_hands(&server, authority.trust(), Some(&shown), "example.net").await;
    let names = server.unwrap().names.unwrap();
    assert_eq!(names.users[0].as_str(), "sip:alice@example.net");
    assert!(names.domains.is_empty());
}

/// Section 7.8: of several certificates, the one that fits the name asked for is shown.
#[tokio::test]
async fn section_7_8_virtual_servers_show_the_certificate_asked_for() {
    let authority = Authority::new();
    let certificates = ["sip:example.net", "sip:example.org", "example.com"];
    let certificates = certificates.map(|name| authority.issue(&[name])).into();
    let server = ServerSpec { certificates, ..shows(authority.issue(&["unused.example"])) };
    for (asked, expected) in [
        ("example.net", Ok(vec!["example.net"])),
        ("example.org", Ok(vec!["example.org"])),
        ("EXAMPLE.COM", Ok(vec!["example.com"])),
        ("192.0.2.7", Err(TlsRefusal::WrongName(vec!["example.net".into()]))),
        ("nobody.example", Err(TlsRefusal::WrongName(vec!["example.net".into()]))),
    ] {
        let (client, _) = shake_hands(&server, authority.trust(), None, asked).await;
        assert_eq!(client.as_ref().map(domains).map_err(Clone::clone), expected, "{asked}");
    }
}

/// V-78: what is over a bound is refused before any signature of it is checked.
#[tokio::test]
async fn v_78_chains_and_keys_have_bounds() {
    struct Huge(Vec<u8>);
    impl PublicKeyData for Huge {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    // An RSA key of so many octets: SEQUENCE { INTEGER modulus, INTEGER 65537 }.
    let rsa = |octets: u16| {
        let integer = [&[0x02, 0x82][..], &(octets + 1).to_be_bytes(), &[0]].concat();
        let body = [integer, vec![0xFF; octets.into()], vec![0x02, 3, 1, 0, 1]].concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        Huge([&[0x30, 0x82][..], &length, &body].concat())
    };
    let issuer = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), issuer);
    for (octets, within) in [(1024, true), (1025, false), (2048, false)] {
        let params = rcgen::CertificateParams::default();
        let certificate = params.signed_by(&rsa(octets), &issuer).unwrap();
        let found = sipward::authentication::tls_identity::within_bounds(certificate.der(), &[]);
        assert_eq!(found.is_ok(), within, "RSA of {octets} octets: {found:?}");
    }
    let mut deep = Authority::new();
    for (certificates, good) in [(1, true), (2, true), (3, true), (4, true), (5, true), (6, false)]
    {
        let (asks, trust) = (ClientCertificate::Required, deep.trust());
        let server = ServerSpec { asks, trust, ..shows(deep.issue(&["sip:example.net"])) };
        let shown = deep.issue(&["sip:peer.example"]);
        let (client, server) =
            shake_hands(&server, deep.trust(), Some(&shown), "example.net").await;
        assert_eq!(client.is_ok(), good, "{certificates} in the chain: {client:?}");
        assert_eq!(server.is_ok(), good, "{certificates} in the chain");
        deep = deep.intermediate();
    }
}

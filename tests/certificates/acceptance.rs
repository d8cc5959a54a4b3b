//! The table of acceptance: each certificate that proves nothing is refused to whoever comes, and to whoever is dialled,
//! by the name of what is wrong with it (CR-01 to CR-05, CR-08, V-40, V-41).

use std::time::Duration;

use rcgen::date_time_ymd;
use sipward::authentication::certificate_users::{CertificateUser, Mark};
use sipward::identity::Impu;
use sipward::refusal::Refusal;
use sipward::transport::peer::Trust;
use sipward::transport::tls::Certificate;

use crate::authority::{Authority, SERIAL};
use crate::gateway::{ALICE, Gateway, Server, Setup, lines, ok, request};
use crate::responder::{Answer, Reply, Says, Server as Responder, declined};

/// What whoever shows a certificate meets.
enum Meets {
    /// It is let in.
    Welcome,
    /// The handshake ends; it is counted by that name.
    NoHandshake(&'static str),
    /// It is good, but of no domain that was wanted: a dialled server is refused in the handshake, of one who comes
    /// each request is.
    NoDomain,
}
use Meets::{NoDomain, NoHandshake, Welcome};

/// Lets a server that shows `shown` be dialled; whether it got the request.
async fn dialled(authority: &Authority, trust: Trust, shown: Certificate) -> (bool, Gateway) {
    let server = Server::new(shown, None).await;
    let gateway = Gateway::start(Setup { trust, ..Setup::new(authority, server.address()) });
    let mut device = gateway.alice_asks(authority, "example.net").await;
    // What it is told after it was refused is nothing; what it is told if not is the request.
    let got = match server.accept().await {
        Ok(mut line) => match line.next().await {
            Some(asked) => {
                line.send(&ok(&asked)).await;
                true
            }
            None => false,
        },
        Err(_) => false,
    };
    let answer = device.answer().await.unwrap();
    assert_eq!(answer.starts_with("SIP/2.0 200 "), got, "{answer}");
    (got, gateway)
}

/// Lets somebody come with `shown`, and ask; whether there was an answer to it, and whether that was a refusal.
async fn came(
    authority: &Authority,
    trust: Trust,
    shown: &Certificate,
) -> (Option<String>, Gateway) {
    let nobody = ([127, 0, 0, 1], 9).into();
    let gateway = Gateway::start(Setup { trust, ..Setup::new(authority, nobody) });
    let answer = match gateway.meet(1, authority.trust(), shown).await {
        Ok(mut line) => {
            let options =
                request("OPTIONS", "sip:x@example.net", "192.0.2.20", "sip:s@example.net");
            // The edge may be gone already.
            let octets = format!("{}\r\n", options.replace('\n', "\r\n"));
            let _ = tokio::io::AsyncWriteExt::write_all(&mut line.0, octets.as_bytes()).await;
            line.answer().await
        }
        Err(_) => None,
    };
    (answer, gateway)
}

#[tokio::test]
async fn what_proves_nothing_is_refused_in_both_directions_and_by_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let responder = |says| {
        let answer = Answer { says, ..Answer::good(&authority) }.der();
        Responder::start([Reply::Body(answer)])
    };
    let (good, revoked, unknown, silent) = (
        responder(Says::Good).await,
        responder(Says::Revoked).await,
        responder(Says::Unknown).await,
        Responder::start([Reply::Body(declined(3))]).await,
    );
    let asking = |responder: &Responder| {
        let desk = responder.desk();
        authority.trust().asking(desk)
    };
    let plain = || authority.trust();
    let issue = |names: &[&str]| authority.issue(names);
    let expired = || {
        authority.issue_with(&["sip:example.net"], |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    };
    let early = || {
        authority.issue_with(&["sip:example.net"], |params| {
            params.not_before = date_time_ymd(2999, 1, 1);
        })
    };
    let misused = || {
        authority.issue_with(&["sip:example.net"], |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        })
    };
    type Issue<'a> = Box<dyn Fn() -> Certificate + 'a>;
    let of = |names: &'static [&'static str]| -> Issue<'_> { Box::new(move || issue(names)) };
    let rows: Vec<(&str, Issue<'_>, Trust, Meets)> = vec![
        ("right", of(&["sip:example.net"]), plain(), Welcome),
        ("right, by DNS name", of(&["example.net"]), plain(), Welcome),
        ("right CA, wrong SAN", of(&["sip:example.org"]), plain(), NoDomain),
        (
            "wrong URI beside the right DNS name",
            of(&["sip:a.example", "example.net"]),
            plain(),
            NoDomain,
        ),
        ("a host of the domain", of(&["sip1.example.net"]), plain(), NoDomain),
        ("wildcard", of(&["*.net"]), plain(), NoDomain),
        ("wildcard as URI", of(&["sip:*.net"]), plain(), NoDomain),
        ("CN only", of(&[]), plain(), NoDomain),
        ("sips:", of(&["sips:example.net"]), plain(), NoDomain),
        ("a user", of(&["sip:user@example.net"]), plain(), NoDomain),
        ("expired", Box::new(expired), plain(), NoHandshake("certificates_expired")),
        ("not yet", Box::new(early), plain(), NoHandshake("certificates_early")),
        ("for code", Box::new(misused), plain(), NoHandshake("certificates_misused")),
        (
            "another CA",
            Box::new(|| stranger.issue(&["sip:example.net"])),
            plain(),
            NoHandshake("certificates_of_strangers"),
        ),
        ("not on the list", of(&["sip:example.net"]), authority.trust_less(&[&[9]], 2999), Welcome),
        (
            "revoked, by list",
            of(&["sip:example.net"]),
            authority.trust_less(&[SERIAL], 2999),
            NoHandshake("certificates_revoked"),
        ),
        (
            "a list that ran out",
            of(&["sip:example.net"]),
            authority.trust_less(&[], 2021),
            NoHandshake("certificates_in_doubt"),
        ),
        ("good, by OCSP", of(&["sip:example.net"]), asking(&good), Welcome),
        (
            "revoked, by OCSP",
            of(&["sip:example.net"]),
            asking(&revoked),
            NoHandshake("certificates_revoked"),
        ),
        (
            "unknown, by OCSP",
            of(&["sip:example.net"]),
            asking(&unknown),
            NoHandshake("certificates_in_doubt"),
        ),
        (
            "no word by OCSP",
            of(&["sip:example.net"]),
            asking(&silent),
            NoHandshake("certificates_in_doubt"),
        ),
    ];
    for (name, shown, trust, meets) in rows {
        let (answer, gateway) = came(&authority, trust.clone(), &shown()).await;
        match &meets {
            Welcome => {
                assert!(answer.is_some(), "{name}, comes: no answer");
                assert_eq!(gateway.refused(Refusal::PeerUnknown), 0, "{name}, comes");
                assert_eq!(gateway.count("handshakes_failed"), 0, "{name}, comes");
            }
            NoDomain => {
                let answer = answer.unwrap_or_else(|| panic!("{name}, comes: no answer"));
                assert!(answer.starts_with("SIP/2.0 403 "), "{name}, comes: {answer}");
                assert_eq!(gateway.refused(Refusal::PeerUnknown), 1, "{name}, comes");
            }
            NoHandshake(count) => {
                assert_eq!(answer, None, "{name}, comes");
                gateway.until(|gateway| gateway.count("handshakes_failed") == 1).await;
                assert_eq!(gateway.count(count), 1, "{name}, comes: {count}");
            }
        }
        drop(gateway);
        let (got, gateway) = dialled(&authority, trust, shown()).await;
        let (count, expected) = match meets {
            Welcome => ("dial_failed", 0),
            NoDomain => ("wrong_names", 1),
            NoHandshake(count) => (count, 1),
        };
        assert_eq!(got, matches!(meets, Welcome), "{name}, dialled");
        assert_eq!(gateway.count(count), expected, "{name}, dialled: {count}");
        assert_eq!(gateway.count("dialled"), 1, "{name}: once, and never in the clear");
    }
}

/// CR-05, CR-08, V-41: two domains with one address. The connection of one is not the other's, and the other's own is
/// judged for that domain.
#[tokio::test]
async fn a_connection_of_one_domain_is_not_used_for_another_at_the_same_address() {
    let authority = Authority::new();
    let server = Server::new(authority.issue(&["sip:example.net"]), None).await;
    let at = server.address();
    let setup = Setup {
        domains: vec![("example.net", at), ("example.org", at)],
        ..Setup::new(&authority, at)
    };
    let gateway = Gateway::start(setup);
    let mut first = gateway.alice_asks(&authority, "example.net").await;
    let mut line = server.accept().await.unwrap();
    let asked = line.next().await.unwrap();
    line.send(&ok(&asked)).await;
    assert!(first.answer().await.unwrap().starts_with("SIP/2.0 200 "));

    let mut second = gateway.alice_asks(&authority, "example.org").await;
    assert!(server.accept().await.is_err(), "it is not of that domain");
    assert!(!second.answer().await.unwrap().starts_with("SIP/2.0 200 "));
    assert_eq!((gateway.count("wrong_names"), gateway.count("dialled")), (1, 2));

    // The same the other way round: who came with the name of one domain is not used for the other.
    let own = authority.issue(&["sip:example.net"]);
    let mut peer = gateway.meet(1, authority.trust(), &own).await.unwrap();
    let via = format!("127.0.0.1:{};alias", at.port());
    peer.send(&request("OPTIONS", "sip:x@example.net", &via, "sip:s@example.net")).await;
    peer.answer().await.unwrap();
    assert_eq!(gateway.aliases(), 1);
    let mut third = gateway.alice_asks(&authority, "example.org").await;
    assert!(server.accept().await.is_err());
    assert!(!third.answer().await.unwrap().starts_with("SIP/2.0 200 "));
    assert_eq!((gateway.count("wrong_names"), gateway.count("dialled")), (2, 3));
    assert!(lines(&asked, "Via: ")[0].contains("SIP/2.0/TLS"), "{asked}");
}

/// SEC_CF use case B.5: a certificate proves a user, without Digest; another's word in From does not count.
#[tokio::test]
async fn a_device_is_who_its_certificate_is_configured_for() {
    let authority = Authority::new();
    let server = Server::new(authority.issue(&["sip:example.net"]), None).await;
    let mut setup = Setup::new(&authority, server.address());
    let identities = [Impu::new(ALICE).unwrap()].into();
    let user = CertificateUser { name: "alice@example.net".into(), identities };
    assert!(setup.users.insert(Mark::name("device.example.net"), user));
    let gateway = Gateway::start(setup);
    let mut line = None;
    for (shown, from, expected) in [
        ("device.example.net", ALICE, "SIP/2.0 200 "),
        ("device.example.net", "sip:bob@example.net", "SIP/2.0 403 "),
        ("other.example.net", ALICE, "SIP/2.0 407 "),
        ("sip:carol@example.net", "sip:carol@example.net", "SIP/2.0 200 "),
        ("sip:carol@example.net", ALICE, "SIP/2.0 403 "),
    ] {
        let own = authority.issue(&[shown]);
        let mut device = gateway.meet(0, authority.trust(), &own).await.unwrap();
        device.send(&request("MESSAGE", "sip:bob@example.net", "192.0.2.10", from)).await;
        if expected == "SIP/2.0 200 " {
            let line = match &mut line {
                Some(line) => line,
                none => none.insert(server.accept().await.unwrap()),
            };
            let asked = line.next().await.unwrap();
            assert_eq!(lines(&asked, "P-Asserted-Identity: "), [format!("<{from}>")], "{shown}");
            line.send(&ok(&asked)).await;
        }
        let answer = device.answer().await.unwrap();
        assert!(answer.starts_with(expected), "{shown}, {from}: {answer}");
    }
}

/// B.5 and rule 19: what stood on a certificate that is taken back can only be torn down, though its owner is gone.
#[tokio::test]
async fn a_call_is_broken_once_the_certificate_of_its_owner_is_taken_back() {
    let authority = Authority::new();
    let responder = Responder::start([Reply::Body(Answer::good(&authority).der())]).await;
    let desk = responder.desk_with(|settings| settings.interval = Duration::from_secs(1));
    let server = Server::new(authority.issue(&["sip:example.net"]), None).await;
    let devices = authority.trust().asking(desk);
    let gateway = Gateway::start(Setup { devices, ..Setup::new(&authority, server.address()) });
    let own = authority.issue(&[ALICE]);
    let mut alice = gateway.meet(0, authority.trust(), &own).await.unwrap();
    let contact = "Contact: <sip:alice@192.0.2.10:5061;transport=tls>\nContent-Length";
    let invite = request("INVITE", "sip:bob@example.net", "192.0.2.10", ALICE);
    alice.send(&invite.replace("Content-Length", contact)).await;
    let mut line = server.accept().await.unwrap();
    let asked = line.next().await.unwrap();
    let routes = lines(&asked, "Record-Route: ");
    let rows = |name: &str| -> String {
        routes.iter().map(|route| format!("{name}: {route}\n")).collect()
    };
    let contact = "Contact: <sip:bob@127.0.0.1;transport=tls>\nContent-Length";
    let answer = ok(&asked).replace("Content-Length", &(rows("Record-Route") + contact));
    line.send(&answer).await;
    assert!(alice.answer().await.unwrap().starts_with("SIP/2.0 200 "));

    let revoked = Answer { says: Says::Revoked, ..Answer::good(&authority) }.der();
    responder.says(Reply::Body(revoked));
    assert_eq!(alice.next().await, None, "closed");
    gateway.until(|gateway| gateway.count("certificates_over") == 1).await;
    // What the server sends in the dialog, by the way that the request came.
    let copied = |name: &str| lines(&asked, name)[0].to_owned();
    let within = |method: &str| {
        let uri = "sip:alice@192.0.2.10:5061;transport=tls";
        let text = request(method, uri, "192.0.2.20", "x");
        let kept = text.lines().filter(|line| {
            !["From: ", "To: ", "Call-ID: "].iter().any(|name| line.starts_with(name))
        });
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        let own = format!(
            "{}From: {};tag=t\nTo: {}\nCall-ID: {}\nContent-Length",
            rows("Route"),
            copied("To: "),
            copied("From: "),
            copied("Call-ID: ")
        );
        kept.replace("Content-Length", &own)
    };
    line.send(&within("INFO")).await;
    let answer = line.answer().await.unwrap();
    assert!(answer.starts_with("SIP/2.0 481 "), "{answer}");
    assert_eq!(gateway.refused(Refusal::DialogEnded), 1);
    // To hang up is let through, though nobody is there any more.
    line.send(&within("BYE")).await;
    line.answer().await.unwrap();
    assert_eq!(gateway.refused(Refusal::DialogEnded), 1);
}

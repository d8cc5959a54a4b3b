//! RFC 5923, connection reuse: which connection of a server is used, and for which domain.

use std::time::Duration;

use sipward::refusal::Refusal;

use crate::authority::Authority;
use crate::gateway::{Gateway, Line, Server, Setup, lines, ok, request};

/// A server, and an edge before it.
async fn scene(authority: &Authority, aliased: bool) -> (Server, Gateway) {
    let server = Server::new(authority.issue(&["sip:example.net"]), Some(authority)).await;
    let setup = Setup { aliased, ..Setup::new(authority, server.address()) };
    let gateway = Gateway::start(setup);
    (server, gateway)
}

/// Answers the next request.
async fn serve<S>(line: &mut Line<S>) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let asked = line.next().await.expect("a request");
    line.send(&ok(&asked)).await;
    asked
}

/// Section 8.2: a connection that a server opened, and says `alias` on, is used for requests to it (CR-06).
#[tokio::test]
async fn section_8_2_an_aliased_connection_is_used_backwards() {
    let authority = Authority::new();
    let (server, gateway) = scene(&authority, false).await;
    let own = authority.issue(&["sip:example.net"]);
    let mut line = gateway.meet(1, authority.trust(), &own).await.unwrap();
    let via = format!("core.example.net:{};alias", server.address().port());
    line.send(&request("OPTIONS", "sip:x@example.net", &via, "sip:s@example.net")).await;
    line.answer().await.unwrap();
    for _ in 0..2 {
        let mut alice = gateway.alice_asks(&authority, "example.net").await;
        let asked = serve(&mut line).await;
        assert!(asked.starts_with("MESSAGE sip:bob@example.net "), "{asked}");
        assert!(alice.answer().await.unwrap().starts_with("SIP/2.0 200 "));
    }
    assert_eq!((gateway.count("dialled"), gateway.aliases()), (0, 1));
}

/// Sections 8.2 and 9.2: without one of the conditions it is as if the parameter were not there (CR-06, CR-09).
#[tokio::test]
async fn section_9_2_a_connection_is_not_used_backwards_unless_all_of_it_fits() {
    let authority = Authority::new();
    for (name, face, shown, port, parameter, aliases) in [
        ("no parameter", 1, "sip:example.net", None, "", 0),
        ("a parameter with a value", 1, "sip:example.net", None, ";alias=yes", 0),
        ("another port", 1, "sip:example.net", Some(5061), ";alias", 1),
        ("the certificate of another domain", 1, "sip:example.org", None, ";alias", 1),
        ("the certificate of nobody known", 1, "sip:example.com", None, ";alias", 0),
        ("a user's certificate", 1, "sip:u@example.net", None, ";alias", 0),
        ("at the side of devices", 0, "sip:example.net", None, ";alias", 0),
    ] {
        let server = Server::new(authority.issue(&["sip:example.net"]), None).await;
        let at = server.address();
        let domains = vec![("example.net", at), ("example.org", at)];
        let gateway = Gateway::start(Setup { domains, ..Setup::new(&authority, at) });
        let own = authority.issue(&[shown]);
        let mut line = gateway.meet(face, authority.trust(), &own).await.unwrap();
        let via = format!("192.0.2.20:{}{parameter}", port.unwrap_or(at.port()));
        line.send(&request("OPTIONS", "sip:x@example.net", &via, "sip:s@example.net")).await;
        // The request itself fares as it would without the parameter.
        let answer = line.answer().await.unwrap();
        let expected = match (face, shown) {
            (0, _) => "SIP/2.0 407 ",
            (_, "sip:example.com" | "sip:u@example.net") => "SIP/2.0 403 ",
            _ => "SIP/2.0 4",
        };
        assert!(answer.starts_with(expected), "{name}: {answer}");
        assert_eq!(gateway.aliases(), aliases, "{name}");
        let mut alice = gateway.alice_asks(&authority, "example.net").await;
        let mut dialled = server.accept().await.unwrap();
        serve(&mut dialled).await;
        assert!(alice.answer().await.unwrap().starts_with("SIP/2.0 200 "), "{name}");
        assert_eq!(gateway.count("dialled"), 1, "{name}");
    }
}

/// Section 8.2: a connection that is no more is replaced by a new one; whoever waits on it is told (CR-10).
#[tokio::test]
async fn section_8_2_an_aliased_connection_that_ended_is_replaced() {
    let authority = Authority::new();
    let (server, gateway) = scene(&authority, false).await;
    let own = authority.issue(&["sip:example.net"]);
    let mut line = gateway.meet(1, authority.trust(), &own).await.unwrap();
    let via = format!("192.0.2.20:{};alias", server.address().port());
    line.send(&request("OPTIONS", "sip:x@example.net", &via, "sip:s@example.net")).await;
    line.answer().await.unwrap();
    let mut waiting = gateway.alice_asks(&authority, "example.net").await;
    line.next().await.unwrap();
    // Section 8.3: a closure alert, and nothing begins on this connection any more.
    tokio::io::AsyncWriteExt::shutdown(&mut line.0).await.unwrap();
    let answer = waiting.answer().await.unwrap();
    assert!(!answer.starts_with("SIP/2.0 2"), "{answer}");
    gateway.until(|gateway| gateway.aliases() == 0).await;
    let mut alice = gateway.alice_asks(&authority, "example.net").await;
    let mut dialled = server.accept().await.unwrap();
    serve(&mut dialled).await;
    assert!(alice.answer().await.unwrap().starts_with("SIP/2.0 200 "));
    // The edge closed its end too, with an alert of its own: without one, this would be an error.
    let mut room = [0; 1];
    assert_eq!(tokio::io::AsyncReadExt::read(&mut line.0, &mut room).await.unwrap(), 0);
}

/// Section 8.1: we say `alias` to servers that know by our certificate who we are, and take requests from them on that
/// connection (CR-07); to others we do not.
#[tokio::test]
async fn section_8_1_alias_is_said_to_those_who_may_use_it() {
    let authority = Authority::new();
    for aliased in [true, false] {
        let (server, gateway) = scene(&authority, aliased).await;
        let mut alice = gateway.alice_asks(&authority, "example.net").await;
        let mut line = server.accept().await.unwrap();
        let asked = serve(&mut line).await;
        alice.answer().await.unwrap();
        let vias = lines(&asked, "Via: ");
        let says = vias.iter().map(|via| via.ends_with(";alias")).collect::<Vec<_>>();
        assert_eq!(says, [aliased, false], "{vias:?}: ours, and hers");
        line.send(&request("OPTIONS", "sip:x@example.net", "192.0.2.20", "sip:s@example.net"))
            .await;
        let answer = line.answer().await.unwrap();
        assert!(!answer.starts_with("SIP/2.0 403 "), "{answer}");
        assert_eq!(gateway.refused(Refusal::PeerUnknown), 0);
        // Section 8.1 again: the next request goes on the same connection.
        let mut again = gateway.alice_asks(&authority, "example.net").await;
        serve(&mut line).await;
        assert!(again.answer().await.unwrap().starts_with("SIP/2.0 200 "));
        assert_eq!(gateway.count("dialled"), 1);
    }
}

/// What else comes on a connection: nothing, after a closure alert. Without one, reading would be an error.
async fn closed<S>(line: &mut Line<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut line.0, &mut rest).await;
    assert_eq!(read.expect("a closure alert"), 0);
}

/// Section 8.3: an edge that stops waits for what is under way, and then says good-bye on every connection; what it has
/// waited for long enough it gives up (CR-10).
#[tokio::test]
async fn section_8_3_a_closure_alert_comes_after_the_last_answer() {
    let authority = Authority::new();
    for (patience, answered) in [(Duration::from_secs(32), true), (Duration::ZERO, false)] {
        let (server, gateway) = scene(&authority, false).await;
        let own = authority.issue(&["sip:example.net"]);
        let mut peer = gateway.meet(1, authority.trust(), &own).await.unwrap();
        let mut alice = gateway.alice_asks(&authority, "example.net").await;
        let mut dialled = server.accept().await.unwrap();
        let asked = dialled.next().await.unwrap();
        let stopping = gateway.stop(patience);
        if answered {
            dialled.send(&ok(&asked)).await;
            assert!(alice.answer().await.unwrap().starts_with("SIP/2.0 200 "));
        }
        closed(&mut alice).await;
        closed(&mut dialled).await;
        closed(&mut peer).await;
        stopping.await.unwrap();
    }
}

//! SIP over WebSocket through the whole program: our UE, a library that is not ours, and octets written by hand.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sipward::client::ue::{Ue, UeError, UeSettings};
use sipward::transport::ws::Offer;
use sipward::transport::{Transport, tls};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::renewal::{Lab, shown};
use super::{Core, Edge, MESSAGE};

const TLS: &str = "tls = { certificate = \"edge.pem\", key = \"edge.key\", psk = true }";
const TLS_ALONE: &str = "tls = { certificate = \"edge.pem\", key = \"edge.key\" }\n";
const RULES: &str = "ws = { origins = [\"https://phone.example.net\"] }";
pub(super) const ORIGIN: &str = "https://phone.example.net";

/// An edge whose TLS listener speaks WebSocket instead, under TLS or in the clear.
pub(super) fn edge(name: &str, secure: bool, core: &Core) -> (Edge, SocketAddr) {
    let edge = Edge::start_with(name, |text| {
        assert!(text.contains(TLS) && text.contains("transports = [\"tls\"]"), "{text}");
        let (kind, tls) = if secure { ("wss", TLS_ALONE) } else { ("ws", "") };
        text.replace(
            "sip:127.0.0.1:5070;transport=tcp",
            &format!("sip:{};transport=udp", core.address),
        )
        .replace("transports = [\"tls\"]", &format!("transports = [\"{kind}\"]"))
        .replacen(TLS, &format!("{tls}{RULES}"), 1)
    });
    let address = edge.tls.expect("the listener in place of TLS");
    (edge, address)
}

fn alice(edge: &Edge, transport: Transport, origin: Option<&str>) -> UeSettings {
    let ws = Offer { origin: origin.map(Into::into), ..Offer::default() };
    UeSettings { ws, ..super::alice(edge, transport) }
}

/// An edge with WebSocket in the clear, and octets that would open one there.
pub(super) fn dribbled(name: &str, core: &Core) -> (Edge, String) {
    (edge(name, false, core).0, opening(ORIGIN))
}

/// VIA-10, RR-03, section 8: register, write, call and hang up, with a host that nobody can look up.
#[test]
fn a_ue_registers_writes_and_calls_over_websocket() {
    for (name, secure) in [("wss", true), ("ws", false)] {
        let core = Core::start();
        let (edge, _) = edge(name, secure, &core);
        let transport = if secure { Transport::Wss } else { Transport::Ws };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ue = Ue::connect(alice(&edge, transport, Some(ORIGIN))).await.unwrap();
            assert_eq!(ue.register(600).await.unwrap().status(), Some(200), "{name}");
            let answer = ue.message("sip:bob@example.net", "caf\u{e9}").await.unwrap();
            assert_eq!(answer.status(), Some(200), "{name}");
            let call = ue.call("sip:bob@example.net").await.unwrap();
            assert_eq!(call.answer.status(), Some(200), "{name}");
            assert_eq!(ue.hang_up(&call.call_id).await.unwrap().status(), Some(200), "{name}");
        });
        let heard = core.heard.lock().unwrap().clone();
        let methods: Vec<&str> =
            heard.iter().map(|request| request.split(' ').next().unwrap()).collect();
        assert_eq!(methods, ["REGISTER", "MESSAGE", "INVITE", "BYE"], "{name}");
        let line = |request: &str, start: &str| {
            request.lines().find(|line| line.starts_with(start)).map(str::to_owned)
        };
        let via = format!("Via: SIP/2.0/{} ", transport.via_token());
        for request in &heard {
            let via = line(request, &via).unwrap_or_else(|| panic!("{name}: {request}"));
            assert!(via.contains(".invalid;"), "{name}: {via}");
            assert!(!via.contains("received="), "VIA-10: {via}");
            assert!(request.contains("P-Asserted-Identity: <sip:alice@example.net>"), "{request}");
        }
        assert!(heard[0].contains(".invalid;transport=ws>"), "{name}: {}", heard[0]);
        let mut recorded = heard[2].lines().filter(|line| line.starts_with("Record-Route:"));
        assert!(
            recorded.next_back().unwrap().ends_with(";transport=ws;lr>"),
            "{name}: {}",
            heard[2]
        );
    }
}

/// V-147: origins and certificates change while it serves, and who is there already stays.
#[test]
fn origins_and_certificates_change_while_it_serves() {
    const OTHER: &str = "https://other.example.net";
    let core = Core::start();
    let (mut edge, address) = edge("wss-reload", true, &core);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let let_in = |edge: &Edge, origin| match runtime.block_on(Ue::connect(alice(
        edge,
        Transport::Wss,
        Some(origin),
    ))) {
        Ok(ue) => Some(ue),
        Err(UeError::WebSocket(why)) if why.contains("403") => None,
        Err(why) => panic!("{origin}: {why}"),
    };
    let serves = |ue: &Ue| {
        let answer = runtime.block_on(ue.options("sip:bob@example.net")).unwrap();
        assert_eq!(answer.status(), Some(200));
    };
    let first = let_in(&edge, ORIGIN).expect("it is listed");
    assert!(let_in(&edge, OTHER).is_none());
    edge.edit(
        "sipward.toml",
        "origins = [\"https://phone.example.net\"]",
        &format!("origins = [\"{OTHER}\"]"),
    );
    edge.signal("-HUP");
    let heard = edge.until("reloaded: ");
    assert!(heard.ends_with("reloaded: listen[1].ws\n"), "{heard}");
    assert!(let_in(&edge, ORIGIN).is_none());
    let second = let_in(&edge, OTHER).expect("it is listed now");
    edge.edit("sipward.toml", OTHER, "null");
    edge.signal("-HUP");
    edge.until("not reloaded: the old configuration stays in force");
    assert!(let_in(&edge, OTHER).is_some(), "the old list stays");
    edge.edit("sipward.toml", "\"null\"", &format!("\"{OTHER}\""));

    let lab = Lab::new(&edge.folder);
    let trust = alice(&edge, Transport::Wss, None).tls.unwrap();
    let (renewed, certificate, key) = lab.pair();
    assert_ne!(runtime.block_on(shown(address, &trust)), renewed);
    lab.replace("edge.pem", &certificate);
    lab.replace("edge.key", &key);
    let heard = edge.until("reloaded: ");
    assert!(heard.ends_with("reloaded: certificates\n"), "{heard}");
    assert_eq!(runtime.block_on(shown(address, &trust)), renewed);
    let third = let_in(&edge, OTHER).expect("under the new certificate");
    for ue in [&first, &second, &third] {
        serves(ue);
    }
}

/// V-42, CR-04: where clients have to show a certificate, nobody gets as far as the opening handshake without one.
#[test]
fn clients_show_certificates_under_websocket_too() {
    let core = Core::start();
    let edge = Edge::start_with("wss-mutual", |text| {
        let asks = "key = \"edge.key\", client_auth = \"require\", client_ca = \"lab-ca.pem\" }\n";
        text.replace(
            "sip:127.0.0.1:5070;transport=tcp",
            &format!("sip:{};transport=udp", core.address),
        )
        .replace("transports = [\"tls\"]", "transports = [\"wss\"]")
        .replacen(
            TLS,
            &format!("{}{RULES}", TLS_ALONE.replace("key = \"edge.key\" }\n", asks)),
            1,
        )
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let anchors = fs::read(edge.folder.join("lab-ca.pem")).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["phone.example.net".into()]).unwrap();
    let (_, certificate, key) = Lab::new(&edge.folder).pair();
    for (about, shows, good) in [
        ("none", None, false),
        ("a stranger's", Some((stranger.cert.pem(), stranger.signing_key.serialize_pem())), false),
        ("the lab's", Some((certificate, key)), true),
    ] {
        let shows = shows.map(|(certificate, key)| {
            tls::Certificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
        });
        let trust = tls::trust(&anchors, b"").unwrap();
        let config = tls::client_config(trust, shows.as_ref()).unwrap();
        let settings = alice(&edge, Transport::Wss, Some(ORIGIN));
        let settings = UeSettings { tls: Some(config), ..settings };
        let [before] = edge.metrics([FAILED]);
        let came = runtime.block_on(async {
            let ue = Ue::connect(settings).await.ok()?;
            ue.register(600).await.ok()?.status()
        });
        assert_eq!(came, good.then_some(200), "{about}");
        if !good {
            // With TLS 1.3 a client is done before the edge has seen what it shows.
            while edge.metrics([FAILED]) == [before] {
                std::thread::yield_now();
            }
            assert_eq!(edge.metrics([FAILED]), [before + 1], "{about}: in the handshake");
        }
    }
}

const FAILED: &str = "sipward_transport_total{event=\"handshakes_failed\"}";

/// V-79: whom the edge does not let in, and what a UE says about it.
#[test]
fn v_79_a_ue_of_another_page_is_not_let_in() {
    let core = Core::start();
    let (edge, _) = edge("wss-origin", true, &core);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for origin in [None, Some("null"), Some("https://evil.example.net")] {
        let refused = runtime.block_on(Ue::connect(alice(&edge, Transport::Wss, origin)));
        let Err(UeError::WebSocket(why)) = refused else { panic!("{origin:?}: {refused:?}") };
        assert!(why.contains("403"), "{origin:?}: {why}");
    }
    assert!(core.heard.lock().unwrap().is_empty());
}

/// What the edge says to these octets until it closes.
fn said(edge: SocketAddr, octets: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(edge).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(octets).unwrap();
    let mut heard = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut heard);
    heard
}

/// V-75: neither is taken for the other, and no answer says what was sent.
#[test]
fn v_75_neither_protocol_is_taken_for_the_other() {
    let core = Core::start();
    let (edge, address) = edge("ws-cross", false, &core);
    let get = "GET /MARK HTTP/1.1\r\nHost: MARK\r\n\r\n";
    let post = format!(
        "POST / HTTP/1.1\r\nHost: MARK\r\nContent-Length: {}\r\n\r\n{MESSAGE}",
        MESSAGE.len()
    );
    for (about, at, octets, answer) in [
        ("HTTP on a SIP port", edge.ue, get, ""),
        ("SIP in a POST on a SIP port", edge.ue, &*post, ""),
        ("SIP on a WebSocket port", address, MESSAGE, ""),
        ("SIP in a POST on a WebSocket port", address, &*post, "HTTP/1.1 405 "),
        ("another path", address, get, "HTTP/1.1 404 "),
    ] {
        let heard = String::from_utf8(said(at, octets.as_bytes())).unwrap();
        assert!(
            heard.starts_with(answer) && heard.is_empty() == answer.is_empty(),
            "{about}: {heard}"
        );
        assert!(!heard.contains("MARK") && !heard.contains("SIP/2.0"), "{about}: {heard}");
    }
    assert!(core.heard.lock().unwrap().is_empty());
}

fn opening(origin: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: edge.example.net\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// RFC 6455 section 5.7: the masked ping of the document, octet for octet, and what it must be answered.
#[test]
fn octets_written_by_hand_are_answered_as_the_document_says() {
    let core = Core::start();
    let (_edge, address) = edge("ws-hand", false, &core);
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let crlf = [0x81, 0x84, 0, 0, 0, 0, b'\r', b'\n', b'\r', b'\n'];
    let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];
    let sent = [opening(ORIGIN).as_bytes(), &ping, &crlf, &close].concat();
    let heard = said(address, &sent);
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
    let pong = [0x8a, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let expected =
        [answer.as_bytes(), &pong, &[0x81, 0x02, b'\r', b'\n'], &[0x88, 0x02, 0x03, 0xE8]].concat();
    assert_eq!(heard, expected, "{}", heard.escape_ascii());
    let unmasked =
        [opening(ORIGIN).as_bytes(), &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]].concat();
    let heard = said(address, &unmasked);
    let refused = [answer.as_bytes(), &[0x88, 0x02, 0x03, 0xEA]].concat();
    assert_eq!(heard, refused, "{}", heard.escape_ascii());
}

/// A client of a library that is not ours.
fn stranger(address: SocketAddr) -> WebSocket<TcpStream> {
    let mut request = format!("ws://{address}/").into_client_request().unwrap();
    for (name, value) in [("Origin", ORIGIN), ("Sec-WebSocket-Protocol", "sip")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (socket, response) = tungstenite::client(request, stream).unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip");
    socket
}

/// V-13, KA-01, KA-05.
#[test]
fn a_library_that_is_not_ours_is_understood_and_understands() {
    let core = Core::start();
    let (_edge, address) = edge("ws-other", false, &core);
    let request = MESSAGE.replace("SIP/2.0/UDP 127.0.0.1:9", "SIP/2.0/WS x.invalid");
    let bare = request.replace("Content-Length: 0\r\n", "");
    let mut socket = stranger(address);
    for message in [
        Message::text(request.clone()),
        Message::binary(request.replace("z9hG4bK1", "z9hG4bK2").into_bytes()),
        Message::text(bare.replace("z9hG4bK1", "z9hG4bK3")),
    ] {
        socket.send(message).unwrap();
        let answer = socket.read().unwrap().into_text().unwrap();
        assert!(answer.starts_with("SIP/2.0 407 "), "{answer}");
        assert!(!answer.contains("received="), "VIA-10: {answer}");
    }
    socket.send(Message::text("\r\n\r\n")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("\r\n"));
    socket.send(Message::Ping("there?".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("there?".into()));
    socket.close(None).unwrap();
    assert!(matches!(socket.read().unwrap(), Message::Close(_)));
    for (about, message, status, code) in [
        ("two in one", request.repeat(2), Some("SIP/2.0 400 "), CloseCode::Invalid),
        ("half of one", request[..60].to_owned(), None, CloseCode::Invalid),
        ("10 MiB", "x".repeat(10 << 20), None, CloseCode::Size),
    ] {
        let mut socket = stranger(address);
        // The edge may have closed before it took all of it.
        let _ = socket.send(Message::text(message));
        let mut heard = Vec::new();
        while let Ok(message) = socket.read() {
            heard.push(message);
        }
        let close = heard.pop();
        let closed = matches!(&close, Some(Message::Close(Some(frame))) if frame.code == code);
        // Of 10 MiB, most was not read: the reset may overtake the close.
        assert!(closed || (code == CloseCode::Size && close.is_none()), "{about}: {close:?}");
        let answered = heard.first().map(|it| it.to_text().unwrap().get(..12).unwrap().to_owned());
        assert_eq!(answered.as_deref(), status, "{about}");
    }
}

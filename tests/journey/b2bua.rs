//! Calls through an edge that stands back to back: two dialogs, one call.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::Caller;
use sipward::identity::{Impu, Principal, Proof};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::lab::UE1_BTID;
use sipward::testing::{Lab, LabSettings, Peer};

use crate::apart::{Apart, End, answer, at_core};
use crate::scene::request;

const ALICE: &str = "sip:alice-phone@192.0.2.10:40000";
const ALICE_VIA: &str = "SIP/2.0/TLS alice-host.invalid";
const BOB: &str = "sip:bob-phone@203.0.113.20:5066";
const CORE_VIA: &str = "SIP/2.0/UDP 203.0.113.10:5060";
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\n";
const SDP: &str = "Content-Type: application/sdp\n";

/// Alice on TLS, with a key that her handshake proved.
fn world() -> Apart {
    world_of(LabSettings::default())
}

fn world_of(settings: LabSettings) -> Apart {
    let lab = Lab::new(settings.bridging());
    Apart::new(lab, Peer::tls("192.0.2.10:40000", 1).proved(alice()))
}

/// What the handshake of alice's phone proves.
pub(crate) fn alice() -> Arc<Caller> {
    Arc::new(Caller {
        principal: Principal::new(Proof::Gba, "ue1@ims.example.net"),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        key_name: UE1_BTID.into(),
        expires: None,
        strongest: Default::default(),
    })
}

/// A request of alice's outside dialogs.
fn from_alice(method: &str, number: u32, more: &str, body: &str) -> String {
    format!(
        "{method} sip:bob@example.net SIP/2.0
Via: {ALICE_VIA};branch=z9hG4bKalice{method}{number}
Max-Forwards: 20
From: \"Alice\" <sip:alice@example.net>;tag=alice-tag
To: <sip:bob@example.net>
Call-ID: alice-call-{number}
CSeq: {number} {method}
Contact: <{ALICE}>;+g.feature=\"x\";+sip.instance=\"<urn:uuid:0a>\"
Record-Route: <sip:alice-hop.invalid;lr>
{more}Content-Length: @

{body}"
    )
}

/// Alice calls bob, who answers under `tag`: both ends, before any ACK.
fn call(world: &mut Apart, number: u32, tag: &str) -> (End, End) {
    let sent = world.by_ue(&from_alice("INVITE", number, SDP, OFFER));
    let invite = at_core(&sent).clone();
    assert!(invite.text().ends_with(OFFER), "octet for octet");
    let bob = End::called(&invite, tag, BOB, CORE_VIA);
    let recorded = "Record-Route: <sip:core-hop.invalid;lr>\n";
    let sent = world.by_core(&bob.answer(&invite, 180, recorded, ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(180));
    let sent = world.by_core(&bob.answer(&invite, 200, &format!("{recorded}{SDP}"), OFFER));
    let accepted = world.at_ue(&sent);
    assert_eq!(accepted.message.status(), Some(200));
    assert!(accepted.text().ends_with(OFFER), "octet for octet");
    (End::caller(accepted, ALICE, ALICE_VIA), bob)
}

/// The same, acknowledged.
fn established(world: &mut Apart, number: u32, tag: &str) -> (End, End) {
    let (alice, bob) = call(world, number, tag);
    let sent = world.by_ue(&alice.numbered("ACK", alice.cseq, "", ""));
    assert_eq!(at_core(&sent).message.method_octets(), b"ACK");
    (alice, bob)
}

fn line<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
}

#[test]
fn a_call_has_two_dialogs_and_everything_else_of_it_crosses() {
    let mut world = world();
    let text = from_alice("INVITE", 1, &format!("Max-Breadth: 30\nX-Kept: a , b\n{SDP}"), OFFER);
    let sent = world.by_ue(&text);
    let invite = at_core(&sent).text();
    for kept in [
        "INVITE sip:bob@example.net SIP/2.0\r\n",
        "\r\nMax-Forwards: 19\r\n",
        "\r\nMax-Breadth: 30\r\n",
        "\r\nX-Kept: a , b\r\n",
        "\r\nFrom: \"Alice\" <sip:alice@example.net>;tag=",
        "\r\nTo: <sip:bob@example.net>\r\n",
        "\r\nContact: <sip:edge.example.net:5060>;+g.feature=\"x\"\r\n",
        "\r\nP-Asserted-Identity: <sip:alice@example.net>\r\n",
    ] {
        assert!(invite.contains(kept), "{kept} in {invite}");
    }
    for gone in ["Record-Route", "Route:", "sip.instance"] {
        assert!(!invite.contains(gone), "{gone} in {invite}");
    }
    assert_eq!(invite.matches("Via:").count(), 1);

    let mut world = self::world();
    let (mut alice, mut bob) = call(&mut world, 1, "bob-tag");
    assert_eq!(alice.target, "sip:edge.example.net", "by name, on TLS");
    assert_eq!(alice.routes, ["<sip:alice-hop.invalid;lr>"], "of her own leg");
    let sent = world.by_ue(&alice.numbered("ACK", 1, SDP, OFFER));
    let ack = at_core(&sent).text();
    assert!(ack.starts_with(&format!("ACK {BOB} SIP/2.0\r\n")), "{ack}");
    assert_eq!(line(&ack, "Route: "), "<sip:core-hop.invalid;lr>");
    assert_eq!(line(&ack, "CSeq: "), "1 ACK");
    assert!(ack.ends_with(OFFER));
    let sent = world.by_core(&bob.request("INFO", "Info-Package: x\n", "octets \u{1}"));
    let info = world.at_ue(&sent).clone();
    assert!(info.text().starts_with(&format!("INFO {ALICE} SIP/2.0\r\n")), "{}", info.text());
    assert_eq!(line(&info.text(), "CSeq: "), "1 INFO", "her leg counts for itself");
    assert_eq!(line(&info.text(), "Route: "), "<sip:alice-hop.invalid;lr>");
    let sent = world.by_ue(&alice.answer(&info, 200, "", ""));
    assert_eq!(line(&at_core(&sent).text(), "CSeq: "), "101 INFO");
    let sent = world.by_ue(&alice.request("BYE", "", ""));
    let bye = at_core(&sent).clone();
    assert_eq!(line(&bye.text(), "CSeq: "), "2 BYE");
    let sent = world.by_core(&bob.answer(&bye, 200, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    let late = world.by_core(&bob.request("INFO", "", ""));
    assert_eq!(at_core(&late).message.status(), Some(481));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::DialogEnded));
}

#[test]
fn nothing_is_left_of_a_call_after_a_day() {
    let mut world = world();
    let (mut alice, bob) = established(&mut world, 1, "bob-tag");
    let sent = world.by_ue(&alice.request("BYE", "", ""));
    world.by_core(&bob.answer(at_core(&sent), 200, "", ""));
    let sent = world.by_ue(&from_alice("SUBSCRIBE", 2, "Event: presence\n", ""));
    world.by_core(&answer(at_core(&sent), 489, "notifier-tag", BOB, "", ""));
    established(&mut world, 3, "carol-tag");
    let associations = Arc::clone(&world.lab.shared.gate.associations);
    assert!(associations.aliases() > 0);
    world.lab.advance(Duration::from_secs(24 * 3600));
    assert_eq!((associations.footprint(), associations.aliases()), (0, 0));
    assert_eq!((world.lab.transactions(), world.lab.shared.ongoing.len()), (0, 0));
}

#[test]
fn messages_outside_dialogs_cross_and_leave_nothing() {
    let mut world = world();
    let sent = world.by_ue(&from_alice("MESSAGE", 1, "Content-Type: text/plain\n", "hello\r\n"));
    let message = at_core(&sent).clone();
    assert!(message.text().ends_with("\r\n\r\nhello\r\n"));
    let sent = world.by_core(&answer(&message, 200, "bob-tag", BOB, "X-Kept: y\n", "z"));
    let back = world.at_ue(&sent).text();
    assert!(back.contains("\r\nX-Kept: y\r\n") && back.ends_with("\r\n\r\nz"), "{back}");
    assert_eq!(world.lab.shared.gate.associations.footprint(), 0);
}

#[test]
fn whoever_asks_without_credentials_is_challenged_as_by_a_user_agent() {
    let mut lab = Lab::new(LabSettings::default().bridging());
    let bare = Peer::udp("192.0.2.10:5060");
    for (method, status) in [("MESSAGE", 401), ("REGISTER", 407)] {
        let uri = if method == "REGISTER" { "sip:example.net" } else { "sip:bob@example.net" };
        let sent = lab.receive(&bare, &request(method, uri, "alice", "c", 1, None));
        assert_eq!(sent.last().and_then(|sent| sent.message.status()), Some(status), "{method}");
    }
    let mut key = lab.ue1();
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "c", 2, Some(&mut key));
    let other = "Authorization: Digest username=\"a\", realm=\"elsewhere\", nonce=\"n\", uri=\"sip:b\", response=\"r\"\n";
    let text = text.replace("Content-Length", &format!("{other}Content-Length"));
    let sent = lab.receive(&bare, &text.replace("Proxy-Authorization", "Authorization"));
    let message = at_core(&sent).clone();
    assert!(!message.text().contains("uthorization"), "no credentials cross: {}", message.text());
    let challenge = "WWW-Authenticate: Digest realm=\"elsewhere\", nonce=\"n\"\n";
    let sent = lab.receive(&Peer::core(), &answer(&message, 401, "b", BOB, challenge, ""));
    let back = sent.last().expect("an answer").text();
    assert!(back.starts_with("SIP/2.0 403 ") && !back.contains("uthenticate"), "{back}");
    let mut key = lab.ue1();
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "c", 3, Some(&mut key));
    let sent = lab.receive(&bare, &text);
    let sent = lab.receive(&Peer::core(), &answer(at_core(&sent), 200, "b", BOB, "", ""));
    let back = sent.last().expect("an answer").text();
    assert!(back.contains("\r\nAuthentication-Info: qop=auth, rspauth=\""), "{back}");
}

//! sip-edge 14: what a back-to-back user agent owes to SIP, a function for each line; `tests/journey/b2bua.rs` has the calls.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::Caller;
use sipward::identity::{Impu, Principal, Proof};
use sipward::testing::lab::UE1_BTID;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::{Message, Method};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\n";

struct World {
    lab: Lab,
    ue: Peer,
}

/// Alice on TLS, known by her handshake, before an edge that bridges.
fn world() -> World {
    let alice = Arc::new(Caller {
        rights: Default::default(),
        principal: Principal::new(Proof::Gba, "ue1@ims.example.net"),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        key_name: UE1_BTID.into(),
        expires: None,
        strongest: Default::default(),
        renewal: Default::default(),
    });
    let lab = Lab::new(LabSettings::default().bridging());
    World { lab, ue: Peer::tls("192.0.2.10:40000", 1).proved(alice) }
}

/// A request of alice's, in the dialog of `to_tag` if there is one.
fn request(method: &str, number: u32, to_tag: &str, more: &str, body: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} sip:bob@example.net SIP/2.0
Via: SIP/2.0/TLS alice.invalid;branch=z9hG4bKalice{method}{number}
Max-Forwards: 20
From: \"A\" <sip:alice@example.net>;tag=alice-tag
To: <sip:bob@example.net>{to_tag}
Call-ID: alice-call
CSeq: {number} {method}
Contact: <sip:alice@192.0.2.10:40000>
{more}Content-Length: @

{body}"
    )
}

/// A request of bob's, in the dialog that `invite` made.
fn of_bob(invite: &Message, method: &str, number: u32, more: &str) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    format!(
        "{method} sip:edge.example.net:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKbob{method}{number}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=bob-tag
To: <sip:alice@example.net>;tag={}
Call-ID: {}
CSeq: {number} {method}
Contact: <sip:bob@203.0.113.20>
{more}Content-Length: 0
",
        text(invite.from_tag()),
        text(invite.call_id())
    )
}

fn answer(to: &Sent, status: u16, tag: &str, more: &str, body: &str) -> String {
    let text = to.text();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("a line");
    let to_tag = if line("To:").contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    format!(
        "SIP/2.0 {status} X\n{}\n{}\n{}{to_tag}\n{}\n{}\nContact: <sip:bob@203.0.113.20>\n{more}Content-Length: @\n\n{body}",
        line("Via:"),
        line("From:"),
        line("To:"),
        line("Call-ID:"),
        line("CSeq:")
    )
}

impl World {
    fn ue(&mut self, text: &str) -> Vec<Sent> {
        let peer = self.ue.clone();
        self.lab.receive(&peer, text)
    }

    fn core(&mut self, text: &str) -> Vec<Sent> {
        self.lab.receive(&Peer::core(), text)
    }

    /// Alice calls, bob answers 200: the INVITE at bob's, the answer at hers.
    fn call(&mut self) -> (Sent, Sent) {
        let sent = self.ue(&request("INVITE", 1, "", "", OFFER));
        let invite = last(&sent, true).clone();
        let sent = self.core(&answer(&invite, 200, "bob-tag", "", OFFER));
        (invite, last(&sent, false).clone())
    }

    /// The same, acknowledged; and our tag on her leg.
    fn established(&mut self) -> (Sent, String) {
        let (invite, accepted) = self.call();
        let tag = String::from_utf8_lossy(accepted.message.to_tag()).into_owned();
        self.ue(&request("ACK", 1, &tag, "", ""));
        (invite, tag)
    }
}

/// The last message that went to the core, or to a UE.
fn last(sent: &[Sent], to_core: bool) -> &Sent {
    let core = Peer::core().flow().remote;
    let found = sent.iter().rfind(|sent| (sent.to == core) == to_core);
    found.unwrap_or_else(|| panic!("nothing went there: {sent:?}"))
}

fn line(sent: &Sent, name: &str) -> String {
    let text = sent.text();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
}

/// RFC 3261 8.2.1, 8.2.2.3: methods and extensions that cannot be bridged are refused, and what would do is said.
#[test]
fn b2_01_methods_and_extensions() {
    let mut world = world();
    let sent = world.ue(&request("PING", 1, "", "", ""));
    assert_eq!(last(&sent, false).message.status(), Some(405));
    assert!(line(last(&sent, false), "Allow: ").contains("SUBSCRIBE"));
    let sent = world.ue(&request("REFER", 2, "", "Require: multiple-refer, norefersub\n", ""));
    assert_eq!(last(&sent, false).message.status(), Some(420));
    assert_eq!(line(last(&sent, false), "Unsupported: "), "multiple-refer");
}

/// RFC 5393 5.4.3, 7.
#[test]
fn b2_02_hops_and_breadth_are_carried_over() {
    let sent = world().ue(&request("INVITE", 1, "", "Max-Breadth: 7\n", ""));
    let invite = last(&sent, true);
    let carried = ["Max-Forwards: ", "Max-Breadth: "].map(|name| line(invite, name));
    assert_eq!(carried, ["19", "7"]);
}

/// RFC 5393 4.2; RFC 3261 8.2.2.2.
#[test]
fn b2_03_loops_and_merged_requests() {
    let mut world = world();
    let sent = world.ue(&request("INVITE", 1, "", "", ""));
    let via = "Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKback\r\nVia:";
    let back = last(&sent, true).text().replacen("Via:", via, 1);
    let sent = world.lab.receive_octets(&Peer::core(), back.into_bytes());
    assert_eq!(last(&sent, true).message.status(), Some(482), "it came back as it left");
    let sent = world.ue(&request("INVITE", 1, "", "", "").replace("z9hG4bKalice", "z9hG4bKother"));
    assert_eq!(last(&sent, false).message.status(), Some(482), "it came by another way");
}

/// RFC 3261 13.3.1.4: a 2xx is repeated from T1 to T2 until its ACK comes, and a call that gets none is ended.
#[test]
fn b2_04_a_2xx_is_repeated_and_what_nobody_acknowledges_is_ended() {
    let (mut world, mut silent) = (world(), world());
    let (_, accepted) = world.call();
    assert_eq!(last(&world.lab.advance(Duration::from_millis(500)), false).text(), accepted.text());
    let tag = String::from_utf8_lossy(accepted.message.to_tag()).into_owned();
    world.ue(&request("ACK", 1, &tag, "", ""));
    assert!(world.lab.advance(Duration::from_secs(60)).is_empty(), "it is acknowledged");
    silent.call();
    let sent = silent.lab.advance(Duration::from_secs(33));
    let byes = sent.iter().filter(|sent| sent.message.method() == Some(Method::Bye));
    assert!(byes.map(|bye| bye.to).collect::<std::collections::HashSet<_>>().len() == 2);
}

/// RFC 3261 14.2; and 17.2: a copy of what was refused hears the same when nothing stands in its way any more.
#[test]
fn b2_05_one_invite_at_a_time() {
    let mut world = world();
    let (invite, tag) = world.established();
    let sent = world.ue(&request("INVITE", 2, &tag, "", OFFER));
    let first = last(&sent, true).clone();
    let second = world.ue(&request("INVITE", 3, &tag, "", OFFER));
    assert_eq!(last(&second, false).message.status(), Some(500));
    let wait: u32 = line(last(&second, false), "Retry-After: ").parse().expect("seconds");
    assert!(wait <= 10);
    let crossing = of_bob(&invite.message, "INVITE", 50, "");
    let glare = world.core(&crossing);
    assert_eq!(last(&glare, true).message.status(), Some(491));
    world.core(&answer(&first, 200, "bob-tag", "", OFFER));
    world.ue(&request("ACK", 2, &tag, "", ""));
    let copy = world.core(&crossing);
    assert_eq!(copy.len(), 1, "nothing is forwarded: {copy:?}");
    assert_eq!(last(&copy, true).text(), last(&glare, true).text());
}

/// RFC 3262 7.2: RSeq passes, RAck is told in the numbers of the other leg; nothing is made reliable that was not.
#[test]
fn b2_06_prack_on_each_leg() {
    let mut world = world();
    let sent = world.ue(&request("INVITE", 9, "", "Supported: 100rel\n", OFFER));
    let invite = last(&sent, true).clone();
    let sent = world.core(&answer(&invite, 180, "bob-tag", "", ""));
    assert!(!last(&sent, false).text().contains("100rel"));
    let reliable = "Require: 100rel\nRSeq: 5\n";
    let sent = world.core(&answer(&invite, 183, "bob-tag", reliable, OFFER));
    let early = last(&sent, false);
    assert_eq!((line(early, "Require: "), line(early, "RSeq: ")), ("100rel".into(), "5".into()));
    let tag = String::from_utf8_lossy(early.message.to_tag()).into_owned();
    let sent = world.ue(&request("PRACK", 10, &tag, "RAck: 5 9 INVITE\n", ""));
    assert_eq!(line(last(&sent, true), "RAck: "), "5 1 INVITE");
}

/// RFC 4028 7.1, 9: interval and refresher are agreed on end to end, and mean the same ends on each leg.
#[test]
fn b2_07_session_timers_cross() {
    let mut world = world();
    let timer = "Supported: timer\nSession-Expires: 600;refresher=uac\nMin-SE: 90\n";
    let sent = world.ue(&request("INVITE", 1, "", timer, OFFER));
    let invite = last(&sent, true).clone();
    assert_eq!(line(&invite, "Session-Expires: "), "600;refresher=uac");
    let timer = "Require: timer\nSession-Expires: 600;refresher=uac\n";
    let sent = world.core(&answer(&invite, 200, "bob-tag", timer, OFFER));
    assert_eq!(line(last(&sent, false), "Session-Expires: "), "600;refresher=uac");
}

/// RFC 4028 7.4, 10: where neither end knows timers we refresh, without an offer; who is an end of a session that is not
/// refreshed ends it in time.
#[test]
fn b2_07_session_timer_as_a_user_agent() {
    let mut world = world();
    let allow = "Allow: INVITE, ACK, BYE, UPDATE\n";
    let sent = world.ue(&request("INVITE", 1, "", allow, OFFER));
    let invite = last(&sent, true).clone();
    let sent = world.core(&answer(&invite, 200, "bob-tag", allow, OFFER));
    let tag = String::from_utf8_lossy(last(&sent, false).message.to_tag()).into_owned();
    world.ue(&request("ACK", 1, &tag, "", ""));
    let sent = world.lab.advance(Duration::from_secs(900));
    for to_core in [false, true] {
        let update = last(&sent, to_core);
        assert_eq!(update.message.method(), Some(Method::Update));
        assert!(
            update.message.body().is_empty()
                && line(update, "Session-Expires: ") == "1800;refresher=uac"
        );
    }
    let sent = world.lab.advance(Duration::from_secs(33));
    let byes = sent.iter().filter(|sent| sent.message.method() == Some(Method::Bye));
    assert!(byes.map(|bye| bye.to).collect::<std::collections::HashSet<_>>().len() == 2);
}

/// RFC 3891 6.1, RFC 4235 4.1: a dialog is named as the other side knows it.
#[test]
fn b2_08_ids_are_translated() {
    let mut world = world();
    let (invite, tag) = world.established();
    let named = format!("Replaces: alice-call;to-tag={tag};from-tag=alice-tag\n");
    let other = request("INVITE", 1, "", &named, "").replace("Call-ID: alice", "Call-ID: other");
    let sent = world.ue(&other.replace("z9hG4bKalice", "z9hG4bKother"));
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (call, own) = (text(invite.message.call_id()), text(invite.message.from_tag()));
    let there = format!("{call};to-tag=bob-tag;from-tag={own}");
    assert_eq!(line(last(&sent, true), "Replaces: "), there);
    let told = "Event: dialog\nContent-Type: application/dialog-info+xml\n";
    let body = format!(
        "<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\"><dialog id=\"1\" call-id=\"alice-call\" local-tag=\"alice-tag\" remote-tag=\"{tag}\"/></dialog-info>"
    );
    let sent = world.ue(&request("PUBLISH", 5, "", told, &body));
    let body = text(last(&sent, true).message.body());
    let there = format!("call-id=\"{call}\" local-tag=\"{own}\" remote-tag=\"bob-tag\"");
    assert!(body.contains(&there), "{body}");
}

/// RFC 8760 2: nobody's credentials cross, nor anybody's challenge.
#[test]
fn b2_09_credentials_and_challenges_stay_on_their_leg() {
    let mut world = world();
    let foreign =
        "Digest username=\"a\", realm=\"else\", nonce=\"n\", uri=\"sip:b\", response=\"r\"";
    let both = format!("Authorization: {foreign}\nProxy-Authorization: {foreign}\n");
    let sent = world.ue(&request("MESSAGE", 1, "", &both, ""));
    let message = last(&sent, true).clone();
    assert!(!message.text().contains("uthorization"));
    for (number, status, challenge) in
        [(1, 401, "WWW-Authenticate"), (2, 407, "Proxy-Authenticate")]
    {
        let message = match number {
            1 => message.clone(),
            _ => last(&world.ue(&request("MESSAGE", number, "", "", "")), true).clone(),
        };
        let challenge = format!("{challenge}: Digest realm=\"else\", nonce=\"n\"\n");
        let sent = world.core(&answer(&message, status, "bob-tag", &challenge, ""));
        assert_eq!(last(&sent, false).message.status(), Some(403));
        assert!(!last(&sent, false).text().contains("uthenticate"));
    }
}

/// RFC 3261 9.2, 15: a 2xx that crosses a CANCEL is acknowledged and ended on its own leg.
#[test]
fn b2_10_a_2xx_that_crosses_a_cancel() {
    let mut world = world();
    let invite = request("INVITE", 1, "", "", "");
    let sent = last(&world.ue(&invite), true).clone();
    let cancel = invite.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    let cancelled = world.ue(&cancel);
    assert_eq!(last(&cancelled, false).message.status(), Some(200));
    let crossed = world.core(&answer(&sent, 200, "bob-tag", "", OFFER));
    assert_eq!(last(&crossed, false).message.status(), Some(487));
    let core = Peer::core().flow().remote;
    let own = crossed.iter().filter(|sent| sent.to == core).map(|sent| sent.message.method());
    assert_eq!(own.collect::<Vec<_>>(), [Some(Method::Ack), Some(Method::Bye)]);
}

/// RFC 8224 4.1: what Identity signs is as it was.
#[test]
fn b2_11_what_is_signed_crosses_unchanged() {
    let signed = "Date: Thu, 26 Nov 2026 08:00:00 GMT\nIdentity: eyJ0;info=<https://a/b>\n";
    let sent = world().ue(&request("INVITE", 1, "", signed, OFFER));
    let invite = last(&sent, true);
    assert_eq!(line(invite, "Date: "), "Thu, 26 Nov 2026 08:00:00 GMT");
    assert_eq!(line(invite, "Identity: "), "eyJ0;info=<https://a/b>");
    assert!(line(invite, "From: ").starts_with("\"A\" <sip:alice@example.net>;tag="));
    assert_eq!(line(invite, "To: "), "<sip:bob@example.net>");
    assert_eq!(invite.message.body(), OFFER.as_bytes());
}

/// RFC 3515: the far end is who is referred.
#[test]
fn b2_12_refer_is_bridged_never_executed() {
    let mut world = world();
    let (invite, tag) = world.established();
    let sent = world.ue(&request("REFER", 2, &tag, "Refer-To: <sip:carol@example.org>\n", ""));
    let refer = last(&sent, true).clone();
    assert_eq!(line(&refer, "Refer-To: "), "<sip:carol@example.org>");
    assert_eq!(refer.message.call_id(), invite.message.call_id());
    assert!(sent.len() == 1, "nobody else is called: {sent:?}");
    let sent = world.core(&answer(&refer, 202, "bob-tag", "", ""));
    assert_eq!(last(&sent, false).message.status(), Some(202));
}

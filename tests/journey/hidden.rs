//! A core that is not to be seen: `topology = "tokens"` in the proxy's role.

use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::Method;

use crate::apart::End;
use crate::b2bua::alice;
use crate::scene::{register, status_to, to_core};

const ALICE: &str = "sip:alice@192.0.2.10:40000";
const ALICE_VIA: &str = "SIP/2.0/TLS 192.0.2.10:40000";
const INSIDE: [&str; 4] = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "bob-host"];
const BOB: &str = "sip:bob@bob-host.invalid:5066;transport=tcp";
const HOPS: &str = "Record-Route: <sip:10.9.0.2;lr>,  <sip:10.9.0.1:5080;lr;x=y>\nRecord-Route: <sip:10.9.0.3;lr>\n";

struct World {
    lab: Lab,
    ue: Peer,
}

impl World {
    fn new() -> Self {
        let mut settings = LabSettings::default();
        settings.forward.hides = true;
        let ue = Peer::tls("192.0.2.10:40000", 1).proved(alice());
        Self { lab: Lab::new(settings), ue }
    }

    /// What the core sends, and what comes of it: no octet that goes to the UE says what is inside.
    fn by_core(&mut self, text: &str) -> Vec<Sent> {
        let sent = self.lab.receive(&Peer::core(), text);
        for one in sent.iter().filter(|one| one.to == self.ue.flow().remote) {
            for name in INSIDE {
                assert!(!one.text().contains(name), "{name} in\n{}", one.text());
            }
        }
        sent
    }

    fn by_ue(&mut self, text: &str) -> Vec<Sent> {
        let peer = self.ue.clone();
        self.lab.receive(&peer, text)
    }

    fn at_ue(&self, sent: &[Sent]) -> Sent {
        let mut found = sent.iter().filter(|one| one.to == self.ue.flow().remote);
        found.next_back().unwrap_or_else(|| panic!("nothing went to the UE: {sent:?}")).clone()
    }

    /// Alice calls bob: both ends.
    fn call(&mut self) -> (End, End) {
        let text = format!(
            "INVITE sip:bob@example.net SIP/2.0
Via: {ALICE_VIA};branch=z9hG4bKinvite
Max-Forwards: 70
From: <sip:alice@example.net>;tag=alice-tag
To: <sip:bob@example.net>
Call-ID: call
CSeq: 1 INVITE
Contact: <{ALICE}>
Content-Length: 0
"
        );
        let invite = to_core(&self.by_ue(&text)).clone();
        let bob = End::called(&invite, "bob-tag", BOB, "SIP/2.0/UDP 203.0.113.10:5060");
        // The hops of the core stand on top of what it was sent.
        let answer = bob.answer(&invite, 200, "X-Z: z\n", "").replacen(
            "Record-Route:",
            &format!("{HOPS}Record-Route:"),
            1,
        );
        let sent = self.by_core(&answer);
        let alice = End::caller(&self.at_ue(&sent), ALICE, ALICE_VIA);
        assert_eq!(
            alice.routes.len(),
            3,
            "ours, and one in place of all others: {:?}",
            alice.routes
        );
        assert!(alice.target.starts_with("sip:hid-"), "{}", alice.target);
        self.by_ue(&alice.numbered("ACK", 1, "", ""));
        (alice, bob)
    }

    /// Bob calls alice, by way of hops of the core: both ends, and the INVITE as she got it.
    fn called(&mut self) -> (End, End, Sent) {
        let mut key = self.lab.ue1();
        let peer = self.ue.clone();
        let path = register(&mut self.lab, &peer, "alice", &mut key).text();
        let path = path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path");
        let invite = format!(
            "INVITE sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKtop,
 SIP/2.0/TCP 10.9.0.1;branch=z9hG4bKone;received=10.9.0.2
Via: SIP/2.0/UDP bob-host.invalid;branch=z9hG4bKbob
Max-Forwards: 70
From: <sip:bob@example.net>;tag=bob-tag
To: <sip:alice@example.net>
Call-ID: bob-call
CSeq: 1 INVITE
Contact: \"Bob\" <{BOB}>;+g.x
Route: {path}
{HOPS}Content-Length: 0
"
        );
        let sent = self.by_core(&invite);
        let got = self.at_ue(&sent);
        let alice = End::called(&got, "alice-tag", ALICE, ALICE_VIA);
        let sent = self.by_ue(&alice.answer(&got, 200, "", ""));
        let bob = End::caller(to_core(&sent), BOB, "SIP/2.0/UDP 203.0.113.10:5060");
        (alice, bob, got)
    }
}

fn values(text: &str, name: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix(name));
    rows.flat_map(|row| row.split(',').map(|value| value.trim().to_owned())).collect()
}

/// 14: one sealed token in place of the values of the core, restored on the way back.
#[test]
fn who_calls_into_a_hidden_core_talks_to_it_through_tokens() {
    let mut world = World::new();
    let (mut alice, mut bob) = world.call();
    let bye = to_core(&world.by_ue(&alice.request("INFO", "", ""))).clone();
    assert!(bye.text().starts_with(&format!("INFO {BOB} SIP/2.0\r\n")), "{}", bye.text());
    let routes = values(&bye.text(), "Route: ");
    assert_eq!(routes, ["<sip:10.9.0.3;lr>", "<sip:10.9.0.1:5080;lr;x=y>", "<sip:10.9.0.2;lr>"]);
    let sent = world.by_core(&bob.answer(&bye, 200, "", ""));
    assert_eq!(world.at_ue(&sent).message.status(), Some(200));
    // Bob moves, and she follows without seeing where.
    let before = alice.target.clone();
    bob.contact = "sip:bob@10.9.0.2:7000".into();
    bob.routes = vec![];
    bob.target = ALICE.into();
    let again = bob.request("INVITE", "Route: <sip:edge.example.net:5060;lr>\n", "");
    let sent = world.by_core(&again);
    let got = world.at_ue(&sent);
    assert_eq!(got.message.method(), Some(Method::Invite), "{}", got.text());
    let target = End::called(&got, "alice-tag", ALICE, ALICE_VIA).target;
    assert_ne!(target, before);
    world.by_ue(&alice.answer(&got, 200, "", ""));
    alice.target = target;
    let bye = to_core(&world.by_ue(&alice.request("BYE", "", ""))).clone();
    assert!(bye.text().starts_with("BYE sip:bob@10.9.0.2:7000 SIP/2.0\r\n"), "{}", bye.text());
}

#[test]
fn who_is_called_from_a_hidden_core_answers_to_all_of_its_hops() {
    let mut world = World::new();
    let (mut alice, bob, got) = world.called();
    assert_eq!(values(&got.text(), "Via: ").len(), 2, "ours and one: {}", got.text());
    assert!(got.text().contains("\r\nContact: \"Bob\" <sip:hid-"), "{}", got.text());
    assert!(got.text().contains(">;+g.x\r\n"), "what he can do is no address");
    assert_eq!(bob.routes.len(), 5, "{:?}", bob.routes);
    let answer = world.by_ue(&alice.answer(&got, 200, "", ""));
    let back = to_core(&answer);
    let vias = values(&back.text(), "Via: ");
    assert_eq!(vias.len(), 3, "{vias:?}");
    assert!(vias[1].starts_with("SIP/2.0/TCP 10.9.0.1;branch=z9hG4bKone"), "{vias:?}");
    assert!(vias[2].starts_with("SIP/2.0/UDP bob-host.invalid;branch=z9hG4bKbob"), "{vias:?}");
    let recorded = values(&back.text(), "Record-Route: ");
    assert_eq!(recorded.len(), 5, "{recorded:?}");
    let bye = to_core(&world.by_ue(&alice.request("BYE", "", ""))).clone();
    assert!(bye.text().starts_with(&format!("BYE {BOB} SIP/2.0\r\n")));
    let routes = values(&bye.text(), "Route: ");
    assert_eq!(routes, ["<sip:10.9.0.2;lr>", "<sip:10.9.0.1:5080;lr;x=y>", "<sip:10.9.0.3;lr>"]);
}

#[test]
fn a_copy_of_a_message_is_the_same_octets() {
    let mut world = World::new();
    let (.., got) = world.called();
    let mut other = World::new();
    let (.., same) = other.called();
    let tokens = |sent: &Sent| values(&sent.text(), "Via: ")[1].clone();
    assert_eq!(tokens(&got), tokens(&same));
}

/// V-137: of another message, altered, out of its place, outside of a dialog.
#[test]
fn tokens_open_in_their_own_place_alone() {
    let mut world = World::new();
    let (alice, _) = world.call();
    let altered = |text: &str| {
        let at = text.find("hid-").expect("a token") + 40;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    };
    let mut wrong: Vec<(&str, End)> = Vec::new();
    wrong.push(("an altered target", End { target: altered(&alice.target), ..alice.clone() }));
    let mut routes = alice.routes.clone();
    routes[2] = altered(&routes[2]);
    wrong.push(("an altered route", End { routes: routes.clone(), ..alice.clone() }));
    routes[2] = format!("<{};lr>", alice.target);
    wrong.push(("a target as route", End { routes, ..alice.clone() }));
    wrong.push(("of another call", End { call_id: "other".into(), ..alice.clone() }));
    for (what, mut end) in wrong {
        let sent = world.by_ue(&end.request("INFO", "", ""));
        assert_eq!(status_to(&sent, &world.ue), Some(403), "{what}");
        assert_eq!(world.lab.last(), Outcome::Refused(Refusal::TokenForged), "{what}");
    }
    let mut outside = alice.clone();
    let text = outside.request("MESSAGE", "", "").replace(&format!(";tag={}", alice.tags[1]), "");
    assert_eq!(status_to(&world.by_ue(&text), &world.ue), Some(403), "outside of a dialog");
    let mut whole = alice;
    assert_eq!(
        to_core(&world.by_ue(&whole.request("INFO", "", ""))).message.method(),
        Some(Method::Info)
    );

    let mut world = World::new();
    let (alice, _, got) = world.called();
    let answer = alice.answer(&got, 486, "", "");
    let via = values(&got.text(), "Via: ")[1].clone();
    for bad in [altered(&via), via.replace("bK", "bKx"), String::new()] {
        let text = match bad.as_str() {
            "" => answer.replace("CSeq: 1 INVITE", "CSeq: 2 INVITE"),
            bad => answer.replace(&via, bad),
        };
        let sent = world.by_ue(&text);
        assert!(sent.iter().all(|one| !one.text().contains("hid-")), "no token comes to the core");
    }
}

/// What would have to be shown is not sent at all.
#[test]
fn what_is_too_long_to_be_hidden_does_not_reach_a_ue() {
    let mut world = World::new();
    let mut key = world.lab.ue1();
    let peer = world.ue.clone();
    let path = register(&mut world.lab, &peer, "alice", &mut key).text();
    let path =
        path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned();
    for (octets, arrives) in [(3500, true), (5000, false)] {
        let text = format!(
            "INVITE sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKlong{octets}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>
Call-ID: long
CSeq: 1 INVITE
Contact: <{BOB}>
Route: {path}
Record-Route: <sip:10.9.0.1;lr;x={}>
Content-Length: 0
",
            "y".repeat(octets)
        );
        let sent = world.by_core(&text);
        assert_eq!(sent.iter().any(|one| one.to == peer.flow().remote), arrives, "{octets}");
    }
}

#[test]
fn nothing_is_hidden_where_nobody_asks_for_it() {
    let mut world = World { lab: Lab::default(), ..World::new() };
    let peer = world.ue.clone();
    let mut key = world.lab.ue1();
    let path = register(&mut world.lab, &peer, "alice", &mut key).text();
    let path =
        path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned();
    let text = format!(
        "MESSAGE sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKtop
Via: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bKone
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>
Call-ID: m
CSeq: 1 MESSAGE
Route: {path}
Content-Length: 0
"
    );
    let sent = world.lab.receive(&Peer::core(), &text);
    assert!(world.at_ue(&sent).text().contains("Via: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bKone\r\n"));
}

/// SEC-003: a dialog ends with the overlap of the secret under which it was formed, since nobody tells a route set anew (RFC
/// 3261 section 12.2). Its UE is told so, and goes on with all else on its connection.
#[test]
fn a_dialog_that_outlives_the_overlap_is_over_and_that_is_nobodys_fault() {
    let mut world = World::new();
    let (mut alice, _bob) = world.call();
    let until = world.lab.now.wall + std::time::Duration::from_secs(3600);
    assert!(world.lab.shared.gate.associations.replace_secret(&[9; 32], until));
    world.lab.shared.topology.replace(&[9; 32], until);
    to_core(&world.by_ue(&alice.request("INFO", "", "")));
    world.lab.advance(std::time::Duration::from_secs(3601));
    for method in ["INFO"; 20].into_iter().chain(["BYE"]) {
        world.by_ue(&alice.request(method, "", ""));
        assert_eq!(world.lab.last(), Outcome::Refused(Refusal::DialogUnknown), "{method}");
    }
    world.by_ue(&format!(
        "MESSAGE sip:bob@example.net SIP/2.0
Via: {ALICE_VIA};branch=z9hG4bKafter
Max-Forwards: 70
From: <sip:alice@example.net>;tag=after
To: <sip:bob@example.net>
Call-ID: after
CSeq: 1 MESSAGE
Content-Length: 0
"
    ));
    assert_eq!(world.lab.last(), Outcome::Forwarded);
}

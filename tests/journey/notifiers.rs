//! A core that forks sends one SUBSCRIBE to two phones: Call-ID and From tag are the same, and each phone has a dialog.

use std::sync::Arc;
use std::time::Duration;

use sipward::admission::Rate;
use sipward::authentication::Caller;
use sipward::identity::{Impu, Principal, Proof};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::lab::UE2_BTID;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::apart::{End, at_core};
use crate::b2bua::alice;
use crate::scene::{request, respond, to_core};

const WATCHER: &str = "sip:watcher@203.0.113.20:5060";
const CORE_VIA: &str = "SIP/2.0/UDP 203.0.113.10:5060";
const ACTIVE: &str = "Event: presence\nSubscription-State: active;expires=600\n";

/// How the edge stands between the phones and the core.
const ROLES: [&str; 3] = ["proxy", "b2bua", "b2bua, same ids"];

/// Whose the second phone is.
const OWNERS: [&str; 2] = ["alice", "bob"];

/// What the handshake of bob's phone proves.
fn bob() -> Arc<Caller> {
    Arc::new(Caller {
        rights: Default::default(),
        principal: Principal::new(Proof::Gba, "ue2@ims.example.net"),
        identities: [Impu::new("sip:bob@example.net").expect("a URI")].into(),
        key_name: UE2_BTID.into(),
        expires: None,
        strongest: Default::default(),
        renewal: Default::default(),
    })
}

/// A phone, and the SUBSCRIBE as it got it.
struct Phone {
    peer: Peer,
    subscribe: Sent,
    end: End,
}

struct World {
    lab: Lab,
    what: String,
    /// Whether both phones are alice's, and nothing but their flows tells their requests apart.
    alike: bool,
    phones: [Phone; 2],
}

impl World {
    /// Two phones, and a watcher's SUBSCRIBE forked to both. `routed`: whether they bring the route set that they got.
    fn new(role: &str, owner: &str, routed: bool) -> Self {
        let mut settings = LabSettings::default();
        settings.reg.demands.rate = Rate::per_second(1000);
        settings.forward.keep_call_id = role.ends_with("same ids");
        let settings = if role == "proxy" { settings } else { settings.bridging() };
        let mut lab = Lab::new(settings);
        let second = if owner == "alice" { alice() } else { bob() };
        let peers = [
            Peer::tls("192.0.2.10:40001", 1).proved(alice()),
            Peer::tls("192.0.2.11:40002", 2).proved(second),
        ];
        let mut keys = [lab.ue1(), if owner == "alice" { lab.ue1() } else { lab.ue2() }];
        let paths: Vec<String> = [0, 1]
            .map(|n| registered(&mut lab, &peers[n], ["alice", owner][n], n, &mut keys[n]))
            .into();
        let phones = [0, 1].map(|n| {
            let sent = lab.receive(&Peer::core(), &subscribe(&paths[n], n));
            let there = sent.iter().find(|one| one.to == peers[n].flow().remote);
            let subscribe = there.expect("it is forwarded").clone();
            let host = peers[n].flow().remote;
            let (contact, via) = (format!("sip:phone{n}@{host}"), format!("SIP/2.0/TLS {host}"));
            let mut end = End::called(&subscribe, &format!("phone{n}"), &contact, &via);
            if !routed {
                end.routes.clear();
            }
            Phone { peer: peers[n].clone(), subscribe, end }
        });
        let alike = owner == "alice" && phones[0].end.call_id == phones[1].end.call_id;
        let alike = alike && phones.iter().all(|phone| phone.end.routes.is_empty());
        Self { lab, what: format!("{role}, {owner}, routed: {routed}"), alike, phones }
    }

    /// The phone answers its SUBSCRIBE; what the core hears.
    fn answers(&mut self, n: usize, status: u16) {
        let Phone { peer, subscribe, end } = &self.phones[n];
        let sent = self.lab.receive(peer, &end.answer(subscribe, status, "Expires: 600\n", ""));
        assert_eq!(at_core(&sent).message.status(), Some(status), "{}", self.what);
    }

    /// The phone notifies, the core accepts, and what the core sends back in that dialog comes to this phone.
    fn notifies(&mut self, n: usize) {
        let what = &self.what;
        let Phone { peer, end, .. } = &mut self.phones[n];
        let sent = self.lab.receive(peer, &end.request("NOTIFY", ACTIVE, ""));
        assert_eq!(self.lab.last(), Outcome::Forwarded, "{what}: phone {n}");
        let notify = at_core(&sent).clone();
        assert_eq!(notify.message.method_octets(), b"NOTIFY", "{what}");
        let mut watcher = End::called(&notify, "watcher", WATCHER, CORE_VIA);
        watcher.cseq = 1 + u32::from(end.cseq > 101);
        let sent = self.lab.receive(&Peer::core(), &watcher.answer(&notify, 200, "", ""));
        assert_eq!(sent.last().map(|one| one.to), Some(peer.flow().remote), "{what}");
        let refresh = watcher.request("SUBSCRIBE", "Event: presence\nExpires: 600\n", "");
        let sent = self.lab.receive(&Peer::core(), &refresh);
        let refresh = sent.last().expect("it is forwarded").clone();
        assert_eq!(refresh.to, peer.flow().remote, "{what}: phone {n}");
        assert_eq!(refresh.message.method_octets(), b"SUBSCRIBE", "{what}");
        let sent = self.lab.receive(peer, &end.answer(&refresh, 200, "Expires: 600\n", ""));
        assert_eq!(at_core(&sent).message.status(), Some(200), "{what}");
    }

    /// The phone notifies once more.
    fn goes_on(&mut self, n: usize) {
        let Phone { peer, end, .. } = &mut self.phones[n];
        let sent = self.lab.receive(peer, &end.request("NOTIFY", ACTIVE, ""));
        assert_eq!(self.lab.last(), Outcome::Forwarded, "{}: phone {n}", self.what);
        assert_eq!(at_core(&sent).message.method_octets(), b"NOTIFY", "{}", self.what);
    }

    fn ends(mut self) {
        self.lab.advance(Duration::from_secs(24 * 3600));
        let associations = &self.lab.shared.gate.associations;
        let left = (associations.footprint(), associations.aliases(), associations.forks());
        assert_eq!((left, associations.ends()), ((0, 0, 0), 0), "{}", self.what);
    }
}

/// Registers a phone; gives its Path.
fn registered(lab: &mut Lab, peer: &Peer, from: &str, n: usize, key: &mut Signer) -> String {
    let call = format!("reg{n}");
    let text = request("REGISTER", "sip:example.net", from, &call, 1, Some(key));
    let register = to_core(&lab.receive(peer, &text)).clone();
    let granted = format!("Contact: <sip:{from}@192.0.2.10:5060>;expires=3600\n");
    lab.receive(&Peer::core(), &respond(&register, 200, "reg", &granted));
    let text = register.text();
    text.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned()
}

/// One branch of the watcher's SUBSCRIBE.
fn subscribe(path: &str, n: usize) -> String {
    format!(
        "SUBSCRIBE sip:phone{n}@192.0.2.10:5060 SIP/2.0
Via: {CORE_VIA};branch=z9hG4bKfork{n}
Max-Forwards: 70
From: <sip:watcher@example.net>;tag=watcher
To: <sip:alice@example.net>
Call-ID: forked
CSeq: 1 SUBSCRIBE
Contact: <{WATCHER}>
Event: presence
Expires: 600
Route: {path}
Content-Length: 0
"
    )
}

/// Each role, each owner of the second phone, with route set and without.
fn worlds() -> impl Iterator<Item = World> {
    let all = ROLES.into_iter().flat_map(|role| OWNERS.map(|owner| (role, owner)));
    all.flat_map(|(role, owner)| [true, false].map(|routed| World::new(role, owner, routed)))
}

/// RFC 6665 section 4.1.4.
#[test]
fn each_phone_notifies_before_it_answers() {
    for mut world in worlds() {
        for n in [0, 1] {
            world.notifies(n);
        }
        for n in [1, 0] {
            world.answers(n, 200);
        }
        for n in [0, 1] {
            world.goes_on(n);
        }
        world.ends();
    }
}

#[test]
fn each_phone_notifies_in_the_dialog_that_its_own_answer_made() {
    for mut world in worlds() {
        world.answers(0, 200);
        let held = world.lab.shared.gate.associations.snapshot().into_iter();
        let born = held.filter(|one| one.state.as_str() != "forming");
        let flows: Vec<_> = born.flat_map(|one| one.anchors().to_vec()).collect();
        assert_eq!(flows, [world.phones[0].peer.flow()], "{}", world.what);
        for n in [0, 1] {
            world.notifies(n);
        }
        world.answers(1, 200);
        for n in [0, 1] {
            world.goes_on(n);
        }
        world.ends();
    }
}

#[test]
fn a_phone_that_refuses_leaves_the_other_one_alone() {
    for mut world in worlds() {
        world.answers(0, 486);
        world.notifies(1);
        world.answers(1, 200);
        world.goes_on(1);
        let Phone { peer, end, .. } = &mut world.phones[0];
        world.lab.receive(peer, &end.request("NOTIFY", ACTIVE, ""));
        if !world.alike {
            let unknown = Outcome::Refused(Refusal::DialogUnknown);
            assert_eq!(world.lab.last(), unknown, "{}", world.what);
        }
        world.ends();
    }
}

/// From elsewhere it is as if nobody had asked.
#[test]
fn who_was_not_asked_notifies_of_nothing() {
    let mut world = World::new("proxy", "alice", false);
    let end = &mut world.phones[0].end;
    let rogue = Peer::tls("192.0.2.66:40000", 6).proved(bob());
    world.lab.receive(&rogue, &end.request("NOTIFY", ACTIVE, ""));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::DialogUnknown));
    let other = ACTIVE.replace("presence", "dialog");
    let Phone { peer, end, .. } = &mut world.phones[0];
    world.lab.receive(peer, &end.request("NOTIFY", &other, ""));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::DialogUnknown), "another event");
    world.notifies(0);
}

/// What is forked more widely than the index goes is found by its tokens.
#[test]
fn the_first_of_many_branches_is_found_by_the_token_in_its_route() {
    let mut world = World::new("proxy", "bob", true);
    let (second, mut key) = (world.phones[1].peer.clone(), world.lab.ue2());
    let path = registered(&mut world.lab, &second, "bob", 2, &mut key);
    for n in 2..40 {
        world.lab.receive(&Peer::core(), &subscribe(&path, n));
        assert_eq!(world.lab.last(), Outcome::Forwarded);
    }
    for n in [0, 1] {
        world.notifies(n);
    }
    world.ends();
}

/// A UE that subscribes twice under the same ids: what is answered to the first request is nothing of the second.
#[test]
fn an_answer_to_a_request_that_another_took_the_place_of_moves_nothing() {
    for refused in [true, false] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
        let asked = [1, 2].map(|cseq| {
            let text =
                request("SUBSCRIBE", "sip:bob@example.net", "alice", "s", cseq, Some(&mut key))
                    .replace("Content-Length", "Event: presence\nContent-Length");
            to_core(&lab.receive(&alice, &text)).clone()
        });
        let status = if refused { 486 } else { 200 };
        lab.receive(&Peer::core(), &respond(&asked[0], status, "b", "Expires: 600\n"));
        let born = |lab: &Lab| {
            let held = lab.shared.gate.associations.snapshot();
            held.iter().filter(|one| one.state.as_str() != "forming").count()
        };
        assert_eq!(born(&lab), 0);
        let mut bob = End::called(&asked[1], "b", WATCHER, CORE_VIA);
        lab.receive(&Peer::core(), &bob.request("NOTIFY", ACTIVE, ""));
        assert_eq!((lab.last(), born(&lab)), (Outcome::Forwarded, 1), "{refused}");
    }
}

//! GBA Push: what becomes of a push to a phone on UDP, between the edge of the laboratory, a bootstrapping server and a
//! phone with a card. SEC-004, CONF-003, AUTH-007, V-145, and V-139 as far as pushes move a card's number.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipward::client::pushed::{Notice, Pushed};
use sipward::forward::Pushes;
use sipward::gate::Lookup;
use sipward::identity::Impi;
use sipward::instant::Now;
use sipward::journey::Outcome;
use sipward::keys::bootstrap::{Bsf, BsfConfig, LocalNaf, NafGrant, UaGrant};
use sipward::keys::milenage::Milenage;
use sipward::keys::push::naf::{PushBounds, PushedKeys, State};
use sipward::keys::push::p1::P1;
use sipward::keys::push::ue::{Associations, Discard, Subscription};
use sipward::keys::push::{CardApplication, PushSource};
use sipward::keys::sqn::{PLACES, Sqn, SqnGenerator, SqnWindow};
use sipward::keys::subscribers::{Card, Subscriber};
use sipward::keys::usim::Usim;
use sipward::keys::vector::Algorithms;
use sipward::keys::{NafId, Rand, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::EDGE;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::Message;

use crate::phone::with_account;
use crate::scene::{register, respond, status_to};

const ALICE: &str = "192.0.2.10:5060";
const BSF: &str = "bsf.example.net";
const IMPI: &str = "ue1@ims.example.net";
const MARKER: &str = "four new mails";

fn impi() -> Impi {
    Impi::new(IMPI).expect("a name")
}

fn algorithms() -> Algorithms {
    Algorithms::Milenage(Milenage::with_op(&[1; 16], &[2; 16]))
}

fn server() -> LocalNaf {
    let subscriber = Subscriber {
        impi: impi(),
        algorithms: Some(algorithms()),
        digest: None,
        amf: [0x80, 0],
        sqn: SqnGenerator::new(Sqn::default()),
        impus: Arc::from([]),
        key_lifetime: None,
        barred: false,
        card: Card::Gba,
        uss: Arc::from([]),
    };
    let grant = NafGrant {
        host: EDGE.into(),
        fqdns: vec![EDGE.into()],
        protocols: vec![UaGrant::Exact(UaId::PUSH_LAYER)],
        sees_impi: true,
        sees_identities: true,
    };
    let bsf = Bsf::new(BsfConfig::new(BSF), vec![subscriber], vec![grant], [9; 32]);
    LocalNaf::new(Arc::new(bsf.expect("sound")), EDGE)
}

/// A phone with a card: it answers what it gets, and says what it saw.
struct Phone {
    pushed: Pushed,
    seen: Arc<Mutex<Vec<Notice>>>,
}

impl Phone {
    fn new(window: SqnWindow) -> Self {
        Self::keeping(window, true)
    }

    /// Whose card's window is written down, or cannot be.
    fn keeping(window: SqnWindow, keeps: bool) -> Self {
        let naf = NafId::new(EDGE, UaId::PUSH_LAYER);
        let application = CardApplication::Usim;
        let subscription =
            Subscription { impi: impi(), bsf: BSF.into(), application, nafs: vec![naf] };
        let card = Arc::new(Mutex::new(Usim::new(algorithms(), window)));
        let seen = Arc::<Mutex<Vec<Notice>>>::default();
        let tell = Arc::clone(&seen);
        let pushed = Pushed::new(
            card,
            Associations::new(subscription, Arc::new(P1)),
            Arc::new(move |_| keeps),
            Arc::new(move |notice| tell.lock().unwrap().push(notice)),
        );
        Self { pushed, seen }
    }

    /// Its answer to a MESSAGE on a flow that is not secure.
    fn answer(&self, sent: &Sent, now: Now) -> String {
        let taken = self.pushed.receive(&sent.message, false, now.wall).expect("a push");
        let says = taken.says.map(|says| format!("Gba-Push: {says}\n")).unwrap_or_default();
        respond(sent, taken.status, "u", &says)
    }

    fn last(&self) -> Notice {
        self.seen.lock().unwrap().last().expect("something was pushed").clone()
    }
}

/// The edge, its server of push info, and alice on UDP.
struct World {
    lab: Lab,
    server: LocalNaf,
    phone: Phone,
    udp: Peer,
    path: String,
    drawn: u8,
}

fn settings() -> LabSettings {
    let keys = Arc::new(PushedKeys::new(Arc::new(P1), PushBounds::default()));
    let naf = NafId::new(EDGE, UaId::PUSH_LAYER);
    let lifetime = Duration::from_secs(600);
    LabSettings { pushes: Some(Pushes { keys, naf, lifetime }), ..LabSettings::default() }
}

impl World {
    fn new(settings: LabSettings, window: SqnWindow) -> Self {
        let mut lab = Lab::new(settings);
        let (udp, mut key) = (Peer::udp(ALICE), lab.ue1());
        let path = path_of(&register(&mut lab, &udp, "alice", &mut key));
        Self { lab, server: server(), phone: Phone::new(window), udp, path, drawn: 0 }
    }

    fn push(&mut self, number: u32) -> Vec<Sent> {
        self.lab.receive(&Peer::slp(), &push(&self.path, number))
    }

    /// The server of push info answers what was asked last.
    fn look_up(&mut self) -> Vec<Sent> {
        let lookup = self.lab.asked.last().expect("a lookup").clone();
        let Lookup::PushKey { asked, asker } = &lookup else { panic!("{lookup:?}") };
        self.drawn += 1;
        let answer = self.server.push_info(asked, Rand([self.drawn; 16]), self.lab.now);
        self.keys().put(*asker, answer, self.lab.now);
        self.lab.answered(&lookup)
    }

    fn keys(&self) -> Arc<PushedKeys> {
        Arc::clone(&self.lab.shared.pushes.as_ref().expect("pushes").keys)
    }

    /// Alice answers what the edge sent to her.
    fn alice_answers(&mut self, sent: &[Sent]) -> Vec<Sent> {
        let to_her = sent.iter().find(|sent| sent.to == self.udp.flow().remote);
        let answer = self.phone.answer(to_her.expect("a MESSAGE to alice"), self.lab.now);
        self.lab.receive(&self.udp, &answer)
    }

    fn state(&self) -> Option<State> {
        self.keys().state(&impi(), self.lab.now)
    }
}

fn push(path: &str, number: u32) -> String {
    format!(
        "MESSAGE sip:alice@example.net SIP/2.0
Via: SIP/2.0/TLS slp.example.net;branch=z9hG4bKp{number}
Max-Forwards: 70
Route: {path}
From: <sip:slp.example.net>;tag=p
To: <sip:alice@example.net>
Call-ID: push{number}
CSeq: 1 MESSAGE
Accept-Contact: *;+g.oma.pusheventapp=\"ulp.ua\"
Content-Type: application/vnd.oma.push
Content-Length: @

{MARKER} {number}"
    )
}

fn path_of(register: &Sent) -> String {
    let text = register.text();
    text.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned()
}

fn kind(sent: &Sent) -> String {
    String::from_utf8_lossy(sent.message.first(sipward::wire::Name::ContentType).expect("a type"))
        .into()
}

fn shown(number: u32) -> Notice {
    let naf = Some(NafId::new(EDGE, UaId::PUSH_LAYER));
    let content = format!("{MARKER} {number}").into_bytes();
    Notice::Shown { naf, kind: "application/vnd.oma.push".into(), content }
}

fn walk_through(settings: LabSettings) {
    let mut world = World::new(settings, SqnWindow::default());
    assert!(world.push(1).is_empty(), "nothing goes before there is a key");
    let gpi = world.look_up();
    assert_eq!(gpi.len(), 1);
    assert_eq!(
        (gpi[0].to, kind(&gpi[0])),
        (world.udp.flow().remote, "application/vnd.3gpp.gba.gpi".into())
    );
    assert_eq!(world.state(), Some(State::Pending));
    let wrapped = world.alice_answers(&gpi);
    assert!(matches!(world.phone.last(), Notice::Made(_)));
    assert_eq!(wrapped.len(), 1);
    assert_eq!(kind(&wrapped[0]), "application/vnd.sipward.gpl");
    assert!(wrapped[0].text().contains("pusheventapp"), "what is no body is as it was");
    assert_eq!(status_to(&wrapped, &Peer::slp()), None, "the server waits for alice");
    let back = world.alice_answers(&wrapped);
    assert_eq!(world.phone.last(), shown(1));
    assert_eq!(status_to(&back, &Peer::slp()), Some(200));
    assert!(!back[0].text().contains("Gba-Push"), "the receipt is ours");
    assert_eq!(world.state(), Some(State::Confirmed));
    // The next one goes at once.
    let asked = world.lab.asked.len();
    let wrapped = world.push(2);
    assert_eq!(kind(&wrapped[0]), "application/vnd.sipward.gpl");
    let back = world.alice_answers(&wrapped);
    assert_eq!((world.phone.last(), status_to(&back, &Peer::slp())), (shown(2), Some(200)));
    assert_eq!(world.lab.asked.len(), asked);
    for sent in gpi.iter().chain(&wrapped) {
        assert!(!sent.text().contains(MARKER));
    }
    // V-145: what went is not taken again, and the push itself is no push on such a flow.
    for (again, why) in [(&gpi[0], Discard::ChallengeLives), (&wrapped[0], Discard::Replayed)] {
        assert!(world.phone.answer(again, world.lab.now).starts_with("SIP/2.0 493 "));
        assert_eq!(world.phone.last(), Notice::Discarded(why));
    }
    let bare = Sent { to: gpi[0].to, message: message(&push(&world.path, 9)) };
    assert!(world.phone.answer(&bare, world.lab.now).starts_with("SIP/2.0 403 "));
    assert_eq!(world.phone.last(), Notice::Discarded(Discard::Unprotected));
    // Its time runs out, and the next push makes another.
    let _ = world.lab.advance(Duration::from_secs(601));
    assert_eq!(world.state(), Some(State::Expired));
}

fn message(text: &str) -> Message {
    Message::from_datagram(sipward::testing::lab::octets_of(text)).expect("well formed")
}

#[test]
fn a_push_to_a_phone_on_udp_goes_wrapped_under_a_key_that_was_pushed_first() {
    walk_through(settings());
}

#[test]
fn the_same_back_to_back() {
    walk_through(settings().bridging());
}

#[test]
fn pushes_that_come_meanwhile_wait_for_the_same_key() {
    let mut world = World::new(settings(), SqnWindow::default());
    for number in 1..=3 {
        assert!(world.push(number).is_empty());
    }
    assert_eq!(world.lab.asked.len(), 1);
    let gpi = world.look_up();
    assert_eq!(gpi.len(), 1);
    let wrapped = world.alice_answers(&gpi);
    assert_eq!(wrapped.len(), 3);
    for (number, sent) in (1..).zip(&wrapped) {
        let back = world.alice_answers(std::slice::from_ref(sent));
        assert_eq!(
            (world.phone.last(), status_to(&back, &Peer::slp())),
            (shown(number), Some(200))
        );
    }
}

#[test]
fn without_a_key_the_server_hears_480() {
    // Nobody answers what was asked.
    let mut world = World::new(settings(), SqnWindow::default());
    world.push(1);
    let back = world.lab.advance(Duration::from_secs(10));
    assert_eq!(status_to(&back, &Peer::slp()), Some(480));
    assert!(world.look_up().is_empty(), "too late");
    // The subscriber may not be contacted so often.
    let mut world = World::new(settings(), SqnWindow::default());
    for number in 1..=4 {
        world.push(number);
        let sent = world.look_up();
        let Some(gpi) = sent.iter().find(|sent| sent.to == world.udp.flow().remote) else {
            assert_eq!((number, status_to(&sent, &Peer::slp())), (4, Some(480)), "V-139");
            continue;
        };
        // Alice's phone was there before, and cannot open it.
        let back = world.lab.receive(&world.udp, &respond(gpi, 493, "u", ""));
        assert_eq!(status_to(&back, &Peer::slp()), Some(480));
        assert_eq!(world.state(), None);
    }
    // The phone says nothing.
    let mut world = World::new(settings(), SqnWindow::default());
    world.push(1);
    world.look_up();
    let back = world.lab.advance(Duration::from_secs(40));
    assert_eq!(status_to(&back, &Peer::slp()), Some(480));
    assert_eq!(world.state(), None);
    assert_eq!(world.lab.transactions(), 0);
}

#[test]
fn whose_card_nobody_proved_is_not_pushed_a_key() {
    let mut lab = Lab::new(with_account(settings()));
    let mut account = lab.signer("alice", "wonderland");
    account.realm = "example.net".into();
    let path = path_of(&register(&mut lab, &Peer::udp(ALICE), "alice", &mut account));
    let sent = lab.receive(&Peer::slp(), &push(&path, 1));
    assert_eq!(status_to(&sent, &Peer::slp()), Some(480));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::Unreachable));
    assert!(lab.asked.is_empty());
}

#[test]
fn transport_alone_is_as_before() {
    let mut settings = settings();
    settings.push.wraps = false;
    let mut world = World::new(settings, SqnWindow::default());
    let sent = world.push(1);
    assert_eq!(status_to(&sent, &Peer::slp()), Some(480));
    assert_eq!(world.lab.last(), Outcome::Refused(Refusal::Unreachable));
}

#[test]
fn a_card_out_of_step_is_met_again_once() {
    let window = SqnWindow::default().with_seen([500; PLACES]);
    let mut world = World::new(settings(), window.clone());
    world.push(1);
    let gpi = world.look_up();
    assert!(world.alice_answers(&gpi).is_empty());
    assert!(matches!(world.phone.last(), Notice::Discarded(Discard::OutOfStep(_))));
    let gpi = world.look_up();
    let wrapped = world.alice_answers(&gpi);
    assert!(matches!(world.phone.last(), Notice::Made(_)));
    let back = world.alice_answers(&wrapped);
    assert_eq!((world.phone.last(), status_to(&back, &Peer::slp())), (shown(1), Some(200)));
    // One that says so again is given up.
    let mut world = World::new(settings(), window);
    world.push(1);
    let gpi = world.look_up();
    world.alice_answers(&gpi);
    let gpi = world.look_up();
    let auts = "Gba-Push: auts=\"AAAAAAAAAAAAAAAAAAA=\"\n";
    let gpi = gpi.first().expect("a GPI");
    let back = world.lab.receive(&world.udp, &respond(gpi, 493, "u", auts));
    assert_eq!(status_to(&back, &Peer::slp()), Some(480));
}

#[test]
fn a_phone_that_lost_its_keys_is_pushed_another() {
    let mut world = World::new(settings(), SqnWindow::default());
    world.push(1);
    let gpi = world.look_up();
    let wrapped = world.alice_answers(&gpi);
    world.alice_answers(&wrapped);
    // It begins anew, with the card as it was.
    world.phone = Phone::new(SqnWindow::default().with_seen([1; PLACES]));
    let wrapped = world.push(2);
    let back = world.alice_answers(&wrapped);
    assert_eq!(world.phone.last(), Notice::Discarded(Discard::AssociationUnknown));
    assert_eq!(status_to(&back, &Peer::slp()), Some(480));
    assert_eq!(world.state(), None);
    world.push(3);
    let gpi = world.look_up();
    let wrapped = world.alice_answers(&gpi);
    let back = world.alice_answers(&wrapped);
    assert_eq!((world.phone.last(), status_to(&back, &Peer::slp())), (shown(3), Some(200)));
}

#[test]
fn a_window_that_cannot_be_written_down_makes_no_association() {
    let mut world = World::new(settings(), SqnWindow::default());
    world.phone = Phone::keeping(SqnWindow::default(), false);
    world.push(1);
    let gpi = world.look_up();
    let back = world.alice_answers(&gpi);
    assert_eq!(world.phone.last(), Notice::Discarded(Discard::NotWritten));
    assert_eq!(status_to(&back, &Peer::slp()), Some(480));
}

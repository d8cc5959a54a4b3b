//! TS 33.223 and TS 33.224: push info and the layer above it, both ends, octet for octet as `gba_push.toml` has them. Where
//! their layout was not at hand it is profile P1; V-145, INTE-002, INTE-003, CONF-002 and SEC-004 as far as no socket is asked.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sipward::identity::{Impi, Ptid};
use sipward::instant::{Instant, Now, WallTime};
use sipward::keys::bootstrap::{
    Bsf, BsfConfig, LocalNaf, NafGrant, NoPush, PUSHES_PER_MINUTE, UaGrant,
};
use sipward::keys::derivation::{derive_ks_int_naf, hkdf};
use sipward::keys::milenage::Milenage;
use sipward::keys::push::gpl::{LayerFault, Receiver, Sender};
use sipward::keys::push::naf::{PushBounds, PushedKeys, State};
use sipward::keys::push::p1::{GPI_MAX, P1};
use sipward::keys::push::ue::{Associations, Discard, HELD_MAX, Subscription};
use sipward::keys::push::{
    CardApplication, Direction, DisposableKs, Frame, Gpi, GpiBody, GpiHead, Profile, PushAnswer,
    PushInfo, PushRequest, PushSource, Unfit, downlink_id,
};
use sipward::keys::sqn::{PLACES, Sqn, SqnGenerator, SqnWindow};
use sipward::keys::subscribers::{Card, Subscriber};
use sipward::keys::usim::Usim;
use sipward::keys::vector::{Algorithms, Autn};
use sipward::keys::{Ks, KsNaf, NafId, Rand, UaId};
use toml::Table;

use crate::vectors::{file, fixed, octets, rows, text};

const BSF: &str = "bsf.home1.net";
const NAF: &str = "push.home1.net";
/// Before the end of the association in the vectors.
const EARLY: WallTime = WallTime::from_unix(1_795_000_000);

fn part(facts: &Table, name: &str) -> Table {
    facts.get(name).and_then(toml::Value::as_table).expect("a table").clone()
}

fn number(row: &Table, name: &str) -> u64 {
    row.get(name).and_then(toml::Value::as_integer).expect("a number").try_into().expect("positive")
}

fn naf() -> NafId {
    NafId::new(NAF, UaId::PUSH_LAYER)
}

fn p1() -> Arc<dyn Profile> {
    sipward::keys::push::profile("p1").expect("known")
}

fn impi() -> Impi {
    Impi::new("user1_private@home1.net").expect("a name")
}

fn disposable(facts: &Table) -> DisposableKs {
    DisposableKs::new(Ks::new(fixed(facts, "ks")), Rand(fixed(facts, "rand")), impi())
}

/// The card of set 1, which has seen all numbers before those of its place in `sqn`.
fn card(sqn: &str) -> Usim {
    let row = rows(&file("milenage"), "aka").remove(0);
    let own = Milenage::with_op(&fixed(&row, "k"), &fixed(&row, "op"));
    let sqn = match sqn {
        "set 1" => Sqn::from_octets(&fixed(&row, "sqn")),
        _ => Sqn::new(1, 0),
    };
    let window = SqnWindow::default().with_seen([sqn.seq() - 1; PLACES]);
    Usim::new(Algorithms::Milenage(own), window)
}

fn phone() -> Associations {
    let subscription = Subscription {
        impi: impi(),
        bsf: BSF.into(),
        application: CardApplication::Usim,
        nafs: vec![naf()],
    };
    Associations::new(subscription, p1())
}

/// Clause 3.1, and TS 24.109 clause 4A.1: one key comes of a Ks, and an association has two names.
#[test]
fn disposable_ks_and_the_names_of_an_association() {
    let facts = file("gba_push");
    let standard = part(&facts, "standard");
    assert_eq!(naf().octets(), octets(&standard, "naf_id"));
    assert_eq!(naf().ua(), UaId(fixed(&standard, "ua")));
    assert_eq!(NafId::from_octets(&octets(&standard, "naf_id")), Some(naf()));
    let key = disposable(&facts).into_key(&naf()).expect("short");
    assert_eq!(key.expose()[..], octets(&standard, "ks_naf"));
    let rand = Rand(fixed(&facts, "rand"));
    let int = derive_ks_int_naf(&Ks::new(fixed(&facts, "ks")), &rand, &impi(), &naf());
    assert_eq!(int.expect("short").expose()[..], octets(&standard, "ks_int_naf"));
    assert_eq!(*downlink_id(&rand), *text(&standard, "downlink").as_bytes());
    for bad in ["", "Push.home1.net", "push.home1.net."] {
        let octets = [bad.as_bytes(), &[1, 0, 0, 0, 5]].concat();
        assert_eq!(NafId::from_octets(&octets), None, "{bad:?}: two spellings of one name");
    }
}

fn vector_gpi(facts: &Table, on_card: bool) -> Gpi {
    let (standard, gpi) = (part(facts, "standard"), part(facts, "gpi"));
    let (application, autn) = match on_card {
        true => (CardApplication::Isim, "autn_gba_u"),
        false => (CardApplication::Usim, "autn"),
    };
    let (rand, autn) = (Rand(fixed(facts, "rand")), Autn(fixed(facts, autn)));
    let ptid = Ptid::new(text(&standard, "ptid")).expect("a name");
    let expires = WallTime::from_unix(number(&gpi, "expires"));
    Gpi {
        head: GpiHead { on_card, application, rand, autn },
        body: GpiBody { ptid, naf: naf(), expires },
    }
}

/// GPI-P1: each step, and the whole.
#[test]
fn push_info_octet_for_octet() {
    let facts = file("gba_push");
    let gpi = part(&facts, "gpi");
    let of = P1.protection(text(&gpi, "bsf"));
    assert_eq!(of.octets(), octets(&gpi, "protection_id"));
    let key = disposable(&facts).protection(&of).expect("short");
    assert_eq!(key.expose()[..], octets(&gpi, "protection_key"));
    let rand = octets(&facts, "rand");
    let enc: [u8; 16] = *hkdf(&rand, key.expose(), b"gpi-p1 enc").expect("short");
    let mac: [u8; 32] = *hkdf(&rand, key.expose(), b"gpi-p1 mac").expect("short");
    assert_eq!((enc, mac), (fixed(&gpi, "enc_key"), fixed(&gpi, "mac_key")));
    for (name, on_card) in [("octets", false), ("octets_isim_gba_u", true)] {
        let whole = vector_gpi(&facts, on_card);
        let sealed = P1.seal_gpi(&whole, &key).expect("short");
        assert_eq!(sealed, octets(&gpi, name), "{name}");
        assert_eq!(sealed.len() as u64, number(&gpi, "length"), "one fits a short message");
        assert_eq!(P1.gpi_head(&sealed), Ok(whole.head));
        assert_eq!(P1.open_gpi(&sealed, &key), Ok(whole.body));
    }
}

/// CONF-002: neither the names nor the key stand in the clear.
#[test]
fn push_info_shows_no_names() {
    let facts = file("gba_push");
    let (standard, sealed) = (part(&facts, "standard"), octets(&part(&facts, "gpi"), "octets"));
    let holds = |part: &[u8]| sealed.windows(part.len()).any(|window| window == part);
    for name in ["ptid", "fqdn"] {
        assert!(!holds(text(&standard, name).as_bytes()), "{name}");
    }
    assert!(!holds(&octets(&standard, "ks_naf")) && !holds(&octets(&facts, "ks")));
    assert!(holds(&octets(&facts, "rand")), "which anybody may read");
}

/// The order of the UE's checks: AUTN, MAC, and only then what is encrypted. INTE-002: whichever octet is altered, no key.
#[test]
fn a_phone_takes_push_info_as_it_was_made_and_no_other() {
    let facts = file("gba_push");
    let sealed = octets(&part(&facts, "gpi"), "octets");
    let (mut own, mut usim) = (phone(), card("set 1"));
    let made = own.take(&sealed, &mut usim, EARLY).expect("as it was made");
    assert_eq!((made.naf, made.expires.as_unix()), (naf(), 1_795_515_198));
    assert_eq!(made.ptid.as_str(), text(&part(&facts, "standard"), "ptid"));
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 0x10;
        let (mut own, mut usim) = (phone(), card("set 1"));
        let expected = match at {
            0 | 1 | 34 | 35 => Discard::Unfit,
            2..=33 => Discard::NetworkNotOurs,
            _ => Discard::MacWrong,
        };
        assert_eq!(own.take(&altered, &mut usim, EARLY), Err(expected), "octet {at}");
        assert!(own.is_empty());
    }
    for length in 0..sealed.len() {
        let (mut own, mut usim) = (phone(), card("set 1"));
        assert_eq!(own.take(&sealed[..length], &mut usim, EARLY), Err(Discard::Unfit));
    }
    let long = vec![0x10; GPI_MAX + 1];
    assert_eq!(P1.gpi_head(&long), Err(Unfit::TooLong));
}

/// V-145: a challenge with a live association is none; once it is over, the card has seen it.
#[test]
fn push_info_is_taken_once() {
    let sealed = octets(&part(&file("gba_push"), "gpi"), "octets");
    let (mut own, mut usim) = (phone(), card("set 1"));
    own.take(&sealed, &mut usim, EARLY).expect("as it was made");
    let window = usim.window().clone();
    assert_eq!(own.take(&sealed, &mut usim, EARLY), Err(Discard::ChallengeLives));
    assert_eq!(*usim.window(), window, "the card was not asked");
    let late = WallTime::from_unix(1_795_515_198);
    assert!(matches!(own.take(&sealed, &mut usim, late), Err(Discard::OutOfStep(_))));
    assert!(own.is_empty(), "what is over goes");
    assert_eq!(phone().take(&sealed, &mut card("set 1"), late), Err(Discard::Over));
}

/// Clause 3.1: the name inside has to be one that the application expects, of a card of that kind.
#[test]
fn push_info_for_others_is_not_taken() {
    let facts = file("gba_push");
    let sealed = octets(&part(&facts, "gpi"), "octets");
    let other = |change: fn(&mut Subscription)| {
        let mut subscription = Subscription {
            impi: impi(),
            bsf: BSF.into(),
            application: CardApplication::Usim,
            nafs: vec![naf()],
        };
        change(&mut subscription);
        Associations::new(subscription, p1()).take(&sealed, &mut card("set 1"), EARLY)
    };
    let refused = |change| other(change).expect_err("not ours");
    assert_eq!(
        refused(|it| it.nafs = vec![NafId::new(NAF, UaId::SIP_DIGEST)]),
        Discard::ServerUnknown
    );
    assert_eq!(refused(|it| it.application = CardApplication::Isim), Discard::Unfit);
    assert_eq!(refused(|it| it.bsf = "bsf.home2.net".into()), Discard::MacWrong);
    assert_eq!(
        refused(|it| it.impi = Impi::new("user2@home1.net").expect("a name")),
        Discard::MacWrong
    );
    let mut on_card = card("set 1").with_card(Card::GbaU);
    assert_eq!(phone().take(&sealed, &mut on_card, EARLY), Err(Discard::Unfit));
    // On a card of GBA_U the proof is AUTN*.
    let starred = octets(&part(&facts, "gpi"), "octets_isim_gba_u");
    let isim = Subscription {
        impi: impi(),
        bsf: BSF.into(),
        application: CardApplication::Isim,
        nafs: vec![naf()],
    };
    let mut own = Associations::new(isim, p1());
    assert!(own.take(&starred, &mut on_card, EARLY).is_ok());
}

fn direction(row: &Table) -> Direction {
    match text(row, "direction") {
        "up" => Direction::Up,
        _ => Direction::Down,
    }
}

/// GPL-P1, against another implementation.
#[test]
fn the_layer_octet_for_octet() {
    let facts = file("gba_push");
    let key = KsNaf::new(fixed(&part(&facts, "standard"), "ks_naf"));
    for row in rows(&facts, "gpl") {
        let direction = direction(&row);
        let own = P1.layer_key(&key, direction).expect("short");
        assert_eq!(*own.expose(), fixed(&row, "key"));
        let number = u32::try_from(number(&row, "number")).expect("32 bits");
        let frame = Frame { direction, id: text(&row, "id").as_bytes(), number };
        let wrapped = P1.wrap(&own, &frame, &octets(&row, "plain")).expect("short");
        assert_eq!(wrapped, octets(&row, "octets"), "{frame:?}");
        assert_eq!(P1.frame(&wrapped), Ok(frame));
        assert_eq!(P1.unwrap(&own, &wrapped), Ok(octets(&row, "plain")));
        let other = match direction {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        };
        let other = P1.layer_key(&key, other).expect("short");
        assert_eq!(P1.unwrap(&other, &wrapped), Err(Unfit::MacWrong), "each way has its key");
    }
}

fn ends(key: u8, id: &[u8]) -> (Sender, Receiver) {
    let (profile, key) = (p1(), KsNaf::new([key; 32]));
    let sender = Sender::new(&profile, &key, Direction::Down, id).expect("short");
    (sender, Receiver::new(&profile, &key, Direction::Down, id).expect("short"))
}

/// TS 33.224 clause 3.1 and V-145: SN_h moves with a right tag alone; what is not above it was here before.
#[test]
fn numbers_go_up() {
    let (mut sender, mut receiver) = ends(1, b"a@naf");
    let messages: Vec<Vec<u8>> = (0..4_u8).map(|at| sender.wrap(&[at]).expect("fits").1).collect();
    assert_eq!(receiver.unwrap(&messages[0]), Ok((1, vec![0])));
    assert_eq!(receiver.unwrap(&messages[2]), Ok((3, vec![2])), "one was lost");
    for late in [0, 1, 2] {
        assert_eq!(receiver.unwrap(&messages[late]), Err(LayerFault::Replayed), "{late}");
    }
    // Each octet of the next one altered: none is taken, and the true one still is.
    for at in 0..messages[3].len() {
        let mut altered = messages[3].clone();
        altered[at] ^= 1;
        assert!(receiver.unwrap(&altered).is_err(), "octet {at}");
    }
    let mut raised = messages[3].clone();
    raised[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(receiver.unwrap(&raised), Err(LayerFault::Unfit(Unfit::MacWrong)));
    assert_eq!(receiver.unwrap(&messages[3]), Ok((4, vec![3])));
    for (key, id) in [(2, &b"a@naf"[..]), (1, b"b@naf")] {
        let (other, _) = ends(key, id);
        let other = other.after(90).wrap(b"x").expect("fits").1;
        assert!(receiver.unwrap(&other).is_err(), "another association");
    }
}

/// A number is used once, so the last one is the end.
#[test]
fn numbers_end() {
    let (sender, mut receiver) = ends(1, b"a@naf");
    let mut sender = sender.after(u32::MAX - 1);
    let (number, last) = sender.wrap(b"x").expect("the last one");
    assert_eq!((number, sender.wrap(b"x")), (u32::MAX, Err(LayerFault::Spent)));
    assert_eq!(receiver.unwrap(&last), Ok((u32::MAX, b"x".to_vec())));
    assert_eq!(receiver.unwrap(&last), Err(LayerFault::Replayed));
}

/// A bootstrapping server with the subscriber of set 1.
fn server(barred: bool) -> Bsf {
    let row = rows(&file("milenage"), "aka").remove(0);
    let own = Milenage::with_op(&fixed(&row, "k"), &fixed(&row, "op"));
    let subscriber = Subscriber {
        impi: impi(),
        algorithms: Some(Algorithms::Milenage(own)),
        digest: None,
        amf: [0x80, 0],
        sqn: SqnGenerator::new(Sqn::default()),
        impus: Arc::from([]),
        key_lifetime: None,
        barred,
        card: Card::Gba,
        uss: Arc::from([]),
    };
    let grant = NafGrant {
        host: NAF.into(),
        fqdns: vec![NAF.into()],
        protocols: vec![UaGrant::Exact(UaId::PUSH_LAYER)],
        sees_impi: true,
        sees_identities: true,
    };
    Bsf::new(BsfConfig::new(BSF), vec![subscriber], vec![grant], [9; 32]).expect("sound")
}

fn at(seconds: u64) -> Now {
    Now {
        mono: Instant::from_micros(seconds * 1_000_000),
        wall: EARLY + Duration::from_secs(seconds),
    }
}

fn request(now: Now) -> PushRequest {
    let ptid = Ptid::new("p-0000000001").expect("a name");
    let expires = now.wall + Duration::from_secs(600);
    PushRequest { impi: impi(), naf: naf(), ptid, expires, resync: None }
}

fn given(bsf: &Bsf, rand: u8, now: Now) -> PushInfo {
    bsf.push_info(NAF, &request(now), Rand([rand; 16]), now).expect("push info")
}

/// Clause 3.1: one end asks, the other is pushed to; both hold the same key, for as long as it was asked for.
#[test]
fn both_ends_hold_one_association() {
    let (bsf, now) = (server(false), at(0));
    let info = given(&bsf, 1, now);
    assert_eq!(info.expires, now.wall + Duration::from_secs(600));
    let (mut own, mut usim) = (phone(), card("new"));
    let made = own.take(&info.gpi, &mut usim, now.wall).expect("for this card");
    assert_eq!((made.naf, made.expires), (naf(), info.expires));
    let keys = PushedKeys::new(p1(), PushBounds::default());
    assert!(keys.begin(&impi(), &info, &made.ptid, now));
    assert_eq!(keys.wrap(&impi(), b"x", now), None, "the UE has not said that it took it");
    keys.taken(&impi(), &info.rand);
    assert_eq!(keys.state(&impi(), now), Some(State::Pending));
    let wrapped = keys.wrap(&impi(), b"mail", now).expect("an association");
    let unwrapped = own.unwrap(&wrapped.octets, now.wall).expect("wrapped for it");
    assert_eq!((unwrapped.plain.as_slice(), unwrapped.naf), (&b"mail"[..], naf()));
    assert_eq!(own.unwrap(&wrapped.octets, now.wall), Err(Discard::Replayed));
    // The first uplink under the key confirms it: of that message, and made by the UE.
    let receipt = unwrapped.receipt.expect("a receipt");
    for (number, receipt) in [(2, &receipt[..]), (1, &wrapped.octets), (1, b"")] {
        assert!(!keys.confirm(&impi(), &info.rand, number, receipt, now));
        assert_eq!(keys.state(&impi(), now), Some(State::Pending));
    }
    let second = keys.wrap(&impi(), b"more", now).expect("an association");
    let receipt = own.unwrap(&second.octets, now.wall).expect("wrapped").receipt.expect("one");
    assert!(keys.confirm(&impi(), &info.rand, second.number, &receipt, now));
    assert_eq!(keys.state(&impi(), now), Some(State::Confirmed));
    assert!(!keys.confirm(&impi(), &info.rand, second.number, &receipt, now), "once");
    let over = at(600);
    assert_eq!(keys.state(&impi(), over), Some(State::Expired));
    assert_eq!(keys.wrap(&impi(), b"x", over), None);
    assert_eq!(own.unwrap(&wrapped.octets, over.wall), Err(Discard::Over));
    assert_eq!(keys.count(State::Expired, over), 1);
    keys.sweep(at(700));
    assert_eq!(keys.state(&impi(), at(700)), None);
}

/// A new association ends the elder one once it is confirmed, at both ends; until then the elder one is good.
#[test]
fn the_newer_association_ends_the_elder() {
    let (bsf, now) = (server(false), at(0));
    let (mut own, mut usim) = (phone(), card("new"));
    let keys = PushedKeys::new(p1(), PushBounds::default());
    let mut begin = |rand: u8, own: &mut Associations| {
        let info = given(&bsf, rand, now);
        let made = own.take(&info.gpi, &mut usim, now.wall).expect("for this card");
        assert!(keys.begin(&impi(), &info, &made.ptid, now));
        info
    };
    let first = begin(1, &mut own);
    keys.taken(&impi(), &first.rand);
    let second = begin(2, &mut own);
    let early = keys.wrap(&impi(), b"1", now).expect("the elder one");
    assert_eq!(early.rand, first.rand, "the newer one was not taken yet");
    keys.taken(&impi(), &second.rand);
    let newer = keys.wrap(&impi(), b"2", now).expect("the newer one");
    assert_eq!(newer.rand, second.rand);
    assert_eq!(own.len(), 2);
    let receipt = own.unwrap(&newer.octets, now.wall).expect("wrapped").receipt.expect("one");
    assert_eq!(own.len(), 1, "the phone has seen that the server uses the newer one");
    assert_eq!(own.unwrap(&early.octets, now.wall), Err(Discard::AssociationUnknown));
    assert!(keys.confirm(&impi(), &second.rand, newer.number, &receipt, now));
    assert_eq!(keys.count(State::Confirmed, now) + keys.count(State::Pending, now), 1);
    keys.failed(&impi(), &second.rand);
    assert_eq!(keys.state(&impi(), now), None);
}

/// The tables at both ends are bounded.
#[test]
fn tables_are_bounded() {
    let now = at(0);
    let keys = PushedKeys::new(p1(), PushBounds { ues: 2 });
    let ptid = Ptid::new("p").expect("a name");
    let info = |rand: u8, life: u64| PushInfo {
        rand: Rand([rand; 16]),
        key: KsNaf::new([rand; 32]),
        expires: now.wall + Duration::from_secs(life),
        gpi: Box::from([]),
    };
    let ue = |name: &str| Impi::new(name).expect("a name");
    assert!(!keys.begin(&ue("a"), &info(0, 0), &ptid, now), "over before it began");
    for (name, begins) in [("a", true), ("b", true), ("c", false), ("a", true), ("a", true)] {
        assert_eq!(keys.begin(&ue(name), &info(1, 60), &ptid, now), begins, "{name}");
    }
    assert_eq!(keys.count(State::Pending, now), 3, "two of one UE");
    assert!(keys.begin(&ue("c"), &info(1, 600), &ptid, at(200)), "those that are over make room");
    let (mut own, mut usim) = (phone(), card("new"));
    let bsf = server(false);
    for (rand, second) in (1..).zip((0..6).map(|at| at * 60)) {
        let info = given(&bsf, rand, at(second));
        own.take(&info.gpi, &mut usim, at(second).wall).expect("for this card");
    }
    assert_eq!(own.len(), HELD_MAX);
}

/// The NAF is judged first, then the subscriber; each GPI moves a card's number, so they are counted.
#[test]
fn the_server_counts_what_is_pushed() {
    let (bsf, now) = (server(false), at(0));
    let asked = request(now);
    let ask = |bsf: &Bsf, host: &str, asked: &PushRequest, now| {
        bsf.push_info(host, asked, Rand([7; 16]), now).map(|_| ())
    };
    let stranger =
        PushRequest { impi: Impi::new("nobody@home1.net").expect("a name"), ..asked.clone() };
    assert_eq!(ask(&bsf, "other.home1.net", &stranger, now), Err(NoPush::NotAuthorised));
    assert_eq!(ask(&bsf, NAF, &stranger, now), Err(NoPush::Unknown));
    let digest = PushRequest { naf: NafId::new(NAF, UaId::SIP_DIGEST), ..asked.clone() };
    assert_eq!(ask(&bsf, NAF, &digest, now), Err(NoPush::NotAuthorised));
    assert_eq!(ask(&server(true), NAF, &asked, now), Err(NoPush::Unknown), "barred");
    for _ in 0..PUSHES_PER_MINUTE {
        assert_eq!(ask(&bsf, NAF, &asked, now), Ok(()));
    }
    assert_eq!(ask(&bsf, NAF, &asked, at(59)), Err(NoPush::Paced(Duration::from_secs(1))));
    assert_eq!(ask(&bsf, NAF, &asked, at(60)), Ok(()));
    let local = LocalNaf::new(Arc::new(bsf), NAF);
    for (asked, expected) in [(&stranger, "Unknown"), (&digest, "Forbidden"), (&asked, "Known")] {
        let answer = local.push_info(asked, Rand([8; 16]), at(120));
        let name = match answer {
            PushAnswer::Known(_) => "Known",
            PushAnswer::Unknown => "Unknown",
            PushAnswer::Forbidden => "Forbidden",
            PushAnswer::AutsWrong | PushAnswer::Unavailable => "else",
        };
        assert_eq!(name, expected);
    }
}

/// TS 29.309 (`auts`, `rand`): a card that is elsewhere says so, and the next push info is for it.
#[test]
fn a_card_out_of_step_is_met_again() {
    let (bsf, now) = (server(false), at(0));
    let (mut own, mut usim) = (phone(), card("set 1"));
    let info = given(&bsf, 1, now);
    let Err(Discard::OutOfStep(auts)) = own.take(&info.gpi, &mut usim, now.wall) else {
        panic!("the card is far ahead")
    };
    let again = |rand: Rand, auts| PushRequest { resync: Some((rand, auts)), ..request(now) };
    let ask = |asked: &PushRequest| bsf.push_info(NAF, asked, Rand([2; 16]), now);
    let wrong = ask(&again(Rand([3; 16]), auts)).map(|_| ());
    assert_eq!(wrong, Err(NoPush::AutsWrong), "another challenge spends it");
    assert_eq!(ask(&again(info.rand, auts)).map(|_| ()), Err(NoPush::AutsWrong));
    let info = given(&bsf, 4, now);
    let Err(Discard::OutOfStep(auts)) = own.take(&info.gpi, &mut usim, now.wall) else {
        panic!("still far ahead")
    };
    let info = ask(&again(info.rand, auts)).expect("push info");
    own.take(&info.gpi, &mut usim, now.wall).expect("in step");
    let replayed = ask(&again(info.rand, auts)).map(|_| ());
    assert_eq!(replayed, Err(NoPush::AutsWrong), "an AUTS is used once");
}

/// TS 29.309 clause 5.2.2.3: push info as JSON, by name, type and pattern; the UE has the key that the NAF was told.
#[cfg(feature = "http")]
#[test]
fn push_info_over_nbsp_gba() {
    use serde_json::{Value, json};
    use sipward::keys::nbsp::answer::{Asked, answer};
    use sipward::keys::nbsp::{JSON, PROBLEM_JSON, PUSH_PATH};

    let bsf = server(false);
    let ask = |host: &str, rand: u8, second: u64, change: &dyn Fn(&mut Value)| {
        let mut question = json!({
            "ueId": impi().as_str(), "ueIdType": "PRIVATE", "uiccAppLabel": "USIM",
            "nafId": { "nafFqdn": NAF, "uaSecProtId": "0100000005" },
            "ptId": "p-0000000001", "uiccOrMe": "GBA_ME", "requestedLifeTime": "2036-01-01T00:00:00Z",
            "privateIdRequest": true,
        });
        change(&mut question);
        let body = question.to_string();
        let asked = Asked {
            method: "POST",
            path: PUSH_PATH,
            content_type: Some(JSON.as_bytes()),
            body: Some(body.as_bytes()),
        };
        let told = answer(
            &bsf,
            &["elsewhere.net".into(), host.into()],
            &asked,
            Rand([rand; 16]),
            at(second),
        );
        assert_eq!(told.content_type, if told.status == 200 { JSON } else { PROBLEM_JSON });
        (told.status, serde_json::from_slice::<Value>(&told.body).expect("JSON"))
    };
    let octets = |answer: &Value, name: &str| -> Vec<u8> {
        let digits = answer[name].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
        let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
        (0..digits.len()).step_by(2).map(pair).collect()
    };
    let same = &|_: &mut Value| {};

    let (status, told) = ask(NAF, 1, 0, same);
    assert_eq!(status, 200, "{told}");
    let known = [
        "bootstrappingInfoCreationTime",
        "gbaPushInfo",
        "gbaType",
        "impi",
        "keyExpiryTime",
        "meKeyMaterial",
    ];
    assert!(told.as_object().expect("an object").keys().eq(known), "{told}");
    assert_eq!((&told["gbaType"], &told["impi"]), (&json!("3G_GBA"), &json!(impi().as_str())));
    for name in ["keyExpiryTime", "bootstrappingInfoCreationTime"] {
        let time = told[name].as_str().expect("text");
        assert!(time.len() == 20 && time.ends_with('Z') && time.contains('T'), "{name}: {time}");
    }
    let (mut own, mut usim) = (phone(), card("new"));
    own.take(&octets(&told, "gbaPushInfo"), &mut usim, at(0).wall).expect("for this card");
    let key = KsNaf::new(octets(&told, "meKeyMaterial").try_into().expect("32 octets"));
    let id = downlink_id(&Rand([1; 16]));
    let mut sender = Sender::new(&p1(), &key, Direction::Down, &id).expect("short");
    let (_, wrapped) = sender.wrap(b"mail").expect("the first");
    let unwrapped = own.unwrap(&wrapped, at(0).wall).expect("under the same key");
    assert_eq!((unwrapped.plain.as_slice(), unwrapped.naf), (&b"mail"[..], naf()));

    // Each no with its cause; what is refused before the pace costs no number of the card.
    let auts = |asked: &mut Value| {
        asked["auts"] = json!("00".repeat(14));
        asked["rand"] = json!("01".repeat(16));
    };
    let nobody = |asked: &mut Value| asked["ueId"] = json!("nobody@home1.net");
    let other = |asked: &mut Value| asked["nafId"]["uaSecProtId"] = json!("0300000003");
    let public = |asked: &mut Value| asked["ueIdType"] = json!("PUBLIC");
    let half = |asked: &mut Value| drop(asked.as_object_mut().unwrap().remove("ptId"));
    for (host, change, status, cause) in [
        ("other.home1.net", same as &dyn Fn(&mut Value), 403, "NAF_NOT_AUTHORIZED"),
        ("other.home1.net", &nobody, 403, "NAF_NOT_AUTHORIZED"),
        (NAF, &other, 403, "NAF_NOT_AUTHORIZED"),
        (NAF, &nobody, 404, "USER_NOT_FOUND"),
        (NAF, &public, 501, "NOT_IMPLEMENTED"),
        (NAF, &half, 400, "MANDATORY_IE_MISSING"),
        (NAF, &auts, 400, "OPTIONAL_IE_INCORRECT"),
    ] {
        let (got, problem) = ask(host, 2, 1, change);
        assert_eq!((got, problem["cause"].as_str()), (status, Some(cause)), "{problem}");
    }
    for second in 1..PUSHES_PER_MINUTE as u64 {
        assert_eq!(ask(NAF, 3, second, same).0, 200);
    }
    let (status, problem) = ask(NAF, 4, 59, same);
    assert_eq!((status, problem["cause"].as_str()), (429, Some("NF_CONGESTION_RISK")));
}

proptest! {
    /// What is sealed opens under its key, as it was; under another it does not.
    #[test]
    fn push_info_there_and_back(
        rand: [u8; 16], autn: [u8; 16], key: [u8; 32], other: [u8; 32], on_card: bool,
        ptid in "[a-z0-9-]{1,200}", fqdn in "[a-z]{1,20}(\\.[a-z]{1,20}){1,4}", ua: [u8; 5], expires: u64,
    ) {
        let head = GpiHead { on_card, application: CardApplication::Usim, rand: Rand(rand), autn: Autn(autn) };
        let body = GpiBody {
            ptid: Ptid::new(&ptid).expect("a name"),
            naf: NafId::new(&fqdn, UaId(ua)),
            expires: WallTime::from_unix(expires),
        };
        let sealed = P1.seal_gpi(&Gpi { head, body: body.clone() }, &KsNaf::new(key)).expect("short");
        prop_assert!(sealed.len() <= GPI_MAX);
        prop_assert_eq!(P1.gpi_head(&sealed), Ok(head));
        prop_assert_eq!(P1.open_gpi(&sealed, &KsNaf::new(key)), Ok(body));
        if key != other {
            prop_assert_eq!(P1.open_gpi(&sealed, &KsNaf::new(other)), Err(Unfit::MacWrong));
        }
    }

    /// Whatever order messages come in, each is unwrapped at most once, and numbers only go up.
    #[test]
    fn the_layer_in_any_order(order in proptest::collection::vec(0_usize..16, 1..64)) {
        let (mut sender, mut receiver) = ends(3, b"x@naf");
        let sent: Vec<_> = (0..16_u8).map(|at| sender.wrap(&[at]).expect("fits").1).collect();
        let mut highest = 0;
        for at in order {
            let number = u32::try_from(at).expect("small") + 1;
            let expected = if number > highest {
                highest = number;
                Ok((number, vec![u8::try_from(at).expect("small")]))
            } else {
                Err(LayerFault::Replayed)
            };
            prop_assert_eq!(receiver.unwrap(&sent[at]), expected);
        }
    }
}

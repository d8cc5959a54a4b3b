//! TS 33.220 annexes B.5 and M, TS 24.109 annex I.2: bootstrapping by password, our UE against our server, in virtual time.
//! The connections under it are numbers here; `ts24109_digest` has real ones.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::digest::{Ha1, Hash};
use sipward::client::bootstrap::{Bootstrapped, UbFailure, UbGet, UbNext, UbPlan, UbReply};
use sipward::client::bootstrap_digest::{DigestBootstrap, UbPassword};
use sipward::identity::{Impi, Impu, Realm};
use sipward::instant::{Instant, Now, WallTime};
use sipward::keys::bootstrap::{
    Bsf, BsfConfig, BsfUnfit, DigestConfig, Fresh, NafGrant, NafRefusal, UaGrant, UbAnswer,
    UbOutcome, UbRequest,
};
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::{Sqn, SqnGenerator};
use sipward::keys::subscribers::{Card, DigestSecret, Subscriber};
use sipward::keys::vector::Algorithms;
use sipward::keys::{GbaType, NafId, NafKey, TlsExport, UaId};
use zeroize::Zeroizing;

use crate::ts33220_ub::{altered, challenges, reply};

const BSF: &str = "bsf.home1.net";
const HOME: &str = "home1.net";
// With a password and a card, with a password alone, with a card alone.
const BOTH: &str = "both@home1.net";
const PASSWORD: &str = "password@home1.net";
const CARD: &str = "card@home1.net";

struct World {
    bsf: Bsf,
    now: Now,
    drawn: u8,
}

fn secret(text: &str) -> DigestSecret {
    DigestSecret::Password(Zeroizing::new(text.to_owned()))
}

fn subscriber(impi: &str, has_card: bool, digest: Option<DigestSecret>) -> Subscriber {
    let card = || Algorithms::Milenage(Milenage::with_opc(&[5; 16], &[6; 16]));
    Subscriber {
        impi: Impi::new(impi).expect("a name"),
        algorithms: has_card.then(card),
        digest,
        amf: [0x80, 0],
        sqn: SqnGenerator::new(Sqn::default()),
        impus: Arc::from([Impu::new(&format!("sip:{impi}")).expect("a URI")]),
        key_lifetime: None,
        barred: false,
        card: Card::Gba,
        uss: Arc::from([]),
    }
}

fn all() -> Vec<Subscriber> {
    vec![
        subscriber(BOTH, true, Some(secret("of both"))),
        subscriber(PASSWORD, false, Some(secret("of one"))),
        subscriber(CARD, true, None),
    ]
}

fn config() -> BsfConfig {
    let realm = Realm::new(HOME).expect("a realm");
    let mut digest = DigestConfig::new(realm);
    digest.algorithms = vec![Hash::Sha256, Hash::Md5];
    BsfConfig { digest: Some(digest), ..BsfConfig::new(BSF) }
}

fn world_of(config: BsfConfig) -> World {
    let grant = NafGrant {
        host: "edge.home1.net".into(),
        fqdns: vec!["naf.home1.net".into()],
        protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
        sees_impi: true,
        sees_identities: true,
    };
    let bsf = Bsf::new(config, all(), vec![grant], [9; 32]).expect("fit");
    let now = Now { mono: Instant::from_micros(1), wall: WallTime::from_unix(1_795_511_598) };
    World { bsf, now, drawn: 0 }
}

fn world() -> World {
    world_of(config())
}

fn connection(number: u8) -> TlsExport {
    TlsExport::new([number; 48])
}

fn user(password: &str) -> UbPassword {
    UbPassword::new(Zeroizing::new(password.to_owned()))
}

fn plan(impi: &str) -> UbPlan {
    UbPlan::new(Impi::new(impi).expect("a name"), BSF)
}

fn naf() -> NafId {
    NafId::new("naf.home1.net", UaId::SIP_DIGEST)
}

impl World {
    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn ask(&mut self, get: &UbGet, exported: Option<&TlsExport>) -> UbAnswer {
        self.drawn = self.drawn.wrapping_add(1);
        let request = UbRequest {
            method: "GET",
            target: &get.target,
            authorization: &[get.authorization.as_bytes()],
            user_agent: Some(get.user_agent.as_bytes()),
            has_body: false,
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            exported,
        };
        let fresh = Fresh { rand: [self.drawn; 16], opaque: [self.drawn; 16] };
        self.bsf.answer(&request, &fresh, self.now)
    }

    /// A run by password; the server hears it on `ours`, the UE speaks on `theirs`.
    fn run_on(
        &mut self,
        impi: &str,
        password: &str,
        (ours, theirs): (u8, u8),
        mut between: impl FnMut(&mut UbGet, &mut Option<UbAnswer>),
    ) -> Result<Bootstrapped, UbFailure> {
        let (plan, user) = (plan(impi), user(password));
        let mut run = DigestBootstrap::new(&plan, &user);
        let mut get = run.start();
        for _ in 0..10 {
            between(&mut get, &mut None);
            let mut answer = Some(self.ask(&get, Some(&connection(ours))));
            between(&mut get, &mut answer);
            let answer = answer.expect("an answer");
            let rows = challenges(&answer);
            match run.handle(&reply(&answer, &rows), [7; 16], &connection(theirs), self.now) {
                Ok(UbNext::Get(next)) => get = next,
                Ok(UbNext::Done(done)) => return Ok(*done),
                Err(failure) => return Err(failure),
            }
        }
        panic!("a run has an end");
    }

    fn run(&mut self, impi: &str, password: &str) -> Result<Bootstrapped, UbFailure> {
        self.run_on(impi, password, (1, 1), |_, _| {})
    }

    fn naf_key(&self, of: &Bootstrapped) -> Result<NafKey, NafRefusal> {
        self.bsf.naf_key("edge.home1.net", &of.btid, &naf(), self.now)
    }

    /// The first answer to that name, on TLS, by the token.
    fn first(&mut self, impi: &str) -> UbAnswer {
        let (plan, user) = (plan(impi), user("x"));
        let get = DigestBootstrap::new(&plan, &user).start();
        self.ask(&get, Some(&connection(1)))
    }
}

/// A password makes a session like a card does: the NAF's key on both sides, told of as what it is; with or without a
/// card beside it, by SHA-256 on top and by MD5 where the UE knows no better.
#[test]
fn annex_m_a_password_makes_a_key() {
    let mut world = world();
    for (impi, password) in [(PASSWORD, "of one"), (BOTH, "of both")] {
        let keys = world.run(impi, password).expect("right");
        assert!(keys.btid.as_str().ends_with("==@bsf.home1.net"), "{}", keys.btid);
        assert_eq!((keys.kind(), &keys.tmpi), (GbaType::Digest, &None));
        let own = world.naf_key(&keys).expect("a key");
        assert_eq!(own.key.expose(), keys.naf_key(&naf()).expect("short").expose());
        assert_eq!((own.kind, own.expires), (GbaType::Digest, keys.expires));
        assert_eq!(own.impi.expect("it is seen").as_str(), impi);
    }
    let (one, other) = (world.run(PASSWORD, "of one"), world.run(PASSWORD, "of one"));
    let (one, other) = (one.expect("right"), other.expect("right"));
    assert_ne!(one.ks.expose(), other.ks.expose(), "each run has a key of its own");

    let (plan, mut user) = (plan(PASSWORD), user("of one"));
    user.algorithms = vec![Hash::Md5];
    let mut run = DigestBootstrap::new(&plan, &user);
    let get = run.start();
    let answer = world.ask(&get, Some(&connection(2)));
    let row = "Digest realm=\"home1.net\",nonce=\"";
    assert!(challenges(&answer).iter().all(|it| it.starts_with(row.as_bytes())));
    assert!(answer.header("Server").is_some_and(|server| !server.contains("3gpp-gba-tmpi")));
    let rows = challenges(&answer);
    let next = run.handle(&reply(&answer, &rows), [7; 16], &connection(2), world.now);
    let Ok(UbNext::Get(get)) = next else { panic!("{next:?}") };
    assert!(get.authorization.contains("algorithm=MD5"), "{}", get.authorization);
    assert_eq!(world.ask(&get, Some(&connection(2))).status, 200);
}

/// H(A1) will do for the hash it is of; for the other one the subscriber is as one without a password.
#[test]
fn annex_m_6_3_a_home_may_keep_the_hash_alone() {
    let realm = HOME.as_bytes();
    let ha1 = Ha1::new(Hash::Sha256, PASSWORD.as_bytes(), realm, b"of one");
    let kept = DigestSecret::Ha1(vec![(Hash::Sha256, ha1)]);
    let mut world = world();
    world.bsf.replace_subscribers(vec![subscriber(PASSWORD, false, Some(kept))]);
    assert!(world.run(PASSWORD, "of one").is_ok());
    let md5 = |get: &mut UbGet, _: &mut Option<UbAnswer>| {
        get.authorization = get.authorization.replace("algorithm=SHA-256", "algorithm=MD5");
    };
    let refused = world.run_on(PASSWORD, "of one", (1, 1), md5);
    assert_eq!(refused.unwrap_err(), UbFailure::Refused(401));
}

/// Annex I.2: never in the clear, never unless it is switched on, never unless the UE asks for it: then all is as it was.
#[test]
fn annex_i_2_nobody_else_is_asked_for_a_password() {
    let off = BsfConfig::new(BSF);
    for (what, config, exported, token, asked) in [
        ("as it should be", config(), true, "GBA_Digest", true),
        ("as products say it", config(), true, "3gpp-gba-digest", true),
        ("in the clear", config(), false, "GBA_Digest", false),
        ("switched off", off, true, "GBA_Digest", false),
        ("not asked for", config(), true, "3gpp-gba", false),
        ("part of a word", config(), true, "GBA_Digest2", false),
    ] {
        let mut world = world_of(config);
        let (plan, user) = (plan(BOTH), user("of both"));
        let mut get = DigestBootstrap::new(&plan, &user).start();
        get.user_agent = format!("phone/1 {token}");
        let answer = world.ask(&get, exported.then(|| connection(1)).as_ref());
        let rows = challenges(&answer);
        let of_cards =
            rows.iter().all(|row| String::from_utf8_lossy(row).contains("algorithm=AKAv1-MD5"));
        assert_eq!((answer.status, of_cards), (401, !asked), "{what}");

        // An answer that was right where passwords are asked for opens nothing elsewhere.
        let mut run = DigestBootstrap::new(&plan, &user);
        let mut right = self::world();
        let first = right.ask(&run.start(), Some(&connection(1)));
        let rows = challenges(&first);
        let next = run.handle(&reply(&first, &rows), [7; 16], &connection(1), right.now);
        let Ok(UbNext::Get(mut get)) = next else { panic!("{next:?}") };
        get.user_agent = format!("phone/1 {token}");
        let answer = world.ask(&get, exported.then(|| connection(1)).as_ref());
        assert_eq!(answer.status == 200, asked, "{what}");
        assert_eq!(world.bsf.sessions(), usize::from(asked), "{what}");
    }
}

/// What is not right is refused, and a challenge is good for one answer, whatever it was.
#[test]
fn clause_4_5_2_what_is_wrong_makes_no_session() {
    let refused = UbFailure::Refused(401);
    type Case<'a> = (&'a str, &'a str, &'a str, (u8, u8), &'a dyn Fn(&mut UbGet));
    let cases: [Case<'_>; 10] = [
        ("another password", PASSWORD, "of two", (1, 1), &|_| {}),
        ("another connection", PASSWORD, "of one", (1, 2), &|_| {}),
        ("nobody", "nobody@home1.net", "of one", (1, 1), &|_| {}),
        ("a card without a password", CARD, "", (1, 1), &|_| {}),
        ("another's password", BOTH, "of one", (1, 1), &|_| {}),
        ("qop auth", PASSWORD, "of one", (1, 1), &|get| {
            get.authorization = get.authorization.replace("qop=auth-int", "qop=auth");
        }),
        ("another count", PASSWORD, "of one", (1, 1), &|get| {
            get.authorization = get.authorization.replace("nc=00000001", "nc=00000002");
        }),
        ("another realm", PASSWORD, "of one", (1, 1), &|get| {
            get.authorization = get.authorization.replace("\"home1.net\"", "\"home2.net\"");
        }),
        ("another opaque", PASSWORD, "of one", (1, 1), &|get| {
            if get.authorization.contains("opaque=") {
                get.authorization = altered(&get.authorization, "opaque", "\"00\"");
            }
        }),
        ("another nonce", PASSWORD, "of one", (1, 1), &|get| {
            if !get.authorization.contains("nonce=\"\"") {
                get.authorization =
                    altered(&get.authorization, "nonce", "\"/////////////////////w==\"");
            }
        }),
    ];
    for (what, impi, password, connections, change) in cases {
        let mut config = config();
        // What is let pass of cards is not of passwords.
        config.accept_auth = true;
        let mut world = world_of(config);
        let run = world.run_on(impi, password, connections, |get, answer| {
            if answer.is_none() {
                change(get);
            }
        });
        assert_eq!(run.unwrap_err(), refused, "{what}");
        assert_eq!(world.bsf.sessions(), 0, "{what}");
    }
}

/// Each challenge is answered once, within a minute.
#[test]
fn a_challenge_is_for_one_answer() {
    let mut world = world();
    let mut sent = None;
    let keep = |get: &mut UbGet, _: &mut Option<UbAnswer>| {
        if get.authorization.contains("response=\"\"") {
            return;
        }
        sent = Some(get.clone());
    };
    world.run_on(PASSWORD, "of one", (1, 1), keep).expect("right");
    let again = world.ask(&sent.expect("sent"), Some(&connection(1)));
    assert_eq!((again.status, again.outcome), (401, UbOutcome::Refused));
    assert_eq!(world.bsf.sessions(), 1);

    let (plan, user) = (plan(PASSWORD), user("of one"));
    for (seconds, expected) in [(59, 200), (60, 401)] {
        let mut run = DigestBootstrap::new(&plan, &user);
        let first = world.ask(&run.start(), Some(&connection(1)));
        let rows = challenges(&first);
        let next = run.handle(&reply(&first, &rows), [7; 16], &connection(1), world.now);
        let Ok(UbNext::Get(get)) = next else { panic!("{next:?}") };
        world.wait(seconds);
        assert_eq!(world.ask(&get, Some(&connection(1))).status, expected, "after {seconds} s");
    }
}

/// V-139: ten a minute for one name, whoever it is, and nobody can tell who has a password; a card's numbers do not move.
#[test]
fn v_139_names_are_paced_and_not_told_apart() {
    let shape = |answer: &UbAnswer| {
        let rows = challenges(answer).into_iter();
        let lengths: Vec<usize> = rows.map(<[u8]>::len).collect();
        let names: Vec<&str> = answer.headers.iter().map(|(name, _)| *name).collect();
        (answer.status, lengths, names, answer.body.len())
    };
    let mut world = world();
    let reserved = world.bsf.sqn_reserve();
    let names = [PASSWORD, BOTH, CARD, "nobody@home1.net", "WEkKGtQh8Tmm@tmpi.bsf.3gppnetwork.org"];
    let first: Vec<_> = names.iter().map(|name| shape(&world.first(name))).collect();
    assert!(first.iter().all(|one| *one == first[0]), "{first:?}");
    for turn in 1..15 {
        let answers: Vec<_> = names.iter().map(|name| shape(&world.first(name))).collect();
        assert!(answers.iter().all(|one| *one == answers[0]), "{answers:?}");
        assert_eq!(answers[0].0, if turn < 10 { 401 } else { 503 }, "challenge {turn}");
    }
    world.wait(60);
    assert!(names.iter().all(|name| world.first(name).status == 401), "a minute later");
    let sorted = |mut list: Vec<(Impi, u64)>| {
        list.sort();
        list
    };
    assert_eq!(sorted(world.bsf.sqn_reserve()), sorted(reserved), "no card's number moved");
}

/// Who has no card is asked for one like a stranger, where a run asks for cards.
#[test]
fn who_has_no_card_is_no_cards_subscriber() {
    let mut world = world();
    let (plan, user) = (plan(PASSWORD), user("of one"));
    let mut get = DigestBootstrap::new(&plan, &user).start();
    get.user_agent = "phone/1".into();
    let answer = world.ask(&get, Some(&connection(1)));
    assert_eq!((answer.status, answer.outcome), (401, UbOutcome::StrangerChallenged));
    let rand = [1; 16];
    let impi = Impi::new(PASSWORD).expect("a name");
    assert!(world.bsf.vector(&impi, rand, world.now).is_err(), "nor over SIP");
}

/// Barred, he is told once he has proved himself; without a password, he has no keys of one either.
#[test]
fn clause_4_5_3_keys_end_with_the_password() {
    let mut world = world();
    let keys = world.run(BOTH, "of both").expect("right");
    world.wait(10);
    assert!(world.naf_key(&keys).is_ok());
    let without = || vec![subscriber(BOTH, true, None)];
    world.bsf.replace_subscribers(without());
    assert_eq!(world.naf_key(&keys).unwrap_err(), NafRefusal::UnknownBtid);

    let mut barred = subscriber(BOTH, true, Some(secret("of both")));
    barred.barred = true;
    world.bsf.replace_subscribers(vec![barred]);
    assert_eq!(world.run(BOTH, "of both").unwrap_err(), UbFailure::Refused(403));
    assert_eq!(world.run(BOTH, "of two").unwrap_err(), UbFailure::Refused(401));
}

/// V-140: the body of the 200 is covered, and a server that does not know the password proves nothing.
#[test]
fn v_140_what_the_server_says_is_proved() {
    let body = |answer: &mut UbAnswer| {
        let text = String::from_utf8(answer.body.clone()).expect("text");
        answer.body = text.replace("bsf.home1.net", "bsf.home2.net").into_bytes();
    };
    let info = |answer: &mut UbAnswer| {
        answer.headers.retain(|(name, _)| *name != "Authentication-Info");
    };
    type Change<'a> = &'a dyn Fn(&mut UbAnswer);
    for (what, change) in [("body", &body as Change<'_>), ("proof", &info)] {
        let mut world = world();
        let run = world.run_on(PASSWORD, "of one", (1, 1), |_, answer| {
            if let Some(answer) = answer.as_mut().filter(|answer| answer.status == 200) {
                change(answer);
            }
        });
        assert_eq!(run.unwrap_err(), UbFailure::ServerUnproved, "{what}");
    }
    // A 200 without a challenge before it, and a challenge that covers no body.
    let (plan, user) = (plan(PASSWORD), user("of one"));
    let mut run = DigestBootstrap::new(&plan, &user);
    let early = UbReply { status: 200, ..UbReply::default() };
    let now = world().now;
    let said = run.handle(&early, [7; 16], &connection(1), now);
    assert_eq!(said.unwrap_err(), UbFailure::Refused(200));
    for row in [
        "Digest realm=\"home1.net\",nonce=\"x\",algorithm=SHA-256,qop=\"auth\"",
        "Digest realm=\"home1.net\",nonce=\"x\",algorithm=SHA-256",
        "Digest realm=\"home1.net\",nonce=\"\",algorithm=SHA-256,qop=\"auth-int\"",
        "Digest realm=\"home1.net\",nonce=\"x\",algorithm=AKAv1-MD5,qop=\"auth-int\"",
        "Digest realm=\"home1.net\",nonce=\"x\",algorithm=SHA-256-sess,qop=\"auth-int\"",
    ] {
        let mut run = DigestBootstrap::new(&plan, &user);
        let rows = [row.as_bytes()];
        let reply = UbReply { status: 401, challenges: &rows, ..UbReply::default() };
        let said = run.handle(&reply, [7; 16], &connection(1), now);
        assert_eq!(said.unwrap_err(), UbFailure::NoUsableChallenge, "{row}");
    }
}

#[test]
fn what_cannot_be_offered_is_no_configuration() {
    let of = |algorithms: &[Hash], exporter: &str| {
        let mut config = config();
        if let Some(digest) = &mut config.digest {
            (digest.algorithms, digest.exporter) = (algorithms.to_vec(), exporter.into());
        }
        Bsf::new(config, Vec::new(), Vec::new(), [9; 32]).map(|_| ())
    };
    assert_eq!(of(&[Hash::Md5], "TLS_MK_Extr"), Ok(()));
    for (algorithms, exporter) in [
        (&[][..], "x"),
        (&[Hash::Md5, Hash::Md5], "x"),
        (&[Hash::Sha512_256], "x"),
        (&[Hash::Sha256], ""),
    ] {
        assert_eq!(of(algorithms, exporter), Err(BsfUnfit::Digest), "{algorithms:?} {exporter:?}");
    }
}

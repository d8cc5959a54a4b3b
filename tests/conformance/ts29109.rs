//! TS 29.109, Zn and Zh over Diameter: the messages octet for octet, what each result means to who asked, and who may
//! ask what.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::Uss;
use sipward::identity::{Btid, Impi, Impu};
use sipward::instant::{Now, WallTime};
use sipward::keys::bootstrap::{Home, HomeAnswer, NafRefusal};
use sipward::keys::diameter::base::{Verdict, tell, verdict};
use sipward::keys::diameter::codec::{Fault, Message, Printed, Writer};
use sipward::keys::diameter::dictionary as known;
use sipward::keys::diameter::zn::ServiceForm;
use sipward::keys::diameter::{Local, zh, zn};
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::Sqn;
use sipward::keys::subscribers::{Card, Guss};
use sipward::keys::vector::{Algorithms, Auts, Vector};
use sipward::keys::{GbaType, KeyAnswer, KsNaf, NafId, NafKey, Rand, UaId};

use crate::vectors::{file, fixed, octets, rows, text};

const NOW: WallTime = WallTime::from_unix(1_795_480_000);

fn local(host: &str) -> Local {
    Local {
        host: host.into(),
        realm: "home1.net".into(),
        product: "sipward".into(),
        applications: vec![known::ZN, known::ZH],
        state_id: 1,
    }
}

/// The question of the vectors.
fn question() -> zn::Question {
    zn::Question {
        session: "naf1.home1.net;1;1".into(),
        realm: "home1.net".into(),
        host: Some("bsf.home1.net".into()),
        btid: Btid::new(text(&file("gba_flow"), "btid")).expect("a name"),
        naf: NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST),
        services: vec![0],
        form: ServiceForm::Number,
    }
}

/// The key of the vectors.
fn key() -> NafKey {
    let flow = file("gba_flow");
    let sip = rows(&flow, "ua").into_iter().find(|row| text(row, "name") == "SIP");
    NafKey {
        key: KsNaf::new(fixed(&sip.expect("a row"), "ks_naf")),
        impi: Impi::new(text(&flow, "impi")),
        identities: Arc::from([Impu::new("sip:user1@home1.net").expect("a URI")]),
        uss: Arc::from([]),
        expires: WallTime::from_unix(1_795_515_198),
        created: WallTime::from_unix(1_795_428_798),
        kind: Default::default(),
        ready: Default::default(),
    }
}

/// A message of the vectors, with the identifiers that they have.
fn vector(name: &str) -> Vec<u8> {
    octets(&file("zn_diameter"), name)
}

/// The Hop-by-Hop Identifier is the link's: that of the vectors is put in.
fn with_hop(mut printed: Printed) -> Vec<u8> {
    printed[12..16].copy_from_slice(&0x1001_u32.to_be_bytes());
    printed.to_vec()
}

#[test]
fn clause_5_2_a_request_octet_for_octet() {
    let printed = question().print(&local("naf1.home1.net"), 0x2002);
    assert_eq!(with_hop(printed), vector("bir"));
    let octets = vector("bir");
    let message = Message::parse(&octets).expect("a message");
    let request = zn::request(&message, &local("bsf.home1.net")).expect("to us");
    assert_eq!(request.host, "naf1.home1.net");
    assert_eq!(request.btid, Some(question().btid));
    assert_eq!(request.naf, question().naf);
    assert_eq!(request.services, [0]);
}

#[test]
fn clause_5_2_an_answer_octet_for_octet() {
    let (bir, bsf) = (vector("bir"), local("bsf.home1.net"));
    let request = Message::parse(&bir).expect("a message");
    assert_eq!(zn::answer(&bsf, &request, &[0], Ok(&key())).to_vec(), vector("bia"));
    let unknown = zn::answer(&bsf, &request, &[0], Err(NafRefusal::UnknownBtid));
    assert_eq!(unknown.to_vec(), vector("bia_invalid_btid_5403"));
}

#[test]
fn clause_5_2_what_a_naf_learns() {
    let KeyAnswer::Known(read) = question().answer(&vector("bia"), NOW) else { panic!("a key") };
    let own = key();
    assert_eq!(read.key.expose(), own.key.expose());
    assert_eq!((read.impi.clone(), &read.identities), (own.impi, &own.identities));
    assert_eq!(&*read.uss, [Uss { gsid: 0, flags: vec![] }]);
    assert_eq!((read.expires, read.created), (own.expires, own.created));
    let before = WallTime::from_unix(own.created.as_unix() - 100);
    let KeyAnswer::Known(read) = question().answer(&vector("bia"), before) else { panic!("a key") };
    assert_eq!(read.created, before, "a run in the future is one of now");
    let answer = question().answer(&vector("bia_invalid_btid_5403"), NOW);
    assert!(matches!(answer, KeyAnswer::Unknown));
}

/// GBA-Type: a key says with what it was made, and one that says nothing, or something that is not known, is no other.
#[test]
fn clause_6_3_a_key_says_what_it_was_made_with() {
    let (bir, bsf) = (vector("bir"), local("bsf.home1.net"));
    let request = Message::parse(&bir).expect("a message");
    for (kind, number) in [(GbaType::Aka, 0), (GbaType::Digest, 2)] {
        let printed = zn::answer(&bsf, &request, &[], Ok(&NafKey { kind, ..key() }));
        let answer = Message::parse(&printed).expect("a message");
        let told = answer.avps().one(&known::GBA_TYPE).expect("once").expect("there");
        assert_eq!(told.number(), Ok(number));
        let KeyAnswer::Known(read) = question().answer(&printed, NOW) else { panic!("{kind:?}") };
        assert_eq!(read.kind, kind);
        let mut without = Writer::new(answer.header);
        let mut other = Writer::new(answer.header);
        for avp in answer.avps() {
            let definition = known::find(avp.code, avp.vendor).expect("known");
            if *definition == known::GBA_TYPE {
                other.number(definition, 3);
            } else {
                other.put(definition, avp.value);
                without.put(definition, avp.value);
            }
        }
        let KeyAnswer::Known(read) = question().answer(&without.finish(), NOW) else {
            panic!("{kind:?}")
        };
        assert_eq!(read.kind, GbaType::Aka);
        let unknown = question().answer(&other.finish(), NOW);
        assert!(matches!(unknown, KeyAnswer::Unavailable));
    }
}

/// An answer of the vectors with another verdict.
fn saying(said: Verdict) -> Printed {
    let octets = vector("bia");
    let bia = Message::parse(&octets).expect("a message");
    let mut writer = Writer::new(bia.header);
    for avp in bia.avps() {
        let definition = known::find(avp.code, avp.vendor).expect("known");
        if *definition == known::RESULT_CODE {
            tell(&mut writer, said);
        } else {
            writer.put(definition, avp.value);
        }
    }
    writer.finish()
}

#[test]
fn clause_6_2_results_become_refusals() {
    use Verdict::{Base, Experimental};
    for (said, expected) in [
        (Base(known::SUCCESS), "known"),
        (Experimental(known::IDENTITY_UNKNOWN), "unknown"),
        (Experimental(known::BTID_INVALID), "unknown"),
        (Experimental(known::NOT_AUTHORIZED), "forbidden"),
        (Experimental(5999), "unavailable"),
        (Base(2002), "unavailable"),
        (Base(known::TOO_BUSY), "unavailable"),
        (Base(known::UNABLE_TO_COMPLY), "unavailable"),
        // A code of the one kind is not one of the other.
        (Base(known::BTID_INVALID), "unavailable"),
        (Experimental(known::SUCCESS), "unavailable"),
    ] {
        let found = match question().answer(&saying(said), NOW) {
            KeyAnswer::Known(_) => "known",
            KeyAnswer::Unknown => "unknown",
            KeyAnswer::Forbidden => "forbidden",
            KeyAnswer::Unavailable => "unavailable",
            KeyAnswer::Ask => "ask",
        };
        assert_eq!(found, expected, "{said:?}");
    }
    for (refusal, code) in [(NafRefusal::NotAuthorised, 5402), (NafRefusal::UnknownBtid, 5403)] {
        let bir = vector("bir");
        let request = Message::parse(&bir).expect("a message");
        let printed = zn::answer(&local("bsf.home1.net"), &request, &[], Err(refusal));
        let answer = Message::parse(&printed).expect("a message");
        assert_eq!(verdict(&answer), Ok(Experimental(code)));
        assert_eq!(answer.avps().one(&known::ME_KEY_MATERIAL), Ok(None), "no key with a no");
    }
}

/// V-31: whatever is cut off, put in twice or altered in an answer: it is another answer or none, never another key.
#[test]
fn clause_5_2_an_altered_answer_is_never_another_key() {
    let octets = vector("bia");
    let own = key();
    let judge = |altered: &[u8], what: &str| match question().answer(altered, NOW) {
        KeyAnswer::Known(read) => {
            // An octet of the key itself is a wrong key, which opens nothing; all else that is believed is whole.
            assert!(read.expires > WallTime::default(), "{what}");
            assert!(read.key.expose().len() == own.key.expose().len(), "{what}");
        }
        KeyAnswer::Unknown | KeyAnswer::Forbidden | KeyAnswer::Unavailable => {}
        KeyAnswer::Ask => panic!("{what}"),
    };
    for at in 0..octets.len() {
        let mut altered = octets.clone();
        altered[at] ^= 0x55;
        judge(&altered, &format!("octet {at}"));
        assert!(
            matches!(question().answer(&octets[..at], NOW), KeyAnswer::Unavailable),
            "cut at {at}"
        );
    }
    let bia = Message::parse(&octets).expect("a message");
    let without = |code: u32, twice: bool| {
        let mut writer = Writer::new(bia.header);
        for avp in bia.avps() {
            let definition = known::find(avp.code, avp.vendor).expect("known");
            let count = if avp.code == code { usize::from(twice) * 2 } else { 1 };
            (0..count).for_each(|_| {
                writer.put(definition, avp.value);
            });
        }
        writer.finish()
    };
    for (code, may_lack) in [
        (known::SESSION_ID.code, false),
        (known::RESULT_CODE.code, false),
        (known::ME_KEY_MATERIAL.code, false),
        (known::KEY_EXPIRY_TIME.code, false),
        (known::USER_NAME.code, true),
        (known::BOOTSTRAP_INFO_CREATION_TIME.code, true),
        (known::GBA_USER_SEC_SETTINGS.code, true),
        (known::GBA_TYPE.code, true),
    ] {
        let lacking = question().answer(&without(code, false), NOW);
        assert_eq!(matches!(lacking, KeyAnswer::Known(_)), may_lack, "without {code}");
        let twice = question().answer(&without(code, true), NOW);
        assert!(matches!(twice, KeyAnswer::Unavailable), "{code} twice");
    }
}

#[test]
fn clause_5_2_a_request_that_lacks_something_is_refused_by_name() {
    let bsf = local("bsf.home1.net");
    let octets = vector("bir");
    let bir = Message::parse(&octets).expect("a message");
    let edited = |code: u32, value: Option<&[u8]>| {
        let mut writer = Writer::new(bir.header);
        for avp in bir.avps() {
            let definition = known::find(avp.code, avp.vendor).expect("known");
            match (avp.code == code, value) {
                (true, Some(value)) => writer.put(definition, value),
                (true, None) => continue,
                (false, _) => writer.put(definition, avp.value),
            };
        }
        writer.finish()
    };
    let fault = |code: u32, value: Option<&[u8]>| {
        let printed = edited(code, value);
        let message = Message::parse(&printed).expect("whole");
        zn::request(&message, &bsf).map(|_| ())
    };
    for needed in [
        known::SESSION_ID,
        known::ORIGIN_HOST,
        known::ORIGIN_REALM,
        known::DESTINATION_REALM,
        known::TRANSACTION_IDENTIFIER,
        known::NAF_ID,
    ] {
        let missing = Fault::about(known::MISSING_AVP, &needed);
        assert_eq!(fault(needed.code, None), Err(missing), "{}", needed.name);
    }
    let elsewhere = Err(Fault::plain(known::UNABLE_TO_DELIVER));
    assert_eq!(fault(known::DESTINATION_REALM.code, Some(b"other.net")), elsewhere);
    assert_eq!(fault(known::DESTINATION_HOST.code, Some(b"bsf2.home1.net")), elsewhere);
    assert_eq!(fault(known::DESTINATION_HOST.code, None), Ok(()));
    for (bad, what) in [(&b"\x03\x00\x00\x00\x03"[..], "no name"), (b"naf", "no protocol")] {
        let wrong = Fault::about(known::INVALID_AVP_VALUE, &known::NAF_ID);
        assert_eq!(fault(known::NAF_ID.code, Some(bad)), Err(wrong), "{what}");
    }
    let printed = edited(known::TRANSACTION_IDENTIFIER.code, Some(b"\xff\xfe"));
    let message = Message::parse(&printed).expect("whole");
    let request = zn::request(&message, &bsf).expect("what it asks for is unknown, not wrong");
    assert_eq!(request.btid, None);
}

#[test]
fn clause_6_3_3_services_in_digits_and_in_octets() {
    let bsf = local("bsf.home1.net");
    for (form, services) in
        [(ServiceForm::Text, vec![0, 5, 4_294_967_295]), (ServiceForm::Number, vec![0, 5, 1 << 20])]
    {
        let asked = zn::Question { services: services.clone(), form, ..question() };
        let printed = asked.print(&local("naf1.home1.net"), 1);
        let message = Message::parse(&printed).expect("whole");
        assert_eq!(zn::request(&message, &bsf).expect("to us").services, services, "{form:?}");
    }
    let many = zn::Question { services: vec![1; zn::SERVICES_MAX + 1], ..question() };
    let printed = many.print(&local("naf1.home1.net"), 1);
    let message = Message::parse(&printed).expect("whole");
    let fault = zn::request(&message, &bsf).expect_err("too many");
    assert_eq!(fault.code, known::AVP_OCCURS_TOO_OFTEN);
}

fn algorithms() -> Algorithms {
    let flow = file("gba_flow");
    Algorithms::Milenage(Milenage::with_opc(&fixed(&flow, "k"), &fixed(&flow, "opc")))
}

fn made() -> Vector {
    let flow = file("gba_flow");
    let sqn = Sqn::from_octets(&fixed(&flow, "sqn"));
    algorithms().vector(Rand(fixed(&flow, "rand")), sqn, fixed(&flow, "amf"))
}

fn asked(resync: Option<(Rand, Auts)>) -> zh::Question {
    zh::Question {
        session: "bsf.home1.net;1;1".into(),
        realm: "home1.net".into(),
        impi: Impi::new(text(&file("gba_flow"), "impi")).expect("a name"),
        resync,
    }
}

#[test]
fn clause_4_2_a_vector_and_the_settings_arrive_as_they_were_sent() {
    let (bsf, hss) = (local("bsf.home1.net"), local("hss.home1.net"));
    let mar = asked(None).print(&bsf, 7);
    let request = Message::parse(&mar).expect("a message");
    assert_eq!((request.header.command, request.header.application), (303, 16_777_221));
    let impi = asked(None).impi;
    let read = zh::request(&request, &hss).expect("to us");
    assert_eq!(read, zh::VectorRequest { impi: impi.clone(), resync: None });
    let guss = Guss {
        card: Card::GbaU,
        key_lifetime: Some(Duration::from_secs(600)),
        impus: Arc::from([Impu::new("sip:user1@home1.net").expect("a URI")]),
        uss: Arc::from([Uss { gsid: 5, flags: vec![1] }]),
    };
    let home = Home { vector: made(), guss: Arc::new(guss.clone()) };
    let maa = zh::answer(&hss, &request, &impi, &HomeAnswer::Known(Box::new(home)));
    let HomeAnswer::Known(told) = asked(None).answer(&maa) else { panic!("a vector") };
    let flow = file("gba_flow");
    assert_eq!(told.vector.rand.0, fixed(&flow, "rand"));
    assert_eq!(told.vector.autn.0, fixed(&flow, "autn"));
    assert_eq!(told.vector.xres.expose(), octets(&flow, "res"));
    assert_eq!(told.vector.ks().expose(), &fixed(&flow, "ks"));
    assert_eq!((told.guss.card, told.guss.key_lifetime), (guss.card, guss.key_lifetime));
    assert_eq!(told.guss.impus, guss.impus);
    assert!(told.guss.uss.contains(&guss.uss[0]));

    // Of it, nothing may be missing, of another length, or another's.
    for at in 0..maa.len() {
        assert!(matches!(asked(None).answer(&maa[..at]), HomeAnswer::Unavailable), "cut at {at}");
    }
    let mut other = asked(None);
    other.impi = Impi::new("other@home1.net").expect("a name");
    assert!(matches!(other.answer(&maa), HomeAnswer::Unavailable), "another's vector");
    other = zh::Question { session: "bsf.home1.net;1;2".into(), ..asked(None) };
    assert!(matches!(other.answer(&maa), HomeAnswer::Unavailable), "another's answer");
}

/// TS 29.229 clause 6.3.11 (SIP-Authorization): RAND and AUTS, one after the other.
#[test]
fn clause_4_2_a_card_out_of_step_is_told_to_the_home() {
    let flow = file("gba_flow");
    let resync = Some((Rand(fixed(&flow, "rand")), Auts(fixed(&flow, "auts"))));
    let mar = asked(resync).print(&local("bsf.home1.net"), 7);
    let request = Message::parse(&mar).expect("a message");
    let read = zh::request(&request, &local("hss.home1.net")).expect("to us");
    assert_eq!(read.resync, resync);
    let hss = local("hss.home1.net");
    for (answer, expected) in [
        (HomeAnswer::AutsWrong, Verdict::Base(known::AUTHENTICATION_REJECTED)),
        (HomeAnswer::Unknown, Verdict::Experimental(known::IDENTITY_UNKNOWN)),
        (HomeAnswer::Unavailable, Verdict::Base(known::UNABLE_TO_COMPLY)),
    ] {
        let maa = zh::answer(&hss, &request, &read.impi, &answer);
        assert_eq!(verdict(&Message::parse(&maa).expect("a message")), Ok(expected));
        let told = asked(resync).answer(&maa);
        assert_eq!(std::mem::discriminant(&told), std::mem::discriminant(&answer));
    }
}

/// Annex A: the run on Ub with vectors of a home: a card in step, one out of step, GBA_U, and nobody's name.
mod ub {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use sipward::client::bootstrap::{Bootstrap, Bootstrapped, UbNext, UbPlan, UbReply};
    use sipward::keys::bootstrap::{
        Bsf, BsfConfig, Fresh, NafGrant, UaGrant, UbAnswer, UbOutcome, UbRequest, UbStep,
    };
    use sipward::keys::sqn::{SqnGenerator, SqnWindow};
    use sipward::keys::subscribers::Subscriber;
    use sipward::keys::usim::Usim;

    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    struct World {
        bsf: Bsf,
        hss: Bsf,
        card: Usim,
        now: Now,
        drawn: u8,
        seen: Vec<UbOutcome>,
        away: bool,
    }

    impl World {
        fn new(card: Card, seen: u64) -> Self {
            let subscriber = Subscriber {
                impi: asked(None).impi,
                algorithms: Some(algorithms()),
                digest: None,
                amf: [0x80, 0],
                sqn: SqnGenerator::new(Sqn::default()),
                impus: Arc::from([Impu::new("sip:user1@home1.net").expect("a URI")]),
                key_lifetime: Some(Duration::from_secs(600)),
                barred: false,
                card,
                uss: Arc::from([Uss { gsid: 5, flags: vec![1] }]),
            };
            let grant = NafGrant {
                host: "naf1.home1.net".into(),
                fqdns: vec!["sip.naf1.home1.net".into()],
                protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
                sees_impi: true,
                sees_identities: true,
            };
            let config = BsfConfig { home: true, ..BsfConfig::new("bsf.home1.net") };
            let window = SqnWindow::default().with_seen([seen; 32]);
            Self {
                bsf: Bsf::new(config, vec![], vec![grant], [9; 32]).expect("fit"),
                hss: Bsf::new(BsfConfig::new("localhost"), vec![subscriber], vec![], [8; 32])
                    .expect("fit"),
                card: Usim::new(algorithms(), window).with_card(card),
                now: Now { wall: NOW, ..Now::default() },
                drawn: 0,
                seen: vec![],
                away: false,
            }
        }

        fn fresh(&mut self) -> Fresh {
            self.drawn += 1;
            Fresh { rand: [self.drawn; 16], opaque: [self.drawn; 16] }
        }

        /// One request on Ub; what the home is asked goes there as it would over Zh.
        fn ask(&mut self, authorization: &str) -> UbAnswer {
            let fresh = self.fresh();
            let values = [authorization.as_bytes()];
            let request = UbRequest {
                method: "GET",
                target: "/",
                authorization: &values,
                user_agent: None,
                has_body: false,
                source: SOURCE,
                exported: None,
            };
            let answer = match self.bsf.step(&request, &fresh, self.now) {
                UbStep::Answer(answer) => answer,
                UbStep::Ask(question) => {
                    let asked = zh::Question {
                        session: "bsf.home1.net;1;9".into(),
                        realm: "home1.net".into(),
                        impi: question.impi().clone(),
                        resync: question.resync,
                    };
                    let mar = asked.print(&local("bsf.home1.net"), 1);
                    let message = Message::parse(&mar).expect("a message");
                    let hss = local("hss.home1.net");
                    let request = zh::request(&message, &hss).expect("to us");
                    let rand = self.fresh().rand;
                    let resync = request.resync.as_ref();
                    let found = self.hss.home(&request.impi, resync, rand, self.now);
                    let told = match self.away {
                        true => HomeAnswer::Unavailable,
                        false => asked.answer(&zh::answer(&hss, &message, &request.impi, &found)),
                    };
                    self.bsf.homed(question, told, &fresh, self.now)
                }
            };
            self.seen.push(answer.outcome);
            answer
        }

        fn run(&mut self) -> Result<Bootstrapped, String> {
            let plan = UbPlan::new(asked(None).impi, "bsf.home1.net");
            let nobody = Algorithms::Milenage(Milenage::with_opc(&[0; 16], &[0; 16]));
            let nobody = Usim::new(nobody, SqnWindow::default());
            let mut card = std::mem::replace(&mut self.card, nobody);
            let done = self.run_with(&plan, &mut card);
            self.card = card;
            done
        }

        fn run_with(&mut self, plan: &UbPlan, card: &mut Usim) -> Result<Bootstrapped, String> {
            let mut run = Bootstrap::new(plan, card, None);
            let mut get = run.start();
            loop {
                let answer = self.ask(&get.authorization);
                let rows = answer.headers.iter().filter(|(name, _)| *name == "WWW-Authenticate");
                let challenges: Vec<&[u8]> = rows.map(|(_, value)| value.as_bytes()).collect();
                let reply = UbReply {
                    status: answer.status,
                    challenges: &challenges,
                    authentication_info: answer.header("Authentication-Info").map(str::as_bytes),
                    server: None,
                    body: &answer.body,
                };
                match run.handle(&reply, [7; 16], self.now).map_err(|why| why.to_string())? {
                    UbNext::Get(next) => get = next,
                    UbNext::Done(done) => return Ok(*done),
                }
            }
        }

        fn key(&self, of: &Bootstrapped) -> Result<NafKey, NafRefusal> {
            let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
            self.bsf.naf_key("naf1.home1.net", &of.btid, &naf, self.now)
        }
    }

    #[test]
    fn a_subscriber_of_the_home_bootstraps_and_his_settings_reach_the_naf() {
        for card in [Card::Gba, Card::GbaU] {
            let mut world = World::new(card, 0);
            let done = world.run().expect("a run");
            use UbOutcome::{Bootstrapped, Challenged};
            assert_eq!(world.seen, [Challenged, Bootstrapped], "{card:?}");
            let key = world.key(&done).expect("a key");
            let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
            assert_eq!(key.key.expose(), done.naf_key(&naf).expect("derived").expose());
            assert_eq!(key.impi, Some(asked(None).impi));
            assert_eq!(key.identities.first().map(Impu::as_str), Some("sip:user1@home1.net"));
            assert!(key.uss.contains(&Uss { gsid: 5, flags: vec![1] }));
            assert_eq!(key.expires, NOW + Duration::from_secs(600), "the home's own lifetime");
            world.now = world.now + Duration::from_secs(600);
            assert!(matches!(world.key(&done), Err(NafRefusal::UnknownBtid)), "and no longer");
        }
    }

    #[test]
    fn a_card_out_of_step_is_put_in_step_by_the_home() {
        let mut world = World::new(Card::Gba, 500);
        world.run().expect("a run");
        use UbOutcome::{Bootstrapped, Challenged, Resynchronised};
        assert_eq!(world.seen, [Challenged, Resynchronised, Bootstrapped]);
    }

    #[test]
    fn a_home_that_is_away_is_a_pause_and_nobodys_name_a_challenge_like_any_other() {
        let mut world = World::new(Card::Gba, 0);
        let first = |name: &str| {
            format!("Digest username=\"{name}\",realm=\"\",nonce=\"\",uri=\"/\",response=\"\"")
        };
        world.away = true;
        let answer = world.ask(&first(asked(None).impi.as_str()));
        assert_eq!((answer.status, answer.outcome), (503, UbOutcome::Unable));
        assert!(answer.header("Retry-After").is_some());
        world.away = false;
        let known = world.ask(&first(asked(None).impi.as_str()));
        let nobody = world.ask(&first("nobody@home1.net"));
        assert_eq!((known.status, nobody.status), (401, 401), "V-139: the same shape");
        let shape = |answer: &UbAnswer| {
            let row = answer.header("WWW-Authenticate").expect("a challenge");
            let nonce = row.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
            let nonce = BASE64.decode(nonce.expect("a nonce")).expect("base64");
            (row.len(), nonce.len())
        };
        assert_eq!(shape(&known), shape(&nobody));
        assert_eq!(nobody.outcome, UbOutcome::StrangerChallenged);
    }

    /// V-139: the home is asked ten times a minute for one name, and not at all for what is no request of Ub.
    #[test]
    fn the_home_is_asked_at_a_pace() {
        let mut world = World::new(Card::Gba, 0);
        let first = "Digest username=\"x@home1.net\",realm=\"\",nonce=\"\",uri=\"/\",response=\"\"";
        for _ in 0..10 {
            assert_eq!(world.ask(first).status, 401);
        }
        assert_eq!(world.ask(first).outcome, UbOutcome::Paced);
        let before = world.drawn;
        assert_eq!(world.ask("Basic eDp5").outcome, UbOutcome::Malformed);
        assert_eq!(world.drawn, before + 1, "one draw for the request, none at the home");
    }
}

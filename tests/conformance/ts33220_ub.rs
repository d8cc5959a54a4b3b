//! TS 33.220 clause 4.5.2 and TS 24.109 clause 4: the run on Ub, our UE against our server, in virtual time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sipward::authentication::aka::AkaAlgorithm;
use sipward::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use sipward::client::bootstrap::{
    Bootstrap, Bootstrapped, Origin, UbFailure, UbGet, UbNext, UbPlan, UbReply,
};
use sipward::identity::{Btid, Impi, Impu, Realm};
use sipward::instant::{Instant, Now, WallTime};
use sipward::keys::bootstrap::{
    Bsf, BsfConfig, BsfUnfit, Fresh, LocalNaf, NafGrant, NafRefusal, PER_IMPI, UaGrant, UbAnswer,
    UbOutcome, UbRequest,
};
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::{DELTA, Sqn, SqnGenerator, SqnWindow};
use sipward::keys::subscribers::{Card, Subscriber};
use sipward::keys::usim::Usim;
use sipward::keys::vector::Algorithms;
use sipward::keys::{KeyAnswer, KeySource, NafId, Rand, UaId};
use toml::Table;

use crate::vectors::{file, fixed, octets, rows, text};

pub(crate) const IMPI: &str = "user1_private@home1.net";
const BSF: &str = "bsf.home1.net";
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A server, a card, and the hours between them.
pub(crate) struct World {
    pub(crate) bsf: Arc<Bsf>,
    plan: UbPlan,
    card: Usim,
    pub(crate) now: Now,
    drawn: u8,
    /// Every answer of the server.
    seen: Vec<UbOutcome>,
}

fn milenage(flow: &Table) -> Algorithms {
    Algorithms::Milenage(Milenage::with_opc(&fixed(flow, "k"), &fixed(flow, "opc")))
}

pub(crate) fn subscriber(last: Sqn) -> Subscriber {
    Subscriber {
        impi: Impi::new(IMPI).expect("a name"),
        algorithms: Some(milenage(&file("gba_flow"))),
        digest: None,
        amf: [0x80, 0],
        sqn: SqnGenerator::new(last),
        impus: Arc::from([Impu::new("sip:user1@home1.net").expect("a URI")]),
        key_lifetime: None,
        barred: false,
        card: Card::Gba,
        uss: Arc::from([]),
    }
}

fn grant() -> NafGrant {
    NafGrant {
        host: "edge.home1.net".into(),
        fqdns: vec!["sip.naf1.home1.net".into()],
        protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
        sees_impi: true,
        sees_identities: true,
    }
}

fn world_of(config: BsfConfig, subscriber: Subscriber) -> World {
    world_with(config, subscriber, vec![grant()])
}

pub(crate) fn world_with(
    config: BsfConfig,
    subscriber: Subscriber,
    grants: Vec<NafGrant>,
) -> World {
    let bsf = Bsf::new(config, vec![subscriber], grants, [9; 32]).expect("fit");
    World {
        bsf: Arc::new(bsf),
        plan: UbPlan::new(Impi::new(IMPI).expect("a name"), BSF),
        card: Usim::new(milenage(&file("gba_flow")), SqnWindow::default()),
        now: Now { mono: Instant::from_micros(1), wall: WallTime::from_unix(1_795_511_598) },
        drawn: 0,
        seen: Vec::new(),
    }
}

fn world() -> World {
    world_of(BsfConfig::new(BSF), subscriber(Sqn::default()))
}

impl World {
    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn ask(&mut self, get: &UbGet) -> UbAnswer {
        self.ask_as(get, &get.authorization, SOURCE)
    }

    fn ask_as(&mut self, get: &UbGet, authorization: &str, source: IpAddr) -> UbAnswer {
        self.drawn = self.drawn.wrapping_add(1);
        let request = UbRequest {
            method: "GET",
            target: &get.target,
            authorization: &[authorization.as_bytes()],
            user_agent: Some(get.user_agent.as_bytes()),
            has_body: false,
            source,
            exported: None,
        };
        let fresh = Fresh { rand: [self.drawn; 16], opaque: [self.drawn; 16] };
        let answer = self.bsf.answer(&request, &fresh, self.now);
        self.seen.push(answer.outcome);
        answer
    }

    /// A run; `between` may alter what goes either way.
    fn run_with(
        &mut self,
        tmpi: Option<Impi>,
        mut between: impl FnMut(&mut UbGet, Option<&mut UbAnswer>),
    ) -> Result<Bootstrapped, UbFailure> {
        let mut card = std::mem::replace(&mut self.card, nobodys_card());
        let plan = self.plan.clone();
        let mut run = Bootstrap::new(&plan, &mut card, tmpi);
        let mut get = run.start();
        let mut turns = 0;
        let result = loop {
            turns += 1;
            assert!(turns < 10, "a run has an end");
            between(&mut get, None);
            let mut answer = self.ask(&get);
            between(&mut get, Some(&mut answer));
            match run.handle(&reply(&answer, &challenges(&answer)), [7; 16], self.now) {
                Ok(UbNext::Get(next)) => get = next,
                Ok(UbNext::Done(done)) => break Ok(*done),
                Err(failure) => break Err(failure),
            }
        };
        self.card = card;
        result
    }

    pub(crate) fn run(&mut self, tmpi: Option<Impi>) -> Result<Bootstrapped, UbFailure> {
        self.run_with(tmpi, |_, _| {})
    }

    pub(crate) fn naf_key(&self, btid: &Btid) -> Result<[u8; 32], NafRefusal> {
        let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
        let key = self.bsf.naf_key("edge.home1.net", btid, &naf, self.now)?;
        Ok(*key.key.expose())
    }
}

fn nobodys_card() -> Usim {
    let nobody = Algorithms::Milenage(Milenage::with_opc(&[0; 16], &[0; 16]));
    Usim::new(nobody, SqnWindow::default())
}

pub(crate) fn challenges(answer: &UbAnswer) -> Vec<&[u8]> {
    let rows = answer.headers.iter().filter(|(name, _)| *name == "WWW-Authenticate");
    rows.map(|(_, value)| value.as_bytes()).collect()
}

pub(crate) fn reply<'a>(answer: &'a UbAnswer, challenges: &'a [&'a [u8]]) -> UbReply<'a> {
    UbReply {
        status: answer.status,
        challenges,
        authentication_info: answer.header("Authentication-Info").map(str::as_bytes),
        server: answer.header("Server").map(str::as_bytes),
        body: &answer.body,
    }
}

/// The value of one header of a message printed in the facts.
fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let line = message.lines().find(|line| line.starts_with(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name}"))[name.len() + 2..].trim_end()
}

/// A parameter of an Authorization with another value.
pub(crate) fn altered(authorization: &str, name: &str, value: &str) -> String {
    let start = authorization.find(&format!("{name}=")).expect("there") + name.len() + 1;
    let end = authorization[start..].find(',').map_or(authorization.len(), |at| start + at);
    format!("{}{value}{}", &authorization[..start], &authorization[end..])
}

/// The run of the facts, from either side, octet for octet; and its keys on Ua.
#[test]
fn clause_4_5_2_whole_run() {
    let flow = file("gba_flow");
    let sqn = Sqn::from_octets(&fixed(&flow, "sqn"));
    let last = Sqn::new(sqn.seq() - 1, sqn.ind() + 31);
    let own = Subscriber { amf: fixed(&flow, "amf"), ..subscriber(last) };
    let config = BsfConfig { product: "ExampleBSF/1.0".into(), ..BsfConfig::new(BSF) };
    let mut world = world_of(config, own);
    world.plan.product = "ExampleUE/1.0".into();
    let mut seen = SqnWindow::default().seen().to_owned();
    seen[0] = sqn.seq() - 1;
    world.card = Usim::new(milenage(&flow), SqnWindow::default().with_seen(seen));

    let plan = world.plan.clone();
    let mut card = std::mem::replace(&mut world.card, nobodys_card());
    let mut run = Bootstrap::new(&plan, &mut card, None);
    let fresh = |name: &str| {
        let challenge = header(text(&flow, "challenge"), "WWW-Authenticate");
        let opaque = challenge.split("opaque=\"").nth(1).expect("there").trim_end_matches('"');
        let opaque: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&opaque[at * 2..at * 2 + 2], 16).expect("hex"))
            .collect();
        Fresh { rand: fixed(&flow, name), opaque: opaque.try_into().expect("16") }
    };
    let exchange = |get: &UbGet, expected: &str| {
        assert_eq!(get.authorization, header(expected, "Authorization"));
        assert_eq!(get.user_agent, header(expected, "User-Agent"));
        assert!(expected.starts_with(&format!("GET {} HTTP/1.1\r\n", get.target)));
        let request = UbRequest {
            method: "GET",
            target: &get.target,
            authorization: &[get.authorization.as_bytes()],
            user_agent: Some(get.user_agent.as_bytes()),
            has_body: false,
            source: SOURCE,
            exported: None,
        };
        world.bsf.answer(&request, &fresh("rand"), world.now)
    };
    let same = |answer: &UbAnswer, expected: &str, names: &[&str]| {
        assert!(expected.starts_with(&format!("HTTP/1.1 {} ", answer.status)), "{expected}");
        for name in names {
            assert_eq!(answer.header(name), Some(header(expected, name)), "{name}");
        }
    };

    let answer = exchange(&run.start(), text(&flow, "first"));
    same(&answer, text(&flow, "challenge"), &["Server", "WWW-Authenticate"]);
    let offers = challenges(&answer);
    let cnonce = header(text(&flow, "second"), "Authorization");
    let cnonce = cnonce.split("cnonce=\"").nth(1).expect("there");
    let cnonce: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&cnonce[at * 2..at * 2 + 2], 16).expect("hex"))
        .collect();
    let cnonce: [u8; 16] = cnonce.try_into().expect("16");
    let next = run.handle(&reply(&answer, &offers), cnonce, world.now).expect("answered");
    let UbNext::Get(get) = next else { panic!("a second GET is due") };
    let answer = exchange(&get, text(&flow, "second"));
    same(
        &answer,
        text(&flow, "answer"),
        &["Server", "Content-Type", "Authentication-Info", "Expires"],
    );
    assert_eq!(answer.body, octets(&flow, "body"));
    assert!(text(&flow, "answer").as_bytes().ends_with(&answer.body));
    let next = run.handle(&reply(&answer, &[]), cnonce, world.now).expect("proved");
    let UbNext::Done(done) = next else { panic!("the run is over") };
    assert_eq!(done.btid.as_str(), text(&flow, "btid"));
    assert_eq!(done.ks.expose()[..], octets(&flow, "ks"));
    assert_eq!(done.origin, Origin::Card(Rand(fixed(&flow, "rand"))));
    assert_eq!(done.expires, world.now.wall + Duration::from_secs(3600));
    assert_eq!(
        done.tmpi.as_ref().map(Impi::as_str),
        Some(text(&rows_of("tmpi")[0], "tmpi")),
        "either side said that it knows them"
    );

    for ua in rows(&flow, "ua") {
        let naf = octets(&ua, "naf_id");
        let (fqdn, id) = naf.split_last_chunk::<5>().expect("longer");
        let naf = NafId::new(std::str::from_utf8(fqdn).expect("text"), UaId(*id));
        let key = done.naf_key(&naf).expect("short");
        assert_eq!(key.expose()[..], octets(&ua, "ks_naf"));
        let password = done.naf_password(&naf).expect("short");
        assert_eq!(*password, text(&ua, "password"));
        let (hash, _) = Hash::of(text(&ua, "algorithm").as_bytes()).expect("known");
        let realm = text(&ua, "realm").as_bytes();
        let ha1 = Ha1::new(hash, done.btid.as_str().as_bytes(), realm, password.as_bytes());
        let inputs = Inputs {
            hash,
            session: false,
            method: text(&ua, "method").as_bytes(),
            uri: text(&ua, "uri").as_bytes(),
            nonce: text(&ua, "nonce").as_bytes(),
            cnonce: text(&ua, "cnonce").as_bytes(),
            nc: text(&ua, "nc").as_bytes(),
            qop: if text(&ua, "qop") == "auth" { Qop::Auth } else { Qop::AuthInt(b"") },
        };
        let response = Response::compute(&ha1, &inputs);
        assert_eq!(response.as_hex(), text(&ua, "response").as_bytes(), "{}", text(&ua, "name"));
    }
}

fn rows_of(name: &str) -> Vec<Table> {
    rows(&file("gba_kdf"), name)
}

/// TS 24.109 annex A.4, TS 33.102 clause 6.3.5: a card that is ahead tells so, and the run goes on.
#[test]
fn resynchronisation() {
    let mut world = world();
    let ahead = [5000; 32];
    let flow = file("gba_flow");
    world.card = Usim::new(milenage(&flow), SqnWindow::default().with_seen(ahead));
    let done = world.run(None).expect("resynchronised");
    assert_eq!(
        world.seen,
        [UbOutcome::Challenged, UbOutcome::Resynchronised, UbOutcome::Bootstrapped]
    );
    assert!(world.naf_key(&done.btid).is_ok());
    world.seen.clear();
    world.run(None).expect("in step now");
    assert_eq!(world.seen, [UbOutcome::Challenged, UbOutcome::Bootstrapped]);

    // The network too far ahead is brought back as well.
    let mut world = world_of(BsfConfig::new(BSF), subscriber(Sqn::new(DELTA + 100, 0)));
    world.run(None).expect("resynchronised");
    assert!(world.seen.contains(&UbOutcome::Resynchronised));
}

/// V-140: an AUTS that is not the card's moves no sequence number and earns a new challenge.
#[test]
fn altered_auts_is_refused() {
    let mut world = world();
    let flow = file("gba_flow");
    world.card = Usim::new(milenage(&flow), SqnWindow::default().with_seen([5000; 32]));
    let before = world.bsf.sqn_reserve();
    let result = world.run_with(None, |get, answer| {
        if answer.is_none() && get.authorization.contains("auts=") {
            get.authorization =
                altered(&get.authorization, "auts", &format!("\"{}\"", BASE64.encode([0; 14])));
        }
    });
    assert_eq!(result.err(), Some(UbFailure::OutOfStep));
    assert_eq!(world.seen, [UbOutcome::Challenged, UbOutcome::Refused]);
    assert_eq!(world.bsf.sqn_reserve()[0].1, before[0].1 + 2, "two challenges, no jump");
}

/// Clause 4.4.11: keys end, at the server, at the NAF and in what the UE was told.
#[test]
fn expiry() {
    let own =
        Subscriber { key_lifetime: Some(Duration::from_secs(600)), ..subscriber(Sqn::default()) };
    let mut world = world_of(BsfConfig::new(BSF), own);
    let done = world.run(None).expect("a run");
    assert_eq!(done.expires, world.now.wall + Duration::from_secs(600));
    let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
    let own_key = *done.naf_key(&naf).expect("short").expose();
    world.wait(599);
    assert_eq!(world.naf_key(&done.btid), Ok(own_key), "both sides derive the same");
    world.wait(1);
    assert_eq!(world.naf_key(&done.btid), Err(NafRefusal::UnknownBtid));
    world.bsf.sweep(world.now);
    assert_eq!(world.bsf.sessions(), 0);
}

/// A UE whose clock is wrong goes by the server's, when that is told; else it finds the key over.
#[test]
fn lifetime_on_a_wrong_clock() {
    let skewed = |mut world: World| {
        let plan = world.plan.clone();
        let mut card = std::mem::replace(&mut world.card, nobodys_card());
        let ue_now = world.now + Duration::from_secs(1_000_000);
        let mut run = Bootstrap::new(&plan, &mut card, None);
        let answer = world.ask(&run.start());
        let rows = challenges(&answer);
        let next = run.handle(&reply(&answer, &rows), [7; 16], ue_now).expect("answered");
        let UbNext::Get(get) = next else { panic!("a second GET is due") };
        let answer = world.ask(&get);
        match run.handle(&reply(&answer, &[]), [7; 16], ue_now) {
            Ok(UbNext::Done(done)) => Ok(done.expires.since(ue_now.wall)),
            Ok(UbNext::Get(_)) => panic!("the run is over"),
            Err(failure) => Err(failure),
        }
    };
    assert_eq!(skewed(world()), Err(UbFailure::KeyOver));
    let telling = BsfConfig { tell_time: true, ..BsfConfig::new(BSF) };
    let telling = world_of(telling, subscriber(Sqn::default()));
    assert_eq!(skewed(telling), Ok(Duration::from_secs(3600)));
}

/// V-100, V-140: a nonce is answered once, in its minute, with nc 1, whatever else is right.
#[test]
fn nonce_is_answered_once() {
    let mut world = world();
    let mut second = None;
    world
        .run_with(None, |get, answer| {
            if answer.is_none() && get.authorization.contains("nc=") {
                second = Some(get.clone());
            }
        })
        .expect("a run");
    let second = second.expect("was sent");
    assert_eq!(world.bsf.sessions(), 1);
    let again = world.ask(&second);
    assert_eq!((again.status, again.outcome), (401, UbOutcome::Refused));
    assert_eq!(world.bsf.sessions(), 1);

    // Late by a minute: the UE answers the new challenge and the run ends well.
    let mut late = self::world();
    let mut delays = vec![Duration::from_secs(61)];
    let plan = late.plan.clone();
    let mut card = std::mem::replace(&mut late.card, nobodys_card());
    let mut run = Bootstrap::new(&plan, &mut card, None);
    let mut get = run.start();
    loop {
        let answer = late.ask(&get);
        let rows = challenges(&answer);
        match run.handle(&reply(&answer, &rows), [7; 16], late.now).expect("goes on") {
            UbNext::Get(next) => get = next,
            UbNext::Done(_) => break,
        }
        late.now = late.now + delays.pop().unwrap_or_default();
    }
    assert_eq!(late.seen, [UbOutcome::Challenged, UbOutcome::Refused, UbOutcome::Bootstrapped]);
}

/// V-140 and what else must not pass, each alone in an otherwise right second GET.
#[test]
fn altered_answers_are_refused() {
    for (what, name, value, status, outcome) in [
        ("count is not the first", "nc", "00000002", 401, UbOutcome::Refused),
        ("auth for auth-int", "qop", "auth", 401, UbOutcome::Refused),
        ("no protection named", "qop", "\"\"", 401, UbOutcome::Refused),
        ("another realm", "realm", "\"other.net\"", 401, UbOutcome::Refused),
        ("another opaque", "opaque", "\"00\"", 401, UbOutcome::Refused),
        ("another cnonce", "cnonce", "\"abc\"", 401, UbOutcome::Refused),
        ("another response", "response", "\"00\"", 401, UbOutcome::Refused),
        ("an empty response", "response", "\"\"", 401, UbOutcome::Refused),
        ("a nonce never given", "nonce", "\"AAAA\"", 401, UbOutcome::Refused),
        ("an algorithm not offered", "algorithm", "MD5", 400, UbOutcome::Malformed),
        ("a uri not asked for", "uri", "\"/other\"", 400, UbOutcome::Malformed),
        ("an empty cnonce", "cnonce", "\"\"", 400, UbOutcome::Malformed),
        ("no count", "nc", "1", 400, UbOutcome::Malformed),
    ] {
        let mut world = world();
        let mut first_answer = None;
        let _ = world.run_with(None, |get, answer| match answer {
            None if get.authorization.contains("cnonce=") && first_answer.is_none() => {
                get.authorization = altered(&get.authorization, name, value);
            }
            Some(answer)
                if get.authorization.contains("cnonce=")
                    && get.authorization.contains(&format!("{name}={value}")) =>
            {
                first_answer.get_or_insert((answer.status, answer.outcome));
            }
            _ => {}
        });
        assert_eq!(first_answer, Some((status, outcome)), "{what}");
    }
    // Another subscriber's name on a challenge that is not his.
    let mut world = world();
    let result = world.run_with(None, |get, answer| {
        if answer.is_none() && get.authorization.contains("cnonce=") {
            get.authorization = altered(&get.authorization, "username", "\"other@home1.net\"");
        }
    });
    assert_eq!(result.err(), Some(UbFailure::NetworkNotOurs), "he is challenged as himself");
    assert_eq!(world.bsf.sessions(), 0);
}

/// `qop=auth` passes where the operator says so, and then the proof is of that kind too.
#[test]
fn auth_is_a_switch() {
    let config = BsfConfig { accept_auth: true, ..BsfConfig::new(BSF) };
    let mut world = world_of(config, subscriber(Sqn::default()));
    let flow = file("gba_flow");
    let get = UbGet {
        target: "/".into(),
        host: BSF.into(),
        user_agent: "test".into(),
        authorization: format!("Digest username=\"{IMPI}\",realm=\"\",nonce=\"\",response=\"\""),
    };
    let answer = world.ask(&get);
    let challenge = answer.header("WWW-Authenticate").expect("challenged");
    let nonce = challenge.split("nonce=\"").nth(1).and_then(|t| t.split('"').next()).expect("one");
    let vector = milenage(&flow).vector(Rand([1; 16]), Sqn::new(1, 1), [0x80, 0]);
    let ha1 = Ha1::new(Hash::Md5, IMPI.as_bytes(), BSF.as_bytes(), vector.xres.expose());
    let inputs = |method| Inputs {
        hash: Hash::Md5,
        session: false,
        method,
        uri: b"/",
        nonce: nonce.as_bytes(),
        cnonce: b"c",
        nc: b"00000001",
        qop: Qop::Auth,
    };
    let response = Response::compute(&ha1, &inputs(b"GET"));
    let response = String::from_utf8_lossy(response.as_hex()).into_owned();
    let authorization = format!(
        "Digest username=\"{IMPI}\",realm=\"{BSF}\",nonce=\"{nonce}\",uri=\"/\",qop=auth,\
         nc=00000001,cnonce=\"c\",response=\"{response}\",algorithm=AKAv1-MD5"
    );
    let answer = world.ask_as(&get, &authorization, SOURCE);
    assert_eq!(answer.outcome, UbOutcome::Bootstrapped);
    let rspauth = Response::compute(&ha1, &inputs(b""));
    let rspauth = String::from_utf8_lossy(rspauth.as_hex()).into_owned();
    let info = answer.header("Authentication-Info").expect("proved");
    assert!(info.contains(&rspauth) && info.contains("qop=auth,"), "{info}");
}

/// V-140: the UE takes no answer that was altered on the way, nor one that proves nothing.
#[test]
fn ue_refuses_what_is_not_proved() {
    type Alter = fn(&mut UbAnswer);
    let cases: [(&str, Alter); 5] = [
        ("body altered", |answer| answer.body[120] ^= 1),
        ("body grown", |answer| answer.body.extend_from_slice(b"\r\n")),
        ("rspauth gone", |answer| {
            answer.headers.retain(|(name, _)| *name != "Authentication-Info")
        }),
        ("rspauth of zeros", |answer| {
            for (name, value) in &mut answer.headers {
                if *name == "Authentication-Info" {
                    *value = altered(value, "rspauth", &format!("\"{}\"", "0".repeat(32)));
                }
            }
        }),
        ("weaker protection", |answer| {
            for (name, value) in &mut answer.headers {
                if *name == "Authentication-Info" {
                    *value = altered(value, "qop", "auth");
                }
            }
        }),
    ];
    for (what, alter) in cases {
        let result = world().run_with(None, |_, answer| {
            if let Some(answer) = answer.filter(|answer| answer.status == 200) {
                alter(answer);
            }
        });
        assert_eq!(result.err(), Some(UbFailure::ServerUnproved), "{what}");
    }
    // A 200 where a challenge is due proves nothing at all.
    let result = world().run_with(None, |_, answer| {
        if let Some(answer) = answer {
            answer.status = 200;
        }
    });
    assert_eq!(result.err(), Some(UbFailure::Refused(200)));
}

/// The UE answers no challenge of another network, and none without `auth-int`.
#[test]
fn ue_refuses_bad_challenges() {
    for (what, from, to, expected) in [
        ("qop", "auth-int", "auth", UbFailure::NoUsableChallenge),
        ("algorithm", "AKAv1-MD5", "MD5", UbFailure::NoUsableChallenge),
        ("nonce", "nonce=\"AQ", "nonce=\"AA", UbFailure::NetworkNotOurs),
    ] {
        let result = world().run_with(None, |_, answer| {
            if let Some(answer) = answer {
                for (_, value) in &mut answer.headers {
                    *value = value.replace(from, to);
                }
            }
        });
        assert_eq!(result.err(), Some(expected), "{what}");
    }
    let mut world = world();
    world.plan.realm = Some("other.net".into());
    assert_eq!(world.run(None).err(), Some(UbFailure::NoUsableChallenge));
    let mut stranger = self::world();
    stranger.card = nobodys_card();
    assert_eq!(stranger.run(None).err(), Some(UbFailure::NetworkNotOurs));
}

/// Annex B.4, both sides: the second run goes by TMPI; when its session has ended, by the IMPI again.
#[test]
fn tmpi_names_the_next_run() {
    let mut world = world();
    let first = world.run(None).expect("a run");
    let tmpi = first.tmpi.clone().expect("both know them");
    let mut names = Vec::new();
    let second = world
        .run_with(Some(tmpi.clone()), |get, answer| {
            if answer.is_none() {
                names.push(get.authorization.contains(IMPI));
            }
        })
        .expect("a run");
    assert_eq!(names, [false, false], "the IMPI is not on the wire");
    assert_eq!(second.impi.as_str(), IMPI, "keys go by the IMPI all the same");
    let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
    assert_eq!(Ok(*second.naf_key(&naf).expect("short").expose()), world.naf_key(&second.btid));
    assert_ne!(second.tmpi, first.tmpi, "each run has its own");

    world.wait(3600);
    world.seen.clear();
    world.run(Some(tmpi)).expect("by the IMPI");
    assert_eq!(
        world.seen,
        [UbOutcome::TmpiUnknown, UbOutcome::Challenged, UbOutcome::Bootstrapped]
    );

    let silent = BsfConfig { tmpi: false, ..BsfConfig::new(BSF) };
    let done = world_of(silent, subscriber(Sqn::default())).run(None).expect("a run");
    assert_eq!(done.tmpi, None);
}

/// Clause 4.4.11: a new run leaves the older sessions, up to four for one name.
#[test]
fn sessions_of_one_name() {
    let mut world = world();
    let mut runs = Vec::new();
    for _ in 0..=PER_IMPI {
        runs.push(world.run(None).expect("a run"));
        world.wait(30);
    }
    assert_eq!(world.bsf.sessions(), PER_IMPI);
    let known: Vec<bool> = runs.iter().map(|run| world.naf_key(&run.btid).is_ok()).collect();
    assert_eq!(known, [false, true, true, true, true]);
    assert!(world.bsf.end_session(&runs[4].btid) && !world.bsf.end_session(&runs[4].btid));
    assert_eq!(world.naf_key(&runs[4].btid), Err(NafRefusal::UnknownBtid));
}

/// Clause 4.5.3: which NAF has which key, and what it is told.
#[test]
fn naf_side() {
    let mut world = world();
    let done = world.run(None).expect("a run");
    let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
    let stranger = Btid::new(&format!("AAAA@{BSF}")).expect("a name");
    for (host, btid, fqdn, ua, expected) in [
        ("edge.home1.net", &done.btid, "SIP.naf1.home1.net", UaId::SIP_DIGEST, Ok(())),
        ("edge.home1.net", &stranger, "sip.naf1.home1.net", UaId::SIP_DIGEST, Err(5403)),
        ("edge.home1.net", &done.btid, "naf2.home1.net", UaId::SIP_DIGEST, Err(5402)),
        ("edge.home1.net", &done.btid, "sip.naf1.home1.net", UaId::LOCSIP, Err(5402)),
        ("rogue.home1.net", &done.btid, "sip.naf1.home1.net", UaId::SIP_DIGEST, Err(5402)),
        ("rogue.home1.net", &stranger, "sip.naf1.home1.net", UaId::SIP_DIGEST, Err(5402)),
    ] {
        let answer = world.bsf.naf_key(host, btid, &NafId::new(fqdn, ua), world.now);
        let answer = answer.map(|_| ()).map_err(NafRefusal::diameter_code);
        assert_eq!(answer, expected, "{host} {fqdn} {ua:?}");
    }
    let local = LocalNaf::new(world.bsf.clone(), "edge.home1.net");
    let KeyAnswer::Known(key) = local.naf_key(&done.btid, &naf, world.now) else {
        panic!("a key");
    };
    assert_eq!(key.impi.as_ref().map(Impi::as_str), Some(IMPI));
    assert_eq!(key.identities[0].as_str(), "sip:user1@home1.net");
    assert_eq!((key.created, key.expires), (done.created, done.expires));
    assert!(matches!(local.naf_key(&stranger, &naf, world.now), KeyAnswer::Unknown));
    let rogue = LocalNaf::new(world.bsf.clone(), "rogue.home1.net");
    assert!(matches!(rogue.naf_key(&done.btid, &naf, world.now), KeyAnswer::Forbidden));
}

/// A NAF that may not see identities gets the key alone.
#[test]
fn naf_that_sees_no_names() {
    let grant = NafGrant { sees_impi: false, sees_identities: false, ..grant() };
    let bsf = Bsf::new(BsfConfig::new(BSF), vec![subscriber(Sqn::default())], vec![grant], [9; 32]);
    let mut world = World { bsf: Arc::new(bsf.expect("fit")), ..world() };
    let done = world.run(None).expect("a run");
    let naf = NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST);
    let key = world.bsf.naf_key("edge.home1.net", &done.btid, &naf, world.now).expect("a key");
    assert!(key.impi.is_none() && key.identities.is_empty());
}

/// V-139: ten challenges a minute for one name; a stranger's name looks the same, and costs no vector.
#[test]
fn pace_and_strangers() {
    let first = |name: &str| UbGet {
        target: "/".into(),
        host: BSF.into(),
        user_agent: "test".into(),
        authorization: format!(
            "Digest username=\"{name}\",realm=\"{BSF}\",nonce=\"\",uri=\"/\",response=\"\""
        ),
    };
    let shape = |answer: &UbAnswer| {
        let headers: Vec<(&str, usize)> =
            answer.headers.iter().map(|(name, value)| (*name, value.len())).collect();
        (answer.status, headers, answer.body.clone())
    };
    let mut world = world();
    let before = world.bsf.sqn_reserve();
    for turn in 0..15 {
        let known = world.ask(&first(IMPI));
        let stranger = world.ask(&first("user9_private@home1.net"));
        assert_eq!(shape(&known), shape(&stranger), "turn {turn}");
        assert_eq!(known.status, if turn < 10 { 401 } else { 503 }, "turn {turn}");
        world.wait(1);
    }
    assert_eq!(world.bsf.sqn_reserve()[0].1, before[0].1 + 10, "ten moves");
    world.wait(46);
    assert_eq!(world.ask(&first(IMPI)).status, 401, "a minute after the first");

    // A wrong answer is answered alike for both.
    let wrong = |nonce: &str, name: &str| UbGet {
        authorization: format!(
            "Digest username=\"{name}\",realm=\"{BSF}\",nonce=\"{nonce}\",uri=\"/\",qop=auth-int,\
             nc=00000001,cnonce=\"c\",response=\"{}\",algorithm=AKAv1-MD5",
            "0".repeat(32)
        ),
        ..first(name)
    };
    let mut world = self::world();
    let [known, stranger] = [IMPI, "user9_private@home1.net"].map(|name| {
        let answer = world.ask(&first(name));
        let challenge = answer.header("WWW-Authenticate").expect("challenged");
        let nonce = challenge.split("nonce=\"").nth(1).and_then(|t| t.split('"').next());
        let nonce = nonce.expect("one").to_owned();
        shape(&world.ask(&wrong(&nonce, name)))
    });
    assert_eq!(known, stranger);

    // One source has its own bound, whatever names it uses.
    let config = BsfConfig::new(BSF);
    let burst = config.source_rate.burst;
    let mut world = world_of(config, subscriber(Sqn::default()));
    let paced = (0..burst + 100)
        .filter(|turn| world.ask(&first(&format!("u{turn}@home1.net"))).status == 503)
        .count();
    assert_eq!(paced, 100);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    let get = first(IMPI);
    assert_eq!(world.ask_as(&get, &get.authorization, elsewhere).status, 401);
}

/// Where the operator prefers so, a stranger's name is refused at once.
#[test]
fn unknown_name_may_be_told() {
    let config = BsfConfig { reveal_unknown: true, ..BsfConfig::new(BSF) };
    let mut world = world_of(config, subscriber(Sqn::default()));
    world.plan.impi = Impi::new("user9_private@home1.net").expect("a name");
    assert_eq!(world.run(None).err(), Some(UbFailure::Refused(403)));
}

/// A barred subscriber is told so, but only after it proved itself; its sessions go when it is barred.
#[test]
fn barred() {
    let mut world = world();
    let done = world.run(None).expect("a run");
    let barred = Subscriber { barred: true, ..subscriber(Sqn::default()) };
    world.bsf.replace_subscribers(vec![barred]);
    assert_eq!(world.naf_key(&done.btid), Err(NafRefusal::UnknownBtid));
    world.seen.clear();
    assert_eq!(world.run(None).err(), Some(UbFailure::Refused(403)));
    assert_eq!(world.seen, [UbOutcome::Challenged, UbOutcome::Barred]);
    world.bsf.replace_subscribers(vec![subscriber(Sqn::default())]);
    world.seen.clear();
    world.run(None).expect("in step, since the number was kept");
    assert_eq!(world.seen, [UbOutcome::Challenged, UbOutcome::Bootstrapped]);
}

/// What is not a request of Ub never comes to a vector.
#[test]
fn malformed_requests() {
    let world = world();
    let before = world.bsf.sqn_reserve();
    let good = format!("Digest username=\"{IMPI}\",realm=\"\",nonce=\"\",uri=\"/\",response=\"\"");
    let good = good.as_bytes();
    for (what, method, target, authorization, has_body, status) in [
        ("POST", "POST", "/", &[good][..], false, 405),
        ("another path", "GET", "/other", &[good], false, 404),
        ("a body", "GET", "/", &[good], true, 400),
        ("no Authorization", "GET", "/", &[], false, 400),
        ("two", "GET", "/", &[good, good], false, 400),
        ("Basic", "GET", "/", &[b"Basic dTpw"], false, 400),
        ("no username", "GET", "/", &[b"Digest nonce=\"\""], false, 400),
        ("username with a quote", "GET", "/", &[br#"Digest username="a\"b""#], false, 400),
        ("open quotes", "GET", "/", &[br#"Digest username="a"#], false, 400),
    ] {
        let request = UbRequest {
            method,
            target,
            authorization,
            user_agent: None,
            has_body,
            source: SOURCE,
            exported: None,
        };
        let fresh = Fresh { rand: [1; 16], opaque: [1; 16] };
        let answer = world.bsf.answer(&request, &fresh, world.now);
        assert_eq!((answer.status, answer.outcome), (status, UbOutcome::Malformed), "{what}");
    }
    assert_eq!(world.bsf.sqn_reserve(), before);
}

/// Other algorithms, where both sides are configured for them; and configurations that cannot be.
#[test]
fn algorithms_are_a_list() {
    let of = |name: &str| AkaAlgorithm::of(name.as_bytes()).expect("known");
    for (offered, known, taken) in [
        (&["AKAv1-SHA-256", "AKAv1-MD5"][..], &["AKAv1-MD5", "AKAv1-SHA-256"][..], "AKAv1-SHA-256"),
        (&["AKAv1-SHA-256", "AKAv1-MD5"], &["AKAv1-MD5"], "AKAv1-MD5"),
        (&["AKAv2-SHA-256"], &["AKAv2-SHA-256", "AKAv1-MD5"], "AKAv2-SHA-256"),
        (&["AKAv2-SHA-512-256-sess"], &["AKAv2-SHA-512-256-sess"], "AKAv2-SHA-512-256-sess"),
    ] {
        let algorithms = offered.iter().map(|name| of(name)).collect();
        let config = BsfConfig { algorithms, ..BsfConfig::new(BSF) };
        let mut world = world_of(config, subscriber(Sqn::default()));
        world.plan.algorithms = known.iter().map(|name| of(name)).collect();
        let mut used = String::new();
        let done = world.run_with(None, |get, _| used.clone_from(&get.authorization));
        assert!(used.ends_with(&format!("algorithm={taken}")), "{offered:?}: {used}");
        let done = done.unwrap_or_else(|failure| panic!("{offered:?}: {failure}"));
        assert!(world.naf_key(&done.btid).is_ok());
    }
    let base = BsfConfig::new(BSF);
    for (config, expected) in [
        (BsfConfig { algorithms: vec![], ..base.clone() }, BsfUnfit::Algorithms),
        (
            BsfConfig { algorithms: vec![of("AKAv1-MD5"), of("AKAv2-MD5")], ..base.clone() },
            BsfUnfit::Algorithms,
        ),
        (
            BsfConfig { algorithms: vec![of("AKAv1-MD5"), of("AKAv1-MD5")], ..base.clone() },
            BsfUnfit::Algorithms,
        ),
        (BsfConfig { name: "a b".into(), ..base.clone() }, BsfUnfit::Name),
        (BsfConfig { path: "x".into(), ..base.clone() }, BsfUnfit::Path),
        (BsfConfig { product: "a\r\nb".into(), ..base.clone() }, BsfUnfit::Product),
        (
            BsfConfig { key_lifetime: Duration::from_secs(59), ..base.clone() },
            BsfUnfit::KeyLifetime,
        ),
    ] {
        let result = Bsf::new(config, vec![], vec![], [0; 32]);
        assert_eq!(result.err(), Some(expected));
    }
}

/// The realm may be the home domain instead of the server's name; the B-TID keeps the server's name.
#[test]
fn realm_may_be_the_home_domain() {
    let config = BsfConfig { realm: Realm::new("home1.net"), ..BsfConfig::new(BSF) };
    let done = world_of(config, subscriber(Sqn::default())).run(None).expect("a run");
    assert_eq!(done.btid.bsf(), BSF);
}

/// Clause 5.3.2: a card of GBA_U takes AUTN* and no plain AUTN; a card of GBA_ME the other way round.
#[test]
fn gba_u() {
    for (network, card, ends_well) in [
        (Card::GbaU, Card::GbaU, true),
        (Card::Gba, Card::Gba, true),
        (Card::GbaU, Card::Gba, false),
        (Card::Gba, Card::GbaU, false),
    ] {
        let own = Subscriber { card: network, ..subscriber(Sqn::default()) };
        let mut world = world_of(BsfConfig::new(BSF), own);
        world.card = std::mem::replace(&mut world.card, nobodys_card()).with_card(card);
        assert_eq!(world.run(None).is_ok(), ends_well, "{network:?} {card:?}");
    }
}

/// The written sequence number runs ahead of the used one, so a crash never makes the network repeat one.
#[test]
fn sequence_numbers_outlive_a_crash() {
    let mut world = world();
    assert!(world.bsf.sqn_due(), "nothing vouched yet");
    let written = world.bsf.sqn_reserve();
    world.bsf.sqn_reserved(&written);
    assert!(!world.bsf.sqn_due());
    world.run(None).expect("a run");
    // A crash: the server comes back with what was written.
    let reborn = subscriber(Sqn::new(written[0].1, 0));
    let mut after = World { card: world.card, ..world_of(BsfConfig::new(BSF), reborn) };
    after.run(None).expect("the card takes it at once");
    assert_eq!(after.seen, [UbOutcome::Challenged, UbOutcome::Bootstrapped]);
}

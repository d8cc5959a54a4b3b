//! TS 29.109 clause 5.4, Zpn over Diameter: the messages octet for octet, what each result means to a push server, and what of
//! an answer it believes.

use sipward::identity::{Impi, Ptid};
use sipward::instant::WallTime;
use sipward::keys::bootstrap::NoPush;
use sipward::keys::diameter::base::{Verdict, tell, verdict};
use sipward::keys::diameter::codec::{Fault, Message, Printed, Writer};
use sipward::keys::diameter::dictionary::{self as known, Definition};
use sipward::keys::diameter::{Local, zn, zpn};
use sipward::keys::push::p1::P1;
use sipward::keys::push::{PushAnswer, PushInfo, PushRequest};
use sipward::keys::vector::Auts;
use sipward::keys::{KsNaf, NafId, Rand, UaId};
use toml::{Table, Value};

use crate::vectors::{file, fixed, octets, text};

const NOW: WallTime = WallTime::from_unix(1_795_480_000);
const ENDS: WallTime = WallTime::from_unix(1_795_515_198);

fn local(host: &str) -> Local {
    Local {
        host: host.into(),
        realm: "home1.net".into(),
        product: "sipward".into(),
        applications: vec![known::ZN, known::ZPN],
        state_id: 1,
    }
}

fn part(name: &str) -> Table {
    let facts = file("gba_push");
    facts.get(name).and_then(Value::as_table).expect("a table").clone()
}

/// The question of the vectors.
fn question(resync: Option<(Rand, Auts)>) -> zpn::Question {
    let facts = file("gba_push");
    zpn::Question {
        session: "push.home1.net;1;1".into(),
        realm: "home1.net".into(),
        host: Some("bsf.home1.net".into()),
        request: PushRequest {
            impi: Impi::new(text(&facts, "impi")).expect("a name"),
            naf: NafId::new("push.home1.net", UaId::PUSH_LAYER),
            ptid: Ptid::new(text(&part("standard"), "ptid")).expect("a name"),
            expires: ENDS,
            resync,
        },
    }
}

/// The challenge of the vectors and the AUTS to it.
fn resync() -> Option<(Rand, Auts)> {
    let flow = file("gba_flow");
    Some((Rand(fixed(&flow, "rand")), Auts(fixed(&flow, "auts"))))
}

/// The push info of the vectors.
fn info() -> PushInfo {
    PushInfo {
        rand: Rand(fixed(&file("gba_push"), "rand")),
        key: KsNaf::new(fixed(&part("standard"), "ks_naf")),
        expires: ENDS,
        gpi: octets(&part("gpi"), "octets").into(),
    }
}

fn vector(name: &str) -> Vec<u8> {
    octets(&file("zpn_diameter"), name)
}

/// The Hop-by-Hop Identifier is the link's: that of the vectors is put in.
fn with_hop(mut printed: Printed) -> Vec<u8> {
    printed[12..16].copy_from_slice(&0x1001_u32.to_be_bytes());
    printed.to_vec()
}

fn word(answer: &PushAnswer) -> &'static str {
    match answer {
        PushAnswer::Known(_) => "known",
        PushAnswer::Unknown => "unknown",
        PushAnswer::Forbidden => "forbidden",
        PushAnswer::AutsWrong => "auts wrong",
        PushAnswer::Unavailable => "unavailable",
    }
}

/// What a push server makes of an answer to the question of the vectors.
fn told(octets: &[u8]) -> PushAnswer {
    question(None).answer(octets, &P1, NOW)
}

/// The same message with each AVP of that definition changed to these, or left out.
fn edited(octets: &[u8], of: &Definition, values: &[&[u8]]) -> Printed {
    let message = Message::parse(octets).expect("a message");
    let mut writer = Writer::new(message.header);
    for avp in message.avps() {
        let definition = known::find(avp.code, avp.vendor).expect("known");
        if definition == of {
            for value in values {
                writer.put(definition, value);
            }
        } else {
            writer.put(definition, avp.value);
        }
    }
    writer.finish()
}

#[test]
fn clause_5_4_a_request_octet_for_octet() {
    let (push, bsf) = (local("push.home1.net"), local("bsf.home1.net"));
    for (name, asked, resync) in [
        ("gpr", question(None), None),
        ("gpr_resync", question(resync()), resync()),
        // In the application of Zn, as some have it; of features and services none is refused.
        ("gpr_of_zn", question(None), None),
        ("gpr_features", question(None), None),
    ] {
        if name == "gpr" || resync.is_some() {
            assert_eq!(with_hop(asked.print(&push, 0x2002)), vector(name), "{name}");
        }
        let octets = vector(name);
        let message = Message::parse(&octets).expect("a message");
        assert_eq!(message.all_known(), Ok(()), "{name}");
        let read = zpn::request(&message, &bsf).expect("to us");
        assert_eq!((read.host, read.names_subscriber), ("push.home1.net", true), "{name}");
        assert_eq!(read.request, asked.request, "{name}");
    }
}

#[test]
fn clause_5_4_an_answer_octet_for_octet() {
    let bsf = local("bsf.home1.net");
    let paced = NoPush::Paced(std::time::Duration::from_secs(1));
    for (request, found, answer) in [
        ("gpr", Ok(&info()), "gpa"),
        ("gpr_of_zn", Ok(&info()), "gpa_of_zn"),
        // GPL_U is not offered, and nothing else.
        ("gpr_features", Ok(&info()), "gpa"),
        ("gpr", Err(NoPush::Unknown), "gpa_unknown_5401"),
        ("gpr", Err(NoPush::NotAuthorised), "gpa_not_authorised_5402"),
        ("gpr_resync", Err(NoPush::AutsWrong), "gpa_auts_4001"),
        ("gpr", Err(paced), "gpa_paced_5012"),
    ] {
        let octets = vector(request);
        let message = Message::parse(&octets).expect("a message");
        let asked = zpn::request(&message, &bsf).expect("to us");
        let printed = zpn::answer(&bsf, &message, &asked, found, NOW);
        assert_eq!(printed.to_vec(), vector(answer), "{request}, {answer}");
    }
    for refusal in [NoPush::Spent, NoPush::Unavailable] {
        let octets = vector("gpr");
        let message = Message::parse(&octets).expect("a message");
        let asked = zpn::request(&message, &bsf).expect("to us");
        let printed = zpn::answer(&bsf, &message, &asked, Err(refusal), NOW);
        let answer = Message::parse(&printed).expect("a message");
        assert_eq!(verdict(&answer), Ok(Verdict::Base(known::UNABLE_TO_COMPLY)), "{refusal:?}");
        assert_eq!(answer.avps().one(&known::ME_KEY_MATERIAL), Ok(None), "no key with a no");
    }
}

#[test]
fn clause_5_4_what_a_push_server_learns() {
    for name in ["gpa", "gpa_of_zn"] {
        let PushAnswer::Known(read) = told(&vector(name)) else { panic!("{name}") };
        let own = info();
        assert_eq!((read.rand, read.key.expose()), (own.rand, own.key.expose()), "{name}");
        assert_eq!((read.expires, read.gpi), (own.expires, own.gpi), "{name}");
    }
    // Without a word about the subscriber, as the server may have it: who the key is for shows at the UE.
    let nameless = edited(&vector("gpa"), &known::USER_NAME, &[]);
    assert_eq!(word(&told(&nameless)), "known");
    assert_eq!(word(&told(&vector("gpa_unknown_5401"))), "unknown");
    assert_eq!(word(&told(&vector("gpa_not_authorised_5402"))), "forbidden");
    assert_eq!(word(&told(&vector("gpa_paced_5012"))), "unavailable");
    let wrong = vector("gpa_auts_4001");
    assert_eq!(word(&question(resync()).answer(&wrong, &P1, NOW)), "auts wrong");
    assert_eq!(word(&told(&wrong)), "unavailable", "there was no AUTS");
}

#[test]
fn clause_6_2_results_of_push_become_answers() {
    use Verdict::{Base, Experimental};
    let octets = vector("gpa");
    let gpa = Message::parse(&octets).expect("a message");
    for (said, expected) in [
        (Base(known::SUCCESS), "known"),
        (Experimental(known::IDENTITY_UNKNOWN), "unknown"),
        (Experimental(known::NOT_AUTHORIZED), "forbidden"),
        // There is no B-TID to be unknown.
        (Experimental(known::BTID_INVALID), "unavailable"),
        (Experimental(5999), "unavailable"),
        (Experimental(known::SUCCESS), "unavailable"),
        (Base(known::IDENTITY_UNKNOWN), "unavailable"),
        (Base(known::NOT_AUTHORIZED), "unavailable"),
        (Base(2002), "unavailable"),
        (Base(known::AUTHORIZATION_REJECTED), "unavailable"),
        (Base(known::TOO_BUSY), "unavailable"),
    ] {
        let mut writer = Writer::new(gpa.header);
        for avp in gpa.avps() {
            let definition = known::find(avp.code, avp.vendor).expect("known");
            if *definition == known::RESULT_CODE {
                tell(&mut writer, said);
            } else {
                writer.put(definition, avp.value);
            }
        }
        assert_eq!(word(&told(&writer.finish())), expected, "{said:?}");
    }
}

/// V-31: of a server that lies comes no key; nor of one whose answer is cut off, or has something twice.
#[test]
fn clause_5_4_what_a_server_says_is_checked() {
    let octets = vector("gpa");
    let gpi = part_of_gpi(|_| {});
    let isim = part_of_gpi(|gpi| gpi[1] = 1);
    let version = part_of_gpi(|gpi| gpi[0] = 0x20);
    let half = part_of_gpi(|gpi| gpi.truncate(80));
    let end = |unix: u64| u32::try_from(unix + 2_208_988_800).expect("before 2036").to_be_bytes();
    let (past, far) = (end(NOW.as_unix()), end(ENDS.as_unix() + 1));
    let lies: [(&str, &Definition, &[&[u8]]); 20] = [
        ("another session", &known::SESSION_ID, &[b"push.home1.net;1;2"]),
        ("no session", &known::SESSION_ID, &[]),
        ("no result", &known::RESULT_CODE, &[]),
        ("another subscriber", &known::USER_NAME, &[b"user2_private@home1.net"]),
        ("no key", &known::ME_KEY_MATERIAL, &[]),
        ("a short key", &known::ME_KEY_MATERIAL, &[&[7; 31]]),
        ("a long key", &known::ME_KEY_MATERIAL, &[&[7; 33]]),
        ("two keys", &known::ME_KEY_MATERIAL, &[&[7; 32], &[8; 32]]),
        ("no end", &known::KEY_EXPIRY_TIME, &[]),
        ("an end that is no time", &known::KEY_EXPIRY_TIME, &[b"later"]),
        ("an end that is past", &known::KEY_EXPIRY_TIME, &[&past]),
        ("an end beyond what was asked", &known::KEY_EXPIRY_TIME, &[&far]),
        ("a beginning that is no time", &known::BOOTSTRAP_INFO_CREATION_TIME, &[b"begun"]),
        ("2G", &known::GBA_TYPE, &[&[0, 0, 0, 1]]),
        ("no GPI", &known::GBA_PUSH_INFO, &[]),
        ("an empty GPI", &known::GBA_PUSH_INFO, &[b""]),
        ("two GPIs", &known::GBA_PUSH_INFO, &[&gpi, &gpi]),
        ("a GPI for the ISIM", &known::GBA_PUSH_INFO, &[&isim]),
        ("a GPI of another version", &known::GBA_PUSH_INFO, &[&version]),
        ("a GPI that is cut off", &known::GBA_PUSH_INFO, &[&half]),
    ];
    for (what, of, values) in lies {
        assert_eq!(word(&told(&edited(&octets, of, values))), "unavailable", "{what}");
    }
    for (what, of, value) in [
        ("another NAF", &known::NAF_ID, &b"other.home1.net\x01\x00\x00\x00\x05"[..]),
        ("another association", &known::NAF_SA_IDENTIFIER, b"p-0000000002"),
        ("another UE", &known::UE_ID, b"user2_private@home1.net"),
    ] {
        let message = Message::parse(&octets).expect("a message");
        let mut writer = Writer::new(message.header);
        for avp in message.avps() {
            writer.put(known::find(avp.code, avp.vendor).expect("known"), avp.value);
        }
        writer.put(of, value);
        assert_eq!(word(&told(&writer.finish())), "unavailable", "{what}");
    }
    for at in 0..octets.len() {
        assert_eq!(word(&told(&octets[..at])), "unavailable", "cut at {at}");
    }
    // The challenge that the card was out of step with is no new one.
    let again = question(Some((info().rand, Auts([0; 14]))));
    assert_eq!(word(&again.answer(&octets, &P1, NOW)), "unavailable");
    assert_eq!(word(&question(None).answer(&octets, &P1, ENDS)), "unavailable", "it is over");
}

fn part_of_gpi(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut gpi = octets(&part("gpi"), "octets");
    change(&mut gpi);
    gpi
}

#[test]
fn clause_5_4_a_request_that_lacks_something_is_refused_by_name() {
    let bsf = local("bsf.home1.net");
    let refused = |name: &str, of: &Definition, values: &[&[u8]]| {
        let printed = edited(&vector(name), of, values);
        let message = Message::parse(&printed).expect("whole");
        zpn::request(&message, &bsf).map(|_| ())
    };
    for needed in [
        &known::SESSION_ID,
        &known::ORIGIN_HOST,
        &known::ORIGIN_REALM,
        &known::DESTINATION_REALM,
        &known::UE_ID,
        &known::UE_ID_TYPE,
        &known::UICC_APP_LABEL,
        &known::NAF_ID,
        &known::UICC_ME,
        &known::REQUESTED_KEY_LIFETIME,
        &known::NAF_SA_IDENTIFIER,
    ] {
        let missing = Err(Fault::about(known::MISSING_AVP, needed));
        assert_eq!(refused("gpr", needed, &[]), missing, "{}", needed.name);
    }
    for may_lack in [&known::GBA_U_AWARENESS_INDICATOR, &known::PRIVATE_IDENTITY_REQUEST] {
        assert_eq!(refused("gpr", may_lack, &[]), Ok(()), "{}", may_lack.name);
        let twice = Err(Fault::about(known::AVP_OCCURS_TOO_OFTEN, may_lack));
        assert_eq!(refused("gpr", may_lack, &[&[0; 4], &[0; 4]]), twice, "{}", may_lack.name);
    }
    let two: &[u8] = &[0, 0, 0, 2];
    for (of, value) in [
        (&known::UE_ID, &b""[..]),
        (&known::UE_ID, b"\xff\xfe"),
        (&known::UE_ID_TYPE, two),
        (&known::UICC_APP_LABEL, b""),
        (&known::UICC_ME, two),
        (&known::GBA_U_AWARENESS_INDICATOR, two),
        (&known::PRIVATE_IDENTITY_REQUEST, two),
        (&known::NAF_ID, b"naf"),
        (&known::NAF_SA_IDENTIFIER, b""),
    ] {
        let wrong = Err(Fault::about(known::INVALID_AVP_VALUE, of));
        assert_eq!(refused("gpr", of, &[value]), wrong, "{} {value:?}", of.name);
    }
    let short = Err(Fault::about(known::INVALID_AVP_LENGTH, &known::REQUESTED_KEY_LIFETIME));
    assert_eq!(refused("gpr", &known::REQUESTED_KEY_LIFETIME, &[b"now"]), short);
    let elsewhere = Err(Fault::plain(known::UNABLE_TO_DELIVER));
    assert_eq!(refused("gpr", &known::DESTINATION_HOST, &[b"bsf2.home1.net"]), elsewhere);
    assert_eq!(refused("gpr", &known::DESTINATION_REALM, &[b"home2.net"]), elsewhere);
    let no_auts = Err(Fault::about(known::MISSING_AVP, &known::SIP_AUTHORIZATION));
    assert_eq!(refused("gpr_resync", &known::SIP_AUTH_DATA_ITEM, &[b""]), no_auts);
    for length in [0, 16, 29, 31] {
        let mut writer = Writer::new(Message::parse(&vector("gpr")).expect("a message").header);
        writer.put(&known::SIP_AUTHORIZATION, &vec![7; length]);
        let item = writer.finish()[20..].to_vec();
        let wrong = Err(Fault::about(known::INVALID_AVP_VALUE, &known::SIP_AUTHORIZATION));
        let said = refused("gpr_resync", &known::SIP_AUTH_DATA_ITEM, &[&item]);
        assert_eq!(said, wrong, "{length} octets");
    }
    let services = vec![&b"0"[..]; zn::SERVICES_MAX + 1];
    let many = Err(Fault::about(known::AVP_OCCURS_TOO_OFTEN, &known::GAA_SERVICE_IDENTIFIER));
    assert_eq!(refused("gpr_features", &known::GAA_SERVICE_IDENTIFIER, &services), many);
    // Well formed, and not made here: the AVP says what.
    let one: &[u8] = &[0, 0, 0, 1];
    for (of, value) in
        [(&known::UE_ID_TYPE, one), (&known::UICC_APP_LABEL, b"ISIM"), (&known::UICC_ME, one)]
    {
        let unmade = Err(Fault::about(known::UNABLE_TO_COMPLY, of));
        assert_eq!(refused("gpr", of, &[value]), unmade, "{}", of.name);
    }
    assert_eq!(refused("gpr", &known::UICC_APP_LABEL, &[b"usim"]), Ok(()));
}

/// Clause 6.3: the subscriber is named to whom asks for that.
#[test]
fn clause_6_3_private_identities_are_told_on_request() {
    let bsf = local("bsf.home1.net");
    for (values, named) in
        [(vec![&[0, 0, 0, 0][..]], true), (vec![&[0, 0, 0, 1][..]], false), (vec![], false)]
    {
        let printed = edited(&vector("gpr"), &known::PRIVATE_IDENTITY_REQUEST, &values);
        let message = Message::parse(&printed).expect("whole");
        let asked = zpn::request(&message, &bsf).expect("to us");
        let answer = zpn::answer(&bsf, &message, &asked, Ok(&info()), NOW);
        let answer = Message::parse(&answer).expect("a message");
        let name = answer.avps().one(&known::USER_NAME).expect("at most one");
        assert_eq!(name.is_some(), named, "{values:?}");
    }
}

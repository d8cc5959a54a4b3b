//! A Diameter link does the same however its octets are cut, holds no more than one message, and prints what it read.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sipward::identity::{Btid, Impi, Ptid};
use sipward::instant::{Instant, WallTime};
use sipward::keys::diameter::codec::{AVPS_MAX, MESSAGE_MAX, Message, Writer, frame};
use sipward::keys::diameter::dictionary::{Definition, Kind, ZH, ZN, ZPN};
use sipward::keys::diameter::link::{Input, Link, Output, Pace};
use sipward::keys::diameter::zn::{Question, ServiceForm};
use sipward::keys::diameter::{Local, zh, zn, zpn};
use sipward::keys::push::p1::P1;
use sipward::keys::push::{PushAnswer, PushRequest};
use sipward::keys::vector::Auts;
use sipward::keys::{KeyAnswer, NafId, Rand, UaId};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Messages that inputs begin from.
const SEEDS: [&str; 2] = [
    include_str!("../../sip-fixtures/vectors/zn_diameter.toml"),
    include_str!("../../sip-fixtures/vectors/zpn_diameter.toml"),
];

fn local(host: &str) -> Arc<Local> {
    Arc::new(Local {
        host: host.into(),
        realm: "home1.net".into(),
        product: "x".into(),
        applications: vec![ZN, ZPN, ZH],
        state_id: 1,
    })
}

/// The seed of that number: a message of the vectors, or one of the base protocol.
fn seed(number: u8) -> Vec<u8> {
    let naf = local("naf1.home1.net");
    let lines = SEEDS.iter().flat_map(|file| file.lines());
    let rows = lines.filter_map(|line| line.split_once(" = \"")?.1.strip_suffix('"'));
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let mut seeds: Vec<Vec<u8>> = rows
        .map(|row| row.as_bytes().chunks(2).map(|pair| octet(pair).expect("hex")).collect())
        .collect();
    seeds.extend([naf.cer(OWN, 1, 1), naf.dwr(2, 2), naf.dpr(3, 3)].map(|it| it.to_vec()));
    seeds.push(Vec::new());
    seeds.swap_remove(usize::from(number) % seeds.len())
}

/// What an open link does with these octets, cut into pieces of `step`.
fn does(octets: &[u8], step: usize) -> Vec<(String, Vec<u8>)> {
    let now = Instant::START;
    let expected = vec!["naf1.home1.net".into()];
    let pace = Pace::default();
    let mut link = Link::accepted(local("bsf.home1.net"), OWN, expected, pace, (1, 1), now);
    let mut did = Vec::new();
    let cer = local("naf1.home1.net").cer(OWN, 1, 1);
    for piece in std::iter::once(&cer[..]).chain(octets.chunks(step)) {
        let ended = link.handle(Input::Octets(piece), now).is_err();
        while let Some(output) = link.poll_output() {
            let octets = match &output {
                Output::Send(octets) | Output::Request(octets) => octets.to_vec(),
                _ => Vec::new(),
            };
            did.push((format!("{output:?}"), octets));
        }
        assert_eq!(link.outstanding(), 0, "nothing was asked");
        if ended {
            break;
        }
    }
    did
}

fn push_question(request: PushRequest) -> zpn::Question {
    let session = "push.home1.net;1;1".into();
    zpn::Question { session, realm: "home1.net".into(), host: None, request }
}

fuzz_target!(|input: (u8, u8, Vec<(u16, u8)>, Vec<u8>)| {
    let (number, step, edits, more) = input;
    let mut octets = seed(number);
    for (at, octet) in edits {
        let length = octets.len().max(1);
        if let Some(place) = octets.get_mut(usize::from(at) % length) {
            *place ^= octet;
        }
    }
    octets.extend(more);
    let whole = octets.len().max(1);
    assert_eq!(does(&octets, whole), does(&octets, usize::from(step).max(1)));
    let _ = frame(&octets);
    let Ok(message) = Message::parse(&octets) else { return };
    assert!(octets.len() <= MESSAGE_MAX && message.avps().into_iter().count() <= AVPS_MAX);
    let mut writer = Writer::new(message.header);
    for avp in message.avps() {
        let (code, vendor, mandatory) = (avp.code, avp.vendor, avp.mandatory);
        writer
            .put(&Definition { code, vendor, name: "", kind: Kind::Octets, mandatory }, avp.value);
    }
    let printed = writer.finish();
    let again = Message::parse(&printed).expect("as it was read");
    assert_eq!(again.header, message.header);
    assert!(again.avps().into_iter().eq(message.avps()));
    let _ = zn::request(&message, &local("bsf.home1.net"));
    let _ = zh::request(&message, &local("bsf.home1.net"));
    let question = Question {
        session: "naf1.home1.net;1;1".into(),
        realm: "home1.net".into(),
        host: None,
        btid: Btid::new("x@bsf.home1.net").expect("a name"),
        naf: NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST),
        services: Vec::new(),
        form: ServiceForm::Text,
    };
    let answer = question.answer(&octets, WallTime::from_unix(1_795_480_000));
    assert!(!matches!(answer, KeyAnswer::Ask));
    let asked = zpn::request(&message, &local("bsf.home1.net"));
    let spelt_once = |naf: &NafId| NafId::from_octets(&naf.octets()).as_ref() == Some(naf);
    if let Some(asked) = asked.ok().filter(|asked| spelt_once(&asked.request.naf)) {
        // What was read is asked again as it was.
        let question = push_question(asked.request.clone());
        let printed = question.print(&local("push.home1.net"), 1);
        let again = Message::parse(&printed).expect("as it was printed");
        let again = zpn::request(&again, &local("bsf.home1.net")).expect("to us");
        assert_eq!(again.request, asked.request);
    }
    let challenge = (Rand([7; 16]), Auts([7; 14]));
    for resync in [None, Some(challenge)] {
        let question = push_question(PushRequest {
            impi: Impi::new("user1_private@home1.net").expect("a name"),
            naf: NafId::new("push.home1.net", UaId::PUSH_LAYER),
            ptid: Ptid::new("p-0000000001").expect("a name"),
            expires: WallTime::from_unix(1_795_515_198),
            resync,
        });
        let now = WallTime::from_unix(1_795_480_000);
        if let PushAnswer::Known(info) = question.answer(&octets, &P1, now) {
            assert!(info.expires > now && info.expires <= question.request.expires);
            assert!(resync.is_none_or(|(rand, _)| rand != info.rand));
        }
    }
});

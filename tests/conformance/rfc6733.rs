//! RFC 6733, the Diameter base protocol, and RFC 3539, its watchdog: clause by clause, in virtual time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use sipward::identity::Btid;
use sipward::instant::Instant;
use sipward::keys::bootstrap::NafRefusal;
use sipward::keys::diameter::base::{Verdict, capabilities, verdict};
use sipward::keys::diameter::client::{self, Client, REDIAL_MAX};
use sipward::keys::diameter::codec::{
    self, ERROR, Fault, Header, Message, PROXIABLE, Printed, REQUEST, RETRANSMITTED, Writer,
};
use sipward::keys::diameter::dictionary::{self as known, Definition, Kind};
use sipward::keys::diameter::link::{End, Input, Link, Output, Pace, Ticket};
use sipward::keys::diameter::zn::ServiceForm;
use sipward::keys::diameter::{Local, zn};
use sipward::keys::{NafId, UaId};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PACE: Pace = Pace {
    watchdog: Duration::from_secs(30),
    answer: Duration::from_secs(4),
    greeting: Duration::from_secs(5),
    outstanding: 3,
};

fn local(host: &str) -> Arc<Local> {
    Arc::new(Local {
        host: host.into(),
        realm: "example.net".into(),
        product: "sipward".into(),
        applications: vec![known::ZN],
        state_id: 7,
    })
}

fn at(seconds: u64) -> Instant {
    Instant::START + Duration::from_secs(seconds)
}

fn question(number: u32) -> Printed {
    let question = zn::Question {
        session: format!("edge.example.net;1;{number}"),
        realm: "example.net".into(),
        host: None,
        btid: Btid::new("x@bsf.example.net").expect("a name"),
        naf: NafId::new("naf.example.net", UaId::SIP_DIGEST),
        services: vec![],
        form: ServiceForm::Text,
    };
    question.print(&local("edge.example.net"), number)
}

fn answer_to(request: &[u8]) -> Printed {
    let message = Message::parse(request).expect("a request");
    zn::answer(&local("bsf.example.net"), &message, &[], Err(NafRefusal::UnknownBtid))
}

/// What a link wants done, told in short.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    /// A message of that command went out, a request or an answer.
    Sent(u32, bool),
    Open,
    Silent,
    Speaks,
    Asked,
    Answered(u64),
    Unanswered(u64),
    Closed(End),
}

/// One end, and what it sent last.
struct Side {
    link: Link,
    sent: Vec<Printed>,
}

impl Side {
    fn dialled() -> Self {
        let (local, seed) = (local("edge.example.net"), (100, 200));
        let link = Link::dialled(local, OWN, "bsf.example.net".into(), PACE, seed, at(0));
        Self { link, sent: vec![] }
    }

    fn accepted() -> Self {
        let (local, expected) = (local("bsf.example.net"), vec!["edge.example.net".into()]);
        let link = Link::accepted(local, OWN, expected, PACE, (300, 400), at(0));
        Self { link, sent: vec![] }
    }

    /// Both ends, open.
    fn both() -> (Self, Self) {
        let (mut edge, mut bsf) = (Self::dialled(), Self::accepted());
        assert_eq!(edge.did(), [Did::Sent(257, true)]);
        let cer = edge.sent.remove(0);
        assert_eq!(bsf.hears(&cer, at(0)), [Did::Sent(257, false), Did::Open]);
        let cea = bsf.sent.remove(0);
        assert_eq!(edge.hears(&cea, at(0)), [Did::Open]);
        (edge, bsf)
    }

    fn did(&mut self) -> Vec<Did> {
        let mut did = Vec::new();
        while let Some(output) = self.link.poll_output() {
            did.push(match output {
                Output::Send(octets) => {
                    let header = codec::header(&octets).expect("a message");
                    self.sent.push(octets);
                    Did::Sent(header.command, header.is_request())
                }
                Output::Open(_) => Did::Open,
                Output::Silent => Did::Silent,
                Output::Speaks => Did::Speaks,
                Output::Request(_) => Did::Asked,
                Output::Answered(Ticket(number), _) => Did::Answered(number),
                Output::Unanswered(Ticket(number)) => Did::Unanswered(number),
                Output::Close(end) => Did::Closed(end),
            });
        }
        did
    }

    fn hears(&mut self, octets: &[u8], now: Instant) -> Vec<Did> {
        let _ended = self.link.handle(Input::Octets(octets), now);
        self.did()
    }

    fn tick(&mut self, now: Instant) -> Vec<Did> {
        let _ended = self.link.handle(Input::Tick, now);
        self.did()
    }

    fn ask(&mut self, number: u32, now: Instant) -> Vec<Did> {
        let (ticket, octets) = (Ticket(number.into()), question(number));
        let _ended = self.link.handle(Input::Request { ticket, octets, again: false }, now);
        self.did()
    }

    /// The Result-Code of what was sent last.
    fn said(&mut self) -> Verdict {
        let octets = self.sent.pop().expect("something");
        verdict(&Message::parse(&octets).expect("a message")).expect("a verdict")
    }
}

#[test]
fn section_3_the_header_octet_for_octet() {
    let printed = local("edge.example.net").dwr(0x0102_0304, 0x0506_0708);
    assert_eq!(printed.get(..8), Some(&[1, 0, 0, 76, 0x80, 0, 1, 24][..]));
    assert_eq!(printed.get(8..20), Some(&[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..]));
    let header = codec::header(&printed).expect("a header");
    let expected =
        Header { flags: REQUEST, command: 280, application: 0, hop: 0x0102_0304, end: 0x0506_0708 };
    assert_eq!(header, expected);
}

/// An answer has the identifiers of its request, its P bit, and neither R nor T.
#[test]
fn section_3_and_6_2_flags_of_an_answer() {
    let header = Header {
        flags: REQUEST | PROXIABLE | RETRANSMITTED,
        command: 310,
        application: known::ZN,
        hop: 1,
        end: 2,
    };
    assert_eq!(header.answer(), Header { flags: PROXIABLE, ..header });
    // The E bit goes with errors of the protocol alone.
    let bsf = local("bsf.example.net");
    for (code, error) in [(3001, true), (3007, true), (5001, false), (4001, false)] {
        let printed = bsf.refuse(&header, None, Fault::plain(code));
        let flags = codec::header(&printed).expect("a header").flags;
        assert_eq!(flags & ERROR != 0, error, "{code}");
    }
}

#[test]
fn section_4_1_an_avp_octet_for_octet() {
    let mut writer = Writer::new(Header { flags: 0, command: 1, application: 0, hop: 0, end: 0 });
    writer.text(&known::USER_NAME, "abcde").put(&known::NAF_ID, b"x");
    let printed = writer.finish();
    let plain = [0, 0, 0, 1, 0x40, 0, 0, 13, b'a', b'b', b'c', b'd', b'e', 0, 0, 0];
    let vendor = [0, 0, 1, 0x92, 0xc0, 0, 0, 13, 0, 0, 0x28, 0xaf, b'x', 0, 0, 0];
    assert_eq!(printed.get(20..36), Some(&plain[..]));
    assert_eq!(printed.get(36..), Some(&vendor[..]));
}

/// The M bit of an AVP that nobody knows refuses the message; without it the AVP is passed over.
#[test]
fn section_4_1_the_m_bit() {
    for (mandatory, refused) in [(true, true), (false, false)] {
        let (_, mut bsf) = Side::both();
        let octets = question(1);
        let message = Message::parse(&octets).expect("a request");
        let mut writer = Writer::new(message.header);
        for avp in message.avps() {
            writer.put(known::find(avp.code, avp.vendor).expect("known"), avp.value);
        }
        let odd = Definition { code: 4242, vendor: 9, name: "", kind: Kind::Octets, mandatory };
        writer.put(&odd, b"?");
        let did = bsf.hears(&writer.finish(), at(1));
        if refused {
            assert_eq!(did, [Did::Sent(310, false)]);
            let octets = bsf.sent.last().expect("an answer").clone();
            let answer = Message::parse(&octets).expect("a message");
            let failed = answer.avps().need(&known::FAILED_AVP).expect("the one to blame");
            let inside = failed.group().expect("whole").into_iter().next().expect("it");
            assert_eq!((inside.code, inside.vendor), (4242, 9));
            assert_eq!(bsf.said(), Verdict::Base(known::AVP_UNSUPPORTED));
        } else {
            assert_eq!(did, [Did::Asked]);
        }
    }
}

#[test]
fn section_5_3_capabilities_are_exchanged_before_anything_else() {
    let (mut edge, mut bsf) = Side::both();
    assert!(edge.link.is_open() && bsf.link.is_open());
    let cer = Side::dialled().link.poll_output();
    let Some(Output::Send(cer)) = cer else { panic!("CER goes first") };
    let of = capabilities(&Message::parse(&cer).expect("a message")).expect("whole");
    assert_eq!((&*of.host, &*of.realm), ("edge.example.net", "example.net"));
    assert_eq!(of.applications, [known::ZN]);
    // Once it is open, they may be told again: nothing has changed.
    assert_eq!(bsf.hears(&cer, at(1)), [Did::Sent(257, false)]);
    // Anything else before is the end.
    let mut early = Side::accepted();
    let end = End::NotGreeted(known::COMMAND_UNSUPPORTED);
    assert_eq!(early.hears(&question(1), at(0)), [Did::Closed(end)]);
    let mut early = Side::dialled();
    early.did();
    assert_eq!(early.hears(&answer_to(&question(1)), at(0)).len(), 1);
    assert!(!early.link.is_open());
    assert_eq!(edge.tick(at(1)), []);
}

#[test]
fn section_5_3_strangers_and_peers_without_a_common_application_are_refused() {
    for (host, applications, code) in [
        ("other.example.net", vec![known::ZN], known::UNKNOWN_PEER),
        ("edge.example.net", vec![known::ZH], known::NO_COMMON_APPLICATION),
        ("edge.example.net", vec![], known::NO_COMMON_APPLICATION),
    ] {
        let caller = Local { applications, ..Local::clone(&local(host)) };
        let mut bsf = Side::accepted();
        let did = bsf.hears(&caller.cer(OWN, 1, 1), at(0));
        assert_eq!(did, [Did::Sent(257, false), Did::Closed(End::NotGreeted(code))], "{host}");
        assert_eq!(bsf.said(), Verdict::Base(code));
    }
    // An agent that passes on whatever comes speaks all of them.
    let relay =
        Local { applications: vec![known::RELAY], ..Local::clone(&local("edge.example.net")) };
    assert!(Side::accepted().hears(&relay.cer(OWN, 1, 1), at(0)).contains(&Did::Open));
    // A name is compared without regard to case.
    assert!(
        Side::accepted()
            .hears(&local("EDGE.Example.NET").cer(OWN, 1, 1), at(0))
            .contains(&Did::Open)
    );
    // The other way round: who answers must be who was dialled.
    let mut edge = Side::dialled();
    edge.did();
    let cer = edge.link.poll_timeout();
    assert_eq!(cer, Some(at(5)), "not for long");
    let header = Header { flags: REQUEST, command: 257, application: 0, hop: 101, end: 201 };
    let cea = local("other.example.net").cea(&header, OWN, known::SUCCESS);
    let end = End::NotGreeted(known::UNKNOWN_PEER);
    assert_eq!(edge.hears(&cea, at(0)), [Did::Closed(end)]);
    let mut edge = Side::dialled();
    edge.did();
    let end = End::NotGreeted(known::UNABLE_TO_DELIVER);
    assert_eq!(edge.tick(at(5)), [Did::Closed(end)], "nobody answered");
}

#[test]
fn section_5_4_a_parting_ends_a_link_from_either_side() {
    let (mut edge, mut bsf) = Side::both();
    edge.ask(1, at(1));
    edge.link.handle(Input::Stop, at(1)).expect("a parting");
    assert_eq!(edge.did(), [Did::Unanswered(1), Did::Sent(282, true)]);
    let dpr = edge.sent.pop().expect("DPR");
    let parted = [Did::Sent(282, false), Did::Closed(End::ByPeer)];
    assert_eq!(bsf.hears(&dpr, at(1)), parted);
    assert_eq!(edge.ask(2, at(1)), [Did::Unanswered(2)], "nothing new");
    let dpa = bsf.sent.pop().expect("DPA");
    assert_eq!(edge.hears(&dpa, at(1)), [Did::Closed(End::Stopped)]);
    assert!(edge.link.handle(Input::Tick, at(2)).is_err(), "over");
    assert_eq!(edge.link.poll_timeout(), None);
    // One that does not answer is not waited for without end.
    let (mut edge, _) = Side::both();
    edge.link.handle(Input::Stop, at(1)).expect("a parting");
    edge.did();
    assert_eq!(edge.tick(at(6)), [Did::Closed(End::Stopped)]);
}

/// RFC 3539 section 3.4.1: DWR after Tw of silence; suspect after Tw without DWA; down after Tw more.
#[test]
fn section_5_5_the_watchdog() {
    let (mut edge, mut bsf) = Side::both();
    assert_eq!(edge.link.poll_timeout(), Some(at(30)));
    assert_eq!(edge.tick(at(29)), []);
    assert_eq!(edge.tick(at(30)), [Did::Sent(280, true)]);
    let dwr = edge.sent.pop().expect("DWR");
    assert_eq!(bsf.hears(&dwr, at(30)), [Did::Sent(280, false)]);
    let dwa = bsf.sent.pop().expect("DWA");
    assert_eq!(edge.hears(&dwa, at(31)), []);
    assert_eq!(edge.link.poll_timeout(), Some(at(61)), "it lives");
    // Whatever comes puts the watchdog off, but is no answer to it.
    assert_eq!(edge.tick(at(61)), [Did::Sent(280, true)]);
    edge.ask(1, at(62));
    assert_eq!(edge.tick(at(66)), [Did::Unanswered(1)]);
    edge.ask(2, at(90));
    assert_eq!(edge.tick(at(91)), [Did::Silent, Did::Unanswered(2)]);
    assert!(!edge.link.is_open());
    assert_eq!(edge.ask(3, at(92)), [Did::Unanswered(3)], "requests go elsewhere");
    // It speaks after all.
    assert_eq!(edge.hears(&dwr_of_bsf(), at(95)), [Did::Speaks, Did::Sent(280, false)]);
    assert!(edge.link.is_open());
    // And then no more.
    assert_eq!(edge.tick(at(125)), [Did::Sent(280, true)]);
    assert_eq!(edge.tick(at(155)), [Did::Silent]);
    assert_eq!(edge.tick(at(185)), [Did::Closed(End::Silent)]);
}

fn dwr_of_bsf() -> Printed {
    local("bsf.example.net").dwr(9, 9)
}

/// Octets that are no Diameter end the link, since nobody knows where the next message begins.
#[test]
fn section_5_6_octets_that_are_no_message() {
    for (octets, code) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], known::UNSUPPORTED_VERSION),
        (&[1, 0, 0, 19, 0x80, 0, 1, 24], known::INVALID_MESSAGE_LENGTH),
        (&[1, 0xff, 0xff, 0xfc, 0x80, 0, 1, 24], known::INVALID_MESSAGE_LENGTH),
        (&[1, 0, 0, 21, 0x80, 0, 1, 24], known::INVALID_MESSAGE_LENGTH),
    ] {
        let (mut edge, _) = Side::both();
        edge.ask(1, at(1));
        let ended = [Did::Unanswered(1), Did::Closed(End::Malformed(code))];
        assert_eq!(edge.hears(octets, at(1)), ended, "{octets:?}");
    }
    // A message in pieces is one message, and two in one piece are two.
    let (mut edge, mut bsf) = Side::both();
    let (one, two) = (question(1), question(2));
    for octet in one.iter().take(one.len() - 1) {
        assert_eq!(bsf.hears(&[*octet], at(1)), []);
    }
    let rest = [&one[one.len() - 1..], &two[..]].concat();
    assert_eq!(bsf.hears(&rest, at(1)), [Did::Asked, Did::Asked]);
    assert_eq!(edge.tick(at(1)), []);
}

#[test]
fn section_6_1_commands_and_applications_that_are_not_spoken() {
    let (_, mut bsf) = Side::both();
    for (application, command, code) in [
        (0, 274, known::COMMAND_UNSUPPORTED),
        (known::ZH, 303, known::APPLICATION_UNSUPPORTED),
        (4, 272, known::APPLICATION_UNSUPPORTED),
    ] {
        let header = Header { flags: REQUEST, command, application, hop: 5, end: 6 };
        let mut writer = Writer::new(header);
        writer.text(&known::SESSION_ID, "a;1;1");
        assert_eq!(bsf.hears(&writer.finish(), at(1)), [Did::Sent(command, false)]);
        let octets = bsf.sent.last().expect("an answer").clone();
        let answer = Message::parse(&octets).expect("a message");
        assert_eq!((answer.header.hop, answer.header.end), (5, 6));
        let session = answer.avps().need(&known::SESSION_ID).expect("the request's");
        assert_eq!(session.value, b"a;1;1");
        assert_eq!(bsf.said(), Verdict::Base(code));
    }
    // An AVP that is not whole is told of, and the link goes on.
    let mut broken = question(1).to_vec();
    // The length of the last AVP, which is of sixteen octets.
    let length = broken.len() - 9;
    broken[length] = 0xff;
    assert_eq!(bsf.hears(&broken, at(1)), [Did::Sent(310, false)]);
    assert_eq!(bsf.said(), Verdict::Base(known::INVALID_AVP_LENGTH));
    assert_eq!(bsf.hears(&question(2), at(1)), [Did::Asked]);
}

/// Hop-by-Hop Identifiers match answers to requests; one that matches none, or is of another command, is forgotten.
#[test]
fn section_6_2_answers_find_their_requests() {
    let (mut edge, _) = Side::both();
    for number in 1..=3 {
        assert_eq!(edge.ask(number, at(1)), [Did::Sent(310, true)]);
    }
    assert_eq!(edge.ask(4, at(1)), [Did::Unanswered(4)], "no more than may be under way");
    let hops: Vec<u32> =
        edge.sent.iter().map(|octets| codec::header(octets).expect("one").hop).collect();
    assert!(hops.windows(2).all(|pair| pair[0] != pair[1]), "{hops:?}");
    let answers: Vec<Printed> = edge.sent.iter().map(|request| answer_to(request)).collect();
    assert_eq!(edge.hears(&answers[1], at(1)), [Did::Answered(2)], "in any order");
    assert_eq!(edge.hears(&answers[1], at(1)), [], "once");
    let mut other = answers[0].to_vec();
    other[15] ^= 1;
    assert_eq!(edge.hears(&other, at(1)), [], "of another hop");
    let mut other = answers[0].to_vec();
    other[19] ^= 1;
    assert_eq!(edge.hears(&other, at(1)), [], "of another end");
    let mut other = answers[0].to_vec();
    other[7] ^= 1;
    assert_eq!(edge.hears(&other, at(1)), [], "of another command");
    assert_eq!(edge.hears(&answers[0], at(1)), [Did::Answered(1)]);
    assert_eq!(edge.tick(at(5)), [Did::Unanswered(3)]);
    assert_eq!(edge.hears(&answers[2], at(5)), [], "too late");
    assert_eq!(edge.link.outstanding(), 0);
}

/// A client over two neighbours, both of whom the test plays.
struct Realm {
    client: Client,
    far: [Option<Side>; 2],
    told: Vec<(u64, bool)>,
    dialled: Vec<usize>,
    /// What each neighbour was asked, with the T bit.
    asked: [Vec<bool>; 2],
    /// Whether each neighbour answers, and with what.
    says: [Option<u32>; 2],
}

impl Realm {
    fn new() -> Self {
        let hosts = ["bsf1.example.net".into(), "bsf2.example.net".into()];
        let client = Client::new(local("edge.example.net"), &hosts, PACE, 1, at(0));
        Self {
            client,
            far: [None, None],
            told: vec![],
            dialled: vec![],
            asked: [vec![], vec![]],
            says: [Some(known::SUCCESS); 2],
        }
    }

    fn handle(&mut self, input: client::Input<'_>, now: Instant) {
        self.client.handle(input, now);
        while let Some(output) = self.client.poll_output() {
            match output {
                client::Output::Dial(place) => self.dialled.push(place),
                client::Output::Send(place, octets) => self.arrives(place, &octets, now),
                client::Output::Close(place) => self.far[place] = None,
                client::Output::Up(_) | client::Output::Down(..) => {}
                client::Output::Answer(Ticket(number), answer) => {
                    self.told.push((number, answer.is_some()));
                }
            }
        }
    }

    /// The far end of `place` takes octets, and answers as it was told to.
    fn arrives(&mut self, place: usize, octets: &[u8], now: Instant) {
        let Some(far) = &mut self.far[place] else { return };
        let _ended = far.link.handle(Input::Octets(octets), now);
        let mut back = Vec::new();
        while let Some(output) = far.link.poll_output() {
            match output {
                Output::Send(octets) => back.push(octets),
                Output::Request(octets) => {
                    let message = Message::parse(&octets).expect("a request");
                    self.asked[place].push(message.header.flags & RETRANSMITTED != 0);
                    match self.says[place] {
                        Some(known::SUCCESS) => back.push(answer_to(&octets)),
                        Some(code) => {
                            let fault = Fault::plain(code);
                            back.push(far_local(place).refuse(
                                &message.header,
                                Some(&message),
                                fault,
                            ));
                        }
                        None => {}
                    }
                }
                _ => {}
            }
        }
        for octets in back {
            self.handle(client::Input::Octets(place, &octets), now);
        }
    }

    fn up(&mut self, place: usize, now: Instant) {
        let link = Link::accepted(
            far_local(place),
            OWN,
            vec!["edge.example.net".into()],
            PACE,
            (500, 600),
            now,
        );
        self.far[place] = Some(Side { link, sent: vec![] });
        self.handle(client::Input::Dialled(place, OWN), now);
    }

    fn both_up(now: Instant) -> Self {
        let mut realm = Self::new();
        realm.handle(client::Input::Tick, now);
        assert_eq!(realm.dialled, [0, 1], "both are dialled at once");
        realm.up(0, now);
        realm.up(1, now);
        assert_eq!(realm.client.open(), 2);
        realm
    }

    fn ask(&mut self, number: u32, now: Instant) {
        self.handle(client::Input::Ask(Ticket(number.into()), question(number)), now);
    }
}

fn far_local(place: usize) -> Arc<Local> {
    local(["bsf1.example.net", "bsf2.example.net"][place])
}

#[test]
fn section_5_1_the_first_neighbour_is_asked_and_the_second_stands_in() {
    let mut realm = Realm::both_up(at(0));
    realm.ask(1, at(1));
    assert_eq!(
        (realm.told.pop(), realm.asked[0].len(), realm.asked[1].len()),
        (Some((1, true)), 1, 0)
    );
    realm.handle(client::Input::Closed(0), at(2));
    realm.ask(2, at(2));
    assert_eq!((realm.told.pop(), realm.asked[1].len()), (Some((2, true)), 1));
    realm.handle(client::Input::Tick, at(3));
    assert_eq!(realm.dialled, [0, 1, 0], "it is dialled again");
    realm.up(0, at(3));
    realm.ask(3, at(4));
    assert_eq!(
        (realm.told.pop(), realm.asked[0].len()),
        (Some((3, true)), 2),
        "and preferred again"
    );
}

/// What is under way when a neighbour fails goes to the other one with the T bit, once.
#[test]
fn section_5_5_4_failover() {
    // Its connection ends.
    let mut realm = Realm::both_up(at(0));
    realm.says[0] = None;
    realm.ask(1, at(1));
    assert_eq!(realm.told, []);
    realm.handle(client::Input::Closed(0), at(2));
    assert_eq!((&*realm.told, &*realm.asked[1]), (&[(1, true)][..], &[true][..]));
    // It takes too long.
    let mut realm = Realm::both_up(at(0));
    realm.says[0] = None;
    realm.ask(1, at(1));
    realm.handle(client::Input::Tick, at(5));
    assert_eq!((&*realm.told, &*realm.asked[1]), (&[(1, true)][..], &[true][..]));
    // It cannot deliver, or is too busy.
    for code in [known::UNABLE_TO_DELIVER, known::TOO_BUSY] {
        let mut realm = Realm::both_up(at(0));
        realm.says[0] = Some(code);
        realm.ask(1, at(1));
        assert_eq!((&*realm.told, &*realm.asked[1]), (&[(1, true)][..], &[true][..]), "{code}");
    }
    // Any other word is a word: nobody else is asked.
    let mut realm = Realm::both_up(at(0));
    realm.says[0] = Some(known::UNABLE_TO_COMPLY);
    realm.ask(1, at(1));
    assert_eq!((&*realm.told, realm.asked[1].len()), (&[(1, true)][..], 0));
}

/// V-31: two tries, and then there is no answer.
#[test]
fn section_5_5_4_no_third_try() {
    let mut realm = Realm::both_up(at(0));
    realm.says = [None, None];
    realm.ask(1, at(1));
    realm.handle(client::Input::Tick, at(5));
    assert_eq!((realm.asked[0].len(), realm.asked[1].len(), realm.told.len()), (1, 1, 0));
    realm.handle(client::Input::Tick, at(9));
    assert_eq!(realm.told, [(1, false)]);
    assert_eq!((realm.asked[0].len(), realm.asked[1].len()), (1, 1));
    assert_eq!(realm.client.outstanding(), 0);
}

#[test]
fn section_2_1_a_neighbour_is_dialled_again_with_longer_pauses() {
    let hosts = ["bsf1.example.net".into()];
    let mut client = Client::new(local("edge.example.net"), &hosts, PACE, 1, at(0));
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..8 {
        client.handle(client::Input::Tick, now);
        assert!(matches!(client.poll_output(), Some(client::Output::Dial(0))));
        client.handle(client::Input::NotDialled(0), now);
        let next = client.poll_timeout().expect("it is dialled again");
        pauses.push(next.since(now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(REDIAL_MAX.as_secs(), 30);
}

/// Before the first connection a question waits; once it is known that nobody comes, it does not.
#[test]
fn section_2_1_questions_before_the_first_connection() {
    let mut realm = Realm::new();
    realm.handle(client::Input::Tick, at(0));
    realm.ask(1, at(0));
    assert_eq!(realm.told, []);
    realm.up(1, at(1));
    assert_eq!(realm.told, [(1, true)], "as soon as one is there");

    let mut realm = Realm::new();
    realm.handle(client::Input::Tick, at(0));
    realm.ask(1, at(0));
    realm.handle(client::Input::NotDialled(0), at(1));
    assert_eq!(realm.told, [], "the other may come");
    realm.handle(client::Input::NotDialled(1), at(1));
    assert_eq!(realm.told, [(1, false)]);
    realm.ask(2, at(1));
    assert_eq!(realm.told.last(), Some(&(2, false)), "at once");

    let mut realm = Realm::new();
    realm.handle(client::Input::Tick, at(0));
    for number in 1..=4 {
        realm.ask(number, at(0));
    }
    assert_eq!(realm.told, [(4, false)], "no more than may be under way");
    realm.handle(client::Input::Tick, at(4));
    assert_eq!(realm.told, [(4, false), (1, false), (2, false), (3, false)], "nor for ever");
}

#[test]
fn section_5_4_a_client_that_stops_parts_from_all() {
    let mut realm = Realm::both_up(at(0));
    realm.says = [None, None];
    realm.ask(1, at(1));
    realm.handle(client::Input::Stop, at(2));
    assert_eq!(realm.told, [(1, false)]);
    assert!(realm.client.is_over(), "both have answered DPR");
    realm.ask(2, at(2));
    assert_eq!(realm.told.last(), Some(&(2, false)));
    assert_eq!(realm.client.poll_timeout(), None, "nobody is dialled again");
}

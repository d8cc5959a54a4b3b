//! Every fixture that a user agent could send, across an edge back to back: nothing of one side is seen on the other.
//!
//! A fixture crosses twice, from the UE to the core and from the core to the UE: as it is, if it stands outside dialogs;
//! and what it says, whatever it is, inside a call. Enablers only tell of what they would refuse, so that more crosses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sipward::identity::Impu;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::check::check;
use sipward::wire::{Field, Message, Method, Name, Span};

use crate::apart::{Apart, End, answer, at_core, hops_of, marks_of, places_of, stands_in};
use crate::b2bua::{ALICE, ALICE_VIA, BOB, CORE_VIA, alice, established, from_alice, world_of};
use crate::scene::{status_to, to_core};

const BODY: &str = "octets \u{1}\u{2}\r\n\r\n of the far side\n";
const ELSEWHERE: &str = "sip:far-phone@198.18.0.1:5099";
/// Where the UE registers: no fixture has a word of it.
const HOME: &str = "sip:home-phone@198.18.0.2:5098";

/// In place of the Via values of a request that went before.
const VIA: &[u8] = b"Via: SIP/2.0/UDP 192.0.2.99:5097;branch=z9hG4bKbefore";

/// Why a test itself leaves a fixture out.
const NO_MESSAGE: &str = "malformed";
const RESPONSE: &str = "a response";
const IN_DIALOG: &str = "inside a dialog";
const OTHER_METHOD: &str = "a method that is not bridged there";

/// Files whose messages are walked, by their names.
fn fixtures() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "sip" || ending == "dat") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures");
    for folder in ["gate", "torture", "enabler"] {
        walk(&root.join(folder), &mut found);
    }
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("below").display().to_string();
    found.into_iter().map(|path| (name(&path), path)).collect()
}

/// The octets of a fixture as a message that may be sent: words of the fixtures' own language go.
fn message_of(path: &Path) -> Option<Message> {
    let octets = fs::read(path).expect("octets");
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = octets.split_at(end);
    let lines = head.split(|octet| *octet == b'\n').map(|line| match line.trim_ascii_end() {
        b"Via: @vias" | b"Via: @vias-ue" => VIA,
        line => line,
    });
    let lines: Vec<&[u8]> = lines.filter(|line| !line.windows(3).any(|at| at == b": @")).collect();
    let octets = [&lines.join(&b"\r\n"[..]), body].concat();
    Message::from_datagram(octets.into()).ok().filter(|message| check(message).is_ok())
}

/// The message of a fixture if it is to cross; or why it is not.
fn message_that(
    path: &Path,
    stays: fn(&Message) -> Option<&'static str>,
) -> Result<Message, String> {
    let message = message_of(path).ok_or(NO_MESSAGE)?;
    stays(&message).map_or(Ok(message), |why| Err(why.into()))
}

/// Why a message does not cross an edge outside dialogs; `None` if it is to.
fn stays(message: &Message) -> Option<&'static str> {
    match message.method() {
        None => Some(RESPONSE),
        Some(Method::Ack | Method::Cancel | Method::Register | Method::Other | Method::Notify) => {
            Some(OTHER_METHOD)
        }
        _ if !message.to_tag().is_empty() => Some(IN_DIALOG),
        _ => None,
    }
}

/// What became of fixtures: by why they did not cross, which they are.
#[derive(Debug, Default)]
struct Tally {
    crossed: usize,
    stayed: BTreeMap<String, Vec<String>>,
}

impl Tally {
    fn put(&mut self, name: &str, came: Result<(), String>) {
        match came {
            Ok(()) => self.crossed += 1,
            Err(why) => self.stayed.entry(why).or_default().push(name.into()),
        }
    }

    /// Whether enough of them crossed, and no more stayed than [`STAY`] says, for a reason that it knows.
    fn judge(&self, way: &str, at_least: usize) {
        let Self { crossed, stayed } = self;
        assert!(*crossed >= at_least, "{way}: {crossed} crossed, and not {stayed:#?}");
        for (why, names) in stayed {
            let most = STAY.iter().find(|(known, _)| known == why).map_or(0, |(_, most)| *most);
            let count = names.len();
            assert!(count <= most, "{way}: {count} stay, not {most} at most: {why} {names:#?}");
        }
    }
}

/// Why fixtures do not cross, and how many at most on one way. What a test itself leaves out has room to grow; what the
/// edge refuses has little: a new refusal is to be looked at, and entered here if it is right.
const STAY: [(&str, usize); 18] = [
    (NO_MESSAGE, 35),
    (RESPONSE, 50),
    (IN_DIALOG, 50),
    (OTHER_METHOD, 70),
    // Pushes of a UE. Pushes and locations inside a call, of a core that shows no certificate.
    ("Refused(DirectionForbidden)", 20),
    ("Refused(LevelTooLow)", 40),
    // Proxy-Require: sec-agree where it is not on, and unknown ones; multiple-refer.
    ("Refused(ExtensionUnsupported)", 20),
    ("Refused(ExtensionNotBridged)", 1),
    // Names of dialogs that nobody knows.
    ("Refused(DialogUnknown)", 4),
    ("Refused(BodyMalformed)", 1),
    ("Refused(EncodingForbidden)", 2),
    ("Refused(Malformed(HeaderMalformed))", 2),
    ("Refused(Malformed(BranchOld))", 3),
    // OPTIONS with no hop left is answered here; others are refused.
    ("Answered", 1),
    ("Refused(HopsSpent)", 1),
    ("Refused(LegTooLong)", 1),
    ("Refused(SessionTooShort)", 1),
    ("Refused(SipsImpossible)", 1),
];

/// The words of `came` that have a reason to be on the other side: they stand in From, To, the Request-URI or a row that is
/// not of hops.
fn rightly(came: &Message) -> String {
    let mut words = String::from_utf8_lossy(came.request_uri()).into_owned();
    let others = came.fields().iter().filter(|field| !of_hops(field));
    let rows = others.map(|field| field.value().of(came.octets()));
    let addresses = [came.from(), came.to()];
    let addresses = addresses.iter().flatten().flat_map(|at| [at.display(), at.uri().octets()]);
    for part in rows.chain(addresses) {
        words.push('\n');
        words.push_str(&String::from_utf8_lossy(part));
    }
    words
}

fn of_hops(field: &Field) -> bool {
    use Name::{CallId, Contact, From, RecordRoute, To, Via};
    matches!(field.name, CallId | Contact | From | RecordRoute | To | Via)
}

/// What of `came` must not stand in `left`, but does. In rows of hops and ids nothing of it may stand. In
/// the others a word may that has a right to, elsewhere in `came`.
///
/// Marks under 6 octets and places are looked for as whole words: a tag `a1` is part of many a random one.
fn shown(came: &Message, left: &Message) -> Vec<String> {
    let head = String::from_utf8_lossy(&left.octets()[..left.head_end()]).into_owned();
    let (hops, words) = (hops_of(left), rightly(came));
    let long = |mark: &String| mark.len() >= 6;
    let (long, short): (Vec<_>, Vec<_>) = marks_of(came).into_iter().partition(long);
    let long = long.into_iter().filter(|mark| {
        hops.contains(mark.as_str())
            || !words.contains(mark.as_str()) && head.contains(mark.as_str())
    });
    let short = short.into_iter().chain(places_of(came)).filter(|mark| {
        stands_in(mark, &hops) || !stands_in(mark, &words) && stands_in(mark, &head)
    });
    long.collect::<Vec<_>>().into_iter().chain(short).collect()
}

/// The request that went to `peer`, if one did.
fn forwarded<'s>(sent: &'s [Sent], peer: &Peer) -> Option<&'s Sent> {
    sent.iter().find(|sent| sent.to == peer.flow().remote && sent.message.is_request())
}

/// Sends `message` from one end to the other and answers back; or why it did not get there.
fn cross(
    lab: &mut Lab,
    from: &Peer,
    to: &Peer,
    message: &Message,
    name: &str,
) -> Result<(), String> {
    let sent = lab.receive_octets(from, message.octets().clone());
    let Some(there) = forwarded(&sent, to) else { return Err(format!("{:?}", lab.last())) };
    assert_eq!(shown(message, &there.message), Vec::<String>::new(), "{name}:\n{}", there.text());
    assert_eq!(there.message.body(), message.body(), "{name}");
    let recorded = "Record-Route: <sip:far-hop.invalid;lr>\nX-Kept: as it is\n";
    for status in [183, 200] {
        let text = answer(there, status, "far-tag-of-this-call", ELSEWHERE, recorded, BODY);
        let octets = sipward::testing::lab::octets_of(&text);
        let far = Message::from_datagram(octets.clone()).expect("a response");
        let sent = lab.receive_octets(to, octets);
        let back = sent.iter().find(|sent| sent.message.status() == Some(status));
        let Some(back) = back else {
            let why = lab.decisions.last();
            let may = status == 183 && message.method() != Some(Method::Invite);
            assert!(may, "{name}: {why:?} {}\n{text}", there.text());
            continue;
        };
        answered(message, &far, back, name);
    }
    Ok(())
}

/// Looks at what went `back` to who sent `asked`, of what came from the `far` end.
fn answered(asked: &Message, far: &Message, back: &Sent, name: &str) {
    assert_eq!(shown(far, &back.message), Vec::<String>::new(), "{name}:\n{}", back.text());
    assert_eq!(back.message.body(), far.body(), "{name}");
    assert!(back.text().contains("\r\nX-Kept: as it is\r\n"), "{name}");
    assert_eq!(back.message.call_id(), asked.call_id(), "{name}");
    assert_eq!(back.message.from_tag(), asked.from_tag(), "{name}");
    let vias = |message: &Message| message.values(Name::Via).count();
    assert_eq!(vias(&back.message), vias(asked), "{name}");
}

/// An edge back to back, whose enablers only tell of what they would refuse.
fn settings() -> LabSettings {
    let mut settings = LabSettings { observe: true, ..LabSettings::default() };
    settings.forward.route_check = false;
    settings
}

/// Registers the UE at its [`HOME`]; the Path on which the core reaches it.
fn at_home(lab: &mut Lab, ue: &Peer) -> String {
    let mut key = lab.ue1();
    let credentials = key.credentials("REGISTER", "sip:example.net", b"");
    let text = format!(
        "REGISTER sip:example.net SIP/2.0
Via: SIP/2.0/TLS home-host.invalid;branch=z9hG4bKhome
Max-Forwards: 70
From: <sip:alice@example.net>;tag=home-tag
To: <sip:alice@example.net>
Call-ID: home-call
CSeq: 1 REGISTER
Contact: <{HOME}>
Proxy-Authorization: {credentials}
Content-Length: 0
"
    );
    let sent = lab.receive(ue, &text);
    let register = to_core(&sent).clone();
    let granted = answer(&register, 200, "registrar", HOME, "Expires: 600\n", "");
    assert_eq!(status_to(&lab.receive(&Peer::core(), &granted), ue), Some(200));
    let text = register.text();
    text.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").into()
}

/// The same message with another row, first.
fn with_route(message: &Message, path: &str) -> Message {
    let (start, rows) = message.octets().split_at(message.head_start());
    let octets = [start, format!("Route: {path}\r\n").as_bytes(), rows].concat();
    Message::from_datagram(octets.into()).expect("still a message")
}

/// Alice's phone, which may send as whoever `message` is from.
fn phone(message: &Message) -> Peer {
    let mut caller = alice();
    let from = message.from().map(|from| String::from_utf8_lossy(from.uri().octets()).into_owned());
    if let Some(from) = from.and_then(|from| Impu::new(&from)) {
        let of_caller = Arc::get_mut(&mut caller).expect("just made");
        of_caller.identities = of_caller.identities.iter().cloned().chain([from]).collect();
    }
    Peer::tls("192.0.2.10:40000", 1).proved(caller)
}

/// From the UE to the core.
fn inward(message: &Message, name: &str) -> Result<(), String> {
    let mut lab = Lab::new(settings().bridging());
    cross(&mut lab, &phone(message), &Peer::core(), message, name)
}

/// To the UE, from the server of the core that may send it such a message.
fn outward(message: &Message, name: &str) -> Result<(), String> {
    let tried = [Peer::core(), Peer::slp(), Peer::location()].map(|server| {
        let mut lab = Lab::new(settings().bridging());
        let ue = Peer::tls("192.0.2.10:40000", 1).proved(alice());
        let path = at_home(&mut lab, &ue);
        cross(&mut lab, &server, &ue, &with_route(message, &path), name)
    });
    let [core, slp, location] = tried;
    core.or_else(|why| slp.or(location).map_err(|_| why))
}

/// The acceptance of section 13: no octet of Call-ID, tags, Via, Contact and Record-Route crosses, in either direction.
#[test]
fn nothing_of_one_side_is_seen_on_the_other_in_any_fixture() {
    let (mut core, mut ue, mut places) = (Tally::default(), Tally::default(), 0);
    for (name, path) in fixtures() {
        let message = message_that(&path, stays);
        let there = message.as_ref().map_err(Clone::clone).and_then(|m| inward(m, &name));
        places += message.as_ref().map_or(0, |m| if there.is_ok() { unspoken(m) } else { 0 });
        core.put(&name, there);
        ue.put(&name, message.and_then(|message| outward(&message, &name)));
    }
    core.judge("to the core", 150);
    ue.judge("to the UE", 170);
    assert!(places >= 420, "{places} places that no row of the other side may have");
}

/// How many places of a message stand nowhere else in it, so that no row of the other side may have them.
fn unspoken(message: &Message) -> usize {
    let words = rightly(message);
    places_of(message).iter().filter(|place| !stands_in(place, &words)).count()
}

/// The rows of a fixture that are to cross a dialog as they are, and its body. Not so: what the end itself says of hops and
/// numbers, credentials and challenges, and the services that the edge says anew or leaves out.
fn content(message: &Message) -> (String, String) {
    use Name::{
        Authorization, CSeq, ContentLength, MaxForwards, PAssertedService, PPreferredService,
        ProxyAuthenticate, ProxyAuthorization, Route, WwwAuthenticate,
    };
    let others = [
        [MaxForwards, CSeq, ContentLength, Route, PAssertedService],
        [PPreferredService, Authorization, ProxyAuthorization, WwwAuthenticate, ProxyAuthenticate],
    ];
    let stays = |field: &Field| of_hops(field) || others.as_flattened().contains(&field.name);
    let part = |span: Span| String::from_utf8_lossy(span.of(message.octets())).into_owned();
    let mut rows = String::new();
    for field in message.fields().iter().filter(|field| !stays(field)) {
        rows.push_str(&format!("{}: {}\n", part(field.name_span()), part(field.value())));
    }
    (rows, String::from_utf8_lossy(message.body()).into_owned())
}

/// Looks whether all of `rows`, and the body, stand in what went out.
fn kept((rows, body): (&str, &str), out: &Sent, name: &str) {
    let text = out.text();
    assert_eq!(out.message.body(), body.as_bytes(), "{name}");
    for row in rows.lines() {
        assert!(text.contains(&format!("\r\n{row}\r\n")), "{name}: {row} not in\n{text}");
    }
}

/// Alice subscribes at bob's: both ends.
fn subscribed(world: &mut Apart, event: &str) -> (End, End) {
    let more = format!("Event: {event}\nExpires: 600\n");
    let sent = world.by_ue(&from_alice("SUBSCRIBE", 1, &more, ""));
    let bob = End::called(at_core(&sent), "bob-tag", BOB, CORE_VIA);
    let sent = world.by_core(&bob.answer(at_core(&sent), 200, "Expires: 600\n", ""));
    (End::caller(world.at_ue(&sent), ALICE, ALICE_VIA), bob)
}

/// What a fixture says, said inside a call by one end, and an answer; NOTIFY inside a subscription. An answer of a fixture
/// is given to its method without rows.
fn inside(message: &Message, by_ue: bool, name: &str) -> Result<(), String> {
    let mut world = world_of(settings());
    let event = message.first(Name::Event).map(|event| String::from_utf8_lossy(event).into_owned());
    let (alice, bob) = match (message.method(), event) {
        (Some(Method::Notify), Some(event)) => subscribed(&mut world, &event),
        _ => established(&mut world, 1, "bob-tag"),
    };
    let (mut from, to) = if by_ue { (alice, bob) } else { (bob, alice) };
    let (rows, body) = content(message);
    let ours = ("X-Kept: as it is\n", BODY);
    let (said, answer, status) = match message.status() {
        Some(status) => (("", ""), (&*rows, &*body), status),
        None => ((&*rows, &*body), ours, 200),
    };
    let peers = [world.ue.clone(), Peer::core()];
    let method = message.cseq().expect("checked").method;
    let text = from.request(&String::from_utf8_lossy(method), said.0, said.1);
    let sent = by(&mut world, by_ue, &text);
    let Some(there) = forwarded(&sent, &peers[usize::from(by_ue)]) else {
        return Err(format!("{:?}", world.lab.last()));
    };
    kept(said, there, name);
    let sent = by(&mut world, !by_ue, &to.answer(there, status, answer.0, answer.1));
    let back = sent.iter().find(|sent| sent.to == peers[usize::from(!by_ue)].flow().remote);
    let back = back.unwrap_or_else(|| panic!("{name}: no answer, {:?}", world.lab.last()));
    // Nobody's challenge crosses.
    let status = if matches!(status, 401 | 407) { 403 } else { status };
    assert_eq!(back.message.status(), Some(status), "{name}");
    kept(answer, back, name);
    Ok(())
}

fn by(world: &mut Apart, by_ue: bool, text: &str) -> Vec<Sent> {
    if by_ue { world.by_ue(text) } else { world.by_core(text) }
}

/// Why a message has no place inside a call; `None` if it has.
fn stays_out(message: &Message) -> Option<&'static str> {
    use Method::{Ack, Cancel, Other, Register};
    let method = message.cseq_method();
    matches!(method, Ack | Cancel | Other | Register).then_some(OTHER_METHOD)
}

/// The same inside a call: whatever a fixture says, requests with a To tag, NOTIFY and responses too.
#[test]
fn nothing_of_one_side_is_seen_on_the_other_inside_a_call_in_any_fixture() {
    let (mut core, mut ue) = (Tally::default(), Tally::default());
    for (name, path) in fixtures() {
        let message = message_that(&path, stays_out);
        let there = message.as_ref().map_err(Clone::clone).and_then(|m| inside(m, true, &name));
        core.put(&name, there);
        ue.put(&name, message.and_then(|message| inside(&message, false, &name)));
    }
    core.judge("inside a call, to the core", 235);
    ue.judge("inside a call, to the UE", 215);
}

//! Every fixture that a user agent could send, across an edge back to back: nothing of one side is seen on the other.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::{Message, Method, Name};

use crate::apart::{answer, marks_of};
use crate::b2bua::alice;
use crate::scene::register;

const BODY: &str = "octets \u{1}\u{2}\r\n\r\n of the far side\n";
const ELSEWHERE: &str = "sip:far-phone@198.18.0.1:5099";

fn fixtures() -> Vec<PathBuf> {
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
    walk(&root.join("gate"), &mut found);
    walk(&root.join("torture"), &mut found);
    found.sort();
    found
}

/// The octets of a fixture as a request outside dialogs that may be sent: words of the fixtures' own language go.
fn request_of(path: &Path) -> Option<Message> {
    let octets = fs::read(path).expect("octets");
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = octets.split_at(end);
    let text = String::from_utf8_lossy(head).into_owned();
    let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.contains(": @")).collect();
    let octets = [lines.join("\r\n").as_bytes(), body].concat();
    let message = Message::from_datagram(octets.into()).ok()?;
    let method = message.method()?;
    let crosses = !matches!(
        method,
        Method::Ack | Method::Cancel | Method::Register | Method::Other | Method::Notify
    );
    let passes = sipward::wire::check::check(&message).is_ok();
    (crosses && passes && message.to_tag().is_empty()).then_some(message)
}

/// What of `came` must not stand in `left`, but does.
fn shown(came: &Message, left: &Message) -> Vec<String> {
    let (marks, there) = (marks_of(came), marks_of(left));
    let there: HashSet<&String> = there.iter().collect();
    let mut shown: Vec<String> =
        marks.iter().filter(|mark| there.contains(mark)).cloned().collect();
    let head = |message: &Message| {
        let octets = &message.octets()[..message.head_end()];
        String::from_utf8_lossy(octets).into_owned()
    };
    // Some fixtures bear the same word elsewhere, too: in From, in the Request-URI, in headers that cross.
    let of_hops = |name: Name| {
        use Name::{CallId, Contact, From, RecordRoute, Route, To, Via};
        matches!(name, CallId | Contact | From | RecordRoute | Route | To | Via)
    };
    let mut rest = String::from_utf8_lossy(came.request_uri()).into_owned();
    for field in came.fields().iter().filter(|field| !of_hops(field.name)) {
        rest.push_str(&String::from_utf8_lossy(field.value().of(came.octets())));
    }
    for address in [came.from(), came.to()].into_iter().flatten() {
        rest.push_str(&String::from_utf8_lossy(address.display()));
        rest.push_str(&String::from_utf8_lossy(address.uri().octets()));
    }
    let left = head(left);
    shown.extend(marks.into_iter().filter(|mark| {
        mark.len() >= 6 && !rest.contains(mark.as_str()) && left.contains(mark.as_str())
    }));
    shown
}

/// The request that went to `peer`, if one did.
fn forwarded<'s>(sent: &'s [Sent], peer: &Peer) -> Option<&'s Sent> {
    sent.iter().find(|sent| sent.to == peer.flow().remote && sent.message.is_request())
}

/// Sends `message` from one end to the other and an answer back; whether it got there.
fn cross(lab: &mut Lab, from: &Peer, to: &Peer, message: &Message, name: &str) -> bool {
    let sent = lab.receive_octets(from, message.octets().clone());
    let Some(there) = forwarded(&sent, to) else { return false };
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
        let none = Vec::<String>::new();
        assert_eq!(shown(&far, &back.message), none, "{name}:\n{}", back.text());
        assert_eq!(back.message.body(), far.body(), "{name}");
        assert!(back.text().contains("\r\nX-Kept: as it is\r\n"), "{name}");
        assert_eq!(back.message.call_id(), message.call_id(), "{name}");
        assert_eq!(back.message.from_tag(), message.from_tag(), "{name}");
        let (vias, came) = (|m: &Message| m.values(Name::Via).count(), message);
        assert_eq!(vias(&back.message), vias(came), "{name}");
    }
    true
}

/// The acceptance of section 13: no octet of Call-ID, tags, Via, Contact and Record-Route crosses, in either direction.
#[test]
fn nothing_of_one_side_is_seen_on_the_other_in_any_fixture() {
    let (mut inward, mut outward) = (0, 0);
    for path in fixtures() {
        let Some(message) = request_of(&path) else { continue };
        let name = path.display().to_string();
        let mut settings = LabSettings::default();
        settings.forward.route_check = false;
        let mut lab = Lab::new(settings.bridging());
        let ue = Peer::tls("192.0.2.10:40000", 1).proved(alice());
        let mut key = lab.ue1();
        let path = register(&mut lab, &ue, "alice", &mut key).text();
        let path = path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path");
        inward += usize::from(cross(&mut lab, &ue, &Peer::core(), &message, &name));
        let head = message.head_start();
        let route = format!("Route: {path}\r\n");
        let octets =
            [&message.octets()[..head], route.as_bytes(), &message.octets()[head..]].concat();
        let routed = Message::from_datagram(octets.into()).expect("still a message");
        outward += usize::from(cross(&mut lab, &Peer::core(), &ue, &routed, &name));
    }
    assert!(inward >= 40 && outward >= 40, "{inward} inward, {outward} outward");
}

//! Two sides that are to know nothing of each other: what each has seen of ids and addresses, and what it must not see.

use std::collections::HashSet;

use sipward::testing::{Lab, Peer, Sent};
use sipward::wire::{Address, Message, Name, Via};

/// The edge's own name: it stands in Via and Contact on both sides.
const EDGE: &str = "edge.example.net";

/// A lab, and what has been seen on either side of it.
pub(crate) struct Apart {
    pub(crate) lab: Lab,
    pub(crate) ue: Peer,
    seen: [HashSet<String>; 2],
    places: [HashSet<String>; 2],
}

/// Call-ID, tags, Via, Contact and Record-Route of a message: each as it stands, and the parts by which it is known.
pub(crate) fn marks_of(message: &Message) -> Vec<String> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut marks: Vec<String> =
        [message.call_id(), message.from_tag(), message.to_tag()].map(text).into();
    for via in message.values(Name::Via) {
        marks.push(text(via));
        let branch = Via::parse(via).map(|via| text(via.branch()));
        marks.extend(branch);
    }
    for value in message.values(Name::Contact).chain(message.values(Name::RecordRoute)) {
        marks.extend(Address::parse(value).map(|address| text(address.uri().octets())));
    }
    marks.retain(|mark| !mark.is_empty() && !mark.contains(EDGE));
    marks
}

/// Where a message came from and where its sender is found, piece by piece: host, and host with port, of each Via; host and
/// user of each Contact and Record-Route.
pub(crate) fn places_of(message: &Message) -> Vec<String> {
    let mut places: Vec<&[u8]> = Vec::new();
    for via in message.values(Name::Via).filter_map(Via::parse) {
        places.extend([via.host(), via.sent_by()]);
    }
    for value in message.values(Name::Contact).chain(message.values(Name::RecordRoute)) {
        let Some(address) = Address::parse(value) else { continue };
        places.push(address.uri().host());
        places.extend(address.uri().user());
    }
    let text = |octets: &&[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut places: Vec<String> = places.iter().map(text).collect();
    places.retain(|place| !place.is_empty() && !place.contains(EDGE));
    places
}

/// Whether `word` stands in `text` as a whole word, in capitals or not: `example.net` is none in `edge.example.net`, and
/// `a1` none in `a12`.
pub(crate) fn stands_in(word: &str, text: &str) -> bool {
    let (word, text) = (word.to_ascii_lowercase(), text.to_ascii_lowercase());
    let of_word = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    text.match_indices(&word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(of_word) && !after.starts_with(of_word)
    })
}

/// What a message says of hops and ids: the rows where nothing of the other side may stand, for no reason at all.
pub(crate) fn hops_of(message: &Message) -> String {
    use Name::{CallId, Contact, RecordRoute, Via};
    let rows = [Via, Contact, RecordRoute, CallId].into_iter();
    let mut hops: Vec<&[u8]> = rows.flat_map(|name| message.fields_named(name)).collect();
    hops.extend([message.from_tag(), message.to_tag()]);
    String::from_utf8_lossy(&hops.join(&b"\n"[..])).into_owned()
}

impl Apart {
    pub(crate) fn new(lab: Lab, ue: Peer) -> Self {
        Self { lab, ue, seen: Default::default(), places: Default::default() }
    }

    /// What the UE sends, and what comes of it on either side.
    pub(crate) fn by_ue(&mut self, text: &str) -> Vec<Sent> {
        let peer = self.ue.clone();
        self.from(&peer, 0, text)
    }

    /// What the core sends, and what comes of it on either side.
    pub(crate) fn by_core(&mut self, text: &str) -> Vec<Sent> {
        self.from(&Peer::core(), 1, text)
    }

    fn from(&mut self, peer: &Peer, side: usize, text: &str) -> Vec<Sent> {
        let octets = sipward::testing::lab::octets_of(text);
        let message = Message::from_datagram(octets.clone()).expect("a message");
        self.note(side, &message);
        let sent = self.lab.receive_octets(peer, octets);
        self.look(&sent);
        sent
    }

    fn note(&mut self, side: usize, message: &Message) {
        self.seen[side].extend(marks_of(message));
        self.places[side].extend(places_of(message));
    }

    /// Looks at what the edge sent: nothing of one side stands in what goes to the other.
    pub(crate) fn look(&mut self, sent: &[Sent]) {
        for one in sent {
            let to = usize::from(one.to != self.ue.flow().remote);
            let text = one.text();
            let head = text.split("\r\n\r\n").next().expect("a head");
            for mark in &self.seen[1 - to] {
                assert!(!head.contains(mark.as_str()), "{mark} of the other side in\n{head}");
            }
            for place in &self.places[1 - to] {
                assert!(!stands_in(place, head), "{place} of the other side in\n{head}");
            }
            self.note(to, &one.message);
        }
        let [ue, core] = &self.seen;
        let common: Vec<_> = ue.intersection(core).collect();
        assert!(common.is_empty(), "on both sides: {common:?}");
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, seconds: u64) -> Vec<Sent> {
        let sent = self.lab.advance(std::time::Duration::from_secs(seconds));
        self.look(&sent);
        sent
    }

    /// The only message among `sent` that went to the UE, but for 100.
    pub(crate) fn at_ue<'s>(&self, sent: &'s [Sent]) -> &'s Sent {
        let mut found = sent
            .iter()
            .filter(|one| one.to == self.ue.flow().remote && one.message.status() != Some(100));
        let first = found.next().unwrap_or_else(|| panic!("nothing went to the UE: {sent:?}"));
        assert!(found.next().is_none(), "more than one message went to the UE");
        first
    }
}

/// The only message among `sent` that went to the core, but for 100.
pub(crate) fn at_core(sent: &[Sent]) -> &Sent {
    let core = Peer::core().flow().remote;
    let mut found = sent.iter().filter(|one| one.to == core && one.message.status() != Some(100));
    let first = found.next().unwrap_or_else(|| panic!("nothing went to the core: {sent:?}"));
    assert!(found.next().is_none(), "more than one message went to the core");
    first
}

/// One end of a dialog: a plain user agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// Its own URI and its peer's.
    pub(crate) uris: [String; 2],
    /// Its own tag and its peer's.
    pub(crate) tags: [String; 2],
    pub(crate) call_id: String,
    pub(crate) contact: String,
    pub(crate) via: String,
    pub(crate) target: String,
    pub(crate) routes: Vec<String>,
    pub(crate) cseq: u32,
}

impl End {
    /// Who was sent `request` and answers under `tag`.
    pub(crate) fn called(request: &Sent, tag: &str, contact: &str, via: &str) -> Self {
        let message = &request.message;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let uri = |address: Option<Address<'_>>| text(address.expect("parses").uri().octets());
        let values = |name| message.values(name).map(text).collect::<Vec<_>>();
        let target = message.values(Name::Contact).next().and_then(Address::parse);
        Self {
            uris: [uri(message.to()), uri(message.from())],
            tags: [tag.into(), text(message.from_tag())],
            call_id: text(message.call_id()),
            contact: contact.into(),
            via: via.into(),
            target: target.map(|contact| text(contact.uri().octets())).unwrap_or_default(),
            routes: values(Name::RecordRoute),
            cseq: 100,
        }
    }

    /// Who sent a request and got `response`.
    pub(crate) fn caller(response: &Sent, contact: &str, via: &str) -> Self {
        let message = &response.message;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let uri = |address: Option<Address<'_>>| text(address.expect("parses").uri().octets());
        let target = message.values(Name::Contact).next().and_then(Address::parse);
        let mut routes: Vec<String> = message.values(Name::RecordRoute).map(text).collect();
        routes.reverse();
        Self {
            uris: [uri(message.from()), uri(message.to())],
            tags: [text(message.from_tag()), text(message.to_tag())],
            call_id: text(message.call_id()),
            contact: contact.into(),
            via: via.into(),
            target: target.map(|contact| text(contact.uri().octets())).unwrap_or_default(),
            routes,
            cseq: message.cseq().expect("a CSeq").number,
        }
    }

    /// A request inside the dialog, with the next number.
    pub(crate) fn request(&mut self, method: &str, more: &str, body: &str) -> String {
        self.cseq += 1;
        self.numbered(method, self.cseq, more, body)
    }

    /// A request inside the dialog, with that number.
    pub(crate) fn numbered(&self, method: &str, number: u32, more: &str, body: &str) -> String {
        let Self { uris, tags, call_id, contact, via, target, routes, .. } = self;
        let routes: String = routes.iter().map(|route| format!("Route: {route}\n")).collect();
        let branch = format!("z9hG4bK{}{}{method}{number}", tags[0], tags[1]);
        format!(
            "{method} {target} SIP/2.0
Via: {via};branch={branch}
Max-Forwards: 70
From: <{}>;tag={}
To: <{}>;tag={}
Call-ID: {call_id}
CSeq: {number} {method}
Contact: <{contact}>
{routes}{more}Content-Length: @

{body}",
            uris[0], tags[0], uris[1], tags[1]
        )
    }

    /// An answer to `request` from this end.
    pub(crate) fn answer(&self, request: &Sent, status: u16, more: &str, body: &str) -> String {
        answer(request, status, &self.tags[0], &self.contact, more, body)
    }
}

/// An answer to `request`, under `tag` if it has none in To.
pub(crate) fn answer(
    request: &Sent,
    status: u16,
    tag: &str,
    contact: &str,
    more: &str,
    body: &str,
) -> String {
    let message = &request.message;
    let lines = |name: Name| {
        let values = message.fields_named(name).map(|value| {
            let value = String::from_utf8_lossy(value).replace("\r\n", "");
            format!("{}: {value}\n", name.as_str())
        });
        values.collect::<String>()
    };
    let mut to = lines(Name::To);
    if message.to_tag().is_empty() && !tag.is_empty() {
        to = format!("{};tag={tag}\n", to.trim_end());
    }
    let (via, from, call_id, cseq) =
        (lines(Name::Via), lines(Name::From), lines(Name::CallId), lines(Name::CSeq));
    let recorded = lines(Name::RecordRoute);
    format!(
        "SIP/2.0 {status} X
{via}{from}{to}{call_id}{cseq}{recorded}Contact: <{contact}>
{more}Content-Length: @

{body}"
    )
}

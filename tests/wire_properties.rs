//! What holds of every message, whatever its octets are.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use sipward::wire::{
    Address, Credentials, Edits, Framed, Framer, Message, Name, Reply, Uri, Via, check, message,
};

/// Pieces that messages are made of, the broken ones among them.
const PIECES: &[&str] = &[
    "OPTIONS sip:a@b SIP/2.0\r\n",
    "INVITE  sip:a@b SIP/2.0\r\n",
    "SIP/2.0 200 OK\r\n",
    "SIP/2.0 100 \r\n",
    "ACK ",
    "Via: SIP/2.0/UDP h;branch=z9hG4bKx;rport\r\n",
    "v : SIP / 2.0 / TCP [::1] : 5060 ; x=\"a,b\" , SIP/2.0/WS c\r\n",
    "From: \"a\\\"b\" <sip:a@b;x=y>;tag=1\r\n",
    "f: sip:a@b;tag=2\r\n",
    "To:\r\n <sip:c@d>\r\n",
    "t: <sip:c@d>;tag\r\n",
    "Call-ID: c\r\n",
    "i: d@e\r\n",
    "CSeq: 1 OPTIONS\r\n",
    "CSeq:\t0009\r\n INVITE\r\n",
    "Max-Forwards: 70\r\n",
    "Contact: <sip:a@b?x=y>;q=0.5, *\r\n",
    "m: sip:a@[2001:db8::1]\r\n",
    "Route: <sip:a@b;lr>,<sip:c@d>\r\n",
    "P-Asserted-Identity : <tel:+1-2>\r\n",
    "Authorization: Digest username=\"a\", nc=00000001\r\n",
    "Content-Length: 0\r\n",
    "l: 3\r\n",
    "Content-Length: 300\r\n",
    "Content-Length: 2, 2\r\n",
    "Content-Length: x\r\n",
    "Subject: \u{e9}\r\n",
    "s:\r\n",
    "X\0: y\r\n",
    "no colon\r\n",
    ": none\r\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    " ",
    "\t",
    "\"",
    "<",
    ">",
    ",",
    ";",
    ":",
    "\\",
    "%",
    "%41",
    "a",
    "abc",
    "\0",
    "\u{7f}",
];

/// Spellings of the headers that every message has, one list for each.
const MANDATORY: [&[&str]; 5] = [
    &[
        "Via: SIP/2.0/UDP h;branch=z9hG4bKx;rport\r\n",
        "v : SIP / 2.0 / TCP [::1] : 5060 ; branch=b;x=\"a,b\" , SIP/2.0/WS c\r\n",
    ],
    &["From: \"a\\\"b\" <sip:a@b;x=y>;tag=1\r\n", "f: sip:a@b;tag=2\r\n", "From: A B <tel:+1>\r\n"],
    &[
        "To:\r\n <sip:c@d>\r\n",
        "t: <sip:c@d>;tag\r\n",
        "To : <sip:c@d> ; tag=3 ; x\r\n",
        "to: \"\\\0\"<sip:c@d>\r\n",
    ],
    &["Call-ID: c\r\n", "i: d@e\r\n"],
    &["CSeq: 1 OPTIONS\r\n", "CSeq:\t0009\r\n OPTIONS\r\n"],
];

/// Headers that a message may have any number of.
const OPTIONAL: &[&str] = &[
    "Contact: <sip:a@b?x=y>;q=0.5, *\r\n",
    "m: sip:a@[2001:db8::1]\r\n",
    "Route: <sip:a@b;lr>,<sip:c@d>\r\n",
    "route:<sip:e@f>\r\n",
    "V:SIP/2.0/UDP z\r\n",
    "P-Asserted-Identity : <tel:+1-2>\r\n",
    "Authorization: Digest username=\"a\", nc=00000001\r\n",
    "Subject: \u{e9}\r\n",
    "s:\r\n",
    "Odd: ;;,\"\r\n\t<\r\n",
];

/// A well-formed request or response with oddities, a body, and now and then octets behind it.
fn tidy() -> impl Strategy<Value = Vec<u8>> {
    let mandatory = MANDATORY.map(prop::sample::select);
    let optional = prop::collection::vec(prop::sample::select(OPTIONAL), 0..6);
    let lines = (mandatory, optional)
        .prop_map(|(mandatory, optional)| [&mandatory[..], &optional].concat());
    let body = prop::collection::vec(any::<u8>(), 0..40);
    let start = prop::sample::select(
        &["OPTIONS sip:a@b SIP/2.0\r\n", "SIP/2.0 200 OK\r\n", "OPTIONS tel:+1 sip/2.0\r\n"][..],
    );
    (start, lines.prop_shuffle(), body, any::<bool>()).prop_map(|(start, lines, body, trailing)| {
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        let noise: &[u8] = if trailing { b"noise" } else { b"" };
        [start.as_bytes(), lines.concat().as_bytes(), length.as_bytes(), &body, noise].concat()
    })
}

/// Octets that are a message now and then.
fn any_octets() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..5),
    ];
    let pieces = prop::collection::vec(piece, 0..20);
    prop_oneof![
        pieces.clone().prop_map(|pieces| pieces.concat()),
        pieces.prop_map(|pieces| [PIECES[0].as_bytes(), &pieces.concat()].concat()),
        (tidy(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut octets, at, octet)| {
            let at = at.index(octets.len());
            octets[at] = octet;
            octets
        }),
        tidy(),
    ]
}

/// Lengths in which a stream arrives.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..50, 1..20)
}

#[derive(Debug, PartialEq)]
enum Seen {
    Ping,
    Message(Bytes),
    Broken(String),
}

/// What a stream of `octets` shows that arrives in pieces of these lengths, over and over.
fn frames(octets: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let (mut framer, mut held, mut seen) = (Framer::new(), BytesMut::new(), Vec::new());
    let (mut rest, mut cuts) = (octets, cuts.iter().cycle());
    while !rest.is_empty() {
        let cut = cuts.next().copied().unwrap_or(1).min(rest.len());
        let (piece, tail) = rest.split_at(cut);
        (held, rest) = (
            {
                held.extend_from_slice(piece);
                held
            },
            tail,
        );
        loop {
            match framer.next(&mut held, message::MESSAGE_MAX) {
                Framed::More => break,
                Framed::Ping => seen.push(Seen::Ping),
                Framed::Message(found) => seen.push(Seen::Message(found.octets().clone())),
                Framed::Broken(why) => {
                    seen.push(Seen::Broken(format!("{:?}", why.fault)));
                    return seen;
                }
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// The framer shows the same whatever the segmentation.
    #[test]
    fn segmentation_changes_nothing(octets in any_octets(), more in any_octets(), cuts in cuts()) {
        let stream = [octets, more].concat();
        prop_assert_eq!(frames(&stream, &[stream.len().max(1)]), frames(&stream, &cuts));
    }

    /// Where the parser finds a Content-Length, the framer cuts the same message.
    #[test]
    fn framer_and_parser_agree(octets in any_octets(), cuts in cuts()) {
        let parsed = Message::from_datagram(Bytes::from(octets.clone()));
        let framed = frames(&octets, &cuts);
        if let Ok(message) = &parsed
            && message.rows(Name::ContentLength).count() == 1
        {
            prop_assert_eq!(framed.first(), Some(&Seen::Message(message.octets().clone())));
        }
        if let Some(Seen::Message(cut)) = framed.first() {
            let skipped = if octets.starts_with(b"\r\n") { &octets[2..] } else { &octets[..] };
            let parsed = Message::from_datagram(Bytes::copy_from_slice(skipped));
            prop_assert_eq!(parsed.ok().map(|message| message.octets().clone()), Some(cut.clone()));
        }
    }

    /// The tidy messages are what they are meant to be, so that the properties below say something.
    #[test]
    fn tidy_messages_are_accepted(octets in tidy()) {
        let message = Message::from_datagram(Bytes::from(octets)).map_err(|why| why.fault);
        prop_assert_eq!(message.and_then(|message| check::check(&message)), Ok(()));
    }

    /// Printing without an edit gives back the octets, and they read as before.
    #[test]
    fn printing_gives_back_the_octets(octets in any_octets()) {
        if let Ok(message) = Message::from_datagram(Bytes::from(octets.clone())) {
            prop_assert!(octets.starts_with(message.octets()));
            let printed = Edits::new().apply(&message).expect("no new text");
            prop_assert_eq!(&printed, message.octets());
            let again = Message::from_datagram(Bytes::from(printed)).expect("well formed");
            prop_assert_eq!(again.start(), message.start());
            prop_assert_eq!(again.body(), message.body());
            let lines = |message: &Message| -> Vec<_> {
                message.fields().iter().map(|field| (field.name, field.name_span(), field.value(), field.line())).collect()
            };
            prop_assert_eq!(lines(&again), lines(&message));
        }
    }

    /// Fields are laid end to end from the first line to the blank one: no octet of the head is in none or in two.
    #[test]
    fn the_index_covers_the_head(octets in any_octets()) {
        if let Ok(message) = Message::from_datagram(Bytes::from(octets)) {
            let mut at = message.head_start();
            for field in message.fields() {
                prop_assert_eq!(field.line().start(), at);
                prop_assert!(field.line().start() <= field.name_span().start());
                prop_assert!(field.name_span().end() < field.value().start());
                prop_assert!(field.value().end() < field.line().end());
                at = field.line().end();
            }
            prop_assert_eq!(at, message.head_end());
            prop_assert_eq!(&message.octets()[at..at + 2], b"\r\n");
            prop_assert_eq!(&message.octets()[at + 2..], message.body());
        }
    }

    /// An edit changes what it names: every other field and the body leave octet for octet, in their order.
    #[test]
    fn edits_leave_the_rest_alone(octets in tidy(), which in any::<prop::sample::Index>(), text in "[ -~]{0,20}", kind in 0..4) {
        let Ok(message) = Message::from_datagram(Bytes::from(octets)) else { return Ok(()) };
        let at = which.index(message.fields().len());
        let field = message.fields()[at];
        let mut edits = Edits::new();
        let mut expected: Vec<Vec<u8>> = message.fields().iter().map(|field| field.line().of(message.octets()).to_vec()).collect();
        match kind {
            0 => {
                edits.remove(field.line());
                expected.remove(at);
            }
            1 => {
                edits.replace(field.value(), |new| { new.put(&text); });
                let line = &mut expected[at];
                let from = field.value().start() - field.line().start();
                line.splice(from..field.value().end() - field.line().start(), text.bytes());
            }
            2 => {
                edits.insert(message.head_end(), |new| { new.field("X-New", |value| { value.put(&text); }); });
                expected.push(format!("X-New: {text}\r\n").into_bytes());
            }
            _ => {
                edits.insert(message.head_start(), |new| { new.field("X-New", |value| { value.put(&text); }); });
                expected.insert(0, format!("X-New: {text}\r\n").into_bytes());
            }
        }
        let printed = edits.apply(&message).expect("printable");
        let start = &message.octets()[..message.head_start()];
        let whole = [start, &expected.concat(), b"\r\n", message.body()].concat();
        prop_assert_eq!(printed, whole);
    }

    /// Taking values out of a list leaves the others, in their order, and no other header is touched.
    #[test]
    fn retained_values_are_those_kept(octets in tidy(), keep in any::<u64>()) {
        let Ok(message) = Message::from_datagram(Bytes::from(octets)) else { return Ok(()) };
        let kept = |value: &[u8]| value.iter().fold(keep, |sum, octet| sum.rotate_left(5) ^ u64::from(*octet)) % 2 == 0;
        for name in [Name::Route, Name::Via, Name::Contact] {
            let mut edits = Edits::new();
            edits.retain(&message, name, kept);
            let printed = Bytes::from(edits.apply(&message).expect("printable"));
            let again = Message::from_datagram(printed).expect("well formed");
            let expected: Vec<_> = message.values(name).filter(|value| kept(value)).collect();
            prop_assert_eq!(again.values(name).collect::<Vec<_>>(), expected);
            let others = |message: &Message| -> Vec<Vec<u8>> {
                let rest = message.fields().iter().filter(|field| field.name != name);
                rest.map(|field| field.line().of(message.octets()).to_vec()).collect()
            };
            prop_assert_eq!(others(&again), others(&message));
        }
    }

    /// New text with a line end in it never leaves.
    #[test]
    fn no_edit_adds_a_line(octets in tidy(), text in prop::collection::vec(any::<u8>(), 0..20)) {
        let Ok(message) = Message::from_datagram(Bytes::from(octets)) else { return Ok(()) };
        let mut edits = Edits::new();
        edits.insert(message.head_end(), |new| { new.field("X", |value| { value.put(&text); }); });
        match edits.apply(&message) {
            Ok(printed) => {
                let again = Message::from_datagram(Bytes::from(printed)).expect("well formed");
                prop_assert_eq!(again.fields().len(), message.fields().len() + 1);
                prop_assert_eq!(again.body(), message.body());
            }
            Err(_) => prop_assert!(text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0))),
        }
    }

    /// What the check accepts can be answered, and the answer is accepted, about the same dialog and transaction.
    #[test]
    fn what_is_accepted_can_be_answered(octets in any_octets()) {
        let Ok(message) = Message::from_datagram(Bytes::from(octets)) else { return Ok(()) };
        if check::check(&message).is_err() || !message.is_request() || message.method_octets() == b"ACK" {
            return Ok(());
        }
        let source = "192.0.2.1:5".parse().expect("an address");
        let reply = Reply::to(&message, 200).to_tag(b"ours").source(source).octets();
        let reply = Message::from_datagram(Bytes::from(reply.expect("an answer"))).expect("well formed");
        prop_assert_eq!(check::check(&reply), Ok(()));
        prop_assert_eq!(reply.call_id(), message.call_id());
        prop_assert_eq!(reply.cseq(), message.cseq());
        prop_assert_eq!(reply.from_tag(), message.from_tag());
        let tag = if message.to_tag().is_empty() { &b"ours"[..] } else { message.to_tag() };
        prop_assert_eq!(reply.to_tag(), tag);
        prop_assert_eq!(reply.values(Name::Via).count(), message.values(Name::Via).count());
        let branch = |message: &Message| message.top_via().map(|via| via.branch().to_vec());
        prop_assert_eq!(branch(&reply), branch(&message));
    }

    /// Readers of single values panic on nothing, and what they give lies inside what they got.
    #[test]
    fn readers_keep_within_their_value(value in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        let value = value.concat();
        let inside = |part: &[u8]| {
            let range = value.as_bytes().as_ptr_range();
            part.is_empty() || (range.contains(&part.as_ptr()) && part.as_ptr_range().end <= range.end)
        };
        if let Some(address) = Address::parse(value.as_bytes()) {
            prop_assert!(inside(address.display()) && inside(address.uri().octets()) && inside(address.tag().unwrap_or_default()));
        }
        if let Some(via) = Via::parse(value.as_bytes()) {
            prop_assert!(inside(via.host()) && inside(via.sent_by()) && inside(via.branch()));
        }
        if let Some(uri) = Uri::parse(value.as_bytes()) {
            prop_assert!(inside(uri.host()) && inside(uri.params()) && inside(uri.user().unwrap_or_default()));
            prop_assert!(uri.equivalent(&uri));
        }
        if let Ok(Some(credentials)) = Credentials::parse(value.as_bytes()) {
            prop_assert!(credentials.param("nc").is_none_or(|nc| nc.len() == 8));
        }
    }

    /// Escaping a character that needs no escape changes no identity.
    #[test]
    fn one_identity_however_it_is_escaped(user in "[a-zA-Z0-9_.!~*'()&=+$,;?/-]{1,12}", escaped in any::<u16>(), upper in any::<bool>()) {
        let spelt: String = user
            .chars()
            .enumerate()
            .map(|(at, one)| match (escaped >> at & 1 == 1, upper) {
                (false, _) => one.to_string(),
                (true, true) => format!("%{:02X}", u32::from(one)),
                (true, false) => format!("%{:02x}", u32::from(one)),
            })
            .collect();
        let identity = |user: &str| Uri::parse(format!("sip:{user}@example.net").as_bytes()).expect("a URI").identity();
        prop_assert_eq!(identity(&spelt), identity(&user));
    }
}

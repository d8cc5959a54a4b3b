//! Stage 2 and what it prints: octets to a message, headers asked for, and a message to octets again.

use std::hint::black_box;

use bytes::Bytes;
use sipward::forward::{asserted, outgoing, route};
use sipward::testing::lab::octets_of;
use sipward::wire::{Address, Message, Name, check, scan};

use crate::scene::Edge;
use crate::{BATCH, Bench, Run, text};

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "wire/scan",
        about: "what the walk over the head of a MESSAGE costs",
        before: 4,
        runs: 20,
        start: || scanned(message()),
    },
    Bench {
        name: "wire/scan-shreds",
        about: "the same of a head of as many octets in the shortest fields that there are",
        before: 4,
        runs: 20,
        start: || scanned(shreds(message().len())),
    },
    Bench {
        name: "wire/headers",
        about: "what it costs to read each header that a warm MESSAGE is asked for, once",
        before: 4,
        runs: 20,
        start: || headers(message()),
    },
    Bench {
        name: "wire/check",
        about: "what it costs to find that a MESSAGE can be answered",
        before: 4,
        runs: 20,
        start: || checked(message()),
    },
    Bench {
        name: "wire/check-vias",
        about: "the same of one with as many Via values as are allowed",
        before: 4,
        runs: 20,
        start: || checked(vias()),
    },
    Bench {
        name: "wire/print",
        about: "what route, identities and splices of a MESSAGE cost, permit in, octets out",
        before: 4,
        runs: 100,
        start: print,
    },
];

fn message() -> Bytes {
    octets_of(&text::message(Edge::new().ue(1), 1))
}

/// Fields of four octets as far as they are counted, then one long one.
fn shreds(length: usize) -> Bytes {
    let mut text = String::from("MESSAGE sip:bob@example.net SIP/2.0\r\n");
    text += &"v:\r\n".repeat(length.saturating_sub(text.len()).min(255 * 4) / 4);
    let rest = length.saturating_sub(text.len() + 6);
    text += &format!("s:{}\r\n\r\n", "x".repeat(rest));
    text.into()
}

fn vias() -> Bytes {
    let text = String::from_utf8(message().to_vec()).expect("text");
    let via =
        "Via: SIP/2.0/UDP 198.51.100.77:5060;branch=z9hG4bK77ef4c2312983.1;received=192.0.2.7\r\n";
    text.replacen("Max-Forwards", &(via.repeat(63) + "Max-Forwards"), 1).into()
}

fn scanned(octets: Bytes) -> Run {
    Box::new(move |meter| {
        meter.count(|| {
            for _ in 0..BATCH {
                black_box(scan::scan(black_box(&octets)));
            }
        });
        BATCH
    })
}

fn checked(octets: Bytes) -> Run {
    let message = Message::from_datagram(octets).expect("a message");
    Box::new(move |meter| {
        meter.count(|| {
            for _ in 0..BATCH {
                check::check(black_box(&message)).expect("nothing is wrong with it");
            }
        });
        BATCH
    })
}

fn headers(octets: Bytes) -> Run {
    let message = Message::from_datagram(octets).expect("a message");
    Box::new(move |meter| {
        meter.count(|| (0..BATCH).for_each(|_| ask(black_box(&message))));
        BATCH
    })
}

/// Every header that the stages read, once.
fn ask(message: &Message) {
    let via = message.top_via().expect("a Via");
    black_box((via.branch(), via.host(), via.port()));
    black_box(message.uri().map(|uri| (uri.scheme(), uri.user(), uri.host(), uri.port())));
    black_box(message.values(Name::Route).filter_map(Address::parse).count());
    let from = message.from().expect("a From");
    black_box((from.tag(), from.uri().identity()));
    black_box(message.to().and_then(|to| to.tag()));
    black_box((message.call_id(), message.cseq(), message.max_forwards()));
    black_box(message.values(Name::ProxyRequire).count());
    let mut rows = message.credentials(Name::ProxyAuthorization);
    let row = rows.next().expect("a row").expect("that parses");
    black_box((row.username(), row.realm(), row.nonce(), row.uri()));
    black_box((row.algorithm(), row.qop(), row.cnonce(), row.response(), row.nonce_count()));
}

fn print() -> Run {
    let mut edge = Edge::new();
    let shared = std::sync::Arc::clone(&edge.lab.shared);
    Box::new(move |meter| {
        let (number, whose) = edge.next();
        let ue = edge.ue(whose);
        let octets = octets_of(&text::message(ue, number));
        let arrival = ue.peer.arrival();
        let message = Message::from_datagram(octets).expect("a message");
        let now = edge.lab.now;
        let permitted = shared.gate.inspect(&message, &arrival, now).expect("it may pass");
        let (bound, settings) = (permitted.into_bound(), shared.settings());
        meter.count(|| {
            let route = route::route(&bound, &shared, &settings, now).expect("a route");
            let headers = &settings.headers;
            let edits = asserted::edit_request(
                &bound,
                &shared.gate,
                headers,
                None,
                Some(arrival.flow.listener),
            )
            .expect("its caller's");
            let branch = b"z9hG4bK00f81d4fae7dec11d0a76500a0c91e6bf6c0ffee01";
            let (settings, route) = (&*settings, &route);
            let plan = outgoing::Plan { settings, route, path_token: None, recorded: None, branch };
            black_box(outgoing::print(&bound, edits, &plan).expect("it is printed"));
        });
        1
    })
}

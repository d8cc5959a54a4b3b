//! What an attacker can make the whole journey spend with a datagram.

use bytes::Bytes;
use sipward::refusal::Refusal;
use sipward::testing::lab::octets_of;
use sipward::wire::Fault;

use crate::meter::Meter;
use crate::scene::{Edge, round};
use crate::{Bench, Run, text};

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "flood/garbage",
        about: "what 1400 octets of noise cost",
        before: 50,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
            Box::new(move |meter| {
                let (_, whose) = edge.next();
                let noise: Vec<u8> = (0..1400)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        state.to_be_bytes()[0]
                    })
                    .collect();
                let arrival = edge.arrival(whose);
                edge.receive(meter, arrival, noise.into());
                edge.dropped();
                1
            })
        },
    },
    Bench {
        name: "flood/torn",
        about: "what a MESSAGE costs that ends before its body does: 400",
        before: 50,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.next();
                let octets = octets_of(&text::message(edge.ue(whose), number));
                let arrival = edge.arrival(whose);
                edge.receive(meter, arrival, octets.slice(..octets.len() - 500));
                edge.refused(Refusal::Malformed(Fault::BodyShort));
                1
            })
        },
    },
    Bench {
        name: "flood/copy",
        about: "what a MESSAGE costs that was answered before: the answer once more",
        before: 50,
        runs: 400,
        start: copy,
    },
    Bench {
        name: "flood/astray",
        about: "what a response costs that nobody waits for",
        before: 50,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            let seen = answered(&mut edge).1;
            let response = text::response(&seen, 200, "").replacen("z9hG4bK00", "z9hG4bK00f", 1);
            Box::new(move |meter| {
                edge.core_sends(meter, &response);
                edge.dropped();
                1
            })
        },
    },
];

fn copy() -> Run {
    let mut edge = Edge::new();
    let (octets, _) = answered(&mut edge);
    let arrival = edge.arrival(1);
    Box::new(move |meter| {
        edge.receive(meter, arrival.clone(), octets.clone());
        edge.answered(200);
        1
    })
}

/// A MESSAGE that was answered, and what the core saw of it.
fn answered(edge: &mut Edge) -> (Bytes, String) {
    let (number, whose) = edge.next();
    let request = text::message(edge.ue(whose), number);
    let seen = round(edge, &mut Meter::idle(), whose, &request);
    (octets_of(&request), seen)
}

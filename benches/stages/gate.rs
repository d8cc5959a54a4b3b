//! Stages 2 to 6 for one request, octets in, permit or answer out; and what an attacker can make us spend there.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sipward::association::{Bound, Settings};
use sipward::gate::{Gate, Stop};
use sipward::instant::Now;
use sipward::refusal::Refusal;
use sipward::testing::Peer;
use sipward::testing::lab::octets_of;
use sipward::transport::Arrival;
use sipward::wire::{Message, check};

use crate::meter::Meter;
use crate::scene::Edge;
use crate::text::Callee;
use crate::{Bench, Run, text};

/// Dialogs that are there when one is looked for.
const CALLS: usize = 1000;

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "gate/message",
        about: "what a signed MESSAGE costs when its key is here",
        before: 100,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.next();
                let text = text::message(edge.ue(whose), number);
                permitted(&edge, meter, edge.arrival(whose), &text);
                1
            })
        },
    },
    Bench {
        name: "gate/bye",
        about: "what a signed BYE inside a call costs, thousand calls being on",
        before: 100,
        runs: 400,
        start: || inside(0, None),
    },
    Bench {
        name: "gate/bye-strange",
        about: "the same from somebody else with a key of his own: 403",
        before: 100,
        runs: 400,
        start: || inside(1, Some(Refusal::AssociationMismatch)),
    },
    Bench {
        name: "gate/bye-nowhere",
        about: "the same inside no call at all: 481",
        before: 100,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.next();
                let text = text::inside(edge.ue(whose), "BYE", number, &Callee::proxied());
                refused(&edge, meter, edge.arrival(whose), &text, Refusal::DialogUnknown);
                1
            })
        },
    },
    Bench {
        name: "gate/challenge",
        about: "what a REGISTER without credentials costs: 407, each from another address",
        before: 100,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.next();
                let text = text::register(edge.ue(whose), number, false);
                refused(&edge, meter, stranger(number), &text, Refusal::CredentialsMissing);
                1
            })
        },
    },
    Bench {
        name: "gate/wrong-response",
        about: "what a MESSAGE with a wrong response costs: 407, each from another address",
        before: 100,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.next();
                let ue = edge.ue(whose);
                ue.forget();
                let text = text::message(ue, number);
                refused(&edge, meter, stranger(number), &text, Refusal::BadCredentials);
                1
            })
        },
    },
    Bench {
        name: "gate/unknown-name",
        about: "the same with a B-TID that nobody has: the arithmetic is the same",
        before: 100,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.next();
                let text =
                    text::message(edge.ue(whose), number).replace("bsf.example", "bsf.nowhere");
                refused(&edge, meter, stranger(number), &text, Refusal::BadCredentials);
                1
            })
        },
    },
    Bench {
        name: "association/bind",
        about: "what the look-up and the judgement of a BYE cost, thousand calls being on",
        before: 100,
        runs: 400,
        start: || bind(CALLS),
    },
    Bench {
        name: "association/bind-100000",
        about: "the same with hundred thousand calls: a look-up is no dearer but for what no cache holds",
        before: 100,
        runs: 400,
        start: || bind(100 * CALLS),
    },
];

/// Whoever floods comes from many networks.
fn stranger(number: usize) -> Arrival {
    Peer::udp(&format!("198.18.{}.{}:5060", number / 250 % 250, number % 250 + 1)).arrival()
}

/// From octets to what was decided.
fn judge<R>(
    edge: &Edge,
    meter: &mut Meter,
    arrival: Arrival,
    text: &str,
    end: impl FnOnce(Result<Bound<'_>, Stop>) -> R,
) -> R {
    let octets = Bytes::copy_from_slice(&octets_of(text));
    let (gate, now): (&Gate, Now) = (&edge.lab.shared.gate, edge.lab.now);
    meter.count(|| {
        let message = Message::from_datagram(octets).expect("a message");
        check::check(&message).expect("nothing is wrong with it");
        end(gate.inspect(&message, &arrival, now).map(|permitted| permitted.into_bound()))
    })
}

fn permitted(edge: &Edge, meter: &mut Meter, arrival: Arrival, text: &str) {
    let found = judge(edge, meter, arrival, text, |end| end.map(|bound| bound.caller().is_some()));
    assert!(matches!(found, Ok(true)), "{found:?}: {text}");
}

fn refused(edge: &Edge, meter: &mut Meter, arrival: Arrival, text: &str, expected: Refusal) {
    let found = judge(edge, meter, arrival, text, |end| end.map(|_| ()).map_err(black_box));
    let as_expected = matches!(&found, Err(Stop::Answer(refusal, _)) if *refusal == expected);
    assert!(as_expected, "{found:?}: {text}");
}

/// A BYE again and again, each signed anew, by the UE `shift` places after the owner's. None is committed, so that
/// the call is on for the next one.
fn inside(shift: usize, refusal: Option<Refusal>) -> Run {
    let mut edge = Edge::new();
    let calls = calls(&mut edge, CALLS);
    let mut done = 0;
    Box::new(move |meter| {
        let (number, owner) = calls[done % calls.len()];
        done += 1;
        edge.next();
        let text = bye(&mut edge, number, owner, owner + shift, done);
        let arrival = edge.arrival(owner + shift);
        match refusal {
            None => permitted(&edge, meter, arrival, &text),
            Some(refusal) => refused(&edge, meter, arrival, &text, refusal),
        }
        1
    })
}

/// The BYE of the call `number` of `owner`, signed by `signer`, with a branch of its own.
fn bye(edge: &mut Edge, number: usize, owner: usize, signer: usize, turn: usize) -> String {
    let text = text::inside(edge.ue(owner), "BYE", number, &Callee::proxied());
    let own = text.lines().find(|line| line.starts_with("Proxy-Auth")).expect("credentials");
    let credentials = edge.ue(signer).sign("BYE", text::BOB_CONTACT);
    text.replace(own, &format!("Proxy-Authorization: {credentials}"))
        .replace("branch=z9hG4bK-", &format!("branch=z9hG4bK-{turn:08x}-"))
}

/// Calls that are answered and stay on: their numbers, and whose they are.
pub(crate) fn calls(edge: &mut Edge, many: usize) -> Vec<(usize, usize)> {
    let mut idle = Meter::idle();
    let mut call = |_| {
        let (number, whose) = edge.next();
        edge.answered_call(&mut idle, number, whose);
        (number, whose)
    };
    (0..many).map(&mut call).collect()
}

/// Lets an edge hold so many dialogs, and so many of one caller.
pub(crate) fn room_for(edge: &Edge, max: usize) {
    let settings = Settings { max, max_per_caller: u32::MAX, ..Settings::default() };
    edge.lab.shared.gate.associations.replace_settings(settings);
}

/// [`calls`], so many at a time, until nothing but dialogs is left.
pub(crate) fn many_calls(edge: &mut Edge, many: usize, at_a_time: usize) -> Vec<(usize, usize)> {
    let mut made = Vec::with_capacity(many);
    while made.len() < many {
        made.extend(calls(edge, at_a_time.min(many - made.len())));
        edge.settle(Duration::from_secs(35));
    }
    made
}

fn bind(many: usize) -> Run {
    let mut edge = Edge::new();
    room_for(&edge, 2 * many + 10 * CALLS);
    let mut calls = many_calls(&mut edge, many, 10 * CALLS);
    // Neighbours in time are no neighbours in the table, and none is there when it is asked for.
    calls.sort_by_key(|(number, _)| number.wrapping_mul(0x9E37_79B9) % (1 << 20));
    let gate = Arc::clone(&edge.lab.shared.gate);
    let mut done = 0;
    Box::new(move |meter| {
        let (number, owner) = calls[done % calls.len()];
        done += 1;
        edge.next();
        let octets = octets_of(&bye(&mut edge, number, owner, owner, done));
        let message = Message::from_datagram(octets).expect("a message");
        let (arrival, now) = (edge.arrival(owner), edge.lab.now);
        let admitted = gate
            .admission
            .admit(&message, &arrival, &gate.enablers.policies(), now)
            .expect("it is admitted");
        let caller = gate.authentication.identify(admitted, now).expect("its owner is known");
        let bound = meter.count(|| gate.associations.bind(caller, now));
        assert!(bound.is_ok(), "{bound:?}");
        1
    })
}

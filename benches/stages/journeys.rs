//! The whole journey: every datagram of a transaction in, every output out, and the end of what lingers.

use crate::scene::{Edge, STEADY, round};
use crate::{Bench, text};

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "journey/message",
        about: "what a MESSAGE of 2 KB and its 200 cost",
        before: STEADY,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let request = text::message(edge.ue(whose), number);
                round(&mut edge, meter, whose, &request);
                1
            })
        },
    },
    Bench {
        name: "journey/call",
        about: "what INVITE 180 200 ACK BYE 200 cost",
        before: STEADY,
        runs: 200,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let callee = edge.answered_call(meter, number, whose);
                let bye = text::inside(edge.ue(whose), "BYE", number, &callee);
                round(&mut edge, meter, whose, &bye);
                1
            })
        },
    },
    Bench {
        name: "journey/subscription",
        about: "what SUBSCRIBE 200 NOTIFY 200 cost",
        before: STEADY,
        runs: 200,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let request = text::subscribe(edge.ue(whose), number);
                round(&mut edge, meter, whose, &request);
                let notify = text::notify(edge.ue(whose), number);
                edge.core_sends(meter, &notify);
                let seen = edge.forwarded();
                edge.ue_sends(meter, whose, &text::response(&seen, 200, ""));
                edge.forwarded();
                1
            })
        },
    },
    Bench {
        name: "journey/registration",
        about: "what REGISTER 407 REGISTER 200 cost",
        before: STEADY,
        runs: 200,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let bare = text::register(edge.ue(whose), number, false);
                edge.ue_sends(meter, whose, &bare);
                let challenge = edge.answered(407);
                edge.ue(whose).challenged(&challenge);
                let signed = text::register(edge.ue(whose), number, true);
                edge.ue_sends(meter, whose, &signed);
                let seen = edge.forwarded();
                let contact = seen.lines().find(|line| line.starts_with("Contact:"));
                let granted = format!("{};expires=600\n", contact.expect("a Contact"));
                edge.core_sends(meter, &text::response(&seen, 200, &granted));
                edge.forwarded();
                1
            })
        },
    },
    Bench {
        name: "journey/options",
        about: "what a keep-alive that the edge answers costs",
        before: 50,
        runs: 400,
        start: || {
            let mut edge = Edge::new();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let request = text::options(edge.ue(whose), number);
                edge.ue_sends(meter, whose, &request);
                edge.answered(200);
                1
            })
        },
    },
    Bench {
        name: "bridge/message",
        about: "what a MESSAGE of 2 KB and its 200 cost back to back",
        before: STEADY,
        runs: 400,
        start: || {
            let mut edge = Edge::bridging();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let request = text::message(edge.ue(whose), number);
                round(&mut edge, meter, whose, &request);
                1
            })
        },
    },
    Bench {
        name: "bridge/call",
        about: "what INVITE 180 200 ACK BYE 200 cost back to back",
        before: STEADY,
        runs: 200,
        start: || {
            let mut edge = Edge::bridging();
            Box::new(move |meter| {
                let (number, whose) = edge.begin(meter);
                let callee = edge.answered_call(meter, number, whose);
                let bye = text::inside(edge.ue(whose), "BYE", number, &callee);
                round(&mut edge, meter, whose, &bye);
                1
            })
        },
    },
];

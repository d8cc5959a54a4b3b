//! Stage 7, its parts: transaction machines, their keys and their timers.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use sipward::forward::timers::{Timer, Timings};
use sipward::forward::transaction::{
    Client, ClientInput, Keys, Server, ServerInput, client, server,
};
use sipward::instant::Instant;
use sipward::testing::lab::octets_of;
use sipward::transport::Transport;
use sipward::wheel::{TimerKey, Wheel};
use sipward::wire::Message;

use crate::scene::Edge;
use crate::{BATCH, Bench, Run, text};

/// Timers that run already.
const RUNNING: u64 = 10_000;

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "transaction/server",
        about: "what a server transaction costs: made, answered, ended by Timer J",
        before: 4,
        runs: 20,
        start: server_machine,
    },
    Bench {
        name: "transaction/client",
        about: "what a client transaction costs: made, answered, ended by Timer K",
        before: 4,
        runs: 20,
        start: client_machine,
    },
    Bench {
        name: "transaction/key",
        about: "what the key of a request costs",
        before: 4,
        runs: 20,
        start: || {
            let mut edge = Edge::new();
            let octets = octets_of(&text::message(edge.ue(1), 1));
            let message = Message::from_datagram(octets).expect("a message");
            let (flow, keys) = (edge.arrival(1).flow, Keys::new(&[7; 16]));
            Box::new(move |meter| {
                meter.count(|| {
                    for _ in 0..BATCH {
                        black_box(keys.server(black_box(&message), &flow));
                    }
                });
                BATCH
            })
        },
    },
    Bench {
        name: "wheel/insert-and-cancel",
        about: "what a timer costs that is stopped, ten thousand others running",
        before: 4,
        runs: 20,
        start: || {
            let (mut wheel, mut now) = running();
            Box::new(move |meter| {
                now = now + Duration::from_millis(1);
                let mut keys: Vec<TimerKey> = Vec::with_capacity(64);
                meter.count(|| {
                    for number in 0..BATCH {
                        keys.push(wheel.insert(now + Duration::from_millis(500 + number), number));
                    }
                    for key in keys.drain(..) {
                        black_box(wheel.cancel(key));
                    }
                });
                BATCH
            })
        },
    },
    Bench {
        name: "wheel/insert-and-expire",
        about: "what a timer costs that fires, forty thousand others running",
        before: 700,
        runs: 20,
        start: || {
            // As many fire in each step as are set, once those that ran before have fired.
            let (mut wheel, mut now) = running();
            Box::new(move |meter| {
                now = now + Duration::from_millis(50);
                meter.count(|| {
                    for number in 0..BATCH {
                        wheel.insert(now + Duration::from_millis(32_000 + number), number);
                    }
                    wheel.expire(now, |item| {
                        black_box(item);
                    });
                });
                BATCH
            })
        },
    },
];

fn running() -> (Wheel<u64>, Instant) {
    let (mut wheel, now) = (Wheel::new(), Instant::START + Duration::from_secs(1000));
    wheel.expire(now, |_| {});
    for number in 0..RUNNING {
        wheel.insert(now + Duration::from_millis(number * 3 + 1), number);
    }
    (wheel, now)
}

fn server_machine() -> Run {
    let response = Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n");
    let (timings, now) = (Timings::default(), Instant::START);
    let end = now + timings.first(Timer::J, false).expect("Timer J runs on UDP");
    Box::new(move |meter| {
        meter.count(|| {
            for _ in 0..BATCH {
                let mut machine = Server::new(Transport::Udp, timings, now);
                let octets = response.clone();
                machine.handle(ServerInput::Respond { status: 200, octets }, now);
                while let Some(output) = machine.poll_output() {
                    black_box(output);
                }
                black_box(machine.poll_timeout());
                machine.handle(ServerInput::Timeout, end);
                while let Some(output) = machine.poll_output() {
                    black_box(output);
                }
                assert_eq!(machine.state(), server::State::Terminated);
            }
        });
        BATCH
    })
}

fn client_machine() -> Run {
    let request = Bytes::from_static(b"MESSAGE sip:bob@example.net SIP/2.0\r\n\r\n");
    let response = Bytes::from_static(b"SIP/2.0 200 OK\r\nCSeq: 1 MESSAGE\r\n\r\n");
    let response = Message::from_datagram(response).expect("a message");
    let (timings, now) = (Timings::default(), Instant::START);
    let end = now + timings.first(Timer::K, false).expect("Timer K runs on UDP");
    Box::new(move |meter| {
        meter.count(|| {
            for _ in 0..BATCH {
                let mut machine = Client::new(request.clone(), Transport::Udp, timings, now);
                while let Some(output) = machine.poll_output() {
                    black_box(output);
                }
                machine.handle(ClientInput::Response(&response), now);
                while let Some(output) = machine.poll_output() {
                    black_box(output);
                }
                black_box(machine.poll_timeout());
                machine.handle(ClientInput::Timeout, end);
                while let Some(output) = machine.poll_output() {
                    black_box(output);
                }
                assert_eq!(machine.state(), client::State::Terminated);
            }
        });
        BATCH
    })
}

//! What stays in memory: octets in use after many of a kind, less those before, for each.
//!
//! Tables double when they are full, so that their share for one entry differs by up to two with the number of
//! entries. The numbers here are powers of two, each with the tables just grown.

use std::time::Duration;

use crate::heap::Heap;
use crate::meter::Meter;
use crate::scene::{Edge, round};
use crate::{gate, text};

/// Entries.
const MANY: usize = 4096;
/// What `association.max` is where nothing is configured.
const DIALOGS_MAX: usize = 250_000;
/// Calls whose transactions are there at once.
const AT_A_TIME: usize = 10_000;
/// By then all transactions are over.
const FORGOTTEN: Duration = Duration::from_secs(35);

/// What stays of one operation.
pub(crate) struct Held {
    /// Its name.
    pub(crate) name: &'static str,
    /// The question.
    pub(crate) about: &'static str,
    /// Finds out.
    pub(crate) octets: fn() -> f64,
}

pub(crate) const HELD: &[Held] = &[
    Held {
        name: "held/transaction",
        about: "octets that an answered MESSAGE holds while it lingers",
        octets: || {
            let mut edge = Edge::new();
            messages(&mut edge, 1);
            let octets = grown(&mut edge, |edge| messages(edge, MANY));
            assert_eq!(edge.lab.transactions(), MANY + 1, "all of them linger");
            octets
        },
    },
    Held {
        name: "held/dialog",
        about: "octets that an answered call holds once its transactions are over",
        octets: || {
            let mut edge = Edge::new();
            // The tables of transactions have grown to what the calls need for a while.
            messages(&mut edge, MANY);
            gate::calls(&mut edge, 1);
            edge.settle(Duration::from_secs(100));
            let octets = grown(&mut edge, |edge| {
                drop(gate::calls(edge, MANY));
                edge.settle(Duration::from_secs(100));
            });
            let dialogs = edge.lab.shared.gate.associations.footprint();
            assert_eq!((edge.lab.transactions(), dialogs), (0, MANY + 1), "dialogs, nothing else");
            octets
        },
    },
    Held {
        name: "held/dialogs-250000",
        about: "the same for as many as association.max is: under 1 KiB each",
        octets: || {
            let mut edge = Edge::new();
            gate::room_for(&edge, DIALOGS_MAX + AT_A_TIME);
            messages(&mut edge, AT_A_TIME);
            edge.settle(FORGOTTEN);
            let before = Heap::now().live();
            drop(gate::many_calls(&mut edge, DIALOGS_MAX, AT_A_TIME));
            let octets = (Heap::now().live() - before) as f64 / DIALOGS_MAX as f64;
            let dialogs = edge.lab.shared.gate.associations.footprint();
            assert_eq!((edge.lab.transactions(), dialogs), (0, DIALOGS_MAX), "dialogs alone");
            assert!(octets < 1024.0, "{octets} octets each");
            octets
        },
    },
    Held {
        name: "held/registration",
        about: "octets that a registration from an address of its own holds once its transaction is over",
        octets: || {
            let mut edge = Edge::new();
            messages(&mut edge, MANY);
            registrations(&mut edge, 1);
            edge.settle(Duration::from_secs(100));
            let octets = grown(&mut edge, |edge| {
                registrations(edge, MANY);
                edge.settle(Duration::from_secs(100));
            });
            assert_eq!(edge.lab.transactions(), 0, "registrations, nothing else");
            octets
        },
    },
];

fn registrations(edge: &mut Edge, many: usize) {
    for _ in 0..many {
        let (number, whose) = edge.next();
        edge.ue(whose).moves(number);
        let request = text::register(edge.ue(whose), number, true);
        edge.ue_sends(&mut Meter::idle(), whose, &request);
        let seen = edge.forwarded();
        let contact = seen.lines().find(|line| line.starts_with("Contact:")).expect("a Contact");
        let granted = format!("{contact};expires=600\n");
        edge.core_sends(&mut Meter::idle(), &text::response(&seen, 200, &granted));
        edge.forwarded();
    }
    edge.settle(Duration::ZERO);
}

fn grown(edge: &mut Edge, act: impl FnOnce(&mut Edge)) -> f64 {
    let before = Heap::now().live();
    act(edge);
    (Heap::now().live() as f64 - before as f64) / MANY as f64
}

fn messages(edge: &mut Edge, many: usize) {
    for _ in 0..many {
        let (number, whose) = edge.next();
        let request = text::message(edge.ue(whose), number);
        round(edge, &mut Meter::idle(), whose, &request);
    }
    edge.settle(Duration::ZERO);
}

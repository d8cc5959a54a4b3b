//! Simulation: two subscribers tell an honest story through the edge while Mallory forges messages into it, packets are
//! lost, doubled and overtaken, and the bootstrapping server goes away and comes back.
//!
//! In every world: no forged message changes any field of an association that is not Mallory's own; every act of the
//! honest story comes to its end; afterwards nothing is held. A world follows from its number alone: one that failed is
//! run again with `SIMULATION_FROM=<number> SIMULATION_WORLDS=1`. `SIMULATION_WORLDS` is how many each test runs.
//!
//! Sources: `dialog-association` proofs; RFC 3261 section 26.1.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a world that failed says its number, and what happened in it"
)]

mod chance;
mod core;
mod phone;
mod rogue;
mod sheet;
mod story;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::{Tally, World};

/// Worlds of each test, if nobody says how many.
const WORLDS: u64 = 250;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

/// Runs a share of the worlds: every fourth, from `share` on.
fn run(share: u64) {
    let first = number("SIMULATION_FROM", 0);
    let worlds = number("SIMULATION_WORLDS", WORLDS);
    let mut all = Tally::default();
    for world in 0..worlds {
        let seed = first + world * 4 + share;
        let run = AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            world.run();
            std::mem::take(&mut world.tally)
        });
        match catch_unwind(run) {
            Ok(tally) => all.add(&tally),
            Err(why) => {
                eprintln!("world {seed}: SIMULATION_FROM={seed} SIMULATION_WORLDS=1");
                resume_unwind(why);
            }
        }
    }
    println!("{worlds} worlds: {all:?}");
    assert!(all.forged > 0 && all.acts > 0, "something happened: {all:?}");
}

#[test]
fn no_forged_message_changes_any_association_first_quarter() {
    run(0);
}

#[test]
fn no_forged_message_changes_any_association_second_quarter() {
    run(1);
}

#[test]
fn no_forged_message_changes_any_association_third_quarter() {
    run(2);
}

#[test]
fn no_forged_message_changes_any_association_fourth_quarter() {
    run(3);
}

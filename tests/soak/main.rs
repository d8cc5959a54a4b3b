//! Everything at once, against the program in several processes: phones at a modest rate, five times as much from
//! nobody, and weather. `SOAK_MINUTES` says for how long; half a minute without it.
//!
//! 1. A bootstrapping server and an edge are processes of their own, the core is a thread; keys are asked for over Zn.
//! 2. Phones of every transport register, send texts, subscribe, call and hang up, come and go (`phones`). What each act
//!    came to is written down, with its time and what it needed (`ledger`).
//! 3. A mob from thousands of addresses sends what proves nothing (`mob`).
//! 4. Meanwhile certificates are renewed, and the bootstrapping server and the core go and come back (`weather`). The
//!    edge stays.
//! 5. At the end every failure is explained by the absence of something that it needed, the edge has grown no further,
//!    nothing is left of anybody, and no secret stands in anything that was said (`verdict`).
//!
//! No clock judges: what is waited for is a state. `floods` are the same mob, one kind after the other, in fair weather.

#![cfg(all(
    feature = "diameter",
    feature = "http",
    feature = "openssl",
    feature = "webrtc-dtls",
    unix
))]

#[path = "../conformance/authority.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod authority;
mod floods;
mod ledger;
mod mob;
mod phones;
#[path = "../proofs/programs.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod programs;
mod verdict;
mod weather;
mod world;

use std::env;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mob::{Junk, Mob};
use phones::{Crowd, WAYS};
use verdict::Growth;
use world::{World, runtime};

/// How often each phone does something, and how often the mob does: about five times as often as all phones.
const PHONE_EACH: Duration = Duration::from_millis(500);
const MATE_EACH: Duration = Duration::from_secs(2);
const MOB_EACH: Duration = Duration::from_millis(13);

/// What a user may send: twice what a phone does.
const RATE: &str = "240/min burst 60";

/// How long it is to be.
fn length() -> Duration {
    let Ok(minutes) = env::var("SOAK_MINUTES") else { return Duration::from_secs(30) };
    let minutes: f64 = minutes.parse().expect("SOAK_MINUTES is a number");
    Duration::from_secs_f64(minutes * 60.0)
}

/// For whoever reads what the test says.
fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
}

#[test]
fn everything_at_once() {
    let length = length();
    let world = Arc::new(World::start("soak", RATE));
    let runtime = runtime();
    let mut looks = vec![verdict::look(&world)];
    let crowd = Crowd::gather(&runtime, &world, WAYS, (PHONE_EACH, MATE_EACH));
    let mob = Mob::gather(&runtime, &world, Junk::ALL, MOB_EACH);
    let growth = weather::blow(&world, length, &mut looks);
    let shots = mob.disperse(&runtime);
    world.over.store(true, Ordering::Relaxed);
    crowd.leave(&runtime);
    drop(runtime);

    let sizes = growth.iter().map(Growth::line);
    for line in world.ledger.table().into_iter().chain(shots.table()).chain(sizes) {
        say(&line);
    }
    let mut faults = world.ledger.unexplained();
    faults.extend(world.ledger.missing());
    faults.extend(growth.iter().filter_map(Growth::fault));
    verdict::wait_for_nobody(&world);
    looks.push(verdict::look(&world));
    let world = Arc::into_inner(world).expect("nobody else has it");
    faults.extend(verdict::of_core(&world));
    let (secrets, events) = (world.secrets(), world.ledger.windows().len());
    let said = world.end();
    let lines: usize = said.iter().map(|(_, lines)| lines.len()).sum();
    say(&format!("{lines} lines were logged, {} of junk arrived, {events} events", shots.sum()));
    faults.extend(verdict::talkative(&said, events));
    faults.extend(verdict::leaks(&secrets, said, looks));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

//! Whether the machine runs us: how late a timer of the test's own is, beside what the edge says of its load.
//!
//! An edge that is not run sheds what is good, too (V-92). That explains a 503, if a timer of another process was late at
//! the same time; an edge that sheds while the machine is at ease explains nothing.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ledger::Event;
use crate::programs::metrics;
use crate::world::World;

/// How often both are looked at.
const EACH: Duration = Duration::from_millis(100);
/// How late a timer is on a machine that is another's.
const LATE: Duration = Duration::from_millis(50);
/// So many looks back, it counts as the same time.
const LOOKS: usize = 50;

/// It looks until it is stopped.
pub(crate) struct Pulse {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Pulse {
    pub(crate) fn feel(world: &Arc<World>) -> Self {
        let ((stop, stopped), world) = (channel(), Arc::clone(world));
        let thread = thread::spawn(move || {
            let (mut late, mut shed, mut window) = (vec![Duration::ZERO; LOOKS], 0, None);
            loop {
                let began = Instant::now();
                // The window, if one begins, begins before what was shed since the last look.
                let from = world.ledger.now();
                let is_over = !matches!(
                    stopped.recv_timeout(EACH),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                );
                late.remove(0);
                late.push(began.elapsed().saturating_sub(EACH));
                let [load, now] = said(&world);
                let sheds = load > 0 || now > shed;
                shed = now;
                match window {
                    None if sheds => {
                        window = Some((world.ledger.begins_at(Event::Shed, from), false))
                    }
                    Some((_, ref mut starved)) => {
                        *starved |= late.iter().any(|late| *late >= LATE);
                    }
                    None => {}
                }
                if let Some((number, starved)) = window
                    && (!sheds || is_over)
                {
                    let event = if starved { Event::Starved } else { Event::Shed };
                    world.ledger.ends_as(number, event);
                    window = None;
                }
                if is_over {
                    return;
                }
            }
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) {
        drop(self.stop);
        self.thread.join().expect("it ended well");
    }
}

/// The load, and how much was shed.
fn said(world: &World) -> [u64; 2] {
    let page = metrics(world.page);
    ["sipward_load ", "sipward_refusals_total{refusal=\"NoTime\"} "].map(|name| {
        let value = page.lines().find_map(|line| line.strip_prefix(name));
        value.expect("it is on the page").parse().unwrap()
    })
}

//! What is counted of a run: the calls that go through [`Meter::count`], and nothing around them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::heap::Heap;

/// The function by whose name valgrind knows what to collect.
pub(crate) const COUNTED: &str = "*stages_counted_calls*";

/// Takes time and heap of what it is given.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counting: bool,
    /// Time spent.
    pub(crate) time: Duration,
    /// Allocations made.
    pub(crate) allocations: u64,
    /// Octets allocated.
    pub(crate) octets: u64,
}

impl Meter {
    /// One that counts.
    pub(crate) fn new() -> Self {
        Self { counting: true, ..Self::default() }
    }

    /// One that counts nothing, for the runs before.
    pub(crate) fn idle() -> Self {
        Self::default()
    }

    /// Does `act`, which is what the bench asks about.
    pub(crate) fn count<R>(&mut self, act: impl FnOnce() -> R) -> R {
        if !self.counting {
            return act();
        }
        let (mut act, mut result) = (Some(act), None);
        let mut call = || result = act.take().map(|act| act());
        let (heap, start) = (Heap::now(), Instant::now());
        stages_counted_calls(&mut call);
        self.time += start.elapsed();
        let after = Heap::now();
        self.allocations += after.allocations - heap.allocations;
        self.octets += after.octets - heap.octets;
        result.expect("the call was made")
    }
}

/// Neither inlined nor left by a jump, so that valgrind sees where it begins and ends.
#[inline(never)]
fn stages_counted_calls(call: &mut dyn FnMut()) {
    call();
    black_box(());
}

//! What the heap is asked for: the system's allocator, which is the one the edge runs on, with counters.
//!
//! The counters are plain loads and stores, since the benches have one thread; they cost about six instructions
//! for each allocation, which stand in every figure.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts, then does what the system's allocator does.
#[derive(Debug)]
pub(crate) struct Counting;

/// What was asked for since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heap {
    /// Allocations; growing one counts as one more.
    pub(crate) allocations: u64,
    /// Octets allocated; of one that grew, only the growth.
    pub(crate) octets: u64,
    /// Octets given back.
    pub(crate) freed: u64,
}

impl Heap {
    /// How it stands now.
    pub(crate) fn now() -> Self {
        Self {
            allocations: ALLOCATIONS.load(Relaxed),
            octets: OCTETS.load(Relaxed),
            freed: FREED.load(Relaxed),
        }
    }

    /// Octets in use.
    pub(crate) fn live(self) -> u64 {
        self.octets - self.freed
    }
}

#[global_allocator]
static HEAP: Counting = Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static OCTETS: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

fn add(counter: &AtomicU64, more: usize) {
    counter.store(counter.load(Relaxed) + more as u64, Relaxed);
}

// SAFETY: every call goes to the system's allocator with the arguments it came with, and so does its result.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(&ALLOCATIONS, 1);
        add(&OCTETS, layout.size());
        // SAFETY: the caller keeps the promises of this function, which are those of the one called.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(&ALLOCATIONS, 1);
        add(&OCTETS, layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(&FREED, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(&ALLOCATIONS, 1);
        add(&OCTETS, size.saturating_sub(layout.size()));
        add(&FREED, layout.size().saturating_sub(size));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

//! The edge, guests: when it closes, and how its connections are told.
//!
//! 1. While calls are up, nobody goes, as long as patience lasts. Then a worker that has nothing more to answer waits for the others: each sends on the connections of all.
//! 2. Once none has, or patience has ended, each closes its own connections, and goes.
//!
//! Takes:   word of each connection that stands, and of its end; how much each worker has to answer.
//! Gives:   whether a worker may go; the end of its connections.
//! Keeps:   the flow of each open connection, which the table of flows bounds.
//! Refuses: nothing.
//! Sources: RFC 5923 section 8.3; RFC 8446 section 6.1; `CR-10`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::transport::{Flow, Flows};

/// How long good-byes may take, once there is nothing more to wait for.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// Whether workers may go.
#[derive(Debug)]
pub(super) struct Parting {
    stopping: AtomicBool,
    abandoning: AtomicBool,
    /// Nothing is waited for any more.
    hurried: AtomicBool,
    /// Workers that have nothing to answer.
    settled: Vec<AtomicBool>,
}

impl Parting {
    /// None may, of so many.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            abandoning: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            settled: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// They may, once all have answered everything.
    pub(super) fn begin(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// They may at once.
    pub(super) fn abandon(&self) {
        self.abandoning.store(true, Ordering::Relaxed);
    }

    /// Whoever stops the edge waits for nothing any more.
    pub(super) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed)
    }

    /// Whether worker `number` may, which has so much to answer; if it was the last one waited for, `tell` is called.
    pub(super) fn may_go(&self, number: u8, unanswered: usize, tell: impl FnOnce()) -> bool {
        if !self.stopping.load(Ordering::Relaxed) {
            return false;
        }
        let settled = unanswered == 0;
        let own = self.settled.get(usize::from(number));
        let before = own.is_some_and(|own| own.swap(settled, Ordering::AcqRel));
        let all = self.settled.iter().all(|settled| settled.load(Ordering::Acquire));
        if all && !before {
            tell();
        }
        all || self.abandoning.load(Ordering::Relaxed)
    }
}

/// Connections that stand.
#[derive(Debug, Default)]
pub(super) struct Guests {
    here: RefCell<HashSet<Flow>>,
    left: Notify,
}

impl Guests {
    pub(super) fn enter(&self, flow: Flow) {
        self.here.borrow_mut().insert(flow);
    }

    pub(super) fn leave(&self, flow: &Flow) {
        self.here.borrow_mut().remove(flow);
        self.left.notify_one();
    }

    /// Closes all of them: each is told, after what is queued for it.
    pub(super) async fn see_off(&self, flows: &Flows) {
        self.here.borrow().iter().for_each(|flow| flows.close(flow));
        let all_left = async {
            while !self.here.borrow().is_empty() {
                self.left.notified().await;
            }
        };
        // Whoever takes no octets is not waited for.
        let _ = timeout(FAREWELL, all_left).await;
    }
}

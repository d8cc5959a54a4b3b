//! For tests: a fault in a stage, for one message.
//!
//! Takes:   a stage and a Call-ID, from a test.
//! Gives:   one panic, when a message of that Call-ID is at that stage.
//! Keeps:   one trap for the process.
//! Refuses: nothing; while none is set, a stage reads one flag.
//! Sources: `V-74`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::wire::Message;

static IS_SET: AtomicBool = AtomicBool::new(false);
static TRAP: Mutex<Option<(&'static str, String)>> = Mutex::new(None);

/// Sets the trap: the next message of that Call-ID panics at that stage, once. Any other trap is taken away.
pub fn set(stage: &'static str, call_id: &str) {
    *TRAP.lock().unwrap_or_else(PoisonError::into_inner) = Some((stage, call_id.to_owned()));
    IS_SET.store(true, Ordering::Release);
}

/// Whether a trap is set that nobody went into.
pub fn is_set() -> bool {
    IS_SET.load(Ordering::Acquire)
}

/// # Panics
///
/// If a trap was set for this stage and that message.
pub(crate) fn pass(stage: &str, message: &Message) {
    if is_set() && takes(stage, message.call_id()) {
        panic!("a fault that a test put into {stage}");
    }
}

fn takes(stage: &str, call_id: &[u8]) -> bool {
    let mut trap = TRAP.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = trap.take_if(|(at, whose)| *at == stage && whose.as_bytes() == call_id).is_some();
    if taken {
        IS_SET.store(false, Ordering::Release);
    }
    taken
}

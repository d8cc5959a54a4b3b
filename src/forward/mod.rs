//! Stage 7, forward.

pub mod asserted;
pub mod proxy;
pub mod timers;
pub mod transaction;

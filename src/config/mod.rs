//! Configuration.

pub mod problem;
pub mod raw;
pub mod reload;

//! The UE's side.

pub mod answer;
pub mod bootstrap;
pub mod register;
#[cfg(feature = "edge")]
pub mod ue;

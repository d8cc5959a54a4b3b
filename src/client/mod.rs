//! The UE's side.

pub mod answer;
pub mod bootstrap;
#[cfg(feature = "http")]
pub mod bootstrap_http;
pub mod info;
pub mod register;
#[cfg(feature = "edge")]
pub mod ue;

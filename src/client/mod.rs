//! The UE's side: a phone for laboratories, and the honest peer of this crate's own tests.
//!
//! Takes:   a user's credentials, or a card for the bootstrapping server.
//! Gives:   keys (`bootstrap`), answers to challenges (`answer`), agreements (`agreement`), a phone (`agent`), what is pushed to it (`pushed`), with a
//!          socket (`ue`), and with several that stay (`keeping`, `flows`).
//! Keeps:   see each file; keys on disk are sealed (`store`).
//! Refuses: servers that do not prove to be who was dialled.
//! Sources: RFC 3261; RFC 7616; TS 33.220; TS 24.109; RFC 5922.

pub mod agent;
pub mod agreement;
pub mod answer;
pub mod bootstrap;
pub mod bootstrap_digest;
#[cfg(feature = "http")]
pub mod bootstrap_http;
pub mod draft;
#[cfg(feature = "webrtc-dtls")]
pub(crate) mod dtls;
mod exchange;
#[cfg(feature = "edge")]
pub mod flows;
pub mod info;
#[cfg(feature = "edge")]
pub mod instance;
pub mod keeping;
#[cfg(feature = "edge")]
pub(crate) mod phone;
pub mod pushed;
pub mod services;
#[cfg(feature = "edge")]
pub mod store;
#[cfg(feature = "edge")]
pub mod ue;
#[cfg(feature = "edge")]
pub(crate) mod ws;

//! Certificates from the first octet to the last: what is refused, in both directions, and by which name.
#![cfg(feature = "http")]

mod acceptance;
#[path = "../conformance/authority.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod authority;
#[cfg(all(feature = "openssl", feature = "webrtc-dtls"))]
mod dtls;
#[cfg(all(feature = "openssl", feature = "webrtc-dtls"))]
mod edge;
#[path = "../conformance/gateway.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod gateway;
mod program;
#[path = "../proofs/programs.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod programs;
mod real;
mod responder;
mod status;
mod tickets;

//! Proof runs of SEC_CF's use cases: the program in several processes, real sockets between them, and an observer on each wire.

#![cfg(all(feature = "http", unix))]

#[cfg(feature = "openssl")]
mod adm_001;
mod adm_002;
#[path = "../conformance/authority.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod authority;
mod b_1;
mod b_6;
mod b_7;
mod b_8;
#[cfg(feature = "openssl")]
mod b_9;
#[cfg(feature = "openssl")]
mod callers;
mod home;
#[cfg(feature = "openssl")]
mod kem_001;
#[allow(dead_code, reason = "it serves other tests too")]
mod programs;
mod push_apart;
mod pushed;
mod pushes;
mod sec_001;
#[cfg(feature = "openssl")]
mod sec_002;
#[cfg(feature = "openssl")]
mod sec_003;
mod sec_004;
mod secure;
mod wires;

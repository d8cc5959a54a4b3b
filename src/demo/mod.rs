//! The demonstration: a small SIP server, two UEs and a rogue on loopback.

pub mod server;

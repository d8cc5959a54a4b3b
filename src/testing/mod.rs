//! For tests: a laboratory edge in virtual time, peers that sign, and a gate without keys.
//!
//! Takes:   octets as peers would send them.
//! Gives:   what the edge sends, and what it decided, without sockets or clock.
//! Keeps:   one edge, a handful of peers.
//! Refuses: nothing; it panics where a test is written wrongly.
//! Sources: none.

mod away;
pub mod enablers;
pub mod lab;
pub mod peer;
pub mod sign;
pub mod trap;

pub use away::AwayStore;
pub use enablers::{LOCATION, SLP, UE1_LOCSIP_PASSWORD};
pub use lab::{Lab, LabKeys, LabSettings, Sent};
pub use peer::Peer;
pub use sign::Signer;

//! The demonstration: a bootstrapping server, an edge, a small SIP server, two UEs and a rogue, all on loopback.
//!
//! 1. Alice and bob bootstrap; the edge knows nothing of their keys yet.
//! 2. Alice registers over UDP, bob over TLS; each is challenged once.
//! 3. They exchange texts, subscribe, call each other and hang up.
//! 4. A rogue with an account of his own replays, spoofs and tries to hang up for alice, and is refused.
//! 5. Bob registers by PSK-TLS: his key makes the connection, so nothing is asked; then by DTLS, and
//!    alice's text finds him there.
//! 6. The core counts what it saw: no credentials, one asserted identity each time.
//!
//! Takes:   nothing but free ports on loopback.
//! Gives:   the ladder of it, and whether everything went as it must.
//! Keeps:   nothing once it has ended.
//! Refuses: to end well if a single expectation did not hold.
//! Sources: SEC_CF 1.1 HLF-001, HLF-003, AUTH-001, AUTH-002, B.3 (both flows).

pub mod ladder;
pub mod scene;
pub mod server;
mod shared;

pub use ladder::Ladder;
pub use scene::{Demo, Trouble};

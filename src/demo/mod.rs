//! The demonstration: a bootstrapping server, an edge, small servers of SIP, location and push, three UEs and a rogue,
//! all on loopback.
//!
//! 1. Alice and bob bootstrap; the edge knows nothing of their keys yet.
//! 2. Alice registers over UDP, bob over TLS; each is challenged once.
//! 3. They exchange texts, subscribe, call each other and hang up.
//! 4. A rogue with an account of his own replays, spoofs and tries to hang up for alice, and is refused.
//! 5. Alice makes a new key in a call, which goes on with it; she connects bob and carol, and bob takes her place.
//! 6. Bob asks where a van is, with a key for that alone; alice writes by CPM, bob chats; a listed server pushes. Who
//!    may not do so is refused by name.
//! 7. Alice calls through a listener in B2BUA mode: nothing that names the call at one end is seen at the other.
//! 8. Bob registers by PSK-TLS: his key makes the connection, so nothing is asked; by DTLS-PSK, the same over
//!    datagrams; then by TCP, DTLS and WebSocket without and with TLS. Alice's text finds him each time.
//! 9. The core counts what it saw: no credentials, one asserted identity each time.
//!
//! Takes:   nothing but free ports on loopback.
//! Gives:   the ladder of it, and whether everything went as it must.
//! Keeps:   nothing once it has ended.
//! Refuses: to end well if a single expectation did not hold.
//! Sources: SEC_CF 1.1 HLF-001, HLF-003, AUTH-001, AUTH-002, CONF-003, B.1, B.3 (both flows).

mod cast;
pub mod ladder;
mod location;
mod papers;
mod scene;
pub mod server;
mod stage;

pub use cast::{EDGE, VAN};
pub use ladder::Ladder;
pub use stage::{Demo, Trouble};

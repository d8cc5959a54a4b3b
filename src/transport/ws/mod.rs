//! Stage 1, WebSocket: SIP in messages that a browser can send.
//!
//! 1. A client asks by HTTP (`opening`): Origin, subprotocol and version decide before a frame is read.
//! 2. Frames (`frame`) become messages (`reader`), each of which is one SIP message.
//! 3. `door` does the first on a socket; the streams of this stage do the second.
//!
//! Takes:   octets of one connection, in pieces of any size.
//! Gives:   an answer to the request that opens it; messages, pings and the end, in order.
//! Keeps:   see each file.
//! Refuses: see each file. Cookies are not evidence, and no extension is agreed.
//! Sources: RFC 6455; RFC 7118; `KA-01`, `KA-05`, `VIA-10`; `V-13`, `V-75`, `V-79`.
//!
//! The frames are ours: what is published for Rust either owns the socket, or holds a buffer for each idle connection and
//! room for each length that a stranger announces, and none says whether a message is under way, on which patience depends.
//! A library that is not ours speaks with them in `tests/serve`.

#[cfg(feature = "edge")]
pub mod door;
pub mod frame;
pub mod opening;
pub mod reader;

#[cfg(feature = "edge")]
pub use door::WsServer;
pub use frame::{CloseCode, Opcode, Role};
pub use opening::{Offer, Rules, Verdict};
pub use reader::{Item, Reader};

//! Stage 1, DTLS: secure sessions over datagrams, told apart by address.
//!
//! 1. `hello`, `cookie`: a client shows that it receives at its address; nothing is kept for it until then; or, where
//!    engines make cookies, comes twice in a crowd (`knocks`).
//! 2. `sessions`: one engine for each handshake under way and for each session, behind the `filter`.
//! 3. An engine is one of two libraries, `openssl` or `webrtc`, moved by datagrams and by time alone (`engine`).
//! 4. `port`: a socket of one worker, with one task for all its sessions.
//!
//! Takes:   datagrams with their senders.
//! Gives:   sessions: who the peer proved to be, what it sent.
//! Keeps:   see each file.
//! Refuses: see each file.
//! Sources: RFC 6347; RFC 4279; TS 33.222 clause 5.4; `DT-01` to `DT-12`.

#[cfg(feature = "openssl")]
mod channel;
pub mod cookie;
#[cfg(feature = "edge")]
pub mod engine;
pub mod exchange;
pub mod filter;
pub mod hello;
#[cfg(feature = "webrtc-dtls")]
mod intake;
#[cfg(any(feature = "openssl", feature = "webrtc-dtls"))]
mod keys;
#[cfg(feature = "edge")]
pub mod knocks;
#[cfg(feature = "webrtc-dtls")]
mod link;
#[cfg(feature = "openssl")]
pub mod openssl;
#[cfg(feature = "edge")]
pub(super) mod port;
pub mod record;
#[cfg(feature = "edge")]
pub mod server;
#[cfg(feature = "edge")]
pub mod sessions;
#[cfg(feature = "edge")]
mod told;
#[cfg(feature = "edge")]
mod vouched;
#[cfg(feature = "webrtc-dtls")]
pub mod webrtc;

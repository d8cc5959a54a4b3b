//! Keys, Diameter: keys, push info and vectors of others, over Zn, Zpn and Zh.
//!
//! Takes:   see each file; `client` for who asks, `link` for one connection, `zn`, `zpn` and `zh` for what is said.
//! Gives:   answers of key servers and homes; to those that ask us, ours.
//! Keeps:   see `link` and `client`.
//! Refuses: see each file.
//! Sources: RFC 6733; RFC 3539; TS 29.109; TS 29.229; TS 29.230.

#[cfg(feature = "edge")]
pub mod ask;
pub mod base;
pub mod client;
pub mod codec;
pub mod dictionary;
#[cfg(feature = "edge")]
pub mod door;
pub mod guss;
pub mod link;
#[cfg(feature = "edge")]
pub mod source;
#[cfg(feature = "edge")]
pub mod way;
pub mod zh;
pub mod zn;
pub mod zpn;

pub use base::Local;

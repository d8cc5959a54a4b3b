//! Stage 6, checks: what single classes look at, each a file.
//!
//! Takes:   a bound request, or a part of it, and what is configured of the check.
//! Gives:   nothing: what passes is not changed.
//! Keeps:   nothing.
//! Refuses: each its own.
//! Sources: each its own.

pub mod conversation;
pub mod cpim_from;
pub mod events;
pub mod list;
pub mod msrp;
pub mod notify_wish;
pub mod watcher;

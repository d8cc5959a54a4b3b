//! Keys, subscribers.

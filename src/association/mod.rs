//! Stage 5, association.

pub mod dialog;
pub mod expiry;
pub mod table;

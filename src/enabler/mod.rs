//! Stage 6, enabler.

pub mod reg;
pub mod sip;

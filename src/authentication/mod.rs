//! Stage 4, authentication.

pub mod accounts;
pub mod aka;
pub mod challenge;
pub mod digest;
pub mod gba;
pub mod nonce;
#[cfg(feature = "edge")]
pub mod tls_identity;

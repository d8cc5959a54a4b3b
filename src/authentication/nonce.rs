//! Stage 4, nonce.

//! Stage 5, expiry.

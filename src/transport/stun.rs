//! Stage 1, stun.

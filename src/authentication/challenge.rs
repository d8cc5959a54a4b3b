//! Stage 4, challenge.

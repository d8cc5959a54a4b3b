//! Stage 3, limits.

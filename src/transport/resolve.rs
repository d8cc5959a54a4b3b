//! Stage 1, resolve.

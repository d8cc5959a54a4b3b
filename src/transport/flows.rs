//! Stage 1, flows.

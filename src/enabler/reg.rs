//! Stage 6, reg.

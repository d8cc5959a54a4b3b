//! Stage 3, rate.

//! Stage 7, asserted.

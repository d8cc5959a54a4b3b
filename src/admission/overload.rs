//! Stage 3, overload.

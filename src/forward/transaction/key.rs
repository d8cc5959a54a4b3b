//! Stage 7, transaction key.

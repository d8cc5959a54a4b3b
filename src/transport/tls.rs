//! Stage 1, tls.

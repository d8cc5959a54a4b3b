//! Stage 7, proxy.

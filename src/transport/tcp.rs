//! Stage 1, tcp.

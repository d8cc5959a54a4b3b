//! Stage 1, udp.

//! Stage 1, peer.

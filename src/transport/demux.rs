//! Stage 1, demux.

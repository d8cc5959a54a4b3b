//! Stage 4, gba.

//! Stage 4, aka.

//! Stage 7, timers.

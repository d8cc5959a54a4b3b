//! Stages 3 to 6.

//! sipward demo.

//! sipward init.

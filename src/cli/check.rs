//! sipward check.

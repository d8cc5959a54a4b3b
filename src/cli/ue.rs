//! sipward ue.

//! Keys, naf.

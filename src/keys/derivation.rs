//! Keys, derivation.

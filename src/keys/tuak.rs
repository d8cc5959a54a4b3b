//! Keys, tuak.

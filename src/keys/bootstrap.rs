//! Keys, bootstrap.

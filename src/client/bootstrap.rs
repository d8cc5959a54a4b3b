//! The UE, bootstrap.

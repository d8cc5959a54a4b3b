//! The UE, register.

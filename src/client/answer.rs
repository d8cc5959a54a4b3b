//! The UE, answer.

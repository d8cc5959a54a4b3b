//! Stage 4, accounts.

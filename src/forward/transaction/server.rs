//! Stage 7, transaction server.

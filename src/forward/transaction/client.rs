//! Stage 7, transaction client.

//! Stage 5, table.

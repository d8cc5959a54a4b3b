//! sipward serve.

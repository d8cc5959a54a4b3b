//! Stage 4, tls_identity.

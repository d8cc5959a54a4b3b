//! Stage 6, sip.

//! Telemetry.

pub mod redact;

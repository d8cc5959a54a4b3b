//! The one place that reads a clock or draws randomness.

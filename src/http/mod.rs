//! HTTP: Ub and the metrics page.

pub mod ub;

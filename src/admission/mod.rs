//! Stage 3, admission.

pub mod limits;
pub mod overload;
pub mod rate;

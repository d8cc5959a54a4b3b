//! Stage 6, plain SIP: the class of everything that claims no other.
//!
//! Takes:   any request but REGISTER.
//! Gives:   the right to have it forwarded.
//! Keeps:   nothing.
//! Refuses: nothing beyond the demands; From is judged where identities are asserted.
//! Sources: RFC 3261 section 16.3.

use super::{Demands, EnablerPolicy};
use crate::admission::Rate;
use crate::association::Bound;
use crate::refusal::Refusal;
use crate::transport::Side;

/// The policy of class `sip`.
#[derive(Clone, Copy, Debug)]
pub struct Sip {
    /// Its demands.
    pub demands: Demands,
}

impl Default for Sip {
    fn default() -> Self {
        let rate = Rate { burst: 10, ..Rate::per_minute(60) };
        Self { demands: Demands { level: 2, secure: false, rate, body_max: 64 * 1024 } }
    }
}

impl EnablerPolicy for Sip {
    fn demands(&self) -> Demands {
        self.demands
    }

    fn allows_direction(&self, _side: Side) -> bool {
        true
    }

    fn check(&self, _bound: &Bound<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

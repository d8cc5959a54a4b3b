//! Stage 6, plain SIP: the class of everything that claims no other.
//!
//! Takes:   any request but REGISTER.
//! Gives:   the right to have it forwarded.
//! Keeps:   nothing.
//! Refuses: event packages that UEs may not use, lists of recipients that are too long or
//!          not asked to be expanded. From is judged where identities are asserted.
//! Sources: RFC 3261 section 16.3; RFC 6665 section 8.3.2 (489); RFC 5363; V-121, V-126.

use super::check::{events, list};
use super::{Class, Demands, EnablerPolicy, Integrity};
use crate::admission::Rate;
use crate::association::Bound;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{Method, Name};

/// The policy of class `sip`.
#[derive(Clone, Debug)]
pub struct Sip {
    /// Its demands.
    pub demands: Demands,
    /// Most recipients of one request.
    pub list_max: usize,
    /// Event packages that UEs may not use.
    pub events_denied: Vec<String>,
}

impl Default for Sip {
    fn default() -> Self {
        let rate = Rate::per_minute(60);
        let demands =
            Demands { dialogs: Some(Rate::per_second(10)), ..Demands::new(rate, 64 * 1024) };
        Self {
            demands,
            list_max: 20,
            events_denied: vec!["ua-profile".into(), "check-sync".into()],
        }
    }
}

impl EnablerPolicy for Sip {
    fn demands(&self, _class: Class) -> &Demands {
        &self.demands
    }

    fn allows_direction(&self, _side: Side, _in_dialog: bool) -> bool {
        true
    }

    /// Of the two methods that carry what somebody says or is.
    fn integrity(&self, _class: Class, method: Method) -> Integrity {
        match method {
            Method::Message | Method::Publish => self.demands.integrity,
            _ => Integrity::Never,
        }
    }

    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let message = bound.message();
        if message.has(Name::Event) {
            events::check(bound, &self.events_denied)?;
        }
        if bound.arrival().side == Side::Ue && message.has(Name::ContentType) {
            list::check_any(message, bound.method(), self.list_max)?;
        }
        Ok(())
    }
}

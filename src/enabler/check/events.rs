//! Stage 6, events: packages that are no UE's. Whether somebody subscribed to what is told is asked by stage 5.
//!
//! Takes:   a request with an Event.
//! Gives:   nothing.
//! Keeps:   nothing.
//! Refuses: denied packages from UEs.
//! Sources: RFC 6665 section 8.3.2; V-126.

use crate::association::Bound;
use crate::refusal::Refusal;
use crate::transport::Side;

/// Checks it.
///
/// # Errors
///
/// [`Refusal::EventRefused`].
pub fn check(bound: &Bound<'_>, denied: &[String]) -> Result<(), Refusal> {
    let event = bound.message().event();
    let among = |list: &[String]| list.iter().any(|own| event.eq_ignore_ascii_case(own.as_bytes()));
    match bound.arrival().side {
        Side::Ue if among(denied) => Err(Refusal::EventRefused),
        Side::Ue | Side::Core => Ok(()),
    }
}

//! Stage 6, events: packages that are no UE's, and news that nobody subscribed to.
//!
//! Takes:   a request with an Event.
//! Gives:   nothing.
//! Keeps:   nothing.
//! Refuses: denied packages from UEs; NOTIFY outside dialogs from a UE, and from the core unless its package may
//!          come so.
//! Sources: RFC 6665 sections 4.1.3 and 8.3.2; V-126.

use crate::association::Bound;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::Method;

/// Checks it.
///
/// # Errors
///
/// [`Refusal::EventRefused`], [`Refusal::DialogUnknown`].
pub fn check(bound: &Bound<'_>, denied: &[String], unsolicited: &[String]) -> Result<(), Refusal> {
    let event = bound.message().event();
    let among = |list: &[String]| list.iter().any(|own| event.eq_ignore_ascii_case(own.as_bytes()));
    let alone = bound.method() == Method::Notify && !bound.in_dialog();
    match bound.arrival().side {
        Side::Ue if among(denied) => Err(Refusal::EventRefused),
        Side::Ue if alone => Err(Refusal::DialogUnknown),
        Side::Core if alone && !among(unsolicited) => Err(Refusal::EventRefused),
        Side::Ue | Side::Core => Ok(()),
    }
}

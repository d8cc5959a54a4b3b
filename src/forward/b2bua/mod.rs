//! Stage 7, back to back: what a message looks like on the other leg, where the two ends are not to know each other.
//!
//! 1. A request outside dialogs leaves under a Call-ID and a tag that were drawn for it, with our Via and our Contact
//!    alone. Inside a dialog it leaves under the ids, the next number, the target and the routes of the other leg.
//! 2. A response goes back as if we had answered: with the Via, ids and Record-Route of the request as it came, under
//!    a tag of ours for each tag of the far side.
//! 3. Names of dialogs are translated, in headers and in `application/dialog-info+xml`; other bodies, From and To, and
//!    whatever else stands in a message, are not touched. No subscription is granted for longer than its key holds.
//! 4. Nobody's credentials, and nobody's challenge, come to the other leg.
//!
//! A dialog with two legs does not outlive the process: what the other leg is called stands in no token. After a restart
//! each end is told 481 (rule 6), and its call is over.
//!
//! Transactions, failover and the table of dialogs are those of the proxy: an ACK to a 2xx comes from the far end of
//! the other leg, so that an offer in the 2xx gets its answer. REGISTER is always proxied.
//!
//! Takes:   messages as they came, with the legs of their dialogs ([`Bridge`](crate::association::Bridge)).
//! Gives:   octets for the other leg; requests of our own inside a dialog.
//! Keeps:   [`Ongoing`]: requests outside dialogs under way, by which one that comes twice is known.
//! Refuses: methods and extensions that nobody could carry across; names of dialogs that nobody knows.
//! Sources: RFC 3261 sections 8.1, 8.2, 12.2, 13, 14 and 15; RFC 3262 section 7.2; RFC 3891; RFC 3911; RFC 4538; RFC 5393
//!          section 5.4.3; RFC 8224 section 4.1; `B2`, `TX-10`; V-136.

mod contact;
mod dialog_info;
pub(super) mod lifetime;
pub mod merging;
pub(super) mod named;
pub(super) mod own;
pub(super) mod request;
pub(super) mod response;

pub use merging::Ongoing;

/// The methods that are bridged, for Allow.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, MESSAGE, NOTIFY, PRACK, PUBLISH, REFER, REGISTER, SUBSCRIBE, UPDATE";

/// Whether an extension that a request needs can cross: all can but those that name dialogs in bodies, which are not
/// read (RFC 5368 section 4: one REFER for many targets).
pub fn crosses(tag: &[u8]) -> bool {
    !tag.eq_ignore_ascii_case(b"multiple-refer")
}

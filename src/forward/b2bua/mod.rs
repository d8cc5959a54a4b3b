//! Stage 7, back to back: what holds the two dialogs of a bridged call together. The proxy does not bridge yet; this
//! is for who writes a UAS and a UAC around it.
//!
//! 1. A dialog towards the UE and one towards the core are the *legs* of a [`Bridge`]; each has ids and numbers of its
//!    own, and none of them is shown on the other.
//! 2. What crosses gets the ids and the next number of the leg that it leaves on; an ACK the number of its INVITE.
//! 3. One INVITE at a time is under way, whichever leg it came on.
//! 4. A dialog that another message names is named anew, from either end.
//!
//! Takes:   ids of both legs, and the method and number of each request.
//! Gives:   [`Bridges`], by which each leg is found; the number to send under; a dialog's name on the other leg.
//! Keeps:   at most `max` bridges, each until it is removed.
//! Refuses: an INVITE while one is under way ([`Clash`]), an ACK that fits none, a bridge more than fit, or one of
//!          which a leg is taken.
//! Sources: RFC 3261 sections 12.2, 13.3.1.4, 14.1 and 14.2; RFC 3262 section 7.2; RFC 3891 section 6.1; `B2-05`, `B2-08`.

pub mod bridge;
pub mod table;

pub use bridge::{Bridge, Clash, Leg};
pub use table::Bridges;

//! Stage 5, brought: the token that a request inside a dialog brings in its topmost Route.
//!
//! Takes:   a request that names a dialog, and which of its ends formed that, where it is known.
//! Gives:   what the token says, if it is ours.
//! Keeps:   nothing.
//! Refuses: a token that does not open for this call, or that faces the other side: rule 10.
//! Sources: RFC 3261 sections 12.2.1.1 and 16.6 item 4; RFC 6665 section 4.1.3; rule 10; V-104.

use super::dialog::Association;
use super::table::Associations;
use super::token::{Former, Opened, RouteToken};
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{Message, Method, Name};

impl Associations {
    /// What the topmost Route of a request from `side` inside the dialog `known`, if it is, says, if it is ours.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenForged`]: rule 10.
    pub(super) fn brought(
        &self,
        message: &Message,
        side: Side,
        known: Option<&Association>,
        now: Now,
    ) -> Result<Option<RouteToken>, Refusal> {
        let top = message.addresses(Name::Route).next().flatten();
        let Some(user) = top.as_ref().and_then(|top| top.uri().user()) else { return Ok(None) };
        let tags = [message.from_tag(), message.to_tag()];
        let likely = former(message, side, known);
        match self.tokens.open(user, message.call_id(), tags, likely, now.wall) {
            Opened::Token(token) if token.facing == side => Ok(Some(token)),
            Opened::Token(_) | Opened::Forged => Err(Refusal::TokenForged),
            Opened::Unknown => Ok(None),
        }
    }
}

/// Which end formed the dialog: the record says it; else who notifies likely did not.
fn former(message: &Message, side: Side, known: Option<&Association>) -> Former {
    let by_sender = match known {
        Some(association) => association.origin.caller_side == side,
        None => message.method() != Some(Method::Notify),
    };
    if by_sender { Former::From } else { Former::To }
}

//! Stage 7, recorded: what a UE that called is told of the way back by the answer.
//!
//! The Record-Route value that faces it left with its request, when the dialog had one end. Now that it has two, the value's
//! token is bound to both: after a restart it stands for that dialog alone (rule 23). What rings, and then answers, tells the
//! same one twice.
//!
//! Takes:   responses that form dialogs, on their way to the UE.
//! Gives:   an edit of the user part of our own value.
//! Keeps:   one token of a request until its final answer.
//! Refuses: nothing: a value that is not ours stays as it is.
//! Sources: RFC 3261 section 16.7 item 8; rules 10 and 23.

use rand_core::Rng as _;

use super::proxy::Proxy;
use crate::association::Track;
use crate::association::token::NONCE_OCTETS;
use crate::instant::Now;
use crate::wire::{Address, Edits, Message, Name};

impl Proxy {
    /// Binds our Record-Route value in `response` to the dialog that it forms. `told` is the token in the answer before
    /// it, if another may follow, and is set to that of this one.
    pub(super) fn bind_route(
        &mut self,
        track: Option<&Track>,
        told: &mut Option<String>,
        response: &Message,
        edits: &mut Edits,
        now: Now,
    ) {
        let Some(track) = track.filter(|track| track.forms_for_ue()) else { return };
        let mut nonce = [0; NONCE_OCTETS];
        self.rng.fill_bytes(&mut nonce);
        let associations = &self.shared.gate.associations;
        let found = associations.dialog_token(track, response, told.take(), &nonce, now);
        let Some((below, token)) = found else { return };
        *told = Some(token.clone()).filter(|_| matches!(response.status(), Some(..=199)));
        let place = response.values(Name::RecordRoute).count().checked_sub(below.saturating_add(1));
        let value = place.and_then(|place| response.values(Name::RecordRoute).nth(place));
        let Some(route) = value.and_then(Address::parse) else { return };
        let uri = route.uri();
        let Some(user) = uri.user().filter(|user| associations.is_route_token(user, now)) else {
            return;
        };
        edits.replace(response.span_of(user), |text| {
            text.put(&token);
        });
    }
}

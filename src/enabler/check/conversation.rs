//! Stage 6, conversations: the headers that tie messages of CPM to each other.
//!
//! Takes:   a request, and whether it must belong to a conversation.
//! Gives:   nothing.
//! Keeps:   nothing. Bound: 128 octets of each header.
//! Refuses: one of them twice, too long, or missing where it is asked for.
//! Sources: OMA CPM, as deployed clients write them; they differ, so that absence is not refused by itself.

use crate::refusal::Refusal;
use crate::wire::Message;

/// Longest value, in octets.
pub const VALUE_MAX: usize = 128;

const NAMES: [&str; 3] = ["Conversation-ID", "Contribution-ID", "InReplyTo-Contribution-ID"];

/// Checks them.
///
/// # Errors
///
/// [`Refusal::ConversationRefused`].
pub fn check(message: &Message, required: bool) -> Result<(), Refusal> {
    for (place, name) in NAMES.into_iter().enumerate() {
        let mut values = message.fields_called(name);
        let first = values.next();
        let missing = place == 0 && required && first.is_none_or(<[u8]>::is_empty);
        let long = first.is_some_and(|value| value.len() > VALUE_MAX);
        if missing || long || values.next().is_some() {
            return Err(Refusal::ConversationRefused);
        }
    }
    Ok(())
}

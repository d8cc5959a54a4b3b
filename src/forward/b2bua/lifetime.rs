//! Stage 7, back to back: no subscription is granted for longer than the key of its UE holds.
//!
//! Takes:   a 2xx to SUBSCRIBE, or a NOTIFY, and when the key ends that the dialog stands on.
//! Gives:   the number of seconds that goes on in place of a greater one, and where it stands.
//! Keeps:   nothing.
//! Refuses: nothing. Where the key has ended, another is waited for, and nothing is cut.
//! Sources: RFC 6665 sections 4.1.2.1, 4.2.1.1 and 4.2.2; `dialog-association` sections 8.5 and 11.

use crate::instant::Instant;
use crate::wire::{Message, Method, Name, Span, SubscriptionState};

/// Where a message from the notifier says how long the subscription is, and the seconds that are left instead.
pub(in crate::forward) fn cut(
    message: &Message,
    ends: Instant,
    now: Instant,
) -> Option<(Span, u64)> {
    let left = ends.since(now).as_secs();
    if left == 0 {
        return None;
    }
    let (said, written) = match message.status() {
        Some(200..=299) if message.cseq_method() == Method::Subscribe => {
            (message.expires()?, message.first(Name::Expires)?)
        }
        None if message.method() == Some(Method::Notify) => {
            let state = SubscriptionState::parse(message.first(Name::SubscriptionState)?)?;
            (state.expires()?, state.expires_as_written()?)
        }
        _ => return None,
    };
    (u64::from(said) > left).then(|| (message.span_of(written), left))
}

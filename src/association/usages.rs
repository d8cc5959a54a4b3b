//! Stage 5, usages: what keeps a dialog alive, how long, and what becomes of it then.
//!
//! Takes:   what responses and NOTIFYs say of an INVITE or a subscription, and the time.
//! Gives:   the end of a usage; of a dialog that has none left; of its record 32 seconds later.
//! Keeps:   an end for each subscription; the timer of each dialog, for that which ends first.
//! Refuses: nothing.
//! Sources: RFC 5057 section 4; RFC 6665 sections 4.1.2, 4.2.1.4 and 4.4.1; rules 30 and 31.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::dialog::{Association, DialogKey, LINGER, State};
use super::table::{Associations, Track};
use crate::instant::{Instant, Now};
use crate::wire::{Message, Method, Name, SubscriptionState};

/// What ends, by name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// A request that might have formed a dialog.
    Forming(DialogKey),
    /// A dialog, or something of it.
    Dialog(DialogKey),
}

impl Associations {
    /// Notes what a response says of the subscription that its request refreshes or brings.
    pub(super) fn note_refresh(&self, track: &Track, response: &Message, status: u16, now: Now) {
        let refreshes = track.method == Method::Subscribe && ENDS_SUBSCRIPTION.contains(&status);
        if refreshes || track.subscribes && status >= 300 {
            self.unsubscribe(track, now);
        }
        if track.method == Method::Subscribe && matches!(status, 200..=299) {
            self.grant(track.key, track.event, response.expires(), now);
        }
    }

    pub(super) fn end_invite(&self, key: DialogKey, now: Now) {
        let Some(mut entry) = self.dialogs.get_mut(&key) else { return };
        entry.invite = false;
        let over = !entry.has_usage();
        drop(entry);
        if over {
            self.release(key, now, |entry| !entry.has_usage());
        }
    }

    /// Notes what a forwarded NOTIFY says of its subscription: that it ended, or how long it still is.
    pub fn note_subscription(&self, track: &Track, notify: &Message, now: Now) {
        if track.method != Method::Notify || !track.verified {
            return;
        }
        let state = notify.first(Name::SubscriptionState).and_then(SubscriptionState::parse);
        match state {
            Some(state) if state.is_terminated() => self.unsubscribe(track, now),
            Some(state) => self.grant(track.key, track.event, state.expires(), now),
            None => {}
        }
    }

    /// A subscription was granted for so many seconds from now (RFC 6665 sections 4.1.2.1 and 4.2.1.4).
    pub(super) fn grant(&self, key: DialogKey, event: u64, seconds: Option<u32>, now: Now) {
        let Some(seconds) = seconds else { return };
        let Some(mut entry) = self.dialogs.get_mut(&key) else { return };
        let longest = self.longest_subscription(entry.class);
        let until = now.mono + Duration::from_secs(seconds.into()).min(longest) + LINGER;
        if entry.grant(event, until) {
            self.look(key, &mut entry);
        }
    }

    /// Sees to it that a dialog is looked at when something of it ends.
    pub(super) fn look(&self, key: DialogKey, entry: &mut Association) {
        let at = entry.next_end();
        self.expiry.set(&mut entry.timer, at, Ending::Dialog(key));
    }

    pub(super) fn unsubscribe(&self, track: &Track, now: Now) {
        let Some(mut entry) = self.dialogs.get_mut(&track.key) else { return };
        entry.subscriptions.retain(|known| known.event != track.event);
        let over = !entry.has_usage();
        drop(entry);
        if over {
            self.release(track.key, now, |entry| !entry.has_usage());
        }
    }

    pub(super) fn release(&self, key: DialogKey, now: Now, if_so: impl Fn(&Association) -> bool) {
        let Some(mut entry) = self.dialogs.get_mut(&key) else { return };
        if entry.state == State::Released || !if_so(&entry) {
            return;
        }
        self.one_less(&entry.origin, true);
        entry.release(now.mono);
        self.look(key, &mut entry);
    }

    /// Ends what is due, so many at a time: while there are more, [`Associations::next_expiry`] is past.
    pub fn expire(&self, now: Now) {
        for ending in self.expiry.expire(now.mono, AT_ONCE) {
            match ending {
                Ending::Forming(key) => self.expire_forming(key, now),
                Ending::Dialog(key) => self.expire_dialog(key, now),
            }
        }
    }

    fn expire_forming(&self, key: DialogKey, now: Now) {
        let gone = self.forming.remove_if_mut(&key, |_, entry| {
            if !entry.timer.fired(now.mono) {
                return false;
            }
            let due = entry.deadline <= now.mono;
            if !due {
                self.expiry.set(&mut entry.timer, entry.deadline, Ending::Forming(key));
            }
            due
        });
        if let Some((_, entry)) = gone {
            self.held.fetch_sub(1, Ordering::AcqRel);
            self.one_less(&entry.origin, entry.children.is_empty());
        }
    }

    fn expire_dialog(&self, key: DialogKey, now: Now) {
        let gone = self.dialogs.remove_if_mut(&key, |_, entry| {
            if !entry.timer.fired(now.mono) {
                return false;
            }
            let lapsed = entry.state == State::Bound && entry.lapse(now.mono) && !entry.has_usage();
            let due = entry.deadline <= now.mono;
            if due && entry.state == State::Released {
                return true;
            }
            if due || lapsed {
                self.one_less(&entry.origin, true);
                entry.release(now.mono);
            }
            self.look(key, entry);
            false
        });
        if gone.is_some() {
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// When [`Associations::expire`] is to be called next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiry.next()
    }
}

/// How many end in one turn of a worker, at most.
const AT_ONCE: usize = 1024;
/// What ends a subscription when it answers its refresh (RFC 6665 section 4.1.2.2).
const ENDS_SUBSCRIPTION: [u16; 12] = [404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 604];

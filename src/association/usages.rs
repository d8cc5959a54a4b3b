//! Stage 5, usages: what keeps a dialog alive, how long, and what becomes of it then.
//!
//! Takes:   what responses and NOTIFYs say of an INVITE or a subscription, and the time.
//! Gives:   the end of a usage; of a dialog that has none left; of its record 32 seconds later.
//! Keeps:   an end for each subscription; the timer of each dialog, for that which ends first.
//! Refuses: nothing.
//! Sources: RFC 5057 section 4; RFC 6665 sections 4.1.2, 4.2.1.4 and 4.4.1; rules 30 and 31.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::dialog::{Association, DialogKey, LINGER, Origin, REFRESH, Session};
use super::errands::{Errand, Why};
use super::state::State;
use super::table::{Associations, Track};
use crate::identity::{Principal, Proof};
use crate::instant::{Instant, Now};
use crate::transport::Flow;
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
        let unasked = track.subscribes && makes_no_subscription(response, status);
        if track.method == Method::Refer && unasked {
            self.unsubscribe(track, now);
        }
        if track.method == Method::Subscribe && matches!(status, 200..=299) {
            self.prolong(track.key, track.event, response.expires(), now);
        }
    }

    /// Notes what a response says of the subscription that its request forms.
    pub(super) fn note_grant(
        &self,
        track: &Track,
        child: DialogKey,
        response: &Message,
        status: u16,
        now: Now,
    ) {
        if track.method == Method::Refer && makes_no_subscription(response, status) {
            self.release(child, now, |entry| !entry.invite);
        }
        if track.method == Method::Subscribe && matches!(status, 200..=299) {
            self.prolong(child, track.event, response.expires(), now);
        }
    }

    /// Notes how long a session is, as a 2xx to what refreshes it says; `None` if its ends have no timer.
    ///
    /// Source: RFC 4028 sections 8.2 and 8.3.
    pub fn note_session(
        &self,
        track: &Track,
        response: &Message,
        interval: Option<Duration>,
        now: Now,
    ) {
        let key = if track.forms { self.keyer.of(response, track.sender) } else { track.key };
        let Some(mut entry) = self.dialogs.get_mut(&key) else { return };
        if !track.verified
            || entry.origin.id != track.id
            || !entry.invite
            || !entry.state.is_confirmed()
        {
            return;
        }
        let bridge = entry.bridge.clone();
        let (session, length) = match (interval, &bridge) {
            // Who is an end of the session says so before it is over (RFC 4028 section 10).
            (Some(interval), Some(_)) => {
                let before = LINGER.min(interval.checked_div(3).unwrap_or_default());
                (Session::Agreed, interval.saturating_sub(before))
            }
            (Some(interval), None) => (Session::Agreed, interval.saturating_add(LINGER)),
            (None, Some(bridge)) if bridge.may_be_asked() => (Session::Ours, REFRESH),
            (None, _) => (Session::Open, self.settings.load().max_idle),
        };
        (entry.session, entry.ends) = (session, now.mono + length);
        self.look(key, &mut entry);
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
            Some(state) => self.prolong(track.key, track.event, state.expires(), now),
            None => {}
        }
    }

    /// A subscription was granted for so many seconds from now (RFC 6665 sections 4.1.2.1 and 4.2.1.4).
    pub(super) fn prolong(&self, key: DialogKey, event: u64, seconds: Option<u32>, now: Now) {
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
        self.retire(key, &mut entry, now);
    }

    /// It is over, and nothing leads to it any more.
    fn retire(&self, key: DialogKey, entry: &mut Association, now: Now) {
        self.one_less(&entry.origin);
        entry.release(now.mono);
        for flow in entry.anchors() {
            self.anchored.remove(flow, key);
        }
        self.grants.forget(key);
        self.look(key, entry);
    }

    /// Lets what is due of a dialog happen; whether it is to be forgotten.
    fn let_lapse(&self, key: DialogKey, entry: &mut Association, now: Now) -> bool {
        if entry.is_to_be_asked_about(now.mono) {
            self.errands.add(entry.bridge.clone(), Errand::Refresh);
            entry.ends = now.mono + PATIENCE;
        }
        let (before, lives) = (entry.state, entry.lapse(now.mono, &self.settings.load()));
        if before == State::Released {
            // A timer of before its end may have come: it is not the last.
            if lives {
                self.look(key, entry);
            }
            return !lives;
        }
        let broke = before != State::Broken && entry.state == State::Broken;
        if broke && entry.key.ends() <= now.mono {
            self.noted.not_rekeyed.fetch_add(1, Ordering::Relaxed);
        }
        let over = broke || !lives && before.is_confirmed() && before != State::Broken;
        let why = match broke {
            true if entry.key.ends() <= now.mono => Why::KeyOver,
            true => Why::Away,
            false => Why::Silent,
        };
        let bridge = entry.bridge.clone().filter(|_| over && entry.invite);
        self.errands.add(bridge, Errand::End(why));
        if lives {
            self.look(key, entry);
        } else {
            self.retire(key, entry, now);
        }
        false
    }

    /// Lets what is due of a dialog happen before it is judged by.
    pub(super) fn pass_time(&self, key: DialogKey, now: Now) {
        if let Some(mut entry) = self.dialogs.get_mut(&key)
            && entry.next_end() <= now.mono
        {
            self.let_lapse(key, &mut entry, now);
        }
    }

    /// A flow is lost: dialogs that it led to have one way less to their owner, those without another none.
    pub fn lose(&self, flow: &Flow, now: Now) {
        for key in self.anchored.of(flow) {
            let Some(mut entry) = self.dialogs.get_mut(&key) else { continue };
            let entry = &mut *entry;
            if !entry.anchors().contains(flow) {
                continue;
            }
            self.anchored.remove(flow, key);
            if !entry.moved.lose(&entry.origin.flow, flow) {
                entry.suspect(now.mono, &self.settings.load());
            }
            self.look(key, entry);
        }
    }

    /// Takes back what some dialogs stand on, `gone` being told what they came of and the mark of their owner's key:
    /// those that may come to be do not, and the others can only be torn down. How many there were.
    ///
    /// Looks at every dialog.
    pub fn revoke(&self, gone: impl Fn(&Origin, u64) -> bool, now: Now) -> usize {
        let forming =
            self.forming.iter().filter(|entry| gone(&entry.origin, entry.origin.key.mark));
        let forming: Vec<(DialogKey, u64)> =
            forming.map(|entry| (*entry.key(), entry.origin.id)).collect();
        for of in &forming {
            self.end_forming(*of, now);
        }
        let stands = |entry: &Association| {
            let live = entry.state.is_confirmed() && entry.state != State::Broken;
            live && gone(&entry.origin, entry.key.mark())
        };
        let dialogs = self.dialogs.iter().filter(|entry| stands(entry));
        let dialogs: Vec<DialogKey> = dialogs.map(|entry| *entry.key()).collect();
        for key in &dialogs {
            if let Some(mut entry) = self.dialogs.get_mut(key)
                && stands(&entry)
            {
                self.take_back(*key, &mut entry, now);
            }
        }
        if !forming.is_empty() {
            self.errands.take_back();
        }
        self.errands.ring();
        forming.len().saturating_add(dialogs.len())
    }

    /// Takes back a key of somebody on `flow`: of the dialogs that are anchored there, those that stand on it. How many.
    pub fn revoke_on(&self, flow: &Flow, proof: Proof, name: &str, now: Now) -> usize {
        let mark = self.keyer.mark(name.as_bytes());
        let mut count: usize = 0;
        for key in self.anchored.of(flow) {
            let Some(mut entry) = self.dialogs.get_mut(&key) else { continue };
            let live = entry.state.is_confirmed() && entry.state != State::Broken;
            if live && entry.origin.owner.proof == proof && entry.key.mark() == mark {
                self.take_back(key, &mut entry, now);
                count = count.saturating_add(1);
            }
        }
        self.errands.ring();
        count
    }

    /// What a dialog stands on is taken back.
    fn take_back(&self, key: DialogKey, entry: &mut Association, now: Now) {
        entry.break_off(now.mono);
        let bridge = entry.bridge.clone().filter(|_| entry.invite);
        self.errands.add(bridge, Errand::End(Why::Revoked));
        self.look(key, entry);
    }

    /// Takes back what dialogs of one principal stand on.
    pub fn revoke_owner(&self, owner: &Principal, now: Now) -> usize {
        self.revoke(|origin, _| origin.owner == *owner, now)
    }

    /// Takes back all that came of one request, by its number.
    pub fn revoke_dialog(&self, id: u64, now: Now) -> usize {
        self.revoke(|origin, _| origin.id == id, now)
    }

    /// Takes back a key: dialogs that stand on it.
    pub fn revoke_key(&self, proof: Proof, name: &str, now: Now) -> usize {
        let mark = self.keyer.mark(name.as_bytes());
        self.revoke(|origin, key| origin.owner.proof == proof && key == mark, now)
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
            self.forget_forming(&entry.origin);
        }
    }

    fn expire_dialog(&self, key: DialogKey, now: Now) {
        let gone = self.dialogs.remove_if_mut(&key, |_, entry| {
            if !entry.timer.fired(now.mono) {
                return false;
            }
            self.let_lapse(key, entry, now)
        });
        if let Some((_, entry)) = gone {
            self.held.fetch_sub(1, Ordering::AcqRel);
            for end in entry.named.into_iter().flatten() {
                self.ends.remove(end, &entry.origin.owner);
            }
        }
    }

    /// When [`Associations::expire`] is to be called next: at once if there are errands.
    pub fn next_expiry(&self) -> Option<Instant> {
        if self.errands.are_due() { Some(Instant::START) } else { self.expiry.next() }
    }
}

/// Whether a 2xx to a REFER says that nobody will be notified (RFC 4488 section 4).
fn makes_no_subscription(response: &Message, status: u16) -> bool {
    let refers = response.fields_called("Refer-Sub").any(|value| {
        let value = value.split(|octet| *octet == b';').next().unwrap_or_default();
        value.trim_ascii().eq_ignore_ascii_case(b"false")
    });
    matches!(status, 200..=299) && refers
}

/// How long after it was asked about a call is over if nobody answered: longer than a transaction lasts.
const PATIENCE: Duration = Duration::from_secs(64);
/// How many end in one turn of a worker, at most.
const AT_ONCE: usize = 1024;
/// What ends a subscription when it answers its refresh (RFC 6665 section 4.1.2.2).
const ENDS_SUBSCRIPTION: [u16; 12] = [404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 604];

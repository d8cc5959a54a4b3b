//! Stage 5, states: where a dialog stands, and what moves it.
//!
//! 1. Early becomes bound by a 2xx, or by the first NOTIFY.
//! 2. Bound becomes suspect when the last flow to the UE is lost, and rekeying when its owner's key ends; the owner's
//!    evidence leads back. What is waited for in vain makes it broken.
//! 3. Whatever its state, it is released when its last usage ends or its time is over; 32 seconds later it is gone.
//!
//! Takes:   what stage 7 saw, and the time. No message moves a state that nobody was proved for.
//! Gives:   [`State`], and when it ends by itself.
//! Keeps:   nothing beside the record.
//! Refuses: nothing; `judge` does, by the state.
//! Sources: RFC 5057 section 5.1; RFC 4028 section 8.3; rules 17 to 19, 24 and 31.

use std::time::Duration;

use super::Settings;
use super::dialog::{Association, LINGER, Session};
use crate::instant::Instant;

/// Where a dialog stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The request that may form it was forwarded; no far tag is known.
    Forming,
    /// A tag was seen in a 101 to 199.
    Early,
    /// Confirmed.
    Bound,
    /// Confirmed, but no flow leads to the UE any more.
    Suspect,
    /// Confirmed, but its owner's key has ended, and he is to show another.
    Rekeying,
    /// What it stood on was taken back, or did not come: it can only be torn down.
    Broken,
    /// Over; what comes is answered 481 for 32 seconds.
    Released,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Forming,
        Self::Early,
        Self::Bound,
        Self::Suspect,
        Self::Rekeying,
        Self::Broken,
        Self::Released,
    ];

    /// Its name in counters and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forming => "forming",
            Self::Early => "early",
            Self::Bound => "bound",
            Self::Suspect => "suspect",
            Self::Rekeying => "rekeying",
            Self::Broken => "broken",
            Self::Released => "released",
        }
    }

    /// Whether it is confirmed and not over.
    pub fn is_confirmed(self) -> bool {
        matches!(self, Self::Bound | Self::Suspect | Self::Rekeying | Self::Broken)
    }
}

impl Association {
    /// When something of it ends next.
    pub fn next_end(&self) -> Instant {
        if !self.state.is_confirmed() {
            return self.deadline;
        }
        let subscriptions = self.subscriptions.iter().map(|known| known.until);
        let first = subscriptions.fold(self.ends, Instant::min);
        match self.state {
            State::Bound => first.min(self.key.ends()),
            State::Suspect => first.min(self.key.ends()).min(self.deadline),
            _ => first.min(self.deadline),
        }
    }

    /// Whether its ends are to be asked whether they are still there, for want of a timer of theirs.
    pub(super) fn is_to_be_asked_about(&self, now: Instant) -> bool {
        let lives = self.state.is_confirmed() && self.state != State::Broken;
        lives && self.session == Session::Ours && self.ends <= now
    }

    /// Lets what is due by `now` happen; `false` if it is over.
    pub(super) fn lapse(&mut self, now: Instant, settings: &Settings) -> bool {
        if !self.state.is_confirmed() {
            return self.deadline > now;
        }
        let before = self.subscriptions.len();
        self.subscriptions.retain(|known| known.until > now);
        let lapsed = self.subscriptions.len() < before;
        if self.ends <= now || lapsed && !self.has_usage() {
            return false;
        }
        let ended = matches!(self.state, State::Bound | State::Suspect) && self.key.ends() <= now;
        if ended {
            self.state = State::Rekeying;
            self.deadline = (self.key.ends() + settings.rekey_deadline).min(self.ends);
        }
        if matches!(self.state, State::Suspect | State::Rekeying) && self.deadline <= now {
            self.break_off(now);
        }
        self.state != State::Broken || self.deadline > now
    }

    /// The first 2xx, or the first NOTIFY: it is a dialog, until `ends`.
    pub(super) fn confirm(&mut self, ends: Instant, now: Instant, settings: &Settings) {
        self.ends = ends;
        self.state = State::Bound;
        if self.adrift {
            self.suspect(now, settings);
        }
    }

    /// The last flow to its owner is lost.
    pub(super) fn suspect(&mut self, now: Instant, settings: &Settings) {
        self.adrift = true;
        if self.state == State::Bound {
            self.state = State::Suspect;
            self.deadline = now + settings.grace;
        }
    }

    /// Its owner gave evidence with a key that holds: what was missing is there.
    pub(super) fn revive(&mut self) {
        self.adrift = false;
        if matches!(self.state, State::Suspect | State::Rekeying) {
            self.state = State::Bound;
        }
    }

    /// What it stood on is gone.
    pub(super) fn break_off(&mut self, now: Instant) {
        if self.state != State::Released {
            self.state = State::Broken;
            self.deadline = now + BROKEN;
        }
    }

    /// Ends it: for 32 seconds what still comes is told so.
    pub(super) fn release(&mut self, now: Instant) {
        self.state = State::Released;
        self.deadline = now + LINGER;
    }
}

/// How long a dialog that is broken may still be torn down.
pub const BROKEN: Duration = Duration::from_secs(30 * 60);

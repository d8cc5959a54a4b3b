//! Stage 5, notified: which SUBSCRIBE or REFER a first NOTIFY is of.
//!
//! 1. What a UE sent is found by its ids: nobody else forms dialogs under its Call-ID and tag.
//! 2. A core that forks sends one request to many UEs, under one Call-ID and tag. Each of them is an entry of its own, under
//!    its number, which the token in the Route of a NOTIFY says.
//! 3. For a UE that brings no Route there is an index by the ids. Of several requests that bear them it is the one that left
//!    on the flow which the NOTIFY comes on; else the newest that its sender may answer.
//! 4. Where it left under ids of its own, an alias leads to it.
//!
//! Takes:   NOTIFYs in dialogs that are not known.
//! Gives:   [`Inside`] by rule 25.
//! Keeps:   the number of each request of the core that subscribes, as long as it is held; [`FORKS_MAX`] for one end.
//! Refuses: what is of no such request, of another event, or from elsewhere than it went to (rule 6); more notifiers of
//!          one request than are kept (rule 28).
//! Sources: RFC 6665 sections 4.1.4 and 4.4.1; rule 25.

use std::sync::Arc;

use smallvec::SmallVec;

use super::bridge::Seed;
use super::brought::Brought;
use super::dialog::{Association, DialogKey, Origin};
use super::ends::End;
use super::judge::{Passed, judge};
use super::state::State;
use super::table::Associations;
use super::{Inside, Known};
use crate::authentication::Authenticated;
use crate::gate::Gate;
use crate::hashing::Hashed;
use crate::instant::Now;
use crate::layered::Layered;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{Message, Method};

/// Requests of one end that are found by their ids, at most: the newest. The others are by their tokens.
pub(super) const FORKS_MAX: usize = 32;

/// Numbers of requests of the core that subscribe, the newest last, by the end of their sender. Its lock is among the
/// last that are taken.
#[derive(Debug, Default)]
pub(super) struct Forks(Layered<End, SmallVec<[u64; 2]>, Hashed>);

impl Forks {
    /// Those over that of `of`.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let beneath = Arc::clone(of);
        let copy = move |end: &End| beneath.associations.forks.0.get(end).map(|ids| ids.clone());
        Self(Layered::over(Hashed::default(), copy))
    }

    /// A request is about to be held.
    pub(super) fn add(&self, origin: &Origin) {
        if !is_forked(origin) {
            return;
        }
        let mut ids = self.0.entry(origin.end).or_default();
        if ids.len() >= FORKS_MAX {
            ids.remove(0);
        }
        ids.push(origin.id);
    }

    /// It is held no more.
    pub(super) fn remove(&self, origin: &Origin) {
        if !is_forked(origin) {
            return;
        }
        self.0.remove_if_mut(&origin.end, |_, ids| {
            ids.retain(|id| *id != origin.id);
            ids.is_empty()
        });
    }

    fn of(&self, end: End) -> SmallVec<[u64; 2]> {
        self.0.get(&end).map(|ids| ids.clone()).unwrap_or_default()
    }

    /// How many ends there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether a UE may notify of it.
fn is_forked(origin: &Origin) -> bool {
    origin.event != 0 && origin.caller_side == Side::Core
}

/// A request that a NOTIFY may be of.
struct Candidate {
    key: DialogKey,
    /// The dialog that the NOTIFY would make.
    fork: Association,
    /// How many it has made.
    many: usize,
    seed: Option<Arc<Seed>>,
}

impl Associations {
    /// Rule 25: what a first NOTIFY is inside of, `key` being what its ids name; `None` if it is of nothing that is held.
    pub(super) fn bind_first(
        &self,
        found: &Authenticated<'_>,
        key: DialogKey,
        event: u64,
        brought: &Brought,
        now: Now,
    ) -> Result<Option<Inside>, Refusal> {
        let admitted = *found.admitted();
        let (message, flow) = (admitted.message(), admitted.arrival().flow);
        if admitted.method() != Method::Notify {
            return Ok(None);
        }
        let keys = self.notified(message, admitted.arrival().side, brought).into_iter();
        let all: SmallVec<[Candidate; 1]> =
            keys.filter_map(|key| self.candidate(key, brought)).collect();
        if all.is_empty() {
            return Ok(None);
        }
        let fit = all.into_iter().filter(|one| self.is_of(one, found, event, now));
        let one = fit.max_by_key(|one| one.fork.origin.flow == flow);
        let Candidate { key: forming, fork, many, seed } = one.ok_or(Refusal::DialogUnknown)?;
        if many >= self.settings.load().early_max {
            return Err(Refusal::TableFull);
        }
        let key = seed.as_ref().map_or(key, |seed| self.child_of(seed, message.from_tag()));
        let passed = Passed { rule: 25, shown: None, verified: true };
        let known = Known::Notified(forming);
        Ok(Some(Inside { seed, ..Inside::of(&fork, key, known, passed, brought) }))
    }

    /// Where requests would be held that a NOTIFY may be of, the newest last. Its To tag is their From tag: they went the
    /// other way.
    fn notified(
        &self,
        notify: &Message,
        side: Side,
        brought: &Brought,
    ) -> SmallVec<[DialogKey; 1]> {
        let (call_id, tag) = (notify.call_id(), notify.to_tag());
        let named = match side {
            Side::Core => self.keyer.dialog(call_id, tag, b""),
            Side::Ue => self.keyer.dialog(call_id, b"", tag),
        };
        let held = self.lead(named, side);
        if side == Side::Core || held != named {
            return [held].into_iter().collect();
        }
        let numbered = |id| self.keyer.numbered(id);
        match brought.opened() {
            Some(token) => [numbered(token.id)].into_iter().collect(),
            None => {
                let ids = self.forks.of(self.keyer.end(call_id, tag));
                ids.into_iter().map(numbered).collect()
            }
        }
    }

    fn candidate(&self, key: DialogKey, brought: &Brought) -> Option<Candidate> {
        let entry = self.forming.get(&key)?;
        let meant = brought.opened().is_none_or(|token| token.id == entry.origin.id);
        if !meant || entry.origin.event == 0 {
            return None;
        }
        let (many, seed) = (entry.children.len(), entry.seed.clone());
        Some(Candidate { key, fork: entry.fork(State::Forming), many, seed })
    }

    /// Whether a NOTIFY is of that request. From elsewhere than it went to, it is as if there were none.
    fn is_of(&self, one: &Candidate, found: &Authenticated<'_>, event: u64, now: Now) -> bool {
        let message = found.admitted().message();
        let (call_id, tag) = (message.call_id(), message.to_tag());
        let under = one.seed.as_ref().is_none_or(|seed| seed.left_under(call_id, tag));
        let question = self.question(&one.fork, found, event, now);
        under && one.fork.subscribes(event) && judge(&one.fork, found, question).is_ok()
    }
}

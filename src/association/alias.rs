//! Stage 5, aliases: the same dialog, found by the ids of its other leg.
//!
//! Takes:   seeds of requests that go on under other ids, and bridges of the dialogs that come of them.
//! Gives:   the key under which a dialog is held, from the key that its far side knows it by.
//! Keeps:   one alias for each request that may form dialogs and each bridged dialog, and one for the Call-ID of each of its
//!          legs: they are part of the record that they lead to, and go with it, so that `association.max` bounds them too.
//! Refuses: the ids of one leg on the other: they lead nowhere.
//! Sources: RFC 3261 section 12.2.2; RFC 6665 section 4.4.1; `B2-01`, `B2-08`.

use std::sync::Arc;

use smallvec::SmallVec;

use super::anchors::ANCHORS_MAX;
use super::bridge::{Bridge, Seed, Way, other};
use super::dialog::{DialogKey, Keyer, NEVER, Origin, REFRESH, Session};
use super::errands::Errand;
use super::table::{Associations, Track};
use super::{Inside, State};
use crate::hashing::Hashed;
use crate::instant::{Instant, Now};
use crate::layered::Layered;
use crate::transport::{Flow, Side};
use crate::wire::{DialogRef, Message, Method};

/// The aliases of all dialogs. Their lock is the last that is taken.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    pub(super) keys: Layered<DialogKey, (Side, DialogKey), Hashed>,
}

/// One alias; it ends with its owner.
pub(super) struct Alias {
    table: Arc<Aliases>,
    key: DialogKey,
}

impl std::fmt::Debug for Alias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Alias").field(&self.key).finish()
    }
}

impl Drop for Alias {
    fn drop(&mut self) {
        self.table.keys.remove(&self.key);
    }
}

/// What a dialog is that a message names.
#[derive(Debug)]
pub enum Named {
    /// It has other ids on the other side.
    Bridged(Arc<Bridge>),
    /// It has the same.
    Plain,
    /// Nobody knows it.
    Unknown,
}

impl Associations {
    /// The key under which the dialog is held that `side` knows by `key`.
    pub(super) fn lead(&self, key: DialogKey, side: Side) -> DialogKey {
        let alias = self.aliases.keys.get(&key).map(|alias| *alias);
        alias.filter(|(of, _)| *of == side).map_or(key, |(_, key)| key)
    }

    fn alias(&self, key: DialogKey, side: Side, leads_to: DialogKey) -> Alias {
        self.aliases.keys.insert(key, (side, leads_to));
        Alias { table: Arc::clone(&self.aliases), key }
    }

    /// Notes under what ids the request of `track` went on: forks of it are then dialogs with two legs.
    pub fn sow(&self, track: &Track, seed: &Arc<Seed>) {
        let Some(mut entry) = self.forming_of(track) else { return };
        // A NOTIFY may come before any response. Others are not looked for by their ids.
        if matches!(track.method, Method::Subscribe | Method::Refer) && !seed.same_ids {
            let far = other(seed.near);
            let (call_id, own_tag) = (&seed.far_call_id, &seed.far_own_tag);
            let key = match far {
                Side::Ue => self.keyer.dialog(call_id, b"", own_tag),
                Side::Core => self.keyer.dialog(call_id, own_tag, b""),
            };
            let _ = seed.alias.set(self.alias(key, far, track.key));
        }
        entry.seed = Some(Arc::clone(seed));
    }

    /// The tag of ours in responses to the request of `seed`, for the far peer of that tag.
    pub fn near_tag(&self, seed: &Seed, far_tag: &[u8]) -> Box<[u8]> {
        seed.near_own_tag(&self.keyer, far_tag)
    }

    /// The key of the dialog that a far peer of that tag makes of `seed`.
    pub(super) fn child_of(&self, seed: &Seed, far_tag: &[u8]) -> DialogKey {
        seed.near_leg(&self.keyer, far_tag).key(&self.keyer, seed.near)
    }

    /// Gives the dialog between the sender of `seed` and the far peer of that tag its bridge, unless it has one. Who
    /// confirms it says the way anew; `of` is the number of its request, and whether this does. `None` if there is no such
    /// dialog, or its leg is too long.
    pub fn join(
        &self,
        seed: &Seed,
        far_tag: &[u8],
        way: Way,
        of: (u64, bool),
    ) -> Option<Arc<Bridge>> {
        let ((id, confirms), child) = (of, self.child_of(seed, far_tag));
        let mut entry = self.dialogs.get_mut(&child)?;
        if entry.origin.id != id {
            return None;
        }
        if let Some(known) = &entry.bridge {
            if confirms {
                known.confirm(way);
            }
            return Some(Arc::clone(known));
        }
        let bridge = Arc::new(seed.bridge(&self.keyer, far_tag, way)?);
        let far = other(seed.near);
        let key = bridge.leg(far).key(&self.keyer, far);
        if key != child {
            let _ = bridge.alias.set(self.alias(key, far, child));
            let calls = [Side::Ue, Side::Core].map(|side| {
                let call = self.keyer.call(&bridge.leg(side).call_id);
                let free = !self.aliases.keys.contains_key(&call);
                free.then(|| self.alias(call, side, child))
            });
            let _ = bridge.calls.set(calls);
        }
        entry.bridge = Some(Arc::clone(&bridge));
        Some(bridge)
    }

    /// The bridge of the dialog between the sender of `seed` and the far peer of that tag: its own, or one that stands
    /// alone. `None` if its leg is too long.
    pub fn bridge_of(&self, seed: &Seed, far_tag: &[u8], way: Way) -> Option<Arc<Bridge>> {
        let child = self.child_of(seed, far_tag);
        let known = self.dialogs.get(&child).and_then(|entry| entry.bridge.clone());
        known.or_else(|| seed.bridge(&self.keyer, far_tag, way).map(Arc::new))
    }

    /// What the dialog of a bridge came of, and the flows that lead to the UE, the newest last.
    pub fn reach(&self, bridge: &Bridge) -> Option<(Arc<Origin>, SmallVec<[Flow; ANCHORS_MAX]>)> {
        let entry = self.dialogs.get(&self.key_of(bridge))?;
        Some((Arc::clone(&entry.origin), entry.anchors().iter().copied().collect()))
    }

    /// Whether the call of a bridge is not over.
    pub fn is_up(&self, bridge: &Bridge) -> bool {
        let entry = self.dialogs.get(&self.key_of(bridge));
        entry.is_some_and(|entry| entry.invite && entry.state != State::Released)
    }

    /// Both legs are told that the call is over; `false` if they were before.
    pub fn hang_up(&self, bridge: &Bridge, now: Now) -> bool {
        let key = self.key_of(bridge);
        let was_up = self.dialogs.get(&key).is_some_and(|entry| entry.invite);
        self.end_invite(key, now);
        was_up
    }

    fn key_of(&self, bridge: &Bridge) -> DialogKey {
        bridge.leg(bridge.near()).key(&self.keyer, bridge.near())
    }

    /// What the dialog is that a message from `side` names.
    pub fn named(&self, side: Side, named: &DialogRef<'_>) -> Named {
        let of = |ue, core| self.keyer.dialog(named.call_id, ue, core);
        let (local, remote) = (named.local_tag, named.remote_tag);
        for key in [of(local, remote), of(remote, local)] {
            let Some(entry) = self.dialogs.get(&self.lead(key, side)) else { continue };
            match &entry.bridge {
                _ if entry.state == State::Released => {}
                None => return Named::Plain,
                Some(bridge) if bridge.rename(side, named).is_some() => {
                    return Named::Bridged(Arc::clone(bridge));
                }
                Some(_) => {}
            }
        }
        Named::Unknown
    }

    /// The Call-ID on the other leg of a call that a message from `side` names by its Call-ID there; the same where both
    /// legs have one. `None` if nobody knows it.
    pub fn call_there(&self, side: Side, call_id: &[u8]) -> Option<Box<[u8]>> {
        let (of, child) = *self.aliases.keys.get(&self.keyer.call(call_id))?;
        let entry = self.dialogs.get(&child).filter(|_| of == side)?;
        let bridge = entry.bridge.as_ref()?;
        let here = *bridge.leg(side).call_id == *call_id;
        here.then(|| bridge.leg(other(side)).call_id.clone())
    }

    /// A hash of a name that is not to be told, in its place: the same each time.
    pub fn shown_name(&self, name: &[u8]) -> [u8; 32] {
        self.keyer.tag(&[name])
    }

    /// What is to be done for bridged calls, since this was asked last.
    pub fn errands(&self) -> Vec<(Arc<Bridge>, Errand)> {
        self.errands.take()
    }

    /// How often requests under way were taken back: who sees another number looks whether his are still wanted.
    pub fn taken_back(&self) -> u64 {
        self.errands.taken_back()
    }

    /// Says what to call when something is to be done for bridged calls though no worker had a turn.
    pub fn wake_by(&self, bell: impl Fn() + Send + Sync + 'static) {
        self.errands.hang(Box::new(bell));
    }

    /// Whether what the request of `track` may form is still wanted.
    pub fn is_wanted(&self, track: &Track) -> bool {
        !track.forms || self.forming_of(track).is_some()
    }

    /// An end of a call answered what we asked it: there is time until we ask again.
    pub fn note_answer(&self, bridge: &Bridge, now: Now) {
        let key = self.key_of(bridge);
        if let Some(mut entry) = self.dialogs.get_mut(&key)
            && entry.session == Session::Ours
        {
            entry.ends = now.mono + REFRESH;
            self.look(key, &mut entry);
        }
    }

    /// When the key ends that the dialog of `track` stands on, or is to stand on.
    pub fn key_ends(&self, track: &Track) -> Instant {
        if track.forms {
            return self.forming_of(track).map_or(NEVER, |entry| entry.origin.key.ends);
        }
        self.dialogs.get(&track.key).map_or(NEVER, |entry| entry.key.ends())
    }

    /// The same of a request inside a dialog.
    pub fn key_ends_in(&self, inside: &Inside) -> Instant {
        self.dialogs.get(&inside.key).map_or(NEVER, |entry| entry.key.ends())
    }

    /// Aliases held.
    pub fn aliases(&self) -> usize {
        self.aliases.keys.len()
    }
}

/// Whether a request from `side` speaks of the leg there, as it must if its dialog has two.
pub(super) fn is_on_its_leg(bridge: Option<&Arc<Bridge>>, side: Side, message: &Message) -> bool {
    bridge.is_none_or(|bridge| bridge.speaks(side, message))
}

impl Keyer {
    /// A tag made of `parts`, in hex; a key of a dialog says nothing about it.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let (high, low) = self.shown_mark(parts);
        let mut tag = [0; 32];
        let octets = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
        for (pair, octet) in tag.chunks_exact_mut(2).zip(octets) {
            pair.copy_from_slice(&crate::wire::octets::hex_digits(octet));
        }
        tag
    }
}

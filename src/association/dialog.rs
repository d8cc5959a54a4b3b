//! Stage 5, one dialog: whose it is, where its owner may be reached, and what it is for.
//!
//! Takes:   what stage 7 forwarded, and the responses to it.
//! Gives:   [`Association`], the record that a request inside the dialog is judged by; `Forming`, what forks need
//!          of the request that they come of; [`Origin`], what all of these have in common, kept once.
//! Keeps:   under 1 KiB a dialog, and 1.1 KiB where it has all that one may have: 4 anchors, 8 subscriptions.
//! Refuses: nothing; `table` judges.
//! Sources: RFC 3261 section 12; RFC 5057 section 4 (usages); RFC 6665 sections 4.1.2 and 4.4.1.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use smallvec::SmallVec;

use super::anchors::Moved;
use super::bridge::{Bridge, Seed};
use super::brought::Proved;
use super::ends::End;
use super::owner::{OwnerKey, Shown};
use super::state::State;
use super::target::Way;
use super::token::mark;
use crate::enabler::{Class, Family};
use crate::expiry::Timer;
use crate::identity::Principal;
use crate::instant::Instant;
use crate::transport::{Flow, GroupId, Side, Target};
use crate::wire::device::Device;
use crate::wire::{Message, Method, Name};

/// Subscriptions in one dialog, at most.
pub const SUBSCRIPTIONS_MAX: usize = 8;

/// Call-ID and both tags, UE side first, as a keyed hash: no peer can choose where it falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialogKey {
    high: u64,
    low: u64,
}

impl DialogKey {
    /// Before all others.
    pub(super) const FIRST: Self = Self { high: 0, low: 0 };
}

impl Hash for DialogKey {
    /// One half is enough to find it by.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.low);
    }
}

/// Puts a tag there as tags are compared: without case.
pub(super) fn put_folded<const N: usize>(octets: &mut SmallVec<[u8; N]>, tag: &[u8]) {
    let from = octets.len();
    octets.extend_from_slice(tag);
    octets.get_mut(from..).unwrap_or_default().make_ascii_lowercase();
}

/// Hashes a tag as tags are compared.
fn write_folded(hasher: &mut SipHasher13, tag: &[u8]) {
    for part in tag.chunks(32) {
        let mut octets = [0; 32];
        let octets = octets.get_mut(..part.len()).unwrap_or_default();
        octets.copy_from_slice(part);
        octets.make_ascii_lowercase();
        hasher.write(octets);
    }
}

/// Makes dialog keys.
#[derive(Clone, Debug)]
pub struct Keyer {
    key: [u8; 16],
}

impl Keyer {
    /// Keys under `key`, any secret octets.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The key of a dialog. Call-ID is compared with case, tags without (RFC 3261 sections 7.3.1, 20.8).
    pub fn dialog(&self, call_id: &[u8], ue_tag: &[u8], core_tag: &[u8]) -> DialogKey {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for length in [call_id.len(), ue_tag.len(), core_tag.len()] {
            hasher.write_usize(length);
        }
        hasher.write(call_id);
        write_folded(&mut hasher, ue_tag);
        write_folded(&mut hasher, core_tag);
        let hash = hasher.finish128();
        DialogKey { high: hash.h2, low: hash.h1 }
    }

    /// The key of the dialog that a message claims to be inside of. `sender` is the side of its From tag:
    /// the side a request arrived on, the other side for a response.
    pub fn of(&self, message: &Message, sender: Side) -> DialogKey {
        self.tagged(message, sender, message.to_tag())
    }

    /// The key of the entry that a dialog-forming request makes, or a response to it still belongs to.
    pub fn forming(&self, message: &Message, sender: Side) -> DialogKey {
        self.tagged(message, sender, b"")
    }

    /// The end of a dialog that has that Call-ID and tag.
    pub(super) fn end(&self, call_id: &[u8], tag: &[u8]) -> End {
        End::of(self.dialog(call_id, tag, b"").low)
    }

    /// The key of all that has that Call-ID. It is none of a dialog's.
    pub(super) fn call(&self, call_id: &[u8]) -> DialogKey {
        let (high, low) = self.shown_mark(&[b"call", call_id]);
        DialogKey { high, low }
    }

    /// The key of the entry of one request: nobody else's request, whatever ids it bears, falls on it.
    pub fn numbered(&self, id: u64) -> DialogKey {
        self.dialog(&id.to_be_bytes(), b"", b"")
    }

    fn tagged(&self, message: &Message, sender: Side, to_tag: &[u8]) -> DialogKey {
        let (call_id, from_tag) = (message.call_id(), message.from_tag());
        match sender {
            Side::Ue => self.dialog(call_id, from_tag, to_tag),
            Side::Core => self.dialog(call_id, to_tag, from_tag),
        }
    }

    /// A keyed hash of `parts` that may be shown: of no use to guess a key.
    pub(super) fn shown_mark(&self, parts: &[&[u8]]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(b"shown");
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    /// A keyed hash of what is compared as it stands and not kept, the name of a key above all; never 0.
    pub fn mark(&self, octets: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(octets);
        hasher.finish128().h1.max(1)
    }

    /// A keyed hash of a route token, as a request from `side` brings it; never 0.
    pub(super) fn token(&self, side: Side, text: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&[side as u8]);
        hasher.write(text);
        hasher.finish128().h1.max(1)
    }

    /// The instance that the Contact of a message names, as a keyed hash; 0 if it names none.
    pub(super) fn instance(&self, message: &Message) -> u64 {
        let contact = message.addresses(Name::Contact).next().flatten();
        contact.and_then(|contact| Device::of(&contact)).map_or(0, |of| self.mark(&of.instance))
    }

    /// A keyed hash of anything else that is compared without case, an event package above all.
    pub fn short(&self, octets: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&octets.to_ascii_lowercase());
        hasher.finish128().h1
    }
}

/// How many dialogs of one caller there are, and requests that may form some.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What tokens say of him, once one was made.
    mark: OnceLock<u64>,
    held: AtomicU32,
    /// Requests among them that formed one: it counts in their place, though other forks may still answer.
    borne: AtomicU32,
    /// The same of each family of classes: held, and borne.
    of: [[AtomicU32; 2]; Family::COUNT],
}

impl Tally {
    /// One that counts the same for now.
    pub(super) fn twin(&self) -> Self {
        let copy = |count: &AtomicU32| AtomicU32::new(count.load(Ordering::Acquire));
        let of = self.of.each_ref().map(|pair| pair.each_ref().map(copy));
        let (held, borne, mark) = (copy(&self.held), copy(&self.borne), self.mark.clone());
        Self { mark, held, borne, of }
    }

    /// What tokens say of `owner`, whose tally this is: hashed once.
    pub(super) fn mark(&self, owner: &Principal) -> u64 {
        *self.mark.get_or_init(|| mark(owner))
    }

    /// How many count as dialogs of the caller.
    pub(super) fn dialogs(&self) -> u32 {
        let borne = self.borne.load(Ordering::Acquire);
        self.held.load(Ordering::Acquire).saturating_sub(borne)
    }

    /// How many count as dialogs of a family of classes.
    pub(super) fn of(&self, family: Family) -> u32 {
        let Some([held, borne]) = self.of.get(family as usize) else { return 0 };
        let borne = borne.load(Ordering::Acquire);
        held.load(Ordering::Acquire).saturating_sub(borne)
    }

    /// Whether there is none left, nor a request.
    pub(super) fn is_empty(&self) -> bool {
        self.held.load(Ordering::Acquire) == 0
    }

    /// One more.
    pub(super) fn up(&self, family: Family) {
        if let Some([held, _]) = self.of.get(family as usize) {
            held.fetch_add(1, Ordering::AcqRel);
        }
        self.held.fetch_add(1, Ordering::AcqRel);
    }

    /// One less; whether it was the last.
    pub(super) fn down(&self, family: Family) -> bool {
        if let Some([held, _]) = self.of.get(family as usize) {
            held.fetch_sub(1, Ordering::AcqRel);
        }
        self.held.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A request formed its first dialog.
    pub(super) fn bear(&self, family: Family) {
        if let Some([_, borne]) = self.of.get(family as usize) {
            borne.fetch_add(1, Ordering::AcqRel);
        }
        self.borne.fetch_add(1, Ordering::AcqRel);
    }

    /// Such a request is gone.
    fn forget(&self, family: Family) {
        if let Some([_, borne]) = self.of.get(family as usize) {
            borne.fetch_sub(1, Ordering::AcqRel);
        }
        self.borne.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What was known when the forming request was sent on: the same for all dialogs that come of it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its number, in traces.
    pub id: u64,
    /// Who may send requests from the UE side.
    pub owner: Principal,
    /// The flow to the UE on which it began.
    pub flow: Flow,
    /// The key that its owner showed then.
    pub key: Shown,
    /// The server that the forming request went to, the last one if others failed, or came from; `None` if that is not
    /// known.
    pub server: Option<Target>,
    /// Its event package, by keyed hash; 0 if it subscribes to none.
    pub event: u64,
    /// Its Call-ID, by keyed hash: people look for dialogs by it.
    pub call: u64,
    /// Its CSeq.
    pub cseq: Option<u32>,
    /// The peer group that may send requests from the core side.
    pub group: GroupId,
    /// The side that sent it.
    pub caller_side: Side,
    /// Its class; it never falls.
    pub class: Class,
    /// Least level of evidence for requests from the UE.
    pub level: u8,
    /// Whether requests from the UE must come on secure flows.
    pub secure: bool,
    /// Whether its Request-URI is a SIPS URI.
    pub sips: bool,
    /// Whether it is an INVITE.
    pub invite: bool,
    /// The end that its sender has of the dialogs that come of it.
    pub(super) end: End,
    /// Record-Route values that it had already: of hops between its sender and us.
    pub below: u8,
    /// The instance that it names, if its sender is a UE, by keyed hash; 0 if it names none.
    pub instance: u64,
    /// What requests from the UE have to name, where the request itself told it.
    pub way: Way,
    /// The dialogs of its owner.
    pub(super) tally: Arc<Tally>,
}

/// The highest CSeqs accepted from one side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Of all requests.
    pub cseq: Option<u32>,
    /// Of the two newest INVITEs that were accepted, the newer one last: what an ACK must repeat.
    pub accepted: [Option<u32>; 2],
}

impl Counts {
    /// An INVITE of that number was accepted.
    pub(super) fn accept(&mut self, number: u32) {
        let [_, newest] = self.accepted;
        if !self.accepts(number) && newest < Some(number) {
            self.accepted = [newest, Some(number)];
        }
    }

    /// Whether one was: an ACK may be late, for the one before the newest.
    pub fn accepts(&self, number: u32) -> bool {
        self.accepted.contains(&Some(number))
    }
}

/// A subscription of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its event package, by keyed hash.
    pub event: u64,
    /// When it is over unless it is refreshed: what was granted, and 64*T1; [`NEVER`] while nobody has said.
    pub until: Instant,
}

/// Who sees to it that a session without life ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Session {
    /// Nobody: it lasts until it was silent for too long.
    #[default]
    Open,
    /// Its ends, who agreed on a timer.
    Agreed,
    /// We: bridged, its ends know no timer, and can be asked.
    Ours,
}

/// One dialog, or one that may become one.
#[derive(Clone, Debug)]
pub struct Association {
    /// What its request brought.
    pub origin: Arc<Origin>,
    pub(super) moved: Moved,
    /// Its two ends, once they are known to others.
    pub(super) named: Option<[End; 2]>,
    /// Its two legs, where they have ids of their own.
    pub(super) bridge: Option<Arc<Bridge>>,
    /// The token that it is known by.
    pub(super) proved: Proved,
    /// Of the UE side.
    pub ue: Counts,
    /// Of the core side.
    pub core: Counts,
    /// Subscriptions, one for each event package.
    pub subscriptions: SmallVec<[Subscription; 1]>,
    /// The key of its owner that it stands on.
    pub key: OwnerKey,
    /// What requests from the UE have to name.
    pub way: Way,
    /// The instance of the UE, as its Contact named it first, by keyed hash; 0 if it never did.
    pub instance: u64,
    /// Credentials of the newest INVITE from the UE on a secure flow, by keyed hash; 0 if there were none.
    pub credentials: u64,
    /// When it is over, if nothing prolongs it: the session's end, or so long without a verified request.
    pub ends: Instant,
    /// When the state ends by itself.
    pub deadline: Instant,
    pub(super) timer: Timer,
    /// Where it stands.
    pub state: State,
    /// The rule that let its latest request pass; 0 before there was one.
    pub rule: u8,
    /// Whether there is an INVITE usage.
    pub invite: bool,
    /// Whose word `ends` is.
    pub session: Session,
    /// Whether the last flow to its owner is lost.
    pub adrift: bool,
    /// Whether it was made of a token: which subscriptions it has is not known then.
    pub rebuilt: bool,
    /// Its class: that of the strictest request of its owner. It never falls.
    pub class: Class,
}

/// A forwarded request that may form dialogs, as long as forks of it may answer.
#[derive(Debug)]
pub(super) struct Forming {
    /// What it brought.
    pub(super) origin: Arc<Origin>,
    /// What it left under, where that is not what it came under.
    pub(super) seed: Option<Arc<Seed>>,
    /// Its credentials, if it is an INVITE from a UE on a secure flow, by keyed hash; else 0.
    pub(super) credentials: u64,
    /// Dialogs that it made, by key.
    pub(super) children: SmallVec<[DialogKey; 1]>,
    /// When it is waited for no longer.
    pub(super) deadline: Instant,
    pub(super) timer: Timer,
}

impl Forming {
    /// The dialog that a fork makes, or would make.
    pub(super) fn fork(&self, state: State) -> Association {
        let origin = Arc::clone(&self.origin);
        let sender = Counts { cseq: origin.cseq, ..Counts::default() };
        let (ue, core) = match origin.caller_side {
            Side::Ue => (sender, Counts::default()),
            Side::Core => (Counts::default(), sender),
        };
        let subscribes = Some(origin.event).filter(|event| *event != 0);
        let subscription = subscribes.map(|event| Subscription { event, until: NEVER });
        Association {
            moved: Moved::default(),
            named: None,
            bridge: None,
            proved: Proved::NONE,
            ue,
            core,
            subscriptions: subscription.into_iter().collect(),
            key: OwnerKey::of(origin.key),
            way: origin.way,
            instance: origin.instance,
            credentials: self.credentials,
            ends: NEVER,
            deadline: self.deadline,
            timer: Timer::default(),
            state,
            rule: 0,
            invite: origin.invite,
            session: Session::Open,
            adrift: false,
            rebuilt: false,
            class: origin.class,
            origin,
        }
    }

    /// Notes a dialog that it made; `false` if it was known.
    pub(super) fn bears(&mut self, child: DialogKey) -> bool {
        let fresh = !self.children.contains(&child);
        if fresh {
            if self.children.is_empty() {
                self.origin.tally.bear(self.origin.class.family());
            }
            self.children.push(child);
        }
        fresh
    }
}

impl Drop for Forming {
    fn drop(&mut self) {
        if !self.children.is_empty() {
            self.origin.tally.forget(self.origin.class.family());
        }
    }
}

impl Association {
    /// Flows on which the owner gave evidence, the newest last.
    pub fn anchors(&self) -> &[Flow] {
        self.moved.anchors(&self.origin.flow)
    }

    /// Makes `flow` the newest anchor; the only one, if all others are lost. What that changed: the flow if it is
    /// new, and the one that had to go.
    pub(super) fn anchor(&mut self, flow: Flow) -> (Option<Flow>, Option<Flow>) {
        if self.adrift {
            self.moved = Moved::only(flow);
            return (Some(flow), None);
        }
        self.moved.add(&self.origin.flow, flow)
    }

    /// The counts of `side`.
    pub fn counts(&self, side: Side) -> &Counts {
        match side {
            Side::Ue => &self.ue,
            Side::Core => &self.core,
        }
    }

    /// The counts of `side`.
    pub(super) fn counts_mut(&mut self, side: Side) -> &mut Counts {
        match side {
            Side::Ue => &mut self.ue,
            Side::Core => &mut self.core,
        }
    }

    /// Whether `method` fits what the dialog is for. `sender` is who sends it.
    ///
    /// Source: RFC 3261 section 15; RFC 6086 section 4.2.1; RFC 6665 section 4.1.3.
    pub fn fits(&self, method: Method, event: u64, sender: Side) -> bool {
        match method {
            Method::Bye => {
                let callee_early = self.state == State::Early && sender != self.origin.caller_side;
                self.invite && !callee_early
            }
            Method::Prack | Method::Update | Method::Info => self.invite,
            Method::Notify => self.subscribes(event) || self.rebuilt,
            _ => true,
        }
    }

    /// Whether it has a subscription of that event.
    pub fn subscribes(&self, event: u64) -> bool {
        self.subscriptions.iter().any(|known| known.event == event)
    }

    /// Sets the end of a subscription; `false` if there is none of that event.
    pub fn grant(&mut self, event: u64, until: Instant) -> bool {
        let known = self.subscriptions.iter_mut().find(|known| known.event == event);
        known.map(|known| known.until = until).is_some()
    }

    /// Its two ends, once they are known to others.
    pub fn named(&self) -> Option<[End; 2]> {
        self.named
    }

    /// Whether anything keeps it alive.
    pub fn has_usage(&self) -> bool {
        self.invite || !self.subscriptions.is_empty()
    }
}

/// No time at all.
pub const NEVER: Instant = Instant::from_micros(u64::MAX);
/// How long after the last sign of life we ask the ends of a bridged call: half the interval of RFC 4028 section 4.2.
pub const REFRESH: Duration = Duration::from_secs(900);
/// 64*T1: how long a dialog that ended is remembered, and a subscription that was not refreshed.
pub const LINGER: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::super::anchors::ANCHORS_MAX;
    use super::super::ends::Owners;
    use super::*;

    /// What one dialog makes us keep: its record and its request's, a timer each, and its two ends. Names are shared with
    /// the caller's record. Half of a table's places may be empty.
    #[test]
    fn a_dialog_is_under_a_kibibyte() {
        let (timer, place) = (48, size_of::<DialogKey>() + 2);
        let table = 2 * (place + size_of::<Box<Association>>() + timer);
        // What the allocator gives for it, in steps of a sixteenth.
        let record = size_of::<Association>().next_multiple_of(32);
        let forming = place + size_of::<Forming>() + timer;
        let origin = size_of::<Origin>() + 2 * size_of::<usize>();
        // A tree's pages are two thirds full.
        let indexed = 36;
        let ends = 2 * 2 * (size_of::<(End, Owners)>() + 1);
        let plain = table + record + forming + origin + indexed + ends;
        assert!(
            plain <= 960,
            "{table} + {record} + {forming} + {origin} + {indexed} + {ends} = {plain}"
        );
        // With all that it may have, when what the request needed is gone.
        let anchors = ANCHORS_MAX * (size_of::<Flow>() + indexed) + 2 * size_of::<usize>();
        let subscriptions = SUBSCRIPTIONS_MAX * size_of::<Subscription>();
        let all = table / 2 + record + origin + ends / 2 + anchors + subscriptions;
        assert!(all <= 1120, "{record} + {origin} + {anchors} + {subscriptions} + ... = {all}");
    }
}

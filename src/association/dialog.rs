//! Stage 5, one dialog: whose it is, where its owner may be reached, and what it is for.
//!
//! Takes:   what stage 7 forwarded, and the responses to it.
//! Gives:   [`Association`], the record that a request inside the dialog is judged by; `Forming`, what forks need
//!          of the request that they come of; [`Origin`], what all of these have in common, kept once.
//! Keeps:   under 1 KiB with everything: at most 4 anchors, at most 8 subscriptions.
//! Refuses: nothing; `table` judges.
//! Sources: RFC 3261 section 12; RFC 5057 section 4 (usages); RFC 6665 sections 4.1.2 and 4.4.1.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use smallvec::SmallVec;

use crate::enabler::{Class, Family};
use crate::expiry::Timer;
use crate::identity::Principal;
use crate::instant::Instant;
use crate::transport::{Flow, GroupId, Side, Target};
use crate::wire::{Message, Method};

/// Flows on which the owner of a leg may be reached, at most.
pub const ANCHORS_MAX: usize = 4;
/// Subscriptions in one dialog, at most.
pub const SUBSCRIPTIONS_MAX: usize = 8;

/// Call-ID and both tags, UE side first, as a keyed hash: no peer can choose where it falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialogKey {
    high: u64,
    low: u64,
}

impl Hash for DialogKey {
    /// One half is enough to find it by.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.low);
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
        hasher.write_usize(call_id.len());
        hasher.write(call_id);
        for tag in [ue_tag, core_tag] {
            hasher.write_usize(tag.len());
            for octet in tag {
                hasher.write_u8(octet.to_ascii_lowercase());
            }
        }
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

    /// A keyed hash of anything else that is compared and not kept, an event package above all.
    pub fn short(&self, octets: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&octets.to_ascii_lowercase());
        hasher.finish128().h1
    }
}

/// Where a dialog stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The request that may form it was forwarded; no far tag is known.
    Forming,
    /// A tag was seen in a 101 to 199.
    Early,
    /// Confirmed.
    Bound,
    /// Over; what comes is answered 481 for 32 seconds.
    Released,
}

impl State {
    /// Its name in counters and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forming => "forming",
            Self::Early => "early",
            Self::Bound => "bound",
            Self::Released => "released",
        }
    }
}

/// How many dialogs of one caller there are: requests that may form some included, and of each family those that are
/// open or are waited for.
#[derive(Debug, Default)]
pub(super) struct Tally {
    all: AtomicU32,
    open: [AtomicU32; Family::COUNT],
}

impl Tally {
    /// How many.
    pub(super) fn get(&self) -> u32 {
        self.all.load(Ordering::Acquire)
    }

    /// How many of a family of classes.
    pub(super) fn of(&self, family: Family) -> u32 {
        self.open.get(family as usize).map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// One more; `opens` unless it takes the place of the request that it came of.
    pub(super) fn up(&self, family: Family, opens: bool) {
        self.all.fetch_add(1, Ordering::AcqRel);
        if let Some(count) = self.open.get(family as usize).filter(|_| opens) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// One less; `closes` unless something of it goes on. Whether it was the last of all.
    pub(super) fn down(&self, family: Family, closes: bool) -> bool {
        if let Some(count) = self.open.get(family as usize).filter(|_| closes) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
        self.all.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// What was known when the forming request was sent on: the same for all dialogs that come of it.
#[derive(Debug)]
pub struct Origin {
    /// Its number, in traces.
    pub id: u64,
    /// Who may send requests from the UE side.
    pub owner: Principal,
    /// The flow to the UE on which it began.
    pub flow: Flow,
    /// The server that the forming request went to; `None` if it came from one.
    pub server: Option<Target>,
    /// Its event package, by keyed hash; 0 if it subscribes to none.
    pub event: u64,
    /// Its CSeq.
    pub cseq: Option<u32>,
    /// The peer group that may send requests from the core side.
    pub group: GroupId,
    /// The side that sent it.
    pub caller_side: Side,
    /// The class it was formed with.
    pub class: Class,
    /// Least level of evidence for requests from the UE.
    pub level: u8,
    /// Whether requests from the UE must come on secure flows.
    pub secure: bool,
    /// Whether it is an INVITE.
    pub invite: bool,
    /// The dialogs of its owner.
    pub(super) tally: Arc<Tally>,
}

/// The highest CSeqs accepted from one side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Of all requests.
    pub cseq: Option<u32>,
    /// Of INVITEs: what an ACK must repeat.
    pub invite: Option<u32>,
}

/// Flows on which the owner gave evidence, kept only once there is another than the first, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Option<Arc<[Flow]>>);

impl Moved {
    /// All of them. `first` is where the dialog began.
    pub(super) fn anchors<'a>(&'a self, first: &'a Flow) -> &'a [Flow] {
        self.0.as_deref().unwrap_or(std::slice::from_ref(first))
    }

    /// Makes `flow` the newest.
    fn add(&mut self, first: &Flow, flow: Flow) {
        let known = self.anchors(first);
        if known.last() == Some(&flow) {
            return;
        }
        let others = known.iter().filter(|known| **known != flow);
        let over = others.clone().count().saturating_sub(ANCHORS_MAX.saturating_sub(1));
        let flows: SmallVec<[Flow; ANCHORS_MAX]> =
            others.skip(over).copied().chain([flow]).collect();
        self.0 = Some(flows.as_slice().into());
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

/// One dialog, or one that may become one.
#[derive(Clone, Debug)]
pub struct Association {
    /// What its request brought.
    pub origin: Arc<Origin>,
    pub(super) moved: Moved,
    /// Of the UE side.
    pub ue: Counts,
    /// Of the core side.
    pub core: Counts,
    /// Subscriptions, one for each event package.
    pub subscriptions: SmallVec<[Subscription; 1]>,
    /// When the state ends by itself.
    pub deadline: Instant,
    pub(super) timer: Timer,
    /// Where it stands.
    pub state: State,
    /// Whether there is an INVITE usage.
    pub invite: bool,
    /// Its class: that of the strictest request of its owner. It never falls.
    pub class: Class,
}

/// A forwarded request that may form dialogs, as long as forks of it may answer.
#[derive(Debug)]
pub(super) struct Forming {
    /// What it brought.
    pub(super) origin: Arc<Origin>,
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
        let sender = Counts { cseq: origin.cseq, invite: origin.cseq.filter(|_| origin.invite) };
        let (ue, core) = match origin.caller_side {
            Side::Ue => (sender, Counts::default()),
            Side::Core => (Counts::default(), sender),
        };
        let subscribes = Some(origin.event).filter(|event| *event != 0);
        let subscription = subscribes.map(|event| Subscription { event, until: NEVER });
        Association {
            moved: Moved::default(),
            ue,
            core,
            subscriptions: subscription.into_iter().collect(),
            deadline: self.deadline,
            timer: Timer::default(),
            state,
            invite: origin.invite,
            class: origin.class,
            origin,
        }
    }

    /// Notes a dialog that it made; `false` if it was known.
    pub(super) fn bears(&mut self, child: DialogKey) -> bool {
        let fresh = !self.children.contains(&child);
        if fresh {
            self.children.push(child);
        }
        fresh
    }
}

impl Association {
    /// Flows on which the owner gave evidence, the newest last.
    pub fn anchors(&self) -> &[Flow] {
        self.moved.anchors(&self.origin.flow)
    }

    /// Makes `flow` the newest anchor.
    pub(super) fn anchor(&mut self, flow: Flow) {
        self.moved.add(&self.origin.flow, flow);
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
            Method::Notify => self.subscribes(event) || self.invite && event == 0,
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

    /// Takes away the subscriptions that were over by `now`; whether any was.
    pub fn lapse(&mut self, now: Instant) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|known| known.until > now);
        self.subscriptions.len() < before
    }

    /// When something of it ends next. Subscriptions end by themselves in confirmed dialogs alone.
    pub fn next_end(&self) -> Instant {
        let ends = self.subscriptions.iter().map(|known| known.until);
        let ends = ends.filter(|_| self.state == State::Bound);
        ends.fold(self.deadline, Instant::min)
    }

    /// Whether anything keeps it alive.
    pub fn has_usage(&self) -> bool {
        self.invite || !self.subscriptions.is_empty()
    }

    /// Ends it: for 32 seconds what still comes is told so.
    pub fn release(&mut self, now: Instant) {
        self.state = State::Released;
        self.deadline = now + LINGER;
    }
}

/// No time at all.
pub const NEVER: Instant = Instant::from_micros(u64::MAX);
/// 64*T1: how long a dialog that ended is remembered, and a subscription that was not refreshed.
pub const LINGER: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that one dialog can make us keep: its record, its request's and what spills out of them, and a
    /// timer each. Names are shared with the caller's record. Half of a table's places may be empty.
    #[test]
    fn a_dialog_is_under_one_kibibyte_with_everything() {
        let timer = 48;
        let record = size_of::<DialogKey>() + size_of::<Association>();
        let forming = size_of::<DialogKey>() + size_of::<Forming>();
        let origin = size_of::<Origin>() + 2 * size_of::<usize>();
        let plain = 2 * (record + forming + 2 + timer) + origin;
        assert!(plain <= 800, "2 * ({record} + {forming} + {timer}) + {origin} = {plain}");
        let anchors = ANCHORS_MAX * size_of::<Flow>() + 2 * size_of::<usize>();
        let subscriptions = SUBSCRIPTIONS_MAX * size_of::<Subscription>();
        let all = record + origin + anchors + subscriptions + timer;
        assert!(all <= 1024, "{record} + {origin} + {anchors} + {subscriptions} = {all}");
    }

    #[test]
    fn anchors_are_four_the_newest_last_and_none_of_them_twice() {
        let flow = |port| Flow {
            transport: crate::transport::Transport::Udp,
            listener: crate::transport::ListenerId(0),
            remote: ([192, 0, 2, 1], port).into(),
            connection: None,
        };
        let (first, mut moved) = (flow(1), Moved::default());
        for (port, expected) in [
            (1, &[1][..]),
            (2, &[1, 2]),
            (1, &[2, 1]),
            (3, &[2, 1, 3]),
            (3, &[2, 1, 3]),
            (4, &[2, 1, 3, 4]),
            (5, &[1, 3, 4, 5]),
            (3, &[1, 4, 5, 3]),
            (6, &[4, 5, 3, 6]),
        ] {
            moved.add(&first, flow(port));
            let ports: Vec<u16> =
                moved.anchors(&first).iter().map(|flow| flow.remote.port()).collect();
            assert_eq!(ports, expected, "after {port}");
        }
    }
}

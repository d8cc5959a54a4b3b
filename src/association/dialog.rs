//! Stage 5, one dialog: its two legs, who owns them, and what it is for.
//!
//! Takes:   what stage 7 forwarded, and the responses to it.
//! Gives:   [`Association`], the record that a request inside the dialog is judged by.
//! Keeps:   under 1 KiB: two legs with at most 4 anchors each, at most 8 subscriptions.
//! Refuses: nothing; `table` judges.
//! Sources: RFC 3261 section 12; RFC 5057 section 4 (usages); RFC 6665 sections 4.1.2 and 4.4.1.

use std::hash::Hasher as _;
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use smallvec::SmallVec;

use crate::enabler::Class;
use crate::identity::Principal;
use crate::instant::Instant;
use crate::transport::{Flow, GroupId, Side, Target};
use crate::wire::{Message, Method};

/// Flows on which the owner of a leg may be reached, at most.
pub const ANCHORS_MAX: usize = 4;
/// Subscriptions in one dialog, at most.
pub const SUBSCRIPTIONS_MAX: usize = 8;

/// Call-ID and both tags, UE side first, as a keyed hash: no peer can choose where it falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialogKey(u128);

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
        DialogKey(hasher.finish128().as_u128())
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

/// Who may send requests on a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// UE side: a principal.
    Caller(Principal),
    /// Core side: a peer group.
    Group(GroupId),
}

/// One end of a dialog as seen from here.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Who may send requests on it.
    pub owner: Owner,
    /// Flows on which the owner gave evidence, the newest last.
    pub anchors: SmallVec<[Flow; 1]>,
    /// Highest CSeq accepted from it.
    pub cseq: Option<u32>,
    /// CSeq of its latest INVITE: what an ACK must repeat.
    pub invite_cseq: Option<u32>,
}

impl Leg {
    /// A leg without requests yet.
    pub fn new(owner: Owner, anchor: Option<Flow>) -> Self {
        Self { owner, anchors: anchor.into_iter().collect(), cseq: None, invite_cseq: None }
    }

    /// Makes `flow` the newest anchor.
    pub fn anchor(&mut self, flow: Flow) {
        self.anchors.retain(|known| *known != flow);
        if self.anchors.len() >= ANCHORS_MAX {
            self.anchors.remove(0);
        }
        self.anchors.push(flow);
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
    /// Its number, in traces.
    pub id: u64,
    /// Where it stands.
    pub state: State,
    /// The leg that faces the UE.
    pub ue: Leg,
    /// The leg that faces the core.
    pub core: Leg,
    /// The server that the forming request went to, or came from.
    pub server: Option<Target>,
    /// The side that sent the forming request.
    pub caller_side: Side,
    /// Its class; it never falls.
    pub class: Class,
    /// Least level of evidence for requests from the UE.
    pub level: u8,
    /// Whether requests from the UE must come on secure flows.
    pub secure: bool,
    /// Whether there is an INVITE usage.
    pub invite: bool,
    /// Subscriptions, one for each event package.
    pub subscriptions: SmallVec<[Subscription; 2]>,
    /// When the state ends by itself.
    pub deadline: Instant,
    /// When it is looked at next.
    pub look: Instant,
    /// How often it stands in the table of expiry.
    pub looks: u8,
    /// Dialogs that the forming request made, by key; of a Forming entry alone.
    pub children: SmallVec<[DialogKey; 1]>,
}

impl Association {
    /// The leg that faces `side`.
    pub fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Ue => &self.ue,
            Side::Core => &self.core,
        }
    }

    /// The leg that faces `side`.
    pub fn leg_mut(&mut self, side: Side) -> &mut Leg {
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
                let callee_early = self.state == State::Early && sender != self.caller_side;
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
/// How often a dialog stands in the table of expiry, at most, for the sake of its subscriptions.
pub const LOOKS_MAX: u8 = 8;
/// 64*T1: how long a dialog that ended is remembered, and a subscription that was not refreshed.
pub const LINGER: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that one dialog can make us keep: its record, what spills out of it, its places in the table of
    /// expiry. Names are shared with the caller's record.
    #[test]
    fn a_dialog_is_under_one_kibibyte_with_everything() {
        let anchors = ANCHORS_MAX * size_of::<Flow>();
        let subscriptions = SUBSCRIPTIONS_MAX * size_of::<Subscription>();
        let looks = usize::from(LOOKS_MAX) * (size_of::<Instant>() + 2 * size_of::<DialogKey>());
        let record = size_of::<DialogKey>() + size_of::<Association>();
        let all = record + anchors + subscriptions + looks;
        assert!(all <= 1024, "{record} + {anchors} + {subscriptions} + {looks} = {all}");
    }
}

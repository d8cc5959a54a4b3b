//! Stage 5, a bridge: the two legs of a dialog whose ends do not know each other (B2BUA).
//!
//! 1. A leg towards the UE and one towards the core have ids, numbers, targets and routes of their own; none of them is
//!    shown on the other. One record holds both: where two associations joined by a pair are spoken of, it is this.
//! 2. A [`Seed`] is what is known of both while only one of them has an end; each tag of the far side makes a
//!    [`Bridge`] of it, and so a dialog of its own on the near side.
//! 3. What crosses gets the ids and the next number of the leg that it leaves on; an ACK the number of its INVITE.
//! 4. One INVITE at a time is under way, whichever leg it came on.
//! 5. A dialog that another message names is named anew, from either end.
//!
//! Takes:   method and CSeq number of each request that crosses, the final answers to INVITEs, ACKs, targets.
//! Gives:   the CSeq number on the other leg; names of the dialog as the other leg knows it; where each leg leads.
//! Keeps:   ids, target and route set of each leg, [`LEG_MAX`] octets at most, the last number sent on it, and the
//!          latest INVITE, with its ACK of [`LEG_MAX`] octets at most.
//! Refuses: [`Clash`]; an ACK or a PRACK that fits no INVITE; a leg that is too long.
//! Sources: RFC 3261 sections 12.1, 12.2.1.1, 12.2.2, 13.2.2.4, 14.1 and 14.2; RFC 3262 section 7.2; RFC 3891 section
//!          6.1; RFC 6141 section 4; `B2-05`, `B2-08`.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::alias::Alias;
use super::dialog::{DialogKey, Keyer};
use crate::transport::Side;
use crate::wire::{Address, DialogRef, Message, Method, Name, Uri};

/// Octets of one leg, at most: its ids, its target and its route set. Longer ones serve nobody but who fills memory.
pub const LEG_MAX: usize = 4096;

/// One dialog between us and a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Its Call-ID.
    pub call_id: Box<[u8]>,
    /// Our tag.
    pub own_tag: Box<[u8]>,
    /// The peer's tag.
    pub far_tag: Box<[u8]>,
}

impl Leg {
    /// The key it is found by if it is on `side`.
    pub(super) fn key(&self, keyer: &Keyer, side: Side) -> DialogKey {
        match side {
            Side::Ue => keyer.dialog(&self.call_id, &self.far_tag, &self.own_tag),
            Side::Core => keyer.dialog(&self.call_id, &self.own_tag, &self.far_tag),
        }
    }
}

/// Where a leg leads: the remote target, and the route set in the order of Route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The URI of the peer's Contact; empty as long as it gave none.
    pub target: Box<[u8]>,
    /// Values of Route.
    pub routes: Box<[Box<[u8]>]>,
}

impl Way {
    /// What a request says of the way back: its Contact, and its Record-Route in order (RFC 3261 section 12.1.1).
    pub fn of_request(message: &Message) -> Self {
        let routes = message.values(Name::RecordRoute).map(Box::from).collect();
        Self { target: target(message), routes }
    }

    /// What a response says of the way there: its Contact, and its Record-Route in reverse (RFC 3261 section 12.1.2).
    pub fn of_response(message: &Message) -> Self {
        let mut routes: Vec<Box<[u8]>> = message.values(Name::RecordRoute).map(Box::from).collect();
        routes.reverse();
        Self { target: target(message), routes: routes.into() }
    }

    /// The Request-URI and the Route values that lead there: a strict router at the head of the routes gets itself as
    /// Request-URI, and the target behind all others (RFC 3261 section 12.2.1.1).
    pub fn lead(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut routes: Vec<Vec<u8>> = self.routes.iter().map(|route| route.to_vec()).collect();
        let first = self.routes.first().and_then(|route| Address::parse(route));
        match first.filter(|first| first.uri().param("lr").is_none()) {
            None => (self.target.to_vec(), routes),
            Some(strict) => {
                routes.remove(0);
                routes.push([b"<", &*self.target, b">"].concat());
                (strict.uri().octets().to_vec(), routes)
            }
        }
    }

    /// The hop that it begins with: the first Route, or the target where there is none.
    pub fn next_hop(&self) -> Option<Uri<'_>> {
        match self.routes.first() {
            Some(route) => Address::parse(route).map(|route| route.uri()),
            None => Uri::parse(&self.target),
        }
    }

    fn len(&self) -> usize {
        let routes = self.routes.iter().map(|route| route.len());
        routes.fold(self.target.len(), usize::saturating_add)
    }
}

/// The URI of the Contact, if there is one.
fn target(message: &Message) -> Box<[u8]> {
    let contact = message.addresses(Name::Contact).next().flatten();
    contact.map(|contact| contact.uri().octets().into()).unwrap_or_default()
}

/// Who calls whom, as written: what requests of our own bear in From and To.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// The URI in the From of the forming request.
    pub caller: Box<[u8]>,
    /// The URI in its To.
    pub callee: Box<[u8]>,
}

/// A request on its way that may form dialogs: the near leg as far as it is known, and the ids it left under.
#[derive(Debug)]
pub struct Seed {
    /// The side it came from.
    pub near: Side,
    /// Its Call-ID.
    pub near_call_id: Box<[u8]>,
    /// The tag of its sender.
    pub near_tag: Box<[u8]>,
    /// Where the near leg leads.
    pub near_way: Way,
    /// The Call-ID that it left under.
    pub far_call_id: Box<[u8]>,
    /// Our tag there.
    pub far_own_tag: Box<[u8]>,
    /// The URI that it went to: the far target, until the far side gives another.
    pub far_uri: Box<[u8]>,
    /// Who calls whom.
    pub parties: Parties,
    /// Its number as it came.
    pub came: u32,
    /// Its number as it left.
    pub left: u32,
    /// Whether it is an INVITE.
    pub invite: bool,
    /// Whether its sender takes UPDATE.
    pub near_updates: bool,
    /// Whether both legs have the same ids.
    pub same_ids: bool,
    /// What it is found by from the far side.
    pub(super) alias: OnceLock<Alias>,
}

/// Ids of a leg before it has an end.
#[derive(Debug)]
pub struct Ids {
    /// Its Call-ID.
    pub call_id: Box<[u8]>,
    /// Our tag.
    pub own_tag: Box<[u8]>,
}

/// The parts of a [`Seed`].
#[derive(Debug, Default)]
pub struct Sown {
    /// The ids that it leaves under; `None` keeps those that came.
    pub far: Option<Ids>,
    /// The URI it goes to.
    pub far_uri: Box<[u8]>,
    /// Its number as it leaves.
    pub left: u32,
}

impl Seed {
    /// Of a request from `near`; `None` if a leg is too long.
    pub fn new(message: &Message, near: Side, sown: Sown) -> Option<Self> {
        let uri = |address: Option<Address<'_>>| {
            address.map(|address| address.uri().octets().into()).unwrap_or_default()
        };
        let (call_id, tag) = (message.call_id(), message.from_tag());
        let same_ids = sown.far.is_none();
        let kept = || Ids { call_id: call_id.into(), own_tag: tag.into() };
        let Ids { call_id: far_call_id, own_tag: far_own_tag } = sown.far.unwrap_or_else(kept);
        let seed = Self {
            near,
            near_call_id: call_id.into(),
            near_tag: tag.into(),
            near_way: Way::of_request(message),
            far_call_id,
            far_own_tag,
            far_uri: sown.far_uri,
            parties: Parties { caller: uri(message.from()), callee: uri(message.to()) },
            came: message.cseq().map_or(0, |cseq| cseq.number),
            left: sown.left,
            invite: message.method() == Some(Method::Invite),
            near_updates: takes_update(message),
            same_ids,
            alias: OnceLock::new(),
        };
        let parts = [
            seed.near_call_id.len(),
            seed.near_tag.len(),
            seed.near_way.len(),
            seed.far_uri.len(),
            seed.parties.caller.len(),
            seed.parties.callee.len(),
        ];
        let length = parts.into_iter().fold(0, usize::saturating_add);
        (length <= LEG_MAX).then_some(seed)
    }

    /// The same, which nothing leads to.
    pub(crate) fn twin(&self) -> Self {
        Self {
            near: self.near,
            near_call_id: self.near_call_id.clone(),
            near_tag: self.near_tag.clone(),
            near_way: self.near_way.clone(),
            far_call_id: self.far_call_id.clone(),
            far_own_tag: self.far_own_tag.clone(),
            far_uri: self.far_uri.clone(),
            parties: self.parties.clone(),
            came: self.came,
            left: self.left,
            invite: self.invite,
            near_updates: self.near_updates,
            same_ids: self.same_ids,
            alias: OnceLock::new(),
        }
    }

    /// Our tag on the near leg of the dialog with the far peer of that tag: another for each, and always the same.
    pub fn near_own_tag(&self, keyer: &Keyer, far_tag: &[u8]) -> Box<[u8]> {
        if self.same_ids {
            return far_tag.into();
        }
        Box::from(keyer.tag(&[&self.far_call_id, &self.far_own_tag, far_tag]))
    }

    /// Whether it left under that Call-ID and that tag of ours.
    pub(super) fn left_under(&self, call_id: &[u8], own_tag: &[u8]) -> bool {
        *self.far_call_id == *call_id && self.far_own_tag.eq_ignore_ascii_case(own_tag)
    }

    /// The near leg of that dialog.
    pub(super) fn near_leg(&self, keyer: &Keyer, far_tag: &[u8]) -> Leg {
        let (call_id, far) = (self.near_call_id.clone(), self.near_tag.clone());
        Leg { call_id, own_tag: self.near_own_tag(keyer, far_tag), far_tag: far }
    }

    /// The dialog with the far peer of that tag, who is reached by `way`; `None` if his leg is too long.
    pub(super) fn bridge(&self, keyer: &Keyer, far_tag: &[u8], way: Way) -> Option<Bridge> {
        let near = self.near_leg(keyer, far_tag);
        let (call_id, own_tag) = (self.far_call_id.clone(), self.far_own_tag.clone());
        let far = Leg { call_id, own_tag, far_tag: far_tag.into() };
        if far_tag.len().saturating_add(way.len()) > LEG_MAX {
            return None;
        }
        let target = if way.target.is_empty() { self.far_uri.clone() } else { way.target };
        let mut takes_update = [false; 2];
        if let Some(near) = takes_update.get_mut(place(self.near)) {
            *near = self.near_updates;
        }
        let near_moves = Moves { sent: 0, way: self.near_way.clone() };
        let far_moves = Moves { sent: self.left, way: Way { target, ..way } };
        let (from, came, left) = (self.near, self.came, self.left);
        let invite = self.invite.then_some(Invite { from, came, left, under_way: true });
        let (ue, core, ue_moves, core_moves) = match self.near {
            Side::Ue => (near, far, near_moves, far_moves),
            Side::Core => (far, near, far_moves, near_moves),
        };
        Some(Bridge {
            ue,
            core,
            near: self.near,
            parties: self.parties.clone(),
            moving: Mutex::new(Moving {
                ue: ue_moves,
                core: core_moves,
                invite,
                ack: None,
                takes_update,
            }),
            alias: OnceLock::new(),
            calls: OnceLock::new(),
        })
    }
}

/// Why an INVITE cannot cross now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// One of the same side is under way: 500 with Retry-After.
    UnderWay,
    /// One of the other side is: 491.
    Glare,
}

/// Two legs, one on each side.
#[derive(Debug)]
pub struct Bridge {
    ue: Leg,
    core: Leg,
    /// The side of the forming request.
    near: Side,
    parties: Parties,
    moving: Mutex<Moving>,
    /// What it is found by from the far side.
    pub(super) alias: OnceLock<Alias>,
    /// What it is found by on either side by its Call-ID there, unless another fork is.
    pub(super) calls: OnceLock<[Option<Alias>; 2]>,
}

#[derive(Clone, Debug)]
struct Moving {
    ue: Moves,
    core: Moves,
    invite: Option<Invite>,
    /// The latest ACK as it left, as long as the 2xx may come again; and which INVITE it is for.
    ack: Option<(Side, u32, Bytes)>,
    /// The peers that take UPDATE: on the UE side, on the core side.
    takes_update: [bool; 2],
}

/// What moves of one leg.
#[derive(Clone, Debug)]
struct Moves {
    /// The last number sent.
    sent: u32,
    way: Way,
}

/// The latest INVITE.
#[derive(Clone, Copy, Debug)]
struct Invite {
    from: Side,
    came: u32,
    left: u32,
    under_way: bool,
}

impl Bridge {
    /// The same as it stands, to go its own way.
    pub(super) fn twin(&self) -> Self {
        Self {
            ue: self.ue.clone(),
            core: self.core.clone(),
            near: self.near,
            parties: self.parties.clone(),
            moving: Mutex::new(self.moving().clone()),
            alias: OnceLock::new(),
            calls: OnceLock::new(),
        }
    }

    /// The leg on `side`.
    pub fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Ue => &self.ue,
            Side::Core => &self.core,
        }
    }

    /// The side of the forming request.
    pub fn near(&self) -> Side {
        self.near
    }

    /// The URIs of us and of the peer on `side`, as a request of our own to him writes them in From and To.
    pub fn parties(&self, side: Side) -> (&[u8], &[u8]) {
        let Parties { caller, callee } = &self.parties;
        if side == self.near { (callee, caller) } else { (caller, callee) }
    }

    /// What the peer on `side` says of the methods that he takes; nothing is said by silence.
    pub fn note_methods(&self, side: Side, message: &Message) {
        if message.has(Name::Allow)
            && let Some(known) = self.moving().takes_update.get_mut(place(side))
        {
            *known = takes_update(message);
        }
    }

    /// Whether the peer on `side` can be asked whether he is still there, without a new offer.
    ///
    /// Source: RFC 3311 section 5.1; RFC 4028 section 7.4.
    pub fn takes_update(&self, side: Side) -> bool {
        self.moving().takes_update.get(place(side)).copied().unwrap_or(false)
    }

    /// Whether any peer can.
    pub fn may_be_asked(&self) -> bool {
        self.moving().takes_update.contains(&true)
    }

    /// Whether a request from `side` bears the ids of the leg there.
    pub fn speaks(&self, side: Side, message: &Message) -> bool {
        let leg = self.leg(side);
        *message.call_id() == *leg.call_id
            && message.from_tag().eq_ignore_ascii_case(&leg.far_tag)
            && message.to_tag().eq_ignore_ascii_case(&leg.own_tag)
    }

    /// Where the leg on `side` leads.
    pub fn way(&self, side: Side) -> Way {
        self.moving().of(side).way.clone()
    }

    /// What `find` makes of the hop that the leg on `side` begins with.
    pub fn at_next_hop<T>(
        &self,
        side: Side,
        find: impl FnOnce(&Uri<'_>) -> Option<T>,
    ) -> Option<T> {
        self.moving().of(side).way.next_hop().and_then(|hop| find(&hop))
    }

    /// The peer on `side` gave another target; an empty one, or one that is too long, changes nothing.
    pub fn refresh(&self, side: Side, message: &Message) {
        let target = target(message);
        if !target.is_empty() && target.len() <= LEG_MAX {
            self.moving().of(side).way.target = target;
        }
    }

    /// The far side confirmed the dialog: its route set is taken anew (RFC 3261 section 13.2.2.4).
    pub(super) fn confirm(&self, way: Way) {
        let mut moving = self.moving();
        let known = &mut moving.of(other(self.near)).way;
        if way.len() <= LEG_MAX {
            let target = if way.target.is_empty() { known.target.clone() } else { way.target };
            *known = Way { target, routes: way.routes };
        }
    }

    /// The number under which a request that came from `from` as `came` leaves on the other leg; `None` if that leg's
    /// numbers are spent. ACK and CANCEL are not asked about here, since they repeat their INVITE's.
    ///
    /// # Errors
    ///
    /// [`Clash`], for an INVITE while another is under way.
    pub fn cross(&self, from: Side, method: Method, came: u32) -> Result<Option<u32>, Clash> {
        let mut moving = self.moving();
        let under_way = moving.invite.filter(|invite| invite.under_way);
        if let Some(open) = under_way.filter(|_| method == Method::Invite) {
            return Err(if open.from == from { Clash::UnderWay } else { Clash::Glare });
        }
        let left = moving.of(other(from)).next();
        if let Some(left) = left.filter(|_| method == Method::Invite) {
            moving.invite = Some(Invite { from, came, left, under_way: true });
        }
        // Who hangs up waits for no ACK.
        if let Some(invite) = moving.invite.as_mut().filter(|_| method == Method::Bye) {
            invite.under_way = false;
        }
        Ok(left)
    }

    /// The number of a request of our own on the leg of `side`; `None` if its numbers are spent.
    pub fn own_number(&self, side: Side) -> Option<u32> {
        self.moving().of(side).next()
    }

    /// The INVITE that came from `from` as `came` was refused: another may follow.
    pub fn refused(&self, from: Side, came: u32) {
        if let Some(invite) = &mut self.moving().invite
            && (invite.from, invite.came) == (from, came)
        {
            invite.under_way = false;
        }
    }

    /// Whether the INVITE that came from `from` as `came` is still under way: not refused, and not acknowledged.
    pub fn is_under_way(&self, from: Side, came: u32) -> bool {
        let invite = self.moving().invite;
        invite.is_some_and(|invite| invite.under_way && (invite.from, invite.came) == (from, came))
    }

    /// The number under which an ACK leaves that came from `from` as `came`, and another INVITE may follow; `None` if
    /// it does not fit the latest INVITE. One that comes again gets the same number.
    pub fn acknowledge(&self, from: Side, came: u32) -> Option<u32> {
        let mut moving = self.moving();
        let invite = moving.invite.as_mut()?;
        if invite.from != from || invite.came != came {
            return None;
        }
        invite.under_way = false;
        Some(invite.left)
    }

    /// Keeps the ACK that left for the INVITE that came from `from` as `came`, if it is not too long.
    pub fn keep_ack(&self, from: Side, came: u32, octets: Bytes) {
        self.moving().ack = (octets.len() <= LEG_MAX).then_some((from, came, octets));
    }

    /// The ACK for that INVITE, for a 2xx that comes again: whoever sent it need not be asked.
    pub fn kept_ack(&self, from: Side, came: u32) -> Option<Bytes> {
        let ack = self.moving().ack.clone();
        ack.filter(|(side, number, _)| (*side, *number) == (from, came)).map(|(.., octets)| octets)
    }

    /// No 2xx to that INVITE comes any more.
    pub fn forget_ack(&self, from: Side, came: u32) {
        let ack = &mut self.moving().ack;
        if ack.as_ref().is_some_and(|(side, number, _)| (*side, *number) == (from, came)) {
            *ack = None;
        }
    }

    /// The number by which the other leg knows the INVITE that a PRACK from `from` names; `None` if it is not the
    /// latest.
    pub fn named_by_prack(&self, from: Side, came: u32) -> Option<u32> {
        let invite = self.moving().invite?;
        (invite.from == from && invite.came == came).then_some(invite.left)
    }

    /// How the other leg names this dialog, which a message from `from` names; the order of its tags is kept: our tag
    /// here stands for the peer there, the peer here for our tag there. `None` if it names another.
    pub fn rename(&self, from: Side, named: &DialogRef<'_>) -> Option<DialogRef<'_>> {
        let (here, there) = (self.leg(from), self.leg(other(from)));
        let is = |tag: &[u8], known: &[u8]| tag.eq_ignore_ascii_case(known);
        let (local, remote) = (named.local_tag, named.remote_tag);
        let (local_tag, remote_tag): (&[u8], &[u8]) = if *named.call_id != *here.call_id {
            return None;
        } else if is(local, &here.own_tag) && is(remote, &here.far_tag) {
            (&there.far_tag, &there.own_tag)
        } else if is(local, &here.far_tag) && is(remote, &here.own_tag) {
            (&there.own_tag, &there.far_tag)
        } else {
            return None;
        };
        let early_only = named.early_only;
        Some(DialogRef { call_id: &there.call_id, local_tag, remote_tag, early_only })
    }

    fn moving(&self) -> MutexGuard<'_, Moving> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moving {
    fn of(&mut self, side: Side) -> &mut Moves {
        match side {
            Side::Ue => &mut self.ue,
            Side::Core => &mut self.core,
        }
    }
}

impl Moves {
    fn next(&mut self) -> Option<u32> {
        let next = self.sent.checked_add(1).filter(|number| *number <= NUMBER_MAX)?;
        self.sent = next;
        Some(next)
    }
}

fn place(side: Side) -> usize {
    usize::from(side == Side::Core)
}

/// Whether who sent a message takes UPDATE.
fn takes_update(message: &Message) -> bool {
    message.values(Name::Allow).any(|method| method == b"UPDATE")
}

/// The side that faces away.
pub(super) fn other(side: Side) -> Side {
    match side {
        Side::Ue => Side::Core,
        Side::Core => Side::Ue,
    }
}

/// RFC 3261 section 8.1.1.5: numbers stay under 2^31.
const NUMBER_MAX: u32 = i32::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    fn keyer() -> Keyer {
        Keyer::new([1; 16])
    }

    /// alice calls from the UE side; her INVITE leaves as number 1.
    fn seed() -> Seed {
        let text = "INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
            From: <sip:alice@example.net>;tag=alice\r\nTo: <sip:bob@example.net>\r\nCall-ID: near\r\n\
            CSeq: 7 INVITE\r\nContact: <sip:alice@192.0.2.10>\r\nRecord-Route: <sip:p1;lr>, <sip:p2;lr>\r\n\r\n";
        let message = Message::from_datagram(Bytes::from_static(text.as_bytes())).expect("whole");
        let far = Some(Ids { call_id: (*b"far").into(), own_tag: (*b"we-2").into() });
        let sown = Sown { far, far_uri: Box::from(&b"sip:bob@example.net"[..]), left: 1 };
        Seed::new(&message, Side::Ue, sown).expect("it is short")
    }

    fn bridge() -> Bridge {
        let routes = [Box::from(&b"<sip:c;lr>"[..])].into();
        let way = Way { target: Box::from(&b"sip:bob@203.0.113.20"[..]), routes };
        seed().bridge(&keyer(), b"bob", way).expect("it is short")
    }

    #[test]
    fn a_seed_makes_a_leg_of_its_own_for_each_tag_of_the_far_side() {
        let seed = seed();
        let tags = [&b"bob"[..], b"carol", b"bob"].map(|tag| seed.near_own_tag(&keyer(), tag));
        assert!(tags[0] == tags[2] && tags[0] != tags[1]);
        let bridge = bridge();
        assert_eq!(*bridge.leg(Side::Ue).own_tag, *tags[0]);
        assert_eq!(*bridge.way(Side::Ue).target, *b"sip:alice@192.0.2.10");
        let routes = bridge.way(Side::Ue).routes;
        assert_eq!([&*routes[0], &*routes[1]], [b"<sip:p1;lr>", b"<sip:p2;lr>"]);
        assert_eq!(*bridge.way(Side::Core).target, *b"sip:bob@203.0.113.20");
        let bare = seed.bridge(&keyer(), b"bob", Way::default()).expect("short");
        assert_eq!(*bare.way(Side::Core).target, *b"sip:bob@example.net", "where it went");
        let (us, peer) = bridge.parties(Side::Ue);
        assert_eq!((us, peer), (&b"sip:bob@example.net"[..], &b"sip:alice@example.net"[..]));
    }

    #[test]
    fn a_leg_has_a_most() {
        let way = |octets| Way { target: vec![b'x'; octets].into(), routes: Box::default() };
        assert!(seed().bridge(&keyer(), b"bob", way(LEG_MAX - 3)).is_some());
        assert!(seed().bridge(&keyer(), b"bob", way(LEG_MAX - 2)).is_none());
    }

    #[test]
    fn each_leg_counts_for_itself() {
        let bridge = bridge();
        for (from, method, came, left) in [
            (Side::Ue, Method::Prack, 4712, 2),
            (Side::Core, Method::Update, 1, 1),
            (Side::Ue, Method::Update, 5000, 3),
            (Side::Core, Method::Bye, 9, 2),
        ] {
            assert_eq!(bridge.cross(from, method, came), Ok(Some(left)), "{method:?} {came}");
        }
        assert_eq!(
            (bridge.own_number(Side::Core), bridge.own_number(Side::Ue)),
            (Some(4), Some(3))
        );
    }

    #[test]
    fn numbers_end_before_2_to_the_31() {
        let bridge = bridge();
        bridge.moving().core.sent = NUMBER_MAX;
        assert_eq!(bridge.cross(Side::Ue, Method::Info, 5), Ok(None));
        assert_eq!(bridge.cross(Side::Core, Method::Info, 5), Ok(Some(1)));
    }

    /// RFC 3261 section 14.2; `B2-05`.
    #[test]
    fn one_invite_at_a_time_until_it_is_refused_or_acknowledged() {
        let bridge = bridge();
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 8), Err(Clash::UnderWay));
        assert_eq!(bridge.cross(Side::Core, Method::Invite, 1), Err(Clash::Glare));
        assert_eq!(bridge.cross(Side::Core, Method::Info, 1), Ok(Some(1)), "others cross");
        assert_eq!(bridge.acknowledge(Side::Ue, 8), None, "another number");
        assert_eq!(bridge.acknowledge(Side::Core, 7), None, "the other side");
        assert!(bridge.is_under_way(Side::Ue, 7));
        assert_eq!(bridge.acknowledge(Side::Ue, 7), Some(1));
        assert!(!bridge.is_under_way(Side::Ue, 7));
        assert_eq!(bridge.acknowledge(Side::Ue, 7), Some(1), "a copy");
        assert_eq!(bridge.cross(Side::Core, Method::Invite, 2), Ok(Some(2)));
        bridge.refused(Side::Ue, 2);
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 9), Err(Clash::Glare), "not that one");
        bridge.refused(Side::Core, 2);
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 9), Ok(Some(2)));
    }

    /// RFC 3262 section 7.2.
    #[test]
    fn a_prack_names_the_invite_as_the_other_leg_knows_it() {
        let bridge = bridge();
        assert_eq!(bridge.named_by_prack(Side::Ue, 7), Some(1));
        assert_eq!(bridge.named_by_prack(Side::Ue, 6), None);
        assert_eq!(bridge.named_by_prack(Side::Core, 7), None);
    }

    /// V-136.
    #[test]
    fn a_dialog_is_renamed_from_either_end_and_nothing_of_the_other_leg_is_left() {
        let bridge = bridge();
        let own = String::from_utf8_lossy(&bridge.leg(Side::Ue).own_tag).into_owned();
        for (from, named, renamed) in [
            (Side::Ue, "near;to-tag=WE;from-tag=alice", Some(("far", "bob", "we-2"))),
            (Side::Ue, "near;to-tag=ALICE;from-tag=WE", Some(("far", "we-2", "bob"))),
            (Side::Core, "far;to-tag=we-2;from-tag=bob", Some(("near", "alice", &*own))),
            (Side::Core, "near;to-tag=WE;from-tag=alice", None),
            (Side::Ue, "NEAR;to-tag=WE;from-tag=alice", None),
            (Side::Ue, "near;to-tag=WE;from-tag=bob", None),
            (Side::Ue, "near;to-tag=WE;from-tag=WE", None),
        ] {
            let named = named.replace("WE", &own);
            let parsed = DialogRef::parse(Name::Replaces, named.as_bytes()).expect("a dialog");
            let found = bridge.rename(from, &parsed);
            let found = found.map(|found| (found.call_id, found.local_tag, found.remote_tag));
            let expected = renamed.map(|(call_id, local, remote): (&str, &str, &str)| {
                (call_id.as_bytes(), local.as_bytes(), remote.as_bytes())
            });
            assert_eq!(found, expected, "{from:?}: {named}");
        }
    }
}

//! Stage 5, the table: every dialog there is, and what moves it.
//!
//! Takes:   requests to judge, forwarded requests to commit, responses to note, the time.
//! Gives:   [`Bound`], and a [`Track`] by which stage 7 reports responses.
//! Keeps:   `max` dialogs, `max_per_caller` of one caller, `early_max` of one INVITE; ended ones for 32 s; one timer
//!          for each. Requests that may form dialogs count as dialogs, and are kept apart from them.
//! Refuses: what `judge` refuses; dialogs that nothing is known of (rule 6); new ones when full (rule 28).
//!          Only a verified message or our own observation changes a field.
//! Sources: RFC 3261 sections 12.1, 13.2.2.4 and 15; RFC 6665 sections 4.1.2.4 and 4.4.1; rules 1 to 8, 15, 25
//!          to 28, 30 and 31.
//!
//! Locks are taken in the order `forming`, `dialogs`, `of_caller`, `expiry`, each only while none of those after it is
//! held, and no two of one table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};
use smallvec::SmallVec;

use super::dialog::{
    Association, DialogKey, Forming, Keyer, LINGER, NEVER, Origin, SUBSCRIPTIONS_MAX, State,
    Subscription, Tally,
};
use super::judge::judge;
use super::usages::Ending;
use super::{Bound, Inside, Ruling, Settings};
use crate::authentication::{Authenticated, Caller, Kind};
use crate::enabler::{Class, Family};
use crate::expiry::{Expiry, Timer};
use crate::gate::Halt;
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Flow, Group, Pending, Side, Target};
use crate::wire::{Message, Method};

/// Where stage 7 sent a request: who will own the other leg.
#[derive(Clone, Debug)]
pub enum Sent {
    /// To a server.
    Core(Target),
    /// To a UE that registered on this flow.
    Ue(Flow, Principal),
}

/// Who sent a response.
#[derive(Clone, Copy, Debug)]
pub struct Responder {
    /// The flow it came on.
    pub flow: Flow,
    /// The peer group, on the core side.
    pub group: Option<Group>,
}

/// A forwarded request whose responses matter to a dialog.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    pub(super) key: DialogKey,
    forms: bool,
    sender: Side,
    pub(super) method: Method,
    pub(super) event: u64,
    /// Whether its sender was proved, so that what it says of a subscription counts.
    pub(super) verified: bool,
    /// Whether the request itself brought the subscription of `event` to a dialog that had none.
    pub(super) subscribes: bool,
}

/// All dialogs.
#[derive(Debug)]
pub struct Associations {
    settings: ArcSwap<Settings>,
    keyer: Keyer,
    pub(super) forming: DashMap<DialogKey, Forming, Hashed>,
    pub(super) dialogs: DashMap<DialogKey, Association, Hashed>,
    /// How many there are in both.
    pub(super) held: AtomicUsize,
    of_caller: DashMap<Principal, Arc<Tally>, Seeded>,
    pub(super) expiry: Expiry<Ending>,
    next_id: AtomicU64,
}

impl Associations {
    /// No dialogs. `key` is any secret octets, `first_id` where numbering begins.
    pub fn new(settings: Settings, key: [u8; 16], first_id: u64) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            keyer: Keyer::new(key),
            forming: DashMap::with_hasher(Hashed::default()),
            dialogs: DashMap::with_hasher(Hashed::default()),
            held: AtomicUsize::new(0),
            of_caller: DashMap::with_hasher(seeded()),
            expiry: Expiry::default(),
            next_id: AtomicU64::new(first_id),
        }
    }

    /// Puts other settings in the place of the present ones; dialogs stay, more of them than now may be too.
    pub fn replace_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Ties a request to its dialog.
    ///
    /// # Errors
    ///
    /// The refusal of the rule that decides.
    pub fn bind<'m>(&self, found: Authenticated<'m>, _now: Now) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let method = admitted.method();
        if method == Method::Cancel {
            return match admitted.arrival().pending {
                Pending::None => Err(Refusal::CancelUnmatched.into()),
                Pending::Invite | Pending::Other => Ok(alone(found, None)),
            };
        }
        if admitted.in_dialog() {
            return self.bind_inside(found);
        }
        if method == Method::Ack {
            return Err(Refusal::AckUnmatched.into());
        }
        if !forms_dialog(method) {
            return Ok(alone(found, None));
        }
        self.judge_forming(&found)?;
        let settings = self.settings.load();
        let room = self.footprint() < settings.max
            && found.evidence().caller().is_none_or(|caller| {
                let tally = self.of_caller.get(&caller.principal);
                tally.map_or(0, |tally| tally.get()) < settings.max_per_caller
            });
        if !room {
            return Err(Refusal::TableFull.into());
        }
        Ok(Bound { authenticated: found, ruling: Ruling::Forms, would: None })
    }

    /// A SUBSCRIBE or REFER is found again by its ids alone, so nobody may take the place of another's.
    fn judge_forming(&self, found: &Authenticated<'_>) -> Result<(), Refusal> {
        let admitted = found.admitted();
        let Some(caller) = found.evidence().caller() else { return Ok(()) };
        let key = self.keyer.forming(admitted.message(), admitted.arrival().side);
        let foreign = |entry: &Forming| entry.origin.owner != caller.principal;
        let taken = self.forming.get(&key).is_some_and(|entry| foreign(&entry));
        if taken { Err(Refusal::AssociationMismatch) } else { Ok(()) }
    }

    fn bind_inside<'m>(&self, found: Authenticated<'m>) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let (message, side) = (admitted.message(), admitted.arrival().side);
        let key = self.keyer.of(message, side);
        let event = self.event(message);
        let Some(association) = self.dialogs.get(&key) else {
            return self.bind_unknown(found, key, event);
        };
        if association.state == State::Released {
            return Err(Refusal::DialogEnded.into());
        }
        let (rule, would) = match judge(&association, &found, event) {
            Ok(rule) => (rule, None),
            Err(refusal) if self.only_observed(refusal) => (1, Some(refusal)),
            Err(refusal) => return Err(refusal.into()),
        };
        let inside = Inside::of(&association, key, None, rule, would.is_none());
        drop(association);
        Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would })
    }

    /// No dialog of that key: the wrong side of one, a first NOTIFY, or nothing.
    fn bind_unknown<'m>(
        &self,
        found: Authenticated<'m>,
        key: DialogKey,
        event: u64,
    ) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let (message, side) = (admitted.message(), admitted.arrival().side);
        let unknown = match admitted.method() {
            Method::Ack => Refusal::AckUnmatched,
            _ => Refusal::DialogUnknown,
        };
        if self.dialogs.contains_key(&self.keyer.of(message, other(side))) {
            return Err(Refusal::WrongSide.into());
        }
        if admitted.method() != Method::Notify {
            return Err(unknown.into());
        }
        // The NOTIFY's To tag is the From tag of the SUBSCRIBE, which went the other way.
        let (call_id, tag) = (message.call_id(), message.to_tag());
        let forming = match side {
            Side::Core => self.keyer.dialog(call_id, tag, b""),
            Side::Ue => self.keyer.dialog(call_id, b"", tag),
        };
        let Some(entry) = self.forming.get(&forming) else { return Err(unknown.into()) };
        let fork = entry.fork(State::Forming);
        let many = entry.children.len();
        drop(entry);
        if !fork.subscribes(event) {
            return Err(unknown.into());
        }
        judge(&fork, &found, event)?;
        if many >= self.settings.load().early_max {
            return Err(Refusal::TableFull.into());
        }
        let inside = Inside::of(&fork, key, Some(forming), 25, true);
        Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would: None })
    }

    fn only_observed(&self, refusal: Refusal) -> bool {
        const OBSERVABLE: [u8; 10] = [3, 4, 5, 7, 9, 14, 26, 29, 30, 32];
        let rule = refusal.rule().unwrap_or(0);
        let settings = self.settings.load();
        settings.observe && OBSERVABLE.contains(&rule) && !settings.enforce.contains(&rule)
    }

    /// Notes that a request was forwarded: the dialog it may form, or the anchor, count and NOTIFY of the
    /// dialog it is inside of.
    pub fn commit(&self, bound: &Bound<'_>, sent: &Sent, now: Now) -> Option<Track> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let (method, sender) = (bound.method(), arrival.side);
        let event = self.event(message);
        match bound.ruling() {
            Ruling::Alone => None,
            Ruling::Forms => {
                let origin = Arc::new(self.origin(bound, sent, event)?);
                // Only a NOTIFY looks for its entry by ids. A core that forks sends one INVITE to many flows.
                let key = match method {
                    Method::Subscribe | Method::Refer => self.keyer.forming(message, sender),
                    _ => self.keyer.numbered(origin.id),
                };
                self.form(key, origin, now);
                let (forms, verified, subscribes) = (true, true, false);
                Some(Track { key, forms, sender, method, event, verified, subscribes })
            }
            Ruling::Inside(inside) => {
                if let Some(forming) = inside.forming {
                    self.confirm(forming, inside.key, now);
                }
                let mut entry = self.dialogs.get_mut(&inside.key)?;
                let entry = &mut *entry;
                if inside.verified {
                    let number = message.cseq().map(|cseq| cseq.number);
                    let counts = entry.counts_mut(sender);
                    counts.cseq = counts.cseq.max(number);
                    if method == Method::Invite {
                        counts.invite = number;
                    }
                    if sender == Side::Ue && method != Method::Ack {
                        entry.anchor(arrival.flow);
                    }
                    if sender == Side::Ue {
                        entry.class = bound.class();
                    }
                    entry.deadline = now.mono + self.settings.load().max_idle;
                    self.look(inside.key, entry);
                }
                let subscribes = matches!(method, Method::Subscribe | Method::Refer);
                let room = entry.subscriptions.len() < SUBSCRIPTIONS_MAX;
                let subscribes = subscribes && room && !entry.subscribes(event);
                if subscribes {
                    entry.subscriptions.push(Subscription { event, until: NEVER });
                }
                let (key, forms, verified) = (inside.key, false, inside.verified);
                Some(Track { key, forms, sender, method, event, verified, subscribes })
            }
        }
    }

    fn origin(&self, bound: &Bound<'_>, sent: &Sent, event: u64) -> Option<Origin> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let evidence = bound.evidence();
        let (owner, flow, group, server) = match (arrival.side, sent) {
            (Side::Ue, Sent::Core(target)) => {
                let owner = &bound.caller()?.principal;
                (owner, arrival.flow, target.group, Some(target.clone()))
            }
            (Side::Core, Sent::Ue(to, owner)) => (owner, *to, evidence.peer?.id, None),
            _ => return None,
        };
        let of_owner = |caller: &Arc<Caller>| evidence.of(&caller.principal).0;
        let by_channel = arrival.side == Side::Ue
            && bound.caller().is_some_and(|caller| of_owner(caller) == Kind::Channel);
        Some(Origin {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            tally: self.one_more(owner, bound.class().family()),
            owner: owner.clone(),
            flow,
            server,
            event,
            cseq: message.cseq().map(|cseq| cseq.number),
            group,
            caller_side: arrival.side,
            class: bound.class(),
            level: if by_channel { 3 } else { 2 },
            secure: flow.transport.is_secure(),
            invite: bound.method() == Method::Invite,
        })
    }

    /// Notes a request that may form dialogs; `origin` is counted already.
    fn form(&self, key: DialogKey, origin: Arc<Origin>, now: Now) {
        let deadline = now.mono + FORMING;
        let (children, timer) = (SmallVec::new(), Timer::default());
        let mut forming = Forming { origin, children, deadline, timer };
        let old = match self.forming.entry(key) {
            Entry::Vacant(place) => {
                self.expiry.set(&mut forming.timer, deadline, Ending::Forming(key));
                place.insert(forming);
                self.held.fetch_add(1, Ordering::AcqRel);
                return;
            }
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                forming.timer = known.timer;
                self.expiry.set(&mut forming.timer, deadline, Ending::Forming(key));
                std::mem::replace(known, forming)
            }
        };
        self.one_less(&old.origin, old.children.is_empty());
    }

    /// Makes the dialog of a fork, the last child of `forming`; one that is there already is none of its children.
    /// `forming` is held, so that its owner is counted.
    fn bear(&self, child: DialogKey, forming: &mut Forming) {
        let Entry::Vacant(place) = self.dialogs.entry(child) else {
            forming.children.pop();
            return;
        };
        let mut association = forming.fork(State::Early);
        // The first one takes the place of its request.
        let opens = forming.children.len() > 1;
        association.origin.tally.up(association.origin.class.family(), opens);
        self.held.fetch_add(1, Ordering::AcqRel);
        self.look(child, &mut association);
        place.insert(association);
    }

    /// Notes a response to a tracked request.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooManyEarlyDialogs`]: the response is to be dropped, the request goes on.
    pub fn respond(&self, track: &Track, response: &Message, now: Now) -> Result<(), Refusal> {
        let status = response.status().unwrap_or(0);
        if track.forms {
            return self.respond_forming(track, response, status, now);
        }
        let ends_invite = track.method == Method::Bye
            && (matches!(status, 200..=299) || matches!(status, 408 | 481));
        let ends_all = matches!(status, 408 | 481) && track.method == Method::Invite;
        if ends_invite || ends_all {
            self.end_invite(track.key, now);
        }
        self.note_refresh(track, response, status, now);
        Ok(())
    }

    fn respond_forming(
        &self,
        track: &Track,
        response: &Message,
        status: u16,
        now: Now,
    ) -> Result<(), Refusal> {
        let confirms = matches!(status, 200..=299);
        if status >= 300 {
            self.fail(track, now);
            return Ok(());
        }
        if status == 100 || response.to_tag().is_empty() {
            return Ok(());
        }
        let child = self.keyer.of(response, track.sender);
        let known = self.dialogs.get(&child).map(|entry| entry.state);
        if let Some(state) = known {
            // A 2xx comes again until it is acknowledged: only the first one moves anything.
            match state {
                State::Early if confirms => self.confirm(track.key, child, now),
                State::Early => self.rings_on(track.key, child, now),
                State::Forming | State::Bound | State::Released => {}
            }
            if confirms && track.method == Method::Subscribe {
                self.grant(child, track.event, response.expires(), now);
            }
            return Ok(());
        }
        let Some(mut forming) = self.forming.get_mut(&track.key) else { return Ok(()) };
        if forming.children.len() >= self.settings.load().early_max {
            return Err(Refusal::TooManyEarlyDialogs);
        }
        forming.deadline = now.mono + FORMING;
        forming.bears(child);
        self.bear(child, &mut forming);
        drop(forming);
        if confirms {
            self.confirm(track.key, child, now);
            if track.method == Method::Subscribe {
                self.grant(child, track.event, response.expires(), now);
            }
        }
        Ok(())
    }

    /// It rings still: the dialog that may come of it is waited for again.
    fn rings_on(&self, forming: DialogKey, child: DialogKey, now: Now) {
        let end = now.mono + FORMING;
        if let Some(mut entry) = self.forming.get_mut(&forming) {
            entry.deadline = entry.deadline.max(end);
        }
        if let Some(mut entry) = self.dialogs.get_mut(&child) {
            entry.deadline = entry.deadline.max(end);
        }
    }

    /// A final answer other than 2xx, or none: nothing is formed. A BYE that nobody answers ends its usage all the
    /// same (RFC 3261 section 15.1.1).
    pub fn fail(&self, track: &Track, now: Now) {
        if !track.forms {
            if track.method == Method::Bye {
                self.end_invite(track.key, now);
            }
            if track.subscribes {
                self.unsubscribe(track, now);
            }
            return;
        }
        let Some((_, mut forming)) = self.forming.remove(&track.key) else { return };
        self.expiry.cancel(&mut forming.timer);
        self.held.fetch_sub(1, Ordering::AcqRel);
        for child in &forming.children {
            self.release(*child, now, |child| child.state == State::Early);
        }
        self.one_less(&forming.origin, forming.children.is_empty());
    }

    /// Confirms the dialog `child` of `forming`; its other early dialogs have 64*T1 left.
    fn confirm(&self, forming: DialogKey, child: DialogKey, now: Now) {
        let end = now.mono + LINGER;
        let mut siblings = SmallVec::<[DialogKey; 1]>::new();
        if let Some(mut entry) = self.forming.get_mut(&forming) {
            let entry = &mut *entry;
            entry.deadline = end;
            self.expiry.set(&mut entry.timer, end, Ending::Forming(forming));
            let room = entry.children.len() < self.settings.load().early_max;
            if room && entry.bears(child) {
                self.bear(child, entry);
            }
            siblings.extend(entry.children.iter().copied().filter(|known| *known != child));
        }
        if let Some(mut entry) = self.dialogs.get_mut(&child)
            && entry.state != State::Released
        {
            entry.state = State::Bound;
            entry.deadline = now.mono + self.settings.load().max_idle;
            self.look(child, &mut entry);
        }
        for sibling in siblings {
            if let Some(mut entry) = self.dialogs.get_mut(&sibling)
                && entry.state == State::Early
            {
                entry.deadline = end;
                self.look(sibling, &mut entry);
            }
        }
    }

    /// Dialogs of one caller that are open, of a family of classes; those included that may come to be.
    pub fn open_of(&self, caller: &Principal, family: Family) -> u32 {
        self.of_caller.get(caller).map_or(0, |tally| tally.of(family))
    }

    /// The class of the dialog that a request from the UE side claims to be inside of.
    pub fn class_of(&self, message: &Message) -> Option<Class> {
        let association = self.dialogs.get(&self.keyer.of(message, Side::Ue))?;
        Some(association.class)
    }

    /// Dialogs held, ended ones and those that may come to be included.
    pub fn footprint(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Timers set: one for each that is held.
    pub fn timers(&self) -> usize {
        self.expiry.len()
    }

    /// Callers who have dialogs.
    pub fn callers(&self) -> usize {
        self.of_caller.len()
    }

    /// A copy of every record, for tests and for people who look.
    pub fn snapshot(&self) -> Vec<Association> {
        let forming = self.forming.iter().map(|entry| entry.fork(State::Forming));
        forming.chain(self.dialogs.iter().map(|entry| entry.value().clone())).collect()
    }

    /// Counts one more dialog of `owner`. A tally is taken out under its lock and at zero alone, so that nobody counts
    /// on one that is not in the table.
    fn one_more(&self, owner: &Principal, family: Family) -> Arc<Tally> {
        if let Some(tally) = self.of_caller.get(owner) {
            tally.up(family, true);
            return Arc::clone(&tally);
        }
        let tally = self.of_caller.entry(owner.clone()).or_default();
        tally.up(family, true);
        Arc::clone(&tally)
    }

    /// How long a subscription of that class may be granted for: what is granted beyond that is not held.
    pub(super) fn longest_subscription(&self, class: Class) -> Duration {
        match class.family() {
            Family::Locsip => self.settings.load().location_max,
            _ => Duration::MAX,
        }
    }

    /// Counts one dialog less, or one request; `closes` unless a dialog came of that.
    pub(super) fn one_less(&self, origin: &Origin, closes: bool) {
        if origin.tally.down(origin.class.family(), closes) {
            self.of_caller.remove_if(&origin.owner, |_, tally| tally.get() == 0);
        }
    }

    /// The event of a SUBSCRIBE, NOTIFY or REFER, by keyed hash; 0 for other methods.
    fn event(&self, message: &Message) -> u64 {
        match message.method() {
            Some(Method::Subscribe | Method::Notify) => self.keyer.short(message.event()).max(1),
            Some(Method::Refer) => self.keyer.short(b"refer").max(1),
            _ => 0,
        }
    }
}

impl Inside {
    fn of(
        association: &Association,
        key: DialogKey,
        forming: Option<DialogKey>,
        rule: u8,
        verified: bool,
    ) -> Self {
        let (origin, moved) = (Arc::clone(&association.origin), association.moved.clone());
        Self { rule, key, forming, origin, class: association.class, moved, verified }
    }
}

fn alone(found: Authenticated<'_>, would: Option<Refusal>) -> Bound<'_> {
    Bound { authenticated: found, ruling: Ruling::Alone, would }
}

/// Whether a request of that method outside a dialog may form one. What is not understood may
/// (RFC 3261 section 16.6 item 4).
pub fn forms_dialog(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Other)
}

fn other(side: Side) -> Side {
    match side {
        Side::Ue => Side::Core,
        Side::Core => Side::Ue,
    }
}

/// How long a request that may form a dialog is waited for.
const FORMING: Duration = Duration::from_secs(600);

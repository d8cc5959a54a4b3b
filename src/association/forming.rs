//! Stage 5, forming: what becomes of a request that may form dialogs, and of what goes on inside them.
//!
//! 1. A request that may form dialogs is noted when it is forwarded; what was proposed in [`Bound`] becomes true then.
//! 2. Each To tag in a 101 to 199 or a 2xx is a dialog of its own; the first NOTIFY of a notifier makes one, too.
//! 3. A 2xx confirms its dialog, and the others have 64*T1 left. Any other final answer ends them all.
//!
//! Takes:   requests as they are forwarded, and the responses to them.
//! Gives:   a [`Track`] by which stage 7 reports responses.
//! Keeps:   what `table` keeps.
//! Refuses: more early dialogs of one request than are kept: rule 27.
//! Sources: RFC 3261 sections 12.1, 13.2.2.4 and 15.1.1; RFC 6665 section 4.4.1; rules 25, 27 and 28.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::Entry;
use dashmap::mapref::one::RefMut;
use smallvec::SmallVec;

use super::brought::Proved;
use super::dialog::{
    Association, DialogKey, Forming, LINGER, NEVER, Origin, REFRESH, SUBSCRIPTIONS_MAX, Session,
    Subscription,
};
use super::owner::Shown;
use super::state::State;
use super::table::{Associations, FORMING, Sent, Track};
use super::target::{Way, retargets};
use super::usages::Ending;
use super::{Bound, Inside, Known, Ruling};
use crate::authentication::{Caller, Kind};
use crate::expiry::Timer;
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Flow, Side, Target};
use crate::wire::uri::Scheme;
use crate::wire::{Message, Method, Name};

impl Associations {
    /// Notes that a request was forwarded: the dialog it may form, or the anchor, count and NOTIFY of the
    /// dialog it is inside of.
    pub fn commit(&self, bound: &Bound<'_>, sent: &Sent, now: Now) -> Option<Track> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let (method, sender) = (bound.method(), arrival.side);
        let event = self.event(message);
        match bound.ruling() {
            Ruling::Alone => None,
            Ruling::Forms(proposal) => {
                let origin = Arc::new(self.origin(bound, sent, proposal.id, event, now)?);
                let id = origin.id;
                // Only a NOTIFY looks for its entry by ids. A core that forks sends one request to many flows.
                let key = match (method, sender) {
                    (Method::Subscribe | Method::Refer, Side::Ue) => {
                        self.keyer.forming(message, sender)
                    }
                    _ => self.keyer.numbered(origin.id),
                };
                let credentials = self.credentials_of(bound);
                self.form(key, origin, credentials, now);
                self.grant_named(bound, sent, now);
                let used = self.use_grant(bound, now);
                let (forms, verified, subscribes) = (true, true, false);
                Some(Track {
                    key,
                    id,
                    forms,
                    sender,
                    method,
                    event,
                    verified,
                    subscribes,
                    target: 0,
                    used,
                    session: None,
                })
            }
            Ruling::Inside(inside) => {
                match inside.known {
                    Known::Notified(forming) => {
                        self.confirm((forming, inside.origin.id), inside.key, now);
                    }
                    Known::Told(token) => self.rebuild(inside, &token, event, method, now),
                    Known::Held => {}
                }
                if !matches!(inside.known, Known::Held) {
                    self.name_ends(inside.key, message);
                }
                self.grant_named(bound, sent, now);
                self.commit_inside(bound, inside, event, now)
            }
        }
    }

    fn commit_inside(
        &self,
        bound: &Bound<'_>,
        inside: &Inside,
        event: u64,
        now: Now,
    ) -> Option<Track> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let (method, sender) = (bound.method(), arrival.side);
        let (key, forms, verified) = (inside.key, false, inside.verified);
        let asks = sender == Side::Core && retargets(method);
        let target = if asks && verified { self.keyer.contact(message) } else { 0 };
        let credentials = self.credentials_of(bound);
        let used = if verified { self.use_grant(bound, now) } else { None };
        let mut entry = self.dialogs.get_mut(&key)?;
        let entry = &mut *entry;
        if entry.state == State::Released {
            return None;
        }
        if verified {
            let number = message.cseq().map(|cseq| cseq.number);
            let counts = entry.counts_mut(sender);
            counts.cseq = counts.cseq.max(number);
            if sender == Side::Ue && method == Method::Invite {
                entry.credentials = credentials;
            }
            if sender == Side::Ue {
                if entry.instance == 0 {
                    entry.instance = self.keyer.instance(message);
                }
                self.note_owner(key, entry, arrival.flow, inside.shown, now);
                entry.class = bound.class();
            }
            if let Some(carried) = inside.carried {
                entry.proved = Proved::by(carried.mark);
            }
            entry.rule = inside.rule;
            match entry.session {
                Session::Open => entry.ends = now.mono + self.settings.load().max_idle,
                Session::Ours => entry.ends = now.mono + REFRESH,
                Session::Agreed => {}
            }
            entry.way.may_retarget(target);
            let first_notify = entry.state == State::Early && method == Method::Notify;
            if first_notify || matches!(inside.known, Known::Notified(_)) {
                entry.way = self.keyer.way_of_request(message);
            }
            if first_notify {
                entry.confirm(entry.ends, now.mono, &self.settings.load());
            }
            self.look(key, entry);
        }
        let subscribes = matches!(method, Method::Subscribe | Method::Refer);
        let room = entry.subscriptions.len() < SUBSCRIPTIONS_MAX;
        let subscribes = subscribes && room && !entry.subscribes(event);
        if subscribes {
            entry.subscriptions.push(Subscription { event, until: NEVER });
        }
        let session = None;
        let id = inside.origin.id;
        Some(Track {
            key,
            id,
            forms,
            sender,
            method,
            event,
            verified,
            subscribes,
            target,
            used,
            session,
        })
    }

    /// The owner of the UE's leg gave evidence on `flow`.
    fn note_owner(
        &self,
        key: DialogKey,
        entry: &mut Association,
        flow: Flow,
        shown: Option<Shown>,
        now: Now,
    ) {
        let (new, gone) = entry.anchor(flow);
        if let Some(new) = new {
            self.anchored.add(&new, key);
        }
        if let Some(gone) = gone {
            self.anchored.remove(&gone, key);
        }
        if shown.is_some_and(|shown| entry.key.note(shown, now.mono)) {
            self.noted.rekeyed.fetch_add(1, Ordering::Relaxed);
        }
        entry.revive();
    }

    /// The credentials of an INVITE that a UE sent on a secure flow.
    fn credentials_of(&self, bound: &Bound<'_>) -> u64 {
        let invites = bound.method() == Method::Invite && bound.arrival().side == Side::Ue;
        if invites { self.keyer.credentials(bound.message(), &bound.arrival().flow) } else { 0 }
    }

    fn origin(
        &self,
        bound: &Bound<'_>,
        sent: &Sent,
        id: u64,
        event: u64,
        now: Now,
    ) -> Option<Origin> {
        let (message, arrival) = (bound.message(), bound.arrival());
        let Demanded { level, secure } = self.demands_of(bound, sent)?;
        let (owner, flow, group, server) = match (arrival.side, sent) {
            (Side::Ue, Sent::Core(target)) => {
                (bound.caller()?, arrival.flow, target.group, Some(target.clone()))
            }
            (Side::Core, Sent::Ue(to, owner)) => (owner, *to, bound.evidence().peer?.id, None),
            _ => return None,
        };
        let way = match arrival.side {
            Side::Core => self.keyer.way_of_request(message),
            Side::Ue => Way::default(),
        };
        let key = self.keyer.shown(owner, now);
        let owner = &owner.principal;
        Some(Origin {
            id,
            tally: self.one_more(owner, bound.class().family()),
            owner: owner.clone(),
            flow,
            key,
            way,
            sips: is_sips(message),
            server,
            event,
            call: self.keyer.mark(message.call_id()),
            cseq: message.cseq().map(|cseq| cseq.number),
            group,
            caller_side: arrival.side,
            class: bound.class(),
            level,
            secure,
            invite: bound.method() == Method::Invite,
            end: self.keyer.end(message.call_id(), message.from_tag()),
            below: hops_below(message),
            instance: if arrival.side == Side::Ue { self.keyer.instance(message) } else { 0 },
        })
    }

    /// What requests from the UE will have to show in the dialog that a request forms.
    pub(super) fn demands_of(&self, bound: &Bound<'_>, sent: &Sent) -> Option<Demanded> {
        let arrival = bound.arrival();
        let of_owner = |caller: &Arc<Caller>| bound.evidence().of(&caller.principal).0;
        let by_channel = arrival.side == Side::Ue
            && bound.caller().is_some_and(|caller| of_owner(caller) == Kind::Channel);
        let flow = match (arrival.side, sent) {
            (Side::Ue, _) => &arrival.flow,
            (Side::Core, Sent::Ue(to, _)) => to,
            (Side::Core, Sent::Core(_) | Sent::Inside) => return None,
        };
        let level = if by_channel { 3 } else { 2 };
        let secure = flow.transport.is_secure() || is_sips(bound.message());
        Some(Demanded { level, secure })
    }

    /// Notes a request that may form dialogs; `origin` is counted already.
    fn form(&self, key: DialogKey, origin: Arc<Origin>, credentials: u64, now: Now) {
        // Nobody is notified of a subscription later than that (RFC 6665 section 4.1.2.4).
        let deadline = now.mono + if origin.event == 0 { FORMING } else { LINGER };
        let (children, timer) = (SmallVec::new(), Timer::default());
        self.ends.add(origin.end, &origin.owner);
        self.forks.add(&origin);
        let mut forming = Forming { origin, seed: None, credentials, children, deadline, timer };
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
        self.forget_forming(&old.origin);
    }

    /// A request is held no more that might have formed dialogs.
    pub(super) fn forget_forming(&self, origin: &Origin) {
        self.ends.remove(origin.end, &origin.owner);
        self.forks.remove(origin);
        self.one_less(origin);
    }

    /// What is held of a request that may form dialogs: another of the same ids may have come in its place.
    pub(super) fn forming_of(&self, track: &Track) -> Option<RefMut<'_, DialogKey, Forming>> {
        let entry = self.forming.get_mut(&track.key).filter(|_| track.forms);
        entry.filter(|entry| entry.origin.id == track.id)
    }

    /// Both ends of a dialog are its owner's from now on: `message` is one of it.
    fn name_ends(&self, key: DialogKey, message: &Message) {
        let Some(mut entry) = self.dialogs.get_mut(&key) else { return };
        if entry.bridge.is_some() || entry.named.is_some() {
            return;
        }
        let ends = [message.from_tag(), message.to_tag()]
            .map(|tag| self.keyer.end(message.call_id(), tag));
        entry.named = Some(ends);
        for end in ends {
            self.ends.add(end, &entry.origin.owner);
        }
    }

    /// Makes the dialog of a fork, unless it is there. `forming` is held, so that its owner is counted.
    fn bear(&self, child: DialogKey, forming: &Forming) {
        if let Entry::Vacant(place) = self.dialogs.entry(child) {
            let mut association = forming.fork(State::Early);
            association.origin.tally.up(association.origin.class.family());
            self.anchored.add(&association.origin.flow, child);
            self.held.fetch_add(1, Ordering::AcqRel);
            self.look(child, &mut association);
            place.insert(Box::new(association));
        }
    }

    /// Notes that a request which may form dialogs goes to the UE over another flow than it was committed with.
    pub fn reroute(&self, track: &Track, flow: Flow) {
        if let Some(mut forming) = self.forming_of(track) {
            let origin = Arc::make_mut(&mut forming.origin);
            (origin.flow, origin.secure) = (flow, flow.transport.is_secure());
        }
    }

    /// Notes which server has a request that may form dialogs: theirs goes there, too (RFC 3261 section 13.2.2.4).
    pub fn note_server(&self, track: &Track, server: &Target) {
        if let Some(mut forming) = self.forming_of(track) {
            Arc::make_mut(&mut forming.origin).server = Some(server.clone());
        }
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
        self.note_target(track, response, status);
        self.note_accepted(track, track.key, response, status);
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
        if status == 199 {
            // Of a fork that nothing comes of (RFC 6228 section 4).
            let own = |child: &Association| child.origin.id == track.id;
            self.release(child, now, |child| child.state == State::Early && own(child));
            return Ok(());
        }
        let known = self.dialogs.get(&child).map(|entry| (entry.origin.id, entry.state));
        // Whoever answers chooses the tag: it may be that of somebody else's dialog, who calls under the same Call-ID.
        if known.is_some_and(|(id, _)| id != track.id) {
            return Ok(());
        }
        let known = known.map(|(_, state)| state);
        if known.is_none() {
            let Some(mut forming) = self.forming_of(track) else { return Ok(()) };
            if forming.children.len() >= self.settings.load().early_max {
                return Err(Refusal::TooManyEarlyDialogs);
            }
            forming.deadline = forming.deadline.max(now.mono + self.patience(track));
            forming.bears(child);
            self.bear(child, &forming);
            drop(forming);
            self.name_ends(child, response);
        }
        match track.sender {
            Side::Ue => self.note_way(child, response, confirms),
            Side::Core => self.note_instance(child, response),
        }
        // A 2xx comes again until it is acknowledged: only the first one moves anything.
        match known {
            None | Some(State::Early) if confirms && track.event == 0 => {
                self.confirm((track.key, track.id), child, now);
            }
            Some(State::Early) => self.rings_on(track, child, now),
            _ => {}
        }
        self.note_accepted(track, child, response, status);
        self.note_grant(track, child, response, status, now);
        Ok(())
    }

    /// A 2xx to an INVITE: it may be acknowledged from now on.
    fn note_accepted(&self, track: &Track, key: DialogKey, response: &Message, status: u16) {
        let accepts = track.method == Method::Invite && matches!(status, 200..=299);
        let number = response.cseq().map(|cseq| cseq.number).filter(|_| accepts);
        if let Some(number) = number
            && let Some(mut entry) = self.dialogs.get_mut(&key)
        {
            entry.counts_mut(track.sender).accept(number);
        }
    }

    /// How long what a request may form is waited for: a subscription until it is notified of.
    fn patience(&self, track: &Track) -> Duration {
        if track.event == 0 { FORMING } else { LINGER }
    }

    /// What a response from the core says of the way to it, while it forms a dialog; a 2xx says it anew.
    fn note_way(&self, child: DialogKey, response: &Message, confirms: bool) {
        let Some(mut entry) = self.dialogs.get_mut(&child) else { return };
        let early = entry.state == State::Early;
        let told = self.keyer.way_of_response(response, entry.origin.below);
        if early && (confirms || entry.way.target == 0) && told.target != 0 {
            entry.way = told;
        }
    }

    /// What a UE that answers says of itself, if it did not say so before.
    fn note_instance(&self, child: DialogKey, response: &Message) {
        if let Some(mut entry) = self.dialogs.get_mut(&child)
            && entry.instance == 0
        {
            entry.instance = self.keyer.instance(response);
        }
    }

    /// What a response to a request that may change a target says of it.
    fn note_target(&self, track: &Track, response: &Message, status: u16) {
        let told = match (track.sender, status) {
            (Side::Core, 200..=299) => track.target,
            (Side::Ue, 200..=299) if retargets(track.method) => self.keyer.contact(response),
            (Side::Ue, 101..=199) if response.rseq().is_some() => self.keyer.contact(response),
            _ => 0,
        };
        if told != 0
            && track.verified
            && let Some(mut entry) = self.dialogs.get_mut(&track.key)
        {
            entry.way.retarget(told);
        }
    }

    /// It rings still: the dialog that may come of it is waited for again.
    fn rings_on(&self, track: &Track, child: DialogKey, now: Now) {
        let end = now.mono + self.patience(track);
        if let Some(mut entry) = self.forming_of(track) {
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
        let origin = self.end_forming((track.key, track.id), now);
        if let (Some(used), Some(origin)) = (&track.used, origin) {
            self.give_back(used, &origin);
        }
    }

    /// Nothing more comes of a request that might have formed dialogs: of the one of that key and number.
    pub(super) fn end_forming(&self, of: (DialogKey, u64), now: Now) -> Option<Arc<Origin>> {
        let (key, id) = of;
        let (_, mut forming) = self.forming.remove_if(&key, |_, known| known.origin.id == id)?;
        self.expiry.cancel(&mut forming.timer);
        self.held.fetch_sub(1, Ordering::AcqRel);
        for child in &forming.children {
            self.release(*child, now, |child| child.state == State::Early);
        }
        self.forget_forming(&forming.origin);
        Some(Arc::clone(&forming.origin))
    }

    /// Confirms the dialog `child` of the request of that key and number; its other early dialogs have 64*T1 left.
    fn confirm(&self, of: (DialogKey, u64), child: DialogKey, now: Now) {
        let ((forming, id), end) = (of, now.mono + LINGER);
        let mut siblings = SmallVec::<[DialogKey; 1]>::new();
        let entry = self.forming.get_mut(&forming).filter(|entry| entry.origin.id == id);
        if let Some(mut entry) = entry {
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
            && entry.state == State::Early
        {
            let settings = self.settings.load();
            entry.confirm(now.mono + settings.max_idle, now.mono, &settings);
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
}

/// What requests from the UE have to show inside a dialog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demanded {
    pub(super) level: u8,
    pub(super) secure: bool,
}

fn is_sips(request: &Message) -> bool {
    request.uri().is_some_and(|uri| uri.scheme() == Scheme::Sips)
}

/// How many Record-Route values a request has already: hops between its sender and us.
fn hops_below(message: &Message) -> u8 {
    u8::try_from(message.values(Name::RecordRoute).count()).unwrap_or(u8::MAX)
}

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
use dashmap::DashMap;
use sha2::{Digest as _, Sha256};

use super::dialog::{Association, DialogKey, Forming, Keyer, Origin, State, Tally};
use super::judge::judge;
use super::token::{RouteToken, RouteTokens};
use super::usages::Ending;
use super::{Bound, Inside, Known, Proposal, Ruling, Settings};
use crate::authentication::Authenticated;
use crate::expiry::Expiry;
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
    pub(super) forms: bool,
    pub(super) sender: Side,
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
    pub(super) settings: ArcSwap<Settings>,
    pub(super) keyer: Keyer,
    pub(super) tokens: RouteTokens,
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
            tokens: RouteTokens::new(secret_of(key)),
            forming: DashMap::with_hasher(Hashed::default()),
            dialogs: DashMap::with_hasher(Hashed::default()),
            held: AtomicUsize::new(0),
            of_caller: DashMap::with_hasher(seeded()),
            expiry: Expiry::default(),
            next_id: AtomicU64::new(first_id),
        }
    }

    /// The same, with route tokens under `secret`, which outlives this process and which all nodes of a deployment
    /// share: dialogs survive them then (rule 23).
    #[must_use]
    pub fn sealed_with(mut self, secret: [u8; 32]) -> Self {
        self.tokens = RouteTokens::new(secret);
        self
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
    pub fn bind<'m>(&self, found: Authenticated<'m>, now: Now) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let method = admitted.method();
        if method == Method::Cancel {
            return match admitted.arrival().pending {
                Pending::None => Err(Refusal::CancelUnmatched.into()),
                Pending::Invite | Pending::Other => Ok(alone(found, None)),
            };
        }
        if admitted.in_dialog() {
            return self.bind_inside(found, now);
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
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(Bound { authenticated: found, ruling: Ruling::Forms(Proposal { id }), would: None })
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

    fn bind_inside<'m>(&self, found: Authenticated<'m>, now: Now) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let (message, side) = (admitted.message(), admitted.arrival().side);
        let token = self.token_of(message, side, now)?;
        let key = self.keyer.of(message, side);
        let event = self.event(message);
        let Some(association) = self.dialogs.get(&key) else {
            return self.bind_unknown(found, key, event, token.as_ref());
        };
        if token.is_some_and(|token| token.id != association.origin.id) {
            return Err(Refusal::TokenForged.into());
        }
        if association.state == State::Released {
            return Err(Refusal::DialogEnded.into());
        }
        let (rule, would) = match judge(&association, &found, event) {
            Ok(rule) => (rule, None),
            Err(refusal) if self.only_observed(refusal) => (1, Some(refusal)),
            Err(refusal) => return Err(refusal.into()),
        };
        let inside = Inside::of(&association, key, Known::Held, rule, would.is_none());
        drop(association);
        Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would })
    }

    /// No dialog of that key: the wrong side of one, a first NOTIFY, or nothing.
    fn bind_unknown<'m>(
        &self,
        found: Authenticated<'m>,
        key: DialogKey,
        event: u64,
        token: Option<&RouteToken>,
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
        if let Some(token) = token.filter(|_| admitted.method() != Method::Ack) {
            return self.restore(found, key, token);
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
        let inside = Inside::of(&fork, key, Known::Notified(forming), 25, true);
        Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would: None })
    }

    pub(super) fn only_observed(&self, refusal: Refusal) -> bool {
        const OBSERVABLE: [u8; 10] = [3, 4, 5, 7, 9, 14, 26, 29, 30, 32];
        let rule = refusal.rule().unwrap_or(0);
        let settings = self.settings.load();
        settings.observe && OBSERVABLE.contains(&rule) && !settings.enforce.contains(&rule)
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
    pub(super) fn one_more(&self, owner: &Principal) -> Arc<Tally> {
        if let Some(tally) = self.of_caller.get(owner) {
            tally.up();
            return Arc::clone(&tally);
        }
        let tally = self.of_caller.entry(owner.clone()).or_default();
        tally.up();
        Arc::clone(&tally)
    }

    /// Counts one dialog less.
    pub(super) fn one_less(&self, origin: &Origin) {
        if origin.tally.down() {
            self.of_caller.remove_if(&origin.owner, |_, tally| tally.get() == 0);
        }
    }

    /// The event of a SUBSCRIBE, NOTIFY or REFER, by keyed hash; 0 for other methods.
    pub(super) fn event(&self, message: &Message) -> u64 {
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
        known: Known,
        rule: u8,
        verified: bool,
    ) -> Self {
        let (origin, moved) = (Arc::clone(&association.origin), association.moved.clone());
        Self { rule, key, known, origin, moved, verified }
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
pub(super) const FORMING: Duration = Duration::from_secs(600);

/// Octets for what is given no secret of its own: they are lost with the process.
fn secret_of(key: [u8; 16]) -> [u8; 32] {
    Sha256::new().chain_update(b"sipward association").chain_update(key).finalize().into()
}

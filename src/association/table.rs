//! Stage 5, the table: every dialog there is, and what moves it.
//!
//! Takes:   requests to judge, forwarded requests to commit, responses to note, the time.
//! Gives:   [`Bound`], and a [`Track`] by which stage 7 reports responses.
//! Keeps:   `max` dialogs, `max_per_caller` of one caller, `early_max` of one INVITE; ended ones for 32 s; one timer
//!          for each. Requests that may form dialogs are kept apart from them. They count as dialogs, but for their
//!          caller only until they formed one.
//! Refuses: what `judge` and `named` refuse; NOTIFYs that nobody asked for (rule 30); dialogs that nothing is known of
//!          (rule 6); new ones when full (rule 28).
//!          Only a verified message or our own observation changes a field.
//! Sources: RFC 3261 sections 12.1, 13.2.2.4 and 15; RFC 6665 sections 4.1.2.4 and 4.4.1; rules 1 to 8, 15, 25
//!          to 28, 30 and 31.
//!
//! Locks are taken in the order `forming`, `dialogs`, `of_caller`, `anchored`, `grants`, `expiry`, each only while none of those after it is
//! held, and no two of one table. Those of `aliases`, `errands`, `ends` and `forks` are the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use super::alias::{Aliases, is_on_its_leg};
use super::anchors::Anchored;
use super::brought::Brought;
use super::dialog::{Association, DialogKey, Forming, Keyer, Origin, Tally};
use super::ends::Ends;
use super::errands::Errands;
use super::judge::{Passed, Question, judge};
use super::named::{Grants, Used};
use super::notified::Forks;
use super::state::State;
use super::token::RouteTokens;
use super::usages::Ending;
use super::{Bound, Inside, Known, Proposal, Ruling, Settings};
use crate::authentication::{Authenticated, Caller};
use crate::enabler::{Class, Family};
use crate::expiry::Expiry;
use crate::forward::session::Asked;
use crate::gate::Halt;
use crate::hashing::{Hashed, Seeded, seeded};
use crate::identity::Principal;
use crate::instant::{Now, WallTime};
use crate::layered::Layered;
use crate::refusal::Refusal;
use crate::transport::{Flow, Group, Pending, Side, Target};
use crate::wire::{Message, Method, Name};

/// Where stage 7 sent a request: who will own the other leg.
#[derive(Clone, Debug)]
pub enum Sent {
    /// To a server.
    Core(Target),
    /// To the UE of that caller, on a flow that he registered from.
    Ue(Flow, Arc<Caller>),
    /// To the UE, inside a dialog: its leg has an owner.
    Inside,
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
    /// The number of what it forms, or is inside of.
    pub(super) id: u64,
    pub(super) forms: bool,
    pub(super) sender: Side,
    pub(super) method: Method,
    pub(super) event: u64,
    /// Whether its sender was proved, so that what it says of a subscription counts.
    pub(super) verified: bool,
    /// Whether the request itself brought the subscription of `event` to a dialog that had none.
    pub(super) subscribes: bool,
    /// The target that the request asks for, where the core sent it; 0 if it asks for none.
    pub(super) target: u64,
    /// The grant that it stands on.
    pub(super) used: Option<Used>,
    /// What it asked of the session's length, as stage 7 sent it.
    pub session: Option<Asked>,
}

impl Track {
    /// The number of what it forms, or is inside of.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether a UE may form a dialog by it.
    pub fn forms_for_ue(&self) -> bool {
        self.forms && self.sender == Side::Ue
    }
}

/// What happened to dialogs so far.
#[derive(Debug, Default)]
pub struct Noted {
    /// Owners who showed another key in time.
    pub rekeyed: AtomicU64,
    /// Dialogs whose owners did not.
    pub not_rekeyed: AtomicU64,
    /// Dialogs made again of their tokens.
    pub restored: AtomicU64,
}

/// All dialogs.
#[derive(Debug)]
pub struct Associations {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) keyer: Keyer,
    pub(super) tokens: RouteTokens,
    pub(super) forming: Layered<DialogKey, Forming, Hashed>,
    /// On the heap, so that empty places of the table are small.
    pub(super) dialogs: Layered<DialogKey, Box<Association>, Hashed>,
    /// How many there are in both.
    pub(super) held: AtomicUsize,
    pub(super) of_caller: Layered<Principal, Arc<Tally>, Seeded>,
    pub(super) aliases: Arc<Aliases>,
    pub(super) errands: Errands,
    pub(super) anchored: Anchored,
    pub(super) grants: Grants,
    pub(super) ends: Ends,
    pub(super) forks: Forks,
    pub(super) noted: Noted,
    pub(super) expiry: Expiry<Ending>,
    pub(super) first_id: u64,
    pub(super) next_id: AtomicU64,
}

impl Associations {
    /// No dialogs. `key` is any secret octets, `first_id` where numbering begins.
    pub fn new(settings: Settings, key: [u8; 16], first_id: u64) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            keyer: Keyer::new(key),
            tokens: RouteTokens::new(secret_of(key)),
            forming: Layered::with_hasher(Hashed::default()),
            dialogs: Layered::with_hasher(Hashed::default()),
            held: AtomicUsize::new(0),
            of_caller: Layered::with_hasher(seeded()),
            aliases: Arc::default(),
            errands: Errands::default(),
            anchored: Anchored::default(),
            grants: Grants::default(),
            ends: Ends::default(),
            forks: Forks::default(),
            noted: Noted::default(),
            expiry: Expiry::default(),
            first_id,
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

    /// Seals route tokens under `secret` from now on; those of the one before open until `until`. Whether it is another.
    pub fn replace_secret(&self, secret: &[u8; 32], until: WallTime) -> bool {
        self.tokens.replace(secret, until)
    }

    /// Forgets secrets of route tokens whose overlap is over.
    pub fn sweep_secrets(&self, wall: WallTime) {
        self.tokens.sweep(wall);
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
        let would = self.judge_outside(&found, now)?;
        if !forms_dialog(method) {
            return Ok(alone(found, would));
        }
        self.judge_forming(&found)?;
        let settings = self.settings.load();
        let room = self.footprint() < settings.max
            && found.evidence().caller().is_none_or(|caller| {
                let tally = self.of_caller.get(&caller.principal);
                tally.map_or(0, |tally| tally.dialogs()) < settings.max_per_caller
            });
        if !room {
            return Err(Refusal::TableFull.into());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(Bound { authenticated: found, ruling: Ruling::Forms(Proposal { id }), would })
    }

    /// What a request outside dialogs must not do to others: rules 29 and 30. Its caller's key may have to be made anew.
    fn judge_outside(
        &self,
        found: &Authenticated<'_>,
        now: Now,
    ) -> Result<Option<Refusal>, Refusal> {
        let (method, side) = (found.admitted().method(), found.admitted().arrival().side);
        let settings = self.settings.load();
        // A key that the flow stands on is made anew with another flow: no challenge brings that.
        let evidence = found.evidence();
        let caller = evidence.digest.as_ref().filter(|_| evidence.channel.is_none());
        if method == Method::Register
            && caller.is_some_and(|caller| caller.is_to_renew(now.wall, settings.rekey_window))
        {
            return Err(Refusal::KeyAgeing);
        }
        let event = found.admitted().message().event();
        let asked_for = |known: &String| known.as_bytes().eq_ignore_ascii_case(event);
        let unasked = method == Method::Notify
            && (side == Side::Ue || !settings.unsolicited.iter().any(asked_for));
        let judged =
            if unasked { Err(Refusal::MethodUnfit) } else { self.judge_named(found, None, now) };
        match judged {
            Ok(()) => Ok(None),
            Err(refusal) if self.only_observed(refusal) => Ok(Some(refusal)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Nobody forms dialogs under what is an end of another's. A SUBSCRIBE or REFER of a UE is found again by its ids alone.
    fn judge_forming(&self, found: &Authenticated<'_>) -> Result<(), Refusal> {
        let admitted = found.admitted();
        let Some(caller) = found.evidence().caller() else { return Ok(()) };
        let (message, owner) = (admitted.message(), &caller.principal);
        let end = self.keyer.end(message.call_id(), message.from_tag());
        let ended = self.ends.is_anothers(end, owner);
        let key = self.keyer.forming(message, admitted.arrival().side);
        let foreign = |entry: &Forming| entry.origin.owner != *owner;
        let taken = ended || self.forming.get(&key).is_some_and(|entry| foreign(&entry));
        if taken { Err(Refusal::AssociationMismatch) } else { Ok(()) }
    }

    fn bind_inside<'m>(&self, found: Authenticated<'m>, now: Now) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let (message, side) = (admitted.message(), admitted.arrival().side);
        let key = self.lead(self.keyer.of(message, side), side);
        let event = self.event(message);
        let mut known = self.dialogs.get(&key);
        if known.as_ref().is_some_and(|association| association.next_end() <= now.mono) {
            drop(known);
            self.pass_time(key, now);
            known = self.dialogs.get(&key);
        }
        let brought = self.brought(message, side, known.as_ref().map(|it| &***it), now)?;
        let Some(association) = known else {
            return self.bind_unknown(found, key, event, &brought, now);
        };
        if !is_on_its_leg(association.bridge.as_ref(), side, message) {
            return Err(Refusal::WrongSide.into());
        }
        if brought.opened().is_some_and(|token| token.id != association.origin.id) {
            return Err(Refusal::TokenForged.into());
        }
        if association.state == State::Released {
            return Err(Refusal::DialogEnded.into());
        }
        if side == Side::Core && self.waits_for_key(&association, message) {
            return Err(Refusal::KeyAwaited.into());
        }
        let (passed, would) =
            match judge(&association, &found, self.question(&association, &found, event, now)) {
                Ok(passed) => (passed, None),
                Err(refusal) if self.only_observed(refusal) => (Passed::unproved(), Some(refusal)),
                Err(refusal) => return Err(refusal.into()),
            };
        let inside = Inside::of(&association, key, Known::Held, passed, &brought);
        drop(association);
        let would = match self.judge_named(&found, Some(&inside.origin.owner), now) {
            Ok(()) => would,
            Err(refusal) if self.only_observed(refusal) => would.or(Some(refusal)),
            Err(refusal) => return Err(refusal.into()),
        };
        if passed.shown.is_some() && self.is_to_renew(&found, &inside, now) {
            return Err(Refusal::KeyAgeing.into());
        }
        Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would })
    }

    pub(super) fn question(
        &self,
        association: &Association,
        found: &Authenticated<'_>,
        event: u64,
        now: Now,
    ) -> Question<'_> {
        let settings = self.settings.load();
        let agent = found.admitted().message().first(Name::UserAgent).unwrap_or_default();
        let account = association.origin.owner.name.split_once('\t').map(|(_, name)| name);
        let is =
            |name: &String| account == Some(name.as_str()) || agent.starts_with(name.as_bytes());
        let lenient = settings.bye_at_level_1.iter().any(is);
        let same_instance = settings.same_instance;
        Question { event, keyer: &self.keyer, lenient, same_instance, now }
    }

    /// Rule 20, for a class that is strict: whether the key of its owner has to be made anew before he is told anything.
    fn waits_for_key(&self, association: &Association, notify: &Message) -> bool {
        association.state == State::Rekeying
            && association.class == Class::Locsip
            && !notify.body().is_empty()
            && self.settings.load().location_strict
    }

    /// Whether a request that refreshes something is the moment to ask for another key.
    fn is_to_renew(&self, found: &Authenticated<'_>, inside: &Inside, now: Now) -> bool {
        let window = self.settings.load().rekey_window;
        let refreshes = matches!(
            found.admitted().method(),
            Method::Invite | Method::Update | Method::Subscribe
        );
        let (_, _, caller) = found.evidence().shown(&inside.origin.owner, |_| true);
        let challenged = found.evidence().channel.is_none();
        refreshes && challenged && caller.is_some_and(|caller| caller.is_to_renew(now.wall, window))
    }

    /// No dialog of that key: the wrong side of one, a first NOTIFY, or nothing.
    fn bind_unknown<'m>(
        &self,
        found: Authenticated<'m>,
        key: DialogKey,
        event: u64,
        brought: &Brought,
        now: Now,
    ) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        let (message, side) = (admitted.message(), admitted.arrival().side);
        let unknown = match admitted.method() {
            Method::Ack => Refusal::AckUnmatched,
            _ => Refusal::DialogUnknown,
        };
        let turned = self.lead(self.keyer.of(message, other(side)), other(side));
        // A call between two UEs is two dialogs here, each the other turned round: a token tells which is meant.
        let is_meant = |of: &Origin| brought.opened().is_none_or(|token| token.id == of.id);
        if let Some(association) = self.dialogs.get(&turned).filter(|one| is_meant(&one.origin)) {
            // Of a bridged one no leg could be told that the other is meant.
            let over = association.state == State::Released || association.bridge.is_some();
            if over || !self.only_observed(Refusal::WrongSide) {
                return Err(Refusal::WrongSide.into());
            }
            let (known, passed) = (Known::Held, Passed::unproved());
            let inside = Inside::of(&association, turned, known, passed, &Brought::Nothing);
            let (ruling, would) = (Ruling::Inside(inside), Some(Refusal::WrongSide));
            return Ok(Bound { authenticated: found, ruling, would });
        }
        if let Some(inside) = self.bind_first(&found, key, event, brought, now)? {
            return Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would: None });
        }
        match brought {
            Brought::Opened(token, carried) if admitted.method() != Method::Ack => {
                self.restore(found, key, token, *carried, now)
            }
            _ => Err(unknown.into()),
        }
    }

    /// Whether `refusal` is of a rule that is observed, not enforced.
    pub fn only_observed(&self, refusal: Refusal) -> bool {
        const OBSERVABLE: [u8; 10] = [3, 4, 5, 7, 9, 14, 26, 29, 30, 32];
        let rule = refusal.rule().unwrap_or(0);
        let settings = self.settings.load();
        settings.observe && OBSERVABLE.contains(&rule) && !settings.enforce.contains(&rule)
    }

    /// How many dialogs there may be.
    pub fn room(&self) -> usize {
        self.settings.load().max
    }

    /// What happened so far.
    pub fn noted(&self) -> &Noted {
        &self.noted
    }

    /// Anchors of dialogs that are not over, and dialogs that may be named by grant.
    pub fn kept(&self) -> (usize, usize) {
        (self.anchored.len(), self.grants.len())
    }

    /// Dialogs held, ended ones and those that may come to be included.
    pub fn footprint(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Timers set: one for each that is held.
    pub fn timers(&self) -> usize {
        self.expiry.len()
    }

    /// Ends that are held to be somebody's.
    pub fn ends(&self) -> usize {
        self.ends.len()
    }

    /// Ends of the core whose requests are found by their ids.
    pub fn forks(&self) -> usize {
        self.forks.len()
    }

    /// Callers who have dialogs.
    pub fn callers(&self) -> usize {
        self.of_caller.len()
    }

    /// Calls that are up.
    pub fn calls(&self) -> usize {
        self.dialogs.iter().filter(|entry| entry.invite && entry.state.is_confirmed()).count()
    }

    /// A copy of every record, for tests and for people who look.
    pub fn snapshot(&self) -> Vec<Association> {
        let forming = self.forming.iter().map(|entry| entry.fork(State::Forming));
        forming.chain(self.dialogs.iter().map(|entry| Association::clone(&entry))).collect()
    }

    /// Whether a request that this process numbered may form or have formed dialogs by that number.
    pub(super) fn is_own(&self, id: u64) -> bool {
        let next = self.next_id.load(Ordering::Relaxed);
        id.wrapping_sub(self.first_id) < next.wrapping_sub(self.first_id)
    }

    /// Counts one more dialog of `owner`. A tally is taken out under its lock and at zero alone, so that nobody counts
    /// on one that is not in the table.
    pub(super) fn one_more(&self, owner: &Principal, family: Family) -> Arc<Tally> {
        if let Some(tally) = self.of_caller.get(owner) {
            tally.up(family);
            return Arc::clone(&tally);
        }
        let tally = self.of_caller.entry(owner.clone()).or_default();
        tally.up(family);
        Arc::clone(&tally)
    }

    /// How long a subscription of that class may be granted for: what is granted beyond that is not held.
    pub(super) fn longest_subscription(&self, class: Class) -> Duration {
        match class.family() {
            Family::Locsip => self.settings.load().location_max,
            _ => Duration::MAX,
        }
    }

    /// Dialogs of one caller that are open, of a family of classes; those included that may come to be.
    pub fn open_of(&self, caller: &Principal, family: Family) -> u32 {
        self.of_caller.get(caller).map_or(0, |tally| tally.of(family))
    }

    /// The class of the dialog that a request from the UE side claims to be inside of.
    pub fn class_of(&self, message: &Message) -> Option<Class> {
        let key = self.lead(self.keyer.of(message, Side::Ue), Side::Ue);
        let association = self.dialogs.get(&key)?;
        Some(association.class)
    }

    /// Counts one dialog less.
    pub(super) fn one_less(&self, origin: &Origin) {
        if origin.tally.down(origin.class.family()) {
            self.of_caller.remove_if(&origin.owner, |_, tally| tally.is_empty());
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
    pub(super) fn of(
        association: &Association,
        key: DialogKey,
        known: Known,
        passed: Passed,
        brought: &Brought,
    ) -> Self {
        let (origin, moved) = (Arc::clone(&association.origin), association.moved.clone());
        let (way, Passed { rule, shown, verified }) = (association.way, passed);
        let (class, bridge, seed) = (association.class, association.bridge.clone(), None);
        let carried = brought.carried();
        let (state, generation) = (association.state, association.key.generation);
        Self {
            rule,
            key,
            known,
            origin,
            class,
            state,
            generation,
            moved,
            bridge,
            seed,
            carried,
            shown,
            way,
            verified,
        }
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

/// How long an INVITE that may form a dialog is waited for.
pub(super) const FORMING: Duration = Duration::from_secs(600);

/// Octets for what is given no secret of its own: they are lost with the process.
fn secret_of(key: [u8; 16]) -> [u8; 32] {
    Sha256::new().chain_update(b"sipward association").chain_update(key).finalize().into()
}

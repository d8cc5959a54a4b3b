//! Stage 5, named dialogs: who may name a dialog in another request, and so take it over, join it or speak of it.
//!
//! 1. Who owns a leg of a dialog may name it.
//! 2. A REFER of such an owner, whose Refer-To names the dialog in Replaces, grants its receiver the same: once, for
//!    180 seconds. A request that is answered with a failure has not used it.
//! 3. What takes the place of a secure dialog is as secure.
//!
//! Takes:   Replaces, Join and Target-Dialog; REFERs as they are forwarded.
//! Gives:   leave to form the dialog, and the grant that it stands on.
//! Keeps:   four grants of a dialog at most, of dialogs in the table alone.
//! Refuses: dialogs of others (rule 29), dialogs that nobody knows (rule 6), less than a secure dialog had (rule 14),
//!          Replaces or Join outside INVITE, or both (400).
//! Sources: RFC 3891 sections 3 and 4; RFC 3911 section 4; RFC 4538 section 4; RFC 5630 section 5.1.1.3; V-70, V-133.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::dialog::{DialogKey, Keyer};
use super::state::State;
use super::table::{Associations, Sent};
use super::{Bound, Ruling};
use crate::authentication::Authenticated;
use crate::gate::Gate;
use crate::hashing::Hashed;
use crate::identity::Principal;
use crate::instant::{Instant, Now};
use crate::layered::Layered;
use crate::refusal::Refusal;
use crate::transport::{GroupId, Side};
use crate::wire::uri::{Scheme, decode};
use crate::wire::{Address, DialogRef, Fault, Message, Method, Name, Uri};

/// Grants of one dialog, at most.
pub const GRANTS_MAX: usize = 4;
/// How long a grant holds.
pub const GRANT_HOLDS: Duration = Duration::from_secs(180);

/// Who was sent a REFER.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grantee {
    Caller(Principal),
    Group(GroupId),
}

#[derive(Clone, Debug)]
struct Grant {
    to: Grantee,
    until: Instant,
    /// Whether Refer-To was a SIPS URI.
    sips: bool,
}

/// A grant that a request stands on, to be given back if the request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    key: DialogKey,
    sips: bool,
    until: Instant,
}

/// Grants, by the dialog that may be named.
#[derive(Debug, Default)]
pub(super) struct Grants(Layered<DialogKey, SmallVec<[Grant; 1]>, Hashed>);

impl Grants {
    /// Grants over those of `of`.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let beneath = Arc::clone(of);
        let copy = move |key: &DialogKey| {
            beneath.associations.grants.0.get(key).map(|grants| grants.clone())
        };
        Self(Layered::over(Hashed::default(), copy))
    }

    fn give(&self, key: DialogKey, grant: Grant) {
        let mut grants = self.0.entry(key).or_default();
        if grants.len() >= GRANTS_MAX {
            grants.remove(0);
        }
        grants.push(grant);
    }

    fn find(&self, key: DialogKey, to: &Grantee, now: Instant) -> Option<Grant> {
        let grants = self.0.get(&key)?;
        grants.iter().find(|grant| grant.to == *to && grant.until > now).cloned()
    }

    fn take(&self, key: DialogKey, to: &Grantee) {
        self.0.remove_if_mut(&key, |_, grants| {
            if let Some(place) = grants.iter().position(|grant| grant.to == *to) {
                grants.remove(place);
            }
            grants.is_empty()
        });
    }

    /// The dialog is over.
    pub(super) fn forget(&self, key: DialogKey) {
        self.0.remove(&key);
    }

    /// How many dialogs have some.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a request names.
struct Named<'m> {
    dialog: DialogRef<'m>,
    /// Whether it takes its place, or joins it.
    derives: bool,
}

fn named(message: &Message) -> Result<Option<Named<'_>>, Refusal> {
    let malformed = || Refusal::Malformed(Fault::HeaderMalformed);
    let (replaces, joins) = (message.has(Name::Replaces), message.has(Name::Join));
    let derives = replaces || joins;
    if derives && message.method() != Some(Method::Invite) || replaces && joins {
        return Err(malformed());
    }
    let name = match (replaces, joins) {
        (true, _) => Name::Replaces,
        (_, true) => Name::Join,
        _ if message.has(Name::TargetDialog) => Name::TargetDialog,
        _ => return Ok(None),
    };
    let dialog = message.dialog_ref(name).ok_or_else(malformed)?;
    Ok(Some(Named { dialog, derives }))
}

/// What somebody may do with a dialog that is named.
#[derive(Default)]
struct Leave {
    /// It is held here.
    known: bool,
    /// A leg of it is theirs, or who has one gave leave.
    allowed: bool,
    /// It is on secure flows alone, at `sips:` alone.
    secure: bool,
    sips: bool,
}

impl Keyer {
    /// The dialog that is named: from either side, since a call may pass us twice.
    fn named(&self, of: &DialogRef<'_>) -> [DialogKey; 2] {
        [
            self.dialog(of.call_id, of.local_tag, of.remote_tag),
            self.dialog(of.call_id, of.remote_tag, of.local_tag),
        ]
    }
}

impl Associations {
    /// Rule 29, for a request that names a dialog, or asks that another names it; inside a dialog it is the word of
    /// `owner`, if a UE sends it.
    pub(super) fn judge_named(
        &self,
        found: &Authenticated<'_>,
        owner: Option<&Principal>,
        now: Now,
    ) -> Result<(), Refusal> {
        let admitted = found.admitted();
        let (message, arrival) = (admitted.message(), admitted.arrival());
        self.judge_referred(found, owner, now)?;
        let Some(Named { dialog, derives }) = named(message)? else { return Ok(()) };
        let who = grantee(found, owner).ok_or(Refusal::ForeignDialogNamed)?;
        let leave = self.leave(&dialog, Some(&who), arrival.side, now);
        if !leave.known {
            return Err(Refusal::DialogUnknown);
        }
        if !leave.allowed {
            return Err(Refusal::ForeignDialogNamed);
        }
        let asks_sips = message.uri().is_some_and(|uri| uri.scheme() == Scheme::Sips);
        let bare = arrival.side == Side::Ue && !arrival.flow.transport.is_secure();
        if derives && (leave.secure && bare || leave.sips && !asks_sips) {
            return Err(Refusal::LevelTooLow);
        }
        Ok(())
    }

    /// A UE asks nobody to name what it may not name itself: it could ask the core to ask it, and the word of the core
    /// would be its leave. A dialog that is not known here is said to others as it stands, and gives no leave; what cannot
    /// be read here, somebody behind us might read.
    fn judge_referred(
        &self,
        found: &Authenticated<'_>,
        owner: Option<&Principal>,
        now: Now,
    ) -> Result<(), Refusal> {
        let (message, side) = (found.admitted().message(), found.admitted().arrival().side);
        if message.method() != Some(Method::Refer) || side != Side::Ue {
            return Ok(());
        }
        let malformed = || Refusal::Malformed(Fault::HeaderMalformed);
        let refer_to = match referred(message) {
            Some(refer_to) => refer_to,
            None if message.has(Name::ReferTo) => return Err(malformed()),
            None => return Ok(()),
        };
        let headers = refer_to.uri().headers().split(|octet| *octet == b'&').count();
        if headers > HEADERS_MAX {
            return Err(malformed());
        }
        let who = grantee(found, owner);
        for (name, value) in named_in(&refer_to.uri()) {
            let dialog = DialogRef::parse(name, &value).ok_or_else(malformed)?;
            let leave = self.leave(&dialog, who.as_ref(), side, now);
            if leave.known && !leave.allowed {
                return Err(Refusal::ForeignDialogNamed);
            }
        }
        Ok(())
    }

    /// What `who` may do with a dialog.
    fn leave(&self, dialog: &DialogRef<'_>, who: Option<&Grantee>, side: Side, now: Now) -> Leave {
        let mut leave = Leave::default();
        for key in self.keyer.named(dialog) {
            let key = self.lead(key, side);
            let Some(entry) = self.dialogs.get(&key) else { continue };
            if entry.state == State::Released {
                continue;
            }
            let origin = &entry.origin;
            leave.known = true;
            leave.allowed |= who.is_some_and(|who| owns(origin, who));
            leave.secure |= origin.secure;
            leave.sips |= origin.sips;
            drop(entry);
            if let Some(grant) = who.and_then(|who| self.grants.find(key, who, now.mono)) {
                leave.allowed = true;
                leave.sips |= grant.sips;
            }
        }
        leave
    }

    /// A request that names a dialog by leave of a grant has used it.
    pub(super) fn use_grant(&self, bound: &Bound<'_>, now: Now) -> Option<Used> {
        let Named { dialog, derives } = named(bound.message()).ok().flatten()?;
        let who = sender(bound).filter(|_| derives)?;
        let mut used = None;
        for key in self.keyer.named(&dialog) {
            let key = self.lead(key, bound.arrival().side);
            let own = self.dialogs.get(&key).is_some_and(|entry| owns(&entry.origin, &who));
            let Some(grant) = self.grants.find(key, &who, now.mono).filter(|_| !own) else {
                continue;
            };
            self.grants.take(key, &who);
            used = Some(Used { key, sips: grant.sips, until: grant.until });
        }
        used
    }

    /// The request failed: its sender may try again while the grant holds.
    pub(super) fn give_back(&self, used: &Used, origin: &super::Origin) {
        let to = match origin.caller_side {
            Side::Ue => Grantee::Caller(origin.owner.clone()),
            Side::Core => Grantee::Group(origin.group),
        };
        self.grant(used.key, Grant { to, until: used.until, sips: used.sips });
    }

    /// A REFER whose Refer-To names a dialog of its sender lets its receiver name it too.
    pub(super) fn grant_named(&self, bound: &Bound<'_>, sent: &Sent, now: Now) {
        if bound.method() != Method::Refer {
            return;
        }
        let to = match (bound.ruling(), sent) {
            (Ruling::Inside(inside), _) if !inside.verified => return,
            (_, Sent::Core(target)) => Grantee::Group(target.group),
            (_, Sent::Ue(_, caller)) => Grantee::Caller(caller.principal.clone()),
            (Ruling::Inside(inside), Sent::Inside) => Grantee::Caller(inside.origin.owner.clone()),
            (_, Sent::Inside) => return,
        };
        let Some(refer_to) = referred(bound.message()) else { return };
        let mut named = named_in(&refer_to.uri());
        let Some((_, replaces)) = named.find(|(name, _)| *name == Name::Replaces) else { return };
        let Some(dialog) = DialogRef::parse(Name::Replaces, &replaces) else { return };
        let Some(who) = sender(bound) else { return };
        let sips = refer_to.uri().scheme() == Scheme::Sips;
        let keys = self.keyer.named(&dialog).map(|key| self.lead(key, bound.arrival().side));
        let own = keys.iter().any(|key| {
            let entry = self.dialogs.get(key);
            entry.is_some_and(|entry| owns(&entry.origin, &who))
        });
        for key in keys.into_iter().filter(|_| own) {
            self.grant(key, Grant { to: to.clone(), until: now.mono + GRANT_HOLDS, sips });
        }
    }

    /// The dialog is held meanwhile: what is over has no grants.
    fn grant(&self, key: DialogKey, grant: Grant) {
        let Some(entry) = self.dialogs.get(&key) else { return };
        if entry.state != State::Released {
            self.grants.give(key, grant);
        }
    }
}

/// Whether a leg of the dialog is theirs.
fn owns(origin: &super::Origin, who: &Grantee) -> bool {
    match who {
        Grantee::Caller(principal) => origin.owner == *principal,
        Grantee::Group(group) => origin.group == *group,
    }
}

/// Whoever sent a request that was let pass; inside a dialog the owner of the leg speaks, whatever shows him.
fn sender(bound: &Bound<'_>) -> Option<Grantee> {
    let owner = match bound.ruling() {
        Ruling::Inside(inside) => Some(&inside.origin.owner),
        Ruling::Alone | Ruling::Forms(_) => None,
    };
    grantee(bound.authenticated(), owner)
}

fn grantee(found: &Authenticated<'_>, owner: Option<&Principal>) -> Option<Grantee> {
    let evidence = found.evidence();
    match found.admitted().arrival().side {
        Side::Ue => owner
            .or_else(|| evidence.caller().map(|caller| &caller.principal))
            .map(|principal| Grantee::Caller(principal.clone())),
        Side::Core => evidence.peer.map(|peer| Grantee::Group(peer.id)),
    }
}

/// Whom a REFER asks for.
fn referred<'m>(refer: &'m Message) -> Option<Address<'m>> {
    Address::parse(refer.first(Name::ReferTo)?)
}

/// The dialogs named by the headers of a URI, each by the value of that header.
fn named_in<'u>(uri: &Uri<'u>) -> impl Iterator<Item = (Name, Vec<u8>)> + 'u {
    let headers = uri.headers().split(|octet| *octet == b'&').take(HEADERS_MAX);
    headers.filter_map(|header| {
        let (name, value) = header.split_at_checked(memchr::memchr(b'=', header)?)?;
        let name = Name::of(&decode(name));
        let names = matches!(name, Name::Replaces | Name::Join | Name::TargetDialog);
        names.then(|| (name, decode(value.get(1..).unwrap_or_default())))
    })
}

/// Headers of a URI that are looked at.
const HEADERS_MAX: usize = 16;

//! Stage 5, restore: dialogs that this process does not know, or not any more.
//!
//! 1. The topmost Route of a request inside a dialog is the value that we put into its Record-Route. Its token must open
//!    for this call and face the side it came from, which `brought` sees to: rule 10.
//! 2. Where the table knows nothing, the token says who owns the legs, and what the dialog asks of the UE's. Evidence of
//!    that owner makes the dialog again: rule 23. Without it the sender is challenged. A token of this very process
//!    makes nothing again: whoever forms a dialog in the name of another's call would have one for that call.
//! 3. Nor does a UE that called make anything again by what its request left with, which is bound to its own end alone:
//!    whoever forms a dialog under the Call-ID and tag of one that was forgotten would have the other for hers. The answer
//!    tells it one that is bound to both ends.
//!
//! Takes:   requests inside dialogs, and tokens for those that form them and for their answers.
//! Gives:   [`Bound`] by rule 23, and a record without counts once it was forwarded.
//! Keeps:   nothing; what is made again is an entry of `table`, within its bounds.
//! Refuses: senders who are not whom the token names (rules 4, 5, 14, 26); who has
//!          proved nothing (rule 23); all but BYE while the table is full (rule 28).
//! Sources: RFC 3261 sections 12.2.2 and 16.6 item 4; RFC 5057 section 5.1; V-69, V-104.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::Entry;
use smallvec::SmallVec;

use super::anchors::Moved;
use super::brought::{Carried, Proved};
use super::dialog::{Association, Counts, DialogKey, NEVER, Origin, Session, Subscription};
use super::ends::End;
use super::owner::OwnerKey;
use super::state::State;
use super::table::{Associations, Sent, Track};
use super::target::Way;
use super::token::{Ends, NONCE_OCTETS, RouteToken, mark};
use super::{Bound, Inside, Known, Ruling};
use crate::authentication::{Authenticated, Caller};
use crate::expiry::Timer;
use crate::gate::Halt;
use crate::identity::Principal;
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{GroupId, Side};
use crate::wire::{Message, Method, Name};

impl Associations {
    /// Tokens for the Record-Route values of a request about to be forwarded: the one for the next hop, and the one
    /// for the previous hop, which is what that hop brought, where it still would be made so. `nonces` must be random.
    pub fn route_tokens(
        &self,
        bound: &Bound<'_>,
        sent: &Sent,
        nonces: &[[u8; NONCE_OCTETS]; 2],
        now: Now,
    ) -> Option<[String; 2]> {
        let from = bound.arrival().side;
        let (to_next, to_previous) = match from {
            Side::Ue => (Side::Core, Side::Ue),
            Side::Core => (Side::Ue, Side::Core),
        };
        let token = match bound.ruling() {
            Ruling::Alone => return None,
            Ruling::Inside(inside) => match inside.known {
                Known::Told(token) => token,
                Known::Held | Known::Notified(_) => self.token(&inside.origin, now),
            },
            Ruling::Forms(proposal) => {
                let demands = self.demands_of(bound, sent)?;
                let (owner, group) = match sent {
                    Sent::Core(target) => (&bound.caller()?.principal, target.group),
                    Sent::Ue(_, owner) => (&owner.principal, bound.evidence().peer?.id),
                    Sent::Inside => return None,
                };
                RouteToken {
                    facing: to_next,
                    id: proposal.id,
                    ue: self.mark_of(owner),
                    core: self.mark_of_group(group),
                    class: bound.class(),
                    level: demands.level,
                    secure: demands.secure,
                    invite: bound.method() == Method::Invite,
                    caller: from,
                    issued: now.wall,
                    whole: false,
                }
            }
        };
        let [next, previous] = nonces;
        let message = bound.message();
        let ends = match (bound.ruling(), token.caller == from) {
            (Ruling::Inside(_), true) => Ends::Both(message.from_tag(), message.to_tag()),
            (Ruling::Inside(_), false) => Ends::Both(message.to_tag(), message.from_tag()),
            _ => Ends::Caller(message.from_tag()),
        };
        let seal = |facing, nonce| {
            let token = RouteToken { facing, issued: now.wall, ..token };
            self.tokens.seal(&token, message.call_id(), ends, nonce)
        };
        let previous = self.again(bound, now).or_else(|| seal(to_previous, previous))?;
        Some([seal(to_next, next)?, previous])
    }

    /// The token that a request brought, if it may stand for one that is made now: its key seals today, and it is bound to
    /// both ends. The core's need not be: nothing is made again by what a server brings.
    fn again(&self, bound: &Bound<'_>, now: Now) -> Option<String> {
        let Ruling::Inside(inside) = bound.ruling() else { return None };
        let user = inside.carried?.at.of(bound.message().octets());
        let whole = self.tokens.is_of_today(user, now.wall)?;
        let text = std::str::from_utf8(user).ok()?;
        (whole || bound.arrival().side == Side::Core).then(|| text.to_owned())
    }

    /// For a UE that calls: the place, counted from below, of the Record-Route value that faces it in a response which
    /// forms a dialog, and the token for it, which is bound to both ends: `told` again, if that was made for this dialog
    /// and its key seals today. `nonce` must be random.
    ///
    /// Source: RFC 3261 section 16.7 item 8.
    pub fn dialog_token(
        &self,
        track: &Track,
        response: &Message,
        told: Option<String>,
        nonce: &[u8; NONCE_OCTETS],
        now: Now,
    ) -> Option<(usize, String)> {
        let answers = matches!(response.status(), Some(101..=299)) && !response.to_tag().is_empty();
        if !track.forms_for_ue() || !answers {
            return None;
        }
        let key = self.keyer.of(response, track.sender);
        let (origin, proved) = {
            let known = self.dialogs.get(&key)?;
            (Arc::clone(&known.origin), known.proved)
        };
        if origin.id != track.id {
            return None;
        }
        let below = usize::from(origin.below);
        let holds = |told: &String| {
            self.tokens.is_of_today(told.as_bytes(), now.wall) == Some(true)
                && proved.is(self.keyer.token(Side::Ue, told.as_bytes()))
        };
        if let Some(told) = told.filter(holds) {
            return Some((below, told));
        }
        let token = self.token(&origin, now);
        let ends = Ends::Both(response.from_tag(), response.to_tag());
        let sealed = self.tokens.seal(&token, response.call_id(), ends, nonce)?;
        // What the UE will bring with its ACK is known already; who subscribes is silent for long.
        if origin.invite {
            let mark = self.keyer.token(Side::Ue, sealed.as_bytes());
            let known = self.dialogs.get_mut(&key);
            if let Some(mut known) = known.filter(|known| known.origin.id == track.id) {
                known.proved = Proved::by(mark);
            }
        }
        Some((below, sealed))
    }

    /// Whether the user part of a URI is a token of ours by its name.
    pub fn is_route_token(&self, user: &[u8], now: Now) -> bool {
        self.tokens.is_named(user, now.wall)
    }

    /// What a token says of a dialog that is known.
    fn token(&self, origin: &Origin, now: Now) -> RouteToken {
        RouteToken {
            facing: Side::Ue,
            id: origin.id,
            ue: origin.tally.mark(&origin.owner),
            core: self.mark_of_group(origin.group),
            class: origin.class,
            level: origin.level,
            secure: origin.secure,
            invite: origin.invite,
            caller: origin.caller_side,
            issued: now.wall,
            whole: true,
        }
    }

    fn mark_of_group(&self, group: GroupId) -> u64 {
        self.settings.load().groups.mark(group)
    }

    /// What tokens say of an owner: of one who has dialogs, what was hashed already.
    fn mark_of(&self, owner: &Principal) -> u64 {
        let known = self.of_caller.get(owner).map(|tally| tally.mark(owner));
        known.unwrap_or_else(|| mark(owner))
    }

    /// Rule 23: a request in a dialog that is not known here, with our own token of it.
    pub(super) fn restore<'m>(
        &self,
        found: Authenticated<'m>,
        key: DialogKey,
        token: &RouteToken,
        carried: Carried,
        now: Now,
    ) -> Result<Bound<'m>, Halt> {
        let admitted = *found.admitted();
        // What this process itself began it did not lose: the token is of another dialog of that call, whatever tags
        // stand beside it, or of one that is over; unless it was forgotten for its silence.
        let silence = self.settings.load().max_idle.as_secs();
        let forgotten = token.issued.as_unix().saturating_add(silence) <= now.wall.as_unix();
        let called = admitted.arrival().side == Side::Ue && token.caller == Side::Ue;
        if self.is_own(token.id) && !forgotten || called && !token.whole {
            return Err(Refusal::DialogUnknown.into());
        }
        let group =
            self.settings.load().groups.of_mark(token.core).ok_or(Refusal::DialogUnknown)?;
        let caller = match admitted.arrival().side {
            Side::Ue => owner_of(token, &found)?,
            Side::Core if found.evidence().peer.is_some_and(|peer| peer.id == group) => {
                // Whom it is for is known by a hash alone, and no flow leads to him before he speaks.
                return Err(Refusal::FlowGone.into());
            }
            Side::Core => return Err(Refusal::WrongSide.into()),
        };
        let full = self.footprint() >= self.settings.load().max;
        if full && admitted.method() != Method::Bye {
            return Err(Refusal::TableFull.into());
        }
        let shown = self.keyer.shown(&caller, now);
        // What stands behind our two values is the route set; the target is not known before somebody tells it.
        let routes = self.keyer.routes(admitted.message().values(Name::Route).skip(OWN_VALUES));
        let way = Way { routes, ..Way::default() };
        let origin = Origin {
            id: token.id,
            owner: caller.principal.clone(),
            flow: admitted.arrival().flow,
            key: shown,
            way: Way::default(),
            sips: false,
            server: None,
            event: 0,
            call: self.keyer.mark(admitted.message().call_id()),
            cseq: None,
            group,
            caller_side: token.caller,
            class: token.class,
            level: token.level,
            secure: token.secure,
            invite: token.invite,
            end: End::NONE,
            instance: 0,
            below: 0,
            tally: Arc::default(),
        };
        let (origin, moved) = (Arc::new(origin), Moved::default());
        let known = Known::Told(*token);
        let (shown, carried) = (Some(shown), Some(carried));
        let (class, bridge, seed, verified) = (token.class, None, None, true);
        let inside = Inside {
            rule: 23,
            key,
            known,
            origin,
            class,
            state: State::Bound,
            generation: 0,
            moved,
            bridge,
            seed,
            carried,
            shown,
            way,
            verified,
        };
        Ok(Bound { authenticated: found, ruling: Ruling::Inside(inside), would: None })
    }

    /// Makes the dialog of a request that was let pass by rule 23, unless it is there meanwhile.
    pub(super) fn rebuild(
        &self,
        inside: &Inside,
        token: &RouteToken,
        event: u64,
        method: Method,
        now: Now,
    ) {
        if self.footprint() >= self.settings.load().max {
            return;
        }
        let Entry::Vacant(place) = self.dialogs.entry(inside.key) else { return };
        let of = &*inside.origin;
        let tally = self.one_more(&of.owner, of.class.family());
        let (owner, flow, origin_key) = (of.owner.clone(), of.flow, of.key);
        let origin = Arc::new(Origin { owner, flow, server: None, tally, ..*of });
        let subscribes = matches!(method, Method::Subscribe | Method::Notify | Method::Refer);
        let mut subscriptions = SmallVec::new();
        if subscribes {
            subscriptions.push(Subscription { event, until: NEVER });
        }
        let mut association = Association {
            origin,
            moved: Moved::default(),
            named: None,
            bridge: None,
            proved: Proved::NONE,
            ue: Counts::default(),
            core: Counts::default(),
            subscriptions,
            key: OwnerKey::of(origin_key),
            way: inside.way,
            instance: 0,
            credentials: 0,
            ends: now.mono + self.settings.load().max_idle,
            deadline: NEVER,
            timer: Timer::default(),
            state: State::Bound,
            rule: inside.rule,
            invite: token.invite,
            session: Session::Open,
            adrift: false,
            rebuilt: true,
            class: inside.class,
        };
        self.anchored.add(&association.origin.flow, inside.key);
        self.noted.restored.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(1, Ordering::AcqRel);
        self.look(inside.key, &mut association);
        place.insert(Box::new(association));
    }
}

/// The caller whom the token names, if the request shows him.
fn owner_of(token: &RouteToken, found: &Authenticated<'_>) -> Result<Arc<Caller>, Refusal> {
    let evidence = found.evidence();
    let is = |caller: &&Arc<Caller>| mark(&caller.principal) == token.ue;
    if evidence.digest.as_ref().is_some_and(|caller| !is(&caller)) {
        return Err(Refusal::AssociationMismatch);
    }
    let proved = evidence.digest.as_ref().or(evidence.channel.as_ref().filter(is));
    let Some(caller) = proved.or(evidence.secure_flow.iter().find(is)) else {
        let somebody_else = evidence.channel.is_some() || !evidence.secure_flow.is_empty();
        return Err(match found.failure() {
            Some(failure) if failure != Refusal::CredentialsMissing => failure,
            _ if somebody_else => Refusal::FlowMismatch,
            _ => Refusal::AssociationLost,
        });
    };
    let (_, level) = evidence.of(&caller.principal);
    let secure = found.admitted().arrival().flow.transport.is_secure();
    if level < token.level || token.secure && !secure {
        return Err(Refusal::LevelTooLow);
    }
    Ok(Arc::clone(caller))
}

/// The Route values that are ours, one for each side.
const OWN_VALUES: usize = 2;

//! Stage 5, targets: where requests inside a dialog have to lead to.
//!
//! 1. What the core says of itself, Contact and Record-Route, in whatever formed the dialog or changed its target, is
//!    what the UE's requests have to name.
//! 2. A target that is being changed and the one before it are both right: messages cross.
//!
//! Takes:   Contact and Record-Route as they pass to the UE; Request-URI and Route as they come from it.
//! Gives:   [`Way`], as keyed hashes.
//! Keeps:   two targets and a route set of a dialog, eight octets each.
//! Refuses: another target, another route set: rule 9. What is not known is not asked for.
//! Sources: RFC 3261 sections 12.1, 12.2.1 and 12.2.2; RFC 6665 section 4.4.1; RFC 6141 section 4.

use super::dialog::Keyer;
use super::table::Associations;
use super::{Bound, Inside, Ruling};
use crate::refusal::Refusal;
use crate::wire::{Address, Message, Method, Name, Uri};

/// What requests from the UE have to name, by keyed hash; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The remote target.
    pub target: u64,
    /// The one before it, or the one that it may be next.
    pub other: u64,
    /// The route set beyond us.
    pub routes: u64,
}

impl Way {
    /// The target is another one from now on.
    pub(super) fn retarget(&mut self, target: u64) {
        if target != 0 && target != self.target {
            (self.other, self.target) = (self.target, target);
        }
    }

    /// The target may be another one, if what asks for it is accepted.
    pub(super) fn may_retarget(&mut self, target: u64) {
        if target != 0 && target != self.target {
            self.other = target;
        }
    }
}

impl Keyer {
    /// The target that a Contact names; 0 if there is none.
    pub(super) fn contact(&self, message: &Message) -> u64 {
        let contact = message.addresses(Name::Contact).next().flatten();
        contact.map_or(0, |contact| self.place(&contact.uri()))
    }

    fn place(&self, uri: &Uri<'_>) -> u64 {
        self.mark(&uri.place())
    }

    /// A route set, the next hop first.
    pub(super) fn routes<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> u64 {
        let mut all = Vec::new();
        for value in values {
            match Address::parse(value) {
                Some(route) => all.extend(route.uri().place()),
                None => all.extend_from_slice(value),
            }
            all.push(b'\n');
        }
        self.mark(&all)
    }

    /// What a request that the core sends says of the way to it.
    pub(super) fn way_of_request(&self, request: &Message) -> Way {
        let routes = self.routes(request.values(Name::RecordRoute));
        Way { target: self.contact(request), other: 0, routes }
    }

    /// What a response of the core says of the way to it: `below` of its Record-Route values stand below our two.
    pub(super) fn way_of_response(&self, response: &Message, below: u8) -> Way {
        let mut values: Vec<&[u8]> = response.values(Name::RecordRoute).collect();
        // Where ours are missing, somebody took them out, and none of what is left is ours.
        let own = usize::from(below).saturating_add(OWN_VALUES);
        values.truncate(values.len().checked_sub(own).unwrap_or(values.len()));
        let routes = self.routes(values.into_iter().rev());
        Way { target: self.contact(response), other: 0, routes }
    }

    /// Whether `uri` is known to be where the dialog leads to.
    pub(super) fn names_target(&self, inside: &Inside, uri: &Uri<'_>) -> bool {
        let Way { target, other, .. } = inside.way;
        let named = self.place(uri);
        target != 0 && (named == target || named == other)
    }

    /// Whether a request from the UE names what it has to; `routes` are the Route values beyond ours.
    ///
    /// # Errors
    ///
    /// [`Refusal::TargetMismatch`], [`Refusal::RouteMismatch`].
    pub(super) fn check<'v>(
        &self,
        inside: &Inside,
        uri: &Uri<'_>,
        routes: impl Iterator<Item = &'v [u8]>,
    ) -> Result<(), Refusal> {
        if inside.way.target == 0 {
            return Ok(());
        }
        if !self.names_target(inside, uri) {
            return Err(Refusal::TargetMismatch);
        }
        let known = inside.way.routes;
        if known == 0 || self.routes(routes) == known {
            Ok(())
        } else {
            Err(Refusal::RouteMismatch)
        }
    }
}

impl Associations {
    /// Rule 9: whether a request inside a dialog, from the UE, names what its dialog leads to. `routes` are the Route
    /// values beyond ours. Gives what an observed rule would have refused.
    ///
    /// # Errors
    ///
    /// [`Refusal::TargetMismatch`], [`Refusal::RouteMismatch`].
    pub fn check_way<'v>(
        &self,
        inside: &Inside,
        uri: &Uri<'_>,
        routes: impl Iterator<Item = &'v [u8]>,
    ) -> Result<Option<Refusal>, Refusal> {
        match self.keyer.check(inside, uri, routes) {
            Ok(()) => Ok(None),
            Err(refusal) if self.only_observed(refusal) => Ok(Some(refusal)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether a request to `uri` is known to lead where its dialog does: not so with a target that rule 9 only observes,
    /// nor in a dialog that was made again by rule 23, until its far end has told where it is.
    pub fn leads_back(&self, bound: &Bound<'_>, uri: &Uri<'_>) -> bool {
        let Ruling::Inside(inside) = bound.ruling() else { return false };
        inside.crosses() || self.keyer.names_target(inside, uri)
    }
}

/// Whether a request of that method may change the target of the one who sends it, and its 2xx that of the other.
pub(super) fn retargets(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Subscribe | Method::Notify)
}

/// The Record-Route values that we put in, one for each side.
const OWN_VALUES: usize = 2;

//! Stage 7, bridging: what the proxy does otherwise where it stands back to back with itself.
//!
//! 1. A request outside dialogs gets ids of its own (a [`Seed`]), one inside a dialog those of its bridge.
//! 2. Its responses go back under the ids it came under; the first of each tag of the far side makes a bridge.
//! 3. An ACK crosses under the number of the INVITE on the other leg.
//! 4. A 2xx to an INVITE is repeated here until its ACK comes; copies of it that come meanwhile are absorbed.
//!
//! What ends here, and not by a word of its ends, is in `ending`.
//!
//! Takes:   what `requests` and `responses` hand over.
//! Gives:   [`Crossing`], what a context remembers of its request.
//! Keeps:   the request as it came, as long as its context: a bridged INVITE is not folded up.
//! Refuses: as [`b2bua`](super::b2bua) does; an INVITE while one is under way (500, 491); a merged request (482).
//! Sources: RFC 3261 sections 8.1, 8.2, 9.2, 13.2.2.4, 13.3.1.4 and 14.2; `B2-01` to `B2-12`, `TX-10`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng as _;
use smallvec::SmallVec;

use super::b2bua::Ongoing;
use super::b2bua::merging::Ours;
use super::b2bua::request::Dress;
use super::b2bua::response::Asked;
use super::b2bua::{self, lifetime, named, request, response};
use super::context::Context;
use super::outgoing::{Plan, Printed, facing, other};
use super::precheck::{LoopPart, loop_part_of};
use super::proxy::Proxy;
use super::route::Route;
use super::{Destination, Output, Settings, asserted, session};
use crate::association::bridge::{Clash, Ids, Sown, Way};
use crate::association::dialog::Keyer;
use crate::association::trial::Twins;
use crate::association::{Bound, Bridge, Inside, Ruling, Seed, Track};
use crate::authentication::ServerProof;
use crate::instant::{Instant, Now};
use crate::refusal::Refusal;
use crate::transport::{Flow, ListenerId, Side};
use crate::wire::octets::hex_digits;
use crate::wire::{Edits, Message, Method, Name};

/// What is remembered of a request that crosses.
#[derive(Debug)]
pub(super) struct Crossing {
    /// As it came.
    pub(super) request: Message,
    pub(super) side: Side,
    flow: Flow,
    proof: Option<Arc<ServerProof>>,
    pub(super) legs: Legs,
    /// Dialogs in which it was accepted, until somebody acknowledges that.
    pub(super) accepted: SmallVec<[Accepted; 1]>,
    /// Tags of the far side under which it was accepted too late.
    pub(super) late: SmallVec<[Box<[u8]>; 1]>,
}

/// A 2xx to an INVITE: we are its user agent server, and repeat it until it is acknowledged.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) bridge: Arc<Bridge>,
    octets: Bytes,
    /// When it goes again, unless it was acknowledged; and how long after the last time.
    at: Option<Instant>,
    interval: Duration,
}

/// Under what ids it crosses.
#[derive(Debug)]
pub(super) enum Legs {
    /// Outside dialogs: those that were drawn for it; and its place among those under way.
    Fresh(Arc<Seed>, Ours),
    /// Inside one.
    Dialog(Arc<Bridge>),
}

/// A request that is about to cross.
#[derive(Debug)]
pub(super) struct Crossed {
    crossing: Crossing,
    dress: Dress,
}

impl Crossing {
    /// The same as it stands, to go its own way.
    pub(super) fn twin(&self, twins: &Twins, ongoing: &Ongoing) -> Self {
        let accepted = |one: &Accepted| Accepted {
            bridge: twins.bridge(&one.bridge),
            octets: one.octets.clone(),
            at: one.at,
            interval: one.interval,
        };
        let legs = match &self.legs {
            Legs::Fresh(seed, ours) => Legs::Fresh(Arc::new(seed.twin()), ours.twin(ongoing)),
            Legs::Dialog(bridge) => Legs::Dialog(twins.bridge(bridge)),
        };
        Self {
            request: self.request.clone(),
            side: self.side,
            flow: self.flow,
            proof: self.proof.clone(),
            legs,
            accepted: self.accepted.iter().map(accepted).collect(),
            late: self.late.clone(),
        }
    }

    fn asked(&self, keeps: bool) -> Asked<'_> {
        let (request, side, flow) = (&self.request, self.side, &self.flow);
        Asked { request, side, flow, proof: self.proof.as_deref(), keeps }
    }

    pub(super) fn came(&self) -> u32 {
        self.request.cseq().map_or(0, |cseq| cseq.number)
    }

    /// Whether a copy of its request may still be answered otherwise than by a copy of its answer.
    pub(super) fn lasts(&self) -> bool {
        self.request.method() == Some(Method::Invite)
    }

    /// What is kept of it as long as a copy of its request may come: its place among those under way.
    pub(super) fn into_place(self) -> Option<Ours> {
        match self.legs {
            Legs::Fresh(_, place) => Some(place),
            Legs::Dialog(_) => None,
        }
    }

    /// Whether it is an INVITE outside dialogs.
    fn is_first_invite(&self) -> bool {
        self.request.method() == Some(Method::Invite) && matches!(self.legs, Legs::Fresh(..))
    }

    /// An INVITE was accepted: somebody has to acknowledge it.
    fn note_accepted(&mut self, bridge: &Arc<Bridge>, octets: Bytes, t1: Duration, now: Now) {
        if self.is_awaited(bridge) && !self.repeats(bridge) {
            let (bridge, at) = (Arc::clone(bridge), Some(now.mono + t1));
            self.accepted.push(Accepted { bridge, octets, at, interval: t1 });
        }
    }

    /// Whether its acceptance in that dialog is repeated here.
    fn repeats(&self, bridge: &Arc<Bridge>) -> bool {
        self.accepted.iter().any(|known| Arc::ptr_eq(&known.bridge, bridge))
    }

    /// Whether it is an INVITE that nobody acknowledged in that dialog.
    fn is_awaited(&self, bridge: &Bridge) -> bool {
        self.request.method() == Some(Method::Invite) && bridge.is_under_way(self.side, self.came())
    }

    /// When a 2xx goes again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.accepted.iter().filter_map(|accepted| accepted.at).min()
    }

    /// The 2xx that go again now: at T1, then after twice the time, up to T2 (RFC 3261 section 13.3.1.4).
    fn repeat(&mut self, t2: Duration, now: Now) -> SmallVec<[Bytes; 1]> {
        let mut accepted = std::mem::take(&mut self.accepted);
        let mut due = SmallVec::new();
        for one in accepted.iter_mut().filter(|one| one.at.is_some_and(|at| at <= now.mono)) {
            one.interval = one.interval.saturating_mul(2).min(t2);
            one.at = self.is_awaited(&one.bridge).then(|| now.mono + one.interval);
            due.extend(one.at.map(|_| one.octets.clone()));
        }
        self.accepted = accepted;
        due
    }

    /// It was not accepted: another INVITE may follow.
    pub(super) fn refused(&self) {
        if let (Legs::Dialog(bridge), Some(Method::Invite)) = (&self.legs, self.request.method()) {
            bridge.refused(self.side, self.came());
        }
    }
}

impl Crossed {
    /// Notes the ids that it leaves under, for the responses to come.
    pub(super) fn into_crossing(self) -> Box<Crossing> {
        Box::new(self.crossing)
    }

    /// Nothing came of it.
    pub(super) fn refused(&self) {
        self.crossing.refused();
    }

    /// What a request outside dialogs left under.
    pub(super) fn seed(&self) -> Option<&Arc<Seed>> {
        match &self.crossing.legs {
            Legs::Fresh(seed, _) => Some(seed),
            Legs::Dialog(_) => None,
        }
    }

    /// What shows a loop: over the ids that leave, and the side they would come back from (`B2-03`).
    pub(super) fn loop_part(&self, bound: &Bound<'_>, plan: &Plan<'_>, key: &[u8; 16]) -> LoopPart {
        let from = bound.arrival().side;
        let (uri, routes) = self.dress.target(bound.message(), plan, from);
        let routes = routes.iter().map(Vec::as_slice);
        let parts = [&*uri, &*self.dress.call_id].into_iter().chain(routes);
        loop_part_of(self.dress.number, parts, other(from), key)
    }

    /// Its octets for the other leg; as [`request::print`].
    pub(super) fn print(
        &self,
        bound: &Bound<'_>,
        edits: Edits,
        plan: &Plan<'_>,
    ) -> Result<Printed, Refusal> {
        request::print(bound, edits, plan, &self.dress)
            .map_err(|_| Refusal::Malformed(crate::wire::Fault::HeaderMalformed))
    }
}

impl Proxy {
    /// Whether a request crosses, and how; `None` if it is proxied. A NOTIFY that makes a dialog has been committed.
    pub(super) fn cross(
        &mut self,
        bound: &Bound<'_>,
        route: &Route,
        settings: &Settings,
        now: Now,
    ) -> Result<Option<Crossed>, Refusal> {
        let inside = match bound.ruling() {
            Ruling::Inside(inside) => Some(inside),
            Ruling::Alone | Ruling::Forms(_) => None,
        };
        let crosses = match inside {
            Some(inside) => inside.crosses(),
            None => bound.method() != Method::Register && is_bridged(bound, route, settings),
        };
        if !crosses {
            return Ok(None);
        }
        let message = bound.message();
        if bound.method() == Method::Other {
            return Err(Refusal::MethodNotBridged);
        }
        if message.values(Name::Require).any(|tag| !b2bua::crosses(tag)) {
            return Err(Refusal::ExtensionNotBridged);
        }
        let side = bound.arrival().side;
        let mut renamed = if settings.keep_call_id {
            named::Renamed::new()
        } else {
            named::rename(message, side, &self.shared.gate.associations, settings)?
        };
        let (legs, mut dress) = match inside {
            Some(inside) => self.cross_inside(bound, inside)?,
            None => self.cross_fresh(bound, route, settings)?,
        };
        let notifies = inside.filter(|_| bound.method() == Method::Notify);
        let ends = notifies.map(|inside| self.shared.gate.associations.key_ends_in(inside));
        let cut = ends.and_then(|ends| lifetime::cut(message, ends, now.mono));
        renamed.extend(cut.map(|(span, seconds)| (span, seconds.to_string().into_bytes())));
        dress.renamed = renamed;
        let crossing = Crossing {
            request: message.clone(),
            side,
            flow: bound.arrival().flow,
            proof: bound.authenticated().proof().cloned(),
            legs,
            accepted: SmallVec::new(),
            late: SmallVec::new(),
        };
        Ok(Some(Crossed { crossing, dress }))
    }

    /// Ids and number on the other leg of a dialog.
    fn cross_inside(&self, bound: &Bound<'_>, inside: &Inside) -> Result<(Legs, Dress), Refusal> {
        let (message, side) = (bound.message(), bound.arrival().side);
        let bridge = match (&inside.bridge, &inside.seed) {
            (Some(bridge), _) => Arc::clone(bridge),
            (None, Some(seed)) => {
                let way = Way::of_request(message);
                let (associations, tag) = (&self.shared.gate.associations, message.from_tag());
                associations
                    .join(seed, tag, way, (inside.origin.id, false))
                    .ok_or(Refusal::LegTooLong)?
            }
            (None, None) => return Err(Refusal::DialogUnknown),
        };
        let rack = match message.rack() {
            None => None,
            Some(rack) => {
                let named = bridge.named_by_prack(side, rack.cseq);
                Some(named.ok_or(Refusal::MethodUnfit)?)
            }
        };
        let came = message.cseq().map_or(0, |cseq| cseq.number);
        let number = bridge.cross(side, bound.method(), came).map_err(|clash| match clash {
            Clash::UnderWay => Refusal::InviteUnderWay,
            Clash::Glare => Refusal::InviteGlare,
        })?;
        let number = number.ok_or(Refusal::TransactionsFull)?;
        let dress = dress(&bridge, other(side), number);
        Ok((Legs::Dialog(bridge), Dress { rack, ..dress }))
    }

    /// Ids that nobody has seen.
    fn cross_fresh(
        &mut self,
        bound: &Bound<'_>,
        route: &Route,
        settings: &Settings,
    ) -> Result<(Legs, Dress), Refusal> {
        let (message, side) = (bound.message(), bound.arrival().side);
        let came = message.cseq().map_or(0, |cseq| cseq.number);
        let sender = bound.caller().map(|caller| caller.principal.name.as_bytes());
        let place = self.shared.ongoing.begin(
            &Keyer::new(self.loop_key),
            message,
            sender.unwrap_or_default(),
        );
        let place = place.ok_or(Refusal::RequestMerged)?;
        let far =
            (!settings.keep_call_id).then(|| Ids { call_id: self.draw(16), own_tag: self.draw(8) });
        let number = if settings.keep_call_id { came } else { 1 };
        let uri = route.restored_uri.as_deref().unwrap_or(message.request_uri());
        let sown = Sown { far, far_uri: uri.into(), left: number };
        let seed = Arc::new(Seed::new(message, side, sown).ok_or(Refusal::LegTooLong)?);
        let dress = Dress {
            call_id: seed.far_call_id.clone(),
            own_tag: seed.far_own_tag.clone(),
            number,
            same_ids: settings.keep_call_id,
            ..Dress::default()
        };
        Ok((Legs::Fresh(seed, place), dress))
    }

    /// So many random octets, in hex.
    fn draw(&mut self, octets: usize) -> Box<[u8]> {
        let mut drawn = [0; 16];
        self.rng.fill_bytes(&mut drawn);
        drawn.iter().take(octets).flat_map(|octet| hex_digits(*octet)).collect()
    }

    /// An ACK to a 2xx: under the other leg's number of the INVITE that was accepted.
    pub(super) fn ack_across(
        &mut self,
        bound: &Bound<'_>,
        bridge: &Bridge,
        edits: Edits,
        route: &Route,
        part: &LoopPart,
    ) -> Result<(), Refusal> {
        let (message, side) = (bound.message(), bound.arrival().side);
        let came = message.cseq().map_or(0, |cseq| cseq.number);
        let number = bridge.acknowledge(side, came).ok_or(Refusal::AckUnmatched)?;
        let dress = dress(bridge, other(side), number);
        let settings = self.settings();
        let branch = self.branch(part);
        let plan =
            Plan { settings: &settings, route, path_token: None, recorded: None, branch: &branch };
        let printed = request::print(bound, edits, &plan, &dress);
        let octets = printed.map_err(|_| Refusal::AckUnmatched)?.octets;
        bridge.keep_ack(side, came, octets.clone());
        let to = route.destinations.first().cloned().ok_or(Refusal::AckUnmatched)?;
        self.outputs.push_back(Output { to, octets });
        Ok(())
    }

    /// A response to a request that crossed.
    pub(super) fn answered_across(
        &mut self,
        context: &mut Context,
        crossing: &mut Crossing,
        response: &Message,
        ue: ListenerId,
        now: Now,
    ) -> Result<(), Refusal> {
        let status = response.status().unwrap_or(0);
        let accepts = matches!(status, 200..=299);
        if accepts && context.cancelled && crossing.is_first_invite() {
            self.end_late(context, crossing, response, now);
            return Ok(());
        }
        let settings = self.settings();
        let associations = Arc::clone(&self.shared.gate.associations);
        let tag = match &crossing.legs {
            Legs::Fresh(seed, _) if !response.to_tag().is_empty() => {
                associations.near_tag(seed, response.to_tag())
            }
            _ => Box::default(),
        };
        let gate = &self.shared.gate;
        let mut edits =
            asserted::edit_response(response, context.side, gate, &settings.headers, ue);
        let track = context.track.as_ref().filter(|_| session::refreshed(response));
        let length = track.map(|track| session::agreed(response, track.session, &mut edits));
        let granted =
            context.track.as_ref().filter(|_| accepts && context.method == Method::Subscribe);
        let ends = granted.map(|track| associations.key_ends(track));
        let cut = ends.and_then(|ends| lifetime::cut(response, ends, now.mono));
        if let Some((span, seconds)) = cut {
            edits.replace(span, |text| {
                text.put_number(seconds);
            });
        }
        let octets =
            response::print(response, edits, &crossing.asked(context.keeps), &tag, &settings);
        let Some(octets) = octets else { return Ok(()) };
        // The near leg of a dialog is what its end is told of it.
        let told = match &context.track {
            Some(track) => {
                let Ok(back) = Message::from_datagram(octets.clone()) else { return Ok(()) };
                associations.respond(track, &back, now)?;
                Some((track, back))
            }
            None => None,
        };
        let bridge = self.note_crossed(context.track.as_ref(), crossing, response, status);
        if let (Some((track, back)), Some(length)) = (&told, length) {
            associations.note_session(track, back, length, now);
        }
        if let Some(bridge) = bridge.filter(|_| accepts) {
            if crossing.repeats(&bridge) && crossing.is_awaited(&bridge) {
                return Ok(());
            }
            if let Some(octets) = bridge.kept_ack(crossing.side, crossing.came()) {
                let to = self.way_to(&bridge, other(crossing.side), now);
                self.outputs.extend(to.map(|to| Output { to, octets }));
                return Ok(());
            }
            crossing.note_accepted(&bridge, octets.clone(), settings.timings.t1(), now);
        }
        self.send_back(context, response::status_back(status), octets, now);
        Ok(())
    }

    /// Sends again what was not acknowledged yet.
    pub(super) fn repeat_accepted(&mut self, context: &mut Context, now: Now) {
        let t2 = self.settings().timings.t2();
        let Some(crossing) = &mut context.crossing else { return };
        if context.server.is_none() {
            crossing.accepted.clear();
        }
        for octets in crossing.repeat(t2, now) {
            let to = Destination::Flow(context.reply_to);
            self.outputs.push_back(Output { to, octets });
        }
    }

    /// What a response does to the legs: it makes a bridge, moves its targets, or ends its INVITE. Gives the bridge of
    /// its dialog.
    fn note_crossed(
        &self,
        track: Option<&Track>,
        crossing: &Crossing,
        response: &Message,
        status: u16,
    ) -> Option<Arc<Bridge>> {
        let method = crossing.request.method();
        let accepts = matches!(status, 200..=299);
        match &crossing.legs {
            Legs::Fresh(seed, _) => {
                let tag = response.to_tag();
                let id = track?.id();
                if !matches!(status, 101..=299) || tag.is_empty() {
                    return None;
                }
                let way = Way::of_response(response);
                let associations = &self.shared.gate.associations;
                let bridge = associations.join(seed, tag, way, (id, accepts))?;
                bridge.note_methods(other(crossing.side), response);
                Some(bridge)
            }
            Legs::Dialog(_) if status >= 300 => {
                crossing.refused();
                None
            }
            Legs::Dialog(bridge) => {
                let refreshes = matches!(
                    method,
                    Some(Method::Invite | Method::Update | Method::Subscribe | Method::Notify)
                );
                let reliable = response.has_option(Name::Require, "100rel");
                if refreshes && (accepts || reliable) {
                    bridge.refresh(crossing.side, &crossing.request);
                    bridge.refresh(other(crossing.side), response);
                }
                Some(Arc::clone(bridge))
            }
        }
    }
}

/// What a request gets that leaves on the leg of `side` under that number.
fn dress(bridge: &Bridge, side: Side, number: u32) -> Dress {
    let leg = bridge.leg(side).clone();
    Dress {
        call_id: leg.call_id,
        own_tag: leg.own_tag,
        far_tag: leg.far_tag,
        number,
        way: Some(bridge.way(side)),
        ..Dress::default()
    }
}

/// Whether a request outside dialogs is of a class that is bridged, or comes or goes by a listener that bridges.
fn is_bridged(bound: &Bound<'_>, route: &Route, settings: &Settings) -> bool {
    if settings.bridged.has(bound.class()) {
        return true;
    }
    let arrival = bound.arrival();
    let came = settings.listener(arrival.flow.listener);
    let to = route.destinations.first();
    let leaves = to.and_then(|to| facing(settings, other(arrival.side), to));
    [came, leaves].into_iter().flatten().any(|listener| listener.b2bua)
}

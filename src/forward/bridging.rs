//! Stage 7, bridging: what the proxy does otherwise where it stands back to back with itself.
//!
//! 1. A request outside dialogs gets ids of its own (a [`Seed`]), one inside a dialog those of its bridge.
//! 2. Its responses go back under the ids it came under; the first of each tag of the far side makes a bridge.
//! 3. An ACK crosses under the number of the INVITE on the other leg.
//! 4. A 2xx to an INVITE is repeated here until its ACK comes; copies of it that come meanwhile are absorbed.
//! 5. A 2xx that crosses a CANCEL is acknowledged and ended here; so is one that nobody acknowledges in time.
//!
//! Takes:   what `requests` and `responses` hand over.
//! Gives:   [`Crossing`], what a context remembers of its request; requests of our own.
//! Keeps:   the request as it came, as long as its context: a bridged INVITE is not folded up.
//! Refuses: as [`b2bua`](super::b2bua) does; an INVITE while one is under way (500, 491); a merged request (482).
//! Sources: RFC 3261 sections 8.1, 8.2, 9.2, 13.2.2.4, 13.3.1.4 and 14.2; `B2-01` to `B2-12`, `TX-10`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng as _;
use smallvec::SmallVec;

use super::b2bua::merging::Ours;
use super::b2bua::request::Dress;
use super::b2bua::response::Asked;
use super::b2bua::{self, named, own, request, response};
use super::context::Context;
use super::outgoing::{Plan, Printed, facing, other};
use super::precheck::{LoopPart, loop_part_of};
use super::proxy::Proxy;
use super::route::{self, Route};
use super::{Destination, Output, Settings, asserted, session};
use crate::association::bridge::{Clash, Ids, Sown, Way};
use crate::association::dialog::Keyer;
use crate::association::{Bound, Bridge, Inside, Ruling, Seed, Track};
use crate::authentication::ServerProof;
use crate::instant::{Instant, Now};
use crate::refusal::Refusal;
use crate::transport::{Flow, ListenerId, Side};
use crate::wire::octets::hex_digits;
use crate::wire::{Edits, Message, Method, Name, Span};

/// What is remembered of a request that crosses.
#[derive(Debug)]
pub(super) struct Crossing {
    /// As it came.
    request: Message,
    side: Side,
    flow: Flow,
    proof: Option<ServerProof>,
    legs: Legs,
    /// Dialogs in which it was accepted, until somebody acknowledges that.
    accepted: SmallVec<[Accepted; 1]>,
    /// Tags of the far side under which it was accepted too late.
    late: SmallVec<[Box<[u8]>; 1]>,
}

/// A 2xx to an INVITE: we are its user agent server, and repeat it until it is acknowledged.
#[derive(Debug)]
struct Accepted {
    bridge: Arc<Bridge>,
    octets: Bytes,
    /// When it goes again, unless it was acknowledged; and how long after the last time.
    at: Option<Instant>,
    interval: Duration,
}

/// Under what ids it crosses.
#[derive(Debug)]
enum Legs {
    /// Outside dialogs: those that were drawn for it; and its place among those under way.
    Fresh(Arc<Seed>, #[allow(dead_code, reason = "it ends with the transaction")] Ours),
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
    fn asked(&self) -> Asked<'_> {
        let (request, side, flow) = (&self.request, self.side, &self.flow);
        Asked { request, side, flow, proof: self.proof.as_ref() }
    }

    fn came(&self) -> u32 {
        self.request.cseq().map_or(0, |cseq| cseq.number)
    }

    /// Whether a copy of its request may still be answered otherwise than by a copy of its answer.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.legs, Legs::Fresh(..)) || self.request.method() == Some(Method::Invite)
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
    ) -> Result<Option<Crossed>, Refusal> {
        let inside = match bound.ruling() {
            Ruling::Inside(inside) => Some(inside),
            Ruling::Alone | Ruling::Forms(_) => None,
        };
        let crosses = match inside {
            Some(inside) => inside.bridge.is_some() || inside.seed.is_some(),
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
        let renamed = if settings.keep_call_id {
            named::Renamed::new()
        } else {
            named::rename(message, side, &self.shared.gate.associations, settings)?
        };
        let (legs, mut dress) = match inside {
            Some(inside) => self.cross_inside(bound, inside)?,
            None => self.cross_fresh(bound, route, settings)?,
        };
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
                associations.join(seed, tag, way, false).ok_or(Refusal::LegTooLong)?
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
        let octets = response::print(response, edits, &crossing.asked(), &tag, &settings);
        let back = octets.and_then(|octets| Message::from_datagram(octets).ok());
        let Some(back) = back else { return Ok(()) };
        if let Some(track) = &context.track {
            associations.respond(track, &back, now)?;
            if let Some(length) = length {
                associations.note_session(track, &back, length, now);
            }
        }
        let bridge = self.note_crossed(context.track.as_ref(), crossing, response, status);
        if let Some(bridge) = bridge.filter(|_| accepts) {
            if crossing.repeats(&bridge) && crossing.is_awaited(&bridge) {
                return Ok(());
            }
            if let Some(octets) = bridge.kept_ack(crossing.side, crossing.came()) {
                let to = self.way_to(&bridge, other(crossing.side), now);
                self.outputs.extend(to.map(|to| Output { to, octets }));
                return Ok(());
            }
            crossing.note_accepted(&bridge, back.octets().clone(), settings.timings.t1(), now);
        }
        self.send_back(context, response::status_back(status), back.octets().clone(), now);
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
                if track.is_none() || !matches!(status, 101..=299) || tag.is_empty() {
                    return None;
                }
                let way = Way::of_response(response);
                self.shared.gate.associations.join(seed, tag, way, accepts)
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

impl Proxy {
    /// A 2xx to an INVITE that was cancelled: its dialog is acknowledged and ended, and the caller hears 487 (`B2-10`).
    fn end_late(
        &mut self,
        context: &mut Context,
        crossing: &mut Crossing,
        response: &Message,
        now: Now,
    ) {
        let (Legs::Fresh(seed, _), tag) = (&crossing.legs, response.to_tag()) else { return };
        let associations = Arc::clone(&self.shared.gate.associations);
        let to = context.clients.iter().find(|branch| !branch.cancel);
        let bridge = associations.bridge_of(seed, tag, Way::of_response(response));
        if let (Some(bridge), Some(to)) = (bridge, to.map(|branch| branch.to.clone())) {
            let side = other(crossing.side);
            self.send_own_ack(&bridge, side, seed.left, &to);
            if !crossing.late.iter().any(|known| **known == *tag) {
                crossing.late.push(tag.into());
                self.send_own_bye(&bridge, side, LATE, to, now);
            }
        }
        if context.request.is_some() {
            self.give_up(context, now);
        }
    }

    /// Nobody acknowledged a 2xx in 64*T1: its dialog is ended on both legs (RFC 3261 section 13.3.1.4).
    pub(super) fn end_unacknowledged(&mut self, context: &mut Context, now: Now) {
        let Some(crossing) = &mut context.crossing else { return };
        let (side, came) = (crossing.side, crossing.came());
        for Accepted { bridge, .. } in std::mem::take(&mut crossing.accepted) {
            bridge.forget_ack(side, came);
            let up = self.shared.gate.associations.is_up(&bridge);
            if !up || !bridge.is_under_way(side, came) {
                continue;
            }
            let number = bridge.acknowledge(side, came);
            let to = self.way_to(&bridge, other(side), now);
            if let (Some(number), Some(to)) = (number, to) {
                self.send_own_ack(&bridge, other(side), number, &to);
            }
            self.hang_up(&bridge, TIMED_OUT, now);
        }
    }

    /// Tells both ends of the calls that ended here, for want of any word of theirs.
    pub fn end_orphans(&mut self, now: Now) {
        for bridge in self.shared.gate.associations.orphans() {
            self.hang_up(&bridge, TIMED_OUT, now);
        }
    }

    /// Ends a dialog of which one leg is gone, on both of them.
    fn hang_up(&mut self, bridge: &Arc<Bridge>, reason: &'static str, now: Now) {
        for side in [Side::Ue, Side::Core] {
            if let Some(to) = self.way_to(bridge, side, now) {
                self.send_own_bye(bridge, side, reason, to, now);
            }
        }
        self.shared.gate.associations.hang_up(bridge, now);
    }

    /// Where a request of our own to the peer on `side` goes.
    fn way_to(&self, bridge: &Bridge, side: Side, now: Now) -> Option<Destination> {
        let (origin, anchors) = self.shared.gate.associations.reach(bridge)?;
        route::own_way(&self.shared, &origin, &anchors, side, now)
    }

    fn send_own_ack(&mut self, bridge: &Bridge, side: Side, number: u32, to: &Destination) {
        let (settings, branch) = (self.settings(), self.branch(OWN));
        let ack = own::Own { bridge, side, method: "ACK", number, reason: None };
        if let Some(octets) = own::print(&ack, &settings, to, &branch) {
            self.outputs.push_back(Output { to: to.clone(), octets });
        }
    }

    /// A BYE of our own: a context that nobody waits for.
    fn send_own_bye(
        &mut self,
        bridge: &Bridge,
        side: Side,
        reason: &'static str,
        to: Destination,
        now: Now,
    ) {
        let (settings, branch) = (self.settings(), self.branch(OWN));
        let Some(number) = bridge.own_number(side) else { return };
        let bye = own::Own { bridge, side, method: "BYE", number, reason: Some(reason) };
        let Some(octets) = own::print(&bye, &settings, &to, &branch) else { return };
        let listener = facing(&settings, side, &to).map(|listener| listener.id);
        let flow = flow_to(&to, listener.unwrap_or(ListenerId(0)));
        let mut context = Box::new(Context::own(Method::Bye, flow, other(side)));
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let printed = Printed { octets, via: Span::default() };
        self.start_client(id, &mut context, printed, to, &branch, now);
        self.put_back(id, context);
    }
}

/// What stands for a destination where a flow is asked for.
fn flow_to(to: &Destination, listener: ListenerId) -> Flow {
    match to {
        Destination::Flow(flow) => *flow,
        Destination::Target(target) => {
            let (transport, remote) = (target.transport, target.address);
            Flow { transport, listener, remote, connection: None }
        }
    }
}

/// Why a call ends that was cancelled and answered at once (RFC 3326).
const LATE: &str = "SIP;cause=487;text=\"Request Terminated\"";
/// Why a call ends that nobody acknowledged, or spoke of for too long.
const TIMED_OUT: &str = "SIP;cause=408;text=\"Request Timeout\"";
/// The end of branches of our own requests: they go to where nothing comes back from.
pub(super) const OWN: &LoopPart = b"00000000";

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

/// Whether a request outside dialogs comes or goes by a listener that bridges.
fn is_bridged(bound: &Bound<'_>, route: &Route, settings: &Settings) -> bool {
    let arrival = bound.arrival();
    let came = settings.listener(arrival.flow.listener);
    let to = route.destinations.first();
    let leaves = to.and_then(|to| facing(settings, other(arrival.side), to));
    [came, leaves].into_iter().flatten().any(|listener| listener.b2bua)
}

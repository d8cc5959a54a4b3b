//! Stage 7, routing: where a permitted request goes next.
//!
//! Takes:   a bound request and the settings.
//! Gives:   [`Route`]: destinations in order, how many topmost Route values are ours, who owns the other end.
//! Keeps:   nothing.
//! Refuses: a Route that leads past the core; a maddr; a domain without route; a token that does not open, or whose
//!          flow is gone with all others of its instance; from a UE, a token of another flow; a SIPS request without
//!          a secure hop.
//! Sources: RFC 3261 sections 16.4 to 16.6 and 16.12; RFC 3608 section 6.1; RFC 5626 section 5.3; RFC 5630 section 5.3;
//!          `DNS-08`, `PX-06`, `PX-08` to `PX-10`, `OB-01`, `OB-02`, `OB-04`.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::bindings::Lead;
use super::token::Plain;
use super::{Destination, Settings, Shared};
use crate::association::{Bound, Bridge, Origin, Ruling, Sent};
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Flow, GroupId, Side, Target};
use crate::wire::uri::{Scheme, host_address};
use crate::wire::{Address, Message, Method, Name, Uri};

/// The way of one request.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where to, the first choice first.
    pub destinations: SmallVec<[Destination; 2]>,
    /// How many of the topmost Route values name this edge.
    pub own_routes: usize,
    /// The Request-URI to put in the place of ours, from a strict router before us.
    pub restored_uri: Option<Vec<u8>>,
    /// Who will own the other leg of a dialog.
    pub sent: Sent,
    /// What rule 9 would have refused, where it is only observed.
    pub would: Option<Refusal>,
    /// Whether it goes to a flow that was to ping and is silent (`KA-03`).
    pub doubtful: bool,
}

/// Finds the way of a request.
///
/// # Errors
///
/// The refusal that the request earns.
pub fn route(
    bound: &Bound<'_>,
    shared: &Shared,
    settings: &Settings,
    now: Now,
) -> Result<Route, Refusal> {
    let message = bound.message();
    let own_routes = own_routes(message, settings);
    let restored_uri = strict_target(message, settings, own_routes);
    let (mut destinations, mut sent, doubtful) = match bound.arrival().side {
        Side::Ue => to_core(bound, shared, settings, own_routes, restored_uri.as_deref(), now)?,
        Side::Core => to_ue(bound, shared, settings, now)?,
    };
    let sips =
        target(message, restored_uri.as_deref()).is_some_and(|uri| uri.scheme() == Scheme::Sips);
    destinations.retain(|to| !sips || to.transport().is_secure());
    if destinations.is_empty() {
        return Err(if sips { Refusal::SipsImpossible } else { Refusal::NoRoute });
    }
    if let (Sent::Ue(flow, _), Some(first)) = (&mut sent, destinations.first().and_then(flow_of)) {
        *flow = first;
    }
    let would = check_way(bound, shared, own_routes, restored_uri.as_deref())?;
    Ok(Route { destinations, own_routes, restored_uri, sent, would, doubtful })
}

/// Rule 9: inside a dialog a UE's request leads where its dialog does.
fn check_way(
    bound: &Bound<'_>,
    shared: &Shared,
    own_routes: usize,
    restored: Option<&[u8]>,
) -> Result<Option<Refusal>, Refusal> {
    let (Ruling::Inside(inside), Side::Ue) = (bound.ruling(), bound.arrival().side) else {
        return Ok(None);
    };
    if inside.crosses() {
        return Ok(None);
    }
    let message = bound.message();
    let uri = target(message, restored).ok_or(Refusal::RouteMismatch)?;
    let beyond = beyond(message, own_routes, restored);
    shared.gate.associations.check_way(inside, &uri, beyond)
}

/// The Route values behind ours. A strict router before us moved the target to the end.
fn beyond<'m>(
    message: &'m Message,
    own_routes: usize,
    restored: Option<&[u8]>,
) -> impl Iterator<Item = &'m [u8]> {
    let count = message.values(Name::Route).count();
    let count = count.saturating_sub(usize::from(restored.is_some()));
    message.values(Name::Route).take(count).skip(own_routes)
}

/// The Request-URI, or what a strict router before us put in its place.
fn target<'u>(message: &'u Message, restored: Option<&'u [u8]>) -> Option<Uri<'u>> {
    restored.map_or_else(|| message.uri(), Uri::parse)
}

/// How many Route values on top are ours: both of a pair. What stands behind them is of another pass of this call,
/// or of another hop, and goes where it leads.
fn own_routes(message: &Message, settings: &Settings) -> usize {
    let is_own =
        |route: &Option<Address<'_>>| route.is_some_and(|route| settings.is_own(&route.uri()));
    message.addresses(Name::Route).take(2).take_while(is_own).count()
}

/// The last Route, if the Request-URI is ours and others follow: a strict router put it there.
fn strict_target(message: &Message, settings: &Settings, own_routes: usize) -> Option<Vec<u8>> {
    let last = message.values(Name::Route).skip(own_routes).last()?;
    let uri = message.uri()?;
    if !settings.is_own(&uri) || uri.param("lr").is_none() {
        return None;
    }
    Address::parse(last).map(|route| route.uri().octets().to_vec())
}

type Way = (SmallVec<[Destination; 2]>, Sent, bool);

fn to_core(
    bound: &Bound<'_>,
    shared: &Shared,
    settings: &Settings,
    own_routes: usize,
    restored_uri: Option<&[u8]>,
    now: Now,
) -> Result<Way, Refusal> {
    let message = bound.message();
    let uri = target(message, restored_uri).ok_or(Refusal::NoRoute)?;
    if let Ruling::Inside(inside) = bound.ruling() {
        // An ACK is no new transaction: it goes where the dialog is.
        let pauses = (bound.method() != Method::Ack).then_some(now);
        return towards(shared, &inside.origin, pauses, |find| {
            match (&inside.bridge, &inside.seed) {
                (Some(bridge), _) => bridge.at_next_hop(Side::Core, find),
                (None, Some(seed)) => seed.near_way.next_hop().and_then(|hop| find(&hop)),
                (None, None) => {
                    let route = beyond(message, own_routes, restored_uri).next();
                    find(&route.and_then(Address::parse).map_or(uri, |route| route.uri()))
                }
            }
        });
    }
    if uri.param("maddr").is_some() {
        return Err(Refusal::RouteForeign);
    }
    check_tokens(bound, shared, own_routes, now)?;
    if settings.route_check && bound.method() != Method::Cancel {
        let others = message.values(Name::Route).skip(own_routes);
        check_preloaded(bound, shared, others, now)?;
    }
    let group = settings.route(uri.host()).ok_or(Refusal::DomainForeign)?;
    let targets = shared.resolved.targets(group);
    over_all(shared, targets.iter().cloned().map(Destination::Target).collect(), Some(now))
}

/// A token in a Route that names us must be that of the flow it comes on: from UE to UE there is no way but through the
/// core. One whose key or flow is gone says nothing (`OB-02`).
fn check_tokens(
    bound: &Bound<'_>,
    shared: &Shared,
    own_routes: usize,
    now: Now,
) -> Result<(), Refusal> {
    for route in bound.message().addresses(Name::Route).take(own_routes).flatten() {
        let Some(token) = route.uri().user() else { continue };
        let plain = shared.tokens.open(token, now.wall)?;
        let flow = plain.and_then(|plain| shared.bindings.flow_of(plain, now));
        if flow.is_some_and(|flow| flow != bound.arrival().flow) {
            return Err(Refusal::TokenForged);
        }
    }
    Ok(())
}

/// A Route beyond ours must be the Service-Route that this caller's registrar gave.
fn check_preloaded<'m>(
    bound: &Bound<'_>,
    shared: &Shared,
    mut others: impl Iterator<Item = &'m [u8]> + Clone,
    now: Now,
) -> Result<(), Refusal> {
    if others.clone().next().is_none() {
        return Ok(());
    }
    let flow = &bound.arrival().flow;
    let given = bound
        .caller()
        .and_then(|caller| shared.bindings.service_route(flow, &caller.principal, now));
    let given = given.unwrap_or_default();
    let same = |(route, known): (&[u8], &[u8])| {
        let parts = |value| Address::parse(value).map(|address| address.uri().octets().to_vec());
        parts(route).is_some_and(|route| Some(route) == parts(known))
    };
    let fits = given.iter().all(|known| others.next().is_some_and(|route| same((route, known))));
    if fits && !given.is_empty() && others.next().is_none() {
        Ok(())
    } else {
        Err(Refusal::RouteForeign)
    }
}

/// The members of the group that has a dialog: first the one that its next hop names, whose place `next_hop` finds, then
/// the one that is known to have the dialog (RFC 3261 sections 16.6 items 6 and 7, and 16.12).
fn towards(
    shared: &Shared,
    origin: &Origin,
    now: Option<Now>,
    next_hop: impl FnOnce(&dyn Fn(&Uri<'_>) -> Option<usize>) -> Option<usize>,
) -> Result<Way, Refusal> {
    let targets = shared.resolved.targets(origin.group);
    let known = origin.server.as_ref();
    let find = |hop: &Uri<'_>| match known {
        Some(known) if is_at(known, hop) => None,
        _ => targets.iter().position(|target| is_at(target, hop)),
    };
    let named = if targets.len() > 1 { next_hop(&find) } else { None };
    let named = named.and_then(|place| targets.get(place));
    let mut way = SmallVec::new();
    for target in named.into_iter().chain(known).chain(targets.iter()) {
        let to = Destination::Target(target.clone());
        if !way.contains(&to) {
            way.push(to);
        }
    }
    over_all(shared, way, now)
}

/// Whether a URI names that server. Nothing is resolved: an address is compared, or the name that it was resolved of.
fn is_at(target: &Target, uri: &Uri<'_>) -> bool {
    let secure = target.transport.is_secure();
    if !secure && uri.scheme() == Scheme::Sips {
        return false;
    }
    let port = target.address.port();
    match host_address(uri.host()) {
        Some(address) => {
            address == target.address.ip()
                && uri.port().unwrap_or(target.transport.default_port()) == port
        }
        None => {
            uri.host().eq_ignore_ascii_case(target.domain.as_bytes())
                && uri.port().is_none_or(|named| named == port)
        }
    }
}

/// The server of a group that a request came from, if it is one that requests go to, too.
pub(super) fn server_at(shared: &Shared, group: GroupId, remote: SocketAddr) -> Option<Target> {
    let targets = shared.resolved.targets(group);
    let (address, port) = (remote.ip().to_canonical(), remote.port());
    let there = |target: &&Target| target.address.ip().to_canonical() == address;
    // Of several on one host the port tells which, unless it is a client's.
    let same = targets.iter().filter(there).find(|target| target.address.port() == port);
    same.or_else(|| targets.iter().find(there)).cloned()
}

/// Servers in that order; those that asked for a pause which is not over `now` behind all others.
fn over_all(
    shared: &Shared,
    mut way: SmallVec<[Destination; 2]>,
    now: Option<Now>,
) -> Result<Way, Refusal> {
    if let Some(now) = now {
        let rests = |to: &Destination| shared.resting.rests(to, now.mono);
        if way.iter().any(rests) {
            way.sort_by_key(rests);
        }
    }
    match way.first() {
        Some(Destination::Target(target)) => {
            let sent = Sent::Core(target.clone());
            Ok((way, sent, false))
        }
        _ => Err(Refusal::NoRoute),
    }
}

/// Whether what a dialog asks of flows to its UE is met by one.
fn fits(origin: &Origin, flow: &Flow) -> bool {
    !origin.secure || flow.transport.is_secure()
}

/// Where a request of our own inside a dialog goes.
pub(super) fn own_way(
    shared: &Shared,
    bridge: &Bridge,
    origin: &Origin,
    anchors: &[Flow],
    side: Side,
    now: Now,
) -> Option<Destination> {
    match side {
        Side::Core => {
            let hop = |find: &dyn Fn(&Uri<'_>) -> _| bridge.at_next_hop(side, find);
            let (way, ..) = towards(shared, origin, Some(now), hop).ok()?;
            way.into_iter().next()
        }
        Side::Ue => {
            let mut open = anchors.iter().rev().filter(|flow| shared.is_open(flow));
            let flow = open.next().copied().or_else(|| {
                let fits = |flow: &Flow| shared.is_open(flow) && fits(origin, flow);
                let lead = shared.bindings.lead_beside(anchors, &origin.owner, now, fits);
                lead?.flows.first().copied()
            });
            flow.map(Destination::Flow)
        }
    }
}

/// By the anchors of the dialog, or by the flow token that the registrar put on top.
fn to_ue(
    bound: &Bound<'_>,
    shared: &Shared,
    settings: &Settings,
    now: Now,
) -> Result<Way, Refusal> {
    if let Ruling::Inside(inside) = bound.ruling() {
        // A connection's end is told to one worker, and a dialog's anchors are few: asked here, nothing is searched.
        let open = inside.anchors().iter().rev().copied().filter(|flow| shared.is_open(flow));
        let way: SmallVec<[Destination; 2]> = open.map(Destination::Flow).collect();
        // The leg has its owner already; nothing is formed.
        if !way.is_empty() {
            return Ok((way, Sent::Inside, false));
        }
        let origin = &inside.origin;
        let fits = |flow: &Flow| shared.is_open(flow) && fits(origin, flow);
        let lead = shared.bindings.lead_beside(inside.anchors(), &origin.owner, now, fits);
        let (way, _, doubtful) = lead.and_then(over).ok_or(Refusal::FlowGone)?;
        return Ok((way, Sent::Inside, doubtful));
    }
    let plain = token_on_top(bound.message(), shared, settings, now)?;
    let lead = shared.bindings.lead(plain, now, |flow| shared.is_open(flow));
    lead.and_then(over).ok_or(Refusal::FlowGone)
}

/// Over flows of one instance, one after the other (`PX-06`).
fn over(lead: Lead) -> Option<Way> {
    let first = *lead.flows.first()?;
    let way = lead.flows.into_iter().map(Destination::Flow).collect();
    Some((way, Sent::Ue(first, lead.caller), lead.doubtful))
}

/// The token of the topmost Route.
fn token_on_top(
    message: &Message,
    shared: &Shared,
    settings: &Settings,
    now: Now,
) -> Result<Plain, Refusal> {
    let top = message.addresses(Name::Route).next().flatten().ok_or(Refusal::NoRoute)?;
    if !settings.is_own(&top.uri()) {
        return Err(Refusal::NoRoute);
    }
    let token = top.uri().user().ok_or(Refusal::NoRoute)?;
    shared.tokens.open(token, now.wall)?.ok_or(Refusal::FlowGone)
}

/// The flow a destination is, if it is one.
pub fn flow_of(destination: &Destination) -> Option<Flow> {
    match destination {
        Destination::Flow(flow) => Some(*flow),
        Destination::Target(_) => None,
    }
}

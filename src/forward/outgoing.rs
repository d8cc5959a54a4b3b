//! Stage 7, outgoing: what a request looks like when it leaves.
//!
//! Takes:   the request, its [`Route`], and what is to be put in.
//! Gives:   its octets: our Via on top, routes of ours gone, Record-Route and Path where due, one hop less,
//!          identities stripped and asserted. Everything else is as it came, octet for octet.
//! Keeps:   nothing.
//! Refuses: what `asserted` refuses; new text with a line end in it.
//! Sources: RFC 3261 sections 16.6 and 18.2.1; RFC 3581; RFC 5658 section 5; RFC 3327 section 5.2; RFC 5393
//!          section 5.3.3; RFC 5923 section 8.1;
//!          `CR-07`, `RR-01` to `RR-07`, `RG-03`, `RG-04`, `PX-04`, `PX-07`, `VIA-01`, `VIA-07`,
//!          `VIA-10`.

use bytes::Bytes;

use super::route::Route;
use super::{Destination, Listener, Settings};
use crate::association::Bound;
use crate::transport::{Flow, Side, Transport};
use crate::wire::edit::Unprintable;
use crate::wire::respond::put_seen_via;
use crate::wire::{Edits, Message, Method, Name, Span, Text, Uri, split};

/// Breadth that a request without Max-Breadth gets, and the most it keeps.
const BREADTH: u64 = 60;
/// Hops that a request without Max-Forwards gets.
pub(super) const HOPS: u64 = 70;

/// What goes into one request.
#[derive(Debug)]
pub struct Plan<'p> {
    /// Settings.
    pub settings: &'p Settings,
    /// Its way.
    pub route: &'p Route,
    /// The flow token for Path, in a REGISTER.
    pub path_token: Option<&'p str>,
    /// The route tokens for Record-Route, of the next hop and of the previous one.
    pub recorded: Option<&'p [String; 2]>,
    /// The branch of our Via.
    pub branch: &'p [u8],
}

/// A printed request, and where its Via is, so that another branch can be put in.
#[derive(Clone, Debug)]
pub struct Printed {
    /// The octets.
    pub octets: Bytes,
    /// Our Via, the whole line.
    pub via: Span,
}

/// Prints a request for its first destination.
///
/// # Errors
///
/// [`Unprintable`] if a value that was put in would end a line.
pub fn print(bound: &Bound<'_>, mut edits: Edits, plan: &Plan<'_>) -> Result<Printed, Unprintable> {
    let (message, arrival) = (bound.message(), bound.arrival());
    let Some(to) = plan.route.destinations.first() else { return Err(Unprintable) };
    let start = message.head_start();
    let mut via_length = 0;
    edits.insert(start, |text| {
        let before = text.len();
        put_via(text, plan.settings, other(arrival.side), to, plan.branch);
        via_length = text.len().saturating_sub(before);
    });
    let head = plan.route.restored_uri.as_ref().map_or(0, Vec::len);
    let shift = head.wrapping_sub(if head == 0 { 0 } else { message.request_uri().len() });
    let via_start = start.wrapping_add(shift);
    let via_span = Span::new(via_start, via_start.saturating_add(via_length));
    put_record_routes(&mut edits, bound, plan, to);
    put_path(&mut edits, bound, plan);
    if let Some(uri) = &plan.route.restored_uri {
        edits.replace(message.request_uri_span(), |text| {
            text.put(uri);
        });
    }
    stamp_top_via(&mut edits, message, &arrival.flow);
    remove_routes(&mut edits, message, plan.route);
    count_hops(&mut edits, message);
    if plan.route.destinations.iter().any(|to| to.transport().is_reliable()) {
        put_length(&mut edits, message);
    }
    let octets = Bytes::from(edits.apply(message)?);
    Ok(Printed { octets, via: via_span })
}

/// The same request with another Via: for the next destination.
///
/// # Errors
///
/// [`Unprintable`] never, in practice: the branch is ours.
pub fn reprint(
    printed: &Printed,
    settings: &Settings,
    side: Side,
    to: &Destination,
    branch: &[u8],
) -> Result<Printed, Unprintable> {
    let mut via = Text::new();
    put_via(&mut via, settings, side, to, branch);
    let via = via.finish()?;
    let octets = &printed.octets;
    let before = octets.get(..printed.via.start()).unwrap_or_default();
    let after = octets.get(printed.via.end()..).unwrap_or_default();
    let span = Span::new(before.len(), before.len().saturating_add(via.len()));
    Ok(Printed { octets: [before, &via, after].concat().into(), via: span })
}

/// The side that faces away from `side`.
pub fn other(side: Side) -> Side {
    match side {
        Side::Ue => Side::Core,
        Side::Core => Side::Ue,
    }
}

/// The listener whose name stands in what goes to `to`.
pub(super) fn facing<'s>(
    settings: &'s Settings,
    side: Side,
    to: &Destination,
) -> Option<&'s Listener> {
    match to {
        Destination::Flow(Flow { listener, .. }) => settings.listener(*listener),
        Destination::Target(target) => settings
            .facing(side, target.transport)
            .or_else(|| settings.listeners.iter().find(|listener| listener.side == side)),
    }
}

pub(super) fn put_via(
    text: &mut Text,
    settings: &Settings,
    side: Side,
    to: &Destination,
    branch: &[u8],
) {
    let Some(listener) = facing(settings, side, to) else { return };
    let transport = to.transport();
    text.field("Via", |value| {
        value.put("SIP/2.0/").put(transport.via_token()).put(" ").put(&listener.name);
        value.put(":").put_number(u64::from(listener.address.port()));
        value.put(";branch=").put(branch);
        if transport == Transport::Udp {
            value.put(";rport");
        }
        if lends(settings, listener, to) {
            value.put(";alias");
        }
    });
}

/// Whether the server at `to` may use the connection that this goes out on: it proves by certificate who it is, sees one
/// of ours, and would otherwise dial the address in our Via.
///
/// Source: RFC 5923 section 8.1; `CR-07`.
fn lends(settings: &Settings, listener: &Listener, to: &Destination) -> bool {
    let Destination::Target(target) = to else { return false };
    target.transport == Transport::Tls
        && settings.aliased.contains(&target.group)
        && listener.transports.contains(&Transport::Tls)
}

/// Whether requests of that method leave with Record-Route (`PX-03`, `RR-06`).
pub fn is_recorded(method: Method) -> bool {
    use Method::{Invite, Notify, Other, Refer, Subscribe};
    matches!(method, Invite | Subscribe | Refer | Notify | Other)
}

/// Double Record-Route: the upper value faces the next hop, the lower one the previous hop.
fn put_record_routes(edits: &mut Edits, bound: &Bound<'_>, plan: &Plan<'_>, to: &Destination) {
    if !is_recorded(bound.method()) {
        return;
    }
    let (message, arrival, settings) = (bound.message(), bound.arrival(), plan.settings);
    let sips = message.request_uri().get(..5).is_some_and(|s| s.eq_ignore_ascii_case(b"sips:"));
    let next = facing(settings, other(arrival.side), to);
    let before = settings.listener(arrival.flow.listener);
    let mirrored = mirrors_tls(message) && settings.mirror_tls_param;
    let token = |place: usize| plan.recorded.and_then(|tokens| tokens.get(place));
    for (listener, transport, ue_side, token) in [
        (next, to.transport(), arrival.side == Side::Core, token(0)),
        (before, arrival.flow.transport, arrival.side == Side::Ue, token(1)),
    ] {
        let Some(listener) = listener else { continue };
        edits.insert(above(message, Name::RecordRoute), |text| {
            text.field("Record-Route", |value| {
                value.put(if sips { "<sips:" } else { "<sip:" });
                if let Some(token) = token {
                    value.put(token).put("@");
                }
                value.put(&listener.name);
                // A UE on TLS finds its way by name: SIPS first in DNS, unless it wrote the parameter itself.
                let by_name = transport == Transport::Tls && ue_side && !sips && !mirrored;
                if !by_name {
                    value.put(":").put_number(u64::from(listener.address.port()));
                }
                value.put(match transport {
                    Transport::Tcp => ";transport=tcp;lr",
                    Transport::Tls if !by_name && !sips => ";transport=tls;lr",
                    Transport::Dtls => ";transport=dtls-udp;lr",
                    Transport::Ws | Transport::Wss => ";transport=ws;lr",
                    Transport::Udp | Transport::Tls => ";lr",
                });
                value.put(">");
            });
        });
    }
}

/// Before the first row of that name, so that ours is on top of it; behind the last Via if there is none.
fn above(message: &Message, name: Name) -> usize {
    let first = message.rows(name).next().map(|row| row.line().start());
    let vias = message.rows(Name::Via).last().map(|row| row.line().end());
    first.or(vias).unwrap_or(message.head_start())
}

/// Whether the UE itself writes `transport=tls` (`RR-04`).
fn mirrors_tls(message: &Message) -> bool {
    let says_tls =
        |uri: Uri<'_>| uri.param("transport").is_some_and(|kind| kind.eq_ignore_ascii_case(b"tls"));
    [Name::Contact, Name::Route]
        .into_iter()
        .flat_map(|name| message.addresses(name).flatten())
        .any(|address| says_tls(address.uri()))
}

/// The UE's own Path goes, ours comes.
fn put_path(edits: &mut Edits, bound: &Bound<'_>, plan: &Plan<'_>) {
    let message = bound.message();
    if bound.arrival().side == Side::Ue {
        for row in message.rows(Name::Path) {
            edits.remove(row.line());
        }
    }
    let Some(token) = plan.path_token else { return };
    let Some(to) = plan.route.destinations.first() else { return };
    let Some(listener) = facing(plan.settings, Side::Core, to) else { return };
    let first_hop = message.values(Name::Via).count() == 1;
    let sips = message
        .addresses(Name::Contact)
        .flatten()
        .any(|contact| contact.uri().scheme() == crate::wire::uri::Scheme::Sips);
    edits.insert(above(message, Name::Path), |text| {
        text.field("Path", |value| {
            value.put(if sips { "<sips:" } else { "<sip:" }).put(token).put("@");
            value.put(&listener.name).put(":").put_number(u64::from(listener.address.port()));
            value.put(match to.transport() {
                Transport::Udp => ";lr",
                Transport::Tcp => ";transport=tcp;lr",
                Transport::Tls => ";transport=tls;lr",
                Transport::Dtls => ";transport=dtls-udp;lr",
                Transport::Ws | Transport::Wss => ";transport=ws;lr",
            });
            value.put(if first_hop { ";ob>" } else { ">" });
        });
    });
}

/// `received` and `rport` in the Via that came, whatever its sender wrote there; neither on WebSocket.
fn stamp_top_via(edits: &mut Edits, message: &Message, flow: &Flow) {
    if let Some(value) = message.values(Name::Via).next() {
        let via = message.top_via();
        edits.replace(message.span_of(value), |text| {
            put_seen_via(text, value, via.as_ref(), flow.source_to_tell());
        });
    }
}

/// Our own Route values go; a strict router's last one became the Request-URI and goes too.
fn remove_routes(edits: &mut Edits, message: &Message, route: &Route) {
    let total = message.values(Name::Route).count();
    let last = route.restored_uri.as_ref().map(|_| total.saturating_sub(1));
    let mut place: usize = 0;
    for row in message.rows(Name::Route) {
        let value = row.value().of(message.octets());
        let (mut kept, mut gone) = (Text::new(), false);
        for part in split::commas(value) {
            if place < route.own_routes || Some(place) == last {
                gone = true;
            } else {
                if !kept.is_empty() {
                    kept.put(", ");
                }
                kept.put_unfolded(part);
            }
            place = place.saturating_add(1);
        }
        match kept.finish() {
            Ok(kept) if gone && kept.is_empty() => edits.remove(row.line()),
            Ok(kept) if gone => edits.replace(row.value(), |text| {
                text.put(&kept);
            }),
            _ => {}
        }
    }
}

/// Content-Length, which a stream needs and a WebSocket or a datagram may have been without.
///
/// Source: RFC 3261 section 18.3.
pub(super) fn put_length(edits: &mut Edits, message: &Message) {
    if !message.has(Name::ContentLength) {
        edits.insert(message.head_end(), |text| {
            text.field(Name::ContentLength.as_str(), |value| {
                value.put_number(message.body().len() as u64);
            });
        });
    }
}

pub(super) fn count_hops(edits: &mut Edits, message: &Message) {
    number_or_insert(edits, message, Name::MaxForwards, |hops| match hops {
        Some(hops) => Some(hops.saturating_sub(1)),
        None => Some(HOPS),
    });
    number_or_insert(edits, message, Name::MaxBreadth, |breadth| match breadth {
        Some(breadth) if breadth <= BREADTH => None,
        _ => Some(BREADTH),
    });
}

/// Puts a new number in the place of the old one, or a new field before the blank line.
fn number_or_insert(
    edits: &mut Edits,
    message: &Message,
    name: Name,
    new: impl FnOnce(Option<u64>) -> Option<u64>,
) {
    let row = message.rows(name).next();
    let old = row.and_then(|row| split::number(row.value().of(message.octets())));
    let Some(number) = new(old) else { return };
    match row {
        Some(row) => edits.replace(row.value(), |text| {
            text.put_number(number);
        }),
        None => edits.insert(message.head_end(), |text| {
            text.field(name.as_str(), |value| {
                value.put_number(number);
            });
        }),
    }
}

//! Stage 7, back to back: a request as it leaves on the other leg.
//!
//! Takes:   the request as it came, its [`Route`](crate::forward::route::Route), and its [`Dress`] for the other leg.
//! Gives:   its octets: our Via and no other, ids, number, target and routes of that leg, our Contact, one hop less,
//!          dialogs by their names there. Everything else is as it came, octet for octet.
//! Keeps:   nothing.
//! Refuses: new text with a line end in it.
//! Sources: RFC 3261 sections 8.1.1, 12.2.1.1 and 16.6 items 3 and 4; RFC 3262 section 7.2; RFC 5393 section 5.4.3; `B2-01`,
//!          `B2-02`, `B2-08`, `B2-09`, `B2-11`.

use bytes::Bytes;
use smallvec::SmallVec;

use super::contact::{self, Own};
use super::named::IN_REPLY_TO;
use crate::association::Bound;
use crate::association::bridge::Way;
use crate::forward::outgoing::{self, Plan, Printed, count_hops, put_via};
use crate::transport::Side;
use crate::wire::edit::Unprintable;
use crate::wire::respond::put_tagged;
use crate::wire::{Edits, Field, Message, Name, Span, Uri};

/// What a request gets for the other leg.
#[derive(Clone, Debug, Default)]
pub(in crate::forward) struct Dress {
    /// Call-ID.
    pub(in crate::forward) call_id: Box<[u8]>,
    /// Our tag, for From.
    pub(in crate::forward) own_tag: Box<[u8]>,
    /// The peer's tag, for To; empty outside dialogs.
    pub(in crate::forward) far_tag: Box<[u8]>,
    /// The number of CSeq.
    pub(in crate::forward) number: u32,
    /// Where the leg leads; `None` outside dialogs.
    pub(in crate::forward) way: Option<Way>,
    /// The number of the INVITE that a PRACK names.
    pub(in crate::forward) rack: Option<u32>,
    /// Parts of headers that name dialogs, and what they are called there.
    pub(in crate::forward) renamed: SmallVec<[(Span, Vec<u8>); 1]>,
    /// Whether both legs have the same ids.
    pub(in crate::forward) same_ids: bool,
}

impl Dress {
    /// The Request-URI and the Route values, as they leave.
    pub(in crate::forward) fn target(
        &self,
        message: &Message,
        plan: &Plan<'_>,
        from: Side,
    ) -> (Vec<u8>, Vec<Vec<u8>>) {
        let Some(way) = &self.way else {
            let uri = plan.route.restored_uri.clone();
            let uri = uri.unwrap_or_else(|| message.request_uri().to_vec());
            // Beyond ours there is what the caller's registrar gave him, or what the core put there for itself.
            let last = usize::from(plan.route.restored_uri.is_some());
            let count = message.values(Name::Route).count().saturating_sub(last);
            let others = message.values(Name::Route).take(count).skip(plan.route.own_routes);
            let kept = others.filter(|_| from == Side::Ue).map(<[u8]>::to_vec);
            return (uri, kept.collect());
        };
        way.lead()
    }
}

/// Prints a request for the other leg.
///
/// # Errors
///
/// [`Unprintable`] if a value that was put in would end a line.
pub(in crate::forward) fn print(
    bound: &Bound<'_>,
    mut edits: Edits,
    plan: &Plan<'_>,
    dress: &Dress,
) -> Result<Printed, Unprintable> {
    let (message, from) = (bound.message(), bound.arrival().side);
    let to_side = outgoing::other(from);
    let Some(to) = plan.route.destinations.first() else { return Err(Unprintable) };
    let (uri, routes) = dress.target(message, plan, from);
    let mut via_length = 0;
    edits.insert(message.head_start(), |text| {
        let before = text.len();
        put_via(text, plan.settings, to_side, to, plan.branch);
        via_length = text.len().saturating_sub(before);
        for route in &routes {
            text.field("Route", |value| {
                value.put_unfolded(route);
            });
        }
    });
    let shift = uri.len().wrapping_sub(message.request_uri().len());
    let via = message.head_start().wrapping_add(shift);
    edits.replace(message.request_uri_span(), |text| {
        text.put(&uri);
    });
    let target = dress.way.as_ref().map_or(&*uri, |way| &way.target);
    put_ids(&mut edits, message, dress);
    let own = Own::facing(plan.settings, to_side, to, Uri::parse(target));
    contact::replace(&mut edits, message, &own);
    for (span, text_there) in &dress.renamed {
        if !edits.covers(*span) {
            edits.replace(*span, |text| {
                text.put(text_there);
            });
        }
    }
    remove_hops(&mut edits, message, dress);
    count_hops(&mut edits, message);
    let reliable = plan.route.destinations.iter().any(|to| to.transport().is_reliable());
    put_length(&mut edits, message, dress, reliable);
    let octets = Bytes::from(edits.apply(message)?);
    Ok(Printed { octets, via: Span::new(via, via.saturating_add(via_length)) })
}

/// Content-Length, where the body grows or shrinks by its new names, or a stream needs one.
fn put_length(edits: &mut Edits, message: &Message, dress: &Dress, reliable: bool) {
    let inside = dress.renamed.iter().filter(|(span, _)| span.start() > message.head_end());
    let length = inside.fold(message.body().len(), |length, (span, new)| {
        let old = span.end().saturating_sub(span.start());
        length.saturating_add(new.len()).saturating_sub(old)
    });
    match message.rows(Name::ContentLength).next() {
        Some(_) if length == message.body().len() => {}
        Some(row) => edits.replace(row.value(), |text| {
            text.put_number(length as u64);
        }),
        None if reliable => edits.insert(message.head_end(), |text| {
            text.field(Name::ContentLength.as_str(), |value| {
                value.put_number(length as u64);
            });
        }),
        None => {}
    }
}

/// Call-ID, tags and numbers.
fn put_ids(edits: &mut Edits, message: &Message, dress: &Dress) {
    for (name, tag) in [(Name::From, &dress.own_tag), (Name::To, &dress.far_tag)] {
        if let Some(row) = message.rows(name).next() {
            let value = row.value().of(message.octets());
            edits.replace(row.value(), |text| put_tagged(text, value, tag));
        }
    }
    if let Some(row) = message.rows(Name::CallId).next() {
        edits.replace(row.value(), |text| {
            text.put(&dress.call_id);
        });
    }
    if let Some(row) = message.rows(Name::CSeq).next() {
        edits.replace(row.value(), |text| {
            text.put_number(dress.number.into()).put(" ").put(message.method_octets());
        });
    }
    let rack = message.rows(Name::RAck).next().zip(message.rack()).zip(dress.rack);
    if let Some(((row, rack), number)) = rack
        && !edits.covers(row.value())
    {
        edits.replace(row.value(), |text| {
            text.put_number(rack.response.into()).put(" ").put_number(number.into());
            text.put(" ").put(rack.method);
        });
    }
}

/// What is between a neighbour and us, or of his dialog: it has no business on the other leg. Calls that he replies to, and
/// that are known here, have their names there by now; of others the other end has never seen the ids.
fn remove_hops(edits: &mut Edits, message: &Message, dress: &Dress) {
    for name in [
        Name::Via,
        Name::Route,
        Name::RecordRoute,
        Name::Path,
        Name::Authorization,
        Name::ProxyAuthorization,
    ] {
        edits.remove_all(message, name);
    }
    let replies = rows_called(message, IN_REPLY_TO).filter(|_| !dress.same_ids);
    for row in replies {
        if !edits.covers(row.value()) {
            edits.remove(row.line());
        }
    }
}

/// The rows of a name for which there is no [`Name`].
pub(super) fn rows_called<'m>(
    message: &'m Message,
    called: &'m str,
) -> impl Iterator<Item = &'m Field> {
    let name = move |row: &&'m Field| row.name_span().of(message.octets());
    message.rows(Name::Other).filter(move |row| name(row).eq_ignore_ascii_case(called.as_bytes()))
}

/// Takes out the rows of a name for which there is no [`Name`].
pub(super) fn remove_called(edits: &mut Edits, message: &Message, called: &str) {
    for row in rows_called(message, called) {
        edits.remove(row.line());
    }
}

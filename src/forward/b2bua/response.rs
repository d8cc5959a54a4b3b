//! Stage 7, back to back: a response as it goes back on the leg of its request.
//!
//! Takes:   the response as it came, and the request that it answers as that came.
//! Gives:   its octets: Via, From, To, Call-ID, CSeq and Record-Route of the request, under a tag of ours, our Contact,
//!          and everything else of the response, octet for octet.
//! Keeps:   nothing.
//! Refuses: challenges: they become 403, since whose credentials would be asked for sits on the other leg.
//! Sources: RFC 3261 sections 8.2.6 and 12.1.1; RFC 6223 section 4; RFC 7616 section 3.5; RFC 8760 section 2; `B2-01`, `B2-09`, `B2-11`.

use bytes::Bytes;

use super::contact::{self, Own};
use super::request::remove_called;
use crate::authentication::ServerProof;
use crate::forward::Settings;
use crate::forward::outgoing::put_length;
use crate::forward::returning::{kept, with_keep};
use crate::transport::{Flow, Side};
use crate::wire::respond::{put_seen_via, put_to, reason};
use crate::wire::{Edits, Message, Name, Span, Via};

/// A request as it came, and whence.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Asked<'r> {
    /// The request.
    pub(in crate::forward) request: &'r Message,
    /// The side it came from.
    pub(in crate::forward) side: Side,
    /// The flow it came on.
    pub(in crate::forward) flow: &'r Flow,
    /// What the edge proves itself with.
    pub(in crate::forward) proof: Option<&'r ServerProof>,
    /// Whether its sender may be told how often to send keep-alives.
    pub(in crate::forward) keeps: bool,
}

/// The code that a response goes back with.
pub(in crate::forward) fn status_back(status: u16) -> u16 {
    if matches!(status, 401 | 407) { 403 } else { status }
}

/// Prints a response for who sent `asked`, under `tag` if his request has none in To; `edits` holds what happens to
/// identity headers.
pub(in crate::forward) fn print(
    response: &Message,
    mut edits: Edits,
    asked: &Asked<'_>,
    tag: &[u8],
    settings: &Settings,
) -> Option<Bytes> {
    let status = response.status()?;
    let Asked { request, side, flow, proof, keeps } = *asked;
    let start = response.head_start();
    let back = status_back(status);
    if back != status {
        edits.replace(Span::new(0, start), |text| {
            text.put("SIP/2.0 ").put_number(back.into()).put(" ").put(reason(back)).end_line();
        });
    }
    let kept = kept(keeps, status, flow.transport);
    edits.insert(start, |text| {
        let source = flow.source_to_tell();
        let via = request.top_via();
        for (place, value) in request.values(Name::Via).enumerate() {
            text.field("Via", |text| match place {
                0 => match kept.and_then(|seconds| with_keep(value, seconds)) {
                    Some(value) => put_seen_via(text, &value, Via::parse(&value).as_ref(), source),
                    None => put_seen_via(text, value, via.as_ref(), source),
                },
                _ => {
                    text.put_unfolded(value);
                }
            });
        }
        for value in request.values(Name::RecordRoute) {
            text.field("Record-Route", |text| {
                text.put_unfolded(value);
            });
        }
    });
    for name in [
        Name::Via,
        Name::RecordRoute,
        Name::WwwAuthenticate,
        Name::ProxyAuthenticate,
        Name::AuthenticationInfo,
    ] {
        edits.remove_all(response, name);
    }
    remove_called(&mut edits, response, "Proxy-Authentication-Info");
    for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
        let (Some(row), Some(value)) = (response.rows(name).next(), request.first(name)) else {
            return None;
        };
        edits.replace(row.value(), |text| match name {
            Name::To if status > 100 => put_to(text, value, tag),
            _ => {
                text.put_unfolded(value);
            }
        });
    }
    // Whom to try instead is said to the one who asked (RFC 3261 sections 21.3 and 21.4.23).
    if !matches!(status, 300..=399 | 485) {
        let contact = request.addresses(Name::Contact).next().flatten();
        let uri = request.uri().filter(|uri| uri.scheme() == crate::wire::uri::Scheme::Sips);
        let own = Own::on(settings, side, flow, uri.or(contact.map(|contact| contact.uri())));
        contact::replace(&mut edits, response, &own);
    }
    if let Some(proof) = proof.filter(|_| matches!(status, 200..=299)) {
        proof.put_into(&mut edits, response);
    }
    if flow.transport.is_reliable() {
        put_length(&mut edits, response);
    }
    edits.apply(response).ok().map(Bytes::from)
}

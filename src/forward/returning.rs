//! Stage 7, returning: what a response looks like when it goes back.
//!
//! Takes:   a response whose transaction is known, and where its request came from.
//! Gives:   its octets without our Via; identity headers as the receiver may see them; Flow-Timer and the edge's
//!          own proof where due.
//! Keeps:   nothing.
//! Refuses: a response with no Via below ours: it would go nowhere.
//! Sources: RFC 3261 section 16.7; RFC 5626 section 5.4; `VIA-08`, `RG-06`, `RG-07`, `PX-13`.

use bytes::Bytes;

use super::outgoing::put_length;
use crate::authentication::ServerProof;
use crate::transport::Transport;
use crate::wire::{Edits, Message, Method, Name, split};

/// Seconds between keep-alives on a stream, and on UDP.
const FLOW_TIMER: (u64, u64) = (120, 29);

/// Prints a response for the one who asked; `edits` holds what happens to identity headers.
pub fn print(
    response: &Message,
    mut edits: Edits,
    proof: Option<&ServerProof>,
    back_on: Transport,
) -> Option<Bytes> {
    let mut rows = response.rows(Name::Via);
    let top = rows.next()?;
    let value = top.value().of(response.octets());
    match split::commas(value).nth(1) {
        Some(second) => {
            let second = response.span_of(second);
            let whole = crate::wire::Span::new(top.value().start(), second.start());
            edits.remove(whole);
        }
        None => {
            rows.next()?;
            edits.remove(top.line());
        }
    }
    let outbound = response.has_option(Name::Require, "outbound");
    let registered = response.cseq_method() == Method::Register
        && response.status().is_some_and(|status| matches!(status, 200..=299));
    if registered && outbound && response.first(Name::FlowTimer).is_none() {
        let (stream, datagram) = FLOW_TIMER;
        edits.insert(response.head_end(), |text| {
            text.field("Flow-Timer", |value| {
                value.put_number(if back_on.is_reliable() { stream } else { datagram });
            });
        });
    }
    if let Some(proof) = proof.filter(|_| registered) {
        edits.insert(response.head_end(), |text| {
            text.field("Authentication-Info", |value| {
                value.put(proof.value(response.body()));
            });
        });
    }
    if back_on.is_reliable() {
        put_length(&mut edits, response);
    }
    edits.apply(response).ok().map(Bytes::from)
}

/// The shortest expiry that a 2xx to REGISTER grants to any Contact; zero if it lists none.
pub fn granted(response: &Message) -> std::time::Duration {
    let of_contact = |value| {
        let contact = crate::wire::Address::parse(value)?;
        contact.param("expires").and_then(crate::wire::headers::seconds)
    };
    let shortest = response
        .values(Name::Contact)
        .map(|value| of_contact(value).or_else(|| response.expires()).unwrap_or(DEFAULT_EXPIRES))
        .min();
    std::time::Duration::from_secs(u64::from(shortest.unwrap_or(0)))
}

/// RFC 3261 section 10.2.1.1: what no expiry means is the registrar's choice; an hour is the usual one.
const DEFAULT_EXPIRES: u32 = 3600;

//! Stage 7, back to back: requests of our own, by which we end a leg whose other one is gone, or ask whether it is.
//!
//! Takes:   the bridge, the leg, what is to be sent there and why.
//! Gives:   the octets of a BYE, of an UPDATE without an offer, or of an ACK to a 2xx that nobody else acknowledges.
//! Keeps:   nothing.
//! Refuses: nothing; text with a line end in it is not printed.
//! Sources: RFC 3261 sections 12.2.1.1, 13.2.2.4 and 15.1.1; RFC 3311 section 5.1; RFC 3326
//!          section 2; RFC 4028 section 7.4; `B2-04`, `B2-07`, `B2-10`.

use bytes::Bytes;

use super::contact;
use crate::association::Bridge;
use crate::forward::outgoing::put_via;
use crate::forward::session::USUAL;
use crate::forward::{Destination, Settings};
use crate::transport::Side;
use crate::wire::{Method, Text, Uri};

/// Hops that a request of ours may take.
const HOPS: u64 = 70;

/// A request of ours.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Own<'o> {
    /// The dialog.
    pub(in crate::forward) bridge: &'o Bridge,
    /// The side that it goes to.
    pub(in crate::forward) side: Side,
    /// BYE, UPDATE or ACK.
    pub(in crate::forward) method: Method,
    /// The number of CSeq.
    pub(in crate::forward) number: u32,
    /// Why, as a value of Reason.
    pub(in crate::forward) reason: Option<&'static str>,
}

/// Prints a request of ours.
pub(in crate::forward) fn print(
    own: &Own<'_>,
    settings: &Settings,
    to: &Destination,
    branch: &[u8],
) -> Option<Bytes> {
    let (leg, way) = (own.bridge.leg(own.side), own.bridge.way(own.side));
    let (us, peer) = own.bridge.parties(own.side);
    let (uri, routes) = way.lead();
    let mut text = Text::new();
    let method = own.method.as_str();
    text.put(method).put(" ").put(uri).put(" SIP/2.0").end_line();
    put_via(&mut text, settings, own.side, to, branch);
    for route in routes {
        text.field("Route", |value| {
            value.put_unfolded(&route);
        });
    }
    text.field("Max-Forwards", |value| {
        value.put_number(HOPS);
    });
    for (name, uri, tag) in [("From", us, &leg.own_tag), ("To", peer, &leg.far_tag)] {
        text.field(name, |value| {
            value.put("<").put(uri).put(">;tag=").put(tag);
        });
    }
    text.field("Call-ID", |value| {
        value.put(&leg.call_id);
    });
    text.field("CSeq", |value| {
        value.put_number(own.number.into()).put(" ").put(method);
    });
    if own.method == Method::Update {
        text.field("Contact", |value| {
            contact::Own::facing(settings, own.side, to, Uri::parse(&way.target)).put(value);
        });
        text.field("Supported", |value| {
            value.put("timer");
        });
        text.field("Session-Expires", |value| {
            value.put_number(USUAL.into()).put(";refresher=uac");
        });
    }
    if let Some(reason) = own.reason {
        text.field("Reason", |value| {
            value.put(reason);
        });
    }
    text.field("Content-Length", |value| {
        value.put_number(0);
    });
    text.end_line();
    text.finish().ok().map(Bytes::from)
}

//! Stage 7, back to back: requests of our own, by which we end a leg whose other one is gone.
//!
//! Takes:   the bridge, the leg, what is to be sent there and why.
//! Gives:   the octets of a BYE, or of an ACK to a 2xx that nobody else acknowledges.
//! Keeps:   nothing.
//! Refuses: nothing; text with a line end in it is not printed.
//! Sources: RFC 3261 sections 12.2.1.1, 13.2.2.4 and 15.1.1; RFC 3326 section 2; `B2-04`, `B2-10`.

use bytes::Bytes;

use crate::association::Bridge;
use crate::forward::outgoing::put_via;
use crate::forward::{Destination, Settings};
use crate::transport::Side;
use crate::wire::Text;

/// Hops that a request of ours may take.
const HOPS: u64 = 70;

/// A request of ours.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Own<'o> {
    /// The dialog.
    pub(in crate::forward) bridge: &'o Bridge,
    /// The side that it goes to.
    pub(in crate::forward) side: Side,
    /// BYE or ACK.
    pub(in crate::forward) method: &'static str,
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
    text.put(own.method).put(" ").put(uri).put(" SIP/2.0").end_line();
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
        value.put_number(own.number.into()).put(" ").put(own.method);
    });
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

//! Stage 7, before the gate: what a proxy looks at first, whoever asks.
//!
//! Takes:   a checked request and its arrival.
//! Gives:   [`Check`]: go on, or answer it here as its final recipient.
//! Keeps:   nothing.
//! Refuses: a spent Max-Forwards, a request that was here before, a Proxy-Require.
//! Sources: RFC 3261 sections 16.3 and 11; RFC 5393 section 4.2; `PX-02`, `PX-04`, `PX-05`.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::Settings;
use super::transaction::ServerKey;
use crate::authentication::sec_agree::TAG;
use crate::refusal::Refusal;
use crate::transport::{Arrival, Side};
use crate::wire::octets::hex_digits;
use crate::wire::{Address, Message, Method, Name, Via};

/// What to do with a request first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// On to the gate; if it passes, with this at the end of its branch.
    GoOn(LoopPart),
    /// OPTIONS for the edge itself: 200.
    AnswerHere,
}

/// The end of our branches: a keyed hash in hex that shows a loop.
pub type LoopPart = [u8; LOOP_OCTETS];
/// Octets of the loop part.
pub const LOOP_OCTETS: usize = 8;

/// What was worked out about a request before it was judged, so that it is not worked out again.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// The server transaction it makes.
    pub key: ServerKey,
    /// The end of its branch.
    pub loop_part: LoopPart,
}

/// Looks at what RFC 3261 section 16.3 has a proxy look at before policy.
///
/// # Errors
///
/// [`Refusal::HopsSpent`], [`Refusal::LoopDetected`], [`Refusal::ExtensionUnsupported`].
pub fn precheck(
    message: &Message,
    arrival: &Arrival,
    settings: &Settings,
    loop_key: &[u8; 16],
) -> Result<Check, Refusal> {
    let options = message.method() == Some(Method::Options);
    let uri = message.uri();
    let for_us = options
        && message.first(Name::Route).is_none_or(|_| only_own_routes(message, settings))
        && message.to_tag().is_empty()
        && uri.is_some_and(|uri| uri.user().is_none() && settings.serves(uri.host()));
    if for_us {
        return Ok(Check::AnswerHere);
    }
    if message.max_forwards() == Some(0) {
        return if options { Ok(Check::AnswerHere) } else { Err(Refusal::HopsSpent) };
    }
    let part = loop_part(message, arrival.side, loop_key);
    let is_own = |host: &[u8]| {
        let mut listeners = settings.listeners.iter();
        listeners.any(|listener| host.eq_ignore_ascii_case(listener.name.as_bytes()))
    };
    let is_ours = |via: Via<'_>| via.branch().ends_with(&part) && is_own(via.host());
    // The topmost is parsed already, and most requests have no other.
    let has_part = |via: &&[u8]| memchr::memmem::find(via, &part).is_some();
    let below = message.values(Name::Via).skip(1).filter(has_part).filter_map(Via::parse);
    let looped = message.top_via().into_iter().chain(below).any(is_ours);
    if looped {
        return Err(Refusal::LoopDetected);
    }
    let ours_alone = matches!(message.method(), Some(Method::Ack | Method::Cancel));
    let agrees = settings.agrees(arrival.flow.listener);
    let unknown = |tag: &[u8]| !agrees || !tag.eq_ignore_ascii_case(TAG.as_bytes());
    if message.values(Name::ProxyRequire).any(unknown) && !ours_alone {
        return Err(Refusal::ExtensionUnsupported);
    }
    Ok(Check::GoOn(part))
}

fn only_own_routes(message: &Message, settings: &Settings) -> bool {
    let is_own = |route: Option<Address<'_>>| route.is_some_and(|it| settings.is_own(&it.uri()));
    message.addresses(Name::Route).all(is_own)
}

/// The part of our branch that shows a loop: a keyed hash of what routing depends on, in hex.
///
/// Source: RFC 5393 section 4.2.1.
pub fn loop_part(message: &Message, side: Side, key: &[u8; 16]) -> LoopPart {
    let number = message.cseq().map_or(0, |cseq| cseq.number);
    let ids = [message.request_uri(), message.call_id()];
    loop_part_of(number, ids.into_iter().chain(message.values(Name::Route)), side, key)
}

/// The same of a request that leaves towards `side` with that CSeq number, and `parts`: Request-URI, Call-ID, and Route
/// values.
pub(super) fn loop_part_of<'p>(
    number: u32,
    parts: impl Iterator<Item = &'p [u8]>,
    side: Side,
    key: &[u8; 16],
) -> LoopPart {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write_u8(u8::from(side == Side::Ue));
    hasher.write_u32(number);
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hex8(hasher.finish())
}

/// The low 32 bits in hex.
fn hex8(number: u64) -> LoopPart {
    let [_, _, _, _, low @ ..] = number.to_be_bytes();
    let mut text = [b'0'; LOOP_OCTETS];
    for (slot, octet) in text.chunks_exact_mut(2).zip(low) {
        slot.copy_from_slice(&hex_digits(octet));
    }
    text
}

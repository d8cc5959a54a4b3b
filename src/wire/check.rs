//! Stage 2, the check: what every message must have before any stage reasons about it.
//!
//! Takes:   a message that the scanner accepted.
//! Gives:   nothing; a message that passes can be answered, matched and forwarded.
//! Keeps:   nothing. Bounds: 64 Via, 32 Route, 16 Contact values.
//! Refuses: mandatory headers missing, twice or broken; a Request-URI that is none, is of another scheme or carries
//!          headers; a CSeq method that differs; Max-Forwards over 255; Contact and Route that do not parse; empty
//!          values in Via, Route and Contact. A response with a fault is to be dropped.
//! Sources: RFC 3261 sections 8.1.1, 8.2, 16.3, 17.2.3, 19.1.1 and 20; RFC 4475; RFC 5118; `TR-07`, `TX-08`.

use super::headers::CSeq;
use super::uri::Scheme;
use super::{Address, Fault, Message, Method, Name, Start, split};

/// Most Via values.
pub const VIA_MAX: usize = 64;
/// Most Route values.
pub const ROUTE_MAX: usize = 32;
/// Most Contact values of a request.
pub const CONTACT_MAX: usize = 16;
/// Most of a response: a registrar tells all bindings, a redirection all targets.
pub const CONTACTS_TOLD_MAX: usize = 1024;

/// Headers of which a message has one at most.
const SINGLE: [Name; 24] = [
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::ContentLength,
    Name::ContentType,
    Name::ContentDisposition,
    Name::Expires,
    Name::MinExpires,
    Name::Event,
    Name::MaxBreadth,
    Name::ReferTo,
    Name::ReferredBy,
    Name::SubscriptionState,
    Name::SessionExpires,
    Name::MinSe,
    Name::Replaces,
    Name::TargetDialog,
    Name::RAck,
    Name::RSeq,
    Name::SipEtag,
    Name::SipIfMatch,
    Name::FlowTimer,
];

/// [`SINGLE`] as a set of [`Name::bit`].
const SINGLE_SET: u128 = {
    let (mut set, mut names) = (0, SINGLE.as_slice());
    while let Some((name, rest)) = names.split_first() {
        set |= name.bit();
        names = rest;
    }
    set
};

/// Checks `message`. The branch is another matter: [`branch`].
///
/// # Errors
///
/// The first [`Fault`] found.
pub fn check(message: &Message) -> Result<(), Fault> {
    counts(message)?;
    let marks = message.marks();
    for (name, parsed) in [
        (Name::Via, marks.via.is_some()),
        (Name::From, marks.from.is_some()),
        (Name::To, marks.to.is_some()),
    ] {
        if !parsed {
            let there = message.has(name);
            return Err(if there { Fault::HeaderMalformed } else { Fault::HeaderMissing });
        }
    }
    let call_id = message.first(Name::CallId).ok_or(Fault::HeaderMissing)?;
    if call_id.is_empty() || !call_id.iter().all(u8::is_ascii_graphic) {
        return Err(Fault::HeaderMalformed);
    }
    message.first(Name::CSeq).ok_or(Fault::HeaderMissing)?;
    let cseq = message.cseq().ok_or(Fault::HeaderMalformed)?;
    if let Start::Request { method, .. } = message.start() {
        check_request(message, method, cseq)?;
    }
    Ok(())
}

/// Checks that the topmost branch identifies a transaction. Not for peers that speak RFC 2543.
///
/// # Errors
///
/// [`Fault::BranchOld`] if there is no branch, or one without cookie, or a cookie and nothing behind it.
///
/// Source: RFC 3261 sections 8.1.1.7 and 17.2.3.
pub fn branch(message: &Message) -> Result<(), Fault> {
    let via = message.top_via().ok_or(Fault::HeaderMissing)?;
    if via.has_cookie() { Ok(()) } else { Err(Fault::BranchOld) }
}

fn counts(message: &Message) -> Result<(), Fault> {
    if message.repeats(SINGLE_SET) {
        return Err(Fault::HeaderTwice);
    }
    let contact_max = if message.is_request() { CONTACT_MAX } else { CONTACTS_TOLD_MAX };
    for (name, max, empty) in [
        (Name::Via, VIA_MAX, Fault::HeaderMalformed),
        (Name::Route, ROUTE_MAX, Fault::AddressMalformed),
        (Name::Contact, contact_max, Fault::AddressMalformed),
    ] {
        if !message.has(name) {
            continue;
        }
        let mut count = 0_usize;
        for value in message.fields_named(name).flat_map(|row| split::parts(row, b',')) {
            if value.is_empty() {
                return Err(empty);
            }
            count = count.saturating_add(1);
            if count > max {
                return Err(Fault::TooManyValues);
            }
        }
    }
    Ok(())
}

fn check_request(message: &Message, method: Method, cseq: CSeq<'_>) -> Result<(), Fault> {
    if cseq.method != message.method_octets() {
        let unknown = method == Method::Other;
        return Err(if unknown { Fault::MethodUnknown } else { Fault::MethodMismatch });
    }
    let uri = message.uri().ok_or(Fault::UriMalformed)?;
    if uri.scheme() == Scheme::Other {
        return Err(Fault::UriScheme);
    }
    if !uri.headers().is_empty() {
        return Err(Fault::UriMalformed);
    }
    if let Some(hops) = message.first(Name::MaxForwards) {
        split::number(hops).filter(|hops| *hops <= 255).ok_or(Fault::HopsMalformed)?;
    }
    if let Some(breadth) = message.first(Name::MaxBreadth) {
        split::number(breadth).filter(|breadth| *breadth > 0).ok_or(Fault::BreadthMalformed)?;
    }
    for route in message.addresses(Name::Route) {
        route.filter(Address::in_brackets).ok_or(Fault::AddressMalformed)?;
    }
    let is_star = |place| message.values(Name::Contact).nth(place) == Some(b"*");
    for (place, contact) in message.addresses(Name::Contact).enumerate() {
        if contact.is_none() && !is_star(place) {
            return Err(Fault::AddressMalformed);
        }
    }
    Ok(())
}

//! Stage 2, the check: what every message must have before any stage reasons about it.
//!
//! Takes:   a message that the scanner accepted.
//! Gives:   nothing; a message that passes can be answered, matched and forwarded.
//! Keeps:   nothing. Bounds: 64 Via, 32 Route, 16 Contact values.
//! Refuses: mandatory headers missing, twice or broken; a Request-URI that is none or of another scheme; a CSeq
//!          method that differs; Max-Forwards over 255; Contact and Route that do not parse.
//! Sources: RFC 3261 sections 8.1.1, 8.2, 16.3 and 20; RFC 4475; RFC 5118.

use super::headers::CSeq;
use super::uri::Scheme;
use super::{Address, Fault, Message, Method, Name, Start, Uri, Via, split};

/// Most Via values.
pub const VIA_MAX: usize = 64;
/// Most Route values.
pub const ROUTE_MAX: usize = 32;
/// Most Contact values.
pub const CONTACT_MAX: usize = 16;

/// Headers of which a message has one at most.
const SINGLE: [Name; 14] = [
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::ContentType,
    Name::Expires,
    Name::Event,
    Name::MaxBreadth,
    Name::ReferTo,
    Name::SubscriptionState,
    Name::SessionExpires,
    Name::MinSe,
    Name::Replaces,
];

/// Checks `message`.
///
/// # Errors
///
/// The first [`Fault`] found.
pub fn check(message: &Message) -> Result<(), Fault> {
    counts(message)?;
    let via = message.values(Name::Via).next().ok_or(Fault::HeaderMissing)?;
    Via::parse(via).ok_or(Fault::HeaderMalformed)?;
    for name in [Name::From, Name::To] {
        let value = message.first(name).ok_or(Fault::HeaderMissing)?;
        Address::parse(value).ok_or(Fault::HeaderMalformed)?;
    }
    let call_id = message.first(Name::CallId).ok_or(Fault::HeaderMissing)?;
    if call_id.is_empty() || call_id.iter().any(|octet| super::scan::is_space(*octet)) {
        return Err(Fault::HeaderMalformed);
    }
    let cseq = message.first(Name::CSeq).ok_or(Fault::HeaderMissing)?;
    let cseq = CSeq::parse(cseq).ok_or(Fault::HeaderMalformed)?;
    if let Start::Request { method, .. } = message.start() {
        check_request(message, method, cseq)?;
    }
    Ok(())
}

fn counts(message: &Message) -> Result<(), Fault> {
    for name in SINGLE {
        if message.rows(name).count() > 1 {
            return Err(Fault::HeaderTwice);
        }
    }
    for (name, max) in
        [(Name::Via, VIA_MAX), (Name::Route, ROUTE_MAX), (Name::Contact, CONTACT_MAX)]
    {
        if message.values(name).take(max.saturating_add(1)).count() > max {
            return Err(Fault::TooManyValues);
        }
    }
    Ok(())
}

fn check_request(message: &Message, method: Method, cseq: CSeq<'_>) -> Result<(), Fault> {
    if cseq.method != message.method_octets() {
        let unknown = method == Method::Other;
        return Err(if unknown { Fault::MethodUnknown } else { Fault::MethodMismatch });
    }
    let uri = Uri::parse(message.request_uri()).ok_or(Fault::UriMalformed)?;
    if uri.scheme() == Scheme::Other {
        return Err(Fault::UriScheme);
    }
    if let Some(hops) = message.first(Name::MaxForwards) {
        split::number(hops).filter(|hops| *hops <= 255).ok_or(Fault::HopsMalformed)?;
    }
    if let Some(breadth) = message.first(Name::MaxBreadth) {
        split::number(breadth).filter(|breadth| *breadth > 0).ok_or(Fault::BreadthMalformed)?;
    }
    for name in [Name::Route, Name::Contact] {
        for value in message.values(name) {
            let wildcard = name == Name::Contact && value == b"*";
            if !wildcard && Address::parse(value).is_none() {
                return Err(Fault::AddressMalformed);
            }
        }
    }
    Ok(())
}

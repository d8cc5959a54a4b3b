//! Stage 7, returning: what a response looks like when it goes back.
//!
//! Takes:   a response whose transaction is known, and where its request came from.
//! Gives:   its octets without our Via; identity headers as the receiver may see them; Flow-Timer, the value of `keep`
//!          and the edge's own proof where due.
//! Keeps:   nothing.
//! Refuses: a response with no Via below ours: it would go nowhere.
//! Sources: RFC 3261 section 16.7; RFC 5626 section 5.4; RFC 6223 sections 4 and 5; `VIA-08`, `RG-06`, `RG-07`, `PX-13`,
//!          `KA-04`.

use bytes::Bytes;

use super::outgoing::put_length;
use crate::authentication::ServerProof;
use crate::transport::Transport;
use crate::wire::{Edits, Message, Method, Name, Span, Via, split};

/// Seconds between keep-alives that are asked for with Flow-Timer: on a stream, and on UDP.
const FLOW_TIMER: (u64, u64) = (120, 29);
/// The same, with `keep`, where no Flow-Timer goes beside it.
const KEEP: (u64, u64) = (120, 30);

/// How a response goes back.
#[derive(Clone, Copy, Debug)]
pub struct Way<'w> {
    /// What the edge proves itself with in a 2xx to REGISTER.
    pub proof: Option<&'w ServerProof>,
    /// What it goes back on.
    pub on: Transport,
    /// Whether its receiver may be told how often to send keep-alives.
    pub keeps: bool,
}

/// Prints a response for the one who asked; `edits` holds what happens to identity headers.
pub fn print(response: &Message, mut edits: Edits, way: Way<'_>) -> Option<Bytes> {
    let mut rows = response.rows(Name::Via);
    let top = rows.next()?;
    let value = top.value().of(response.octets());
    let next = match split::commas(value).nth(1) {
        Some(second) => {
            let span = response.span_of(second);
            edits.remove(Span::new(top.value().start(), span.start()));
            second
        }
        None => {
            let below = rows.next()?.value().of(response.octets());
            edits.remove(top.line());
            split::commas(below).next().unwrap_or(below)
        }
    };
    let registered = is_registered(response);
    let timer = flow_timer(response, way.on);
    if response.first(Name::FlowTimer).is_none()
        && let Some(seconds) = timer
    {
        edits.insert(response.head_end(), |text| {
            text.field("Flow-Timer", |value| {
                value.put_number(seconds);
            });
        });
    }
    if way.keeps && response.status().is_some_and(|status| matches!(status, 101..=299)) {
        // RFC 6223 section 5: where both say it, they say the same.
        fill_keep(&mut edits, response, next, timer.unwrap_or_else(|| of(KEEP, way.on)));
    }
    if let Some(proof) = way.proof.filter(|_| registered) {
        proof.put_into(&mut edits, response);
    }
    if way.on.is_reliable() {
        put_length(&mut edits, response);
    }
    edits.apply(response).ok().map(Bytes::from)
}

/// Whether a response is a 2xx to REGISTER.
fn is_registered(response: &Message) -> bool {
    response.cseq_method() == Method::Register
        && response.status().is_some_and(|status| matches!(status, 200..=299))
}

/// What Flow-Timer says in a response when it goes back: the registrar's number, else ours, in a 2xx to REGISTER
/// that has outbound in Require.
///
/// Source: RFC 5626 section 5.4; `RG-06`.
pub fn flow_timer(response: &Message, on: Transport) -> Option<u64> {
    if !is_registered(response) || !response.has_option(Name::Require, "outbound") {
        return None;
    }
    let theirs = response.first(Name::FlowTimer).and_then(split::number).filter(|it| *it > 0);
    Some(theirs.unwrap_or_else(|| of(FLOW_TIMER, on)))
}

fn of((stream, datagram): (u64, u64), on: Transport) -> u64 {
    if on.is_reliable() { stream } else { datagram }
}

/// Whether `keep` in the topmost Via of a request is answered: in a REGISTER, and where it forms a dialog that we stay
/// in the way of.
///
/// Source: RFC 6223 sections 4.2 to 4.4; `KA-04`.
pub fn keeps(request: &Message) -> bool {
    let forms = match request.method() {
        Some(Method::Register) => true,
        Some(Method::Invite | Method::Subscribe | Method::Refer) => request.to_tag().is_empty(),
        _ => false,
    };
    forms && request.top_via().is_some_and(|via| via.param("keep").is_some())
}

/// The seconds that `keep` says in a response that goes back on `on`, if it does and no Flow-Timer goes beside it.
pub(super) fn kept(keeps: bool, status: u16, on: Transport) -> Option<u64> {
    (keeps && matches!(status, 101..=299)).then(|| of(KEEP, on))
}

/// A Via value in which `keep` has its value.
pub(super) fn with_keep(value: &[u8], seconds: u64) -> Option<Vec<u8>> {
    let place = Span::within(value, keep_in(value)?);
    let (before, after) = (value.get(..place.start())?, value.get(place.end()..)?);
    Some([before, format!("keep={seconds}").as_bytes(), after].concat())
}

/// Gives `keep` in a Via its value, whatever value was there.
fn fill_keep(edits: &mut Edits, response: &Message, value: &[u8], seconds: u64) {
    let Some(param) = keep_in(value) else { return };
    edits.replace(response.span_of(param), |text| {
        text.put("keep=").put_number(seconds);
    });
}

/// `keep` in a Via value, with the value that it has.
fn keep_in(value: &[u8]) -> Option<&[u8]> {
    let via = Via::parse(value)?;
    let mut params = via.params();
    let (name, given) = params.find(|(name, _)| name.eq_ignore_ascii_case(b"keep"))?;
    let start = Span::within(value, name);
    let end = given.map_or(start, |given| Span::within(value, given));
    value.get(start.start()..end.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_gets_its_value_and_nothing_else_changes() {
        for (via, expected) in [
            (
                "SIP/2.0/UDP h;branch=z9hG4bKa;keep;rport=1",
                "SIP/2.0/UDP h;branch=z9hG4bKa;keep=30;rport=1",
            ),
            ("SIP/2.0/UDP h;KEEP", "SIP/2.0/UDP h;keep=30"),
            ("SIP/2.0/UDP h;keep = 7;x", "SIP/2.0/UDP h;keep=30;x"),
            ("SIP/2.0/UDP h;keep=", "SIP/2.0/UDP h;keep=30"),
            ("SIP/2.0/UDP h;x=\";keep\"", "SIP/2.0/UDP h;x=\";keep\""),
            ("SIP/2.0/UDP h, SIP/2.0/UDP i;keep", "SIP/2.0/UDP h, SIP/2.0/UDP i;keep"),
        ] {
            for ours in ["Via: SIP/2.0/UDP edge\r\nVia: ", "Via: SIP/2.0/UDP edge, "] {
                let text = format!("SIP/2.0 200 OK\r\n{ours}{via}\r\nCSeq: 1 INVITE\r\n\r\n");
                let response = Message::from_datagram(Bytes::from(text)).expect("well formed");
                let way = Way { proof: None, on: Transport::Udp, keeps: true };
                let octets = print(&response, Edits::new(), way).expect("printable");
                let text = String::from_utf8_lossy(&octets).into_owned();
                assert!(text.contains(&format!("\r\nVia: {expected}\r\n")), "{via}: {text}");
            }
        }
    }
}

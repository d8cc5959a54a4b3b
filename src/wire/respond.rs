//! Stage 2, replies: a response made from its request.
//!
//! Takes:   a request, or the well-formed part of one, and a status code.
//! Gives:   the octets of the response, RFC 3261 section 8.2.6: Via list, From, To, Call-ID and CSeq copied.
//! Keeps:   nothing.
//! Refuses: an ACK, and a request in which Via is missing, or From, To, Call-ID or CSeq is missing or there twice: half
//!          an answer would match nothing. A value with a line end in it.
//! Sources: RFC 3261 sections 8.2.6, 18.2.1 and 21; RFC 3581 section 4; RFC 5118 section 4.5.

use std::net::SocketAddr;

use super::host::host_address;
use super::{Address, Message, Method, Name, Text, Via};

/// What the topmost Via of a response says of where the request came from.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// What stands there already.
    Unsaid,
    /// Nothing.
    Hidden,
    /// This.
    From(SocketAddr),
}

/// A response being made.
#[derive(Debug)]
pub struct Reply<'m> {
    request: &'m Message,
    status: u16,
    to_tag: &'m [u8],
    source: Seen,
    fields: Text,
}

impl<'m> Reply<'m> {
    /// A response with `status` to `request`; the reason phrase is the registered one.
    pub fn to(request: &'m Message, status: u16) -> Self {
        Self { request, status, to_tag: b"", source: Seen::Unsaid, fields: Text::new() }
    }

    /// Adds this tag to To if the request has none there.
    pub fn to_tag(mut self, tag: &'m [u8]) -> Self {
        self.to_tag = tag;
        self
    }

    /// Where the request came from: goes into the topmost Via as `received` and `rport`.
    pub fn source(self, source: SocketAddr) -> Self {
        self.seen_from(Some(source))
    }

    /// The same; `None` keeps it a secret, and so takes away what the sender wrote of it.
    pub fn seen_from(mut self, source: Option<SocketAddr>) -> Self {
        self.source = source.map_or(Seen::Hidden, Seen::From);
        self
    }

    /// Adds a header field.
    pub fn field(mut self, name: &str, value: impl FnOnce(&mut Text)) -> Self {
        self.fields.field(name, value);
        self
    }

    /// Adds what `put` puts: whole fields.
    pub fn fields(mut self, put: impl FnOnce(&mut Text)) -> Self {
        if self.fields.is_empty() {
            self.fields = Text::with_room(USUAL);
        }
        put(&mut self.fields);
        self
    }

    /// The octets; `None` if the request is not [`answerable`], or a value would break a line.
    pub fn octets(self) -> Option<Vec<u8>> {
        if !answerable(self.request) {
            return None;
        }
        let mut text = Text::with_room(USUAL);
        text.put("SIP/2.0 ").put_number(u64::from(self.status)).put(" ").put(reason(self.status));
        text.end_line();
        let mut vias = self.request.values(Name::Via);
        let top = vias.next()?;
        let via = self.request.top_via();
        text.field("Via", |value| match self.source {
            Seen::Unsaid => put_top_via(value, top, via.as_ref(), None),
            Seen::Hidden => put_seen_via(value, top, via.as_ref(), None),
            Seen::From(source) => put_seen_via(value, top, via.as_ref(), Some(source)),
        });
        for via in vias {
            text.field("Via", |value| {
                value.put_unfolded(via);
            });
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            let value = self.request.first(name)?;
            text.field(name.as_str(), |text| match name {
                Name::To => put_to(text, value, self.to_tag),
                _ => {
                    text.put_unfolded(value);
                }
            });
        }
        let timestamp = self.request.first(Name::Timestamp).filter(|_| self.status == 100);
        if let Some(value) = timestamp.filter(|value| is_timestamp(value)) {
            text.field("Timestamp", |text| {
                text.put_unfolded(value);
            });
        }
        let fields = self.fields.finish().ok()?;
        text.put_body(&fields).field("Content-Length", |value| {
            value.put_number(0);
        });
        text.end_line();
        text.finish().ok()
    }
}

/// Whether an answer can be made: a request that is no ACK, and has Via, and From, To, Call-ID and CSeq once
/// each. They may be broken inside; then they go back as they came.
///
/// Source: RFC 3261 sections 8.2.6.2 and 17.1.1.3.
pub fn answerable(request: &Message) -> bool {
    let once = |name| {
        let mut rows = request.fields_named(name);
        rows.next().is_some_and(|value| !value.is_empty()) && rows.next().is_none()
    };
    request.method().is_some_and(|method| method != Method::Ack)
        && request.values(Name::Via).next().is_some()
        && [Name::From, Name::To, Name::CallId, Name::CSeq].into_iter().all(once)
}

/// Prints To with `tag` if it has none. One that does not parse stays as it is: what is behind an open quote would be
/// text, not a tag. A tag without value gives way to ours.
pub(crate) fn put_to(text: &mut Text, value: &[u8], tag: &[u8]) {
    let tagless = Address::parse(value).filter(|to| to.tag().is_none() && !tag.is_empty());
    match tagless {
        Some(to) => put_parsed(text, value, &to, tag),
        None => {
            text.put_unfolded(value);
        }
    }
}

/// Prints a From or To with this tag, whatever tag it had; an empty one is no tag. A value that does not parse stays as
/// it is.
pub fn put_tagged(text: &mut Text, value: &[u8], tag: &[u8]) {
    match Address::parse(value) {
        Some(address) => put_parsed(text, value, &address, tag),
        None => {
            text.put_unfolded(value);
        }
    }
}

fn put_parsed(text: &mut Text, value: &[u8], address: &Address<'_>, tag: &[u8]) {
    let params = address.params();
    let kept = value.len().saturating_sub(params.octets().len());
    text.put_unfolded(super::octets::trim(value.get(..kept).unwrap_or_default()));
    for (name, value) in params.iter() {
        if !name.eq_ignore_ascii_case(b"tag") {
            put_param(text, name, value);
        }
    }
    if !tag.is_empty() {
        text.put(";tag=").put(tag);
    }
}

pub(crate) fn put_param(text: &mut Text, name: &[u8], value: Option<&[u8]>) {
    text.put(";").put(name);
    if let Some(value) = value {
        text.put("=").put_unfolded(value);
    }
}

/// `1*DIGIT [ "." *DIGIT ] [ LWS delay ]`: nothing else is sent back.
fn is_timestamp(value: &[u8]) -> bool {
    value.len() <= 64 && value.iter().all(|octet| octet.is_ascii_digit() || b". ".contains(octet))
}

/// Prints a Via value with `received` and `rport` as the source says, whatever its sender filled in.
///
/// `received` is there when sent-by is not the source address, and always beside `rport`.
///
/// Source: RFC 3261 section 18.2.1; RFC 3581 section 4; `VIA-01`, `VIA-02`.
pub fn put_top_via(
    text: &mut Text,
    value: &[u8],
    via: Option<&Via<'_>>,
    source: Option<SocketAddr>,
) {
    let (Some(via), Some(source)) = (via, source) else {
        text.put_unfolded(value);
        return;
    };
    match without_rport(value, via) {
        Some((before, after)) => {
            text.put(before).put(after);
        }
        None => put_via_anew(text, via),
    }
    // A socket for both families shows an IPv4 peer as ::ffff:a.b.c.d; its Via says a.b.c.d.
    let address = source.ip().to_canonical();
    let asks = via.asks_rport();
    if asks || host_address(via.host()).map(|host| host.to_canonical()) != Some(address) {
        text.put(";received=").put_address(address);
    }
    if asks {
        text.put(";rport=").put_number(u64::from(source.port()));
    }
}

/// Prints a Via value as its receiver hands it on: as [`put_top_via`] with a source; without one, `received` and a filled
/// `rport` of its sender are gone.
///
/// Source: RFC 7118 section 5.3 (the address may be that of something in between, and is nobody's business); `VIA-10`.
pub fn put_seen_via(
    text: &mut Text,
    value: &[u8],
    via: Option<&Via<'_>>,
    source: Option<SocketAddr>,
) {
    match via.filter(|via| source.is_none() && (via.received.is_some() || via.rport().is_some())) {
        Some(via) => put_via_anew(text, via),
        None => put_top_via(text, value, via, source),
    }
}

/// What stands before and behind an empty `rport` in a Via that can stay as it is otherwise; most can.
fn without_rport<'v>(value: &'v [u8], via: &Via<'_>) -> Option<(&'v [u8], &'v [u8])> {
    const RPORT: &[u8] = b";rport";
    let usual = value.starts_with(b"SIP/2.0/");
    if !usual || via.received.is_some() || memchr::memchr2(b'\r', b'"', value).is_some() {
        return None;
    }
    match via.rport {
        None => Some((value, b"")),
        Some(b"") => {
            let is_there = |at: &usize| value.get(*at..).is_some_and(|it| it.starts_with(RPORT));
            let at = memchr::memchr_iter(b';', value).find(is_there)?;
            let (before, rest) = value.split_at_checked(at)?;
            let after = rest.get(RPORT.len()..)?;
            matches!(after.first(), None | Some(b';')).then_some((before, after))
        }
        Some(_) => None,
    }
}

/// A Via part by part, without what its receiver fills in.
fn put_via_anew(text: &mut Text, via: &Via<'_>) {
    text.put("SIP/2.0/").put(via.transport()).put(" ").put_unfolded(via.sent_by());
    for (name, value) in via.params() {
        if !name.eq_ignore_ascii_case(b"received") && !name.eq_ignore_ascii_case(b"rport") {
            put_param(text, name, value);
        }
    }
}

/// Octets that most responses fit into.
const USUAL: usize = 512;

/// The registered reason phrase.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(fields: &str) -> Message {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{fields}\r\n");
        match Message::from_datagram(Bytes::from(text)) {
            Ok(message) => message,
            Err(why) => *why.rest.expect("a start line"),
        }
    }

    fn reply(request: &Message) -> Option<String> {
        let source = "[2001:db8::9]:5062".parse().expect("an address");
        let reply = Reply::to(request, 400).to_tag(b"our").source(source).octets()?;
        Some(String::from_utf8(reply).expect("UTF-8"))
    }

    const REST: &str = "From: <sip:a@b>;tag=1\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

    #[test]
    fn copies_what_the_clause_names_and_nothing_else() {
        let request = message(&format!(
            "v: SIP/2.0/UDP h;rport;branch=z9hG4bKx , SIP/2.0/TCP\r\n 192.0.2.1\r\n{REST}X: y\r\nVia: SIP/2.0/UDP z\r\nt: \"T\"\r\n <sip:t@b>\r\nContent-Length: 0\r\n"
        ));
        assert_eq!(
            reply(&request).expect("answerable"),
            format!(
                "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx;received=2001:db8::9;rport=5062\r\n\
                 Via: SIP/2.0/TCP 192.0.2.1\r\nVia: SIP/2.0/UDP z\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: \"T\" <sip:t@b>;tag=our\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            )
        );
    }

    #[test]
    fn to_gets_a_tag_where_a_tag_can_be() {
        for (to, answered) in [
            ("<sip:t@b>", "<sip:t@b>;tag=our"),
            ("sip:t@b;x=1", "sip:t@b;x=1;tag=our"),
            ("<sip:t@b>;tag=theirs", "<sip:t@b>;tag=theirs"),
            ("<sip:t@b>;TAG=theirs;x", "<sip:t@b>;TAG=theirs;x"),
            ("<sip:t@b> ; tag ;x", "<sip:t@b>;x;tag=our"),
            ("<sip:t@b>;tag=", "<sip:t@b>;tag=our"),
            ("\"open <sip:t@b>", "\"open <sip:t@b>"),
            ("\"\\\0\" <sip:t@b>", "\"\\\0\" <sip:t@b>;tag=our"),
        ] {
            let request = message(&format!("Via: SIP/2.0/UDP h\r\n{REST}To: {to}\r\n"));
            let answer = reply(&request).expect("answerable");
            assert!(answer.contains(&format!("\r\nTo: {answered}\r\n")), "{to}: {answer}");
        }
    }

    #[test]
    fn half_a_request_gets_no_answer() {
        let (via, to) = ("Via: SIP/2.0/UDP h\r\n", "To: <sip:t@b>\r\n");
        for (why, fields) in [
            ("no Via", format!("{REST}{to}")),
            ("empty Via", format!("Via:\r\n{REST}{to}")),
            ("no To", format!("{via}{REST}")),
            ("empty To", format!("{via}{REST}To: \r\n")),
            ("two To", format!("{via}{REST}{to}t: <sip:x@b>\r\n")),
            ("two From", format!("{via}{REST}{to}f: <sip:x@b>\r\n")),
            ("two Call-ID", format!("{via}{REST}{to}i: d\r\n")),
            ("two CSeq", format!("{via}{REST}{to}CSeq: 2 OPTIONS\r\n")),
            ("no From, Call-ID, CSeq", format!("{via}{to}")),
        ] {
            assert_eq!(reply(&message(&fields)), None, "{why}");
        }
        for start in ["ACK sip:a@b SIP/2.0", "SIP/2.0 200 OK"] {
            let text = format!("{start}\r\n{via}{REST}{to}\r\n");
            let message = Message::from_datagram(Bytes::from(text)).expect("well formed");
            assert_eq!(reply(&message), None, "{start}");
        }
    }

    /// RFC 3261 section 18.2.1, RFC 3581 section 4, RFC 5118 section 4.5; `VIA-01`, `VIA-02`.
    #[test]
    fn top_via_says_where_the_request_came_from() {
        for (via, source, printed) in [
            (
                "SIP/2.0/UDP 192.0.2.1:5060;branch=b",
                "192.0.2.1:5060",
                "SIP/2.0/UDP 192.0.2.1:5060;branch=b",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;branch=b",
                "[::ffff:192.0.2.1]:9",
                "SIP/2.0/UDP 192.0.2.1;branch=b",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;branch=b",
                "192.0.2.2:9",
                "SIP/2.0/UDP 192.0.2.1;branch=b;received=192.0.2.2",
            ),
            ("SIP/2.0/UDP h;branch=b", "192.0.2.2:9", "SIP/2.0/UDP h;branch=b;received=192.0.2.2"),
            (
                "SIP/2.0/UDP 192.0.2.2;rport;branch=b",
                "192.0.2.2:9",
                "SIP/2.0/UDP 192.0.2.2;branch=b;received=192.0.2.2;rport=9",
            ),
            (
                "SIP/2.0/UDP h;received=10.0.0.1;rport=1;branch=b",
                "192.0.2.2:9",
                "SIP/2.0/UDP h;branch=b;received=192.0.2.2;rport=9",
            ),
            (
                "SIP/2.0/UDP 192.0.2.2;received=10.0.0.1;branch=b",
                "192.0.2.2:9",
                "SIP/2.0/UDP 192.0.2.2;branch=b",
            ),
            (
                "SIP/2.0/UDP [2001:DB8:0::1];branch=b",
                "[2001:db8::1]:9",
                "SIP/2.0/UDP [2001:DB8:0::1];branch=b",
            ),
            (
                "SIP / 2.0 / UDP  h : 7;x=\"a;b\"",
                "[2001:db8::1]:9",
                "SIP/2.0/UDP h : 7;x=\"a;b\";received=2001:db8::1",
            ),
            ("SIP/7.0/UDP h", "192.0.2.2:9", "SIP/7.0/UDP h"),
            (
                "SIP/2.0/UDP h;x=\";rport;y\";rport;branch=b",
                "192.0.2.2:9",
                "SIP/2.0/UDP h;x=\";rport;y\";branch=b;received=192.0.2.2;rport=9",
            ),
        ] {
            let mut text = Text::new();
            let (value, source) = (via.as_bytes(), source.parse().expect("an address"));
            put_top_via(&mut text, value, Via::parse(value).as_ref(), Some(source));
            let text = text.finish().expect("printable");
            assert_eq!(String::from_utf8_lossy(&text), printed, "{via} from {source}");
        }
    }

    #[test]
    fn a_timestamp_goes_back_in_100_alone() {
        let request = message(&format!(
            "Via: SIP/2.0/UDP h\r\n{REST}To: <sip:t@b>\r\nTimestamp: 54.21 0.5\r\n"
        ));
        let answer = |status| {
            let octets = Reply::to(&request, status).octets().expect("answerable");
            String::from_utf8(octets).expect("UTF-8")
        };
        assert!(answer(100).contains("\r\nTimestamp: 54.21 0.5\r\n"));
        assert!(!answer(400).contains("Timestamp"));
    }

    #[test]
    fn no_field_can_add_a_line() {
        let request = message(&format!("Via: SIP/2.0/UDP h\r\n{REST}To: <sip:t@b>\r\n"));
        let reply = Reply::to(&request, 403).field("Warning", |text| {
            text.put("x\r\nRoute: <sip:evil>");
        });
        assert_eq!(reply.octets(), None);
    }
}

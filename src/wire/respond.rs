//! Stage 2, replies: a response made from its request.
//!
//! Takes:   a request, or the well-formed part of one, and a status code.
//! Gives:   the octets of the response, RFC 3261 section 8.2.6: Via list, From, To, Call-ID and CSeq copied.
//! Keeps:   nothing.
//! Refuses: a request without Via: there is nowhere to send the answer.
//! Sources: RFC 3261 sections 8.2.6, 18.2.1 and 21; RFC 3581 section 4.

use std::net::SocketAddr;

use super::{Message, Name, Text, Via};

/// A response being made.
#[derive(Debug)]
pub struct Reply<'m> {
    request: &'m Message,
    status: u16,
    to_tag: &'m [u8],
    source: Option<SocketAddr>,
    fields: Text,
}

impl<'m> Reply<'m> {
    /// A response with `status` to `request`; the reason phrase is the registered one.
    pub fn to(request: &'m Message, status: u16) -> Self {
        Self { request, status, to_tag: b"", source: None, fields: Text::new() }
    }

    /// Adds this tag to To if the request has none there.
    pub fn to_tag(mut self, tag: &'m [u8]) -> Self {
        self.to_tag = tag;
        self
    }

    /// Where the request came from: goes into the topmost Via as `received` and `rport`.
    pub fn source(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Adds a header field.
    pub fn field(mut self, name: &str, value: impl FnOnce(&mut Text)) -> Self {
        self.fields.field(name, value);
        self
    }

    /// Adds what `put` puts: whole fields.
    pub fn fields(mut self, put: impl FnOnce(&mut Text)) -> Self {
        put(&mut self.fields);
        self
    }

    /// The octets; `None` if the request has no Via, or a value would break a line.
    pub fn octets(self) -> Option<Vec<u8>> {
        let mut text = Text::new();
        text.put("SIP/2.0 ").put_number(u64::from(self.status)).put(" ").put(reason(self.status));
        text.end_line();
        let mut vias = self.request.values(Name::Via);
        let top = vias.next()?;
        text.field("Via", |value| put_top_via(value, top, self.source));
        for via in vias {
            text.field("Via", |value| {
                value.put_unfolded(via);
            });
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            let Some(value) = self.request.first(name) else { continue };
            text.field(name.as_str(), |text| {
                text.put_unfolded(value);
                let tagless = self.request.to().is_some_and(|to| to.tag().is_none());
                if name == Name::To && !self.to_tag.is_empty() && tagless {
                    text.put(";tag=").put(self.to_tag);
                }
            });
        }
        let fields = self.fields.finish_lines()?;
        text.put_body(&fields).field("Content-Length", |value| {
            value.put_number(0);
        });
        text.end_line();
        text.finish().ok()
    }
}

impl Text {
    /// The fields put so far; `None` if one of them held a line end.
    fn finish_lines(self) -> Option<Vec<u8>> {
        self.finish().ok()
    }
}

/// Prints a Via value with `received` and `rport` as the source says, whatever its sender filled in.
///
/// `received` is there when sent-by is not the source address, and always beside `rport`.
///
/// Source: RFC 3261 section 18.2.1; RFC 3581 section 4; `VIA-01`, `VIA-02`.
pub fn put_top_via(text: &mut Text, value: &[u8], source: Option<SocketAddr>) {
    let (Some(via), Some(source)) = (Via::parse(value), source) else {
        text.put_unfolded(value);
        return;
    };
    text.put("SIP/2.0/").put(via.transport()).put(" ").put_unfolded(via.sent_by());
    for (name, value) in via.params() {
        if name.eq_ignore_ascii_case(b"received") || name.eq_ignore_ascii_case(b"rport") {
            continue;
        }
        text.put(";").put(name);
        if let Some(value) = value {
            text.put("=").put_unfolded(value);
        }
    }
    let rport = via.param("rport").is_some();
    if rport || super::uri::host_address(via.host()) != Some(source.ip()) {
        text.put(";received=").put(source.ip().to_string());
    }
    if rport {
        text.put(";rport=").put_number(u64::from(source.port()));
    }
}

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
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        _ => "Unknown",
    }
}

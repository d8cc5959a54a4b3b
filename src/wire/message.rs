//! Stage 2, the message: octets as they came, and an index over them.
//!
//! Takes:   one datagram, one WebSocket message, or what the framer cut out of a stream.
//! Gives:   [`Message`], from which later stages read one header at a time, borrowed.
//! Keeps:   the octets, by reference count; nothing is copied or allocated for a header.
//! Refuses: what the scanner refuses, more than 256 KiB, and a Content-Length that is wrong or not alone. The refusal carries
//!          the well-formed part, so that it can be answered.
//! Sources: RFC 3261 sections 7, 18.3 and 20.14; `TR-03`, `TR-04`, `TR-07`, `TR-15`.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::marks::Marks;
use super::names::{Method, Name};
use super::scan::{self, Field, Scan, Start};
use super::{Fault, Span, split};

/// Longest message on a flow that nobody has authenticated: 64 KiB.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// Longest message on a flow of an authenticated peer: 256 KiB.
pub const MESSAGE_MAX_KNOWN: usize = 256 * 1024;

/// A request or a response: what arrived, unchanged, with an index.
///
/// A copy costs one reference count.
#[derive(Clone, Debug)]
pub struct Message {
    index: Arc<Index>,
}

/// The octets, and where everything is in them.
#[derive(Debug)]
struct Index {
    octets: Bytes,
    start: Start,
    fields: SmallVec<[Field; 24]>,
    /// The names that are there, by [`Name::bit`].
    present: u128,
    /// Those of more than one field.
    repeated: u128,
    blank: usize,
    body: Span,
    marks: Marks,
}

/// Octets that are no message, and what is wrong with them.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// The first thing that was wrong.
    pub fault: Fault,
    /// The well-formed part, if there was a start line: enough to answer from, and for nothing else.
    pub rest: Option<Box<Message>>,
}

impl Message {
    /// Parses one datagram: what follows the body is dropped, what it lacks is a fault.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with the first fault of the scanner or of Content-Length.
    ///
    /// Source: RFC 3261 section 18.3.
    pub fn from_datagram(octets: Bytes) -> Result<Self, Malformed> {
        let scan = scan::scan(&octets);
        let too_long = (octets.len() > MESSAGE_MAX_KNOWN).then_some(Fault::MessageTooLong);
        let (mut octets, mut fault) = (octets, too_long.or(scan.fault));
        if fault.is_none() {
            match scan.content_length(&octets) {
                Ok(None) => {}
                Ok(Some(length)) => match scan.body.checked_add(length) {
                    Some(end) if end <= octets.len() => octets.truncate(end),
                    _ => fault = Some(Fault::BodyShort),
                },
                Err(wrong) => fault = Some(wrong),
            }
        }
        match (Self::index(octets, scan), fault) {
            (Some(message), None) => Ok(message),
            (rest, fault) => {
                let fault = fault.unwrap_or(Fault::StartLine);
                Err(Malformed { fault, rest: rest.map(Box::new) })
            }
        }
    }

    /// Parses what one WebSocket message holds: one SIP message, whole, and nothing else. Content-Length may be absent.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with the first fault of the scanner, or of a Content-Length that is not the length of the body.
    ///
    /// Source: RFC 7118 section 5; V-13.
    pub fn from_websocket(octets: Bytes) -> Result<Self, Malformed> {
        let scan = scan::scan(&octets);
        let body = octets.len().saturating_sub(scan.body);
        let length = || match scan.content_length(&octets) {
            Ok(None) => None,
            Ok(Some(length)) if length == body => None,
            Ok(Some(length)) if length > body => Some(Fault::BodyShort),
            _ => Some(Fault::ContentLength),
        };
        let fault = scan.fault.or_else(length);
        match (Self::index(octets, scan), fault) {
            (Some(message), None) => Ok(message),
            (rest, fault) => {
                let fault = fault.unwrap_or(Fault::StartLine);
                Err(Malformed { fault, rest: rest.map(Box::new) })
            }
        }
    }

    /// Indexes octets that were just scanned; `None` if there was no start line.
    pub(super) fn index(octets: Bytes, scan: Scan) -> Option<Self> {
        let Scan { start, fields, blank, body, .. } = scan;
        let (start, body) = (start?, Span::new(body, octets.len()));
        let (present, repeated) = fields.iter().fold((0, 0), |(present, repeated), field| {
            let bit = field.name.bit();
            (present | bit, repeated | present & bit)
        });
        let marks = Marks::find(&octets, start, &fields);
        let index = Index { octets, start, fields, present, repeated, blank, body, marks };
        Some(Self { index: Arc::new(index) })
    }

    /// What was parsed once.
    pub(super) fn marks(&self) -> &Marks {
        &self.index.marks
    }

    /// The value of Content-Length, in octets.
    ///
    /// # Errors
    ///
    /// [`Fault::ContentLength`] if it is there more than once, or not one decimal number below 2^32.
    pub fn content_length(&self) -> Result<Option<usize>, Fault> {
        scan::content_length(self.rows(Name::ContentLength), &self.index.octets)
    }

    /// Whether a header of that name is there.
    pub fn has(&self, name: Name) -> bool {
        self.index.present & name.bit() != 0
    }

    /// Whether there is more than one field of a name in `names`, which are a set of [`Name::bit`].
    pub(super) fn repeats(&self, names: u128) -> bool {
        self.index.repeated & names != 0
    }

    /// All its octets.
    pub fn octets(&self) -> &Bytes {
        &self.index.octets
    }

    /// The first line.
    pub fn start(&self) -> Start {
        self.index.start
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// The method of a request; `None` for a response.
    pub fn method(&self) -> Option<Method> {
        match self.index.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The octets of the method; empty for a response.
    pub fn method_octets(&self) -> &[u8] {
        match self.index.start {
            Start::Request { method_span, .. } => method_span.of(&self.index.octets),
            Start::Response { .. } => b"",
        }
    }

    /// The octets of the Request-URI; empty for a response.
    pub fn request_uri(&self) -> &[u8] {
        self.request_uri_span().of(&self.index.octets)
    }

    /// Where the Request-URI is; empty for a response.
    pub fn request_uri_span(&self) -> Span {
        match self.index.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => Span::default(),
        }
    }

    /// The status code of a response; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// All fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.index.fields
    }

    /// The values of all fields of that name, one for each row; `name` must not be `Other`.
    pub fn fields_named(&self, name: Name) -> impl Iterator<Item = &[u8]> + Clone {
        self.rows(name).map(|field| field.value().of(&self.index.octets))
    }

    /// All rows of that name.
    pub fn rows(&self, name: Name) -> impl Iterator<Item = &Field> + Clone {
        let fields: &[Field] = if self.has(name) { &self.index.fields } else { &[] };
        fields.iter().filter(move |field| field.name == name)
    }

    /// The value of the first field of that name.
    pub fn first(&self, name: Name) -> Option<&[u8]> {
        self.fields_named(name).next()
    }

    /// The values of all fields of a name for which there is no [`Name`], compared without case.
    pub fn fields_called<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m [u8]> + Clone {
        self.rows(Name::Other)
            .filter(move |field| {
                field.name_span().of(&self.index.octets).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|field| field.value().of(&self.index.octets))
    }

    /// The comma-separated values of all fields of that name, in order, trimmed. Not for Authorization and its
    /// kin, whose commas lie inside one value (RFC 3261 section 7.3.1).
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> + Clone {
        self.fields_named(name).flat_map(split::commas)
    }

    /// The body, exactly as it came.
    pub fn body(&self) -> &[u8] {
        self.index.body.of(&self.index.octets)
    }

    /// Where the blank line begins: fields are added there.
    pub fn head_end(&self) -> usize {
        self.index.blank
    }

    /// Where the first field begins, behind the start line.
    pub fn head_start(&self) -> usize {
        self.index.fields.first().map_or(self.index.blank, |field| field.line().start())
    }

    /// The reason phrase of a response, as written; empty for a request.
    pub fn reason(&self) -> &[u8] {
        match self.index.start {
            Start::Request { .. } => b"",
            Start::Response { reason, .. } => reason.of(&self.index.octets),
        }
    }

    /// The place of `part`, which must have been borrowed from this message.
    pub fn span_of(&self, part: &[u8]) -> Span {
        Span::within(&self.index.octets, part)
    }
}

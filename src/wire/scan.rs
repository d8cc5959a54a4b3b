//! Stage 2, the scanner: one walk over start line and header block, and the only grammar there is for them.
//!
//! Takes:   octets that begin with a start line; the framer and the parser both come here.
//! Gives:   [`Scan`]: where the start line, each field and the body are. It copies nothing.
//! Keeps:   nothing. Bounds: start line and field 8 KiB, header block 64 KiB, 256 fields.
//! Refuses: a line that does not end in CRLF, a name that is no token, a missing colon, a start line with other
//!          than single spaces, and whatever is over a bound. The walk goes on after a fault, so that
//!          the answer can still copy the fields that were well formed; a start line whose parts can be told
//!          apart is given with its fault.
//! Sources: RFC 3261 sections 7.1 to 7.3.1 and 25.1.

use memchr::{memchr, memchr2, memrchr};
use smallvec::SmallVec;

use super::names::{Method, Name};
use super::{Fault, Span, steps};

pub use super::octets::{is_space, is_token, is_token_octet, trim};

/// Longest start line, longest field (name, value, folds): 8 KiB.
pub const LINE_MAX: usize = 8 * 1024;
/// Longest header block, start line and blank line included: 64 KiB.
pub const HEAD_MAX: usize = 64 * 1024;
/// Most header fields.
pub const FIELDS_MAX: usize = 256;

/// What the first line said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `METHOD SP Request-URI SP SIP/2.0`
    Request {
        /// The method, `Other` if it is none we know.
        method: Method,
        /// Where its octets are.
        method_span: Span,
        /// Where the Request-URI is.
        uri: Span,
    },
    /// `SIP/2.0 SP 3DIGIT SP reason`
    Response {
        /// 100 to 699.
        status: u16,
        /// Where the reason phrase is; it may be empty.
        reason: Span,
    },
}

/// One header field: its name and where it lies, in sixteen octets. A field has at most [`LINE_MAX`] of them.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, compact form or not.
    pub name: Name,
    start: u32,
    name_length: u16,
    /// From `start`.
    value_start: u16,
    value_length: u16,
    line_length: u16,
}

impl Field {
    /// The field that begins at `start`; `None` if a part of it is longer than a field may be.
    fn new(name: Name, start: usize, name_length: usize, value: Span, end: usize) -> Option<Self> {
        let short = |length: usize| u16::try_from(length).ok();
        Some(Self {
            name,
            start: u32::try_from(start).ok()?,
            name_length: short(name_length)?,
            value_start: short(value.start().checked_sub(start)?)?,
            value_length: short(value.end().checked_sub(value.start())?)?,
            line_length: short(end.checked_sub(start)?)?,
        })
    }

    fn span(&self, from: u16, length: u16) -> Span {
        let from = (self.start as usize).saturating_add(usize::from(from));
        Span::new(from, from.saturating_add(usize::from(length)))
    }

    /// The octets of the name.
    pub fn name_span(&self) -> Span {
        self.span(0, self.name_length)
    }

    /// The value without white space around it; folds stay inside.
    pub fn value(&self) -> Span {
        self.span(self.value_start, self.value_length)
    }

    /// The whole line or lines, CRLF included.
    pub fn line(&self) -> Span {
        self.span(0, self.line_length)
    }
}

/// The places of everything up to the body.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The first line; `None` if nothing can be made of it.
    pub start: Option<Start>,
    /// Well-formed fields in order.
    pub fields: SmallVec<[Field; 24]>,
    /// Where the blank line begins.
    pub blank: usize,
    /// Where the body begins.
    pub body: usize,
    /// The first thing that was wrong.
    pub fault: Option<Fault>,
}

impl Scan {
    /// The value of Content-Length, in octets; as [`content_length`].
    pub(super) fn content_length(&self, octets: &[u8]) -> Result<Option<usize>, Fault> {
        content_length(self.fields.iter().filter(|field| field.name == Name::ContentLength), octets)
    }
}

/// The one number that rows of Content-Length say.
///
/// # Errors
///
/// [`Fault::ContentLength`] if there is more than one row, or it is no decimal number below 2^32.
pub(super) fn content_length<'f>(
    mut rows: impl Iterator<Item = &'f Field>,
    octets: &[u8],
) -> Result<Option<usize>, Fault> {
    let Some(row) = rows.next() else { return Ok(None) };
    let number = super::split::number(row.value().of(octets)).and_then(|it| u32::try_from(it).ok());
    match number {
        Some(number) if rows.next().is_none() => Ok(Some(number as usize)),
        _ => Err(Fault::ContentLength),
    }
}

/// Walks `octets` from the first octet of the start line to the blank line.
pub fn scan(octets: &[u8]) -> Scan {
    let mut walk = Walk { octets, at: 0, fault: None };
    let start = walk.start_line();
    let mut fields = SmallVec::new();
    let mut blank = octets.len();
    while walk.at < octets.len() {
        if walk.rest().starts_with(b"\r\n") {
            blank = walk.at;
            break;
        }
        let Some(field) = walk.plain_field().or_else(|| walk.field()) else { continue };
        if fields.len() < FIELDS_MAX {
            fields.push(field);
        } else {
            walk.note(Fault::TooManyFields);
        }
    }
    let body = if blank < octets.len() { blank.saturating_add(2) } else { octets.len() };
    if blank == octets.len() {
        walk.note(Fault::NoBlankLine);
    }
    if body > HEAD_MAX {
        walk.note(Fault::HeadTooLong);
    }
    Scan { start, fields, blank, body, fault: walk.fault }
}

struct Walk<'a> {
    octets: &'a [u8],
    at: usize,
    fault: Option<Fault>,
}

impl<'a> Walk<'a> {
    fn rest(&self) -> &'a [u8] {
        self.octets.get(self.at..).unwrap_or_default()
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The next line without its CRLF, and whether it was clean; the walk stands behind it.
    fn line(&mut self) -> (&'a [u8], bool) {
        let rest = self.rest();
        // In a clean line, the first CR or LF is the CR that ends it.
        let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        if rest.get(end..).is_some_and(|tail| tail.starts_with(b"\r\n")) {
            steps::count(end);
            self.at = self.at.saturating_add(end).saturating_add(2);
            return (rest.get(..end).unwrap_or_default(), true);
        }
        self.broken_line(rest)
    }

    /// A line with a bare CR or LF in it, or without an end.
    fn broken_line(&mut self, rest: &'a [u8]) -> (&'a [u8], bool) {
        let Some(end) = memchr(b'\n', rest) else {
            steps::count(rest.len());
            self.at = self.octets.len();
            self.note(Fault::NoBlankLine);
            return (rest, false);
        };
        steps::count(end);
        let line = rest.get(..end).unwrap_or_default();
        self.at = self.at.saturating_add(end).saturating_add(1);
        self.note(Fault::BareLineEnd);
        (line.strip_suffix(b"\r").unwrap_or(line), false)
    }

    fn start_line(&mut self) -> Option<Start> {
        let (line, clean) = self.line();
        if line.len() > LINE_MAX {
            self.note(Fault::LineTooLong);
            return None;
        }
        if !clean {
            return None;
        }
        let first_word = line.get(..memchr(b' ', line).unwrap_or(line.len())).unwrap_or_default();
        let start =
            if is_version(first_word) { self.status_line(line) } else { self.request_line(line) };
        if start.is_none() {
            self.note(Fault::StartLine);
        }
        start
    }

    /// `Method SP Request-URI SP SIP-Version`. White space in other places is a fault, but the three parts are
    /// given all the same: such a request is answered.
    fn request_line(&mut self, line: &[u8]) -> Option<Start> {
        let (method, rest) = line.split_at_checked(memchr(b' ', line)?)?;
        let rest = trim(rest);
        let (uri, version) = rest.split_at_checked(memrchr(b' ', rest)?)?;
        let (uri, version) = (trim(uri), version.get(1..)?);
        if !is_token(method) || uri.is_empty() || !is_version(version) {
            return None;
        }
        let length = method.len().checked_add(uri.len())?.checked_add(version.len())?;
        if length.checked_add(2)? != line.len() || uri.iter().any(|octet| is_space(*octet)) {
            self.note(Fault::StartLine);
        }
        if !is_our_version(version) {
            self.note(Fault::Version);
        }
        Some(Start::Request {
            method: Method::of(method),
            method_span: Span::within(self.octets, method),
            uri: Span::within(self.octets, uri),
        })
    }

    /// `SIP-Version SP 3DIGIT SP [Reason-Phrase]`.
    fn status_line(&mut self, line: &[u8]) -> Option<Start> {
        let (version, rest) = line.split_at_checked(memchr(b' ', line)?)?;
        if !is_our_version(version) {
            self.note(Fault::Version);
        }
        let (digits, reason) = rest.get(1..)?.split_at_checked(3)?;
        let status = u16::try_from(super::split::number(digits)?).ok()?;
        let reason = reason.strip_prefix(b" ")?;
        (100..700)
            .contains(&status)
            .then(|| Start::Response { status, reason: Span::within(self.octets, reason) })
    }

    /// One field on one line, as nearly all are; `None`, and nothing walked over, if it is anything else.
    fn plain_field(&mut self) -> Option<Field> {
        let rest = self.rest();
        let name_length = rest.iter().position(|octet| !is_token_octet(*octet))?;
        let (name, behind) = rest.split_at_checked(name_length)?;
        let value = behind.strip_prefix(b":")?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let end = memchr2(b'\r', b'\n', value)?;
        let (value, behind) = value.split_at_checked(end)?;
        let spaced = |octet: Option<&u8>| octet.is_none_or(|octet| is_space(*octet));
        let plain = matches!(behind, [b'\r', b'\n', next, ..] if !matches!(next, b' ' | b'\t'));
        if name.is_empty() || !plain || spaced(value.first()) || spaced(value.last()) {
            return None;
        }
        let whole = rest.len().checked_sub(behind.len())?.checked_add(2)?;
        if whole > LINE_MAX {
            return None;
        }
        let value_start = self.at.checked_add(whole)?.checked_sub(value.len().checked_add(2)?)?;
        let value = Span::new(value_start, value_start.checked_add(value.len())?);
        let (start, end) = (self.at, self.at.checked_add(whole)?);
        let field = Field::new(Name::of(name), start, name_length, value, end)?;
        steps::count(whole);
        self.at = end;
        Some(field)
    }

    /// One field with its folded lines; `None` if it is not well formed.
    fn field(&mut self) -> Option<Field> {
        let from = self.at;
        let (first, mut clean) = self.line();
        while matches!(self.rest().first(), Some(b' ' | b'\t')) {
            clean &= self.line().1;
        }
        if self.at.saturating_sub(from) > LINE_MAX {
            self.note(Fault::LineTooLong);
            return None;
        }
        if !clean {
            return None; // a bare line end inside: nothing of it is used
        }
        let name_length = first.iter().take_while(|octet| is_token_octet(**octet)).count();
        steps::count(name_length);
        let (name, rest) = first.split_at_checked(name_length)?;
        let colon = rest.iter().position(|octet| !matches!(octet, b' ' | b'\t'));
        let colon = colon.filter(|at| rest.get(*at) == Some(&b':') && !name.is_empty());
        let Some(colon) = colon else {
            self.note(Fault::HeaderName);
            return None;
        };
        let value_from = from.saturating_add(name_length).saturating_add(colon).saturating_add(1);
        // The line's own CRLF is behind the value.
        let value_end = self.at.saturating_sub(2);
        let value = trimmed(self.octets, value_from, value_end);
        Field::new(Name::of(name), from, name_length, value, self.at)
    }
}

/// The part of `octets` from `from` to `end` without white space at either end; an empty one lies at `from`.
fn trimmed(octets: &[u8], from: usize, end: usize) -> Span {
    let value = octets.get(from..end).unwrap_or_default();
    let front = value.iter().take_while(|octet| is_space(**octet)).count();
    let back = value.iter().rev().take_while(|octet| is_space(**octet)).count();
    steps::count(front.saturating_add(back));
    if front == value.len() {
        return Span::new(from, from);
    }
    Span::new(from.saturating_add(front), end.saturating_sub(back))
}

/// `"SIP" "/" 1*DIGIT "." 1*DIGIT`: a version, ours or not.
fn is_version(octets: &[u8]) -> bool {
    let Some((name, number)) = octets.split_at_checked(4) else { return false };
    if !name.eq_ignore_ascii_case(b"SIP/") {
        return false;
    }
    let mut parts = number.split(|octet| *octet == b'.');
    let digits = |part: Option<&[u8]>| {
        part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
    };
    digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
}

/// Whether a version that passed [`is_version`] is SIP/2.0.
fn is_our_version(version: &[u8]) -> bool {
    version.get(4..) == Some(b"2.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(octets: &[u8]) -> Option<Fault> {
        scan(octets).fault
    }

    #[test]
    fn finds_what_is_there() {
        let octets = b"OPTIONS sip:a@b SIP/2.0\r\nv : x,\r\n\ty\r\nl:0\r\n\r\nbody";
        let found = scan(octets);
        assert_eq!(found.fault, None);
        assert!(matches!(found.start, Some(Start::Request { method: Method::Options, .. })));
        assert_eq!(found.fields.len(), 2);
        assert_eq!(found.fields[0].name, Name::Via);
        assert_eq!(found.fields[0].value().of(octets), b"x,\r\n\ty");
        assert_eq!(&octets[found.body..], b"body");
    }

    #[test]
    fn refuses_each_fault_by_name() {
        for (octets, expected) in [
            (&b"OPTIONS  sip:a SIP/2.0\r\n\r\n"[..], Fault::StartLine),
            (b"OPTIONS sip:a SIP/2.0 \r\n\r\n", Fault::StartLine),
            (b"OPTIONS sip:a; lr SIP/2.0\r\n\r\n", Fault::StartLine),
            (b"OPTIONS sip:a SIP/2\r\n\r\n", Fault::StartLine),
            (b"OPTIONS sip:a HTTP/1.1\r\n\r\n", Fault::StartLine),
            (b"OPTIONS sip:a\r\n\r\n", Fault::StartLine),
            (b"\r\nOPTIONS sip:a SIP/2.0\r\n\r\n", Fault::StartLine),
            (b"OPTIONS sip:a SIP/3.0\r\n\r\n", Fault::Version),
            (b"SIP/12.0 200 OK\r\n\r\n", Fault::Version),
            (b"SIP/2.0 200\r\n\r\n", Fault::StartLine),
            (b"SIP/2.0 4294967301 x\r\n\r\n", Fault::StartLine),
            (b"SIP/2.0 +20 x\r\n\r\n", Fault::StartLine),
            (b"SIP/2.0 999 x\r\n\r\n", Fault::StartLine),
            (b"OPTIONS sip:a SIP/2.0\r\nA: 1\nB: 2\r\n\r\n", Fault::BareLineEnd),
            (b"OPTIONS sip:a SIP/2.0\r\nA: 1\rB: 2\r\n\r\n", Fault::BareLineEnd),
            (b"OPTIONS sip:a SIP/2.0\r\nA 1\r\n\r\n", Fault::HeaderName),
            (b"OPTIONS sip:a SIP/2.0\r\nA\0: 1\r\n\r\n", Fault::HeaderName),
            (b"OPTIONS sip:a SIP/2.0\r\n A: 1\r\n\r\n", Fault::HeaderName),
            (b"OPTIONS sip:a SIP/2.0\r\n: 1\r\n\r\n", Fault::HeaderName),
            (b"OPTIONS sip:a SIP/2.0\r\nA: 1\r\n", Fault::NoBlankLine),
        ] {
            assert_eq!(fault(octets), Some(expected), "{}", String::from_utf8_lossy(octets));
        }
    }

    #[test]
    fn a_start_line_with_spaces_too_many_can_still_be_answered() {
        let octets = b"INVITE  sip:a@b;  lr  SIP/2.0 \r\n\r\n";
        let found = scan(octets);
        assert_eq!(found.fault, Some(Fault::StartLine));
        let Some(Start::Request { method: Method::Invite, uri, .. }) = found.start else {
            panic!("{:?}", found.start)
        };
        assert_eq!(uri.of(octets), b"sip:a@b;  lr");
    }

    /// Two broken fields: neither is used, though only the first is named.
    #[test]
    fn no_field_with_a_bare_line_end_is_used() {
        let octets = b"OPTIONS sip:a SIP/2.0\r\nA 1\r\nB: 2\rx\r\nC: 3\n 4\r\nD: 5\r\n\r\n";
        let found = scan(octets);
        assert_eq!(found.fault, Some(Fault::HeaderName));
        assert_eq!(found.fields.len(), 1);
        assert_eq!(found.fields[0].value().of(octets), b"5");
    }

    #[test]
    fn version_is_compared_without_case() {
        assert_eq!(fault(b"OPTIONS sip:a sIp/2.0\r\n\r\n"), None);
        assert_eq!(fault(b"sip/2.0 200 OK\r\n\r\n"), None);
    }
}

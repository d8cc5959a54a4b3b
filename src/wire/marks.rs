//! Stage 2, marks: what nearly every stage asks of a message, parsed once.
//!
//! Takes:   the octets of a message and the fields that the scanner found.
//! Gives:   [`Marks`]: Request-URI, topmost Via, From, To, CSeq, and the first Contact and Route, as places in the octets,
//!          read back by the message.
//! Keeps:   some 500 octets for each message, whatever its length.
//! Refuses: nothing; what does not parse has no mark, and `check` refuses it.
//! Sources: RFC 3261 sections 8.1.1 and 20.

use super::headers::CSeq;
use super::params::Params;
use super::scan::{Field, Start};
use super::uri::Scheme;
use super::{Address, Method, Name, Span, Uri, Via, split};

/// The places of what is asked for most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) uri: Option<UriMarks>,
    pub(super) via: Option<ViaMarks>,
    pub(super) from: Option<AddressMarks>,
    pub(super) to: Option<AddressMarks>,
    pub(super) cseq: Option<CSeqMarks>,
    contact: Option<AddressMarks>,
    route: Option<AddressMarks>,
}

impl Marks {
    /// The first value of a header that lists addresses, if it is kept here and did parse.
    pub(super) fn first_of(&self, name: Name) -> Option<&AddressMarks> {
        match name {
            Name::Contact => self.contact.as_ref(),
            Name::Route => self.route.as_ref(),
            _ => None,
        }
    }

    /// Finds them.
    pub(super) fn find(octets: &[u8], start: Start, fields: &[Field]) -> Self {
        let first = |name: Name| {
            fields.iter().find(|field| field.name == name).map(|field| field.value().of(octets))
        };
        let parse = |value| Address::parse(value).map(|found| AddressMarks::of(octets, &found));
        let address = |name| first(name).and_then(parse);
        let first_address = |name: Name| {
            let rows = fields.iter().filter(|field| field.name == name);
            rows.flat_map(|field| split::commas(field.value().of(octets))).next().and_then(parse)
        };
        let uri = match start {
            Start::Request { uri, .. } => Uri::parse(uri.of(octets)),
            Start::Response { .. } => None,
        };
        let via = first(Name::Via).and_then(|row| split::commas(row).next()).and_then(Via::parse);
        let cseq = first(Name::CSeq).and_then(CSeq::parse);
        Self {
            uri: uri.map(|uri| UriMarks::of(octets, &uri)),
            via: via.map(|via| ViaMarks::of(octets, &via)),
            from: address(Name::From),
            to: address(Name::To),
            contact: first_address(Name::Contact),
            route: first_address(Name::Route),
            cseq: cseq.map(|cseq| CSeqMarks {
                number: cseq.number,
                method: Span::within(octets, cseq.method),
                known: Method::of(cseq.method),
            }),
        }
    }
}

/// A CSeq.
#[derive(Clone, Copy, Debug)]
pub(super) struct CSeqMarks {
    pub(super) number: u32,
    pub(super) method: Span,
    pub(super) known: Method,
}

/// A URI.
#[derive(Clone, Copy, Debug)]
pub(super) struct UriMarks {
    whole: Span,
    scheme: Scheme,
    user: Option<Span>,
    host: Span,
    port: Option<u16>,
    params: Span,
    headers: Span,
}

impl UriMarks {
    fn of(octets: &[u8], uri: &Uri<'_>) -> Self {
        let span = |part| Span::within(octets, part);
        Self {
            whole: span(uri.octets),
            scheme: uri.scheme,
            user: uri.user.map(span),
            host: span(uri.host),
            port: uri.port,
            params: span(uri.params),
            headers: span(uri.headers),
        }
    }

    /// The URI again.
    pub(super) fn read<'m>(&self, octets: &'m [u8]) -> Uri<'m> {
        Uri {
            octets: self.whole.of(octets),
            scheme: self.scheme,
            user: self.user.map(|user| user.of(octets)),
            host: self.host.of(octets),
            port: self.port,
            params: self.params.of(octets),
            headers: self.headers.of(octets),
        }
    }
}

/// A Via.
#[derive(Clone, Copy, Debug)]
pub(super) struct ViaMarks {
    transport: Span,
    host: Span,
    port: Option<u16>,
    sent_by: Span,
    params: Span,
    branch: Option<Span>,
    rport: Option<Span>,
    received: Option<Span>,
}

impl ViaMarks {
    fn of(octets: &[u8], via: &Via<'_>) -> Self {
        let span = |part| Span::within(octets, part);
        Self {
            transport: span(via.transport),
            host: span(via.host),
            port: via.port,
            sent_by: span(via.sent_by),
            params: span(via.params.octets()),
            branch: via.branch.map(span),
            rport: via.rport.map(span),
            received: via.received.map(span),
        }
    }

    /// Its branch; empty if it has none.
    pub(super) fn branch<'m>(&self, octets: &'m [u8]) -> &'m [u8] {
        self.branch.map(|branch| branch.of(octets)).unwrap_or_default()
    }

    /// The Via again.
    pub(super) fn read<'m>(&self, octets: &'m [u8]) -> Via<'m> {
        Via {
            transport: self.transport.of(octets),
            host: self.host.of(octets),
            port: self.port,
            sent_by: self.sent_by.of(octets),
            params: Params::known(self.params.of(octets)),
            branch: self.branch.map(|branch| branch.of(octets)),
            rport: self.rport.map(|rport| rport.of(octets)),
            received: self.received.map(|received| received.of(octets)),
        }
    }
}

/// A From or To.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressMarks {
    display: Span,
    uri: UriMarks,
    in_brackets: bool,
    params: Span,
    /// Empty if it has none.
    tag: Span,
}

impl AddressMarks {
    fn of(octets: &[u8], address: &Address<'_>) -> Self {
        let span = |part| Span::within(octets, part);
        Self {
            display: span(address.display),
            uri: UriMarks::of(octets, &address.uri),
            in_brackets: address.in_brackets,
            params: span(address.params.octets()),
            tag: span(address.tag().unwrap_or_default()),
        }
    }

    /// The address again.
    pub(super) fn read<'m>(&self, octets: &'m [u8]) -> Address<'m> {
        Address {
            display: self.display.of(octets),
            uri: self.uri.read(octets),
            in_brackets: self.in_brackets,
            params: Params::known(self.params.of(octets)),
            tag: Some(self.tag(octets)),
        }
    }

    /// Its tag; empty if it has none.
    pub(super) fn tag<'m>(&self, octets: &'m [u8]) -> &'m [u8] {
        self.tag.of(octets)
    }
}

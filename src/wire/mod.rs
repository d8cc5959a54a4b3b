//! Stage 2, wire: octets become a message whose headers can be asked for, and edits become octets.
//!
//! Takes:   a datagram, or a stream's octets through the framer.
//! Gives:   [`Message`], an index over the octets as they came; lazily read headers; [`Edits`] and
//!          [`Reply`] for what leaves.
//! Keeps:   nothing between messages, but for the framer's place in its stream.
//! Refuses: by [`Fault`], a name for each way in which octets can fail to be SIP.
//! Sources: RFC 3261 sections 7, 18.3, 19, 20, 25; RFC 4475; RFC 5118.

pub mod address;
pub mod auth;
pub mod check;
pub mod device;
pub mod dialogs;
pub mod edit;
pub mod entity;
pub mod features;
pub mod frame;
pub mod headers;
mod host;
mod marks;
pub mod media;
pub mod message;
pub mod names;
pub(crate) mod octets;
pub mod params;
pub mod respond;
mod sameness;
pub mod scan;
pub mod sec_agree;
mod span;
pub mod split;
mod steps;
pub mod uri;
pub mod via;

pub use address::Address;
pub use auth::{AuthenticationInfo, Challenge, Credentials};
pub use dialogs::{DialogRef, Event, RAck, SessionExpires, SubscriptionState};
pub use edit::{Edits, Text, Unprintable};
pub use features::{Claim, Features};
pub use frame::{Framed, Framer};
pub use media::MediaType;
pub use message::{Malformed, Message};
pub use names::{Method, Name};
pub use respond::Reply;
pub use scan::{Field, Start};
pub use sec_agree::Mechanism;
pub use span::Span;
pub use uri::Uri;
pub use via::Via;

/// What is wrong with octets that should have been SIP.
///
/// Each has one answer, given by [`Fault::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The first line is neither a request line nor a status line, or has white space too many.
    StartLine,
    /// SIP, but another version than 2.0.
    Version,
    /// A bare CR or LF in the head.
    BareLineEnd,
    /// A field without a name, with an octet in it that no name may have, or without a colon.
    HeaderName,
    /// No blank line ends the head.
    NoBlankLine,
    /// A start line or a field over 8 KiB.
    LineTooLong,
    /// More than 256 fields.
    TooManyFields,
    /// A head over 64 KiB.
    HeadTooLong,
    /// A message over the bound of its flow.
    MessageTooLong,
    /// Content-Length missing on a stream, not one number, there twice, or less than what a WebSocket message holds.
    ContentLength,
    /// A datagram or WebSocket message that ends before its body does.
    BodyShort,
    /// Via, From, To, Call-ID or CSeq missing.
    HeaderMissing,
    /// A header of which one is allowed, there twice.
    HeaderTwice,
    /// Via, From, To, Call-ID or CSeq that does not parse.
    HeaderMalformed,
    /// A Contact, Route or Record-Route that had to be read and does not parse.
    AddressMalformed,
    /// A Request-URI that does not parse.
    UriMalformed,
    /// A Request-URI whose scheme is none of sip, sips, tel.
    UriScheme,
    /// CSeq names another method than the first line, both known.
    MethodMismatch,
    /// CSeq names another method than a first line whose method is unknown here.
    MethodUnknown,
    /// Max-Forwards over 255 or no number.
    HopsMalformed,
    /// More than 64 Via, 32 Route or 16 Contact values.
    TooManyValues,
    /// A branch without the cookie of RFC 3261.
    BranchOld,
    /// Credentials that do not parse, or contradict themselves.
    CredentialsMalformed,
    /// A Max-Breadth that is no number or zero.
    BreadthMalformed,
}

impl Fault {
    /// The status code a request with this fault is answered with.
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::UriScheme => 416,
            Self::MethodUnknown => 501,
            Self::HeadTooLong | Self::MessageTooLong => 513,
            Self::StartLine
            | Self::LineTooLong
            | Self::BareLineEnd
            | Self::HeaderName
            | Self::NoBlankLine
            | Self::TooManyFields
            | Self::ContentLength
            | Self::BodyShort
            | Self::HeaderMissing
            | Self::HeaderTwice
            | Self::HeaderMalformed
            | Self::AddressMalformed
            | Self::UriMalformed
            | Self::MethodMismatch
            | Self::HopsMalformed
            | Self::TooManyValues
            | Self::BranchOld
            | Self::CredentialsMalformed
            | Self::BreadthMalformed => 400,
        }
    }
}

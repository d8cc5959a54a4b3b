//! The journey, clues: which line of a message decided, and the names of the rules.
//!
//! Takes:   why a message goes no further, or what its sender showed; the message.
//! Gives:   [`Clue`], the first of the lines that were looked at, by its number; [`RULES`].
//! Keeps:   nothing.
//! Refuses: responses, nonces and tokens: of credentials only who, where and which count are shown (V-49).
//! Sources: `dialog-association` section 7; RFC 3261 section 7.3.3 (compact forms).

use crate::authentication::Kind;
use crate::refusal::Refusal;
use crate::wire::{Credentials, Fault, Message};

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clue {
    /// The number of the line, the first being 1; `None` if what was looked for is not there, or is no line.
    pub line: Option<usize>,
    /// The line, or what was looked for.
    pub text: String,
}

/// Where the reason of a refusal stands.
enum Look {
    /// In the first line.
    Start,
    /// In the first of these headers that is there.
    At(&'static [&'static str]),
    /// In the body.
    Body,
    /// In what is known, not in what came.
    Known(&'static str),
}

impl Clue {
    /// What a refusal was for.
    pub fn of_refusal(refusal: Refusal, message: &Message) -> Self {
        Self::of(&look(refusal), message)
    }

    /// What showed the sender.
    pub fn of_evidence(evidence: Option<Kind>, message: &Message) -> Self {
        let look = match evidence {
            Some(Kind::Digest) => Look::At(CREDENTIALS),
            Some(Kind::Channel) => Look::Known("the handshake of its flow"),
            Some(Kind::SecureFlow) => Look::Known("an earlier request on its secure flow"),
            Some(Kind::Registered) => Look::Known("a registration from its flow"),
            Some(Kind::Peer) => Look::Known("the group of its peer"),
            Some(Kind::None) | None => Look::At(&["Via"]),
        };
        Self::of(&look, message)
    }

    fn of(look: &Look, message: &Message) -> Self {
        let octets = message.octets();
        match look {
            Look::Start => Self::at(1, octets),
            Look::Known(what) => Self { line: None, text: (*what).to_owned() },
            Look::At(names) => {
                let found = names.iter().find_map(|name| line_of(octets, name));
                let none = || format!("no {}", names.join(", no "));
                found.map_or_else(
                    || Self { line: None, text: none() },
                    |line| Self::at(line, octets),
                )
            }
            Look::Body => {
                let line =
                    lines(octets).position(<[u8]>::is_empty).map(|blank| blank.saturating_add(2));
                let length = message.body().len();
                Self {
                    line: line.filter(|_| length > 0),
                    text: format!("the body, {length} octets"),
                }
            }
        }
    }

    fn at(line: usize, octets: &[u8]) -> Self {
        let text = lines(octets).nth(line.saturating_sub(1)).unwrap_or_default();
        let text = shown(text).unwrap_or_else(|| String::from_utf8_lossy(text).into_owned());
        Self { line: Some(line), text: text.chars().take(SHOWN_MAX).collect() }
    }
}

fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The number of the first line of that header.
fn line_of(octets: &[u8], name: &str) -> Option<usize> {
    let compact = COMPACT.iter().find(|(long, _)| long.eq_ignore_ascii_case(name));
    let is = |line: &[u8]| {
        let found = line.split(|octet| *octet == b':').next().unwrap_or_default().trim_ascii_end();
        found.eq_ignore_ascii_case(name.as_bytes())
            || compact.is_some_and(|(_, short)| found.eq_ignore_ascii_case(short.as_bytes()))
    };
    let head = lines(octets).skip(1).take_while(|line| !line.is_empty());
    head.enumerate().find(|(_, line)| is(line)).map(|(place, _)| place.saturating_add(2))
}

/// A line of credentials without what proves; `None` of any other line.
fn shown(line: &[u8]) -> Option<String> {
    let (name, value) = line.split_at_checked(line.iter().position(|octet| *octet == b':')?)?;
    let name = String::from_utf8_lossy(name);
    if !CREDENTIALS.iter().any(|known| known.eq_ignore_ascii_case(name.trim_ascii_end())) {
        return None;
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let Ok(Some(row)) = Credentials::parse(value) else { return Some(format!("{name}: (hidden)")) };
    let [username, realm, nc] =
        [row.username(), row.realm(), row.nc()].map(String::from_utf8_lossy);
    Some(format!("{name}: Digest username=\"{username}\", realm=\"{realm}\", nc={nc}"))
}

const CREDENTIALS: &[&str] = &["Proxy-Authorization", "Authorization"];
const SUBJECT: &[&str] = &["Replaces", "Join", "Target-Dialog", "Refer-To"];
/// Of a line that is shown, in characters.
const SHOWN_MAX: usize = 300;
const COMPACT: [(&str, &str); 11] = [
    ("Via", "v"),
    ("From", "f"),
    ("To", "t"),
    ("Call-ID", "i"),
    ("Contact", "m"),
    ("Content-Length", "l"),
    ("Content-Type", "c"),
    ("Content-Encoding", "e"),
    ("Supported", "k"),
    ("Event", "o"),
    ("Refer-To", "r"),
];

/// Where each refusal looks. A new one does not compile until that is said.
fn look(refusal: Refusal) -> Look {
    match refusal {
        Refusal::Malformed(fault) => look_of_fault(fault),
        Refusal::HopsSpent => Look::At(&["Max-Forwards"]),
        Refusal::LoopDetected | Refusal::RequestMerged => Look::At(&["Via"]),
        Refusal::ExtensionUnsupported => Look::At(&["Proxy-Require"]),
        Refusal::ExtensionNotBridged => Look::At(&["Require"]),
        Refusal::SourceLimited => Look::Known("the rate of its source"),
        Refusal::Overloaded | Refusal::NoTime => Look::Known("the load of the edge"),
        Refusal::TooManyFailures => Look::Known("the failures of its flow"),
        Refusal::CredentialsMissing
        | Refusal::BadCredentials
        | Refusal::AlgorithmDowngrade
        | Refusal::NonceStale
        | Refusal::StaleAgain
        | Refusal::NonceUnknown
        | Refusal::KeyForbidden
        | Refusal::KeySourceUnavailable
        | Refusal::StoreUnavailable
        | Refusal::AssociationMismatch
        | Refusal::KeyExpired
        | Refusal::KeyAgeing
        | Refusal::AssociationLost
        | Refusal::IntegrityRequired => Look::At(CREDENTIALS),
        Refusal::PeerUnknown => Look::Known("the address and certificate of its peer"),
        Refusal::FlowMismatch => Look::Known("whom its flow speaks for"),
        Refusal::DialogUnknown
        | Refusal::Revoked
        | Refusal::WrongSide
        | Refusal::DialogEnded
        | Refusal::KeyAwaited => Look::At(&["Call-ID"]),
        Refusal::TargetMismatch => Look::Start,
        Refusal::RouteMismatch | Refusal::RouteForeign | Refusal::TokenForged => {
            Look::At(&["Route", "Path", "Via"])
        }
        Refusal::FlowGone | Refusal::AnchorMissing => Look::Known("the flows that lead to the UE"),
        Refusal::ForeignDialogNamed => Look::At(SUBJECT),
        Refusal::ChallengeReflected => Look::At(&["Proxy-Authenticate", "WWW-Authenticate"]),
        Refusal::SequenceLow | Refusal::InviteUnderWay | Refusal::InviteGlare => {
            Look::At(&["CSeq"])
        }
        Refusal::AgreementMismatch | Refusal::AgreementRequired | Refusal::NotFirstHop => {
            Look::At(&["Security-Verify", "Security-Client", "Require", "Proxy-Require"])
        }
        Refusal::OutboundLacking | Refusal::PathUnsupported => Look::At(&["Supported"]),
        Refusal::LevelTooLow | Refusal::SecureRequired | Refusal::Unreachable => {
            Look::Known("the transport, and what its sender showed")
        }
        Refusal::AckUnmatched | Refusal::CancelUnmatched | Refusal::ResponseAstray => {
            Look::At(&["Via"])
        }
        Refusal::TooManyEarlyDialogs => Look::At(&["To"]),
        Refusal::TableFull | Refusal::TransactionsFull => Look::Known("the room that is left"),
        Refusal::MethodUnfit
        | Refusal::MethodNotBridged
        | Refusal::DirectionForbidden
        | Refusal::DomainForeign
        | Refusal::NoRoute
        | Refusal::NumberForbidden
        | Refusal::TollPattern
        | Refusal::SipsImpossible => Look::Start,
        Refusal::ClassConflict | Refusal::ClassMethodUnfit | Refusal::ClassNotAllowed => {
            Look::At(&["P-Preferred-Service", "Accept-Contact", "Contact", "Event", "Content-Type"])
        }
        Refusal::BodyMalformed | Refusal::BodyTypeForbidden(_) => Look::At(&["Content-Type"]),
        Refusal::EncodingForbidden => Look::At(&["Content-Encoding", "Content-Type"]),
        Refusal::ConversationRefused => Look::At(&["Conversation-ID", "Contribution-ID"]),
        Refusal::CpimMalformed
        | Refusal::CpimFromMismatch
        | Refusal::XmlRefused
        | Refusal::ListTooLong
        | Refusal::ListRefused
        | Refusal::FilterRefused
        | Refusal::MsrpRefused
        | Refusal::BodyTooLarge => Look::Body,
        Refusal::WatcherRefused | Refusal::EventRefused => Look::At(&["Event"]),
        Refusal::PushServerUnknown | Refusal::PushReplayed => {
            Look::At(&["Accept-Contact", "Call-ID"])
        }
        Refusal::RateExceeded => Look::Known("how much its caller sent"),
        Refusal::IdentityForeign => {
            Look::At(&["P-Preferred-Identity", "P-Asserted-Identity", "From"])
        }
        Refusal::SessionTooShort => Look::At(&["Session-Expires", "x"]),
        Refusal::ContactsRefused | Refusal::LegTooLong => Look::At(&["Contact"]),
    }
}

fn look_of_fault(fault: Fault) -> Look {
    match fault {
        Fault::ContentLength | Fault::BodyShort => Look::At(&["Content-Length"]),
        Fault::HopsMalformed => Look::At(&["Max-Forwards"]),
        Fault::BranchOld => Look::At(&["Via"]),
        Fault::CredentialsMalformed => Look::At(CREDENTIALS),
        Fault::MethodMismatch => Look::At(&["CSeq"]),
        Fault::BreadthMalformed => Look::At(&["Max-Breadth"]),
        Fault::HeaderMalformed => Look::At(&["Replaces", "Join", "From", "To", "Via"]),
        Fault::AddressMalformed => Look::At(&["From", "To", "Contact"]),
        _ => Look::Start,
    }
}

/// What each rule of stage 5 is called, by its number; 0 is none of them.
pub const RULES: [&str; 33] = [
    "no rule",
    "the owner, on his anchor",
    "the owner, on another flow",
    "evidence missing or too weak",
    "credentials of somebody else",
    "a flow of somebody else",
    "no such dialog",
    "CSeq too low",
    "a copy",
    "not where the dialog leads",
    "a token that does not open",
    "the flow is gone",
    "another agreement",
    "outbound lacks",
    "less than the dialog asks",
    "ACK or CANCEL by its transaction",
    "a response from elsewhere",
    "the key has ended",
    "the owner, with another key",
    "taken back",
    "the source of keys is silent, or a key is awaited",
    "the store is silent",
    "too many failures",
    "the dialog was lost, and its token is here",
    "the owner tears down",
    "a first NOTIFY",
    "from the wrong side",
    "too many early dialogs",
    "the table is full",
    "somebody else's dialog is named",
    "the method does not fit",
    "the dialog has ended",
    "a challenge for a realm of ours",
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const TEXT: &str = "BYE sip:bob@example.net SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
        f: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>;tag=b\r\ni: secret\r\n\
        CSeq: 7 BYE\r\nProxy-Authorization: Digest username=\"alice\", realm=\"r\", nonce=\"nnn\", \
        response=\"0123\", nc=00000001\r\nl: 7\r\n\r\nCSeq: 8";

    #[test]
    fn the_line_that_decided_is_found_and_shows_nothing_that_proves() {
        let message = Message::from_datagram(Bytes::from_static(TEXT.as_bytes()));
        let message = message.expect("a message");
        let of = |refusal| Clue::of_refusal(refusal, &message);
        assert_eq!(of(Refusal::SequenceLow), Clue { line: Some(6), text: "CSeq: 7 BYE".into() });
        assert_eq!(
            (of(Refusal::DialogUnknown).line, of(Refusal::NoRoute).line),
            (Some(5), Some(1))
        );
        assert_eq!(of(Refusal::HopsSpent), Clue { line: None, text: "no Max-Forwards".into() });
        assert_eq!(of(Refusal::CpimMalformed).line, Some(10));
        let credentials = of(Refusal::BadCredentials);
        assert_eq!(credentials.line, Some(7));
        let text = "Proxy-Authorization: Digest username=\"alice\", realm=\"r\", nc=00000001";
        assert_eq!(credentials.text, text, "V-49");
    }
}

//! The UE, services: drafts of what an edge knows apart from plain SIP, and of a call that is handed over.
//!
//! 1. A message by itself, wrapped in CPIM; a chat, which offers MSRP over TLS.
//! 2. A subscription to where somebody is.
//! 3. REFER with Replaces, and what its receiver makes of it: an INVITE, and word of how it went.
//!
//! Takes:   a [`Draft`], and what is to be said in it; a REFER that came.
//! Gives:   the draft with the headers and the body of its service; [`Referred`].
//! Keeps:   nothing.
//! Refuses: a Refer-To that is no URI, or whose Replaces names no dialog; text that is no URI is written nowhere.
//! Sources: OMA CPM and LOCSIP as their identifiers are registered; RFC 3862 section 4; RFC 4975 section 8; RFC 3515 section
//!          2; RFC 3891 sections 4 and 6.1; RFC 5589 section 7; RFC 3420 (sipfrag).

use std::fmt::Write as _;

use super::draft::{Dialog, Draft};
use crate::wire::uri::decode;
use crate::wire::{Address, DialogRef, Message, Name};

const PAGER: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg";
const CHAT: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.session";
/// How long a subscription to a location is asked for, in seconds.
const LOCATION_EXPIRES: u32 = 3600;
/// Headers of a URI that are looked at.
const HEADERS_MAX: usize = 16;

impl Draft {
    /// A MESSAGE as CPM has it: the text, wrapped together with who it is from and for.
    pub fn pager(self, from: &str, text: &str) -> Self {
        let wrapped = format!(
            "From: <{from}>\r\nTo: <{}>\r\n\r\nContent-Type: text/plain;charset=utf-8\r\n\r\n{text}",
            self.to
        );
        self.of_service(PAGER).body("message/cpim", wrapped)
    }

    /// An INVITE to a chat: MSRP over TLS, at `host`, under `session`, a name that is not to be guessed.
    pub fn chat(self, host: &str, session: &str) -> Self {
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=message 2855 TCP/TLS/MSRP *\r\na=accept-types:message/cpim text/plain\r\n\
             a=path:msrps://{host}:2855/{session};tcp\r\na=setup:active\r\n"
        );
        self.of_service(CHAT).body("application/sdp", offer)
    }

    /// A SUBSCRIBE to where somebody is.
    pub fn location(mut self) -> Self {
        self.contact_params = ";+g.oma.locsip".into();
        self.with("Accept-Contact", "*;+g.oma.locsip")
            .with("Event", "presence")
            .with("Accept", "application/pidf+xml")
            .with("Expires", LOCATION_EXPIRES.to_string())
    }

    fn of_service(self, service: &str) -> Self {
        let tag = format!("*;+g.3gpp.icsi-ref=\"{}\"", service.replace(':', "%3A"));
        self.with("P-Preferred-Service", service).with("Accept-Contact", tag)
    }

    /// A REFER that asks its receiver to take our place in `other`.
    pub fn transfer(self, other: &Dialog) -> Self {
        let replaces =
            format!("{};to-tag={};from-tag={}", other.call_id, other.remote_tag, other.local_tag);
        let target = format!("<{}?Replaces={}>", other.remote, escaped(&replaces));
        self.with("Refer-To", target)
    }
}

/// What a REFER asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referred {
    /// Whom to call.
    pub uri: String,
    /// The dialog that the call is to take the place of, as Replaces has it.
    pub replaces: Option<String>,
}

impl Referred {
    /// Reads it; `None` without a Refer-To that can be followed.
    pub fn of(refer: &Message) -> Option<Self> {
        let target = refer.first(Name::ReferTo).and_then(Address::parse)?;
        let uri = target.uri();
        let named = uri.headers().split(|octet| *octet == b'&').take(HEADERS_MAX);
        let replaces = named
            .filter_map(|header| {
                let (name, value) = header.split_at_checked(memchr::memchr(b'=', header)?)?;
                let is = decode(name).eq_ignore_ascii_case(b"Replaces");
                is.then(|| decode(value.get(1..).unwrap_or_default()))
            })
            .next();
        let replaces = match replaces {
            Some(value) => {
                DialogRef::parse(Name::Replaces, &value)?;
                Some(String::from_utf8(value).ok()?)
            }
            None => None,
        };
        let whole = String::from_utf8(uri.octets().to_vec()).ok()?;
        let uri = whole.split('?').next().unwrap_or_default().to_owned();
        Some(Self { uri, replaces })
    }
}

/// Word of how a call that was asked for went: the body of a NOTIFY.
pub fn told(draft: Draft, status_line: &str) -> Draft {
    draft
        .with("Event", "refer")
        .with("Subscription-State", "terminated;reason=noresource")
        .body("message/sipfrag;version=2.0", format!("{status_line}\r\n"))
}

/// A value as it stands in the headers of a URI.
fn escaped(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, octet| {
        if octet.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&octet) {
            text.push(char::from(octet));
        } else {
            let _ = write!(text, "%{octet:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn refer(target: &str) -> Message {
        let text = format!("REFER sip:bob@example.net SIP/2.0\r\nRefer-To: {target}\r\n\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    }

    #[test]
    fn what_refers_is_read_as_it_was_meant() {
        let other = Dialog {
            call_id: "a/b?c@d".into(),
            local_tag: "mine".into(),
            remote_tag: "theirs".into(),
            remote: "sip:carol@example.net".into(),
            target: String::new(),
            routes: Vec::new(),
            cseq: 1,
        };
        let draft = Draft::new("REFER", "sip:bob@example.net", "x".into(), "y".into());
        let draft = draft.transfer(&other);
        let (_, target) = draft.fields.first().expect("Refer-To");
        let found = Referred::of(&refer(target)).expect("it can be followed");
        assert_eq!(found.uri, "sip:carol@example.net");
        assert_eq!(found.replaces.as_deref(), Some("a/b?c@d;to-tag=theirs;from-tag=mine"));
    }

    #[test]
    fn what_names_no_dialog_is_not_followed() {
        let plain = Referred { uri: "sip:carol@example.net".into(), replaces: None };
        assert_eq!(Referred::of(&refer("<sip:carol@example.net>")), Some(plain));
        for target in ["<sip:carol@example.net?Replaces=x>", "<sip:c@x?Replaces=%0d%0a>", "nobody"]
        {
            assert_eq!(Referred::of(&refer(target)), None, "{target}");
        }
    }
}

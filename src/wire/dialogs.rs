//! Stage 2, dialogs: headers that name another dialog, an event, a session's interval or a provisional response.
//!
//! Takes:   a message, or one value.
//! Gives:   [`DialogRef`] (Replaces, Join, Target-Dialog), [`Event`], [`SubscriptionState`], [`SessionExpires`] and
//!          [`RAck`], borrowed.
//! Keeps:   nothing.
//! Refuses: a value that lacks what its clause makes mandatory.
//! Sources: RFC 3262 section 7.2; RFC 3891 section 6.1; RFC 3911 section 7.1; RFC 4028 section 4; RFC 4538 section 7;
//!          RFC 6665 section 8.2.

use super::headers::seconds;
use super::octets::{is_space, is_token, position, trim};
use super::params::Params;
use super::{Message, Method, Name, split};

/// A dialog as another message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialogRef<'a> {
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// The tag of the side that gets this message: `to-tag`, or `local-tag` of Target-Dialog.
    pub local_tag: &'a [u8],
    /// The tag of the other side: `from-tag`, or `remote-tag` of Target-Dialog.
    pub remote_tag: &'a [u8],
    /// `early-only` of Replaces: nothing but an early dialog is meant.
    pub early_only: bool,
}

impl<'a> DialogRef<'a> {
    /// Parses a Replaces, Join or Target-Dialog value; `None` without Call-ID, or with a tag missing, empty or
    /// there twice.
    pub fn parse(name: Name, value: &'a [u8]) -> Option<Self> {
        let (local, remote) = match name {
            Name::Replaces | Name::Join => ("to-tag", "from-tag"),
            Name::TargetDialog => ("local-tag", "remote-tag"),
            _ => return None,
        };
        let (call_id, params) = head(value)?;
        let tag = |name| params.get(name).filter(|tag| !tag.is_empty());
        if !call_id.iter().all(u8::is_ascii_graphic) || params.has_twice([local, remote]) {
            return None;
        }
        Some(Self {
            call_id,
            local_tag: tag(local)?,
            remote_tag: tag(remote)?,
            early_only: params.get("early-only").is_some(),
        })
    }
}

/// An event package and the subscription it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The package, with its templates (`presence.winfo`), as written; compared with case (RFC 6665 section 8.2.1).
    pub package: &'a [u8],
    /// The `id`; empty if there is none.
    pub id: &'a [u8],
}

impl<'a> Event<'a> {
    /// Parses the value; `None` if the package is no token or `id` is there twice.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (package, params) = head(value)?;
        let clean = is_token(package) && !params.has_twice(["id"]);
        clean.then(|| Self { package, id: params.get("id").unwrap_or_default() })
    }
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionState<'a> {
    /// `active`, `pending`, `terminated` or an extension, as written.
    pub state: &'a [u8],
    params: Params<'a>,
}

impl<'a> SubscriptionState<'a> {
    /// Parses the value; `None` if the state is no token.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (state, params) = head(value)?;
        is_token(state).then_some(Self { state, params })
    }

    /// Whether this NOTIFY is the last of its subscription.
    pub fn is_terminated(&self) -> bool {
        self.state.eq_ignore_ascii_case(b"terminated")
    }

    /// Seconds that are left, clamped to 32 bits.
    pub fn expires(&self) -> Option<u32> {
        self.params.get("expires").and_then(seconds)
    }

    /// The same as it stands there.
    pub fn expires_as_written(&self) -> Option<&'a [u8]> {
        self.params.get("expires")
    }

    /// Why it ended; empty if nothing is said.
    pub fn reason(&self) -> &'a [u8] {
        self.params.get("reason").unwrap_or_default()
    }
}

/// A session's interval and who refreshes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires<'a> {
    /// The interval, clamped to 32 bits.
    pub seconds: u32,
    /// `uac`, `uas`, or empty, as written.
    pub refresher: &'a [u8],
}

impl<'a> SessionExpires<'a> {
    /// Parses the value; `None` if it begins with no number.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (interval, params) = head(value)?;
        let refresher = params.get("refresher").unwrap_or_default();
        Some(Self { seconds: seconds(interval)?, refresher })
    }
}

/// Which provisional response a PRACK acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// RSeq of the response.
    pub response: u32,
    /// CSeq number of its request.
    pub cseq: u32,
    /// CSeq method of its request.
    pub method: &'a [u8],
}

impl<'a> RAck<'a> {
    /// Parses the value; `None` if it is not two numbers below 2^32 and a token.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = value.split(|octet| is_space(*octet)).filter(|word| !word.is_empty());
        let mut number = || u32::try_from(split::number(words.next()?)?).ok();
        let (response, cseq) = (number()?, number()?);
        let method = words.next().filter(|method| is_token(method))?;
        words.next().is_none().then_some(Self { response, cseq, method })
    }

    /// The method, as far as it is known.
    pub fn method(&self) -> Method {
        Method::of(self.method)
    }
}

impl Message {
    /// The dialog named by Replaces, Join or Target-Dialog; `None` if the header is not there or does not parse.
    pub fn dialog_ref(&self, name: Name) -> Option<DialogRef<'_>> {
        self.first(name).and_then(|value| DialogRef::parse(name, value))
    }

    /// Event with its id; `None` if it is not there or does not parse.
    pub fn event_with_id(&self) -> Option<Event<'_>> {
        self.first(Name::Event).and_then(Event::parse)
    }

    /// The event package, template included, as written; empty if there is none.
    pub fn event(&self) -> &[u8] {
        self.event_with_id().map(|event| event.package).unwrap_or_default()
    }

    /// Subscription-State; `None` if it is not there or does not parse.
    pub fn subscription_state(&self) -> Option<SubscriptionState<'_>> {
        self.first(Name::SubscriptionState).and_then(SubscriptionState::parse)
    }

    /// Session-Expires; `None` if it is not there or does not parse.
    pub fn session_expires(&self) -> Option<SessionExpires<'_>> {
        self.first(Name::SessionExpires).and_then(SessionExpires::parse)
    }

    /// RAck; `None` if it is not there or does not parse.
    pub fn rack(&self) -> Option<RAck<'_>> {
        self.first(Name::RAck).and_then(RAck::parse)
    }
}

/// What stands before the parameters, and the parameters.
fn head(value: &[u8]) -> Option<(&[u8], Params<'_>)> {
    let end = position(b';', value).unwrap_or(value.len());
    let (head, params) = value.split_at_checked(end)?;
    let head = trim(head);
    if head.is_empty() {
        return None;
    }
    Some((head, Params::parse(params)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialog_is_named_in_full_or_not_at_all() {
        let found = DialogRef::parse(
            Name::Replaces,
            b"98732@sip.example.com\r\n ;from-tag=r33th4x0r ;to-tag=ff87ff;early-only",
        );
        let expected = DialogRef {
            call_id: b"98732@sip.example.com",
            local_tag: b"ff87ff",
            remote_tag: b"r33th4x0r",
            early_only: true,
        };
        assert_eq!(found, Some(expected));
        let target = DialogRef::parse(
            Name::TargetDialog,
            b"fa77as7dad8-sd98ajzz@host.example.com;local-tag=kkaz-;remote-tag=6544",
        );
        let target = target.map(|found| (found.local_tag, found.remote_tag));
        assert_eq!(target, Some((&b"kkaz-"[..], &b"6544"[..])));
        for (name, bad) in [
            (Name::Replaces, "a;to-tag=1"),
            (Name::Replaces, "a;to-tag=1;from-tag="),
            (Name::Replaces, "a;to-tag=1;from-tag=2;to-tag=3"),
            (Name::Replaces, ";to-tag=1;from-tag=2"),
            (Name::Join, "a b;to-tag=1;from-tag=2"),
            (Name::TargetDialog, "a;to-tag=1;from-tag=2"),
            (Name::CallId, "a;to-tag=1;from-tag=2"),
        ] {
            assert_eq!(DialogRef::parse(name, bad.as_bytes()), None, "{name:?}: {bad}");
        }
    }

    #[test]
    fn small_values_are_read() {
        assert_eq!(
            Event::parse(b"presence.winfo ; id=7"),
            Some(Event { package: b"presence.winfo", id: b"7" })
        );
        assert_eq!(Event::parse(b"reg"), Some(Event { package: b"reg", id: b"" }));
        for bad in ["", ";id=1", "a b", "reg;id=1;id=2", "reg;"] {
            assert_eq!(Event::parse(bad.as_bytes()), None, "{bad}");
        }
        let state = SubscriptionState::parse(b"Terminated;reason=timeout;expires=99999999999")
            .expect("a state");
        assert!(state.is_terminated());
        assert_eq!((state.reason(), state.expires()), (&b"timeout"[..], Some(u32::MAX)));
        let session = SessionExpires::parse(b"1800 ; refresher=uas");
        assert_eq!(session, Some(SessionExpires { seconds: 1800, refresher: b"uas" }));
        assert_eq!(SessionExpires::parse(b"x;refresher=uas"), None);
        let rack = RAck::parse(b"776656  1\r\n INVITE").expect("well formed");
        assert_eq!((rack.response, rack.cseq, rack.method()), (776_656, 1, Method::Invite));
        for bad in ["1 INVITE", "1 4294967296 INVITE", "1 2 INVITE x", "1 2"] {
            assert_eq!(RAck::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

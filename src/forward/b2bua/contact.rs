//! Stage 7, back to back: our own Contact in place of a peer's.
//!
//! Takes:   a message that crosses, and where its receiver finds us.
//! Gives:   one Contact, with what the peer's said of its features.
//! Keeps:   nothing.
//! Refuses: nothing. What tells one device from another does not cross: instance, flow and GRUU.
//! Sources: RFC 3261 sections 8.1.1.8 and 12.1.1; RFC 3840 section 9; RFC 5626 section 4.1; RFC 5627 section 4.2; `B2-01`.

use crate::forward::outgoing::facing;
use crate::forward::{Destination, Listener, Settings};
use crate::transport::{Flow, Side, Transport};
use crate::wire::respond::put_param;
use crate::wire::{Edits, Message, Name, Text, Uri};

/// Where the receiver of a message finds us.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Own<'s> {
    listener: Option<&'s Listener>,
    transport: Transport,
    sips: bool,
    /// Whether the receiver finds TLS by our name alone (`RR-04`).
    by_name: bool,
}

impl<'s> Own<'s> {
    /// As who is reached at `to` on `side` finds us; `uri` is his own address.
    pub(super) fn facing(
        settings: &'s Settings,
        side: Side,
        to: &Destination,
        uri: Option<Uri<'_>>,
    ) -> Self {
        Self::new(settings, facing(settings, side, to), to.transport(), side, uri)
    }

    /// As who sent a request on `flow` finds us.
    pub(super) fn on(
        settings: &'s Settings,
        side: Side,
        flow: &Flow,
        uri: Option<Uri<'_>>,
    ) -> Self {
        Self::new(settings, settings.listener(flow.listener), flow.transport, side, uri)
    }

    fn new(
        settings: &Settings,
        listener: Option<&'s Listener>,
        transport: Transport,
        side: Side,
        uri: Option<Uri<'_>>,
    ) -> Self {
        let sips = uri.is_some_and(|uri| uri.scheme() == crate::wire::uri::Scheme::Sips);
        let says_tls = |uri: Uri<'_>| {
            uri.param("transport").is_some_and(|kind| kind.eq_ignore_ascii_case(b"tls"))
        };
        let mirrored = settings.mirror_tls_param && uri.is_some_and(says_tls);
        let by_name = transport == Transport::Tls && side == Side::Ue && !sips && !mirrored;
        Self { listener, transport, sips, by_name }
    }

    pub(super) fn put(&self, text: &mut Text) {
        let Some(listener) = self.listener else { return };
        text.put(if self.sips { "<sips:" } else { "<sip:" }).put(&listener.name);
        if !self.by_name {
            text.put(":").put_number(u64::from(listener.address.port()));
        }
        text.put(match self.transport {
            Transport::Tcp => ";transport=tcp>",
            Transport::Tls if !self.by_name && !self.sips => ";transport=tls>",
            Transport::Dtls => ";transport=dtls-udp>",
            Transport::Ws | Transport::Wss => ";transport=ws>",
            Transport::Udp | Transport::Tls => ">",
        });
    }
}

/// Puts our Contact in the place of all that `message` has; nothing if it has none.
pub(super) fn replace(edits: &mut Edits, message: &Message, own: &Own<'_>) {
    let mut rows = message.rows(Name::Contact);
    let Some(first) = rows.next() else { return };
    let contact = message.addresses(Name::Contact).next().flatten();
    edits.replace(first.value(), |text| {
        own.put(text);
        let params = contact.into_iter().flat_map(|contact| contact.params().iter());
        for (name, value) in params.filter(|(name, _)| is_feature(name)) {
            put_param(text, name, value);
        }
    });
    for row in rows {
        edits.remove(row.line());
    }
}

/// Whether a parameter of Contact says what its owner can do, not which device he is or how long he stays.
fn is_feature(name: &[u8]) -> bool {
    const OF_ITSELF: [&[u8]; 6] =
        [b"+sip.instance", b"reg-id", b"pub-gruu", b"temp-gruu", b"expires", b"q"];
    !OF_ITSELF.iter().any(|known| known.eq_ignore_ascii_case(name))
}

//! Stage 7, back to back: dialogs that a request names, by their names on the other leg.
//!
//! Takes:   Replaces, Join and Target-Dialog, as headers and inside Refer-To; In-Reply-To; bodies, by `dialog_info`.
//! Gives:   what stands there instead on the other leg. A Refer-To that leads to us leads to the peer whom it means.
//! Keeps:   nothing.
//! Refuses: a dialog that nobody knows: what it is called on the other leg cannot be said. A call that is replied to may
//!          be over long since: its Call-ID is left out then, and nothing is refused.
//! Sources: RFC 3891 sections 3 and 6.1; RFC 3911 section 7.1; RFC 4538 section 7; RFC 3261 section 19.1.1 (headers of a
//!          URI); `B2-08`; V-136.

use smallvec::SmallVec;

use super::dialog_info;
use super::request::rows_called;
use crate::association::{Associations, Named};
use crate::forward::Settings;
use crate::forward::outgoing::other;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::octets::hex_digits;
use crate::wire::uri::decode;
use crate::wire::{Address, DialogRef, Message, Name, Span};

/// Headers of a URI that are looked at.
const HEADERS_MAX: usize = 16;

/// Call-IDs of one In-Reply-To that are looked at.
const CALLS_MAX: usize = 16;
pub(super) const IN_REPLY_TO: &str = "In-Reply-To";

/// What stands in place of what.
pub(in crate::forward) type Renamed = SmallVec<[(Span, Vec<u8>); 1]>;

/// The names that a message from `side` has for dialogs, with what they are on the other side.
///
/// # Errors
///
/// [`Refusal::DialogUnknown`]; a body that cannot be read though it tells of dialogs.
pub(in crate::forward) fn rename(
    message: &Message,
    side: Side,
    associations: &Associations,
    settings: &Settings,
) -> Result<Renamed, Refusal> {
    let mut renamed = Renamed::new();
    for name in [Name::Replaces, Name::Join, Name::TargetDialog] {
        for value in message.fields_named(name) {
            let Some(new) = of_value(name, value, side, associations)? else { continue };
            renamed.push((message.span_of(value), new.value));
        }
    }
    in_reply_to(message, side, associations, &mut renamed);
    refer_to(message, side, associations, settings, &mut renamed)?;
    dialog_info::rename(message, side, associations, &mut renamed)?;
    Ok(renamed)
}

/// A dialog on the other side.
struct There {
    value: Vec<u8>,
    /// The target of the peer there.
    target: Box<[u8]>,
}

/// What a value is on the other side; `None` if it is the same.
fn of_value(
    name: Name,
    value: &[u8],
    side: Side,
    associations: &Associations,
) -> Result<Option<There>, Refusal> {
    let dialog = DialogRef::parse(name, value).ok_or(Refusal::DialogUnknown)?;
    match associations.named(side, &dialog) {
        Named::Plain => Ok(None),
        Named::Unknown => Err(Refusal::DialogUnknown),
        Named::Bridged(bridge) => {
            let there = bridge.rename(side, &dialog).ok_or(Refusal::DialogUnknown)?;
            let target = bridge.way(other(side)).target;
            Ok(Some(There { value: print(name, &there), target }))
        }
    }
}

fn print(name: Name, dialog: &DialogRef<'_>) -> Vec<u8> {
    let (local, remote): (&[u8], &[u8]) = match name {
        Name::TargetDialog => (b";local-tag=", b";remote-tag="),
        _ => (b";to-tag=", b";from-tag="),
    };
    let early: &[u8] = if dialog.early_only { b";early-only" } else { b"" };
    [dialog.call_id, local, dialog.local_tag, remote, dialog.remote_tag, early].concat()
}

/// The calls that are replied to, by their Call-IDs on the other side: those of them that are known there. A row of which
/// none is left is taken out with what belongs to this leg alone.
///
/// Source: RFC 3261 section 20.21.
fn in_reply_to(message: &Message, side: Side, associations: &Associations, renamed: &mut Renamed) {
    for row in rows_called(message, IN_REPLY_TO) {
        let value = row.value().of(message.octets());
        let ids = value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii).take(CALLS_MAX);
        let there: Vec<_> = ids.filter_map(|id| associations.call_there(side, id)).collect();
        if !there.is_empty() {
            renamed.push((row.value(), there.join(&b", "[..])));
        }
    }
}

/// Dialogs named by headers of the URI in Refer-To.
fn refer_to(
    message: &Message,
    side: Side,
    associations: &Associations,
    settings: &Settings,
    renamed: &mut Renamed,
) -> Result<(), Refusal> {
    let Some(address) = message.first(Name::ReferTo).and_then(Address::parse) else {
        return Ok(());
    };
    let uri = address.uri();
    let mut peer = None;
    for header in uri.headers().split(|octet| *octet == b'&').take(HEADERS_MAX) {
        let Some(at) = memchr::memchr(b'=', header) else { continue };
        let (name, value) = header.split_at_checked(at).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default();
        let name = Name::of(&decode(name));
        if !matches!(name, Name::Replaces | Name::Join | Name::TargetDialog) {
            continue;
        }
        let Some(There { value: new, target }) =
            of_value(name, &decode(value), side, associations)?
        else {
            continue;
        };
        renamed.push((message.span_of(value), encode(&new)));
        peer = Some(target);
    }
    if let Some(target) = peer.filter(|_| settings.is_own(&uri)) {
        let whole = message.span_of(uri.octets());
        let headers = memchr::memchr(b'?', uri.octets()).unwrap_or(uri.octets().len());
        let target = target.split(|octet| *octet == b'?').next().unwrap_or_default().to_vec();
        let span = Span::new(whole.start(), whole.start().saturating_add(headers));
        renamed.push((span, target));
    }
    Ok(())
}

/// A value as it may stand in a header of a URI.
fn encode(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len().saturating_mul(2));
    for octet in value {
        if octet.is_ascii_alphanumeric() || b"-_.!~*'()".contains(octet) {
            text.push(*octet);
        } else {
            text.push(b'%');
            text.extend_from_slice(&hex_digits(*octet));
        }
    }
    text
}

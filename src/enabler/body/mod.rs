//! Stage 6, bodies: what the classes have to read of them. Nothing here changes an octet.
//!
//! Takes:   the octets of a body and what its headers say of them.
//! Gives:   parts, sender, entries, filters or media lines, each in a file of its own; [`leaves`], for all of which
//!          a body holds, whatever it is wrapped in.
//! Keeps:   nothing. Bounds: each reader its own.
//! Refuses: what another reader might read otherwise. Every name for that is a [`Refusal`].
//! Sources: RFC 3261 section 7.4; RFC 2045; RFC 2046 section 5.1.

pub mod cpim;
pub mod filter;
pub mod media;
pub mod multipart;
pub mod resource_lists;
pub mod xml;

use crate::refusal::Refusal;
use crate::wire::{MediaType, Message, Name};
pub use multipart::Leaf;

/// Every part of a message's body that is no multipart itself; the body as a whole if it is none.
///
/// # Errors
///
/// [`Refusal::BodyMalformed`] for a body with octets and no type, and as [`multipart::walk`];
/// [`Refusal::EncodingForbidden`] for one that is encoded.
pub fn leaves<'b>(
    message: &'b Message,
    visit: &mut dyn FnMut(&Leaf<'b>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let body = message.body();
    if body.is_empty() {
        return Ok(());
    }
    if !is_plain(message) {
        return Err(Refusal::EncodingForbidden);
    }
    let media = message.content_type().ok_or(Refusal::BodyMalformed)?;
    if media.kind().eq_ignore_ascii_case(b"multipart") {
        return multipart::walk(media, body, visit);
    }
    let disposition = message.first(Name::ContentDisposition);
    // SIP has no such header (RFC 3261 section 7.4.1), and readers of MIME do.
    let encoded = message.rows(Name::Other).any(|row| {
        let [name, value] = [row.name_span(), row.value()].map(|span| span.of(message.octets()));
        name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") && multipart::is_encoding(value)
    });
    visit(&Leaf { media, disposition, content: body, encoded })
}

/// Whether the body as a whole is not encoded.
pub fn is_plain(message: &Message) -> bool {
    message.values(Name::ContentEncoding).all(|coding| coding.eq_ignore_ascii_case(b"identity"))
}

/// Whether a value is of this type, given as `type/subtype`.
pub fn is(media: &MediaType<'_>, wanted: &str) -> bool {
    let (kind, subtype) = (media.kind(), media.subtype());
    let Some((first, rest)) = wanted.as_bytes().split_at_checked(kind.len()) else { return false };
    let rest = rest.strip_prefix(b"/").filter(|rest| rest.len() == subtype.len());
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(subtype)) && first.eq_ignore_ascii_case(kind)
}

//! Stage 7, back to back: dialogs that a body tells of, by their names on the other leg.
//!
//! Takes:   a request whose body is, or holds, `application/dialog-info+xml`.
//! Gives:   what stands there instead: Call-ID and tags of each dialog, and of those that it replaces, as the other leg
//!          knows them. An `id` that says the same goes on as a hash of itself, so that it stays the same.
//! Keeps:   nothing.
//! Refuses: a document that readers may read otherwise, and one that is encoded. Of a dialog that nobody knows here the
//!          three names are left out, which no watcher needs.
//! Sources: RFC 4235 sections 4.1.2 and 4.1.6; RFC 4662 section 5.1 (one of many parts); `B2-08`; V-136.

use super::named::Renamed;
use crate::association::{Associations, Named};
use crate::enabler::body::xml::{self, Attribute, Element};
use crate::enabler::body::{self, Leaf};
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{DialogRef, Message, Span};

const DIALOG_INFO: &str = "urn:ietf:params:xml:ns:dialog-info";
const MEDIA: &str = "application/dialog-info+xml";

/// The names that a body from `side` has for dialogs, with what they are on the other side.
///
/// # Errors
///
/// As [`xml::read`] and [`body::leaves`], for what claims to tell of dialogs.
pub(super) fn rename(
    message: &Message,
    side: Side,
    associations: &Associations,
    renamed: &mut Renamed,
) -> Result<(), Refusal> {
    if !may_tell(message) {
        return Ok(());
    }
    body::leaves(message, &mut |leaf: &Leaf<'_>| {
        if !leaf.is(MEDIA) {
            return Ok(());
        }
        let root = xml::read(leaf.read()?)?;
        for dialog in root.children.iter().filter(|child| child.is(DIALOG_INFO, "dialog")) {
            Teller { message, side, associations, renamed }.element(dialog);
            for replaced in dialog.children.iter().filter(|it| it.is(DIALOG_INFO, "replaces")) {
                Teller { message, side, associations, renamed }.element(replaced);
            }
        }
        Ok(())
    })
}

/// Whether a body is worth reading: most are not.
fn may_tell(message: &Message) -> bool {
    const MARK: &[u8] = b"dialog-info";
    let Some(media) = message.content_type() else { return false };
    let holds = || message.body().windows(MARK.len()).any(|part| part.eq_ignore_ascii_case(MARK));
    body::is(&media, MEDIA) || media.kind().eq_ignore_ascii_case(b"multipart") && holds()
}

struct Teller<'t> {
    message: &'t Message,
    side: Side,
    associations: &'t Associations,
    renamed: &'t mut Renamed,
}

impl Teller<'_> {
    /// An element that names a dialog.
    fn element(&mut self, element: &Element<'_>) {
        let of = |name: &str| {
            let is = |own: &&Attribute<'_>| own.space.is_empty() && own.name == name;
            element.attributes.iter().find(is)
        };
        let [call_id, local, remote] = NAMES.map(of);
        let octets = |attribute: Option<&Attribute<'_>>| {
            attribute.map(|found| found.value.as_bytes().to_vec()).unwrap_or_default()
        };
        let (named, local_tag, remote_tag) = (octets(call_id), octets(local), octets(remote));
        if let Some(id) = of("id").filter(|id| tells(&id.value, &[&named, &local_tag, &remote_tag]))
        {
            let hash = self.associations.shown_name(id.value.as_bytes());
            self.renamed.push((self.message.span_of(id.written.as_bytes()), hash.to_vec()));
        }
        let dialog = DialogRef {
            call_id: &named,
            local_tag: &local_tag,
            remote_tag: &remote_tag,
            early_only: false,
        };
        let found = match self.associations.named(self.side, &dialog) {
            Named::Plain => return,
            Named::Bridged(bridge) => Some(bridge),
            Named::Unknown => None,
        };
        let there = found.as_ref().and_then(|bridge| bridge.rename(self.side, &dialog));
        for (place, attribute) in [call_id, local, remote].into_iter().enumerate() {
            let Some(attribute) = attribute else { continue };
            let new = there.as_ref().map(|there| match place {
                0 => there.call_id,
                1 => there.local_tag,
                _ => there.remote_tag,
            });
            self.put(attribute, new);
        }
    }

    /// Another value of an attribute; without one, the attribute goes.
    fn put(&mut self, attribute: &Attribute<'_>, new: Option<&[u8]>) {
        let written = self.message.span_of(attribute.written.as_bytes());
        match new {
            Some(new) => self.renamed.push((written, escaped(new))),
            None => {
                let name = self.message.span_of(attribute.name.as_bytes());
                let whole = Span::new(name.start(), written.end().saturating_add(1));
                self.renamed.push((whole, Vec::new()));
            }
        }
    }
}

const NAMES: [&str; 3] = ["call-id", "local-tag", "remote-tag"];

/// Whether an id is made of a name that is not to be told.
fn tells(id: &str, names: &[&[u8]]) -> bool {
    let holds =
        |name: &&&[u8]| !name.is_empty() && memchr::memmem::find(id.as_bytes(), name).is_some();
    names.iter().any(|name| holds(&name))
}

/// A value as it may stand between either kind of quotes.
fn escaped(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    for octet in value {
        match octet {
            b'&' => text.extend_from_slice(b"&amp;"),
            b'<' => text.extend_from_slice(b"&lt;"),
            b'"' => text.extend_from_slice(b"&quot;"),
            b'\'' => text.extend_from_slice(b"&apos;"),
            octet => text.push(*octet),
        }
    }
    text
}

//! Stage 6, lists of recipients: how many there are, and that each is somebody and nothing more.
//!
//! Takes:   a document of `application/resource-lists+xml`.
//! Gives:   how many different recipients it names.
//! Keeps:   nothing. Bounds: those of `xml`; counting ends with the first entry over the limit.
//! Refuses: lists in lists, references to lists elsewhere, entries that are no SIP, SIPS or tel URI or that carry
//!          headers, which a list server would plant in its requests.
//! Sources: RFC 4826 section 3; RFC 5363 sections 4 and 5; RFC 5364; RFC 5365 section 4; V-121.

use std::collections::HashSet;

use super::xml::{self, Element};
use crate::hashing::{Seeded, seeded};
use crate::refusal::Refusal;
use crate::wire::Uri;
use crate::wire::uri::Scheme;

const SPACE: &str = "urn:ietf:params:xml:ns:resource-lists";

/// Counts the recipients of a document; the same one twice is one.
///
/// # Errors
///
/// [`Refusal::XmlRefused`], [`Refusal::ListRefused`]; [`Refusal::ListTooLong`] over `max`.
pub fn count(octets: &[u8], max: usize) -> Result<usize, Refusal> {
    let root = xml::read(octets)?;
    if !root.is(SPACE, "resource-lists") {
        return Err(Refusal::XmlRefused);
    }
    let mut known: HashSet<Vec<u8>, Seeded> = HashSet::with_hasher(seeded());
    for list in &root.children {
        if !list.is(SPACE, "list") {
            return Err(Refusal::XmlRefused);
        }
        for entry in &list.children {
            if let Some(recipient) = recipient(entry)? {
                known.insert(recipient);
            }
            if known.len() > max {
                return Err(Refusal::ListTooLong);
            }
        }
    }
    Ok(known.len())
}

/// Whom an entry names, in the form in which identities are compared; `None` for what is no entry.
fn recipient(entry: &Element<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    let ours = entry.space == SPACE;
    match entry.name {
        "entry" if ours => {}
        "display-name" if ours => return Ok(None),
        // Also those that a reader without namespaces would take for ours.
        "entry" | "list" | "entry-ref" | "external" => return Err(Refusal::XmlRefused),
        _ if ours => return Err(Refusal::XmlRefused),
        _ => return Ok(None),
    }
    let uri = entry.attribute("uri").ok_or(Refusal::XmlRefused)?;
    let uri = Uri::parse(uri.trim().as_bytes()).ok_or(Refusal::ListRefused)?;
    let plain = match uri.scheme() {
        Scheme::Sip | Scheme::Sips => uri.headers().is_empty(),
        Scheme::Tel => true,
        Scheme::Other => false,
    };
    if plain { Ok(Some(uri.identity())) } else { Err(Refusal::ListRefused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><resource-lists xmlns=\"{SPACE}\" xmlns:cp=\"urn:ietf:params:xml:ns:copycontrol\"><list>{entries}</list></resource-lists>"
        )
    }

    #[test]
    fn one_recipient_counts_once_however_it_is_spelt() {
        for (entries, expected) in [
            ("", Ok(0)),
            ("<entry uri=\"sip:bob@example.net\" cp:copyControl=\"to\"/>", Ok(1)),
            ("<entry uri='sip:bob@example.net'/><entry uri='SIPS:%62ob@EXAMPLE.net:5061'/>", Ok(1)),
            (
                "<entry uri='tel:+1-201-555-0102'/><entry uri='sip:+12015550102@x;user=phone'/>",
                Ok(1),
            ),
            (
                "<display-name>All</display-name><entry uri='sip:b@x'><display-name>B</display-name></entry>",
                Ok(1),
            ),
            (
                "<entry uri='sip:a@x'/><entry uri='sip:b@x'/><entry uri='sip:c@x'/>",
                Err(Refusal::ListTooLong),
            ),
        ] {
            assert_eq!(count(list(entries).as_bytes(), 2), expected, "{entries}");
        }
        let same = "<entry uri='sip:bob@example.net'/>".repeat(500);
        assert_eq!(count(list(&same).as_bytes(), 2), Ok(1), "V-121: one URI 500 times");
    }

    #[test]
    fn v_121_what_is_no_flat_list_of_people_is_refused() {
        for (entries, refusal) in [
            ("<list><entry uri='sip:a@x'/></list>", Refusal::XmlRefused),
            ("<entry-ref ref='x'/>", Refusal::XmlRefused),
            ("<external anchor='http://x/'/>", Refusal::XmlRefused),
            ("<entry xmlns='' uri='sip:a@x'/>", Refusal::XmlRefused),
            ("<entry/>", Refusal::XmlRefused),
            ("<entry uri='sip:bob@x?Route=%3Csip:192.0.2.66%3E'/>", Refusal::ListRefused),
            ("<entry uri='mailto:a@x'/>", Refusal::ListRefused),
            ("<entry uri='bob'/>", Refusal::ListRefused),
        ] {
            assert_eq!(count(list(entries).as_bytes(), 20), Err(refusal), "{entries}");
        }
        assert_eq!(count(b"<resource-lists/>", 20), Err(Refusal::XmlRefused));
    }
}

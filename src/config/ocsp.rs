//! Configuration, OCSP: `ocsp` beside whom to trust: the responder that is asked about each certificate.
//!
//! Takes:   the table as written.
//! Gives:   [`StatusSettings`].
//! Keeps:   nothing.
//! Refuses: what is no `http` URL: answers are signed, and the way to the responder needs no certificate of its own.
//! Sources: RFC 6960 section 4.1 and appendix A; SEC_CF 1.1 use case B.5; V-78.

use std::time::Duration;

use super::files::Sum;
use super::problem::Place;
use super::raw::{Section, Spot};
use crate::transport::ocsp::desk::{Responder, StatusSettings};

/// Reads `ocsp` of a table that says whom to trust; `None` if it is not there, or after saying what is wrong.
pub(super) fn read(table: &mut Section<'_>, sum: &mut Sum) -> Option<(StatusSettings, Place)> {
    let mut section = table.table("ocsp");
    let (notes, place) = (section.notes(), section.place());
    if !section.is_present() {
        return None;
    }
    let example = "\"http://status.example.net/\"";
    let responder = section.need::<String>("responder", "who is asked", example);
    let second = Duration::from_secs(1);
    let interval = section.within("interval", second * 300, second..=second * 86_400);
    let timeout = section.within("timeout", second * 3, second / 10..=second * 10);
    let nonce = section.or("nonce", false);
    let mut danger = section.table("danger");
    let soft = danger.maybe::<bool>("soft_fail").is_some_and(|Spot { value, place }| {
        if value {
            let why =
                "whoever can keep answers away keeps certificates in use that were taken back";
            notes.warn(&place, "weakens security", why, "soft_fail = false");
        }
        value
    });
    danger.finish();
    section.finish();
    if cfg!(not(feature = "http")) {
        let why = "it was built without the feature http";
        notes.problem(&place, "is not in this program", why, "");
        return None;
    }
    let Spot { value, place: written } = responder?;
    let Some(responder) = Responder::new(&value) else {
        let why = "it is an http URL; its answers are signed by the authority or its delegate";
        notes.problem(&written, "is no responder", why, example);
        return None;
    };
    let settings = StatusSettings { responder, timeout, interval, nonce, soft };
    sum.add(format!("{settings:?}").as_bytes());
    Some((settings, place))
}

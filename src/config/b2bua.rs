//! Configuration, back to back: `[b2bua]`, and what fits beside it.
//!
//! Takes:   the table as written, the listeners, and the names of the operator's own classes.
//! Gives:   [`Bridging`].
//! Keeps:   nothing.
//! Refuses: names of no class, registration, which no back-to-back user agent stands in for; what is said of bridged
//!          calls where none is. Classes are warned of where every listener bridges already.
//! Sources: `B2`; `dialog-association` section 13.

use super::listen::Listener;
use super::problem::Notes;
use super::raw::{Section, Spot};
use crate::enabler::{Class, ClassSet};
use crate::transport::Side;

/// What is bridged, and how, beside what listeners say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridging {
    /// Classes that are bridged, whatever the listener.
    pub classes: ClassSet,
    /// Whether a bridged dialog has the same Call-ID and tags on both legs.
    pub keep_call_id: bool,
}

/// Reads `[b2bua]`.
pub(super) fn read(root: &mut Section<'_>, listeners: &[Listener], own: &[Box<str>]) -> Bridging {
    let mut section = root.table("b2bua");
    let notes = section.notes();
    let keep_call_id = section.or("keep_call_id", false);
    let named = section.maybe::<Vec<String>>("classes");
    let classes = named.as_ref().map(|spot| classes(spot, own, notes)).unwrap_or_default();
    section.finish();
    let by_class = named.is_some_and(|Spot { value, place }| {
        let mut facing = listeners.iter().filter(|listener| listener.side == Side::Ue).peekable();
        if facing.peek().is_some() && facing.all(|listener| listener.b2bua) {
            let why = "every listener for devices has mode = \"b2bua\", so all classes are bridged";
            notes.warn(&place, "changes nothing", why, "");
        }
        !value.is_empty()
    });
    let by_listener = listeners.iter().any(|listener| listener.b2bua);
    if keep_call_id && !by_class && !by_listener && !notes.has_problems() {
        let why = "every listener is a proxy, and a proxy changes no Call-ID";
        let (line, what) = (root.place_of("b2bua").line, "b2bua is used by no listener");
        let fix = "[[listen]] with mode = \"b2bua\", or classes = [\"cpm\"]";
        notes.say(line, what.into(), why, fix);
    }
    Bridging { classes, keep_call_id }
}

/// The classes that a name stands for, if it is none of registration.
pub(super) fn class_set(name: &str, own: &[Box<str>]) -> Option<ClassSet> {
    let own = || {
        let place = own.iter().position(|own| **own == *name)?;
        Some(ClassSet::default().with(Class::Own(u8::try_from(place).ok()?)))
    };
    match name {
        "sip" => Some(ClassSet::default().with(Class::Sip)),
        "push" => Some(ClassSet::default().with(Class::Push)),
        name => ClassSet::named(name).or_else(own),
    }
}

/// The classes of those names.
fn classes(spot: &Spot<Vec<String>>, own: &[Box<str>], notes: &Notes) -> ClassSet {
    let mut set = ClassSet::default();
    for name in &spot.value {
        match class_set(name, own) {
            Some(more) => set = set.and(more),
            None if name == "reg" => {
                let why = "registrations are proxied in either mode: the edge is no registrar";
                notes.problem(&spot.place, "holds \"reg\"", why, "[\"sip\", \"cpm\"]");
            }
            None => {
                let what = format!("holds {name:?}, which is no class");
                let why = "sip, cpm, cpm.pager and so on, locsip, push, and those of [[enabler.class]] are";
                notes.problem(&spot.place, &what, why, "[\"cpm\", \"locsip\"]");
            }
        }
    }
    set
}

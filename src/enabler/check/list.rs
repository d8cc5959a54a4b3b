//! Stage 6, lists: how many a request is for, and that somebody is asked to see to it.
//!
//! Takes:   a request from a UE, or one part of it.
//! Gives:   how many recipients its lists name. Nothing here is ever sent to more than one.
//! Keeps:   nothing.
//! Refuses: a list without the option tag that fits its method; what `body::resource_lists` refuses.
//! Sources: RFC 5363 section 5; RFC 5365 section 4; RFC 5366 section 5; RFC 5367 section 4; RFC 5368 section 4; V-121.

use crate::enabler::body::{Leaf, leaves, resource_lists};
use crate::refusal::Refusal;
use crate::wire::{Message, Method, Name};

/// The option tag by which a server is asked to take a list in that method.
fn option(method: Method) -> Option<&'static str> {
    match method {
        Method::Message => Some("recipient-list-message"),
        Method::Invite => Some("recipient-list-invite"),
        Method::Subscribe => Some("recipient-list-subscribe"),
        Method::Refer => Some("multiple-refer"),
        _ => None,
    }
}

/// Whether the request is one that a list may be in.
pub fn may_carry(method: Method) -> bool {
    option(method).is_some()
}

/// Counts the recipients of one list of a request.
///
/// # Errors
///
/// [`Refusal::ListRefused`], [`Refusal::ListTooLong`], [`Refusal::XmlRefused`], [`Refusal::EncodingForbidden`].
pub fn count(
    message: &Message,
    method: Method,
    leaf: &Leaf<'_>,
    max: usize,
) -> Result<usize, Refusal> {
    let asked = option(method).is_some_and(|tag| message.has_option(Name::Require, tag));
    if !asked || !leaf.is("application/resource-lists+xml") {
        return Err(Refusal::ListRefused);
    }
    resource_lists::count(leaf.read()?, max)
}

/// Checks whatever lists there are in a request whose body is not looked at otherwise.
///
/// # Errors
///
/// As [`count`]; [`Refusal::BodyMalformed`] for a multipart that may hide one.
pub fn check_any(message: &Message, method: Method, max: usize) -> Result<(), Refusal> {
    let names_one = || {
        let head = message.fields_named(Name::ContentType);
        let head = head.chain(message.fields_named(Name::ContentDisposition));
        head.chain([message.body()]).any(mentions_list)
    };
    if !may_carry(method) || !names_one() {
        return Ok(());
    }
    let mut total = 0_usize;
    leaves(message, &mut |leaf| {
        if leaf.is_recipient_list() {
            total = total.saturating_add(count(message, method, leaf, max)?);
        }
        if total > max { Err(Refusal::ListTooLong) } else { Ok(()) }
    })
}

/// Whether the words are there by which a list is known: as types and dispositions are written, or in upper case.
fn mentions_list(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 2] = [b"resource-lists", b"recipient-list"];
    // Both have a hyphen, and most texts have few.
    memchr::memchr_iter(b'-', text).any(|at| {
        WORDS.iter().any(|word| {
            let before = word.iter().position(|octet| *octet == b'-').unwrap_or(0);
            let there = at.checked_sub(before).and_then(|start| text.get(start..));
            let there = there.and_then(|there| there.get(..word.len()));
            there.is_some_and(|there| there.eq_ignore_ascii_case(word))
        })
    })
}

//! Stage 6, watchers: who may ask where others are.
//!
//! Takes:   the caller, and the identities or usernames that are written down.
//! Gives:   nothing.
//! Keeps:   nothing.
//! Refuses: everybody else, before anything is said of the target.
//! Sources: SEC_CF 1.1 AUTH-001; RFC 3856 section 6.6.2.

use crate::authentication::Caller;
use crate::refusal::Refusal;
use crate::wire::Uri;

/// Checks it; `None` lets everybody watch.
///
/// # Errors
///
/// [`Refusal::WatcherRefused`].
pub fn check(caller: Option<&Caller>, watchers: Option<&[String]>) -> Result<(), Refusal> {
    let Some(watchers) = watchers else { return Ok(()) };
    let is = |caller: &Caller, watcher: &String| {
        let identity = Uri::parse(watcher.as_bytes()).map(|uri| uri.identity());
        identity.is_some_and(|identity| caller.owns(&identity)) || *caller.key_name == **watcher
    };
    let listed = caller.is_some_and(|caller| watchers.iter().any(|watcher| is(caller, watcher)));
    if listed { Ok(()) } else { Err(Refusal::WatcherRefused) }
}

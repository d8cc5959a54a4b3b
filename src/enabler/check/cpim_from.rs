//! Stage 6, CPIM From: nobody writes in another's name.
//!
//! Takes:   the URI of From, and the caller.
//! Gives:   nothing.
//! Keeps:   nothing.
//! Refuses: a URI that is none of the caller's identities.
//! Sources: RFC 3862 section 4.1; RFC 3428 section 11; RFC 3860 section 3 (im), RFC 3859 section 3 (pres); V-120, V-123.

use crate::authentication::Caller;
use crate::refusal::Refusal;
use crate::wire::Uri;

/// Compares it. `anonymous` lets those pass who are named by nothing but what the edge asserts.
///
/// # Errors
///
/// [`Refusal::CpimFromMismatch`].
pub fn check(from: &str, caller: Option<&Caller>, anonymous: bool) -> Result<(), Refusal> {
    // The mailbox of an im or pres URI is that of the sip URI.
    let scheme = |name: &str| {
        let (head, rest) = from.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then(|| format!("sip:{rest}"))
    };
    let spelt = scheme("im:").or_else(|| scheme("pres:"));
    let text = spelt.as_deref().unwrap_or(from);
    let identity = Uri::parse(text.as_bytes()).map(|uri| uri.identity());
    let fits = identity.is_some_and(|identity| {
        anonymous && identity == b"anonymous@anonymous.invalid"
            || caller.is_some_and(|caller| caller.owns(&identity))
    });
    if fits { Ok(()) } else { Err(Refusal::CpimFromMismatch) }
}

//! Stage 6, MSRP: a session of messages has the media of one, and it leads somewhere.
//!
//! Takes:   the session description of an INVITE or UPDATE, its class, and whether MSRP must be over TLS.
//! Gives:   nothing. The edge carries no media and changes no description.
//! Keeps:   nothing. Bound: one line of MSRP when a session begins; four for files.
//! Refuses: none or more than that; what `body::media` refuses; MSRP in the clear where TLS is asked for.
//! Sources: RFC 4975 sections 8.1 and 14.1; RFC 5547 section 6 (files); V-124.

use crate::enabler::Class;
use crate::enabler::body::media;
use crate::refusal::Refusal;

/// Most lines of one offer of files.
const FILES_MAX: usize = 4;

/// Checks a description; `begins` where the session begins with it.
///
/// # Errors
///
/// As [`media::msrp`]; [`Refusal::MsrpRefused`].
pub fn check(sdp: &[u8], class: Class, begins: bool, tls_only: bool) -> Result<(), Refusal> {
    let lines = media::msrp(sdp)?;
    let live = || lines.iter().filter(|line| !line.off);
    let clear = tls_only && live().any(|line| !line.secure);
    let most = if class == Class::CpmFile { FILES_MAX } else { 1 };
    let count = live().count();
    let fits = !begins || count >= 1 && count <= most;
    if clear || !fits { Err(Refusal::MsrpRefused) } else { Ok(()) }
}

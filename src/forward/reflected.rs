//! Stage 7, reflected challenges: what a UE, or whoever stands behind it, asks of others in our name.
//!
//! Takes:   a response from a UE on its way to the core.
//! Gives:   removals of the challenges that are a lure for credentials; whether any is left.
//! Keeps:   nothing.
//! Refuses: a challenge for a realm that is ours, or one of a domain served here: rule 32. Nobody but this edge and its
//!          core asks for those. Other challenges are forwarded, as a proxy has to.
//! Sources: RFC 3261 section 22.3; rule 32; `PX-12`; V-27.

use crate::wire::auth::unquote;
use crate::wire::octets::trim;
use crate::wire::{Edits, Message, Name, split};

/// Which challenges of UEs go no further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Those for a realm of ours.
    #[default]
    OwnRealms,
    /// All.
    All,
    /// None.
    Off,
}

/// What a response holds of such challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// None.
    Nothing,
    /// Some, and others beside them.
    Some,
    /// Nothing else, in a response that only asks for credentials.
    Only,
}

/// Takes challenges out that `filter` holds back; `is_own` knows the realms that are ours.
pub fn take_out(
    response: &Message,
    filter: Filter,
    is_own: impl Fn(&[u8]) -> bool,
    edits: &mut Edits,
) -> Found {
    let (mut gone, mut left) = (false, false);
    if filter == Filter::Off {
        return Found::Nothing;
    }
    for name in [Name::WwwAuthenticate, Name::ProxyAuthenticate] {
        for row in response.rows(name) {
            let value = row.value().of(response.octets());
            if filter == Filter::All || names_own(value, &is_own) {
                gone = true;
                edits.remove(row.line());
            } else {
                left = true;
            }
        }
    }
    match (gone, left) {
        (false, _) => Found::Nothing,
        (true, false) if matches!(response.status(), Some(401 | 407)) => Found::Only,
        (true, _) => Found::Some,
    }
}

/// Whether any realm in a row is ours, whatever the scheme; more than one challenge may stand in it. A realm that cannot
/// be read may be.
fn names_own(row: &[u8], is_own: impl Fn(&[u8]) -> bool) -> bool {
    split::commas(row).any(|part| {
        let (name, value) = split::name_value(part);
        // The scheme stands before the first name.
        let mut words = name.split(|octet| octet.is_ascii_whitespace());
        let is_realm = words.next_back().is_some_and(|word| word.eq_ignore_ascii_case(b"realm"));
        is_realm && unquote(trim(value.unwrap_or_default())).is_none_or(|realm| is_own(&realm))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_realm_of_a_row_is_looked_at_and_one_that_cannot_be_read_is_ours() {
        let is_own = |realm: &[u8]| realm == b"ours";
        for (row, own) in [
            ("Digest realm=\"ours\", nonce=\"x\"", true),
            ("Digest nonce=\"x\", REALM = \"ours\"", true),
            ("Basic realm=\"ours\"", true),
            ("Digest realm=ours", true),
            ("Digest realm=\"theirs\", nonce=\"x\"", false),
            ("Digest realm=\"theirs\", Digest realm=\"ours\"", true),
            ("Digest realm=\"o\\urs\", nonce=\"x\"", true),
            ("Digest realm=\"theirs, realm=ours\"", false),
            ("Digest realm=\"our", true),
            ("Digest nonce=\"x\"", false),
        ] {
            assert_eq!(names_own(row.as_bytes(), is_own), own, "{row}");
        }
    }
}

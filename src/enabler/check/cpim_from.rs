//! Stage 6, CPIM From: nobody writes in another's name.
//!
//! Takes:   the URI of From, and the caller.
//! Gives:   nothing.
//! Keeps:   nothing.
//! Refuses: a URI that is none of the caller's identities.
//! Sources: RFC 3862 section 4.1; RFC 3428 section 11; RFC 3860 section 3 (im), RFC 3859 section 3 (pres); V-120, V-123.

use crate::authentication::Caller;
use crate::identity::Impu;
use crate::refusal::Refusal;
use crate::wire::Uri;

/// Compares it. `anonymous` says whether those pass who are named by nothing but what the edge asserts.
///
/// # Errors
///
/// [`Refusal::CpimFromMismatch`].
pub fn check(
    from: &str,
    caller: Option<&Caller>,
    anonymous: impl FnOnce() -> bool,
) -> Result<(), Refusal> {
    // The mailbox of an im or pres URI is that of the sip URI.
    let scheme = |name: &str| {
        let (head, rest) = from.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then(|| format!("sip:{rest}"))
    };
    let spelt = scheme("im:").or_else(|| scheme("pres:"));
    let text = spelt.as_deref().unwrap_or(from);
    // Spelt as it is written down, as it mostly is.
    let spells = |own: &Impu| own.scheme().is_some() && own.as_str() == text;
    if caller.is_some_and(|caller| caller.identities.iter().any(spells)) {
        return Ok(());
    }
    let identity = Uri::parse(text.as_bytes()).map(|uri| uri.identity());
    let fits = identity.is_some_and(|identity| {
        caller.is_some_and(|caller| caller.owns(&identity))
            || identity == b"anonymous@anonymous.invalid" && anonymous()
    });
    if fits { Ok(()) } else { Err(Refusal::CpimFromMismatch) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU8;

    use super::*;
    use crate::authentication::{Renewal, Rights};
    use crate::identity::{Principal, Proof};

    #[test]
    fn nobody_writes_in_the_name_of_another() {
        let identities = ["sip:Alice@example.net", "tel:+12015550101", "nobody"];
        let caller = Caller {
            principal: Principal::new(Proof::Account, "example.net\talice"),
            renewal: Renewal::default(),
            identities: identities.map(|text| Impu::new(text).expect("a name")).into(),
            key_name: Arc::from("alice"),
            expires: None,
            strongest: AtomicU8::new(0),
            rights: Rights::default(),
        };
        for (from, fits) in [
            ("sip:Alice@example.net", true),
            ("sip:%41lice@EXAMPLE.net", true),
            ("sips:Alice@example.net", true),
            ("im:Alice@example.net", true),
            ("pres:Alice@example.net", true),
            ("tel:+1-201-555-0101", true),
            ("sip:alice@example.net", false),
            ("sip:bob@example.net", false),
            // It is written down, and it is no URI.
            ("nobody", false),
        ] {
            let found = check(from, Some(&caller), || false);
            assert_eq!(found.is_ok(), fits, "{from}");
            assert!(check(from, None, || true).is_err(), "{from}");
        }
        let unnamed = "sip:anonymous@anonymous.invalid";
        for (anonymous, expected) in [(true, Ok(())), (false, Err(Refusal::CpimFromMismatch))] {
            assert_eq!(check(unnamed, Some(&caller), || anonymous), expected);
        }
    }
}

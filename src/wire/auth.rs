//! Stage 2, Digest: credentials and challenges as octets.
//!
//! Takes:   one Authorization, Proxy-Authorization, WWW-Authenticate or Proxy-Authenticate row.
//! Gives:   [`Credentials`] or [`Challenge`] with their quoted strings opened.
//! Keeps:   nothing. Bounds: 64 parameters.
//! Refuses: a Digest row with a parameter twice, quotes that do not close, `nc` that is not 8 hex digits, both
//!          `username` and `username*`. Another scheme is no credential.
//! Sources: RFC 7616 sections 3.3 and 3.4; RFC 3261 section 25.1; RFC 8760 section 2.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::scan::{is_space, trim};
use super::{Fault, split};

/// Most parameters in one row.
pub const PARAMS_MAX: usize = 64;

/// Names and values of one row, quotes opened, in order.
pub type Params<'a> = SmallVec<[(&'a [u8], Cow<'a, [u8]>); 16]>;

/// The parameters of a Digest response, by name.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    params: Params<'a>,
}

/// The parameters of a Digest challenge, by name.
#[derive(Clone, Debug)]
pub struct Challenge<'a> {
    params: Params<'a>,
}

impl<'a> Credentials<'a> {
    /// Reads one row; `Ok(None)` if its scheme is not Digest.
    ///
    /// # Errors
    ///
    /// [`Fault::CredentialsMalformed`] if it is Digest and broken.
    pub fn parse(row: &'a [u8]) -> Result<Option<Self>, Fault> {
        let Some(params) = digest_params(row)? else { return Ok(None) };
        let credentials = Self { params };
        let nc_broken = credentials
            .param("nc")
            .is_some_and(|nc| nc.len() != 8 || !nc.iter().all(u8::is_ascii_hexdigit));
        let named_twice =
            credentials.param("username").is_some() && credentials.param("username*").is_some();
        if nc_broken || named_twice {
            return Err(Fault::CredentialsMalformed);
        }
        Ok(Some(credentials))
    }

    /// The value of a parameter, quotes opened.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        find(&self.params, name)
    }

    /// A parameter that is needed; empty if it is not there.
    pub fn or_empty(&self, name: &str) -> &[u8] {
        self.param(name).unwrap_or_default()
    }

    /// The nonce count; `None` if there is none.
    pub fn nonce_count(&self) -> Option<u32> {
        let digits = std::str::from_utf8(self.param("nc")?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    }
}

impl<'a> Challenge<'a> {
    /// Reads one row; `Ok(None)` if its scheme is not Digest.
    ///
    /// # Errors
    ///
    /// [`Fault::CredentialsMalformed`] if it is Digest and broken.
    pub fn parse(row: &'a [u8]) -> Result<Option<Self>, Fault> {
        Ok(digest_params(row)?.map(|params| Self { params }))
    }

    /// The value of a parameter, quotes opened.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        find(&self.params, name)
    }
}

/// The parameters of any comma-separated `name=value` list: Authentication-Info, or a row behind its scheme.
///
/// # Errors
///
/// [`Fault::CredentialsMalformed`] for a broken pair, a name there twice, or more than [`PARAMS_MAX`].
pub fn pairs(list: &[u8]) -> Result<Params<'_>, Fault> {
    let mut params = Params::new();
    for part in split::commas(list) {
        let (name, Some(value)) = split::name_value(part) else {
            return Err(Fault::CredentialsMalformed);
        };
        let value = unquote(value).ok_or(Fault::CredentialsMalformed)?;
        let twice = params.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if name.is_empty() || twice || params.len() >= PARAMS_MAX {
            return Err(Fault::CredentialsMalformed);
        }
        params.push((name, value));
    }
    Ok(params)
}

fn find<'s>(params: &'s Params<'_>, name: &str) -> Option<&'s [u8]> {
    params
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_ref())
}

fn digest_params(row: &[u8]) -> Result<Option<Params<'_>>, Fault> {
    let gap = row.iter().position(|octet| is_space(*octet)).unwrap_or(row.len());
    let (scheme, list) = row.split_at_checked(gap).unwrap_or((row, b""));
    if !scheme.eq_ignore_ascii_case(b"Digest") {
        return Ok(None);
    }
    pairs(trim(list)).map(Some)
}

/// The text of a token or of a quoted string; `None` if the quotes do not close.
pub fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        let clean = !value.iter().any(|octet| is_space(*octet) || *octet == b'"');
        return clean.then_some(Cow::Borrowed(value));
    };
    let inner = inner.strip_suffix(b"\"")?;
    if memchr::memchr2(b'\\', b'"', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let (mut text, mut escaped) = (Vec::with_capacity(inner.len()), false);
    for octet in inner {
        match octet {
            b'\\' if !escaped => {
                escaped = true;
                continue;
            }
            b'"' if !escaped => return None,
            _ => {}
        }
        escaped = false;
        text.push(*octet);
    }
    (!escaped).then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quoted_and_bare() {
        let row =
            br#"Digest username="a\"b", realm="r", qop=auth, nc=0000000A,algorithm="SHA-256""#;
        let credentials = Credentials::parse(row).expect("well formed").expect("Digest");
        assert_eq!(credentials.param("USERNAME"), Some(&b"a\"b"[..]));
        assert_eq!(credentials.nonce_count(), Some(10));
        assert_eq!(credentials.param("algorithm"), Some(&b"SHA-256"[..]));
    }

    #[test]
    fn refuses_contradictions() {
        for bad in [
            r#"Digest response="a", response="b""#,
            r#"Digest username="a", username*=UTF-8''a"#,
            r#"Digest nc=1"#,
            r#"Digest nc=0000000g"#,
            r#"Digest realm="open"#,
            r#"Digest realm"#,
        ] {
            assert_eq!(
                Credentials::parse(bad.as_bytes()).err(),
                Some(Fault::CredentialsMalformed),
                "{bad}"
            );
        }
        assert!(Credentials::parse(b"Basic abc=").expect("no fault").is_none());
    }
}

//! Stage 2, Digest: credentials and challenges as octets.
//!
//! Takes:   one Authorization, Proxy-Authorization, WWW-Authenticate, Proxy-Authenticate or
//!          Authentication-Info row.
//! Gives:   [`Credentials`], [`Challenge`] or [`AuthenticationInfo`] with their quoted strings opened.
//! Keeps:   nothing. Bounds: 64 parameters.
//! Refuses: a Digest row with a parameter twice, quotes that do not close, `nc` that is not 8 hex digits, both
//!          `username` and `username*`. Another scheme is no credential.
//! Sources: RFC 7616 sections 3.3 to 3.5; RFC 3261 section 25.1; RFC 8760 section 2; RFC 8898 section 2.1.2.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::octets::{is_space, is_token_octet, position, quoted, trim, trim_start};
use super::{Fault, split, steps};

/// Most parameters in one row.
pub const PARAMS_MAX: usize = 64;

/// A name and its value, quotes opened.
pub type Pair<'a> = (&'a [u8], Cow<'a, [u8]>);

/// The pairs of one row, in order.
pub type Params<'a> = SmallVec<[Pair<'a>; 16]>;

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

impl Challenge<'_> {
    /// The realm; empty if there is none.
    pub fn realm(&self) -> &[u8] {
        self.param("realm").unwrap_or_default()
    }

    /// The nonce; empty if there is none.
    pub fn nonce(&self) -> &[u8] {
        self.param("nonce").unwrap_or_default()
    }

    /// Whether only the nonce of the credentials before was wrong.
    pub fn stale(&self) -> bool {
        self.param("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true"))
    }

    /// Whether `qop` ("auth", "auth-int") is among those offered.
    pub fn offers(&self, qop: &str) -> bool {
        let offered = self.param("qop").unwrap_or_default();
        split::commas(offered).any(|found| found.eq_ignore_ascii_case(qop.as_bytes()))
    }
}

/// The parameters of Authentication-Info: what a server says after it accepted credentials.
#[derive(Clone, Debug)]
pub struct AuthenticationInfo<'a> {
    params: Params<'a>,
}

impl<'a> AuthenticationInfo<'a> {
    /// Reads one row.
    ///
    /// # Errors
    ///
    /// [`Fault::CredentialsMalformed`] if it is no list of parameters, or one of them is there twice.
    pub fn parse(row: &'a [u8]) -> Result<Self, Fault> {
        pairs(trim(row)).map(|params| Self { params })
    }

    /// The value of a parameter (`nextnonce`, `rspauth`, `qop`, `cnonce`, `nc`), quotes opened.
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
    let mut rest = list;
    loop {
        rest = rest.get(rest.iter().take_while(|octet| is_gap(**octet)).count()..).unwrap_or(b"");
        if rest.is_empty() {
            return Ok(params);
        }
        let (tail, (name, value)) = pair(rest).ok_or(Fault::CredentialsMalformed)?;
        steps::count(rest.len().saturating_sub(tail.len()));
        rest = tail;
        let twice = params.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if twice || params.len() >= PARAMS_MAX {
            return Err(Fault::CredentialsMalformed);
        }
        params.push((name, value));
    }
}

/// Whether a row of credentials is a bearer token: whoever reads it has it, so it goes no further than to whom it came.
///
/// Source: RFC 8898 section 2.1.2.
pub fn is_bearer(row: &[u8]) -> bool {
    let row = trim_start(row);
    let end = row.iter().position(|octet| is_space(*octet)).unwrap_or(row.len());
    row.get(..end).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer"))
}

/// White space and commas: an element of a list may be empty.
fn is_gap(octet: u8) -> bool {
    is_space(octet) || octet == b','
}

/// `token EQUAL ( token / quoted-string )` up to a comma or the end, and what is left.
fn pair(list: &[u8]) -> Option<(&[u8], Pair<'_>)> {
    let end = list.iter().position(|octet| !is_token_octet(*octet)).filter(|end| *end > 0)?;
    let (name, rest) = list.split_at_checked(end)?;
    let rest = trim_start(trim_start(rest).strip_prefix(b"=")?);
    let (rest, value) = match rest.first() {
        Some(b'"') => {
            let (rest, value) = quoted(rest).ok()?;
            (rest, unquote(value)?)
        }
        _ => {
            let end = position(b',', rest).unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end)?;
            (rest, unquote(trim(value))?)
        }
    };
    let rest = trim_start(rest);
    matches!(rest.first(), None | Some(b',')).then_some((rest, (name, value)))
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

/// The text of a token or of a quoted string, folds made one space; `None` if the quotes do not close, or if what
/// is bare holds white space, quotes or control octets.
pub fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        let clean = value.iter().all(|octet| octet.is_ascii_graphic() && *octet != b'"');
        return clean.then_some(Cow::Borrowed(value));
    };
    let inner = inner.strip_suffix(b"\"")?;
    if memchr::memchr3(b'\\', b'"', b'\r', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((octet, tail)) = rest.split_first() {
        rest = tail;
        match octet {
            b'"' => return None,
            b'\\' => {
                let (escaped, tail) = tail.split_first()?;
                text.push(*escaped);
                rest = tail;
            }
            b'\r' => {
                let spaces = tail.iter().take_while(|octet| is_space(**octet)).count();
                rest = tail.get(spaces..).unwrap_or_default();
                text.push(b' ');
            }
            _ => text.push(*octet),
        }
    }
    Some(Cow::Owned(text))
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
    fn reads_what_a_server_says() {
        let row = br#"Digest realm="3GPP-bootstrapping@naf.example;x", nonce="n", qop="auth,auth-int", stale=TRUE"#;
        let challenge = Challenge::parse(row).expect("well formed").expect("Digest");
        assert_eq!(challenge.realm(), b"3GPP-bootstrapping@naf.example;x");
        assert_eq!(challenge.nonce(), b"n");
        assert!(challenge.stale() && challenge.offers("auth-int") && !challenge.offers("int"));
        let info = AuthenticationInfo::parse(br#"nextnonce="x", nc=00000001, rspauth="ab""#);
        let info = info.expect("well formed");
        assert_eq!((info.param("nextnonce"), info.param("qop")), (Some(&b"x"[..]), None));
    }

    #[test]
    fn opens_quotes() {
        for (value, text) in [
            (&br#""a\\\"b""#[..], Some(&br#"a\"b"#[..])),
            (b"\"a\r\n  b\"", Some(b"a b")),
            (b"\"\"", Some(b"")),
            (b"", Some(b"")),
            (b"token", Some(b"token")),
            (b"\"", None),
            (b"\"a", None),
            (b"\"a\\\"", None),
            (b"\"a\"b\"", None),
            (b"a b", None),
            (b"a\"", None),
            (b"a\0", None),
        ] {
            assert_eq!(unquote(value).as_deref(), text, "{}", String::from_utf8_lossy(value));
        }
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
            r#"Digest realm="a", Digest realm="b""#,
            r#"Digest realm=a b"#,
            r#"Digest ="a""#,
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

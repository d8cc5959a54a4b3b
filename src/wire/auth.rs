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

/// The value of a parameter, quotes opened.
type Value<'a> = Cow<'a, [u8]>;

/// The parameters of a Digest response: those that its verifiers ask for each in a place of its own.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    known: [Option<Value<'a>>; Known::COUNT],
    others: Vec<Pair<'a>>,
}

/// A parameter that a verifier asks for.
#[derive(Clone, Copy)]
enum Known {
    Username,
    Realm,
    Nonce,
    Uri,
    Response,
    Algorithm,
    Cnonce,
    Opaque,
    Qop,
    Nc,
}

impl Known {
    const COUNT: usize = Self::Nc as usize + 1;

    /// The parameter of that name; by its length first, since most differ in that.
    fn of(name: &[u8]) -> Option<Self> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is(b"nc") => Some(Self::Nc),
            3 if is(b"uri") => Some(Self::Uri),
            3 if is(b"qop") => Some(Self::Qop),
            5 if is(b"realm") => Some(Self::Realm),
            5 if is(b"nonce") => Some(Self::Nonce),
            6 if is(b"cnonce") => Some(Self::Cnonce),
            6 if is(b"opaque") => Some(Self::Opaque),
            8 if is(b"username") => Some(Self::Username),
            8 if is(b"response") => Some(Self::Response),
            9 if is(b"algorithm") => Some(Self::Algorithm),
            _ => None,
        }
    }
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
        let Some(list) = digest_list(row) else { return Ok(None) };
        let mut read = Self { known: Default::default(), others: Vec::new() };
        for (place, pair) in each_pair(list).enumerate() {
            let (name, value) = pair?;
            match Known::of(name).and_then(|known| read.known.get_mut(known as usize)) {
                _ if place >= PARAMS_MAX => return Err(Fault::CredentialsMalformed),
                Some(slot @ None) => *slot = Some(value),
                None if find(&read.others, name).is_none() => read.others.push((name, value)),
                _ => return Err(Fault::CredentialsMalformed),
            }
        }
        let nc = read.known(Known::Nc);
        let nc_broken = nc.is_some_and(|nc| nc.len() != 8 || !nc.iter().all(u8::is_ascii_hexdigit));
        let named = read.known(Known::Username).is_some();
        if nc_broken || named && find(&read.others, b"username*").is_some() {
            return Err(Fault::CredentialsMalformed);
        }
        Ok(Some(read))
    }

    fn known(&self, known: Known) -> Option<&[u8]> {
        self.known.get(known as usize)?.as_deref()
    }

    fn known_or_empty(&self, known: Known) -> &[u8] {
        self.known(known).unwrap_or_default()
    }

    /// The value of a parameter, quotes opened.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        match Known::of(name.as_bytes()) {
            Some(known) => self.known(known),
            None => find(&self.others, name.as_bytes()),
        }
    }

    /// The username; empty if there is none, as with those that follow.
    pub fn username(&self) -> &[u8] {
        self.known_or_empty(Known::Username)
    }

    /// The realm.
    pub fn realm(&self) -> &[u8] {
        self.known_or_empty(Known::Realm)
    }

    /// The nonce.
    pub fn nonce(&self) -> &[u8] {
        self.known_or_empty(Known::Nonce)
    }

    /// The digest-uri.
    pub fn uri(&self) -> &[u8] {
        self.known_or_empty(Known::Uri)
    }

    /// The response.
    pub fn response(&self) -> &[u8] {
        self.known_or_empty(Known::Response)
    }

    /// The client's nonce.
    pub fn cnonce(&self) -> &[u8] {
        self.known_or_empty(Known::Cnonce)
    }

    /// The one quality of protection that the response is of.
    pub fn qop(&self) -> &[u8] {
        self.known_or_empty(Known::Qop)
    }

    /// The nonce count: eight hex digits as written.
    pub fn nc(&self) -> &[u8] {
        self.known_or_empty(Known::Nc)
    }

    /// The algorithm; `None` if there is none.
    pub fn algorithm(&self) -> Option<&[u8]> {
        self.known(Known::Algorithm)
    }

    /// The nonce count; `None` if there is none.
    pub fn nonce_count(&self) -> Option<u32> {
        u32::from_str_radix(std::str::from_utf8(self.nc()).ok()?, 16).ok()
    }
}

impl<'a> Challenge<'a> {
    /// Reads one row; `Ok(None)` if its scheme is not Digest.
    ///
    /// # Errors
    ///
    /// [`Fault::CredentialsMalformed`] if it is Digest and broken.
    pub fn parse(row: &'a [u8]) -> Result<Option<Self>, Fault> {
        let params = digest_list(row).map(pairs).transpose()?;
        Ok(params.map(|params| Self { params }))
    }

    /// The value of a parameter, quotes opened.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        find(&self.params, name.as_bytes())
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
        find(&self.params, name.as_bytes())
    }
}

/// The parameters of any comma-separated `name=value` list: Authentication-Info, or a row behind its scheme.
///
/// # Errors
///
/// [`Fault::CredentialsMalformed`] for a broken pair, a name there twice, or more than [`PARAMS_MAX`].
pub fn pairs(list: &[u8]) -> Result<Params<'_>, Fault> {
    let mut params = Params::new();
    for pair in each_pair(list) {
        let (name, value) = pair?;
        if params.len() >= PARAMS_MAX || find(&params, name).is_some() {
            return Err(Fault::CredentialsMalformed);
        }
        params.push((name, value));
    }
    Ok(params)
}

/// The same, one at a time: it ends with the list, or at what is no pair.
fn each_pair(list: &[u8]) -> impl Iterator<Item = Result<Pair<'_>, Fault>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let gap = rest.iter().take_while(|octet| is_gap(**octet)).count();
        rest = rest.get(gap..).filter(|rest| !rest.is_empty())?;
        let Some((tail, found)) = pair(rest) else {
            rest = b"";
            return Some(Err(Fault::CredentialsMalformed));
        };
        steps::count(rest.len().saturating_sub(tail.len()));
        rest = tail;
        Some(Ok(found))
    })
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

fn find<'s>(params: &'s [Pair<'_>], name: &[u8]) -> Option<&'s [u8]> {
    let found = params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_ref())
}

/// What stands behind the scheme of a row, if that is Digest.
fn digest_list(row: &[u8]) -> Option<&[u8]> {
    let gap = row.iter().position(|octet| is_space(*octet)).unwrap_or(row.len());
    let (scheme, list) = row.split_at_checked(gap)?;
    scheme.eq_ignore_ascii_case(b"Digest").then(|| trim(list))
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
        assert_eq!(credentials.algorithm(), credentials.param("Algorithm"));
        assert_eq!((credentials.realm(), credentials.nonce()), (&b"r"[..], &b""[..]));
    }

    /// What has a place of its own is found by its name all the same, and so is what has none.
    #[test]
    fn every_parameter_is_found_by_its_name() {
        let names = ["username", "realm", "nonce", "uri", "response", "algorithm", "cnonce"];
        let names = names.into_iter().chain(["opaque", "qop", "nc", "auts", "userhash", "x"]);
        let value = |name: &str| if name == "nc" { "0000001f" } else { name }.to_owned();
        let pairs = names.clone().map(|name| format!("{name}=\"{}\"", value(name)));
        let row = format!("Digest {}", pairs.collect::<Vec<_>>().join(","));
        let read = Credentials::parse(row.as_bytes()).expect("well formed").expect("Digest");
        for name in names {
            assert_eq!(read.param(name), Some(value(name).as_bytes()), "{name}");
            assert_eq!(read.param(&name.to_uppercase()), read.param(name), "{name}");
        }
        let by_name: [(&[u8], &str); 8] = [
            (read.username(), "username"),
            (read.realm(), "realm"),
            (read.nonce(), "nonce"),
            (read.uri(), "uri"),
            (read.response(), "response"),
            (read.cnonce(), "cnonce"),
            (read.qop(), "qop"),
            (read.nc(), "0000001f"),
        ];
        for (found, expected) in by_name {
            assert_eq!(found, expected.as_bytes());
        }
        assert_eq!((read.algorithm(), read.nonce_count()), (Some(&b"algorithm"[..]), Some(31)));
        assert_eq!(read.param("stale"), None);
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
            r#"Digest x="a", X=b"#,
            r#"Digest username*=a, username=b"#,
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

//! Keys, Nbsp_GBA, tokens: what TS 29.309 has a NAF show beside its certificate, where that is demanded.
//!
//! Takes:   the fields that a request brought, the path it asks for, the names in the certificate, the time.
//! Gives:   [`Bearer`], a token that is shown; [`Tokens`], those that are good; [`Unproved`], what a request lacks.
//! Keeps:   of each good token its hash, at most [`TOKENS_MAX`]; never the token.
//! Refuses: no token, or another scheme; one that is not among them, is over, or was given to another NAF, with one word and
//!          at one cost; one without the scope that the resource needs. A token stands beside the certificate, never for it.
//! Sources: TS 29.309 clause 6.1.8; TS 33.501 clause 13.4.1 (scopes); RFC 6749 section 4.4; RFC 6750 sections 2.1 and 3.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{INFO_PATH, PUSH_PATH};
use crate::instant::WallTime;

/// Longest token, in octets.
pub const TOKEN_MAX: usize = 4096;
/// Most good tokens.
pub const TOKENS_MAX: usize = 1024;

/// A token, as a NAF shows it.
#[derive(Clone)]
pub struct Bearer(Arc<Zeroizing<String>>);

impl Bearer {
    /// The token in `octets`, which may end with a line end; `None` if there is none, or it is over [`TOKEN_MAX`].
    ///
    /// Source: RFC 6750 section 2.1 (`b64token`).
    pub fn read(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets.trim_ascii_end()).ok()?;
        let symbols = text.trim_end_matches('=');
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
        let good = text.len() <= TOKEN_MAX && !symbols.is_empty() && symbols.bytes().all(fits);
        good.then(|| Self(Arc::new(Zeroizing::new(text.to_owned()))))
    }

    /// The value of `Authorization` that shows it.
    pub fn credentials(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The service: all of it, unless the token names resources too.
    Service,
    /// Keys of B-TIDs.
    Info,
    /// Push info.
    Push,
}

impl Scope {
    /// All, by name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("nbsp-gba", Self::Service),
        ("nbsp-gba:bootstrapping-info-retrieval:invoke", Self::Info),
        ("nbsp-gba:push-info-retrieval:invoke", Self::Push),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "nbsp-gba",
            Self::Info => "nbsp-gba:bootstrapping-info-retrieval:invoke",
            Self::Push => "nbsp-gba:push-info-retrieval:invoke",
        }
    }

    /// That of a resource; `None` if there is no such resource.
    fn of(path: &str) -> Option<Self> {
        match path {
            INFO_PATH => Some(Self::Info),
            PUSH_PATH => Some(Self::Push),
            _ => None,
        }
    }
}

/// A token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// The NAF that it was given to, by the name in its certificate.
    pub host: Arc<str>,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires: WallTime,
}

impl Token {
    /// Whether it is good for that resource.
    ///
    /// Source: TS 33.501 clause 13.4.1: the service, and of resources those that are named, if any are.
    fn reaches(&self, resource: Scope) -> bool {
        let named = self.scopes.iter().any(|scope| *scope != Scope::Service);
        self.scopes.contains(&Scope::Service) && (!named || self.scopes.contains(&resource))
    }
}

/// What a request lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// It shows no token.
    Missing,
    /// None that is good for who shows it.
    Invalid,
    /// One that is not good for that resource.
    Scope(Scope),
}

impl Unproved {
    /// The value of `WWW-Authenticate` that says so.
    ///
    /// Source: RFC 6750 section 3.
    pub fn challenge(self) -> String {
        let realm = "Bearer realm=\"nbsp-gba\"";
        match self {
            Self::Missing => realm.to_owned(),
            Self::Invalid => format!("{realm}, error=\"invalid_token\""),
            Self::Scope(needed) => {
                let (service, needed) = (Scope::Service.name(), needed.name());
                format!("{realm}, error=\"insufficient_scope\", scope=\"{service} {needed}\"")
            }
        }
    }
}

/// The tokens that are good.
#[derive(Default)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// These; `None` if they are over [`TOKENS_MAX`], or one is there twice.
    pub fn new(tokens: Vec<Token>) -> Option<Self> {
        let mut hashes: Vec<_> = tokens.iter().map(|token| token.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        (hashes.len() == tokens.len() && tokens.len() <= TOKENS_MAX).then_some(Self(tokens))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request may be answered: `fields` are the values of its `Authorization`, `hosts` the names that the
    /// certificate of who asks was verified for.
    ///
    /// # Errors
    ///
    /// [`Unproved`]. A path without a resource needs none: there is nothing behind it.
    pub fn admit<'f>(
        &self,
        mut fields: impl Iterator<Item = &'f [u8]>,
        hosts: &[Arc<str>],
        path: &str,
        now: WallTime,
    ) -> Result<(), Unproved> {
        let Some(resource) = Scope::of(path) else { return Ok(()) };
        let shown = fields.next().and_then(shown).ok_or(Unproved::Missing)?;
        if fields.next().is_some() || shown.len() > TOKEN_MAX {
            return Err(Unproved::Invalid);
        }
        let token = self.find(&Sha256::digest(shown).into()).ok_or(Unproved::Invalid)?;
        let given_to = |host: &Arc<str>| host.eq_ignore_ascii_case(&token.host);
        if token.expires <= now || !hosts.iter().any(given_to) {
            return Err(Unproved::Invalid);
        }
        if token.reaches(resource) { Ok(()) } else { Err(Unproved::Scope(resource)) }
    }

    /// All are looked at, whichever it is.
    fn find(&self, hash: &[u8; 32]) -> Option<&Token> {
        let mut place = u32::MAX;
        for (at, token) in (0_u32..).zip(&self.0) {
            place.conditional_assign(&at, token.hash.ct_eq(hash));
        }
        self.0.get(usize::try_from(place).ok()?)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// The token in a value of `Authorization`; `None` if it is of another scheme.
fn shown(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = scheme.eq_ignore_ascii_case(b"Bearer").then_some(token)?;
    let rest = token.trim_ascii_start();
    (rest.len() < token.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";
    const HOST: &str = "naf7.example.net";

    fn token(text: &str, scopes: &[Scope]) -> Token {
        Token {
            hash: Sha256::digest(text).into(),
            host: HOST.into(),
            scopes: scopes.to_vec(),
            expires: WallTime::from_unix(2000),
        }
    }

    fn said(tokens: &Tokens, fields: &[&str], hosts: &[&str], path: &str) -> Result<(), Unproved> {
        let hosts: Vec<Arc<str>> = hosts.iter().map(|host| (*host).into()).collect();
        let fields = fields.iter().map(|field| field.as_bytes());
        tokens.admit(fields, &hosts, path, WallTime::from_unix(1000))
    }

    #[test]
    fn a_good_token_is_good_for_whom_it_was_given_to() {
        let own = [Scope::Service];
        let tokens = Tokens::new(vec![token("other", &own), token(TOKEN, &own)]).unwrap();
        let bearer = format!("Bearer {TOKEN}");
        let (small, wide) = (format!("bearer {TOKEN}"), format!("BEARER   {TOKEN}"));
        let long = format!("Bearer {}", "a".repeat(TOKEN_MAX + 1));
        let (good, missing, invalid) = (Ok(()), Err(Unproved::Missing), Err(Unproved::Invalid));
        for (fields, hosts, expected) in [
            (&[&*bearer][..], &[HOST][..], good),
            (&[&*small], &[HOST], good),
            (&[&*wide], &["a.example.net", "NAF7.example.net"], good),
            (&[], &[HOST], missing),
            (&[""], &[HOST], missing),
            (&["Bearer"], &[HOST], missing),
            (&[TOKEN], &[HOST], missing),
            (&["Basic YTpi"], &[HOST], missing),
            (&[&*format!("Bearer{TOKEN}")], &[HOST], missing),
            (&["Bearer "], &[HOST], invalid),
            (&["Bearer 2YotnFZFEjr1zCsicMWpAB"], &[HOST], invalid),
            (&["Bearer 2YotnFZFEjr1zCsicMWpA"], &[HOST], invalid),
            (&[&*format!("{bearer} ")], &[HOST], invalid),
            (&[&*long], &[HOST], invalid),
            (&[&*bearer, &*bearer], &[HOST], invalid),
            (&[&*bearer], &["naf8.example.net"], invalid),
            (&[&*bearer], &[], invalid),
        ] {
            assert_eq!(said(&tokens, fields, hosts, INFO_PATH), expected, "{fields:?} {hosts:?}");
        }
        let fields = [bearer.as_bytes()].into_iter();
        let late = tokens.admit(fields, &[HOST.into()], INFO_PATH, WallTime::from_unix(2000));
        assert_eq!(late, invalid, "its time is over");
        assert_eq!(said(&tokens, &[], &[HOST], "/other"), good, "there is nothing");
        let none = Tokens::default();
        assert_eq!(said(&none, &[&*bearer], &[HOST], INFO_PATH), invalid);
        assert_eq!(said(&none, &["Bearer "], &[HOST], INFO_PATH), invalid);
    }

    /// TS 33.501 clause 13.4.1: without the service nothing; with resources those alone.
    #[test]
    fn a_scope_is_what_a_token_is_good_for() {
        use Scope::{Info, Push, Service};
        for (scopes, info, push) in [
            (&[Service][..], true, true),
            (&[Service, Info], true, false),
            (&[Push, Service], false, true),
            (&[Service, Info, Push], true, true),
            (&[Info, Push], false, false),
            (&[], false, false),
        ] {
            let tokens = Tokens::new(vec![token(TOKEN, scopes)]).unwrap();
            for (path, resource, good) in [(INFO_PATH, Info, info), (PUSH_PATH, Push, push)] {
                let expected = if good { Ok(()) } else { Err(Unproved::Scope(resource)) };
                let said = said(&tokens, &[&format!("Bearer {TOKEN}")], &[HOST], path);
                assert_eq!(said, expected, "{scopes:?} {path}");
            }
        }
        for (name, scope) in Scope::ALL {
            assert_eq!(scope.name(), name);
        }
    }

    #[test]
    fn tokens_are_bounded_and_each_is_there_once() {
        let many = |count: usize| (0..count).map(|at| token(&at.to_string(), &[])).collect();
        assert_eq!(Tokens::new(many(TOKENS_MAX)).map(|tokens| tokens.len()), Some(TOKENS_MAX));
        assert!(Tokens::new(many(TOKENS_MAX + 1)).is_none());
        assert!(Tokens::new(vec![token("a", &[]), token("a", &[Scope::Push])]).is_none());
    }

    #[test]
    fn a_token_is_what_rfc_6750_lets_stand() {
        for text in [TOKEN, "a", "mF_9.B5f-4.1JqM", "YWJj/+~==", "a\n", "a\r\n"] {
            let read = Bearer::read(text.as_bytes()).unwrap();
            assert_eq!(*read.credentials(), format!("Bearer {}", text.trim_end()));
            assert_eq!(format!("{read:?}"), "Bearer(..)");
        }
        let long = "a".repeat(TOKEN_MAX + 1);
        for text in ["", "\n", "=", "a b", " a", "a=b", "a\nb", "a\"", "é", "a,b", &long] {
            assert!(Bearer::read(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    /// RFC 6750 section 3: without credentials no error is told; with others it is.
    #[test]
    fn each_lack_is_told() {
        for (lack, told) in [
            (Unproved::Missing, "Bearer realm=\"nbsp-gba\""),
            (Unproved::Invalid, "Bearer realm=\"nbsp-gba\", error=\"invalid_token\""),
            (
                Unproved::Scope(Scope::Push),
                "Bearer realm=\"nbsp-gba\", error=\"insufficient_scope\", scope=\"nbsp-gba nbsp-gba:push-info-retrieval:invoke\"",
            ),
        ] {
            assert_eq!(lack.challenge(), told);
        }
        assert_eq!(format!("{:?}", Tokens::default()), "Tokens(..)");
    }
}

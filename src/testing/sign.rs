//! For tests: a peer's side of Digest.
//!
//! Takes:   a challenge and a request.
//! Gives:   the request with its credentials.
//! Keeps:   username, password and the count of each nonce.
//! Refuses: nothing.
//! Sources: RFC 7616 section 3.4.

use crate::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::wire::{Challenge, Message, Name};

/// Who signs, and how.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Digest username.
    pub username: String,
    /// Digest password.
    pub password: String,
    /// The realm whose challenge is answered.
    pub realm: String,
    /// The algorithm whose row is answered.
    pub hash: Hash,
    /// Whether the body is covered.
    pub auth_int: bool,
    /// The nonce in use; empty before the first challenge.
    pub nonce: String,
    /// The count used last.
    pub count: u32,
}

impl Signer {
    /// A signer without a nonce.
    pub fn new(username: &str, password: &str, realm: &str) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
            realm: realm.into(),
            hash: Hash::Sha256,
            auth_int: false,
            nonce: String::new(),
            count: 0,
        }
    }

    /// Takes the nonce out of a 401 or 407; `None` if it has no row for this realm and algorithm.
    pub fn challenged(&mut self, response: &Message) -> Option<bool> {
        let rows = [Name::ProxyAuthenticate, Name::WwwAuthenticate];
        let row = rows
            .into_iter()
            .flat_map(|name| response.fields_named(name))
            .filter_map(|row| Challenge::parse(row).ok().flatten())
            .find(|row| {
                row.param("realm") == Some(self.realm.as_bytes())
                    && row.param("algorithm") == Some(self.hash.as_str().as_bytes())
            })?;
        self.nonce = String::from_utf8_lossy(row.param("nonce")?).into_owned();
        self.count = 0;
        Some(row.param("stale") == Some(b"true"))
    }

    /// The value of Proxy-Authorization or Authorization for a request, with the next count.
    pub fn credentials(&mut self, method: &str, uri: &str, body: &[u8]) -> String {
        self.count += 1;
        self.credentials_with(method, uri, body, self.count)
    }

    /// What `rspauth` must be for the latest credentials, beside an empty body.
    pub fn expected_rspauth(&self, uri: &str) -> String {
        let Self { username, password, realm, hash, nonce, .. } = self;
        let ha1 = Ha1::new(*hash, username.as_bytes(), realm.as_bytes(), password.as_bytes());
        let nc = format!("{:08x}", self.count);
        let inputs = Inputs {
            hash: *hash,
            session: false,
            method: b"",
            uri: uri.as_bytes(),
            nonce: nonce.as_bytes(),
            cnonce: b"0a4f113b",
            nc: nc.as_bytes(),
            qop: if self.auth_int { Qop::AuthInt(b"") } else { Qop::Auth },
        };
        String::from_utf8_lossy(Response::compute(&ha1, &inputs).as_hex()).into_owned()
    }

    /// The value of `d-ver` beside credentials with that count: it covers `list` (RFC 3329 section 2.2).
    pub fn verifier(&self, method: &str, uri: &str, body: &[u8], count: u32, list: &str) -> String {
        self.compute(method, uri, body, count, |ha1, inputs| {
            Response::vouching(ha1, inputs, list.as_bytes())
        })
    }

    fn compute(
        &self,
        method: &str,
        uri: &str,
        body: &[u8],
        count: u32,
        how: impl Fn(&Ha1, &Inputs<'_>) -> Response,
    ) -> String {
        let Self { username, password, realm, hash, nonce, .. } = self;
        let nc = format!("{count:08x}");
        let ha1 = Ha1::new(*hash, username.as_bytes(), realm.as_bytes(), password.as_bytes());
        let inputs = Inputs {
            hash: *hash,
            session: false,
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nonce: nonce.as_bytes(),
            cnonce: b"0a4f113b",
            nc: nc.as_bytes(),
            qop: if self.auth_int { Qop::AuthInt(body) } else { Qop::Auth },
        };
        String::from_utf8_lossy(how(&ha1, &inputs).as_hex()).into_owned()
    }

    /// As [`Signer::credentials`], with that count.
    pub fn credentials_with(&self, method: &str, uri: &str, body: &[u8], count: u32) -> String {
        let Self { username, realm, hash, nonce, .. } = self;
        let response = self.compute(method, uri, body, count, Response::compute);
        let nc = format!("{count:08x}");
        let name = if self.auth_int { "auth-int" } else { "auth" };
        format!(
            "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             algorithm={}, qop={name}, nc={nc}, cnonce=\"0a4f113b\", response=\"{response}\"",
            hash.as_str()
        )
    }
}

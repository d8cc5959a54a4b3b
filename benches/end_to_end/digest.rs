//! Digest, the client's half: credentials sent ahead of the challenge, with a count that grows.
//!
//! Sources: RFC 7616 section 3.4, RFC 8760.

use md5::Md5;
use sha2::Sha256;

use super::wire::{self, join};

/// The two algorithms that all anchors know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Algorithm {
    #[default]
    Md5,
    Sha256,
}

impl Algorithm {
    /// As it stands in challenges and configurations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The hash of all parts, in hex.
    pub(crate) fn hex(self, parts: &[&[u8]]) -> Vec<u8> {
        fn hash<D: md5::Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hash = D::new();
            parts.iter().for_each(|part| hash.update(part));
            hex(&hash.finalize())
        }
        match self {
            Self::Md5 => hash::<Md5>(parts),
            Self::Sha256 => hash::<Sha256>(parts),
        }
    }
}

/// Hex digits.
pub(crate) fn hex(octets: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        octets.iter().flat_map(|o| [DIGITS[usize::from(o >> 4)], DIGITS[usize::from(o & 15)]]);
    digits.collect()
}

/// Name and password of one UE, and the nonce that it goes on with.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    username: Vec<u8>,
    password: Vec<u8>,
    challenge: Option<Challenge>,
}

#[derive(Clone, Debug)]
struct Challenge {
    algorithm: Algorithm,
    header: &'static [u8],
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Vec<u8>,
    /// Whether it takes responses that cover the body.
    covers: bool,
    ha1: Vec<u8>,
    count: u32,
}

impl Login {
    pub(crate) fn new(username: &str, password: &str) -> Self {
        Self { username: username.into(), password: password.into(), challenge: None }
    }

    /// Whether it was challenged, so that it can send credentials.
    pub(crate) fn is_challenged(&self) -> bool {
        self.challenge.is_some()
    }

    /// Forgets it: the next request comes without credentials.
    pub(crate) fn forget_challenge(&mut self) {
        self.challenge = None;
    }

    /// Takes the first challenge of a response; whether there was one that it can answer.
    pub(crate) fn take_challenge(&mut self, response: &[u8]) -> bool {
        let found = wire::rows(response).find_map(|(name, value)| {
            let proxy = wire::is(name, "Proxy-Authenticate", None);
            (proxy || wire::is(name, "WWW-Authenticate", None)).then_some((proxy, value))
        });
        let Some((proxy, value)) = found else { return false };
        let text = |name| wire::parameter(value, name).unwrap_or_default().to_vec();
        let algorithm = match wire::parameter(value, "algorithm") {
            Some(name) if name.eq_ignore_ascii_case(b"SHA-256") => Algorithm::Sha256,
            Some(name) if !name.eq_ignore_ascii_case(b"MD5") => return false,
            _ => Algorithm::Md5,
        };
        let realm = text("realm");
        let known = self.challenge.take();
        let known = known.filter(|old| old.algorithm == algorithm && old.realm == realm);
        let ha1 = match known {
            Some(old) => old.ha1,
            None => algorithm.hex(&[&self.username, b":", &realm, b":", &self.password]),
        };
        let header: &[u8] = if proxy { b"Proxy-Authorization" } else { b"Authorization" };
        let (nonce, opaque) = (text("nonce"), text("opaque"));
        let covers = text("qop").windows(8).any(|part| part == b"auth-int");
        let count = 0;
        self.challenge =
            Some(Challenge { algorithm, header, realm, nonce, opaque, covers, ha1, count });
        true
    }

    /// Takes the nonce that a good answer offers for the next request.
    pub(crate) fn take_next_nonce(&mut self, response: &[u8]) {
        let info = wire::rows(response).find(|(name, _)| {
            wire::is(name, "Authentication-Info", None)
                || wire::is(name, "Proxy-Authentication-Info", None)
        });
        let next = info.and_then(|(_, value)| wire::parameter(value, "nextnonce"));
        if let (Some(next), Some(challenge)) = (next, &mut self.challenge) {
            challenge.nonce = next.to_vec();
            challenge.count = 0;
        }
    }

    /// Appends the row with credentials for one request, with the next count. They cover its `body` where whoever
    /// asked takes that.
    pub(crate) fn put_credentials(
        &mut self,
        out: &mut Vec<u8>,
        method: &str,
        uri: &[u8],
        body: Option<&[u8]>,
    ) {
        const CNONCE: &[u8] = b"5d3c1f0a9b7e";
        let Some(challenge) = &mut self.challenge else { return };
        challenge.count += 1;
        let count = hex(&challenge.count.to_be_bytes());
        let Challenge { algorithm, header, realm, nonce, opaque, covers, ha1, .. } = challenge;
        let (qop, a2): (&[u8], _) = match body.filter(|_| *covers) {
            None => (b"auth", algorithm.hex(&[method.as_bytes(), b":", uri])),
            Some(body) => {
                let body = algorithm.hex(&[body]);
                (b"auth-int", algorithm.hex(&[method.as_bytes(), b":", uri, b":", &body]))
            }
        };
        let response =
            algorithm.hex(&[ha1, b":", nonce, b":", &count, b":", CNONCE, b":", qop, b":", &a2]);
        join(out, &[header, b": Digest username=\"", &self.username, b"\", realm=\"", realm]);
        join(out, &[b"\", nonce=\"", nonce, b"\", uri=\"", uri, b"\", response=\"", &response]);
        join(out, &[b"\", algorithm=", algorithm.as_str().as_bytes(), b", qop=", qop]);
        join(out, &[b", nc=", &count]);
        join(out, &[b", cnonce=\"", CNONCE, b"\""]);
        if !opaque.is_empty() {
            join(out, &[b", opaque=\"", opaque, b"\""]);
        }
        out.extend_from_slice(b"\r\n");
    }
}

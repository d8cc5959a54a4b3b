//! Keys, bootstrap, claims: what an answer to a challenge says, before anything of it is believed.
//!
//! Takes:   credentials, and the target that was asked for.
//! Gives:   [`Claim`].
//! Keeps:   nothing.
//! Refuses: an answer without `uri`, `cnonce` or `response`, a `uri` of another path, a `cnonce` that could not be
//!          printed back.
//! Sources: RFC 7616 section 3.4; RFC 3310 section 3.4 (`auts`).

use crate::authentication::aka::{AkaAlgorithm, AkaNonce, parse_auts};
use crate::authentication::digest::Hash;
use crate::keys::vector::Auts;
use crate::wire::Credentials;

/// An algorithm that was offered.
#[derive(Clone, Copy)]
pub(super) enum Named {
    /// To a card.
    Aka(AkaAlgorithm),
    /// To a password.
    Digest(Hash),
}

impl Named {
    /// The hash, and whether it is the `-sess` form.
    pub(super) fn hash(self) -> (Hash, bool) {
        match self {
            Self::Aka(AkaAlgorithm { hash, session, .. }) => (hash, session),
            Self::Digest(hash) => (hash, false),
        }
    }
}

/// What an answer to a challenge says.
pub(super) struct Claim<'a> {
    pub(super) algorithm: Named,
    pub(super) realm: &'a [u8],
    pub(super) nonce_text: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) qop: &'a [u8],
    pub(super) nc: &'a [u8],
    pub(super) cnonce: &'a [u8],
    pub(super) response: &'a [u8],
    pub(super) opaque: Option<&'a [u8]>,
    /// There, and perhaps not even base64.
    pub(super) auts: Option<Option<Auts>>,
}

impl<'a> Claim<'a> {
    /// Reads it; `None` if something that every answer has is missing, or `uri` is another than was asked for.
    pub(super) fn read(
        credentials: &'a Credentials<'_>,
        target: &str,
        algorithm: Named,
    ) -> Option<Self> {
        let nonce_text = credentials.nonce();
        let uri = credentials.param("uri")?;
        let cnonce = credentials.param("cnonce")?;
        let printable = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
        if cnonce.is_empty() || !cnonce.iter().all(printable) {
            return None;
        }
        if std::str::from_utf8(uri).ok().map(path) != Some(path(target)) {
            return None;
        }
        Some(Self {
            algorithm,
            realm: credentials.realm(),
            nonce_text,
            uri,
            qop: credentials.qop(),
            nc: credentials.nc(),
            cnonce,
            response: credentials.param("response")?,
            opaque: credentials.param("opaque"),
            auts: credentials.param("auts").map(parse_auts),
        })
    }

    /// The nonce, if it is one of a card's challenge.
    pub(super) fn aka_nonce(&self) -> Option<AkaNonce> {
        AkaNonce::parse(self.nonce_text)
    }
}

/// The path of a request-target or of a `uri`, in origin or in absolute form.
pub(super) fn path(target: &str) -> &str {
    let origin = target
        .split_once("://")
        .map_or(target, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"));
    if origin.is_empty() { "/" } else { origin }
}

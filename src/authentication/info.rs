//! Stage 4, Authentication-Info: the edge's own proof, where it stands in for the registrar.
//!
//! Takes:   what the caller's response was computed from, and the body that goes back to him.
//! Gives:   the header's value, with `rspauth`, and `nextnonce` when the nonce has grown old.
//! Keeps:   HA1 until the answer has gone, zeroed then.
//! Refuses: nothing.
//! Sources: RFC 7616 section 3.5; RFC 3261 section 20.6; SEC_CF 1.1 AUTH-002; `AU`, `RG-01`.

use super::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::wire::Credentials;

/// What `rspauth` is computed from.
#[derive(Clone, Debug)]
pub struct ServerProof {
    ha1: Ha1,
    hash: Hash,
    session: bool,
    uri: Box<[u8]>,
    nonce: Box<[u8]>,
    cnonce: Box<[u8]>,
    nc: Box<[u8]>,
    covers_body: bool,
    next_nonce: Option<String>,
}

impl ServerProof {
    /// The proof that belongs to credentials which were right.
    pub fn new(
        row: &Credentials<'_>,
        ha1: Ha1,
        hash: Hash,
        session: bool,
        next_nonce: Option<String>,
    ) -> Self {
        Self {
            ha1,
            hash,
            session,
            uri: row.uri().into(),
            nonce: row.nonce().into(),
            cnonce: row.cnonce().into(),
            nc: row.nc().into(),
            covers_body: row.qop() == b"auth-int",
            next_nonce,
        }
    }

    /// The value of Authentication-Info beside `body`.
    pub fn value(&self, body: &[u8]) -> Vec<u8> {
        let inputs = Inputs {
            hash: self.hash,
            session: self.session,
            method: b"",
            uri: &self.uri,
            nonce: &self.nonce,
            cnonce: &self.cnonce,
            nc: &self.nc,
            qop: if self.covers_body { Qop::AuthInt(body) } else { Qop::Auth },
        };
        let response = Response::compute(&self.ha1, &inputs);
        let qop: &[u8] = if self.covers_body { b"auth-int" } else { b"auth" };
        let mut value = [
            &b"qop="[..],
            qop,
            b", rspauth=\"",
            response.as_hex(),
            b"\", cnonce=\"",
            &self.cnonce,
            b"\", nc=",
            &self.nc,
        ]
        .concat();
        if let Some(next) = &self.next_nonce {
            value.extend_from_slice(format!(", nextnonce=\"{next}\"").as_bytes());
        }
        value
    }
}

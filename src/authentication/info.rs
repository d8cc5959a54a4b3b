//! Stage 4, Authentication-Info: the edge's own proof, where it stands in for the registrar.
//!
//! Takes:   what the caller's response was computed from, and the body that goes back to him.
//! Gives:   the header, with `rspauth`, and `nextnonce` when the nonce has grown old.
//! Keeps:   HA1 until the answer has gone, zeroed then.
//! Refuses: nothing.
//! Sources: RFC 7616 section 3.5; RFC 3261 section 20.6; SEC_CF 1.1 AUTH-002; `AU`, `RG-01`.

use super::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::wire::{Credentials, Edits, Message, Name, Span, Text};

/// What `rspauth` is computed from.
#[derive(Debug)]
pub struct ServerProof {
    ha1: Ha1,
    hash: Hash,
    session: bool,
    /// What the caller said, one behind the other.
    said: Box<[u8]>,
    uri: Span,
    nonce: Span,
    cnonce: Span,
    nc: Span,
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
        let said = [row.uri(), row.nonce(), row.cnonce(), row.nc()];
        let mut end = 0_usize;
        let [uri, nonce, cnonce, nc] = said.map(|part| {
            let start = end;
            end = start.saturating_add(part.len());
            Span::new(start, end)
        });
        Self {
            ha1,
            hash,
            session,
            said: said.concat().into(),
            uri,
            nonce,
            cnonce,
            nc,
            covers_body: row.qop() == b"auth-int",
            next_nonce,
        }
    }

    /// Puts Authentication-Info behind the other fields of a response.
    pub fn put_into(&self, edits: &mut Edits, response: &Message) {
        edits.insert(response.head_end(), |text| {
            text.field(Name::AuthenticationInfo.as_str(), |value| {
                self.put_value(value, response.body());
            });
        });
    }

    fn put_value(&self, text: &mut Text, body: &[u8]) {
        let [uri, nonce, cnonce, nc] =
            [self.uri, self.nonce, self.cnonce, self.nc].map(|part| part.of(&self.said));
        let (name, qop) = match self.covers_body {
            true => ("auth-int", Qop::AuthInt(body)),
            false => ("auth", Qop::Auth),
        };
        let (hash, session) = (self.hash, self.session);
        let inputs = Inputs { hash, session, method: b"", uri, nonce, cnonce, nc, qop };
        let response = Response::compute(&self.ha1, &inputs);
        text.put("qop=").put(name).put(", rspauth=\"").put(response.as_hex());
        text.put("\", cnonce=\"").put(cnonce).put("\", nc=").put(nc);
        if let Some(next) = &self.next_nonce {
            text.put(", nextnonce=\"").put(next).put("\"");
        }
    }
}

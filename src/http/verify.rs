//! HTTP, verification: a device asks whether what was pushed to it is genuine, before it acts on it.
//!
//! Takes:   `POST /.well-known/sipward/verify-push` of a device, `{"body": SHA-256 in hex}`.
//! Gives:   `{"genuine": true}`, once, if that was pushed to this very device, else `false`.
//! Keeps:   nothing; see [`crate::enabler::genuine`].
//! Refuses: whoever is no device (403), a body without a hash (400).
//! Sources: SEC_CF 1.1 B.7.

use std::sync::Arc;

use serde_json::{Value, json};

use super::door::{Told, Who};
use crate::clock;
use crate::config::psk::hex;
use crate::gate::Gate;
use crate::transport::key_desk::KeyDesk;

/// Where it is.
pub const PATH: &str = "/.well-known/sipward/verify-push";

/// What was pushed.
#[derive(Debug)]
pub struct Verify {
    /// Who let it through.
    pub gate: Arc<Gate>,
    /// All keys of handshakes.
    pub desk: KeyDesk,
}

impl Verify {
    /// Answers, if the path is its.
    pub(super) fn answer(
        &self,
        method: &str,
        path: &str,
        asked: &Value,
        who: &Who,
    ) -> Option<Told> {
        if path != PATH {
            return None;
        }
        let now = clock::now();
        let proof = match (method, who) {
            ("POST", Who::Device(proof)) if self.desk.keys().holds(proof, now) => proof,
            ("POST", _) => return Some((403, None)),
            _ => return Some((405, None)),
        };
        let body = asked.get("body").and_then(Value::as_str).and_then(hex);
        let Some(body) = body.and_then(|body| <[u8; 32]>::try_from(&**body).ok()) else {
            return Some((400, None));
        };
        let genuine = self.gate.enablers.genuine();
        let good = genuine.spend(&proof.caller.principal, body, now.mono);
        Some((200, Some(json!({ "genuine": good }))))
    }
}

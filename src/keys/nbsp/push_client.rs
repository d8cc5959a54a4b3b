//! Keys, Nbsp_GBA, push, client: a NAF that asks bootstrapping servers elsewhere for push info.
//!
//! Takes:   [`PushRequest`].
//! Gives:   [`PushServer`]: the key and the GPI, a no, or that nobody could say.
//! Keeps:   nothing of its own: connections, and who was out of reach, are the [`NbspClient`]'s.
//! Refuses: as [`NbspClient`], with an answer that is none by [`super::push`]. The next server is asked then; not after a
//!          no, and not after 429: it counts for the subscriber, and whoever is asked next would move the card again.
//! Sources: TS 29.309 clause 5.2.2.3; TS 33.223; SEC_CF 1.1 SEC-002, SEC-004; V-139.

use std::fmt;
use std::sync::Arc;

use super::PUSH_PATH;
use super::client::NbspClient;
use super::push::PushQuestion;
use crate::instant::Now;
use crate::keys::Rand;
use crate::keys::push::{AskingPush, Profile, PushAnswer, PushRequest, PushServer};

/// The client.
pub struct NbspPushClient {
    servers: Arc<NbspClient>,
    profile: Arc<dyn Profile>,
}

impl NbspPushClient {
    /// Asks the servers of `servers`, whose push info is written down by `profile`.
    pub fn new(servers: Arc<NbspClient>, profile: Arc<dyn Profile>) -> Self {
        Self { servers, profile }
    }
}

impl PushServer for NbspPushClient {
    fn ask_push<'a>(&'a self, asked: &'a PushRequest, _rand: Rand, now: Now) -> AskingPush<'a> {
        let question = PushQuestion { request: asked.clone(), names_subscriber: true };
        let octets = question.print();
        let read = move |status, body: &[u8]| match status {
            200 => {
                let info = question.read(body, &*self.profile, now.wall).ok()?;
                Some(PushAnswer::Known(Box::new(info)))
            }
            // Of a question that is well formed, the AUTS alone can be wrong.
            400 if question.request.resync.is_some() => Some(PushAnswer::AutsWrong),
            403 => Some(PushAnswer::Forbidden),
            404 => Some(PushAnswer::Unknown),
            429 => Some(PushAnswer::Unavailable),
            _ => None,
        };
        Box::pin(async move {
            let answer = self.servers.ask_in_turn(PUSH_PATH, octets, now, read).await;
            answer.unwrap_or(PushAnswer::Unavailable)
        })
    }
}

impl fmt::Debug for NbspPushClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NbspPushClient({:?})", self.servers)
    }
}

//! Stage 1, DTLS vouched: sessions whose client showed a certificate, before they are entered and while they stand.
//!
//! 1. Where a responder is to be asked, the session waits in the [`Anteroom`]; what comes meanwhile waits with it.
//! 2. A session that stands has a [`Watch`], which ends it as `tcp` ends a connection: once its certificate is not good
//!    any more, or proves another user.
//!
//! Takes:   what a handshake found good; messages of sessions that wait.
//! Gives:   the sessions that are to be entered, with what came; the end of those that stand.
//! Keeps:   for each session that waits its seat among unauthenticated connections, which bounds them, and at most
//!          [`HELD_MAX`] messages; one task for each that stands.
//! Refuses: what a responder does not call good; messages over the bound, as a network would.
//! Sources: RFC 6960; RFC 5922 section 7.1; `CR-03`; SEC_CF 1.1 use case B.5.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::task::{AbortHandle, spawn_local};

use super::engine::Shown;
use super::server::DtlsServer;
use super::sessions::SessionId;
use crate::authentication::Caller;
use crate::transport::flows::{Flows, Pipe, Seat};
use crate::transport::tls::TlsRefusal;

/// Most messages of a session that wait until a responder has answered.
pub(super) const HELD_MAX: usize = 8;

/// A session whose handshake is over, and that is not entered yet.
pub(super) struct Guest {
    pub(super) id: SessionId,
    pub(super) from: SocketAddr,
    pub(super) asked_for: Option<Arc<str>>,
    pub(super) shown: Option<Shown>,
    pub(super) seat: Seat,
}

type Asking = Pin<Box<dyn Future<Output = Result<(), TlsRefusal>>>>;

struct Waiting {
    guest: Guest,
    asking: Asking,
    held: Vec<Bytes>,
}

/// Sessions that wait for a responder's word.
#[derive(Default)]
pub(super) struct Anteroom(HashMap<SessionId, Waiting>);

impl Anteroom {
    /// Asks about what a guest showed.
    pub(super) fn ask(&mut self, guest: Guest, server: &Arc<DtlsServer>) {
        let chain = guest.shown.as_ref().map(|shown| Arc::clone(&shown.chain));
        let server = Arc::clone(server);
        let asking =
            Box::pin(
                async move { server.standing().admit(chain.as_deref().unwrap_or_default()).await },
            );
        self.0.insert(guest.id, Waiting { guest, asking, held: Vec::new() });
    }

    /// Keeps a message of a session that waits; gives back that of any other.
    pub(super) fn hold(&mut self, id: SessionId, octets: Bytes) -> Option<Bytes> {
        let Some(waiting) = self.0.get_mut(&id) else { return Some(octets) };
        if waiting.held.len() < HELD_MAX {
            waiting.held.push(octets);
        }
        None
    }

    /// Forgets a session that is over.
    pub(super) fn leave(&mut self, id: SessionId) {
        self.0.remove(&id);
    }

    /// The next session that is settled, with what came on it.
    pub(super) async fn next(&mut self) -> (Result<Guest, (SessionId, TlsRefusal)>, Vec<Bytes>) {
        poll_fn(|context| {
            let settled = self.0.iter_mut().find_map(|(id, waiting)| {
                // What panics was not learnt.
                match catch_unwind(AssertUnwindSafe(|| waiting.asking.as_mut().poll(context))) {
                    Ok(Poll::Ready(settled)) => Some((*id, settled)),
                    Ok(Poll::Pending) => None,
                    Err(_) => Some((*id, Err(TlsRefusal::Lost(io::ErrorKind::Other)))),
                }
            });
            let Some((id, settled)) = settled else { return Poll::Pending };
            let Some(Waiting { guest, held, .. }) = self.0.remove(&id) else {
                return Poll::Pending;
            };
            Poll::Ready((settled.map(|()| guest).map_err(|why| (id, why)), held))
        })
        .await
    }
}

/// Who looks whether the certificate of a session is still good; dropping it ends the looking.
pub(super) struct Watch(AbortHandle);

impl Watch {
    /// Ends `pipe` once `chain` is not good, or proves another than `user`.
    pub(super) fn new(
        server: Arc<DtlsServer>,
        chain: Arc<[CertificateDer<'static>]>,
        user: Option<Arc<Caller>>,
        pipe: Arc<Pipe>,
        peer: SocketAddr,
        flows: &Arc<Flows>,
    ) -> Self {
        let flows = Arc::clone(flows);
        let task = spawn_local(async move {
            let why = server.standing().until_refused(&chain, user.as_deref()).await;
            flows.tally().certificates_over.add(1);
            tracing::warn!(%why, %peer, "session closed: its certificate is not good any more");
            pipe.end(why.closes());
        });
        Self(task.abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

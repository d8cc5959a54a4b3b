//! Stage 1, whom a certificate vouches for: held to it for as long as the connection stands.
//!
//! Takes:   the certificates of an established connection, with the side of TLS that judged them.
//! Gives:   [`Vouched`], which ends when they are no longer good.
//! Keeps:   the chain, as the handshake brought it.
//! Refuses: see `standing`.
//! Sources: `V-46`.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio_rustls::{client, server};

use super::tls::{ClientTls, Greeted, ServerTls, TlsRefusal};
use crate::authentication::Caller;

/// Whom a connection's certificate must satisfy for as long as it stands.
#[derive(Clone, Debug)]
pub(crate) enum Vouched {
    /// A client's, at a listener, and whom it proved.
    Client(Arc<ServerTls>, Chain, Option<Arc<Caller>>),
    /// A server's, that we dialled.
    Server(Arc<ClientTls>, Chain),
}

/// A chain as the handshake brought it, the peer's own certificate first.
pub(crate) type Chain = Arc<[CertificateDer<'static>]>;

impl Vouched {
    /// A client's, if it showed a certificate.
    pub(crate) fn client<S>(
        tls: &Arc<ServerTls>,
        stream: &server::TlsStream<S>,
        greeted: &Greeted,
    ) -> Option<Self> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Self::Client(Arc::clone(tls), chain.into(), greeted.user.clone()))
    }

    /// A server's.
    pub(crate) fn server<S>(tls: &Arc<ClientTls>, stream: &client::TlsStream<S>) -> Option<Self> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Self::Server(Arc::clone(tls), chain.into()))
    }

    /// Waits until it is no longer good; gives the reason.
    pub(crate) async fn until_refused(&self) -> TlsRefusal {
        match self {
            Self::Client(tls, chain, user) => {
                tls.standing.until_refused(chain, user.as_deref()).await
            }
            Self::Server(tls, chain) => tls.standing.until_refused(chain, None).await,
        }
    }
}

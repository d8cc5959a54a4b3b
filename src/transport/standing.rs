//! Stage 1, standing: connections whose certificate is no longer believed.
//!
//! Takes:   the chain that a connection was opened with; what is trusted now, at each reload.
//! Gives:   word when the chain is no longer good.
//! Keeps:   the trust in force, one for all connections of a listener, or of all that we dial.
//! Refuses: a chain that a handshake would refuse now. Names are not judged again: they stand in the same certificate.
//! Sources: RFC 5922 section 7.1; RFC 5280 section 6.3; V-47.

use std::fmt;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use webpki::KeyUsage;

use super::peer::Trust;
use crate::clock;

/// Whom one end trusts now.
pub(super) struct Standing {
    trust: watch::Sender<Trust>,
    usage: fn() -> KeyUsage,
}

impl Standing {
    /// For connections that clients open.
    pub(super) fn of_clients(trust: Trust) -> Self {
        Self { trust: watch::Sender::new(trust), usage: KeyUsage::client_auth }
    }

    /// For connections to servers.
    pub(super) fn of_servers(trust: Trust) -> Self {
        Self { trust: watch::Sender::new(trust), usage: KeyUsage::server_auth }
    }

    /// Trusts `trust` from now on; all who wait judge again.
    pub(super) fn replace(&self, trust: Trust) {
        self.trust.send_replace(trust);
    }

    /// Waits until `chain`, a peer's own certificate first, is not good; gives the reason.
    pub(super) async fn until_refused(&self, chain: &[CertificateDer<'_>]) -> rustls::Error {
        let mut news = self.trust.subscribe();
        loop {
            let trust = news.borrow_and_update().clone();
            if let Err(why) = trust.judge(chain, clock::now().wall, (self.usage)()) {
                return why;
            }
            drop(trust);
            // The sender is ours, so it is there.
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Standing({:?})", *self.trust.borrow())
    }
}

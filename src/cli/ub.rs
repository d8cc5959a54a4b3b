//! `sipward serve`, Ub: the doors of the bootstrapping server, running.
//!
//! Takes:   the configuration, the server, who has the subscribers if they are another's.
//! Gives:   [`Doors`]: the one in the clear, and the one under TLS if there is one, bound.
//! Keeps:   the listeners, until they serve.
//! Refuses: an address that cannot be bound, a certificate that cannot be used.
//! Sources: TS 24.109 clause 4 and annex I.2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::listen::listen;
use crate::config::Config;
use crate::http::Bounds;
use crate::http::ub::{self, Desk};
use crate::transport::tls::ServerTls;

/// The doors.
pub(super) struct Doors {
    plain: TcpListener,
    tls: Option<(TcpListener, Arc<ServerTls>)>,
}

impl Doors {
    /// Sets them up, if the configuration has a bootstrapping server.
    ///
    /// # Errors
    ///
    /// What could not be bound or used.
    pub(super) async fn start(config: &Config) -> io::Result<Option<Self>> {
        let Some(bsf) = &config.bsf else { return Ok(None) };
        let plain = listen("bsf.listen", bsf.listen).await?;
        let tls = match (bsf.listen_tls, &bsf.tls) {
            (Some(address), Some(of)) => {
                let tls = ServerTls::of_bootstrapping(&of.spec).map_err(io::Error::other)?;
                Some((listen("bsf.tls.listen", address).await?, Arc::new(tls)))
            }
            _ => None,
        };
        Ok(Some(Self { plain, tls }))
    }

    /// What is shown under TLS.
    pub(super) fn shown(&self) -> Option<Arc<ServerTls>> {
        self.tls.as_ref().map(|(_, tls)| Arc::clone(tls))
    }

    /// Where they are, each with what it is called.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let plain = Some(("bootstrapping server", &self.plain));
        let tls = self.tls.as_ref().map(|(door, _)| ("bootstrapping server under TLS", door));
        let bound =
            |(name, door): (&'static str, &TcpListener)| Some((name, door.local_addr().ok()?));
        [plain, tls].into_iter().flatten().filter_map(bound)
    }

    /// Serves at both.
    pub(super) async fn serve(self, desk: Desk) {
        let (bounds, never) = (Bounds::default(), std::future::pending);
        let plain = ub::serve(self.plain, desk.clone(), bounds, |_| {}, never());
        let under_tls = async {
            match self.tls {
                Some((door, tls)) => ub::serve_tls(door, tls, desk, bounds, |_| {}, never()).await,
                None => Ok(()),
            }
        };
        // Neither ends.
        let _ = tokio::join!(plain, under_tls);
    }
}

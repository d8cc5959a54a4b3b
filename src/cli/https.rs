//! `sipward serve`, HTTPS: the door for devices, other networks and device management, running.
//!
//! Takes:   the configuration, the edge that runs.
//! Gives:   [`Node`]: the door, bound.
//! Keeps:   the listener, until it serves.
//! Refuses: an address that cannot be bound, a certificate that cannot be used.
//! Sources: SEC_CF 1.1 B.6, B.8.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;

use super::listen::listen;
use crate::assembly::Running;
use crate::config::Config;
use crate::config::https::Https;
use crate::http::Bounds;
use crate::http::documents::Documents;
use crate::http::door::{self, Door, Rooms};
use crate::http::verify::Verify;
use crate::http::visited::Visits;
use crate::keys::visited::Book;
use crate::transport::key_desk::KeyDesk;
use crate::transport::psk_tls::PskServer;
use crate::transport::tls::{ClientTls, ServerTls, TlsProblem};

/// The door.
pub(super) struct Node {
    listener: TcpListener,
    shown: Shown,
    shared: Arc<PskServer>,
    desk: KeyDesk,
    visits: Visits,
    verify: Verify,
}

/// Both ends of TLS, replaceable while they serve.
#[derive(Clone)]
pub(super) struct Shown {
    client: Arc<ClientTls>,
    server: Arc<ServerTls>,
}

impl Shown {
    fn new(of: &Https) -> Result<Self, TlsProblem> {
        let client = ClientTls::new(of.tls.trust.clone(), of.tls.certificates.first())?;
        let server = ServerTls::of_websocket(&of.tls)?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Shows and believes what another configuration says.
    pub(super) fn replace(&self, new: &Config) -> Result<(), TlsProblem> {
        let Some(new) = &new.https else { return Ok(()) };
        self.client.replace(new.tls.trust.clone(), new.tls.certificates.first())?;
        self.server.replace(&new.tls)
    }
}

impl Node {
    /// Sets it up, if the configuration has one.
    ///
    /// # Errors
    ///
    /// What could not be bound or used.
    pub(super) async fn start(
        config: &Config,
        running: Option<&Running>,
    ) -> io::Result<Option<Self>> {
        let (Some(of), Some(running)) = (&config.https, running) else { return Ok(None) };
        let Some(desk) = running.desk() else { return Ok(None) };
        let shown = Shown::new(of).map_err(io::Error::other)?;
        let visits = Visits {
            home: desk.keys().server_name().into(),
            parts: of.visited.clone(),
            homes: of.homes.clone(),
            tls: Arc::clone(&shown.client),
            desk: desk.clone(),
            book: Book::default(),
        };
        let shared = Arc::new(PskServer::new(false).map_err(io::Error::other)?);
        let verify = Verify { gate: Arc::clone(&running.shared.gate), desk: desk.clone() };
        let listener = listen("https.listen", of.listen).await?;
        Ok(Some(Self { listener, shown, shared, desk, visits, verify }))
    }

    /// What it shows and believes, for a reload.
    pub(super) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Where it is.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves, documents as `config` has them.
    pub(super) async fn serve(self, config: Arc<ArcSwap<Config>>) -> io::Result<()> {
        let Self { listener, shown, shared, desk, visits, verify } = self;
        let rooms = Arc::new(Rooms { visits, verify, documents: Documents(config) });
        let door = Door { tls: shown.server, shared, desk, rooms };
        door::serve(listener, door, Bounds::default(), std::future::pending()).await
    }
}

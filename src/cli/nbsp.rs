//! `sipward serve`, Nbsp_GBA: what the configuration says of keys over HTTP/2, running.
//!
//! Takes:   the configuration, and the bootstrapping server of the same process.
//! Gives:   [`Node`]: key servers and servers of push info far away, and a door for NAFs that ask ours.
//! Keeps:   the listener, until it serves.
//! Refuses: an address that cannot be bound, a certificate that cannot be used.
//! Sources: TS 29.309 clause 6.1.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::plan::services;
use crate::config::{Config, Nbsp};
use crate::http;
use crate::keys::KeyServer;
use crate::keys::bootstrap::Bsf;
use crate::keys::nbsp::client::{NbspClient, Settings};
use crate::keys::nbsp::push_client::NbspPushClient;
use crate::keys::push::PushServer;
use crate::transport::tls::{ClientTls, ServerTls, TlsProblem};

/// What runs.
pub(super) struct Node {
    /// Who is asked, by the domain of the B-TID.
    keys: Vec<(Arc<str>, Arc<dyn KeyServer>)>,
    /// Who is asked for push info, by the realm of the subscriber.
    pushes: Vec<(Arc<str>, Arc<dyn PushServer>)>,
    door: Option<(TcpListener, Arc<Bsf>)>,
    tls: Tls,
}

/// Both ends of TLS, replaceable while they serve.
#[derive(Clone)]
pub(super) struct Tls {
    client: Arc<ClientTls>,
    server: Arc<ServerTls>,
}

impl Tls {
    fn new(of: &Nbsp) -> Result<Self, TlsProblem> {
        let client = ClientTls::of_http2(of.tls.trust.clone(), of.tls.certificates.first())?;
        let server = ServerTls::of_http2(&of.tls)?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Shows and believes what another configuration says.
    pub(super) fn replace(&self, new: &Config) -> Result<(), TlsProblem> {
        let Some(new) = &new.nbsp else { return Ok(()) };
        self.client.replace(new.tls.trust.clone(), new.tls.certificates.first())?;
        self.server.replace(&new.tls)
    }
}

impl Node {
    /// Sets it up, if the configuration has any.
    ///
    /// # Errors
    ///
    /// What could not be bound or used.
    pub(super) async fn start(config: &Config, bsf: Option<&Arc<Bsf>>) -> io::Result<Option<Self>> {
        let Some(of) = &config.nbsp else { return Ok(None) };
        let tls = Tls::new(of).map_err(io::Error::other)?;
        let mut keys: Vec<(Arc<str>, Arc<dyn KeyServer>)> = Vec::new();
        let mut pushes: Vec<(Arc<str>, Arc<dyn PushServer>)> = Vec::new();
        for group in &of.servers {
            let settings = Settings {
                servers: group.servers.clone(),
                timeout: of.answer,
                gsids: services(config),
            };
            let client = Arc::new(NbspClient::new(settings, Arc::clone(&tls.client)));
            keys.extend(group.domains.iter().map(|domain| {
                (Arc::clone(domain), Arc::<NbspClient>::clone(&client) as Arc<dyn KeyServer>)
            }));
            let profile = Arc::clone(&config.enablers.push_profile);
            let client = Arc::new(NbspPushClient::new(client, profile));
            pushes.extend(group.push.iter().map(|realm| {
                (Arc::clone(realm), Arc::<NbspPushClient>::clone(&client) as Arc<dyn PushServer>)
            }));
        }
        let door = match (of.listen, bsf) {
            (Some(address), Some(bsf)) => {
                Some((TcpListener::bind(address).await?, Arc::clone(bsf)))
            }
            _ => None,
        };
        Ok(Some(Self { keys, pushes, door, tls }))
    }

    /// Who has the keys of B-TIDs, by their domain.
    pub(super) fn keys(&self) -> Vec<(Arc<str>, Arc<dyn KeyServer>)> {
        self.keys.clone()
    }

    /// Who makes push info, by the realm of the subscriber.
    pub(super) fn pushes(&self) -> Vec<(Arc<str>, Arc<dyn PushServer>)> {
        self.pushes.clone()
    }

    /// Both ends of TLS.
    pub(super) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Where NAFs come.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.door.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Serves NAFs, if there is a door.
    pub(super) async fn serve(self) -> io::Result<()> {
        let Some((listener, bsf)) = self.door else { return Ok(()) };
        let bounds = http::Bounds::default();
        http::nbsp::serve(listener, self.tls.server, bsf, bounds, std::future::pending()).await
    }
}

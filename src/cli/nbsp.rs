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

use arc_swap::ArcSwapOption;
use tokio::net::TcpListener;

use super::listen::listen;
use super::plan::services;
use crate::config::{Config, Nbsp};
use crate::http::{self, nbsp::Door};
use crate::keys::KeyServer;
use crate::keys::bootstrap::Bsf;
use crate::keys::nbsp::bearer::Tokens;
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
    shown: Shown,
}

/// What both ends prove themselves with, and what they believe; replaceable while they serve.
#[derive(Clone)]
pub(super) struct Shown {
    client: Arc<ClientTls>,
    server: Arc<ServerTls>,
    /// Of the groups of servers, in order: they show our tokens.
    clients: Vec<Arc<NbspClient>>,
    /// Theirs that are good.
    tokens: Arc<ArcSwapOption<Tokens>>,
}

impl Shown {
    fn new(of: &Nbsp) -> Result<Self, TlsProblem> {
        let client = ClientTls::of_http2(of.tls.trust.clone(), of.tls.certificates.first())?;
        let server = ServerTls::of_http2(&of.tls)?;
        let (client, server) = (Arc::new(client), Arc::new(server));
        Ok(Self { client, server, clients: Vec::new(), tokens: Arc::default() })
    }

    /// Shows and believes what another configuration says.
    pub(super) fn replace(&self, new: &Config) -> Result<(), TlsProblem> {
        let Some(new) = &new.nbsp else { return Ok(()) };
        self.client.replace(new.tls.trust.clone(), new.tls.certificates.first())?;
        self.server.replace(&new.tls)?;
        self.put_tokens(new);
        Ok(())
    }

    fn put_tokens(&self, of: &Nbsp) {
        self.tokens.store(of.tokens.clone());
        for (client, group) in self.clients.iter().zip(&of.servers) {
            client.show(group.token.clone());
        }
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
        let mut shown = Shown::new(of).map_err(io::Error::other)?;
        let mut keys: Vec<(Arc<str>, Arc<dyn KeyServer>)> = Vec::new();
        let mut pushes: Vec<(Arc<str>, Arc<dyn PushServer>)> = Vec::new();
        for group in &of.servers {
            let settings = Settings {
                servers: group.servers.clone(),
                timeout: of.answer,
                gsids: services(config),
            };
            let client = Arc::new(NbspClient::new(settings, Arc::clone(&shown.client)));
            shown.clients.push(Arc::clone(&client));
            keys.extend(group.domains.iter().map(|domain| {
                (Arc::clone(domain), Arc::<NbspClient>::clone(&client) as Arc<dyn KeyServer>)
            }));
            let profile = Arc::clone(&config.enablers.push_profile);
            let client = Arc::new(NbspPushClient::new(client, profile));
            pushes.extend(group.push.iter().map(|realm| {
                (Arc::clone(realm), Arc::<NbspPushClient>::clone(&client) as Arc<dyn PushServer>)
            }));
        }
        shown.put_tokens(of);
        let door = match (of.listen, bsf) {
            (Some(address), Some(bsf)) => {
                Some((listen("nbsp.listen", address).await?, Arc::clone(bsf)))
            }
            _ => None,
        };
        Ok(Some(Self { keys, pushes, door, shown }))
    }

    /// Who has the keys of B-TIDs, by their domain.
    pub(super) fn keys(&self) -> Vec<(Arc<str>, Arc<dyn KeyServer>)> {
        self.keys.clone()
    }

    /// Who makes push info, by the realm of the subscriber.
    pub(super) fn pushes(&self) -> Vec<(Arc<str>, Arc<dyn PushServer>)> {
        self.pushes.clone()
    }

    /// What both ends show and believe.
    pub(super) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Where NAFs come.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.door.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Serves NAFs, if there is a door.
    pub(super) async fn serve(self) -> io::Result<()> {
        let Some((listener, bsf)) = self.door else { return Ok(()) };
        let Shown { server: tls, tokens, .. } = self.shown;
        let (door, bounds) = (Door { tls, tokens, bsf }, http::Bounds::default());
        http::nbsp::serve(listener, door, bounds, std::future::pending()).await
    }
}

//! `sipward serve`, Diameter: what the configuration says of Zn, Zpn and Zh, running.
//!
//! Takes:   the configuration, and the bootstrapping server of the same process.
//! Gives:   [`Node`]: a source of keys, push info and vectors far away, and a door for those that ask ours.
//! Keeps:   the tasks that ask.
//! Refuses: an address that cannot be bound, a certificate that cannot be used.
//! Sources: RFC 6733; TS 29.109 clauses 4 and 5.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::listen::listen;
use super::plan::services;
use crate::clock;
use crate::config::Config;
use crate::config::diameter::{Diameter, DiameterPeer, Role};
use crate::http::ub::AskHome;
use crate::keys::KeyServer;
use crate::keys::bootstrap::Bsf;
use crate::keys::diameter::ask::{Asker, Neighbour, Tally};
use crate::keys::diameter::base::Local;
use crate::keys::diameter::dictionary::{ZH, ZN, ZPN};
use crate::keys::diameter::door::{Asked, Door, Guest};
use crate::keys::diameter::link::Pace;
use crate::keys::diameter::source::{Asks, Desk, ZhSource, ZnSource, ZpnSource};
use crate::keys::push::{Profile, PushServer};
use crate::telemetry::Metrics;
use crate::transport::tls::{ClientTls, ServerTls, TlsProblem};

/// How long neighbours may take to part.
const PARTING: Duration = Duration::from_secs(2);

/// What runs.
pub(super) struct Node {
    /// Those who ask, each with its realm, for keys, push info and vectors.
    askers: Vec<(&'static str, Arc<str>, Asker)>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// Domains of B-TIDs, with their realm.
    domains: Vec<(Arc<str>, Arc<str>)>,
    services: Vec<u32>,
    /// Realms of subscribers whose push info is asked for, with the realm that is asked.
    pushed: Vec<(Arc<str>, Arc<str>)>,
    profile: Arc<dyn Profile>,
    door: Option<(Arc<Door>, SocketAddr)>,
    tls: Tls,
}

/// Both ends of TLS, replaceable while they serve.
#[derive(Clone, Default)]
pub(super) struct Tls {
    client: Option<Arc<ClientTls>>,
    server: Option<Arc<ServerTls>>,
}

impl Tls {
    fn new(of: &Diameter) -> Result<Self, TlsProblem> {
        let Some(tls) = &of.tls else { return Ok(Self::default()) };
        let client = ClientTls::new(tls.spec.trust.clone(), tls.spec.certificates.first())?;
        let server = ServerTls::of_diameter(&tls.spec)?;
        Ok(Self { client: Some(Arc::new(client)), server: Some(Arc::new(server)) })
    }

    /// Shows and believes what another configuration says.
    pub(super) fn replace(&self, new: &Config) -> Result<(), TlsProblem> {
        let new = new.diameter.as_ref().and_then(|diameter| diameter.tls.as_ref());
        let Some(new) = new else { return Ok(()) };
        if let Some(client) = &self.client {
            client.replace(new.spec.trust.clone(), new.spec.certificates.first())?;
        }
        if let Some(server) = &self.server {
            server.replace(&new.spec)?;
        }
        Ok(())
    }
}

impl Node {
    /// Starts it, if the configuration has any.
    ///
    /// # Errors
    ///
    /// What could not be bound or used.
    pub(super) async fn start(config: &Config, bsf: Option<Arc<Bsf>>) -> io::Result<Option<Self>> {
        let Some(of) = &config.diameter else { return Ok(None) };
        let local = Arc::new(Local {
            host: Arc::clone(&of.identity),
            realm: Arc::clone(&of.realm),
            product: "sipward".into(),
            applications: applications(&of.peers),
            // Seconds, as RFC 6733 section 8.16 proposes.
            state_id: u32::try_from(clock::now().wall.as_unix()).unwrap_or(u32::MAX),
        });
        let pace = Pace { watchdog: of.watchdog, answer: of.answer, ..Pace::default() };
        let tls = Tls::new(of).map_err(io::Error::other)?;
        let (stop, stopped) = watch::channel(false);
        let (mut askers, mut tasks) = (Vec::new(), Vec::new());
        for (thing, realm, neighbours) in realms(&of.peers, tls.client.as_ref()) {
            let (asker, task) = Asker::start(Arc::clone(&local), neighbours, pace, stopped.clone());
            askers.push((thing, realm, asker));
            tasks.push(task);
        }
        let mut door = None;
        if let (Some(address), Some(bsf)) = (of.listen, bsf) {
            let listener = listen("diameter.listen", address).await?;
            let address = listener.local_addr()?;
            let peers = of.peers.iter().filter_map(asks).collect::<HashMap<_, _>>();
            let guests = of.peers.iter().filter_map(guest).collect();
            let serve = Arc::new(Desk { local: Arc::clone(&local), bsf, peers });
            let own = Arc::new(Door::new(local, tls.server.clone(), guests, pace, serve));
            tasks.push(tokio::spawn(Arc::clone(&own).serve(listener, stopped)));
            door = Some((own, address));
        }
        let own = |(name, realm): (&Arc<str>, &Arc<str>)| (Arc::clone(name), Arc::clone(realm));
        let (domains, pushed) =
            (of.domains().map(own).collect(), of.push_realms().map(own).collect());
        let (services, profile) = (services(config), Arc::clone(&config.enablers.push_profile));
        Ok(Some(Self { askers, tasks, stop, domains, services, pushed, profile, door, tls }))
    }

    /// Who has the keys of B-TIDs, by their domain.
    pub(super) fn keys(&self) -> Vec<(Arc<str>, Arc<dyn KeyServer>)> {
        let of = |(domain, realm): &(Arc<str>, Arc<str>)| {
            let serves = |it: &&(&str, Arc<str>, Asker)| it.0 == "zn" && it.1 == *realm;
            let (_, realm, asker) = self.askers.iter().find(serves)?;
            let (realm, asker) = (Arc::clone(realm), asker.clone());
            let source = ZnSource { realm, asker, services: self.services.clone() };
            Some((Arc::clone(domain), Arc::new(source) as Arc<dyn KeyServer>))
        };
        self.domains.iter().filter_map(of).collect()
    }

    /// Who makes push info, by the realm of the subscriber.
    pub(super) fn pushes(&self) -> Vec<(Arc<str>, Arc<dyn PushServer>)> {
        let of = |(subscribers, realm): &(Arc<str>, Arc<str>)| {
            let serves = |it: &&(&str, Arc<str>, Asker)| it.0 != "zh" && it.1 == *realm;
            let (_, realm, asker) = self.askers.iter().find(serves)?;
            let (realm, asker) = (Arc::clone(realm), asker.clone());
            let source = ZpnSource { realm, asker, profile: Arc::clone(&self.profile) };
            Some((Arc::clone(subscribers), Arc::new(source) as Arc<dyn PushServer>))
        };
        self.pushed.iter().filter_map(of).collect()
    }

    /// The home that has the subscribers, if there is one.
    pub(super) fn home(&self) -> Option<Arc<AskHome>> {
        let (_, realm, asker) = self.askers.iter().find(|(thing, ..)| *thing == "zh")?;
        let source = ZhSource { realm: Arc::clone(realm), asker: asker.clone() };
        Some(Arc::new(move |question| {
            let source = source.clone();
            Box::pin(async move { source.vector(&question).await })
        }))
    }

    /// Both ends of TLS.
    pub(super) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Where those come that ask us.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.door.as_ref().map(|(_, address)| *address)
    }

    /// Shows its numbers on the page.
    pub(super) fn show(&self, metrics: &Metrics) {
        type Count<T> = fn(&T) -> &AtomicU64;
        for (thing, _, asker) in &self.askers {
            let tally = Arc::clone(asker.tally());
            let about = "Diameter peers that may be asked";
            let labels = [("interface", *thing)];
            metrics.gauge("sipward_diameter_peers", about, &labels, move || {
                tally.open.load(Ordering::Relaxed)
            });
            let counts: [(_, Count<Tally>); 2] =
                [("answered", |it| &it.answered), ("unanswered", |it| &it.unanswered)];
            for (outcome, count) in counts {
                let tally = Arc::clone(asker.tally());
                let (about, name) =
                    ("Diameter questions of ours", "sipward_diameter_questions_total");
                let labels = [("interface", *thing), ("outcome", outcome)];
                metrics.count(name, about, &labels, move || count(&tally).load(Ordering::Relaxed));
            }
        }
        let Some((door, _)) = &self.door else { return };
        let asked = Arc::clone(&door.asked);
        let about = "Diameter connections of those that ask us";
        metrics.gauge("sipward_diameter_guests", about, &[], move || {
            asked.open.load(Ordering::Relaxed)
        });
        let counts: [(_, &str, Count<Asked>); 2] = [
            ("sipward_diameter_requests_total", "Diameter requests that we answered", |it| {
                &it.answered
            }),
            ("sipward_diameter_turned_away_total", "Diameter connections turned away", |it| {
                &it.turned_away
            }),
        ];
        for (name, about, count) in counts {
            let asked = Arc::clone(&door.asked);
            metrics.count(name, about, &[], move || count(&asked).load(Ordering::Relaxed));
        }
    }

    /// Parts from all neighbours.
    pub(super) async fn stop(self) {
        let Self { tasks, stop, .. } = self;
        stop.send_replace(true);
        for task in tasks {
            // Whoever takes longer is left.
            let _late = tokio::time::timeout(PARTING, task).await;
        }
    }
}

/// What is spoken here.
fn applications(peers: &[DiameterPeer]) -> Vec<u32> {
    let spoken = |peer: &DiameterPeer| match &peer.role {
        // Some have push info in the application of Zn.
        Role::Naf { push: true, .. } => vec![ZN, ZPN],
        Role::Keys { push, .. } if !push.is_empty() => vec![ZN, ZPN],
        Role::Keys { .. } | Role::Naf { .. } => vec![ZN],
        Role::Home { .. } | Role::Bsf { .. } => vec![ZH],
    };
    let all: Vec<u32> = peers.iter().flat_map(spoken).collect();
    [ZN, ZPN, ZH].into_iter().filter(|application| all.contains(application)).collect()
}

/// Those that are asked: by what they serve and by realm, in the order of the file. Who has keys and makes push info has
/// one connection for both.
fn realms(
    peers: &[DiameterPeer],
    tls: Option<&Arc<ClientTls>>,
) -> Vec<(&'static str, Arc<str>, Vec<Neighbour>)> {
    let mut realms: Vec<(&'static str, Arc<str>, Vec<Neighbour>)> = Vec::new();
    for peer in peers {
        let (thing, address) = match &peer.role {
            Role::Keys { address, domains, .. } if domains.is_empty() => ("zpn", *address),
            Role::Keys { address, .. } => ("zn", *address),
            Role::Home { address } => ("zh", *address),
            Role::Naf { .. } | Role::Bsf { .. } => continue,
        };
        let tls = if peer.clear { None } else { tls.cloned() };
        let neighbour = Neighbour { host: Arc::clone(&peer.host), address, tls };
        let own = |it: &&mut (&str, Arc<str>, Vec<Neighbour>)| it.0 == thing && it.1 == peer.realm;
        match realms.iter_mut().find(own) {
            Some((_, _, neighbours)) => neighbours.push(neighbour),
            None => realms.push((thing, Arc::clone(&peer.realm), vec![neighbour])),
        }
    }
    realms
}

fn asks(peer: &DiameterPeer) -> Option<(Arc<str>, Vec<Asks>)> {
    let asks = match peer.role {
        Role::Naf { keys, push, .. } => {
            let both = [(Asks::Zn, keys), (Asks::Zpn, push)];
            both.into_iter().filter_map(|(thing, asked)| asked.then_some(thing)).collect()
        }
        Role::Bsf { .. } => vec![Asks::Zh],
        Role::Keys { .. } | Role::Home { .. } => return None,
    };
    Some((Arc::clone(&peer.host), asks))
}

fn guest(peer: &DiameterPeer) -> Option<Guest> {
    let (Role::Naf { from, .. } | Role::Bsf { from }) = peer.role else { return None };
    Some(Guest { host: Arc::clone(&peer.host), clear: from.filter(|_| peer.clear) })
}

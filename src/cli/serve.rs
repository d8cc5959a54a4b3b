//! `sipward serve`: the edge, the bootstrapping server, or both, until told to stop.
//!
//! 1. The configuration is read and checked; nothing starts with a problem in it.
//! 2. Sockets are bound, workers start, the bootstrapping server opens its door.
//! 3. SIGHUP reads the file again: accounts, subscribers, certificates and policy change at once, or not at all;
//!    what has to wait for a restart is named. Certificates, their keys, revocation lists, tokens and the secret of route
//!    tokens are read again, alone, once they changed in their places. A line of audit says what came of either.
//! 4. SIGTERM or Ctrl-C: calls and transactions under way are waited for, `edge.drain` at most, then it ends; at a second one,
//!    at once. SIGXFSZ is a full disk like any other: what wanted to write is told.
//!
//! Takes:   a configuration file.
//! Gives:   a running service; 0 when it was stopped, 2 for a configuration that cannot be.
//! Keeps:   sequence numbers of subscribers, beside their list or with them in the store; there, sessions too.
//! Refuses: a clock before the build, a file with problems.
//! Sources: SEC_CF 1.1 SEC-003, ADM-002; V-91, V-147, V-150.

mod page;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args as Clap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use super::auc::Books;
use super::diameter::{Node, Tls};
use super::keeping::{self, Keeper, Marks};
use super::plan::{Sources, plan};
use super::ub::Doors;
use super::vault::Vault;
use super::{GOOD, NO, USAGE, auc, endings, https, nbsp, pushed};
use crate::assembly::Running;
use crate::clock;
use crate::config::reload::{Reloader, Report};
use crate::config::renewal::Renewal;
use crate::config::{self, Config, Problem};
use crate::edge::Watch;
use crate::forward::Resolved;
use crate::http::admin;
use crate::http::ub::Desk;
use crate::instant::Now;
use crate::keys::KeyServer;
use crate::keys::bootstrap::Bsf;
use crate::keys::servers::Servers;
use crate::telemetry::{self, Metrics, log::LogHandle};
use crate::transport::dtls::server::DtlsServer;
use crate::transport::peers::{PeerGroup, SystemDns};
use crate::transport::resolve::{Conditions, Member};
use crate::transport::tls::{ClientTls, ServerTls};
use crate::transport::ws::{Rules, WsServer};
use crate::transport::{GroupId, Side, Target, Transport};

/// Arguments.
#[derive(Clone, Debug, Clap)]
pub struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "sipward.toml")]
    config: PathBuf,
}

/// How often what has lapsed is swept.
const SWEEP: Duration = Duration::from_secs(10);
/// How often what has to outlive the process is written down, if it is due.
const KEEP: Duration = Duration::from_secs(1);
/// How often certificates are looked at; they are read again at the second look that sees the same change.
const LOOK: Duration = Duration::from_secs(2);
/// Open files beside those of flows: listeners, the log, what a reload reads.
const OTHER_FILES: u64 = 256;

/// Runs it.
///
/// # Errors
///
/// What writing gave.
pub fn run(args: &Args, out: &mut (dyn Write + Send), errors: &mut dyn Write) -> io::Result<u8> {
    if let Err(why) = clock::sane() {
        writeln!(errors, "{why}")?;
        return Ok(USAGE);
    }
    let config = match Config::load(&args.config) {
        Ok((config, warnings)) => {
            for warning in warnings {
                drop(writeln!(errors, "{warning}"));
            }
            config
        }
        Err(problems) => {
            for problem in problems {
                writeln!(errors, "{problem}")?;
            }
            return Ok(USAGE);
        }
    };
    let log = match telemetry::log::start(&config.telemetry.log, config.telemetry.json) {
        Ok(log) => log,
        Err(why) => {
            writeln!(errors, "telemetry.log: {why}")?;
            return Ok(USAGE);
        }
    };
    open_files(config.admission.flows)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything says that it listens: until then a signal ends the process the short way.
        let signals = Signals::new()?;
        let metrics = Arc::new(Metrics::new());
        let watch: Arc<dyn Watch> = Arc::<Metrics>::clone(&metrics);
        match Service::start(config, watch, Some(log)).await {
            Ok(mut service) => {
                service.show(metrics).await?;
                // Nobody has to read it.
                drop(service.say_where(out));
                service.serve(signals, errors).await
            }
            Err(why) => {
                writeln!(errors, "cannot start: {why}")?;
                Ok(NO)
            }
        }
    })
}

/// Asks for as many open files as the flows need; says so if the system gives fewer.
fn open_files(flows: usize) -> io::Result<()> {
    let needed = u64::try_from(flows).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard)?;
    }
    if hard < needed {
        tracing::warn!(
            allowed = hard,
            flows,
            "fewer files may be open than admission.flows asks for"
        );
    }
    Ok(())
}

/// What a running service is told from outside.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    term: Signal,
    interrupt: Signal,
    /// Caught so that it ends nothing: whoever writes past a limit is told by the write.
    _too_long: Signal,
}

impl Signals {
    /// Listens for them from now on.
    ///
    /// # Errors
    ///
    /// If the runtime cannot.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _too_long: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }
}

/// What runs.
pub struct Service {
    running: Option<Arc<Running>>,
    /// The bootstrapping server; where there is none, the same for the realm of cards alone, without a door.
    bsf: Option<(Arc<Bsf>, Books)>,
    doors: Option<Doors>,
    /// Key servers and homes of others.
    node: Option<Node>,
    /// Those that are asked over HTTP/2, and the door for NAFs that ask ours so.
    nbsp: Option<nbsp::Node>,
    /// The door for devices and other networks.
    https: Option<https::Node>,
    groups: Vec<Arc<PeerGroup>>,
    metrics: Option<Arc<Metrics>>,
    admin: Option<admin::Door>,
    /// The store, open as long as we serve.
    vault: Option<Arc<Vault>>,
    /// What was changed last in it before it was read.
    marks: Marks,
    /// Where the page of metrics is, once it is.
    page: Option<SocketAddr>,
    well: Arc<AtomicBool>,
    reloader: Reloader,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("running", &self.running).finish_non_exhaustive()
    }
}

/// Parts of a running service that a reload replaces.
struct Live {
    running: Option<Arc<Running>>,
    bsf: Option<(Arc<Bsf>, Books)>,
    /// Of the NAF, from wherever; they stay as they were planned first.
    sources: Sources,
    vault: Option<Arc<Vault>>,
    node: Tls,
    nbsp: Option<nbsp::Shown>,
    https: Option<https::Shown>,
    ub: Option<Arc<ServerTls>>,
    tls: Vec<Option<Arc<ServerTls>>>,
    dtls: Vec<Option<Arc<DtlsServer>>>,
    ws: Vec<Option<Arc<WsServer>>>,
    client_tls: Option<Arc<ClientTls>>,
    log: Option<LogHandle>,
}

impl Service {
    /// Starts what the configuration asks for; a reload tells `log` what it asks for then.
    ///
    /// # Errors
    ///
    /// What could not be bound, read or started.
    pub async fn start(
        config: Config,
        watch: Arc<dyn Watch>,
        log: Option<LogHandle>,
    ) -> io::Result<Self> {
        let vault = config.state.as_ref().map(Vault::to_serve).transpose()?.map(Arc::new);
        let marks = Marks::of(vault.as_deref())?;
        let bsf = auc::start(&config, vault.as_deref())?;
        let node = Node::start(&config, bsf.as_ref().map(|(bsf, _)| Arc::clone(bsf))).await?;
        let doors = Doors::start(&config).await?;
        let nbsp = nbsp::Node::start(&config, bsf.as_ref().map(|(bsf, _)| bsf)).await?;
        let own = auc::keys(&config, bsf.as_ref().map(|(bsf, _)| bsf));
        let others = node.iter().flat_map(Node::keys).chain(nbsp.iter().flat_map(nbsp::Node::keys));
        let keys = own.into_iter().chain(others).collect();
        let keys = Servers::new(keys).map(|servers| Arc::new(servers) as Arc<dyn KeyServer>);
        let pushes = nbsp.iter().flat_map(nbsp::Node::pushes);
        let pushes = node.iter().flat_map(Node::pushes).chain(pushes).collect();
        let sources = Sources { keys, pushes };
        let (mut groups, mut tls, mut dtls, mut ws) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut client_tls, mut running) = (None, None);
        if !config.listeners.is_empty() {
            groups = peer_groups(&config);
            let own = bsf.as_ref().map(|(bsf, _)| Arc::clone(bsf));
            let mut plan = plan(&config, own, sources.clone())?;
            keeping::add_stored(&mut plan, vault.as_deref(), &config)?;
            plan.resolved = Some(Arc::new(Groups(groups.clone())));
            tls = plan.listeners.iter().map(|listener| listener.tls.clone()).collect();
            dtls = plan.listeners.iter().map(|listener| listener.dtls.clone()).collect();
            ws = plan.listeners.iter().map(|listener| listener.ws.clone()).collect();
            client_tls.clone_from(&plan.client_tls);
            running = Some(Arc::new(plan.start(watch)?));
        }
        let https = https::Node::start(&config, running.as_deref()).await?;
        let admin = config.admin.as_deref().map(admin::Door::open).transpose()?;
        let live = Live {
            running: running.clone(),
            bsf: bsf.as_ref().map(|(bsf, state)| (Arc::clone(bsf), state.clone())),
            sources,
            vault: vault.clone(),
            node: node.as_ref().map(Node::tls).unwrap_or_default(),
            nbsp: nbsp.as_ref().map(nbsp::Node::shown),
            https: https.as_ref().map(https::Node::shown),
            ub: doors.as_ref().and_then(Doors::shown),
            tls,
            dtls,
            ws,
            client_tls,
            log,
        };
        let reloader = Reloader::new(config, move |new| live.apply(new));
        Ok(Self {
            running,
            bsf,
            doors,
            node,
            nbsp,
            https,
            groups,
            metrics: None,
            admin,
            vault,
            marks,
            page: None,
            well: Arc::new(AtomicBool::new(true)),
            reloader,
        })
    }

    /// What is asked at the admin socket.
    fn desk(&self) -> admin::Desk {
        let config = self.reloader.shared();
        let certificates = move |now: Now| {
            let ended = |ending: endings::Ending| admin::views::Certificate {
                seconds_left: ending.left(now.wall),
                shown_by: ending.shown_by.to_string(),
                at: ending.at,
            };
            endings::of(&config.load()).into_iter().map(ended).collect()
        };
        admin::Desk {
            running: self.running.clone(),
            addresses: self.addresses(),
            config: self.reloader.shared(),
            certificates: Box::new(certificates),
            began: clock::now(),
            audit: admin::audit::Audit::default(),
        }
    }

    /// The bound addresses of the edge's listeners, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.running.as_ref().map(|running| running.edge.addresses()).unwrap_or_default()
    }

    fn say_where(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let config = self.reloader.current();
        for (listener, address) in config.listeners.iter().zip(self.addresses()) {
            writeln!(out, "listening: {} on {address}", listener.name)?;
        }
        for (name, address) in self.doors.iter().flat_map(Doors::addresses) {
            writeln!(out, "listening: {name} on {address}")?;
        }
        if let Some(address) = self.node.as_ref().and_then(Node::address) {
            writeln!(out, "listening: Diameter on {address}")?;
        }
        if let Some(address) = self.nbsp.as_ref().and_then(nbsp::Node::address) {
            writeln!(out, "listening: Nbsp_GBA on {address}")?;
        }
        if let Some(address) = self.https.as_ref().and_then(https::Node::address) {
            writeln!(out, "listening: HTTPS on {address}")?;
        }
        if let Some(page) = self.page {
            writeln!(out, "listening: page of metrics on {page}")?;
        }
        out.flush()
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    ///
    /// What writing or waiting for signals gave.
    pub async fn serve(mut self, mut signals: Signals, errors: &mut dyn Write) -> io::Result<u8> {
        if let (Some((bsf, _)), Some(doors)) = (&self.bsf, self.doors.take()) {
            let home = self.node.as_ref().and_then(Node::home);
            tokio::spawn(doors.serve(Desk { bsf: Arc::clone(bsf), home }));
        }
        if let Some(https) = self.https.take() {
            tokio::spawn(https.serve(self.reloader.shared()));
        }
        if let Some(nbsp) = self.nbsp.take() {
            tokio::spawn(nbsp.serve());
        }
        if let Some(admin) = self.admin.take() {
            tokio::spawn(admin.serve(Arc::new(self.desk()), std::future::pending()));
        }
        if self.groups.iter().any(|group| !group.is_literal()) {
            let dns = Arc::new(SystemDns::new().map_err(io::Error::other)?);
            for group in self.groups.clone() {
                let dns = Arc::clone(&dns);
                tokio::spawn(async move {
                    group.keep_fresh(&*dns, || u64::from_be_bytes(clock::random())).await;
                });
            }
        }
        let (mut sweep, mut keep) = (every(SWEEP), every(KEEP));
        let mut reminder = endings::Reminder::default();
        let mut keeper = Keeper::new(self.bsf.clone(), self.vault.clone(), self.marks);
        let (mut look, mut renewal) = (every(LOOK), Renewal::default());
        loop {
            tokio::select! {
                // Whoever read our errors may be gone; that ends no call.
                _ = signals.hangup.recv() => {
                    drop(tell("signal", self.reloader.reload(), errors));
                }
                _ = signals.term.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = sweep.tick() => {
                    self.remind(&mut reminder);
                    self.sweep();
                }
                _ = keep.tick() => {
                    let (running, config) = (self.running.as_deref(), self.reloader.current());
                    drop(keeper.tick(running, &config, errors).await);
                }
                _ = look.tick() => {
                    if renewal.is_due(&self.reloader.current().watched_files, clock::now().mono) {
                        drop(tell("file", self.reloader.renew(), errors));
                    }
                }
            }
        }
        self.well.store(false, Ordering::Relaxed);
        let config = self.reloader.current();
        let patience = config.edge.drain;
        drop(self.reloader);
        if let Some(running) = self.running.take() {
            // On a thread of its own, so that /healthz says meanwhile that we are stopping.
            let hurry = running.edge.hurry();
            let mut stopping = tokio::task::spawn_blocking(move || running.edge.stop(patience));
            loop {
                tokio::select! {
                    _ = &mut stopping => break,
                    _ = signals.term.recv() => hurry(),
                    _ = signals.interrupt.recv() => hurry(),
                    _ = keep.tick() => drop(keeper.tick(None, &config, errors).await),
                }
            }
        }
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
        keeper.end()?;
        Ok(GOOD)
    }

    fn remind(&self, reminder: &mut endings::Reminder) {
        let now = clock::now();
        for ending in reminder.due(&self.reloader.current(), (now.mono, now.wall)) {
            let days = ending.left(now.wall) / 86_400;
            let (shown_by, at) = (&*ending.shown_by, ending.at);
            tracing::warn!(shown_by, at, days, "a certificate of ours ends soon");
        }
    }

    fn sweep(&self) {
        let now = clock::now();
        if let Some(metrics) = &self.metrics {
            metrics.tick(now.mono);
        }
        if let Some(running) = &self.running {
            running.shared.gate.authentication.flows().sweep(now);
            running.shared.bindings.sweep(now);
            running.keys.sweep(now);
            running.sweep_secrets(now.wall);
            pushed::sweep(&running.shared, now);
        }
        if let Some((bsf, _)) = &self.bsf {
            bsf.sweep(now);
        }
    }
}

/// A tick now, and one each `period` after the last: what was missed while the system ran others is not made up for, since
/// two looks at a file are to lie apart.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Says what a reload did that was asked for `by` a signal, or by files that changed in their places.
fn tell(
    by: &'static str,
    done: Result<Report, Vec<Problem>>,
    errors: &mut dyn Write,
) -> io::Result<()> {
    // A signal does not say who sent it, nor a file who wrote it: this user may, and root.
    let uid = nix::unistd::geteuid().as_raw();
    match done {
        Ok(report) => {
            let (what, waits) = (list(&report.changed), list(&report.restart));
            tracing::info!(target: "audit", uid, by, act = "reload", what, waits, outcome = "done");
            for warning in &report.warnings {
                writeln!(errors, "{warning}")?;
            }
            writeln!(errors, "reloaded: {}", list(&report.changed))?;
            if !report.restart.is_empty() {
                writeln!(errors, "needs a restart: {}", list(&report.restart))?;
            }
        }
        Err(problems) => {
            let count = problems.len();
            tracing::warn!(
                target: "audit", uid, by, act = "reload", problems = count, outcome = "refused"
            );
            for problem in problems {
                writeln!(errors, "{problem}")?;
            }
            writeln!(errors, "not reloaded: the old configuration stays in force")?;
        }
    }
    errors.flush()
}

fn list(parts: &[String]) -> String {
    if parts.is_empty() { "nothing had changed".into() } else { parts.join(", ") }
}

impl Live {
    /// Puts another configuration in force, as far as it can be while the edge serves.
    fn apply(&self, new: &Config) -> Result<(), String> {
        // First of all: it refuses certificates that cannot be used.
        let bsf = self.bsf.as_ref().map(|(bsf, _)| Arc::clone(bsf));
        let plan = self.running.as_ref().map(|_| plan(new, bsf, self.sources.clone())).transpose();
        let mut plan = plan.map_err(|why| why.to_string())?;
        if let Some(plan) = &mut plan {
            let added = keeping::add_stored(plan, self.vault.as_deref(), new);
            added.map_err(|why| why.to_string())?;
        }
        self.node.replace(new).map_err(|why| why.to_string())?;
        if let Some(nbsp) = &self.nbsp {
            nbsp.replace(new).map_err(|why| why.to_string())?;
        }
        if let Some(https) = &self.https {
            https.replace(new).map_err(|why| why.to_string())?;
        }
        let ub = new.bsf.as_ref().and_then(|bsf| bsf.tls.as_ref());
        if let (Some(serving), Some(tls)) = (&self.ub, ub) {
            serving.replace(&tls.spec).map_err(|why| why.to_string())?;
        }
        for (serving, listener) in self.tls.iter().zip(&new.listeners) {
            if let (Some(serving), Some(tls)) = (serving, &listener.tls) {
                serving.replace(&tls.spec).map_err(|why| why.to_string())?;
            }
        }
        for (serving, listener) in self.dtls.iter().zip(&new.listeners) {
            if let (Some(serving), Some(spec)) = (serving, config::dtls::spec(listener)) {
                serving.replace(&spec).map_err(|why| why.to_string())?;
            }
        }
        if let (Some(client), Some(dialling)) = (&self.client_tls, &new.dialling) {
            client
                .replace(dialling.trust.clone(), dialling.shows.as_deref())
                .map_err(|why| why.to_string())?;
        }
        // Last of all that may fail: whoever is told that the old configuration stays in force has the old list too.
        if let (Some((bsf, books)), Some(path)) = (&self.bsf, new.subscribers()) {
            books.replace(bsf, path)?;
            if let Some(running) = &self.running {
                running.revoke_barred();
            }
        }
        for (serving, listener) in self.ws.iter().zip(&new.listeners) {
            if let (Some(serving), Some(rules)) = (serving, &listener.ws) {
                serving.replace(Rules::clone(rules));
            }
        }
        if let Some(log) = &self.log {
            log.set(&new.telemetry.log);
        }
        if let (Some(running), Some(plan)) = (&self.running, plan) {
            running.replace_policy(&plan);
        }
        Ok(())
    }
}

/// Addresses of peers, as they were resolved last.
pub(super) struct Groups(pub(super) Vec<Arc<PeerGroup>>);

impl Resolved for Groups {
    fn targets(&self, group: GroupId) -> Arc<Vec<Target>> {
        self.0.get(usize::from(group.0)).map(|group| group.targets()).unwrap_or_default()
    }
}

/// The groups of peers; members that are written as names have no targets yet.
pub(super) fn peer_groups(config: &Config) -> Vec<Arc<PeerGroup>> {
    let own: Vec<_> = config.listeners.iter().map(|listener| listener.address).collect();
    let core = || config.listeners_of(Side::Core);
    let conditions = Conditions {
        transports: [Transport::Tls, Transport::Tcp, Transport::Udp].to_vec(),
        ipv4: core().any(|listener| listener.address.is_ipv4()),
        ipv6: core().any(|listener| listener.address.is_ipv6()),
        own,
    };
    (0_u16..)
        .zip(&config.peers)
        .map(|(id, peer)| {
            let members = peer.members.iter().map(|member| Member {
                host: Arc::clone(&member.host),
                port: member.port,
                transport: member.transport,
                secure: false,
                domain: peer.identities.first().unwrap_or(&member.host).clone(),
                group: GroupId(id),
            });
            PeerGroup::new(GroupId(id), members.collect(), conditions.clone())
        })
        .collect()
}

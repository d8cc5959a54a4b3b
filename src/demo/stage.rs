//! The demonstration's stage: servers, edge and UEs, and what every scene needs of them.
//!
//! Takes:   free ports on loopback.
//! Gives:   [`Demo`]; [`Trouble`], and the looks by which scenes tell whether all went as it must.
//! Keeps:   what runs, until it is stopped.
//! Refuses: nothing by itself.
//! Sources: none.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::cast::{self, BSF, DOMAIN, EDGE, LOCATION, LOOPBACK, PAGE, place};
use super::ladder::Ladder;
use super::location::LocationService;
use super::papers::Papers;
use super::server::{Seen, SmallServer};
use crate::assembly::Running;
use crate::authentication::digest::Hash;
use crate::client::answer::Credential;
use crate::client::bootstrap::{Bootstrapped, UbPlan};
use crate::client::bootstrap_http;
use crate::client::ue::{Ue, UeError, UeSettings};
use crate::http;
use crate::identity::Impi;
use crate::keys::UaId;
use crate::keys::sqn::SqnWindow;
use crate::keys::usim::Usim;
use crate::refusal::Refusal;
use crate::transport::Transport;
use crate::transport::ws::Offer;
use crate::wire::{Message, Method};

/// How long nothing comes, where everything has come; and how often that is asked at most.
const SETTLED: Duration = Duration::from_millis(25);
const SETTLED_MAX: usize = 40;
/// How often an address is drawn anew that another part has.
const DRAWN_MAX: usize = 8;

/// The stage.
pub struct Demo {
    pub(super) ladder: Arc<Ladder>,
    pub(super) running: Running,
    pub(super) seen: Arc<Seen>,
    bsf_address: SocketAddr,
    core_address: SocketAddr,
    papers: Papers,
}

impl std::fmt::Debug for Demo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demo").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Demo {
    /// Starts bootstrapping server, small SIP server and edge.
    ///
    /// # Errors
    ///
    /// What binding or starting gave.
    pub async fn start() -> Result<Self, Trouble> {
        let bsf = Arc::new(cast::bsf()?);
        let door = TcpListener::bind((LOOPBACK, 0)).await?;
        let bsf_address = door.local_addr()?;
        let serving = Arc::clone(&bsf);
        tokio::spawn(async move {
            http::ub::serve(
                door,
                http::ub::Desk { bsf: serving, home: None },
                http::Bounds::default(),
                |_| {},
                std::future::pending(),
            )
            .await
        });
        let core = SmallServer::bind((LOOPBACK, 0).into(), LOOPBACK).await?;
        let (core_address, seen) = (core.address()?, core.seen());
        tokio::spawn(core.run());
        let papers = Papers::new()?;
        let location = LocationService::bind(papers.server(LOCATION)?).await?;
        let location_address = location.address();
        tokio::spawn(location.run());
        let ladder = Arc::new(Ladder::default());
        ladder.place(core_address, "core", Transport::Udp);
        ladder.place(location_address, "location", Transport::Tls);
        let plan = cast::plan(bsf, core_address, location_address, &papers)?;
        let watch: Arc<dyn crate::edge::Watch> = Arc::<Ladder>::clone(&ladder);
        let running = plan.start(watch)?;
        Ok(Self { ladder, running, seen, bsf_address, core_address, papers })
    }

    /// What `--stay` tells.
    ///
    /// # Errors
    ///
    /// What writing gave.
    pub fn addresses(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let addresses = self.running.edge.addresses();
        let names = [
            "edge, UDP and TCP",
            "edge, TLS and DTLS",
            "edge, core side",
            "edge, WSS",
            "edge, WS",
            "edge, B2BUA, UDP",
            "edge, servers, TLS",
        ];
        for (name, address) in names.iter().zip(&addresses) {
            writeln!(out, "    {name:<20} {address}")?;
        }
        writeln!(out, "    {:<20} http://{}/", "bootstrapping server", self.bsf_address)?;
        writeln!(out, "    {:<20} {}", "small SIP server", self.core_address)
    }

    /// The laboratory's certificate, PEM: what a UE on TLS must trust.
    pub fn certificate(&self) -> &str {
        &self.papers.pem
    }

    /// The edge's first address.
    pub fn edge(&self) -> SocketAddr {
        self.running.edge.addresses().first().copied().unwrap_or_else(|| (LOOPBACK, 5060).into())
    }

    /// Its address for TLS.
    pub fn edge_tls(&self) -> SocketAddr {
        self.listener(place::SECURE)
    }

    /// The bootstrapping server's address.
    pub fn bsf(&self) -> SocketAddr {
        self.bsf_address
    }

    /// Bootstraps one of the subscribers.
    ///
    /// # Errors
    ///
    /// Why there is no key.
    pub async fn bootstrap(&self, user: &str) -> Result<Bootstrapped, Trouble> {
        let impi =
            Impi::new(&cast::impi(user)).ok_or(Trouble::Scene("no such subscriber".into()))?;
        let plan = UbPlan::new(impi, BSF);
        let mut card = Usim::new(cast::algorithms(), SqnWindow::default());
        bootstrap_http::bootstrap(&plan, self.bsf_address, &mut card, None)
            .await
            .map_err(|why| Trouble::Scene(format!("{user} cannot bootstrap: {why}")))
    }

    /// A UE with that credential.
    pub(super) async fn ue(
        &self,
        user: &str,
        transport: Transport,
        credential: Credential,
    ) -> Result<Ue, Trouble> {
        let settings = self.settings(user, transport);
        Ok(self.connect(user, UeSettings { credentials: vec![credential], ..settings }).await?)
    }

    /// What a UE is made of, but for what it proves itself with.
    pub(super) fn settings(&self, user: &str, transport: Transport) -> UeSettings {
        let place = match transport {
            Transport::Udp | Transport::Tcp => place::CLEAR,
            Transport::Tls | Transport::Dtls => place::SECURE,
            Transport::Wss => place::WSS,
            Transport::Ws => place::WS,
        };
        let name = if user == "rogue" { "mallory" } else { user };
        UeSettings {
            edge: self.listener(place),
            edge_name: EDGE.into(),
            transport,
            identity: format!("sip:{name}@{DOMAIN}"),
            credentials: Vec::new(),
            floor: Hash::Md5,
            tls: Some(Arc::clone(&self.papers.client)),
            psk: None,
            trust: Some(self.papers.trust.clone()),
            shows: None,
            local: Some((LOOPBACK, 0).into()).filter(|_| !transport.is_reliable()),
            ws: Offer { origin: Some(PAGE.into()), ..Offer::default() },
            sec_agree: false,
            lists: None,
            trace: None,
        }
    }

    /// The address of a listener, by its place in the plan.
    pub(super) fn listener(&self, place: usize) -> SocketAddr {
        self.running.edge.addresses().get(place).copied().unwrap_or_else(|| self.edge())
    }

    /// A server that speaks to the edge under a certificate for `name`; it is called `column` in ladders.
    pub(super) async fn server(&self, column: &str, name: &str) -> Result<Ue, Trouble> {
        let settings = UeSettings {
            edge: self.listener(place::SERVERS),
            identity: format!("sip:{name}"),
            tls: Some(self.papers.client_of(name)?),
            ..self.settings(column, Transport::Tls)
        };
        Ok(self.connect(column, settings).await?)
    }

    /// A UE that is called `user` in ladders, under an address that is no other part's: a port of UDP may have the
    /// number of one of TCP, and then nobody could tell whose address a message shows.
    pub(super) async fn connect(&self, user: &str, settings: UeSettings) -> Result<Ue, UeError> {
        let transport = settings.transport;
        let mut ue = Ue::connect(settings.clone()).await?;
        for _ in 0..DRAWN_MAX {
            let local = ue.local();
            if !self.ladder.has(local) && !self.running.edge.addresses().contains(&local) {
                break;
            }
            ue = Ue::connect(settings.clone()).await?;
        }
        self.ladder.place(ue.local(), user, transport);
        Ok(ue)
    }

    pub(super) fn scene(&self, out: &mut (dyn Write + Send), title: &str) -> Result<(), Trouble> {
        writeln!(out, "\n{title}\n")?;
        Ok(())
    }

    /// What a scene has shown.
    pub(super) fn proved(&self, out: &mut (dyn Write + Send), what: &str) -> Result<(), Trouble> {
        writeln!(out, "    Proved: {what}")?;
        Ok(())
    }

    /// Waits until nothing comes any more, and forgets it.
    pub(super) async fn forget(&self) {
        self.settle().await;
        self.ladder.take();
    }

    /// Waits until nothing comes any more: what belongs to a scene is shown with it.
    async fn settle(&self) {
        let mut before = None;
        for _ in 0..SETTLED_MAX {
            let count = Some(self.ladder.len());
            if before == count {
                return;
            }
            before = count;
            tokio::time::sleep(SETTLED).await;
        }
    }

    /// Writes the ladder of what happened since the last one.
    pub(super) async fn show(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        self.settle().await;
        for line in self.ladder.take() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// Whether exactly these were refused since the last look.
    pub(super) fn refused(&self, what: &str, expected: &[Refusal]) -> Result<(), Trouble> {
        let found = self.ladder.refusals();
        if found == expected {
            return Ok(());
        }
        Err(Trouble::Scene(format!("{what}: refused were {found:?}, expected {expected:?}")))
    }

    /// Whether a request of that method was decided by that rule since the last look.
    pub(super) fn ruled(&self, what: &str, method: Method, rule: u8) -> Result<(), Trouble> {
        let rules = self.ladder.rules();
        if rules.contains(&(method, rule)) {
            return Ok(());
        }
        let method = method.as_str();
        Err(Trouble::Scene(format!("{what}: no {method} by rule {rule}, but {rules:?}")))
    }

    /// Waits until exactly these were refused.
    pub(super) async fn wait_for(&self, what: &str, expected: &[Refusal]) -> Result<(), Trouble> {
        let mut found = Vec::new();
        for _ in 0..200 {
            found.extend(self.ladder.refusals());
            if found == expected {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Trouble::Scene(format!("{what}: refused were {found:?}, expected {expected:?}")))
    }

    /// Ends the edge.
    pub fn stop(self) {
        self.running.edge.stop(Duration::from_secs(1));
    }
}

pub(super) fn expect(what: &str, response: &Message, status: u16) -> Result<(), Trouble> {
    match response.status() {
        Some(found) if found == status => Ok(()),
        found => Err(Trouble::Scene(format!("{what} was answered {found:?}, not {status}"))),
    }
}

/// Waits for that request with `text` in its body; what comes before it was not asked about.
pub(super) async fn received(
    what: &str,
    ue: &Ue,
    method: &str,
    text: &[u8],
) -> Result<Message, Trouble> {
    let holds =
        |message: &Message| text.is_empty() || memchr::memmem::find(message.body(), text).is_some();
    awaited(what, ue, method, holds).await
}

/// Waits for that request in the call of that Call-ID.
pub(super) async fn in_call(
    what: &str,
    ue: &Ue,
    method: &str,
    call_id: &str,
) -> Result<Message, Trouble> {
    awaited(what, ue, method, |message| message.call_id() == call_id.as_bytes()).await
}

async fn awaited(
    what: &str,
    ue: &Ue,
    method: &str,
    is_it: impl Fn(&Message) -> bool,
) -> Result<Message, Trouble> {
    while let Some(message) = ue.incoming(Duration::from_secs(5)).await {
        if message.method_octets() == method.as_bytes() && is_it(&message) {
            return Ok(message);
        }
    }
    Err(Trouble::Scene(format!("{what} did not arrive")))
}

pub(super) fn gba(keys: Bootstrapped) -> Credential {
    Credential::Gba { keys: Arc::new(keys), ua: UaId::SIP_DIGEST }
}

/// What went wrong.
#[derive(Debug)]
pub enum Trouble {
    /// A server could not be started, or nothing could be written.
    Io(io::Error),
    /// A scene did not end as it must.
    Scene(String),
}

impl From<io::Error> for Trouble {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

impl From<UeError> for Trouble {
    fn from(why: UeError) -> Self {
        Self::Scene(why.to_string())
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(why) => write!(f, "{why}"),
            Self::Scene(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

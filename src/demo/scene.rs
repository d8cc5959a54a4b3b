//! The demonstration's scenes.
//!
//! Takes:   a place to write to.
//! Gives:   the scenes, one after the other; [`Trouble`] at the first that goes wrong.
//! Keeps:   the stage: servers, UEs, the edge.
//! Refuses: to go on after a scene that went wrong.
//! Sources: TS 35.208 clause 4.3 (the subscribers' keys are its public test sets 1 and 2).

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::ladder::Ladder;
use super::server::{Seen, SmallServer};
use super::shared;
use crate::assembly::{Group, Plan, Running, SharedKeys};
use crate::authentication::Naf;
use crate::authentication::accounts::{Account, Accounts, Secret};
use crate::authentication::digest::Hash;
use crate::client::answer::Credential;
use crate::client::bootstrap::{Bootstrapped, UbPlan};
use crate::client::bootstrap_http;
use crate::client::ue::{Ue, UeError, UeSettings};
use crate::clock;
use crate::edge::GroupSpec;
use crate::http;
use crate::identity::{Impi, Impu, Realm};
use crate::keys::bootstrap::{Bsf, BsfConfig, LocalNaf, NafGrant, UaGrant};
use crate::keys::milenage::Milenage;
use crate::keys::psk::{ProvisionedKeys, PskClient, Scheme};
use crate::keys::sqn::{Sqn, SqnGenerator, SqnWindow};
use crate::keys::subscribers::{Card, Subscriber};
use crate::keys::usim::Usim;
use crate::keys::vector::{Algorithms, Amf};
use crate::keys::{KeySource, UaId};
use crate::refusal::Refusal;
use crate::transport::tls::{self, ServerSpec, ServerTls};
use crate::transport::ws::Offer;
use crate::transport::{GroupId, ListenSpec, ListenerId, Side, Target, Transport};
use crate::wire::Message;

/// The edge's name.
pub const EDGE: &str = "edge.example.net";
const BSF: &str = "bsf.example.net";
const DOMAIN: &str = "example.net";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// K and OP of TS 35.208 sets 1 and 2, which are the same; the subscribers differ by their names.
const K: [u8; 16] = hex("465b5ce8b199b49faa5f0a2ee238a6bc");
const OP: [u8; 16] = hex("cdc202d5123e20f62b6d676ac72cb318");

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

/// The stage.
pub struct Demo {
    ladder: Arc<Ladder>,
    running: Running,
    seen: Arc<Seen>,
    bsf_address: SocketAddr,
    core_address: SocketAddr,
    certificate: String,
    tls: Arc<rustls::ClientConfig>,
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
        let bsf = Arc::new(bsf()?);
        let door = TcpListener::bind((LOOPBACK, 0)).await?;
        let bsf_address = door.local_addr()?;
        let serving = Arc::clone(&bsf);
        tokio::spawn(async move {
            http::ub::serve(door, serving, http::Bounds::default(), |_| {}, std::future::pending())
                .await
        });
        let core = SmallServer::bind((LOOPBACK, 0).into(), LOOPBACK).await?;
        let (core_address, seen) = (core.address()?, core.seen());
        tokio::spawn(core.run());
        let (server_tls, client_tls, certificate) = certificates()?;
        let ladder = Arc::new(Ladder::default());
        ladder.place(core_address, "core");
        let plan = plan(bsf, core_address, server_tls)?;
        let watch: Arc<dyn crate::edge::Watch> = Arc::<Ladder>::clone(&ladder);
        let running = plan.start(watch)?;
        Ok(Self { ladder, running, seen, bsf_address, core_address, certificate, tls: client_tls })
    }

    /// Plays all scenes, and writes the ladder.
    ///
    /// # Errors
    ///
    /// The first scene that went wrong.
    pub async fn play(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        self.scene(
            out,
            "Alice and bob bootstrap: Digest-AKA with the server, and a key for the edge",
        )?;
        let alice = self.bootstrap("alice").await?;
        let bob = self.bootstrap("bob").await?;
        for keys in [&alice, &bob] {
            writeln!(out, "    {} has {}", keys.impi, keys.btid)?;
        }
        let alice = self.ue("alice", Transport::Udp, gba(alice)).await?;
        let keys = bob.clone();
        let bob = self.ue("bob", Transport::Tls, gba(bob)).await?;
        let played = self.scenes(out, &alice, &bob, &keys).await;
        if played.is_err() {
            self.show(out)?;
        }
        played
    }

    async fn scenes(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
        keys: &Bootstrapped,
    ) -> Result<(), Trouble> {
        self.registrations(out, alice, bob).await?;
        self.texts(out, alice, bob).await?;
        self.subscription(out, alice).await?;
        self.call(out, alice, bob).await?;
        self.rogue(out, alice, bob).await?;
        self.shared_key(out, keys).await?;
        self.datagrams(out, alice, keys).await?;
        self.counts(out)
    }

    async fn registrations(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice registers over UDP, bob over TLS")?;
        expect("alice's REGISTER", &alice.register(600).await?, 200)?;
        expect("bob's REGISTER", &bob.register(600).await?, 200)?;
        self.show(out)?;
        self.refused("registering", &[Refusal::CredentialsMissing, Refusal::CredentialsMissing])
    }

    async fn texts(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice writes to bob, and to the echo")?;
        expect("MESSAGE to bob", &alice.message("sip:bob@example.net", "Hello Bob").await?, 200)?;
        received("the text", bob, "MESSAGE", b"Hello Bob").await?;
        expect(
            "MESSAGE to echo",
            &alice.message("sip:echo@example.net", "Is anybody there?").await?,
            200,
        )?;
        received("the echo", alice, "MESSAGE", b"Is anybody there?").await?;
        self.show(out)?;
        self.refused("writing", &[])
    }

    async fn subscription(&self, out: &mut (dyn Write + Send), alice: &Ue) -> Result<(), Trouble> {
        self.scene(out, "Alice subscribes; the NOTIFY finds her")?;
        let answer = alice.subscribe("sip:echo@example.net", "presence", 600).await?;
        expect("SUBSCRIBE", &answer, 200)?;
        received("the NOTIFY", alice, "NOTIFY", b"online").await?;
        self.show(out)?;
        self.refused("subscribing", &[])
    }

    async fn call(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice calls bob and hangs up; then bob calls alice and hangs up")?;
        let call = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE", &call.answer, 200)?;
        received("the call", bob, "INVITE", b"").await?;
        received("the ACK", bob, "ACK", b"").await?;
        expect("alice's BYE", &alice.hang_up(&call.call_id).await?, 200)?;
        let call = bob.call("sip:alice@example.net").await?;
        expect("bob's INVITE", &call.answer, 200)?;
        received("the call", alice, "INVITE", b"").await?;
        expect("bob's BYE", &bob.hang_up(&call.call_id).await?, 200)?;
        self.show(out)?;
        self.refused("calling", &[])
    }

    async fn rogue(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "A rogue listens, replays what alice sent, and writes in her name")?;
        let account = Credential::Account {
            username: "mallory".into(),
            password: Zeroizing::new(MALLORY.into()),
            realm: Some(DOMAIN.into()),
        };
        let rogue = self.ue("rogue", Transport::Udp, account).await?;
        expect(
            "a MESSAGE of alice",
            &alice.message("sip:bob@example.net", "Pay 10 to Carol").await?,
            200,
        )?;
        let captured =
            self.ladder.captured("alice").ok_or(Trouble::Scene("nothing captured".into()))?;
        self.ladder.refusals();
        rogue.send_raw(captured).await?;
        self.wait_for("the replay", &[Refusal::NonceStale]).await?;
        let mut spoof = rogue.draft("MESSAGE", "sip:bob@example.net").await?;
        spoof.from = "sip:alice@example.net".into();
        expect(
            "the spoofed MESSAGE",
            &rogue.send(spoof.body("text/plain", "Pay Mallory")).await?,
            403,
        )?;
        self.show(out)?;
        self.refused("spoofing", &[Refusal::CredentialsMissing, Refusal::IdentityForeign])?;

        self.scene(out, "The rogue tries to end a call of alice and bob; alice ends it")?;
        let call = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE", &call.answer, 200)?;
        let mut bye = alice.inside(&call.call_id, "BYE").await?;
        bye.cseq = bye.cseq.saturating_add(100);
        self.ladder.refusals();
        expect("the rogue's BYE", &rogue.send(bye).await?, 403)?;
        self.refused("hanging up for alice", &[Refusal::AssociationMismatch])?;
        expect("alice's BYE", &alice.hang_up(&call.call_id).await?, 200)?;
        received("the text", bob, "MESSAGE", b"Pay 10 to Carol").await?;
        self.show(out)
    }

    fn counts(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (requests, credentials) =
            (count(&self.seen.requests), count(&self.seen.with_credentials));
        let unasserted = count(&self.seen.not_one_identity);
        self.scene(out, "What the core saw")?;
        writeln!(
            out,
            "    {requests} requests, {credentials} with credentials in them, {unasserted} without exactly one \
             asserted identity"
        )?;
        if credentials != 0 || unasserted != 0 || requests == 0 {
            return Err(Trouble::Scene("the core saw what it must not see".into()));
        }
        Ok(())
    }

    /// What `--stay` tells.
    ///
    /// # Errors
    ///
    /// What writing gave.
    pub fn addresses(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let addresses = self.running.edge.addresses();
        let names = ["edge, UDP and TCP", "edge, TLS", "edge, core side"];
        for (name, address) in names.iter().zip(&addresses) {
            writeln!(out, "    {name:<20} {address}")?;
        }
        writeln!(out, "    {:<20} http://{}/", "bootstrapping server", self.bsf_address)?;
        writeln!(out, "    {:<20} {}", "small SIP server", self.core_address)
    }

    /// The laboratory's certificate, PEM: what a UE on TLS must trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The edge's first address.
    pub fn edge(&self) -> SocketAddr {
        self.running.edge.addresses().first().copied().unwrap_or_else(|| (LOOPBACK, 5060).into())
    }

    /// The bootstrapping server's address.
    pub fn bsf(&self) -> SocketAddr {
        self.bsf_address
    }

    /// Bootstraps one of the two subscribers.
    ///
    /// # Errors
    ///
    /// Why there is no key.
    pub async fn bootstrap(&self, user: &str) -> Result<Bootstrapped, Trouble> {
        let impi = Impi::new(&impi(user)).ok_or(Trouble::Scene("no such subscriber".into()))?;
        let plan = UbPlan::new(impi, BSF);
        let mut card = Usim::new(algorithms(), SqnWindow::default());
        bootstrap_http::bootstrap(&plan, self.bsf_address, &mut card, None)
            .await
            .map_err(|why| Trouble::Scene(format!("{user} cannot bootstrap: {why}")))
    }

    async fn ue(
        &self,
        user: &str,
        transport: Transport,
        credential: Credential,
    ) -> Result<Ue, Trouble> {
        Ok(self.ue_with(user, transport, vec![credential], None).await?)
    }

    pub(super) async fn ue_with(
        &self,
        user: &str,
        transport: Transport,
        credentials: Vec<Credential>,
        psk: Option<PskClient>,
    ) -> Result<Ue, UeError> {
        let place = usize::from(transport.is_secure());
        let edge = self.running.edge.addresses().get(place).copied();
        let name = if user == "rogue" { "mallory" } else { user };
        let ue = Ue::connect(UeSettings {
            edge: edge.unwrap_or_else(|| self.edge()),
            edge_name: EDGE.into(),
            transport,
            identity: format!("sip:{name}@{DOMAIN}"),
            credentials,
            floor: Hash::Md5,
            tls: Some(Arc::clone(&self.tls)),
            psk,
            trust: None,
            local: Some((LOOPBACK, 0).into()).filter(|_| !transport.is_reliable()),
            ws: Offer::default(),
            sec_agree: false,
            trace: None,
        })
        .await?;
        self.ladder.place(ue.local(), user);
        Ok(ue)
    }

    pub(super) fn scene(&self, out: &mut (dyn Write + Send), title: &str) -> Result<(), Trouble> {
        writeln!(out, "\n{title}\n")?;
        Ok(())
    }

    pub(super) fn show(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        writeln!(out, "{}", Ladder::head())?;
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

    async fn wait_for(&self, what: &str, expected: &[Refusal]) -> Result<(), Trouble> {
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

/// Waits for that request; what comes before it was not asked about.
pub(super) async fn received(
    what: &str,
    ue: &Ue,
    method: &str,
    body: &[u8],
) -> Result<(), Trouble> {
    while let Some(message) = ue.incoming(Duration::from_secs(5)).await {
        if message.method_octets() == method.as_bytes() && message.body().starts_with(body) {
            return Ok(());
        }
    }
    Err(Trouble::Scene(format!("{what} did not arrive")))
}

fn gba(keys: Bootstrapped) -> Credential {
    Credential::Gba { keys: Arc::new(keys), ua: UaId::SIP_DIGEST }
}

fn impi(user: &str) -> String {
    format!("{user}@ims.{DOMAIN}")
}

fn algorithms() -> Algorithms {
    Algorithms::Milenage(Milenage::with_op(&K, &OP))
}

fn bsf() -> Result<Bsf, Trouble> {
    let subscriber = |user: &str, number: &str| Subscriber {
        impi: Impi::new(&impi(user)).unwrap_or_else(|| unreachable!("a name of ours")),
        algorithms: algorithms(),
        amf: Amf::default(),
        sqn: SqnGenerator::new(Sqn::new(0, 0)),
        impus: [format!("sip:{user}@{DOMAIN}"), format!("tel:{number}")]
            .iter()
            .filter_map(|text| Impu::new(text))
            .collect(),
        key_lifetime: None,
        barred: false,
        card: Card::Gba,
        uss: Arc::from([]),
    };
    let grant = NafGrant {
        host: EDGE.into(),
        fqdns: vec![EDGE.into()],
        protocols: vec![
            UaGrant::Exact(UaId::SIP_DIGEST),
            UaGrant::Exact(UaId::SHARED_KEY_TLS13),
            UaGrant::TlsSuites,
        ],
        sees_impi: true,
        sees_identities: true,
    };
    let subscribers = vec![subscriber("alice", "+12015550101"), subscriber("bob", "+12015550102")];
    Bsf::new(BsfConfig::new(BSF), subscribers, vec![grant], clock::random())
        .map_err(|why| Trouble::Scene(format!("{why:?}")))
}

/// The rogue's own account: he is a subscriber like any other.
const MALLORY: &str = "mallory has an account of his own";

fn plan(bsf: Arc<Bsf>, core: SocketAddr, tls: Arc<ServerTls>) -> Result<Plan, Trouble> {
    let realm = Realm::new(DOMAIN).ok_or(Trouble::Scene("no realm".into()))?;
    let mut accounts = Accounts::default();
    let mallory = Account {
        secret: Secret::Password(Zeroizing::new(MALLORY.into())),
        identities: [format!("sip:mallory@{DOMAIN}")].iter().filter_map(|t| Impu::new(t)).collect(),
        disabled: false,
        classes: None,
    };
    accounts.add(DOMAIN, "mallory", mallory).map_err(|why| Trouble::Scene(format!("{why:?}")))?;
    let listen = |id, side, transports: &[Transport], name: &str, tls| ListenSpec {
        id: ListenerId(id),
        side,
        address: (LOOPBACK, 0).into(),
        transports: transports.to_vec(),
        name: name.into(),
        tls,
        psk: None,
        dtls: None,
        ws: None,
    };
    let sessions = shared::sessions()?;
    let secure: &[Transport] =
        if sessions.is_some() { &[Transport::Tls, Transport::Dtls] } else { &[Transport::Tls] };
    let with_certificate = listen(1, Side::Ue, secure, EDGE, Some(tls));
    let key_source: Arc<dyn KeySource> = Arc::new(LocalNaf::new(bsf, EDGE));
    Ok(Plan {
        listeners: vec![
            listen(0, Side::Ue, &[Transport::Udp, Transport::Tcp], EDGE, None),
            ListenSpec { psk: shared::handshakes()?, dtls: sessions, ..with_certificate },
            listen(2, Side::Core, &[Transport::Udp], "127.0.0.1", None),
        ],
        groups: vec![Group {
            known: GroupSpec { addresses: vec![core.ip()], identities: Vec::new() },
            targets: vec![Target {
                transport: Transport::Udp,
                address: core,
                domain: DOMAIN.into(),
                group: GroupId(0),
            }],
        }],
        workers: NonZeroUsize::MIN,
        domains: vec![DOMAIN.into()],
        routes: vec![(DOMAIN.into(), GroupId(0))],
        accounts: Some((realm, Arc::new(accounts))),
        naf: Some((Naf::new(EDGE, UaId::SIP_DIGEST, [Arc::from(BSF)]), key_source)),
        psk: Some(SharedKeys {
            server_name: EDGE.into(),
            scheme: Scheme::ThreeGpp,
            provisioned: ProvisionedKeys::new(),
        }),
        bsf_names: vec![BSF.into()],
        ..Plan::new()
    })
}

type Tls = (Arc<ServerTls>, Arc<rustls::ClientConfig>, String);

/// A certificate for the edge that nobody but this run trusts.
fn certificates() -> Result<Tls, Trouble> {
    let scene = |why: String| Trouble::Scene(format!("certificate: {why}"));
    let made = rcgen::generate_simple_self_signed([EDGE.to_owned()]);
    let made = made.map_err(|why| scene(why.to_string()))?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = tls::Certificate::from_pem(chain.as_bytes(), key.as_bytes());
    let certificate = certificate.map_err(|why| scene(why.to_string()))?;
    let spec = ServerSpec {
        certificates: vec![certificate],
        asks: crate::transport::peer::ClientCertificate::None,
        trust: crate::transport::peer::Trust::nobody(),
    };
    let server = ServerTls::new(&spec).map_err(|why| scene(why.to_string()))?;
    let trust = tls::trust(chain.as_bytes(), b"").map_err(|why| scene(why.to_string()))?;
    let client = tls::client_config(trust, None).map_err(|why| scene(why.to_string()))?;
    Ok((Arc::new(server), client, chain))
}

/// Sixteen octets from their hex digits.
const fn hex(text: &str) -> [u8; 16] {
    const fn digit(octet: u8) -> u8 {
        match octet {
            b'0'..=b'9' => octet - b'0',
            b'a'..=b'f' => octet - b'a' + 10,
            _ => panic!("a hex digit"),
        }
    }
    let text = text.as_bytes();
    let mut octets = [0; 16];
    let mut at = 0;
    while at < 16 {
        octets[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    octets
}

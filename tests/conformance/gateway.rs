//! An edge that runs, with its two faces on loopback under TLS, and whoever meets it there with a certificate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipward::assembly::{Group, Plan, Running};
use sipward::authentication::Accounts;
use sipward::authentication::certificate_users::CertificateUsers;
use sipward::edge::{GroupSpec, Watch};
use sipward::identity::Realm;
use sipward::journey::{Decision, Outcome};
use sipward::refusal::Refusal;
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{self, Certificate, ClientTls, ServerSpec, ServerTls, TlsRefusal};
use sipward::transport::{GroupId, ListenSpec, ListenerId, Side, Target, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, shows};

/// What was decided about each message.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Vec<Outcome>>);

impl Watch for Seen {
    fn decided(&self, decision: &Decision) {
        self.0.lock().unwrap().push(decision.outcome);
    }
}

/// How a [`Gateway`] is set up.
pub(crate) struct Setup<'a> {
    pub(crate) authority: &'a Authority,
    /// Whom the core side trusts: who comes, and who is dialled.
    pub(crate) trust: Trust,
    /// Domains, each the name of a group of its own, and where its one server is.
    pub(crate) domains: Vec<(&'static str, SocketAddr)>,
    /// Whom the other side trusts, and whose certificates are whose there.
    pub(crate) devices: Trust,
    pub(crate) users: CertificateUsers,
    /// Whether servers may use the connections that are opened to them.
    pub(crate) aliased: bool,
}

impl<'a> Setup<'a> {
    /// One domain, trust in `authority`.
    pub(crate) fn new(authority: &'a Authority, server: SocketAddr) -> Self {
        let domains = vec![("example.net", server)];
        let (trust, devices) = (authority.trust(), authority.trust());
        let users = CertificateUsers::new();
        Self { authority, trust, domains, devices, users, aliased: false }
    }
}

/// An edge: listener 0 faces devices, listener 1 servers, both over TLS, both ask for certificates.
pub(crate) struct Gateway {
    running: Option<Running>,
    seen: Arc<Seen>,
}

impl Gateway {
    pub(crate) fn start(setup: Setup<'_>) -> Self {
        let Setup { authority, trust, domains, devices, users, aliased } = setup;
        let devices = devices.knowing(Arc::new(users));
        let names = ["sip:edge.example.net"];
        let tls = |side| {
            let asks = ClientCertificate::Required;
            let trust = if side == Side::Ue { &devices } else { &trust }.clone();
            let spec = ServerSpec { asks, trust, ..shows(authority.issue(&names)) };
            Some(Arc::new(ServerTls::new(&spec).unwrap()))
        };
        let listener = |id, side| {
            let (id, address) = (ListenerId(id), ([127, 0, 0, 1], 0).into());
            let spec = ListenSpec::plain(id, side, address, &[Transport::Tls], "edge.example.net");
            ListenSpec { tls: tls(side), ..spec }
        };
        let own = authority.issue(&names);
        let ids = || (0_u16..).map(GroupId);
        let group = |((name, address), group): (&(&'static str, SocketAddr), GroupId)| Group {
            known: GroupSpec { addresses: Vec::new(), identities: vec![(*name).into()] },
            targets: vec![Target {
                transport: Transport::Tls,
                address: *address,
                domain: (*name).into(),
                group,
            }],
        };
        let plan = Plan {
            listeners: vec![listener(0, Side::Ue), listener(1, Side::Core)],
            groups: domains.iter().zip(ids()).map(group).collect(),
            domains: domains.iter().map(|(name, _)| (*name).into()).collect(),
            routes: domains.iter().map(|(name, _)| (*name).into()).zip(ids()).collect(),
            aliased: ids().zip(&domains).filter(|_| aliased).map(|(id, _)| id).collect(),
            accounts: Some((Realm::new("example.net").unwrap(), Arc::new(Accounts::default()))),
            client_tls: Some(Arc::new(ClientTls::new(trust.clone(), Some(&own)).unwrap())),
            ..Plan::new()
        };
        let seen = Arc::new(Seen::default());
        let running = Some(plan.start(Arc::<Seen>::clone(&seen)).unwrap());
        Self { running, seen }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// How often something happened below the messages.
    pub(crate) fn count(&self, event: &str) -> u64 {
        let mut counts = self.running().flows.tally().each();
        counts.find(|(name, _)| *name == event).unwrap_or_else(|| panic!("no {event}")).1
    }

    /// Connections that may be used backwards.
    pub(crate) fn aliases(&self) -> usize {
        self.running().flows.aliases().len()
    }

    /// How often a request was refused for that.
    pub(crate) fn refused(&self, refusal: Refusal) -> usize {
        let outcomes = self.seen.0.lock().unwrap();
        outcomes.iter().filter(|outcome| **outcome == Outcome::Refused(refusal)).count()
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            tokio::task::yield_now().await;
        }
    }

    /// Somebody who shows `certificate` to one face. A client of TLS 1.3 may learn only later that it was refused.
    pub(crate) async fn meet(
        &self,
        listener: usize,
        trust: Trust,
        certificate: &Certificate,
    ) -> Result<Line<tokio_rustls::client::TlsStream<TcpStream>>, TlsRefusal> {
        let config = tls::client_config(trust, Some(certificate)).unwrap();
        let tcp = TcpStream::connect(self.running().edge.addresses()[listener]).await.unwrap();
        let (stream, _) = tls::connect(config, "edge.example.net", tcp).await?;
        Ok(Line(stream))
    }
}

impl Gateway {
    /// Her request, which is for a server of `domain`; she stays connected.
    pub(crate) async fn alice_asks(
        &self,
        authority: &Authority,
        domain: &str,
    ) -> Line<tokio_rustls::client::TlsStream<TcpStream>> {
        let shown = authority.issue(&[ALICE]);
        let mut alice = self.meet(0, authority.trust(), &shown).await.unwrap();
        let uri = format!("sip:bob@{domain}");
        alice.send(&request("MESSAGE", &uri, "192.0.2.10:5061", ALICE)).await;
        alice
    }
}

impl Gateway {
    /// Stops it; the end is waited for elsewhere.
    pub(crate) fn stop(mut self, patience: Duration) -> tokio::task::JoinHandle<()> {
        let running = self.running.take().unwrap();
        tokio::task::spawn_blocking(move || running.edge.stop(patience))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.edge.stop(Duration::ZERO);
        }
    }
}

/// The device of the tests' one subscriber, who is known by her certificate.
pub(crate) const ALICE: &str = "sip:alice@example.net";

/// A connection that messages go over.
pub(crate) struct Line<S>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(crate) async fn send(&mut self, message: &str) {
        let octets = message.replace('\n', "\r\n");
        self.0.write_all(format!("{octets}\r\n").as_bytes()).await.unwrap();
    }

    /// The next message, without its body; `None` if the connection ended, or was refused.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let (mut head, mut octet) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut octet).await {
                Ok(1) => head.extend(octet),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).unwrap().replace("\r\n", "\n");
        let length = lines(&head, "Content-Length: ").first().map_or(0, |it| it.parse().unwrap());
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
        Some(head)
    }

    /// The next message that is no provisional answer.
    pub(crate) async fn answer(&mut self) -> Option<String> {
        loop {
            let message = self.next().await?;
            if !message.starts_with("SIP/2.0 1") {
                return Some(message);
            }
        }
    }
}

/// What stands behind `name` in each line that begins with it.
pub(crate) fn lines<'t>(message: &'t str, name: &str) -> Vec<&'t str> {
    message.lines().filter_map(|line| line.strip_prefix(name)).collect()
}

/// A number that no other has.
pub(crate) fn number() -> usize {
    static NUMBERS: AtomicUsize = AtomicUsize::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// A request of a dialog of its own; `via` is what follows the transport in its Via.
pub(crate) fn request(method: &str, uri: &str, via: &str, from: &str) -> String {
    let call = number();
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/TLS {via};branch=z9hG4bK{call}\nMax-Forwards: 70\n\
         From: <{from}>;tag=f{call}\nTo: <{uri}>\nCall-ID: {call}\nCSeq: 1 {method}\n\
         Content-Length: 0\n"
    )
}

/// 200 to a request that was received.
pub(crate) fn ok(request: &str) -> String {
    let copied =
        |name: &&str| lines(request, name).iter().map(|it| format!("{name}{it}\n")).collect();
    let copied: Vec<String> =
        ["Via: ", "From: ", "Call-ID: ", "CSeq: "].iter().map(copied).collect();
    let to = lines(request, "To: ")[0];
    format!("SIP/2.0 200 OK\n{}To: {to};tag=t\nContent-Length: 0\n", copied.concat())
}

/// A server that the edge may dial.
pub(crate) struct Server {
    listener: TcpListener,
    tls: ServerTls,
}

impl Server {
    /// One that shows `certificate`, and asks for one of `authority`'s if it is told whose.
    pub(crate) async fn new(certificate: Certificate, asks: Option<&Authority>) -> Self {
        let mut spec = shows(certificate);
        if let Some(authority) = asks {
            (spec.asks, spec.trust) = (ClientCertificate::Required, authority.trust());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls: ServerTls::new(&spec).unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection that the edge opens.
    pub(crate) async fn accept(
        &self,
    ) -> Result<Line<tokio_rustls::server::TlsStream<TcpStream>>, TlsRefusal> {
        let (tcp, _) = self.listener.accept().await.unwrap();
        tls::accept(&self.tls, tcp).await.map(|(stream, _)| Line(stream))
    }
}

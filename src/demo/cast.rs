//! The demonstration's cast: who there is, what each of them holds, and the edge as it is planned.
//!
//! Takes:   nothing but the core's address.
//! Gives:   the bootstrapping server with its two subscribers, the edge's plan, a certificate for this run.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: TS 35.208 clause 4.3 (the subscribers' keys are its public test sets 1 and 2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Trouble;
use super::scene::shared_key;
use crate::admission::Rate;
use crate::assembly::{Group, Plan, SharedKeys};
use crate::authentication::Naf;
use crate::authentication::accounts::{Account, Accounts, Secret};
use crate::clock;
use crate::edge::GroupSpec;
use crate::enabler::{reg::Reg, sip::Sip};
use crate::identity::{Impi, Impu, Realm};
use crate::keys::bootstrap::{Bsf, BsfConfig, LocalNaf, NafGrant, UaGrant};
use crate::keys::milenage::Milenage;
use crate::keys::psk::{ProvisionedKeys, Scheme};
use crate::keys::sqn::{Sqn, SqnGenerator};
use crate::keys::subscribers::{Card, Subscriber};
use crate::keys::vector::{Algorithms, Amf};
use crate::keys::{KeyServer, UaId};
use crate::transport::peer::{ClientCertificate, Trust};
use crate::transport::tls::{self, ServerSpec, ServerTls};
use crate::transport::ws::{Rules, WsServer};
use crate::transport::{GroupId, ListenSpec, ListenerId, Side, Target, Transport};

/// The edge's name.
pub const EDGE: &str = "edge.example.net";
pub(super) const BSF: &str = "bsf.example.net";
pub(super) const DOMAIN: &str = "example.net";
/// Where the page comes from that speaks WebSocket.
pub(super) const PAGE: &str = "https://phone.example.net";
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// K and OP of TS 35.208 sets 1 and 2, which are the same; the subscribers differ by their names.
const K: [u8; 16] = hex("465b5ce8b199b49faa5f0a2ee238a6bc");
const OP: [u8; 16] = hex("cdc202d5123e20f62b6d676ac72cb318");

pub(super) fn impi(user: &str) -> String {
    format!("{user}@ims.{DOMAIN}")
}

pub(super) fn algorithms() -> Algorithms {
    Algorithms::Milenage(Milenage::with_op(&K, &OP))
}

pub(super) fn bsf() -> Result<Bsf, Trouble> {
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
        uss: Arc::from([]),
        card: Card::Gba,
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
pub(super) const MALLORY: &str = "mallory has an account of his own";

pub(super) fn plan(bsf: Arc<Bsf>, core: SocketAddr, papers: &Papers) -> Result<Plan, Trouble> {
    let realm = Realm::new(DOMAIN).ok_or(Trouble::Scene("no realm".into()))?;
    let mut accounts = Accounts::default();
    let mallory = Account {
        secret: Secret::Password(Zeroizing::new(MALLORY.into())),
        identities: [format!("sip:mallory@{DOMAIN}")].iter().filter_map(|t| Impu::new(t)).collect(),
        disabled: false,
        classes: None,
    };
    accounts.add(DOMAIN, "mallory", mallory).map_err(|why| Trouble::Scene(format!("{why:?}")))?;
    let listen = |id, side, transports: &[Transport], name: &str| ListenSpec {
        id: ListenerId(id),
        side,
        address: (LOOPBACK, 0).into(),
        transports: transports.to_vec(),
        name: name.into(),
        tls: None,
        psk: None,
        dtls: None,
        ws: None,
    };
    let dtls = shared_key::sessions(&papers.spec)?;
    let secure: &[Transport] =
        if dtls.is_some() { &[Transport::Tls, Transport::Dtls] } else { &[Transport::Tls] };
    let tls = Some(Arc::new(ServerTls::new(&papers.spec).map_err(io::Error::other)?));
    let wss = Some(Arc::new(ServerTls::of_websocket(&papers.spec).map_err(io::Error::other)?));
    let rules = Rules { origins: vec![PAGE.into()], path: "/".into() };
    let ws = Some(Arc::new(WsServer::new(rules)));
    let key_source: Arc<dyn KeyServer> = Arc::new(LocalNaf::new(bsf, EDGE));
    // Who plays all scenes at once sends more than a phone.
    let (mut reg, mut sip) = (Reg::default(), Sip::default());
    (reg.demands.rate, sip.demands.rate) = (Rate::per_minute(600), Rate::per_minute(600));
    Ok(Plan {
        reg,
        sip,
        listeners: vec![
            listen(0, Side::Ue, &[Transport::Udp, Transport::Tcp], EDGE),
            ListenSpec {
                tls,
                psk: shared_key::handshakes()?,
                dtls,
                ..listen(1, Side::Ue, secure, EDGE)
            },
            listen(2, Side::Core, &[Transport::Udp], "127.0.0.1"),
            ListenSpec { tls: wss, ws: ws.clone(), ..listen(3, Side::Ue, &[Transport::Wss], EDGE) },
            ListenSpec { ws, ..listen(4, Side::Ue, &[Transport::Ws], EDGE) },
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

/// A certificate for the edge that nobody but this run trusts.
pub(super) struct Papers {
    /// What the edge shows.
    pub(super) spec: Arc<ServerSpec>,
    /// Whom UEs trust.
    pub(super) trust: Trust,
    /// The same for TLS.
    pub(super) client: Arc<rustls::ClientConfig>,
    /// The certificate as PEM.
    pub(super) pem: String,
}

impl Papers {
    pub(super) fn new() -> Result<Self, Trouble> {
        let scene = |why: String| Trouble::Scene(format!("certificate: {why}"));
        let made = rcgen::generate_simple_self_signed([EDGE.to_owned()]);
        let made = made.map_err(|why| scene(why.to_string()))?;
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificate = tls::Certificate::from_pem(pem.as_bytes(), key.as_bytes());
        let spec = Arc::new(ServerSpec {
            certificates: vec![certificate.map_err(|why| scene(why.to_string()))?],
            asks: ClientCertificate::None,
            trust: Trust::nobody(),
        });
        let trust = tls::trust(pem.as_bytes(), b"").map_err(|why| scene(why.to_string()))?;
        let client = tls::client_config(trust.clone(), None);
        let client = client.map_err(|why| scene(why.to_string()))?;
        Ok(Self { spec, trust, client, pem })
    }
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

//! The demonstration's cast: who there is, what each of them holds, and the edge as it is planned.
//!
//! Takes:   the addresses of the servers behind it, and its certificates.
//! Gives:   the bootstrapping server with its three subscribers, and the edge's plan.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: TS 35.208 clause 4.3 (the subscribers' keys are its public test set 1).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Trouble;
use super::papers::Papers;
use super::scene::shared_key;
use crate::admission::Rate;
use crate::assembly::{Group, Plan, SharedKeys};
use crate::authentication::Naf;
use crate::authentication::accounts::{Account, Accounts, Secret};
use crate::clock;
use crate::edge::GroupSpec;
use crate::enabler::{push::Push, reg::Reg, sip::Sip};
use crate::identity::{Impi, Impu, Realm};
use crate::keys::bootstrap::{Bsf, BsfConfig, LocalNaf, NafGrant, UaGrant};
use crate::keys::milenage::Milenage;
use crate::keys::psk::{ProvisionedKeys, Scheme};
use crate::keys::sqn::{Sqn, SqnGenerator};
use crate::keys::subscribers::{Card, Subscriber};
use crate::keys::vector::{Algorithms, Amf};
use crate::keys::{KeyServer, UaId};
use crate::transport::tls::ServerTls;
use crate::transport::ws::{Rules, WsServer};
use crate::transport::{GroupId, ListenSpec, ListenerId, Side, Target, Transport};

/// The edge's name.
pub const EDGE: &str = "edge.example.net";
pub(super) const BSF: &str = "bsf.example.net";
pub(super) const DOMAIN: &str = "example.net";
/// Where the location service is.
pub(super) const LOCATION: &str = "location.example.net";
/// Whose whereabouts it tells.
pub const VAN: &str = "sip:van7@location.example.net";
/// A server that may push, for [`APPLICATION`].
pub(super) const PUSH: &str = "push.example.net";
/// A partner that may not.
pub(super) const ADS: &str = "ads.example.net";
/// The application that is pushed for: notices of multimedia messages.
pub(super) const APPLICATION: &str = "mms.ua";
/// Where the page comes from that speaks WebSocket.
pub(super) const PAGE: &str = "https://phone.example.net";
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// K and OP of TS 35.208 set 1; the subscribers differ by their names.
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
        algorithms: Some(algorithms()),
        digest: None,
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
            UaGrant::Exact(UaId::LOCSIP),
            UaGrant::Exact(UaId::SHARED_KEY_TLS13),
            UaGrant::TlsSuites,
        ],
        sees_impi: true,
        sees_identities: true,
    };
    let numbers = [("alice", "+12015550101"), ("bob", "+12015550102"), ("carol", "+12015550103")];
    let subscribers = numbers.iter().map(|(user, number)| subscriber(user, number)).collect();
    Bsf::new(BsfConfig::new(BSF), subscribers, vec![grant], clock::random())
        .map_err(|why| Trouble::Scene(format!("{why:?}")))
}

/// The rogue's own account: he is a subscriber like any other.
pub(super) const MALLORY: &str = "mallory has an account of his own";

/// The places of listeners in the plan.
pub(super) mod place {
    pub(in crate::demo) const CLEAR: usize = 0;
    pub(in crate::demo) const SECURE: usize = 1;
    pub(in crate::demo) const CORE: usize = 2;
    pub(in crate::demo) const WSS: usize = 3;
    pub(in crate::demo) const WS: usize = 4;
    pub(in crate::demo) const BRIDGE: usize = 5;
    pub(in crate::demo) const SERVERS: usize = 6;
}

/// Peer groups, in order.
const CORE_GROUP: GroupId = GroupId(0);
const LOCATION_GROUP: GroupId = GroupId(1);
const PUSH_GROUP: GroupId = GroupId(2);

pub(super) fn plan(
    bsf: Arc<Bsf>,
    core: SocketAddr,
    location: SocketAddr,
    papers: &Papers,
) -> Result<Plan, Trouble> {
    let realm = Realm::new(DOMAIN).ok_or(Trouble::Scene("no realm".into()))?;
    let mut accounts = Accounts::default();
    let mallory = Account {
        secret: Secret::Password(Zeroizing::new(MALLORY.into())),
        identities: [format!("sip:mallory@{DOMAIN}")].iter().filter_map(|t| Impu::new(t)).collect(),
        disabled: false,
        classes: None,
    };
    accounts.add(DOMAIN, "mallory", mallory).map_err(|why| Trouble::Scene(format!("{why:?}")))?;
    let id = |place: usize| ListenerId(u16::try_from(place).unwrap_or_default());
    let listen = |place, side, transports: &[Transport], name: &str| {
        ListenSpec::plain(id(place), side, (LOOPBACK, 0).into(), transports, name)
    };
    let dtls = shared_key::sessions(&papers.spec)?;
    let secure: &[Transport] =
        if dtls.is_some() { &[Transport::Tls, Transport::Dtls] } else { &[Transport::Tls] };
    let tls = Some(Arc::new(ServerTls::new(&papers.spec).map_err(io::Error::other)?));
    let wss = Some(Arc::new(ServerTls::of_websocket(&papers.spec).map_err(io::Error::other)?));
    let rules = Rules { origins: vec![PAGE.into()], path: "/".into() };
    let ws = Some(Arc::new(WsServer::new(rules)));
    let key_source: Arc<dyn KeyServer> = Arc::new(LocalNaf::new(bsf, EDGE));
    // Who plays all scenes at once sends more than a phone, and calls more often.
    let (mut reg, mut sip) = (Reg::default(), Sip::default());
    (reg.demands.rate, sip.demands.rate) = (Rate::per_minute(600), Rate::per_minute(600));
    sip.demands.dialogs = Some(Rate::per_second(100));
    let push = Push { servers: vec![(APPLICATION.into(), vec![PUSH_GROUP])], ..Push::default() };
    let by_certificate =
        |name: &str| GroupSpec { addresses: Vec::new(), identities: vec![name.to_owned()] };
    let at = |transport, address, domain: &str, group| Target {
        transport,
        address,
        domain: domain.into(),
        group,
    };
    let servers = Some(papers.server(EDGE)?);
    Ok(Plan {
        reg,
        sip,
        push,
        listeners: vec![
            listen(place::CLEAR, Side::Ue, &[Transport::Udp, Transport::Tcp], EDGE),
            ListenSpec {
                tls,
                psk: shared_key::handshakes()?,
                dtls,
                ..listen(place::SECURE, Side::Ue, secure, EDGE)
            },
            listen(place::CORE, Side::Core, &[Transport::Udp], "127.0.0.1"),
            ListenSpec {
                tls: wss,
                ws: ws.clone(),
                ..listen(place::WSS, Side::Ue, &[Transport::Wss], EDGE)
            },
            ListenSpec { ws, ..listen(place::WS, Side::Ue, &[Transport::Ws], EDGE) },
            listen(place::BRIDGE, Side::Ue, &[Transport::Udp], EDGE),
            ListenSpec {
                tls: servers,
                ..listen(place::SERVERS, Side::Core, &[Transport::Tls], EDGE)
            },
        ],
        b2bua: HashSet::from([id(place::BRIDGE)]),
        groups: vec![
            Group {
                known: GroupSpec { addresses: vec![core.ip()], identities: Vec::new() },
                targets: vec![at(Transport::Udp, core, DOMAIN, CORE_GROUP)],
            },
            Group {
                known: by_certificate(LOCATION),
                targets: vec![at(Transport::Tls, location, LOCATION, LOCATION_GROUP)],
            },
            Group { known: by_certificate(PUSH), targets: Vec::new() },
            Group { known: by_certificate(ADS), targets: Vec::new() },
        ],
        locsip_groups: vec![LOCATION_GROUP],
        client_tls: Some(papers.dialling()?),
        workers: NonZeroUsize::MIN,
        domains: vec![DOMAIN.into()],
        routes: vec![(DOMAIN.into(), CORE_GROUP), (LOCATION.into(), LOCATION_GROUP)],
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

//! The gate inside somebody's SIP server: octets and the facts of their arrival in, a verdict out. No sockets, no
//! runtime; `cargo run --example middleware`.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use sipward::admission::{self, Admission};
use sipward::association::{self, Associations};
use sipward::authentication::accounts::{Account, Secret};
use sipward::authentication::digest::Hash;
use sipward::authentication::{self, Accounts, Authentication, Nonces, Offer, nonce};
use sipward::enabler::{ClassSet, Enablers, Policies};
use sipward::gate::{Gate, Stop};
use sipward::identity::{Impu, Realm};
use sipward::instant::{Instant, Now, WallTime};
use sipward::keys::{KeySource, naf};
use sipward::transport::{Arrival, Flow, ListenerId, Pending, Side, Transport};
use sipward::wire::Message;
use zeroize::Zeroizing;

fn main() -> io::Result<()> {
    let now = Now { mono: Instant::START, wall: WallTime::from_unix(1_790_000_000) };
    let gate = gate(now);
    let octets = Bytes::from_static(
        b"MESSAGE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport\r\n\
          Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=1\r\nTo: <sip:bob@example.net>\r\n\
          Call-ID: 1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
    );
    let message = Message::from_datagram(octets).map_err(|_| io::Error::other("no SIP"))?;
    let remote = "192.0.2.10:5060".parse().map_err(io::Error::other)?;
    let local = "198.51.100.1:5060".parse().map_err(io::Error::other)?;
    let flow =
        Flow { transport: Transport::Tcp, listener: ListenerId(0), remote, connection: None };
    let pending = Pending::None;
    let arrival = Arrival { flow, side: Side::Ue, local, channel: None, group: None, pending };
    let mut out = io::stdout().lock();
    match gate.inspect(&message, &arrival, now) {
        Ok(permitted) => writeln!(out, "goes on as {:?}", permitted.bound().caller()),
        Err(Stop::Answer(refusal, octets)) => {
            writeln!(out, "{}:\n{}", refusal.name(), String::from_utf8_lossy(&octets))
        }
        Err(Stop::Drop(refusal)) => writeln!(out, "dropped: {}", refusal.name()),
        Err(Stop::Wait(_, lookup)) => writeln!(out, "waits for {lookup:?}"),
    }
}

/// A gate for one realm with one account. Its secrets are constants here; draw yours.
fn gate(now: Now) -> Gate {
    let mut accounts = Accounts::default();
    let alice = Account {
        secret: Secret::Password(Zeroizing::new("wonderland".into())),
        identities: Impu::new("sip:alice@example.net").into_iter().collect(),
        disabled: false,
        classes: None,
    };
    accounts.add("example.net", "alice", alice).unwrap_or_else(|why| panic!("{why:?}"));
    let keys: Arc<dyn KeySource> = Arc::new(naf::NafCache::new(naf::CacheBounds::default(), []));
    let settings = authentication::Settings {
        offer: Offer {
            realms: vec!["example.net".into()],
            of_passwords: None,
            algorithms: vec![Hash::Sha256],
            of_listener: HashMap::new(),
            register_with_401: false,
            user_agents: HashSet::new(),
            bridged: ClassSet::default(),
        },
        account_realm: Realm::new("example.net"),
        naf: None,
        aka: None,
        agreements: HashMap::new(),
        served: HashSet::from(["example.net".into()]),
        uri_strict: false,
        algorithm_lock: true,
        secure_flow_anchor: true,
        max_flows: 10_000,
        principals_max: 4,
    };
    let nonces = Nonces::new(nonce::Settings::default(), &[1; 32], 1, now);
    Gate {
        admission: Admission::new(admission::Settings::default()),
        authentication: Authentication::new(settings, Arc::new(accounts), keys, nonces, [2; 32]),
        associations: Arc::new(Associations::new(association::Settings::default(), [3; 16], 1)),
        enablers: Enablers::new(Policies::default(), 10_000),
        tag_key: [4; 16],
    }
}

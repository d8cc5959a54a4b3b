//! For tests: one edge between UEs and a core, every stage in force, time in the test's hand.
//!
//! Takes:   octets from a [`Peer`].
//! Gives:   [`Sent`]: what the edge sent, parsed; and every [`Decision`].
//! Keeps:   the edge and its clock.
//! Refuses: nothing.
//! Sources: none.
//!
//! edge.example.net listens for UEs on 198.51.100.1 (UDP and TCP 5060, TLS and DTLS 5061) and for the core on
//! 198.51.100.2:5060; the core is one group at 203.0.113.10:5060, known by its address. UE keys are those of
//! bsf.example.net; `ue1` is alice, `ue2` is bob.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{LOCATION, Peer, SLP, Signer};
use crate::admission::{self, Admission};
use crate::association::{self, Associations};
use crate::authentication::sec_agree::{Agreement, Mode};
use crate::authentication::{
    self, Accounts, Authentication, Naf, Nonces, Offer, digest::Hash, nonce,
};
use crate::enabler::numbers::Numbers;
use crate::enabler::own::{Line, Own};
use crate::enabler::{Class, ClassSet, Enablers};
use crate::enabler::{cpm::Cpm, locsip::Locsip, push::Push, reg::Reg, sip::Sip};
use crate::forward::proxy::Hold;
use crate::forward::{
    self, Bindings, Connections, Destination, Listener, Proxy, Pushes, Resolved, Shared, Tokens,
    asserted, timers::Timings,
};
use crate::gate::{Gate, Lookup};
use crate::identity::{Btid, Impi, Impu, Realm};
use crate::instant::{Instant, Now, WallTime};
use crate::journey::{Account, Action, Decision, Journey, Outcome};
use crate::keys::{KeyAnswer, KeySource, KsNaf, NafId, NafKey, UaId};
use crate::state::Store;
use crate::transport::{Flow, GroupId, ListenerId, Side, Target, Transport};
use crate::wire::Message;

/// Keys that the laboratory's NAF has, or has to ask for.
#[derive(Debug, Default)]
pub struct LabKeys {
    known: Mutex<HashMap<(Btid, NafId), KeyAnswer>>,
    /// What is answered for a key that is not known.
    unknown: Mutex<Option<KeyAnswer>>,
}

impl LabKeys {
    /// Puts an answer in.
    pub fn put(&self, btid: Btid, naf: NafId, answer: KeyAnswer) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert((btid, naf), answer);
    }

    /// What is answered for keys that were not put in; `Unknown` if never set.
    pub fn otherwise(&self, answer: KeyAnswer) {
        *self.unknown.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

impl KeySource for LabKeys {
    fn naf_key(&self, btid: &Btid, naf: &NafId, _now: Now) -> KeyAnswer {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = known.get(&(btid.clone(), naf.clone())).cloned();
        answer.or_else(|| unknown.clone()).unwrap_or(KeyAnswer::Unknown)
    }
}

/// What a test may change before the edge is built.
#[derive(Debug)]
pub struct LabSettings {
    /// Stage 3.
    pub admission: admission::Settings,
    /// Stage 4, nonces.
    pub nonces: nonce::Settings,
    /// Stage 4, plain accounts of realm `example.net`.
    pub accounts: Accounts,
    /// Stage 4.
    pub authentication: authentication::Settings,
    /// Stage 5.
    pub association: association::Settings,
    /// Stage 6, registration.
    pub reg: Reg,
    /// Stage 6, plain SIP.
    pub sip: Sip,
    /// Stage 6, messaging.
    pub cpm: Cpm,
    /// Stage 6, location.
    pub locsip: Locsip,
    /// Stage 6, push.
    pub push: Push,
    /// Stage 6, classes of the operator's own.
    pub own: Vec<(Vec<Line>, Own)>,
    /// Whether stage 6 only tells of what it would refuse.
    pub observe: bool,
    /// What callers may dial.
    pub numbers: Numbers,
    /// Stage 7.
    pub forward: forward::Settings,
    /// What pushes are wrapped with.
    pub pushes: Option<Pushes>,
    /// Addresses of the core's servers, in order.
    pub core: Vec<&'static str>,
    /// Where counts of nonces are spent, if nodes share them.
    pub counts: Option<Arc<dyn Store>>,
}

/// FQDN of the laboratory's NAF and edge.
pub const EDGE: &str = "edge.example.net";
/// Its realm for bootstrapped keys.
pub const GBA_REALM: &str = "3GPP-bootstrapping@edge.example.net";
/// The B-TID of `ue1`.
pub const UE1_BTID: &str = "I1U8vpY3qJ0hiuZNrke/NQ==@bsf.example.net";
/// The digest password of `ue1`: base64 of its Ks_NAF.
pub const UE1_PASSWORD: &str = "VQasbdqJHgDh9gYmzPYQw9oPwUKXr5WJMjSP7gcILMc=";
/// The B-TID of `ue2`.
pub const UE2_BTID: &str = "wAB9ooJB8+dPyHpn1r2nHg==@bsf.example.net";
/// The digest password of `ue2`.
pub const UE2_PASSWORD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

impl Default for LabSettings {
    fn default() -> Self {
        let listener = |id, side, address: &str, transports: &[Transport]| Listener {
            id: ListenerId(id),
            side,
            name: EDGE.into(),
            address: address.parse().expect("an address"),
            transports: transports.to_vec(),
            force_rport: true,
            sec_agree: false,
            b2bua: false,
            outbound_required: false,
        };
        Self {
            admission: admission::Settings::default(),
            nonces: nonce::Settings::default(),
            accounts: Accounts::default(),
            authentication: authentication::Settings {
                offer: Offer {
                    realms: vec![GBA_REALM.into(), "example.net".into()],
                    of_passwords: None,
                    algorithms: vec![Hash::Sha256, Hash::Md5],
                    of_listener: HashMap::new(),
                    register_with_401: false,
                    user_agents: HashSet::new(),
                    bridged: ClassSet::default(),
                },
                account_realm: Realm::new("example.net"),
                naf: Some(Naf::new(EDGE, UaId::SIP_DIGEST, [Arc::from("bsf.example.net")])),
                aka: None,
                served: ["example.net".into(), EDGE.into()].into(),
                agreements: HashMap::new(),
                uri_strict: false,
                algorithm_lock: true,
                secure_flow_anchor: true,
                max_flows: 10_000,
                principals_max: 4,
            },
            association: association::Settings::default(),
            reg: Reg::default(),
            sip: Sip::default(),
            cpm: Cpm::default(),
            locsip: Locsip::default(),
            push: Push { servers: vec![("ulp.ua".into(), vec![SLP])], ..Push::default() },
            own: Vec::new(),
            observe: false,
            numbers: Numbers::default(),
            forward: forward::Settings {
                listeners: vec![
                    listener(0, Side::Ue, "198.51.100.1:5060", &[Transport::Udp, Transport::Tcp]),
                    listener(1, Side::Ue, "198.51.100.1:5061", &[Transport::Tls, Transport::Dtls]),
                    listener(2, Side::Core, "198.51.100.2:5060", &[Transport::Udp, Transport::Tcp]),
                    listener(3, Side::Ue, "198.51.100.1:443", &[Transport::Wss]),
                ],
                routes: vec![("example.net".into(), GroupId(0))],
                default_route: Some(GroupId(0)),
                domains: ["example.net".into()].into(),
                rfc2543: HashSet::new(),
                aliased: HashSet::new(),
                timings: Timings::default(),
                path_strict: false,
                headers: asserted::Settings::default(),
                route_check: true,
                challenge_filter: forward::reflected::Filter::default(),
                transactions_max: 10_000,
                transactions_of_flow_max: 500,
                mirror_tls_param: true,
                keep_call_id: false,
                bridged: ClassSet::default(),
                hides: false,
            },
            pushes: None,
            core: vec!["203.0.113.10:5060"],
            counts: None,
        }
    }
}

/// A message that the edge sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where.
    pub to: SocketAddr,
    /// What.
    pub message: Message,
}

impl Sent {
    /// Its octets as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.message.octets()).into_owned()
    }
}

#[derive(Debug, Default)]
struct ClosedOnes(Mutex<HashSet<Flow>>);

impl Connections for ClosedOnes {
    fn is_open(&self, flow: &Flow) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(flow)
    }
}

struct Core(Vec<&'static str>);

impl Resolved for Core {
    fn targets(&self, group: GroupId) -> Arc<Vec<Target>> {
        let target = |address: &&str| {
            let address = address.parse().expect("an address");
            let transport = if group == GroupId(0) { Transport::Udp } else { Transport::Tls };
            Target { transport, address, domain: "core.example.net".into(), group }
        };
        let addresses = match group {
            LOCATION => vec!["203.0.113.30:5061"],
            SLP => vec!["203.0.113.40:5061"],
            _ => self.0.clone(),
        };
        Arc::new(addresses.iter().map(target).collect())
    }
}

/// An edge, its clock, and what it did.
#[derive(Debug)]
pub struct Lab {
    /// What all its stages share.
    pub shared: Arc<Shared>,
    /// Keys of its NAF.
    pub keys: Arc<LabKeys>,
    /// The time.
    pub now: Now,
    /// Everything it decided, in order.
    pub decisions: Vec<Decision>,
    /// What it asked for, in order.
    pub asked: Vec<Lookup>,
    /// Flows it wanted closed.
    pub closed: Vec<Flow>,
    /// Connections it holds to their pings, or no longer, in order.
    pub holds: Vec<Hold>,
    gone: Arc<ClosedOnes>,
    journey: Journey,
    counts: Option<Arc<dyn Store>>,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new(LabSettings::default())
    }
}

impl LabSettings {
    /// With every listener for UEs back to back with the core, in place of a proxy.
    pub fn bridging(mut self) -> Self {
        for listener in self.forward.listeners.iter_mut().filter(|one| one.side == Side::Ue) {
            listener.b2bua = true;
            self.authentication.offer.user_agents.insert(listener.id);
        }
        self
    }

    /// With those classes back to back with the core on every listener.
    pub fn bridging_classes(mut self, classes: ClassSet) -> Self {
        (self.forward.bridged, self.authentication.offer.bridged) = (classes, classes);
        self
    }

    /// With security agreements on every listener for UEs.
    pub fn agreeing(mut self, mode: Mode) -> Self {
        let (tls, digest) = (true, self.authentication.offer.algorithms.contains(&Hash::Md5));
        let agreement = Agreement::new(mode, tls, digest);
        for listener in self.forward.listeners.iter_mut().filter(|one| one.side == Side::Ue) {
            listener.sec_agree = agreement.is_some();
            let of_listener = agreement.clone().map(|agreement| (listener.id, agreement));
            self.authentication.agreements.extend(of_listener);
        }
        self
    }
}

impl Lab {
    /// An edge with these settings. Its secrets and its numbers are the same each time.
    pub fn new(settings: LabSettings) -> Self {
        let keys = Arc::new(LabKeys::default());
        let source: Arc<dyn KeySource> = Arc::<LabKeys>::clone(&keys);
        Self::build(settings, keys, source, start())
    }

    /// Ends the edge and begins another one with these settings and the same secrets: all connections are gone, and
    /// what was decided is forgotten.
    pub fn restart(&mut self, settings: LabSettings) {
        let keys = Arc::new(LabKeys::default());
        let source: Arc<dyn KeySource> = Arc::<LabKeys>::clone(&keys);
        *self = Self::build(settings, keys, source, self.now);
    }

    /// As [`Lab::restart`], with keys from `source`.
    pub fn restart_with_source(&mut self, settings: LabSettings, source: Arc<dyn KeySource>) {
        *self = Self::build(settings, Arc::new(LabKeys::default()), source, self.now);
    }

    /// An edge whose keys come from `source`, in place of the laboratory's own: for benches of the real one.
    pub fn with_source(settings: LabSettings, source: Arc<dyn KeySource>) -> Self {
        Self::build(settings, Arc::new(LabKeys::default()), source, start())
    }

    fn build(
        settings: LabSettings,
        keys: Arc<LabKeys>,
        source: Arc<dyn KeySource>,
        now: Now,
    ) -> Self {
        for (btid, password, impi, identities) in [
            (
                UE1_BTID,
                UE1_PASSWORD,
                "ue1@ims.example.net",
                ["sip:alice@example.net", "tel:+12015550101"],
            ),
            (
                UE2_BTID,
                UE2_PASSWORD,
                "ue2@ims.example.net",
                ["sip:bob@example.net", "tel:+12015550102"],
            ),
        ] {
            let key = lab_key(password, impi, &identities, now + Duration::from_secs(3600));
            let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
            keys.put(Btid::new(btid).expect("a B-TID"), naf, KeyAnswer::Known(Arc::new(key)));
        }
        keys.put_location(now);
        let policies = settings.policies();
        // Numbers of a later process are others, and so is its chance.
        let (first, later) = (now.mono.as_micros(), now.mono.since(start().mono));
        let later = u64::try_from(later.as_micros()).unwrap_or(u64::MAX);
        let nonces = Nonces::new(settings.nonces, &[1; 32], 1, now + Duration::ZERO);
        let counts = settings.counts;
        let nonces = if counts.is_some() { nonces.shared_under(&[8; 32]) } else { nonces };
        let gate = Gate {
            admission: Admission::new(settings.admission),
            authentication: Authentication::new(
                settings.authentication,
                Arc::new(settings.accounts),
                source,
                nonces,
                [2; 32],
            ),
            associations: Arc::new(Associations::new(settings.association, [3; 16], first)),
            enablers: Enablers::new(policies, 10_000),
            tag_key: [4; 16],
        };
        let gone = Arc::new(ClosedOnes::default());
        let shared = Shared::new(
            Arc::new(gate),
            Bindings::new(10_000, later.saturating_add(1)),
            Tokens::new([5; 32]),
            Arc::new(Core(settings.core)),
            Arc::<ClosedOnes>::clone(&gone) as Arc<dyn Connections>,
            settings.forward,
        );
        let shared = Arc::new(shared.with_pushes(settings.pushes));
        let mut seed = [6; 32];
        seed.iter_mut().zip(later.to_be_bytes()).for_each(|(octet, other)| *octet ^= other);
        let proxy = Proxy::new(Arc::clone(&shared), 0, seed, [7; 16]);
        let journey = Journey::new(Arc::clone(&shared), proxy);
        let (decisions, asked, closed) = (Vec::new(), Vec::new(), Vec::new());
        let holds = Vec::new();
        Self { shared, keys, now, decisions, asked, closed, holds, gone, journey, counts }
    }

    /// Another worker of the same edge, to be run beside this one.
    pub fn beside(&self, worker: u8) -> Self {
        let (shared, keys, gone) =
            (Arc::clone(&self.shared), Arc::clone(&self.keys), Arc::clone(&self.gone));
        let proxy = Proxy::new(Arc::clone(&shared), worker, [6; 32], [7; 16]);
        let journey = Journey::new(Arc::clone(&shared), proxy);
        let (decisions, asked, closed) = (Vec::new(), Vec::new(), Vec::new());
        let (holds, counts, now) = (Vec::new(), self.counts.clone(), self.now);
        Self { shared, keys, now, decisions, asked, closed, holds, gone, journey, counts }
    }

    /// Lets the edge receive octets, and gives what it sent for them. Lines may end in LF alone: they are made
    /// CRLF, and a `Content-Length: @` is counted.
    pub fn receive(&mut self, from: &Peer, text: &str) -> Vec<Sent> {
        self.receive_octets(from, octets_of(text))
    }

    /// As [`Lab::receive`], octets as they are.
    pub fn receive_octets(&mut self, from: &Peer, octets: impl Into<Bytes>) -> Vec<Sent> {
        self.journey.datagram(octets.into(), from.arrival(), self.now);
        self.drain()
    }

    /// What would become of octets from a peer if they came now.
    pub fn explain(&self, from: &Peer, octets: impl Into<Bytes>) -> Account {
        self.journey.explain(octets.into(), &from.arrival(), self.now)
    }

    /// Everything that is held, as text: what an account must not change.
    pub fn all_held(&self) -> String {
        let Shared { gate, bindings, .. } = &*self.shared;
        let parts = [
            format!("{:?}", gate.admission),
            format!("{:?}", gate.associations),
            format!("{bindings:?}"),
            format!("{:?}", self.journey.proxy()),
            format!("{:?}", self.shared.resting),
            self.shared.ongoing.len().to_string(),
            gate.footprint().to_string(),
            gate.authentication.footprint().to_string(),
            gate.enablers.footprint().to_string(),
        ];
        parts.join("\n")
    }

    /// Lets time pass in steps of its timers, and gives what the edge sent meanwhile.
    pub fn advance(&mut self, length: Duration) -> Vec<Sent> {
        let end = self.now + length;
        let mut sent = Vec::new();
        while let Some(at) = self.journey.poll_timeout().filter(|at| *at <= end.mono) {
            let step = at.since(self.now.mono);
            self.now = self.now + step.max(Duration::from_millis(1));
            self.journey.expire(self.now);
            sent.extend(self.drain());
        }
        if self.now.mono < end.mono {
            self.now = end;
        }
        self.journey.expire(self.now);
        sent.extend(self.drain());
        sent
    }

    /// A lookup was answered.
    pub fn answered(&mut self, lookup: &Lookup) -> Vec<Sent> {
        self.journey.answered(lookup, self.now);
        self.drain()
    }

    /// The peer's connection was closed.
    pub fn close(&mut self, peer: &Peer) {
        self.gone.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.flow());
        self.journey.closed(&peer.flow(), self.now);
        self.drain();
    }

    /// The journey itself, for benches: what it wants done is not drained for them.
    pub fn journey(&mut self) -> &mut Journey {
        &mut self.journey
    }

    /// The latest decision.
    pub fn last(&self) -> Outcome {
        self.decisions.last().expect("something was decided").outcome
    }

    /// Transactions held.
    pub fn transactions(&self) -> usize {
        self.journey.proxy().footprint()
    }

    /// A signer with the key of `ue1` and a fresh nonce.
    pub fn ue1(&self) -> Signer {
        self.signer(UE1_BTID, UE1_PASSWORD)
    }

    /// A signer with the key of `ue2` and a fresh nonce.
    pub fn ue2(&self) -> Signer {
        self.signer(UE2_BTID, UE2_PASSWORD)
    }

    /// A signer of the bootstrapping realm, with a nonce of now.
    pub fn signer(&self, username: &str, password: &str) -> Signer {
        let mut signer = Signer::new(username, password, GBA_REALM);
        let request = b"OPTIONS sip:example.net SIP/2.0\r\nCall-ID: x\r\n\r\n";
        let request = Message::from_datagram(Bytes::from_static(request)).expect("a message");
        let arrival = Peer::udp("192.0.2.1:5060").arrival();
        let authentication = &self.shared.gate.authentication;
        let challenge = authentication.challenge(&request, &arrival, Class::Sip, false, self.now);
        let row = challenge.rows.first().expect("a row");
        let nonce = row.value.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
        signer.nonce = nonce.expect("a nonce").into();
        signer
    }

    /// A store, where there is one, answers at once.
    fn ask_counts(&mut self, lookup: &Lookup) {
        let (Lookup::NonceCount(asked), Some(store)) = (lookup, &self.counts) else { return };
        let life = asked.until.since(self.now.wall);
        let first = store.spend(asked.count, life, self.now.wall).ok();
        self.shared.gate.authentication.nonces().put(*asked, first, self.now);
        self.journey.answered(lookup, self.now);
    }

    fn drain(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(action) = self.journey.poll_action() {
            match action {
                Action::Send(output) => {
                    let to = match output.to {
                        Destination::Flow(flow) => flow.remote,
                        Destination::Target(target) => target.address,
                    };
                    let message = Message::from_datagram(output.octets).expect("we send messages");
                    sent.push(Sent { to, message });
                }
                Action::Ask(lookup) => {
                    self.ask_counts(&lookup);
                    self.asked.push(lookup);
                }
                Action::Close(flow) => self.closed.push(flow),
                Action::Hold(watch) => self.holds.push(watch),
                Action::Decided(decision) => self.decisions.push(decision),
            }
        }
        sent
    }
}

/// When an edge of the laboratory begins.
fn start() -> Now {
    let start = Duration::from_secs(1000);
    Now { mono: Instant::START, wall: WallTime::from_unix(1_790_000_000) } + start
}

/// A NAF key from its digest password, made an hour before it ends.
pub fn lab_key(password: &str, impi: &str, identities: &[&str], expires: Now) -> NafKey {
    let octets = STANDARD.decode(password).expect("base64");
    NafKey {
        key: KsNaf::new(octets.try_into().expect("32 octets")),
        impi: Impi::new(impi),
        identities: identities.iter().filter_map(|text| Impu::new(text)).collect(),
        expires: expires.wall,
        uss: Arc::from([]),
        created: WallTime::from_unix(expires.wall.as_unix().saturating_sub(3600)),
        kind: Default::default(),
        ready: Default::default(),
    }
}

/// The octets of a digest password that is base64.
pub fn decode(password: &str) -> Vec<u8> {
    STANDARD.decode(password).expect("base64")
}

/// The octets that `text` stands for: CRLF line ends in the head, `Content-Length: @` counted.
pub fn octets_of(text: &str) -> Bytes {
    let text = text.trim_start();
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let head = head.replace("\r\n", "\n").replace('\n', "\r\n");
    let head = head.replace("Content-Length: @", &format!("Content-Length: {}", body.len()));
    format!("{head}\r\n\r\n{body}").into()
}

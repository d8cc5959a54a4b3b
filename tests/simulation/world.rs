//! The world: an edge, a core, two phones, links that lose and reorder, a bootstrapping server that goes away, and
//! Mallory. Time is virtual; everything that happens follows from one number.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sipward::identity::Btid;
use sipward::instant::{Instant, Now};
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, KeySource, NafId, NafKey, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, GBA_REALM};
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::chance::Chance;
use crate::core::{self, Core};
use crate::phone::{Phone, bootstrap};
use crate::rogue::{self, Rogue};
use crate::sheet::Sheet;
use crate::story::{ALICE, BOB, Story};

const ADDRESSES: [&str; 2] = ["192.0.2.10:5060", "192.0.2.20:5060"];
/// More than any story takes; one that does not end is a fault.
const STEPS_MAX: u32 = 100_000;

/// The keys that a bootstrapping server gave out, as long as it can be asked.
#[derive(Default)]
struct Keys {
    known: HashMap<Btid, Arc<NafKey>>,
    away: AtomicBool,
}

impl KeySource for Keys {
    fn naf_key(&self, btid: &Btid, naf: &NafId, _now: Now) -> KeyAnswer {
        let own = *naf == NafId::new(EDGE, UaId::SIP_DIGEST);
        match self.known.get(btid).filter(|_| own) {
            _ if self.away.load(Ordering::Relaxed) => KeyAnswer::Unavailable,
            Some(key) => KeyAnswer::Known(Arc::clone(key)),
            None => KeyAnswer::Unknown,
        }
    }
}

/// Somewhere a packet comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Phone(usize),
    Core,
    Mallory,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    order: u64,
    /// Whether the edge gets it; else the place does.
    to_edge: bool,
    place: Place,
    octets: Bytes,
}

/// What one run came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) acts: u32,
    pub(crate) forged: u32,
    pub(crate) lost: u32,
    pub(crate) outages: u32,
    pub(crate) most_associations: usize,
}

pub(crate) struct World {
    chance: Chance,
    lab: Lab,
    keys: Arc<Keys>,
    core: Core,
    phones: [Phone; 2],
    rogue: Rogue,
    story: Story,
    under_way: BinaryHeap<Reverse<Packet>>,
    order: u64,
    /// When the last packet of a connection arrives: those behind it do not overtake it.
    latest: HashMap<(bool, Place), Instant>,
    /// Packets of a hundred that a link loses, and copies.
    loss: u64,
    /// How many of a hundred moments are Mallory's.
    malice: u64,
    back: Option<Instant>,
    pub(crate) tally: Tally,
    ladder: Option<Vec<String>>,
}

/// What happened, where somebody asked to see it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ladder.iter().flatten().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let now = Lab::default().now;
        let mut keys = Keys::default();
        let peers = [ADDRESSES[ALICE], ADDRESSES[BOB]].map(|address| match chance.below(3) {
            0 => Peer::tls(address, u32::from(address == ADDRESSES[BOB])),
            1 => Peer::tcp(address, 10 + u32::from(address == ADDRESSES[BOB])),
            _ => Peer::udp(address),
        });
        let mut of = |name: &str, chance: &mut Chance| {
            let (kept, key) = bootstrap(name, chance, now);
            keys.known.insert(kept.btid.clone(), Arc::new(key));
            kept
        };
        let [alice, bob] = ["alice", "bob"].map(|name| of(name, &mut chance));
        let mallory = of("mallory", &mut chance);
        let keys = Arc::new(keys);
        let source: Arc<dyn KeySource> = Arc::<Keys>::clone(&keys);
        let lab = Lab::with_source(LabSettings::default(), source);
        let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
        let password = mallory.naf_password(&naf).expect("a password");
        let signer = Signer::new(mallory.btid.as_str(), &password, GBA_REALM);
        let spoofed =
            peers.iter().filter(|peer| peer.flow().connection.is_none()).cloned().collect();
        let [of_alice, of_bob] = peers;
        let phones = [
            Phone::new("alice", of_alice, alice, &mut chance),
            Phone::new("bob", of_bob, bob, &mut chance),
        ];
        let (loss, malice) = (chance.below(15), 5 + chance.below(60));
        Self {
            story: Story::new(&mut chance, now),
            chance,
            lab,
            keys,
            core: Core::default(),
            phones,
            rogue: Rogue::new(signer, spoofed),
            under_way: BinaryHeap::new(),
            order: 0,
            latest: HashMap::new(),
            loss,
            malice,
            back: None,
            tally: Tally::default(),
            ladder: std::env::var("SIMULATION_LADDER").is_ok().then(Vec::new),
        }
    }

    fn tell(&mut self, what: &str, octets: &Bytes) {
        let Some(ladder) = &mut self.ladder else { return };
        let text = String::from_utf8_lossy(octets);
        let kept = ["CSeq", "Call-ID", "From", "To", "Contact", "Proxy-Authorization"];
        let kept = text.lines().filter(|line| {
            kept.iter().any(|name| line.starts_with(name) && line[name.len()..].starts_with(':'))
        });
        let kept: Vec<&str> = kept.collect();
        let first = text.lines().next().unwrap_or_default();
        let decided = self.lab.decisions.last().map(|last| format!("{:?}", last.outcome));
        ladder.push(format!(
            "{:>9} {what}: {first} | {} | {}",
            self.lab.now.mono.since(Instant::START).as_millis(),
            kept.join(" | "),
            decided.unwrap_or_default()
        ));
    }

    /// Runs the story to its end, and lets what is left of it run out.
    pub(crate) fn run(&mut self) {
        let mut steps = 0;
        while !self.story.is_over() {
            steps += 1;
            assert!(steps < STEPS_MAX, "the story does not end");
            self.step();
        }
        self.keys.away.store(false, Ordering::Relaxed);
        self.settle();
    }

    /// A day later nothing is held for anybody.
    fn settle(&mut self) {
        self.under_way.clear();
        self.lab.advance(Duration::from_secs(86_400));
        let associations = &self.lab.shared.gate.associations;
        assert_eq!(self.lab.transactions(), 0, "transactions");
        assert_eq!(associations.footprint(), 0, "associations: {:?}", associations.snapshot());
        assert_eq!(associations.timers(), 0, "timers");
        assert_eq!(associations.callers(), 0, "callers");
    }

    fn step(&mut self) {
        let packet = self.under_way.peek().map(|Reverse(packet)| packet.at);
        let phones = self.phones.iter().filter_map(|phone| phone.agent.poll_timeout());
        let edge = self.lab.journey().poll_timeout();
        let all = [packet, edge, self.story.at, self.back].into_iter().flatten().chain(phones);
        let at = all.min().expect("a story that is not over waits for something");
        let sent = self.lab.advance(at.since(self.lab.now.mono));
        self.carry(sent);
        let now = self.lab.now;
        for phone in &mut self.phones {
            phone.agent.expire(now);
        }
        while let Some(packet) = self.due() {
            self.deliver(packet);
        }
        self.weather();
        self.story.go_on(&mut self.phones, now);
        self.listen();
        if self.chance.percent(self.malice) {
            self.malice();
        }
    }

    fn due(&mut self) -> Option<Packet> {
        let now = self.lab.now.mono;
        let due = self.under_way.peek().is_some_and(|Reverse(packet)| packet.at <= now);
        if due { self.under_way.pop().map(|Reverse(packet)| packet) } else { None }
    }

    /// The bootstrapping server goes away now and then, and comes back.
    fn weather(&mut self) {
        let now = self.lab.now.mono;
        if self.back.is_some_and(|back| back <= now) {
            self.back = None;
            self.keys.away.store(false, Ordering::Relaxed);
        } else if self.back.is_none() && self.chance.below(400) == 0 {
            self.tally.outages += 1;
            self.back = Some(now + Duration::from_secs(1 + self.chance.below(60)));
            self.keys.away.store(true, Ordering::Relaxed);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let octets = packet.octets.clone();
        self.hand_over(packet);
        // Credentials that nobody could check are as good as they were.
        let unjudged = Outcome::Refused(Refusal::KeySourceUnavailable);
        if self.lab.decisions.last().is_none_or(|last| last.outcome != unjudged) {
            self.rogue.hear(&octets);
        }
    }

    fn hand_over(&mut self, packet: Packet) {
        match (packet.to_edge, packet.place) {
            (true, place) => {
                let peer = match place {
                    Place::Phone(who) => self.phones[who].peer.clone(),
                    Place::Core => Peer::core(),
                    Place::Mallory => unreachable!("she does not wait for a link"),
                };
                let sent = self.lab.receive_octets(&peer, packet.octets.clone());
                self.tell(&format!("{place:?} -> edge"), &packet.octets);
                self.carry(sent);
            }
            (false, Place::Phone(who)) => {
                self.tell(&format!("edge -> {:?}", packet.place), &packet.octets);
                let sheet = Sheet::read(&packet.octets);
                // A phone takes the first of two INVITEs with one Call-ID and tag for the call; Mallory is on the list
                // of those whom it does not listen to, by the identity that the edge asserts.
                if sheet.is_request() && sheet.first("P-Asserted-Identity").contains("sip:mallory@")
                {
                    if sheet.method() != "ACK" {
                        self.put(true, packet.place, sheet.answer(603, "declined").print());
                    }
                    return;
                }
                let message = sipward::wire::Message::from_datagram(packet.octets);
                let (phone, now) = (&mut self.phones[who], self.lab.now);
                let flow = phone.peer.flow();
                phone.agent.receive(message.expect("the edge sends messages"), &flow, now);
                self.listen();
            }
            (false, Place::Core) => {
                self.tell("edge -> Core", &packet.octets);
                if let Some(back) = self.core.receive(&packet.octets) {
                    self.put(true, Place::Core, back);
                }
            }
            (false, Place::Mallory) => self.rogue.receive(&packet.octets),
        }
        let held = self.lab.shared.gate.associations.footprint();
        self.tally.most_associations = self.tally.most_associations.max(held);
    }

    /// What phones have to send and to tell.
    fn listen(&mut self) {
        for who in [ALICE, BOB] {
            while let Some(event) = self.phones[who].agent.poll_event() {
                self.story.note(who, &event, &mut self.chance, self.lab.now);
            }
            while let Some(octets) = self.phones[who].agent.poll_output() {
                self.put(true, Place::Phone(who), octets);
            }
        }
        self.tally.acts = self.story.done;
    }

    /// What the edge sent goes on its way.
    fn carry(&mut self, sent: Vec<Sent>) {
        for Sent { to, message } in sent {
            let octets = message.octets().clone();
            let phone = self.phones.iter().position(|phone| phone.peer.flow().remote == to);
            let place = match (phone, to.to_string().as_str()) {
                (Some(who), _) => Place::Phone(who),
                (None, core::ADDRESS) => Place::Core,
                (None, rogue::UDP | rogue::TLS) => Place::Mallory,
                // Somebody whom nobody listens to.
                (None, _) => continue,
            };
            self.put(false, place, octets);
        }
    }

    fn put(&mut self, to_edge: bool, place: Place, octets: Bytes) {
        let connected = match place {
            Place::Phone(who) => self.phones[who].peer.flow().connection.is_some(),
            Place::Core | Place::Mallory => false,
        };
        let copies = match self.chance.below(100) {
            lot if connected || lot >= 2 * self.loss => 1,
            lot if lot < self.loss => 0,
            _ => 2,
        };
        self.tally.lost += u32::from(copies == 0);
        for _ in 0..copies {
            let mut at = self.lab.now.mono + Duration::from_millis(1 + self.chance.below(300));
            if connected {
                let latest = self.latest.entry((to_edge, place)).or_insert(at);
                at = at.max(*latest);
                *latest = at;
            }
            self.order += 1;
            let (order, octets) = (self.order, octets.clone());
            self.under_way.push(Reverse(Packet { at, order, to_edge, place, octets }));
        }
    }

    /// Mallory sends one message: whatever it says, no association but her own may differ afterwards.
    fn malice(&mut self) {
        let Some((peer, octets)) = self.rogue.forge(&mut self.chance) else { return };
        let before = self.associations();
        let sent = self.lab.receive_octets(&peer, octets.clone());
        let after = self.associations();
        self.tally.forged += 1;
        self.tell(&format!("forged {}", peer.flow().remote), &octets);
        let moved: Vec<&String> = before.iter().filter(|one| !after.contains(one)).collect();
        assert!(
            before == after,
            "moved by a forged message from {:?}:\n{}\n{:?}\nwas {moved:#?}",
            peer.flow(),
            String::from_utf8_lossy(&octets),
            self.lab.decisions.last()
        );
        self.carry(sent);
    }

    /// Every field of every association that is not Mallory's.
    fn associations(&self) -> Vec<String> {
        let all = self.lab.shared.gate.associations.snapshot();
        let honest = all.iter().filter(|one| !one.origin.owner.name.contains("mallory"));
        let mut fields: Vec<String> = honest.map(|one| format!("{one:?}")).collect();
        fields.sort();
        fields
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acts += other.acts;
        self.forged += other.forged;
        self.lost += other.lost;
        self.outages += other.outages;
        self.most_associations = self.most_associations.max(other.most_associations);
    }
}

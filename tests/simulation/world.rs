//! The world: an edge that is begun anew now and then, a core, two phones, links that lose and reorder, a bootstrapping
//! server that goes away, and Mallory. Time is virtual; everything that happens follows from one number.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sipward::association::{Association, End, State};
use sipward::authentication::Kind;
use sipward::identity::Btid;
use sipward::instant::{Instant, Now};
use sipward::journey::{Decision, Outcome};
use sipward::keys::{KeyAnswer, KeySource, NafId, NafKey, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, GBA_REALM};
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

use crate::chance::Chance;
use crate::core::{self, Core};
use crate::phone::{Phone, bootstrap};
use crate::rogue::{self, Rogue};
use crate::sheet::Sheet;
use crate::story::{ALICE, BOB, CALL, Story};

const ADDRESSES: [&str; 2] = ["192.0.2.10:5060", "192.0.2.20:5060"];
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// What the edge may hold for two subscribers and Mallory, whatever happens: her quota of dialogs, and theirs.
const ASSOCIATIONS_MAX: usize = 3 * 64;
/// The same of transactions, of entries of all stages together, and of registrations: about twice what the busiest of
/// 75,000 worlds held (31, 63, 4). What Mallory is refused holds nothing, or hardly for long.
const TRANSACTIONS_MAX: usize = 64;
const ENTRIES_MAX: usize = 128;
const BINDINGS_MAX: usize = 6;
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
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acts: u32,
    /// Calls that were hung up without an answer.
    pub(crate) unheard: u32,
    pub(crate) forged: u32,
    pub(crate) lost: u32,
    pub(crate) outages: u32,
    pub(crate) restarts: u32,
    /// Dialogs that the edge made again after it was begun anew.
    pub(crate) restored: u64,
    /// The most that was held at once: associations, transactions, entries of all stages, bindings.
    pub(crate) most: [usize; 4],
    /// Of every message: when, whence, whither and which octets.
    pub(crate) trace: u64,
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
    /// Until when the bootstrapping server does not go away.
    stays: Instant,
    /// How often the edge may still be begun anew.
    restarts: u64,
    /// Whether the edge stands back to back with its core.
    bridges: bool,
    /// REFERs that a phone took up.
    taken_up: HashSet<String>,
    /// The forgery beside which an association is changed by hand, to see that it is noticed.
    pub(crate) betrayed_at: Option<u32>,
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
        // Every other edge stands back to back with its core.
        let bridges = !seed.is_multiple_of(2);
        let lab = Lab::with_source(settings(bridges), source);
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
        // Back to back each answer and its ACK pass the links twice: lost as often as elsewhere, now and then all of them
        // would be, for as long as a call waits for its ACK.
        let loss = chance.below(15) / if bridges { 2 } else { 1 };
        let malice = 5 + chance.below(60);
        let restarts = chance.below(3);
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
            stays: Instant::START,
            restarts,
            bridges,
            taken_up: HashSet::new(),
            betrayed_at: None,
            tally: Tally::default(),
            ladder: std::env::var("SIMULATION_LADDER").is_ok().then(Vec::new),
        }
    }

    fn tell(&mut self, what: &str, octets: &Bytes) {
        let at = self.lab.now.mono.as_micros().to_be_bytes();
        for octet in at.iter().chain(what.as_bytes()).chain(octets) {
            self.tally.trace = (self.tally.trace ^ u64::from(*octet)).wrapping_mul(FNV_PRIME);
        }
        let Some(ladder) = &mut self.ladder else { return };
        let text = String::from_utf8_lossy(octets);
        let kept = [
            "CSeq",
            "Call-ID",
            "From",
            "To",
            "Contact",
            "Proxy-Authorization",
            "Route",
            "Record-Route",
        ];
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
        self.tally.restored += self.restored();
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
        assert_eq!((associations.callers(), associations.ends()), (0, 0), "callers, ends");
        let bridged = (associations.aliases(), self.lab.shared.ongoing.len());
        assert_eq!(bridged, (0, 0), "aliases, bridged requests");
        assert!(self.lab.shared.bindings.is_empty(), "bindings");
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
        if self.restarts > 0 && self.story.is_under_way() && self.chance.below(120) == 0 {
            self.restarts -= 1;
            self.restart();
        }
        let now = self.lab.now;
        self.story.go_on(&mut self.phones, now);
        self.listen();
        if self.chance.percent(self.malice) {
            let many = if self.chance.below(50) == 0 { 30 } else { 1 };
            (0..many).for_each(|_| self.malice());
        }
        self.look();
    }

    /// What is held stays within its bounds.
    fn look(&mut self) {
        let shared = &self.lab.shared;
        for (most, (what, held, max)) in self.tally.most.iter_mut().zip([
            ("associations", shared.gate.associations.footprint(), ASSOCIATIONS_MAX),
            ("transactions", self.lab.transactions(), TRANSACTIONS_MAX),
            ("entries of all stages", shared.gate.footprint(), ENTRIES_MAX),
            ("bindings", shared.bindings.len(), BINDINGS_MAX),
        ]) {
            assert!(held <= max, "{held} {what}");
            *most = held.max(*most);
        }
    }

    /// The edge ends, and some seconds later another process stands in its place: with the same secrets, without a
    /// store. What was on its way to it is lost, and so is what connections had not delivered.
    fn restart(&mut self) {
        self.tally.restarts += 1;
        self.tally.restored += self.restored();
        self.lab.now = self.lab.now + Duration::from_secs(1 + self.chance.below(10));
        let source: Arc<dyn KeySource> = Arc::<Keys>::clone(&self.keys);
        self.lab.restart_with_source(settings(self.bridges), source);
        let now = self.lab.now;
        let is_kept = |packet: &Packet| {
            let connected = match packet.place {
                Place::Phone(who) => self.phones[who].peer.flow().connection.is_some(),
                Place::Core | Place::Mallory => false,
            };
            !connected && (!packet.to_edge || packet.at > now.mono)
        };
        let mut kept = std::mem::take(&mut self.under_way).into_vec();
        kept.retain(|Reverse(packet)| is_kept(packet));
        self.under_way = kept.into();
        self.latest.clear();
        self.tell("the edge is begun anew", &Bytes::new());
        for phone in &mut self.phones {
            if phone.peer.flow().connection.is_some() {
                phone.peer = phone.peer.clone().again();
                phone.agent.lost(now);
            }
        }
        self.rogue.reconnect();
        self.story.begun_anew(self.bridges, &mut self.phones, now);
    }

    fn restored(&self) -> u64 {
        self.lab.shared.gate.associations.noted().restored.load(Ordering::Relaxed)
    }

    fn due(&mut self) -> Option<Packet> {
        let now = self.lab.now.mono;
        let due = self.under_way.peek().is_some_and(|Reverse(packet)| packet.at <= now);
        if due { self.under_way.pop().map(|Reverse(packet)| packet) } else { None }
    }

    /// The bootstrapping server goes away now and then, and comes back; then it stays long enough for whoever tries
    /// again and again.
    fn weather(&mut self) {
        let now = self.lab.now.mono;
        if self.back.is_some_and(|back| back <= now) {
            self.back = None;
            self.stays = now + Duration::from_secs(60);
            self.keys.away.store(false, Ordering::Relaxed);
        } else if self.back.is_none() && self.chance.below(400) == 0 && self.stays <= now {
            self.tally.outages += 1;
            self.back = Some(now + Duration::from_secs(1 + self.chance.below(60)));
            self.keys.away.store(true, Ordering::Relaxed);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let octets = packet.octets.clone();
        self.hand_over(packet);
        // Credentials that nobody could check are as good as they were: of a request that was refused for that, and of
        // one that its secure flow vouched for (rule 20).
        let refused = Outcome::Refused(Refusal::KeySourceUnavailable);
        let vouched = |last: &Decision| self.back.is_some() && last.evidence == Kind::SecureFlow;
        let unjudged = |last: &Decision| last.outcome == refused || vouched(last);
        if !self.lab.decisions.last().is_some_and(unjudged) {
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
                if sheet.is_request() && matches!(sheet.method(), "UPDATE" | "REFER") {
                    return self.take_up(who, &sheet);
                }
                if sheet.method() == "INVITE" && !sheet.first("To").contains(";tag=") {
                    self.story.called(sheet.first(CALL), sheet.first("Call-ID"));
                }
                let message = sipward::wire::Message::from_datagram(packet.octets);
                let (phone, now) = (&mut self.phones[who], self.lab.now);
                let flow = phone.peer.flow();
                phone.agent.receive(message.expect("the edge sends messages"), &flow, now);
                self.listen();
            }
            (false, Place::Core) => {
                self.tell("edge -> Core", &packet.octets);
                for back in self.core.receive(&packet.octets) {
                    self.put(true, Place::Core, back);
                }
            }
            (false, Place::Mallory) => self.rogue.receive(&packet.octets),
        }
    }

    /// What the agent of a phone leaves to its user: an UPDATE is taken note of; a REFER is accepted, and what became
    /// of it is told at once.
    fn take_up(&mut self, who: usize, sheet: &Sheet) {
        let refers = sheet.method() == "REFER";
        let contact = format!("<{}>", self.phones[who].agent.voice().contact);
        let mut answer = sheet.answer(if refers { 202 } else { 200 }, "phone");
        answer.set("Contact", contact);
        self.put(true, Place::Phone(who), answer.print());
        if !refers || !self.taken_up.insert(sheet.first("Via").to_owned()) {
            return;
        }
        let draft = self.phones[who].agent.draft_in(sheet.first("Call-ID"), "NOTIFY");
        let Some(draft) = draft else { return };
        let draft = draft
            .with("Event", "refer")
            .with("Subscription-State", "terminated;reason=noresource")
            .body("message/sipfrag", "SIP/2.0 200 OK");
        self.phones[who].agent.send(draft, self.lab.now);
        self.listen();
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
        (self.tally.acts, self.tally.unheard) = (self.story.done, self.story.unheard);
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

    /// Mallory sends one message: whatever it says, no association but her own may differ afterwards, and nothing goes
    /// on that says to come of another.
    fn malice(&mut self) {
        let Some((peer, octets)) = self.rogue.forge(&mut self.chance) else { return };
        // What is due lapses with the next message, whoever sends it; it may do nothing else.
        let due = self.lapsing();
        let before = self.associations(&due);
        let sent = self.lab.receive_octets(&peer, octets.clone());
        self.tally.forged += 1;
        if self.betrayed_at == Some(self.tally.forged) {
            self.betray();
        }
        let after = self.associations(&due);
        self.tell(&format!("forged {}", peer.flow().remote), &octets);
        let moved: Vec<&String> = before.iter().filter(|one| !after.contains(one)).collect();
        assert!(
            before == after,
            "moved by a forged message from {:?}:\n{}\n{:?}\nwas {moved:#?}",
            peer.flow(),
            String::from_utf8_lossy(&octets),
            self.lab.decisions.last()
        );
        for one in &sent {
            let sheet = Sheet::read(one.message.octets());
            assert!(
                !goes_on_as_another(&sheet),
                "went on as another's:\n{}\nfor a forged message from {:?}:\n{}",
                one.text(),
                peer.flow(),
                String::from_utf8_lossy(&octets)
            );
        }
        self.carry(sent);
    }

    /// Does by hand what no message may do.
    fn betray(&mut self) {
        let associations = &self.lab.shared.gate.associations;
        let honest = |one: &Association| !one.origin.owner.name.contains("mallory");
        let mut all: Vec<u64> = associations
            .snapshot()
            .iter()
            .filter(|one| honest(one))
            .map(|one| one.origin.id)
            .collect();
        all.sort_unstable();
        let now = self.lab.now;
        if !all.iter().any(|id| associations.revoke_dialog(*id, now) > 0) {
            // There is none now; the next forgery will do.
            self.betrayed_at = Some(self.tally.forged + 1);
        }
    }

    /// Dialogs that are over as soon as somebody looks.
    fn lapsing(&self) -> Vec<(u64, Option<[End; 2]>)> {
        let all = self.lab.shared.gate.associations.snapshot();
        let over = all.iter().filter(|one| one.next_end() <= self.lab.now.mono);
        over.map(|one| (one.origin.id, one.named())).collect()
    }

    /// Every field of every association that is not Mallory's, but for `due` ones: these are still due, or have
    /// lapsed, and then those that stand are fewer by them in what their owner's tally says.
    fn associations(&self, due: &[(u64, Option<[End; 2]>)]) -> Vec<String> {
        let all = self.lab.shared.gate.associations.snapshot();
        let (lapsing, standing): (Vec<_>, Vec<_>) =
            all.iter().partition(|one| due.contains(&(one.origin.id, one.named())));
        for one in lapsing {
            let lapsed = matches!(one.state, State::Suspect | State::Broken | State::Released);
            assert!(lapsed || one.next_end() <= self.lab.now.mono, "prolonged: {one:?}");
        }
        let honest = standing.iter().filter(|one| !one.origin.owner.name.contains("mallory"));
        let all_of_it = |one: &&Association| format!("{one:?}");
        let but_tally = |one: &&Association| without_tally(&format!("{one:?}"));
        let mut fields: Vec<String> = match due {
            [] => honest.map(all_of_it).collect(),
            _ => honest.map(but_tally).collect(),
        };
        fields.sort();
        fields
    }
}

/// What an association says of itself, without what it says of its owner's others.
fn without_tally(said: &str) -> String {
    let (before, rest) = said.split_once("tally: Tally {").expect("a tally");
    let (_, after) = rest.split_once("]] }").expect("its end");
    format!("{before}{after}")
}

fn settings(bridges: bool) -> LabSettings {
    let settings = LabSettings::default();
    if bridges { settings.bridging() } else { settings }
}

/// Whether a request says to come of alice or bob: by the identity that the edge asserts, or as whose binding it is.
fn goes_on_as_another(sheet: &Sheet) -> bool {
    let honest = |value: &str| ["sip:alice@", "sip:bob@"].iter().any(|name| value.contains(name));
    let registers = sheet.method() == "REGISTER" && honest(sheet.first("To"));
    sheet.is_request() && (registers || sheet.all("P-Asserted-Identity").any(honest))
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acts += other.acts;
        self.unheard += other.unheard;
        self.forged += other.forged;
        self.lost += other.lost;
        self.outages += other.outages;
        self.restarts += other.restarts;
        self.restored += other.restored;
        for (most, other) in self.most.iter_mut().zip(other.most) {
            *most = other.max(*most);
        }
        self.trace ^= other.trace;
    }
}

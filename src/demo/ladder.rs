//! The demonstration's ladder: who sent what to whom, and what the edge decided.
//!
//! Takes:   what an edge shows to its [`Watch`].
//! Gives:   lines of text, an arrow for each message, its transport and the edge's word beside it; columns of those
//!          alone who had a part in it. Of a bridged call, what names it on either side.
//! Keeps:   steps that were not printed yet, at most 10 000; what a peer sent and was sent since then.
//! Refuses: nothing.
//! Sources: none.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::authentication::Kind;
use crate::edge::Watch;
use crate::enabler::Family;
use crate::forward::Destination;
use crate::journey::{Decision, Outcome};
use crate::refusal::Refusal;
use crate::transport::{Arrival, Transport};
use crate::wire::respond::reason;
use crate::wire::{Address, Message, Method, Name, Via};

const STEPS_MAX: usize = 10_000;
const WIDTH: usize = 15;
/// The columns, from left to right; the edge is one of them, between the UEs and the core side.
const COLUMNS: [&str; 9] =
    ["alice", "bob", "carol", "rogue", "edge", "core", "location", "push", "ads"];
const EDGE: usize = 4;
/// The longest name of a transport.
const TRANSPORT_WIDTH: usize = "DTLS-PSK".len();

/// Collects an edge's messages as a ladder.
#[derive(Debug, Default)]
pub struct Ladder {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    places: HashMap<SocketAddr, Place>,
    steps: Vec<Step>,
    /// The step whose decision is still to come.
    open: Option<usize>,
    /// The step whose request waits for a key.
    waiting: Option<usize>,
    decisions: Vec<Decision>,
    /// The latest request that each peer sent, as octets: what an eavesdropper has.
    captured: HashMap<usize, Bytes>,
}

/// One message.
#[derive(Debug)]
struct Step {
    from: usize,
    to: usize,
    title: String,
    transport: &'static str,
    words: String,
    octets: Bytes,
}

/// Where a peer stands, and how it is reached.
#[derive(Clone, Copy, Debug)]
struct Place {
    column: usize,
    transport: &'static str,
}

impl Ladder {
    /// The peer at `address` stands in the column of that name.
    pub fn place(&self, address: SocketAddr, column: &str, transport: Transport) {
        if let Some(column) = COLUMNS.iter().position(|name| *name == column) {
            let place = Place { column, transport: name_of(transport, false) };
            self.lock().places.insert(address, place);
        }
    }

    /// Whether a peer stands at `address`.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.lock().places.contains_key(&address)
    }

    /// Head and lines of what was collected so far, which is forgotten here.
    pub fn take(&self) -> Vec<String> {
        let mut inner = self.lock();
        (inner.open, inner.waiting) = (None, None);
        let steps = std::mem::take(&mut inner.steps);
        let has_part = |column: &usize| {
            *column == EDGE || steps.iter().any(|step| [step.from, step.to].contains(column))
        };
        let columns: Vec<usize> = (0..COLUMNS.len()).filter(has_part).collect();
        let name = |column: &usize| COLUMNS.get(*column).copied().unwrap_or_default();
        let head: String =
            columns.iter().map(|column| format!("{:^WIDTH$}", name(column))).collect();
        let lines = steps.iter().map(|step| step.line(&columns));
        std::iter::once(head.trim_end().to_owned()).chain(lines).collect()
    }

    /// What names calls in the messages between the edge and that peer: Call-IDs, tags, branches and sent-by of Via,
    /// hosts and users of Contact, Route and Record-Route. Those of `take` are forgotten.
    pub fn names(&self, column: &str) -> BTreeSet<String> {
        let Some(place) = COLUMNS.iter().position(|name| *name == column) else {
            return BTreeSet::new();
        };
        let inner = self.lock();
        let steps = inner.steps.iter().filter(|step| [step.from, step.to].contains(&place));
        steps.filter_map(|step| Message::from_datagram(step.octets.clone()).ok()).fold(
            BTreeSet::new(),
            |mut names, message| {
                names.extend(names_in(&message));
                names
            },
        )
    }

    /// Whether any octets between the edge and that peer hold `text`.
    pub fn shows(&self, column: &str, text: &str) -> bool {
        let place = COLUMNS.iter().position(|name| *name == column);
        let inner = self.lock();
        let mut steps = inner
            .steps
            .iter()
            .filter(|step| place.is_some_and(|place| [step.from, step.to].contains(&place)));
        steps.any(|step| memchr::memmem::find(&step.octets, text.as_bytes()).is_some())
    }

    /// Writes the Call-ID of each message beside it.
    pub fn show_calls(&self) {
        for step in &mut self.lock().steps {
            let Ok(message) = Message::from_datagram(step.octets.clone()) else { continue };
            let call_id = String::from_utf8_lossy(message.call_id()).into_owned();
            let words = std::mem::take(&mut step.words);
            step.words = format!("{:<WORDS_OF_CALL$} {words}", shortened(&call_id));
        }
    }

    /// How many messages were collected so far.
    pub fn len(&self) -> usize {
        self.lock().steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refusals decided since the last call. An ACK to the edge's own answer goes no further, and is none.
    pub fn refusals(&self) -> Vec<Refusal> {
        let decisions = std::mem::take(&mut self.lock().decisions);
        let refusal = |decision: Decision| match decision.outcome {
            Outcome::Dropped(Refusal::AckUnmatched) => None,
            Outcome::Refused(refusal) | Outcome::Dropped(refusal) => Some(refusal),
            _ => None,
        };
        decisions.into_iter().filter_map(refusal).collect()
    }

    /// The latest request that came from the peer of that column.
    pub fn captured(&self, column: &str) -> Option<Bytes> {
        let place = COLUMNS.iter().position(|name| *name == column)?;
        self.lock().captured.get(&place).cloned()
    }

    /// The rules that requests passed by or were refused by since the last call of this or of [`Ladder::refusals`], in
    /// the order in which they were decided, with what they decided about.
    pub fn rules(&self) -> Vec<(Method, u8)> {
        let inner = self.lock();
        let requests = inner.decisions.iter().filter(|it| it.status == 0 && it.rule != 0);
        requests.map(|decision| (decision.method, decision.rule)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn arrow(
        &mut self,
        from: usize,
        to: usize,
        title: String,
        transport: &'static str,
        octets: Bytes,
    ) {
        if self.steps.len() < STEPS_MAX {
            self.steps.push(Step { from, to, title, transport, words: String::new(), octets });
        }
    }
}

impl Step {
    /// The arrow among the columns that are shown.
    fn line(&self, columns: &[usize]) -> String {
        let at = |column: usize| columns.iter().position(|it| *it == column).unwrap_or_default();
        let (from, to) = (at(self.from), at(self.to));
        let (left, right) = (from.min(to), from.max(to));
        let mut line = String::new();
        for place in 0..columns.len() {
            let inside = left <= place && place < right;
            let mark = if place == to && place == left {
                '<'
            } else if place == to && place == right {
                '>'
            } else {
                '|'
            };
            let indent = if place == 0 { WIDTH / 2 } else { 0 };
            let _ = write!(line, "{:indent$}{mark}", "");
            if place + 1 < columns.len() {
                let fill = if inside { "-" } else { " " };
                line.push_str(&fill.repeat(WIDTH - 1));
            }
        }
        let start = WIDTH / 2 + left * WIDTH + 2;
        let room = ((right - left) * WIDTH).saturating_sub(4);
        // Of a response that does not fit, its code.
        let fits = self.title.len() + 2 <= room;
        let title =
            if fits { &*self.title } else { self.title.split(' ').next().unwrap_or_default() };
        let text: String = format!(" {title} ").chars().take(room).collect();
        let at = start + (room - text.chars().count()) / 2;
        line.replace_range(at..at + text.len(), &text);
        let _ = write!(line, "   {:TRANSPORT_WIDTH$} {}", self.transport, self.words);
        line.trim_end().to_owned()
    }
}

/// How much of a Call-ID is shown.
const WORDS_OF_CALL: usize = 17;

/// Both ends of a long name.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().filter(char::is_ascii_graphic).collect();
    match (letters.first_chunk::<7>(), letters.last_chunk::<7>()) {
        (Some(first), Some(last)) if letters.len() > WORDS_OF_CALL => {
            format!("{}...{}", String::from_iter(first), String::from_iter(last))
        }
        _ => letters.into_iter().collect(),
    }
}

/// The user part of a URI that is at least so long is a token; a shorter one is somebody's name.
const TOKEN_MIN: usize = 16;

/// What names a call in one message.
fn names_in(message: &Message) -> Vec<String> {
    let mut names = vec![message.call_id(), message.from_tag(), message.to_tag()];
    let vias: Vec<Via<'_>> = message.values(Name::Via).filter_map(Via::parse).collect();
    names.extend(vias.iter().map(Via::branch));
    let addresses =
        [Name::Contact, Name::Route, Name::RecordRoute].map(|name| message.values(name));
    let addresses: Vec<Address<'_>> =
        addresses.into_iter().flatten().filter_map(Address::parse).collect();
    let users = addresses.iter().filter_map(|address| address.uri().user());
    names.extend(users.filter(|user| user.len() >= TOKEN_MIN));
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut names: Vec<String> = names.into_iter().map(text).collect();
    names.extend(
        addresses.iter().map(|address| sent_by(address.uri().host(), address.uri().port())),
    );
    names.extend(vias.iter().map(|via| sent_by(via.host(), via.port())));
    names.retain(|name| !name.is_empty());
    names
}

fn sent_by(host: &[u8], port: Option<u16>) -> String {
    let host = String::from_utf8_lossy(host);
    port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

/// What a transport is called here; `by_key` if a shared key made the connection or session.
fn name_of(transport: Transport, by_key: bool) -> &'static str {
    match (transport, by_key) {
        (Transport::Udp, _) => "UDP",
        (Transport::Tcp, _) => "TCP",
        (Transport::Tls, false) => "TLS",
        (Transport::Tls, true) => "PSK-TLS",
        (Transport::Dtls, false) => "DTLS",
        (Transport::Dtls, true) => "DTLS-PSK",
        (Transport::Ws, _) => "WS",
        (Transport::Wss, _) => "WSS",
    }
}

/// The service that a request is of, where it is one that is judged as more than SIP.
fn class(decision: &Decision) -> String {
    let class = decision.class.filter(|class| class.family() != Family::Sip);
    class.map(|class| format!(", as {}", class.as_str())).unwrap_or_default()
}

/// What proved who sent a request.
fn proved_by(decision: &Decision) -> &'static str {
    match decision.evidence {
        Kind::Peer if decision.flow.transport.is_secure() => "its certificate",
        Kind::Channel => "its connection's key",
        Kind::Digest => "Digest",
        Kind::SecureFlow => "Digest earlier on it",
        Kind::Registered => "registering from there",
        Kind::Peer => "being the core",
        Kind::None => "nothing",
    }
}

/// What a message is, in a few letters that stay ASCII.
fn title(message: &Message) -> String {
    let stale = message
        .fields_named(Name::ProxyAuthenticate)
        .any(|row| memchr::memmem::find(row, b"stale=true").is_some());
    let text = match message.status() {
        Some(status) if stale => format!("{status} stale"),
        Some(status) => format!("{status} {}", reason(status)),
        None => String::from_utf8_lossy(message.method_octets()).into_owned(),
    };
    text.chars().filter(char::is_ascii_graphic_or_space).collect()
}

trait AsciiGraphicOrSpace {
    fn is_ascii_graphic_or_space(&self) -> bool;
}

impl AsciiGraphicOrSpace for char {
    fn is_ascii_graphic_or_space(&self) -> bool {
        self.is_ascii_graphic() || *self == ' '
    }
}

fn word(decision: &Decision) -> Option<String> {
    let rule = |rule: u8| if rule == 0 { String::new() } else { format!(", rule {rule}") };
    match decision.outcome {
        Outcome::Forwarded if decision.status != 0 => None,
        Outcome::Forwarded => Some(format!(
            "passes, proved by {}{}{}",
            proved_by(decision),
            class(decision),
            rule(decision.rule)
        )),
        Outcome::Absorbed => Some("a repetition: absorbed, rule 8".into()),
        Outcome::Answered => Some("answered here".into()),
        Outcome::Refused(refusal) | Outcome::Dropped(refusal) => {
            let what =
                if matches!(decision.outcome, Outcome::Dropped(_)) { "dropped" } else { "refused" };
            Some(format!("{} {what}: {}{}", stage(refusal), refusal.name(), rule(decision.rule)))
        }
        Outcome::Waits => Some("waits for its key,".into()),
    }
}

/// The stage that gives a refusal.
fn stage(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed(_) => "wire",
        Refusal::SourceLimited
        | Refusal::Overloaded
        | Refusal::NoTime
        | Refusal::TooManyFailures => "admission",
        Refusal::CredentialsMissing
        | Refusal::BadCredentials
        | Refusal::AlgorithmDowngrade
        | Refusal::NonceStale
        | Refusal::StaleAgain
        | Refusal::NonceUnknown
        | Refusal::KeyForbidden
        | Refusal::KeySourceUnavailable
        | Refusal::StoreUnavailable
        | Refusal::PeerUnknown => "authentication",
        Refusal::AssociationMismatch
        | Refusal::ForeignDialogNamed
        | Refusal::FlowMismatch
        | Refusal::DialogUnknown
        | Refusal::SequenceLow
        | Refusal::AckUnmatched
        | Refusal::CancelUnmatched
        | Refusal::WrongSide
        | Refusal::TooManyEarlyDialogs
        | Refusal::TableFull
        | Refusal::MethodUnfit
        | Refusal::DialogEnded => "association",
        Refusal::LevelTooLow
        | Refusal::SecureRequired
        | Refusal::IntegrityRequired
        | Refusal::CpimFromMismatch
        | Refusal::PushServerUnknown
        | Refusal::Unreachable
        | Refusal::DirectionForbidden
        | Refusal::RateExceeded
        | Refusal::BodyTooLarge
        | Refusal::ContactsRefused => "enabler",
        _ => "forward",
    }
}

impl Watch for Ladder {
    fn decided(&self, decision: &Decision) {
        let mut inner = self.lock();
        if inner.decisions.len() < STEPS_MAX {
            inner.decisions.push(*decision);
        }
        let open = inner.open.take();
        let step = open.or_else(|| inner.waiting.take().filter(|_| decision.status == 0));
        if decision.outcome == Outcome::Waits {
            inner.waiting = step;
        }
        if let (Some(step), Some(word)) = (step, word(decision))
            && let Some(step) = inner.steps.get_mut(step)
        {
            let gap = if step.words.is_empty() { "" } else { " " };
            let _ = write!(step.words, "{gap}{word}");
        }
    }

    fn arrived(&self, arrival: &Arrival, message: &Message) {
        let mut inner = self.lock();
        let Some(place) = inner.places.get_mut(&arrival.flow.remote) else { return };
        place.transport = name_of(arrival.flow.transport, arrival.channel.is_some());
        let (from, transport) = (place.column, place.transport);
        if message.is_request() {
            inner.captured.insert(from, message.octets().clone());
        }
        inner.arrow(from, EDGE, title(message), transport, message.octets().clone());
        inner.open = inner.steps.len().checked_sub(1);
    }

    fn sent(&self, to: &Destination, octets: &Bytes) {
        let mut inner = self.lock();
        let address = match to {
            Destination::Flow(flow) => flow.remote,
            Destination::Target(target) => target.address,
        };
        let Some(Place { column, transport }) = inner.places.get(&address).copied() else { return };
        let Ok(message) = Message::from_datagram(octets.clone()) else { return };
        inner.arrow(EDGE, column, title(&message), transport, octets.clone());
    }
}

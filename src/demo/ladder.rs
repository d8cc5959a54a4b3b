//! The demonstration's ladder: who sent what to whom, and what the edge decided.
//!
//! Takes:   what an edge shows to its [`Watch`].
//! Gives:   lines of text, an arrow for each message, its transport and the edge's word beside it.
//! Keeps:   lines that were not printed yet, at most 10 000.
//! Refuses: nothing.
//! Sources: none.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::authentication::Kind;
use crate::edge::Watch;
use crate::forward::Destination;
use crate::journey::{Decision, Outcome};
use crate::refusal::Refusal;
use crate::transport::{Arrival, Transport};
use crate::wire::respond::reason;
use crate::wire::{Message, Name};

const LINES_MAX: usize = 10_000;
const WIDTH: usize = 15;
/// The columns, from left to right; the edge is one of them.
const COLUMNS: [&str; 5] = ["alice", "bob", "rogue", "edge", "core"];
const EDGE: usize = 3;
/// Where words begin: behind the columns, and the longest name of a transport.
const WORDS_AT: usize = WIDTH / 2 + (COLUMNS.len() - 1) * WIDTH + 1 + 3 + "DTLS-PSK".len() + 2;

/// Collects an edge's messages as a ladder.
#[derive(Debug, Default)]
pub struct Ladder {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    places: HashMap<SocketAddr, Place>,
    lines: Vec<String>,
    /// The line whose decision is still to come.
    open: Option<usize>,
    /// The line whose request waits for a key.
    waiting: Option<usize>,
    decisions: Vec<Decision>,
    /// The latest request that each peer sent, as octets: what an eavesdropper has.
    captured: HashMap<usize, Bytes>,
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

    /// The lines collected so far; they are forgotten here.
    pub fn take(&self) -> Vec<String> {
        let mut inner = self.lock();
        (inner.open, inner.waiting) = (None, None);
        std::mem::take(&mut inner.lines)
    }

    /// The columns' names.
    pub fn head() -> String {
        COLUMNS.iter().map(|name| format!("{name:^WIDTH$}")).collect()
    }

    /// Refusals decided since the last call.
    pub fn refusals(&self) -> Vec<Refusal> {
        let decisions = std::mem::take(&mut self.lock().decisions);
        let refusal = |decision: Decision| match decision.outcome {
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn arrow(&mut self, from: usize, to: usize, what: &str, transport: &str) {
        if self.lines.len() >= LINES_MAX {
            return;
        }
        let (left, right) = (from.min(to), from.max(to));
        let mut line = String::new();
        for place in 0..COLUMNS.len() {
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
            if place + 1 < COLUMNS.len() {
                let fill = if inside { "-" } else { " " };
                line.push_str(&fill.repeat(WIDTH - 1));
            }
        }
        let start = WIDTH / 2 + left * WIDTH + 2;
        let room = (right - left) * WIDTH - 4;
        let text: String = format!(" {what} ").chars().take(room).collect();
        let at = start + (room - text.chars().count()) / 2;
        line.replace_range(at..at + text.len(), &text);
        let _ = write!(line, "   {transport}");
        self.lines.push(line);
    }
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

/// What proved who sent a request.
fn proved_by(evidence: Kind) -> &'static str {
    match evidence {
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
    let text = match message.status() {
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
            "passes, proved by {}{}",
            proved_by(decision.evidence),
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
        | Refusal::NonceStale
        | Refusal::NonceUnknown
        | Refusal::KeyForbidden
        | Refusal::KeySourceUnavailable
        | Refusal::StoreUnavailable
        | Refusal::PeerUnknown => "authentication",
        Refusal::AssociationMismatch
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
        if inner.decisions.len() < LINES_MAX {
            inner.decisions.push(*decision);
        }
        let open = inner.open.take();
        let line = open.or_else(|| inner.waiting.take().filter(|_| decision.status == 0));
        if decision.outcome == Outcome::Waits {
            inner.waiting = line;
        }
        if let (Some(line), Some(word)) = (line, word(decision))
            && let Some(line) = inner.lines.get_mut(line)
        {
            let gap = WORDS_AT.saturating_sub(line.chars().count());
            let _ = write!(line, "{:gap$} {word}", "");
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
        inner.arrow(from, EDGE, &title(message), transport);
        inner.open = inner.lines.len().checked_sub(1);
    }

    fn sent(&self, to: &Destination, octets: &Bytes) {
        let mut inner = self.lock();
        let address = match to {
            Destination::Flow(flow) => flow.remote,
            Destination::Target(target) => target.address,
        };
        let Some(Place { column, transport }) = inner.places.get(&address).copied() else { return };
        let Ok(message) = Message::from_datagram(octets.clone()) else { return };
        let stale = message
            .fields_named(Name::ProxyAuthenticate)
            .any(|row| row.windows(10).any(|part| part == b"stale=true"));
        let what = if stale { format!("{} stale", title(&message)) } else { title(&message) };
        inner.arrow(EDGE, column, &what, transport);
    }
}

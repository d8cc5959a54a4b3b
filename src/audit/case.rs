//! The audit, what a case is: one attack, as data.
//!
//! Takes:   nothing.
//! Gives:   [`Case`], whose rows are the tables of `cases`; [`Finding`], what came of one.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none; each case names its own.

use std::future::Future;
use std::pin::Pin;

use super::cases::{dialog, digest, identity, malformed, routing};
use super::probe::Probe;
use crate::transport::Transport;

/// One attack, and how what came of it is judged.
#[derive(Debug)]
pub struct Case {
    /// Its name, one of a kind.
    pub name: &'static str,
    /// What it is about.
    pub group: Group,
    /// What a server that is well does, in one line.
    pub title: &'static str,
    /// The project's numbers of the threat.
    pub threats: &'static [&'static str],
    /// Where it is written.
    pub clause: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// On which transports it is tried.
    pub over: Over,
    /// How many accounts it needs.
    pub accounts: usize,
    /// Whether it loads the target, so that others may be served worse meanwhile.
    pub disruptive: bool,
    /// What it sends, and how it judges.
    pub run: Run,
}

/// What cases are about, in the order in which they run: those that need nothing first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Octets that are no SIP.
    Malformed,
    /// What carries SIP: segments, TLS, DTLS, WebSocket.
    Transport,
    /// What a request makes the target send, and to whom.
    Routing,
    /// How much small requests make the target send.
    Amplification,
    /// Digest authentication.
    Digest,
    /// Who may say where somebody is.
    Registration,
    /// Who callers say they are.
    Identity,
    /// Calls of others.
    Dialog,
    /// What much of it does.
    Load,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Transport,
        Self::Routing,
        Self::Amplification,
        Self::Digest,
        Self::Registration,
        Self::Identity,
        Self::Dialog,
        Self::Load,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Transport => "transport",
            Self::Routing => "routing",
            Self::Amplification => "amplification",
            Self::Digest => "digest",
            Self::Registration => "registration",
            Self::Identity => "identity",
            Self::Dialog => "dialog",
            Self::Load => "load",
        }
    }

    /// What it is about, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Malformed => "Octets that are no SIP, or nearly",
            Self::Transport => {
                "Whether segments, TLS, DTLS and WebSocket are handled as they were meant"
            }
            Self::Routing => "Where a request makes the target send something",
            Self::Amplification => "How much a small request makes the target send",
            Self::Digest => "Whether credentials prove what they seem to prove",
            Self::Registration => "Who may say where somebody is to be found",
            Self::Identity => "Who may call, and in whose name",
            Self::Dialog => "Whether strangers can meddle with the calls of others",
            Self::Load => "Whether the target still serves others under load (--disruptive)",
        }
    }

    /// The group of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == name)
    }
}

/// On which transports a case is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Each on which the target speaks SIP.
    Each,
    /// The first of those.
    First,
    /// UDP alone.
    Udp,
    /// TCP and TLS: octets without frames.
    Streams,
    /// Whatever is connected: TCP and TLS, and WebSocket over either.
    Connections,
    /// TLS, whatever it carries.
    Tls,
    /// DTLS alone.
    Dtls,
    /// WebSocket, with TLS or without.
    WebSocket,
}

impl Over {
    /// Whether a case is tried there.
    pub fn includes(self, transport: Transport) -> bool {
        match self {
            Self::Each | Self::First => true,
            Self::Udp => transport == Transport::Udp,
            Self::Streams => matches!(transport, Transport::Tcp | Transport::Tls),
            Self::Connections => transport.is_reliable(),
            Self::Tls => matches!(transport, Transport::Tls | Transport::Wss),
            Self::Dtls => transport == Transport::Dtls,
            Self::WebSocket => transport.is_websocket(),
        }
    }

    /// What is said where it is tried nowhere.
    pub fn absence(self) -> &'static str {
        match self {
            Self::Each | Self::First => "the target answers nowhere",
            Self::Udp => "the target does not answer over UDP",
            Self::Streams => "the target answers neither over TCP nor over TLS",
            Self::Connections => "the target answers over no connection",
            Self::Tls => {
                "the target does not answer over TLS, whose certificates are checked (--ca)"
            }
            Self::Dtls => {
                "the target does not answer over DTLS, whose certificates are checked (--ca)"
            }
            Self::WebSocket => "the target was not named as ws: or wss:, or does not answer there",
        }
    }
}

/// What a case does.
#[derive(Clone, Copy)]
pub enum Run {
    /// A good OPTIONS with something wrong in it.
    Malformed(&'static malformed::Flaw),
    /// A good registration is accepted; then comes one with something wrong in its credentials.
    Credentials(&'static digest::Forgery),
    /// Two users talk; then a stranger sends a request into their call.
    Inside(&'static dialog::Intrusion),
    /// A call whose caller claims what he is not.
    Claim(&'static identity::Claim),
    /// A request that names where it is to be sent.
    Relay(&'static routing::Relay),
    /// A story of its own.
    Script(Script),
}

/// A story of its own.
pub type Script = for<'p> fn(&'p Probe) -> Told<'p>;

/// A story being told.
pub type Told<'p> = Pin<Box<dyn Future<Output = Judged> + 'p>>;

/// What came of a case; the second kind ended it early.
pub type Judged = Result<Finding, Finding>;

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Run(..)")
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The attack came to something.
    Failed,
    /// It came to nothing.
    Passed,
    /// It could not be tried, or nothing follows from what was seen.
    NotApplicable,
}

impl Verdict {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Passed => "passed",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// A verdict, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen: one sentence.
    pub seen: String,
}

/// The attack came to nothing.
pub fn passed(seen: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Passed, seen: seen.into() }
}

/// The attack came to something.
pub fn failed(seen: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Failed, seen: seen.into() }
}

/// Nothing follows.
pub fn not_applicable(seen: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::NotApplicable, seen: seen.into() }
}

//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::digest::Algorithm;
use super::lab::Transport;
use super::load::Errand;

/// Measures sipward between a load generator and a backend, beside a bare relay and Kamailio.
///
/// Prints one table. Ratios are to the first anchor named. Exit code 1: a row is invalid.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench end_to_end --", max_term_width = 100)]
pub(crate) struct Options {
    /// What is measured
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "options,register,message,call,subscribe,flood,handshake,idle,scale"
    )]
    pub(crate) workloads: Vec<Workload>,
    /// What UEs speak over, for the first five workloads; flood and scale are UDP, handshake and idle TLS
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp,tcp,tls,psk-tls,dtls")]
    pub(crate) transports: Vec<Transport>,
    /// Who is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "floor,kamailio,sipward")]
    pub(crate) anchors: Vec<Who>,
    /// Length of a slice that counts
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Slices of each anchor, in turns
    #[arg(long, default_value_t = 6)]
    pub(crate) slices: usize,
    /// Full load on each anchor beforehand, in seconds, so that memory was touched and caches are warm
    #[arg(long, default_value_t = 5.0)]
    pub(crate) condition: f64,
    /// How long each slice waits for other work on the machine to pause, in seconds
    #[arg(long, default_value_t = 2.0)]
    patience: f64,
    /// UEs, each with an address of its own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) ues: u32,
    /// Transactions at once while the core is full
    #[arg(long, default_value_t = 64)]
    pub(crate) window: usize,
    /// Transactions a second for the latencies, and of good ones beside a flood
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// Datagrams a second of a flood
    #[arg(long, default_value_t = 200_000.0)]
    pub(crate) flood_rate: f64,
    /// Digest algorithm that all anchors ask for
    #[arg(long, value_enum, default_value = "md5")]
    pub(crate) digest: Algorithm,
    /// Where sipward finds keys: its bootstrapping server, or a file of accounts
    #[arg(long, value_enum, default_value = "bootstrapped")]
    pub(crate) credentials: Source,
    /// `sipward` of another commit, for the anchor `before`; it has to understand the same configuration
    #[arg(long, value_name = "PATH")]
    pub(crate) before: Option<PathBuf>,
    /// Write settings and rows as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the rows as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Few UEs and short slices: shows that all works, and measures little
    #[arg(long)]
    pub(crate) quick: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// OPTIONS, answered by the anchor
    Options,
    /// REGISTER, challenged, again with credentials, 200 from the backend
    Register,
    /// MESSAGE with credentials, 200 from the backend
    Message,
    /// INVITE with credentials, 200, ACK, BYE with credentials, 200
    Call,
    /// SUBSCRIBE with credentials, 200, three NOTIFYs
    Subscribe,
    /// MESSAGEs that are answered at the first try while junk arrives
    Flood,
    /// Full TLS 1.3 handshakes, with ECDSA P-256 and RSA-2048
    Handshake,
    /// Memory of one TLS flow that says nothing
    Idle,
    /// MESSAGE with a thousand accounts and with a million
    Scale,
}

impl Workload {
    /// The transaction, of those that are nothing but one.
    pub(crate) fn errand(self) -> Option<Errand> {
        match self {
            Self::Options => Some(Errand::Options),
            Self::Register => Some(Errand::Register),
            Self::Message => Some(Errand::Message),
            Self::Call => Some(Errand::Call),
            Self::Subscribe => Some(Errand::Subscribe),
            Self::Flood | Self::Handshake | Self::Idle | Self::Scale => None,
        }
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Who {
    /// A relay that only moves octets
    Floor,
    /// Debian's Kamailio with the same checks
    Kamailio,
    /// This
    Sipward,
    /// This back to back with the backend, in place of a proxy
    #[value(name = "sipward-b2bua")]
    Bridge,
    /// This with two workers, which share both cores with the generator
    #[value(name = "sipward-2")]
    Pair,
    /// This as it was before: the program that `--before` names
    Before,
}

impl Who {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Kamailio => "kamailio",
            Self::Sipward => "sipward",
            Self::Bridge => "sipward-b2bua",
            Self::Pair => "sipward-2",
            Self::Before => "before",
        }
    }
}

/// Where sipward finds keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    Bootstrapped,
    Accounts,
}

impl Options {
    /// With what `--quick` changes.
    pub(crate) fn settled(mut self) -> Self {
        if self.quick {
            self.ues = self.ues.min(200);
            self.slices = self.slices.min(2);
            self.seconds = self.seconds.min(0.5);
            self.condition = self.condition.min(1.0);
            self.patience = 0.0;
        }
        self
    }

    pub(crate) fn ues(&self) -> usize {
        self.ues as usize
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.1, 60.0))
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience.clamp(0.0, 60.0))
    }

    pub(crate) fn condition(&self) -> Duration {
        Duration::from_secs_f64(self.condition.clamp(0.0, 60.0))
    }
}

//! Junk: datagrams that nobody has asked for, from thousands of addresses, at a rate of choice.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use super::DOMAIN;
use super::net::Port;

/// What it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Junk {
    /// REGISTER without credentials: well formed, and nobody it knows.
    Register,
    /// 480 octets of nothing.
    Garbage,
    /// One and the other.
    Mix,
}

impl Junk {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Garbage => "garbage",
            Self::Mix => "mix",
        }
    }
}

/// A flood on its way.
pub(crate) struct Flood {
    port: Port,
    to: SocketAddrV4,
    junk: Junk,
    rate: f64,
    began: Instant,
    /// Datagrams that left.
    pub(crate) sent: u64,
    due_before: u64,
    state: u64,
}

/// Addresses that it comes from.
const SOURCES: u64 = 5000;
/// Most datagrams of one go: the generator has other work too.
const BURST: u64 = 256;

impl Flood {
    pub(crate) fn new(to: SocketAddrV4, junk: Junk, rate: f64) -> io::Result<Self> {
        let port = Port::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        port.deaf();
        let began = Instant::now();
        let state = 0x1234_5678_9abc_def1;
        Ok(Self { port, to, junk, rate, began, sent: 0, due_before: 0, state })
    }

    /// Its rate counts from now on.
    pub(crate) fn begin(&mut self) {
        (self.began, self.due_before) = (Instant::now(), 0);
    }

    /// Sends what is due at `now`. What could not be sent in time stays unsent.
    pub(crate) fn send(&mut self, now: Instant) {
        let due = (now.duration_since(self.began).as_secs_f64() * self.rate) as u64;
        let late = due.saturating_sub(self.due_before);
        self.due_before += late.saturating_sub(16 * BURST);
        for _ in 0..late.min(BURST) {
            self.one();
            self.due_before += 1;
            self.sent += 1;
        }
        self.port.flush();
    }

    fn one(&mut self) {
        let random = self.random();
        let source = random % SOURCES;
        let octet = |value: u64| (value % 250) as u8;
        let from = Ipv4Addr::new(127, 100, octet(source / 250), octet(source) + 1);
        let register = match self.junk {
            Junk::Register => true,
            Junk::Garbage => false,
            Junk::Mix => random >> 40 & 1 == 0,
        };
        let port = self.port.local().port();
        let out = self.port.next(self.to, Some(from));
        if register {
            let _never_fails = write!(
                out,
                "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {from}:{port};rport;branch=z9hG4bKf{random:x}\r\n\
                Max-Forwards: 70\r\nFrom: <sip:x{source}@{DOMAIN}>;tag=x{source}\r\n\
                To: <sip:x{source}@{DOMAIN}>\r\nCall-ID: f{random:x}\r\nCSeq: 1 REGISTER\r\n\
                Contact: <sip:x{source}@{from}:{port}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
            );
            return;
        }
        let mut word = random | 1;
        for _ in 0..60 {
            word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

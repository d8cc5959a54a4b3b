//! V-74 and V-75 over a real socket: broken datagrams, as many as there may be, and the next good one is answered.
//!
//! 1. Each datagram is a message of the fixtures, broken in a few places by chance. They come in volleys, each from another
//!    address of loopback.
//! 2. After each volley an OPTIONS of good form comes from yet another, on the same socket of the edge: its answer says that
//!    all before it was taken.
//! 3. Nothing panicked, and memory has a bound.
//!
//! `BROKEN` says how many datagrams, 60,000 without it; `BROKEN_SEED` which, one without it. Ten million:
//!
//!     BROKEN=10000000 cargo test --release --test broken

#![cfg(feature = "edge")]
#![allow(clippy::print_stdout, reason = "measures are told")]

#[path = "simulation/chance.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod chance;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chance::Chance;
use sipward::assembly::Plan;
use sipward::authentication::Accounts;
use sipward::edge::{Fault, Watch};
use sipward::identity::Realm;
use sipward::journey::Decision;
use sipward::transport::{ListenSpec, ListenerId, Side, Transport};

/// Datagrams of a volley: fewer than a socket holds.
const VOLLEY: u64 = 32;
/// Octets by which the process may grow while they come, for each of them and in all: transactions that linger, addresses
/// that are remembered.
const ROOM: [u64; 2] = [1 << 10, 320 << 20];
/// How often a good request is sent again before its answer counts as not coming.
const TRIES: u32 = 20;

/// Counts decisions, and what panicked.
#[derive(Debug, Default)]
struct Counting {
    decided: AtomicU64,
    panicked: AtomicU64,
}

impl Watch for Counting {
    fn decided(&self, _decision: &Decision) {
        self.decided.fetch_add(1, Ordering::Relaxed);
    }

    fn fault(&self, fault: Fault) {
        self.panicked.fetch_add(u64::from(fault == Fault::Panicked), Ordering::Relaxed);
    }
}

#[test]
fn v_74_after_broken_datagrams_the_next_good_one_is_answered() {
    let (many, seed) = (number("BROKEN", 60_000), number("BROKEN_SEED", 1));
    let whole = fixtures();
    let realm = Realm::new("example.net").unwrap();
    let (id, address) = (ListenerId(0), "127.0.0.1:0".parse().unwrap());
    let listener = ListenSpec::plain(id, Side::Ue, address, &[Transport::Udp], "edge.example.net");
    let plan = Plan {
        listeners: vec![listener],
        workers: NonZeroUsize::MIN,
        domains: vec!["example.net".into()],
        accounts: Some((realm, Arc::new(Accounts::default()))),
        ..Plan::new()
    };
    let watch = Arc::new(Counting::default());
    let running = plan.start(Arc::<Counting>::clone(&watch)).unwrap();
    let edge = running.edge.addresses()[0];
    let (mut chance, mut sent) = (Chance::new(seed), 0);
    answered(&socket(&mut chance, edge), "first");

    let before = resident();
    while sent < many {
        let nobody = socket(&mut chance, edge);
        for _ in 0..VOLLEY {
            // One that is too long for a datagram is not for this test.
            sent += u64::from(nobody.send(&broken(&mut chance, &whole)).is_ok());
        }
        answered(&socket(&mut chance, edge), &format!("{seed}-{sent}"));
    }

    let tally: Vec<_> = running.flows.tally().each().filter(|(_, count)| *count > 0).collect();
    let grown = resident().saturating_sub(before);
    let decided = watch.decided.load(Ordering::Relaxed);
    println!("{sent} broken datagrams, {decided} decisions, {grown} octets more: {tally:?}");
    let panicked = tally.iter().find(|(name, _)| *name == "panicked");
    assert_eq!((panicked, watch.panicked.load(Ordering::Relaxed)), (None, 0), "seed {seed}");
    assert!(decided > sent / 20, "some are whole enough to be judged: {decided} of {sent}");
    let room = (sent * ROOM[0]).min(ROOM[1]);
    assert!(grown < room, "{grown} octets more, of {room}");
    running.edge.stop(Duration::from_secs(5));
}

/// One of an address of its own, since an address is answered so often and no more.
fn socket(chance: &mut Chance, edge: SocketAddr) -> UdpSocket {
    let from = Ipv4Addr::from(0x7f10_0000 | u32::try_from(chance.below(1 << 20)).unwrap());
    let socket = UdpSocket::bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(edge).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Every message of the fixtures.
fn fixtures() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures");
    let mut paths = Vec::new();
    for folder in ["gate", "enabler", "torture"] {
        let files = fs::read_dir(root.join(folder)).unwrap();
        paths.extend(files.map(|file| file.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "sip"));
    paths.sort();
    assert!(paths.len() > 100, "fixtures");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One message, broken in one to four places.
fn broken(chance: &mut Chance, whole: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = chance.pick(whole).clone();
    for _ in 0..=chance.below(4) {
        break_once(chance, &mut octets, whole);
    }
    octets
}

fn break_once(chance: &mut Chance, octets: &mut Vec<u8>, whole: &[Vec<u8>]) {
    let (start, end) = range(chance, octets.len());
    match chance.below(8) {
        0 => octets.iter_mut().skip(start).take(1).for_each(|octet| *octet = random(chance)),
        1 => octets.truncate(start),
        2 => drop(octets.drain(start..end)),
        3 => {
            let twice = octets[start..end].to_vec();
            drop(octets.splice(end..end, twice));
        }
        4 => {
            let noise: Vec<u8> = (0..chance.below(32)).map(|_| random(chance)).collect();
            drop(octets.splice(start..end, noise));
        }
        5 => {
            let other = chance.pick(whole);
            let (from, to) = range(chance, other.len());
            drop(octets.splice(start..end, other[from..to].iter().copied()));
        }
        6 => drop(octets.splice(start..start, chance.pick(&WORDS).iter().copied())),
        _ => {
            // A line, once more at its end or elsewhere.
            let mut lines: Vec<Vec<u8>> =
                octets.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
            if !lines.is_empty() {
                let line = chance.pick(&lines).clone();
                lines.insert(chance.place(lines.len()), line);
            }
            *octets = lines.concat();
        }
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 14] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b",",
    b";",
    b"%00",
    b"[::",
    b"99999999999999999999",
    b"-1",
    b"\xf0\x9f\x92\xa3\xff",
];

/// A piece of at most a hundred octets.
fn range(chance: &mut Chance, length: usize) -> (usize, usize) {
    let start = chance.place(length + 1);
    (start, length.min(start + chance.place(100)))
}

fn random(chance: &mut Chance) -> u8 {
    chance.octets::<1>()[0]
}

/// A good request, sent until it is answered.
fn answered(socket: &UdpSocket, call_id: &str) {
    let request = format!(
        "OPTIONS sip:edge.example.net SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{call_id};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=1\r\nTo: <sip:edge.example.net>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let wanted = format!("Call-ID: {call_id}\r\n");
    let mut octets = [0; 4096];
    for _ in 0..TRIES {
        socket.send(request.as_bytes()).unwrap();
        while let Ok(length) = socket.recv(&mut octets) {
            let answer = String::from_utf8_lossy(&octets[..length]);
            if answer.contains(&wanted) {
                assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
                return;
            }
        }
    }
    panic!("the good request {call_id} was not answered");
}

/// Octets of memory that this process takes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

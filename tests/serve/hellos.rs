//! A hundred thousand strangers say hello over DTLS, each from an address of his own: little stays of them, and not for
//! long, and whoever is honest gets in in the midst of them.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::crowd::{edge_with, register, resident};
use super::*;

const HELLOS: usize = 100_000;
/// Who register meanwhile, one after the other.
const HONEST: usize = 5;
/// What the first fifth of them may leave behind, in octets, and what the other four may add.
const LEFT_MAX: usize = 16 << 20;
const MORE_MAX: usize = 4 << 20;
/// Octets that may wait for the edge: so none are lost on the way, and it is given as many as it takes.
const WAITING_MAX: u64 = 64 << 10;

/// What becomes of a stranger's hello: it is answered and forgotten, or not begun, or begun and given up.
const ENDS: [&str; 3] = [
    "sipward_transport_total{event=\"hellos_answered\"}",
    "sipward_transport_total{event=\"handshakes_crowded\"}",
    "sipward_transport_total{event=\"handshakes_slow\"}",
];

/// A ClientHello of DTLS 1.2 without a cookie: like no other, by its random.
fn hello(number: usize) -> Vec<u8> {
    let mut random = [0x5a; 32];
    random[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let offers = [&[0, 2, 0xC0, 0x2B, 1, 0][..], &[0, 8, 0, 10, 0, 4, 0, 2, 0, 23]].concat();
    let body = [&[254, 253][..], &random, &[0, 0], &offers].concat();
    let length = u8::try_from(body.len()).unwrap();
    let head = [&[22, 254, 255][..], &[0; 8], &[0, length + 12], &[1, 0, 0, length]].concat();
    [&head[..], &[0; 5], &[0, 0, length], &body].concat()
}

/// Octets that wait at a UDP port of this machine.
fn waiting(port: u16) -> u64 {
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    let of_port = sockets.lines().filter(|line| line.contains(&format!(":{port:04X} 00000000:")));
    let queues = of_port.map(|line| line.split_whitespace().nth(4).unwrap());
    queues.map(|it| u64::from_str_radix(it.split_once(':').unwrap().1, 16).unwrap()).sum()
}

/// Says hellos until there were [`HELLOS`] of them and it is over.
fn flood(edge: SocketAddr, said: &AtomicUsize, over: &AtomicBool) {
    for number in 0.. {
        if number >= HELLOS && over.load(Ordering::Relaxed) {
            break;
        }
        while number % 64 == 0 && waiting(edge.port()) > WAITING_MAX {
            std::thread::yield_now();
        }
        let [.., a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
        let stranger = UdpSocket::bind((Ipv4Addr::new(127, 16 + a, b, c), 0)).unwrap();
        stranger.send_to(&hello(number), edge).unwrap();
        said.store(number + 1, Ordering::Relaxed);
    }
}

/// V-43, by the whole program.
fn v_43(engine: &str) {
    let core = Core::start();
    let edge = edge_with(&format!("hellos-{engine}"), &core, |text| {
        let dtls = format!("transports = [\"tls\", \"dtls\"]\ndtls = {{ engine = \"{engine}\" }}");
        text.replace("transports = [\"tls\"]", &dtls).replace("\"6/min\"", "\"6000/min\"")
    });
    register(&edge, Transport::Dtls);
    let mut memory = vec![resident(&edge)];
    let (said, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(edge.tls.unwrap(), &said, &over));
        for number in 0..HONEST {
            while said.load(Ordering::Relaxed) < number * HELLOS / HONEST {
                std::thread::yield_now();
            }
            register(&edge, Transport::Dtls);
            memory.push(resident(&edge));
            let said = said.load(Ordering::Relaxed);
            say(&format!("{engine}: honest peer {number} is in after {said} hellos"));
        }
        assert!(!flood.is_finished(), "all were in before it was over");
        over.store(true, Ordering::Relaxed);
    });
    let left = |from: usize, to: usize| memory[to].saturating_sub(memory[from]);
    let (left, more, said) = (left(0, 2), left(2, HONEST), said.into_inner());
    let ends = edge.metrics(ENDS);
    say(&format!("{engine}: {said} hellos left {} and {} kB; {ends:?}", left / 1024, more / 1024));
    assert!(left <= LEFT_MAX && more <= MORE_MAX, "{engine}: {left} and {more} octets are left");
    // All were seen, but for those that still wait or are under way.
    assert!(ends.iter().sum::<u64>() + 1000 >= said as u64, "{engine}: {ends:?} of {said}");
    register(&edge, Transport::Dtls);
}

#[test]
fn v_43_a_hundred_thousand_hellos_to_openssl() {
    v_43("openssl");
}

#[test]
fn v_43_a_hundred_thousand_hellos_to_webrtc() {
    v_43("webrtc");
}

//! What strangers can make of a library that makes its own cookies, and that keeps what it is shown.

use std::net::SocketAddr;
use std::time::Duration;

use sipward::transport::dtls::filter::DATAGRAMS_MAX;
use sipward::transport::dtls::knocks::FREELY;
use sipward::transport::dtls::server::Library;
use sipward::transport::dtls::sessions::UNPROVEN;

use crate::fire::{first_hello, forged, record, standing, with_cookie};
use crate::handshakes::keys;
use crate::virtually;
use crate::world::{Client as _, KEY, WebrtcClient, World};

/// Heads of fragments in a datagram that the library reads whole.
const HEADS: u32 = 600;
/// Datagrams of them: together they are more than a stack has room for, if each is a call within a call.
const CHAINS: u32 = 40;

fn stranger() -> SocketAddr {
    "192.0.2.66:4000".parse().unwrap()
}

/// Heads of parts that follow one another, of one octet each, in a message without octets. The first comes last.
fn chain(kind: u8, message: u8, number: u32) -> Vec<u8> {
    let last = number + 1 == CHAINS;
    let first = 1 + number * HEADS;
    let offsets = (first..first + HEADS).chain(last.then_some(0));
    let head = |offset: u32| {
        let [_, high, middle, low] = offset.to_be_bytes();
        [kind, 0, 0, 0, 0, message, high, middle, low, 0, 0, 1]
    };
    offsets.flat_map(head).collect()
}

/// A record as it is, but with more in its body, and with that number.
fn longer(octets: &[u8], more: &[u8], number: u32) -> Vec<u8> {
    let mut octets = [octets, more].concat();
    let length = u16::try_from(octets.len() - 13).unwrap().to_be_bytes();
    octets[11..13].copy_from_slice(&length);
    octets[7..11].copy_from_slice(&number.to_be_bytes());
    octets
}

/// RFC 6347 section 4.2.3: a record may hold several messages, a hello's holds the hello alone. The library would have put
/// together what stands behind it by a call within a call for each head.
#[test]
fn a_hello_brings_nothing_with_it() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let hello = forged(&first_hello(&world, from));
        for number in 0..CHAINS {
            let heads = chain(16, 1, number);
            let behind = longer(&record(22, 0, b""), &heads, 1000 + number);
            for datagram in [longer(&hello, &heads, number), [&hello[..], &behind].concat()] {
                world.inject(stranger(), &datagram);
                world.run(Duration::from_millis(10), |_| false).await;
            }
        }
        assert!(world.is_alive(from, "after").await);
        let late = world.add("192.0.2.10:4000", WebrtcClient::psk("alice", KEY));
        assert!(world.is_alive(late, "late").await);
    });
}

/// A client is shown no more than a server is: whoever writes in the name of its server ends its handshake at most, not
/// the process.
#[test]
fn a_client_takes_in_no_chain_of_heads() {
    virtually(async {
        let mut world = World::new(&keys(Library::Webrtc), 1);
        let mut client = WebrtcClient::psk("alice", KEY);
        for number in 0..CHAINS {
            let datagram = longer(&record(22, 0, b""), &chain(2, 0, number), number);
            client.input(&datagram);
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        world.add("192.0.2.1:4000", client);
        let other = world.add("192.0.2.2:4000", WebrtcClient::psk("alice", KEY));
        assert!(world.is_alive(other, "x").await);
    });
}

/// A hello that is said again and again is answered as often as a handshake has datagrams, and not more often.
#[test]
fn hellos_of_one_handshake_are_counted() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let hello = forged(&first_hello(&world, from));
        for number in 0..2 * u32::try_from(DATAGRAMS_MAX).unwrap() {
            world.inject(stranger(), &longer(&hello, b"", number));
            world.run(Duration::ZERO, |_| false).await;
        }
        assert_eq!(world.sessions.len(), 2, "its time is not over yet");
        let answers = world.sent.iter().filter(|(to, _)| *to == stranger()).count();
        assert_eq!(answers, DATAGRAMS_MAX);
    });
}

/// The address of one of many strangers.
fn one_of_many(number: usize) -> SocketAddr {
    let [a, b] = u16::try_from(number).unwrap().to_be_bytes();
    SocketAddr::from(([127, 66, a, b], 4000))
}

/// RFC 6347 section 4.2.1: an address is proven by the cookie that was sent there, not by any: who makes one up has no more
/// time than who sends none, and takes no other's place.
#[test]
fn a_cookie_of_ones_own_making_proves_nothing() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let before = world.sessions.tally();
        let hello = forged(&first_hello(&world, from));
        // The library waits for the four messages before it.
        let mut made_up = with_cookie(&hello, &[7; 20]);
        made_up[18] = 5;
        for number in 0..2 * FREELY {
            world.inject(one_of_many(number), &hello);
            world.inject(one_of_many(number), &made_up);
            world.run(Duration::ZERO, |_| false).await;
        }
        let now = world.sessions.tally();
        let (begun, crowded) = (now.begun - before.begun, now.crowded - before.crowded);
        assert_eq!((begun, crowded), (FREELY as u64, FREELY as u64));
        world.run(UNPROVEN, |_| false).await;
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0), "their time is over");
        assert!(world.is_alive(from, "after").await);
    });
}

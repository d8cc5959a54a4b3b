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

/// A hello of another version, whose lowest octet that is.
fn of_version(hello: &[u8], minor: u8) -> Vec<u8> {
    let mut hello = hello.to_vec();
    hello[13 + 12 + 1] = minor;
    hello
}

/// A hello with an empty list of groups in the place of its extensions.
fn without_groups(hello: &[u8]) -> Vec<u8> {
    const EXTENSION: [u8; 6] = [0, 10, 0, 2, 0, 0];
    const SUITES: usize = 13 + 12 + 2 + 32 + 2;
    let (before, suites) = hello.split_at(SUITES);
    let compressions = 2 + usize::from(suites[1]);
    let extensions = compressions + 1 + usize::from(suites[compressions]);
    let behind = [&suites[..extensions], &[0, 6], &EXTENSION].concat();
    let mut hello = [before, &behind].concat();
    let body = u8::try_from(hello.len() - 13 - 12).unwrap();
    (hello[12], hello[16], hello[24]) = (body + 12, body, body);
    hello
}

/// V-43: what an engine refuses at once cost as much as what it does not: its place is free no sooner, so strangers have so
/// many of them in two seconds.
#[test]
fn a_handshake_that_ends_early_leaves_its_place_taken() {
    type Shots = fn(&[u8]) -> Vec<Vec<u8>>;
    let kinds: [(&str, Shots); 2] = [
        ("no groups", |hello| vec![without_groups(hello)]),
        ("a wrong cookie", |hello| vec![hello.to_vec(), with_cookie(hello, &[7; 20])]),
    ];
    for (about, shots) in kinds {
        virtually(async {
            let (mut world, from) = standing(Library::Webrtc, false).await;
            let before = world.sessions.tally();
            let shots = shots(&forged(&first_hello(&world, from)));
            for number in 0..2 * FREELY {
                for shot in &shots {
                    world.inject(one_of_many(number), shot);
                    world.run(Duration::ZERO, |_| false).await;
                }
            }
            let now = world.sessions.tally();
            let (begun, crowded) = (now.begun - before.begun, now.crowded - before.crowded);
            assert_eq!((begun, crowded), (FREELY as u64, FREELY as u64), "{about}");
            assert_eq!(now.failed - before.failed, FREELY as u64, "{about}: refused at once");
            assert_eq!((world.sessions.len(), world.doors.busy()), (1, FREELY), "{about}");
            let late = world.add("192.0.2.10:4000", WebrtcClient::psk("alice", KEY));
            assert!(world.is_alive(late, "late").await, "{about}: who comes twice gets in");
            world.run(UNPROVEN, |_| false).await;
            assert_eq!((world.sessions.len(), world.doors.busy()), (2, 0), "{about}");
            world.inject(one_of_many(2 * FREELY), &shots[0]);
            assert_eq!(world.sessions.tally().begun - now.begun, 2, "{about}: there is room again");
        });
    }
}

/// An address whose handshake was refused begins another one, as long as it has places.
#[test]
fn an_address_has_so_many_handshakes_that_end_early() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let before = world.sessions.tally();
        let mut hello = without_groups(&forged(&first_hello(&world, from)));
        for number in 0..20 {
            hello[13 + 12 + 2] = number;
            world.inject(stranger(), &hello);
            world.run(Duration::ZERO, |_| false).await;
        }
        assert_eq!(world.sessions.tally().begun - before.begun, 8);
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 8));
        world.run(UNPROVEN, |_| false).await;
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0));
    });
}

/// RFC 5246 section 7.2.2: a version that the library refuses is refused before there is one, by the alert for it.
#[test]
fn a_version_that_the_library_lacks_costs_nothing() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let before = world.sessions.tally();
        let hello = forged(&first_hello(&world, from));
        for (number, minor) in [252, 251, 0, 254, 255].into_iter().enumerate() {
            let to = one_of_many(number);
            world.inject(to, &of_version(&hello, minor));
            let sent = world.sent.last().unwrap();
            let alert = record(21, 0, &[2, 70]);
            assert_eq!((sent.0, sent.1[0], &sent.1[13..]), (to, 21, &alert[13..]), "254.{minor}");
        }
        let now = world.sessions.tally();
        assert_eq!((now.begun - before.begun, now.answered - before.answered), (0, 5));
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0));
        world.inject(one_of_many(9), &of_version(&hello, 253));
        assert_eq!(world.sessions.tally().begun - before.begun, 1);
    });
}

/// RFC 5246 section 7.4.1.2: a session that is to be resumed has a name in the hello. The library takes the octets of that
/// for what comes behind them, and panics where they do not add up; it resumes nothing, so there is no engine for it.
#[test]
fn a_session_to_resume_is_refused_before_the_library_reads_it() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let before = world.sessions.tally();
        let hello = forged(&first_hello(&world, from));
        // Neither cookie, nor suites, nor compressions, and three octets of extensions.
        let name = [0, 0, 0, 0, 0, 3, 0, 0, 0];
        let (head, rest) = hello.split_at(13 + 12 + 2 + 32);
        let mut hello = [head, &[9], &name, &rest[1..]].concat();
        for at in [12, 16, 24] {
            hello[at] += 9;
        }
        world.inject(stranger(), &hello);
        world.run(Duration::ZERO, |_| false).await;
        let now = world.sessions.tally();
        assert_eq!((now.begun - before.begun, now.answered - before.answered), (0, 1));
        let alert = world.sent.iter().find(|(to, _)| *to == stranger());
        assert_eq!(alert.unwrap().1[13..], [2, 40]);
        assert!(world.is_alive(from, "after").await);
    });
}

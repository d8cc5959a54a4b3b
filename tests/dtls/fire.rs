//! What anybody may send to a session that stands, and to a server that keeps nothing for strangers.

use std::net::SocketAddr;
use std::time::Duration;

use sipward::transport::dtls::hello::Hello;
use sipward::transport::dtls::knocks::FREELY;
use sipward::transport::dtls::server::Library;
use sipward::transport::dtls::sessions::{SessionId, Tally, Why};

use crate::handshakes::{BOTH, keys};
use crate::openssl_client::OpensslClient;
use crate::virtually;
use crate::world::{KEY, Seen, Told, WebrtcClient, World};

const LIMIT: Duration = Duration::from_secs(10);

/// A record of that type and epoch, numbered far ahead.
pub(crate) fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let [e1, e0] = epoch.to_be_bytes();
    [&[kind, 254, 253, e1, e0, 0, 0, 0, 1, 0, 0][..], &length, body].concat()
}

/// A fragment of a handshake message.
fn fragment(kind: u8, message: u8, length: u32, offset: u32, part: u32, body: &[u8]) -> Vec<u8> {
    let three = |number: u32| number.to_be_bytes()[1..].to_vec();
    let head = [vec![kind], three(length), vec![0, message], three(offset), three(part)].concat();
    record(22, 0, &[&head[..], body].concat())
}

/// A session of ours with that server: the world, and the client's address.
pub(crate) async fn standing(library: Library, by_openssl: bool) -> (World, SocketAddr) {
    let mut world = World::new(&keys(library), 1);
    let from = if by_openssl {
        world.add("192.0.2.1:4000", OpensslClient::psk("alice", &KEY, "PSK-AES128-GCM-SHA256"))
    } else {
        world.add("192.0.2.1:4000", WebrtcClient::psk("alice", KEY))
    };
    assert!(world.run(LIMIT, |world| world.opened() == 1).await);
    assert!(world.is_alive(from, "before").await);
    (world, from)
}

/// Runs `test` on a session that stands, with each engine and each kind of client, and who they are.
fn on_each_session(test: impl AsyncFn(World, SocketAddr, String)) {
    for library in BOTH {
        for by_openssl in [false, true] {
            virtually(async {
                let (world, from) = standing(library, by_openssl).await;
                test(world, from, format!("{library:?}, {by_openssl}")).await;
            });
        }
    }
}

pub(crate) fn first_hello(world: &World, from: SocketAddr) -> Vec<u8> {
    world.heard.iter().find(|(it, _)| *it == from).unwrap().1.clone()
}

/// The first hello with another random: nobody's answer to it is known.
pub(crate) fn forged(hello: &[u8]) -> Vec<u8> {
    let mut hello = hello.to_vec();
    hello[13 + 12 + 2] ^= 0xff;
    hello
}

/// The hello that follows `hello`, with a cookie.
pub(crate) fn with_cookie(hello: &[u8], cookie: &[u8]) -> Vec<u8> {
    const AT: usize = 13 + 12 + 2 + 32 + 1;
    assert_eq!((hello[AT - 1], hello[AT]), (0, 0), "neither session nor cookie");
    let length = u8::try_from(cookie.len()).unwrap();
    let mut hello = [&hello[..AT], &[length], cookie, &hello[AT + 1..]].concat();
    for at in [12, 16, 24] {
        hello[at] += length;
    }
    // It is the second record, and the second message.
    (hello[10], hello[18]) = (1, 1);
    hello
}

/// The hello with a cookie that an address sent.
fn second_hello(world: &World, from: SocketAddr) -> Vec<u8> {
    let has_cookie =
        |datagram: &[u8]| Hello::read(datagram).is_ok_and(|hello| !hello.cookie.is_empty());
    world.heard.iter().find(|(it, sent)| *it == from && has_cookie(sent)).unwrap().1.clone()
}

/// The cookie that the server sends to whoever says `hello` there.
pub(crate) async fn cookie_for(world: &mut World, from: SocketAddr, hello: &[u8]) -> Vec<u8> {
    const HELLO_VERIFY_REQUEST: u8 = 3;
    let before = world.sent.len();
    world.inject(from, hello);
    world.run(Duration::from_millis(50), |_| false).await;
    let asks = |sent: &[u8]| (sent[0], sent[13]) == (22, HELLO_VERIFY_REQUEST);
    let sent = world.sent[before..].iter().find(|(to, sent)| *to == from && asks(sent));
    // It stands behind two heads, a version and its length.
    sent.expect("a cookie is sent").1[13 + 12 + 2 + 1..].to_vec()
}

/// How often that message was heard on a session.
fn times_heard(world: &World, id: SessionId, message: &str) -> usize {
    let heard = Seen::Data(id, message.as_bytes().to_vec());
    world.seen.iter().filter(|seen| **seen == heard).count()
}

/// How many messages were heard in all.
fn all_heard(world: &World) -> usize {
    world.seen.iter().filter(|seen| matches!(seen, Seen::Data(..))).count()
}

/// V-42, V-44: a session lives through whatever comes from its address without its keys.
#[test]
fn a_session_lives_under_fire() {
    on_each_session(async |mut world, from, who| {
        let hello = first_hello(&world, from);
        let last = world.heard.iter().rfind(|(it, _)| *it == from).unwrap().1.clone();
        assert_eq!((last[0], last[4]), (23, 1), "it is the message `to before`");
        let whole = record(23, 1, &[0x5a; 64]);
        let shots: Vec<(&str, Vec<u8>)> = vec![
            ("a fatal alert in the clear", record(21, 0, &[2, 40])),
            ("a good-bye in the clear", record(21, 0, &[1, 0])),
            ("half an alert", record(21, 0, &[2])),
            ("application data in the clear", record(23, 0, b"BYE sip:a@b SIP/2.0")),
            ("a type of nobody", record(99, 0, b"x")),
            ("a type of nobody, encrypted", record(99, 1, &[1; 40])),
            ("garbage for a record", whole.clone()),
            ("garbage for an alert", record(21, 1, &[0x5a; 26])),
            ("garbage for a Finished", record(22, 1, &[0x5a; 48])),
            ("too short for a record", record(23, 1, b"abc")),
            ("an empty record", record(23, 1, b"")),
            ("another epoch", record(23, 2, &[0x5a; 64])),
            ("keys change", record(20, 0, &[1])),
            ("keys change, encrypted", record(20, 1, &[1])),
            ("a forged hello", forged(&hello)),
            ("a forged hello with a cookie", with_cookie(&forged(&hello), &[7; 20])),
            ("its own first hello", hello.clone()),
            ("its own second hello", second_hello(&world, from)),
            ("its last record again", last),
            ("half a record", whole[..20].to_vec()),
            ("a cut fragment", fragment(16, 9, 64, 0, 60, &[1; 8])),
            ("a fragment of 2^24", fragment(11, 9, 0xff_ffff, 5, 8, &[1; 8])),
            ("a fragment beyond the end", fragment(11, 9, 8, 5, 8, &[1; 8])),
            ("a hello request", fragment(0, 0, 0, 0, 0, b"")),
            ("noise", vec![0x16; 700]),
            ("one octet", vec![23]),
        ];
        let id = world.session_of(from).unwrap();
        let count = shots.len();
        for (about, shot) in shots {
            for _ in 0..3 {
                world.inject(from, &shot);
            }
            world.run(Duration::from_millis(200), |_| false).await;
            let about = format!("{about}, {who}");
            assert!(world.is_alive(from, &about).await, "{about}");
            assert_eq!(world.session_of(from), Some(id), "{about}: the same session");
            let fresh = times_heard(&world, id, &format!("to {about}"));
            let replayed = times_heard(&world, id, "to before");
            assert_eq!((fresh, replayed), (1, 1), "{about}: each is heard once");
        }
        assert_eq!(all_heard(&world), 1 + count, "nothing else is heard");
        world.run(Duration::from_secs(6), |_| false).await;
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0), "{who}");
        assert!(!world.told.contains(&(from, Told::Closed)), "{who}");
    });
}

/// RFC 6347 section 4.2.8: the cookie of a session's own hello is good for a minute, but its handshake was had.
#[test]
fn a_hello_that_comes_again_begins_nothing() {
    on_each_session(async |mut world, from, about| {
        let (id, before) = (world.session_of(from), world.sessions.tally());
        let hello = second_hello(&world, from);
        world.inject(from, &hello);
        world.run(Duration::from_millis(200), |_| false).await;
        // A cookie that is not good would have been answered with another.
        let expected = Tally { dropped: before.dropped + 1, ..before };
        assert_eq!(world.sessions.tally(), expected, "{about}");
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0), "{about}");
        assert!(world.is_alive(from, "after").await, "{about}");
        assert_eq!(world.session_of(from), id, "{about}: the same session");
    });
}

/// RFC 6347 section 4.2.8: who receives at a session's address can begin a handshake there. Without keys it never ends,
/// so the session stays, and the handshake has its five seconds.
#[test]
fn a_handshake_that_never_ends_leaves_the_session_alone() {
    on_each_session(async |mut world, from, about| {
        let id = world.session_of(from);
        let hello = forged(&first_hello(&world, from));
        let cookie = cookie_for(&mut world, from, &hello).await;
        world.inject(from, &with_cookie(&hello, &cookie));
        world.run(Duration::from_secs(4), |_| false).await;
        assert_eq!((world.sessions.len(), world.doors.busy()), (2, 1), "{about}: begun");
        assert!(world.is_alive(from, "meanwhile").await, "{about}");
        world.run(Duration::from_secs(1), |_| false).await;
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0), "{about}: over");
        assert_eq!(world.sessions.tally().slow, 1, "{about}");
        assert!(world.is_alive(from, "after").await, "{about}");
        assert_eq!(world.session_of(from), id, "{about}: the same session");
        assert!(!world.told.contains(&(from, Told::Closed)), "{about}");
    });
}

/// A thousand hellos, each of another stranger's.
fn thousand_hellos(world: &mut World, round: u8, hello: &[u8]) {
    let before = world.sent.len();
    for number in 0..1000_u16 {
        let [a, b] = number.to_be_bytes();
        let stranger = SocketAddr::from(([127, round, a, b], 4000));
        world.inject(stranger, hello);
        world.sent.truncate(before + 10);
    }
}

/// V-43: strangers leave nothing behind, or, where the library makes cookies, little and not for long; honest ones get in
/// in the midst of them.
#[test]
fn a_hundred_thousand_hellos_leave_nothing_behind() {
    const HONEST: usize = 5;
    for library in BOTH {
        virtually(async {
            let (mut world, from) = standing(library, false).await;
            let (hello, before) = (first_hello(&world, from), world.sessions.tally());
            // A library that makes cookies keeps this much for those who came once.
            let strangers = if library == Library::Openssl { 0 } else { FREELY };
            let mut honest = Vec::new();
            // A thousand come each ten milliseconds; among them, honest ones.
            for round in 0..100_u8 {
                if round % 9 == 0 && honest.len() < HONEST {
                    let client = WebrtcClient::psk("alice", KEY);
                    honest.push(world.add(&format!("192.0.2.9:{round}"), client));
                }
                thousand_hellos(&mut world, round, &forged(&hello));
                world.run(Duration::from_millis(10), |_| false).await;
                assert!(world.sessions.len() <= 1 + HONEST + strangers, "{library:?}: {round}");
            }
            assert_eq!(world.opened(), 1 + HONEST, "{library:?}: in the midst of it");
            assert_eq!(world.sessions.len(), 1 + HONEST + strangers, "{library:?}");
            let answers = world.sent.iter().filter(|(to, _)| to.ip().is_loopback());
            let longest = answers.map(|(_, datagram)| datagram.len()).max();
            let longest = longest.expect("strangers are answered");
            assert!(longest < hello.len(), "{library:?}: no answer is longer than its hello");
            let now = world.sessions.tally();
            let (answered, crowded) =
                (now.answered - before.answered, now.crowded - before.crowded);
            let hellos = 100_000 + HONEST as u64;
            match library {
                Library::Openssl => assert_eq!((answered, crowded), (hellos, 0)),
                // Each came once, but for the honest ones.
                Library::Webrtc => assert_eq!((answered, crowded), (0, hellos - FREELY as u64)),
            }
            for (number, peer) in honest.into_iter().enumerate() {
                assert!(world.is_alive(peer, &number.to_string()).await, "{library:?}: {number}");
            }
            assert!(world.is_alive(from, "after").await, "{library:?}");
            world.run(Duration::from_secs(3), |_| false).await;
            assert_eq!((world.sessions.len(), world.doors.busy()), (1 + HONEST, 0), "{library:?}");
            let late = world.add("192.0.2.10:4000", WebrtcClient::psk("alice", KEY));
            assert!(world.is_alive(late, "late").await, "{library:?}");
        });
    }
}

/// Strangers who say each hello twice take every place of a library that makes cookies, for two seconds; what stands lives
/// on, and who comes afterwards gets in.
#[test]
fn hellos_that_come_twice_are_bounded() {
    virtually(async {
        let (mut world, from) = standing(Library::Webrtc, false).await;
        let hello = forged(&first_hello(&world, from));
        for round in 0..4_u8 {
            for _ in 0..2 {
                thousand_hellos(&mut world, round, &hello);
            }
            world.run(Duration::from_millis(10), |_| false).await;
        }
        assert_eq!((world.sessions.len(), world.doors.busy()), (1001, 1000));
        assert!(world.is_alive(from, "meanwhile").await);
        world.run(Duration::from_secs(3), |_| false).await;
        assert_eq!((world.sessions.len(), world.doors.busy()), (1, 0));
        let late = world.add("192.0.2.10:4000", WebrtcClient::psk("alice", KEY));
        assert!(world.is_alive(late, "late").await);
    });
}

/// An address has eight handshakes, and others have theirs.
#[test]
fn an_address_has_so_many_handshakes() {
    virtually(async {
        let mut world = World::new(&keys(Library::Openssl), 1);
        world.gives_keys = false;
        for port in 0..20 {
            let client = WebrtcClient::psk("alice", KEY);
            world.add(&format!("192.0.2.1:{}", 4000 + port), client);
        }
        assert!(world.run(LIMIT, |world| world.asked.len() == 8).await);
        world.run(Duration::from_secs(1), |_| false).await;
        assert_eq!((world.asked.len(), world.doors.busy()), (8, 8));
        world.gives_keys = true;
        let other = world.add("192.0.2.2:4000", WebrtcClient::psk("alice", KEY));
        assert!(world.run(LIMIT, |world| world.opened() >= 1).await);
        assert!(world.session_of(other).is_some());
        world.clients.clear();
        world.run(Duration::from_secs(12), |world| world.doors.busy() == 0).await;
        assert_eq!(world.doors.busy(), 0, "who does not go on makes room");
    });
}

/// RFC 6347 section 4.2.8: a client that lost its state begins anew from the same address; the old session lives until
/// the new one stands.
#[test]
fn a_client_begins_anew_from_the_same_address() {
    for library in BOTH {
        virtually(async {
            let (mut world, from) = standing(library, false).await;
            let old = world.session_of(from).unwrap();
            // The key for the new handshake takes its time: meanwhile the old session goes on.
            world.gives_keys = false;
            world.told.clear();
            let before = world.clients.insert(from, Box::new(WebrtcClient::psk("alice", KEY)));
            let mut before = before.expect("it was there");
            let asked = world.asked.len();
            assert!(world.run(LIMIT, |world| world.asked.len() > asked).await, "{library:?}");
            assert!(before.send(b"still here"));
            world.run(Duration::from_millis(50), |_| false).await;
            before.turn();
            let datagram = before.output().expect("it is sent");
            world.inject(from, &datagram);
            world.run(Duration::from_millis(100), |_| false).await;
            let heard = Seen::Data(old, b"still here".to_vec());
            assert!(world.seen.contains(&heard), "{library:?}");
            world.gives_keys = true;
            let (id, ..) = world.asked.last().unwrap().clone();
            let now = world.now();
            world.sessions.key(id, &KEY, now);
            assert!(world.run(LIMIT, |world| world.opened() == 2).await, "{library:?}");
            assert!(world.seen.contains(&Seen::Closed(old, Why::Replaced)), "{library:?}");
            assert!(world.is_alive(from, "anew").await, "{library:?}");
            assert_eq!(world.sessions.len(), 1, "{library:?}");
        });
    }
}

/// A session is asked for after each minute without a message; a sign of life from its address counts. Its end is told
/// when it comes, and a closed one is gone with a word to its peer.
#[test]
fn an_idle_session_is_asked_for_and_an_end_comes_when_it_was_set() {
    for library in BOTH {
        virtually(async {
            let (mut world, from) = standing(library, false).await;
            let id = world.session_of(from).unwrap();
            let idle = |world: &World| {
                world.seen.iter().filter(|seen| matches!(seen, Seen::Idle(..))).count()
            };
            world.run(Duration::from_secs(50), |_| false).await;
            let now = world.now();
            world.sessions.heard(from, now);
            world.run(Duration::from_secs(50), |_| false).await;
            assert_eq!(idle(&world), 0, "{library:?}: it was heard meanwhile");
            world.run(Duration::from_secs(75), |_| false).await;
            assert_eq!(idle(&world), 2, "{library:?}: once a minute");
            let ends = world.now() + Duration::from_secs(5);
            world.sessions.set_end(id, ends);
            assert!(!world.run(Duration::from_secs(4), |w| w.seen.contains(&Seen::Over(id))).await);
            assert!(world.run(Duration::from_secs(2), |w| w.seen.contains(&Seen::Over(id))).await);
            let now = world.now();
            world.sessions.close(id, now);
            let closed = (from, Told::Closed);
            assert!(world.run(LIMIT, |world| world.told.contains(&closed)).await, "{library:?}");
            world.run(Duration::from_secs(2), |world| world.sessions.is_empty()).await;
            assert!(world.sessions.is_empty(), "{library:?}");
        });
    }
}

/// A record that arrives after a newer one is heard; one from before the window of 64, or one that came before, is not.
#[test]
fn the_replay_window_lets_late_records_in_and_old_ones_not() {
    on_each_session(async |mut world, from, who| {
        let id = world.session_of(from).unwrap();
        let mut client = world.clients.remove(&from).unwrap();
        let mut datagrams = Vec::new();
        for number in 0..100_u8 {
            assert!(client.send(&[b'm', number]));
            world.run(Duration::from_millis(10), |_| false).await;
            client.turn();
            datagrams.push(client.output().expect("it is sent"));
        }
        for (number, heard) in [(50, true), (49, true), (99, true), (50, false), (10, false)] {
            let before = world.seen.len();
            world.inject(from, &datagrams[number]);
            world.run(Duration::from_millis(50), |_| false).await;
            let data = Seen::Data(id, vec![b'm', u8::try_from(number).unwrap()]);
            let found = world.seen[before..].contains(&data);
            assert_eq!(found, heard, "{number}, {who}");
        }
    });
}

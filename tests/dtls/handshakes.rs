//! Who proves what to whom, in both directions and with both libraries at either end.

use std::sync::Arc;
use std::time::Duration;

use sipward::transport::dtls::engine::{MTU, Proof};
use sipward::transport::dtls::server::{DtlsSpec, Library, SharedKeys};
use sipward::transport::dtls::sessions::Why;
use sipward::transport::dtls::webrtc::ClientProof;
use sipward::transport::peer::ClientCertificate;
use sipward::transport::tls::ServerSpec;

use crate::openssl_client::{OpensslClient, old_client};
use crate::papers::{Authority, Paper};
use crate::virtually;
use crate::world::{Client, KEY, Seen, Told, WebrtcClient, World};

pub(crate) const BOTH: [Library; 2] = [Library::Openssl, Library::Webrtc];
/// How a client is made, once for each server.
type Make = Box<dyn Fn() -> Box<dyn Client>>;

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn keys(library: Library) -> DtlsSpec {
    DtlsSpec { engine: library, certificates: None, shared_keys: Some(SharedKeys::default()) }
}

fn proof_of(world: &World) -> Option<&Proof> {
    world.seen.iter().find_map(|seen| match seen {
        Seen::Opened(_, _, proof) => Some(proof),
        _ => None,
    })
}

#[test]
fn a_shared_key_proves_its_identity() {
    for library in BOTH {
        let clients: Vec<(&str, Make)> = vec![
            ("ours", Box::new(|| Box::new(WebrtcClient::psk("alice", KEY)))),
            (
                "OpenSSL",
                Box::new(|| Box::new(OpensslClient::psk("alice", &KEY, "PSK-AES128-GCM-SHA256"))),
            ),
        ];
        for (name, client) in clients {
            virtually(async {
                let mut world = World::new(&keys(library), 1);
                let from = "192.0.2.1:4000".parse().unwrap();
                world.clients.insert(from, client());
                assert!(world.run(LIMIT, |w| w.opened() == 1).await, "{name} to {library:?}");
                assert_eq!(proof_of(&world), Some(&Proof::Psk("alice".into())), "{library:?}");
                assert_eq!(world.asked.len(), 1);
                assert_eq!((&world.asked[0].1[..], world.asked[0].2), (&b"alice"[..], 0x00A8));
                assert!(world.is_alive(from, "x").await, "{name} to {library:?}");
                assert_eq!(world.doors.busy(), 0, "{name} to {library:?}");
            });
        }
    }
}

#[test]
fn the_suite_is_ours_to_choose() {
    for (suites, chosen) in [
        ("PSK-AES128-GCM-SHA256:ECDHE-PSK-CHACHA20-POLY1305", 0xCCAC),
        ("PSK-AES128-GCM-SHA256:DHE-PSK-AES128-GCM-SHA256", 0x00AA),
        ("PSK-AES128-CBC-SHA:PSK-AES128-GCM-SHA256", 0x00A8),
    ] {
        virtually(async {
            let mut world = World::new(&keys(Library::Openssl), 1);
            let from = world.add("192.0.2.1:4000", OpensslClient::psk("alice", &KEY, suites));
            assert!(world.run(LIMIT, |w| w.opened() == 1).await, "{suites}");
            assert_eq!(world.asked[0].2, chosen, "{suites}");
            assert!(world.is_alive(from, "x").await, "{suites}");
        });
    }
}

/// RFC 5288, RFC 5289, RFC 7905: whatever suite a certificate goes with, what one end seals the other opens, short and
/// long, though OpenSSL is at one end and has only shaken hands at ours.
#[test]
fn every_suite_with_certificates_carries_messages() {
    let ours = Authority::new("ours");
    for suite in [
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ] {
        virtually(async {
            let spec = DtlsSpec {
                engine: Library::Openssl,
                certificates: Some(Arc::new(ours.server(ClientCertificate::None))),
                shared_keys: None,
            };
            let mut world = World::new(&spec, 1);
            let client = OpensslClient::certificate_by(&ours, None, 1200, Some(suite));
            let from = world.add("192.0.2.1:4000", client);
            for word in ["", "x", &"long ".repeat(3000), "and on"] {
                assert!(world.is_alive(from, word).await, "{suite}, {} octets", word.len());
            }
            let id = world.session_of(from).unwrap();
            let now = world.now();
            world.sessions.close(id, now);
            world.run(LIMIT, |world| world.told.contains(&(from, Told::Closed))).await;
            assert!(world.told.contains(&(from, Told::Closed)), "{suite}: a good-bye");
        });
    }
}

/// RFC 4279 section 2: a key without octets is how a stranger is told that he is one; a wrong key tells nothing.
#[test]
fn a_stranger_is_told_by_the_alert_for_it() {
    for suite in ["PSK-AES128-GCM-SHA256", "DHE-PSK-AES128-GCM-SHA256"] {
        for (key, told) in [(&[][..], true), (&[0xEE; 32], false)] {
            virtually(async {
                let mut world = World::new(&keys(Library::Openssl), 1);
                world.gives_keys = false;
                let from = world.add("192.0.2.1:4000", OpensslClient::psk("eve", &KEY, suite));
                assert!(world.run(LIMIT, |w| w.asked.len() == 1).await, "{suite}");
                let (id, now) = (world.asked[0].0, world.now());
                world.sessions.key(id, key, now);
                let closed = (from, Told::Closed);
                world.run(LIMIT, |w| w.told.contains(&closed)).await;
                // An alert in the clear: unknown_psk_identity.
                let alert = world
                    .sent
                    .iter()
                    .any(|(_, octets)| octets.first() == Some(&21) && octets.ends_with(&[2, 115]));
                assert_eq!((alert, world.opened()), (told, 0), "{suite}");
            });
        }
    }
}

/// V-47: the same for a key that is wrong and an identity that nobody has; V-48: and for offers that nothing fits.
#[test]
fn what_proves_nothing_ends_without_a_session() {
    for library in BOTH {
        let clients: Vec<(&str, Make)> = vec![
            ("wrong key", Box::new(|| Box::new(WebrtcClient::psk("alice", [1; 32])))),
            ("unknown identity", Box::new(|| Box::new(WebrtcClient::psk("mallory", KEY)))),
            (
                "wrong key, OpenSSL",
                Box::new(|| {
                    Box::new(OpensslClient::psk("alice", &[1; 32], "PSK-AES128-GCM-SHA256"))
                }),
            ),
            (
                "CBC",
                Box::new(|| Box::new(OpensslClient::psk("alice", &KEY, "PSK-AES128-CBC-SHA256"))),
            ),
            (
                "CCM_8",
                Box::new(|| {
                    Box::new(OpensslClient::psk("alice", &KEY, "PSK-AES128-CCM8:@SECLEVEL=0"))
                }),
            ),
            ("DTLS 1.0", Box::new(|| Box::new(old_client()))),
        ];
        for (name, client) in clients {
            virtually(async {
                let mut world = World::new(&keys(library), 1);
                world.clients.insert("192.0.2.1:4000".parse().unwrap(), client());
                let opened = world.run(LIMIT, |w| w.opened() > 0).await;
                assert!(!opened, "{name} to {library:?}");
                world.clients.clear();
                world.run(LIMIT, |w| w.sessions.is_empty()).await;
                assert!(world.sessions.is_empty(), "{name} to {library:?}: nothing stays");
                assert_eq!(world.doors.busy(), 0, "{name} to {library:?}");
            });
        }
    }
}

#[test]
fn certificates_prove_both_ends() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let alice = ours.issue(&["sip:alice@example.net"]);
    let mallory = theirs.issue(&["sip:alice@example.net"]);
    for library in BOTH {
        for asks in
            [ClientCertificate::None, ClientCertificate::Optional, ClientCertificate::Required]
        {
            for (shows, name) in
                [(None, "nothing"), (Some(&alice), "good"), (Some(&mallory), "bad")]
            {
                for by_openssl in [false, true] {
                    let about = format!("{library:?} asks {asks:?}, shown {name}, {by_openssl}");
                    let good = match (asks, name) {
                        (ClientCertificate::None, _) => true,
                        (ClientCertificate::Optional, name) => name != "bad",
                        (ClientCertificate::Required, name) => name == "good",
                    };
                    virtually(async {
                        let spec = DtlsSpec {
                            engine: library,
                            certificates: Some(Arc::new(ours.server(asks))),
                            shared_keys: None,
                        };
                        let mut world = World::new(&spec, 1);
                        let from = if by_openssl {
                            let client = OpensslClient::certificate(&ours, shows, 1200);
                            world.add("192.0.2.1:4000", client)
                        } else {
                            let client = WebrtcClient::new(ClientProof::Certificate {
                                trust: ours.trust(),
                                name: "edge.example.net".into(),
                                shows: shows.map(|paper| Arc::new(paper.read())),
                            });
                            world.add("192.0.2.1:4000", client)
                        };
                        let opened = world.run(LIMIT, |w| w.opened() == 1).await;
                        assert_eq!(opened, good, "{about}");
                        if !good {
                            return;
                        }
                        let names = match proof_of(&world).unwrap() {
                            Proof::Certificate(shown) => {
                                Some(shown.names.users[0].as_str().to_owned())
                            }
                            Proof::Nothing => None,
                            Proof::Psk(_) => panic!("{about}: no key"),
                        };
                        let expected = (asks != ClientCertificate::None && name == "good")
                            .then(|| "sip:alice@example.net".to_owned());
                        assert_eq!(names, expected, "{about}");
                        assert!(world.is_alive(from, "x").await, "{about}");
                    });
                }
            }
        }
    }
}

#[test]
fn our_client_knows_its_server_by_name() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for library in BOTH {
        for (about, trust, name, good) in [
            ("as dialled", ours.trust(), "edge.example.net", true),
            ("another name", ours.trust(), "other.example.net", false),
            ("of another authority", theirs.trust(), "edge.example.net", false),
        ] {
            virtually(async {
                let spec = DtlsSpec {
                    engine: library,
                    certificates: Some(Arc::new(ours.server(ClientCertificate::None))),
                    shared_keys: None,
                };
                let mut world = World::new(&spec, 1);
                let name = name.into();
                let client = ClientProof::Certificate { trust, name, shows: None };
                let from = world.add("192.0.2.1:4000", WebrtcClient::new(client));
                world.run(LIMIT, |w| !w.told.is_empty()).await;
                let first = if good { Told::Established } else { Told::Closed };
                assert_eq!(world.told.first(), Some(&(from, first)), "{about} {library:?}");
            });
        }
    }
}

/// Keys and certificates share one socket, and a client's certificate may come in small datagrams.
#[test]
fn both_kinds_on_one_socket_and_in_small_datagrams() {
    let ours = Authority::new("ours");
    let alice = ours.issue(&["sip:alice@example.net"]);
    for library in BOTH {
        virtually(async {
            let spec = DtlsSpec {
                engine: library,
                certificates: Some(Arc::new(ours.server(ClientCertificate::Optional))),
                shared_keys: Some(SharedKeys::default()),
            };
            let mut world = World::new(&spec, 1);
            let one = world.add("192.0.2.1:4000", WebrtcClient::psk("alice", KEY));
            let small = OpensslClient::certificate(&ours, Some(&alice), 400);
            let two = world.add("192.0.2.2:4000", small);
            assert!(world.run(LIMIT, |w| w.opened() == 2).await, "{library:?}");
            assert!(world.is_alive(one, "one").await && world.is_alive(two, "two").await);
            let lengths = world.heard.iter().filter(|(from, _)| *from == two);
            let longest = lengths.map(|(_, datagram)| datagram.len()).max().unwrap();
            assert!(longest <= 400, "{library:?}: the client keeps to its own bound");
        });
    }
}

/// A chain for `edge.example.net` of over three datagrams.
fn long_chain(authority: &Authority) -> ServerSpec {
    let others: Vec<String> =
        (0..60).map(|number| format!("edge{number}.{}.example.net", "x".repeat(60))).collect();
    let names: Vec<&str> =
        ["edge.example.net"].into_iter().chain(others.iter().map(String::as_str)).collect();
    let Paper { certificate, key } = authority.issue(&names);
    let chain = Paper { certificate: certificate + &authority.pem(), key };
    let (certificates, trust) = (vec![chain.read()], authority.trust());
    ServerSpec { certificates, asks: ClientCertificate::None, trust }
}

/// `DT-06`: a chain that is longer than a datagram goes out in several, none longer than [`MTU`].
#[test]
fn a_long_chain_of_ours_goes_out_in_datagrams_that_fit() {
    let ours = Authority::new("ours");
    for library in BOTH {
        for by_openssl in [false, true] {
            virtually(async {
                let certificates = Some(Arc::new(long_chain(&ours)));
                let spec = DtlsSpec { engine: library, certificates, shared_keys: None };
                let mut world = World::new(&spec, 1);
                let from = if by_openssl {
                    world.add("192.0.2.1:4000", OpensslClient::certificate(&ours, None, 1200))
                } else {
                    let (trust, name) = (ours.trust(), "edge.example.net".into());
                    let client = ClientProof::Certificate { trust, name, shows: None };
                    world.add("192.0.2.1:4000", WebrtcClient::new(client))
                };
                let about = format!("{library:?}, {by_openssl}");
                assert!(world.is_alive(from, "x").await, "{about}");
                let lengths: Vec<usize> =
                    world.sent.iter().map(|(_, datagram)| datagram.len()).collect();
                assert!(lengths.iter().sum::<usize>() > 3 * MTU, "{about}: it is long");
                assert!(lengths.iter().all(|length| *length <= MTU), "{about}: {lengths:?}");
            });
        }
    }
}

/// V-74: what an address has is forgotten after a panic over its datagram, whether its session stands or a handshake is
/// under way; nothing of it is kept, and its peer may begin anew.
#[test]
fn an_address_that_was_abandoned_has_nothing_and_may_begin_anew() {
    for library in BOTH {
        virtually(async {
            let mut world = World::new(&keys(library), 1);
            let from = world.add("192.0.2.1:4000", WebrtcClient::psk("alice", KEY));
            let other = world.add("192.0.2.2:4000", WebrtcClient::psk("alice", KEY));
            assert!(world.run(LIMIT, |w| w.opened() == 2).await, "{library:?}");
            let id = world.session_of(from).unwrap();
            world.abandon(from);
            assert!(world.seen.contains(&Seen::Closed(id, Why::Panicked)), "{library:?}");
            assert!(!world.sessions.has(id), "{library:?}");
            // A handshake that waits for its key.
            world.gives_keys = false;
            world.add("192.0.2.1:4000", WebrtcClient::psk("alice", KEY));
            assert!(world.run(LIMIT, |w| w.asked.len() == 3).await, "{library:?}");
            assert_eq!(world.doors.busy(), 1, "{library:?}");
            world.abandon(from);
            assert_eq!(world.doors.busy(), 0, "{library:?}");
            world.gives_keys = true;
            world.add("192.0.2.1:4000", WebrtcClient::psk("alice", KEY));
            assert!(world.run(LIMIT, |w| w.opened() == 3).await, "{library:?}");
            assert!(world.is_alive(from, "x").await, "{library:?}");
            assert!(world.is_alive(other, "y").await, "{library:?}: nothing befell the other");
        });
    }
}

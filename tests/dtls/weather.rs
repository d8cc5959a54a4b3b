//! Handshakes over a link that loses, doubles and reorders: they complete, or give up within their bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sipward::transport::dtls::server::{DtlsSpec, Library};
use sipward::transport::dtls::webrtc::ClientProof;
use sipward::transport::peer::ClientCertificate;

use crate::handshakes::{BOTH, keys};
use crate::papers::{Authority, Paper};
use crate::virtually;
use crate::world::{KEY, Told, Weather, WebrtcClient, World};

const SEEDS: u64 = 40;

/// Who vouches for both ends, and what the client shows.
type Papers<'a> = Option<(&'a Authority, &'a Paper)>;

fn spec(library: Library, papers: Papers<'_>) -> DtlsSpec {
    let Some((ours, _)) = papers else { return keys(library) };
    let certificates = Some(Arc::new(ours.server(ClientCertificate::Required)));
    DtlsSpec { engine: library, certificates, shared_keys: None }
}

fn client(papers: Papers<'_>) -> WebrtcClient {
    let Some((ours, alice)) = papers else { return WebrtcClient::psk("alice", KEY) };
    WebrtcClient::new(ClientProof::Certificate {
        trust: ours.trust(),
        name: "edge.example.net".into(),
        shows: Some(Arc::new(alice.read())),
    })
}

#[test]
fn handshakes_complete_or_give_up() {
    let ours = Authority::new("ours");
    let alice = ours.issue(&["sip:alice@example.net"]);
    for library in BOTH {
        for (about, weather, at_least) in [
            ("doubled and late", Weather { lost: 0, doubled: 50, late: 50 }, 100),
            ("a tenth lost", Weather { lost: 10, doubled: 10, late: 20 }, 95),
            ("a third lost", Weather { lost: 33, doubled: 10, late: 20 }, 80),
        ] {
            for with_certificates in [false, true] {
                let mut complete = 0;
                for seed in 1..=SEEDS {
                    virtually(async {
                        let papers = with_certificates.then_some((&ours, &alice));
                        let mut world = World::new(&spec(library, papers), seed);
                        world.weather = weather;
                        let from = world.add("192.0.2.1:4000", client(papers));
                        let established = (from, Told::Established);
                        let done = world
                            .run(Duration::from_secs(20), |world| {
                                world.told.contains(&established) && world.opened() > 0
                            })
                            .await;
                        // In fair weather again, what both ends believe is true.
                        world.weather = Weather::default();
                        if done && world.is_alive(from, "x").await {
                            complete += 1;
                        }
                        world.clients.clear();
                        world.run(Duration::from_secs(8), |world| world.doors.busy() == 0).await;
                        let about = format!("{about}, {library:?}, {with_certificates}, {seed}");
                        assert_eq!(world.doors.busy(), 0, "{about}: it gives up");
                        assert!(world.sessions.len() <= 1, "{about}");
                    });
                }
                let share = complete * 100 / SEEDS;
                assert!(
                    share >= at_least,
                    "{about}, {library:?}, certificates {with_certificates}: {share} % complete"
                );
            }
        }
    }
}

/// When the link breaks.
type Moment = fn(&World) -> bool;

/// Whether the server sent its ServerHello.
fn answered(world: &World) -> bool {
    const SERVER_HELLO: u8 = 2;
    world.sent.iter().any(|(_, datagram)| (datagram[0], datagram[13]) == (22, SERVER_HELLO))
}

/// Whether the server heard a key exchange, and asks for its key.
fn asked(world: &World) -> bool {
    !world.asked.is_empty()
}

/// A link that breaks under a handshake: the server gives up after five seconds, and the address may begin anew.
///
/// A client's engine repeats its flight until whoever holds it gives up; the UE does after ten seconds.
#[test]
fn a_handshake_whose_link_breaks_is_given_up() {
    let ours = Authority::new("ours");
    let alice = ours.issue(&["sip:alice@example.net"]);
    let papers = Some((&ours, &alice));
    let moments: [(&str, Papers<'_>, Moment); 3] = [
        ("keys, once the hello is answered", None, answered),
        ("keys, once the key is asked for", None, asked),
        ("certificates, once the hello is answered", papers, answered),
    ];
    for library in BOTH {
        for (about, papers, moment) in moments {
            virtually(async {
                let mut world = World::new(&spec(library, papers), 1);
                world.gives_keys = false;
                let from = world.add("192.0.2.1:4000", client(papers));
                let about = format!("{about}, {library:?}");
                assert!(world.run(Duration::from_secs(1), moment).await, "{about}");
                world.weather = Weather { lost: 100, ..Weather::default() };
                is_given_up(&mut world, from, &about).await;
                // What the client repeats belongs to nothing here: it is dropped without a word.
                world.weather = Weather::default();
                let (heard, sent) = (world.heard.len(), world.sent.len());
                world.run(Duration::from_secs(4), |_| false).await;
                assert!(world.heard.len() > heard, "{about}: the client goes on");
                assert_eq!((world.sent.len(), world.sessions.len()), (sent, 0), "{about}");
                world.gives_keys = true;
                world.clients.insert(from, Box::new(client(papers)));
                assert!(world.is_alive(from, "anew").await, "{about}");
            });
        }
    }
}

/// The handshake under way there has its time, and then nothing of it is left at the server.
async fn is_given_up(world: &mut World, from: SocketAddr, about: &str) {
    world.run(Duration::from_secs(4), |_| false).await;
    assert_eq!((world.sessions.len(), world.doors.busy()), (1, 1), "{about}: it has its time");
    world.run(Duration::from_millis(1100), |_| false).await;
    assert_eq!((world.sessions.len(), world.doors.busy()), (0, 0), "{about}: the server gives up");
    assert_eq!((world.sessions.tally().slow, world.opened()), (1, 0), "{about}");
    assert!(!world.told.contains(&(from, Told::Established)), "{about}: nobody believes in it");
}

//! Handshakes over a link that loses, doubles and reorders: they complete, or give up within their bounds.

use std::sync::Arc;
use std::time::Duration;

use sipward::transport::dtls::server::DtlsSpec;
use sipward::transport::dtls::webrtc::ClientProof;
use sipward::transport::peer::ClientCertificate;

use crate::handshakes::{BOTH, keys};
use crate::papers::Authority;
use crate::virtually;
use crate::world::{KEY, Told, Weather, WebrtcClient, World};

const SEEDS: u64 = 40;

#[test]
fn handshakes_complete_or_give_up() {
    let ours = Authority::new("ours");
    let alice = ours.issue(&["sip:alice@example.net"]);
    for library in BOTH {
        for (about, weather, at_least) in [
            ("doubled and late", Weather { lost: 0, doubled: 50, late: 50 }, 100),
            ("a tenth lost", Weather { lost: 10, doubled: 10, late: 20 }, 95),
            ("a third lost", Weather { lost: 33, doubled: 10, late: 20 }, 80),
            ("all lost", Weather { lost: 100, doubled: 0, late: 0 }, 0),
        ] {
            for with_certificates in [false, true] {
                let mut complete = 0;
                for seed in 1..=SEEDS {
                    virtually(async {
                        let spec = if with_certificates {
                            let certificates = ours.server(ClientCertificate::Required);
                            let certificates = Some(Arc::new(certificates));
                            DtlsSpec { engine: library, certificates, shared_keys: None }
                        } else {
                            keys(library)
                        };
                        let mut world = World::new(&spec, seed);
                        world.weather = weather;
                        let client = if with_certificates {
                            WebrtcClient::new(ClientProof::Certificate {
                                trust: ours.trust(),
                                name: "edge.example.net".into(),
                                shows: Some(alice.read()),
                            })
                        } else {
                            WebrtcClient::psk("alice", KEY)
                        };
                        let from = world.add("192.0.2.1:4000", client);
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

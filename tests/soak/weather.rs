//! What happens around the phones, by a written schedule.

use std::sync::mpsc::channel;
use std::time::Duration;

use sipward::transport::tls;
use tokio::net::TcpStream;

use crate::ledger::Event;
use crate::programs::{PATIENCE, pem};
use crate::verdict::{Growth, look};
use crate::world::{EDGE, World};

/// What changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The configuration is read again as it was.
    Reload,
    /// With a certificate that took the place of another.
    Renew,
    BsfGoes,
    BsfComes,
    CoreGoes,
    CoreComes,
}

/// One round, in parts per hundred of it.
const ROUND: &[(u32, Change)] = &[
    (10, Change::Reload),
    (21, Change::BsfGoes),
    (41, Change::BsfComes),
    (50, Change::Renew),
    (58, Change::CoreGoes),
    (70, Change::CoreComes),
    (80, Change::CoreGoes),
    (81, Change::CoreComes),
    (90, Change::Renew),
];
/// A round is no longer than this.
const ROUND_MAX: Duration = Duration::from_secs(100);
/// How often sizes are looked at, in the whole.
const LOOKS: u32 = 20;

/// Lets all of it happen; gives how the edge and the bootstrapping server have grown, and adds what they say to `looks`.
pub(crate) fn blow(
    world: &World,
    length: Duration,
    looks: &mut Vec<(String, String)>,
) -> Vec<Growth> {
    let rounds = u32::try_from(length.as_secs() / ROUND_MAX.as_secs()).unwrap().max(1);
    let each = length / rounds;
    let changes = (0..rounds).flat_map(|round| {
        ROUND.iter().map(move |(part, change)| (each * round + each * *part / 100, Some(*change)))
    });
    let glances = (1..=LOOKS).map(|glance| (length * glance / LOOKS, None));
    let mut plan: Vec<(Duration, Option<Change>)> = changes.chain(glances).collect();
    plan.sort_by_key(|(at, _)| *at);

    let (mut growth, mut bad) = (Vec::<Growth>::new(), Standing::default());
    let (_keep, never) = channel::<()>();
    let began = world.ledger.now();
    for (at, change) in plan {
        let pause = (began + at).saturating_sub(world.ledger.now());
        let _ = never.recv_timeout(pause);
        match change {
            Some(change) => bad.change(world, change),
            None => {
                looks.push(look(world));
                if at >= length / 5 {
                    Growth::measure(world, &mut growth);
                }
            }
        }
    }
    growth
}

/// What is away now, by its number in the ledger.
#[derive(Default)]
struct Standing {
    bsf: Option<usize>,
    core: Option<usize>,
    asked: bool,
    certificates: usize,
}

impl Standing {
    fn change(&mut self, world: &World, change: Change) {
        let ledger = &world.ledger;
        match change {
            Change::Reload => self.reload(world, Event::Reloaded),
            Change::Renew => {
                self.certificates += 1;
                world.folder.certify(&world.authority, "edge", EDGE);
                self.reload(world, Event::Renewed);
                until_shown(world);
            }
            Change::BsfGoes => {
                self.bsf = Some(ledger.begins(Event::BsfAway));
                self.asked = !self.asked;
                world.without_bsf(self.asked);
            }
            Change::BsfComes => {
                world.with_bsf();
                ledger.ends(self.bsf.take().expect("it is away"));
            }
            Change::CoreGoes => {
                self.core = Some(ledger.begins(Event::CoreAway));
                world.without_core();
            }
            Change::CoreComes => {
                world.with_core();
                ledger.ends(self.core.take().expect("it is away"));
            }
        }
    }

    fn reload(&self, world: &World, event: Event) {
        let number = world.ledger.begins(event);
        let mut edge = world.edge.lock().unwrap();
        edge.signal("HUP");
        edge.until("reloaded: ");
        drop(edge);
        world.ledger.ends(number);
    }
}

/// Waits until a handshake shows the certificate that stands in the folder.
fn until_shown(world: &World) {
    let expected = std::fs::read_to_string(world.folder.path("edge.pem")).unwrap();
    let trust = tls::client_config(world.authority.trust(), None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = world.ledger.now() + PATIENCE;
    let shown = || {
        runtime.block_on(async {
            let stream = TcpStream::connect(world.secure).await.expect("a connection");
            let done = tls::connect(trust.clone(), EDGE, stream).await.expect("a handshake");
            pem(&done.0.get_ref().1.peer_certificates().expect("one")[0])
        })
    };
    while shown() != expected {
        assert!(world.ledger.now() < deadline, "the renewed certificate is not shown");
    }
}

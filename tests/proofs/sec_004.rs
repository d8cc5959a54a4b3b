//! SEC-004: for a push, an association is set up from the server to the client. Where there is no secure flow, the edge pushes
//! what a key is made of first: the association is pending, confirmed by what comes back, and serves until it expires.
//! Whichever octet of that information is altered, the phone makes no key of it (INTE-002).

use std::thread;
use std::time::{Duration, Instant};

use crate::programs::{PATIENCE, Program, ask, metric};
use crate::pushes::{ALICE, World, body};

const GPI: &str = "application/vnd.3gpp.gba.gpi";
const MARKER: &str = "MARKER-4c1d: your parcel is at the door";

/// The same request with a branch that nobody used.
fn anew(datagram: &[u8], number: usize) -> Vec<u8> {
    let text = b";branch=z9hG4bK";
    let at = datagram.windows(text.len()).position(|part| part == text).expect("a branch");
    let (before, after) = datagram.split_at(at + text.len());
    [before, format!("n{number}").as_bytes(), after].concat()
}

#[test]
fn sec_004_an_association_is_pushed() {
    let world = World::start("sec-004", "[enabler.push]\nlifetime = \"60s\"\n", |_| {});
    world.folder.write("mail", MARKER);
    let row = |state: &str| {
        metric(world.page, &format!("sipward_push_associations{{state=\"{state}\"}}"))
    };
    let mut phone = Program::start(&mut world.phone("udp"));
    phone.until("\"status\":200");
    let path = world.registrar.path();
    assert_eq!((row("pending"), row("confirmed")), (0, 0));
    let held = world.wire.hold(GPI);
    let mut command = world.pushing(ALICE, "mail", &path);
    let push = thread::spawn(move || ask(&mut command));
    held.recv_timeout(PATIENCE).expect("a key");
    assert_eq!((row("pending"), row("confirmed")), (1, 0), "nothing came back yet");
    world.wire.release();
    assert_eq!(push.join().unwrap(), (true, "200 OK".into()));
    assert!(phone.until("\"push\":").contains("\"push\":\"key\""));
    assert!(phone.until("\"push\":").contains(MARKER));
    assert_eq!((row("pending"), row("confirmed")), (0, 1), "confirmed by what came back");
    assert!(!world.wire.tap.has(MARKER));

    let gpi = world.wire.tap.down_with(GPI);
    let length = body(&gpi).len();
    assert!(length > 64, "{length}");
    for at in 0..length {
        let mut altered = anew(&gpi, at);
        let place = altered.len() - length + at;
        altered[place] ^= 1;
        world.wire.forge(&altered);
        let said = phone.until("\"push\":");
        assert!(said.contains("\"push\":\"discarded\""), "octet {at}: {said}");
    }
    // None of it stood in the way of the next one.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    assert!(phone.until("\"push\":").contains(MARKER));
    let made = || metric(world.page, "sipward_push_total{event=\"made\"}");
    assert_eq!(made(), 1);

    // Its time is over: the next push needs another.
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(60);
    while row("expired") == 0 {
        assert!(Instant::now() < deadline, "it never expires");
        thread::yield_now();
    }
    assert_eq!(row("confirmed"), 0);
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    assert!(phone.until("\"push\":").contains("\"push\":\"key\""));
    assert!(phone.until("\"push\":").contains(MARKER));
    assert_eq!((made(), row("confirmed")), (2, 1));
}

//! SEC-004 with SEC-002: the keys of pushes come from a bootstrapping server in another process, by configuration alone. What
//! comes of a push is what comes of it where the server is the edge's own; of a server that is away, or is not the card's,
//! comes nothing.

use serde_json::Value;

use crate::programs::{Program, metric};
use crate::pushes::{SUBSCRIBERS, World, body};

const MARKER: &str = "MARKER-5e20: four parcels";
const GPI: &str = "application/vnd.3gpp.gba.gpi";

/// Whoever has the list of subscribers reads it again.
fn relist(world: &mut World, list: &str) {
    world.folder.write("subscribers.toml", list);
    let program = match &mut world.apart {
        Some(apart) => &mut apart.program,
        None => &mut world.edge,
    };
    program.signal("HUP");
    program.until("reloaded: ");
}

/// Alice's phone on UDP, and the way to it.
fn phone(world: &World) -> (Program, String) {
    let mut phone = Program::start(&mut world.phone("udp"));
    phone.until("\"status\":200");
    (phone, world.registrar.path())
}

fn refused() -> (bool, String) {
    (false, "480 Temporarily Unavailable".into())
}

/// What a phone is told, but for the hour.
fn said(phone: &mut Program) -> Value {
    let mut said: Value = serde_json::from_str(&phone.until("\"push\":")).unwrap();
    if said["push"] == "key" {
        assert!(said["expires"].take().is_u64());
    }
    said
}

#[test]
fn sec_004_keys_of_another_process_are_as_good_as_our_own() {
    let mut worlds = [World::start("push-own", "", |_| {}), World::start_apart("push-apart")];
    let mut told = worlds.iter_mut().map(|world| {
        world.folder.write("mail", MARKER);
        let (mut phone, path) = phone(world);
        // A subscriber whom the server does not know any more has no push, and his phone hears nothing.
        relist(world, "");
        assert_eq!(world.push("mail", &path), refused());
        relist(world, SUBSCRIBERS);
        assert!(!world.wire.tap.has(GPI));
        assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
        let told = [said(&mut phone), said(&mut phone)];
        let row = |state: &str| format!("sipward_push_associations{{state=\"{state}\"}}");
        assert_eq!(metric(world.page, &row("confirmed")), 1, "{told:?}");
        assert!(!world.wire.tap.has(MARKER));
        told
    });
    let (own, apart) = (told.next().unwrap(), told.next().unwrap());
    assert_eq!(own, apart);
    assert_eq!((&own[0]["push"], &own[1]["push"]), (&"key".into(), &"shown".into()), "{own:?}");
    assert_eq!(own[1]["content"], MARKER);
    drop(told);

    // Between the servers nothing can be read.
    let [_, world] = &worlds;
    let tap = &world.apart.as_ref().unwrap().link.tap;
    assert!(!tap.seen().is_empty());
    let gpi = world.wire.tap.down_with(GPI);
    let digits: String = body(&gpi).iter().map(|octet| format!("{octet:02x}")).collect();
    for part in ["push-info-retrieval", "meKeyMaterial", "alice", digits.as_str()] {
        assert!(!tap.has(part), "{part}");
    }
}

/// SEC-002, V-31: whoever cannot be asked, or is no server of the card's, gives no key; once it is back, all is well.
#[test]
fn sec_004_without_the_server_nothing_is_pushed() {
    let mut world = World::start_apart("push-away");
    world.folder.write("mail", MARKER);
    let (mut phone, path) = phone(&world);
    let mut apart = world.apart.take().unwrap();
    apart.program.kill();
    assert_eq!(world.push("mail", &path), refused());
    assert!(!world.wire.tap.has(GPI), "no key, no message");

    // The right certificate, and another key for alice's card.
    let wrong = SUBSCRIBERS.replace("465b5ce8b199b49faa5f0a2ee238a6bc", &"5b".repeat(16));
    world.folder.write("liar.toml", wrong);
    apart.again(&world.folder, "liar.toml");
    assert_eq!(world.push("mail", &path), refused());
    let heard = phone.until("\"push\":");
    assert!(heard.contains("\"discarded\"") && heard.contains("NetworkNotOurs"), "{heard}");
    apart.program.kill();

    apart.again(&world.folder, "subscribers.toml");
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    assert!(phone.until("\"push\":").contains("\"push\":\"key\""));
    assert!(phone.until("\"push\":").contains(MARKER));
    assert!(!world.wire.tap.has(MARKER));
    let row = |event: &str| metric(world.page, &format!("sipward_push_total{{event=\"{event}\"}}"));
    assert_eq!((row("made"), row("failed"), row("refused")), (2, 1, 2));
}

//! AUTH-007, INTE-002, INTE-003, CONF-002, CONF-003: what is pushed comes from whom it says, unaltered, and is read by nobody else.

use std::thread;

use crate::programs::{PATIENCE, Program, ask, sipward};
use crate::pushes::{ALICE, World, body, numbered};

const MARKER: &str = "MARKER-9c1e: dinner at eight";
const GPI: &str = "application/vnd.3gpp.gba.gpi";
const GPL: &str = "application/vnd.sipward.gpl";

fn world(name: &str, more: &str) -> World {
    let world = World::start(name, more, |folder| {
        folder.write("password", "correct horse");
        folder.write(
            "accounts.toml",
            "[[account]]\nusername = \"bob\"\npassword = \"correct horse\"\nidentities = [\"sip:bob@example.net\"]\n",
        );
    });
    world.folder.write("mail", MARKER);
    world
}

/// Alice's phone, registered, and the way to it.
fn phone(world: &World, transport: &str) -> (Program, String) {
    let mut phone = Program::start(&mut world.phone(transport));
    phone.until("\"status\":200");
    (phone, world.registrar.path())
}

/// What the phone says to every datagram that differs from this one in one octet of its body.
fn flipped(world: &World, phone: &mut Program, datagram: &[u8]) -> Vec<String> {
    let start = datagram.len() - body(datagram).len();
    let forged = (start..datagram.len()).map(|place| {
        let mut octets = datagram.to_vec();
        octets[place] ^= 1 << (place % 8);
        world.wire.forge(&numbered(&octets, place));
        phone.until("\"push\":")
    });
    forged.collect()
}

/// INTE-002: from a key that was altered in any octet on the way, the phone makes none.
#[test]
fn inte_002_what_sets_an_association_up_is_protected() {
    let world = world("inte-002", "");
    let (mut phone, path) = phone(&world, "udp");
    let held = world.wire.hold(GPI);
    let mut command = world.pushing(ALICE, "mail", &path);
    let push = thread::spawn(move || ask(&mut command));
    let gpi = held.recv_timeout(PATIENCE).expect("a key");
    let said = flipped(&world, &mut phone, &gpi);
    assert!(said.len() > 52, "head, challenge and more: {}", said.len());
    assert!(said.iter().all(|said| said.contains("\"discarded\"")), "{said:?}");
    assert_eq!(push.join().unwrap(), (false, "480 Temporarily Unavailable".into()));
    world.wire.release();
    // One that nobody touched is taken.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    assert!(phone.until("\"push\":").contains("\"push\":\"key\""));
    assert!(phone.until("\"push\":").contains(MARKER));
}

/// INTE-003: of what was altered in any octet nothing is shown, nor twice what was not.
#[test]
fn inte_003_what_is_pushed_is_protected() {
    let world = world("inte-003", "");
    let (mut phone, path) = phone(&world, "udp");
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"shown\"");
    let held = world.wire.hold(GPL);
    let mut command = world.pushing(ALICE, "mail", &path);
    let push = thread::spawn(move || ask(&mut command));
    let gpl = held.recv_timeout(PATIENCE).expect("a wrapped push");
    let said = flipped(&world, &mut phone, &gpl);
    assert!(said.len() > MARKER.len(), "{}", said.len());
    assert!(said.iter().all(|said| said.contains("\"discarded\"")), "{said:?}");
    // The edge sends it again, and nobody alters that.
    world.wire.release();
    assert!(phone.until("\"push\":").contains(MARKER));
    assert_eq!(push.join().unwrap(), (true, "200 OK".into()));
    world.wire.forge(&numbered(&gpl, 0));
    let said = phone.until("\"push\":");
    assert!(said.contains("\"discarded\"") && said.contains("Replayed"), "{said}");
}

/// CONF-002: names and key are in no key that is pushed, and another card makes nothing of it.
#[test]
fn conf_002_what_sets_an_association_up_is_secret() {
    let world = world("conf-002", "");
    let (mut phone, path) = phone(&world, "udp");
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    let key = phone.until("\"push\":\"key\"");
    assert!(key.contains("edge.example.net"), "the phone learnt the name from it: {key}");
    let gpi = world.wire.tap.down_with(GPI);
    let clear = String::from_utf8_lossy(body(&gpi)).into_owned();
    for name in ["edge.example.net", "example", "alice"] {
        assert!(!clear.contains(name), "{name}: {clear}");
    }
    // The uplink name of an association is `p-` and digits.
    let is_name = |six: &[u8]| six.starts_with(b"p-") && six[2..].iter().all(u8::is_ascii_hexdigit);
    assert!(!body(&gpi).windows(6).any(is_name), "{clear}");
    drop(phone);

    // Whoever has the same octets and another card.
    let mut other = sipward();
    other
        .args(["ue", "register", "--json", "--reg-id", "1", "--stay", "600"])
        .args(["--identity", "sip:rogue@example.net", "--impi", "rogue@ims.example.net"])
        .args(["--edge", &world.rogues.address.to_string()])
        .arg("--keys")
        .arg(world.file("rogue.keys"))
        .arg("--card")
        .arg(world.file("subscribers.toml"));
    let mut other = Program::start(&mut other);
    other.until("\"status\":200");
    world.rogues.forge(&numbered(&gpi, 1));
    let said = other.until("\"push\":");
    assert!(said.contains("\"discarded\"") && said.contains("NetworkNotOurs"), "{said}");
}

/// CONF-003: what is pushed goes over no wire in the clear; to a device without any protection it does not go.
#[test]
fn conf_003_what_is_pushed_is_secret() {
    let world = world("conf-003", "[authentication]\naccounts = \"accounts.toml\"\n");
    for transport in ["tls", "dtls", "udp"] {
        let (mut phone, path) = phone(&world, transport);
        assert_eq!(world.push("mail", &path), (true, "200 OK".into()), "{transport}");
        assert!(phone.until("\"push\":\"shown\"").contains(MARKER), "{transport}");
    }
    // Bob has a password and no card: there is nothing to wrap it with.
    let mut bob = sipward();
    bob.args(["ue", "register", "--json", "--reg-id", "1", "--stay", "600", "--account", "bob"])
        .args(["--identity", "sip:bob@example.net"])
        .args(["--edge", &world.rogues.address.to_string()])
        .arg("--password-file")
        .arg(world.file("password"))
        .arg("--instance")
        .arg(world.file("bob.instance"));
    let mut bob = Program::start(&mut bob);
    bob.until("\"status\":200");
    let path = world.registrar.path();
    let refused = world.push_to("sip:bob@example.net", "mail", &path);
    assert_eq!(refused, (false, "480 Temporarily Unavailable".into()));
    for (name, tap) in [
        ("udp", &world.wire.tap),
        ("bob", &world.rogues.tap),
        ("tls", &world.secure.tap),
        ("dtls", &world.dtls.tap),
        ("core", &world.core.tap),
    ] {
        assert!(!tap.seen().is_empty(), "{name}");
        assert!(!tap.has(MARKER) && !tap.has("MARKER-9c1e"), "{name}");
    }
}

/// AUTH-007: what is pushed is shown when it comes from the listed server, by this edge, and from nobody else.
#[test]
fn auth_007_the_server_is_authenticated() {
    let world = world("auth-007", "");
    let (mut phone, path) = phone(&world, "udp");
    // The listed one.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"key\"");
    assert!(phone.until("\"push\":").contains(MARKER));
    // Another server of the core; whoever asks from the UE side.
    assert_eq!(world.push("other", &path), (false, "403 Forbidden".into()));
    assert_eq!(world.refused("PushServerUnknown"), 1);
    assert_eq!(
        world.rogue_pushes("application/vnd.oma.push", "mail"),
        (false, "403 Forbidden".into())
    );
    assert_eq!(world.refused("DirectionForbidden"), 1);

    // A message under the key of another NAF, that alice's card has made too; and the key of that NAF itself.
    let (gpl, gpi) = {
        let other = World::start_as("naf.example.org", "auth-007-other", "", |_| {});
        other.folder.write("mail", MARKER);
        let mut there = Program::start(&mut other.phone("udp"));
        there.until("\"status\":200");
        assert_eq!(other.push("mail", &other.registrar.path()), (true, "200 OK".into()));
        there.until("\"push\":\"shown\"");
        (other.wire.tap.down_with(GPL), other.wire.tap.down_with(GPI))
    };
    world.wire.forge(&numbered(&gpl, 1));
    let said = phone.until("\"push\":");
    assert!(said.contains("AssociationUnknown"), "{said}");
    world.wire.forge(&numbered(&gpi, 2));
    let said = phone.until("\"push\":");
    assert!(said.contains("\"discarded\""), "{said}");

    // From the edge's own address, as far as the phone can see, with nothing that proves anything.
    let own = world.wire.tap.down_with(GPL);
    let head = String::from_utf8_lossy(&own[..own.len() - body(&own).len()]).into_owned();
    let clear = head
        .replace(&format!("Content-Length: {}", body(&own).len()), "Content-Length: 0")
        .replace(GPL, "application/vnd.oma.push");
    world.wire.forge(&numbered(clear.as_bytes(), 3));
    let said = phone.until("\"push\":");
    assert!(said.contains("Unprotected"), "{said}");
    // The next rightful one still comes.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    assert!(phone.until("\"push\":").contains(MARKER));
}

//! B.1, push enabler security: a subscriber receives only what the rightful initiator sent, encrypted; what sets the channel up
//! is pushed too; what is not authenticated is discarded. SEC-004, AUTH-007, CONF-003.

use crate::programs::{Program, metric};
use crate::pushes::{World, again, body};

const MARKER: &str = "MARKER-7f3a: two new mails from carol";

#[test]
fn b_1_push_enabler_security() {
    let world = World::start("b-1", "", |_| {});
    let page = world.page;
    world.folder.write("mail", MARKER);

    // 1. A phone on TLS: delivered in the flow.
    let mut phone = Program::start(&mut world.phone("tls"));
    phone.until("\"status\":200");
    let path = world.registrar.path();
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    let shown = phone.until("\"push\":\"shown\"");
    assert!(shown.contains(MARKER) && shown.contains("\"naf\":null"), "{shown}");
    drop(phone);

    // 2. A phone on UDP: a key first, then the push, wrapped under it.
    let mut phone = Program::start(&mut world.phone("udp"));
    phone.until("\"status\":200");
    let path = world.registrar.path();
    let row = |state: &str| format!("sipward_push_associations{{state=\"{state}\"}}");
    assert_eq!(metric(page, &row("confirmed")), 0);
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    let key = phone.until("\"push\":");
    assert!(key.contains("\"push\":\"key\"") && key.contains("edge.example.net"), "{key}");
    let shown = phone.until("\"push\":\"shown\"");
    assert!(shown.contains(MARKER) && shown.contains("edge.example.net"), "{shown}");
    assert_eq!(metric(page, &row("confirmed")), 1, "its answer brought a receipt");
    assert_eq!(metric(page, &row("pending")), 0);
    let gpi = world.wire.tap.down_with("application/vnd.3gpp.gba.gpi");
    let gpl = world.wire.tap.down_with("application/vnd.sipward.gpl");
    // The next one needs no other key.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"shown\"");
    assert_eq!(metric(page, "sipward_push_total{event=\"made\"}"), 1);
    assert_eq!(metric(page, "sipward_push_total{event=\"wrapped\"}"), 2);

    // 3. Both kinds from the UE side.
    world.folder.write("gpi", body(&gpi));
    world.folder.write("gpl", body(&gpl));
    for (kind, file) in
        [("application/vnd.3gpp.gba.gpi", "gpi"), ("application/vnd.sipward.gpl", "gpl")]
    {
        assert_eq!(world.rogue_pushes(kind, file), (false, "403 Forbidden".into()), "{kind}");
    }
    assert_eq!(world.refused("DirectionForbidden"), 2);

    // 4. What was recorded is sent again, as it was and as new requests; then what is altered, and what is in the clear.
    world.wire.forge(&gpi);
    world.wire.forge(&gpl);
    for (octets, why) in [(again(&gpi, 10), "ChallengeLives"), (again(&gpl, 10), "Replayed")] {
        world.wire.forge(&octets);
        let said = phone.until("\"push\":");
        assert!(said.contains("\"discarded\"") && said.contains(why), "{said}");
    }
    let mut altered = again(&gpi, 11);
    altered[gpi.len() - body(&gpi).len() + 2] ^= 1;
    world.wire.forge(&altered);
    assert!(phone.until("\"push\":").contains("NetworkNotOurs"));
    let clear = String::from_utf8_lossy(&gpl[..gpl.len() - body(&gpl).len()]).into_owned();
    let length = format!("Content-Length: {}", body(&gpl).len());
    let clear = clear
        .replace(&length, "Content-Length: 0")
        .replace("application/vnd.sipward.gpl", "application/vnd.oma.push")
        .replace("branch=z9hG4bK", "branch=z9hG4bKf");
    world.wire.forge(clear.as_bytes());
    assert!(phone.until("\"push\":").contains("Unprotected"));

    // 5. An initiator that is not listed.
    assert_eq!(world.push("other", &path), (false, "403 Forbidden".into()));
    assert_eq!(world.refused("PushServerUnknown"), 1);

    // The next rightful one still comes; the marker went over no wire.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"shown\"");
    assert_eq!(world.refused("DirectionForbidden"), 2);
    for (name, tap) in [
        ("udp", &world.wire.tap),
        ("rogue", &world.rogues.tap),
        ("tls", &world.secure.tap),
        ("core", &world.core.tap),
    ] {
        assert!(!tap.seen().is_empty(), "{name}");
        assert!(!tap.has(MARKER) && !tap.has("MARKER-7f3a"), "{name}");
    }
}

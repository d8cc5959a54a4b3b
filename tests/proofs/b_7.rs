//! B.7, network initiated access: a push tells a device to connect; it first asks home whether the push is genuine.

use std::net::{SocketAddr, TcpListener};

use crate::programs::{Program, ask, sipward};
use crate::pushes::{ALICE, World};

const MORE: &str = r#"
[https]
listen = "127.0.0.1:0"
tls = { certificate = "edge.pem", key = "edge.key", ca = "ca.pem" }
"#;

/// Whether home says that this was pushed to that device.
fn verifies(world: &World, home: SocketAddr, who: &str, body: &str) -> (bool, String) {
    let mut command = sipward();
    command
        .args(["ue", "verify", "--home", &home.to_string()])
        .arg(world.file(body))
        .arg("--keys")
        .arg(world.file(&format!("{who}.keys")));
    ask(&mut command)
}

/// What a device does with a push: it connects if home says that it is genuine, and else does nothing.
fn acts(world: &World, home: SocketAddr, body: &str) -> bool {
    if !verifies(world, home, "alice", body).0 {
        return false;
    }
    let mut command = sipward();
    command
        .args(["ue", "register", "--identity", ALICE, "--transport", "psk-tls"])
        .args(["--edge", &world.secure.address.to_string()])
        .arg("--keys")
        .arg(world.file("alice.keys"));
    assert_eq!(ask(&mut command), (true, "200 OK".into()));
    world.registrar.path();
    true
}

#[test]
fn b_7_network_initiated_access() {
    let world = World::start("b-7", MORE, |_| {});
    let home = world.https.expect("a door");
    world.folder.write("mail", "connect to edge.example.net");
    world.folder.write("forged", "connect to rogue.example.net");
    let mut phone = Program::start(&mut world.phone("udp"));
    phone.until("\"status\":200");
    let path = world.registrar.path();
    let not_genuine = (false, "not genuine".to_owned());

    // Before anything was pushed; then what was, and what came by a side channel.
    assert_eq!(verifies(&world, home, "alice", "mail"), not_genuine);
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"shown\"");
    assert!(!acts(&world, home, "forged"), "nobody let that through");
    // Another device asks about alice's; that does not use it up.
    assert_eq!(verifies(&world, home, "rogue", "mail"), not_genuine);
    assert!(acts(&world, home, "mail"), "it connects");
    // Once.
    assert!(!acts(&world, home, "mail"), "the same again");

    // What was refused is not genuine either.
    assert!(!world.push("other", &path).0);
    assert!(!acts(&world, home, "mail"));

    // The answer is lost: nothing is done.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = silent.local_addr().unwrap();
    drop(silent);
    assert!(!acts(&world, nowhere, "mail"));
    assert!(acts(&world, home, "mail"), "and it can be asked again");
}

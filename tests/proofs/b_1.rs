//! B.1, push enabler security: a subscriber receives only what the rightful initiator sent, encrypted; what sets the channel up
//! is pushed too; what is not authenticated is discarded. SEC-004, AUTH-007, CONF-003.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::authority::Authority;
use crate::programs::{Folder, Program, Registrar, ask, metric, sipward};
use crate::wires::{Connections, Datagrams};

pub(crate) const MARKER: &str = "MARKER-7f3a: two new mails from carol";
const ALICE: &str = "sip:alice@example.net";

const SUBSCRIBERS: &str = r#"
[[subscriber]]
impi = "alice@ims.example.net"
k = "465b5ce8b199b49faa5f0a2ee238a6bc"
opc = "cd63cb71954a9f4e48a5994e37a02baf"
impus = ["sip:alice@example.net"]
[[subscriber]]
impi = "rogue@ims.example.net"
k = "0396eb317b6d1c36f19c1c84cd6ffd16"
opc = "53c15671c60a4b731c55b4a441c0bde2"
impus = ["sip:rogue@example.net"]
"#;

fn config(registrar: &Registrar) -> String {
    let pair = "certificate = \"edge.pem\", key = \"edge.key\"";
    let server = |name: &str| {
        format!(
            "[[peer]]\nname = \"{name}\"\nmembers = [\"sip:127.0.0.1:9;transport=tls\"]\ntrust = \"certificate\"\n\
             identity = [\"{name}.example.net\"]\ntls = {{ ca = \"ca.pem\", {pair} }}\n"
        )
    };
    format!(
        r#"
[edge]
domains = ["example.net"]
[[listen]]
name = "ue"
side = "ue"
address = "127.0.0.1:0"
transports = ["udp"]
identity = "edge.example.net"
[[listen]]
name = "ue-tls"
side = "ue"
address = "127.0.0.1:0"
transports = ["tls"]
identity = "edge.example.net"
tls = {{ {pair} }}
[[listen]]
name = "core"
side = "core"
address = "127.0.0.1:0"
transports = ["udp"]
identity = "127.0.0.1"
[[listen]]
name = "core-tls"
side = "core"
address = "127.0.0.1:0"
transports = ["tls"]
identity = "edge.example.net"
tls = {{ {pair}, client_auth = "require", client_ca = "ca.pem" }}
[[peer]]
name = "registrar"
members = ["sip:{};transport=udp"]
trust = "address"
{}{}[[route]]
domain = "example.net"
peer = "registrar"
[digest]
algorithms = ["SHA-256"]
[naf]
fqdn = "edge.example.net"
[bsf]
name = "bsf.example.net"
listen = "127.0.0.1:0"
subscribers = "subscribers.toml"
[enabler.push.servers]
"mms.ua" = ["mail"]
[telemetry]
metrics = "127.0.0.1:0"
"#,
        registrar.address,
        server("mail"),
        server("other"),
    )
}

/// Where everything is.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) wire: Datagrams,
    rogues: Datagrams,
    secure: Connections,
    core: Connections,
    pub(crate) registrar: Registrar,
    pub(crate) page: SocketAddr,
    _edge: Program,
}

impl World {
    /// The edge, with keys for alice and for a rogue.
    pub(crate) fn start(name: &str) -> Self {
        let (authority, folder, registrar) =
            (Authority::new(), Folder::new(name), Registrar::start());
        for name in ["edge", "mail", "other"] {
            folder.certify(&authority, name, &format!("{name}.example.net"));
        }
        folder.write("ca.pem", authority.pem());
        folder.write("subscribers.toml", SUBSCRIBERS);
        folder.write("mail", MARKER);
        let file = folder.write("sipward.toml", config(&registrar));
        let mut edge = Program::start(sipward().arg("serve").arg("-c").arg(file));
        let [ue, ue_tls, core_tls] = ["ue", "ue-tls", "core-tls"].map(|name| edge.address(name));
        let (bsf, page) = (edge.address("bootstrapping server"), edge.address("page of metrics"));
        let world = Self {
            wire: Datagrams::to(ue),
            rogues: Datagrams::to(ue),
            secure: Connections::to(ue_tls),
            core: Connections::to(core_tls),
            _edge: edge,
            page,
            folder,
            registrar,
        };
        for name in ["alice", "rogue"] {
            let mut command = sipward();
            command
                .args(["ue", "bootstrap", "--bsf", &bsf.to_string()])
                .args(["--impi", &format!("{name}@ims.example.net")])
                .arg("--subscribers")
                .arg(world.file("subscribers.toml"))
                .arg("--keys")
                .arg(world.file(&format!("{name}.keys")));
            let (good, said) = ask(&mut command);
            assert!(good, "{said}");
        }
        world
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// A phone of alice's that stays, with her card.
    pub(crate) fn phone(&self, transport: &str) -> Command {
        let edge = if transport == "tls" { self.secure.address } else { self.wire.address };
        let mut command = sipward();
        command
            .args([
                "ue",
                "register",
                "--json",
                "--reg-id",
                "1",
                "--stay",
                "600",
                "--identity",
                ALICE,
            ])
            .args(["--transport", transport, "--edge", &edge.to_string()])
            .args(["--impi", "alice@ims.example.net"])
            .arg("--ca")
            .arg(self.file("ca.pem"))
            .arg("--keys")
            .arg(self.file("alice.keys"))
            .arg("--card")
            .arg(self.file("subscribers.toml"))
            .arg("--instance")
            .arg(self.file(&format!("{transport}.instance")));
        command
    }

    /// A push of the server that has the certificate `name`, by that way.
    pub(crate) fn push(&self, name: &str, path: &str) -> (bool, String) {
        let mut command = sipward();
        command
            .args(["ue", "push", "--transport", "tls", "--application", "mms.ua", ALICE])
            .args(["--edge", &self.core.address.to_string(), "--route", path])
            .args(["--identity", &format!("sip:{name}.example.net")])
            .arg("--ca")
            .arg(self.file("ca.pem"))
            .arg("--certificate")
            .arg(self.file(&format!("{name}.pem")))
            .arg("--key")
            .arg(self.file(&format!("{name}.key")))
            .arg("--body")
            .arg(self.file("mail"));
        ask(&mut command)
    }

    /// The same octets from the UE side, with a subscriber's key.
    fn rogue_pushes(&self, kind: &str, body: &str) -> (bool, String) {
        let mut command = sipward();
        command
            .args(["ue", "push", ALICE, "--identity", "sip:rogue@example.net"])
            .args(["--edge", &self.rogues.address.to_string(), "--type", kind])
            .arg("--keys")
            .arg(self.file("rogue.keys"))
            .arg("--body")
            .arg(self.file(body));
        ask(&mut command)
    }
}

/// The body of a datagram.
pub(crate) fn body(datagram: &[u8]) -> &[u8] {
    let end = datagram.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    &datagram[end + 4..]
}

/// The same request as a new one: with another branch, by the digit at that place.
fn again(datagram: &[u8], place: usize) -> Vec<u8> {
    let branch = b";branch=z9hG4bK";
    let at = datagram.windows(branch.len()).position(|part| part == branch).expect("a branch");
    let mut altered = datagram.to_vec();
    let digit = &mut altered[at + branch.len() + place];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    altered
}

#[test]
fn b_1_push_enabler_security() {
    let world = World::start("b-1");
    let page = world.page;

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
    let refused =
        |name: &str| metric(page, &format!("sipward_refusals_total{{refusal=\"{name}\"}}"));
    assert_eq!(refused("DirectionForbidden"), 2);

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
    assert_eq!(refused("PushServerUnknown"), 1);

    // The next rightful one still comes; the marker went over no wire.
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"shown\"");
    assert_eq!(refused("DirectionForbidden"), 2);
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

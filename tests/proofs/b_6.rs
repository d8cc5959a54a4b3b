//! B.6, AUTH-002 c, V-144, a distributed enabler: home makes a key for a device and the part in another network, and both prove themselves with it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use sipward::authentication::digest::Hash;
use sipward::client::ue::{Ue, UeSettings};
use sipward::keys::psk::{PskClient, PskKey, PskUse};
use sipward::transport::Transport;

use crate::authority::Authority;
use crate::home::wait;
use crate::programs::{Folder, PATIENCE, Program, Registrar, ask, sipward};
use crate::pushes::{ALICE, SUBSCRIBERS};
use crate::secure::Secure;
use crate::wires::Connections;

/// An edge with a listener that takes shared keys, and a door of HTTPS.
fn edge(domain: &str, name: &str, certificate: &str, core: &Registrar, more: &str) -> String {
    format!(
        r#"
[edge]
domains = ["{domain}"]
[[listen]]
name = "ue"
side = "ue"
address = "127.0.0.1:0"
transports = ["tls"]
identity = "{name}"
tls = {{ certificate = "{name}.pem", key = "{name}.key", psk = true }}
[[listen]]
name = "core"
side = "core"
address = "127.0.0.1:0"
transports = ["udp"]
identity = "127.0.0.1"
[[peer]]
name = "core"
members = ["sip:{};transport=udp"]
trust = "address"
[digest]
algorithms = ["SHA-256"]
[https]
listen = "127.0.0.1:0"
tls = {{ certificate = "{certificate}.pem", key = "{certificate}.key", ca = "ca.pem" }}
{more}
"#,
        core.address
    )
}

struct World {
    folder: Folder,
    home: SocketAddr,
    visited: SocketAddr,
}

impl World {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// Asks home for a key.
    fn visit(&self, who: &str, server: &str, more: &[&str]) -> (bool, String) {
        let mut command = sipward();
        command
            .args(["ue", "visit", server, "--home", &self.home.to_string()])
            .args(more)
            .arg("--keys")
            .arg(self.file(&format!("{who}.keys")))
            .arg("--key-file")
            .arg(self.file(&format!("{who}.visited")));
        ask(&mut command)
    }

    /// Asks in the other network where somebody is, with that key: what alice is told.
    fn asks_where(&self, identity: &str, key: &str) -> Option<u16> {
        let octets: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&key[2 * at..][..2], 16).unwrap()).collect();
        let key = PskKey::new(&octets).unwrap();
        let settings = UeSettings {
            edge: self.visited,
            edge_name: "visited.example.org".into(),
            transport: Transport::Tls,
            identity: ALICE.into(),
            credentials: Vec::new(),
            floor: Hash::Sha256,
            lists: None,
            tls: None,
            psk: Some(PskClient { identity: identity.to_owned(), key, of: PskUse::Tls13 }),
            trust: None,
            shows: None,
            ws: Default::default(),
            sec_agree: false,
            local: None,
            trace: None,
        };
        wait(async {
            let ue = Ue::connect(settings).await.unwrap();
            let draft = ue.draft("SUBSCRIBE", "sip:bob@places.example.org").await.unwrap();
            ue.send(draft.location()).await.unwrap().status()
        })
    }

    /// Uses it in the other network.
    fn uses(&self, identity: &str, name: &str, what: &[&str]) -> (bool, String) {
        let mut command = sipward();
        command
            .arg("ue")
            .args(what)
            .args(["--identity", ALICE, "--transport", "psk-tls", "--name", name])
            .args(["--edge", &self.visited.to_string(), "--psk-identity", identity])
            .arg("--psk-file")
            .arg(self.file("alice.visited"));
        ask(&mut command)
    }
}

#[test]
fn b_6_distributed_enabler() {
    let (authority, folder) = (Authority::new(), Folder::new("b-6"));
    for name in ["edge.example.net", "visited.example.org", "localhost", "location.example.org"] {
        folder.certify(&authority, name, name);
    }
    folder.write("ca.pem", authority.pem());
    folder.write("subscribers.toml", SUBSCRIBERS);
    let (core, abroad) = (Registrar::start(), Registrar::start());
    let places = Secure::start(&authority, &folder, "location.example.org");
    let pair = "certificate = \"visited.example.org.pem\", key = \"visited.example.org.key\"";
    let more = format!(
        "[[https.home]]\nhost = \"edge.example.net\"\ndomains = [\"example.net\"]\n\
         [[peer]]\nname = \"location\"\nmembers = [\"sip:{};transport=tls\"]\ntrust = \"certificate\"\n\
         identity = [\"location.example.org\"]\nenabler = \"locsip\"\ntls = {{ ca = \"ca.pem\", {pair} }}\n\
         [[listen]]\nname = \"core-tls\"\nside = \"core\"\naddress = \"127.0.0.1:0\"\ntransports = [\"tls\"]\n\
         identity = \"visited.example.org\"\ntls = {{ {pair}, client_auth = \"require\", client_ca = \"ca.pem\" }}\n\
         [[route]]\ndomain = \"places.example.org\"\npeer = \"location\"\n",
        places.address
    );
    let text = edge("example.org", "visited.example.org", "localhost", &abroad, &more);
    let file = folder.write("visited.toml", text);
    let mut there = Program::start(sipward().arg("serve").arg("-c").arg(file));
    let (visited, door) = (there.address("ue"), there.address("HTTPS"));
    let between = Connections::to(door);
    let port = between.address.port();
    let more = format!(
        "[[https.visited]]\nserver = \"visited.example.org\"\nat = \"localhost:{port}\"\nlifetime = \"60s\"\n\
         [[https.visited]]\nserver = \"another.example.org\"\nat = \"localhost:{port}\"\n\
         [naf]\nfqdn = \"edge.example.net\"\n\
         [bsf]\nname = \"bsf.example.net\"\nlisten = \"127.0.0.1:0\"\nsubscribers = \"subscribers.toml\"\n"
    );
    let file = folder.write(
        "home.toml",
        edge("example.net", "edge.example.net", "edge.example.net", &core, &more),
    );
    let mut here = Program::start(sipward().arg("serve").arg("-c").arg(file));
    here.address("ue");
    let bsf = here.address("bootstrapping server");
    let way = Connections::to(here.address("HTTPS"));
    for name in ["alice", "rogue"] {
        let mut command = sipward();
        command
            .args(["ue", "bootstrap", "--bsf", &bsf.to_string()])
            .args(["--impi", &format!("{name}@ims.example.net")])
            .arg("--subscribers")
            .arg(folder.path("subscribers.toml"))
            .arg("--keys")
            .arg(folder.path(&format!("{name}.keys")));
        let (good, said) = ask(&mut command);
        assert!(good, "{said}");
    }
    let world = World { folder, home: way.address, visited };

    // A part that is not listed, and one that knows itself by another name: no key.
    let (good, said) = world.visit("alice", "elsewhere.example.org", &[]);
    assert!(!good && said.contains("403"), "{said}");
    assert!(between.tap.seen().is_empty(), "nobody was asked");
    let (good, said) = world.visit("alice", "another.example.org", &[]);
    assert!(!good && said.contains("502"), "{said}");
    assert!(!world.file("alice.visited").exists());

    // Home asks the visited part, and tells the device.
    let (good, said) = world.visit("alice", "visited.example.org", &[]);
    assert!(good, "{said}");
    let identity = said.split(' ').next().unwrap().to_owned();
    assert!(identity.starts_with("visited;") && identity.ends_with("@edge.example.net"), "{said}");
    let key = fs::read_to_string(world.file("alice.visited")).unwrap();
    assert_eq!(key.len(), 64);

    // Both prove themselves with it; the visited part knows who it is.
    let register: &[&str] = &["register"];
    let good = (true, "200 OK".to_owned());
    assert_eq!(world.uses(&identity, "visited.example.org", register), good);
    abroad.path();
    let write: &[&str] = &["message", "sip:bob@example.org", "hello"];
    assert_eq!(world.uses(&identity, "visited.example.org", write), good);

    // A service there that asks for a secure flow: where somebody is.
    assert_eq!(world.asks_where(&identity, &key), Some(200));
    let heard = places.heard();
    let asserted = "P-Asserted-Identity: <sip:alice@example.net>";
    assert!(heard.len() == 1 && heard[0].starts_with("SUBSCRIBE "), "{heard:?}");
    assert!(heard[0].contains(asserted), "{heard:?}");

    // For another server, under another name, over another version: the handshake fails as with a wrong key.
    let turned = if identity.starts_with("visited;0") { "visited;1" } else { "visited;0" };
    let other = format!("{turned}{}", &identity["visited;0".len()..]);
    for (identity, name, what) in [
        (&identity, "edge.example.net", register),
        (&other, "visited.example.org", register),
        (&identity, "visited.example.org", &["register", "--psk-suite", "PSK-AES128-GCM-SHA256"]),
    ] {
        let (good, said) = world.uses(identity, name, what);
        assert!(!good && said.contains("does not take this key"), "{name}: {said}");
    }

    // Its owner is told it again; to anybody else there is none of that name.
    let again = &["--again", &*identity][..];
    assert!(world.visit("alice", "visited.example.org", again).0);
    assert_eq!(fs::read_to_string(world.file("alice.visited")).unwrap(), key);
    let (good, said) = world.visit("rogue", "visited.example.org", again);
    assert!(!good && said.contains("404"), "{said}");
    assert!(!world.file("rogue.visited").exists());

    // Its time is over: who stands on it is put out, and no handshake is made with it any more.
    let mut stays = sipward();
    stays
        .args(["ue", "register", "--json", "--reg-id", "1", "--stay", "600"])
        .args(["--identity", ALICE, "--transport", "psk-tls", "--name", "visited.example.org"])
        .args(["--edge", &world.visited.to_string(), "--psk-identity", &identity])
        .arg("--psk-file")
        .arg(world.file("alice.visited"))
        .arg("--instance")
        .arg(world.file("alice.instance"));
    let mut phone = Program::start(&mut stays);
    phone.until("\"status\":200");
    let deadline = Instant::now() + PATIENCE * 2;
    let over = || {
        let (good, said) = world.uses(&identity, "visited.example.org", &["options", ALICE]);
        !good && said.contains("does not take this key")
    };
    while !over() {
        assert!(Instant::now() < deadline, "it never ends");
    }
    phone.until("lost");

    // The key went over no wire in the clear.
    for (name, tap) in [("between", &between.tap), ("way", &way.tap)] {
        assert!(!tap.seen().is_empty(), "{name}");
        for part in [&*key, &*identity, "alice"] {
            assert!(!tap.has(part), "{name}: {part}");
        }
    }
}

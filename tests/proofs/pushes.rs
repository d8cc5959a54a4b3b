//! The stage of the proofs about pushes: an edge with its bootstrapping server and two servers that push, alice's phone, a rogue.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::authority::Authority;
use crate::programs::{Folder, Program, Registrar, ask, metric, sipward};
use crate::wires::{Connections, Datagrams};

/// The name that phones dial.
pub(crate) const EDGE: &str = "edge.example.net";
pub(crate) const ALICE: &str = "sip:alice@example.net";

pub(crate) const SUBSCRIBERS: &str = r#"
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

/// The edge's own bootstrapping server.
const OWN: &str = r#"
[bsf]
name = "bsf.example.net"
listen = "127.0.0.1:0"
subscribers = "subscribers.toml"
"#;

/// How two processes speak to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Nbsp_GBA.
    Nbsp,
    /// Zn and Zpn.
    Diameter,
}

impl Speech {
    /// What the server is called where it listens, and in its certificate.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Nbsp => ("Nbsp_GBA", "localhost"),
            Self::Diameter => ("Diameter", "bsf.example.net"),
        }
    }

    /// A bootstrapping server of its own process, whose list is `list`; the edge may push.
    fn apart(self, list: &str, at: [SocketAddr; 2]) -> String {
        let [ub, link] = at;
        let tls = "tls = { certificate = \"bsf.pem\", key = \"bsf.key\", ca = \"ca.pem\" }";
        let door = match self {
            Self::Nbsp => format!("[nbsp]\nlisten = \"{link}\"\n{tls}\n[[nbsp.naf]]\n"),
            Self::Diameter => format!(
                "[diameter]\nidentity = \"bsf.example.net\"\nrealm = \"home.example.net\"\nlisten = \"{link}\"\n\
                 {tls}\n[[diameter.peer]]\nasks = [\"zn\", \"zpn\"]\n"
            ),
        };
        format!(
            r#"
[bsf]
name = "bsf.example.net"
listen = "{ub}"
subscribers = "{list}"
{door}
host = "edge.example.net"
fqdns = ["edge.example.net"]
ua_ids = ["0300000003", "0100000005"]
sees_impi = true
"#
        )
    }

    /// What makes the edge ask it.
    fn asking(self, link: SocketAddr) -> String {
        let tls = "tls = { certificate = \"edge.pem\", key = \"edge.key\", ca = \"ca.pem\" }";
        let server = match self {
            Self::Nbsp => {
                format!("[nbsp]\n{tls}\n[[nbsp.server]]\nhosts = [\"localhost:{}\"]\n", link.port())
            }
            Self::Diameter => format!(
                "[diameter]\nidentity = \"edge.example.net\"\nrealm = \"example.net\"\n{tls}\n[[diameter.peer]]\n\
                 host = \"bsf.example.net\"\nrealm = \"home.example.net\"\nserves = [\"zn\", \"zpn\"]\naddress = \"{link}\"\n"
            ),
        };
        format!("{server}bsf = [\"bsf.example.net\"]\npush = [\"ims.example.net\"]\n")
    }
}

fn config(registrar: &Registrar, naf: &str, keys: &str, more: &str) -> String {
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
tls = {{ {pair}, psk = true }}
[[listen]]
name = "ue-dtls"
side = "ue"
address = "127.0.0.1:0"
transports = ["dtls"]
identity = "edge.example.net"
tls = {{ {pair} }}
[[listen]]
name = "agree"
side = "ue"
address = "127.0.0.1:0"
transports = ["udp"]
identity = "edge.example.net"
sec_agree = "accept"
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
fqdn = "{naf}"
{keys}
[enabler.push.servers]
"mms.ua" = ["mail"]
[telemetry]
metrics = "127.0.0.1:0"
{more}
"#,
        registrar.address,
        server("mail"),
        server("other"),
    )
}

/// Where everything is.
pub(crate) struct World {
    pub(crate) edge: Program,
    pub(crate) page: SocketAddr,
    /// The door for devices, if there is one.
    pub(crate) https: Option<SocketAddr>,
    /// A door of the edge where clients agree with it on what protects them.
    pub(crate) agree: SocketAddr,
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
    pub(crate) wire: Datagrams,
    pub(crate) rogues: Datagrams,
    pub(crate) secure: Connections,
    pub(crate) dtls: Datagrams,
    /// The bootstrapping server, where it is a process of its own.
    pub(crate) apart: Option<Apart>,
    /// The name that alice's phone dials.
    naf: String,
    pub(crate) core: Connections,
    pub(crate) registrar: Registrar,
}

/// A bootstrapping server that the edge asks.
pub(crate) struct Apart {
    pub(crate) program: Program,
    /// Between the two servers.
    pub(crate) link: Connections,
    at: [SocketAddr; 2],
    speech: Speech,
}

impl Apart {
    fn start(folder: &Folder, speech: Speech) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (program, at) = Self::run(folder, "subscribers.toml", [any, any], speech);
        Self { program, link: Connections::to(at[1]), at, speech }
    }

    fn run(
        folder: &Folder,
        list: &str,
        at: [SocketAddr; 2],
        speech: Speech,
    ) -> (Program, [SocketAddr; 2]) {
        let file = folder.write("bsf.toml", speech.apart(list, at));
        let mut program = Program::start(sipward().arg("serve").arg("-c").arg(file));
        let at = ["bootstrapping server", speech.names().0].map(|name| program.address(name));
        (program, at)
    }

    /// Starts it again in its place, with that list, after its end; until the edge, whose page that is, may ask it.
    pub(crate) fn again(&mut self, folder: &Folder, list: &str, page: SocketAddr) {
        self.program = Self::run(folder, list, self.at, self.speech).0;
        // Over Nbsp_GBA it is dialled when it is asked.
        let open = || metric(page, "sipward_diameter_peers{interface=\"zn\"}");
        while self.speech == Speech::Diameter && open() == 0 {}
    }
}

impl World {
    /// An edge with `more` in its configuration, and keys of alice and the rogue; `before` writes files that are named there.
    pub(crate) fn start(name: &str, more: &str, before: impl FnOnce(&Folder)) -> Self {
        Self::start_as(EDGE, name, more, before)
    }

    /// The same, of a NAF of that name.
    pub(crate) fn start_as(
        naf: &str,
        name: &str,
        more: &str,
        before: impl FnOnce(&Folder),
    ) -> Self {
        Self::build(naf, name, None, more, before)
    }

    /// An edge whose bootstrapping server is another process.
    pub(crate) fn start_apart(name: &str, speech: Speech) -> Self {
        Self::build(EDGE, name, Some(speech), "", |_| {})
    }

    fn build(
        naf: &str,
        name: &str,
        apart: Option<Speech>,
        more: &str,
        before: impl FnOnce(&Folder),
    ) -> Self {
        let (authority, folder) = (Authority::new(), Folder::new(name));
        let registrar = Registrar::start();
        for name in ["edge", "mail", "other", "dm"] {
            folder.certify(&authority, name, &format!("{name}.example.net"));
        }
        folder.write("ca.pem", authority.pem());
        folder.write("subscribers.toml", SUBSCRIBERS);
        before(&folder);
        let apart = apart.map(|speech| {
            folder.certify(&authority, "bsf", speech.names().1);
            Apart::start(&folder, speech)
        });
        let asking = |apart: &Apart| apart.speech.asking(apart.link.address);
        let keys = apart.as_ref().map_or(OWN.to_owned(), asking);
        let file = folder.write("sipward.toml", config(&registrar, naf, &keys, more));
        let mut edge = Program::start(sipward().arg("serve").arg("-c").arg(file));
        let [ue, ue_tls, ue_dtls, agree, core_tls] =
            ["ue", "ue-tls", "ue-dtls", "agree", "core-tls"].map(|name| edge.address(name));
        let bsf = match &apart {
            Some(apart) => apart.at[0],
            None => edge.address("bootstrapping server"),
        };
        let https = more.contains("[https]").then(|| edge.address("HTTPS"));
        let page = edge.address("page of metrics");
        let world = Self {
            edge,
            page,
            https,
            agree,
            wire: Datagrams::to(ue),
            rogues: Datagrams::to(ue),
            secure: Connections::to(ue_tls),
            dtls: Datagrams::to(ue_dtls),
            apart,
            naf: naf.to_owned(),
            core: Connections::to(core_tls),
            folder,
            authority,
            registrar,
        };
        for name in ["alice", "rogue"] {
            let mut command = sipward();
            command
                .args(["ue", "bootstrap", "--bsf", &bsf.to_string()])
                .args(["--impi", &format!("{name}@ims.example.net"), "--naf", naf])
                .arg("--subscribers")
                .arg(world.file("subscribers.toml"))
                .arg("--keys")
                .arg(world.file(&format!("{name}.keys")));
            let (good, said) = ask(&mut command);
            assert!(good, "{said}");
        }
        world
    }

    /// How often the edge refused so.
    pub(crate) fn refused(&self, name: &str) -> u64 {
        metric(self.page, &format!("sipward_refusals_total{{refusal=\"{name}\"}}"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// A phone of alice's that stays, with her card.
    pub(crate) fn phone(&self, transport: &str) -> Command {
        let edge = match transport {
            "tls" => self.secure.address,
            "dtls" => self.dtls.address,
            _ => self.wire.address,
        };
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
            .args(["--impi", "alice@ims.example.net", "--name", &self.naf])
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
        self.push_to(ALICE, name, path)
    }

    /// The same to somebody.
    pub(crate) fn push_to(&self, to: &str, name: &str, path: &str) -> (bool, String) {
        ask(&mut self.pushing(to, name, path))
    }

    /// The command that does so.
    pub(crate) fn pushing(&self, to: &str, name: &str, path: &str) -> Command {
        let mut command = sipward();
        command
            .args(["ue", "push", "--transport", "tls", "--application", "mms.ua", to])
            .args(["--edge", &self.core.address.to_string(), "--route", path])
            .args(["--identity", &format!("sip:{name}.example.net")])
            .arg("--ca")
            .arg(self.file("ca.pem"))
            .arg("--certificate")
            .arg(self.file(&format!("{name}.pem")))
            .arg("--certificate-key")
            .arg(self.file(&format!("{name}.key")))
            .arg("--body")
            .arg(self.file("mail"));
        command
    }

    /// The same octets from the UE side, with a subscriber's key.
    pub(crate) fn rogue_pushes(&self, kind: &str, body: &str) -> (bool, String) {
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
pub(crate) fn again(datagram: &[u8], place: usize) -> Vec<u8> {
    let branch = b";branch=z9hG4bK";
    let at = datagram.windows(branch.len()).position(|part| part == branch).expect("a branch");
    let mut altered = datagram.to_vec();
    let digit = &mut altered[at + branch.len() + place];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    altered
}

/// The same request as a new one, each number another.
pub(crate) fn numbered(datagram: &[u8], number: usize) -> Vec<u8> {
    let branch = b";branch=z9hG4bK";
    let at = datagram.windows(branch.len()).position(|part| part == branch).expect("a branch");
    let (before, after) = datagram.split_at(at + branch.len());
    [before, format!("n{number}").as_bytes(), after].concat()
}

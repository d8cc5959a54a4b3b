//! A home network in two processes: the bootstrapping server, whose subscribers and sessions stand in a sealed store, and the
//! edge, which asks it for keys over Nbsp_GBA and has a store for keys that were carried to it. On each wire between them
//! and a phone stands an observer.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use sipward::authentication::digest::Hash;
use sipward::client::answer::Credential;
use sipward::client::bootstrap::{Bootstrapped, UbPlan};
use sipward::client::bootstrap_http;
use sipward::client::ue::{Ue, UeSettings};
use sipward::identity::Impi;
use sipward::keys::sqn::SqnWindow;
use sipward::keys::subscribers::file;
use sipward::keys::usim::Usim;
use sipward::keys::{NafId, UaId};
use sipward::transport::Transport;

use crate::authority::Authority;
pub(crate) use crate::programs::written;
use crate::programs::{Folder, Program, Registrar, hex, sipward};
use crate::wires::{Connections, Datagrams};

pub(crate) const ALICE: &str = "sip:alice@example.net";
/// The subscriber's key and operator's code: test set 1 of TS 35.208.
pub(crate) const SECRETS: [&str; 2] =
    ["465b5ce8b199b49faa5f0a2ee238a6bc", "cd63cb71954a9f4e48a5994e37a02baf"];
/// The password of an account beside the subscribers.
pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";

const IMPI: &str = "alice@ims.example.net";
pub(crate) const EDGE: &str = "edge.example.net";

/// Both servers, and everything around them.
pub(crate) struct Home {
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
    pub(crate) registrar: Registrar,
    pub(crate) bsf: Program,
    pub(crate) edge: Program,
    /// Between phones and the bootstrapping server.
    pub(crate) ub: Connections,
    /// Between the two servers.
    pub(crate) link: Connections,
    /// Between one phone and the edge.
    pub(crate) wire: Datagrams,
    /// The same, for TLS.
    pub(crate) secure: Connections,
    pub(crate) page: SocketAddr,
}

fn bsf() -> String {
    r#"
[bsf]
name = "bsf.example.net"
listen = "127.0.0.1:0"
[state]
file = "bsf.redb"
key_file = "bsf.state"
[nbsp]
listen = "127.0.0.1:0"
tls = { certificate = "bsf.pem", key = "bsf.key", ca = "ca.pem" }
[[nbsp.naf]]
host = "edge.example.net"
fqdns = ["edge.example.net"]
ua_ids = ["0300000003", "0100000007", "010001ccac"]
sees_impi = true
[telemetry]
log = "trace"
"#
    .to_owned()
}

/// The edge's; keys are asked for at `link`.
fn edge_with(registrar: &Registrar, link: &str) -> String {
    let pair = "certificate = \"edge.pem\", key = \"edge.key\"";
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
name = "core"
side = "core"
address = "127.0.0.1:0"
transports = ["udp"]
identity = "127.0.0.1"
[[peer]]
name = "registrar"
members = ["sip:{};transport=udp"]
trust = "address"
[[route]]
domain = "example.net"
peer = "registrar"
[authentication]
accounts = "accounts.toml"
[digest]
algorithms = ["SHA-256"]
[naf]
fqdn = "edge.example.net"
[nbsp]
tls = {{ {pair}, ca = "ca.pem" }}
[[nbsp.server]]
bsf = ["bsf.example.net"]
hosts = ["{link}"]
[state]
file = "edge.redb"
key_file = "edge.state"
[enabler.reg]
rate = "6000/min"
[telemetry]
log = "trace"
metrics = "127.0.0.1:0"
"#,
        registrar.address,
    )
}

impl Home {
    pub(crate) fn new(name: &str) -> Self {
        let (authority, folder, registrar) =
            (Authority::new(), Folder::new(name), Registrar::start());
        folder.certify(&authority, "edge", EDGE);
        folder.certify(&authority, "bsf", "localhost");
        folder.write("ca.pem", authority.pem());
        for (name, digit) in [("bsf.state", "5b"), ("edge.state", "ed")] {
            folder.write(name, digit.repeat(32));
        }
        let account = format!(
            "[[account]]\nusername = \"carol\"\nrealm = \"example.net\"\npassword = \"{PASSWORD}\"\n\
             identities = [\"sip:carol@example.net\"]\n"
        );
        folder.write("accounts.toml", account);
        folder.write("bsf.toml", bsf());
        folder.write("list.toml", list());
        let mut import = sipward();
        import.arg("subscriber").arg("--config").arg(folder.path("bsf.toml"));
        import.arg("import").arg(folder.path("list.toml"));
        assert!(import.output().unwrap().status.success());
        fs::remove_file(folder.path("list.toml")).unwrap();

        let mut bsf = Program::start_logged(&mut serve(&folder, "bsf"));
        let ub = Connections::to(bsf.address("bootstrapping server"));
        let link = Connections::to(bsf.address("Nbsp_GBA"));
        let at = format!("localhost:{}", link.address.port());
        folder.write("edge.toml", edge_with(&registrar, &at));
        let mut edge = Program::start_logged(&mut serve(&folder, "edge"));
        let [ue, ue_tls] = ["ue", "ue-tls"].map(|name| edge.address(name));
        let page = edge.address("page of metrics");
        let (wire, secure) = (Datagrams::to(ue), Connections::to(ue_tls));
        Self { folder, authority, registrar, bsf, edge, ub, link, wire, secure, page }
    }

    /// Makes a key at the bootstrapping server; the card has seen `seen` elsewhere.
    pub(crate) fn bootstrap(&self, seen: u64) -> Arc<Bootstrapped> {
        let subscriber = file::parse("card", &list()).unwrap().remove(0);
        let window = SqnWindow::default().with_seen([seen; 32]);
        let mut card = Usim::new(subscriber.algorithms.unwrap(), window);
        let plan = UbPlan::new(Impi::new(IMPI).unwrap(), "bsf.example.net");
        let done = wait(bootstrap_http::bootstrap(&plan, self.ub.address, &mut card, None));
        Arc::new(done.unwrap_or_else(|why| panic!("{why}")))
    }

    /// Of a phone on UDP with that credential.
    pub(crate) fn settings(&self, identity: &str, credential: Credential) -> UeSettings {
        UeSettings {
            edge: self.wire.address,
            edge_name: EDGE.into(),
            transport: Transport::Udp,
            identity: identity.into(),
            credentials: vec![credential],
            floor: Hash::Sha256,
            lists: None,
            tls: None,
            psk: None,
            trust: None,
            shows: None,
            ws: Default::default(),
            sec_agree: false,
            local: Some("127.0.0.1:0".parse().unwrap()),
            trace: None,
        }
    }

    /// Registers it: the status, or why there is none.
    pub(crate) fn register(&self, identity: &str, credential: Credential) -> Result<u16, String> {
        let settings = self.settings(identity, credential);
        wait(async {
            let ue = Ue::connect(settings).await.map_err(|why| why.to_string())?;
            let answer = ue.register(600).await.map_err(|why| why.to_string())?;
            Ok(answer.status().unwrap())
        })
    }

    /// The command of a phone that registers over TLS once, with the key in `more`.
    pub(crate) fn phone(&self, more: &[&str]) -> Command {
        let mut command = sipward();
        command.current_dir(self.folder.path("")).args(["ue", "register", "--identity", ALICE]);
        command.args(["--transport", "psk-tls", "--edge", &self.secure.address.to_string()]);
        command.args(more);
        command
    }

    /// What a command on the configuration of the edge says, and whether it was content.
    pub(crate) fn command(&self, words: &[&str]) -> (bool, String) {
        let mut command = sipward();
        let (first, rest) = words.split_first().unwrap();
        command.current_dir(self.folder.path("")).arg(first).args(["--config", "edge.toml"]);
        crate::programs::ask(command.args(rest))
    }
}

/// A server whose log goes to `NAME.log`.
pub(crate) fn serve(folder: &Folder, name: &str) -> Command {
    let mut command = sipward();
    command.current_dir(folder.path("")).args(["serve", "-c", &format!("{name}.toml")]);
    command.stderr(
        File::options()
            .create(true)
            .append(true)
            .open(folder.path(&format!("{name}.log")))
            .unwrap(),
    );
    command
}

/// A bootstrapped key, for the edge and SIP Digest.
pub(crate) fn for_sip(keys: &Arc<Bootstrapped>) -> Credential {
    Credential::Gba { keys: Arc::clone(keys), ua: UaId::SIP_DIGEST }
}

/// The key of a handshake at that host, in hex.
pub(crate) fn for_tls(keys: &Bootstrapped, host: &str, ua: UaId) -> String {
    hex(keys.naf_key(&NafId::new(host, ua)).unwrap().expose())
}

/// What is known of the key and of those made from it, octets as they are, in hex and in base64.
pub(crate) fn forms(keys: &Bootstrapped) -> Vec<(String, Vec<u8>)> {
    let naf = |ua| keys.naf_key(&NafId::new(EDGE, ua)).unwrap();
    let mut secrets = vec![("Ks".to_owned(), keys.ks.expose().to_vec())];
    for (name, ua) in [("Ks_NAF", UaId::SIP_DIGEST), ("Ks_NAF, TLS", UaId::SHARED_KEY_TLS13)] {
        secrets.push((name.to_owned(), naf(ua).expose().to_vec()));
    }
    for (name, digits) in [("K", SECRETS[0]), ("OPc", SECRETS[1])] {
        let octets = (0..16).map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap());
        secrets.push((name.to_owned(), octets.collect()));
    }
    secrets.into_iter().flat_map(|(name, octets)| written(&name, &octets)).collect()
}

fn list() -> String {
    format!(
        "[[subscriber]]\nimpi = \"{IMPI}\"\nk = \"{}\"\nopc = \"{}\"\nimpus = [\"{ALICE}\"]\n",
        SECRETS[0], SECRETS[1]
    )
}

/// Runs it to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

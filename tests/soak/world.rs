//! The servers, each a process or a thread of its own, and what is known of their secrets.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sipward::authentication::digest::Hash;
use sipward::client::answer::Credential;
use sipward::client::bootstrap::Bootstrapped;
use sipward::client::ue::UeSettings;
use sipward::demo::server::{Seen, SmallServer};
use sipward::keys::NafId;
use sipward::keys::UaId;
use sipward::keys::psk::{PskClient, PskKey, PskName, PskUse, Scheme};
use sipward::transport::{Transport, tls};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::authority::Authority;
use crate::ledger::Ledger;
use crate::mob::Overheard;
use crate::phones::Way;
use crate::programs::{Folder, Program, metrics, sipward};

pub(crate) const EDGE: &str = "edge.example.net";
pub(crate) const BSF: &str = "bsf.example.net";
/// The password of everybody who has one.
pub(crate) const PASSWORD: &str = "a pass-phrase that stands nowhere";
/// Callers, each beside a mate who is called.
pub(crate) const PEOPLE: usize = 16;
/// Files that the test may have open: what the mob holds, and more.
const FILES: u64 = 8192;
/// The suite of DTLS with a shared key.
const PSK_AES128_GCM_SHA256: u16 = 0x00a8;
/// Addresses at which nobody else is: what restarts there finds its port free.
const BSF_AT: &str = "127.0.0.2:0";
const CORE_AT: &str = "127.0.0.3:0";

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// K of a subscriber, in hex; all have one OPc.
fn k(number: usize) -> String {
    format!("{:032x}", 0x465b_5ce8_b199_b49f_aa5f_0a2e_e238_a600 + number as u128)
}

const OPC: &str = "cd63cb71954a9f4e48a5994e37a02baf";

/// A list with all of them.
pub(crate) fn list() -> String {
    let one = |number: usize| {
        format!(
            "[[subscriber]]\nimpi = \"{}@ims.example.net\"\nk = \"{}\"\nopc = \"{OPC}\"\nimpus = [\"{}\"]\n",
            user(number),
            k(number),
            address(number)
        )
    };
    (0..PEOPLE).map(one).collect()
}

pub(crate) fn user(number: usize) -> String {
    format!("user{number:02}")
}

pub(crate) fn address(number: usize) -> String {
    format!("sip:{}@example.net", user(number))
}

/// All of it.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
    pub(crate) ledger: Ledger,
    pub(crate) edge: Mutex<Program>,
    pub(crate) bsf: Mutex<Option<Program>>,
    core: Mutex<Option<Core>>,
    /// What cores have seen, that went.
    seen: Mutex<Vec<Arc<Seen>>>,
    pub(crate) ub: SocketAddr,
    /// UDP and TCP.
    pub(crate) clear: SocketAddr,
    /// TLS and DTLS.
    pub(crate) secure: SocketAddr,
    pub(crate) page: SocketAddr,
    pub(crate) bsf_page: SocketAddr,
    core_at: SocketAddr,
    /// Lines of processes that went.
    said: Mutex<Vec<(String, Vec<String>)>>,
    /// Of all phones, as octets.
    keys: Mutex<BTreeMap<String, Vec<u8>>>,
    /// A call that the mob knows of.
    pub(crate) overheard: Mutex<Option<Overheard>>,
    /// How much junk was sent by anybody.
    pub(crate) numbers: AtomicU32,
    /// Whether phones are to leave.
    pub(crate) over: AtomicBool,
    /// Whether those may leave who are called.
    pub(crate) nobody_calls: AtomicBool,
}

/// A core, until it is dropped.
struct Core {
    at: SocketAddr,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Core {
    fn start(at: SocketAddr) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = SmallServer::bind(at, [127, 0, 0, 1].into()).await.unwrap();
                tell.send((server.address().unwrap(), server.seen())).unwrap();
                tokio::select! {
                    () = server.run() => {}
                    _ = stopped => {}
                }
            });
        });
        let (at, seen) = told.recv().expect("a core");
        Self { at, seen, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn bsf(ub: &str, zn: &str, page: &str) -> String {
    format!(
        r#"
[bsf]
name = "bsf.example.net"
listen = "{ub}"
[state]
file = "bsf.redb"
key_file = "bsf.state"
[diameter]
identity = "bsf.example.net"
realm = "home.example.net"
listen = "{zn}"
tls = {{ certificate = "bsf.pem", key = "bsf.key", ca = "ca.pem" }}
[[diameter.peer]]
host = "edge.example.net"
asks = "zn"
fqdns = ["edge.example.net"]
ua_ids = ["0300000003", "0100000007", "01000100a8"]
sees_impi = true
[telemetry]
metrics = "{page}"
"#
    )
}

fn edge(core: SocketAddr, zn: SocketAddr, rate: &str) -> String {
    format!(
        r#"
[edge]
domains = ["example.net"]
[[listen]]
name = "ue"
side = "ue"
address = "127.0.0.1:0"
transports = ["udp", "tcp"]
identity = "edge.example.net"
[[listen]]
name = "ue-tls"
side = "ue"
address = "127.0.0.1:0"
transports = ["tls", "dtls"]
identity = "edge.example.net"
tls = {{ certificate = "edge.pem", key = "edge.key", psk = true }}
[[listen]]
name = "core"
side = "core"
address = "127.0.0.1:0"
transports = ["udp"]
identity = "127.0.0.1"
[[peer]]
name = "core"
members = ["sip:{core};transport=udp"]
trust = "address"
[[route]]
domain = "example.net"
peer = "core"
[authentication]
accounts = "accounts.toml"
[digest]
algorithms = ["SHA-256"]
[naf]
fqdn = "edge.example.net"
[diameter]
identity = "edge.example.net"
realm = "example.net"
tls = {{ certificate = "node.pem", key = "node.key", ca = "ca.pem" }}
[[diameter.peer]]
host = "bsf.example.net"
realm = "home.example.net"
serves = "zn"
address = "{zn}"
bsf = ["bsf.example.net"]
[association]
mode = "enforce"
[enabler.reg]
rate = "{rate}"
[enabler.sip]
rate = "{rate}"
[admin]
socket = "edge.sock"
[telemetry]
metrics = "127.0.0.1:0"
"#
    )
}

/// The command that runs what stands in `NAME.toml`.
fn serve(folder: &Folder, name: &str) -> Command {
    let mut command = sipward();
    command.current_dir(folder.path("")).args(["serve", "-c", &format!("{name}.toml")]);
    command
}

impl World {
    /// Each user may send as `rate` says.
    pub(crate) fn start(name: &str, rate: &str) -> Self {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES), hard).unwrap();
        let (authority, folder) = (Authority::new(), Folder::new(name));
        for (file, host) in [("edge", EDGE), ("node", EDGE), ("bsf", BSF)] {
            folder.certify(&authority, file, host);
        }
        folder.write("ca.pem", authority.pem());
        folder.write("bsf.state", "5b".repeat(32));
        let account = |number| {
            format!(
                "[[account]]\nusername = \"{}\"\nrealm = \"example.net\"\npassword = \"{PASSWORD}\"\n\
                 identities = [\"{}\"]\n",
                user(number),
                address(number)
            )
        };
        folder.write("accounts.toml", (0..PEOPLE).map(account).collect::<String>());
        folder.write("bsf.toml", bsf(BSF_AT, BSF_AT, "127.0.0.2:0"));
        folder.write("list.toml", list());
        let mut import = sipward();
        import.arg("subscriber").arg("--config").arg(folder.path("bsf.toml"));
        import.arg("import").arg(folder.path("list.toml"));
        assert!(import.output().unwrap().status.success());
        fs::remove_file(folder.path("list.toml")).unwrap();

        let mut bsf_program = Program::start(&mut serve(&folder, "bsf"));
        let [ub, zn, bsf_page] = listening(&mut bsf_program);
        folder.write("bsf.toml", bsf(&ub.to_string(), &zn.to_string(), &bsf_page.to_string()));
        let core = Core::start(CORE_AT.parse().unwrap());
        folder.write("edge.toml", edge(core.at, zn, rate));
        let mut edge = Program::start(&mut serve(&folder, "edge"));
        let [clear, secure] = ["ue", "ue-tls"].map(|name| edge.address(name));
        let page = edge.address("page of metrics");
        let world = Self {
            folder,
            authority,
            ledger: Ledger::new(),
            edge: Mutex::new(edge),
            bsf: Mutex::new(Some(bsf_program)),
            core_at: core.at,
            core: Mutex::new(Some(core)),
            seen: Mutex::default(),
            ub,
            clear,
            secure,
            page,
            bsf_page,
            said: Mutex::default(),
            keys: Mutex::default(),
            overheard: Mutex::default(),
            numbers: AtomicU32::new(0),
            over: AtomicBool::new(false),
            nobody_calls: AtomicBool::new(false),
        };
        world.until_reached();
        world
    }

    /// Waits until the edge may ask the bootstrapping server.
    fn until_reached(&self) {
        let row = "sipward_diameter_peers{interface=\"zn\"} 1";
        while !metrics(self.page).lines().any(|line| line == row) {}
    }

    /// The bootstrapping server goes: it is told to, or not asked.
    pub(crate) fn without_bsf(&self, asked: bool) {
        let mut program = self.bsf.lock().unwrap().take().expect("it is there");
        if asked {
            program.end()
        } else {
            program.kill()
        }
        self.said.lock().unwrap().push(("bsf".into(), program.last_words()));
    }

    /// It comes back; waits until the edge has found it.
    pub(crate) fn with_bsf(&self) {
        let mut program = Program::start(&mut serve(&self.folder, "bsf"));
        let _ = listening(&mut program);
        *self.bsf.lock().unwrap() = Some(program);
        self.until_reached();
    }

    pub(crate) fn without_core(&self) {
        let core = self.core.lock().unwrap().take().expect("it is there");
        self.seen.lock().unwrap().push(Arc::clone(&core.seen));
    }

    /// Another one, which knows nobody.
    pub(crate) fn with_core(&self) {
        *self.core.lock().unwrap() = Some(Core::start(self.core_at));
    }

    /// What each core has seen.
    pub(crate) fn seen(&self) -> Vec<Arc<Seen>> {
        let now = self.core.lock().unwrap().as_ref().map(|core| Arc::clone(&core.seen));
        self.seen.lock().unwrap().iter().cloned().chain(now).collect()
    }

    /// Notes what must stand nowhere.
    pub(crate) fn made(&self, keys: &Bootstrapped) {
        let mut secrets = self.keys.lock().unwrap();
        let name = keys.btid.to_string();
        secrets.insert(format!("Ks of {name}"), keys.ks.expose().to_vec());
        for ua in [
            UaId::SIP_DIGEST,
            PskUse::Tls13.ua(Scheme::ThreeGpp),
            PskUse::Suite(PSK_AES128_GCM_SHA256).ua(Scheme::ThreeGpp),
        ] {
            let key = keys.naf_key(&NafId::new(EDGE, ua)).unwrap();
            secrets.insert(format!("Ks_NAF of {name} for {ua:?}"), key.expose().to_vec());
        }
    }

    /// All that must stand nowhere, as octets.
    pub(crate) fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let mut secrets: Vec<_> = self.keys.lock().unwrap().clone().into_iter().collect();
        let octets = |hex: &str| -> Vec<u8> {
            (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap())
                .collect()
        };
        secrets.push(("OPc".into(), octets(OPC)));
        secrets.push(("the key of the store".into(), octets(&"5b".repeat(32))));
        secrets.push(("the password".into(), PASSWORD.into()));
        for number in 0..PEOPLE {
            secrets.push((format!("K of {number}"), octets(&k(number))));
            for hash in [Hash::Md5, Hash::Sha256] {
                let parts = [&user(number), "example.net", PASSWORD].join(":");
                let ha1 = hash.hex(&[parts.as_bytes()]);
                let digits = str::from_utf8(&ha1).unwrap();
                secrets.push((format!("HA1 of {number}"), octets(digits)));
            }
        }
        for name in ["edge.key", "node.key", "bsf.key"] {
            let text = fs::read_to_string(self.folder.path(name)).unwrap();
            let line = text.lines().nth(1).expect("a PEM file");
            secrets.push((name.to_owned(), line.into()));
        }
        secrets
    }

    /// What a phone of that kind is made of, with those keys.
    pub(crate) fn settings(
        &self,
        number: usize,
        way: Way,
        keys: Option<&Arc<Bootstrapped>>,
    ) -> UeSettings {
        let shared = |of: PskUse| {
            let keys = keys.expect("a key was made");
            let key = keys.naf_key(&NafId::new(EDGE, of.ua(Scheme::ThreeGpp))).unwrap();
            let (identity, key) = (PskName::identity_of(&keys.btid), PskKey::new(key.expose()));
            PskClient { identity, key: key.expect("a key"), of }
        };
        let (transport, psk) = match way {
            Way::Udp | Way::Password => (Transport::Udp, None),
            Way::Tcp => (Transport::Tcp, None),
            Way::Tls => (Transport::Tls, None),
            Way::PskTls => (Transport::Tls, Some(shared(PskUse::Tls13))),
            Way::Dtls => (Transport::Dtls, Some(shared(PskUse::Suite(PSK_AES128_GCM_SHA256)))),
        };
        let credential = match (way, keys) {
            (Way::Password, _) => Some(Credential::Account {
                username: user(number),
                password: PASSWORD.to_owned().into(),
                realm: None,
            }),
            (Way::PskTls | Way::Dtls, _) | (_, None) => None,
            (_, Some(keys)) => {
                Some(Credential::Gba { keys: Arc::clone(keys), ua: UaId::SIP_DIGEST })
            }
        };
        let clear = matches!(transport, Transport::Udp | Transport::Tcp);
        UeSettings {
            edge: if clear { self.clear } else { self.secure },
            edge_name: EDGE.into(),
            transport,
            identity: address(number),
            credentials: credential.into_iter().collect(),
            floor: Hash::Sha256,
            tls: Some(tls::client_config(self.authority.trust(), None).unwrap()),
            psk,
            trust: None,
            shows: None,
            ws: Default::default(),
            sec_agree: false,
            lists: None,
            local: Some("127.0.0.1:0".parse().unwrap()),
            trace: None,
        }
    }

    /// Ends it; gives what each process has said.
    pub(crate) fn end(self) -> Vec<(String, Vec<String>)> {
        let mut said = self.said.into_inner().unwrap();
        let bsf = self.bsf.into_inner().unwrap();
        for (name, program) in [("edge", Some(self.edge.into_inner().unwrap())), ("bsf", bsf)] {
            let mut program = program.expect("it is there");
            program.end();
            said.push((name.to_owned(), program.last_words()));
        }
        said
    }
}

/// Where a bootstrapping server listens: Ub, Zn, and its page.
fn listening(program: &mut Program) -> [SocketAddr; 3] {
    ["bootstrapping server", "Diameter", "page of metrics"].map(|name| program.address(name))
}

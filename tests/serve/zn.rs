//! Keys over Zn by configuration alone: a bootstrapping server in one process, the edge in another, real sockets; then
//! the server away, slow and lying (V-31), and back again.

use std::process::ChildStdout;
use std::sync::atomic::{AtomicU8, Ordering};

use sipward::client::bootstrap::{Bootstrapped, Origin, UbPlan};
use sipward::client::bootstrap_http;
use sipward::identity::{Btid, Impu};
use sipward::instant::{Now, WallTime};
use sipward::keys::bootstrap::NafRefusal;
use sipward::keys::diameter::codec::{Message, Printed, Writer};
use sipward::keys::diameter::dictionary::{self, Definition, ZN};
use sipward::keys::diameter::door::{Door, Guest, Serve};
use sipward::keys::diameter::link::Pace;
use sipward::keys::diameter::{Local, zn};
use sipward::keys::{Ks, KsNaf, NafKey, Rand, UaId};
use sipward::transport::peer::ClientCertificate;
use sipward::transport::tls::{ServerSpec, ServerTls};

use super::papers::{Authority, Paper};
use super::*;

const IMPI: &str = "001010000000001@ims.mnc001.mcc001.3gppnetwork.org";

/// A bootstrapping server in a process of its own.
struct Bsf {
    child: Child,
    folder: PathBuf,
    ub: SocketAddr,
    zn: SocketAddr,
}

/// Reads the addresses that a process says it listens at, in that order.
pub(super) fn heard<const N: usize>(out: ChildStdout, names: [&str; N]) -> [SocketAddr; N] {
    let mut said = BufReader::new(out).lines().map(Result::unwrap);
    names.map(|name| {
        let mark = format!("listening: {name} on ");
        said.find_map(|line| line.strip_prefix(&mark)?.parse().ok())
            .unwrap_or_else(|| panic!("{name}"))
    })
}

impl Bsf {
    /// Subscribers of `edge`'s list may bootstrap; the edge may have its keys, as `peer` says.
    fn start(name: &str, edge: &Path, peer: &str, at: Option<(SocketAddr, SocketAddr)>) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
        fs::create_dir_all(&folder).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (ub, zn) = at.unwrap_or((any, any));
        fs::copy(edge, folder.join("subscribers.toml")).unwrap();
        let text = format!(
            r#"
[bsf]
name = "bsf.example.net"
listen = "{ub}"
subscribers = "subscribers.toml"
[diameter]
identity = "bsf.example.net"
realm = "home.example.net"
listen = "{zn}"
{peer}
"#
        );
        fs::write(folder.join("sipward.toml"), text).unwrap();
        let mut child = sipward()
            .arg("serve")
            .arg("-c")
            .arg(folder.join("sipward.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let names = ["bootstrapping server", "Diameter"];
        let [ub, zn] = heard(child.stdout.take().unwrap(), names);
        Self { child, folder, ub, zn }
    }
}

impl Drop for Bsf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the clear, as `danger` lets it.
const CLEAR: &str = r#"
[[diameter.peer]]
host = "edge.example.net"
asks = "zn"
tls = false
from = "127.0.0.1"
fqdns = ["edge.example.net"]
sees_impi = true
[danger]
diameter_in_clear = true
"#;

/// An edge without a bootstrapping server of its own; what is at `zn` gives it keys, as `how` says.
fn edge(name: &str, core: &Core, zn: SocketAddr, how: &str) -> Edge {
    Edge::start_with(name, |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        let text = text.replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        let text = text.replace("rate = \"6/min\"", "rate = \"600/min\"");
        let (before, rest) = text.split_once("\n[bsf]").unwrap();
        let (_, after) = rest.split_once("\n[register]").unwrap();
        format!(
            r#"{before}
[diameter]
identity = "edge.example.net"
realm = "example.net"
{how}
[[diameter.peer]]
host = "bsf.example.net"
realm = "home.example.net"
serves = "zn"
address = "{zn}"
tls = {}

{}
[register]{after}
"#,
            how.contains("ca ="),
            if how.is_empty() { "[danger]\ndiameter_in_clear = true\n" } else { "" },
        )
    })
}

pub(super) fn list() -> PathBuf {
    // A list such as `init` writes, for both processes.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-zn-list");
    let _ = fs::create_dir_all(&folder);
    let path = folder.join(format!("subscribers-{}.toml", std::process::id()));
    let text = format!(
        "[[subscriber]]\nimpi = \"{IMPI}\"\nk = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\n\
         opc = \"cd63cb71954a9f4e48a5994e37a02baf\"\nimpus = [\"sip:ue1@example.net\"]\n"
    );
    fs::write(&path, text).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Bootstraps at `ub`.
pub(super) fn bootstrapped(
    ub: SocketAddr,
    list: &Path,
    seen: u64,
) -> Result<Arc<Bootstrapped>, String> {
    let subscriber = file::load(list).unwrap().remove(0);
    let mut card =
        Usim::new(subscriber.algorithms.unwrap(), SqnWindow::default().with_seen([seen; 32]));
    let plan = UbPlan::new(subscriber.impi, "bsf.example.net");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(bootstrap_http::bootstrap(&plan, ub, &mut card, None));
    done.map(Arc::new).map_err(|why| why.to_string())
}

/// Registers with a bootstrapped key; the status, or why there is none.
pub(super) fn register(edge: &Edge, keys: &Arc<Bootstrapped>) -> Result<u16, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let keys = Arc::clone(keys);
        let settings = UeSettings {
            credentials: vec![Credential::Gba { keys, ua: UaId::SIP_DIGEST }],
            ..alice(edge, Transport::Udp)
        };
        let settings = UeSettings { identity: "sip:ue1@example.net".into(), ..settings };
        let ue = Ue::connect(settings).await.map_err(|why| why.to_string())?;
        let answer = ue.register(600).await.map_err(|why| why.to_string())?;
        Ok(answer.status().unwrap())
    })
}

/// The acceptance of Zn: a registration with keys of another process; none while it is away, with the refusal that
/// says so; and again once it is back, without a restart of the edge.
#[test]
fn registers_with_keys_of_another_process_and_recovers() {
    let (core, list) = (Core::start(), list());
    let bsf = Bsf::start("zn-bsf", &list, CLEAR, None);
    let edge = edge("zn-edge", &core, bsf.zn, "");
    let keys = bootstrapped(bsf.ub, &list, 0).unwrap();
    assert_eq!(register(&edge, &keys), Ok(200));
    let heard = core.heard.lock().unwrap().clone();
    assert!(heard[0].contains("P-Asserted-Identity: <sip:ue1@example.net>"), "{heard:?}");
    assert_eq!(edge.metrics(["sipward_diameter_peers{interface=\"zn\"}"]), [1]);

    // A second key, which the edge does not have yet; then the server goes.
    let later = bootstrapped(bsf.ub, &list, 100).unwrap();
    let (ub, zn) = (bsf.ub, bsf.zn);
    drop(bsf);
    let refused = register(&edge, &later);
    assert!(refused.as_ref().is_ok_and(|status| *status == 503), "V-31, down: {refused:?}");
    assert_eq!(register(&edge, &keys), Ok(200), "a key that is here is good until its own end");

    // It comes back, without its sessions: the UE is to bootstrap again, and then all is well.
    let bsf = Bsf::start("zn-bsf", &list, CLEAR, Some((ub, zn)));
    let mut back = [0];
    while back == [0] {
        back = edge.metrics(["sipward_diameter_peers{interface=\"zn\"}"]);
    }
    let again = bootstrapped(bsf.ub, &list, 5000).unwrap();
    assert_eq!(register(&edge, &again), Ok(200), "recovered");
    let gone = register(&edge, &later);
    assert!(gone.is_err() || gone == Ok(407), "5403 is a challenge: {gone:?}");
    let _ = fs::remove_dir_all(&bsf.folder);
}

/// A server of keys that does to each request what is asked of it.
struct Liar {
    local: Arc<Local>,
    keys: Arc<Mutex<Arc<Bootstrapped>>>,
    does: Arc<AtomicU8>,
}

const HONEST: u8 = 0;
const SILENT: u8 = 1;
const OTHER_IDENTITY: u8 = 2;
const EXPIRED: u8 = 3;
const OTHER_KEY: u8 = 4;
const OTHER_SESSION: u8 = 5;
const SHORT_KEY: u8 = 6;
const HUGE: u8 = 7;
const UNKNOWN: u8 = 8;
const FORBIDDEN: u8 = 9;
const OTHER_NAF: u8 = 10;
const SECOND_GENERATION: u8 = 11;
const NO_DIAMETER: u8 = 12;
const OF_A_PASSWORD: u8 = 13;

impl Serve for Liar {
    fn answer(&self, _: &str, message: &Message<'_>, now: Now) -> Printed {
        let does = self.does.load(Ordering::SeqCst);
        let request = zn::request(message, &self.local).unwrap();
        let keys = Arc::clone(&self.keys.lock().unwrap());
        let impi = Impi::new(if does == OTHER_IDENTITY { "other@example.net" } else { IMPI });
        let identity =
            if does == OTHER_IDENTITY { "sip:other@example.net" } else { "sip:ue1@example.net" };
        let later = Duration::from_secs(3600);
        let expires = if does == EXPIRED {
            WallTime::from_unix(now.wall.as_unix() - 1)
        } else {
            now.wall + later
        };
        let key = NafKey {
            key: if does == OTHER_KEY {
                KsNaf::new([7; 32])
            } else {
                keys.naf_key(&request.naf).unwrap()
            },
            impi,
            identities: Arc::from([Impu::new(identity).unwrap()]),
            uss: Arc::from([]),
            expires,
            created: now.wall,
            kind: Default::default(),
            ready: Default::default(),
        };
        let found = match does {
            UNKNOWN => Err(NafRefusal::UnknownBtid),
            FORBIDDEN => Err(NafRefusal::NotAuthorised),
            _ => Ok(&key),
        };
        let honest = zn::answer(&self.local, message, &request.services, found);
        let edited = |definition, value: Option<&[u8]>| edit(&honest, definition, value);
        match does {
            SILENT => Printed::default(),
            OTHER_SESSION => edited(&dictionary::SESSION_ID, Some(b"edge.example.net;1;2")),
            SHORT_KEY => edited(&dictionary::ME_KEY_MATERIAL, Some(&[1; 31])),
            HUGE => edited(&dictionary::GBA_USER_SEC_SETTINGS, Some(&vec![b' '; 64 * 1024])),
            OTHER_NAF => {
                let mut writer = Writer::new(message.header.answer());
                copy(&mut writer, &honest);
                writer.put(&dictionary::NAF_ID, b"other.example.net\x03\x00\x00\x00\x03");
                writer.finish()
            }
            SECOND_GENERATION => edited(&dictionary::GBA_TYPE, Some(&[0, 0, 0, 1])),
            OF_A_PASSWORD => edited(&dictionary::GBA_TYPE, Some(&[0, 0, 0, 2])),
            NO_DIAMETER => b"HTTP/1.1 200 OK\r\n\r\n".to_vec().into(),
            _ => honest,
        }
    }
}

/// Adds what is in a message to another one.
fn copy(writer: &mut Writer, printed: &[u8]) {
    for avp in Message::parse(printed).unwrap().avps() {
        let definition = dictionary::find(avp.code, avp.vendor).unwrap();
        writer.put(definition, avp.value);
    }
}

/// The same message with another value of one AVP.
fn edit(printed: &[u8], of: &Definition, value: Option<&[u8]>) -> Printed {
    let message = Message::parse(printed).unwrap();
    let mut writer = Writer::new(message.header);
    for avp in message.avps() {
        let definition = dictionary::find(avp.code, avp.vendor).unwrap();
        let own = definition == of;
        writer.put(definition, value.filter(|_| own).unwrap_or(avp.value));
    }
    writer.finish()
}

/// Serves at an address of its own until the test ends.
fn lie(liar: Liar, shows: Option<&Paper>, authority: &Authority) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = shows.map(|paper| {
        let spec = ServerSpec {
            certificates: vec![paper.read()],
            asks: ClientCertificate::Required,
            trust: authority.trust(),
        };
        Arc::new(ServerTls::of_diameter(&spec).unwrap())
    });
    let guests = vec![Guest { host: "edge.example.net".into(), clear: None }];
    let local = Arc::clone(&liar.local);
    // It ends with the process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let door = Door::new(local, tls, guests, Pace::default(), Arc::new(liar));
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            Arc::new(door).serve(listener, stopped).await;
        });
    });
    address
}

/// A key that a UE may have, another one for each number.
fn key(number: u8) -> Arc<Bootstrapped> {
    use base64::Engine as _;
    let rand = [number; 16];
    let name = base64::engine::general_purpose::STANDARD.encode(rand);
    let now = sipward::clock::now().wall;
    Arc::new(Bootstrapped {
        impi: Impi::new(IMPI).unwrap(),
        btid: Btid::new(&format!("{name}@bsf.example.net")).unwrap(),
        ks: Ks::new([number; 32]),
        origin: Origin::Card(Rand(rand)),
        created: now,
        expires: now + Duration::from_secs(3600),
        tmpi: None,
    })
}

/// V-31: a server of keys that is slow, lies or is another one opens no door, over TLS with certificates at both ends;
/// and each time the edge goes on with the next key.
#[test]
fn a_server_that_lies_opens_no_door() {
    let (core, authority) = (Core::start(), Authority::new("diameter"));
    let local = Arc::new(Local {
        host: "bsf.example.net".into(),
        realm: "home.example.net".into(),
        product: "liar".into(),
        applications: vec![ZN],
        state_id: 1,
    });
    let (keys, does) = (Arc::new(Mutex::new(key(0))), Arc::new(AtomicU8::new(HONEST)));
    let liar = |local| Liar { local, keys: Arc::clone(&keys), does: Arc::clone(&does) };
    let own = authority.issue(&["bsf.example.net"]);
    let zn = lie(liar(Arc::clone(&local)), Some(&own), &authority);
    let paper = authority.issue(&["edge.example.net"]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-zn-papers");
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in
        [("edge.pem", &paper.certificate), ("edge.key", &paper.key), ("ca.pem", &authority.pem())]
    {
        fs::write(folder.join(name), text).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let shown = folder.display();
    let tls = format!(
        "tls = {{ certificate = \"{shown}/edge.pem\", key = \"{shown}/edge.key\", ca = \"{shown}/ca.pem\" }}"
    );
    let served = edge("zn-liar", &core, zn, &tls);
    // Whoever is asked again for a key that was refused stops; the last challenge is what it tells of.
    let challenged = "the edge asks again";
    for (number, what, how, expected) in [
        (1, "honest", HONEST, Ok(200)),
        (2, "silent", SILENT, Ok(503)),
        (3, "another subscriber's", OTHER_IDENTITY, Ok(403)),
        (4, "expired", EXPIRED, Err(challenged)),
        (5, "another key", OTHER_KEY, Err(challenged)),
        (6, "another session", OTHER_SESSION, Ok(503)),
        (7, "a key of 31 octets", SHORT_KEY, Ok(503)),
        (8, "64 KiB", HUGE, Ok(503)),
        (9, "5403", UNKNOWN, Err(challenged)),
        (10, "5402", FORBIDDEN, Ok(403)),
        (11, "another NAF", OTHER_NAF, Ok(503)),
        (12, "2G", SECOND_GENERATION, Ok(503)),
        (15, "a password's, where cards are asked for", OF_A_PASSWORD, Ok(403)),
        (13, "no Diameter", NO_DIAMETER, Ok(503)),
        (14, "honest again", HONEST, Ok(200)),
    ] {
        *keys.lock().unwrap() = key(number);
        does.store(how, Ordering::SeqCst);
        let open = "sipward_diameter_peers{interface=\"zn\"}";
        while served.metrics([open]) == [0] {}
        let answer = register(&served, &key(number));
        match expected {
            Ok(status) => assert_eq!(answer, Ok(status), "{what}"),
            Err(_) => assert!(answer.as_ref().is_err() || answer == Ok(407), "{what}: {answer:?}"),
        }
    }
    let heard = core.heard.lock().unwrap().len();
    assert_eq!(heard, 2, "nothing but the honest ones got through");

    // Another one's certificate: nobody to ask.
    does.store(HONEST, Ordering::SeqCst);
    let foreign = authority.issue(&["other.example.net"]);
    let zn = lie(liar(local), Some(&foreign), &authority);
    let deceived = edge("zn-other", &core, zn, &tls);
    *keys.lock().unwrap() = key(20);
    assert_eq!(register(&deceived, &key(20)), Ok(503), "the name in the certificate");
    let _ = fs::remove_dir_all(&folder);
}

/// Zh by configuration alone: subscribers in one process, the bootstrapping server in another, the edge in a third. A
/// card out of step is put in step by the home; without the home nobody bootstraps, and with it again, everybody.
#[test]
fn subscribers_of_a_home_in_another_process_bootstrap() {
    let (core, list) = (Core::start(), list());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-zh");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&list, folder.join("subscribers.toml")).unwrap();
    let run = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        let mut command = sipward();
        command.arg("serve").arg("-c").arg(&path).stdout(Stdio::piped());
        Running(command.spawn().unwrap())
    };
    let home = |at: &str| {
        format!(
            r#"
[hss]
subscribers = "subscribers.toml"
[diameter]
identity = "hss.example.net"
realm = "home.example.net"
listen = "{at}"
[[diameter.peer]]
host = "bsf.example.net"
asks = "zh"
tls = false
from = "127.0.0.1"
[danger]
diameter_in_clear = true
"#
        )
    };
    let mut hss = run("hss.toml", &home("127.0.0.1:0"));
    let [zh] = heard(hss.0.stdout.take().unwrap(), ["Diameter"]);
    let bsf = format!(
        r#"
[bsf]
name = "bsf.example.net"
listen = "127.0.0.1:0"
[diameter]
identity = "bsf.example.net"
realm = "home.example.net"
listen = "127.0.0.1:0"
[[diameter.peer]]
host = "hss.example.net"
serves = "zh"
address = "{zh}"
tls = false
{CLEAR}
[telemetry]
metrics = "127.0.0.1:0"
"#
    );
    let mut bsf = run("bsf.toml", &bsf);
    let names = ["bootstrapping server", "Diameter", "page of metrics"];
    let [ub, zn, page] = heard(bsf.0.stdout.take().unwrap(), names);
    let edge = edge("zh-edge", &core, zn, "");
    let keys = bootstrapped(ub, &list, 300).expect("a card out of step");
    assert_eq!(register(&edge, &keys), Ok(200));
    let heard_by_core = core.heard.lock().unwrap().clone();
    let asserted = "P-Asserted-Identity: <sip:ue1@example.net>";
    assert!(heard_by_core[0].contains(asserted), "the home's settings: {heard_by_core:?}");

    drop(hss);
    let away = bootstrapped(ub, &list, 300).unwrap_err();
    assert!(away.contains("503"), "{away}");
    let mut hss = run("hss.toml", &home(&zh.to_string()));
    let [_] = heard(hss.0.stdout.take().unwrap(), ["Diameter"]);
    while metrics(page, ["sipward_diameter_peers{interface=\"zh\"}"]) == [0] {}
    let again = bootstrapped(ub, &list, 300).expect("the home is back");
    assert_eq!(register(&edge, &again), Ok(200), "without a restart");
    drop((bsf, hss));
    let _ = fs::remove_dir_all(&folder);
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

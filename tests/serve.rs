//! `sipward serve` as a process: it starts, answers, reloads on SIGHUP and ends on SIGTERM.

#![cfg(all(feature = "http", unix))]

#[path = "serve/accounts.rs"]
mod accounts;
#[path = "serve/admin.rs"]
mod admin;
#[path = "serve/agreement.rs"]
mod agreement;
#[path = "serve/audit.rs"]
mod audit;
#[path = "serve/crowd.rs"]
mod crowd;
#[path = "serve/hellos.rs"]
mod hellos;
#[path = "serve/late.rs"]
mod late;
#[path = "serve/liars.rs"]
mod liars;
#[cfg(feature = "diameter")]
#[path = "serve/nbsp.rs"]
mod nbsp;
#[path = "serve/outbound.rs"]
mod outbound;
#[allow(dead_code, reason = "it serves other tests too")]
#[path = "dtls/papers.rs"]
mod papers;
#[path = "serve/passwords.rs"]
mod passwords;
#[path = "serve/renewal.rs"]
mod renewal;
#[path = "serve/shortage.rs"]
mod shortage;
#[path = "serve/shown.rs"]
mod shown;
#[path = "serve/vault.rs"]
mod vault;
#[path = "serve/websocket.rs"]
mod websocket;
#[cfg(feature = "diameter")]
#[path = "serve/zn.rs"]
mod zn;
#[cfg(feature = "diameter")]
#[path = "serve/zpn.rs"]
mod zpn;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipward::authentication::digest::Hash;
use sipward::client::answer::Credential;
use sipward::client::ue::{Ue, UeSettings};
use sipward::identity::Impi;
use sipward::keys::sqn::SqnWindow;
use sipward::keys::subscribers::file;
use sipward::keys::usim::Usim;
use sipward::transport::{Transport, tls};

/// A running edge on ports of its own.
struct Edge {
    child: Child,
    errors: BufReader<ChildStderr>,
    folder: PathBuf,
    /// Where devices reach it in the clear.
    ue: SocketAddr,
    /// Where they reach it over TLS.
    tls: Option<SocketAddr>,
    /// Where its page of metrics is.
    page: SocketAddr,
    /// Where devices bootstrap.
    ub: Option<SocketAddr>,
    /// Where they do under TLS.
    ub_tls: Option<SocketAddr>,
}

impl Edge {
    fn start(name: &str) -> Self {
        Self::start_with(name, |text| text)
    }

    /// With a configuration that is not quite what `init` wrote.
    fn start_with(name: &str, change: impl FnOnce(String) -> String) -> Self {
        Self::start_by(sipward(), name, change)
    }

    /// By a command that is not quite the program's.
    fn start_by(command: Command, name: &str, change: impl FnOnce(String) -> String) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
        let _ = fs::remove_dir_all(&folder);
        let made = sipward().arg("init").arg(&folder).stdout(Stdio::null()).status().unwrap();
        assert!(made.success());
        let config = folder.join("sipward.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text
            .replace("0.0.0.0:506", "127.0.0.1:506")
            .replace("address = \"127.0.0.1:5060\"", "address = \"127.0.0.1:0\"")
            .replace("address = \"127.0.0.1:5061\"", "address = \"127.0.0.1:0\"")
            .replace("address = \"127.0.0.1:5080\"", "address = \"127.0.0.1:0\"")
            .replace("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:0\"")
            .replace("metrics = \"127.0.0.1:9090\"", "metrics = \"127.0.0.1:0\"");
        fs::write(&config, change(text)).unwrap();
        Self::serve(command, folder)
    }

    /// What stands in that folder.
    fn serve(mut command: Command, folder: PathBuf) -> Self {
        command.arg("serve").arg("-c").arg(folder.join("sipward.toml"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let ue = said.next().expect("a line").unwrap();
        let ue = ue.strip_prefix("listening: ue on ").expect(&ue).parse().unwrap();
        let tls = said.next().expect("a line").unwrap();
        let tls = tls.strip_prefix("listening: ue-tls on ").map(|at| at.parse().unwrap());
        let (mut ub, mut ub_tls) = (None, None);
        let page = said.map(Result::unwrap).find_map(|line| {
            if let Some(at) = line.strip_prefix("listening: bootstrapping server on ") {
                ub = Some(at.parse().unwrap());
            }
            if let Some(at) = line.strip_prefix("listening: bootstrapping server under TLS on ") {
                ub_tls = Some(at.parse().unwrap());
            }
            line.strip_prefix("listening: page of metrics on ").map(|at| at.parse().unwrap())
        });
        Self { child, errors, folder, ue, tls, page: page.expect("a page"), ub, ub_tls }
    }

    /// Reads what it says on the standard error up to a line that holds `mark`.
    fn until(&mut self, mark: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(mark) {
            let read = self.errors.read_line(&mut heard).unwrap();
            assert_ne!(read, 0, "it ended before it said {mark:?}: {heard}");
        }
        heard
    }

    /// What its page says of each of `names` now.
    fn metrics<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        metrics(self.page, names)
    }

    fn signal(&self, name: &str) {
        // The shell's own: not every machine has the program.
        let kill = format!("kill {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.folder.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }

    /// How many answers it gives to so many requests of one flow.
    fn answers(&self, request: &str, count: usize) -> usize {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..count {
            socket.send_to(request.as_bytes(), self.ue).unwrap();
        }
        let mut answer = [0; 4096];
        let wait = |seconds| socket.set_read_timeout(Some(Duration::from_millis(seconds))).unwrap();
        wait(20_000);
        let mut heard = 0;
        while heard < count && socket.recv(&mut answer).is_ok() {
            heard += 1;
            // The first has come: the others were sent with it.
            wait(500);
        }
        heard
    }

    /// What it answers to a datagram.
    fn ask(&self, request: &str) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(request.as_bytes(), self.ue).unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).expect("an answer");
        String::from_utf8(answer[..length].to_vec()).unwrap()
    }
}

/// What a page says of each of `names` now.
fn metrics<const N: usize>(page: SocketAddr, names: [&str; N]) -> [u64; N] {
    let mut page = TcpStream::connect(page).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    names.map(|name| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
    })
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn sipward() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sipward"))
}

/// A server behind the edge that says 200 to everything, and what it heard.
struct Core {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Core {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let core = Self { address: socket.local_addr().unwrap(), heard: Arc::default() };
        let (heard, address) = (Arc::clone(&core.heard), core.address);
        // It ends with the process.
        std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut octets) {
                let request = String::from_utf8(octets[..length].to_vec()).unwrap();
                if request.starts_with("ACK ") {
                    continue;
                }
                let contact = match request.starts_with("INVITE ") {
                    true => format!("Contact: <sip:{address}>\r\n"),
                    false => String::new(),
                };
                let copied: String = request
                    .split("\r\n")
                    .filter(|line| {
                        let own = !contact.is_empty() && line.starts_with("Contact:");
                        ["Via:", "From:", "Call-ID:", "CSeq:", "Contact:", "Record-Route:"]
                            .iter()
                            .any(|name| line.starts_with(name) && !own)
                    })
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                let to = request.split("\r\n").find(|line| line.starts_with("To:")).unwrap();
                heard.lock().unwrap().push(request.clone());
                let tag = if to.contains(";tag=") { "" } else { ";tag=core" };
                let answer = format!(
                    "SIP/2.0 200 OK\r\n{copied}{contact}{to}{tag}\r\nContent-Length: 0\r\n\r\n"
                );
                socket.send_to(answer.as_bytes(), from).unwrap();
            }
        });
        core
    }
}

/// A UE with that card.
fn ue_with(card: &Arc<Mutex<Usim>>, impi: &Impi, edge: SocketAddr) -> UeSettings {
    let credential = Credential::Card { impi: impi.clone(), realm: None, card: Arc::clone(card) };
    UeSettings {
        edge,
        edge_name: "edge.example.net".into(),
        transport: Transport::Udp,
        identity: "sip:ue1@example.net".into(),
        credentials: vec![credential],
        floor: Hash::Md5,
        tls: None,
        psk: None,
        trust: None,
        shows: None,
        ws: Default::default(),
        sec_agree: false,
        lists: None,
        local: Some("127.0.0.1:0".parse().unwrap()),
        trace: None,
    }
}

/// Registers the subscriber with its card.
fn register_with(card: &Arc<Mutex<Usim>>, impi: &Impi, edge: SocketAddr) -> Result<u16, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ue = Ue::connect(ue_with(card, impi, edge)).await.map_err(|why| why.to_string())?;
        let answer = ue.register(600).await.map_err(|why| why.to_string())?;
        Ok(answer.status().unwrap())
    })
}

/// A figure for whoever runs the tests by hand; nothing depends on it.
fn say(figure: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{figure}").unwrap();
}

/// The UE of the account that `init` wrote, over that transport.
fn alice(edge: &Edge, transport: Transport) -> UeSettings {
    let accounts = fs::read_to_string(edge.folder.join("accounts.toml")).unwrap();
    let password = accounts.lines().find_map(|line| line.strip_prefix("password = ")).unwrap();
    let password = password.trim_matches('"').to_owned().into();
    let anchors = fs::read(edge.folder.join("lab-ca.pem")).unwrap();
    let trust = tls::trust(&anchors, b"").unwrap();
    let clear = matches!(transport, Transport::Udp | Transport::Tcp);
    UeSettings {
        edge: if clear { edge.ue } else { edge.tls.expect("another listener") },
        edge_name: "edge.example.net".into(),
        transport,
        identity: "sip:alice@example.net".into(),
        credentials: vec![Credential::Account { username: "alice".into(), password, realm: None }],
        floor: Hash::Sha256,
        tls: Some(tls::client_config(trust.clone(), None).unwrap()),
        psk: None,
        trust: Some(trust),
        shows: None,
        ws: Default::default(),
        sec_agree: false,
        lists: None,
        local: Some("127.0.0.1:0".parse().unwrap()),
        trace: None,
    }
}

#[test]
fn a_card_registers_with_and_without_a_bootstrapping_server() {
    for alone in [false, true] {
        let core = Core::start();
        let mut edge = Edge::start_with(if alone { "card" } else { "card-bsf" }, |text| {
            let peer = format!("sip:{};transport=udp", core.address);
            let text = text.replace("sip:127.0.0.1:5070;transport=tcp", &peer);
            let aka = "[aka]\nrealm = \"ims.example.net\"\nalgorithms = [\"AKAv2-SHA-256\"]\n";
            if !alone {
                return format!("{text}\n{aka}");
            }
            let text = text.replace(", psk = true", "");
            let (before, rest) = text.split_once("[naf]").unwrap();
            let (_, after) = rest.split_once("[register]").unwrap();
            format!("{before}{aka}subscribers = \"subscribers.toml\"\n[register]{after}")
        });
        let list = edge.folder.join("subscribers.toml");
        let subscriber = file::load(&list).unwrap().remove(0);
        // Used elsewhere before: the network has to be told where its sequence numbers stand.
        let window = SqnWindow::default().with_seen([500; 32]);
        let card = Arc::new(Mutex::new(Usim::new(subscriber.algorithms.unwrap(), window)));
        for time in ["out of step", "in step"] {
            let answer = register_with(&card, &subscriber.impi, edge.ue);
            assert_eq!(answer, Ok(200), "alone: {alone}, {time}");
        }
        let heard = core.heard.lock().unwrap().clone();
        assert_eq!(heard.len(), 2, "challenges are ours: {heard:?}");
        for register in heard {
            assert!(register.contains("P-Asserted-Identity: <sip:ue1@example.net>"), "{register}");
            assert!(!register.contains("Authorization"), "{register}");
        }
        let numbers = fs::read_to_string(edge.folder.join("subscribers.toml.sqn")).unwrap();
        let seq = numbers.lines().find_map(|line| line.strip_suffix(subscriber.impi.as_str()));
        assert!(seq.unwrap().trim().parse::<u64>().unwrap() > 500, "{numbers}");

        edge.edit("subscribers.toml", "impus = ", "barred = true\nimpus = ");
        edge.signal("-HUP");
        edge.until("reloaded: subscribers");
        let refused = register_with(&card, &subscriber.impi, edge.ue).unwrap_err();
        assert!(refused.contains("the card does not take the challenge"), "{refused}");
        edge.signal("-TERM");
        assert_eq!(edge.child.wait().unwrap().code(), Some(0));
    }
}

const MESSAGE: &str = "MESSAGE sip:bob@example.net SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1;rport\r\n\
    Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=1\r\nTo: <sip:bob@example.net>\r\n\
    Call-ID: 1@127.0.0.1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";

#[test]
fn what_init_wrote_serves_reloads_and_ends() {
    let mut edge = Edge::start("life");
    let answer = edge.ask(MESSAGE);
    assert!(answer.starts_with("SIP/2.0 407 "), "{answer}");
    assert!(answer.contains("realm=\"3GPP-bootstrapping@edge.example.net\""), "{answer}");

    edge.edit("accounts.toml", "username = \"alice\"", "username = \"a:b\"");
    edge.edit("sipward.toml", "foreign = \"core\"", "foreign = \"nobody\"");
    edge.signal("-HUP");
    let heard = edge.until("not reloaded");
    assert!(heard.contains("edge.foreign = \"nobody\" is not offered"), "V-147: {heard}");
    assert!(heard.contains("account \"a:b\" has a username that is none"), "V-147: {heard}");
    assert!(edge.ask(MESSAGE).starts_with("SIP/2.0 407 "), "V-147: the old one stays");

    edge.edit("accounts.toml", "username = \"a:b\"", "username = \"carol\"");
    edge.edit("sipward.toml", "foreign = \"nobody\"", "foreign = \"refuse\"");
    edge.signal("-HUP");
    let heard = edge.until("\nreloaded: ");
    assert!(heard.contains("reloaded: accounts, routes"), "{heard}");

    edge.signal("-TERM");
    let status = edge.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn policy_changes_while_it_serves_and_what_has_to_wait_is_named() {
    let mut edge = Edge::start("policy");
    let register = MESSAGE.replace("MESSAGE", "REGISTER");
    assert!(edge.ask(&register).starts_with("SIP/2.0 407 "));
    assert_eq!(edge.answers(&register, 3), 3);

    edge.edit("sipward.toml", "challenge = \"407\"", "challenge = \"401\"");
    edge.edit("sipward.toml", "# flow_rate = \"1000/s\"", "flow_rate = \"1/min\"");
    edge.edit("sipward.toml", "address = \"127.0.0.1:0\"", "address = \"127.0.0.2:0\"");
    edge.edit("sipward.toml", "# workers = 4", "workers = 128");
    edge.signal("-HUP");
    let heard = edge.until("needs a restart: ");
    assert!(heard.contains("reloaded: register.challenge, admission.flow_rate"), "{heard}");
    assert!(heard.contains("needs a restart: edge.workers, listen[0].address"), "{heard}");
    assert!(edge.ask(&register).starts_with("SIP/2.0 401 "), "a new flow is challenged otherwise");
    assert_eq!(edge.answers(&register, 3), 1, "admission.flow_rate");

    edge.edit("sipward.toml", "flow_rate = \"1/min\"", "flow_rate = \"often\"");
    edge.signal("-HUP");
    edge.until("not reloaded");
    assert_eq!(edge.answers(&register, 3), 1, "V-147: the old one stays");
}

#[test]
fn as_many_files_may_be_open_as_flows_are_allowed() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sipward")]);
    let edge = Edge::start_by(command, "files", |text| {
        text.replace("[admission]", "[admission]\nflows = 300")
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", edge.child.id())).unwrap();
    let row = limits.lines().find(|row| row.starts_with("Max open files")).expect(&limits);
    let soft: u64 = row.split_whitespace().nth(3).expect(row).parse().unwrap();
    assert!(soft > 300, "{row}");
}

#[test]
fn nobody_who_reads_errors_is_needed() {
    let mut edge = Edge::start("deaf");
    // The pipe is closed at our end, as a supervisor leaves it that died.
    drop(std::mem::replace(&mut edge.errors, BufReader::new(silent())));
    edge.signal("-HUP");
    assert!(edge.ask(MESSAGE).starts_with("SIP/2.0 407 "), "V-72");
    edge.signal("-TERM");
    assert_eq!(edge.child.wait().unwrap().code(), Some(0), "V-72");
}

/// The standard error of a process that says nothing.
fn silent() -> ChildStderr {
    let mut child = Command::new("true").stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    child.wait().unwrap();
    assert_eq!(errors.read(&mut [0]).unwrap(), 0);
    errors
}

#[test]
fn a_configuration_with_problems_starts_nothing() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-problems");
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("bad.toml");
    fs::write(&config, "[edge]\nworkers = 0\ndomains = 1\n").unwrap();
    let run = sipward().arg("serve").arg("-c").arg(&config).output().unwrap();
    let errors = String::from_utf8(run.stderr).unwrap();
    assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(2), &[][..]), "{errors}");
    assert!(errors.contains("edge.workers = 0") && errors.contains("edge.domains = 1"), "{errors}");
    let _ = fs::remove_dir_all(&folder);
}

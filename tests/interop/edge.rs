//! `sipward serve`, the program itself, with a bootstrapping server in the same process and a core behind it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::kamailio::Kamailio;
use crate::loopback;
use crate::peer::{Folder, Peer};

/// A running edge, and the folder with its files.
pub(crate) struct Edge {
    /// Where UEs find it, over UDP and TCP; it offers MD5 alone, since SIPp knows nothing else.
    pub(crate) ue: SocketAddr,
    /// Where UEs find its bootstrapping server.
    pub(crate) bsf: SocketAddr,
    /// Where its counters are.
    pub(crate) metrics: SocketAddr,
    peer: Peer,
    folder: Folder,
}

const SIPWARD: &str = env!("CARGO_BIN_EXE_sipward");

impl Edge {
    /// Starts one before `core`, with so many subscribers `ue0001@...`, that log filter and that mode of its listener
    /// for UEs, and waits until it listens.
    pub(crate) fn start_with(core: &Kamailio, subscribers: usize, log: &str, mode: &str) -> Self {
        let folder = Folder::new("sipward");
        let (ue, bsf) =
            (SocketAddr::new(loopback::address(), 5060), SocketAddr::new(core.edge, 8080));
        let (config, list) =
            (folder.path().join("sipward.toml"), folder.path().join("subscribers.toml"));
        let own = SocketAddr::new(core.edge, 5060);
        let metrics = SocketAddr::new(core.edge, 9090);
        let text = format!(
            r#"
[edge]
domains = ["ims.example"]
workers = 1
[[listen]]
name = "ue"
side = "ue"
address = "{ue}"
transports = ["udp", "tcp"]
identity = "edge.example.net"
digest = {{ algorithms = ["MD5"] }}
mode = "{mode}"
[[listen]]
name = "core"
side = "core"
address = "{own}"
transports = ["udp", "tcp"]
identity = "{}"
[[peer]]
name = "core"
members = ["sip:{};transport=udp"]
trust = "address"
[[route]]
domain = "ims.example"
peer = "core"
[naf]
fqdn = "edge.example.net"
[bsf]
name = "bsf.example.net"
listen = "{bsf}"
subscribers = "subscribers.toml"
[admission]
flow_rate = "100000/s"          # SIPp is a thousand UEs on one flow
[forward]
transactions_of_flow_max = 10000
[telemetry]
metrics = "{metrics}"
log = "{log}"
"#,
            own.ip(),
            core.address
        );
        fs::write(&config, text).expect("a configuration is written");
        let all: String = (1..=subscribers).map(subscriber).collect();
        fs::write(&list, all).expect("a list is written");
        fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let peer =
            Peer::start("sipward", Command::new(SIPWARD).arg("serve").arg("-c").arg(&config));
        let ready = peer.await_that(Duration::from_secs(30), |_| {
            let bound = loopback::is_bound("udp", ue) && loopback::is_bound("tcp", bsf);
            bound.then_some(())
        });
        assert!(ready.is_some(), "sipward does not listen on {ue}:\n{}", peer.said());
        Self { ue, bsf, metrics, peer, folder }
    }

    /// Runs `sipward ue bootstrap`; the file with credentials for SIPp.
    pub(crate) fn credentials(&self, count: usize) -> PathBuf {
        let csv = self.folder.path().join(format!("credentials-{count}.csv"));
        let run = Command::new(SIPWARD)
            .args([
                "ue",
                "bootstrap",
                "--bsf",
                &self.bsf.to_string(),
                "--count",
                &count.to_string(),
            ])
            .arg("--subscribers")
            .arg(self.folder.path().join("subscribers.toml"))
            .arg("--sipp-csv")
            .arg(&csv)
            .output()
            .expect("sipward runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        csv
    }

    /// Runs `sipward ue` with keys of the first subscriber; its exit code and what it printed.
    pub(crate) fn ue(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let keys = self.folder.path().join("keys");
        if !keys.exists() {
            let run = Command::new(SIPWARD)
                .args(["ue", "bootstrap", "--bsf", &self.bsf.to_string()])
                .arg("--subscribers")
                .arg(self.folder.path().join("subscribers.toml"))
                .arg("--keys")
                .arg(&keys)
                .output()
                .expect("sipward runs");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        }
        let (command, rest) = arguments.split_first().expect("a command");
        let run = Command::new(SIPWARD)
            .args([
                "ue",
                command,
                "--edge",
                &self.ue.to_string(),
                "--identity",
                "sip:ue0001@ims.example",
            ])
            .arg("--keys")
            .arg(&keys)
            .args(rest)
            .output()
            .expect("sipward runs");
        let said = [run.stdout, run.stderr].concat();
        (run.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The page of its counters.
    pub(crate) fn counters(&self) -> String {
        let mut page = TcpStream::connect(self.metrics).expect("the page of counters");
        page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("asked");
        let mut octets = Vec::new();
        page.read_to_end(&mut octets).expect("answered");
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Fails unless at least so many requests of that method from UEs were judged by that rule. Who is refused is
    /// remembered by nobody: a request that SIPp sends again is refused again.
    #[track_caller]
    pub(crate) fn assert_ruled(&self, rule: u8, method: &str, times: u64) {
        let of = format!("rule=\"{rule}\",mode=\"enforced\",method=\"{method}\",side=\"ue\"");
        self.assert_counted(&format!("sipward_association_rules_total{{{of}}}"), times);
    }

    /// The same for any counter.
    #[track_caller]
    pub(crate) fn assert_counted(&self, counter: &str, times: u64) {
        let counters = self.counters();
        let value = |line: &str| line.strip_prefix(counter)?.trim().parse::<u64>().ok();
        let count = counters.lines().find_map(value).unwrap_or(0);
        assert!(count >= times, "{counter}: {count}, in\n{counters}\n{}", self.said());
    }

    /// Waits for a line of its log in which all of `words` stand; fails after ten seconds.
    #[track_caller]
    pub(crate) fn await_log(&self, words: &[&str]) {
        let found = self.peer.await_that(Duration::from_secs(10), |lines| {
            lines.iter().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        });
        assert!(found.is_some(), "no line with {words:?}:\n{}", self.peer.said());
    }

    /// Everything it said so far.
    pub(crate) fn said(&self) -> String {
        self.peer.said()
    }
}

fn subscriber(number: usize) -> String {
    format!(
        "[[subscriber]]\nimpi = \"ue{number:04}@ims.example\"\nk = \"465b5ce8b199b49faa5f0a2ee238{number:04x}\"\n\
         opc = \"cd63cb71954a9f4e48a5994e37a02baf\"\nimpus = [\"sip:ue{number:04}@ims.example\"]\n"
    )
}

//! sipward before its backend, configured as an operator of a busy edge would: `sipward serve -c FILE`.
//!
//! Keys come from its own bootstrapping server, which `sipward ue bootstrap` asks for each UE; or, where told so, from
//! a file of accounts. Rates and bounds are raised to what the load brings; everything that is checked stays on.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::digest::Algorithm;
use super::lab::{self, Anchor, BOTH, Certificate, Folder, ONE, Plan, Transport, write_secret};
use super::population::{self, Credentials};
use super::{BSF_NAME, DOMAIN, EDGE_NAME};

/// The program that was built with this bench.
pub(crate) const SIPWARD: &str = env!("CARGO_BIN_EXE_sipward");

/// Where the edge finds keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Bootstrapped, for so many subscribers.
    Bootstrapped(usize),
    /// A file of so many accounts.
    Accounts(usize),
}

/// How the edge is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    /// What is started.
    pub(crate) program: &'a Path,
    pub(crate) keys: Keys,
    pub(crate) algorithm: Algorithm,
    /// Answers to unverified sources stay limited as they are by default.
    pub(crate) wary: bool,
    /// One for each core it may use.
    pub(crate) workers: usize,
    /// Back to back, in place of a proxy.
    pub(crate) bridges: bool,
}

/// Starts it; credentials of all bootstrapped subscribers, or of `ues` accounts spread over all.
pub(crate) fn start(
    plan: &Plan,
    setup: Setup<'_>,
    ues: usize,
    certificate: &Certificate,
    folder: &Folder,
) -> Result<(Anchor, Vec<(usize, Credentials)>), String> {
    let folder = folder
        .inner(if setup.workers == 1 { "sipward" } else { "sipward-2" })
        .map_err(|error| error.to_string())?;
    let file = folder.join("sipward.toml");
    let (name, text) = match setup.keys {
        Keys::Bootstrapped(count) => ("subscribers.toml", population::subscribers(count)),
        Keys::Accounts(count) => ("accounts.csv", population::accounts(count)),
    };
    let write = |path: &Path, text: &str| {
        write_secret(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    write(&folder.join(name), &text)?;
    if plan.transport.has_keys() {
        write(&folder.join("psk.toml"), &population::keys(ues))?;
    }
    write(&file, &configuration(plan, setup, certificate))?;
    let mut command = Command::new(setup.program);
    command.arg("serve").arg("-c").arg(&file);
    let cores = if setup.workers == 1 { ONE } else { BOTH };
    let anchor = Anchor::start("sipward", command, plan, &folder, cores, Duration::from_secs(180))?;
    let credentials = match setup.keys {
        Keys::Bootstrapped(count) => bootstrap(plan, count, &folder)?,
        Keys::Accounts(count) => {
            let spread = |place: usize| place * (count / ues.min(count));
            (0..ues.min(count)).map(spread).map(|n| (n, population::drawn(n))).collect()
        }
    };
    Ok((anchor, credentials))
}

fn configuration(plan: &Plan, setup: Setup<'_>, certificate: &Certificate) -> String {
    let Setup { program: _, keys, algorithm, wary, workers, bridges } = setup;
    let mode = if bridges { "b2bua" } else { "proxy" };
    let (secure, psk) = match plan.transport {
        Transport::PskTls => ("\"tls\"", ", psk = true"),
        Transport::Dtls => ("\"tls\", \"dtls\"", ", psk = true"),
        Transport::Udp | Transport::Tcp | Transport::Tls => ("\"tls\"", ""),
    };
    let (ip, backend) = (plan.ip, plan.backend);
    let digest = format!("digest = {{ algorithms = [\"{}\"] }}", algorithm.as_str());
    let mut text = format!(
        r#"[edge]
domains = ["{DOMAIN}"]
workers = {workers}
[[listen]]
name = "ue"
side = "ue"
address = "{ip}:5060"
transports = ["udp", "tcp"]
identity = "{EDGE_NAME}"
mode = "{mode}"
{digest}
[[listen]]
name = "ue-tls"
side = "ue"
address = "{ip}:5061"
transports = [{secure}]
identity = "{EDGE_NAME}"
mode = "{mode}"
tls = {{ certificate = "{}", key = "{}"{psk} }}
{digest}
[[listen]]
name = "core"
side = "core"
address = "{ip}:5080"
transports = ["udp"]
identity = "{ip}"
[[peer]]
name = "core"
members = ["sip:{backend};transport=udp"]
trust = "address"
[[route]]
domain = "{DOMAIN}"
peer = "core"
[enabler.reg]
rate = "100000/s burst 100000"      # a UE here does in a second what others do in a month
[enabler.sip]
rate = "100000/s burst 100000"
dialog_rate = "100000/s burst 100000"
[enabler.cpm]
pager_max = "8192 octets"           # on UDP it would be an MTU
rate = {{ pager = "100000/s burst 100000" }}
[admission]
flow_rate = "100000/s"
[forward]
transactions_max = 2000000
transactions_of_flow_max = 100000
[association]
mode = "enforce"
max = 1000000
max_per_caller = 1000
[telemetry]
log = "warn"
"#,
        certificate.chain.display(),
        certificate.key.display()
    );
    if !wary {
        let row = "flow_rate = \"100000/s\"\n";
        text = text.replace(row, &format!("{row}answer_rate = \"1000000/s\"\n"));
    }
    if plan.transport.has_keys() {
        text.push_str("[psk]\nkeys = \"psk.toml\"\n");
    }
    let keys = match keys {
        Keys::Bootstrapped(_) => format!(
            "[naf]\nfqdn = \"{EDGE_NAME}\"\n[bsf]\nname = \"{BSF_NAME}\"\nlisten = \"{ip}:8080\"\n\
            subscribers = \"subscribers.toml\"\nsource_rate = \"100000/s\"\n"
        ),
        Keys::Accounts(_) => "[authentication]\naccounts = \"accounts.csv\"\n".to_owned(),
    };
    let _never_fails = write!(text, "{keys}");
    text
}

/// Lets every subscriber bootstrap; their B-TIDs and the keys for this edge.
fn bootstrap(
    plan: &Plan,
    count: usize,
    folder: &Path,
) -> Result<Vec<(usize, Credentials)>, String> {
    let file = folder.join("credentials.csv");
    let began = Instant::now();
    loop {
        let run = Command::new(SIPWARD)
            .args(["ue", "bootstrap", "--bsf", &plan.at(8080).to_string()])
            .args(["--bsf-name", BSF_NAME, "--naf", EDGE_NAME, "--count", &count.to_string()])
            .arg("--subscribers")
            .arg(folder.join("subscribers.toml"))
            .arg("--sipp-csv")
            .arg(&file)
            .output()
            .map_err(|error| error.to_string())?;
        if run.status.success() {
            break;
        }
        if began.elapsed() > Duration::from_secs(10) {
            let said = String::from_utf8_lossy(&run.stderr);
            return Err(format!("the UEs get no keys: {said}"));
        }
        lab::pause(Duration::from_millis(200));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let one = |(number, line): (usize, &str)| {
        let mut fields = line.split(';').skip(1).map(str::to_owned);
        Some((number, Credentials { username: fields.next()?, password: fields.next()? }))
    };
    Ok(text.lines().skip(1).enumerate().filter_map(one).collect())
}

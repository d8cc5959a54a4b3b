//! Secure flows: what a handshake costs beside a bare accept loop, and what an idle flow holds.
//!
//!     cargo bench --bench secure
//!     cargo bench --bench secure -- --before PATH        # the program of another commit beside this one
//!     cargo bench --bench secure -- --instructions       # counted by callgrind, in place of time
//!     cargo bench --bench secure -- --quick              # does it all work? some seconds, figures worth little
//!
//! On the second core are some clients, which shake hands again and again, each time from another address. On the first
//! are, in turns A B B A, a bare loop that accepts, shakes hands and does nothing else (`floor`: rustls for certificates
//! over TLS, OpenSSL for all else, cookies over DTLS included; on one thread of tokio, as a worker of the edge is), and
//! `sipward serve` with certificates, keys and both transports on one port; its PSK-TLS 1.3 is by s2n-tls, of which
//! there is no loop. Beside kinds that rustls does not speak, the loop of rustls takes its turn too, with handshakes of
//! TLS 1.3 (`rustls`).
//!
//! * *us*: processor time of the whole process for one handshake, from the first octet until the flow stands, kernel
//!   included, lower quartile of the slices; the good-byes come between slices and are not counted. *a second*: how
//!   many of them one core does. *ratio*: processor time over the floor's; *least*, *most*: of single rounds.
//!   *rustls*: processor time over that of the loop of rustls, whatever this kind is.
//! * *octets*: what one more flow holds that has had an OPTIONS answered and says nothing, between two counts of them:
//!   proportional set size of the process. The kernel's sockets are not in it.
//! * *instructions*: with `--instructions`, those of one handshake, user space alone, as callgrind counts them between two
//!   counts of handshakes by one client at a time.
//!
//! Microseconds hold for one machine and hour; take ratios. The floor keeps no list of who may connect, looks up no
//! key, and bounds nothing.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that prints what it finds, and computes with numbers that it made itself"
)]

mod client;
mod floor;
mod instructions;
#[path = "../end_to_end/lab.rs"]
#[allow(dead_code, reason = "shared with the other bench")]
mod lab;
#[path = "../end_to_end/measure.rs"]
#[allow(dead_code, reason = "shared with the other bench")]
mod measure;
#[path = "../end_to_end/net.rs"]
#[allow(dead_code, reason = "shared with the other bench")]
mod net;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser as _;

use client::{Clients, Kind, Session};
use lab::{Anchor, Certificate, Folder, KeyKind, ONE, Plan, Transport, pause, write_secret};
use measure::{await_quiet, lower_quartile};

/// The SIP domain of all UEs.
const DOMAIN: &str = "ims.example";
/// The name of the edge, in its certificate.
const EDGE_NAME: &str = "edge.example.net";
/// Who has a key, and the key.
const IDENTITY: &str = "psk;carol@bsf.example.net";
const KEY: [u8; 32] = [0x5a; 32];

/// What is measured, and how long.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo bench --bench secure --")]
struct Options {
    /// Those alone whose name holds this, in small letters
    #[arg(long, default_value = "")]
    only: String,
    /// Handshakes of a slice; 0 for idle flows alone
    #[arg(long, default_value_t = 300)]
    handshakes: usize,
    /// Clients at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    at_once: u8,
    /// Slices of each
    #[arg(long, default_value_t = 8)]
    slices: usize,
    /// Idle flows; 0 for handshakes alone
    #[arg(long, default_value_t = 4000)]
    flows: usize,
    /// `sipward` of another commit, measured beside this one
    #[arg(long)]
    before: Option<PathBuf>,
    /// Count instructions in place of time and memory
    #[arg(long)]
    instructions: bool,
    /// Few of everything
    #[arg(long)]
    quick: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.as_slice() {
        [_, role, rest @ ..] if role == floor::ROLE => floor::run(rest),
        _ => bench(Options::parse_from(arguments)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("secure: {why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(mut options: Options) -> Result<(), String> {
    if options.quick {
        (options.handshakes, options.slices, options.flows) = (30, 2, 200);
    }
    net::make_ready();
    lab::pin_generator();
    let folder = Folder::new().map_err(|error| error.to_string())?;
    let certificate = folder.certificate(KeyKind::Ecdsa)?;
    let mut programs = vec![("sipward", PathBuf::from(env!("CARGO_BIN_EXE_sipward")))];
    programs.extend(options.before.iter().map(|path| ("before", path.clone())));
    let named = |kind: &Kind| kind.as_str().to_lowercase().contains(&options.only);
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(named).collect();
    if options.instructions {
        return instructions::bench(&kinds, options.handshakes, &programs, &certificate, &folder);
    }
    println!(
        "{:34}{:10}{:>9}{:>10}{:>8}{:>8}{:>8}{:>8}",
        "handshake", "who", "us", "a second", "ratio", "least", "most", "rustls"
    );
    for kind in kinds.iter().copied().filter(|_| options.handshakes > 0) {
        handshakes(kind, &options, &programs, &certificate, &folder)?;
    }
    println!("\n{:34}{:10}{:>9}", "idle flow", "who", "octets");
    for kind in kinds.into_iter().filter(|_| options.flows > 0) {
        for (who, program) in &programs {
            let plan = Plan::new(Transport::Tls);
            let anchor = edge(program, &plan, &certificate, &folder, None)?;
            let octets = held(kind, &anchor, &plan, options.flows)?;
            println!("{:34}{who:10}{octets:9.0}", kind.as_str());
        }
    }
    Ok(())
}

/// One kind of handshake with all who take it, in turns.
fn handshakes(
    kind: Kind,
    options: &Options,
    programs: &[(&'static str, PathBuf)],
    certificate: &Certificate,
    folder: &Folder,
) -> Result<(), String> {
    let mut bays = Vec::new();
    let floors: &[_] = match kind {
        Kind::Tls13 => &[("floor", kind)],
        _ => &[("floor", kind), ("rustls", Kind::Tls13)],
    };
    for (who, kind) in floors {
        let plan = Plan::new(Transport::Tls);
        let floor = floor::start(*kind, &plan, certificate, folder, None)?;
        bays.push((*who, floor, lanes(*kind, &plan, options)?));
    }
    for (who, program) in programs {
        let plan = Plan::new(Transport::Tls);
        let anchor = edge(program, &plan, certificate, folder, None)?;
        bays.push((who, anchor, lanes(kind, &plan, options)?));
    }
    let mut costs = vec![Vec::new(); bays.len()];
    for round in 0..=options.slices {
        let mut turn: Vec<usize> = (0..bays.len()).collect();
        if round % 2 == 1 {
            turn.reverse();
        }
        for at in turn {
            await_quiet(Duration::from_secs(1));
            let (who, anchor, lanes) = &mut bays[at];
            let before = anchor.meter.read();
            let sessions = shake_hands(lanes, options.handshakes);
            let sessions = sessions.map_err(|why| format!("{who}: {why}\n{}", anchor.said()))?;
            // What the last ones left to do.
            pause(Duration::from_millis(30));
            let spent = anchor.meter.read().anchor.saturating_sub(before.anchor);
            let count = sessions.len() as f64;
            sessions.into_iter().for_each(Session::leave);
            pause(floor::FORGETS * 2);
            // The first round warms up.
            if round > 0 {
                costs[at].push(spent.as_secs_f64() * 1e6 / count);
            }
        }
    }
    let (floor, rustls) = (costs[0].clone(), costs[floors.len() - 1].clone());
    for ((who, ..), costs) in bays.iter().zip(&costs) {
        let figure = |costs: &[f64]| lower_quartile(costs).unwrap_or(f64::NAN);
        let pairs = || costs.iter().zip(&floor).map(|(own, floor)| own / floor);
        println!(
            "{:34}{who:10}{:9.1}{:10.0}{:8.2}{:8.2}{:8.2}{:8.2}",
            kind.as_str(),
            figure(costs),
            1e6 / figure(costs),
            figure(costs) / figure(&floor),
            pairs().fold(f64::INFINITY, f64::min),
            pairs().fold(0.0, f64::max),
            figure(costs) / figure(&rustls),
        );
    }
    Ok(())
}

fn lanes(kind: Kind, plan: &Plan, options: &Options) -> Result<Vec<Clients>, String> {
    (0..options.at_once).map(|lane| Clients::new(kind, plan.door(), lane)).collect()
}

/// So many handshakes, as many at once as there are lanes.
fn shake_hands(lanes: &mut [Clients], handshakes: usize) -> Result<Vec<Session>, String> {
    let each = handshakes.div_ceil(lanes.len());
    let sessions = thread::scope(|scope| {
        let shake = |clients: &mut Clients| (0..each).map(|_| clients.connect()).collect();
        let threads: Vec<_> =
            lanes.iter_mut().map(|clients| scope.spawn(move || shake(clients))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        let joined = joined.map(|done| done.unwrap_or_else(|_| Err("a client panicked".into())));
        joined.collect::<Result<Vec<Vec<Session>>, String>>()
    })?;
    Ok(sessions.into_iter().flatten().collect())
}

/// Octets of one more flow.
fn held(kind: Kind, anchor: &Anchor, plan: &Plan, flows: usize) -> Result<f64, String> {
    let mut clients = Clients::new(kind, plan.door(), 0)?;
    let mut sessions: Vec<Session> = Vec::new();
    let mut memory = Vec::new();
    for wanted in [flows / 4, flows] {
        while sessions.len() < wanted {
            let mut session = clients.connect()?;
            session.options().map_err(|why| format!("{why}\n{}", anchor.said()))?;
            sessions.push(session);
        }
        pause(Duration::from_millis(700));
        memory.push(anchor.meter.memory() as f64);
    }
    Ok((memory[1] - memory[0]) / (flows - flows / 4) as f64)
}

/// Starts an edge with certificate and key, and TLS and DTLS on one port; its instructions are counted to a file, if one is
/// given.
fn edge(
    program: &Path,
    plan: &Plan,
    certificate: &Certificate,
    folder: &Folder,
    count: Option<&Path>,
) -> Result<Anchor, String> {
    let folder = folder.inner("sipward").map_err(|error| error.to_string())?;
    let (ip, door) = (plan.ip, plan.door());
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    let hex: String = KEY.iter().map(|octet| format!("{octet:02x}")).collect();
    let keys = format!(
        "[[key]]\nidentity = \"{IDENTITY}\"\nkey = \"{hex}\"\nidentities = [\"sip:carol@{DOMAIN}\"]\n"
    );
    let text = format!(
        "[edge]\ndomains = [\"{DOMAIN}\"]\nworkers = 1\n\
         [[listen]]\nname = \"ue\"\nside = \"ue\"\naddress = \"{door}\"\ntransports = [\"tls\", \"dtls\"]\n\
         identity = \"{EDGE_NAME}\"\ntls = {{ certificate = \"{chain}\", key = \"{key}\", psk = true }}\n\
         [[listen]]\nname = \"core\"\nside = \"core\"\naddress = \"{ip}:5080\"\ntransports = [\"udp\"]\n\
         identity = \"{ip}\"\n\
         [[peer]]\nname = \"core\"\nmembers = [\"sip:{};transport=udp\"]\ntrust = \"address\"\n\
         [[route]]\ndomain = \"{DOMAIN}\"\npeer = \"core\"\n\
         [psk]\nkeys = \"psk.toml\"\n[telemetry]\nlog = \"warn\"\n",
        plan.backend
    );
    let file = folder.join("sipward.toml");
    for (path, text) in [(folder.join("psk.toml"), keys), (file.clone(), text)] {
        write_secret(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut command = instructions::counted(program, count);
    command.arg("serve").arg("-c").arg(&file);
    Anchor::start("sipward", command, plan, &folder, ONE, Duration::from_secs(60))
}

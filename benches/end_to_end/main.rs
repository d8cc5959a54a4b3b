//! The edge end to end: what sipward costs between a load generator and a backend, beside a bare relay and Kamailio.
//!
//!     cargo bench --bench end_to_end
//!     cargo bench --bench end_to_end -- --workloads message,call --transports udp,tls --json FILE --chart FILE
//!     cargo bench --bench end_to_end -- --quick          # does it all work? some minutes, figures worth little
//!
//! **What runs.** One process, pinned to the second core, is all UEs and the backend: one thread, datagrams by
//! recvmmsg and sendmmsg, each UE with an address of its own. On the first core, pinned, one worker each, are the
//! *anchors*:
//!
//! * `floor`, a relay that moves octets unread: what the kernel alone costs;
//! * `kamailio`, Debian's, with `kamailio.cfg`, which does the same checks; left out, and said so, if not installed;
//! * `sipward serve`, the binary of this build, configured as an operator of a busy edge would;
//! * `sipward-b2bua`, if asked for, the same back to back with the backend, in place of a proxy;
//! * `sipward-2`, if asked for, the same with two workers on both cores. The generator has to live on one of them, so
//!   that *txn/s* says little of what two cores could do; *figure* beside that of `sipward` says what workers cost each
//!   other;
//! * `before`, if asked for, the program of another commit (`--before PATH`), so that two commits meet in one run.
//!
//! With shared keys (`psk-tls`, `dtls`) there is no Digest: each UE has a key of its own, the flow proves who it is, and
//! one suite, AES-128-GCM, is under all. Kamailio has neither.
//!
//! Keys of UEs are bootstrapped (`sipward ue bootstrap`) and credentials sent ahead, with counts that grow. Kamailio has
//! names and keys of the same form, as HA1 in memory.
//!
//! | workload | one transaction |
//! |---|---|
//! | options | OPTIONS, answered by the anchor |
//! | register | REGISTER, 401 or 407, again with credentials, 200 from the backend |
//! | message | MESSAGE with credentials and a CPIM body of 1000 octets, 200; sipward asks that they cover the body |
//! | call | INVITE with credentials, 180, 200, ACK, BYE with credentials, 200 |
//! | subscribe | SUBSCRIBE with credentials, 200, three NOTIFYs from the backend, each answered |
//! | flood | as `message`, at the fixed rate, while 200,000 datagrams of junk a second arrive from 5000 addresses |
//! | handshake | connect, full TLS 1.3 handshake, OPTIONS, 200, close; 16 at once |
//! | idle | nothing: memory of one more TLS flow, between 1000 and 4000 of them |
//! | scale | as `message`, with 1000 accounts and with 1,000,000 |
//!
//! **How it is measured.** All anchors of a table are up at once and take turns in short slices, A B C C B A, after
//! some seconds of full load that do not count (until its memory was touched once, page faults double what Kamailio
//! costs). A slice waits a little for other work on the machine to pause (`--patience`); all of it takes half an hour.
//! Each turn has two parts. *Saturated*: 64 transactions at once, closed loop; processor time of all processes and
//! threads of the anchor, user and system, from the scheduler's books, for one transaction that ended well. *Paced*: a
//! fixed rate, open loop; latency from when a transaction was due to its last answer.
//!
//! * *figure*: microseconds of processor time for one transaction, lower quartile of the slices; octets of a flow; or
//!   how many MESSAGEs beside a flood were answered at the first try, in %.
//! * *ratio*: the figure over that of the first anchor, in brackets the least and greatest from slice to slice; *to
//!   kamailio*: the same over Kamailio's.
//! * *txn/s*: with the core full, median. With *gen* near 1.00 the generator was the limit: then it is a lower bound.
//! * *p50 p99 p999*: latency at the fixed rate (`--rate`), in microseconds.
//! * *MiB*: proportional set size of all processes of the anchor at the end.
//! * *core, gen, other*: cores used by the anchor, by generator and backend, and by anything else in the worst slice.
//! * *notes*: what went wrong. INVALID: transactions failed, or requests reached the backend with credentials or
//!   without P-Asserted-Identity, or NOTIFYs were refused: the anchor did not do its job, and the row does not count.
//!
//! **What the figures do not say.** Microseconds hold for one machine and hour; only ratios within one run compare, and
//! with *other* above a quarter even these are doubtful. Loopback has no network card, so the kernel's part is not that
//! of a real one. One worker says nothing about many. Latency far below the limit is mostly sleeping and waking, and
//! p999 the machine's. Nothing is lost on loopback, so timers are hardly seen. The floor keeps nothing and checks
//! nothing, so no proxy can reach it. Kamailio does somewhat less (`kamailio.cfg` says what) and forgets transactions
//! after 5 s, where sipward keeps them as long as RFC 3261 says: memory compares badly. In `flood`, sipward's limit on
//! answers to unverified sources is at its default: it is silent to most of the junk, where Kamailio answers.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that prints what it finds, and computes with numbers that it made itself"
)]

mod backend;
mod chart;
mod digest;
mod edge;
mod flood;
mod floor;
mod kamailio;
mod keyed;
mod lab;
mod load;
mod measure;
mod net;
mod options;
mod population;
mod report;
mod run;
mod slices;
mod stream;
mod ue;
mod visits;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use digest::Algorithm;
use lab::Folder;
use options::{Options, Source, Who};
use report::{Machine, Report, Settings};
use run::Bench;

/// The SIP domain of all UEs.
const DOMAIN: &str = "ims.example";
/// The name of the edge, in its certificate and its bootstrapping realm.
const EDGE_NAME: &str = "edge.example.net";
/// The name of its bootstrapping server.
const BSF_NAME: &str = "bsf.example.net";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.as_slice() {
        [_, role, rest @ ..] if role == floor::ROLE => floor::run(rest).map(|()| true),
        _ => bench(Options::parse_from(arguments).settled()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("end_to_end: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the bench; whether every row is valid.
fn bench(mut options: Options) -> Result<bool, String> {
    net::make_ready();
    if !lab::pin_generator() {
        eprintln!(
            "one core is all there is: generator and anchors share it, latencies mean nothing"
        );
    }
    let version = kamailio::version();
    if version.is_none() && options.anchors.contains(&Who::Kamailio) {
        eprintln!(
            "kamailio is not installed (Debian: kamailio, kamailio-tls-modules, kamailio-extra-modules): it is left out"
        );
        options.anchors.retain(|who| *who != Who::Kamailio);
    }
    let folder = Folder::new().map_err(|error| error.to_string())?;
    let mut bench = Bench { options, folder, rows: Vec::new() };
    bench.run();
    let Bench { options, rows, .. } = bench;
    print!("\n{}", report::table(&rows));
    let machine = Machine::here(version);
    let about = format!(
        "{}, kernel {}, one core for each; {} slices of {} s; red is invalid",
        machine.processor, machine.kernel, options.slices, options.seconds
    );
    if let Some(file) = &options.chart {
        std::fs::write(file, chart::draw(&rows, &about))
            .map_err(|e| format!("{}: {e}", file.display()))?;
    }
    if let Some(file) = &options.json {
        let settings = Settings {
            slices: options.slices,
            seconds: options.seconds,
            condition: options.condition,
            ues: options.ues(),
            window: options.window,
            rate: options.rate,
            digest: Algorithm::as_str(options.digest),
            bootstrapped: options.credentials == Source::Bootstrapped,
        };
        let report = Report { machine, settings, rows: &rows };
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(rows.iter().all(|row| row.valid))
}

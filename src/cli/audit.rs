//! `sipward audit`: the attack suite, pointed at a SIP server of one's own.
//!
//! Takes:   a target, accounts in a file, bounds.
//! Gives:   a table, JSON or a page; 0 if nothing failed, 1 if something did or nothing could be judged.
//! Keeps:   nothing.
//! Refuses: targets that are neither loopback nor private, unless they are said to be one's own; passwords on the command line.
//! Sources: none; each case names its own.

use std::io::{self, IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Clap, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{GOOD, NO, Table, USAGE};
use crate::audit::case::{Group, Verdict};
use crate::audit::plan::{self, Door, Plan};
use crate::audit::report::{html, json, table};
use crate::audit::{cases, run as run_cases};
use crate::keys::subscribers::disk;
use crate::transport::ws::Offer;
use crate::transport::{Transport, tls};

/// Arguments.
#[derive(Clone, Debug, Clap)]
#[command(
    after_help = "Attack only what is yours. The cases send few messages, and change nothing but the registrations and calls of the test accounts."
)]
pub struct Args {
    /// Host or address of the server, with a port if it is not 5060 (and 5061 for TLS and DTLS); or ws://HOST:PORT/PATH, or wss:
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// What is spoken to it; the first that answers carries the cases that need one alone
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp,tcp,tls,dtls")]
    transport: Vec<Carrier>,
    /// Its port for TLS and DTLS
    #[arg(long, value_name = "PORT", default_value_t = 5061)]
    tls_port: u16,
    /// Its name: in its certificate; the host of TARGET if left out
    #[arg(long, value_name = "FQDN")]
    name: Option<String>,
    /// The domain of its users; that of the first account if left out
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Certificates of the authorities that its own is checked with: without them, TLS and DTLS are only knocked at
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What WebSocket is opened in the name of: the origin of the page with the phone
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Test accounts, one or two, as in accounts.toml of `sipward init`: [[account]] username, password, identities
    #[arg(long, value_name = "FILE")]
    accounts: Option<PathBuf>,
    /// These groups alone; see --list
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    group: Vec<String>,
    /// These cases alone; see --list
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    case: Vec<String>,
    /// Try the cases that load the target, too: floods and many connections, bounded in rate and count
    #[arg(long)]
    disruptive: bool,
    /// Messages a second, at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Milliseconds that an answer is waited for
    #[arg(long, value_name = "MS", default_value_t = 1500, value_parser = clap::value_parser!(u64).range(50..=30_000))]
    patience: u64,
    /// List the cases, and try none
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the report as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The target is neither loopback nor private, and it is mine
    #[arg(long)]
    i_own_this_target: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Carrier {
    Udp,
    Tcp,
    Tls,
    Dtls,
}

/// Runs it.
///
/// # Errors
///
/// What writing gave.
pub fn run(args: &Args, out: &mut (dyn Write + Send), errors: &mut dyn Write) -> io::Result<u8> {
    if args.list {
        return list(args, out);
    }
    let plan = match plan(args) {
        Ok(plan) => plan,
        Err(why) => {
            writeln!(errors, "sipward audit: {why}")?;
            return Ok(USAGE);
        }
    };
    let bar = bar();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run_cases(plan, |count, row| match row {
        None => bar.set_length(u64::try_from(count).unwrap_or(0)),
        Some(row) => {
            bar.set_message(row.case.name);
            bar.inc(1);
        }
    }));
    bar.finish_and_clear();
    if let Some(file) = &args.html {
        disk::replace(file, html::page(&report).as_bytes())?;
    }
    if args.json {
        writeln!(out, "{:#}", json::value(&report))?;
    } else {
        table::print(&report, out)?;
    }
    let judged = report.count(Verdict::Passed) > 0;
    Ok(if judged && report.count(Verdict::Failed) == 0 { GOOD } else { NO })
}

fn list(args: &Args, out: &mut dyn Write) -> io::Result<u8> {
    if args.json {
        let cases: Vec<_> = cases::all().map(json::case).collect();
        writeln!(out, "{:#}", serde_json::Value::from(cases))?;
        return Ok(GOOD);
    }
    let mut table = Table::new(&["GROUP", "CASE", "NEEDS", "WHAT IS EXPECTED"]);
    for case in cases::all() {
        let mut needs = Vec::new();
        if case.accounts > 0 {
            needs.push(format!(
                "{} account{}",
                case.accounts,
                if case.accounts > 1 { "s" } else { "" }
            ));
        }
        if case.disruptive {
            needs.push("--disruptive".into());
        }
        let (group, name) = (case.group.as_str().to_owned(), case.name.to_owned());
        table.row([group, name, needs.join(", "), case.title.to_owned()]);
    }
    table.print(out)?;
    Ok(GOOD)
}

/// What the arguments ask for, or why not.
fn plan(args: &Args) -> Result<Plan, String> {
    let target = args.target.as_deref().unwrap_or_default();
    let (web, bare) = of_web(target);
    let path = web.and_then(|_| bare.find('/').map(|at| bare.split_at(at)));
    let (authority, path) = path.unwrap_or((bare, "/"));
    let usual = web.map_or(PORT, Transport::default_port);
    let parts = parted(authority, usual);
    let (host, port) = parts.ok_or_else(|| format!("{target:?} is no host or address"))?;
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|why| format!("{host} is not found: {why}"))?.next();
    let ip = found.ok_or_else(|| format!("{host} has no address"))?.ip();
    if !plan::is_near(ip) && !args.i_own_this_target {
        return Err(format!(
            "{ip} is neither loopback nor private: say --i-own-this-target if it is yours to attack"
        ));
    }
    let file =
        |path: &PathBuf| std::fs::read(path).map_err(|why| format!("{}: {why}", path.display()));
    let accounts = match &args.accounts {
        Some(path) => {
            let text = String::from_utf8(file(path)?).map_err(|_| "accounts: no UTF-8 text")?;
            let found = plan::accounts(&text, args.domain.as_deref());
            found.map_err(|why| format!("{}: {why}", path.display()))?
        }
        None => Vec::new(),
    };
    let trust = args.ca.as_ref().map(|path| {
        tls::trust(&file(path)?, b"").map_err(|why| format!("{}: {why}", path.display()))
    });
    let groups: Option<Vec<Group>> = args.group.iter().map(|name| Group::of(name)).collect();
    let groups = groups.ok_or("no such group: see sipward audit --list")?;
    if let Some(name) = args.case.iter().find(|name| !cases::all().any(|case| case.name == **name))
    {
        return Err(format!("no case is called {name:?}: see sipward audit --list"));
    }
    let own = accounts.first().and_then(|account| account.identity.split_once('@'));
    let own = own.map(|(_, domain)| domain.to_owned());
    let authority = if ip.is_ipv6() && host.parse::<IpAddr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    Ok(Plan {
        target: target.to_owned(),
        doors: match web {
            Some(transport) => vec![Door { transport, address: SocketAddr::new(ip, port) }],
            None => {
                let carriers = args.transport.iter();
                carriers.map(|carrier| door(*carrier, ip, port, args.tls_port)).collect()
            }
        },
        ws: Offer { origin: args.origin.clone(), path: path.to_owned() },
        name: args.name.clone().unwrap_or_else(|| host.to_owned()),
        domain: args.domain.clone().or(own).unwrap_or(authority),
        trust: trust.transpose()?,
        accounts,
        rate: args.rate,
        patience: Duration::from_millis(args.patience),
        groups: if groups.is_empty() { Group::ALL.to_vec() } else { groups },
        only: args.case.clone(),
        disruptive: args.disruptive,
    })
}

fn door(carrier: Carrier, ip: IpAddr, port: u16, tls_port: u16) -> Door {
    let (transport, port) = match carrier {
        Carrier::Udp => (Transport::Udp, port),
        Carrier::Tcp => (Transport::Tcp, port),
        Carrier::Tls => (Transport::Tls, tls_port),
        Carrier::Dtls => (Transport::Dtls, tls_port),
    };
    Door { transport, address: SocketAddr::new(ip, port) }
}

/// Whether WebSocket is meant, and what stands behind the scheme.
fn of_web(target: &str) -> (Option<Transport>, &str) {
    for (scheme, transport) in [("ws:", Transport::Ws), ("wss:", Transport::Wss)] {
        if let Some(rest) = target.strip_prefix(scheme) {
            return (Some(transport), rest.strip_prefix("//").unwrap_or(rest));
        }
    }
    (None, target)
}

/// The port that is meant where none is written.
const PORT: u16 = 5060;

/// Host and port of a target as people write it.
fn parted(target: &str, usual: u16) -> Option<(&str, u16)> {
    let bare = target.strip_prefix("sip:").unwrap_or(target);
    if bare.parse::<IpAddr>().is_ok() {
        return Some((bare, usual));
    }
    if let Some((host, rest)) = bare.strip_prefix('[').and_then(|bare| bare.split_once(']')) {
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None => usual,
        };
        return Some((host, port));
    }
    let (host, port) = match bare.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (bare, usual),
    };
    (!host.is_empty()).then_some((host, port))
}

fn bar() -> ProgressBar {
    let visible = io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}");
    let bar = ProgressBar::with_draw_target(None, target);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        for (text, expected) in [
            ("127.0.0.1", Some(("127.0.0.1", 5060))),
            ("127.0.0.1:5070", Some(("127.0.0.1", 5070))),
            ("sip:pbx.example.net:5080", Some(("pbx.example.net", 5080))),
            ("::1", Some(("::1", 5060))),
            ("[::1]:5070", Some(("::1", 5070))),
            ("pbx:sip", None),
            ("", None),
        ] {
            assert_eq!(parted(text, PORT), expected, "{text}");
        }
    }
}

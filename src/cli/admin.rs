//! `sipward status`, `sa`, `dialog` and `explain`: the running edge, asked over its admin socket.
//!
//! Takes:   the configuration that names the socket, or the socket.
//! Gives:   tables, or the edge's own JSON.
//! Keeps:   nothing.
//! Refuses: a configuration without `[admin]`; what the edge refuses, in its words.
//! Sources: SEC_CF 1.1 ADM-001.

mod dialogs;
pub mod explain;
mod offline;

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args as Clap, Subcommand};
use hyper::Method;

use super::{GOOD, NO, Table, USAGE};
use crate::config::Config;
use crate::http::admin::caller;
use crate::http::admin::views::{Dialogs, Revocation, Status};

/// Which edge.
#[derive(Clone, Debug, Clap)]
pub struct Edge {
    /// The configuration of the edge, which names its admin socket
    #[arg(short, long, value_name = "FILE", default_value = "sipward.toml", global = true)]
    config: PathBuf,
    /// The admin socket itself
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The edge's own words, as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// `sipward sa`.
#[derive(Debug, Clap)]
pub struct Associations {
    #[command(flatten)]
    edge: Edge,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Dialogs, and who owns them
    List {
        /// Those of this principal alone: an IMPI, an account or a name in a certificate
        #[arg(long)]
        owner: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// One dialog, and those that came of the same request
    Show {
        /// Its number, as in traces
        id: u64,
    },
    /// Take back what dialogs stand on: their owner may end them, and nothing else
    Revoke(Whom),
}

/// Of whom.
#[derive(Debug, Clap)]
#[group(required = true, multiple = false)]
struct Whom {
    /// What came of one request: its number, as `sa list` shows it
    id: Option<u64>,
    /// All of a caller, and his bootstrapped keys: an IMPI, account@realm, or a name in a certificate
    #[arg(long)]
    owner: Option<String>,
    /// A bootstrapped key, and the dialogs that stand on it
    #[arg(long)]
    btid: Option<String>,
}

/// `sipward dialog`.
#[derive(Debug, Clap)]
pub struct DialogArgs {
    #[command(flatten)]
    edge: Edge,
    /// What to do.
    #[command(subcommand)]
    command: DialogCommand,
}

#[derive(Debug, Subcommand)]
enum DialogCommand {
    /// One dialog, with both its legs
    Show {
        /// Its Call-ID, on either leg
        #[arg(required_unless_present = "id")]
        call_id: Option<String>,
        /// Its tags, in any order; without them every dialog of the Call-ID is shown
        #[arg(long, num_args = 2, value_names = ["TAG", "TAG"], requires = "call_id")]
        tags: Vec<String>,
        /// Its number, in place of the Call-ID
        #[arg(long, conflicts_with = "call_id")]
        id: Option<u64>,
    },
}

/// Runs `sipward status`.
///
/// # Errors
///
/// What writing gave.
pub fn status(edge: &Edge, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    asked(edge, Method::GET, "/status", Bytes::new(), out, errors, |status: Status, out| {
        writeln!(out, "sipward {} on {}", status.version, status.configuration)?;
        let load = match status.load {
            0 => "normal",
            1 => "what proves nothing is dropped",
            _ => "new dialogs are refused",
        };
        writeln!(out, "up {} s, load: {load}, rules: {}", status.seconds, status.mode)?;
        writeln!(
            out,
            "{} connections, {} registrations, {} keys, {} dialogs of {}",
            status.connections,
            status.registrations,
            status.keys,
            status.associations,
            status.associations_max
        )?;
        for (state, count) in &status.states {
            writeln!(out, "  {count} {state}")?;
        }
        writeln!(out)?;
        let mut listeners = Table::new(&["LISTENER", "SIDE", "ADDRESS", "TRANSPORTS"]);
        for one in status.listeners {
            listeners.row([one.name, one.side, one.address, one.transports.join(" ")]);
        }
        listeners.print(out)?;
        let mut certificates = Table::new(&["CERTIFICATE", "AT", "DAYS LEFT"]);
        let some = !status.certificates.is_empty();
        for one in status.certificates {
            let days = one.seconds_left / 86_400;
            certificates.row([one.shown_by, one.at.to_string(), days.to_string()]);
        }
        if some {
            writeln!(out)?;
            certificates.print(out)?;
        }
        Ok(())
    })
}

/// Runs `sipward sa`.
///
/// # Errors
///
/// What writing gave.
pub fn associations(
    args: &Associations,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<u8> {
    match &args.command {
        Command::List { owner, limit } => {
            let owner = owner.as_deref().map(escaped);
            let owner = owner.map(|owner| format!("&owner={owner}")).unwrap_or_default();
            let path = format!("/associations?limit={limit}{owner}");
            looked(&args.edge, &path, out, errors, |found: Dialogs, out| {
                let shown = found.dialogs.len();
                dialogs::list(found.dialogs, out)?;
                if shown < found.found {
                    writeln!(out, "{} more; --limit shows them", found.found - shown)?;
                }
                Ok(())
            })
        }
        Command::Show { id } => show(&args.edge, &format!("/associations/{id}"), out, errors),
        Command::Revoke(whom) => {
            let path = match whom {
                Whom { id: Some(id), .. } => format!("/associations/{id}"),
                Whom { owner: Some(owner), .. } => {
                    format!("/associations?owner={}", escaped(owner))
                }
                Whom { btid, .. } => {
                    format!("/keys?btid={}", escaped(btid.as_deref().unwrap_or_default()))
                }
            };
            let print = |of: Revocation, out: &mut dyn Write| {
                let Revocation { keys, sessions, dialogs } = of;
                writeln!(out, "taken back: {keys} keys, {sessions} sessions, {dialogs} dialogs")
            };
            asked(&args.edge, Method::DELETE, &path, Bytes::new(), out, errors, print)
        }
    }
}

/// Runs `sipward dialog`.
///
/// # Errors
///
/// What writing gave.
pub fn dialog(args: &DialogArgs, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    let DialogCommand::Show { call_id, tags, id } = &args.command;
    let path = match (id, call_id) {
        (Some(id), _) => format!("/associations/{id}"),
        (None, call_id) => {
            let call = escaped(call_id.as_deref().unwrap_or_default());
            let tags: String = tags.iter().map(|tag| format!("&tag={}", escaped(tag))).collect();
            format!("/associations?call={call}{tags}")
        }
    };
    show(&args.edge, &path, out, errors)
}

/// Shows what is there; no is the answer if nothing is.
fn show(edge: &Edge, path: &str, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    let mut none = false;
    let code = looked(edge, path, out, errors, |found: Dialogs, out| {
        none = found.found == 0;
        found.dialogs.iter().enumerate().try_for_each(|(place, dialog)| {
            if place > 0 {
                writeln!(out)?;
            }
            dialogs::show(dialog, out)
        })
    })?;
    if none {
        writeln!(errors, "there is no such dialog")?;
        return Ok(NO);
    }
    Ok(code)
}

/// Asks the edge for something that is there, and prints it.
fn looked<T: serde::de::DeserializeOwned>(
    edge: &Edge,
    path: &str,
    out: &mut dyn Write,
    errors: &mut dyn Write,
    print: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> io::Result<u8> {
    asked(edge, Method::GET, path, Bytes::new(), out, errors, print)
}

/// Asks the edge, and prints what it says.
fn asked<T: serde::de::DeserializeOwned>(
    edge: &Edge,
    method: Method,
    path: &str,
    body: Bytes,
    out: &mut dyn Write,
    errors: &mut dyn Write,
    print: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> io::Result<u8> {
    let Some(socket) = socket(edge, errors)? else { return Ok(USAGE) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(caller::ask(&socket, method, path, body));
    let (status, octets) = match answer {
        Ok(answer) => answer,
        Err(why) => {
            writeln!(errors, "{}: no edge answers: {why}", socket.display())?;
            return Ok(NO);
        }
    };
    if !status.is_success() {
        write!(errors, "{}", String::from_utf8_lossy(&octets))?;
        return Ok(NO);
    }
    if edge.json {
        out.write_all(&octets)?;
        writeln!(out)?;
    }
    match serde_json::from_slice(&octets) {
        // What is printed as JSON is read all the same, for the exit code.
        Ok(value) if edge.json => print(value, &mut io::sink()).map(|()| GOOD),
        Ok(value) => print(value, out).map(|()| GOOD),
        Err(why) => {
            writeln!(errors, "{}: answers in another form: {why}", socket.display())?;
            Ok(NO)
        }
    }
}

/// The socket that is meant; `None` if the configuration does not say.
fn socket(edge: &Edge, errors: &mut dyn Write) -> io::Result<Option<PathBuf>> {
    if let Some(socket) = &edge.socket {
        return Ok(Some(socket.clone()));
    }
    match Config::load(&edge.config) {
        Ok((config, _)) => {
            if config.admin.is_none() {
                let file = edge.config.display();
                writeln!(errors, "{file}: holds no [admin], so its edge cannot be asked")?;
            }
            Ok(config.admin)
        }
        Err(problems) => {
            problems.iter().try_for_each(|problem| writeln!(errors, "{problem}"))?;
            Ok(None)
        }
    }
}

/// A value, as it may stand in a query.
fn escaped(value: &str) -> String {
    let octet = |octet: u8| match octet {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(octet).to_string()
        }
        _ => format!("%{octet:02X}"),
    };
    value.bytes().map(octet).collect()
}

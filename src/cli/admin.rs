//! `sipward status`, `sa` and `dialog`: the running edge, asked over its admin socket.
//!
//! Takes:   the configuration that names the socket, or the socket.
//! Gives:   tables, or the edge's own JSON.
//! Keeps:   nothing.
//! Refuses: a configuration without `[admin]`; what the edge refuses, in its words.
//! Sources: SEC_CF 1.1 ADM-001.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args as Clap, Subcommand};
use hyper::Method;

use super::{GOOD, NO, Table, USAGE};
use crate::config::Config;
use crate::http::admin::caller;
use crate::http::admin::views::{Dialog, Dialogs, Status};

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
}

/// Runs `sipward status`.
///
/// # Errors
///
/// What writing gave.
pub fn status(edge: &Edge, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    asked(edge, "/status", out, errors, |status: Status, out| {
        writeln!(out, "sipward {} on {}", status.version, status.configuration)?;
        let load = match status.load {
            0 => "normal",
            1 => "what proves nothing is dropped",
            _ => "new dialogs are refused",
        };
        writeln!(out, "up {} s, load: {load}", status.seconds)?;
        writeln!(
            out,
            "{} connections, {} registrations, {} dialogs\n",
            status.connections, status.registrations, status.associations
        )?;
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
            asked(&args.edge, &path, out, errors, |found: Dialogs, out| {
                let shown = found.dialogs.len();
                list(found.dialogs, out)?;
                if shown < found.found {
                    writeln!(out, "{} more; --limit shows them", found.found - shown)?;
                }
                Ok(())
            })
        }
        Command::Show { id } => {
            let path = format!("/associations/{id}");
            asked(&args.edge, &path, out, errors, |found: Dialogs, out| {
                found.dialogs.iter().try_for_each(|dialog| show(dialog, out))
            })
        }
    }
}

fn list(dialogs: Vec<Dialog>, out: &mut dyn Write) -> io::Result<()> {
    let headings = ["ID", "STATE", "CLASS", "LEVEL", "OWNER", "GROUP", "BEGUN BY", "REACHED ON"];
    let mut table = Table::new(&headings);
    for one in dialogs {
        let level = format!("{}{}", one.level, if one.secure { " secure" } else { "" });
        let newest = one.anchors.last().cloned().unwrap_or_default();
        let (id, group) = (one.id.to_string(), one.group.to_string());
        table.row([id, one.state, one.class, level, one.owner, group, one.begun_by, newest]);
    }
    table.print(out)
}

fn show(dialog: &Dialog, out: &mut dyn Write) -> io::Result<()> {
    let number = |number: Option<u32>| number.map_or("none".into(), |number| number.to_string());
    let mut table = Table::new(&["DIALOG", &dialog.id.to_string()]);
    for (name, value) in [
        ("state", dialog.state.clone()),
        ("ends by itself in", format!("{} s", dialog.seconds_left)),
        ("class", dialog.class.clone()),
        ("owner on the UE side", dialog.owner.clone()),
        ("group on the core side", dialog.group.to_string()),
        ("begun by", dialog.begun_by.clone()),
        ("least level", dialog.level.to_string()),
        ("secure flows alone", dialog.secure.to_string()),
        ("INVITE usage", dialog.invite.to_string()),
        ("subscriptions", dialog.subscriptions.to_string()),
        ("anchors", dialog.anchors.join(", ")),
        ("CSeq of the UE", number(dialog.ue_cseq)),
        ("CSeq of the core", number(dialog.core_cseq)),
    ] {
        table.row([name.to_owned(), value]);
    }
    table.print(out)
}

/// Asks the edge, and prints what it says.
fn asked<T: serde::de::DeserializeOwned>(
    edge: &Edge,
    path: &str,
    out: &mut dyn Write,
    errors: &mut dyn Write,
    print: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> io::Result<u8> {
    let Some(socket) = socket(edge, errors)? else { return Ok(USAGE) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(caller::ask(&socket, Method::GET, path, Bytes::new()));
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
        return Ok(GOOD);
    }
    match serde_json::from_slice(&octets) {
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

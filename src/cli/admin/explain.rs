//! `sipward explain`: what the running edge would do with a message, and why; or what its configuration alone says.
//!
//! Takes:   a file with one message, and how it would have come.
//! Gives:   each stage that it passes, the evidence, the line that decides, the rule, the answer; 0 if it goes on, 1 if
//!          it is refused. The edge keeps nothing of it. With `--offline` no edge need run: the message is the first
//!          that one of this configuration sees.
//! Keeps:   nothing.
//! Refuses: a file that cannot be read; facts that the edge does not take, in its words.
//! Sources: `dialog-association` section 17.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args as Clap;
use hyper::Method;

use super::{Edge, asked, dialogs, escaped};
use crate::cli::{GOOD, NO, Table, USAGE};
use crate::config::Config;
use crate::http::admin::question::Facts;
use crate::http::admin::views::Explanation;

/// Arguments.
#[derive(Debug, Clap)]
pub struct Args {
    /// The message, as it was captured; line ends may be LF alone
    file: PathBuf,
    #[command(flatten)]
    edge: Edge,
    /// How it came: udp, tcp, tls, dtls, ws or wss
    #[arg(long, default_value = "udp")]
    transport: String,
    /// Where it came from; if a connection is open from there, it came on that
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "192.0.2.1:5060")]
    from: SocketAddr,
    /// It came from the core, not from a UE
    #[arg(long)]
    core: bool,
    /// The listener it came to; the first that fits, if none is named
    #[arg(long)]
    listener: Option<String>,
    /// The peer whose certificate was shown
    #[arg(long, requires = "core")]
    peer: Option<String>,
    /// How many seconds from now it comes
    #[arg(long, default_value_t = 0)]
    ahead: u64,
    /// By the configuration alone: no edge is asked, so no dialog, registration, key or nonce is known
    #[arg(long, conflicts_with = "socket")]
    offline: bool,
}

/// Runs `sipward explain`.
///
/// # Errors
///
/// What writing gave.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    let octets = match std::fs::read(&args.file) {
        Ok(octets) => wired(octets),
        Err(why) => {
            writeln!(errors, "{}: {why}", args.file.display())?;
            return Ok(USAGE);
        }
    };
    let query = query(args);
    if args.offline {
        return offline(&args.edge, octets, &query, out, errors);
    }
    let path = format!("/explain?{query}");
    let mut refused = false;
    let code = asked(&args.edge, Method::POST, &path, octets, out, errors, |found, out| {
        let found: Explanation = found;
        refused = is_refused(&found);
        print(&found, out)
    })?;
    Ok(if code == GOOD && refused { NO } else { code })
}

/// How it would have come, as an edge is told.
fn query(args: &Args) -> String {
    let side = if args.core { "core" } else { "ue" };
    let named = [("listener", &args.listener), ("peer", &args.peer)];
    let named = named.into_iter().filter_map(|(of, name)| name.as_ref().map(|name| (of, name)));
    let named: String = named.map(|(of, name)| format!("&{of}={}", escaped(name))).collect();
    let (transport, from) = (escaped(&args.transport), escaped(&args.from.to_string()));
    format!("transport={transport}&from={from}&side={side}&ahead={}{named}", args.ahead)
}

fn is_refused(found: &Explanation) -> bool {
    matches!(&*found.outcome, "refused" | "dropped")
}

/// The same by the configuration alone.
fn offline(
    edge: &Edge,
    octets: Bytes,
    query: &str,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let config = match Config::load(&edge.config) {
        Ok((config, _)) => config,
        Err(problems) => {
            problems.iter().try_for_each(|problem| writeln!(errors, "{problem}"))?;
            return Ok(USAGE);
        }
    };
    let found = Facts::parse(query).map_err(|(_, why)| io::Error::other(why));
    let found = match found.and_then(|facts| super::offline::explain(&config, octets, &facts)) {
        Ok(found) => found,
        Err(why) => {
            writeln!(errors, "{}: {why}", edge.config.display())?;
            return Ok(NO);
        }
    };
    if edge.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
    } else {
        print(&found, out)?;
    }
    Ok(if is_refused(&found) { NO } else { GOOD })
}

/// A message whose line ends lost their CR gets them back; in one that has any nothing is touched.
fn wired(octets: Vec<u8>) -> Bytes {
    if octets.contains(&b'\r') {
        return octets.into();
    }
    let end = octets.windows(2).position(|two| two == b"\n\n").map_or(octets.len(), |at| at + 2);
    let (head, body) = octets.split_at(end);
    let head = head.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
    [&head[..], body].concat().into()
}

/// Prints it for people.
///
/// # Errors
///
/// Those of writing.
pub fn print(found: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let mut stages = Table::new(&["STAGE", "FOUND"]);
    for stage in &found.stages {
        stages.row([stage.name.clone(), stage.found.clone()]);
    }
    stages.print(out)?;
    writeln!(out)?;
    let decided = match found.line {
        Some(line) => Some(format!("line {line}: {}", found.text)),
        None => Some(found.text.clone()).filter(|text| !text.is_empty()),
    };
    let rule = match found.rule {
        0 => found.rule_name.clone(),
        rule => format!("{rule}, {}", found.rule_name),
    };
    let answer = match (found.answer, &*found.outcome) {
        (Some(status), _) => status.to_string(),
        (None, "refused" | "dropped") => "nothing".into(),
        (None, _) => "none of ours yet".into(),
    };
    let mut table = Table::new(&["OUTCOME", &found.outcome]);
    let refusal = found.refusal.as_ref().zip(found.why.as_ref());
    for (name, value) in [
        ("evidence", found.evidence.clone().or_else(|| Some("none so far".into()))),
        ("decided by", decided),
        ("rule", Some(rule)),
        ("refusal", refusal.map(|(name, why)| format!("{name}: {why}"))),
        ("answer", Some(answer)),
        ("looks up first", found.lookup.clone()),
    ] {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    }
    for line in &found.onward {
        table.row(["onward".to_owned(), line.clone()]);
    }
    table.print(out)?;
    if let Some(dialog) = &found.dialog {
        writeln!(out)?;
        dialogs::show(dialog, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_come_back_to_the_head_alone() {
        for (file, octets) in [
            ("BYE a\nTo: b\n\nx\ny", "BYE a\r\nTo: b\r\n\r\nx\ny"),
            ("BYE a\r\nTo: b\n\nx", "BYE a\r\nTo: b\n\nx"),
            ("BYE a\nTo: b\n\n", "BYE a\r\nTo: b\r\n\r\n"),
        ] {
            assert_eq!(wired(file.into()), octets, "{file:?}");
        }
    }
}

//! `sipward check`: what is wrong with a configuration, and what it would mean.
//!
//! Takes:   the file's name.
//! Gives:   every problem; or warnings and a table of what would be served, and of what is not offered.
//! Keeps:   nothing.
//! Refuses: nothing; it binds no port and writes no file.
//! Sources: V-151.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{GOOD, Table, USAGE};
use crate::config::diameter::Role;
use crate::config::field::{Octets, Shown as _};
use crate::config::{Config, Diameter, Listener, Member, Nbsp, Peer, Problem};
use crate::enabler::Demands;
use crate::enabler::numbers::{Numbers, Prefixes};
use crate::keys::nbsp::token_client::Shown;
use crate::keys::psk::Scheme;
use crate::provision::hex;
use crate::state::seal::KeyPlace;
use crate::transport::peer::{ClientCertificate, Trust};
use crate::transport::{GroupId, Side, Transport};

/// What later versions will have, so that nobody has to search for it.
const NOT_OFFERED: [&str; 2] = ["bearer tokens of UEs (RFC 8898)", "a store that nodes share"];

/// The arguments of `sipward check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(default_value = "sipward.toml")]
    pub file: PathBuf,
    /// The same, as the other commands take it
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Print JSON: one object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; the exit code: 0 if there is no problem, 2 if there is.
///
/// # Errors
///
/// Those of writing.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    let loaded = Config::load(args.config.as_ref().unwrap_or(&args.file));
    let code = if loaded.is_ok() { GOOD } else { USAGE };
    if args.json {
        let value = match &loaded {
            Ok((config, warnings)) => {
                let warnings = warnings.iter().map(|warning| of_problem(&warning.0));
                let mut value = of_config(config);
                value["warnings"] = warnings.collect();
                value
            }
            Err(problems) => {
                let problems = problems.iter().map(of_problem).collect::<Vec<_>>();
                json!({"file": args.file.display().to_string(), "good": false, "problems": problems})
            }
        };
        writeln!(out, "{value:#}")?;
        return Ok(code);
    }
    match loaded {
        Ok((config, warnings)) => {
            for warning in &warnings {
                writeln!(out, "warning: {warning}")?;
            }
            if !warnings.is_empty() {
                writeln!(out)?;
            }
            summary(&config, out)?;
            let count = match warnings.len() {
                0 => "no warnings".to_owned(),
                1 => "1 warning".to_owned(),
                many => format!("{many} warnings"),
            };
            writeln!(out, "\n{} is good: no problems, {count}", args.file.display())?;
        }
        Err(problems) => {
            for problem in &problems {
                writeln!(errors, "{problem}")?;
            }
        }
    }
    Ok(code)
}

fn of_problem(problem: &Problem) -> Value {
    let Problem { file, line, what, why, fix } = problem;
    json!({"file": &**file, "line": line, "what": what, "why": why, "fix": fix})
}

fn of_config(config: &Config) -> Value {
    let listeners = config.listeners.iter().map(|listener| {
        json!({
            "name": &*listener.name,
            "side": side(listener.side),
            "address": listener.address.to_string(),
            "transports": tokens(&listener.transports),
            "identity": &*listener.identity,
            "client_certificates": asks(listener),
        })
    });
    let peers = config.peers.iter().map(|peer| {
        json!({
            "name": &*peer.name,
            "trust": if peer.by_certificate { "certificate" } else { "address" },
            "members": peer.members.iter().map(member).collect::<Vec<_>>(),
            "identity": peer.identities.iter().map(|name| &**name).collect::<Vec<_>>(),
        })
    });
    let class = |demands: &Demands| {
        json!({
            "level": demands.level,
            "secure": demands.secure,
            "rate": demands.rate.shown().trim_matches('"'),
            "body_max_octets": demands.body_max,
        })
    };
    json!({
        "file": config.file.display().to_string(),
        "good": true,
        "problems": [],
        "listeners": listeners.collect::<Vec<_>>(),
        "peers": peers.collect::<Vec<_>>(),
        "routes": routes(config).into_iter().map(|(domain, peer)| json!({"domain": domain, "peer": peer}))
            .collect::<Vec<_>>(),
        "enablers": config.enablers.demands().iter().map(|(name, demands)| (name.clone(), class(demands)))
            .collect::<serde_json::Map<_, _>>(),
        "enabler_mode": if config.enablers.observe { "observe" } else { "enforce" },
        "schemes": schemes(config).into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "bsf": config.bsf.as_ref().map(|bsf| json!({
            "name": &*bsf.name,
            "listen": bsf.listen.to_string(),
            "listen_tls": bsf.listen_tls.map(|at| at.to_string()),
            "gba_digest": bsf.digest.as_ref().map(|of| of.realm.as_str()),
        })),
        "diameter": config.diameter.as_ref().map(|own| json!({
            "identity": &*own.identity,
            "realm": &*own.realm,
            "listen": own.listen.map(|at| at.to_string()),
            "peers": own.peers.iter().map(|peer| {
                let (part, what_for) = part(&peer.role);
                json!({
                    "host": &*peer.host,
                    "realm": &*peer.realm,
                    "part": part,
                    "for": what_for,
                    "protected": !peer.clear,
                })
            }).collect::<Vec<_>>(),
        })),
        "nbsp": config.nbsp.as_ref().map(|own| json!({
            "listen": own.listen.map(|at| at.to_string()),
            "tokens": own.tokens.as_ref().map(|tokens| tokens.len()),
            "nafs": own.nafs.iter().map(|naf| json!({
                "host": &*naf.host,
                "for": naf.granted.fqdns.join(" "),
            })).collect::<Vec<_>>(),
            "servers": own.servers.iter().map(|group| json!({
                "bsf": group.domains.join(" "),
                "push": group.push.join(" "),
                "token": group.token.is_some(),
                "hosts": group.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
        "provision": config.provision.as_ref().map(|own| json!({
            "version": own.version,
            "algorithms_version": config.digest.version,
            "anchors": own.anchors.iter().map(|anchor| hex(anchor)).collect::<Vec<_>>(),
            "tls": own.tls.as_str(),
        })),
        "association": if config.association.observe { "observe" } else { "enforce" },
        "not_offered": NOT_OFFERED,
    })
}

fn summary(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    if !config.listeners.is_empty() {
        let headings = ["LISTENER", "SIDE", "ADDRESS", "SPEAKS", "NAME", "CLIENT CERTIFICATES"];
        let mut table = Table::new(&headings);
        for listener in &config.listeners {
            table.row([
                listener.name.to_string(),
                side(listener.side).into(),
                listener.address.to_string(),
                tokens(&listener.transports).join(" "),
                listener.identity.to_string(),
                asks(listener),
            ]);
        }
        table.print(out)?;
        writeln!(out)?;
        let mut table = Table::new(&["PEER", "BELIEVED BY", "MEMBERS", "DOMAINS"]);
        for (at, peer) in config.peers.iter().enumerate() {
            let domains =
                config.routes.domains.iter().filter(|(_, group)| usize::from(group.0) == at);
            let mut domains: Vec<&str> = domains.map(|(domain, _)| &**domain).collect();
            if config.routes.default.is_some_and(|group| usize::from(group.0) == at) {
                domains.push("all others");
            }
            table.row([
                peer.name.to_string(),
                believed_by(peer, config),
                peer.members.iter().map(member).collect::<Vec<_>>().join(" "),
                domains.join(", "),
            ]);
        }
        table.print(out)?;
        writeln!(out)?;
        let mut table = Table::new(&["CLASS", "LEVEL", "SECURE FLOW", "RATE OF A CALLER", "BODY"]);
        for (name, demands) in config.enablers.demands_in_short() {
            table.row([
                name,
                demands.level.to_string(),
                if demands.secure { "yes" } else { "no" }.into(),
                demands.rate.shown().trim_matches('"').into(),
                Octets(demands.body_max).shown().trim_matches('"').into(),
            ]);
        }
        table.print(out)?;
        writeln!(out)?;
        if config.numbers != Numbers::default() {
            numbers(&config.numbers).print(out)?;
            writeln!(out)?;
        }
        let mut table = Table::new(&["OFFERED", ""]);
        for (name, about) in schemes(config) {
            table.row([name.into(), about]);
        }
        for (name, about) in services(config) {
            table.row([name.into(), about]);
        }
        table.print(out)?;
    }
    if let Some(bsf) = &config.bsf {
        let stored =
            if config.subscribers_are_stored() { ", subscribers in the store" } else { "" };
        let tls = bsf.listen_tls.map(|at| format!(" and https://{at}{}", bsf.path));
        let tls = tls.unwrap_or_default();
        writeln!(out, "bsf      {} on http://{}{}{tls}{stored}", bsf.name, bsf.listen, bsf.path)?;
        if let Some(of) = &bsf.digest {
            let algorithms = of.algorithms.iter().map(|hash| hash.as_str()).collect::<Vec<_>>();
            let (realm, algorithms) = (of.realm.as_str(), algorithms.join(", "));
            writeln!(out, "         passwords of {realm} over TLS (GBA_Digest), {algorithms}")?;
        }
    }
    if let Some(state) = &config.state {
        let key = match &state.key {
            KeyPlace::File(path) => path.display().to_string(),
            KeyPlace::Environment(name) => format!("the variable {name}"),
            KeyPlace::Credential(name) => format!("the credential {name}"),
        };
        writeln!(out, "state    {}, sealed under {key}", state.file.display())?;
    }
    if let Some(own) = &config.diameter {
        let at = own.listen.map(|at| format!(" on {at}")).unwrap_or_default();
        writeln!(out, "diameter {} of {}{at}\n", own.identity, own.realm)?;
        let mut table = Table::new(&["DIAMETER PEER", "REALM", "PART", "FOR", "LINK"]);
        for peer in &own.peers {
            let (part, at) = part(&peer.role);
            let link = if peer.clear { "in the clear" } else { "tls, both certificates" };
            table.row([
                peer.host.to_string(),
                peer.realm.to_string(),
                part.into(),
                at,
                link.into(),
            ]);
        }
        table.print(out)?;
    }
    if let Some(own) = &config.nbsp {
        let at = own.listen.map(|at| format!(" on {at}")).unwrap_or_default();
        let tokens = if own.tokens.is_some() { ", a token of each NAF" } else { "" };
        writeln!(out, "nbsp     TS 29.309{at}, tls, both certificates{tokens}\n")?;
        let mut table = Table::new(&["NBSP PEER", "PART", "FOR"]);
        for naf in &own.nafs {
            table.row([naf.host.to_string(), "asks for keys".into(), naf.granted.fqdns.join(" ")]);
        }
        for group in &own.servers {
            let hosts: Vec<String> = group.servers.iter().map(ToString::to_string).collect();
            let part = if group.token.is_some() { "has keys, by a token" } else { "has keys" };
            table.row([hosts.join(" "), part.into(), group.domains.join(" ")]);
            if !group.push.is_empty() {
                table.row([String::new(), "makes push info".into(), group.push.join(" ")]);
            }
            if let Some(Shown::Fetched(from)) = &group.token {
                table.row([from.at.to_string(), "issues the token".into(), String::new()]);
            }
        }
        table.print(out)?;
    }
    #[cfg(feature = "openssl")]
    if let Some(own) = &config.https {
        writeln!(out, "\nhttps    {}, tls, shared keys and certificates\n", own.listen)?;
        let mut table = Table::new(&["NETWORK", "PART", "FOR"]);
        for part in &own.visited {
            table.row([part.at.to_string(), "takes keys".into(), part.server.to_string()]);
        }
        for home in &own.homes {
            table.row([home.host.to_string(), "hands keys over".into(), home.domains.join(" ")]);
        }
        for manager in &own.managers {
            table.row([manager.to_string(), "fetches documents".into(), "[provision]".into()]);
        }
        table.print(out)?;
    }
    if let Some(own) = &config.provision {
        let (version, tls) = (own.version, own.tls.as_str());
        let anchors = match own.anchors.len() {
            1 => "1 authority".to_owned(),
            many => format!("{many} authorities"),
        };
        writeln!(
            out,
            "\nprovision version {version}: clients trust {anchors}, TLS {tls} or higher"
        )?;
    }
    writeln!(out, "\nnot offered: {}", NOT_OFFERED.join(", "))
}

/// What callers may dial.
fn numbers(numbers: &Numbers) -> Table {
    let tolls = numbers.tolls.shown();
    let heading = format!("COSTLY, {}", tolls.trim_matches('"'));
    let mut table = Table::new(&["CALLERS", "CLASSES", "MAY DIAL", "MAY NOT", &heading]);
    let mut row = |callers: String, classes: String, list: &Prefixes| {
        let shown = |list: &[Box<str>], none: &str| match list {
            [] => none.to_owned(),
            some => some.join(" "),
        };
        let (deny, costly) = (shown(&list.deny, "-"), shown(&list.costly, "-"));
        table.row([callers, classes, shown(&list.allow, "all"), deny, costly]);
    };
    for special in &numbers.special {
        let callers = special.callers.join(" ");
        let callers = if callers.is_empty() { "all".into() } else { callers };
        let classes = if special.classes.is_some() { "some" } else { "all" };
        row(callers, classes.into(), &special.prefixes);
    }
    row("all others".into(), "all".into(), &numbers.usual);
    table
}

/// What a peer of Diameter does, and for what.
fn part(role: &Role) -> (&'static str, String) {
    let names = |names: &[Arc<str>]| names.join(" ");
    match role {
        Role::Keys { domains, push, .. } => {
            let part = match (domains.is_empty(), push.is_empty()) {
                (false, false) => "has keys, makes push info (zn, zpn)",
                (true, false) => "makes push info (zpn)",
                _ => "has keys (zn)",
            };
            (part, names(&[&domains[..], push].concat()))
        }
        Role::Home { .. } => ("has vectors (zh)", "[bsf]".into()),
        Role::Naf { keys, push, granted, .. } => {
            let part = match (keys, push) {
                (true, true) => "asks for keys, push info (zn, zpn)",
                (false, true) => "asks for push info (zpn)",
                _ => "asks for keys (zn)",
            };
            (part, names(&granted.fqdns))
        }
        Role::Bsf { .. } => ("asks for vectors (zh)", "all subscribers".into()),
    }
}

/// What proves a caller, and with what.
fn schemes(config: &Config) -> Vec<(&'static str, String)> {
    let algorithms =
        config.digest.algorithms.iter().map(|hash| hash.as_str()).collect::<Vec<_>>().join(", ");
    let mut schemes = Vec::new();
    if let Some(naf) = config.naf.as_ref().filter(|_| config.authentication.gba) {
        let ids: Vec<String> = naf.ua_ids.iter().map(|id| hex(&id.0)).collect();
        let keys = if naf.gba_digest { ", keys of cards and of passwords" } else { "" };
        let about = format!("{} (Ua {}), {algorithms}{keys}", naf.fqdn, ids.join(", "));
        schemes.push(("gba", about));
    }
    if config.authentication.digest {
        let count = config.authentication.accounts.len();
        let in_file = if count == 1 { "1 account".into() } else { format!("{count} accounts") };
        let proofs = &config.authentication;
        let accounts = match (&proofs.accounts_file, proofs.accounts_in_state) {
            (None, true) => "accounts in the store,".to_owned(),
            (Some(_), true) => format!("{in_file} and those in the store,"),
            (_, false) => in_file,
        };
        schemes
            .push(("digest", format!("{accounts} in realm {}, {algorithms}", config.edge.realm)));
    }
    if let Some(aka) = config.aka.as_ref().filter(|_| config.authentication.aka) {
        let algorithms = aka.algorithms.iter().map(|algorithm| algorithm.as_str());
        let algorithms = algorithms.collect::<Vec<_>>().join(", ");
        let whose = match (&aka.subscribers, &config.bsf) {
            (Some(_), _) => "",
            (None, Some(_)) => ", subscribers of the bsf",
            (None, None) => ", subscribers in the store",
        };
        schemes.push(("aka", format!("cards in realm {}{whose}, {algorithms}", aka.realm)));
    }
    let on: Vec<&str> = config.listeners_with_psk().map(|listener| &*listener.name).collect();
    if !on.is_empty() {
        let on = on.join(", ");
        let suites = match config.psk.scheme {
            Scheme::ThreeGpp => "010001yyzz",
            Scheme::Oma => "030001yyzz",
        };
        let own = config.psk.keys.len();
        let gba =
            config.naf.as_ref().map(|naf| format!(", {} (Ua {suites}, 0100000007)", naf.fqdn));
        schemes.push(("psk", format!("on {on}{}, {own} provisioned", gba.unwrap_or_default())));
    }
    let asking = config.listeners_of(Side::Ue).filter(|listener| asks(listener) != NOT_ASKED);
    let asking: Vec<&str> = asking.map(|listener| &*listener.name).collect();
    if !asking.is_empty() {
        let known = match config.ue_certificates {
            0 => String::new(),
            known => format!(", {known} of them known beforehand"),
        };
        schemes.push(("certificate", format!("on {}{known}", asking.join(", "))));
    }
    schemes
}

/// Who stands behind the classes that only certain peers serve.
fn services(config: &Config) -> Vec<(&'static str, String)> {
    let name = |group: &GroupId| {
        let peer = config.peers.get(usize::from(group.0));
        peer.map(|peer| peer.name.to_string()).unwrap_or_default()
    };
    let names = |groups: &[GroupId]| groups.iter().map(name).collect::<Vec<_>>().join(" ");
    let mut services = Vec::new();
    if !config.enablers.locsip_groups.is_empty() {
        services
            .push(("locsip", format!("locations of {}", names(&config.enablers.locsip_groups))));
    }
    let servers = &config.enablers.push.servers;
    let push =
        servers.iter().map(|(application, groups)| format!("{application} of {}", names(groups)));
    let push = push.collect::<Vec<_>>().join(", ");
    if !push.is_empty() {
        let enablers = &config.enablers;
        let elsewhere = config.nbsp.iter().flat_map(Nbsp::push_realms).next().is_some()
            || config.diameter.iter().flat_map(Diameter::push_realms).next().is_some();
        let keyed = config.authentication.gba && (config.bsf.is_some() || elsewhere);
        let wraps = enablers.push.wraps && keyed;
        let profile = enablers.push_profile.name();
        let wrapped = format!("; wrapped ({profile}) to devices with cards and no secure flow");
        services.push(("push", if wraps { push + &wrapped } else { push }));
    }
    services
}

fn routes(config: &Config) -> Vec<(String, String)> {
    let name = |at: u16| config.peers.get(usize::from(at)).map(|peer| peer.name.to_string());
    let named = config.routes.domains.iter().map(|(domain, group)| (domain.to_string(), group.0));
    let default = config.routes.default.map(|group| ("*".to_owned(), group.0));
    named.chain(default).filter_map(|(domain, at)| Some((domain, name(at)?))).collect()
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Ue => "ue",
        Side::Core => "core",
    }
}

/// The words that the configuration has for them.
fn tokens(transports: &[Transport]) -> Vec<&'static str> {
    let word = |transport: &Transport| match transport {
        Transport::Dtls => "dtls",
        Transport::Wss => "wss",
        other => other.uri_token(),
    };
    transports.iter().map(word).collect()
}

fn asks(listener: &Listener) -> String {
    let spec = listener.tls.as_ref().map(|tls| &tls.spec);
    match spec.map(|spec| (spec.asks, with(&spec.trust))) {
        None | Some((ClientCertificate::None, _)) => NOT_ASKED.into(),
        Some((ClientCertificate::Optional, with)) => format!("asked for{with}"),
        Some((ClientCertificate::Required, with)) => format!("required{with}"),
    }
}

const NOT_ASKED: &str = "not asked for";

/// How it is learnt what was taken back.
fn with(trust: &Trust) -> &'static str {
    match (trust.has_lists(), trust.status().map(|desk| desk.settings().soft)) {
        (false, None) => "",
        (true, None) => ", with lists",
        (false, Some(false)) => ", with OCSP",
        (true, Some(false)) => ", with lists and OCSP",
        (false, Some(true)) => ", with OCSP that may fail",
        (true, Some(true)) => ", with lists, and OCSP that may fail",
    }
}

/// What makes us believe a peer, and how it is learnt what was taken back.
fn believed_by(peer: &Peer, config: &Config) -> String {
    if !peer.by_certificate {
        return "address".into();
    }
    let with = config.dialling.as_ref().map_or("", |dialling| with(&dialling.trust));
    format!("certificate{with}")
}

fn member(member: &Member) -> String {
    let port = member.port.map(|port| format!(":{port}")).unwrap_or_default();
    let transport = member.transport.map(|t| format!("{} ", t.uri_token())).unwrap_or_default();
    format!("{transport}{}{port}", member.host)
}

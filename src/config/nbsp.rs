//! Configuration, Nbsp_GBA: `[nbsp]`, key servers that speak HTTP/2, and NAFs that ask ours so.
//!
//! Takes:   the table as written, and the certificates and tokens it names.
//! Gives:   [`Nbsp`]: who asks us, whom we ask, and what is shown to both.
//! Keeps:   nothing.
//! Refuses: keys in the clear: there is no switch for it; NAFs without a door or without a server to ask; servers without a
//!          NAF of ours, without a domain, or of a domain or realm that another has; a table without use.
//! Sources: TS 29.309 clause 6.1; TS 33.220 clauses 4.4.6, 4.5.2 and 4.5.3; SEC_CF 1.1 SEC-002, CONF-002.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::files::{Fingerprint, Folder, Sum};
use super::grants::{Granted, granted};
use super::listen::{is_address, is_host, pair, trust};
use super::problem::Notes;
use super::raw::{Section, Spot};
use super::tokens;
use crate::keys::nbsp::bearer::{Bearer, Tokens};
use crate::keys::nbsp::client::Server;
use crate::transport::peer::ClientCertificate;
use crate::transport::tls::{ClientTls, ServerSpec, ServerTls};

/// Most NAFs, and most groups of servers.
pub const MAX: usize = 64;
/// Most servers of one group: the others stand in for the first.
pub const SERVERS_MAX: usize = 4;

/// Key servers of others, and NAFs of others.
#[derive(Clone, Debug)]
pub struct Nbsp {
    /// Where NAFs come that ask our server.
    pub listen: Option<SocketAddr>,
    /// For [`ServerTls::of_http2`] and [`ClientTls::of_http2`], both of which it has passed.
    pub tls: Arc<ServerSpec>,
    /// Over all files that was read from.
    pub fingerprint: Fingerprint,
    /// The tokens that NAFs have to show, if they have to.
    pub tokens: Option<Arc<Tokens>>,
    /// Over the files of tokens, theirs and ours.
    pub tokens_fingerprint: Fingerprint,
    /// How long one server may take.
    pub answer: Duration,
    /// Who may ask.
    pub nafs: Vec<NbspNaf>,
    /// Who is asked.
    pub servers: Vec<NbspServers>,
}

/// A NAF that asks our server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbspNaf {
    /// Its name, which its certificate carries, lower case.
    pub host: Arc<str>,
    /// What it may have.
    pub granted: Granted,
}

/// Servers that have the same keys.
#[derive(Clone, Debug)]
pub struct NbspServers {
    /// Domains of their B-TIDs, lower case.
    pub domains: Vec<Arc<str>>,
    /// Realms of the private identities of subscribers that they make push info for, lower case.
    pub push: Vec<Arc<str>>,
    /// Who is asked, in this order.
    pub servers: Vec<Server>,
    /// What we show them beside our certificate, if anything.
    pub token: Option<Bearer>,
}

impl Nbsp {
    /// Domains of B-TIDs whose keys are asked for.
    pub fn domains(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.iter().flat_map(|group| &group.domains)
    }

    /// Realms of subscribers whose push info is asked for.
    pub fn push_realms(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.iter().flat_map(|group| &group.push)
    }

    /// Takes over the tokens of `new`, theirs and ours; whether any differ. Whether they are shown or demanded at all waits
    /// for a restart.
    pub(super) fn take_tokens(&mut self, new: &Self) -> bool {
        if self.tokens_fingerprint == new.tokens_fingerprint {
            return false;
        }
        self.tokens_fingerprint = new.tokens_fingerprint;
        let mut taken = false;
        if let (Some(own), Some(newer)) = (&mut self.tokens, &new.tokens) {
            taken = true;
            *own = Arc::clone(newer);
        }
        for group in &mut self.servers {
            let same = new.servers.iter().find(|other| other.servers == group.servers);
            let newer = same.and_then(|other| other.token.clone());
            if let (Some(own), Some(newer)) = (&mut group.token, newer) {
                taken = true;
                *own = newer;
            }
        }
        taken
    }
}

/// What stands beside `[nbsp]`.
pub(super) struct Beside<'a> {
    /// The name of the bootstrapping server here, if there is one.
    pub(super) bsf: Option<&'a str>,
    /// Domains of B-TIDs whose keys are asked for otherwise.
    pub(super) others: Vec<&'a str>,
}

/// Reads `[nbsp]`.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder, beside: &Beside<'_>) -> Option<Nbsp> {
    let has_naf = root.has("naf");
    let mut section = root.table("nbsp");
    if !section.is_present() {
        return None;
    }
    let (notes, place) = (section.notes(), section.place());
    let say = |what: &str, why: &'static str, fix: &str| {
        notes.say(place.line, what.to_owned(), why, fix);
    };
    let listen = section.maybe::<SocketAddr>("listen").map(|spot| spot.value);
    let tls = tls(&mut section, folder);
    let millis = Duration::from_millis;
    let answer = section.within("answer", millis(900), millis(100)..=millis(10_000));
    let mut nafs: Vec<NbspNaf> = Vec::new();
    for mut row in section.tables("naf").into_iter().take(MAX) {
        let why = "its certificate carries it";
        let host = row.need::<String>("host", why, "\"edge.example.net\"");
        let host = host.and_then(|spot| name(&spot, why, notes));
        let granted = granted(&mut row);
        row.finish();
        let (Some(host), Some(granted)) = (host, granted) else { continue };
        if nafs.iter().any(|other| other.host == host) {
            say(&format!("nbsp.naf.host = {host:?} is there twice"), "one name, one NAF", "");
        }
        nafs.push(NbspNaf { host, granted });
    }
    let mut sum = Sum::new();
    let tokens = tokens::demanded(&mut section, folder, &nafs, &mut sum);
    let mut servers: Vec<NbspServers> = Vec::new();
    let mut taken: Vec<Arc<str>> = beside
        .bsf
        .iter()
        .chain(&beside.others)
        .map(|name| name.to_ascii_lowercase().into())
        .collect();
    for mut row in section.tables("server").into_iter().take(MAX) {
        let pushed: Vec<_> = servers.iter().flat_map(|group| group.push.clone()).collect();
        let shown = tokens::shown(&mut row, folder, &mut sum);
        let group = group(&mut row, &mut taken, pushed, shown);
        row.finish();
        servers.extend(group);
    }
    let asked = (section.has("naf"), section.has("server"));
    section.finish();
    match (asked, listen, beside.bsf) {
        ((false, false), ..) => {
            let fix = "[[nbsp.naf]] or [[nbsp.server]]";
            say("[nbsp] is of no use", "nobody is asked, and nobody may ask", fix);
        }
        ((true, _), None, _) => {
            let why = "NAFs have nowhere to come to";
            say("nbsp.listen is missing", why, "listen = \"0.0.0.0:8443\"");
        }
        ((true, _), _, None) => {
            say("NAFs ask for keys, and nobody has any", "a BSF has them", "[bsf]")
        }
        ((_, true), ..) if !has_naf => {
            say("nbsp.server serves nobody", "keys are for a NAF", "[naf]")
        }
        _ => {}
    }
    let (tls, fingerprint) = tls?;
    Some(Nbsp {
        listen,
        tls: Arc::new(tls),
        fingerprint,
        tokens,
        tokens_fingerprint: sum.fingerprint(),
        answer,
        nafs,
        servers,
    })
}

fn name(spot: &Spot<String>, why: &'static str, notes: &Notes) -> Option<Arc<str>> {
    if !is_host(&spot.value) || is_address(&spot.value) {
        notes.problem(&spot.place, "is no domain name", why, "\"edge.example.net\"");
        return None;
    }
    Some(spot.value.to_ascii_lowercase().into())
}

fn tls(section: &mut Section<'_>, folder: &Folder) -> Option<(ServerSpec, Fingerprint)> {
    let notes = section.notes();
    let line = section.place().line;
    let mut table = section.table("tls");
    if !table.is_present() {
        let why = "both ends have to prove who they are (SEC-002)";
        let fix = "tls = { certificate = \"edge.pem\", key = \"edge.key\", ca = \"peers.pem\" }";
        notes.say(line, "nbsp.tls is missing".into(), why, fix);
        table.finish();
        return None;
    }
    let place = table.place();
    let mut sum = Sum::new();
    let certificate = pair(&mut table, None, folder, &mut sum);
    let trust = trust(&mut table, "ca", folder, &mut sum);
    table.know(&["ocsp_file"]);
    let has_ca = table.has("ca");
    table.finish();
    if !has_ca {
        let why = "both ends show a certificate, and nobody may vouch for theirs";
        notes.say(line, "nbsp.tls.ca is missing".into(), why, "ca = \"peers.pem\"");
    }
    let (certificate, trust) = (certificate?, trust?);
    let asks = ClientCertificate::Required;
    let spec = ServerSpec { certificates: vec![certificate], asks, trust };
    let client = ClientTls::of_http2(spec.trust.clone(), spec.certificates.first()).map(|_| ());
    if let Err(why) = ServerTls::of_http2(&spec).map(|_| ()).and(client) {
        if has_ca {
            notes.problem(&place, "cannot be used", why.to_string(), "");
        }
        return None;
    }
    Some((spec, sum.fingerprint()))
}

/// Servers of one operator.
fn group(
    row: &mut Section<'_>,
    taken: &mut Vec<Arc<str>>,
    pushed: Vec<Arc<str>>,
    token: Option<Bearer>,
) -> Option<NbspServers> {
    let push = push(row, pushed);
    let notes = row.notes();
    let why = "B-TIDs are routed by it (TS 33.220 clause 4.5.2)";
    let domains = row.need::<Vec<String>>("bsf", why, "[\"bsf.example.net\"]");
    let why = "they are dialled there, and their certificates have these names";
    let fix = "[\"bsf1.example.net:8443\", \"bsf2.example.net:8443\"]";
    let hosts = row.need::<Vec<String>>("hosts", why, fix);
    let (domains, hosts) = (domains?, hosts?);
    let mut own: Vec<Arc<str>> = Vec::new();
    for name in &domains.value {
        let lower: Arc<str> = name.to_ascii_lowercase().into();
        if !is_host(name) {
            let what = format!("holds {name:?}, which is no domain");
            notes.problem(&domains.place, &what, "it stands in B-TIDs", "[\"bsf.example.net\"]");
        } else if taken.contains(&lower) {
            let what = format!("holds {name:?}, whose keys come from elsewhere");
            notes.problem(&domains.place, &what, "no key could be told whose it is", "");
        }
        taken.push(Arc::clone(&lower));
        own.push(lower);
    }
    let server = |text: &String| {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let fits = is_host(host) && !is_address(host);
        fits.then(|| Server { host: host.to_ascii_lowercase().into(), port })
    };
    let servers: Option<Vec<Server>> = hosts.value.iter().map(server).collect();
    let servers = servers.filter(|list| (1..=SERVERS_MAX).contains(&list.len()));
    if servers.is_none() {
        let what = format!("is no list of one to {SERVERS_MAX} names with ports");
        notes.problem(&hosts.place, &what, why, fix);
    }
    Some(NbspServers { domains: own, push, servers: servers?, token })
}

/// The realms that push info is asked for there; `taken` are those of groups before it.
fn push(row: &mut Section<'_>, mut taken: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let notes = row.notes();
    let Some(Spot { value, place }) = row.maybe::<Vec<String>>("push") else { return Vec::new() };
    let (mut own, fix) = (Vec::new(), "[\"ims.example.net\"]");
    for name in value {
        let lower: Arc<str> = name.to_ascii_lowercase().into();
        if !is_host(&name) {
            let what = format!("holds {name:?}, which is no realm");
            notes.problem(&place, &what, "it stands in private identities, behind the @", fix);
        } else if taken.contains(&lower) {
            let what = format!("holds {name:?}, which is there twice");
            notes.problem(&place, &what, "nobody could tell whom to ask for push info", "");
        }
        taken.push(Arc::clone(&lower));
        own.push(lower);
    }
    own
}

//! Configuration, HTTPS: `[https]`, the door for devices with shared keys, for parts in other networks, and for device
//! management.
//!
//! Takes:   the table as written, and the certificates it names.
//! Gives:   [`Https`]: where it is, what is shown there, which parts get keys, which homes may hand theirs over, and who may
//!          fetch documents.
//! Keeps:   nothing.
//! Refuses: names that are none or there twice, a door without listeners that take shared keys, servers that fetch documents
//!          where there are none.
//! Sources: SEC_CF 1.1 B.6, B.7, B.8.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::files::{Fingerprint, Folder, Sum};
use super::listen::{Listener, is_address, is_host, pair, trust};
use super::raw::Section;
use crate::http::visited::{Home, Part};
use crate::keys::nbsp::client::Server;
use crate::transport::peer::ClientCertificate;
use crate::transport::tls::ServerSpec;

/// Most parts, and most homes.
pub const MAX: usize = 64;

/// The door.
#[derive(Clone, Debug)]
pub struct Https {
    /// Where it is.
    pub listen: SocketAddr,
    /// What is shown there, and to parts; who may vouch for theirs.
    pub tls: Arc<ServerSpec>,
    /// Over all files that was read from.
    pub fingerprint: Fingerprint,
    /// Parts that keys are made for.
    pub visited: Vec<Part>,
    /// Homes that hand keys over.
    pub homes: Vec<Home>,
    /// Names in the certificates of device-management servers, which fetch the documents of `[provision]`.
    pub managers: Vec<Arc<str>>,
}

/// Reads `[https]`.
pub(super) fn read(
    root: &mut Section<'_>,
    folder: &Folder,
    listeners: &[Listener],
) -> Option<Https> {
    let provides = root.has("provision");
    let mut section = root.table("https");
    if !section.is_present() {
        return None;
    }
    let (notes, line) = (section.notes(), section.place().line);
    let why = "devices and parts of other networks come there";
    let listen = section.need::<SocketAddr>("listen", why, "\"0.0.0.0:8444\"");
    let mut table = section.table("tls");
    let mut sum = Sum::new();
    let certificate = pair(&mut table, None, folder, &mut sum);
    let anchors = trust(&mut table, "ca", folder, &mut sum);
    table.know(&["ocsp_file"]);
    if !table.has("ca") {
        let why = "other networks show a certificate, and nobody may vouch for it";
        notes.say(line, "https.tls.ca is missing".into(), why, "ca = \"peers.pem\"");
    }
    table.finish();
    let mut visited: Vec<Part> = Vec::new();
    for mut row in section.tables("visited").into_iter().take(MAX) {
        let server = name(&mut row, "server", "devices dial it", "\"visited.example.org\"");
        let why = "its door is dialled there, and its certificate has that name";
        let fix = "\"visited.example.org:8444\"";
        let at = row.need::<String>("at", why, fix).and_then(|spot| {
            let found = spot.value.rsplit_once(':').and_then(|(host, port)| {
                let port = port.parse().ok().filter(|port| *port != 0)?;
                let fits = is_host(host) && !is_address(host);
                fits.then(|| Server { host: host.to_ascii_lowercase().into(), port })
            });
            if found.is_none() {
                notes.problem(&spot.place, "is no name with a port", why, fix);
            }
            found
        });
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let lifetime = row.within("lifetime", hour, minute..=hour * 24);
        row.finish();
        let (Some(server), Some(at)) = (server, at) else { continue };
        if visited.iter().any(|part| part.server == server) {
            let what = format!("https.visited.server = {server:?} is there twice");
            notes.say(line, what, "one name, one part", "");
        }
        visited.push(Part { server, at, lifetime });
    }
    let mut homes: Vec<Home> = Vec::new();
    for mut row in section.tables("home").into_iter().take(MAX) {
        let host = name(&mut row, "host", "its certificate carries it", "\"edge.example.net\"");
        let why = "it speaks for users of these domains, and no other";
        let domains = row.need::<Vec<String>>("domains", why, "[\"example.net\"]");
        row.finish();
        let (Some(host), Some(domains)) = (host, domains) else { continue };
        if let Some(bad) = domains.value.iter().find(|domain| !is_host(domain)) {
            let what = format!("holds {bad:?}, which is no domain");
            notes.problem(&domains.place, &what, why, "[\"example.net\"]");
        }
        if homes.iter().any(|home| home.host == host) {
            let what = format!("https.home.host = {host:?} is there twice");
            notes.say(line, what, "one name, one home", "");
        }
        let domains = domains.value.iter().map(|domain| domain.to_ascii_lowercase().into());
        homes.push(Home { host, domains: domains.collect() });
    }
    let managers = section.maybe::<Vec<String>>("managers");
    if let Some(spot) = &managers {
        let fix = "[\"dm.example.net\"]";
        if let Some(bad) = spot.value.iter().find(|name| !is_host(name) || is_address(name)) {
            let what = format!("holds {bad:?}, which is no domain name");
            notes.problem(&spot.place, &what, "their certificates carry them", fix);
        }
        if !provides {
            let why = "there are no documents to fetch";
            notes.problem(&spot.place, "stands without [provision]", why, "");
        }
    }
    let managers = managers.map(|spot| spot.value).unwrap_or_default();
    let managers = managers.iter().take(MAX).map(|name| name.to_ascii_lowercase().into()).collect();
    section.finish();
    if !listeners.iter().any(|listener| listener.psk.is_some()) {
        let why = "devices prove themselves there with a shared key, and no listener takes any";
        notes.say(line, "[https] stands without psk = true".into(), why, "psk = true in a tls");
    }
    let (certificate, trust) = (certificate?, anchors?);
    let asks = ClientCertificate::Required;
    let tls = Arc::new(ServerSpec { certificates: vec![certificate], asks, trust });
    Some(Https {
        listen: listen?.value,
        tls,
        fingerprint: sum.fingerprint(),
        visited,
        homes,
        managers,
    })
}

/// A name that is dialled, lower case.
fn name(
    row: &mut Section<'_>,
    key: &'static str,
    why: &'static str,
    fix: &'static str,
) -> Option<Arc<str>> {
    let spot = row.need::<String>(key, why, fix)?;
    if !is_host(&spot.value) || is_address(&spot.value) {
        row.notes().problem(&spot.place, "is no domain name", why, fix);
        return None;
    }
    Some(spot.value.to_ascii_lowercase().into())
}

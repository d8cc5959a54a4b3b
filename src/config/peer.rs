//! Configuration, peers: `[[peer]]` and `[[route]]`, the servers behind the edge and which domain is whose.
//!
//! Takes:   the tables as written, and the files they name.
//! Gives:   [`Peer`]s with their members and how they are known; [`Routes`].
//! Keeps:   nothing.
//! Refuses: members that are no SIP URI, trust by certificate without TLS, without a name or without an issuer;
//!          routes to peers that do not exist; a domain twice; two opinions on whom to trust.
//! Sources: RFC 3263 section 4; RFC 5922 sections 4 and 7; `DNS-05`, `DNS-08`, `CR-04`,
//!          `TX-08`.

use std::net::IpAddr;
use std::sync::Arc;

use super::files::{Fingerprint, Folder, Sum};
use super::listen::{Listener, is_host, overlap, pair, trust};
use super::problem::{Notes, Place};
use super::raw::{Section, Spot};
use crate::transport::peer::Trust;
use crate::transport::tls::{Certificate, ClientTls};
use crate::transport::{GroupId, Side, Transport};
use crate::wire::Uri;
use crate::wire::uri::{Scheme, host_address};

/// Most peer groups.
pub const PEERS_MAX: usize = 256;
/// Most members of a group.
pub const MEMBERS_MAX: usize = 64;

/// A group of servers that may answer for each other.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the configuration calls it.
    pub name: Arc<str>,
    /// Its members, in the order in which they are tried.
    pub members: Vec<Member>,
    /// Whether requests from it are believed by certificate (level 3) or by address (level 1).
    pub by_certificate: bool,
    /// Addresses that requests may come from, where trust is by address.
    pub addresses: Vec<IpAddr>,
    /// SIP domains of its certificates, lower case.
    pub identities: Vec<Arc<str>>,
    /// Whether its requests may have branches as RFC 2543 knew them, or none.
    pub rfc2543: bool,
    /// Whether it is of the location service: what goes to it, or comes from it, is of class `locsip`.
    pub location: bool,
}

/// One server of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Host of the URI: the domain that a certificate must carry, lower case.
    pub host: Arc<str>,
    /// The host, if it is an address.
    pub address: Option<IpAddr>,
    /// The port, if one is written: then SRV is skipped.
    pub port: Option<u16>,
    /// The transport, if the URI settles it: by parameter or by SIPS.
    pub transport: Option<Transport>,
}

/// Trust in servers that are dialled, and what is shown to those that ask.
#[derive(Clone, Debug)]
pub struct Dialling {
    /// Who may vouch for them.
    pub trust: Trust,
    /// Our certificate.
    pub shows: Option<Arc<Certificate>>,
    /// Over all files it was read from.
    pub fingerprint: Fingerprint,
}

/// Which domain is whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Domain, lower case, and its group.
    pub domains: Vec<(Arc<str>, GroupId)>,
    /// The group of all other domains; `None` refuses them.
    pub default: Option<GroupId>,
}

/// Reads all peers, and how they are dialled.
pub(super) fn read(
    root: &mut Section<'_>,
    listeners: &[Listener],
    folder: &Folder,
) -> (Vec<Peer>, Option<Dialling>) {
    let notes = root.notes();
    let mut peers: Vec<Peer> = Vec::new();
    let mut dialling: Option<(Dialling, Arc<str>)> = None;
    for section in root.tables("peer") {
        let place = section.place();
        if peers.len() == PEERS_MAX {
            notes.say(place.line, format!("more than {PEERS_MAX} peers"), "", "");
            break;
        }
        let Some((peer, dials)) = one(section, listeners, folder) else { continue };
        if peers.iter().any(|other| other.name == peer.name) {
            let what = format!("peer.name = {:?} is there twice", peer.name);
            notes.say(place.line, what, "routes refer to it", "");
        }
        match (&dialling, dials) {
            (None, Some(dials)) => dialling = Some((dials, Arc::clone(&peer.name))),
            (Some((first, name)), Some(dials)) if first.fingerprint != dials.fingerprint => {
                let what = format!("peer.tls differs from that of peer {name:?}");
                let why = "one trust for all peers is what is offered; each still needs its own name in its certificate";
                notes.say(place.line, what, why, "");
            }
            _ => {}
        }
        peers.push(peer);
    }
    (peers, dialling.map(|(dialling, _)| dialling))
}

fn one(
    mut section: Section<'_>,
    listeners: &[Listener],
    folder: &Folder,
) -> Option<(Peer, Option<Dialling>)> {
    let notes = section.notes();
    let name = section.need::<String>("name", "routes refer to it", "\"core\"");
    if section.has("side") {
        section.choice("side", &[("core", ())], "core");
    }
    let why = "requests go to one of them";
    let members = section
        .need::<Vec<String>>("members", why, "[\"sip:203.0.113.10:5060;transport=tcp\"]")
        .and_then(|spot| {
            let members = members(&spot, listeners, notes);
            members.map(|value| Spot { value, place: spot.place })
        });
    let trust_place = section.place_of("trust");
    let by_certificate = section.word("trust", &[("certificate", true), ("address", false)]);
    let written = section.maybe::<Vec<IpAddr>>("addresses");
    let identities = section.maybe::<Vec<String>>("identity");
    let rfc2543 = section.or("rfc2543", false);
    let location = section.choice("enabler", &[("locsip", ())], "locsip").is_some();
    let mut table = section.table("tls");
    let trusts = table.has("ca");
    let dialling = dialling(&mut table, folder);
    table.finish();
    section.finish();
    let (name, members) = (name?, members?);
    let identities = named(identities, &members.value, notes);
    let addresses = addresses(written, &members.value, by_certificate, notes);
    let tls = |member: &Member| member.transport == Some(Transport::Tls);
    if by_certificate {
        prove(&members, &identities, &trust_place, notes);
    } else {
        let why = "whoever can send from such an address speaks for every caller (level 1)";
        notes.warn(&trust_place, "believes addresses", why, "trust = \"certificate\"");
        if addresses.is_empty() {
            let what = "peer.addresses is missing".to_owned();
            let why = "no member is written as an address, so nobody would be believed";
            notes.say(trust_place.line, what, why, "addresses = [\"203.0.113.10\"]");
        }
    }
    if members.value.iter().any(tls) && !trusts {
        let what = "peer.tls.ca is missing".to_owned();
        let why = "a member is dialled over TLS, and nobody may vouch for its certificate";
        notes.say(members.place.line, what, why, "tls = { ca = \"core-ca.pem\" }");
    }
    let peer = Peer {
        name: name.value.into(),
        members: members.value,
        by_certificate,
        addresses,
        identities,
        rfc2543,
        location,
    };
    Some((peer, dialling))
}

fn dialling(table: &mut Section<'_>, folder: &Folder) -> Option<Dialling> {
    if !table.is_present() {
        return None;
    }
    let mut sum = Sum::new();
    let trust = trust(table, "ca", folder, &mut sum);
    let shown = table.has("certificate") || table.has("key");
    let shows = if shown { Some(pair(table, None, folder, &mut sum)?) } else { None };
    let trust = trust?;
    if let Err(why) = ClientTls::new(trust.clone(), shows.as_ref()) {
        table.notes().problem(&table.place(), "cannot be used", why.to_string(), "");
        return None;
    }
    // What a section without certificate was asked for all the same.
    table.know(&["certificate", "key", "ocsp_file"]);
    let shows = shows.map(Arc::new);
    Some(Dialling { trust, shows, fingerprint: sum.fingerprint() })
}

/// The members, each a SIP or SIPS URI; `None` after saying what is wrong.
fn members(spot: &Spot<Vec<String>>, listeners: &[Listener], notes: &Notes) -> Option<Vec<Member>> {
    let example = "[\"sip:203.0.113.10:5060;transport=tcp\"]";
    if spot.value.is_empty() || spot.value.len() > MEMBERS_MAX {
        let what = if spot.value.is_empty() { "is empty" } else { "has more than 64 members" };
        notes.problem(&spot.place, what, "requests go to one of them", example);
        return None;
    }
    let mut members = Vec::new();
    for text in &spot.value {
        let member = match member(text) {
            Ok(member) => member,
            Err(what) => {
                let what = format!("holds {text:?}, which {what}");
                notes.problem(&spot.place, &what, "members are SIP URIs", example);
                return None;
            }
        };
        if let Some(own) = listeners.iter().find(|listener| is_own(&member, listener)) {
            let what = format!("holds {text:?}, which is listener {:?}", own.name);
            notes.problem(&spot.place, &what, "requests would come back for ever (DNS-09)", "");
        }
        members.push(member);
    }
    Some(members)
}

fn member(text: &str) -> Result<Member, &'static str> {
    let uri = Uri::parse(text.as_bytes()).ok_or("is no URI")?;
    let secure = match uri.scheme() {
        Scheme::Sip => false,
        Scheme::Sips => true,
        _ => return Err("is not a SIP URI"),
    };
    if uri.user().is_some() || !uri.headers().is_empty() {
        return Err("names a user or headers, but servers are meant");
    }
    let host = std::str::from_utf8(uri.host()).map_err(|_| "is no URI")?;
    if !is_host(host) {
        return Err("names no host");
    }
    let transport = match uri.param("transport").map(<[u8]>::to_ascii_lowercase).as_deref() {
        None if secure => Some(Transport::Tls),
        None => None,
        Some(b"udp") if !secure => Some(Transport::Udp),
        Some(b"tcp") if !secure => Some(Transport::Tcp),
        Some(b"tcp" | b"tls") => Some(Transport::Tls),
        Some(_) => return Err("asks for a transport that is not offered"),
    };
    Ok(Member {
        host: host.to_ascii_lowercase().into(),
        address: host_address(uri.host()),
        port: uri.port(),
        transport,
    })
}

fn is_own(member: &Member, listener: &Listener) -> bool {
    let transport = member.transport.unwrap_or(Transport::Udp);
    let port = member.port.unwrap_or_else(|| transport.default_port());
    let address = member.address.map(|ip| (ip, port).into());
    // A wildcard takes every address of this machine, which no file knows; loopback is one of them.
    address.is_some_and(|address: std::net::SocketAddr| {
        let same = listener.address == address;
        let looped = address.ip().is_loopback() && overlap(listener.address, address);
        (same || looped) && listener.transports.contains(&transport)
    })
}

/// The domains of the peer's certificates: as written, or those of the members that have a name (`DNS-05`).
fn named(written: Option<Spot<Vec<String>>>, members: &[Member], notes: &Notes) -> Vec<Arc<str>> {
    let Some(Spot { value, place }) = written else {
        let mut names: Vec<Arc<str>> = members
            .iter()
            .filter(|member| member.address.is_none())
            .map(|member| Arc::clone(&member.host))
            .collect();
        names.sort();
        names.dedup();
        return names;
    };
    for name in value.iter().filter(|name| !is_host(name)) {
        let what = format!("holds {name:?}, which is no domain");
        let why = "compared with the SAN in whole: no wildcards, no users (RFC 5922 section 7.2)";
        notes.problem(&place, &what, why, "[\"core.example.net\"]");
    }
    value.iter().map(|name| name.to_ascii_lowercase().into()).collect()
}

/// The addresses that are believed: as written, or those of the members that are addresses.
fn addresses(
    written: Option<Spot<Vec<IpAddr>>>,
    members: &[Member],
    by_certificate: bool,
    notes: &Notes,
) -> Vec<IpAddr> {
    match written {
        Some(Spot { place, .. }) if by_certificate => {
            let why = "addresses are not looked at where certificates are asked for";
            notes.problem(&place, "stands beside trust = \"certificate\"", why, "");
            Vec::new()
        }
        Some(Spot { value, place }) => {
            if let Some(any) = value.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
                let what = format!("holds {any}, which is nobody's address");
                notes.problem(
                    &place,
                    &what,
                    "each address is believed by itself",
                    "[\"203.0.113.10\"]",
                );
            }
            value
        }
        None if by_certificate => Vec::new(),
        None => members.iter().filter_map(|member| member.address).collect(),
    }
}

/// Holds a peer that is trusted by certificate to what such trust needs.
fn prove(members: &Spot<Vec<Member>>, identities: &[Arc<str>], trust: &Place, notes: &Notes) {
    let clear = members.value.iter().find(|member| member.transport != Some(Transport::Tls));
    if let Some(member) = clear {
        let what = format!("peer.members names {:?} without TLS", member.host);
        let why = "trust = \"certificate\" asks for one, and only TLS shows it; write trust = \"address\" if the network between is yours";
        let fix = format!("members = [\"sip:{}:5061;transport=tls\"]", member.host);
        notes.say(members.place.line, what, why, fix);
    } else if identities.is_empty() {
        let why = "the members are addresses, so nothing says which name their certificate must carry (DNS-05)";
        let fix = "identity = [\"core.example.net\"]";
        notes.say(trust.line, "peer.identity is missing".into(), why, fix);
    }
}

/// Reads the routes.
pub(super) fn routes(
    root: &mut Section<'_>,
    peers: &[Peer],
    served: &[Arc<str>],
    foreign: bool,
) -> Routes {
    let notes = root.notes();
    let mut domains: Vec<(Arc<str>, GroupId)> = Vec::new();
    for mut section in root.tables("route") {
        let domain =
            section.need::<String>("domain", "requests for it go to the peer", "\"example.net\"");
        let peer = section.need::<String>("peer", "the name of a [[peer]]", "\"core\"");
        section.finish();
        let (Some(domain), Some(peer)) = (domain, peer) else { continue };
        if !is_host(&domain.value) {
            notes.problem(&domain.place, "is no domain", "", "\"example.net\"");
            continue;
        }
        let name: Arc<str> = domain.value.to_ascii_lowercase().into();
        if domains.iter().any(|(other, _)| *other == name) {
            notes.problem(&domain.place, "has a route already", "one domain, one peer", "");
        }
        match group(peers, &peer.value) {
            Some(group) => domains.push((name, group)),
            None => {
                let known =
                    peers.first().map(|peer| format!("{:?}", peer.name)).unwrap_or_default();
                let names = peers.iter().map(|peer| &*peer.name).collect::<Vec<_>>().join(", ");
                let why = format!("peers are: {}", if names.is_empty() { "none" } else { &names });
                notes.problem(&peer.place, "is no peer", why, &known);
            }
        }
    }
    let first = (!peers.is_empty()).then_some(GroupId(0));
    if let Some(first) = first {
        for domain in served {
            if !domains.iter().any(|(name, _)| name == domain) {
                domains.push((Arc::clone(domain), first));
            }
        }
    }
    Routes { domains, default: first.filter(|_| foreign) }
}

fn group(peers: &[Peer], name: &str) -> Option<GroupId> {
    let at = peers.iter().position(|peer| &*peer.name == name)?;
    u16::try_from(at).ok().map(GroupId)
}

/// Holds peers and listeners together: what is dialled needs a socket to leave from.
pub(super) fn outlets(peers: &[Peer], listeners: &[Listener], notes: &Notes, place: &Place) {
    let core: Vec<&Listener> =
        listeners.iter().filter(|listener| listener.side == Side::Core).collect();
    for peer in peers {
        let dials_udp = peer.members.iter().find(|member| member.transport == Some(Transport::Udp));
        let has_udp = core.iter().any(|listener| listener.transports.contains(&Transport::Udp));
        if let Some(member) = dials_udp
            && !has_udp
        {
            let what =
                format!("peer {:?} is reached over UDP, but no core listener speaks it", peer.name);
            let why = format!("datagrams to {} need a socket to leave from", member.host);
            notes.say(place.line, what, why, "transports = [\"udp\", \"tcp\"]");
        }
        let asks = |listener: &&&Listener| {
            listener.tls.as_ref().is_some_and(|tls| !tls.spec.trust.is_empty())
        };
        if peer.by_certificate && !core.is_empty() && core.iter().find(asks).is_none() {
            let place = Place {
                line: place.line,
                path: "listen.tls.client_auth".into(),
                written: String::new(),
            };
            let why = format!(
                "peer {:?} proves itself by certificate, and is asked for none when it dials",
                peer.name
            );
            notes.warn(&place, "is \"none\" on the core side", why, "client_auth = \"optional\"");
        }
    }
}

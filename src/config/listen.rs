//! Configuration, listeners: `[[listen]]`, the edge's own addresses, names and certificates.
//!
//! Takes:   the tables as written, and the files they name.
//! Gives:   [`Listener`]s that can be bound and shown, certificates read and tried.
//! Keeps:   nothing.
//! Refuses: two listeners on one port, TLS beside cleartext, WebSocket beside anything, a certificate that does not carry the listener's
//!          name or is out of its time, a key that others can read, trust in nobody where clients are asked. An answer
//!          of OCSP that cannot be shown is warned of, and not shown.
//! Sources: RFC 5922 sections 7.1 and 7.4; RFC 3261 sections 18.2.1 and 26.3.1; `TR-01`, `RR-02`, `VIA-07`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::dtls::{self, Dtls};
use super::files::{Fingerprint, Folder, Secrecy, Sum};
use super::ocsp;
use super::problem::{Notes, Place};
use super::psk::{self, Offer};
use super::raw::{Section, Spot};
use super::ws;
use crate::authentication::digest::Hash;
use crate::authentication::sec_agree::Mode;
use crate::clock;
use crate::transport::ocsp::desk::StatusDesk;
use crate::transport::peer::{ClientCertificate, Trust};
use crate::transport::tls::{self, Certificate, ServerSpec, ServerTls, TlsProblem};
use crate::transport::ws::Rules;
use crate::transport::{Side, Transport};

/// Most listeners.
pub const LISTENERS_MAX: usize = 64;
/// Most certificates of one listener, by SNI.
pub const CERTIFICATES_MAX: usize = 256;
/// A certificate that ends within so many seconds is warned of: 30 days.
const ENDS_SOON: u64 = 30 * 86_400;

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What the configuration calls it.
    pub name: Arc<str>,
    /// The face it belongs to.
    pub side: Side,
    /// Where.
    pub address: SocketAddr,
    /// What it speaks: UDP, TCP or both; or TLS, DTLS or both; or WebSocket.
    pub transports: Vec<Transport>,
    /// The host in Via and Record-Route, and in its certificate; lower case.
    pub identity: Arc<str>,
    /// Its certificates, where it speaks TLS.
    pub tls: Option<ListenerTls>,
    /// Whether handshakes with shared keys are taken beside them.
    pub psk: Option<Offer>,
    /// How it speaks DTLS, if it does.
    pub dtls: Option<Dtls>,
    /// Whom it lets in, if it speaks WebSocket.
    pub ws: Option<Arc<Rules>>,
    /// Digest algorithms of its own, the preferred one first.
    pub algorithms: Option<Vec<Hash>>,
    /// Whether UDP is answered to the source port even without `rport` (`VIA-04`).
    pub force_rport: bool,
    /// What it does about security agreements.
    pub sec_agree: Mode,
    /// Whether it refuses who asks for outbound through another hop.
    pub outbound_required: bool,
}

impl Listener {
    /// Its end of TLS, if it has one.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`].
    pub fn server_tls(&self) -> Result<Option<Arc<ServerTls>>, TlsProblem> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let make = if self.ws.is_some() { ServerTls::of_websocket } else { ServerTls::new };
        make(&tls.spec).map(Arc::new).map(Some)
    }
}

/// What a TLS listener shows and asks for.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// For [`ServerTls::new`] and [`ServerTls::replace`], which it has passed.
    pub spec: Arc<ServerSpec>,
    /// Over all files it was read from: another one means that something was renewed.
    pub fingerprint: Fingerprint,
}

/// Reads all listeners.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder) -> Vec<Listener> {
    let notes = root.notes();
    let mut listeners: Vec<Listener> = Vec::new();
    for section in root.tables("listen") {
        let (place, address) = (section.place(), section.place_of("address"));
        if listeners.len() == LISTENERS_MAX {
            let what = format!("more than {LISTENERS_MAX} listeners");
            notes.say(place.line, what, "each costs a socket a core", "");
            break;
        }
        let Some(listener) = one(section, folder) else { continue };
        for other in &listeners {
            clash(&listener, other, &place, &address, notes);
        }
        listeners.push(listener);
    }
    listeners
}

fn one(mut section: Section<'_>, folder: &Folder) -> Option<Listener> {
    let why_side = "\"ue\" faces devices, \"core\" faces servers; a listener belongs to one";
    let why_identity =
        "this name stands in Via, Record-Route and the certificate (RFC 5922 section 7.5)";
    let name = section.need::<String>("name", "warnings refer to it", "\"ue\"");
    let side = match section.has("side") {
        true => section.choice("side", &[("ue", Side::Ue), ("core", Side::Core)], "ue"),
        false => section.need::<String>("side", why_side, "\"ue\"").and(None),
    };
    let address = section.need::<SocketAddr>("address", "where to listen", "\"0.0.0.0:5060\"");
    let transports = transports(&mut section);
    let identity =
        section.need::<String>("identity", why_identity, "\"edge.example.net\"").and_then(|spot| {
            let fits = is_host(&spot.value);
            if !fits {
                let why = "it is a name such as DNS knows, or an address, without a port";
                section.notes().problem(&spot.place, "is no host", why, "\"edge.example.net\"");
            }
            fits.then_some(spot)
        });
    let (tls, psk) = tls(&mut section, &transports, identity.as_ref(), folder);
    if let Some(psk) = psk.as_ref().filter(|_| side == Some(Side::Core)) {
        let why = "a shared key proves a user, and servers are known by certificates";
        section.notes().problem(&psk.place, "stands at a listener for servers", why, "false");
    }
    let offer = psk.as_ref().map(|spot| spot.value);
    let dtls = dtls::read(&mut section, transports.as_deref(), side, (tls.as_ref(), offer));
    let ws = ws::read(&mut section, transports.as_deref(), side, address.as_ref(), psk.as_ref());
    let mut digest = section.table("digest");
    let algorithms =
        digest.maybe::<Vec<Hash>>("algorithms").map(|spot| algorithms(spot, digest.notes()));
    digest.finish();
    let force_rport = section.or("force_rport", true);
    let sec_agree = sec_agree(&mut section, side, transports.as_deref());
    let outbound_required = outbound_required(&mut section, side);
    section.finish();
    let identity = identity?.value.to_ascii_lowercase();
    Some(Listener {
        name: name?.value.into(),
        side: side?,
        address: address?.value,
        transports: transports?,
        identity: identity.into(),
        tls,
        psk: psk.map(|spot| spot.value),
        dtls,
        ws,
        algorithms,
        force_rport,
        sec_agree,
        outbound_required,
    })
}

/// Whether who asks for outbound must be the hop before.
fn outbound_required(section: &mut Section<'_>, side: Option<Side>) -> bool {
    let (notes, place) = (section.notes(), section.place_of("outbound"));
    let required = section.word("outbound", &[("forward", false), ("required", true)]);
    if required && side == Some(Side::Core) {
        let why = "it is about devices and their first hop (RFC 5626 section 11.6)";
        notes.problem(&place, "stands at a listener for servers", why, "\"forward\"");
    }
    required
}

/// What a listener does about security agreements.
fn sec_agree(
    section: &mut Section<'_>,
    side: Option<Side>,
    transports: Option<&[Transport]>,
) -> Mode {
    let (notes, place) = (section.notes(), section.place_of("sec_agree"));
    let modes = [("off", Mode::Off), ("accept", Mode::Accept), ("require", Mode::Require)];
    let mode = section.word("sec_agree", &modes);
    if mode == Mode::Off {
        return mode;
    }
    if side == Some(Side::Core) {
        let why = "it is between a device and its first hop (RFC 3329 section 2.3)";
        notes.problem(&place, "stands at a listener for servers", why, "\"off\"");
    }
    if transports.is_some_and(|list| list.contains(&Transport::Dtls)) {
        let why = "RFC 3329 has a name for TLS and none for DTLS: give DTLS a listener of its own";
        notes.problem(&place, "stands at a listener with DTLS", why, "\"off\"");
    }
    mode
}

fn transports(section: &mut Section<'_>) -> Option<Vec<Transport>> {
    let Spot { value: words, place } = section.need::<Vec<String>>(
        "transports",
        "[\"udp\", \"tcp\"] share a port, [\"tls\"] has its own",
        "[\"udp\", \"tcp\"]",
    )?;
    let notes = section.notes();
    let example = "[\"udp\", \"tcp\"]";
    let mut transports = Vec::new();
    for word in &words {
        let transport = match word.as_str() {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            "dtls" => Transport::Dtls,
            "ws" => Transport::Ws,
            "wss" => Transport::Wss,
            other => {
                let what = format!("holds {other:?}, which is not offered");
                notes.problem(
                    &place,
                    &what,
                    "what is: \"udp\", \"tcp\", \"tls\", \"dtls\", \"wss\", \"ws\"",
                    example,
                );
                return None;
            }
        };
        if transports.contains(&transport) {
            notes.problem(&place, &format!("holds {word:?} twice"), "once is enough", example);
            return None;
        }
        transports.push(transport);
    }
    if transports.is_empty() {
        notes.problem(&place, "is empty", "it would listen to nothing", example);
        return None;
    }
    if transports.len() > 1 && transports.iter().any(|transport| transport.is_websocket()) {
        let why = "WebSocket needs a port of its own: it begins with HTTP, and where HTTP is taken, SIP is not";
        notes.problem(&place, "mixes WebSocket with others", why, "[\"wss\"]");
        return None;
    }
    let secure = |transport: &Transport| transport.is_secure();
    if transports.iter().any(secure) && !transports.iter().all(secure) {
        let why = "TLS needs a port of its own: in the clear, nobody could tell which was meant";
        notes.problem(&place, "mixes TLS with cleartext", why, "[\"tls\"]");
        return None;
    }
    Some(transports)
}

/// Whether `text` is a host as it may stand in a URI.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = text.len() <= 253
        && text.split('.').all(label)
        && !text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let is_v6 = bracketed.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    is_name || is_v6 || text.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Whether `text` is an address rather than a name, with or without brackets.
pub(super) fn is_address(text: &str) -> bool {
    text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// A list of algorithms, or the default after saying what is wrong with it.
pub(super) fn algorithms(spot: Spot<Vec<Hash>>, notes: &Notes) -> Vec<Hash> {
    let Spot { value, place } = spot;
    let repeated =
        value.iter().enumerate().any(|(at, hash)| value.iter().take(at).any(|h| h == hash));
    if value.is_empty() || repeated {
        let what = if repeated { "names one twice" } else { "is empty" };
        let why = "each algorithm is one row of a challenge (RFC 8760 section 2.3)";
        notes.problem(&place, what, why, "[\"SHA-256\", \"MD5\"]");
        return vec![Hash::Sha256, Hash::Md5];
    }
    if value.contains(&Hash::Md5) {
        let why = "it is deprecated (RFC 8760 section 3); many clients know nothing else, and GBA keys do not depend on it";
        notes.warn(&place, "offers MD5", why, "algorithms = [\"SHA-256\"]");
    }
    value
}

fn tls(
    section: &mut Section<'_>,
    transports: &Option<Vec<Transport>>,
    identity: Option<&Spot<String>>,
    folder: &Folder,
) -> (Option<ListenerTls>, Option<Spot<Offer>>) {
    let mut table = section.table("tls");
    let notes = section.notes();
    let wanted = transports.as_ref().is_some_and(|list| list.iter().any(|it| it.is_secure()));
    if !table.is_present() {
        if wanted {
            let what = format!("{} is missing", table.place().path);
            let fix = "tls = { certificate = \"edge.pem\", key = \"edge.key\" }";
            notes.say(table.place().line, what, "TLS cannot do without a certificate", fix);
        }
        return (None, None);
    }
    if !wanted && transports.is_some() {
        let why = "it would not be used, and somebody may believe that it is";
        notes.problem(&table.place(), "stands at a listener without TLS", why, "");
    }
    let offer = psk::offer(&mut table);
    (certificates(table, identity, folder), offer)
}

fn certificates(
    mut table: Section<'_>,
    identity: Option<&Spot<String>>,
    folder: &Folder,
) -> Option<ListenerTls> {
    let (notes, place) = (table.notes(), table.place());
    let mut sum = Sum::new();
    let own = pair(&mut table, identity, folder, &mut sum);
    let mut more = table.tables("certificates");
    if more.len() >= CERTIFICATES_MAX {
        notes.problem(&place, "has too many certificates", "256 at most, by SNI", "");
        more.truncate(CERTIFICATES_MAX);
    }
    let mut certificates = vec![own];
    for mut other in more {
        certificates.push(pair(&mut other, None, folder, &mut sum));
        other.finish();
    }
    let asks = table.word(
        "client_auth",
        &[
            ("none", ClientCertificate::None),
            ("optional", ClientCertificate::Optional),
            ("require", ClientCertificate::Required),
        ],
    );
    let trust = trust(&mut table, "client_ca", folder, &mut sum);
    if asks != ClientCertificate::None && !table.has("client_ca") {
        let what = format!("{}.client_ca is missing", place.path);
        let why = "client certificates are asked for, but nobody may vouch for them";
        notes.say(place.line, what, why, "client_ca = \"clients.pem\"");
        return None;
    }
    table.finish();
    let certificates: Vec<Certificate> = certificates.into_iter().collect::<Option<_>>()?;
    let spec = ServerSpec { certificates, asks, trust: trust? };
    if let Err(why) = ServerTls::new(&spec) {
        notes.problem(&place, "cannot be used", why.to_string(), "");
        return None;
    }
    Some(ListenerTls { spec: Arc::new(spec), fingerprint: sum.fingerprint() })
}

/// A certificate with its key, from the keys `certificate` and `key`.
pub(super) fn pair(
    table: &mut Section<'_>,
    identity: Option<&Spot<String>>,
    folder: &Folder,
    sum: &mut Sum,
) -> Option<Certificate> {
    let notes = table.notes();
    let chain =
        table.need::<PathBuf>("certificate", "TLS shows it to the other end", "\"edge.pem\"");
    let key = table.need::<PathBuf>("key", "the private key of the certificate", "\"edge.key\"");
    let chain_octets = chain.as_ref().and_then(|spot| folder.read_pem(spot, Secrecy::Open, notes));
    let key_octets = key.as_ref().and_then(|spot| folder.read_pem(spot, Secrecy::Secret, notes));
    let (chain_octets, key_octets) = (chain_octets?, key_octets?);
    sum.add(&chain_octets);
    sum.add(&key_octets);
    let certificate = match Certificate::from_pem(&chain_octets, &key_octets) {
        Ok(certificate) => certificate,
        Err(why) => {
            let place = chain.map(|spot| spot.place)?;
            notes.problem(&place, "cannot be used", why.to_string(), "");
            return None;
        }
    };
    judge(&certificate, &chain?.place, identity, notes)?;
    Some(staple(certificate, table, folder, sum))
}

/// Puts the answer of `ocsp_file` beside the certificate, if there is one that can be shown.
fn staple(
    certificate: Certificate,
    table: &mut Section<'_>,
    folder: &Folder,
    sum: &mut Sum,
) -> Certificate {
    let notes = table.notes();
    let Some(spot) = table.maybe::<PathBuf>("ocsp_file") else { return certificate };
    // What renews the answers may not have run yet: without one, the certificate is as good as ever.
    let Some(answer) = folder.read_renewed(&spot, notes) else { return certificate };
    sum.add(&answer);
    match certificate.stapled(&answer, clock::now().wall) {
        Ok(certificate) => certificate,
        Err((certificate, why)) => {
            notes.warn(&spot.place, "is not shown", why.to_string(), "");
            certificate
        }
    }
}

/// Holds a certificate to the clock and to the listener's name.
fn judge(
    certificate: &Certificate,
    place: &Place,
    identity: Option<&Spot<String>>,
    notes: &Notes,
) -> Option<()> {
    let names = match certificate.names() {
        Ok(names) => names,
        Err(why) => {
            notes.problem(place, "cannot be read", why.to_string(), "");
            return None;
        }
    };
    let left = names.not_after.as_unix().saturating_sub(clock::now().wall.as_unix());
    if left == 0 {
        notes.problem(place, "has expired", "nobody would accept it", "");
    } else if left < ENDS_SOON {
        let what = format!("ends in {} days", left / 86_400);
        notes.warn(place, &what, "nobody accepts it afterwards", "");
    }
    let Some(identity) = identity else { return Some(()) };
    if !names.covers(&identity.value) {
        let has = names.domains.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
        let has = if has.is_empty() { "no SIP domain at all".to_owned() } else { has };
        let why =
            format!("peers look for it in the SAN, exactly (RFC 5922 section 7.2); it has {has}");
        let fix = names.domains.first().map(|name| format!("{name:?}")).unwrap_or_default();
        notes.problem(&identity.place, "is not in the certificate", why, &fix);
    }
    Some(())
}

/// Whom to trust, from `key` and `crl`; nobody if `key` is not there, `None` after saying what is wrong.
pub(super) fn trust(
    table: &mut Section<'_>,
    key: &'static str,
    folder: &Folder,
    sum: &mut Sum,
) -> Option<Trust> {
    let notes = table.notes();
    let anchors = table.maybe::<PathBuf>(key);
    let lists = table.maybe::<PathBuf>("crl");
    let status = ocsp::read(table, sum);
    let Some(anchors) = anchors else {
        if let Some((_, place)) = status {
            let why = "it is asked about those whom somebody vouched for, and nobody may";
            notes.problem(&place, &format!("stands without {key}"), why, "");
            return None;
        }
        if let Some(lists) = lists {
            let why = "a list takes back what somebody vouched for, and nobody may";
            notes.problem(&lists.place, &format!("stands without {key}"), why, "");
            return None;
        }
        return (!table.has(key)).then(Trust::nobody);
    };
    let anchor_octets = folder.read_pem(&anchors, Secrecy::Open, notes);
    let list_octets = match &lists {
        Some(lists) => folder.read_pem(lists, Secrecy::Open, notes)?,
        None => Default::default(),
    };
    let anchor_octets = anchor_octets?;
    sum.add(&anchor_octets);
    sum.add(&list_octets);
    match tls::trust(&anchor_octets, &list_octets) {
        Ok(mut trust) => {
            if let Some((settings, _)) = status {
                trust = trust.asking(Arc::new(StatusDesk::new(settings)));
            }
            let Some(lists) = lists else { return Some(trust) };
            let Err(why) = trust.judge_lists(clock::now().wall) else { return Some(trust) };
            let why = format!("{why}, so nobody it vouches for could be believed");
            notes.problem(&lists.place, "cannot be used", why, "");
            None
        }
        Err(why) => {
            notes.problem(&anchors.place, "cannot be used", why.to_string(), "");
            None
        }
    }
}

/// Says so if two listeners cannot stand side by side.
fn clash(one: &Listener, other: &Listener, place: &Place, address: &Place, notes: &Notes) {
    if one.name == other.name {
        let what = format!("listen.name = {:?} is there twice", one.name);
        notes.say(place.line, what, "names tell listeners apart", "");
    }
    let stream = |listener: &Listener| listener.transports.iter().any(|t| t.is_reliable());
    let datagrams = |listener: &Listener| listener.transports.iter().any(|t| !t.is_reliable());
    let same_kind = (stream(one) && stream(other)) || (datagrams(one) && datagrams(other));
    if same_kind && overlap(one.address, other.address) {
        let what =
            format!("listen.address = \"{}\" is taken by listener {:?}", one.address, other.name);
        let free = SocketAddr::new(one.address.ip(), one.address.port().saturating_add(2));
        notes.say(
            address.line,
            what,
            "one port cannot have two owners",
            format!("address = \"{free}\""),
        );
    }
}

/// Whether two addresses take something from each other.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || (wildcard && one.is_ipv4() == other.is_ipv4()))
}

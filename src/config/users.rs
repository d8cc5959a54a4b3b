//! Configuration, users of certificates: `[[ue_certificate]]`, whom a client's certificate proves.
//!
//! Takes:   the tables as written, and the certificates they name; the listeners, once they were read.
//! Gives:   [`CertificateUsers`], which listeners for devices know from then on.
//! Keeps:   nothing.
//! Refuses: what no certificate can have, or nobody asks for; one mark for two users; users that nobody can call.
//! Sources: SEC_CF 1.1 use case B.5; RFC 5280 section 4.2.1.6; RFC 4514.
//!
//! ```toml
//! [[ue_certificate]]
//! san = "device-17.example.net"             # or subject = "CN=..,O=..", fingerprint = "..", certificate = "alice.pem"
//! identities = ["sip:alice@example.net"]    # whom it proves, the default one first
//! impi = "alice@example.net"                # the name behind them all; the first one if left out
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::accounts::IDENTITIES_MAX;
use super::files::{Folder, Secrecy, Sum};
use super::listen::Listener;
use super::problem::{Notes, Place};
use super::psk::{hex, is_user};
use super::raw::{Section, Spot};
use crate::authentication::certificate_users::{
    CertificateUser, CertificateUsers, Mark, NoSubject, USERS_MAX,
};
use crate::clock;
use crate::identity::{Impi, Impu};
use crate::transport::Side;
use crate::transport::peer::ClientCertificate;
use crate::transport::tls;

/// The keys of which one says which certificate is meant.
const MARKS: [&str; 4] = ["san", "subject", "fingerprint", "certificate"];

/// Reads all `[[ue_certificate]]`, and tells listeners of them; how many there are.
pub(super) fn read(root: &mut Section<'_>, listeners: &mut [Listener], folder: &Folder) -> usize {
    let notes = root.notes();
    let (mut users, mut sum, mut first) = (CertificateUsers::new(), Sum::new(), None);
    for section in root.tables("ue_certificate") {
        let place = section.place();
        if users.len() == USERS_MAX {
            notes.say(place.line, format!("more than {USERS_MAX} certificates"), "", "");
            break;
        }
        first.get_or_insert(place.line);
        let Some((mark, user)) = one(section, listeners, folder) else { continue };
        sum.add(format!("{mark:?} {user:?}").as_bytes());
        if !users.insert(mark, user) {
            let why = "one certificate is one user's";
            notes.say(place.line, "ue_certificate names one that is named already".into(), why, "");
        }
    }
    let asks = |listener: &Listener| {
        let asks = listener.tls.as_ref().map(|tls| tls.spec.asks);
        listener.side == Side::Ue && asks.is_some_and(|asks| asks != ClientCertificate::None)
    };
    let Some(line) = first else { return 0 };
    if !notes.has_problems() && !listeners.iter().any(asks) {
        let what = "ue_certificate can never match".to_owned();
        let why = "no listener for devices asks for their certificates";
        let fix = "tls = { .., client_auth = \"optional\", client_ca = \"clients.pem\" }";
        notes.say(line, what, why, fix);
    }
    let (count, users) = (users.len(), Arc::new(users));
    let fingerprint = sum.fingerprint();
    for listener in listeners.iter_mut().filter(|listener| asks(listener)) {
        if let Some(tls) = &mut listener.tls
            && let Some(spec) = Arc::get_mut(&mut tls.spec)
        {
            spec.trust = spec.trust.clone().knowing(Arc::clone(&users));
            tls.fingerprint = tls.fingerprint.with(fingerprint);
        }
    }
    count
}

fn one(
    mut section: Section<'_>,
    listeners: &[Listener],
    folder: &Folder,
) -> Option<(Mark, CertificateUser)> {
    let (notes, place) = (section.notes(), section.place());
    let written = MARKS.iter().filter(|key| section.has(key)).count();
    let marks = [
        section.maybe::<String>("san").and_then(|spot| san(&spot, notes)),
        section.maybe::<String>("subject").and_then(|spot| subject(&spot, notes)),
        section.maybe::<String>("fingerprint").and_then(|spot| fingerprint(&spot, notes)),
        section
            .maybe::<PathBuf>("certificate")
            .and_then(|spot| certificate(&spot, listeners, folder, notes)),
    ];
    let users = section.need::<Vec<String>>(
        "identities",
        "whom the certificate proves",
        "[\"sip:alice@example.net\"]",
    );
    let impi = section.maybe::<String>("impi");
    section.finish();
    if written != 1 {
        let what = match written {
            0 => "ue_certificate says of no certificate which it is",
            _ => "ue_certificate says twice which certificate it is",
        };
        let why = "one of san, subject, fingerprint or certificate does";
        notes.say(place.line, what.into(), why, "san = \"device-17.example.net\"");
        return None;
    }
    let identities = users.and_then(|spot| identities(&spot, notes));
    let impi = match impi {
        None => None,
        Some(spot) => {
            let read = Impi::new(&spot.value);
            if read.is_none() {
                notes.problem(&spot.place, "is no private identity", "", "\"alice@example.net\"");
            }
            Some(read?)
        }
    };
    let identities = identities?;
    let name = impi.map_or_else(
        || identities.first().map(|first| Arc::from(first.as_str())),
        |impi| Some(Arc::from(impi.as_str())),
    );
    let mark = marks.into_iter().flatten().next()?;
    Some((mark, CertificateUser { name: name?, identities }))
}

fn identities(spot: &Spot<Vec<String>>, notes: &Notes) -> Option<Arc<[Impu]>> {
    let users = spot.value.iter().map(|text| Impu::new(text).filter(|_| is_user(text)));
    let users = users.collect::<Option<Arc<[Impu]>>>();
    let users = users.filter(|users| !users.is_empty() && users.len() <= IDENTITIES_MAX);
    if users.is_none() {
        let why = "identities are SIP URIs with a user, or tel URIs; 1 to 10";
        notes.problem(&spot.place, "names nobody", why, "[\"sip:alice@example.net\"]");
    }
    users
}

fn never(place: &Place, why: &'static str, fix: &str, notes: &Notes) -> Option<Mark> {
    notes.problem(place, "can never match", why, fix);
    None
}

fn san(spot: &Spot<String>, notes: &Notes) -> Option<Mark> {
    let (text, example) = (spot.value.as_str(), "\"device-17.example.net\"");
    if text.contains('*') && !text.contains(':') {
        return never(&spot.place, "names are compared in whole, not as patterns", example, notes);
    }
    if !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        let why = "names in certificates are ASCII without blanks (RFC 5280 section 4.2.1.6)";
        return never(&spot.place, why, example, notes);
    }
    Some(Mark::name(text))
}

fn subject(spot: &Spot<String>, notes: &Notes) -> Option<Mark> {
    let example = "\"CN=device 17,O=Example\"";
    match Mark::subject(&spot.value) {
        Ok(mark) => Some(mark),
        Err(why) => {
            let why = match why {
                NoSubject::Form => {
                    "it is TYPE=value, with commas between, as openssl x509 -nameopt RFC2253 prints it"
                }
                NoSubject::Type => {
                    "known are CN, O, OU, C, L, ST, DC, UID and serialNumber; a fingerprint fits any certificate"
                }
                NoSubject::Several => {
                    "a part with several values is not compared; a fingerprint is"
                }
            };
            never(&spot.place, why, example, notes)
        }
    }
}

fn fingerprint(spot: &Spot<String>, notes: &Notes) -> Option<Mark> {
    let digits = spot.value.replace(':', "");
    let octets = hex(&digits).and_then(|octets| <[u8; 32]>::try_from(octets.as_slice()).ok());
    if octets.is_none() {
        let why = "it is SHA-256 in hex, as openssl x509 -fingerprint -sha256 prints it";
        return never(&spot.place, why, "\"AB:CD:..\"", notes);
    }
    octets.map(Mark::Fingerprint)
}

/// A certificate in a file: by its fingerprint, and held to what listeners would take.
fn certificate(
    spot: &Spot<PathBuf>,
    listeners: &[Listener],
    folder: &Folder,
    notes: &Notes,
) -> Option<Mark> {
    let octets = folder.read_pem(spot, Secrecy::Open, notes)?;
    let chain = match tls::certificates(&octets) {
        Ok(chain) => chain,
        Err(why) => {
            notes.problem(&spot.place, "cannot be used", why.to_string(), "");
            return None;
        }
    };
    let own = chain.first()?;
    if let Some(why) = refusal(&chain, listeners) {
        notes.warn(&spot.place, "can never match", why, "");
    }
    Some(Mark::Fingerprint(Sha256::digest(own).into()))
}

/// Why no listener for devices would take this chain; nothing if one would, or none asks.
fn refusal(chain: &[CertificateDer<'_>], listeners: &[Listener]) -> Option<String> {
    let now = clock::now().wall;
    let mut refused = None;
    for listener in listeners.iter().filter(|listener| listener.side == Side::Ue) {
        let Some(tls) = listener.tls.as_ref() else { continue };
        if tls.spec.asks == ClientCertificate::None {
            continue;
        }
        match tls.spec.trust.judge_client(chain, now) {
            Ok(()) => return None,
            Err(why) => refused = Some(format!("listener {:?} would say: {why}", listener.name)),
        }
    }
    refused
}

//! Configuration, provisioning: `[provision]`, what clients are told to trust, and who signs it.
//!
//! Takes:   the table as written, the signer's key, the certificates of authorities; and what the other tables say.
//! Gives:   [`Provision`], and of a whole configuration [`document`] for each enabler.
//! Keeps:   nothing.
//! Refuses: a key that does not sign documents; a document that could not be written down.
//! Sources: SEC_CF 1.1 B.8, ADM-002.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::Config;
use super::files::{Fingerprint, Folder, Secrecy, Sum};
use super::listen::is_address;
use super::raw::{Section, Spot};
use crate::authentication::digest::Hash;
use crate::provision::file::Signer;
use crate::provision::{Algorithms, Document, TlsFloor};
use crate::transport::Side;
use crate::transport::tls::certificates;

/// What clients are told to trust, beyond what the other tables say.
#[derive(Clone, Debug)]
pub struct Provision {
    /// Of the documents: it never goes back.
    pub version: u64,
    /// Who signs them.
    pub signer: Signer,
    /// SHA-256 of the certificates of authorities.
    pub anchors: Vec<[u8; 32]>,
    /// The lowest version of TLS.
    pub tls: TlsFloor,
    /// Over all files that was read from.
    pub fingerprint: Fingerprint,
}

/// Reads `[provision]`.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder) -> Option<Provision> {
    let mut section = root.table("provision");
    if !section.is_present() {
        return None;
    }
    let notes = section.notes();
    let mut sum = Sum::new();
    let version = section.need::<u64>("version", "clients never go back to an older one", "1");
    let why = "clients take no document without its signature";
    let fix = "\"provision.key\", which sipward provision key makes";
    let signer = section.need::<PathBuf>("key", why, fix).and_then(|spot| {
        let octets = folder.read_pem(&spot, Secrecy::Secret, notes)?;
        sum.add(&octets);
        let signer = Signer::from_pem(&octets);
        if signer.is_none() {
            let why = "documents are signed with ECDSA on P-256, or Ed25519";
            notes.problem(&spot.place, "holds no such key", why, fix);
        }
        signer
    });
    let mut anchors = Vec::new();
    for spot in section.maybe::<Vec<String>>("anchors").into_iter().flat_map(each) {
        let Some(octets) = folder.read_pem(&spot, Secrecy::Open, notes) else { continue };
        sum.add(&octets);
        match certificates(&octets) {
            Ok(found) => {
                anchors.extend(found.iter().map(|own| <[u8; 32]>::from(Sha256::digest(own))))
            }
            Err(why) => notes.problem(&spot.place, "cannot be used", why.to_string(), ""),
        }
    }
    let tls = section.word("tls", &[("1.2", TlsFloor::Tls12), ("1.3", TlsFloor::Tls13)]);
    section.finish();
    let fingerprint = sum.fingerprint();
    Some(Provision { version: version?.value, signer: signer?, anchors, tls, fingerprint })
}

fn each(spot: Spot<Vec<String>>) -> Vec<Spot<PathBuf>> {
    let Spot { value, place } = spot;
    value.into_iter().map(|text| Spot { value: text.into(), place: place.clone() }).collect()
}

/// The document for an enabler, as the whole configuration has it; `None` without `[provision]`.
pub fn document(config: &Config, enabler: &'static str) -> Option<Document> {
    let own = config.provision.as_ref()?;
    let ue = config.listeners_of(Side::Ue).map(|listener| &listener.identity);
    let bsf = config.bsf.as_ref().map(|bsf| &bsf.name);
    let servers = config.naf.as_ref().map(|naf| &naf.fqdn).into_iter().chain(ue).chain(bsf);
    let cards = config.aka.as_ref().map(|aka| aka.realm.as_str().to_owned());
    let accounts = config.authentication.digest.then(|| config.edge.realm.as_str().to_owned());
    let groups = config.enablers.push.servers.iter().flat_map(|(_, groups)| groups);
    let peers = groups.filter_map(|group| config.peers.get(usize::from(group.0)));
    let hosts = peers.flat_map(|peer| {
        peer.identities.iter().chain(peer.members.iter().map(|member| &member.host))
    });
    let hosts = hosts.filter(|_| enabler == "push");
    Some(Document {
        enabler,
        version: own.version,
        servers: once(servers.filter(|name| !is_address(name))),
        realms: once(accounts.iter().chain(&cards).map(String::as_str)),
        initiators: once(hosts),
        anchors: own.anchors.clone(),
        algorithms: Algorithms {
            version: config.digest.version,
            digests: offered(config),
            tls: own.tls,
        },
    })
}

/// Every algorithm that a client may meet, in the order in which it is preferred.
fn offered(config: &Config) -> Vec<Hash> {
    let mut all = config.digest.algorithms.clone();
    let own = config.listeners_of(Side::Ue).filter_map(|listener| listener.algorithms.as_ref());
    for hash in own.flatten() {
        if !all.contains(hash) {
            all.push(*hash);
        }
    }
    all
}

fn once<T: AsRef<str>>(names: impl Iterator<Item = T>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.iter().any(|own| own == name.as_ref()) {
            all.push(name.as_ref().to_owned());
        }
    }
    all
}

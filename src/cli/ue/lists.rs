//! `sipward ue`, lists: what this client was told to trust, taken in and applied.
//!
//! Takes:   signed documents, the public key of whoever signs them.
//! Gives:   `sipward ue import`; of a run, the [`Lists`] that are asked at each use, and [`Told`] for what is set up once.
//! Keeps:   the folder of documents.
//! Refuses: documents as [`Folder`] does; an edge, an authority, a suite or a transport that the document in force does not have.
//! Sources: SEC_CF 1.1 B.8, ADM-001, ADM-002.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args as Clap;
use rustls::RootCertStore;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Carrier, Fault, GOOD, NO, Who};
use crate::provision::file::{Folder, Verifier};
use crate::provision::{Document, Lists, Step, TlsFloor};
use crate::transport::peer::Trust;
use crate::transport::tls::certificates;

/// Takes a document in, or a key.
#[derive(Clone, Debug, Clap)]
pub(super) struct ImportArgs {
    /// The document, as TOML or as a tree; or the file of a key
    pub(super) document: PathBuf,
    /// The folder of what this client was told to trust
    #[arg(long, value_name = "DIR", requires = "signer")]
    #[arg(required_unless_present = "device", conflicts_with = "device")]
    lists: Option<PathBuf>,
    /// The public key of whoever signs such documents
    #[arg(long, value_name = "FILE", requires = "lists")]
    signer: Option<PathBuf>,
    /// Of a key: the name of this device, which alone is to use it
    #[arg(long, value_name = "NAME", value_parser = super::carried::device, requires = "psk_file")]
    pub(super) device: Option<String>,
    /// This device's own copy of the key, a new file
    #[arg(long, value_name = "FILE", requires = "device")]
    pub(super) psk_file: Option<PathBuf>,
    /// Take the key in though it is for another device
    #[arg(long, requires = "device")]
    pub(super) force: bool,
}

/// What a run trusts.
#[derive(Clone, Debug, Default, Clap)]
pub(super) struct ListArgs {
    /// What this client was told to trust: a folder that `sipward ue import` fills, or one document
    #[arg(long, value_name = "DIR", requires = "signer")]
    lists: Option<PathBuf>,
    /// The public key of whoever signs it
    #[arg(long, value_name = "FILE", requires = "lists")]
    signer: Option<PathBuf>,
}

fn folder(path: &Path, signer: &Path) -> Result<Folder, Fault> {
    let pem = std::fs::read(signer).map_err(|why| format!("{}: {why}", signer.display()))?;
    let signer = Verifier::from_pem(&pem)
        .ok_or_else(|| format!("{} holds no public key", signer.display()))?;
    Ok(Folder::new(path, signer))
}

/// Runs `sipward ue import`.
pub(super) fn import(
    args: &ImportArgs,
    json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let (Some(lists), Some(signer)) = (&args.lists, &args.signer) else { return Ok(NO) };
    let taken =
        folder(lists, signer).and_then(|folder| folder.import(&args.document).map_err(Fault::from));
    let (document, step) = match taken {
        Ok(taken) => taken,
        Err(why) => {
            writeln!(errors, "sipward ue: {why}")?;
            return Ok(NO);
        }
    };
    let (enabler, version) = (document.enabler, document.version);
    let weaker = step == Step::Weaker;
    if json {
        let told = json!({
            "enabler": enabler, "version": version, "new": step != Step::Same,
            "alarm": weaker.then_some("algorithm_downgrade"),
        });
        writeln!(out, "{told}")?;
    } else {
        writeln!(out, "{enabler}: version {version} is in force")?;
    }
    if weaker {
        writeln!(errors, "algorithm_downgrade: {enabler} allows weaker algorithms from now on")?;
    }
    Ok(GOOD)
}

impl ListArgs {
    /// For one enabler, if this client was told anything.
    pub(super) fn told(&self, enabler: &'static str) -> Result<Option<Told>, Fault> {
        let (Some(path), Some(signer)) = (&self.lists, &self.signer) else { return Ok(None) };
        let folder = folder(path, signer)?;
        let document = folder.current(enabler)?;
        Ok(Some(Told { document, lists: folder.lists(enabler) }))
    }
}

/// What is in force when a run begins, and how it is asked for later.
pub(super) struct Told {
    document: Document,
    pub(super) lists: Lists,
}

impl Told {
    /// Whether the edge may be dialled, and spoken to so.
    pub(super) fn judge(&self, who: &Who) -> Result<(), Fault> {
        let Document { servers, algorithms, .. } = &self.document;
        if !self.document.trusts_server(&who.name) {
            return Err(format!("{} is not among {}", who.name, servers.join(", ")).into());
        }
        let only_12 = match who.transport {
            Carrier::Dtls | Carrier::DtlsPsk => Some("DTLS"),
            Carrier::PskTls => who.psk_suite.as_deref(),
            _ => None,
        };
        match only_12 {
            Some(what) if algorithms.tls > TlsFloor::Tls12 => {
                Err(format!("{what} is below TLS {}", algorithms.tls.as_str()).into())
            }
            _ => Ok(()),
        }
    }

    /// The lowest version of TLS.
    pub(super) fn tls(&self) -> TlsFloor {
        self.document.algorithms.tls
    }

    /// Trust in those of the authorities in `pem` that are listed.
    pub(super) fn trust(&self, pem: &[u8]) -> Result<Trust, Fault> {
        let mut roots = RootCertStore::empty();
        for anchor in certificates(pem)? {
            if self.document.trusts_anchor(&Sha256::digest(&anchor).into()) {
                roots.add(anchor)?;
            }
        }
        match roots.is_empty() {
            true => Err("none of the authorities of --ca is listed".into()),
            false => Ok(Trust::new(roots)),
        }
    }
}

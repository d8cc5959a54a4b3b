//! Configuration, Ub: `[bsf]`'s door under TLS, and bootstrapping by password.
//!
//! Takes:   the tables as written, and the certificate that one names.
//! Gives:   [`UbTls`] and [`DigestConfig`].
//! Keeps:   nothing.
//! Refuses: a certificate without the server's name; passwords without that door, of another's subscribers, or by a hash
//!          that no home keeps H(A1) of.
//! Sources: TS 24.109 annex I.2; RFC 5705 section 4; RFC 8446 section 7.5 (length of a label); RFC 8760.

use std::net::SocketAddr;
use std::sync::Arc;

use super::files::{Fingerprint, Folder, Sum};
use super::listen::pair;
use super::raw::{Section, Spot};
use crate::authentication::digest::Hash;
use crate::identity::Realm;
use crate::keys::bootstrap::DigestConfig;
use crate::transport::peer::{ClientCertificate, Trust};
use crate::transport::tls::{ServerSpec, ServerTls};

/// Longest label, in octets: RFC 8446 section 7.1 puts six more in front of it.
const LABEL_MAX: usize = 249;

/// The door under TLS.
#[derive(Clone, Debug)]
pub struct UbTls {
    /// What is shown there.
    pub spec: Arc<ServerSpec>,
    /// Over the files that was read from.
    pub fingerprint: Fingerprint,
}

/// Reads `bsf.tls`: where it is, and what is shown there; `name` is the server's, and stands in the certificate.
pub(super) fn tls(
    bsf: &mut Section<'_>,
    name: Option<&Spot<String>>,
    folder: &Folder,
) -> Option<(SocketAddr, UbTls)> {
    let mut table = bsf.table("tls");
    if !table.is_present() {
        return None;
    }
    let (notes, place) = (table.notes(), table.place());
    let why = "bootstrapping under TLS has a port of its own, beside the one in the clear";
    let listen = table.need::<SocketAddr>("listen", why, "\"0.0.0.0:8446\"");
    let mut sum = Sum::new();
    let certificate = pair(&mut table, name, folder, &mut sum);
    table.finish();
    let (asks, trust) = (ClientCertificate::None, Trust::nobody());
    let spec = ServerSpec { certificates: vec![certificate?], asks, trust };
    if let Err(why) = ServerTls::of_bootstrapping(&spec) {
        notes.problem(&place, "cannot be used", why.to_string(), "");
        return None;
    }
    let (spec, fingerprint) = (Arc::new(spec), sum.fingerprint());
    Some((listen?.value, UbTls { spec, fingerprint }))
}

/// Reads `bsf.gba_digest`, the switch of bootstrapping by password; with a `home`, subscribers are its own.
pub(super) fn digest(bsf: &mut Section<'_>, home: bool) -> Option<DigestConfig> {
    let has_tls = bsf.has("tls");
    let mut table = bsf.table("gba_digest");
    if !table.is_present() {
        return None;
    }
    let (notes, place) = (table.notes(), table.place());
    if !has_tls {
        let why = "a password proves nobody in the clear: the key is bound to a TLS connection (TS 24.109 annex I.2)";
        let fix =
            "tls = { listen = \"0.0.0.0:8446\", certificate = \"bsf.pem\", key = \"bsf.key\" }";
        notes.say(place.line, "bsf.gba_digest stands without bsf.tls".into(), why, fix);
    }
    if home {
        let why = "a peer serves zh: the home has them, and it is asked for vectors of cards alone";
        notes.problem(&place, "stands without subscribers", why, "");
    }
    let why = "H(A1) is made with it: the home network's domain (TS 24.109 annex I.2)";
    let realm = table.need::<String>("realm", why, "\"example.net\"").and_then(|spot| {
        let realm = Realm::new(&spot.value);
        if realm.is_none() {
            notes.problem(&spot.place, "is no realm", "it stands in quotes", "\"example.net\"");
        }
        realm
    });
    let algorithms = table.maybe::<Vec<Hash>>("algorithms").map(|Spot { value, place }| {
        let twice =
            value.iter().enumerate().any(|(at, one)| value.iter().take(at).any(|it| it == one));
        let other = value.contains(&Hash::Sha512_256);
        if value.is_empty() || twice || other {
            let what = match (value.is_empty(), twice) {
                (true, _) => "is empty",
                (_, true) => "names one twice",
                _ => "names SHA-512-256",
            };
            let why =
                "what a home keeps H(A1) of is SHA-256, MD5 or both, each a row of the challenge";
            notes.problem(&place, what, why, "[\"SHA-256\"]");
        } else if value.contains(&Hash::Md5) {
            let why = "it is deprecated (RFC 8760 section 3), and keys are made of its responses";
            notes.warn(&place, "offers MD5", why, "algorithms = [\"SHA-256\"]");
        }
        value
    });
    let exporter = table.maybe::<String>("exporter").map(|spot| {
        let graphic = spot.value.bytes().all(|octet| octet.is_ascii_graphic());
        if !graphic || !(1..=LABEL_MAX).contains(&spot.value.len()) {
            let why =
                "both ends export under it (RFC 5705 section 4): 1 to 249 letters without a blank";
            notes.problem(&spot.place, "is no label", why, "\"EXPORTER_GBA_Digest\"");
        }
        spot.value
    });
    table.finish();
    let mut config = DigestConfig::new(realm?);
    if let Some(algorithms) = algorithms {
        config.algorithms = algorithms;
    }
    if let Some(exporter) = exporter {
        config.exporter = exporter.into();
    }
    Some(config)
}

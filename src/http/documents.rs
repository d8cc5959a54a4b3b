//! HTTP, documents: a device-management server fetches what clients are told to trust, and carries it to them.
//!
//! Takes:   `GET /.well-known/sipward/provision/ENABLER.toml`, or `.xml`, of a device-management server.
//! Gives:   the signed document for that enabler as the configuration in force has it: TOML, or a tree.
//! Keeps:   nothing: each answer is made, and signed, of that configuration.
//! Refuses: whoever is no such server (403), enablers that there are not, all of them without `[provision]` (404), other
//!          methods (405).
//! Sources: SEC_CF 1.1 B.8.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::door::Who;
use crate::config::{Config, provision};
use crate::provision::{enabler, file, tree};

/// Where they are; behind it stand the enabler and the form.
pub const PATH: &str = "/.well-known/sipward/provision/";

/// Documents of the configuration in force.
pub struct Documents(pub Arc<ArcSwap<Config>>);

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Documents(..)")
    }
}

impl Documents {
    /// Answers, if the path is one of its: a status, the type of what is told, and that.
    pub(super) fn answer(
        &self,
        method: &str,
        path: &str,
        who: &Who,
    ) -> Option<(u16, &'static str, String)> {
        let name = path.strip_prefix(PATH)?;
        let told = |status| Some((status, TEXT, String::new()));
        let config = self.0.load();
        let managers = config.https.as_ref().map(|https| &*https.managers).unwrap_or_default();
        let Who::Peer(names) = who else { return told(403) };
        let is_one = |name: &&Arc<str>| managers.iter().any(|own| own.eq_ignore_ascii_case(name));
        let Some(to) = names.iter().find(is_one) else { return told(403) };
        if method != "GET" {
            return told(405);
        }
        let form = name.split_once('.').and_then(|(name, form)| Some((enabler(name)?, form)));
        let Some((enabler, form @ ("toml" | "xml"))) = form else { return told(404) };
        let document = provision::document(&config, enabler);
        let signer = config.provision.as_ref().map(|own| &own.signer);
        let (Some(document), Some(signer)) = (document, signer) else { return told(404) };
        let version = document.version;
        let signed = match signer.sign(document) {
            Ok(signed) => signed,
            Err(why) => {
                tracing::error!(enabler, %why, "a document cannot be signed");
                return told(500);
            }
        };
        tracing::info!(target: "audit", act = "fetch", what = "document", enabler, version, to = &**to);
        Some(match form {
            "toml" => (200, "application/toml", file::print(&signed)),
            _ => (200, "application/vnd.syncml.dmddf+xml", tree::print(&signed)),
        })
    }
}

const TEXT: &str = "text/plain";

//! Stage 1, DTLS of one listener: which engine, what it shows and asks for.
//!
//! Takes:   a [`DtlsSpec`].
//! Gives:   [`DtlsServer`], replaceable while it serves.
//! Keeps:   engines' settings, swapped whole; the key of cookies; whom is trusted, for sessions that stand.
//! Refuses: a listener with neither certificates nor shared keys; an engine that was not built in.
//! Sources: `DT-07`, `DT-08`.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cookie::Cookies;
use super::engine::Engines;
use crate::clock;
use crate::transport::peer::Trust;
use crate::transport::standing::Standing;
use crate::transport::tls::{ServerSpec, TlsProblem};

/// The libraries that speak DTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Library {
    /// OpenSSL, the system's.
    Openssl,
    /// `webrtc-dtls`, in Rust.
    Webrtc,
}

impl Library {
    /// The one that is taken where none is named.
    pub const fn usual() -> Self {
        if cfg!(feature = "openssl") { Self::Openssl } else { Self::Webrtc }
    }
}

/// A listener's DTLS, as it is asked for.
#[derive(Clone, Debug)]
pub struct DtlsSpec {
    /// Who speaks it.
    pub engine: Library,
    /// What is shown and asked for; `None` for shared keys alone.
    pub certificates: Option<Arc<ServerSpec>>,
    /// Whether handshakes with shared keys are taken.
    pub shared_keys: bool,
}

/// A listener's DTLS.
pub struct DtlsServer {
    made: ArcSwap<Made>,
    cookies: Arc<Cookies>,
    shared_keys: bool,
    standing: Standing,
}

struct Made(Arc<dyn Engines>);

impl DtlsServer {
    /// Sets it up.
    ///
    /// # Errors
    ///
    /// What cannot be used, or is missing.
    pub fn new(spec: &DtlsSpec) -> Result<Self, TlsProblem> {
        Ok(Self {
            made: ArcSwap::from_pointee(Made(engines(spec)?)),
            cookies: Arc::new(Cookies::new(clock::random())),
            shared_keys: spec.shared_keys,
            standing: Standing::of_clients(trust(spec)),
        })
    }

    /// Replaces it for handshakes that begin from now on. Sessions stay as they are, but for those whose client is no
    /// longer believed: they end.
    ///
    /// # Errors
    ///
    /// As [`DtlsServer::new`]; the old one stays in force.
    pub fn replace(&self, spec: &DtlsSpec) -> Result<(), TlsProblem> {
        let shared_keys = self.shared_keys;
        self.made.store(Arc::new(Made(engines(&DtlsSpec { shared_keys, ..spec.clone() })?)));
        self.standing.replace(trust(spec));
        Ok(())
    }

    /// The engines in force.
    pub fn engines(&self) -> Arc<dyn Engines> {
        Arc::clone(&self.made.load().0)
    }

    /// Whom a session's certificate must satisfy for as long as it stands.
    pub(in crate::transport) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The cookies of all workers.
    pub fn cookies(&self) -> Arc<Cookies> {
        Arc::clone(&self.cookies)
    }
}

impl fmt::Debug for DtlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DtlsServer(..)")
    }
}

/// Who may vouch for clients.
fn trust(spec: &DtlsSpec) -> Trust {
    spec.certificates.as_ref().map_or_else(Trust::nobody, |spec| spec.trust.clone())
}

fn engines(spec: &DtlsSpec) -> Result<Arc<dyn Engines>, TlsProblem> {
    let certificates = spec.certificates.as_deref();
    if certificates.is_none_or(|spec| spec.certificates.is_empty()) && !spec.shared_keys {
        return Err(TlsProblem::new("a DTLS listener needs a certificate or shared keys"));
    }
    match spec.engine {
        #[cfg(feature = "openssl")]
        Library::Openssl => {
            Ok(Arc::new(super::openssl::Openssl::new(certificates, spec.shared_keys)?))
        }
        #[cfg(feature = "webrtc-dtls")]
        Library::Webrtc => {
            Ok(Arc::new(super::webrtc::Webrtc::new(certificates, spec.shared_keys)?))
        }
        #[expect(
            clippy::allow_attributes,
            reason = "with both features nothing is left for this arm"
        )]
        #[allow(unreachable_patterns)]
        other => Err(TlsProblem::new(format!("{other:?} was not built in"))),
    }
}

//! Stage 1, exporters: what both ends of one TLS connection know, and nobody else.
//!
//! Takes:   a label, and a connection that has shaken hands; for the UE's end, whom to trust.
//! Gives:   [`TlsExport`], 48 octets; a client whose connections export.
//! Keeps:   nothing.
//! Refuses: TLS 1.2 without an extended master secret, whose exports a man in the middle can make alike on both sides.
//! Sources: RFC 5705 section 4; RFC 8446 section 7.5; RFC 7627 section 1; TS 33.220 annex B.5 (TLS_MK_Extr).

use std::sync::Arc;

use rustls::{ClientConfig, ConnectionCommon};
use zeroize::Zeroizing;

use super::peer::Trust;
use super::tls::{self, TlsProblem};
use crate::keys::TlsExport;

/// What a connection exports under `label`, without a context; `None` before its handshake is over. The end that made
/// it demands an extended master secret: [`tls::ServerTls::of_bootstrapping`], [`client`].
pub fn of<D>(connection: &ConnectionCommon<D>, label: &str) -> Option<TlsExport> {
    let mut octets = Zeroizing::new([0; 48]);
    connection.export_keying_material(&mut *octets, label.as_bytes(), None).ok()?;
    Some(TlsExport::new(*octets))
}

/// A client of the bootstrapping server: HTTP/1.1, and nothing that exports could not be told apart by.
///
/// # Errors
///
/// As [`tls::client_config`].
pub fn client(trust: Trust) -> Result<Arc<ClientConfig>, TlsProblem> {
    let mut config = ClientConfig::clone(&*tls::client_config(trust, None)?);
    config.require_ems = true;
    config.alpn_protocols = vec![tls::ALPN_HTTP.to_vec()];
    Ok(Arc::new(config))
}

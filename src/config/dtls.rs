//! Configuration, DTLS: `dtls` of a listener, and what its server is made of.
//!
//! Takes:   the table as written; the listener's certificates and shared keys, which TLS has too.
//! Gives:   [`Dtls`], and [`spec`] for the server.
//! Keeps:   nothing.
//! Refuses: an engine that is not in this program, or that cannot use the listener's certificates; DTLS towards servers.
//! Sources: `DT-08`, `DT-12`.
//!
//! ```toml
//! transports = ["dtls"]            # or ["tls", "dtls"]: the same port of TCP and UDP
//! tls = { certificate = "edge.pem", key = "edge.key", psk = true }
//! dtls = { engine = "openssl" }    # or "webrtc"; may be left out
//! ```

use std::io;
use std::sync::Arc;

use super::listen::{Listener, ListenerTls};
use super::psk::Offer;
use super::raw::Section;
use crate::transport::dtls::server::{DtlsServer, DtlsSpec, Library, SharedKeys};
use crate::transport::{Side, Transport};

/// How a listener speaks DTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dtls {
    /// By which library.
    pub engine: Library,
}

/// Reads `dtls` of a listener with those transports; `None` if it does not speak it.
pub(super) fn read(
    section: &mut Section<'_>,
    transports: Option<&[Transport]>,
    side: Option<Side>,
    tls: (Option<&ListenerTls>, Option<Offer>),
) -> Option<Dtls> {
    let mut table = section.table("dtls");
    let notes = section.notes();
    let wanted = transports.is_some_and(|list| list.contains(&Transport::Dtls));
    if table.is_present() && !wanted && transports.is_some() {
        let why = "it would not be used, and somebody may believe that it is";
        notes.problem(&table.place(), "stands at a listener without DTLS", why, "");
    }
    let usual = match Library::usual() {
        Library::Openssl => [("openssl", Library::Openssl), ("webrtc", Library::Webrtc)],
        Library::Webrtc => [("webrtc", Library::Webrtc), ("openssl", Library::Openssl)],
    };
    let place = table.place_of("engine");
    let library = table.word("engine", &usual);
    table.finish();
    if !wanted {
        return None;
    }
    if side == Some(Side::Core) {
        let why = "servers are reached over TLS: no document says how they would find each other";
        let place = section.place_of("transports");
        notes.problem(&place, "speaks DTLS to servers", why, "[\"udp\", \"tcp\"]");
    }
    if library == Library::Webrtc && tls.1.is_some_and(|offer| offer.tells_unknown) {
        let why = "psk_unknown = \"alert\" holds over TLS alone here: this library cannot tell";
        notes.warn(&place, "knows less of shared keys", why, "engine = \"openssl\"");
    }
    if let (Some(tls), offer) = tls
        && let Err(why) = DtlsServer::new(&of(tls, offer, library))
    {
        notes.problem(&place, "cannot be used", why.to_string(), "\"openssl\"");
    }
    Some(Dtls { engine: library })
}

/// What the DTLS server of `listener` is made of, if it has one.
pub fn spec(listener: &Listener) -> Option<DtlsSpec> {
    let (dtls, tls) = (listener.dtls?, listener.tls.as_ref()?);
    Some(of(tls, listener.psk, dtls.engine))
}

/// The DTLS server of `listener`, if it has one.
///
/// # Errors
///
/// What cannot be used.
pub fn server(listener: &Listener) -> io::Result<Option<Arc<DtlsServer>>> {
    let server = spec(listener).map(|spec| DtlsServer::new(&spec)).transpose();
    Ok(server.map_err(io::Error::other)?.map(Arc::new))
}

fn of(tls: &ListenerTls, offer: Option<Offer>, library: Library) -> DtlsSpec {
    DtlsSpec {
        engine: library,
        certificates: Some(Arc::clone(&tls.spec)),
        shared_keys: offer.map(|offer| SharedKeys { tells_unknown: offer.tells_unknown }),
    }
}

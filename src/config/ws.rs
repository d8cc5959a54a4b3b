//! Configuration, WebSocket: `ws` of a listener, whom it lets in.
//!
//! Takes:   the table as written, and what else the listener says.
//! Gives:   [`Rules`].
//! Keeps:   nothing. Bounds: 256 origins.
//! Refuses: an origin that no browser would send, `null`, a path that is none; WebSocket in the clear where others than this
//!          machine could reach it; towards servers; with shared keys, which no browser has.
//! Sources: RFC 6454 section 6.2; RFC 6455 section 10.2; RFC 7118; `V-79`, `V-151`.
//!
//! ```toml
//! transports = ["wss"]             # a port of its own
//! tls = { certificate = "edge.pem", key = "edge.key" }
//! ws = { origins = ["https://phone.example.net"], path = "/" }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use super::listen::is_host;
use super::problem::Place;
use super::psk::Offer;
use super::raw::{Section, Spot};
use crate::transport::ws::Rules;
use crate::transport::{Side, Transport};

/// Most origins of one listener.
pub const ORIGINS_MAX: usize = 256;
const EXAMPLE: &str = "[\"https://phone.example.net\"]";

/// Reads `ws` of a listener with those transports; `None` if it does not speak it.
pub(super) fn read(
    section: &mut Section<'_>,
    transports: Option<&[Transport]>,
    side: Option<Side>,
    address: Option<&Spot<SocketAddr>>,
    psk: Option<&Spot<Offer>>,
) -> Option<Arc<Rules>> {
    let mut table = section.table("ws");
    let notes = section.notes();
    let wanted = transports.is_some_and(|list| list.iter().any(|it| it.is_websocket()));
    if table.is_present() && !wanted && transports.is_some() {
        let why = "it would not be used, and somebody may believe that it is";
        notes.problem(&table.place(), "stands at a listener without WebSocket", why, "");
    }
    let written = table.maybe::<Vec<String>>("origins");
    let path = table.maybe::<String>("path");
    table.finish();
    if !wanted {
        return None;
    }
    let place = section.place_of("transports");
    if side == Some(Side::Core) {
        let why = "servers are reached over TLS; WebSocket is what browsers have";
        notes.problem(&place, "speaks WebSocket to servers", why, "[\"tls\"]");
    }
    if let Some(psk) = psk {
        notes.problem(
            &psk.place,
            "stands at a listener for WebSocket",
            "browsers have none",
            "false",
        );
    }
    let clear = transports.is_some_and(|list| list.contains(&Transport::Ws));
    if let Some(address) = address.filter(|address| clear && !address.value.ip().is_loopback()) {
        let why = "in the clear it is for a reverse proxy on this machine, which does the TLS; others need \"wss\"";
        let fix = format!("\"127.0.0.1:{}\"", address.value.port());
        notes.problem(&address.place, "is no loopback address, and ws is in the clear", why, &fix);
    } else if clear {
        let why = "whoever is on this machine speaks to it; its flows are not secure, and all of them have one address";
        notes.warn(&place, "speaks WebSocket in the clear", why, "transports = [\"wss\"]");
    }
    let origins = match written {
        Some(spot) => origins(spot, section)?,
        None => Vec::new(),
    };
    if origins.is_empty() {
        let place = Place { path: format!("{}.origins", section.place_of("ws").path), ..place };
        let why = "each client has to name the origin of its page, and it must be listed";
        notes.warn(
            &place,
            "lists nobody, so nobody is let in",
            why,
            &format!("origins = {EXAMPLE}"),
        );
    }
    let path = match path {
        Some(Spot { value, place }) if !is_path(&value) => {
            let why = "it begins with a slash, and has neither query nor spaces";
            notes.problem(&place, "is no path", why, "\"/\"");
            return None;
        }
        Some(Spot { value, .. }) => value,
        None => "/".to_owned(),
    };
    Some(Arc::new(Rules { origins, path }))
}

/// The origins in lower case; `None` after saying what is wrong with one.
fn origins(spot: Spot<Vec<String>>, section: &Section<'_>) -> Option<Vec<String>> {
    let Spot { value, place } = spot;
    if value.len() > ORIGINS_MAX {
        section.notes().problem(&place, "has too many origins", "256 at most", EXAMPLE);
        return None;
    }
    if let Some(other) = value.iter().find(|origin| !is_origin(&origin.to_ascii_lowercase())) {
        let why = if other == "null" {
            "any page can have that origin, in a frame of its own"
        } else {
            "it is scheme, host and perhaps a port, as a browser sends it: no path, no pattern, no port that goes without saying"
        };
        let what = format!("holds {other:?}, which is no origin of a page");
        section.notes().problem(&place, &what, why, EXAMPLE);
        return None;
    }
    Some(value.iter().map(|origin| origin.to_ascii_lowercase()).collect())
}

/// `scheme "://" host [ ":" port ]`, the port not the usual one (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let behind = rest.rfind(']').map_or(0, |at| at.saturating_add(1));
    let port = rest.get(behind..).and_then(|tail| tail.rsplit_once(':')).map(|(_, port)| port);
    let host = match port {
        Some(port) => rest.strip_suffix(port).and_then(|rest| rest.strip_suffix(':')),
        None => Some(rest),
    };
    let usual = match scheme {
        "https" => Some("443"),
        "http" => Some("80"),
        _ => None,
    };
    let fits = |port: &str| port.parse::<u16>().is_ok_and(|n| n.to_string() == port && n > 0);
    usual.is_some()
        && host.is_some_and(is_host)
        && port.is_none_or(|port| fits(port) && Some(port) != usual)
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !b"?#".contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for good in [
            "https://phone.example.net",
            "http://localhost:3000",
            "https://192.0.2.1",
            "https://[2001:db8::1]:8443",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "null",
            "*",
            "https://*.example.net",
            "phone.example.net",
            "https://phone.example.net/",
            "https://phone.example.net:443",
            "http://phone.example.net:80",
            "https://phone.example.net:0443",
            "https://a@b",
            "https://",
            "wss://phone.example.net",
            "https://[::1",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}

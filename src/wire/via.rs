//! Stage 2, Via: one hop of the way back.
//!
//! Takes:   one Via value (rows are split at commas before).
//! Gives:   [`Via`]: transport, sent-by and parameters, borrowed.
//! Keeps:   nothing.
//! Refuses: a value without SIP/2.0, without sent-by, with an address that is none, with a broken parameter, or
//!          with branch, received, rport, maddr or ttl twice.
//! Sources: RFC 3261 sections 18.1.1, 20.42 and 25.1; RFC 3581 section 3; RFC 5118 section 4.5.

use std::net::IpAddr;

use super::octets::{is_space, is_token_octet, position, trim, trim_start};
use super::params::{Param, Params};
use super::{host, split, steps};

/// What a branch begins with if its sender knows RFC 3261 (section 8.1.1.7).
pub const COOKIE: &[u8] = b"z9hG4bK";

/// Parameters that decide where the answer goes and to which transaction: each at most once.
const ROUTING_PARAMS: [&str; 5] = ["branch", "rport", "received", "maddr", "ttl"];

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    pub(super) transport: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) port: Option<u16>,
    pub(super) sent_by: &'a [u8],
    pub(super) params: Params<'a>,
    pub(super) branch: Option<&'a [u8]>,
    pub(super) rport: Option<&'a [u8]>,
    pub(super) received: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    /// Parses one value; `None` if it is not a Via.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (transport, sent_by, params) = head(value)?;
        steps::count(value.len());
        let (host, port) = sent_by_parts(sent_by)?;
        let (params, routing) = Params::parse_with(params, ROUTING_PARAMS)?;
        let [branch, rport, received, ..] = routing;
        Some(Self { transport, host, port, sent_by, params, branch, rport, received })
    }

    /// The transport token as written.
    pub fn transport(&self) -> &'a [u8] {
        self.transport
    }

    /// Host of sent-by; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &'a [u8] {
        self.host
    }

    /// Port of sent-by.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Sent-by as written.
    pub fn sent_by(&self) -> &'a [u8] {
        self.sent_by
    }

    /// The value of a parameter: `Some(b"")` if it stands without value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// The branch; empty if there is none.
    pub fn branch(&self) -> &'a [u8] {
        self.branch.unwrap_or_default()
    }

    /// Whether the branch identifies a transaction: the cookie, and something behind it.
    ///
    /// The cookie is compared with case: another spelling is a sender that did not mean it.
    pub fn has_cookie(&self) -> bool {
        self.branch().strip_prefix(COOKIE).is_some_and(|rest| !rest.is_empty())
    }

    /// `received`, with or without brackets around an IPv6 address (RFC 5118 section 4.5).
    pub fn received(&self) -> Option<IpAddr> {
        self.received.and_then(host::host_address)
    }

    /// Whether the response is to go to the source port (RFC 3581 section 3).
    pub fn asks_rport(&self) -> bool {
        self.rport.is_some()
    }

    /// The port in `rport`; `None` if it is not there or without value.
    pub fn rport(&self) -> Option<u16> {
        self.rport.and_then(split::number).and_then(|port| u16::try_from(port).ok())
    }

    /// All parameters, name and value.
    pub fn params(&self) -> impl Iterator<Item = Param<'a>> + Clone {
        self.params.iter()
    }
}

/// Transport and sent-by, and the parameters behind them.
fn head(value: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, params) = match position(b';', value) {
        Some(at) => value.split_at_checked(at)?,
        None => (value, &b""[..]),
    };
    let rest = match head.strip_prefix(b"SIP/2.0/") {
        Some(rest) => rest, // as most of them begin
        None => {
            let (name, rest) = trim_start(head).split_at_checked(3)?;
            let rest = trim_start(rest).strip_prefix(b"/")?;
            let rest = trim_start(rest).strip_prefix(b"2.0")?;
            let rest = trim_start(rest).strip_prefix(b"/")?;
            name.eq_ignore_ascii_case(b"SIP").then_some(rest)?
        }
    };
    let rest = trim_start(rest);
    let end = rest.iter().position(|octet| !is_token_octet(*octet)).filter(|end| *end > 0)?;
    let (transport, sent_by) = rest.split_at_checked(end)?;
    let spaced = sent_by.first().is_some_and(|octet| is_space(*octet));
    spaced.then_some((transport, trim(sent_by), params))
}

/// `host [ COLON port ]`, where white space may stand around the colon (RFC 3261 section 25.1).
fn sent_by_parts(sent_by: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let from = if sent_by.first() == Some(&b'[') { position(b']', sent_by)? } else { 0 };
    let colon = sent_by.get(from..)?.iter().position(|octet| *octet == b':');
    let Some(colon) = colon.and_then(|at| at.checked_add(from)) else {
        return host::host_port(sent_by);
    };
    let (host, port) = sent_by.split_at_checked(colon)?;
    let port = u16::try_from(split::number(trim(port.get(1..)?))?).ok()?;
    let (host, none) = host::host_port(trim(host))?;
    none.is_none().then_some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_legal() {
        let via = Via::parse(
            b"SIP / 2.0 / DTLS-UDP [2001:db8::9]:5061 ;branch=z9hG4bKx;rport;received=[::1]",
        )
        .expect("a Via");
        assert_eq!(via.transport(), b"DTLS-UDP");
        assert_eq!(via.host(), b"[2001:db8::9]");
        assert_eq!(via.port(), Some(5061));
        assert_eq!(via.branch(), b"z9hG4bKx");
        assert_eq!(via.param("RPORT"), Some(&b""[..]));
        let spaced = Via::parse(b"SIP/2.0/UDP  192.0.2.2 : 5060; branch=b").expect("a Via");
        assert_eq!((spaced.host(), spaced.port()), (&b"192.0.2.2"[..], Some(5060)));
        assert_eq!(via.received(), Some("::1".parse().expect("an address")));
        let bare = Via::parse(b"SIP/2.0/WS x.invalid;received=2001:db8::9;rport=7").expect("a Via");
        assert_eq!(bare.received(), Some("2001:db8::9".parse().expect("an address")));
        assert_eq!((bare.rport(), bare.has_cookie()), (Some(7), false));
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0/UDP;branch=x",
            "SIP/3.0/UDP a",
            "SIP/2.0/U P a;branch=",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP a:",
            "SIP/2.0/UDP a:70000",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a;;branch=x",
            "SIP/2.0/UDP a;branch=x;branch=y",
            "SIP/2.0/UDP a;received=192.0.2.1;Received=192.0.2.2",
            "SIP/2.0/UDP a;x=\"",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
        ] {
            assert!(Via::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

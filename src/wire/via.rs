//! Stage 2, Via: one hop of the way back.
//!
//! Takes:   one Via value (rows are split at commas before).
//! Gives:   [`Via`]: transport, sent-by and parameters, borrowed.
//! Keeps:   nothing.
//! Refuses: a value without SIP/2.0, without sent-by, or with an address that is none.
//! Sources: RFC 3261 sections 18.1.1, 20.42 and 25.1; RFC 3581 section 3; RFC 5118 section 4.5.

use super::scan::{is_token, trim};
use super::{split, uri};

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    transport: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
    sent_by: &'a [u8],
    params: &'a [u8],
}

impl<'a> Via<'a> {
    /// Parses one value; `None` if it is not a Via.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (head, params) =
            match split::find(value, b';').and_then(|at| value.split_at_checked(at)) {
                Some((head, params)) => (head, params.get(1..)?),
                None => (value, &b""[..]),
            };
        let mut protocol = head.splitn(3, |octet| *octet == b'/').map(trim);
        let (name, version, rest) = (protocol.next()?, protocol.next()?, protocol.next()?);
        if !name.eq_ignore_ascii_case(b"SIP") || version != b"2.0" {
            return None;
        }
        let gap = rest.iter().position(|octet| super::scan::is_space(*octet))?;
        let (transport, sent_by) = rest.split_at_checked(gap)?;
        let sent_by = trim(sent_by);
        let (host, port) = sent_by_parts(sent_by)?;
        let params_clean = split::semicolons(params)
            .map(split::name_value)
            .all(|(name, value)| is_token(name) && value.is_none_or(|value| !value.is_empty()));
        (is_token(transport) && (params.is_empty() || params_clean)).then_some(Self {
            transport,
            host,
            port,
            sent_by,
            params,
        })
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
        split::semicolons(self.params)
            .map(split::name_value)
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The branch; empty if there is none.
    pub fn branch(&self) -> &'a [u8] {
        self.param("branch").unwrap_or_default()
    }

    /// All parameters, name and value.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone {
        split::semicolons(self.params).map(split::name_value).filter(|(name, _)| !name.is_empty())
    }
}

/// `host [ COLON port ]`, where white space may stand around the colon (RFC 3261 section 25.1).
fn sent_by_parts(sent_by: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let from = if sent_by.first() == Some(&b'[') { memchr::memchr(b']', sent_by)? } else { 0 };
    let colon = sent_by.get(from..)?.iter().position(|octet| *octet == b':');
    let Some(colon) = colon.and_then(|at| at.checked_add(from)) else {
        return uri::host_port(sent_by);
    };
    let (host, port) = sent_by.split_at_checked(colon)?;
    let port = u16::try_from(split::number(trim(port.get(1..)?))?).ok()?;
    uri::host_port(trim(host)).map(|(host, _)| (host, Some(port)))
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
    }

    #[test]
    fn refuses_the_rest() {
        for bad in ["", "SIP/2.0/UDP", "SIP/3.0/UDP a", "SIP/2.0/U P a;branch=", "SIP/2.0/UDP [::1"]
        {
            assert!(Via::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

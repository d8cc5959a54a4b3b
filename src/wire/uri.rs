//! Stage 2, URIs: sip, sips and tel, borrowed, compared after decoding.
//!
//! Takes:   the octets of one URI.
//! Gives:   [`Uri`]: scheme, user, host, port, parameters, headers.
//! Keeps:   nothing.
//! Refuses: octets that are no URI of the scheme they name. Another scheme is `Scheme::Other`, kept whole.
//! Sources: RFC 3261 sections 19.1 and 25.1; RFC 3966 section 3; RFC 5118 section 4.

use nom::Parser as _;
use nom::bytes::complete::take_while1;
use nom::character::complete::char as octet;

use super::scan::is_token_octet;
use super::split;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Another scheme: nothing of the URI was read.
    Other,
}

/// A URI, borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    octets: &'a [u8],
    scheme: Scheme,
    user: Option<&'a [u8]>,
    host: &'a [u8],
    port: Option<u16>,
    params: &'a [u8],
    headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Parses `octets`, which must be one URI and nothing else; `None` if they are not.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let (rest, name) = scheme(octets).ok()?;
        let scheme = match name {
            name if name.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
            name if name.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
            name if name.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
            _ => Scheme::Other,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::parse_sip(octets, scheme, rest),
            Scheme::Tel => Self::parse_tel(octets, rest),
            Scheme::Other => {
                let clean = !rest.is_empty() && rest.iter().all(|octet| is_uri_octet(*octet));
                clean.then_some(Self {
                    octets,
                    scheme,
                    user: None,
                    host: b"",
                    port: None,
                    params: b"",
                    headers: b"",
                })
            }
        }
    }

    fn parse_sip(octets: &'a [u8], scheme: Scheme, rest: &'a [u8]) -> Option<Self> {
        let (user, rest) = match memchr::memchr(b'@', rest).and_then(|at| rest.split_at_checked(at))
        {
            Some((user, rest)) => (Some(user), rest.get(1..)?),
            None => (None, rest),
        };
        if user.is_some_and(|user| !is_userinfo(user)) {
            return None;
        }
        let end = rest.iter().position(|octet| matches!(octet, b';' | b'?')).unwrap_or(rest.len());
        let (hostport, tail) = rest.split_at_checked(end)?;
        let (host, port) = host_port(hostport)?;
        let question = memchr::memchr(b'?', tail).unwrap_or(tail.len());
        let (params, headers) = tail.split_at_checked(question)?;
        let params = params.strip_prefix(b";").unwrap_or(params);
        let headers = headers.strip_prefix(b"?").unwrap_or(headers);
        let clean =
            |part: &[u8]| part.iter().all(|octet| is_uri_octet(*octet)) && escapes_close(part);
        (clean(params) && clean(headers)).then_some(Self {
            octets,
            scheme,
            user,
            host,
            port,
            params,
            headers,
        })
    }

    fn parse_tel(octets: &'a [u8], rest: &'a [u8]) -> Option<Self> {
        let mut parts = rest.splitn(2, |octet| *octet == b';');
        let digits = parts.next()?;
        let number = digits.strip_prefix(b"+").unwrap_or(digits);
        let dialled = |octet: &u8| octet.is_ascii_hexdigit() || b"*#-.()".contains(octet);
        let clean = !number.is_empty() && number.iter().all(dialled);
        let params = parts.next().unwrap_or_default();
        (clean && params.iter().all(|octet| is_uri_octet(*octet))).then_some(Self {
            octets,
            scheme: Scheme::Tel,
            user: Some(digits),
            host: b"",
            port: None,
            params,
            headers: b"",
        })
    }

    /// All its octets.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// User part (with password, if one is there) of a SIP URI, digits of a tel URI; not decoded.
    pub fn user(&self) -> Option<&'a [u8]> {
        self.user
    }

    /// Host; an IPv6 address keeps its brackets. Empty for tel and other schemes.
    pub fn host(&self) -> &'a [u8] {
        self.host
    }

    /// Port, if one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The value of parameter `name`: `Some(b"")` if it stands without value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        split::semicolons(self.params)
            .map(split::name_value)
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The parameters as they stand, without the first semicolon.
    pub fn params(&self) -> &'a [u8] {
        self.params
    }

    /// The headers as they stand, without the question mark.
    pub fn headers(&self) -> &'a [u8] {
        self.headers
    }

    /// User and host as identities are compared: `%HH` decoded, host folded and without trailing dot.
    ///
    /// The scheme is left out, sip and sips name the same user; `tel:` gives its digits without visual
    /// separators, `sip:+1234@host;user=phone` the same. Ports and parameters do not count.
    ///
    /// Source: RFC 3261 section 19.1.4; RFC 3966 section 4.
    pub fn identity(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.octets.len());
        let phone = self.scheme == Scheme::Tel
            || self.param("user").is_some_and(|kind| kind.eq_ignore_ascii_case(b"phone"));
        if let Some(user) = self.user {
            let decoded = decode(user);
            if phone {
                let digits = decoded.split(|octet| *octet == b';').next().unwrap_or_default();
                key.extend(digits.iter().filter(|octet| !b"-.()".contains(octet)));
                return key;
            }
            key.extend(decoded);
            key.push(b'@');
        }
        let host = self.host.strip_suffix(b".").unwrap_or(self.host);
        key.extend(host.iter().map(u8::to_ascii_lowercase));
        key
    }
}

/// Splits `host[:port]`; `None` if it is neither a name nor an address, or the port no port.
pub fn host_port(octets: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let end = if octets.first() == Some(&b'[') {
        memchr::memchr(b']', octets)?.checked_add(1)?
    } else {
        memchr::memchr(b':', octets).unwrap_or(octets.len())
    };
    let (host, rest) = octets.split_at_checked(end)?;
    if !is_host(host) {
        return None;
    }
    let port = match rest.strip_prefix(b":") {
        None if rest.is_empty() => None,
        None => return None,
        Some(digits) => Some(u16::try_from(split::number(digits)?).ok()?),
    };
    Some((host, port))
}

/// The address that a host part spells, if it is one.
pub fn host_address(host: &[u8]) -> Option<std::net::IpAddr> {
    let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    std::str::from_utf8(inner).ok()?.parse().ok()
}

fn is_host(host: &[u8]) -> bool {
    if host.first() == Some(&b'[') {
        return matches!(host_address(host), Some(std::net::IpAddr::V6(_)));
    }
    let named = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    !host.is_empty()
        && host.len() <= 255
        && host.iter().all(named)
        && host.split(|octet| *octet == b'.').rev().skip(1).all(|label| !label.is_empty())
}

fn scheme(octets: &[u8]) -> nom::IResult<&[u8], &[u8]> {
    let letter = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
    (take_while1(letter), octet(':')).map(|(name, _)| name).parse(octets)
}

/// Octets of unreserved, reserved and escaped: what may stand somewhere in a URI.
fn is_uri_octet(octet: u8) -> bool {
    is_token_octet(octet) || b";/?:@&=$,()[]".contains(&octet)
}

fn is_userinfo(user: &[u8]) -> bool {
    let allowed =
        |octet: &u8| is_token_octet(*octet) && *octet != b'`' || b"()&=$,;?/:".contains(octet);
    !user.is_empty() && user.iter().all(allowed) && escapes_close(user)
}

/// Whether each `%` is followed by two hex digits.
fn escapes_close(octets: &[u8]) -> bool {
    octets.iter().enumerate().filter(|(_, octet)| **octet == b'%').all(|(at, _)| {
        let digits = at.checked_add(1).zip(at.checked_add(3));
        digits
            .and_then(|(from, to)| octets.get(from..to))
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// `octets` with each `%HH` replaced by its octet.
pub fn decode(octets: &[u8]) -> Vec<u8> {
    let hex = |octet: Option<&u8>| octet.and_then(|octet| char::from(*octet).to_digit(16));
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets.iter();
    while let Some(octet) = rest.next() {
        let ahead = rest.as_slice();
        match (octet, hex(ahead.first()), hex(ahead.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or(b'%'));
                rest.nth(1);
            }
            _ => out.push(*octet),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let uri =
            Uri::parse(b"sips:a%20b:pw@[2001:db8::1]:5061;transport=TCP;lr?X=y").expect("a URI");
        assert_eq!(uri.scheme(), Scheme::Sips);
        assert_eq!(uri.user(), Some(&b"a%20b:pw"[..]));
        assert_eq!(uri.host(), b"[2001:db8::1]");
        assert_eq!(uri.port(), Some(5061));
        assert_eq!(uri.param("Transport"), Some(&b"TCP"[..]));
        assert_eq!(uri.param("lr"), Some(&b""[..]));
        assert_eq!(uri.headers(), b"X=y");
    }

    #[test]
    fn one_identity_has_many_spellings() {
        let key = |text: &str| Uri::parse(text.as_bytes()).map(|uri| uri.identity());
        let alice = key("sip:alice@example.net");
        for same in
            ["sip:%61lice@example.net", "SIP:alice@EXAMPLE.net.", "sips:alice@example.net:5061;x=y"]
        {
            assert_eq!(key(same), alice, "{same}");
        }
        for other in ["sip:Alice@example.net", "sip:alice%00@example.net", "sip:example.net"] {
            assert_ne!(key(other), alice, "{other}");
        }
        assert_eq!(key("tel:+1-201-555-0123"), key("sip:+12015550123@gw.example;user=phone"));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for bad in [
            "",
            "sip:",
            "sip:@a",
            "<sip:a@b>",
            "sip:a b@c",
            "sip:a@b:99999",
            "sip:a@[::1",
            "sip:%4@b",
        ] {
            assert!(Uri::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

//! Stage 2, URIs: sip, sips and tel, borrowed.
//!
//! Takes:   the octets of one URI.
//! Gives:   [`Uri`]: scheme, user, host, port, parameters, headers. How two are compared stands in `sameness`.
//! Keeps:   nothing.
//! Refuses: octets that are no URI of the scheme they name; a host that one reader takes for an address and
//!          another for a name; a routing parameter written twice. Another scheme is `Scheme::Other`, kept whole.
//! Sources: RFC 3261 sections 19.1.1 and 25.1; RFC 3966 section 3; RFC 4291 section 2.2; RFC 5118 section 4.

use nom::Parser as _;
use nom::bytes::complete::take_while1;
use nom::character::complete::char as octet;

use super::host::host_port_and_rest;
use super::octets::{
    is_password_octet, is_uri_header_octet, is_uri_octet, is_uri_param_octet, is_user_octet,
    position,
};
use super::sameness::same_name;
use super::steps;

pub use super::host::{HOST_MAX, host_address, host_port};
pub use super::sameness::{decode, same_host};

/// URI parameters that decide where a request goes: each at most once (RFC 3261 section 19.1.1).
const ROUTING_PARAMS: [&str; 6] = ["maddr", "transport", "lr", "user", "method", "ttl"];

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub(super) octets: &'a [u8],
    pub(super) scheme: Scheme,
    pub(super) user: Option<&'a [u8]>,
    pub(super) host: &'a [u8],
    pub(super) port: Option<u16>,
    pub(super) params: &'a [u8],
    pub(super) headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Parses `octets`, which must be one URI and nothing else; `None` if they are not.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        steps::count(octets.len());
        // As most of them begin.
        if let Some(rest) = octets.strip_prefix(b"sip:") {
            return Self::parse_sip(octets, Scheme::Sip, rest);
        }
        let (rest, name) = scheme(octets).ok()?;
        if name.eq_ignore_ascii_case(b"sip") {
            Self::parse_sip(octets, Scheme::Sip, rest)
        } else if name.eq_ignore_ascii_case(b"sips") {
            Self::parse_sip(octets, Scheme::Sips, rest)
        } else if name.eq_ignore_ascii_case(b"tel") {
            Self::parse_tel(octets, rest)
        } else {
            let letter = name.first().is_some_and(u8::is_ascii_alphabetic);
            let clean = letter && !rest.is_empty() && is_made_of(rest, is_uri_octet);
            clean.then_some(Self { octets, scheme: Scheme::Other, ..Self::EMPTY })
        }
    }

    const EMPTY: Self = Self {
        octets: b"",
        scheme: Scheme::Other,
        user: None,
        host: b"",
        port: None,
        params: b"",
        headers: b"",
    };

    fn parse_sip(octets: &'a [u8], scheme: Scheme, rest: &'a [u8]) -> Option<Self> {
        let (user, rest) = match position(b'@', rest) {
            Some(at) => {
                let (user, rest) = rest.split_at_checked(at)?;
                (Some(user).filter(|user| is_userinfo(user))?, rest.get(1..)?)
            }
            None => (&b""[..], rest),
        };
        let user = (!user.is_empty()).then_some(user);
        let (host, port, tail) = host_port_and_rest(rest)?;
        if tail.is_empty() {
            return Some(Self { octets, scheme, user, host, port, params: b"", headers: b"" });
        }
        let question = position(b'?', tail).unwrap_or(tail.len());
        let (params, headers) = tail.split_at_checked(question)?;
        let params = uri_params(params)?;
        let headers = uri_headers(headers)?;
        Some(Self { octets, scheme, user, host, port, params, headers })
    }

    fn parse_tel(octets: &'a [u8], rest: &'a [u8]) -> Option<Self> {
        let end = position(b';', rest).unwrap_or(rest.len());
        let (digits, params) = rest.split_at_checked(end)?;
        let separator = |octet: &u8| b"-.()".contains(octet);
        let clean = match digits.strip_prefix(b"+") {
            Some(number) => {
                number.iter().all(|octet| octet.is_ascii_digit() || separator(octet))
                    && number.iter().any(u8::is_ascii_digit)
            }
            None => {
                let dialled = |octet: &u8| octet.is_ascii_hexdigit() || b"*#".contains(octet);
                digits.iter().all(|octet| dialled(octet) || separator(octet))
                    && digits.iter().any(dialled)
            }
        };
        let params = uri_params(params)?;
        clean.then_some(Self {
            octets,
            scheme: Scheme::Tel,
            user: Some(digits),
            params,
            ..Self::EMPTY
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

    /// Each parameter, name and value as written.
    pub(super) fn each_param(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone {
        params_of(self.params)
    }

    /// The value of parameter `name`: `Some(b"")` if it stands without value.
    ///
    /// The name is compared without case and after `%HH` is decoded: `;m%61ddr=x` is an maddr.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.each_param()
            .find(|(found, _)| same_name(found, name))
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
}

/// The parameters between semicolons, as written.
fn params_of(params: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
    let parts = params.split(|octet| *octet == b';').filter(|part| !part.is_empty());
    parts.map(|part| match position(b'=', part).and_then(|at| part.split_at_checked(at)) {
        Some((name, value)) => (name, value.get(1..)),
        None => (part, None),
    })
}

/// `*( ";" uri-parameter )`; gives what is behind the first semicolon.
fn uri_params(octets: &[u8]) -> Option<&[u8]> {
    let Some(params) = octets.strip_prefix(b";") else {
        return octets.is_empty().then_some(octets);
    };
    let mut seen = [false; ROUTING_PARAMS.len()];
    for part in params.split(|octet| *octet == b';') {
        let equal = position(b'=', part).unwrap_or(part.len());
        let (name, value) = part.split_at_checked(equal)?;
        let value = value.strip_prefix(b"=").unwrap_or_default();
        // Peers put their base64 there, padding and all.
        let of_value = |octet| is_uri_param_octet(octet) || octet == b'=';
        let clean =
            !name.is_empty() && is_escaped(name, is_uri_param_octet) && is_escaped(value, of_value);
        if !clean {
            return None;
        }
        let spelt = position(b'%', name).is_some();
        for (seen, routing) in seen.iter_mut().zip(ROUTING_PARAMS) {
            if (spelt || name.len() == routing.len())
                && same_name(name, routing)
                && std::mem::replace(seen, true)
            {
                return None;
            }
        }
    }
    Some(params)
}

/// `[ "?" hname "=" hvalue *( "&" hname "=" hvalue ) ]`; gives what is behind the question mark.
fn uri_headers(octets: &[u8]) -> Option<&[u8]> {
    let Some(headers) = octets.strip_prefix(b"?") else {
        return octets.is_empty().then_some(octets);
    };
    for part in headers.split(|octet| *octet == b'&') {
        let (name, value) = part.split_at_checked(position(b'=', part)?)?;
        let value = value.strip_prefix(b"=")?;
        let clean = !name.is_empty()
            && [name, value].iter().all(|text| is_escaped(text, is_uri_header_octet));
        if !clean {
            return None;
        }
    }
    Some(headers)
}

fn scheme(octets: &[u8]) -> nom::IResult<&[u8], &[u8]> {
    let letter = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
    (take_while1(letter), octet(':')).map(|(name, _)| name).parse(octets)
}

/// `user [ ":" password ]`
fn is_userinfo(userinfo: &[u8]) -> bool {
    // Most are a user of plain octets, and route tokens long ones: without branches, many are looked at at once.
    let plain = |octet: u8| octet.is_ascii_alphanumeric() | (octet == b'-') | (octet == b'_');
    if !userinfo.is_empty() && userinfo.iter().fold(true, |all, octet| all & plain(*octet)) {
        return true;
    }
    let colon = position(b':', userinfo).unwrap_or(userinfo.len());
    let (user, password) = userinfo.split_at_checked(colon).unwrap_or((userinfo, b""));
    let password = password.strip_prefix(b":").unwrap_or_default();
    !user.is_empty() && is_escaped(user, is_user_octet) && is_escaped(password, is_password_octet)
}

fn is_made_of(octets: &[u8], class: impl Fn(u8) -> bool) -> bool {
    octets.iter().all(|octet| class(*octet))
}

/// Whether all octets are of the class, and each `%` is followed by two hex digits.
fn is_escaped(octets: &[u8], class: impl Fn(u8) -> bool) -> bool {
    let plain = octets.iter().position(|octet| *octet == b'%' || !class(*octet));
    let Some(mut rest) = plain.map(|at| octets.get(at..).unwrap_or_default()) else { return true };
    while let Some((first, tail)) = rest.split_first() {
        if !class(*first) {
            return false;
        }
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            (b'%', _) => return false,
            _ => tail,
        };
    }
    true
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
        assert_eq!(uri.params(), b"transport=TCP;lr");
        assert_eq!(uri.headers(), b"X=y");
    }

    #[test]
    fn a_user_part_may_look_like_parameters() {
        let uri = Uri::parse(b"sip:user;par=u%40example.net@example.com").expect("a URI");
        assert_eq!(uri.user(), Some(&b"user;par=u%40example.net"[..]));
        assert_eq!((uri.host(), uri.params()), (&b"example.com"[..], &b""[..]));
    }

    #[test]
    fn an_escaped_parameter_name_is_that_parameter() {
        let uri = Uri::parse(b"sip:a@b;%6C%72;m%61ddr=192.0.2.1").expect("a URI");
        assert_eq!(uri.param("lr"), Some(&b""[..]));
        assert_eq!(uri.param("maddr"), Some(&b"192.0.2.1"[..]));
    }

    #[test]
    fn what_is_a_uri_is_accepted() {
        for good in [
            "sip:a",
            "sip:*67#@b",
            "sip:a@b.",
            "sip:a@b_c.example",
            "sip:a@3f2a9c1b77de",
            "sip:a@192.0.2.1:5060;lr=on;x=YQ==",
            "sip:a@[::ffff:192.0.2.1]:1",
            "sip:a@[2001:db8:::192.0.2.1]",
            "SIPS:a:@b",
            "tel:+1(201)555-0123;ext=5",
            "tel:7042;phone-context=example.net",
            "urn:service:sos",
            "soap.beep://192.0.2.103:3002",
            "http://a/?b#c",
        ] {
            assert!(Uri::parse(good.as_bytes()).is_some(), "{good}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for bad in [
            "",
            "sip:",
            "sip:@a",
            "sip::pw@a",
            "sip:a:b:c@d",
            "<sip:a@b>",
            "sip:a b@c",
            "sip:a@b@c",
            "sip:a@b:99999",
            "sip:a@b:",
            "sip:a@b:+5",
            "sip:a@[::1",
            "sip:a@[::1]x",
            "sip:a@[192.0.2.1]",
            "sip:a@2001:db8::1",
            "sip:a@[1:::2:::192.0.2.1]",
            "sip:%4@b",
            "sip:a@b;x=%",
            "sip:a@b;",
            "sip:a@b;;lr",
            "sip:a@b;x=c@d",
            "sip:a@b?",
            "sip:a@b?x",
            "sip:a@b;maddr=1.2.3.4;MADDR=5.6.7.8",
            "sip:a@b;maddr=1.2.3.4;m%61ddr=5.6.7.8",
            "sip:a@b..c",
            "sip:a@.b",
            "sip:a@127.1",
            "sip:a@2130706433",
            "sip:a@0x7f000001",
            "sip:a@192.0.2.256",
            "sip:a@192.0.2.01",
            "sip:\u{e9}@b",
            "sip:a@\u{e9}",
            "sip:a\0@b",
            "tel:",
            "tel:+",
            "tel:+-",
            "tel:+a",
            "tel:-.",
            "1x:y",
            "x:",
        ] {
            assert!(Uri::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let long = format!("sip:{}", "a".repeat(HOST_MAX + 1));
        assert!(Uri::parse(&long.as_bytes()[..HOST_MAX + 4]).is_some());
        assert!(Uri::parse(long.as_bytes()).is_none());
    }
}

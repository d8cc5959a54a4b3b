//! Stage 6, media: the MSRP lines of a session description.
//!
//! Takes:   the octets of an SDP body.
//! Gives:   [`Msrp`], one for each `m=message` line of MSRP; whether there is any.
//! Keeps:   nothing. Bounds: 1000 lines, 16 of them media lines, 8 path URIs of a line.
//! Refuses: what does not begin with its version; a bare CR in a line; a line without its one path; a path whose scheme is not that of its line, or that leads to an address
//!          at which no peer can be.
//! Sources: RFC 4975 sections 8.1 to 8.3 and 9; RFC 8866 section 5; V-124.

use std::net::IpAddr;

use crate::refusal::Refusal;
use crate::wire::octets;
use crate::wire::uri::{host_address, host_port};

/// Most lines of a description.
pub const ALL_MAX: usize = 1000;
/// Most media lines that are looked at.
pub const LINES_MAX: usize = 16;
/// Most URIs of one path.
pub const PATH_MAX: usize = 8;

/// An MSRP line of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msrp {
    /// Whether it is over TLS.
    pub secure: bool,
    /// Whether it is switched off: port 0.
    pub off: bool,
}

/// Whether a description has an MSRP line, for anybody: a bare CR ends a line for some.
pub fn has_msrp(sdp: &[u8]) -> bool {
    memchr::memmem::find_iter(sdp, b"m=").any(|at| {
        let begins = at.checked_sub(1).and_then(|before| sdp.get(before));
        let line = sdp.get(at..).unwrap_or_default();
        let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
        let begins = begins.is_none_or(|octet| matches!(octet, b'\r' | b'\n'));
        begins && line.get(..end).is_some_and(|line| kind_of(line).is_some())
    })
}

/// The MSRP lines, each with a path that fits.
///
/// # Errors
///
/// [`Refusal::BodyMalformed`], [`Refusal::BodyTooLarge`], [`Refusal::MsrpRefused`].
pub fn msrp(sdp: &[u8]) -> Result<Vec<Msrp>, Refusal> {
    if lines(sdp).next() != Some(b"v=0") {
        return Err(Refusal::BodyMalformed);
    }
    if lines(sdp).nth(ALL_MAX).is_some_and(|line| !line.is_empty()) {
        return Err(Refusal::BodyTooLarge);
    }
    let mut found: Vec<Msrp> = Vec::new();
    // The path of the line that is being read, if it is one of MSRP and still wants one.
    let mut open: Option<(Msrp, bool)> = None;
    let mut count = 0_usize;
    let mut close = |open: &mut Option<(Msrp, bool)>| match open.take() {
        Some((line, pathed)) if pathed || line.off => {
            found.push(line);
            Ok(())
        }
        Some(_) => Err(Refusal::MsrpRefused),
        None => Ok(()),
    };
    for line in lines(sdp) {
        if memchr::memchr(b'\r', line).is_some() {
            return Err(Refusal::MsrpRefused);
        }
        if line.starts_with(b"m=") {
            count = count.saturating_add(1);
            if count > LINES_MAX {
                return Err(Refusal::MsrpRefused);
            }
            close(&mut open)?;
            open = kind_of(line).map(|line| (line, false));
        } else if let (Some(path), Some((line, pathed))) =
            (line.strip_prefix(b"a=path:"), &mut open)
            && (std::mem::replace(pathed, true) || !is_path(path, line.secure))
        {
            return Err(Refusal::MsrpRefused);
        }
    }
    close(&mut open)?;
    Ok(found)
}

/// The lines of a description; LF alone ends one too (RFC 8866 section 5).
fn lines(sdp: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets::lines(sdp).map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// What an `m=message` line of MSRP says.
fn kind_of(line: &[u8]) -> Option<Msrp> {
    let rest = line.strip_prefix(b"m=")?;
    let mut words = rest.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let kind = words.next()?;
    let (port, protocol) = (words.next()?, words.next()?);
    let secure = protocol.eq_ignore_ascii_case(b"TCP/TLS/MSRP");
    let is_msrp = secure || protocol.eq_ignore_ascii_case(b"TCP/MSRP");
    let off = port == b"0";
    (kind.eq_ignore_ascii_case(b"message") && is_msrp).then_some(Msrp { secure, off })
}

/// Whether each URI of a path has the scheme and leads to where somebody can be.
fn is_path(path: &[u8], secure: bool) -> bool {
    let mut uris = path.split(|octet| *octet == b' ').filter(|uri| !uri.is_empty());
    let first = uris.next();
    first.is_some()
        && first
            .into_iter()
            .chain(uris.by_ref().take(PATH_MAX.saturating_sub(1)))
            .all(|uri| host_of(uri, secure).is_some_and(is_reachable))
        && uris.next().is_none()
}

/// The host of `msrp://[user@]host[:port][/session];transport`.
fn host_of(uri: &[u8], secure: bool) -> Option<&[u8]> {
    let (scheme, rest) = uri.split_at_checked(memchr::memchr(b':', uri)?)?;
    let wanted: &[u8] = if secure { b"msrps" } else { b"msrp" };
    let rest = rest.strip_prefix(b"://").filter(|_| scheme.eq_ignore_ascii_case(wanted))?;
    let end = memchr::memchr2(b'/', b';', rest).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host = match memchr::memrchr(b'@', authority) {
        Some(at) => authority.get(at.checked_add(1)?..)?,
        None => authority,
    };
    host_port(host).map(|(host, _)| host)
}

/// Neither this machine, nor nobody, nor many.
fn is_reachable(host: &[u8]) -> bool {
    let name = host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase();
    if name == b"localhost" || name.ends_with(b".localhost") {
        return false;
    }
    let Some(address) = host_address(host) else { return true };
    let address = match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(protocol: &str, path: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=message 2855 {protocol} *\r\na=accept-types:message/cpim\r\n{path}"
        )
    }

    #[test]
    fn lines_and_paths_fit_each_other() {
        for (protocol, path, secure) in [
            ("TCP/MSRP", "a=path:msrp://192.0.2.10:2855/s;tcp\r\n", false),
            ("TCP/TLS/MSRP", "a=path:msrps://u@ue.example.net:2855/s;tcp\r\n", true),
            (
                "tcp/msrp",
                "a=path:msrp://r.example.net/a;tcp msrp://[2001:db8::1]:9/b;tcp\r\n",
                false,
            ),
        ] {
            let text = sdp(protocol, path);
            assert!(has_msrp(text.as_bytes()), "{text}");
            assert!(has_msrp(text.replace("\r\n", "\r").as_bytes()), "{text}");
            assert_eq!(msrp(text.as_bytes()), Ok(vec![Msrp { secure, off: false }]), "{path}");
        }
        let audio = "v=0\r\nm=audio 9 RTP/AVP 0\r\na=path:x\r\n";
        assert!(!has_msrp(audio.as_bytes()) && msrp(audio.as_bytes()) == Ok(Vec::new()));
        let off = "v=0\r\nm=message 0 TCP/MSRP *\r\n";
        assert_eq!(msrp(off.as_bytes()), Ok(vec![Msrp { secure: false, off: true }]));
    }

    #[test]
    fn v_124_paths_that_lead_nowhere_are_refused() {
        for (protocol, path) in [
            ("TCP/MSRP", ""),
            ("TCP/MSRP", "a=path:msrp://192.0.2.1/a;tcp\r\na=path:msrp://192.0.2.1/a;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrps://192.0.2.10/s;tcp\r\n"),
            ("TCP/TLS/MSRP", "a=path:msrp://192.0.2.10/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://127.0.0.1:2855/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://[::1]:2855/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://[::ffff:127.0.0.1]:2855/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://0.0.0.0/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://224.0.0.1/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://LOCALHOST./s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://2130706433/s;tcp\r\n"),
            ("TCP/MSRP", "a=path:msrp://192.0.2.1/a;tcp msrp://127.0.0.1/s;tcp\r\n"),
            ("TCP/MSRP", "a=path: \r\n"),
            ("TCP/MSRP", "a=x\ra=path:msrp://127.0.0.1/s;tcp\r\na=path:msrp://192.0.2.1/a;tcp\r\n"),
        ] {
            let text = sdp(protocol, path);
            assert_eq!(msrp(text.as_bytes()), Err(Refusal::MsrpRefused), "{path}");
        }
        let many = format!("v=0\r\n{}", "m=audio 9 RTP/AVP 0\r\n".repeat(LINES_MAX + 1));
        assert_eq!(msrp(many.as_bytes()), Err(Refusal::MsrpRefused));
        for (count, expected) in
            [(ALL_MAX, Ok(Vec::new())), (ALL_MAX + 1, Err(Refusal::BodyTooLarge))]
        {
            let long = format!("v=0\r\n{}", "a=x\r\n".repeat(count - 1));
            assert_eq!(msrp(long.as_bytes()), expected, "V-07: {count} lines");
        }
        assert_eq!(msrp(b"s=-\r\nv=0\r\n"), Err(Refusal::BodyMalformed), "V-07: no version");
    }
}

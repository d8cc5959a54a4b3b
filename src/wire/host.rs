//! Stage 2, hosts: names and addresses, as they stand in a URI and in a Via.
//!
//! Takes:   octets that begin with a host.
//! Gives:   the host, its port, and the address that it spells, if it does.
//! Keeps:   nothing.
//! Refuses: a host that one reader takes for an address and another for a name; a port beyond 65535.
//! Sources: RFC 3261 sections 19.1.1 and 25.1; RFC 4291 section 2.2; RFC 5118 section 4.

use std::net::{IpAddr, Ipv4Addr};

use super::octets::{is_host_octet, position};
use super::split;

/// Longest host name.
pub const HOST_MAX: usize = 255;

/// Splits `host[:port]`; `None` if it is neither a name nor an address, or the port no port.
pub fn host_port(octets: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, port, rest) = host_port_and_rest(octets)?;
    rest.is_empty().then_some((host, port))
}

/// Splits `host[:port]` off the front; what follows is empty, or begins with `;` or `?`.
pub(super) fn host_port_and_rest(octets: &[u8]) -> Option<(&[u8], Option<u16>, &[u8])> {
    let plain = dotted(octets).map(|(_, end)| end).or_else(|| plain_name(octets));
    let (host, rest) = match plain {
        Some(end) => octets.split_at_checked(end)?,
        None => {
            let end = match octets.first() {
                Some(b'[') => position(b']', octets)?.checked_add(1)?,
                _ => octets.iter().position(|octet| !is_host_octet(*octet)).unwrap_or(octets.len()),
            };
            octets.split_at_checked(end).filter(|(host, _)| is_host(host))?
        }
    };
    let (port, rest) = match rest.strip_prefix(b":") {
        None => (None, rest),
        Some(rest) => {
            let end = rest.iter().position(|octet| !octet.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, rest) = rest.split_at_checked(end)?;
            (Some(u16::try_from(split::number(digits)?).ok()?), rest)
        }
    };
    matches!(rest.first(), None | Some(b';' | b'?')).then_some((host, port, rest))
}

/// The address that a host part or a `received` spells, if it is one; brackets may be there or not.
///
/// `[2001:db8:::192.0.2.1]` is read as if the third colon were not there (RFC 5118 section 4.10).
pub fn host_address(host: &[u8]) -> Option<IpAddr> {
    if let Some((address, _)) = dotted(host).filter(|(_, end)| *end == host.len()) {
        return Some(IpAddr::V4(address));
    }
    let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    let spelt = |octet: &u8| octet.is_ascii_digit() || *octet == b'.';
    if position(b':', inner).is_none() && !inner.iter().all(spelt) {
        return None; // a name, as most are
    }
    let text = std::str::from_utf8(inner).ok()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (before, last) = text.rsplit_once(":::").filter(|_| text.len() <= 64)?;
    let last: Ipv4Addr = last.parse().ok()?;
    format!("{before}::{last}").parse().ok().map(IpAddr::V6)
}

/// The IPv4 address in front and how many octets spell it, if nothing that may stand in a host follows: most hosts are
/// such. A number in it has no zero in front, which some would read as octal.
fn dotted(octets: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let (mut address, mut number, mut digits, mut dots, mut end) =
        (0_u32, 0_u32, 0_u8, 0_u8, 0_usize);
    for octet in octets {
        match octet {
            b'0'..=b'9' if digits == 0 || number != 0 => {
                number = number.wrapping_mul(10).wrapping_add(u32::from(octet.wrapping_sub(b'0')));
                digits = digits.wrapping_add(1);
                (number <= 255).then_some(())?;
            }
            b'.' if digits > 0 && dots < 3 => {
                address = address << 8 | number;
                (number, digits, dots) = (0, 0, dots.wrapping_add(1));
            }
            octet if is_host_octet(*octet) => return None,
            _ => break,
        }
        end = end.saturating_add(1);
    }
    let whole = digits > 0 && dots == 3;
    whole.then(|| (Ipv4Addr::from_bits(address << 8 | number), end))
}

/// The length of a host name in front, if it is one at first sight: labels of letters, digits and hyphens, the last
/// of which begins with a letter, so that nobody takes it for an address.
fn plain_name(octets: &[u8]) -> Option<usize> {
    let (mut end, mut before, mut lettered) = (0_usize, b'.', false);
    for octet in octets.iter().copied() {
        match octet {
            b'.' if before == b'.' => return None,
            b'.' => {}
            octet if !is_host_octet(octet) => break,
            octet if before == b'.' => lettered = octet.is_ascii_alphabetic(),
            _ => {}
        }
        before = octet;
        end = end.saturating_add(1);
    }
    (lettered && before != b'.' && end <= HOST_MAX).then_some(end)
}

fn is_host(host: &[u8]) -> bool {
    if host.first() == Some(&b'[') {
        return host.last() == Some(&b']') && matches!(host_address(host), Some(IpAddr::V6(_)));
    }
    if host.is_empty() || host.len() > HOST_MAX {
        return false;
    }
    let named = host.strip_suffix(b".").unwrap_or(host);
    let (mut label, mut numeric) = (0_usize, true);
    for octet in named {
        if *octet == b'.' {
            if label == 0 {
                return false;
            }
            (label, numeric) = (0, true);
            continue;
        }
        if !is_host_octet(*octet) {
            return false;
        }
        label = label.saturating_add(1);
        numeric &= octet.is_ascii_digit();
    }
    if label == 0 {
        return false;
    }
    let last = named.get(named.len().saturating_sub(label)..).unwrap_or_default();
    // "127.1", "2130706433", "0x7f000001": names to us, addresses to a resolver. They are neither.
    if numeric || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"0x")) {
        return matches!(host_address(host), Some(IpAddr::V4(_)));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen at a glance is what the standard library reads, and nothing else is.
    #[test]
    fn dotted_numbers_are_read_as_the_library_reads_them() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "1.2.3",
            "1.2.3.4.",
            "1.2.3.4.5",
            "1..2.3",
            ".1.2.3",
            "256.1.1.1",
            "1.1.1.256",
            "01.2.3.4",
            "1.2.3.04",
            "00.0.0.0",
            "1.2.3.4a",
            "1.2.3.-4",
            "4294967297.0.0.1",
            "1.2.3.4_",
            "",
            "1",
            "a.b.c.d",
        ] {
            let expected = text.parse().ok().map(|address: Ipv4Addr| (address, text.len()));
            assert_eq!(dotted(text.as_bytes()), expected, "{text}");
            for behind in [":5060", ";x", "?y", "]", " "] {
                let longer = [text, behind].concat();
                assert_eq!(dotted(longer.as_bytes()), expected, "{longer}");
            }
        }
    }
}
